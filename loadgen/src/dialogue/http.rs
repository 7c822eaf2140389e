//! GETs over HTTP/1.1 (RFC 9112), on connections that are kept or not.
//!
//! Guarantees: an answer counts when all of it has come, with the status and the length that are
//! wanted; a body that is shorter or longer than announced is a fault.
//! Does not know: what the pages are; compression, redirects, pipelining.
//! On failure: the connection is closed, and the next request has a new one.

use std::sync::Arc;
use std::time::Instant;

use super::lines::Lines;
use super::secured::Upgrade;
use super::{Dialogue, End, Next, Work, note_fault};
use crate::recorder::{Fault, FaultKey, Recorder, Verb};
use crate::schedule::{Pace, Start};

/// Lines of a header.
const HEADER_LINES_MAX: u32 = 1000;

/// What the run asks for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Path and query.
    pub path: String,
    /// In `Host:`.
    pub host: String,
    /// Further header fields, each with its line end.
    pub fields: String,
    /// Use a connection for more than one request.
    pub keep_alive: bool,
    /// The status that is wanted.
    pub status: u16,
    /// The length of body that is wanted; `None`: any.
    pub body_bytes: Option<u64>,
}

/// What the connections of one thread share.
#[derive(Debug)]
pub struct HttpWork {
    options: Arc<Options>,
    pace: Pace,
    recorder: Recorder,
}

impl HttpWork {
    /// For one thread.
    pub fn new(options: Arc<Options>, pace: Pace, recorder: Recorder) -> HttpWork {
        HttpWork {
            options,
            pace,
            recorder,
        }
    }
}

impl Work for HttpWork {
    fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    fn tick(&mut self, now: Instant) {
        self.pace.tick(now, &mut self.recorder);
        self.recorder.tick(now);
    }

    fn is_cut(&self, _now: Instant) -> bool {
        self.pace.schedule().is_cut()
    }

    fn next_due(&mut self, now: Instant) -> Option<Instant> {
        self.pace.next_due(now)
    }
}

/// Which part of the answer comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Status,
    Header,
    /// So many bytes of the body are still to come.
    Body(u64),
    /// Everything up to the end of the connection.
    BodyToEnd,
    ChunkSize,
    /// So many bytes of the chunk are still to come.
    Chunk(u64),
    ChunkEnd,
    Trailer,
}

/// One connection's conversation.
#[derive(Debug)]
pub struct Http {
    lines: Lines,
    part: Part,
    job: Option<Start>,
    began: Instant,
    status: u16,
    body_bytes: u64,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    header_lines: u32,
    answered: u64,
}

impl Dialogue for Http {
    type Work = HttpWork;

    fn open(work: &mut HttpWork, now: Instant) -> Option<Http> {
        Some(Http {
            lines: Lines::default(),
            part: Part::Status,
            job: Some(work.pace.next(now, &mut work.recorder)?),
            began: now,
            status: 0,
            body_bytes: 0,
            length: None,
            chunked: false,
            close: false,
            header_lines: 0,
            answered: 0,
        })
    }

    fn connected(&mut self, work: &mut HttpWork, now: Instant, out: &mut Vec<u8>) -> Next {
        self.request(work, now, out);
        Next::Wait
    }

