//! SEARCH: does a text hold a string, whatever the case, the charset and the encoding?
//!
//! Text goes through a window in memory: transfer encoding off, to UTF-8, case folded, and then one
//! vector search. Every byte is looked at once, so the time is linear for any text and any string.
//!
//! Guarantees: the answer of a plain search of the folded string in the folded, decoded text;
//! memory bounded by the windows, but for texts in charsets other than UTF-8 and ISO-8859-1,
//! which are decoded up to [`CHARSET_BYTES`] at a time.
//! Does not know: which messages to look at, and when to pause.

mod header;

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::decode::TransferDecoder;
use super::fields::line_name;
use super::fold::{fold_char, fold_into, push_lowercase};
use super::parts::{Charset, Encoding, Kind, Part, Parts};
use super::preview::charset_name;
use super::text::decoder;
pub use header::{FieldSearch, HeaderPiece, HeaderPieces};

/// Bytes of a part that are decoded at a time.
const WINDOW_BYTES: usize = 32 * 1024;
/// Bytes of text in other charsets that are decoded at a time: a character that lies across such
/// a border is not found.
pub const CHARSET_BYTES: usize = 1024 * 1024;
/// Bytes of a character in UTF-8 that may still be incomplete.
const CHARACTER_BYTES_MAX: usize = 4;

/// A string to search for, prepared once for all messages.
#[derive(Debug, Clone)]
pub struct Needle {
    finder: Finder<'static>,
    /// The same in the bytes of [`Latin1`]; `None`: no text in that charset can hold it.
    latin1: Option<Finder<'static>>,
}

impl Needle {
    /// Prepares a string; an empty one is in every text. Its length is the caller's to bound
    /// ([`crate::limits::SEARCH_STRING_BYTES_MAX`]).
    pub fn new(text: &str) -> Needle {
        let mut folded = Vec::new();
        fold_into(text, &mut folded);
        let latin1: Option<Vec<u8>> = text.chars().map(|it| LATIN1.byte(fold_char(it))).collect();
        Needle {
            finder: Finder::new(&folded).into_owned(),
            latin1: latin1.map(|bytes| Finder::new(&bytes).into_owned()),
        }
    }

    /// `text` holds the string.
    pub fn is_in(&self, text: &str) -> bool {
        let mut folded = Vec::with_capacity(text.len());
        fold_into(text, &mut folded);
        self.finder.find(&folded).is_some()
    }
}

/// Searches messages; its buffers serve one after the other.
#[derive(Debug)]
pub struct TextSearch {
    decode: Decode,
    encoding: Encoding,
    transfer: TransferDecoder,
    /// Without transfer encoding; what has not been folded.
    decoded: Vec<u8>,
    /// Folded; the last bytes of what has been searched stay, for matches across windows.
    folded: Vec<u8>,
    seam: header::Seam,
}

/// How bytes become text.
#[derive(Debug, Clone, Copy)]
enum Decode {
    Utf8,
    Latin1,
    Other(fn(&[u8]) -> String),
}

impl Default for TextSearch {
    fn default() -> TextSearch {
        TextSearch {
            decode: Decode::Utf8,
            encoding: Encoding::Identity,
            transfer: TransferDecoder::new(Encoding::Identity),
            decoded: Vec::new(),
            folded: Vec::new(),
            seam: header::Seam::default(),
        }
    }
}

impl TextSearch {
    /// SEARCH TEXT and SEARCH BODY: which of up to 64 strings the headers of parts or the texts in them
    /// hold, decoded, and of those in `with_header` the message's own header; a bit for each. `parts`
    /// are those of `message`. What is neither text nor a header is not looked at.
    pub fn message(
        &mut self,
        needles: &[Needle],
        with_header: u64,
        message: &[u8],
        parts: &Parts,
    ) -> u64 {
        let bytes = |range: &Range<u32>| {
            let range = range.start as usize..range.end as usize;
            message.get(range).unwrap_or_default()
        };
        let all = all_of(needles);
        let mut found = 0;
        for (index, part) in parts.as_slice().iter().enumerate() {
            let header = bytes(&part.header);
            let counts = if index > 0 { all } else { with_header };
            found |= self.whole_header(needles, counts & !found, header);
            if part.kind == Kind::Text && found != all {
                self.begin_text(part, header);
                found |= self.feed_text(needles, all & !found, bytes(&part.body), true);
            }
            if found == all {
                break;
            }
        }
        found
    }

