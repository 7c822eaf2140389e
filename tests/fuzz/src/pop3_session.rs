//! POP3: any bytes in any pieces, with read errors, failed logins and events in between.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ringpost::mail::Address;
use ringpost::proto::Event;
use ringpost::proto::pop3::{
    Answer, Ask, Credentials, Entry, LoginError, Maildrop, Pass, Session, Settings,
};

use crate::shard::{self, Outcome};

/// Words that lead somewhere, for inputs made by chance.
pub const WORDS: &[&[u8]] = &[
    b"USER u\r\n",
    b"PASS p\r\n",
    b"AUTH PLAIN\r\n",
    b"AUTH PLAIN AHUAcA==\r\n",
    b"AHUAcA==\r\n",
    b"AUTH PLAIN dgB1AHA=\r\n",
    b"RETR 1\r\n",
    b"RETR 2\r\n",
    b"RETR 3\r\n",
    b"TOP 2 1\r\n",
    b"TOP 3 100\r\n",
    b"DELE 2\r\n",
    b"LIST\r\n",
    b"UIDL\r\n",
    b"LIST 3\r\n",
    b"STAT\r\n",
    b"RSET\r\n",
    b"CAPA\r\n",
    b"UTF8\r\n",
    b"QUIT\r\n",
    b"*\r\n",
    b"\r",
    b"\n",
    b" ",
    b"RETR",
];

/// The first bytes choose pieces, faults and the event; the rest is the conversation, which must
/// come out the same in one piece (unless an event cuts it at a piece's end).
pub fn pop3_session(data: &[u8]) {
    shard::in_any_pieces(data, converse);
}

fn converse(input: &[u8], pieces: &[u8], faults: u8, event: Option<(usize, Event)>) -> Outcome {
    let settings = Settings {
        hostname: "mx.example.org".to_owned(),
        default_domain: "example.org".to_owned(),
        idle_timeout: Duration::from_secs(600),
    };
    let session = Session::new(
        Arc::new(settings),
        SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
    );
    let messages: [Vec<u8>; 3] = [
        b"A: b\r\n\r\n.\r\n..\r\nx".to_vec(),
        Vec::new(),
        b".x\r\n".repeat(60_000),
    ];
    let quits = input
        .to_ascii_uppercase()
        .windows(4)
        .any(|word| word == b"QUIT");
    let mut reads = 0;
    let answer = |ask| match ask {
        Ask::Login(_) if faults & 0x80 != 0 => Answer::Login(Err(LoginError::Credentials)),
        Ask::Login(_) if faults & 0x40 != 0 => {
            Answer::Login(Err(LoginError::Temporary("full\r\n".to_owned())))
        }
        Ask::Login(Credentials {
            act_as: Some(user), ..
        }) if faults & 0x10 == 0 => {
            let user = Address::parse(&user).expect("canonical by the contract");
            Answer::Pass(Pass::new(user.clone(), user))
        }
        Ask::Login(_) | Ask::Enter(_) if faults & 0x08 != 0 => {
            Answer::Login(Err(LoginError::Authorization))
        }
        Ask::Enter(_) => Answer::Login(Err(LoginError::InUse)),
        Ask::Login(credentials) => {
            assert!(credentials.user.ends_with(|c: char| c.is_ascii()));
            let entry = |(uid, message): (u32, &Vec<u8>)| Entry {
                uid,
                bytes: message.len() as u64,
            };
            Answer::Login(Ok(Maildrop {
                validity: 7,
                entries: (1..).zip(&messages).map(entry).collect(),
                expire_days: None,
            }))
        }
        Ask::Read {
            index,
            offset,
            length,
        } => {
            reads += 1;
            if faults & 0x20 != 0 && reads % 3 == 0 {
                return Answer::Data(Err("disk".to_owned()));
            }
            let (start, length) = (offset as usize, length as usize);
            // Within the message, by the contract; a slice out of bounds panics.
            Answer::Data(Ok(messages[index as usize][start..start + length].to_vec()))
        }
        Ask::Expunge { indexes } => {
            assert!(quits, "expunged without QUIT");
            assert!(indexes.is_sorted() && indexes.iter().all(|&index| index < 3));
            Answer::Expunged(Ok(()))
        }
    };
    shard::run(session, answer, input, pieces, event)
}
