//! Live bytes of every segment, kept up with each change.
//!
//! Guarantees: a segment that anything needs has `live_bytes` above zero; no count goes below
//! zero. Bodies and flags records count with their true size, these shared among their marks, other
//! records with a fixed estimate, the same when they come and when they go.
//! Does not know: what is live, or whether a segment exists.

use rustc_hash::FxHashMap;

use super::Usage;

/// Stands for "no segment": the thing is not there.
pub(super) const NO_SEGMENT: u32 = u32::MAX;
/// Estimated bytes of an append record.
pub(super) const APPEND_BYTES: u64 = 128;
/// Estimated bytes of an account record.
pub(super) const ACCOUNT_BYTES: u64 = 256;
/// Estimated bytes of a reserve record.
pub(super) const RESERVE_BYTES: u64 = 96;
/// Estimated bytes of a mailbox's record.
pub(super) const MAILBOX_BYTES: u64 = 160;
/// Estimated bytes of a key record besides key and value.
pub(super) const KEY_BYTES: u64 = 64;

/// Generations of segments as small numbers, and the use of each.
#[derive(Debug, Clone, Default)]
pub(super) struct Segments {
    numbers: FxHashMap<u64, u32>,
    rows: Vec<(u64, Usage)>,
    /// The number looked up last: appends and bodies come in runs of one segment.
    last: Option<(u64, u32)>,
}

impl Segments {
    /// The number of a segment, given at first sight and valid as long as the index is.
    pub(super) fn number(&mut self, segment: u64) -> u32 {
        if let Some((known, number)) = self.last
            && known == segment
        {
            return number;
        }
        let rows = &mut self.rows;
        let number = *self.numbers.entry(segment).or_insert_with(|| {
            rows.push((segment, Usage::default()));
            (rows.len() - 1) as u32
        });
        self.last = Some((segment, number));
        number
    }

    /// Generation of a numbered segment; 0 for [`NO_SEGMENT`].
    pub(super) fn generation(&self, number: u32) -> u64 {
        self.rows.get(number as usize).map_or(0, |row| row.0)
    }

    /// Something of so many bytes is needed there.
    pub(super) fn add(&mut self, number: u32, bytes: u64) {
        if let Some((_, usage)) = self.rows.get_mut(number as usize) {
            usage.live_bytes = usage.live_bytes.saturating_add(bytes);
        }
    }

    /// It is not needed any more.
    pub(super) fn sub(&mut self, number: u32, bytes: u64) {
        if let Some((_, usage)) = self.rows.get_mut(number as usize) {
            usage.live_bytes = usage.live_bytes.saturating_sub(bytes);
        }
    }

    /// Something there was expunged at this time.
    pub(super) fn expunged(&mut self, number: u32, now_ms: u64) {
        if let Some((_, usage)) = self.rows.get_mut(number as usize) {
            usage.youngest_expunge_ms = usage.youngest_expunge_ms.max(now_ms);
        }
    }

    /// The segment is gone. Its number stays taken, its row says nothing any more.
    pub(super) fn forget(&mut self, segment: u64) {
        if let Some(&number) = self.numbers.get(&segment) {
            let usage = &mut self.rows[number as usize].1;
            if usage.live_bytes == 0 {
                *usage = Usage::default();
            }
        }
    }

    /// Sets a row as a sealed file says it.
    pub(super) fn restore(&mut self, segment: u64, usage: Usage) -> u32 {
        let number = self.number(segment);
        self.rows[number as usize].1 = usage;
        number
    }

    /// Number, generation and usage of every segment in use, or with a time to wait for.
    pub(super) fn used(&self) -> impl Iterator<Item = (u32, u64, Usage)> {
        (0..)
            .zip(&self.rows)
            .map(|(number, (segment, usage))| (number, *segment, *usage))
            .filter(|(.., usage)| *usage != Usage::default())
    }

    /// Approximate bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.numbers.capacity() * 17 + self.rows.capacity() * size_of::<(u64, Usage)>()
    }
}
