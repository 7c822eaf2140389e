//! Commands on accounts. Passwords are hashed here: the server gets hashes only.

use std::io::{Read as _, Write as _};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

use super::cli::{AccountCommand, PasswordArgs, Switch};
use super::import;
use super::office::{Office, run, unexpected};
use super::{Failure, complain, existing, secret, site};
use crate::admin::{AccountEntry, NewAccount, Reply, Request};
use crate::config::{self, Config};
use crate::directory::password::{self, Imported, Scheme};
use crate::mail::Address;

/// Accounts of one request: small enough that progress shows, large enough to share batches.
const BATCH: usize = 500;
/// The same where each costs a slow hash.
const SLOW_BATCH: usize = 100;
/// Accounts that could not be made which are named; the rest is counted.
const FAILURES_SHOWN: usize = 10;
/// Bytes of a password file.
const FILE_BYTES_MAX: u64 = 256 << 20;

pub(super) fn carry_out(command: AccountCommand) -> Result<(), Failure> {
    match command {
        AccountCommand::Add {
            address,
            password,
            quota,
            settings,
        } => {
            let effective = config::load(&settings.0)?;
            let hash = hashed(&password)?;
            let config = effective.config.clone();
            run(effective, async move |mut office| {
                add(&mut office, &config, &address, hash, quota).await
            })
        }
        AccountCommand::Quota {
            address,
            quota,
            settings,
        } => {
            let effective = existing(&settings)?;
            let config = effective.config.clone();
            run(effective, async move |mut office| {
                set_quota(&mut office, &config, &address, quota).await
            })
        }
        AccountCommand::Admin {
            address,
            switch,
            settings,
        } => {
            let effective = existing(&settings)?;
            let config = effective.config.clone();
            let on = switch.map(|switch| switch == Switch::On);
            run(effective, async move |mut office| {
                let address = qualify(&mut office, &config, &address).await?;
                match office.ask(Request::AccountAdmin { address, on }).await? {
                    Reply::Accounts { accounts, .. } => show(&accounts),
                    _ => Err(unexpected()),
                }
            })
        }
        AccountCommand::Telemetry {
            address,
            switch,
            settings,
        } => {
            let effective = existing(&settings)?;
            let config = effective.config.clone();
            let on = switch.map(|switch| switch == Switch::On);
            run(effective, async move |mut office| {
                set_telemetry(&mut office, &config, &address, on).await
            })
        }
        AccountCommand::List { domain, settings } => {
            run(existing(&settings)?, async move |mut office| {
                list(&mut office, domain).await
            })
        }
        AccountCommand::Passwd {
            address,
            password,
            settings,
        } => {
            let effective = existing(&settings)?;
            let hash = hashed(&password)?;
            let config = effective.config.clone();
            run(effective, async move |mut office| {
                let address = qualify(&mut office, &config, &address).await?;
                done(
                    office
                        .ask(Request::AccountPassword { address, hash })
                        .await?,
                )
            })
        }
        AccountCommand::Remove { address, settings } => {
            let effective = existing(&settings)?;
            let config = effective.config.clone();
            run(effective, async move |mut office| {
                let address = qualify(&mut office, &config, &address).await?;
                done(office.ask(Request::AccountRemove { address }).await?)
            })
        }
        AccountCommand::Import {
            file,
            scheme,
            quota,
            settings,
        } => {
            let effective = config::load(&settings.0)?;
            let text = read_file(&file)?;
            let config = effective.config.clone();
            run(effective, async move |mut office| {
                import_accounts(&mut office, &config, &file, &text, (scheme, quota)).await
            })
        }
        AccountCommand::Generate {
            users,
            prefix,
            domain,
            password,
            scheme,
            quota,
            settings,
        } => {
            let effective = config::load(&settings.0)?;
            password::check_password(password.as_bytes())?;
            let plan = Generate {
                users,
                prefix,
                domain: config::parse_domain(&domain)
                    .map_err(|problem| Failure::Usage(format!("--domain: {problem}")))?,
                password,
                scheme,
                quota_bytes: quota,
            };
            run(effective, async move |mut office| {
                generate(&mut office, &plan).await
            })
        }
    }
}

fn hashed(args: &PasswordArgs) -> Result<String, Failure> {
    secret::hash(args.password.as_deref(), args.scheme)
}

fn done(reply: Reply) -> Result<(), Failure> {
    match reply {
        Reply::Done { .. } => Ok(()),
        _ => Err(unexpected()),
    }
}

/// The domain of bare names: `--default-domain`, else the postmaster's.
async fn default_domain(office: &mut Office, config: &Config) -> Result<Option<String>, Failure> {
    if let Some(domain) = &config.default_domain {
        return Ok(Some(domain.clone()));
    }
    match office.ask(Request::PostmasterShow).await? {
        Reply::Postmaster { address } => Ok(address
            .and_then(|a| Address::parse(&a).ok())
            .map(|a| a.domain().to_owned())),
        _ => Err(unexpected()),
    }
}

