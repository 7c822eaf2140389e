//! The fixed replies: as little of SMTP, LMTP and POP3 as a load generator needs.
//!
//! Knows verbs and line ends, and where a message ends. Arguments are not looked at.

use memchr::{memchr, memmem};

/// Bytes of a line that has no end in sight.
const LINE_BYTES_MAX: usize = 4096;
/// Bytes of a message; more ends the connection.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What is spoken.
#[derive(Debug)]
pub enum Protocol {
    Smtp,
    Lmtp,
    Pop3(Maildrop),
}

impl Protocol {
    pub fn name(&self) -> &'static str {
        match self {
            Protocol::Smtp => "SMTP",
            Protocol::Lmtp => "LMTP",
            Protocol::Pop3(_) => "POP3",
        }
    }

    pub fn greeting(&self) -> &'static [u8] {
        match self {
            Protocol::Smtp => b"220 floor.test ESMTP\r\n",
            Protocol::Lmtp => b"220 floor.test LMTP\r\n",
            Protocol::Pop3(_) => b"+OK floor.test\r\n",
        }
    }
}

/// Replies about a maildrop, made once.
#[derive(Debug)]
pub struct Maildrop {
    stat: Vec<u8>,
    list: Vec<u8>,
    uidl: Vec<u8>,
    retr: Vec<u8>,
}

impl Maildrop {
    pub fn new(messages: u32, bytes: usize) -> Maildrop {
        let mut message = b"From: <a@floor.test>\r\nSubject: floor\r\n\r\n".to_vec();
        while message.len() + 82 <= bytes {
            message.extend_from_slice(&[b'x'; 78]);
            message.extend_from_slice(b"\r\n");
        }
        let rest = bytes.saturating_sub(message.len() + 2);
        message.extend(std::iter::repeat_n(b'y', rest));
        message.extend_from_slice(b"\r\n");
        let size = message.len();
        let mut list = format!("+OK {messages} messages\r\n").into_bytes();
        let mut uidl = b"+OK\r\n".to_vec();
        for number in 1..=messages {
            list.extend_from_slice(format!("{number} {size}\r\n").as_bytes());
            uidl.extend_from_slice(format!("{number} floor{number}\r\n").as_bytes());
        }
        list.extend_from_slice(b".\r\n");
        uidl.extend_from_slice(b".\r\n");
        let mut retr = format!("+OK {size} octets\r\n").into_bytes();
        retr.extend_from_slice(&message);
        retr.extend_from_slice(b".\r\n");
        Maildrop {
            stat: format!("+OK {messages} {}\r\n", size * messages as usize).into_bytes(),
            list,
            uidl,
            retr,
        }
    }
}

/// What the connection does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send what there is, and wait for more input.
    NeedInput,
    /// A whole message has been added to the log; so many replies are owed once it is durable.
    Message { replies: u32 },
    /// Send what there is, and close.
    Close,
}

/// One connection's dialogue.
#[derive(Debug, Default)]
pub struct Dialogue {
    /// The start of a line, or of a message, whose end has not come yet.
    partial: Vec<u8>,
    in_message: bool,
    recipients: u32,
    /// `RETR`s answered.
    pub retrieved: u64,
}

impl Dialogue {
    /// Takes `input` in; returns how much of it, all unless the step is a message. Replies go to
    /// `out`, bytes of a message to `log`.
    pub fn feed(
        &mut self,
        protocol: &Protocol,
        input: &[u8],
        out: &mut Vec<u8>,
        log: &mut Vec<u8>,
    ) -> (usize, Step) {
        let mut used = 0;
        while used < input.len() {
            let rest = &input[used..];
            if self.in_message {
                let Some(count) = self.take_message(rest, log) else {
                    let step = if self.partial.len() > MESSAGE_BYTES_MAX {
                        Step::Close
                    } else {
                        Step::NeedInput
                    };
                    return (input.len(), step);
                };
                self.in_message = false;
                let replies = match protocol {
                    Protocol::Lmtp => self.recipients,
                    _ => 1,
                };
                self.recipients = 0;
                return (used + count, Step::Message { replies });
            }
            let Some(end) = memchr(b'\n', rest) else {
                self.partial.extend_from_slice(rest);
                if self.partial.len() > LINE_BYTES_MAX {
                    return (input.len(), Step::Close);
                }
                break;
            };
            used += end + 1;
            let open = if self.partial.is_empty() {
                self.command(protocol, &rest[..=end], out)
            } else {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(&rest[..=end]);
                let open = self.command(protocol, &line, out);
                line.clear();
                self.partial = line;
                open
            };
            if !open {
                return (used, Step::Close);
            }
        }
        (input.len(), Step::NeedInput)
    }

    /// Looks for the end of the message in what came before and `rest`; `Some`: it ends after so
    /// many bytes of `rest`, and went to `log` (its dots as they came, without the last).
    fn take_message(&mut self, rest: &[u8], log: &mut Vec<u8>) -> Option<usize> {
        const END: &[u8] = b"\r\n.\r\n";
        if self.partial.is_empty() {
            if rest.starts_with(&END[2..]) {
                return Some(3);
            }
            if let Some(at) = memmem::find(rest, END) {
                log.extend_from_slice(&rest[..at + 2]);
                return Some(at + END.len());
            }
            self.partial.extend_from_slice(rest);
            return None;
        }
        let before = self.partial.len();
        self.partial.extend_from_slice(rest);
        let from = before.saturating_sub(END.len() - 1);
        let (kept, total) = if self.partial.starts_with(&END[2..]) {
            (0, 3)
        } else {
            let at = from + memmem::find(&self.partial[from..], END)?;
            (at + 2, at + END.len())
        };
        log.extend_from_slice(&self.partial[..kept]);
        self.partial.clear();
        Some(total - before)
    }

