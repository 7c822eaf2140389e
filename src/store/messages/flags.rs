//! Flags and keywords: changed as they are when their turn comes.
//!
//! Does not know: how messages come.

use super::*;

/// Messages whose flags are changed by one record: each is looked up before.
const FLAGS_MAX: usize = 4096;

/// A message as it will be.
pub(super) struct Current {
    pub(super) info: MessageInfo,
    pub(super) modseq: Sequence,
    pub(super) flags: Flags,
    pub(super) keywords: Vec<Box<str>>,
}

impl<D: Disk> Partition<D> {
    /// Changes flags and keywords, of many messages in several steps. Resolves when that is durable.
    ///
    /// # Errors
    /// `Missing`: no such account or mailbox; `TooMany` keywords; `TooLarge`: one of them;
    /// `Full`, `ReadOnly`, `Closing`. What came before the error in the order of UIDs stays.
    pub async fn store_flags(
        &self,
        address: &Address,
        mailbox: MailboxId,
        uids: &[Uid],
        change: &FlagChange,
    ) -> Result<Stored, StoreError> {
        check_keywords(&change.keywords)?;
        let mut stored = Stored::default();
        for part in sorted(uids).chunks(FLAGS_MAX) {
            let marks = part.len() * MARK_BYTES;
            let bytes = SMALL_BYTES + address.as_str().len() + WORDS_BYTES_MAX + marks;
            let level = self.settings.sync.store;
            let done = self.mutate(bytes, level, Space::Small, |this, pending| {
                this.add_flags(pending, address, mailbox, (part, change))
            });
            let done = done.await?;
            stored.changed.extend(done.changed);
            stored.modified.extend(done.modified);
            stored.modseq = done.modseq.or(stored.modseq);
            stored.before = done.before.max(stored.before);
        }
        Ok(stored)
    }

    fn add_flags(
        &self,
        pending: &mut Pending,
        address: &Address,
        mailbox: MailboxId,
        (uids, change): (&[Uid], &FlagChange),
    ) -> Result<Stored, StoreError> {
        if !self.keeps(address, mailbox) {
            return Err(StoreError::Missing);
        }
        let names = self.index.borrow().keywords(address, mailbox);
        let mut stored = Stored::default();
        let mut words: Vec<Box<str>> = Vec::new();
        let mut marks = Vec::new();
        let mut waiting_marks = Vec::new();
        for &uid in uids {
            let Some(now) = self.current(pending, address, (mailbox, uid), &names) else {
                continue;
            };
            if change
                .unchanged_since
                .is_some_and(|since| now.modseq > since)
            {
                stored.modified.push(uid);
                continue;
            }
            let next = changed(&now, change);
            if next.0 == now.flags && same_words(&next.1, &now.keywords) {
                continue;
            }
            let mut bits = 0;
            for word in &next.1 {
                let place = words.iter().position(|own| same_keyword(own, word));
                let place = place.unwrap_or_else(|| {
                    words.push(word.clone());
                    words.len() - 1
                });
                // A mailbox has no more bits than that, and each of them gets one.
                let bit = 1u64.checked_shl(place as u32);
                bits |= bit.ok_or(StoreError::TooMany("keywords"))?;
            }
            stored.before = stored.before.max(now.modseq);
            marks.push(NewMark {
                uid,
                flags: next.0,
                keywords: bits,
            });
            waiting_marks.push((uid, next));
            stored.changed.push(uid);
        }
        if marks.is_empty() {
            return Ok(stored);
        }
        self.check_words(address, mailbox, words.iter().map(|word| &**word))?;
        let record = Pended::Flags {
            address: address.clone(),
            mailbox,
            keywords: words.clone(),
            marks: marks.clone(),
        };
        let seq = self.add(pending, record, |out, seq| {
            encode::flags(out, seq, address.as_str(), mailbox, &words, &marks);
        });
        let mut accounts = self.accounts.borrow_mut();
        let waiting = accounts
            .entry(address.clone())
            .or_default()
            .mailbox_mut(mailbox);
        waiting.note_keywords(seq, &words);
        for (uid, (flags, keywords)) in waiting_marks {
            let mark = WaitingMark {
                seq,
                flags,
                keywords,
            };
            waiting.marks.insert(uid, mark);
        }
        stored.modseq = Some(seq);
        Ok(stored)
    }

    /// A message with the flags that it will have once everything that waits is durable. What is
    /// done in `pending` with the answer rests on that.
    pub(super) fn current(
        &self,
        pending: &mut Pending,
        address: &Address,
        (mailbox, uid): (MailboxId, Uid),
        names: &[Box<str>],
    ) -> Option<Current> {
        let info = self.copyable(pending, address, mailbox, uid)?;
        let accounts = self.accounts.borrow();
        let waiting = accounts.get(address).and_then(|a| a.mailbox(mailbox));
        if let Some(mark) = waiting.and_then(|waiting| waiting.marks.get(&uid)) {
            pending.rests_on(mark.seq);
            return Some(Current {
                info,
                modseq: mark.seq,
                flags: mark.flags,
                keywords: mark.keywords.clone(),
            });
        }
        let has = |place: usize| info.keywords.checked_shr(place as u32).unwrap_or(0) & 1 == 1;
        let words = names.iter().enumerate().filter(|(place, _)| has(*place));
        Some(Current {
            info,
            modseq: info.modseq,
            flags: info.flags,
            keywords: words.map(|(_, word)| word.clone()).collect(),
        })
    }
}

/// Flags and keywords after a change.
fn changed(now: &Current, change: &FlagChange) -> (Flags, Vec<Box<str>>) {
    let asked = || change.keywords.iter().map(|word| word.as_str().into());
    let is_asked = |word: &str| change.keywords.iter().any(|own| same_keyword(own, word));
    let mut keywords: Vec<Box<str>> = Vec::new();
    let add = |keywords: &mut Vec<Box<str>>, word: Box<str>| {
        if !keywords.iter().any(|own| same_keyword(own, &word)) {
            keywords.push(word);
        }
    };
    let flags = match change.mode {
        FlagMode::Replace => {
            asked().for_each(|word| add(&mut keywords, word));
            change.flags
        }
        FlagMode::Add => {
            keywords.clone_from(&now.keywords);
            asked().for_each(|word| add(&mut keywords, word));
            now.flags.with(change.flags)
        }
        FlagMode::Remove => {
            let kept = now.keywords.iter().filter(|word| !is_asked(word));
            keywords = kept.cloned().collect();
            now.flags.without(change.flags)
        }
    };
    (Flags(flags.0 & Flags::ALL.0), keywords)
}

fn same_words(a: &[Box<str>], b: &[Box<str>]) -> bool {
    a.len() == b.len()
        && a.iter()
            .all(|word| b.iter().any(|own| same_keyword(own, word)))
}
