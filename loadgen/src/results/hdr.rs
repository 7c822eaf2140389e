//! HDR logs: the interval log of the HdrHistogram project, format 1.3, histograms V2 deflated.
//!
//! A line is the histogram of one verb in about one second. Values are nanoseconds; the column of
//! maxima is in milliseconds, as Java's `HistogramLogWriter` has it. Any HdrHistogram tool reads it.
//! Does not know: what the verbs mean.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};

use crate::clock;
use crate::observe::{Observer, Span, View};
use crate::recorder::Verb;

/// Bytes of a log that is read back: some days of a run with many verbs.
const LOG_BYTES_MAX: u64 = 2 << 30;

/// A log that is being written.
pub struct HdrLog {
    path: PathBuf,
    file: BufWriter<File>,
    serializer: V2DeflateSerializer,
    bytes: Vec<u8>,
}

impl HdrLog {
    /// Begins a log in `file`, which is called `path` in errors.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(path: &Path, file: File) -> Result<HdrLog, String> {
        let mut log = HdrLog {
            path: path.to_owned(),
            file: BufWriter::new(file),
            serializer: V2DeflateSerializer::new(),
            bytes: Vec::new(),
        };
        let now = clock::since_epoch();
        let (at, date) = (now.as_secs_f64(), clock::rfc5322_date(now.as_secs()));
        write!(
            log.file,
            "#loadgen: nanoseconds by verb; interval maxima in milliseconds\n\
             #[Histogram log format version 1.3]\n\
             #[StartTime: {at:.3} (seconds since epoch), {date}]\n\
             #[BaseTime: {at:.3} (seconds since epoch)]\n\
             \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n"
        )
        .map_err(|e| log.wrong(&e))?;
        Ok(log)
    }

    fn wrong(&self, why: &dyn std::fmt::Display) -> String {
        format!("{}: {why}", self.path.display())
    }
}

impl Observer for HdrLog {
    fn look(&mut self, _: &View<'_>) {}

    fn interval(&mut self, span: &Span<'_>) -> Result<(), String> {
        for verb in Verb::ALL {
            let Some(histogram) = span.interval.histogram(verb) else {
                continue;
            };
            self.bytes.clear();
            self.serializer
                .serialize(histogram, &mut self.bytes)
                .map_err(|e| self.wrong(&e))?;
            writeln!(
                self.file,
                "Tag={},{:.3},{:.3},{:.3},{}",
                verb.name(),
                span.start.as_secs_f64(),
                span.length.as_secs_f64(),
                histogram.max() as f64 / 1e6,
                BASE64.encode(&self.bytes)
            )
            .map_err(|e| self.wrong(&e))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        self.file.flush().map_err(|e| self.wrong(&e))
    }
}

/// One verb's histograms, by time.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// In the order of the log.
    pub slices: Vec<Slice>,
}

/// About a second of one verb.
#[derive(Debug, Clone)]
pub struct Slice {
    /// Seconds from the start of the run.
    pub start_s: f64,
    /// Seconds.
    pub length_s: f64,
    /// Nanoseconds.
    pub histogram: Histogram<u64>,
}

impl Series {
    /// The whole run in one histogram; `None`: nothing was measured.
    pub fn total(&self) -> Option<Histogram<u64>> {
        let (first, rest) = self.slices.split_first()?;
        let mut total = first.histogram.clone();
        for slice in rest {
            // Histograms of one log have one shape; those of others grow as needed.
            total.auto(true);
            total.add(&slice.histogram).ok()?;
        }
        Some(total)
    }
}

/// Reads a log: verbs by their names.
///
/// # Errors
/// Names the file and where it is not a log.
pub fn read(path: &Path) -> Result<BTreeMap<String, Series>, String> {
    let wrong = |why: String| format!("{}: {why}", path.display());
    let length = std::fs::metadata(path)
        .map_err(|e| wrong(e.to_string()))?
        .len();
    if length > LOG_BYTES_MAX {
        return Err(wrong(format!(
            "{length} bytes; a log of at most {LOG_BYTES_MAX} is read"
        )));
    }
    let text = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    let mut deserializer = Deserializer::new();
    let mut found: BTreeMap<String, Series> = BTreeMap::new();
    for (index, entry) in IntervalLogIterator::new(&text).enumerate() {
        let entry = entry.map_err(|e| wrong(format!("no HDR interval log: {e:?}")))?;
        let LogEntry::Interval(interval) = entry else {
            continue;
        };
        let histogram = BASE64
            .decode(interval.encoded_histogram())
            .map_err(|e| e.to_string())
            .and_then(|bytes| {
                deserializer
                    .deserialize(&mut bytes.as_slice())
                    .map_err(|e| format!("{e:?}"))
            })
            .map_err(|why| wrong(format!("entry {}: {why}", index + 1)))?;
        let name = interval
            .tag()
            .map_or("all".to_owned(), |tag| tag.as_str().to_owned());
        found.entry(name).or_default().slices.push(Slice {
            start_s: interval.start_timestamp().as_secs_f64(),
            length_s: interval.duration().as_secs_f64(),
            histogram,
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::recorder::{Interval, Recorder};

    fn interval(ms: u64) -> Interval {
        let (to, from) = crossbeam::channel::unbounded();
        let began = Instant::now();
        let mut recorder = Recorder::new(began, to);
        recorder.time(Verb::Message, began, began + Duration::from_millis(ms));
        recorder.time(Verb::Envelope, began, began + Duration::from_micros(ms));
        recorder.finish();
        from.recv().expect("shipped")
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("hdr.log");
        let mut log = HdrLog::begin(&path, File::create(&path).expect("a file")).expect("begun");
        for second in 0..3 {
            log.interval(&Span {
                start: Duration::from_secs(second),
                length: Duration::from_secs(1),
                interval: &interval(second + 1),
                late: None,
            })
            .expect("written");
        }
        log.finish().expect("flushed");
        let read = read(&path).expect("a log");
        assert_eq!(read.keys().collect::<Vec<_>>(), ["MAIL..DATA", "message"]);
        let message = &read["message"];
        assert_eq!(message.slices.len(), 3);
        assert!((message.slices[2].start_s - 2.0).abs() < 1e-9);
        let total = message.total().expect("measured");
        assert_eq!(total.len(), 3);
        assert!((total.max() as f64 - 3e6).abs() < 6e3, "{}", total.max());
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(text.contains("\nTag=message,2.000,1.000,3.0"), "{text}");
    }

    #[test]
    fn what_is_no_log_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("notes");
        for text in [
            "hello\n",
            "Tag=message,0.000,1.000,1.000,HISTFAAAnonsense\n",
        ] {
            std::fs::write(&path, text).expect("written");
            let why = read(&path).expect_err(text);
            assert!(why.contains("notes: "), "{why}");
        }
        assert!(read(&dir.path().join("absent")).is_err());
    }
}
