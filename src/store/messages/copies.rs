//! Copies and moves within an account.
//!
//! Does not know: how flags are changed.

use super::*;

/// Bytes of the entries of messages that one batch copies or moves.
const COPIES_BYTES_MAX: usize = RECORDS_BYTES_MAX / 4;
/// Messages that one step looks at.
const COPIES_MAX: usize = 4096;

// One message with all the keywords there can be fits into a step, so that each gets on.
const _: () =
    assert!(3 * (SMALL_BYTES + ADDRESS_BYTES_MAX) + WORDS_BYTES_MAX + 4 <= COPIES_BYTES_MAX);

impl<D: Disk> Partition<D> {
    /// Copies messages into another mailbox, or the same: each shares its body with the original.
    /// What is gone already is passed over. Resolves when that is durable; very many are copied in
    /// several steps.
    ///
    /// # Errors
    /// `Missing`: no such account or mailbox; `OverQuota`, `TooMany` keywords: nothing was copied;
    /// `Full`, `ReadOnly`, `Closing`.
    pub async fn copy(
        &self,
        address: &Address,
        (from, to): (MailboxId, MailboxId),
        uids: &[Uid],
        now_ms: u64,
    ) -> Result<Copied, StoreError> {
        self.transfer(address, (from, to), uids, now_ms, false)
            .await
    }

    /// As [`Partition::copy`], and each message leaves the mailbox where it was in the batch in
    /// which it comes to the other: at no time is it in both, or in none.
    ///
    /// # Errors
    /// The same.
    pub async fn move_to(
        &self,
        address: &Address,
        (from, to): (MailboxId, MailboxId),
        uids: &[Uid],
        now_ms: u64,
    ) -> Result<Copied, StoreError> {
        self.transfer(address, (from, to), uids, now_ms, true).await
    }

    async fn transfer(
        &self,
        address: &Address,
        (from, to): (MailboxId, MailboxId),
        uids: &[Uid],
        now_ms: u64,
        moves: bool,
    ) -> Result<Copied, StoreError> {
        let uids = sorted(uids);
        let total = if moves {
            0
        } else {
            self.bytes_of(address, from, &uids)
        };
        let room = self.check_room(address, to, total, 0);
        if room.is_err() {
            // Perhaps for what waits.
            self.settle().await?;
        }
        let mut copied = Copied {
            validity: room?,
            pairs: Vec::with_capacity(uids.len()),
        };
        let level = self.settings.sync.message.max(self.settings.sync.store);
        // A move needs little, and may be one to Trash, which is how space is made.
        let space = if moves { Space::Gives } else { Space::Takes };
        let mut rest = &uids[..];
        while !rest.is_empty() {
            // What they need is known only when their turn comes: keywords may be on their way. So
            // what is promised is a guess, and a step takes as many as fit into that.
            let part = &rest[..rest.len().min(COPIES_MAX)];
            let plain = SMALL_BYTES + address.as_str().len() + 4;
            let bytes = 2 * plain + WORDS_BYTES_MAX + part.len() * plain;
            let bytes = bytes.min(COPIES_BYTES_MAX);
            let step = self.mutate(bytes, level, space, |this, pending| {
                this.add_copies(pending, address, (from, to), (part, bytes, now_ms, moves))
            });
            let (pairs, taken) = step.await?;
            copied.pairs.extend(pairs);
            rest = &rest[taken..];
        }
        Ok(copied)
    }

    fn bytes_of(&self, address: &Address, mailbox: MailboxId, uids: &[Uid]) -> u64 {
        let index = self.index.borrow();
        let found = uids
            .iter()
            .filter_map(|uid| index.find(address, mailbox, *uid));
        found.map(|found| found.info.bytes).sum()
    }

    /// As many of them, from the first on, as fit into so many bytes of the batch: their pairs, and
    /// how many were looked at.
    fn add_copies(
        &self,
        pending: &mut Pending,
        address: &Address,
        (from, to): (MailboxId, MailboxId),
        (uids, bytes_max, now_ms, moves): (&[Uid], usize, u64, bool),
    ) -> Result<(Vec<(Uid, Uid)>, usize), StoreError> {
        if !self.keeps(address, from) {
            return Err(StoreError::Missing);
        }
        let names = self.index.borrow().keywords(address, from);
        // That of the expunge record, should there be one.
        let mut bytes = SMALL_BYTES + address.as_str().len();
        let mut found: Vec<Current> = Vec::new();
        let mut taken = 0;
        for uid in uids {
            if let Some(message) = self.current(pending, address, (from, *uid), &names) {
                let words = message.keywords.iter().map(|word| word.len() + 2);
                bytes += SMALL_BYTES + address.as_str().len() + words.sum::<usize>() + 4;
                // The first fits: room for one with all keywords was asked for.
                if bytes > bytes_max && !found.is_empty() {
                    break;
                }
                found.push(message);
            }
            taken += 1;
        }
        let total: u64 = found.iter().map(|message| message.info.bytes).sum();
        self.check_room(address, to, total, if moves { total } else { 0 })?;
        if found.is_empty() {
            return Ok((Vec::new(), taken));
        }
        let words = found.iter().flat_map(|m| &m.keywords).map(|word| &**word);
        self.check_words(address, to, words)?;
        let mut pairs = Vec::with_capacity(found.len());
        for message in found {
            let arrival = Arrival {
                body_seq: message.info.body_seq,
                bytes: message.info.bytes,
                date_ms: message.info.date_ms,
                saved_ms: now_ms,
                flags: message.flags,
                keywords: message.keywords,
            };
            pairs.push((
                message.info.uid,
                self.add_message(pending, address, to, arrival),
            ));
        }
        if moves {
            let gone = pairs.iter().map(|(uid, _)| *uid).collect();
            self.add_expunge(pending, address, from, gone, now_ms);
        }
        Ok((pairs, taken))
    }
}
