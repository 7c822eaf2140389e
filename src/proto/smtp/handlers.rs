//! What each command does, with its grammar above it.
//!
//! Guarantees: one reply a command; the order that RFC 5321 §4.1.4 asks for.
//! Does not know: lines, message bytes.

use std::io::Write;

use super::command::{
    self, MailParameters, SyntaxError, Verb, parse_bdat, parse_client_name, parse_mail, parse_rcpt,
};
use super::incoming::Incoming;
use super::session::{Next, Phase, Session};
use super::{Ask, Dialect, Transaction, replies};
use crate::mail::{BodyType, EnhancedStatus, Envelope, write_lines};

impl Session {
    /// Carries out one command line.
    pub(super) fn command(&mut self, line: &[u8], out: &mut Vec<u8>) -> Next {
        let (verb, arguments) = command::parse_verb(line);
        match verb {
            Verb::Rcpt => self.rcpt(arguments, out),
            Verb::Mail => self.mail(arguments, out),
            Verb::Data => self.data(arguments, out),
            Verb::Bdat => self.bdat(arguments, out),
            Verb::Ehlo | Verb::Helo | Verb::Lhlo => self.hello(verb, arguments, out),
            Verb::Rset => self.rset(arguments, out),
            Verb::Noop => self.accept(replies::OK, out),
            Verb::Help => self.help(out),
            Verb::Vrfy => self.vrfy(arguments, out),
            Verb::Expn => self.refuse(replies::NOT_IMPLEMENTED, out),
            Verb::Quit => self.quit(arguments, out),
            Verb::Http => {
                out.extend_from_slice(replies::NOT_HTTP);
                Next::Close
            }
            Verb::Unknown => self.refuse(replies::UNKNOWN, out),
        }
    }

    fn refuse_syntax(&mut self, error: SyntaxError, out: &mut Vec<u8>) -> Next {
        error.reply().write(out);
        self.count_error(out)
    }

