//! Writes again what may not be durable, and makes the result the log.

use super::replay::{Replay, What};
use super::*;
use crate::limits::{ADDRESS_BYTES_MAX, BATCH_BYTES_MAX, MAILBOXES_MAX};
use crate::mail::Address;
use crate::store::batch::{self, Head};
use crate::store::compact::is_full;
use crate::store::mutate::SMALL_BYTES;
use crate::store::partition::Prepared;
use crate::store::record::{Reserved, encode};
use crate::store::segment::Segment;
use crate::store::spare::Spare;
use crate::store::{Uid, validity_at, with_own_validity};

/// UIDs skipped when messages that clients may have seen are lost.
const UID_JUMP: Uid = 1 << 16;
/// And when what is lost was known to be there: more, as it may be the record of such a jump.
const UID_JUMP_ROTTEN: Uid = 1 << 20;
/// Bytes of reserve records in one batch, beside those of one account more.
const RESERVE_BATCH_BYTES: usize = 1024 * 1024;
const _: () = assert!(
    RESERVE_BATCH_BYTES + MAILBOXES_MAX * (ADDRESS_BYTES_MAX + SMALL_BYTES) < BATCH_BYTES_MAX
);

impl<D: Disk> Recovery<'_, D> {
    /// Writes what waits into a fresh segment and makes that, and a new manifest, the log.
    pub(super) async fn finish(
        &mut self,
        manifest: Manifest,
        mut files: Files,
        mut replay: Replay,
    ) -> Result<Recovered<D::File>, OpenError> {
        let last = files.segments.keys().next_back().copied();
        let tail = self.tail(&mut replay).await;
        replay.lost |= files.has_remains;
        let clean = replay.ended == last && !replay.lost;
        // Not where the tail begins: what is broken before it is not part of the log any more, and
        // a segment of which nothing stays must not be the one that is named.
        let cut = replay.end;
        let batch_epochs = replay.epochs.values().copied();
        let headers = files.segments.values().filter_map(|file| file.header);
        let epochs = batch_epochs.chain(headers.map(|header| header.epoch));
        let epoch = epochs.max().unwrap_or(0).max(manifest.epoch) + 1;
        let generation = files.generation_max + 1;
        let mut fresh = Fresh {
            identity: self.identity,
            generation,
            epoch,
            durable: cut,
            offset: BLOCK_BYTES as u64,
        };
        self.remove(std::mem::take(&mut files.spare)).await;
        let path = self.dir.join(UNFINISHED);
        let tail_bytes: u64 = tail.iter().map(|waiting| waiting.bytes.len() as u64).sum();
        let file = self.make_fresh(&path, &mut files, tail_bytes).await;
        let failed = |error| io_error(&path)(say_how_much(error, tail_bytes));
        let file = file.map_err(failed)?;
        for waiting in tail {
            if let What::Batch { head, .. } = waiting.what {
                let mut bytes = waiting.bytes;
                bytes.truncate(head.len as usize);
                self.report.rewritten_bytes += u64::from(head.len);
                let written = self.rewrite(&file, &mut fresh, bytes, head, &mut replay);
                written.await.map_err(failed)?;
            }
        }
        let mut seq_next = replay.seq_max + 1;
        if !clean {
            // Lives of which no record is left have skipped numbers, too, and used some behind.
            let lives = epoch.saturating_sub(replay.seq_epoch).max(1);
            seq_next = seq_next.saturating_add(SEQUENCE_JUMP.saturating_mul(lives));
            if replay.rotten {
                seq_next = seq_next.saturating_add(SEQUENCE_JUMP_ROTTEN);
            }
        }
        // What was shown without being synced may be gone: UIDs where messages are not synced, else
        // changes of flags and mailboxes only, whose MODSEQs clients have seen.
        let sync = &self.settings.sync;
        let unsynced = sync.message == SyncLevel::None && !clean;
        let unsynced_changes = sync.store == SyncLevel::None && !clean;
        if unsynced || unsynced_changes || replay.lost {
            let jump = match replay.rotten {
                _ if unsynced => None,
                true => Some(UID_JUMP_ROTTEN),
                false if replay.lost => Some(UID_JUMP),
                false => Some(0),
            };
            let mut reserves = Reserves::new(&replay.index, jump);
            while let Some((bytes, head)) = reserves.next(&replay.index, &mut seq_next) {
                let written = self.rewrite(&file, &mut fresh, bytes, head, &mut replay);
                written.await.map_err(failed)?;
            }
        }
        let header = Header {
            generation,
            epoch,
            previous: cut,
            durable: cut,
            seq_next,
        };
        let block = segment::encode_header(&header, self.identity).to_vec();
        let (result, _) = self.disk.write_at(&file, 0, block, SyncLevel::Fsync).await;
        result.map_err(failed)?;
        let named = segment::file_path(self.dir, generation);
        self.disk
            .rename(&path, &named)
            .await
            .map_err(io_error(&named))?;
        self.disk
            .sync_dir(self.dir)
            .await
            .map_err(io_error(self.dir))?;
        self.hand_over(manifest, files, replay, fresh, (file, seq_next, clean))
            .await
    }

    /// The file that a start goes on in, with space for what it writes and for deletes after it.
    async fn make_fresh(
        &self,
        path: &Path,
        files: &mut Files,
        tail_bytes: u64,
    ) -> io::Result<D::File> {
        let least = BLOCK_BYTES as u64 + tail_bytes + FIRST_BYTES_MIN;
        let wanted = FIRST_BYTES.min(self.settings.segment_bytes).max(least);
        match self.allocate_fresh(path, wanted).await {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            other => return other,
        }
        if !files.recyclable.is_empty() {
            self.remove(std::mem::take(&mut files.recyclable)).await;
            match self.allocate_fresh(path, wanted).await {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
                other => return other,
            }
        }
        // What segments had prepared and did not come to use: that of the last one is enough for a
        // start, and the next start can do the same with what this one prepares.
        for generation in files.segments.keys() {
            let path = segment::file_path(self.dir, *generation);
            if let Err(error) = self.release_tail(&path).await {
                let path = path.display();
                tracing::warn!("{path}: unused space could not be given back: {error}");
            }
        }
        let free = self.disk.free_bytes(self.dir).await?;
        let mut bytes = wanted.min(free) / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        while bytes >= least {
            match self.allocate_fresh(path, bytes).await {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
                other => return other,
            }
            // The filesystem needs some for itself.
            bytes -= (bytes / 8).next_multiple_of(BLOCK_BYTES as u64);
        }
        if !files.has_reserve {
            // What it writes may be little enough.
            return self.disk.open(path, OpenMode::CreateLog).await;
        }
        files.has_reserve = false;
        self.disk.rename(&self.dir.join(RESERVE), path).await?;
        self.disk.open(path, OpenMode::Log).await
    }

    /// Makes the file with so many bytes of space; leaves nothing when it fails.
    async fn allocate_fresh(&self, path: &Path, bytes: u64) -> io::Result<D::File> {
        let file = self.disk.open(path, OpenMode::CreateLog).await?;
        // What is written at once need not be zeros before.
        let zeroes = bytes <= FIRST_BYTES;
        match self.disk.allocate(&file, bytes, zeroes).await {
            Ok(()) => Ok(file),
            Err(error) => {
                drop(file);
                self.disk.remove(path).await?;
                Err(error)
            }
        }
    }

    /// Gives back the space behind the last byte of a segment that is not zero.
    async fn release_tail(&self, path: &Path) -> io::Result<()> {
        let file = self.disk.open(path, OpenMode::ReadWrite).await?;
        let bytes = self.disk.len(&file).await?;
        let mut end = bytes;
        while end > 0 {
            let from = end.saturating_sub(FIRST_BYTES);
            let piece = self
                .disk
                .read_at(&file, from, (end - from) as usize)
                .await?;
            if let Some(last) = piece.iter().rposition(|byte| *byte != 0) {
                end = from + last as u64 + 1;
                break;
            }
            end = from;
        }
        let end = end.next_multiple_of(BLOCK_BYTES as u64);
        if end < bytes {
            self.disk.release(&file, end).await?;
        }
        Ok(())
    }

    /// Writes a batch into the fresh segment, unsynced, and takes its records in.
    async fn rewrite(
        &self,
        file: &D::File,
        fresh: &mut Fresh,
        mut bytes: Vec<u8>,
        head: Head,
        replay: &mut Replay,
    ) -> io::Result<()> {
        let position = Position {
            segment: fresh.generation,
            offset: fresh.offset,
        };
        let head = Head {
            len: bytes.len() as u32,
            epoch: fresh.epoch,
            durable: fresh.durable,
            ..head
        };
        let realm = segment::realm(fresh.identity, fresh.generation, fresh.epoch);
        batch::seal(&mut bytes, &head, realm);
        fresh.offset += bytes.len() as u64;
        let level = SyncLevel::None;
        let (result, bytes) = self
            .disk
            .write_at(file, position.offset, bytes, level)
            .await;
        result?;
        replay.apply(position, &bytes, head, realm);
        Ok(())
    }

    async fn hand_over(
        &mut self,
        manifest: Manifest,
        mut files: Files,
        replay: Replay,
        fresh: Fresh,
        (file, seq_next, clean): (D::File, Sequence, bool),
    ) -> Result<Recovered<D::File>, OpenError> {
        let cut = fresh.durable;
        let dropped: Vec<u64> = files
            .segments
            .range(cut.segment + 1..)
            .map(|(generation, _)| *generation)
            .collect();
        for generation in dropped {
            files.segments.remove(&generation);
            files.dead.push(segment::file_path(self.dir, generation));
        }
        let mut segments = BTreeMap::new();
        for (generation, found) in &files.segments {
            let segment = Segment {
                generation: *generation,
                epoch: found.epoch,
                bytes: found.bytes,
                file: None,
                end: match found.end {
                    _ if *generation == cut.segment => cut.offset,
                    Some(end) => end,
                    None => found.bytes,
                },
            };
            segments.insert(*generation, segment);
        }
        let bytes = self.disk.len(&file).await.unwrap_or(fresh.offset);
        let active = Segment {
            generation: fresh.generation,
            epoch: fresh.epoch,
            bytes,
            file: Some(Rc::new(file)),
            end: fresh.offset,
        };
        segments.insert(fresh.generation, active);
        let manifest = Manifest {
            serial: manifest.serial + 1,
            epoch: fresh.epoch,
            index: files.indexes.first().copied().unwrap_or(0),
            as_of: fresh.generation,
            closed: false,
            live: segments.keys().copied().collect(),
            ends: segments
                .range(..fresh.generation)
                .map(|(generation, segment)| (*generation, segment.end))
                .collect(),
            ..manifest
        };
        let path = self.dir.join(manifest::FILE_NAME);
        write_manifest(self.disk, self.dir, self.identity, &manifest)
            .await
            .map_err(io_error(&path))?;
        self.remove(files.dead).await;
        for reason in replay.unreadable_records {
            self.damage(self.dir.to_owned(), 0, 0, reason, true);
        }
        // Streams end with the process: what nothing has named, nothing will.
        let mut index = replay.index;
        index.release_unnamed(seq_next);
        self.report.clean = clean;
        self.report.messages = index.messages();
        let log = Log {
            segments,
            active: fresh.generation,
            durable: Position {
                segment: fresh.generation,
                offset: fresh.offset,
            },
            dirty: Vec::new(),
            next: None,
            preparing: None,
            reserve: self.open_reserve(files.has_reserve).await,
            spares: files.recyclable.into_iter().map(Spare::found).collect(),
        };
        Ok(Recovered {
            index,
            log,
            manifest,
            seq_next,
            covered: replay.from,
            untold: Vec::new(),
        })
    }

    async fn open_reserve(&self, exists: bool) -> Option<Prepared<D::File>> {
        let path = self.dir.join(RESERVE);
        if !exists {
            return None;
        }
        // One that cannot be opened is made again by the background.
        let file = self.disk.open(&path, OpenMode::Log).await.ok()?;
        let bytes = self.disk.len(&file).await.ok()?;
        Some(Prepared {
            path,
            file: Rc::new(file),
            bytes,
        })
    }

    /// Removes files that are not part of the partition; what stays is found again next time.
    async fn remove(&self, paths: Vec<PathBuf>) {
        for path in paths {
            if let Err(error) = self.disk.remove(&path).await {
                tracing::warn!("{}: cannot be removed: {error}", path.display());
            }
        }
    }
}

