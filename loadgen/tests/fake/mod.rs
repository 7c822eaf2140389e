//! A mail server of threads and blocking sockets, with faults to order: just enough SMTP, LMTP and
//! POP3 for `loadgen` to talk to.

mod peer;
mod rude;

pub use peer::{Doors, certificate};
pub use rude::{Manner, Speaks, rude};

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use peer::Peer;

/// What goes wrong with which message; messages are counted from 0 as they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Acknowledged and thrown away.
    Drop(u64),
    /// Stored twice.
    Double(u64),
    /// A bit of its body is flipped.
    Corrupt(u64),
    /// Stored, but the connection is closed before the reply.
    Mute(u64),
    /// Refused, with this code, for every message whose number is a multiple.
    Refuse(u64, u16),
    /// Refused at RCPT.
    RefuseRcpt(u16),
    /// With this message the whole server stands still, for so many milliseconds.
    Stall(u64, u64),
}

/// Mailboxes by address.
pub type Store = Arc<Mutex<HashMap<String, Vec<Vec<u8>>>>>;

fn serve(each: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let each = Arc::new(each);
    // The threads end with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Replies go out one by one: none is to wait for the client's acknowledgement.
            stream.set_nodelay(true).expect("a TCP socket");
            let each = each.clone();
            std::thread::spawn(move || each(stream));
        }
    });
    address
}

/// An SMTP (or LMTP) server that stores what it takes.
pub fn smtp(store: &Store, faults: &[Fault]) -> SocketAddr {
    guarded_smtp(store, faults, &Doors::default())
}

/// The same behind doors.
pub fn guarded_smtp(store: &Store, faults: &[Fault], doors: &Doors) -> SocketAddr {
    let (store, faults, doors) = (store.clone(), faults.to_vec(), doors.clone());
    let taken = AtomicU64::new(0);
    let still = Mutex::new(Instant::now());
    serve(move |stream| {
        // A client that goes away is no error of the server.
        let _ = Peer::new(&stream, &doors).and_then(|peer| {
            let session = Session {
                peer,
                doors: &doors,
                store: &store,
                faults: &faults,
                taken: &taken,
                still: &still,
                lmtp: false,
                user: None,
                recipients: Vec::new(),
                eight_bit: false,
            };
            session.run()
        });
    })
}

struct Session<'a> {
    peer: Peer,
    doors: &'a Doors,
    store: &'a Store,
    faults: &'a [Fault],
    taken: &'a AtomicU64,
    /// Until then nobody is answered.
    still: &'a Mutex<Instant>,
    lmtp: bool,
    user: Option<String>,
    recipients: Vec<String>,
    /// MAIL announced 8-bit content (RFC 6152).
    eight_bit: bool,
}

