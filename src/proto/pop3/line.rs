//! One command line at a time, out of pieces of any size.
//!
//! Guarantees: holds at most `limits::POP3_LINE_BYTES_MAX` bytes, and none between lines; bytes it
//! held are wiped, because they may be a password. (The receive buffers of the shard are reused,
//! not wiped.)
//! Does not know: commands.
//! On failure: an over-long line is reported once, when its end is there; one without an end in
//! sight at `limits::ENDLESS_LINE_BYTES`.
//!
//! RFC 1939 ends lines with CRLF. A lone LF is taken as well, as Dovecot and others do: old clients
//! send it, and in POP3 no line is ever passed on to anybody, so nothing can be smuggled by it.

use memchr::memchr;
use zeroize::{Zeroize, Zeroizing};

use super::super::sasl::push_secret;
use crate::limits::{ENDLESS_LINE_BYTES, POP3_LINE_BYTES_MAX};

/// The line that has begun to arrive.
#[derive(Default)]
pub(super) struct LineBuffer {
    partial: Vec<u8>,
    /// The line is over-long: so many of its bytes were dropped, and all up to its end will be.
    skipped_bytes: usize,
}

/// What the input holds next.
pub(super) enum Line {
    /// All input was taken, the line's end is not there yet.
    Incomplete,
    /// A line was longer than allowed, and is over.
    TooLong,
    /// A line is much longer than allowed, and is not over.
    Endless,
    /// A line without its end. Wiped when dropped.
    Complete(Zeroizing<Vec<u8>>),
}

impl LineBuffer {
    /// Bytes of memory held.
    pub(super) fn held_bytes(&self) -> usize {
        self.partial.capacity()
    }

    /// Takes bytes up to the end of a line, or all of them; returns how many.
    pub(super) fn take(&mut self, input: &[u8]) -> (usize, Line) {
        let end = memchr(b'\n', input);
        let taken = end.map_or(input.len(), |index| index + 1);
        // An unfinished line that is as long as allowed cannot end within the bound any more.
        let bytes_max = POP3_LINE_BYTES_MAX - usize::from(end.is_none());
        if self.skipped_bytes > 0 || self.partial.len() + taken > bytes_max {
            let skipped_bytes = self
                .skipped_bytes
                .saturating_add(self.partial.len() + taken);
            self.partial.zeroize();
            self.partial = Vec::new();
            self.skipped_bytes = if end.is_none() { skipped_bytes } else { 0 };
            return match end {
                Some(_) => (taken, Line::TooLong),
                None if skipped_bytes > ENDLESS_LINE_BYTES => (taken, Line::Endless),
                None => (taken, Line::Incomplete),
            };
        }
        push_secret(&mut self.partial, &input[..taken]);
        if end.is_none() {
            return (taken, Line::Incomplete);
        }
        let mut line = Zeroizing::new(std::mem::take(&mut self.partial));
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        (taken, Line::Complete(line))
    }
}

impl Drop for LineBuffer {
    fn drop(&mut self) {
        self.partial.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
        let mut buffer = LineBuffer::default();
        let mut found = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let (taken, line) = buffer.take(rest);
                rest = &rest[taken..];
                match line {
                    Line::Incomplete => assert!(rest.is_empty()),
                    Line::TooLong => found.push(None),
                    Line::Endless => panic!("no line here is that long"),
                    Line::Complete(line) => found.push(Some(line.to_vec())),
                }
                assert!(buffer.partial.len() < POP3_LINE_BYTES_MAX);
            }
        }
        found
    }

    #[test]
    fn the_bound_counts_the_line_end() {
        let mut fits = vec![b'x'; POP3_LINE_BYTES_MAX - 2];
        fits.extend_from_slice(b"\r\n");
        let mut over = vec![b'x'; POP3_LINE_BYTES_MAX - 1];
        over.extend_from_slice(b"\r\n");
        let all = [&fits[..], &over, b"\n", &fits, &over, &over, b"NOOP\r\n"].concat();
        let fit = Some(fits[..fits.len() - 2].to_vec());
        let expected = vec![
            fit.clone(),
            None,
            Some(vec![]),
            fit,
            None,
            None,
            Some(b"NOOP".to_vec()),
        ];
        for piece_bytes in [1, 2, 7, 1000, 4095, 4096, 4097, all.len()] {
            let pieces: Vec<&[u8]> = all.chunks(piece_bytes).collect();
            assert_eq!(lines(&pieces), expected, "in pieces of {piece_bytes}");
        }
    }

    #[test]
    fn takes_both_line_ends_and_keeps_the_rest() {
        let found = lines(&[b"a\r\nb\nc\r\r\n\rd\n\n"]);
        let expected = [&b"a"[..], b"b", b"c\r", b"\rd", b""];
        assert_eq!(found, expected.map(|line| Some(line.to_vec())));
    }

    #[test]
    fn holds_nothing_between_lines() {
        let mut buffer = LineBuffer::default();
        buffer.take(b"PASS sec");
        buffer.take(b"ret\r\n");
        assert_eq!(buffer.partial.capacity(), 0);
    }
}