    /// Which of the `wanted` strings all fields of a header hold, each as a line `Name: value`,
    /// unfolded and decoded.
    pub fn whole_header(&mut self, needles: &[Needle], wanted: u64, header: &[u8]) -> u64 {
        self.begin_header();
        self.feed_header(needles, wanted, HeaderPiece::whole(header))
    }

    /// Gets ready for a header that comes in pieces.
    pub fn begin_header(&mut self) {
        self.decode = Decode::Utf8;
        self.seam = header::Seam::default();
        self.folded.clear();
    }

    /// Takes the next piece of a header; which of the `wanted` strings it, with what came before it,
    /// holds, as in [`TextSearch::whole_header`].
    pub fn feed_header(&mut self, needles: &[Needle], wanted: u64, piece: HeaderPiece<'_>) -> u64 {
        if wanted == 0 {
            return 0;
        }
        if is_plain(piece.bytes) {
            // Unfolding is all there is to do; one search for all fields.
            let end = header_end(piece.bytes);
            push_unfolded(&piece.bytes[..end], &mut self.folded);
            self.seam = header::Seam::default();
        } else {
            for fragment in piece.fragments() {
                self.push_fragment(fragment);
            }
        }
        self.found(needles, wanted)
    }

    fn push_fragment(&mut self, fragment: header::Fragment<'_>) {
        let raw = fragment.raw;
        let mut text = raw;
        if !fragment.continues {
            self.seam = header::Seam::default();
        }
        if is_plain(raw) {
            push_unfolded(raw, &mut self.folded);
            return;
        }
        if !fragment.continues {
            let colon = line_name(raw).and_then(|_| memchr::memchr(b':', raw));
            let Some(colon) = colon else {
                push_lossy(raw, &mut self.folded);
                return;
            };
            push_lossy(&raw[..=colon], &mut self.folded);
            self.folded.push(b' ');
            text = &raw[colon + 1..];
        }
        let Self { seam, folded, .. } = self;
        seam.push(text, fragment.continues, folded);
        if !fragment.is_cut {
            folded.extend_from_slice(b"\r\n");
        }
    }

    /// Gets ready for the text of a part whose body comes in pieces.
    pub fn begin_text(&mut self, part: &Part, header: &[u8]) {
        self.decode = match part.charset {
            Charset::Utf8 => Decode::Utf8,
            Charset::Latin1 => Decode::Latin1,
            Charset::Other => match decoder(&charset_name(part, header)) {
                None => Decode::Utf8,
                Some(decode) => Decode::Other(decode),
            },
        };
        self.encoding = part.encoding;
        self.transfer = TransferDecoder::new(part.encoding);
        self.decoded.clear();
        self.folded.clear();
    }

    /// Takes the next piece of the body; which of the `wanted` strings it, with what came before it,
    /// holds.
    pub fn feed_text(
        &mut self,
        needles: &[Needle],
        wanted: u64,
        piece: &[u8],
        is_last: bool,
    ) -> u64 {
        let mut found = 0;
        let mut wanted = wanted;
        if matches!(self.decode, Decode::Latin1) {
            // No text in this charset can hold the others.
            wanted = bits(needles, wanted).fold(0, |wanted, (bit, needle)| {
                wanted | u64::from(needle.latin1.is_some()) << bit
            });
        }
        if wanted == 0 {
            return 0;
        }
        let mut windows = piece.chunks(WINDOW_BYTES).peekable();
        while let Some(window) = windows.next() {
            let is_last = is_last && windows.peek().is_none();
            if self.encoding == Encoding::Identity && self.decoded.is_empty() {
                // Nothing is in front of it, so it is folded where it is.
                let used = push_text(window, self.decode, is_last, &mut self.folded);
                self.decoded.extend_from_slice(&window[used..]);
            } else {
                self.transfer.feed(window, &mut self.decoded);
                self.fold_decoded(is_last);
            }
            if is_last {
                break;
            }
            found |= self.found(needles, wanted & !found);
            if found == wanted {
                return found;
            }
        }
        if is_last {
            self.fold_decoded(true);
        }
        found | self.found(needles, wanted & !found)
    }

    fn fold_decoded(&mut self, is_last: bool) {
        if is_last {
            self.transfer.finish(&mut self.decoded);
        }
        let used = push_text(&self.decoded, self.decode, is_last, &mut self.folded);
        self.decoded.drain(..used);
    }

