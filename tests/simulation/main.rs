//! The store under crashes: the real code on a disk that loses power, tears, fills up and fails.
//!
//! A *schedule* is what one seed makes of it: a few lives of one or two partitions, each with
//! concurrent clients, each ended by a crash or a close, some with a disk that fills up, fails or
//! flips bits. After each the [`model`] compares what the store shows with what it owes.
//!
//! - `RINGPOST_SIMULATION_SCHEDULES=100000` sets how many seeds are run (default 1500 without
//!   optimizations, 20000 with), `RINGPOST_SIMULATION_FIRST_SEED` the first of them.
//! - `RINGPOST_SIMULATION_SEED=17` runs that one alone and prints all it did; with
//!   `RINGPOST_SIMULATION_CUTS=40,7` its lives are cut at these steps.
//! - `RINGPOST_SIMULATION_SURVEY=1` does not stop at the first broken promise.
//!
//! That the simulation bites is tested too: drives that lie are found here, faults planted in the
//! store itself by `tests/mutants/run`.

mod actor;
mod boxes;
mod delivery;
mod keeper;
mod message;
mod model;
mod plan;
mod register;
mod rot;
mod schedule;
mod space;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ringpost::store::sim::{Lie, SimDisk};
use schedule::{Tally, Trial};

/// Lines of the trace shown for a failure.
const TRACE_LINES: usize = 120;

/// What happened on a disk, line by line.
type Trace = Vec<String>;

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

/// The trial's cuts as `RINGPOST_SIMULATION_CUTS` has them.
fn cuts_from_environment() -> Option<Vec<u64>> {
    let text = std::env::var("RINGPOST_SIMULATION_CUTS").ok()?;
    let cuts = text.split(',').map(|step| {
        step.parse()
            .unwrap_or_else(|_| panic!("RINGPOST_SIMULATION_CUTS={text}: steps as 40,7 are wanted"))
    });
    Some(cuts.collect())
}

