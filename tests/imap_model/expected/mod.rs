//! What the server has to answer to a command, and whether it did.

mod checks;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ringpost::limits::IMAP_UNSEEN_LOOKS_MAX;

use super::client::{Client, Told};
use super::command::name_of;
use super::response::{Code, Response, Status, numbers_of};
use super::search::Returns;
use super::site::Site;
use super::world::{BoxId, Tick};
use checks::{check_copied, check_extended, check_modseq, check_status, number};

/// How the command ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Ok,
    /// With this response code; empty: none.
    No(&'static str),
    Bad,
    /// BAD, for there are message numbers in it, and the client has enabled UIDONLY.
    UidRequired,
    /// The open mailbox is gone: NO, or the end of the session.
    Doomed,
}

/// Data about messages that are due.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    pub uids: BTreeSet<u32>,
    pub items: Vec<&'static str>,
    /// Others of these may come, too.
    pub optional: BTreeSet<u32>,
}

/// VANISHED (EARLIER)
#[derive(Debug, Clone, Default)]
pub struct Earlier {
    pub must: BTreeSet<u32>,
    /// UIDs that were never given are above this.
    pub uid_next: u32,
    /// UIDs that the client has a number for.
    pub view: BTreeSet<u32>,
}

/// What a SEARCH finds.
#[derive(Debug, Clone)]
pub struct Found {
    /// Numbers or UIDs, ascending.
    pub numbers: Vec<u32>,
    pub by_uid: bool,
    /// `None`: the plain form.
    pub returns: Option<Returns>,
    /// The change whose MODSEQ is to be told.
    pub tick: Option<Tick>,
}

/// COPYUID or APPENDUID.
#[derive(Debug, Clone)]
pub struct Copied {
    /// `None`: APPENDUID
    pub from: Option<Vec<u32>>,
    pub to: Vec<u32>,
    /// Where they are now.
    pub name: String,
    /// It stands in a response of its own.
    pub is_untagged: bool,
}

/// What comes of SELECT.
#[derive(Debug, Clone)]
pub struct Opened {
    pub name: String,
    pub read_only: bool,
    /// Number of the first unread message.
    pub first_unseen: Option<u32>,
}

/// Annotations by name; `None`: NIL.
pub type ToldValues = BTreeMap<String, Option<Rc<[u8]>>>;

/// All that is due.
#[derive(Debug, Clone)]
pub struct Expected {
    pub end: End,
    pub told: Told,
    pub fetched: Fetched,
    pub earlier: Option<Earlier>,
    pub found: Option<Found>,
    pub copied: Option<Copied>,
    /// STORE: numbers or UIDs left alone.
    pub modified: Vec<u32>,
    /// LIST or LSUB: attributes by name.
    pub listed: Option<(bool, BTreeMap<String, BTreeSet<String>>)>,
    /// Names of mailboxes of which STATUS is due.
    pub statuses: BTreeSet<String>,
    pub opened: Option<Opened>,
    /// CREATE: MAILBOXID of this one is told.
    pub created: Option<String>,
    /// A mailbox was open that is not any more, and the client is to be told.
    pub closes: bool,
    /// A client with QRESYNC is told HIGHESTMODSEQ of this mailbox.
    pub highest: Option<BoxId>,
    /// GETMETADATA: of which mailbox, values by name.
    pub annotations: Option<(String, ToldValues)>,
    /// GETACL: of which mailbox, rights by address; MYRIGHTS: by an empty one.
    pub access: Option<(String, BTreeMap<String, String>)>,
}

impl Expected {
    pub fn new(end: End, told: Told) -> Expected {
        Expected {
            end,
            told,
            fetched: Fetched::default(),
            earlier: None,
            found: None,
            copied: None,
            modified: Vec::new(),
            listed: None,
            statuses: BTreeSet::new(),
            opened: None,
            created: None,
            closes: false,
            highest: None,
            annotations: None,
            access: None,
        }
    }
}

/// What has come so far.
#[derive(Debug, Default)]
pub struct Seen {
    fetched: BTreeMap<u32, BTreeSet<String>>,
    earlier: Option<BTreeSet<u32>>,
    found: bool,
    copied: bool,
    listed: BTreeMap<String, BTreeSet<String>>,
    statuses: BTreeSet<String>,
    codes: BTreeSet<String>,
    closed: bool,
    opened_list: bool,
    exists: bool,
    flags: bool,
    annotations: BTreeMap<String, Option<Vec<u8>>>,
    access: Option<BTreeMap<String, String>>,
}

