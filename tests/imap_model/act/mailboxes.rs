//! SELECT, and what makes, removes and renames mailboxes.

use std::collections::{BTreeMap, BTreeSet};

use super::super::client::{Client, Selected, Told};
use super::super::command::{Command, Qresync};
use super::super::expected::{Expected, Fetched, Opened};
use super::super::sets::covers;
use super::super::site::Site;
use super::super::world::{Account, BoxId, Message, SEEN};
use super::copies::transfer;
use super::messages::{changed_since, earlier};
use super::{lacks, no, ok};

pub(super) fn select(
    name: &str,
    read_only: bool,
    qresync: Option<&Qresync>,
    site: &Site,
    client: &mut Client,
) -> Expected {
    let closes = client.selected.take().is_some();
    let mailbox = match site.reach(client.own, name, 'r') {
        Ok(mailbox) => mailbox,
        Err(lack) => {
            let mut expected = lacks(lack, "NONEXISTENT");
            expected.told = Told::Nothing;
            expected.closes = closes;
            return expected;
        }
    };
    let rights = site.rights(client.own, mailbox);
    // RFC 4314 §5.2: where nothing may be changed.
    let read_only = read_only || !rights.contains(['s', 'w', 't', 'e']);
    let mut selected = Selected::new(mailbox, read_only, client.enabled.condstore);
    let mut expected = ok();
    expected.closes = closes;
    let is_unseen = |message: &Message| message.marks.flags & SEEN == 0;
    let first = mailbox.messages.values().position(is_unseen);
    expected.opened = Some(Opened {
        name: name.to_owned(),
        read_only,
        first_unseen: first.map(|index| index as u32 + 1),
    });
    if let Some(known) = qresync.filter(|known| mailbox.validity == Some(known.validity)) {
        let is_known = |uid: u32| known.known.as_ref().is_none_or(|set| covers(set, uid));
        expected.earlier = Some(earlier(mailbox, known.since, is_known, BTreeSet::new()));
        let changed = changed_since(mailbox, known.since, is_known);
        expected.fetched = Fetched {
            uids: changed,
            items: vec!["UID", "FLAGS", "MODSEQ"],
            optional: BTreeSet::new(),
        };
    }
    selected.rights = rights;
    client.selected = Some(selected);
    expected
}

pub(super) fn create(
    name: &str,
    special_use: Option<&'static str>,
    (own, site): (usize, &mut Site),
) -> Expected {
    let name = name.strip_suffix('/').unwrap_or(name);
    if site.accounts[own].mailboxes.contains_key(name) {
        return no("ALREADYEXISTS");
    }
    let tick = site.next_tick();
    let account = &mut site.accounts[own];
    // What is granted above is granted here.
    let above = name.rmatch_indices('/').map(|(end, _)| &name[..end]);
    let above = above
        .filter_map(|above| account.mailboxes.get(above))
        .next();
    let rights = above.map(|above| above.rights.clone());
    account.create(name, special_use, tick);
    if let (Some(mailbox), Some(rights)) = (account.mailboxes.get_mut(name), rights) {
        mailbox.rights = rights;
    }
    let mut expected = ok();
    expected.created = Some(name.to_owned());
    expected
}

pub(super) fn delete(name: &str, site: &mut Site, client: &mut Client) -> Expected {
    let account = &mut site.accounts[client.own];
    if name == "INBOX" {
        return no("CANNOT");
    }
    let Some(gone) = account.mailboxes.remove(name) else {
        return no("NONEXISTENT");
    };
    let mut expected = ok();
    if client
        .selected
        .as_ref()
        .is_some_and(|s| s.mailbox == gone.id)
    {
        // Its own: it knows.
        client.selected = None;
        expected.closes = true;
    }
    expected
}

pub(super) fn rename(from: &str, to: &str, (own, site): (usize, &mut Site)) -> Expected {
    if from == "INBOX" {
        return rename_inbox(to, (own, site));
    }
    let account = &mut site.accounts[own];
    if to
        .strip_prefix(from)
        .is_some_and(|rest| rest.starts_with('/'))
    {
        return no("CANNOT");
    }
    let moved = |name: &str| {
        let rest = name.strip_prefix(from)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| format!("{to}{rest}"))
    };
    let moving: BTreeMap<String, String> = account
        .mailboxes
        .keys()
        .filter_map(|name| Some((name.clone(), moved(name)?)))
        .collect();
    if moving.is_empty() {
        return no("NONEXISTENT");
    }
    // A name that moves away is free, but for the mailbox that has it.
    let is_taken = |name: &String| {
        from == to || account.mailboxes.contains_key(name) && !moving.contains_key(name)
    };
    if moving.values().any(is_taken) {
        return no("ALREADYEXISTS");
    }
    let mut moved = Vec::new();
    for (before, after) in moving {
        moved.extend(
            account
                .mailboxes
                .remove(&before)
                .map(|mailbox| (after, mailbox)),
        );
    }
    account.mailboxes.extend(moved);
    ok()
}

/// RFC 9051 §6.3.6: INBOX stays, its messages go. What it says of itself both have (RFC 5464 §4.1).
fn rename_inbox(to: &str, (own, site): (usize, &mut Site)) -> Expected {
    let Some((inbox, made)) = begin_rename_inbox(to, (own, site)) else {
        return no("ALREADYEXISTS");
    };
    annotate_as_inbox(to, &mut site.accounts[own]);
    let inbox = site.find(inbox).map(|inbox| (inbox.id, &inbox.messages));
    let Some((inbox, messages)) = inbox else {
        return no("NONEXISTENT");
    };
    let uids: Vec<u32> = messages.keys().copied().collect();
    transfer((inbox, made), &uids, true, site);
    ok()
}

/// INBOX, and the new mailbox.
fn begin_rename_inbox(to: &str, (own, site): (usize, &mut Site)) -> Option<(BoxId, BoxId)> {
    let inbox = site.accounts[own].mailboxes.get("INBOX")?.id;
    if site.accounts[own].mailboxes.contains_key(to) {
        return None;
    }
    let tick = site.next_tick();
    let account = &mut site.accounts[own];
    account.create(to, None, tick);
    Some((inbox, account.mailboxes.get(to)?.id))
}

fn annotate_as_inbox(to: &str, account: &mut Account) {
    let inbox = account.mailboxes.get("INBOX");
    let annotations = inbox.map(|inbox| inbox.annotations.clone());
    if let (Some(mailbox), Some(annotations)) = (account.mailboxes.get_mut(to), annotations) {
        mailbox.annotations = annotations;
    }
}

/// What may be left of a command in several steps when the server dies within it.
pub(super) fn halves(command: &Command, site: &Site, client: &Client) -> Vec<Site> {
    let mut half = site.clone();
    let own = client.own;
    match command {
        // The mailbox is made, then it has what INBOX says of itself, then the messages go there.
        Command::Rename(from, to) if from == "INBOX" => {
            if begin_rename_inbox(to, (own, &mut half)).is_none() {
                return Vec::new();
            }
            let mut next = half.clone();
            annotate_as_inbox(to, &mut next.accounts[own]);
            vec![half, next]
        }
        // The mailbox is made, then it has the access list of the one above.
        Command::Create(name, special_use) => {
            let made = create(name, *special_use, (own, &mut half));
            let mailboxes = &mut half.accounts[own].mailboxes;
            let made = made.created.and_then(|name| mailboxes.get_mut(&name));
            match made {
                Some(mailbox) if !mailbox.rights.is_empty() => mailbox.rights.clear(),
                _ => return Vec::new(),
            }
            vec![half]
        }
        _ => Vec::new(),
    }
}
