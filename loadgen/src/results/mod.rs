//! A run's folder: written while the run goes on, read back for reports and comparisons.
//!
//! ```text
//! run.json            the exact command, when, with which loadgen, on which machine
//! hdr.log             histograms by verb and second (HdrHistogram interval log V2)
//! timeline.jsonl      counts and errors by second
//! samples.jsonl       CPU, memory and the like of processes, counters of servers, by second
//! metrics-before.txt  the server's /metrics as it came, and -after
//! summary.json        what `--json` has, with run.json and the servers' CPU; written last
//! report.html         all of it to look at
//! ```
//!
//! Guarantees: the folder is new, nothing is ever overwritten; a folder with a summary is whole.
//! Does not know: how a report looks, what a comparison is.

pub mod folder;
pub mod hdr;
pub mod recording;

pub use folder::Folder;
pub use recording::{begin, complete};

/// Files of a folder.
pub mod names {
    #![allow(missing_docs, reason = "the map of the folder above tells them")]
    pub const RUN: &str = "run.json";
    pub const HDR_LOG: &str = "hdr.log";
    pub const TIMELINE: &str = "timeline.jsonl";
    pub const SAMPLES: &str = "samples.jsonl";
    pub const METRICS_BEFORE: &str = "metrics-before.txt";
    pub const METRICS_AFTER: &str = "metrics-after.txt";
    pub const SUMMARY: &str = "summary.json";
    pub const REPORT: &str = "report.html";
}
