//! What changes a partition: each change is encoded into the waiting batch, and waits for it.

use std::rc::Rc;

use super::change::Pended;
use super::commit::{Pending, RECORDS_BYTES_MAX};
use super::disk::Disk;
use super::index::CONDEMNED_QUOTA;
use super::partition::Partition;
use super::record::{self, encode};
use super::removal::{self, Condemned};
use super::wait::Done;
use super::{
    Account, AccountChange, Delivery, Flags, MailboxId, QUEUE_PARTITION, RecipientResult,
    SEQUENCE_END, SITE_PARTITION, Sequence, SpecialUse, StoreError, StreamId, UID_END, Uid,
    UidValidity, validity_at, with_own_validity,
};
use crate::config::SyncLevel;
use crate::mail::Address;

/// Bytes of a small record besides the texts in it, generously.
pub(super) const SMALL_BYTES: usize = 96;

/// So many of the last numbers of records are given to none: what a start needs for itself.
const SEQUENCES_KEPT: Sequence = 1 << 40;

/// The highest quota says something else in the log.
fn with_quota(account: Account) -> Account {
    Account {
        quota_bytes: account.quota_bytes.min(CONDEMNED_QUOTA - 1),
        ..account
    }
}

/// A body that streams in.
#[derive(Debug)]
pub(super) struct Stream {
    /// Its chunks: number, bytes.
    pub chunks: Vec<(Sequence, u32)>,
    /// Its chunks have this number or a higher one.
    pub since: Sequence,
}

/// Who may still change something when space is short [N30].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    /// Brings more than it takes away.
    Takes,
    /// Small: may fill up what there is, but not the reserve once the log goes on in it.
    Small,
    /// Gives space back, or must be: may use the reserve.
    Gives,
}

impl<D: Disk> Partition<D> {
    pub(super) fn next_seq(&self) -> Sequence {
        let seq = self.seq_next.get();
        self.seq_next.set(seq + 1);
        seq
    }

    /// What the next record makes has a UIDVALIDITY of its own: this one, above all before.
    pub(super) fn begin_validity(&self) -> UidValidity {
        self.seq_next.set(with_own_validity(self.seq_next.get()));
        validity_at(self.seq_next.get())
    }

    fn check_open(&self, space: Space) -> Result<(), StoreError> {
        if self.seq_next.get() >= SEQUENCE_END - SEQUENCES_KEPT {
            return Err(self.turn_read_only("all numbers of records were given"));
        }
        if let Some(reason) = &*self.read_only.borrow() {
            return Err(StoreError::ReadOnly(reason.clone()));
        }
        if self.closing.get() {
            return Err(StoreError::Closing);
        }
        let is_left = match space {
            Space::Takes => false,
            Space::Small => self.log.borrow().reserve.is_some(),
            Space::Gives => true,
        };
        if self.full.get() && !is_left {
            // Somebody has to look whether there is space again.
            self.chores.notify();
            return Err(StoreError::Full);
        }
        Ok(())
    }

    /// Waits for room, then encodes at most so many `bytes`: what is more could make a batch that
    /// cannot be written. Returns what `encode` does, and the end of the batch if it added anything
    /// to it; with an error it must not have.
    pub(super) async fn queue<T>(
        &self,
        bytes: usize,
        level: SyncLevel,
        space: Space,
        encode: impl FnOnce(&Self, &mut Pending) -> Result<T, StoreError>,
    ) -> Result<(T, Option<Rc<Done>>), StoreError> {
        if bytes > RECORDS_BYTES_MAX {
            return Err(StoreError::TooLarge);
        }
        let mut encode = Some(encode);
        let attempt = || {
            if let Err(error) = self.check_open(space) {
                return Some(Err(error));
            }
            let mut pending = self.pending.borrow_mut();
            if !pending.has_room(bytes, self.settings.segment_bytes)
                || !pending.has_numbers(self.seq_next.get())
            {
                return None;
            }
            let encode = encode.take()?;
            let (before, bytes_before) = (pending.records, pending.bytes.len());
            let builds_on_flight = pending.builds_on_flight;
            let result = encode(self, &mut pending);
            let added = pending.records > before;
            let encoded = pending.bytes.len() - bytes_before;
            debug_assert!(encoded <= bytes, "{encoded} bytes for {bytes}");
            debug_assert!(!added || result.is_ok(), "refused, and in the batch");
            if added {
                pending.level = pending.level.max(level);
                self.probe.queued.add(1);
                pending.waiting += 1;
                self.probe.queued_bytes.set(pending.bytes.len() as i64);
                self.work.notify();
            } else {
                pending.builds_on_flight = builds_on_flight;
            }
            Some(result.map(|value| (value, added.then(|| pending.done.clone()))))
        };
        self.line.pass(attempt).await
    }

