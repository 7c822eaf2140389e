//! SEARCH (RFC 9051 §6.4.4; ESEARCH RFC 4731, SEARCHRES RFC 5182, PARTIAL RFC 9394).
//!
//! What the listing tells is looked at first; only messages about which that leaves a doubt are
//! looked into: headers first, bodies last. All in slices, and in order. What SORT and THREAD ask for
//! is put in order when all is found.

use std::sync::Arc;

use super::super::command::{self, Charset, Results};
use super::super::program::{Program, Verdict};
use super::super::{Answer, Ask, Refusal, Row, sets, write};
use super::finish::{Finish, SyncMode};
use super::order::{Ordering, Trouble};
use super::progress::Progress;
use super::{Context, Selected, Turn};
use crate::limits::{IMAP_LOOK_BYTES, IMAP_SLICE_MESSAGES, OUTPUT_BYTES_MAX};

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

/// A response on its way out.
struct Output {
    /// What is left of the ranges: the last ones first.
    ranges: Vec<(u32, u32)>,
    /// Numbers one by one (SEARCH); else as a set (ESEARCH).
    plain: bool,
    is_first: bool,
    end: Vec<u8>,
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

    /// What SAVE keeps of UIDs in the order of the answer. RFC 5182 §2.4, RFC 9394 §3.2: where only some
    /// of them are asked for, these; where all are, or are counted, all.
    fn saved_of(&self, uids: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let results = self.results;
        let is_some = results.min || results.max || results.partial.is_some();
        let mut saved = if results.all || results.count || !is_some {
            uids.to_vec()
        } else {
            let first = uids.first().filter(|_| results.min);
            let last = uids.last().filter(|_| results.max);
            let mut saved: Vec<(u32, u32)> = Vec::new();
            saved.extend(first.map(|range| (range.0, range.0)));
            saved.extend(last.map(|range| (range.1, range.1)));
            if let Some((from, to)) = results.partial {
                saved.extend(sets::pick(uids, from, to));
            }
            saved
        };
        sets::normalise(&mut saved);
        saved
    }

    /// Everything is found: the response.
    fn answer_with_hits(&mut self, selected: &mut Selected, out: &mut Vec<u8>) -> Stage {
        let results = self.results;
        let uids = std::mem::take(&mut self.hits);
        let only_ends = !results.all && !results.count && results.partial.is_none();
        let picks_ends = only_ends && (results.min || results.max);
        if results.save {
            selected.saved = self.saved_of(&uids);
        }
        let numbers = if self.by_uid {
            uids
        } else {
            let number = |uid| selected.view.number(uid).unwrap_or(0);
            let mut numbers: Vec<(u32, u32)> = uids
                .iter()
                .map(|(first, last)| (number(*first), number(*last)))
                .collect();
            sets::normalise(&mut numbers);
            numbers
        };
        // RFC 7162 §3.1.5.
        let modseq = if !self.program.asks_modseq() || self.hit_count == 0 {
            None
        } else if picks_ends {
            let first = if results.min { self.modseq_first } else { 0 };
            let last = if results.max { self.modseq_last } else { 0 };
            Some(first.max(last))
        } else {
            Some(self.modseq_max)
        };
        if !self.extended {
            out.extend_from_slice(b"* SEARCH");
            let mut end = Vec::new();
            if let Some(modseq) = modseq {
                end.extend_from_slice(b" (MODSEQ ");
                write::number(modseq, &mut end);
                end.push(b')');
            }
            return Stage::Write(Output::new(numbers, true, end));
        }
        if !(results.min
            || results.max
            || results.all
            || results.count
            || results.partial.is_some())
        {
            // RFC 5182 §2.1: SAVE alone says nothing.
            return Stage::Write(Output::nothing());
        }
        self.write_extended(numbers, modseq, out)
    }