    /// Gives the transaction up; what the shard must be told of that, if anything.
    fn reset(&mut self) -> Next {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Open(incoming) => incoming.abandon().map_or(Next::Continue, Next::Ask),
            _ => Next::Continue,
        }
    }

    /// RFC 5321 §4.1.1.1, RFC 2033 §4.1. Also a RSET (RFC 5321 §4.1.4).
    ///
    /// ```text
    /// ehlo = "EHLO" SP ( Domain / address-literal ) CRLF
    /// helo = "HELO" SP Domain CRLF
    /// ```
    fn hello(&mut self, verb: Verb, arguments: &[u8], out: &mut Vec<u8>) -> Next {
        match (self.settings.dialect, verb) {
            (Dialect::Lmtp, Verb::Ehlo | Verb::Helo) => {
                return self.refuse(replies::WRONG_DIALECT_LMTP, out);
            }
            (Dialect::Smtp, Verb::Lhlo) => return self.refuse(replies::WRONG_DIALECT_SMTP, out),
            _ => {}
        }
        match parse_client_name(arguments) {
            Ok(name) => self.client_name = Some(name.into()),
            Err(error) => return self.refuse_syntax(error, out),
        }
        self.extended = verb != Verb::Helo;
        if self.extended {
            self.write_extensions(out);
        } else {
            out.extend_from_slice(b"250 ");
            out.extend_from_slice(self.settings.hostname.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        self.accept(b"", out);
        self.reset()
    }

    /// ```text
    /// ehlo-ok-rsp = "250-" Domain [ SP ehlo-greet ] CRLF *( "250-" ehlo-line CRLF )
    ///               "250" SP ehlo-line CRLF
    /// ```
    fn write_extensions(&self, out: &mut Vec<u8>) {
        let settings = &*self.settings;
        write!(
            out,
            "250-{}\r\n250-PIPELINING\r\n250-SIZE {}\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n\
             250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250-BINARYMIME\r\n\
             250-LIMITS MAILMAX={} RCPTMAX={}\r\n250 HELP\r\n",
            settings.hostname,
            settings.message_bytes_max,
            settings.messages_max,
            settings.recipients_max
        )
        .expect("writing to a Vec does not fail");
    }

    /// RFC 5321 §4.1.1.2.
    ///
    /// ```text
    /// mail = "MAIL FROM:" Reverse-path [SP Mail-parameters] CRLF
    /// ```
    fn mail(&mut self, arguments: &[u8], out: &mut Vec<u8>) -> Next {
        let Some(client_name) = &self.client_name else {
            return self.refuse(replies::HELLO_FIRST, out);
        };
        if !matches!(self.phase, Phase::Idle) {
            return self.refuse(replies::MAIL_NESTED, out);
        }
        if self.messages >= self.settings.messages_max {
            out.extend_from_slice(replies::MESSAGES_FULL);
            return Next::Close;
        }
        let (reverse_path, parameters) = match parse_mail(arguments) {
            Ok(parsed) => parsed,
            Err(error) => return self.refuse_syntax(error, out),
        };
        let MailParameters {
            declared_bytes,
            body_type,
            smtputf8,
        } = parameters;
        // As written: a U-label asks for it as well, though we keep its A-label (RFC 6531 §3.3).
        if !smtputf8 && !arguments.is_ascii() {
            return self.refuse(replies::UTF8_NEEDED, out);
        }
        if declared_bytes.unwrap_or(0) > self.settings.message_bytes_max {
            return self.refuse(replies::TOO_LARGE, out);
        }
        let transaction = Transaction {
            envelope: Envelope {
                reverse_path,
                forward_paths: Vec::new(),
                body_type: body_type.unwrap_or_default(),
                smtputf8,
                declared_bytes,
            },
            client_name: String::from(&**client_name),
            peer: self.peer.clone(),
            with_protocol: self.with_protocol(smtputf8),
            body: Vec::new(),
            streamed_bytes: 0,
        };
        self.messages += 1;
        self.phase = Phase::Open(Box::new(Incoming::new(Box::new(transaction))));
        self.accept(replies::SENDER_OK, out)
    }

    /// RFC 3848, RFC 6531 §4.3.
    fn with_protocol(&self, smtputf8: bool) -> &'static str {
        match (self.settings.dialect, self.extended, smtputf8) {
            (Dialect::Lmtp, _, false) => "LMTP",
            (Dialect::Lmtp, _, true) => "UTF8LMTP",
            (Dialect::Smtp, true, true) => "UTF8SMTP",
            (Dialect::Smtp, true, false) => "ESMTP",
            (Dialect::Smtp, false, _) => "SMTP",
        }
    }

    /// RFC 5321 §4.1.1.3.
    ///
    /// ```text
    /// rcpt = "RCPT TO:" ( "<Postmaster@" Domain ">" / "<Postmaster>" / Forward-path )
    ///        [SP Rcpt-parameters] CRLF
    /// ```
    fn rcpt(&mut self, arguments: &[u8], out: &mut Vec<u8>) -> Next {
        let recipients_max = self.settings.recipients_max as usize;
        let Phase::Open(incoming) = &mut self.phase else {
            return self.refuse(replies::MAIL_FIRST, out);
        };
        if incoming.chunking {
            return self.refuse(replies::BDAT_BEGUN, out);
        }
        let path = match parse_rcpt(arguments) {
            Ok(path) => path,
            Err(error) => return self.refuse_syntax(error, out),
        };
        let envelope = &mut incoming.transaction.envelope;
        if !envelope.smtputf8 && !arguments.is_ascii() {
            return self.refuse(replies::UTF8_NEEDED, out);
        }
        if envelope.forward_paths.len() >= recipients_max {
            // RFC 5321 §4.5.3.1.10: no error of the client's.
            return self.accept(replies::RECIPIENTS_FULL, out);
        }
        let declared_bytes = envelope.declared_bytes.unwrap_or(0);
        // Taken out again should the answer be no.
        incoming.add_path(path.clone());
        Next::Ask(Ask::Recipient {
            path,
            declared_bytes,
        })
    }

    /// RFC 5321 §4.1.1.4.
    ///
    /// ```text
    /// data = "DATA" CRLF
    /// ```
    fn data(&mut self, arguments: &[u8], out: &mut Vec<u8>) -> Next {
        if !arguments.is_empty() {
            return self.refuse(replies::NO_ARGUMENTS, out);
        }
        let refusal = match &self.phase {
            Phase::Open(incoming) if incoming.chunking => replies::BDAT_BEGUN,
            Phase::Open(incoming) => {
                let envelope = &incoming.transaction.envelope;
                if envelope.body_type == BodyType::BinaryMime {
                    replies::BINARY_NEEDS_BDAT
                } else if envelope.forward_paths.is_empty() {
                    self.no_recipients()
                } else {
                    b""
                }
            }
            _ => replies::MAIL_FIRST,
        };
        if !refusal.is_empty() {
            return self.refuse(refusal, out);
        }
        if let Phase::Open(incoming) = std::mem::replace(&mut self.phase, Phase::Idle) {
            self.phase = Phase::Data(incoming);
        }
        self.accept(replies::GO_AHEAD, out)
    }

    /// RFC 2033 §4.2 wants 503 of LMTP, RFC 5321 §4.1.1.4 offers 554.
    fn no_recipients(&self) -> &'static [u8] {
        match self.settings.dialect {
            Dialect::Smtp => replies::NO_RECIPIENTS,
            Dialect::Lmtp => replies::RCPT_FIRST,
        }
    }

    /// RFC 3030 §2. A refused chunk is read over before the reply; where its length cannot be
    /// read, nobody knows where the next command starts, and the connection closes.
    ///
    /// ```text
    /// bdat-cmd = "BDAT" SP chunk-size [ SP end-marker ] CR LF
    /// ```
    fn bdat(&mut self, arguments: &[u8], out: &mut Vec<u8>) -> Next {
        let (octets, is_last) = match parse_bdat(arguments) {
            Ok(parsed) => parsed,
            Err(error) => {
                error.reply().write(out);
                return Next::Close;
            }
        };
        let message_bytes_max = self.settings.message_bytes_max;
        self.phase = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Open(incoming) if incoming.transaction.envelope.forward_paths.is_empty() => {
                // The octets are gone, so the transaction is as well (RFC 3030 §2).
                Phase::Skip(octets, self.no_recipients())
            }
            Phase::Open(mut incoming) => {
                incoming.begin_chunk(octets, is_last, message_bytes_max);
                Phase::Chunk(incoming)
            }
            _ => Phase::Skip(octets, replies::MAIL_FIRST),
        };
        Next::Continue
    }

    /// RFC 5321 §4.1.1.5.
    ///
    /// ```text
    /// rset = "RSET" CRLF
    /// ```
    fn rset(&mut self, arguments: &[u8], out: &mut Vec<u8>) -> Next {
        if !arguments.is_empty() {
            return self.refuse(replies::NO_ARGUMENTS, out);
        }
        self.accept(replies::OK, out);
        self.reset()
    }

    /// RFC 5321 §4.1.1.6, §7.3: who has an account here is nobody's business before RCPT.
    ///
    /// ```text
    /// vrfy = "VRFY" SP String CRLF
    /// ```
    fn vrfy(&mut self, arguments: &[u8], out: &mut Vec<u8>) -> Next {
        if arguments.is_empty() {
            return self.refuse(replies::NAME_NEEDED, out);
        }
        self.accept(replies::CANNOT_VERIFY, out)
    }

    /// RFC 5321 §4.1.1.8.
    ///
    /// ```text
    /// help = "HELP" [ SP String ] CRLF
    /// ```
    fn help(&mut self, out: &mut Vec<u8>) -> Next {
        let commands = match self.settings.dialect {
            Dialect::Smtp => "EHLO HELO MAIL RCPT DATA BDAT RSET VRFY NOOP HELP QUIT",
            Dialect::Lmtp => "LHLO MAIL RCPT DATA BDAT RSET VRFY NOOP HELP QUIT",
        };
        let lines = ["Commands known:", commands];
        write_lines(214, Some(EnhancedStatus(2, 0, 0)), &lines, out);
        self.accept(b"", out)
    }

    /// RFC 5321 §4.1.1.10.
    ///
    /// ```text
    /// quit = "QUIT" CRLF
    /// ```
    fn quit(&mut self, arguments: &[u8], out: &mut Vec<u8>) -> Next {
        if !arguments.is_empty() {
            return self.refuse(replies::NO_ARGUMENTS, out);
        }
        out.extend_from_slice(replies::BYE);
        Next::Close
    }
}
