//! Lines of a text protocol: strict CRLF, bounded length.
//!
//! Guarantees: a line ends at CRLF and nowhere else (RFC 5321 §2.3.8); how the input is cut into
//! pieces never changes what comes out; at most `line_bytes_max` bytes are held, and none between
//! lines, so that an idle session has no buffer.
//! Does not know: commands.
//! On failure: over-long lines and lines with a bare CR come out as such once they have ended (who
//! does not want to wait asks for [`LineBuffer::line_bytes`]); a bare LF at once, for the peer may be
//! waiting for an answer to what it takes for a line.

use std::borrow::Cow;

/// The unfinished line of one session.
#[derive(Debug, Default)]
pub struct LineBuffer {
    /// Its bytes so far; empty if it can only be refused.
    partial: Vec<u8>,
    /// Bytes of it so far, those not kept included.
    line_bytes: usize,
    /// The last byte was CR (not in `partial` yet).
    after_cr: bool,
    /// There is a CR within the line.
    bare_cr: bool,
}

/// What [`LineBuffer::take`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line, without its CRLF.
    Complete(Cow<'a, [u8]>),
    /// A line of more than the allowed bytes has ended.
    TooLong,
    /// A line with a CR in its middle has ended.
    BareCr,
    /// An LF without a CR before it: here the peer and others may disagree on where a line ends,
    /// so that nothing behind it can be trusted to be a command.
    BareLf,
    /// The input is used up and the line not complete.
    Partial,
}

impl LineBuffer {
    /// Takes one line from the start of `input`; the first value is how many bytes that used.
    /// `line_bytes_max` counts the CRLF in.
    pub fn take<'a>(&mut self, input: &'a [u8], line_bytes_max: usize) -> (usize, Line<'a>) {
        let mut scanned = 0;
        if self.after_cr {
            match input.first() {
                None => return (0, Line::Partial),
                Some(b'\n') => return (1, self.finish(&[], line_bytes_max)),
                Some(_) => self.meet_bare_cr(1),
            }
        }
        while let Some(found) = memchr::memchr2(b'\r', b'\n', &input[scanned..]) {
            let end = scanned + found;
            if input[end] == b'\n' {
                *self = LineBuffer::default();
                return (end + 1, Line::BareLf);
            }
            match input.get(end + 1) {
                Some(b'\n') => return (end + 2, self.finish(&input[..end], line_bytes_max)),
                Some(_) => {
                    self.meet_bare_cr(0);
                    scanned = end + 1;
                }
                None => {
                    self.keep(&input[..end], line_bytes_max);
                    self.after_cr = true;
                    return (input.len(), Line::Partial);
                }
            }
        }
        self.keep(input, line_bytes_max);
        (input.len(), Line::Partial)
    }

    /// Nothing of a next line has been read.
    pub fn is_empty(&self) -> bool {
        self.line_bytes == 0 && !self.after_cr
    }

    /// Bytes of the unfinished line, those not kept included.
    pub fn line_bytes(&self) -> usize {
        self.line_bytes
    }

    /// Bytes of memory held.
    pub fn held_bytes(&self) -> usize {
        self.partial.capacity()
    }

    fn meet_bare_cr(&mut self, bytes_before: usize) {
        self.bare_cr = true;
        self.after_cr = false;
        self.line_bytes += bytes_before;
        self.partial = Vec::new();
    }

    fn keep(&mut self, piece: &[u8], line_bytes_max: usize) {
        self.line_bytes = self.line_bytes.saturating_add(piece.len());
        if self.bare_cr || self.line_bytes + 2 > line_bytes_max {
            self.partial = Vec::new();
        } else {
            self.partial.extend_from_slice(piece);
        }
    }

    fn finish<'a>(&mut self, tail: &'a [u8], line_bytes_max: usize) -> Line<'a> {
        let before = std::mem::take(self);
        if before.line_bytes.saturating_add(tail.len() + 2) > line_bytes_max {
            Line::TooLong
        } else if before.bare_cr {
            Line::BareCr
        } else if before.partial.is_empty() {
            Line::Complete(Cow::Borrowed(tail))
        } else {
            let mut line = before.partial;
            line.extend_from_slice(tail);
            Line::Complete(Cow::Owned(line))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All lines of `pieces`, and what is left unfinished.
    fn all(pieces: &[&[u8]], line_bytes_max: usize) -> (Vec<Line<'static>>, usize) {
        let mut buffer = LineBuffer::default();
        let mut lines = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            loop {
                let (consumed, line) = buffer.take(rest, line_bytes_max);
                rest = &rest[consumed..];
                assert!(buffer.partial.len() <= line_bytes_max);
                match line {
                    Line::Partial => {
                        assert!(rest.is_empty());
                        break;
                    }
                    Line::Complete(line) => {
                        lines.push(Line::Complete(Cow::Owned(line.into_owned())))
                    }
                    Line::TooLong => lines.push(Line::TooLong),
                    Line::BareCr => lines.push(Line::BareCr),
                    Line::BareLf => lines.push(Line::BareLf),
                }
            }
        }
        let left = buffer.line_bytes + usize::from(buffer.after_cr);
        (lines, left)
    }

    fn line(text: &str) -> Line<'static> {
        Line::Complete(Cow::Owned(text.as_bytes().to_vec()))
    }

    #[test]
    fn whole_lines_are_not_copied() {
        let (consumed, line) = LineBuffer::default().take(b"NOOP\r\nQUIT\r\n", 100);
        assert_eq!(consumed, 6);
        assert!(matches!(line, Line::Complete(Cow::Borrowed(b"NOOP"))));
    }

    #[test]
    fn only_crlf_ends_a_line() {
        assert_eq!(all(&[b"a\r\n\r\nb"], 9), (vec![line("a"), line("")], 1));
        assert_eq!(all(&[b"a\rb\r\nc\r\n"], 9).0, [Line::BareCr, line("c")]);
        assert_eq!(all(&[b"a\r\r\nc\r\n"], 9).0, [Line::BareCr, line("c")]);
        assert_eq!(all(&[b"a\nc\r\n"], 9).0, [Line::BareLf, line("c")]);
        assert_eq!(
            all(&[b"a\r", b"\nc\r", b"d\r\n"], 9).0,
            [line("a"), Line::BareCr]
        );
    }

    #[test]
    fn the_bound_counts_crlf() {
        assert_eq!(all(&[b"1234567\r\n"], 9).0, [line("1234567")]);
        assert_eq!(
            all(&[b"12345678\r\nok\r\n"], 9).0,
            [Line::TooLong, line("ok")]
        );
    }

    #[test]
    fn an_endless_line_holds_no_memory() {
        let mut buffer = LineBuffer::default();
        for _ in 0..1000 {
            assert_eq!(buffer.take(&[b'x'; 1000], 512), (1000, Line::Partial));
            assert_eq!(buffer.held_bytes(), 0);
        }
        assert_eq!(buffer.line_bytes(), 1_000_000);
        assert_eq!(buffer.take(b"\r\n", 512), (2, Line::TooLong));
        assert!(buffer.is_empty());
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(
            input in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a')], 0..60),
            cut_bytes in 1..7usize,
        ) {
            let whole = all(&[&input], 12);
            let pieces: Vec<&[u8]> = input.chunks(cut_bytes).collect();
            prop_assert_eq!(all(&pieces, 12), whole);
        }
    }
}
