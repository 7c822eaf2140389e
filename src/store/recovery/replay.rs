//! Replays the log, and writes again what may not be durable.

use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;

use super::scan::{self, Stretch};
use super::*;
use crate::mail::Address;
use crate::store::batch::{self, Head};
use crate::store::change::apply_record;
use crate::store::index::Location;
use crate::store::partition::Prepared;
use crate::store::record::{Kind, Realm, encode};
use crate::store::segment::Segment;
use crate::store::{Uid, UidValidity};

/// UIDs skipped when messages that clients may have seen are lost.
const UID_JUMP: Uid = 1 << 16;
/// Bytes of reserve records in one batch.
const RESERVE_BATCH_BYTES: usize = 1024 * 1024;

/// A stretch that is not known to be durable yet.
struct Waiting {
    position: Position,
    bytes: Vec<u8>,
    what: What,
}

enum What {
    Batch {
        head: Head,
        realm: Realm,
    },
    Broken {
        head: Head,
        realm: Realm,
        reason: String,
    },
    Gap {
        reason: String,
    },
}

/// The state of a replay.
pub(super) struct Replay {
    index: Index,
    from: Position,
    seq_max: Sequence,
    /// The last place that anything calls durable.
    durable: Position,
    waiting: VecDeque<Waiting>,
    /// End of the last stretch that is durable.
    end: Position,
    /// Epochs of the segments that were read.
    epochs: BTreeMap<u64, u64>,
    /// The last batch is an end mark, in this segment.
    ended: Option<u64>,
    /// Acknowledged bytes are damaged.
    lost: bool,
    unreadable_records: Vec<String>,
}

impl Replay {
    pub fn new(index: Index, covers: Sequence, from: Position) -> Replay {
        Replay {
            index,
            from,
            seq_max: covers,
            durable: from,
            waiting: VecDeque::new(),
            end: from,
            epochs: BTreeMap::new(),
            ended: None,
            lost: false,
            unreadable_records: Vec::new(),
        }
    }

    /// Takes in the records of a batch, sound as far as `whole` says.
    fn apply(&mut self, position: Position, bytes: &[u8], head: Head, realm: Realm, whole: bool) {
        let mut visit = |offset: usize, record: &crate::store::record::Record<'_>| {
            self.seq_max = self.seq_max.max(record.seq);
            let at = Location {
                segment: position.segment,
                offset: (position.offset + offset as u64) as u32,
                bytes: record.disk_bytes as u32,
            };
            if let Err(reason) = apply_record(&mut self.index, record, at) {
                self.unreadable_records.push(reason);
            }
        };
        if whole {
            for (offset, record) in batch::records(bytes, head, realm).flatten() {
                visit(offset, &record);
            }
        } else {
            for (offset, record) in scan::salvage(bytes, head, realm) {
                visit(offset, &record);
            }
        }
    }
}

/// It is the mark of a clean stop.
fn is_end(bytes: &[u8], head: Head, realm: Realm) -> bool {
    let mut records = batch::records(bytes, head, realm);
    matches!((records.next(), records.next()), (Some(Ok((_, record))), None) if record.kind == Kind::End)
}

