//! Counts and times what happens, per thread; ships it to the main thread twice a second.
//!
//! An operation belongs to the measurement if it began after the warm-up; all that came before is
//! left out of counts and histograms. Times are nanoseconds in histograms of three digits.
//! Does not know: what is measured, how it is shown.

use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use serde::{Deserialize, Serialize};

use crate::clock;
pub use crate::interval::{Counts, Effort, Interval};

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "`name` is the documentation")]
pub enum Verb {
    Connect,
    Tls,
    TlsResumed,
    Greeting,
    Hello,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    Envelope,
    Body,
    Message,
    Reset,
    Capa,
    User,
    Pass,
    Stat,
    List,
    Uidl,
    Retr,
    Dele,
    Quit,
    Session,
    Capability,
    Login,
    Select,
    FetchFlags,
    FetchEnvelope,
    FetchStructure,
    FetchBody,
    FetchIds,
    Store,
    Search,
    Status,
    Append,
    Noop,
    Idle,
    Done,
    Logout,
    Top,
    Get,
    Visible,
    Outage,
    /// [`Verb::Message`] of an open loop, from when it began.
    MessageBegun,
    /// [`Verb::Session`] of an open loop, from when it began.
    SessionBegun,
    /// No command: a connection waits for an operation that is due.
    Rest,
    /// How much later than due an operation began for which a connection was free.
    Lateness,
}

impl Verb {
    /// All, in the order of a conversation.
    pub const ALL: [Verb; 48] = [
        Verb::Connect,
        Verb::Tls,
        Verb::TlsResumed,
        Verb::Greeting,
        Verb::Hello,
        Verb::StartTls,
        Verb::Auth,
        Verb::Mail,
        Verb::Rcpt,
        Verb::Data,
        Verb::Envelope,
        Verb::Body,
        Verb::Message,
        Verb::Reset,
        Verb::Capa,
        Verb::User,
        Verb::Pass,
        Verb::Stat,
        Verb::List,
        Verb::Uidl,
        Verb::Retr,
        Verb::Dele,
        Verb::Quit,
        Verb::Session,
        Verb::Capability,
        Verb::Login,
        Verb::Select,
        Verb::FetchFlags,
        Verb::FetchEnvelope,
        Verb::FetchStructure,
        Verb::FetchBody,
        Verb::FetchIds,
        Verb::Store,
        Verb::Search,
        Verb::Status,
        Verb::Append,
        Verb::Noop,
        Verb::Idle,
        Verb::Done,
        Verb::Logout,
        Verb::Top,
        Verb::Get,
        Verb::Visible,
        Verb::Outage,
        Verb::MessageBegun,
        Verb::SessionBegun,
        Verb::Rest,
        Verb::Lateness,
    ];

    /// As in tables, HDR logs and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Connect => "connect",
            Verb::Tls => "TLS",
            Verb::TlsResumed => "TLS resumed",
            Verb::Greeting => "greeting",
            Verb::Hello => "EHLO",
            Verb::StartTls => "STARTTLS",
            Verb::Auth => "AUTH",
            Verb::Mail => "MAIL",
            Verb::Rcpt => "RCPT",
            Verb::Data => "DATA",
            Verb::Envelope => "MAIL..DATA",
            Verb::Body => "body->250",
            Verb::Message => "message",
            Verb::Reset => "RSET",
            Verb::Capa => "CAPA",
            Verb::User => "USER",
            Verb::Pass => "PASS",
            Verb::Stat => "STAT",
            Verb::List => "LIST",
            Verb::Uidl => "UIDL",
            Verb::Retr => "RETR",
            Verb::Dele => "DELE",
            Verb::Quit => "QUIT",
            Verb::Session => "session",
            Verb::Capability => "CAPABILITY",
            Verb::Login => "LOGIN",
            Verb::Select => "SELECT",
            Verb::FetchFlags => "FETCH flags",
            Verb::FetchEnvelope => "FETCH envel.",
            Verb::FetchStructure => "FETCH struct.",
            Verb::FetchBody => "FETCH body",
            Verb::FetchIds => "FETCH ids",
            Verb::Store => "STORE",
            Verb::Search => "SEARCH",
            Verb::Status => "STATUS",
            Verb::Append => "APPEND",
            Verb::Noop => "NOOP",
            Verb::Idle => "IDLE",
            Verb::Done => "DONE",
            Verb::Logout => "LOGOUT",
            Verb::Top => "TOP",
            Verb::Get => "GET",
            Verb::Visible => "250->visible",
            Verb::Outage => "outage",
            Verb::MessageBegun => "message.started",
            Verb::SessionBegun => "session.started",
            Verb::Rest => "rest",
            Verb::Lateness => "generator.late",
        }
    }
}

