//! STORE, FETCH, SEARCH, EXPUNGE: what is done with messages where they are.

use std::collections::BTreeSet;

use super::super::client::{Client, Told};
use super::super::command::Set;
use super::super::expected::{Earlier, End, Expected, Fetched, Found};
use super::super::search::{Key, Returns, hits};
use super::super::sets::{covers, resolve};
use super::super::site::Site;
use super::super::world::{DELETED, Mailbox, Marks, Mode, SEEN, Since};
use super::{bad, told};

pub(super) fn changed_since(
    mailbox: &Mailbox,
    since: Since,
    is_wanted: impl Fn(u32) -> bool,
) -> BTreeSet<u32> {
    let messages = mailbox.messages.iter();
    let changed = messages.filter(|(uid, m)| m.tick > since.tick && is_wanted(**uid));
    changed.map(|(uid, _)| *uid).collect()
}

pub(super) fn earlier(
    mailbox: &Mailbox,
    since: Since,
    is_wanted: impl Fn(u32) -> bool,
    view: BTreeSet<u32>,
) -> Earlier {
    let gone = mailbox.gone.iter();
    let must =
        gone.filter(|(uid, tick)| **tick > since.tick && is_wanted(**uid) && !view.contains(uid));
    Earlier {
        must: must.map(|(uid, _)| *uid).collect(),
        uid_next: mailbox.uid_next,
        view,
    }
}

pub(super) struct Change<'a> {
    pub mode: Mode,
    pub marks: &'a Marks,
    pub silent: bool,
    pub since: Option<Since>,
}

pub(super) fn store(
    by_uid: bool,
    set: &Set,
    change: &Change<'_>,
    site: &mut Site,
    client: &mut Client,
) -> Expected {
    let Some(selected) = client.selected.as_mut().filter(|s| !s.read_only) else {
        return Expected::new(End::No(""), Told::Nothing);
    };
    let Some(uids) = resolve(set, by_uid, selected) else {
        return Expected::new(End::Bad, Told::Nothing);
    };
    let mut expected = Expected::new(End::Ok, told(by_uid));
    let tick = site.next_tick();
    let Some(mailbox) = site.by_id(selected.mailbox) else {
        return expected;
    };
    let apply = |marks: &Marks| marks.changed(change.mode, change.marks);
    let mut has_gone = false;
    for uid in uids {
        let Some(message) = mailbox.messages.get_mut(&uid) else {
            has_gone = true;
            continue;
        };
        if change.since.is_some_and(|since| message.tick > since.tick) {
            let number = if by_uid {
                Some(uid)
            } else {
                selected.number(uid)
            };
            expected.modified.extend(number);
            expected.fetched.optional.insert(uid);
            continue;
        }
        let marks = apply(&message.marks);
        if marks != message.marks {
            mailbox.keywords.extend(marks.keywords.iter().cloned());
            message.marks = marks;
            message.tick = tick;
            mailbox.top = tick;
        }
        if change.silent {
            selected.conclude(uid, apply);
        } else {
            expected.fetched.uids.insert(uid);
        }
    }
    expected.fetched.items = vec!["FLAGS"];
    if has_gone && !by_uid && !change.silent {
        let is_plain = expected.modified.is_empty();
        expected.end = End::No(if is_plain {
            "EXPUNGEISSUED"
        } else {
            "MODIFIED"
        });
    }
    expected
}

