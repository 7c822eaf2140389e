//! What waits for its batch and has not been seen yet, by account and mailbox.
//!
//! Guarantees: numbers given to what waits are not given again; whoever changes something sees it
//! as it will be when its turn comes. What is noted here goes with the record that says it, durable
//! or not: accounts that are never at rest keep nothing of before.
//! Does not know: the index, records.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::change::Pended;
use super::{Flags, MailboxId, Sequence, Uid, same_keyword};

/// What waiting changes will have made of an account.
#[derive(Debug, Default)]
pub(super) struct WaitingAccount {
    /// Changes that wait.
    pub uses: u32,
    /// The next UID of INBOX; 0: as the index says. Too high a one does no harm.
    pub uid_next: Uid,
    /// Bytes of messages that wait.
    pub bytes: u64,
    /// It will be there, or not; `None`: as the index says.
    exists: Option<WaitingEnd>,
    /// What only sessions change: none for mail that is just delivered.
    mailboxes: BTreeMap<MailboxId, WaitingMailbox>,
}

/// An account that is on its way to be there, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WaitingEnd {
    /// Number of the record.
    pub seq: Sequence,
    pub exists: bool,
    /// It is removed, and its messages go later.
    pub is_condemned: bool,
}

/// What waiting changes will have made of a mailbox.
#[derive(Debug, Default)]
pub(super) struct WaitingMailbox {
    /// The next UID; 0: as the index says. That of INBOX is with its account.
    uid_next: Uid,
    /// Number of the record with the UID before that.
    uid_seq: Sequence,
    /// Number of the record that ends it.
    removed: Option<Sequence>,
    /// Messages whose expunge waits, and the number of the latest record that has it.
    pub expunged: FxHashMap<Uid, Sequence>,
    /// Flags that wait, the latest of each message.
    pub marks: FxHashMap<Uid, WaitingMark>,
    /// Keywords that the mailbox may not have yet, and the number of the latest record with them.
    keywords: Vec<(Sequence, Box<str>)>,
}

/// Flags of a message that wait.
#[derive(Debug, Clone)]
pub(super) struct WaitingMark {
    /// Number of the record.
    pub seq: Sequence,
    pub flags: Flags,
    pub keywords: Vec<Box<str>>,
}

impl WaitingAccount {
    /// The record of this number makes or ends the account.
    pub fn set_exists(&mut self, seq: Sequence, exists: bool) {
        self.exists = Some(WaitingEnd {
            seq,
            exists,
            is_condemned: false,
        });
        self.uid_next = u32::from(exists);
    }

    /// The record of this number condemns the account.
    pub fn condemn(&mut self, seq: Sequence) {
        self.set_exists(seq, false);
        if let Some(end) = &mut self.exists {
            end.is_condemned = true;
        }
    }

    /// Whether it will be there; `None`: as the index says.
    pub fn exists(&self) -> Option<WaitingEnd> {
        self.exists
    }

    /// The mailbox, if the index has it, stays.
    pub fn keeps(&self, mailbox: MailboxId) -> bool {
        self.exists.is_none()
            && self
                .mailbox(mailbox)
                .is_none_or(|own| own.removed.is_none())
    }

    /// What waits in a mailbox.
    pub fn mailbox(&self, mailbox: MailboxId) -> Option<&WaitingMailbox> {
        self.mailboxes.get(&mailbox)
    }

    /// The same, to be changed by a record that was added.
    pub fn mailbox_mut(&mut self, mailbox: MailboxId) -> &mut WaitingMailbox {
        self.mailboxes.entry(mailbox).or_default()
    }

    /// The next UID of a mailbox; 0: as the index says.
    pub fn uid_next(&self, mailbox: MailboxId) -> Uid {
        if mailbox.is_inbox() {
            return self.uid_next;
        }
        self.mailbox(mailbox).map_or(0, |own| own.uid_next)
    }

    /// The record of this number gives a UID of a mailbox.
    pub fn give_uid(&mut self, mailbox: MailboxId, uid: Uid, seq: Sequence) {
        let next = uid.saturating_add(1);
        if mailbox.is_inbox() {
            self.uid_next = next;
        } else {
            let own = self.mailbox_mut(mailbox);
            (own.uid_next, own.uid_seq) = (next, seq);
        }
    }

    /// A change is durable, or will never be.
    pub fn release(&mut self, seq: Sequence, change: &Pended) {
        self.uses = self.uses.saturating_sub(1);
        if self.exists.is_some_and(|end| end.seq == seq) {
            self.exists = None;
        }
        if let Pended::Append { bytes, .. } = change {
            self.bytes = self.bytes.saturating_sub(*bytes);
        }
        if let Some(mailbox) = change.mailbox()
            && let Some(own) = self.mailboxes.get_mut(&mailbox)
        {
            own.release(seq, change);
            if own.is_at_rest() {
                self.mailboxes.remove(&mailbox);
            }
        }
    }
}

