//! STORE (RFC 9051 §6.4.6, RFC 7162 §3.1.3).

use super::super::command;
use super::super::{Answer, Ask, Refusal, Row, StoreFlags, Stored, sets};
use super::finish::{Finish, SyncMode};
use super::manage::{resolve, writable};
use super::sync::{begin_fetch, write_flags, write_flags_of, write_modseq};
use super::{Context, Turn};
use crate::limits::{IMAP_SLICE_MESSAGES, OUTPUT_BYTES_MAX};

/// A STORE that runs.
pub(super) struct Store {
    command: command::Store,
    uids: Vec<(u32, u32)>,
    stage: Stage,
    /// Messages named, and those that are there to be shown.
    wanted: u64,
    shown: u64,
    /// Messages that were left alone.
    modified: Vec<(u32, u32)>,
    /// MODSEQ of the change.
    modseq: Option<u64>,
}

enum Stage {
    Ask,
    Asking,
    /// To be shown: those not asked for yet.
    Show(sets::Cursor),
    Showing(sets::Cursor),
    Rows(std::vec::IntoIter<Row>, sets::Cursor),
    /// The change is made; it could not be shown.
    Unseen,
    Done(Finish),
}

impl Store {
    pub(super) fn new(command: command::Store, context: &mut Context<'_>) -> Result<Store, Finish> {
        context.enabled.condstore |= command.unchanged_since.is_some();
        let selected = writable(context)?;
        let uids = resolve(&command.set, command.by_uid, selected)?;
        let stage = if uids.is_empty() {
            Stage::Done(Finish::ok())
        } else {
            Stage::Ask
        };
        Ok(Store {
            command,
            wanted: sets::len(&uids),
            shown: 0,
            uids,
            stage,
            modified: Vec::new(),
            modseq: None,
        })
    }

    /// Bytes of memory held beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        let shown = match &self.stage {
            Stage::Show(left) | Stage::Showing(left) => left.held_bytes(),
            Stage::Rows(rows, left) => size_of_val(rows.as_slice()) + left.held_bytes(),
            _ => 0,
        };
        shown + (self.uids.capacity() + self.modified.capacity()) * 8
    }

    pub(super) fn go(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> Turn {
        let enabled = *context.enabled;
        let Some(selected) = context.selected() else {
            return Turn::Finish(Finish::confused());
        };
        match std::mem::replace(&mut self.stage, Stage::Asking) {
            Stage::Ask => Turn::Ask(Ask::Store(StoreFlags {
                uids: self.uids.clone(),
                how: self.command.how,
                flags: self.command.flags.clone(),
                unchanged_since: self.command.unchanged_since,
            })),
            Stage::Show(left) if left.is_done() => {
                let mut finish = self.end();
                if !self.command.silent {
                    selected.note_change(self.modseq);
                    // RFC 2180 §4.2: the client may not know yet that some of them have gone.
                    if !self.command.by_uid && self.shown < self.wanted {
                        finish.fail("EXPUNGEISSUED", "some of these messages are gone");
                    }
                }
                Turn::Finish(finish)
            }
            Stage::Unseen => Turn::Finish(self.end()),
            Stage::Show(left) => {
                let ask = Ask::Rows {
                    uids: left.slice(),
                    changed_since: None,
                    count_max: IMAP_SLICE_MESSAGES,
                };
                self.stage = Stage::Showing(left);
                Turn::Ask(ask)
            }
            Stage::Rows(mut rows, left) => {
                while out.len() < OUTPUT_BYTES_MAX {
                    let Some(row) = rows.next() else {
                        self.stage = Stage::Show(left);
                        return self.go(context, out);
                    };
                    let Some(number) = selected.view.number(row.uid) else {
                        continue;
                    };
                    if !self.command.silent {
                        let mut told = enabled;
                        // RFC 9051 §6.4.9: UID STORE always tells the UID.
                        told.rev2 |= self.command.by_uid;
                        write_flags_of(number, &row, &selected.keywords, told, out);
                    } else if Some(row.modseq) == self.modseq {
                        // RFC 7162 §3.1.3: of a silent one the client learns the MODSEQ.
                        let mut told = enabled;
                        told.rev2 = true;
                        begin_fetch(number, row.uid, told, out);
                        write_modseq(row.modseq, out);
                        out.extend_from_slice(b")\r\n");
                    }
                }
                self.stage = Stage::Rows(rows, left);
                Turn::Drain
            }
            Stage::Done(finish) => Turn::Finish(finish.with_sync(self.sync())),
            Stage::Asking | Stage::Showing(_) => Turn::Finish(Finish::confused()),
        }
    }

    fn sync(&self) -> SyncMode {
        if self.command.by_uid {
            SyncMode::Whole
        } else {
            SyncMode::NoExpunge
        }
    }

    fn end(&mut self) -> Finish {
        let modified = std::mem::take(&mut self.modified);
        let finish = if modified.is_empty() {
            Finish::ok()
        } else {
            Finish::ok_with_sets("MODIFIED ", [modified])
        };
        finish.with_sync(self.sync())
    }

    pub(super) fn answer(&mut self, answer: Answer, context: &mut Context<'_>, out: &mut Vec<u8>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Asking);
        self.stage = match (stage, answer) {
            (Stage::Asking, Answer::Stored(Ok(stored))) => self.take_stored(stored, context, out),
            (Stage::Asking, Answer::Stored(Err(refusal))) => Stage::Done(refused(refusal)),
            (Stage::Showing(mut left), Answer::Rows(Ok(rows))) => {
                let last = rows.last().filter(|_| rows.len() >= IMAP_SLICE_MESSAGES);
                left.pass(last.map(|row| row.uid));
                self.shown += rows.len() as u64;
                Stage::Rows(rows.into_iter(), left)
            }
            // The change is made; that it cannot be shown is no failure of it.
            (Stage::Showing(_), Answer::Rows(Err(_))) => Stage::Unseen,
            _ => Stage::Done(Finish::confused()),
        };
    }

    fn take_stored(
        &mut self,
        stored: Stored,
        context: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Stage {
        let condstore = context.enabled.condstore;
        let Some(selected) = context.selected() else {
            return Stage::Done(Finish::confused());
        };
        self.modseq = stored.modseq;
        if let Some(keywords) = stored.keywords
            && *keywords != *selected.keywords
        {
            // A keyword that nobody had used here.
            selected.keywords = keywords;
            write_flags(selected, out);
        }
        // RFC 9051 §6.4.6: the client of a silent one makes the change to what it knows, and is wrong
        // where somebody else was faster. Then all of it is told.
        if self.command.silent && stored.before <= selected.modseq {
            selected.note_change(stored.modseq);
        }
        // RFC 7162 §3.1.3: as the command named them.
        for uid in &stored.modified {
            let number = if self.command.by_uid {
                Some(*uid)
            } else {
                selected.view.number(*uid)
            };
            if let Some(number) = number {
                sets::push(&mut self.modified, number);
            }
        }
        let is_told = !self.command.silent || (condstore && stored.modseq.is_some());
        Stage::Show(if is_told {
            sets::Cursor::new(std::mem::take(&mut self.uids))
        } else {
            sets::Cursor::default()
        })
    }
}

fn refused(refusal: Refusal) -> Finish {
    Finish::refused(refusal, false)
}
