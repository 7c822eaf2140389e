//! The command line: subcommands and their arguments. Settings come from [`crate::config`].

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command as Clap, FromArgMatches, Subcommand};

use crate::config;
use crate::directory::password::Scheme;

/// The whole grammar.
pub(super) fn command() -> Clap {
    let base = Clap::new("ringpost")
        .version(env!("CARGO_PKG_VERSION"))
        .max_term_width(100)
        .subcommand_required(true)
        .arg_required_else_help(true);
    // The derive would put its own description in place of the program's.
    Command::augment_subcommands(base).about(env!("CARGO_PKG_DESCRIPTION"))
}

/// Every setting, for `serve` and `config show`.
#[derive(Debug, Clone)]
pub(super) struct AllSettings(pub(super) ArgMatches);

/// The settings of a command that works on a store; the file may set the others.
#[derive(Debug, Clone)]
pub(super) struct StoreSettings(pub(super) ArgMatches);

/// Settings are declared in a table, not by derive: this is the bridge.
macro_rules! settings {
    ($type:ty, $flags:expr) => {
        impl FromArgMatches for $type {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Ok(Self(matches.clone()))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                self.0 = matches.clone();
                Ok(())
            }
        }

        impl Args for $type {
            fn augment_args(command: Clap) -> Clap {
                command.args($flags)
            }

            fn augment_args_for_update(command: Clap) -> Clap {
                Self::augment_args(command)
            }
        }
    };
}

settings!(AllSettings, config::flags());
settings!(StoreSettings, store_flags());

fn store_flags() -> Vec<Arg> {
    config::flags_named(&["data", "default-domain", "log"])
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the server
    ///
    /// The first start makes the data folder, a domain, a postmaster and two demo accounts, and
    /// prints how to reach them.
    Serve(AllSettings),
    /// Domains that are served
    #[command(subcommand)]
    Domain(DomainCommand),
    /// Addresses that stand for accounts
    #[command(subcommand)]
    Alias(AliasCommand),
    /// Who gets the mail for unknown addresses of a domain
    #[command(subcommand)]
    Catchall(CatchAllCommand),
    /// Show or name the postmaster's account
    Postmaster {
        /// An account that exists; without it, the postmaster is shown
        #[arg(value_name = "ADDRESS")]
        address: Option<String>,
        #[command(flatten)]
        settings: StoreSettings,
    },
    /// Accounts
    #[command(subcommand)]
    Account(AccountCommand),
    /// Show the partition, shard and path of an account
    Hashdir {
        /// The account; it need not exist
        #[arg(value_name = "ADDRESS")]
        address: String,
        #[command(flatten)]
        settings: StoreSettings,
    },
    /// Reclaim the space of expunged messages
    Expire {
        /// At once, whatever their age; by itself the server does it at --expire-start
        #[arg(long, required = true)]
        now: bool,
        #[command(flatten)]
        settings: StoreSettings,
    },
    /// Show what runs on the data folder
    Status(StoreSettings),
    /// The effective settings
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every setting with its value and where that comes from, as a configuration file
    Show(AllSettings),
}

