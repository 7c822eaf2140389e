//! Little space: full disks, what is given back and what is kept.

use std::io::{Read, Seek};
use std::sync::Mutex;

use super::*;
use crate::store::sim::{Operation, yield_now};

#[test]
fn a_full_disk_is_started_on_again_and_again() {
    for capacity in (1_000_000..1_600_000).step_by(20_000) {
        let disk = new_disk(capacity);
        disk.set_capacity(Some(capacity));
        let count = live(&disk, 1, settings(), |partition, _| async move {
            partition.create_account(account("ann")).await.unwrap();
            let body = [b'x'; 30_000];
            let mut count = 0;
            // Mail that is on its way when the disk is full may take the reserve.
            while let Ok(results) = partition.deliver(delivery(&["ann"], &body)).await
                && results.iter().all(Result::is_ok)
            {
                count += 1;
            }
            count
        });
        let count = count.unwrap();
        assert!(count > 5, "{count}");
        let mut disk = disk.crash(Crash::Process);
        // Something else takes what is left.
        disk.set_capacity(Some(disk.used_bytes()));
        // Each start needs a segment.
        for start in 0..6 {
            live(
                &disk,
                20 + start,
                settings(),
                move |partition, report| async move {
                    // The write that found the disk full may have left a part of itself.
                    let is_lost = report.damage.iter().any(|damage| damage.acknowledged);
                    assert!(!is_lost, "{report:?}");
                    assert_eq!(all(&partition, "ann").await.len(), count);
                    let value = vec![start as u8; 100];
                    partition.put(b"key".to_vec(), Some(value)).await.unwrap();
                },
            );
            disk = disk.crash(Crash::Process);
        }
    }
}

/// Writes one key again and again, of which only the last value is needed, until the log goes on in
/// segment `active`; returns that value.
async fn fill(partition: &Log, active: u64) -> Vec<u8> {
    let mut value = vec![0; 20_000];
    while partition.log.borrow().active < active {
        value[0] += 1;
        let put = partition.put(b"key".to_vec(), Some(value.clone()));
        put.await.unwrap();
    }
    value
}

fn without_syncs() -> Settings {
    Settings {
        sync: SyncLevels {
            store: SyncLevel::None,
            envelope: SyncLevel::None,
            message: SyncLevel::None,
            database: SyncLevel::None,
        },
        ..settings()
    }
}

/// There is no room for an index, and nothing of these segments is copied: neither has synced what
/// made them garbage.
#[test]
fn what_a_full_disk_gives_back_has_durably_become_garbage() {
    for seed in 0..60 {
        let disk = new_disk(seed);
        let own = disk.clone();
        let last = live(&disk, seed, without_syncs(), |partition, _| async move {
            let last = fill(&partition, 4).await;
            own.set_capacity(Some(own.used_bytes()));
            partition.set_full(true);
            let reclaimed = partition.expire_now().await.unwrap();
            let seals = partition.probe().seals.get();
            (reclaimed.freed_bytes > 0 && seals == 0).then_some(last)
        });
        let Some(last) = last.flatten() else {
            panic!("seed {seed}: nothing was given back, or there was room for an index");
        };
        let disk = disk.crash(Crash::Power);
        disk.set_capacity(None);
        live(
            &disk,
            seed,
            without_syncs(),
            move |partition, report| async move {
                assert!(report.damage.is_empty(), "seed {seed}: {report:?}");
                assert!(
                    partition.get(b"key") == Some(last),
                    "seed {seed}: {report:?}"
                );
            },
        );
    }
}

#[test]
fn a_segment_stays_where_the_log_cannot_be_synced() {
    let disk = new_disk(31);
    let own = disk.clone();
    live(&disk, 31, without_syncs(), |partition, _| async move {
        fill(&partition, 3).await;
        own.fail(Operation::Sync, 1000);
        let removed = partition.remove_segments(&[1]).await;
        assert!(
            matches!(removed, Err(StoreError::ReadOnly(_))),
            "{removed:?}"
        );
        assert!(partition.log.borrow().segments.contains_key(&1));
        let path = crate::store::segment::file_path(&dir(), 1);
        assert!(own.files().iter().any(|(file, _)| *file == path));
    });
}

