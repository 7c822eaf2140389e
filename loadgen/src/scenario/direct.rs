//! T1 to T3, T5 to T9 and T11: services that `loadgen` talks to, and whose answers it sees itself.

use std::time::Duration;

use super::Reached;
use super::cases::{Measured, missing, note, p, run, seconds, users, with_password};
use crate::choice::RECIPIENTS_MAX;
use crate::cli::scenario::Scenario;
use crate::steps::{Obstacle, Step, memory_kib, ports, service, sockets, words};

/// T1: the time in which it has to be done, in seconds.
const QUEUE_S: f64 = 2.0;
/// T2: sessions per second of 100,000 users, twice in 12 hours.
const SITE_SESSIONS_PER_S: f64 = 200_000.0 / 43_200.0;
/// T3.
const CHANNELS: f64 = 10_000.0;
/// T7.
const SESSION_KIB: f64 = 50.0;
/// T7: sessions, so that what is shared does not matter.
const SESSIONS: u64 = 1000;
/// T8: messages received and POP3 sessions a second in the peak hour of 12,000 users, at four of
/// each a day and 15 % of them in that hour: the profile of SPECmail2001.
const ISP_PER_S: f64 = 12_000.0 * 4.0 * 0.15 / 3600.0;

pub(super) fn local_queue(flags: &Scenario) -> Measured {
    let smtp = service(&flags.smtp, "--smtp")?;
    let pop3 = service(&flags.pop3, "--pop3")?;
    let text = format!(
        "smtp --target {smtp} --count 200 --connections 10 {} --end-to-end pop3:{pop3} \
         --watch-users 200 --poll-every 100ms",
        users(flags, 200)
    );
    let ran = run(flags, &with_password(flags, &text, "--mailbox-password"))?;
    let sent = ran.number(&["elapsed_s"]);
    let visible = p(&ran, "250->visible", "max_ns") / 1e3;
    let whole = sent + visible;
    let mut reached = Reached {
        what: format!("200 messages sent, delivered and visible in {whole:.2} s"),
        headroom: QUEUE_S / whole.max(0.001),
        good: ran.good && ran.number(&["done"]) >= 200.0 && whole <= QUEUE_S,
        notes: vec![format!(
            "{sent:.3} s from the first message to the last 250, and at most {visible:.3} s from a \
             250 to where POP3 shows it (looked at every 0.1 s)"
        )],
        ..Reached::default()
    };
    note(&mut reached, &ran);
    Ok(reached)
}

fn imap(flags: &Scenario) -> Result<&crate::target::Target, Obstacle> {
    missing(service(&flags.imap, "--imap"), flags.imap.is_none(), "IMAP")
}

pub(super) fn pop3_site(flags: &Scenario) -> Measured {
    let pop3 = service(&flags.pop3, "--pop3")?;
    let text = format!(
        "pop3 --target {pop3} --connections 70 --duration {} {}",
        seconds(flags),
        users(flags, flags.users)
    );
    let ran = run(flags, &with_password(flags, &text, "--password"))?;
    let rate = ran.number(&["done_per_s"]);
    let p99 = p(&ran, "session", "p99_ns");
    let mut reached = Reached {
        what: format!("{rate:.0} sessions/s with 70 at a time, p99 {p99:.1} ms"),
        headroom: rate / SITE_SESSIONS_PER_S,
        good: ran.good && rate >= SITE_SESSIONS_PER_S && p99 <= 15_000.0,
        notes: vec![format!(
            "a session lists the mailbox and reads up to 5 messages; {} users",
            flags.users
        )],
        ..Reached::default()
    };
    note(&mut reached, &ran);
    Ok(reached)
}

pub(super) fn imap_channels(flags: &Scenario) -> Measured {
    let imap = imap(flags)?;
    let text = format!(
        "idle-connections --target {imap} --protocol imap --connections 10000 --hold {}",
        seconds(flags)
    );
    let ran = run(flags, &words(&text))?;
    let up = ran.number(&["up"]);
    let lost = ran.number(&["lost"]);
    let mut reached = Reached {
        what: format!("{up:.0} open at once, {lost:.0} lost while held"),
        headroom: up / CHANNELS,
        good: up >= CHANNELS && lost == 0.0,
        notes: vec!["greeted, not logged in".to_owned()],
        ..Reached::default()
    };
    note(&mut reached, &ran);
    Ok(reached)
}

