//! What a command does to the world, and what is to be answered.

mod access;
mod copies;
mod mailboxes;
mod messages;

use super::client::{Client, Told};
use super::command::Command;
use super::expected::{End, Expected};
use super::names;
use super::search::Key;
use super::site::{Lack, Site};
use messages::Change;

fn ok() -> Expected {
    Expected::new(End::Ok, Told::All)
}

fn no(code: &'static str) -> Expected {
    Expected::new(End::No(code), Told::All)
}

fn bad() -> Expected {
    Expected::new(End::Bad, Told::All)
}

/// What cannot be reached; `missing` says that it is not there.
fn lacks(lack: Lack, missing: &'static str) -> Expected {
    no(match lack {
        Lack::Missing => missing,
        Lack::Right => "NOPERM",
    })
}

/// A command that has message numbers leaves them as they are.
fn told(by_uid: bool) -> Told {
    if by_uid { Told::All } else { Told::NoExpunge }
}

/// Carries a command out.
pub fn carry_out(command: &Command, site: &mut Site, client: &mut Client) -> Expected {
    if is_doomed(command, site, client) {
        return Expected::new(End::Doomed, Told::Nothing);
    }
    if client.enabled.uid_only && needs_numbers(command) {
        return Expected::new(End::UidRequired, Told::Nothing);
    }
    let own = client.own;
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
            mailboxes::select(name, *read_only, qresync.as_ref(), site, client)
        }
        Command::Close => {
            messages::expunge(None, site, client);
            client.selected = None;
            Expected::new(End::Ok, Told::Nothing)
        }
        Command::Unselect => {
            client.selected = None;
            Expected::new(End::Ok, Told::Nothing)
        }
        Command::Create(name, special_use) => mailboxes::create(name, *special_use, (own, site)),
        Command::Delete(name) => mailboxes::delete(name, site, client),
        Command::Rename(from, to) => mailboxes::rename(from, to, (own, site)),
        Command::Subscribe(name, on) => {
            let account = &mut site.accounts[own];
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
            let listed = names::list((own, site), pattern, *subscribed, *status);
            let mut expected = ok();
            if *status {
                let there = listed
                    .keys()
                    .filter(|name| site.reach(own, name, 'r').is_ok());
                expected.statuses = there.cloned().collect();
            }
            expected.listed = Some((false, listed));
            expected
        }
        Command::Lsub(pattern) => {
            let mut expected = ok();
            expected.listed = Some((true, names::lsub(&site.accounts[own], pattern)));
            expected
        }
        Command::Status(name) => {
            client.enabled.condstore = true;
            if let Err(lack) = site.reach(own, name, 'r') {
                return lacks(lack, "NONEXISTENT");
            }
            let mut expected = ok();
            expected.statuses.insert(name.clone());
            expected
        }
        Command::Append(name, messages) => copies::append(own, name, messages, site),
        Command::Replace {
            by_uid,
            number,
            name,
            new,
        } => copies::replace(*by_uid, *number, (name, new), site, client),
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
            messages::store(*by_uid, set, &change, site, client)
        }
        Command::Fetch {
            by_uid,
            set,
            items,
            since,
            vanished,
        } => {
            client.enabled.condstore |= since.is_some() || items.contains(&"MODSEQ");
            messages::fetch(*by_uid, set, items, (*since, *vanished), site, client)
        }
        Command::Search {
            by_uid,
            keys,
            returns,
        } => messages::search(*by_uid, keys, *returns, site, client),
        Command::Copy {
            by_uid,
            set,
            name,
            moves,
        } => copies::copy(*by_uid, set, (name, *moves), site, client),
        Command::Expunge(set) => {
            let read_only = client.selected.as_ref().is_none_or(|s| s.read_only);
            if read_only {
                return Expected::new(End::No(""), Told::Nothing);
            }
            messages::expunge(set.as_ref(), site, client);
            let mut expected = ok();
            expected.highest = client.selected.as_ref().map(|selected| selected.mailbox);
            expected
        }
        Command::Annotate(name, values) => access::annotate(name, values, (own, site)),
        Command::Annotations {
            name,
            entries,
            all_below,
        } => access::look_up(name, (entries, *all_below), (own, site)),
        Command::Grant(name, whom, rights) => access::grant(name, (*whom, rights), (own, site)),
        Command::Access(name) => access::list(name, (own, site)),
        Command::MyRights(name) => access::mine(name, (own, site)),
    }
}

