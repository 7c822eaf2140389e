//! Messages taken apart: ranges, sections, bounds, and the same answer for any cut.

use proptest::prelude::*;

use super::super::parts::SectionText;
use super::*;

/// RFC 9051 §6.4.5 (part numbers): its example, with the numbers as text.
const NESTED: &str = "Subject: top\r\n\
    Content-Type: multipart/mixed; boundary=AA\r\n\
    \r\n\
    preamble\r\n\
    --AA\r\n\
    \r\n\
    one\r\n\
    --AA\r\n\
    Content-Type: application/octet-stream\r\n\
    \r\n\
    two\r\n\
    --AA\r\n\
    Content-Type: message/rfc822\r\n\
    \r\n\
    Subject: three\r\n\
    Content-Type: multipart/mixed; boundary=\"BB\"\r\n\
    \r\n\
    --BB\r\n\
    \r\n\
    three one\r\n\
    --BB\r\n\
    Content-Type: application/x\r\n\
    \r\n\
    three two\r\n\
    --BB--\r\n\
    \r\n\
    --AA\r\n\
    Content-Type: multipart/alternative; boundary=CC\r\n\
    \r\n\
    --CC\r\n\
    Content-Type: image/gif\r\n\
    \r\n\
    four one\r\n\
    --CC\r\n\
    Content-Type: message/rfc822\r\n\
    \r\n\
    Subject: four two\r\n\
    \r\n\
    four two one\r\n\
    line\r\n\
    --CC--\r\n\
    epilogue of four\r\n\
    --AA--\r\n\
    epilogue\r\n";

fn section<'a>(
    message: &'a str,
    structure: &Structure,
    numbers: &[u32],
    text: SectionText,
) -> Option<&'a str> {
    let range = structure.parts().section(numbers, text)?;
    Some(&message[range.start as usize..range.end as usize])
}

#[test]
fn sections_of_the_rfcs_tree() {
    let structure = Structure::parse(NESTED.as_bytes());
    let get = |numbers: &[u32], text| section(NESTED, &structure, numbers, text);
    use SectionText::*;
    assert_eq!(get(&[], Whole), Some(NESTED));
    assert!(get(&[], Header).unwrap().ends_with("boundary=AA\r\n\r\n"));
    assert!(get(&[], Text).unwrap().starts_with("preamble\r\n--AA"));
    assert_eq!(get(&[], Mime), None);
    assert_eq!(get(&[1], Whole), Some("one"));
    assert_eq!(get(&[1], Mime), Some("\r\n"));
    assert_eq!(get(&[1], Header), None);
    assert_eq!(get(&[1], Text), None);
    assert_eq!(get(&[2], Whole), Some("two"));
    assert_eq!(
        get(&[2], Mime),
        Some("Content-Type: application/octet-stream\r\n\r\n")
    );
    assert!(get(&[3], Whole).unwrap().starts_with("Subject: three\r\n"));
    assert!(get(&[3], Header).unwrap().starts_with("Subject: three\r\n"));
    assert!(get(&[3], Text).unwrap().starts_with("--BB\r\n"));
    assert_eq!(get(&[3, 1], Whole), Some("three one"));
    assert_eq!(get(&[3, 2], Whole), Some("three two"));
    assert_eq!(
        get(&[3, 2], Mime),
        Some("Content-Type: application/x\r\n\r\n")
    );
    assert_eq!(get(&[4, 1], Whole), Some("four one"));
    assert_eq!(get(&[4, 2], Header), Some("Subject: four two\r\n\r\n"));
    assert_eq!(get(&[4, 2], Text), Some("four two one\r\nline"));
    assert_eq!(get(&[4, 2, 1], Whole), Some("four two one\r\nline"));
    for absent in [
        &[0][..],
        &[5],
        &[1, 1],
        &[3, 3],
        &[4, 2, 2],
        &[4, 2, 1, 1],
        &[u32::MAX],
    ] {
        assert_eq!(get(absent, Whole), None, "{absent:?}");
    }
}

#[test]
fn a_message_without_parts_has_part_1() {
    let message = "Subject: x\n\nbody\n";
    let structure = Structure::parse(message.as_bytes());
    let get = |numbers: &[u32], text| section(message, &structure, numbers, text);
    assert_eq!(get(&[1], SectionText::Whole), Some("body\n"));
    assert_eq!(get(&[], SectionText::Text), Some("body\n"));
    assert_eq!(get(&[1], SectionText::Mime), Some("Subject: x\n\n"));
    assert_eq!(get(&[1, 1], SectionText::Whole), None);
    assert_eq!(structure.parts().root().lines, 1);
}

