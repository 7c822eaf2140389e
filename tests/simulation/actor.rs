//! Clients of a partition: each makes a few requests, one after the other, beside the others.
//!
//! What they ask, what they are told and what they see goes into the [`Model`], which panics when
//! a promise is broken. They stop at the first answer that ends this life of the store.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use ringpost::mail::Address;
use ringpost::store::sim::{Random, SimDisk, yield_now};
use ringpost::store::{Account, AccountChange, MessageInfo, Partition, StoreError};

use crate::boxes::Boxes;
use crate::delivery::Marked;
use crate::message::{content, identify};
use crate::model::{Incarnation, Model};
use crate::plan::{Plan, Request};

/// What all clients of one partition share.
#[derive(Clone)]
pub struct Client {
    pub partition: Rc<Partition<SimDisk>>,
    pub disk: SimDisk,
    pub model: Rc<RefCell<Model>>,
    pub plan: Rc<Plan>,
    /// Milliseconds since 1970.
    pub clock: Rc<Cell<u64>>,
    /// The last number given to a message or an incarnation.
    pub last_id: Rc<Cell<u64>>,
    /// Deliveries with a mark, over all lives.
    pub marked: Rc<RefCell<Vec<Marked>>>,
    /// Accounts that one client each uses as a mail client does, by its number.
    pub boxes: Rc<RefCell<BTreeMap<u64, Boxes>>>,
}

/// An answer that ends the client.
pub struct Stop;

pub type Step = Result<(), Stop>;

