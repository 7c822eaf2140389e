//! Watchers: sessions that stay in an open mailbox and see when mail arrives, by IDLE (RFC 2177)
//! or by NOOP at intervals. A message that is followed has a session of its own, from when the
//! message was acknowledged to when it is there.
//!
//! Guarantees: a message counts as seen when the server first said EXISTS for it; its id is read
//! from its header afterwards. IDLE is begun anew before the server may log the session out.
//! On failure: a broken session is opened again, and finds what has come meanwhile.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::client::{Client, Context, Event, Login};
use super::responses::Piece;
use crate::dialogue::secured::Upgrade;
use crate::dialogue::{Dialogue, End, Next, Work};
use crate::message::MessageId;
use crate::pool::Pool;
use crate::recorder::{Recorder, Verb};
use crate::schedule::Schedule;
use crate::visible::{FOLLOWED_BACK, FOLLOWED_SOON, Tracker};

/// IDLE is begun anew so often: servers may log a client out after 30 minutes (RFC 2177 §3).
const IDLE_AGAIN: Duration = Duration::from_secs(29 * 60);
/// Bytes of the one header field that is fetched.
const FIELD_BYTES_MAX: usize = 512;
/// Notices of arrivals that are kept until ids are known; beyond it the oldest count for more.
const NOTICES_MAX: usize = 10_000;

/// How a mailbox is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watching {
    /// The server says it.
    Idle,
    /// NOOP, so often.
    Poll(Duration),
}

/// What the run asks for.
#[derive(Debug)]
pub struct WatchOptions {
    /// How sessions begin.
    pub login: Login,
    /// How mailboxes are watched.
    pub watching: Watching,
    /// Mailboxes of the tracker that have a session; the rest waits for its turn.
    pub begun: AtomicUsize,
}

/// What the connections of one thread share.
#[derive(Debug)]
pub struct ImapWatchWork {
    options: Arc<WatchOptions>,
    schedule: Arc<Schedule>,
    pool: Arc<Pool>,
    tracker: Arc<Tracker>,
    recorder: Recorder,
    /// Mailboxes whose session broke, and the message that each is watched for.
    again: VecDeque<(u32, Option<MessageId>)>,
    /// Messages of each mailbox that have been looked at.
    known: FxHashMap<u32, u32>,
    failure: Option<String>,
}

impl ImapWatchWork {
    /// For one thread.
    pub fn new(
        options: Arc<WatchOptions>,
        schedule: Arc<Schedule>,
        pool: Arc<Pool>,
        tracker: Arc<Tracker>,
        recorder: Recorder,
    ) -> ImapWatchWork {
        ImapWatchWork {
            options,
            schedule,
            pool,
            tracker,
            recorder,
            again: VecDeque::new(),
            known: FxHashMap::default(),
            failure: None,
        }
    }
}

impl Work for ImapWatchWork {
    fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    fn is_cut(&self, _now: Instant) -> bool {
        self.schedule.is_cut()
    }

    fn failure(&self) -> Option<String> {
        self.failure.clone()
    }

    fn next_due(&mut self, now: Instant) -> Option<Instant> {
        if self.schedule.is_over(now) || !self.tracker.follows() {
            return None;
        }
        let waits = !self.again.is_empty()
            || self.options.begun.load(Ordering::Relaxed) < self.tracker.mailboxes().len()
            || self.tracker.has_fresh();
        Some(if waits { now } else { now + FOLLOWED_SOON })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Opening,
    /// Between two looks, until then.
    Asleep(Instant),
    Noop,
    /// IDLE was sent, `+` has not come.
    EnteringIdle,
    /// To be begun anew then.
    Idling(Instant),
    /// DONE was sent.
    LeavingIdle,
    Fetching,
}

/// One connection's conversation: one watched mailbox.
#[derive(Debug)]
pub struct ImapWatch {
    client: Client,
    mailbox: u32,
    /// It is watched for this message only.
    followed: Option<MessageId>,
    state: State,
    began: Instant,
    /// Messages looked at, and asked for.
    known: u32,
    asked: u32,
    /// The mailbox had so many messages then; times grow.
    notices: VecDeque<(u32, Instant)>,
    /// Number of the message whose FETCH response is being read, and its field.
    fetching: u32,
    field: Vec<u8>,
}

impl Dialogue for ImapWatch {
    type Work = ImapWatchWork;

