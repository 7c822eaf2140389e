//! Writes a sealed index from an immutable cut: the frozen layer over the base of that moment.
//!
//! Guarantees: one pass in pieces of bounded size and work; the cut is shared, not copied; what is
//! dead is left out. A number that does not fit the format makes a file that cannot be opened,
//! never a wrong one.
//! Does not know: the layer that goes on meanwhile, files.

mod accounts;
mod vanished;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use self::accounts::{BoxParts, BoxWalk, Boxes};
use super::bodies::{Body, Place};
use super::format::{
    ACCOUNTS, BODIES, CACHES, CHUNK_LISTS, CHUNKS, Footer, Header, KEY_TEXT, KEYS, KeyRow,
    MAILBOXES, MARK_ORDER, MARKS, MESSAGES, NAMES, Rows, SECTIONS, Section, TEXT, VANISHED,
};
use super::layer::Layer;
use super::sealed::Sealed;
use super::{IndexError, Usage};
use crate::mail::Address;
use crate::store::Sequence;

/// A piece ends once it has so many bytes.
const PIECE_BYTES: usize = 128 * 1024;
/// Or after so many rows were looked at.
const PIECE_STEPS: usize = 4 * 1024;
/// Bytes compared at a time.
const COMPARE_BYTES: u64 = 1 << 20;
/// Accounts put in order with each piece of bodies.
const ORDER_STEPS: usize = 512;

/// Writes a sealed index, piece by piece.
pub struct SealWriter {
    frozen: Rc<Layer>,
    base: Option<Rc<Sealed>>,
    header: Header,
    /// Rows of SEGMENTS by number, and the rows themselves.
    to_row: Vec<u32>,
    segments: Vec<(u64, Usage)>,
    messages: u64,
    sections: [Section; SECTIONS],
    stage: Stage,
    rows: Rows,
    walk: Walk,
    /// Accounts of the frozen layer: how many are in `sorted`, and at last all in order.
    sorted_count: usize,
    sorted: BTreeMap<Rc<Address>, u32>,
    order: Vec<u32>,
    /// Rows of each mailbox, as they were written.
    parts: Vec<BoxParts>,
    /// Told to the index when the whole file was compared.
    compared: Rc<Cell<bool>>,
    compared_section: usize,
    compared_bytes: u64,
    compared_crc: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Header,
    Section(usize),
    Done,
}

/// Where the section that is being written stands.
#[derive(Debug, Default)]
struct Walk {
    /// Row of the base.
    base: usize,
    /// Body of the frozen layer.
    place: Place,
    /// Account of the frozen layer.
    account: usize,
    /// Mailboxes of the account at hand that are still to come.
    boxes: Boxes,
    /// The mailbox at hand.
    mailbox: Option<BoxWalk>,
    /// Mailboxes that were begun.
    box_count: usize,
    /// Last number of a chunk list, last key.
    last_seq: Option<Sequence>,
    last_key: Option<Box<[u8]>>,
    /// Running sums that rows refer to.
    first: u64,
    text: u64,
}

impl SealWriter {
    pub(super) fn new(
        frozen: Rc<Layer>,
        base: Option<Rc<Sealed>>,
        header: Header,
        used: Vec<(u32, u64, Usage)>,
        messages: u64,
        compared: Rc<Cell<bool>>,
    ) -> SealWriter {
        let mut used = used;
        used.sort_unstable_by_key(|(_, segment, _)| *segment);
        let numbers = used.iter().map(|(number, ..)| *number as usize + 1);
        let mut to_row = vec![u32::MAX; numbers.max().unwrap_or(0)];
        for (row, (number, ..)) in used.iter().enumerate() {
            to_row[*number as usize] = row as u32;
        }
        SealWriter {
            frozen,
            base,
            header,
            to_row,
            segments: used.into_iter().map(|(_, s, usage)| (s, usage)).collect(),
            messages,
            sections: [Section::default(); SECTIONS],
            stage: Stage::Header,
            rows: Rows::default(),
            walk: Walk::default(),
            sorted_count: 0,
            sorted: BTreeMap::new(),
            order: Vec::new(),
            parts: Vec::new(),
            compared,
            compared_section: 0,
            compared_bytes: 0,
            compared_crc: 0,
        }
    }

    /// The next piece (at most about 256 KiB, made in well under a millisecond); `None`: done.
    /// A piece is empty when many dead rows were passed over: there is nothing to write then, but
    /// it is time to let others work. A single key with its value is not divided, however large.
    pub fn next_piece(&mut self) -> Option<Vec<u8>> {
        let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
        while piece.len() < PIECE_BYTES {
            match self.stage {
                Stage::Header => {
                    piece.extend_from_slice(&self.header.encode());
                    self.open_section(BODIES, piece.len() as u64);
                }
                Stage::Section(section) => {
                    self.rows.bytes = piece;
                    let start = self.rows.bytes.len();
                    let done = self.fill(section);
                    piece = std::mem::take(&mut self.rows.bytes);
                    if self.rows.overflow {
                        // The file ends here, and so can never be opened.
                        self.stage = Stage::Done;
                        return None;
                    }
                    let own = &mut self.sections[section];
                    own.crc = crc32c::crc32c_append(own.crc, &piece[start..]);
                    own.length += (piece.len() - start) as u64;
                    if !done {
                        return Some(piece);
                    }
                    let end = own.offset + own.length;
                    if section + 1 < SECTIONS {
                        self.open_section(section + 1, end);
                    } else {
                        let footer = Footer {
                            sections: self.sections,
                            messages: self.messages,
                        };
                        piece.extend_from_slice(&footer.encode());
                        self.stage = Stage::Done;
                    }
                }
                Stage::Done if piece.is_empty() => return None,
                Stage::Done => break,
            }
        }
        Some(piece)
    }

