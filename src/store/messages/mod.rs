//! What sessions change in mailboxes: messages that come, go, are copied, moved and marked.
//!
//! What waits in the log for its batch is taken into account (`waiting`): a message whose expunge
//! waits is neither copied nor moved, so that none is doubled and no body outlives its last name;
//! flags are added to those that wait. Only durable messages are seen otherwise. An answer that rests
//! on what waits is given when that is durable, even if it changes nothing.
//!
//! On failure: a batch that could not be written takes those with it that were built on it.

mod copies;
mod flags;
#[cfg(test)]
mod tests;

use self::flags::Current;
use super::change::{Extra, Pended};
use super::commit::{Pending, RECORDS_BYTES_MAX};
use super::disk::Disk;
use super::mutate::{SMALL_BYTES, Space};
use super::partition::Partition;
use super::record::{self, MARK_BYTES, NewMark, encode};
use super::wait::yield_now;
use super::waiting::WaitingMark;
use super::{
    Append, Appended, Copied, FlagChange, FlagMode, Flags, MailboxId, MessageInfo, NewMessage,
    Sequence, StoreError, Stored, StreamId, UID_END, Uid, UidValidity, same_keyword,
};
use crate::limits::{
    ADDRESS_BYTES_MAX, BODY_CHUNK_BYTES, BODY_INLINE_BYTES_MAX, KEYWORD_BYTES_MAX, KEYWORDS_MAX,
};
use crate::mail::Address;

/// UIDs that one expunge record holds, and messages that are looked up in one go.
pub(super) const UIDS_MAX: usize = 4096;
/// Bytes that the keywords of one record take at most.
const WORDS_BYTES_MAX: usize = KEYWORDS_MAX * (KEYWORD_BYTES_MAX + 2);

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
    /// `Missing`: no such account, mailbox, stream, or message to be replaced; `OverQuota`, `NoUid`,
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
        let entries = append.messages.iter().map(|message| {
            let address_bytes = address.as_str().len();
            record::body_disk_bytes(0, 1)
                + SMALL_BYTES
                + address_bytes
                + words_bytes(&message.keywords)
        });
        // What fits beside the entries is written with them.
        let entries = entries.sum::<usize>() + 3 * SMALL_BYTES;
        if inline > BODY_INLINE_BYTES_MAX || inline + entries > RECORDS_BYTES_MAX {
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
                    let old = this.copyable(pending, address, from, uid);
                    old.ok_or(StoreError::Missing)?.bytes
                }
                None => 0,
            };
            let validity = this.check_room(address, mailbox, total, freed)?;
            let words = messages
                .iter()
                .flat_map(|m| &m.keywords)
                .map(String::as_str);
            this.check_uids(address, mailbox, messages.len())?;
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

    /// So many messages more can get a UID.
    fn check_uids(
        &self,
        address: &Address,
        mailbox: MailboxId,
        count: usize,
    ) -> Result<(), StoreError> {
        match (UID_END - self.uid_next(address, mailbox)) as usize {
            left if left < count => Err(StoreError::NoUid),
            _ => Ok(()),
        }
    }

    /// The next UID of a mailbox, once all that waits is durable.
    fn uid_next(&self, address: &Address, mailbox: MailboxId) -> Uid {
        let durable = self.index.borrow().room(address, mailbox);
        let accounts = self.accounts.borrow();
        let waiting = accounts.get(address).map_or(0, |a| a.uid_next(mailbox));
        durable.map_or(1, |(uid_next, ..)| uid_next).max(waiting)
    }

    /// These keywords have a bit in the mailbox, or can get one. Who adds a record that has them notes
    /// them ([`super::waiting::WaitingMailbox::note_keywords`]).
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
        let accounts = self.accounts.borrow();
        let waiting = accounts.get(address).and_then(|a| a.mailbox(mailbox));
        for word in waiting.iter().flat_map(|waiting| waiting.keywords()) {
            if !known.iter().any(|own| same_keyword(own, word)) {
                known.push(word.clone());
            }
        }
        for word in words {
            if known.iter().any(|own| same_keyword(own, word)) {
                continue;
            }
            if known.len() >= KEYWORDS_MAX {
                return Err(StoreError::TooMany("keywords"));
            }
            known.push(word.into());
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
        let uid = self.uid_next(address, mailbox);
        debug_assert!(uid < UID_END, "check_uids has seen that there are enough");
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
        let seq = self.add(pending, change, |out, seq| {
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
        let mut accounts = self.accounts.borrow_mut();
        let account = accounts.entry(address.clone()).or_default();
        account.bytes += bytes;
        account.give_uid(mailbox, uid, seq);
        if !words.is_empty() {
            account.mailbox_mut(mailbox).note_keywords(seq, &words);
        }
        uid
    }

    /// A message that is there and will be, as far as what waits says. What is done in `pending`
    /// with the answer rests on that.
    fn copyable(
        &self,
        pending: &mut Pending,
        address: &Address,
        mailbox: MailboxId,
        uid: Uid,
    ) -> Option<MessageInfo> {
        if let Some(account) = self.accounts.borrow().get(address) {
            if !account.keeps(mailbox) {
                return None;
            }
            let waiting = account.mailbox(mailbox);
            if let Some(seq) = waiting.and_then(|waiting| waiting.expunged.get(&uid)) {
                pending.rests_on(*seq);
                return None;
            }
        }
        let found = self.index.borrow().find(address, mailbox, uid)?;
        Some(found.info)
    }

    pub(super) fn add_expunge(
        &self,
        pending: &mut Pending,
        address: &Address,
        mailbox: MailboxId,
        uids: Vec<Uid>,
        now_ms: u64,
    ) -> Sequence {
        let change = Pended::Expunge {
            address: address.clone(),
            mailbox,
            uids: uids.clone(),
            now_ms,
        };
        let seq = self.add(pending, change, |out, seq| {
            encode::expunge(out, seq, address.as_str(), mailbox, &uids, now_ms);
        });
        let mut accounts = self.accounts.borrow_mut();
        let account = accounts.entry(address.clone()).or_default();
        let waiting = account.mailbox_mut(mailbox);
        waiting.expunged.extend(uids.iter().map(|uid| (*uid, seq)));
        seq
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
        self.expunge_some(address, mailbox, (uids, false), now_ms)
            .await
    }

    /// The same, but of those messages only the ones that have `\Deleted` when their turn comes: what
    /// somebody undeletes before stays.
    ///
    /// # Errors
    /// Those of [`Partition::expunge_from`].
    pub async fn expunge_deleted(
        &self,
        address: &Address,
        mailbox: MailboxId,
        uids: &[Uid],
        now_ms: u64,
    ) -> Result<Option<Sequence>, StoreError> {
        self.expunge_some(address, mailbox, (uids, true), now_ms)
            .await
    }

    async fn expunge_some(
        &self,
        address: &Address,
        mailbox: MailboxId,
        (uids, only_deleted): (&[Uid], bool),
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
                let uids: Vec<Uid> = if only_deleted {
                    // Keywords do not matter.
                    let mut is_deleted = |uid: &Uid| {
                        let found = this.current(pending, address, (mailbox, *uid), &[]);
                        found.is_some_and(|now| now.flags.has(Flags::DELETED))
                    };
                    part.iter().copied().filter(|uid| is_deleted(uid)).collect()
                } else {
                    let index = this.index.borrow();
                    let live = index.live(address, mailbox, part);
                    live.map(|(uid, _)| uid).collect()
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
