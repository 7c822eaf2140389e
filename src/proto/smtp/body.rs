//! The bytes between DATA and the line with the single dot (RFC 5321 §4.5.2).
//!
//! Guarantees: only CRLF `.` CRLF ends a message (or `.` CRLF at its very start); a CR or LF that
//! is not half of a CRLF can neither end it nor hide a dot, and is remembered; how the input is
//! cut into pieces changes nothing.
//! Does not know: sizes, headers, what becomes of the bytes.

/// Takes the dots out that a sender put in, and finds the end of the message.
#[derive(Debug, Clone, Copy, Default)]
pub struct DotUnstuffer {
    place: Place,
    bare: bool,
}

/// Bytes that [`clean_bytes`] looks at in one go.
const BLOCK_BYTES: usize = 64;

/// How many bytes at the start of `input`, which starts within a line, need no closer look: each CR
/// in them is followed by an LF, each LF follows a CR, and with `DOTS` no line starts with a dot.
/// They do not end within a CRLF; some of what follows them may be as clean.
///
/// Looks at the bytes in blocks and without a branch, which compilers turn into vector code: text
/// has a line end every few dozen bytes, and stopping at each costs several times as much.
fn clean_bytes<const DOTS: bool>(input: &[u8]) -> usize {
    if input.first() == Some(&b'\n') {
        return 0;
    }
    let mut at = 0;
    while let Some(block) = input.get(at..=at + BLOCK_BYTES) {
        let mut found = 0;
        for (&byte, &next) in block[..BLOCK_BYTES].iter().zip(&block[1..]) {
            found |= u8::from(byte == b'\r') ^ u8::from(next == b'\n');
            if DOTS {
                found |= u8::from(byte == b'\n') & u8::from(next == b'.');
            }
        }
        if found != 0 {
            break;
        }
        at += BLOCK_BYTES;
    }
    if at > 0 && input[at - 1] == b'\r' {
        at -= 1;
    }
    at
}

/// What the last piece ended with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    /// CRLF, or nothing yet.
    #[default]
    LineStart,
    /// CRLF and a dot, which is not part of the message.
    Dot,
    /// CRLF, dot, CR.
    DotCr,
    /// A CR within the message.
    Cr,
    /// Anything else.
    Middle,
}

impl DotUnstuffer {
    /// Takes the next piece. What belongs to the message is appended to `body`, or dropped where
    /// that is `None`. Returns how many bytes were used, and whether the message has ended with
    /// the last of them. Never appends more bytes than it used.
    pub fn feed(&mut self, input: &[u8], mut body: Option<&mut Vec<u8>>) -> (usize, bool) {
        let mut keep = |bytes: &[u8]| {
            if let Some(body) = body.as_deref_mut() {
                body.extend_from_slice(bytes);
            }
        };
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match (self.place, byte) {
                (Place::LineStart, b'.') => {
                    self.place = Place::Dot;
                    at += 1;
                }
                (Place::Dot, b'\r') => {
                    self.place = Place::DotCr;
                    at += 1;
                }
                (Place::DotCr, b'\n') => {
                    self.place = Place::LineStart;
                    return (at + 1, true);
                }
                (Place::DotCr, _) => {
                    // `.` CR and no LF: the CR is part of the line, and bare.
                    self.bare = true;
                    keep(b"\r");
                    self.place = Place::Middle;
                }
                (Place::Cr, b'\n') => {
                    keep(b"\n");
                    self.place = Place::LineStart;
                    at += 1;
                }
                (Place::Cr, _) => {
                    self.bare = true;
                    self.place = Place::Middle;
                }
                (Place::LineStart | Place::Dot | Place::Middle, _) => {
                    let run_bytes = self.feed_run(&input[at..]);
                    keep(&input[at..at + run_bytes]);
                    at += run_bytes;
                }
            }
        }
        (at, false)
    }

    /// The length of the longest run at the start of `input`, which is not empty and starts within
    /// a line, that belongs to the message as it is: up to a line that starts with a dot, or all.
    fn feed_run(&mut self, input: &[u8]) -> usize {
        let mut at = clean_bytes::<true>(input);
        while let Some(found) = memchr::memchr2(b'\r', b'\n', &input[at..]) {
            at += found;
            if input[at] == b'\n' {
                self.bare = true;
                at += 1;
                continue;
            }
            match input.get(at + 1) {
                None => {
                    self.place = Place::Cr;
                    return at + 1;
                }
                Some(b'\n') => {
                    at += 2;
                    if matches!(input.get(at), None | Some(b'.')) {
                        self.place = Place::LineStart;
                        return at;
                    }
                }
                Some(_) => {
                    self.bare = true;
                    at += 1;
                }
            }
        }
        self.place = Place::Middle;
        input.len()
    }

    /// A CR or an LF stood by itself somewhere in the message so far.
    pub fn saw_bare(&self) -> bool {
        self.bare
    }
}

/// Looks for bare CR and LF in bytes that need no unstuffing (BDAT).
#[derive(Debug, Clone, Copy, Default)]
pub struct LineEndCheck {
    after_cr: bool,
    bare: bool,
}

impl LineEndCheck {
    /// Looks through the next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        let Some(&last) = piece.last() else {
            return;
        };
        let mut at = 0;
        if self.after_cr {
            if piece[0] == b'\n' {
                at = 1;
            } else {
                self.bare = true;
            }
        }
        at += clean_bytes::<false>(&piece[at..]);
        while let Some(found) = memchr::memchr2(b'\r', b'\n', &piece[at..]) {
            at += found;
            match (piece[at], piece.get(at + 1)) {
                (b'\r', Some(b'\n')) => at += 2,
                (b'\r', None) => break,
                _ => {
                    self.bare = true;
                    at += 1;
                }
            }
        }
        self.after_cr = last == b'\r';
    }

    /// A CR or an LF stood by itself; a CR at the end of the message counts.
    pub fn saw_bare(&self, at_end: bool) -> bool {
        self.bare || (at_end && self.after_cr)
    }
}

#[cfg(test)]
mod tests;
