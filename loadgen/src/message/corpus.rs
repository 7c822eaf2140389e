//! Real messages, read from a folder or an mbox file, to be sent as they are.
//!
//! A folder is searched with all folders in it, a message to a file; a file that begins with
//! `From ` is an mbox, any other file is one message. In an mbox, lines that were quoted are
//! unquoted as mboxrd has it (RFC 4155 calls these files "mbox"; one `>` goes from `>From `,
//! `>>From ` and so on); mboxo files read the same, but for lines that were quoted when they came.
//!
//! Guarantees: header and body go out byte for byte, with CRLF for every line end (CR LF, LF or CR
//! in the file), and with a line end after the last line. Two fields are put in front,
//! `X-Loadgen-Id` and `X-Loadgen-Sum`, by which `verify` knows the message again: the sum covers
//! the id and the body, so that a body that is changed, cut short or exchanged for another's is
//! found. Header fields are not covered: servers may drop some (Return-Path, Bcc) and add others.
//! Bounds: everything is held in memory, 1 GiB and 1,000,000 messages at most.
//! On failure: a file that cannot be sent as a message (no header, NUL, lines beyond 998 bytes) is
//! left out, counted, and the first few are named.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use super::{Framing, MessageId, hex_into};

/// Messages of one collection.
const MESSAGES_MAX: usize = 1_000_000;
/// Bytes of all messages, and of an mbox file.
const BYTES_MAX: usize = 1 << 30;
/// Bytes of a line, without its end (RFC 5322 §2.1.1): beyond it servers break lines.
const LINE_BYTES_MAX: usize = 998;
/// Files that are left out and named.
const NAMED_MAX: usize = 5;

/// Messages in memory, as they go over the wire but for the two fields.
#[derive(Debug)]
pub struct Corpus {
    wire: Vec<u8>,
    messages: Vec<Message>,
    eight_bit_count: usize,
    framing: Framing,
}

#[derive(Debug, Clone, Copy)]
struct Message {
    start: usize,
    end: usize,
    /// CRC32C of the body before dot-stuffing, and its length.
    body_sum: u32,
    body_bytes: usize,
    eight_bit: bool,
}

/// What was found and cannot be sent.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Files, or messages of an mbox.
    pub count: usize,
    /// The first few, each with its reason.
    pub named: Vec<String>,
}

impl LeftOut {
    fn note(&mut self, what: String, why: &str) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(format!("{what}: {why}"));
        }
    }
}

const ID_FIELD: &[u8] = b"X-Loadgen-Id: ";
const SUM_FIELD: &[u8] = b"\r\nX-Loadgen-Sum: ";
const SUM_DIGITS: usize = 8;

impl Corpus {
    /// Reads the messages of a folder, an mbox file or a single file, in the order of their names.
    ///
    /// # Errors
    /// When nothing can be read, there is no message to send, or there are too many; names the file.
    pub fn read(path: &Path, framing: Framing) -> Result<(Corpus, LeftOut), String> {
        let explain = |e: std::io::Error| format!("{}: {e}", path.display());
        let mut corpus = Corpus {
            wire: Vec::new(),
            messages: Vec::new(),
            eight_bit_count: 0,
            framing,
        };
        let mut left_out = LeftOut::default();
        if fs::metadata(path).map_err(explain)?.is_dir() {
            corpus.folder(path, &mut left_out)?;
        } else {
            let text = read_whole(path).map_err(|why| format!("{}: {why}", path.display()))?;
            if text.starts_with(b"From ") {
                corpus.mbox(path, &text, &mut left_out)?;
            } else {
                corpus.add(&text, || path.display().to_string(), &mut left_out)?;
            }
        }
        if corpus.messages.is_empty() {
            return Err(format!(
                "{}: there is no message in it that can be sent; wanted is a folder with a message \
                 to a file, or an mbox file{}",
                path.display(),
                left_out
                    .named
                    .first()
                    .map_or(String::new(), |first| format!(" ({first})"))
            ));
        }
        Ok((corpus, left_out))
    }

