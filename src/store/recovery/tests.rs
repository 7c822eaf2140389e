//! Partitions on the simulated disk: what is acknowledged is there, whatever happens between.

mod changes;
mod mailboxes;
mod rot;
mod space;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::config::{SyncLevel, SyncLevels};
use crate::mail::Address;
use crate::store::sim::{Crash, Executor, Outcome, Random, SimDisk, block_on};
use crate::store::{
    Account, Delivery, Health, Identity, MessageInfo, Partition, RecoveryReport, Settings,
    StoreError, Uid,
};

const IDENTITY: Identity = Identity {
    store_id: 0x1234_5678,
    partition: 1,
};

fn dir() -> PathBuf {
    PathBuf::from("/p001")
}

fn settings() -> Settings {
    Settings {
        sync: SyncLevels::default(),
        segment_bytes: 256 * 1024,
        reserve_bytes: 0,
        cleanup_age_ms: 1000,
    }
}

fn address(name: &str) -> Address {
    Address::parse(&format!("{name}@example.org")).unwrap()
}

fn account(name: &str) -> Account {
    Account {
        address: address(name),
        password_hash: "hash".to_owned(),
        quota_bytes: 0,
    }
}

fn delivery(to: &[&str], body: &[u8]) -> Delivery {
    Delivery {
        trace: b"Received: by test\r\n".to_vec(),
        body: body.to_vec(),
        stream: None,
        recipients: to.iter().map(|name| address(name)).collect(),
        now_ms: 5,
        once: None,
    }
}

/// The message as it is read back.
fn stored(body: &[u8]) -> Vec<u8> {
    [b"Received: by test\r\n", body].concat()
}

type Log = Rc<Partition<SimDisk>>;

/// Makes the store's directory and the partition, durably.
fn new_disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    block_on(async {
        Partition::create(disk.clone(), &dir(), IDENTITY)
            .await
            .unwrap();
        crate::store::disk::Disk::sync_dir(&disk, Path::new("/"))
            .await
            .unwrap();
    });
    disk
}

/// Opens the partition and runs `life` with its tasks beside it.
fn live<T: 'static, F: Future<Output = T> + 'static>(
    disk: &SimDisk,
    seed: u64,
    settings: Settings,
    life: impl FnOnce(Log, RecoveryReport) -> F + 'static,
) -> Option<T> {
    let executor = Executor::new();
    let spawner = executor.clone();
    let result = Rc::new(RefCell::new(None));
    let (slot, done) = (result.clone(), result.clone());
    let own = disk.clone();
    executor.spawn(async move {
        let opened = Partition::open(own, &dir(), IDENTITY, settings, 0, |_| ()).await;
        let (partition, report) = opened.unwrap();
        spawner.spawn(partition.clone().run());
        spawner.spawn(partition.clone().background(|| 1_000_000));
        let value = life(partition, report).await;
        *slot.borrow_mut() = Some(value);
    });
    let mut random = Random::new(seed);
    let crashed = disk.clone();
    let outcome = executor.run(&mut random, 2_000_000, || {
        done.borrow().is_some() || crashed.crashed()
    });
    assert_eq!(outcome, Outcome::Done, "it hangs");
    result.take()
}

/// Messages with their UIDs.
type Mail = Vec<(Uid, Vec<u8>)>;

async fn all(partition: &Log, name: &str) -> Mail {
    let (_, messages) = partition.inbox(&address(name)).unwrap();
    let mut all = Vec::new();
    for MessageInfo { uid, bytes, .. } in messages {
        let read = partition.read(&address(name), uid, 0, usize::MAX / 2).await;
        let read = read.unwrap();
        assert_eq!(read.len() as u64, bytes);
        all.push((uid, read));
    }
    all
}

