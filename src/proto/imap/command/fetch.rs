//! FETCH as parsed (RFC 9051 §6.4.5): which messages, and what of them.

use super::super::sets::Set;
#[cfg(doc)]
use super::Results;

/// FETCH (RFC 9051 §6.4.5).
#[derive(Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Which messages.
    pub set: Set,
    /// The set is of UIDs.
    pub by_uid: bool,
    /// What of them.
    pub items: Vec<Item>,
    /// Only those with a higher MODSEQ (RFC 7162 §3.1.4.1).
    pub changed_since: Option<u64>,
    /// And which have gone since (RFC 7162 §3.2.6).
    pub vanished: bool,
    /// Only so many of them (RFC 9394 §3.3): places as in [`Results::partial`].
    pub partial: Option<(i64, i64)>,
}

/// What of a message (RFC 9051 §6.4.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// FLAGS
    Flags,
    /// UID
    Uid,
    /// INTERNALDATE
    InternalDate,
    /// RFC822.SIZE
    Size,
    /// ENVELOPE
    Envelope,
    /// BODY, BODYSTRUCTURE
    Structure {
        /// With extension data.
        extended: bool,
    },
    /// MODSEQ (RFC 7162 §3.1.4.2)
    ModSeq,
    /// EMAILID (RFC 8474 §5.1)
    EmailId,
    /// THREADID (RFC 8474 §5.2)
    ThreadId,
    /// SAVEDATE (RFC 8514 §4.2)
    SaveDate,
    /// PREVIEW (RFC 8970); `true`: LAZY
    Preview(bool),
    /// BODY[...], BODY.PEEK[...], RFC822 and its like.
    Body {
        /// `\Seen` is not set.
        peek: bool,
        /// What is between the brackets.
        section: Section,
        /// From here, so many octets.
        partial: Option<(u64, u64)>,
        /// How the item is written in the response.
        shape: Shape,
    },
    /// BINARY[...], BINARY.PEEK[...] (RFC 3516 §4.2)
    Binary {
        /// `\Seen` is not set.
        peek: bool,
        /// The part's numbers.
        part: Vec<u32>,
        /// From here, so many octets.
        partial: Option<(u64, u64)>,
    },
    /// BINARY.SIZE[...] (RFC 3516 §4.3)
    BinarySize(Vec<u32>),
}

impl Item {
    /// Who asks for it has seen the message.
    pub fn sets_seen(&self) -> bool {
        matches!(
            self,
            Item::Body { peek: false, .. } | Item::Binary { peek: false, .. }
        )
    }

    /// FLAGS come with it, or may.
    pub(super) fn tells_flags(&self) -> bool {
        *self == Item::Flags || self.sets_seen()
    }
}

/// The name of a body item in the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `BODY[...]`
    Body,
    /// `RFC822` (RFC 3501)
    Rfc822,
    /// `RFC822.HEADER`
    Rfc822Header,
    /// `RFC822.TEXT`
    Rfc822Text,
}

/// What is between the brackets of `BODY[...]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// Numbers of the part; none: the message.
    pub part: Vec<u32>,
    /// What of it.
    pub text: SectionText,
}

/// What of a part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SectionText {
    /// Everything: of a message header and body, of a part its body.
    #[default]
    All,
    /// HEADER
    Header,
    /// HEADER.FIELDS, HEADER.FIELDS.NOT
    Fields {
        /// Names as given, for the response.
        names: Vec<Vec<u8>>,
        /// All but these.
        not: bool,
    },
    /// TEXT
    Text,
    /// MIME
    Mime,
}
