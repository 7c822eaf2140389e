//! All that IMAP shows of one message beside its bytes, in some hundred bytes: written once, kept
//! beside the message, sent as it is.
//!
//! ```text
//! 0   version (1)
//! 1   flags: 1 reply, 2 sent date, 4 message id, 8 UTF-8 forms
//! 2   CRC32C of everything behind it, seeded with version and flags, little-endian
//! 6   sent: seconds i64, day i32                    flag 2
//!     message id: u128                              flag 4
//!     references: count, u128 each
//!     sort keys: subject, from, to, cc, display from, display to: each length and bytes
//!     forms, for sessions without UTF-8, then with it (flag 8): each
//!       ENVELOPE: length and bytes
//!       BODYSTRUCTURE: length and bytes; its extension data: count, each distance from the one
//!         before and length
//!     parts: count, each kind | encoding << 4, charset | html << 4 | root << 5, and but for the
//!       first its parent; header's distance from the start of the parent's body, header's bytes,
//!       body's bytes, lines
//! ```
//!
//! Numbers without a width are LEB128: seven bits a byte, the lowest first.
//!
//! Guarantees: what [`Summary::decode`] takes is what [`Summary::encode`] gave, or damage that a
//! CRC cannot see; no bytes make it panic. FETCH answers are copies of what is stored.
//! Does not know: where it is stored. A version that it does not know is an error: make it anew.

use std::borrow::Cow;
use std::ops::Range;

use super::body::{BodyStructure, write_without};
use super::envelope::EnvelopeData;
use super::fields::FieldName;
use super::keys::{Keys, MessageIdHash, SentDate};
use super::parts::{Charset, Encoding, Kind, Part, Parts};
use super::scan::Structure;
use super::strings::Strings;
use super::text::decode_field;
use crate::limits::{MIME_FIELD_BYTES_MAX, MIME_PARTS_MAX, REFERENCES_MAX};

const VERSION: u8 = 1;
const IS_REPLY: u8 = 1;
const HAS_SENT: u8 = 2;
const HAS_MESSAGE_ID: u8 = 4;
const HAS_UTF8: u8 = 8;
const HEAD_BYTES: usize = 6;
const ID_BYTES: usize = 16;
const HTML: u8 = 1 << 4;
const ROOT: u8 = 1 << 5;

/// Why bytes are no summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SummaryError {
    /// Of another version; nothing is wrong with it.
    #[error("summary of version {0}, where {VERSION} is known")]
    Version(u8),
    /// The checksum does not fit.
    #[error("summary with a wrong checksum")]
    Checksum,
    /// It ends too early, or holds what no summary has.
    #[error("summary that cannot be read")]
    Malformed,
}

/// A field of ENVELOPE to search in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EnvelopeField {
    /// SEARCH SUBJECT.
    Subject = 1,
    /// SEARCH FROM.
    From = 2,
    /// SEARCH TO.
    To = 5,
    /// SEARCH CC.
    Cc = 6,
    /// SEARCH BCC.
    Bcc = 7,
}

impl EnvelopeField {
    /// Its name in a header.
    pub fn name(self) -> &'static [u8] {
        match self {
            EnvelopeField::Subject => b"Subject",
            EnvelopeField::From => b"From",
            EnvelopeField::To => b"To",
            EnvelopeField::Cc => b"Cc",
            EnvelopeField::Bcc => b"Bcc",
        }
    }
}

/// A view of an encoded summary.
#[derive(Debug, Clone)]
pub struct Summary<'a> {
    is_reply: bool,
    sent: Option<SentDate>,
    message_id: Option<MessageIdHash>,
    references: &'a [u8],
    /// Subject, from, to, cc, display from, display to.
    keys: [&'a [u8]; 6],
    ascii: Form<'a>,
    utf8: Option<Form<'a>>,
    parts: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
struct Form<'a> {
    envelope: &'a [u8],
    structure: &'a [u8],
    cut_count: usize,
    cuts: &'a [u8],
}

