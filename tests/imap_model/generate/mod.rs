//! Chooses commands: mostly sensible ones, about what is there, some about what is not.

mod others;

use std::rc::Rc;

use ringpost::store::sim::Random;

use super::client::Client;
use super::command::{Command, LAST, New, Qresync, Set};
use super::search::{Key, Returns};
use super::site::Site;
use super::world::{Account, Mailbox, Marks, Mode, Since};

/// Levels of names.
const LEVELS: &[&str] = &["a", "b", "c", "d e", "Entwürfe"];
const KEYWORDS: &[&str] = &["$one", "$two", "three", "$four", "five"];
const SPECIAL_USES: &[&str] = &["\\Drafts", "\\Sent", "\\Trash", "\\Junk", "\\Archive"];
/// What FETCH is asked for.
const ITEMS: &[&[&str]] = &[
    &["FLAGS"],
    &["UID", "FLAGS"],
    &["UID", "FLAGS", "MODSEQ"],
    &["UID", "RFC822.SIZE", "INTERNALDATE"],
    &["FLAGS", "RFC822.SIZE", "EMAILID"],
    &["UID", "BODY.PEEK[]"],
    &["MODSEQ"],
];
/// Messages of a mailbox above which more are taken away than put in.
const MESSAGES_MANY: usize = 40;
/// The same of mailboxes of an account.
const MAILBOXES_MANY: usize = 14;
/// Messages above which a mailbox counts as large, and more of which it is not to have.
const LARGE_FROM: usize = 500;
const LARGE_MANY: usize = 3500;
/// The large mailbox of a wide run.
pub const LARGE: &str = "Archive";
/// Levels of a name that RENAME does not go beyond.
const DEPTH_MAX: usize = 7;

/// What is chosen from.
pub struct Chooser<'a> {
    pub random: &'a mut Random,
    pub site: &'a Site,
    /// One's own.
    pub account: &'a Account,
    pub client: &'a Client,
    /// Others' mailboxes, annotations, message numbers where there are none.
    pub wide: bool,
    /// Mailbox that other sessions have open: it is met more often.
    pub popular: &'a str,
}