pub(super) fn imap_memory(flags: &Scenario) -> Measured {
    let imap = imap(flags)?;
    if flags.pid.is_empty() {
        let text = "not run: name the IMAP server's processes with --pid";
        return Err(Obstacle::Absent(text.to_owned()));
    }
    let memory = || {
        memory_kib(&flags.pid).ok_or_else(|| {
            Obstacle::Broken("--pid: no such process, or its memory cannot be read".to_owned())
        })
    };
    let before = memory()?;
    let text = format!(
        "idle --target {imap} --connections {SESSIONS} {} --duration {}",
        users(flags, flags.users),
        seconds(flags)
    );
    let mut step = Step::start(
        &flags.processors,
        &with_password(flags, &text, "--password"),
    )?;
    let mut most = before;
    while !step.is_over() {
        most = most.max(memory()?);
        std::thread::sleep(Duration::from_millis(500));
    }
    let ran = step.finish()?;
    let up = ran.number(&["sessions"]);
    let each = (most - before) as f64 / up.max(1.0);
    let mut reached = Reached {
        what: format!("{each:.1} KiB per session, of {up:.0} logged in and in IDLE"),
        headroom: SESSION_KIB / each.max(0.001),
        good: ran.good && up > 0.0 && each <= SESSION_KIB,
        notes: vec![format!(
            "memory of the server and its children: {before} KiB before, {most} KiB at most (PSS)"
        )],
        ..Reached::default()
    };
    note(&mut reached, &ran);
    Ok(reached)
}

pub(super) fn small_isp(flags: &Scenario) -> Measured {
    let smtp = service(&flags.smtp, "--smtp")?;
    let pop3 = service(&flags.pop3, "--pop3")?;
    let time = seconds(flags);
    let text = format!(
        "smtp --target {smtp} --connections 50 --messages-per-connection 1000 --size 8K --duration \
         {time} {}",
        users(flags, 12_000)
    );
    let mail = run(flags, &words(&text))?;
    let text = format!(
        "pop3 --target {pop3} --connections 50 --retr 2 --duration {time} {}",
        users(flags, 12_000)
    );
    let read = run(flags, &with_password(flags, &text, "--password"))?;
    let [mail_rate, read_rate] = [&mail, &read].map(|ran| ran.number(&["done_per_s"]).max(0.001));
    let share = ISP_PER_S / mail_rate + ISP_PER_S / read_rate;
    let mut reached = Reached {
        what: format!(
            "the peak hour takes {:.2} % of what the machine can do (50 % allowed)",
            share * 100.0
        ),
        headroom: 0.5 / share,
        good: mail.good && read.good && share <= 0.5,
        notes: vec![
            format!(
                "needed in the peak hour of 12,000 users: {ISP_PER_S:.1} messages and \
                 {ISP_PER_S:.1} POP3 sessions a second"
            ),
            format!(
                "reached, each alone: {mail_rate:.0} messages/s of 8 KiB, {read_rate:.0} sessions/s \
                 with 2 messages each; {} users exist",
                flags.users
            ),
        ],
        ..Reached::default()
    };
    note(&mut reached, &mail);
    note(&mut reached, &read);
    Ok(reached)
}

pub(super) fn port_use(flags: &Scenario) -> Measured {
    let smtp = service(&flags.smtp, "--smtp")?;
    let pop3 = service(&flags.pop3, "--pop3")?;
    let (_, waiting_before) = sockets();
    // 500 users who check every minute, and each of 1,500 addresses with a message every five: all
    // on connections of their own, as at the site of the document.
    let time = seconds(flags);
    let text = format!(
        "pop3 --target {pop3} --connections 50 --rate 8.4 --retr 1 --duration {time} {}",
        users(flags, 500)
    );
    let mut read = Step::start(
        &flags.processors,
        &with_password(flags, &text, "--password"),
    )?;
    let text = format!(
        "smtp --target {smtp} --connections 50 --rate 5 --messages-per-connection 1 --duration \
         {time} {}",
        users(flags, 1500)
    );
    let mut mail = Step::start(&flags.processors, &words(&text))?;
    let (mut open_most, mut waiting_most) = (0, waiting_before);
    while !(read.is_over() & mail.is_over()) {
        let (open, waiting) = sockets();
        open_most = open_most.max(open);
        waiting_most = waiting_most.max(waiting);
        std::thread::sleep(Duration::from_millis(200));
    }
    let (read, mail) = (read.finish()?, mail.finish()?);
    let connections = read.number(&["connections"]) + mail.number(&["connections"]);
    let elapsed = flags.time.as_secs_f64().max(0.001);
    // Each connection's port is kept for 60 s of TIME_WAIT, on one side or the other.
    let steady = connections / elapsed * 60.0 + open_most as f64;
    let ports = ports() as f64;
    let mut reached = Reached {
        what: format!(
            "{:.1} new connections/s hold {steady:.0} of {ports:.0} local ports for long",
            connections / elapsed
        ),
        headroom: ports / steady.max(1.0),
        good: read.good && mail.good && steady < ports,
        notes: vec![format!(
            "seen meanwhile: at most {open_most} sockets in use, {waiting_most} in TIME_WAIT \
             ({waiting_before} before); TIME_WAIT lasts 60 s on Linux"
        )],
        ..Reached::default()
    };
    note(&mut reached, &read);
    note(&mut reached, &mail);
    Ok(reached)
}