/// An address, or a bare name with the default domain.
async fn qualify(office: &mut Office, config: &Config, name: &str) -> Result<String, Failure> {
    if name.contains('@') {
        return Ok(name.to_owned());
    }
    match default_domain(office, config).await? {
        Some(domain) => Ok(format!("{name}@{domain}")),
        None => Err(Failure::Failed(format!(
            "{name:?} has no domain; --default-domain gives one"
        ))),
    }
}

pub(super) async fn add(
    office: &mut Office,
    config: &Config,
    name: &str,
    hash: String,
    quota_bytes: u64,
) -> Result<(), Failure> {
    let address = qualify(office, config, name).await?;
    let account = NewAccount {
        address,
        hash,
        quota_bytes,
    };
    let request = Request::AccountAdd {
        accounts: vec![account],
    };
    let Reply::Added { failed, notes } = office.ask(request).await? else {
        return Err(unexpected());
    };
    for note in notes {
        complain(&note);
    }
    match failed.into_iter().next() {
        Some((_, message)) => Err(Failure::Failed(message)),
        None => Ok(()),
    }
}

/// Sets the quota if one is given, and shows the account.
pub(super) async fn set_quota(
    office: &mut Office,
    config: &Config,
    name: &str,
    quota_bytes: Option<u64>,
) -> Result<(), Failure> {
    let request = Request::AccountQuota {
        address: qualify(office, config, name).await?,
        quota_bytes,
    };
    let Reply::Accounts { accounts, .. } = office.ask(request).await? else {
        return Err(unexpected());
    };
    show(&accounts)
}

/// Switches telemetry if that is wanted, and shows where it goes [N35].
pub(super) async fn set_telemetry(
    office: &mut Office,
    config: &Config,
    name: &str,
    on: Option<bool>,
) -> Result<(), Failure> {
    let request = Request::AccountTelemetry {
        address: qualify(office, config, name).await?,
        on,
    };
    let Reply::Telemetry {
        address,
        on,
        folder,
    } = office.ask(request).await?
    else {
        return Err(unexpected());
    };
    let mut out = std::io::stdout().lock();
    let state = if on { "on" } else { "off" };
    writeln!(out, "{address}  telemetry {state}  {folder}")?;
    Ok(())
}

/// A line for each account: address, bytes used, quota, and whether it may act for others.
fn show(accounts: &[AccountEntry]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    for account in accounts {
        write!(out, "{}  used {}", account.address, account.used_bytes)?;
        // None without a quota.
        let percent = account.used_bytes.saturating_mul(100);
        if let Some(percent) = percent.checked_div(account.quota_bytes) {
            let quota = config::show_bytes(account.quota_bytes);
            write!(out, "  quota {quota}  {percent}%")?;
        }
        if account.is_administrator {
            write!(out, "  administrator")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

pub(super) async fn list(office: &mut Office, domain: Option<String>) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let request = Request::AccountList {
            domain: domain.clone(),
            after,
        };
        let Reply::Accounts { accounts, more } = office.ask(request).await? else {
            return Err(unexpected());
        };
        show(&accounts)?;
        after = accounts.last().map(|account| account.address.clone());
        if !more || after.is_none() {
            return Ok(());
        }
    }
}

fn read_file(file: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::Failed(format!("{}: {error}", file.display()));
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
    } else {
        let input = std::fs::File::open(file).map_err(failed)?;
        input.take(FILE_BYTES_MAX).read_to_string(&mut text)
    };
    if read.map_err(failed)? as u64 == FILE_BYTES_MAX {
        return Err(Failure::Failed(format!(
            "{}: at most {} are read at once; split it",
            file.display(),
            config::show_bytes(FILE_BYTES_MAX)
        )));
    }
    Ok(text)
}

pub(super) async fn import_accounts(
    office: &mut Office,
    config: &Config,
    file: &Path,
    text: &str,
    (scheme, quota_bytes): (Scheme, u64),
) -> Result<(), Failure> {
    let default = default_domain(office, config).await?;
    let entries = import::read(file, text, default.as_deref()).map_err(Failure::Failed)?;
    let progress = bar(entries.len());
    let mut outcome = Outcome::default();
    for part in entries.chunks(batch(scheme)) {
        let plain: Vec<&str> = part
            .iter()
            .filter_map(|entry| match &entry.password {
                Imported::Plain(password) => Some(password.as_str()),
                Imported::Hash(_) => None,
            })
            .collect();
        let mut hashes = secret::hash_all(scheme, &plain)?.into_iter();
        let mut accounts = Vec::with_capacity(part.len());
        for entry in part {
            let hash = match &entry.password {
                Imported::Hash(hash) => hash.clone(),
                // As many hashes as there are plain ones, in their order.
                Imported::Plain(_) => hashes.next().ok_or_else(unexpected)?,
            };
            accounts.push(NewAccount {
                address: entry.address.to_string(),
                hash,
                quota_bytes,
            });
        }
        outcome
            .send(office, accounts, |index| {
                format!("{}:{}: ", file.display(), part[index].line)
            })
            .await?;
        progress.inc(part.len() as u64);
    }
    progress.finish_and_clear();
    outcome.report("imported")
}

