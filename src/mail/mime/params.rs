//! Values with parameters: `Content-Type`, `Content-Disposition` (RFC 2045 §5.1, RFC 2183),
//! as sent: continuations and charsets of RFC 2231 are left to the client, which knows them.
//!
//! Guarantees: linear; what cannot be read ends the value, and what was read stays.
//! Does not know: which parameters mean what.

use std::borrow::Cow;

/// A media type with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType<'a> {
    /// `text` of `text/plain`, in the case sent.
    pub main: &'a [u8],
    /// `plain`.
    pub sub: &'a [u8],
    /// Names and values in the order sent.
    pub parameters: Parameters<'a>,
}

/// Names and values, quoting removed.
pub type Parameters<'a> = Vec<(&'a [u8], Cow<'a, [u8]>)>;

impl<'a> MediaType<'a> {
    /// What a part without (or with a broken) `Content-Type` has (RFC 2045 §5.2, RFC 2046 §5.1.5).
    pub fn default_in(digest: bool) -> MediaType<'a> {
        match digest {
            true => MediaType {
                main: b"message",
                sub: b"rfc822",
                parameters: Vec::new(),
            },
            false => MediaType {
                main: b"text",
                sub: b"plain",
                parameters: vec![(b"charset", Cow::Borrowed(b"us-ascii"))],
            },
        }
    }

    /// The first parameter of that name.
    pub fn parameter(&self, name: &[u8]) -> Option<&[u8]> {
        self.parameters
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
    }

    /// The type is `main`, in any case.
    pub fn is_main(&self, main: &[u8]) -> bool {
        self.main.eq_ignore_ascii_case(main)
    }

    /// The subtype is `sub`, in any case.
    pub fn is_sub(&self, sub: &[u8]) -> bool {
        self.sub.eq_ignore_ascii_case(sub)
    }

    /// `message/rfc822` or `message/global` (RFC 6532 §3.7).
    pub fn is_message(&self) -> bool {
        self.is_main(b"message") && (self.is_sub(b"rfc822") || self.is_sub(b"global"))
    }
}

/// ```text
/// content := "Content-Type" ":" type "/" subtype *(";" parameter)
/// ```
///
/// `value` is unfolded. `None`: not even a type and a subtype.
pub fn parse_media_type(value: &[u8]) -> Option<MediaType<'_>> {
    let mut reader = Reader { rest: value };
    let main = reader.token()?;
    reader.skip_byte(b'/').then_some(())?;
    let sub = reader.token()?;
    Some(MediaType {
        main,
        sub,
        parameters: reader.parameters(),
    })
}

/// ```text
/// disposition := "Content-Disposition" ":" disposition-type *(";" disposition-parm)
/// ```
///
/// `value` is unfolded. `None`: no type.
pub fn parse_disposition(value: &[u8]) -> Option<(&[u8], Parameters<'_>)> {
    let mut reader = Reader { rest: value };
    let kind = reader.token()?;
    Some((kind, reader.parameters()))
}

/// The language tags of `Content-Language` (RFC 3282 §2), from an unfolded value.
pub fn parse_languages(value: &[u8]) -> Vec<&[u8]> {
    let mut reader = Reader { rest: value };
    let mut tags = Vec::new();
    while let Some(tag) = reader.token() {
        tags.push(tag);
        if !reader.skip_byte(b',') {
            break;
        }
    }
    tags
}

struct Reader<'a> {
    rest: &'a [u8],
}

/// Bytes that a token cannot have: SPACE, CTLs and tspecials (RFC 2045 §5.1).
static ENDS_TOKEN: [bool; 256] = {
    let mut ends = [false; 256];
    let mut byte = 0;
    while byte <= b' ' {
        ends[byte as usize] = true;
        byte += 1;
    }
    ends[127] = true;
    let specials = b"()<>@,;:\\\"/[]?=";
    let mut at = 0;
    while at < specials.len() {
        ends[specials[at] as usize] = true;
        at += 1;
    }
    ends
};

impl<'a> Reader<'a> {
    /// Spaces and comments.
    fn skip_space(&mut self) {
        loop {
            self.rest = self.rest.trim_ascii_start();
            if self.rest.first() != Some(&b'(') {
                return;
            }
            self.rest = &self.rest[comment_bytes(self.rest)..];
        }
    }

