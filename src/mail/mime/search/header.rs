//! Headers of any length, searched piece by piece.
//!
//! Pieces end between fields; only a field that is longer than a piece is cut, and then in front of a
//! space where it has one, so that no encoded word is torn. What is searched keeps its end for the next
//! piece: a match across two pieces is found.
//!
//! Guarantees: the answer of a search in the whole header, but for characters and encoded words that
//! are longer than [`PIECE_BYTES`] without a space; at most one piece is held.
//! Does not know: where the bytes come from.

use super::super::fields::{fields, line_name};
use super::super::fold::fold_into;
use super::super::text::decode_field;
use super::Needle;

/// Bytes of a header that are searched at once.
pub const PIECE_BYTES: usize = 128 * 1024;

/// Some bytes of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderPiece<'a> {
    /// They are.
    pub bytes: &'a [u8],
    /// It begins within a field: with what the piece before had no room for.
    pub continues: bool,
    /// It ends within a field.
    pub is_cut: bool,
}

impl<'a> HeaderPiece<'a> {
    /// A header that is at hand.
    pub fn whole(header: &'a [u8]) -> HeaderPiece<'a> {
        HeaderPiece {
            bytes: header,
            continues: false,
            is_cut: false,
        }
    }

    /// The fields, and what it has of those that it does not hold whole.
    pub(super) fn fragments(self) -> impl Iterator<Item = Fragment<'a>> {
        let (first, behind) = self.bytes.split_at(match self.continues {
            true => field_end(self.bytes),
            false => 0,
        });
        let first = Some(first).filter(|first| !first.is_empty());
        let first = first.map(|raw| (raw, true));
        let others = fields(behind).map(|field| (field.raw, false));
        let mut all = first.into_iter().chain(others).peekable();
        std::iter::from_fn(move || {
            let (raw, continues) = all.next()?;
            Some(Fragment {
                raw,
                continues,
                is_cut: self.is_cut && all.peek().is_none(),
            })
        })
    }
}

/// A field, or a part of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fragment<'a> {
    pub(super) raw: &'a [u8],
    pub(super) continues: bool,
    pub(super) is_cut: bool,
}

/// Where the field ends that goes on here.
fn field_end(bytes: &[u8]) -> usize {
    let mut end = 0;
    while end < bytes.len() {
        end += memchr::memchr(b'\n', &bytes[end..]).map_or(bytes.len() - end, |at| at + 1);
        if !matches!(bytes.get(end), Some(b' ' | b'\t')) {
            break;
        }
    }
    end
}

/// The end of what was decoded of a field that is cut.
#[derive(Debug, Default)]
pub(super) struct Seam {
    is_behind_word: bool,
}

impl Seam {
    /// Appends what a field, or a part of one, says; folded.
    pub(super) fn push(&mut self, text: &[u8], continues: bool, out: &mut Vec<u8>) {
        let trimmed = text.trim_ascii();
        // Spaces between encoded words mean nothing (RFC 2047 §6.2).
        let is_joined = self.is_behind_word && trimmed.starts_with(b"=?");
        if continues && !is_joined && text.first().is_some_and(u8::is_ascii_whitespace) {
            out.push(b' ');
        }
        fold_into(&decode_field(text), out);
        self.is_behind_word = trimmed.ends_with(b"?=");
    }
}

/// A header on its way through memory.
#[derive(Debug, Default)]
pub struct HeaderPieces {
    held: Vec<u8>,
    /// Bytes of it that have been given.
    given: usize,
    /// The next piece begins within a field.
    continues: bool,
}

impl HeaderPieces {
    /// Bytes that it takes now; 0: [`HeaderPieces::next`] comes first.
    pub fn room(&mut self) -> usize {
        self.held.drain(..std::mem::take(&mut self.given));
        PIECE_BYTES.saturating_sub(self.held.len())
    }

