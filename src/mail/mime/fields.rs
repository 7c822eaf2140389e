//! Header fields: their names, their values without folding, and the subsets that FETCH takes.
//!
//! Guarantees: linear in the header; bytes that form no field are passed over, never an error.
//! Does not know: what a value means.

use std::borrow::Cow;

/// A field that the structure of a message is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldName {
    /// `Content-Type`.
    ContentType,
    /// `Content-Transfer-Encoding`.
    ContentTransferEncoding,
    /// `Content-ID`.
    ContentId,
    /// `Content-Description`.
    ContentDescription,
    /// `Content-MD5`.
    ContentMd5,
    /// `Content-Disposition`.
    ContentDisposition,
    /// `Content-Language`.
    ContentLanguage,
    /// `Content-Location`.
    ContentLocation,
    /// `Date`.
    Date,
    /// `Subject`.
    Subject,
    /// `From`.
    From,
    /// `Sender`.
    Sender,
    /// `Reply-To`.
    ReplyTo,
    /// `To`.
    To,
    /// `Cc`.
    Cc,
    /// `Bcc`.
    Bcc,
    /// `In-Reply-To`.
    InReplyTo,
    /// `Message-ID`.
    MessageId,
    /// `References`.
    References,
}

const NAMES: [(&str, FieldName); 19] = [
    ("content-type", FieldName::ContentType),
    (
        "content-transfer-encoding",
        FieldName::ContentTransferEncoding,
    ),
    ("content-id", FieldName::ContentId),
    ("content-description", FieldName::ContentDescription),
    ("content-md5", FieldName::ContentMd5),
    ("content-disposition", FieldName::ContentDisposition),
    ("content-language", FieldName::ContentLanguage),
    ("content-location", FieldName::ContentLocation),
    ("date", FieldName::Date),
    ("subject", FieldName::Subject),
    ("from", FieldName::From),
    ("sender", FieldName::Sender),
    ("reply-to", FieldName::ReplyTo),
    ("to", FieldName::To),
    ("cc", FieldName::Cc),
    ("bcc", FieldName::Bcc),
    ("in-reply-to", FieldName::InReplyTo),
    ("message-id", FieldName::MessageId),
    ("references", FieldName::References),
];

impl FieldName {
    /// The name in a line of a header, in any case; `None`: another field.
    pub fn parse(name: &[u8]) -> Option<FieldName> {
        NAMES
            .iter()
            .find(|(text, _)| name.eq_ignore_ascii_case(text.as_bytes()))
            .map(|(_, name)| *name)
    }

    /// Describes a part's content (RFC 2045 §9), rather than a message.
    pub fn is_content(self) -> bool {
        use FieldName::*;
        matches!(
            self,
            ContentType
                | ContentTransferEncoding
                | ContentId
                | ContentDescription
                | ContentMd5
                | ContentDisposition
                | ContentLanguage
                | ContentLocation
        )
    }
}

/// The name in the first line of a field; `None`: the line has none.
pub fn line_name(line: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memchr(b':', line)?;
    // RFC 5322 §4.5.3: obsolete fields have spaces in front of the colon.
    let name = line[..colon].trim_ascii_end();
    let printable = |byte: &u8| (33..=126).contains(byte);
    (!name.is_empty() && name.iter().all(printable)).then_some(name)
}

/// One field as it stands in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name, without the colon; empty: lines that form no field.
    pub name: &'a [u8],
    /// Everything behind the colon, folded as sent, with the last line break.
    pub value: &'a [u8],
    /// The whole field.
    pub raw: &'a [u8],
}

/// The fields of a header up to its empty line or its end.
pub fn fields(header: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = header;
    std::iter::from_fn(move || {
        if rest.is_empty() || rest[0] == b'\n' || rest.starts_with(b"\r\n") {
            return None;
        }
        let mut end = 0;
        loop {
            end += memchr::memchr(b'\n', &rest[end..]).map_or(rest.len() - end, |at| at + 1);
            if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (raw, behind) = rest.split_at(end);
        rest = behind;
        let (name, value) = match line_name(raw) {
            None => (&raw[..0], raw),
            Some(name) => {
                let colon = memchr::memchr(b':', raw).unwrap_or(0);
                (name, &raw[colon + 1..])
            }
        };
        Some(Field { name, value, raw })
    })
}

/// Names of fields, for a look at each field of many headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldNames {
    /// In lower case, in order, each once.
    sorted: Box<[Box<[u8]>]>,
}

