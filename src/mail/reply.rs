//! SMTP replies and enhanced status codes (RFC 5321 §4.2, RFC 3463).
//!
//! Guarantees: what is written is one well-formed reply of bounded lines, whatever the text holds;
//! no text can end its line early and pass for another reply.

use std::borrow::Cow;

/// Bytes of text in one reply line, so that code, status, text and CRLF stay within the 512 of
/// RFC 5321 §4.5.3.1.5.
const TEXT_BYTES_MAX: usize = 480;

/// `class.subject.detail` (RFC 3463).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnhancedStatus(pub u8, pub u16, pub u16);

/// A reply as data: a code, its enhanced status, one line of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Three digits.
    pub code: u16,
    /// `None` where RFC 2034 has none (greetings, HELO, 354).
    pub status: Option<EnhancedStatus>,
    /// Text for people, one line, ASCII.
    pub text: Cow<'static, str>,
}

impl Reply {
    /// A reply with an enhanced status.
    pub fn new(code: u16, status: EnhancedStatus, text: impl Into<Cow<'static, str>>) -> Reply {
        Reply {
            code,
            status: Some(status),
            text: text.into(),
        }
    }

    /// Writes the reply as one line.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_line(self.code, self.status, false, &self.text, out);
    }

    /// 2xx: the peer's command was carried out.
    pub fn is_success(&self) -> bool {
        self.code / 100 == 2
    }

    /// 5xx: trying again will not help.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }
}

/// Writes a reply of several lines, all with the same code and status (RFC 5321 §4.2.1). The lines
/// must be one at least; none writes nothing.
pub fn write_lines(code: u16, status: Option<EnhancedStatus>, lines: &[&str], out: &mut Vec<u8>) {
    let Some((last, before)) = lines.split_last() else {
        return;
    };
    for line in before {
        write_line(code, status, true, line, out);
    }
    write_line(code, status, false, last, out);
}

/// ```text
/// Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF
/// textstring = 1*(%d09 / %d32-126)
/// ```
fn write_line(
    code: u16,
    status: Option<EnhancedStatus>,
    more: bool,
    text: &str,
    out: &mut Vec<u8>,
) {
    write_decimal(u32::from(code), out);
    out.push(if more { b'-' } else { b' ' });
    if let Some(EnhancedStatus(class, subject, detail)) = status {
        write_decimal(u32::from(class), out);
        for part in [subject, detail] {
            out.push(b'.');
            write_decimal(u32::from(part), out);
        }
        out.push(b' ');
    }
    out.extend(text.bytes().take(TEXT_BYTES_MAX).map(|byte| match byte {
        b'\t' | b' '..=b'~' => byte,
        _ => b'?',
    }));
    out.extend_from_slice(b"\r\n");
}

/// Without the machinery of formatting, for there is a number in every reply and trace header.
pub(super) fn write_decimal(value: u32, out: &mut Vec<u8>) {
    let mut digits = [0; 10];
    let mut start = digits.len();
    let mut left = value;
    loop {
        start -= 1;
        digits[start] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_line() {
        let reply = Reply::new(250, EnhancedStatus(2, 1, 5), "OK");
        assert_eq!(written(&reply), "250 2.1.5 OK\r\n");
        let bare = Reply {
            code: 354,
            status: None,
            text: "Go".into(),
        };
        assert_eq!(written(&bare), "354 Go\r\n");
    }

    #[test]
    fn several_lines_carry_code_and_status_each() {
        let mut out = Vec::new();
        write_lines(214, Some(EnhancedStatus(2, 0, 0)), &["a", "b"], &mut out);
        assert_eq!(out, b"214-2.0.0 a\r\n214 2.0.0 b\r\n");
        out.clear();
        write_lines(214, None, &[], &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn text_cannot_forge_a_second_reply() {
        let reply = Reply::new(550, EnhancedStatus(5, 1, 1), "no\r\n250 2.0.0 yes é");
        assert_eq!(written(&reply), "550 5.1.1 no??250 2.0.0 yes ??\r\n");
    }

    #[test]
    fn lines_stay_within_512_bytes() {
        let reply = Reply::new(550, EnhancedStatus(5, 999, 999), "x".repeat(5000));
        assert!(written(&reply).len() <= 512);
    }
}
