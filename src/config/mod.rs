//! Every setting of the server: a flag, a key of the TOML file, a default, a unit, a check.
//!
//! A setting is declared once, in `table`; its flag, its help, its key, its check and its line in
//! `ringpost config show` all come from there. A flag beats the file, the file beats the default.
//!
//! Guarantees: a [`Config`] that [`load`] returns is within every bound the table names.
//! Does not know: what the settings are used for, nor whether an address can be listened on.
//! On failure: one error that names the flag, or the file, line and key, and what is allowed.

mod field;
mod file;
mod load;
mod processors;
mod table;
#[cfg(test)]
mod tests;

pub use field::{parse_bytes, parse_domain, parse_duration, show_bytes, show_duration};
pub use load::{ConfigError, Effective, Origin, flags, flags_named, from_args, load};
pub use processors::{Machine, Processor, ProcessorsError, parse_list, resolve};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How far a write has got before it counts as done [N21].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum SyncLevel {
    /// 0: left to the filesystem.
    None,
    /// 1: `fdatasync`.
    #[default]
    Fdatasync,
    /// 2: `fsync`.
    Fsync,
}

/// The four finer levels of [N21]; each inherits the general one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SyncLevels {
    /// Mailbox changes: expunge, flags, mailbox create and rename.
    pub store: SyncLevel,
    /// Queue envelopes: sender, recipients, attempts.
    pub envelope: SyncLevel,
    /// Message bodies and their appends to mailboxes.
    pub message: SyncLevel,
    /// Accounts, domains, aliases, passwords.
    pub database: SyncLevel,
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// `ADDR:PORT`.
    Tcp(SocketAddr),
    /// A path: a Unix socket.
    Unix(PathBuf),
}

/// `--processors` as given; checked against the machine at start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Processors {
    /// Every processor we may run on, hyper-threading siblings left out.
    #[default]
    All,
    /// These CPU numbers.
    List(Vec<usize>),
    /// The first N of `All`.
    Count(usize),
}

/// The effective settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// `--data`
    pub data: PathBuf,
    /// `--smtp`
    pub smtp: Vec<ListenAddress>,
    /// `--lmtp`
    pub lmtp: Vec<ListenAddress>,
    /// `--pop3`
    pub pop3: Vec<ListenAddress>,
    /// `--imap`
    pub imap: Vec<ListenAddress>,
    /// `--http`
    pub http: Vec<ListenAddress>,
    /// `--domain`: served beside those in the site log.
    pub domain: Vec<String>,
    /// `--default-domain`: a bare user name belongs to it.
    pub default_domain: Option<String>,
    /// `--hostname`: in greetings and trace headers.
    pub hostname: String,
    /// `--processors`
    pub processors: Processors,
    /// `--partitions`: of a store that is made now; 0: the default per processor.
    pub partitions: u16,
    /// `--sync-level`: what the finer four are unless they are set.
    pub sync_level: SyncLevel,
    /// The finer four: `--sync-level-store`, `-envelope`, `-message`, `-database`.
    pub sync: SyncLevels,
    /// `--poll-us`: busy polling before parking.
    pub poll: Duration,
    /// `--drain-seconds`
    pub drain: Duration,
    /// `--delivery-processors`: per shard, 0 = as many as arrive [C1].
    pub delivery_processors: u32,
    /// `--expire-start`: hour of the day, 0 to 23, local time [N23].
    pub expire_start: u8,
    /// `--cleanup-age` [N23].
    pub cleanup_age: Duration,
    /// `--message-bytes-max` [N19].
    pub message_bytes_max: u64,
    /// `--recipients-max` [N15].
    pub recipients_max: u32,
    /// `--messages-max` [N15].
    pub messages_max: u32,
    /// `--refused-recipients-max`: of one SMTP connection; 0: as many as come.
    pub refused_recipients_max: u32,
    /// `--smtp-timeout` [N17].
    pub smtp_timeout: Duration,
    /// `--smtp-data-timeout` [N17].
    pub smtp_data_timeout: Duration,
    /// `--pop3-timeout` [N17].
    pub pop3_timeout: Duration,
    /// `--imap-timeout` [I5, N17].
    pub imap_timeout: Duration,
    /// `--tcp-keepalive` [C5]; zero: the kernel's own.
    pub tcp_keepalive: Duration,
    /// `--allow-short-timeouts`: the three above may be below what the protocols ask for.
    pub allow_short_timeouts: bool,
    /// `--smtp-sessions-max`, over all shards [N18].
    pub smtp_sessions_max: u32,
    /// `--lmtp-sessions-max` [N18].
    pub lmtp_sessions_max: u32,
    /// `--pop3-sessions-max` [N18].
    pub pop3_sessions_max: u32,
    /// `--imap-sessions-max` [N18].
    pub imap_sessions_max: u32,
    /// `--auth-cache-ttl` [N37].
    pub auth_cache_ttl: Duration,
    /// `--auth-cache-size` [N37].
    pub auth_cache_size: usize,
    /// `--memory-max`: bytes that the sessions of one shard and their deliveries may hold.
    pub shard_memory_bytes_max: u64,
    /// `--buffered-writes`: mail goes through the page cache instead of straight to the device.
    pub buffered_writes: bool,
    /// `--reserve`: bytes of disk space kept free [N30].
    pub reserve_bytes: u64,
    /// `--log`: a filter of `tracing`, such as `info` or `info,ringpost::store=debug`.
    pub log: String,
}

impl Default for Config {
    /// What a server without flags and without a file runs with.
    fn default() -> Config {
        load::defaults()
    }
}

impl ListenAddress {
    /// Port 0: the kernel chooses one.
    pub fn is_any_port(&self) -> bool {
        matches!(self, ListenAddress::Tcp(address) if address.port() == 0)
    }
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(f),
            ListenAddress::Unix(path) if path.is_absolute() => path.display().fmt(f),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl std::fmt::Display for SyncLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SyncLevel::None => "0",
            SyncLevel::Fdatasync => "1",
            SyncLevel::Fsync => "2",
        })
    }
}

impl std::fmt::Display for Processors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Processors::All => f.write_str("all"),
            Processors::Count(count) => write!(f, "count:{count}"),
            Processors::List(list) => {
                for (index, number) in list.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{number}")?;
                }
                Ok(())
            }
        }
    }
}
