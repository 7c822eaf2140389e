//! Flags of `loadgen http`.

use clap::Args;

use super::{Common, Load, Run, Switch, wire};
use crate::target::Target;

/// `http`.
#[derive(Debug, Args)]
pub struct Http {
    /// ADDR:PORT, or the path of a Unix socket
    #[arg(long)]
    pub target: Target,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Run`")]
    pub run: Run,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Load`")]
    pub load: Load,
    /// Ask over TLS (https), as on port 443
    #[arg(long, help_heading = "TLS")]
    pub tls: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `wire::Certificates`")]
    pub certificates: wire::Certificates,
    /// Path and query to ask for
    #[arg(
        help_heading = "Requests",
        long,
        default_value = "/",
        value_name = "PATH"
    )]
    pub path: String,
    /// The name in Host: [default: the target]
    #[arg(help_heading = "Requests", long, value_name = "NAME")]
    pub host: Option<String>,
    /// A further header field, as 'Cookie: session=1'; may be given several times
    #[arg(help_heading = "Requests", long, value_name = "FIELD")]
    pub header: Vec<String>,
    /// Keep connections for further requests
    #[arg(
        help_heading = "Requests",
        long,
        default_value = "on",
        value_name = "WHETHER"
    )]
    pub keep_alive: Switch,
    /// The status that is wanted; others are errors
    #[arg(help_heading = "Requests", long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: u16,
    /// Bytes of body that are wanted; others are errors [default: any]
    #[arg(help_heading = "Requests", long, value_name = "N")]
    pub body_bytes: Option<u64>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Common`")]
    pub common: Common,
}
