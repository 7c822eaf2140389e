//! The load generator's parts, by floor; imports point down.
//!
//! ```text
//! 5  commands      what each subcommand does
//!    verify        reads mailboxes back and compares them with ledgers
//! 4  run           threads, the end of a run, adding up
//!    report        tables and JSON
//! 3  engine        one thread's io_uring: moves bytes between connections and dialogues
//! 2  dialogue      each protocol from the client's side, sans-IO: SMTP, LMTP, POP3, IMAP, HTTP, idle
//! 1  message       what is sent: made or real, id, checksum; and how it is recognized again
//!    ledger        what was sent to whom, and what the server said
//!    recorder      counts, histograms, errors
//!    schedule      when operations start, when the run ends
//!    pool          addresses, and who gets a message
//!    target        where the server is, sockets
//!    visible       messages on their way from the 250 to the mailbox
//!    chaos         commands run at intervals
//!    progress      what is seen meanwhile
//!    clock         wall clock, CPU clock
//! 0  cli           flags
//!    choice        draws from weighted choices
//! ```
//!
//! The engine is generic over dialogues, and dialogues take their work from the schedule: an open
//! loop, other protocols and TLS each have one place to go.

pub mod chaos;
pub mod choice;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod dialogue;
pub mod engine;
pub mod ledger;
pub mod message;
pub mod pool;
pub mod progress;
pub mod recorder;
pub mod report;
pub mod run;
pub mod schedule;
pub mod target;
pub mod verify;
pub mod visible;
