//! TLS between the engine and a dialogue, without I/O.
//!
//! Guarantees: a dialogue sees plain bytes and writes plain bytes, and not one of them leaves or
//! arrives before TLS is up, but those of the conversation before STARTTLS; the handshake is timed
//! as a verb of its own, apart from resumed ones.
//! Does not know: protocols. A run without TLS does not use this at all.
//! On failure: a handshake that fails is noted with the alert's number and the words for it, and
//! the connection is closed.

use std::io::{BufRead as _, Write as _};
use std::time::Instant;

use rustls::{ClientConnection, Error, HandshakeKind};

use super::{Dialogue, End, Next, Work, note_fault};
use crate::recorder::{Fault, FaultKey, Recorder, Verb};
use crate::tls::{Client, Start};

/// A dialogue that can go on under TLS.
pub trait Upgrade: Dialogue {
    /// The server has just agreed to STARTTLS: whatever comes next is TLS. Never, where there is no
    /// such command.
    fn wants_tls(&self) -> bool {
        false
    }

    /// TLS is up, after STARTTLS. (Where it begins with the first byte, it is
    /// [`Dialogue::connected`] that is called when it is up.)
    fn upgraded(&mut self, _work: &mut Self::Work, _now: Instant, _out: &mut Vec<u8>) -> Next {
        Next::Wait
    }
}

/// What the connections of one thread share: the dialogues' own, and TLS.
#[derive(Debug)]
pub struct SecuredWork<W> {
    /// The dialogues' own.
    pub inner: W,
    client: Client,
}

impl<W> SecuredWork<W> {
    /// For one thread.
    pub fn new(inner: W, client: Client) -> SecuredWork<W> {
        SecuredWork { inner, client }
    }
}

impl<W: Work> Work for SecuredWork<W> {
    fn recorder(&mut self) -> &mut Recorder {
        self.inner.recorder()
    }

    fn tick(&mut self, now: Instant) {
        self.inner.tick(now);
    }

    fn is_cut(&self, now: Instant) -> bool {
        self.inner.is_cut(now)
    }

    fn failure(&self) -> Option<String> {
        self.inner.failure()
    }

    fn next_due(&mut self, now: Instant) -> Option<Instant> {
        self.inner.next_due(now)
    }
}

/// How far TLS is.
#[derive(Debug)]
enum Layer {
    Plain,
    /// The handshake began then.
    Handshake(Box<ClientConnection>, Instant),
    Up(Box<ClientConnection>),
}

/// A dialogue under TLS.
#[derive(Debug)]
pub struct Secured<D> {
    inner: D,
    layer: Layer,
    /// What the dialogue said last.
    next: Next,
    /// Written by the dialogue, not yet encrypted.
    plain: Vec<u8>,
}

impl<D: Upgrade> Dialogue for Secured<D> {
    type Work = SecuredWork<D::Work>;

    fn open(work: &mut Self::Work, now: Instant) -> Option<Self> {
        Some(Secured {
            inner: D::open(&mut work.inner, now)?,
            layer: Layer::Plain,
            next: Next::Wait,
            plain: Vec::new(),
        })
    }

    fn connected(&mut self, work: &mut Self::Work, now: Instant, out: &mut Vec<u8>) -> Next {
        match work.client.start {
            Start::Implicit => self.handshake(work, now, out),
            Start::Command => self.inner.connected(&mut work.inner, now, out),
        }
    }

