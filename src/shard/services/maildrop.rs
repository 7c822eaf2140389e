//! POP3: login at the owner of the account, the maildrop lock, reading, expunging at QUIT.
//!
//! The connection moves to the shard that owns the account *before* the password is looked at:
//! password, cache, lock and mail are all there, and from then on nothing crosses cores.

use std::cell::RefCell;
use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::super::Shard;
use super::super::conn::ConnKey;
use super::super::session::{AnyAnswer, AnyAsk};
use super::Asked;
use super::login::{self, Claim, Denial};
use crate::mail::Address;
use crate::proto::pop3::{Answer, Ask, Credentials, Entry, LoginError, Maildrop};
use crate::store::Uid;

/// The maildrops that sessions of this shard hold (RFC 1939 §4: exclusive).
#[derive(Default)]
pub(crate) struct Maildrops {
    locked: RefCell<FxHashSet<Address>>,
    held: RefCell<FxHashMap<ConnKey, Rc<Held>>>,
}

/// What a session has listed, so that an index keeps its meaning.
struct Held {
    address: Address,
    uids: Box<[Uid]>,
}

impl Maildrops {
    fn lock(&self, address: &Address) -> bool {
        self.locked.borrow_mut().insert(address.clone())
    }

    fn hold(&self, key: ConnKey, held: Held) {
        self.held.borrow_mut().insert(key, Rc::new(held));
    }

    fn of(&self, key: ConnKey) -> Option<Rc<Held>> {
        self.held.borrow().get(&key).cloned()
    }

    /// The account that a connection has logged in as.
    pub(crate) fn user_of(&self, key: ConnKey) -> Option<Address> {
        self.of(key).map(|held| held.address.clone())
    }

    /// The connections of an account.
    pub(crate) fn keys_of(&self, address: &Address) -> Vec<ConnKey> {
        let held = self.held.borrow();
        let own = held.iter().filter(|(_, held)| held.address == *address);
        own.map(|(key, _)| *key).collect()
    }

    /// Gives the lock back, if this connection has one.
    pub(crate) fn release(&self, key: ConnKey) {
        if let Some(held) = self.held.borrow_mut().remove(&key) {
            self.locked.borrow_mut().remove(&held.address);
        }
    }
}

fn wrap(answer: Answer) -> AnyAnswer {
    AnyAnswer::Pop3(answer)
}

/// Answers USER and PASS, or AUTH.
pub(super) fn login(shard: &Rc<Shard>, key: ConnKey, credentials: Credentials) -> Asked {
    let Ok(address) = Address::parse(&credentials.user).map(|address| address.account_key()) else {
        return Asked::Answer(wrap(Answer::Login(Err(LoginError::Credentials))));
    };
    if shard.memory_is_short(0) {
        shard.probe.memory_refusals.add(1);
        let text = "too busy, try again later".to_owned();
        return Asked::Answer(wrap(Answer::Login(Err(LoginError::Temporary(text)))));
    }
    let number = shard.partition_of(&address);
    let owner = shard.owner_of(number);
    if owner != shard.id {
        return Asked::Elsewhere(owner, AnyAsk::Pop3(Ask::Login(credentials)));
    }
    let claim = Claim {
        address,
        password: credentials.password,
        peer: credentials.peer,
    };
    let address = claim.address.clone();
    let result = login::check(shard, claim, move |shard, address, result| {
        shard.answer(key, wrap(enter(shard, key, address, result)));
    });
    match result {
        Some(result) => Asked::Answer(wrap(enter(shard, key, &address, result))),
        None => Asked::Later,
    }
}

/// What a checked password comes to.
fn enter(shard: &Shard, key: ConnKey, address: &Address, result: Result<(), Denial>) -> Answer {
    let error = match result {
        Ok(()) => return open(shard, key, address),
        Err(Denial::Credentials) => LoginError::Credentials,
        Err(Denial::Temporary(text)) => LoginError::Temporary(text),
        Err(Denial::Permanent(text)) => LoginError::Permanent(text),
    };
    Answer::Login(Err(error))
}

