//! The first start: a domain, a postmaster and two demo accounts, and what to tell the operator.

use std::fmt::Write as _;
use std::path::Path;

use super::backend::{Backend, BackendError};
use crate::config::ListenAddress;
use crate::directory::password::{self, Scheme};
use crate::mail::Address;
use crate::store::{Account, AccountChange};

/// Served when no `--domain` says otherwise; RFC 6761 §6.2 keeps `.test` from ever being real.
const DOMAIN: &str = "demo.test";
const DEMO_NAMES: [&str; 2] = ["alice", "bob"];
/// A syllable of a readable password: 32 × 4 choices, seven bits.
const SOUNDS: (&[u8; 32], &[u8; 4]) = (b"bcdfghjklmnpqrstvwxzBDFGHJKLMNPR", b"aeou");
const PASSWORD_SYLLABLES: usize = 9;

/// What the first start made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstRun {
    /// The domain served.
    pub domain: String,
    /// The postmaster's account; its password is random and nobody knows it.
    pub postmaster: Address,
    /// Accounts to play with.
    pub accounts: Vec<DemoAccount>,
}

/// An account to play with.
#[derive(Clone, PartialEq, Eq)]
pub struct DemoAccount {
    /// Its address.
    pub address: Address,
    /// Random; shown once.
    pub password: String,
}

impl std::fmt::Debug for DemoAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DemoAccount({}, secret)", self.address)
    }
}

impl FirstRun {
    /// Makes domain, postmaster and demo accounts when the site is empty, in the first of `domains`
    /// (`--domain`) or `demo.test`. `None`: there is a site already. What a crash cuts off, the next
    /// start does again: the site stays empty until everything else is there.
    ///
    /// Hashes three passwords, about 60 ms: call it before anything is served.
    ///
    /// # Errors
    /// One sentence.
    pub async fn provision<B: Backend>(
        backend: &B,
        domains: &[String],
    ) -> Result<Option<FirstRun>, String> {
        let site = backend.site();
        if !site.is_empty() {
            return Ok(None);
        }
        let domain = domains.first().map_or(DOMAIN, String::as_str);
        let address = |name: &str| {
            Address::parse(&format!("{name}@{domain}"))
                .map(|a| a.account_key())
                .map_err(|error| format!("{name}@{domain}: {error}"))
        };
        let postmaster = address("postmaster")?;
        create(backend, postmaster.clone(), &random_password()?).await?;
        let mut accounts = Vec::with_capacity(DEMO_NAMES.len());
        for name in DEMO_NAMES {
            let account = DemoAccount {
                address: address(name)?,
                password: random_password()?,
            };
            create(backend, account.address.clone(), &account.password).await?;
            accounts.push(account);
        }
        let text = |error: crate::directory::SiteError| error.to_string();
        let serve = site.add_domain(domain).map_err(text)?;
        let mut next = (*site).clone();
        next.apply(&serve.key, serve.value.as_deref())
            .map_err(text)?;
        let name = next.set_postmaster(&postmaster).map_err(text)?;
        backend
            .change_site(vec![serve, name])
            .await
            .map_err(|error| error.to_string())?;
        Ok(Some(FirstRun {
            domain: domain.to_owned(),
            postmaster,
            accounts,
        }))
    }
}

async fn create<B: Backend>(backend: &B, address: Address, password: &str) -> Result<(), String> {
    let account = Account {
        password_hash: password::hash(Scheme::Argon2id, password.as_bytes())
            .map_err(|error| error.to_string())?,
        address,
        quota_bytes: 0,
    };
    let results = backend.create_accounts(vec![account.clone()]).await;
    let result = match results.into_iter().next() {
        // Left by a first start that was cut off.
        Some(Err(BackendError::Exists)) => {
            let change = AccountChange {
                password_hash: Some(account.password_hash.clone()),
                quota_bytes: Some(account.quota_bytes),
            };
            let updated = backend.update_account(&account.address, change).await;
            updated.map(drop)
        }
        Some(result) => result,
        None => Err(BackendError::Failed("no answer".to_owned())),
    };
    result.map_err(|error| format!("{}: {error}", account.address))
}

/// Readable, typeable, without quoting in a shell; 63 random bits.
fn random_password() -> Result<String, String> {
    let mut bytes = [0; PASSWORD_SYLLABLES * 2];
    getrandom::fill(&mut bytes).map_err(|error| format!("no randomness: {error}"))?;
    let mut password = String::with_capacity(bytes.len() + 2);
    for (index, pair) in bytes.chunks_exact(2).enumerate() {
        if index > 0 && index % 3 == 0 {
            password.push('-');
        }
        password.push(char::from(SOUNDS.0[usize::from(pair[0] % 32)]));
        password.push(char::from(SOUNDS.1[usize::from(pair[1] % 4)]));
    }
    Ok(password)
}

/// A listener that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// `smtp`, `lmtp`, `pop3`, `imap`, `http`.
    pub service: &'static str,
    /// Where, with the port that the kernel chose.
    pub address: ListenAddress,
}

/// What `ringpost serve` prints when it is ready: where it listens, and after the first start the
/// demo accounts (one a line, address and password) and some commands to try.
pub fn ready_text(listeners: &[Listener], data: &Path, first: Option<&FirstRun>) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = writeln!(out, "{text}");
    };
    line(format_args!(
        "Ringpost {} listens:",
        env!("CARGO_PKG_VERSION")
    ));
    for listener in listeners {
        line(format_args!(
            "  {:<5} {}",
            listener.service, listener.address
        ));
    }
    let Some(first) = first else {
        return out;
    };
    line(format_args!(""));
    line(format_args!(
        "A new store in {} serves {}. Demo accounts, shown only now:",
        data.display(),
        first.domain
    ));
    for account in &first.accounts {
        line(format_args!("  {} {}", account.address, account.password));
    }
    let find = |service| {
        listeners
            .iter()
            .filter(|l| l.service == service)
            .find_map(|l| match &l.address {
                ListenAddress::Tcp(address) => Some(reachable(*address)),
                ListenAddress::Unix(_) => None,
            })
    };
    let mut commands = Vec::new();
    if let ([from, to, ..], Some(smtp)) = (&first.accounts[..], find("smtp")) {
        commands.push(format!(
            "printf 'Subject: hello\\n\\nHello, ring.\\n' | curl -sS --crlf smtp://{smtp} \
             --mail-from {} --mail-rcpt {} -T -",
            from.address, to.address
        ));
    }
    if let (Some(reader), Some(pop3)) = (first.accounts.get(1), find("pop3")) {
        commands.push(format!(
            "curl -sS --user '{}:{}' pop3://{pop3}/1",
            reader.address, reader.password
        ));
    }
    if let (Some(reader), Some(imap)) = (first.accounts.get(1), find("imap")) {
        commands.push(format!(
            "curl -sS --user '{}:{}' 'imap://{imap}/INBOX;MAILINDEX=1'",
            reader.address, reader.password
        ));
    }
    if let Some(http) = find("http") {
        commands.push(format!("curl -sS http://{http}/metrics"));
    }
    if !commands.is_empty() {
        line(format_args!(""));
        line(format_args!("Try:"));
        for command in commands {
            line(format_args!("  {command}"));
        }
    }
    out
}

/// An address a client can connect to: the loopback one where all are listened on.
fn reachable(address: std::net::SocketAddr) -> std::net::SocketAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
