//! HTTP: any bytes in any pieces.

use ringpost::proto::Event;
use ringpost::proto::http::{Answer, Ask, Session};

use crate::shard::{self, Outcome};

/// Words that lead somewhere, for inputs made by chance.
pub const WORDS: &[&[u8]] = &[
    b"GET /metrics HTTP/1.1\r\n",
    b"GET http://a/x?y HTTP/1.1\r\n",
    b"HEAD / HTTP/1.0\r\n",
    b"Host: a\r\n",
    b"Host: a\r\n\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 1\r\n",
    b"Connection: close\r\n",
    b"X: y\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
];

/// The first bytes choose pieces and the event; the rest is the conversation, which must come out
/// the same in one piece (unless an event cuts it at a piece's end).
pub fn http_session(data: &[u8]) {
    shard::in_any_pieces(data, |input, pieces, _, event| {
        converse(input, pieces, event)
    });
}

fn converse(input: &[u8], pieces: &[u8], event: Option<(usize, Event)>) -> Outcome {
    let answer = |ask: Ask| {
        assert!(ask.path.starts_with('/'), "{:?}", ask.path);
        Answer {
            status: 200,
            content_type: "text/plain",
            body: vec![b'x'; ask.path.len() * 10_000],
        }
    };
    shard::run(Session::new(), answer, input, pieces, event)
}
