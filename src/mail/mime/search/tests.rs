//! Search against a plain reference: texts that are known before they are encoded, folded character
//! by character, and a search of the standard library.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::super::Structure;
use super::*;

fn fold(text: &str) -> String {
    text.chars().map(fold_char).collect()
}

/// Searches with the message whole, alone and beside other strings, and text parts in pieces; all
/// must agree.
fn found(message: &[u8], string: &str, with_header: bool) -> bool {
    let structure = Structure::parse(message);
    let mask = u64::from(with_header);
    let one = [Needle::new(string)];
    let mut search = TextSearch::default();
    let whole = search.message(&one, mask, message, structure.parts());
    let others = ["", string, "a rather long string that nothing holds", "e"].map(Needle::new);
    let beside = search.message(&others, mask << 1, message, structure.parts());
    assert_eq!(beside >> 1 & 1, whole, "{string:?} beside others");
    let mut in_pieces = 0;
    for (index, part) in structure.parts().as_slice().iter().enumerate() {
        let bytes = |range: &Range<u32>| &message[range.start as usize..range.end as usize];
        let header = bytes(&part.header);
        if index > 0 || with_header {
            in_pieces |= search.whole_header(&one, 1, header);
        }
        if part.kind == Kind::Text {
            search.begin_text(part, header);
            for piece in bytes(&part.body).chunks(3) {
                in_pieces |= search.feed_text(&one, 1, piece, false);
            }
            in_pieces |= search.feed_text(&one, 1, b"", true);
        }
    }
    assert_eq!(whole, in_pieces, "{string:?} in {}", message.escape_ascii());
    whole == 1
}

#[test]
fn texts_of_every_charset_and_encoding() {
    let with = |fields: &str, body: &[u8]| [fields.as_bytes(), b"\r\n\r\n", body].concat();
    for (message, string, expected) in [
        (with("A: b", b"Hello World"), "o w", true),
        (with("A: b", b"Hello World"), "o x", false),
        (with("A: b", "GRÜSSE".as_bytes()), "grüs", true),
        (with("A: b", "Οδυσσεύς".as_bytes()), "ΟΔΥΣΣΕΎΣ", true),
        (with("A: b", "300 \u{212a}".as_bytes()), "300 k", true),
        (
            with(
                "Content-Type: text/plain; charset=ISO-8859-1",
                b"gr\xdc\xdfe",
            ),
            "Grüße",
            true,
        ),
        (
            with("Content-Type: text/plain; charset=latin1", b"5 \x80"),
            "5 €",
            true,
        ),
        (
            with("Content-Type: text/plain; charset=koi8-r", b"\xf0\xd2\xc9"),
            "пРИ",
            true,
        ),
        (
            with(
                "Content-Type: text/plain; charset=iso-2022-jp",
                b"\x1b$B%O\x1b(B",
            ),
            "ハ",
            true,
        ),
        (
            with(
                "Content-Transfer-Encoding: base64",
                b"SGVs\r\nbG8gV29y\r\nbGQ=\r\n",
            ),
            "HELLO world",
            true,
        ),
        (
            with("Content-Transfer-Encoding: base64", b"SGVsbG8gV29ybGQ="),
            "SGVs",
            false,
        ),
        (
            with(
                "Content-Transfer-Encoding: quoted-printable",
                b"Hel=\r\nlo=20W=6Frld",
            ),
            "hello world",
            true,
        ),
        (with("Content-Type: image/png", b"Hello"), "hello", false),
        // What is no UTF-8 does not hide what is.
        (with("A: b", b"\xff\xfeHello \xc3"), "hello", true),
        (with("A: b", b""), "", true),
    ] {
        assert_eq!(found(&message, string, false), expected, "{string}");
    }
}

#[test]
fn headers_are_unfolded_and_decoded() {
    let message = "Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?= aus\r\n Wien\r\nX: \u{fc}\r\n\r\nbody";
    for (string, expected) in [
        ("subject: GRÜßE aus wien\r\n", true),
        ("x: Ü", true),
        ("=?utf-8", false),
        ("body", true),
    ] {
        assert_eq!(
            found(message.as_bytes(), string, true),
            expected,
            "{string}"
        );
    }
    let plain = b"To: a@b,\r\n\tc@d\r\nCc:\r\n e\r\n\r\nx";
    for (string, expected) in [
        ("a@b,\tc@D\r\ncc: E\r\n", true),
        ("e\r\n\r\n", false),
        ("cc:\r\n", false),
    ] {
        assert_eq!(found(plain, string, true), expected, "{string}");
        assert!(!found(plain, string, false));
    }
}

#[test]
fn one_field_by_its_name() {
    let header = b"Subject: a b\r\nsubject: =?utf-8?Q?=C3=BC?=\r\nX-Empty:\r\n\r\n";
    let has = |name: &[u8], string| {
        let needle = Needle::new(string);
        let mut search = FieldSearch::new(name, &needle);
        search.feed(HeaderPiece::whole(header));
        search.is_found()
    };
    assert!(has(b"SUBJECT", "A b"));
    assert!(has(b"Subject", "Ü"));
    assert!(!has(b"Subject", "c"));
    assert!(has(b"x-empty", ""));
    assert!(!has(b"x-absent", ""));
}

