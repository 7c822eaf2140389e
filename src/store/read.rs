//! Reads messages: what was asked for, verified, and nothing kept.

use std::io;
use std::rc::Rc;

use super::disk::{Disk, OpenMode};
use super::index::{Found, Location};
use super::partition::Partition;
use super::record::{self, Body, Payload};
use super::segment;
use super::{MailboxId, Sequence, StoreError, Uid};
use crate::limits::BLOCK_BYTES;
use crate::mail::Address;

/// A record up to this size is read whole, in one operation.
pub(super) const WHOLE_BYTES_MAX: u32 = 64 * 1024;
/// Bytes read first of a larger one: its tables are nearly always among them.
const HEAD_BYTES: usize = BLOCK_BYTES;
/// How often a body that moves away while it is read is looked for.
const ATTEMPTS: usize = 4;

/// A piece of a message: so many bytes of a record's own, or of a chunk.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// `None`: the body record itself.
    chunk: Option<Sequence>,
    /// Within the own bytes of that record.
    offset: usize,
    length: usize,
}

/// Which bytes of which records are `offset..offset + length` of a message.
fn pieces(body: &Body<'_>, offset: u64, length: usize) -> Vec<Piece> {
    let lead = u64::from(body.lead_bytes);
    let parts = std::iter::once((None, 0, lead))
        .chain(
            body.chunks()
                .map(|(seq, bytes)| (Some(seq), 0, u64::from(bytes))),
        )
        .chain([(None, lead, u64::from(body.own_bytes) - lead)]);
    let end = offset.saturating_add(length as u64);
    let mut pieces: Vec<Piece> = Vec::new();
    let mut at = 0;
    for (chunk, start, bytes) in parts {
        let (from, to) = (offset.max(at), end.min(at + bytes));
        if from < to {
            pieces.push(Piece {
                chunk,
                offset: (start + from - at) as usize,
                length: (to - from) as usize,
            });
        }
        at += bytes;
    }
    // Without chunks, lead and rest lie behind each other.
    if let [first, second] = pieces[..]
        && first.chunk.is_none()
        && second.chunk.is_none()
        && first.offset + first.length == second.offset
    {
        return vec![Piece {
            length: first.length + second.length,
            ..first
        }];
    }
    pieces
}

/// Why a record could not be read.
pub(super) enum Failure {
    /// It is not there any more: it may have moved.
    Gone,
    Other(StoreError),
}

