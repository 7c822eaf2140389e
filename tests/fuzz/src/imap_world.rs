//! Mailboxes in memory that answer what IMAP sessions ask: simple enough to be right.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringpost::mail::Address;
use ringpost::mail::mime::{Structure, Summary};
use ringpost::proto::imap::{
    Access, AccessChange, Annotation, Answer, Ask, Copied, Entry, Flags, Happening, Incoming,
    LoginError, Mailbox, Mailboxes, Manage, News, Opened, Pass, Place, Quota, QuotaOf, Refusal,
    Rights, Row, Session, Settings, Source, StoreFlags, StoreHow, Stored, TextKey, View, compare,
    sets,
};

/// The password of everybody.
pub const PASSWORD: &[u8] = b"secret";
/// Who may act for others.
pub const ADMINISTRATOR: &str = "root@example.org";
/// Bob lets everybody into this one, but only Carol knows of it.
pub const SHARED: &str = "Other Users/bob@example.org/Lists";
/// The time of day.
pub const NOW_MS: u64 = 1_000_000_000_000;
/// Of MAILBOXID and EMAILID.
const ID_SPACE: u16 = 7;
const DAY_MS: u64 = 86_400_000;

/// One message.
#[derive(Debug, Clone)]
pub struct Message {
    row: Row,
    keywords: Vec<String>,
    body: Rc<[u8]>,
}

/// One mailbox.
#[derive(Debug, Default)]
pub struct Folder {
    id: u64,
    validity: u32,
    uid_next: u32,
    modseq: u64,
    special_use: Option<&'static str>,
    keywords: Vec<String>,
    messages: Vec<Message>,
    vanished: Vec<(u64, u32)>,
    /// What the user may do: less than all with somebody else's.
    rights: Rights,
    access: BTreeMap<String, Rights>,
    annotations: BTreeMap<Entry, Vec<u8>>,
}

/// Annotations of a mailbox here.
const ANNOTATIONS_MAX: usize = 10;
/// Names of others' mailboxes that can be watched, and one more.
const OTHERS_MAX: usize = 20;
/// Things that happen before a session looks; more are too much.
const HAPPENINGS_MAX: usize = 20;

/// Something that happened, with a mailbox's id.
#[derive(Debug, Clone)]
enum Event {
    Messages(u64, bool, bool, bool),
    Name(String, Option<String>),
    Subscription(String),
    Metadata(Option<u64>, Entry),
}

/// What can change, at some moment.
struct Moment {
    folders: BTreeMap<u64, FolderState>,
    subscribed: BTreeSet<String>,
    annotations: BTreeMap<Entry, Vec<u8>>,
}

struct FolderState {
    name: String,
    uid_next: u32,
    messages: BTreeMap<u32, (Flags, u64)>,
    annotations: BTreeMap<Entry, Vec<u8>>,
}

/// Entries that are not the same in both.
fn changed(old: &BTreeMap<Entry, Vec<u8>>, new: &BTreeMap<Entry, Vec<u8>>) -> Vec<Entry> {
    let all: BTreeSet<&Entry> = old.keys().chain(new.keys()).collect();
    let differs = |entry: &&Entry| old.get(*entry) != new.get(*entry);
    all.into_iter().filter(differs).cloned().collect()
}

/// All mailboxes of one account.
#[derive(Debug, Default)]
pub struct World {
    folders: BTreeMap<String, Folder>,
    subscribed: Vec<String>,
    /// By account; 0: none.
    limits: BTreeMap<String, u64>,
    modseq: u64,
    ids: u64,
    /// Of the server, as the account sees it.
    annotations: BTreeMap<Entry, Vec<u8>>,
    /// All that ever happened, with the connection that did it.
    events: Vec<(u64, Event)>,
    desks: u64,
}

/// What one connection has at the shard.
#[derive(Debug, Default)]
pub struct Desk {
    /// Who is logged in, canonical.
    user: String,
    open: Option<u64>,
    source: Option<(u64, u32)>,
    chunks: BTreeMap<u32, Vec<u8>>,
    /// Its number in the world, from 1; 0: none yet.
    number: u64,
    /// Events up to here are known, if it wants to know of any.
    known: Option<usize>,
}

impl Desk {
    fn as_administrator(&self, account: &str) -> Result<(), Refusal> {
        match (self.user.as_str(), account) {
            (ADMINISTRATOR, "nobody@example.org") => Err(Refusal::Missing),
            (ADMINISTRATOR, _) => Ok(()),
            _ => Err(Refusal::Denied("only for administrators".to_owned())),
        }
    }

