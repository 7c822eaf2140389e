//! Takes a message apart: reads it once, piece by piece, and notes where its parts are and which
//! fields describe them.
//!
//! Guarantees: the same answer however the message is cut into pieces; time linear in the message
//! (times the nesting, bounded, where lines look like boundaries); memory bounded by
//! [`crate::limits`], whatever the message. Parts beyond the bounds become one opaque part.
//! Does not know: how a part is shown or decoded. Nothing is an error here: any bytes are a message.

use super::fields::{FieldName, line_name, unfold};
use super::params::{MediaType, parse_media_type};
use super::parts::{Charset, Encoding, Kind, Part, Parts};
use crate::limits::{
    MESSAGE_BYTES_MAX, MIME_BOUNDARY_BYTES_MAX, MIME_DEPTH_MAX, MIME_FIELD_BYTES_MAX,
    MIME_FIELDS_BYTES_MAX, MIME_PARTS_MAX,
};

// Offsets are 32 bits wide.
const _: () = assert!(MESSAGE_BYTES_MAX <= u32::MAX as u64);

/// The parts of a message and the fields that describe them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Structure {
    pub(super) parts: Parts,
    fields: Vec<KeptField>,
    /// Values of the fields, folded as sent.
    values: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct KeptField {
    part: u16,
    name: FieldName,
    start: u32,
    end: u32,
}

impl Structure {
    /// Takes apart a message that is in memory.
    pub fn parse(message: &[u8]) -> Structure {
        let mut scanner = Scanner::default();
        scanner.feed(message);
        scanner.finish()
    }

    /// The table of parts.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The values of a part's fields of one name, folded as sent, in the order of the header.
    pub fn values(&self, part: usize, name: FieldName) -> impl Iterator<Item = &[u8]> {
        let first = self
            .fields
            .partition_point(|field| usize::from(field.part) < part);
        self.fields[first..]
            .iter()
            .take_while(move |field| usize::from(field.part) == part)
            .filter(move |field| field.name == name)
            .map(|field| &self.values[field.start as usize..field.end as usize])
    }

    /// Nothing in any of the values is beyond ASCII.
    pub fn is_ascii(&self) -> bool {
        self.values.is_ascii()
    }

    /// The first of [`Structure::values`].
    pub fn value(&self, part: usize, name: FieldName) -> Option<&[u8]> {
        self.values(part, name).next()
    }
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A header's line.
    Header,
    /// A body in which a boundary may come.
    Body,
    /// What no boundary can end.
    Rest,
}

/// A part that has not ended, of the chain from the message to where the reader is.
#[derive(Debug)]
struct Open {
    part: usize,
    /// Of a multipart whose last boundary has not come.
    boundary: Vec<u8>,
    /// `multipart/digest`: its parts are messages unless they say otherwise.
    is_digest: bool,
    /// Line feeds in front of its body.
    lines_before: u32,
}

/// Reads a message; [`Scanner::feed`] takes its pieces, [`Scanner::finish`] gives the answer.
#[derive(Debug)]
pub struct Scanner {
    parts: Vec<Part>,
    fields: Vec<KeptField>,
    values: Vec<u8>,
    open: Vec<Open>,
    place: Place,
    /// The start of a line whose end has not come, up to a bound, and its whole length.
    line: Vec<u8>,
    line_bytes: u32,
    /// Bytes and line feeds behind us; `offset` is the start of `line` while that is not empty.
    offset: u32,
    line_feeds: u32,
    /// In a body: behind a line break (of so many bytes), or in a line that cannot be a boundary.
    at_line_start: bool,
    last_break: u32,
    last_byte: u8,
    /// The last field is kept, so its further lines are as well.
    keeps_field: bool,
}

impl Default for Scanner {
    fn default() -> Scanner {
        let mut scanner = Scanner {
            parts: Vec::new(),
            fields: Vec::new(),
            values: Vec::new(),
            open: Vec::new(),
            place: Place::Header,
            line: Vec::new(),
            line_bytes: 0,
            offset: 0,
            line_feeds: 0,
            at_line_start: true,
            last_break: 0,
            last_byte: 0,
            keeps_field: false,
        };
        scanner.begin_part(0, true);
        scanner
    }
}

