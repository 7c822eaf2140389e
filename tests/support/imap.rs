//! An IMAP client that reads answers by lines, or response by response with their literals.

use super::{Client, Server};

/// A connection; every command has the tag `t`.
pub struct Imap(pub Client);

impl Imap {
    /// Connects and reads the greeting.
    pub fn connect(server: &Server) -> Imap {
        let mut client = Client::silent(server.imap);
        let greeting = client.line();
        assert!(
            greeting.starts_with("* OK [CAPABILITY IMAP4rev1 "),
            "{greeting}"
        );
        Imap(client)
    }

    /// A session of this user of bench.test, whose password is `pw`.
    pub fn login(server: &Server, user: &str) -> Imap {
        let mut imap = Imap::connect(server);
        imap.ok(&format!("LOGIN {user}@bench.test pw"));
        imap
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.send(bytes);
    }

    /// One line without its end; empty: the server has closed.
    pub fn line(&mut self) -> String {
        self.0.line()
    }

    /// Sends a command; the lines of its answer, the tagged one last.
    pub fn say(&mut self, command: &str) -> Vec<String> {
        self.send(format!("t {command}\r\n").as_bytes());
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            let ends = line.starts_with("t ") || line.is_empty();
            lines.push(line);
            if ends {
                return lines;
            }
        }
    }

    /// The same; it must be OK. Returns the untagged lines.
    pub fn ok(&mut self, command: &str) -> Vec<String> {
        let mut lines = self.say(command);
        let tagged = lines.pop().unwrap_or_default();
        assert!(tagged.starts_with("t OK "), "{command}: {lines:?} {tagged}");
        lines
    }

    /// The same; it must be NO with this code.
    pub fn no(&mut self, command: &str, code: &str) {
        let lines = self.say(command);
        let start = format!("t NO [{code}]");
        assert!(lines[0].starts_with(&start), "{command}: {lines:?}");
    }

    /// A response with its literals and the line end.
    fn response(&mut self) -> Vec<u8> {
        let mut response = Vec::new();
        loop {
            response.extend(self.0.raw_line());
            let literal = response.strip_suffix(b"}\r\n").and_then(|front| {
                let open = front.iter().rposition(|byte| *byte == b'{')?;
                std::str::from_utf8(&front[open + 1..]).ok()?.parse().ok()
            });
            let Some(count) = literal else {
                return response;
            };
            response.extend(self.0.bytes(count));
        }
    }

    /// Sends a command, which must be OK; its untagged responses, each with its literals.
    pub fn responses(&mut self, command: &str) -> Vec<Vec<u8>> {
        self.send(format!("t {command}\r\n").as_bytes());
        let mut responses = Vec::new();
        loop {
            let response = self.response();
            if response.starts_with(b"t ") || response.is_empty() {
                let tagged = String::from_utf8_lossy(&response);
                assert!(tagged.starts_with("t OK "), "{command}: {tagged}");
                return responses;
            }
            responses.push(response);
        }
    }

    /// Puts messages into a mailbox by one command, which must be OK.
    pub fn append(&mut self, mailbox: &str, flags: &str, texts: &[impl AsRef<[u8]>]) {
        let mut command = format!("t APPEND {mailbox}").into_bytes();
        for text in texts {
            let text = text.as_ref();
            command.extend(format!(" ({flags}) {{{}+}}\r\n", text.len()).bytes());
            command.extend_from_slice(text);
        }
        command.extend_from_slice(b"\r\n");
        self.send(&command);
        loop {
            let line = self.line();
            if !line.starts_with("* ") {
                assert!(line.starts_with("t OK [APPENDUID "), "{line:?}");
                return;
            }
        }
    }

    /// Waits for what the server says of another one's doing.
    pub fn idle(&mut self) {
        self.send(b"t IDLE\r\n");
        assert_eq!(self.line(), "+ idling");
    }

    /// Ends IDLE.
    pub fn done(&mut self) {
        self.send(b"DONE\r\n");
        assert_eq!(self.line(), "t OK IDLE completed");
    }
}
