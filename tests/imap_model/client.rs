//! What one session has been told: which number is which message, and what it knows of each.
//!
//! This is what a client keeps. It is changed by responses alone (and by what a client concludes by
//! itself: the flags after its own silent STORE), and then compared with the world.

use std::collections::{BTreeMap, BTreeSet};

use super::response::{Response, Value};
use super::site::{ALL_RIGHTS, Site};
use super::world::{BoxId, Mailbox, Marks, Tick};

/// What was enabled.
#[derive(Debug, Clone, Copy, Default)]
pub struct Enabled {
    pub condstore: bool,
    pub qresync: bool,
    pub rev2: bool,
    /// Names are UTF-8.
    pub utf8: bool,
    /// There are no message numbers (RFC 9586).
    pub uid_only: bool,
}

/// What a client knows of a message.
#[derive(Debug, Clone)]
pub struct Known {
    marks: Marks,
    /// Of the last MODSEQ that it was told; `None`: it was not told one.
    tick: Option<Tick>,
}

/// The open mailbox.
#[derive(Debug, Clone)]
pub struct Selected {
    pub mailbox: BoxId,
    pub read_only: bool,
    /// Letters of what one may do in it, as it was opened.
    pub rights: &'static str,
    /// UIDs by message number, from 1.
    pub view: Vec<u32>,
    known: BTreeMap<u32, Known>,
    /// Told by FLAGS.
    keywords: BTreeSet<String>,
    /// What the last SEARCH RETURN (SAVE) found.
    pub saved: BTreeSet<u32>,
    /// The last change when it was opened.
    pub opened: Tick,
}

/// One session.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// The account of its login.
    pub own: usize,
    pub enabled: Enabled,
    pub selected: Option<Selected>,
    /// It is in IDLE.
    pub idles: bool,
}

/// Which messages may go while a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nothing has to be told.
    Nothing,
    /// All but which messages have gone, and that must not be (RFC 9051 §7.5.1).
    NoExpunge,
    /// All.
    All,
}

impl Selected {
    /// These are the flags of which it was told last.
    fn knows_already(&self, uid: u32, items: &[(String, Value)]) -> bool {
        items.iter().all(|(name, value)| match name.as_str() {
            "UID" => true,
            "FLAGS" => {
                let words = value
                    .list()
                    .map(|list| list.iter().map(Value::text).collect());
                let words: Result<Vec<String>, String> = words.and_then(|words| words);
                let marks = words.and_then(|words| Marks::parse(&words));
                let known = self.known.get(&uid);
                marks.is_ok_and(|marks| known.is_some_and(|known| known.marks == marks))
            }
            _ => false,
        })
    }

    /// Just opened.
    pub fn new(mailbox: &Mailbox, read_only: bool, condstore: bool) -> Selected {
        let mut selected = Selected {
            mailbox: mailbox.id,
            read_only,
            rights: ALL_RIGHTS,
            view: Vec::new(),
            known: BTreeMap::new(),
            keywords: BTreeSet::new(),
            saved: BTreeSet::new(),
            opened: mailbox.top,
        };
        selected.extend(mailbox, condstore);
        selected
    }

    /// Messages above the last that is known come into view. A client asks for their flags: as if it
    /// had done so at once, it is told of every change from now on.
    fn extend(&mut self, mailbox: &Mailbox, condstore: bool) {
        let last = self.view.last().map_or(0, |uid| *uid);
        for (uid, message) in mailbox.messages.range(last + 1..) {
            self.view.push(*uid);
            let known = Known {
                marks: message.marks.clone(),
                tick: condstore.then_some(message.tick),
            };
            self.known.insert(*uid, known);
        }
    }

    /// The message of a number.
    pub fn uid(&self, number: u32) -> Result<u32, String> {
        let index = (number as usize).checked_sub(1);
        let uid = index.and_then(|index| self.view.get(index)).copied();
        uid.ok_or_else(|| {
            format!(
                "number {number} where there are {} messages",
                self.view.len()
            )
        })
    }

    /// The number of a message.
    pub fn number(&self, uid: u32) -> Option<u32> {
        let index = self.view.binary_search(&uid).ok()?;
        Some(index as u32 + 1)
    }

    fn remove(&mut self, uid: u32) {
        self.view.retain(|own| *own != uid);
        self.known.remove(&uid);
        self.saved.remove(&uid);
    }

