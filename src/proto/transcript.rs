//! What a session and its client say to each other, without secrets: for the telemetry of a user [N35].
//!
//! The session itself writes its client's side, command by command: only it knows where one ends, in
//! however many packets or literals it came, and what of it is a secret. The server's side is what
//! stands in `out`, put between the commands where it was said.
//!
//! Guarantees: no byte behind a word that announces credentials is kept, nor the line that follows one
//! where it may be the answer to a challenge, nor what a reply repeats of either; memory is bounded by
//! `limits::TRANSCRIPT_BYTES_MAX` between two calls of [`Transcript::take`], before login by much less.
//! Does not know: files, the time of day.
//! On failure: what does not fit is left out, and counted.

use zeroize::Zeroizing;

use crate::limits::{TRANSCRIPT_BYTES_MAX, TRANSCRIPT_LOGIN_BYTES_MAX};

/// In place of a secret.
const BLANKED: &[u8] = b" <blanked>";
/// Commands whose arguments are secrets, in any protocol.
const SECRET: [&[u8]; 4] = [b"LOGIN", b"AUTHENTICATE", b"PASS", b"AUTH"];
/// Words of a secret that a reply may repeat, as it may a tag or the name of a command.
const ECHOES_MAX: usize = 4;
/// Bytes of a reply that are looked through for them: a refusal is one line.
const ECHO_BYTES_MAX: usize = 1024;
/// Words of a line among which one of those may stand: tags, and tags forgotten.
const WORDS_LOOKED_AT: usize = 3;

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The server.
    Server,
}

/// What of its conversation a session is to note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noting {
    /// Nothing: who has logged in has no telemetry.
    Nothing,
    /// A little, until somebody logs in: then it is known whether anybody wants it.
    Login,
    /// Everything, with what there is of the login.
    Everything,
}

/// The conversation since it was last taken.
#[derive(Debug)]
pub struct Transcript {
    said: Vec<(Side, Vec<u8>)>,
    bytes: usize,
    bytes_max: usize,
    left_out: u64,
    /// `out` up to here is said, or another turn's.
    seen: usize,
    /// The next line may be the answer to a challenge.
    challenged: bool,
    /// What of the last line the reply may repeat.
    echoes: Vec<Zeroizing<Vec<u8>>>,
    ended: bool,
}

/// What was said, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Pieces of any length: a line may be in several.
    pub pieces: Vec<(Side, Vec<u8>)>,
    /// Bytes behind them that did not fit.
    pub left_out: u64,
    /// Nothing more will come.
    pub ended: bool,
}

impl Transcript {
    fn new(bytes_max: usize) -> Transcript {
        Transcript {
            said: Vec::new(),
            bytes: 0,
            bytes_max,
            left_out: 0,
            seen: 0,
            challenged: false,
            echoes: Vec::new(),
            ended: false,
        }
    }

    /// Of a session in which nobody has logged in yet.
    pub fn before_login() -> Option<Box<Transcript>> {
        Transcript::go_on(None, Noting::Login)
    }

    /// The transcript with which a session that has this one goes on.
    pub fn go_on(known: Option<Box<Transcript>>, noting: Noting) -> Option<Box<Transcript>> {
        let known = known.filter(|known| !known.ended);
        let bytes_max = match noting {
            Noting::Nothing => return None,
            Noting::Login => TRANSCRIPT_LOGIN_BYTES_MAX,
            Noting::Everything => TRANSCRIPT_BYTES_MAX,
        };
        let mut transcript = known.unwrap_or_else(|| Box::new(Transcript::new(bytes_max)));
        // What is there already stays within either.
        transcript.bytes_max = transcript.bytes_max.max(bytes_max);
        Some(transcript)
    }

    /// A call of the session begins: what is in `out` already is not its doing.
    pub fn begin_turn(&mut self, out: &[u8]) {
        self.seen = out.len();
    }

    /// A call of the session is over.
    pub fn end_turn(&mut self, out: &[u8]) {
        self.hear_server(out);
    }

    /// A whole line or command of the client, without its end. `out`: what the server has said so
    /// far.
    pub fn hear_line(&mut self, line: &[u8], out: &[u8]) {
        self.hear_server(out);
        let secret = secret_start(line);
        let kept = match secret {
            // The answer to a challenge is one word.
            None if self.challenged && !line.contains(&b' ') => 0,
            None => line.len(),
            Some(start) => start,
        };
        self.challenged = secret.is_some();
        self.echoes = words(&line[kept..])
            .take(ECHOES_MAX)
            .map(|word| Zeroizing::new(word.to_vec()))
            .collect();
        self.add(Side::Client, &line[..kept]);
        if kept < line.len() {
            self.add(Side::Client, BLANKED);
        }
        self.add(Side::Client, b"\r\n");
    }

