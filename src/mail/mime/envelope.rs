//! ENVELOPE (RFC 9051 §7.5.2): the header of a message as a list of strings and addresses.
//!
//! Guarantees: one `envelope` of the grammar, whatever the header.
//! Does not know: the charset of anything; strings are as sent.

use super::addresses::{ListEntry, ListMailbox, parse_address_list};
use super::fields::{FieldName, unfold};
use super::scan::Structure;
use super::strings::{Strings, write_nstring, write_string, write_text};

/// The fields of an ENVELOPE as data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvelopeData {
    /// `Date`, as sent; `None`: the header has none. The same for the others.
    pub date: Option<Vec<u8>>,
    /// `Subject`.
    pub subject: Option<Vec<u8>>,
    /// `From`; empty: none.
    pub from: Vec<ListEntry>,
    /// `Sender`, or what `From` has.
    pub sender: Vec<ListEntry>,
    /// `Reply-To`, or what `From` has.
    pub reply_to: Vec<ListEntry>,
    /// `To`.
    pub to: Vec<ListEntry>,
    /// `Cc`.
    pub cc: Vec<ListEntry>,
    /// `Bcc`.
    pub bcc: Vec<ListEntry>,
    /// `In-Reply-To`.
    pub in_reply_to: Option<Vec<u8>>,
    /// `Message-ID`.
    pub message_id: Option<Vec<u8>>,
}

impl EnvelopeData {
    /// That of the message whose header part `part` has. Fields of addresses that come twice are
    /// taken together.
    pub fn new(structure: &Structure, part: usize) -> EnvelopeData {
        let text = |name| {
            structure
                .value(part, name)
                .map(|value| unfold(value).into_owned())
        };
        let list = |name| {
            let values = structure.values(part, name);
            let lists = values.map(|value| parse_address_list(&unfold(value)));
            lists.flatten().collect::<Vec<_>>()
        };
        let from = list(FieldName::From);
        // RFC 9051 §7.5.2: the server sets these where they are absent or empty.
        let or_from = |entries: Vec<ListEntry>| match entries.is_empty() {
            true => from.clone(),
            false => entries,
        };
        EnvelopeData {
            date: text(FieldName::Date),
            subject: text(FieldName::Subject),
            sender: or_from(list(FieldName::Sender)),
            reply_to: or_from(list(FieldName::ReplyTo)),
            to: list(FieldName::To),
            cc: list(FieldName::Cc),
            bcc: list(FieldName::Bcc),
            in_reply_to: text(FieldName::InReplyTo),
            message_id: text(FieldName::MessageId),
            from,
        }
    }

    /// ```text
    /// envelope = "(" env-date SP env-subject SP env-from SP env-sender SP env-reply-to SP
    ///            env-to SP env-cc SP env-bcc SP env-in-reply-to SP env-message-id ")"
    /// ```
    pub fn write(&self, strings: Strings, out: &mut Vec<u8>) {
        out.push(b'(');
        write_nstring(self.date.as_deref(), strings, out);
        out.push(b' ');
        match &self.subject {
            None => out.extend_from_slice(b"NIL"),
            Some(subject) => write_text(subject, strings, out),
        }
        let lists = [
            &self.from,
            &self.sender,
            &self.reply_to,
            &self.to,
            &self.cc,
            &self.bcc,
        ];
        for list in lists {
            out.push(b' ');
            write_list(list, strings, out);
        }
        out.push(b' ');
        write_nstring(self.in_reply_to.as_deref(), strings, out);
        out.push(b' ');
        write_nstring(self.message_id.as_deref(), strings, out);
        out.push(b')');
    }
}

/// ```text
/// env-from = "(" 1*address ")" / nil
/// ```
fn write_list(entries: &[ListEntry], strings: Strings, out: &mut Vec<u8>) {
    if entries.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    out.push(b'(');
    for entry in entries {
        match entry {
            ListEntry::Mailbox(mailbox) => write_mailbox(mailbox, strings, out),
            // RFC 9051: a NIL host marks a group, a NIL mailbox its end.
            ListEntry::GroupStart(name) => {
                out.extend_from_slice(b"(NIL NIL ");
                write_text(name, strings, out);
                out.extend_from_slice(b" NIL)");
            }
            ListEntry::GroupEnd => out.extend_from_slice(b"(NIL NIL NIL NIL)"),
        }
    }
    out.push(b')');
}

