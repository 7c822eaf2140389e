//! Recorded dialogues, every reply in pieces of one byte and whole.

mod pop3_sessions;
mod smtp_sessions;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crossbeam::channel::Receiver;

use super::pop3::{self, Pop3, Pop3Work};
use super::secured::Upgrade as _;
use super::smtp::{self, Smtp, SmtpWork};
use super::*;
use crate::choice::Weighted;
use crate::interval::Interval;
use crate::ledger::{Ledger, Outcome, read};
use crate::message::{Builder, Content, Framing, MessageId, Shape, Verdict};
use crate::pool::{Pool, Recipients, Spread};
use crate::recorder::FaultKey;
use crate::sasl::Mechanism;
use crate::schedule::{Pace, Schedule};

fn recorder() -> (Recorder, Receiver<Interval>) {
    let (to, from) = crossbeam::channel::unbounded();
    (Recorder::new(Instant::now(), to), from)
}

fn shape(framing: Framing) -> Shape {
    Shape {
        framing,
        sender: "s@x".to_owned(),
        domain: "x".to_owned(),
    }
}

fn builder(framing: Framing, seed: u64) -> Builder {
    let content = Content::Made("600".parse().expect("a size"));
    Builder::new(&shape(framing), &content, seed).expect("large enough")
}

fn recipients(pool: &Pool, count: u32) -> Arc<Recipients> {
    let count = Weighted::one(count);
    Arc::new(Recipients::new(pool, &count, Spread::Uniform).expect("they fit"))
}

/// Two users, so that two recipients are always both of them.
struct Mail {
    work: SmtpWork,
    intervals: Receiver<Interval>,
    ledger: PathBuf,
    _dir: tempfile::TempDir,
}

fn mail(count: u64, change: impl FnOnce(&mut smtp::Options)) -> Mail {
    let pool = Pool::generate("u", 2, &["x"]).expect("a pool");
    let mut options = smtp::Options {
        lmtp: false,
        recipients: recipients(&pool, 2),
        messages_per_connection: 0,
        open_all: false,
        pipelining: true,
        chunking: false,
        attempts_max: 1,
        expect_restarts: false,
        stop_on_disconnect: false,
        sender: "s@x".to_owned(),
        starttls: false,
        auth: None,
        hello: "h".to_owned(),
        run: 1,
    };
    change(&mut options);
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = dir.path().join("ledger");
    let (recorder, intervals) = recorder();
    let work = SmtpWork::new(
        Arc::new(options.clone()),
        Pace::new(Arc::new(Schedule::new(Some(count), None)), 0),
        Arc::new(pool),
        builder(options.framing(), 1),
        recorder,
        Some(Ledger::create(&ledger, "").expect("created").writer()),
        1,
    );
    Mail {
        work,
        intervals,
        ledger,
        _dir: dir,
    }
}

impl Mail {
    /// Ends the thread's work; what was measured, and the outcomes in the ledger.
    fn end(mut self) -> (Interval, Vec<(u64, u32, Outcome)>) {
        self.work.recorder().finish();
        drop(self.work);
        let mut sum = Interval::default();
        self.intervals
            .try_iter()
            .for_each(|interval| sum.add(interval));
        let mut outcomes = Vec::new();
        read(&self.ledger, |entry| {
            outcomes.push((entry.id.sequence, entry.attempt, entry.outcome));
        })
        .expect("a ledger");
        (sum, outcomes)
    }
}

/// Plays the server's lines, in pieces of `piece` bytes: after each, what the client sends must be
/// what stands behind `C: `; `C: *RCPT` is any recipient. Returns the last step.
fn play<D: Dialogue>(dialogue: &mut D, work: &mut D::Work, piece: usize, script: &str) -> Next {
    let mut out = Vec::new();
    let now = Instant::now();
    let mut next = dialogue.connected(work, now, &mut out);
    for line in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        if let Some(text) = line.strip_prefix("S: ") {
            let text = text.replace('|', "\r\n") + "\r\n";
            for bytes in text.as_bytes().chunks(piece) {
                assert!(matches!(next, Next::Wait), "{next:?} before: {line}");
                next = dialogue.received(work, bytes, now, &mut out);
            }
        } else if let Some(wanted) = line.strip_prefix("C: ") {
            let sent = String::from_utf8_lossy(&out).into_owned();
            match wanted {
                "*RCPT" => assert!(sent.starts_with("RCPT TO:<u"), "{sent}"),
                _ => assert_eq!(sent, wanted.replace('|', "\r\n") + "\r\n"),
            }
            out.clear();
        }
    }
    next
}