    /// Compares some more of the written file with what was given out (a megabyte, well under a
    /// millisecond if it is in memory); true: all of it is as it should be, and
    /// [`super::Index::finish_seal`] need not look again. To be called after the last piece.
    ///
    /// # Errors
    /// The file is not what was given out: the seal is to be abandoned.
    pub fn compare(&mut self, file: &[u8]) -> Result<bool, IndexError> {
        if self.stage != Stage::Done || self.rows.overflow {
            return Err(IndexError("not written to its end".into()));
        }
        let Some(section) = self.sections.get(self.compared_section) else {
            let footer = Footer::decode(file)?;
            if Header::decode(file)? != self.header || footer.sections != self.sections {
                return Err(IndexError("not the one that was being written".into()));
            }
            self.compared.set(true);
            return Ok(true);
        };
        let length = (section.length - self.compared_bytes).min(COMPARE_BYTES);
        let start = section.offset + self.compared_bytes;
        let Some(part) = file.get(start as usize..(start + length) as usize) else {
            return Err(IndexError("shorter than it was written".into()));
        };
        self.compared_crc = crc32c::crc32c_append(self.compared_crc, part);
        self.compared_bytes += length;
        if self.compared_bytes == section.length {
            if self.compared_crc != section.crc {
                let section = self.compared_section;
                return Err(IndexError(format!(
                    "section {section} is not as it was written"
                )));
            }
            (self.compared_bytes, self.compared_crc) = (0, 0);
            self.compared_section += 1;
        }
        Ok(false)
    }

    fn open_section(&mut self, section: usize, offset: u64) {
        self.sections[section].offset = offset;
        self.walk = Walk::default();
        self.stage = Stage::Section(section);
        if section == MESSAGES {
            // What the pieces of bodies left over: much only where accounts outnumber mail.
            self.sort_accounts(usize::MAX);
            self.order = std::mem::take(&mut self.sorted).into_values().collect();
        }
    }

    /// Writes rows until the piece is full (false) or the section complete (true).
    fn fill(&mut self, section: usize) -> bool {
        if section == BODIES {
            self.sort_accounts(ORDER_STEPS);
        }
        for _ in 0..PIECE_STEPS {
            if self.rows.bytes.len() >= PIECE_BYTES {
                return false;
            }
            let more = match section {
                BODIES => self.step_body(),
                CHUNK_LISTS | CHUNKS => self.step_chunks(section == CHUNK_LISTS),
                CACHES => self.step_cache(),
                MESSAGES | MARKS | MARK_ORDER | VANISHED => self.step_box(section),
                ACCOUNTS | TEXT => self.step_account(section == ACCOUNTS),
                MAILBOXES | NAMES => self.step_name(section == MAILBOXES),
                KEYS | KEY_TEXT => self.step_key(section == KEYS),
                _ => self.step_segment(),
            };
            if !more {
                return true;
            }
        }
        false
    }

    fn sort_accounts(&mut self, count: usize) {
        let entries = &self.frozen.entries[self.sorted_count..];
        for entry in entries.iter().take(count) {
            let number = self.sorted_count as u32;
            self.sorted.insert(Rc::clone(&entry.address), number);
            self.sorted_count += 1;
        }
    }

    fn base_rows(&self, section: usize) -> usize {
        self.base.as_ref().map_or(0, |base| base.rows(section))
    }

    fn step_body(&mut self) -> bool {
        let upper = self.frozen.bodies.at(self.walk.place).copied();
        let lower = match &self.base {
            Some(base) if self.walk.base < base.rows(BODIES) => Some(base.body_at(self.walk.base)),
            _ => None,
        };
        let (body, takes_upper, takes_lower) = match (upper, lower) {
            (None, None) => return false,
            (Some(upper), Some(lower)) if lower.seq() == upper.seq() => (upper, true, true),
            (Some(upper), Some(lower)) if upper.seq() < lower.seq() => (upper, true, false),
            (Some(upper), None) => (upper, true, false),
            (_, Some(lower)) => (lower, false, true),
        };
        if takes_upper {
            self.walk.place = self.frozen.bodies.next(self.walk.place);
        }
        self.walk.base += usize::from(takes_lower);
        if body.needed() {
            self.rows.put_body(&body, &self.to_row);
        }
        true
    }

