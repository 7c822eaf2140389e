//! The command line: every flag, its default and its check.

pub mod http;
pub mod imap;
pub mod knee;
pub mod mix;
pub mod real;
pub mod scenario;
pub mod wire;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::sample::metrics::Endpoint;
use crate::schedule::{Curve, Spacing};
use crate::target::Target;
use crate::task::Task;

/// Load generator and verifier for mail servers.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
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
    /// Add up the results of runs that several machines or shells made at the same time
    Merge(Merge),
    /// Search the highest rate at which a server keeps a promise, as --p99 50ms
    Knee(knee::Knee),
    /// Read mailboxes over POP3: one session after another on every connection
    Pop3(Pop3),
    /// Work in mailboxes over IMAP: sessions with commands drawn from a weighted mix
    Imap(imap::Imap),
    /// Hold IMAP sessions in IDLE, deliver mail to them, and time the notices
    Idle(imap::IdleSessions),
    /// Ask for a page over HTTP, and check status and length
    Http(http::Http),
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
}

/// What all commands have.
#[derive(Debug, Args)]
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
    /// Open loop: so many messages (POP3: sessions) are due per second over all connections, as 500
    /// or 2.5k, whether the server keeps up or not; each is timed from when it was due, and from
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
pub struct Run {
    /// Connections, over all threads; with --rate the most there may be
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,
    /// End after so many messages (POP3: sessions)
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after so long, as 500ms, 10s, 5m [default: 10s, if there is no --count]
    #[arg(long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// Leave the first part of the run out of the figures; comes before --duration
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub warmup: Duration,
    /// Write histograms by verb and second (HdrHistogram interval log V2)
    #[arg(long, value_name = "FILE")]
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
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub messages_per_connection: u64,
    /// Send MAIL, RCPT and DATA in one piece where the server announces PIPELINING
    #[arg(long, default_value = "on", value_name = "WHETHER")]
    pub pipelining: Switch,
    /// Send bodies by BDAT; the server has to announce CHUNKING
    #[arg(long)]
    pub chunking: bool,
    /// Note every message, its recipients and what the server said, for `loadgen verify`; a new file
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Send a message again, under the same id, if the connection broke or the server said 4xx; at most so many attempts
    #[arg(long, value_name = "ATTEMPTS", num_args = 0..=1, default_value_t = 1,
          default_missing_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    pub retry: u32,
    /// End the run at the first connection that breaks
    #[arg(long)]
    pub stop_on_disconnect: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `real::Real`")]
    pub real: real::Real,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Common`")]
    pub common: Common,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "on and off")]
pub enum Switch {
    On,
    Off,
}

/// Whose mail it is.
#[derive(Debug, Args)]
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
    #[arg(long, default_value = "user", value_name = "HOW")]
    pub auth: wire::PopLogin,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `wire::Tls`")]
    pub tls: wire::Tls,
    /// Messages retrieved in a session, the first ones; fewer where there are fewer
    #[arg(long, default_value_t = 5, value_name = "K")]
    pub retr: u32,
    /// Send LIST in every session
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub list: bool,
    /// Send UIDL in every session
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub uidl: bool,
    /// Delete what was retrieved
    #[arg(long)]
    pub delete: bool,
    /// RETR and DELE commands sent ahead where the server announces PIPELINING (sends CAPA first)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
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
    /// Connections, over all threads
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// Offending messages to be named, of each kind
    #[arg(long, default_value_t = 10)]
    pub list: usize,
    /// Attempts to read a mailbox
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub attempts: u32,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Common`")]
    pub common: Common,
}

/// `run`.
#[derive(Debug, Args)]
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

/// `500ms`, `10s`, `5m`, `1h`; a bare number is seconds.
///
/// # Errors
/// Says what is wanted.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let unit = match &text[split..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    text[..split]
        .parse::<f64>()
        .ok()
        .map(|number| number * unit)
        // A year is more than anybody waits.
        .filter(|seconds| (0.0..=31_536_000.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "wanted is a time, as 500ms, 10s, 5m or 1h, at most a year".to_owned())
}

fn share(text: &str) -> Result<Task, String> {
    serde_json::from_str(text).map_err(|e| e.to_string())
}

