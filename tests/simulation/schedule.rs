//! One seed, from an empty disk through a few lives of the store to its last check.
//!
//! A life: recovery, the check of everything owed, clients beside the commit loop and the
//! background task; then a close or the end of the world. Each life has an executor of its own, so
//! nothing of a process outlives it but the disk.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use ringpost::store::disk::Disk;
use ringpost::store::sim::{Crash, Executor, Lie, Outcome, Random, SimDisk, block_on};
use ringpost::store::{Identity, Partition};

use crate::boxes::Boxes;
use crate::delivery::Marked;
use crate::keeper::{Keeper, Life, Place};
use crate::model::Model;
use crate::plan::{Plan, Span, fail_something};
use crate::rot::{Excuse, Hit, Log, Rot};

/// Turns of the executor that no life needs.
const TURNS_MAX: u64 = 3_000_000;

/// What schedules did, for the summary.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub schedules: u64,
    pub lives: u64,
    pub crashes: u64,
    pub cuts: u64,
    pub power_losses: u64,
    pub crashes_in_recovery: u64,
    pub closes: u64,
    pub failures: u64,
    pub refused_starts: u64,
    pub rots: u64,
    pub damages: u64,
    /// Segments made of the files of earlier ones.
    pub recycled: u64,
    pub messages: u64,
    pub writes: u64,
    pub syncs: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.schedules += other.schedules;
        self.lives += other.lives;
        self.crashes += other.crashes;
        self.cuts += other.cuts;
        self.power_losses += other.power_losses;
        self.crashes_in_recovery += other.crashes_in_recovery;
        self.closes += other.closes;
        self.failures += other.failures;
        self.refused_starts += other.refused_starts;
        self.rots += other.rots;
        self.damages += other.damages;
        self.recycled += other.recycled;
        self.messages += other.messages;
        self.writes += other.writes;
        self.syncs += other.syncs;
    }
}

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Trial {
    pub seed: u64,
    /// The drive lies: only to prove that this is noticed.
    pub lie: Option<Lie>,
    /// Steps at which the lives after the first are cut, one after the other, instead of those
    /// drawn from the seed. Nothing but crashes disturbs such a trial.
    pub cuts: Option<Vec<u64>>,
}

struct Schedule {
    trial: Trial,
    /// How many of the trial's cuts were used.
    cuts_used: usize,
    /// Steps that the last whole recovery took.
    recovery_steps: u64,
    plan: Rc<Plan>,
    random: Random,
    disk: SimDisk,
    places: Vec<Rc<Place>>,
    clock: Rc<Cell<u64>>,
    last_id: Rc<Cell<u64>>,
    tally: Tally,
}

/// Runs one trial; panics when a promise is broken. `on_disk` is given the disk before anything
/// happens on it.
pub fn run(trial: &Trial, on_disk: impl FnOnce(&SimDisk)) -> Tally {
    let (seed, lie) = (trial.seed, trial.lie);
    let mut random = Random::new(seed);
    let plan = Rc::new(Plan::draw(
        &mut random,
        lie.is_some() || trial.cuts.is_some(),
    ));
    let disk = SimDisk::new(random.bits());
    on_disk(&disk);
    disk.note(|| format!("{plan:#?}"));
    if let Some(lie) = lie {
        disk.lie(lie);
    }
    disk.set_delay_max(random.below(4));
    if plan.copy_on_write {
        disk.set_copy_on_write();
    }
    let store = Path::new("/store");
    let places: Vec<_> = (0..plan.partitions)
        .map(|partition| {
            Rc::new(Place {
                dir: store.join(format!("p{partition:03x}")),
                identity: Identity {
                    store_id: u128::from(seed) << 64 | 0x5eed,
                    partition,
                },
                model: Rc::new(RefCell::new(Model::new(plan.settings.sync))),
                closed: Cell::new(false),
                excuse: RefCell::new(Excuse::default()),
                damages_reported: Cell::new(0),
                marked: Rc::default(),
                boxes: Rc::default(),
            })
        })
        .collect();
    block_on(async {
        disk.create_dir(store).await.expect("the disk is new");
        disk.sync_dir(Path::new("/")).await.expect("it is there");
        for place in &places {
            Partition::create(disk.clone(), &place.dir, place.identity)
                .await
                .expect("a healthy disk");
        }
        disk.sync_dir(store).await.expect("it is there");
    });
    let mut schedule = Schedule {
        trial: trial.clone(),
        cuts_used: 0,
        recovery_steps: 0,
        plan,
        random,
        disk,
        places,
        clock: Rc::new(Cell::new(1_790_000_000_000)),
        last_id: Rc::new(Cell::new(0)),
        tally: Tally {
            schedules: 1,
            ..Tally::default()
        },
    };
    schedule.run();
    let counts = schedule.disk.counts();
    schedule.tally.failures = counts.failures;
    schedule.tally.messages = schedule.last_id.get();
    schedule.tally.writes = counts.writes;
    schedule.tally.syncs = counts.fdatasyncs + counts.fsyncs;
    schedule.tally
}

impl Schedule {
    fn run(&mut self) {
        // The first life makes the accounts that all clients use, and nothing disturbs that part.
        let rot_before = if self.plan.rots {
            1 + self.random.below(self.plan.lives)
        } else {
            u64::MAX
        };
        for life in 0..self.plan.lives {
            if life == rot_before {
                self.rot();
            }
            let mut attempts = 0;
            loop {
                let cut_short = attempts < 4;
                // Who starts after rot has something to tell, and may not come to it.
                let in_recovery = life == rot_before && attempts == 0;
                let ended = self.live(life, cut_short, in_recovery);
                attempts += 1;
                if ended.served {
                    break;
                }
                assert!(
                    cut_short,
                    "an undisturbed start is refused: {:?}",
                    ended.refused
                );
            }
        }
        // Undisturbed: everything owed is there, and a close leaves nothing to recover.
        if self.plan.lives == rot_before {
            self.rot();
        }
        for _ in 0..2 {
            let ended = self.live(u64::MAX, false, false);
            assert!(ended.closed, "an undisturbed close is refused");
        }
    }

