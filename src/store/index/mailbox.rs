//! A mailbox as one layer knows it: small fields as a whole, messages as what has changed.
//!
//! Does not know: the layers below, whose it is.

use super::marks::{Mark, Marks};
use super::message::Message;
use super::tombstones::Tombstones;
use super::usage::NO_SEGMENT;
use crate::store::{Flags, Sequence, Uid, UidValidity};

/// In place of a special use: the mailbox is gone for all who ask, see `store::removal`.
pub const CONDEMNED: u8 = u8::MAX;

/// Fields of a mailbox, always known as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BoxFields {
    /// Number of the record with its name; 0 for INBOX.
    pub(super) put_seq: Sequence,
    /// Number of the reserve record that counts.
    pub(super) reserve_seq: Sequence,
    /// That of the last change of its messages, or one above it.
    pub(super) modseq: Sequence,
    /// As the reserve record says it.
    pub(super) reserve_modseq: Sequence,
    /// Changes up to here may be lost: who asks for those since an earlier one is told everything.
    pub(super) changed_floor: Sequence,
    /// The same for expunged UIDs, of which only so many are remembered.
    pub(super) vanished_floor: Sequence,
    /// Bytes of its live messages.
    pub(super) bytes: u64,
    /// Segment of the record with its name; `NO_SEGMENT`: there is none.
    pub(super) put_segment: u32,
    /// Segment of the reserve record; `NO_SEGMENT`: there is none.
    pub(super) reserve_segment: u32,
    /// UIDVALIDITY as the record says it that made the mailbox (or its account).
    pub(super) put_validity: UidValidity,
    /// UIDVALIDITY as the reserve record says it, which is stronger.
    pub(super) reserve_validity: UidValidity,
    /// As the reserve record says it.
    pub(super) reserve_uid: Uid,
    /// Above every UID seen.
    pub(super) uid_next: Uid,
    /// Live messages.
    pub(super) count: u32,
    /// Of these, with `\Seen`.
    pub(super) seen: u32,
    /// Of these, with `\Deleted`.
    pub(super) deleted: u32,
    /// What it is for, as the log has it.
    pub(super) special_use: u8,
    /// It was removed, for ever.
    pub(super) removed: bool,
}

impl BoxFields {
    /// Of a mailbox that nothing is known of.
    pub(super) const ABSENT: BoxFields = BoxFields {
        put_seq: 0,
        reserve_seq: 0,
        modseq: 0,
        reserve_modseq: 0,
        changed_floor: 0,
        vanished_floor: 0,
        bytes: 0,
        put_segment: NO_SEGMENT,
        reserve_segment: NO_SEGMENT,
        put_validity: 0,
        reserve_validity: 0,
        reserve_uid: 0,
        uid_next: 1,
        count: 0,
        seen: 0,
        deleted: 0,
        special_use: 0,
        removed: false,
    };

    /// Its record is there.
    pub(super) fn has_record(&self) -> bool {
        self.put_segment != NO_SEGMENT
    }

    /// Not an INBOX, there is something of it: mail of a mailbox whose own record was lost is kept.
    pub(super) fn is_kept(&self) -> bool {
        !self.removed && (self.has_record() || self.count > 0)
    }

    /// Not an INBOX, it is to be shown.
    pub(super) fn is_shown(&self) -> bool {
        self.is_kept() && !self.is_condemned()
    }

    /// It was removed, and its messages have yet to go.
    pub(super) fn is_condemned(&self) -> bool {
        self.special_use == CONDEMNED
    }

    /// A reserve record counts.
    pub(super) fn has_reserve(&self) -> bool {
        self.reserve_segment != NO_SEGMENT
    }

    /// UIDVALIDITY: the later one. A reserve may tell of the account that had this address before:
    /// compaction writes down what is visible, and the end of that account may be on its way then.
    pub(super) fn validity(&self) -> UidValidity {
        if self.has_reserve() {
            self.reserve_validity.max(self.put_validity)
        } else {
            self.put_validity
        }
    }