/// From when an operation is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When it should have begun. In a closed loop that is when it did.
    pub due: Instant,
    /// When it did begin, in an open loop.
    pub began: Option<Instant>,
}

/// How something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Fault {
    /// No connection: nobody listens.
    Refused,
    /// No connection, for another reason.
    Unreachable,
    /// No answer within `--timeout`.
    Timeout,
    /// The peer reset the connection.
    Reset,
    /// The peer closed the connection in mid-conversation.
    Closed,
    /// What came is not the protocol.
    Nonsense,
    /// TLS cannot be spoken with the peer, or its certificate is not trusted.
    Tls,
    /// The server does not offer what the run asks for.
    NotOffered,
    /// A reply that says try later: 4xx.
    Transient,
    /// A reply that refuses: 5xx, or `-ERR`.
    Permanent,
}

impl Fault {
    /// In tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Refused => "connection refused",
            Fault::Unreachable => "cannot connect",
            Fault::Timeout => "timed out",
            Fault::Reset => "connection reset",
            Fault::Closed => "connection closed",
            Fault::Nonsense => "not the protocol",
            Fault::Tls => "TLS failed",
            Fault::NotOffered => "not offered",
            Fault::Transient => "refused for now (4xx)",
            Fault::Permanent => "refused",
        }
    }
}

/// What errors are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FaultKey {
    /// How it went wrong.
    pub fault: Fault,
    /// While waiting for this.
    pub verb: Verb,
    /// The reply code, or the number of a TLS alert (RFC 8446 §6); 0 where there is none.
    pub code: u16,
}

/// Errors of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultCount {
    /// So many.
    pub count: u64,
    /// What the first one said.
    pub sample: String,
}

/// Bytes of a sample text.
const SAMPLE_BYTES_MAX: usize = 200;

/// Ships an interval so often.
const SHIP_EVERY: Duration = Duration::from_millis(500);

/// One thread's recorder.
#[derive(Debug)]
pub struct Recorder {
    measure_from: Instant,
    thread: u32,
    interval: Interval,
    effort: Effort,
    /// CPU time of this thread and its waits for a CPU, when last looked at in the measured part.
    cpu: Option<(Duration, Duration)>,
    ship_at: Instant,
    /// `None` after the end.
    to: Option<Sender<Interval>>,
}

impl Recorder {
    /// Measures what begins at `measure_from` or later, and ships to `to`.
    pub fn new(measure_from: Instant, to: Sender<Interval>) -> Recorder {
        Recorder {
            measure_from,
            thread: 0,
            interval: Interval::default(),
            effort: Effort::default(),
            cpu: None,
            ship_at: Instant::now() + SHIP_EVERY,
            to: Some(to),
        }
    }

    /// The same for thread number `thread` of all processes.
    #[must_use]
    pub fn on_thread(mut self, thread: u32) -> Recorder {
        self.thread = thread;
        self
    }

    /// Whether what began then is measured.
    pub fn measures(&self, began: Instant) -> bool {
        began >= self.measure_from
    }

    /// Notes the time of an operation.
    pub fn time(&mut self, verb: Verb, began: Instant, now: Instant) {
        if self.measures(began) {
            self.record(verb, began, now);
        }
    }

    fn record(&mut self, verb: Verb, began: Instant, now: Instant) {
        self.interval.histograms.record(verb, began, now);
        self.interval.last_end = Some(now);
    }

    /// Notes a time that was measured beside the run: the run's length does not depend on it.
    pub fn time_beside(&mut self, verb: Verb, began: Instant, ended: Instant) {
        if began >= self.measure_from {
            self.interval.time(verb, began, ended);
        }
    }

    /// Notes the times of an operation of the schedule: from when it was due, and in an open loop
    /// also from when it began. `verb` is [`Verb::Message`] or [`Verb::Session`].
    pub fn operation(&mut self, verb: Verb, times: Times, now: Instant) {
        self.time(verb, times.due, now);
        if let Some(began) = times.began
            && self.measures(times.due)
        {
            let verb = match verb {
                Verb::Session => Verb::SessionBegun,
                _ => Verb::MessageBegun,
            };
            self.record(verb, began, now);
        }
    }

    /// An operation of an open loop has come due.
    pub fn due(&mut self, due: Instant) {
        let measured = self.measures(due);
        self.interval.counts.due_ever += 1;
        self.interval.counts.due += u64::from(measured);
    }

