//! What a partition knows of its log: accounts, messages, keys, and where the bytes are.
//!
//! The newest changes are in memory (the *overlay*), the rest in a sealed index file (the *base*),
//! immutable and mapped. The log is the truth: an index can be rebuilt from it at any time.
//!
//! ```text
//! apply    what each record changes          layer, mailbox, message, marks, tombstones, bodies:
//! lookup   the layers seen as one                     the overlay
//! view     what sessions ask of a mailbox    format   the sealed file, byte by byte
//! names    of mailboxes, remembered          runs     of UIDs
//! needs    what compaction has to keep       seal     writes it
//! usage    live bytes of segments            sealed   reads it
//! ```
//!
//! Guarantees: [`Index::apply`] is idempotent and may see records in another order than they were
//! written, as compaction leaves them: the highest sequence number of a thing wins, and of two
//! places of one record the one in the segment of the higher generation.
//! Does not know: files, disks, segments' contents, time.
//! On failure: only a sealed file can be wrong; then [`Index::open`] says so, and the log is
//! replayed from its beginning into [`Index::new`].

mod apply;
mod bodies;
mod format;
mod layer;
mod lookup;
mod mailbox;
mod marks;
mod message;
mod names;
mod needs;
mod runs;
mod seal;
mod sealed;
mod tombstones;
mod usage;
mod view;

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::rc::Rc;

pub use self::layer::CONDEMNED_QUOTA;
pub use self::mailbox::CONDEMNED;
pub use self::seal::SealWriter;

use self::format::Header;
use self::layer::{Fields, Layer};
use self::lookup::over;
use self::names::Names;
use self::sealed::{Check, Sealed};
use self::usage::{NO_SEGMENT, Segments};
use super::record::{NewMark, Reserved};
use super::{Account, Flags, Identity, MailboxId, MessageInfo, Sequence, Uid, UidValidity};
use crate::mail::Address;

/// Is shown a key and its value, and says whether it wants to see more.
pub type VisitKey<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Where a record with a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// Generation of the segment.
    pub segment: u64,
    /// Bytes from the start of the segment file to the record.
    pub offset: u32,
    /// Bytes of the whole record on disk: what becomes garbage with it.
    pub bytes: u32,
}

/// One change, as a record of the log says it. `seq` is the record's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// An account is made or changed. `validity` is that of its INBOX when it is made.
    PutAccount {
        /// The account.
        account: &'a Account,
        /// UIDVALIDITY of the INBOX.
        validity: UidValidity,
    },
    /// An account and its mail are gone.
    RemoveAccount {
        /// Canonical.
        address: &'a Address,
    },
    /// A mailbox is made, or has another name.
    PutMailbox {
        /// Canonical.
        address: &'a Address,
        /// Its number: that of the record that makes it.
        mailbox: MailboxId,
        /// UIDVALIDITY.
        validity: UidValidity,
        /// As the log has it.
        special_use: u8,
        /// Canonical.
        name: &'a str,
    },
    /// A mailbox and its mail are gone.
    RemoveMailbox {
        /// Canonical.
        address: &'a Address,
        /// Not INBOX.
        mailbox: MailboxId,
    },
    /// A message is in a mailbox now.
    Append {
        /// Canonical.
        address: &'a Address,
        /// There.
        mailbox: MailboxId,
        /// Its number, above every earlier one.
        uid: Uid,
        /// Sequence number of the body record, which several appends may share.
        body_seq: Sequence,
        /// Bytes of trace header and body.
        bytes: u64,
        /// Internal date.
        date_ms: u64,
        /// When it came there.
        saved_ms: u64,
        /// Its flags.
        flags: Flags,
        /// Its keywords.
        keywords: &'a [&'a str],
    },
    /// Messages have these flags and keywords now.
    Flags {
        /// Canonical.
        address: &'a Address,
        /// There.
        mailbox: MailboxId,
        /// What the bits of the marks stand for.
        keywords: &'a [&'a str],
        /// By ascending UID.
        marks: &'a [NewMark],
    },
    /// Messages are gone from a mailbox.
    Expunge {
        /// Canonical.
        address: &'a Address,
        /// From there.
        mailbox: MailboxId,
        /// Ascending.
        uids: &'a [Uid],
        /// When, for the cleanup age [N23].
        now_ms: u64,
    },
    /// Numbers of a mailbox that are never given again; and its UIDVALIDITY.
    Reserve {
        /// Canonical.
        address: &'a Address,
        /// There.
        mailbox: MailboxId,
        /// These.
        reserved: Reserved,
    },
    /// Something is kept beside a body; where the record is, it is.
    Cache {
        /// The body.
        body_seq: Sequence,
    },
    /// A key has this value, or none.
    Key {
        /// The key.
        key: &'a [u8],
        /// `None`: removed.
        value: Option<&'a [u8]>,
    },
    /// A body (or chunk of one) is there now: first written, or moved by compaction.
    Body {
        /// The body's sequence number, which moving does not change.
        body_seq: Sequence,
        /// Where it is now.
        location: Location,
        /// A streamed body is a final record that names its chunks, each a body record of its own
        /// that is needed as long as one that names it is. Empty for all others.
        chunks: &'a [Sequence],
    },
}

