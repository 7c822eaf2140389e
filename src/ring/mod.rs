//! The kernel's side of a shard: one io_uring, its driver and its operations.
