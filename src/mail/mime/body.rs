//! BODY and BODYSTRUCTURE (RFC 9051 §7.5.2): the tree of parts as IMAP shows it.
//!
//! Guarantees: one `body` of the grammar, whatever the message; BODY is BODYSTRUCTURE with its
//! extension data cut out, so both come from one text.
//! Does not know: what is in the parts.

use std::io::Write;
use std::ops::Range;

use super::envelope::EnvelopeData;
use super::fields::{FieldName, unfold};
use super::params::{MediaType, Parameters, parse_disposition, parse_languages, parse_media_type};
use super::parts::Kind;
use super::scan::Structure;
use super::strings::{Strings, write_nstring, write_string, write_text};

/// The text of BODYSTRUCTURE, and what of it BODY leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BodyStructure {
    /// What FETCH BODYSTRUCTURE shows.
    pub text: Vec<u8>,
    /// The extension data in it, in order.
    pub extensions: Vec<Range<u32>>,
}

impl BodyStructure {
    /// That of a whole message.
    pub fn new(structure: &Structure, strings: Strings) -> BodyStructure {
        let mut writer = Writer {
            structure,
            strings,
            out: BodyStructure::default(),
        };
        writer.part(0);
        writer.out
    }

    /// What FETCH BODY shows.
    pub fn write_body(&self, out: &mut Vec<u8>) {
        write_without(&self.text, self.extensions.iter().cloned(), out);
    }
}

/// Writes `text` without what lies in `cuts`, which are in order and within it.
pub(super) fn write_without(
    text: &[u8],
    cuts: impl Iterator<Item = Range<u32>>,
    out: &mut Vec<u8>,
) {
    let mut at = 0;
    for cut in cuts {
        out.extend_from_slice(&text[at..cut.start as usize]);
        at = cut.end as usize;
    }
    out.extend_from_slice(&text[at..]);
}

struct Writer<'a> {
    structure: &'a Structure,
    strings: Strings,
    out: BodyStructure,
}