/// ```text
/// address = "(" addr-name SP addr-adl SP addr-mailbox SP addr-host ")"
/// ```
fn write_mailbox(mailbox: &ListMailbox, strings: Strings, out: &mut Vec<u8>) {
    out.push(b'(');
    match &mailbox.name {
        None => out.extend_from_slice(b"NIL"),
        Some(name) => write_text(name, strings, out),
    }
    out.push(b' ');
    write_nstring(mailbox.route.as_deref(), strings, out);
    out.push(b' ');
    write_string(&mailbox.local_part, strings, out);
    out.push(b' ');
    write_string(&mailbox.host, strings, out);
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(header: &str, strings: Strings) -> String {
        let structure = Structure::parse(header.as_bytes());
        let mut out = Vec::new();
        EnvelopeData::new(&structure, 0).write(strings, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// RFC 9051 §8, its message as its ENVELOPE shows it.
    #[test]
    fn the_example_of_the_rfc() {
        let header = "Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\n\
            From: Terry Gray <gray@cac.washington.edu>\r\n\
            Subject: IMAP4rev2 WG mtg summary and minutes\r\n\
            To: imap@cac.washington.edu\r\n\
            cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\n\
            Message-Id: <B27397-0100000@cac.washington.edu>\r\n\
            MIME-Version: 1.0\r\n\
            Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\r\n";
        let gray = "((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\"))";
        assert_eq!(
            envelope(header, Strings::Ascii),
            format!(
                "(\"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\" \
                 \"IMAP4rev2 WG mtg summary and minutes\" {gray} {gray} {gray} \
                 ((NIL NIL \"imap\" \"cac.washington.edu\")) \
                 ((NIL NIL \"minutes\" \"CNRI.Reston.VA.US\")\
                 (\"John Klensin\" NIL \"KLENSIN\" \"MIT.EDU\")) NIL NIL \
                 \"<B27397-0100000@cac.washington.edu>\")"
            )
        );
    }

    #[test]
    fn absent_and_empty() {
        assert_eq!(
            envelope("\r\n", Strings::Ascii),
            "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"
        );
        assert_eq!(
            envelope(
                "Subject:\r\nTo:\r\nSender: \r\nFrom: a@b\r\n",
                Strings::Ascii
            ),
            "(NIL \"\" ((NIL NIL \"a\" \"b\")) ((NIL NIL \"a\" \"b\")) ((NIL NIL \"a\" \"b\")) \
             NIL NIL NIL NIL NIL)"
        );
    }

    #[test]
    fn groups_and_repeated_fields() {
        assert_eq!(
            envelope("To: A: b@c;\r\nTo: d@e\r\n", Strings::Ascii),
            "(NIL NIL NIL NIL NIL ((NIL NIL \"A\" NIL)(NIL NIL \"b\" \"c\")(NIL NIL NIL NIL)\
             (NIL NIL \"d\" \"e\")) NIL NIL NIL NIL)"
        );
    }

    #[test]
    fn text_in_utf8() {
        let header = "Subject: Grüße\r\nFrom: Jö <j@x>\r\n";
        let utf8 = envelope(header, Strings::Utf8);
        assert!(
            utf8.starts_with("(NIL \"Grüße\" ((\"Jö\" NIL \"j\" \"x\"))"),
            "{utf8}"
        );
        let ascii = envelope(header, Strings::Ascii);
        assert!(ascii.is_ascii());
        assert!(
            ascii.starts_with("(NIL \"=?utf-8?B?R3LDvMOfZQ==?=\" ((\"=?utf-8?B?SsO2?=\" NIL"),
            "{ascii}"
        );
    }
}
