//! What a command does to the world, and what is to be answered.

use std::collections::{BTreeMap, BTreeSet};

use super::client::{Client, Selected, Told};
use super::command::{Command, New, Qresync, Set};
use super::expected::{Copied, Earlier, End, Expected, Fetched, Found, Opened};
use super::names;
use super::search::{Key, Returns, hits};
use super::sets::{covers, resolve};
use super::world::{Account, DELETED, Mailbox, Marks, Message, Mode, SEEN, Since};

fn ok() -> Expected {
    Expected::new(End::Ok, Told::All)
}

fn no(code: &'static str) -> Expected {
    Expected::new(End::No(code), Told::All)
}

fn bad() -> Expected {
    Expected::new(End::Bad, Told::All)
}

/// A command that has message numbers leaves them as they are.
fn told(by_uid: bool) -> Told {
    if by_uid { Told::All } else { Told::NoExpunge }
}

/// Carries a command out.
pub fn carry_out(command: &Command, account: &mut Account, client: &mut Client) -> Expected {
    if is_doomed(command, account, client) {
        return Expected::new(End::Doomed, Told::Nothing);
    }
    let needs_mailbox = matches!(
        command,
        Command::Check
            | Command::Close
            | Command::Unselect
            | Command::Store { .. }
            | Command::Fetch { .. }
            | Command::Search { .. }
            | Command::Copy { .. }
            | Command::Expunge(_)
            | Command::Replace { .. }
    );
    if needs_mailbox && client.selected.is_none() {
        return bad();
    }
    match command {
        Command::Noop | Command::Check => ok(),
        Command::Enable(what) => enable(what, client),
        Command::Select {
            name,
            read_only,
            condstore,
            qresync,
        } => {
            client.enabled.condstore |= condstore | qresync.is_some();
            select(name, *read_only, qresync.as_ref(), account, client)
        }
        Command::Close => {
            expunge(None, account, client);
            client.selected = None;
            Expected::new(End::Ok, Told::Nothing)
        }
        Command::Unselect => {
            client.selected = None;
            Expected::new(End::Ok, Told::Nothing)
        }
        Command::Create(name, special_use) => create(name, *special_use, account),
        Command::Delete(name) => delete(name, account, client),
        Command::Rename(from, to) => rename(from, to, account),
        Command::Subscribe(name, on) => {
            if *on {
                account.subscribed.insert(name.clone());
            } else {
                account.subscribed.remove(name);
            }
            ok()
        }
        Command::List {
            pattern,
            subscribed,
            status,
        } => {
            let listed = names::list(account, pattern, *subscribed, *status);
            let mut expected = ok();
            if *status {
                let there = listed
                    .keys()
                    .filter(|name| account.mailboxes.contains_key(*name));
                expected.statuses = there.cloned().collect();
            }
            expected.listed = Some((false, listed));
            expected
        }
        Command::Lsub(pattern) => {
            let mut expected = ok();
            expected.listed = Some((true, names::lsub(account, pattern)));
            expected
        }
        Command::Status(name) => {
            client.enabled.condstore = true;
            let mut expected = ok();
            if !account.mailboxes.contains_key(name) {
                return no("NONEXISTENT");
            }
            expected.statuses.insert(name.clone());
            expected
        }
        Command::Append(name, messages) => append(name, messages, account),
        Command::Replace {
            by_uid,
            number,
            name,
            new,
        } => replace(*by_uid, *number, (name, new), account, client),
        Command::Store {
            by_uid,
            set,
            mode,
            silent,
            marks,
            since,
        } => {
            client.enabled.condstore |= since.is_some();
            let change = Change {
                mode: *mode,
                marks,
                silent: *silent,
                since: *since,
            };
            store(*by_uid, set, &change, account, client)
        }
        Command::Fetch {
            by_uid,
            set,
            items,
            since,
            vanished,
        } => {
            client.enabled.condstore |= since.is_some() || items.contains(&"MODSEQ");
            fetch(*by_uid, set, items, (*since, *vanished), account, client)
        }
        Command::Search {
            by_uid,
            keys,
            returns,
        } => search(*by_uid, keys, *returns, account, client),
        Command::Copy {
            by_uid,
            set,
            name,
            moves,
        } => copy(*by_uid, set, (name, *moves), account, client),
        Command::Expunge(set) => {
            let read_only = client.selected.as_ref().is_none_or(|s| s.read_only);
            if read_only {
                return Expected::new(End::No(""), Told::Nothing);
            }
            expunge(set.as_ref(), account, client);
            let mut expected = ok();
            expected.highest = client.selected.as_ref().map(|selected| selected.mailbox);
            expected
        }
    }
}

