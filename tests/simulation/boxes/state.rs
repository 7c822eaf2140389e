//! What an account shows, and what it shows once a wish has come true.

use std::collections::{BTreeMap, BTreeSet};

use ringpost::store::{FlagMode, Flags, MailboxId, SpecialUse, Uid};

/// Stands for a message whose bytes have rotted: it says so instead of giving others.
pub const UNREADABLE: u64 = u64::MAX;

/// A message as a client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    pub id: u64,
    /// `None`: not known yet.
    pub uid: Option<Uid>,
    pub flags: Flags,
    pub words: BTreeSet<&'static str>,
    pub date_ms: u64,
    pub saved_ms: u64,
}

impl Mail {
    pub fn is_one_of(&self, uids: &[Uid]) -> bool {
        self.uid.is_some_and(|uid| uids.contains(&uid))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Folder {
    /// `None`: not known yet.
    pub number: Option<MailboxId>,
    pub mail: Vec<Mail>,
    /// Its access list.
    pub access: BTreeMap<String, u16>,
    /// Small values kept with it.
    pub values: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// All that an account shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    pub folders: BTreeMap<String, Folder>,
    pub subscribed: BTreeSet<String>,
    /// Small values of the account itself.
    pub values: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub enum Wish {
    Append(String, Vec<Mail>),
    Flags(String, Vec<Uid>, FlagMode, Flags, Vec<&'static str>),
    Expunge(String, Vec<Uid>),
    Copy(String, String, Vec<Uid>, u64),
    Move(String, String, Vec<Uid>, u64),
    Create(String),
    Rename(String, String),
    Delete(String),
    Subscribe(String, bool),
    Access(String, &'static str, FlagMode, u16),
    /// The second gets the access list of the first.
    Inherit(String, String),
    /// Of this folder, or of the account; all or none.
    Values(Option<String>, Vec<(Vec<u8>, Option<Vec<u8>>)>),
}

/// Rights of an entry after a change.
pub fn rights_after(before: u16, mode: FlagMode, rights: u16) -> u16 {
    match mode {
        FlagMode::Replace => rights,
        FlagMode::Add => before | rights,
        FlagMode::Remove => before & !rights,
    }
}

impl State {
    pub fn new() -> State {
        let names = SpecialUse::ALL.map(SpecialUse::name).into_iter();
        State {
            folders: names
                .chain(["INBOX"])
                .map(|name| (name.to_owned(), Folder::default()))
                .collect(),
            ..State::default()
        }
    }

    /// What it is once a wish has come true.
    pub fn with(&self, wish: &Wish) -> State {
        let mut next = self.clone();
        match wish {
            Wish::Append(name, mail) => {
                if let Some(folder) = next.folders.get_mut(name) {
                    folder.mail.extend(mail.iter().cloned());
                }
            }
            Wish::Flags(name, uids, mode, flags, words) => {
                let folder = next.folders.get_mut(name);
                let mail = folder.into_iter().flat_map(|folder| &mut folder.mail);
                for mail in mail.filter(|mail| mail.is_one_of(uids)) {
                    match mode {
                        FlagMode::Replace => {
                            mail.flags = *flags;
                            mail.words = words.iter().copied().collect();
                        }
                        FlagMode::Add => {
                            mail.flags = mail.flags.with(*flags);
                            mail.words.extend(words);
                        }
                        FlagMode::Remove => {
                            mail.flags = mail.flags.without(*flags);
                            mail.words.retain(|word| !words.contains(word));
                        }
                    }
                }
            }
            Wish::Expunge(name, uids) => {
                if let Some(folder) = next.folders.get_mut(name) {
                    folder.mail.retain(|mail| !mail.is_one_of(uids));
                }
            }
            Wish::Copy(from, to, uids, now) => next.copy(from, to, uids, *now),
            Wish::Move(from, to, uids, now) => {
                next.copy(from, to, uids, *now);
                if next.folders.contains_key(to)
                    && let Some(folder) = next.folders.get_mut(from)
                {
                    folder.mail.retain(|mail| !mail.is_one_of(uids));
                }
            }
            Wish::Create(name) => {
                next.folders.entry(name.clone()).or_default();
            }
            Wish::Rename(from, to) => {
                let below = format!("{from}/");
                let folders = std::mem::take(&mut next.folders);
                for (name, folder) in folders {
                    let name = match name.strip_prefix(&below) {
                        Some(rest) => format!("{to}/{rest}"),
                        None if name == *from => to.clone(),
                        None => name,
                    };
                    next.folders.insert(name, folder);
                }
            }
            Wish::Delete(name) => {
                next.folders.remove(name);
            }
            Wish::Subscribe(name, wanted) => {
                if *wanted {
                    next.subscribed.insert(name.clone());
                } else {
                    next.subscribed.remove(name);
                }
            }
            Wish::Access(name, whom, mode, rights) => {
                if let Some(folder) = next.folders.get_mut(name) {
                    let before = folder.access.remove(*whom).unwrap_or(0);
                    let after = rights_after(before, *mode, *rights);
                    if after != 0 {
                        folder.access.insert((*whom).to_owned(), after);
                    }
                }
            }
            Wish::Inherit(from, to) => {
                let source = next.folders.get(from).map(|folder| folder.access.clone());
                if let (Some(list), Some(folder)) = (source, next.folders.get_mut(to)) {
                    folder.access.extend(list);
                }
            }
            Wish::Values(name, entries) => {
                let values = match name {
                    None => Some(&mut next.values),
                    Some(name) => next.folders.get_mut(name).map(|folder| &mut folder.values),
                };
                if let Some(values) = values {
                    for (key, value) in entries {
                        values.remove(key);
                        values.extend(value.clone().map(|value| (key.clone(), value)));
                    }
                }
            }
        }
        next
    }

    fn copy(&mut self, from: &str, to: &str, uids: &[Uid], now: u64) {
        let Some(folder) = self.folders.get(from) else {
            return;
        };
        let chosen = folder.mail.iter().filter(|mail| mail.is_one_of(uids));
        let copies: Vec<Mail> = chosen
            .map(|mail| Mail {
                uid: None,
                saved_ms: now,
                ..mail.clone()
            })
            .collect();
        if let Some(folder) = self.folders.get_mut(to) {
            folder.mail.extend(copies);
        }
    }

    /// What is shown is this, as far as this is known. Numbers of before a change of UIDVALIDITY
    /// say nothing.
    pub fn is_shown_by(&self, shown: &State, renumbered: bool) -> bool {
        let same_mail = |a: &Mail, b: &Mail| {
            let known = Mail {
                uid: b.uid,
                id: if b.id == UNREADABLE { b.id } else { a.id },
                ..a.clone()
            };
            known == *b && (renumbered || a.uid.is_none_or(|uid| b.uid == Some(uid)))
        };
        // Damage has taken its own record away: it is there as long as its mail is.
        let is_gone = |name: &String, folder: &Folder| {
            let is_lost = name.starts_with("Recovered ") && folder.mail.is_empty();
            is_lost && !shown.folders.contains_key(name)
        };
        let own = || {
            let all = self.folders.iter();
            all.filter(|(name, folder)| !is_gone(name, folder))
        };
        self.subscribed == shown.subscribed
            && self.values == shown.values
            && own().count() == shown.folders.len()
            && own().zip(&shown.folders).all(|(own, other)| {
                let (own_mail, mail) = (&own.1.mail, &other.1.mail);
                own.0 == other.0
                    && own.1.access == other.1.access
                    && own.1.values == other.1.values
                    && own
                        .1
                        .number
                        .is_none_or(|number| other.1.number == Some(number))
                    && own_mail.len() == mail.len()
                    && own_mail.iter().zip(mail).all(|(a, b)| same_mail(a, b))
            })
    }
}
