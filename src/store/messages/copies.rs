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
    assert!(2 * (SMALL_BYTES + ADDRESS_BYTES_MAX) + WORDS_BYTES_MAX + 4 <= COPIES_BYTES_MAX);

impl<D: Disk> Partition<D> {
    /// Copies messages into another mailbox, or the same: each shares its body with the original.
    /// What is gone already is passed over. Resolves when that is durable.
    ///
    /// More than about 4000, or fewer with many keywords, are copied in several steps, which others
    /// see one after the other, and of which a crash may leave the first ones. After an error nothing
    /// of them stays (RFC 9051 §6.4.7): room for all is asked for before the first step, and what was
    /// copied before a later one failed is expunged again, unless the partition cannot be written any
    /// more.
    ///
    /// # Errors
    /// `Missing`: no such account or mailbox; `OverQuota`, `NoUid`, `TooMany` keywords; `Full`,
    /// `ReadOnly`, `Closing`.
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
    /// which it comes to the other: at no time is it in both, or in none. Of several steps, those
    /// before an error stay: what has moved has moved.
    ///
    /// # Errors
    /// The same; quota does not matter.
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
        let room = self.check_transfer(address, (from, to), &uids, moves).await;
        if room.is_err() {
            // Perhaps for what waits.
            self.settle().await?;
        }
        let (validity, words) = room?;
        let mut copied = Copied {
            validity,
            pairs: Vec::with_capacity(uids.len()),
        };
        let level = self.settings.sync.message.max(self.settings.sync.store);
        // A move needs little, and may be one to Trash, of which an expunge makes space then.
        let space = if moves { Space::Small } else { Space::Takes };
        let mut rest = &uids[..];
        let mut is_short = false;
        while !rest.is_empty() {
            // What they need is known only when their turn comes: keywords may be on their way. When
            // there is more than was guessed, it is asked for again, and then taken what fits.
            let part = &rest[..rest.len().min(COPIES_MAX)];
            let plain = SMALL_BYTES + address.as_str().len() + 4;
            let bytes = match is_short {
                true => COPIES_BYTES_MAX,
                false => (2 + part.len()) * plain + part.len() * words,
            };
            let bytes = bytes.min(COPIES_BYTES_MAX);
            let step = self.mutate(bytes, level, space, |this, pending| {
                this.add_copies(pending, address, (from, to), (part, bytes, now_ms, moves))
            });
            match step.await {
                Ok((pairs, taken)) => {
                    copied.pairs.extend(pairs);
                    rest = &rest[taken..];
                    is_short = taken == 0;
                }
                Err(error) => {
                    if !moves && !copied.pairs.is_empty() {
                        let made: Vec<Uid> = copied.pairs.iter().map(|(_, uid)| *uid).collect();
                        // Why the copy failed is what counts, not whether this does, too.
                        let _ = self.expunge_from(address, to, &made, now_ms).await;
                    }
                    return Err(error);
                }
            }
        }
        Ok(copied)
    }

    /// There is room for all of them, as far as what is durable says: UIDVALIDITY of the mailbox they
    /// go to, and the bytes that the keywords of each need, on the average. Each step looks again.
    async fn check_transfer(
        &self,
        address: &Address,
        (from, to): (MailboxId, MailboxId),
        uids: &[Uid],
        moves: bool,
    ) -> Result<(UidValidity, usize), StoreError> {
        let (mut total, mut found) = (0, 0);
        let mut counts = [0; KEYWORDS_MAX];
        for (number, part) in uids.chunks(COPIES_MAX).enumerate() {
            if number > 0 {
                yield_now().await;
            }
            let index = self.index.borrow();
            for uid in part {
                let Some(message) = index.find(address, from, *uid) else {
                    continue;
                };
                (total, found) = (total + message.info.bytes, found + 1);
                let mut bits = message.info.keywords;
                while bits != 0 {
                    counts[bits.trailing_zeros() as usize] += 1;
                    bits &= bits - 1;
                }
            }
        }
        let validity = self.check_room(address, to, total, if moves { total } else { 0 })?;
        self.check_uids(address, to, found)?;
        let names = self.index.borrow().keywords(address, from);
        let used = names.iter().zip(counts).filter(|(_, count)| *count > 0);
        self.check_words(address, to, used.clone().map(|(word, _)| &**word))?;
        let bytes: usize = used.map(|(word, count)| (word.len() + 2) * count).sum();
        Ok((validity, bytes.div_ceil(found.max(1))))
    }

    /// As many of them, from the first on, as fit into the bytes of a step: their pairs, and how many
    /// were looked at. None when `bytes_max`, which is what was asked for, is less and not enough.
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
                if bytes > bytes_max && bytes_max < COPIES_BYTES_MAX {
                    return Ok((Vec::new(), 0));
                }
                if bytes > bytes_max {
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
        self.check_uids(address, to, found.len())?;
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