    fn received(
        &mut self,
        work: &mut Self::Work,
        input: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next {
        if let Layer::Plain = self.layer {
            let next = self.inner.received(&mut work.inner, input, now, out);
            return if next == Next::Wait && self.inner.wants_tls() {
                self.handshake(work, now, out)
            } else {
                next
            };
        }
        match self.decrypt(work, input, now) {
            Ok(()) => {
                self.encrypt(out);
                self.next
            }
            Err(error) => {
                let (fault, code, sample) = explain(&error, input);
                let verb = Verb::Tls;
                let key = FaultKey { fault, verb, code };
                work.recorder().fault(key, &sample);
                Next::Fail
            }
        }
    }

    fn woken(&mut self, work: &mut Self::Work, now: Instant, out: &mut Vec<u8>) -> Next {
        if let Layer::Plain = self.layer {
            return self.inner.woken(&mut work.inner, now, out);
        }
        self.next = self.inner.woken(&mut work.inner, now, &mut self.plain);
        self.encrypt(out);
        self.next
    }

    fn ended(self, work: &mut Self::Work, end: End<'_>, now: Instant) {
        let end = match (&self.layer, end) {
            (Layer::Handshake(..), End::Fault(fault, text)) => {
                note_fault(work.recorder(), fault, Verb::Tls, text);
                End::Asked
            }
            _ => end,
        };
        self.inner.ended(&mut work.inner, end, now);
    }
}

impl<D: Upgrade> Secured<D> {
    fn handshake(
        &mut self,
        work: &mut SecuredWork<D::Work>,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next {
        match work.client.connect() {
            Ok(connection) => {
                self.layer = Layer::Handshake(Box::new(connection), now);
                self.encrypt(out);
                Next::Wait
            }
            Err(error) => {
                note_fault(work.recorder(), Fault::Tls, Verb::Tls, &error.to_string());
                Next::Fail
            }
        }
    }

    /// Takes what came; the dialogue sees what was in it, and writes to `plain`.
    fn decrypt(
        &mut self,
        work: &mut SecuredWork<D::Work>,
        mut input: &[u8],
        now: Instant,
    ) -> Result<(), Error> {
        while !input.is_empty() {
            let connection = match &mut self.layer {
                Layer::Handshake(connection, _) | Layer::Up(connection) => connection,
                Layer::Plain => return Ok(()),
            };
            let taken = connection
                .read_tls(&mut input)
                .map_err(|e| Error::General(e.to_string()))?;
            if taken == 0 {
                // Behind the end of TLS nothing is looked at.
                break;
            }
            connection.process_new_packets()?;
            if let Layer::Handshake(connection, began) = &self.layer
                && !connection.is_handshaking()
            {
                let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
                let verb = if resumed { Verb::TlsResumed } else { Verb::Tls };
                work.recorder().time(verb, *began, now);
                let (inner, plain) = (&mut self.inner, &mut self.plain);
                self.next = match work.client.start {
                    Start::Implicit => inner.connected(&mut work.inner, now, plain),
                    Start::Command => inner.upgraded(&mut work.inner, now, plain),
                };
                if let Layer::Handshake(connection, _) =
                    std::mem::replace(&mut self.layer, Layer::Plain)
                {
                    self.layer = Layer::Up(connection);
                }
            }
            if let Layer::Up(connection) = &mut self.layer {
                let mut reader = connection.reader();
                // An error says that there is nothing more for now; the engine sees the end.
                while let Ok(bytes) = reader.fill_buf()
                    && !bytes.is_empty()
                    && !matches!(self.next, Next::Close | Next::Fail)
                {
                    let count = bytes.len();
                    let (inner, plain) = (&mut self.inner, &mut self.plain);
                    self.next = inner.received(&mut work.inner, bytes, now, plain);
                    reader.consume(count);
                }
            }
            if matches!(self.next, Next::Close | Next::Fail) {
                break;
            }
        }
        Ok(())
    }

    /// Moves what the dialogue wrote, and what TLS itself has to say, to `out`.
    fn encrypt(&mut self, out: &mut Vec<u8>) {
        let connection = match &mut self.layer {
            Layer::Handshake(connection, _) | Layer::Up(connection) => connection,
            Layer::Plain => return,
        };
        // Memory to memory: neither can fail, as there is no bound on what is taken.
        let _ = connection.writer().write_all(&self.plain);
        self.plain.clear();
        while connection.wants_write() && connection.write_tls(out).is_ok_and(|bytes| bytes > 0) {}
    }
}

/// Kind, number of the alert and words of a failure; `input` is what came last.
fn explain(error: &Error, input: &[u8]) -> (Fault, u16, Vec<u8>) {
    match error {
        Error::AlertReceived(alert) => {
            let text = format!("the server sent the alert {alert:?}");
            (Fault::Tls, u16::from(u8::from(*alert)), text.into_bytes())
        }
        Error::InvalidMessage(_) => {
            let sample = [b"not TLS: ", input].concat();
            (Fault::Nonsense, 0, sample)
        }
        Error::InvalidCertificate(_) => {
            let text = format!("{error} (see --tls-ca, --tls-name and --tls-insecure)");
            (Fault::Tls, 0, text.into_bytes())
        }
        _ => (Fault::Tls, 0, error.to_string().into_bytes()),
    }
}
