//! Flags of what is sent, to whom, and how the connection is secured.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Login, Mail, Switch};
use crate::choice::Weighted;
use crate::message::sizes::Sizes;
use crate::pool::Spread;
use crate::sasl::Mechanism;

/// What the messages are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Mail")]
pub struct Messages {
    /// Bytes of a message, header and body: one size (700, 4K, 1M), a list with weights
    /// (1K:40,4K:40,50K:20), or lognormal:MEDIAN,SIGMA[,MAX] as real mail is (lognormal:8K,1.2;
    /// SIGMA of the natural logarithm; draws beyond MAX, or 10M, become that)
    #[arg(long, default_value = "4K", value_name = "SIZES")]
    pub size: Sizes,
    /// Send real messages instead: a folder (a message to a file, folders in it too) or an mbox
    /// file, drawn uniformly. They go out as they are, with CRLF line ends and two fields in front
    /// for `verify`, which then checks their bodies
    #[arg(long, value_name = "PATH", conflicts_with = "size")]
    pub messages: Option<PathBuf>,
}

/// Who gets them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Mail")]
pub struct Recipients {
    /// Recipients of a message: a number, or a list with weights (1:80,2:10,20:10); never the same
    /// twice in one message
    #[arg(long, default_value = "1", value_name = "N")]
    pub recipients: Weighted<u32>,
    /// How recipients are drawn: uniform; zipf:S, the first user most often, the n-th n^S times
    /// less; or domains, all recipients of a message in one domain
    #[arg(long, default_value = "uniform", value_name = "HOW")]
    pub spread: Spread,
}

/// `smtp`.
#[derive(Debug, Args)]
pub struct Smtp {
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Mail`")]
    pub mail: Mail,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Sender`")]
    pub sender: Sender,
    /// Log in on every connection, each as one of the users: the server has to announce this
    #[arg(
        help_heading = "Users",
        long,
        value_name = "MECHANISM",
        requires = "password"
    )]
    pub auth: Option<Mechanism>,
    /// Login name; {address}, {local} and {domain} are replaced
    #[arg(
        help_heading = "Users",
        long,
        default_value = "{address}",
        value_name = "PATTERN"
    )]
    pub user_pattern: String,
    /// Password of all users
    #[arg(help_heading = "Users", long, requires = "auth")]
    pub password: Option<String>,
}

/// `lmtp`.
#[derive(Debug, Args)]
pub struct Lmtp {
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Mail`")]
    pub mail: Mail,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Sender`")]
    pub sender: Sender,
}

/// `submission`.
#[derive(Debug, Args)]
pub struct Submission {
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Mail`")]
    pub mail: Mail,
    /// How users log in: every connection is one user's, drawn uniformly, and sends from that
    /// user's address; the server has to announce this mechanism
    #[arg(
        help_heading = "Users",
        long,
        default_value = "plain",
        value_name = "MECHANISM"
    )]
    pub auth: Mechanism,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Login`")]
    pub login: Login,
}

/// From whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "Mail")]
pub struct Sender {
    /// Envelope sender; may be empty
    #[arg(long, default_value = "loadgen@bench.test", value_name = "ADDRESS")]
    pub from: String,
}

/// How connections are secured.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "TLS")]
pub struct Tls {
    /// Speak TLS from the first byte, as on ports 465, 993 and 995
    #[arg(long, conflicts_with = "starttls")]
    pub tls: bool,
    /// Secure every connection by STARTTLS (in POP3: STLS) before anything is sent
    #[arg(long)]
    pub starttls: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Certificates`")]
    pub certificates: Certificates,
}

/// Whom TLS trusts.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "TLS")]
pub struct Certificates {
    /// Whom the certificate has to be for [default: the host name or address of the target]
    #[arg(long, value_name = "NAME")]
    pub tls_name: Option<String>,
    /// Trust the certificates of this PEM file, and those they signed, instead of the system's
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Do not check the certificate: for test servers that signed it themselves
    #[arg(long, conflicts_with = "tls_ca")]
    pub tls_insecure: bool,
    /// Resume sessions, which makes most handshakes short, as real clients do; off: all are full
    #[arg(long, default_value = "on", value_name = "WHETHER")]
    pub tls_resume: Switch,
}

/// How POP3 users log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PopLogin {
    /// The commands USER and PASS
    User,
    /// A digest of the greeting's timestamp and the password; the server has to greet with one
    Apop,
    /// AUTH PLAIN
    Plain,
    /// AUTH LOGIN
    Login,
    /// AUTH CRAM-MD5
    CramMd5,
    /// AUTH SCRAM-SHA-256
    #[value(name = "scram-sha-256")]
    ScramSha256,
}
