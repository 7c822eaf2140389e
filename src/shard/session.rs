//! One type for the sessions of all services, so that a connection need not know which it has.

use std::time::Instant;

use super::probe::AskKind;
use crate::admin;
use crate::proto::transcript::{Noting, Said};
use crate::proto::{Event, Session, Step, http, imap, pop3, smtp};

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Service {
    /// RFC 5321.
    Smtp,
    /// RFC 2033.
    Lmtp,
    /// RFC 1939.
    Pop3,
    /// RFC 9051.
    Imap,
    /// The admin address.
    Http,
    /// The control socket.
    Control,
}

impl Service {
    /// All of them, in the order of [`Service::index`].
    pub(crate) const ALL: [Service; 6] = [
        Service::Smtp,
        Service::Lmtp,
        Service::Pop3,
        Service::Imap,
        Service::Http,
        Service::Control,
    ];

    /// For logs and labels.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Service::Smtp => "smtp",
            Service::Lmtp => "lmtp",
            Service::Pop3 => "pop3",
            Service::Imap => "imap",
            Service::Http => "http",
            Service::Control => "control",
        }
    }

    /// Position in [`Service::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// What a connection is told that cannot be served now.
    pub(crate) fn busy_line(self) -> &'static [u8] {
        match self {
            Service::Smtp | Service::Lmtp => b"421 4.3.2 Too busy, try again later\r\n",
            Service::Pop3 => b"-ERR [SYS/TEMP] Too busy, try again later\r\n",
            Service::Imap => b"* BYE [UNAVAILABLE] Too busy, try again later\r\n",
            Service::Http => {
                b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            }
            Service::Control => b"",
        }
    }
}

/// A session of any service.
pub(crate) enum AnySession {
    /// SMTP and LMTP.
    Smtp(Box<smtp::Session>),
    /// POP3.
    Pop3(Box<pop3::Session>),
    /// IMAP.
    Imap(Box<imap::Wire>),
    /// HTTP.
    Http(Box<http::Session>),
    /// The control socket.
    Control(Box<admin::Session>),
}

/// What a session of any service asks.
#[derive(Debug)]
pub(crate) enum AnyAsk {
    /// SMTP and LMTP.
    Smtp(smtp::Ask),
    /// POP3.
    Pop3(pop3::Ask),
    /// IMAP.
    Imap(imap::Ask),
    /// HTTP.
    Http(http::Ask),
    /// The control socket.
    Control(admin::Request),
}

impl AnyAsk {
    /// For the histograms.
    pub(crate) fn kind(&self) -> AskKind {
        match self {
            AnyAsk::Smtp(smtp::Ask::Recipient { .. }) => AskKind::Rcpt,
            AnyAsk::Smtp(smtp::Ask::Chunk { .. } | smtp::Ask::Abort) => AskKind::Chunk,
            AnyAsk::Smtp(smtp::Ask::Deliver(_)) => AskKind::Message,
            AnyAsk::Pop3(pop3::Ask::Login(_) | pop3::Ask::Enter(_)) => AskKind::Login,
            AnyAsk::Pop3(pop3::Ask::Read { .. }) => AskKind::Read,
            AnyAsk::Pop3(pop3::Ask::Expunge { .. }) => AskKind::Quit,
            AnyAsk::Imap(ask) => imap_kind(ask),
            AnyAsk::Http(_) => AskKind::Http,
            AnyAsk::Control(_) => AskKind::Control,
        }
    }
}

/// What is answered.
#[derive(Debug)]
pub(crate) enum AnyAnswer {
    /// SMTP and LMTP.
    Smtp(smtp::Answer),
    /// POP3.
    Pop3(pop3::Answer),
    /// IMAP.
    Imap(imap::Answer),
    /// HTTP.
    Http(http::Answer),
    /// The control socket.
    Control(admin::Reply),
}

fn imap_kind(ask: &imap::Ask) -> AskKind {
    use imap::Ask;
    match ask {
        Ask::Login(_) | Ask::ActAs { .. } | Ask::Enter(_) | Ask::Leave => AskKind::ImapLogin,
        Ask::Mailboxes
        | Ask::Shared
        | Ask::Mailbox { .. }
        | Ask::DeletedBytes { .. }
        | Ask::Quota(_)
        | Ask::Time => AskKind::ImapList,
        Ask::Manage(_) | Ask::Access(_) | Ask::SetQuota { .. } => AskKind::ImapManage,
        Ask::Open { .. } | Ask::Close => AskKind::ImapSelect,
        Ask::Look { .. } | Ask::Keywords { .. } | Ask::Vanished { .. } | Ask::Happened { .. } => {
            AskKind::ImapNews
        }
        Ask::Annotations { .. } => AskKind::ImapList,
        Ask::Annotate { .. } | Ask::WatchAccount { .. } | Ask::WatchOthers { .. } => {
            AskKind::ImapManage
        }
        Ask::Rows { .. } => AskKind::ImapRows,
        Ask::Summaries { .. } => AskKind::ImapSummary,
        Ask::Pause | Ask::Thread(_) => AskKind::ImapOrder,
        Ask::Read { .. } | Ask::Source { .. } | Ask::ReadSource { .. } => AskKind::ImapRead,
        Ask::Match { .. } => AskKind::ImapSearch,
        Ask::Store(_) => AskKind::ImapStore,
        Ask::Expunge { .. } => AskKind::ImapExpunge,
        Ask::Copy { .. } => AskKind::ImapCopy,
        Ask::Chunk { .. } | Ask::Abort | Ask::Append { .. } => AskKind::ImapAppend,
    }
}

