//! Who is served here, where a recipient's mail goes, and whether a password is right.
//!
//! Guarantees: resolution ends within bounds whatever the aliases look like; no secret is ever
//! printed or kept in the clear; a password check never runs on a shard's own thread.
//! Does not know: partitions, shards, whether an account exists (it names candidates, the shard
//! asks their partitions), how its entries get to disk.
//! On failure: a full pool answers "try later"; an entry it cannot read is an error that names its key.

mod cache;
mod change;
pub mod password;
mod resolve;
mod site;
#[cfg(test)]
mod tests;
mod verifier;

pub use cache::AuthCache;
pub use change::{Change, SiteError};
pub use resolve::{Resolution, Try};
pub use site::{SITE_PREFIX, Site};
pub use verifier::{Busy, Verifier};
