//! Sessions that truly act at the same time. What each is told then depends on who comes first: what
//! must hold in any case is checked as it happens, and all of it at quiet points.
//!
//! - A number means one message; UIDs ascend with numbers; nothing goes while numbers are in use.
//! - A message's MODSEQ never goes back, and its flags are those of the highest one told.
//! - At a quiet point all sessions see the same, and each had been told of it.
//! - A message that nobody marked as deleted is there exactly once, in one mailbox or the other:
//!   after any number of MOVEs, and after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use ringpost::store::sim::Random;

use super::link::{Broken, Link};
use super::response::{Response, Status, Value};

/// Where they meet.
pub const MAILBOXES: [&str; 2] = ["INBOX", "Archive"];

/// A message as a session knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    uid: Option<u32>,
    modseq: u64,
    flags: BTreeSet<String>,
}

/// What a session saw at a quiet point: UID, MODSEQ, flags.
pub type View = Vec<(u32, u64, BTreeSet<String>)>;

/// One session.
pub struct Racer {
    link: Link,
    name: String,
    mailbox: &'static str,
    random: Random,
    tags: u64,
    messages: Vec<Known>,
    /// Subjects of messages that were acknowledged, and of those that may have been put in.
    pub kept: Vec<String>,
    pub tried: Vec<String>,
}

type Outcome<T> = Result<T, String>;

/// The server is gone, which a crash is allowed to be.
const GONE: &str = "the server is gone";

fn broken(broken: Broken) -> String {
    match broken {
        Broken::Closed => GONE.to_owned(),
        Broken::Silent => "the server is silent".to_owned(),
        Broken::Nonsense(what) => what,
    }
}

impl Racer {
    /// Logs in and opens one of the mailboxes.
    pub fn new(imap: SocketAddr, number: usize, seed: u64) -> Outcome<Racer> {
        let mut racer = Racer {
            link: Link::new(imap, None),
            name: format!("r{number}-{seed}"),
            mailbox: MAILBOXES[number % 2],
            random: Random::new(seed * 100 + number as u64),
            tags: 0,
            messages: Vec::new(),
            kept: Vec::new(),
            tried: Vec::new(),
        };
        racer.link.read().map_err(broken)?;
        racer.ok("LOGIN u0@bench.test pw")?;
        let enabled = if number.is_multiple_of(3) {
            "QRESYNC"
        } else {
            "CONDSTORE"
        };
        racer.ok(&format!("ENABLE {enabled}"))?;
        racer.ok(&format!("SELECT {}", racer.mailbox))?;
        racer.ok("FETCH 1:* (UID FLAGS MODSEQ)")?;
        Ok(racer)
    }

    /// What was said last, for a report.
    pub fn history(&self) -> String {
        self.link.history()
    }

    fn ok(&mut self, command: &str) -> Outcome<()> {
        match self.say(command)? {
            Status::Ok => Ok(()),
            status => Err(format!("{status:?} to {command}")),
        }
    }

    fn say(&mut self, command: &str) -> Outcome<Status> {
        self.tags += 1;
        let tag = format!("t{}", self.tags);
        self.link.send(format!("{tag} {command}\r\n").as_bytes());
        let verb = command.split(' ').next().unwrap_or_default();
        let keeps_numbers = matches!(verb, "FETCH" | "STORE" | "SEARCH");
        loop {
            match self.link.read().map_err(broken)? {
                Response::Tagged(own, status, _) if own == tag => return Ok(status),
                Response::Exists(count) if verb == "SELECT" => {
                    self.messages = vec![Known::default(); count as usize];
                }
                Response::Exists(count) => {
                    let count = count as usize;
                    if count < self.messages.len() {
                        return Err(format!("{count} EXISTS of {}", self.messages.len()));
                    }
                    self.messages.resize(count, Known::default());
                }
                Response::Expunge(_) | Response::Vanished { .. } if keeps_numbers => {
                    return Err(format!("a message went during {verb}"));
                }
                Response::Expunge(number) => {
                    self.at(number)?;
                    self.messages.remove(number as usize - 1);
                }
                Response::Vanished {
                    uids,
                    earlier: false,
                } => self.vanished(&uids)?,
                Response::Fetch(number, items) => self.fetched(number, &items)?,
                Response::Bye => return Err(GONE.to_owned()),
                _ => {}
            }
        }
    }

