//! URLs of messages and their parts (RFC 5092), as CATENATE has them (RFC 4469 §2): relative to the
//! session, so of the account that is logged in.
//!
//! ```text
//! url          = "/" enc-mailbox [uidvalidity] iuid [isection] [ipartial]
//!              / iuid [isection] [ipartial]                   ; of the mailbox that is open
//! uidvalidity  = ";UIDVALIDITY=" nz-number
//! iuid         = ["/"] ";UID=" nz-number
//! isection     = ["/"] ";SECTION=" enc-section
//! ipartial     = ["/"] ";PARTIAL=" number64 ["." nz-number64]
//! ```
//!
//! Does not know: mailboxes, messages.
//! On failure: says what is wrong with the URL.

use super::command::Section;
use super::parse::parse_section_spec;
use super::sets::{parse_number, parse_number64};

/// A message, or a part of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// As in a command of a client that has enabled UTF-8; `None`: the mailbox that is open.
    pub(super) mailbox: Option<Vec<u8>>,
    /// What its UIDVALIDITY must be.
    pub(super) validity: Option<u32>,
    /// Which message.
    pub(super) uid: u32,
    /// What of it.
    pub(super) section: Section,
    /// From here, so many octets; `None`: all.
    pub(super) partial: Option<(u64, Option<u64>)>,
}

impl Url {
    /// # Errors
    /// Says what is wrong.
    pub(super) fn parse(text: &[u8]) -> Result<Url, &'static str> {
        if !text.iter().all(u8::is_ascii_graphic) {
            return Err("a URL has printable ASCII only");
        }
        if text.starts_with(b"//") || memchr::memmem::find(text, b"://").is_some() {
            return Err("only URLs relative to this session are taken: /mailbox/;UID=number");
        }
        let start = memchr::memchr(b';', text).ok_or("a URL of a message has ;UID=")?;
        let (path, parameters) = text.split_at(start);
        let mailbox = match path.strip_prefix(b"/") {
            None if path.is_empty() => None,
            None => return Err("a URL with a mailbox begins with /"),
            Some(name) => {
                let name = decode(name.strip_suffix(b"/").unwrap_or(name))?;
                if name.is_empty() {
                    return Err("a URL that begins with / has a mailbox");
                }
                Some(name)
            }
        };
        let mut url = Url {
            mailbox,
            validity: None,
            uid: 0,
            section: Section::default(),
            partial: None,
        };
        let mut last = 0;
        for parameter in parameters[1..].split(|byte| *byte == b';') {
            let parameter = parameter.strip_suffix(b"/").unwrap_or(parameter);
            let equals = memchr::memchr(b'=', parameter).ok_or("a parameter has a value")?;
            let (name, value) = (&parameter[..equals], &parameter[equals + 1..]);
            let known = ["UIDVALIDITY", "UID", "SECTION", "PARTIAL"];
            let place = known
                .iter()
                .position(|known| known.as_bytes().eq_ignore_ascii_case(name))
                .ok_or(
                    "a URL here has no other parameters than UIDVALIDITY, UID, SECTION, PARTIAL",
                )?;
            if place < last || (place > 1 && url.uid == 0) {
                return Err("UIDVALIDITY, UID, SECTION and PARTIAL come once and in this order");
            }
            last = place + 1;
            url.take(place, value)?;
        }
        if url.uid == 0 {
            return Err("a URL of a message has ;UID=");
        }
        if url.mailbox.is_none() && url.validity.is_some() {
            return Err("UIDVALIDITY goes with a mailbox");
        }
        Ok(url)
    }

    fn take(&mut self, place: usize, value: &[u8]) -> Result<(), &'static str> {
        let number = |value| parse_number(value).filter(|number| *number > 0);
        match place {
            0 => self.validity = Some(number(value).ok_or("UIDVALIDITY is a number above 0")?),
            1 => self.uid = number(value).ok_or("UID is a number above 0")?,
            2 => {
                self.section = parse_section_spec(&decode(value)?)
                    .ok_or("SECTION is what stands in the brackets of BODY[]")?;
            }
            _ => {
                let error = "PARTIAL is an offset, or an offset, a dot and a length above 0";
                let mut numbers = value.splitn(2, |byte| *byte == b'.');
                let offset = numbers.next().and_then(parse_number64).ok_or(error)?;
                let length = match numbers.next() {
                    None => None,
                    Some(length) => Some(
                        parse_number64(length)
                            .filter(|length| *length > 0)
                            .ok_or(error)?,
                    ),
                };
                self.partial = Some((offset, length));
            }
        }
        Ok(())
    }
}

/// Percent-encoding (RFC 3986 §2.1).
fn decode(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let digit = |index: usize| char::from(*rest.get(index)?).to_digit(16);
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err("% is followed by two hexadecimal digits");
        };
        decoded.push((high * 16 + low) as u8);
        rest = &rest[2..];
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::super::command::SectionText;
    use super::*;

    #[test]
    fn urls_of_messages_and_parts() {
        let url = Url::parse(b"/Drafts;UIDVALIDITY=385759045/;UID=20/;section=1.MIME/;PARTIAL=3.7");
        let url = url.expect("it is one");
        assert_eq!(url.mailbox.as_deref(), Some(&b"Drafts"[..]));
        assert_eq!((url.validity, url.uid), (Some(385_759_045), 20));
        assert_eq!(url.section.part, [1]);
        assert_eq!(url.section.text, SectionText::Mime);
        assert_eq!(url.partial, Some((3, Some(7))));

        let url = Url::parse(b"/a%2Fb/c%C3%BC/;uid=1;partial=5").expect("it is one");
        assert_eq!(url.mailbox.as_deref(), Some("a/b/c\u{fc}".as_bytes()));
        assert_eq!(
            (url.validity, url.uid, url.partial),
            (None, 1, Some((5, None)))
        );

        let url = Url::parse(b";UID=9/;SECTION=HEADER.FIELDS%20(To%20CC)").expect("it is one");
        assert_eq!(url.mailbox, None);
        let SectionText::Fields { names, not: false } = url.section.text else {
            panic!("{:?}", url.section);
        };
        assert_eq!(names, [b"To".to_vec(), b"CC".to_vec()]);
    }

    #[test]
    fn others_are_told_what_is_wrong() {
        for text in [
            "",
            "/INBOX",
            "INBOX/;UID=1",
            "/;UID=1",
            "imap://a@mx.example.org/INBOX/;UID=1",
            "//mx.example.org/INBOX/;UID=1",
            "/INBOX/;UID=0",
            "/INBOX/;UID=1:2",
            "/INBOX/;UID=1/;UID=1",
            "/INBOX/;SECTION=1/;UID=1",
            "/INBOX/;UID=1/;SECTION=",
            "/INBOX/;UID=1/;SECTION=1]",
            "/INBOX/;UID=1/;SECTION=FOO",
            "/INBOX/;UID=1/;PARTIAL=1.0",
            "/INBOX/;UID=1/;PARTIAL=x",
            "/INBOX/;UID=1;URLAUTH=anonymous",
            "/INBOX/;UID",
            "/a%/;UID=1",
            "/a%4g/;UID=1",
            "/a b/;UID=1",
            ";UIDVALIDITY=1/;UID=1",
        ] {
            assert!(Url::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
