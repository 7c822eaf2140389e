//! Looks after one partition for one life: start, check, clients, trouble, close.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;

use ringpost::store::sim::{Executor, Random, SimDisk, yield_now};
use ringpost::store::{
    Account, Health, Identity, OpenError, Partition, RecoveryReport, StoreError,
};

use crate::actor::{Client, address};
use crate::boxes::{self, Boxes};
use crate::delivery::Marked;
use crate::message::identify;
use crate::model::recovered::Found;
use crate::model::{Model, Shown};
use crate::plan::{Plan, fail_something};
use crate::rot::Excuse;

/// How far a life came.
#[derive(Debug, Clone, Default)]
pub struct Life {
    /// Steps of the disk that the recovery took, if it came to its end.
    pub recovery_steps: u64,
    /// Recovered and checked.
    pub served: bool,
    /// The start was refused.
    pub refused: Option<String>,
    /// All clients are done, and so is the close if there was one.
    pub ended: bool,
    /// The close was acknowledged.
    pub closed: bool,
    pub damages: u64,
    /// Segments made of the files of earlier ones.
    pub recycled: u64,
}

/// One partition and what is known of it.
pub struct Place {
    pub dir: PathBuf,
    pub identity: Identity,
    pub model: Rc<RefCell<Model>>,
    /// Closed without a crash since: the next start is a clean one.
    pub closed: Cell<bool>,
    /// What was hit since the last check, and damages reported since then.
    pub excuse: RefCell<Excuse>,
    pub damages_reported: Cell<u64>,
    pub marked: Rc<RefCell<Vec<Marked>>>,
    /// See [`Client::boxes`].
    pub boxes: Rc<RefCell<BTreeMap<u64, Boxes>>>,
}

/// Looks after one partition for one life.
pub struct Keeper {
    pub place: Rc<Place>,
    pub plan: Rc<Plan>,
    pub disk: SimDisk,
    pub clock: Rc<Cell<u64>>,
    pub last_id: Rc<Cell<u64>>,
    pub random: Random,
    pub executor: Executor,
    pub life: Rc<RefCell<Life>>,
    pub first: bool,
    pub disturbed: bool,
    pub closing: bool,
    pub last: bool,
}

