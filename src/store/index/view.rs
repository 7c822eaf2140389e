//! What sessions ask of a mailbox, at a cost that follows the answer and not what is there.
//!
//! Messages lie in the order of their UIDs, which is that of their append records' numbers: those
//! appended since a MODSEQ are at the end. Marks are listed by number beside. So what has changed
//! since is found by a search, and what is gone since by the ranges that are remembered.

use std::ops::ControlFlow;

use super::lookup::Stack;
use super::mailbox::BoxFields;
use super::message::Message;
use super::{Found, Index, Location, runs};
use crate::mail::Address;
use crate::store::record::Reserved;
use crate::store::{
    MailboxId, MailboxInfo, MessageInfo, Sequence, SpecialUse, Uid, UidRun, UidValidity,
    validity_at,
};

/// UIDVALIDITY: of a mailbox whose own record was lost, what its number makes it, as that did.
fn validity_of(id: MailboxId, fields: &BoxFields) -> UidValidity {
    let first = if id.is_inbox() { 1 } else { validity_at(id.0) };
    fields.validity().max(first)
}

impl Stack<'_> {
    /// Of these UIDs some are live.
    pub(super) fn runs(&self) -> Vec<UidRun> {
        let mut all = match self.base {
            Some((base, row)) => {
                let rows = base.message_rows(row);
                runs::find(rows.len(), |place| base.uid_at(rows.start + place))
            }
            None => Vec::new(),
        };
        for own in self.layers().rev() {
            all = runs::without(all, &runs::find(own.dead.len(), |place| own.dead[place]));
            let messages = &own.messages;
            all = runs::join(
                all,
                &runs::find(messages.len(), |place| messages[place].uid),
            );
        }
        all
    }

    /// UIDs of messages that came or changed since, and of some that are gone again.
    fn touched_since(&self, modseq: Sequence) -> Vec<Uid> {
        let mut uids = Vec::new();
        for own in self.layers() {
            let first = own.messages.partition_point(|m| m.seq() <= modseq);
            uids.extend(own.messages[first..].iter().map(|m| m.uid));
            let Some(rare) = &own.rare else { continue };
            let marks = rare.marks.after((modseq, Uid::MAX));
            uids.extend(marks.map(|(_, uid)| uid));
        }
        if let Some((base, row)) = self.base {
            uids.extend(base.uids_appended_since(row, modseq));
            uids.extend(base.uids_marked_since(row, modseq));
        }
        uids.sort_unstable();
        uids.dedup();
        uids
    }

    /// As many as [`Stack::touched_since`] finds before it takes out what is there twice, or some
    /// number above `count_max`.
    fn touched_count(&self, modseq: Sequence, count_max: usize) -> usize {
        let mut count = 0;
        for own in self.layers() {
            count += own.messages.len() - own.messages.partition_point(|m| m.seq() <= modseq);
            let Some(rare) = &own.rare else { continue };
            // One above the bound is enough to know.
            let room = count_max.saturating_sub(count).saturating_add(1);
            count += rare.marks.after((modseq, Uid::MAX)).take(room).count();
        }
        if let Some((base, row)) = self.base {
            // Both know how many they are.
            count += base.uids_appended_since(row, modseq).size_hint().0;
            count += base.uids_marked_since(row, modseq).size_hint().0;
        }
        count
    }

    fn vanished_floor(&self) -> Sequence {
        let own = self.layers().map(|own| own.fields.vanished_floor);
        let base = self.base.map(|(base, row)| base.box_fields(row));
        own.chain(base.map(|fields| fields.vanished_floor))
            .max()
            .unwrap_or(0)
    }

    fn info(&self, message: &Message) -> MessageInfo {
        message.info(self.mark(message.uid))
    }
}

