//! What happened in a stretch of time: counts, histograms, errors, and what it took the generator.
//!
//! Intervals of threads, of processes and of machines add up without loss: histograms are added
//! bucket by bucket, percentiles are taken from the sum. [`Interval::to_json`] is the form in which
//! they travel.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::recorder::{Fault, FaultCount, FaultKey, Verb};

/// Sums of everything, measured part only unless it says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Messages (SMTP, LMTP) or sessions (POP3) that ended as they should.
    pub done: u64,
    /// The same, warm-up included: for the progress display and for `--count`.
    pub done_ever: u64,
    /// Messages or sessions that ended at all, warm-up included.
    pub ended_ever: u64,
    /// Messages or sessions that did not end as they should.
    pub failed: u64,
    /// Recipients acknowledged, or messages retrieved.
    pub items: u64,
    /// Recipients whose message may have arrived: the connection broke.
    pub unknown: u64,
    /// Connections that came up, warm-up included.
    pub connections: u64,
    /// Bytes sent, warm-up included.
    pub bytes_sent: u64,
    /// Bytes received, warm-up included.
    pub bytes_received: u64,
    /// Open loop: operations that came due.
    pub due: u64,
    /// The same, warm-up included; those that have not begun yet are queued.
    pub due_ever: u64,
    /// Operations of an open loop that began, warm-up included.
    pub begun_ever: u64,
    /// Those that began late, because no connection was free or the generator was.
    pub late: u64,
    /// The longest that one had to wait, or has waited so far.
    #[serde(with = "nanoseconds")]
    pub lateness_max: Duration,
}

impl Counts {
    /// Adds another thread's or interval's.
    pub fn add(&mut self, other: &Counts) {
        self.done += other.done;
        self.done_ever += other.done_ever;
        self.ended_ever += other.ended_ever;
        self.failed += other.failed;
        self.items += other.items;
        self.unknown += other.unknown;
        self.connections += other.connections;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.due += other.due;
        self.due_ever += other.due_ever;
        self.begun_ever += other.begun_ever;
        self.late += other.late;
        self.lateness_max = self.lateness_max.max(other.lateness_max);
    }

    /// Operations of an open loop that were due and have not begun.
    pub fn queued(&self) -> u64 {
        self.due_ever.saturating_sub(self.begun_ever)
    }
}

/// What it took one thread of the generator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Effort {
    /// Its CPU time, in the measured part.
    #[serde(with = "nanoseconds")]
    pub cpu: Duration,
    /// How long it was ready to run while its CPU did something else, in the measured part.
    #[serde(with = "nanoseconds")]
    pub waited: Duration,
    /// Turns: submissions to the kernel, with a look at what is completed.
    pub turns: u64,
    /// Turns after which the submission ring was still full or completions had overflowed.
    pub turns_full: u64,
    /// Receives that found no buffer.
    pub buffers_lacked: u64,
}

impl Effort {
    /// Adds another interval's.
    pub fn add(&mut self, other: &Effort) {
        self.cpu += other.cpu;
        self.waited += other.waited;
        self.turns += other.turns;
        self.turns_full += other.turns_full;
        self.buffers_lacked += other.buffers_lacked;
    }
}

/// Histograms by verb; `None` where nothing was seen.
#[derive(Debug)]
pub struct Histograms(pub(crate) [Option<Box<Histogram<u64>>>; Verb::ALL.len()]);

impl Default for Histograms {
    fn default() -> Histograms {
        Histograms([const { None }; Verb::ALL.len()])
    }
}

impl Histograms {
    /// Notes a time.
    pub(crate) fn record(&mut self, verb: Verb, began: Instant, ended: Instant) {
        let time = ended.saturating_duration_since(began);
        self.0[verb as usize]
            .get_or_insert_with(|| Box::new(new_histogram()))
            .saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// Nanoseconds: 1 µs to one hour in three digits.
fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 3_600_000_000_000, 3).expect("these bounds are valid")
}

