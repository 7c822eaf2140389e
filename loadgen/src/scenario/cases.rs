//! The targets themselves: the documents' figure, how it is measured, when it holds.

use std::time::{Duration, Instant};

use super::{Reached, Target};
use crate::cli::scenario::Scenario;
use crate::sink::{Behaviour, Sink};
use crate::steps::{Obstacle, Ran, Step, memory_kib, ports, service, sockets, words};

/// T1 to T12.
pub const TARGETS: &[Target] = &[
    Target {
        id: "T1",
        title: "local queue",
        figure: "200 queued local deliveries drained in 1-2 s by 10 processors [C1]",
        needs: &["--smtp", "--pop3"],
        run: local_queue,
    },
    Target {
        id: "T2",
        title: "POP3 of a large site",
        figure: "100,000 users who check twice in 12 h, 15 s each: 4.6 sessions/s, about 70 at a \
                 time [C8]",
        needs: &["--pop3"],
        run: pop3_site,
    },
    Target {
        id: "T3",
        title: "IMAP channels",
        figure: "10,000 open at once [C5]",
        needs: &["--imap"],
        run: imap_channels,
    },
    Target {
        id: "T4",
        title: "outbound SMTP",
        figure: "above 50 messages/s, up to 500 channels, messages over 20 KB [C3]",
        needs: &["--relay", "--sink"],
        run: outbound,
    },
    Target {
        id: "T5",
        title: "web sessions",
        figure: "3,000 sessions over 100 HTTP connections [C10]",
        needs: &["--web"],
        run: web_sessions,
    },
    Target {
        id: "T6",
        title: "SIP signalling",
        figure: "100 calls/s per CPU [C11]",
        needs: &[],
        run: sip,
    },
    Target {
        id: "T7",
        title: "memory of IMAP sessions",
        figure: "at most 50 KiB per connection (1-2 MiB elsewhere) [I7]",
        needs: &["--imap", "--pid"],
        run: imap_memory,
    },
    Target {
        id: "T8",
        title: "a small ISP",
        figure: "12,000 users on one small machine, at half its capacity [I3]",
        needs: &["--smtp", "--pop3"],
        run: small_isp,
    },
    Target {
        id: "T9",
        title: "ports",
        figure: "1,500 addresses and 500 POP3 users without running out of ports [M1]",
        needs: &["--smtp", "--pop3"],
        run: port_use,
    },
    Target {
        id: "T10",
        title: "queue throttle",
        figure: "more than 2,000 messages queued: nothing lost, the backlog drains [N16]",
        needs: &["--relay", "--sink"],
        run: throttle,
    },
    Target {
        id: "T11",
        title: "long connections, long lists",
        figure: "one connection sends 1,000 messages; one message has 100,000 recipients [N15]",
        needs: &["--smtp"],
        run: long_ones,
    },
    Target {
        id: "T12",
        title: "start with a full queue",
        figure: "20,000 deferred messages at start-up: ready within a second [N1]",
        needs: &["--relay", "--sink", "--stop", "--start"],
        run: full_queue,
    },
];

/// T1: the time in which it has to be done, in seconds.
const QUEUE_S: f64 = 2.0;
/// T2: sessions per second of 100,000 users, twice in 12 hours.
const SITE_SESSIONS_PER_S: f64 = 200_000.0 / 43_200.0;
/// Each operation has to be done within so many milliseconds: SPECmail's 5 s.
const OPERATION_MS: f64 = 5000.0;
/// T3.
const CHANNELS: f64 = 10_000.0;
/// T4.
const OUTBOUND_PER_S: f64 = 50.0;
/// T7.
const SESSION_KIB: f64 = 50.0;
/// T7: sessions, so that what is shared does not matter.
const SESSIONS: u64 = 1000;
/// T8: messages received and POP3 sessions a second in the peak hour of 12,000 users, at four of
/// each a day and 15 % of them in that hour: the profile of SPECmail2001.
const ISP_PER_S: f64 = 12_000.0 * 4.0 * 0.15 / 3600.0;
/// T10: more than the documents' threshold of 2,000.
const BACKLOG: u64 = 3000;
/// T12.
const DEFERRED: u64 = 20_000;
/// How long a queue may take to empty, or to fill.
const QUEUE_PATIENCE: Duration = Duration::from_secs(300);

type Result_ = Result<Reached, Obstacle>;

fn run(flags: &Scenario, words: &[String]) -> Result<Ran, Obstacle> {
    crate::steps::run(&flags.processors, words)
}

fn seconds(flags: &Scenario) -> String {
    format!("{}ms", flags.time.as_millis())
}

/// Flags that name the users.
fn users(flags: &Scenario, count: usize) -> String {
    format!(
        "--users {} --prefix {} --domain {}",
        count.min(flags.users),
        flags.prefix,
        flags.domain
    )
}

fn with_password(flags: &Scenario, text: &str, flag: &str) -> Vec<String> {
    let mut words = words(text);
    words.extend([flag.to_owned(), flags.password.clone()]);
    words
}