    /// As [`Partition::queue`], and resolves when that is durable. So it is when nothing was added:
    /// that something is there already, gone, or as wanted may be the word of a batch that waits, and
    /// is not said before that is durable.
    pub(super) async fn mutate<T>(
        &self,
        bytes: usize,
        level: SyncLevel,
        space: Space,
        encode: impl FnOnce(&Self, &mut Pending) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self.queue(bytes, level, space, encode).await {
            Ok((value, Some(done))) => done.wait().await.map(|()| value),
            Ok((value, None)) => self.settled(Ok(value)).await,
            Err(error) => self.settled(Err(error)).await,
        }
    }

    /// An answer that changes nothing, once everything that it may rest on is durable.
    pub(super) async fn settled<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        self.settle().await?;
        answer
    }

    /// Adds a record that `write` encodes, with its change.
    pub(super) fn add(
        &self,
        pending: &mut Pending,
        change: Pended,
        write: impl FnOnce(&mut Vec<u8>, Sequence),
    ) -> Sequence {
        let seq = self.next_seq();
        if let Some(address) = change.address() {
            let mut accounts = self.accounts.borrow_mut();
            // Most changes find an entry, or are the first of their batch to need one.
            match accounts.get_mut(address) {
                Some(entry) => entry.uses += 1,
                None => {
                    let entry = accounts.entry(address.clone()).or_default();
                    entry.uses = 1;
                }
            }
        }
        let offset = pending.bytes.len();
        write(&mut pending.bytes, seq);
        pending.push(seq, offset, change);
        seq
    }

    /// The account will be there once everything that waits is durable. What is done in `pending`
    /// with the answer rests on that.
    fn will_exist(&self, pending: &mut Pending, address: &Address) -> bool {
        let waiting = self.accounts.borrow().get(address).and_then(|a| a.exists());
        match waiting {
            Some(waiting) => {
                pending.rests_on(waiting.seq);
                waiting.exists
            }
            None => self.index.borrow().has_account(address),
        }
    }

    /// An account of this address was removed, or will be, of which something is left.
    fn is_condemned(&self, address: &Address) -> bool {
        let accounts = self.accounts.borrow();
        let waiting = accounts.get(address).and_then(|a| a.exists());
        waiting.is_some_and(|end| end.is_condemned) || self.index.borrow().is_condemned(address)
    }

    fn set_exists(&self, address: &Address, seq: Sequence, exists: bool) {
        if let Some(entry) = self.accounts.borrow_mut().get_mut(address) {
            entry.set_exists(seq, exists);
        }
    }

    /// Makes an account with an empty INBOX and, but for the queue's, the mailboxes of special use.
    /// What is left of an account that had the address before goes first, which takes a while where
    /// that is much.
    ///
    /// # Errors
    /// `Exists`, or what the disk says.
    pub async fn create_account(&self, account: Account) -> Result<(), StoreError> {
        loop {
            self.bury_account(&account.address).await?;
            if self.add_account(&account).await? {
                return Ok(());
            }
        }
    }

    /// False: an account of this address was removed, of which something is left.
    async fn add_account(&self, account: &Account) -> Result<bool, StoreError> {
        let special_uses: &[SpecialUse] = match self.identity.partition {
            QUEUE_PARTITION.. => &[],
            _ => &SpecialUse::ALL,
        };
        let bytes = (1 + special_uses.len()) * (SMALL_BYTES + account.address.as_str().len())
            + account.password_hash.len();
        let level = self.settings.sync.database;
        self.mutate(bytes, level, Space::Takes, |this, pending| {
            if this.will_exist(pending, &account.address) {
                return Err(StoreError::Exists);
            }
            if this.is_condemned(&account.address) {
                return Ok(false);
            }
            // Numbers of records never repeat, so an account that was removed and made again
            // gets another validity without asking a clock.
            let validity = this.begin_validity();
            let address = account.address.clone();
            let account = with_quota(account.clone());
            let change = Pended::PutAccount {
                account: account.clone(),
                validity,
            };
            let seq = this.add(pending, change, |out, seq| {
                encode::put_account(out, seq, validity, &account);
            });
            this.set_exists(&address, seq, true);
            for special_use in special_uses {
                let name = special_use.name();
                // Damage may have taken an account away, and left its mailboxes.
                let is_orphan = this.index.borrow().has_name(&address, name);
                if !is_orphan || this.has_account(&address) {
                    this.add_mailbox(pending, &address, name.to_owned(), Some(*special_use));
                }
            }
            Ok(true)
        })
        .await
    }

    /// Changes an account; gives it back as it is then. Of changes made at once each keeps what
    /// the others do to other fields.
    ///
    /// # Errors
    /// `Missing`, or what the disk says.
    pub async fn update_account(
        &self,
        address: &Address,
        wanted: AccountChange,
    ) -> Result<Account, StoreError> {
        // The record has the whole account: one that is on its way must be visible before it is
        // read for the next, also where whoever asked for it has not waited.
        let _turn = self.account_changes.hold().await;
        // Whether that was written is seen by what is there then.
        let _ = self.settle().await;
        let hash_bytes = wanted.password_hash.as_ref().map_or(0, String::len);
        let stored_bytes = self.account(address).map_or(0, |a| a.password_hash.len());
        let asked_of = self.index.borrow().account_validity(address);
        let bytes = SMALL_BYTES + address.as_str().len() + hash_bytes.max(stored_bytes);
        let level = self.settings.sync.database;
        self.mutate(bytes, level, Space::Gives, |this, pending| {
            let (state, account) = {
                let index = this.index.borrow();
                (index.account_validity(address), index.account(address))
            };
            // An account that is not durable yet is not visible yet; and what is visible is not the
            // one that will be there while its end, and perhaps another one, are on their way.
            let is_changing = this.accounts.borrow().get(address).and_then(|a| a.exists());
            let (None, Some(validity), Some(mut account)) = (is_changing, state, account) else {
                return Err(StoreError::Missing);
            };
            // While room was waited for, another account may have come in place of this one.
            if asked_of != Some(validity) {
                return Err(StoreError::Missing);
            }
            wanted.apply_to(&mut account);
            let account = with_quota(account);
            let change = Pended::PutAccount {
                account: account.clone(),
                validity,
            };
            this.add(pending, change, |out, seq| {
                encode::put_account(out, seq, validity, &account);
            });
            Ok(account)
        })
        .await
    }

    /// Removes an account and its mail. Of much mail the space comes back in steps, see
    /// [`super::removal`].
    ///
    /// # Errors
    /// `Missing`, or what the disk says.
    pub async fn remove_account(&self, address: &Address) -> Result<(), StoreError> {
        let bytes = 4 * (SMALL_BYTES + address.as_str().len());
        let level = self.settings.sync.database;
        let removed = self.mutate(bytes, level, Space::Gives, |this, pending| {
            if !this.will_exist(pending, address) || !this.has_account(address) {
                return Err(StoreError::Missing);
            }
            let keys = this.key_prefix(address, None).ok_or(StoreError::Missing)?;
            // More would hold everybody up at once.
            let count = this.index.borrow().count_messages(address);
            let condemned = count > removal::MESSAGES_MAX as u64;
            if condemned {
                this.condemn_account(pending, address)?;
            } else {
                let seq = this.add_account_end(pending, address);
                this.set_exists(address, seq, false);
            }
            // Nobody finds them any more: they name this account, and not one that comes after it.
            let condemned = condemned.then(|| Condemned::Account(address.clone()));
            this.add_gone(pending, &keys, condemned);
            Ok(())
        });
        removed.await?;
        self.clear_gone();
        Ok(())
    }

    /// Adds the record that ends an account, and all that is left of it.
    pub(super) fn add_account_end(&self, pending: &mut Pending, address: &Address) -> Sequence {
        let change = Pended::RemoveAccount {
            address: address.clone(),
        };
        self.add(pending, change, |out, seq| {
            encode::remove_account(out, seq, address.as_str());
        })
    }

    /// Sets a key of the partition's small table (the site log and the queue live on these);
    /// `None` removes it. Key and value fit into one batch.
    ///
    /// # Errors
    /// `TooLarge`, or what the disk says.
    pub async fn put(&self, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), StoreError> {
        self.put_all(vec![(key, value)]).await
    }

    /// Sets several keys in one batch: after a crash all of them are there or none.
    ///
    /// # Errors
    /// `TooLarge` when they do not fit into one batch, or what the disk says.
    pub async fn put_all(
        &self,
        entries: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        self.put_if(entries, |_| Ok(())).await
    }

    /// As [`Partition::put_all`], if `may` agrees when its turn comes.
    pub(super) async fn put_if(
        &self,
        entries: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        may: impl FnOnce(&Self) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let value_bytes = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        let bytes = entries
            .iter()
            .map(|(key, value)| SMALL_BYTES + key.len() + value_bytes(value))
            .sum();
        let sync = &self.settings.sync;
        let level = match self.identity.partition {
            SITE_PARTITION => sync.database,
            QUEUE_PARTITION.. => sync.envelope,
            _ => sync.envelope.max(sync.store),
        };
        self.mutate(bytes, level, Space::Gives, |this, pending| {
            may(this)?;
            for (key, value) in entries {
                this.add_key(pending, key, value);
            }
            Ok(())
        })
        .await
    }

    pub(super) fn add_key(&self, pending: &mut Pending, key: Vec<u8>, value: Option<Vec<u8>>) {
        let seq = self.next_seq();
        let offset = pending.bytes.len();
        encode::key(&mut pending.bytes, seq, &key, value.as_deref());
        pending.push(seq, offset, Pended::Key { key, value });
    }

    // Messages.

    /// Starts a body that is too large for one piece.
    ///
    /// # Errors
    /// `Full`, `ReadOnly`, `Closing`.
    pub fn open_stream(&self) -> Result<StreamId, StoreError> {
        self.check_open(Space::Takes)?;
        let id = StreamId(self.stream_next.get());
        self.stream_next.set(id.0 + 1);
        let stream = Stream {
            chunks: Vec::new(),
            since: self.seq_next.get(),
        };
        self.streams.borrow_mut().insert(id, stream);
        Ok(id)
    }

    /// Appends a piece (at most `limits::BODY_INLINE_BYTES_MAX`); resolves when there is room for
    /// the next one, which is not yet durability.
    ///
    /// # Errors
    /// After an error the stream is gone.
    pub async fn append_stream(&self, stream: StreamId, bytes: Vec<u8>) -> Result<(), StoreError> {
        let disk_bytes = record::body_disk_bytes(bytes.len(), 0);
        // Synced with the body that names it: what is written earlier in the log is durable then.
        let queued = self.queue(
            disk_bytes,
            SyncLevel::None,
            Space::Takes,
            |this, pending| {
                let mut streams = this.streams.borrow_mut();
                let open = streams.get_mut(&stream).ok_or(StoreError::Missing)?;
                let seq = this.add(pending, Pended::Chunk { stream }, |out, seq| {
                    encode::chunk(out, seq, &bytes);
                });
                open.chunks.push((seq, bytes.len() as u32));
                Ok(())
            },
        );
        match queued.await {
            Ok(_) => Ok(()),
            Err(error) => {
                self.abort_stream(stream);
                Err(error)
            }
        }
    }

    /// Gives a stream up.
    pub fn abort_stream(&self, stream: StreamId) {
        self.streams.borrow_mut().remove(&stream);
    }

    /// Delivers one message to INBOXes of this partition: one body, an append record each, in one
    /// batch. Resolves when durable. The outer error is that of the message (nothing was
    /// delivered), the inner ones those of single recipients.
    ///
    /// # Errors
    /// `Full`, `ReadOnly`, `Closing`; `TooLarge` when trace, body and an entry of about 100 bytes
    /// and its address for each recipient do not fit into one batch; `Missing` when the stream is
    /// gone.
    pub async fn deliver(
        &self,
        mut delivery: Delivery,
    ) -> Result<Vec<RecipientResult>, StoreError> {
        self.deliver_from(&mut delivery).await
    }

    /// As [`Partition::deliver`]. Trace and body stay with the caller: a message from another shard
    /// goes back there to be freed, by the thread whose memory it is.
    ///
    /// # Errors
    /// The same.
    pub async fn deliver_from(
        &self,
        delivery: &mut Delivery,
    ) -> Result<Vec<RecipientResult>, StoreError> {
        let Some(stream) = delivery.stream else {
            return self.deliver_with(delivery, Vec::new()).await;
        };
        let result = match self.take_stream(stream).await {
            Ok(chunks) => self.deliver_with(delivery, chunks).await,
            Err(error) => Err(error),
        };
        // A body that was written has ended its stream; any other outcome has no use for it.
        self.abort_stream(stream);
        result
    }

    async fn deliver_with(
        &self,
        delivery: &mut Delivery,
        chunks: Vec<(Sequence, u32)>,
    ) -> Result<Vec<RecipientResult>, StoreError> {
        let recipients = delivery.recipients.len();
        let own_bytes = delivery.trace.len() + delivery.body.len();
        let texts: usize = delivery.recipients.iter().map(|r| r.as_str().len()).sum();
        let once_bytes = delivery.once.as_ref().map_or(0, Vec::len);
        let bytes = record::body_disk_bytes(own_bytes, chunks.len())
            + (recipients + 1) * SMALL_BYTES
            + texts
            + once_bytes;
        let level = self.settings.sync.message;
        let added = self.mutate(bytes, level, Space::Takes, |this, pending| {
            Ok(this.add_delivery(pending, delivery, chunks))
        });
        let results = added.await?;
        Ok(results.unwrap_or_else(|| (0..recipients).map(|_| Ok(0)).collect()))
    }

    /// The chunks of a stream, all written.
    async fn take_stream(&self, stream: StreamId) -> Result<Vec<(Sequence, u32)>, StoreError> {
        // A body must not be written that names a chunk which was not.
        self.settle().await?;
        // Until its body is durable, the stream stays open for those who ask what is needed.
        let streams = self.streams.borrow();
        let open = streams.get(&stream).ok_or(StoreError::Missing)?;
        Ok(open.chunks.clone())
    }

    /// Waits until everything that waits now is written.
    pub(super) async fn settle(&self) -> Result<(), StoreError> {
        // Both as they are now: what waits is in flight when the first await is over.
        let in_flight = self.in_flight.borrow().clone();
        let waiting = {
            let pending = self.pending.borrow();
            (pending.records > 0).then(|| pending.done.clone())
        };
        for done in [in_flight, waiting].into_iter().flatten() {
            done.wait().await?;
        }
        Ok(())
    }

    /// `None`: it was delivered before, or is being so.
    fn add_delivery(
        &self,
        pending: &mut Pending,
        delivery: &mut Delivery,
        chunks: Vec<(Sequence, u32)>,
    ) -> Option<Vec<RecipientResult>> {
        if let Some(once) = &delivery.once
            && (self.marks.borrow().contains(once) || self.index.borrow().key(once).is_some())
        {
            return None;
        }
        let streamed: u64 = chunks.iter().map(|(_, bytes)| u64::from(*bytes)).sum();
        let bytes = (delivery.trace.len() + delivery.body.len()) as u64 + streamed;
        let results: Vec<RecipientResult> = delivery
            .recipients
            .iter()
            .map(|address| self.assign_uid(pending, address, bytes))
            .collect();
        if results.iter().any(Result::is_ok) {
            let change = Pended::Body {
                chunks: chunks.iter().map(|(chunk, _)| *chunk).collect(),
                stream: delivery.stream,
            };
            let body_seq = self.add(pending, change, |out, seq| {
                encode::body(out, seq, &delivery.trace, &chunks, &delivery.body);
            });
            let recipients = std::mem::take(&mut delivery.recipients);
            for (address, result) in recipients.into_iter().zip(&results) {
                let Ok(uid) = *result else { continue };
                let (seq, offset) = (self.next_seq(), pending.bytes.len());
                let date_ms = delivery.now_ms;
                let message = encode::Append {
                    address: address.as_str(),
                    mailbox: MailboxId::INBOX,
                    uid,
                    body_seq,
                    bytes,
                    date_ms,
                    saved_ms: date_ms,
                    flags: Flags::NONE,
                    keywords: &[],
                };
                encode::append(&mut pending.bytes, seq, &message);
                let change = Pended::Append {
                    address,
                    mailbox: MailboxId::INBOX,
                    uid,
                    body_seq,
                    bytes,
                    date_ms,
                    extra: None,
                };
                // Its account was noted when the UID was given.
                pending.push(seq, offset, change);
            }
            if let Some(once) = delivery.once.take() {
                self.marks.borrow_mut().insert(once.clone());
                self.add_key(pending, once, Some(Vec::new()));
            }
        }
        Some(results)
    }

    /// Gives the next UID of an INBOX to a message of so many bytes; counts as a waiting change.
    fn assign_uid(&self, pending: &mut Pending, address: &Address, bytes: u64) -> RecipientResult {
        let index = self.index.borrow();
        let mut accounts = self.accounts.borrow_mut();
        let waiting = accounts.get(address);
        if let Some(waiting) = waiting.and_then(|entry| entry.exists()) {
            pending.rests_on(waiting.seq);
            if !waiting.exists {
                return Err(StoreError::Missing);
            }
        }
        let room = index.inbox_room(address);
        let (uid_next, used, quota_bytes) = room.ok_or(StoreError::Missing)?;
        let uid = uid_next.max(waiting.map_or(0, |entry| entry.uid_next));
        if uid == UID_END {
            return Err(StoreError::NoUid);
        }
        let used = used + waiting.map_or(0, |entry| entry.bytes) + bytes;
        if quota_bytes != 0 && used > quota_bytes {
            return Err(StoreError::OverQuota);
        }
        let entry = match accounts.get_mut(address) {
            Some(entry) => entry,
            None => accounts.entry(address.clone()).or_default(),
        };
        entry.uses += 1;
        entry.uid_next = uid + 1;
        entry.bytes += bytes;
        Ok(uid)
    }

    /// Expunges messages of the INBOX, see [`Partition::expunge_from`].
    ///
    /// # Errors
    /// The same.
    pub async fn expunge(
        &self,
        address: &Address,
        uids: &[Uid],
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let mailbox = MailboxId::INBOX;
        self.expunge_from(address, mailbox, uids, now_ms)
            .await
            .map(drop)
    }
}
