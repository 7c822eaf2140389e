//! The targets themselves, with the documents' figures, and what all ways to measure them share.

use super::{Reached, Target, direct, relay};
use crate::cli::scenario::Scenario;
use crate::steps::{Obstacle, Ran, words};

/// T1 to T12.
pub const TARGETS: &[Target] = &[
    Target {
        id: "T1",
        title: "local queue",
        figure: "200 queued local deliveries drained in 1-2 s by 10 processors [C1]",
        needs: &["--smtp", "--pop3"],
        run: direct::local_queue,
    },
    Target {
        id: "T2",
        title: "POP3 of a large site",
        figure: "100,000 users who check twice in 12 h, 15 s each: 4.6 sessions/s, about 70 at a \
                 time [C8]",
        needs: &["--pop3"],
        run: direct::pop3_site,
    },
    Target {
        id: "T3",
        title: "IMAP channels",
        figure: "10,000 open at once [C5]",
        needs: &["--imap"],
        run: direct::imap_channels,
    },
    Target {
        id: "T4",
        title: "outbound SMTP",
        figure: "above 50 messages/s, up to 500 channels, messages over 20 KB [C3]",
        needs: &["--relay", "--sink"],
        run: relay::outbound,
    },
    Target {
        id: "T5",
        title: "web sessions",
        figure: "3,000 sessions over 100 HTTP connections [C10]",
        needs: &["--web"],
        run: direct::web_sessions,
    },
    Target {
        id: "T6",
        title: "SIP signalling",
        figure: "100 calls/s per CPU [C11]",
        needs: &[],
        run: direct::sip,
    },
    Target {
        id: "T7",
        title: "memory of IMAP sessions",
        figure: "at most 50 KiB per connection (1-2 MiB elsewhere) [I7]",
        needs: &["--imap", "--pid"],
        run: direct::imap_memory,
    },
    Target {
        id: "T8",
        title: "a small ISP",
        figure: "12,000 users on one small machine, at half its capacity [I3]",
        needs: &["--smtp", "--pop3"],
        run: direct::small_isp,
    },
    Target {
        id: "T9",
        title: "ports",
        figure: "1,500 addresses and 500 POP3 users without running out of ports [M1]",
        needs: &["--smtp", "--pop3"],
        run: direct::port_use,
    },
    Target {
        id: "T10",
        title: "queue throttle",
        figure: "more than 2,000 messages queued: nothing lost, the backlog drains [N16]",
        needs: &["--relay", "--sink"],
        run: relay::throttle,
    },
    Target {
        id: "T11",
        title: "long connections, long lists",
        figure: "one connection sends 1,000 messages; one message has 100,000 recipients [N15]",
        needs: &["--smtp"],
        run: direct::long_ones,
    },
    Target {
        id: "T12",
        title: "start with a full queue",
        figure: "20,000 deferred messages at start-up: ready within a second [N1]",
        needs: &["--relay", "--sink", "--stop", "--start"],
        run: relay::full_queue,
    },
];

/// What a scenario comes to.
pub(super) type Measured = Result<Reached, Obstacle>;

pub(super) fn run(flags: &Scenario, words: &[String]) -> Result<Ran, Obstacle> {
    crate::steps::run(&flags.processors, words)
}

pub(super) fn seconds(flags: &Scenario) -> String {
    format!("{}ms", flags.time.as_millis())
}

/// Flags that name the users.
pub(super) fn users(flags: &Scenario, count: usize) -> String {
    format!(
        "--users {} --prefix {} --domain {}",
        count.min(flags.users),
        flags.prefix,
        flags.domain
    )
}

pub(super) fn with_password(flags: &Scenario, text: &str, flag: &str) -> Vec<String> {
    let mut words = words(text);
    words.extend([flag.to_owned(), flags.password.clone()]);
    words
}

/// Notes of a run: the command, its errors.
pub(super) fn note(reached: &mut Reached, ran: &Ran) {
    reached.commands.push(ran.command.clone());
    if let Some(errors) = ran.errors() {
        reached.notes.push(format!("errors: {errors}"));
    }
}

pub(super) fn p(ran: &Ran, verb: &str, which: &str) -> f64 {
    ran.number(&["verbs", verb, which]) / 1e6
}

/// Says, of a service that was not named, that Ringpost would not have it.
pub(super) fn missing<T>(
    found: Result<T, Obstacle>,
    unnamed: bool,
    what: &str,
) -> Result<T, Obstacle> {
    found.map_err(|obstacle| match obstacle {
        Obstacle::Absent(why) if unnamed => {
            Obstacle::Absent(format!("{why} (Ringpost has no {what} yet)"))
        }
        other => other,
    })
}
