//! What an account must hold: mailboxes, messages, flags, in the simplest shape that can be.
//!
//! Every change has a *tick*, one above that of the change before. MODSEQs are the server's own: the
//! world learns which tick has which, and holds that against all that it is told later. So a
//! comparison of MODSEQs is one of ticks, known before the server says anything.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Number of a change.
pub type Tick = u64;
/// A mailbox, whatever its name is.
pub type BoxId = u32;
/// Values by name.
pub type Annotations = BTreeMap<String, Rc<[u8]>>;

/// System flags, by bit.
pub const FLAGS: [&str; 5] = ["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"];
pub const SEEN: u8 = 1;
pub const DELETED: u8 = 8;

/// Ticks with a known MODSEQ kept besides those of messages.
const LEARNED_MAX: usize = 200;

/// Flags and keywords of a message; keywords in small letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    pub flags: u8,
    pub keywords: BTreeSet<String>,
}

/// How STORE changes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Replace,
    Add,
    Remove,
}

impl Marks {
    /// After a STORE.
    pub fn changed(&self, mode: Mode, by: &Marks) -> Marks {
        let mut marks = self.clone();
        match mode {
            Mode::Replace => marks = by.clone(),
            Mode::Add => {
                marks.flags |= by.flags;
                marks.keywords.extend(by.keywords.iter().cloned());
            }
            Mode::Remove => {
                marks.flags &= !by.flags;
                marks.keywords.retain(|word| !by.keywords.contains(word));
            }
        }
        marks
    }

    /// As in a response.
    pub fn parse(words: &[String]) -> Result<Marks, String> {
        let mut marks = Marks::default();
        for word in words {
            match FLAGS.iter().position(|flag| flag == word) {
                Some(bit) if marks.flags >> bit & 1 == 0 => marks.flags |= 1 << bit,
                None if !word.starts_with('\\') => {
                    if !marks.keywords.insert(word.to_ascii_lowercase()) {
                        return Err(format!("{word} twice"));
                    }
                }
                _ => return Err(format!("{word} twice, or not known")),
            }
        }
        Ok(marks)
    }

    /// As in a command.
    pub fn words(&self) -> String {
        let system = FLAGS.iter().enumerate();
        let system = system.filter(|(bit, _)| self.flags >> bit & 1 == 1);
        let mut words: Vec<&str> = system.map(|(_, flag)| *flag).collect();
        words.extend(self.keywords.iter().map(String::as_str));
        words.join(" ")
    }
}

/// One message in one mailbox.
#[derive(Debug, Clone)]
pub struct Message {
    pub body: Rc<[u8]>,
    /// INTERNALDATE, once known.
    pub date: Option<String>,
    /// EMAILID, once known.
    pub email_id: Option<String>,
    pub marks: Marks,
    /// Of its last change.
    pub tick: Tick,
}

/// One mailbox.
#[derive(Debug, Clone)]
pub struct Mailbox {
    pub id: BoxId,
    pub special_use: Option<&'static str>,
    /// Once known.
    pub validity: Option<u32>,
    /// MAILBOXID, once known.
    pub object_id: Option<String>,
    pub uid_next: u32,
    pub messages: BTreeMap<u32, Message>,
    /// Which messages went, and when.
    pub gone: BTreeMap<u32, Tick>,
    /// Its last change.
    pub top: Tick,
    /// Keywords ever used here.
    pub keywords: BTreeSet<String>,
    /// What is granted to other accounts: letters of rights, in the order of RFC 4314.
    pub rights: BTreeMap<usize, &'static str>,
    pub annotations: Annotations,
    learned: BTreeMap<Tick, u64>,
}

/// A MODSEQ to compare with, and the last change that is not above it.
#[derive(Debug, Clone, Copy)]
pub struct Since {
    pub modseq: u64,
    pub tick: Tick,
}

impl Mailbox {
    fn new(id: BoxId, special_use: Option<&'static str>, tick: Tick) -> Mailbox {
        Mailbox {
            id,
            special_use,
            validity: None,
            object_id: None,
            uid_next: 1,
            messages: BTreeMap::new(),
            gone: BTreeMap::new(),
            top: tick,
            keywords: BTreeSet::new(),
            rights: BTreeMap::new(),
            annotations: Annotations::new(),
            learned: BTreeMap::new(),
        }
    }

    /// The server says that the change of this tick has this MODSEQ.
    pub fn learn(&mut self, tick: Tick, modseq: u64) -> Result<(), String> {
        if let Some(known) = self.learned.get(&tick) {
            if *known == modseq {
                return Ok(());
            }
            return Err(format!("MODSEQ {modseq} of a change that had {known}"));
        }
        if let Some((_, before)) = self.learned.range(..tick).next_back()
            && *before >= modseq
        {
            return Err(format!(
                "MODSEQ {modseq} of a change after one with {before}"
            ));
        }
        if let Some((_, after)) = self.learned.range(tick..).next()
            && *after <= modseq
        {
            return Err(format!(
                "MODSEQ {modseq} of a change before one with {after}"
            ));
        }
        if self.learned.len() > LEARNED_MAX + 2 * self.messages.len() {
            let used: BTreeSet<Tick> = self.messages.values().map(|m| m.tick).collect();
            let recent = *self.learned.keys().nth_back(LEARNED_MAX / 2).unwrap_or(&0);
            let top = self.top;
            self.learned
                .retain(|tick, _| *tick >= recent || *tick == top || used.contains(tick));
        }
        self.learned.insert(tick, modseq);
        Ok(())
    }