impl<D: Disk> Partition<D> {
    /// Bytes of a message of the INBOX, see [`Partition::read_from`].
    ///
    /// # Errors
    /// The same.
    pub async fn read(
        &self,
        address: &Address,
        uid: Uid,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StoreError> {
        let mailbox = MailboxId::INBOX;
        self.read_from(address, mailbox, uid, offset, length).await
    }

    /// Bytes `offset..offset + length` of a message (fewer at its end), verified.
    ///
    /// # Errors
    /// `Missing` when it was expunged, `Damaged`, `Read`.
    pub async fn read_from(
        &self,
        address: &Address,
        mailbox: MailboxId,
        uid: Uid,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StoreError> {
        self.probe.reads.add(1);
        let _reading = self.reading();
        let mut failure = StoreError::Missing;
        for _ in 0..ATTEMPTS {
            let found = self.index.borrow().find(address, mailbox, uid);
            let found = found.ok_or(StoreError::Missing)?;
            match self.read_found(found, offset, length).await {
                Ok(bytes) => return Ok(bytes),
                Err(Failure::Gone) => {
                    let place = format!("record {} of its segment is gone", found.body_seq);
                    failure = StoreError::Damaged(place.into());
                }
                Err(Failure::Other(error)) => {
                    // Compaction may have reused the file under a path opened too late.
                    let now = self.index.borrow().find(address, mailbox, uid);
                    failure = error;
                    if now.is_some_and(|now| now.location == found.location) {
                        break;
                    }
                }
            }
        }
        match &failure {
            StoreError::Damaged(reason) => {
                self.probe.damage.add(1);
                tracing::error!("{}: {address} {uid}: {reason}", self.dir.display());
            }
            _ => self.probe.read_errors.add(1),
        }
        Err(failure)
    }

    /// The record that is kept beside a body; `None`: there is none, or it is damaged.
    pub(super) async fn read_cache(&self, body_seq: Sequence) -> Option<Vec<u8>> {
        let _reading = self.reading();
        for _ in 0..ATTEMPTS {
            let location = self.index.borrow().cache(body_seq)?;
            let read = async {
                let file = self.segment_file(location.segment).await?;
                let length = location.bytes as usize;
                let bytes = self.read_bytes(&file, location, 0, length).await?;
                let realm = self.realm_of(location)?;
                let record = record::decode(&bytes, realm)
                    .map_err(|error| damaged(location, &error.to_string()))?;
                match record.payload {
                    Payload::Cache {
                        body_seq: own,
                        bytes,
                    } if own == body_seq => Ok(bytes.to_vec()),
                    _ => Err(damaged(location, "another record")),
                }
            };
            match read.await {
                Ok(bytes) => return Some(bytes),
                Err(Failure::Gone) => {}
                // Compaction may have reused the file under a path opened too late.
                Err(Failure::Other(error)) => {
                    if self.index.borrow().cache(body_seq) == Some(location) {
                        let dir = self.dir.display();
                        tracing::warn!("{dir}: what is kept beside body {body_seq}: {error}");
                        return None;
                    }
                }
            }
        }
        None
    }

    async fn read_found(
        &self,
        found: Found,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, Failure> {
        let remaining = found.info.bytes.saturating_sub(offset);
        let length = usize::try_from(remaining).map_or(length, |bytes| bytes.min(length));
        let file = self.segment_file(found.location.segment).await?;
        let head = self.read_head(&file, found.location, length).await?;
        let realm = self.realm_of(found.location)?;
        let record = record::decode(&head, realm)
            .map_err(|error| damaged(found.location, &error.to_string()))?;
        let Payload::Body(body) = record.payload else {
            return Err(damaged(found.location, "not a body"));
        };
        if record.seq != found.body_seq {
            return Err(damaged(found.location, "another body"));
        }
        let mut out = Vec::with_capacity(length);
        for piece in pieces(&body, offset, length) {
            match piece.chunk {
                None => {
                    self.read_piece(&file, found.location, &body, piece, &mut out)
                        .await?;
                }
                Some(seq) => self.read_chunk(seq, piece, &mut out).await?,
            }
        }
        Ok(out)
    }

    /// Header and tables of a record, and all of a small one.
    async fn read_head(
        &self,
        file: &D::File,
        location: Location,
        wanted: usize,
    ) -> Result<Vec<u8>, Failure> {
        let is_small = location.bytes <= WHOLE_BYTES_MAX;
        let most = wanted + BLOCK_BYTES >= location.bytes as usize;
        let first = if is_small || most {
            location.bytes as usize
        } else {
            HEAD_BYTES
        };
        let head = self.read_bytes(file, location, 0, first).await?;
        match record::body_prefix_bytes(&head) {
            None => Err(damaged(location, "not a body")),
            Some(prefix) if prefix > location.bytes as usize => {
                Err(damaged(location, "its tables are longer than it is"))
            }
            Some(prefix) if prefix > head.len() => self.read_bytes(file, location, 0, prefix).await,
            Some(_) => Ok(head),
        }
    }

    /// Appends own bytes of a body record, read in whole blocks and verified.
    async fn read_piece(
        &self,
        file: &D::File,
        location: Location,
        body: &Body<'_>,
        piece: Piece,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let first_block = piece.offset / BLOCK_BYTES;
        let from = first_block * BLOCK_BYTES;
        let to = (piece.offset + piece.length)
            .next_multiple_of(BLOCK_BYTES)
            .min(body.own_bytes as usize);
        let read;
        let blocks = match body.bytes().get(from..to) {
            Some(blocks) => blocks,
            None => {
                let start = body.bytes_offset() + from;
                read = self.read_bytes(file, location, start, to - from).await?;
                &read
            }
        };
        if !body.blocks_match(first_block, blocks) {
            return Err(damaged(location, "bytes do not match their checksum"));
        }
        let start = piece.offset - from;
        match blocks.get(start..start + piece.length) {
            Some(bytes) => out.extend_from_slice(bytes),
            None => return Err(damaged(location, "shorter than its message")),
        }
        Ok(())
    }

    async fn read_chunk(
        &self,
        seq: Sequence,
        piece: Piece,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let location = self.index.borrow().body(seq).ok_or(Failure::Gone)?;
        let file = self.segment_file(location.segment).await?;
        let head = self.read_head(&file, location, piece.length).await?;
        let realm = self.realm_of(location)?;
        let record =
            record::decode(&head, realm).map_err(|error| damaged(location, &error.to_string()))?;
        match record.payload {
            Payload::Body(body) if record.seq == seq => {
                self.read_piece(&file, location, &body, piece, out).await
            }
            _ => Err(damaged(location, "another record")),
        }
    }

    pub(super) fn realm_of(&self, location: Location) -> Result<record::Realm, Failure> {
        let log = self.log.borrow();
        let segment = log.segments.get(&location.segment).ok_or(Failure::Gone)?;
        Ok(segment::realm(
            self.identity,
            segment.generation,
            segment.epoch,
        ))
    }

    pub(super) async fn read_bytes(
        &self,
        file: &D::File,
        location: Location,
        from: usize,
        length: usize,
    ) -> Result<Vec<u8>, Failure> {
        let offset = u64::from(location.offset) + from as u64;
        let read = self.disk.read_at(file, offset, length).await;
        let bytes = read.map_err(|error| {
            let text = format!("segment {} at {offset}: {error}", location.segment);
            Failure::Other(StoreError::Read(text.into()))
        })?;
        if bytes.len() < length {
            return Err(damaged(location, "the file ends within it"));
        }
        Ok(bytes)
    }

    /// The file of a segment, opened when it is first needed.
    pub(super) async fn segment_file(&self, generation: u64) -> Result<Rc<D::File>, Failure> {
        {
            let log = self.log.borrow();
            let segment = log.segments.get(&generation).ok_or(Failure::Gone)?;
            if let Some(file) = &segment.file {
                return Ok(file.clone());
            }
        }
        let path = segment::file_path(&self.dir, generation);
        let file = match self.disk.open(&path, OpenMode::Read).await {
            Ok(file) => Rc::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Failure::Gone),
            Err(error) => {
                let text = format!("{}: {error}", path.display());
                return Err(Failure::Other(StoreError::Read(text.into())));
            }
        };
        self.keep_open(generation, &file);
        Ok(file)
    }
}

fn damaged(location: Location, reason: &str) -> Failure {
    let text = format!(
        "segment {} at {}: {reason}",
        location.segment, location.offset
    );
    Failure::Other(StoreError::Damaged(text.into()))
}
