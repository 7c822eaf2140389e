//! Flags of `loadgen mix`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::duration;
use crate::target::Target;

/// `mix`.
#[derive(Debug, Clone, Args)]
pub struct Mix {
    /// The population, in TOML; see bench/populations/ for two, with every key explained
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Shares of the rated load to be run one after the other, in percent
    #[arg(
        long,
        value_name = "PERCENT,...",
        default_value = "80,100,120",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    pub load: Vec<u32>,
    /// Where mail for the users goes in, instead of what the file says
    #[arg(long, value_name = "TARGET")]
    pub smtp: Option<Target>,
    /// Where the users' POP3 server is
    #[arg(long, value_name = "TARGET")]
    pub pop3: Option<Target>,
    /// Where the users' IMAP server is
    #[arg(long, value_name = "TARGET")]
    pub imap: Option<Target>,
    /// Where mail for elsewhere goes in
    #[arg(long, value_name = "TARGET")]
    pub relay: Option<Target>,
    /// Users, instead of what the file says
    #[arg(long, value_name = "N")]
    pub users: Option<u32>,
    /// How long each load is run, instead of what the file says
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub time: Option<Duration>,
    /// Password of all users, instead of what the file says
    #[arg(long)]
    pub password: Option<String>,
    /// CPUs for the load, as for other commands
    #[arg(long, default_value = "all", value_name = "LIST")]
    pub processors: String,
    /// Only say what would be run
    #[arg(long)]
    pub dry_run: bool,
    /// Write everything as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