impl Seen {
    /// Takes one untagged response in.
    pub fn take(
        &mut self,
        response: Response,
        expected: &Expected,
        client: &mut Client,
        site: &mut Site,
        tag: &str,
    ) -> Result<(), String> {
        if let Response::Note(Some((name, argument))) = &response
            && name == "INPROGRESS"
        {
            // RFC 9585 §4: a machine that is busy takes its time, and the client is told.
            let own = format!("(\"{tag}\" ");
            return match argument.starts_with(&own) {
                true => Ok(()),
                false => Err(format!("INPROGRESS {argument} of another command")),
            };
        }
        if let Response::Note(Some((name, _))) = &response
            && name == "CLOSED"
        {
            if !expected.closes {
                return Err("CLOSED, and nothing was".to_owned());
            }
            self.closed = true;
            return Ok(());
        }
        self.exists |= matches!(response, Response::Exists(_));
        self.flags |= matches!(response, Response::Flags(_));
        let Some(response) = client.take(response, site, expected.told)? else {
            return Ok(());
        };
        match response {
            Response::Fetch(number, items) => {
                let selected = client.selected.as_ref().ok_or("no mailbox is open")?;
                let uid = selected.uid(number)?;
                let names = items.into_iter().map(|(name, _)| name);
                let mut names: BTreeSet<String> = names.collect();
                let is_asked = expected.fetched.uids.contains(&uid);
                let asked = &expected.fetched.items;
                let news = ["FLAGS", "UID", "MODSEQ"];
                let extra = names.iter().find(|name| {
                    !(news.contains(&name.as_str()) || is_asked && asked.contains(&name.as_str()))
                });
                if let Some(name) = extra {
                    return Err(format!("{name} of UID {uid}, which was not asked for"));
                }
                self.fetched.entry(uid).or_default().append(&mut names);
                Ok(())
            }
            Response::Vanished { uids, .. } => {
                let earlier = expected.earlier.as_ref().ok_or("VANISHED (EARLIER)")?;
                let selected = client.selected.as_ref().ok_or("no mailbox is open")?;
                let mailbox = site.find(selected.mailbox).ok_or("mailbox is gone")?;
                for uid in &uids {
                    if mailbox.messages.contains_key(uid) || *uid >= earlier.uid_next {
                        return Err(format!("VANISHED (EARLIER) {uid}, which did not"));
                    }
                    if earlier.view.contains(uid) {
                        return Err(format!(
                            "VANISHED (EARLIER) {uid}, for which the client has a number"
                        ));
                    }
                }
                self.earlier.get_or_insert_default().extend(uids);
                Ok(())
            }
            Response::Search { numbers, modseq } => {
                let found = expected.found.as_ref().ok_or("SEARCH unasked")?;
                if found.returns.is_some() || numbers != found.numbers {
                    return Err(format!("SEARCH {numbers:?}, not {:?}", found.numbers));
                }
                self.found = true;
                check_modseq(found, modseq, client, site)
            }
            Response::Esearch {
                tag: own,
                by_uid,
                items,
            } => {
                let found = expected.found.as_ref().ok_or("ESEARCH unasked")?;
                if own != tag || by_uid != found.by_uid {
                    return Err("ESEARCH of another command".to_owned());
                }
                self.found = true;
                check_extended(found, items, client, site)
            }
            Response::List {
                lsub,
                attributes,
                name,
            } => {
                let name = name_of(&name, client.enabled.utf8);
                if let Some(opened) = &expected.opened {
                    if !client.enabled.rev2 || name != opened.name {
                        return Err(format!("LIST {name} in SELECT"));
                    }
                    self.opened_list = true;
                    return Ok(());
                }
                let (is_lsub, _) = expected.listed.as_ref().ok_or("LIST unasked")?;
                if lsub != *is_lsub {
                    return Err("LIST for LSUB, or the other way".to_owned());
                }
                let attributes = attributes.into_iter().collect();
                if self.listed.insert(name.clone(), attributes).is_some() {
                    return Err(format!("{name} is listed twice"));
                }
                Ok(())
            }
            Response::Status(name, items) => {
                let name = name_of(&name, client.enabled.utf8);
                if !expected.statuses.contains(&name) || !self.statuses.insert(name.clone()) {
                    return Err(format!("STATUS of {name} unasked, or twice"));
                }
                check_status((client.own, site), &name, &items)
            }
            Response::Metadata(name, values) => {
                let name = name_of(&name, client.enabled.utf8);
                let asked = expected.annotations.as_ref().map(|(asked, _)| asked);
                if asked != Some(&name) {
                    return Err(format!("METADATA of {name:?} unasked"));
                }
                for (entry, value) in values {
                    if self.annotations.insert(entry.clone(), value).is_some() {
                        return Err(format!("annotation {entry} twice"));
                    }
                }
                Ok(())
            }
            Response::Access(name, rights) => {
                let name = name_of(&name, client.enabled.utf8);
                let asked = expected.access.as_ref().map(|(asked, _)| asked);
                if asked != Some(&name) || self.access.is_some() {
                    return Err(format!("rights in {name:?} unasked, or twice"));
                }
                self.access = Some(rights);
                Ok(())
            }
            Response::Recent(0) => Ok(()),
            Response::Other => Ok(()),
            Response::Note(Some((name, argument))) => {
                if matches!(name.as_str(), "COPYUID" | "APPENDUID")
                    && !expected
                        .copied
                        .as_ref()
                        .is_some_and(|copied| copied.is_untagged)
                {
                    return Err(format!("{name} belongs to the end of the command"));
                }
                self.take_code(&name, &argument, expected, client, site)
            }
            other => Err(format!("{other:?} does not belong here")),
        }
    }