#[test]
fn what_is_delivered_is_read_back_after_a_clean_stop() {
    let disk = new_disk(1);
    let sizes = [0, 1, 100, 4095, 4096, 4097, 70_000, 200_000];
    let bodies: Vec<Vec<u8>> = sizes
        .iter()
        .map(|size| (0..*size).map(|i| (i % 251) as u8).collect())
        .collect();
    let sent = bodies.clone();
    live(&disk, 1, settings(), move |partition, report| async move {
        assert!(report.clean && report.damage.is_empty(), "{report:?}");
        partition.create_account(account("ann")).await.unwrap();
        partition.create_account(account("bob")).await.unwrap();
        let again = partition.create_account(account("bob")).await;
        assert!(matches!(again, Err(StoreError::Exists)));
        for body in &sent {
            let to = ["ann", "nobody", "bob"];
            let results = partition.deliver(delivery(&to, body)).await.unwrap();
            assert!(matches!(
                results[..],
                [Ok(_), Err(StoreError::Missing), Ok(_)]
            ));
        }
        let found = all(&partition, "ann").await;
        assert_eq!(found.len(), sent.len());
        partition
            .expunge(&address("bob"), &[2, 3, 99], 7)
            .await
            .unwrap();
        partition
            .put(b"k".to_vec(), Some(b"v".to_vec()))
            .await
            .unwrap();
        partition.close().await.unwrap();
        let late = partition.put(b"k".to_vec(), None).await;
        assert!(matches!(late, Err(StoreError::Closing)));
    });
    let disk = disk.crash(Crash::Power);
    live(&disk, 2, settings(), move |partition, report| async move {
        assert!(report.clean && report.damage.is_empty(), "{report:?}");
        let found = all(&partition, "ann").await;
        let expected: Vec<_> = (1..).zip(bodies.iter().map(|b| stored(b))).collect();
        assert!(found == expected, "{report:?}");
        let uids: Vec<Uid> = all(&partition, "bob").await.iter().map(|m| m.0).collect();
        assert_eq!(uids, [1, 4, 5, 6, 7, 8]);
        assert_eq!(partition.get(b"k"), Some(b"v".to_vec()));
        let part = partition
            .read(&address("ann"), 8, 5000, 9000)
            .await
            .unwrap();
        assert_eq!(part, stored(&bodies[7])[5000..14_000]);
    });
}

#[test]
fn what_is_acknowledged_survives_a_crash_at_any_step() {
    let mut lives = 0;
    for seed in 0..120 {
        let mut disk = new_disk(seed);
        let acknowledged: Rc<RefCell<Mail>> = Rc::default();
        for life in 0..4u64 {
            disk.crash_at(Some(3 + seed * 7 % 150 + life * 13));
            let told = acknowledged.clone();
            let ended = live(
                &disk,
                seed,
                settings(),
                move |partition, report| async move {
                    assert!(
                        report.damage.iter().all(|damage| !damage.acknowledged),
                        "{report:?}"
                    );
                    if !partition.has_account(&address("ann")) {
                        partition.create_account(account("ann")).await.unwrap();
                    }
                    for number in 0..40 {
                        let body =
                            format!("life {life} message {number} {}", "x".repeat(number * 97));
                        let delivered =
                            partition.deliver(delivery(&["ann"], body.as_bytes())).await;
                        let uid = delivered.unwrap().remove(0).unwrap();
                        told.borrow_mut().push((uid, stored(body.as_bytes())));
                    }
                },
            );
            lives += u32::from(ended.is_none());
            let how = if (seed + life) % 2 == 0 {
                Crash::Power
            } else {
                Crash::Process
            };
            disk = disk.crash(how);
        }
        disk.crash_at(None);
        live(&disk, seed, settings(), move |partition, _| async move {
            let acknowledged = acknowledged.borrow().clone();
            let found = match partition.has_account(&address("ann")) {
                true => all(&partition, "ann").await,
                false => Vec::new(),
            };
            for message in &acknowledged {
                let times = found.iter().filter(|found| *found == message).count();
                assert_eq!(times, 1, "seed {seed}: UID {} is lost", message.0);
            }
            // A message in flight may be there too, and none besides.
            assert!(found.len() <= acknowledged.len() + 4, "seed {seed}");
        });
    }
    assert!(lives > 200, "only {lives} lives ended in a crash");
}

