//! Reads a ledger back, line by line.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use super::{Outcome, TITLE};
use crate::message::MessageId;

/// Bytes of one line: ten thousand recipients fit.
const LINE_BYTES_MAX: usize = 4 << 20;

/// One recipient of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The message.
    pub id: MessageId,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// To whom.
    pub recipient: &'a str,
    /// With what result.
    pub outcome: Outcome,
}

/// Why a ledger cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// This file.
        path: PathBuf,
        /// In this way.
        source: io::Error,
    },
    /// A line is not one of a ledger's.
    #[error("{path}:{line}: {reason}", path = path.display())]
    Line {
        /// This file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong, what is allowed.
        reason: String,
    },
}

/// Calls `each` for every recipient of every attempt. Returns whether the last line was torn (it
/// is passed over then).
///
/// # Errors
/// Names file and line.
pub fn read(path: &Path, mut each: impl FnMut(Entry<'_>)) -> Result<bool, ReadError> {
    let io = |source| ReadError::Io {
        path: path.to_owned(),
        source,
    };
    let bad = |line, reason| ReadError::Line {
        path: path.to_owned(),
        line,
        reason,
    };
    let mut file = BufReader::with_capacity(1 << 20, File::open(path).map_err(io)?);
    let mut line = Vec::new();
    let mut number = 0u64;
    loop {
        line.clear();
        let limited = &mut io::Read::take(&mut file, LINE_BYTES_MAX as u64);
        if limited.read_until(b'\n', &mut line).map_err(io)? == 0 {
            break;
        }
        number += 1;
        if line.pop_if(|last| *last == b'\n').is_none() {
            if line.len() + 1 >= LINE_BYTES_MAX {
                return Err(bad(number, format!("longer than {LINE_BYTES_MAX} bytes")));
            }
            return Ok(true);
        }
        if number == 1 && line != TITLE.as_bytes() {
            return Err(bad(number, format!("a ledger begins with '{TITLE}'")));
        }
        if line.starts_with(b"#") {
            continue;
        }
        let text = std::str::from_utf8(&line).map_err(|e| bad(number, e.to_string()))?;
        attempt(text, &mut each).map_err(|reason| bad(number, reason))?;
    }
    if number == 0 {
        return Err(bad(1, format!("empty; a ledger begins with '{TITLE}'")));
    }
    Ok(false)
}

fn attempt(line: &str, each: &mut impl FnMut(Entry<'_>)) -> Result<(), String> {
    let mut words = line.split(' ');
    let id = words.next().unwrap_or_default();
    let id =
        MessageId::parse(id.as_bytes()).ok_or_else(|| format!("'{id}' is not a message id"))?;
    let attempt = words.next().unwrap_or_default();
    let attempt = attempt
        .parse()
        .map_err(|_| format!("'{attempt}' is not the number of an attempt"))?;
    for word in words {
        let (recipient, outcome) = word
            .rsplit_once('=')
            .ok_or_else(|| format!("'{word}' is not RECIPIENT=OUTCOME"))?;
        let outcome = match outcome {
            "unknown" => Outcome::Unknown,
            "unsent" => Outcome::Unsent,
            code => Outcome::Code(
                code.parse()
                    .ok()
                    .filter(|code| (200..600).contains(code))
                    .ok_or_else(|| {
                        format!("'{code}' is no outcome: a reply code, 'unknown' or 'unsent'")
                    })?,
            ),
        };
        each(Entry {
            id,
            attempt,
            recipient,
            outcome,
        });
    }
    Ok(())
}