    /// Takes the next bytes of the header, at most [`HeaderPieces::room`].
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next piece, when there is no room any more or the header `is_complete`; `None`: that was all.
    pub fn next(&mut self, is_complete: bool) -> Option<HeaderPiece<'_>> {
        self.held.drain(..std::mem::take(&mut self.given));
        if self.held.is_empty() {
            return None;
        }
        let (end, is_cut) = match is_complete {
            true => (self.held.len(), false),
            false => cut(&self.held),
        };
        self.given = end;
        let continues = std::mem::replace(&mut self.continues, is_cut);
        Some(HeaderPiece {
            bytes: &self.held[..end],
            continues,
            is_cut,
        })
    }
}

/// How much of these bytes, which others follow, makes a piece, and whether that cuts a field.
fn cut(bytes: &[u8]) -> (usize, bool) {
    let is_space = |at: usize| matches!(bytes.get(at), Some(b' ' | b'\t'));
    let mut fold = None;
    for at in memchr::memrchr_iter(b'\n', bytes) {
        if at + 1 == bytes.len() {
            // Nobody knows what follows.
            continue;
        }
        if !is_space(at + 1) {
            return (at + 1, false);
        }
        // In front of the line break: it goes with the space behind it.
        let start = at - usize::from(at > 0 && bytes[at - 1] == b'\r');
        fold = fold.or(Some(start).filter(|start| *start > 0));
    }
    let space = || (1..bytes.len()).rev().find(|at| is_space(*at));
    let end = fold.or_else(space).unwrap_or_else(|| {
        // A character is not torn, where it is one.
        let is_start = |at: &usize| bytes[*at] & 0xc0 != 0x80;
        let from = bytes.len().saturating_sub(4).max(1);
        (from..bytes.len())
            .rev()
            .find(is_start)
            .unwrap_or(bytes.len())
    });
    (end, true)
}

/// SEARCH HEADER (RFC 9051 §6.4.4): does a field of this name hold a string? An empty one: is there
/// such a field?
#[derive(Debug)]
pub struct FieldSearch<'a> {
    name: &'a [u8],
    needle: &'a Needle,
    /// The field that goes on in the next piece has the name.
    is_in_field: bool,
    /// Folded; of what has been searched the end.
    folded: Vec<u8>,
    seam: Seam,
    is_found: bool,
}

