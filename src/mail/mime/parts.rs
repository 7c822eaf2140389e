//! The tree of a message's parts as a flat table of byte ranges, and what a section names in it.
//!
//! Guarantees: parts stand in the order of the message, a parent before its children; every range
//! lies within the message and within its parent's body.
//! Does not know: header fields, how a part is shown.

use std::ops::Range;

/// What a part is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Anything that is none of the others.
    Basic = 0,
    /// `text/*`.
    Text = 1,
    /// `multipart/*` with at least one part.
    Multipart = 2,
    /// `message/rfc822` or `message/global` whose message is taken apart: it has one child.
    Message = 3,
    /// Deeper or later than what is told apart (see [`crate::limits`]), or a message that is
    /// encoded: shown as `application/octet-stream`.
    Opaque = 4,
}

/// `Content-Transfer-Encoding` (RFC 2045 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// 7bit, 8bit and binary: the body is what it is.
    Identity = 0,
    /// quoted-printable.
    QuotedPrintable = 1,
    /// base64.
    Base64 = 2,
    /// A name that nobody knows: BINARY answers UNKNOWN-CTE.
    Unknown = 3,
}

/// The charset of a text part, as far as its search and preview have a short way for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Charset {
    /// UTF-8, US-ASCII, or none given.
    Utf8 = 0,
    /// ISO-8859-1 and Windows-1252, which readers take for one.
    Latin1 = 1,
    /// Another: its name is in the part's header.
    Other = 2,
}

/// One part. Offsets are from the message's first byte, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is made of.
    pub kind: Kind,
    /// How its body is encoded.
    pub encoding: Encoding,
    /// The charset of its text.
    pub charset: Charset,
    /// `text/html`.
    pub is_html: bool,
    /// The header is that of a message, not of a MIME part: the first part, and the child of each
    /// [`Kind::Message`].
    pub is_root: bool,
    /// Index of the parent; the first part is its own.
    pub parent: u16,
    /// One behind the index of its last descendant.
    pub descendants_end: u16,
    /// The header, with the empty line that ends it (where there is one).
    pub header: Range<u32>,
    /// The body, without the line break in front of the boundary that ends it.
    pub body: Range<u32>,
    /// Line feeds in the body.
    pub lines: u32,
}

/// All parts of a message; at least one, at most [`crate::limits::MIME_PARTS_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts(pub(super) Vec<Part>);

/// What of a part a section names (RFC 9051 §6.4.5, `section-spec`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionText {
    /// Nothing behind the part numbers: the part's body, or the whole message.
    Whole,
    /// `HEADER`, also for `HEADER.FIELDS` and `HEADER.FIELDS.NOT`, which take some of it
    /// (see [`super::filter_fields`]).
    Header,
    /// `TEXT`.
    Text,
    /// `MIME`.
    Mime,
}

impl Parts {
    /// All parts, in the order of the message.
    pub fn as_slice(&self) -> &[Part] {
        &self.0
    }

    /// The message itself.
    pub fn root(&self) -> &Part {
        &self.0[0]
    }

    /// Bytes of the whole message.
    pub fn message_bytes(&self) -> u32 {
        self.root().body.end
    }

    /// Indices of a part's children.
    pub fn children(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        let end = usize::from(self.0[index].descendants_end);
        let mut next = index + 1;
        std::iter::from_fn(move || {
            (next < end).then(|| {
                let child = next;
                next = usize::from(self.0[child].descendants_end);
                child
            })
        })
    }

    /// The part with the numbers of a section (`[1, 2]` for `BODY[1.2]`); `None`: there is none.
    /// No number at all names the message.
    ///
    /// RFC 9051 §6.4.5: every message has a part 1; the parts of a message/rfc822 part are those of
    /// the message in it.
    pub fn find(&self, numbers: &[u32]) -> Option<usize> {
        let mut index = 0;
        let mut as_message = true;
        for &number in numbers {
            let mut base = index;
            if !as_message && self.0[base].kind == Kind::Message {
                base += 1;
                as_message = true;
            }
            if self.0[base].kind == Kind::Multipart {
                let nth = usize::try_from(number.checked_sub(1)?).ok()?;
                index = self.children(base).nth(nth)?;
            } else if as_message && number == 1 {
                index = base;
            } else {
                return None;
            }
            as_message = false;
        }
        Some(index)
    }

    /// The bytes that a section names; `None`: the message has no such part (an empty answer:
    /// `NIL` or `""`).
    pub fn section(&self, numbers: &[u32], text: SectionText) -> Option<Range<u32>> {
        let index = self.find(numbers)?;
        let part = &self.0[index];
        if numbers.is_empty() {
            return match text {
                SectionText::Whole => Some(0..self.message_bytes()),
                SectionText::Header => Some(part.header.clone()),
                SectionText::Text => Some(part.body.clone()),
                SectionText::Mime => None,
            };
        }
        let inner = (part.kind == Kind::Message).then(|| &self.0[index + 1]);
        match text {
            SectionText::Whole => Some(part.body.clone()),
            SectionText::Mime => Some(part.header.clone()),
            SectionText::Header => inner.map(|inner| inner.header.clone()),
            SectionText::Text => inner.map(|inner| inner.body.clone()),
        }
    }
}

/// The bytes of `whole` that a partial fetch `<first.count>` names (RFC 9051 §6.4.5): empty when it
/// begins behind the end.
pub fn partial(whole: Range<u32>, first: u32, count: u32) -> Range<u32> {
    let start = whole.start.saturating_add(first).min(whole.end);
    start..start.saturating_add(count).min(whole.end)
}
