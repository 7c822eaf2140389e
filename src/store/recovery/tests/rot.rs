//! What rots is told of, and no number that was in it is given again; failed syncs lose nothing
//! that was acknowledged.

use std::cell::Cell;

use super::*;
use crate::store::sim::{Operation, SECTOR_BYTES};

/// Files that hold these bytes, with the offset of the first of them.
fn places_of(disk: &SimDisk, text: &[u8]) -> Vec<(PathBuf, u64)> {
    let find = |(path, _): (PathBuf, u64)| {
        let bytes = disk.contents(&path)?;
        let at = bytes.windows(text.len()).position(|w| w == text)?;
        Some((path, at as u64))
    };
    disk.files().into_iter().filter_map(find).collect()
}

async fn deliver_one(partition: &Log, body: &[u8]) -> Uid {
    let results = partition.deliver(delivery(&["ann"], body)).await.unwrap();
    *results[0].as_ref().unwrap()
}

#[test]
fn an_unreadable_last_batch_is_no_end_of_the_log() {
    let disk = new_disk(20);
    let last = live(&disk, 1, settings(), |partition, _| async move {
        partition.create_account(account("ann")).await.unwrap();
        deliver_one(&partition, b"first").await;
        deliver_one(&partition, &[b'l'; 100]).await
    });
    let disk = disk.crash(Crash::Process);
    for (path, at) in places_of(&disk, &[b'l'; 100]) {
        disk.spoil_sector(&path, at);
    }
    live(&disk, 2, settings(), move |partition, report| async move {
        assert_eq!(report.damage.len(), 1, "{report:?}");
        assert_eq!(all(&partition, "ann").await.len(), 1);
        assert!(deliver_one(&partition, b"new").await > last.unwrap());
    });
}

/// A start that cuts damage off the log may be cut short before it has told of it, and so may the
/// next ones, wherever they are: whoever comes to its end first tells, and nobody after that.
#[test]
fn damage_is_told_once_however_many_starts_are_cut_short() {
    let rotten = |is_missing: bool| {
        let disk = new_disk(24);
        live(&disk, 1, settings(), move |partition, _| async move {
            partition.create_account(account("ann")).await.unwrap();
            while is_missing && partition.log.borrow().active < 3 {
                deliver_one(&partition, &[b'x'; 30_000]).await;
            }
            deliver_one(&partition, &[b'l'; 100]).await;
        });
        let disk = disk.crash(Crash::Process);
        if is_missing {
            let path = crate::store::segment::file_path(&dir(), 2);
            block_on(crate::store::disk::Disk::remove(&disk, &path)).unwrap();
            return disk;
        }
        for (path, at) in places_of(&disk, &[b'l'; 100]) {
            disk.spoil_sector(&path, at);
        }
        disk
    };
    // What one start reports, `None` when it was cut short before it could; and whether its life
    // came to its end.
    let start = |disk: SimDisk, seed, cut| {
        disk.crash_at(cut);
        let reported = Rc::new(Cell::new(None));
        let slot = reported.clone();
        let ended = live(&disk, seed, settings(), |partition, report| async move {
            slot.set(Some(report.damage.len()));
            // The background has begun when this is done.
            let _ = partition.deliver(delivery(&["ann"], b"new")).await;
            partition.close().await.unwrap();
        });
        disk.crash_at(None);
        (disk.crash(Crash::Power), reported.get(), ended.is_some())
    };
    for is_missing in [false, true] {
        let (mut both_cut, mut told) = (0, 0);
        for first in 1..100 {
            // Mostly at about the same place again: the last steps are what matters.
            for second in [first, first + 2, first * 7 % 100 + 1] {
                let (disk, one, is_whole) = start(rotten(is_missing), 2, Some(first));
                let (disk, two, _) = start(disk, 3, Some(second));
                let (disk, three, _) = start(disk, 4, None);
                let (_, four, _) = start(disk, 5, None);
                let case = format!("{is_missing} {first} {second}: {one:?} {two:?} {three:?}");
                assert_eq!(four, Some(0), "{case}");
                match (one, two) {
                    (None, None) => {
                        both_cut += 1;
                        assert_eq!(three, Some(1), "{case}");
                    }
                    (None, two) => assert_eq!(two, Some(1), "{case}"),
                    (one, two) => {
                        assert_eq!(one, Some(1), "{case}");
                        if is_whole {
                            told += 1;
                            assert_eq!((two.unwrap_or(0), three), (0, Some(0)), "{case}");
                        }
                    }
                }
            }
        }
        assert!(both_cut > 40 && told > 40, "{both_cut} {told}");
    }
}

