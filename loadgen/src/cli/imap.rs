//! Flags of IMAP sessions.

use clap::{Args, ValueEnum};

use super::{Common, Load, Login, Run, Users, wire};
use crate::dialogue::imap::Mix;
use crate::message::sizes::Sizes;
use crate::target::Target;

/// Where to begin with `imap`.
const IMAP_EXAMPLES: &str = "\
Examples:
  loadgen imap --target 127.0.0.1:143 --password pw
      the mix above from 50 connections, which log in as the next user after every 20 commands
  loadgen imap --target 127.0.0.1:143 --password pw --mix store:1 --commands-per-session 0
      one command only, on sessions that stay
  loadgen imap --target 127.0.0.1:143 --password pw --mix append:1 --ledger filled
  loadgen verify --ledger filled --imap 127.0.0.1:143 --password pw
      fills mailboxes, and reads every message back";

/// Where to begin with `idle`.
const IDLE_EXAMPLES: &str = "\
Examples:
  loadgen idle --target 127.0.0.1:143 --password pw --connections 1000 --deliver 127.0.0.1:25
      1000 sessions, each in the INBOX of a user of its own, and 10 messages a second for them; the
      line `250->visible` has the times from SMTP's 250 to the notice, 0 where the notice was first
  loadgen idle --target 127.0.0.1:143 --password pw --connections 15000 --users 15000 --duration 5m
      only holds them, to see what they cost the server: --sample-pid notes its memory";

/// How IMAP sessions begin, beside name and password.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Users")]
pub struct ImapLogin {
    /// IMAP: how to log in
    #[arg(long, default_value = "login", value_name = "HOW")]
    pub auth: Auth,
    /// IMAP: the mailbox to open
    #[arg(long, default_value = "INBOX", value_name = "NAME")]
    pub mailbox: String,
}

/// How to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// LOGIN
    Login,
    /// AUTHENTICATE PLAIN
    Plain,
}

/// `imap`.
#[derive(Debug, Args)]
#[command(after_help = IMAP_EXAMPLES)]
pub struct Imap {
    /// ADDR:PORT
    #[arg(long)]
    pub target: Target,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Run`")]
    pub run: Run,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Load`")]
    pub load: Load,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Users`")]
    pub users: Users,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Login`")]
    pub login: Login,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `ImapLogin`")]
    pub imap_login: ImapLogin,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `wire::Tls`")]
    pub tls: wire::Tls,
    /// Commands and how often, as NAME:WEIGHT,...; names: fetch-flags, fetch-envelope,
    /// fetch-structure, fetch-body, store, search, status, append, noop, select
    #[arg(
        help_heading = "Sessions",
        long,
        value_name = "WEIGHTS",
        default_value = "fetch-flags:30,fetch-envelope:15,fetch-body:20,store:15,search:5,status:5,noop:10"
    )]
    pub mix: Mix,
    /// Log out after so many commands, and log in as the next user; 0: stay
    #[arg(help_heading = "Sessions", long, default_value_t = 20)]
    pub commands_per_session: u64,
    /// Messages that a FETCH of flags or envelopes asks for, the newest ones
    #[arg(help_heading = "Sessions", long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub window: u32,
    /// Bytes of an appended message, header and body; as for `loadgen smtp`
    #[arg(
        help_heading = "Sessions",
        long,
        default_value = "4K",
        value_name = "SIZES"
    )]
    pub size: Sizes,
    /// Note every appended message for `loadgen verify`; a new file
    #[arg(help_heading = "Sessions", long, value_name = "FILE")]
    pub ledger: Option<std::path::PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Common`")]
    pub common: Common,
}

/// `idle`.
#[derive(Debug, Args)]
#[command(after_help = IDLE_EXAMPLES)]
pub struct IdleSessions {
    /// The IMAP server: ADDR:PORT
    #[arg(long)]
    pub target: Target,
    /// Sessions, each in the mailbox of a user of its own
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,
    /// How long, once all are in IDLE
    #[arg(long, default_value = "10s", value_parser = super::duration, value_name = "TIME")]
    pub duration: std::time::Duration,
    /// Deliver mail to them meanwhile, over SMTP without TLS: ADDR:PORT
    #[arg(long, value_name = "TARGET")]
    pub deliver: Option<Target>,
    /// --deliver speaks LMTP
    #[arg(long, requires = "deliver")]
    pub deliver_lmtp: bool,
    /// Messages per second, over all sessions that get mail
    #[arg(long, default_value = "10", value_name = "PER_SECOND")]
    pub deliver_rate: String,
    /// The share of the sessions that get mail, in percent
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub deliver_share: u32,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Users`")]
    pub users: Users,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Login`")]
    pub login: Login,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `wire::Tls`")]
    pub tls: wire::Tls,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Common`")]
    pub common: Common,
}
