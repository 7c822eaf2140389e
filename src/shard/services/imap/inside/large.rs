//! A look through a message that is too large to be read whole.

use super::{Looking, Place};
use crate::limits::IMAP_HEADER_BYTES_MAX;
use crate::mail::mime::{Kind, Parts, fields};
use crate::store::StoreError;

/// Bytes of a large message that are read at once.
const WINDOW_BYTES: usize = 256 * 1024;
/// Bytes of a header that are searched at once, if its fields are not longer.
const HEADER_STEP_BYTES: usize = 64 * 1024;

/// A piece of a message, which moves forward.
struct Window<'a> {
    place: &'a Place,
    uid: u32,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// Bytes from `offset` on: at least one, at most up to `end`.
    async fn at(&mut self, offset: u64, end: u64) -> Result<&[u8], StoreError> {
        let is_in = offset
            .checked_sub(self.start)
            .is_some_and(|skip| skip < self.bytes.len() as u64);
        if !is_in {
            self.bytes = self
                .place
                .read(self.uid, offset, WINDOW_BYTES as u64)
                .await?;
            self.start = offset;
        }
        // Within the window, as was seen just now.
        let skip = (offset - self.start) as usize;
        let length = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let rest = self.bytes.get(skip..).unwrap_or_default();
        match &rest[..rest.len().min(length)] {
            [] => Err(StoreError::Damaged("shorter than its summary says".into())),
            bytes => Ok(bytes),
        }
    }
}

impl Looking<'_> {
    /// As [`crate::mail::mime::TextSearch::message`], with pauses. Of a header without measure the
    /// rest is left out, and a string is not found where it goes on from one of its pieces to the
    /// next.
    pub(super) async fn look_through(
        &mut self,
        uid: u32,
        parts: &Parts,
    ) -> Result<u64, StoreError> {
        let _held = self.place.shard.hold_memory(2 * WINDOW_BYTES);
        let mut window = Window {
            place: self.place,
            uid,
            start: 0,
            bytes: Vec::new(),
        };
        let needles = &self.plan.needles;
        let all = (0..needles.len()).fold(0, |all, bit| all | 1 << bit);
        let mut found = 0;
        let mut header = Vec::new();
        for (index, part) in parts.as_slice().iter().enumerate() {
            header.clear();
            let end = u64::from(part.header.end);
            let end = end.min(u64::from(part.header.start) + IMAP_HEADER_BYTES_MAX);
            let mut at = u64::from(part.header.start);
            while at < end {
                let bytes = window.at(at, end).await?;
                header.extend_from_slice(bytes);
                at += bytes.len() as u64;
            }
            let counts = if index > 0 {
                all
            } else {
                self.plan.with_header
            };
            for step in steps(&header) {
                found |= self.search.whole_header(needles, counts & !found, step);
                self.effort.spend(step.len(), needles.len()).await;
            }
            if part.kind == Kind::Text && found != all {
                self.search.begin_text(part, &header);
                let (mut at, end) = (u64::from(part.body.start), u64::from(part.body.end));
                while at < end && found != all {
                    let bytes = window.at(at, end).await?;
                    at += bytes.len() as u64;
                    found |= self
                        .search
                        .feed_text(needles, all & !found, bytes, at == end);
                    self.effort.spend(bytes.len(), needles.len()).await;
                }
            }
            if found == all {
                break;
            }
        }
        Ok(found)
    }
}

/// A header in pieces of whole fields.
fn steps(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = header;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if rest.len() <= HEADER_STEP_BYTES {
            return Some(std::mem::take(&mut rest));
        }
        let mut end = 0;
        for field in fields(rest) {
            end += field.raw.len();
            if end >= HEADER_STEP_BYTES {
                break;
            }
        }
        // Fields end at an empty line: it is the last piece.
        let (step, behind) = rest.split_at(if end == 0 { rest.len() } else { end });
        rest = behind;
        Some(step)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_cut_between_fields() {
        let field =
            |index: usize| format!("X-{index}: {}\r\n {}\r\n", "a".repeat(500), "b".repeat(400));
        let mut header: Vec<u8> = (0..200)
            .flat_map(|index| field(index).into_bytes())
            .collect();
        let long = format!("Long: {}\r\n\r\n", "c".repeat(3 * HEADER_STEP_BYTES));
        header.extend_from_slice(long.as_bytes());
        let all: Vec<&[u8]> = steps(&header).collect();
        assert_eq!(all.concat(), header);
        assert!(all.len() > 3, "{} pieces", all.len());
        for step in &all[..all.len() - 1] {
            assert!(step.ends_with(b"\r\n") && !step.starts_with(b" "));
        }
        assert_eq!(steps(b"").count(), 0);
        assert_eq!(steps(b"\r\n").count(), 1);
    }
}