    /// Everything is found and in order: SORT, ESEARCH of SORT (RFC 5267 §3).
    fn answer_in_order(
        &mut self,
        in_order: Vec<(u32, u32)>,
        selected: &mut Selected,
        out: &mut Vec<u8>,
    ) -> Stage {
        self.ordering = None;
        if self.results.save {
            let uids = match self.by_uid {
                true => in_order.clone(),
                false => selected.view.uids_of_numbers(&in_order),
            };
            selected.saved = self.saved_of(&uids);
        }
        if !self.extended {
            out.extend_from_slice(b"* SORT");
            return Stage::Write(Output::new(in_order, true, Vec::new()));
        }
        let modseq = Some(self.modseq_max).filter(|_| self.program.asks_modseq());
        self.write_extended(in_order, modseq.filter(|modseq| *modseq > 0), out)
    }

    /// ```text
    /// esearch-response = "ESEARCH" [search-correlator] [SP "UID"] *(SP search-return-data)
    /// ```
    fn write_extended(
        &self,
        numbers: Vec<(u32, u32)>,
        modseq: Option<u64>,
        out: &mut Vec<u8>,
    ) -> Stage {
        let results = self.results;
        out.extend_from_slice(b"* ESEARCH (TAG ");
        write::quoted(&String::from_utf8_lossy(&self.tag), out);
        out.push(b')');
        if self.by_uid {
            out.extend_from_slice(b" UID");
        }
        let item = |name: &[u8], number: Option<u64>, out: &mut Vec<u8>| {
            if let Some(number) = number {
                out.push(b' ');
                out.extend_from_slice(name);
                out.push(b' ');
                write::number(number, out);
            }
        };
        let first = numbers.first().map(|range| u64::from(range.0));
        let last = numbers.last().map(|range| u64::from(range.1));
        item(b"MIN", first.filter(|_| results.min), out);
        item(b"MAX", last.filter(|_| results.max), out);
        item(
            b"COUNT",
            Some(self.hit_count).filter(|_| results.count),
            out,
        );
        item(b"MODSEQ", modseq, out);
        if let Some((from, to)) = results.partial {
            use std::io::Write as _;
            // Writing to a Vec cannot fail.
            let _ = write!(out, " PARTIAL ({from}:{to} ");
            let part = sets::pick(&numbers, from, to);
            if part.is_empty() {
                out.extend_from_slice(b"NIL");
            }
            return Stage::Write(Output::new(part, false, b")".to_vec()));
        }
        if results.all && !numbers.is_empty() {
            out.extend_from_slice(b" ALL ");
            return Stage::Write(Output::new(numbers, false, Vec::new()));
        }
        Stage::Write(Output::new(Vec::new(), false, Vec::new()))
    }
}

fn too_much(trouble: Trouble) -> Finish {
    match trouble {
        Trouble::Confused => Finish::confused(),
        Trouble::TooMuch(text) => Finish::no("LIMIT", text),
    }
}

impl Output {
    fn new(mut ranges: Vec<(u32, u32)>, plain: bool, mut end: Vec<u8>) -> Output {
        ranges.reverse();
        end.extend_from_slice(b"\r\n");
        Output {
            ranges,
            plain,
            is_first: true,
            end,
        }
    }

    fn nothing() -> Output {
        Output {
            ranges: Vec::new(),
            plain: true,
            is_first: true,
            end: Vec::new(),
        }
    }

    /// Writes as much as `out` takes; `true`: that was all.
    fn write(&mut self, out: &mut Vec<u8>) -> bool {
        while let Some((low, high)) = self.ranges.pop() {
            if out.len() >= OUTPUT_BYTES_MAX {
                self.ranges.push((low, high));
                return false;
            }
            if self.plain {
                out.push(b' ');
                write::number(low, out);
                if low < high {
                    self.ranges.push((low + 1, high));
                }
                continue;
            }
            if !self.is_first {
                out.push(b',');
            }
            self.is_first = false;
            sets::write(&[(low, high)], out);
        }
        out.append(&mut self.end);
        true
    }
}