pub(super) fn long_ones(flags: &Scenario) -> Measured {
    let smtp = service(&flags.smtp, "--smtp")?;
    if flags.users < RECIPIENTS_MAX as usize {
        return Err(Obstacle::Absent(format!(
            "not run: one message with {RECIPIENTS_MAX} recipients needs as many users: --users \
             {RECIPIENTS_MAX}"
        )));
    }
    let text = format!(
        "smtp --target {smtp} --connections 1 --count 1000 {}",
        users(flags, flags.users)
    );
    let long = run(flags, &words(&text))?;
    let connections = long.number(&["connections"]);
    let messages = long.number(&["done"]);
    // A server may think for long about so many, and says nothing meanwhile.
    let text = format!(
        "smtp --target {smtp} --connections 1 --recipients {RECIPIENTS_MAX} --count 1 --timeout \
         5m {}",
        users(flags, flags.users)
    );
    let wide = run(flags, &words(&text))?;
    let recipients = wide.number(&["items"]);
    let whole = wide.good && recipients >= f64::from(RECIPIENTS_MAX);
    let mut reached = Reached {
        headroom: (messages / connections.max(1.0) / 1000.0)
            .min(recipients / f64::from(RECIPIENTS_MAX)),
        good: long.good && messages >= 1000.0 && connections <= 1.0 && whole,
        notes: vec![format!(
            "{:.0} messages/s on the one connection",
            long.number(&["done_per_s"])
        )],
        ..Reached::default()
    };
    note(&mut reached, &long);
    note(&mut reached, &wide);
    let wide_text = if whole {
        format!(
            "one message with {recipients:.0} recipients, in one transaction, in {:.2} s",
            wide.number(&["elapsed_s"])
        )
    } else {
        reached.notes.push(
            "one message with so many recipients was not taken: Ringpost takes them with \
             --recipients-max 100000, Postfix with smtpd_recipient_limit = 100000"
                .to_owned(),
        );
        let text = format!(
            "smtp --target {smtp} --connections 1 --recipients 1000 --count 100 --retry {}",
            users(flags, flags.users)
        );
        let split = run(flags, &words(&text))?;
        note(&mut reached, &split);
        format!(
            "NOT one message with {RECIPIENTS_MAX} recipients; {:.0} in 100 messages of 1,000, in \
             {:.2} s",
            split.number(&["items"]),
            split.number(&["elapsed_s"])
        )
    };
    reached.what =
        format!("{messages:.0} messages over {connections:.0} connection(s); {wide_text}");
    Ok(reached)
}

/// Pages are not sessions: until there is a web mail service whose logins `loadgen` can make, they
/// are measured and decide nothing.
pub(super) fn web_sessions(flags: &Scenario) -> Measured {
    let web = missing(
        service(&flags.web, "--web"),
        flags.web.is_none(),
        "web mail",
    )?;
    let path = &flags.web_path;
    let text = format!("http --target {web} --path {path} --connections 100 --count 3000");
    let ran = run(flags, &words(&text))?;
    Err(Obstacle::Absent(format!(
        "no sessions yet, loadgen cannot log in to a web mail service; {:.0} pages without one over \
         100 connections: p99 {:.1} ms",
        ran.number(&["done"]),
        p(&ran, "GET", "p99_ns")
    )))
}

pub(super) fn sip(_: &Scenario) -> Measured {
    let text = "loadgen has no SIP client, and Ringpost no SIP service yet";
    Err(Obstacle::Absent(text.to_owned()))
}
