//! What SORT, THREAD and the SENT searches compare: base subject, dates, message ids, names
//! (RFC 5256, RFC 5957).
//!
//! Guarantees: linear but for the base subject, whose subject is bounded.
//! Does not know: sequence numbers; the order of what is equal.

use std::borrow::Cow;
use std::hash::Hasher;

use mail_parser::DateTime;
use siphasher::sip128::{Hasher128, SipHasher24};

use super::addresses::{ListEntry, ListMailbox};
use super::envelope::EnvelopeData;
use super::fold::collation_key;
use super::params::{comment_bytes, quoted};
use super::text::decode_field;
use crate::limits::REFERENCES_MAX;

/// Bytes of a subject that its base is looked for in.
const SUBJECT_BYTES_MAX: usize = 2048;
const DAY_SECONDS: i64 = 86_400;

/// A message id in normal form, as a hash: equal ids are equal. Never zero.
///
/// The hash is not keyed: who makes two ids that meet makes two messages of their own meet in one
/// thread, which they can as well by writing one id twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageIdHash(pub u128);

impl MessageIdHash {
    /// Of an id in normal form, without its angle brackets.
    pub fn new(id: &[u8]) -> MessageIdHash {
        let mut hasher = SipHasher24::new();
        hasher.write(id);
        MessageIdHash(hasher.finish128().as_u128().max(1))
    }
}

/// When a message says it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentDate {
    /// Seconds since 1970 in UTC: SORT DATE, THREAD (RFC 5256 §2.2).
    pub unix_seconds: i64,
    /// The day as written, in days since 1970: SENTBEFORE, SENTON and SENTSINCE disregard time and
    /// zone (RFC 9051 §6.4.4).
    pub day: i32,
}

impl SentDate {
    /// Reads the value of a `Date` field; `None`: it is none, and the internal date counts.
    pub fn parse(value: &[u8]) -> Option<SentDate> {
        let text = String::from_utf8_lossy(value);
        let date = DateTime::parse_rfc822(&text).filter(DateTime::is_valid)?;
        Some(SentDate {
            unix_seconds: date.to_timestamp(),
            day: i32::try_from(date.to_timestamp_local().div_euclid(DAY_SECONDS)).ok()?,
        })
    }
}

/// The keys of one message. Names and subjects are collation keys: compare them as bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// From `Date`; `None`: take the internal date.
    pub sent: Option<SentDate>,
    /// SORT SUBJECT: the base subject.
    pub subject: Vec<u8>,
    /// The subject was one of a reply or a forward (RFC 5256 §2.1).
    pub is_reply: bool,
    /// SORT FROM: the local part of the first address. The same for TO and CC.
    pub from: Vec<u8>,
    /// SORT TO.
    pub to: Vec<u8>,
    /// SORT CC.
    pub cc: Vec<u8>,
    /// SORT DISPLAYFROM (RFC 5957): the first address's name, or the address.
    pub display_from: Vec<u8>,
    /// SORT DISPLAYTO.
    pub display_to: Vec<u8>,
    /// The message's own id.
    pub message_id: Option<MessageIdHash>,
    /// Its ancestors, the oldest first: `References`, or the first id of `In-Reply-To`
    /// (RFC 5256 §3, REFERENCES, step 1).
    pub references: Vec<MessageIdHash>,
}

impl Keys {
    /// Those of a message with that ENVELOPE and that value of `References`.
    pub fn new(envelope: &EnvelopeData, references: Option<&[u8]>) -> Keys {
        let subject = decode_field(envelope.subject.as_deref().unwrap_or_default());
        let (base, is_reply) = base_subject(&subject);
        let id = |value: &Option<Vec<u8>>| {
            let ids = parse_message_ids(value.as_deref().unwrap_or_default(), 1);
            ids.first().copied()
        };
        let mut ancestors = parse_message_ids(references.unwrap_or_default(), REFERENCES_MAX);
        if ancestors.is_empty() {
            ancestors.extend(id(&envelope.in_reply_to));
        }
        Keys {
            sent: SentDate::parse(envelope.date.as_deref().unwrap_or_default()),
            subject: collation_key(&base),
            is_reply,
            from: local_part_key(&envelope.from),
            to: local_part_key(&envelope.to),
            cc: local_part_key(&envelope.cc),
            display_from: display_key(&envelope.from),
            display_to: display_key(&envelope.to),
            message_id: id(&envelope.message_id),
            references: ancestors,
        }
    }
}

