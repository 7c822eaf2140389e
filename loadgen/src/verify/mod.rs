//! `loadgen verify`: reads mailboxes back over POP3 or IMAP and compares them with ledgers.
//!
//! Guarantees: a mailbox counts only when it was read whole; one that cannot be read makes the
//! verdict bad, and is named.
//! Does not know: which server it is; any POP3 or IMAP server will do.

pub mod classify;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::cli::Verify;
use crate::commands::{self, Verdict, cpus, keep, observe, password, secure};
use crate::dialogue::imap::{CheckOptions, ImapCheck, ImapCheckWork};
use crate::dialogue::pop3::{Found, Login, Options, Pop3, Pop3Work};
use crate::ledger;
use crate::pool::Pool;
use crate::progress::{Goal, Progress};
use crate::report;
use crate::run::{self, Plan, Summary};
use crate::schedule::{Pace, Schedule};
use classify::{Comparison, Findings};

/// RETR commands sent ahead to servers that announce PIPELINING.
const WINDOW: u32 = 32;

/// What reading back came to.
#[derive(Debug)]
pub struct Proof {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: serde_json::Value,
    /// Everything acknowledged is there, once and intact.
    pub good: bool,
}

/// `verify`.
///
/// # Errors
/// Ledgers that cannot be read, flags that make no sense.
pub fn verify(flags: &Verify) -> Result<Verdict, String> {
    let proof = check(flags)?;
    if !flags.common.quiet || !proof.good {
        crate::say::say(&proof.text);
    }
    let good = proof.good;
    keep(&flags.common, proof.json)?;
    Ok(good)
}

/// Reads back and compares.
///
/// # Errors
/// As for [`verify`].
pub fn check(flags: &Verify) -> Result<Proof, String> {
    let password = password(&flags.login.password)?;
    let mut comparison = Comparison::default();
    for path in &flags.ledger {
        let torn =
            ledger::read(path, |entry| comparison.expect(entry)).map_err(|e| e.to_string())?;
        if torn && !flags.common.quiet {
            eprintln!(
                "{}: the last line is torn and was passed over",
                path.display()
            );
        }
    }
    if comparison.mailboxes().is_empty() {
        return Err("--ledger: there is not one message in it: nothing to verify".to_owned());
    }
    let pool = Arc::new(Pool::collect(comparison.mailboxes().iter().cloned())?);
    let count = pool.len() as u64;
    let Reading {
        summary,
        found,
        read,
        unread,
    } = read_back(flags, password, &pool)?;
    let messages = found.len();
    found.into_iter().for_each(|found| comparison.see(found));
    let unread: Vec<String> = unread
        .into_iter()
        .map(|mailbox| pool.get(mailbox).to_owned())
        .collect();
    // Mailboxes that no connection has got to, because the run was cut off.
    let not_reached = count - read - unread.len() as u64;
    let findings = comparison.finish(flags.list);
    let good = findings.is_clean() && unread.is_empty() && not_reached == 0;
    let text = text(
        &findings, messages, read, count, &unread, flags.list, &summary,
    );
    let offenders: Vec<_> = findings
        .offenders
        .iter()
        .map(|offender| {
            json!({
                "offence": offender.offence.name(),
                "id": offender.id.map(|id| id.to_string()),
                "mailbox": offender.mailbox,
                "detail": offender.detail,
            })
        })
        .collect();
    let json = json!({
        "command": "verify",
        "elapsed_s": summary.elapsed.as_secs_f64(),
        "mailboxes": count,
        "mailboxes_read": read,
        "mailboxes_unread": unread,
        "messages": messages,
        "acknowledged": findings.acknowledged,
        "found": findings.found,
        "found_unacknowledged": findings.unacknowledged,
        "missing": findings.missing,
        "doubled": findings.doubled,
        "corrupt": findings.corrupt,
        "other_runs": findings.other_runs,
        "foreign": findings.foreign,
        "offenders": offenders,
        "good": good,
    });
    Ok(Proof { text, json, good })
}

/// What was read.
struct Reading {
    summary: Summary,
    found: Vec<Found>,
    /// Mailboxes that were read whole.
    read: u64,
    /// Numbers of those that could not be read.
    unread: Vec<u32>,
}

