//! The command line: every flag, its default and its check.

pub mod http;
pub mod imap;
pub mod knee;
pub mod mix;
pub mod real;
pub mod scenario;
mod values;
pub mod wire;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::sample::metrics::Endpoint;
use crate::schedule::{Curve, Spacing};
use crate::target::Target;
use crate::task::Task;

use values::{curve, rate, rate_or_none, share};
pub use values::{duration, processors};

/// Where to begin.
const EXAMPLES: &str = "\
Examples:
  loadgen smtp --target 127.0.0.1:25
      50 connections for 10 s, each sending as fast as it can
  loadgen smtp --target 127.0.0.1:25 --rate 500 --results before
      500 messages a second, timed from when each was due; before/report.html shows them
  loadgen compare before after
      two such folders side by side
  loadgen run a.toml --interleave b.toml
      two servers, or two settings of one, five runs of each in turns, and which differences are
      real; `loadgen run --help` has such a file
  loadgen knee smtp --p99 50ms --target 127.0.0.1:25
      how much the server can take

The server needs the users u0@bench.test to u999@bench.test, or those that --users, --prefix and
--domain or --rcpt-file name.";

/// A file for `run`, short and whole.
pub const RUN_FILE: &str = "\
A file, from which the flags of the command may be known:

  command = \"smtp\"
  target = \"127.0.0.1:12525\"
  connections = 50
  warmup = \"2s\"
  duration = \"10s\"

  [server]            # started for each run, and ended after it; leave it out if one runs already
  start = 'ringpost serve --data \"$DATA\" --sync-level 0 --smtp 127.0.0.1:12525'
  ready = \"127.0.0.1:12525\"
  setup = 'ringpost account generate --data \"$DATA\" --users 1000 --domain bench.test --password pw'

$DATA is a fresh folder for this run, removed after it; $BIN the folder of loadgen itself. A second
file with --sync-level 1 makes a comparison: loadgen run sync-0.toml --interleave sync-1.toml";

/// Load generator and verifier for mail servers.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Deliver messages over SMTP
    Smtp(wire::Smtp),
    /// Deliver messages over LMTP
    Lmtp(wire::Lmtp),
    /// Hand in messages as users do: log in, and send from one's own address
    Submission(wire::Submission),
    /// Read mailboxes over POP3: one session after another on every connection
    Pop3(Pop3),
    /// Work in mailboxes over IMAP: sessions with commands drawn from a weighted mix
    Imap(imap::Imap),
    /// Hold IMAP sessions in IDLE, deliver mail to them, and time the notices
    Idle(imap::IdleSessions),
    /// Ask for a page over HTTP, and check status and length
    Http(http::Http),
    /// Search the highest rate at which a server keeps a promise, as --p99 50ms
    Knee(knee::Knee),
    /// Read all mailboxes of a ledger back: is every acknowledged message there, once and intact?
    Verify(Verify),
    /// Run a population of users from a file, at shares of its rated load, and judge it
    Mix(mix::Mix),
    /// Run the documents' throughput targets T1 to T12, each with a verdict
    Scenario(scenario::Scenario),
    /// Take mail from a relay under test, count it and throw it away
    Sink(scenario::SinkFlags),
    /// Open connections and leave them idle, to see what they cost the server
    IdleConnections(Idle),
    /// Make runs as files describe them, in turns, and compare them
    Run(Series),
    /// Compare runs by their folders of results: which differences are real, which are noise?
    Compare(Compare),
    /// Add up the results of runs that several machines or shells made at the same time
    Merge(Merge),
}

