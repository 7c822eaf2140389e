//! Does what a [`Request`] asks for, on any [`Backend`].

use super::backend::{AccountQuery, Backend, BackendError};
use super::wire::{AccountEntry, AliasEntry, DomainEntry, NewAccount, Reply, Request};
use crate::config::parse_domain;
use crate::directory::{Site, password};
use crate::limits;
use crate::mail::Address;
use crate::store::{Account, AccountChange};

/// Text in one page of domains or aliases, before JSON adds to it.
const PAGE_BYTES: usize = limits::ADMIN_REPLY_BYTES_MAX / 8;

/// Does it; whatever goes wrong is [`Reply::Error`].
pub async fn execute<B: Backend>(backend: &B, request: Request) -> Reply {
    run(backend, request)
        .await
        .unwrap_or_else(|message| Reply::Error { message })
}

async fn run<B: Backend>(backend: &B, request: Request) -> Result<Reply, String> {
    let site = backend.site();
    match request {
        Request::DomainAdd { domain } => {
            let change = site.add_domain(&domain).map_err(text)?;
            backend.change_site(vec![change]).await.map_err(text)?;
            Ok(Reply::Done {
                notes: postmaster_note(&site),
            })
        }
        Request::DomainRemove { domain } => remove_domain(backend, &site, &domain).await,
        Request::DomainList { after } => Ok(list_domains(&site, after.as_deref())),
        Request::AliasAdd { address, targets } => {
            add_alias(backend, &site, &address, &targets).await
        }
        Request::AliasRemove { address } => {
            let change = site.remove_alias(&parse(&address)?).map_err(text)?;
            backend.change_site(vec![change]).await.map_err(text)?;
            Ok(Reply::done())
        }
        Request::AliasList { domain, after } => {
            list_aliases(&site, domain.as_deref(), after.as_deref())
        }
        Request::CatchAllSet { domain, target } => {
            let target = parse(&target)?;
            let change = site.set_catch_all(&domain, &target).map_err(text)?;
            check_leads_somewhere(backend, &site, &target).await?;
            backend.change_site(vec![change]).await.map_err(text)?;
            Ok(Reply::done())
        }
        Request::CatchAllClear { domain } => {
            let change = site.clear_catch_all(&domain).map_err(text)?;
            backend.change_site(vec![change]).await.map_err(text)?;
            Ok(Reply::done())
        }
        Request::PostmasterSet { address } => {
            let address = parse(&address)?;
            let change = site.set_postmaster(&address).map_err(text)?;
            existing(backend, &address).await?;
            backend.change_site(vec![change]).await.map_err(text)?;
            Ok(Reply::done())
        }
        Request::PostmasterShow => Ok(Reply::Postmaster {
            address: site.postmaster().map(ToString::to_string),
        }),
        Request::AccountAdd { accounts } => add_accounts(backend, &site, accounts).await,
        Request::AccountPassword { address, hash } => {
            password::check_hash(&hash).map_err(text)?;
            let address = parse(&address)?;
            let change = AccountChange {
                password_hash: Some(hash),
                ..AccountChange::default()
            };
            let updated = backend.update_account(&address, change).await;
            updated.map_err(|error| about(&address, error))?;
            Ok(Reply::done())
        }
        Request::AccountQuota {
            address,
            quota_bytes,
        } => set_quota(backend, &parse(&address)?, quota_bytes).await,
        Request::AccountAdmin { address, on } => {
            let address = parse(&address)?;
            if let Some(on) = on {
                let set = backend.set_administrator(&address, on).await;
                set.map_err(|error| about(&address, error))?;
            }
            let account = existing(backend, &address).await?;
            show(backend, account).await
        }
        Request::AccountTelemetry { address, on } => {
            let address = parse(&address)?;
            let done = backend.telemetry(&address, on).await;
            let (on, folder) = done.map_err(|error| about(&address, error))?;
            Ok(Reply::Telemetry {
                address: address.to_string(),
                on,
                folder: folder.display().to_string(),
            })
        }
        Request::AccountRemove { address } => {
            let address = parse(&address)?;
            site.check_removable(&address).map_err(text)?;
            backend
                .remove_account(&address)
                .await
                .map_err(|error| about(&address, error))?;
            Ok(Reply::done())
        }
        Request::AccountList { domain, after } => list_accounts(backend, domain, after).await,
        Request::Expire => {
            let reclaimed = backend.expire_now().await.map_err(text)?;
            Ok(Reply::Reclaimed {
                freed_bytes: reclaimed.freed_bytes,
                returned_bytes: reclaimed.returned_bytes,
            })
        }
        Request::HashDir { address } => {
            let address = parse(&address)?;
            let place = backend.place(&address);
            let exists = backend.account(&address).await.map_err(text)?.is_some();
            Ok(Reply::Place {
                partition: place.partition,
                shard: place.shard.map(|(shard, _)| shard),
                processor: place.shard.map(|(_, processor)| processor),
                path: place.path.display().to_string(),
                exists,
            })
        }
        Request::Status => match backend.status().await.map_err(text)? {
            Some(status) => Ok(Reply::Status(status)),
            None => Err("no server runs on this data folder".to_owned()),
        },
    }
}