pub(super) fn fetch(
    by_uid: bool,
    set: &Set,
    items: &[&'static str],
    (since, vanished): (Option<Since>, bool),
    site: &mut Site,
    client: &Client,
) -> Expected {
    let Some(selected) = &client.selected else {
        return bad();
    };
    if vanished && !client.enabled.qresync {
        return Expected::new(End::Bad, Told::Nothing);
    }
    let Some(uids) = resolve(set, by_uid, selected) else {
        return Expected::new(End::Bad, Told::Nothing);
    };
    let mut expected = Expected::new(End::Ok, told(by_uid));
    let tick = site.next_tick();
    let Some(mailbox) = site.by_id(selected.mailbox) else {
        return expected;
    };
    let is_there = |uid: &u32| mailbox.messages.contains_key(uid);
    let there: BTreeSet<u32> = uids.iter().copied().filter(is_there).collect();
    if there.len() < uids.len() && since.is_none() && !by_uid {
        expected.end = End::No("EXPUNGEISSUED");
    }
    if vanished {
        let since = since.unwrap_or(Since { modseq: 0, tick: 0 });
        let view = selected.view.iter().copied().collect();
        let is_wanted = |uid: u32| covers(set, uid);
        expected.earlier = Some(earlier(mailbox, since, is_wanted, view));
    }
    let there = match since {
        Some(since) => changed_since(mailbox, since, |uid| there.contains(&uid)),
        None => there,
    };
    // RFC 9051 §6.4.5: to read a message is to have seen it. The one that is asked for so is one.
    if items.contains(&"BODY[]") && !selected.read_only {
        for uid in &there {
            if let Some(message) = mailbox.messages.get_mut(uid)
                && message.marks.flags & SEEN == 0
            {
                message.marks.flags |= SEEN;
                message.tick = tick;
                mailbox.top = tick;
            }
        }
    }
    let names = items.iter().map(|item| match *item {
        "BODY.PEEK[]" => "BODY[]",
        item => item,
    });
    expected.fetched = Fetched {
        uids: there,
        items: names.collect(),
        optional: BTreeSet::new(),
    };
    if since.is_some() {
        expected.fetched.items.push("MODSEQ");
    }
    // RFC 9586 §3.3: it stands in front of the response anyway.
    if by_uid && !client.enabled.uid_only {
        expected.fetched.items.push("UID");
    }
    expected
}

pub(super) fn search(
    by_uid: bool,
    keys: &[Key],
    returns: Option<Returns>,
    site: &Site,
    client: &mut Client,
) -> Expected {
    let asks_modseq = keys.iter().any(Key::asks_modseq);
    client.enabled.condstore |= asks_modseq;
    let rev2 = client.enabled.rev2;
    let Some(selected) = &mut client.selected else {
        return bad();
    };
    let mut expected = Expected::new(End::Ok, told(by_uid));
    let Some(mailbox) = site.find(selected.mailbox) else {
        return expected;
    };
    let found = hits(keys, selected, mailbox);
    let ends = returns.filter(Returns::wants_ends);
    let tick_of = |uid: &u32| mailbox.messages.get(uid).map_or(0, |message| message.tick);
    let (first, last) = (found.first().copied(), found.last().copied());
    // RFC 7162 §3.1.5: of those that are told.
    let told: BTreeSet<u32> = match ends {
        Some(ends) => {
            let first = first.filter(|_| ends.min);
            let last = last.filter(|_| ends.max);
            first.into_iter().chain(last).collect()
        }
        None => found.clone(),
    };
    let number = |uid: &u32| {
        if by_uid {
            Some(*uid)
        } else {
            selected.number(*uid)
        }
    };
    expected.found = Some(Found {
        numbers: found.iter().filter_map(number).collect(),
        by_uid,
        returns: returns.or(rev2.then(Returns::default)),
        tick: if asks_modseq {
            told.iter().map(tick_of).max()
        } else {
            None
        },
    });
    if returns.is_some_and(|returns| returns.save) {
        // RFC 5182 §2.4.
        selected.saved = if ends.is_some() { told } else { found };
    }
    expected
}

/// EXPUNGE of what is marked as deleted, in a mailbox that may be changed.
pub(super) fn expunge(set: Option<&Set>, site: &mut Site, client: &Client) {
    let Some(selected) = client.selected.as_ref().filter(|s| !s.read_only) else {
        return;
    };
    let wanted: BTreeSet<u32> = match set {
        None => selected.view.iter().copied().collect(),
        Some(set) => resolve(set, true, selected).unwrap_or_default(),
    };
    let tick = site.next_tick();
    if let Some(mailbox) = site.by_id(selected.mailbox) {
        let is_deleted = |uid: &u32| {
            let message = mailbox.messages.get(uid);
            message.is_some_and(|message| message.marks.flags & DELETED != 0)
        };
        let gone: Vec<u32> = wanted.into_iter().filter(is_deleted).collect();
        mailbox.expunge(&gone, tick);
    }
}
