//! The ledger: what was sent to whom, and what the server said.
//!
//! A text file, one line per attempt, written when the attempt has ended:
//!
//! ```text
//! # loadgen ledger 1
//! 0badcafe-0000000000000017 1 u3@bench.test=250 u9@bench.test=unknown
//! ID                        ATTEMPT  RECIPIENT=OUTCOME ...
//! ```
//!
//! Guarantees: an attempt is in it unless `loadgen` itself was killed within about 100 ms of its
//! end; a server that dies takes nothing along. A last line that was torn is passed over.
//! Does not know: connections, protocols, mailboxes.
//! On failure: the run ends, naming the file.

mod read;

pub use read::{Entry, ReadError, read};

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::message::MessageId;

/// The first line.
const TITLE: &str = "# loadgen ledger 1";
/// A writer's buffer goes to the file when it has grown to this.
const BUFFER_BYTES: usize = 64 * 1024;
/// It goes at least so often.
const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// What became of one recipient in one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The reply that decided: 2xx acknowledges, anything else refuses.
    Code(u16),
    /// The whole message had been given to the kernel, and no reply came: it may have arrived.
    Unknown,
    /// The connection ended before the message was sent whole: it cannot have arrived.
    Unsent,
}

impl Outcome {
    /// The server has taken responsibility.
    pub fn is_acknowledged(self) -> bool {
        matches!(self, Outcome::Code(200..=299))
    }
}

/// The file, shared by the writers of all threads.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    path: PathBuf,
}

impl Ledger {
    /// Makes the file, which must not exist: a ledger is never overwritten.
    ///
    /// # Errors
    /// Names the file.
    pub fn create(path: &Path, remark: &str) -> Result<Arc<Ledger>, String> {
        let explain = |e: io::Error| match e.kind() {
            io::ErrorKind::AlreadyExists => format!(
                "--ledger {}: exists already; name a new file, or remove it",
                path.display()
            ),
            _ => format!("--ledger {}: {e}", path.display()),
        };
        let mut file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(path)
            .map_err(explain)?;
        let remark = remark.replace(['\n', '\r'], " ");
        file.write_all(format!("{TITLE}\n# {remark}\n").as_bytes())
            .map_err(explain)?;
        Ok(Arc::new(Ledger {
            file,
            path: path.to_owned(),
        }))
    }

    /// A writer for one thread.
    pub fn writer(self: &Arc<Ledger>) -> Writer {
        Writer {
            ledger: self.clone(),
            buffer: Vec::with_capacity(BUFFER_BYTES + 4096),
            flush_at: None,
            failure: None,
        }
    }
}

/// Writes whole lines of one thread.
#[derive(Debug)]
pub struct Writer {
    ledger: Arc<Ledger>,
    buffer: Vec<u8>,
    flush_at: Option<Instant>,
    failure: Option<String>,
}

impl Writer {
    /// Notes the end of an attempt.
    pub fn note<'a>(
        &mut self,
        id: MessageId,
        attempt: u32,
        recipients: impl Iterator<Item = (&'a str, Outcome)>,
        now: Instant,
    ) {
        self.buffer.extend_from_slice(&id.text());
        self.buffer.push(b' ');
        self.number(attempt);
        for (address, outcome) in recipients {
            self.buffer.push(b' ');
            self.buffer.extend_from_slice(address.as_bytes());
            match outcome {
                Outcome::Code(code) => {
                    self.buffer.push(b'=');
                    self.number(u32::from(code));
                }
                Outcome::Unknown => self.buffer.extend_from_slice(b"=unknown"),
                Outcome::Unsent => self.buffer.extend_from_slice(b"=unsent"),
            }
        }
        self.buffer.push(b'\n');
        self.flush_at.get_or_insert(now + FLUSH_EVERY);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    fn number(&mut self, value: u32) {
        let mut digits = [0u8; 10];
        let mut at = digits.len();
        let mut rest = value;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.buffer.extend_from_slice(&digits[at..]);
    }

    /// Writes to the file what has waited long enough.
    pub fn tick(&mut self, now: Instant) {
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush();
        }
    }

    /// Writes everything to the file.
    pub fn flush(&mut self) {
        self.flush_at = None;
        if let Err(e) = (&self.ledger.file).write_all(&self.buffer) {
            self.failure
                .get_or_insert(format!("--ledger {}: {e}", self.ledger.path.display()));
        }
        self.buffer.clear();
    }

    /// Why the ledger is not complete, if it is not.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests;
