//! Annotations (RFC 5464): their names, which of them a GETMETADATA means, and the responses.
//!
//! Decided here: names are kept in lower case, for case says nothing in them; an entry that was named
//! and is not there is shown as NIL.

use super::parse::is_atom;
use super::{names, write};
use crate::limits::{ANNOTATION_NAME_BYTES_MAX, OUTPUT_BYTES_MAX};

/// The name of an annotation: `/shared/...` or `/private/...`, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry(String);

/// What is wrong with the name of an annotation (RFC 5464 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Neither of the two.
    #[error("the name of an annotation begins with /private or /shared")]
    Start,
    /// `*`, `%`, a control character or one that is not ASCII.
    #[error("the name of an annotation has no *, %, control or non-ASCII character")]
    Character,
    /// An empty level.
    #[error("the name of an annotation has no // and does not end with /")]
    Level,
    /// Over the bound.
    #[error("the name of an annotation has at most {ANNOTATION_NAME_BYTES_MAX} octets")]
    TooLong,
}

impl Entry {
    /// A name as it stands in a command.
    ///
    /// # Errors
    /// See [`EntryError`].
    pub fn parse(raw: &[u8]) -> Result<Entry, EntryError> {
        if raw.len() > ANNOTATION_NAME_BYTES_MAX {
            return Err(EntryError::TooLong);
        }
        let is_bad = |byte: &u8| !matches!(byte, b' '..=b'~') || matches!(byte, b'*' | b'%');
        if raw.iter().any(is_bad) {
            return Err(EntryError::Character);
        }
        let name = String::from_utf8_lossy(raw).to_ascii_lowercase();
        if name.ends_with('/') || name.contains("//") {
            return Err(EntryError::Level);
        }
        let entry = Entry(name);
        if entry.is_private() || entry.below("/shared").is_some() {
            return Ok(entry);
        }
        Err(EntryError::Start)
    }

    /// In lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Only who made it sees it (RFC 5464 §3.3).
    pub fn is_private(&self) -> bool {
        self.below("/private").is_some()
    }

    /// There may be one of this name: `/shared` and `/private` are only there to look below them.
    pub fn can_be_set(&self) -> bool {
        self.0.len() > "/shared".len() && !matches!(self.as_str(), "/private")
    }

    /// What of the name lies below this one; empty: it is this one.
    fn below(&self, top: &str) -> Option<&str> {
        let rest = self.0.strip_prefix(top)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }

    fn write(&self, out: &mut Vec<u8>) {
        if self.0.bytes().all(|byte| is_atom(byte) || byte == b']') {
            out.extend_from_slice(self.0.as_bytes());
        } else {
            write::quoted(&self.0, out);
        }
    }
}

/// How far below a name GETMETADATA looks (RFC 5464 §4.2.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Depth {
    /// Not at all.
    #[default]
    Zero,
    /// One level.
    One,
    /// All levels.
    Infinity,
}

/// Which annotations are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// These.
    pub entries: Vec<Entry>,
    /// And what is below them.
    pub depth: Depth,
}

impl Wanted {
    /// This one is.
    pub fn has(&self, entry: &Entry) -> bool {
        self.entries.iter().any(|top| {
            let below = entry.below(top.as_str());
            below.is_some_and(|rest| match self.depth {
                Depth::Zero => rest.is_empty(),
                Depth::One => rest.matches('/').count() <= 1,
                Depth::Infinity => true,
            })
        })
    }
}

/// An annotation with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// Its name.
    pub entry: Entry,
    /// Any octets.
    pub value: Vec<u8>,
}

/// METADATA responses with values on their way to the client (RFC 5464 §4.4.1).
///
/// ```text
/// metadata-resp = "METADATA" SP mailbox SP (entry-values / entry-list)
/// entry-values  = "(" entry SP value *(SP entry SP value) ")"
/// ```
#[derive(Debug)]
pub struct Values {
    mailbox: Option<String>,
    left: std::vec::IntoIter<(Entry, Option<Vec<u8>>)>,
    /// Bytes of the largest value that is left out.
    pub longest: Option<usize>,
}

impl Values {
    /// Of a mailbox, or with `None` of the server. Values above `size_max` octets are left out;
    /// entries that were named and are not there are NIL.
    pub fn new(
        mailbox: Option<String>,
        wanted: &Wanted,
        found: Vec<Annotation>,
        size_max: Option<u64>,
    ) -> Values {
        let mut missing: Vec<Entry> = Vec::new();
        if wanted.depth == Depth::Zero || found.is_empty() {
            for entry in &wanted.entries {
                if !missing.contains(entry) && found.iter().all(|found| found.entry != *entry) {
                    missing.push(entry.clone());
                }
            }
        }
        let mut longest = None;
        let mut left = Vec::with_capacity(found.len() + missing.len());
        for annotation in found {
            let bytes = annotation.value.len();
            if size_max.is_some_and(|max| bytes as u64 > max) {
                longest = longest.max(Some(bytes));
            } else {
                left.push((annotation.entry, Some(annotation.value)));
            }
        }
        left.extend(missing.into_iter().map(|entry| (entry, None)));
        Values {
            mailbox,
            left: left.into_iter(),
            longest,
        }
    }

