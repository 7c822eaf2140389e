//! `loadgen`: drives mail servers, measures them, and proves that nothing was lost.
//!
//! Exit status: 0 all went well; 1 it ran, and something was refused, broken, missing, doubled or
//! corrupt; 2 it could not run as asked.

use std::process::ExitCode;

use clap::Parser as _;
use loadgen::cli::{Cli, Command};
use loadgen::{commands, compare, knee, mix, scenario, series, verify};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let result = match &Cli::parse().command {
        Command::Smtp(flags) => commands::mail::smtp(flags),
        Command::Lmtp(flags) => commands::mail::lmtp(flags),
        Command::Submission(flags) => commands::mail::submission(flags),
        Command::Merge(flags) => commands::merge::merge(flags),
        Command::Knee(flags) => knee::knee(flags),
        Command::Pop3(flags) => commands::pop3(flags),
        Command::Imap(flags) => commands::imap::imap(flags),
        Command::Idle(flags) => commands::idle_sessions::idle(flags),
        Command::Mix(flags) => mix::mix(flags),
        Command::Scenario(flags) => scenario::scenario(flags),
        Command::Sink(flags) => commands::sink::sink(flags),
        Command::Http(flags) => commands::http::http(flags),
        Command::Verify(flags) => verify::verify(flags),
        Command::IdleConnections(flags) => commands::idle_connections(flags),
        Command::Run(flags) => series::series(flags),
        Command::Compare(flags) => compare::compare(flags),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            eprintln!("loadgen: {why}");
            ExitCode::from(2)
        }
    }
}
