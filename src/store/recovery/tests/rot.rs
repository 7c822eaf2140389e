//! What rots is told of, and no number that was in it is given again; failed syncs lose nothing
//! that was acknowledged.

use std::cell::Cell;

use super::*;
use crate::store::disk::Disk;
use crate::store::sim::{Operation, SECTOR_BYTES};

/// Makes the sectors unreadable in which these bytes begin, in whatever files.
fn spoil(disk: &SimDisk, text: &[u8]) {
    for (path, _) in disk.files() {
        let bytes = disk.contents(&path).unwrap_or_default();
        if let Some(at) = bytes.windows(text.len()).position(|w| w == text) {
            disk.spoil_sector(&path, at as u64);
        }
    }
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
    spoil(&disk, &[b'l'; 100]);
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
            block_on(Disk::remove(&disk, &path)).unwrap();
            block_on(Disk::sync_dir(&disk, &dir())).unwrap();
            return disk;
        }
        spoil(&disk, &[b'l'; 100]);
        disk
    };
    // What one start reports, `None` when it was cut short before it could; and whether its life
    // came to its end. Steps of its recovery, and of all of it.
    let start = |disk: SimDisk, seed, cut| {
        let (first_step, own) = (disk.steps(), disk.clone());
        disk.crash_at(cut);
        let reported = Rc::new(Cell::new(None));
        let slot = reported.clone();
        let ended = live(
            &disk,
            seed,
            settings(),
            move |partition, report| async move {
                slot.set(Some((report.damage.len(), own.steps() - first_step)));
                // The background has begun when this is done.
                let _ = partition.deliver(delivery(&["ann"], b"new")).await;
                partition.close().await.unwrap();
            },
        );
        disk.crash_at(None);
        let steps = (
            reported.get().map(|found| found.1),
            disk.steps() - first_step,
        );
        let reported = reported.get().map(|found| found.0);
        (disk.crash(Crash::Power), reported, ended.is_some(), steps)
    };
    for is_missing in [false, true] {
        let (_, damages, _, (recovery_steps, all_steps)) = start(rotten(is_missing), 2, None);
        let recovery_steps = recovery_steps.unwrap();
        assert!(damages > Some(0));
        // The last steps of a recovery, and the first behind it, are what matters.
        let cuts = (1..all_steps).filter(|cut| cut % 17 == 0 || cut.abs_diff(recovery_steps) < 10);
        let (mut both_cut, mut told) = (0, 0);
        for first in cuts.chain([all_steps + 100]) {
            for second in [first, first + 3] {
                let (disk, one, is_whole, _) = start(rotten(is_missing), 2, Some(first));
                let (disk, two, ..) = start(disk, 3, Some(second));
                let (disk, three, ..) = start(disk, 4, None);
                let (_, four, ..) = start(disk, 5, None);
                let case = format!("{is_missing} {first} {second}: {one:?} {two:?} {three:?}");
                assert_eq!(four, Some(0), "{case}");
                match (one, two) {
                    (None, None) => {
                        both_cut += 1;
                        assert_eq!(three, damages, "{case}");
                    }
                    (None, two) => assert_eq!(two, damages, "{case}"),
                    (one, two) => {
                        assert_eq!(one, damages, "{case}");
                        if is_whole {
                            told += 1;
                            assert_eq!((two.unwrap_or(0), three), (0, Some(0)), "{case}");
                        }
                    }
                }
            }
        }
        assert!(both_cut > 20 && told > 0, "{both_cut} {told}");
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
    spoil(&disk, &[b'l'; 100]);
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
