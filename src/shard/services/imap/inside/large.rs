//! A look through a message that is too large to be read whole.

use std::ops::Range;

use super::{Looking, Place};
use crate::limits::IMAP_HEADER_BYTES_MAX;
use crate::mail::mime::{FieldSearch, HeaderPiece, HeaderPieces, Kind, Parts};
use crate::store::StoreError;

/// Bytes of a large message that are read at once.
const WINDOW_BYTES: usize = 256 * 1024;

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

impl<'a> Window<'a> {
    fn new(place: &'a Place, uid: u32) -> Window<'a> {
        Window {
            place,
            uid,
            start: 0,
            bytes: Vec::new(),
        }
    }
}

/// A header that is read piece by piece.
struct Header {
    /// What has not been read of it.
    left: Range<u64>,
    pieces: HeaderPieces,
}

impl Header {
    fn new(header: &Range<u32>) -> Header {
        Header {
            left: u64::from(header.start)..u64::from(header.end),
            pieces: HeaderPieces::default(),
        }
    }

    /// The next piece; `None`: that was all.
    async fn next(
        &mut self,
        window: &mut Window<'_>,
    ) -> Result<Option<HeaderPiece<'_>>, StoreError> {
        loop {
            let room = self.pieces.room() as u64;
            if room == 0 || self.left.is_empty() {
                break;
            }
            let end = self.left.end.min(self.left.start + room);
            let bytes = window.at(self.left.start, end).await?;
            self.pieces.push(bytes);
            self.left.start += bytes.len() as u64;
        }
        Ok(self.pieces.next(self.left.is_empty()))
    }
}

impl Looking<'_> {
    /// Looks for fields in a message's header, until all are found.
    pub(super) async fn look_through_fields(
        &mut self,
        uid: u32,
        header: &Range<u32>,
        searches: &mut [(usize, FieldSearch<'_>)],
    ) -> Result<(), StoreError> {
        let _held = self.place.shard.hold_memory(2 * WINDOW_BYTES);
        let mut window = Window::new(self.place, uid);
        let mut header = Header::new(header);
        while let Some(piece) = header.next(&mut window).await? {
            for (_, search) in &mut *searches {
                search.feed(piece);
            }
            self.effort.spend(piece.bytes.len(), searches.len()).await;
            if searches.iter().all(|(_, search)| search.is_found()) {
                break;
            }
        }
        Ok(())
    }

    /// As [`crate::mail::mime::TextSearch::message`], with pauses.
    pub(super) async fn look_through(
        &mut self,
        uid: u32,
        parts: &Parts,
    ) -> Result<u64, StoreError> {
        let _held = self.place.shard.hold_memory(2 * WINDOW_BYTES);
        let mut window = Window::new(self.place, uid);
        let needles = &self.plan.needles;
        let all = (0..needles.len()).fold(0, |all, bit| all | 1 << bit);
        let mut found = 0;
        // Of a text part's header: it says the charset. Of one without measure the rest is not kept.
        let mut own = Vec::new();
        for (index, part) in parts.as_slice().iter().enumerate() {
            own.clear();
            let counts = if index > 0 {
                all
            } else {
                self.plan.with_header
            };
            let mut header = Header::new(&part.header);
            self.search.begin_header();
            while let Some(piece) = header.next(&mut window).await? {
                if part.kind == Kind::Text && own.len() < IMAP_HEADER_BYTES_MAX as usize {
                    own.extend_from_slice(piece.bytes);
                }
                found |= self.search.feed_header(needles, counts & !found, piece);
                self.effort.spend(piece.bytes.len(), needles.len()).await;
            }
            if part.kind == Kind::Text && found != all {
                self.search.begin_text(part, &own);
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
