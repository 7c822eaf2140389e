//! Summaries: what goes in comes out, and damage is seen.

use proptest::prelude::*;

use super::super::keys::base_subject;
use super::super::{collation_key, parse_message_ids};
use super::*;

const MESSAGE: &str = "Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\n\
    From: Terry Gray <gray@cac.washington.edu>\r\n\
    Subject: Re: [list] IMAP4rev2 WG mtg summary and minutes\r\n\
    To: undisclosed: =?utf-8?Q?J=C3=B6?= <j@x>, b@c;\r\n\
    Cc: \"A, \\\"B\\\"\" <ab@d>\r\n\
    In-Reply-To: <1@a>\r\n\
    References: <0@a>\r\n <1@a>\r\n\
    Message-Id: <2@a>\r\n\
    Content-Type: multipart/mixed; boundary=b\r\n\
    \r\n\
    --b\r\n\
    Content-Type: text/html; charset=iso-8859-1\r\n\
    Content-Transfer-Encoding: quoted-printable\r\n\
    \r\n\
    =E4\r\n\
    --b\r\n\
    Content-Type: message/rfc822\r\n\
    \r\n\
    Subject: inner\r\n\
    \r\n\
    text\r\n\
    --b--\r\n";

/// Everything in a summary is what the message says.
fn check(message: &[u8]) -> Vec<u8> {
    let structure = Structure::parse(message);
    let encoded = Summary::encode(&structure);
    let summary = Summary::decode(&encoded).unwrap();
    let envelope = EnvelopeData::new(&structure, 0);
    for strings in [Strings::Ascii, Strings::Utf8] {
        let mut text = Vec::new();
        envelope.write(strings, &mut text);
        assert_eq!(summary.envelope(strings), text);
        let body_structure = BodyStructure::new(&structure, strings);
        assert_eq!(summary.body_structure(strings), body_structure.text);
        let (mut body, mut expected) = (Vec::new(), Vec::new());
        summary.write_body(strings, &mut body);
        body_structure.write_body(&mut expected);
        assert_eq!(body, expected);
    }
    assert_eq!(&summary.parts().unwrap(), structure.parts());
    let keys = Keys::new(&envelope, structure.value(0, FieldName::References));
    assert_eq!(summary.sent(), keys.sent);
    assert_eq!(summary.message_id(), keys.message_id);
    assert_eq!(summary.references().collect::<Vec<_>>(), keys.references);
    assert_eq!(summary.is_reply(), keys.is_reply);
    let of_summary = [
        summary.subject_key(),
        summary.from_key(),
        summary.to_key(),
        summary.cc_key(),
        summary.display_from_key(),
        summary.display_to_key(),
    ];
    let of_message = [
        keys.subject,
        keys.from,
        keys.to,
        keys.cc,
        keys.display_from,
        keys.display_to,
    ];
    assert_eq!(of_summary.map(<[u8]>::to_vec), of_message);
    let subject = decode_field(&envelope.subject.unwrap_or_default());
    assert_eq!(summary.envelope_text(EnvelopeField::Subject), subject);
    encoded
}

#[test]
fn one_message() {
    let encoded = check(MESSAGE.as_bytes());
    let summary = Summary::decode(&encoded).unwrap();
    assert_eq!(
        summary.subject_key(),
        collation_key(&base_subject("IMAP4rev2 WG mtg summary and minutes").0)
    );
    assert!(summary.is_reply());
    assert_eq!(summary.from_key(), b"GRAY");
    assert_eq!(summary.to_key(), b"J");
    assert_eq!(summary.cc_key(), b"AB");
    assert_eq!(summary.display_from_key(), b"TERRY GRAY");
    assert_eq!(summary.display_to_key(), b"UNDISCLOSED");
    assert_eq!(summary.message_id(), parse_message_ids(b"<2@a>", 1).pop());
    assert_eq!(
        summary.references().collect::<Vec<_>>(),
        parse_message_ids(b"<0@a><1@a>", 2)
    );
    for (field, expected) in [
        (EnvelopeField::From, "Terry Gray <gray@cac.washington.edu>"),
        (EnvelopeField::To, "undisclosed:, Jö <j@x>, <b@c>, ;"),
        (EnvelopeField::Cc, "A, \"B\" <ab@d>"),
        (EnvelopeField::Bcc, ""),
    ] {
        assert_eq!(summary.envelope_text(field), expected);
    }
}