impl<D: Disk> Recovery<'_, D> {
    /// Reads the log behind what the index covers.
    pub(super) async fn replay(
        &mut self,
        files: &mut Files,
        replay: &mut Replay,
    ) -> Result<(), OpenError> {
        let from = replay.from;
        let todo: Vec<(u64, u64, Option<u64>, Option<Header>)> = files
            .segments
            .range(from.segment..)
            .map(|(generation, file)| (*generation, file.bytes, file.end, file.header))
            .collect();
        let length = |bytes: u64, end: Option<u64>| end.map_or(bytes, |end| end.min(bytes));
        let total_bytes = todo
            .iter()
            .map(|(_, bytes, end, _)| length(*bytes, *end))
            .sum();
        let mut done_bytes = 0;
        for (generation, file_bytes, end, header) in todo {
            (self.progress)(Progress {
                done_bytes,
                total_bytes,
            });
            let path = segment::file_path(self.dir, generation);
            let file = self.disk.open(&path, OpenMode::Read).await;
            let file = file.map_err(io_error(&path))?;
            let read = scan::read_file(self.disk, &file, end.unwrap_or(u64::MAX)).await;
            let (bytes, unreadable) = read.map_err(io_error(&path))?;
            if unreadable > 0 {
                tracing::error!("{}: {unreadable} bytes cannot be read", path.display());
            }
            self.replay_segment(generation, header, end, &bytes, replay);
            self.flush(replay).await;
            done_bytes += length(file_bytes, end);
            self.report.replayed_bytes += bytes.len() as u64;
        }
        (self.progress)(Progress {
            done_bytes: total_bytes,
            total_bytes,
        });
        Ok(())
    }

    fn replay_segment(
        &mut self,
        generation: u64,
        header: Option<Header>,
        end: Option<u64>,
        bytes: &[u8],
        replay: &mut Replay,
    ) {
        let block = BLOCK_BYTES as u64;
        let mut from = block;
        if replay.from.segment == generation {
            from = replay.from.offset.max(block);
        }
        match header {
            Some(header) => {
                replay.durable = replay.durable.max(header.durable);
                replay.epochs.insert(generation, header.epoch);
            }
            None => replay.waiting.push_back(Waiting {
                position: Position {
                    segment: generation,
                    offset: 0,
                },
                bytes: bytes[..bytes.len().min(BLOCK_BYTES)].to_vec(),
                what: What::Gap {
                    reason: "the header of the segment does not match its checksum".to_owned(),
                },
            }),
        }
        replay.ended = None;
        for (position, stretch) in scan::stretches(bytes, from as usize, self.identity, generation)
        {
            let what = match &stretch {
                Stretch::Batch { head, realm, .. } => What::Batch {
                    head: *head,
                    realm: *realm,
                },
                Stretch::Broken {
                    head, realm, error, ..
                } => What::Broken {
                    head: *head,
                    realm: *realm,
                    reason: error.to_string(),
                },
                Stretch::Gap { .. } => What::Gap {
                    reason: "no batch where one should be".to_owned(),
                },
            };
            let bytes = stretch.bytes();
            if let What::Batch { head, realm } | What::Broken { head, realm, .. } = &what {
                replay.durable = replay.durable.max(head.durable);
                replay.epochs.entry(generation).or_insert(head.epoch);
                let ended = matches!(what, What::Batch { .. }) && is_end(bytes, *head, *realm);
                replay.ended = ended.then_some(generation);
            }
            replay.waiting.push_back(Waiting {
                position,
                bytes: bytes.to_vec(),
                what,
            });
        }
        if let Some(end) = end
            && end > (bytes.len() as u64).max(from)
        {
            let position = Position {
                segment: generation,
                offset: bytes.len() as u64,
            };
            replay.waiting.push_back(Waiting {
                position,
                bytes: Vec::new(),
                what: What::Gap {
                    reason: format!("the file ends here, its log at {end}"),
                },
            });
        }
    }

    /// Takes in everything below what is known durable by now.
    async fn flush(&mut self, replay: &mut Replay) {
        while let Some(next) = replay.waiting.front()
            && next.position < replay.durable
            && let Some(next) = replay.waiting.pop_front()
        {
            let position = next.position;
            // The zeros behind a log's end are one stretch, of which only the front is claimed.
            let mut length = next.bytes.len() as u64;
            let is_gap = matches!(next.what, What::Gap { .. });
            if is_gap && position.segment == replay.durable.segment {
                length = length.min(replay.durable.offset - position.offset);
            }
            let end = position.offset + length;
            let reached = Position {
                segment: position.segment,
                offset: end.max(BLOCK_BYTES as u64),
            };
            // A header lies before what an index covers of its segment.
            replay.end = replay.end.max(reached);
            match next.what {
                What::Batch { head, realm } => {
                    replay.apply(position, &next.bytes, head, realm, true);
                }
                What::Broken {
                    head,
                    realm,
                    reason,
                } => {
                    replay.apply(position, &next.bytes, head, realm, false);
                    replay.lost = true;
                    self.set_aside(position, &next.bytes, reason, true).await;
                }
                What::Gap { reason } => {
                    replay.lost = true;
                    let bytes = &next.bytes[..length as usize];
                    self.set_aside(position, bytes, reason, true).await;
                }
            }
        }
    }

    /// Copies damaged bytes to a file of their own and reports them.
    async fn set_aside(
        &mut self,
        position: Position,
        bytes: &[u8],
        reason: String,
        acknowledged: bool,
    ) {
        let saved_to = match self.save(position, bytes).await {
            Ok(path) => Some(path),
            Err(error) => {
                let dir = self.dir.display();
                tracing::error!("{dir}: damaged bytes could not be copied aside: {error}");
                None
            }
        };
        self.report.damage.push(Damage {
            file: segment::file_path(self.dir, position.segment),
            offset: position.offset,
            bytes: bytes.len() as u64,
            saved_to,
            reason,
            acknowledged,
        });
    }

    async fn save(&self, position: Position, bytes: &[u8]) -> io::Result<PathBuf> {
        let dir = self.dir.join("damaged");
        match self.disk.create_dir(&dir).await {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let name = format!("{:020}-{:010}.bin", position.segment, position.offset);
        let path = dir.join(name);
        let file = match self.disk.open(&path, OpenMode::CreateNew).await {
            // Of an earlier attempt to recover the same.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.open(&path, OpenMode::ReadWrite).await?
            }
            other => other?,
        };
        let level = SyncLevel::Fsync;
        let (result, _) = self.disk.write_at(&file, 0, bytes.to_vec(), level).await;
        result?;
        self.disk.sync_dir(&dir).await?;
        Ok(path)
    }

    /// Writes what waits into a fresh segment and makes that, and a new manifest, the log.
    pub(super) async fn finish(
        &mut self,
        manifest: Manifest,
        mut files: Files,
        mut replay: Replay,
    ) -> Result<Recovered<D::File>, OpenError> {
        let last = files.segments.keys().next_back().copied();
        let tail = self.tail(&mut replay).await;
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
        let file = self.make_fresh(&path, &mut files).await;
        let file = file.map_err(io_error(&path))?;
        for waiting in tail {
            if let What::Batch { head, .. } = waiting.what {
                let mut bytes = waiting.bytes;
                bytes.truncate(head.len as usize);
                self.report.rewritten_bytes += u64::from(head.len);
                let written = self.rewrite(&file, &mut fresh, bytes, head, &mut replay);
                written.await.map_err(io_error(&path))?;
            }
        }
        let mut seq_next = replay.seq_max + 1;
        if !clean {
            seq_next += SEQUENCE_JUMP;
        }
        let unsynced = self.settings.sync.message == SyncLevel::None && !clean;
        if unsynced || replay.lost {
            let reserves = reserves(&replay.index, unsynced, &mut seq_next);
            for (bytes, head) in reserves {
                let written = self.rewrite(&file, &mut fresh, bytes, head, &mut replay);
                written.await.map_err(io_error(&path))?;
            }
        }
        let header = Header {
            generation,
            epoch,
            previous: cut,
            durable: cut,
        };
        let block = segment::encode_header(&header, self.identity).to_vec();
        let (result, _) = self.disk.write_at(&file, 0, block, SyncLevel::Fsync).await;
        result.map_err(io_error(&path))?;
        let named = segment::file_path(self.dir, generation);
        self.disk
            .rename(&path, &named)
            .await
            .map_err(io_error(&named))?;
        self.disk
            .sync_dir(self.dir)
            .await
            .map_err(io_error(self.dir))?;
        self.hand_over(manifest, files, replay, fresh, file, cut, seq_next, clean)
            .await
    }

    /// The batches that wait, up to the first that is not sound; reports the rest. What comes behind
    /// that one was never acknowledged at a level, as its own sync would have made all before it
    /// durable, and may build on what is lost.
    async fn tail(&mut self, replay: &mut Replay) -> Vec<Waiting> {
        let mut tail = Vec::new();
        let waiting = std::mem::take(&mut replay.waiting);
        let last_batch = waiting
            .iter()
            .rposition(|waiting| !matches!(waiting.what, What::Gap { .. }));
        let mut is_cut = false;
        for (index, waiting) in waiting.into_iter().enumerate() {
            let position = waiting.position;
            match &waiting.what {
                What::Batch { head, realm } => {
                    let (head, realm) = (*head, *realm);
                    let seq_last = head.first_seq + u64::from(head.records);
                    replay.seq_max = replay.seq_max.max(seq_last);
                    if is_end(&waiting.bytes, head, realm) {
                        continue;
                    }
                    if is_cut {
                        let reason = "unfinished write: what came before it is lost".to_owned();
                        self.set_aside(position, &waiting.bytes, reason, false)
                            .await;
                    } else if let Err(error) = batch::verify(&waiting.bytes, head, realm, true) {
                        is_cut = true;
                        let reason = format!("unfinished write: {error}");
                        self.set_aside(position, &waiting.bytes, reason, false)
                            .await;
                    } else {
                        tail.push(waiting);
                    }
                }
                What::Broken { reason, .. } => {
                    is_cut = true;
                    let reason = format!("unfinished write: {reason}");
                    self.set_aside(position, &waiting.bytes, reason, false)
                        .await;
                }
                // Behind the last batch a prepared segment holds zeros; anything else was to be one.
                What::Gap { reason } => {
                    let used = waiting.bytes.iter().rposition(|byte| *byte != 0);
                    if used.is_none() && last_batch.is_none_or(|last| index > last) {
                        continue;
                    }
                    is_cut = true;
                    let reason = format!("unfinished write: {reason}");
                    let bytes = &waiting.bytes[..used.map_or(0, |last| last + 1)];
                    self.set_aside(position, bytes, reason, false).await;
                }
            }
        }
        // Torn before anybody heard of it, or acknowledged and rotten since: nobody can tell, so
        // the UIDs in it are not given again.
        replay.lost |= is_cut;
        tail
    }

    async fn make_fresh(&self, path: &Path, files: &mut Files) -> io::Result<D::File> {
        match self.disk.open(path, OpenMode::CreateNew).await {
            Ok(file) => {
                let bytes = FIRST_BYTES.min(self.settings.segment_bytes);
                match self.disk.allocate(&file, bytes, true).await {
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                        // The reserve has the space that is needed to start at all.
                        if !files.has_reserve {
                            return Ok(file);
                        }
                        drop(file);
                        self.disk.remove(path).await?;
                    }
                    Err(error) => return Err(error),
                    Ok(()) => return Ok(file),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull && files.has_reserve => {}
            Err(error) => return Err(error),
        }
        files.has_reserve = false;
        self.disk.rename(&self.dir.join(RESERVE), path).await?;
        self.disk.open(path, OpenMode::ReadWrite).await
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
        replay.apply(position, &bytes, head, realm, true);
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the end of one long function")]
    async fn hand_over(
        &mut self,
        manifest: Manifest,
        mut files: Files,
        replay: Replay,
        fresh: Fresh,
        file: D::File,
        cut: Position,
        seq_next: Sequence,
        clean: bool,
    ) -> Result<Recovered<D::File>, OpenError> {
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
                end: found.end.unwrap_or(found.bytes),
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
            live: segments.keys().copied().collect(),
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
        };
        Ok(Recovered {
            index,
            log,
            manifest,
            seq_next,
            covered: replay.from,
        })
    }

    async fn open_reserve(&self, exists: bool) -> Option<Prepared<D::File>> {
        let path = self.dir.join(RESERVE);
        if !exists {
            return None;
        }
        // One that cannot be opened is made again by the background.
        let file = self.disk.open(&path, OpenMode::ReadWrite).await.ok()?;
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

/// The segment that recovery writes.
struct Fresh {
    identity: Identity,
    generation: u64,
    epoch: u64,
    durable: Position,
    offset: u64,
}

/// Batches that move the next UID of every INBOX on, or give it another UIDVALIDITY.
fn reserves(index: &Index, new_validity: bool, seq_next: &mut Sequence) -> Vec<(Vec<u8>, Head)> {
    let mut addresses: Vec<Address> = Vec::new();
    index.for_each_account(&mut |account| addresses.push(account.address.clone()));
    addresses.sort_unstable();
    let mut batches = Vec::new();
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
    for address in &addresses {
        let Some((validity, uid_next, _)) = index.inbox_state(address) else {
            continue;
        };
        let seq = *seq_next;
        *seq_next += 1;
        let (uid_next, validity) = if new_validity {
            (
                uid_next,
                (seq as UidValidity).max(validity.wrapping_add(1)).max(1),
            )
        } else {
            (uid_next.saturating_add(UID_JUMP), validity)
        };
        encode::reserve(&mut bytes, seq, address.as_str(), uid_next, validity);
        head.records += 1;
        if bytes.len() > RESERVE_BATCH_BYTES {
            batches.push((std::mem::take(&mut bytes), head));
            batch::begin(&mut bytes);
            head.records = 0;
            head.first_seq = *seq_next;
        }
    }
    if head.records > 0 {
        batches.push((bytes, head));
    }
    batches
}
