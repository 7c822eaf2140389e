//! Which mount a path is on, and whether reading there writes access times [N31, N39].

use std::io;
use std::path::{Path, PathBuf};

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// Such as `ext4`.
    pub filesystem: String,
    /// The device or what stands for one.
    pub source: String,
    /// Options of the mount point, such as `rw` and `noatime`.
    pub options: Vec<String>,
}

/// The mount that holds `path`, which exists.
///
/// # Errors
/// When the path or the kernel's table cannot be read.
pub fn mount_of(path: &Path) -> io::Result<Option<Mount>> {
    let path = path.canonicalize()?;
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(find(&String::from_utf8_lossy(&table), &path))
}

/// What to tell the operator when the mount that holds `path` updates access times; `None`: it does
/// not, or that cannot be told.
pub fn noatime_warning(path: &Path) -> Option<String> {
    warning(&mount_of(path).ok()??)
}

fn warning(mount: &Mount) -> Option<String> {
    let has = |option: &str| mount.options.iter().any(|o| o == option);
    // A read-only mount updates nothing.
    if has("noatime") || has("ro") {
        return None;
    }
    Some(format!(
        "{} ({} on {}) is mounted without noatime; the server's own reads leave access times alone, \
         those of others (backups, searches) cost a write each: add noatime to its mount options",
        mount.point.display(),
        mount.filesystem,
        mount.source
    ))
}

/// The deepest mount above `path`; of several on one point the last one covers the others.
fn find(table: &str, path: &Path) -> Option<Mount> {
    table
        .lines()
        .filter_map(parse)
        .filter(|mount| path.starts_with(&mount.point))
        .reduce(|best, next| {
            let deeper = next.point.components().count() >= best.point.components().count();
            if deeper { next } else { best }
        })
}

/// A line of `/proc/self/mountinfo`, see proc_pid_mountinfo(5):
/// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG...] - FILESYSTEM SOURCE OPTIONS`.
fn parse(line: &str) -> Option<Mount> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(4);
    let mut filesystem = filesystem.split(' ');
    Some(Mount {
        point: PathBuf::from(unescape(mount.next()?)),
        options: mount.next()?.split(',').map(str::to_owned).collect(),
        filesystem: filesystem.next()?.to_owned(),
        source: unescape(filesystem.next()?),
    })
}

/// Space, tab, line end and backslash stand as three octal digits behind a backslash.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let code = after.get(..3).and_then(|d| u8::from_str_radix(d, 8).ok());
        match code.filter(u8::is_ascii) {
            Some(code) => {
                out.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 8:2 / /var/mail rw,noatime shared:2 master:1 - xfs /dev/sdb1 rw,attr2
31 22 8:3 / /var/mail\\040two rw,nosuid - ext4 /dev/sdc1 rw
32 22 0:40 / /srv rw - tmpfs tmpfs rw
33 32 0:41 / /srv ro - btrfs /dev/sdd rw
nonsense
";

    #[test]
    fn the_deepest_and_last_mount_counts() {
        let point = |path: &str| find(TABLE, Path::new(path)).expect(path);
        assert_eq!(point("/home").source, "/dev/sda1");
        assert_eq!(point("/var/mail/data").source, "/dev/sdb1");
        assert_eq!(point("/var/mailbox").source, "/dev/sda1");
        assert_eq!(point("/var/mail two/x").point, Path::new("/var/mail two"));
        assert_eq!(point("/srv/x").filesystem, "btrfs");
    }

    #[test]
    fn only_a_mount_that_writes_access_times_is_warned_of() {
        let text = |path: &str| warning(&find(TABLE, Path::new(path)).expect(path));
        let warned = text("/var/mail two/x").expect("no noatime");
        assert!(warned.starts_with("/var/mail two (ext4 on /dev/sdc1) is mounted without noatime"));
        assert_eq!(text("/var/mail/data"), None);
        assert_eq!(text("/srv/x"), None);
        assert!(text("/home").is_some());
    }

    #[test]
    fn this_machine_has_a_root() {
        let mount = mount_of(Path::new("/proc"))
            .expect("read")
            .expect("mounted");
        assert_eq!(mount.point, Path::new("/proc"));
    }
}
