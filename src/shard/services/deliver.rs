//! DATA and BDAT: makes a message durable in every partition that owes it, then answers.
//!
//! Guarantees: no 250 before every recipient's partition, or the durable queue in its place, has
//! the message at its sync level. If some partitions have it and another cannot take it, the rest
//! goes to the queue: a 4xx would make the client send again, and double what is there already.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::super::Shard;
use super::super::conn::ConnKey;
use super::super::session::AnyAnswer;
use super::super::wait::Slot;
use super::Asked;
use super::recipient::{locate, locate_at_once, plain_account, reply, store_reply};
use crate::limits;
use crate::mail::{Address, ForwardPath, Reply, trace};
use crate::proto::smtp::{Answer, Peer, Transaction};
use crate::queue;
use crate::store::{Delivery, RecipientResult, StoreError, StreamId};

/// The streamed bodies of this shard's connections: which partitions have a piece of them.
#[derive(Default)]
pub(crate) struct Streams(RefCell<FxHashMap<ConnKey, Vec<(u16, StreamId)>>>);

/// Recipients of one message within one partition, as many as fit into one batch.
struct Share {
    partition: u16,
    recipients: Vec<Address>,
    /// Bytes that they take in a batch.
    bytes: usize,
    /// Where each stands, once there are [`FEW`].
    places: FxHashMap<Address, usize>,
    /// Filled in after the delivery, in the order of `recipients`.
    results: Vec<RecipientResult>,
}

/// So many recipients are looked through one by one.
const FEW: usize = 16;
/// Recipients that are looked up in one go.
const PATHS_AT_ONCE: usize = 256;
/// Bytes that a recipient takes in a batch beside its address, at most.
const RECIPIENT_BYTES: usize = 128;
/// Copies of the recipients that a delivery makes beside those of the session: where each is, what
/// its partition gets, and what comes back.
const RECIPIENT_COPIES: usize = 3;

impl Share {
    fn new(partition: u16) -> Share {
        Share {
            partition,
            recipients: Vec::new(),
            bytes: 0,
            places: FxHashMap::default(),
            results: Vec::new(),
        }
    }

    fn place(&self, address: &Address) -> Option<usize> {
        if self.places.is_empty() {
            self.recipients.iter().position(|known| known == address)
        } else {
            self.places.get(address).copied()
        }
    }

    fn has_room(&self, address: &Address) -> bool {
        let bytes = self.bytes + RECIPIENT_BYTES + address.as_str().len();
        bytes <= limits::DELIVERY_RECIPIENT_BYTES_MAX
    }

    fn push(&mut self, address: &Address) {
        self.bytes += RECIPIENT_BYTES + address.as_str().len();
        self.recipients.push(address.clone());
        match self.recipients.len() {
            0..FEW => {}
            FEW => self.places = self.recipients.iter().cloned().zip(0..).collect(),
            count => {
                self.places.insert(address.clone(), count - 1);
            }
        }
    }
}

/// Takes a piece of a large body.
pub(super) fn chunk(
    shard: &Rc<Shard>,
    key: ConnKey,
    open: Option<Box<Transaction>>,
    bytes: Vec<u8>,
) -> Asked {
    let shard = Rc::clone(shard);
    let held_bytes = bytes.capacity() as i64;
    shard.memory_in_flight(held_bytes);
    super::super::spawn(async move {
        let result = take_chunk(&shard, key, open, bytes).await;
        shard.memory_in_flight(-held_bytes);
        if result.is_err() {
            abort(&shard, key);
        }
        shard.answer(key, AnyAnswer::Smtp(Answer::Chunk(result)));
    });
    Asked::Later
}

async fn take_chunk(
    shard: &Rc<Shard>,
    key: ConnKey,
    open: Option<Box<Transaction>>,
    bytes: Vec<u8>,
) -> Result<(), Reply> {
    if let Some(transaction) = open {
        let mut partitions = Vec::new();
        for path in &transaction.envelope.forward_paths {
            for address in locate(shard, path).await? {
                let number = shard.partition_of(&address);
                if !partitions.contains(&number) {
                    partitions.push(number);
                }
            }
        }
        for number in partitions {
            let stream = shard
                .on_partition(number, async move |partition| partition.open_stream())
                .await
                .map_err(|error| store_reply(&error))?;
            let mut streams = shard.streams.0.borrow_mut();
            streams.entry(key).or_default().push((number, stream));
        }
    }
    let targets = shard.streams.0.borrow().get(&key).cloned();
    for (number, stream) in targets.unwrap_or_default() {
        let _held = shard.hold_memory(bytes.len());
        let piece = bytes.clone();
        shard
            .on_partition(number, async move |partition| {
                partition.append_stream(stream, piece).await
            })
            .await
            .map_err(|error| store_reply(&error))?;
    }
    Ok(())
}

