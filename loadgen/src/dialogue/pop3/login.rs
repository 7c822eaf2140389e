//! Logging in: USER and PASS (RFC 1939 §7), APOP, and AUTH (RFC 5034).

use std::time::Instant;

use super::{Await, Next, Pop3, Pop3Work};
use crate::pool::user_name;
use crate::recorder::{Fault, FaultKey, Verb};
use crate::sasl::{self, Mechanism, Sasl};

/// How users prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// USER and PASS.
    User,
    /// APOP; the greeting has to have a timestamp.
    Apop,
    /// AUTH.
    Sasl(Mechanism),
}

/// Bytes of a command with its line end, beyond which the initial response has to wait (RFC 5034
/// §4, RFC 2449 §4).
const COMMAND_BYTES_MAX: usize = 255;

/// The timestamp of a greeting, angle brackets included, if it has one.
pub(super) fn timestamp(greeting: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(greeting).ok()?;
    let (from, until) = (text.find('<')?, text.rfind('>')?);
    text.get(from..=until).map(str::to_owned)
}

impl Pop3 {
    pub(super) fn log_in(&mut self, work: &mut Pop3Work, now: Instant, out: &mut Vec<u8>) -> Next {
        let options = work.options.clone();
        let address = work.pool.get(self.job.mailbox);
        let name = user_name(&options.user_pattern, address);
        let (command, awaiting) = match options.login {
            Login::User => (format!("USER {name}"), Await::User),
            Login::Apop => match &self.timestamp {
                Some(timestamp) => {
                    let digest = sasl::apop_digest(timestamp, &options.password);
                    (format!("APOP {name} {digest}"), Await::Auth)
                }
                None => {
                    let key = FaultKey {
                        fault: Fault::NotOffered,
                        verb: Verb::Auth,
                        code: 0,
                    };
                    let said = b"the greeting has no timestamp, so there is no APOP (RFC 1939)";
                    work.recorder.fault(key, said);
                    self.refused = true;
                    return self.command(b"QUIT", Await::Quit, now, out);
                }
            },
            Login::Sasl(mechanism) => {
                let random = &mut work.random;
                let mut sasl = Sasl::new(mechanism, &name, &options.password, random);
                let mut command = format!("AUTH {}", mechanism.name());
                // Base64 makes 4 characters of 3 bytes.
                let room = (COMMAND_BYTES_MAX - command.len() - 3) / 4 * 3;
                if let Some(initial) = sasl.initial_within(room) {
                    command.push(' ');
                    command.push_str(&sasl::encode(&initial));
                }
                self.sasl = Some(Box::new(sasl));
                (command, Await::Auth)
            }
        };
        self.command(command.as_bytes(), awaiting, now, out)
    }

    /// Takes a challenge: what stands behind the `+`.
    pub(super) fn challenged(
        &mut self,
        work: &mut Pop3Work,
        challenge: &[u8],
        out: &mut Vec<u8>,
    ) -> Next {
        let Some(sasl) = &mut self.sasl else {
            return self.nonsense(work, b"a challenge without AUTH");
        };
        let answer =
            sasl::decode(challenge).and_then(|challenge| sasl.answer(&challenge, &mut work.salted));
        match answer {
            Ok(answer) => {
                out.extend_from_slice(sasl::encode(&answer).as_bytes());
                out.extend_from_slice(b"\r\n");
                Next::Wait
            }
            Err(why) => self.nonsense(work, why.as_bytes()),
        }
    }

    pub(super) fn logged_in(
        &mut self,
        work: &mut Pop3Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next {
        if let Some(Err(why)) = self.sasl.take().map(|sasl| sasl.finish()) {
            return self.nonsense(work, why.as_bytes());
        }
        self.command(b"STAT", Await::Stat, now, out)
    }
}