    fn at(&mut self, number: u32) -> Outcome<&mut Known> {
        let count = self.messages.len();
        let index = (number as usize).checked_sub(1);
        let found = index.and_then(|index| self.messages.get_mut(index));
        found.ok_or_else(|| format!("number {number} of {count}"))
    }

    fn vanished(&mut self, uids: &[u32]) -> Outcome<()> {
        for uid in uids {
            let place = self
                .messages
                .iter()
                .position(|known| known.uid == Some(*uid));
            // It may have come and gone before it could be asked for: then it is one of those whose
            // UIDs are not known yet, between those that are.
            let behind = |known: &Known| known.uid.is_none_or(|own| own > *uid);
            let from = self.messages.iter().rposition(|known| !behind(known));
            let from = from.map_or(0, |index| index + 1);
            let unknown = self.messages.get(from).filter(|known| known.uid.is_none());
            let place = place.or(unknown.map(|_| from));
            let place = place.ok_or_else(|| format!("VANISHED {uid}, which is not known"))?;
            self.messages.remove(place);
        }
        Ok(())
    }

    fn fetched(&mut self, number: u32, items: &[(String, Value)]) -> Outcome<()> {
        let item = |wanted: &str| {
            let found = items.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value)
        };
        let uid = item("UID")
            .map(Value::number)
            .transpose()?
            .map(|uid| uid as u32);
        let modseq = match item("MODSEQ") {
            Some(value) => value.list()?.first().map(Value::number).transpose()?,
            None => None,
        };
        let flags: Option<BTreeSet<String>> = match item("FLAGS") {
            Some(value) => Some(
                value
                    .list()?
                    .iter()
                    .map(Value::text)
                    .collect::<Result<_, _>>()?,
            ),
            None => None,
        };
        let known = self.at(number)?;
        if uid.is_some() && known.uid.is_some() && known.uid != uid {
            return Err(format!(
                "number {number} is UID {uid:?}, and was {:?}",
                known.uid
            ));
        }
        known.uid = known.uid.or(uid);
        if let Some(modseq) = modseq {
            if modseq < known.modseq {
                return Err(format!(
                    "MODSEQ {modseq} of {number}, and was {}",
                    known.modseq
                ));
            }
            known.modseq = modseq;
        }
        if let Some(flags) = flags {
            known.flags = flags;
        }
        let uids: Vec<u32> = self.messages.iter().filter_map(|known| known.uid).collect();
        if !uids.is_sorted_by(|one, other| one < other) {
            return Err(format!("UIDs are not in order: {uids:?}"));
        }
        Ok(())
    }

    /// Commands one after the other, until there are so many or the race is over.
    pub fn race(&mut self, commands: usize, over: &AtomicBool) -> Outcome<()> {
        for _ in 0..commands {
            if over.load(Ordering::Relaxed) {
                return Ok(());
            }
            let count = self.messages.len() as u64;
            let one = 1 + self.random.below(count.max(1));
            let two = one + self.random.below(count.max(1) + 1 - one.min(count.max(1)));
            let unknown = self.messages.iter().any(|known| known.uid.is_none());
            if unknown {
                self.ok("FETCH 1:* (UID FLAGS MODSEQ)").or_else(not_gone)?;
                self.ok("NOOP")?;
                continue;
            }
            match self.random.below(12) {
                0..4 => self.append()?,
                _ if count == 0 => self.ok("NOOP")?,
                4..7 => {
                    let sign = if self.random.one_in(2) { "+" } else { "-" };
                    let flag = ["\\Seen", "\\Flagged", "\\Answered", "$word"];
                    let flag = flag[self.random.index(flag.len())];
                    let silent = if self.random.one_in(3) { ".SILENT" } else { "" };
                    self.say(&format!("STORE {one}:{two} {sign}FLAGS{silent} ({flag})"))?;
                    if !silent.is_empty() {
                        // What it has become the client would have to guess, others being at work.
                        self.say(&format!("FETCH {one}:{two} (UID FLAGS MODSEQ)"))?;
                    }
                }
                7 => drop(self.say("FETCH 1:* (UID FLAGS MODSEQ)")?),
                8 => {
                    let other = usize::from(self.mailbox == MAILBOXES[0]);
                    self.say(&format!("MOVE {one}:{two} {}", MAILBOXES[other]))?;
                }
                9 => self.ok("EXPUNGE")?,
                10 => drop(self.say("SEARCH UNSEEN KEYWORD $word")?),
                _ => self.ok("NOOP")?,
            }
        }
        Ok(())
    }

    /// Puts a message in; some are marked as deleted from the start, and may go.
    fn append(&mut self) -> Outcome<()> {
        let may_go = self.random.one_in(3);
        let subject = format!("{}-{}", self.name, self.tags);
        let flags = if may_go { " (\\Deleted)" } else { "" };
        let text = format!("Subject: {subject}\r\n\r\n{subject}\r\n");
        if !may_go {
            self.tried.push(subject.clone());
        }
        let command = format!(
            "APPEND {}{flags} {{{}+}}\r\n{text}",
            self.mailbox,
            text.len()
        );
        self.ok(&command)?;
        if !may_go {
            self.kept.push(subject);
        }
        Ok(())
    }

    /// All is quiet: what this session sees, after it was told what is new.
    pub fn look(&mut self) -> Outcome<(&'static str, View)> {
        self.ok("NOOP")?;
        if self.messages.iter().any(|known| known.uid.is_none()) {
            self.ok("FETCH 1:* (UID FLAGS MODSEQ)")?;
        }
        let before = self.messages.clone();
        self.ok("FETCH 1:* (UID FLAGS MODSEQ)")?;
        if let Some((told, is)) = before.iter().zip(&self.messages).find(|(a, b)| a != b) {
            return Err(format!("it knew {told:?}, and it is {is:?}"));
        }
        let view = self.messages.iter();
        let view = view.map(|k| (k.uid.unwrap_or(0), k.modseq, k.flags.clone()));
        Ok((self.mailbox, view.collect()))
    }
}

