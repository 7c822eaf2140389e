//! The hot paths of the server, each by name, over fixed input: shared by criterion
//! (`benches/hot_paths.rs`: time) and callgrind (`src/bin/instructions.rs`: instructions).
//!
//! A new one is a function that prepares its input and returns what runs once, and a line in
//! [`HOT_PATHS`]; then `bench/instructions --update` writes down what it costs.

pub mod mime;
mod pop3;
mod store;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringpost::mail::trace::{Hop, write_trace};
use ringpost::mail::{Address, EnhancedStatus, Envelope, ForwardPath, Reply, ReversePath};
use ringpost::proto::smtp::body::DotUnstuffer;
use ringpost::proto::smtp::command::{Verb, parse_mail, parse_rcpt, parse_verb};
use ringpost::proto::smtp::{Answer, Ask, Dialect, Peer, Session, Settings};
use ringpost::proto::{Session as _, Step};

/// One thing that is done for every message or command.
pub struct HotPath {
    /// Lower case, `_` between words; the key in `bench/instructions.json`.
    pub name: &'static str,
    /// What one run goes through.
    pub work: Work,
    /// Prepares the input; what it returns runs once each time it is called.
    pub prepare: fn() -> Box<dyn FnMut()>,
}

/// The size of a run, for its throughput.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// So many bytes of input.
    Bytes(u64),
    /// So many things that have no size.
    Items(u64),
}

/// All of them.
pub const HOT_PATHS: &[HotPath] = &[
    HotPath {
        name: "smtp_commands",
        work: Work::Bytes(command_bytes()),
        prepare: smtp_commands,
    },
    HotPath {
        name: "address_parse",
        work: Work::Bytes(ADDRESS.len() as u64),
        prepare: address_parse,
    },
    HotPath {
        name: "unstuff_4k",
        work: Work::Bytes(MESSAGE_BYTES as u64),
        prepare: || unstuff(message(MESSAGE_BYTES, b'a')),
    },
    HotPath {
        name: "unstuff_4k_all_dots",
        work: Work::Bytes(MESSAGE_BYTES as u64),
        prepare: || unstuff(message(MESSAGE_BYTES, b'.')),
    },
    HotPath {
        name: "trace_header",
        work: Work::Bytes(TRACE_BYTES),
        prepare: trace_header,
    },
    HotPath {
        name: "smtp_message_4k",
        work: Work::Bytes(MESSAGE_BYTES as u64),
        prepare: || smtp_message(MESSAGE_BYTES),
    },
    HotPath {
        name: "smtp_message_50k",
        work: Work::Bytes(50 * 1024),
        prepare: || smtp_message(50 * 1024),
    },
    HotPath {
        name: "pop3_command",
        work: Work::Bytes(pop3::COMMAND.len() as u64),
        prepare: pop3::command,
    },
    HotPath {
        name: "pop3_login_plain",
        work: Work::Bytes(pop3::PLAIN.len() as u64),
        prepare: pop3::plain,
    },
    HotPath {
        name: "pop3_stuff_4k",
        work: Work::Bytes(MESSAGE_BYTES as u64),
        prepare: || pop3::stuff(message(MESSAGE_BYTES, b'a')),
    },
    HotPath {
        name: "pop3_stuff_4k_all_dots",
        work: Work::Bytes(MESSAGE_BYTES as u64),
        prepare: || pop3::stuff(message(MESSAGE_BYTES, b'.')),
    },
    HotPath {
        name: "pop3_top_4k",
        work: Work::Bytes(MESSAGE_BYTES as u64),
        prepare: || pop3::top(message(MESSAGE_BYTES, b'a')),
    },
    HotPath {
        name: "pop3_retrieve_4k",
        work: Work::Bytes(MESSAGE_BYTES as u64),
        prepare: || pop3::retrieve(message(MESSAGE_BYTES, b'a')),
    },
    HotPath {
        name: "record_encode_4k",
        work: Work::Bytes(MESSAGE_BYTES as u64),
        prepare: || store::encode_batch(message(MESSAGE_BYTES, b'a')),
    },
    HotPath {
        name: "index_insert",
        work: Work::Items(store::INSERTS as u64),
        prepare: store::insert,
    },
    HotPath {
        name: "mime_structure_4k",
        work: Work::Bytes(mime::MESSAGE_BYTES as u64),
        prepare: mime::structure,
    },
    HotPath {
        name: "mime_summary_encode",
        work: Work::Items(1),
        prepare: mime::summary_encode,
    },
    HotPath {
        name: "mime_summary_fetch",
        work: Work::Items(1),
        prepare: mime::summary_fetch,
    },
    HotPath {
        name: "mime_search_plain_4k",
        work: Work::Bytes(mime::MESSAGE_BYTES as u64),
        prepare: || mime::search(mime::Kind::Plain),
    },
    HotPath {
        name: "mime_search_latin1_4k",
        work: Work::Bytes(mime::MESSAGE_BYTES as u64),
        prepare: || mime::search(mime::Kind::Latin1),
    },
    HotPath {
        name: "mime_search_base64_4k",
        work: Work::Bytes(mime::MESSAGE_BYTES as u64),
        prepare: || mime::search(mime::Kind::Base64),
    },
    HotPath {
        name: "mime_search_quoted_4k",
        work: Work::Bytes(mime::MESSAGE_BYTES as u64),
        prepare: || mime::search(mime::Kind::Quoted),
    },
    HotPath {
        name: "mime_thread_1k",
        work: Work::Items(mime::THREADED as u64),
        prepare: mime::thread,
    },
];

