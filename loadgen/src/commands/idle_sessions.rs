//! `loadgen idle`: sessions that are logged in and in IDLE, and mail that arrives meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser as _;

use super::mail::{self, run_id};
use super::real::{Login, Watchers};
use super::{Verdict, finish, password, secure, users};
use crate::cli::imap::IdleSessions;
use crate::cli::real::WatchWay;
use crate::cli::{Cli, Command};
use crate::pool::Pool;
use crate::recorder::Interval;
use crate::report::Title;
use crate::run::{Attachment, Summary};
use crate::visible::Tracker;

/// How often the end of the time is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// `idle`.
///
/// # Errors
/// Flags that make no sense, sessions that do not come up.
pub fn idle(flags: &IdleSessions) -> Result<Verdict, String> {
    let all = users(&flags.users)?;
    let sessions = flags.connections as usize;
    if all.len() < sessions {
        return Err(format!(
            "--connections {sessions}: there are only {} users (--users), and each session has a \
             mailbox of its own",
            all.len()
        ));
    }
    let names = (0..flags.connections).map(|index| all.get(index).to_owned());
    let pool = Arc::new(Pool::collect(names)?);
    let run = run_id();
    let login = Login {
        user_pattern: flags.login.user_pattern.clone(),
        password: password(&flags.login.password)?,
        every: Duration::from_secs(1),
        tls: secure::tls(&flags.tls, &flags.target)?,
    };
    crate::run::raise_descriptor_limit(flags.connections)?;
    let began = Instant::now();
    let way = WatchWay::ImapIdle(flags.target.clone());
    let tracker = Tracker::new(run, sessions, sessions);
    let watchers = Watchers::start(&way, &login, &flags.common, &pool, tracker)?;
    let came_up = began.elapsed();
    if !flags.common.quiet {
        eprintln!(
            "{sessions} sessions in IDLE after {:.2} s",
            came_up.as_secs_f64()
        );
    }
    let up = Attachment {
        name: "sessions",
        text: format!(
            "{sessions} sessions were logged in and in IDLE after {:.2} s\n",
            came_up.as_secs_f64()
        ),
        json: sessions.into(),
        good: true,
    };
    if let Some(target) = &flags.deliver {
        return deliver(flags, &target.to_string(), &pool, run, watchers, up);
    }
    let until = Instant::now() + flags.duration;
    while Instant::now() < until && !watchers.is_over() {
        std::thread::sleep(LOOK_EVERY);
    }
    let mut summary = Summary {
        measure_from: began,
        total: Interval::default(),
        elapsed: flags.duration,
        cpu: Duration::ZERO,
        cpus: Vec::new(),
        ended_early: None,
        attachments: vec![up],
    };
    let seen = watchers.finish(&summary)?;
    summary.attachments.push(seen);
    let title = Title {
        command: "idle",
        noun: "messages",
        items: "recipients",
        settings: format!(
            "{}, {sessions} sessions{}",
            flags.target,
            secure::described(&flags.tls)
        ),
    };
    finish(&title, &summary, &flags.common)
}

/// Mail goes to the first sessions, as `loadgen smtp` or `loadgen lmtp` would send it.
fn deliver(
    flags: &IdleSessions,
    target: &str,
    pool: &Arc<Pool>,
    run: u32,
    watchers: Watchers,
    up: Attachment,
) -> Result<Verdict, String> {
    let share = (pool.len() * flags.deliver_share as usize).div_ceil(100);
    let file = write_addresses(pool, share)?;
    let duration = format!("{}ms", flags.duration.as_millis());
    let command = if flags.deliver_lmtp { "lmtp" } else { "smtp" };
    let words = [
        "loadgen",
        command,
        "--target",
        target,
        "--duration",
        &duration,
        "--rate",
        &flags.deliver_rate,
        "--processors",
        &flags.common.processors,
        "--rcpt-file",
    ];
    let mut words: Vec<std::ffi::OsString> = words.iter().map(Into::into).collect();
    words.push(file.as_os_str().to_owned());
    let parsed = Cli::try_parse_from(words).map_err(|e| e.to_string());
    let result = parsed.and_then(|cli| {
        let (mail, from) = match &cli.command {
            Command::Smtp(smtp) => (&smtp.mail, &smtp.sender.from),
            Command::Lmtp(lmtp) => (&lmtp.mail, &lmtp.sender.from),
            _ => return Err("neither SMTP nor LMTP".to_owned()),
        };
        let watched = mail::Watched {
            run,
            watchers,
            attachment: up,
            common: &flags.common,
        };
        mail::mail(mail, command, from, watched)
    });
    // It was read by now, or nothing was.
    let _ = std::fs::remove_file(&file);
    result
}

fn write_addresses(pool: &Pool, count: usize) -> Result<std::path::PathBuf, String> {
    let name = format!("loadgen-idle-{}.addresses", std::process::id());
    let path = std::env::temp_dir().join(name);
    let text: String = (0..count as u32)
        .map(|index| format!("{}\n", pool.get(index)))
        .collect();
    std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path)
}
