//! Messages taken apart, summed up, searched and threaded; and the messages for it, made by a
//! generator so that nobody's mail is in here.

use std::hint::black_box;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringpost::mail::mime::{
    MessageIdHash, Needle, Strings, Structure, Summary, TextSearch, ThreadKeys,
    thread_by_references,
};

/// The size of a message, about.
pub const MESSAGE_BYTES: usize = 4096;
/// Messages that are threaded in a run.
pub(crate) const THREADED: usize = 1000;
/// What is searched for: in none of the texts unless it was put there.
pub const STRING: &str = "Quarterly Überraschung";

/// How the text of a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8, 8bit.
    Plain,
    /// ISO-8859-1, 8bit.
    Latin1,
    /// UTF-8 in base64.
    Base64,
    /// ISO-8859-1 in quoted-printable.
    Quoted,
}

impl Kind {
    /// Of ten messages: seven as they are (four in UTF-8, three in ISO-8859-1), three encoded.
    pub fn of(number: usize) -> Kind {
        match number % 10 {
            0..=3 => Kind::Plain,
            4..=6 => Kind::Latin1,
            7..=8 => Kind::Base64,
            _ => Kind::Quoted,
        }
    }
}

/// A message of about [`MESSAGE_BYTES`]; `holds`: [`STRING`] is in its text, in other cases.
pub fn message(number: usize, kind: Kind, holds: bool) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "meeting", "the", "Straße", "budget", "and", "offer", "for", "größer", "project", "is",
        "review", "Zürich", "quarter", "of", "déjà", "Thursday",
    ];
    let mut random = number as u64;
    let mut text = String::new();
    let text_bytes = match kind {
        Kind::Base64 => MESSAGE_BYTES * 5 / 8,
        Kind::Quoted => MESSAGE_BYTES * 3 / 4,
        Kind::Plain | Kind::Latin1 => MESSAGE_BYTES * 7 / 8,
    };
    let mut column = 0;
    while text.len() < text_bytes {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let word = WORDS[(random >> 60) as usize];
        text.push_str(word);
        column += word.len() + 1;
        if column > 68 {
            text.push_str("\r\n");
            column = 0;
        } else {
            text.push(' ');
        }
    }
    if holds {
        text.push_str("quarterly ÜBERRASCHUNG\r\n");
    }
    let latin1 = || -> Vec<u8> { text.chars().map(|character| character as u8).collect() };
    let (charset, encoding, body) = match kind {
        Kind::Plain => ("utf-8", "8bit", text.into_bytes()),
        Kind::Latin1 => ("iso-8859-1", "8bit", latin1()),
        Kind::Base64 => {
            let encoded = STANDARD.encode(&text);
            let lines: Vec<&[u8]> = encoded.as_bytes().chunks(76).collect();
            ("utf-8", "base64", lines.join(&b"\r\n"[..]))
        }
        Kind::Quoted => ("iso-8859-1", "quoted-printable", quoted(&latin1())),
    };
    let mut message = format!(
        "Return-Path: <sender{number}@example.com>\r\n\
         Received: from client.example.com ([192.0.2.10])\r\n\
         \tby mx.bench.test (Ringpost) with ESMTP id 0a7-42-{number:x}\r\n\
         \tfor <u123@bench.test>;\r\n\
         \tSun, 22 Nov 2026 12:37:15 +0000\r\n\
         Date: Sun, 22 Nov 2026 12:37:14 +0000\r\n\
         From: Firstname Lastname <sender{number}@example.com>\r\n\
         To: Someone Else <u123@bench.test>\r\n\
         Subject: Re: Notes of the {number}th meeting\r\n\
         Message-ID: <{number}.20261122@example.com>\r\n\
         In-Reply-To: <{}.20261122@example.com>\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset={charset}\r\n\
         Content-Transfer-Encoding: {encoding}\r\n\r\n",
        number / 2
    )
    .into_bytes();
    message.extend_from_slice(&body);
    message
}

fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut column = 0;
    for byte in bytes {
        match byte {
            b'\n' => column = 0,
            _ if column > 72 => {
                out.extend_from_slice(b"=\r\n");
                column = 0;
            }
            _ => {}
        }
        if *byte == b'=' || *byte >= 0x80 {
            out.extend_from_slice(format!("={byte:02X}").as_bytes());
            column += 3;
        } else {
            out.push(*byte);
            column += 1;
        }
    }
    out
}

/// Text with an attachment.
fn multipart() -> Vec<u8> {
    let attachment = STANDARD.encode([7; 2000]);
    format!(
        "Date: Sun, 22 Nov 2026 12:37:14 +0000\r\n\
         From: Firstname Lastname <sender@example.com>\r\n\
         To: Someone Else <u123@bench.test>, Another <u124@bench.test>\r\n\
         Subject: Re: Notes of the meeting\r\n\
         Message-ID: <1.20261122@example.com>\r\n\
         References: <0.20261122@example.com> <00.20261122@example.com>\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=\"=_0a7\"\r\n\r\n\
         --=_0a7\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\n{}\r\n\
         --=_0a7\r\n\
         Content-Type: application/pdf; name=\"notes.pdf\"\r\n\
         Content-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment; filename=\"notes.pdf\"\r\n\r\n{attachment}\r\n\
         --=_0a7--\r\n",
        "A line of text that says not much.\r\n".repeat(20)
    )
    .into_bytes()
}

pub(crate) fn structure() -> Box<dyn FnMut()> {
    let message = multipart();
    Box::new(move || drop(black_box(Structure::parse(black_box(&message)))))
}

pub(crate) fn summary_encode() -> Box<dyn FnMut()> {
    let structure = Structure::parse(&multipart());
    Box::new(move || drop(black_box(Summary::encode(black_box(&structure)))))
}

/// ENVELOPE and BODYSTRUCTURE of a message that was looked at before.
pub(crate) fn summary_fetch() -> Box<dyn FnMut()> {
    let encoded = Summary::encode(&Structure::parse(&multipart()));
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        let summary = Summary::decode(black_box(&encoded)).expect("it was encoded here");
        out.extend_from_slice(summary.envelope(Strings::Ascii));
        out.extend_from_slice(summary.body_structure(Strings::Ascii));
        black_box(&out);
    })
}

pub(crate) fn search(kind: Kind) -> Box<dyn FnMut()> {
    let message = message(1, kind, false);
    let encoded = Summary::encode(&Structure::parse(&message));
    let needle = Needle::new(STRING);
    let mut search = TextSearch::default();
    Box::new(move || {
        assert!(!is_in(&mut search, &needle, black_box(&message), &encoded));
    })
}

/// SEARCH TEXT on one message, its parts from its summary.
pub fn is_in(search: &mut TextSearch, needle: &Needle, message: &[u8], summary: &[u8]) -> bool {
    let summary = Summary::decode(summary).expect("it was encoded here");
    let parts = summary.parts().expect("it was encoded here");
    search.message(std::slice::from_ref(needle), 1, message, &parts) == 1
}

pub(crate) fn thread() -> Box<dyn FnMut()> {
    let id = |number: usize| MessageIdHash(number as u128 + 1);
    let keys: Vec<ThreadKeys<'_>> = (0..THREADED)
        .map(|number| ThreadKeys {
            message_id: Some(id(number)),
            references: [number / 4, number / 2].map(id).to_vec().into(),
            subject: b"SUBJECT",
            is_reply: true,
            date_seconds: number as i64,
        })
        .collect();
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        thread_by_references(black_box(&keys)).write(|index| index as u32 + 1, &mut out);
        black_box(&out);
    })
}
