//! Commands out of pieces of any size: lines, the literals in them, and their bounds.
//!
//! Guarantees: how the input is cut never changes what comes out; at most `bytes_max` bytes of a
//! command are held, and none between commands; held bytes are wiped, because they may be a
//! password. A literal is announced before one byte of it is taken, so that who owns the frames
//! may keep it, refuse it, or take its bytes past them (messages of APPEND).
//! Does not know: commands.
//! On failure: an over-long command is reported once, when its end is there; one without an end in
//! sight at `limits::ENDLESS_LINE_BYTES`.
//!
//! RFC 9051 §2.2 ends lines with CRLF. A lone LF is taken as well, as most servers do: nothing of a
//! command is ever passed on as lines.

use std::ops::Deref;

use memchr::memchr;
use zeroize::{Zeroize, Zeroizing};

use super::super::sasl::push_secret;
use crate::limits::ENDLESS_LINE_BYTES;

/// Bytes kept of a command that is too long: its tag is among them.
const HEAD_BYTES: usize = 32;
/// Digits of a literal's length: number64 has at most nineteen.
const LENGTH_DIGITS_MAX: usize = 19;
/// Bytes kept of the end of a line that is passed over: an announcement and its line end fit.
const TAIL_BYTES: usize = LENGTH_DIGITS_MAX + 8;

/// The command that has begun to arrive.
#[derive(Default)]
pub struct Frames {
    partial: Vec<u8>,
    /// Where in it the line begins that is being read: what a literal holds announces nothing.
    line_start: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Within a line.
    #[default]
    Line,
    /// A literal was announced, and nothing is decided yet.
    Announced(Literal),
    /// So many bytes of a literal are to be kept.
    Keep(u64),
    /// The command cannot be taken: its line is passed over. So many bytes were.
    SkipLine(usize, Why),
    /// The same, within a literal that comes without being asked for.
    SkipLiteral(u64, Why),
}

/// Why a command is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    TooLong,
    Refused,
}

/// A literal as announced (RFC 9051 §4.3, RFC 7888, RFC 3516 §4.4).
///
/// ```text
/// literal  = "{" number64 ["+"] "}" CRLF *CHAR8
/// literal8 = "~{" number64 ["+"] "}" CRLF *OCTET
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Literal {
    /// Octets that follow.
    pub bytes: u64,
    /// The client waits for `+` before it sends them.
    pub synchronising: bool,
    /// `~`: they may be any, NUL too.
    pub binary: bool,
}

/// The text of a command, wiped when dropped if it was put together here.
pub enum Text<'a> {
    /// As it stands in the input.
    Borrowed(&'a [u8]),
    /// Out of pieces.
    Owned(Zeroizing<Vec<u8>>),
}

impl Deref for Text<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Text::Borrowed(text) => text,
            Text::Owned(text) => text,
        }
    }
}

/// What the input holds next.
pub enum Frame<'a> {
    /// All input was taken, the command is not complete.
    Incomplete,
    /// A command without its last line end; literals stand in it as they came.
    Command(Text<'a>),
    /// A literal is announced: [`Frames::text`] is the command up to there. Next must come
    /// [`Frames::keep_literal`], [`Frames::refuse_literal`] or [`Frames::take_message`].
    Literal(Literal),
    /// A command was longer than allowed, and is over. The text is its beginning.
    TooLong(Zeroizing<Vec<u8>>),
    /// A command that was refused is over, literals and all.
    Refused,
    /// A line is much longer than allowed, and is not over.
    Endless,
}

impl Frames {
    /// Bytes of memory held.
    pub fn held_bytes(&self) -> usize {
        self.partial.capacity()
    }

    /// Nothing of a next command has been read.
    pub fn is_empty(&self) -> bool {
        self.partial.is_empty() && self.state == State::Line
    }

    /// The command so far, up to and with the announced literal.
    pub fn text(&self) -> &[u8] {
        &self.partial
    }

