//! A partition: what is in memory of it, and what can be asked of it without waiting.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use super::background::BackgroundState;
use super::cache::Recent;
use super::commit::Pending;
use super::compact::Moves;
use super::disk::Disk;
use super::index::Index;
use super::manifest::Manifest;
use super::mutate::Stream;
use super::notice::Watches;
use super::recovery;
use super::segment::{Position, Segment};
use super::spare::{Reads, Spare};
use super::wait::{Done, Line, Lock, Notify};
use super::waiting::WaitingAccount;
use super::{
    Account, Health, Identity, MailboxId, MessageInfo, OpenError, Probe, Progress, RecoveryReport,
    Settings, StoreError, StreamId, UidValidity,
};
use crate::mail::Address;

/// A segment file made ahead.
#[derive(Debug)]
pub(super) struct Prepared<F> {
    pub path: PathBuf,
    pub file: Rc<F>,
    pub bytes: u64,
}

/// The log's files.
#[derive(Debug)]
pub(super) struct Log<F> {
    /// All segments in use, the active one last.
    pub segments: BTreeMap<u64, Segment<F>>,
    /// Generation of the active segment.
    pub active: u64,
    /// Everything before this is durable.
    pub durable: Position,
    /// Earlier segments that hold bytes not synced yet (level 0 only).
    pub dirty: Vec<u64>,
    /// The next segment, made ahead.
    pub next: Option<Prepared<F>>,
    /// Somebody makes the next segment right now.
    pub preparing: Option<Rc<Done>>,
    /// A segment kept for when the disk is full.
    pub reserve: Option<Prepared<F>>,
    /// Files that were segments and will be again.
    pub spares: Vec<Spare<F>>,
}

impl<F> Log<F> {
    /// Where the next batch goes, if it fits.
    pub fn end(&self) -> Position {
        Position {
            segment: self.active,
            offset: self.segments.get(&self.active).map_or(0, |s| s.end),
        }
    }
}

/// One partition, owned by one shard.
///
/// Mutations are futures that resolve when their record is durable at its level; the order in
/// which they are first polled is their order in the log. Only durable state is ever visible to
/// the reading methods. A dropped future cancels nothing that was already queued.
pub struct Partition<D: Disk> {
    pub(super) disk: D,
    pub(super) dir: PathBuf,
    pub(super) identity: Identity,
    pub(super) settings: Settings,
    pub(super) epoch: u64,
    pub(super) index: RefCell<Index>,
    pub(super) log: RefCell<Log<D::File>>,
    pub(super) manifest: RefCell<Manifest>,
    pub(super) pending: RefCell<Pending>,
    /// The batch in flight, for those who wait for everything before now.
    pub(super) in_flight: RefCell<Option<Rc<Done>>>,
    /// Its first record.
    pub(super) in_flight_seq: Cell<Option<u64>>,
    /// When its first record came.
    pub(super) in_flight_since: Cell<Option<Instant>>,
    /// Records that compaction wants moved.
    pub(super) moves: RefCell<Option<Moves>>,
    /// Mutations that wait for room in the batch.
    pub(super) line: Line,
    /// The right to sync the log, see [`Partition::sync_dirty`].
    pub(super) syncs: Lock,
    /// The right to change an account.
    pub(super) account_changes: Lock,
    /// The commit loop has something to do.
    pub(super) work: Notify,
    /// The background has something to look at.
    pub(super) chores: Notify,
    pub(super) accounts: RefCell<FxHashMap<Address, WaitingAccount>>,
    /// Marks of deliveries that wait.
    pub(super) marks: RefCell<FxHashSet<Vec<u8>>>,
    pub(super) watches: Watches,
    /// What was kept beside bodies and used lately.
    pub(super) caches: RefCell<Recent>,
    pub(super) streams: RefCell<FxHashMap<StreamId, Stream>>,
    pub(super) reads: Reads,
    pub(super) stream_next: Cell<u64>,
    pub(super) seq_next: Cell<u64>,
    /// Records up to this number are synced.
    pub(super) synced_seq: Cell<u64>,
    pub(super) read_only: RefCell<Option<Arc<str>>>,
    pub(super) full: Cell<bool>,
    pub(super) closing: Cell<bool>,
    /// Everything is written that ever will be.
    pub(super) closed: Cell<bool>,
    /// How far the background is, and what it is asked to do.
    pub(super) background: BackgroundState,
    /// Marks of damage that the report of this start tells of.
    pub(super) untold: RefCell<Vec<PathBuf>>,
    pub(super) probe: Probe,
}

impl<D: Disk> Partition<D> {
    /// Makes an empty partition in `dir`, which does not exist, or is what an interrupted attempt
    /// has left. Durable when it returns, but for the parent directory's entry.
    ///
    /// # Errors
    /// When an operation of the disk fails, or there is a partition already.
    pub async fn create(disk: D, dir: &Path, identity: Identity) -> Result<(), OpenError> {
        recovery::create(&disk, dir, identity).await
    }

