//! What sessions change in mailboxes: messages that come, go, are copied, moved and marked.
//!
//! What waits in the log for its batch is taken into account (`waiting`): a message whose expunge
//! waits is neither copied nor moved, so that none is doubled and no body outlives its last name;
//! flags are added to those that wait. Only durable messages are seen otherwise.
//!
//! On failure: a batch that could not be written takes those with it that were built on it.

#[cfg(test)]
mod tests;

use super::change::{Extra, Pended};
use super::commit::{Pending, RECORDS_BYTES_MAX};
use super::disk::Disk;
use super::mutate::{SMALL_BYTES, Space};
use super::partition::Partition;
use super::record::{self, MARK_BYTES, NewMark, encode};
use super::waiting::WaitingMark;
use super::{
    Append, Appended, Copied, FlagChange, FlagMode, Flags, MailboxId, MessageInfo, NewMessage,
    Sequence, StoreError, Stored, StreamId, Uid, UidValidity, same_keyword,
};
use crate::limits::{BODY_CHUNK_BYTES, BODY_INLINE_BYTES_MAX, KEYWORD_BYTES_MAX, KEYWORDS_MAX};
use crate::mail::Address;

/// UIDs that one expunge or flags record holds at most.
pub(super) const UIDS_MAX: usize = 65_536;
/// Messages whose flags are changed by one record: each is looked up before.
const FLAGS_MAX: usize = 4096;
/// Bytes of the entries of messages that one batch copies or moves.
const COPIES_BYTES_MAX: usize = RECORDS_BYTES_MAX / 4;

/// What an append record needs besides its mailbox.
struct Arrival {
    body_seq: Sequence,
    bytes: u64,
    date_ms: u64,
    saved_ms: u64,
    flags: Flags,
    keywords: Vec<Box<str>>,
}

fn words_bytes(keywords: &[String]) -> usize {
    keywords.iter().map(|word| word.len() + 2).sum()
}

fn check_keywords(keywords: &[String]) -> Result<(), StoreError> {
    if keywords.len() > KEYWORDS_MAX {
        return Err(StoreError::TooMany("keywords"));
    }
    if keywords.iter().any(|word| word.len() > KEYWORD_BYTES_MAX) {
        return Err(StoreError::TooLarge);
    }
    Ok(())
}

impl<D: Disk> Partition<D> {
    /// Puts messages into a mailbox, all of them or none. Resolves when they are durable. Streams
    /// that it names are gone afterwards, whatever the outcome.
    ///
    /// # Errors
    /// `Missing`: no such account, mailbox, stream, or message to be replaced; `OverQuota`,
    /// `TooMany` keywords; `TooLarge` when the entries of all messages, about 170 bytes each, do
    /// not fit into one batch of the log; `Full`, `ReadOnly`, `Closing`.
    pub async fn append(
        &self,
        address: &Address,
        mut append: Append,
    ) -> Result<Appended, StoreError> {
        let result = self.append_all(address, &mut append).await;
        for stream in append.messages.iter().filter_map(|message| message.stream) {
            self.abort_stream(stream);
        }
        result
    }

