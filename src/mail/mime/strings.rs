//! Writes strings as IMAP sends them (RFC 9051 §4.3), for ENVELOPE and BODYSTRUCTURE.
//!
//! Guarantees: whatever the bytes, what is written is one `nstring`; a string without NUL comes back
//! as it was.
//! Does not know: which fields are text.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Which strings a session can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strings {
    /// Without ENABLE: quoted strings are ASCII, and UTF-8 in texts becomes encoded words (RFC 2047).
    Ascii,
    /// After ENABLE of IMAP4rev2 or UTF8=ACCEPT: quoted strings are UTF-8 (RFC 6855 §3).
    Utf8,
}

/// Longer strings are sent as literals: quoted ones have to fit into a client's line.
const QUOTED_BYTES_MAX: usize = 1000;
/// Bytes of text in one encoded word: 75 characters less `=?utf-8?B??=` (RFC 2047 §2), in base64.
const ENCODED_WORD_BYTES: usize = 45;

/// A quoted string where possible, a literal else.
pub fn write_string(bytes: &[u8], strings: Strings, out: &mut Vec<u8>) {
    let is_quotable = bytes.len() <= QUOTED_BYTES_MAX
        && !bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
        && (bytes.is_ascii() || strings == Strings::Utf8 && std::str::from_utf8(bytes).is_ok());
    if is_quotable {
        out.push(b'"');
        for &byte in bytes {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(byte);
        }
        out.push(b'"');
        return;
    }
    // No IMAP string but a literal8 can hold a NUL, and ENVELOPE has no place for that.
    let count = bytes.iter().filter(|byte| **byte != 0).count();
    write!(out, "{{{count}}}\r\n").expect("writing to a Vec does not fail");
    out.extend(bytes.iter().filter(|byte| **byte != 0));
}

/// The same, `NIL` for what is not there.
pub fn write_nstring(bytes: Option<&[u8]>, strings: Strings, out: &mut Vec<u8>) {
    match bytes {
        None => out.extend_from_slice(b"NIL"),
        Some(bytes) => write_string(bytes, strings, out),
    }
}

/// A string that is text for people (a subject, a name): for a session that cannot take UTF-8, its
/// UTF-8 becomes encoded words. What is neither ASCII nor UTF-8 is sent as it is.
pub fn write_text(bytes: &[u8], strings: Strings, out: &mut Vec<u8>) {
    if strings == Strings::Ascii
        && !bytes.is_ascii()
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        write_string(&encode_words(text), strings, out);
    } else {
        write_string(bytes, strings, out);
    }
}

/// RFC 2047 §5: encoded words, spaces between them, none with part of a character.
fn encode_words(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (word, behind) = rest.split_at(rest.floor_char_boundary(ENCODED_WORD_BYTES));
        rest = behind;
        if !out.is_empty() {
            out.push(b' ');
        }
        out.extend_from_slice(b"=?utf-8?B?");
        out.extend_from_slice(STANDARD.encode(word).as_bytes());
        out.extend_from_slice(b"?=");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(bytes: &[u8], strings: Strings) -> String {
        let mut out = Vec::new();
        write_string(bytes, strings, &mut out);
        out.escape_ascii().to_string().replace("\\\"", "\"")
    }

    #[test]
    fn quoted_or_literal() {
        assert_eq!(string(b"", Strings::Ascii), "\"\"");
        assert_eq!(
            string(b"a \"b\" \\", Strings::Ascii),
            "\"a \\\\\"b\\\\\" \\\\\\\\\""
        );
        assert_eq!(string(b"a\r\nb", Strings::Utf8), "{4}\\r\\na\\r\\nb");
        assert_eq!(string(b"a\0b", Strings::Utf8), "{2}\\r\\nab");
        assert_eq!(string("ü".as_bytes(), Strings::Utf8), "\"\\xc3\\xbc\"");
        assert_eq!(
            string("ü".as_bytes(), Strings::Ascii),
            "{2}\\r\\n\\xc3\\xbc"
        );
        assert_eq!(string(b"\xfc", Strings::Utf8), "{1}\\r\\n\\xfc");
        assert!(string(&[b'a'; 1001], Strings::Ascii).starts_with("{1001}"));
    }

    #[test]
    fn text_becomes_encoded_words() {
        let mut out = Vec::new();
        write_text("Grüße".as_bytes(), Strings::Ascii, &mut out);
        assert_eq!(out, b"\"=?utf-8?B?R3LDvMOfZQ==?=\"");
        let long = "ü".repeat(40);
        let words = encode_words(&long);
        assert!(
            words
                .split(|byte| *byte == b' ')
                .all(|word| word.len() <= 75)
        );
        out.clear();
        write_text("Grüße".as_bytes(), Strings::Utf8, &mut out);
        assert_eq!(out, "\"Grüße\"".as_bytes());
        out.clear();
        write_nstring(None, Strings::Ascii, &mut out);
        assert_eq!(out, b"NIL");
    }
}
