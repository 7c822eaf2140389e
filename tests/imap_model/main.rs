//! IMAP against a model: random commands of several sessions on a running server, which is killed in
//! between; every response line is compared with what the simplest possible server would have said.
//!
//! The sessions take turns at the borders of batches of commands, so that what each must be told is
//! known exactly: by its next command, or by IDLE. The [`world`] says what is there, a [`client`] what
//! one session has been told, [`act`] what a command does to both, [`expected`] what the answer is.
//!
//! - `RINGPOST_MODEL_COMMANDS=1000000` sets how many commands are run (default 20000).
//! - `RINGPOST_MODEL_SEED=17` sets what they are. A crash ends a batch wherever it happens to be, so a
//!   seed gives the same commands again, but not the same answers to the last ones before a crash.
//!
//! After a crash whatever was answered must be there; commands that were sent and not answered may
//! have happened, in their order, each as a whole or not at all.
//!
//! That the model bites is tested too: it is lied to in every way that [`tamper`] knows.

#[path = "../support/mod.rs"]
mod support;

mod act;
mod client;
mod command;
mod expected;
mod generate;
mod link;
mod names;
mod response;
mod run;
mod search;
mod sets;
mod tamper;
mod world;

use run::{Plan, Run};
use support::Server;
use tamper::{Fault, Tamper};

/// Nothing that is left to the filesystem is lost when a process is killed, and the order of writes
/// is the same: the store's own simulation takes the power away.
const FLAGS: &[&str] = &["--processors", "0-1", "--sync-level", "0"];

fn number(name: &str, default: u64) -> u64 {
    let wanted = std::env::var(name).ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(default)
}

#[test]
fn no_difference() {
    let mut server = Server::start(FLAGS);
    server.generate(3);
    let plan = Plan {
        seed: number("RINGPOST_MODEL_SEED", 1),
        commands: number("RINGPOST_MODEL_COMMANDS", 20_000),
        first_account: 0,
        accounts: 3,
        sessions: 12,
        crash_every: 2500,
        tamper: None,
    };
    let seed = plan.seed;
    let started = std::time::Instant::now();
    match Run::new(&mut server, plan).go() {
        Err(difference) => panic!("{difference}"),
        Ok(tally) => println!(
            "seed {seed}: {tally:?}, no difference, in {} s",
            started.elapsed().as_secs()
        ),
    }
    server.stop();
}

#[test]
fn every_planted_fault_is_found() {
    let mut server = Server::start(FLAGS);
    server.generate(Fault::ALL.len() as u32);
    let mut survivors = Vec::new();
    for (index, fault) in Fault::ALL.into_iter().enumerate() {
        let tamper = Tamper::new(fault, 3);
        let plan = Plan {
            seed: 1,
            commands: 3000,
            first_account: index,
            accounts: 1,
            sessions: 5,
            crash_every: 0,
            tamper: Some(tamper.clone()),
        };
        let difference = Run::new(&mut server, plan).go();
        match difference {
            Err(text) if tamper.has_fired() => {
                println!("{fault:?}: {}", text.lines().next().unwrap_or_default());
            }
            Err(text) => panic!("a difference without a fault: {text}"),
            Ok(_) => survivors.push((fault, tamper.has_fired())),
        }
    }
    assert!(survivors.is_empty(), "not found: {survivors:?}");
    server.stop();
}