impl FieldNames {
    /// Of these names, in any case and order.
    pub fn new<N: AsRef<[u8]>>(names: &[N]) -> FieldNames {
        let lower = |name: &N| name.as_ref().to_ascii_lowercase().into_boxed_slice();
        let mut sorted: Vec<Box<[u8]>> = names.iter().map(lower).collect();
        sorted.sort_unstable();
        sorted.dedup();
        FieldNames {
            sorted: sorted.into(),
        }
    }

    /// A field's name, in any case, is one of them.
    pub fn contain(&self, name: &[u8]) -> bool {
        let found = self.sorted.binary_search_by(|own| {
            let lower = name.iter().map(u8::to_ascii_lowercase);
            own.iter().copied().cmp(lower)
        });
        found.is_ok()
    }
}

/// The fields of `header` that are named (`HEADER.FIELDS`), or that are not (`HEADER.FIELDS.NOT`),
/// as sent and in their order, with the empty line (RFC 9051 §6.4.5).
pub fn filter_fields(header: &[u8], names: &FieldNames, not: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields(header) {
        if names.contain(field.name) != not {
            out.extend_from_slice(field.raw);
            if !field.raw.ends_with(b"\n") {
                out.extend_from_slice(b"\r\n");
            }
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// A field's value without folding (RFC 5322 §2.2.3), spaces around it and NULs, which no IMAP
/// string can hold.
pub fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    let value = value.trim_ascii();
    if memchr::memchr3(b'\n', b'\r', 0, value).is_none() {
        return Cow::Borrowed(value);
    }
    let kept = |byte: &u8| !matches!(byte, b'\r' | b'\n' | 0);
    Cow::Owned(value.iter().copied().filter(kept).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] =
        b"From: a\r\nno field\r\nTo : b,\r\n c\r\nfrom: d\nX:\r\n\r\nTo: body\r\n";

    #[test]
    fn fields_as_sent() {
        let found: Vec<(&[u8], &[u8])> = fields(HEADER).map(|f| (f.name, f.value)).collect();
        let expected: [(&[u8], &[u8]); 5] = [
            (b"From", b" a\r\n"),
            (b"", b"no field\r\n"),
            (b"To", b" b,\r\n c\r\n"),
            (b"from", b" d\n"),
            (b"X", b"\r\n"),
        ];
        assert_eq!(found, expected);
        assert_eq!(fields(b"").count(), 0);
        assert_eq!(fields(b"A: b").next().unwrap().value, b" b");
    }

    #[test]
    fn subsets_end_with_an_empty_line() {
        let names = FieldNames::new;
        assert_eq!(
            filter_fields(HEADER, &names(&["x", "FROM"]), false),
            b"From: a\r\nfrom: d\nX:\r\n\r\n"
        );
        assert_eq!(
            filter_fields(HEADER, &names(&["From", "X"]), true),
            b"no field\r\nTo : b,\r\n c\r\n\r\n"
        );
        let only = names(&["a"]);
        assert_eq!(filter_fields(b"A: b", &only, false), b"A: b\r\n\r\n");
        assert_eq!(
            filter_fields(HEADER, &FieldNames::default(), false),
            b"\r\n"
        );
    }

    #[test]
    fn every_name_of_many_is_found() {
        let given: Vec<String> = (0..1000).rev().map(|n| format!("X-Name-{n}")).collect();
        let names = FieldNames::new(&[given.as_slice(), &given[..7]].concat());
        assert_eq!(names.sorted.len(), given.len());
        for name in &given {
            assert!(names.contain(name.to_uppercase().as_bytes()), "{name}");
            assert!(!names.contain(format!("{name}-").as_bytes()), "{name}");
            assert!(!names.contain(&name.as_bytes()[1..]), "{name}");
        }
        // Lines that form no field have no name.
        assert!(!names.contain(b""));
    }

    #[test]
    fn values_lose_their_folding() {
        assert_eq!(&*unfold(b" a b \r\n"), b"a b");
        assert_eq!(&*unfold(b" a\r\n\tb\0\r\n c\r\n"), b"a\tb c");
        assert_eq!(&*unfold(b"\r\n"), b"");
    }

    #[test]
    fn names_are_known_in_any_case() {
        assert_eq!(FieldName::parse(b"SUBJECT"), Some(FieldName::Subject));
        assert_eq!(FieldName::parse(b"Subjects"), None);
        for (text, name) in NAMES {
            assert_eq!(name.is_content(), text.starts_with("content-"), "{text}");
        }
    }
}
