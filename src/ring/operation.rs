//! One operation in flight: what the kernel may still touch, and who waits for the end.

use std::ffi::CString;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::task::Waker;
use std::time::Instant;

use super::Token;
use super::blocks::Blocks;
use crate::config::SyncLevel;

/// An operation in the driver's table. Everything that its entry points to lives on the heap, so
/// the table may move it.
pub(super) struct Operation {
    /// Tells apart the users of a slot of the table.
    pub generation: u32,
    pub work: Work,
}

pub(super) enum Work {
    Accept {
        token: Token,
    },
    Recv {
        token: Token,
    },
    Send {
        token: Token,
        socket: RawFd,
        bytes: Vec<u8>,
        sent: usize,
    },
    File(FileWork),
}

/// An operation that a future waits for.
pub(super) struct FileWork {
    pub kind: FileKind,
    /// The result, once it is there; a count or a descriptor, errors negative.
    pub result: Option<i32>,
    /// Who waits.
    pub waker: Option<Waker>,
    /// Nobody waits any more: forget it when it ends.
    pub abandoned: bool,
}

impl FileWork {
    pub fn new(kind: FileKind) -> FileWork {
        FileWork {
            kind,
            result: None,
            waker: None,
            abandoned: false,
        }
    }

    /// Gives up what nobody has taken: the descriptor of an open.
    pub fn discard(self) {
        if let (FileKind::Open { .. }, Some(fd @ 0..)) = (self.kind, self.result) {
            // SAFETY: the kernel has given us this descriptor, and nobody else knows it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

pub(super) enum FileKind {
    /// Done in one step, its result is a descriptor.
    Open {
        path: CString,
        flags: i32,
        mode: u32,
    },
    /// Rename: done in one step.
    Rename {
        from: CString,
        to: CString,
    },
    /// Unlink: done in one step.
    Unlink {
        path: CString,
    },
    /// Mkdir: done in one step.
    Mkdir {
        path: CString,
        mode: u32,
    },
    /// Fallocate: done in one step.
    Allocate {
        file: RawFd,
        mode: i32,
        offset: u64,
        length: u64,
    },
    /// Done when `length` bytes are there, or at the end of the file.
    Read {
        file: RawFd,
        offset: u64,
        length: usize,
        bytes: Vec<u8>,
    },
    Write(Write),
    Sync {
        file: RawFd,
        level: SyncLevel,
        begun: Instant,
    },
}

/// A write and its linked sync: two entries, of which one completes.
pub(super) struct Write {
    pub file: RawFd,
    pub offset: u64,
    pub bytes: Vec<u8>,
    /// A copy of the bytes where the kernel wants them aligned.
    pub aligned: Option<Blocks>,
    pub written: usize,
    pub level: SyncLevel,
    pub begun: Instant,
}

impl Write {
    /// What the kernel is to write.
    pub fn source(&self) -> &[u8] {
        match &self.aligned {
            Some(copy) => copy,
            None => &self.bytes,
        }
    }
}