#[test]
fn a_flipped_bit_is_found_reported_and_costs_one_message() {
    let disk = new_disk(3);
    live(&disk, 3, settings(), |partition, _| async move {
        partition.create_account(account("ann")).await.unwrap();
        for number in 0..10u8 {
            let body = vec![b'a' + number; 3000];
            partition.deliver(delivery(&["ann"], &body)).await.unwrap();
        }
    });
    let disk = disk.crash(Crash::Process);
    // The byte where the fourth message's text begins.
    let (path, at) = disk
        .files()
        .iter()
        .find_map(|(path, _)| {
            let bytes = disk.contents(path)?;
            let at = bytes.windows(64).position(|window| window == [b'd'; 64])?;
            Some((path.clone(), at as u64))
        })
        .unwrap();
    // In the body itself: only reading it can tell.
    disk.flip_bit(&path, at, 1);
    live(&disk, 4, settings(), |partition, report| async move {
        assert!(report.damage.is_empty(), "{report:?}");
        let read = partition.read(&address("ann"), 4, 0, 10_000).await;
        assert!(matches!(read, Err(StoreError::Damaged(_))), "{read:?}");
        assert_eq!(partition.probe().damage.get(), 1);
        assert!(partition.read(&address("ann"), 5, 0, 10_000).await.is_ok());
    });
    let disk = disk.crash(Crash::Process);
    // In its record's header: the replay finds it. The append is behind it in the same batch.
    disk.flip_bit(&path, at - 19 - 4 - 24 - 8, 1);
    live(&disk, 5, settings(), |partition, report| async move {
        let damage: Vec<_> = report.damage.iter().filter(|d| d.acknowledged).collect();
        assert_eq!(damage.len(), 1, "{report:?}");
        assert!(damage[0].saved_to.is_some());
        for uid in [1, 2, 3, 5, 10] {
            let read = partition.read(&address("ann"), uid, 0, 10_000).await;
            assert!(read.is_ok(), "{uid}: {read:?}");
        }
        let results = partition.deliver(delivery(&["ann"], b"new")).await.unwrap();
        assert!(
            matches!(results[..], [Ok(uid)] if uid > 1000),
            "{results:?}"
        );
    });
}

#[test]
fn a_flipped_bit_in_the_header_of_a_batch_costs_nothing() {
    let disk = new_disk(8);
    let spawner = Executor::new();
    let executor = spawner.clone();
    let finished: Rc<RefCell<u32>> = Rc::default();
    let (told, own) = (finished.clone(), disk.clone());
    executor.spawn(async move {
        let opened = Partition::open(own, &dir(), IDENTITY, settings(), 0, |_| ()).await;
        let (partition, _) = opened.unwrap();
        spawner.spawn(partition.clone().run());
        partition.create_account(account("ann")).await.unwrap();
        for number in 0..40u8 {
            let (partition, told) = (partition.clone(), told.clone());
            spawner.spawn(async move {
                let body = vec![number; 700];
                partition.deliver(delivery(&["ann"], &body)).await.unwrap();
                *told.borrow_mut() += 1;
                if *told.borrow() == 40 {
                    partition.close().await.unwrap();
                    *told.borrow_mut() += 1;
                }
            });
        }
    });
    let mut random = Random::new(8);
    let outcome = executor.run(&mut random, 2_000_000, || *finished.borrow() == 41);
    assert_eq!(outcome, Outcome::Done);
    let disk = disk.crash(Crash::Process);
    // The batch with the most records in it.
    let heads = disk.files().into_iter().flat_map(|(path, _)| {
        let bytes = disk.contents(&path).unwrap_or_default();
        let count = |at: usize| u32::from_le_bytes(bytes[at + 12..at + 16].try_into().unwrap());
        let heads = (0..bytes.len()).step_by(4096);
        let heads = heads.filter(|at| bytes.get(at + 4..at + 8) == Some(b"RPbt"));
        let found: Vec<_> = heads.map(|at| (count(at), path.clone(), at)).collect();
        found
    });
    let (records, path, at) = heads.max().unwrap();
    assert!(records > 20, "{records}");
    disk.flip_bit(&path, at as u64 + 20, 3);
    live(&disk, 9, settings(), |partition, report| async move {
        let damage: Vec<_> = report.damage.iter().filter(|d| d.acknowledged).collect();
        assert_eq!(damage.len(), 1, "{report:?}");
        assert_eq!(all(&partition, "ann").await.len(), 40);
    });
}

