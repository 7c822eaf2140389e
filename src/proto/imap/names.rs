//! Mailbox names: on the wire in modified UTF-7 (RFC 3501 §5.1.3) or in UTF-8 (RFC 9051 §5.1,
//! RFC 6855), here in UTF-8 with `/` between levels; and the patterns of LIST.
//!
//! Guarantees: what is decoded is in normalization form C, and INBOX is `INBOX` in whatever case it
//! came.
//! Does not know: which mailboxes there are, and which there may be.
//! On failure: says what is wrong with the name.

use base64::Engine;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use unicode_normalization::UnicodeNormalization;

use crate::limits::MAILBOX_NAME_BYTES_MAX;

/// Between the levels of a name.
pub const SEPARATOR: char = '/';
/// The mailbox that every account has (RFC 9051 §5.1).
pub const INBOX: &str = "INBOX";

/// RFC 3501 §5.1.3: base64 with `,` for `/`, and no padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::IMAP_MUTF7,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(false),
);

/// What is wrong with a name, for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Neither form.
    #[error("mailbox name is not modified UTF-7 (RFC 3501 5.1.3)")]
    Utf7,
    /// Not UTF-8.
    #[error("mailbox name is not UTF-8")]
    Utf8,
    /// Over the bound.
    #[error("mailbox name is too long: at most {MAILBOX_NAME_BYTES_MAX} bytes of UTF-8")]
    TooLong,
}

/// Decodes a name as it stands in a command; `utf8`: the client has enabled UTF8=ACCEPT or
/// IMAP4rev2. Without that UTF-8 is taken as well where the name is not ASCII: no modified UTF-7
/// looks like it.
///
/// # Errors
/// See [`NameError`]. A name that no mailbox can have (`*`, an empty level) is no error here: the
/// store says what is wrong with it when one is to be made.
pub fn decode(raw: &[u8], utf8: bool) -> Result<String, NameError> {
    let text = if utf8 || !raw.is_ascii() {
        std::str::from_utf8(raw)
            .map_err(|_| NameError::Utf8)?
            .to_owned()
    } else {
        decode_utf7(raw)?
    };
    // As large as what fits is after normalisation.
    if text.len() > MAILBOX_NAME_BYTES_MAX * 4 {
        return Err(NameError::TooLong);
    }
    let name: String = text.nfc().collect();
    Ok(with_inbox(name))
}

/// `INBOX` in any case is one mailbox; so it is as the first level of others.
fn with_inbox(name: String) -> String {
    let first = name.split(SEPARATOR).next().unwrap_or_default();
    if first.eq_ignore_ascii_case(INBOX) && first != INBOX {
        return format!("{INBOX}{}", &name[first.len()..]);
    }
    name
}

/// RFC 3501 §5.1.3.
///
/// ```text
/// "&" modified-base64 "-"   UTF-16, big endian; "&-" is "&"
/// ```
fn decode_utf7(raw: &[u8]) -> Result<String, NameError> {
    let mut name = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(&byte) = rest.first() {
        if byte != b'&' {
            name.push(char::from(byte));
            rest = &rest[1..];
            continue;
        }
        let end = memchr::memchr(b'-', rest).ok_or(NameError::Utf7)?;
        let encoded = &rest[1..end];
        rest = &rest[end + 1..];
        if encoded.is_empty() {
            name.push('&');
            continue;
        }
        let bytes = BASE64.decode(encoded).map_err(|_| NameError::Utf7)?;
        let (units, left) = bytes.as_chunks::<2>();
        if !left.is_empty() {
            return Err(NameError::Utf7);
        }
        let units = units.iter().map(|unit| u16::from_be_bytes(*unit));
        for character in char::decode_utf16(units) {
            let character = character.map_err(|_| NameError::Utf7)?;
            // What ASCII can say must not be hidden in base64: `/`, `*` or a control character.
            if matches!(character, ' '..='~') {
                return Err(NameError::Utf7);
            }
            name.push(character);
        }
    }
    Ok(name)
}

/// A name in modified UTF-7.
pub fn encode_utf7(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut run: Vec<u8> = Vec::new();
    let flush = |run: &mut Vec<u8>, out: &mut String| {
        if !run.is_empty() {
            out.push('&');
            BASE64.encode_string(&*run, out);
            out.push('-');
            run.clear();
        }
    };
    for character in name.chars() {
        if matches!(character, ' '..='~') {
            flush(&mut run, &mut out);
            out.push(character);
            if character == '&' {
                out.push('-');
            }
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                run.extend_from_slice(&unit.to_be_bytes());
            }
        }
    }
    flush(&mut run, &mut out);
    out
}

