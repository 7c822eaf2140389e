//! SEARCH (RFC 9051 §6.4.4; ESEARCH RFC 4731, SEARCHRES RFC 5182, PARTIAL RFC 9394).
//!
//! What the listing tells is looked at first; only messages about which that leaves a doubt are
//! looked into: headers first, bodies last. All in slices, and in order. What SORT and THREAD ask for
//! is put in order when all is found.

mod answer;

use std::sync::Arc;

use super::super::command::{self, Charset, Results};
use super::super::program::{Program, Verdict};
use super::super::{Answer, Ask, Refusal, Row, sets};
use super::finish::{Finish, SyncMode};
use super::order::{Ordering, Trouble};
use super::progress::Progress;
use super::{Context, Selected, Turn};
use crate::limits::{IMAP_LOOK_BYTES, IMAP_SLICE_MESSAGES, OUTPUT_BYTES_MAX};
use answer::Output;

/// Messages that are looked into at once, if they are small.
const SLICE_INSIDE: usize = IMAP_SLICE_MESSAGES / 4;

/// A SEARCH that runs.
pub(super) struct Search {
    tag: Box<[u8]>,
    by_uid: bool,
    extended: bool,
    results: Results,
    program: Program,
    /// Not looked at yet.
    left: sets::Cursor,
    /// Messages that are judged at once.
    slice_max: usize,
    /// Of this slice, with what is known of each.
    slice: Vec<(Row, Verdict)>,
    stage: Stage,
    /// UIDs found.
    hits: Vec<(u32, u32)>,
    hit_count: u64,
    modseq_first: u64,
    modseq_last: u64,
    modseq_max: u64,
    ordering: Option<Box<Ordering>>,
    /// Messages looked at, and those to look at in all.
    done: u64,
    goal: u64,
}

enum Stage {
    AskTime,
    AskRows,
    /// Who is in doubt is looked into.
    Doubt,
    Asking,
    /// These of the slice are being looked into, for these texts.
    Matching(Vec<usize>, u64),
    /// Summaries of what was found are asked for.
    Keys,
    AskingKeys,
    /// Others have their turn; then the search goes on so.
    Pausing(Box<Stage>),
    /// Everything is found, and is being sorted.
    Merge,
    Threading,
    Write(Output),
    /// A response that is complete, and how much of it is written.
    Bytes(Vec<u8>, usize),
    Done(Finish),
}

impl Search {
    pub(super) fn new(
        command: command::Search,
        tag: &[u8],
        context: &mut Context<'_>,
    ) -> Result<Search, Finish> {
        let mut results = command.results;
        // RFC 9051 §6.4.4: its clients know ESEARCH only.
        let ordered = command.order.is_some();
        let extended = command.extended || (context.enabled.rev2 && !ordered);
        if extended && !results.min && !results.max && !results.count && results.partial.is_none() {
            results.all |= !results.save;
        }
        let failed = |selected: &mut Selected, finish| {
            // RFC 5182 §2.1: a search that fails leaves nothing.
            if results.save {
                selected.saved = Vec::new();
            }
            Err(finish)
        };
        if context.enabled.utf8_accept {
            // RFC 9755 §3 (RFC 6855 with its erratum 4029): all texts are UTF-8 already. SORT and THREAD
            // must name a charset, SEARCH must not.
            let wanted = if ordered {
                Charset::Utf8
            } else {
                Charset::None
            };
            if command.charset != wanted {
                return Err(Finish::bad(if ordered {
                    "after ENABLE UTF8=ACCEPT the charset is UTF-8"
                } else {
                    "no CHARSET after ENABLE UTF8=ACCEPT: texts are UTF-8"
                }));
            }
        }
        let selected = context.selected().ok_or_else(Finish::confused)?;
        if command.charset == Charset::Unknown {
            let code = "BADCHARSET (UTF-8 US-ASCII)";
            return failed(selected, Finish::no(code, "texts are taken in UTF-8"));
        }
        let compiled = Program::compile(
            &command.keys,
            &selected.view,
            &selected.saved,
            &selected.keywords,
            selected.id_space,
        );
        let mut program = match compiled {
            Ok(program) => program,
            Err(text) => return failed(selected, Finish::no("LIMIT", text)),
        };
        if program.asks_modseq() {
            context.enabled.condstore = true;
        }
        let candidates = program.take_candidates();
        let goal = sets::len(&candidates);
        Ok(Search {
            tag: tag.into(),
            by_uid: command.by_uid,
            extended,
            results,
            left: sets::Cursor::new(candidates),
            slice_max: program.slice_max(),
            stage: if program.asks_time() {
                Stage::AskTime
            } else {
                Stage::AskRows
            },
            program,
            slice: Vec::new(),
            hits: Vec::new(),
            hit_count: 0,
            modseq_first: 0,
            modseq_last: 0,
            modseq_max: 0,
            done: 0,
            goal,
            ordering: command.order.map(|order| Box::new(Ordering::new(order))),
        })
    }

