//! POP3: a command, a message with its dots, TOP, a whole RETR through the session, and a login's
//! SASL response.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringpost::proto::pop3::{
    Answer, Ask, DotStuffer, Entry, Maildrop, Session, Settings, TopScanner, parse_command,
};
use ringpost::proto::transcript::Noting;
use ringpost::proto::{Session as _, Step, sasl};

/// A command as it is parsed.
pub(crate) const COMMAND: &[u8] = b"RETR 12345";
/// NUL, `alice`, NUL, a password: in base64.
pub(crate) const PLAIN: &[u8] = b"AGFsaWNlAHNlIGNyZXQgcGFzcw==";

pub(crate) fn command() -> Box<dyn FnMut()> {
    Box::new(|| {
        let _ = black_box(parse_command(black_box(COMMAND)));
    })
}

pub(crate) fn plain() -> Box<dyn FnMut()> {
    Box::new(|| drop(black_box(sasl::decode_plain(black_box(PLAIN)))))
}

pub(crate) fn stuff(message: Vec<u8>) -> Box<dyn FnMut()> {
    let mut out = Vec::with_capacity(2 * message.len());
    Box::new(move || {
        out.clear();
        let mut stuffer = DotStuffer::default();
        stuffer.stuff(black_box(&message), &mut out);
        stuffer.finish(&mut out);
        black_box(&out);
    })
}

pub(crate) fn top(message: Vec<u8>) -> Box<dyn FnMut()> {
    Box::new(move || {
        let mut scanner = TopScanner::new(u32::MAX);
        black_box(scanner.scan(black_box(&message)));
    })
}

/// RETR from command to final dot, with the bytes already at hand.
pub(crate) fn retrieve(message: Vec<u8>) -> Box<dyn FnMut()> {
    let settings = Settings {
        hostname: "mx.example.org".to_owned(),
        default_domain: "example.org".to_owned(),
        idle_timeout: Duration::from_secs(600),
    };
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let mut session = Session::new(Arc::new(settings), peer);
    let maildrop = Maildrop {
        validity: 1,
        entries: vec![Entry {
            uid: 1,
            bytes: message.len() as u64,
        }],
        expire_days: None,
    };
    let now = Instant::now();
    let mut out = Vec::with_capacity(2 * message.len());
    session.greet(now, &mut out);
    session.feed(b"USER a\r\nPASS b\r\n", now, &mut out);
    session.answer(Answer::Login(Ok(maildrop)), now, &mut out);
    // As the shard does for accounts without telemetry: what was kept for it goes.
    session.record(Noting::Nothing);
    Box::new(move || {
        out.clear();
        let (_, step) = session.feed(black_box(b"RETR 1\r\n"), now, &mut out);
        assert!(matches!(step, Step::Ask(Ask::Read { .. })), "not logged in");
        let step = session.answer(Answer::Data(Ok(message.clone())), now, &mut out);
        assert!(matches!(step, Step::NeedInput), "RETR is not complete");
        black_box(&out);
    })
}