/// Notes of a run: the command, its errors.
fn note(reached: &mut Reached, ran: &Ran) {
    reached.commands.push(ran.command.clone());
    if let Some(errors) = ran.errors() {
        reached.notes.push(format!("errors: {errors}"));
    }
}

fn p(ran: &Ran, verb: &str, which: &str) -> f64 {
    ran.number(&["verbs", verb, which]) / 1e6
}

fn local_queue(flags: &Scenario) -> Result_ {
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

/// Says, of a service that was not named, that Ringpost would not have it.
fn missing<T>(found: Result<T, Obstacle>, unnamed: bool, what: &str) -> Result<T, Obstacle> {
    found.map_err(|obstacle| match obstacle {
        Obstacle::Absent(why) if unnamed => {
            Obstacle::Absent(format!("{why} (Ringpost has no {what} yet)"))
        }
        other => other,
    })
}

fn pop3_site(flags: &Scenario) -> Result_ {
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

fn imap_channels(flags: &Scenario) -> Result_ {
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

fn sink(flags: &Scenario, refuse: bool) -> Result<Sink, Obstacle> {
    let Some(address) = flags.sink else {
        let text = "not run: name with --sink ADDR:PORT where relayed mail is to arrive";
        return Err(Obstacle::Absent(text.to_owned()));
    };
    let sink = Sink::start(address, Behaviour::default()).map_err(Obstacle::Broken)?;
    sink.refuse(refuse);
    Ok(sink)
}

/// Flags that send mail for the relay domain.
fn relayed(flags: &Scenario) -> Result<String, Obstacle> {
    let relay = service(&flags.relay, "--relay");
    let relay = missing(relay, flags.relay.is_none(), "relaying")?;
    let domain = &flags.relay_domain;
    Ok(format!(
        "smtp --target {relay} --users 1000 --prefix r --domain {domain}"
    ))
}

/// Waits until the sink has `wanted` different messages; whether it has.
fn drained(sink: &Sink, wanted: u64) -> bool {
    let mut last = (Instant::now(), 0);
    loop {
        let (_, different) = sink.messages();
        if different >= wanted {
            return true;
        }
        if different > last.1 {
            last = (Instant::now(), different);
        }
        if last.0.elapsed() >= QUEUE_PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn outbound(flags: &Scenario) -> Result_ {
    let text = relayed(flags)?;
    let sink = sink(flags, false)?;
    let text = format!(
        "{text} --size 21K --connections 50 --duration {}",
        seconds(flags)
    );
    let ran = run(flags, &words(&text))?;
    let sent = ran.number(&["done"]) as u64;
    let whole = drained(&sink, sent);
    let json = sink.json();
    let rate = sink.rate();
    let mut reached = Reached {
        what: format!(
            "{rate:.0} messages/s of 21 KiB arrived, over at most {} channels",
            json["connections_at_a_time"]
        ),
        headroom: rate / OUTBOUND_PER_S,
        good: whole && rate > OUTBOUND_PER_S && json["corrupt"] == 0 && sent > 0,
        notes: vec![format!(
            "{sent} accepted, {} arrived ({} of them again, {} corrupt)",
            json["messages"], json["again"], json["corrupt"]
        )],
        ..Reached::default()
    };
    note(&mut reached, &ran);
    Ok(reached)
}

fn web_sessions(flags: &Scenario) -> Result_ {
    let web = missing(
        service(&flags.web, "--web"),
        flags.web.is_none(),
        "web mail",
    )?;
    let path = &flags.web_path;
    let text = format!("http --target {web} --path {path} --connections 100 --count 3000");
    let ran = run(flags, &words(&text))?;
    let p99 = p(&ran, "GET", "p99_ns");
    let mut reached = Reached {
        what: format!("3,000 pages over 100 connections, p99 {p99:.1} ms"),
        headroom: OPERATION_MS / p99.max(0.001),
        good: ran.good && p99 <= OPERATION_MS,
        notes: vec!["each page stands for a session's; --web-path names it".to_owned()],
        ..Reached::default()
    };
    note(&mut reached, &ran);
    Ok(reached)
}

fn sip(_: &Scenario) -> Result_ {
    let text = "loadgen has no SIP client, and Ringpost no SIP service yet";
    Err(Obstacle::Absent(text.to_owned()))
}

fn imap_memory(flags: &Scenario) -> Result_ {
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

fn small_isp(flags: &Scenario) -> Result_ {
    let smtp = service(&flags.smtp, "--smtp")?;
    let pop3 = service(&flags.pop3, "--pop3")?;
    let time = seconds(flags);
    let text = format!(
        "smtp --target {smtp} --connections 50 --size 8K --duration {time} {}",
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

fn port_use(flags: &Scenario) -> Result_ {
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

fn throttle(flags: &Scenario) -> Result_ {
    let text = relayed(flags)?;
    let sink = sink(flags, true)?;
    let text = format!("{text} --connections 50 --count {BACKLOG} --retry");
    let ran = run(flags, &words(&text))?;
    let sent = ran.number(&["done"]) as u64;
    let queued = sent.saturating_sub(sink.messages().1);
    let opened = Instant::now();
    sink.refuse(false);
    let whole = drained(&sink, sent);
    let took = opened.elapsed().as_secs_f64();
    let json = sink.json();
    let mut reached = Reached {
        what: format!(
            "{queued} queued while the remote refused; {} arrived within {took:.0} s of its return",
            json["different"]
        ),
        headroom: queued as f64 / 2000.0,
        good: whole && queued > 2000 && json["corrupt"] == 0,
        notes: vec![format!(
            "{} lost, {} twice, {} corrupt; {} recipients were refused for now",
            sent.saturating_sub(sink.messages().1),
            json["again"],
            json["corrupt"],
            json["recipients_refused"]
        )],
        ..Reached::default()
    };
    note(&mut reached, &ran);
    Ok(reached)
}

fn long_ones(flags: &Scenario) -> Result_ {
    let smtp = service(&flags.smtp, "--smtp")?;
    let text = format!(
        "smtp --target {smtp} --connections 1 --count 1000 {}",
        users(flags, flags.users)
    );
    let long = run(flags, &words(&text))?;
    let connections = long.number(&["connections"]);
    let messages = long.number(&["done"]);
    let each = flags.users.min(1000);
    let count = 100_000_usize.div_ceil(each);
    let text = format!(
        "smtp --target {smtp} --connections 1 --recipients {each} --count {count} --retry {}",
        users(flags, flags.users)
    );
    let wide = run(flags, &words(&text))?;
    let recipients = wide.number(&["items"]);
    let took = wide.number(&["elapsed_s"]);
    let mut reached = Reached {
        what: format!(
            "{messages:.0} messages over {connections:.0} connection(s); {recipients:.0} recipients \
             in {took:.2} s, {each} a transaction"
        ),
        headroom: (messages / connections.max(1.0) / 1000.0).min(recipients / 100_000.0),
        good: long.good
            && wide.good
            && messages >= 1000.0
            && connections <= 1.0
            && recipients >= 100_000.0,
        notes: vec![format!(
            "{:.0} messages/s on the one connection; loadgen sends at most 1,000 recipients in a \
             transaction, so 100,000 take {count}",
            long.number(&["done_per_s"])
        )],
        ..Reached::default()
    };
    note(&mut reached, &long);
    note(&mut reached, &wide);
    Ok(reached)
}

fn full_queue(flags: &Scenario) -> Result_ {
    let text = relayed(flags)?;
    let relay = service(&flags.relay, "--relay")?;
    let (Some(stop), Some(start)) = (&flags.stop, &flags.start) else {
        let text = "not run: name with --stop and --start the commands that restart --relay";
        return Err(Obstacle::Absent(text.to_owned()));
    };
    let sink = sink(flags, true)?;
    let text = format!("{text} --size 1K --connections 50 --count {DEFERRED} --retry");
    let ran = run(flags, &words(&text))?;
    let sent = ran.number(&["done"]) as u64;
    let shell = |flag: &str, command: &str| {
        std::process::Command::new("sh")
            .args(["-c", command])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .map_err(|e| Obstacle::Broken(format!("{flag} '{command}': {e}")))
    };
    let status = shell("--stop", stop)?.wait();
    if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
        return Err(Obstacle::Broken(format!("--stop '{stop}': {status:?}")));
    }
    let began = Instant::now();
    // The command may be the server itself, or end when it has started it.
    let mut starter = shell("--start", start)?;
    let greeted = greeted(relay, began);
    let ready = began.elapsed().as_secs_f64();
    let _ = starter.try_wait();
    sink.refuse(false);
    let whole = drained(&sink, sent);
    let emptied = began.elapsed().as_secs_f64();
    let mut reached = Reached {
        what: format!("ready {ready:.2} s after its start, with {sent} messages queued"),
        headroom: 1.0 / ready.max(0.001),
        good: greeted && whole && ready <= 1.0 && sent >= DEFERRED,
        notes: vec![
            "ready: a new connection is greeted with 220".to_owned(),
            format!(
                "the remote takes mail again: {} of {sent} messages arrived within {emptied:.0} s",
                sink.messages().1
            ),
        ],
        ..Reached::default()
    };
    note(&mut reached, &ran);
    Ok(reached)
}

/// Waits for a greeting; whether one came.
fn greeted(target: &crate::target::Target, since: Instant) -> bool {
    use std::io::Read as _;
    let Some(address) = target.tcp() else {
        return false;
    };
    while since.elapsed() < QUEUE_PATIENCE {
        let second = Duration::from_secs(1);
        if let Ok(mut stream) = std::net::TcpStream::connect_timeout(&address, second) {
            let mut start = [0; 3];
            let waits = stream.set_read_timeout(Some(second)).is_ok();
            if waits && stream.read_exact(&mut start).is_ok() && &start == b"220" {
                return true;
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}