/// What one thread saw since it last shipped, or any sum of such.
#[derive(Debug, Default)]
pub struct Interval {
    /// By verb.
    pub histograms: Histograms,
    /// Sums.
    pub counts: Counts,
    /// Errors.
    pub faults: FxHashMap<FaultKey, FaultCount>,
    /// By thread.
    pub efforts: BTreeMap<u32, Effort>,
    /// The last measured operation ended then.
    pub last_end: Option<Instant>,
}

impl Interval {
    /// Adds another thread's or interval's.
    pub fn add(&mut self, other: Interval) {
        for (mine, theirs) in self.histograms.0.iter_mut().zip(other.histograms.0) {
            match (mine, theirs) {
                (Some(mine), Some(theirs)) => {
                    // Both have the bounds of `new_histogram`, or were resized to hold more.
                    let added = mine.add(*theirs);
                    debug_assert!(added.is_ok());
                }
                (mine @ None, theirs) => *mine = theirs,
                (Some(_), None) => {}
            }
        }
        self.counts.add(&other.counts);
        for (key, fault) in other.faults {
            self.faults
                .entry(key)
                .and_modify(|mine| mine.count += fault.count)
                .or_insert(fault);
        }
        for (thread, effort) in other.efforts {
            self.efforts.entry(thread).or_default().add(&effort);
        }
        self.last_end = self.last_end.max(other.last_end);
    }

    /// The histogram of `verb`, if anything was seen.
    pub fn histogram(&self, verb: Verb) -> Option<&Histogram<u64>> {
        self.histograms.0[verb as usize].as_deref()
    }

    /// Adds a time that was measured beside the run: the run's length does not depend on it.
    pub fn time(&mut self, verb: Verb, began: Instant, ended: Instant) {
        self.histograms.record(verb, began, ended);
    }

    /// Without loss, as JSON: times count from `origin`, histograms are V2 with deflate in base64,
    /// as in HDR logs.
    ///
    /// # Errors
    /// When a histogram cannot be encoded.
    pub fn to_json(&self, origin: Instant) -> Result<serde_json::Value, String> {
        let mut serializer = V2DeflateSerializer::new();
        let mut histograms = BTreeMap::new();
        for verb in Verb::ALL {
            if let Some(histogram) = self.histogram(verb) {
                let mut bytes = Vec::new();
                serializer
                    .serialize(histogram, &mut bytes)
                    .map_err(|e| format!("the histogram of {}: {e}", verb.name()))?;
                histograms.insert(verb.name().to_owned(), BASE64.encode(bytes));
            }
        }
        let mut faults: Vec<_> = self.faults.iter().collect();
        faults.sort_by_key(|(key, _)| **key);
        let form = Form {
            histograms,
            counts: self.counts,
            faults: faults
                .into_iter()
                .map(|(key, fault)| FaultForm {
                    fault: key.fault,
                    verb: key.verb.name().to_owned(),
                    code: key.code,
                    count: fault.count,
                    sample: fault.sample.clone(),
                })
                .collect(),
            efforts: self.efforts.clone(),
            last_end_ns: self
                .last_end
                .map(|end| end.saturating_duration_since(origin).as_nanos() as u64),
        };
        serde_json::to_value(form).map_err(|e| e.to_string())
    }