#[test]
fn messages_in_utf8_have_two_forms() {
    let encoded = check("Subject: Grüße {3}\r\nFrom: \"(ö\" <\u{fc}@x>\r\n\r\n".as_bytes());
    let summary = Summary::decode(&encoded).unwrap();
    assert_ne!(
        summary.envelope(Strings::Ascii),
        summary.envelope(Strings::Utf8)
    );
    assert_eq!(summary.envelope_text(EnvelopeField::From), "(ö <ü@x>");
    // A literal in the list.
    let encoded = check(b"Subject: \xfc (\r\nFrom: \xfc <a@b>\r\n\r\n");
    let summary = Summary::decode(&encoded).unwrap();
    assert_eq!(summary.envelope_text(EnvelopeField::Subject), "ü (");
    assert_eq!(summary.envelope_text(EnvelopeField::From), "ü <a@b>");
}

#[test]
fn a_usual_message_takes_some_hundred_bytes() {
    let message = "From: Alice Example <alice@example.org>\r\n\
        To: Bob Example <bob@example.org>\r\nSubject: Lunch on Friday?\r\n\
        Date: Sun, 22 Nov 2026 12:37:15 +0000\r\nMessage-ID: <20261122123715.1@example.org>\r\n\
        MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello\r\n";
    assert!(check(message.as_bytes()).len() < 550);
}

#[test]
fn damage_is_seen() {
    let encoded = check(MESSAGE.as_bytes());
    for index in 0..encoded.len() {
        let mut damaged = encoded.clone();
        damaged[index] ^= 0x20;
        let expected = match index {
            0 => SummaryError::Version(VERSION ^ 0x20),
            _ => SummaryError::Checksum,
        };
        assert_eq!(Summary::decode(&damaged).unwrap_err(), expected);
        assert!(Summary::decode(&encoded[..index]).is_err());
    }
}

/// A checksum does not make bytes a summary.
fn decode_forged(flags: u8, body: &[u8]) {
    let mut bytes = vec![VERSION, flags];
    bytes.extend_from_slice(&checksum(flags, body).to_le_bytes());
    bytes.extend_from_slice(body);
    if let Ok(summary) = Summary::decode(&bytes) {
        let mut out = Vec::new();
        for strings in [Strings::Ascii, Strings::Utf8] {
            summary.write_body(strings, &mut out);
        }
        for field in [EnvelopeField::Subject, EnvelopeField::Bcc] {
            summary.envelope_text(field);
        }
        if let Ok(parts) = summary.parts() {
            let parts = parts.as_slice();
            assert!(parts.iter().all(|part| part.body.end <= parts[0].body.end));
        }
    }
}

proptest! {
    #[test]
    fn any_message_has_a_summary(message: Vec<u8>) {
        check(&message);
    }

    #[test]
    fn any_header_has_a_summary(header in "((Subject|From|To|Date|Message-ID|References|Content-Type): ?([a<>@:;,()\"\\\\ ü{}=?/]{0,8}|\r\n | multipart/mixed; boundary=a\r\n\r\n--a){0,4}\r\n){0,8}") {
        check(header.as_bytes());
    }

    #[test]
    fn forged_bytes_do_no_harm(flags in 0..16_u8, body: Vec<u8>, index in 0..1000_usize, byte: u8) {
        decode_forged(flags, &body);
        let mut encoded = Summary::encode(&Structure::parse(MESSAGE.as_bytes()));
        let flags = encoded[1];
        let at = HEAD_BYTES + index % (encoded.len() - HEAD_BYTES);
        encoded[at] = byte;
        decode_forged(flags, &encoded[HEAD_BYTES..]);
    }
}
