//! The store under crashes: the real code on a disk that loses power, tears, fills up and fails.
//!
//! A *schedule* is what one seed makes of it: a few lives of one or two partitions, each with
//! concurrent clients, each ended by a crash or a close, some with a disk that fills up, fails or
//! flips bits. After each the [`model`] compares what the store shows with what it owes.
//!
//! - `RINGPOST_SIMULATION_SCHEDULES=100000` sets how many seeds are run (default 3000 without
//!   optimizations, 20000 with), `RINGPOST_SIMULATION_FIRST_SEED` the first of them.
//! - `RINGPOST_SIMULATION_SEED=17` runs that one alone and prints all it did.
//!
//! That the simulation bites is tested too: drives that lie are found here, faults planted in the
//! store itself by `tests/mutants/run`.

mod actor;
mod message;
mod model;
mod plan;
mod schedule;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ringpost::store::sim::{Lie, SimDisk};
use schedule::Tally;

/// Lines of the trace shown for a failure.
const TRACE_LINES: usize = 120;

thread_local! {
    /// The last panic's message and place, kept by the hook.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Within the simulation a panic is an answer: it is kept, not printed.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() == Some("simulation") {
                PANIC.with_borrow_mut(|kept| *kept = Some(info.to_string()));
            } else {
                default(info);
            }
        }));
    });
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text}: a whole number is wanted")),
    )
}

/// Runs one seed; the broken promise and the trace if there is one.
fn run_one(seed: u64, lie: Option<Lie>, traced: bool) -> Result<Tally, (String, Vec<String>)> {
    let disk: RefCell<Option<SimDisk>> = RefCell::new(None);
    let result = catch_unwind(AssertUnwindSafe(|| {
        schedule::run(seed, lie, |made| {
            if traced {
                made.start_trace();
                *disk.borrow_mut() = Some(made.clone());
            }
        })
    }));
    let trace = disk
        .borrow()
        .as_ref()
        .map(SimDisk::trace)
        .unwrap_or_default();
    match result {
        Ok(tally) => {
            if traced {
                trace.iter().for_each(|line| println!("{line}"));
            }
            Ok(tally)
        }
        Err(_) => {
            let panic = PANIC.take().unwrap_or_default();
            Err((panic, trace))
        }
    }
}

/// Runs `count` seeds on all processors; ends at the first broken promise.
fn run_many(first: u64, count: u64, lie: Option<Lie>) -> (Tally, Option<(u64, String)>) {
    keep_panics();
    let next = AtomicU64::new(first);
    let end = first + count;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let results: Vec<(Tally, Option<(u64, String)>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let next = &next;
                std::thread::Builder::new()
                    .name("simulation".to_owned())
                    .spawn_scoped(scope, move || {
                        let mut tally = Tally::default();
                        loop {
                            let seed = next.fetch_add(1, Ordering::Relaxed);
                            if seed >= end {
                                return (tally, None);
                            }
                            match run_one(seed, lie, false) {
                                Ok(one) => tally.add(&one),
                                Err((panic, _)) => {
                                    next.store(end, Ordering::Relaxed);
                                    return (tally, Some((seed, panic)));
                                }
                            }
                        }
                    })
                    .expect("a thread can be started")
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("panics are caught inside"))
            .collect()
    });
    let mut tally = Tally::default();
    let mut broken = None;
    for (one, found) in results {
        tally.add(&one);
        broken = broken.or(found);
    }
    (tally, broken)
}

fn fail(seed: u64) -> ! {
    let (panic, trace) = std::thread::Builder::new()
        .name("simulation".to_owned())
        .spawn(move || run_one(seed, None, true))
        .expect("a thread can be started")
        .join()
        .expect("panics are caught inside")
        .err()
        .unwrap_or_else(|| panic!("seed {seed} fails once and not twice: it is not deterministic"));
    let from = trace.len().saturating_sub(TRACE_LINES);
    println!("... {from} lines before");
    trace[from..].iter().for_each(|line| println!("{line}"));
    panic!(
        "a promise is broken by seed {seed}:\n{panic}\n\
         again: RINGPOST_SIMULATION_SEED={seed} cargo test --test simulation promises -- --nocapture"
    );
}

#[test]
fn promises_hold_in_every_schedule() {
    if let Some(seed) = number("RINGPOST_SIMULATION_SEED") {
        keep_panics();
        let result = std::thread::Builder::new()
            .name("simulation".to_owned())
            .spawn(move || run_one(seed, None, true))
            .expect("a thread can be started")
            .join()
            .expect("panics are caught inside");
        if let Err((panic, trace)) = result {
            trace.iter().for_each(|line| println!("{line}"));
            panic!("a promise is broken by seed {seed}:\n{panic}");
        }
        return;
    }
    let default = if cfg!(debug_assertions) {
        3_000
    } else {
        20_000
    };
    let count = number("RINGPOST_SIMULATION_SCHEDULES").unwrap_or(default);
    let first = number("RINGPOST_SIMULATION_FIRST_SEED").unwrap_or(1);
    let start = Instant::now();
    let (tally, broken) = run_many(first, count, None);
    println!("{:.1} s: {tally:#?}", start.elapsed().as_secs_f64());
    if let Some((seed, _)) = broken {
        fail(seed);
    }
    assert_eq!(tally.schedules, count, "every schedule was run");
    // A run that disturbs nothing would prove nothing.
    if count >= 1000 {
        assert!(tally.crashes > count, "{tally:?}");
        assert!(tally.power_losses > count / 2, "{tally:?}");
        assert!(tally.crashes_in_recovery > count / 10, "{tally:?}");
        assert!(tally.failures > count / 20, "{tally:?}");
        assert!(tally.flips > count / 20, "{tally:?}");
        assert!(tally.messages > count * 5, "{tally:?}");
    }
}

/// A lying drive must be found within so many schedules.
const LIES_FOUND_WITHIN: u64 = 2_000;

fn a_lie_is_found(lie: Lie) {
    let (tally, broken) = run_many(1, LIES_FOUND_WITHIN, Some(lie));
    let (seed, panic) =
        broken.unwrap_or_else(|| panic!("{lie:?} went unnoticed in {} schedules", tally.schedules));
    println!("{lie:?} found by seed {seed}: {panic}");
}

#[test]
fn a_sync_left_out_is_found() {
    a_lie_is_found(Lie::NoSync);
}

#[test]
fn an_acknowledgement_before_its_sync_is_found() {
    a_lie_is_found(Lie::LateSync);
}

#[test]
fn a_directory_sync_left_out_is_found() {
    a_lie_is_found(Lie::NoDirectorySync);
}

#[test]
fn the_same_seed_is_the_same_schedule() {
    keep_panics();
    let twice = std::thread::Builder::new()
        .name("simulation".to_owned())
        .spawn(|| {
            [1, 2].map(|_| {
                let mut traces = Vec::new();
                for seed in 1..20 {
                    let mut disk = None;
                    let _ = catch_unwind(AssertUnwindSafe(|| {
                        schedule::run(seed, None, |made| {
                            made.start_trace();
                            disk = Some(made.clone());
                        })
                    }));
                    traces.push(disk.map(|disk| disk.trace()));
                }
                traces
            })
        })
        .expect("a thread can be started")
        .join()
        .expect("panics are caught inside");
    assert!(twice[0] == twice[1], "two runs of one seed differ");
}
