//! Counts and times what happens, per thread; ships it to the main thread twice a second.
//!
//! An operation belongs to the measurement if it began after the warm-up; all that came before is
//! left out of counts and histograms. Times are nanoseconds in histograms of three digits.
//! Does not know: what is measured, how it is shown.

use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use hdrhistogram::Histogram;
use rustc_hash::FxHashMap;

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
    /// How much later than due an operation began for which a connection was free.
    Lateness,
}

impl Verb {
    /// All, in the order of a conversation.
    pub const ALL: [Verb; 44] = [
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
            Verb::Lateness => "generator.late",
        }
    }
}

/// How something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// Sums of everything, measured part only unless it says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages (SMTP, LMTP) or sessions (POP3) that ended as they should.
    pub done: u64,
    /// The same, warm-up included: for the progress display and for `--count`.
    pub done_ever: u64,
    /// Messages or sessions that ended at all, warm-up included.
    pub ended_ever: u64,
    /// Messages or sessions that did not end as they should.
    pub failed: u64,
    /// Recipients acknowledged, or messages retrieved.
    pub items: u64,
    /// Recipients whose message may have arrived: the connection broke.
    pub unknown: u64,
    /// Connections that came up, warm-up included.
    pub connections: u64,
    /// Bytes sent, warm-up included.
    pub bytes_sent: u64,
    /// Bytes received, warm-up included.
    pub bytes_received: u64,
}

impl Counts {
    /// Adds another thread's or interval's.
    pub fn add(&mut self, other: &Counts) {
        self.done += other.done;
        self.done_ever += other.done_ever;
        self.ended_ever += other.ended_ever;
        self.failed += other.failed;
        self.items += other.items;
        self.unknown += other.unknown;
        self.connections += other.connections;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
    }
}

/// Histograms by verb; `None` where nothing was seen.
#[derive(Debug)]
pub struct Histograms([Option<Box<Histogram<u64>>>; Verb::ALL.len()]);

impl Default for Histograms {
    fn default() -> Histograms {
        Histograms([const { None }; Verb::ALL.len()])
    }
}

/// What one thread saw since it last shipped.
#[derive(Debug, Default)]
pub struct Interval {
    /// By verb.
    pub histograms: Histograms,
    /// Sums.
    pub counts: Counts,
    /// Errors.
    pub faults: FxHashMap<FaultKey, FaultCount>,
    /// The last measured operation ended then.
    pub last_end: Option<Instant>,
}

impl Interval {
    /// Adds another thread's or interval's.
    pub fn add(&mut self, other: Interval) {
        for (mine, theirs) in self.histograms.0.iter_mut().zip(other.histograms.0) {
            match (mine, theirs) {
                (Some(mine), Some(theirs)) => {
                    // Both have the bounds of `new_histogram`.
                    let added = mine.add(*theirs);
                    debug_assert!(added.is_ok());
                }
                (mine @ None, theirs) => *mine = theirs,
                (Some(_), None) => {}
            }
        }
        self.counts.add(&other.counts);
        for (key, fault) in other.faults {
            self.faults
                .entry(key)
                .and_modify(|mine| mine.count += fault.count)
                .or_insert(fault);
        }
        self.last_end = self.last_end.max(other.last_end);
    }

    /// Adds a time that was measured beside the run: the run's length does not depend on it.
    pub fn time(&mut self, verb: Verb, began: Instant, ended: Instant) {
        let ns = u64::try_from((ended - began).as_nanos()).unwrap_or(u64::MAX);
        self.histograms.0[verb as usize]
            .get_or_insert_with(|| Box::new(new_histogram()))
            .saturating_record(ns);
    }

    /// The histogram of `verb`, if anything was seen.
    pub fn histogram(&self, verb: Verb) -> Option<&Histogram<u64>> {
        self.histograms.0[verb as usize].as_deref()
    }
}

/// Nanoseconds: 1 µs to one hour in three digits.
fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 3_600_000_000_000, 3).expect("these bounds are valid")
}

/// Ships an interval so often.
const SHIP_EVERY: Duration = Duration::from_millis(500);

/// One thread's recorder.
#[derive(Debug)]
pub struct Recorder {
    measure_from: Instant,
    interval: Interval,
    ship_at: Instant,
    /// `None` after the end.
    to: Option<Sender<Interval>>,
}

impl Recorder {
    /// Measures what begins at `measure_from` or later, and ships to `to`.
    pub fn new(measure_from: Instant, to: Sender<Interval>) -> Recorder {
        Recorder {
            measure_from,
            interval: Interval::default(),
            ship_at: Instant::now() + SHIP_EVERY,
            to: Some(to),
        }
    }

    /// Whether what began then is measured.
    pub fn measures(&self, began: Instant) -> bool {
        began >= self.measure_from
    }

    /// Notes the time of an operation.
    pub fn time(&mut self, verb: Verb, began: Instant, now: Instant) {
        if began < self.measure_from {
            return;
        }
        let ns = u64::try_from((now - began).as_nanos()).unwrap_or(u64::MAX);
        self.interval.histograms.0[verb as usize]
            .get_or_insert_with(|| Box::new(new_histogram()))
            .saturating_record(ns);
        self.interval.last_end = Some(now);
    }

    /// Notes a time that was measured beside the run: the run's length does not depend on it.
    pub fn time_beside(&mut self, verb: Verb, began: Instant, ended: Instant) {
        if began >= self.measure_from {
            self.interval.time(verb, began, ended);
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

    /// Ships when it is time.
    pub fn tick(&mut self, now: Instant) {
        if now >= self.ship_at {
            self.ship();
            self.ship_at = now + SHIP_EVERY;
        }
    }

    fn ship(&mut self) {
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