impl Scanner {
    /// Reads the next piece. What is behind 4 GiB, which no message of ours has, is left out.
    pub fn feed(&mut self, piece: &[u8]) {
        let room = u32::MAX - self.offset - self.line_bytes;
        let mut rest = &piece[..piece.len().min(room as usize)];
        while let Some(&first) = rest.first() {
            let used = match self.place {
                Place::Rest => self.pass(rest),
                Place::Body if self.line_bytes == 0 && !(self.at_line_start && first == b'-') => {
                    // No boundary begins before the next line that begins with a hyphen.
                    let end = memchr::memmem::find(rest, b"\n-").map_or(rest.len(), |at| at + 1);
                    self.pass(&rest[..end])
                }
                Place::Body | Place::Header => self.feed_line(rest),
            };
            self.last_byte = rest[used - 1];
            rest = &rest[used..];
        }
    }

    /// The parts of what was fed.
    pub fn finish(mut self) -> Structure {
        if self.line_bytes > 0 {
            let line = std::mem::take(&mut self.line);
            self.end_line(&line, 0);
        }
        self.last_break = 0;
        self.close_parts(0);
        for index in 0..self.parts.len() {
            let part = &mut self.parts[index];
            // RFC 9051 has no form for a multipart without parts.
            if part.kind == Kind::Multipart && usize::from(part.descendants_end) == index + 1 {
                part.kind = Kind::Text;
            }
        }
        Structure {
            parts: Parts(self.parts),
            fields: self.fields,
            values: self.values,
        }
    }