impl<'a> Summary<'a> {
    /// The summary of a message. Worth keeping up to [`crate::limits::SUMMARY_BYTES_MAX`].
    pub fn encode(structure: &Structure) -> Vec<u8> {
        let envelope = EnvelopeData::new(structure, 0);
        let keys = Keys::new(&envelope, structure.value(0, FieldName::References));
        let form = |strings| {
            let mut text = Vec::new();
            envelope.write(strings, &mut text);
            (text, BodyStructure::new(structure, strings))
        };
        let ascii = form(Strings::Ascii);
        // Almost always there is but one form: nothing in the fields is beyond ASCII.
        let has_utf8 = !structure.is_ascii();
        let utf8 = has_utf8.then(|| form(Strings::Utf8));
        let utf8 = utf8.filter(|utf8| *utf8 != ascii);

        let flag = |bit, is_set| if is_set { bit } else { 0 };
        let flags = flag(IS_REPLY, keys.is_reply)
            | flag(HAS_SENT, keys.sent.is_some())
            | flag(HAS_MESSAGE_ID, keys.message_id.is_some())
            | flag(HAS_UTF8, utf8.is_some());
        let mut out = vec![VERSION, flags, 0, 0, 0, 0];
        if let Some(sent) = keys.sent {
            out.extend_from_slice(&sent.unix_seconds.to_le_bytes());
            out.extend_from_slice(&sent.day.to_le_bytes());
        }
        if let Some(id) = keys.message_id {
            out.extend_from_slice(&id.0.to_le_bytes());
        }
        put_number(keys.references.len(), &mut out);
        for id in &keys.references {
            out.extend_from_slice(&id.0.to_le_bytes());
        }
        for key in [
            &keys.subject,
            &keys.from,
            &keys.to,
            &keys.cc,
            &keys.display_from,
            &keys.display_to,
        ] {
            put_bytes(key, &mut out);
        }
        for (envelope, structure) in [Some(ascii), utf8].into_iter().flatten() {
            put_bytes(&envelope, &mut out);
            put_bytes(&structure.text, &mut out);
            put_number(structure.extensions.len(), &mut out);
            let mut before = 0;
            for cut in structure.extensions {
                put_number((cut.start - before) as usize, &mut out);
                put_number(cut.len(), &mut out);
                before = cut.end;
            }
        }
        encode_parts(structure.parts(), &mut out);
        let checksum = checksum(flags, &out[HEAD_BYTES..]);
        out[2..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads a summary.
    ///
    /// # Errors
    /// See [`SummaryError`]; each of them is cured by encoding anew.
    pub fn decode(bytes: &'a [u8]) -> Result<Summary<'a>, SummaryError> {
        let Some((head, rest)) = bytes.split_at_checked(HEAD_BYTES) else {
            return Err(SummaryError::Malformed);
        };
        let (version, flags) = (head[0], head[1]);
        if version != VERSION {
            return Err(SummaryError::Version(version));
        }
        if head[2..] != checksum(flags, rest).to_le_bytes() {
            return Err(SummaryError::Checksum);
        }
        Reader(rest).summary(flags).ok_or(SummaryError::Malformed)
    }

    /// When it was sent; `None`: take the internal date.
    pub fn sent(&self) -> Option<SentDate> {
        self.sent
    }

    /// The hash of its own id.
    pub fn message_id(&self) -> Option<MessageIdHash> {
        self.message_id
    }

    /// Its ancestors, the oldest first.
    pub fn references(&self) -> impl ExactSizeIterator<Item = MessageIdHash> + 'a {
        let (ids, _) = self.references.as_chunks::<ID_BYTES>();
        ids.iter().map(|id| MessageIdHash(u128::from_le_bytes(*id)))
    }

    /// A reply or a forward, by its subject.
    pub fn is_reply(&self) -> bool {
        self.is_reply
    }

    /// The collation key of the base subject; the others as in [`Keys`].
    pub fn subject_key(&self) -> &'a [u8] {
        self.keys[0]
    }

    /// SORT FROM.
    pub fn from_key(&self) -> &'a [u8] {
        self.keys[1]
    }