    /// Bytes of a message that the client sends.
    pub fn hear_data(&mut self, bytes: &[u8], out: &[u8]) {
        self.hear_server(out);
        self.add(Side::Client, bytes);
    }

    /// What follows is not this user's any more.
    pub fn end(&mut self, out: &[u8]) {
        self.hear_server(out);
        self.ended = true;
    }

    /// Gives away what was said.
    pub fn take(&mut self) -> Said {
        self.bytes = 0;
        Said {
            pieces: std::mem::take(&mut self.said),
            left_out: std::mem::take(&mut self.left_out),
            ended: self.ended,
        }
    }

    /// Bytes of memory held.
    pub fn held_bytes(&self) -> usize {
        self.bytes + size_of::<Transcript>()
    }

    fn hear_server(&mut self, out: &[u8]) {
        let seen = std::mem::replace(&mut self.seen, out.len());
        let Some(fresh) = out.get(seen..).filter(|fresh| !fresh.is_empty()) else {
            return;
        };
        let (mut head, tail) = (Zeroizing::new(Vec::new()), fresh.len().min(ECHO_BYTES_MAX));
        let echoes = std::mem::take(&mut self.echoes);
        if echoes.is_empty() {
            self.add(Side::Server, fresh);
            return;
        }
        head.extend_from_slice(&fresh[..tail]);
        for echo in &echoes {
            blank(&mut head, echo);
        }
        self.add(Side::Server, &head);
        self.add(Side::Server, &fresh[tail..]);
    }

    fn add(&mut self, side: Side, bytes: &[u8]) {
        if self.ended || bytes.is_empty() {
            return;
        }
        let kept = bytes.len().min(self.bytes_max - self.bytes);
        // Behind a gap nothing more is taken: it would look as if it followed.
        let kept = if self.left_out > 0 { 0 } else { kept };
        self.left_out += (bytes.len() - kept) as u64;
        if kept == 0 {
            return;
        }
        self.bytes += kept;
        match self.said.last_mut() {
            Some((last, piece)) if *last == side => piece.extend_from_slice(&bytes[..kept]),
            _ => self.said.push((side, bytes[..kept].to_vec())),
        }
    }
}

/// Words, without quotes around them.
fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| byte.is_ascii_whitespace() || *byte == b'"')
        .filter(|word| !word.is_empty())
}

/// Blanks a word wherever it stands, in any case.
fn blank(text: &mut Vec<u8>, word: &[u8]) {
    let mut from = 0;
    while let Some(found) = text[from..]
        .windows(word.len())
        .position(|window| window.eq_ignore_ascii_case(word))
    {
        let start = from + found;
        text.splice(start..start + word.len(), BLANKED.iter().copied());
        from = start + BLANKED.len();
    }
}

