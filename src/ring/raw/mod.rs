//! A thin layer over the `io-uring` crate: set-up with fall-backs, submission that never fails for
//! want of room, completions by value, provided receive buffers.
//!
//! Guarantees: an entry that was pushed reaches the kernel, in order, and linked entries reach it
//! in one piece. Flags the kernel does not know are left out one by one, and said.
//! Does not know: executors, connections, files, what user data means.
//! On failure: set-up says what the operator can do; `enter` fails only for reasons that would be
//! bugs here (a closed ring, a wrong thread).
//!
//! The server's [`super::Ring`], the load generator and the floor server are made of this, so a
//! comparison between them measures what stands above it. It is used by one thread only.

mod buffers;
pub mod entry;
mod setup;
mod uring;

#[cfg(test)]
mod tests;

pub use buffers::{BufferRing, Lease};
pub use setup::{Setup, check_kernel, kernel_release};
pub use uring::{Event, Uring, pack, unpack};