    /// Takes bytes up to the end of a command or of an announcement, or all of them; returns how
    /// many. `bytes_max` counts the whole command, literals and all.
    pub fn take<'a>(&mut self, input: &'a [u8], bytes_max: usize) -> (usize, Frame<'a>) {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.state {
                State::Announced(literal) => return (used, Frame::Literal(literal)),
                State::Keep(left) => {
                    let piece =
                        &rest[..rest.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
                    push_secret(&mut self.partial, piece);
                    used += piece.len();
                    let left = left - piece.len() as u64;
                    if left > 0 {
                        self.state = State::Keep(left);
                        return (used, Frame::Incomplete);
                    }
                    self.state = State::Line;
                    self.line_start = self.partial.len();
                }
                State::SkipLiteral(left, why) => {
                    let bytes = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    used += bytes;
                    let left = left - bytes as u64;
                    if left > 0 {
                        self.state = State::SkipLiteral(left, why);
                        return (used, Frame::Incomplete);
                    }
                    self.state = State::SkipLine(0, why);
                }
                State::SkipLine(skipped, why) => {
                    let (taken, frame) = self.skip(rest, skipped, why);
                    used += taken;
                    if let Some(frame) = frame {
                        return (used, frame);
                    }
                }
                State::Line => {
                    let (taken, frame) = self.line(rest, bytes_max);
                    used += taken;
                    if let Some(frame) = frame {
                        return (used, frame);
                    }
                }
            }
        }
    }

    /// The announced literal becomes part of the command; `false`: with it the command would be
    /// longer than `bytes_max`, and nothing is decided.
    pub fn keep_literal(&mut self, bytes_max: usize) -> bool {
        let State::Announced(literal) = self.state else {
            return false;
        };
        let room = bytes_max.saturating_sub(self.partial.len());
        if literal.bytes >= room as u64 {
            return false;
        }
        self.state = State::Keep(literal.bytes);
        true
    }

    /// The command is not taken. Returns whether it is over: its literal was not asked for yet. Else
    /// it is passed over with all that belongs to it, and then comes [`Frame::Refused`].
    pub fn refuse_literal(&mut self) -> bool {
        self.wipe();
        let State::Announced(literal) = self.state else {
            return true;
        };
        if literal.synchronising {
            self.state = State::Line;
            return true;
        }
        self.state = State::SkipLiteral(literal.bytes, Why::Refused);
        false
    }

    /// Passes over the rest of the command that is coming in, up to its end.
    pub fn refuse_rest(&mut self) {
        self.wipe();
        self.state = State::SkipLine(0, Why::Refused);
    }

    /// The announced literal is a message: its bytes do not pass through here. What comes behind
    /// them is read as text that goes on.
    pub fn take_message(&mut self) {
        self.wipe();
        self.state = State::Line;
    }

    /// One line, or the rest of it. `None`: there is something to go on with.
    fn line<'a>(&mut self, rest: &'a [u8], bytes_max: usize) -> (usize, Option<Frame<'a>>) {
        let end = memchr(b'\n', rest);
        let taken = end.map_or(rest.len(), |index| index + 1);
        if self.partial.len() + taken > bytes_max {
            let mut start = std::mem::take(&mut self.partial);
            let tail = self.line_start.max(start.len().saturating_sub(TAIL_BYTES));
            let tail = start[tail..].to_vec();
            start.extend_from_slice(&rest[..taken.min(HEAD_BYTES)]);
            start.truncate(HEAD_BYTES);
            start.extend_from_slice(&tail);
            self.partial = start;
            self.state = State::SkipLine(0, Why::TooLong);
            return (0, None);
        }
        if end.is_none() {
            push_secret(&mut self.partial, rest);
            return (taken, Some(Frame::Incomplete));
        }
        if self.partial.is_empty() {
            let line = trim_end(&rest[..taken]);
            let Some(literal) = parse_announcement(line) else {
                return (taken, Some(Frame::Command(Text::Borrowed(line))));
            };
            push_secret(&mut self.partial, &rest[..taken]);
            self.state = State::Announced(literal);
            return (taken, None);
        }
        push_secret(&mut self.partial, &rest[..taken]);
        let line = trim_end(&self.partial[self.line_start..]);
        if let Some(literal) = parse_announcement(line) {
            self.state = State::Announced(literal);
            return (taken, None);
        }
        let length = self.line_start + line.len();
        let mut text = Zeroizing::new(std::mem::take(&mut self.partial));
        self.line_start = 0;
        text.truncate(length);
        (taken, Some(Frame::Command(Text::Owned(text))))
    }

    /// Passes over a line; `None`: it goes on, or a literal does.
    fn skip<'a>(&mut self, rest: &'a [u8], skipped: usize, why: Why) -> (usize, Option<Frame<'a>>) {
        // The last bytes are kept, for they may announce a literal.
        let Some(end) = memchr(b'\n', rest) else {
            let skipped = skipped.saturating_add(rest.len());
            self.state = State::SkipLine(skipped, why);
            self.keep_tail(rest, why);
            let frame = if skipped > ENDLESS_LINE_BYTES {
                Frame::Endless
            } else {
                Frame::Incomplete
            };
            return (rest.len(), Some(frame));
        };
        self.keep_tail(&rest[..=end], why);
        let announced = parse_announcement(trim_end(&self.partial[self.tail_start(why)..]));
        if let Some(literal) = announced
            && !literal.synchronising
        {
            self.partial.truncate(self.tail_start(why));
            self.state = State::SkipLiteral(literal.bytes, why);
            return (end + 1, None);
        }
        self.state = State::Line;
        self.line_start = 0;
        let mut start = Zeroizing::new(std::mem::take(&mut self.partial));
        let frame = match why {
            Why::TooLong => {
                start.truncate(HEAD_BYTES);
                Frame::TooLong(start)
            }
            Why::Refused => Frame::Refused,
        };
        (end + 1, Some(frame))
    }

    /// Of a command that is passed over, its first bytes stay, for its tag.
    fn tail_start(&self, why: Why) -> usize {
        match why {
            Why::TooLong => self.partial.len().min(HEAD_BYTES),
            Why::Refused => 0,
        }
    }

    fn keep_tail(&mut self, piece: &[u8], why: Why) {
        let start = self.tail_start(why);
        let piece = &piece[piece.len().saturating_sub(TAIL_BYTES)..];
        push_secret(&mut self.partial, piece);
        let excess = (self.partial.len() - start).saturating_sub(TAIL_BYTES);
        self.partial.drain(start..start + excess);
    }

    fn wipe(&mut self) {
        self.partial.zeroize();
        self.partial = Vec::new();
        self.line_start = 0;
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.partial.zeroize();
    }
}

