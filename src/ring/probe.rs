//! What a shard's ring has done, in numbers.

use std::time::Duration;

use crate::config::SyncLevel;
use crate::metrics::{Counter, Exposition, Gauge, Histogram};

/// Counters of one ring. Writes and syncs are counted when the kernel has carried them out (or
/// failed at it): a sync that was cancelled with its write never ran, and does not count.
#[derive(Debug, Default)]
pub struct Probe {
    /// System calls made to submit and reap.
    pub enters: Counter,
    /// Completions seen.
    pub completions: Counter,
    /// Times the shard blocked in its ring for a moment.
    pub naps: Counter,
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
    /// Adds its families to `out`.
    pub fn expose(&self, out: &mut Exposition, labels: &[(&str, &str)]) {
        for (name, help, counter) in [
            (
                "ringpost_ring_enters_total",
                "System calls made to submit and reap.",
                &self.enters,
            ),
            (
                "ringpost_ring_completions_total",
                "Completions seen.",
                &self.completions,
            ),
            (
                "ringpost_ring_naps_total",
                "Times the shard blocked in its ring for a moment.",
                &self.naps,
            ),
            (
                "ringpost_ring_parks_total",
                "Times the shard went to sleep.",
                &self.parks,
            ),
            (
                "ringpost_ring_buffers_exhausted_total",
                "Receives that ended because all receive buffers were in use.",
                &self.buffers_exhausted,
            ),
            (
                "ringpost_received_bytes_total",
                "Bytes received from sockets.",
                &self.received_bytes,
            ),
            (
                "ringpost_sent_bytes_total",
                "Bytes sent to sockets.",
                &self.sent_bytes,
            ),
            ("ringpost_file_reads_total", "Reads of files.", &self.reads),
            (
                "ringpost_file_read_bytes_total",
                "Bytes read from files.",
                &self.read_bytes,
            ),
            (
                "ringpost_file_writes_total",
                "Writes to files.",
                &self.writes,
            ),
            (
                "ringpost_file_written_bytes_total",
                "Bytes written to files.",
                &self.written_bytes,
            ),
            (
                "ringpost_fdatasyncs_total",
                "fdatasyncs that the kernel has carried out.",
                &self.fdatasyncs,
            ),
            (
                "ringpost_fsyncs_total",
                "fsyncs that the kernel has carried out.",
                &self.fsyncs,
            ),
        ] {
            out.counter(name, help, labels, counter.get());
        }
        out.gauge(
            "ringpost_ring_in_flight",
            "Operations in flight; an armed receive counts as one.",
            labels,
            self.in_flight.get(),
        );
        out.histogram(
            "ringpost_sync_seconds",
            "From handing over a write with its sync, or a sync alone, to its end.",
            labels,
            &self.sync_latency,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_show_by_level() {
        let probe = Probe::default();
        probe.synced(SyncLevel::None, Duration::from_micros(1));
        probe.synced(SyncLevel::Fdatasync, Duration::from_micros(200));
        probe.synced(SyncLevel::Fdatasync, Duration::from_micros(200));
        probe.synced(SyncLevel::Fsync, Duration::from_micros(400));
        let mut out = Exposition::of_shard(0);
        probe.expose(&mut out, &[]);
        let text = out.render();
        for line in [
            "ringpost_fdatasyncs_total{shard=\"0\"} 2",
            "ringpost_fsyncs_total{shard=\"0\"} 1",
            "ringpost_sync_seconds_count{shard=\"0\"} 3",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }
}