    /// A response code of OK, tagged or not.
    fn take_code(
        &mut self,
        name: &str,
        argument: &str,
        expected: &Expected,
        client: &Client,
        site: &mut Site,
    ) -> Result<(), String> {
        self.codes.insert(name.to_owned());
        let selected = || client.selected.as_ref().ok_or("no mailbox is open");
        match name {
            "PERMANENTFLAGS" => selected().map(drop).map_err(str::to_owned),
            "UIDVALIDITY" => {
                let opened = expected.opened.as_ref().ok_or("UIDVALIDITY unasked")?;
                site.learn_validity(client.own, &opened.name, number(argument)? as u32)
            }
            "MAILBOXID" => {
                let opened = expected.opened.as_ref().map(|opened| &opened.name);
                let name = opened.or(expected.created.as_ref());
                let id = argument.trim_matches(['(', ')']);
                site.learn_object_id(client.own, name.ok_or("MAILBOXID unasked")?, id)
            }
            "UIDNEXT" => {
                let id = selected()?.mailbox;
                let wanted = site.find(id).map_or(0, |mailbox| mailbox.uid_next);
                if number(argument)? != u64::from(wanted) {
                    return Err(format!("UIDNEXT {argument}, not {wanted}"));
                }
                Ok(())
            }
            "UNSEEN" => {
                let first = expected
                    .opened
                    .as_ref()
                    .and_then(|opened| opened.first_unseen);
                if first.map(u64::from) != Some(number(argument)?) {
                    return Err(format!("UNSEEN {argument}, not {first:?}"));
                }
                Ok(())
            }
            "HIGHESTMODSEQ" => {
                let id = match expected.highest {
                    Some(id) => id,
                    None => selected()?.mailbox,
                };
                let mailbox = site.by_id(id).ok_or("its mailbox is gone")?;
                let modseq = number(argument)?;
                // RFC 7162 §3.2: where the client could not be told yet that messages have gone, it is
                // told a MODSEQ from before that.
                let view = client.selected.as_ref().map(|s| s.view.as_slice());
                let view = view.unwrap_or_default().iter();
                let first_gone = view.filter_map(|uid| mailbox.gone.get(uid)).min();
                // Who begins to keep account in an open mailbox (§3.1) may not have been told yet what
                // others have done since it was opened.
                let begins = expected.highest.is_none() && expected.opened.is_none();
                let opened = client.selected.as_ref().map_or(0, |own| own.opened);
                match first_gone {
                    None if begins
                        && mailbox.is_before(modseq, mailbox.top)
                        && !(mailbox.learned().contains_key(&opened)
                            && mailbox.is_before(modseq, opened)) =>
                    {
                        Ok(())
                    }
                    None => mailbox.learn(mailbox.top, modseq),
                    Some(tick) if mailbox.is_before(modseq, *tick) => Ok(()),
                    Some(_) => Err(format!("HIGHESTMODSEQ {modseq}, and it lacks some of that")),
                }
            }
            "READ-ONLY" | "READ-WRITE" => {
                let opened = expected.opened.as_ref().ok_or("nothing was opened")?;
                if opened.read_only != (name == "READ-ONLY") {
                    return Err(format!("{name} is the other way round"));
                }
                Ok(())
            }
            "COPYUID" | "APPENDUID" => {
                let copied = expected.copied.as_ref().ok_or("nothing was copied")?;
                self.copied = true;
                check_copied(copied, name, argument, (client.own, site))
            }
            "MODIFIED" => {
                let modified = numbers_of(argument)?;
                if modified != expected.modified {
                    return Err(format!(
                        "MODIFIED {modified:?}, not {:?}",
                        expected.modified
                    ));
                }
                Ok(())
            }
            other => Err(format!("response code {other}")),
        }
    }

