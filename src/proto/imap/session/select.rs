//! SELECT and EXAMINE (RFC 9051 §6.3.2), with what a client missed (RFC 7162 §3.2.5).

use super::super::command;
use super::super::names;
use super::super::view::View;
use super::super::{Answer, Ask, Opened, Rights, Row, sets, write};
use super::finish::Finish;
use super::list::write_mailbox;
use super::sync::{Vanished, write_flags, write_flags_of};
use super::{Context, Phase, Selected, Turn};
use crate::limits::{IMAP_SLICE_MESSAGES, OUTPUT_BYTES_MAX};

/// A SELECT that runs.
pub(super) struct Select {
    command: command::Select,
    stage: Stage,
}

enum Stage {
    /// To be asked: the decoded name.
    Open(String),
    Opening,
    /// Vanished UIDs are asked for.
    AskVanished,
    AskingVanished,
    Vanished(Vanished),
    /// Changed messages behind this UID are asked for.
    AskRows(u32),
    AskingRows,
    Rows(std::vec::IntoIter<Row>, bool),
    Done(Finish),
}

impl Select {
    pub(super) fn new(
        command: command::Select,
        context: &mut Context<'_>,
    ) -> Result<Select, Finish> {
        if command.qresync.is_some() && !context.enabled.qresync {
            // RFC 7162 §3.2.5.
            return Err(Finish::bad("ENABLE QRESYNC first"));
        }
        let name = names::decode(&command.name, context.enabled.utf8)
            .map_err(|error| Finish::no("CANNOT", error.to_string()))?;
        if command.condstore || command.qresync.is_some() {
            context.enabled.condstore = true;
        }
        Ok(Select {
            command,
            stage: Stage::Open(name),
        })
    }

