//! A mapped index file, and what happens when the medium under it fails.
//!
//! A read that the medium cannot serve raises SIGBUS, in whatever code touches the page. The
//! handler says which file it was and ends the process: going on would mean wrong bytes. The next
//! start reads every byte of the file before it maps it, finds it bad, and rebuilds it.
//!
//! Guarantees: a SIGBUS inside a mapping names its file; one outside is left to the default.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use memmap2::Mmap;

/// Mappings that can be told apart; one more is mapped all the same, only without its name.
const MAPPINGS_MAX: usize = 8192;
/// Bytes of a path that are shown.
const PATH_BYTES_MAX: usize = 1024;
/// As a shell reports a process that SIGBUS has ended.
const EXIT_STATUS: i32 = 128 + libc::SIGBUS;

/// What the handler may look at: plain atomics, filled before they are published by `start`.
struct Place {
    /// Address of the mapping; 0: free, 1: being filled.
    start: AtomicUsize,
    bytes: AtomicUsize,
    /// A path that ends in 0, owned by the mapping.
    path: AtomicPtr<u8>,
}

const FREE: usize = 0;
const TAKEN: usize = 1;

static PLACES: [Place; MAPPINGS_MAX] = [const {
    Place {
        start: AtomicUsize::new(FREE),
        bytes: AtomicUsize::new(0),
        path: AtomicPtr::new(std::ptr::null_mut()),
    }
}; MAPPINGS_MAX];

/// A file mapped for reading.
pub struct Mapped {
    map: Mmap,
    place: Option<usize>,
    /// What the place points to.
    _path: Box<[u8]>,
}

impl Mapped {
    /// Maps a whole file. The caller sees to it that the file is never changed or truncated while
    /// it is mapped; `path` is for the message.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn new(file: &File, path: &Path) -> io::Result<Mapped> {
        install();
        // SAFETY: the caller's promise: only index files are mapped, which are written whole
        // before, named by their generation and never overwritten; the data folder is locked
        // against other servers.
        let map = unsafe { Mmap::map(file)? };
        let shown = path.as_os_str().as_bytes();
        let mut name = shown[..shown.len().min(PATH_BYTES_MAX)].to_vec();
        name.push(0);
        let mut name = name.into_boxed_slice();
        let place = PLACES.iter().position(|place| {
            place
                .start
                .compare_exchange(FREE, TAKEN, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        });
        if let Some(index) = place {
            let place = &PLACES[index];
            place.bytes.store(map.len(), Ordering::Relaxed);
            place.path.store(name.as_mut_ptr(), Ordering::Relaxed);
            place.start.store(map.as_ptr() as usize, Ordering::Release);
        }
        Ok(Mapped {
            map,
            place,
            _path: name,
        })
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if let Some(index) = self.place {
            PLACES[index].start.store(FREE, Ordering::Release);
        }
    }
}

/// Installs the handler, once.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: zero is a value of this plain struct; the handler keeps to what a signal handler
        // may do: atomics, write(2), _exit(2) and sigaction(2).
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_sigbus as extern "C" fn(_, _, _) as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
        }
    });
}

extern "C" fn on_sigbus(_signal: i32, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel hands a valid siginfo to a handler installed with SA_SIGINFO.
    let address = unsafe { (*info).si_addr() } as usize;
    for place in &PLACES {
        let start = place.start.load(Ordering::Acquire);
        let bytes = place.bytes.load(Ordering::Relaxed);
        if start > TAKEN && (start..start + bytes).contains(&address) {
            let path = place.path.load(Ordering::Relaxed);
            // SAFETY: the path ends in 0 and lives as long as its place is taken; write(2) and
            // _exit(2) are safe in a handler.
            unsafe {
                say(b"ringpost: the medium failed under the index ");
                let length = libc::strlen(path.cast());
                libc::write(2, path.cast(), length);
                say(b"; ending, so that the next start rebuilds it\n");
                libc::_exit(EXIT_STATUS);
            }
        }
    }
    // SAFETY: as in `install`; returning runs into the same fault again, now with the default.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
    }
}

/// # Safety
/// None needed beyond that of write(2) on a valid buffer.
unsafe fn say(text: &[u8]) {
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use super::*;

    const CHILD: &str = "RINGPOST_TEST_SIGBUS";

    #[test]
    fn a_file_that_fails_under_its_mapping_is_named() {
        if let Some(path) = std::env::var_os(CHILD) {
            let file = File::options().read(true).write(true).open(&path).unwrap();
            let mapped = Mapped::new(&file, Path::new(&path)).unwrap();
            assert_eq!(mapped.as_ref()[8192], 7);
            // What the rules forbid stands in for a medium that fails.
            file.set_len(0).unwrap();
            std::hint::black_box(mapped.as_ref()[8192]);
            unreachable!("the handler ends the process");
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[7; 12_288]).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::mapped::tests::a_file_that_fails_under_its_mapping_is_named",
            ])
            .arg("--nocapture")
            .env(CHILD, file.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(EXIT_STATUS), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(file.path().to_str().unwrap()), "{said}");
    }
}
