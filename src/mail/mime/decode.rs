//! Undoes `Content-Transfer-Encoding` (RFC 2045 §6), piece by piece, for BINARY (RFC 3516), previews
//! and search.
//!
//! Guarantees: the same output however the input is cut; never more output than input; a state of
//! bounded size. What is not valid is passed over (base64) or let through (quoted-printable), as
//! RFC 2045 §6.7 and §6.8 ask of robust readers.
//! Does not know: charsets.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::parts::Encoding;

/// Complete groups of base64, with or without padding, with any bits behind the last byte.
const GROUPS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Bytes of a quoted-printable line that are held back for its end; a longer one is cut.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// Of those that stay when it is cut: an escape is three.
const ESCAPE_BYTES: usize = 3;

/// Takes the body of one part, gives its content.
#[derive(Debug)]
pub struct TransferDecoder {
    encoding: Encoding,
    /// base64: bits of an incomplete group, and how many characters they came from.
    bits: u32,
    characters: u8,
    /// quoted-printable: the line whose end has not come.
    line: Vec<u8>,
}

impl TransferDecoder {
    /// For a body of that encoding; one that is unknown is passed through.
    pub fn new(encoding: Encoding) -> TransferDecoder {
        TransferDecoder {
            encoding,
            bits: 0,
            characters: 0,
            line: Vec::new(),
        }
    }

    /// Appends what the next piece holds to `out`.
    pub fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        match self.encoding {
            Encoding::Identity | Encoding::Unknown => out.extend_from_slice(piece),
            Encoding::Base64 => self.feed_base64(piece, out),
            Encoding::QuotedPrintable => self.feed_quoted(piece, out),
        }
    }

    /// Appends what was held back; the decoder is as new then.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.flush_group(out);
        let line = std::mem::take(&mut self.line);
        decode_line(&line, out);
    }

    fn feed_base64(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let mut rest = piece;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let (line, behind) = rest.split_at(end);
            rest = behind;
            let content = line.trim_ascii_end();
            let whole = content.len() / 4 * 4;
            if self.characters == 0 && decode_groups(&content[..whole], out) {
                self.feed_characters(&content[whole..], out);
            } else {
                self.feed_characters(content, out);
            }
        }
    }

    /// The slow way: anything may stand anywhere.
    fn feed_characters(&mut self, characters: &[u8], out: &mut Vec<u8>) {
        for &character in characters {
            let value = match character {
                b'A'..=b'Z' => character - b'A',
                b'a'..=b'z' => character - b'a' + 26,
                b'0'..=b'9' => character - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                // The end of one of several encoded texts in a row.
                b'=' => {
                    self.flush_group(out);
                    continue;
                }
                _ => continue,
            };
            self.bits = self.bits << 6 | u32::from(value);
            self.characters += 1;
            if self.characters == 4 {
                out.extend_from_slice(&self.bits.to_be_bytes()[1..]);
                (self.bits, self.characters) = (0, 0);
            }
        }
    }

    fn flush_group(&mut self, out: &mut Vec<u8>) {
        match self.characters {
            2 => out.push((self.bits >> 4) as u8),
            3 => out.extend_from_slice(&((self.bits >> 2) as u16).to_be_bytes()),
            _ => {}
        }
        (self.bits, self.characters) = (0, 0);
    }

    fn feed_quoted(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let mut rest = piece;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (line, behind) = rest.split_at(at + 1);
            rest = behind;
            if self.line.is_empty() {
                decode_line(line, out);
            } else {
                self.hold_line(line, out);
                let mut held = std::mem::take(&mut self.line);
                decode_line(&held, out);
                held.clear();
                self.line = held;
            }
        }
        self.hold_line(rest, out);
    }

    fn hold_line(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        for piece in piece.chunks(LINE_BYTES_MAX) {
            if self.line.len() + piece.len() > LINE_BYTES_MAX {
                // No escape is cut: what stays begins at the last one that is not complete.
                let tail = self.line.len().saturating_sub(ESCAPE_BYTES - 1);
                let cut = memchr::memrchr(b'=', &self.line[tail..]);
                let cut = cut.map_or(self.line.len(), |at| tail + at);
                decode_escapes(&self.line[..cut], out);
                self.line.drain(..cut);
            }
            self.line.extend_from_slice(piece);
        }
    }
}

/// `true`: the groups were valid and are in `out`.
fn decode_groups(groups: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.resize(start + groups.len() / 4 * 3, 0);
    let is_valid = GROUPS.decode_slice(groups, &mut out[start..]).is_ok();
    if !is_valid {
        out.truncate(start);
    }
    is_valid
}