    /// Replies to a line; `false` after QUIT.
    fn command(&mut self, protocol: &Protocol, line: &[u8], out: &mut Vec<u8>) -> bool {
        let mut verb = [0; 4];
        let length = line.len().min(4);
        verb[..length].copy_from_slice(&line[..length]);
        verb.make_ascii_uppercase();
        if let Protocol::Pop3(maildrop) = protocol {
            return self.pop3(maildrop, verb, line.contains(&b' '), out);
        }
        let reply: &[u8] = match &verb {
            b"EHLO" | b"LHLO" => {
                b"250-floor.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 67108864\r\n"
            }
            b"RCPT" => {
                self.recipients += 1;
                b"250 2.1.5 OK\r\n"
            }
            b"DATA" => {
                self.in_message = true;
                b"354 go ahead\r\n"
            }
            b"RSET" => {
                self.recipients = 0;
                b"250 2.0.0 OK\r\n"
            }
            b"QUIT" => {
                out.extend_from_slice(b"221 2.0.0 bye\r\n");
                return false;
            }
            _ => b"250 2.0.0 OK\r\n",
        };
        out.extend_from_slice(reply);
        true
    }

    fn pop3(&mut self, maildrop: &Maildrop, verb: [u8; 4], one: bool, out: &mut Vec<u8>) -> bool {
        let reply: &[u8] = match &verb {
            b"CAPA" => b"+OK\r\nUSER\r\nUIDL\r\nPIPELINING\r\n.\r\n",
            b"STAT" => &maildrop.stat,
            b"LIST" if !one => &maildrop.list,
            b"UIDL" if !one => &maildrop.uidl,
            b"RETR" => {
                self.retrieved += 1;
                &maildrop.retr
            }
            b"QUIT" => {
                out.extend_from_slice(b"+OK bye\r\n");
                return false;
            }
            b"STLS" | b"AUTH" | b"APOP" => b"-ERR not here\r\n",
            _ => b"+OK\r\n",
        };
        out.extend_from_slice(reply);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TALK: &[u8] = b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\n\
        Subject: x\r\n\r\nbody\r\n..\r\n.\r\nQUIT\r\n";
    const MESSAGE: &[u8] = b"Subject: x\r\n\r\nbody\r\n..\r\n";

    /// Feeds `input` in pieces of `size`; returns replies, messages and whether it was closed.
    fn talk(protocol: &Protocol, input: &[u8], size: usize) -> (Vec<u8>, Vec<u8>, bool) {
        let mut dialogue = Dialogue::default();
        let (mut out, mut log) = (Vec::new(), Vec::new());
        for mut piece in input.chunks(size) {
            while !piece.is_empty() {
                let (used, step) = dialogue.feed(protocol, piece, &mut out, &mut log);
                piece = &piece[used..];
                match step {
                    Step::NeedInput => assert!(piece.is_empty()),
                    Step::Message { replies } => {
                        out.extend(b"250 kept\r\n".repeat(replies as usize));
                    }
                    Step::Close => return (out, log, true),
                }
            }
        }
        (out, log, false)
    }

    #[test]
    fn pieces_of_every_size_give_the_same_dialogue() {
        let whole = talk(&Protocol::Smtp, TALK, TALK.len());
        assert_eq!(whole.1, MESSAGE);
        assert!(whole.2);
        let replies = String::from_utf8(whole.0.clone()).unwrap();
        assert_eq!(replies.matches("250 kept").count(), 1, "{replies}");
        for size in 1..TALK.len() {
            assert_eq!(talk(&Protocol::Smtp, TALK, size), whole, "pieces of {size}");
        }
    }

    #[test]
    fn lmtp_owes_a_reply_per_recipient() {
        let (out, _, _) = talk(&Protocol::Lmtp, TALK, 7);
        let replies = String::from_utf8(out).unwrap();
        assert_eq!(replies.matches("250 kept").count(), 2, "{replies}");
    }

    #[test]
    fn an_empty_message_ends_at_its_dot() {
        for size in 1..10 {
            let (_, log, closed) = talk(&Protocol::Smtp, b"DATA\r\n.\r\nQUIT\r\n", size);
            assert!(log.is_empty() && closed, "pieces of {size}");
        }
    }

    #[test]
    fn a_maildrop_gives_messages_of_the_size_asked_for() {
        for bytes in [100, 4096, 5000, 50_000] {
            let protocol = Protocol::Pop3(Maildrop::new(2, bytes));
            let (out, _, closed) = talk(&protocol, b"RETR 1\r\nQUIT\r\n", 100);
            let start = format!("+OK {bytes} octets\r\n");
            assert!(out.starts_with(start.as_bytes()) && closed);
            assert_eq!(out.len(), start.len() + bytes + 3 + "+OK bye\r\n".len());
        }
    }

    #[test]
    fn a_line_without_end_closes() {
        assert!(talk(&Protocol::Smtp, &[b'a'; 5000], 100).2);
    }
}
