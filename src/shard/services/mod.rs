//! Finds the answers to what sessions ask: here floors 2 to 4 meet.
//!
//! An ask is answered at once where it can be, without a task. What needs the disk, another shard
//! or the password workers runs as a task of its own and answers through
//! [`Shard::answer`](super::Shard::answer); it goes on if the connection ends meanwhile.

mod control;
mod deliver;
mod imap;
mod login;
mod maildrop;
mod recipient;
mod retry;
mod web;

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use super::Shard;
use super::conn::ConnKey;
use super::session::{AnyAnswer, AnyAsk, AnySession, Service};
use crate::mail::Address;
use crate::proto::{imap as imap_proto, pop3, smtp};

pub(crate) use deliver::Streams;
pub(crate) use imap::{Desks, watch};
pub(crate) use maildrop::Maildrops;
pub(crate) use recipient::RecipientCache;
pub(crate) use retry::run as run_queue;
pub(crate) use web::health;

/// What became of an ask.
pub(crate) enum Asked {
    /// Answered already.
    Answer(AnyAnswer),
    /// A task will answer.
    Later,
    /// The connection must move to this shard, which then is asked the same.
    Elsewhere(usize, AnyAsk),
}

/// Takes an ask of connection `key`.
pub(crate) fn ask(shard: &Rc<Shard>, key: ConnKey, ask: AnyAsk) -> Asked {
    match ask {
        AnyAsk::Smtp(smtp::Ask::Recipient {
            path,
            declared_bytes,
        }) => recipient::check(shard, key, path, declared_bytes),
        AnyAsk::Smtp(smtp::Ask::Chunk { open, bytes }) => deliver::chunk(shard, key, open, bytes),
        AnyAsk::Smtp(smtp::Ask::Abort) => {
            deliver::abort(shard, key);
            Asked::Answer(AnyAnswer::Smtp(smtp::Answer::Chunk(Ok(()))))
        }
        AnyAsk::Smtp(smtp::Ask::Deliver(transaction)) => deliver::deliver(shard, key, *transaction),
        AnyAsk::Pop3(pop3::Ask::Login(credentials)) => maildrop::login(shard, key, credentials),
        AnyAsk::Pop3(pop3::Ask::Enter(pass)) => maildrop::come_in(shard, key, pass),
        AnyAsk::Pop3(pop3::Ask::Read {
            index,
            offset,
            length,
        }) => maildrop::read(shard, key, index, offset, length),
        AnyAsk::Pop3(pop3::Ask::Expunge { indexes }) => maildrop::expunge(shard, key, &indexes),
        AnyAsk::Imap(ask) => imap::ask(shard, key, ask),
        AnyAsk::Http(ask) => web::get(shard, key, ask),
        AnyAsk::Control(ask) => control::execute(shard, key, ask),
    }
}

/// Gives up what a connection held that has ended: maildrop lock, streams, open mailbox.
pub(crate) fn release(shard: &Rc<Shard>, key: ConnKey) {
    deliver::abort(shard, key);
    shard.maildrops.release(key);
    shard.desks.release(shard, key);
}

/// The account that a connection has logged in as.
pub(crate) fn user_of(shard: &Shard, key: ConnKey) -> Option<Address> {
    let mailboxes = shard.desks.user_of(key);
    mailboxes.or_else(|| shard.maildrops.user_of(key))
}

/// The connections of an account.
pub(crate) fn connections_of(shard: &Shard, address: &Address) -> Vec<ConnKey> {
    let mut keys = shard.desks.keys_of(address);
    keys.extend(shard.maildrops.keys_of(address));
    keys
}

/// The connections of an account that is not there any more, whether or not another one has its
/// address.
pub(crate) fn connections_of_removed(shard: &Shard, address: &Address) -> Vec<ConnKey> {
    let mut keys = shard.desks.keys_of_removed(shard, address);
    keys.extend(shard.maildrops.keys_of_removed(shard, address));
    keys
}

/// A session for a fresh connection; `None` when the peer is gone already.
pub(crate) fn new_session(
    shard: &Rc<Shard>,
    service: Service,
    socket: &OwnedFd,
) -> Option<AnySession> {
    let tcp_peer = || -> Option<std::net::SocketAddr> {
        let address = rustix::net::getpeername(socket.as_fd()).ok()??;
        std::net::SocketAddr::try_from(address).ok()
    };
    let settings = &shard.session_settings;
    Some(match service {
        Service::Smtp => {
            let peer = tcp_peer().map_or(smtp::Peer::Unix, smtp::Peer::Tcp);
            AnySession::Smtp(Box::new(smtp::Session::new(settings.smtp.clone(), peer)))
        }
        Service::Lmtp => {
            let peer = tcp_peer().map_or(smtp::Peer::Unix, smtp::Peer::Tcp);
            AnySession::Smtp(Box::new(smtp::Session::new(settings.lmtp.clone(), peer)))
        }
        Service::Pop3 => AnySession::Pop3(Box::new(pop3::Session::new(
            settings.pop3.borrow().clone(),
            tcp_peer()?,
        ))),
        Service::Imap => AnySession::Imap(Box::new(imap_proto::Wire::new(
            imap_proto::Session::new(settings.imap.borrow().clone(), tcp_peer()?),
        ))),
        Service::Http => AnySession::Http(Box::default()),
        Service::Control => AnySession::Control(Box::default()),
    })
}