    /// An operation of an open loop begins.
    pub fn begun(&mut self, due: Instant, now: Instant, late: bool) {
        self.interval.counts.begun_ever += 1;
        self.waiting(due, now);
        if late && self.measures(due) {
            self.interval.counts.late += 1;
        }
    }

    /// An operation that was due then has not begun until now.
    pub fn waiting(&mut self, due: Instant, now: Instant) {
        if self.measures(due) {
            let longest = &mut self.interval.counts.lateness_max;
            *longest = now.saturating_duration_since(due).max(*longest);
        }
    }

    /// Notes an error and what was said with it.
    pub fn fault(&mut self, key: FaultKey, sample: &[u8]) {
        let fault = self
            .interval
            .faults
            .entry(key)
            .or_insert_with(|| FaultCount {
                count: 0,
                sample: readable(sample),
            });
        fault.count += 1;
    }

    /// The sums, to be added to.
    pub fn counts(&mut self) -> &mut Counts {
        &mut self.interval.counts
    }

    /// What it takes this thread, to be added to.
    pub fn effort(&mut self) -> &mut Effort {
        &mut self.effort
    }

    /// Ships when it is time. To be called several times a second, on the thread that does the
    /// work: its CPU time is looked at.
    pub fn tick(&mut self, now: Instant) {
        if self.cpu.is_none() && now >= self.measure_from {
            self.cpu = Some((clock::thread_cpu(), clock::thread_waited()));
        }
        if now >= self.ship_at {
            self.ship();
            self.ship_at = now + SHIP_EVERY;
        }
    }

    fn ship(&mut self) {
        if let Some((cpu, waited)) = &mut self.cpu {
            let (cpu_now, waited_now) = (clock::thread_cpu(), clock::thread_waited());
            self.effort.cpu = cpu_now.saturating_sub(std::mem::replace(cpu, cpu_now));
            self.effort.waited = waited_now.saturating_sub(std::mem::replace(waited, waited_now));
        }
        let effort = std::mem::take(&mut self.effort);
        self.interval.efforts.insert(self.thread, effort);
        if let Some(to) = &self.to {
            // Nobody listens any more only if the main thread has given up: nothing to tell then.
            let _ = to.send(std::mem::take(&mut self.interval));
        }
    }

    /// Ships what there is, for the last time: the receiver learns that this thread is done.
    pub fn finish(&mut self) {
        self.ship();
        self.to = None;
    }
}

/// Text from a peer, made fit for a terminal.
pub fn readable(bytes: &[u8]) -> String {
    let bytes = bytes.trim_ascii();
    let cut = &bytes[..bytes.len().min(SAMPLE_BYTES_MAX)];
    String::from_utf8_lossy(cut)
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorder(measure_from: Instant) -> (Recorder, crossbeam::channel::Receiver<Interval>) {
        let (to, from) = crossbeam::channel::unbounded();
        (Recorder::new(measure_from, to), from)
    }

    #[test]
    fn all_verbs_stand_at_their_own_index() {
        for (index, verb) in Verb::ALL.into_iter().enumerate() {
            assert_eq!(verb as usize, index);
        }
    }

    #[test]
    fn warm_up_is_left_out() {
        let start = Instant::now();
        let (mut recorder, from) = recorder(start + Duration::from_secs(1));
        let late = start + Duration::from_secs(2);
        recorder.time(Verb::Mail, start, late);
        recorder.time(Verb::Mail, start + Duration::from_secs(1), late);
        recorder.ship();
        let interval = from.recv().expect("shipped");
        let histogram = interval.histogram(Verb::Mail).expect("seen");
        assert_eq!(histogram.len(), 1);
        assert!((999_000_000..1_002_000_000).contains(&histogram.max()));
    }

    #[test]
    fn intervals_add_up() {
        let start = Instant::now();
        let (mut recorder, from) = recorder(start);
        let key = FaultKey {
            fault: Fault::Transient,
            verb: Verb::Rcpt,
            code: 450,
        };
        for ms in 1..=3u64 {
            recorder.time(Verb::Body, start, start + Duration::from_millis(ms));
            recorder.fault(key, b"450 later\x1b[0m\r\n");
            recorder.counts().done += ms;
            recorder.ship();
        }
        let mut sum = Interval::default();
        from.try_iter().for_each(|interval| sum.add(interval));
        assert_eq!(sum.histogram(Verb::Body).expect("seen").len(), 3);
        assert_eq!(sum.counts.done, 6);
        assert_eq!(sum.faults[&key].count, 3);
        assert_eq!(sum.faults[&key].sample, "450 later?[0m");
        assert_eq!(sum.last_end, Some(start + Duration::from_millis(3)));
    }
}
