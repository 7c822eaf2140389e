//! Flags of what a run proves beside its figures: when mail can be seen, what survives crashes.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::duration;
use crate::chaos::Hook;
use crate::target::Target;

/// Restarts, hooks, and reading back.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "End to end, and crashes")]
pub struct Real {
    /// Time from the 250 to where a user sees the message: pop3:ADDR:PORT, imap-poll:ADDR:PORT or
    /// imap-idle:ADDR:PORT. A sample of the users is watched; needs --mailbox-password
    #[arg(long, value_name = "WAY", requires = "mailbox_password")]
    pub end_to_end: Option<WatchWay>,
    /// --end-to-end: users that are watched, evenly spread
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub watch_users: u32,
    /// --end-to-end: follow messages instead of watching users, at most so many a second, whoever
    /// gets them: each has a session of its own, begun at its 250. As large a sample, at the same
    /// cost, of ten users and of a million
    #[arg(long, value_name = "PER_SECOND", value_parser = super::rate, conflicts_with = "watch_users")]
    pub watch_messages: Option<f64>,
    /// --end-to-end by pop3 or imap-poll: from one look at a mailbox to the next
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub poll_every: Duration,
    /// The server will be killed and restarted: broken and refused connections are pauses, counted
    /// apart and no errors; messages are sent until they are acknowledged
    #[arg(long)]
    pub expect_restarts: bool,
    /// Run a command by `sh -c` at intervals during the run: 'COMMAND every TIME [jitter TIME]', as
    /// in 'kill -9 $(cat pid) every 10s jitter 3s'; may be given several times
    #[arg(long, value_name = "HOOK")]
    pub chaos: Vec<Hook>,
    /// After the run, read every mailbox of --ledger back, as `loadgen verify` does:
    /// pop3:ADDR:PORT or imap:ADDR:PORT
    #[arg(
        long,
        value_name = "WAY",
        requires = "mailbox_password",
        requires = "ledger"
    )]
    pub verify: Option<ReadWay>,
    /// --end-to-end, --verify: password of all users
    #[arg(long, value_name = "PASSWORD")]
    pub mailbox_password: Option<String>,
    /// --end-to-end, --verify: login name; {address}, {local} and {domain} are replaced
    #[arg(long, default_value = "{address}", value_name = "PATTERN")]
    pub mailbox_user_pattern: String,
}

/// How mailboxes are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchWay {
    /// A session at intervals.
    Pop3(Target),
    /// NOOP at intervals.
    ImapPoll(Target),
    /// IDLE.
    ImapIdle(Target),
}

impl WatchWay {
    /// Where.
    pub fn target(&self) -> &Target {
        match self {
            WatchWay::Pop3(target) | WatchWay::ImapPoll(target) | WatchWay::ImapIdle(target) => {
                target
            }
        }
    }
}

impl FromStr for WatchWay {
    type Err = String;

    fn from_str(text: &str) -> Result<WatchWay, String> {
        match text.split_once(':') {
            Some(("pop3", target)) => target.parse().map(WatchWay::Pop3),
            Some(("imap-poll", target)) => target.parse().map(WatchWay::ImapPoll),
            Some(("imap-idle", target)) => target.parse().map(WatchWay::ImapIdle),
            _ => Err("wanted is pop3:, imap-poll: or imap-idle: and ADDR:PORT".to_owned()),
        }
    }
}

/// How mailboxes are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadWay {
    /// POP3.
    Pop3(Target),
    /// IMAP.
    Imap(Target),
}

impl FromStr for ReadWay {
    type Err = String;

    fn from_str(text: &str) -> Result<ReadWay, String> {
        match text.split_once(':') {
            Some(("pop3", target)) => target.parse().map(ReadWay::Pop3),
            Some(("imap", target)) => target.parse().map(ReadWay::Imap),
            _ => Err("wanted is pop3: or imap: and ADDR:PORT".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_as_written() {
        let target: Target = "127.0.0.1:110".parse().expect("an address");
        assert_eq!(
            "pop3:127.0.0.1:110".parse(),
            Ok(ReadWay::Pop3(target.clone()))
        );
        assert_eq!(
            "imap-idle:127.0.0.1:110".parse(),
            Ok(WatchWay::ImapIdle(target))
        );
        for wrong in ["127.0.0.1:110", "imap", "smtp:127.0.0.1:25"] {
            assert!(wrong.parse::<WatchWay>().is_err(), "{wrong}");
            assert!(wrong.parse::<ReadWay>().is_err(), "{wrong}");
        }
    }
}