/// Runs one trial; the broken promise and the trace if there is one.
fn run_one(trial: &Trial, traced: bool) -> Result<(Tally, Trace), (String, Trace)> {
    let disk: RefCell<Option<SimDisk>> = RefCell::new(None);
    let result = catch_unwind(AssertUnwindSafe(|| {
        schedule::run(trial, |made| {
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
        Ok(tally) => Ok((tally, trace)),
        Err(_) => Err((PANIC.take().unwrap_or_default(), trace)),
    }
}

/// Runs trials on all processors; ends at the first broken promise.
///
/// With `RINGPOST_SIMULATION_SURVEY` set it goes on, and prints every one in a line.
fn run_many(count: u64, trial: impl Fn(u64) -> Trial + Sync) -> (Tally, Option<(Trial, String)>) {
    keep_panics();
    let survey = std::env::var_os("RINGPOST_SIMULATION_SURVEY").is_some();
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let results: Vec<(Tally, Option<(Trial, String)>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let (next, trial) = (&next, &trial);
                std::thread::Builder::new()
                    .name("simulation".to_owned())
                    .spawn_scoped(scope, move || {
                        let mut tally = Tally::default();
                        let mut broken = None;
                        loop {
                            let index = next.fetch_add(1, Ordering::Relaxed);
                            if index >= count {
                                return (tally, broken);
                            }
                            let trial = trial(index);
                            match run_one(&trial, false) {
                                Ok((one, _)) => tally.add(&one),
                                Err((panic, _)) => {
                                    if survey {
                                        println!("{trial:?}: {}", panic.replace('\n', " "));
                                    } else {
                                        next.store(count, Ordering::Relaxed);
                                    }
                                    broken = broken.or(Some((trial, panic)));
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

/// Runs one trial on a thread of its own, traced.
fn run_traced(trial: &Trial) -> Result<(Tally, Trace), (String, Trace)> {
    keep_panics();
    let trial = trial.clone();
    std::thread::Builder::new()
        .name("simulation".to_owned())
        .spawn(move || run_one(&trial, true))
        .expect("a thread can be started")
        .join()
        .expect("panics are caught inside")
}

/// Prints how a promise was broken, and ends the test.
fn fail(trial: &Trial) -> ! {
    let Err((panic, trace)) = run_traced(trial) else {
        panic!("{trial:?} fails once and not twice: it is not deterministic");
    };
    let from = trace.len().saturating_sub(TRACE_LINES);
    println!("... {from} lines before");
    trace[from..].iter().for_each(|line| println!("{line}"));
    let cuts = trial.cuts.as_ref().map_or(String::new(), |cuts| {
        let cuts: Vec<String> = cuts.iter().map(u64::to_string).collect();
        format!("RINGPOST_SIMULATION_CUTS={} ", cuts.join(","))
    });
    panic!(
        "a promise is broken by {trial:?}:\n{panic}\n\
         again: RINGPOST_SIMULATION_SEED={} {cuts}\
         cargo test --test simulation promises -- --nocapture",
        trial.seed
    );
}

#[test]
fn promises_hold_in_every_schedule() {
    if let Some(seed) = number("RINGPOST_SIMULATION_SEED") {
        let result = run_traced(&Trial {
            seed,
            cuts: cuts_from_environment(),
            ..Trial::default()
        });
        let (Ok((_, trace)) | Err((_, trace))) = &result;
        trace.iter().for_each(|line| println!("{line}"));
        if let Err((panic, _)) = result {
            panic!("a promise is broken by seed {seed}:\n{panic}");
        }
        return;
    }
    let default = if cfg!(debug_assertions) {
        1_500
    } else {
        20_000
    };
    let count = number("RINGPOST_SIMULATION_SCHEDULES").unwrap_or(default);
    let first = number("RINGPOST_SIMULATION_FIRST_SEED").unwrap_or(1);
    let start = Instant::now();
    let (tally, broken) = run_many(count, |index| Trial {
        seed: first + index,
        ..Trial::default()
    });
    println!("{:.1} s: {tally:#?}", start.elapsed().as_secs_f64());
    if let Some((trial, _)) = broken {
        fail(&trial);
    }
    assert_eq!(tally.schedules, count, "every schedule was run");
    // A run that disturbs nothing would prove nothing.
    if count >= 1000 {
        assert!(tally.crashes > count, "{tally:?}");
        assert!(tally.power_losses > count / 2, "{tally:?}");
        assert!(tally.crashes_in_recovery > count / 10, "{tally:?}");
        assert!(tally.failures > count / 20, "{tally:?}");
        assert!(tally.rots > count / 20, "{tally:?}");
        assert!(tally.messages > count * 5, "{tally:?}");
        assert!(tally.recycled > count / 100, "{tally:?}");
    }
}

/// A lying drive must be found within so many schedules.
const LIES_FOUND_WITHIN: u64 = 2_000;

fn a_lie_is_found(lie: Lie) {
    let (tally, broken) = run_many(LIES_FOUND_WITHIN, |seed| Trial {
        seed,
        lie: Some(lie),
        cuts: None,
    });
    let (trial, panic) =
        broken.unwrap_or_else(|| panic!("{lie:?} went unnoticed in {} schedules", tally.schedules));
    println!("{lie:?} found by {trial:?}: {panic}");
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
fn every_step_of_a_life_can_be_its_last() {
    let cut_at = |cuts: &[u64], seed| Trial {
        seed,
        cuts: Some(cuts.to_vec()),
        ..Trial::default()
    };
    // A life that is long enough to have everything in it and short enough to be cut everywhere.
    let length = |seed| {
        (1..64).map(|n| n * 32).find(|step| {
            run_traced(&cut_at(&[*step], seed)).map_or(0, |(tally, _)| tally.cuts) == 0
        })
    };
    let (seed, steps) = (1..200)
        .filter_map(|seed| Some((seed, length(seed)?)))
        .find(|(_, steps)| (96..640).contains(steps))
        .expect("some life has this length");
    let (tally, broken) = run_many(steps, |step| cut_at(&[step + 1], seed));
    println!("{steps} steps: {tally:?}");
    if let Some((trial, _)) = broken {
        fail(&trial);
    }
    assert!(tally.cuts + 32 >= steps);
    // Cut once, then again at every step of the recovery from that.
    let (tally, broken) = run_many(steps / 8 * 40, |index| {
        cut_at(&[index / 40 * 8 + 1, index % 40 + 1], seed)
    });
    println!("{tally:?}");
    if let Some((trial, _)) = broken {
        fail(&trial);
    }
    assert!(tally.crashes_in_recovery > steps);
}

#[test]
fn the_same_seed_is_the_same_schedule() {
    keep_panics();
    let traces = || {
        (1..20)
            .map(|seed| {
                let trial = Trial {
                    seed,
                    ..Trial::default()
                };
                let mut made = None;
                let ended = catch_unwind(AssertUnwindSafe(|| {
                    schedule::run(&trial, |disk| {
                        disk.start_trace();
                        made = Some(disk.clone());
                    })
                }));
                (ended.is_ok(), made.map(|disk| disk.trace()))
            })
            .collect::<Vec<_>>()
    };
    assert!(traces() == traces(), "two runs of one seed differ");
}