impl AnySession {
    /// Bytes of memory that the session holds.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            AnySession::Smtp(session) => size_of::<smtp::Session>() + session.held_bytes(),
            AnySession::Pop3(session) => size_of::<pop3::Session>() + session.held_bytes(),
            AnySession::Imap(session) => size_of::<imap::Wire>() + session.held_bytes(),
            // A request at most, of an operator.
            AnySession::Http(_) | AnySession::Control(_) => 0,
        }
    }

    /// From now on so much of what is said is noted [N35].
    pub(crate) fn record(&mut self, noting: Noting) {
        match self {
            AnySession::Pop3(session) => session.record(noting),
            AnySession::Imap(session) => session.record(noting),
            // Nobody logs in there.
            AnySession::Smtp(_) | AnySession::Http(_) | AnySession::Control(_) => {}
        }
    }

    /// What was said since the last call; `None`: it is not noted.
    pub(crate) fn take_said(&mut self) -> Option<Said> {
        match self {
            AnySession::Pop3(session) => session.take_said(),
            AnySession::Imap(session) => session.take_said(),
            AnySession::Smtp(_) | AnySession::Http(_) | AnySession::Control(_) => None,
        }
    }

    /// Memory is short: gives up what can be asked for again. `false`: there is nothing.
    pub(crate) fn shed(&mut self) -> bool {
        match self {
            AnySession::Smtp(session) => session.shed_body(),
            AnySession::Imap(session) => session.shed(),
            AnySession::Pop3(_) | AnySession::Http(_) | AnySession::Control(_) => false,
        }
    }
}

fn lift<A>(step: Step<A>, wrap: impl FnOnce(A) -> AnyAsk) -> Step<AnyAsk> {
    match step {
        Step::NeedInput => Step::NeedInput,
        Step::Ask(ask) => Step::Ask(wrap(ask)),
        Step::Drain => Step::Drain,
        Step::Close => Step::Close,
    }
}

impl Session for AnySession {
    type Ask = AnyAsk;
    type Answer = AnyAnswer;

    fn greet(&mut self, now: Instant, out: &mut Vec<u8>) -> Step<AnyAsk> {
        match self {
            AnySession::Smtp(session) => lift(session.greet(now, out), AnyAsk::Smtp),
            AnySession::Pop3(session) => lift(session.greet(now, out), AnyAsk::Pop3),
            AnySession::Imap(session) => lift(session.greet(now, out), AnyAsk::Imap),
            AnySession::Http(session) => lift(session.greet(now, out), AnyAsk::Http),
            AnySession::Control(session) => lift(session.greet(now, out), AnyAsk::Control),
        }
    }

    fn feed(&mut self, input: &[u8], now: Instant, out: &mut Vec<u8>) -> (usize, Step<AnyAsk>) {
        match self {
            AnySession::Smtp(session) => {
                let (used, step) = session.feed(input, now, out);
                (used, lift(step, AnyAsk::Smtp))
            }
            AnySession::Pop3(session) => {
                let (used, step) = session.feed(input, now, out);
                (used, lift(step, AnyAsk::Pop3))
            }
            AnySession::Imap(session) => {
                let (used, step) = session.feed(input, now, out);
                (used, lift(step, AnyAsk::Imap))
            }
            AnySession::Http(session) => {
                let (used, step) = session.feed(input, now, out);
                (used, lift(step, AnyAsk::Http))
            }
            AnySession::Control(session) => {
                let (used, step) = session.feed(input, now, out);
                (used, lift(step, AnyAsk::Control))
            }
        }
    }

    fn answer(&mut self, answer: AnyAnswer, now: Instant, out: &mut Vec<u8>) -> Step<AnyAsk> {
        match (self, answer) {
            (AnySession::Smtp(session), AnyAnswer::Smtp(answer)) => {
                lift(session.answer(answer, now, out), AnyAsk::Smtp)
            }
            (AnySession::Pop3(session), AnyAnswer::Pop3(answer)) => {
                lift(session.answer(answer, now, out), AnyAsk::Pop3)
            }
            (AnySession::Imap(session), AnyAnswer::Imap(answer)) => {
                lift(session.answer(answer, now, out), AnyAsk::Imap)
            }
            (AnySession::Http(session), AnyAnswer::Http(answer)) => {
                lift(session.answer(answer, now, out), AnyAsk::Http)
            }
            (AnySession::Control(session), AnyAnswer::Control(answer)) => {
                lift(session.answer(answer, now, out), AnyAsk::Control)
            }
            _ => unreachable!("an answer goes to the session that asked"),
        }
    }

    fn notify(&mut self, event: Event, now: Instant, out: &mut Vec<u8>) -> Step<AnyAsk> {
        match self {
            AnySession::Smtp(session) => lift(session.notify(event, now, out), AnyAsk::Smtp),
            AnySession::Pop3(session) => lift(session.notify(event, now, out), AnyAsk::Pop3),
            AnySession::Imap(session) => lift(session.notify(event, now, out), AnyAsk::Imap),
            AnySession::Http(session) => lift(session.notify(event, now, out), AnyAsk::Http),
            AnySession::Control(session) => lift(session.notify(event, now, out), AnyAsk::Control),
        }
    }

    fn working(&mut self, now: Instant, out: &mut Vec<u8>) {
        if let AnySession::Imap(session) = self {
            session.working(now, out);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            AnySession::Smtp(session) => session.deadline(),
            AnySession::Pop3(session) => session.deadline(),
            AnySession::Imap(session) => session.deadline(),
            AnySession::Http(session) => session.deadline(),
            AnySession::Control(session) => session.deadline(),
        }
    }
}
