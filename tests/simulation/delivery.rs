//! Deliveries of a client: to one or several, whole or streamed, once or again with a mark.

use ringpost::mail::Address;
use ringpost::store::sim::Random;
use ringpost::store::{Delivery, StoreError};

use crate::actor::{Client, Step, for_turns};
use crate::message::content;
use crate::model::Incarnation;
use crate::rot::Excuse;

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

    /// Its mark, its account or a copy of it was hit: it may be delivered again or not.
    pub fn is_hit(&self, excuse: &Excuse) -> bool {
        let account_hit = |(address, _): &(Address, _)| excuse.accounts.contains(address);
        excuse.keys.contains(&self.mark())
            || excuse.any_copy_of(self.id)
            || self.targets.iter().any(account_hit)
    }

    fn mark(&self) -> Vec<u8> {
        format!("once/{}", self.id).into_bytes()
    }
}

impl Client {
    /// Sends one message, whole or in pieces, to accounts that are there.
    pub async fn deliver(&self, random: &mut Random, recipients: Vec<Address>) -> Step {
        let id = self.next_id();
        let length = self.plan.message_bytes(random);
        let bytes = content(id, length);
        let cut = random.index(bytes.len().min(200));
        let (trace, body) = bytes.split_at(cut);
        let mut body = body;
        let mut stream = None;
        if random.one_in(self.plan.streams_one_in) || length > self.plan.inline_bytes_max {
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
    pub async fn deliver_once(&self, random: &mut Random) -> Step {
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
        let all_there = delivery.targets.iter().all(|(address, incarnation)| {
            self.model.borrow().incarnation(address) == Some(*incarnation)
        });
        if delivery.targets.is_empty() || !all_there {
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
            self.model
                .borrow_mut()
                .acknowledge_marked(delivery.id, address, *incarnation, uid);
            if uid > 0 {
                self.check_delivered(delivery.id, address, *incarnation, uid, 0);
            }
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
        let (validity, infos) = self
            .partition
            .inbox(address)
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        let mut model = self.model.borrow_mut();
        model.show_validity(address, incarnation, validity);
        match infos.iter().find(|info| info.uid == uid) {
            Some(info) => {
                model.check_sequence(info, sequence_mark);
                model.identify(address, incarnation, validity, info, id);
            }
            None => assert!(
                model.may_be_gone(address, incarnation, id),
                "message {id}, UID {uid} of {address}, was acknowledged and is not listed"
            ),
        }
    }
}