    /// Searches what is folded, and leaves as much of it as a match may have begun in.
    fn found(&mut self, needles: &[Needle], wanted: u64) -> u64 {
        let (mut found, mut kept) = (0, 0);
        for (bit, needle) in bits(needles, wanted) {
            let finder = match self.decode {
                Decode::Latin1 => needle.latin1.as_ref(),
                Decode::Utf8 | Decode::Other(_) => Some(&needle.finder),
            };
            let Some(finder) = finder else { continue };
            if finder.find(&self.folded).is_some() {
                found |= 1 << bit;
            }
            kept = kept.max(finder.needle().len().saturating_sub(1));
        }
        let gone = self.folded.len().saturating_sub(kept);
        self.folded.drain(..gone);
        found
    }
}

/// A bit for each string.
fn all_of(needles: &[Needle]) -> u64 {
    (0..needles.len().min(64)).fold(0, |all, bit| all | 1 << bit)
}

/// The strings whose bit is set, with their bits.
fn bits(needles: &[Needle], wanted: u64) -> impl Iterator<Item = (usize, &Needle)> {
    let all = needles.iter().enumerate().take(64);
    all.filter(move |(bit, _)| wanted >> bit & 1 == 1)
}

/// There is nothing to decode.
fn is_plain(header: &[u8]) -> bool {
    header.is_ascii() && memchr::memmem::find(header, b"=?").is_none()
}

/// Where the fields of a header end: the empty line is not part of any.
fn header_end(header: &[u8]) -> usize {
    for end in [&b"\r\n\r\n"[..], b"\n\n"] {
        if header.ends_with(end) {
            return header.len() - end.len() / 2;
        }
    }
    match header {
        b"\r\n" | b"\n" => 0,
        _ => header.len(),
    }
}

/// Folds ASCII, line breaks in front of spaces left out.
fn push_unfolded(header: &[u8], out: &mut Vec<u8>) {
    let mut start = 0;
    for at in memchr::memchr_iter(b'\n', header) {
        if matches!(header.get(at + 1), Some(b' ' | b'\t')) {
            let end = if header[start..at].ends_with(b"\r") {
                at - 1
            } else {
                at
            };
            push_lowercase(&header[start..end], out);
            start = at + 1;
        }
    }
    push_lowercase(&header[start..], out);
}

fn push_lossy(bytes: &[u8], out: &mut Vec<u8>) {
    fold_into(&String::from_utf8_lossy(bytes), out);
}

/// Windows-1252 and with it ISO-8859-1. Its texts stay in it: folding is a look into a table, and
/// the string that is searched for is turned into the same bytes.
struct Latin1 {
    /// What each byte's character folds to.
    folded: [char; 256],
    /// For each byte, the first of those that fold to the same.
    first: [u8; 256],
}

static LATIN1: LazyLock<Latin1> = LazyLock::new(|| {
    let decode = decoder(b"windows-1252");
    let folded: [char; 256] = std::array::from_fn(|byte| {
        let decoded = decode.and_then(|decode| decode(&[byte as u8]).chars().next());
        fold_char(decoded.unwrap_or(char::from(byte as u8)))
    });
    let first = std::array::from_fn(|byte| {
        let same = folded.iter().position(|it| *it == folded[byte]);
        same.unwrap_or(byte) as u8
    });
    Latin1 { folded, first }
});

impl Latin1 {
    /// The byte that stands for a folded character.
    fn byte(&self, folded: char) -> Option<u8> {
        let index = self.folded.iter().position(|it| *it == folded);
        index.map(|index| index as u8)
    }
}

/// Appends the folded text of `bytes`, of Latin-1 its folded bytes; returns how many it took: all, but for a character
/// that is not complete and may become so.
fn push_text(bytes: &[u8], decode: Decode, is_last: bool, out: &mut Vec<u8>) -> usize {
    match decode {
        Decode::Latin1 => {
            let first = &LATIN1.first;
            out.extend(bytes.iter().map(|byte| first[usize::from(*byte)]));
            bytes.len()
        }
        Decode::Other(decode) => {
            if !is_last && bytes.len() < CHARSET_BYTES {
                return 0;
            }
            fold_into(&decode(bytes), out);
            bytes.len()
        }
        Decode::Utf8 => {
            let used = match is_last {
                true => bytes.len(),
                false => complete_prefix(bytes),
            };
            match simdutf8::basic::from_utf8(&bytes[..used]) {
                Ok(text) => fold_into(text, out),
                Err(_) => push_lossy(&bytes[..used], out),
            }
            used
        }
    }
}

/// Bytes up to a character at the end that more bytes could complete.
fn complete_prefix(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(CHARACTER_BYTES_MAX - 1);
    let is_start = |byte: &u8| *byte >= 0xc0;
    match bytes[tail..].iter().rposition(is_start) {
        Some(at) if std::str::from_utf8(&bytes[tail + at..]).is_err() => tail + at,
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests;
