//! A connection that says what it was sent and what came, and may be told to lie.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;

use super::packed::Packed;
use super::response::{Response, parse};
use super::support::connect;
use super::tamper::Tamper;

/// Lines kept for the report of a difference.
const HISTORY_LINES: usize = 150;
/// Bytes of a line in that report.
const SHOWN_BYTES: usize = 240;

/// One connection to the server.
pub struct Link {
    reader: BufReader<Packed>,
    history: VecDeque<String>,
    tamper: Option<Tamper>,
}

/// Why there is no response.
pub enum Broken {
    /// The server is gone.
    Closed,
    /// It took longer than anything may take.
    Silent,
    /// It said something that is no response.
    Nonsense(String),
}

impl Link {
    pub fn new(address: SocketAddr, tamper: Option<Tamper>) -> Link {
        Link {
            reader: BufReader::with_capacity(64 * 1024, Packed::new(connect(address))),
            history: VecDeque::new(),
            tamper,
        }
    }

    /// Sends commands. A server that is gone is noticed when its answer is read.
    pub fn send(&mut self, bytes: &[u8]) {
        for line in bytes.split(|byte| *byte == b'\n') {
            if !line.is_empty() {
                self.note("C", line);
            }
        }
        let _ = self.reader.get_mut().write_all(bytes);
    }

    /// From now on both ways are compressed: COMPRESS was answered with OK, and nothing has come since.
    pub fn pack(&mut self) {
        assert!(self.reader.buffer().is_empty(), "it says more in plain");
        self.reader.get_mut().start();
    }

    fn note(&mut self, who: &str, line: &[u8]) {
        if self.history.len() == HISTORY_LINES {
            self.history.pop_front();
        }
        let shown = &line[..line.len().min(SHOWN_BYTES)];
        let shown = String::from_utf8_lossy(shown);
        self.history
            .push_back(format!("{who}: {}", shown.trim_end()));
    }

    /// The last lines, both ways.
    pub fn history(&self) -> String {
        let lines: Vec<&str> = self.history.iter().map(String::as_str).collect();
        lines.join("\n")
    }

    /// The next response.
    pub fn read(&mut self) -> Result<Response, Broken> {
        loop {
            let bytes = self.read_bytes()?;
            self.note("S", &bytes);
            let response = parse(&bytes).map_err(Broken::Nonsense)?;
            let Some(tamper) = &mut self.tamper else {
                return Ok(response);
            };
            let is_packed = self.reader.get_ref().is_packed();
            if let Some(response) = tamper.change(response, is_packed) {
                return Ok(response);
            }
        }
    }

    /// A line, and what its literals announce, without the last line end.
    fn read_bytes(&mut self) -> Result<Vec<u8>, Broken> {
        let mut bytes = Vec::new();
        loop {
            let read = self.reader.read_until(b'\n', &mut bytes);
            match read {
                Ok(_) if bytes.ends_with(b"\r\n") => {}
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => {
                    return Err(Broken::Silent);
                }
                _ => return Err(Broken::Closed),
            }
            let Some(length) = announced(&bytes) else {
                bytes.truncate(bytes.len() - 2);
                return Ok(bytes);
            };
            let start = bytes.len();
            bytes.resize(start + length, 0);
            if self.reader.read_exact(&mut bytes[start..]).is_err() {
                return Err(Broken::Closed);
            }
        }
    }
}

/// The length of the literal that a line ends with.
fn announced(line: &[u8]) -> Option<usize> {
    let text = line.strip_suffix(b"}\r\n")?;
    let start = text.iter().rposition(|byte| *byte == b'{')?;
    std::str::from_utf8(&text[start + 1..]).ok()?.parse().ok()
}
