//! Before login, and what a client may do at any time: CAPABILITY, ID, LOGIN, AUTHENTICATE, ENABLE.
//!
//! PROXYAUTH is here, too: after it an administrator has the mailboxes of somebody else. It comes
//! from Netscape's and Sun's servers, which did not announce it either, and tools that copy
//! mailboxes know it.

use std::net::SocketAddr;

use zeroize::Zeroizing;

use super::super::{Answer, Ask, Credentials, LoginError, Pass, Settings, write};
use super::finish::Finish;
use super::{Context, Phase, Turn};
use crate::mail::Address;
use crate::proto::sasl;

/// What is announced, before login and after (RFC 9051 §6.1.1). Each of them works in full.
const CAPABILITIES: &str = "IMAP4rev1 IMAP4rev2 AUTH=PLAIN SASL-IR LITERAL+ ID ENABLE IDLE NAMESPACE \
    UNSELECT UIDPLUS CHILDREN LIST-EXTENDED LIST-STATUS SPECIAL-USE CREATE-SPECIAL-USE STATUS=SIZE \
    CONDSTORE QRESYNC ESEARCH SEARCHRES WITHIN MOVE BINARY MULTIAPPEND CATENATE UTF8=ACCEPT OBJECTID SAVEDATE \
    PREVIEW INPROGRESS PARTIAL REPLACE UNAUTHENTICATE COMPRESS=DEFLATE UIDONLY SORT SORT=DISPLAY ESORT \
    THREAD=ORDEREDSUBJECT THREAD=REFERENCES METADATA LIST-METADATA NOTIFY \
    QUOTA QUOTA=RES-STORAGE QUOTASET ACL RIGHTS=kxte";

/// `capability-data` without its first word.
pub(super) fn write_capabilities(settings: &Settings, out: &mut Vec<u8>) {
    out.extend_from_slice(CAPABILITIES.as_bytes());
    // RFC 7889 §3.
    out.extend_from_slice(b" APPENDLIMIT=");
    write::number(settings.message_bytes_max, out);
}

/// RFC 2971: who the client says it is goes to the log, who we are to the client.
pub(super) fn identify(pairs: &[(String, Option<String>)], peer: SocketAddr, out: &mut Vec<u8>) {
    let said = |name: &str| {
        let mut found = pairs
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name));
        found
            .next()
            .and_then(|(_, value)| value.as_deref())
            .unwrap_or("-")
    };
    tracing::debug!(%peer, name = said("name"), version = said("version"), "client says who it is");
    out.extend_from_slice(b"* ID (\"name\" \"Ringpost\" \"version\" ");
    write::quoted(env!("CARGO_PKG_VERSION"), out);
    out.extend_from_slice(b")\r\n");
}