/// What `account generate` is to make.
pub(super) struct Generate {
    pub(super) users: u32,
    pub(super) prefix: String,
    pub(super) domain: String,
    pub(super) password: String,
    pub(super) scheme: Scheme,
    pub(super) quota_bytes: u64,
}

pub(super) async fn generate(office: &mut Office, plan: &Generate) -> Result<(), Failure> {
    let last = format!("{}{}@{}", plan.prefix, plan.users - 1, plan.domain);
    Address::parse(&last)
        .map_err(|error| Failure::Usage(format!("{last:?} is not an address: {error}")))?;
    if !site::is_served(office, &plan.domain).await? {
        let domain = plan.domain.clone();
        done(office.ask(Request::DomainAdd { domain }).await?)?;
        complain(&format!("{} was not served; it is now", plan.domain));
    }
    let progress = bar(plan.users as usize);
    let mut outcome = Outcome::default();
    let mut next = 0;
    while next < plan.users {
        let end = plan.users.min(next + batch(plan.scheme) as u32);
        let passwords = vec![plan.password.as_str(); (end - next) as usize];
        let hashes = secret::hash_all(plan.scheme, &passwords)?;
        let accounts = (next..end)
            .zip(hashes)
            .map(|(number, hash)| NewAccount {
                address: format!("{}{number}@{}", plan.prefix, plan.domain),
                hash,
                quota_bytes: plan.quota_bytes,
            })
            .collect();
        outcome.send(office, accounts, |_| String::new()).await?;
        progress.inc(u64::from(end - next));
        next = end;
    }
    progress.finish_and_clear();
    if plan.scheme == Scheme::Light {
        complain(
            "the passwords have a light hash, for tests only; --scheme argon2id makes real ones",
        );
    }
    outcome.report("made")
}

/// What has come of many accounts so far.
#[derive(Default)]
struct Outcome {
    good: usize,
    failed: Vec<String>,
    failed_count: usize,
    notes: Vec<String>,
}

impl Outcome {
    /// Sends a request; `place` says where an account of it came from.
    async fn send(
        &mut self,
        office: &mut Office,
        accounts: Vec<NewAccount>,
        place: impl Fn(usize) -> String,
    ) -> Result<(), Failure> {
        let count = accounts.len();
        let reply = office.ask(Request::AccountAdd { accounts }).await;
        let Reply::Added { failed, notes } = reply.map_err(|failure| self.so_far(failure))? else {
            return Err(unexpected());
        };
        self.good += count.saturating_sub(failed.len());
        self.failed_count += failed.len();
        let room = FAILURES_SHOWN.saturating_sub(self.failed.len());
        let shown = failed.into_iter().take(room);
        self.failed
            .extend(shown.map(|(index, message)| place(index) + &message));
        self.notes = notes;
        Ok(())
    }

    /// A failure in the middle, with what was done before it.
    fn so_far(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Failed(message) if self.good > 0 => Failure::Failed(format!(
                "{message}; made before that: {}",
                accounts(self.good)
            )),
            other => other,
        }
    }

    fn report(self, verb: &str) -> Result<(), Failure> {
        for note in &self.notes {
            complain(note);
        }
        writeln!(std::io::stdout(), "{} {verb}", accounts(self.good))?;
        if self.failed_count == 0 {
            return Ok(());
        }
        let mut message = format!("{} could not be made:", accounts(self.failed_count));
        for failed in &self.failed {
            message.push_str("\n  ");
            message.push_str(failed);
        }
        if self.failed_count > self.failed.len() {
            message.push_str("\n  ...");
        }
        Err(Failure::Failed(message))
    }
}

fn accounts(count: usize) -> String {
    format!("{count} account{}", if count == 1 { "" } else { "s" })
}

fn batch(scheme: Scheme) -> usize {
    match scheme {
        Scheme::Light => BATCH,
        Scheme::Argon2id => SLOW_BATCH,
    }
}

/// On stderr, and only where that is a terminal.
fn bar(count: usize) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} accounts, {per_sec}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(count as u64).with_style(style)
}