    /// SORT TO.
    pub fn to_key(&self) -> &'a [u8] {
        self.keys[2]
    }

    /// SORT CC.
    pub fn cc_key(&self) -> &'a [u8] {
        self.keys[3]
    }

    /// SORT DISPLAYFROM.
    pub fn display_from_key(&self) -> &'a [u8] {
        self.keys[4]
    }

    /// SORT DISPLAYTO.
    pub fn display_to_key(&self) -> &'a [u8] {
        self.keys[5]
    }

    fn form(&self, strings: Strings) -> &Form<'a> {
        match (&self.utf8, strings) {
            (Some(utf8), Strings::Utf8) => utf8,
            _ => &self.ascii,
        }
    }

    /// The value of FETCH ENVELOPE.
    pub fn envelope(&self, strings: Strings) -> &'a [u8] {
        self.form(strings).envelope
    }

    /// The value of FETCH BODYSTRUCTURE.
    pub fn body_structure(&self, strings: Strings) -> &'a [u8] {
        self.form(strings).structure
    }

    /// Writes the value of FETCH BODY.
    pub fn write_body(&self, strings: Strings, out: &mut Vec<u8>) {
        let form = self.form(strings);
        let mut reader = Reader(form.cuts);
        let mut before = 0;
        let cuts = (0..form.cut_count).map_while(|_| {
            let cut = reader.cut(before)?;
            before = cut.end;
            Some(cut)
        });
        write_without(form.structure, cuts, out);
    }

    /// The text of a field as SEARCH sees it (RFC 9051 §6.4.4: "in the envelope structure's FROM
    /// field"), decoded: `Name <local@host>`, commas between addresses.
    pub fn envelope_text(&self, field: EnvelopeField) -> String {
        let envelope = self.form(Strings::Utf8).envelope;
        let mut values = Values(envelope.get(1..).unwrap_or_default());
        let value = (0..field as u8).try_fold((), |(), _| values.next().map(|_| ()));
        match value.and_then(|()| values.next()) {
            None | Some(Value::Nil) => String::new(),
            Some(Value::String(text)) => decode_field(&text),
            Some(Value::List(list)) => addresses_text(list),
        }
    }

    /// A field may be longer than what [`Summary::envelope_text`] tells of it (see
    /// [`MIME_FIELD_BYTES_MAX`]): who misses something there has to look into the header.
    pub fn may_lack_text(&self) -> bool {
        /// With a field that was cut an envelope is much longer, whatever the field was.
        const LONG_BYTES: usize = MIME_FIELD_BYTES_MAX / 16;
        self.envelope(Strings::Ascii).len() >= LONG_BYTES
            && self.parts().is_ok_and(|parts| {
                let header = &parts.root().header;
                header.len() > MIME_FIELD_BYTES_MAX
            })
    }

    /// The table of parts.
    ///
    /// # Errors
    /// [`SummaryError::Malformed`].
    pub fn parts(&self) -> Result<Parts, SummaryError> {
        decode_parts(self.parts).ok_or(SummaryError::Malformed)
    }
}

fn checksum(flags: u8, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[VERSION, flags]), bytes)
}

fn put_number(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_number(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn encode_parts(parts: &Parts, out: &mut Vec<u8>) {
    put_number(parts.0.len(), out);
    for (index, part) in parts.0.iter().enumerate() {
        let flag = |bit, is_set| if is_set { bit } else { 0 };
        out.push(part.kind as u8 | (part.encoding as u8) << 4);
        out.push(part.charset as u8 | flag(HTML, part.is_html) | flag(ROOT, part.is_root));
        let mut base = 0;
        if index > 0 {
            put_number(usize::from(part.parent), out);
            base = parts.0[usize::from(part.parent)].body.start;
        }
        put_number((part.header.start - base) as usize, out);
        put_number(part.header.len(), out);
        put_number(part.body.len(), out);
        put_number(part.lines as usize, out);
    }
}

fn decode_parts(bytes: &[u8]) -> Option<Parts> {
    let mut reader = Reader(bytes);
    let count = reader.number()? as usize;
    if !(1..=MIME_PARTS_MAX).contains(&count) {
        return None;
    }
    let mut parts: Vec<Part> = Vec::with_capacity(count);
    for index in 0..count {
        let [shape, traits] = *reader.take(2)?.as_array::<2>()?;
        let mut parent = 0;
        let mut base = 0;
        let mut end_max = u32::MAX;
        if index > 0 {
            parent = reader.number()? as usize;
            let body = &parts.get(parent)?.body;
            (base, end_max) = (body.start, body.end);
        }
        let start = base.checked_add(reader.number()?)?;
        let body_start = start.checked_add(reader.number()?)?;
        let body_end = body_start.checked_add(reader.number()?)?;
        if body_end > end_max {
            return None;
        }
        parts.push(Part {
            kind: match shape & 15 {
                0 => Kind::Basic,
                1 => Kind::Text,
                2 => Kind::Multipart,
                3 => Kind::Message,
                4 => Kind::Opaque,
                _ => return None,
            },
            encoding: match shape >> 4 {
                0 => Encoding::Identity,
                1 => Encoding::QuotedPrintable,
                2 => Encoding::Base64,
                3 => Encoding::Unknown,
                _ => return None,
            },
            charset: match traits & 15 {
                0 => Charset::Utf8,
                1 => Charset::Latin1,
                2 => Charset::Other,
                _ => return None,
            },
            is_html: traits & HTML != 0,
            is_root: traits & ROOT != 0,
            parent: parent as u16,
            descendants_end: index as u16 + 1,
            header: start..body_start,
            body: body_start..body_end,
            lines: reader.number()?,
        });
    }
    for index in (1..count).rev() {
        let (end, parent) = (parts[index].descendants_end, parts[index].parent);
        let parent = &mut parts[usize::from(parent)];
        parent.descendants_end = parent.descendants_end.max(end);
    }
    // A message's child is found without a search.
    let is_whole = |(index, part): (usize, &Part)| {
        part.kind != Kind::Message || usize::from(part.descendants_end) > index + 1
    };
    parts
        .iter()
        .enumerate()
        .all(is_whole)
        .then_some(Parts(parts))
}

/// What is left to read; `None` from any of its methods: it does not fit.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn summary(&mut self, flags: u8) -> Option<Summary<'a>> {
        let sent = match flags & HAS_SENT != 0 {
            true => Some(SentDate {
                unix_seconds: i64::from_le_bytes(*self.take(8)?.as_array()?),
                day: i32::from_le_bytes(*self.take(4)?.as_array()?),
            }),
            false => None,
        };
        let message_id = match flags & HAS_MESSAGE_ID != 0 {
            true => Some(MessageIdHash(u128::from_le_bytes(
                *self.take(ID_BYTES)?.as_array()?,
            ))),
            false => None,
        };
        let count = self.number()? as usize;
        if count > REFERENCES_MAX {
            return None;
        }
        let references = self.take(count * ID_BYTES)?;
        let mut keys = [&[][..]; 6];
        for key in &mut keys {
            *key = self.bytes()?;
        }
        let ascii = self.form()?;
        let utf8 = match flags & HAS_UTF8 != 0 {
            true => Some(self.form()?),
            false => None,
        };
        Some(Summary {
            is_reply: flags & IS_REPLY != 0,
            sent,
            message_id,
            references,
            keys,
            ascii,
            utf8,
            parts: self.0,
        })
    }

    fn form(&mut self) -> Option<Form<'a>> {
        let envelope = self.bytes()?;
        let structure = self.bytes()?;
        let cut_count = self.number()? as usize;
        let cuts = self.0;
        let mut before = 0;
        for _ in 0..cut_count {
            before = self.cut(before)?.end;
        }
        let cuts = &cuts[..cuts.len() - self.0.len()];
        (before as usize <= structure.len()).then_some(Form {
            envelope,
            structure,
            cut_count,
            cuts,
        })
    }

    fn cut(&mut self, before: u32) -> Option<Range<u32>> {
        let start = before.checked_add(self.number()?)?;
        Some(start..start.checked_add(self.number()?)?)
    }

    fn number(&mut self) -> Option<u32> {
        let mut number = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = *self.take(1)?.first()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(number).ok();
            }
        }
        None
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.number()? as usize;
        self.take(count)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