/// RFC 5161 §3.1: what is not known is passed over.
pub(super) fn enable(names: &[String], context: &mut Context<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* ENABLED");
    for name in names {
        let enabled = &mut context.enabled;
        match name.as_str() {
            "CONDSTORE" => enabled.condstore = true,
            // RFC 7162 §3.2.3: it brings CONDSTORE with it.
            "QRESYNC" => (enabled.condstore, enabled.qresync) = (true, true),
            "UTF8=ACCEPT" => (enabled.utf8, enabled.utf8_accept) = (true, true),
            "UIDONLY" => enabled.uidonly = true,
            "METADATA" => enabled.metadata = true,
            "IMAP4REV2" => (enabled.utf8, enabled.rev2) = (true, true),
            _ => continue,
        }
        out.push(b' ');
        let name = if name == "IMAP4REV2" {
            "IMAP4rev2"
        } else {
            name
        };
        out.extend_from_slice(name.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// LOGIN, AUTHENTICATE or PROXYAUTH that runs.
pub(super) enum Login {
    /// The next line is the response to our empty challenge.
    Challenged,
    /// To be asked.
    Ready(Credentials),
    /// PROXYAUTH: to be asked, for this account.
    ActAs(String, SocketAddr),
    /// The ask is out.
    Asked,
    /// To be asked: the shard has said that it may be.
    Enter(Pass),
    /// The ask is out; whoever was logged in before is not any more.
    Entering,
    /// To be answered.
    Done(Finish),
}

impl Login {
    /// RFC 9051 §6.2.3.
    pub(super) fn with_password(
        user: &[u8],
        password: Zeroizing<Vec<u8>>,
        peer: SocketAddr,
        settings: &Settings,
    ) -> Result<Login, Finish> {
        match std::str::from_utf8(user)
            .ok()
            .and_then(|user| canonical(user, settings))
        {
            Some(user) => Ok(Login::Ready(Credentials {
                user,
                act_as: None,
                password,
                peer,
            })),
            None => Err(wrong_credentials()),
        }
    }

    /// RFC 9051 §6.2.2.
    pub(super) fn begin(
        mechanism: &str,
        initial: Option<Zeroizing<Vec<u8>>>,
        peer: SocketAddr,
        context: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Login, Finish> {
        if mechanism != "PLAIN" {
            return Err(Finish::no("CANNOT", "no such mechanism here: only PLAIN"));
        }
        match initial {
            Some(response) => Ok(Login::take(&response, peer, context.settings)),
            None => {
                out.extend_from_slice(b"+ \r\n");
                Ok(Login::Challenged)
            }
        }
    }

    /// ```text
    /// proxyauth = "PROXYAUTH" SP astring
    /// ```
    pub(super) fn act_as(
        user: &[u8],
        peer: SocketAddr,
        context: &Context<'_>,
    ) -> Result<Login, Finish> {
        if matches!(context.phase, Phase::Selected(_)) {
            return Err(Finish::bad("close the mailbox first"));
        }
        let user = std::str::from_utf8(user).ok();
        match user.and_then(|user| canonical(user, context.settings)) {
            Some(user) => Ok(Login::ActAs(user, peer)),
            None => Err(not_authorized()),
        }
    }

    /// The line behind our challenge.
    pub(super) fn respond(&mut self, line: &[u8], peer: SocketAddr, context: &mut Context<'_>) {
        *self = if line == b"*" {
            Login::Done(Finish::bad("authentication cancelled"))
        } else {
            Login::take(line, peer, context.settings)
        };
    }

    fn take(response: &[u8], peer: SocketAddr, settings: &Settings) -> Login {
        let plain = match sasl::decode_plain(response) {
            Ok(plain) => plain,
            Err(error) => return Login::Done(Finish::bad(error.to_string())),
        };
        let Some(user) = canonical(&plain.authentication_id, settings) else {
            return Login::Done(wrong_credentials());
        };
        let act_as = match plain
            .authorization_id
            .as_deref()
            .map(|name| canonical(name, settings))
        {
            None => None,
            Some(Some(name)) => Some(name).filter(|name| *name != user),
            Some(None) => return Login::Done(wrong_credentials()),
        };
        Login::Ready(Credentials {
            user,
            act_as,
            password: plain.password,
            peer,
        })
    }

    pub(super) fn go(&mut self) -> Turn {
        match std::mem::replace(self, Login::Asked) {
            Login::Challenged => {
                *self = Login::Challenged;
                Turn::Input
            }
            Login::Ready(credentials) => Turn::Ask(Ask::Login(credentials)),
            Login::ActAs(user, peer) => Turn::Ask(Ask::ActAs { user, peer }),
            Login::Enter(pass) => {
                *self = Login::Entering;
                Turn::Ask(Ask::Enter(pass))
            }
            Login::Asked | Login::Entering => Turn::Finish(Finish::confused()),
            Login::Done(finish) => Turn::Finish(finish),
        }
    }

    pub(super) fn answer(&mut self, answer: Answer, context: &mut Context<'_>) {
        if matches!(self, Login::Entering) {
            *context.phase = Phase::NotAuthenticated;
        }
        let finish = match answer {
            Answer::Pass(pass) => {
                *self = Login::Enter(pass);
                return;
            }
            Answer::Login(Ok(())) => {
                *context.phase = Phase::Authenticated;
                let mut code = b"CAPABILITY ".to_vec();
                write_capabilities(context.settings, &mut code);
                Finish::ok_with(code).with_login(false)
            }
            Answer::Login(Err(LoginError::Credentials)) => wrong_credentials(),
            Answer::Login(Err(LoginError::Authorization)) => not_authorized(),
            Answer::Login(Err(LoginError::Temporary(text))) => Finish::no("UNAVAILABLE", text),
            Answer::Login(Err(LoginError::Permanent(text))) => Finish::no("CONTACTADMIN", text),
            _ => Finish::confused(),
        };
        *self = Login::Done(finish);
    }
}

fn wrong_credentials() -> Finish {
    Finish::no("AUTHENTICATIONFAILED", "wrong name or password").with_login(true)
}

/// RFC 5530 §3.
fn not_authorized() -> Finish {
    Finish::no("AUTHORIZATIONFAILED", "may not act for this user").with_login(true)
}

/// `None`: no account can have this name.
pub(super) fn canonical(name: &str, settings: &Settings) -> Option<String> {
    let address = if name.contains('@') {
        Address::parse(name)
    } else {
        Address::parse(&format!("{name}@{}", settings.default_domain))
    };
    Some(address.ok()?.account_key().as_str().to_owned())
}
