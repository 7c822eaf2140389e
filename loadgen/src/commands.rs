//! What each subcommand does, from its flags to its exit status.

pub mod http;
pub mod idle_sessions;
pub mod imap;
pub mod load;
pub mod mail;
pub mod merge;
pub mod real;
pub mod secure;
pub mod sink;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cli::wire::PopLogin;
use crate::cli::{self, Common, Idle, Pop3, Run, Users};
use crate::dialogue::idle::{self, Census, Greeting, IdleWork};
use crate::dialogue::pop3::{self, Pop3Work};
use crate::page::report::report as report_page;
use crate::pool::Pool;
use crate::progress::{Goal, Progress};
use crate::report::{self, Title};
use crate::results::{self, Folder, hdr::HdrLog};
use crate::run::{self, Plan, Summary};
use crate::sasl::Mechanism;
use crate::schedule::Schedule;
use crate::task::Task;

/// Everything went well; or: it ran, and not everything did.
pub type Verdict = bool;

/// Runs without `--count` and `--duration` take so long.
const DURATION: Duration = Duration::from_secs(10);

/// `pop3`.
///
/// # Errors
/// Flags that make no sense, files that cannot be written, a machine that cannot do it.
pub fn pop3(flags: &Pop3) -> Result<Verdict, String> {
    load::shown(&flags.asked(), |task| pop3_run(flags, task))
}

/// One run of `pop3`; nothing is shown.
///
/// # Errors
/// As for [`pop3`].
pub fn pop3_run(flags: &Pop3, task: Task) -> Result<(Title, Summary), String> {
    let pool = Arc::new(users(&flags.users)?);
    let options = Arc::new(pop3::Options {
        user_pattern: flags.login.user_pattern.clone(),
        password: password(&flags.login.password)?,
        login: match flags.auth {
            PopLogin::User => pop3::Login::User,
            PopLogin::Apop => pop3::Login::Apop,
            PopLogin::Plain => pop3::Login::Sasl(Mechanism::Plain),
            PopLogin::Login => pop3::Login::Sasl(Mechanism::Login),
            PopLogin::CramMd5 => pop3::Login::Sasl(Mechanism::CramMd5),
            PopLogin::ScramSha256 => pop3::Login::Sasl(Mechanism::ScramSha256),
        },
        stls: flags.tls.starttls,
        list: flags.list,
        uidl: flags.uidl,
        retrieve: Some(flags.retr),
        delete: flags.delete,
        window: flags.window,
        check: None,
    });
    let title = Title {
        command: "pop3",
        noun: "sessions",
        items: "messages retrieved",
        settings: format!(
            "{}, {} users, {} x RETR{}, {}{}",
            flags.target,
            pool.len(),
            flags.retr,
            if flags.delete { " and DELE" } else { "" },
            load::described(&flags.asked(), &task),
            secure::described(&flags.tls),
        ),
    };
    let tls = secure::tls(&flags.tls, &flags.target)?;
    let make = |pace, _, recorder| Pop3Work::new(options.clone(), pace, pool.clone(), recorder);
    let (summary, _) =
        load::drive::<pop3::Pop3>(&flags.asked(), tls.as_ref(), title.noun, task, make)?;
    Ok((title, summary))
}

/// `idle-connections`.
///
/// # Errors
/// As for [`pop3`].
pub fn idle_connections(flags: &Idle) -> Result<Verdict, String> {
    run::raise_descriptor_limit(flags.connections)?;
    let schedule = Arc::new(Schedule::new(Some(u64::from(flags.connections)), None));
    let census = Arc::new(Census::default());
    let greeting = match flags.protocol {
        cli::Protocol::Smtp => Greeting::Smtp,
        cli::Protocol::Pop3 => Greeting::Pop3,
        cli::Protocol::Imap => Greeting::Imap,
        cli::Protocol::None => Greeting::None,
    };
    let mut plan = Plan::new(
        cpus(&flags.common)?,
        flags.target.clone(),
        flags.connections,
    );
    plan.timeout = flags.common.timeout;
    let over = AtomicBool::new(false);
    let mut progress = Progress::new("connections", Goal::Time(flags.hold), true);
    observe(&mut progress, &flags.common, Duration::ZERO)?;
    let (summary, up) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| hold(flags, &census, &schedule, &over));
        let result = run::drive::<idle::Idle>(&plan, &schedule, progress, |_, recorder| {
            Ok(IdleWork::new(
                greeting,
                schedule.clone(),
                census.clone(),
                recorder,
            ))
        });
        over.store(true, Ordering::Relaxed);
        let up = watcher.join().map_err(|_| "a thread panicked".to_owned())?;
        result.map(|(summary, _)| (summary, up))
    })?;
    let title = Title {
        command: "idle-connections",
        noun: "connections",
        items: "of them held",
        settings: format!("{}, {} connections", flags.target, flags.connections),
    };
    let mut text = format!(
        "{up} of {} connections were up and held\n",
        flags.connections
    );
    let good = up == u64::from(flags.connections) && census.lost.load(Ordering::Relaxed) == 0;
    let _ = writeln!(
        text,
        "{} never came up, {} were lost while held",
        census.failed.load(Ordering::Relaxed),
        census.lost.load(Ordering::Relaxed)
    );
    text.push_str(&report::faults_text(&summary));
    if let Some(why) = &summary.ended_early {
        let _ = writeln!(text, "ended early: {why}");
    }
    if !flags.common.quiet || !good {
        crate::say::say(&text);
    }
    let mut json = report::json(&title, &summary);
    json["up"] = up.into();
    json["lost"] = census.lost.load(Ordering::Relaxed).into();
    keep(&flags.common, json)?;
    Ok(good)
}