    /// Recovers the partition in `dir`. Nothing is served before this returns; a crash while it
    /// runs is a crash like any other.
    ///
    /// # Errors
    /// Only when the partition cannot be served at all; damage is reported, not an error. It is told
    /// of before [`Partition::background`] is polled: after that, or a close, no start does it again.
    pub async fn open(
        disk: D,
        dir: &Path,
        identity: Identity,
        settings: Settings,
        _now_ms: u64,
        progress: impl Fn(Progress),
    ) -> Result<(Rc<Partition<D>>, RecoveryReport), OpenError> {
        let (found, report) = recovery::open(&disk, dir, identity, &settings, &progress).await?;
        let probe = Probe::default();
        probe.damage.add(report.damage.len() as u64);
        probe.messages.set(report.messages as i64);
        probe.segments.set(found.log.segments.len() as i64);
        let partition = Rc::new(Partition {
            disk,
            dir: dir.to_owned(),
            identity,
            settings,
            epoch: found.manifest.epoch,
            index: RefCell::new(found.index),
            log: RefCell::new(found.log),
            manifest: RefCell::new(found.manifest),
            pending: RefCell::new(Pending::new()),
            in_flight: RefCell::new(None),
            in_flight_seq: Cell::new(None),
            in_flight_since: Cell::new(None),
            moves: RefCell::new(None),
            line: Line::default(),
            syncs: Lock::default(),
            account_changes: Lock::default(),
            work: Notify::default(),
            chores: Notify::default(),
            accounts: RefCell::default(),
            marks: RefCell::default(),
            watches: Watches::default(),
            caches: RefCell::default(),
            streams: RefCell::default(),
            reads: Reads::default(),
            stream_next: Cell::new(1),
            seq_next: Cell::new(found.seq_next),
            synced_seq: Cell::new(found.seq_next),
            read_only: RefCell::new(None),
            full: Cell::new(false),
            closing: Cell::new(false),
            closed: Cell::new(false),
            background: BackgroundState::new(found.covered, report.replayed_bytes),
            untold: RefCell::new(found.untold),
            probe,
        });
        // Mail is refused from the first moment where there is no space for it.
        partition.check_space().await;
        partition.chores.notify();
        Ok((partition, report))
    }

    /// Its counters.
    pub fn probe(&self) -> &Probe {
        &self.probe
    }

    /// May it take mail?
    pub fn health(&self) -> Health {
        match &*self.read_only.borrow() {
            Some(reason) => Health::ReadOnly(reason.clone()),
            None if self.full.get() => Health::Full,
            None => Health::Good,
        }
    }

    /// How long the oldest mutation has waited to be durable; `None`: nothing waits.
    pub fn oldest_waiting(&self) -> Option<Duration> {
        let waiting = || self.pending.borrow().since;
        let since = self.in_flight_since.get().or_else(waiting)?;
        Some(since.elapsed())
    }

    // Accounts and small state.

    /// There is an account of this address, which is canonical: cheaper than [`Self::account`].
    pub fn has_account(&self, address: &Address) -> bool {
        self.index.borrow().has_account(address)
    }

    /// The account of this address, which is canonical.
    pub fn account(&self, address: &Address) -> Option<Account> {
        self.index.borrow().account(address)
    }

    /// What tells this account from others that had, or will have, its canonical address: the same as
    /// long as there is this account.
    pub fn account_validity(&self, address: &Address) -> Option<UidValidity> {
        self.index.borrow().account_validity(address)
    }

    /// Visits all accounts, in no order. `visit` must not call back into the partition.
    pub fn for_each_account(&self, mut visit: impl FnMut(&Account)) {
        self.index.borrow().for_each_account(&mut visit);
    }

    /// Bytes of all messages of this account, which its quota bounds; 0 where there is none.
    pub fn used_bytes(&self, address: &Address) -> u64 {
        self.index.borrow().used_bytes(address).unwrap_or(0)
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.index.borrow().key(key)
    }

    /// Visits all keys from `prefix` on that start with it, in order. `visit` must not call back
    /// into the partition.
    pub fn for_each_key(&self, prefix: &[u8], mut visit: impl FnMut(&[u8], &[u8])) {
        self.index.borrow().for_each_key(prefix, &mut visit);
    }

    /// UIDVALIDITY and all messages of the INBOX, in UID order.
    ///
    /// # Errors
    /// `Missing`.
    pub fn inbox(&self, address: &Address) -> Result<(UidValidity, Vec<MessageInfo>), StoreError> {
        let index = self.index.borrow();
        let id = MailboxId::INBOX;
        match (index.room(address, id), index.messages_in(address, id)) {
            (Some((_, validity, ..)), Some(messages)) => Ok((validity, messages)),
            _ => Err(StoreError::Missing),
        }
    }

    /// From now on every change is refused, for this reason; the first one stays.
    pub(super) fn turn_read_only(&self, reason: &str) -> StoreError {
        let mut read_only = self.read_only.borrow_mut();
        if read_only.is_none() {
            tracing::error!(
                "{}: {reason}: nothing is taken until restart [N21]",
                self.dir.display()
            );
            self.probe.read_only.set(1);
        }
        StoreError::ReadOnly(read_only.get_or_insert_with(|| reason.into()).clone())
    }

    pub(super) fn set_full(&self, full: bool) {
        if self.full.replace(full) != full {
            self.probe.full.set(i64::from(full));
            if full {
                tracing::error!(
                    "{}: not enough disk space: mail is refused with 452 until there is [N30]",
                    self.dir.display()
                );
            } else {
                tracing::info!("{}: there is space again", self.dir.display());
            }
        }
    }
}