#[derive(Debug, Subcommand)]
pub(super) enum DomainCommand {
    /// Serve a domain
    Add {
        /// Its name
        #[arg(value_name = "DOMAIN", id = "of_domain")]
        domain: String,
        #[command(flatten)]
        settings: StoreSettings,
    },
    /// List the domains served
    List(StoreSettings),
    /// Stop serving a domain, which must have no accounts or aliases
    Remove {
        /// Its name
        #[arg(value_name = "DOMAIN", id = "of_domain")]
        domain: String,
        #[command(flatten)]
        settings: StoreSettings,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum AliasCommand {
    /// Make or replace an alias
    Add {
        /// The alias
        #[arg(value_name = "ADDRESS")]
        address: String,
        /// Accounts or aliases that get its mail; the alias itself among them keeps its own account
        #[arg(value_name = "TARGET", required = true)]
        targets: Vec<String>,
        #[command(flatten)]
        settings: StoreSettings,
    },
    /// List the aliases
    List {
        /// Only of this domain
        #[arg(long = "domain", value_name = "DOMAIN", id = "of_domain")]
        domain: Option<String>,
        #[command(flatten)]
        settings: StoreSettings,
    },
    /// Remove an alias
    Remove {
        /// The alias
        #[arg(value_name = "ADDRESS")]
        address: String,
        #[command(flatten)]
        settings: StoreSettings,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum CatchAllCommand {
    /// Give an account or alias all mail for unknown addresses of a domain
    Set {
        /// Of this domain
        #[arg(value_name = "DOMAIN", id = "of_domain")]
        domain: String,
        /// To this account or alias
        #[arg(value_name = "ADDRESS")]
        address: String,
        #[command(flatten)]
        settings: StoreSettings,
    },
    /// Refuse unknown addresses of a domain again
    Clear {
        /// Of this domain
        #[arg(value_name = "DOMAIN", id = "of_domain")]
        domain: String,
        #[command(flatten)]
        settings: StoreSettings,
    },
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Switch {
    /// From now on
    On,
    /// Not any more
    Off,
}

#[derive(Debug, Subcommand)]
pub(super) enum AccountCommand {
    /// Make an account
    ///
    /// Without --password, the password is asked for, or read from the first line of the input.
    Add {
        /// Its address; a bare name belongs to --default-domain
        #[arg(value_name = "ADDRESS")]
        address: String,
        #[command(flatten)]
        password: PasswordArgs,
        /// Bytes of mail it may hold, also written such as 500M or 2G; 0: as many as there is space
        #[arg(long, value_name = "SIZE", default_value = "0", value_parser = size)]
        quota: u64,
        #[command(flatten)]
        settings: StoreSettings,
    },
    /// Show or change how much mail an account may hold
    ///
    /// Mail for an account that is full is put off (452 4.2.2): the sender tries again. A message to
    /// several accounts of which some are full waits for those in the queue.
    Quota {
        /// The account
        #[arg(value_name = "ADDRESS")]
        address: String,
        /// Its new quota, such as 500M or 2G; 0: none. Without it, the account is shown
        #[arg(value_name = "SIZE", value_parser = size)]
        quota: Option<u64>,
        #[command(flatten)]
        settings: StoreSettings,
    },
    /// Show or change whether an account may act for others
    ///
    /// An administrator reads and changes any mailbox with the own password, by SASL's authorization
    /// identity or IMAP's PROXYAUTH, and sets quotas by IMAP's SETQUOTA. All of it is logged. Without on
    /// or off, the account is shown.
    Admin {
        /// The account
        #[arg(value_name = "ADDRESS")]
        address: String,
        /// Allow it or not
        #[arg(value_enum)]
        switch: Option<Switch>,
        #[command(flatten)]
        settings: StoreSettings,
    },
    /// Write down what an account's connections say and hear, for finding faults
    ///
    /// Each connection by IMAP or POP3 gets a file of its own below DATA/telemetry, from login on,
    /// without passwords. Connections that are open begin or end at once. Files hold mail: switch it
    /// off again, and remove them. Without on or off, it is shown.
    Telemetry {
        /// The account
        #[arg(value_name = "ADDRESS")]
        address: String,
        /// Switch it on or off
        #[arg(value_enum)]
        switch: Option<Switch>,
        #[command(flatten)]
        settings: StoreSettings,
    },
    /// List the accounts, the bytes each uses, its quota, and which are administrators
    List {
        /// Only of this domain
        #[arg(long = "domain", value_name = "DOMAIN", id = "of_domain")]
        domain: Option<String>,
        #[command(flatten)]
        settings: StoreSettings,
    },
    /// Change an account's password
    ///
    /// Without --password, the password is asked for, or read from the first line of the input.
    Passwd {
        /// The account
        #[arg(value_name = "ADDRESS")]
        address: String,
        #[command(flatten)]
        password: PasswordArgs,
        #[command(flatten)]
        settings: StoreSettings,
    },
    /// Remove an account and all its mail
    Remove {
        /// The account
        #[arg(value_name = "ADDRESS")]
        address: String,
        #[command(flatten)]
        settings: StoreSettings,
    },
    /// Make the accounts of a password file
    ///
    /// Each line is ADDRESS:HASH, as in Dovecot's passwd-file (what follows a further colon is not
    /// read); empty lines and lines that begin with # are passed over. Known are argon2, SHA-512,
    /// SHA-256, MD5 and bcrypt hashes, with or without a {SCHEME}, and {PLAIN}password, which is
    /// hashed. When a line is wrong, nothing is imported.
    Import {
        /// The file; - is the input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// How {PLAIN} passwords are hashed
        #[arg(long, value_name = "SCHEME", default_value = "argon2id", value_parser = scheme)]
        scheme: Scheme,
        /// Bytes of mail that each may hold, such as 500M or 2G; 0: as many as there is space
        #[arg(long, value_name = "SIZE", default_value = "0", value_parser = size)]
        quota: u64,
        #[command(flatten)]
        settings: StoreSettings,
    },
    /// Make many test accounts, PREFIX0, PREFIX1 and so on, all with one password
    ///
    /// Serves the domain if it is not served yet.
    Generate {
        /// How many
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        users: u32,
        /// What their names begin with
        #[arg(long, default_value = "u")]
        prefix: String,
        /// Their domain
        #[arg(long = "domain", value_name = "DOMAIN", id = "of_domain")]
        domain: String,
        /// Their password
        #[arg(long)]
        password: String,
        /// How it is hashed: light is quick, and no protection if the hashes are stolen
        #[arg(long, value_name = "SCHEME", default_value = "light", value_parser = scheme)]
        scheme: Scheme,
        /// Bytes of mail that each may hold, such as 500M or 2G; 0: as many as there is space
        #[arg(long, value_name = "SIZE", default_value = "0", value_parser = size)]
        quota: u64,
        #[command(flatten)]
        settings: StoreSettings,
    },
}

/// A password and how it is hashed.
#[derive(Debug, Args)]
pub(super) struct PasswordArgs {
    /// The password; others on this machine may see it in the list of processes
    #[arg(long)]
    pub(super) password: Option<String>,
    /// How it is hashed
    #[arg(long, value_name = "SCHEME", default_value = "argon2id", value_parser = scheme)]
    pub(super) scheme: Scheme,
}

fn size(text: &str) -> Result<u64, String> {
    config::parse_bytes(text)
        .ok_or_else(|| "a size is a number of bytes, or one such as 64K, 500M or 2G".to_owned())
}

fn scheme(name: &str) -> Result<Scheme, String> {
    Scheme::named(name).ok_or_else(|| format!("known are {}", Scheme::NAMES.join(" and ")))
}
