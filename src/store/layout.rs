//! Where a store is, what it is, and which account lives in which partition.
//!
//! ```text
//! DATA/LOCK          held by the one server (or offline command) that has the store open
//! DATA/control       the running server's control socket
//! DATA/store/STORE   the text below
//! DATA/store/STORE.copy  the same again
//! DATA/store/p000 …  mailbox partitions;  q000 …  queues;  site  accounts' domains and aliases
//!
//! ringpost store
//! format 2
//! partitions 4
//! store-id 0123456789abcdef0123456789abcdef
//! hash-key 0123456789abcdef0123456789abcdef
//! state ready                                  (`new` until the first start is complete)
//! crc32c 89abcdef                              (of every byte before this line)
//! ```
//!
//! Every later format keeps the first two lines and the last. A store of an earlier one is taken
//! over when it is opened: the number in both files changes before anything else is written, so that
//! a program which does not know the records of today leaves it alone. Format 2 has mailboxes beside
//! INBOX, and flags.
//!
//! Guarantees: STORE is replaced whole and durably; two processes never have one store open. Key
//! and id stand nowhere else and all mail is out of reach without them, so there is a copy: where
//! one of the two is damaged or gone it is made again from the other, and the log says so.
//! Does not know: what is inside a partition.
//! On failure: an error that names the file. Nothing is guessed: a wrong partition count or key
//! would send every account to the wrong place.

#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use siphasher::sip::SipHasher24;

use super::Identity;
use crate::limits::PARTITIONS_MAX;
use crate::mail::Address;

/// Partitions per processor of a new store, unless told otherwise.
pub const DEFAULT_PARTITIONS_PER_PROCESSOR: usize = 1;
/// Version of the layout and of every file below it.
pub const FORMAT: u32 = 2;

const FIRST_LINE: &str = "ringpost store";

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The filesystem refuses.
    #[error("{path}: cannot {action}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On this path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Somebody else has it.
    #[error("another server (pid {pid}) has {path} open: stop it first, or choose another --data", path = path.display())]
    Locked {
        /// As its LOCK file says; `?` when it does not.
        pid: String,
        /// The data directory.
        path: PathBuf,
    },
    /// Made by a newer version.
    #[error("{path}: store format {found}, this program reads up to {FORMAT}: start the version that made it", path = path.display())]
    Newer {
        /// The STORE file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It cannot be read.
    #[error("{path}: damaged ({reason}): restore this file from a backup", path = path.display())]
    Damaged {
        /// The STORE file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It is not there, although the rest of a store is.
    #[error("{path}: gone, and so is its copy, but {part} is there: restore this file from a backup, or choose another --data", path = path.display(), part = part.display())]
    Gone {
        /// The STORE file.
        path: PathBuf,
        /// What there is of the store.
        part: PathBuf,
    },
    /// The store has another number of partitions than asked for.
    #[error("{path}: the store has {found} partitions, {asked} were asked for: the number is fixed when a store is made", path = path.display())]
    Partitions {
        /// The STORE file.
        path: PathBuf,
        /// What it has.
        found: u16,
        /// What was asked for.
        asked: u16,
    },
    /// More partitions than there can be.
    #[error("{0} partitions: at most {PARTITIONS_MAX} are possible")]
    TooMany(u16),
}

/// What the STORE file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Contents {
    format: u32,
    partitions: u16,
    store_id: u128,
    hash_key: u128,
    is_new: bool,
}

/// An open store; the lock goes when it is dropped.
#[derive(Debug)]
pub struct Layout {
    data: PathBuf,
    contents: Contents,
    _lock: Lock,
}

/// The locked LOCK file. It is unlocked by name and not only closed: a process that is being
/// started at this moment has a copy of every descriptor until its exec, and a copy keeps the lock.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it comes next and does the same a little later.
        let _ = self.0.unlock();
    }
}

fn store_file(data: &Path) -> PathBuf {
    data.join("store").join("STORE")
}