    /// Everybody's mailboxes are the same here. The administrator may act for all but one.
    fn act_as(&self, user: &str) -> Answer {
        if self.user != ADMINISTRATOR || user == "nobody@example.org" {
            return Answer::Login(Err(LoginError::Authorization));
        }
        let address = |name| Address::parse(name).expect("canonical by the contract");
        Answer::Pass(Pass::new(address(ADMINISTRATOR), address(user)))
    }
}

/// Settings of the sessions here.
pub fn settings() -> Arc<Settings> {
    Arc::new(Settings {
        hostname: "mx.example.org".to_owned(),
        default_domain: "example.org".to_owned(),
        idle_timeout: Duration::from_secs(1800),
        progress_interval: Duration::from_secs(10),
        message_bytes_max: 1_000_000,
    })
}

/// A session that has not greeted yet.
pub fn session() -> Session {
    Session::new(settings(), SocketAddr::from((Ipv4Addr::LOCALHOST, 1)))
}

impl World {
    /// INBOX and Sent, with nothing in them.
    pub fn new() -> Rc<RefCell<World>> {
        let mut world = World {
            modseq: 10,
            ..World::default()
        };
        world.make("INBOX", None);
        world.make("Sent", Some("\\Sent"));
        let shared = Folder {
            id: 900,
            validity: 900,
            uid_next: 1,
            modseq: 10,
            rights: Rights::LOOKUP.with(Rights::READ).with(Rights::SEEN),
            ..Folder::default()
        };
        world.folders.insert(SHARED.to_owned(), shared);
        let admin = Entry::parse(b"/shared/admin").expect("a name");
        let postmaster = b"mailto:postmaster@example.org".to_vec();
        world.annotations.insert(admin, postmaster);
        Rc::new(RefCell::new(world))
    }

    fn make(&mut self, name: &str, special_use: Option<&'static str>) {
        self.ids += 1;
        self.modseq += 1;
        let folder = Folder {
            id: self.ids,
            validity: 100 + self.ids as u32,
            uid_next: 1,
            modseq: self.modseq,
            special_use,
            rights: Rights::ALL,
            ..Folder::default()
        };
        self.folders.insert(name.to_owned(), folder);
    }

    /// Puts a message into a mailbox, as a delivery does.
    pub fn deliver(&mut self, name: &str, body: &[u8]) {
        let message = Incoming {
            body: body.to_vec(),
            ..Incoming::default()
        };
        let appended = self.append(name, vec![message], &mut Desk::default());
        if let (Ok(_), Some(folder)) = (appended, self.folders.get(name)) {
            let event = Event::Messages(folder.id, true, false, false);
            self.events.push((0, event));
        }
    }

    fn moment(&self) -> Moment {
        let folders = self.folders.iter();
        Moment {
            folders: folders
                .map(|(name, folder)| {
                    let messages = folder.messages.iter().map(|message| {
                        let row = message.row;
                        (row.uid, (row.flags, row.keywords))
                    });
                    let state = FolderState {
                        name: name.clone(),
                        uid_next: folder.uid_next,
                        messages: messages.collect(),
                        annotations: folder.annotations.clone(),
                    };
                    (folder.id, state)
                })
                .collect(),
            subscribed: self.subscribed.iter().cloned().collect(),
            annotations: self.annotations.clone(),
        }
    }

    /// Notes what has happened since that moment, and who did it.
    fn note(&mut self, before: &Moment, by: u64) {
        let now = self.moment();
        let mut events = Vec::new();
        for (id, old) in &before.folders {
            let Some(new) = now.folders.get(id) else {
                events.push(Event::Name(old.name.clone(), None));
                continue;
            };
            if old.name != new.name {
                events.push(Event::Name(new.name.clone(), Some(old.name.clone())));
            }
            let gone = old
                .messages
                .keys()
                .any(|uid| !new.messages.contains_key(uid));
            let flags = old.messages.iter().any(|(uid, old)| {
                let now = new.messages.get(uid);
                now.is_some_and(|now| now != old)
            });
            let came = new.uid_next > old.uid_next;
            if came || gone || flags {
                events.push(Event::Messages(*id, came, gone, flags));
            }
            for entry in changed(&old.annotations, &new.annotations) {
                events.push(Event::Metadata(Some(*id), entry));
            }
        }
        for (id, new) in &now.folders {
            if !before.folders.contains_key(id) {
                events.push(Event::Name(new.name.clone(), None));
            }
        }
        for name in before.subscribed.symmetric_difference(&now.subscribed) {
            events.push(Event::Subscription(name.clone()));
        }
        for entry in changed(&before.annotations, &now.annotations) {
            events.push(Event::Metadata(None, entry));
        }
        self.events
            .extend(events.into_iter().map(|event| (by, event)));
    }

