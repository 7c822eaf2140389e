//! What a client is told without having asked: what is new in the open mailbox, then what happened
//! elsewhere in the account (RFC 5464 §4.4.2, RFC 5465).
//!
//! Guarantees: it is told at the end of a command, in IDLE, and with NOTIFY or METADATA between
//! commands, and looked for there only when the shard has said that there is something. What NOTIFY
//! leaves out is not told.

use super::super::metadata::write_changed;
use super::super::view::View;
use super::super::{Answer, Ask, Happening, command, sets};
use super::fetch::Fetch;
use super::finish::Finish;
use super::notify::Notify;
use super::sync::Sync;
use super::{Context, Turn};
use crate::limits::OUTPUT_BYTES_MAX;

/// One look at it.
pub(super) struct Report {
    stage: Stage,
    /// Then the account is looked at, too.
    account: bool,
    /// The last message that the client knew of at the beginning.
    last_uid: Option<u32>,
}

enum Stage {
    /// The open mailbox.
    Sync(Sync),
    /// Messages that came are to be fetched.
    New,
    Fetch(Box<Fetch>),
    /// The account is to be asked about.
    Look,
    Looking,
    Telling(std::vec::IntoIter<Happening>),
    /// Too much has happened: it is not watched any more.
    Overflow,
    End,
}

impl Report {
    fn new(sync: Option<Sync>, account: bool) -> Report {
        Report {
            stage: sync.map_or(Stage::Look, Stage::Sync),
            account,
            last_uid: None,
        }
    }

    /// Nothing.
    pub(super) fn nothing() -> Report {
        Report {
            stage: Stage::End,
            account: false,
            last_uid: None,
        }
    }

    /// At the end of a command; `None`: nothing is to be told. `whole`: messages may go; `removes`:
    /// the command itself may have removed some.
    pub(super) fn after(whole: bool, removes: bool, notify: Option<&Notify>) -> Option<Report> {
        let is_silent = notify.is_some_and(|notify| notify.selected.is_none());
        (!is_silent || removes).then(|| Report::new(Some(Sync::new(whole)), false))
    }

    /// In IDLE (RFC 5465 §4): the same as NOTIFY asks for, and messages may go.
    pub(super) fn in_idle(context: &Context<'_>) -> Report {
        match context.notify.as_deref() {
            None => Report::new(Some(Sync::new(true)), context.enabled.metadata),
            Some(notify) => {
                let sync = notify.selected.as_ref().map(|_| Sync::new(true));
                Report::new(sync, notify.has_account())
            }
        }
    }

    /// Between commands.
    pub(super) fn between(notify: Option<&Notify>) -> Report {
        match notify {
            None => Report::new(None, true),
            Some(notify) => {
                // RFC 5465 §6.1.2.
                let selected = notify.selected.as_ref();
                let sync = selected.map(|selected| Sync::new(!selected.delayed));
                Report::new(sync, notify.has_account())
            }
        }
    }

    /// Bytes of memory held beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.stage {
            Stage::Fetch(fetch) => fetch.held_bytes(),
            Stage::Telling(list) => list.len() * size_of::<Happening>(),
            _ => 0,
        }
    }

    pub(super) fn go(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> Turn {
        loop {
            match &mut self.stage {
                Stage::Sync(sync) => {
                    if self.last_uid.is_none() {
                        self.last_uid = context.selected().map(|own| own.view.last_uid());
                    }
                    match sync.go(context, out) {
                        Turn::Finish(_) => self.stage = Stage::New,
                        turn => return turn,
                    }
                }
                Stage::New => {
                    let fetch = self.fetch_new(context);
                    self.stage = fetch.map_or(Stage::Look, |fetch| Stage::Fetch(Box::new(fetch)));
                }
                Stage::Fetch(fetch) => match fetch.go(context, out) {
                    // That one of them cannot be shown is not for here to say.
                    Turn::Finish(_) => self.stage = Stage::Look,
                    turn => return turn,
                },
                Stage::Look if self.account => {
                    self.stage = Stage::Looking;
                    let notify = context.notify.as_deref();
                    return Turn::Ask(Ask::Happened {
                        with_subscribed: notify.is_some_and(Notify::needs_subscribed),
                    });
                }
                Stage::Telling(list) => {
                    for happening in list {
                        tell(&happening, context, out);
                        if out.len() >= OUTPUT_BYTES_MAX {
                            return Turn::Drain;
                        }
                    }
                    self.stage = Stage::End;
                }
                Stage::Overflow => {
                    // RFC 5465 §5.8: as after NOTIFY NONE.
                    out.extend_from_slice(
                        b"* OK [NOTIFICATIONOVERFLOW] Too much has happened at once\r\n",
                    );
                    self.stage = Stage::End;
                    if let Some(notify) = context.notify.as_deref_mut() {
                        *notify = Notify::default();
                        return Turn::Ask(Ask::WatchAccount { on: false });
                    }
                }
                Stage::Look | Stage::Looking | Stage::End => return Turn::Finish(Finish::ok()),
            }
        }
    }

    /// What NOTIFY wants to see of messages that came from elsewhere.
    fn fetch_new(&self, context: &mut Context<'_>) -> Option<Fetch> {
        let behind = self.last_uid?.checked_add(1)?;
        let selected = context.selected()?;
        let own = View::new(std::mem::take(&mut selected.own_new));
        let came = View::new(selected.view.known(&[(behind, u32::MAX)]));
        let uids = came.without(&own);
        let wanted = context.notify.as_ref()?.selected.as_ref()?;
        if uids.is_empty() || wanted.items.is_empty() {
            return None;
        }
        let command = command::Fetch {
            set: sets::Set::of_ranges(uids),
            by_uid: true,
            items: wanted.items.clone(),
            changed_since: None,
            vanished: false,
            partial: None,
        };
        Fetch::new(command, context).ok()
    }

    pub(super) fn answer(&mut self, answer: Answer, context: &mut Context<'_>, out: &mut Vec<u8>) {
        match (&mut self.stage, answer) {
            (Stage::Sync(sync), answer) => sync.answer(answer, context, out),
            (Stage::Fetch(fetch), answer) => fetch.answer(answer, context),
            (Stage::Looking, Answer::Happened(Ok(Some(list)))) => {
                self.stage = Stage::Telling(list.into_iter());
            }
            (Stage::Looking, Answer::Happened(Ok(None))) => self.stage = Stage::Overflow,
            // What cannot be looked at now is not told: Looking ends it.
            _ => {}
        }
    }
}

fn tell(happening: &Happening, context: &Context<'_>, out: &mut Vec<u8>) {
    match (context.notify.as_deref(), happening) {
        (Some(notify), happening) => notify.tell(happening, context, out),
        // ENABLE METADATA.
        (None, Happening::Metadata { place, entries }) => {
            let mailbox = place.as_ref().map(|place| place.name.as_str());
            write_changed(mailbox, entries, context.enabled.utf8, out);
        }
        (None, _) => {}
    }
}
