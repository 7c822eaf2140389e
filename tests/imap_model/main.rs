//! IMAP against a model: random commands of several sessions on a running server, which is killed in
//! between; every response line is compared with what the simplest possible server would have said.
//!
//! The sessions take turns at the borders of batches of commands, so that what each must be told is
//! known exactly: by its next command, or by IDLE. The [`site`] says what is there, a [`client`] what
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
mod packed;
mod race;
mod response;
mod run;
mod search;
mod sets;
mod site;
mod tamper;
mod world;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use race::Racer;
use run::{Plan, Run};
use support::Server;
use tamper::{Fault, Tamper};

const FLAGS: &[&str] = &["--processors", "0-1"];

fn number(name: &str, default: u64) -> u64 {
    let wanted = std::env::var(name).ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Runs on three accounts of a server of its own.
fn differs_nowhere(wide: bool) {
    let mut server = Server::start(FLAGS);
    server.generate(3);
    let plan = Plan {
        seed: number("RINGPOST_MODEL_SEED", 1),
        commands: number("RINGPOST_MODEL_COMMANDS", 20_000),
        first_account: 0,
        accounts: 3,
        sessions: 12,
        crash_every: if wide { 800 } else { 2500 },
        wide,
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
fn no_difference() {
    differs_nowhere(false);
}

/// With mailboxes that are shared, annotations, compressed connections, sessions without message
/// numbers, and thousands of messages in one mailbox.
#[test]
fn no_difference_between_accounts() {
    differs_nowhere(true);
}

#[test]
fn every_planted_fault_is_found() {
    all_are_found(&Fault::PLAIN, false);
}

#[test]
fn every_planted_fault_is_found_between_accounts() {
    all_are_found(&Fault::WIDE, true);
}

fn all_are_found(faults: &[Fault], wide: bool) {
    let mut server = Server::start(FLAGS);
    const SEEDS: usize = 5;
    let accounts = if wide { 2 } else { 1 };
    server.generate(((faults.len() * SEEDS + 1) * accounts) as u32);
    let plan = |run: usize, seed, tamper| Plan {
        seed,
        commands: 3000,
        first_account: run * accounts,
        accounts,
        sessions: 5 * accounts,
        crash_every: 0,
        wide,
        tamper,
    };
    // Without a fault the same commands show no difference.
    let honest = Run::new(&mut server, plan(faults.len() * SEEDS, 1, None)).go();
    if let Err(difference) = honest {
        panic!("{difference}");
    }
    let mut survivors = Vec::new();
    for (index, fault) in faults.iter().enumerate() {
        // One lie may hit what nobody looks at again.
        let found = (0..SEEDS).any(|seed| {
            // What only a wide run is told may come but once.
            let tamper = Tamper::new(*fault, if wide { 0 } else { 3 });
            let own = plan(index * SEEDS + seed, 1 + seed as u64, Some(tamper.clone()));
            let difference = Run::new(&mut server, own).go();
            match difference {
                Err(text) if tamper.has_fired() => {
                    println!("{fault:?}: {}", text.lines().next().unwrap_or_default());
                    true
                }
                Err(text) => panic!("a difference without a fault: {text}"),
                Ok(_) => false,
            }
        });
        if !found {
            survivors.push(fault);
        }
    }
    assert!(survivors.is_empty(), "not found: {survivors:?}");
    server.stop();
}

/// Sessions that race, look at a quiet point, and are killed with the server every other time.
#[test]
fn sessions_that_race_agree_when_it_is_quiet() {
    const RACERS: usize = 6;
    let mut server = Server::start(FLAGS);
    server.generate(1);
    let seed = number("RINGPOST_MODEL_SEED", 1);
    let commands = number("RINGPOST_MODEL_COMMANDS", 20_000) as usize / 100;
    let mut kept: Vec<String> = Vec::new();
    let mut tried: Vec<String> = Vec::new();
    for round in 0..6 {
        let dies = round % 2 == 1;
        let over = AtomicBool::new(false);
        let racers = (0..RACERS).map(|number| Racer::new(server.imap, number, seed * 10 + round));
        let racers: Result<Vec<Racer>, String> = racers.collect();
        let race = |mut racer: Racer| {
            let raced = racer.race(commands, &over);
            if dies && race::is_gone(&raced) {
                return (racer, Ok(()));
            }
            (racer, raced)
        };
        let raced: Vec<(Racer, Result<(), String>)> = std::thread::scope(|scope| {
            let race = &race;
            let racers = racers.expect("all log in").into_iter();
            let racers: Vec<_> = racers
                .map(|racer| scope.spawn(move || race(racer)))
                .collect();
            if dies {
                std::thread::sleep(Duration::from_millis(150 + 37 * (seed + round) % 300));
                server.kill();
                over.store(true, Ordering::Relaxed);
            }
            let ends = racers.into_iter().map(|racer| racer.join());
            ends.map(|racer| racer.expect("a racer ends")).collect()
        });
        let mut views = std::collections::BTreeMap::new();
        for (mut racer, raced) in raced {
            let failed =
                |error: &String, racer: &Racer| panic!("seed {seed}: {error}\n{}", racer.history());
            if let Err(error) = &raced {
                failed(error, &racer);
            }
            kept.append(&mut racer.kept);
            tried.append(&mut racer.tried);
            if dies {
                continue;
            }
            match racer.look() {
                Err(error) => failed(&error, &racer),
                Ok((mailbox, view)) => {
                    let first = views.entry(mailbox).or_insert_with(|| view.clone());
                    assert_eq!(
                        *first, view,
                        "two sessions do not see the same in {mailbox}"
                    );
                }
            }
        }
        if dies {
            server.restart();
        }
        let there = race::subjects(server.imap).expect("all messages");
        for subject in &kept {
            let count = there.get(subject).copied().unwrap_or(0);
            assert_eq!(count, 1, "{subject}, seed {seed}, round {round}");
        }
        for subject in &tried {
            let count = there.get(subject).copied().unwrap_or(0);
            assert!(count < 2, "{subject} is there {count} times");
        }
    }
    assert!(kept.len() > 20, "a race without messages proves nothing");
    server.stop();
}