    /// What [`Interval::to_json`] made; times count from `origin`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn from_json(json: serde_json::Value, origin: Instant) -> Result<Interval, String> {
        let form: Form = serde_json::from_value(json).map_err(|e| e.to_string())?;
        let mut interval = Interval {
            counts: form.counts,
            efforts: form.efforts,
            last_end: form
                .last_end_ns
                .and_then(|ns| origin.checked_add(Duration::from_nanos(ns))),
            ..Interval::default()
        };
        for (name, text) in form.histograms {
            let bytes = BASE64
                .decode(text)
                .map_err(|e| format!("histogram '{name}': {e}"))?;
            let histogram = Deserializer::new()
                .deserialize(&mut bytes.as_slice())
                .map_err(|e| format!("histogram '{name}': {e}"))?;
            interval.histograms.0[verb(&name)? as usize] = Some(Box::new(histogram));
        }
        for fault in form.faults {
            let key = FaultKey {
                fault: fault.fault,
                verb: verb(&fault.verb)?,
                code: fault.code,
            };
            let (count, sample) = (fault.count, fault.sample);
            interval.faults.insert(key, FaultCount { count, sample });
        }
        Ok(interval)
    }
}

fn verb(name: &str) -> Result<Verb, String> {
    Verb::ALL
        .into_iter()
        .find(|verb| verb.name() == name)
        .ok_or_else(|| format!("'{name}' is nothing that this version of loadgen times"))
}

#[derive(Serialize, Deserialize)]
struct Form {
    histograms: BTreeMap<String, String>,
    counts: Counts,
    faults: Vec<FaultForm>,
    efforts: BTreeMap<u32, Effort>,
    last_end_ns: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct FaultForm {
    fault: Fault,
    verb: String,
    code: u16,
    count: u64,
    sample: String,
}

mod nanoseconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Recorder;

    #[test]
    fn what_travels_arrives_whole_and_adds_up() {
        let origin = Instant::now();
        let (to, from) = crossbeam::channel::unbounded();
        let mut recorder = Recorder::new(origin, to);
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..10_000 {
            let time = Duration::from_nanos(random.u64(1_000..9_000_000_000));
            recorder.time(Verb::Body, origin, origin + time);
        }
        let key = FaultKey {
            fault: Fault::Transient,
            verb: Verb::Rcpt,
            code: 450,
        };
        recorder.fault(key, "450 später".as_bytes());
        recorder.counts().done = 7;
        recorder.counts().lateness_max = Duration::from_millis(3);
        recorder.effort().turns = 9;
        recorder.finish();
        let interval = from.recv().expect("shipped");
        let json = interval.to_json(origin).expect("encoded");
        let text = json.to_string();
        let mut twice = Interval::default();
        for _ in 0..2 {
            let json = serde_json::from_str(&text).expect("JSON");
            twice.add(Interval::from_json(json, origin).expect("an interval"));
        }
        let (one, two) = (
            interval.histogram(Verb::Body).expect("seen"),
            twice.histogram(Verb::Body).expect("seen"),
        );
        assert_eq!(two.len(), 2 * one.len());
        for quantile in [0.0, 0.1, 0.5, 0.99, 0.999, 1.0] {
            let values = [one, two].map(|histogram| histogram.value_at_quantile(quantile));
            assert_eq!(values[0], values[1], "at {quantile}");
        }
        assert_eq!(twice.counts.done, 14);
        assert_eq!(twice.counts.lateness_max, Duration::from_millis(3));
        assert_eq!(twice.faults[&key].count, 2);
        assert_eq!(twice.faults[&key].sample, "450 später");
        assert_eq!(twice.efforts[&0].turns, 18);
        assert_eq!(twice.last_end, interval.last_end);
    }

    #[test]
    fn what_is_not_an_interval_is_told() {
        let origin = Instant::now();
        let json = Interval::default().to_json(origin).expect("encoded");
        for (part, value, wanted) in [
            ("histograms", serde_json::json!({"fly": ""}), "fly"),
            ("histograms", serde_json::json!({"MAIL": "!"}), "MAIL"),
            ("histograms", serde_json::json!({"MAIL": "AAAA"}), "MAIL"),
            ("counts", serde_json::json!(3), "expected"),
        ] {
            let mut wrong = json.clone();
            wrong[part] = value;
            let error = Interval::from_json(wrong, origin).expect_err(part);
            assert!(error.contains(wanted), "{error}");
        }
    }
}
