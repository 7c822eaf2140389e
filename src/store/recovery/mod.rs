//! Makes a partition out of what a stop has left.
//!
//! 1. The manifest (or, when it is damaged, the segments' own headers) says which files count.
//! 2. The index file gives a state and the position in the log that it covers; without one, the
//!    log is read from its start.
//! 3. The log is replayed from there. A stretch that cannot be read is *damage*: corruption when a
//!    later batch, header or index calls its place durable, else the unfinished last write. Either
//!    is copied to `damaged/` and reported, if need be by a later start (`aside`); reading goes on at
//!    the next sound batch.
//! 4. Sound batches behind the last place known durable may be in the page cache only. They are
//!    written again, into a fresh segment, and synced, before anything is served.
//! 5. The fresh segment gets its name last, by a rename; its header says where the log before it
//!    ends. The next manifest follows. What is not part of the log any more is removed.
//!
//! Guarantees: a crash at any point leaves what was there before, or the result.
//! Does not know: clients. Nothing is served before it is done.

pub(super) mod aside;
mod replay;
mod rewrite;
pub(super) mod scan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::commit::{BATCH_NUMBERS_MAX, UNSYNCED_NUMBERS_MAX};
use super::disk::{Disk, OpenMode};
use super::index::Index;
use super::manifest::{self, Manifest};
use super::partition::Log;
use super::segment::{self, Found, Header, Position};
use super::spare;
use super::{Damage, Identity, OpenError, Progress, RecoveryReport, Sequence, Settings};
use crate::config::SyncLevel;
use crate::limits::BLOCK_BYTES;
use replay::Replay;

/// Segments are built under this name while recovery is not complete.
const UNFINISHED: &str = "RECOVERING";
/// The segment kept for a full disk.
pub(super) const RESERVE: &str = "RESERVE";
/// The manifest is built under this name.
const MANIFEST_NEW: &str = "MANIFEST.new";
/// Bytes zero-filled ahead in the segment that a start makes: an idle partition takes these, and
/// the prepared segment behind it.
const FIRST_BYTES: u64 = 1024 * 1024;
/// With less space than this, beside what it writes itself, a start takes the reserve: expunges that
/// come after it need some.
const FIRST_BYTES_MIN: u64 = 64 * 1024;
/// Sequence numbers skipped after an unclean stop, more than one life can lose: what it gave without a
/// sync, and a batch behind that. There are enough numbers for some million such starts.
const SEQUENCE_JUMP: u64 = 1 << 26;
const _: () = assert!(UNSYNCED_NUMBERS_MAX + 2 * BATCH_NUMBERS_MAX <= SEQUENCE_JUMP);
/// And when what is lost was known to be there.
const SEQUENCE_JUMP_ROTTEN: u64 = 1 << 36;

/// What recovery hands over.
pub(super) struct Recovered<F> {
    pub index: Index,
    pub log: Log<F>,
    pub manifest: Manifest,
    pub seq_next: Sequence,
    /// What the index file covers.
    pub covered: Position,
    /// Marks of what the report tells of, see [`aside::forget_told`].
    pub untold: Vec<PathBuf>,
}

/// An error with the path it is about.
pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> OpenError + '_ {
    move |source| OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

/// See [`super::Partition::create`].
pub(super) async fn create<D: Disk>(
    disk: &D,
    dir: &Path,
    identity: Identity,
) -> Result<(), OpenError> {
    if let Err(error) = disk.create_dir(dir).await
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(io_error(dir)(error));
    }
    let entries = disk.read_dir(dir).await.map_err(io_error(dir))?;
    for entry in &entries {
        let is_manifest = entry.path.ends_with(manifest::FILE_NAME);
        if is_manifest || segment::parse_path(&entry.path).is_some() {
            return Err(OpenError::Foreign {
                path: entry.path.clone(),
                reason: "there is a partition already".to_owned(),
            });
        }
    }
    let fresh = dir.join(MANIFEST_NEW);
    if entries.iter().any(|entry| entry.path == fresh) {
        disk.remove(&fresh).await.map_err(io_error(&fresh))?;
    }
    let first = Manifest {
        serial: 1,
        ..Manifest::default()
    };
    let file = disk.open(&fresh, OpenMode::CreateNew).await;
    let file = file.map_err(io_error(&fresh))?;
    let (result, _) = disk
        .write_at(
            &file,
            first.slot_offset(),
            first.encode(identity),
            SyncLevel::Fsync,
        )
        .await;
    result.map_err(io_error(&fresh))?;
    let path = dir.join(manifest::FILE_NAME);
    disk.rename(&fresh, &path).await.map_err(io_error(&path))?;
    disk.sync_dir(dir).await.map_err(io_error(dir))
}

