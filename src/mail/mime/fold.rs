//! Case: what search compares (simple folding) and what SORT and THREAD order by
//! (i;unicode-casemap, RFC 5051).
//!
//! Guarantees: linear; folding twice changes nothing more; ASCII goes through vector code.
//! Does not know: languages.

use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization;

use crate::limits::SORT_KEY_BYTES_MAX;

/// Folds a character to what all its cases have in common, where that is one character: the lower
/// case of its upper case. `ß` has no single upper case and stays; `K` (Kelvin) becomes `k`.
pub fn fold_char(character: char) -> char {
    let upper = only(character.to_uppercase()).unwrap_or(character);
    only(upper.to_lowercase()).unwrap_or(upper)
}

fn only(mut characters: impl Iterator<Item = char>) -> Option<char> {
    let first = characters.next()?;
    characters.next().is_none().then_some(first)
}

/// [`fold_char`] of what is at most two bytes in UTF-8: the letters of most of Europe's languages.
static TWO_BYTES: LazyLock<Vec<char>> = LazyLock::new(|| {
    (0..0x800)
        .map(|code| char::from_u32(code).map_or(char::REPLACEMENT_CHARACTER, fold_char))
        .collect()
});

/// Appends the folded text.
pub fn fold_into(text: &str, out: &mut Vec<u8>) {
    let table = &**TWO_BYTES;
    let mut rest = text.as_bytes();
    let mut at = 0;
    while !rest.is_empty() {
        let ascii = ascii_prefix(rest);
        push_lowercase(&rest[..ascii], out);
        at += ascii;
        // Characters beyond ASCII seldom come alone.
        for character in text[at..].chars() {
            if character.is_ascii() {
                break;
            }
            at += character.len_utf8();
            let folded = match table.get(character as usize) {
                Some(folded) => *folded,
                None => fold_char(character),
            };
            out.extend_from_slice(folded.encode_utf8(&mut [0; 4]).as_bytes());
        }
        rest = &text.as_bytes()[at..];
    }
}

/// Appends ASCII in lower case.
pub(super) fn push_lowercase(ascii: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(ascii);
    out[start..].make_ascii_lowercase();
}

/// Bytes of ASCII that `bytes` begins with.
pub(super) fn ascii_prefix(bytes: &[u8]) -> usize {
    const BLOCK: usize = 32;
    let mut at = 0;
    while at + BLOCK <= bytes.len() && bytes[at..at + BLOCK].is_ascii() {
        at += BLOCK;
    }
    at + bytes[at..]
        .iter()
        .position(|byte| !byte.is_ascii())
        .unwrap_or(bytes.len() - at)
}

/// A key whose order as bytes is that of i;unicode-casemap (RFC 5051 §2): title case, then
/// decomposed; cut at [`SORT_KEY_BYTES_MAX`].
pub fn collation_key(text: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(text.len().min(SORT_KEY_BYTES_MAX));
    let titled = text
        .chars()
        .map(|character| only(character.to_uppercase()).unwrap_or(character));
    for character in titled.nfkd() {
        if key.len() + character.len_utf8() > SORT_KEY_BYTES_MAX {
            break;
        }
        key.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fold(text: &str) -> String {
        let mut out = Vec::new();
        fold_into(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn cases_meet() {
        assert_eq!(fold("Hello, WORLD 123"), "hello, world 123");
        assert_eq!(fold("GRÜẞE"), fold("grüße"));
        assert_eq!(fold("ΣΟΦΟΣ"), fold("σοφος"));
        assert_eq!(fold("σοφός"), fold("σοφόσ"));
        assert_eq!(fold("\u{212a}ſ"), "ks");
        assert_eq!(fold("ПРИВЕТ Ⴀ 𐐀"), fold("привет Ⴀ 𐐨"));
    }

    #[test]
    fn every_character_folds_once() {
        for character in (0..0x11_0000).filter_map(char::from_u32) {
            let folded = fold_char(character);
            assert_eq!(fold_char(folded), folded, "{character:?}");
            // A folded text is at most half again as long: buffers count on it.
            assert!(
                2 * folded.len_utf8() <= 3 * character.len_utf8(),
                "{character:?}"
            );
        }
    }

    #[test]
    fn keys_order_without_case() {
        assert_eq!(collation_key("Straße"), collation_key("sTRAßE"));
        assert_eq!(collation_key("é"), collation_key("E\u{301}"));
        assert!(collation_key("a") < collation_key("B"));
        assert!(collation_key("Éa") < collation_key("F"));
        let long = collation_key(&"ü".repeat(300));
        assert!(long.len() <= SORT_KEY_BYTES_MAX && std::str::from_utf8(&long).is_ok());
    }

    proptest! {
        #[test]
        fn runs_fold_as_characters_do(text: String) {
            let expected: String = text.chars().map(fold_char).collect();
            prop_assert_eq!(fold(&text), expected);
        }
    }
}