    fn open(work: &mut ImapWatchWork, now: Instant) -> Option<ImapWatch> {
        if work.schedule.is_over(now) {
            return None;
        }
        let fresh = || {
            let index = work.options.begun.fetch_add(1, Ordering::Relaxed);
            work.tracker
                .mailboxes()
                .get(index)
                .map(|&mailbox| (mailbox, None))
        };
        let followed = || {
            work.tracker
                .follow()
                .map(|(id, mailbox)| (mailbox, Some(id)))
        };
        let again = work.again.pop_front();
        let (mailbox, followed) = again.or_else(fresh).or_else(followed)?;
        Some(ImapWatch {
            client: Client::new(now),
            mailbox,
            followed,
            state: State::Opening,
            began: now,
            known: 0,
            asked: 0,
            notices: VecDeque::new(),
            fetching: 0,
            field: Vec::new(),
        })
    }

    fn connected(&mut self, _work: &mut ImapWatchWork, now: Instant, _out: &mut Vec<u8>) -> Next {
        self.began = now;
        self.client.connected(now);
        Next::Wait
    }

    fn received(
        &mut self,
        work: &mut ImapWatchWork,
        mut input: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next {
        loop {
            let mut context = Context {
                recorder: &mut work.recorder,
                login: &work.options.login,
                address: work.pool.get(self.mailbox),
                now,
                out,
            };
            let (fetching, field) = (&mut self.fetching, &mut self.field);
            let event = self
                .client
                .next(&mut input, &mut context, |piece| match piece {
                    Piece::Text { text, first, .. } => {
                        if first {
                            *fetching = fetch_number(text);
                            field.clear();
                        }
                        // A field may come as a quoted text as well.
                        let room = FIELD_BYTES_MAX.saturating_sub(field.len());
                        field.extend_from_slice(&text[..text.len().min(room)]);
                    }
                    Piece::Literal(bytes) => {
                        let room = FIELD_BYTES_MAX.saturating_sub(field.len());
                        field.extend_from_slice(&bytes[..bytes.len().min(room)]);
                    }
                    Piece::LiteralEnd => {}
                });
            match event {
                Ok(None) => return self.rest(),
                Ok(Some(Event::Failed)) => return Next::Fail,
                Ok(Some(Event::Ready)) => self.ready(work, now, out),
                Ok(Some(Event::Untagged)) => self.untagged(work, now, out),
                Ok(Some(Event::Continue)) => {
                    if self.state == State::EnteringIdle {
                        work.recorder.time(Verb::Idle, self.began, now);
                        if self.followed.is_none()
                            && let Entry::Vacant(place) = work.known.entry(self.mailbox)
                        {
                            place.insert(self.known);
                            work.tracker.arm();
                        }
                        self.state = State::Idling(now + IDLE_AGAIN);
                        // What came before `+` was noticed, and is to be looked at.
                        self.look(now, out);
                    }
                }
                Ok(Some(Event::Answered(_))) if self.client.is_leaving() => return Next::Close,
                Ok(Some(Event::Answered(false))) => return Next::Fail,
                Ok(Some(Event::Answered(true))) => self.answered(work, now, out),
                Err(nonsense) => {
                    self.client.nonsense(&mut work.recorder, &nonsense);
                    return Next::Fail;
                }
            }
            if work.failure.is_some() {
                return Next::Fail;
            }
        }
    }

    fn woken(&mut self, _work: &mut ImapWatchWork, now: Instant, out: &mut Vec<u8>) -> Next {
        match self.state {
            State::Asleep(_) => {
                self.state = State::Noop;
                self.client.command(Verb::Noop, b"NOOP", now, out);
            }
            State::Idling(_) => self.leave_idle(now, out),
            _ => {}
        }
        self.rest()
    }

    fn ended(self, work: &mut ImapWatchWork, end: End<'_>, now: Instant) {
        self.client.ended(&mut work.recorder, end);
        if self.client.is_open()
            && self.followed.is_none()
            && let Some(known) = work.known.get_mut(&self.mailbox)
        {
            *known = self.known;
        }
        let done = self
            .followed
            .is_some_and(|id| !work.tracker.awaits(id, self.mailbox));
        if !done && !work.schedule.is_over(now) && end != End::Cut {
            work.again.push_back((self.mailbox, self.followed));
        }
    }
}

impl Upgrade for ImapWatch {
    fn wants_tls(&self) -> bool {
        self.client.wants_tls()
    }

    fn upgraded(&mut self, _work: &mut ImapWatchWork, now: Instant, out: &mut Vec<u8>) -> Next {
        self.client.upgraded(now, out);
        Next::Wait
    }
}

impl ImapWatch {
    fn rest(&self) -> Next {
        match self.state {
            State::Asleep(until) | State::Idling(until) => Next::Sleep(until),
            _ => Next::Wait,
        }
    }