/// Writes the next manifest, durably.
pub(super) async fn write_manifest<D: Disk>(
    disk: &D,
    dir: &Path,
    identity: Identity,
    manifest: &Manifest,
) -> io::Result<()> {
    let path = dir.join(manifest::FILE_NAME);
    let (file, is_new) = match disk.open(&path, OpenMode::ReadWrite).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (disk.open(&path, OpenMode::CreateNew).await?, true)
        }
        other => (other?, false),
    };
    let bytes = manifest.encode(identity);
    let (result, _) = disk
        .write_at(&file, manifest.slot_offset(), bytes, SyncLevel::Fsync)
        .await;
    result?;
    if is_new {
        disk.sync_dir(dir).await?;
    }
    Ok(())
}

/// A segment file as found.
#[derive(Debug)]
struct File {
    bytes: u64,
    header: Option<Header>,
    /// The epoch of its batches; 0: there are none.
    epoch: u64,
    /// Where its log ends, when a later header says so.
    end: Option<u64>,
}

/// What is in the directory.
#[derive(Debug, Default)]
struct Files {
    segments: BTreeMap<u64, File>,
    indexes: Vec<u64>,
    /// Never were part of the partition, or the manifest says that they are no longer: removed
    /// first, as space may be short.
    spare: Vec<PathBuf>,
    /// Not part of the log any more: removed once the manifest says so, too.
    dead: Vec<PathBuf>,
    /// Were part of the log and are kept to be so again.
    recyclable: Vec<PathBuf>,
    has_reserve: bool,
    /// A segment had neither header nor batch, and was not empty: what it held, nobody can tell.
    has_remains: bool,
    generation_max: u64,
    /// Segments of the log that are not there; true: that is reported.
    missing: BTreeMap<u64, bool>,
    /// Listed, but with neither header nor batches.
    hollow: BTreeSet<u64>,
}

impl Files {
    /// The header of a later one leaves it out: written by a recovery whose manifest did not
    /// follow.
    fn is_replaced(&self, generation: u64) -> bool {
        self.segments
            .values()
            .filter_map(|file| file.header)
            .any(|header| (header.previous.segment + 1..header.generation).contains(&generation))
    }
}

struct Recovery<'a, D: Disk> {
    disk: &'a D,
    dir: &'a Path,
    identity: Identity,
    settings: &'a Settings,
    progress: &'a dyn Fn(Progress),
    report: RecoveryReport,
    /// Marks of what was set aside.
    untold: Vec<PathBuf>,
}

/// See [`super::Partition::open`].
pub(super) async fn open<D: Disk>(
    disk: &D,
    dir: &Path,
    identity: Identity,
    settings: &Settings,
    progress: &dyn Fn(Progress),
) -> Result<(Recovered<D::File>, RecoveryReport), OpenError> {
    let mut recovery = Recovery {
        disk,
        dir,
        identity,
        settings,
        progress,
        report: RecoveryReport::default(),
        untold: Vec::new(),
    };
    let recovered = recovery.run().await?;
    Ok((recovered, recovery.report))
}

