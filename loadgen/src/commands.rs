//! What each subcommand does, from its flags to its exit status.

pub mod http;
pub mod imap;
pub mod real;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use self::real::Beside;
use crate::cli::wire::Messages;
use crate::cli::{self, Common, Idle, Mail, Pop3, Run, Switch, Users};
use crate::clock;
use crate::dialogue::idle::{self, Census, Greeting, IdleWork};
use crate::dialogue::pop3::{self, Pop3Work};
use crate::dialogue::smtp::{self, SmtpWork};
use crate::ledger::Ledger;
use crate::message::corpus::Corpus;
use crate::message::{Builder, Content, Framing, Shape};
use crate::pool::{Pool, Recipients, Spread};
use crate::progress::{Goal, Progress};
use crate::report::{self, Title};
use crate::run::{self, Plan, Summary};
use crate::schedule::Schedule;

/// Everything went well; or: it ran, and not everything did.
pub type Verdict = bool;

/// Runs without `--count` and `--duration` take so long.
const DURATION: Duration = Duration::from_secs(10);

/// `smtp` and `lmtp`.
///
/// # Errors
/// Flags that make no sense, files that cannot be written, a machine that cannot do it.
pub fn mail(flags: &Mail, lmtp: bool) -> Result<Verdict, String> {
    let pool = Arc::new(users(&flags.users)?);
    let run = run_id();
    let options = Arc::new(smtp::Options {
        lmtp,
        recipients: Arc::new(Recipients::new(
            &pool,
            &flags.recipients.recipients,
            flags.recipients.spread,
        )?),
        messages_per_connection: flags.messages_per_connection,
        pipelining: flags.pipelining == Switch::On,
        chunking: flags.chunking,
        attempts_max: if flags.real.expect_restarts && flags.retry == 1 {
            u32::MAX
        } else {
            flags.retry
        },
        expect_restarts: flags.real.expect_restarts,
        stop_on_disconnect: flags.stop_on_disconnect,
        sender: sender(&flags.from)?,
        hello: "loadgen.invalid".to_owned(),
        run,
    });
    let shape = Shape {
        framing: options.framing(),
        sender: options.sender.clone(),
        domain: domains(&flags.users)[0].to_owned(),
    };
    let (content, described) = content(&flags.messages, shape.framing, flags.common.quiet)?;
    let builder =
        Builder::new(&shape, &content, u64::from(run)).map_err(|why| format!("--size: {why}"))?;
    let command = if lmtp { "lmtp" } else { "smtp" };
    let title = Title {
        command,
        noun: "messages",
        items: "recipients",
        settings: format!(
            "{}, run {run:08x}, {described}, {} of {} users each{}, {} connections{}{}",
            flags.target,
            flags.recipients.recipients,
            pool.len(),
            match flags.recipients.spread {
                Spread::Uniform => String::new(),
                spread => format!(" ({spread})"),
            },
            flags.run.connections,
            if flags.chunking { ", chunking" } else { "" },
            if options.pipelining {
                ""
            } else {
                ", no pipelining"
            },
        ),
    };
    let ledger = match &flags.ledger {
        Some(path) => Some(Ledger::create(
            path,
            &format!("{command} {}", title.settings),
        )?),
        None => None,
    };
    // Watched before the clock of the run starts.
    let beside = Beside::start(&flags.real, &flags.common, &pool, run)?;
    let (mut plan, schedule, progress) =
        prepare(&flags.run, &flags.common, flags.target.clone(), title.noun)?;
    if flags.real.expect_restarts && plan.until.is_some() {
        // However long the server is away.
        plan.give_up = None;
    }
    let schedule = Arc::new(schedule);
    let (mut summary, works) =
        run::drive::<smtp::Smtp>(&plan, &schedule, progress, |thread, recorder| {
            let seed = u64::from(run) << 16 | thread as u64;
            Ok(SmtpWork::new(
                options.clone(),
                schedule.clone(),
                pool.clone(),
                builder.with_seed(seed),
                recorder,
                ledger.as_ref().map(Ledger::writer),
                seed,
            )
            .watched(beside.tracker()))
        })?;
    let waiting = works.iter().map(SmtpWork::waiting).sum();
    // The last lines of the ledger are written here.
    drop(works);
    let ledger = flags.ledger.as_deref();
    beside.finish(
        &flags.real,
        &flags.common,
        ledger,
        plan.measure_from,
        &mut summary,
    )?;
    if flags.real.expect_restarts {
        real::set_restarts_aside(&mut summary, waiting);
    }
    finish(&title, &summary, &flags.common)
}

