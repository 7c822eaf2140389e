//! APPEND, REPLACE, COPY, MOVE: messages that come to where they were not.

use super::super::client::{Client, Told};
use super::super::command::{Command, New, Set};
use super::super::expected::{Copied, End, Expected};
use super::super::sets::resolve;
use super::super::site::Site;
use super::super::world::{BoxId, Message};
use super::{bad, lacks, no, ok};

pub(super) fn append(own: usize, name: &str, messages: &[New], site: &mut Site) -> Expected {
    let target = match site.reach(own, name, 'i') {
        Ok(target) => target.id,
        Err(lack) => return lacks(lack, "TRYCREATE"),
    };
    let mut expected = ok();
    expected.copied = Some(Copied {
        from: None,
        to: messages.iter().map(|new| put(target, new, site)).collect(),
        name: name.to_owned(),
        is_untagged: false,
    });
    expected
}

fn put(target: BoxId, new: &New, site: &mut Site) -> u32 {
    let tick = site.next_tick();
    let message = Message {
        body: new.body.clone(),
        date: new.date.clone(),
        email_id: None,
        marks: new.marks.clone(),
        tick,
    };
    let mailbox = site.by_id(target);
    mailbox.map_or(0, |mailbox| mailbox.put(message))
}

pub(super) fn replace(
    by_uid: bool,
    number: u32,
    (name, new): (&str, &New),
    site: &mut Site,
    client: &Client,
) -> Expected {
    let Some(selected) = client.selected.as_ref().filter(|s| !s.read_only) else {
        return Expected::new(End::No(""), Told::Nothing);
    };
    let uid = if by_uid {
        selected.number(number).map(|_| number)
    } else {
        selected.uid(number).ok()
    };
    let Some(uid) = uid else {
        // A number that is not there is the client's mistake, a UID is not.
        let end = if by_uid { End::No("") } else { End::Bad };
        return Expected::new(end, Told::Nothing);
    };
    let from = selected.mailbox;
    let target = match site.reach(client.own, name, 'i') {
        Ok(target) => target.id,
        Err(lack) => return lacks(lack, "TRYCREATE"),
    };
    let is_there = site
        .find(from)
        .is_some_and(|m| m.messages.contains_key(&uid));
    if !is_there {
        return no("EXPUNGEISSUED");
    }
    let to = put(target, new, site);
    let tick = site.next_tick();
    if let Some(mailbox) = site.by_id(from) {
        mailbox.expunge(&[uid], tick);
    }
    let mut expected = ok();
    expected.copied = Some(Copied {
        from: None,
        to: vec![to],
        name: name.to_owned(),
        is_untagged: true,
    });
    expected.highest = Some(from);
    expected
}

pub(super) fn copy(
    by_uid: bool,
    set: &Set,
    (name, moves): (&str, bool),
    site: &mut Site,
    client: &Client,
) -> Expected {
    let Some(selected) = &client.selected else {
        return bad();
    };
    if moves && selected.read_only {
        return Expected::new(End::No(""), Told::Nothing);
    }
    let Some(uids) = resolve(set, by_uid, selected) else {
        return Expected::new(End::Bad, Told::Nothing);
    };
    if uids.is_empty() {
        return ok();
    }
    let target = match site.reach(client.own, name, 'i') {
        Ok(target) => target.id,
        Err(lack) => return lacks(lack, "TRYCREATE"),
    };
    let uids: Vec<u32> = uids.into_iter().collect();
    let pairs = transfer((selected.mailbox, target), &uids, moves, site);
    if pairs.is_empty() {
        return no("EXPUNGEISSUED");
    }
    let mut expected = ok();
    if moves {
        expected.highest = Some(selected.mailbox);
    }
    let (from, to) = pairs.into_iter().unzip();
    expected.copied = Some(Copied {
        from: Some(from),
        to,
        name: name.to_owned(),
        is_untagged: moves,
    });
    expected
}

/// Copies messages, or moves them; UIDs here and there.
pub(super) fn transfer(
    (from, to): (BoxId, BoxId),
    uids: &[u32],
    moves: bool,
    site: &mut Site,
) -> Vec<(u32, u32)> {
    let mut pairs = Vec::new();
    for uid in uids {
        let found = site
            .find(from)
            .and_then(|mailbox| mailbox.messages.get(uid));
        let Some(mut message) = found.cloned() else {
            continue;
        };
        if Site::owner(from) != Site::owner(to) {
            // Another account's message is another one.
            message.email_id = None;
        }
        message.tick = site.next_tick();
        if let Some(target) = site.by_id(to) {
            pairs.push((*uid, target.put(message)));
        }
    }
    if moves && !pairs.is_empty() {
        let tick = site.next_tick();
        let gone: Vec<u32> = pairs.iter().map(|(uid, _)| *uid).collect();
        if let Some(mailbox) = site.by_id(from) {
            mailbox.expunge(&gone, tick);
        }
    }
    pairs
}

/// What may be left of a COPY or MOVE to another account when the server dies within it: some of the
/// copies, or all of them, and nothing has gone.
pub(super) fn halves(command: &Command, site: &Site, client: &Client) -> Vec<Site> {
    if let Command::Replace { name, new, .. } = command
        && let Some(selected) = &client.selected
        && let Ok(target) = site.reach(client.own, name, 'i')
        && Site::owner(target.id) != Site::owner(selected.mailbox)
    {
        // The new message is there, and the old one still is.
        let mut half = site.clone();
        put(target.id, new, &mut half);
        return vec![half];
    }
    let Command::Copy {
        by_uid, set, name, ..
    } = command
    else {
        return Vec::new();
    };
    let selected = client.selected.as_ref();
    let target = site.reach(client.own, name, 'i').ok();
    let (Some(selected), Some(target)) = (selected, target) else {
        return Vec::new();
    };
    let between = (selected.mailbox, target.id);
    if Site::owner(between.0) == Site::owner(between.1) {
        return Vec::new();
    }
    let uids = resolve(set, *by_uid, selected).unwrap_or_default();
    let uids: Vec<u32> = uids.into_iter().collect();
    let some = (1..=uids.len()).map(|count| {
        let mut half = site.clone();
        transfer(between, &uids[..count], false, &mut half);
        half
    });
    some.collect()
}