impl<D: Disk> Recovery<'_, D> {
    async fn run(&mut self) -> Result<Recovered<D::File>, OpenError> {
        let manifest = self.read_manifest().await?;
        let mut files = self.list(&manifest).await?;
        let earlier = self.untold_by_earlier().await?;
        let (index, covers, from) = self.open_index(&manifest, &mut files).await?;
        let mut replay = Replay::new(index, covers, from);
        replay.serial = manifest.serial;
        let covered = files.segments.get(&from.segment);
        replay.seq_epoch = covered.map_or(0, |file| file.epoch);
        replay.durable = replay.durable.max(manifest.closed_at().unwrap_or_default());
        self.replay(&mut files, &mut replay).await?;
        let mut recovered = self.finish(manifest, files, replay).await?;
        self.report_earlier(earlier);
        recovered.untold = std::mem::take(&mut self.untold);
        Ok(recovered)
    }

    fn damage(&mut self, file: PathBuf, offset: u64, bytes: u64, reason: String, known: bool) {
        self.report.damage.push(Damage {
            file,
            offset,
            bytes,
            saved_to: None,
            reason,
            acknowledged: known,
        });
    }

    async fn read_manifest(&mut self) -> Result<Manifest, OpenError> {
        let path = self.dir.join(manifest::FILE_NAME);
        let bytes = match self.disk.open(&path, OpenMode::Read).await {
            Ok(file) => {
                // Of two slots one may be unreadable, and the other is enough.
                let length = 2 * manifest::SLOT_BYTES as u64;
                let read = scan::read_file(self.disk, &file, length).await;
                read.map_err(io_error(&path))?.bytes
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(io_error(&path)(error)),
        };
        match manifest::decode(&bytes, self.identity) {
            manifest::Found::Manifest(manifest) => Ok(manifest),
            manifest::Found::Newer(found) => Err(OpenError::Newer {
                path,
                found,
                known: manifest::FORMAT,
            }),
            manifest::Found::Foreign(other) => Err(foreign(path, other)),
            manifest::Found::None => {
                let reason = "no sound manifest: made again from the segments' headers".to_owned();
                self.damage(path, 0, bytes.len() as u64, reason, false);
                Ok(Manifest::default())
            }
        }
    }

    async fn list(&mut self, manifest: &Manifest) -> Result<Files, OpenError> {
        let entries = self.disk.read_dir(self.dir).await;
        let mut entries = entries.map_err(io_error(self.dir))?;
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let mut files = Files {
            generation_max: manifest.as_of,
            ..Files::default()
        };
        for entry in entries {
            if entry.path.ends_with(RESERVE) {
                files.has_reserve = true;
            } else if spare::is_spare(&entry.path) {
                let suits = spare::suits(entry.bytes, self.settings.segment_bytes);
                if suits && files.recyclable.len() < spare::SPARES_MAX {
                    files.recyclable.push(entry.path);
                } else {
                    files.spare.push(entry.path);
                }
            } else if entry.path.ends_with(UNFINISHED) || entry.path.ends_with(MANIFEST_NEW) {
                files.spare.push(entry.path);
            } else if let Some((generation, is_segment)) = segment::parse_path(&entry.path) {
                files.generation_max = files.generation_max.max(generation);
                if is_segment {
                    let bytes = entry.bytes;
                    self.look_at(&mut files, manifest, generation, bytes)
                        .await?;
                } else {
                    files.indexes.push(generation);
                }
            }
        }
        self.cut(&mut files);
        for generation in &manifest.live {
            if !files.segments.contains_key(generation) && !files.is_replaced(*generation) {
                let position = Position {
                    segment: *generation,
                    offset: 0,
                };
                let reason = "segment is missing".to_owned();
                self.set_aside(manifest.serial, position, &[], reason, true)
                    .await;
                files.missing.insert(*generation, true);
            }
        }
        // What no manifest speaks of cannot have been reclaimed. Without a manifest nobody knows.
        if let Some(last) = files.segments.keys().next_back().copied()
            && manifest.serial > 0
        {
            for generation in manifest.as_of + 1..last {
                if !files.segments.contains_key(&generation) && !files.is_replaced(generation) {
                    files.missing.insert(generation, false);
                }
            }
        }
        if manifest.serial == 0 && files.segments.is_empty() {
            return Err(OpenError::Foreign {
                path: self.dir.to_owned(),
                reason: "neither manifest nor segments: this is no partition, or all of it is lost"
                    .to_owned(),
            });
        }
        Ok(files)
    }

    /// Decides whether a segment file counts.
    async fn look_at(
        &mut self,
        files: &mut Files,
        manifest: &Manifest,
        generation: u64,
        bytes: u64,
    ) -> Result<(), OpenError> {
        let path = segment::file_path(self.dir, generation);
        let is_listed = manifest.live.binary_search(&generation).is_ok();
        let speaks_of = manifest.listed_from..=manifest.as_of;
        if speaks_of.contains(&generation) && !is_listed {
            files.spare.push(path);
            return Ok(());
        }
        let file = self.disk.open(&path, OpenMode::Read).await;
        let file = file.map_err(io_error(&path))?;
        // A block that cannot be read, however often it is tried, is no header; whether that
        // matters is seen below.
        let read = scan::read_file(self.disk, &file, BLOCK_BYTES as u64).await;
        let block = read.unwrap_or_default();
        let header = match segment::decode_header(&block.bytes, self.identity, generation) {
            Found::Header(header) => Some(header),
            Found::Newer(found) => {
                return Err(OpenError::Newer {
                    path,
                    found,
                    known: segment::FORMAT,
                });
            }
            Found::Foreign(other) => return Err(foreign(path, other)),
            Found::None => None,
        };
        let epoch = match header {
            Some(header) => Some(header.epoch),
            None => {
                let read = scan::read_file(self.disk, &file, u64::MAX).await;
                let read = read.map_err(io_error(&path))?;
                let epoch = self.epoch_of_batches(&read.bytes, generation);
                // Without a header it was prepared for later, unless there is something in it.
                let used = scan::used_bytes(&read.bytes, 0, &read.unreadable);
                if !is_listed && epoch.is_none() {
                    if used == 0 {
                        files.spare.push(path);
                        return Ok(());
                    }
                    let (position, serial) = (
                        Position {
                            segment: generation,
                            offset: 0,
                        },
                        manifest.serial,
                    );
                    let reason = "unfinished write: neither header nor batch".to_owned();
                    self.set_aside(serial, position, &read.bytes[..used], reason, false)
                        .await;
                    files.has_remains = true;
                    files.dead.push(path);
                    return Ok(());
                }
                epoch
            }
        };
        // What is listed had a header, durably.
        if is_listed && epoch.is_none() {
            files.hollow.insert(generation);
        }
        let file = File {
            bytes,
            header,
            epoch: epoch.unwrap_or(0),
            end: manifest.ends.get(&generation).copied(),
        };
        files.segments.insert(generation, file);
        Ok(())
    }

    /// The epoch that the batches of a segment without a header were written in.
    fn epoch_of_batches(&self, bytes: &[u8], generation: u64) -> Option<u64> {
        let mut stretches = scan::stretches(bytes, BLOCK_BYTES, self.identity, generation);
        stretches.find_map(|(_, stretch)| match stretch {
            scan::Stretch::Batch { head, .. } | scan::Stretch::Broken { head, .. } => {
                Some(head.epoch)
            }
            scan::Stretch::Gap { .. } => None,
        })
    }

    /// Each header says where the log before it ends: what lies behind that is not part of it.
    fn cut(&self, files: &mut Files) {
        let headers: Vec<Header> = files.segments.values().filter_map(|f| f.header).collect();
        for header in headers {
            let previous = header.previous;
            let between: Vec<u64> = files
                .segments
                .range(previous.segment + 1..header.generation)
                .map(|(generation, _)| *generation)
                .collect();
            for generation in between {
                files.segments.remove(&generation);
                let path = segment::file_path(self.dir, generation);
                files.dead.push(path);
            }
            if let Some(file) = files.segments.get_mut(&previous.segment) {
                file.end = Some(previous.offset);
            }
        }
    }

    /// The index file, or an empty index; the sequence number and position it covers.
    async fn open_index(
        &mut self,
        manifest: &Manifest,
        files: &mut Files,
    ) -> Result<(Index, Sequence, Position), OpenError> {
        let mut candidates = std::mem::take(&mut files.indexes);
        candidates.sort_unstable_by(|a, b| b.cmp(a));
        let wanted = match manifest.serial {
            // Without a manifest, the newest that is sound.
            0 => candidates.clone(),
            _ if manifest.index == 0 => Vec::new(),
            _ => vec![manifest.index],
        };
        let mut found = None;
        for generation in wanted {
            let path = segment::index_path(self.dir, generation);
            match self.map_index(&path).await {
                Ok((index, covers, (segment, offset))) => {
                    let position = Position { segment, offset };
                    found = Some((generation, index, covers, position));
                    break;
                }
                Err(Unusable::Older) => {
                    let path = path.display();
                    tracing::info!("{path}: of an earlier version: made again from the log");
                }
                Err(Unusable::Damaged(reason)) => {
                    let reason = format!("{reason}: made again from the log");
                    self.damage(path, 0, 0, reason, false);
                }
            }
        }
        let used = found.as_ref().map_or(0, |(generation, ..)| *generation);
        candidates.retain(|generation| *generation != used);
        let others = candidates.iter();
        let others = others.map(|generation| segment::index_path(self.dir, *generation));
        // On a full disk one that was being written when the end came may have all the space left.
        match manifest.serial {
            0 => files.dead.extend(others),
            _ => files.spare.extend(others),
        }
        if let Some((generation, index, covers, position)) = found {
            files.indexes = vec![generation];
            return Ok((index, covers, position));
        }
        Ok((Index::new(), 0, Position::default()))
    }

    async fn map_index(&self, path: &Path) -> Result<(Index, Sequence, (u64, u64)), Unusable> {
        let failed = |error: io::Error| Unusable::Damaged(error.to_string());
        let file = self.disk.open(path, OpenMode::Read).await.map_err(failed)?;
        let map = self.disk.map(&file).await.map_err(failed)?;
        if Index::is_older(map.as_ref()) {
            return Err(Unusable::Older);
        }
        let opened = Index::open(Rc::new(map), self.identity);
        opened.map_err(|error| Unusable::Damaged(error.to_string()))
    }
}

/// Why an index file is not taken.
enum Unusable {
    /// Of an earlier version, and perhaps sound.
    Older,
    /// For this reason.
    Damaged(String),
}

fn foreign(path: PathBuf, other: Identity) -> OpenError {
    OpenError::Foreign {
        path,
        reason: format!(
            "it belongs to partition {:#x} of store {:032x}",
            other.partition, other.store_id
        ),
    }
}