/// Takes the lock and lists the maildrop.
fn open(shard: &Shard, key: ConnKey, address: &Address) -> Answer {
    let Some(partition) = shard.partition(shard.partition_of(address)) else {
        return Answer::Login(Err(LoginError::Temporary("shutting down".to_owned())));
    };
    if !shard.maildrops.lock(address) {
        return Answer::Login(Err(LoginError::InUse));
    }
    match partition.inbox(address) {
        Ok((validity, messages)) => {
            shard.probe.logins.add(1);
            let uids = messages.iter().map(|message| message.uid).collect();
            let entries = messages
                .iter()
                .map(|message| Entry {
                    uid: message.uid,
                    bytes: message.bytes,
                })
                .collect();
            shard.maildrops.hold(
                key,
                Held {
                    address: address.clone(),
                    uids,
                },
            );
            Answer::Login(Ok(Maildrop {
                validity,
                entries,
                expire_days: None,
            }))
        }
        Err(error) => {
            shard.maildrops.locked.borrow_mut().remove(address);
            Answer::Login(Err(LoginError::Temporary(error.to_string())))
        }
    }
}

/// Reads a piece of a message.
pub(super) fn read(shard: &Rc<Shard>, key: ConnKey, index: u32, offset: u64, length: u32) -> Asked {
    // In the middle of a message there is no way to say so; the session's output has its bound.
    if offset == 0 && shard.memory_is_short(0) {
        shard.probe.memory_refusals.add(1);
        let text = "too busy, try again later".to_owned();
        return Asked::Answer(wrap(Answer::Data(Err(text))));
    }
    let shard = Rc::clone(shard);
    super::super::spawn(async move {
        let result = read_piece(&shard, key, index, offset, length).await;
        shard.answer(key, wrap(Answer::Data(result)));
    });
    Asked::Later
}

async fn read_piece(
    shard: &Shard,
    key: ConnKey,
    index: u32,
    offset: u64,
    length: u32,
) -> Result<Vec<u8>, String> {
    let held = shard.maildrops.of(key).ok_or("no maildrop is open")?;
    let uid = *held.uids.get(index as usize).ok_or("no such message")?;
    let partition = shard
        .partition(shard.partition_of(&held.address))
        .ok_or("shutting down")?;
    partition
        .read(&held.address, uid, offset, length as usize)
        .await
        .map_err(|error| {
            shard.probe.read_errors.add(1);
            tracing::error!(account = %held.address, uid, "message cannot be read: {error}");
            error.to_string()
        })
}

/// QUIT: removes what was marked, durably, then gives the lock back.
pub(super) fn expunge(shard: &Rc<Shard>, key: ConnKey, indexes: &[u32]) -> Asked {
    let Some(held) = shard.maildrops.of(key) else {
        return Asked::Answer(wrap(Answer::Expunged(
            Err("no maildrop is open".to_owned()),
        )));
    };
    let uids: Vec<Uid> = indexes
        .iter()
        .filter_map(|index| held.uids.get(*index as usize).copied())
        .collect();
    let partition = shard.partition(shard.partition_of(&held.address));
    let Some(partition) = partition.filter(|_| !uids.is_empty()) else {
        shard.maildrops.release(key);
        return Asked::Answer(wrap(Answer::Expunged(Ok(()))));
    };
    let shard = Rc::clone(shard);
    super::super::spawn(async move {
        let result = partition
            .expunge(&held.address, &uids, super::super::now_ms())
            .await;
        shard.maildrops.release(key);
        if let Err(error) = &result {
            tracing::error!(account = %held.address, "messages cannot be removed: {error}");
        }
        let result = result.map_err(|error| error.to_string());
        shard.answer(key, wrap(Answer::Expunged(result)));
    });
    Asked::Later
}
