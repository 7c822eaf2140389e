//! Lines, SMTP replies and dot-terminated texts, in pieces of any size.

/// Bytes of a line from the peer, line end included (RFC 5321 §4.5.3.1.5 has 512; we bear more).
const LINE_BYTES_MAX: usize = 4096;
/// Lines of one reply.
const REPLY_LINES_MAX: u32 = 1000;

/// What came is not the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonsense {
    /// The beginning of it.
    pub sample: Vec<u8>,
}

/// Cuts the input into lines.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
    /// `partial` was handed out whole.
    spent: bool,
}

impl Lines {
    /// The next whole line without its end, taken from the front of `input`; `None` when `input`
    /// is used up.
    ///
    /// # Errors
    /// When a line is longer than 4096 bytes.
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<&'a [u8]>, Nonsense> {
        self.next_within(input, LINE_BYTES_MAX)
    }

    /// The same for a protocol with lines of up to `bytes_max` bytes.
    ///
    /// # Errors
    /// When a line is longer than that.
    pub fn next_within<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        bytes_max: usize,
    ) -> Result<Option<&'a [u8]>, Nonsense> {
        if self.spent {
            self.partial.clear();
            // One long line does not make every connection of a run large.
            self.partial.shrink_to(LINE_BYTES_MAX);
            self.spent = false;
        }
        let Some(end) = memchr::memchr(b'\n', input) else {
            self.partial.extend_from_slice(input);
            *input = &[];
            return if self.partial.len() > bytes_max {
                Err(nonsense(&self.partial))
            } else {
                Ok(None)
            };
        };
        let (line, rest) = input.split_at(end + 1);
        *input = rest;
        let line = if self.partial.is_empty() {
            line
        } else {
            self.partial.extend_from_slice(line);
            self.spent = true;
            &self.partial
        };
        if line.len() > bytes_max {
            return Err(nonsense(line));
        }
        let line = &line[..line.len() - 1];
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }
}

/// [`Nonsense`] of which this is the beginning.
pub(super) fn nonsense(bytes: &[u8]) -> Nonsense {
    Nonsense {
        sample: bytes[..bytes.len().min(200)].to_vec(),
    }
}

/// Reads SMTP replies (RFC 5321 §4.2.1), of one line or several.
#[derive(Debug, Default)]
pub struct Replies {
    lines: Lines,
    code: Option<u16>,
    count: u32,
    text: Vec<u8>,
}