    /// What happened that this connection did not do and does not know of.
    fn happened(&mut self, desk: &mut Desk) -> Option<Vec<Happening>> {
        let Some(known) = desk.known.replace(self.events.len()) else {
            desk.known = None;
            return Some(Vec::new());
        };
        let events: Vec<Event> = self.events[known..]
            .iter()
            .filter(|(by, _)| *by != desk.number)
            .map(|(_, event)| event.clone())
            .collect();
        if events.len() > HAPPENINGS_MAX {
            return None;
        }
        let mut told: Vec<Happening> = Vec::new();
        for event in events {
            match event {
                Event::Messages(id, ..) if desk.open == Some(id) => {}
                Event::Messages(id, new, gone, flags) => {
                    let Some(mailbox) = self.name_of(id).and_then(|name| self.info(&name).ok())
                    else {
                        continue;
                    };
                    let place = self.place(&mailbox.name);
                    told.push(Happening::Messages {
                        place,
                        mailbox: Box::new(mailbox),
                        new,
                        gone,
                        flags,
                    });
                }
                Event::Name(name, from) => {
                    let place = self.place(&name);
                    let above = name.rfind('/').filter(|_| from.is_none());
                    told.push(Happening::Name { place, from });
                    if let Some(end) = above {
                        told.push(Happening::Name {
                            place: self.place(&name[..end]),
                            from: None,
                        });
                    }
                }
                Event::Subscription(name) => told.push(Happening::Subscription {
                    place: self.place(&name),
                }),
                Event::Metadata(id, entry) => {
                    let place = match id {
                        None => None,
                        Some(id) => match self.name_of(id) {
                            Some(name) => Some(self.place(&name)),
                            None => continue,
                        },
                    };
                    told.push(Happening::Metadata {
                        place,
                        entries: vec![entry],
                    });
                }
            }
        }
        Some(told)
    }

    fn name_of(&self, id: u64) -> Option<String> {
        let mut folders = self.folders.iter();
        let found = folders.find(|(_, folder)| folder.id == id);
        found.map(|(name, _)| name.clone())
    }

    fn place(&self, name: &str) -> Place {
        let below = format!("{name}/");
        let folder = self.folders.get(name);
        Place {
            name: name.to_owned(),
            exists: folder.is_some(),
            is_denied: false,
            special_use: folder.and_then(|folder| folder.special_use),
            has_children: self.folders.keys().any(|name| name.starts_with(&below)),
            subscribed: self.subscribed.iter().any(|known| known == name),
        }
    }

    fn annotations(
        &mut self,
        mailbox: Option<&str>,
    ) -> Result<&mut BTreeMap<Entry, Vec<u8>>, Refusal> {
        match mailbox {
            None => Ok(&mut self.annotations),
            Some(name) => match self.folders.get_mut(name) {
                Some(folder) => Ok(&mut folder.annotations),
                None => Err(Refusal::Missing),
            },
        }
    }

    fn annotate(
        &mut self,
        mailbox: Option<&str>,
        values: Vec<(Entry, Option<Vec<u8>>)>,
    ) -> Result<(), Refusal> {
        let own = self.annotations(mailbox)?;
        let mut changed = own.clone();
        for (entry, value) in values {
            assert!(entry.can_be_set());
            assert!(mailbox.is_some() || entry.is_private());
            match value {
                Some(value) => changed.insert(entry, value),
                None => changed.remove(&entry),
            };
        }
        if changed.len() > ANNOTATIONS_MAX {
            return Err(Refusal::TooManyAnnotations);
        }
        *own = changed;
        Ok(())
    }