impl Keeper {
    /// The whole life, to be spawned.
    pub async fn keep(mut self) {
        let first_step = self.disk.steps();
        let opened = Partition::open(
            self.disk.clone(),
            &self.place.dir,
            self.place.identity,
            self.plan.settings.clone(),
            self.clock.get(),
            |progress| assert!(progress.done_bytes <= progress.total_bytes),
        )
        .await;
        let (partition, report) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.refused(&error);
                return;
            }
        };
        self.life.borrow_mut().recovery_steps = self.disk.steps() - first_step;
        self.disk.note(|| format!("{report:?}"));
        let reported = self.place.damages_reported.get() + report.damage.len() as u64;
        self.place.damages_reported.set(reported);
        self.check(&partition, &report).await;
        {
            let mut life = self.life.borrow_mut();
            life.served = true;
            life.damages = report.damage.len() as u64;
        }
        let client = Client {
            partition: partition.clone(),
            disk: self.disk.clone(),
            model: self.place.model.clone(),
            plan: self.plan.clone(),
            clock: self.clock.clone(),
            last_id: self.last_id.clone(),
            marked: self.place.marked.clone(),
            boxes: self.place.boxes.clone(),
        };
        self.executor.spawn(partition.clone().run());
        let clock = self.clock.clone();
        self.executor
            .spawn(partition.clone().background(move || clock.get()));
        if self.first {
            self.make_accounts(&client).await;
        }
        self.serve(&client).await;
        self.life.borrow_mut().recycled = partition.probe().segments_recycled.get();
        let mut closed = false;
        if self.closing {
            let answer = partition.close().await;
            self.disk.note(|| format!("close: {answer:?}"));
            match answer {
                Ok(()) => closed = true,
                Err(error) => assert!(
                    self.plan.fails || self.plan.fills_up,
                    "a close failed by itself: {error}"
                ),
            }
        }
        let mut life = self.life.borrow_mut();
        life.closed = closed;
        life.ended = true;
    }

    /// A start may be refused only where something failed, and must leave everything as it was.
    fn refused(&self, error: &OpenError) {
        let excused = match error {
            OpenError::Io { .. } => self.plan.fails && self.disturbed,
            OpenError::Newer { .. } | OpenError::Foreign { .. } => false,
        };
        assert!(excused, "a start is refused: {error}");
        let mut life = self.life.borrow_mut();
        life.refused = Some(error.to_string());
        life.ended = true;
    }

    /// Everything owed is there, and nothing else.
    async fn check(&self, partition: &Partition<SimDisk>, report: &RecoveryReport) {
        if self.place.closed.get() && report.damage.is_empty() {
            assert!(report.clean, "a clean close was not recognized");
        }
        if self.place.closed.get() && !self.plan.rots && !self.plan.fails {
            let damage = &report.damage;
            assert!(damage.is_empty(), "damage after a clean close: {damage:?}");
        }
        if !self.plan.rots && !self.plan.fails && !self.plan.is_loose() {
            for damage in &report.damage {
                assert!(
                    !damage.acknowledged,
                    "crashes alone look like corruption: {damage:?}"
                );
            }
        }
        let mut accounts: BTreeMap<_, Account> = BTreeMap::new();
        partition.for_each_account(|account| {
            let old = accounts.insert(account.address.clone(), account.clone());
            assert!(old.is_none(), "account {} twice", account.address);
        });
        let mut keys = BTreeMap::new();
        partition.for_each_key(b"client", |key, value| {
            keys.insert(key.to_vec(), value.to_vec());
        });
        let mut mail = BTreeMap::new();
        let boxes: BTreeSet<_> = {
            let boxes = self.place.boxes.borrow();
            boxes.values().map(|own| own.address.clone()).collect()
        };
        for address in accounts.keys().filter(|address| !boxes.contains(address)) {
            let (validity, infos) = partition
                .inbox(address)
                .unwrap_or_else(|error| panic!("{address}: {error}"));
            let mut shown: Shown = Vec::new();
            for info in infos {
                let id = loop {
                    let result = partition
                        .read(address, info.uid, 0, info.bytes as usize)
                        .await;
                    match result {
                        Ok(bytes) => {
                            break Some(identify(&bytes).unwrap_or_else(|reason| {
                                panic!("{address} UID {}: {reason}", info.uid)
                            }));
                        }
                        // Reads fail at random: the next one will do.
                        Err(StoreError::Read(_)) if self.plan.fails => {}
                        Err(StoreError::Damaged(reason) | StoreError::Read(reason)) => {
                            assert!(self.plan.rots, "damaged by itself: {reason}");
                            break None;
                        }
                        Err(error) => panic!("{address} UID {}: {error}", info.uid),
                    }
                };
                shown.push((info, id));
            }
            mail.insert(address.clone(), (validity, shown));
        }
        let found = Found {
            accounts,
            keys,
            mail,
            damages_reported: self.place.damages_reported.get(),
        };
        let told = self.plan.rots && found.damages_reported > 0;
        let numbers: Vec<u64> = self.place.boxes.borrow().keys().copied().collect();
        for number in numbers {
            // Kept there while it is looked at: should the world end now, it is as it was.
            let known = self.place.boxes.borrow_mut().remove(&number);
            let Some(mut known) = known else { continue };
            let kept = known.clone();
            self.place.boxes.borrow_mut().insert(number, kept);
            let (fails, rots) = (self.plan.fails, self.plan.rots);
            let how = (fails, rots, told, self.plan.is_loose());
            boxes::check_recovered(partition, &mut known, how).await;
            self.place.boxes.borrow_mut().insert(number, known);
        }
        // From now on everything is as it was found: what is lost later has no excuse.
        let excuse = self.place.excuse.take();
        let mut model = self.place.model.borrow_mut();
        model.check_recovered(&found, &excuse);
        let mut marked = self.place.marked.borrow_mut();
        marked.retain(|delivery| !delivery.is_hit(&excuse));
    }

    async fn make_accounts(&self, client: &Client) {
        for number in 0..self.plan.clients {
            let address = address(&format!("boxes{number}"));
            let account = Account {
                address: address.clone(),
                password_hash: format!("{}/0", client.next_id()),
                quota_bytes: 0,
            };
            let made = client.partition.create_account(account.clone()).await;
            made.unwrap_or_else(|error| panic!("{address}: {error}"));
            let mut model = self.place.model.borrow_mut();
            model.account(&address).begin(Some(account));
            model.account(&address).acknowledge();
            let mut boxes = self.place.boxes.borrow_mut();
            boxes.insert(number, Boxes::new(address));
        }
        for address in &self.plan.shared {
            let account = Account {
                address: address.clone(),
                password_hash: format!("{}/0", client.next_id()),
                quota_bytes: 0,
            };
            client
                .partition
                .create_account(account.clone())
                .await
                .unwrap_or_else(|error| panic!("{address}: {error}"));
            let mut model = self.place.model.borrow_mut();
            model.account(address).begin(Some(account));
            model.account(address).acknowledge();
        }
    }

    /// Clients come, trouble comes, clients go.
    async fn serve(&mut self, client: &Client) {
        let mut tasks = Vec::new();
        for number in 0..self.plan.clients {
            let requests = 1 + self.random.below(self.plan.requests_max);
            let work = client.clone().work(self.random.fork(), number, requests);
            tasks.push(self.executor.spawn(work));
        }
        // While one partition makes the accounts that all clients use, nothing disturbs another.
        let others_begin = self.first && self.plan.partitions > 1;
        if self.disturbed && !others_begin && self.plan.fills_up && self.random.one_in(2) {
            for _ in 0..self.random.below(100) {
                yield_now().await;
            }
            let left = self.random.below(3 * self.plan.settings.segment_bytes);
            let capacity = self.disk.used_bytes() + left;
            self.disk.note(|| format!("capacity {capacity}"));
            self.disk.set_capacity(Some(capacity));
        }
        if self.disturbed && !self.first && self.plan.fails && self.random.one_in(2) {
            for _ in 0..self.random.below(100) {
                yield_now().await;
            }
            fail_something(&self.disk, &mut self.random);
        }
        if self.closing && !self.last && self.plan.closes_early {
            for _ in 0..self.random.below(200) {
                yield_now().await;
            }
            // The clients are still at it; they are told that the partition closes.
            return;
        }
        for task in tasks {
            task.join().await;
        }
        // Where nothing can be reserved, a full disk ends everything but reading.
        if self.plan.fills_up && self.disturbed && !self.plan.copy_on_write {
            self.check_full(client).await;
        }
    }

    /// On a full disk reads and expunges work; with space again, deliveries do.
    async fn check_full(&mut self, client: &Client) {
        let target = self.plan.shared[0].clone();
        // At level 0 a loss of power can take accounts back.
        if self.place.model.borrow().incarnation(&target).is_none() {
            return;
        }
        let mut random = self.random.fork();
        assert!(
            !matches!(client.partition.health(), Health::ReadOnly(_)),
            "a full disk turned the store read-only"
        );
        let _ = client.look(&mut random, &target).await;
        self.expunge_one(client, &target).await;
        for _ in 0..200 {
            // Again and again: the keeper of another partition may be filling the same disk.
            self.disk.set_capacity(None);
            let before = self.last_id.get();
            let _ = client.deliver(&mut random, vec![target.clone()]).await;
            let mut sent = before + 1..=self.last_id.get();
            let taken = sent.any(|id| client.model.borrow().is_owed(&target, id));
            if taken {
                return;
            }
            // Free space is looked at now and then.
            self.clock.set(self.clock.get() + 500);
            for _ in 0..20 {
                yield_now().await;
            }
        }
        panic!("no mail is taken although there is space again");
    }

    async fn expunge_one(&self, client: &Client, target: &ringpost::mail::Address) {
        let Some(incarnation) = client.model.borrow().incarnation(target) else {
            return;
        };
        let Ok((validity, infos)) = client.partition.inbox(target) else {
            return;
        };
        let Some((uid, id)) = infos.iter().find_map(|info| {
            let id = client.model.borrow().known(target, validity, info.uid)?;
            Some((info.uid, id))
        }) else {
            return;
        };
        client
            .model
            .borrow_mut()
            .begin_expunge(target, incarnation, id);
        let answer = client
            .partition
            .expunge(target, &[uid], self.clock.get())
            .await;
        assert!(answer.is_ok(), "an expunge on a full disk: {answer:?}");
        client
            .model
            .borrow_mut()
            .acknowledge_expunge(target, incarnation, id);
    }
}
