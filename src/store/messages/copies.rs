//! Copies and moves within an account.
//!
//! Does not know: how flags are changed.

use super::*;

/// Bytes of the entries of messages that one batch copies or moves.
const COPIES_BYTES_MAX: usize = RECORDS_BYTES_MAX / 4;

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
            self.bytes_of(address, from, &uids).await
        };
        let mut copied = Copied {
            validity: self.check_room(address, to, total, 0)?,
            pairs: Vec::with_capacity(uids.len()),
        };
        let names = self.index.borrow().keywords(address, from);
        let words: usize = names.iter().map(|word| word.len() + 2).sum();
        let each = SMALL_BYTES + address.as_str().len() + words + 4;
        for part in uids.chunks((COPIES_BYTES_MAX / each).max(1)) {
            let bytes = 2 * SMALL_BYTES + part.len() * each;
            let level = self.settings.sync.message.max(self.settings.sync.store);
            // A move needs little, and may be one to Trash, which is how space is made.
            let space = if moves { Space::Gives } else { Space::Takes };
            let done = self.mutate(bytes, level, space, |this, pending| {
                this.add_copies(pending, address, (from, to), (part, now_ms, moves))
            });
            copied.pairs.extend(done.await?);
        }
        Ok(copied)
    }

    /// Bytes of messages, a piece at a time: there may be a million.
    async fn bytes_of(&self, address: &Address, mailbox: MailboxId, uids: &[Uid]) -> u64 {
        let mut bytes = 0;
        for part in uids.chunks(UIDS_MAX) {
            {
                let index = self.index.borrow();
                let found = index.live(address, mailbox, part);
                bytes += found.map(|(_, bytes)| bytes).sum::<u64>();
            }
            yield_now().await;
        }
        bytes
    }

    fn add_copies(
        &self,
        pending: &mut Pending,
        address: &Address,
        (from, to): (MailboxId, MailboxId),
        (uids, now_ms, moves): (&[Uid], u64, bool),
    ) -> Result<Vec<(Uid, Uid)>, StoreError> {
        if !self.keeps(address, from) {
            return Err(StoreError::Missing);
        }
        let names = self.index.borrow().keywords(address, from);
        let found = uids
            .iter()
            .filter_map(|uid| self.current(address, from, *uid, &names));
        let found: Vec<Current> = found.collect();
        let total: u64 = found.iter().map(|message| message.info.bytes).sum();
        self.check_room(address, to, total, if moves { total } else { 0 })?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        self.check_uids(address, to, found.len())?;
        let words = found.iter().flat_map(|m| &m.keywords).map(|word| &**word);
        self.check_words(address, to, words)?;
        let in_flight_below = pending.first_waiting();
        let mut pairs = Vec::with_capacity(found.len());
        for message in found {
            if message.waits_since.is_some_and(|seq| seq < in_flight_below) {
                pending.builds_on_flight = true;
            }
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
        Ok(pairs)
    }
}
