//! Whether a password is right, for every protocol with a login: at the owner of the account, from
//! the cache where it has been seen lately, else by a password worker off the shard.
//!
//! Guarantees: an unknown account costs the same as a wrong password; a password that was changed
//! while it was being checked does not let anybody in.
//! Does not know: what a login opens.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use zeroize::Zeroizing;

use super::super::conn::ConnKey;
use super::super::{LocalPartition, Shard};
use super::Asked;
use crate::directory::password::{NOBODY, PasswordError};
use crate::mail::Address;
use crate::proto::sasl::{Credentials, Pass};

/// Who wants to come in.
struct Claim {
    /// Canonical; this shard owns its partition.
    address: Address,
    password: Zeroizing<Vec<u8>>,
    /// For the log.
    peer: SocketAddr,
}

/// Why somebody does not.
pub(super) enum Denial {
    /// Wrong name or password.
    Credentials,
    /// May not act for the other.
    Authorization,
    /// Cannot be decided now.
    Temporary(String),
    /// Will not work later either.
    Permanent(String),
}

/// What lets somebody in, whose password is right or not: as whom they want to act, and from where.
pub(super) type Enter =
    fn(&Rc<Shard>, ConnKey, &Address, (Option<String>, SocketAddr), Result<(), Denial>) -> Asked;

/// Checks the password of a login, and enters with what comes of it: at once, or when it is known.
pub(super) fn begin(
    shard: &Rc<Shard>,
    key: ConnKey,
    (address, credentials): (Address, Credentials),
    enter: Enter,
) -> Asked {
    let (act_as, peer) = (credentials.act_as, credentials.peer);
    let claim = Claim {
        address,
        password: credentials.password,
        peer,
    };
    let address = claim.address.clone();
    let for_later = act_as.clone();
    let result = check(shard, claim, move |shard, address, result| {
        let entered = enter(shard, key, address, (for_later, peer), result);
        if let Asked::Answer(answer) = entered {
            shard.answer(key, answer);
        }
    });
    match result {
        Some(result) => enter(shard, key, &address, (act_as, peer), result),
        None => Asked::Later,
    }
}

/// Checks a password. Returns what is known at once; else `later` is called, in a task.
fn check(
    shard: &Rc<Shard>,
    claim: Claim,
    later: impl FnOnce(&Rc<Shard>, &Address, Result<(), Denial>) + 'static,
) -> Option<Result<(), Denial>> {
    let hash = shard
        .partition(shard.partition_of(&claim.address))
        .and_then(|partition| partition.account(&claim.address))
        .map(|account| account.password_hash);
    if let Some(hash) = &hash {
        let mut cache = shard.auth_cache.borrow_mut();
        if cache.knows(&claim.address, hash, &claim.password, Instant::now()) {
            shard.probe.auth_cache_hits.add(1);
            return Some(Ok(()));
        }
    }
    shard.probe.auth_cache_misses.add(1);
    let (ticket, slot) = shard.mesh.ticket::<Result<bool, PasswordError>>();
    let links = Arc::clone(shard.mesh.links());
    let home = shard.id;
    let done = Box::new(move |outcome| {
        let job = Box::new(move |shard: &Rc<Shard>| shard.mesh.redeem(ticket, outcome));
        links.post(home, job);
    });
    let checked = hash.clone().unwrap_or_else(|| NOBODY.to_owned());
    let password = claim.password.to_vec();
    if shard.verifier.submit(checked, password, done).is_err() {
        shard.mesh.cancel(ticket);
        let text = "too many logins at once, try again later".to_owned();
        return Some(Err(Denial::Temporary(text)));
    }
    let shard = Rc::clone(shard);
    super::super::spawn(async move {
        let outcome = slot.take().await;
        let result = judge(&shard, &claim, outcome, hash);
        later(&shard, &claim.address, result);
    });
    None
}

fn judge(
    shard: &Shard,
    claim: &Claim,
    outcome: Result<bool, PasswordError>,
    hash: Option<String>,
) -> Result<(), Denial> {
    let Claim {
        address,
        password,
        peer,
    } = claim;
    match (outcome, hash) {
        (Ok(true), Some(hash)) if still_valid(shard, address, &hash) => {
            let mut cache = shard.auth_cache.borrow_mut();
            cache.insert(address, &hash, password, Instant::now());
            Ok(())
        }
        (Err(reason), Some(_)) => {
            tracing::error!(account = %address, "stored password cannot be checked: {reason}");
            let text = "this account's password cannot be checked, tell the postmaster".to_owned();
            Err(Denial::Permanent(text))
        }
        _ => {
            shard.probe.login_failures.add(1);
            tracing::info!(user = %address, %peer, "login refused");
            Err(Denial::Credentials)
        }
    }
}

/// The account still has the password that was checked: it may have changed meanwhile.
fn still_valid(shard: &Shard, address: &Address, hash: &str) -> bool {
    shard
        .partition(shard.partition_of(address))
        .and_then(|partition| partition.account(address))
        .is_some_and(|account| account.password_hash == hash)
}

/// What lets an account whose password was right, and which this shard owns, act for another one
/// [N34]. Every attempt is logged.
pub(super) async fn vouch(
    shard: &Rc<Shard>,
    administrator: &Address,
    user: &str,
    peer: SocketAddr,
) -> Result<Pass, Denial> {
    let refuse = |why: &str| {
        shard.probe.login_failures.add(1);
        tracing::info!(%administrator, %user, %peer, "may not act for another: {why}");
        Err(Denial::Authorization)
    };
    let partition = shard.partition(shard.partition_of(administrator));
    if !partition.is_some_and(|partition| partition.is_administrator(administrator)) {
        return refuse("no administrator");
    }
    let Ok(address) = Address::parse(user).map(|address| address.account_key()) else {
        return refuse("no address");
    };
    let wanted = address.clone();
    let exists =
        async move |partition: Rc<LocalPartition>| Ok(partition.account(&wanted).is_some());
    match shard
        .on_partition(shard.partition_of(&address), exists)
        .await
    {
        Ok(true) => {
            tracing::info!(%administrator, %user, %peer, "acts for another");
            Ok(Pass::new(administrator.clone(), address))
        }
        Ok(false) => refuse("no such account"),
        Err(error) => Err(Denial::Temporary(error.to_string())),
    }
}