/// What all commands have.
#[derive(Debug, Args)]
#[command(next_help_heading = "Generator and output")]
pub struct Common {
    /// CPUs to run on, a thread pinned to each: all, a LIST as 0 or 0-3,6, or count:N
    #[arg(long, default_value = "all", value_name = "LIST")]
    pub processors: String,
    /// Silence of the server that counts as a hang, while an answer is due
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
    /// End the run when nothing at all was completed for so long
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub give_up: Duration,
    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// No progress display, and no table where everything went well
    #[arg(long)]
    pub quiet: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Record`")]
    pub record: Record,
}

/// What a run leaves behind.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Results")]
pub struct Record {
    /// Keep everything in a new folder: report.html, summary.json, hdr.log, samples, the machine
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// What the run is called in reports and comparisons [default: the name of the folder]
    #[arg(long, value_name = "NAME", requires = "results")]
    pub label: Option<String>,
    /// Folder of the server's data: its filesystem and mount options are noted
    #[arg(long, value_name = "DIR", requires = "results")]
    pub server_data: Option<PathBuf>,
    /// Sample the counters of a server once a second: http://ADDR:PORT/metrics; repeatable
    #[arg(long, value_name = "URL", requires = "results")]
    pub sample_metrics: Vec<Endpoint>,
    /// Sample CPU, memory and the like of a process and those it started once a second; repeatable
    #[arg(long, value_name = "PID", requires = "results")]
    pub sample_pid: Vec<u32>,
}

impl Common {
    /// The same for something that belongs to another run, and says nothing itself.
    pub fn quiet_copy(&self) -> Common {
        Common {
            processors: self.processors.clone(),
            timeout: self.timeout,
            give_up: self.give_up,
            json: None,
            quiet: true,
            record: Record::default(),
        }
    }
}

/// `merge`.
#[derive(Debug, Args)]
pub struct Merge {
    /// What --json has written, of each run; histograms are added bucket by bucket
    #[arg(required = true, num_args = 1.., value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Write the sum as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// How much load there is: a closed loop without `--rate`, an open one with it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Load")]
pub struct Load {
    /// Open loop: so many messages (POP3: sessions, IMAP: commands, HTTP: requests) are due per second over
    /// all connections, as 500 or 2.5k, whether the server keeps up or not; each is timed from when it was due, and from
    /// when it did begin [default: closed loop, each connection sends the next when the last is done]
    #[arg(long, value_parser = rate, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// An open loop whose rate changes: TIME:PER_SECOND,... as 0s:10,30s:50,60s:5, in straight lines
    /// between the points and level after the last
    #[arg(long, value_parser = curve, value_name = "POINTS", conflicts_with_all = ["rate", "ramp"])]
    pub curve: Option<Curve>,
    /// How the arrivals of --rate follow each other
    #[arg(long, default_value = "poisson", value_name = "HOW")]
    pub arrivals: Spacing,
    /// Begin gently: with --rate the rate grows to it over so long, without it connections come up
    /// over so long; give a --warmup as long to leave it out of the figures
    #[arg(long, default_value = "0s", value_parser = duration, value_name = "TIME")]
    pub ramp: Duration,
    /// The rate that --ramp begins with
    #[arg(long, default_value = "0", value_parser = rate_or_none, requires = "rate", value_name = "PER_SECOND")]
    pub ramp_from: f64,
    /// Draws the arrivals of --rate: the same seed, the same times
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Processes that share the run: each has its part of the connections, of the rate and of
    /// --count, and the results are added up; a ledger is written by each, FILE.0, FILE.1 and so on
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    pub processes: u32,
    /// The share of a process that --processes has started
    #[arg(long, hide = true, value_parser = share)]
    pub share: Option<Task>,
    /// With --rate: open all connections at the start, not as many as turn out to be needed
    #[arg(long, requires = "rate")]
    pub open_all: bool,
}

/// How long a run is, and what is recorded.
#[derive(Debug, Args)]
#[command(next_help_heading = "Load")]
pub struct Run {
    /// Connections, over all threads; with --rate the most there may be
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,
    /// End after so many messages (POP3: sessions, IMAP: commands, HTTP: requests)
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after so long, as 500ms, 10s, 5m [default: 10s, if there is no --count]
    #[arg(long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// Leave the first part of the run out of the figures; comes before --duration
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub warmup: Duration,
    /// Write histograms by verb and second (HdrHistogram interval log V2)
    #[arg(help_heading = "Results", long, value_name = "FILE")]
    pub hdr_log: Option<PathBuf>,
}

/// What `smtp`, `lmtp` and `submission` have in common.
#[derive(Debug, Args)]
pub struct Mail {
    /// ADDR:PORT, or the path of a Unix socket
    #[arg(long)]
    pub target: Target,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Run`")]
    pub run: Run,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Load`")]
    pub load: Load,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `wire::Messages`")]
    pub messages: wire::Messages,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `wire::Recipients`")]
    pub recipients: wire::Recipients,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Users`")]
    pub users: Users,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `wire::Tls`")]
    pub tls: wire::Tls,
    /// Close a connection (QUIT) after so many messages and open a new one; 1: a connection for
    /// every message; 0: never. What connections cost is in the rows connect to AUTH, QUIT and
    /// session, which is all of it
    #[arg(
        help_heading = "Connections",
        long,
        default_value_t = 0,
        value_name = "N"
    )]
    pub messages_per_connection: u64,
    /// Send MAIL, RCPT and DATA in one piece where the server announces PIPELINING
    #[arg(
        help_heading = "Connections",
        long,
        default_value = "on",
        value_name = "WHETHER"
    )]
    pub pipelining: Switch,
    /// Send bodies by BDAT; the server has to announce CHUNKING
    #[arg(help_heading = "Connections", long)]
    pub chunking: bool,
    /// Note every message, its recipients and what the server said, for `loadgen verify`; a new file
    #[arg(help_heading = "Mail", long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Send a message again, under the same id, if the connection broke or the server said 4xx; at most so many attempts
    #[arg(help_heading = "Connections", long, value_name = "ATTEMPTS", num_args = 0..=1, default_value_t = 1,
          default_missing_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    pub retry: u32,
    /// End the run at the first connection that breaks
    #[arg(help_heading = "Connections", long)]
    pub stop_on_disconnect: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `real::Real`")]
    pub real: real::Real,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Common`")]
    pub common: Common,
}

/// The flags of every command that makes a load.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// How long.
    pub run: &'a Run,
    /// How much.
    pub load: &'a Load,
    /// What all commands have.
    pub common: &'a Common,
    /// Where.
    pub target: &'a Target,
}

macro_rules! asks {
    ($($flags:ty),+) => {$(
        impl $flags {
            /// What every load has.
            pub fn asked(&self) -> Asked<'_> {
                Asked {
                    run: &self.run,
                    load: &self.load,
                    common: &self.common,
                    target: &self.target,
                }
            }
        }
    )+};
}
asks!(Mail, Pop3, imap::Imap, http::Http);

/// On or off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "on and off")]
pub enum Switch {
    #[default]
    On,
    Off,
}

/// Whose mail it is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Users")]
pub struct Users {
    /// Users: PREFIX0@DOMAIN to PREFIXn-1@DOMAIN
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub users: usize,
    /// Begins the users' names
    #[arg(long, default_value = "u")]
    pub prefix: String,
    /// The users' domain, or several as a.test,b.test: users belong to them in turn
    #[arg(long, default_value = "bench.test", value_name = "DOMAINS")]
    pub domain: String,
    /// Take the users' addresses from a file instead, one a line
    #[arg(long, value_name = "FILE", conflicts_with_all = ["users", "prefix"])]
    pub rcpt_file: Option<PathBuf>,
}

/// How users log in.
#[derive(Debug, Args)]
#[command(next_help_heading = "Users")]
pub struct Login {
    /// Login name; {address}, {local} and {domain} are replaced
    #[arg(long, default_value = "{address}", value_name = "PATTERN")]
    pub user_pattern: String,
    /// Password of all users
    #[arg(long)]
    pub password: String,
}

/// `pop3`.
#[derive(Debug, Args)]
pub struct Pop3 {
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
    /// How they log in
    #[arg(
        help_heading = "Users",
        long,
        default_value = "user",
        value_name = "HOW"
    )]
    pub auth: wire::PopLogin,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `wire::Tls`")]
    pub tls: wire::Tls,
    /// Messages retrieved in a session, the first ones; fewer where there are fewer
    #[arg(help_heading = "Sessions", long, default_value_t = 5, value_name = "K")]
    pub retr: u32,
    /// Send LIST in every session
    #[arg(help_heading = "Sessions", long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub list: bool,
    /// Send UIDL in every session
    #[arg(help_heading = "Sessions", long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub uidl: bool,
    /// Delete what was retrieved
    #[arg(help_heading = "Sessions", long)]
    pub delete: bool,
    /// RETR and DELE commands sent ahead where the server announces PIPELINING (sends CAPA first)
    #[arg(help_heading = "Sessions", long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub window: u32,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Common`")]
    pub common: Common,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Ledgers of the runs whose mail is in the mailboxes; may be given several times
    #[arg(long, required = true, value_name = "FILE")]
    pub ledger: Vec<PathBuf>,
    /// Read them from this POP3 server: ADDR:PORT
    #[arg(
        long,
        value_name = "TARGET",
        required_unless_present = "imap",
        conflicts_with = "imap"
    )]
    pub pop3: Option<Target>,
    /// Read them from this IMAP server: ADDR:PORT
    #[arg(long, value_name = "TARGET")]
    pub imap: Option<Target>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Login`")]
    pub login: Login,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `ImapLogin`")]
    pub imap_login: imap::ImapLogin,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `wire::Tls`")]
    pub tls: wire::Tls,
    /// Connections, over all threads
    #[arg(help_heading = "Reading", long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// Offending messages to be named, of each kind
    #[arg(help_heading = "Reading", long, default_value_t = 10)]
    pub list: usize,
    /// Attempts to read a mailbox
    #[arg(help_heading = "Reading", long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub attempts: u32,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Common`")]
    pub common: Common,
}