    fn body(&self, seq: Sequence) -> Option<Body> {
        match self.frozen.bodies.get(seq) {
            Some(body) => Some(*body),
            None => self.base.as_ref()?.body(seq),
        }
    }

    fn step_chunks(&mut self, lists: bool) -> bool {
        let from = match self.walk.last_seq {
            Some(last) => Bound::Excluded(last),
            None => Bound::Unbounded,
        };
        let upper = self.frozen.chunks.range((from, Bound::Unbounded)).next();
        let lower = match &self.base {
            Some(base) if self.walk.base < base.rows(CHUNK_LISTS) => {
                Some((base.chunk_list_seq(self.walk.base), base))
            }
            _ => None,
        };
        let (seq, chunks) = match (upper, lower) {
            (None, None) => return false,
            (Some((&seq, chunks)), lower) if lower.as_ref().is_none_or(|(low, _)| seq <= *low) => {
                if lower.is_some_and(|(low, _)| low == seq) {
                    self.walk.base += 1;
                }
                (seq, chunks.to_vec())
            }
            (_, Some((seq, base))) => {
                let chunks = base.chunks_at(self.walk.base);
                self.walk.base += 1;
                (seq, chunks)
            }
            (Some(_), None) => return false,
        };
        // The base's lists leave the frozen ones where they are.
        if self.frozen.chunks.contains_key(&seq) {
            self.walk.last_seq = Some(seq);
        }
        if !self.body(seq).is_some_and(|body| body.needed()) {
            return true;
        }
        if lists {
            self.rows.put(seq, 8);
            self.rows.put(self.walk.first, 4);
            self.rows.put(chunks.len() as u64, 4);
            self.walk.first += chunks.len() as u64;
        } else {
            for chunk in chunks {
                self.rows.put(chunk, 8);
            }
        }
        true
    }

    fn step_cache(&mut self) -> bool {
        let from = match self.walk.last_seq {
            Some(last) => Bound::Excluded(last),
            None => Bound::Unbounded,
        };
        let mut upper = self.frozen.caches.range((from, Bound::Unbounded));
        let upper = upper.next().map(|(seq, entry)| (*seq, *entry));
        let lower = match &self.base {
            Some(base) if self.walk.base < base.rows(CACHES) => Some(base.cache_at(self.walk.base)),
            _ => None,
        };
        let (seq, entry, is_upper) = match (upper, lower) {
            (None, None) => return false,
            (Some((seq, entry)), lower) if lower.is_none_or(|(low, _)| seq <= low) => {
                self.walk.base += usize::from(lower.is_some_and(|(low, _)| low == seq));
                (seq, entry, true)
            }
            (_, Some((seq, entry))) => {
                self.walk.base += 1;
                (seq, entry, false)
            }
            (Some(_), None) => return false,
        };
        // The base's rows leave the frozen ones where they are.
        if is_upper {
            self.walk.last_seq = Some(seq);
        }
        if self.body(seq).is_some_and(|body| body.is_live()) {
            self.rows.put_cache(seq, &entry, &self.to_row);
        }
        true
    }

    fn step_key(&mut self, rows: bool) -> bool {
        let from = match &self.walk.last_key {
            Some(last) => Bound::Excluded(last.as_ref()),
            None => Bound::Unbounded,
        };
        let mut upper = self.frozen.keys.range::<[u8], _>((from, Bound::Unbounded));
        let upper = upper.next();
        let lower = match &self.base {
            Some(base) if self.walk.base < base.rows(KEYS) => Some(base.key_at(self.walk.base)),
            _ => None,
        };
        let order = match (upper, lower) {
            (None, None) => return false,
            (Some((key, _)), Some((low, ..))) => key.as_ref().cmp(low),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
        };
        let (key, value, seq, segment) = match (upper, lower) {
            (Some((key, entry)), _) if order.is_le() => (
                key.as_ref(),
                entry.value.as_deref(),
                entry.seq,
                entry.segment,
            ),
            (_, Some((key, value, row))) => (key, Some(value), row.seq, row.segment),
            _ => return false,
        };
        if let Some(value) = value {
            if rows {
                let row = KeyRow {
                    text_offset: self.walk.text,
                    key_length: key.len() as u64,
                    value_length: value.len() as u64,
                    seq,
                    segment,
                };
                self.rows.put_key(&row, &self.to_row);
                self.walk.text += (key.len() + value.len()) as u64;
            } else {
                self.rows.bytes.extend_from_slice(key);
                self.rows.bytes.extend_from_slice(value);
            }
        }
        if order.is_le() {
            self.walk.last_key = Some(key.into());
        }
        self.walk.base += usize::from(order.is_ge());
        true
    }

    fn step_segment(&mut self) -> bool {
        let Some((segment, usage)) = self.segments.get(self.walk.base) else {
            return false;
        };
        self.rows.put(*segment, 8);
        self.rows.put(usage.live_bytes, 8);
        self.rows.put(usage.youngest_expunge_ms, 8);
        self.walk.base += 1;
        true
    }
}
