//! Receive buffers that the kernel picks from when bytes arrive, so that an idle connection holds
//! none.
//!
//! Guarantees: a buffer is either the kernel's or one [`Lease`]'s; dropping the lease gives it
//! back, without a system call. The memory outlives every lease and the ring.
//! Does not know: connections.
//! On failure: when all buffers are leased out, receives end with `ENOBUFS`; nothing is lost, the
//! bytes wait in the socket.

use std::cell::Cell;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// Pages given by the kernel, page-aligned and zeroed; unmapped on drop.
struct Pages {
    start: NonNull<u8>,
    bytes: usize,
}

impl Pages {
    fn new(bytes: usize) -> io::Result<Pages> {
        // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no
        // memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Pages { start, bytes })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and nothing refers to it: the
        // kernel's registration ended with the ring, and leases keep the pages alive.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// A ring of provided buffers, all of one size. Memory is touched only when used.
pub struct BufferRing {
    entries: Pages,
    memory: Pages,
    count: u16,
    buffer_bytes: usize,
    /// Next slot to fill, as the kernel sees it after a release store.
    tail: Cell<u16>,
    leased: Cell<u16>,
}

impl BufferRing {
    /// The only buffer group in use.
    pub const GROUP: u16 = 0;

    /// `count` buffers (a power of two, at most 32768) of `buffer_bytes` each. The kernel does not
    /// know of them yet: [`super::Uring`] registers them.
    pub(super) fn new(count: u16, buffer_bytes: usize) -> io::Result<BufferRing> {
        if !count.is_power_of_two() || count > 1 << 15 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{count} receive buffers: must be a power of two, from 1 to {}",
                    1 << 15
                ),
            ));
        }
        if buffer_bytes == 0 || buffer_bytes > 1 << 24 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("receive buffers of {buffer_bytes} bytes: must be 1 to 16777216"),
            ));
        }
        let entries = Pages::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Pages::new(usize::from(count) * buffer_bytes)?;
        let ring = BufferRing {
            entries,
            memory,
            count,
            buffer_bytes,
            tail: Cell::new(0),
            leased: Cell::new(0),
        };
        for id in 0..count {
            ring.give(id);
        }
        Ok(ring)
    }

    pub(super) fn entries_address(&self) -> u64 {
        self.entries.start.as_ptr() as u64
    }

    /// How many buffers there are.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// How many of them are leased out now.
    pub fn leased(&self) -> u16 {
        self.leased.get()
    }

    fn buffer(&self, id: u16) -> *mut u8 {
        debug_assert!(id < self.count);
        // SAFETY: `id < count`, so the offset stays inside the mapping of `count` buffers.
        unsafe {
            self.memory
                .start
                .as_ptr()
                .add(usize::from(id) * self.buffer_bytes)
        }
    }

    /// Takes what the kernel has received into buffer `id`.
    ///
    /// # Panics
    /// When the kernel names a buffer that it was never given.
    pub(super) fn lease(self: &Rc<Self>, id: u16, length: usize) -> Lease {
        assert!(
            id < self.count && length <= self.buffer_bytes,
            "the kernel named a foreign receive buffer"
        );
        self.leased.set(self.leased.get() + 1);
        Lease {
            buffers: Rc::clone(self),
            id,
            length: length as u32,
        }
    }

    fn give(&self, id: u16) {
        let tail = self.tail.get();
        let slot = usize::from(tail & (self.count - 1));
        let base = self.entries.start.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `slot < count` entries are mapped; the kernel reads a slot only below the tail
        // that is published after it, and this thread is the only writer.
        unsafe {
            let entry = &mut *base.add(slot);
            entry.set_addr(self.buffer(id) as u64);
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(id);
        }
        let tail = tail.wrapping_add(1);
        self.tail.set(tail);
        // SAFETY: `base` is the page-aligned start of the ring; its tail is a mapped, aligned u16
        // that the kernel only reads, so an atomic store through it is a plain publication.
        let published = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(base).cast_mut()) };
        published.store(tail, Ordering::Release);
    }
}

/// Received bytes in a provided buffer, which goes back to the kernel on drop.
pub struct Lease {
    buffers: Rc<BufferRing>,
    id: u16,
    length: u32,
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: until the drop the buffer is this lease's alone, and the kernel has written
        // `length <= buffer_bytes` bytes of it.
        unsafe { std::slice::from_raw_parts(self.buffers.buffer(self.id), self.length as usize) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.buffers.leased.set(self.buffers.leased.get() - 1);
        self.buffers.give(self.id);
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease({} bytes in buffer {})", self.length, self.id)
    }
}
