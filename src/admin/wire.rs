//! What crosses the control socket: requests and replies, one line of JSON each.

use serde::{Deserialize, Serialize};

use crate::limits;

/// What an operator wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Serve a domain.
    DomainAdd {
        /// Its name.
        domain: String,
    },
    /// Stop serving a domain, which must be empty.
    DomainRemove {
        /// Its name.
        domain: String,
    },
    /// A page of the domains, by name.
    DomainList {
        /// Only what comes behind this one.
        after: Option<String>,
    },
    /// Make or replace an alias.
    AliasAdd {
        /// The alias.
        address: String,
        /// Accounts or aliases.
        targets: Vec<String>,
    },
    /// Remove an alias.
    AliasRemove {
        /// The alias.
        address: String,
    },
    /// A page of the aliases, by address.
    AliasList {
        /// Only of this domain.
        domain: Option<String>,
        /// Only what comes behind this one.
        after: Option<String>,
    },
    /// Give an account or alias all mail for unknown addresses of a domain.
    CatchAllSet {
        /// Of this domain.
        domain: String,
        /// To this account or alias.
        target: String,
    },
    /// Refuse unknown addresses of a domain again.
    CatchAllClear {
        /// Of this domain.
        domain: String,
    },
    /// Name the postmaster.
    PostmasterSet {
        /// An account.
        address: String,
    },
    /// Who is it?
    PostmasterShow,
    /// Make accounts, at most `limits::ADMIN_ACCOUNTS_MAX`.
    AccountAdd {
        /// These.
        accounts: Vec<NewAccount>,
    },
    /// Replace an account's password hash.
    AccountPassword {
        /// The account.
        address: String,
        /// In a form that [`crate::directory::password`] knows.
        hash: String,
    },
    /// Show an account's quota and what it uses of it, or set the quota [N25].
    AccountQuota {
        /// The account.
        address: String,
        /// Bytes; 0: unlimited; `None`: it stays as it is.
        quota_bytes: Option<u64>,
    },
    /// Show whether an account may act for others, or change that [N34].
    AccountAdmin {
        /// The account.
        address: String,
        /// It may; `None`: it stays as it is.
        on: Option<bool>,
    },
    /// Show whether an account's connections are written down, or have it done [N35].
    AccountTelemetry {
        /// The account.
        address: String,
        /// `None`: it stays as it is.
        on: Option<bool>,
    },
    /// Remove an account and all its mail.
    AccountRemove {
        /// The account.
        address: String,
    },
    /// A page of the accounts, by address.
    AccountList {
        /// Only of this domain.
        domain: Option<String>,
        /// Only what comes behind this one.
        after: Option<String>,
    },
    /// Reclaim the space of expunged messages at once [N23].
    Expire,
    /// Where an account lives [N27].
    HashDir {
        /// Its address, whether the account exists or not.
        address: String,
    },
    /// What runs here.
    Status,
}