    fn append(
        &mut self,
        name: &str,
        messages: Vec<Incoming>,
        desk: &mut Desk,
    ) -> Result<(u16, u32, Vec<u32>), Refusal> {
        let folder = self.folders.get_mut(name).ok_or(Refusal::Missing)?;
        let mut uids = Vec::new();
        for (index, message) in (0u32..).zip(messages) {
            let mut body = desk.chunks.remove(&index).unwrap_or_default();
            assert_eq!(
                body.len() as u64,
                message.streamed_bytes,
                "chunks of message {index}"
            );
            body.extend_from_slice(&message.body);
            self.modseq += 1;
            folder.modseq = self.modseq;
            let uid = folder.uid_next;
            folder.uid_next += 1;
            uids.push(uid);
            let mut added = Message {
                row: Row {
                    uid,
                    flags: message.flags.system,
                    keywords: 0,
                    modseq: self.modseq,
                    bytes: body.len() as u64,
                    date_ms: message.date_ms.unwrap_or(NOW_MS),
                    saved_ms: NOW_MS,
                    email_id: self.modseq,
                },
                keywords: message.flags.keywords,
                body: body.into(),
            };
            folder.note_keywords(&mut added);
            folder.messages.push(added);
        }
        desk.chunks.clear();
        Ok((ID_SPACE, folder.validity, uids))
    }

    fn by_id(&mut self, desk: &Desk) -> Result<&mut Folder, Refusal> {
        let id = desk.open.ok_or(Refusal::Missing)?;
        let mut folders = self.folders.values_mut();
        folders
            .find(|folder| folder.id == id)
            .ok_or(Refusal::Missing)
    }

    fn source(&self, desk: &Desk) -> Result<Rc<[u8]>, Refusal> {
        let (id, uid) = desk.source.ok_or(Refusal::Gone)?;
        let mut folders = self.folders.values();
        let folder = folders.find(|folder| folder.id == id);
        let message = folder.ok_or(Refusal::Missing)?.find(uid);
        Ok(Rc::clone(&message.map_err(|_| Refusal::Gone)?.body))
    }

    fn info(&self, name: &str) -> Result<Mailbox, Refusal> {
        let folder = self.folders.get(name).ok_or(Refusal::Missing)?;
        let count = |flag, set| {
            let messages = folder.messages.iter();
            messages
                .filter(|message| message.row.flags.has(flag) == set)
                .count() as u32
        };
        Ok(Mailbox {
            name: name.to_owned(),
            special_use: folder.special_use,
            validity: folder.validity,
            uid_next: folder.uid_next,
            exists: folder.messages.len() as u32,
            unseen: count(Flags::SEEN, false),
            deleted: count(Flags::DELETED, true),
            bytes: folder
                .messages
                .iter()
                .map(|message| message.row.bytes)
                .sum(),
            deleted_bytes: 0,
            modseq: folder.modseq,
            object_id: format!("F{ID_SPACE}-{}", folder.id),
            rights: folder.rights,
        })
    }

    fn quota(&self, account: &str) -> Quota {
        let messages = self.folders.values().flat_map(|folder| &folder.messages);
        Quota {
            account: account.to_owned(),
            used_bytes: messages.map(|message| message.row.bytes).sum(),
            limit_bytes: self.limits.get(account).copied().unwrap_or(0),
        }
    }

    /// Answers an ask of a connection.
    ///
    /// # Panics
    /// When the ask breaks the contract.
    pub fn answer(&mut self, ask: Ask, desk: &mut Desk) -> Answer {
        if desk.number == 0 {
            self.desks += 1;
            desk.number = self.desks;
        }
        let before = self.moment();
        let answer = self.carry_out(ask, desk);
        self.note(&before, desk.number);
        answer
    }

