//! Changes of the site: what is allowed, and the entry it becomes.
//!
//! Guarantees: a [`Change`] that a [`Site`] hands out keeps the site sound when it is applied to that
//! same site: no alias without a served domain, no expansion beyond its bounds, one postmaster.
//! Does not know: accounts. Whoever applies a change checks that what it points to exists.
//! On failure: [`SiteError`] says what is in the way and what to do first.

use super::Site;
use super::site::{ALIAS, CATCH_ALL, DOMAIN, POSTMASTER, SHARING, lines};
use crate::config::parse_domain;
use crate::limits;
use crate::mail::Address;

/// One entry of the site log to put or, without a value, to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Begins with [`SITE_PREFIX`](super::SITE_PREFIX).
    pub key: Vec<u8>,
    /// `None` removes the key.
    pub value: Option<Vec<u8>>,
}

/// Why a change is refused, or an entry of the log is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    /// Not a domain name.
    #[error("{0:?} is not a domain name: {1}")]
    NotADomain(String, String),
    /// Added twice.
    #[error("domain {0} is served already")]
    DomainExists(String),
    /// Nothing to remove.
    #[error("domain {0} is not served")]
    NoSuchDomain(String),
    /// Served because the configuration says so.
    #[error("domain {0} comes from --domain; remove it there")]
    DomainConfigured(String),
    /// Aliases, a catch-all or the postmaster hang on it.
    #[error("domain {0} is in use by {1}; remove or change that first")]
    DomainInUse(String, String),
    /// An alias or target outside.
    #[error("{0} is in no domain that is served here; 'ringpost domain add {1}' adds it")]
    NotServed(Address, String),
    /// Nothing to remove.
    #[error("there is no alias {0}")]
    NoSuchAlias(Address),
    /// An alias for nothing.
    #[error("an alias needs at least one target address")]
    NoTargets,
    /// Expands too far.
    #[error(
        "the alias {0} would expand to more than {max} addresses or through more than {depth} aliases in a row",
        max = limits::ALIAS_TARGETS_MAX,
        depth = limits::ALIAS_DEPTH_MAX
    )]
    TooWide(Address),
    /// Nothing to clear.
    #[error("domain {0} has no catch-all")]
    NoCatchAll(String),
    /// It is the postmaster's.
    #[error(
        "{0} is the postmaster, and there must be one; 'ringpost postmaster ADDRESS' names another first"
    )]
    IsPostmaster(Address),
    /// As many as there may be.
    #[error("at most {max} accounts may share with anyone", max = limits::SHARING_MAX)]
    TooManyShare,
    /// Some entry points to it.
    #[error("{0} is still named by {1}; change that first")]
    AddressInUse(Address, String),
    /// No start without a postmaster [N9].
    #[error(
        "there is no postmaster: exactly one account must be it (RFC 5321 §4.5.1); \
         'ringpost account add postmaster@DOMAIN' makes one, 'ringpost postmaster ADDRESS' names an account that is there"
    )]
    NoPostmaster,
    /// The postmaster's account is gone [N9].
    #[error(
        "the postmaster {0} has no account; 'ringpost account add {0}' makes it, \
         'ringpost postmaster ADDRESS' names another"
    )]
    PostmasterMissing(Address),
    /// An entry of the log that this program does not understand.
    #[error("entry {key:?} of the site log: {problem}")]
    Entry {
        /// Its key.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

impl Site {
    /// Serves a domain.
    ///
    /// # Errors
    /// Not a name; served already.
    pub fn add_domain(&self, domain: &str) -> Result<Change, SiteError> {
        let domain = canonical_domain(domain)?;
        // One from --domain may be added: it stays when the flag goes.
        if self.domains.contains(&*domain) {
            return Err(SiteError::DomainExists(domain));
        }
        Ok(Change::put(format!("{DOMAIN}{domain}"), String::new()))
    }

    /// Stops serving a domain. That no account is left in it is the caller's to check.
    ///
    /// # Errors
    /// Not served; served by `--domain`; named by an alias, a catch-all or the postmaster.
    pub fn remove_domain(&self, domain: &str) -> Result<Change, SiteError> {
        let domain = canonical_domain(domain)?;
        if !self.domains.contains(&*domain) {
            return Err(if self.domains_configured.contains(&*domain) {
                SiteError::DomainConfigured(domain)
            } else {
                SiteError::NoSuchDomain(domain)
            });
        }
        if !self.domains_configured.contains(&*domain) {
            let user = self.names(|a| a.domain() == domain).or_else(|| {
                self.catch_alls
                    .get(&*domain)
                    .map(|_| "its catch-all".to_owned())
            });
            if let Some(user) = user {
                return Err(SiteError::DomainInUse(domain, user));
            }
        }
        Ok(Change::remove(format!("{DOMAIN}{domain}")))
    }

    /// Makes `address` an alias for `targets`, or replaces it. A target is an account or another
    /// alias, spelled exactly (no `+detail`); an alias among its own targets means its own account.
    ///
    /// # Errors
    /// No targets; an address outside the served domains; beyond the bounds of expansion.
    pub fn set_alias(&self, address: &Address, targets: &[Address]) -> Result<Change, SiteError> {
        let address = address.account_key();
        if targets.is_empty() {
            return Err(SiteError::NoTargets);
        }
        let mut list: Vec<Address> = Vec::with_capacity(targets.len());
        for target in targets {
            let target = target.account_key();
            self.check_served(&target)?;
            if !list.contains(&target) {
                list.push(target);
            }
            if list.len() > limits::ALIAS_TARGETS_MAX {
                return Err(SiteError::TooWide(address));
            }
        }
        self.check_served(&address)?;
        let change = Change::put(format!("{ALIAS}{address}"), lines(&list));
        // Others may expand through this one: none of them may get too wide by it.
        let mut next = self.clone();
        next.aliases.insert(address, list.into());
        match next
            .aliases
            .keys()
            .find(|alias| next.expand(alias).is_none())
        {
            Some(alias) => Err(SiteError::TooWide(alias.clone())),
            None => Ok(change),
        }
    }

    /// Removes an alias.
    ///
    /// # Errors
    /// There is none; another alias or a catch-all names it.
    pub fn remove_alias(&self, address: &Address) -> Result<Change, SiteError> {
        let address = address.account_key();
        let Some(targets) = self.aliases.get(&address) else {
            return Err(SiteError::NoSuchAlias(address));
        };
        // With its own account among the targets, the address stays good without the alias.
        if !targets.contains(&address) {
            self.check_unnamed(&address)?;
        }
        Ok(Change::remove(format!("{ALIAS}{address}")))
    }

    /// Gives `target` all mail for addresses of `domain` that are otherwise unknown.
    ///
    /// # Errors
    /// A domain that is not served.
    pub fn set_catch_all(&self, domain: &str, target: &Address) -> Result<Change, SiteError> {
        let domain = canonical_domain(domain)?;
        if !self.serves(&domain) {
            return Err(SiteError::NoSuchDomain(domain));
        }
        let target = target.account_key();
        self.check_served(&target)?;
        Ok(Change::put(
            format!("{CATCH_ALL}{domain}"),
            target.to_string(),
        ))
    }

    /// Removes a catch-all.
    ///
    /// # Errors
    /// There is none.
    pub fn clear_catch_all(&self, domain: &str) -> Result<Change, SiteError> {
        let domain = canonical_domain(domain)?;
        if !self.catch_alls.contains_key(&*domain) {
            return Err(SiteError::NoCatchAll(domain));
        }
        Ok(Change::remove(format!("{CATCH_ALL}{domain}")))
    }

    /// Names the postmaster's account.
    ///
    /// # Errors
    /// It is in no served domain.
    pub fn set_postmaster(&self, address: &Address) -> Result<Change, SiteError> {
        let address = address.account_key();
        self.check_served(&address)?;
        Ok(Change::put(POSTMASTER.to_owned(), address.to_string()))
    }

    /// Notes that some of an account's mailboxes are open to anyone, or none any more; `None`: that is
    /// noted already.
    ///
    /// # Errors
    /// As many as there may be are noted.
    pub fn share(&self, address: &Address, on: bool) -> Result<Option<Change>, SiteError> {
        if self.sharing.contains(address) == on {
            return Ok(None);
        }
        if on && self.sharing.len() >= limits::SHARING_MAX {
            return Err(SiteError::TooManyShare);
        }
        let key = format!("{SHARING}{address}");
        Ok(Some(match on {
            true => Change::put(key, String::new()),
            false => Change::remove(key),
        }))
    }

    /// Nothing here keeps this account from being removed.
    ///
    /// # Errors
    /// It is the postmaster, or an alias or a catch-all names it.
    pub fn check_removable(&self, address: &Address) -> Result<(), SiteError> {
        let address = address.account_key();
        if self.postmaster.as_ref() == Some(&address) {
            return Err(SiteError::IsPostmaster(address));
        }
        self.check_unnamed(&address)
    }

    /// The address is in a domain that is served here.
    ///
    /// # Errors
    /// [`SiteError::NotServed`].
    pub fn check_served(&self, address: &Address) -> Result<(), SiteError> {
        if self.serves(address.domain()) {
            Ok(())
        } else {
            Err(SiteError::NotServed(
                address.clone(),
                address.domain().to_owned(),
            ))
        }
    }

    fn check_unnamed(&self, address: &Address) -> Result<(), SiteError> {
        let named = self
            .aliases
            .iter()
            .find(|(_, targets)| targets.contains(address))
            .map(|(alias, _)| format!("the alias {alias}"))
            .or_else(|| {
                self.catch_alls
                    .iter()
                    .find(|(_, target)| *target == address)
                    .map(|(domain, _)| format!("the catch-all of {domain}"))
            });
        match named {
            Some(by) => Err(SiteError::AddressInUse(address.clone(), by)),
            None => Ok(()),
        }
    }

    /// Some entry with an address that `matches`.
    fn names(&self, matches: impl Fn(&Address) -> bool) -> Option<String> {
        let alias = self
            .aliases
            .iter()
            .find(|(alias, targets)| matches(alias) || targets.iter().any(&matches))
            .map(|(alias, _)| format!("the alias {alias}"));
        let catch_all = || {
            self.catch_alls
                .iter()
                .find(|(_, target)| matches(target))
                .map(|(domain, _)| format!("the catch-all of {domain}"))
        };
        let postmaster = || {
            self.postmaster
                .as_ref()
                .filter(|p| matches(p))
                .map(|p| format!("the postmaster {p}"))
        };
        alias.or_else(catch_all).or_else(postmaster)
    }
}

impl Change {
    fn put(key: String, value: String) -> Change {
        Change {
            key: key.into_bytes(),
            value: Some(value.into_bytes()),
        }
    }

    fn remove(key: String) -> Change {
        Change {
            key: key.into_bytes(),
            value: None,
        }
    }
}

fn canonical_domain(text: &str) -> Result<String, SiteError> {
    parse_domain(text).map_err(|problem| SiteError::NotADomain(text.to_owned(), problem))
}
