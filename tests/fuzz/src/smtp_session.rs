//! SMTP and LMTP: any bytes in any pieces, with refusals, failing chunks and events in between.

use std::sync::Arc;
use std::time::Duration;

use ringpost::limits::BODY_INLINE_BYTES_MAX;
use ringpost::mail::{BodyType, EnhancedStatus, Reply};
use ringpost::proto::Event;
use ringpost::proto::smtp::{Answer, Ask, Dialect, Peer, Session, Settings};

use crate::shard::{self, Outcome};

/// Words that lead somewhere, for inputs made by chance.
pub const WORDS: &[&[u8]] = &[
    b"EHLO c.example\r\n",
    b"LHLO c.example\r\n",
    b"HELO [192.0.2.1]\r\n",
    b"MAIL FROM:<s@example.com>\r\nRCPT TO:<a@example.org>\r\n",
    b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n",
    b"LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n",
    b"MAIL FROM:<s@example.com> SIZE=9 BODY=BINARYMIME SMTPUTF8\r\n",
    b"RCPT TO:<\"a b\"@example.org>\r\n",
    b"RCPT TO:<Postmaster>\r\n",
    b"DATA\r\n",
    b"BDAT 3\r\nab\n",
    b"BDAT 300000\r\n",
    b"BDAT 5 LAST\r\na\r\nb\r",
    b"\r\n.\r\n",
    b"..\r\n",
    b"Received: x\r\n",
    b"RSET\r\n",
    b"NOOP\r\n",
    b"QUIT\r\n",
    b"\r",
    b"\n",
    b".",
];

/// The first bytes choose pieces, faults and the event; the rest is the conversation, which must
/// come out the same in one piece (unless an event cuts it at a piece's end).
pub fn smtp_session(data: &[u8]) {
    shard::in_any_pieces(data, converse);
}

fn converse(input: &[u8], pieces: &[u8], faults: u8, event: Option<(usize, Event)>) -> Outcome {
    let dialect = match faults & 1 {
        0 => Dialect::Smtp,
        _ => Dialect::Lmtp,
    };
    let settings = Settings {
        dialect,
        hostname: "mx.example.org".to_owned(),
        message_bytes_max: 400_000,
        recipients_max: 3,
        messages_max: 5,
        refused_recipients_max: 0,
        command_timeout: Duration::from_secs(600),
        data_timeout: Duration::from_secs(600),
    };
    let refused = |code, text| Reply::new(code, EnhancedStatus(5, 0, 0), text);
    let mut streamed_bytes = 0;
    let mut open_stream = false;
    let mut asks = 0;
    let answer = |ask| {
        asks += 1;
        let fails = faults & 0x80 != 0 && asks % 3 == 0;
        match ask {
            Ask::Recipient { .. } if fails => Answer::Recipient(Err(refused(550, "no\r\n250 yes"))),
            Ask::Recipient { .. } => Answer::Recipient(Ok(())),
            Ask::Chunk { open, bytes } => {
                assert_ne!(open.is_some(), open_stream, "a stream is opened once");
                assert!((1..=BODY_INLINE_BYTES_MAX).contains(&bytes.len()));
                streamed_bytes += bytes.len() as u64;
                open_stream = !fails;
                if fails {
                    streamed_bytes = 0;
                    return Answer::Chunk(Err(refused(452, "full")));
                }
                Answer::Chunk(Ok(()))
            }
            Ask::Abort => {
                assert!(std::mem::take(&mut open_stream), "nothing to give up");
                streamed_bytes = 0;
                Answer::Chunk(Ok(()))
            }
            Ask::Deliver(transaction) => {
                assert_eq!(
                    transaction.streamed_bytes,
                    std::mem::take(&mut streamed_bytes)
                );
                open_stream = false;
                let recipients = transaction.envelope.forward_paths.len();
                assert!((1..=3).contains(&recipients));
                assert!(transaction.body.len() <= BODY_INLINE_BYTES_MAX);
                if transaction.envelope.body_type != BodyType::BinaryMime {
                    check_line_ends(&transaction.body, transaction.streamed_bytes > 0);
                }
                let replies = match dialect {
                    Dialect::Smtp => 1,
                    Dialect::Lmtp => recipients,
                };
                Answer::Delivered(vec![refused(250, "taken"); replies])
            }
        }
    };
    let session = Session::new(Arc::new(settings), Peer::Unix);
    shard::run(session, answer, input, pieces, event)
}

/// Every CR is half of a CRLF, and so is every LF; where the start went before, an LF may come
/// first.
fn check_line_ends(body: &[u8], started: bool) {
    for (index, byte) in body.iter().enumerate() {
        match byte {
            b'\r' => assert_eq!(body.get(index + 1), Some(&b'\n'), "bare CR"),
            b'\n' if index == 0 => assert!(started, "bare LF"),
            b'\n' => assert_eq!(body[index - 1], b'\r', "bare LF"),
            _ => {}
        }
    }
}
