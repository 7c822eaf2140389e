//! NOTIFY (RFC 5465): which events a client wants to be told of, and how they are said.
//!
//! Decided here:
//!
//! - INBOX is the one mailbox to which mail is delivered (`inboxes`); `personal` is one's own.
//! - Mailboxes of others are among what is subscribed to and what is named. Those that one may not look
//!   up, or that there are not, are passed over; one that comes into sight or goes out of it is told as
//!   a change of its name, with `\NoAccess` (§5.9).
//! - A mailbox gets what all groups together ask for it.
//! - Once a client has used NOTIFY, it alone says what is told: SELECTED NONE (or no SELECTED at all)
//!   keeps even NOOP silent; the messages of a command that expunges are told nevertheless.
//! - Messages that come are fetched without being marked as seen.

use std::collections::HashSet;

use super::super::command::{
    self, Event, EventGroup, EventSet, Filter, Item, StatusItem, StatusItems,
};
use super::super::metadata::write_changed;
use super::super::rights::is_of_others;
use super::super::{Answer, Ask, Happening, Mailbox, Mailboxes, Place, Refusal, Rights, names};
use super::finish::Finish;
use super::list::{write_mailbox, write_status};
use super::sync::Sync;
use super::{Context, Phase, Turn};
use crate::limits::{IMAP_NOTIFY_GROUPS_MAX, IMAP_NOTIFY_NAMES_MAX, OUTPUT_BYTES_MAX};

/// What a client has asked for.
#[derive(Debug, Default)]
pub(super) struct Notify {
    /// Of messages in the open mailbox; `None`: nothing.
    pub(super) selected: Option<Selected>,
    groups: Vec<Group>,
}

/// What is told of messages in the open mailbox.
#[derive(Debug)]
pub(super) struct Selected {
    /// That messages have gone is told only at the end of a command that allows it, or in IDLE.
    pub(super) delayed: bool,
    /// Changes of flags are told.
    pub(super) flags: bool,
    /// What is fetched of messages that come.
    pub(super) items: Vec<Item>,
}

#[derive(Debug)]
struct Group {
    which: Which,
    events: EventSet,
}

#[derive(Debug)]
enum Which {
    Inboxes,
    Personal,
    Subscribed,
    Subtree(Vec<String>),
    Mailboxes(Vec<String>),
}

impl Which {
    fn has(&self, name: &str, subscribed: bool) -> bool {
        match self {
            Which::Inboxes => name == names::INBOX,
            Which::Personal => !is_of_others(name),
            Which::Subscribed => subscribed,
            Which::Subtree(tops) => tops.iter().any(|top| {
                let rest = name.strip_prefix(top.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(names::SEPARATOR))
            }),
            Which::Mailboxes(all) => all.iter().any(|own| own == name),
        }
    }
}

impl Notify {
    /// Bytes of memory held.
    pub(super) fn held_bytes(&self) -> usize {
        let names = |which: &Which| match which {
            Which::Subtree(names) | Which::Mailboxes(names) => {
                let bytes = names
                    .iter()
                    .map(|name| size_of::<String>() + name.capacity());
                bytes.sum()
            }
            _ => 0,
        };
        let groups = self.groups.iter();
        let groups = groups.map(|group| size_of::<Group>() + names(&group.which));
        let items = self.selected.as_ref().map_or(0, |own| own.items.capacity());
        size_of::<Notify>() + groups.sum::<usize>() + items * size_of::<Item>()
    }