/// A start on a full disk needs a little space, and whoever has to make it wants to know how much.
fn say_how_much(error: io::Error, tail_bytes: u64) -> io::Error {
    if !is_full(&error) {
        return error;
    }
    let kibibytes = (BLOCK_BYTES as u64 + tail_bytes + FIRST_BYTES_MIN).div_ceil(1024);
    let kind = error.kind();
    let text = format!("{error}: a start needs {kibibytes} KiB here; make room for it");
    io::Error::new(kind, text)
}

/// The segment that recovery writes.
struct Fresh {
    identity: Identity,
    generation: u64,
    epoch: u64,
    durable: Position,
    offset: u64,
}

/// Batches that move the numbers of every mailbox on, one after the other: of many accounts all at
/// once would take as much memory as the index.
struct Reserves {
    addresses: std::vec::IntoIter<Address>,
    /// UIDs to be skipped; `None`: every mailbox gets another UIDVALIDITY.
    jump: Option<Uid>,
}

impl Reserves {
    fn new(index: &Index, jump: Option<Uid>) -> Reserves {
        let mut addresses: Vec<Address> = Vec::new();
        index.for_each_account(&mut |account| addresses.push(account.address.clone()));
        addresses.sort_unstable();
        Reserves {
            addresses: addresses.into_iter(),
            jump,
        }
    }