fn not_gone(error: String) -> Outcome<()> {
    // A message may have gone in between: NO [EXPUNGEISSUED].
    if error.starts_with("No ") {
        Ok(())
    } else {
        Err(error)
    }
}

/// It ended because the server did.
pub fn is_gone(outcome: &Outcome<()>) -> bool {
    outcome.as_ref().is_err_and(|error| error == GONE)
}

/// Subjects of all messages, and how often each is there.
pub fn subjects(imap: SocketAddr) -> Outcome<BTreeMap<String, u32>> {
    let mut link = Link::new(imap, None);
    link.send(b"a LOGIN u0@bench.test pw\r\n");
    let mut found = BTreeMap::new();
    for name in MAILBOXES {
        link.send(format!("b EXAMINE {name}\r\nc FETCH 1:* (BODY.PEEK[])\r\n").as_bytes());
        loop {
            match link.read().map_err(broken)? {
                Response::Fetch(_, items) => {
                    let text = items.first().ok_or("nothing")?.1.text()?;
                    let line = text.lines().next().unwrap_or_default();
                    *found.entry(line.replace("Subject: ", "")).or_default() += 1;
                }
                Response::Tagged(tag, status, _) if tag == "c" => {
                    if status != Status::Ok {
                        return Err(format!("{status:?} to FETCH"));
                    }
                    break;
                }
                _ => {}
            }
        }
    }
    Ok(found)
}