impl Writer<'_> {
    /// ```text
    /// body = "(" (body-type-1part / body-type-mpart) ")"
    /// ```
    ///
    /// The depth of the table is bounded, and so is that of the calls.
    fn part(&mut self, index: usize) {
        let structure = self.structure;
        let content_type = unfold(
            structure
                .value(index, FieldName::ContentType)
                .unwrap_or_default(),
        );
        let mut media_type =
            parse_media_type(&content_type).unwrap_or_else(|| MediaType::default_in(false));
        let kind = structure.parts().as_slice()[index].kind;
        match kind {
            // What is not taken apart must not look as if it were.
            Kind::Opaque => (media_type.main, media_type.sub) = (b"application", b"octet-stream"),
            Kind::Text if !media_type.is_main(b"text") => {
                media_type = MediaType::default_in(false);
            }
            Kind::Message if !media_type.is_message() => media_type = MediaType::default_in(true),
            _ => {}
        }
        self.push(b"(");
        match kind {
            Kind::Multipart => self.multipart(index, &media_type),
            _ => self.single(index, kind, &media_type),
        }
        self.push(b")");
    }

    /// ```text
    /// body-type-mpart = 1*body SP media-subtype [SP body-ext-mpart]
    /// body-ext-mpart  = body-fld-param [SP body-fld-dsp [SP body-fld-lang [SP body-fld-loc
    ///                   *(SP body-extension)]]]
    /// ```
    fn multipart(&mut self, index: usize, media_type: &MediaType<'_>) {
        let parts = self.structure.parts();
        for child in parts.children(index) {
            self.part(child);
        }
        self.push(b" ");
        self.string(media_type.sub);
        let start = self.out.text.len() as u32;
        self.push(b" ");
        self.parameters(&media_type.parameters);
        self.end_extensions(index, start);
    }

    /// ```text
    /// body-type-1part = (body-type-basic / body-type-msg / body-type-text) [SP body-ext-1part]
    /// body-fields     = body-fld-param SP body-fld-id SP body-fld-desc SP body-fld-enc SP
    ///                   body-fld-octets
    /// body-ext-1part  = body-fld-md5 [SP body-fld-dsp [SP body-fld-lang [SP body-fld-loc
    ///                   *(SP body-extension)]]]
    /// ```
    fn single(&mut self, index: usize, kind: Kind, media_type: &MediaType<'_>) {
        let structure = self.structure;
        let part = &structure.parts().as_slice()[index];
        self.string(media_type.main);
        self.push(b" ");
        self.string(media_type.sub);
        self.push(b" ");
        self.parameters(&media_type.parameters);
        self.push(b" ");
        self.nstring(index, FieldName::ContentId);
        self.push(b" ");
        match structure.value(index, FieldName::ContentDescription) {
            None => self.push(b"NIL"),
            Some(value) => write_text(&unfold(value), self.strings, &mut self.out.text),
        }
        self.push(b" ");
        let encoding = structure.value(index, FieldName::ContentTransferEncoding);
        match unfold(encoding.unwrap_or_default())
            .split(|byte| b"; \t(".contains(byte))
            .next()
        {
            None | Some(b"") => self.push(b"\"7BIT\""),
            Some(encoding) => self.string(encoding),
        }
        self.push(b" ");
        self.number(part.body.end - part.body.start);
        if kind == Kind::Message {
            self.push(b" ");
            EnvelopeData::new(structure, index + 1).write(self.strings, &mut self.out.text);
            self.push(b" ");
            self.part(index + 1);
        }
        if matches!(kind, Kind::Message | Kind::Text) {
            self.push(b" ");
            self.number(part.lines);
        }
        let start = self.out.text.len() as u32;
        self.push(b" ");
        self.nstring(index, FieldName::ContentMd5);
        self.end_extensions(index, start);
    }

    /// Disposition, language and location, which both kinds end with.
    fn end_extensions(&mut self, index: usize, start: u32) {
        self.push(b" ");
        let disposition = self.structure.value(index, FieldName::ContentDisposition);
        match parse_disposition(&unfold(disposition.unwrap_or_default())) {
            None => self.push(b"NIL"),
            Some((kind, parameters)) => {
                self.push(b"(");
                self.string(kind);
                self.push(b" ");
                self.parameters(&parameters);
                self.push(b")");
            }
        }
        self.push(b" ");
        let languages = self.structure.value(index, FieldName::ContentLanguage);
        match parse_languages(&unfold(languages.unwrap_or_default())).as_slice() {
            [] => self.push(b"NIL"),
            [only] => self.string(only),
            several => {
                for (nth, tag) in several.iter().enumerate() {
                    self.push(if nth == 0 { b"(" } else { b" " });
                    self.string(tag);
                }
                self.push(b")");
            }
        }
        self.push(b" ");
        self.nstring(index, FieldName::ContentLocation);
        let end = self.out.text.len() as u32;
        self.out.extensions.push(start..end);
    }

    /// ```text
    /// body-fld-param = "(" string SP string *(SP string SP string) ")" / nil
    /// ```
    fn parameters(&mut self, parameters: &Parameters<'_>) {
        if parameters.is_empty() {
            self.push(b"NIL");
            return;
        }
        for (nth, (name, value)) in parameters.iter().enumerate() {
            self.push(if nth == 0 { b"(" } else { b" " });
            self.string(name);
            self.push(b" ");
            self.string(value);
        }
        self.push(b")");
    }

    fn nstring(&mut self, index: usize, name: FieldName) {
        let value = self.structure.value(index, name).map(unfold);
        write_nstring(value.as_deref(), self.strings, &mut self.out.text);
    }

    fn string(&mut self, text: &[u8]) {
        write_string(text, self.strings, &mut self.out.text);
    }

    fn number(&mut self, number: u32) {
        write!(self.out.text, "{number}").expect("writing to a Vec does not fail");
    }

    fn push(&mut self, text: &[u8]) {
        self.out.text.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests;
