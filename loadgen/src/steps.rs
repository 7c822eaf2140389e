//! What scenarios and populations are made of: runs of `loadgen`, figures of the machine.
//!
//! Guarantees: a run's result file is gone when its result is there.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::target::Target;

/// Why there is no result.
#[derive(Debug, Clone)]
pub enum Obstacle {
    /// The service does not exist, or was not named.
    Absent(String),
    /// It went wrong.
    Broken(String),
}

/// Numbers result files of this process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A run of `loadgen`, begun or over.
#[derive(Debug)]
pub struct Step {
    child: std::process::Child,
    file: PathBuf,
    /// As a user would write it.
    pub command: String,
}

/// What a run of `loadgen` came to.
#[derive(Debug)]
pub struct Ran {
    /// Its results.
    pub json: Value,
    /// All went well.
    pub good: bool,
    /// As a user would write it.
    pub command: String,
}

impl Step {
    /// Starts `loadgen` with these words.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(processors: &str, words: &[String]) -> Result<Step, Obstacle> {
        let broken = |e: std::io::Error| Obstacle::Broken(format!("loadgen: {e}"));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("loadgen-scenario-{}-{number}.json", std::process::id());
        let file = std::env::temp_dir().join(name);
        let child = Command::new(std::env::current_exe().map_err(broken)?)
            .args(words)
            .args(["--processors", processors, "--quiet", "--json"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(broken)?;
        let command = words
            .iter()
            .map(|word| {
                if word.contains([' ', '$', '\'']) {
                    format!("'{word}'")
                } else {
                    word.clone()
                }
            })
            .collect::<Vec<_>>()
            .join(" ");
        Ok(Step {
            child,
            file,
            command: format!("loadgen {command}"),
        })
    }

    /// It has ended.
    pub fn is_over(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it could not run as asked; what it said is in the text.
    pub fn finish(self) -> Result<Ran, Obstacle> {
        let broken = |e: std::io::Error| Obstacle::Broken(format!("loadgen: {e}"));
        let output = self.child.wait_with_output().map_err(broken)?;
        let json = std::fs::read(&self.file)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        // It may never have been written.
        let _ = std::fs::remove_file(&self.file);
        match (output.status.code(), json) {
            (Some(0 | 1), Some(json)) => Ok(Ran {
                json,
                good: output.status.success(),
                command: self.command,
            }),
            _ => Err(Obstacle::Broken(format!(
                "{}: {}",
                self.command,
                crate::recorder::readable(first_line(&output.stderr))
            ))),
        }
    }
}

/// What went wrong stands first; what is allowed after it.
fn first_line(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == b'\n').next().unwrap_or_default()
}

/// Runs `loadgen` with these words.
///
/// # Errors
/// As for [`Step::finish`].
pub fn run(processors: &str, words: &[String]) -> Result<Ran, Obstacle> {
    Step::start(processors, words)?.finish()
}

impl Ran {
    /// A number of the results; 0 where there is none.
    pub fn number(&self, path: &[&str]) -> f64 {
        let value = path
            .iter()
            .try_fold(&self.json, |value, name| value.get(name));
        value.and_then(Value::as_f64).unwrap_or(0.0)
    }

    /// Errors, the most frequent ones, for a note.
    pub fn errors(&self) -> Option<String> {
        let errors = self.json["errors"].as_array()?;
        let words: Vec<String> = errors
            .iter()
            .take(3)
            .map(|error| {
                let text = |name: &str| error[name].as_str().unwrap_or_default();
                format!(
                    "{} x {} at {}: {}",
                    error["count"],
                    text("kind"),
                    text("verb"),
                    text("sample")
                )
            })
            .collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

/// The words of a command line, split at blanks.
pub fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// A service that was named and answers.
///
/// # Errors
/// Says which flag names it, or that nobody listens.
pub fn service<'a>(target: &'a Option<Target>, flag: &str) -> Result<&'a Target, Obstacle> {
    let Some(target) = target else {
        return Err(Obstacle::Absent(format!(
            "not run: name the service with {flag} ADDR:PORT"
        )));
    };
    if let Some(address) = target.tcp() {
        let patience = std::time::Duration::from_secs(5);
        std::net::TcpStream::connect_timeout(&address, patience)
            .map_err(|e| Obstacle::Absent(format!("{flag} {target}: {e}")))?;
    }
    Ok(target)
}

/// Kibibytes of memory that these processes and all their descendants have to themselves (shared
/// pages in parts): PSS, as the kernel counts it.
pub fn memory_kib(roots: &[u32]) -> Option<u64> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit(')').next().unwrap_or_default();
        if let Some(parent) = rest.split_ascii_whitespace().nth(1) {
            parents.push((pid, parent.parse::<u32>().unwrap_or(0)));
        }
    }
    let mut family = roots.to_vec();
    let mut index = 0;
    while index < family.len() {
        let parent = family[index];
        let children = parents.iter().filter(|(_, of)| *of == parent);
        for (child, _) in children {
            if !family.contains(child) {
                family.push(*child);
            }
        }
        index += 1;
    }
    let pss = |pid: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    let sizes: Vec<u64> = family.iter().filter_map(pss).collect();
    (!sizes.is_empty()).then(|| sizes.iter().sum())
}

/// TCP sockets in use and in TIME_WAIT on this machine (`/proc/net/sockstat`).
pub fn sockets() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"));
    let words: Vec<&str> = line.unwrap_or_default().split_ascii_whitespace().collect();
    let of = |name: &str| {
        let at = words.iter().position(|word| *word == name);
        at.and_then(|at| words.get(at + 1)?.parse().ok())
            .unwrap_or(0)
    };
    (of("inuse"), of("tw"))
}

/// Local ports that the kernel may give out.
pub fn ports() -> u64 {
    let text =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut words = text.split_ascii_whitespace().flat_map(str::parse::<u64>);
    match (words.next(), words.next()) {
        (Some(first), Some(last)) if last >= first => last - first + 1,
        _ => 28_232,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_its_figures() {
        assert!(memory_kib(&[std::process::id()]).is_some_and(|kib| kib > 100));
        assert!(ports() > 0);
    }
}
