//! Listeners, descriptor limits, mounts: what the server asks of the kernel before it serves.
//!
//! Guarantees: every listener is bound before the first connection is accepted, or none is and the
//! error says which flag asked for what; another server's port is never joined by accident.
//! Does not know: shards, sessions, rings; what it hands out are plain descriptors.

mod descriptors;
mod listen;
mod mounts;

pub use descriptors::{DescriptorBudget, DescriptorLimit};
pub use listen::{BACKLOG, ListenError, Listener, SocketFile, listen, listen_unix};
pub use mounts::{Mount, mount_of, noatime_warning};