impl Index {
    /// A mailbox that is to be shown, of an account that is there.
    fn shown(&self, address: &Address, id: MailboxId) -> Option<Stack<'_>> {
        if !self.has_account(address) {
            return None;
        }
        let stack = self.stack(address, id);
        if id.is_inbox() || stack.fields().is_some_and(|fields| fields.is_shown()) {
            Some(stack)
        } else {
            None
        }
    }

    /// There is such a mailbox.
    pub fn has_mailbox(&self, address: &Address, id: MailboxId) -> bool {
        self.shown(address, id).is_some()
    }

    /// Numbers of an account's mailboxes.
    pub fn mailbox_ids(&self, address: &Address) -> Vec<MailboxId> {
        let mut ids = self.box_ids(address);
        ids.retain(|id| self.has_mailbox(address, *id));
        ids
    }

    /// What is known of a mailbox, under the name that [`Index::names`] gives it.
    pub fn mailbox_info(
        &self,
        address: &Address,
        id: MailboxId,
        name: String,
    ) -> Option<MailboxInfo> {
        let fields = self.shown(address, id)?.fields()?;
        Some(MailboxInfo {
            id,
            name,
            special_use: SpecialUse::from_byte(fields.special_use),
            validity: validity_of(id, &fields),
            object_id: match id {
                MailboxId::INBOX => u64::from(fields.put_validity),
                MailboxId(made_seq) => made_seq,
            },
            highest_modseq: fields.modseq.max(1),
            uid_next: fields.uid_next,
            exists: fields.count,
            unseen: fields.count.saturating_sub(fields.seen),
            deleted: fields.deleted,
            bytes: fields.bytes,
        })
    }

    /// UIDVALIDITY and special use as a record must say them that gives a mailbox another name.
    pub fn put_again(&self, address: &Address, id: MailboxId) -> Option<(UidValidity, u8)> {
        let fields = self.shown(address, id)?.fields()?;
        let validity = match id {
            MailboxId::INBOX => fields.put_validity,
            MailboxId(made_seq) => validity_at(made_seq),
        };
        Some((validity, fields.special_use))
    }

    /// Names of a mailbox's keywords, by bits.
    pub fn keywords(&self, address: &Address, id: MailboxId) -> Vec<Box<str>> {
        let stack = self.shown(address, id);
        stack.map_or_else(Vec::new, |stack| stack.keywords())
    }

    /// How many keywords a mailbox has.
    pub fn keyword_count(&self, address: &Address, id: MailboxId) -> usize {
        let stack = self.shown(address, id);
        stack.map_or(0, |stack| stack.keyword_count())
    }

    /// Runs of UIDs that are there.
    pub fn runs(&self, address: &Address, id: MailboxId) -> Vec<UidRun> {
        let stack = self.shown(address, id);
        stack.map_or_else(Vec::new, |stack| stack.runs())
    }

    /// Visits messages from `first` to `last`, by ascending UID.
    pub fn visit(
        &self,
        address: &Address,
        id: MailboxId,
        (first, last): (Uid, Uid),
        visit: &mut dyn FnMut(&MessageInfo) -> ControlFlow<()>,
    ) {
        if let Some(stack) = self.shown(address, id) {
            stack.visit(first, last, &mut |message, mark| visit(&message.info(mark)));
        }
    }

    /// Messages that came or changed since, by ascending UID; `Some(None)`: there may be more than
    /// `count_max`. `None`: no such mailbox.
    pub fn changed_since(
        &self,
        address: &Address,
        id: MailboxId,
        modseq: Sequence,
        count_max: usize,
    ) -> Option<Option<Vec<MessageInfo>>> {
        let stack = self.shown(address, id)?;
        let fields = stack.fields()?;
        let mut changed = Vec::new();
        if modseq < fields.changed_floor {
            if fields.count as usize > count_max {
                return Some(None);
            }
            stack.visit(0, Uid::MAX, &mut |message, mark| {
                changed.push(message.info(mark));
                ControlFlow::Continue(())
            });
            return Some(Some(changed));
        }
        if stack.touched_count(modseq, count_max) > count_max {
            return Some(None);
        }
        for uid in stack.touched_since(modseq) {
            if let Some(message) = stack.message(uid) {
                let info = stack.info(&message);
                if info.modseq > modseq {
                    changed.push(info);
                }
            }
        }
        Some(Some(changed))
    }

    /// UIDs below UIDNEXT that are gone since, and perhaps some that were gone before. `None`: no
    /// such mailbox.
    pub fn vanished_since(
        &self,
        address: &Address,
        id: MailboxId,
        modseq: Sequence,
    ) -> Option<Vec<UidRun>> {
        let stack = self.shown(address, id)?;
        let fields = stack.fields()?;
        if modseq < stack.vanished_floor() {
            let all = match fields.uid_next.checked_sub(1) {
                Some(last @ 1..) => vec![UidRun { first: 1, last }],
                _ => Vec::new(),
            };
            return Some(runs::without(all, &stack.runs()));
        }
        let mut gone: Vec<UidRun> = Vec::new();
        for own in stack.layers() {
            let Some(rare) = &own.rare else { continue };
            let after = rare.tombstones.after(modseq);
            gone.extend(after.map(|(first, last, _)| UidRun { first, last }));
        }
        if let Some((base, row)) = stack.base {
            let after = base.vanished_since(row, modseq);
            gone.extend(after.map(|(first, last, _)| UidRun { first, last }));
        }
        gone.sort_unstable_by_key(|run| run.first);
        Some(runs::tidy(&gone))
    }

    /// What a delivery must know of an account, at one look: the next UID of its INBOX, bytes in
    /// use and the quota in bytes (0: unlimited).
    pub fn inbox_room(&self, address: &Address) -> Option<(Uid, u64, u64)> {
        let (fields, inbox) = match self.active.entry(address) {
            Some(entry) => (entry.fields, entry.inbox.fields),
            None => (
                self.fields_below(address)?,
                self.stack_below(address, MailboxId::INBOX).fields()?,
            ),
        };
        fields
            .exists()
            .then_some((inbox.uid_next, fields.bytes, fields.quota_bytes))
    }

    /// The same of any mailbox, and its UIDVALIDITY.
    pub fn room(&self, address: &Address, id: MailboxId) -> Option<(Uid, UidValidity, u64, u64)> {
        let fields = self.shown(address, id)?.fields()?;
        let account = self.fields(address)?;
        Some((
            fields.uid_next,
            validity_of(id, &fields),
            account.bytes,
            account.quota_bytes,
        ))
    }

    /// Bytes of all messages of an account, which its quota bounds.
    pub fn used_bytes(&self, address: &Address) -> Option<u64> {
        let fields = self.fields(address).filter(|fields| fields.exists())?;
        Some(fields.bytes)
    }

    /// UIDVALIDITY of the INBOX, as the account's record says it: the same as long as there is this
    /// account.
    pub fn account_validity(&self, address: &Address) -> Option<UidValidity> {
        let fields = self.shown(address, MailboxId::INBOX)?.fields()?;
        Some(fields.put_validity)
    }

    /// Numbers that were given of a mailbox.
    pub fn reserved(&self, address: &Address, id: MailboxId) -> Option<Reserved> {
        let fields = self.shown(address, id)?.fields()?;
        Some(Reserved {
            uid_next: fields.uid_next,
            validity: validity_of(id, &fields),
            modseq: fields.modseq,
            changed_floor: fields.changed_floor,
        })
    }

    /// All messages of a mailbox, in UID order.
    pub fn messages_in(&self, address: &Address, id: MailboxId) -> Option<Vec<MessageInfo>> {
        let stack = self.shown(address, id)?;
        let mut messages = Vec::with_capacity(stack.fields()?.count as usize);
        stack.visit(0, Uid::MAX, &mut |message, mark| {
            messages.push(message.info(mark));
            ControlFlow::Continue(())
        });
        Some(messages)
    }

    /// All live messages, in UID order.
    pub(super) fn messages_of(&self, address: &Address, id: MailboxId) -> Vec<Message> {
        let mut messages = Vec::new();
        let stack = self.stack(address, id);
        stack.visit(0, Uid::MAX, &mut |message, _| {
            messages.push(*message);
            ControlFlow::Continue(())
        });
        messages
    }

    /// Messages of a condemned mailbox from a UID on, at most so many; `None`: it is not one.
    pub fn condemned(
        &self,
        address: &Address,
        id: MailboxId,
        first: Uid,
        most: usize,
    ) -> Option<Vec<Uid>> {
        let stack = self.stack(address, id);
        stack.fields().filter(BoxFields::is_condemned)?;
        let mut uids = Vec::new();
        stack.visit(first, Uid::MAX, &mut |message, _| {
            uids.push(message.uid);
            match uids.len() < most {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        Some(uids)
    }

    /// The account was removed, and its messages have yet to go.
    pub fn is_condemned(&self, address: &Address) -> bool {
        self.fields(address)
            .is_some_and(|fields| fields.is_condemned())
    }

    /// Messages in all mailboxes of an account, whether it is there or not.
    pub fn count_messages(&self, address: &Address) -> u64 {
        let counts = self.box_ids(address).into_iter().map(|id| {
            let fields = self.stack(address, id).fields();
            fields.map_or(0, |fields| u64::from(fields.count))
        });
        counts.sum()
    }

    /// Messages of one mailbox of a condemned account, the first that has some from a UID of a mailbox
    /// on, at most so many; `None`: there are no more.
    pub fn condemned_in_account(
        &self,
        address: &Address,
        (first_box, first_uid): (MailboxId, Uid),
        most: usize,
    ) -> Option<(MailboxId, Vec<Uid>)> {
        let ids = self.box_ids(address).into_iter();
        ids.skip_while(|id| *id < first_box).find_map(|id| {
            let first = if id == first_box { first_uid } else { 0 };
            let mut uids = Vec::new();
            let stack = self.stack(address, id);
            // One that is empty may have had a million.
            stack.fields().filter(|fields| fields.count > 0)?;
            stack.visit(first, Uid::MAX, &mut |message, _| {
                uids.push(message.uid);
                match uids.len() < most {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            });
            (!uids.is_empty()).then_some((id, uids))
        })
    }

    /// Those of these messages that are there, with their bytes.
    pub fn live(
        &self,
        address: &Address,
        id: MailboxId,
        uids: &[Uid],
    ) -> impl Iterator<Item = (Uid, u64)> {
        let stack = self.shown(address, id).unwrap_or_default();
        let found = uids.iter().filter_map(move |uid| stack.message(*uid));
        found.map(|message| (message.uid, message.bytes()))
    }

    /// One message. When no record has told of its body, for the log is damaged there, its
    /// location is in segment 0 and has no bytes: it can be expunged, but not read.
    pub fn find(&self, address: &Address, id: MailboxId, uid: Uid) -> Option<Found> {
        let stack = self.shown(address, id)?;
        let message = stack.message(uid)?;
        let info = stack.info(&message);
        Some(Found {
            info,
            body_seq: info.body_seq,
            location: self.body(info.body_seq).unwrap_or(Location {
                segment: 0,
                offset: 0,
                bytes: 0,
            }),
        })
    }
}
