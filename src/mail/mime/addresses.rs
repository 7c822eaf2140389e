//! Address lists of a header as sent, for ENVELOPE and sort keys: encoded words stay, quoting goes.
//!
//! Guarantees: linear; any bytes are a list, broken addresses show what they have.
//! Does not know: whether an address could be delivered to (see [`crate::mail::Address`]).

use super::params::{comment_bytes, quoted};

/// An entry of an address list, or the bounds of a group (RFC 5322 §3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListEntry {
    /// `Name <@route:local@host>`.
    Mailbox(ListMailbox),
    /// `Group:`; the entries up to [`ListEntry::GroupEnd`] are in it.
    GroupStart(Vec<u8>),
    /// `;`.
    GroupEnd,
}

/// One mailbox, its strings as sent, without quoting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListMailbox {
    /// The display name, or the comment that stands for one.
    pub name: Option<Vec<u8>>,
    /// The obsolete source route: `@a,@b`.
    pub route: Option<Vec<u8>>,
    /// What stands left of the `@`.
    pub local_part: Vec<u8>,
    /// What stands right of it; empty: there is none.
    pub host: Vec<u8>,
}

/// Reads the list in an unfolded value.
///
/// ```text
/// address-list = (address *("," address)) / obs-addr-list
/// address      = mailbox / group
/// mailbox      = name-addr / addr-spec
/// group        = display-name ":" [group-list] ";" [CFWS]
/// ```
pub fn parse_address_list(value: &[u8]) -> Vec<ListEntry> {
    let mut parser = Parser::default();
    let mut rest = value;
    while let Some(&byte) = rest.first() {
        rest = parser.take(byte, rest);
    }
    parser.end_mailbox();
    if parser.in_group {
        parser.entries.push(ListEntry::GroupEnd);
    }
    parser.entries
}

#[derive(Default)]
struct Parser {
    entries: Vec<ListEntry>,
    in_group: bool,
    /// Words so far, one space between those that are apart.
    words: Vec<u8>,
    space: bool,
    /// Left of an `@` outside of angle brackets.
    local_part: Option<Vec<u8>>,
    comment: Option<Vec<u8>>,
    /// From angle brackets; `words` was the name.
    angle: Option<ListMailbox>,
    /// A quoted string makes a name (or local part) even when it is empty.
    has_words: bool,
}

impl Parser {
    /// Takes what begins with `byte`, and returns what is behind it.
    fn take<'a>(&mut self, byte: u8, rest: &'a [u8]) -> &'a [u8] {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => self.space = true,
            b'(' => {
                let bytes = comment_bytes(rest);
                let end = if rest[..bytes].ends_with(b")") {
                    bytes - 1
                } else {
                    bytes
                };
                self.comment = Some(rest[1..end.max(1)].trim_ascii().to_vec());
                self.space = true;
                return &rest[bytes..];
            }
            b'"' => {
                let (text, bytes) = quoted(rest);
                self.word(&text);
                return &rest[bytes..];
            }
            b'<' => {
                let (mailbox, behind) = parse_angle(&rest[1..]);
                self.angle = Some(mailbox);
                return behind;
            }
            b'@' if self.local_part.is_none() && self.angle.is_none() => {
                self.local_part = Some(std::mem::take(&mut self.words));
                self.space = false;
            }
            b'[' if self.local_part.is_some() => {
                let end = memchr::memchr(b']', rest).map_or(rest.len(), |at| at + 1);
                self.word(&rest[..end]);
                return &rest[end..];
            }
            b',' => self.end_mailbox(),
            b':' if self.local_part.is_none() && self.angle.is_none() && !self.in_group => {
                let name = std::mem::take(&mut self.words);
                self.clear();
                self.in_group = true;
                self.entries.push(ListEntry::GroupStart(name));
            }
            b';' => {
                self.end_mailbox();
                if std::mem::take(&mut self.in_group) {
                    self.entries.push(ListEntry::GroupEnd);
                }
            }
            _ => {
                let is_end = |byte: &u8| b" \t\r\n(\"<@[,:;".contains(byte);
                let end = rest[1..]
                    .iter()
                    .position(is_end)
                    .map_or(rest.len(), |at| at + 1);
                self.word(&rest[..end]);
                return &rest[end..];
            }
        }
        &rest[1..]
    }

    fn word(&mut self, text: &[u8]) {
        // A dot joins the words of an obsolete local part, and nothing in a domain is apart.
        let joins = text.starts_with(b".") || self.words.ends_with(b".");
        if self.space && !self.words.is_empty() && self.local_part.is_none() && !joins {
            self.words.push(b' ');
        }
        self.space = false;
        self.has_words = true;
        self.words.extend_from_slice(text);
    }

    fn end_mailbox(&mut self) {
        let words = std::mem::take(&mut self.words);
        let comment = self.comment.take().filter(|text| !text.is_empty());
        let mailbox = if let Some(angle) = self.angle.take() {
            let mut name = self.local_part.take().unwrap_or_default();
            if !name.is_empty() {
                name.push(b'@');
            }
            name.extend_from_slice(&words);
            Some(ListMailbox {
                name: Some(name).filter(|name| !name.is_empty()).or(comment),
                ..angle
            })
        } else if let Some(local_part) = self.local_part.take() {
            Some(ListMailbox {
                name: comment,
                route: None,
                local_part,
                host: words,
            })
        } else if self.has_words || comment.is_some() {
            Some(ListMailbox {
                name: comment,
                route: None,
                local_part: words,
                host: Vec::new(),
            })
        } else {
            None
        };
        self.entries.extend(mailbox.map(ListEntry::Mailbox));
        self.clear();
    }

    fn clear(&mut self) {
        self.words.clear();
        self.space = false;
        self.local_part = None;
        self.comment = None;
        self.angle = None;
        self.has_words = false;
    }
}