/// The open mailbox was deleted: all that is left for the session is to end, or to open another one.
fn is_doomed(command: &Command, account: &Account, client: &Client) -> bool {
    let is_gone = |selected: &Selected| account.find(selected.mailbox).is_none();
    let leaves = matches!(command, Command::Select { .. } | Command::Unselect);
    client.selected.as_ref().is_some_and(is_gone) && !leaves
}

fn enable(what: &str, client: &mut Client) -> Expected {
    let enabled = &mut client.enabled;
    match what {
        "CONDSTORE" => enabled.condstore = true,
        "QRESYNC" => {
            enabled.condstore = true;
            enabled.qresync = true;
        }
        "UTF8=ACCEPT" => enabled.utf8 = true,
        _ => {
            enabled.rev2 = true;
            enabled.utf8 = true;
        }
    }
    Expected::new(End::Ok, Told::Nothing)
}

fn select(
    name: &str,
    read_only: bool,
    qresync: Option<&Qresync>,
    account: &Account,
    client: &mut Client,
) -> Expected {
    let closes = client.selected.take().is_some();
    let Some(mailbox) = account.mailboxes.get(name) else {
        let mut expected = Expected::new(End::No("NONEXISTENT"), Told::Nothing);
        expected.closes = closes;
        return expected;
    };
    let selected = Selected::new(mailbox, read_only, client.enabled.condstore);
    let mut expected = Expected::new(End::Ok, Told::All);
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
    client.selected = Some(selected);
    expected
}

fn changed_since(
    mailbox: &Mailbox,
    since: Since,
    is_wanted: impl Fn(u32) -> bool,
) -> BTreeSet<u32> {
    let messages = mailbox.messages.iter();
    let changed = messages.filter(|(uid, m)| m.tick > since.tick && is_wanted(**uid));
    changed.map(|(uid, _)| *uid).collect()
}

