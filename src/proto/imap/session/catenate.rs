//! What a URL of CATENATE (RFC 4469) brings into a message: found, then read in pieces.
//!
//! Guarantees: at most one piece is held, and of header fields the header, which has its bound.
//! Does not know: where the bytes go.
//! On failure: `[BADURL]` where the URL names nothing.

use std::ops::Range;

use super::super::command::SectionText;
use super::super::names;
use super::super::url::Url;
use super::super::{Answer, Ask, Refusal};
use super::finish::Finish;
use crate::limits::{IMAP_HEADER_BYTES_MAX, IMAP_READ_BYTES};
use crate::mail::mime::{self, Summary, filter_fields};

/// Bytes of a URL that are told back in `[BADURL]`.
const TOLD_BYTES_MAX: usize = 1000;

/// A part on its way.
pub(super) struct Part {
    raw: Vec<u8>,
    url: Url,
    /// Decoded.
    mailbox: Option<String>,
    is_found: bool,
    /// Of the message, not read yet.
    range: Range<u64>,
    /// Bytes of the read that is out.
    asked: u32,
    /// Of which fields are chosen, read so far.
    header: Vec<u8>,
}

impl Part {
    /// # Errors
    /// `NO [BADURL]`.
    pub(super) fn new(raw: Vec<u8>) -> Result<Part, Finish> {
        let url = Url::parse(&raw).map_err(|text| bad_url(&raw, text))?;
        let decode = |name: &[u8]| names::decode(name, true);
        let mailbox = url.mailbox.as_deref().map(decode).transpose();
        let mailbox = mailbox.map_err(|error| bad_url(&raw, error.to_string()))?;
        Ok(Part {
            raw,
            url,
            mailbox,
            is_found: false,
            range: 0..0,
            asked: 0,
            header: Vec::new(),
        })
    }

    /// Bytes of memory held beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        self.raw.capacity() + self.header.capacity()
    }

    /// Bytes that will come at most; 0 before it is found.
    pub(super) fn bytes_left(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// What to ask next; `None`: that was all.
    pub(super) fn next(&mut self) -> Option<Ask> {
        if !self.is_found {
            let section = &self.url.section;
            return Some(Ask::Source {
                name: self.mailbox.clone(),
                validity: self.url.validity,
                uid: self.url.uid,
                inside: !section.part.is_empty() || section.text != SectionText::All,
            });
        }
        let length = self.bytes_left().min(u64::from(IMAP_READ_BYTES)) as u32;
        self.asked = length;
        (length > 0).then_some(Ask::ReadSource {
            offset: self.range.start,
            length,
        })
    }

    /// Takes the answer to what was asked; returns the bytes that it brings.
    ///
    /// # Errors
    /// The answer that the command gets.
    pub(super) fn answer(&mut self, answer: Answer) -> Result<Vec<u8>, Finish> {
        match answer {
            Answer::Source(Ok(source)) => {
                self.is_found = true;
                self.range = self.find(source.bytes, source.summary.as_deref())?;
                Ok(Vec::new())
            }
            Answer::Data(Ok(bytes)) if bytes.len() == self.asked as usize => {
                self.range.start += bytes.len() as u64;
                Ok(self.choose(bytes))
            }
            Answer::Data(Ok(_)) => {
                let refusal = Refusal::Unavailable("message is damaged".to_owned());
                Err(Finish::refused(refusal, false))
            }
            Answer::Source(Err(Refusal::Missing)) => {
                Err(bad_url(&self.raw, "there is no such mailbox"))
            }
            // It may go while it is read.
            Answer::Source(Err(Refusal::Gone))
            | Answer::Data(Err(Refusal::Gone | Refusal::Missing)) => {
                Err(bad_url(&self.raw, "there is no such message"))
            }
            Answer::Source(Err(refusal)) | Answer::Data(Err(refusal)) => {
                Err(Finish::refused(refusal, false))
            }
            _ => Err(Finish::confused()),
        }
    }

    /// Where in the message the part is.
    fn find(&self, bytes: u64, summary: Option<&[u8]>) -> Result<Range<u64>, Finish> {
        use mime::SectionText as Of;
        let section = &self.url.section;
        let of = match section.text {
            SectionText::All if section.part.is_empty() => return Ok(self.part_of(0..bytes)),
            SectionText::All => Of::Whole,
            SectionText::Header | SectionText::Fields { .. } => Of::Header,
            SectionText::Text => Of::Text,
            SectionText::Mime => Of::Mime,
        };
        let parts = summary
            .and_then(|summary| Summary::decode(summary).ok())
            .and_then(|summary| summary.parts().ok())
            .ok_or_else(Finish::confused)?;
        let range = parts
            .section(&section.part, of)
            .ok_or_else(|| bad_url(&self.raw, "the message has no such part"))?;
        let range = u64::from(range.start)..u64::from(range.end);
        if matches!(section.text, SectionText::Fields { .. }) {
            // As in FETCH, what is behind the bound of a header without measure is left out.
            let end = range.end.min(range.start + IMAP_HEADER_BYTES_MAX);
            return Ok(range.start..end);
        }
        Ok(self.part_of(range))
    }

    /// What PARTIAL leaves of it.
    fn part_of(&self, range: Range<u64>) -> Range<u64> {
        let (offset, length) = self.url.partial.unwrap_or((0, None));
        let start = range.start.saturating_add(offset).min(range.end);
        let end = start.saturating_add(length.unwrap_or(u64::MAX));
        start..end.min(range.end)
    }

    /// The bytes as they are, or the fields that are wanted when the header is there.
    fn choose(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        let SectionText::Fields { names, not } = &self.url.section.text else {
            return bytes;
        };
        self.header.extend_from_slice(&bytes);
        if self.bytes_left() > 0 {
            return Vec::new();
        }
        let mut fields = filter_fields(&std::mem::take(&mut self.header), names, *not);
        let part = self.part_of(0..fields.len() as u64);
        // Within `fields`, whose length is a usize.
        fields.truncate(part.end as usize);
        fields.drain(..part.start as usize);
        fields
    }
}

/// `NO [BADURL url]` (RFC 4469 §4).
fn bad_url(url: &[u8], text: impl Into<std::borrow::Cow<'static, str>>) -> Finish {
    let told = url.iter().take(TOLD_BYTES_MAX);
    let told = told.filter(|byte| byte.is_ascii_graphic() && !matches!(byte, b']' | b'\\' | b'"'));
    let mut code = b"BADURL ".to_vec();
    code.extend(told);
    Finish::no(code, text)
}