impl<'a> Chooser<'a> {
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.index(from.len())]
    }

    fn open(&self) -> Option<&'a Mailbox> {
        self.site.open(self.client)
    }

    /// What is open was opened with other rights than there are now.
    fn is_old(&self) -> bool {
        let selected = self.client.selected.as_ref();
        let rights = self
            .open()
            .map(|mailbox| self.site.rights(self.client.own, mailbox));
        selected
            .zip(rights)
            .is_some_and(|(selected, now)| selected.rights != now)
    }

    /// Others have to do with it, too: it is neither removed nor renamed.
    fn stays(&self, name: &str) -> bool {
        name == self.popular || self.wide && name == LARGE
    }

    /// A name that may or may not be one.
    fn any_name(&mut self) -> String {
        let depth = 1 + self.random.index(3);
        let levels: Vec<&str> = (0..depth).map(|_| self.pick(LEVELS)).collect();
        let name = levels.join("/");
        if self.random.one_in(12) {
            return format!("INBOX/{name}");
        }
        name
    }

    /// The name of a mailbox that is there.
    fn name(&mut self) -> String {
        if self.random.one_in(2) && self.account.mailboxes.contains_key(self.popular) {
            return self.popular.to_owned();
        }
        let index = self.random.index(self.account.mailboxes.len());
        let name = self.account.mailboxes.keys().nth(index);
        name.cloned().unwrap_or_else(|| "INBOX".to_owned())
    }

    /// Mostly there.
    fn target(&mut self) -> String {
        if self.random.one_in(15) {
            self.any_name()
        } else {
            self.name()
        }
    }

    fn marks(&mut self) -> Marks {
        let mut marks = Marks::default();
        for bit in 0..5 {
            marks.flags |= u8::from(self.random.one_in(4)) << bit;
        }
        while self.random.one_in(4) {
            marks.keywords.insert(self.pick(KEYWORDS).to_owned());
        }
        marks
    }

    /// For STORE: at least one where none would change nothing.
    fn changes(&mut self, mode: Mode) -> Marks {
        let mut marks = self.marks();
        if mode != Mode::Replace && marks == Marks::default() {
            marks.flags = 1 << self.random.index(5);
        }
        marks
    }

    fn body(&mut self) -> Rc<[u8]> {
        let lines = match self.random.below(400) {
            // Above what a session holds: it comes to the store in pieces.
            0 => 4600,
            1..8 => 300,
            8..200 => 1,
            _ => self.random.index(8),
        };
        let mut body = format!("Subject: {:x}\r\n\r\n", self.random.bits());
        for _ in 0..lines {
            let filler = "0123456789abcdefghijklmnopqrstuvwxyz ()\"{}\\";
            let start = self.random.index(filler.len());
            body.push_str(&filler[start..]);
            body.push_str(&filler[..start]);
            body.push_str(&filler[..self.random.index(filler.len())]);
            body.push_str("\r\n");
        }
        body.into_bytes().into()
    }

    fn new_message(&mut self) -> New {
        let date = self.random.one_in(3).then(|| {
            let (day, hour) = (10 + self.random.below(18), 10 + self.random.below(14));
            format!("{day}-Jul-2024 {hour}:44:25 +0000")
        });
        New {
            marks: if self.random.one_in(2) {
                self.marks()
            } else {
                Marks::default()
            },
            date,
            body: self.body(),
        }
    }

    /// Numbers, mostly ones that are there.
    fn numbers(&mut self) -> Set {
        let exists = self
            .client
            .selected
            .as_ref()
            .map_or(0, |s| s.view.len() as u64);
        if self.random.one_in(40) {
            return Set::Saved;
        }
        if self.random.one_in(6) {
            return Set::Ranges(vec![(1, LAST)]);
        }
        let bound = exists.max(1) + u64::from(self.random.one_in(30));
        self.ranges(1, bound)
    }

    /// UIDs, mostly ones that are there.
    fn uids(&mut self) -> Set {
        if self.random.one_in(40) {
            return Set::Saved;
        }
        if self.random.one_in(6) {
            return Set::Ranges(vec![(1, LAST)]);
        }
        let view = self.client.selected.as_ref().map(|s| s.view.as_slice());
        let view = view.unwrap_or_default();
        let first = view.first().map_or(1, |uid| *uid);
        let end = view.last().map_or(1, |uid| *uid + 2);
        self.ranges(u64::from(first), u64::from(end - first) + 1)
    }

    fn ranges(&mut self, first: u64, bound: u64) -> Set {
        let mut ranges = Vec::new();
        loop {
            let mut number = || (first + self.random.below(bound)) as u32;
            let (low, mut high) = (number(), number());
            match self.random.below(12) {
                0..6 => high = low,
                6 => high = LAST,
                _ => {}
            }
            ranges.push((low, high));
            if !self.random.one_in(3) {
                return Set::Ranges(ranges);
            }
        }
    }

    fn set(&mut self, by_uid: bool) -> Set {
        if by_uid { self.uids() } else { self.numbers() }
    }

    /// A MODSEQ of this mailbox that was told, or one below, or above all.
    fn since(&mut self, mailbox: &Mailbox) -> Since {
        let learned = mailbox.learned();
        if learned.is_empty() || self.random.one_in(20) {
            return Since {
                modseq: i64::MAX as u64 - 1,
                tick: u64::MAX,
            };
        }
        // Recent ones mostly.
        let back = if self.random.one_in(3) {
            learned.len()
        } else {
            learned.len().min(8)
        };
        let found = learned.iter().rev().nth(self.random.index(back));
        let (tick, modseq) = found.map_or((0, 1), |(tick, modseq)| (*tick, *modseq));
        if modseq > 1 && self.random.one_in(3) {
            return Since {
                modseq: modseq - 1,
                tick: tick.saturating_sub(1),
            };
        }
        Since { modseq, tick }
    }

    fn since_in_open(&mut self) -> Option<Since> {
        let mailbox = self.open()?;
        Some(self.since(mailbox))
    }

    fn select(&mut self, name: String) -> Command {
        let site = self.site;
        let qresync = match site.named(self.client.own, &name) {
            Some(mailbox) if self.client.enabled.qresync && self.random.one_in(2) => {
                let since = self.since(mailbox);
                let validity = mailbox
                    .validity
                    .map(|validity| match self.random.below(10) {
                        0 => validity + 1,
                        _ => validity,
                    });
                let known = self
                    .random
                    .one_in(2)
                    .then(|| self.ranges(1, u64::from(mailbox.uid_next)));
                validity.map(|validity| Qresync {
                    validity,
                    since,
                    known: known.map(without_last),
                })
            }
            _ => None,
        };
        Command::Select {
            name,
            read_only: self.random.one_in(6),
            condstore: self.client.enabled.condstore && self.random.one_in(4),
            qresync,
        }
    }

    /// One that has not much to do with what is open.
    fn about_mailboxes(&mut self) -> Command {
        let many = self.account.mailboxes.len() > MAILBOXES_MANY;
        match self.random.below(30) {
            0..4 if !many => {
                let special_use = self.random.one_in(8).then(|| self.pick(SPECIAL_USES));
                let mut name = self.any_name();
                if self.random.one_in(8) {
                    name.push('/');
                }
                Command::Create(name, special_use)
            }
            4 if !many => Command::Create(self.name(), None),
            0..5 => {
                let name = self.name();
                if self.wide && name == LARGE {
                    return Command::Noop;
                }
                Command::Delete(name)
            }
            5 => {
                let name = self.target();
                // What every account has is the others' to work with.
                if self.stays(&name) {
                    Command::Noop
                } else {
                    Command::Delete(name)
                }
            }
            6..9 => self.rename(),
            9..12 => {
                let name = if self.random.one_in(2) {
                    self.name()
                } else {
                    self.any_name()
                };
                Command::Subscribe(name, self.random.below(5) > 1)
            }
            12..15 => {
                let pattern = self.pattern();
                Command::List {
                    pattern,
                    subscribed: self.random.one_in(3),
                    status: self.random.one_in(3),
                }
            }
            15..17 => Command::Lsub(self.pattern()),
            17..20 if self.client.enabled.condstore => Command::Status(self.place()),
            20..26 => {
                let name = self.place();
                self.select(name)
            }
            26 => Command::Unselect,
            27 => Command::Close,
            _ => Command::Noop,
        }
    }

    fn rename(&mut self) -> Command {
        if self.random.one_in(20) {
            return Command::Rename("INBOX".to_owned(), self.any_name());
        }
        let levels = self.account.levels();
        let index = self.random.index(levels.len());
        let from = levels.into_iter().nth(index).unwrap_or_default();
        let to = if self.random.one_in(6) {
            self.name()
        } else {
            self.any_name()
        };
        let below = |name: &&String| name.starts_with(&from);
        let depths = self.account.mailboxes.keys().filter(below);
        let deepest = depths
            .map(|name| name.split('/').count())
            .max()
            .unwrap_or(1);
        if from == "INBOX" || self.stays(&from) || to.split('/').count() + deepest > DEPTH_MAX {
            return Command::Noop;
        }
        Command::Rename(from, to)
    }

    fn pattern(&mut self) -> String {
        match self.random.below(8) {
            0..3 => "*".to_owned(),
            3..5 => "%".to_owned(),
            5 => format!("{}/%", self.pick(LEVELS)),
            6 => format!("*{}*", self.pick(LEVELS)),
            _ => self.name(),
        }
    }

    fn key(&mut self, depth: usize) -> Key {
        match self.random.below(if depth > 2 { 10 } else { 14 }) {
            0 => Key::All,
            1..4 => Key::Flag(self.random.index(5), self.random.one_in(2)),
            4 => Key::Keyword(self.pick(KEYWORDS), self.random.one_in(2)),
            5 => Key::Larger(self.random.below(300)),
            6 => Key::Smaller(self.random.below(300)),
            7 => Key::Numbers(self.numbers()),
            8 => Key::Uids(self.uids()),
            9 if self.client.enabled.condstore => match self.since_in_open() {
                Some(since) => Key::Modseq(since),
                None => Key::All,
            },
            9 => Key::All,
            10 => Key::Not(Box::new(self.key(depth + 1))),
            11..13 => Key::Or(Box::new(self.key(depth + 1)), Box::new(self.key(depth + 1))),
            _ => Key::And(vec![self.key(depth + 1), self.key(depth + 1)]),
        }
    }

    fn returns(&mut self) -> Option<Returns> {
        self.random.one_in(2).then(|| Returns {
            min: self.random.one_in(3),
            max: self.random.one_in(3),
            all: self.random.one_in(3),
            count: self.random.one_in(3),
            save: self.random.one_in(3),
        })
    }

    /// About the open mailbox.
    fn about_messages(&mut self, mailbox: &Mailbox) -> Command {
        let is_large = mailbox.messages.len() >= LARGE_FROM;
        let many = mailbox.messages.len() > if is_large { LARGE_MANY } else { MESSAGES_MANY };
        let mut by_uid = self.random.one_in(2);
        if self.client.enabled.uid_only && !self.random.one_in(12) {
            by_uid = true;
        }
        let condstore = self.client.enabled.condstore;
        match self.random.below(30) {
            0..8 => {
                let mode = self.pick(&[Mode::Replace, Mode::Add, Mode::Add, Mode::Remove]);
                Command::Store {
                    by_uid,
                    set: self.set(by_uid),
                    mode,
                    silent: self.random.one_in(3),
                    marks: self.changes(mode),
                    since: (condstore && self.random.one_in(3)).then(|| self.since(mailbox)),
                }
            }
            8..15 => {
                let wants_since = condstore && self.random.one_in(3);
                let since = wants_since.then(|| self.since(mailbox));
                let vanished = self.client.enabled.qresync && self.random.one_in(2);
                let mut items = self.pick(ITEMS).to_vec();
                if !condstore {
                    items.retain(|item| *item != "MODSEQ");
                    if items.is_empty() {
                        items.push("UID");
                    }
                }
                Command::Fetch {
                    by_uid: by_uid || vanished && since.is_some(),
                    set: self.set(by_uid || vanished && since.is_some()),
                    items,
                    since,
                    vanished: vanished && since.is_some(),
                }
            }
            15 => self.read(by_uid),
            16..20 => Command::Search {
                by_uid,
                keys: (0..1 + self.random.index(2)).map(|_| self.key(0)).collect(),
                returns: self.returns(),
            },
            20..23 if !many => Command::Copy {
                by_uid,
                set: if is_large {
                    self.few(by_uid)
                } else {
                    self.set(by_uid)
                },
                name: self.place(),
                moves: self.random.one_in(2),
            },
            23..26 if !many => self.append(),
            20..25 => Command::Store {
                by_uid: true,
                set: self.uids(),
                mode: Mode::Add,
                silent: self.random.one_in(2),
                marks: Marks {
                    flags: super::world::DELETED,
                    ..Marks::default()
                },
                since: None,
            },
            25 => Command::Expunge(Some(self.uids())),
            26 => Command::Expunge(None),
            27 => {
                let number = match self.set(by_uid) {
                    Set::Ranges(ranges) if ranges[0].0 != LAST => ranges[0].0,
                    _ => 1,
                };
                Command::Replace {
                    by_uid,
                    number,
                    name: self.place(),
                    new: self.new_message(),
                }
            }
            28 => Command::Check,
            _ => Command::Noop,
        }
    }

    /// One message, and so that it is seen.
    fn read(&mut self, by_uid: bool) -> Command {
        let number = match self.ranges(1, 20) {
            Set::Ranges(ranges) => ranges[0].0,
            Set::Saved => 1,
        };
        let items: &[&str] = if self.random.one_in(3) {
            &["FLAGS", "BODY[]"]
        } else {
            &["BODY[]"]
        };
        Command::Fetch {
            by_uid,
            set: Set::Ranges(vec![(number, number)]),
            items: items.to_vec(),
            since: None,
            vanished: false,
        }
    }

    fn append(&mut self) -> Command {
        let count = if self.random.one_in(4) {
            1 + self.random.index(5)
        } else {
            1
        };
        let messages = (0..count).map(|_| self.new_message()).collect();
        Command::Append(self.place(), messages)
    }

    /// The next command.
    pub fn choose(&mut self) -> Command {
        let is_old = self.is_old();
        let Some(mailbox) = self.open().filter(|_| !is_old) else {
            if self.client.selected.is_some() {
                // What it had open was deleted by somebody else.
                let name = self.name();
                return match self.random.below(4) {
                    0 => self.select(name),
                    1 => Command::Unselect,
                    2 if !is_old => Command::Close,
                    _ => Command::Noop,
                };
            }
            if self.wide && self.random.one_in(4) {
                return self.about_others();
            }
            return match self.random.below(8) {
                0..4 => {
                    let name = self.name();
                    self.select(name)
                }
                4 => self.append(),
                5 => Command::Expunge(None),
                _ => self.about_mailboxes(),
            };
        };
        if self.wide && self.random.one_in(6) {
            return self.about_others();
        }
        if self.random.one_in(7) {
            return self.about_mailboxes();
        }
        self.about_messages(mailbox)
    }
}

/// A client gives the UIDs that it knows one by one.
fn without_last(set: Set) -> Set {
    match set {
        Set::Ranges(ranges) => {
            let numbers = ranges.into_iter().map(|(low, high)| {
                let high = if high == LAST { low } else { high };
                (low.min(high), high.max(low))
            });
            Set::Ranges(numbers.collect())
        }
        Set::Saved => Set::Ranges(vec![(1, 1)]),
    }
}
