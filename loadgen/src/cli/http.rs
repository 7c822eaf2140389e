//! Flags of `loadgen http`.

use clap::Args;

use super::{Common, Run, Switch};
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
    /// Path and query to ask for
    #[arg(long, default_value = "/", value_name = "PATH")]
    pub path: String,
    /// The name in Host: [default: the target]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// A further header field, as 'Cookie: session=1'; may be given several times
    #[arg(long, value_name = "FIELD")]
    pub header: Vec<String>,
    /// Keep connections for further requests
    #[arg(long, default_value = "on", value_name = "WHETHER")]
    pub keep_alive: Switch,
    /// The status that is wanted; others are errors
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: u16,
    /// Bytes of body that are wanted; others are errors [default: any]
    #[arg(long, value_name = "N")]
    pub body_bytes: Option<u64>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Common`")]
    pub common: Common,
}