/// `pop3`.
///
/// # Errors
/// As for [`mail`].
pub fn pop3(flags: &Pop3) -> Result<Verdict, String> {
    let pool = Arc::new(users(&flags.users)?);
    let options = Arc::new(pop3::Options {
        user_pattern: flags.login.user_pattern.clone(),
        password: password(&flags.login.password)?,
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
            "{}, {} users, {} x RETR{}, {} connections",
            flags.target,
            pool.len(),
            flags.retr,
            if flags.delete { " and DELE" } else { "" },
            flags.run.connections,
        ),
    };
    let (plan, schedule, progress) =
        prepare(&flags.run, &flags.common, flags.target.clone(), title.noun)?;
    let schedule = Arc::new(schedule);
    let (summary, _) = run::drive::<pop3::Pop3>(&plan, &schedule, progress, |_, recorder| {
        Ok(Pop3Work::new(
            options.clone(),
            schedule.clone(),
            pool.clone(),
            recorder,
        ))
    })?;
    finish(&title, &summary, &flags.common)
}

/// `idle-connections`.
///
/// # Errors
/// As for [`mail`].
pub fn idle_connections(flags: &Idle) -> Result<Verdict, String> {
    run::raise_descriptor_limit(flags.connections)?;
    let schedule = Arc::new(Schedule::new(Some(u64::from(flags.connections)), None));
    let census = Arc::new(Census::default());
    let greeting = match flags.protocol {
        cli::Protocol::Smtp => Greeting::Smtp,
        cli::Protocol::Pop3 => Greeting::Pop3,
        cli::Protocol::None => Greeting::None,
    };
    let now = Instant::now();
    let plan = Plan {
        cpus: cpus(&flags.common)?,
        target: flags.target.clone(),
        connections: flags.connections,
        timeout: flags.common.timeout,
        give_up: None,
        measure_from: now,
        until: None,
        hdr_log: None,
    };
    let over = AtomicBool::new(false);
    let progress = Progress::new("connections", Goal::Time(flags.hold), true);
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
        print!("{text}");
    }
    if let Some(path) = &flags.common.json {
        let mut json = report::json(&title, &summary);
        json["up"] = up.into();
        json["lost"] = census.lost.load(Ordering::Relaxed).into();
        write_json(path, &json)?;
    }
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
        print!("{}", report::table(title, summary));
    }
    if let Some(path) = &common.json {
        write_json(path, &report::json(title, summary))?;
    }
    Ok(good)
}

/// Writes `json` to `path`.
///
/// # Errors
/// Names the file.
pub fn write_json(path: &Path, json: &serde_json::Value) -> Result<(), String> {
    std::fs::write(path, format!("{json:#}\n"))
        .map_err(|e| format!("--json {}: {e}", path.display()))
}

/// What a run of `flags` is, and what shows and ends it.
///
/// # Errors
/// A machine that cannot do it.
fn prepare(
    flags: &Run,
    common: &Common,
    target: crate::target::Target,
    noun: &'static str,
) -> Result<(Plan, Schedule, Progress), String> {
    run::raise_descriptor_limit(flags.connections)?;
    let cpus = cpus(common)?;
    let duration = flags.duration.or(flags.count.is_none().then_some(DURATION));
    let goal = match (flags.count, duration) {
        (Some(count), None) => Goal::Count(count),
        (_, duration) => Goal::Time(flags.warmup + duration.unwrap_or_default()),
    };
    let now = Instant::now();
    let until = duration.map(|duration| now + flags.warmup + duration);
    let plan = Plan {
        cpus,
        target,
        connections: flags.connections,
        timeout: common.timeout,
        give_up: Some(common.give_up),
        measure_from: now + flags.warmup,
        until,
        hdr_log: flags.hdr_log.clone(),
    };
    Ok((
        plan,
        Schedule::new(flags.count, until),
        Progress::new(noun, goal, common.quiet),
    ))
}

/// The CPUs to run on.
///
/// # Errors
/// When `--processors` names others than there are.
pub fn cpus(common: &Common) -> Result<Vec<usize>, String> {
    cli::processors(&common.processors, &run::allowed_cpus())
}

/// What is sent, and how the report calls it.
fn content(flags: &Messages, framing: Framing, quiet: bool) -> Result<(Content, String), String> {
    let Some(path) = &flags.messages else {
        return Ok((Content::Made(flags.size.clone()), flags.size.to_string()));
    };
    let (corpus, left_out) =
        Corpus::read(path, framing).map_err(|why| format!("--messages {why}"))?;
    if left_out.count > 0 && !quiet {
        eprintln!(
            "--messages: {} cannot be sent and are left out, among them:\n  {}",
            left_out.count,
            left_out.named.join("\n  ")
        );
    }
    let described = format!(
        "{} real messages of {} bytes on average, {} of them 8-bit",
        corpus.len(),
        corpus.bytes() / corpus.len(),
        corpus.eight_bit_count()
    );
    Ok((Content::Real(Arc::new(corpus)), described))
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

fn sender(text: &str) -> Result<String, String> {
    let strange = |c: char| !c.is_ascii_graphic() || c == '<' || c == '>';
    if text.contains(strange) || (!text.is_empty() && !text.contains('@')) || text.len() > 500 {
        return Err(format!(
            "--from '{text}': wanted is local-part@domain, or nothing"
        ));
    }
    Ok(text.to_owned())
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

/// Names a run; differs from run to run.
fn run_id() -> u32 {
    fastrand::Rng::with_seed(clock::since_epoch().as_nanos() as u64 ^ u64::from(std::process::id()))
        .u32(..)
}
