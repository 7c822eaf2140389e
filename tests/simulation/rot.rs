//! Rot: bits that flip at rest, sectors that cannot be read any more, and what that excuses.
//!
//! Before anything rots, the log is taken apart here, batch by batch. What is hit excuses the loss
//! of what its batch held, and of nothing else; only a place that nothing calls durable excuses
//! what lies behind it, too: there the store cannot tell rot from an unfinished write, behind which
//! nothing counts.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use ringpost::config::SyncLevel;
use ringpost::limits::BLOCK_BYTES;
use ringpost::mail::Address;
use ringpost::store::record::Payload;
use ringpost::store::segment::{self, Position};
use ringpost::store::sim::{Random, SimDisk};
use ringpost::store::{Identity, Sequence, Uid, batch};

use crate::message::{NUMBER_BYTES, number};

/// What rot excuses in one partition.
#[derive(Debug, Clone, Default)]
pub struct Excuse {
    /// Copies of messages: their bytes, what put them there, or what expunged them was hit.
    pub copies: BTreeSet<(Address, u64)>,
    /// Accounts: what made, changed or removed them was hit.
    pub accounts: BTreeSet<Address>,
    /// Keys: what set or removed them was hit.
    pub keys: BTreeSet<Vec<u8>>,
}

impl Excuse {
    /// A copy of this message was hit: the others of its delivery may still be there.
    pub fn any_copy_of(&self, id: u64) -> bool {
        self.copies.iter().any(|(_, hit)| *hit == id)
    }
}

/// A place that rots: bytes of one file.
#[derive(Debug, Clone)]
pub struct Hit {
    segment: u64,
    bytes: Range<u64>,
}

impl Hit {
    /// `None` where the file is no segment of this partition: an index or manifest is made again
    /// from the log, and excuses nothing.
    pub fn new(dir: &Path, path: &Path, bytes: Range<u64>) -> Option<Hit> {
        let (segment, is_segment) = segment::parse_path(path)?;
        (is_segment && path.parent() == Some(dir)).then_some(Hit { segment, bytes })
    }

    fn covers(&self, at: Position, bytes: u64) -> bool {
        self.segment == at.segment
            && self.bytes.start < at.offset + bytes
            && at.offset < self.bytes.end
    }
}

/// What a record says, as far as an excuse needs it.
enum Said {
    Account(Address),
    Key(Vec<u8>),
    Append(Address, Uid, Sequence),
    Expunge(Address, Vec<Uid>),
    Body(Sequence),
}

struct Batch {
    at: Position,
    bytes: u64,
    is_synced: bool,
    /// It calls everything before this durable.
    durable: Position,
    said: Vec<Said>,
}

/// The log of one partition, taken apart.
#[derive(Default)]
pub struct Log {
    /// Place of each segment's header, and what that calls durable.
    headers: Vec<(Position, Position)>,
    batches: Vec<Batch>,
    /// Chunks that a body names, and its first own bytes with the length of its lead.
    bodies: BTreeMap<Sequence, (Vec<Sequence>, Vec<u8>, usize)>,
    /// First bytes of chunks.
    chunks: BTreeMap<Sequence, Vec<u8>>,
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap_or_else(|error| panic!("the log names {text}: {error}"))
}

fn first(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(NUMBER_BYTES)].to_vec()
}

impl Log {
    /// The log as it lies on the disk, before anything is hit.
    pub fn take_apart(disk: &SimDisk, dir: &Path, identity: Identity) -> Log {
        let mut log = Log::default();
        for (path, _) in disk.files() {
            let parsed = segment::parse_path(&path).filter(|_| path.parent() == Some(dir));
            if let Some((generation, true)) = parsed {
                let bytes = disk.contents(&path).unwrap_or_default();
                log.add_segment(&bytes, identity, generation);
            }
        }
        log
    }

