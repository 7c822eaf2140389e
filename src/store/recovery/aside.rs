//! What could not be read: copied to `damaged/`, and reported at least once.
//!
//! A start cuts what it cannot read off the log before anybody has heard of it, and may end before
//! it has told; so may the next one, and the one after that. So an empty file beside each copy says
//! that nobody was told of it. It is there before the log is cut, every start reports what has one,
//! and it goes when a start has told: when the partition that it made is at work.
//!
//! Where a segment is missing there is nothing to be copied, and such a file stands alone. An index
//! or a manifest is made again from the log, and nothing is lost with it: one that a start cannot
//! read is reported by that start only.
//!
//! Does not know: what the bytes were.

use super::*;

/// Where copies are kept.
const DIRECTORY: &str = "damaged";
/// Ends of their names: acknowledged bytes, or maybe never acknowledged.
const KNOWN: &str = "known";
const UNKNOWN: &str = "unknown";

/// Added to a copy's name for the file that says that nobody was told of it.
const UNTOLD: &str = "untold";

/// What an earlier start has found, and nobody was told of.
pub(super) struct Untold {
    /// The file that says so.
    mark: PathBuf,
    /// The copy, if there is one.
    saved_to: Option<PathBuf>,
    bytes: u64,
    position: Position,
    acknowledged: bool,
}

/// `serial-segment-offset.known`, the serial being that of the manifest found.
fn name(serial: u64, position: Position, acknowledged: bool) -> String {
    format!(
        "{serial:020}-{:020}-{:010}.{}",
        position.segment,
        position.offset,
        if acknowledged { KNOWN } else { UNKNOWN }
    )
}

/// The file that says that nobody was told of this copy.
fn mark_of(copy: &Path) -> PathBuf {
    copy.with_added_extension(UNTOLD)
}

/// The copy that a mark is about.
fn copy_of(mark: &Path) -> Option<PathBuf> {
    (mark.extension()? == UNTOLD).then(|| mark.with_extension(""))
}

fn parse(path: &Path) -> Option<(Position, bool)> {
    let mut numbers = path.file_stem()?.to_str()?.split('-').map(str::parse);
    let mut next = || numbers.next()?.ok();
    let (_serial, segment, offset): (u64, _, _) = (next()?, next()?, next()?);
    let position = Position { segment, offset };
    let acknowledged = match path.extension()?.to_str()? {
        KNOWN => true,
        UNKNOWN => false,
        _ => return None,
    };
    Some((position, acknowledged))
}

impl<D: Disk> Recovery<'_, D> {
    /// Copies damaged bytes, if there are any, to a file of their own and reports them. `serial`: of
    /// the manifest that was found.
    pub(super) async fn set_aside(
        &mut self,
        serial: u64,
        position: Position,
        bytes: &[u8],
        reason: String,
        acknowledged: bool,
    ) {
        let name = name(serial, position, acknowledged);
        let path = self.dir.join(DIRECTORY).join(name);
        let dir = self.dir.display();
        let mut saved_to = None;
        if !bytes.is_empty() {
            match self.save(&path, bytes).await {
                Ok(()) => saved_to = Some(path.clone()),
                Err(error) => {
                    tracing::error!("{dir}: damaged bytes could not be copied aside: {error}");
                }
            }
        }
        let mark = mark_of(&path);
        match self.save(&mark, &[]).await {
            Ok(()) => self.untold.push(mark),
            Err(error) => {
                tracing::error!("{dir}: what could not be read could not be noted: {error}");
            }
        }
        self.report.damage.push(Damage {
            file: segment::file_path(self.dir, position.segment),
            offset: position.offset,
            bytes: bytes.len() as u64,
            saved_to,
            reason,
            acknowledged,
        });
    }

    async fn save(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let dir = self.dir.join(DIRECTORY);
        match self.disk.create_dir(&dir).await {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => self.disk.sync_dir(self.dir).await?,
        }
        let file = match self.disk.open(path, OpenMode::CreateNew).await {
            // Of an earlier attempt to recover the same.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.open(path, OpenMode::ReadWrite).await?
            }
            other => other?,
        };
        if !bytes.is_empty() {
            let level = SyncLevel::Fsync;
            let (result, _) = self.disk.write_at(&file, 0, bytes.to_vec(), level).await;
            result?;
        }
        self.disk.sync_dir(&dir).await
    }

    /// What earlier starts have found, and nobody was told of.
    pub(super) async fn untold_by_earlier(&self) -> Result<Vec<Untold>, OpenError> {
        let dir = self.dir.join(DIRECTORY);
        let entries = match self.disk.read_dir(&dir).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(io_error(&dir))?,
        };
        // A mark that is seen to be gone stays gone, whatever the start that took it away came to.
        if let Err(error) = self.disk.sync_dir(&dir).await {
            tracing::warn!("{}: cannot be synced: {error}", dir.display());
        }
        let marks = entries.iter().filter_map(|entry| {
            let path = copy_of(&entry.path)?;
            let (position, acknowledged) = parse(&path)?;
            let copy = entries.iter().find(|entry| entry.path == path);
            Some(Untold {
                mark: entry.path.clone(),
                saved_to: copy.map(|copy| copy.path.clone()),
                bytes: copy.map_or(0, |copy| copy.bytes),
                position,
                acknowledged,
            })
        });
        let mut untold: Vec<Untold> = marks.collect();
        untold.sort_by(|a, b| a.mark.cmp(&b.mark));
        Ok(untold)
    }

    /// Reports those that this start has not met itself.
    pub(super) fn report_earlier(&mut self, earlier: Vec<Untold>) {
        for found in earlier {
            if self.untold.contains(&found.mark) {
                continue;
            }
            self.untold.push(found.mark);
            let file = segment::file_path(self.dir, found.position.segment);
            let offset = found.position.offset;
            let damage = &self.report.damage;
            if damage.iter().any(|d| d.file == file && d.offset == offset) {
                continue;
            }
            self.report.damage.push(Damage {
                file,
                offset,
                bytes: found.bytes,
                saved_to: found.saved_to,
                reason: "found by an earlier start, which may not have told of it".to_owned(),
                acknowledged: found.acknowledged,
            });
        }
    }
}

/// These were told of, and are not reported again. Where that cannot be noted, they are.
pub(in crate::store) async fn forget_told<D: Disk>(disk: &D, dir: &Path, marks: Vec<PathBuf>) {
    if marks.is_empty() {
        return;
    }
    for mark in &marks {
        if let Err(error) = disk.remove(mark).await {
            tracing::warn!("{}: cannot be removed: {error}", mark.display());
        }
    }
    let dir = dir.join(DIRECTORY);
    if let Err(error) = disk.sync_dir(&dir).await {
        tracing::warn!("{}: cannot be synced: {error}", dir.display());
    }
}
