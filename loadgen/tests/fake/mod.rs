//! A mail server of threads and blocking sockets, with faults to order: just enough SMTP, LMTP and
//! POP3 for `loadgen` to talk to.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
}

/// Mailboxes by address.
pub type Store = Arc<Mutex<HashMap<String, Vec<Vec<u8>>>>>;

/// How a server greets, if it does not behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Takes connections and says nothing.
    Hangs,
    /// Resets every connection.
    Resets,
    /// Speaks HTTP.
    Nonsense,
    /// 421.
    Busy,
}

fn serve(each: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let each = Arc::new(each);
    // The threads end with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = each.clone();
            std::thread::spawn(move || each(stream));
        }
    });
    address
}

/// An SMTP (or LMTP) server that stores what it takes.
pub fn smtp(store: &Store, faults: &[Fault]) -> SocketAddr {
    let (store, faults) = (store.clone(), faults.to_vec());
    let taken = AtomicU64::new(0);
    serve(move |stream| {
        // A client that goes away is no error of the server.
        let _ = smtp_session(&stream, &store, &faults, &taken);
    })
}

fn smtp_session(
    stream: &TcpStream,
    store: &Store,
    faults: &[Fault],
    taken: &AtomicU64,
) -> std::io::Result<()> {
    let mut out = stream;
    let mut lines = BufReader::new(stream);
    let (mut recipients, mut lmtp) = (Vec::<String>::new(), false);
    out.write_all(b"220 fake\r\n")?;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let verb = line.get(..4).unwrap_or("").to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" | "LHLO" => {
                lmtp = verb == "LHLO";
                out.write_all(b"250-fake\r\n250 PIPELINING\r\n")?;
            }
            "RCPT" => {
                let refused = faults.iter().find_map(|fault| match fault {
                    Fault::RefuseRcpt(code) => Some(*code),
                    _ => None,
                });
                if let Some(code) = refused {
                    out.write_all(format!("{code} no\r\n").as_bytes())?;
                    continue;
                }
                let address = line
                    .trim()
                    .trim_start_matches("RCPT TO:<")
                    .trim_end_matches('>');
                recipients.push(address.to_owned());
                out.write_all(b"250 ok\r\n")?;
            }
            "DATA" if recipients.is_empty() => out.write_all(b"503 no recipients\r\n")?,
            "DATA" => {
                out.write_all(b"354 go\r\n")?;
                let body = dot_text(&mut lines)?;
                let number = taken.fetch_add(1, Ordering::SeqCst);
                let replies = if lmtp { recipients.len() } else { 1 };
                if take(store, &recipients, body, number, faults) {
                    return Ok(());
                }
                let reply = faults.iter().find_map(|fault| match fault {
                    Fault::Refuse(every, code) if number.is_multiple_of(*every) => Some(*code),
                    _ => None,
                });
                for _ in 0..replies {
                    out.write_all(format!("{} done\r\n", reply.unwrap_or(250)).as_bytes())?;
                }
                recipients.clear();
            }
            "QUIT" => return out.write_all(b"221 bye\r\n"),
            _ => out.write_all(b"250 ok\r\n")?,
        }
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
fn dot_text(lines: &mut impl std::io::BufRead) -> std::io::Result<Vec<u8>> {
    let mut text = b"Received: from loadgen by fake\r\n".to_vec();
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line)? == 0 {
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
    let store = store.clone();
    serve(move |stream| {
        let _ = pop3_session(&stream, &store);
    })
}

fn pop3_session(stream: &TcpStream, store: &Store) -> std::io::Result<()> {
    let mut out = stream;
    let mut user = String::new();
    let mut mailbox = Vec::new();
    out.write_all(b"+OK fake\r\n")?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
        match verb {
            "CAPA" => out.write_all(b"+OK\r\nPIPELINING\r\nUSER\r\n.\r\n")?,
            "USER" => {
                user = argument.to_owned();
                out.write_all(b"+OK\r\n")?;
            }
            "PASS" if argument == "pw" => {
                let store = store.lock().expect("not poisoned");
                mailbox = store.get(&user).cloned().unwrap_or_default();
                out.write_all(b"+OK\r\n")?;
            }
            "PASS" => out.write_all(b"-ERR [AUTH] wrong password\r\n")?,
            "STAT" => out.write_all(format!("+OK {} 0\r\n", mailbox.len()).as_bytes())?,
            "LIST" | "UIDL" => out.write_all(b"+OK\r\n.\r\n")?,
            "RETR" => {
                let number: usize = argument.parse().unwrap_or(0);
                let mut text = b"+OK\r\n".to_vec();
                for line in mailbox[number - 1].split_inclusive(|&byte| byte == b'\n') {
                    if line.starts_with(b".") {
                        text.push(b'.');
                    }
                    text.extend_from_slice(line);
                }
                text.extend_from_slice(b".\r\n");
                out.write_all(&text)?;
            }
            "QUIT" => return out.write_all(b"+OK\r\n"),
            _ => out.write_all(b"+OK\r\n")?,
        }
    }
    Ok(())
}

/// A server that does not behave.
pub fn rude(manner: Manner) -> SocketAddr {
    serve(move |stream| {
        let mut out = &stream;
        let _ = match manner {
            Manner::Hangs => {
                std::thread::sleep(Duration::from_secs(60));
                Ok(())
            }
            Manner::Resets => {
                // Unread bytes at close make a reset; the client waits for a greeting, so some
                // are needed that it will send afterwards.
                out.write_all(b"220 come in\r\n").map(|()| {
                    std::thread::sleep(Duration::from_millis(50));
                })
            }
            Manner::Nonsense => out.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            Manner::Busy => out.write_all(b"421 4.3.2 too many connections\r\n"),
        };
    })
}