    /// It wants to know what happens outside of the open mailbox.
    pub(super) fn has_account(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Some of it depends on what is subscribed to.
    pub(super) fn needs_subscribed(&self) -> bool {
        let is_subscribed = |group: &Group| matches!(group.which, Which::Subscribed);
        self.groups.iter().any(is_subscribed)
    }

    /// Some of it may be others' mailboxes.
    fn may_want_others(&self) -> bool {
        self.needs_subscribed() || self.names().any(|name| is_of_others(name))
    }

    /// All names, in their order.
    fn names(&self) -> impl Iterator<Item = &String> {
        self.groups.iter().flat_map(|group| match &group.which {
            Which::Subtree(names) | Which::Mailboxes(names) => &names[..],
            _ => &[],
        })
    }

    /// Other names in their place.
    fn rename(&mut self, names: Vec<String>) {
        let mut names = names.into_iter();
        for group in &mut self.groups {
            if let Which::Subtree(own) | Which::Mailboxes(own) = &mut group.which {
                for (own, name) in own.iter_mut().zip(&mut names) {
                    *own = name;
                }
            }
        }
    }

    /// What is wanted of a mailbox.
    fn wanted(&self, name: &str, subscribed: bool) -> EventSet {
        let groups = self.groups.iter();
        let own = groups.filter(|group| group.which.has(name, subscribed));
        own.fold(EventSet::default(), |all, group| all.and(group.events))
    }

    fn wants(&self, place: &Place, event: Event) -> bool {
        self.wanted(&place.name, place.subscribed).has(event)
    }

    /// Says what happened, as far as the client wants to know.
    pub(super) fn tell(&self, happening: &Happening, context: &Context<'_>, out: &mut Vec<u8>) {
        let utf8 = context.enabled.utf8;
        match happening {
            Happening::Messages {
                place,
                mailbox,
                new,
                gone,
                flags,
            } => {
                let wanted = self.wanted(&place.name, place.subscribed);
                let count = (*new || *gone) && wanted.has(Event::MessageNew);
                let flags = (*flags || count) && wanted.has(Event::FlagChange);
                if count || flags {
                    let modseq = context.enabled.condstore;
                    write_state(mailbox, count, flags, modseq, context, out);
                }
            }
            Happening::Name { place, from } => {
                let knew = |from: &String| {
                    let wanted = self.wanted(from, place.subscribed);
                    wanted.has(Event::MailboxName)
                };
                if self.wants(place, Event::MailboxName) || from.as_ref().is_some_and(knew) {
                    write_place(place, from.as_deref(), utf8, out);
                }
            }
            Happening::Subscription { place } => {
                // It is, or was a moment ago, subscribed to.
                if self
                    .wanted(&place.name, true)
                    .has(Event::SubscriptionChange)
                {
                    write_place(place, None, utf8, out);
                }
            }
            Happening::Metadata { place, entries } => {
                let wants = match place {
                    Some(place) => self.wants(place, Event::MailboxMetadataChange),
                    None => {
                        let mut groups = self.groups.iter();
                        groups.any(|group| group.events.has(Event::ServerMetadataChange))
                    }
                };
                if wants {
                    let name = place.as_ref().map(|place| place.name.as_str());
                    write_changed(name, entries, utf8, out);
                }
            }
        }
    }
}

/// STATUS of a mailbox in which something has happened (RFC 5465 §5.1 to §5.3).
fn write_state(
    mailbox: &Mailbox,
    count: bool,
    flags: bool,
    modseq: bool,
    context: &Context<'_>,
    out: &mut Vec<u8>,
) {
    let mut items = StatusItems::default().with(StatusItem::UidValidity);
    if count {
        items = items.with(StatusItem::Messages).with(StatusItem::UidNext);
    }
    if flags {
        items = items.with(StatusItem::Unseen);
    }
    if modseq {
        items = items.with(StatusItem::HighestModSeq);
    }
    write_status(mailbox, items, context.enabled.utf8, context.settings, out);
}

/// LIST of a name with which something has happened (RFC 5465 §5.4, §5.5).
fn write_place(place: &Place, from: Option<&str>, utf8: bool, out: &mut Vec<u8>) {
    let mut attributes = Vec::new();
    if place.is_denied {
        attributes.push("\\NoAccess");
    } else if !place.exists {
        attributes.push("\\NonExistent");
    }
    if place.subscribed {
        attributes.push("\\Subscribed");
    }
    attributes.push(if place.has_children {
        "\\HasChildren"
    } else {
        "\\HasNoChildren"
    });
    attributes.extend(place.special_use);
    write_mailbox(b"LIST", &attributes, &place.name, utf8, out);
    if let Some(from) = from {
        out.truncate(out.len() - 2);
        out.extend_from_slice(b" (\"OLDNAME\" (");
        names::write(from, utf8, out);
        out.extend_from_slice(b"))\r\n");
    }
}

/// A NOTIFY that runs.
pub(super) struct Job {
    notify: Box<Notify>,
    /// NOTIFY NONE
    is_none: bool,
    status: bool,
    stage: Stage,
}

enum Stage {
    /// The account is to be watched, or not any more.
    Watch,
    Watching,
    /// The same at others.
    WatchOthers,
    WatchingOthers,
    /// What has gathered in the open mailbox is told: NOTIFY SET is a NOOP, too.
    Sync(Box<Sync>),
    /// STATUS of mailboxes is to be told.
    Ask,
    Asking,
    AskShared(Box<Mailboxes>),
    AskingShared(Box<Mailboxes>),
    /// And whether flags are of interest.
    Status(std::vec::IntoIter<(Mailbox, bool)>),
    Done(Finish),
}

/// Starts a NOTIFY.
pub(super) fn begin(command: command::Notify, context: &Context<'_>) -> Result<Job, Finish> {
    let mut notify = Box::new(Notify::default());
    let (is_none, status, groups) = match command {
        command::Notify::None => (true, false, Vec::new()),
        command::Notify::Set { status, groups } => (false, status, groups),
    };
    if groups.iter().any(|group| group.events.has_unknown) {
        let names = Event::ALL.map(|(_, name)| name).join(" ");
        let text = "an event that is not known here";
        return Err(Finish::no(format!("BADEVENT ({names})"), text));
    }
    let names_of = |filter: &Filter| match filter {
        Filter::Subtree(names) | Filter::Mailboxes(names) => names.len(),
        _ => 0,
    };
    let names: usize = groups.iter().map(|group| names_of(&group.filter)).sum();
    if groups.len() > IMAP_NOTIFY_GROUPS_MAX || names > IMAP_NOTIFY_NAMES_MAX {
        let text = format!(
            "at most {IMAP_NOTIFY_GROUPS_MAX} groups of events and {IMAP_NOTIFY_NAMES_MAX} names"
        );
        return Err(Finish::no("NOTIFICATIONOVERFLOW", text));
    }
    let decode = |raw: Vec<Vec<u8>>| {
        let decoded = raw
            .iter()
            .map(|raw| names::decode(raw, context.enabled.utf8));
        let decoded: Result<Vec<String>, _> = decoded.collect();
        decoded.map_err(|error| Finish::no("CANNOT", error.to_string()))
    };
    for EventGroup { filter, mut events } in groups {
        let which = match filter {
            Filter::Selected { delayed } => {
                if events.set.has(Event::MessageNew) {
                    notify.selected = Some(Selected {
                        delayed,
                        flags: events.set.has(Event::FlagChange),
                        items: events.items.take().map(peeking).unwrap_or_default(),
                    });
                }
                continue;
            }
            Filter::Inboxes => Which::Inboxes,
            Filter::Personal => Which::Personal,
            Filter::Subscribed => Which::Subscribed,
            Filter::Subtree(names) => Which::Subtree(decode(names)?),
            Filter::Mailboxes(names) => Which::Mailboxes(decode(names)?),
        };
        if events.set != EventSet::default() {
            let events = events.set;
            notify.groups.push(Group { which, events });
        }
    }
    Ok(Job {
        notify,
        is_none,
        status,
        stage: Stage::Watch,
    })
}

/// The same without marking as seen: who has not read a message has not seen it (RFC 5465 §5.2).
fn peeking(mut items: Vec<Item>) -> Vec<Item> {
    for item in &mut items {
        if let Item::Body { peek, .. } | Item::Binary { peek, .. } = item {
            *peek = true;
        }
    }
    items
}

impl Job {
    pub(super) fn go(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> Turn {
        loop {
            match &mut self.stage {
                Stage::Watch => {
                    self.stage = Stage::Watching;
                    let on = self.notify.has_account();
                    return Turn::Ask(Ask::WatchAccount { on });
                }
                Stage::WatchOthers => {
                    self.stage = Stage::WatchingOthers;
                    return Turn::Ask(Ask::WatchOthers {
                        names: self.notify.names().cloned().collect(),
                        subscribed: self.notify.needs_subscribed(),
                    });
                }
                Stage::AskShared(own) => {
                    self.stage = Stage::AskingShared(std::mem::take(own));
                    return Turn::Ask(Ask::Shared);
                }
                Stage::Sync(sync) => match sync.go(context, out) {
                    Turn::Finish(_) => self.stage = Stage::Ask,
                    turn => return turn,
                },
                Stage::Ask if self.status && self.notify.has_account() => {
                    self.stage = Stage::Asking;
                    return Turn::Ask(Ask::Mailboxes);
                }
                Stage::Ask => self.set(context),
                Stage::Status(mailboxes) => {
                    for (mailbox, flags) in mailboxes {
                        // RFC 5465 §3.1: HIGHESTMODSEQ goes with flags, whatever is enabled.
                        write_state(&mailbox, true, flags, flags, context, out);
                        if out.len() >= OUTPUT_BYTES_MAX {
                            return Turn::Drain;
                        }
                    }
                    self.set(context);
                }
                Stage::Done(finish) => return Turn::Finish(std::mem::take(finish)),
                Stage::Watching
                | Stage::WatchingOthers
                | Stage::Asking
                | Stage::AskingShared(_) => return Turn::Finish(Finish::confused()),
            }
        }
    }

    pub(super) fn answer(&mut self, answer: Answer, context: &mut Context<'_>, out: &mut Vec<u8>) {
        let refuse = |refusal| Stage::Done(Finish::refused(refusal, false));
        let next = match (&mut self.stage, answer) {
            (Stage::Sync(sync), answer) => {
                sync.answer(answer, context, out);
                return;
            }
            (Stage::Watching, Answer::Done(Ok(()))) => {
                let knew = context.notify.as_ref();
                let had_others = knew.is_some_and(|knew| knew.may_want_others());
                match self.notify.has_account() && (self.notify.may_want_others() || had_others) {
                    true => Stage::WatchOthers,
                    false => self.sync(context),
                }
            }
            (Stage::WatchingOthers, Answer::Watched(Ok(names))) => {
                self.notify.rename(names);
                self.sync(context)
            }
            (Stage::WatchingOthers, Answer::Watched(Err(Refusal::Limit(text)))) => {
                Stage::Done(Finish::no("NOTIFICATIONOVERFLOW", text))
            }
            (Stage::Asking, Answer::Mailboxes(Ok(all))) if self.notify.may_want_others() => {
                Stage::AskShared(Box::new(all))
            }
            (Stage::AskingShared(own), Answer::Mailboxes(shared)) => {
                let mut all = std::mem::take(&mut **own);
                // Those that cannot be reached now are left out.
                all.list.extend(shared.unwrap_or_default().list);
                self.status_of(all, context)
            }
            (Stage::Asking, Answer::Mailboxes(Ok(all))) => self.status_of(all, context),
            (
                _,
                Answer::Done(Err(refusal))
                | Answer::Mailboxes(Err(refusal))
                | Answer::Watched(Err(refusal)),
            ) => refuse(refusal),
            _ => Stage::Done(Finish::confused()),
        };
        self.stage = next;
    }

    /// NOTIFY SET is a NOOP, too.
    fn sync(&self, context: &mut Context<'_>) -> Stage {
        context.enabled.flags_untold = false;
        match self.is_none {
            true => Stage::Ask,
            false => Stage::Sync(Box::new(Sync::new(true))),
        }
    }

    /// Which mailboxes STATUS is told of.
    fn status_of(&self, all: Mailboxes, context: &mut Context<'_>) -> Stage {
        let open = match context.phase {
            Phase::Selected(selected) => Some(&*selected.object_id),
            _ => None,
        };
        let subscribed: HashSet<String> = all.subscribed.into_iter().collect();
        let list = all.list.into_iter().filter_map(|mailbox| {
            let is_subscribed = subscribed.contains(&mailbox.name);
            let wanted = self.notify.wanted(&mailbox.name, is_subscribed);
            let is_told = wanted.has(Event::MessageNew)
                && open != Some(&mailbox.object_id)
                && mailbox.rights.has(Rights::READ);
            is_told.then_some((mailbox, wanted.has(Event::FlagChange)))
        });
        Stage::Status(list.collect::<Vec<_>>().into_iter())
    }

    /// From now on it holds.
    fn set(&mut self, context: &mut Context<'_>) {
        let notify = std::mem::take(&mut self.notify);
        let flags = notify.selected.as_ref().is_some_and(|own| own.flags);
        context.enabled.flags_untold = !flags;
        context.enabled.flags_with_uid = flags;
        *context.notify = Some(notify);
        self.stage = Stage::Done(Finish::ok());
    }
}
