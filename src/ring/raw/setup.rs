//! How an io_uring is made: the flags worth having, what falls back to what, and an explanation
//! when the kernel refuses.

use std::ffi::CStr;
use std::io;

use io_uring::{IoUring, Probe, opcode};

/// Oldest kernel supported: deferred task work, multishot receive with provided buffer rings.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// How a ring is made.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Submission entries; completions get four times as many.
    pub entries: u32,
    /// Provided receive buffers: a power of two up to 32768, or 0 for none.
    pub buffers: u16,
    /// Bytes of each.
    pub buffer_bytes: usize,
    /// Io workers are bound to this CPU. `None`: they run where the kernel likes.
    pub cpu: Option<usize>,
    /// At most so many io workers for files (the kernel's "bounded" ones), 0: the kernel's choice.
    pub workers_max: u32,
}

type Flag = fn(&mut io_uring::Builder);

/// Flags in the order in which they are given up, with what that means. All but the first are in
/// Linux 6.1, but a backport or a sandbox may know fewer.
const OPTIONAL: [(&str, Flag); 4] = [
    (
        "no submission index array (Linux 6.6): one more memory read per submission",
        |builder| {
            builder.setup_no_sqarray();
        },
    ),
    (
        "deferred task work (Linux 6.1): completions may interrupt running work",
        |builder| {
            builder.setup_defer_taskrun();
        },
    ),
    (
        "single issuer (Linux 6.0): some more locking in the kernel",
        |builder| {
            builder.setup_single_issuer();
        },
    ),
    (
        "cooperative task work (Linux 5.19): completions interrupt running work",
        |builder| {
            builder.setup_taskrun_flag();
        },
    ),
];

/// Operations without which there is no server.
const NEEDED: [(&str, u8); 14] = [
    ("accept", opcode::Accept::CODE),
    ("recv", opcode::Recv::CODE),
    ("send", opcode::Send::CODE),
    ("connect", opcode::Connect::CODE),
    ("async cancel", opcode::AsyncCancel::CODE),
    ("openat", opcode::OpenAt::CODE),
    ("read", opcode::Read::CODE),
    ("write", opcode::Write::CODE),
    ("fsync", opcode::Fsync::CODE),
    ("fallocate", opcode::Fallocate::CODE),
    ("renameat", opcode::RenameAt::CODE),
    ("unlinkat", opcode::UnlinkAt::CODE),
    ("mkdirat", opcode::MkDirAt::CODE),
    ("timeout", opcode::Timeout::CODE),
];

/// The kernel's release as `uname -r` prints it.
pub fn kernel_release() -> String {
    // SAFETY: `utsname` is plain bytes, for which zero is a value, and `uname` fills it.
    let name = unsafe {
        let mut name: libc::utsname = std::mem::zeroed();
        if libc::uname(&raw mut name) != 0 {
            return String::from("unknown");
        }
        name
    };
    // SAFETY: the kernel ends the field with a NUL inside its 65 bytes.
    let release = unsafe { CStr::from_ptr(name.release.as_ptr()) };
    release.to_string_lossy().into_owned()
}

/// Is this kernel new enough?
///
/// # Errors
/// A text that says which is running and which is needed.
pub fn check_kernel(release: &str) -> io::Result<()> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|digits| digits.parse::<u32>().ok());
    // A release that does not start with two numbers is not ours to judge: set-up will tell.
    let (Some(major), Some(minor)) = (number(), number()) else {
        return Ok(());
    };
    if (major, minor) >= KERNEL_MIN {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!(
            "Linux {release} is too old: {}.{} or newer is needed (io_uring with deferred task \
             work, multishot receive and provided buffer rings)",
            KERNEL_MIN.0, KERNEL_MIN.1
        ),
    ))
}