    fn add_segment(&mut self, bytes: &[u8], identity: Identity, generation: u64) {
        let place = |offset: usize| Position {
            segment: generation,
            offset: offset as u64,
        };
        let found = segment::decode_header(bytes, identity, generation);
        if let segment::Found::Header(header) = found {
            self.headers.push((place(0), header.durable));
        }
        let mut at = BLOCK_BYTES;
        while at < bytes.len() {
            let Some((head, realm)) = batch::decode_head(&bytes[at..], identity, generation) else {
                at += BLOCK_BYTES;
                continue;
            };
            let records = batch::records(&bytes[at..], head, realm);
            let said = records
                .map_while(Result::ok)
                .filter_map(|(_, record)| self.hear(record.seq, record.payload))
                .collect();
            self.batches.push(Batch {
                at: place(at),
                bytes: head.disk_bytes() as u64,
                is_synced: head.level > SyncLevel::None,
                durable: head.durable,
                said,
            });
            at += head.disk_bytes();
        }
    }

    fn hear(&mut self, seq: Sequence, payload: Payload<'_>) -> Option<Said> {
        Some(match payload {
            Payload::PutAccount { address: text, .. }
            | Payload::RemoveAccount { address: text } => Said::Account(address(text)),
            Payload::Append {
                uid,
                body_seq,
                address: text,
                ..
            } => Said::Append(address(text), uid, body_seq),
            Payload::Expunge {
                address: text,
                uids,
                ..
            } => Said::Expunge(address(text), uids.iter().collect()),
            Payload::Key { key, .. } => Said::Key(key.to_vec()),
            Payload::Body(body) => {
                let own = first(body.bytes());
                if body.is_chunk {
                    self.chunks.insert(seq, own);
                } else {
                    let chunks = body.chunks().map(|(chunk, _)| chunk).collect();
                    let entry = (chunks, own, body.lead_bytes as usize);
                    self.bodies.insert(seq, entry);
                }
                Said::Body(seq)
            }
            // The start after this one moves the next UID on by itself.
            Payload::Reserve { .. } | Payload::End => return None,
            // Of mailboxes whose whole account is looked at otherwise.
            Payload::PutMailbox { .. }
            | Payload::RemoveMailbox { .. }
            | Payload::Flags { .. }
            | Payload::Cache { .. } => return None,
        })
    }

    /// The number of the message with this body.
    fn number_of(&self, body: Sequence) -> Option<u64> {
        let (chunks, own, lead) = self.bodies.get(&body)?;
        let (lead, rest) = own.split_at((*lead).min(own.len()));
        let mut bytes = lead.to_vec();
        for chunk in chunks {
            bytes.extend_from_slice(self.chunks.get(chunk)?);
        }
        bytes.extend_from_slice(rest);
        number(&bytes)
    }

    fn appends(&self) -> impl Iterator<Item = (&Address, Uid, Sequence)> {
        let said = self.batches.iter().flat_map(|batch| &batch.said);
        said.filter_map(|said| match said {
            Said::Append(address, uid, body) => Some((address, *uid, *body)),
            _ => None,
        })
    }

    /// What these hits excuse.
    pub fn excuse(&self, hits: &[Hit]) -> Excuse {
        let is_hit = |at: Position, bytes: u64| hits.iter().any(|hit| hit.covers(at, bytes));
        let block = BLOCK_BYTES as u64;
        let headers = self.headers.iter().filter(|(at, _)| !is_hit(*at, block));
        // What was not synced can be gone before anybody reads what it says.
        let batches = self
            .batches
            .iter()
            .filter(|b| b.is_synced && !is_hit(b.at, b.bytes));
        let durable = headers
            .map(|(_, durable)| *durable)
            .chain(batches.map(|batch| batch.durable))
            .max()
            .unwrap_or_default();
        // A lost header takes no records with it; a hit between batches does, if it may have been
        // one.
        let cut = hits
            .iter()
            .filter(|hit| hit.bytes.end > block)
            .map(|hit| self.start_of(hit))
            .filter(|at| *at >= durable)
            .min();
        let lost = self
            .batches
            .iter()
            .filter(|b| is_hit(b.at, b.bytes) || cut.is_some_and(|cut| b.at >= cut));
        let mut excuse = Excuse::default();
        for said in lost.flat_map(|batch| &batch.said) {
            self.add(&mut excuse, said);
        }
        excuse
    }

