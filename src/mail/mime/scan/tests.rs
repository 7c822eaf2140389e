//! Messages taken apart: ranges, sections, bounds, and the same answer for any cut.

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
