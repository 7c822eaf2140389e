//! The limit of open descriptors: found, raised, and kept away from [C6, C13].

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than this is of no use to us: "never unlimited" [C13].
const WANTED: u64 = 1 << 20;
/// Below this, connections will be refused early [C13].
const MODEST: u64 = 16_384;
/// Descriptors kept for files, logs and the control socket.
const HEADROOM_MIN: u64 = 64;

/// What was found at start, and what it was raised to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// The soft limit found.
    pub found_soft: u64,
    /// The hard limit found.
    pub found_hard: u64,
    /// The soft limit now.
    pub reached: u64,
}

impl DescriptorLimit {
    /// Raises the soft limit to the hard one, and with the privilege for it the hard one to
    /// `fs.nr_open`, up to 1048576. What is higher already stays.
    ///
    /// # Errors
    /// When the new limit cannot be set although the kernel allows it.
    pub fn raise() -> io::Result<DescriptorLimit> {
        let found = getrlimit(Resource::Nofile);
        let found_soft = found.current.unwrap_or(u64::MAX);
        let found_hard = found.maximum.unwrap_or(u64::MAX);
        let set = |soft: u64, hard: Option<u64>| {
            setrlimit(
                Resource::Nofile,
                Rlimit {
                    current: Some(soft),
                    maximum: hard,
                },
            )
        };
        let beyond = kernel_max().unwrap_or(found_hard).min(WANTED);
        let reached = if found_soft >= WANTED {
            found_soft
        } else if beyond > found_hard && set(beyond, Some(beyond)).is_ok() {
            beyond
        } else {
            // Without the privilege the hard limit is the end.
            let soft = found_hard.min(WANTED);
            set(soft, found.maximum)?;
            soft
        };
        Ok(DescriptorLimit {
            found_soft,
            found_hard,
            reached,
        })
    }

    /// What the operator should do about it; `None`: it is enough.
    pub fn advice(&self) -> Option<String> {
        (self.reached < MODEST).then(|| {
            format!(
                "only {} descriptors may be open, so about {} connections are taken: \
                 raise the hard limit (LimitNOFILE= in the systemd unit) to at least {MODEST}",
                self.reached,
                DescriptorBudget::new(self.reached).connections()
            )
        })
    }
}

impl fmt::Display for DescriptorLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "descriptor limit: found {} (hard {}), ",
            self.found_soft, self.found_hard
        )?;
        if self.reached == self.found_soft {
            f.write_str("kept")
        } else {
            write!(f, "raised to {}", self.reached)
        }
    }
}

/// `fs.nr_open`: what a hard limit can be at most.
fn kernel_max() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/sys/fs/nr_open").ok()?;
    text.trim().parse().ok()
}

/// Tells when a new connection comes too close to the limit.
///
/// The kernel gives out the lowest free number, so a connection's own descriptor tells how many are
/// open: nothing needs to be counted, and nothing is shared between shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorBudget {
    first_refused: u64,
}

impl DescriptorBudget {
    /// For this soft limit: the last 2 % (at least 64) are not for connections.
    pub fn new(limit: u64) -> DescriptorBudget {
        let headroom = (limit / 50).max(HEADROOM_MIN);
        DescriptorBudget {
            first_refused: limit.saturating_sub(headroom),
        }
    }

    /// The connection with this descriptor may be served; otherwise refuse it with the protocol's
    /// "try later", close it, and log why.
    pub fn allows(&self, connection: BorrowedFd<'_>) -> bool {
        u64::try_from(connection.as_raw_fd()).is_ok_and(|number| number < self.first_refused)
    }

    /// About so many connections can be open at once.
    pub fn connections(&self) -> u64 {
        self.first_refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn keeps_away_from_the_limit() {
        assert_eq!(DescriptorBudget::new(1024).connections(), 1024 - 64);
        assert_eq!(DescriptorBudget::new(100_000).connections(), 98_000);
        assert_eq!(DescriptorBudget::new(10).connections(), 0);
        let file = std::fs::File::open("/dev/null").expect("opened");
        assert!(DescriptorBudget::new(1 << 20).allows(file.as_fd()));
        assert!(!DescriptorBudget::new(64).allows(file.as_fd()));
    }

    #[test]
    fn says_what_it_found_and_reached() {
        let limit = DescriptorLimit {
            found_soft: 1024,
            found_hard: 4096,
            reached: 4096,
        };
        assert_eq!(
            limit.to_string(),
            "descriptor limit: found 1024 (hard 4096), raised to 4096"
        );
        assert!(limit.advice().expect("too few").contains("4096"));
        let enough = DescriptorLimit {
            reached: 524_288,
            found_soft: 524_288,
            ..limit
        };
        assert!(enough.to_string().ends_with("kept"));
        assert_eq!(enough.advice(), None);
    }

    #[test]
    fn raising_reaches_at_least_the_hard_limit_or_what_is_wanted() {
        let limit = DescriptorLimit::raise().expect("raised");
        assert!(limit.reached >= limit.found_soft.min(WANTED));
        assert!(limit.reached >= limit.found_hard.min(WANTED));
        let now = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        assert_eq!(now, limit.reached);
    }
}
