//! A mail server that takes everything and keeps nothing: where a relay under test sends to.
//!
//! Guarantees: every message is looked at; how many were whole, damaged, foreign or came again is
//! known at the end. For some time it may refuse all recipients with 450, so that mail is deferred.
//! Does not know: TLS, authentication, size limits. It is no measure of speed: a thread serves each
//! connection.
//! On failure: a connection that breaks is forgotten; one too many is sent away with 421.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use serde_json::{Value, json};

use crate::message::{Checker, MessageId, Verdict};

/// Connections at a time.
pub const CONNECTIONS_MAX: u64 = 4000;
/// Bytes of a line of a command.
const LINE_BYTES_MAX: u64 = 4096;
/// Ids that are remembered, to know what came again.
const IDS_MAX: usize = 10_000_000;
/// A silent client is sent away after so long (RFC 5321 §4.5.3.2.7 has five minutes).
const SILENCE_MAX: Duration = Duration::from_secs(300);

/// How a sink behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Behaviour {
    /// Before the reply to a message.
    pub delay: Duration,
    /// All recipients get 450 for so long from the start.
    pub refuse_for: Duration,
}

/// What has come so far.
#[derive(Debug, Default)]
pub struct Counts {
    open: AtomicU64,
    /// Most connections at a time.
    pub open_most: AtomicU64,
    /// Connections.
    pub connections: AtomicU64,
    /// Messages taken.
    pub messages: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
    /// Recipients taken.
    pub recipients: AtomicU64,
    /// Recipients refused with 450.
    pub refused: AtomicU64,
    /// Ours, but damaged.
    pub corrupt: AtomicU64,
    /// Not made by a load generator.
    pub foreign: AtomicU64,
    /// Ours, and not for the first time.
    pub again: AtomicU64,
    ids: Mutex<FxHashSet<MessageId>>,
    /// Nanoseconds from the start to the first and the last message.
    pub first_ns: AtomicU64,
    /// See `first_ns`.
    pub last_ns: AtomicU64,
}

/// A sink at work; ends when it is dropped, but for connections that are open.
#[derive(Debug)]
pub struct Sink {
    /// Where it listens.
    pub address: SocketAddr,
    /// What has come.
    pub counts: Arc<Counts>,
    over: Arc<AtomicBool>,
    refusing: Arc<AtomicBool>,
    began: Instant,
    /// Has the listening socket.
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Listens on `address`.
    ///
    /// # Errors
    /// When the address is taken, or there is no thread.
    pub fn start(address: SocketAddr, behaviour: Behaviour) -> Result<Sink, String> {
        let explain = |e: io::Error| format!("a sink on {address}: {e}");
        let listener = TcpListener::bind(address).map_err(explain)?;
        let address = listener.local_addr().map_err(explain)?;
        let counts = Arc::new(Counts::default());
        let over = Arc::new(AtomicBool::new(false));
        let refusing = Arc::new(AtomicBool::new(!behaviour.refuse_for.is_zero()));
        let began = Instant::now();
        let mut sink = Sink {
            address,
            counts: counts.clone(),
            over: over.clone(),
            refusing: refusing.clone(),
            began,
            thread: None,
        };
        let thread = std::thread::Builder::new()
            .name("sink".to_owned())
            .spawn(move || {
                for stream in listener.incoming() {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    // A connection that is gone already, or no descriptors: the next one, then.
                    let Ok(mut stream) = stream else {
                        std::thread::sleep(Duration::from_millis(10));
                        continue;
                    };
                    let open = counts.open.fetch_add(1, Ordering::Relaxed) + 1;
                    counts.open_most.fetch_max(open, Ordering::Relaxed);
                    counts.connections.fetch_add(1, Ordering::Relaxed);
                    let session = Session {
                        counts: counts.clone(),
                        behaviour,
                        refusing: refusing.clone(),
                        began,
                    };
                    if open > CONNECTIONS_MAX {
                        let _ = stream.write_all(b"421 4.3.2 too many connections\r\n");
                        counts.open.fetch_sub(1, Ordering::Relaxed);
                        continue;
                    }
                    let spawned =
                        std::thread::Builder::new()
                            .stack_size(128 * 1024)
                            .spawn(move || {
                                // A client that goes away is no error of the sink.
                                let _ = session.serve(&stream);
                                session.counts.open.fetch_sub(1, Ordering::Relaxed);
                            });
                    if spawned.is_err() {
                        counts.open.fetch_sub(1, Ordering::Relaxed);
                    }
                }
            })
            .map_err(explain)?;
        sink.thread = Some(thread);
        Ok(sink)
    }

    /// From now on recipients are taken, or refused.
    pub fn refuse(&self, refuse: bool) {
        self.refusing.store(refuse, Ordering::Relaxed);
    }

    /// Messages taken, and different ones of ours among them.
    pub fn messages(&self) -> (u64, u64) {
        let ids = self.counts.ids.lock().unwrap_or_else(|e| e.into_inner());
        (
            self.counts.messages.load(Ordering::Relaxed),
            ids.len() as u64,
        )
    }