impl Session<'_> {
    fn run(mut self) -> std::io::Result<()> {
        self.peer.say("220 fake")?;
        while let Some(line) = self.peer.line()? {
            self.stand_still();
            let verb = line.split(' ').next().unwrap_or_default();
            match verb.to_ascii_uppercase().as_str() {
                "DATA" if !self.recipients.is_empty() => {
                    if self.data()? {
                        return Ok(());
                    }
                }
                "QUIT" => return self.peer.say("221 bye"),
                verb => self.command(verb, &line)?,
            }
        }
        Ok(())
    }

    fn command(&mut self, verb: &str, line: &str) -> std::io::Result<()> {
        let (doors, peer) = (self.doors, &mut self.peer);
        let not_mine = |user: &String| doors.own_sender && !line.contains(&format!("<{user}>"));
        let refused = self.faults.iter().find_map(|fault| match fault {
            Fault::RefuseRcpt(code) => Some(*code),
            _ => None,
        });
        match (verb, &doors.tls) {
            ("EHLO" | "LHLO", tls) => {
                self.lmtp = verb == "LHLO";
                if tls.is_some() && !peer.secured {
                    peer.say("250-STARTTLS")?;
                }
                if doors.auth {
                    peer.say("250-AUTH PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256")?;
                }
                peer.say("250-fake\r\n250-8BITMIME\r\n250 PIPELINING")
            }
            ("STARTTLS", Some((config, _))) => {
                peer.say("220 go ahead")?;
                peer.secure(config)
            }
            ("AUTH", _) if doors.auth => {
                self.user = peer.authenticate(line, "334 ")?;
                peer.say(match self.user {
                    Some(_) => "235 welcome",
                    None => "535 5.7.8 wrong password",
                })
            }
            ("MAIL", Some(_)) if !peer.secured => peer.say("530 5.7.0 STARTTLS first"),
            ("MAIL", _) if doors.auth && self.user.is_none() => peer.say("530 5.7.0 AUTH first"),
            ("MAIL", _) if self.user.iter().any(not_mine) => peer.say("553 5.7.1 not yours"),
            ("MAIL", _) => {
                self.eight_bit = line.ends_with(" BODY=8BITMIME");
                peer.say("250 ok")
            }
            ("RCPT", _) => match refused {
                Some(code) => peer.say(&format!("{code} no")),
                None => {
                    let address = line.trim_start_matches("RCPT TO:<").trim_end_matches('>');
                    self.recipients.push(address.to_owned());
                    peer.say("250 ok")
                }
            },
            ("DATA", _) => peer.say("503 no recipients"),
            _ => peer.say("250 ok"),
        }
    }

    fn stand_still(&self) {
        let until = *self.still.lock().expect("not poisoned");
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
    }

    /// Takes a message; `true`: go away without a reply.
    fn data(&mut self) -> std::io::Result<bool> {
        self.peer.say("354 go")?;
        let body = dot_text(&mut self.peer)?;
        if self.eight_bit == body.is_ascii() {
            self.recipients.clear();
            self.peer.say("554 5.6.1 not what MAIL announced")?;
            return Ok(false);
        }
        let number = self.taken.fetch_add(1, Ordering::SeqCst);
        for fault in self.faults {
            if let Fault::Stall(which, ms) = fault
                && *which == number
            {
                let until = Instant::now() + Duration::from_millis(*ms);
                *self.still.lock().expect("not poisoned") = until;
            }
        }
        self.stand_still();
        let replies = if self.lmtp { self.recipients.len() } else { 1 };
        if take(self.store, &self.recipients, body, number, self.faults) {
            return Ok(true);
        }
        let reply = self.faults.iter().find_map(|fault| match fault {
            Fault::Refuse(every, code) if number.is_multiple_of(*every) => Some(*code),
            _ => None,
        });
        for _ in 0..replies {
            self.peer.say(&format!("{} done", reply.unwrap_or(250)))?;
        }
        self.recipients.clear();
        Ok(false)
    }
}

/// Stores a message, faults applied; `true`: go away without a reply.
fn take(
    store: &Store,
    recipients: &[String],
    mut body: Vec<u8>,
    number: u64,
    faults: &[Fault],
) -> bool {
    let mut copies = 1;
    let mut mute = false;
    for fault in faults {
        match fault {
            Fault::Drop(which) if *which == number => copies = 0,
            Fault::Double(which) if *which == number => copies = 2,
            Fault::Mute(which) if *which == number => mute = true,
            Fault::Refuse(every, _) if number.is_multiple_of(*every) => copies = 0,
            Fault::Corrupt(which) if *which == number => {
                let at = body.len() - 10;
                body[at] ^= 1;
            }
            _ => {}
        }
    }
    let mut store = store.lock().expect("not poisoned");
    for recipient in recipients {
        let mailbox = store.entry(recipient.clone()).or_default();
        mailbox.extend(std::iter::repeat_n(body.clone(), copies));
    }
    mute
}

/// A text as it was before dot-stuffing.
fn dot_text(peer: &mut Peer) -> std::io::Result<Vec<u8>> {
    let mut text = b"Received: from loadgen by fake\r\n".to_vec();
    loop {
        let line = peer.bytes()?;
        if line.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(text);
        }
        text.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}

/// A POP3 server on the same mailboxes; the password is `pw`.
pub fn pop3(store: &Store) -> SocketAddr {
    guarded_pop3(store, &Doors::default())
}

