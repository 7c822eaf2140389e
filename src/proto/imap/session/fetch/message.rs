//! The response for one message of FETCH: its items, one after the other (RFC 9051 §7.5.2).
//!
//! Guarantees: an item that cannot be written leaves no byte.
//! Does not know: which messages there are, and when the output is full.

use super::super::super::command::{Item, Section, SectionText, Shape};
use super::super::super::{Row, write};
use super::super::body::Body;
use super::super::finish::Finish;
use super::super::section::{write_origin, write_part, write_section};
use super::super::sync::{begin_fetch, write_modseq};
use super::super::{Enabled, Selected};
use crate::mail::mime::{FieldNames, Parts, Strings, Summary};

/// The message that is being written.
pub(super) struct Current {
    pub(super) row: Row,
    number: u32,
    /// This command has marked it as seen, which the client is to know.
    pub(super) is_marked: bool,
    /// The response is UIDFETCH.
    uidonly: bool,
    summary: Option<Vec<u8>>,
    parts: Option<Parts>,
    /// The next item, and whether something is written already.
    pub(super) item: usize,
    pub(super) is_open: bool,
    pub(super) body: Option<Body>,
}

impl Current {
    /// Nothing of it is written.
    pub(super) fn new(row: Row, number: u32, uidonly: bool, summary: Option<Vec<u8>>) -> Current {
        Current {
            row,
            number,
            is_marked: false,
            uidonly,
            summary,
            parts: None,
            item: 0,
            is_open: false,
            body: None,
        }
    }

    /// Starts the response, or the next item.
    pub(super) fn open(&mut self, out: &mut Vec<u8>) {
        if self.is_open {
            out.push(b' ');
            return;
        }
        self.is_open = true;
        let told = Enabled {
            uidonly: self.uidonly,
            ..Enabled::default()
        };
        begin_fetch(self.number, self.row.uid, told, out);
    }

    /// The parts of the message, decoded once.
    fn parts(&mut self) -> Result<&Parts, Finish> {
        if self.parts.is_none() {
            let parts = self
                .summary
                .as_deref()
                .and_then(|bytes| Summary::decode(bytes).ok())
                .and_then(|summary| summary.parts().ok())
                .ok_or_else(Finish::confused)?;
            self.parts = Some(parts);
        }
        self.parts.as_ref().ok_or_else(Finish::confused)
    }

    /// Writes an item, or prepares the reading of its bytes. One that cannot be written is left out.
    pub(super) fn write(
        &mut self,
        item: &Item,
        selected: &Selected,
        strings: Strings,
        out: &mut Vec<u8>,
    ) -> Result<(), Finish> {
        let before = (out.len(), self.is_open);
        let written = self.write_item(item, selected, strings, out);
        if written.is_err() {
            out.truncate(before.0);
            self.is_open = before.1;
        }
        written
    }

    fn write_item(
        &mut self,
        item: &Item,
        selected: &Selected,
        strings: Strings,
        out: &mut Vec<u8>,
    ) -> Result<(), Finish> {
        self.open(out);
        let row = self.row;
        match item {
            Item::Flags => write::flags(row.flags, row.keywords, &selected.keywords, out),
            Item::Uid => {
                out.extend_from_slice(b"UID ");
                write::number(row.uid, out);
            }
            Item::InternalDate => {
                out.extend_from_slice(b"INTERNALDATE ");
                write::date_time(row.date_ms, out);
            }
            Item::Size => {
                out.extend_from_slice(b"RFC822.SIZE ");
                write::number(row.bytes, out);
            }
            Item::ModSeq => write_modseq(row.modseq, out),
            Item::EmailId => {
                out.extend_from_slice(b"EMAILID (M");
                write::number(selected.id_space, out);
                out.push(b'-');
                write::number(row.email_id, out);
                out.push(b')');
            }
            // RFC 8474 §5.2: NIL where a server does not thread.
            Item::ThreadId => out.extend_from_slice(b"THREADID NIL"),
            Item::SaveDate => {
                out.extend_from_slice(b"SAVEDATE ");
                write::date_time(row.saved_ms, out);
            }
            Item::Envelope | Item::Structure { .. } => {
                let bytes = self.summary.as_deref().unwrap_or_default();
                let summary = Summary::decode(bytes).map_err(|_| Finish::confused())?;
                match item {
                    Item::Envelope => {
                        out.extend_from_slice(b"ENVELOPE ");
                        out.extend_from_slice(summary.envelope(strings));
                    }
                    Item::Structure { extended: true } => {
                        out.extend_from_slice(b"BODYSTRUCTURE ");
                        out.extend_from_slice(summary.body_structure(strings));
                    }
                    _ => {
                        out.extend_from_slice(b"BODY ");
                        summary.write_body(strings, out);
                    }
                }
            }
            Item::Preview(_) => {
                out.extend_from_slice(b"PREVIEW ");
                let parts = self.parts()?;
                match parts.preview_part() {
                    None => out.extend_from_slice(b"\"\""),
                    Some(index) => {
                        let part = parts.as_slice()[index].clone();
                        self.body = Some(Body::preview(part, strings));
                    }
                }
            }
            Item::Body {
                section,
                partial,
                shape,
                ..
            } => self.write_body(section, *partial, *shape, out)?,
            Item::Binary { part, partial, .. } => {
                let mut name = b"BINARY[".to_vec();
                write_part(part, &mut name);
                name.push(b']');
                if let Some((origin, _)) = partial {
                    write_origin(*origin, &mut name);
                }
                self.write_binary(part, *partial, name, false, out)?;
            }
            Item::BinarySize(part) => {
                let mut name = b"BINARY.SIZE[".to_vec();
                write_part(part, &mut name);
                name.push(b']');
                self.write_binary(part, None, name, true, out)?;
            }
        }
        Ok(())
    }