    /// Messages per second, from the first to the last.
    pub fn rate(&self) -> f64 {
        let [messages, first, last] = [
            &self.counts.messages,
            &self.counts.first_ns,
            &self.counts.last_ns,
        ]
        .map(|number| number.load(Ordering::Relaxed));
        if messages > 1 && last > first {
            (messages - 1) as f64 * 1e9 / (last - first) as f64
        } else {
            0.0
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let counts = &self.counts;
        let (messages, different) = self.messages();
        json!({
            "messages": messages,
            "different": different,
            "again": of(&counts.again),
            "corrupt": of(&counts.corrupt),
            "foreign": of(&counts.foreign),
            "bytes": of(&counts.bytes),
            "recipients": of(&counts.recipients),
            "recipients_refused": of(&counts.refused),
            "connections": of(&counts.connections),
            "connections_at_a_time": of(&counts.open_most),
            "messages_per_s": self.rate(),
            "elapsed_s": self.began.elapsed().as_secs_f64(),
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let json = self.json();
        format!(
            "{} messages ({} different, {} again, {} corrupt, {} of others), {} recipients, {} \
             refused for now\n{:.1} messages/s from the first to the last, {} connections, at most \
             {} at a time\n",
            json["messages"],
            json["different"],
            json["again"],
            json["corrupt"],
            json["foreign"],
            json["recipients"],
            json["recipients_refused"],
            self.rate(),
            json["connections"],
            json["connections_at_a_time"],
        )
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes it, and waits, so that the port is free for the next one.
        let woken = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if woken.is_ok()
            && let Some(thread) = self.thread.take()
        {
            // A panic there has no more to say than here.
            let _ = thread.join();
        }
    }
}

struct Session {
    counts: Arc<Counts>,
    behaviour: Behaviour,
    refusing: Arc<AtomicBool>,
    began: Instant,
}

impl Session {
    fn refuses(&self) -> bool {
        let refuse_for = self.behaviour.refuse_for;
        if !refuse_for.is_zero() && self.began.elapsed() >= refuse_for {
            self.refusing.store(false, Ordering::Relaxed);
        }
        self.refusing.load(Ordering::Relaxed)
    }

    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        let mut lines = BufReader::with_capacity(32 * 1024, stream);
        let mut out = stream;
        out.write_all(b"220 sink.invalid ESMTP\r\n")?;
        let (mut line, mut recipients, mut lmtp) = (Vec::new(), 0u64, false);
        let mut replies = Vec::new();
        loop {
            line.clear();
            if (&mut lines)
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)?
                == 0
            {
                return Ok(());
            }
            let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            match verb.as_slice() {
                b"EHLO" | b"LHLO" => {
                    lmtp = verb == b"LHLO";
                    replies.extend_from_slice(
                        b"250-sink.invalid\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0\r\n",
                    );
                }
                b"MAIL" | b"RSET" => {
                    recipients = 0;
                    replies.extend_from_slice(b"250 2.0.0 ok\r\n");
                }
                b"RCPT" if self.refuses() => {
                    self.counts.refused.fetch_add(1, Ordering::Relaxed);
                    replies.extend_from_slice(b"450 4.2.0 later\r\n");
                }
                b"RCPT" => {
                    recipients += 1;
                    replies.extend_from_slice(b"250 2.1.5 ok\r\n");
                }
                b"DATA" if recipients == 0 => {
                    replies.extend_from_slice(b"503 5.5.1 RCPT first\r\n")
                }
                b"DATA" => {
                    replies.extend_from_slice(b"354 go on\r\n");
                    out.write_all(&replies)?;
                    replies.clear();
                    self.message(&mut lines, recipients)?;
                    std::thread::sleep(self.behaviour.delay);
                    for _ in 0..if lmtp { recipients } else { 1 } {
                        replies.extend_from_slice(b"250 2.0.0 taken\r\n");
                    }
                    recipients = 0;
                }
                b"QUIT" => {
                    replies.extend_from_slice(b"221 2.0.0 bye\r\n");
                    return out.write_all(&replies);
                }
                _ => replies.extend_from_slice(b"250 2.0.0 ok\r\n"),
            }
            // What was sent ahead is answered in one piece.
            if lines.buffer().is_empty() {
                out.write_all(&replies)?;
                replies.clear();
            }
        }
    }

    fn message(&self, lines: &mut BufReader<&TcpStream>, recipients: u64) -> io::Result<()> {
        let mut checker = Checker::default();
        let mut dots = crate::dialogue::lines::DotReader::default();
        let mut bytes = 0;
        loop {
            let buffer = lines.fill_buf()?;
            if buffer.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let before = buffer.len();
            let mut rest = buffer;
            let over = dots.feed(&mut rest, |part| {
                bytes += part.len() as u64;
                checker.feed(part);
            });
            let used = before - rest.len();
            lines.consume(used);
            if over {
                break;
            }
        }
        let counts = &self.counts;
        match checker.finish() {
            Verdict::Whole(id) => {
                let mut ids = counts.ids.lock().unwrap_or_else(|e| e.into_inner());
                if ids.len() < IDS_MAX && !ids.insert(id) {
                    counts.again.fetch_add(1, Ordering::Relaxed);
                }
            }
            Verdict::Corrupt(_) => {
                counts.corrupt.fetch_add(1, Ordering::Relaxed);
            }
            Verdict::Foreign => {
                counts.foreign.fetch_add(1, Ordering::Relaxed);
            }
        }
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let _ = counts
            .first_ns
            .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        counts.last_ns.fetch_max(now, Ordering::Relaxed);
        counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        counts.recipients.fetch_add(recipients, Ordering::Relaxed);
        counts.messages.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_one_may_have_the_same_port() {
        let first = Sink::start(([127, 0, 0, 1], 0).into(), Behaviour::default()).expect("a sink");
        let address = first.address;
        drop(first);
        for _ in 0..100 {
            Sink::start(address, Behaviour::default()).expect("the port is free again");
        }
    }
}
