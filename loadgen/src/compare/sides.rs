//! The sides of a comparison: which runs are whose, and what differs between them but the target.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::results::Folder;
use crate::results::folder::is_run;

/// Sides of one comparison; more are not told apart by colour.
pub const SIDES_MAX: usize = 8;
/// Runs of one side.
const RUNS_MAX: usize = super::stats::RUNS_MAX;

/// Runs of one kind.
#[derive(Debug)]
pub struct Side {
    /// What they are called.
    pub name: String,
    /// In the order they were made.
    pub runs: Vec<Folder>,
}

/// The sides that arguments name: each is one or several folders with commas between, a folder is a
/// run or holds runs. One argument whose runs have several names is as many sides.
///
/// # Errors
/// Names the folder that is none of that, and what is wrong with the number of sides.
pub fn sides(arguments: &[String]) -> Result<Vec<Side>, String> {
    let mut sides: Vec<Side> = Vec::new();
    for argument in arguments {
        let mut runs = Vec::new();
        for path in argument.split(',').filter(|path| !path.is_empty()) {
            for dir in folders(Path::new(path))? {
                runs.push(Folder::read(&dir)?);
            }
        }
        runs.sort_by(|a, b| started(a).cmp(started(b)));
        if runs.is_empty() {
            return Err(format!("'{argument}' names no folder of results"));
        }
        if runs.len() > RUNS_MAX * SIDES_MAX {
            return Err(format!("'{argument}' holds {} runs: too many", runs.len()));
        }
        let mut found: Vec<Side> = Vec::new();
        for run in runs {
            match found.iter_mut().find(|side| side.name == run.label()) {
                Some(side) => side.runs.push(run),
                None => found.push(Side {
                    name: run.label().to_owned(),
                    runs: vec![run],
                }),
            }
        }
        // Several arguments: each is a side, whatever its runs are called.
        if arguments.len() > 1 {
            found = vec![joined(found)];
        }
        sides.extend(found);
    }
    if sides.len() < 2 {
        return Err(format!(
            "there is one side only, {}: name two or more folders (or one with the runs of several \
             sides in it)",
            sides.first().map_or("none", |side| side.name.as_str())
        ));
    }
    if sides.len() > SIDES_MAX {
        return Err(format!(
            "{} sides; {SIDES_MAX} can be compared",
            sides.len()
        ));
    }
    number_doubles(&mut sides);
    Ok(sides)
}

fn started(folder: &Folder) -> &str {
    folder.read.run["started"].as_str().unwrap_or_default()
}

/// All runs under one name: that of the first, and the beginning that all names share where they are
/// numbered.
fn joined(found: Vec<Side>) -> Side {
    let names: Vec<&str> = found.iter().map(|side| side.name.as_str()).collect();
    let first = names.first().copied().unwrap_or_default();
    let shared = names.iter().fold(first, |shared, name| {
        let same = shared
            .char_indices()
            .zip(name.chars())
            .find(|((_, a), b)| a != b);
        match same {
            Some(((at, _), _)) => &shared[..at],
            None => &shared[..shared.len().min(name.len())],
        }
    });
    let shared = shared.trim_end_matches(['-', '_', '.', ' ']);
    let name = if shared.is_empty() { first } else { shared }.to_owned();
    Side {
        name,
        runs: found.into_iter().flat_map(|side| side.runs).collect(),
    }
}

/// Sides of one name get numbers.
fn number_doubles(sides: &mut [Side]) {
    for index in 0..sides.len() {
        let (before, rest) = sides.split_at_mut(index);
        let mut number = 1;
        let name = rest[0].name.clone();
        while before.iter().any(|side| side.name == rest[0].name) {
            number += 1;
            rest[0].name = format!("{name} ({number})");
        }
    }
}

/// The folder itself, or those in it, by name.
fn folders(path: &Path) -> Result<Vec<PathBuf>, String> {
    if is_run(path) {
        return Ok(vec![path.to_owned()]);
    }
    let wrong = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(wrong)? {
        let inner = entry.map_err(wrong)?.path();
        if is_run(&inner) {
            found.push(inner);
        }
    }
    if found.is_empty() {
        return Err(format!(
            "{}: neither a folder that --results has made nor one that holds such folders",
            path.display()
        ));
    }
    found.sort();
    Ok(found)
}

/// What sides differ in but their names: command lines and machines, in words.
pub fn differences(sides: &[Side]) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |what: &str, of: &dyn Fn(&Folder) -> String| {
        let values: Vec<String> = sides
            .iter()
            .map(|side| {
                let mut values: Vec<String> = side.runs.iter().map(of).collect();
                values.dedup();
                values.truncate(3);
                values.join(" and ")
            })
            .collect();
        if values
            .iter()
            .any(|value| *value != values[0] || value.contains(" and "))
        {
            let each = sides
                .iter()
                .zip(&values)
                .map(|(side, value)| format!("{}: {value}", side.name));
            found.push(format!("{what}: {}", each.collect::<Vec<_>>().join("; ")));
        }
    };
    look("the load", &|run| load(run));
    look("warm-up", &|run| format!("{} s", run.warmup_s()));
    for (what, name) in [
        ("processor", "cpu"),
        ("CPUs", "cpus"),
        ("kernel", "kernel"),
        ("memory", "memory_bytes"),
        ("governor", "governor"),
    ] {
        look(what, &|run| run.read.run["machine"][name].to_string());
    }
    look("the server's filesystem", &|run| {
        let data = &run.read.run["machine"]["server_data"];
        format!("{} {}", data["filesystem"], data["options"])
    });
    look("loadgen", &|run| run.read.run["loadgen"].to_string());
    let told = sides.iter().flat_map(|side| &side.runs);
    let told = told.filter_map(|run| run.read.run["server"].as_object());
    let names: BTreeSet<&String> = told.flat_map(serde_json::Map::keys).collect();
    for name in names {
        look(
            &format!("the server's {}", name.replace('_', " ")),
            &|run| {
                let value = run.read.run["server"][name].as_str();
                value.unwrap_or("not told").to_owned()
            },
        );
    }
    found
}