impl WaitingMailbox {
    /// The record of this number ends it.
    pub fn remove(&mut self, seq: Sequence) {
        self.removed = Some(seq);
    }

    /// Keywords that it will have.
    pub fn keywords(&self) -> impl Iterator<Item = &Box<str>> {
        self.keywords.iter().map(|(_, word)| word)
    }

    /// The record of this number has these keywords.
    pub fn note_keywords(&mut self, seq: Sequence, words: &[Box<str>]) {
        for word in words {
            let mut known = self.keywords.iter_mut();
            match known.find(|(_, own)| same_keyword(own, word)) {
                Some((own, _)) => *own = seq,
                None => self.keywords.push((seq, word.clone())),
            }
        }
    }

    fn release(&mut self, seq: Sequence, change: &Pended) {
        if self.uid_seq == seq {
            (self.uid_next, self.uid_seq) = (0, 0);
        }
        // One that is condemned is put once more, as that.
        if self.removed == Some(seq) {
            self.removed = None;
        }
        match change {
            Pended::Flags { marks, .. } => {
                for mark in marks {
                    if self.marks.get(&mark.uid).is_some_and(|own| own.seq == seq) {
                        self.marks.remove(&mark.uid);
                    }
                }
            }
            Pended::Expunge { uids, .. } => {
                for uid in uids {
                    if self.expunged.get(uid) == Some(&seq) {
                        self.expunged.remove(uid);
                    }
                }
            }
            _ => {}
        }
        self.keywords.retain(|(own, _)| *own != seq);
    }

    /// It is as the index says.
    fn is_at_rest(&self) -> bool {
        self.uid_next == 0
            && self.removed.is_none()
            && self.expunged.is_empty()
            && self.marks.is_empty()
            && self.keywords.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Address;
    use crate::store::change::Extra;

    fn ann() -> Address {
        Address::parse("ann@example.org").unwrap()
    }

    fn append(mailbox: MailboxId, uid: Uid, keywords: &[&str]) -> Pended {
        let keywords: Vec<Box<str>> = keywords.iter().map(|word| (*word).into()).collect();
        Pended::Append {
            address: ann(),
            mailbox,
            uid,
            body_seq: 1,
            bytes: 10,
            date_ms: 0,
            extra: Some(Box::new(Extra {
                saved_ms: 0,
                flags: Flags::NONE,
                keywords,
            })),
        }
    }

    /// Something waits at every moment, as in an account that mail comes to without a pause.
    #[test]
    fn what_a_record_says_goes_with_it() {
        let mut account = WaitingAccount {
            uses: 100,
            ..WaitingAccount::default()
        };
        let (inbox, sent) = (MailboxId::INBOX, MailboxId(7));
        let remove = Pended::RemoveAccount { address: ann() };
        account.set_exists(1, false);
        account.set_exists(2, true);
        account.release(1, &remove);
        assert_eq!(account.exists().map(|end| end.exists), Some(true));
        assert!(!account.keeps(inbox));
        account.release(2, &append(inbox, 1, &[]));
        assert!(account.keeps(inbox) && account.keeps(sent));

        account.mailbox_mut(sent).remove(3);
        assert!(!account.keeps(sent) && account.keeps(inbox));
        let ended = Pended::RemoveMailbox {
            address: ann(),
            mailbox: sent,
        };
        account.release(3, &ended);
        assert!(account.keeps(sent));

        let word: [Box<str>; 1] = ["word".into()];
        for (seq, uid) in [(4, 11), (5, 12)] {
            account.give_uid(sent, uid, seq);
            let own = account.mailbox_mut(sent);
            own.note_keywords(seq, &word);
            own.expunged.insert(9, seq);
        }
        let gone = |now_ms| Pended::Expunge {
            address: ann(),
            mailbox: sent,
            uids: vec![9],
            now_ms,
        };
        account.release(4, &append(sent, 11, &["word"]));
        account.release(4, &gone(4));
        let own = account.mailbox(sent).unwrap();
        assert_eq!((own.keywords().count(), own.expunged.len()), (1, 1));
        assert_eq!(account.uid_next(sent), 13);
        account.release(5, &append(sent, 12, &["WORD"]));
        assert_eq!(account.mailbox(sent).unwrap().keywords().count(), 0);
        account.release(5, &gone(5));
        assert!(account.mailbox(sent).is_none());
        assert_eq!(account.uid_next(sent), 0);
    }
}
