//! Which keywords others have made: found out before a command says or asks which messages have one.
//!
//! Guarantees: nothing is asked while nobody has changed anything, and no more than the names. The view
//! stays: what a command is about is what the client knew when it was sent.
//! Does not know: the command.
//! On failure: the command goes on with the names that are known, and says itself what is wrong.

use super::super::{Answer, Ask};
use super::finish::Finish;
use super::sync::write_flags;
use super::{Context, Turn};

/// The question, and whether it was asked.
#[derive(Default)]
pub(super) struct Keywords {
    is_answered: bool,
}

impl Keywords {
    pub(super) fn go(&mut self, context: &mut Context<'_>) -> Turn {
        match context.selected() {
            Some(selected) if !self.is_answered => Turn::Ask(Ask::Keywords {
                known: selected.keywords.len(),
            }),
            _ => Turn::Finish(Finish::ok()),
        }
    }

    pub(super) fn answer(&mut self, answer: Answer, context: &mut Context<'_>, out: &mut Vec<u8>) {
        self.is_answered = true;
        if let Answer::Keywords(Ok(Some(keywords))) = answer
            && let Some(selected) = context.selected()
        {
            selected.keywords = keywords;
            write_flags(selected, out);
        }
    }
}