#[test]
fn a_lost_manifest_is_made_again() {
    for flips in [vec![30], vec![30, 64 * 1024 + 30]] {
        let disk = new_disk(9);
        live(&disk, 1, settings(), |partition, _| async move {
            partition.create_account(account("ann")).await.unwrap();
            for _ in 0..30 {
                let body = [b'x'; 30_000];
                partition.deliver(delivery(&["ann"], &body)).await.unwrap();
            }
            partition.close().await.unwrap();
        });
        let disk = disk.crash(Crash::Process);
        for offset in &flips {
            disk.flip_bit(&dir().join("MANIFEST"), *offset, 3);
        }
        let both = flips.len() == 2;
        live(&disk, 2, settings(), move |partition, report| async move {
            assert_eq!(report.damage.len(), usize::from(both), "{report:?}");
            assert_eq!(all(&partition, "ann").await.len(), 30);
        });
    }
}

#[test]
fn a_failed_sync_makes_it_read_only() {
    let disk = new_disk(8);
    let own = disk.clone();
    live(&disk, 8, settings(), move |partition, _| async move {
        partition.create_account(account("ann")).await.unwrap();
        partition
            .deliver(delivery(&["ann"], b"first"))
            .await
            .unwrap();
        own.fail(crate::store::sim::Operation::Sync, 1000);
        let failed = partition.deliver(delivery(&["ann"], b"second")).await;
        assert!(matches!(failed, Err(StoreError::ReadOnly(_))), "{failed:?}");
        assert!(matches!(partition.health(), Health::ReadOnly(_)));
        let later = partition.deliver(delivery(&["ann"], b"third")).await;
        assert!(matches!(later, Err(StoreError::ReadOnly(_))));
        assert_eq!(all(&partition, "ann").await.len(), 1);
    });
}

#[test]
fn without_syncs_an_unclean_start_changes_the_validity() {
    let settings = || Settings {
        sync: SyncLevels {
            message: SyncLevel::None,
            ..SyncLevels::default()
        },
        ..settings()
    };
    let disk = new_disk(10);
    let first = live(&disk, 1, settings(), |partition, _| async move {
        partition.create_account(account("ann")).await.unwrap();
        for _ in 0..40 {
            let body = [b'x'; 20_000];
            partition.deliver(delivery(&["ann"], &body)).await.unwrap();
        }
        partition.inbox(&address("ann")).unwrap().0
    });
    let disk = disk.crash(Crash::Power);
    let second = live(&disk, 2, settings(), |partition, report| async move {
        assert!(!report.clean);
        let validity = partition.inbox(&address("ann")).unwrap().0;
        all(&partition, "ann").await;
        partition.close().await.unwrap();
        validity
    });
    assert!(first < second, "{first:?} {second:?}");
    let third = live(&disk, 3, settings(), |partition, report| async move {
        assert!(report.clean, "{report:?}");
        partition.inbox(&address("ann")).unwrap().0
    });
    assert_eq!(second, third);
}