/// Gives up the streamed body of a connection, if it has one.
pub(super) fn abort(shard: &Rc<Shard>, key: ConnKey) {
    let targets = shard.streams.0.borrow_mut().remove(&key);
    abort_all(shard, targets.unwrap_or_default());
}

fn abort_all(shard: &Rc<Shard>, targets: Vec<(u16, StreamId)>) {
    for (number, stream) in targets {
        let shard = Rc::clone(shard);
        super::super::spawn(async move {
            // A partition that cannot be asked has no stream either.
            let _ = shard
                .on_partition(number, async move |partition| {
                    partition.abort_stream(stream);
                    Ok(())
                })
                .await;
        });
    }
}

/// Takes a whole message.
pub(super) fn deliver(shard: &Rc<Shard>, key: ConnKey, transaction: Transaction) -> Asked {
    let streams = if transaction.streamed_bytes > 0 {
        shard
            .streams
            .0
            .borrow_mut()
            .remove(&key)
            .unwrap_or_default()
    } else {
        Vec::new()
    };
    let paths = &transaction.envelope.forward_paths;
    let path_bytes: usize = paths.iter().map(ForwardPath::memory_bytes).sum();
    let held_bytes = transaction.body.len() + path_bytes * (1 + RECIPIENT_COPIES);
    let held = shard.hold_memory(held_bytes);
    let shard = Rc::clone(shard);
    super::super::spawn(async move {
        let lmtp = transaction.with_protocol.contains("LMTP");
        let replies = run(&shard, transaction, streams, lmtp).await;
        drop(held);
        shard.answer(key, AnyAnswer::Smtp(Answer::Delivered(replies)));
    });
    Asked::Later
}

/// Delivers, logs, and makes the replies: one, or for LMTP one per forward path.
async fn run(
    shard: &Rc<Shard>,
    mut transaction: Transaction,
    streams: Vec<(u16, StreamId)>,
    lmtp: bool,
) -> Vec<Reply> {
    let started = shard.now();
    let _permit = shard.delivery.acquire().await;
    let queue_id = shard.next_queue_id();
    let now_ms = super::super::now_ms();
    let bytes = transaction.streamed_bytes + transaction.body.len() as u64;

    let mut header = Vec::new();
    let hop = trace::Hop {
        client_name: &transaction.client_name,
        peer: match &transaction.peer {
            Peer::Tcp(address) => Some(address.ip()),
            Peer::Unix => None,
        },
        hostname: &shard.config.hostname,
        with_protocol: transaction.with_protocol,
        queue_id: &queue_id,
    };
    trace::write_trace(&transaction.envelope, &hop, now_ms / 1000, &mut header);

    // Most mail is for one account by its own name, and is delivered or refused as a whole.
    if let [path] = &transaction.envelope.forward_paths[..]
        && transaction.streamed_bytes == 0
        && let Some(address) = plain_account(shard, path)
    {
        let delivery = Delivery {
            trace: header,
            body: std::mem::take(&mut transaction.body),
            stream: None,
            recipients: vec![address],
            now_ms,
            once: None,
        };
        let partition = shard.partition_of(&delivery.recipients[0]);
        let results = deliver_to(shard, partition, delivery).await;
        let replies = vec![match results.first() {
            Some(Ok(_)) => accepted(&queue_id),
            Some(Err(error)) => store_reply(error),
            None => store_reply(&StoreError::Missing),
        }];
        log(shard, &transaction, &queue_id, bytes, started, &replies);
        return replies;
    }

    // Who gets it. An account that is named twice gets it once.
    let mut paths: Vec<Result<Vec<Address>, Reply>> = Vec::new();
    let mut shares: Vec<Share> = Vec::new();
    // A streamed body is there once: its recipients fit into one delivery, or are refused.
    let splits = transaction.streamed_bytes == 0;
    for path in &transaction.envelope.forward_paths {
        let located = match locate_at_once(shard, path) {
            Some(located) => located,
            None => locate(shard, path).await,
        };
        for address in located.iter().flatten() {
            add_to_share(shard, &mut shares, address, splits);
        }
        paths.push(located);
        // A long list is no reason for everybody else to wait.
        if paths.len().is_multiple_of(PATHS_AT_ONCE) {
            glommio::yield_if_needed().await;
        }
    }

    // Where the body has streamed to is where its recipients were when it began. A share elsewhere
    // would be the last piece alone: it is refused, or waits in the queue whole.
    let streamed = transaction.streamed_bytes > 0;
    let has_body = |partition| !streamed || streams.iter().any(|(number, _)| *number == partition);
    let (mut whole, mut bodiless): (Vec<Share>, Vec<Share>) = shares
        .into_iter()
        .partition(|share| has_body(share.partition));
    let spare_body = deliver_shares(
        shard,
        &mut whole,
        &header,
        std::mem::take(&mut transaction.body),
        &streams,
        now_ms,
    )
    .await;
    for share in &mut bodiless {
        let error = StoreError::Read("the body went elsewhere while it arrived".into());
        share.results = vec![Err(error); share.recipients.len()];
    }
    whole.append(&mut bodiless);
    let shares = whole;
    // A stream that nobody has ended would keep space from being reclaimed.
    let ended = |number| shares.iter().any(|share| share.partition == number);
    abort_all(
        shard,
        streams
            .into_iter()
            .filter(|(number, _)| !ended(*number))
            .collect(),
    );

    // What some have and others cannot take waits in the queue.
    let groups: Vec<std::ops::Range<usize>> = if lmtp {
        (0..paths.len()).map(|index| index..index + 1).collect()
    } else {
        std::iter::once(0..paths.len()).collect()
    };
    let mut replies = Vec::with_capacity(groups.len());
    for group in groups {
        let outcome = judge(
            &transaction.envelope.forward_paths[group.clone()],
            &paths[group],
            &shares,
        );
        let answer = match outcome {
            Outcome::Delivered => None,
            Outcome::Refused(refusal) => Some(refusal),
            Outcome::Partly(rest) => {
                let message = Message {
                    header: &header,
                    body: spare_body.as_deref(),
                    shares: &shares,
                };
                enqueue(shard, &transaction, &queue_id, message, rest, now_ms)
                    .await
                    .err()
            }
        };
        replies.push(answer.unwrap_or_else(|| accepted(&queue_id)));
    }
    log(shard, &transaction, &queue_id, bytes, started, &replies);
    replies
}