/// The message size of the end-to-end comparisons.
const MESSAGE_BYTES: usize = 4096;
/// About what a trace header has.
const TRACE_BYTES: u64 = 180;
const ADDRESS: &str = "firstname.lastname@mail.Example.ORG";
const COMMANDS: [&[u8]; 6] = [
    b"EHLO client.example.com",
    b"MAIL FROM:<sender@example.com> SIZE=4096 BODY=8BITMIME",
    b"RCPT TO:<u123@bench.test>",
    b"DATA",
    b"RSET",
    b"QUIT",
];

const fn command_bytes() -> u64 {
    let mut bytes = 0;
    let mut index = 0;
    while index < COMMANDS.len() {
        bytes += COMMANDS[index].len() + 2;
        index += 1;
    }
    bytes as u64
}

fn smtp_commands() -> Box<dyn FnMut()> {
    Box::new(|| {
        for line in COMMANDS {
            match parse_verb(black_box(line)) {
                (Verb::Mail, arguments) => drop(black_box(parse_mail(arguments))),
                (Verb::Rcpt, arguments) => drop(black_box(parse_rcpt(arguments))),
                other => drop(black_box(other)),
            }
        }
    })
}

fn address_parse() -> Box<dyn FnMut()> {
    Box::new(|| drop(black_box(Address::parse(black_box(ADDRESS)))))
}

/// A message as it comes over the wire, in lines of 76 bytes that start with `first`, with the dot
/// that ends it.
fn message(bytes: usize, first: u8) -> Vec<u8> {
    let mut message = b"Subject: hot path\r\nFrom: <s@example.com>\r\n\r\n".to_vec();
    while message.len() < bytes - 5 {
        let line_bytes = (bytes - 5 - message.len()).min(76);
        message.push(first);
        message.resize(message.len() + line_bytes - 1, b'x');
        message.extend_from_slice(b"\r\n");
    }
    message.extend_from_slice(b".\r\n");
    message
}

fn unstuff(message: Vec<u8>) -> Box<dyn FnMut()> {
    let mut body = Vec::with_capacity(message.len());
    Box::new(move || {
        body.clear();
        let (used, ended) = DotUnstuffer::default().feed(black_box(&message), Some(&mut body));
        assert!(ended && used == message.len());
    })
}

fn trace_header() -> Box<dyn FnMut()> {
    let address = |text| Address::parse(text).expect("a good address");
    let envelope = Envelope {
        reverse_path: ReversePath::Address(address("sender@example.com")),
        forward_paths: vec![ForwardPath::Address(address("u123@bench.test"))],
        ..Envelope::default()
    };
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        let hop = Hop {
            client_name: black_box("client.example.com"),
            peer: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10))),
            hostname: "mx.bench.test",
            with_protocol: "ESMTP",
            queue_id: "0a7-42-1f3c",
        };
        write_trace(&envelope, &hop, black_box(1_795_351_035), &mut out);
    })
}

/// One transaction of a session that goes on: MAIL, RCPT, DATA and the message in receive buffers
/// of 8 KiB, with a shard that says yes at once.
fn smtp_message(bytes: usize) -> Box<dyn FnMut()> {
    let settings = Settings {
        dialect: Dialect::Smtp,
        hostname: "mx.bench.test".to_owned(),
        message_bytes_max: 1 << 20,
        recipients_max: 1000,
        messages_max: u32::MAX,
        refused_recipients_max: 20,
        command_timeout: Duration::from_secs(600),
        data_timeout: Duration::from_secs(600),
    };
    let peer = Peer::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    let mut session = Session::new(Arc::new(settings), peer);
    let now = Instant::now();
    let mut out = Vec::new();
    session.greet(now, &mut out);
    session.feed(b"EHLO client.example.com\r\n", now, &mut out);
    let message = message(bytes, b'a');
    let mail = format!("MAIL FROM:<sender@example.com> SIZE={bytes}\r\n");
    Box::new(move || {
        let commands: [&[u8]; 3] = [
            mail.as_bytes(),
            b"RCPT TO:<u123@bench.test>\r\n",
            b"DATA\r\n",
        ];
        for piece in commands.into_iter().chain(message.chunks(8192)) {
            out.clear();
            let (used, step) = session.feed(black_box(piece), now, &mut out);
            assert_eq!(used, piece.len());
            let answer = match step {
                Step::Ask(Ask::Recipient { .. }) => Answer::Recipient(Ok(())),
                Step::Ask(Ask::Deliver(transaction)) => {
                    drop(black_box(transaction));
                    let status = EnhancedStatus(2, 0, 0);
                    Answer::Delivered(vec![Reply::new(250, status, "Queued as 0a7-42-1f3c")])
                }
                _ => continue,
            };
            session.answer(answer, now, &mut out);
        }
        black_box(&out);
    })
}