    /// Live messages have these flags from now on.
    pub(super) fn count_flags(&mut self, flags: Flags) {
        self.seen += u32::from(flags.has(Flags::SEEN));
        self.deleted += u32::from(flags.has(Flags::DELETED));
    }

    /// Live messages had these flags.
    pub(super) fn uncount_flags(&mut self, flags: Flags) {
        self.seen = self.seen.saturating_sub(flags.has(Flags::SEEN).into());
        self.deleted = self
            .deleted
            .saturating_sub(flags.has(Flags::DELETED).into());
    }
}

/// What few mailboxes have.
#[derive(Debug, Clone, Default)]
pub(super) struct Rare {
    /// See [`Marks`].
    pub(super) marks: Marks,
    /// See [`Tombstones`].
    pub(super) tombstones: Tombstones,
    /// Names of keywords by their bits, those of below included; `None`: as below.
    pub(super) keywords: Option<Vec<Box<str>>>,
}

/// What a layer knows of a mailbox.
#[derive(Debug, Clone)]
pub(super) struct Mailbox {
    /// Valid as they stand here.
    pub(super) fields: BoxFields,
    /// The latest expunge, for messages that arrive dead.
    pub(super) last_expunge_ms: u64,
    /// Its name; `None`: as below.
    pub(super) name: Option<Box<str>>,
    /// Messages appended (or whose append record was moved) since, in UID order.
    pub(super) messages: Vec<Message>,
    /// Messages of the layers below that are dead, ascending.
    pub(super) dead: Vec<Uid>,
    /// No message below counts.
    pub(super) hides_below: bool,
    pub(super) rare: Option<Box<Rare>>,
}

impl Mailbox {
    /// Nothing has changed yet.
    pub(super) fn new(fields: BoxFields) -> Mailbox {
        Mailbox {
            fields,
            last_expunge_ms: 0,
            name: None,
            messages: Vec::new(),
            dead: Vec::new(),
            hides_below: false,
            rare: None,
        }
    }

    /// Its flags, tombstones and keywords, to be changed.
    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// The mark of a message, as far as this layer has one.
    pub(super) fn mark(&self, uid: Uid) -> Option<Mark> {
        self.rare.as_ref()?.marks.get(uid)
    }

    /// An expunge record above `seq` names this UID.
    pub(super) fn is_expunged(&self, uid: Uid, seq: Sequence) -> bool {
        let rare = self.rare.as_ref();
        rare.is_some_and(|rare| rare.tombstones.seq_of(uid) > Some(seq))
    }

    /// `Some(None)`: the UID is dead here; `None`: the layers below know.
    pub(super) fn message(&self, uid: Uid) -> Option<Option<Message>> {
        if let Ok(index) = self.position(uid) {
            return Some(Some(self.messages[index]));
        }
        if self.hides_below || self.dead.binary_search(&uid).is_ok() {
            return Some(None);
        }
        None
    }

    fn position(&self, uid: Uid) -> Result<usize, usize> {
        match self.messages.last() {
            Some(last) if last.uid < uid => Err(self.messages.len()),
            None => Err(0),
            _ => self.messages.binary_search_by_key(&uid, |m| m.uid),
        }
    }

    /// Puts a live message in, over one of the same UID.
    pub(super) fn put_message(&mut self, message: Message) {
        match self.position(message.uid) {
            Ok(index) => self.messages[index] = message,
            Err(place) => {
                if self.messages.len() == self.messages.capacity() {
                    // By a quarter, not double: there are many of these, and most stay as they are.
                    self.messages.reserve_exact(self.messages.len() / 4 + 4);
                }
                self.messages.insert(place, message);
            }
        }
    }