#[test]
fn parts_headers_belong_to_the_body() {
    let message = b"Subject: outer\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
        preamble\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ntext\r\n\
        --b\r\nContent-Disposition: attachment; filename=report.pdf\r\n\
        Content-Type: application/pdf\r\n\r\npdf\r\n--b--\r\n";
    for (string, in_text, in_body) in [
        ("outer", true, false),
        ("inner", true, true),
        ("REPORT", true, true),
        ("text", true, true),
        ("pdf\r\n--b", false, false),
    ] {
        assert_eq!(found(message, string, true), in_text, "{string}");
        assert_eq!(found(message, string, false), in_body, "{string}");
    }
}

#[test]
fn matches_across_windows() {
    for at in [
        WINDOW_BYTES - 3,
        WINDOW_BYTES - 1,
        WINDOW_BYTES,
        3 * WINDOW_BYTES - 2,
    ] {
        for charset in ["utf-8", "koi8-r"] {
            let mut body = "x".repeat(at);
            body += if charset == "utf-8" {
                "nädel"
            } else {
                "nadel"
            };
            body += &"x".repeat(WINDOW_BYTES);
            let string = if charset == "utf-8" {
                "NÄDEL"
            } else {
                "NADEL"
            };
            let encoded = STANDARD.encode(&body);
            for (encoding, body) in [("8bit", &body), ("base64", &encoded)] {
                let message = format!(
                    "Content-Type: text/plain; charset={charset}\r\n\
                     Content-Transfer-Encoding: {encoding}\r\n\r\n{body}"
                );
                let structure = Structure::parse(message.as_bytes());
                let mut search = TextSearch::default();
                // The others come before it and in another place.
                let needles = ["xx", string, "none"].map(Needle::new);
                let bytes = message.as_bytes();
                let found = search.message(&needles, 0, bytes, structure.parts());
                assert_eq!(found, 0b11, "{at}");
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Transfer {
    Plain,
    Base64,
    Quoted,
}

fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut column = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if column > 70 {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        let ends_line = matches!(bytes.get(index + 1), None | Some(b'\r' | b'\n'));
        match byte {
            b'=' | 0x7f.. | 0..=0x09 | 0x0b..=0x0c | 0x0e..=0x1f => {
                out.extend(format!("={byte:02X}").bytes())
            }
            b' ' if ends_line => out.extend_from_slice(b"=20"),
            _ => out.push(*byte),
        }
        column = if *byte == b'\n' { 0 } else { column + 3 };
    }
    out
}

fn message(text: &str, latin1: bool, transfer: Transfer) -> Vec<u8> {
    let bytes: Vec<u8> = match latin1 {
        true => text.chars().map(|character| character as u8).collect(),
        false => text.as_bytes().to_vec(),
    };
    let (encoding, body) = match transfer {
        Transfer::Plain => ("8bit", bytes),
        Transfer::Quoted => ("quoted-printable", quoted(&bytes)),
        Transfer::Base64 => {
            let encoded = STANDARD.encode(&bytes);
            let lines: Vec<&[u8]> = encoded.as_bytes().chunks(76).collect();
            ("base64", lines.join(&b"\r\n"[..]))
        }
    };
    let charset = if latin1 { "iso-8859-1" } else { "utf-8" };
    let mut message = format!(
        "Content-Type: text/plain; charset={charset}\r\n\
         Content-Transfer-Encoding: {encoding}\r\n\r\n"
    )
    .into_bytes();
    message.extend_from_slice(&body);
    message
}

proptest! {
    #[test]
    fn as_a_plain_search_does(
        words in proptest::collection::vec("[a-cA-CäÄßéÉkKsS\u{ff} =]{0,6}|ΣςЖж\u{212a}ſıİ|\r\n", 0..40),
        latin1: bool,
        transfer in prop_oneof![
            Just(Transfer::Plain),
            Just(Transfer::Base64),
            Just(Transfer::Quoted)
        ],
        string in "[a-cA-CäÄßéÉkKsSσΣжiı ]{1,4}",
        start in 0..100_usize,
        length in 1..12_usize,
    ) {
        let mut text = words.concat();
        if latin1 {
            text.retain(|character| (character as u32) < 0x80 || (0xa0..0x100).contains(&(character as u32)));
        }
        let message = message(&text, latin1, transfer);
        let part: String = text.chars().skip(start).take(length).collect();
        let upper: String = part.chars().flat_map(char::to_uppercase).collect();
        for string in [&string, &part, &upper] {
            prop_assert_eq!(
                found(&message, string, false),
                fold(&text).contains(&fold(string)),
                "{:?} in {:?}", string, text
            );
        }
    }

    #[test]
    fn any_bytes_can_be_searched(message: Vec<u8>, string: String) {
        found(&message, &string, true);
    }

    #[test]
    fn any_header_can_be_searched(lines in "([A-Za-z]{0,3}:? (=\\?utf-8\\?[QB]\\?[A-Z=]{0,4}(\\?=)?)?ü?\r?\n[ \t]?){0,6}") {
        found(lines.as_bytes(), "A", true);
    }
}
