//! What a shard's ring has done, in numbers.

use std::time::Duration;

use crate::config::SyncLevel;
use crate::metrics::{Counter, Gauge, Histogram};

/// Counters of one ring. Writes and syncs are counted when the kernel has carried them out (or
/// failed at it): a sync that was cancelled with its write never ran, and does not count.
#[derive(Debug, Default)]
pub struct Probe {
    /// System calls made to submit and reap.
    pub enters: Counter,
    /// Completions seen.
    pub completions: Counter,
    /// Times the shard went to sleep.
    pub parks: Counter,
    /// Operations in flight now; an armed multishot receive counts as one.
    pub in_flight: Gauge,
    /// Receives that ended because all receive buffers were in use.
    pub buffers_exhausted: Counter,
    /// Bytes received from sockets.
    pub received_bytes: Counter,
    /// Bytes sent to sockets.
    pub sent_bytes: Counter,
    /// Reads of files.
    pub reads: Counter,
    /// Bytes read from files.
    pub read_bytes: Counter,
    /// Writes to files.
    pub writes: Counter,
    /// Bytes written to files.
    pub written_bytes: Counter,
    /// `fdatasync`s [N21].
    pub fdatasyncs: Counter,
    /// `fsync`s [N21].
    pub fsyncs: Counter,
    /// From handing over a write with its sync (or a sync alone) to its end.
    pub sync_latency: Histogram,
}

impl Probe {
    /// A sync of this level has run, begun so long ago.
    pub(super) fn synced(&self, level: SyncLevel, latency: Duration) {
        match level {
            SyncLevel::None => return,
            SyncLevel::Fdatasync => self.fdatasyncs.add(1),
            SyncLevel::Fsync => self.fsyncs.add(1),
        }
        self.sync_latency.record(latency);
    }
}
