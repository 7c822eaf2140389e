//! A process and those it started, from /proc.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Processes of one tree that are looked at; a mail server with more is not measured by this.
const PROCESSES_MAX: usize = 10_000;
/// Threads of one process whose context switches are added up.
const THREADS_MAX: usize = 4096;

/// What a process tree has used since it was started, and what it holds now. What the kernel does
/// not tell (another user's process) is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// As the kernel calls the process: at most 15 bytes.
    pub name: String,
    /// Processes.
    pub processes: u32,
    /// CPU seconds in user mode, of children that have ended as well.
    pub cpu_user_s: f64,
    /// CPU seconds in the kernel, of children that have ended as well.
    pub cpu_system_s: f64,
    /// Resident memory in bytes; pages that processes share count in each.
    pub rss_bytes: Option<u64>,
    /// Threads, those of io_uring included.
    pub threads: Option<u64>,
    /// Open descriptors.
    pub descriptors: Option<u64>,
    /// Bytes read from disks.
    pub read_bytes: Option<u64>,
    /// Bytes written to disks, or to be.
    pub write_bytes: Option<u64>,
    /// Context switches because a thread waited; of threads that live.
    pub switches_voluntary: Option<u64>,
    /// Context switches because another's turn came; of threads that live.
    pub switches_involuntary: Option<u64>,
}

impl Usage {
    /// User and system.
    pub fn cpu_s(&self) -> f64 {
        self.cpu_user_s + self.cpu_system_s
    }

    fn add(&mut self, other: &Usage) {
        let sum = |mine: &mut Option<u64>, theirs: Option<u64>| {
            if let Some(theirs) = theirs {
                *mine = Some(mine.unwrap_or_default() + theirs);
            }
        };
        self.processes += other.processes;
        self.cpu_user_s += other.cpu_user_s;
        self.cpu_system_s += other.cpu_system_s;
        sum(&mut self.rss_bytes, other.rss_bytes);
        sum(&mut self.threads, other.threads);
        sum(&mut self.descriptors, other.descriptors);
        sum(&mut self.read_bytes, other.read_bytes);
        sum(&mut self.write_bytes, other.write_bytes);
        sum(&mut self.switches_voluntary, other.switches_voluntary);
        sum(&mut self.switches_involuntary, other.switches_involuntary);
    }
}

/// What process `pid` uses; with `tree`, those it started are added.
///
/// # Errors
/// When there is no such process.
pub fn usage(pid: u32, tree: bool) -> Result<Usage, String> {
    let mut usage = single(pid, tree)?;
    let mut next = if tree { children(pid) } else { Vec::new() };
    while let Some(child) = next.pop() {
        // A child may end while we look; what it used is in its parent's figures then.
        if let Ok(found) = single(child, tree) {
            usage.add(&found);
            next.extend(children(child));
        }
        if usage.processes as usize >= PROCESSES_MAX {
            break;
        }
    }
    Ok(usage)
}

fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for task in entries(Path::new(&format!("/proc/{pid}/task"))).take(THREADS_MAX) {
        let text = fs::read_to_string(task.join("children")).unwrap_or_default();
        found.extend(
            text.split_ascii_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    found
}

fn entries(path: &Path) -> impl Iterator<Item = std::path::PathBuf> + use<> {
    let entries = fs::read_dir(path).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

/// One process; `ended`: with the CPU of its children that have ended.
fn single(pid: u32, ended: bool) -> Result<Usage, String> {
    let dir = format!("/proc/{pid}");
    let stat = fs::read_to_string(format!("{dir}/stat"))
        .map_err(|e| format!("there is no process {pid}: {e}"))?;
    let status = fs::read_to_string(format!("{dir}/status")).unwrap_or_default();
    let io = fs::read_to_string(format!("{dir}/io")).unwrap_or_default();
    let mut usage =
        parse_stat(&stat, ended).ok_or_else(|| format!("{dir}/stat is not understood: {stat}"))?;
    usage.rss_bytes = field(&status, "VmRSS:").map(|kib| kib * 1024);
    usage.threads = field(&status, "Threads:");
    usage.read_bytes = field(&io, "read_bytes:");
    usage.write_bytes = field(&io, "write_bytes:");
    let descriptors = Path::new(&dir).join("fd");
    if fs::read_dir(&descriptors).is_ok() {
        usage.descriptors = Some(entries(&descriptors).count() as u64);
    }
    // The status of a process has the switches of its first thread only.
    for task in entries(&Path::new(&dir).join("task")).take(THREADS_MAX) {
        let status = fs::read_to_string(task.join("status")).unwrap_or_default();
        for (name, sum) in [
            ("voluntary_ctxt_switches:", &mut usage.switches_voluntary),
            (
                "nonvoluntary_ctxt_switches:",
                &mut usage.switches_involuntary,
            ),
        ] {
            if let Some(number) = field(&status, name) {
                *sum = Some(sum.unwrap_or_default() + number);
            }
        }
    }
    Ok(usage)
}

/// proc_pid_stat(5): the name is in parentheses and may hold anything.
fn parse_stat(text: &str, ended: bool) -> Option<Usage> {
    let (_, rest) = text.split_once('(')?;
    let (name, rest) = rest.rsplit_once(')')?;
    // The first of these is field 3.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let seconds = |field: usize| Some(fields.get(field - 3)?.parse::<i64>().ok()? as f64 / ticks);
    let mut usage = Usage {
        name: name.to_owned(),
        processes: 1,
        cpu_user_s: seconds(14)?,
        cpu_system_s: seconds(15)?,
        ..Usage::default()
    };
    if ended {
        usage.cpu_user_s += seconds(16)?;
        usage.cpu_system_s += seconds(17)?;
    }
    Some(usage)
}

/// The number behind `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 100 25 20 0 3 0 1 2 3";
        let usage = parse_stat(stat, false).expect("parsed");
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(usage.name, "a) b (c)");
        assert_eq!(usage.cpu_s(), 300.0 / ticks);
        assert_eq!(
            parse_stat(stat, true).expect("parsed").cpu_s(),
            425.0 / ticks
        );
        assert_eq!(parse_stat("7 (cut off", false), None);
        assert_eq!(parse_stat("7 (short) S 1", false), None);
    }

    #[test]
    fn children_are_added() {
        // `sleep` is a child of the shell only while the shell waits for it.
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 60; true"])
            .spawn()
            .expect("a shell");
        let found = loop {
            let found = usage(shell.id(), true).expect("it lives");
            if found.processes == 2 {
                break found;
            }
            std::thread::yield_now();
        };
        assert!(
            found.descriptors.is_some_and(|count| count >= 2),
            "{found:?}"
        );
        let inner = children(shell.id());
        shell.kill().expect("ended");
        shell.wait().expect("waited");
        for pid in inner {
            let pid = rustix::process::Pid::from_raw(pid as i32).expect("a pid");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("ended");
        }
        assert!(usage(shell.id(), true).is_err());
    }
}