    fn carry_out(&mut self, ask: Ask, desk: &mut Desk) -> Answer {
        match ask {
            Ask::Login(credentials) => {
                *desk = Desk::default();
                if credentials.password[..] != *PASSWORD {
                    return Answer::Login(Err(LoginError::Credentials));
                }
                desk.user = credentials.user;
                match credentials.act_as {
                    Some(user) => desk.act_as(&user),
                    None => {
                        assert!(desk.user.contains('@'));
                        Answer::Login(Ok(()))
                    }
                }
            }
            Ask::ActAs { user, .. } => desk.act_as(&user),
            Ask::Enter(pass) => {
                assert_eq!(pass.administrator().as_str(), ADMINISTRATOR);
                *desk = Desk::default();
                if pass.user().as_str() == "going@example.org" {
                    return Answer::Login(Err(LoginError::Authorization));
                }
                desk.user = pass.user().to_string();
                Answer::Login(Ok(()))
            }
            Ask::Leave => {
                *desk = Desk::default();
                Answer::Done(Ok(()))
            }
            Ask::Mailboxes => {
                let names: Vec<String> = self.folders.keys().cloned().collect();
                Answer::Mailboxes(Ok(Mailboxes {
                    list: names
                        .iter()
                        .filter(|name| *name != SHARED)
                        .filter_map(|name| self.info(name).ok())
                        .collect(),
                    subscribed: self.subscribed.clone(),
                }))
            }
            Ask::Shared => Answer::Mailboxes(Ok(Mailboxes {
                list: match desk.user.as_str() {
                    "carol@example.org" => self.info(SHARED).into_iter().collect(),
                    _ => Vec::new(),
                },
                subscribed: Vec::new(),
            })),
            Ask::Access(access) => self.access(access, &desk.user),
            Ask::Mailbox { name } => Answer::Mailbox(self.info(&name).map(Box::new)),
            Ask::Manage(change) => self.manage(change),
            Ask::Open { name } => {
                desk.open = None;
                Answer::Opened(self.info(&name).map(|mailbox| {
                    let folder = &self.folders[&name];
                    desk.open = Some(folder.id);
                    let mut rows = folder.messages.iter().map(|message| message.row);
                    let unseen = rows.position(|row| !row.flags.has(Flags::SEEN));
                    Box::new(Opened {
                        mailbox,
                        view: folder.view(),
                        keywords: folder.keywords.clone().into(),
                        first_unseen: unseen.map(|index| index as u32 + 1),
                        id_space: ID_SPACE,
                    })
                }))
            }
            Ask::Close => {
                desk.open = None;
                Answer::Done(Ok(()))
            }
            Ask::Look { since } => Answer::News(self.by_id(desk).map(|folder| {
                (folder.modseq > since).then(|| {
                    let changed = folder.rows(&[(1, u32::MAX)], Some(since), 1024);
                    Box::new(News {
                        modseq: folder.modseq,
                        view: folder.view(),
                        keywords: folder.keywords.clone().into(),
                        changed,
                    })
                })
            })),
            Ask::Keywords { known } => Answer::Keywords(self.by_id(desk).map(|folder| {
                (folder.keywords.len() > known).then(|| folder.keywords.clone().into())
            })),
            Ask::Rows {
                uids,
                changed_since,
                count_max,
            } => {
                assert!(uids.is_sorted() && count_max <= 1024);
                Answer::Rows(
                    self.by_id(desk)
                        .map(|folder| folder.rows(&uids, changed_since, count_max)),
                )
            }
            Ask::Vanished { since } => Answer::Vanished(self.by_id(desk).map(|folder| {
                let gone = folder.vanished.iter().filter(|gone| gone.0 > since);
                let mut uids: Vec<(u32, u32)> = gone.map(|gone| (gone.1, gone.1)).collect();
                uids.sort_unstable();
                uids
            })),
            Ask::Summaries { messages } => {
                let summary = |(uid, email_id): &(u32, u64)| {
                    let message = self.by_id(desk)?.find(*uid)?;
                    assert_eq!(message.row.email_id, *email_id);
                    Ok(Summary::encode(&Structure::parse(&message.body)))
                };
                Answer::Summaries(messages.iter().map(summary).collect())
            }
            Ask::Read {
                uid,
                offset,
                length,
            } => Answer::Data(self.by_id(desk).and_then(|folder| {
                let message = folder.find(uid)?;
                // Within the message, by the contract; a slice out of bounds panics.
                let start = offset as usize;
                Ok(message.body[start..start + length as usize].to_vec())
            })),
            Ask::Source {
                name,
                validity,
                uid,
                inside,
            } => {
                let id = match name {
                    None => desk.open.ok_or(Refusal::Missing),
                    Some(name) => match self.folders.get(&name) {
                        None => Err(Refusal::Missing),
                        Some(folder) if validity.is_some_and(|known| known != folder.validity) => {
                            Err(Refusal::Gone)
                        }
                        Some(folder) => Ok(folder.id),
                    },
                };
                desk.source = id.clone().ok().map(|id| (id, uid));
                Answer::Source(id.and_then(|_| {
                    let body = self.source(desk)?;
                    Ok(Source {
                        bytes: body.len() as u64,
                        summary: inside.then(|| Summary::encode(&Structure::parse(&body))),
                    })
                }))
            }
            Ask::ReadSource { offset, length } => Answer::Data(self.source(desk).map(|body| {
                let start = offset as usize;
                body[start..start + length as usize].to_vec()
            })),
            Ask::Match {
                messages,
                texts,
                wanted,
            } => Answer::Matched(self.by_id(desk).map(|folder| {
                assert!(wanted != 0);
                let found = |(uid, _): &(u32, u64)| folder.matches(*uid, &texts, wanted);
                messages.iter().map(found).collect()
            })),
            Ask::Quota(of) => Answer::Quota(match of {
                QuotaOf::Mailbox(name) => self.info(&name).map(|_| self.quota(&desk.user)),
                QuotaOf::Account(name) if name != desk.user => {
                    desk.as_administrator(&name).map(|()| self.quota(&name))
                }
                QuotaOf::Own | QuotaOf::Account(_) => Ok(self.quota(&desk.user)),
            }),
            Ask::SetQuota { of, limit_bytes } => {
                let account = match of {
                    QuotaOf::Account(name) => name,
                    QuotaOf::Own => desk.user.clone(),
                    QuotaOf::Mailbox(_) => panic!("a quota is an account's"),
                };
                Answer::Quota(desk.as_administrator(&account).map(|()| {
                    self.limits.insert(account.clone(), limit_bytes);
                    self.quota(&account)
                }))
            }
            Ask::DeletedBytes { name } => {
                Answer::DeletedBytes(self.folders.get(&name).ok_or(Refusal::Missing).map(
                    |folder| {
                        let rows = folder.messages.iter().map(|message| message.row);
                        let deleted = rows.filter(|row| row.flags.has(Flags::DELETED));
                        deleted.map(|row| row.bytes).sum()
                    },
                ))
            }
            Ask::Annotations { mailbox, wanted } => {
                let all = self.annotations(mailbox.as_deref());
                Answer::Annotations(all.map(|all| {
                    let wanted = all.iter().filter(|(entry, _)| wanted.has(entry));
                    let wanted = wanted.map(|(entry, value)| Annotation {
                        entry: entry.clone(),
                        value: value.clone(),
                    });
                    wanted.collect()
                }))
            }
            Ask::Annotate { mailbox, values } => {
                Answer::Done(self.annotate(mailbox.as_deref(), values))
            }
            Ask::WatchAccount { on } => {
                desk.known = on.then_some(self.events.len());
                Answer::Done(Ok(()))
            }
            // Nothing happens at others; but a name may have another case there.
            Ask::WatchOthers { names, .. } => match names.len() {
                OTHERS_MAX.. => Answer::Watched(Err(Refusal::Limit("too many".to_owned()))),
                _ => Answer::Watched(Ok(names)),
            },
            Ask::Happened { .. } => Answer::Happened(Ok(self.happened(desk))),
            Ask::Time => Answer::Time(NOW_MS),
            Ask::Pause => Answer::Done(Ok(())),
            Ask::Thread(work) => Answer::Threads(Ok(work.run())),
            Ask::Store(change) => {
                self.modseq += 1;
                let modseq = self.modseq;
                Answer::Stored(self.by_id(desk).map(|folder| folder.store(&change, modseq)))
            }
            Ask::Expunge { uids, only_deleted } => {
                self.modseq += 1;
                let modseq = self.modseq;
                Answer::Done(self.by_id(desk).map(|folder| {
                    let goes = |uid: &u32| {
                        !only_deleted
                            || folder
                                .find(*uid)
                                .is_ok_and(|message| message.row.flags.has(Flags::DELETED))
                    };
                    let uids: Vec<u32> = uids.into_iter().filter(goes).collect();
                    folder.expunge(&uids, modseq);
                }))
            }
            Ask::Copy { uids, name, moves } => self.copy(&uids, &name, moves, desk),
            Ask::Chunk {
                name,
                message,
                bytes,
            } => {
                assert!(!bytes.is_empty() && !name.is_empty());
                desk.chunks.entry(message).or_default().extend(bytes);
                Answer::Done(Ok(()))
            }
            Ask::Abort => {
                desk.chunks.clear();
                Answer::Done(Ok(()))
            }
            Ask::Append {
                name,
                messages,
                replaces,
            } => {
                assert!(!messages.is_empty());
                if let Some(uid) = replaces {
                    let found = self
                        .by_id(desk)
                        .and_then(|folder| folder.find(uid).map(drop));
                    if found.is_err() {
                        return Answer::Appended(Err(Refusal::Gone));
                    }
                }
                let appended = self.append(&name, messages, desk);
                if let (Some(uid), Ok(_)) = (replaces, &appended) {
                    self.modseq += 1;
                    let modseq = self.modseq;
                    if let Ok(folder) = self.by_id(desk) {
                        folder.expunge(&[uid], modseq);
                    }
                }
                Answer::Appended(appended)
            }
        }
    }