    pub(super) fn go(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> Turn {
        let enabled = *context.enabled;
        match std::mem::replace(&mut self.stage, Stage::Opening) {
            Stage::Open(name) => {
                if matches!(context.phase, Phase::Selected(_)) {
                    // RFC 9051 §6.3.2: what was selected is not any more, even if this fails.
                    out.extend_from_slice(b"* OK [CLOSED] Previous mailbox is closed\r\n");
                    *context.phase = Phase::Authenticated;
                }
                Turn::Ask(Ask::Open { name })
            }
            Stage::AskVanished => {
                self.stage = Stage::AskingVanished;
                let since = self
                    .command
                    .qresync
                    .as_ref()
                    .map_or(0, |known| known.modseq);
                Turn::Ask(Ask::Vanished { since })
            }
            Stage::Vanished(mut vanished) => {
                self.stage = if vanished.tell(out) {
                    Stage::AskRows(0)
                } else {
                    Stage::Vanished(vanished)
                };
                match &self.stage {
                    Stage::Vanished(_) => Turn::Drain,
                    _ => self.go(context, out),
                }
            }
            Stage::AskRows(behind) => {
                self.stage = Stage::AskingRows;
                let since = self
                    .command
                    .qresync
                    .as_ref()
                    .map_or(0, |known| known.modseq);
                Turn::Ask(Ask::Rows {
                    uids: vec![(behind.saturating_add(1), u32::MAX)],
                    changed_since: Some(since),
                    count_max: IMAP_SLICE_MESSAGES,
                })
            }
            Stage::Rows(mut rows, is_full) => {
                let Some(selected) = context.selected() else {
                    return Turn::Finish(Finish::confused());
                };
                let last = rows.as_slice().last().map(|row| row.uid);
                let known = self.known_uids(&selected.view);
                while out.len() < OUTPUT_BYTES_MAX {
                    let Some(row) = rows.next() else {
                        return match last.filter(|_| is_full) {
                            Some(uid) => {
                                self.stage = Stage::AskRows(uid);
                                self.go(context, out)
                            }
                            None => Turn::Finish(self.done()),
                        };
                    };
                    let is_known = known
                        .as_ref()
                        .is_none_or(|known| sets::contains(known, row.uid));
                    if let Some(number) = selected.view.number(row.uid).filter(|_| is_known) {
                        write_flags_of(number, &row, &selected.keywords, enabled, out);
                    }
                }
                self.stage = Stage::Rows(rows, is_full);
                Turn::Drain
            }
            Stage::Done(finish) => Turn::Finish(finish),
            Stage::Opening | Stage::AskingVanished | Stage::AskingRows => {
                Turn::Finish(Finish::confused())
            }
        }
    }

    fn done(&self) -> Finish {
        Finish::ok_with(if self.command.read_only {
            "READ-ONLY"
        } else {
            "READ-WRITE"
        })
    }

    pub(super) fn answer(&mut self, answer: Answer, context: &mut Context<'_>, out: &mut Vec<u8>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Opening);
        self.stage = match (stage, answer) {
            (Stage::Opening, Answer::Opened(Ok(opened))) => self.take_opened(*opened, context, out),
            (Stage::Opening, Answer::Opened(Err(refusal))) => {
                Stage::Done(Finish::refused(refusal, false))
            }
            (Stage::AskingVanished, Answer::Vanished(Ok(vanished))) => {
                self.take_vanished(vanished, context)
            }
            (Stage::AskingRows, Answer::Rows(Ok(rows))) => {
                let is_full = rows.len() >= IMAP_SLICE_MESSAGES;
                Stage::Rows(rows.into_iter(), is_full)
            }
            (_, Answer::Vanished(Err(refusal)) | Answer::Rows(Err(refusal))) => {
                // The client would believe that nothing has changed.
                *context.phase = Phase::Authenticated;
                Stage::Done(Finish::refused(refusal, false))
            }
            _ => Stage::Done(Finish::confused()),
        };
    }

    fn take_opened(
        &mut self,
        opened: Opened,
        context: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Stage {
        let enabled = *context.enabled;
        let mailbox = opened.mailbox;
        // RFC 4314 §5.2: where nothing may be changed, it is open for reading only.
        let changes = Rights::SEEN
            .with(Rights::WRITE)
            .with(Rights::DELETE_MESSAGES)
            .with(Rights::EXPUNGE);
        self.command.read_only |= !mailbox.rights.has_any(changes);
        let selected = Selected {
            read_only: self.command.read_only,
            rights: mailbox.rights,
            validity: mailbox.validity,
            object_id: mailbox.object_id.as_str().into(),
            id_space: opened.id_space,
            view: opened.view,
            newest: None,
            keywords: opened.keywords,
            modseq: mailbox.modseq,
            own: Vec::new(),
            own_new: Vec::new(),
            gone_since: None,
            saved: Vec::new(),
        };
        write_flags(&selected, out);
        out.extend_from_slice(b"* ");
        write::number(selected.view.exists(), out);
        out.extend_from_slice(b" EXISTS\r\n");
        if !enabled.rev2 {
            // RFC 3501 §6.3.1; RFC 9051 §2.3.1.1 has neither.
            out.extend_from_slice(b"* 0 RECENT\r\n");
            if let Some(number) = opened.first_unseen.filter(|_| !enabled.uidonly) {
                write_code(b"UNSEEN", number.into(), b"First unseen", out);
            }
        }
        write_code(b"UIDVALIDITY", mailbox.validity.into(), b"UIDs valid", out);
        write_code(b"UIDNEXT", mailbox.uid_next.into(), b"Next UID", out);
        write_code(b"HIGHESTMODSEQ", mailbox.modseq, b"Last change", out);
        // RFC 8474 §4.2.
        out.extend_from_slice(b"* OK [MAILBOXID (");
        out.extend_from_slice(mailbox.object_id.as_bytes());
        out.extend_from_slice(b")] Never another one's\r\n");
        if enabled.rev2 {
            write_mailbox(b"LIST", &[], &mailbox.name, true, out);
        }
        let validity = mailbox.validity;
        *context.phase = Phase::Selected(Box::new(selected));
        match &self.command.qresync {
            // RFC 7162 §3.2.5: of another mailbox's past nothing is told.
            Some(known) if known.validity == validity && known.modseq < mailbox.modseq => {
                Stage::AskVanished
            }
            _ => Stage::Done(self.done()),
        }
    }

    /// The UIDs that the client says it knows; `None`: it may know all.
    fn known_uids(&self, view: &View) -> Option<Vec<(u32, u32)>> {
        let known = self.command.qresync.as_ref()?.known.as_ref()?;
        Some(known.resolve(view.last_uid()))
    }

    fn take_vanished(&self, vanished: Vec<(u32, u32)>, context: &mut Context<'_>) -> Stage {
        let Some(selected) = context.selected() else {
            return Stage::Done(Finish::confused());
        };
        let known = self.known_uids(&selected.view);
        // A message may have gone since the mailbox was opened: it is in the view.
        Stage::Vanished(Vanished::earlier(
            vanished,
            known.as_deref(),
            &selected.view,
        ))
    }
}

fn write_code(code: &[u8], number: u64, text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"* OK [");
    out.extend_from_slice(code);
    out.push(b' ');
    write::number(number, out);
    out.extend_from_slice(b"] ");
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}
