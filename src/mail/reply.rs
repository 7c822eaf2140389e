//! SMTP replies and enhanced status codes (RFC 5321 §4.2, RFC 3463).

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
    pub text: std::borrow::Cow<'static, str>,
}