/// Waits until all connections are up or failed, or no more come up for `--give-up`; holds those
/// that are up, and ends the run. Returns how many were up.
fn hold(flags: &Idle, census: &Census, schedule: &Schedule, over: &AtomicBool) -> u64 {
    let began = Instant::now();
    let mut said = began;
    let wanted = u64::from(flags.connections);
    let mut complete: Option<(Instant, u64)> = None;
    let mut last_up = (began, 0);
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
        let [up, lost, failed] =
            [&census.up, &census.lost, &census.failed].map(|number| number.load(Ordering::Relaxed));
        let now = Instant::now();
        if up > last_up.1 {
            last_up = (now, up);
        }
        let stuck = now >= last_up.0 + flags.common.give_up;
        let all = up + lost + failed >= wanted;
        if complete.is_none() && (all || stuck || schedule.is_over(now)) {
            complete = Some((now, up));
            if !flags.common.quiet {
                eprintln!(
                    "{up} of {wanted} up after {:.2} s, held for {:?}",
                    (now - began).as_secs_f64(),
                    flags.hold
                );
            }
        }
        if complete.is_some_and(|(at, _)| now >= at + flags.hold) || schedule.is_over(now) {
            schedule.cut();
        }
        if !flags.common.quiet && now >= said + Duration::from_secs(5) {
            said = now;
            eprintln!("{up} up, {lost} lost, {failed} failed");
        }
    }
    complete.map_or(0, |(_, up)| up)
}

/// Shows the result, and says whether all went well.
///
/// # Errors
/// When the JSON file cannot be written.
pub fn finish(title: &Title, summary: &Summary, common: &Common) -> Result<Verdict, String> {
    let good = summary.total.faults.is_empty()
        && summary.total.counts.failed == 0
        && summary.ended_early.is_none()
        && summary.attachments.iter().all(|attachment| attachment.good);
    if !common.quiet || !good {
        crate::say::say(&report::table(title, summary));
    } else if let Some(why) = report::bottleneck_text(summary) {
        eprintln!("loadgen: {why}");
    }
    keep(common, report::json(title, summary))?;
    Ok(good)
}

/// Writes what a run came to, wherever the flags want it.
///
/// # Errors
/// Names what cannot be written.
pub fn keep(common: &Common, json: serde_json::Value) -> Result<(), String> {
    if let Some(path) = &common.json {
        write_json(path, &json)?;
    }
    if let Some(dir) = results::complete(&common.record, json)? {
        let page = dir.join(results::names::REPORT);
        std::fs::write(&page, report_page(&Folder::read(&dir)?))
            .map_err(|e| format!("{}: {e}", page.display()))?;
        if !common.quiet {
            crate::sayln!("report: {}", page.display());
        }
    }
    Ok(())
}

/// Writes `json` to `path`.
///
/// # Errors
/// Names the file.
pub fn write_json(path: &Path, json: &serde_json::Value) -> Result<(), String> {
    std::fs::write(path, format!("{json:#}\n"))
        .map_err(|e| format!("--json {}: {e}", path.display()))
}

/// Lets those watch a run that the flags ask for, `--hdr-log` included.
fn observe_log(
    progress: &mut Progress,
    flags: &Run,
    common: &Common,
    warmup: Duration,
) -> Result<(), String> {
    observe(progress, common, warmup)?;
    if let Some(path) = &flags.hdr_log {
        let file = run::create(path, "--hdr-log")?;
        let log = HdrLog::begin(path, file).map_err(|why| format!("--hdr-log {why}"))?;
        progress.add(Box::new(log));
    }
    Ok(())
}

/// Lets those watch a run that the flags ask for.
///
/// # Errors
/// As for [`results::begin`].
pub fn observe(progress: &mut Progress, common: &Common, warmup: Duration) -> Result<(), String> {
    if let Some(recording) = results::begin(&common.record, warmup)? {
        progress.add(recording);
    }
    Ok(())
}

/// The CPUs to run on.
///
/// # Errors
/// When `--processors` names others than there are.
pub fn cpus(common: &Common) -> Result<Vec<usize>, String> {
    cli::processors(&common.processors, &run::allowed_cpus())
}

/// The domains of generated users, at least one.
fn domains(flags: &Users) -> Vec<&str> {
    flags.domain.split(',').collect()
}

fn users(flags: &Users) -> Result<Pool, String> {
    let fine = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_graphic() && !b"<>@".contains(&b))
    };
    let domains = domains(flags);
    if !fine(&flags.prefix) || !domains.iter().all(|name| fine(name) && !name.is_empty()) {
        return Err(format!(
            "--prefix '{}' --domain '{}': printable ASCII without blanks, '@', '<' and '>' is \
             wanted, and commas only between domains",
            flags.prefix, flags.domain
        ));
    }
    match &flags.rcpt_file {
        Some(path) => Pool::from_file(path).map_err(|why| format!("--rcpt-file {why}")),
        None => Pool::generate(&flags.prefix, flags.users, &domains),
    }
}

/// A password that can be sent in a line.
///
/// # Errors
/// When it has a line end in it.
pub fn password(text: &str) -> Result<String, String> {
    if text.contains(['\r', '\n', '\0']) {
        return Err("--password: line ends cannot be sent".to_owned());
    }
    Ok(text.to_owned())
}