/// The command line without what names this run, its server and its results.
fn load(run: &Folder) -> String {
    const OF_THE_RUN: [&str; 8] = [
        "--results",
        "--label",
        "--server-data",
        "--sample-metrics",
        "--sample-pid",
        "--json",
        "--hdr-log",
        "--ledger",
    ];
    let words = run.read.run["command"].as_array().into_iter().flatten();
    let mut words = words.filter_map(|word| word.as_str()).skip(1);
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        let flag = word.split('=').next().unwrap_or(word);
        if !OF_THE_RUN.contains(&flag) && word != "--quiet" {
            kept.push(word);
        } else if !word.contains('=') && word != "--quiet" {
            words.next();
        }
    }
    kept.join(" ")
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A folder of a run as `--results` makes it, with one message a second that took `ms`.
    pub fn write_run(dir: &Path, label: &str, command: &str, rate: f64, ms: u64) {
        use crate::observe::{Observer as _, Span};
        use crate::recorder::{Recorder, Verb};
        use crate::results::hdr::HdrLog;
        use std::time::{Duration, Instant};
        std::fs::create_dir_all(dir).expect("a folder");
        let put = |name: &str, text: String| std::fs::write(dir.join(name), text).expect("written");
        let command: Vec<&str> = command.split(' ').collect();
        let run = json!({ "label": label, "command": command, "started": "2026-11-22T10:00:00Z",
                          "warmup_s": 0.0 });
        put("run.json", run.to_string());
        put("samples.jsonl", String::new());
        put("timeline.jsonl", String::new());
        let file = std::fs::File::create(dir.join("hdr.log")).expect("a file");
        let mut log = HdrLog::begin(&dir.join("hdr.log"), file).expect("begun");
        let (to, from) = crossbeam::channel::unbounded();
        let began = Instant::now();
        let mut recorder = Recorder::new(began, to);
        for part in 1..=1000u64 {
            recorder.time(
                Verb::Message,
                began,
                began + Duration::from_micros(ms * part),
            );
        }
        recorder.finish();
        let span = Span {
            start: Duration::ZERO,
            length: Duration::from_secs(1),
            interval: &from.recv().expect("shipped"),
            late: None,
        };
        log.interval(&span)
            .and_then(|()| log.finish())
            .expect("logged");
        let summary = json!({ "command": "smtp", "done": 1000, "done_per_s": rate, "elapsed_s": 1.0,
                              "errors": [], "server": { "cpu_us_each": 1e6 / rate } });
        put("summary.json", summary.to_string());
    }

    fn names(arguments: &[String]) -> Vec<(String, usize)> {
        let sides = sides(arguments).expect("sides");
        sides
            .into_iter()
            .map(|side| (side.name, side.runs.len()))
            .collect()
    }

    #[test]
    fn runs_find_their_sides() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name).display().to_string();
        for (name, label) in [
            ("a-1", "a"),
            ("b-1", "b"),
            ("a-2", "a"),
            ("b-2", "b"),
            ("c-1", "c-1"),
            ("c-2", "c-2"),
        ] {
            write_run(&dir.path().join(name), label, "loadgen smtp", 100.0, 1);
        }
        let pair = |name: &str, runs: usize| (name.to_owned(), runs);
        let lists = [format!("{},{}", path("a-1"), path("a-2")), path("b-1")];
        assert_eq!(names(&lists), [pair("a", 2), pair("b", 1)]);
        let numbered = [path("a-1"), format!("{},{}", path("c-1"), path("c-2"))];
        assert_eq!(names(&numbered), [pair("a", 1), pair("c", 2)]);
        assert_eq!(
            names(&[path("a-1"), path("a-2")]),
            [pair("a", 1), pair("a (2)", 1)]
        );
        let parent = names(&[dir.path().display().to_string()]);
        assert_eq!(
            parent,
            [pair("a", 2), pair("b", 2), pair("c-1", 1), pair("c-2", 1)]
        );
        for (wrong, why) in [(path("a-1"), "one side only"), (path("x"), "No such file")] {
            let told = sides(std::slice::from_ref(&wrong)).expect_err(&wrong);
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn other_loads_are_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let command = |size: &str, pid: &str| {
            format!("loadgen smtp --size {size} --results x --sample-pid {pid} --quiet --users 5")
        };
        write_run(&dir.path().join("a"), "a", &command("4K", "7"), 100.0, 1);
        write_run(&dir.path().join("b"), "b", &command("4K", "8"), 100.0, 1);
        write_run(&dir.path().join("c"), "c", &command("50K", "8"), 100.0, 1);
        let path = |name: &str| dir.path().join(name).display().to_string();
        let same = sides(&[path("a"), path("b")]).expect("sides");
        assert_eq!(differences(&same), Vec::<String>::new());
        let other = sides(&[path("a"), path("c")]).expect("sides");
        let told = differences(&other);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].contains("a: smtp --size 4K --users 5; c: smtp --size 50K"),
            "{told:?}"
        );
    }
}