async fn remove_domain<B: Backend>(
    backend: &B,
    site: &Site,
    domain: &str,
) -> Result<Reply, String> {
    let change = site.remove_domain(domain).map_err(text)?;
    let domain = parse_domain(domain)?;
    if !site.is_configured(&domain) {
        let query = AccountQuery {
            domain: Some(domain.clone()),
            after: None,
            max: 1,
        };
        if let Some(first) = backend.list_accounts(query).await.map_err(text)?.first() {
            return Err(format!(
                "domain {domain} still has accounts ({} is the first); remove them first",
                first.address
            ));
        }
    }
    backend.change_site(vec![change]).await.map_err(text)?;
    Ok(Reply::done())
}

fn list_domains(site: &Site, after: Option<&str>) -> Reply {
    let catch_alls = site.catch_alls();
    let all = site.domains();
    let behind = all
        .iter()
        .filter(|(domain, _)| after.is_none_or(|after| *domain > after))
        .map(|&(domain, configured)| DomainEntry {
            domain: domain.to_owned(),
            configured,
            catch_all: catch_alls
                .iter()
                .find(|(of, _)| *of == domain)
                .map(|(_, target)| target.to_string()),
        });
    let (domains, more) = page(behind, |entry| {
        entry.domain.len() + entry.catch_all.as_ref().map_or(0, String::len)
    });
    Reply::Domains { domains, more }
}

fn list_aliases(site: &Site, domain: Option<&str>, after: Option<&str>) -> Result<Reply, String> {
    let domain = domain.map(parse_domain).transpose()?;
    let all = site.aliases();
    let behind = all
        .iter()
        .filter(|(address, _)| after.is_none_or(|after| address.as_str() > after))
        .filter(|(address, _)| domain.as_ref().is_none_or(|d| d == address.domain()))
        .map(|(address, targets)| AliasEntry {
            address: address.to_string(),
            targets: targets.iter().map(ToString::to_string).collect(),
        });
    let (aliases, more) = page(behind, |entry| {
        entry.address.len() + entry.targets.iter().map(String::len).sum::<usize>()
    });
    Ok(Reply::Aliases { aliases, more })
}

/// The first entries that fit one reply, at least one; and whether there are more.
fn page<T>(entries: impl Iterator<Item = T>, bytes: impl Fn(&T) -> usize) -> (Vec<T>, bool) {
    let mut list = Vec::new();
    let mut total = 0;
    for entry in entries {
        // What JSON adds to an entry is at most this.
        total += bytes(&entry) + 64;
        if !list.is_empty() && total > PAGE_BYTES {
            return (list, true);
        }
        list.push(entry);
    }
    (list, false)
}

async fn list_accounts<B: Backend>(
    backend: &B,
    domain: Option<String>,
    after: Option<String>,
) -> Result<Reply, String> {
    let query = AccountQuery {
        domain: domain.as_deref().map(parse_domain).transpose()?,
        after: after.as_deref().map(parse).transpose()?,
        max: limits::ADMIN_ACCOUNTS_MAX,
    };
    let accounts = backend.list_accounts(query).await.map_err(text)?;
    // A full page may be the last one; the next is empty then.
    let more = accounts.len() >= limits::ADMIN_ACCOUNTS_MAX;
    Ok(Reply::Accounts { accounts, more })
}

/// Sets the quota where there is one to set, and shows what the account has then. A quota below
/// what is used is fine: the account takes nothing more until it has room again.
async fn set_quota<B: Backend>(
    backend: &B,
    address: &Address,
    quota_bytes: Option<u64>,
) -> Result<Reply, String> {
    let account = match quota_bytes {
        Some(_) => {
            let change = AccountChange {
                quota_bytes,
                ..AccountChange::default()
            };
            let updated = backend.update_account(address, change).await;
            updated.map_err(|error| about(address, error))?
        }
        None => existing(backend, address).await?,
    };
    show(backend, account).await
}

/// An account as it is listed.
async fn show<B: Backend>(backend: &B, account: Account) -> Result<Reply, String> {
    let address = account.address;
    let used_bytes = backend.used_bytes(&address).await.map_err(text)?;
    let is_administrator = backend.is_administrator(&address).await.map_err(text)?;
    Ok(Reply::Accounts {
        accounts: vec![AccountEntry {
            address: address.to_string(),
            quota_bytes: account.quota_bytes,
            used_bytes,
            is_administrator,
        }],
        more: false,
    })
}

