//! `loadgen run`: files, servers of their own, turns, and what is left behind.

mod support;

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::{free_address, loadgen};

/// A run of `load` against a server of its own, which listens at the address that is returned.
fn write(dir: &Path, name: &str, load: &str, server: &str) -> (PathBuf, SocketAddr) {
    let (smtp, http) = (free_address(), free_address());
    let text = format!(
        "command = \"smtp\"\ntarget = \"{smtp}\"\nusers = 4\nconnections = 4\n{load}\n[server]\n\
         start = '\"$BIN/ringpost\" serve --data \"$DATA\" --processors 0 --smtp {smtp} --http {http} \
         --lmtp none --pop3 none --imap none {server}'\nready = \"{smtp}\"\nsetup = '\"$BIN/ringpost\" account \
         generate --data \"$DATA\" --users 4 --prefix u --domain bench.test --password pw'\n"
    );
    let path = dir.join(name);
    std::fs::write(&path, text).expect("written");
    (path, smtp)
}

fn run(words: &mut Command) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = words.output().expect("loadgen");
    let (out, err) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    let text = format!("{out}{err}");
    (
        status.code().unwrap_or_else(|| panic!("killed: {text}")),
        text,
    )
}

fn is_up(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn targets_take_turns_and_are_compared() {
    let dir = tempfile::tempdir().expect("a folder");
    let (a, at_a) = write(dir.path(), "a.toml", "count = 50", "--sync-level 0");
    let (b, at_b) = write(dir.path(), "b.toml", "count = 50", "--sync-level 1");
    let results = dir.path().join("results");
    let (status, text) = run(loadgen()
        .arg("run")
        .arg(&a)
        .arg("--interleave")
        .arg(&b)
        .args(["--repeat", "2", "--results"])
        .arg(&results));
    assert_eq!(status, 0, "{text}");
    assert_eq!(names(&results), ["a-1", "a-2", "b-1", "b-2", "compare"]);
    assert!(!is_up(at_a) && !is_up(at_b), "a server was left behind");
    let order: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once(": ")?.0.rsplit('/').next())
        .filter(|name| ["a-1", "a-2", "b-1", "b-2"].contains(name))
        .collect();
    assert_eq!(order, ["a-1", "b-1", "b-2", "a-2"], "{text}");
    assert!(text.contains("cannot tell: too few runs"), "{text}");
    for run in ["a-1", "b-2"] {
        let folder = results.join(run);
        let wanted = [
            "hdr.log",
            "output.txt",
            "report.html",
            "run.json",
            "samples.jsonl",
            "server.log",
            "summary.json",
            "timeline.jsonl",
        ];
        assert_eq!(names(&folder), wanted);
        let log = std::fs::read_to_string(folder.join("server.log")).expect("a log");
        assert!(log.contains("listens"), "{log}");
        let summary = std::fs::read_to_string(folder.join("summary.json")).expect("a summary");
        let json: serde_json::Value = serde_json::from_str(&summary).expect("JSON");
        assert_eq!(json["done"], 50);
        assert!(
            json["run"]["machine"]["server_data"]["filesystem"].is_string(),
            "{summary}"
        );
        let samples = std::fs::read_to_string(folder.join("samples.jsonl")).expect("samples");
        assert!(samples.contains("\"name\":\"ringpost\""), "{samples}");
    }
    // The folder can be compared again, and is not written to again.
    let (status, again) = run(loadgen().arg("compare").arg(&results));
    assert!(status == 0 && again.contains("a (2 runs)"), "{again}");
    let (status, text) = run(loadgen().arg("run").arg(&a).arg("--results").arg(&results));
    assert!(status == 2 && text.contains("never overwritten"), "{text}");
}

#[test]
fn a_server_that_does_not_start_is_told_with_what_it_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let (a, _) = write(dir.path(), "a.toml", "count = 5", "--no-such-flag");
    let results = dir.path().join("results");
    let (status, text) = run(loadgen().arg("run").arg(&a).arg("--results").arg(&results));
    assert_eq!(status, 2, "{text}");
    assert!(
        text.contains("a: server.start: it ended") && text.contains("--no-such-flag"),
        "{text}"
    );
}

#[test]
fn an_interrupted_series_leaves_no_server() {
    let dir = tempfile::tempdir().expect("a folder");
    let (a, at) = write(dir.path(), "a.toml", "duration = \"10m\"", "");
    let results = dir.path().join("results");
    let child = loadgen()
        .arg("run")
        .arg(&a)
        .arg("--results")
        .arg(&results)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("loadgen");
    let began = Instant::now();
    // The run itself is under way once it has seen its first second.
    let timeline = results.join("a-1/timeline.jsonl");
    while std::fs::metadata(&timeline).map_or(0, |file| file.len()) == 0 {
        assert!(began.elapsed() < Duration::from_secs(120), "no run begins");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("told");
    let output = child.wait_with_output().expect("ended");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("interrupted"), "{text}");
    assert!(!is_up(at), "the server was left behind");
    // What was measured until then is kept.
    assert!(results.join("a-1/report.html").exists());
    assert!(!results.join("a-1.data").exists());
}
