//! What waits for its batch and has not been seen yet, by account and mailbox.
//!
//! Guarantees: numbers given to what waits are not given again; whoever changes something sees it
//! as it will be when its turn comes. An entry goes with the last change that it is about.
//! Does not know: the index, records.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::change::Pended;
use super::{Flags, MailboxId, Sequence, Uid};

/// What waiting changes will have made of an account.
#[derive(Debug, Default)]
pub(super) struct WaitingAccount {
    /// Changes that wait.
    pub uses: u32,
    /// The next UID of INBOX; 0: as the index says.
    pub uid_next: Uid,
    /// Bytes of messages that wait.
    pub bytes: u64,
    /// It will be there, or not; `None`: as the index says.
    pub exists: Option<bool>,
    /// What only sessions change: none for mail that is just delivered.
    mailboxes: BTreeMap<MailboxId, WaitingMailbox>,
}

/// The same of a mailbox.
#[derive(Debug, Default)]
pub(super) struct WaitingMailbox {
    /// The next UID; 0: as the index says. That of INBOX is with its account.
    uid_next: Uid,
    /// Its end waits.
    pub is_removed: bool,
    /// Messages whose expunge waits, and how often.
    pub expunged: FxHashMap<Uid, u32>,
    /// Flags that wait, the latest of each message.
    pub marks: FxHashMap<Uid, WaitingMark>,
    /// Keywords that the mailbox may not have yet.
    pub keywords: Vec<Box<str>>,
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
    /// The mailbox, if the index has it, stays.
    pub fn keeps(&self, mailbox: MailboxId) -> bool {
        self.exists.is_none() && self.mailbox(mailbox).is_none_or(|own| !own.is_removed)
    }

    /// What waits in a mailbox.
    pub fn mailbox(&self, mailbox: MailboxId) -> Option<&WaitingMailbox> {
        self.mailboxes.get(&mailbox)
    }

    /// The same, to be changed.
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

    /// The same, to be changed.
    pub fn uid_next_mut(&mut self, mailbox: MailboxId) -> &mut Uid {
        if mailbox.is_inbox() {
            &mut self.uid_next
        } else {
            &mut self.mailbox_mut(mailbox).uid_next
        }
    }

    /// A change is durable, or will never be.
    pub fn release(&mut self, seq: Sequence, change: &Pended) {
        self.uses = self.uses.saturating_sub(1);
        match change {
            Pended::Append { bytes, .. } => self.bytes = self.bytes.saturating_sub(*bytes),
            Pended::Flags { mailbox, marks, .. } => {
                let Some(own) = self.mailboxes.get_mut(mailbox) else {
                    return;
                };
                for mark in marks {
                    if own.marks.get(&mark.uid).is_some_and(|own| own.seq == seq) {
                        own.marks.remove(&mark.uid);
                    }
                }
            }
            Pended::Expunge { mailbox, uids, .. } => {
                let Some(own) = self.mailboxes.get_mut(mailbox) else {
                    return;
                };
                for uid in uids {
                    if let Some(count) = own.expunged.get_mut(uid) {
                        *count -= 1;
                        if *count == 0 {
                            own.expunged.remove(uid);
                        }
                    }
                }
            }
            _ => {}
        }
    }
}