/// Reads all mailboxes of the pool.
fn read_back(flags: &Verify, password: String, pool: &Arc<Pool>) -> Result<Reading, String> {
    let connections = flags.connections.min(pool.len() as u32);
    run::raise_descriptor_limit(connections)?;
    let (target, by_imap) = match (&flags.pop3, &flags.imap) {
        (_, Some(target)) => (target, true),
        (Some(target), None) => (target, false),
        (None, None) => return Err("one of --pop3 and --imap is wanted".to_owned()),
    };
    let tls = secure::tls(&flags.tls, target)?;
    let starttls = flags.tls.starttls;
    let plan = Plan {
        timeout: flags.common.timeout,
        give_up: Some(flags.common.give_up),
        ..Plan::new(cpus(&flags.common)?, target.clone(), connections)
    };
    let count = pool.len() as u64;
    let schedule = Arc::new(Schedule::new(Some(count), None));
    let mut progress = Progress::new("mailboxes", Goal::Count(count), flags.common.quiet);
    observe(&mut progress, &flags.common, Duration::ZERO)?;
    if by_imap {
        let options = Arc::new(CheckOptions {
            login: commands::imap::login(&flags.login, &flags.imap_login, starttls, true)?,
            attempts_max: flags.attempts,
        });
        let (summary, works) =
            secure::drive::<ImapCheck>(&plan, &schedule, progress, tls.as_ref(), |_, recorder| {
                let (options, schedule) = (options.clone(), schedule.clone());
                Ok(ImapCheckWork::new(
                    options,
                    schedule,
                    pool.clone(),
                    recorder,
                ))
            })?;
        let works = works
            .into_iter()
            .map(|work| (work.found, work.mailboxes_read, work.unread));
        return Ok(Reading::collect(summary, works));
    }
    let options = Arc::new(Options {
        user_pattern: flags.login.user_pattern.clone(),
        password,
        login: Login::User,
        stls: starttls,
        list: false,
        uidl: false,
        retrieve: None,
        delete: false,
        window: WINDOW,
        check: Some(flags.attempts),
    });
    let make = |thread, recorder| {
        let pace = Pace::new(schedule.clone(), thread);
        Ok(Pop3Work::new(options.clone(), pace, pool.clone(), recorder))
    };
    let (summary, works) = secure::drive::<Pop3>(&plan, &schedule, progress, tls.as_ref(), make)?;
    let works = works
        .into_iter()
        .map(|work| (work.found, work.mailboxes_read, work.unread));
    Ok(Reading::collect(summary, works))
}

impl Reading {
    /// Adds up what the threads have found.
    fn collect(
        summary: Summary,
        works: impl Iterator<Item = (Vec<Found>, u64, Vec<u32>)>,
    ) -> Reading {
        let mut reading = Reading {
            summary,
            found: Vec::new(),
            read: 0,
            unread: Vec::new(),
        };
        for (found, read, unread) in works {
            reading.found.extend(found);
            reading.read += read;
            reading.unread.extend(unread);
        }
        reading
    }
}

fn text(
    findings: &Findings,
    messages: usize,
    read: u64,
    count: u64,
    unread: &[String],
    list_max: usize,
    summary: &Summary,
) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{messages} messages in {read} of {count} mailboxes, read in {:.2} s; a message counts once \
         for each of its recipients",
        summary.elapsed.as_secs_f64()
    );
    for (name, number) in [
        ("acknowledged", findings.acknowledged),
        ("found", findings.found),
        ("found, but never acknowledged", findings.unacknowledged),
        ("missing", findings.missing),
        ("doubled", findings.doubled),
        ("corrupt", findings.corrupt),
    ] {
        let _ = writeln!(text, "{name:<30}{number:>12}");
    }
    for (name, number) in [
        ("of other runs", findings.other_runs),
        ("of others", findings.foreign),
    ] {
        if number > 0 {
            let _ = writeln!(text, "{name:<30}{number:>12}");
        }
    }
    for offender in &findings.offenders {
        let id = offender
            .id
            .map_or("unreadable id".to_owned(), |id| id.to_string());
        let _ = writeln!(
            text,
            "{}: {id} in {}: {}",
            offender.offence.name(),
            offender.mailbox,
            offender.detail
        );
    }
    if read < count {
        let names: Vec<&str> = unread.iter().take(list_max).map(String::as_str).collect();
        let _ = writeln!(
            text,
            "{} mailboxes could not be read, their messages count as missing: {}",
            count - read,
            if names.is_empty() {
                "the run was cut off".to_owned()
            } else {
                names.join(", ")
            }
        );
    }
    if !summary.total.faults.is_empty() {
        text.push_str(&report::faults_text(summary));
    }
    if let Some(why) = &summary.ended_early {
        let _ = writeln!(text, "ended early: {why}");
    }
    text
}
