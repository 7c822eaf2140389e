//! POP3: login at the owner of the account, the maildrop lock, reading, expunging at QUIT.
//!
//! The connection moves to the shard that owns the account *before* the password is looked at:
//! password, cache, lock and mail are all there, and from then on nothing crosses cores. An
//! administrator who acts for somebody else [N34] moves once more, with a pass.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::super::conn::ConnKey;
use super::super::session::{AnyAnswer, AnyAsk};
use super::super::{LocalPartition, Shard};
use super::Asked;
use super::login::{self, Denial};
use crate::mail::Address;
use crate::proto::pop3::{Answer, Ask, Credentials, Entry, LoginError, Maildrop, Pass};
use crate::store::{Uid, UidValidity};

/// The maildrops that sessions of this shard hold (RFC 1939 §4: exclusive).
#[derive(Default)]
pub(crate) struct Maildrops {
    locked: RefCell<FxHashSet<(Address, UidValidity)>>,
    held: RefCell<FxHashMap<ConnKey, Rc<Held>>>,
}

/// What a session has listed, so that an index keeps its meaning.
struct Held {
    address: Address,
    /// Of the account: the UIDs say nothing about another one of this address.
    validity: UidValidity,
    uids: Box<[Uid]>,
}

impl Maildrops {
    /// Another account of the same address has another lock.
    fn lock(&self, address: &Address, validity: UidValidity) -> bool {
        self.locked.borrow_mut().insert((address.clone(), validity))
    }

    fn unlock(&self, address: &Address, validity: UidValidity) {
        self.locked
            .borrow_mut()
            .remove(&(address.clone(), validity));
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

    /// Those of them whose account is not there any more.
    pub(crate) fn keys_of_removed(&self, shard: &Shard, address: &Address) -> Vec<ConnKey> {
        let held = self.held.borrow();
        let own = held
            .iter()
            .filter(|(_, held)| held.address == *address && held.partition(shard).is_err());
        own.map(|(key, _)| *key).collect()
    }

    /// Gives the lock back, if this connection has one.
    pub(crate) fn release(&self, key: ConnKey) {
        if let Some(held) = self.held.borrow_mut().remove(&key) {
            self.unlock(&held.address, held.validity);
        }
    }
}

impl Held {
    /// Where the maildrop is, as long as there is this account.
    fn partition(&self, shard: &Shard) -> Result<Rc<LocalPartition>, &'static str> {
        let partition = shard.partition(shard.partition_of(&self.address));
        let partition = partition.ok_or("shutting down")?;
        if partition.account_validity(&self.address) != Some(self.validity) {
            return Err("the account was removed");
        }
        Ok(partition)
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
    login::begin(shard, key, (address, credentials), enter)
}

/// What a checked password comes to.
fn enter(
    shard: &Rc<Shard>,
    key: ConnKey,
    address: &Address,
    (act_as, peer): (Option<String>, SocketAddr),
    result: Result<(), Denial>,
) -> Asked {
    let user = match (result, act_as) {
        (Ok(()), None) => return Asked::Answer(wrap(open(shard, key, address))),
        (Err(denial), _) => return Asked::Answer(wrap(denied(denial))),
        (Ok(()), Some(user)) => user,
    };
    let shard = Rc::clone(shard);
    let administrator = address.clone();
    super::super::spawn(async move {
        let answer = match login::vouch(&shard, &administrator, &user, peer).await {
            Ok(pass) => Answer::Pass(pass),
            Err(denial) => denied(denial),
        };
        shard.answer(key, wrap(answer));
    });
    Asked::Later
}

fn denied(denial: Denial) -> Answer {
    Answer::Login(Err(match denial {
        Denial::Credentials => LoginError::Credentials,
        Denial::Authorization => LoginError::Authorization,
        Denial::Temporary(text) => LoginError::Temporary(text),
        Denial::Permanent(text) => LoginError::Permanent(text),
    }))
}

/// Lets an administrator in with a pass, at the owner of the maildrop.
pub(super) fn come_in(shard: &Rc<Shard>, key: ConnKey, pass: Pass) -> Asked {
    let owner = shard.owner_of(shard.partition_of(pass.user()));
    if owner != shard.id {
        return Asked::Elsewhere(owner, AnyAsk::Pop3(Ask::Enter(pass)));
    }
    Asked::Answer(wrap(open(shard, key, pass.user())))
}

/// Takes the lock and lists the maildrop.
fn open(shard: &Shard, key: ConnKey, address: &Address) -> Answer {
    let Some(partition) = shard.partition(shard.partition_of(address)) else {
        return Answer::Login(Err(LoginError::Temporary("shutting down".to_owned())));
    };
    let Some(account) = partition.account_validity(address) else {
        // Removed since it was looked at.
        return Answer::Login(Err(LoginError::Credentials));
    };
    if !shard.maildrops.lock(address, account) {
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
                    validity: account,
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
            shard.maildrops.unlock(address, account);
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
    let read = held
        .partition(shard)?
        .read(&held.address, uid, offset, length as usize)
        .await;
    // What was read may be another account's.
    held.partition(shard)?;
    read.map_err(|error| {
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
    let partition = match held.partition(shard) {
        Ok(partition) if !uids.is_empty() => partition,
        found => {
            shard.maildrops.release(key);
            let result = found.map(drop).map_err(str::to_owned);
            return Asked::Answer(wrap(Answer::Expunged(result)));
        }
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