fn accepted(queue_id: &str) -> Reply {
    reply(250, (2, 0, 0), format!("OK: queued as {queue_id}"))
}

/// Adds a recipient, if it is not there yet, to a share of its partition; where all are full and
/// `splits`, to a new one.
fn add_to_share(shard: &Shard, shares: &mut Vec<Share>, address: &Address, splits: bool) {
    let partition = shard.partition_of(address);
    let mut open = None;
    for (number, share) in shares.iter().enumerate() {
        if share.partition != partition {
            continue;
        }
        if share.place(address).is_some() {
            return;
        }
        if !splits || share.has_room(address) {
            open = Some(number);
        }
    }
    let number = open.unwrap_or_else(|| {
        shares.push(Share::new(partition));
        shares.len() - 1
    });
    shares[number].push(address);
}

/// Delivers to all partitions at once, or at `--memory-max` to one after the other: each gets a copy
/// of the body. Gives the body back where it was needed more than once and may be needed again.
async fn deliver_shares(
    shard: &Rc<Shard>,
    shares: &mut [Share],
    header: &[u8],
    body: Vec<u8>,
    streams: &[(u16, StreamId)],
    now_ms: u64,
) -> Option<Vec<u8>> {
    let make = |share: &Share, body: Vec<u8>| Delivery {
        trace: header.to_vec(),
        body,
        stream: streams
            .iter()
            .find(|(number, _)| *number == share.partition)
            .map(|(_, stream)| *stream),
        recipients: share.recipients.clone(),
        now_ms,
        once: None,
    };
    if let [share] = shares {
        let delivery = make(share, body);
        share.results = deliver_to(shard, share.partition, delivery).await;
        return None;
    }
    let mut results: Vec<Vec<RecipientResult>> = Vec::with_capacity(shares.len());
    let mut slots: VecDeque<Rc<Slot<Vec<RecipientResult>>>> = VecDeque::with_capacity(shares.len());
    for share in shares.iter() {
        while shard.memory_is_short(body.len() as u64)
            && let Some(slot) = slots.pop_front()
        {
            results.push(slot.take().await);
        }
        let held = shard.hold_memory(body.len());
        let delivery = make(share, body.clone());
        let partition = share.partition;
        let slot = Slot::new();
        slots.push_back(Rc::clone(&slot));
        let shard = Rc::clone(shard);
        super::super::spawn(async move {
            let result = deliver_to(&shard, partition, delivery).await;
            drop(held);
            slot.fill(result);
        });
    }
    for slot in slots {
        results.push(slot.take().await);
    }
    for (share, results) in shares.iter_mut().zip(results) {
        share.results = results;
    }
    Some(body)
}

/// One partition's part; a failure of the whole is the failure of each recipient.
pub(super) async fn deliver_to(
    shard: &Rc<Shard>,
    partition: u16,
    mut delivery: Delivery,
) -> Vec<RecipientResult> {
    let count = delivery.recipients.len();
    if let Some(partition) = shard.partition(partition) {
        let result = partition.deliver(delivery).await;
        return result.unwrap_or_else(|error| vec![Err(error); count]);
    }
    let result = shard
        .on_partition(partition, async move |partition| {
            let results = partition.deliver_from(&mut delivery).await;
            // Back to the thread whose memory it is.
            Ok((results, delivery))
        })
        .await;
    let result = result.and_then(|(results, _)| results);
    result.unwrap_or_else(|error| vec![Err(error); count])
}

