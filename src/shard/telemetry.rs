//! Telemetry of users [N35]: each connection of an account for which it is switched on is written to a
//! file of its own, both directions, without secrets.
//!
//! ```text
//! DATA/telemetry/ann@example.org/20261123T013000.123Z-imap-0-17.log
//! 2026-11-23T01:30:00.456Z C: a SELECT INBOX
//! 2026-11-23T01:30:00.457Z S: * 3 EXISTS
//! ```
//!
//! The login is in it: until somebody has logged in, each session keeps a little of what is said, and
//! drops it when the account wants no telemetry.
//!
//! A shard hands over what was said at the end of a turn; one thread writes it. Files are opened for
//! each piece: there are few, and none stays open.
//!
//! Guarantees: no shard waits for a disk; each file, the number of files of an account, and what
//! waits for the thread are bounded (see `limits`).
//! Does not know: what is a secret: see [`crate::proto::transcript`].
//! On failure: a full disk and its like end the file, with one line in the log. What the thread
//! cannot take is left out, and the file says how much.

use std::fs::{DirBuilder, OpenOptions};
use std::hash::Hasher as _;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use jiff::Timestamp;

use super::session::Service;
use crate::limits::{TELEMETRY_FILE_BYTES_MAX, TELEMETRY_FILES_MAX, TELEMETRY_QUEUED_BYTES_MAX};
use crate::mail::Address;
use crate::proto::transcript::{Said, Side};

/// The value of an account for which it is switched on.
pub(super) const VALUE: &[u8] = b"telemetry";
/// Pieces that may wait for the thread.
const PIECES_MAX: usize = 4096;
/// Bytes of a folder's name.
const NAME_BYTES_MAX: usize = 150;

/// `None` asks the thread to stop.
static SENDER: OnceLock<SyncSender<Option<Piece>>> = OnceLock::new();
static QUEUED_BYTES: AtomicUsize = AtomicUsize::new(0);
/// Numbers files, so that no two connections share one.
static FILES: AtomicU64 = AtomicU64::new(0);

/// The folder below the data folder.
pub(super) fn folder(data: &Path) -> PathBuf {
    data.join("telemetry")
}

/// The folder of an account.
pub(super) fn folder_of(data: &Path, address: &Address) -> PathBuf {
    folder(data).join(name_of(address.as_str()))
}

/// An address as the name of a folder: letters, digits and a few more as they are, others as `%XX`.
fn name_of(address: &str) -> String {
    let mut name = String::new();
    for byte in address.bytes() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'@' | b'-' | b'_' | b'+');
        if plain || (byte == b'.' && !name.is_empty()) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    if name.len() > NAME_BYTES_MAX {
        let mut hasher = siphasher::sip::SipHasher13::new();
        hasher.write(address.as_bytes());
        name.truncate(NAME_BYTES_MAX);
        name.push_str(&format!("-{:016x}", hasher.finish()));
    }
    name
}

/// A file that is being written.
struct File {
    folder: PathBuf,
    path: PathBuf,
    /// It has ended: nothing more is wanted.
    ended: AtomicBool,
}

struct Piece {
    file: Arc<File>,
    text: Vec<u8>,
    is_first: bool,
}

/// The recording of one connection.
pub(super) struct Recording {
    file: Arc<File>,
    address: Address,
    written: u64,
    left_out: u64,
    is_first: bool,
    /// Whose line is not complete.
    open: Option<Side>,
}

impl Recording {
    /// Of a connection that has logged in as this account.
    pub(super) fn new(data: &Path, address: &Address, service: Service, shard: usize) -> Recording {
        let folder = folder_of(data, address);
        let time = Timestamp::now().strftime("%Y%m%dT%H%M%S.%3fZ");
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let name = format!("{time}-{}-{shard}-{number}.log", service.name());
        Recording {
            file: Arc::new(File {
                path: folder.join(name),
                folder,
                ended: AtomicBool::new(false),
            }),
            address: address.clone(),
            written: 0,
            left_out: 0,
            is_first: true,
            open: None,
        }
    }

    /// Whose it is.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Hands over what was said. `false`: this recording is over.
    pub(super) fn write(&mut self, said: &Said) -> bool {
        if self.file.ended.load(Ordering::Relaxed) {
            return false;
        }
        let mut text = Vec::new();
        let time = Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%S.%3fZ")
            .to_string();
        if self.left_out > 0 {
            self.note(
                &format!("{} bytes are left out here", self.left_out),
                &time,
                &mut text,
            );
        }
        for (side, bytes) in &said.pieces {
            self.lines(*side, bytes, &time, &mut text);
        }
        if said.left_out > 0 {
            let note = format!("{} bytes are left out here", said.left_out);
            self.note(&note, &time, &mut text);
        }
        if text.is_empty() {
            return !said.ended;
        }
        let full = self.written + text.len() as u64 > TELEMETRY_FILE_BYTES_MAX;
        if full {
            text.truncate((TELEMETRY_FILE_BYTES_MAX - self.written) as usize);
            self.note("this file is full", &time, &mut text);
        }
        self.hand_over(text);
        !said.ended && !full
    }