    /// What the client concludes from its own silent STORE.
    pub fn conclude(&mut self, uid: u32, change: impl FnOnce(&Marks) -> Marks) {
        if let Some(known) = self.known.get_mut(&uid) {
            known.marks = change(&known.marks);
        }
    }

    /// The client was told all that it has to be told.
    pub fn check(&self, mailbox: &Mailbox, enabled: Enabled, told: Told) -> Result<(), String> {
        if told == Told::Nothing {
            return Ok(());
        }
        for (uid, message) in &mailbox.messages {
            let Some(known) = self.known.get(uid) else {
                return Err(format!("it was not told that UID {uid} has come"));
            };
            if known.marks != message.marks {
                return Err(format!(
                    "it takes UID {uid} for ({}), which is ({})",
                    known.marks.words(),
                    message.marks.words()
                ));
            }
            if enabled.condstore && known.tick.is_some_and(|tick| tick != message.tick) {
                return Err(format!("it was not told the new MODSEQ of UID {uid}"));
            }
        }
        let gone = |uid: &&u32| !mailbox.messages.contains_key(uid);
        match self.view.iter().find(gone) {
            Some(uid) if told == Told::All => Err(format!("it was not told that UID {uid} went")),
            _ => Ok(()),
        }
    }
}

/// Untagged responses that any command may have, and what comes of them.
impl Client {
    /// Takes a response about the open mailbox in. `told`: what may be told now. Gives it back where
    /// it is of another kind.
    pub fn take(
        &mut self,
        response: Response,
        site: &mut Site,
        told: Told,
    ) -> Result<Option<Response>, String> {
        let enabled = self.enabled;
        let response = self.numbered(response)?;
        let is_news = matches!(
            response,
            Response::Exists(_)
                | Response::Expunge(_)
                | Response::Vanished { .. }
                | Response::Fetch(..)
                | Response::Flags(_)
        );
        if !is_news {
            return Ok(Some(response));
        }
        let Some(selected) = &mut self.selected else {
            return Err("news where no mailbox is open".to_owned());
        };
        let mailbox = site.by_id(selected.mailbox);
        let mailbox = mailbox.ok_or("news of a mailbox that is gone")?;
        let may_go = |uid: u32| {
            if told == Told::NoExpunge {
                return Err("messages go while message numbers are in use".to_owned());
            }
            if mailbox.messages.contains_key(&uid) {
                return Err(format!("UID {uid} is said to be gone, and is there"));
            }
            Ok(())
        };
        match response {
            Response::Expunge(number) => {
                if enabled.qresync || enabled.uid_only {
                    return Err("EXPUNGE after ENABLE QRESYNC or UIDONLY".to_owned());
                }
                let uid = selected.uid(number)?;
                may_go(uid)?;
                selected.remove(uid);
            }
            Response::Vanished {
                earlier: true,
                uids,
            } => {
                return Ok(Some(Response::Vanished {
                    earlier: true,
                    uids,
                }));
            }
            Response::Vanished { uids, .. } => {
                if !(enabled.qresync || enabled.uid_only) {
                    return Err("VANISHED without ENABLE QRESYNC or UIDONLY".to_owned());
                }
                for uid in uids {
                    may_go(uid)?;
                    if selected.number(uid).is_none() {
                        return Err(format!("VANISHED {uid}, which it did not know"));
                    }
                    selected.remove(uid);
                }
            }
            Response::Exists(count) => {
                selected.extend(mailbox, enabled.condstore);
                if selected.view.len() != count as usize {
                    return Err(format!(
                        "{count} EXISTS, where there are {}: {:?}",
                        selected.view.len(),
                        selected.view
                    ));
                }
            }
            Response::Flags(words) => {
                let words = words.iter().filter(|word| !word.starts_with('\\'));
                let words: BTreeSet<String> = words.map(|word| word.to_ascii_lowercase()).collect();
                if let Some(word) = words.iter().find(|word| !mailbox.keywords.contains(*word)) {
                    return Err(format!("FLAGS has {word}, which nobody has used here"));
                }
                let missing = selected.keywords.iter().find(|word| !words.contains(*word));
                if let Some(word) = missing {
                    return Err(format!("FLAGS lacks {word}, which it had"));
                }
                selected.keywords = words;
            }
            Response::Fetch(number, items) => {
                let uid = selected.uid(number)?;
                if self.idles && !enabled.condstore && selected.knows_already(uid, &items) {
                    // Flags that were changed to and fro: it knew them already, so nobody has waited
                    // for this, and there may be others by now, which are told next.
                    return Ok(Some(Response::Fetch(number, items)));
                }
                let checked = check_fetch(selected, mailbox, enabled, uid, &items);
                checked.map_err(|error| format!("FETCH of UID {uid}: {error}"))?;
                return Ok(Some(Response::Fetch(number, items)));
            }
            _ => {}
        }
        Ok(None)
    }

