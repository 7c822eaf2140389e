//! The operator's view: what the control socket is asked, and how it is done.
//!
//! The socket is `DATA/control`, mode 0600: who may open it may do everything. A request is one line
//! of JSON, and so is its reply ([`Request`], [`Reply`]). While no server runs, the same requests go
//! straight to the store; [`execute`] does not know the difference, because a [`Backend`] is all it
//! sees.
//!
//! Guarantees: a reply that is no error means durable, and every shard knows of it; requests, replies
//! and pages are bounded; passwords never cross the socket, only their hashes.
//! Does not know: shards, partitions, sockets.
//! On failure: [`Reply::Error`] with one sentence for the operator.

mod backend;
mod client;
mod execute;
mod first_run;
#[cfg(test)]
pub(crate) mod memory;
mod session;
#[cfg(test)]
mod tests;
mod wire;

pub use backend::{AccountQuery, Backend, BackendError, Listing, Place};
pub use client::{Client, ClientError, control_path};
pub use execute::execute;
pub use first_run::{DemoAccount, FirstRun, Listener, ready_text};
pub use session::Session;
pub use wire::{
    AccountEntry, AliasEntry, DomainEntry, NewAccount, Reply, Request, Status, WireError,
};