/// The values of an IMAP list, of those that an ENVELOPE has.
struct Values<'a>(&'a [u8]);

enum Value<'a> {
    Nil,
    String(Cow<'a, [u8]>),
    /// What is between the parentheses.
    List(&'a [u8]),
}

impl<'a> Values<'a> {
    fn string(&mut self) -> Option<Cow<'a, [u8]>> {
        match self.next()? {
            Value::String(text) => Some(text),
            Value::Nil | Value::List(_) => None,
        }
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let text = self.0.trim_ascii_start();
        let (value, bytes) = match text.first()? {
            b'"' => {
                let (string, bytes) = super::params::quoted(text);
                (Value::String(string), bytes)
            }
            b'{' => {
                let end = memchr::memchr(b'}', text)?;
                let count: usize = std::str::from_utf8(&text[1..end]).ok()?.parse().ok()?;
                let start = end + 3;
                let end = start.checked_add(count)?;
                (Value::String(Cow::Borrowed(text.get(start..end)?)), end)
            }
            b'(' => {
                let mut inner = Values(&text[1..]);
                while inner.next().is_some() {}
                let bytes = text.len() - inner.0.len();
                (Value::List(&text[1..bytes]), bytes + 1)
            }
            b'N' => (Value::Nil, 3),
            _ => {
                self.0 = text;
                return None;
            }
        };
        self.0 = text.get(bytes..).unwrap_or_default();
        Some(value)
    }
}

fn addresses_text(list: &[u8]) -> String {
    let mut text = String::new();
    for value in Values(list) {
        let Value::List(address) = value else {
            continue;
        };
        let mut values = Values(address);
        let (name, _, local_part, host) = (
            values.string(),
            values.string(),
            values.string(),
            values.string(),
        );
        if !text.is_empty() {
            text.push_str(", ");
        }
        if let Some(name) = &name {
            text.push_str(&decode_field(name));
            text.push(' ');
        }
        match (local_part, host) {
            (Some(local_part), Some(host)) => {
                text.push('<');
                text.push_str(&String::from_utf8_lossy(&local_part));
                if !host.is_empty() {
                    text.push('@');
                    text.push_str(&String::from_utf8_lossy(&host));
                }
                text.push('>');
            }
            (Some(group), None) => {
                text.push_str(&decode_field(&group));
                text.push(':');
            }
            (None, _) => text.push(';'),
        }
    }
    text
}

#[cfg(test)]
mod tests;