enum Outcome {
    Delivered,
    Refused(Reply),
    /// Some have it; these have not.
    Partly(Vec<Address>),
}

/// What the results mean for the forward paths that share one reply.
fn judge(
    named: &[ForwardPath],
    paths: &[Result<Vec<Address>, Reply>],
    shares: &[Share],
) -> Outcome {
    let mut delivered = false;
    let mut missing = Vec::new();
    let mut refusal = None;
    for (name, path) in named.iter().zip(paths) {
        match path {
            Err(reason) => {
                refusal.get_or_insert_with(|| reason.clone());
                // Accepted at RCPT and gone since: it waits in the queue, and in the end the
                // postmaster gets it; it is not dropped.
                if let ForwardPath::Address(address) = name {
                    missing.push(address.account_key());
                }
            }
            Ok(accounts) => {
                for account in accounts {
                    match result_of(shares, account) {
                        Ok(_) => delivered = true,
                        Err(error) => {
                            refusal.get_or_insert_with(|| store_reply(&error));
                            missing.push(account.clone());
                        }
                    }
                }
            }
        }
    }
    match refusal {
        None => Outcome::Delivered,
        Some(refusal) if !delivered => Outcome::Refused(refusal),
        Some(_) => Outcome::Partly(missing),
    }
}

fn result_of(shares: &[Share], account: &Address) -> RecipientResult {
    for share in shares {
        if let Some(index) = share.place(account) {
            return share.results[index].clone();
        }
    }
    Err(StoreError::Missing)
}

/// Where the bytes of a message can be had again.
struct Message<'a> {
    header: &'a [u8],
    /// `None` for a message to one partition, which is never partly delivered but by quota.
    body: Option<&'a [u8]>,
    shares: &'a [Share],
}

/// Puts the rest of a partly delivered message into the durable queue.
async fn enqueue(
    shard: &Rc<Shard>,
    transaction: &Transaction,
    queue_id: &str,
    message: Message<'_>,
    rest: Vec<Address>,
    now_ms: u64,
) -> Result<(), Reply> {
    if rest.is_empty() {
        return Ok(());
    }
    let bytes = match message.body {
        Some(body) if transaction.streamed_bytes == 0 => {
            let mut bytes = message.header.to_vec();
            bytes.extend_from_slice(body);
            queue::Content::Inline(bytes)
        }
        _ => copy_of(shard, message.shares)?,
    };
    let count = rest.len();
    let entry = queue::Entry {
        id: queue_id.to_owned(),
        reverse_path: transaction.envelope.reverse_path.clone(),
        recipients: rest,
        queued_ms: now_ms,
        attempts: 0,
        next_attempt_ms: now_ms,
    };
    let result = super::retry::enqueue(shard, entry, bytes).await;
    result.map_err(|error| {
        tracing::error!(
            id = queue_id,
            "{count} of the recipients could not be reached and the queue failed ({error}); \
             the sender is told to try again, the others may get a second copy"
        );
        store_reply(&error)
    })
}

/// The message as one of the partitions that took it has it now.
fn copy_of(shard: &Shard, shares: &[Share]) -> Result<queue::Content, Reply> {
    for share in shares {
        for (address, result) in share.recipients.iter().zip(&share.results) {
            if let Ok(uid) = result {
                return Ok(queue::Content::Stored {
                    partition: shard.partition_of(address),
                    address: address.clone(),
                    uid: *uid,
                });
            }
        }
    }
    Err(store_reply(&StoreError::Missing))
}

/// One line per message, for `grep`.
fn log(
    shard: &Shard,
    transaction: &Transaction,
    queue_id: &str,
    bytes: u64,
    started: Instant,
    replies: &[Reply],
) {
    let delay = Instant::now().saturating_duration_since(started);
    shard.probe.delivery_latency.record(delay);
    let accepted = replies.iter().filter(|reply| reply.code == 250).count();
    shard.probe.messages_accepted.add(u64::from(accepted > 0));
    shard.probe.messages_refused.add(u64::from(accepted == 0));
    if !tracing::enabled!(target: "ringpost::mail", tracing::Level::INFO) {
        return;
    }
    let result = super::super::maillog::summary(replies);
    tracing::info!(
        target: "ringpost::mail",
        id = queue_id,
        from = %transaction.envelope.reverse_path,
        to = %super::super::maillog::Paths(&transaction.envelope.forward_paths),
        size = bytes,
        delay_us = delay.as_micros() as u64,
        with = transaction.with_protocol,
        result = %result,
    );
}