/// `run`.
#[derive(Debug, Args)]
#[command(after_help = RUN_FILE)]
pub struct Series {
    /// TOML: `command`, its flags by their names, and [server] to start one for each run
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Take turns with another file, so that drift hits both; may be given several times
    #[arg(long, value_name = "FILE")]
    pub interleave: Vec<PathBuf>,
    /// Runs of each file [default: 5 with --interleave, otherwise 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repeat: Option<u32>,
    /// A new folder for the runs [default: loadgen-results/DATE]
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
}

/// `compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// A side each: folders of --results, several with commas between, or a folder that holds them;
    /// one folder alone is taken apart by the names of its runs
    #[arg(required = true, value_name = "RUNS")]
    pub sides: Vec<String>,
    /// Write compare.html, percentiles.svg and the text to a new folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Whose times to compare, as in summary.json [default: message, or session]
    #[arg(long, value_name = "VERB")]
    pub verb: Option<String>,
}

/// `idle-connections`.
#[derive(Debug, Args)]
pub struct Idle {
    /// ADDR:PORT, or the path of a Unix socket
    #[arg(long)]
    pub target: Target,
    /// Connections, over all threads; a loopback server is reached from a source address each 20000
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,
    /// What the server greets with; a connection is up when it has
    #[arg(long, default_value = "smtp", value_name = "WHICH")]
    pub protocol: Protocol,
    /// How long to hold them, once all are up or failed
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub hold: Duration,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Common`")]
    pub common: Common,
}

/// What a server greets with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// 220 (SMTP, LMTP)
    Smtp,
    /// +OK
    Pop3,
    /// * OK
    Imap,
    /// nothing is waited for
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn retry_has_a_value_or_not() {
        let parse = |text: &str| match Cli::try_parse_from(text.split(' ')).map(|cli| cli.command) {
            Ok(Command::Smtp(smtp)) => Ok(smtp.mail.retry),
            other => Err(format!("{other:?}")),
        };
        assert_eq!(parse("loadgen smtp --target 127.0.0.1:25"), Ok(1));
        assert_eq!(parse("loadgen smtp --target 127.0.0.1:25 --retry"), Ok(100));
        assert_eq!(parse("loadgen smtp --target 127.0.0.1:25 --retry 7"), Ok(7));
        assert!(parse("loadgen smtp --target 127.0.0.1:25 --retry 0").is_err());
    }
}
