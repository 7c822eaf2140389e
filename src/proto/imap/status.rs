//! What STATUS may be asked for (RFC 9051 §6.3.11, and extensions).
//!
//! Does not know: where the numbers come from.

/// Items of STATUS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatusItems(u16);

/// An item of STATUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusItem {
    /// Messages.
    Messages,
    /// Always 0 (RFC 3501 only).
    Recent,
    /// The next UID.
    UidNext,
    /// UIDVALIDITY.
    UidValidity,
    /// Messages without `\Seen`.
    Unseen,
    /// Messages with `\Deleted`.
    Deleted,
    /// Bytes of all messages (RFC 8438).
    Size,
    /// RFC 7162 §3.1.7.
    HighestModSeq,
    /// RFC 8474 §4.1.
    MailboxId,
    /// RFC 7889 §4.
    AppendLimit,
    /// Bytes of messages with `\Deleted` (RFC 9208 §4.1.4).
    DeletedStorage,
}

impl StatusItem {
    /// All, in the order in which they are answered, with their names.
    pub const ALL: [(StatusItem, &str); 11] = [
        (StatusItem::Messages, "MESSAGES"),
        (StatusItem::Recent, "RECENT"),
        (StatusItem::UidNext, "UIDNEXT"),
        (StatusItem::UidValidity, "UIDVALIDITY"),
        (StatusItem::Unseen, "UNSEEN"),
        (StatusItem::Deleted, "DELETED"),
        (StatusItem::Size, "SIZE"),
        (StatusItem::HighestModSeq, "HIGHESTMODSEQ"),
        (StatusItem::MailboxId, "MAILBOXID"),
        (StatusItem::AppendLimit, "APPENDLIMIT"),
        (StatusItem::DeletedStorage, "DELETED-STORAGE"),
    ];
}

impl StatusItems {
    /// With this item.
    pub fn with(self, item: StatusItem) -> StatusItems {
        StatusItems(self.0 | 1 << item as u16)
    }

    /// It is wanted.
    pub fn has(self, item: StatusItem) -> bool {
        self.0 >> (item as u16) & 1 == 1
    }
}
