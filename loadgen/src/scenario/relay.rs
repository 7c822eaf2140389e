//! T4, T10 and T12: mail that a server passes on, seen where it arrives.

use std::time::{Duration, Instant};

use super::Reached;
use super::cases::{Measured, missing, note, run, seconds};
use crate::cli::scenario::Scenario;
use crate::sink::{Behaviour, Sink};
use crate::steps::{Obstacle, service, words};

/// T4.
const OUTBOUND_PER_S: f64 = 50.0;
/// T10: more than the documents' threshold of 2,000.
const BACKLOG: u64 = 3000;
/// T12.
const DEFERRED: u64 = 20_000;
/// How long a queue may take to empty, or to fill.
const QUEUE_PATIENCE: Duration = Duration::from_secs(300);

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

pub(super) fn outbound(flags: &Scenario) -> Measured {
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

pub(super) fn throttle(flags: &Scenario) -> Measured {
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

pub(super) fn full_queue(flags: &Scenario) -> Measured {
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
