//! The bytes of one body item of FETCH: raw, as chosen header fields, decoded (RFC 3516), or as a
//! preview (RFC 8970).
//!
//! Guarantees: what is announced as a literal is what is sent; raw and decoded bytes pass in pieces.
//! Decoded ones are read twice: the literal's length comes first.
//! Does not know: messages, where the bytes come from.
//! On failure: see [`Body::is_announced`].

use std::ops::Range;

use super::super::write;
use crate::limits::{IMAP_HEADER_BYTES_MAX, IMAP_READ_BYTES, PREVIEW_SOURCE_BYTES_MAX};
use crate::mail::mime::{
    Encoding, Part, Strings, TransferDecoder, filter_fields, preview, write_string,
};

/// One body item.
pub(super) struct Body {
    /// Of the item, with a space behind; empty where it is written already.
    name: Vec<u8>,
    /// Of the message, not read yet.
    range: Range<u64>,
    /// Bytes of the read that is out.
    asked: u32,
    /// Read, and not used.
    piece: Option<Vec<u8>>,
    kind: Kind,
    announced: bool,
    failed: bool,
}

enum Kind {
    /// As they are.
    Stream,
    /// Header fields of these names, or all but these.
    Fields {
        names: Vec<Vec<u8>>,
        not: bool,
        partial: Option<(u64, u64)>,
        header: Vec<u8>,
    },
    Preview {
        part: Box<Part>,
        strings: Strings,
        source: Vec<u8>,
    },
    Binary(Box<Binary>),
}

struct Binary {
    decoder: TransferDecoder,
    encoding: Encoding,
    partial: Option<(u64, u64)>,
    size_only: bool,
    /// Of the message, for the second time.
    whole: Range<u64>,
    /// Decoded so far, while they are counted.
    count: u64,
    /// A NUL is among them: only a literal8 can hold that (RFC 3516 §4.4).
    has_nul: bool,
    /// Decoded bytes to pass over and to send, when they have been counted.
    send: Option<(u64, u64)>,
}

/// What the item wants next.
pub(super) enum Piece {
    /// Something is written.
    Written,
    /// That was all.
    Done,
    /// These bytes of the message.
    Read { offset: u64, length: u32 },
    /// The message is not what it was: the announced bytes are not there.
    Broken,
}

impl Body {
    fn new(name: Vec<u8>, range: Range<u64>, kind: Kind) -> Body {
        Body {
            name,
            range,
            asked: 0,
            piece: None,
            kind,
            announced: false,
            failed: false,
        }
    }

    /// Bytes as they are.
    pub(super) fn stream(name: Vec<u8>, range: Range<u64>, partial: Option<(u64, u64)>) -> Body {
        Body::new(name, part_of(range, partial), Kind::Stream)
    }

    /// Some fields of the header that is in this range.
    pub(super) fn fields(
        name: Vec<u8>,
        range: Range<u64>,
        names: Vec<Vec<u8>>,
        not: bool,
        partial: Option<(u64, u64)>,
    ) -> Body {
        // What is behind the bound of a header without measure is left out.
        let range = range.start..range.end.min(range.start + IMAP_HEADER_BYTES_MAX);
        let kind = Kind::Fields {
            names,
            not,
            partial,
            header: Vec::new(),
        };
        Body::new(name, range, kind)
    }

    /// The first words of a part.
    pub(super) fn preview(part: Part, strings: Strings) -> Body {
        let start = u64::from(part.header.start);
        let (body, end) = (u64::from(part.body.start), u64::from(part.body.end));
        let end = end.min(body + PREVIEW_SOURCE_BYTES_MAX as u64 + 1);
        // Of a header without measure only the charset would be wanted.
        let start = if body - start > IMAP_HEADER_BYTES_MAX {
            body
        } else {
            start
        };
        let kind = Kind::Preview {
            part: Box::new(part),
            strings,
            source: Vec::new(),
        };
        Body::new(Vec::new(), start..end, kind)
    }

    /// A part without its transfer encoding, or only how long that is.
    pub(super) fn binary(
        name: Vec<u8>,
        range: Range<u64>,
        encoding: Encoding,
        partial: Option<(u64, u64)>,
        size_only: bool,
    ) -> Body {
        let kind = Kind::Binary(Box::new(Binary {
            decoder: TransferDecoder::new(encoding),
            encoding,
            partial,
            size_only,
            whole: range.clone(),
            count: 0,
            has_nul: false,
            send: None,
        }));
        Body::new(name, range, kind)
    }

    /// A literal has been announced: its bytes are owed.
    pub(super) fn is_announced(&self) -> bool {
        self.announced
    }

    /// The bytes cannot be read: the item is `NIL`.
    pub(super) fn fail(&mut self) {
        self.failed = true;
    }

    /// Takes what was read; `false`: it is not as much as was asked for.
    pub(super) fn take(&mut self, data: Vec<u8>) -> bool {
        let fits = data.len() == self.asked as usize;
        if fits {
            self.range.start += data.len() as u64;
            self.piece = Some(data);
        }
        fits
    }

