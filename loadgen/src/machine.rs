//! What machine a run was made on, as far as it matters for the figures.
//!
//! Does not know: the machine's name and addresses, so that results can be shown to anybody.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// This program's version, with its commit where it was built from a repository.
pub fn own_version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match option_env!("LOADGEN_COMMIT") {
        Some(commit) => format!("{version} ({commit})"),
        None => version.to_owned(),
    }
}

/// The machine; with the filesystem of `data` if that is given.
pub fn describe(data: Option<&Path>) -> Value {
    let cpuinfo = read("/proc/cpuinfo");
    let meminfo = read("/proc/meminfo");
    let memory_kib =
        value_of(&meminfo, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    let names = rustix::system::uname();
    let hypervisor = value_of(&cpuinfo, "flags")
        .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    json!({
        "cpu": value_of(&cpuinfo, "model name"),
        "cpus": read("/sys/devices/system/cpu/online").trim(),
        "cpu_count": cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
        "virtual_machine": hypervisor,
        "governor": governor(),
        "memory_bytes": memory_kib.map(|kib| kib * 1024),
        "kernel": format!(
            "{} {} {}",
            names.sysname().to_string_lossy(),
            names.release().to_string_lossy(),
            names.machine().to_string_lossy()
        ),
        "system": os_name(&read("/etc/os-release")),
        "server_data": data.map(filesystem),
    })
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value of `name : value`, the first of that name.
fn value_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim())
    })
}

fn os_name(text: &str) -> Option<String> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').to_owned())
}

/// How the CPUs choose their speed; `None` where they do not say (virtual machines mostly).
fn governor() -> Option<String> {
    let text = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The filesystem that `path` is on, how it is mounted, and the disk below it.
fn filesystem(path: &Path) -> Value {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match mount_of(&read("/proc/self/mountinfo"), &real) {
        Some(mount) => {
            let queue = format!("/sys/dev/block/{}", mount.device);
            // A partition's queue is that of its disk.
            let setting = |name: &str| {
                ["queue", "../queue"].iter().find_map(|at| {
                    let text = read(&format!("{queue}/{at}/{name}"));
                    let text = text.trim();
                    (!text.is_empty()).then(|| text.to_owned())
                })
            };
            json!({
                "path": path,
                "filesystem": mount.kind,
                "mounted_from": mount.source,
                "options": mount.options,
                "disk_rotates": setting("rotational").map(|text| text == "1"),
                "disk_cache": setting("write_cache"),
                "disk_scheduler": setting("scheduler"),
            })
        }
        None => json!({ "path": path }),
    }
}

#[derive(Debug, PartialEq)]
struct Mount {
    device: String,
    kind: String,
    source: String,
    options: String,
}

/// proc_pid_mountinfo(5): the mount with the longest path that `path` is in; of equals the last,
/// which hides those before.
fn mount_of(mountinfo: &str, path: &Path) -> Option<Mount> {
    let mut best: Option<(usize, Mount)> = None;
    for line in mountinfo.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else {
            continue;
        };
        let mount: Vec<&str> = mount.split(' ').collect();
        let kind: Vec<&str> = kind.split(' ').collect();
        let (&[_, _, device, _, point, options, ..], &[name, source, more]) =
            (&mount[..], &kind[..])
        else {
            continue;
        };
        // Blanks in paths are written as \040.
        let point = point.replace("\\040", " ");
        let depth = Path::new(&point).components().count();
        if !path.starts_with(&point) || best.as_ref().is_some_and(|(most, _)| depth < *most) {
            continue;
        }
        // Those of the mount, then those of the filesystem that are not among them.
        let mut all: Vec<&str> = options.split(',').collect();
        all.extend(
            more.split(',')
                .filter(|option| !options.split(',').any(|o| o == *option)),
        );
        best = Some((
            depth,
            Mount {
                device: device.to_owned(),
                kind: name.to_owned(),
                source: source.to_owned(),
                options: all.join(","),
            },
        ));
    }
    best.map(|(_, mount)| mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_is_found() {
        let text = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,discard\n\
                    30 21 8:2 / /var/my\\040mail rw,noatime - xfs /dev/sdb rw,inode64\n\
                    31 21 0:5 / /var/my rw - tmpfs tmpfs rw\nbroken\n";
        let mount = mount_of(text, Path::new("/var/my mail/data")).expect("found");
        assert_eq!((mount.kind.as_str(), mount.device.as_str()), ("xfs", "8:2"));
        assert_eq!(mount.options, "rw,noatime,inode64");
        let mount = mount_of(text, Path::new("/var/mail")).expect("found");
        assert_eq!(
            (mount.kind.as_str(), mount.options.as_str()),
            ("ext4", "rw,relatime,discard")
        );
        assert_eq!(mount_of("", Path::new("/")), None);
    }

    #[test]
    fn this_machine_is_described() {
        let found = describe(Some(Path::new("/")));
        assert!(
            found["cpu_count"].as_u64().is_some_and(|count| count > 0),
            "{found}"
        );
        assert!(
            found["memory_bytes"]
                .as_u64()
                .is_some_and(|bytes| bytes > 1 << 20)
        );
        assert!(
            found["kernel"]
                .as_str()
                .is_some_and(|text| text.starts_with("Linux "))
        );
        assert!(found["server_data"]["filesystem"].is_string(), "{found}");
    }
}
