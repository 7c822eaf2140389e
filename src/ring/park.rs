//! How a shard sleeps, and how another thread wakes it.
//!
//! Guarantees: no wake-up is lost. Whatever happened before a [`Waker::wake`] is seen by the shard
//! after its next [`super::Ring::park`] returns, and that `park` does return.
//! Does not know: what is waited for.
//! On failure: if the eventfd cannot be read, `park` returns at once: the shard spins, and works.
//!
//! One atomic says what the shard is at:
//!
//! ```text
//!   RUNNING ── park, nothing to do ──→ PARKED        asleep on the eventfd
//!      │                                  │
//!    wake                                wake, writes the eventfd
//!      ↓                                  ↓
//!   NOTIFIED ←────────────────────────────┘
//!      └──── park: back to RUNNING, returns at once
//! ```
//!
//! NAPPING is PARKED with another bed: the shard blocks in its own ring for a moment, and the
//! waker rings the bell, which that ring watches.
//!
//! The shard looks at its inboxes after every `park` and before the next; a waker fills an inbox
//! before it wakes. Both put a sequentially consistent fence between their two steps (state after
//! inbox there, inbox after state here), so a waker that finds NOTIFIED and leaves it at that has
//! filled its inbox before the shard, leaving `park`, looks. Without the fence its look at the
//! state could overtake its own store to the inbox.

use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use glommio::io::BufferedFile;

const RUNNING: u32 = 0;
const PARKED: u32 = 1;
const NOTIFIED: u32 = 2;
const NAPPING: u32 = 3;

#[derive(Debug)]
struct Shared {
    state: AtomicU32,
    eventfd: OwnedFd,
    /// Watched by the shard's own ring while it naps; never read.
    bell: OwnedFd,
}

/// Wakes a parked shard from any thread: after pushing to its mesh or inbox, call `wake`.
#[derive(Debug, Clone)]
pub struct Waker {
    shared: Arc<Shared>,
}

impl Waker {
    /// Cheap when the shard is not parked: a fence and a load, or at most one exchange per turn of
    /// the shard. Only a sleeping shard costs a system call.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.shared.state.load(Ordering::Relaxed) == NOTIFIED {
            return;
        }
        let asleep_on = match self.shared.state.swap(NOTIFIED, Ordering::AcqRel) {
            PARKED => Some(&self.shared.eventfd),
            NAPPING => Some(&self.shared.bell),
            _ => None,
        };
        if let Some(eventfd) = asleep_on {
            let one = 1u64;
            // SAFETY: eight bytes are written from a local to an eventfd that we own. It can fail
            // only if its counter is full, when it is readable anyway.
            unsafe {
                libc::write(
                    eventfd.as_raw_fd(),
                    std::ptr::from_ref(&one).cast(),
                    size_of::<u64>(),
                );
            }
        }
    }
}

fn make_eventfd(flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is checked.
    let fd = unsafe { libc::eventfd(0, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The shard's side.
pub(super) struct Parking {
    shared: Arc<Shared>,
    /// The same eventfd for glommio, which closes its files itself.
    file: Rc<BufferedFile>,
    /// A read that has not ended yet: it is kept over wake-ups of another kind.
    read: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Parking {
    pub fn new() -> io::Result<Parking> {
        // It must block: the executor's ring polls it.
        let eventfd = make_eventfd(libc::EFD_CLOEXEC)?;
        // It must not: a full counter is as good as a signal.
        let bell = make_eventfd(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)?;
        let copy = eventfd.try_clone()?;
        // SAFETY: the copy's ownership goes to glommio.
        let file = unsafe { BufferedFile::from_raw_fd(copy.into_raw_fd()) };
        Ok(Parking {
            shared: Arc::new(Shared {
                state: AtomicU32::new(RUNNING),
                eventfd,
                bell,
            }),
            file: Rc::new(file),
            read: None,
        })
    }

    pub fn eventfd(&self) -> RawFd {
        self.shared.eventfd.as_raw_fd()
    }

    pub fn bell(&self) -> RawFd {
        self.shared.bell.as_raw_fd()
    }

    pub fn waker(&self) -> Waker {
        Waker {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Has another thread woken us since the last time? (A look only.)
    pub fn is_notified(&self) -> bool {
        self.shared.state.load(Ordering::Relaxed) == NOTIFIED
    }

    /// Announces sleep; `false` if there was a wake-up, so that there must be none.
    pub fn announce(&self) -> bool {
        self.announce_as(PARKED)
    }

    /// As [`Parking::announce`], for a sleep from which the bell wakes.
    pub fn announce_nap(&self) -> bool {
        self.announce_as(NAPPING)
    }

    fn announce_as(&self, state: u32) -> bool {
        self.shared
            .state
            .compare_exchange(RUNNING, state, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Takes note of waking up, for whatever reason.
    pub fn leave(&self) {
        self.shared.state.swap(RUNNING, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    /// Is the eventfd signalled? Registers the task if not.
    pub fn poll_signal(&mut self, context: &mut std::task::Context<'_>) -> bool {
        let read = self.read.get_or_insert_with(|| {
            let file = Rc::clone(&self.file);
            Box::pin(async move {
                // What it says does not matter, and an error is as good as a signal.
                let _ = file.read_at(0, size_of::<u64>()).await;
            })
        });
        if read.as_mut().poll(context).is_pending() {
            return false;
        }
        self.read = None;
        true
    }
}