fn earlier(
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

fn create(name: &str, special_use: Option<&'static str>, account: &mut Account) -> Expected {
    let name = name.strip_suffix('/').unwrap_or(name);
    if account.mailboxes.contains_key(name) {
        return no("ALREADYEXISTS");
    }
    account.create(name, special_use);
    let mut expected = ok();
    expected.created = Some(name.to_owned());
    expected
}

fn delete(name: &str, account: &mut Account, client: &mut Client) -> Expected {
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

fn rename(from: &str, to: &str, account: &mut Account) -> Expected {
    if from == "INBOX" {
        return rename_inbox(to, account);
    }
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

/// RFC 9051 §6.3.6: INBOX stays, its messages go.
fn rename_inbox(to: &str, account: &mut Account) -> Expected {
    if account.mailboxes.contains_key(to) {
        return no("ALREADYEXISTS");
    }
    account.create(to, None);
    let inbox = account.mailboxes.get("INBOX");
    let uids: Vec<u32> =
        inbox.map_or_else(Vec::new, |inbox| inbox.messages.keys().copied().collect());
    let id = inbox.map_or(0, |inbox| inbox.id);
    transfer(id, to, &uids, true, account);
    ok()
}

fn append(name: &str, messages: &[New], account: &mut Account) -> Expected {
    if !account.mailboxes.contains_key(name) {
        return no("TRYCREATE");
    }
    let mut expected = ok();
    expected.copied = Some(Copied {
        from: None,
        to: messages.iter().map(|new| put(name, new, account)).collect(),
        name: name.to_owned(),
        is_untagged: false,
    });
    expected
}

fn put(name: &str, new: &New, account: &mut Account) -> u32 {
    let tick = account.next_tick();
    let message = Message {
        body: new.body.clone(),
        date: new.date.clone(),
        email_id: None,
        marks: new.marks.clone(),
        tick,
    };
    let mailbox = account.mailboxes.get_mut(name);
    mailbox.map_or(0, |mailbox| mailbox.put(message))
}

fn replace(
    by_uid: bool,
    number: u32,
    (name, new): (&str, &New),
    account: &mut Account,
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
    if !account.mailboxes.contains_key(name) {
        return no("TRYCREATE");
    }
    let from = selected.mailbox;
    let is_there = account
        .find(from)
        .is_some_and(|m| m.messages.contains_key(&uid));
    if !is_there {
        return no("EXPUNGEISSUED");
    }
    let to = put(name, new, account);
    let tick = account.next_tick();
    if let Some(mailbox) = account.by_id(from) {
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

struct Change<'a> {
    mode: Mode,
    marks: &'a Marks,
    silent: bool,
    since: Option<Since>,
}

fn store(
    by_uid: bool,
    set: &Set,
    change: &Change<'_>,
    account: &mut Account,
    client: &mut Client,
) -> Expected {
    let Some(selected) = client.selected.as_mut().filter(|s| !s.read_only) else {
        return Expected::new(End::No(""), Told::Nothing);
    };
    let Some(uids) = resolve(set, by_uid, selected) else {
        return Expected::new(End::Bad, Told::Nothing);
    };
    let mut expected = Expected::new(End::Ok, told(by_uid));
    let tick = account.next_tick();
    let Some(mailbox) = account.by_id(selected.mailbox) else {
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

fn fetch(
    by_uid: bool,
    set: &Set,
    items: &[&'static str],
    (since, vanished): (Option<Since>, bool),
    account: &mut Account,
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
    let tick = account.next_tick();
    let Some(mailbox) = account.by_id(selected.mailbox) else {
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
    if by_uid {
        expected.fetched.items.push("UID");
    }
    expected
}

fn search(
    by_uid: bool,
    keys: &[Key],
    returns: Option<Returns>,
    account: &Account,
    client: &mut Client,
) -> Expected {
    let asks_modseq = keys.iter().any(Key::asks_modseq);
    client.enabled.condstore |= asks_modseq;
    let rev2 = client.enabled.rev2;
    let Some(selected) = &mut client.selected else {
        return bad();
    };
    let mut expected = Expected::new(End::Ok, told(by_uid));
    let Some(mailbox) = account.find(selected.mailbox) else {
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

fn copy(
    by_uid: bool,
    set: &Set,
    (name, moves): (&str, bool),
    account: &mut Account,
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
    if !account.mailboxes.contains_key(name) {
        return no("TRYCREATE");
    }
    let uids: Vec<u32> = uids.into_iter().collect();
    let pairs = transfer(selected.mailbox, name, &uids, moves, account);
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
fn transfer(
    from: u32,
    to: &str,
    uids: &[u32],
    moves: bool,
    account: &mut Account,
) -> Vec<(u32, u32)> {
    let mut pairs = Vec::new();
    for uid in uids {
        let found = account
            .find(from)
            .and_then(|mailbox| mailbox.messages.get(uid));
        let Some(mut message) = found.cloned() else {
            continue;
        };
        message.tick = account.next_tick();
        if let Some(target) = account.mailboxes.get_mut(to) {
            pairs.push((*uid, target.put(message)));
        }
    }
    if moves && !pairs.is_empty() {
        let tick = account.next_tick();
        let gone: Vec<u32> = pairs.iter().map(|(uid, _)| *uid).collect();
        if let Some(mailbox) = account.by_id(from) {
            mailbox.expunge(&gone, tick);
        }
    }
    pairs
}

/// EXPUNGE of what is marked as deleted, in a mailbox that may be changed.
fn expunge(set: Option<&Set>, account: &mut Account, client: &Client) {
    let Some(selected) = client.selected.as_ref().filter(|s| !s.read_only) else {
        return;
    };
    let wanted: BTreeSet<u32> = match set {
        None => selected.view.iter().copied().collect(),
        Some(set) => resolve(set, true, selected).unwrap_or_default(),
    };
    let tick = account.next_tick();
    if let Some(mailbox) = account.by_id(selected.mailbox) {
        let is_deleted = |uid: &u32| {
            let message = mailbox.messages.get(uid);
            message.is_some_and(|message| message.marks.flags & DELETED != 0)
        };
        let gone: Vec<u32> = wanted.into_iter().filter(is_deleted).collect();
        mailbox.expunge(&gone, tick);
    }
}
