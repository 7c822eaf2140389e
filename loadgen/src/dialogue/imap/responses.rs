//! Cuts what an IMAP server says into lines and literals (RFC 9051 §4.3, §7), in pieces of any size.
//!
//! Guarantees: a literal's bytes are handed on as they come and never kept; the text of one line is
//! kept only while it is not whole, up to [`LINE_BYTES_MAX`].
//! Does not know: commands, what a response means.

use crate::dialogue::lines::{Lines, Nonsense, nonsense};

/// Bytes of a line: a SEARCH response that names a hundred thousand messages fits.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// Bytes of a literal that are believed.
const LITERAL_BYTES_MAX: u64 = 1 << 32;

/// A part of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A line, or the part of one before or behind a literal.
    Text {
        /// Without its end; with the announcement of the literal that follows.
        text: &'a [u8],
        /// It begins a response.
        first: bool,
        /// It ends a response: no literal follows.
        last: bool,
    },
    /// Bytes of a literal.
    Literal(&'a [u8]),
    /// A literal is at its end; more text follows.
    LiteralEnd,
}

/// Reads responses.
#[derive(Debug, Default)]
pub struct Responses {
    lines: Lines,
    /// Bytes of the literal still to come.
    literal: Option<u64>,
    /// The next text continues a response.
    inside: bool,
}

impl Responses {
    /// The next piece, taken from the front of `input`; `None` when `input` is used up.
    ///
    /// # Errors
    /// When a line or a literal is too long to be one.
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Piece<'a>>, Nonsense> {
        match self.literal {
            Some(0) => {
                self.literal = None;
                return Ok(Some(Piece::LiteralEnd));
            }
            Some(left) => {
                if input.is_empty() {
                    return Ok(None);
                }
                let count = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                let (bytes, rest) = input.split_at(count);
                *input = rest;
                self.literal = Some(left - count as u64);
                return Ok(Some(Piece::Literal(bytes)));
            }
            None => {}
        }
        let Some(text) = self.lines.next_within(input, LINE_BYTES_MAX)? else {
            return Ok(None);
        };
        let first = !self.inside;
        let announced = if first && is_free_text(text) {
            None
        } else {
            literal_bytes(text)
        };
        if announced.is_some_and(|bytes| bytes > LITERAL_BYTES_MAX) {
            return Err(nonsense(text));
        }
        self.literal = announced;
        self.inside = announced.is_some();
        Ok(Some(Piece::Text {
            text,
            first,
            last: announced.is_none(),
        }))
    }
}

/// Responses that end in text for people, which may look like anything: the tagged ones, `+`, and
/// `* OK` and its like (RFC 9051 §7.1).
fn is_free_text(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(b"* ") else {
        return true;
    };
    let word = rest.split(|&byte| byte == b' ').next().unwrap_or_default();
    [&b"OK"[..], b"NO", b"BAD", b"BYE", b"PREAUTH"]
        .iter()
        .any(|status| word.eq_ignore_ascii_case(status))
}

/// The size in `{123}` or `{123+}` at the end of `line`.
fn literal_bytes(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"}")?;
    let line = line.strip_suffix(b"+").unwrap_or(line);
    let open = line.iter().rposition(|&byte| byte == b'{')?;
    let digits = &line[open + 1..];
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out, literals in one piece.
    fn read(text: &[u8], piece: usize) -> Result<Vec<String>, Nonsense> {
        let (mut responses, mut out, mut literal) = (Responses::default(), Vec::new(), Vec::new());
        for mut bytes in text.chunks(piece) {
            while let Some(piece) = responses.next(&mut bytes)? {
                match piece {
                    Piece::Text { text, first, last } => out.push(format!(
                        "{}{}{}",
                        if first { "" } else { "..." },
                        String::from_utf8_lossy(text),
                        if last { "" } else { "..." }
                    )),
                    Piece::Literal(bytes) => literal.extend_from_slice(bytes),
                    Piece::LiteralEnd => {
                        out.push(format!("<{}>", String::from_utf8_lossy(&literal)));
                        literal.clear();
                    }
                }
            }
        }
        Ok(out)
    }

    #[test]
    fn literals_in_any_pieces() {
        let text = b"* OK hi {3}\r\n* 1 FETCH (BODY[] {6}\r\na\r\n}\r\n FLAGS (\\Seen))\r\n\
            * 2 FETCH (A {0}\r\n B {2+}\r\nxy)\r\na1 OK done {9}\r\n+ idling {1}\r\n";
        for piece in 1..=text.len() {
            let found = read(text, piece).expect("responses");
            assert_eq!(
                found,
                [
                    "* OK hi {3}",
                    "* 1 FETCH (BODY[] {6}...",
                    "<a\r\n}\r\n>",
                    "... FLAGS (\\Seen))",
                    "* 2 FETCH (A {0}...",
                    "<>",
                    "... B {2+}...",
                    "<xy>",
                    "...)",
                    "a1 OK done {9}",
                    "+ idling {1}",
                ],
                "by {piece}"
            );
        }
    }

    #[test]
    fn what_is_too_long_is_told() {
        let long = vec![b'x'; LINE_BYTES_MAX + 2];
        assert!(read(&long, 4096).is_err());
        assert!(read(b"* 1 FETCH (BODY[] {99999999999}\r\n", 100).is_err());
        // No size at all: a line like any other.
        assert_eq!(read(b"* X {}\r\n", 3).expect("a line"), ["* X {}"]);
    }
}
