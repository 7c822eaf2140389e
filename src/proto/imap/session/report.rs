//! What a client is told without having asked: what is new in the open mailbox, then what happened
//! elsewhere in the account (RFC 5464 §4.4.2).
//!
//! Guarantees: it is told when it has happened, in IDLE and between commands, and looked for only
//! when the shard has said that there is something.

use super::super::metadata::write_changed;
use super::super::{Answer, Ask, Happening};
use super::finish::Finish;
use super::sync::Sync;
use super::{Context, Turn};
use crate::limits::OUTPUT_BYTES_MAX;

/// One look at it.
pub(super) struct Report {
    stage: Stage,
    /// The account is looked at, too.
    account: bool,
}

enum Stage {
    /// The open mailbox.
    Sync(Sync),
    /// The account is to be asked about.
    Look,
    Looking,
    Telling(std::vec::IntoIter<Happening>),
}

impl Report {
    /// Of the open mailbox, as `sync` says, and of the account.
    pub(super) fn new(sync: Option<Sync>, account: bool) -> Report {
        Report {
            stage: sync.map_or(Stage::Look, Stage::Sync),
            account,
        }
    }

    pub(super) fn go(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> Turn {
        loop {
            match &mut self.stage {
                Stage::Sync(sync) => match sync.go(context, out) {
                    Turn::Finish(_) => self.stage = Stage::Look,
                    turn => return turn,
                },
                Stage::Look if self.account => {
                    self.stage = Stage::Looking;
                    return Turn::Ask(Ask::Happened {
                        with_subscribed: false,
                    });
                }
                Stage::Look | Stage::Looking => return Turn::Finish(Finish::ok()),
                Stage::Telling(list) => {
                    for happening in list {
                        tell(happening, context, out);
                        if out.len() >= OUTPUT_BYTES_MAX {
                            return Turn::Drain;
                        }
                    }
                    return Turn::Finish(Finish::ok());
                }
            }
        }
    }

    pub(super) fn answer(&mut self, answer: Answer, context: &mut Context<'_>, out: &mut Vec<u8>) {
        match (&mut self.stage, answer) {
            (Stage::Sync(sync), answer) => sync.answer(answer, context, out),
            (Stage::Looking, Answer::Happened(Ok(Some(list)))) => {
                self.stage = Stage::Telling(list.into_iter());
            }
            // What cannot be looked at now is not told: Looking ends it.
            _ => {}
        }
    }
}

fn tell(happening: Happening, context: &Context<'_>, out: &mut Vec<u8>) {
    if let Happening::Metadata { place, entries } = happening {
        let mailbox = place.as_ref().map(|place| place.name.as_str());
        write_changed(mailbox, &entries, context.enabled.utf8, out);
    }
}