    /// One life, from start to crash or close; `in_recovery`: rather ended by a crash before it
    /// serves.
    fn live(&mut self, number: u64, disturbed: bool, in_recovery: bool) -> Life {
        self.tally.lives += 1;
        let first = number == 0 && !self.places[0].model.borrow().has_accounts();
        let span = if disturbed && !first {
            self.span(in_recovery)
        } else {
            Span::Whole
        };
        let last = number == u64::MAX;
        self.disk
            .note(|| format!("life {number}: {span:?}, disturbed {disturbed}"));
        self.disk.heal();
        if let Span::Cut(step) = span {
            self.disk.crash_at(Some(step));
        }
        if self.plan.fails && disturbed && !first && self.random.one_in(3) {
            fail_something(&self.disk, &mut self.random);
        }
        let executor = Executor::new();
        let lives: Vec<Rc<RefCell<Life>>> = self
            .places
            .iter()
            .map(|place| {
                let life = Rc::new(RefCell::new(Life::default()));
                let closing = last || self.random.one_in(3);
                let keeper = Keeper {
                    place: place.clone(),
                    plan: self.plan.clone(),
                    disk: self.disk.clone(),
                    clock: self.clock.clone(),
                    last_id: self.last_id.clone(),
                    random: self.random.fork(),
                    executor: executor.clone(),
                    life: life.clone(),
                    first,
                    disturbed,
                    closing,
                    last,
                };
                executor.spawn(keeper.keep());
                life
            })
            .collect();
        let done = {
            let (disk, lives) = (self.disk.clone(), lives.clone());
            move || disk.crashed() || lives.iter().all(|life| life.borrow().ended)
        };
        let outcome = executor.run(&mut self.random, TURNS_MAX, done);
        let crashed = self.disk.crashed();
        assert!(
            crashed || outcome == Outcome::Done,
            "the store does not go on: {outcome:?}"
        );
        let mut whole = Life {
            served: true,
            ended: true,
            closed: true,
            ..Life::default()
        };
        for (life, place) in lives.iter().zip(&self.places) {
            let life = life.borrow();
            whole.served &= life.served;
            whole.ended &= life.ended;
            whole.closed &= life.closed;
            whole.damages += life.damages;
            whole.recycled += life.recycled;
            whole.recovery_steps = whole.recovery_steps.max(life.recovery_steps);
            whole.refused = whole.refused.or_else(|| life.refused.clone());
            place.closed.set(life.closed && !crashed);
            place
                .marked
                .borrow_mut()
                .iter_mut()
                .for_each(Marked::forget);
        }
        if whole.recovery_steps > 0 {
            self.recovery_steps = whole.recovery_steps;
        }
        self.tally.damages += whole.damages;
        self.tally.recycled += whole.recycled;
        self.tally.refused_starts += u64::from(whole.refused.is_some());
        self.tally.closes += u64::from(whole.closed);
        self.tally.crashes += u64::from(!whole.closed);
        self.tally.cuts += u64::from(crashed);
        self.tally.crashes_in_recovery += u64::from(crashed && !whole.served);
        self.disk.note(|| format!("{whole:?}"));
        drop(lives);
        drop(executor);
        let crash = if self.random.one_in(3) || last {
            Crash::Process
        } else {
            Crash::Power
        };
        self.disk = self.disk.crash(crash);
        self.tally.power_losses += u64::from(crash == Crash::Power);
        // A sync that fails drops pages: what was at level 0 can go without a loss of power.
        if crash == Crash::Power || self.plan.fails {
            for place in &self.places {
                place.model.borrow_mut().lose_power();
                if self.plan.is_loose() {
                    place
                        .boxes
                        .borrow_mut()
                        .values_mut()
                        .for_each(Boxes::loosen);
                }
            }
        }
        whole
    }

    fn span(&mut self, in_recovery: bool) -> Span {
        let Some(cuts) = &self.trial.cuts else {
            // The end of a recovery is where most happens. It takes about as long as the last did.
            let late = self.random.one_in(if in_recovery { 2 } else { 8 });
            if late && self.recovery_steps > 0 {
                let early = self.recovery_steps / 4;
                let from = self.recovery_steps - early;
                return Span::Cut(1 + from + self.random.below(early + 30));
            }
            return self.plan.span(&mut self.random);
        };
        self.cuts_used += 1;
        match cuts.get(self.cuts_used - 1) {
            Some(step) => Span::Cut(*step),
            None => Span::Whole,
        }
    }

    /// Something rots in one or two places; says what that may cost.
    fn rot(&mut self) {
        let count = 1 + self.random.below(2);
        let rots: Vec<Rot> = (0..count)
            .filter_map(|n| Rot::draw(&self.disk, &mut self.random, n == 0))
            .collect();
        for place in &self.places {
            let hits: Vec<Hit> = rots.iter().filter_map(|rot| rot.hit(&place.dir)).collect();
            let log = Log::take_apart(&self.disk, &place.dir, place.identity);
            *place.excuse.borrow_mut() = log.excuse(&hits);
            place.damages_reported.set(0);
        }
        for rot in rots {
            rot.apply(&self.disk);
            self.tally.rots += 1;
        }
    }
}
