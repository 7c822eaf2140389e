//! What a search answers when all is found: SEARCH, ESEARCH (RFC 4731), SORT and ESEARCH of SORT (RFC 5267
//! §3), and what SAVE keeps of it (RFC 5182).

use super::super::super::{sets, write};
use super::super::Selected;
use super::{Search, Stage};
use crate::limits::OUTPUT_BYTES_MAX;

/// A response on its way out.
pub(super) struct Output {
    /// What is left of the ranges: the last ones first.
    ranges: Vec<(u32, u32)>,
    /// Numbers one by one (SEARCH); else as a set (ESEARCH).
    plain: bool,
    is_first: bool,
    end: Vec<u8>,
}

impl Search {
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
    pub(super) fn answer_with_hits(&mut self, selected: &mut Selected, out: &mut Vec<u8>) -> Stage {
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
    pub(super) fn answer_in_order(
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
    pub(super) fn write(&mut self, out: &mut Vec<u8>) -> bool {
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