    fn access(&mut self, access: Access, user: &str) -> Answer {
        let folder = self.folders.get_mut(access.name());
        let Some(folder) = folder else {
            return match access {
                Access::Set { .. } | Access::Delete { .. } => Answer::Done(Err(Refusal::Missing)),
                _ => Answer::Access(Err(Refusal::Missing)),
            };
        };
        Answer::Access(Ok(match access {
            Access::Set { whom, how, .. } => {
                let known = folder.access.entry(whom).or_default();
                *known = match how {
                    AccessChange::Replace(rights) => rights,
                    AccessChange::Add(rights) => known.with(rights),
                    AccessChange::Remove(rights) => known.without(rights),
                };
                return Answer::Done(Ok(()));
            }
            Access::Delete { whom, .. } => {
                folder.access.remove(&whom);
                return Answer::Done(Ok(()));
            }
            Access::Get { .. } => {
                let others = folder
                    .access
                    .iter()
                    .map(|(whom, rights)| (whom.clone(), *rights));
                std::iter::once((user.to_owned(), Rights::ALL))
                    .chain(others)
                    .collect()
            }
            Access::List { whom, .. } if whom == user => vec![(whom, Rights::ALL)],
            Access::List { whom, .. } => vec![(whom, Rights::NONE)],
            Access::Mine { .. } => vec![(String::new(), folder.rights)],
        }))
    }