async fn add_alias<B: Backend>(
    backend: &B,
    site: &Site,
    address: &str,
    targets: &[String],
) -> Result<Reply, String> {
    let address = parse(address)?;
    if targets.len() > limits::ALIAS_TARGETS_MAX {
        return Err(format!(
            "an alias has at most {} targets",
            limits::ALIAS_TARGETS_MAX
        ));
    }
    let targets: Vec<Address> = targets.iter().map(|t| parse(t)).collect::<Result<_, _>>()?;
    let change = site.set_alias(&address, &targets).map_err(text)?;
    let keeps_own = targets.contains(&address);
    if !keeps_own && backend.account(&address).await.map_err(text)?.is_some() {
        return Err(format!(
            "{address} is an account, whose mail the alias would take away; \
             name {address} among the targets to keep it"
        ));
    }
    for target in &targets {
        if *target == address {
            existing(backend, target).await?;
        } else {
            check_leads_somewhere(backend, site, target).await?;
        }
    }
    backend.change_site(vec![change]).await.map_err(text)?;
    Ok(Reply::done())
}

/// There is an alias or an account of this name.
async fn check_leads_somewhere<B: Backend>(
    backend: &B,
    site: &Site,
    target: &Address,
) -> Result<(), String> {
    if site.alias(target).is_none() && backend.account(target).await.map_err(text)?.is_none() {
        return Err(format!("{target} is neither an account nor an alias"));
    }
    Ok(())
}

async fn add_accounts<B: Backend>(
    backend: &B,
    site: &Site,
    accounts: Vec<NewAccount>,
) -> Result<Reply, String> {
    if accounts.len() > limits::ADMIN_ACCOUNTS_MAX {
        return Err(format!(
            "a request makes at most {} accounts",
            limits::ADMIN_ACCOUNTS_MAX
        ));
    }
    let mut failed = Vec::new();
    let mut good = Vec::with_capacity(accounts.len());
    let mut index_of = Vec::with_capacity(accounts.len());
    for (index, account) in accounts.into_iter().enumerate() {
        match check_account(site, account) {
            Ok(account) => {
                good.push(account);
                index_of.push(index);
            }
            Err(message) => failed.push((index, message)),
        }
    }
    let addresses: Vec<Address> = good.iter().map(|a| a.address.clone()).collect();
    let results = backend.create_accounts(good).await;
    let mut postmaster = None;
    for ((index, address), result) in index_of.into_iter().zip(addresses).zip(results) {
        match result {
            Ok(()) if address.local_part() == "postmaster" => {
                postmaster.get_or_insert(address);
            }
            Ok(()) => {}
            Err(error) => failed.push((index, about(&address, error))),
        }
    }
    failed.sort_unstable();
    let mut notes = Vec::new();
    if site.postmaster().is_none() {
        if let Some(address) = postmaster {
            let change = site.set_postmaster(&address).map_err(text)?;
            backend.change_site(vec![change]).await.map_err(text)?;
            notes.push(format!("{address} is the postmaster"));
        } else {
            notes = postmaster_note(site);
        }
    }
    Ok(Reply::Added { failed, notes })
}

fn check_account(site: &Site, account: NewAccount) -> Result<Account, String> {
    let address = parse(&account.address)?;
    site.check_served(&address).map_err(text)?;
    password::check_hash(&account.hash).map_err(|error| format!("{address}: {error}"))?;
    if site.alias(&address).is_some_and(|t| !t.contains(&address)) {
        return Err(format!(
            "{address} is an alias, which would take the account's mail; remove it first"
        ));
    }
    Ok(Account {
        address,
        password_hash: account.hash,
        quota_bytes: account.quota_bytes,
    })
}

/// Reminds of the one account that must exist [N9].
fn postmaster_note(site: &Site) -> Vec<String> {
    match site.postmaster() {
        Some(_) => Vec::new(),
        None => vec![
            "there is no postmaster yet, and no server starts without one: \
             'ringpost account add postmaster@DOMAIN' makes it"
                .to_owned(),
        ],
    }
}

async fn existing<B: Backend>(backend: &B, address: &Address) -> Result<Account, String> {
    backend
        .account(address)
        .await
        .map_err(text)?
        .ok_or_else(|| about(address, BackendError::Missing))
}

fn about(address: &Address, error: BackendError) -> String {
    match error {
        BackendError::Exists => format!("{address} exists already"),
        BackendError::Missing => format!("there is no account {address}"),
        BackendError::Failed(message) => format!("{address}: {message}"),
    }
}

/// The canonical address of a text.
fn parse(address: &str) -> Result<Address, String> {
    Address::parse(address)
        .map(|a| a.account_key())
        .map_err(|error| format!("{address:?} is not an address: {error}"))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
