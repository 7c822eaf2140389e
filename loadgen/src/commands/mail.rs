//! `smtp`, `lmtp` and `submission`: messages go in.

use std::sync::Arc;

use super::load::{self, Prepared};
use super::real::{self, Beside, Watchers};
use super::{Verdict, domains, finish, password, secure, users};
use crate::cli::wire::{Lmtp, Messages, Smtp, Submission};
use crate::cli::{Asked, Common, Mail, Switch};
use crate::clock;
use crate::dialogue::smtp::{self, Auth, SmtpWork};
use crate::ledger::Ledger;
use crate::message::corpus::Corpus;
use crate::message::{Builder, Content, Framing, Shape};
use crate::pool::{Recipients, Spread};
use crate::report::Title;
use crate::run::{Attachment, Summary};
use crate::schedule::Pace;
use crate::task::Task;

/// `smtp`.
///
/// # Errors
/// Flags that make no sense, files that cannot be read or written, a machine that cannot do it.
pub fn smtp(flags: &Smtp) -> Result<Verdict, String> {
    shown(&flags.mail, |task| smtp_run(flags, task))
}

/// One run of `smtp`; nothing is shown.
///
/// # Errors
/// As for [`smtp`].
pub fn smtp_run(flags: &Smtp, task: Task) -> Result<(Title, Summary), String> {
    let auth = match (flags.auth, &flags.password) {
        (Some(mechanism), Some(text)) => Some(Auth {
            mechanism,
            user_pattern: flags.user_pattern.clone(),
            password: password(text)?,
            own_sender: false,
        }),
        _ => None,
    };
    let from = &flags.sender.from;
    mail_run(&flags.mail, "smtp", from, auth, None, task)
}

/// `lmtp`.
///
/// # Errors
/// As for [`smtp`].
pub fn lmtp(flags: &Lmtp) -> Result<Verdict, String> {
    shown(&flags.mail, |task| lmtp_run(flags, task))
}

/// One run of `lmtp`; nothing is shown.
///
/// # Errors
/// As for [`smtp`].
pub fn lmtp_run(flags: &Lmtp, task: Task) -> Result<(Title, Summary), String> {
    let from = &flags.sender.from;
    mail_run(&flags.mail, "lmtp", from, None, None, task)
}

/// `submission`.
///
/// # Errors
/// As for [`smtp`].
pub fn submission(flags: &Submission) -> Result<Verdict, String> {
    shown(&flags.mail, |task| submission_run(flags, task))
}

/// One run of `submission`; nothing is shown.
///
/// # Errors
/// As for [`smtp`].
pub fn submission_run(flags: &Submission, task: Task) -> Result<(Title, Summary), String> {
    let auth = Auth {
        mechanism: flags.auth,
        user_pattern: flags.login.user_pattern.clone(),
        password: password(&flags.login.password)?,
        own_sender: true,
    };
    // What stands in the header; the envelope has the user's address.
    let from = format!("loadgen@{}", domains(&flags.mail.users)[0]);
    mail_run(&flags.mail, "submission", &from, Some(auth), None, task)
}

fn shown(
    flags: &Mail,
    run: impl FnOnce(Task) -> Result<(Title, Summary), String>,
) -> Result<Verdict, String> {
    load::shown(&flags.asked(), run)
}

/// A run whose watchers are at work already.
#[derive(Debug)]
pub struct Watched<'a> {
    /// Names the run.
    pub run: u32,
    /// They know the same addresses in the same order.
    pub watchers: Watchers,
    /// Said before everything else.
    pub attachment: Attachment,
    /// How results are shown.
    pub common: &'a Common,
}

/// Sends mail that is watched already, for `idle`.
///
/// # Errors
/// As for [`smtp`].
pub fn mail(
    flags: &Mail,
    command: &'static str,
    from: &str,
    watched: Watched<'_>,
) -> Result<Verdict, String> {
    let mut task = load::task(&flags.run, &flags.load);
    if task.processes > 1 {
        return Err("--processes: sessions that are watched belong to one process".to_owned());
    }
    task.run = watched.run;
    let common = watched.common;
    let (title, summary) = mail_run(flags, command, from, None, Some(watched), task)?;
    let title = Title {
        command: "idle",
        settings: format!("mail by {command} to {}", title.settings),
        ..title
    };
    finish(&title, &summary, common)
}