    /// Goes on by one step.
    pub(super) fn go(&mut self, out: &mut Vec<u8>) -> Piece {
        if self.failed {
            out.append(&mut self.name);
            let is_size = matches!(&self.kind, Kind::Binary(binary) if binary.size_only);
            // RFC 3516 §4.2: a size is a number.
            out.extend_from_slice(if is_size { b"0" } else { b"NIL" });
            return Piece::Done;
        }
        if let Some(piece) = self.piece.take() {
            return self.use_piece(&piece, out);
        }
        let left = self.range.end.saturating_sub(self.range.start);
        let is_sent = matches!(&self.kind, Kind::Binary(binary)
            if matches!(binary.send, Some((_, 0))) && self.announced);
        if left > 0 && !is_sent {
            let length =
                u32::try_from(left).map_or(IMAP_READ_BYTES, |left| left.min(IMAP_READ_BYTES));
            self.asked = length;
            return Piece::Read {
                offset: self.range.start,
                length,
            };
        }
        self.end(out)
    }

    fn announce(&mut self, bytes: u64, binary: bool, out: &mut Vec<u8>) {
        if self.announced {
            return;
        }
        self.announced = true;
        out.append(&mut self.name);
        if binary {
            out.push(b'~');
        }
        out.push(b'{');
        write::number(bytes, out);
        out.extend_from_slice(b"}\r\n");
    }

    fn use_piece(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Piece {
        match &mut self.kind {
            Kind::Stream => {
                let bytes = piece.len() as u64 + (self.range.end - self.range.start);
                self.announce(bytes, false, out);
                out.extend_from_slice(piece);
            }
            Kind::Fields { header, .. } => header.extend_from_slice(piece),
            Kind::Preview { source, .. } => source.extend_from_slice(piece),
            Kind::Binary(binary) => {
                let mut decoded = Vec::new();
                binary.decoder.feed(piece, &mut decoded);
                binary.take(&decoded, out);
            }
        }
        Piece::Written
    }

    /// Everything is read.
    fn end(&mut self, out: &mut Vec<u8>) -> Piece {
        match &mut self.kind {
            Kind::Stream => self.announce(0, false, out),
            Kind::Fields {
                names,
                not,
                partial,
                header,
            } => {
                let fields = filter_fields(header, names, *not);
                let range = part_of(0..fields.len() as u64, *partial);
                // Within the length of what is in memory.
                let wanted = fields[range.start as usize..range.end as usize].to_vec();
                self.announce(wanted.len() as u64, false, out);
                out.extend_from_slice(&wanted);
            }
            Kind::Preview {
                part,
                strings,
                source,
            } => {
                let header_bytes = (part.body.start - part.header.start) as usize;
                let (header, body) = match source.split_at_checked(header_bytes) {
                    Some(split) if self.range.end > u64::from(part.body.start) => split,
                    _ => (&[][..], &source[..]),
                };
                write_string(preview(part, header, body).as_bytes(), *strings, out);
            }
            Kind::Binary(binary) => {
                let mut decoded = Vec::new();
                binary.decoder.finish(&mut decoded);
                binary.take(&decoded, out);
                if binary.send.is_some() {
                    return match binary.send {
                        Some((_, 0)) => Piece::Done,
                        _ => Piece::Broken,
                    };
                }
                if binary.size_only {
                    let count = binary.count;
                    out.append(&mut self.name);
                    write::number(count, out);
                    return Piece::Done;
                }
                let wanted = part_of(0..binary.count, binary.partial);
                binary.send = Some((wanted.start, wanted.end - wanted.start));
                binary.decoder = TransferDecoder::new(binary.encoding);
                let has_nul = binary.has_nul;
                self.range = binary.whole.clone();
                self.announce(wanted.end - wanted.start, has_nul, out);
                return if wanted.is_empty() {
                    Piece::Done
                } else {
                    Piece::Written
                };
            }
        }
        Piece::Done
    }
}

impl Binary {
    /// Counts decoded bytes, or sends those that are wanted.
    fn take(&mut self, decoded: &[u8], out: &mut Vec<u8>) {
        match &mut self.send {
            None => {
                self.count += decoded.len() as u64;
                self.has_nul |= decoded.contains(&0);
            }
            Some((skip, left)) => {
                let skipped = decoded
                    .len()
                    .min(usize::try_from(*skip).unwrap_or(usize::MAX));
                *skip -= skipped as u64;
                let rest = &decoded[skipped..];
                let sent = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= sent as u64;
                out.extend_from_slice(&rest[..sent]);
            }
        }
    }
}

/// What a partial fetch names of a range (RFC 9051 §6.4.5): nothing behind its end.
fn part_of(range: Range<u64>, partial: Option<(u64, u64)>) -> Range<u64> {
    let Some((offset, length)) = partial else {
        return range;
    };
    let start = range.start.saturating_add(offset).min(range.end);
    start..start.saturating_add(length).min(range.end)
}