#[test]
fn a_segment_of_which_nothing_can_be_read_is_set_aside() {
    let disk = new_disk(21);
    live(&disk, 1, settings(), |partition, _| async move {
        partition.create_account(account("ann")).await.unwrap();
        while partition.log.borrow().active < 2 {
            deliver_one(&partition, &[b'x'; 30_000]).await;
        }
    });
    let disk = disk.crash(Crash::Process);
    let path = crate::store::segment::file_path(&dir(), 2);
    for offset in (0..48 * 1024).step_by(SECTOR_BYTES) {
        disk.spoil_sector(&path, offset);
    }
    live(&disk, 2, settings(), move |partition, report| async move {
        assert_eq!(report.damage.len(), 1, "{report:?}");
        assert!(report.damage[0].saved_to.is_some());
        assert!(deliver_one(&partition, b"new").await > 1000);
    });
}

#[test]
fn numbers_of_a_life_of_which_nothing_is_left_are_not_given_again() {
    let disk = new_disk(22);
    live(&disk, 1, settings(), |partition, _| async move {
        partition.create_account(account("ann")).await.unwrap();
        deliver_one(&partition, b"first").await;
    });
    let disk = disk.crash(Crash::Process);
    let before = live(&disk, 2, settings(), |partition, _| async move {
        deliver_one(&partition, &[b'l'; 100]).await;
        let (_, messages) = partition.inbox(&address("ann")).unwrap();
        messages[1].modseq
    });
    let disk = disk.crash(Crash::Process);
    for (path, at) in places_of(&disk, &[b'l'; 100]) {
        disk.spoil_sector(&path, at);
    }
    live(&disk, 3, settings(), move |partition, _| async move {
        deliver_one(&partition, b"new").await;
        let (_, messages) = partition.inbox(&address("ann")).unwrap();
        assert_eq!(messages.len(), 2);
        assert!(Some(messages[1].modseq) > before, "{messages:?} {before:?}");
    });
}

/// The manifest that names the first index may be on the platter although its sync has failed.
#[test]
fn an_index_that_was_given_up_lends_its_name_to_no_other() {
    let disk = new_disk(23);
    let own = disk.clone();
    live(&disk, 1, settings(), |partition, _| async move {
        partition.create_account(account("ann")).await.unwrap();
        deliver_one(&partition, b"first").await;
        // The index itself comes first.
        own.fail_at(Operation::Sync, 1);
        assert!(partition.checkpoint().await.is_err());
        let given_up = partition.background.index.get();
        deliver_one(&partition, b"second").await;
        partition.checkpoint().await.unwrap();
        assert!(partition.manifest.borrow().index > given_up);
    });
}

/// Of two syncs of one file the kernel tells one alone that pages are lost: none may run beside
/// that of a batch. Chunks wait in the page cache for the sync of the body that names them.
#[test]
fn a_failure_told_to_another_sync_is_no_acknowledgement() {
    let (mut failed, mut acknowledged) = (0, 0);
    for seed in 0..400 {
        let disk = new_disk(seed);
        let own = disk.clone();
        let result = live(&disk, seed, settings(), move |partition, _| async move {
            partition.create_account(account("ann")).await.unwrap();
            let stream = partition.open_stream().unwrap();
            let chunk = vec![b'c'; 9000];
            partition.append_stream(stream, chunk).await.unwrap();
            partition.settle().await.unwrap();
            own.fail_at(Operation::Sync, 1 + seed % 3);
            // Both at once, as far as one task can.
            let delivery = partition.deliver(Delivery {
                stream: Some(stream),
                ..delivery(&["ann"], b"end")
            });
            let mut delivery = std::pin::pin!(delivery);
            let mut sealed = std::pin::pin!(partition.checkpoint());
            let mut is_sealed = false;
            std::future::poll_fn(|context| {
                if !is_sealed {
                    is_sealed = sealed.as_mut().poll(context).is_ready();
                }
                delivery.as_mut().poll(context)
            })
            .await
            .is_ok()
        });
        let disk = disk.crash(Crash::Power);
        disk.heal();
        if result != Some(true) {
            failed += 1;
            continue;
        }
        acknowledged += 1;
        live(
            &disk,
            seed,
            settings(),
            move |partition, report| async move {
                let found = all(&partition, "ann").await;
                assert_eq!(found.len(), 1, "seed {seed}: {report:?}");
            },
        );
    }
    assert!(failed > 20 && acknowledged > 20, "{failed} {acknowledged}");
}
