//! NOTIFY as parsed (RFC 5465 §8): which events of which mailboxes.

use super::{Item, RawName};

/// NOTIFY (RFC 5465 §3.1).
#[derive(Debug, PartialEq, Eq)]
pub enum Notify {
    /// NONE
    None,
    /// SET
    Set {
        /// STATUS: of all mailboxes whose messages are of interest.
        status: bool,
        /// At least one.
        groups: Vec<EventGroup>,
    },
}

/// Events of some mailboxes.
#[derive(Debug, PartialEq, Eq)]
pub struct EventGroup {
    /// Of which.
    pub filter: Filter,
    /// Which events.
    pub events: Events,
}

/// Which mailboxes (RFC 5465 §6).
#[derive(Debug, PartialEq, Eq)]
pub enum Filter {
    /// The one that is open.
    Selected {
        /// That messages have gone is told when a command allows it.
        delayed: bool,
    },
    /// To which mail is delivered.
    Inboxes,
    /// The user's own.
    Personal,
    /// That are subscribed to.
    Subscribed,
    /// These and all below them.
    Subtree(Vec<RawName>),
    /// These.
    Mailboxes(Vec<RawName>),
}

impl Filter {
    /// It is about the open mailbox.
    pub fn is_selected(&self) -> bool {
        matches!(self, Filter::Selected { .. })
    }
}

/// Events of one group.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Those that are known; none: NONE.
    pub set: EventSet,
    /// What is to be fetched of messages that come.
    pub items: Option<Vec<Item>>,
    /// There is one that is not known here.
    pub has_unknown: bool,
}

/// An event (RFC 5465 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Messages come.
    MessageNew,
    /// Messages go.
    MessageExpunge,
    /// Flags change.
    FlagChange,
    /// A mailbox is made, removed, renamed.
    MailboxName,
    /// A name is subscribed to, or is not any more.
    SubscriptionChange,
    /// Annotations of a mailbox change.
    MailboxMetadataChange,
    /// Annotations of the server change.
    ServerMetadataChange,
}

impl Event {
    /// All, with their names.
    pub const ALL: [(Event, &str); 7] = [
        (Event::MessageNew, "MessageNew"),
        (Event::MessageExpunge, "MessageExpunge"),
        (Event::FlagChange, "FlagChange"),
        (Event::MailboxName, "MailboxName"),
        (Event::SubscriptionChange, "SubscriptionChange"),
        (Event::MailboxMetadataChange, "MailboxMetadataChange"),
        (Event::ServerMetadataChange, "ServerMetadataChange"),
    ];
}

/// Some events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventSet(u8);

impl EventSet {
    /// With this event.
    pub fn with(self, event: Event) -> EventSet {
        EventSet(self.0 | 1 << event as u8)
    }

    /// These and those.
    pub fn and(self, other: EventSet) -> EventSet {
        EventSet(self.0 | other.0)
    }

    /// It is among them.
    pub fn has(self, event: Event) -> bool {
        self.0 >> (event as u8) & 1 == 1
    }

    /// There is one that is not about messages.
    pub fn has_other_than_messages(self) -> bool {
        self.0 >> (Event::MailboxName as u8) != 0
    }
}
