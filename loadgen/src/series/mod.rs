//! `loadgen run`: runs described in files, repeated and alternated, and compared at the end.
//!
//! Guarantees: each run is a process of its own with the command line that its report shows, each
//! server is started for one run and ended with it. Targets take turns, and every second round goes
//! backwards (A B, B A, A B): a machine that grows slower does so for all of them.
//! Does not know: what the runs measure.

pub mod file;
pub mod server;

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::chart::scale::{short, time};
use crate::cli::Series;
use crate::clock;
use crate::commands::Verdict;
use crate::compare::sides::Side;
use crate::compare::{self, Comparison, stats, text};
use crate::results::Folder;
use file::RunFile;
use server::Server;

/// Rounds when there is something to compare and nothing else is said: what a whole table needs.
const REPEAT_COMPARED: u32 = 5;
/// How often is looked whether a run has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// `run`.
///
/// # Errors
/// Files that are wrong, a server that does not start, a run that could not be made.
pub fn series(flags: &Series) -> Result<Verdict, String> {
    let paths: Vec<PathBuf> = std::iter::once(&flags.file)
        .chain(&flags.interleave)
        .cloned()
        .collect();
    let files = file::read_all(&paths)?;
    let repeat = flags
        .repeat
        .unwrap_or(if files.len() > 1 { REPEAT_COMPARED } else { 1 });
    let dir = flags.results.clone().unwrap_or_else(default_folder);
    if dir.exists() {
        return Err(format!(
            "--results {}: it exists; results are never overwritten, name a new folder",
            dir.display()
        ));
    }
    fs::create_dir_all(&dir).map_err(|e| format!("--results {}: {e}", dir.display()))?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, interrupted.clone())
            .map_err(|e| format!("signal handlers: {e}"))?;
    }
    let mut good = true;
    let mut made = vec![Vec::new(); files.len()];
    'rounds: for round in 1..=repeat {
        let mut turns: Vec<usize> = (0..files.len()).collect();
        if round % 2 == 0 {
            turns.reverse();
        }
        for index in turns {
            let file = &files[index];
            let folder = dir.join(format!("{}-{round}", file.name));
            good &= one(file, &folder, &interrupted)?;
            if interrupted.load(Ordering::Relaxed) {
                eprintln!("interrupted: the run under way is not compared");
                good = false;
                break 'rounds;
            }
            crate::sayln!("{}", line(&folder)?);
            made[index].push(folder);
        }
    }
    finish(&files, &made, &dir)?;
    Ok(good)
}

/// `loadgen-results/DATE-TIME`.
fn default_folder() -> PathBuf {
    let date = clock::rfc3339_date(clock::unix_seconds());
    let name: String = date.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    Path::new("loadgen-results").join(name)
}

/// A path beside the run's folder, which the run itself makes.
fn beside(folder: &Path, ending: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// One run, with its server around it; true: nothing failed.
fn one(file: &RunFile, folder: &Path, interrupted: &Arc<AtomicBool>) -> Result<bool, String> {
    let in_file = |why: String| format!("{}: {why}", file.name);
    let own = std::env::current_exe().map_err(|e| format!("where loadgen is: {e}"))?;
    let (data, output) = (beside(folder, ".data"), beside(folder, ".server"));
    let printed = beside(folder, ".output");
    let mut command = Command::new(own);
    command.args(&file.arguments);
    command.arg(format!("--results={}", folder.display()));
    command.arg(format!("--label={}", file.name));
    let mut server = None;
    if let Some(wanted) = &file.server {
        fs::create_dir(&data).map_err(|e| in_file(format!("{}: {e}", data.display())))?;
        let over = || interrupted.load(Ordering::Relaxed);
        let started = Server::start(wanted, &data, &output, &over).map_err(in_file)?;
        command.arg(format!("--sample-pid={}", started.pid()));
        if !file.sets("server-data") {
            command.arg(format!("--server-data={}", data.display()));
        }
        server = Some(started);
    }
    let wrong = |e: std::io::Error| in_file(format!("{}: {e}", printed.display()));
    command.stdout(File::create_new(&printed).map_err(wrong)?);
    // Ctrl-C comes to us alone: a run that is told twice would end without its results.
    command.process_group(0);
    let child = command.spawn().map_err(|e| in_file(e.to_string()))?;
    let status = wait(child, interrupted).map_err(in_file)?;
    let stopped = server.map_or(Ok(()), Server::stop);
    if file.server.is_some() {
        fs::remove_dir_all(&data).map_err(|e| in_file(format!("{}: {e}", data.display())))?;
    }
    for (from, name) in [(&output, "server.log"), (&printed, "output.txt")] {
        if from.exists() && folder.is_dir() {
            let to = folder.join(name);
            fs::rename(from, &to).map_err(|e| in_file(format!("{}: {e}", to.display())))?;
        }
    }
    stopped.map_err(in_file)?;
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => {
            eprintln!(
                "{}: not all went well, see output.txt and report.html in it",
                folder.display()
            );
            Ok(false)
        }
        _ if interrupted.load(Ordering::Relaxed) => Ok(false),
        _ => Err(in_file(format!(
            "the run could not be made ({status}), see above"
        ))),
    }
}

/// Waits for a run; one that we are told to end is told, too.
fn wait(mut child: Child, interrupted: &AtomicBool) -> Result<ExitStatus, String> {
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            return Ok(status);
        }
        if interrupted.load(Ordering::Relaxed)
            && !std::mem::replace(&mut told, true)
            && let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
        {
            // One that has ended meanwhile is found so in the next turn.
            let _ = kill_process(pid, Signal::TERM);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A run in one line.
fn line(folder: &Path) -> Result<String, String> {
    let run = Folder::read(folder)?;
    let mut parts = vec![format!("{}:", folder.display())];
    if let Some(rate) = run.number(&["done_per_s"]) {
        parts.push(format!("{}/s", short(rate)));
    }
    if let Some(total) = run.main_verb().and_then(|verb| run.total(verb)) {
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
            parts.push(format!(
                "{name} {}",
                time(total.value_at_quantile(quantile) as f64)
            ));
        }
    }
    Ok(parts.join(" "))
}

/// Compares what was made, if there is something to compare.
fn finish(files: &[RunFile], made: &[Vec<PathBuf>], dir: &Path) -> Result<(), String> {
    let mut found: Vec<Side> = Vec::new();
    for (file, folders) in files.iter().zip(made) {
        if folders.is_empty() {
            continue;
        }
        let runs = folders
            .iter()
            .map(|folder| Folder::read(folder))
            .collect::<Result<_, _>>()?;
        found.push(Side {
            name: file.name.clone(),
            runs,
        });
    }
    if found.len() > 1 {
        let comparison = Comparison::new(found, None)?;
        crate::sayln!("\n{}", text::text(&comparison).trim_end());
        let out = dir.join("compare");
        compare::write(&comparison, &out)?;
        crate::sayln!("\npage: {}", out.join("compare.html").display());
    } else if let Some(side) = found.first().filter(|side| side.runs.len() > 1) {
        let rates: Vec<f64> = side
            .runs
            .iter()
            .filter_map(|run| run.number(&["done_per_s"]))
            .collect();
        if let (Some(median), Some((low, high))) = (stats::median(&rates), stats::range(&rates)) {
            crate::sayln!(
                "\n{}: {} runs, median {}/s, from {} to {}",
                side.name,
                side.runs.len(),
                short(median),
                short(low),
                short(high)
            );
        }
    }
    crate::sayln!("compare again: loadgen compare {}", dir.display());
    Ok(())
}