    fn write_body(
        &mut self,
        section: &Section,
        partial: Option<(u64, u64)>,
        shape: Shape,
        out: &mut Vec<u8>,
    ) -> Result<(), Finish> {
        let mut name = match shape {
            Shape::Body => {
                let mut name = b"BODY".to_vec();
                write_section(section, &mut name);
                name
            }
            Shape::Rfc822 => b"RFC822".to_vec(),
            Shape::Rfc822Header => b"RFC822.HEADER".to_vec(),
            Shape::Rfc822Text => b"RFC822.TEXT".to_vec(),
        };
        if let Some((origin, _)) = partial {
            write_origin(origin, &mut name);
        }
        name.push(b' ');
        let range = if section.part.is_empty() && section.text == SectionText::All {
            Some(0..self.row.bytes)
        } else {
            use crate::mail::mime::SectionText as Of;
            let of = match section.text {
                SectionText::All => Of::Whole,
                SectionText::Header | SectionText::Fields { .. } => Of::Header,
                SectionText::Text => Of::Text,
                SectionText::Mime => Of::Mime,
            };
            let range = self.parts()?.section(&section.part, of);
            range.map(|range| u64::from(range.start)..u64::from(range.end))
        };
        let Some(range) = range else {
            out.extend_from_slice(&name);
            out.extend_from_slice(b"NIL");
            return Ok(());
        };
        self.body = Some(match &section.text {
            SectionText::Fields { names, not } => {
                Body::fields(name, range, FieldNames::new(names), *not, partial)
            }
            _ => Body::stream(name, range, partial),
        });
        Ok(())
    }

    fn write_binary(
        &mut self,
        part: &[u32],
        partial: Option<(u64, u64)>,
        mut name: Vec<u8>,
        size_only: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Finish> {
        use crate::mail::mime::{Encoding, Kind};
        name.push(b' ');
        let bytes = self.row.bytes;
        let parts = self.parts()?;
        let found = parts.find(part).map(|index| &parts.as_slice()[index]);
        let (range, encoding) = match found {
            None => {
                out.extend_from_slice(&name);
                out.extend_from_slice(if size_only { b"0" } else { b"NIL" });
                return Ok(());
            }
            Some(_) if part.is_empty() => (0..bytes, Encoding::Identity),
            Some(part) => {
                let range = u64::from(part.body.start)..u64::from(part.body.end);
                // RFC 3516 §4.2: of a multipart there is nothing to decode.
                let is_leaf = !matches!(part.kind, Kind::Multipart | Kind::Message);
                (
                    range,
                    if is_leaf {
                        part.encoding
                    } else {
                        Encoding::Identity
                    },
                )
            }
        };
        if encoding == Encoding::Unknown {
            // RFC 3516 §4.3.
            return Err(Finish::no(
                "UNKNOWN-CTE",
                "a part's transfer encoding is not known",
            ));
        }
        self.body = Some(Body::binary(name, range, encoding, partial, size_only));
        Ok(())
    }
}