#[test]
fn boundaries_that_begin_with_another() {
    let message = "Content-Type: multipart/mixed; boundary=a\r\n\r\n\
        --a\r\nContent-Type: multipart/mixed; boundary=ab\r\n\r\n\
        --ab\r\n\r\none\r\n--ab--\r\n\
        --a \t\r\n\r\ntwo\r\n--abc\r\n\r\nthree\r\n--a--";
    let structure = Structure::parse(message.as_bytes());
    let get = |numbers: &[u32]| section(message, &structure, numbers, SectionText::Whole);
    assert_eq!(get(&[1, 1]), Some("one"));
    assert_eq!(get(&[2]), Some("two"));
    // RFC 2046 §5.1.1: it is enough that the line begins with it.
    assert_eq!(get(&[3]), Some("three"));
}

/// What holds for any message; returns its structure.
fn check(message: &[u8]) -> Structure {
    let structure = Structure::parse(message);
    let parts = structure.parts().as_slice();
    assert!((1..=MIME_PARTS_MAX).contains(&parts.len()));
    assert_eq!(parts[0].header.start, 0);
    assert_eq!(parts[0].body.end as usize, message.len());
    let mut depths: Vec<usize> = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        assert!(part.header.start <= part.header.end);
        assert_eq!(part.header.end, part.body.start);
        assert!(part.body.start <= part.body.end);
        let body = &message[part.body.start as usize..part.body.end as usize];
        assert_eq!(
            memchr::memchr_iter(b'\n', body).count(),
            part.lines as usize
        );
        let parent = &parts[usize::from(part.parent)];
        let end = usize::from(part.descendants_end);
        assert!(index < end && end <= parts.len());
        if index == 0 {
            depths.push(1);
            assert_eq!(end, parts.len());
            continue;
        }
        assert!(usize::from(part.parent) < index);
        depths.push(depths[usize::from(part.parent)] + 1);
        assert!(end <= usize::from(parent.descendants_end));
        assert!(parent.body.start <= part.header.start && part.body.end <= parent.body.end);
        assert!(matches!(parent.kind, Kind::Multipart | Kind::Message));
        assert_eq!(part.is_root, parent.kind == Kind::Message);
        let before = &parts[index - 1];
        assert!(before.body.start <= part.header.start);
    }
    assert!(depths.iter().all(|depth| *depth <= MIME_DEPTH_MAX));
    for (index, part) in parts.iter().enumerate() {
        let count = structure.parts().children(index).count();
        match part.kind {
            Kind::Multipart => assert!(count > 0),
            Kind::Message => assert_eq!(count, 1),
            _ => assert_eq!(count, 0),
        }
    }
    let kept: usize = structure.values.len();
    assert!(kept <= MIME_FIELDS_BYTES_MAX);
    structure
}

#[test]
fn bodies_end_in_front_of_their_boundary() {
    let message =
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nlf\n--b\n\n\r\n--b\n\n--b\n\
        X: no end\n--b\n--b--\n--b\nepilogue";
    let structure = check(message);
    let bodies: Vec<&[u8]> = structure.parts().as_slice()[1..]
        .iter()
        .map(|part| &message[part.body.start as usize..part.body.end as usize])
        .collect();
    let expected: [&[u8]; 5] = [b"lf", b"", b"", b"", b""];
    assert_eq!(bodies, expected);
}

#[test]
fn headers_without_an_end() {
    for message in ["Content-Type: image/png", "Content-Type: image/png\r\n"] {
        let structure = check(message.as_bytes());
        assert_eq!(structure.parts().root().kind, Kind::Basic);
        assert_eq!(structure.parts().root().header.len(), message.len());
    }
    for message in ["", "\r\n", "\n", "\r", "x"] {
        assert_eq!(check(message.as_bytes()).parts().root().kind, Kind::Text);
    }
}

