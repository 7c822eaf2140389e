//! Submission entries for the operations that this project uses.
//!
//! Building an entry is safe; pushing it is not (see [`super::Uring::push`]), because the kernel
//! follows its pointers later.

use std::ffi::CStr;
use std::os::fd::RawFd;

use io_uring::squeue::{Entry, Flags};
use io_uring::{opcode, types};

use crate::config::SyncLevel;

/// Bytes that one read, write or send entry moves at most: what is larger is continued.
pub const TRANSFER_BYTES_MAX: usize = 1 << 30;

/// Accepts connections until cancelled, close-on-exec, one completion each.
pub fn accept_multishot(listener: RawFd) -> Entry {
    opcode::AcceptMulti::new(types::Fd(listener))
        .flags(libc::SOCK_CLOEXEC)
        .build()
}

/// Receives into buffers of group [`super::BufferRing::GROUP`] until cancelled, until the peer
/// shuts its side, or until the buffers run out.
pub fn recv_multishot(socket: RawFd) -> Entry {
    opcode::RecvMulti::new(types::Fd(socket), super::BufferRing::GROUP).build()
}

/// Sends all of `bytes` where the kernel can (`MSG_WAITALL`); a short count is possible all the
/// same, and more than [`TRANSFER_BYTES_MAX`] is never sent at once.
pub fn send(socket: RawFd, bytes: &[u8]) -> Entry {
    opcode::Send::new(types::Fd(socket), bytes.as_ptr(), clamp(bytes.len()))
        .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
        .build()
}

/// Connects to an address that must stay where it is until the completion.
pub fn connect(socket: RawFd, address: *const libc::sockaddr, bytes: libc::socklen_t) -> Entry {
    opcode::Connect::new(types::Fd(socket), address, bytes).build()
}

/// Reads into spare memory of `length` bytes at `into`.
pub fn read(file: RawFd, offset: u64, into: *mut u8, length: usize) -> Entry {
    opcode::Read::new(types::Fd(file), into, clamp(length))
        .offset(offset)
        .build()
}

/// Writes `bytes` at `offset`.
pub fn write(file: RawFd, offset: u64, bytes: &[u8]) -> Entry {
    opcode::Write::new(types::Fd(file), bytes.as_ptr(), clamp(bytes.len()))
        .offset(offset)
        .build()
}

/// `fdatasync` or `fsync` of a whole file; nothing at level 0.
pub fn sync(file: RawFd, level: SyncLevel) -> Option<Entry> {
    let flags = match level {
        SyncLevel::None => return None,
        SyncLevel::Fdatasync => types::FsyncFlags::DATASYNC,
        SyncLevel::Fsync => types::FsyncFlags::empty(),
    };
    Some(opcode::Fsync::new(types::Fd(file)).flags(flags).build())
}

/// Completes whenever `eventfd` is written to, until cancelled.
pub fn watch_multishot(eventfd: RawFd) -> Entry {
    opcode::PollAdd::new(types::Fd(eventfd), libc::POLLIN as u32)
        .multi(true)
        .build()
}

/// Cancels the operation with this user data. Its own completion comes only if it found nothing
/// to cancel.
pub fn cancel(user_data: u64) -> Entry {
    opcode::AsyncCancel::new(user_data)
        .build()
        .flags(Flags::SKIP_SUCCESS)
}

/// Cancels whatever is in flight.
pub fn cancel_everything() -> Entry {
    opcode::AsyncCancel2::new(types::CancelBuilder::any())
        .build()
        .flags(Flags::SKIP_SUCCESS)
}

/// `openat`, always close-on-exec.
pub fn open(path: &CStr, flags: i32, mode: u32) -> Entry {
    opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr())
        .flags(flags | libc::O_CLOEXEC)
        .mode(mode)
        .build()
}

/// `fallocate`.
pub fn allocate(file: RawFd, mode: i32, offset: u64, length: u64) -> Entry {
    opcode::Fallocate::new(types::Fd(file), length)
        .offset(offset)
        .mode(mode)
        .build()
}

/// `renameat`, over what is at `to`.
pub fn rename(from: &CStr, to: &CStr) -> Entry {
    let here = types::Fd(libc::AT_FDCWD);
    opcode::RenameAt::new(here, from.as_ptr(), here, to.as_ptr()).build()
}

/// `unlinkat` of a file.
pub fn unlink(path: &CStr) -> Entry {
    opcode::UnlinkAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).build()
}

/// `mkdirat`.
pub fn mkdir(path: &CStr, mode: u32) -> Entry {
    opcode::MkDirAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr())
        .mode(mode)
        .build()
}

fn clamp(length: usize) -> u32 {
    length.min(TRANSFER_BYTES_MAX) as u32
}