/// The line without its end.
fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The literal that a line announces at its end.
fn parse_announcement(line: &[u8]) -> Option<Literal> {
    let inner = line.strip_suffix(b"}")?;
    let (inner, synchronising) = match inner.strip_suffix(b"+") {
        Some(inner) => (inner, false),
        None => (inner, true),
    };
    let start = inner.iter().rposition(|byte| !byte.is_ascii_digit())?;
    let digits = &inner[start + 1..];
    if inner[start] != b'{' || digits.is_empty() || digits.len() > LENGTH_DIGITS_MAX {
        return None;
    }
    let bytes = digits.iter().try_fold(0u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })?;
    Some(Literal {
        bytes,
        synchronising,
        binary: inner[..start].last() == Some(&b'~'),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All frames, as texts; literals are kept where they fit, else refused.
    fn frames(input: &[u8], piece_bytes: usize, bytes_max: usize) -> Vec<String> {
        let mut frames = Frames::default();
        let mut found = Vec::new();
        for piece in input.chunks(piece_bytes) {
            let mut rest = piece;
            loop {
                let (taken, frame) = frames.take(rest, bytes_max);
                rest = &rest[taken..];
                match frame {
                    Frame::Incomplete => {
                        assert!(rest.is_empty());
                        break;
                    }
                    Frame::Command(text) => found.push(text.escape_ascii().to_string()),
                    Frame::Literal(literal) => {
                        found.push(format!("{literal:?}"));
                        if !frames.keep_literal(bytes_max) {
                            found.push(format!("over {}", frames.refuse_literal()));
                        }
                    }
                    Frame::TooLong(start) => {
                        found.push(format!("too long: {}", start.escape_ascii()));
                    }
                    Frame::Refused => found.push("refused".to_owned()),
                    Frame::Endless => {
                        found.push("endless".to_owned());
                        return found;
                    }
                }
                assert!(frames.held_bytes() <= 2 * bytes_max.max(200));
            }
        }
        found
    }

    #[test]
    fn literals_belong_to_their_command() {
        let input = b"a LOGIN {5}\r\nal\r\ne {2+}\r\nxy\r\nb NOOP\nc X ~{0+}\r\n\r\n";
        let literal = |bytes, synchronising, binary| {
            format!(
                "{:?}",
                Literal {
                    bytes,
                    synchronising,
                    binary
                }
            )
        };
        for piece_bytes in [1, 2, 3, 7, 100] {
            assert_eq!(
                frames(input, piece_bytes, 100),
                [
                    literal(5, true, false),
                    literal(2, false, false),
                    "a LOGIN {5}\\r\\nal\\r\\ne {2+}\\r\\nxy".to_owned(),
                    "b NOOP".to_owned(),
                    literal(0, false, true),
                    "c X ~{0+}\\r\\n".to_owned(),
                ]
            );
        }
    }

    #[test]
    fn a_literal_may_look_like_an_announcement() {
        let found = frames(b"a {4}\r\n{3+}\r\nb NOOP\r\n", 1, 100);
        assert_eq!(found[1..], ["a {4}\\r\\n{3+}", "b NOOP"]);
    }

    #[test]
    fn what_does_not_fit_is_passed_over_to_its_end() {
        // A literal that waits is over when refused; one that does not is read with its command.
        let input = b"a X {90}\r\nb X {90+}\r\n".to_vec();
        let input = [
            input,
            vec![b'\n'; 90],
            b" {3+}\r\nabc y\r\nc NOOP\r\n".to_vec(),
        ]
        .concat();
        for piece_bytes in [1, 2, 5, 30, 1000] {
            let found = frames(&input, piece_bytes, 60);
            assert_eq!(
                (&found[1], &found[3], &found[4]),
                (&"over true".into(), &"over false".into(), &"refused".into())
            );
            assert_eq!(found.last().map(String::as_str), Some("c NOOP"));
            assert_eq!(found.len(), 6);
        }
    }

    #[test]
    fn a_long_line_is_reported_with_its_tag() {
        let line = [
            b"tag1 ".to_vec(),
            vec![b'x'; 500],
            b" {4+}\r\nab\r\n\r\nb NOOP\r\n".to_vec(),
        ];
        for piece_bytes in [1, 3, 50, 1000] {
            let found = frames(&line.concat(), piece_bytes, 100);
            assert_eq!(found.len(), 2, "{found:?}");
            assert!(found[0].starts_with("too long: tag1 xxx"), "{found:?}");
            assert_eq!(found[1], "b NOOP");
        }
        let endless = vec![b'x'; ENDLESS_LINE_BYTES + 200];
        assert_eq!(frames(&endless, 1000, 100), ["endless"]);
    }

    #[test]
    fn only_whole_announcements_count() {
        for line in [
            "{}",
            "{5",
            "5}",
            "{-5}",
            "{5 }",
            "{5++}",
            "{99999999999999999999}",
        ] {
            assert_eq!(parse_announcement(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(
            words in prop::collection::vec(prop::sample::select(vec![
                "a ", "{3}", "{2+}", "~{1+}", "\r\n", "\n", "{50+}", "{60}", "xyz", "\r", "}",
            ]), 0..40),
            piece_bytes in 1usize..9,
        ) {
            let input = words.concat().into_bytes();
            prop_assert_eq!(
                frames(&input, piece_bytes, 40),
                frames(&input, input.len().max(1), 40)
            );
        }
    }
}