impl<'a> FieldSearch<'a> {
    /// Nothing has been searched yet.
    pub fn new(name: &'a [u8], needle: &'a Needle) -> FieldSearch<'a> {
        FieldSearch {
            name,
            needle,
            is_in_field: false,
            folded: Vec::new(),
            seam: Seam::default(),
            is_found: false,
        }
    }

    /// There is such a field, in what has been fed.
    pub fn is_found(&self) -> bool {
        self.is_found
    }

    /// Takes the next piece of the header.
    pub fn feed(&mut self, piece: HeaderPiece<'_>) {
        for fragment in piece.fragments() {
            if self.is_found {
                return;
            }
            let mut text = fragment.raw;
            if !fragment.continues {
                let name = line_name(text);
                self.is_in_field = name.is_some_and(|name| name.eq_ignore_ascii_case(self.name));
                self.folded.clear();
                self.seam = Seam::default();
                let colon = memchr::memchr(b':', text);
                text = colon.map_or(text, |colon| &text[colon + 1..]);
            }
            if !self.is_in_field {
                continue;
            }
            self.seam.push(text, fragment.continues, &mut self.folded);
            let finder = &self.needle.finder;
            self.is_found = finder.find(&self.folded).is_some();
            let kept = finder.needle().len().saturating_sub(1);
            let gone = self.folded.len().saturating_sub(kept);
            self.folded.drain(..gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{TextSearch, all_of};
    use super::*;

    /// The header in pieces, with what is asked of each.
    fn in_pieces(header: &[u8], mut each: impl FnMut(HeaderPiece<'_>)) -> usize {
        let (mut pieces, mut rest, mut count) = (HeaderPieces::default(), header, 0);
        loop {
            let room = pieces.room().min(rest.len());
            pieces.push(&rest[..room]);
            rest = &rest[room..];
            let Some(piece) = pieces.next(rest.is_empty()) else {
                return count;
            };
            assert!((1..=PIECE_BYTES).contains(&piece.bytes.len()));
            count += 1;
            each(piece);
        }
    }

    fn text(header: &[u8], string: &str) -> bool {
        let needles = [Needle::new(string)];
        let (mut search, mut found) = (TextSearch::default(), 0);
        search.begin_header();
        in_pieces(header, |piece| {
            found |= search.feed_header(&needles, all_of(&needles), piece);
        });
        let whole = search.whole_header(&needles, all_of(&needles), header);
        assert_eq!(found, whole, "{string}");
        found == 1
    }

    fn field(header: &[u8], name: &str, string: &str) -> bool {
        let needle = Needle::new(string);
        let mut search = FieldSearch::new(name.as_bytes(), &needle);
        in_pieces(header, |piece| search.feed(piece));
        let mut whole = FieldSearch::new(name.as_bytes(), &needle);
        whole.feed(HeaderPiece::whole(header));
        assert_eq!(search.is_found(), whole.is_found(), "{name}: {string}");
        search.is_found()
    }

    #[test]
    fn pieces_end_between_fields() {
        let line = |index: usize| {
            let long = "a".repeat(500);
            format!("X-{index}: {long}\r\n {long}\r\n").into_bytes()
        };
        let header: Vec<u8> = (0..1000).flat_map(line).collect();
        let mut all = Vec::new();
        let count = in_pieces(&header, |piece| {
            assert!(!(piece.continues || piece.is_cut));
            assert!(piece.bytes.starts_with(b"X-") && piece.bytes.ends_with(b"a\r\n"));
            all.extend_from_slice(piece.bytes);
        });
        assert_eq!(all, header);
        assert_eq!(count, header.len().div_ceil(PIECE_BYTES));
        // A string may lie across the end of a field.
        for index in (1..1000).step_by(50) {
            assert!(text(&header, &format!("aaa\r\nx-{index}:")), "{index}");
        }
    }

    #[test]
    fn long_fields_are_cut_where_nothing_is_torn() {
        // Longer than two pieces each: folded, not folded, without any space, and of encoded words.
        let words: Vec<String> = (0..40_000).map(|index| format!("w{index:06}")).collect();
        let encoded: Vec<String> = (0..15_000)
            .map(|index| format!("=?utf-8?Q?=C3=BC{index:05}?="))
            .collect();
        let header = format!(
            "Folded: {}\r\nLong: {}\r\nWhole: {}\r\nEncoded: {}\r\nLast: the end\r\n\r\n",
            words.join("\r\n "),
            words.join(" "),
            "é".repeat(150_000),
            encoded.join("\r\n "),
        );
        let header = header.as_bytes();
        let mut cuts = 0;
        in_pieces(header, |piece| cuts += u32::from(piece.is_cut));
        assert!(cuts >= 8, "{cuts}");
        for name in ["folded", "LONG"] {
            for index in (0..39_999).step_by(3001).chain([39_998]) {
                let string = format!("{} {}", words[index], words[index + 1]);
                assert!(field(header, name, &string), "{name}: {string}");
            }
            assert!(!field(header, name, "w000001 w000003"));
            assert!(field(header, name, ""));
        }
        for index in (0..14_999).step_by(1499) {
            let string = format!("ü{index:05}ü{:05}", index + 1);
            assert!(field(header, "Encoded", &string), "{string}");
            assert!(text(header, &string), "{string}");
        }
        // Wherever the cuts are, nothing is missing there.
        let decoded = words.join(" ");
        for name in ["folded", "long"] {
            assert!(field(header, name, &decoded), "all of {name}");
        }
        let decoded: Vec<String> = (0..15_000).map(|index| format!("ü{index:05}")).collect();
        assert!(field(header, "encoded", &decoded.concat()));
        assert!(field(header, "Whole", &"É".repeat(150_000)));
        assert!(!field(header, "Whole", &"É".repeat(150_001)));
        assert!(!field(header, "Whole", "e"));
        assert!(!field(header, "Last", "w000001"));
        assert!(field(header, "last", "the end"));
        assert!(text(header, "last: the END"));
        assert!(!field(header, "Nowhere", ""));
    }
}