fn first_mailbox(list: &[ListEntry]) -> Option<&ListMailbox> {
    list.iter().find_map(|entry| match entry {
        ListEntry::Mailbox(mailbox) => Some(mailbox),
        _ => None,
    })
}

fn local_part_key(list: &[ListEntry]) -> Vec<u8> {
    let mailbox = first_mailbox(list);
    collation_key(&mailbox.map_or(Cow::Borrowed(""), |mailbox| {
        String::from_utf8_lossy(&mailbox.local_part)
    }))
}

/// RFC 5957 §3: the display name, decoded, or else `local@host`; of a group its name.
fn display_key(list: &[ListEntry]) -> Vec<u8> {
    match list.first() {
        Some(ListEntry::GroupStart(name)) => collation_key(&decode_field(name)),
        Some(ListEntry::Mailbox(ListMailbox {
            name: Some(name), ..
        })) => collation_key(&decode_field(name)),
        Some(ListEntry::Mailbox(mailbox)) => {
            let address = [&mailbox.local_part[..], b"@", &mailbox.host].concat();
            collation_key(&String::from_utf8_lossy(&address))
        }
        Some(ListEntry::GroupEnd) | None => Vec::new(),
    }
}

/// The ids of a field, in its order; of more than `count_max` the first and the last ones.
///
/// ```text
/// msg-id = [CFWS] "<" id-left "@" id-right ">" [CFWS]
/// ```
///
/// RFC 5256 §3: in normal form, without quoting, comments and spaces. Anything between angle
/// brackets counts: many programs leave the `@` out.
pub fn parse_message_ids(value: &[u8], count_max: usize) -> Vec<MessageIdHash> {
    let mut ids = Vec::new();
    let mut rest = value;
    while let Some(start) = memchr::memchr2(b'<', b'(', rest) {
        rest = &rest[start..];
        if rest[0] == b'(' {
            rest = &rest[comment_bytes(rest)..];
            continue;
        }
        let Some((id, behind)) = parse_id(&rest[1..]) else {
            break;
        };
        rest = behind;
        if id.is_empty() {
            continue;
        }
        if ids.len() == count_max {
            // The oldest ancestor tells the thread; of the others the nearest matter most.
            if count_max < 2 {
                break;
            }
            ids.remove(1);
        }
        ids.push(MessageIdHash::new(&id));
    }
    ids
}

/// An id whose `<` is behind us; `None`: it has no end.
fn parse_id(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut id = Vec::new();
    let mut rest = text;
    loop {
        match *rest.first()? {
            b'>' => return Some((id, &rest[1..])),
            b'"' => {
                let (text, bytes) = quoted(rest);
                id.extend_from_slice(&text);
                rest = &rest[bytes..];
                continue;
            }
            byte if byte.is_ascii_whitespace() => {}
            byte => id.push(byte),
        }
        rest = &rest[1..];
    }
}

/// RFC 5256 §2.1: the subject without what replies and forwards add, and whether they added any.
///
/// `subject` is decoded (step 1 of the RFC up to the spaces).
pub fn base_subject(subject: &str) -> (String, bool) {
    let cut = &subject[..subject.floor_char_boundary(SUBJECT_BYTES_MAX)];
    let mut text = String::with_capacity(cut.len());
    for word in cut.split([' ', '\t', '\r', '\n']) {
        if !word.is_empty() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
    }
    let mut base = text.as_str();
    let mut is_reply = false;
    loop {
        // Step 2.
        while let Some(front) = strip_suffix_ignoring_case(base, "(fwd)") {
            base = front.trim_end();
            is_reply = true;
        }
        // Steps 3 to 5.
        loop {
            base = base.trim_start();
            if let Some(behind) = strip_leader(base) {
                base = behind;
                is_reply = true;
            } else if let Some(behind) = strip_blob(base).filter(|behind| !behind.is_empty()) {
                base = behind;
            } else {
                break;
            }
        }
        // Step 6.
        let inner =
            strip_prefix_ignoring_case(base, "[fwd:").and_then(|text| text.strip_suffix(']'));
        match inner {
            Some(inner) => {
                base = inner.trim();
                is_reply = true;
            }
            None => return (base.trim_end().to_owned(), is_reply),
        }
    }
}

