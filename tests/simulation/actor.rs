//! Clients of a partition: each makes a few requests, one after the other, beside the others.
//!
//! What they ask, what they are told and what they see goes into the [`Model`], which panics when
//! a promise is broken. They stop at the first answer that ends this life of the store.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use ringpost::mail::Address;
use ringpost::store::sim::{Random, SimDisk, yield_now};
use ringpost::store::{Account, Delivery, MessageInfo, Partition, StoreError};

use crate::message::{content, identify};
use crate::model::{Incarnation, Model};
use crate::plan::Plan;

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
}

/// A delivery with a mark, to be made again: the queue does so when it does not know the outcome.
#[derive(Debug, Clone)]
pub struct Marked {
    id: u64,
    length: usize,
    targets: Vec<(Address, Incarnation)>,
    date_ms: u64,
    /// Nobody waits for an answer to it any more.
    over: bool,
}

impl Marked {
    /// The process is gone, and with it whoever waited.
    pub fn forget(&mut self) {
        self.over = true;
    }

    fn mark(&self) -> Vec<u8> {
        format!("once/{}", self.id).into_bytes()
    }
}

/// An answer that ends the client.
pub struct Stop;

type Step = Result<(), Stop>;

/// Polls at most `turns` times, then gives up as a client does that disconnects.
async fn for_turns<T>(future: impl Future<Output = T>, turns: u64) -> Option<T> {
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

    fn note(&self, text: impl FnOnce() -> String) {
        self.disk.note(|| format!("    {}", text()));
    }

    /// Makes `requests` requests. `number` names what this client alone writes.
    pub async fn work(self, mut random: Random, number: u64, requests: u64) {
        let own = address(&format!("own{number}"));
        for _ in 0..requests {
            self.clock.set(self.clock.get() + random.below(2000));
            let random = &mut random;
            let step = match random.below(100) {
                0..33 => {
                    let recipients = self.some_recipients(random);
                    self.deliver(random, recipients).await
                }
                33..38 => self.deliver_once(random).await,
                38..58 => {
                    let target = self.one_of_all(random);
                    self.look(random, &target).await
                }
                58..72 => {
                    let target = self.one_of_all(random);
                    self.expunge(random, &target).await
                }
                72..82 => self.put(random, number).await,
                82..92 => self.own_account(random, &own).await,
                92..95 => self.reclaim().await,
                95..97 => {
                    self.clock
                        .set(self.clock.get() + 2 * self.plan.settings.cleanup_age_ms);
                    Ok(())
                }
                _ => {
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

    fn some_recipients(&self, random: &mut Random) -> Vec<Address> {
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
    fn judge(&self, error: &StoreError) -> Step {
        match error {
            StoreError::Full => assert!(
                self.plan.fills_up,
                "the store says it is full, and the disk is not"
            ),
            StoreError::ReadOnly(reason) => {
                assert!(
                    self.plan.fails,
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

    /// Sends one message, whole or in pieces, to accounts that are there.
    pub async fn deliver(&self, random: &mut Random, recipients: Vec<Address>) -> Step {
        let id = self.next_id();
        let length = self.plan.message_bytes(random);
        let bytes = content(id, length);
        let cut = random.index(bytes.len().min(200));
        let (trace, body) = bytes.split_at(cut);
        let mut body = body;
        let mut stream = None;
        if random.one_in(6) || length > self.plan.inline_bytes_max {
            // What comes before the body's rest goes through the stream; the trace header is in
            // front of both.
            let opened = match self.partition.open_stream() {
                Ok(opened) => opened,
                Err(error) => return self.judge(&error),
            };
            let aborts = random.one_in(5);
            while body.len() > self.plan.inline_bytes_max || random.one_in(2) {
                let piece = body.len().min(1 + random.index(self.plan.inline_bytes_max));
                self.note(|| format!("message {id}: streams {piece} bytes"));
                let (now, rest) = body.split_at(piece);
                body = rest;
                if let Err(error) = self.partition.append_stream(opened, now.to_vec()).await {
                    return self.judge(&error);
                }
                if aborts && random.one_in(2) {
                    break;
                }
            }
            if aborts {
                self.note(|| format!("message {id}: aborted"));
                self.partition.abort_stream(opened);
                return Ok(());
            }
            stream = Some(opened);
        }
        let mut targets = Vec::new();
        let mut marks = Vec::new();
        {
            let mut model = self.model.borrow_mut();
            for recipient in &recipients {
                // After reported damage an account may be gone: then nobody is told it is there.
                let Some(incarnation) = model.incarnation(recipient) else {
                    continue;
                };
                marks.push(model.marks(recipient, incarnation));
                targets.push((recipient.clone(), incarnation));
            }
            model.begin_delivery(id, &targets, bytes.len() as u64, self.clock.get());
        }
        if targets.is_empty() {
            if let Some(stream) = stream {
                self.partition.abort_stream(stream);
            }
            return Ok(());
        }
        self.note(|| format!("message {id}: {length} bytes to {targets:?}"));
        let request = self.partition.deliver(Delivery {
            trace: trace.to_vec(),
            body: body.to_vec(),
            stream,
            recipients: targets.iter().map(|(address, _)| address.clone()).collect(),
            now_ms: self.clock.get(),
            once: None,
        });
        let answer = if random.one_in(16) {
            match for_turns(request, random.below(12)).await {
                Some(answer) => answer,
                None => {
                    self.note(|| format!("message {id}: its client left"));
                    return Ok(());
                }
            }
        } else {
            request.await
        };
        self.note(|| format!("message {id}: answer {answer:?}"));
        let results = match answer {
            Ok(results) => results,
            Err(error) => {
                // A failed batch may have reached the platter; every other refusal is final.
                if !matches!(error, StoreError::ReadOnly(_)) {
                    let mut model = self.model.borrow_mut();
                    for (address, incarnation) in &targets {
                        model.refuse_delivery(id, address, *incarnation);
                    }
                }
                return self.judge(&error);
            }
        };
        assert_eq!(
            results.len(),
            targets.len(),
            "one result for each recipient"
        );
        for ((result, (address, incarnation)), (uid_mark, sequence_mark)) in
            results.into_iter().zip(&targets).zip(marks)
        {
            match result {
                Ok(uid) => {
                    self.model.borrow_mut().acknowledge_delivery(
                        id,
                        address,
                        *incarnation,
                        uid,
                        uid_mark,
                    );
                    self.check_delivered(id, address, *incarnation, uid, sequence_mark);
                }
                Err(StoreError::OverQuota) => {
                    let mut model = self.model.borrow_mut();
                    let quota = model
                        .account(address)
                        .value()
                        .as_ref()
                        .map_or(0, |account| account.quota_bytes);
                    let held = model.bytes_at_most(address, *incarnation);
                    assert!(
                        quota > 0 && held > quota,
                        "over quota {quota} with at most {held} bytes"
                    );
                    model.refuse_delivery(id, address, *incarnation);
                }
                Err(error) => panic!("message {id} for {address}: {error}"),
            }
        }
        Ok(())
    }

    /// Delivers something with a mark, mostly something that was delivered before: however often
    /// that is done, it is there once.
    async fn deliver_once(&self, random: &mut Random) -> Step {
        let known = {
            let marked = self.marked.borrow();
            let over: Vec<usize> = (0..marked.len()).filter(|n| marked[*n].over).collect();
            (!over.is_empty() && random.one_in(2)).then(|| over[random.index(over.len())])
        };
        let index = known.unwrap_or_else(|| {
            let recipients = self.some_recipients(random);
            let mut model = self.model.borrow_mut();
            let targets = recipients
                .into_iter()
                .filter_map(|address| {
                    let incarnation = model.incarnation(&address)?;
                    Some((address, incarnation))
                })
                .collect();
            let delivery = Marked {
                id: self.next_id(),
                length: 32 + random.index(3000),
                targets,
                date_ms: self.clock.get(),
                over: false,
            };
            model.begin_delivery(
                delivery.id,
                &delivery.targets,
                delivery.length as u64,
                delivery.date_ms,
            );
            self.marked.borrow_mut().push(delivery);
            self.marked.borrow().len() - 1
        });
        let delivery = self.marked.borrow()[index].clone();
        if delivery.targets.is_empty() {
            return Ok(());
        }
        self.marked.borrow_mut()[index].over = false;
        let there_before = if known.is_some() {
            let mut model = self.model.borrow_mut();
            model.begin_redelivery(delivery.id, &delivery.targets)
        } else {
            vec![Some(false); delivery.targets.len()]
        };
        self.note(|| format!("message {}: marked, {there_before:?}", delivery.id));
        let answer = self
            .partition
            .deliver(Delivery {
                trace: Vec::new(),
                body: content(delivery.id, delivery.length),
                stream: None,
                recipients: delivery.targets.iter().map(|(a, _)| a.clone()).collect(),
                now_ms: delivery.date_ms,
                once: Some(delivery.mark()),
            })
            .await;
        self.note(|| format!("message {}: marked, answer {answer:?}", delivery.id));
        self.marked.borrow_mut()[index].over = true;
        let results = match answer {
            Ok(results) => results,
            Err(error) => return self.judge(&error),
        };
        assert_eq!(results.len(), delivery.targets.len());
        for ((result, (address, incarnation)), before) in
            results.into_iter().zip(&delivery.targets).zip(there_before)
        {
            let uid = result.unwrap_or_else(|error| panic!("{address}: {error}"));
            assert!(
                (uid == 0) == before.unwrap_or(uid == 0),
                "message {} for {address}, there before: {before:?}, got UID {uid}",
                delivery.id
            );
            let mut model = self.model.borrow_mut();
            model.acknowledge_marked(delivery.id, address, *incarnation, uid);
        }
        Ok(())
    }

    /// What was acknowledged is visible at once.
    fn check_delivered(
        &self,
        id: u64,
        address: &Address,
        incarnation: Incarnation,
        uid: u32,
        sequence_mark: u64,
    ) {
        let (_, infos) = self
            .partition
            .inbox(address)
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        let model = self.model.borrow();
        match infos.iter().find(|info| info.uid == uid) {
            Some(info) => model.check_sequence(info, sequence_mark),
            None => assert!(
                model.may_be_gone(address, incarnation, id),
                "message {id}, UID {uid} of {address}, was acknowledged and is not listed"
            ),
        }
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
            StoreError::Read(_) => assert!(self.plan.fails, "a read failed by itself"),
            StoreError::Damaged(reason) => assert!(
                self.plan.flips,
                "message {id:?} of {address} is damaged and no bit was flipped: {reason}"
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
                let answer = self.partition.update_account(account).await;
                self.account_answered(own, answer)
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
            Err(StoreError::Read(_)) if self.plan.fails => Ok(()),
            Err(StoreError::Damaged(_)) if self.plan.flips => Ok(()),
            Err(error) => self.judge(&error),
        }
    }
}

/// An account's address from its local part.
pub fn address(local_part: &str) -> Address {
    Address::parse(&format!("{local_part}@sim.test"))
        .unwrap_or_else(|error| panic!("{local_part}: {error}"))
}