    fn hand_over(&mut self, text: Vec<u8>) {
        let bytes = text.len();
        let waiting = QUEUED_BYTES.fetch_add(bytes, Ordering::Relaxed);
        let piece = Piece {
            file: Arc::clone(&self.file),
            text,
            is_first: self.is_first,
        };
        let taken = waiting + bytes <= TELEMETRY_QUEUED_BYTES_MAX
            && SENDER
                .get()
                .is_some_and(|sender| sender.try_send(Some(piece)).is_ok());
        if taken {
            self.is_first = false;
            self.left_out = 0;
            self.written += bytes as u64;
        } else {
            QUEUED_BYTES.fetch_sub(bytes, Ordering::Relaxed);
            self.left_out += bytes as u64;
            self.open = None;
        }
    }

    /// Lines with their time and side; what a terminal could take for a command is escaped.
    fn lines(&mut self, side: Side, bytes: &[u8], time: &str, text: &mut Vec<u8>) {
        if self.open.is_some_and(|open| open != side) {
            text.push(b'\n');
            self.open = None;
        }
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.open.is_none() {
                text.extend_from_slice(time.as_bytes());
                text.extend_from_slice(match side {
                    Side::Client => b" C: ",
                    Side::Server => b" S: ",
                });
            }
            let is_whole = line.ends_with(b"\n");
            self.open = (!is_whole).then_some(side);
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line
                .strip_suffix(b"\r")
                .filter(|_| is_whole)
                .unwrap_or(line);
            for byte in line {
                if byte.is_ascii_control() && *byte != b'\t' {
                    text.extend(byte.escape_ascii());
                } else {
                    text.push(*byte);
                }
            }
            if is_whole {
                text.push(b'\n');
            }
        }
    }

    fn note(&mut self, note: &str, time: &str, text: &mut Vec<u8>) {
        if self.open.take().is_some() || text.last().is_some_and(|byte| *byte != b'\n') {
            text.push(b'\n');
        }
        text.extend_from_slice(format!("{time} -- {note}\n").as_bytes());
    }
}

/// The running thread; dropping it waits until what it was given is written.
pub(super) struct Writer(Option<JoinHandle<()>>);

impl Drop for Writer {
    fn drop(&mut self) {
        if let (Some(sender), Some(thread)) = (SENDER.get(), self.0.take()) {
            // Fails only if the thread has ended already.
            let _ = sender.send(None);
            let _ = thread.join();
        }
    }
}

/// Starts the thread of the process.
///
/// # Errors
/// Says that no thread can be started.
pub(super) fn start() -> Result<Writer, String> {
    let (sender, receiver) = sync_channel(PIECES_MAX);
    let thread = std::thread::Builder::new()
        .name("telemetry".to_owned())
        .spawn(move || write_pieces(&receiver))
        .map_err(|error| format!("cannot start the thread for telemetry: {error}"))?;
    if SENDER.set(sender).is_err() {
        return Err("the thread for telemetry has been started already".to_owned());
    }
    Ok(Writer(Some(thread)))
}

fn write_pieces(pieces: &Receiver<Option<Piece>>) {
    while let Ok(Some(piece)) = pieces.recv() {
        let file = &piece.file;
        if !file.ended.load(Ordering::Relaxed)
            && let Err(error) = write_piece(&piece)
        {
            file.ended.store(true, Ordering::Relaxed);
            tracing::error!(file = %file.path.display(), "telemetry of a connection ends: {error}");
        }
        QUEUED_BYTES.fetch_sub(piece.text.len(), Ordering::Relaxed);
    }
}

fn write_piece(piece: &Piece) -> io::Result<()> {
    let file = &piece.file;
    let mut options = OpenOptions::new();
    options.append(true).mode(0o600);
    if piece.is_first {
        let mut folders = DirBuilder::new();
        folders.recursive(true).mode(0o700).create(&file.folder)?;
        remove_oldest(&file.folder)?;
        options.create_new(true);
    }
    options.open(&file.path)?.write_all(&piece.text)
}

/// Makes room for one file more. Names begin with their time.
fn remove_oldest(folder: &Path) -> io::Result<()> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .collect();
    names.sort_unstable();
    let excess = (names.len() + 1).saturating_sub(TELEMETRY_FILES_MAX);
    for path in &names[..excess] {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