impl Replies {
    /// The code of the next whole reply; `each` sees the text of every line of it.
    ///
    /// # Errors
    /// When what came is not a reply.
    pub fn next(
        &mut self,
        input: &mut &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<Option<u16>, Nonsense> {
        while let Some(line) = self.lines.next(input)? {
            let (code, last) = parse_reply_line(line).ok_or_else(|| nonsense(line))?;
            if self.code.is_some_and(|known| known != code) || self.count >= REPLY_LINES_MAX {
                return Err(nonsense(line));
            }
            self.count += 1;
            each(line.get(4..).unwrap_or_default());
            if last {
                self.code = None;
                self.count = 0;
                self.text.clear();
                // Kept for the error table and for challenges only.
                if code >= 400 || code == 334 {
                    self.text.extend_from_slice(line);
                }
                return Ok(Some(code));
            }
            self.code = Some(code);
        }
        Ok(None)
    }

    /// The last line of the last reply, if it was a refusal or a challenge (334).
    pub fn text(&self) -> &[u8] {
        &self.text
    }
}

/// Code, and whether the line ends its reply.
fn parse_reply_line(line: &[u8]) -> Option<(u16, bool)> {
    let digits = line.get(..3)?;
    if !matches!(digits[0], b'2'..=b'5') || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits
        .iter()
        .fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match line.get(3) {
        None | Some(b' ') => Some((code, true)),
        Some(b'-') => Some((code, false)),
        Some(_) => None,
    }
}

/// Reads a text that ends with a line of one dot, and undoes dot-stuffing (RFC 1939 §3).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct DotReader {
    state: DotState,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum DotState {
    #[default]
    LineStart,
    /// A dot at the start of a line, held back.
    Dot,
    /// A dot and CR at the start of a line, held back.
    DotCr,
    Middle,
    /// CR in the middle of a line: handed on already.
    Cr,
}

impl DotReader {
    /// Takes the text from the front of `input` and hands its pieces to `each`. `true`: the text
    /// is at its end, and what follows it is left in `input`.
    pub fn feed(&mut self, input: &mut &[u8], mut each: impl FnMut(&[u8])) -> bool {
        while let Some(&byte) = input.first() {
            match self.state {
                DotState::LineStart if byte == b'.' => {
                    self.state = DotState::Dot;
                    *input = &input[1..];
                }
                DotState::Dot if byte == b'\r' => {
                    self.state = DotState::DotCr;
                    *input = &input[1..];
                }
                DotState::DotCr if byte == b'\n' => {
                    self.state = DotState::LineStart;
                    *input = &input[1..];
                    return true;
                }
                DotState::DotCr => {
                    // The dot was stuffing, the CR belongs to the line.
                    each(b"\r");
                    self.state = DotState::Cr;
                }
                DotState::Cr if byte == b'\n' => {
                    each(b"\n");
                    self.state = DotState::LineStart;
                    *input = &input[1..];
                }
                DotState::LineStart | DotState::Dot | DotState::Middle | DotState::Cr => {
                    // Whole lines at once, and the beginning of one that is not whole.
                    let end = memchr::memchr(b'\n', input).map_or(input.len(), |at| at + 1);
                    let (line, rest) = input.split_at(end);
                    each(line);
                    *input = rest;
                    self.state = if line.ends_with(b"\r\n") {
                        DotState::LineStart
                    } else if line.ends_with(b"\r") {
                        DotState::Cr
                    } else {
                        DotState::Middle
                    };
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_dots(text: &[u8], piece: usize) -> (Vec<u8>, Vec<u8>, bool) {
        let mut reader = DotReader::default();
        let mut body = Vec::new();
        let mut rest = Vec::new();
        let mut done = false;
        for mut bytes in text.chunks(piece) {
            if !done {
                done = reader.feed(&mut bytes, |part| body.extend_from_slice(part));
            }
            rest.extend_from_slice(bytes);
        }
        (body, rest, done)
    }

    /// A text as sent, as it is without stuffing, what follows it, whether it is whole.
    type Case<'a> = (&'a [u8], &'a [u8], &'a [u8], bool);

    #[test]
    fn dot_texts_in_any_pieces() {
        let cases: [Case<'_>; 9] = [
            (b"a\r\nb\r\n.\r\n+OK\r\n", b"a\r\nb\r\n", b"+OK\r\n", true),
            (b".\r\n", b"", b"", true),
            (b"..\r\n...x\r\n.\r\n", b".\r\n..x\r\n", b"", true),
            (b"a\n.\r\nb\r\n.\r\nrest", b"a\n.\r\nb\r\n", b"rest", true),
            (b"a\r\r\n.\r\n", b"a\r\r\n", b"", true),
            (b".\rx\r\n.\r\n", b"\rx\r\n", b"", true),
            (b".\r\r\n.\r\n", b"\r\r\n", b"", true),
            (b"abc\r\n", b"abc\r\n", b"", false),
            (b".", b"", b"", false),
        ];
        for (text, body, rest, done) in cases {
            for piece in 1..=text.len() {
                let found = read_dots(text, piece);
                let wanted = (body.to_vec(), rest.to_vec(), done);
                assert_eq!(
                    found,
                    wanted,
                    "{:?} by {piece}",
                    text.escape_ascii().to_string()
                );
            }
        }
    }

    fn read_replies(text: &[u8], piece: usize) -> Result<(Vec<u16>, Vec<String>), Nonsense> {
        let (mut replies, mut codes, mut texts) = (Replies::default(), Vec::new(), Vec::new());
        for mut bytes in text.chunks(piece) {
            while let Some(code) = replies.next(&mut bytes, |line| {
                texts.push(String::from_utf8_lossy(line).into_owned());
            })? {
                codes.push(code);
            }
        }
        Ok((codes, texts))
    }

    #[test]
    fn replies_in_any_pieces() {
        let text = b"220 hi\r\n250-one\r\n250-SIZE 1\r\n250 three\r\n354\r\n452 4.2.2 full\n";
        for piece in 1..=text.len() {
            let (codes, texts) = read_replies(text, piece).expect("replies");
            assert_eq!(codes, [220, 250, 354, 452]);
            assert_eq!(texts, ["hi", "one", "SIZE 1", "three", "", "4.2.2 full"]);
        }
    }

    #[test]
    fn nonsense_is_told() {
        let long = [b'2'; 5000];
        for text in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"+OK POP3\r\n",
            b"250-a\r\n251 b\r\n",
            b"99\r\n",
            b"250x\r\n",
            b"\r\n",
            b"\x16\x03\x01\x02\n",
            &long,
        ] {
            assert!(
                read_replies(text, 7).is_err(),
                "{:?}",
                text.escape_ascii().to_string()
            );
        }
        assert!(read_replies(&b"250-x\r\n".repeat(2000), 100).is_err());
    }
}