/// The same behind doors; it takes AUTH and APOP without them too.
pub fn guarded_pop3(store: &Store, doors: &Doors) -> SocketAddr {
    let (store, doors) = (store.clone(), doors.clone());
    serve(move |stream| {
        let _ =
            Peer::new(&stream, &doors).and_then(|mut peer| pop3_session(&mut peer, &doors, &store));
    })
}

/// An HTTP server that has one page, of six bytes.
pub fn guarded_http(doors: &Doors) -> SocketAddr {
    let doors = doors.clone();
    serve(move |stream| {
        let _ = Peer::new(&stream, &doors).and_then(|mut peer| {
            while let Some(line) = peer.line()? {
                if line.is_empty() {
                    peer.say("HTTP/1.1 200 fine\r\nContent-Length: 6\r\n\r\npage")?;
                }
            }
            Ok(())
        });
    })
}

fn pop3_session(peer: &mut Peer, doors: &Doors, store: &Store) -> std::io::Result<()> {
    let mut user = String::new();
    let mut mailbox = Vec::new();
    let open = |user: &str| {
        let store = store.lock().expect("not poisoned");
        store.get(user).cloned().unwrap_or_default()
    };
    peer.say("+OK fake <1896.697170952@dbc.mtview.ca.us>")?;
    while let Some(line) = peer.line()? {
        let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
        match (verb, &doors.tls) {
            ("STLS", Some((config, false))) => {
                peer.say("+OK")?;
                peer.secure(config)?;
            }
            ("STLS", _) => peer.say("-ERR no TLS here")?,
            ("USER" | "AUTH" | "APOP", Some(_)) if !peer.secured => {
                peer.say("-ERR STLS first")?;
            }
            ("CAPA", _) => peer.say("+OK\r\nPIPELINING\r\nUSER\r\n.")?,
            ("USER", _) => {
                user = argument.to_owned();
                peer.say("+OK")?;
            }
            ("PASS", _) if argument == "pw" => {
                mailbox = open(&user);
                peer.say("+OK")?;
            }
            ("PASS", _) => peer.say("-ERR [AUTH] wrong password")?,
            ("AUTH", _) => match peer.authenticate(&line, "+ ")? {
                Some(user) => {
                    mailbox = open(&user);
                    peer.say("+OK")?;
                }
                None => peer.say("-ERR [AUTH] wrong password")?,
            },
            ("APOP", _) => {
                let (user, digest) = argument.split_once(' ').unwrap_or_default();
                if digest == peer::apop_digest("<1896.697170952@dbc.mtview.ca.us>") {
                    mailbox = open(user);
                    peer.say("+OK")?;
                } else {
                    peer.say("-ERR [AUTH] wrong digest")?;
                }
            }
            ("STAT", _) => peer.say(&format!("+OK {} 0", mailbox.len()))?,
            ("TOP", _) => {
                let number = argument
                    .split(' ')
                    .next()
                    .and_then(|n| n.parse::<usize>().ok());
                let message = &mailbox[number.unwrap_or(0) - 1];
                let end = message.windows(4).position(|bytes| bytes == b"\r\n\r\n");
                let header = &message[..end.map_or(message.len(), |end| end + 4)];
                peer.send(&[b"+OK\r\n", header, b".\r\n"].concat())?;
            }
            ("LIST" | "UIDL", _) => peer.say("+OK\r\n.")?,
            ("RETR", _) => {
                let number: usize = argument.parse().unwrap_or(0);
                let mut text = b"+OK\r\n".to_vec();
                for line in mailbox[number - 1].split_inclusive(|&byte| byte == b'\n') {
                    if line.starts_with(b".") {
                        text.push(b'.');
                    }
                    text.extend_from_slice(line);
                }
                text.extend_from_slice(b".\r\n");
                peer.send(&text)?;
            }
            ("QUIT", _) => return peer.say("+OK"),
            _ => peer.say("+OK")?,
        }
    }
    Ok(())
}
