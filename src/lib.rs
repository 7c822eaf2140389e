//! Ringpost: a thread-per-core mail server on io_uring.
//!
//! Each processor runs one *shard*: a pinned executor and one io_uring that own a share of the
//! connections and of the mailbox *partitions*. Shards share nothing; they send each other owned
//! messages through the *mesh*. Imports point down only, floor by floor, and `tests/tidy.rs`
//! compares this map with the tree.
//!
//! ```text
//! 6  main.rs       start-up of the program
//!    commands      what each subcommand does: serve, domain, account, expire, config, hashdir
//! 5  shard         owns everything and moves the bytes; the one place where floors 2 to 4 meet
//! 4  queue         mail that cannot be delivered now: when to try again
//!    admin         the control socket's commands, /metrics and /health
//! 3  store         partitions: records, batches, group commit, recovery, index, compaction
//!    net           listeners, descriptor limits, socket options
//!    directory     domains, aliases, password schemes, the authentication cache
//! 2  proto         sans-IO sessions: SMTP, LMTP, POP3, HTTP (no async, socket, disk or clock)
//!    ring          the kernel's side: one io_uring a shard, its driver and its operations
//! 1  mail          addresses, envelopes, replies, trace headers, MIME structure and text search
//!    metrics       counters, histograms, the Prometheus text
//!    config        every setting: flag, key, default, unit, check
//! 0  limits        every bound, with assertions on how they relate
//! ```
//!
//! A byte's path: `ring` → `shard::conn` → `Session::feed` → `Ask` → `shard::services` (a hop
//! through the mesh when another shard owns the partition) → `store` → `Answer` →
//! `Session::answer` → `shard::conn` → `ring`. While an ask is out, `feed` is not called: that
//! is the backpressure.

pub mod admin;
pub mod commands;
pub mod config;
pub mod directory;
pub mod limits;
pub mod mail;
pub mod metrics;
pub mod net;
pub mod proto;
pub mod queue;
pub mod ring;
pub mod shard;
pub mod store;
