//! A stored message on its way into a multi-line response (RFC 1939 §3): dots, the end, TOP.
//!
//! Guarantees: for any division of a message into pieces the output is the same; runs between
//! dots are copied whole.
//! Does not know: numbers, sizes, where the bytes come from.
//!
//! A stored line ends in CRLF. Bare LFs can only come with BINARYMIME, for which POP3 has no
//! form; since nearly every client takes LF for a line end, a dot behind one is doubled too: a
//! client would otherwise take it for the end of the message, and mail for replies.

use memchr::{memchr, memmem};

/// Doubles the dots at line starts and ends the response.
#[derive(Debug)]
pub struct DotStuffer {
    /// The last two bytes so far; CRLF at the start of a message.
    tail: [u8; 2],
}

impl Default for DotStuffer {
    fn default() -> Self {
        DotStuffer { tail: *b"\r\n" }
    }
}

impl DotStuffer {
    /// Appends the next piece of the message to `out`.
    pub fn stuff(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let Some(&first) = piece.first() else {
            return;
        };
        out.reserve(piece.len());
        if first == b'.' && self.tail[1] == b'\n' {
            out.push(b'.');
        }
        let mut copied = 0;
        for line_feed in memmem::find_iter(piece, b"\n.") {
            out.extend_from_slice(&piece[copied..=line_feed]);
            out.push(b'.');
            copied = line_feed + 1;
        }
        out.extend_from_slice(&piece[copied..]);
        self.tail = match piece {
            [.., a, b] => [*a, *b],
            [.., b] => [self.tail[1], *b],
            [] => self.tail,
        };
    }

    /// Ends the response: a CRLF where the message has none at its end, and the dot.
    pub fn finish(self, out: &mut Vec<u8>) {
        if self.tail != *b"\r\n" {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

/// Finds where TOP ends: header, empty line, and so many lines of the body (RFC 1939 §7).
#[derive(Debug)]
pub struct TopScanner {
    in_header: bool,
    body_lines_left: u32,
    /// The line that has begun holds nothing yet, or a lone CR.
    line_is_empty: bool,
}

impl TopScanner {
    /// For `TOP n lines`.
    pub fn new(body_lines: u32) -> TopScanner {
        TopScanner {
            in_header: true,
            body_lines_left: body_lines,
            line_is_empty: true,
        }
    }

    /// How many bytes of the next piece belong to the answer. Fewer than all of it: the rest of
    /// the message is not wanted; see also [`TopScanner::is_done`].
    pub fn scan(&mut self, piece: &[u8]) -> usize {
        let mut at = 0;
        while !self.is_done() && at < piece.len() {
            let line_feed = memchr(b'\n', &piece[at..]);
            let text = &piece[at..line_feed.map_or(piece.len(), |length| at + length)];
            // A CR counts as nothing wherever it stands: only a header made of lone CRs could tell.
            self.line_is_empty &= text.iter().all(|&byte| byte == b'\r');
            at += text.len();
            if line_feed.is_some() {
                at += 1;
                if !self.in_header {
                    self.body_lines_left -= 1;
                } else if self.line_is_empty {
                    self.in_header = false;
                }
                self.line_is_empty = true;
            }
        }
        at
    }

    /// Everything wanted has been seen.
    pub fn is_done(&self) -> bool {
        !self.in_header && self.body_lines_left == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stuff(pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut stuffer = DotStuffer::default();
        for piece in pieces {
            stuffer.stuff(piece, &mut out);
        }
        stuffer.finish(&mut out);
        out
    }

    /// What a client does with a response, strictly by the RFC.
    fn unstuff(response: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        let mut rest = response;
        while rest != b".\r\n" {
            let end = memmem::find(rest, b"\r\n").expect("a dot ends the response") + 2;
            let line = &rest[..end];
            message.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            rest = &rest[end..];
        }
        message
    }

    fn top(message: &[u8], lines: u32, piece_bytes: usize) -> Vec<u8> {
        let mut scanner = TopScanner::new(lines);
        let mut seen = Vec::new();
        for piece in message.chunks(piece_bytes) {
            let wanted = scanner.scan(piece);
            seen.extend_from_slice(&piece[..wanted]);
            if scanner.is_done() {
                break;
            }
            assert_eq!(wanted, piece.len());
        }
        seen
    }

    #[test]
    fn doubles_dots_and_ends_the_message() {
        assert_eq!(stuff(&[b""]), b".\r\n");
        assert_eq!(stuff(&[b"."]), b"..\r\n.\r\n");
        assert_eq!(stuff(&[b".\r\n"]), b"..\r\n.\r\n");
        assert_eq!(stuff(&[b"a.b\r\n.c\r\n"]), b"a.b\r\n..c\r\n.\r\n");
        assert_eq!(stuff(&[b"a\r\n", b".b"]), b"a\r\n..b\r\n.\r\n");
        assert_eq!(stuff(&[b"a\r", b"\n", b"", b"."]), b"a\r\n..\r\n.\r\n");
        assert_eq!(stuff(&[b"bare\n.lf\n"]), b"bare\n..lf\n\r\n.\r\n");
        assert_eq!(stuff(&[b"a\r"]), b"a\r\r\n.\r\n");
    }

    #[test]
    fn top_stops_after_header_and_lines() {
        let message = b"A: b\r\nC: d\r\n\r\none\r\ntwo\r\nthree";
        for piece_bytes in 1..=message.len() {
            for (lines, wanted) in [
                (0, &message[..14]),
                (1, &message[..19]),
                (2, &message[..24]),
                (3, &message[..]),
                (u32::MAX, &message[..]),
            ] {
                assert_eq!(top(message, lines, piece_bytes), wanted, "{lines} lines");
            }
        }
    }

    #[test]
    fn top_of_odd_messages() {
        assert_eq!(top(b"", 3, 1), b"");
        assert_eq!(top(b"\r\nbody\r\n", 0, 3), b"\r\n");
        assert_eq!(top(b"A: header only\r\n", 0, 4), b"A: header only\r\n");
        assert_eq!(top(b"A: b\n\nbody\nmore\n", 1, 2), b"A: b\n\nbody\n");
    }

    /// Few kinds of bytes, so that every seam occurs.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(&b".\r\nab"[..]), 0..60)
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(message in bytes(), piece_bytes in 1usize..20, lines in 0u32..5) {
            let pieces: Vec<&[u8]> = message.chunks(piece_bytes).collect();
            prop_assert_eq!(stuff(&pieces), stuff(&[&message]));
            prop_assert_eq!(top(&message, lines, piece_bytes), top(&message, lines, 60));
        }

        #[test]
        fn a_client_gets_the_message_back(text in bytes()) {
            let mut message = Vec::new();
            for line in text.split(|&byte| byte == b'\n' || byte == b'\r') {
                message.extend_from_slice(line);
                message.extend_from_slice(b"\r\n");
            }
            prop_assert_eq!(unstuff(&stuff(&[&message])), message);
        }

        #[test]
        fn no_line_is_a_lone_dot_before_the_end(message in bytes()) {
            let response = stuff(&[&message]);
            let lines: Vec<&[u8]> = response.split_inclusive(|&byte| byte == b'\n').collect();
            let (last, others) = lines.split_last().unwrap();
            prop_assert_eq!(*last, &b".\r\n"[..]);
            for line in others {
                prop_assert!(*line != b".\r\n" && *line != b".\n");
            }
        }
    }
}
