//! What could not be read: copied to `damaged/`, and reported at least once.
//!
//! A start cuts what it cannot read off the log before anybody has heard of it, and may end before
//! it has told. So each copy carries the serial of the manifest that its start has found: as long
//! as no more than that start's own manifest has followed, the next start reports it again.
//!
//! Does not know: what the bytes were.

use super::*;

/// Where copies are kept.
const DIRECTORY: &str = "damaged";
/// Ends of their names: acknowledged bytes, or maybe never acknowledged.
const KNOWN: &str = "known";
const UNKNOWN: &str = "unknown";

/// A copy that an earlier start has made.
pub(super) struct Copy {
    path: PathBuf,
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

fn parse(path: &Path) -> Option<(u64, Position, bool)> {
    let mut numbers = path.file_stem()?.to_str()?.split('-').map(str::parse);
    let mut next = || numbers.next()?.ok();
    let (serial, segment, offset) = (next()?, next()?, next()?);
    let position = Position { segment, offset };
    let acknowledged = match path.extension()?.to_str()? {
        KNOWN => true,
        UNKNOWN => false,
        _ => return None,
    };
    Some((serial, position, acknowledged))
}

impl<D: Disk> Recovery<'_, D> {
    /// Copies damaged bytes to a file of their own and reports them. `serial`: of the manifest
    /// that was found.
    pub(super) async fn set_aside(
        &mut self,
        serial: u64,
        position: Position,
        bytes: &[u8],
        reason: String,
        acknowledged: bool,
    ) {
        let name = name(serial, position, acknowledged);
        let saved_to = match self.save(&name, bytes).await {
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

    async fn save(&self, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let dir = self.dir.join(DIRECTORY);
        match self.disk.create_dir(&dir).await {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => self.disk.sync_dir(self.dir).await?,
        }
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

    /// Copies made by starts that may not have told of them: those that found the same manifest as
    /// this one, or the one before it.
    pub(super) async fn copies_of_earlier(&self, serial: u64) -> Result<Vec<Copy>, OpenError> {
        let dir = self.dir.join(DIRECTORY);
        let entries = match self.disk.read_dir(&dir).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(io_error(&dir))?,
        };
        let mut copies: Vec<Copy> = entries
            .into_iter()
            .filter_map(|entry| {
                let (found, position, acknowledged) = parse(&entry.path)?;
                (found == serial || found + 1 == serial).then_some(Copy {
                    path: entry.path,
                    bytes: entry.bytes,
                    position,
                    acknowledged,
                })
            })
            .collect();
        copies.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(copies)
    }

    /// Reports those that this start has not met itself.
    pub(super) fn report_earlier(&mut self, copies: Vec<Copy>) {
        for copy in copies {
            let file = segment::file_path(self.dir, copy.position.segment);
            let offset = copy.position.offset;
            let damage = &self.report.damage;
            if damage.iter().any(|d| d.file == file && d.offset == offset) {
                continue;
            }
            self.report.damage.push(Damage {
                file,
                offset,
                bytes: copy.bytes,
                saved_to: Some(copy.path),
                reason: "found by an earlier start, which may not have told of it".to_owned(),
                acknowledged: copy.acknowledged,
            });
        }
    }
}
