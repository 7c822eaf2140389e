//! The site: domains served, aliases, catch-alls, the postmaster; and their entries in the site log.
//!
//! Guarantees: [`Site::load`] and [`Site::entries`] are each other's inverse; an entry that is not
//! understood changes nothing.
//! Does not know: accounts, nor which entries make sense together (see `change`).
//!
//! Entries, all text in UTF-8, one key each:
//!
//! ```text
//! site/domain/DOMAIN        empty
//! site/alias/ADDRESS        one target address a line
//! site/catchall/DOMAIN      the address that gets mail for unknown ones
//! site/postmaster           the postmaster's account
//! site/sharing/ADDRESS      empty: some of this account's mailboxes are open to anyone
//! ```

use rustc_hash::{FxHashMap, FxHashSet};

use super::SiteError;
use crate::config::parse_domain;
use crate::mail::Address;

/// All keys of the site log begin so.
pub const SITE_PREFIX: &[u8] = b"site/";
pub(super) const DOMAIN: &str = "site/domain/";
pub(super) const ALIAS: &str = "site/alias/";
pub(super) const CATCH_ALL: &str = "site/catchall/";
pub(super) const SHARING: &str = "site/sharing/";
pub(super) const POSTMASTER: &str = "site/postmaster";

/// A snapshot of the site. Shards hold it in an `Arc` and swap it for the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Site {
    /// From the site log.
    pub(super) domains: FxHashSet<Box<str>>,
    /// From `--domain`.
    pub(super) domains_configured: FxHashSet<Box<str>>,
    pub(super) aliases: FxHashMap<Address, Box<[Address]>>,
    pub(super) catch_alls: FxHashMap<Box<str>, Address>,
    pub(super) postmaster: Option<Address>,
    pub(super) sharing: FxHashSet<Address>,
}

