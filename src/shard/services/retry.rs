//! The durable queue's attempts: takes what is due and delivers it, exactly once.

use std::rc::Rc;
use std::time::Duration;

use super::super::Shard;
use super::deliver::deliver_to;
use super::recipient::locate;
use crate::mail::{Address, ForwardPath};
use crate::queue::{Content, Entry};
use crate::store::{Delivery, StoreError, Uid};

/// Between two looks at the queue.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Entries taken in one look.
const ENTRIES_PER_LOOK: usize = 64;
/// Bytes read at a time when a message is copied to the queue.
const COPY_BYTES: usize = 1 << 20;

/// Adds an entry to this shard's queue, or to the first shard's where this one has none.
pub(super) async fn enqueue(
    shard: &Rc<Shard>,
    entry: Entry,
    content: Content,
) -> Result<(), StoreError> {
    let message = match content {
        Content::Inline(bytes) => bytes,
        Content::Stored {
            partition,
            address,
            uid,
        } => copy(shard, partition, address, uid).await?,
    };
    let _held = shard.hold_memory(message.len());
    let keeper = if shard.queue.get().is_some() {
        shard.id
    } else {
        0
    };
    shard
        .mesh
        .call(shard, keeper, async move |keeper| {
            match keeper.queue.get() {
                Some(queue) => queue.add(entry, message).await,
                None => Err(StoreError::Closing),
            }
        })
        .await
}

async fn copy(
    shard: &Rc<Shard>,
    partition: u16,
    address: Address,
    uid: Uid,
) -> Result<Vec<u8>, StoreError> {
    let mut message = Vec::new();
    loop {
        let (account, offset) = (address.clone(), message.len() as u64);
        let piece = shard
            .on_partition(partition, async move |partition| {
                partition.read(&account, uid, offset, COPY_BYTES).await
            })
            .await?;
        let last = piece.len() < COPY_BYTES;
        message.extend_from_slice(&piece);
        if last {
            return Ok(message);
        }
    }
}

/// Runs for the life of the shard.
pub(crate) async fn run(shard: Rc<Shard>) {
    while !shard.has_ended() {
        if !shard.is_draining()
            && let Some(queue) = shard.queue.get()
        {
            for (uid, entry) in queue.due(super::super::now_ms(), ENTRIES_PER_LOOK) {
                if let Err(error) = attempt(&shard, uid, entry).await {
                    tracing::error!("queue: {error}");
                }
            }
        }
        super::super::sleep(LOOK_INTERVAL).await;
    }
}

/// The accounts behind what waits, which may be named as it was written: an alias, an address with
/// a detail, one that a catch-all takes. What leads nowhere now is kept as it is.
async fn resolve(shard: &Rc<Shard>, named: Vec<Address>) -> Vec<Address> {
    let mut accounts = Vec::with_capacity(named.len());
    for address in named {
        let path = ForwardPath::Address(address.clone());
        let located = locate(shard, &path).await;
        for account in located.unwrap_or_else(|_| vec![address]) {
            if !accounts.contains(&account) {
                accounts.push(account);
            }
        }
    }
    accounts
}

async fn attempt(shard: &Rc<Shard>, uid: Uid, mut entry: Entry) -> Result<(), StoreError> {
    let Some(queue) = shard.queue.get() else {
        return Ok(());
    };
    let now_ms = super::super::now_ms();
    let message = queue.message(uid).await?;
    // This, and the copy that is being delivered.
    let _held = shard.hold_memory(2 * message.len());
    if entry.is_expired(now_ms)
        && let Some(postmaster) = shard.site().postmaster()
        && entry.recipients.iter().any(|address| address != postmaster)
    {
        tracing::warn!(
            id = entry.id,
            "waited too long for {:?}: given to the postmaster",
            entry.recipients
        );
        entry.recipients = vec![postmaster.clone()];
    }
    let mut left = Vec::new();
    let named = std::mem::take(&mut entry.recipients);
    for recipient in resolve(shard, named).await {
        let delivery = Delivery {
            trace: Vec::new(),
            body: message.clone(),
            stream: None,
            recipients: vec![recipient.clone()],
            now_ms,
            once: Some(entry.once_mark(&recipient)),
        };
        let partition = shard.partition_of(&recipient);
        let results = deliver_to(shard, partition, delivery).await;
        match results.first() {
            Some(Ok(_)) => tracing::info!(
                target: "ringpost::mail",
                id = entry.id,
                from = %entry.reverse_path,
                to = %recipient,
                size = message.len(),
                delay_ms = now_ms.saturating_sub(entry.queued_ms),
                result = "delivered from queue",
            ),
            other => {
                tracing::warn!(id = entry.id, to = %recipient, "still waiting: {other:?}");
                left.push(recipient);
            }
        }
    }
    entry.recipients = left;
    if !entry.recipients.is_empty() {
        entry.postpone(now_ms);
    }
    queue.update(uid, entry, now_ms).await
}