/// What may be there after a crash within a command, besides what was there before and what the whole
/// command leads to.
pub fn halves(command: &Command, site: &Site, client: &Client) -> Vec<Site> {
    let mut halves = mailboxes::halves(command, site, client);
    halves.extend(copies::halves(command, site, client));
    halves
}

/// RFC 9586 §3: it has message numbers, or would be answered with some.
fn needs_numbers(command: &Command) -> bool {
    match command {
        Command::Fetch { by_uid, .. }
        | Command::Store { by_uid, .. }
        | Command::Copy { by_uid, .. }
        | Command::Replace { by_uid, .. } => !by_uid,
        Command::Search { by_uid, keys, .. } => !by_uid || keys.iter().any(Key::has_numbers),
        _ => false,
    }
}

/// The open mailbox was deleted, or may not be read any more: all that is left for the session is to
/// end, or to open another one.
fn is_doomed(command: &Command, site: &Site, client: &Client) -> bool {
    let leaves = matches!(command, Command::Select { .. } | Command::Unselect);
    client.selected.is_some() && site.open(client).is_none() && !leaves
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
        "UIDONLY" => enabled.uid_only = true,
        _ => {
            enabled.rev2 = true;
            enabled.utf8 = true;
        }
    }
    Expected::new(End::Ok, Told::Nothing)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::client::Selected;
    use super::super::command::{New, Set};
    use super::super::world::Marks;
    use super::*;

    /// Two accounts, the first with messages in a mailbox to which the second has all rights; the second
    /// has it open.
    fn visited() -> (Site, Client) {
        let mut site = Site::new(0, 2);
        let new = |number: u32| New {
            marks: Marks::default(),
            date: None,
            body: Rc::from(format!("{number}").as_bytes()),
        };
        let mut owner = Client::default();
        let messages = (0..4).map(new).collect();
        let append = Command::Append("Sent".to_owned(), messages);
        carry_out(&append, &mut site, &mut owner);
        let grant = Command::Grant("Sent".to_owned(), 1, "lrswite");
        carry_out(&grant, &mut site, &mut owner);
        let name = site.name_for(1, 0, "Sent");
        let mut guest = Client {
            own: 1,
            ..Client::default()
        };
        let mailbox = site.named(1, &name).expect("it is there");
        guest.selected = Some(Selected::new(mailbox, false, false));
        (site, guest)
    }

    /// How many messages of a text each side has.
    fn count(site: &Site, (account, name): (usize, &str), text: &[u8]) -> usize {
        let mailbox = &site.accounts[account].mailboxes[name];
        let bodies = mailbox.messages.values();
        bodies.filter(|message| &*message.body == text).count()
    }

    #[test]
    fn a_move_that_was_broken_off_is_never_on_neither_side() {
        let (site, mut guest) = visited();
        let moves = Command::Copy {
            by_uid: true,
            set: Set::Ranges(vec![(2, 4)]),
            name: "Archive".to_owned(),
            moves: true,
        };
        let mut states = halves(&moves, &site, &guest);
        let mut after = site.clone();
        let expected = carry_out(&moves, &mut after, &mut guest);
        assert_eq!(expected.end, End::Ok);
        states.push(after);
        // One, two, three copies; and then they go from where they were.
        assert_eq!(states.len(), 4);
        let mut on_both = 0;
        for state in &states {
            for text in [b"0", b"1", b"2", b"3"] {
                let (from, to) = (
                    count(state, (0, "Sent"), text),
                    count(state, (1, "Archive"), text),
                );
                assert!(from + to >= 1 && from <= 1 && to <= 1);
                on_both += usize::from(from + to == 2);
            }
        }
        assert_eq!(on_both, 1 + 2 + 3);
        assert_eq!(count(&states[3], (0, "Sent"), b"1"), 0);
    }

    #[test]
    fn rights_hold() {
        let (mut site, guest) = visited();
        let name = site.name_for(1, 0, "Sent");
        let mut take = Client::default();
        let command = Command::Grant("Sent".to_owned(), 1, "");
        carry_out(&command, &mut site, &mut take);
        assert!(site.open(&guest).is_none());
        assert_eq!(site.reach(1, &name, 'l').err(), Some(Lack::Missing));
        assert!(!site.visible(1).contains_key(&name));
        let command = Command::Grant("Sent".to_owned(), 1, "lr");
        carry_out(&command, &mut site, &mut take);
        assert!(site.open(&guest).is_some());
        assert_eq!(site.reach(1, &name, 'i').err(), Some(Lack::Right));
    }
}
