//! The first words of a message for a list of messages (RFC 8970).
//!
//! Guarantees: one line of at most [`PREVIEW_CHARS_MAX`] characters; bounded work, whatever the part.
//! Does not know: the rest of the message; give it the part that [`Parts::preview_part`] names.

use super::decode::TransferDecoder;
use super::fields::{FieldName, fields, unfold};
use super::params::parse_media_type;
use super::parts::{Charset, Kind, Part, Parts};
use super::text::{decode_charset, strip_html};
use crate::limits::{PREVIEW_CHARS_MAX, PREVIEW_SOURCE_BYTES_MAX};

impl Parts {
    /// The part that a preview is made from: the first plain text, or else the first other text;
    /// `None`: the message has no text, and its preview is empty.
    pub fn preview_part(&self) -> Option<usize> {
        let texts = || {
            let parts = self.0.iter().enumerate();
            parts.filter(|(_, part)| part.kind == Kind::Text)
        };
        let plain = texts().find(|(_, part)| !part.is_html);
        plain.or_else(|| texts().next()).map(|(index, _)| index)
    }
}

/// Makes the preview from the header and the start of the body of a part
/// (up to [`PREVIEW_SOURCE_BYTES_MAX`] of it are looked at).
pub fn preview(part: &Part, header: &[u8], body: &[u8]) -> String {
    let source = &body[..body.len().min(PREVIEW_SOURCE_BYTES_MAX)];
    let mut bytes = Vec::new();
    let mut decoder = TransferDecoder::new(part.encoding);
    decoder.feed(source, &mut bytes);
    if body.len() <= PREVIEW_SOURCE_BYTES_MAX {
        decoder.finish(&mut bytes);
    }
    let text = decode_charset(&charset_name(part, header), &bytes);
    match part.is_html {
        true => first_words(&strip_html(&text)),
        false => first_words(&text),
    }
}

/// The name in the `charset` parameter of a part's header; empty: UTF-8.
pub(super) fn charset_name(part: &Part, header: &[u8]) -> Vec<u8> {
    match part.charset {
        Charset::Utf8 => Vec::new(),
        Charset::Latin1 => b"iso-8859-1".to_vec(),
        Charset::Other => {
            let is_type = |name: &[u8]| FieldName::parse(name) == Some(FieldName::ContentType);
            let field = fields(header).find(|field| is_type(field.name));
            let value = unfold(field.map_or(&[][..], |field| field.value));
            let media_type = parse_media_type(&value);
            let charset = media_type.as_ref().and_then(|it| it.parameter(b"charset"));
            charset.unwrap_or_default().to_vec()
        }
    }
}

/// One line without quoted lines; RFC 8970 §3.1 leaves to the server what helps a reader.
fn first_words(text: &str) -> String {
    let mut out = String::new();
    let mut count = 0;
    let own = text.lines().filter(|line| !line.starts_with('>'));
    for word in own.flat_map(str::split_whitespace) {
        let space = usize::from(!out.is_empty());
        if space > 0 && count + 1 < PREVIEW_CHARS_MAX {
            out.push(' ');
            count += 1;
        } else if space > 0 {
            break;
        }
        let shown = word.chars().filter(|character| !character.is_control());
        for character in shown.take(PREVIEW_CHARS_MAX - count) {
            out.push(character);
            count += 1;
        }
        if count >= PREVIEW_CHARS_MAX {
            break;
        }
    }
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use super::super::Structure;
    use super::*;

    fn of(message: &[u8]) -> String {
        let structure = Structure::parse(message);
        let parts = structure.parts();
        let Some(index) = parts.preview_part() else {
            return "none".to_owned();
        };
        let part = &parts.as_slice()[index];
        let bytes =
            |range: &std::ops::Range<u32>| &message[range.start as usize..range.end as usize];
        preview(part, bytes(&part.header), bytes(&part.body))
    }

    #[test]
    fn previews() {
        assert_eq!(
            of(b"Subject: x\r\n\r\n> quoted\r\nHello,\r\n\r\n  you\x07 \r\n"),
            "Hello, you"
        );
        assert_eq!(
            of(
                b"Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n\
                 PHN0eWxlPng8L3N0eWxlPjxwPkhpJm5ic3A7PGI+dGhlcmU8L2I+PC9wPg=="
            ),
            "Hi there"
        );
        assert_eq!(
            of(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
                 Content-Type: text/html\r\n\r\n<p>html</p>\r\n--b\r\n\
                 Content-Type: text/plain; charset=koi8-r\r\n\r\n\xf0\xd2\xc9\r\n--b--\r\n"),
            "При"
        );
        assert_eq!(of(b"Content-Type: image/png\r\n\r\nx"), "none");
        assert_eq!(of(b""), "");
    }

    #[test]
    fn previews_are_cut() {
        let words = format!("\r\n{}", "wörd ".repeat(100));
        let preview = of(words.as_bytes());
        assert!(preview.chars().count() <= PREVIEW_CHARS_MAX);
        assert!(preview.starts_with("wörd wörd"));
        let long = format!("\r\n{}", "ü".repeat(1_000_000));
        assert_eq!(of(long.as_bytes()).chars().count(), PREVIEW_CHARS_MAX);
    }
}