    /// How far it is.
    pub(super) fn progress(&self) -> Progress {
        Progress::Messages(self.done, self.goal)
    }

    /// Bytes of memory held beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        let ordering = self
            .ordering
            .as_ref()
            .map_or(0, |ordering| ordering.held_bytes());
        self.hits.capacity() * 8 + self.left.held_bytes() + self.program.held_bytes() + ordering
    }

    pub(super) fn go(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> Turn {
        loop {
            let stage = std::mem::replace(&mut self.stage, Stage::Asking);
            match stage {
                Stage::AskTime => return Turn::Ask(Ask::Time),
                Stage::Keys | Stage::Merge => {
                    let is_found = matches!(stage, Stage::Merge);
                    let Some(selected) = context.selected() else {
                        return Turn::Finish(Finish::confused());
                    };
                    match self.put_in_order(is_found, selected, out) {
                        Ok(Some(ask)) => return Turn::Ask(ask),
                        Ok(None) => {}
                        Err(finish) => self.stage = Stage::Done(finish),
                    }
                }
                Stage::AskRows if self.left.is_done() => {
                    let Some(selected) = context.selected() else {
                        return Turn::Finish(Finish::confused());
                    };
                    self.stage = self.answer_with_hits(selected, out);
                }
                Stage::AskRows => {
                    return Turn::Ask(Ask::Rows {
                        uids: self.left.slice(),
                        changed_since: None,
                        count_max: self.slice_max,
                    });
                }
                Stage::Doubt => match self.next_doubt() {
                    Some((indexes, wanted)) => {
                        let message = |index: &usize| {
                            let row = &self.slice[*index].0;
                            (row.uid, row.email_id)
                        };
                        let messages = indexes.iter().map(message).collect();
                        self.stage = Stage::Matching(indexes, wanted);
                        let texts = Arc::clone(self.program.texts());
                        return Turn::Ask(Ask::Match {
                            messages,
                            texts,
                            wanted,
                        });
                    }
                    None => {
                        self.collect();
                        self.stage = match self.ordering {
                            Some(_) => Stage::Keys,
                            None => Stage::AskRows,
                        };
                    }
                },
                Stage::Write(mut output) => {
                    if output.write(out) {
                        return Turn::Finish(self.end());
                    }
                    self.stage = Stage::Write(output);
                    return Turn::Drain;
                }
                Stage::Bytes(bytes, mut written) => {
                    while written < bytes.len() && out.len() < OUTPUT_BYTES_MAX {
                        let end = bytes.len().min(written + OUTPUT_BYTES_MAX / 2);
                        out.extend_from_slice(&bytes[written..end]);
                        written = end;
                    }
                    if written == bytes.len() {
                        return Turn::Finish(self.end());
                    }
                    self.stage = Stage::Bytes(bytes, written);
                    return Turn::Drain;
                }
                Stage::Done(finish) => {
                    if self.results.save
                        && let Some(selected) = context.selected()
                    {
                        selected.saved = Vec::new();
                    }
                    return Turn::Finish(finish);
                }
                Stage::Asking
                | Stage::Matching(..)
                | Stage::AskingKeys
                | Stage::Pausing(_)
                | Stage::Threading => {
                    return Turn::Finish(Finish::confused());
                }
            }
        }
    }

    fn end(&self) -> Finish {
        Finish::ok().with_sync(if self.by_uid {
            SyncMode::Whole
        } else {
            SyncMode::NoExpunge
        })
    }

    pub(super) fn answer(&mut self, answer: Answer, context: &mut Context<'_>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Asking);
        self.stage = match (stage, answer) {
            (Stage::Asking, Answer::Time(now_ms)) => {
                self.program.set_time(now_ms);
                Stage::AskRows
            }
            (Stage::Asking, Answer::Rows(Ok(rows))) => {
                let last = rows.last().filter(|_| rows.len() >= self.slice_max);
                self.left.pass(last.map(|row| row.uid));
                let Some(selected) = context.selected() else {
                    self.stage = Stage::Done(Finish::confused());
                    return;
                };
                self.slice = rows
                    .into_iter()
                    .map(|row| {
                        let verdict = self.program.judge(&row, &selected.view);
                        (row, verdict)
                    })
                    .collect();
                Stage::Doubt
            }
            (Stage::Matching(indexes, wanted), Answer::Matched(Ok(found))) => {
                let Some(selected) = context.selected() else {
                    self.stage = Stage::Done(Finish::confused());
                    return;
                };
                for (index, found) in indexes.into_iter().zip(found) {
                    let (row, verdict) = &mut self.slice[index];
                    let looked = (wanted, found);
                    *verdict = self
                        .program
                        .judge_again(row, &selected.view, verdict, looked);
                }
                Stage::Doubt
            }
            (Stage::AskingKeys, Answer::Summaries(summaries)) => self.take_keys(summaries),
            (Stage::Pausing(next), Answer::Done(Ok(()))) => *next,
            (Stage::Pausing(_), Answer::Done(Err(refusal)))
            | (Stage::Threading, Answer::Threads(Err(refusal))) => {
                Stage::Done(Finish::refused(refusal, false))
            }
            (Stage::Threading, Answer::Threads(Ok(threads))) => {
                let mut bytes = b"* THREAD".to_vec();
                if !threads.is_empty() {
                    bytes.push(b' ');
                    bytes.extend_from_slice(&threads);
                }
                bytes.extend_from_slice(b"\r\n");
                Stage::Bytes(bytes, 0)
            }
            (_, Answer::Rows(Err(refusal)) | Answer::Matched(Err(refusal))) => {
                Stage::Done(Finish::refused(refusal, false))
            }
            _ => Stage::Done(Finish::confused()),
        };
    }

    fn take_keys(&mut self, summaries: Vec<Result<Vec<u8>, Refusal>>) -> Stage {
        let Some(ordering) = &mut self.ordering else {
            return Stage::Done(Finish::confused());
        };
        for summary in summaries {
            let taken = match &summary {
                Ok(summary) => ordering.take(Some(summary)),
                // It was expunged meanwhile, and is nowhere in the order any more.
                Err(Refusal::Gone | Refusal::Missing) => ordering.take(None),
                Err(refusal) => return Stage::Done(Finish::refused(refusal.clone(), false)),
            };
            if let Err(trouble) = taken {
                return Stage::Done(too_much(trouble));
            }
        }
        Stage::Keys
    }

    /// Gets keys of what was found in this slice; when everything is found, sorts it or has it
    /// threaded.
    fn put_in_order(
        &mut self,
        is_found: bool,
        selected: &mut Selected,
        out: &mut Vec<u8>,
    ) -> Result<Option<Ask>, Finish> {
        let ordering = self.ordering.as_mut().ok_or_else(Finish::confused)?;
        let by_uid = self.by_uid;
        let view = Arc::clone(&selected.view);
        let number = |uid| match by_uid {
            true => uid,
            false => view.number(uid).unwrap_or(0),
        };
        if is_found {
            if let Some(numbers) = ordering.merge(number) {
                self.stage = self.answer_in_order(numbers, selected, out);
                return Ok(None);
            }
            self.stage = Stage::Pausing(Box::new(Stage::Merge));
            return Ok(Some(Ask::Pause));
        }
        if let Some(messages) = ordering.next().map_err(too_much)? {
            self.stage = Stage::AskingKeys;
            return Ok(Some(Ask::Summaries { messages }));
        }
        if !self.left.is_done() {
            self.stage = Stage::Pausing(Box::new(Stage::AskRows));
            return Ok(Some(Ask::Pause));
        }
        if let Some(threading) = ordering.finish(number) {
            self.stage = Stage::Threading;
            return Ok(Some(Ask::Thread(threading)));
        }
        self.stage = Stage::Merge;
        Ok(None)
    }

    /// Messages in doubt, and which texts to look for in them.
    fn next_doubt(&self) -> Option<(Vec<usize>, u64)> {
        let doubts = self
            .slice
            .iter()
            .enumerate()
            .filter_map(|(index, (_, verdict))| {
                let wanted = self.program.next_texts(verdict)?;
                Some((index, wanted))
            });
        let mut doubts = doubts.peekable();
        let (_, wanted) = *doubts.peek()?;
        let mut bytes = 0;
        let alike = doubts.filter(|doubt| doubt.1 == wanted).take(SLICE_INSIDE);
        // Of large ones fewer: the client learns how far the search is.
        let alike = alike.take_while(|(index, _)| {
            let is_room = bytes < IMAP_LOOK_BYTES;
            bytes += self.slice[*index].0.bytes;
            is_room
        });
        Some((alike.map(|doubt| doubt.0).collect(), wanted))
    }

    /// Notes what was found in this slice.
    fn collect(&mut self) {
        self.done += self.slice.len() as u64;
        for (row, verdict) in self.slice.drain(..) {
            if !verdict.is_hit() {
                continue;
            }
            sets::push(&mut self.hits, row.uid);
            if let Some(ordering) = &mut self.ordering {
                ordering.add(&row);
            }
            self.modseq_max = self.modseq_max.max(row.modseq);
            if self.hit_count == 0 {
                self.modseq_first = row.modseq;
            }
            self.modseq_last = row.modseq;
            self.hit_count += 1;
        }
    }
}

fn too_much(trouble: Trouble) -> Finish {
    match trouble {
        Trouble::Confused => Finish::confused(),
        Trouble::TooMuch(text) => Finish::no("LIMIT", text),
    }
}
