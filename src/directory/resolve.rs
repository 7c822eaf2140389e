//! From a recipient to the accounts that may get its mail, in the order to try them.
//!
//! Guarantees: ends after at most `limits::ALIAS_TARGETS_MAX` addresses and
//! `limits::ALIAS_DEPTH_MAX` aliases in a row, whatever the site looks like.
//! Does not know: which accounts exist. The shard asks the partitions, one [`Try`] after the other.

use rustc_hash::FxHashSet;

use super::Site;
use crate::limits;
use crate::mail::{Address, ForwardPath};

/// What a recipient may mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// Its domain is not served: 550 5.7.1.
    NotServed,
    /// An alias of it expands beyond the bounds: 550 5.4.6, and the log says so.
    TooWide,
    /// The first of these of which at least one account exists gets the mail; when none has any,
    /// or there are no tries, the recipient is unknown: 550 5.1.1.
    Tries(Vec<Try>),
}

/// Accounts (canonical) that get the mail together; an account that does not exist is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Try {
    /// At least one, none twice.
    pub accounts: Vec<Address>,
}

impl Site {
    /// What `path` may mean: itself (its alias, or else its account), then the same without
    /// `+detail`, then the postmaster where it is one, then the domain's catch-all.
    pub fn resolve(&self, path: &ForwardPath) -> Resolution {
        let address = match path {
            // RFC 5321 §4.1.1.3: good everywhere, whatever domains are served. Without a postmaster
            // no server runs [N9].
            ForwardPath::Postmaster => {
                return match &self.postmaster {
                    Some(postmaster) => self.tries([Some(postmaster.clone())]),
                    None => Resolution::NotServed,
                };
            }
            ForwardPath::Address(address) => address.account_key(),
        };
        if !self.serves(address.domain()) {
            return Resolution::NotServed;
        }
        let plain = without_detail(&address);
        let is_postmaster = plain.as_ref().unwrap_or(&address).local_part() == "postmaster";
        let postmaster = self.postmaster.clone().filter(|_| is_postmaster);
        let catch_all = self.catch_alls.get(address.domain()).cloned();
        self.tries([Some(address), plain, postmaster, catch_all])
    }

    /// The first address that `path` may mean, if no alias is concerned: where it has an account,
    /// [`Site::resolve`] has nothing better to say.
    pub fn plain(&self, path: &ForwardPath) -> Option<Address> {
        let ForwardPath::Address(address) = path else {
            return None;
        };
        let address = address.account_key();
        let plain = self.serves(address.domain()) && !self.aliases.contains_key(&address);
        plain.then_some(address)
    }

    fn tries<const N: usize>(&self, wanted: [Option<Address>; N]) -> Resolution {
        let mut tries: Vec<Try> = Vec::with_capacity(N);
        for address in wanted.into_iter().flatten() {
            let Some(accounts) = self.expand(&address) else {
                return Resolution::TooWide;
            };
            let next = Try { accounts };
            if !tries.contains(&next) && !next.accounts.is_empty() {
                tries.push(next);
            }
        }
        Resolution::Tries(tries)
    }

    /// The accounts behind an address: itself, or what its alias stands for, which is nothing where
    /// aliases only lead to each other. An alias among its own targets is the account of that name.
    /// `None`: beyond the bounds.
    pub(super) fn expand(&self, address: &Address) -> Option<Vec<Address>> {
        if !self.aliases.contains_key(address) {
            return Some(vec![address.clone()]);
        }
        let mut accounts = Vec::new();
        let mut seen = FxHashSet::default();
        let mut level = vec![address];
        seen.insert(address);
        // Level by level: the depth is bounded without recursion.
        for _ in 0..limits::ALIAS_DEPTH_MAX {
            let mut next = Vec::new();
            for address in level {
                for target in self.aliases.get(address).into_iter().flatten() {
                    let is_account = target == address || !self.aliases.contains_key(target);
                    if is_account && !accounts.contains(target) {
                        accounts.push(target.clone());
                    } else if !is_account && seen.insert(target) {
                        next.push(target);
                    }
                    if accounts.len().max(next.len()) > limits::ALIAS_TARGETS_MAX {
                        return None;
                    }
                }
            }
            if next.is_empty() {
                return Some(accounts);
            }
            level = next;
        }
        None
    }
}

/// `user+detail@domain` as `user@domain`; `None` where there is no detail. A quoted local part is
/// taken as it stands.
fn without_detail(address: &Address) -> Option<Address> {
    let local = address.local_part();
    if local.starts_with('"') {
        return None;
    }
    let (user, _) = local.split_once('+').filter(|(user, _)| !user.is_empty())?;
    Address::parse(&format!("{user}@{}", address.domain())).ok()
}