    /// Where what was hit begins: a batch, or blocks without one.
    fn start_of(&self, hit: &Hit) -> Position {
        let batch = self.batches.iter().find(|b| hit.covers(b.at, b.bytes));
        batch.map_or(
            Position {
                segment: hit.segment,
                offset: hit.bytes.start / BLOCK_BYTES as u64 * BLOCK_BYTES as u64,
            },
            |batch| batch.at,
        )
    }

    fn add(&self, excuse: &mut Excuse, said: &Said) {
        match said {
            Said::Account(address) => {
                excuse.accounts.insert(address.clone());
            }
            Said::Key(key) => {
                excuse.keys.insert(key.clone());
            }
            Said::Append(address, _, body) => {
                let id = self.number_of(*body);
                excuse.copies.extend(id.map(|id| (address.clone(), id)));
            }
            Said::Expunge(address, uids) => {
                for (to, uid, body) in self.appends() {
                    if to == address && uids.contains(&uid) {
                        let id = self.number_of(body);
                        excuse.copies.extend(id.map(|id| (to.clone(), id)));
                    }
                }
            }
            Said::Body(seq) => {
                for (to, _, body) in self.appends() {
                    let names = |chunks: &[Sequence]| chunks.contains(seq);
                    let entry = self.bodies.get(&body);
                    if body == *seq || entry.is_some_and(|(chunks, ..)| names(chunks)) {
                        let id = self.number_of(body);
                        excuse.copies.extend(id.map(|id| (to.clone(), id)));
                    }
                }
            }
        }
    }
}

/// A place of some file to rot, and how.
pub struct Rot {
    path: PathBuf,
    offset: u64,
    /// Which bit; `None`: the whole sector is gone.
    bit: Option<u8>,
}

impl Rot {
    /// Draws one; `None` when there is nothing to be hit. `is_first`: it may be at the end of the
    /// log. (Two there at once can take the last messages and the record by which an earlier start
    /// moved the UIDs on, and nothing is left that tells of either.)
    pub fn draw(disk: &SimDisk, random: &mut Random, is_first: bool) -> Option<Rot> {
        let mut files = disk.files();
        let is = |(path, _): &(PathBuf, u64), end| path.extension().is_some_and(|e| e == end);
        // What lies behind the last written byte is of no interest to anybody, mostly.
        let used = |path: &Path| {
            let bytes = disk.contents(path).unwrap_or_default();
            let last = bytes.iter().rposition(|byte| *byte != 0);
            last.map_or(0, |last| last + 1)
        };
        let mut at_end = false;
        match random.below(6) {
            // There are few indexes among the segments, and making one again goes through all.
            0 | 1 if files.iter().any(|file| is(file, "idx")) => {
                files.retain(|file| is(file, "idx"));
            }
            // At the end of the log nothing that follows tells whether it was complete.
            2 | 3 if is_first => {
                files.retain(|file| is(file, "seg") && used(&file.0) > BLOCK_BYTES);
                files.drain(..files.len().saturating_sub(1));
                at_end = true;
            }
            _ => {}
        }
        let (path, bytes) = files.get(random.index(files.len()))?.clone();
        let used = used(&path) as u64;
        let within = if random.one_in(8) { bytes } else { used };
        let mut offset = random.below(within);
        if at_end {
            offset = used.saturating_sub(1 + random.below(2 * BLOCK_BYTES as u64));
        }
        if random.one_in(3) {
            // Headers say most in the fewest bytes.
            offset = offset / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
            offset += random.below(batch::HEADER_BYTES as u64);
        }
        (within > 0).then(|| Rot {
            path,
            offset,
            bit: (!random.one_in(4)).then(|| random.below(8) as u8),
        })
    }

    /// What it hits in a partition.
    pub fn hit(&self, dir: &Path) -> Option<Hit> {
        // The store reads and gives up whole blocks.
        let unit = match self.bit {
            Some(_) => 1,
            None => BLOCK_BYTES as u64,
        };
        let start = self.offset / unit * unit;
        Hit::new(dir, &self.path, start..start + unit)
    }

    /// Lets it happen.
    pub fn apply(&self, disk: &SimDisk) {
        match self.bit {
            Some(bit) => disk.flip_bit(&self.path, self.offset, bit),
            None => disk.spoil_sector(&self.path, self.offset),
        }
    }
}