/// `0s:10,30s:50`: when which rate.
fn curve(text: &str) -> Result<Curve, String> {
    let wanted = || {
        format!(
            "'{text}': wanted is TIME:PER_SECOND,... with growing times, the first 0s, and a rate \
             above 0 somewhere, as 0s:10,30s:50"
        )
    };
    let points: Option<Vec<_>> = text
        .split(',')
        .map(|point| {
            let (at, rate) = point.split_once(':')?;
            Some((duration(at).ok()?, rate_or_none(rate).ok()?))
        })
        .collect();
    let points = points.ok_or_else(wanted)?;
    let grows = points.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let begins = points.first().is_some_and(|(at, _)| at.is_zero());
    let some = points.iter().any(|(_, rate)| *rate > 0.0);
    if grows && begins && some {
        Ok(Curve::through(points))
    } else {
        Err(wanted())
    }
}

/// `500`, `2.5k`: operations per second.
fn rate(text: &str) -> Result<f64, String> {
    rate_or_none(text)
        .ok()
        .filter(|rate| *rate > 0.0)
        .ok_or_else(|| "wanted is a number per second above 0, as 0.5, 500 or 2.5k".to_owned())
}

/// The same, or `0`.
fn rate_or_none(text: &str) -> Result<f64, String> {
    let (number, factor) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1000.0),
        None => (text, 1.0),
    };
    number
        .parse::<f64>()
        .ok()
        .map(|number| number * factor)
        // More than any machine can be asked for.
        .filter(|rate| (0.0..=1e8).contains(rate))
        .ok_or_else(|| "wanted is a number per second, as 0, 0.5, 500 or 2.5k".to_owned())
}

/// The CPUs that `text` names, of those that are `allowed`.
///
/// # Errors
/// Says what is wrong and which CPUs there are.
pub fn processors(text: &str, allowed: &[usize]) -> Result<Vec<usize>, String> {
    let wrong = |why: String| {
        format!(
            "--processors {text}: {why}; wanted is all, a LIST as 0 or 0-3,6, or count:N, of the \
             CPUs this process may use: {allowed:?}"
        )
    };
    if text == "all" {
        return Ok(allowed.to_vec());
    }
    if let Some(count) = text.strip_prefix("count:") {
        return match count.parse::<usize>() {
            Ok(count) if (1..=allowed.len()).contains(&count) => Ok(allowed[..count].to_vec()),
            Ok(count) => Err(wrong(format!("there are {}, not {count}", allowed.len()))),
            Err(_) => Err(wrong(format!("'{count}' is not a number"))),
        };
    }
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            text.parse::<usize>()
                .map_err(|_| wrong(format!("'{part}' is not a CPU or a range")))
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last > 100_000 {
            return Err(wrong(format!("'{part}' is not a range")));
        }
        for cpu in first..=last {
            if !allowed.contains(&cpu) {
                return Err(wrong(format!("CPU {cpu} does not exist or is not allowed")));
            }
            if cpus.contains(&cpu) {
                return Err(wrong(format!("CPU {cpu} is named twice")));
            }
            cpus.push(cpu);
        }
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn times_as_written() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        for wrong in ["", "s", "1y", "1d", "-1s", "1e99h", "..s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(rate("500"), Ok(500.0));
        assert_eq!(rate("2.5k"), Ok(2500.0));
        assert_eq!(rate_or_none("0"), Ok(0.0));
        let half = curve("0s:10,10s:0").expect("a curve");
        assert_eq!(half.rate(Duration::from_secs(5)), 5.0);
        for wrong in ["", "10", "1s:10", "0s:1,0s:2", "0s:0", "0s:-1"] {
            assert!(curve(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "0", "-1", "k", "inf", "nan", "1e9", "5/s"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn processor_lists() {
        let allowed = [0, 1, 2, 5];
        assert_eq!(processors("all", &allowed), Ok(vec![0, 1, 2, 5]));
        assert_eq!(processors("count:2", &allowed), Ok(vec![0, 1]));
        assert_eq!(processors("5,0-1", &allowed), Ok(vec![5, 0, 1]));
        for wrong in [
            "", "3", "0-3", "x", "1,1", "2-1", "count:0", "count:5", "count:x", "0-",
        ] {
            let error = processors(wrong, &allowed).expect_err(wrong);
            assert!(error.contains("[0, 1, 2, 5]"), "{error}");
        }
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