/// Makes the ring with as many of the flags as the kernel takes; `fallbacks` gets a line for each
/// that it does not.
pub(super) fn build(setup: &Setup, fallbacks: &mut Vec<String>) -> io::Result<IoUring> {
    let mut given_up = 0;
    let ring = loop {
        let mut builder = IoUring::builder();
        builder
            .setup_cqsize(setup.entries.saturating_mul(4))
            .setup_clamp()
            .setup_submit_all()
            .dontfork();
        let wanted = &OPTIONAL[given_up..];
        for (_, set) in wanted {
            set(&mut builder);
        }
        // Without deferral, work still waits for the next system call rather than interrupt us;
        // the task-work flag needs the one or the other.
        if (2..OPTIONAL.len()).contains(&given_up) {
            builder.setup_coop_taskrun();
        }
        match builder.build(setup.entries) {
            Ok(ring) => break ring,
            Err(error)
                if error.raw_os_error() == Some(libc::EINVAL) && given_up < OPTIONAL.len() =>
            {
                given_up += 1;
            }
            Err(error) => return Err(explain(&error)),
        }
    };
    for (what, _) in &OPTIONAL[..given_up] {
        fallbacks.push(format!("io_uring without {what}"));
    }
    check_operations(&ring)?;
    Ok(ring)
}

fn check_operations(ring: &IoUring) -> io::Result<()> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(_, code)| !probe.is_supported(*code))
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!(
            "this kernel's io_uring (Linux {}) lacks: {}",
            kernel_release(),
            missing.join(", ")
        ),
    ))
}

/// Turns the refusal of `io_uring_setup` into something that an operator can act on.
fn explain(error: &io::Error) -> io::Error {
    let advice = match error.raw_os_error() {
        Some(libc::ENOSYS) => {
            "this kernel has no io_uring (CONFIG_IO_URING), or a sandbox hides it: in a container, \
             allow the system calls io_uring_setup, io_uring_enter and io_uring_register"
        }
        Some(libc::EPERM | libc::EACCES) => match disabled_by_sysctl() {
            Some(2) => "sysctl kernel.io_uring_disabled is 2: set it to 0",
            Some(1) => {
                "sysctl kernel.io_uring_disabled is 1: set it to 0, or add the server's group to \
                 kernel.io_uring_group"
            }
            _ => {
                "a seccomp filter or security module forbids it: in a container, allow the system \
                 calls io_uring_setup, io_uring_enter and io_uring_register"
            }
        },
        Some(libc::ENOMEM) => {
            "not enough memory may be locked: raise the limit (ulimit -l, LimitMEMLOCK=)"
        }
        Some(libc::EMFILE | libc::ENFILE) => "no descriptors left: raise the limit (ulimit -n)",
        _ => "the kernel refuses the ring's settings",
    };
    io::Error::new(
        error.kind(),
        format!("cannot use io_uring ({error}): {advice}"),
    )
}

fn disabled_by_sysctl() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    text.trim().parse().ok()
}

/// Binds the ring's io workers to one CPU and bounds them; what is refused is said.
pub(super) fn bind_workers_to(
    ring: &IoUring,
    cpu: Option<usize>,
    workers_max: u32,
    fallbacks: &mut Vec<String>,
) {
    if let Some(cpu) = cpu {
        let bound = if cpu < libc::CPU_SETSIZE as usize {
            // SAFETY: `cpu_set_t` is a plain bit set, for which zero is a value, and `cpu` is
            // below its size.
            let set = unsafe {
                let mut set: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(cpu, &mut set);
                set
            };
            ring.submitter().register_iowq_aff(&set)
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        };
        if let Err(error) = bound {
            fallbacks.push(format!(
                "io workers are not bound to CPU {cpu} ({error}): file work may run elsewhere"
            ));
        }
    }
    if workers_max > 0 {
        // The second number bounds workers for sockets, which have no reason to exist: sockets are
        // polled. A few are left for what the kernel may still hand to them.
        let mut limits = [workers_max, 4];
        if let Err(error) = ring.submitter().register_iowq_max_workers(&mut limits) {
            fallbacks.push(format!("io workers are not bounded ({error})"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_6_1_are_refused_by_name() {
        assert!(check_kernel("6.1.0-18-amd64").is_ok());
        assert!(check_kernel("10.0").is_ok());
        assert!(check_kernel("weird").is_ok());
        let error = check_kernel("5.15.0-91-generic").unwrap_err().to_string();
        assert!(
            error.contains("5.15.0-91-generic") && error.contains("6.1"),
            "{error}"
        );
        assert!(check_kernel("6.0.12").is_err());
    }

    #[test]
    fn refusals_say_what_to_do() {
        let text = |code| explain(&io::Error::from_raw_os_error(code)).to_string();
        assert!(text(libc::ENOSYS).contains("container"));
        assert!(text(libc::ENOMEM).contains("ulimit -l"));
        assert!(text(libc::EPERM).contains("io_uring"));
    }
}