    fn received(
        &mut self,
        work: &mut HttpWork,
        mut input: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next {
        loop {
            let over = match self.part {
                Part::Body(0) => true,
                Part::Body(left) | Part::Chunk(left) => {
                    if input.is_empty() {
                        return Next::Wait;
                    }
                    let count = left.min(input.len() as u64);
                    input = &input[count as usize..];
                    self.body_bytes += count;
                    self.part = match (self.part, left - count) {
                        (Part::Chunk(_), 0) => Part::ChunkEnd,
                        (Part::Chunk(_), left) => Part::Chunk(left),
                        (_, left) => Part::Body(left),
                    };
                    self.part == Part::Body(0)
                }
                Part::BodyToEnd => {
                    self.body_bytes += input.len() as u64;
                    return Next::Wait;
                }
                Part::Status | Part::Header | Part::ChunkSize | Part::ChunkEnd | Part::Trailer => {
                    let line = match self.lines.next(&mut input) {
                        Ok(None) => return Next::Wait,
                        Ok(Some(line)) => line.to_vec(),
                        Err(nonsense) => return self.fail(work, Fault::Nonsense, &nonsense.sample),
                    };
                    match self.line(&line) {
                        Ok(over) => over,
                        Err(()) => return self.fail(work, Fault::Nonsense, &line),
                    }
                }
            };
            if over {
                match self.over(work, now, out) {
                    Next::Wait if !input.is_empty() && self.part == Part::Status => {
                        // Nothing was asked for yet when this came.
                        let sample = input.to_vec();
                        return self.fail(work, Fault::Nonsense, &sample);
                    }
                    Next::Wait => {}
                    other => return other,
                }
            }
        }
    }

    fn woken(&mut self, work: &mut HttpWork, now: Instant, out: &mut Vec<u8>) -> Next {
        self.next_request(work, now, out)
    }

    fn ended(mut self, work: &mut HttpWork, end: End<'_>, now: Instant) {
        if self.part == Part::BodyToEnd && matches!(end, End::Fault(Fault::Closed, _)) {
            self.check(work, now);
            return;
        }
        if let End::Fault(fault, text) = end {
            if self.job.is_none() {
                // Between two requests the server may close as it likes (RFC 9112 §9.5).
                return;
            }
            let verb = match fault {
                Fault::Refused | Fault::Unreachable => Verb::Connect,
                _ => Verb::Get,
            };
            note_fault(&mut work.recorder, fault, verb, text);
        }
        if end != End::Cut {
            self.finish(work, false);
        }
    }
}

impl Upgrade for Http {}

impl Http {
    fn request(&mut self, work: &HttpWork, now: Instant, out: &mut Vec<u8>) {
        let options = &work.options;
        let connection = if options.keep_alive {
            ""
        } else {
            "Connection: close\r\n"
        };
        let text = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: loadgen\r\n{connection}{}\r\n",
            options.path, options.host, options.fields
        );
        out.extend_from_slice(text.as_bytes());
        self.part = Part::Status;
        // In an open loop it is timed from when it was due.
        let due = self.job.filter(|job| job.began.is_some());
        self.began = due.map_or(now, |job| job.due);
        self.body_bytes = 0;
        self.length = None;
        self.chunked = false;
        self.header_lines = 0;
    }

    /// Takes a line of what is not body; `true`: the answer is at its end.
    fn line(&mut self, line: &[u8]) -> Result<bool, ()> {
        match self.part {
            Part::Status => {
                let text = std::str::from_utf8(line).map_err(|_| ())?;
                let rest = text.strip_prefix("HTTP/1.").ok_or(())?;
                self.close = rest.starts_with('0');
                let status = rest.split(' ').nth(1).ok_or(())?;
                self.status = status.parse().map_err(|_| ())?;
                self.part = Part::Header;
            }
            Part::Header if line.is_empty() => {
                if (100..200).contains(&self.status) {
                    self.part = Part::Status;
                    return Ok(false);
                }
                let empty = matches!(self.status, 204 | 304);
                self.part = match self.length {
                    _ if empty => Part::Body(0),
                    _ if self.chunked => Part::ChunkSize,
                    Some(length) => Part::Body(length),
                    None => Part::BodyToEnd,
                };
                return Ok(self.part == Part::Body(0));
            }
            Part::Header => {
                self.header_lines += 1;
                let text = String::from_utf8_lossy(line).to_ascii_lowercase();
                let (name, value) = text.split_once(':').ok_or(())?;
                let value = value.trim();
                match name {
                    "content-length" => self.length = Some(value.parse().map_err(|_| ())?),
                    "transfer-encoding" => self.chunked = value.ends_with("chunked"),
                    "connection" => self.close = value == "close",
                    _ => {}
                }
                if self.header_lines > HEADER_LINES_MAX {
                    return Err(());
                }
            }
            Part::ChunkSize => {
                let text = std::str::from_utf8(line).map_err(|_| ())?;
                let size = text.split(';').next().unwrap_or_default().trim();
                let size = u64::from_str_radix(size, 16).map_err(|_| ())?;
                self.part = match size {
                    0 => Part::Trailer,
                    size => Part::Chunk(size),
                };
            }
            Part::ChunkEnd if line.is_empty() => self.part = Part::ChunkSize,
            Part::ChunkEnd => return Err(()),
            Part::Trailer => return Ok(line.is_empty()),
            Part::Body(_) | Part::BodyToEnd | Part::Chunk(_) => {}
        }
        Ok(false)
    }

    fn fail(&mut self, work: &mut HttpWork, fault: Fault, sample: &[u8]) -> Next {
        let key = FaultKey {
            fault,
            verb: Verb::Get,
            code: 0,
        };
        work.recorder.fault(key, sample);
        Next::Fail
    }

    /// The answer is whole; on to the next request.
    fn over(&mut self, work: &mut HttpWork, now: Instant, out: &mut Vec<u8>) -> Next {
        self.check(work, now);
        if self.close || !work.options.keep_alive {
            return Next::Close;
        }
        self.next_request(work, now, out)
    }

