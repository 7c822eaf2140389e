//! FETCH (RFC 9051 §6.4.5): messages in slices, each item in its turn, bodies in pieces.
//!
//! Guarantees: at most one slice of rows and one piece of a message are held; a literal is announced
//! when its first bytes are there.
//! On failure: before its first byte a body that cannot be read is `NIL`, any other item is left out,
//! and the command ends with NO; later the session ends without another word, for the client would take
//! it for a part of the announced bytes.

mod message;

use std::collections::VecDeque;

use super::super::command::{self, Item};
use super::super::{Answer, Ask, FlagList, Flags, Refusal, Row, StoreFlags, StoreHow, sets, write};
use super::body::Piece;
use super::finish::{Finish, SyncMode};
use super::manage::resolve;
use super::progress::Progress;
use super::section::{looks_inside, needs_summary};
use super::sync::{Vanished, write_modseq};
use super::{Context, Enabled, Selected, Turn};
use crate::limits::{IMAP_SLICE_MESSAGES, OUTPUT_BYTES_MAX};
use crate::mail::mime::Strings;
use message::Current;

/// Messages of one slice whose inside is looked at.
const SLICE_INSIDE: usize = 16;

/// A FETCH that runs.
pub(super) struct Fetch {
    items: Vec<Item>,
    by_uid: bool,
    changed_since: Option<u64>,
    /// UIDs of which the client wants to know whether they have gone.
    vanished: Option<Vec<(u32, u32)>>,
    /// Those that have.
    gone: Option<Vanished>,
    /// Not asked for yet.
    left: sets::Cursor,
    /// Where `left` is all that lies between them: the messages wanted.
    only: Option<Vec<(u32, u32)>>,
    /// Messages wanted, and seen.
    wanted: u64,
    found: u64,
    needs_summary: bool,
    slice_max: usize,
    /// A body is read and its message has to be marked as seen.
    marks_seen: bool,
    strings: Strings,
    stage: Stage,
    rows: VecDeque<Row>,
    summaries: VecDeque<Option<Vec<u8>>>,
    /// UIDs of this slice that this command has marked.
    marked: Vec<u32>,
    current: Option<Box<Current>>,
    /// The client is to be told how far this is as soon as the running response is complete.
    owes_progress: bool,
    failure: Option<Finish>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Vanished,
    Rows,
    Mark,
    Summaries,
    Write,
    Asking(Asked),
    End,
    Broken,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Vanished,
    Rows,
    Mark,
    Summaries,
    Read,
}

impl Fetch {
    pub(super) fn new(command: command::Fetch, context: &mut Context<'_>) -> Result<Fetch, Finish> {
        let enabled = &mut *context.enabled;
        if command.vanished && !enabled.qresync {
            // RFC 7162 §3.2.6.
            return Err(Finish::bad("ENABLE QRESYNC first"));
        }
        let mut items = command.items;
        // RFC 9051 §6.4.9: UID FETCH always tells the UID; UIDFETCH begins with it (RFC 9586 §3.3).
        if command.by_uid && !enabled.uidonly && !items.contains(&Item::Uid) {
            items.insert(0, Item::Uid);
        }
        // RFC 7162 §3.1: a client that asks for MODSEQ knows of it.
        if command.changed_since.is_some() && !items.contains(&Item::ModSeq) {
            items.push(Item::ModSeq);
        }
        enabled.condstore |= items.contains(&Item::ModSeq);
        let strings = if enabled.utf8 {
            Strings::Utf8
        } else {
            Strings::Ascii
        };
        let selected = context.selected().ok_or_else(Finish::confused)?;
        let mut uids = resolve(&command.set, command.by_uid, selected)?;
        if let Some((from, to)) = command.partial {
            uids = sets::pick(&uids, from, to);
        }
        let inside = items.iter().any(looks_inside);
        let marks_seen = selected.keeps_seen() && items.iter().any(Item::sets_seen);
        let vanished = command.vanished.then(|| command.set.resolve(u32::MAX));
        let wanted = sets::len(&uids);
        // What has changed is looked up as such: in one range, for it is less than what is there.
        let (left, only) = match (command.changed_since, uids.first(), uids.last()) {
            (Some(_), Some(first), Some(last)) => (vec![(first.0, last.1)], Some(uids)),
            _ => (uids, None),
        };
        Ok(Fetch {
            by_uid: command.by_uid,
            changed_since: command.changed_since,
            wanted,
            found: 0,
            left: sets::Cursor::new(left),
            only,
            needs_summary: items.iter().any(needs_summary),
            slice_max: if inside {
                SLICE_INSIDE
            } else {
                IMAP_SLICE_MESSAGES
            },
            marks_seen,
            strings,
            stage: if vanished.is_some() {
                Stage::Vanished
            } else {
                Stage::Rows
            },
            vanished,
            gone: None,
            rows: VecDeque::new(),
            summaries: VecDeque::new(),
            marked: Vec::new(),
            current: None,
            owes_progress: false,
            failure: None,
            items,
        })
    }