    fn manage(&mut self, change: Manage) -> Answer {
        match change {
            Manage::Create { name, .. } => {
                if self.folders.contains_key(&name) {
                    return Answer::Mailbox(Err(Refusal::Exists));
                }
                if name.is_empty() || name.chars().any(char::is_control) {
                    let text = "a mailbox cannot be named so".to_owned();
                    return Answer::Mailbox(Err(Refusal::Cannot(text)));
                }
                self.make(&name, None);
                Answer::Mailbox(self.info(&name).map(Box::new))
            }
            Manage::Delete { name } => {
                let removed = self.folders.remove(&name);
                Answer::Done(removed.map(drop).ok_or(Refusal::Missing))
            }
            Manage::Rename { from, to } => {
                if self.folders.contains_key(&to) {
                    return Answer::Done(Err(Refusal::Exists));
                }
                match self.folders.remove(&from) {
                    None => Answer::Done(Err(Refusal::Missing)),
                    Some(folder) => {
                        self.folders.insert(to, folder);
                        Answer::Done(Ok(()))
                    }
                }
            }
            Manage::Subscribe { name, on } => {
                self.subscribed.retain(|known| *known != name);
                if on {
                    self.subscribed.push(name);
                }
                Answer::Done(Ok(()))
            }
        }
    }

    fn copy(&mut self, uids: &[(u32, u32)], name: &str, moves: bool, desk: &Desk) -> Answer {
        if !self.folders.contains_key(name) {
            return Answer::Copied(Err(Refusal::Missing));
        }
        let source = match self.by_id(desk) {
            Ok(folder) => folder,
            Err(refusal) => return Answer::Copied(Err(refusal)),
        };
        let wanted = |uid: u32| sets::contains(uids, uid);
        let chosen: Vec<Message> = source
            .messages
            .iter()
            .filter(|message| wanted(message.row.uid))
            .cloned()
            .collect();
        let gone: Vec<u32> = chosen.iter().map(|message| message.row.uid).collect();
        let mut copied = Copied {
            id_space: ID_SPACE,
            ..Copied::default()
        };
        for mut message in chosen {
            self.modseq += 1;
            let Some(target) = self.folders.get_mut(name) else {
                continue;
            };
            target.modseq = self.modseq;
            copied.validity = target.validity;
            copied.pairs.push((message.row.uid, target.uid_next));
            message.row.uid = target.uid_next;
            message.row.modseq = self.modseq;
            target.uid_next += 1;
            target.note_keywords(&mut message);
            target.messages.push(message);
        }
        if moves && !gone.is_empty() {
            self.modseq += 1;
            let modseq = self.modseq;
            if let Ok(source) = self.by_id(desk) {
                source.expunge(&gone, modseq);
            }
        }
        Answer::Copied(Ok(copied))
    }
}

