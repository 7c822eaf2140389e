//! Messages: any bytes have a structure, the same for any cut; summaries hold what they were made
//! of; no section lies outside; nothing that is searched, previewed or decoded panics.

use ringpost::mail::mime::{
    BodyStructure, EnvelopeData, EnvelopeField, FieldNames, Kind, Needle, Part, Scanner,
    SectionText, Strings, Structure, Summary, TextSearch, decode_body, filter_fields, preview,
};

/// Words that lead somewhere, for inputs made by chance.
pub const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"--b\r\n",
    b"--bb\r\n",
    b"--b--\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n",
    b"Content-Type: multipart/digest; boundary=\"bb\"\r\n",
    b"Content-Type: message/rfc822\r\n",
    b"Content-Type: text/html; charset=iso-8859-1\r\n",
    b"Content-Type: text/plain; charset=shift_jis\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Transfer-Encoding: quoted-printable\r\n",
    b"Content-Disposition: attachment; filename*0*=utf-8''x; y=\"\\\"",
    b"Content-Language: en, de\r\n",
    b"Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\n",
    b"Date: 99 Xyz 99999 99:99:99 +9999\r\n",
    b"Subject: Re: [Fwd: [a] =?utf-8?Q?=C3=BC?= (fwd)]\r\n",
    b"From: \"A\" (c(d)) <@r,@s:l@h>, g: x@[::1];\r\n",
    b"To: ",
    b"References: <a@b><\"c\"@d",
    b"Message-ID: <a@b>\r\n",
    b"=?iso-2022-jp?B?GyRC?=",
    b"=?",
    b"=\r\n",
    b"=C3",
    b"YWJj\r\n",
    b"<p>&nbsp;&#x110000;<!--",
    "ü".as_bytes(),
    b"\xc3",
    b"\xff",
    b"\0",
];

/// The first four bytes say how the message, which the others are, is cut and searched.
pub fn mime(data: &[u8]) {
    let Some((&[cut, number, first, string], message)) = data.split_first_chunk::<4>() else {
        return;
    };
    let structure = Structure::parse(message);
    let mut scanner = Scanner::default();
    for piece in message.chunks(usize::from(cut) + 1) {
        scanner.feed(piece);
    }
    assert_eq!(scanner.finish(), structure);

    let encoded = Summary::encode(&structure);
    let summary = Summary::decode(&encoded).expect("it was encoded just now");
    assert_eq!(summary.parts().as_ref(), Ok(structure.parts()));
    for strings in [Strings::Ascii, Strings::Utf8] {
        let body_structure = BodyStructure::new(&structure, strings);
        check_list(&body_structure.text);
        assert_eq!(summary.body_structure(strings), body_structure.text);
        let mut text = Vec::new();
        EnvelopeData::new(&structure, 0).write(strings, &mut text);
        check_list(&text);
        assert_eq!(summary.envelope(strings), text);
        text.clear();
        summary.write_body(strings, &mut text);
        check_list(&text);
    }
    for field in [
        EnvelopeField::Subject,
        EnvelopeField::From,
        EnvelopeField::To,
        EnvelopeField::Bcc,
    ] {
        summary.envelope_text(field);
    }
    // What is not a summary is an error or harmless.
    let mut damaged = encoded.clone();
    let at = usize::from(number) * 7 % damaged.len();
    damaged[at] = damaged[at].wrapping_add(first | 1);
    assert!(Summary::decode(&damaged).is_err());

    let parts = structure.parts();
    let numbers = [u32::from(number % 4), u32::from(first % 4), 1];
    for length in 0..=numbers.len() {
        for text in [
            SectionText::Whole,
            SectionText::Header,
            SectionText::Text,
            SectionText::Mime,
        ] {
            if let Some(range) = parts.section(&numbers[..length], text) {
                assert!(range.start <= range.end && range.end as usize <= message.len());
            }
        }
    }
    search(message, parts.as_slice(), &structure, string);
}

fn search(message: &[u8], parts: &[Part], structure: &Structure, string: u8) {
    let bytes = |range: &std::ops::Range<u32>| &message[range.start as usize..range.end as usize];
    let needles = [
        Needle::new(&char::from(string).to_string()),
        Needle::new(""),
    ];
    let found = TextSearch::default().message(&needles, 0b11, message, structure.parts());
    assert!(found & 0b10 != 0);
    for part in parts {
        let header = bytes(&part.header);
        filter_fields(header, &FieldNames::new(&["subject"]), true);
        let body = bytes(&part.body);
        if let Some(content) = decode_body(part.encoding, body) {
            assert!(content.len() <= body.len());
        }
        if part.kind == Kind::Text {
            assert!(preview(part, header, body).chars().count() <= 200);
        }
    }
}

/// One list of IMAP, and nothing behind it.
fn check_list(text: &[u8]) {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        assert!(depth > 0 || at == 0, "more than one list");
        match text[at] {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'"' => loop {
                at += 1;
                match text[at] {
                    b'"' => break,
                    b'\\' => at += 1,
                    byte => assert!(!matches!(byte, b'\r' | b'\n' | 0)),
                }
            },
            b'{' => {
                let end = at
                    + text[at..]
                        .iter()
                        .position(|byte| *byte == b'}')
                        .expect("an end");
                let digits = std::str::from_utf8(&text[at + 1..end]).expect("digits");
                let count: usize = digits.parse().expect("a number");
                assert_eq!(&text[end + 1..end + 3], b"\r\n");
                assert!(!text[end + 3..end + 3 + count].contains(&0));
                at = end + 2 + count;
            }
            byte => assert!(byte.is_ascii_alphanumeric() || byte == b' ', "{byte}"),
        }
        at += 1;
    }
    assert_eq!(depth, 0);
}