/// ```text
/// angle-addr     = [CFWS] "<" addr-spec ">" [CFWS] / obs-angle-addr
/// obs-angle-addr = [CFWS] "<" obs-route addr-spec ">" [CFWS]
/// ```
///
/// `text` is what is behind the `<`. Returns what is behind the `>` as well.
fn parse_angle(text: &[u8]) -> (ListMailbox, &[u8]) {
    let mut mailbox = ListMailbox::default();
    let mut rest = text.trim_ascii_start();
    if rest.first() == Some(&b'@')
        && let Some(colon) = memchr::memchr2(b':', b'>', rest)
        && rest[colon] == b':'
    {
        let is_kept = |byte: &u8| !byte.is_ascii_whitespace();
        mailbox.route = Some(rest[..colon].iter().copied().filter(is_kept).collect());
        rest = &rest[colon + 1..];
    }
    let mut in_host = false;
    while let Some(&byte) = rest.first() {
        let target = match in_host {
            true => &mut mailbox.host,
            false => &mut mailbox.local_part,
        };
        match byte {
            b'>' => return (mailbox, &rest[1..]),
            b'"' => {
                let (text, bytes) = quoted(rest);
                target.extend_from_slice(&text);
                rest = &rest[bytes..];
            }
            b'(' => rest = &rest[comment_bytes(rest)..],
            b'@' if !in_host => {
                in_host = true;
                rest = &rest[1..];
            }
            _ => {
                if !byte.is_ascii_whitespace() {
                    target.push(byte);
                }
                rest = &rest[1..];
            }
        }
    }
    (mailbox, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name|route|local|host`, groups as `[name` and `]`.
    fn list(text: &str) -> Vec<String> {
        let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let option =
            |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or("-".to_owned(), |bytes| show(bytes));
        parse_address_list(text.as_bytes())
            .iter()
            .map(|entry| match entry {
                ListEntry::GroupStart(name) => format!("[{}", show(name)),
                ListEntry::GroupEnd => "]".to_owned(),
                ListEntry::Mailbox(mailbox) => format!(
                    "{}|{}|{}|{}",
                    option(&mailbox.name),
                    option(&mailbox.route),
                    show(&mailbox.local_part),
                    show(&mailbox.host)
                ),
            })
            .collect()
    }

    #[test]
    fn mailboxes() {
        for (text, expected) in [
            ("john.doe@example.org", "-|-|john.doe|example.org"),
            ("John Doe <jd@example.org>", "John Doe|-|jd|example.org"),
            // RFC 5322 A.1.2, A.5, A.6.1
            (
                "\"Joe Q. Public\" <john.q.public@example.com>",
                "Joe Q. Public|-|john.q.public|example.com",
            ),
            (
                "\"Giant; \\\"Big\\\" Box\" <sysservices@example.net>",
                "Giant; \"Big\" Box|-|sysservices|example.net",
            ),
            (
                "Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>",
                "Pete|-|pete|silly.test",
            ),
            (
                "Mary Smith <@node.test, @b:mary@example.net>",
                "Mary Smith|@node.test,@b|mary|example.net",
            ),
            ("john . doe@exa mple.org", "-|-|john.doe|example.org"),
            ("jd@example.org (John Doe)", "John Doe|-|jd|example.org"),
            ("=?utf-8?Q?J=C3=B6?= <j@x>", "=?utf-8?Q?J=C3=B6?=|-|j|x"),
            ("\"a b\"@x", "-|-|a b|x"),
            ("<\"a@b\"@x>", "-|-|a@b|x"),
            ("a@[192.0.2.1]", "-|-|a|[192.0.2.1]"),
            ("a@[IPv6:2001:db8::1]", "-|-|a|[IPv6:2001:db8::1]"),
            ("root", "-|-|root|"),
            ("Nobody <>", "Nobody|-||"),
            ("x@y <a@b>", "x@y|-|a|b"),
            ("<a@b", "-|-|a|b"),
            ("\"open", "-|-|open|"),
            ("(only a comment", "only a comment|-||"),
            ("J. R. <j@x>", "J.R.|-|j|x"),
        ] {
            assert_eq!(list(text), [expected], "{text}");
        }
    }

    #[test]
    fn lists_and_groups() {
        assert_eq!(list("a@b,, c@d ,"), ["-|-|a|b", "-|-|c|d"]);
        assert_eq!(
            list("A Group:Chris <c@x.y>,joe@z;, last@w"),
            ["[A Group", "Chris|-|c|x.y", "-|-|joe|z", "]", "-|-|last|w"]
        );
        assert_eq!(
            list("undisclosed-recipients:;"),
            ["[undisclosed-recipients", "]"]
        );
        assert_eq!(list("Open: a@b"), ["[Open", "-|-|a|b", "]"]);
        assert!(list("").is_empty());
        assert!(list(" , ;").is_empty());
    }
}