    fn skip_byte(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    /// ```text
    /// token := 1*<any (US-ASCII) CHAR except SPACE, CTLs, or tspecials>
    /// ```
    ///
    /// 8-bit characters are let through: they are sent, and clients show them.
    fn token(&mut self) -> Option<&'a [u8]> {
        self.skip_space();
        let is_end = |byte: &u8| ENDS_TOKEN[usize::from(*byte)];
        let end = self.rest.iter().position(is_end).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    fn parameters(&mut self) -> Parameters<'a> {
        let mut parameters = Vec::new();
        loop {
            // What cannot be read is passed over up to the next parameter.
            self.skip_space();
            match memchr::memchr(b';', self.rest) {
                None => return parameters,
                Some(at) => self.rest = &self.rest[at + 1..],
            }
            let Some(name) = self.token() else { continue };
            if self.skip_byte(b'=') {
                parameters.push((name, self.value()));
            }
        }
    }

    /// A quoted string or a token; one that is cut short by a space goes on to the next semicolon,
    /// as file names do that are sent without quotes.
    fn value(&mut self) -> Cow<'a, [u8]> {
        self.skip_space();
        if self.rest.first() == Some(&b'"') {
            let (value, bytes) = quoted(self.rest);
            self.rest = &self.rest[bytes..];
            return value;
        }
        let start = self.rest;
        let is_end = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b';' | b'(');
        let end = start.iter().position(is_end).unwrap_or(start.len());
        self.rest = &start[end..];
        self.skip_space();
        if matches!(self.rest.first(), None | Some(b';')) {
            return Cow::Borrowed(&start[..end]);
        }
        let end = memchr::memchr(b';', start).unwrap_or(start.len());
        self.rest = &start[end..];
        Cow::Borrowed(start[..end].trim_ascii_end())
    }
}

/// Bytes of the comment that `text` begins with, nested ones included; all of it if it has no end.
pub(super) fn comment_bytes(text: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 1,
            b'(' => depth += 1,
            b')' if depth == 1 => return at + 1,
            b')' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// The content of the quoted string that `text` begins with, and its bytes with quotes.
pub(super) fn quoted(text: &[u8]) -> (Cow<'_, [u8]>, usize) {
    match memchr::memchr2(b'"', b'\\', &text[1..]) {
        Some(at) if text[1 + at] == b'"' => return (Cow::Borrowed(&text[1..=at]), at + 2),
        None => return (Cow::Borrowed(&text[1..]), text.len()),
        Some(_) => {}
    }
    let mut value = Vec::new();
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'"' => return (Cow::Owned(value), at + 1),
            b'\\' if at + 1 < text.len() => {
                at += 1;
                value.push(text[at]);
            }
            byte => value.push(byte),
        }
        at += 1;
    }
    (Cow::Owned(value), text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media_type(text: &str) -> String {
        let Some(parsed) = parse_media_type(text.as_bytes()) else {
            return "none".to_owned();
        };
        let mut out = format!(
            "{}/{}",
            String::from_utf8_lossy(parsed.main),
            String::from_utf8_lossy(parsed.sub)
        );
        for (name, value) in &parsed.parameters {
            out += &format!(
                "|{}={}",
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value)
            );
        }
        out
    }

    #[test]
    fn media_types() {
        for (text, expected) in [
            // RFC 2045 §5.1
            (
                "text/plain; charset=us-ascii (Plain text)",
                "text/plain|charset=us-ascii",
            ),
            (
                "text/plain; charset=\"us-ascii\"",
                "text/plain|charset=us-ascii",
            ),
            (
                "multipart/Mixed;boundary=\"a b\\\"c\" ; x = y;",
                "multipart/Mixed|boundary=a b\"c|x=y",
            ),
            (
                "application/pdf; name=a file.pdf; x=1",
                "application/pdf|name=a file.pdf|x=1",
            ),
            (" ( a (b) c ) text ( / ) / ( x ) html", "text/html"),
            (
                "a/b; filename*0*=utf-8''%c3; filename*1=x",
                "a/b|filename*0*=utf-8''%c3|filename*1=x",
            ),
            ("a/b; =x; y; z=", "a/b|z="),
            ("a/b; x=\"open", "a/b|x=open"),
            ("a/b; x=\"open\\", "a/b|x=open\\"),
            ("a/b (open", "a/b"),
            ("text", "none"),
            ("text/", "none"),
            ("", "none"),
        ] {
            assert_eq!(media_type(text), expected, "{text}");
        }
    }

    #[test]
    fn dispositions_and_languages() {
        let (kind, parameters) = parse_disposition(b"attachment; filename=x.txt").unwrap();
        assert_eq!(kind, b"attachment");
        assert_eq!(parameters.len(), 1);
        assert_eq!(parse_disposition(b""), None);
        let tags: [&[u8]; 2] = [b"de", b"en"];
        assert_eq!(parse_languages(b"de (German), en"), tags);
        assert!(parse_languages(b"").is_empty());
    }
}