fn copy_file(store_file: &Path) -> PathBuf {
    store_file.with_extension("copy")
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> LayoutError + 'a {
    move |source| LayoutError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

impl Layout {
    /// Opens the store in `data`, or makes one of so many partitions; 0 means what an existing
    /// store has, or a number that suits so many processors.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn open_or_create(
        data: &Path,
        partitions: u16,
        processors: usize,
    ) -> Result<Layout, LayoutError> {
        if partitions > PARTITIONS_MAX {
            return Err(LayoutError::TooMany(partitions));
        }
        make_dirs(&data.join("store"))?;
        let lock = lock(data)?;
        let path = store_file(data);
        let contents = match find(&path)? {
            Some(older) if older.format < FORMAT => {
                let contents = Contents {
                    format: FORMAT,
                    ..older
                };
                write(&contents, &path)?;
                write(&contents, &copy_file(&path))?;
                let (from, path) = (older.format, path.display());
                tracing::info!("{path}: format {from}, taken over as format {FORMAT}");
                contents
            }
            Some(contents) => contents,
            None => {
                let contents = new_contents(partitions, processors, &path)?;
                write(&contents, &path)?;
                write(&contents, &copy_file(&path))?;
                contents
            }
        };
        if partitions != 0 && partitions != contents.partitions {
            return Err(LayoutError::Partitions {
                path,
                found: contents.partitions,
                asked: partitions,
            });
        }
        Ok(Layout {
            data: data.to_owned(),
            contents,
            _lock: lock,
        })
    }

    /// The first start of this store was not complete yet when it was opened: a partition that is
    /// not there is to be made. Later, one that is missing has been lost.
    pub fn is_new(&self) -> bool {
        self.contents.is_new
    }

    /// Every partition has been made, and its directory's entry is durable after this.
    ///
    /// # Errors
    /// When the filesystem refuses.
    pub fn commit(&self) -> Result<(), LayoutError> {
        if !self.contents.is_new {
            return Ok(());
        }
        let ready = Contents {
            is_new: false,
            ..self.contents
        };
        let path = store_file(&self.data);
        sync_dir(&self.data.join("store"))?;
        write(&ready, &path)?;
        write(&ready, &copy_file(&path))
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Number of mailbox partitions.
    pub fn partitions(&self) -> u16 {
        self.contents.partitions
    }

    /// Random, made with the store.
    pub fn store_id(&self) -> u128 {
        self.contents.store_id
    }

    /// The partition of an account, by its canonical address. Keyed, so that nobody can choose
    /// addresses that crowd one partition.
    pub fn partition_of(&self, address: &Address) -> u16 {
        let key = self.contents.hash_key.to_le_bytes();
        let hash = SipHasher24::new_with_key(&key).hash(address.as_str().as_bytes());
        (hash % u64::from(self.contents.partitions)) as u16
    }

    /// Directory of a mailbox partition.
    pub fn partition_dir(&self, partition: u16) -> PathBuf {
        self.data.join("store").join(format!("p{partition:03x}"))
    }

    /// Directory of a queue's log.
    pub fn queue_dir(&self, number: u16) -> PathBuf {
        self.data.join("store").join(format!("q{number:03x}"))
    }

    /// Directory of the site log.
    pub fn site_dir(&self) -> PathBuf {
        self.data.join("store").join("site")
    }

    /// Identity of a mailbox partition.
    pub fn identity(&self, partition: u16) -> Identity {
        Identity {
            store_id: self.contents.store_id,
            partition,
        }
    }

    /// Identity of a queue's log.
    pub fn queue_identity(&self, number: u16) -> Identity {
        self.identity(super::QUEUE_PARTITION | number)
    }

    /// Identity of the site log.
    pub fn site_identity(&self) -> Identity {
        self.identity(super::SITE_PARTITION)
    }

    /// The control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.data.join("control")
    }
}

/// What the STORE file says, or else its copy; the other one is then made again. `None`: there is
/// no store here.
fn find(path: &Path) -> Result<Option<Contents>, LayoutError> {
    let copy = copy_file(path);
    match read(path) {
        Ok(Some(contents)) => {
            // One that is behind is of a start that ended between the two; one of a newer version
            // is not ours to replace.
            match read(&copy) {
                Ok(Some(same)) if same == contents => {}
                Err(error @ LayoutError::Newer { .. }) => return Err(error),
                _ => write_again(&contents, &copy),
            }
            Ok(Some(contents))
        }
        Err(error @ (LayoutError::Damaged { .. } | LayoutError::Io { .. })) => match read(&copy)? {
            Some(contents) => {
                tracing::error!("{error}: made again from its copy");
                write_again(&contents, path);
                Ok(Some(contents))
            }
            None => Err(error),
        },
        Ok(None) => match read(&copy)? {
            Some(contents) => {
                tracing::error!("{}: gone: made again from its copy", path.display());
                write_again(&contents, path);
                Ok(Some(contents))
            }
            None => match partition_in(path.parent().unwrap_or(Path::new(".")))? {
                Some(part) => Err(LayoutError::Gone {
                    path: path.to_owned(),
                    part,
                }),
                None => Ok(None),
            },
        },
        Err(error) => Err(error),
    }
}

/// Replaces the one that is damaged, gone or behind. The other is sound, so a full disk is no reason
/// not to start.
fn write_again(contents: &Contents, path: &Path) {
    if let Err(error) = write(contents, path) {
        tracing::warn!("{error}; this start goes on, the next tries again");
    }
}