/// So often something whose name this is a part of was done to the disk.
fn count(disk: &SimDisk, what: &str) -> usize {
    let trace = disk.trace();
    trace.iter().filter(|line| line.contains(what)).count()
}

fn spares(disk: &SimDisk) -> usize {
    let files = disk.files();
    let spares = files
        .iter()
        .filter(|(path, _)| crate::store::spare::is_spare(path));
    spares.count()
}

/// Gives one segment back, and returns when the background has begun to erase its file: how many
/// pieces of it are done.
async fn begin_erasing(disk: &SimDisk, partition: &Log) -> usize {
    fill(partition, 2).await;
    disk.start_trace();
    let reclaimed = partition.expire_now().await.unwrap();
    assert!(reclaimed.freed_bytes > 0 && reclaimed.returned_bytes == 0);
    while count(disk, "erase /p001") == 0 {
        yield_now().await;
    }
    assert_eq!(spares(disk), 1);
    count(disk, "erase /p001")
}

#[test]
fn a_close_does_not_wait_for_a_whole_spare() {
    let disk = new_disk(32);
    let own = disk.clone();
    live(&disk, 32, settings(), |partition, _| async move {
        let before = begin_erasing(&own, &partition).await;
        partition.close().await.unwrap();
        let pieces = count(&own, "erase /p001");
        assert!(pieces < 8 && pieces <= before + 1, "{before} {pieces}");
    });
    let disk = disk.crash(Crash::Power);
    assert_eq!(spares(&disk), 1);
    live(&disk, 33, settings(), |partition, report| async move {
        assert!(report.clean && report.damage.is_empty(), "{report:?}");
        while partition.probe().segments_recycled.get() == 0 {
            let active = partition.log.borrow().active;
            fill(&partition, active + 1).await;
        }
    });
}

#[test]
fn a_disk_that_fills_up_has_a_spare_back_that_is_being_erased() {
    let disk = new_disk(34);
    let own = disk.clone();
    let settings = Settings {
        reserve_bytes: 64 * 1024,
        ..settings()
    };
    live(&disk, 34, settings, |partition, _| async move {
        let before = begin_erasing(&own, &partition).await;
        own.set_capacity(Some(own.used_bytes()));
        partition.look_for_space().await;
        assert_eq!(partition.health(), Health::Full);
        while partition.health() == Health::Full {
            yield_now().await;
        }
        let pieces = count(&own, "erase /p001");
        assert!(pieces < 8 && pieces <= before + 1, "{before} {pieces}");
        assert_eq!(spares(&own), 0);
    });
}

/// What goes wrong whenever it is tried is one line of the log, not one for every attempt.
#[test]
fn trouble_is_told_of_when_it_begins() {
    let mut lines = tempfile::tempfile().unwrap();
    let writer = Mutex::new(lines.try_clone().unwrap());
    let subscriber = tracing_subscriber::fmt().with_writer(writer).finish();
    tracing::subscriber::with_default(subscriber, || {
        let disk = new_disk(35);
        let own = disk.clone();
        live(&disk, 35, settings(), |partition, _| async move {
            for _ in 0..3 {
                let active = partition.log.borrow().active;
                fill(&partition, active + 3).await;
                own.fail(Operation::Read, 1000);
                let failures = own.counts().failures;
                while own.counts().failures < failures + 10 {
                    partition.set_expire_due(true);
                    yield_now().await;
                }
                own.heal();
                let before = partition.probe().reclaimed_bytes.get();
                while partition.probe().reclaimed_bytes.get() == before {
                    partition.set_expire_due(true);
                    yield_now().await;
                }
            }
        });
    });
    let mut text = String::new();
    lines.rewind().unwrap();
    lines.read_to_string(&mut text).unwrap();
    assert_eq!(text.matches("space not reclaimed").count(), 3, "{text}");
    assert_eq!(text.matches("index not written").count(), 3, "{text}");
}
