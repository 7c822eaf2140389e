//! `loadgen verify`: reads mailboxes back over POP3 and compares them with ledgers.
//!
//! Guarantees: a mailbox counts only when it was read whole; one that cannot be read makes the
//! verdict bad, and is named.
//! Does not know: which server it is; any POP3 server will do.

pub mod classify;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cli::Verify;
use crate::commands::{Verdict, cpus, keep, observe, password};
use crate::dialogue::pop3::{Options, Pop3, Pop3Work};
use crate::ledger;
use crate::pool::Pool;
use crate::progress::{Goal, Progress};
use crate::report;
use crate::run::{self, Plan, Summary};
use crate::schedule::Schedule;
use classify::{Comparison, Findings};

/// RETR commands sent ahead to servers that announce PIPELINING.
const WINDOW: u32 = 32;

/// `verify`.
///
/// # Errors
/// Ledgers that cannot be read, flags that make no sense.
pub fn verify(flags: &Verify) -> Result<Verdict, String> {
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
    let connections = flags.connections.min(pool.len() as u32);
    run::raise_descriptor_limit(connections)?;
    let plan = Plan {
        cpus: cpus(&flags.common)?,
        target: flags.pop3.clone(),
        connections,
        timeout: flags.common.timeout,
        give_up: Some(flags.common.give_up),
        measure_from: Instant::now(),
        until: None,
    };
    let options = Arc::new(Options {
        user_pattern: flags.login.user_pattern.clone(),
        password,
        list: false,
        uidl: false,
        retrieve: None,
        delete: false,
        window: WINDOW,
        check: Some(flags.attempts),
    });
    let count = pool.len() as u64;
    let schedule = Arc::new(Schedule::new(Some(count), None));
    let mut progress = Progress::new("mailboxes", Goal::Count(count), flags.common.quiet);
    observe(&mut progress, &flags.common, Duration::ZERO)?;
    let (summary, works) = run::drive::<Pop3>(&plan, &schedule, progress, |_, recorder| {
        Ok(Pop3Work::new(
            options.clone(),
            schedule.clone(),
            pool.clone(),
            recorder,
        ))
    })?;
    let mut messages = 0;
    let mut unread = Vec::new();
    let mut read = 0;
    for work in works {
        read += work.mailboxes_read;
        messages += work.found.len();
        work.found
            .into_iter()
            .for_each(|found| comparison.see(found));
        unread.extend(
            work.unread
                .into_iter()
                .map(|mailbox| pool.get(mailbox).to_owned()),
        );
    }
    // Mailboxes that no connection has got to, because the run was cut off.
    let not_reached = count - read - unread.len() as u64;
    let findings = comparison.finish(flags.list);
    let good = findings.is_clean() && unread.is_empty() && not_reached == 0;
    if !flags.common.quiet || !good {
        print!(
            "{}",
            text(
                &findings, messages, read, count, &unread, flags.list, &summary
            )
        );
    }
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
    keep(
        &flags.common,
        json!({
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
        }),
    )?;
    Ok(good)
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