    fn folder(&mut self, path: &Path, left_out: &mut LeftOut) -> Result<(), String> {
        let mut folders = vec![path.to_owned()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            let explain = |e: std::io::Error| format!("{}: {e}", folder.display());
            for entry in fs::read_dir(&folder).map_err(explain)? {
                let entry = entry.map_err(explain)?;
                // Links to folders are not followed: they may lead round in circles.
                if entry.file_type().map_err(explain)?.is_dir() {
                    folders.push(entry.path());
                } else if entry.path().is_file() {
                    files.push(entry.path());
                }
                if files.len() > 2 * MESSAGES_MAX {
                    return Err(too_many());
                }
            }
        }
        files.sort();
        for file in files {
            let name = || file.display().to_string();
            match read_whole(&file) {
                Ok(text) if text.starts_with(b"From ") => left_out.note(
                    name(),
                    "begins with 'From ', as an mbox does: it has to be named itself",
                ),
                Ok(text) => self.add(&text, name, left_out)?,
                Err(why) => left_out.note(name(), &why),
            }
        }
        Ok(())
    }

    /// A message begins after a line `From ...` at the start of the file or after an empty line.
    fn mbox(&mut self, path: &Path, text: &[u8], left_out: &mut LeftOut) -> Result<(), String> {
        let mut message = Vec::new();
        let mut number = 0;
        let mut after_empty = true;
        let mut rest = text;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let line;
            (line, rest) = rest.split_at(end);
            if after_empty && line.starts_with(b"From ") {
                self.of_mbox(path, number, &message, left_out)?;
                message.clear();
                number += 1;
            } else {
                let quotes = line.iter().take_while(|&&byte| byte == b'>').count();
                let quoted = quotes > 0 && line[quotes..].starts_with(b"From ");
                message.extend_from_slice(&line[usize::from(quoted)..]);
            }
            after_empty = matches!(line, b"\n" | b"\r\n");
        }
        self.of_mbox(path, number, &message, left_out)
    }

    fn of_mbox(
        &mut self,
        path: &Path,
        number: usize,
        message: &[u8],
        left_out: &mut LeftOut,
    ) -> Result<(), String> {
        if number == 0 {
            return Ok(());
        }
        // The empty line before the next `From ` belongs to the file, not to the message.
        let message = match message {
            [text @ .., b'\r', b'\n'] | [text @ .., b'\n'] if text.ends_with(b"\n") => text,
            _ => message,
        };
        let name = || format!("{}, message {number}", path.display());
        self.add(message, name, left_out)
    }

    fn add(
        &mut self,
        text: &[u8],
        name: impl Fn() -> String,
        left_out: &mut LeftOut,
    ) -> Result<(), String> {
        let start = self.wire.len();
        match self.convert(text) {
            Ok((body_sum, body_bytes)) => {
                if self.framing == Framing::Dots {
                    self.wire.extend_from_slice(b".\r\n");
                }
                self.eight_bit_count += usize::from(!text.is_ascii());
                self.messages.push(Message {
                    start,
                    end: self.wire.len(),
                    body_sum,
                    body_bytes,
                    eight_bit: !text.is_ascii(),
                });
            }
            Err(why) => {
                self.wire.truncate(start);
                left_out.note(name(), why);
            }
        }
        if self.messages.len() > MESSAGES_MAX || self.wire.len() > BYTES_MAX {
            return Err(too_many());
        }
        Ok(())
    }

    /// Appends a message to `wire`; checksum and length of its body.
    fn convert(&mut self, text: &[u8]) -> Result<(u32, usize), &'static str> {
        if memchr::memchr(0, text).is_some() {
            return Err("there is a NUL in it, which mail may not have (RFC 5322 §4)");
        }
        let (mut in_body, mut first) = (false, true);
        let (mut sum, mut bytes) = (0, 0);
        let mut rest = text;
        while !rest.is_empty() {
            let line;
            (line, rest) = next_line(rest);
            if line.len() > LINE_BYTES_MAX {
                return Err("a line is longer than 998 bytes (RFC 5322 §2.1.1)");
            }
            if in_body {
                sum = crc32c::crc32c_append(crc32c::crc32c_append(sum, line), b"\r\n");
                bytes += line.len() + 2;
            } else if line.is_empty() && !first {
                in_body = true;
            } else if !is_header_line(line, first) {
                return Err("it does not begin with a header (RFC 5322 §2.2)");
            }
            first = false;
            if self.framing == Framing::Dots && line.starts_with(b".") {
                self.wire.push(b'.');
            }
            self.wire.extend_from_slice(line);
            self.wire.extend_from_slice(b"\r\n");
        }
        if in_body {
            Ok((sum, bytes))
        } else {
            Err("there is no empty line after the header (RFC 5322 §2.1)")
        }
    }

    /// Number of messages, at least 1.
    #[allow(clippy::len_without_is_empty, reason = "there is one at least")]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Bytes of all messages.
    pub fn bytes(&self) -> usize {
        self.wire.len()
    }

    /// Messages with bytes beyond ASCII.
    pub fn eight_bit_count(&self) -> usize {
        self.eight_bit_count
    }

    /// It has bytes beyond ASCII.
    pub fn is_eight_bit(&self, index: u32) -> bool {
        self.messages[index as usize].eight_bit
    }

    /// Bytes of a message as it goes over the wire.
    pub fn wire_bytes(&self, index: u32) -> usize {
        let message = &self.messages[index as usize];
        let fields = ID_FIELD.len() + MessageId::TEXT_BYTES + SUM_FIELD.len() + SUM_DIGITS + 2;
        fields + message.end - message.start
    }

    /// Appends a message under the name `id`, as it goes over the wire.
    pub fn build(&self, index: u32, id: MessageId, out: &mut Vec<u8>) {
        let message = &self.messages[index as usize];
        let text = id.text();
        let id_sum = crc32c::crc32c(&text);
        let sum = crc32c::crc32c_combine(id_sum, message.body_sum, message.body_bytes);
        let mut digits = [0; SUM_DIGITS];
        hex_into(u64::from(sum), &mut digits);
        out.reserve(self.wire_bytes(index));
        for part in [
            ID_FIELD,
            &text,
            SUM_FIELD,
            &digits,
            b"\r\n",
            &self.wire[message.start..message.end],
        ] {
            out.extend_from_slice(part);
        }
    }
}