/// A message and where its body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// As listed.
    pub info: MessageInfo,
    /// The body's sequence number.
    pub body_seq: Sequence,
    /// Where it is now.
    pub location: Location,
}

/// Live and dead bytes of a segment, for compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of records that something still needs.
    pub live_bytes: u64,
    /// Messages expunged at this time or later still hold space here: the latest such time.
    pub youngest_expunge_ms: u64,
}

/// The index of one partition.
///
/// Reading looks into up to three layers, the newest first: changes since a seal began (*active*),
/// those that a running seal writes (*frozen*), and the sealed file (*base*).
#[derive(Default)]
pub struct Index {
    active: Layer,
    frozen: Option<Rc<Layer>>,
    base: Option<Rc<Sealed>>,
    /// What the running seal is of, and whether its file was compared with what was written.
    sealing: Option<(Header, Rc<Cell<bool>>)>,
    segments: Segments,
    /// Live messages.
    messages: u64,
    /// Bodies that nothing had named when they came; some may have been named since.
    unnamed: Vec<Sequence>,
    names: RefCell<Names>,
}

/// The bytes at hand are no index, a damaged one, or of another partition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("index file: {0}")]
pub struct IndexError(pub String);

impl Index {
    /// An empty index.
    pub fn new() -> Index {
        Index::default()
    }

    /// These are the first bytes of an index of an earlier format: nothing is wrong with it, it is
    /// made again from the log.
    pub fn is_older(bytes: &[u8]) -> bool {
        format::is_older(bytes)
    }

    /// Takes over a sealed index, every byte of it checked; returns with it the sequence number and
    /// the log position (segment, offset) it covers: replay goes on there.
    ///
    /// # Errors
    /// When the bytes are not a whole and sound index of this partition and version: the index is
    /// then to be rebuilt from the log.
    pub fn open(
        base: Rc<dyn AsRef<[u8]>>,
        identity: Identity,
    ) -> Result<(Index, Sequence, (u64, u64)), IndexError> {
        let mut segments = Segments::default();
        let base = Sealed::open(base, Check::AtStart, &mut segments)?;
        let header = *base.header();
        if header.identity != identity {
            return Err(IndexError(format!(
                "of partition {:#x} of store {:032x}",
                header.identity.partition, header.identity.store_id
            )));
        }
        let index = Index {
            segments,
            messages: base.live_messages(),
            unnamed: base.unnamed().collect(),
            base: Some(Rc::new(base)),
            ..Index::default()
        };
        Ok((index, header.covers, header.position))
    }

    /// Applies a record; `at` is where the record itself is (for the usage of segments).
    pub fn apply(&mut self, seq: Sequence, at: Location, change: Change<'_>) {
        self.apply_change(seq, at, change);
    }

    /// No stream is open that may still name bodies below this number: those that nothing names
    /// are garbage from now on. Until told so, they count as live, for they may be chunks of a
    /// message that is still arriving. After a start all of them are garbage.
    pub fn release_unnamed(&mut self, below: Sequence) {
        self.release_unnamed_bodies(below);
    }

    /// The segment is recycled: [`Index::usage`] names it no more. One that still holds something
    /// live stays.
    pub fn forget_segment(&mut self, segment: u64) {
        self.segments.forget(segment);
    }

    /// Begins writing a sealed index of everything applied so far. The writer holds a consistent
    /// cut; `apply` may go on meanwhile. `covers` is the highest sequence number applied: every
    /// record up to it must have been. A seal that is still running is abandoned.
    pub fn begin_seal(
        &mut self,
        identity: Identity,
        covers: Sequence,
        position: (u64, u64),
    ) -> SealWriter {
        self.abandon_seal();
        let header = Header {
            identity,
            covers,
            position,
        };
        let frozen = Rc::new(std::mem::take(&mut self.active));
        self.frozen = Some(Rc::clone(&frozen));
        let compared = Rc::new(Cell::new(false));
        self.sealing = Some((header, Rc::clone(&compared)));
        let mut unnamed = std::mem::take(&mut self.unnamed);
        unnamed.retain(|seq| self.body_entry(*seq).is_some_and(|body| body.is_unnamed()));
        self.unnamed = unnamed;
        SealWriter::new(
            frozen,
            self.base.clone(),
            header,
            self.segments.used().collect(),
            self.messages,
            compared,
        )
    }

    /// The sealed file is durable and mapped: what it holds leaves the overlay. All of it is
    /// checked here at one go, some milliseconds for each ten megabytes, unless
    /// [`SealWriter::compare`] has done so before.
    ///
    /// # Errors
    /// When the bytes are not what the writer gave. The overlay keeps everything then, and the
    /// seal is over, as after [`Index::abandon_seal`].
    pub fn finish_seal(&mut self, base: Rc<dyn AsRef<[u8]>>) -> Result<(), IndexError> {
        let Some((header, compared)) = self.sealing.take() else {
            return Err(IndexError("no seal is running".into()));
        };
        let check = if compared.get() {
            Check::Compared
        } else {
            Check::Whole
        };
        let opened = Sealed::open(base, check, &mut self.segments).and_then(|base| {
            if *base.header() == header {
                Ok(base)
            } else {
                Err(IndexError("not the one that was being written".into()))
            }
        });
        match opened {
            Ok(base) => {
                self.base = Some(Rc::new(base));
                self.frozen = None;
                Ok(())
            }
            Err(error) => {
                self.abandon_seal();
                Err(error)
            }
        }
    }

