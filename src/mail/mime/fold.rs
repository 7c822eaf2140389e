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

/// What the characters of two bytes in UTF-8 fold to, the letters of most of Europe's languages;
/// [`LONGER`]: to something of another length.
static TWO_BYTES: LazyLock<[[u8; 2]; 0x800]> = LazyLock::new(|| {
    std::array::from_fn(|code| {
        let folded = char::from_u32(code as u32).map_or('\0', fold_char);
        let mut bytes = LONGER;
        if folded.len_utf8() == bytes.len() {
            folded.encode_utf8(&mut bytes);
        }
        bytes
    })
});
const LONGER: [u8; 2] = [0; 2];

/// Appends the folded text.
///
/// Almost always a character and what it folds to are of one length: the text is copied and its
/// ASCII folded in one go, and then the few others are written over.
pub fn fold_into(text: &str, out: &mut Vec<u8>) {
    let table = &*TWO_BYTES;
    let bytes = text.as_bytes();
    let start = out.len();
    push_lowercase(bytes, out);
    let copy = &mut out[start..];
    let mut at = 0;
    loop {
        at += ascii_prefix(&bytes[at..]);
        let behind = match bytes[at..] {
            [] => return,
            [first @ 0xc2..=0xdf, second, ..] => {
                let folded = table[usize::from(first & 0x1f) << 6 | usize::from(second & 0x3f)];
                if folded == LONGER {
                    break;
                }
                copy[at..at + 2].copy_from_slice(&folded);
                at + 2
            }
            _ => {
                let Some(character) = text[at..].chars().next() else {
                    return;
                };
                let folded = fold_char(character);
                let end = at + character.len_utf8();
                if folded.len_utf8() != character.len_utf8() {
                    break;
                }
                folded.encode_utf8(&mut copy[at..end]);
                end
            }
        };
        at = behind;
    }
    out.truncate(start + at);
    for character in text[at..].chars() {
        out.extend_from_slice(fold_char(character).encode_utf8(&mut [0; 4]).as_bytes());
    }
}

/// Appends bytes, ASCII among them in lower case.
pub(super) fn push_lowercase(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(bytes);
    out[start..].make_ascii_lowercase();
}

/// Bytes of ASCII that `bytes` begins with.
fn ascii_prefix(bytes: &[u8]) -> usize {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let high = u64::from_le_bytes(*word) & HIGH_BITS;
        if high != 0 {
            return index * 8 + high.trailing_zeros() as usize / 8;
        }
    }
    let at = rest.iter().position(|byte| !byte.is_ascii());
    words.len() * 8 + at.unwrap_or(rest.len())
}

/// A key whose order as bytes is that of i;unicode-casemap (RFC 5051 §2): title case, then
/// decomposed; cut at [`SORT_KEY_BYTES_MAX`].
pub fn collation_key(text: &str) -> Vec<u8> {
    if text.is_ascii() {
        let end = text.len().min(SORT_KEY_BYTES_MAX);
        return text.as_bytes()[..end].to_ascii_uppercase();
    }
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
