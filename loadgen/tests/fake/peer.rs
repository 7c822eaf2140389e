//! A client as a server sees it: lines in, bytes out, in the clear or under TLS; and how it proves
//! who it is.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{KeyInit as _, Mac as _};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

trait Both: Read + Write {}
impl<S: Read + Write> Both for S {}

/// What a server wants of its clients before it serves them.
#[derive(Clone, Default)]
pub struct Doors {
    /// TLS, and whether it begins with the first byte.
    pub tls: Option<(Arc<ServerConfig>, bool)>,
    /// A login, with the password `pw`.
    pub auth: bool,
    /// Everybody may send from their own address only.
    pub own_sender: bool,
}

/// One client.
pub struct Peer {
    lines: BufReader<Box<dyn Both>>,
    /// For STARTTLS.
    stream: TcpStream,
    pub secured: bool,
}

impl Peer {
    pub fn new(stream: &TcpStream, doors: &Doors) -> io::Result<Peer> {
        let mut peer = Peer {
            lines: BufReader::new(Box::new(stream.try_clone()?)),
            stream: stream.try_clone()?,
            secured: false,
        };
        if let Some((config, true)) = &doors.tls {
            peer.secure(config)?;
        }
        Ok(peer)
    }

    /// TLS from here on.
    pub fn secure(&mut self, config: &Arc<ServerConfig>) -> io::Result<()> {
        assert!(self.lines.buffer().is_empty(), "sent before TLS was up");
        let connection = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
        let stream = StreamOwned::new(connection, self.stream.try_clone()?);
        self.lines = BufReader::new(Box::new(stream));
        self.secured = true;
        Ok(())
    }

    /// The next line without its end; `None`: the client is gone.
    pub fn line(&mut self) -> io::Result<Option<String>> {
        let bytes = self.bytes()?;
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        Ok((!bytes.is_empty()).then_some(line))
    }

    /// The next line as it came.
    pub fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.lines.read_until(b'\n', &mut line)?;
        Ok(line)
    }

    pub fn say(&mut self, text: &str) -> io::Result<()> {
        self.send(format!("{text}\r\n").as_bytes())
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.lines.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Asks and gets an answer, both in base64; `prompt` is `334 ` or `+ `.
    fn ask(&mut self, prompt: &str, challenge: &[u8]) -> io::Result<Vec<u8>> {
        self.say(&format!("{prompt}{}", BASE64_STANDARD.encode(challenge)))?;
        let answer = self.line()?.unwrap_or_default();
        BASE64_STANDARD.decode(answer).map_err(io::Error::other)
    }

    /// Goes through what `AUTH` asks for: who it was, if the password was `pw`.
    pub fn authenticate(&mut self, command: &str, prompt: &str) -> io::Result<Option<String>> {
        let mut words = command.split(' ').skip(1);
        let mechanism = words.next().unwrap_or_default().to_owned();
        let initial = words.next().map(|text| BASE64_STANDARD.decode(text));
        let initial = initial.transpose().map_err(io::Error::other)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(match mechanism.as_str() {
            "PLAIN" => {
                let bytes = match initial {
                    Some(bytes) => bytes,
                    None => self.ask(prompt, b"")?,
                };
                let text = text(bytes);
                let mut parts = text.split('\0').skip(1);
                let user = parts.next().unwrap_or_default().to_owned();
                (parts.next() == Some("pw")).then_some(user)
            }
            "LOGIN" => {
                let user = text(self.ask(prompt, b"Username:")?);
                (self.ask(prompt, b"Password:")? == b"pw").then_some(user)
            }
            "CRAM-MD5" => {
                let challenge = b"<1.2@fake>";
                let answer = text(self.ask(prompt, challenge)?);
                let (user, digest) = answer.split_once(' ').unwrap_or_default();
                let mac = hmac::Hmac::<md5::Md5>::new_from_slice(b"pw").expect("a key");
                let wanted = mac.chain_update(challenge).finalize().into_bytes();
                let wanted: String = wanted.iter().map(|byte| format!("{byte:02x}")).collect();
                (digest == wanted).then(|| user.to_owned())
            }
            "SCRAM-SHA-256" => self.scram(prompt, &text(initial.unwrap_or_default()))?,
            _ => None,
        })
    }

    /// RFC 5802 §3 from the server's side.
    fn scram(&mut self, prompt: &str, first: &str) -> io::Result<Option<String>> {
        let bare = first.strip_prefix("n,,").unwrap_or_default();
        let (user, nonce) = bare.split_once(",r=").unwrap_or_default();
        let (both, salt) = (format!("{nonce}fake"), b"salt of the fake");
        let server_first = format!("r={both},s={},i=4096", BASE64_STANDARD.encode(salt));
        let last = self.ask(prompt, server_first.as_bytes())?;
        let last = String::from_utf8_lossy(&last).into_owned();
        let (without_proof, proof) = last.split_once(",p=").unwrap_or_default();
        let mut salted = [0; 32];
        let rounds = std::num::NonZeroU32::new(4096).expect("not zero");
        let algorithm = ring::pbkdf2::PBKDF2_HMAC_SHA256;
        ring::pbkdf2::derive(algorithm, rounds, salt, b"pw", &mut salted);
        let sign = |key: &[u8], data: &[u8]| {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
            ring::hmac::sign(&key, data)
        };
        let authenticated = format!("{bare},{server_first},{without_proof}");
        let client_key = sign(&salted, b"Client Key");
        let stored = ring::digest::digest(&ring::digest::SHA256, client_key.as_ref());
        let signature = sign(stored.as_ref(), authenticated.as_bytes());
        let pairs = client_key.as_ref().iter().zip(signature.as_ref());
        let wanted: Vec<u8> = pairs.map(|(key, signature)| key ^ signature).collect();
        if BASE64_STANDARD.decode(proof).ok() != Some(wanted)
            || without_proof != format!("c=biws,r={both}")
        {
            return Ok(None);
        }
        let server_key = sign(&salted, b"Server Key");
        let proof = sign(server_key.as_ref(), authenticated.as_bytes());
        let said = format!("v={}", BASE64_STANDARD.encode(proof.as_ref()));
        self.ask(prompt, said.as_bytes())?;
        Ok(user.strip_prefix("n=").map(str::to_owned))
    }
}

/// The digest of APOP for the password `pw`.
pub fn apop_digest(timestamp: &str) -> String {
    use md5::Digest as _;
    let digest = md5::Md5::digest(format!("{timestamp}pw"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A certificate for localhost and 127.0.0.1 that signed itself: the server's side, and as PEM.
pub fn certificate() -> (Arc<ServerConfig>, String) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.expect("a key"))
        .expect("they fit");
    (Arc::new(config), made.cert.pem())
}