impl Folder {
    fn view(&self) -> Arc<View> {
        let uids = self.messages.iter().map(|message| message.row.uid);
        Arc::new(View::new(uids.map(|uid| (uid, uid))))
    }

    fn find(&self, uid: u32) -> Result<&Message, Refusal> {
        let mut messages = self.messages.iter();
        messages
            .find(|message| message.row.uid == uid)
            .ok_or(Refusal::Gone)
    }

    fn rows(&self, uids: &[(u32, u32)], since: Option<u64>, count_max: usize) -> Vec<Row> {
        let wanted = |uid: u32| sets::contains(uids, uid);
        self.messages
            .iter()
            .map(|message| message.row)
            .filter(|row| wanted(row.uid) && since.is_none_or(|since| row.modseq > since))
            .take(count_max)
            .collect()
    }

    fn note_keywords(&mut self, message: &mut Message) {
        message.row.keywords = 0;
        for name in &message.keywords {
            let known = self
                .keywords
                .iter()
                .position(|known| known.eq_ignore_ascii_case(name));
            let bit = known.unwrap_or_else(|| {
                self.keywords.push(name.clone());
                self.keywords.len() - 1
            });
            message.row.keywords |= 1 << (bit % 64);
        }
    }

    fn store(&mut self, change: &StoreFlags, modseq: u64) -> Stored {
        let mut stored = Stored::default();
        let mut messages = std::mem::take(&mut self.messages);
        for message in &mut messages {
            let uid = message.row.uid;
            if !sets::contains(&change.uids, uid) {
                continue;
            }
            if change
                .unchanged_since
                .is_some_and(|since| message.row.modseq > since)
            {
                stored.modified.push(uid);
                continue;
            }
            let before = (message.row.flags, message.row.keywords);
            let (new, keywords) = (change.flags.system, &change.flags.keywords);
            let named =
                |known: &String| keywords.iter().any(|name| name.eq_ignore_ascii_case(known));
            match change.how {
                StoreHow::Replace => {
                    message.row.flags = new;
                    message.keywords = keywords.clone();
                }
                StoreHow::Add => {
                    message.row.flags = message.row.flags.with(new);
                    message.keywords.extend(keywords.iter().cloned());
                }
                StoreHow::Remove => {
                    message.row.flags = Flags(message.row.flags.0 & !new.0);
                    message.keywords.retain(|known| !named(known));
                }
            }
            self.note_keywords(message);
            if before != (message.row.flags, message.row.keywords) {
                stored.before = stored.before.max(message.row.modseq);
                message.row.modseq = modseq;
                self.modseq = modseq;
                stored.modseq = Some(modseq);
            }
        }
        self.messages = messages;
        stored.keywords = Some(self.keywords.clone().into());
        stored
    }

    fn expunge(&mut self, uids: &[u32], modseq: u64) {
        assert!(uids.is_sorted());
        let before = self.messages.len();
        self.messages
            .retain(|message| uids.binary_search(&message.row.uid).is_err());
        if self.messages.len() < before {
            self.modseq = modseq;
            self.vanished.extend(uids.iter().map(|uid| (modseq, *uid)));
        }
    }

    fn matches(&self, uid: u32, texts: &[TextKey], wanted: u64) -> u64 {
        let Ok(message) = self.find(uid) else {
            return 0;
        };
        let text = String::from_utf8_lossy(&message.body).to_lowercase();
        let (header, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut found = 0;
        for (bit, key) in texts.iter().enumerate() {
            let holds = match key {
                TextKey::Header(name, value) => header.lines().any(|line| {
                    let prefix = format!("{}:", name.to_lowercase());
                    line.strip_prefix(&prefix)
                        .is_some_and(|is| is.contains(&value.to_lowercase()))
                }),
                TextKey::Body(value) => body.contains(&value.to_lowercase()),
                TextKey::Text(value) => text.contains(&value.to_lowercase()),
                TextKey::Sent(comparison, day) => {
                    compare((message.row.date_ms / DAY_MS) as i64, *comparison, *day)
                }
            };
            found |= u64::from(holds) << bit;
        }
        found & wanted
    }
}
