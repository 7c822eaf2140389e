//! Flags of `loadgen scenario` and `loadgen sink`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::duration;
use crate::target::Target;

/// `scenario`.
#[derive(Debug, Clone, Args)]
pub struct Scenario {
    /// list, one of T1 to T12, or all
    #[arg(value_name = "WHICH")]
    pub which: String,
    /// The SMTP server that delivers to mailboxes: ADDR:PORT
    #[arg(long, visible_alias = "target", value_name = "TARGET")]
    pub smtp: Option<Target>,
    /// The POP3 server of the same mailboxes
    #[arg(long, value_name = "TARGET")]
    pub pop3: Option<Target>,
    /// The IMAP server of the same mailboxes
    #[arg(long, value_name = "TARGET")]
    pub imap: Option<Target>,
    /// The SMTP server that relays mail for --relay-domain to --sink
    #[arg(long, value_name = "TARGET", requires = "sink")]
    pub relay: Option<Target>,
    /// Where loadgen is to take the relayed mail: ADDR:PORT of this machine
    #[arg(long, value_name = "ADDR:PORT")]
    pub sink: Option<SocketAddr>,
    /// A domain that --relay sends to --sink
    #[arg(long, default_value = "remote.test", value_name = "DOMAIN")]
    pub relay_domain: String,
    /// Stops --relay: run by `sh -c` (T12)
    #[arg(long, value_name = "COMMAND", requires = "start")]
    pub stop: Option<String>,
    /// Starts --relay again; the time from here to the first greeting is measured (T12)
    #[arg(long, value_name = "COMMAND", requires = "stop")]
    pub start: Option<String>,
    /// The web mail server: ADDR:PORT
    #[arg(long, value_name = "TARGET")]
    pub web: Option<Target>,
    /// A page of it that needs a session
    #[arg(long, default_value = "/", value_name = "PATH")]
    pub web_path: String,
    /// Process ids of the IMAP server; their children count too (T7: memory)
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Users that exist, PREFIX0@DOMAIN and so on: more make the scenarios truer
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub users: usize,
    /// Begins the users' names
    #[arg(long, default_value = "u")]
    pub prefix: String,
    /// The users' domain
    #[arg(long, default_value = "bench.test")]
    pub domain: String,
    /// Password of all users
    #[arg(long, default_value = "pw")]
    pub password: String,
    /// How long a measurement takes
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub time: Duration,
    /// CPUs for the load, as for other commands
    #[arg(long, default_value = "all", value_name = "LIST")]
    pub processors: String,
    /// Write the page too, as Markdown (FILE.md) or HTML (FILE.html)
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `sink`.
#[derive(Debug, Clone, Args)]
pub struct SinkFlags {
    /// Where to listen: ADDR:PORT
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// Wait so long before the reply to a message
    #[arg(long, default_value = "0s", value_parser = duration, value_name = "TIME")]
    pub delay: Duration,
    /// Refuse all recipients with 450 for so long, then take them
    #[arg(long, default_value = "0s", value_parser = duration, value_name = "TIME")]
    pub refuse_for: Duration,
    /// End after so long [default: at SIGINT or SIGTERM]
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub duration: Option<Duration>,
    /// Write what came as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