    /// The sealed file could not be written: the overlay keeps everything.
    pub fn abandon_seal(&mut self) {
        self.sealing = None;
        let Some(frozen) = self.frozen.take() else {
            return;
        };
        // The writer may still hold it; then a copy goes on.
        let mut whole = Rc::unwrap_or_clone(frozen);
        whole.merge(std::mem::take(&mut self.active));
        self.active = whole;
    }

    /// There is such an account.
    pub fn has_account(&self, address: &Address) -> bool {
        self.fields(address).is_some_and(|fields| fields.exists())
    }

    /// The account.
    pub fn account(&self, address: &Address) -> Option<Account> {
        let fields = self.fields(address).filter(Fields::exists)?;
        let own = [self.active.entry(address), self.frozen_entry(address)];
        let own = own.into_iter().flatten();
        let password_hash = match own
            .filter_map(|entry| entry.password_hash.as_deref())
            .next()
        {
            Some(own) => own.to_owned(),
            None => {
                let base = self.base.as_ref()?;
                let (account, _) = base.account(address.as_str())?;
                base.password_hash(account).into_owned()
            }
        };
        Some(Account {
            address: address.clone(),
            password_hash,
            quota_bytes: fields.quota_bytes,
        })
    }

    /// Visits every account.
    pub fn for_each_account(&self, visit: &mut dyn FnMut(&Account)) {
        let mut show = |address: &Address| {
            if let Some(account) = self.account(address) {
                visit(&account);
            }
        };
        for address in self.active.numbers.keys() {
            show(address);
        }
        if let Some(frozen) = &self.frozen {
            for address in frozen.numbers.keys() {
                if self.active.entry(address).is_none() {
                    show(address);
                }
            }
        }
        if let Some(base) = &self.base {
            base.for_each_address(&mut |address| {
                if self.active.entry(address).is_none() && self.frozen_entry(address).is_none() {
                    show(address);
                }
            });
        }
    }

    /// Where a body or chunk is, if anything still needs it, or may come to need it (see
    /// [`Index::release_unnamed`]).
    pub fn body(&self, body_seq: Sequence) -> Option<Location> {
        let body = self.body_entry(body_seq)?;
        if !body.needed() || body.segment == NO_SEGMENT {
            return None;
        }
        Some(Location {
            segment: self.segments.generation(body.segment),
            offset: body.offset,
            bytes: body.bytes,
        })
    }

    /// Where what is kept beside a body is.
    pub fn cache(&self, body_seq: Sequence) -> Option<Location> {
        let is_live = |seq| self.body_entry(seq).is_some_and(|body| body.is_live());
        let entry = self.cache_entry(body_seq).filter(|_| is_live(body_seq))?;
        Some(Location {
            segment: self.segments.generation(entry.segment),
            offset: entry.offset,
            bytes: entry.bytes,
        })
    }

    /// Value of a key.
    pub fn key(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.key_entry(key)?.value.map(Vec::from)
    }

    /// Visits keys with this prefix, in order.
    pub fn for_each_key(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.visit_keys(prefix, &mut |key, value| {
            visit(key, value);
            ControlFlow::Continue(())
        });
    }

    /// The same, until `visit` says that it is enough.
    pub fn visit_keys(&self, prefix: &[u8], visit: &mut VisitKey<'_>) {
        let base = self.base.as_ref().map(|base| base.keys_from(prefix));
        let frozen = self.frozen.as_ref().map(|frozen| frozen.keys_from(prefix));
        let active = self.active.keys_from(prefix);
        let below = over(frozen.into_iter().flatten(), base.into_iter().flatten());
        for (key, value) in over(active, below) {
            if !key.starts_with(prefix) {
                break;
            }
            if let Some(value) = value
                && visit(key, value).is_break()
            {
                return;
            }
        }
    }

    /// Live messages of all mailboxes (an append each).
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Use of every segment that anything points into.
    pub fn usage(&self) -> Vec<(u64, Usage)> {
        let used = self.segments.used();
        let mut usage: Vec<_> = used.map(|(_, segment, usage)| (segment, usage)).collect();
        usage.sort_unstable_by_key(|(segment, _)| *segment);
        usage
    }

    /// Approximate bytes of memory of the overlay, and bytes of the base.
    pub fn bytes(&self) -> (u64, u64) {
        let overlay = self.active.bytes()
            + self.frozen.as_ref().map_or(0, |frozen| frozen.bytes())
            + self.segments.bytes()
            + self.names.borrow().bytes()
            + self.unnamed.capacity() * size_of::<Sequence>();
        (
            overlay as u64,
            self.base.as_ref().map_or(0, |base| base.len() as u64),
        )
    }
}

#[cfg(test)]
mod tests;
