//! Text of messages as Unicode: encoded words (RFC 2047) and the charsets of text parts, through the
//! decoders of `mail-parser`.
//!
//! Guarantees: any bytes give a text; what has no meaning in its charset becomes U+FFFD.
//! Does not know: case and collation (see [`super::fold`]).

use std::borrow::Cow;

use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::decoders::html::html_to_text;
use mail_parser::parsers::MessageStream;

use super::fields::unfold;

/// The text of a field's value as sent: unfolded, encoded words decoded.
pub fn decode_field(value: &[u8]) -> String {
    let value = unfold(value);
    if memchr::memmem::find(&value, b"=?").is_none() {
        return decode_undeclared(&value).into_owned();
    }
    // The parser wants to see the end of the field.
    let line = [&*value, b"\n"].concat();
    let parsed = MessageStream::new(&line).parse_unstructured();
    match parsed.into_text() {
        Some(text) => text.into_owned(),
        None => decode_undeclared(&value).into_owned(),
    }
}

/// Text of which nobody says in which charset it is: UTF-8 (RFC 6532), or else what old programs
/// send most often.
pub(super) fn decode_undeclared(text: &[u8]) -> Cow<'_, str> {
    match (std::str::from_utf8(text), decoder(b"windows-1252")) {
        (Ok(text), _) => Cow::Borrowed(text),
        (Err(_), Some(decode)) => Cow::Owned(decode(text)),
        (Err(_), None) => String::from_utf8_lossy(text),
    }
}

/// Text in a charset named by a `charset` parameter; a name that nobody knows counts as UTF-8.
pub fn decode_charset<'a>(name: &[u8], text: &'a [u8]) -> Cow<'a, str> {
    match decoder(name) {
        Some(decode) => Cow::Owned(decode(text)),
        None => String::from_utf8_lossy(text),
    }
}

/// The decoder of a charset that is not UTF-8.
pub(super) fn decoder(name: &[u8]) -> Option<fn(&[u8]) -> String> {
    let is_utf8 = name.eq_ignore_ascii_case(b"utf-8") || name.eq_ignore_ascii_case(b"utf8");
    // The crate's map takes names of this length and no NUL.
    let is_name = (1..=45).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic);
    match is_name && !is_utf8 {
        true => charset_decoder(name),
        false => None,
    }
}

/// Text of HTML, without tags, styles and scripts.
pub fn strip_html(html: &str) -> String {
    html_to_text(html)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_decoded() {
        // RFC 2047 §8
        for (value, expected) in [
            (" =?ISO-8859-1?Q?a?=", "a"),
            (" =?ISO-8859-1?Q?a?= b", "a b"),
            (" =?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
            (" =?ISO-8859-1?Q?a?=\r\n    =?ISO-8859-1?Q?b?=", "ab"),
            (" =?ISO-8859-1?Q?a_b?=", "a b"),
            (" =?utf-8?B?R3LDvMOfZQ==?=\r\n", "Grüße"),
            (
                " =?iso-8859-1?q?Patrik_F=E4ltstr=F6m?= <p@x>\r\n",
                "Patrik Fältström <p@x>",
            ),
            (" plain\r\n text\r\n", "plain text"),
            (" =?broken\r\n", "=?broken"),
            (" =?utf-8?Q?open", "=?utf-8?Q?open"),
            ("", ""),
            (" \u{fc}\r\n", "\u{fc}"),
        ] {
            assert_eq!(decode_field(value.as_bytes()), expected, "{value}");
        }
        assert_eq!(decode_field(b"\xfc"), "ü");
    }

    #[test]
    fn charsets_by_name() {
        assert_eq!(decode_charset(b"iso-8859-1", b"gr\xfc\xdfe"), "grüße");
        assert_eq!(decode_charset(b"KOI8-R", b"\xf0\xd2\xc9"), "При");
        assert_eq!(decode_charset(b"iso-2022-jp", b"\x1b$B%O\x1b(B"), "ハ");
        assert_eq!(decode_charset(b"utf-8", "ü".as_bytes()), "ü");
        assert_eq!(decode_charset(b"x-nobody", "ü".as_bytes()), "ü");
        assert_eq!(decode_charset(&[0; 60], b"a"), "a");
    }
}