/// ```text
/// subj-leader = (*subj-blob subj-refwd) / WSP
/// subj-refwd  = ("re" / ("fw" ["d"])) *WSP [subj-blob] ":"
/// ```
fn strip_leader(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(behind) = strip_blob(rest) {
        rest = behind;
    }
    let rest = ["re", "fwd", "fw"]
        .iter()
        .find_map(|word| strip_prefix_ignoring_case(rest, word))?
        .trim_start();
    strip_blob(rest).unwrap_or(rest).strip_prefix(':')
}

/// ```text
/// subj-blob = "[" *BLOBCHAR "]" *WSP
/// ```
fn strip_blob(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?;
    let end = inner.find(['[', ']'])?;
    Some(inner[end..].strip_prefix(']')?.trim_start_matches(' '))
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (front, behind) = text.split_at_checked(prefix.len())?;
    front.eq_ignore_ascii_case(prefix).then_some(behind)
}

fn strip_suffix_ignoring_case<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let (front, behind) = text.split_at_checked(text.len().checked_sub(suffix.len())?)?;
    behind.eq_ignore_ascii_case(suffix).then_some(front)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_subjects() {
        for (subject, expected, is_reply) in [
            ("hello", "hello", false),
            ("Re: hello", "hello", true),
            ("RE : hello", "hello", true),
            ("re[2]: Fwd: FW: hello (fwd) (FWD)", "hello", true),
            ("[list] Re: [list] hello", "hello", true),
            ("[list] hello", "hello", false),
            ("[list]", "[list]", false),
            ("[a] [b]", "[b]", false),
            ("[fwd: hello]", "hello", true),
            ("Re: [Fwd: Re: hello (fwd)]", "hello", true),
            ("re-entry", "re-entry", false),
            ("fwhello: x", "fwhello: x", false),
            ("  a\t b \r\n c ", "a b c", false),
            ("Re: ", "", true),
            ("(fwd)", "", true),
            ("", "", false),
            ("[unended Re: x", "[unended Re: x", false),
            ("Re: ü(fwd)", "ü", true),
            ("AW: x", "AW: x", false),
        ] {
            let (base, reply) = base_subject(subject);
            assert_eq!((base.as_str(), reply), (expected, is_reply), "{subject}");
        }
    }

    #[test]
    fn hostile_subjects_take_bounded_time() {
        let (base, _) = base_subject(&"[a]".repeat(1_000_000));
        assert_eq!(base, "[a");
        assert_eq!(base_subject(&"Re:".repeat(1_000_000)).0, "Re");
    }

    fn sent(text: &str) -> Option<(i64, i32)> {
        SentDate::parse(text.as_bytes()).map(|date| (date.unix_seconds, date.day))
    }

    #[test]
    fn dates() {
        // Checked against `date -u -d`.
        assert_eq!(
            sent("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)"),
            Some((837_595_405, 9694))
        );
        // 2026-01-01 there, 2025-12-31 here.
        assert_eq!(
            sent("Thu, 01 Jan 2026 00:30:00 +0200"),
            Some((1_767_220_200, 20_454))
        );
        assert_eq!(sent("21 Nov 97 09:55:06 GMT"), Some((880_106_106, 10_186)));
        assert_eq!(sent(""), None);
        assert_eq!(sent("yesterday"), None);
        assert_eq!(sent("Wed, 77 Jul 1996 02:23:25 -0700"), None);
    }

    fn ids(value: &str) -> Vec<MessageIdHash> {
        parse_message_ids(value.as_bytes(), 4)
    }

    #[test]
    fn ids_have_a_normal_form() {
        let id = |text: &str| MessageIdHash::new(text.as_bytes());
        // RFC 5256 §3
        assert_eq!(
            ids("<\"01KF8JCEOCBS0045PS\"@xxx.yyy.com>"),
            [id("01KF8JCEOCBS0045PS@xxx.yyy.com")]
        );
        assert_eq!(
            ids("<a@b>(<x@y>) <c@ d>\t<e>"),
            [id("a@b"), id("c@d"), id("e")]
        );
        assert_eq!(ids("<a@b> <open"), [id("a@b")]);
        assert_eq!(ids("Your message of today <>"), []);
        assert_eq!(
            ids("<1><2><3><4><5><6>"),
            [id("1"), id("4"), id("5"), id("6")]
        );
        assert_eq!(parse_message_ids(b"<1><2>", 1), [id("1")]);
    }
}