    /// UIDFETCH as what FETCH would say; each where it belongs (RFC 9586 §3.3).
    fn numbered(&self, response: Response) -> Result<Response, String> {
        let uid_only = self.enabled.uid_only;
        match response {
            Response::Fetch(..) if uid_only => Err("FETCH after ENABLE UIDONLY".to_owned()),
            Response::UidFetch(..) if !uid_only => {
                Err("UIDFETCH without ENABLE UIDONLY".to_owned())
            }
            Response::UidFetch(uid, mut items) => {
                let selected = self.selected.as_ref().ok_or("no mailbox is open")?;
                let number = selected.number(uid);
                let number =
                    number.ok_or_else(|| format!("UIDFETCH {uid}, which it did not know"))?;
                if items.iter().all(|(name, _)| name != "UID") {
                    items.push(("UID".to_owned(), Value::Atom(uid.to_string())));
                }
                Ok(Response::Fetch(number, items))
            }
            response => Ok(response),
        }
    }

    /// It knows all that there is to know.
    pub fn check(&self, site: &Site, told: Told) -> Result<(), String> {
        let Some(selected) = &self.selected else {
            return Ok(());
        };
        let mailbox = site.open(self);
        let mailbox = mailbox.ok_or("its mailbox is gone, and it was not told")?;
        selected.check(mailbox, self.enabled, told)
    }
}

/// Every item is as the world has it; what it says of flags is what the client knows now.
fn check_fetch(
    selected: &mut Selected,
    mailbox: &mut Mailbox,
    enabled: Enabled,
    uid: u32,
    items: &[(String, Value)],
) -> Result<(), String> {
    let message = mailbox.messages.get_mut(&uid);
    let message = message.ok_or("the message is gone")?;
    let mut modseq = None;
    for (name, value) in items {
        match name.as_str() {
            "UID" if value.number()? == u64::from(uid) => {}
            "UID" => return Err(format!("it has UID {}", value.number()?)),
            "FLAGS" => {
                let words: Result<Vec<String>, String> =
                    value.list()?.iter().map(Value::text).collect();
                let marks = Marks::parse(&words?)?;
                if marks != message.marks {
                    return Err(format!(
                        "flags ({}), which are ({})",
                        marks.words(),
                        message.marks.words()
                    ));
                }
                if let Some(word) = marks.keywords.difference(&selected.keywords).next() {
                    return Err(format!("keyword {word}, which FLAGS did not announce"));
                }
                if let Some(known) = selected.known.get_mut(&uid) {
                    known.marks = marks;
                }
            }
            "MODSEQ" if !enabled.condstore => {
                return Err("MODSEQ, of which the client does not know".to_owned());
            }
            "MODSEQ" => match value.list()? {
                [value] => modseq = Some(value.number()?),
                _ => return Err("MODSEQ that is no number".to_owned()),
            },
            "RFC822.SIZE" if value.number()? == message.body.len() as u64 => {}
            "RFC822.SIZE" => {
                return Err(format!(
                    "size {}, which is {}",
                    value.number()?,
                    message.body.len()
                ));
            }
            "BODY[]" if *value == Value::Text(message.body.to_vec()) => {}
            "BODY[]" => return Err("its body is another one's".to_owned()),
            "INTERNALDATE" => {
                let date = value.text()?;
                if *message.date.get_or_insert_with(|| date.clone()) != date {
                    return Err(format!("date {date}, which was {:?}", message.date));
                }
            }
            "EMAILID" => match value.list()? {
                [id] => {
                    let id = id.text()?;
                    if *message.email_id.get_or_insert_with(|| id.clone()) != id {
                        return Err(format!("EMAILID {id}, which was {:?}", message.email_id));
                    }
                }
                _ => return Err("EMAILID that is none".to_owned()),
            },
            other => return Err(format!("{other} was not asked for")),
        }
    }
    if let Some(modseq) = modseq {
        let tick = message.tick;
        if let Some(known) = selected.known.get_mut(&uid) {
            known.tick = Some(tick);
        }
        mailbox.learn(tick, modseq)?;
    }
    Ok(())
}