/// Where in a line its secret begins: behind the word that announces it.
fn secret_start(line: &[u8]) -> Option<usize> {
    let mut end = 0;
    for word in line
        .split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
        .take(WORDS_LOOKED_AT)
    {
        // Of the same slice: its end is a place in it.
        end += memchr::memmem::find(&line[end..], word).unwrap_or(0) + word.len();
        if SECRET
            .iter()
            .any(|secret| secret.eq_ignore_ascii_case(word))
        {
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &[&[u8]]) -> String {
        let mut transcript = Transcript::new(TRANSCRIPT_BYTES_MAX);
        for line in lines {
            transcript.hear_line(line, b"");
        }
        let said = transcript.take();
        assert!(said.pieces.len() <= 1 && said.left_out == 0);
        let all = said.pieces.into_iter().flat_map(|(_, bytes)| bytes);
        String::from_utf8(all.collect()).expect("text")
    }

    #[test]
    fn secrets_are_blanked() {
        for (lines, expected) in [
            (&[&b"a NOOP"[..]][..], "a NOOP\r\n"),
            (&[b"a LOGIN u pw"], "a LOGIN <blanked>\r\n"),
            (&[b"LOGIN u pw"], "LOGIN <blanked>\r\n"),
            (
                &[b"a  login {1}\r\nu {2}\r\npw", b"b NOOP"],
                "a  login <blanked>\r\nb NOOP\r\n",
            ),
            (
                &[b"a AUTHENTICATE PLAIN", b"AHUAcHc=", b"b NOOP"],
                "a AUTHENTICATE <blanked>\r\n <blanked>\r\nb NOOP\r\n",
            ),
            (
                &[b"PASS two words", b"STAT"],
                "PASS <blanked>\r\n <blanked>\r\n",
            ),
            (&[b"AUTH"], "AUTH\r\n"),
            (&[b"x UID LOGIN y"], "x UID LOGIN <blanked>\r\n"),
            (&[b"a SEARCH TEXT x LOGIN"], "a SEARCH TEXT x LOGIN\r\n"),
        ] {
            assert_eq!(heard(lines), expected);
        }
    }

    #[test]
    fn replies_repeat_no_secret() {
        let mut transcript = Transcript::new(TRANSCRIPT_BYTES_MAX);
        let mut out = Vec::new();
        transcript.begin_turn(&out);
        for (line, reply) in [
            (
                &b"PASS hunter2"[..],
                &b"PASS BAD unknown command HUNTER2\r\n"[..],
            ),
            (b"AHUAaHVudGVyMg==", b"AHUAaHVudGVyMg== BAD no space\r\n"),
            (b"a NOOP", b"a OK\r\n"),
        ] {
            transcript.hear_line(line, &out);
            out.extend_from_slice(reply);
        }
        transcript.end_turn(&out);
        let pieces = transcript.take().pieces.into_iter();
        let all: Vec<u8> = pieces.flat_map(|(_, bytes)| bytes).collect();
        assert_eq!(
            String::from_utf8(all).expect("text"),
            "PASS <blanked>\r\nPASS BAD unknown command  <blanked>\r\n\
             \x20<blanked>\r\n <blanked> BAD no space\r\na NOOP\r\na OK\r\n"
        );
    }

    #[test]
    fn both_sides_in_their_order() {
        let mut transcript = Transcript::new(TRANSCRIPT_BYTES_MAX);
        let mut out = b"before".to_vec();
        transcript.begin_turn(&out);
        transcript.hear_line(b"a NOOP", &out);
        out.extend_from_slice(b"a OK\r\n");
        transcript.hear_line(b"b NOOP", &out);
        out.extend_from_slice(b"b OK\r\n");
        transcript.end_turn(&out);
        let sides = |said: Said| -> Vec<(Side, String)> {
            let pieces = said.pieces.into_iter();
            pieces
                .map(|(side, bytes)| (side, String::from_utf8(bytes).expect("text")))
                .collect()
        };
        let line = |side, text: &str| (side, text.to_owned());
        assert_eq!(
            sides(transcript.take()),
            [
                line(Side::Client, "a NOOP\r\n"),
                line(Side::Server, "a OK\r\n"),
                line(Side::Client, "b NOOP\r\n"),
                line(Side::Server, "b OK\r\n"),
            ]
        );
        transcript.end(&out);
        transcript.hear_line(b"c NOOP", &out);
        let said = transcript.take();
        assert!(said.ended && said.pieces.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut transcript = Transcript::new(TRANSCRIPT_BYTES_MAX);
        transcript.hear_data(&vec![b'x'; TRANSCRIPT_BYTES_MAX + 5], b"");
        transcript.hear_line(b"a NOOP", b"");
        let said = transcript.take();
        assert_eq!(said.pieces[0].1.len(), TRANSCRIPT_BYTES_MAX);
        assert_eq!(said.left_out, 5 + 8);
        transcript.hear_line(b"a NOOP", b"");
        assert_eq!(transcript.take().pieces.len(), 1);
    }

    #[test]
    fn of_a_login_a_little_is_kept() {
        let mut early = Transcript::before_login().expect("it notes");
        early.hear_line(b"a LOGIN u pw", b"");
        early.hear_data(&vec![b'x'; TRANSCRIPT_BYTES_MAX], b"");
        // Nobody was let in.
        let mut early = Transcript::go_on(Some(early), Noting::Login).expect("it notes");
        assert!(early.held_bytes() <= TRANSCRIPT_LOGIN_BYTES_MAX + size_of::<Transcript>());
        assert!(
            early.take().pieces[0]
                .1
                .starts_with(b"a LOGIN <blanked>\r\n")
        );
        early.hear_line(b"b LOGIN u pw", b"");
        let mut all = Transcript::go_on(Some(early), Noting::Everything).expect("it notes");
        all.hear_data(&vec![b'x'; TRANSCRIPT_LOGIN_BYTES_MAX], b"");
        let said = all.take();
        assert!(said.pieces[0].1.starts_with(b"b LOGIN <blanked>\r\nxx") && said.left_out == 0);
        assert!(Transcript::go_on(Some(all), Noting::Nothing).is_none());
    }
}