/// `None` when the file is not there.
fn read(path: &Path) -> Result<Option<Contents>, LayoutError> {
    match fs::read(path) {
        Ok(bytes) => parse(&bytes, path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// A directory in the store's that is part of a store: of a partition, a queue or the site.
fn partition_in(store: &Path) -> Result<Option<PathBuf>, LayoutError> {
    for entry in fs::read_dir(store).map_err(failed("read this directory", store))? {
        let path = entry.map_err(failed("read this directory", store))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(is_part) && path.is_dir() {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// `site`, `p000` or `q000`: a filesystem's own `lost+found` is none.
fn is_part(name: &str) -> bool {
    let number = name.strip_prefix(['p', 'q']).unwrap_or_default();
    name == "site" || (number.len() >= 3 && number.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn new_contents(partitions: u16, processors: usize, path: &Path) -> Result<Contents, LayoutError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)
        .map_err(io::Error::other)
        .map_err(failed("make a random store id for", path))?;
    let (id, key) = random.split_at(16);
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0u128, |sum, byte| sum << 8 | u128::from(*byte))
    };
    let suits = (processors * DEFAULT_PARTITIONS_PER_PROCESSOR).clamp(1, PARTITIONS_MAX.into());
    Ok(Contents {
        format: FORMAT,
        partitions: if partitions == 0 {
            suits as u16
        } else {
            partitions
        },
        store_id: number(id),
        hash_key: number(key),
        is_new: true,
    })
}

/// Makes a directory and what is above it, each entry durable.
fn make_dirs(path: &Path) -> Result<(), LayoutError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_dirs(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed("make this directory", path)(error));
        }
        _ => {}
    }
    sync_dir(parent)
}

fn sync_dir(path: &Path) -> Result<(), LayoutError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("sync this directory", path))
}

fn lock(data: &Path) -> Result<Lock, LayoutError> {
    let path = data.join("LOCK");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed("open for writing", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
            return Err(LayoutError::Locked {
                pid: if known {
                    pid.trim().to_owned()
                } else {
                    "?".to_owned()
                },
                path: data.to_owned(),
            });
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
    }
    let pid = format!("{}\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.write_all(pid.as_bytes()))
        .map_err(failed("write", &path))?;
    Ok(Lock(file))
}

fn encode(contents: &Contents) -> String {
    let state = if contents.is_new { "new" } else { "ready" };
    let text = format!(
        "{FIRST_LINE}\nformat {}\npartitions {}\nstore-id {:032x}\nhash-key {:032x}\nstate {state}\n",
        contents.format, contents.partitions, contents.store_id, contents.hash_key
    );
    let crc = crc32c::crc32c(text.as_bytes());
    format!("{text}crc32c {crc:08x}\n")
}

fn write(contents: &Contents, path: &Path) -> Result<(), LayoutError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let mut file = File::create(&fresh).map_err(failed("make", &fresh))?;
    file.write_all(encode(contents).as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed("write", &fresh))?;
    fs::rename(&fresh, path).map_err(failed("replace", path))?;
    sync_dir(dir)
}

/// The last line is the checksum of what comes before it.
fn has_checksum(text: &str) -> bool {
    let start = text
        .trim_end_matches('\n')
        .rfind('\n')
        .map_or(0, |at| at + 1);
    let (covered, last) = text.split_at(start);
    let crc = crc32c::crc32c(covered.as_bytes());
    last.trim_end() == format!("crc32c {crc:08x}")
}

fn parse(bytes: &[u8], path: &Path) -> Result<Contents, LayoutError> {
    let damaged = |reason: &str| LayoutError::Damaged {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("not text"))?;
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Err(damaged("it does not begin with \"ringpost store\""));
    }
    let mut field = |name: &str| {
        lines
            .next()
            .and_then(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .ok_or_else(|| damaged(&format!("no line \"{name} ...\" where it should be")))
    };
    // What follows may look different in a newer one; the first two lines and the last do not.
    let format = field("format")?;
    let format: u32 = format.parse().map_err(|_| damaged("format"))?;
    if !has_checksum(text) {
        let reason = format!("it says format {format}, its checksum does not fit");
        return Err(damaged(&reason));
    }
    if format > FORMAT {
        return Err(LayoutError::Newer {
            path: path.to_owned(),
            found: format,
        });
    }
    let partitions = field("partitions")?.parse();
    let store_id = u128::from_str_radix(field("store-id")?, 16);
    let hash_key = u128::from_str_radix(field("hash-key")?, 16);
    let is_new = match field("state")? {
        "new" => true,
        "ready" => false,
        _ => return Err(damaged("state")),
    };
    let (Ok(partitions @ 1..=PARTITIONS_MAX), Ok(store_id), Ok(hash_key)) =
        (partitions, store_id, hash_key)
    else {
        return Err(damaged("a number is none"));
    };
    let contents = Contents {
        format,
        partitions,
        store_id,
        hash_key,
        is_new,
    };
    if encode(&contents) != text {
        return Err(damaged("it has more than it should"));
    }
    Ok(contents)
}