    fn next_request(&mut self, work: &mut HttpWork, now: Instant, out: &mut Vec<u8>) -> Next {
        match work.pace.next(now, &mut work.recorder) {
            Some(start) => {
                self.job = Some(start);
                self.request(work, now, out);
                Next::Wait
            }
            None if work.pace.next_due(now).is_some() => {
                self.part = Part::Status;
                Next::Idle
            }
            None => Next::Close,
        }
    }

    /// Looks whether the answer is the one that is wanted.
    fn check(&mut self, work: &mut HttpWork, now: Instant) {
        self.answered += 1;
        let options = work.options.clone();
        let length_fits = options
            .body_bytes
            .is_none_or(|wanted| wanted == self.body_bytes);
        let good = self.status == options.status && length_fits;
        if good {
            work.recorder.time(Verb::Get, self.began, now);
        } else {
            let fault = match self.status {
                500..=599 => Fault::Transient,
                _ => Fault::Permanent,
            };
            let key = FaultKey {
                fault,
                verb: Verb::Get,
                code: self.status,
            };
            let text = format!(
                "status {} with {} bytes, wanted {}{}",
                self.status,
                self.body_bytes,
                options.status,
                options
                    .body_bytes
                    .map_or(String::new(), |bytes| format!(" with {bytes}"))
            );
            work.recorder.fault(key, text.as_bytes());
        }
        self.finish(work, good);
    }

    fn finish(&mut self, work: &mut HttpWork, good: bool) {
        let Some(start) = self.job.take() else {
            return;
        };
        let measured = work.recorder.measures(start.due);
        let counts = work.recorder.counts();
        counts.ended_ever += 1;
        if good {
            counts.done_ever += 1;
            counts.done += u64::from(measured);
            counts.items += if measured { self.body_bytes } else { 0 };
        } else {
            counts.failed += u64::from(measured);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays answers to `count` requests in pieces; returns what was counted and the last `Next`.
    fn play(answer: &[u8], piece: usize, count: u64, wanted: Option<u64>) -> (u64, u64, Next) {
        let (to, from) = crossbeam::channel::unbounded();
        let now = Instant::now();
        let options = Arc::new(Options {
            path: "/x".to_owned(),
            host: "h".to_owned(),
            fields: String::new(),
            keep_alive: true,
            status: 200,
            body_bytes: wanted,
        });
        let schedule = Arc::new(crate::schedule::Schedule::new(Some(count), None));
        let pace = Pace::new(schedule, 0);
        let mut work = HttpWork::new(options, pace, Recorder::new(now, to));
        let mut http = Http::open(&mut work, now).expect("a request");
        let mut out = Vec::new();
        let mut next = http.connected(&mut work, now, &mut out);
        assert!(out.starts_with(b"GET /x HTTP/1.1\r\nHost: h\r\n"));
        assert!(out.ends_with(b"\r\n\r\n"));
        'answers: for _ in 0..count {
            for part in answer.chunks(piece) {
                next = http.received(&mut work, part, now, &mut out);
                if next != Next::Wait {
                    break 'answers;
                }
            }
        }
        http.ended(&mut work, End::Asked, now);
        work.recorder.finish();
        let sum = from.recv().expect("shipped");
        (sum.counts.done, sum.counts.failed, next)
    }

    #[test]
    fn answers_in_any_pieces() {
        let cases: [(&[u8], u64, u64); 6] = [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 2, 0),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0, 2),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\nT: v\r\n\r\n",
                2,
                0,
            ),
            (b"HTTP/1.1 404 No\r\nContent-Length: 3\r\n\r\nabc", 0, 2),
            (
                b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
                2,
                0,
            ),
            (b"HTTP/1.1 204 None\r\n\r\n", 0, 2),
        ];
        for (answer, done, failed) in cases {
            for piece in 1..=answer.len() {
                let text = answer.escape_ascii().to_string();
                assert_eq!(
                    play(answer, piece, 2, Some(3)),
                    (done, failed, Next::Close),
                    "{text} by {piece}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_http_is_told() {
        for answer in [
            &b"220 smtp\r\n"[..],
            b"HTTP/1.1 200 OK\r\nno field\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ] {
            let (done, failed, next) = play(answer, 3, 1, None);
            assert_eq!((done, failed, next), (0, 1, Next::Fail));
        }
    }

    #[test]
    fn the_server_may_close_after_an_answer() {
        let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na";
        assert_eq!(play(answer, 5, 2, None), (1, 0, Next::Close));
    }
}