/// An account to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// `local-part@domain`.
    pub address: String,
    /// In a form that [`crate::directory::password`] knows.
    pub hash: String,
    /// Bytes; 0: unlimited [N25].
    #[serde(default)]
    pub quota_bytes: u64,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// Done and durable.
    Done {
        /// What the operator should know besides, a sentence each.
        notes: Vec<String>,
    },
    /// Nothing was done.
    Error {
        /// Why, in one sentence.
        message: String,
    },
    /// Answers [`Request::DomainList`].
    Domains {
        /// In order.
        domains: Vec<DomainEntry>,
        /// There are more behind the last one.
        more: bool,
    },
    /// Answers [`Request::AliasList`].
    Aliases {
        /// In order.
        aliases: Vec<AliasEntry>,
        /// There are more behind the last one.
        more: bool,
    },
    /// Answers [`Request::AccountList`], and [`Request::AccountQuota`] with one account.
    Accounts {
        /// In order.
        accounts: Vec<AccountEntry>,
        /// There are more behind the last one.
        more: bool,
    },
    /// Answers [`Request::AccountAdd`]: the accounts not named here are made and durable.
    Added {
        /// Index into the request's list, and why it was not made.
        failed: Vec<(usize, String)>,
        /// What the operator should know besides, a sentence each.
        notes: Vec<String>,
    },
    /// Answers [`Request::AccountTelemetry`].
    Telemetry {
        /// The account, canonical.
        address: String,
        /// Its connections are written down.
        on: bool,
        /// The folder of the files.
        folder: String,
    },
    /// Answers [`Request::PostmasterShow`].
    Postmaster {
        /// `None`: there is none yet.
        address: Option<String>,
    },
    /// Answers [`Request::Expire`].
    Reclaimed {
        /// See [`crate::store::Reclaimed`].
        freed_bytes: u64,
        /// See [`crate::store::Reclaimed`].
        returned_bytes: u64,
    },
    /// Answers [`Request::HashDir`].
    Place {
        /// Its number.
        partition: u16,
        /// Number of the shard that owns it; `None` while no server runs.
        shard: Option<usize>,
        /// The processor of that shard.
        processor: Option<usize>,
        /// The partition's directory.
        path: String,
        /// There is such an account.
        exists: bool,
    },
    /// Answers [`Request::Status`].
    Status(Status),
}

/// What runs here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// Of the server's process.
    pub pid: u32,
    /// Since start, in seconds.
    pub uptime_s: u64,
    /// One shard on each.
    pub processors: Vec<usize>,
    /// Of the store.
    pub partitions: u16,
    /// `name address`, one for each listener.
    pub listeners: Vec<String>,
    /// Partitions that do not take mail now, and why.
    pub unwell: Vec<String>,
}

/// A domain in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainEntry {
    /// Its name.
    pub domain: String,
    /// It comes from `--domain`, not from `ringpost domain add`.
    pub configured: bool,
    /// Who gets mail for its unknown addresses.
    pub catch_all: Option<String>,
}

/// An alias in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasEntry {
    /// The alias.
    pub address: String,
    /// What it stands for.
    pub targets: Vec<String>,
}

/// An account in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountEntry {
    /// Canonical.
    pub address: String,
    /// Bytes; 0: unlimited.
    pub quota_bytes: u64,
    /// Bytes of all messages it has.
    #[serde(default)]
    pub used_bytes: u64,
    /// It may act for others [N34].
    #[serde(default)]
    pub is_administrator: bool,
}

/// Why a line is no request or reply.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Too long.
    #[error("a line of {bytes} bytes; at most {max} are taken")]
    TooLong {
        /// So long.
        bytes: usize,
        /// This much is allowed.
        max: usize,
    },
    /// Not JSON, or not one of ours: perhaps another version's.
    #[error("not understood: {0}")]
    Syntax(#[from] serde_json::Error),
}

impl Request {
    /// The request as a line, its end included.
    ///
    /// # Errors
    /// [`WireError::TooLong`].
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        encode(self, limits::ADMIN_REQUEST_BYTES_MAX)
    }

    /// Reads a line, without its end.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(line: &[u8]) -> Result<Request, WireError> {
        Ok(serde_json::from_slice(line)?)
    }
}

impl Reply {
    /// The reply as a line, its end included.
    ///
    /// # Errors
    /// [`WireError::TooLong`].
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        encode(self, limits::ADMIN_REPLY_BYTES_MAX)
    }

    /// Reads a line, without its end.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(line: &[u8]) -> Result<Reply, WireError> {
        Ok(serde_json::from_slice(line)?)
    }

    /// An error of this text.
    pub fn error(message: impl ToString) -> Reply {
        Reply::Error {
            message: message.to_string(),
        }
    }

    /// Done, with nothing more to say.
    pub fn done() -> Reply {
        Reply::Done { notes: Vec::new() }
    }
}

fn encode(value: &impl Serialize, max: usize) -> Result<Vec<u8>, WireError> {
    // JSON escapes control characters: a line end within a text cannot end the line.
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    if line.len() > max {
        return Err(WireError::TooLong {
            bytes: line.len(),
            max,
        });
    }
    Ok(line)
}