    /// The next batch, with all mailboxes of some accounts; `None`: that was the last one.
    fn next(&mut self, index: &Index, seq_next: &mut Sequence) -> Option<(Vec<u8>, Head)> {
        let mut bytes = Vec::new();
        batch::begin(&mut bytes);
        let mut head = Head {
            len: 0,
            records: 0,
            epoch: 0,
            first_seq: *seq_next,
            durable: Position::default(),
            level: SyncLevel::Fsync,
        };
        while bytes.len() < RESERVE_BATCH_BYTES {
            let Some(address) = self.addresses.next() else {
                break;
            };
            for mailbox in index.mailbox_ids(&address) {
                let Some(known) = index.reserved(&address, mailbox) else {
                    continue;
                };
                let (seq, reserved) = moved_on(known, self.jump, *seq_next);
                *seq_next = seq + 1;
                if head.records == 0 {
                    head.first_seq = seq;
                }
                encode::reserve(&mut bytes, seq, address.as_str(), mailbox, &reserved);
                head.records += 1;
            }
        }
        (head.records > 0).then_some((bytes, head))
    }
}

/// The number of a record, `seq_next` or a later one, that moves the numbers of a mailbox on, and those
/// numbers.
pub(super) fn moved_on(
    known: Reserved,
    jump: Option<Uid>,
    seq_next: Sequence,
) -> (Sequence, Reserved) {
    let next = jump.and_then(|jump| known.uid_next.checked_add(jump));
    let (seq, uid_next, validity) = match next {
        Some(uid_next) => (seq_next, uid_next, known.validity),
        // Also where so many UIDs are not left: what is lost had them under another UIDVALIDITY.
        None => {
            let seq = with_own_validity(seq_next);
            (seq, known.uid_next, validity_at(seq))
        }
    };
    // Whoever saw a change that is lost asks for what came after it: that is this one.
    let reserved = Reserved {
        uid_next,
        validity,
        modseq: seq,
        changed_floor: seq,
    };
    (seq, reserved)
}
