//! The load generator's parts, by floor; imports point down.
//!
//! ```text
//! 7  scenario      the documents' targets, with verdicts
//!    mix           a population of users, judged at shares of its rated load
//! 6  steps         runs of `loadgen` itself, which these are made of
//! 5  commands      what each subcommand does
//!    knee          searches the highest rate that keeps a promise
//!    verify        reads mailboxes back and compares them with ledgers
//!    sink          a server that takes mail and counts it
//!    series        runs as files describe them, in turns
//!    compare       runs side by side, and which differences are real
//! 4  run           threads, the end of a run, adding up
//!    verdict       was the generator the bottleneck?
//!    report        tables and JSON
//!    page          reports to look at
//! 3  engine        one thread's io_uring: moves bytes between connections and dialogues
//! 2  dialogue      each protocol from the client's side, sans-IO: SMTP, LMTP, POP3, IMAP, HTTP,
//!                  idle; TLS
//!    chart         lines and heat maps as SVG
//!    progress      what is seen meanwhile
//!    results       a run's folder: written while it goes on, read back
//! 1  message       what is sent: made or real, id, checksum; and how it is recognized again
//!    ledger        what was sent to whom, and what the server said
//!    observe       who watches a run: the display, logs, the folder of results
//!    recorder      counts and times what happens on one thread
//!    interval      what was counted and timed: adds up, travels
//!    sample        what processes and servers use meanwhile
//!    machine       what the run was made on
//!    schedule      when operations start, when the run ends
//!    pool          addresses, and who gets a message
//!    task          what this process does of a run
//!    target        where the server is, sockets
//!    sasl          proving who one is
//!    tls           certificates that are trusted, sessions that are resumed
//!    visible       messages on their way from the 250 to the mailbox
//!    chaos         commands run at intervals
//!    clock         wall clock, CPU clock
//! 0  cli           flags
//!    choice        draws from weighted choices
//!    say           standard output
//! ```
//!
//! The engine is generic over dialogues, and dialogues take their work from the schedule: an open
//! loop and other protocols each have one place to go. TLS wraps a dialogue; without it, nothing of
//! it is in the way.

pub mod chaos;
pub mod chart;
pub mod choice;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod compare;
pub mod dialogue;
pub mod engine;
pub mod interval;
pub mod knee;
pub mod ledger;
pub mod machine;
pub mod message;
pub mod mix;
pub mod observe;
pub mod page;
pub mod pool;
pub mod progress;
pub mod recorder;
pub mod report;
pub mod results;
pub mod run;
pub mod sample;
pub mod sasl;
pub mod say;
pub mod scenario;
pub mod schedule;
pub mod series;
pub mod sink;
pub mod steps;
pub mod target;
pub mod task;
pub mod tls;
pub mod verdict;
pub mod verify;
pub mod visible;