/// Polls at most `turns` times, then gives up as a client does that disconnects.
pub async fn for_turns<T>(future: impl Future<Output = T>, turns: u64) -> Option<T> {
    let mut future = pin!(future);
    let mut left = turns;
    poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

impl Client {
    pub fn next_id(&self) -> u64 {
        self.last_id.set(self.last_id.get() + 1);
        self.last_id.get()
    }

    pub fn note(&self, text: impl FnOnce() -> String) {
        self.disk.note(|| format!("    {}", text()));
    }

    /// Makes `requests` requests. `number` names what this client alone writes.
    pub async fn work(self, mut random: Random, number: u64, requests: u64) {
        let own = address(&format!("own{number}"));
        for _ in 0..requests {
            self.clock.set(self.clock.get() + random.below(2000));
            let random = &mut random;
            let step = match self.plan.request(random) {
                Request::Deliver => {
                    let recipients = self.some_recipients(random);
                    self.deliver(random, recipients).await
                }
                Request::DeliverOnce => self.deliver_once(random).await,
                Request::Look => {
                    let target = self.one_of_all(random);
                    self.look(random, &target).await
                }
                Request::Expunge => {
                    let target = self.one_of_all(random);
                    self.expunge(random, &target).await
                }
                Request::Put => self.put(random, number).await,
                Request::OwnAccount => self.own_account(random, &own).await,
                Request::Boxes => self.use_boxes(random, number).await,
                Request::Reclaim => self.reclaim().await,
                Request::Age => {
                    self.clock
                        .set(self.clock.get() + 2 * self.plan.settings.cleanup_age_ms);
                    Ok(())
                }
                Request::Idle => {
                    for _ in 0..random.below(20) {
                        yield_now().await;
                    }
                    Ok(())
                }
            };
            if step.is_err() {
                return;
            }
        }
    }

    fn one_of_all(&self, random: &mut Random) -> Address {
        self.plan.shared[random.index(self.plan.shared.len())].clone()
    }

    pub fn some_recipients(&self, random: &mut Random) -> Vec<Address> {
        let count = if random.one_in(3) {
            1 + random.index(self.plan.shared.len())
        } else {
            1
        };
        let first = random.index(self.plan.shared.len());
        (0..count)
            .map(|n| self.plan.shared[(first + n) % self.plan.shared.len()].clone())
            .collect()
    }

    /// Judges an error that says "not now"; `Err` when this life is over.
    pub fn judge(&self, error: &StoreError) -> Step {
        match error {
            StoreError::Full => assert!(
                self.plan.fills_up,
                "the store says it is full, and the disk is not"
            ),
            StoreError::ReadOnly(reason) => {
                assert!(
                    self.plan.fails || self.plan.fills_up && self.plan.copy_on_write,
                    "the store turned read-only, and no operation failed: {reason}"
                );
                return Err(Stop);
            }
            StoreError::Closing => {
                assert!(self.plan.closes_early, "the store closes by itself");
                return Err(Stop);
            }
            other => panic!("unexpected answer: {other}"),
        }
        Ok(())
    }

    /// Lists a mailbox and reads some of it.
    pub async fn look(&self, random: &mut Random, address: &Address) -> Step {
        let Some(incarnation) = self.model.borrow().incarnation(address) else {
            return Ok(());
        };
        let (validity, infos) = self
            .partition
            .inbox(address)
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        let mut shown: Vec<(MessageInfo, Option<u64>)> = {
            let mut model = self.model.borrow_mut();
            let shown = infos
                .iter()
                .map(|info| (*info, model.known(address, validity, info.uid)))
                .collect();
            model.show(address, incarnation, validity, &shown);
            shown
        };
        for (info, known) in &mut shown {
            match *known {
                Some(id) if random.one_in(2) => {
                    self.read_part(random, address, incarnation, info, id)
                        .await?;
                }
                Some(_) => {}
                None => {
                    let result = self
                        .partition
                        .read(address, info.uid, 0, info.bytes as usize)
                        .await;
                    let bytes = match result {
                        Ok(bytes) => bytes,
                        Err(error) => {
                            // Another client may have read it meanwhile, and expunged it.
                            let id = self.model.borrow().known(address, validity, info.uid);
                            self.judge_read(address, incarnation, id, &error);
                            continue;
                        }
                    };
                    let id = identify(&bytes)
                        .unwrap_or_else(|reason| panic!("{address} UID {}: {reason}", info.uid));
                    self.model
                        .borrow_mut()
                        .identify(address, incarnation, validity, info, id);
                }
            }
        }
        Ok(())
    }

    async fn read_part(
        &self,
        random: &mut Random,
        address: &Address,
        incarnation: Incarnation,
        info: &MessageInfo,
        id: u64,
    ) -> Step {
        let offset = random.below(info.bytes + 1);
        let length = random.index(info.bytes as usize + 1);
        match self.partition.read(address, info.uid, offset, length).await {
            Ok(bytes) => {
                let whole = content(id, info.bytes as usize);
                let end = whole.len().min(offset as usize + length);
                assert!(
                    bytes == whole[offset as usize..end],
                    "message {id} of {address}: {length} bytes at {offset} differ"
                );
            }
            Err(error) => self.judge_read(address, incarnation, Some(id), &error),
        }
        Ok(())
    }

    fn judge_read(
        &self,
        address: &Address,
        incarnation: Incarnation,
        id: Option<u64>,
        error: &StoreError,
    ) {
        match error {
            // A message that nobody has identified yet can have been expunged by nobody.
            StoreError::Missing => assert!(
                id.is_some_and(|id| self.model.borrow().may_be_gone(address, incarnation, id)),
                "message {id:?} of {address} is listed and cannot be read"
            ),
            StoreError::Read(_) if self.plan.fails => {}
            StoreError::Read(reason) | StoreError::Damaged(reason) => assert!(
                self.model.borrow().may_be_damaged(address, incarnation, id),
                "message {id:?} of {address} cannot be read and was not hit: {reason}"
            ),
            other => panic!("unexpected answer to a read: {other}"),
        }
    }

    /// Expunges a few messages that were seen.
    pub async fn expunge(&self, random: &mut Random, address: &Address) -> Step {
        let Some(incarnation) = self.model.borrow().incarnation(address) else {
            return Ok(());
        };
        let (validity, infos) = self
            .partition
            .inbox(address)
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        let mut chosen = Vec::new();
        for info in infos {
            let known = self.model.borrow().known(address, validity, info.uid);
            if let Some(id) = known
                && random.one_in(3)
            {
                chosen.push((info.uid, id));
            }
        }
        if chosen.is_empty() {
            return Ok(());
        }
        self.note(|| format!("expunges {chosen:?} of {address}"));
        for (_, id) in &chosen {
            self.model
                .borrow_mut()
                .begin_expunge(address, incarnation, *id);
        }
        let uids: Vec<u32> = chosen.iter().map(|(uid, _)| *uid).collect();
        let request = self.partition.expunge(address, &uids, self.clock.get());
        let answer = if random.one_in(16) {
            match for_turns(request, random.below(12)).await {
                Some(answer) => answer,
                None => return Ok(()),
            }
        } else {
            request.await
        };
        self.note(|| format!("expunged {chosen:?} of {address}: {answer:?}"));
        if let Err(error) = answer {
            return self.judge(&error);
        }
        for (_, id) in &chosen {
            self.model
                .borrow_mut()
                .acknowledge_expunge(address, incarnation, *id);
        }
        let (_, infos) = self
            .partition
            .inbox(address)
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        assert!(
            infos.iter().all(|info| !uids.contains(&info.uid)),
            "{uids:?} of {address} are listed after they were expunged"
        );
        Ok(())
    }

    /// Sets or removes a key that only this client writes.
    async fn put(&self, random: &mut Random, number: u64) -> Step {
        let key = format!("client{number}/{}", random.below(3)).into_bytes();
        let found = self.partition.get(&key);
        let name = String::from_utf8_lossy(&key).into_owned();
        self.model
            .borrow_mut()
            .key(&key)
            .observe(&found, || format!("key {name}"));
        let value = (!random.one_in(4)).then(|| content(self.next_id(), random.index(300)));
        self.model.borrow_mut().key(&key).begin(value.clone());
        let request = self.partition.put(key.clone(), value);
        let answer = if random.one_in(16) {
            match for_turns(request, random.below(12)).await {
                Some(answer) => answer,
                None => return Ok(()),
            }
        } else {
            request.await
        };
        self.note(|| format!("put {name}: {answer:?}"));
        match answer {
            Ok(()) => self.model.borrow_mut().key(&key).acknowledge(),
            Err(error) => {
                if !matches!(error, StoreError::ReadOnly(_)) {
                    self.model.borrow_mut().key(&key).refuse();
                }
                return self.judge(&error);
            }
        }
        let found = self.partition.get(&key);
        assert!(
            found == *self.model.borrow_mut().key(&key).value(),
            "key {name} is not what was just set"
        );
        Ok(())
    }

    /// Makes, uses, changes or removes an account that only this client has.
    async fn own_account(&self, random: &mut Random, own: &Address) -> Step {
        let found = self.partition.account(own);
        self.model
            .borrow_mut()
            .account(own)
            .observe(&found, || format!("account {own}"));
        let Some(before) = found else {
            let account = Account {
                address: own.clone(),
                password_hash: format!("{}/0", self.next_id()),
                quota_bytes: if random.one_in(2) { 0 } else { 20_000 },
            };
            self.model
                .borrow_mut()
                .account(own)
                .begin(Some(account.clone()));
            let answer = self.partition.create_account(account).await;
            return self.account_answered(own, answer);
        };
        match random.below(6) {
            0 => {
                self.model.borrow_mut().account(own).begin(None);
                let answer = self.partition.remove_account(own).await;
                self.account_answered(own, answer)
            }
            1 => {
                let account = Account {
                    password_hash: format!(
                        "{}/{}",
                        crate::model::incarnation(&before),
                        self.next_id()
                    ),
                    ..before
                };
                self.model
                    .borrow_mut()
                    .account(own)
                    .begin(Some(account.clone()));
                let change = AccountChange {
                    password_hash: Some(account.password_hash),
                    quota_bytes: None,
                };
                let answer = self.partition.update_account(own, change).await;
                self.account_answered(own, answer.map(drop))
            }
            2 => self.look(random, own).await,
            3 => self.expunge(random, own).await,
            _ => self.deliver(random, vec![own.clone()]).await,
        }
    }

    fn account_answered(&self, own: &Address, answer: Result<(), StoreError>) -> Step {
        self.note(|| format!("account {own}: {answer:?}"));
        let mut model = self.model.borrow_mut();
        let register = model.account(own);
        match answer {
            Ok(()) => {
                register.acknowledge();
                assert!(
                    self.partition.account(own) == *register.value(),
                    "account {own} is not what was just acknowledged"
                );
                Ok(())
            }
            Err(error) => {
                if !matches!(error, StoreError::ReadOnly(_)) {
                    register.refuse();
                }
                self.judge(&error)
            }
        }
    }

    async fn reclaim(&self) -> Step {
        let answer = self.partition.expire_now().await;
        self.note(|| format!("reclaimed {answer:?}"));
        match answer {
            Ok(_) => Ok(()),
            Err(StoreError::Read(_)) if self.plan.fails || self.plan.rots => Ok(()),
            Err(StoreError::Damaged(_)) if self.plan.rots => Ok(()),
            Err(error) => self.judge(&error),
        }
    }
}

/// An account's address from its local part.
pub fn address(local_part: &str) -> Address {
    Address::parse(&format!("{local_part}@sim.test"))
        .unwrap_or_else(|error| panic!("{local_part}: {error}"))
}