#[test]
fn what_is_beyond_the_bounds_is_opaque() {
    let mut message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_vec();
    message.extend(b"--b\r\n\r\nx\r\n".repeat(100_000));
    let structure = check(&message);
    let parts = structure.parts().as_slice();
    assert_eq!(parts.len(), MIME_PARTS_MAX);
    let last = &parts[MIME_PARTS_MAX - 1];
    assert_eq!(last.kind, Kind::Opaque);
    assert_eq!(last.body.end as usize, message.len());

    let mut message = Vec::new();
    for level in 0..1000 {
        message.extend(
            format!("Content-Type: multipart/mixed; boundary={level:04}\r\n\r\n--{level:04}\r\n")
                .bytes(),
        );
    }
    let structure = check(&message);
    let parts = structure.parts().as_slice();
    assert_eq!(parts.len(), MIME_DEPTH_MAX);
    assert_eq!(parts[MIME_DEPTH_MAX - 1].kind, Kind::Opaque);

    let structure = check(&b"Content-Type: message/rfc822\r\n\r\n".repeat(1000));
    assert_eq!(structure.parts().as_slice().len(), MIME_DEPTH_MAX);
}

#[test]
fn a_huge_header_is_kept_in_part() {
    let mut scanner = Scanner::default();
    scanner.feed(b"Subject: x\r\nTo: ");
    let addresses = b"someone@example.org,\r\n ".repeat(4096);
    let mut bytes = 16;
    for _ in 0..600 {
        scanner.feed(&addresses);
        bytes += addresses.len();
    }
    assert!(bytes > 50 * 1024 * 1024);
    for _ in 0..100_000 {
        scanner.feed(b"x\r\nCc: y");
        bytes += 8;
    }
    scanner.feed(b"\r\nFrom: late\r\n\r\nbody");
    let structure = scanner.finish();
    assert_eq!(structure.parts().root().header.len(), bytes + 16);
    assert_eq!(
        structure.value(0, FieldName::To).map(<[u8]>::len),
        Some(MIME_FIELD_BYTES_MAX)
    );
    assert!(structure.values.len() <= MIME_FIELDS_BYTES_MAX);
    assert!(structure.fields.len() <= MIME_FIELDS_BYTES_MAX);
}

#[test]
fn a_line_without_end_is_no_burden() {
    let mut scanner = Scanner::default();
    scanner.feed(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: ");
    for _ in 0..100 {
        scanner.feed(&[b'-'; 65_536]);
    }
    assert!(scanner.line.len() <= MIME_FIELD_BYTES_MAX);
    scanner.feed(b"\r\n\r\n-");
    for _ in 0..100 {
        scanner.feed(&[b'-'; 65_536]);
    }
    assert!(scanner.line.len() <= MIME_FIELD_BYTES_MAX);
    scanner.feed(b"\r\n--b--\r\n");
    let structure = scanner.finish();
    assert_eq!(structure.parts().as_slice()[1].body.len(), 1 + 100 * 65_536);
}

/// Pieces of messages that lead somewhere.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: &[&[u8]] = &[
        b"\r\n",
        b"\n",
        b"--a",
        b"--ab",
        b"--a--",
        b"Content-Type: multipart/mixed; boundary=a\r\n",
        b"Content-Type: multipart/digest;\r\n boundary=ab\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Type: image/png\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"Subject: x\r\n",
        b" more\r\n",
        b"text\r\n",
        b"-",
        b"\r",
        b"x",
    ];
    proptest::collection::vec(proptest::sample::select(PIECES), 0..40)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn the_same_for_any_cut(message in pieces(), cuts in proptest::collection::vec(1..20_usize, 0..40)) {
        let whole = check(&message);
        let mut scanner = Scanner::default();
        let mut rest = &message[..];
        for cut in cuts {
            let (piece, behind) = rest.split_at(cut.min(rest.len()));
            scanner.feed(piece);
            rest = behind;
        }
        scanner.feed(rest);
        prop_assert_eq!(scanner.finish(), whole.clone());
        let mut scanner = Scanner::default();
        for byte in &message {
            scanner.feed(std::slice::from_ref(byte));
        }
        prop_assert_eq!(scanner.finish(), whole);
    }

    #[test]
    fn any_bytes_are_a_message(message: Vec<u8>) {
        check(&message);
    }

    /// The parts of a multipart, with what is between them, are its body again.
    #[test]
    fn a_multipart_is_its_parts(bodies in proptest::collection::vec("([a-z -]{0,9}\r\n){0,3}[a-z-]{0,9}", 1..6)) {
        let mut message = "Content-Type: multipart/mixed; boundary=\"=b\"\r\n\r\n".to_owned();
        for body in &bodies {
            message += &format!("--=b\r\nX: y\r\n\r\n{body}\r\n");
        }
        message += "--=b--\r\n";
        let structure = check(message.as_bytes());
        let found: Vec<&str> = (1..=bodies.len() as u32)
            .filter_map(|number| section(&message, &structure, &[number], SectionText::Whole))
            .collect();
        prop_assert_eq!(found, bodies);
    }
}