fn too_many() -> String {
    format!(
        "more than {MESSAGES_MAX} messages or {} MiB, which are all held in memory; take a part",
        BYTES_MAX >> 20
    )
}

fn read_whole(path: &Path) -> Result<Vec<u8>, String> {
    let explain = |e: std::io::Error| e.to_string();
    let mut text = Vec::new();
    let file = fs::File::open(path).map_err(explain)?;
    let read = file.take(BYTES_MAX as u64 + 1).read_to_end(&mut text);
    if read.map_err(explain)? > BYTES_MAX {
        return Err(too_many());
    }
    Ok(text)
}

/// The first line of `text` without its end, and what follows.
fn next_line(text: &[u8]) -> (&[u8], &[u8]) {
    let Some(at) = memchr::memchr2(b'\r', b'\n', text) else {
        return (text, &[]);
    };
    let end = if text[at..].starts_with(b"\r\n") {
        2
    } else {
        1
    };
    (&text[..at], &text[at + end..])
}

/// `name: value`, or the continuation of such a line.
fn is_header_line(line: &[u8], first: bool) -> bool {
    match memchr::memchr(b':', line) {
        _ if line.starts_with(b" ") || line.starts_with(b"\t") => !first,
        Some(colon) if colon > 0 => line[..colon]
            .trim_ascii_end()
            .iter()
            .all(u8::is_ascii_graphic),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::{Checker, Verdict};
    use super::*;

    const ID: MessageId = MessageId {
        run: 7,
        sequence: 9,
    };

    fn built(corpus: &Corpus) -> Vec<Vec<u8>> {
        let build = |index| {
            let mut wire = Vec::new();
            corpus.build(index, ID, &mut wire);
            assert_eq!(wire.len(), corpus.wire_bytes(index));
            wire
        };
        (0..corpus.len() as u32).map(build).collect()
    }

    fn verdict(message: &[u8]) -> Verdict {
        let mut checker = Checker::default();
        checker.feed(message);
        checker.finish()
    }

    /// What stands behind the two fields.
    fn behind(wire: &[u8]) -> String {
        let text = String::from_utf8_lossy(wire).into_owned();
        let fields: Vec<&str> = text.splitn(3, "\r\n").collect();
        assert!(fields[0].starts_with("X-Loadgen-Id: ") && fields[1].len() == 23);
        fields[2].to_owned()
    }

    fn written(text: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("mail");
        fs::write(&path, text).expect("written");
        (dir, path)
    }

    #[test]
    fn line_ends_become_crlf_and_dots_are_stuffed() {
        let (_dir, path) = written(b"Subject: x\n folded\r\n\nbody\r.dot\n\n..\nlast");
        let (dots, left_out) = Corpus::read(&path, Framing::Dots).expect("a message");
        assert_eq!(left_out, LeftOut::default());
        assert_eq!(
            behind(&built(&dots)[0]),
            "Subject: x\r\n folded\r\n\r\nbody\r\n..dot\r\n\r\n...\r\nlast\r\n.\r\n"
        );
        let (chunk, _) = Corpus::read(&path, Framing::Chunk).expect("a message");
        let wire = built(&chunk).remove(0);
        assert!(behind(&wire).ends_with("body\r\n.dot\r\n\r\n..\r\nlast\r\n"));
        assert_eq!(verdict(&wire), Verdict::Whole(ID));
        // Behind the trace fields of a server, and with fields of the header gone.
        let stored = [b"Received: by x\r\n", &wire[..]].concat();
        assert_eq!(verdict(&stored), Verdict::Whole(ID));
        let body_at = wire.len() - 20;
        for at in body_at..wire.len() {
            let mut damaged = wire.clone();
            damaged[at] ^= 4;
            assert_eq!(verdict(&damaged), Verdict::Corrupt(Some(ID)), "at {at}");
        }
        assert_eq!(verdict(&wire[..wire.len() - 2]), Verdict::Corrupt(Some(ID)));
    }

    #[test]
    fn a_message_of_an_earlier_run_is_known_by_its_new_id() {
        let (_dir, path) = written(
            b"X-Loadgen-Id: 00000001-0000000000000002\nX-Loadgen-Sum: 12345678\nA: b\n\nold\n",
        );
        let (corpus, _) = Corpus::read(&path, Framing::Chunk).expect("a message");
        assert_eq!(verdict(&built(&corpus)[0]), Verdict::Whole(ID));
    }

    #[test]
    fn mbox_files_are_cut_and_unquoted() {
        let (_dir, path) = written(
            b"From a@b Thu Jan  1 00:00:00 1970\nA: 1\n\n>From here\n>>From there\n> From no\n\n\
              From a line that begins a message\nB: 2\n\ntext\nFrom inside\n\n\n\
              From c@d\nC: 3\n\n\n\
              From e@f\nno header\n",
        );
        let (corpus, left_out) = Corpus::read(&path, Framing::Chunk).expect("messages");
        let bodies: Vec<String> = built(&corpus).iter().map(|wire| behind(wire)).collect();
        assert_eq!(
            bodies,
            [
                "A: 1\r\n\r\nFrom here\r\n>From there\r\n> From no\r\n",
                "B: 2\r\n\r\ntext\r\nFrom inside\r\n\r\n",
                "C: 3\r\n\r\n"
            ]
        );
        assert_eq!(left_out.count, 1);
        assert!(left_out.named[0].contains("message 4: it does not begin with a header"));
    }

    #[test]
    fn folders_are_searched_and_what_is_no_mail_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let cur = dir.path().join("a/cur");
        fs::create_dir_all(&cur).expect("made");
        let long = ["A: b\n\n".to_owned(), "x".repeat(999)].concat();
        for (name, text) in [
            ("1.eml", "A: 1\n\none\n".as_bytes()),
            ("2", "B: 2\n\nz\u{fc}rich\n".as_bytes()),
            ("index", b"A: b\n\n\0"),
            ("long", long.as_bytes()),
            ("list", b"From x\nA: b\n\n"),
            ("short", b"A: b\n"),
        ] {
            fs::write(cur.join(name), text).expect("written");
        }
        let (corpus, left_out) = Corpus::read(dir.path(), Framing::Chunk).expect("messages");
        assert_eq!((corpus.len(), corpus.eight_bit_count()), (2, 1));
        assert!(!corpus.is_eight_bit(0) && corpus.is_eight_bit(1));
        assert_eq!(left_out.count, 4);
        let named = left_out.named.join("\n");
        for wanted in [
            "index: there is a NUL",
            "long: a line",
            "list: begins",
            "short: there is no",
        ] {
            assert!(named.contains(wanted), "{named}");
        }
    }

    #[test]
    fn nothing_to_send_is_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        for path in [dir.path().to_owned(), dir.path().join("none")] {
            let error = Corpus::read(&path, Framing::Chunk).expect_err("nothing there");
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }
}