    async fn append_all(
        &self,
        address: &Address,
        append: &mut Append,
    ) -> Result<Appended, StoreError> {
        let inline: usize = append.messages.iter().map(|m| m.body.len()).sum();
        if inline > BODY_INLINE_BYTES_MAX {
            for message in &mut append.messages {
                self.stream_out(message).await?;
            }
        }
        if append
            .messages
            .iter()
            .any(|message| message.stream.is_some())
        {
            // A body must not be written that names a chunk which was not.
            self.settle().await?;
        }
        let (mailbox, replaces) = (append.mailbox, append.replaces);
        let mut chunks = Vec::with_capacity(append.messages.len());
        let mut bytes = 2 * SMALL_BYTES + address.as_str().len();
        for message in &append.messages {
            check_keywords(&message.keywords)?;
            let own = self.chunks_of(message.stream)?;
            bytes += record::body_disk_bytes(message.body.len(), own.len())
                + SMALL_BYTES
                + address.as_str().len()
                + words_bytes(&message.keywords);
            chunks.push(own);
        }
        let (messages, now_ms) = (&append.messages, append.now_ms);
        let level = self.settings.sync.message;
        self.mutate(bytes, level, Space::Takes, |this, pending| {
            let total: u64 = messages
                .iter()
                .zip(&chunks)
                .map(|(message, chunks)| message_bytes(message, chunks))
                .sum();
            let freed = match replaces {
                Some((from, uid)) => {
                    let old = this.copyable(address, from, uid);
                    old.ok_or(StoreError::Missing)?.bytes
                }
                None => 0,
            };
            let validity = this.check_room(address, mailbox, total, freed)?;
            let words = messages
                .iter()
                .flat_map(|m| &m.keywords)
                .map(String::as_str);
            this.check_words(address, mailbox, words)?;
            let mut uids = Vec::with_capacity(messages.len());
            for (message, chunks) in messages.iter().zip(&chunks) {
                let change = Pended::Body {
                    chunks: chunks.iter().map(|(chunk, _)| *chunk).collect(),
                    stream: message.stream,
                };
                let body_seq = this.add(pending, change, |out, seq| {
                    encode::body(out, seq, &[], chunks, &message.body);
                });
                let arrival = Arrival {
                    body_seq,
                    bytes: message_bytes(message, chunks),
                    date_ms: message.date_ms,
                    saved_ms: now_ms,
                    flags: message.flags,
                    keywords: message.keywords.iter().map(|w| w.as_str().into()).collect(),
                };
                uids.push(this.add_message(pending, address, mailbox, arrival));
            }
            if let Some((from, uid)) = replaces {
                this.add_expunge(pending, address, from, vec![uid], now_ms);
            }
            Ok(Appended { validity, uids })
        })
        .await
    }

    /// Writes a body as chunks, so that the batch with its entry has room for others.
    async fn stream_out(&self, message: &mut NewMessage) -> Result<(), StoreError> {
        let stream = match message.stream {
            Some(stream) => stream,
            None => self.open_stream()?,
        };
        message.stream = Some(stream);
        let body = std::mem::take(&mut message.body);
        for piece in body.chunks(BODY_CHUNK_BYTES) {
            self.append_stream(stream, piece.to_vec()).await?;
        }
        Ok(())
    }

    fn chunks_of(&self, stream: Option<StreamId>) -> Result<Vec<(Sequence, u32)>, StoreError> {
        let Some(stream) = stream else {
            return Ok(Vec::new());
        };
        let streams = self.streams.borrow();
        let open = streams.get(&stream).ok_or(StoreError::Missing)?;
        Ok(open.chunks.clone())
    }

    /// The mailbox is there, will be, and may take so many bytes more; its UIDVALIDITY.
    fn check_room(
        &self,
        address: &Address,
        mailbox: MailboxId,
        bytes: u64,
        freed: u64,
    ) -> Result<UidValidity, StoreError> {
        let room = self.index.borrow().room(address, mailbox);
        let waiting = self.accounts.borrow();
        let waiting = waiting.get(address);
        if waiting.is_some_and(|account| !account.keeps(mailbox)) {
            return Err(StoreError::Missing);
        }
        let (_, validity, used, quota_bytes) = room.ok_or(StoreError::Missing)?;
        let used = used + waiting.map_or(0, |account| account.bytes) + bytes;
        if quota_bytes != 0 && bytes > freed && used.saturating_sub(freed) > quota_bytes {
            return Err(StoreError::OverQuota);
        }
        Ok(validity)
    }