/// A whole line, with its break: RFC 2045 §6.7 (3): spaces at its end are not part of it.
fn decode_line(line: &[u8], out: &mut Vec<u8>) {
    let content = match line {
        [content @ .., b'\r', b'\n'] | [content @ .., b'\n'] => content,
        unended => {
            // The end of the body.
            let text = unended.strip_suffix(b"=").unwrap_or(unended);
            return decode_escapes(text, out);
        }
    };
    let line_break = &line[content.len()..];
    let content = trim_spaces(content);
    match content.strip_suffix(b"=") {
        Some(text) => decode_escapes(text, out),
        None => {
            decode_escapes(content, out);
            out.extend_from_slice(line_break);
        }
    }
}

fn trim_spaces(mut line: &[u8]) -> &[u8] {
    while let [front @ .., b' ' | b'\t'] = line {
        line = front;
    }
    line
}

/// `=XX`; what is none stays as it is.
fn decode_escapes(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'=', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let digit = |index: usize| {
            rest.get(index)
                .and_then(|byte| (*byte as char).to_digit(16))
        };
        let used = match (digit(1), digit(2)) {
            (Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                3
            }
            _ => {
                out.push(b'=');
                1
            }
        };
        rest = &rest[used..];
    }
    out.extend_from_slice(rest);
}

/// The content of a body that is in memory (BINARY and BINARY.SIZE, RFC 3516); `None`: its encoding
/// is unknown (`NO [UNKNOWN-CTE]`).
pub fn decode_body(encoding: Encoding, body: &[u8]) -> Option<Vec<u8>> {
    if encoding == Encoding::Unknown {
        return None;
    }
    let mut out = Vec::with_capacity(body.len());
    let mut decoder = TransferDecoder::new(encoding);
    decoder.feed(body, &mut out);
    decoder.finish(&mut out);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    fn decode(encoding: Encoding, body: &[u8]) -> Vec<u8> {
        let whole = decode_body(encoding, body).unwrap();
        let mut out = Vec::new();
        let mut decoder = TransferDecoder::new(encoding);
        for byte in body {
            decoder.feed(std::slice::from_ref(byte), &mut out);
        }
        decoder.finish(&mut out);
        assert_eq!(out, whole, "{}", body.escape_ascii());
        whole
    }

    #[test]
    fn base64() {
        for (body, expected) in [
            ("", ""),
            ("aGVsbG8=", "hello"),
            ("aGVs\r\nbG8gd29y\r\nbGQ=\r\n", "hello world"),
            ("aGVsbG8", "hello"),
            ("aG Vs*bG8", "hello"),
            ("aGVsbG8=aGVsbG8=", "hellohello"),
            ("YQ==\r\nYg==", "ab"),
            ("Y", ""),
            ("=====", ""),
        ] {
            let decoded = decode(Encoding::Base64, body.as_bytes());
            assert_eq!(decoded.escape_ascii().to_string(), expected, "{body}");
        }
    }

    #[test]
    fn quoted_printable() {
        for (body, expected) in [
            ("", ""),
            // RFC 2045 §6.7
            (
                "Now's the time =\r\nfor all folk to come=\r\n to the aid of their country.",
                "Now's the time for all folk to come to the aid of their country.",
            ),
            ("a=3Db=3d=0A", "a=b=\n"),
            ("a  \t\r\nb \n", "a\r\nb\n"),
            ("a= \t\r\nb", "ab"),
            ("a=", "a"),
            ("a=4", "a=4"),
            ("a=xyz= =20", "a=xyz=  "),
            ("=\n=\r\n", ""),
        ] {
            let decoded = decode(Encoding::QuotedPrintable, body.as_bytes());
            assert_eq!(String::from_utf8_lossy(&decoded), expected, "{body}");
        }
    }

    #[test]
    fn long_lines_are_cut_between_escapes() {
        for shift in 0..3 {
            let mut body = vec![b'x'; shift];
            body.extend(b"=41".repeat(3 * LINE_BYTES_MAX));
            let mut expected = vec![b'x'; shift];
            expected.resize(shift + 3 * LINE_BYTES_MAX, b'A');
            assert!(decode(Encoding::QuotedPrintable, &body) == expected);
        }
    }

    #[test]
    fn what_is_unknown_has_no_content() {
        assert_eq!(decode_body(Encoding::Unknown, b"x"), None);
        assert_eq!(decode(Encoding::Identity, b"=41"), b"=41");
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(content: Vec<u8>, width in 1..100_usize) {
            let encoded = STANDARD.encode(&content);
            let lines: Vec<&[u8]> = encoded.as_bytes().chunks(width).collect();
            prop_assert_eq!(&decode(Encoding::Base64, &lines.join(&b"\r\n"[..])), &content);
            let quoted: String = content.iter().map(|byte| format!("={byte:02X}")).collect();
            prop_assert_eq!(&decode(Encoding::QuotedPrintable, quoted.as_bytes()), &content);
        }

        #[test]
        fn any_bytes_are_decoded(body: Vec<u8>) {
            for encoding in [Encoding::Base64, Encoding::QuotedPrintable] {
                prop_assert!(decode(encoding, &body).len() <= body.len());
            }
        }
    }
}
