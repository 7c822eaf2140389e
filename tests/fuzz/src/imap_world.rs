//! Mailboxes in memory that answer what IMAP sessions ask: simple enough to be right.

// The file is a module of several crates.
#[path = "imap_world/changes.rs"]
mod changes;
#[path = "imap_world/folder.rs"]
mod folder;
#[path = "imap_world/happened.rs"]
mod happened;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringpost::mail::Address;
use ringpost::mail::mime::{Structure, Summary};
use ringpost::proto::imap::{
    Annotation, Answer, Ask, Entry, Flags, Incoming, LoginError, Mailbox, Mailboxes, News, Opened,
    Pass, Quota, QuotaOf, Refusal, Rights, Session, Settings, Source,
};

use folder::Folder;
use happened::Event;

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
/// Names of others' mailboxes that can be watched, and one more.
const OTHERS_MAX: usize = 20;

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
}