    /// A MODSEQ is one from before a change, as far as is known.
    pub fn is_before(&self, modseq: u64, tick: Tick) -> bool {
        let after = self.learned.range(tick..).next();
        after.is_none_or(|(_, known)| modseq < *known)
    }

    /// Changes whose MODSEQ is known.
    pub fn learned(&self) -> &BTreeMap<Tick, u64> {
        &self.learned
    }

    /// Adds a message.
    pub fn put(&mut self, message: Message) -> u32 {
        let uid = self.uid_next;
        self.uid_next += 1;
        self.top = message.tick;
        self.keywords.extend(message.marks.keywords.iter().cloned());
        self.messages.insert(uid, message);
        uid
    }

    /// Takes messages out.
    pub fn expunge(&mut self, uids: &[u32], tick: Tick) {
        for uid in uids {
            if self.messages.remove(uid).is_some() {
                self.gone.insert(*uid, tick);
                self.top = tick;
            }
        }
    }

    pub fn bytes(&self) -> u64 {
        self.messages.values().map(|m| m.body.len() as u64).sum()
    }

    pub fn count(&self, is_wanted: impl Fn(&Marks) -> bool) -> u64 {
        let wanted = self.messages.values().filter(|m| is_wanted(&m.marks));
        wanted.count() as u64
    }
}

/// One account.
#[derive(Debug, Clone)]
pub struct Account {
    pub mailboxes: BTreeMap<String, Mailbox>,
    pub subscribed: BTreeSet<String>,
    /// Of the server, as this account sees them.
    pub annotations: Annotations,
    /// Which mailbox had which UIDVALIDITY under which name.
    validities: BTreeMap<(String, u32), BoxId>,
    /// Which mailbox has which MAILBOXID.
    object_ids: BTreeMap<String, BoxId>,
    last_id: BoxId,
}

impl Account {
    /// As the server makes it; its mailboxes have ids above this one.
    pub fn new(id: BoxId) -> Account {
        let mut account = Account {
            mailboxes: BTreeMap::new(),
            subscribed: BTreeSet::new(),
            annotations: Annotations::new(),
            validities: BTreeMap::new(),
            object_ids: BTreeMap::new(),
            last_id: id,
        };
        account.create("INBOX", None, 0);
        for (name, special_use) in [
            ("Drafts", "\\Drafts"),
            ("Sent", "\\Sent"),
            ("Trash", "\\Trash"),
            ("Junk", "\\Junk"),
            ("Archive", "\\Archive"),
        ] {
            account.create(name, Some(special_use), 0);
        }
        account
    }

    pub fn create(&mut self, name: &str, special_use: Option<&'static str>, tick: Tick) {
        self.last_id += 1;
        let mailbox = Mailbox::new(self.last_id, special_use, tick);
        self.mailboxes.insert(name.to_owned(), mailbox);
    }

    pub fn by_id(&mut self, id: BoxId) -> Option<&mut Mailbox> {
        self.mailboxes.values_mut().find(|mailbox| mailbox.id == id)
    }

    pub fn find(&self, id: BoxId) -> Option<&Mailbox> {
        self.mailboxes.values().find(|mailbox| mailbox.id == id)
    }

    /// The mailbox of this name has this UIDVALIDITY: always the same, and no other mailbox ever had
    /// it under this name.
    pub fn learn_validity(&mut self, name: &str, validity: u32) -> Result<(), String> {
        let mailbox = self.mailboxes.get_mut(name);
        let mailbox =
            mailbox.ok_or_else(|| format!("UIDVALIDITY of {name}, which is not there"))?;
        if *mailbox.validity.get_or_insert(validity) != validity {
            return Err(format!(
                "UIDVALIDITY of {name} is {validity}, and was {:?}",
                mailbox.validity
            ));
        }
        let key = (name.to_owned(), validity);
        if *self.validities.entry(key).or_insert(mailbox.id) != mailbox.id {
            return Err(format!("UIDVALIDITY {validity} of {name} comes again"));
        }
        Ok(())
    }

    /// The same of MAILBOXID, whatever the name.
    pub fn learn_object_id(&mut self, name: &str, object_id: &str) -> Result<(), String> {
        let mailbox = self.mailboxes.get_mut(name);
        let mailbox = mailbox.ok_or_else(|| format!("MAILBOXID of {name}, which is not there"))?;
        if mailbox
            .object_id
            .get_or_insert_with(|| object_id.to_owned())
            != object_id
        {
            return Err(format!(
                "MAILBOXID of {name} is {object_id}, and was {:?}",
                mailbox.object_id
            ));
        }
        let holder = self.object_ids.entry(object_id.to_owned());
        if *holder.or_insert(mailbox.id) != mailbox.id {
            return Err(format!("MAILBOXID {object_id} of {name} is another one's"));
        }
        Ok(())
    }

    /// Names of mailboxes, and of levels above them.
    pub fn levels(&self) -> BTreeSet<String> {
        levels(self.mailboxes.keys())
    }
}

/// These names, and those of the levels above them.
pub fn levels<'n>(names: impl Iterator<Item = &'n String>) -> BTreeSet<String> {
    let mut levels = BTreeSet::new();
    for name in names {
        let ends = name.match_indices('/').map(|(end, _)| end);
        levels.extend(ends.map(|end| name[..end].to_owned()));
        levels.insert(name.clone());
    }
    levels
}