    /// These keywords have a bit in the mailbox, or can get one. The record that has them must
    /// follow at once.
    fn check_words<'a>(
        &self,
        address: &Address,
        mailbox: MailboxId,
        words: impl Iterator<Item = &'a str>,
    ) -> Result<(), StoreError> {
        let mut words = words.peekable();
        if words.peek().is_none() {
            return Ok(());
        }
        let mut known = self.index.borrow().keywords(address, mailbox);
        let mut accounts = self.accounts.borrow_mut();
        let mut fresh: Vec<Box<str>> = Vec::new();
        let waiting = accounts.get(address).and_then(|a| a.mailbox(mailbox));
        for word in waiting.iter().flat_map(|waiting| &waiting.keywords) {
            if !known.iter().any(|own| same_keyword(own, word)) {
                known.push(word.clone());
            }
        }
        for word in words {
            let is_known = known
                .iter()
                .chain(&fresh)
                .any(|own| same_keyword(own, word));
            if !is_known {
                fresh.push(word.into());
            }
        }
        if known.len() + fresh.len() > KEYWORDS_MAX {
            return Err(StoreError::TooMany("keywords"));
        }
        if !fresh.is_empty() {
            let account = accounts.entry(address.clone()).or_default();
            account.mailbox_mut(mailbox).keywords.extend(fresh);
        }
        Ok(())
    }

    /// The next UID goes to this message.
    fn add_message(
        &self,
        pending: &mut Pending,
        address: &Address,
        mailbox: MailboxId,
        arrival: Arrival,
    ) -> Uid {
        let durable = self.index.borrow().room(address, mailbox);
        let uid = {
            let mut accounts = self.accounts.borrow_mut();
            let account = accounts.entry(address.clone()).or_default();
            account.bytes += arrival.bytes;
            let next = account.uid_next_mut(mailbox);
            let uid = durable.map_or(1, |(uid_next, ..)| uid_next).max(*next);
            *next = uid.saturating_add(1);
            uid
        };
        let Arrival {
            body_seq,
            bytes,
            date_ms,
            saved_ms,
            flags,
            keywords,
        } = arrival;
        let words = keywords.clone();
        let change = Pended::Append {
            address: address.clone(),
            mailbox,
            uid,
            body_seq,
            bytes,
            date_ms,
            extra: Some(Box::new(Extra {
                saved_ms,
                flags,
                keywords,
            })),
        };
        self.add(pending, change, |out, seq| {
            let message = encode::Append {
                address: address.as_str(),
                mailbox,
                uid,
                body_seq,
                bytes,
                date_ms,
                saved_ms,
                flags,
                keywords: &words,
            };
            encode::append(out, seq, &message);
        });
        uid
    }

    /// A message that is there and will be, as far as what waits says.
    fn copyable(&self, address: &Address, mailbox: MailboxId, uid: Uid) -> Option<MessageInfo> {
        let accounts = self.accounts.borrow();
        if let Some(account) = accounts.get(address)
            && (!account.keeps(mailbox)
                || account
                    .mailbox(mailbox)
                    .is_some_and(|waiting| waiting.expunged.contains_key(&uid)))
        {
            return None;
        }
        let found = self.index.borrow().find(address, mailbox, uid)?;
        Some(found.info)
    }

    fn add_expunge(
        &self,
        pending: &mut Pending,
        address: &Address,
        mailbox: MailboxId,
        uids: Vec<Uid>,
        now_ms: u64,
    ) -> Sequence {
        {
            let mut accounts = self.accounts.borrow_mut();
            let account = accounts.entry(address.clone()).or_default();
            let waiting = account.mailbox_mut(mailbox);
            for uid in &uids {
                *waiting.expunged.entry(*uid).or_default() += 1;
            }
        }
        let change = Pended::Expunge {
            address: address.clone(),
            mailbox,
            uids: uids.clone(),
            now_ms,
        };
        self.add(pending, change, |out, seq| {
            encode::expunge(out, seq, address.as_str(), mailbox, &uids, now_ms);
        })
    }

    /// Expunges messages, in one record (more for very many); the number of the last one. UIDs that
    /// are gone already are passed over. Resolves when that is durable.
    ///
    /// # Errors
    /// `Missing`, `ReadOnly`, `Closing`.
    pub async fn expunge_from(
        &self,
        address: &Address,
        mailbox: MailboxId,
        uids: &[Uid],
        now_ms: u64,
    ) -> Result<Option<Sequence>, StoreError> {
        let mut last = None;
        for part in sorted(uids).chunks(UIDS_MAX) {
            let bytes = SMALL_BYTES + address.as_str().len() + part.len() * 4;
            let level = self.settings.sync.store;
            let expunged = self.mutate(bytes, level, Space::Gives, |this, pending| {
                if !this.keeps(address, mailbox) {
                    return Err(StoreError::Missing);
                }
                let uids: Vec<Uid> = {
                    let index = this.index.borrow();
                    let part = part.iter().copied();
                    part.filter(|uid| index.find(address, mailbox, *uid).is_some())
                        .collect()
                };
                if uids.is_empty() {
                    return Ok(None);
                }
                Ok(Some(
                    this.add_expunge(pending, address, mailbox, uids, now_ms),
                ))
            });
            last = expunged.await?.or(last);
        }
        Ok(last)
    }

    /// The mailbox is there and will be.
    pub(super) fn keeps(&self, address: &Address, mailbox: MailboxId) -> bool {
        let accounts = self.accounts.borrow();
        accounts
            .get(address)
            .is_none_or(|account| account.keeps(mailbox))
            && self.index.borrow().has_mailbox(address, mailbox)
    }

    /// Changes flags and keywords, of many messages in several steps. Resolves when that is durable.
    ///
    /// # Errors
    /// `Missing`: no such account or mailbox; `TooMany` keywords; `TooLarge`: one of them;
    /// `ReadOnly`, `Closing`. What came before the error in the order of UIDs stays.
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
            let words = KEYWORDS_MAX * (KEYWORD_BYTES_MAX + 2);
            let bytes = SMALL_BYTES + address.as_str().len() + words + part.len() * MARK_BYTES;
            let level = self.settings.sync.store;
            let done = self.mutate(bytes, level, Space::Gives, |this, pending| {
                this.add_flags(pending, address, mailbox, (part, change))
            });
            let done = done.await?;
            stored.changed.extend(done.changed);
            stored.modified.extend(done.modified);
            stored.modseq = done.modseq.or(stored.modseq);
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
        let in_flight_below = pending.first_waiting();
        let mut builds_on_flight = false;
        for &uid in uids {
            let Some(now) = self.current(address, mailbox, uid, &names) else {
                continue;
            };
            builds_on_flight |= now.waits_since.is_some_and(|seq| seq < in_flight_below);
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
                // Every word has, or gets, a bit of the mailbox: there are no more than it has.
                bits |= 1u64.checked_shl(place as u32).unwrap_or(0);
            }
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
        pending.builds_on_flight |= builds_on_flight;
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

    /// A message with the flags that it will have once everything that waits is durable.
    fn current(
        &self,
        address: &Address,
        mailbox: MailboxId,
        uid: Uid,
        names: &[Box<str>],
    ) -> Option<Current> {
        let info = self.copyable(address, mailbox, uid)?;
        let accounts = self.accounts.borrow();
        let waiting = accounts.get(address).and_then(|a| a.mailbox(mailbox));
        if let Some(mark) = waiting.and_then(|waiting| waiting.marks.get(&uid)) {
            return Some(Current {
                info,
                modseq: mark.seq,
                flags: mark.flags,
                keywords: mark.keywords.clone(),
                waits_since: Some(mark.seq),
            });
        }
        let has = |place: usize| info.keywords.checked_shr(place as u32).unwrap_or(0) & 1 == 1;
        let words = names.iter().enumerate().filter(|(place, _)| has(*place));
        Some(Current {
            info,
            modseq: info.modseq,
            flags: info.flags,
            keywords: words.map(|(_, word)| word.clone()).collect(),
            waits_since: None,
        })
    }

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

    fn bytes_of(&self, address: &Address, mailbox: MailboxId, uids: &[Uid]) -> u64 {
        let index = self.index.borrow();
        let found = uids
            .iter()
            .filter_map(|uid| index.find(address, mailbox, *uid));
        found.map(|found| found.info.bytes).sum()
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

/// A message as it will be.
struct Current {
    info: MessageInfo,
    modseq: Sequence,
    flags: Flags,
    keywords: Vec<Box<str>>,
    /// Number of the waiting record that says so.
    waits_since: Option<Sequence>,
}

fn sorted(uids: &[Uid]) -> Vec<Uid> {
    let mut sorted = uids.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
}

fn message_bytes(message: &NewMessage, chunks: &[(Sequence, u32)]) -> u64 {
    let streamed: u64 = chunks.iter().map(|(_, bytes)| u64::from(*bytes)).sum();
    message.body.len() as u64 + streamed
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