fn mail_run(
    flags: &Mail,
    command: &'static str,
    from: &str,
    auth: Option<Auth>,
    watched: Option<Watched<'_>>,
    task: Task,
) -> Result<(Title, Summary), String> {
    let real = &flags.real;
    if task.processes > 1
        && (real.end_to_end.is_some() || real.verify.is_some() || !real.chaos.is_empty())
    {
        return Err(
            "--processes: --end-to-end, --verify and --chaos belong to runs of one process; read \
             the ledgers of several back with `loadgen verify`"
                .to_owned(),
        );
    }
    let pool = Arc::new(users(&flags.users)?);
    let run = task.run;
    let options = Arc::new(smtp::Options {
        lmtp: command == "lmtp",
        recipients: Arc::new(Recipients::new(
            &pool,
            &flags.recipients.recipients,
            flags.recipients.spread,
        )?),
        messages_per_connection: flags.messages_per_connection,
        open_all: flags.load.open_all,
        pipelining: flags.pipelining == Switch::On,
        chunking: flags.chunking,
        attempts_max: if flags.real.expect_restarts && flags.retry == 1 {
            u32::MAX
        } else {
            flags.retry
        },
        expect_restarts: flags.real.expect_restarts,
        stop_on_disconnect: flags.stop_on_disconnect,
        sender: sender(from)?,
        starttls: flags.tls.starttls,
        auth,
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
    let title = Title {
        command,
        noun: "messages",
        items: "recipients",
        settings: format!(
            "{}, run {run:08x}, {described}, {} of {} users each{}, {}{}{}{}{}{}",
            flags.target,
            flags.recipients.recipients,
            pool.len(),
            match flags.recipients.spread {
                Spread::Uniform => String::new(),
                spread => format!(" ({spread})"),
            },
            load::described(&flags.asked(), &task),
            match flags.messages_per_connection {
                0 => String::new(),
                1 => ", each for one message".to_owned(),
                count => format!(", each for {count} messages"),
            },
            secure::described(&flags.tls),
            options.auth.as_ref().map_or(String::new(), |auth| {
                format!(", AUTH {}", auth.mechanism.name())
            }),
            if flags.chunking { ", chunking" } else { "" },
            if options.pipelining {
                ""
            } else {
                ", no pipelining"
            },
        ),
    };
    let path = flags.ledger.as_deref();
    let ledger = path
        .and_then(|path| load::file_of(&task, path))
        .map(|path| Ledger::create(&path, &format!("{command} {}", title.settings)))
        .transpose()?;
    // Watched before the clock of the run starts.
    let (beside, attachment, common) = match watched {
        Some(watched) => (
            Beside::watched(watched.watchers),
            Some(watched.attachment),
            watched.common,
        ),
        None => (
            Beside::start(&flags.real, &flags.common, &pool, run)?,
            None,
            &flags.common,
        ),
    };
    let tls = secure::tls(&flags.tls, &flags.target)?;
    let Prepared {
        mut plan,
        schedule,
        mut progress,
    } = load::prepare(
        &Asked {
            common,
            ..flags.asked()
        },
        title.noun,
        task,
    )?;
    if flags.real.expect_restarts && plan.until.is_some() {
        // However long the server is away.
        plan.give_up = None;
    }
    if let Some(wait) = beside.last_times(common.timeout, plan.measure_from) {
        progress.wait_for(Box::new(wait));
    }
    let first_thread = u64::from(plan.first_thread);
    let make = |thread, recorder| {
        let seed = (u64::from(run) << 16) + first_thread + thread as u64;
        Ok(SmtpWork::new(
            options.clone(),
            Pace::new(schedule.clone(), thread),
            pool.clone(),
            builder.with_seed(seed),
            recorder,
            ledger.as_ref().map(Ledger::writer),
            seed,
        )
        .watched(beside.tracker()))
    };
    let (mut summary, works) =
        secure::drive::<smtp::Smtp>(&plan, &schedule, progress, tls.as_ref(), make)?;
    let waiting = works.iter().map(SmtpWork::waiting).sum();
    // The last lines of the ledger are written here.
    drop(works);
    let ledger = flags.ledger.as_deref();
    summary.attachments.extend(attachment);
    beside.finish(&flags.real, common, ledger, &mut summary)?;
    if flags.real.expect_restarts {
        real::set_restarts_aside(&mut summary, waiting);
    }
    Ok((title, summary))
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

fn sender(text: &str) -> Result<String, String> {
    let strange = |c: char| !c.is_ascii_graphic() || c == '<' || c == '>';
    if text.contains(strange) || (!text.is_empty() && !text.contains('@')) || text.len() > 500 {
        return Err(format!(
            "--from '{text}': wanted is local-part@domain, or nothing"
        ));
    }
    Ok(text.to_owned())
}

/// Names a run; differs from run to run.
pub(super) fn run_id() -> u32 {
    fastrand::Rng::with_seed(clock::since_epoch().as_nanos() as u64 ^ u64::from(std::process::id()))
        .u32(..)
}