    /// Writes as much as `out` takes; `true`: that was all.
    pub fn write(&mut self, utf8: bool, out: &mut Vec<u8>) -> bool {
        let mut is_open = false;
        while out.len() < OUTPUT_BYTES_MAX
            && let Some((entry, value)) = self.left.next()
        {
            if std::mem::replace(&mut is_open, true) {
                out.push(b' ');
            } else {
                begin(self.mailbox.as_deref(), utf8, out);
                out.push(b'(');
            }
            entry.write(out);
            out.push(b' ');
            match value {
                Some(value) => write_value(&value, out),
                None => out.extend_from_slice(b"NIL"),
            }
        }
        if is_open {
            out.extend_from_slice(b")\r\n");
        }
        self.left.as_slice().is_empty()
    }
}

/// METADATA without values: these have changed (RFC 5464 §4.4.2).
pub fn write_changed(mailbox: Option<&str>, entries: &[Entry], utf8: bool, out: &mut Vec<u8>) {
    begin(mailbox, utf8, out);
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        entry.write(out);
    }
    out.extend_from_slice(b"\r\n");
}

fn begin(mailbox: Option<&str>, utf8: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* METADATA ");
    names::write(mailbox.unwrap_or_default(), utf8, out);
    out.push(b' ');
}

/// `value = nstring / literal8`
fn write_value(value: &[u8], out: &mut Vec<u8>) {
    /// Longer ones are literals.
    const QUOTED_BYTES_MAX: usize = 200;
    let is_plain =
        value.len() <= QUOTED_BYTES_MAX && value.iter().all(|byte| matches!(byte, b' '..=b'~'));
    if is_plain {
        write::quoted(&String::from_utf8_lossy(value), out);
        return;
    }
    if value.contains(&0) {
        out.push(b'~');
    }
    out.push(b'{');
    write::number(value.len() as u64, out);
    out.extend_from_slice(b"}\r\n");
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Entry {
        Entry::parse(name.as_bytes()).expect(name)
    }

    #[test]
    fn names_of_annotations() {
        assert_eq!(entry("/Shared/Comment"), entry("/shared/comment"));
        assert!(entry("/PRIVATE/x").is_private() && !entry("/shared/private").is_private());
        for name in ["/private", "/shared", "/private/a b]"] {
            assert_eq!(entry(name).can_be_set(), name.contains("b]"), "{name}");
        }
        for (name, error) in [
            ("", EntryError::Start),
            ("/", EntryError::Level),
            ("shared/x", EntryError::Start),
            ("/sharedx", EntryError::Start),
            ("/privat", EntryError::Start),
            ("/shared/", EntryError::Level),
            ("/shared//x", EntryError::Level),
            ("/shared/*", EntryError::Character),
            ("/shared/a%", EntryError::Character),
            ("/shared/\u{7}", EntryError::Character),
            ("/shared/é", EntryError::Character),
        ] {
            assert_eq!(Entry::parse(name.as_bytes()), Err(error), "{name}");
        }
        let long = format!("/shared/{}", "x".repeat(ANNOTATION_NAME_BYTES_MAX));
        assert_eq!(Entry::parse(long.as_bytes()), Err(EntryError::TooLong));
    }

    #[test]
    fn depths() {
        for (depth, found) in [
            (Depth::Zero, [true, false, false, false]),
            (Depth::One, [true, true, false, false]),
            (Depth::Infinity, [true, true, true, false]),
        ] {
            let wanted = Wanted {
                entries: vec![entry("/shared/a")],
                depth,
            };
            let names = ["/shared/a", "/shared/a/b", "/shared/a/b/c", "/shared/ab"];
            assert_eq!(names.map(|name| wanted.has(&entry(name))), found);
        }
    }

    #[test]
    fn values_of_any_octets() {
        let mut out = Vec::new();
        for value in [
            &b"a \"b\\"[..],
            b"",
            b"two\r\nlines",
            b"nul\0",
            "é".as_bytes(),
        ] {
            write_value(value, &mut out);
            out.push(b'|');
        }
        assert_eq!(
            String::from_utf8_lossy(&out),
            "\"a \\\"b\\\\\"|\"\"|{10}\r\ntwo\r\nlines|~{4}\r\nnul\0|{2}\r\né|"
        );
    }
}