    /// Bytes of memory held beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        let summaries = self
            .summaries
            .iter()
            .flatten()
            .map(Vec::capacity)
            .sum::<usize>();
        let only = self.only.as_ref().map_or(0, |only| only.capacity() * 8);
        self.rows.capacity() * size_of::<Row>() + self.left.held_bytes() + only + summaries
    }

    pub(super) fn go(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> Turn {
        let enabled = *context.enabled;
        let Some(selected) = context.selected() else {
            return Turn::Finish(Finish::confused());
        };
        loop {
            match self.stage {
                Stage::Vanished => {
                    self.stage = Stage::Asking(Asked::Vanished);
                    return Turn::Ask(Ask::Vanished {
                        since: self.changed_since.unwrap_or(0),
                    });
                }
                Stage::Rows if self.gone.is_some() => {
                    if !self.gone.as_mut().is_none_or(|gone| gone.tell(out)) {
                        return Turn::Drain;
                    }
                    self.gone = None;
                }
                Stage::Rows if self.left.is_done() => self.stage = Stage::End,
                Stage::Rows => {
                    self.stage = Stage::Asking(Asked::Rows);
                    return Turn::Ask(Ask::Rows {
                        uids: self.left.slice(),
                        changed_since: self.changed_since,
                        count_max: self.slice_max,
                    });
                }
                Stage::Mark => {
                    let mut uids = Vec::new();
                    for row in self.rows.iter().filter(|row| !row.flags.has(Flags::SEEN)) {
                        sets::push(&mut uids, row.uid);
                    }
                    if !self.marks_seen || uids.is_empty() {
                        self.stage = Stage::Summaries;
                        continue;
                    }
                    self.stage = Stage::Asking(Asked::Mark);
                    return Turn::Ask(Ask::Store(StoreFlags {
                        uids,
                        how: StoreHow::Add,
                        flags: FlagList {
                            system: Flags::SEEN,
                            keywords: Vec::new(),
                        },
                        unchanged_since: None,
                    }));
                }
                Stage::Summaries if !self.needs_summary || self.rows.is_empty() => {
                    self.stage = Stage::Write;
                }
                Stage::Summaries => {
                    self.stage = Stage::Asking(Asked::Summaries);
                    let messages = self
                        .rows
                        .iter()
                        .map(|row| (row.uid, row.email_id))
                        .collect();
                    return Turn::Ask(Ask::Summaries { messages });
                }
                Stage::Write => match self.write(selected, enabled, out) {
                    Some(turn) => return turn,
                    None => self.stage = Stage::Rows,
                },
                Stage::End => return Turn::Finish(self.end()),
                Stage::Broken => return self.break_off(),
                Stage::Asking(_) => return Turn::Finish(Finish::confused()),
            }
        }
    }

    /// The session cannot go on. Within a response nothing can be said.
    fn break_off(&self) -> Turn {
        let text = "A message could not be read to its end".to_owned();
        let text = Some(text).filter(|_| !self.is_within_response());
        Turn::Bye(text.unwrap_or_default())
    }

    /// A response has begun, and not ended.
    pub(super) fn is_within_response(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.is_open)
    }

    /// How far it is.
    pub(super) fn progress(&self) -> Progress {
        if self.changed_since.is_some() {
            // How many have changed is not known before the end.
            return Progress::Unknown;
        }
        Progress::Messages(self.found - self.rows.len() as u64, self.wanted)
    }

    /// When the running response is complete, it makes room for a word on how far it is.
    pub(super) fn owe_progress(&mut self) {
        self.owes_progress = true;
    }

    /// That word is due now.
    pub(super) fn takes_progress(&mut self) -> bool {
        !self.is_within_response() && std::mem::take(&mut self.owes_progress)
    }

    fn end(&mut self) -> Finish {
        // RFC 9051 §6.4.9: UID commands may tell which messages have gone.
        let sync = if self.by_uid {
            SyncMode::Whole
        } else {
            SyncMode::NoExpunge
        };
        let is_short = self.found < self.wanted && self.changed_since.is_none() && !self.by_uid;
        let finish = match self.failure.take() {
            Some(failure) => failure,
            None if is_short => Finish::no("EXPUNGEISSUED", "some of these messages are gone"),
            None => Finish::ok(),
        };
        finish.with_sync(sync)
    }

    pub(super) fn answer(&mut self, answer: Answer, context: &mut Context<'_>) {
        let Stage::Asking(asked) = self.stage else {
            self.stage = Stage::Broken;
            return;
        };
        self.stage = match (asked, answer) {
            (Asked::Vanished, Answer::Vanished(Ok(gone))) => {
                let wanted = self.vanished.take().unwrap_or_default();
                if let Some(selected) = context.selected() {
                    self.gone = Some(Vanished::earlier(gone, Some(&wanted), &selected.view));
                }
                Stage::Rows
            }
            (Asked::Rows, Answer::Rows(Ok(rows))) => {
                self.found += rows.len() as u64;
                let last = rows.last().filter(|_| rows.len() >= self.slice_max);
                self.left.pass(last.map(|row| row.uid));
                self.rows = rows.into();
                if let Some(only) = &self.only {
                    self.rows.retain(|row| sets::contains(only, row.uid));
                }
                self.marked.clear();
                Stage::Mark
            }
            (Asked::Mark, Answer::Stored(stored)) => {
                // A mark that cannot be made is no reason not to show the message.
                if let Ok(stored) = stored
                    && let Some(modseq) = stored.modseq
                {
                    // What is shown below is what the slice told, and the mark. Where somebody else has
                    // changed a message since, the client is told again.
                    let seen = self.rows.iter().map(|row| row.modseq).max();
                    let is_known = stored.before <= seen.unwrap_or(0);
                    for row in self
                        .rows
                        .iter_mut()
                        .filter(|row| !row.flags.has(Flags::SEEN))
                    {
                        row.flags = row.flags.with(Flags::SEEN);
                        row.modseq = row.modseq.max(modseq);
                        self.marked.push(row.uid);
                    }
                    if is_known && let Some(selected) = context.selected() {
                        selected.note_change(Some(modseq));
                    }
                }
                Stage::Summaries
            }
            (Asked::Summaries, Answer::Summaries(summaries)) => {
                for summary in summaries {
                    let summary = summary.map_err(|refusal| {
                        // RFC 9051 §6.4.9: UIDs that are gone are passed over.
                        if refusal != Refusal::Gone || !self.by_uid {
                            self.failure = Some(Finish::refused(refusal, false));
                        }
                    });
                    self.summaries.push_back(summary.ok());
                }
                Stage::Write
            }
            (Asked::Read, Answer::Data(data)) => {
                let body = self
                    .current
                    .as_mut()
                    .and_then(|current| current.body.as_mut());
                let Some(body) = body else {
                    self.stage = Stage::Broken;
                    return;
                };
                let damaged = || Refusal::Unavailable("message is damaged".to_owned());
                let refusal = match data {
                    Ok(data) => (!body.take(data)).then(damaged),
                    Err(refusal) => Some(refusal),
                };
                match refusal {
                    None => Stage::Write,
                    Some(_) if body.is_announced() => Stage::Broken,
                    Some(refusal) => {
                        body.fail();
                        self.failure = Some(Finish::refused(refusal, false));
                        Stage::Write
                    }
                }
            }
            (_, Answer::Vanished(Err(refusal)) | Answer::Rows(Err(refusal))) => {
                self.failure = Some(Finish::refused(refusal, false));
                Stage::End
            }
            _ => Stage::Broken,
        };
    }

    /// Writes the rows of this slice; `None`: they are written.
    fn write(&mut self, selected: &Selected, enabled: Enabled, out: &mut Vec<u8>) -> Option<Turn> {
        loop {
            let mut current = match self.current.take() {
                Some(current) => current,
                None => {
                    let row = self.rows.pop_front()?;
                    match self.begin(row, selected, enabled.uidonly) {
                        Some(current) => current,
                        None => continue,
                    }
                }
            };
            loop {
                if out.len() >= OUTPUT_BYTES_MAX {
                    self.current = Some(current);
                    return Some(Turn::Drain);
                }
                if let Some(body) = &mut current.body {
                    match body.go(out) {
                        Piece::Written => {}
                        Piece::Done => current.body = None,
                        Piece::Read { offset, length } => {
                            let uid = current.row.uid;
                            self.current = Some(current);
                            self.stage = Stage::Asking(Asked::Read);
                            return Some(Turn::Ask(Ask::Read {
                                uid,
                                offset,
                                length,
                            }));
                        }
                        Piece::Broken => {
                            self.current = Some(current);
                            self.stage = Stage::Broken;
                            return Some(self.break_off());
                        }
                    }
                    continue;
                }
                let Some(item) = self.items.get(current.item) else {
                    break;
                };
                current.item += 1;
                if let Err(failure) = current.write(item, selected, self.strings, out) {
                    self.failure = Some(failure);
                }
            }
            if current.is_marked && !self.items.contains(&Item::Flags) {
                current.open(out);
                let row = &current.row;
                write::flags(row.flags, row.keywords, &selected.keywords, out);
            }
            // RFC 7162 §3.1: whoever knows of MODSEQs is told the one of every change.
            if current.is_marked && enabled.condstore && !self.items.contains(&Item::ModSeq) {
                current.open(out);
                write_modseq(current.row.modseq, out);
            }
            if current.is_open {
                out.extend_from_slice(b")\r\n");
            }
            if self.owes_progress {
                return Some(Turn::Drain);
            }
        }
    }

    /// Starts the response for a message; `None`: there is nothing to say of it.
    fn begin(&mut self, row: Row, selected: &Selected, uidonly: bool) -> Option<Box<Current>> {
        let summary = if self.needs_summary {
            Some(self.summaries.pop_front().flatten()?)
        } else {
            None
        };
        let number = selected.view.number(row.uid)?;
        let is_marked = self.marked.binary_search(&row.uid).is_ok();
        let mut current = Box::new(Current::new(row, number, uidonly, summary));
        current.is_marked = is_marked;
        Some(current)
    }
}