/// Writes a name as a quoted string, in the form that the client understands. Names of mailboxes
/// hold no control characters; others of a pattern become `?`.
pub fn write(name: &str, utf8: bool, out: &mut Vec<u8>) {
    let encoded;
    let text = if utf8
        || name
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~') && byte != b'&')
    {
        name
    } else {
        encoded = encode_utf7(name);
        &encoded
    };
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(if character.is_control() {
            '?'
        } else {
            character
        });
    }
    quoted.push('"');
    out.extend_from_slice(quoted.as_bytes());
}

/// A pattern of LIST with one wildcard for each run of them: `*` where there is one among them, for
/// that takes what the others take, or else `%`.
pub fn collapse(pattern: &str) -> String {
    let mut short = String::with_capacity(pattern.len());
    for character in pattern.chars() {
        match (short.chars().next_back(), character) {
            (Some('*'), '*' | '%') | (Some('%'), '%') => {}
            (Some('%'), '*') => {
                short.pop();
                short.push('*');
            }
            _ => short.push(character),
        }
    }
    short
}

/// Does a name match a pattern of LIST (RFC 9051 §6.3.9)? `*` is anything, `%` anything but a
/// separator. In time proportional to pattern × name, whatever the pattern.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    // `reached[n]`: the pattern so far can have taken `n` characters.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for wanted in pattern {
        match wanted {
            '*' | '%' => {
                for at in 1..=name.len() {
                    let passes = wanted == '*' || name[at - 1] != SEPARATOR;
                    reached[at] |= passes && reached[at - 1];
                }
            }
            _ => {
                for at in (1..=name.len()).rev() {
                    reached[at] = reached[at - 1] && name[at - 1] == wanted;
                }
                reached[0] = false;
            }
        }
    }
    reached[name.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_of_names() {
        for (wire, name) in [
            ("INBOX", "INBOX"),
            ("inbox", "INBOX"),
            ("Inbox/Sub", "INBOX/Sub"),
            ("inboxes", "inboxes"),
            ("a&-b", "a&b"),
            // RFC 3501 §5.1.3.
            ("~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),
            ("&2D3cqQ-", "💩"),
        ] {
            assert_eq!(
                decode(wire.as_bytes(), false),
                Ok(name.to_owned()),
                "{wire}"
            );
        }
        assert_eq!(decode("日本語".as_bytes(), true), Ok("日本語".to_owned()));
        assert_eq!(decode(b"a&b", true), Ok("a&b".to_owned()));
        // Composed, whatever came.
        assert_eq!(decode("e\u{301}".as_bytes(), true), Ok("é".to_owned()));
        for wire in [
            "&",
            "&AC",
            "&AC8-",
            "&2D0-",
            "&AA-",
            "a&*-",
            "&ZeVnLIqe",
            "&AGEA-",
        ] {
            assert_eq!(
                decode(wire.as_bytes(), false),
                Err(NameError::Utf7),
                "{wire}"
            );
        }
        assert_eq!(decode(b"\xff", true), Err(NameError::Utf8));
    }

    #[test]
    fn patterns() {
        for (pattern, name, is_match) in [
            ("*", "a/b", true),
            ("%", "a/b", false),
            ("%", "a", true),
            ("%/%", "a/b", true),
            ("a*b", "a/x/b", true),
            ("a%b", "a/x/b", false),
            ("", "", true),
            ("", "a", false),
            ("a", "ab", false),
            ("*a*", "bab", true),
            ("INBOX", "INBOX", true),
        ] {
            assert_eq!(matches(pattern, name), is_match, "{pattern} {name}");
        }
        // The kind of pattern that makes a matcher with memory of its steps only go round for ever.
        assert!(!matches(&"*a".repeat(500), &"a".repeat(400)));
    }

    #[test]
    fn runs_of_wildcards() {
        for (pattern, short) in [
            ("", ""),
            ("%", "%"),
            ("%%%a%%", "%a%"),
            ("%*%a**b", "*a*b"),
            ("**%", "*"),
        ] {
            assert_eq!(collapse(pattern), short);
        }
    }

    proptest! {
        #[test]
        fn utf7_round_trip(name in "\\PC{0,30}") {
            let encoded = encode_utf7(&name);
            prop_assert!(encoded.is_ascii());
            prop_assert_eq!(decode_utf7(encoded.as_bytes()), Ok(name));
        }

        #[test]
        fn never_panics(raw: Vec<u8>, utf8: bool, pattern in "[a/*%]{0,8}", name in "[a/b]{0,8}") {
            if let Ok(name) = decode(&raw, utf8) {
                write(&name, utf8, &mut Vec::new());
            }
            prop_assert_eq!(
                matches(&pattern, &name),
                matches(&collapse(&pattern), &name)
            );
        }
    }
}
