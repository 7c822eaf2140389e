//! What a partition counts about itself.

use std::time::Duration;

use crate::metrics::{Counter, Exposition, Gauge, Histogram};

/// Counters of one partition.
#[derive(Debug, Default)]
pub struct Probe {
    /// Batches written.
    pub batches: Counter,
    /// Records in them.
    pub records: Counter,
    /// Bytes of them, padding included.
    pub batch_bytes: Counter,
    /// Records of one batch.
    pub records_per_batch: Histogram,
    /// From taking a batch to its being durable, in microseconds.
    pub commit_latency: Histogram,
    /// Messages delivered, one for each INBOX.
    pub deliveries: Counter,
    /// Bytes that wait for the next batch.
    pub queued_bytes: Gauge,
    /// Mutations that wait for a batch to be durable.
    pub queued: Gauge,
    /// Messages or parts of them read.
    pub reads: Counter,
    /// Reads that failed.
    pub read_errors: Counter,
    /// Stretches found damaged, at start or on reading.
    pub damage: Counter,
    /// Writes and syncs that failed; each made the partition read-only, or full.
    pub write_errors: Counter,
    /// Messages in all INBOXes.
    pub messages: Gauge,
    /// Segments in use.
    pub segments: Gauge,
    /// Segments made while a batch waited for one.
    pub segments_late: Counter,
    /// Segments made of the files of earlier ones.
    pub segments_recycled: Counter,
    /// Bytes that compaction copied.
    pub compacted_bytes: Counter,
    /// Bytes of segments that compaction took out of the log: their files were removed, or kept for
    /// later segments.
    pub reclaimed_bytes: Counter,
    /// Index files written.
    pub seals: Counter,
    /// Bytes free where the partition is, when last looked at.
    pub free_bytes: Gauge,
    /// 1 while mail is refused with 452.
    pub full: Gauge,
    /// 1 when a failed write has made the partition read-only.
    pub read_only: Gauge,
}

impl Probe {
    /// Adds its values to `out`, with these labels.
    pub fn expose(&self, out: &mut Exposition, labels: &[(&str, &str)]) {
        let counters: [(&'static str, &'static str, &Counter); 13] = [
            (
                "ringpost_store_batches_total",
                "Batches written to partition logs",
                &self.batches,
            ),
            (
                "ringpost_store_records_total",
                "Records written to partition logs",
                &self.records,
            ),
            (
                "ringpost_store_batch_bytes_total",
                "Bytes of batches written, padding included",
                &self.batch_bytes,
            ),
            (
                "ringpost_store_deliveries_total",
                "Messages delivered, one for each mailbox",
                &self.deliveries,
            ),
            (
                "ringpost_store_reads_total",
                "Messages or parts of messages read",
                &self.reads,
            ),
            (
                "ringpost_store_read_errors_total",
                "Reads that failed",
                &self.read_errors,
            ),
            (
                "ringpost_store_damage_total",
                "Damaged stretches found",
                &self.damage,
            ),
            (
                "ringpost_store_write_errors_total",
                "Writes and syncs that failed",
                &self.write_errors,
            ),
            (
                "ringpost_store_segments_late_total",
                "Segments made while a batch waited for one",
                &self.segments_late,
            ),
            (
                "ringpost_store_segments_recycled_total",
                "Segments made of the files of earlier ones",
                &self.segments_recycled,
            ),
            (
                "ringpost_store_compacted_bytes_total",
                "Bytes copied by compaction",
                &self.compacted_bytes,
            ),
            (
                "ringpost_store_reclaimed_bytes_total",
                "Bytes of segments taken out of the log by compaction",
                &self.reclaimed_bytes,
            ),
            (
                "ringpost_store_seals_total",
                "Index files written",
                &self.seals,
            ),
        ];
        for (name, help, counter) in counters {
            out.counter(name, help, labels, counter.get());
        }
        let gauges: [(&'static str, &'static str, &Gauge); 7] = [
            (
                "ringpost_store_messages",
                "Messages in all mailboxes",
                &self.messages,
            ),
            (
                "ringpost_store_queued",
                "Mutations waiting to be durable",
                &self.queued,
            ),
            (
                "ringpost_store_queued_bytes",
                "Bytes waiting for the next batch",
                &self.queued_bytes,
            ),
            ("ringpost_store_segments", "Segments in use", &self.segments),
            (
                "ringpost_store_free_bytes",
                "Bytes free where the partition is",
                &self.free_bytes,
            ),
            (
                "ringpost_store_full",
                "1 while mail is refused for lack of space",
                &self.full,
            ),
            (
                "ringpost_store_read_only",
                "1 when a failed write has made the partition read-only",
                &self.read_only,
            ),
        ];
        for (name, help, gauge) in gauges {
            out.gauge(name, help, labels, gauge.get());
        }
        out.histogram(
            "ringpost_store_records_per_batch",
            "Records in one batch",
            labels,
            &self.records_per_batch,
        );
        out.histogram(
            "ringpost_store_commit_latency_seconds",
            "From taking a batch to its being durable",
            labels,
            &self.commit_latency,
        );
    }

    pub(super) fn batch_written(&self, records: u64, bytes: u64, took: Duration) {
        self.batches.add(1);
        self.records.add(records);
        self.batch_bytes.add(bytes);
        self.records_per_batch.record_value(records);
        self.commit_latency.record(took);
    }
}