    fn ready(&mut self, work: &mut ImapWatchWork, now: Instant, out: &mut Vec<u8>) {
        let exists = self.client.exists();
        if work.options.watching == Watching::Idle && !self.client.capabilities().idle {
            work.failure = Some("the server does not announce IDLE (RFC 2177)".to_owned());
            return;
        }
        match work.known.get(&self.mailbox) {
            _ if self.followed.is_some() => self.known = exists.saturating_sub(FOLLOWED_BACK),
            // After a break: what is there now and was not then has become visible meanwhile.
            Some(&known) => self.known = known.min(exists),
            None => {
                self.known = exists;
                if work.options.watching != Watching::Idle {
                    work.tracker.arm();
                    work.known.insert(self.mailbox, exists);
                }
            }
        }
        self.notice(now);
        self.next(work, now, out);
    }

    fn notice(&mut self, now: Instant) {
        let exists = self.client.exists();
        self.known = self.known.min(exists);
        let noticed = self.notices.back().map_or(self.known, |(count, _)| *count);
        if exists > noticed {
            if self.notices.len() >= NOTICES_MAX {
                self.notices.pop_front();
            }
            self.notices.push_back((exists, now));
        }
    }

    fn untagged(&mut self, work: &ImapWatchWork, now: Instant, out: &mut Vec<u8>) {
        if self.fetching > self.known && self.state == State::Fetching {
            if let Some(id) = find_id(&self.field) {
                let number = self.fetching;
                let seen = self.notices.iter().find(|(count, _)| *count >= number);
                let seen = seen.map_or(now, |(_, at)| *at);
                work.tracker.seen(id, self.mailbox, seen);
            }
            return;
        }
        self.notice(now);
        self.look(now, out);
    }

    /// Ends IDLE if there is something new.
    fn look(&mut self, now: Instant, out: &mut Vec<u8>) {
        if matches!(self.state, State::Idling(_)) && self.client.exists() > self.known {
            self.leave_idle(now, out);
        }
    }

    fn leave_idle(&mut self, now: Instant, out: &mut Vec<u8>) {
        out.extend_from_slice(b"DONE\r\n");
        self.client.time_again(Verb::Done, now);
        self.state = State::LeavingIdle;
    }

    fn answered(&mut self, work: &mut ImapWatchWork, now: Instant, out: &mut Vec<u8>) {
        self.notice(now);
        if self.state == State::Fetching {
            let counts = work.recorder.counts();
            counts.ended_ever += 1;
            counts.done_ever += 1;
        }
        self.next(work, now, out);
    }

    /// Looks at what is new, or waits for more.
    fn next(&mut self, work: &mut ImapWatchWork, now: Instant, out: &mut Vec<u8>) {
        let exists = self.client.exists();
        if self.state == State::Fetching {
            self.known = self.asked.min(exists);
            let known = self.known;
            self.notices.retain(|(count, _)| *count > known);
        }
        if let Some(id) = self.followed
            && !work.tracker.awaits(id, self.mailbox)
        {
            return self.client.leave(now, out);
        }
        if exists > self.known {
            let text = format!(
                "FETCH {}:{exists} (BODY.PEEK[HEADER.FIELDS (X-Loadgen-Id)])",
                self.known + 1
            );
            self.asked = exists;
            self.state = State::Fetching;
            self.client
                .command(Verb::FetchIds, text.as_bytes(), now, out);
            return;
        }
        self.notices.clear();
        match work.options.watching {
            Watching::Poll(interval) => self.state = State::Asleep(now + interval),
            Watching::Idle => {
                self.state = State::EnteringIdle;
                self.began = now;
                self.client.command(Verb::Idle, b"IDLE", now, out);
            }
        }
    }
}

/// 12 in `* 12 FETCH (...`; 0 if it is something else.
fn fetch_number(text: &[u8]) -> u32 {
    let mut words = text.split(|&byte| byte == b' ').skip(1);
    let number = words.next().and_then(|word| std::str::from_utf8(word).ok());
    match words.next() {
        Some(word) if word.eq_ignore_ascii_case(b"FETCH") => {
            number.and_then(|number| number.parse().ok()).unwrap_or(0)
        }
        _ => 0,
    }
}

/// The id in a field `X-Loadgen-Id: ...` somewhere in `text`.
fn find_id(text: &[u8]) -> Option<MessageId> {
    let name = b"x-loadgen-id: ";
    let starts = (0..text.len()).rev();
    let mut found = starts.filter(|&at| {
        text.len() >= at + name.len() && text[at..at + name.len()].eq_ignore_ascii_case(name)
    });
    let at = found.next()? + name.len();
    MessageId::parse(text.get(at..at + MessageId::TEXT_BYTES)?)
}
