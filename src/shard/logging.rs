//! The log: `tracing` lines, written by a thread of its own.
//!
//! A shard collects its lines in a buffer of its own and hands that over before it parks, when it
//! has grown, or when a line is older than [`AGE_MAX`]; so a line costs no system call on a shard, and a terminal that has stopped
//! reading stops no mail. What the writer cannot take is counted and said in the next lines.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// A shard's buffer is handed over at this size even while the shard is busy.
const BUFFER_BYTES: usize = 32 * 1024;
/// A busy shard hands its buffer over when the first line in it has waited for so long: waking the
/// writer costs more than writing.
const AGE_MAX: Duration = Duration::from_millis(10);
/// Buffers that may wait for the writer.
const BUFFERS_MAX: usize = 256;

/// `None` asks the writer to stop.
static SENDER: OnceLock<SyncSender<Option<Vec<u8>>>> = OnceLock::new();
static DROPPED_BYTES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// `None`: not a shard, lines are handed over one by one.
    static BUFFER: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
    /// When a busy shard last handed over its lines.
    static FLUSHED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// From now on this thread's lines are collected until [`flush`].
pub(super) fn collect_on_this_thread() {
    BUFFER.set(Some(Vec::with_capacity(BUFFER_BYTES)));
}

/// Hands over what this thread has collected.
pub(super) fn flush() {
    BUFFER.with_borrow_mut(|buffer| {
        if let Some(buffer) = buffer
            && !buffer.is_empty()
        {
            hand_over(std::mem::replace(buffer, Vec::with_capacity(BUFFER_BYTES)));
        }
    });
}

/// As [`flush`], if the last time is longer ago than [`AGE_MAX`].
pub(super) fn flush_aged(now: Instant) {
    if FLUSHED
        .get()
        .is_none_or(|last| now.saturating_duration_since(last) >= AGE_MAX)
    {
        FLUSHED.set(Some(now));
        flush();
    }
}

fn hand_over(lines: Vec<u8>) {
    let Some(sender) = SENDER.get() else { return };
    match sender.try_send(Some(lines)) {
        Ok(()) => {}
        Err(TrySendError::Full(lines) | TrySendError::Disconnected(lines)) => {
            let bytes = lines.map_or(0, |lines| lines.len());
            DROPPED_BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}

struct LineWriter;

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let full = BUFFER.with_borrow_mut(|buffer| match buffer {
            Some(buffer) => {
                buffer.extend_from_slice(bytes);
                buffer.len() >= BUFFER_BYTES
            }
            None => {
                hand_over(bytes.to_vec());
                false
            }
        });
        if full {
            flush();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct MakeLineWriter;

impl<'a> MakeWriter<'a> for MakeLineWriter {
    type Writer = LineWriter;
    fn make_writer(&'a self) -> LineWriter {
        LineWriter
    }
}

/// Writes to standard error until it is asked to stop.
fn write_lines(lines: &Receiver<Option<Vec<u8>>>) {
    // Not locked between the lines: a panic wants to be able to say why.
    let mut stderr = io::stderr();
    while let Ok(Some(bytes)) = lines.recv() {
        // Nobody can be told when standard error itself fails.
        let _ = stderr.write_all(&bytes);
        let dropped = DROPPED_BYTES.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let _ = writeln!(stderr, "log: {dropped} bytes of lines were left out here");
        }
    }
}

/// The running log; dropping it waits until what it was given is written.
pub(super) struct Log(Option<JoinHandle<()>>);

impl Drop for Log {
    fn drop(&mut self) {
        if let (Some(sender), Some(writer)) = (SENDER.get(), self.0.take()) {
            // Fails only if the writer has ended already.
            let _ = sender.send(None);
            let _ = writer.join();
        }
    }
}

/// Starts the log of the process; `filter` is in the form of `tracing`'s `EnvFilter`.
///
/// # Errors
/// Says what is wrong with the filter, or that no thread can be started.
pub(super) fn start(filter: &str) -> Result<Log, String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("--log {filter}: {error}"))?;
    let (sender, receiver) = sync_channel(BUFFERS_MAX);
    let writer = std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write_lines(&receiver))
        .map_err(|error| format!("cannot start the log's thread: {error}"))?;
    if SENDER.set(sender).is_err() {
        return Err("the log has been started already".to_owned());
    }
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .event_format(super::line::Line)
        .with_writer(MakeLineWriter)
        .init();
    Ok(Log(Some(writer)))
}