    /// The command has ended so: was everything said that is due?
    pub fn end(
        mut self,
        (status, code): (Status, Code),
        expected: &Expected,
        client: &Client,
        site: &mut Site,
    ) -> Result<(), String> {
        let name = code.as_ref().map_or("", |(name, _)| name.as_str());
        let fits = match (&expected.end, status) {
            (End::Ok, Status::Ok) | (End::Bad, Status::Bad) => true,
            (End::UidRequired, Status::Bad) => name == "UIDREQUIRED",
            (End::No(wanted), Status::No) => *wanted == name,
            (End::Doomed, Status::No) => return Ok(()),
            _ => false,
        };
        if !fits {
            return Err(format!("{status:?} [{name}], not {:?}", expected.end));
        }
        if let Some((name, argument)) = &code
            && (status == Status::Ok || name == "MODIFIED")
        {
            self.take_code(name, argument, expected, client, site)?;
        }
        if status == Status::Bad {
            return Ok(());
        }
        let fetched = &expected.fetched;
        for uid in &fetched.uids {
            let seen = self.fetched.get(uid);
            let lacks = |item: &&&str| !seen.is_some_and(|seen| seen.contains(**item));
            if let Some(item) = fetched.items.iter().find(lacks)
                && !fetched.optional.contains(uid)
            {
                return Err(format!("no {item} of UID {uid}"));
            }
        }
        self.end_of_lists(expected)?;
        if status == Status::No {
            return Ok(());
        }
        if let Some(earlier) = &expected.earlier {
            let seen = self.earlier.unwrap_or_default();
            if let Some(uid) = earlier.must.difference(&seen).next() {
                return Err(format!("no VANISHED (EARLIER) of UID {uid}"));
            }
        }
        let returns = expected.found.as_ref().and_then(|found| found.returns);
        let is_silent = returns.is_some_and(|returns| returns.save && !says(&returns));
        if expected.found.is_some() && self.found == is_silent {
            return Err("no answer to SEARCH, or one too many".to_owned());
        }
        if expected.copied.is_some() != self.copied {
            return Err("no COPYUID or APPENDUID, or one too many".to_owned());
        }
        if expected.closes && !self.closed {
            return Err("no CLOSED".to_owned());
        }
        let mut due: Vec<&str> = Vec::new();
        if !expected.modified.is_empty() {
            due.push("MODIFIED");
        }
        if expected.created.is_some() {
            due.push("MAILBOXID");
        }
        if expected.highest.is_some() && client.enabled.qresync {
            due.push("HIGHESTMODSEQ");
        }
        if let Some(opened) = &expected.opened {
            due.extend(["UIDVALIDITY", "UIDNEXT", "HIGHESTMODSEQ", "MAILBOXID"]);
            due.push(if opened.read_only {
                "READ-ONLY"
            } else {
                "READ-WRITE"
            });
            due.extend(["PERMANENTFLAGS"]);
            // RFC 3501 §6.3.1: it may be left out, and is where a long look would be needed.
            let is_near = |number: u32| number as usize <= IMAP_UNSEEN_LOOKS_MAX;
            let has_numbers = !client.enabled.rev2 && !client.enabled.uid_only;
            if has_numbers && opened.first_unseen.is_some_and(is_near) {
                due.push("UNSEEN");
            }
            if !self.exists || !self.flags {
                return Err("no EXISTS or no FLAGS in SELECT".to_owned());
            }
            if client.enabled.rev2 && !self.opened_list {
                return Err("no LIST in SELECT (RFC 9051 §6.3.2)".to_owned());
            }
        }
        match due.iter().find(|code| !self.codes.contains(**code)) {
            Some(code) => Err(format!("no {code}")),
            None => Ok(()),
        }
    }

    fn end_of_lists(&self, expected: &Expected) -> Result<(), String> {
        if let Some((_, listed)) = &expected.listed
            && *listed != self.listed
        {
            return Err(format!("listed {:?}, not {listed:?}", self.listed));
        }
        if self.statuses != expected.statuses {
            return Err(format!("STATUS of {:?} only", self.statuses));
        }
        if let Some((name, annotations)) = &expected.annotations {
            let told = annotations.iter();
            let told =
                told.map(|(entry, value)| (entry.clone(), value.as_deref().map(<[u8]>::to_vec)));
            if !told.eq(self.annotations.clone()) {
                return Err(format!(
                    "annotations of {name}: {:?}, not {annotations:?}",
                    self.annotations
                ));
            }
        }
        let access = expected.access.as_ref().map(|(_, access)| access);
        if self.access.as_ref() != access {
            return Err(format!("rights {:?}, not {access:?}", self.access));
        }
        Ok(())
    }
}

/// The options ask for an answer.
fn says(returns: &Returns) -> bool {
    returns.min || returns.max || returns.all || returns.count
}