impl Site {
    /// Builds the site from all entries whose keys begin with [`SITE_PREFIX`].
    ///
    /// # Errors
    /// The first entry that is not understood.
    pub fn load<K, V>(entries: impl IntoIterator<Item = (K, V)>) -> Result<Site, SiteError>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut site = Site::default();
        for (key, value) in entries {
            site.apply(key.as_ref(), Some(value.as_ref()))?;
        }
        Ok(site)
    }

    /// Nothing is in the log: nobody has set this site up yet. `--domain` does not count.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
            && self.aliases.is_empty()
            && self.catch_alls.is_empty()
            && self.postmaster.is_none()
    }

    /// Serves these domains too (`--domain`); they are not entries of the log.
    pub fn with_configured(mut self, domains: &[String]) -> Site {
        self.domains_configured = domains.iter().map(|d| d.as_str().into()).collect();
        self
    }

    /// Applies an entry as it stands in the log.
    ///
    /// # Errors
    /// When it is not understood; the site is as before then.
    pub fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), SiteError> {
        let bad = |problem: &str| SiteError::Entry {
            key: String::from_utf8_lossy(key).into_owned(),
            problem: problem.to_owned(),
        };
        let utf8 = |bytes| std::str::from_utf8(bytes).map_err(|_| bad("not UTF-8"));
        let address = |text: &str| {
            Address::parse(text)
                .map(|a| a.account_key())
                .map_err(|e| bad(&format!("{text:?}: {e}")))
        };
        let domain = |text: &str| parse_domain(text).map_err(|e| bad(&e));
        let key_text = utf8(key)?;
        let value = value.map(utf8).transpose()?;
        if let Some(name) = key_text.strip_prefix(DOMAIN) {
            let name = domain(name)?.into_boxed_str();
            match value {
                Some(_) => self.domains.insert(name),
                None => self.domains.remove(&name),
            };
        } else if let Some(name) = key_text.strip_prefix(ALIAS) {
            let name = address(name)?;
            match value {
                Some(text) => {
                    let targets = text.lines().map(address).collect::<Result<_, _>>()?;
                    self.aliases.insert(name, targets);
                }
                None => {
                    self.aliases.remove(&name);
                }
            }
        } else if let Some(name) = key_text.strip_prefix(CATCH_ALL) {
            let name = domain(name)?.into_boxed_str();
            match value {
                Some(text) => {
                    self.catch_alls.insert(name, address(text)?);
                }
                None => {
                    self.catch_alls.remove(&name);
                }
            }
        } else if let Some(name) = key_text.strip_prefix(SHARING) {
            let name = address(name)?;
            match value {
                Some(_) => self.sharing.insert(name),
                None => self.sharing.remove(&name),
            };
        } else if key_text == POSTMASTER {
            self.postmaster = value.map(address).transpose()?;
        } else {
            return Err(bad("not a kind of entry that this version knows"));
        }
        Ok(())
    }

    /// All entries of the log that make this site.
    pub fn entries(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut list: Vec<(String, String)> = Vec::new();
        list.extend(
            self.domains
                .iter()
                .map(|d| (format!("{DOMAIN}{d}"), String::new())),
        );
        list.extend(
            self.aliases
                .iter()
                .map(|(a, targets)| (format!("{ALIAS}{a}"), lines(targets))),
        );
        list.extend(
            self.catch_alls
                .iter()
                .map(|(d, target)| (format!("{CATCH_ALL}{d}"), target.to_string())),
        );
        list.extend(
            self.postmaster
                .iter()
                .map(|p| (POSTMASTER.to_owned(), p.to_string())),
        );
        let sharing = self.sharing.iter();
        list.extend(sharing.map(|a| (format!("{SHARING}{a}"), String::new())));
        list.sort();
        list.into_iter()
            .map(|(k, v)| (k.into_bytes(), v.into_bytes()))
            .collect()
    }

    /// This domain, in canonical form, is served here.
    pub fn serves(&self, domain: &str) -> bool {
        self.domains.contains(domain) || self.domains_configured.contains(domain)
    }

    /// `--domain` names this domain, in canonical form.
    pub fn is_configured(&self, domain: &str) -> bool {
        self.domains_configured.contains(domain)
    }

    /// All domains served, in order; `true`: from `--domain`.
    pub fn domains(&self) -> Vec<(&str, bool)> {
        let mut list: Vec<(&str, bool)> = self.domains.iter().map(|d| (&**d, false)).collect();
        let configured = self.domains_configured.difference(&self.domains);
        list.extend(configured.map(|d| (&**d, true)));
        list.sort_unstable();
        list
    }

    /// All aliases and their targets, in order.
    pub fn aliases(&self) -> Vec<(&Address, &[Address])> {
        let mut list: Vec<_> = self.aliases.iter().map(|(a, t)| (a, &**t)).collect();
        list.sort_unstable();
        list
    }

    /// What this alias stands for; `None`: there is no such alias.
    pub fn alias(&self, address: &Address) -> Option<&[Address]> {
        self.aliases.get(&address.account_key()).map(|t| &**t)
    }

    /// All catch-alls, in order of their domains.
    pub fn catch_alls(&self) -> Vec<(&str, &Address)> {
        let mut list: Vec<_> = self.catch_alls.iter().map(|(d, a)| (&**d, a)).collect();
        list.sort_unstable();
        list
    }

    /// The postmaster's account.
    pub fn postmaster(&self) -> Option<&Address> {
        self.postmaster.as_ref()
    }

    /// Accounts some of whose mailboxes are open to anyone, in no order.
    pub fn sharing(&self) -> impl Iterator<Item = &Address> {
        self.sharing.iter()
    }

    /// The domain of bare user names: `configured` (`--default-domain`), else the postmaster's.
    pub fn default_domain<'a>(&'a self, configured: Option<&'a str>) -> Option<&'a str> {
        configured.or_else(|| self.postmaster.as_ref().map(Address::domain))
    }

    /// The account that a login name stands for: an address, or a bare name in `default_domain`.
    pub fn login_address(&self, name: &str, default_domain: Option<&str>) -> Option<Address> {
        let address = if name.contains('@') {
            Address::parse(name)
        } else {
            Address::parse(&format!("{name}@{}", self.default_domain(default_domain)?))
        };
        address.ok().map(|a| a.account_key())
    }

    /// The postmaster is named and `exists` says that the account is there; no start otherwise [N9].
    /// That there are not two follows from the log: it has one key for it.
    ///
    /// # Errors
    /// What is missing and how to make it.
    pub fn check_postmaster(
        &self,
        exists: impl FnOnce(&Address) -> bool,
    ) -> Result<&Address, SiteError> {
        let postmaster = self.postmaster.as_ref().ok_or(SiteError::NoPostmaster)?;
        if exists(postmaster) {
            Ok(postmaster)
        } else {
            Err(SiteError::PostmasterMissing(postmaster.clone()))
        }
    }
}

/// The value of an alias' entry.
pub(super) fn lines(addresses: &[Address]) -> String {
    let list: Vec<&str> = addresses.iter().map(Address::as_str).collect();
    list.join("\n")
}
