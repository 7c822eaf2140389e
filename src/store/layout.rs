//! The folders of a store, its `STORE` file, and the lock that keeps a second server out.
//!
//! ```text
//! DATA/LOCK            locked while a process has the store open; holds its pid
//! DATA/control         the control socket of a running server
//! DATA/store/STORE     see below
//! DATA/store/p000/     a partition each
//! DATA/store/q000/     the queue
//! DATA/store/site/     domains, aliases, the postmaster
//! ```
//!
//! `STORE` is text, one `name value` a line; the last line is the CRC32C of all bytes before it:
//!
//! ```text
//! ringpost store
//! format 1
//! state made            `making` until every partition of a new store is durable
//! partitions 4
//! id 0123456789abcdef0123456789abcdef
//! hash 0123456789abcdef0123456789abcdef
//! crc 89abcdef
//! ```
//!
//! Guarantees: one process at a time; what `open_or_create` returns is durable; the partition of
//! an address never changes in the life of a store.
//! On failure: the error names the file and says what to do. Nothing is changed then.

use std::fs::{self, File, TryLockError};
use std::hash::Hasher;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use siphasher::sip::SipHasher24;

use super::Identity;
use crate::limits;
use crate::mail::Address;

/// The format of store that this program makes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// Partitions per processor of a store that is made without `--partitions`.
pub const PARTITIONS_PER_PROCESSOR: usize = 2;
/// First word of a `STORE` file.
const MAGIC: &str = "ringpost store";
/// A `STORE` file is far smaller.
const STORE_BYTES_MAX: u64 = 4096;
/// Numbers of the logs that are no mailbox partitions.
const QUEUE_BASE: u16 = 0x8000;
const SITE_NUMBER: u16 = 0xffff;

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// Another process has it.
    #[error("another server ({owner}) has {} open", data.display())]
    Busy {
        /// The folder.
        data: PathBuf,
        /// `pid N`, or that it cannot be told.
        owner: String,
    },
    /// An operation failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// On this file or folder.
        path: PathBuf,
        /// In this way.
        source: io::Error,
    },
    /// Made by a newer version.
    #[error("{}: store format {found}, this program reads up to {FORMAT}: use the newer program", path.display())]
    Newer {
        /// The `STORE` file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Not a `STORE` file, or damaged.
    #[error("{}: {reason}; restore it from a backup (it never changes after the first start)", path.display())]
    Damaged {
        /// The `STORE` file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// An open, locked store.
#[derive(Debug)]
pub struct Layout {
    data: PathBuf,
    store: Store,
    new: AtomicBool,
    /// Locked for as long as this lives.
    _lock: File,
}

/// What `STORE` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Store {
    made: bool,
    partitions: u16,
    id: u128,
    hash_key: u128,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> LayoutError + '_ {
    move |source| LayoutError::Io {
        path: path.to_owned(),
        source,
    }
}

impl Layout {
    /// Opens the store in the folder `data`, or makes one with so many partitions (0:
    /// [`PARTITIONS_PER_PROCESSOR`] for each of `processors`). A store that is there keeps its
    /// number. Call [`Layout::commit`] when every partition of a new one is there.
    ///
    /// # Errors
    /// Says which file is in the way, and what to do.
    pub fn open_or_create(
        data: &Path,
        partitions: u16,
        processors: usize,
    ) -> Result<Layout, LayoutError> {
        let folder = data.join("store");
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let lock = lock(data)?;
        let path = folder.join("STORE");
        let found = match read_bounded(&path) {
            Ok(text) => Some(Store::decode(&text, &path)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(at(&path)(error)),
        };
        let store = match found {
            Some(store) => store,
            None => {
                let each = PARTITIONS_PER_PROCESSOR.saturating_mul(processors.max(1));
                let default = u16::try_from(each).unwrap_or(u16::MAX);
                let count = if partitions == 0 { default } else { partitions };
                let store = Store {
                    made: false,
                    partitions: count.clamp(1, limits::PARTITIONS_MAX),
                    id: random(&path)?,
                    hash_key: random(&path)?,
                };
                store.write(&folder).map_err(at(&path))?;
                // The names of the folders themselves are durable, too.
                for dir in [data, data.parent().unwrap_or(data)] {
                    sync_dir(dir).map_err(at(dir))?;
                }
                store
            }
        };
        Ok(Layout {
            data: data.to_owned(),
            store,
            new: AtomicBool::new(!store.made),
            _lock: lock,
        })
    }

    /// Every partition of a new store is there and durable: from now on a missing one is an error.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn commit(&self) -> Result<(), LayoutError> {
        if self.is_new() {
            let folder = self.data.join("store");
            sync_dir(&folder).map_err(at(&folder))?;
            let made = Store {
                made: true,
                ..self.store
            };
            made.write(&folder).map_err(at(&folder.join("STORE")))?;
            self.new.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// The store is being made: partitions that are missing are to be made.
    pub fn is_new(&self) -> bool {
        self.new.load(Ordering::Acquire)
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Number of mailbox partitions.
    pub fn partitions(&self) -> u16 {
        self.store.partitions
    }

    /// The partition of a canonical address, by a hash whose key is the store's own: nobody outside
    /// can choose addresses that all meet in one partition.
    pub fn partition_of(&self, address: &Address) -> u16 {
        let mut hasher = SipHasher24::new_with_key(&self.store.hash_key.to_le_bytes());
        hasher.write(address.as_str().as_bytes());
        (hasher.finish() % u64::from(self.store.partitions)) as u16
    }

    /// The folder of a partition.
    pub fn partition_dir(&self, number: u16) -> PathBuf {
        self.data.join(format!("store/p{number:03x}"))
    }

    /// The folder of a queue.
    pub fn queue_dir(&self, number: u16) -> PathBuf {
        self.data.join(format!("store/q{number:03x}"))
    }

    /// The folder of the site log.
    pub fn site_dir(&self) -> PathBuf {
        self.data.join("store/site")
    }

    /// The control socket of a running server.
    pub fn control_socket(&self) -> PathBuf {
        self.data.join("control")
    }

    /// What names a partition in its records.
    pub fn identity(&self, number: u16) -> Identity {
        Identity {
            store_id: self.store.id,
            partition: number,
        }
    }

    /// What names a queue in its records.
    pub fn queue_identity(&self, number: u16) -> Identity {
        self.identity(QUEUE_BASE | number)
    }

    /// What names the site log in its records.
    pub fn site_identity(&self) -> Identity {
        self.identity(SITE_NUMBER)
    }
}

const _: () = assert!(limits::PARTITIONS_MAX <= QUEUE_BASE);

/// Locks the data folder, and writes our pid into the lock's file for the next who asks.
fn lock(data: &Path) -> Result<File, LayoutError> {
    let path = data.join("LOCK");
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    let mut file = options.open(&path).map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only for the message.
            let _ = (&mut file).take(32).read_to_string(&mut pid);
            let owner = match pid.trim().parse::<u32>() {
                Ok(pid) => format!("pid {pid}"),
                Err(_) => "of unknown pid".to_owned(),
            };
            return Err(LayoutError::Busy {
                data: data.to_owned(),
                owner,
            });
        }
        Err(TryLockError::Error(error)) => return Err(at(&path)(error)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(at(&path))?;
    Ok(file)
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(STORE_BYTES_MAX)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn random(path: &Path) -> Result<u128, LayoutError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| at(path)(io::Error::other(error)))?;
    Ok(u128::from_le_bytes(bytes))
}

fn sync_dir(path: &Path) -> io::Result<()> {
    // The parent of a relative path of one component is the empty path.
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    File::open(path)?.sync_all()
}

impl Store {
    fn encode(&self) -> Vec<u8> {
        let state = if self.made { "made" } else { "making" };
        let mut text = format!(
            "{MAGIC}\nformat {FORMAT}\nstate {state}\npartitions {}\nid {:032x}\nhash {:032x}\n",
            self.partitions, self.id, self.hash_key
        );
        let crc = crc32c::crc32c(text.as_bytes());
        text.push_str(&format!("crc {crc:08x}\n"));
        text.into_bytes()
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Store, LayoutError> {
        let damaged = |reason: &str| LayoutError::Damaged {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("not text"))?;
        let mut lines = text.lines();
        if lines.next() != Some(MAGIC) {
            return Err(damaged("not a STORE file"));
        }
        let mut value = |name: &str| {
            let line = lines.next().and_then(|line| line.split_once(' '));
            line.filter(|(found, _)| *found == name)
                .map(|(_, value)| value)
                .ok_or_else(|| damaged(&format!("no {name} where it should be")))
        };
        // The version comes before the checksum: a newer format may have another one.
        let format: u32 = value("format")?
            .parse()
            .map_err(|_| damaged("its format is no number"))?;
        if format > FORMAT {
            return Err(LayoutError::Newer {
                path: path.to_owned(),
                found: format,
            });
        }
        let made = match value("state")? {
            "made" => true,
            "making" => false,
            _ => return Err(damaged("an unknown state")),
        };
        let partitions = value("partitions")?.parse().unwrap_or(0);
        let id = u128::from_str_radix(value("id")?, 16).map_err(|_| damaged("a bad id"))?;
        let hash_key =
            u128::from_str_radix(value("hash")?, 16).map_err(|_| damaged("a bad hash"))?;
        let crc = u32::from_str_radix(value("crc")?, 16).map_err(|_| damaged("a bad crc"))?;
        let covered = text.rfind("crc ").map_or("", |end| &text[..end]);
        if crc32c::crc32c(covered.as_bytes()) != crc {
            return Err(damaged("its checksum does not match"));
        }
        if partitions == 0 || partitions > limits::PARTITIONS_MAX {
            return Err(damaged("an impossible number of partitions"));
        }
        Ok(Store {
            made,
            partitions,
            id,
            hash_key,
        })
    }

    /// Writes the file anew, atomically and durably.
    fn write(&self, folder: &Path) -> io::Result<()> {
        let fresh = folder.join("STORE.new");
        let mut file = File::create(&fresh)?;
        file.write_all(&self.encode())?;
        file.sync_all()?;
        fs::rename(&fresh, folder.join("STORE"))?;
        sync_dir(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Store {
        Store {
            made: true,
            partitions: 7,
            id: 0x1234_5678_9abc_def0_1122_3344_5566_7788,
            hash_key: 42,
        }
    }

    #[test]
    fn a_store_file_survives_its_encoding_and_no_flipped_bit_does() {
        let path = Path::new("STORE");
        let bytes = store().encode();
        assert_eq!(Store::decode(&bytes, path).unwrap(), store());
        for index in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[index / 8] ^= 1 << (index % 8);
            // A flip of case within a hexadecimal number of the last line changes nothing.
            if let Ok(found) = Store::decode(&flipped, path) {
                assert_eq!(found, store(), "bit {index}");
            }
        }
        for length in 0..bytes.len() - 1 {
            assert!(Store::decode(&bytes[..length], path).is_err(), "{length}");
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let text = String::from_utf8(store().encode()).unwrap();
        let newer = text.replace("format 1", "format 9");
        let error = Store::decode(newer.as_bytes(), Path::new("x/STORE")).unwrap_err();
        assert!(
            matches!(error, LayoutError::Newer { found: 9, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_folder_is_opened_once_and_keeps_its_partitions() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let first = Layout::open_or_create(&data, 5, 2).unwrap();
        assert!(first.is_new());
        first.commit().unwrap();
        let busy = Layout::open_or_create(&data, 5, 2).unwrap_err().to_string();
        assert!(busy.contains(&std::process::id().to_string()), "{busy}");
        let address = Address::parse("a@example.org").unwrap();
        let number = first.partition_of(&address);
        drop(first);
        let again = Layout::open_or_create(&data, 9, 1).unwrap();
        assert!(!again.is_new());
        assert_eq!(
            (again.partitions(), again.partition_of(&address)),
            (5, number)
        );
        let default = Layout::open_or_create(&folder.path().join("other"), 0, 3).unwrap();
        assert_eq!(default.partitions(), 6);
    }

    #[test]
    fn addresses_spread_evenly() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::open_or_create(folder.path(), 8, 1).unwrap();
        let mut counts = [0; 8];
        for number in 0..8000 {
            let address = Address::parse(&format!("u{number}@example.org")).unwrap();
            counts[usize::from(layout.partition_of(&address))] += 1;
        }
        assert!(
            counts.iter().all(|count| (800..1200).contains(count)),
            "{counts:?}"
        );
    }
}