    /// Takes out messages by ascending UIDs in one pass; `dead` of them, ascending, were below.
    /// Marks above `seq` stay: they are of messages that had these UIDs later.
    pub(super) fn kill(&mut self, uids: &[Uid], dead: &[Uid], seq: Sequence) {
        if let (Some(first), Some(last)) = (uids.first(), uids.last()) {
            let start = self.messages.partition_point(|m| m.uid < *first);
            let end = self.messages.partition_point(|m| m.uid <= *last);
            if start < end {
                let mut kept = start;
                for index in start..end {
                    if uids.binary_search(&self.messages[index].uid).is_err() {
                        self.messages[kept] = self.messages[index];
                        kept += 1;
                    }
                }
                self.messages.drain(kept..end);
            }
        }
        if let Some(rare) = &mut self.rare
            && !rare.marks.is_empty()
        {
            for uid in uids {
                if rare.marks.get(*uid).is_some_and(|mark| mark.seq <= seq) {
                    rare.marks.remove(*uid);
                }
            }
        }
        match (dead, self.dead.last()) {
            ([], _) => {}
            ([first, ..], Some(last)) if first <= last => {
                self.dead.extend(dead);
                // Two runs in order, which this sort joins in one pass.
                self.dead.sort();
                self.dead.dedup();
            }
            _ => self.dead.extend(dead),
        }
    }

    /// Messages of this layer over `below`, both and the result in UID order.
    pub(super) fn over(&self, below: Vec<Message>) -> Vec<Message> {
        if self.hides_below || below.is_empty() {
            return self.messages.clone();
        }
        if self.messages.is_empty() && self.dead.is_empty() {
            return below;
        }
        let mut merged = Vec::with_capacity(below.len() + self.messages.len());
        let mut own = self.messages.iter().copied().peekable();
        let mut dead = self.dead.iter().copied().peekable();
        for message in below {
            while let Some(newer) = own.next_if(|own| own.uid < message.uid) {
                merged.push(newer);
            }
            while dead.next_if(|dead| *dead < message.uid).is_some() {}
            if let Some(newer) = own.next_if(|own| own.uid == message.uid) {
                merged.push(newer);
            } else if dead.peek() != Some(&message.uid) {
                merged.push(message);
            }
        }
        merged.extend(own);
        merged
    }

    /// Takes in what a later layer says. `removed_seq`: the end of an earlier account.
    pub(super) fn merge(&mut self, later: Mailbox, removed_seq: Sequence) {
        self.messages = later.over(std::mem::take(&mut self.messages));
        if later.hides_below {
            self.hides_below = true;
            self.dead.clear();
        }
        self.dead.extend(&later.dead);
        self.dead.sort();
        self.dead.dedup();
        let live: &[Message] = &self.messages;
        self.dead
            .retain(|uid| live.binary_search_by_key(uid, |m| m.uid).is_err());
        if later.name.is_some() {
            self.name = later.name;
        }
        if later.hides_below
            && let Some(rare) = &mut self.rare
        {
            rare.marks = Marks::default();
        }
        if let Some(later) = later.rare {
            let rare = self.rare_mut();
            rare.marks.merge(later.marks);
            rare.tombstones.merge(later.tombstones);
            if later.keywords.is_some() {
                rare.keywords = later.keywords;
            }
        }
        if let Some(rare) = &mut self.rare {
            rare.tombstones.drop_to(removed_seq);
            for uid in &self.dead {
                rare.marks.remove(*uid);
            }
        }
        self.last_expunge_ms = self.last_expunge_ms.max(later.last_expunge_ms);
        let floor = self.fields.vanished_floor;
        self.fields = later.fields;
        self.fields.vanished_floor = self.fields.vanished_floor.max(floor);
    }

    /// Approximate bytes of memory beside the structure itself.
    pub(super) fn bytes(&self) -> usize {
        let rare = self.rare.as_ref().map_or(0, |rare| {
            let words = rare.keywords.iter().flatten();
            size_of::<Rare>()
                + rare.marks.bytes()
                + rare.tombstones.bytes()
                + words.map(|word| word.len() + 16).sum::<usize>()
        });
        self.messages.capacity() * size_of::<Message>()
            + self.dead.capacity() * size_of::<Uid>()
            + self.name.as_ref().map_or(0, |name| name.len())
            + rare
    }
}