    /// Goes over bytes of a body that hold no boundary.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        self.offset += bytes.len() as u32;
        self.line_feeds += memchr::memchr_iter(b'\n', bytes).count() as u32;
        self.at_line_start = bytes.ends_with(b"\n");
        if self.at_line_start {
            let before = match bytes.len() {
                1 => self.last_byte,
                len => bytes[len - 2],
            };
            self.last_break = 1 + u32::from(before == b'\r');
        }
        bytes.len()
    }

    /// Takes what belongs to the line that has begun, and acts on it when it is complete.
    fn feed_line(&mut self, bytes: &[u8]) -> usize {
        let Some(at) = memchr::memchr(b'\n', bytes) else {
            self.hold(bytes);
            return bytes.len();
        };
        let piece = &bytes[..=at];
        let before = match at {
            0 => self.last_byte,
            _ => piece[at - 1],
        };
        let line_break = 1 + u32::from(before == b'\r');
        if self.line_bytes == 0 {
            self.line_bytes = piece.len() as u32;
            self.end_line(piece, line_break);
        } else {
            self.hold(piece);
            let mut line = std::mem::take(&mut self.line);
            self.end_line(&line, line_break);
            line.clear();
            self.line = line;
        }
        piece.len()
    }

    /// Remembers more of a line whose end has not come.
    fn hold(&mut self, piece: &[u8]) {
        let room = MIME_FIELD_BYTES_MAX.saturating_sub(self.line.len());
        self.line.extend_from_slice(&piece[..piece.len().min(room)]);
        self.line_bytes += piece.len() as u32;
    }

    /// Acts on a line that ends with a break of so many bytes; a very long one has lost its end.
    fn end_line(&mut self, line: &[u8], line_break: u32) {
        let next = self.offset + self.line_bytes;
        if !self.take_boundary(line, next) && self.place == Place::Header {
            if matches!(line, b"\r\n" | b"\n") {
                self.end_header(next);
            } else {
                self.keep_line(line);
            }
        }
        self.offset = next;
        self.line_bytes = 0;
        self.line_feeds += u32::from(line_break > 0);
        self.at_line_start = true;
        self.last_break = line_break;
    }

    /// RFC 2046 §5.1.1: a boundary counts when the line begins with it. Lines that are exactly one
    /// come first, so that one boundary may be the start of another.
    fn take_boundary(&mut self, line: &[u8], next: u32) -> bool {
        let Some(text) = line.strip_prefix(b"--") else {
            return false;
        };
        let text = text.trim_ascii_end();
        let with_boundary = || {
            let open = self.open.iter().enumerate().rev();
            open.filter(|(_, open)| !open.boundary.is_empty())
        };
        let exact = with_boundary().find_map(|(index, open)| {
            match text.strip_prefix(&open.boundary[..])? {
                b"" => Some((index, false)),
                b"--" => Some((index, true)),
                _ => None,
            }
        });
        let starting = || {
            with_boundary()
                .filter_map(|(index, open)| Some((index, text.strip_prefix(&open.boundary[..])?)))
                .min_by_key(|(_, behind)| behind.len())
                .map(|(index, behind)| (index, behind.starts_with(b"--")))
        };
        let Some((index, is_last)) = exact.or_else(starting) else {
            return false;
        };
        self.close_parts(index + 1);
        if is_last {
            self.open[index].boundary.clear();
            self.place = self.body_place();
        } else {
            self.begin_part(next, false);
        }
        true
    }

    /// How to read a body inside what is open.
    fn body_place(&self) -> Place {
        match self.open.iter().any(|open| !open.boundary.is_empty()) {
            true => Place::Body,
            false => Place::Rest,
        }
    }

    fn begin_part(&mut self, start: u32, is_root: bool) {
        let index = self.parts.len();
        self.keeps_field = false;
        self.place = Place::Header;
        self.parts.push(Part {
            kind: Kind::Text,
            encoding: Encoding::Identity,
            charset: Charset::Utf8,
            is_html: false,
            is_root,
            parent: self.open.last().map_or(0, |open| open.part as u16),
            descendants_end: 0,
            header: start..start,
            body: start..start,
            lines: 0,
        });
        self.open.push(Open {
            part: index,
            boundary: Vec::new(),
            is_digest: false,
            lines_before: self.line_feeds + u32::from(index > 0),
        });
        if index + 1 == MIME_PARTS_MAX {
            self.parts[index].kind = Kind::Opaque;
            self.place = Place::Rest;
        }
    }

    /// Ends the innermost parts, all but so many, where the line that has been read begins.
    fn close_parts(&mut self, remaining: usize) {
        let at = self.offset;
        let count = self.parts.len() as u16;
        if self.place == Place::Header && self.open.len() > remaining {
            // Its header has no end, so it has no body to look into.
            self.describe(false);
        }
        // The line break in front of a boundary belongs to the boundary (RFC 2046 §5.1.1). A header
        // that ends there keeps its empty line, unless the part around it ends there as well.
        let end = at - self.last_break;
        let mut limit = at;
        for open in self.open.drain(remaining..) {
            let part = &mut self.parts[open.part];
            part.descendants_end = count;
            if self.place == Place::Header && open.part + 1 == usize::from(count) {
                part.header.end = end.max(part.header.start);
                part.body.start = part.header.end;
            }
            part.body.end = end.max(part.body.start);
            for offset in [
                &mut part.header.start,
                &mut part.header.end,
                &mut part.body.start,
                &mut part.body.end,
            ] {
                *offset = limit.min(*offset);
            }
            if !part.body.is_empty() {
                part.lines = self.line_feeds - open.lines_before - u32::from(part.body.end < at);
            }
            limit = part.body.end;
        }
    }

    /// The header of the innermost part is complete, and its body begins.
    fn end_header(&mut self, body_start: u32) {
        let index = self.parts.len() - 1;
        let may_nest = self.open.len() < MIME_DEPTH_MAX && index + 1 < MIME_PARTS_MAX;
        let (boundary, is_digest) = self.describe(may_nest);
        let part = &mut self.parts[index];
        part.header.end = body_start;
        part.body = body_start..body_start;
        let is_message = part.kind == Kind::Message;
        if let Some(open) = self.open.last_mut() {
            open.boundary = boundary;
            open.is_digest = is_digest;
            // The line that ends the header is not counted yet.
            open.lines_before = self.line_feeds + 1;
        }
        if is_message {
            self.begin_part(body_start, true);
        } else {
            self.place = self.body_place();
        }
    }

    /// Notes what the innermost part is by its header; returns the boundary of a multipart, and
    /// whether it is a digest.
    fn describe(&mut self, may_nest: bool) -> (Vec<u8>, bool) {
        let index = self.parts.len() - 1;
        let in_digest = match self.open.as_slice() {
            [.., parent, _] => parent.is_digest && !self.parts[index].is_root,
            _ => false,
        };
        let content_type = unfold(self.last_value(FieldName::ContentType).unwrap_or_default());
        let media_type =
            parse_media_type(&content_type).unwrap_or_else(|| MediaType::default_in(in_digest));
        let encoding = parse_encoding(
            self.last_value(FieldName::ContentTransferEncoding)
                .unwrap_or_default(),
        );
        let boundary = media_type.parameter(b"boundary").unwrap_or_default();
        let kind = if media_type.is_main(b"multipart") {
            match boundary.len() {
                1..=MIME_BOUNDARY_BYTES_MAX if may_nest => Kind::Multipart,
                1..=MIME_BOUNDARY_BYTES_MAX => Kind::Opaque,
                _ => Kind::Text,
            }
        } else if media_type.is_message() {
            match may_nest && encoding == Encoding::Identity {
                true => Kind::Message,
                false => Kind::Opaque,
            }
        } else if media_type.is_main(b"text") {
            Kind::Text
        } else {
            Kind::Basic
        };
        let is_multipart = kind == Kind::Multipart;
        let boundary = boundary[..if is_multipart { boundary.len() } else { 0 }].to_vec();
        let is_digest = is_multipart && media_type.is_sub(b"digest");
        let charset = parse_charset(media_type.parameter(b"charset").unwrap_or_default());
        let is_html = kind == Kind::Text && media_type.is_sub(b"html");
        let part = &mut self.parts[index];
        part.kind = kind;
        part.encoding = encoding;
        part.charset = charset;
        part.is_html = is_html;
        (boundary, is_digest)
    }

    /// The first value of that name of the part whose header is being read.
    fn last_value(&self, name: FieldName) -> Option<&[u8]> {
        let part = (self.parts.len() - 1) as u16;
        self.fields
            .iter()
            .rev()
            .take_while(|field| field.part == part)
            .filter(|field| field.name == name)
            .last()
            .map(|field| &self.values[field.start as usize..field.end as usize])
    }

    /// Keeps a line of a header if it is of use.
    fn keep_line(&mut self, line: &[u8]) {
        let value = if matches!(line, [b' ' | b'\t', ..]) {
            if !self.keeps_field {
                return;
            }
            line
        } else {
            self.keeps_field = false;
            let index = self.parts.len() - 1;
            let is_root = self.parts[index].is_root;
            let wanted = |name: &FieldName| {
                name.is_content() || is_root && (index == 0 || *name != FieldName::References)
            };
            let Some(name) = line_name(line).and_then(FieldName::parse).filter(wanted) else {
                return;
            };
            let start = self.values.len() as u32;
            self.keeps_field = true;
            self.fields.push(KeptField {
                part: index as u16,
                name,
                start,
                end: start,
            });
            let colon = memchr::memchr(b':', line).map_or(0, |at| at + 1);
            &line[colon..]
        };
        if let Some(field) = self.fields.last_mut() {
            let used = (field.end - field.start) as usize;
            let room = (MIME_FIELD_BYTES_MAX - used)
                .min(MIME_FIELDS_BYTES_MAX.saturating_sub(self.values.len()));
            self.values
                .extend_from_slice(&value[..value.len().min(room)]);
            field.end = self.values.len() as u32;
        }
    }
}

fn parse_encoding(value: &[u8]) -> Encoding {
    let value = value.trim_ascii();
    let end = value
        .iter()
        .position(|byte| byte.is_ascii_whitespace() || matches!(byte, b';' | b'('))
        .unwrap_or(value.len());
    let is = |name: &[u8]| value[..end].eq_ignore_ascii_case(name);
    if is(b"base64") {
        Encoding::Base64
    } else if is(b"quoted-printable") {
        Encoding::QuotedPrintable
    } else if end == 0 || is(b"7bit") || is(b"8bit") || is(b"binary") {
        Encoding::Identity
    } else {
        Encoding::Unknown
    }
}

/// The charset of a `charset` parameter; none is US-ASCII, which UTF-8 contains.
fn parse_charset(name: &[u8]) -> Charset {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    if name.is_empty() || ["utf-8", "us-ascii", "utf8", "ascii"].into_iter().any(is) {
        Charset::Utf8
    } else if ["iso-8859-1", "windows-1252", "latin1", "cp1252"]
        .into_iter()
        .any(is)
    {
        Charset::Latin1
    } else {
        Charset::Other
    }
}

#[cfg(test)]
mod tests;
