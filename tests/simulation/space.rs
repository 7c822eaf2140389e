//! Space comes back: a small disk takes far more mail than it holds, as long as it is expunged.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use ringpost::config::SyncLevels;
use ringpost::store::disk::Disk;
use ringpost::store::sim::{Executor, Outcome, Random, SimDisk, block_on, yield_now};
use ringpost::store::{Account, Delivery, Identity, Partition, Settings, StoreError};

use crate::actor::address;
use crate::message::content;

const CAPACITY_BYTES: u64 = 4 << 20;
const SEGMENT_BYTES: u64 = 128 * 1024;
const MESSAGE_BYTES: usize = 12_000;
/// So many times what fits.
const TIMES: u64 = 6;

#[test]
fn expunged_space_comes_back() {
    let identity = Identity {
        store_id: 1,
        partition: 0,
    };
    let dir = Path::new("/p000");
    let disk = SimDisk::new(1);
    block_on(Partition::create(disk.clone(), dir, identity)).expect("a new disk");
    block_on(disk.sync_dir(Path::new("/"))).expect("it is there");
    disk.set_capacity(Some(CAPACITY_BYTES));
    let executor = Executor::new();
    let done = Rc::new(Cell::new(false));
    let (spawner, ended, used) = (executor.clone(), done.clone(), disk.clone());
    executor.spawn(async move {
        let settings = Settings {
            sync: SyncLevels::default(),
            segment_bytes: SEGMENT_BYTES,
            reserve_bytes: 2 * SEGMENT_BYTES,
            cleanup_age_ms: 0,
        };
        let (partition, _) = Partition::open(disk.clone(), dir, identity, settings, 1, |_| {})
            .await
            .expect("a new partition");
        let clock = Rc::new(Cell::new(1_u64));
        spawner.spawn(partition.clone().run());
        let now = clock.clone();
        spawner.spawn(partition.clone().background(move || now.get()));
        let account = Account {
            address: address("a"),
            password_hash: "1/0".to_owned(),
            quota_bytes: 0,
        };
        partition
            .create_account(account.clone())
            .await
            .expect("there is room");
        // One message stays, so that segments hold something that must be kept.
        let mut kept: Vec<(u32, u64)> = Vec::new();
        let mut delivered_bytes = 0;
        let mut id = 0;
        let mut waits = 0;
        while delivered_bytes < TIMES * CAPACITY_BYTES {
            id += 1;
            clock.set(clock.get() + 1000);
            let delivery = Delivery {
                trace: Vec::new(),
                body: content(id, MESSAGE_BYTES),
                stream: None,
                recipients: vec![account.address.clone()],
                now_ms: clock.get(),
                once: None,
            };
            match partition.deliver(delivery).await {
                Ok(results) => {
                    let uid = *results[0].as_ref().expect("no quota");
                    delivered_bytes += MESSAGE_BYTES as u64;
                    waits = 0;
                    if id % 50 == 0 {
                        kept.push((uid, id));
                    } else {
                        partition
                            .expunge(&account.address, &[uid], clock.get())
                            .await
                            .expect("expunging needs no space");
                    }
                }
                Err(StoreError::Full) => {
                    // The background task has to have its turn.
                    waits += 1;
                    assert!(waits < 1000, "full for ever after {delivered_bytes} bytes");
                    partition.expire_now().await.expect("reclaiming works");
                    yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        let freed = partition.expire_now().await.expect("reclaiming works");
        println!(
            "{delivered_bytes} bytes delivered, {} in use, {} freed at the end",
            disk.used_bytes(),
            freed.freed_bytes
        );
        assert!(disk.used_bytes() <= CAPACITY_BYTES);
        assert!(partition.probe().segments_recycled.get() > 0);
        for (uid, id) in kept {
            let bytes = partition
                .read(&account.address, uid, 0, MESSAGE_BYTES)
                .await
                .expect("kept");
            assert!(bytes == content(id, MESSAGE_BYTES), "message {id} differs");
        }
        ended.set(true);
    });
    let outcome = executor.run(&mut Random::new(2), 50_000_000, || done.get());
    assert_eq!(outcome, Outcome::Done, "{} bytes in use", used.used_bytes());
}
