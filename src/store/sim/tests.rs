//! The simulated disk keeps its own contract.

use std::path::PathBuf;

use super::*;
use crate::config::SyncLevel;
use crate::store::disk::{Disk, OpenMode};

fn path(text: &str) -> PathBuf {
    PathBuf::from(text)
}

async fn write(disk: &SimDisk, file: &SimFile, offset: u64, bytes: &[u8], level: SyncLevel) {
    disk.write_at(file, offset, bytes.to_vec(), level)
        .await
        .0
        .unwrap();
}

/// A file of 1 KiB, synced with its name.
async fn one_file(disk: &SimDisk) -> SimFile {
    let file = disk.open(&path("/f"), OpenMode::CreateNew).await.unwrap();
    write(disk, &file, 0, &[1; 1024], SyncLevel::Fdatasync).await;
    disk.sync_dir(&path("/")).await.unwrap();
    file
}

#[test]
fn what_is_synced_survives_and_the_rest_may_not() {
    let mut lost = 0;
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let disk = block_on(async {
            let file = one_file(&disk).await;
            write(&disk, &file, 1024, &[2; 1024], SyncLevel::None).await;
            disk.crash(Crash::Power)
        });
        block_on(async {
            let file = disk.open(&path("/f"), OpenMode::Read).await.unwrap();
            let bytes = disk.read_at(&file, 0, 4096).await.unwrap();
            assert_eq!(bytes[..1024], [1; 1024]);
            lost += u32::from(bytes[1024..] != [2; 1024]);
        });
    }
    assert!((20..95).contains(&lost), "{lost} of 100 lost something");
}

#[test]
fn a_killed_process_loses_nothing_that_was_written() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let disk = block_on(async {
            let file = disk.open(&path("/f"), OpenMode::CreateNew).await.unwrap();
            write(&disk, &file, 0, &[2; 5000], SyncLevel::None).await;
            disk.crash(Crash::Process)
        });
        assert_eq!(disk.contents(&path("/f")).unwrap(), [2; 5000]);
    }
}

#[test]
fn the_world_stops_at_every_step_of_a_write() {
    let mut lengths = std::collections::BTreeSet::new();
    for step in 1..30 {
        let disk = SimDisk::new(step);
        disk.crash_at(Some(step));
        let executor = Executor::new();
        let writer = disk.clone();
        executor.spawn(async move {
            let file = one_file(&writer).await;
            write(&writer, &file, 1024, &[2; 8192], SyncLevel::None).await;
        });
        executor.run(&mut Random::new(step), 10_000, || disk.crashed());
        let disk = disk.crash(Crash::Process);
        lengths.insert(disk.contents(&path("/f")).map(|bytes| bytes.len()));
    }
    assert!(lengths.contains(&None) && lengths.contains(&Some(9216)));
    assert!(
        lengths.iter().flatten().any(|l| (1025..9216).contains(l)),
        "no write was cut: {lengths:?}"
    );
}

#[test]
fn a_dead_handle_never_completes() {
    let disk = SimDisk::new(1);
    let file = block_on(one_file(&disk));
    let next = disk.crash(Crash::Power);
    let executor = Executor::new();
    let dead = disk.clone();
    executor.spawn(async move {
        write(&dead, &file, 0, &[9; 1024], SyncLevel::Fsync).await;
    });
    let outcome = executor.run(&mut Random::new(1), 1000, || false);
    assert_eq!(outcome, Outcome::Stalled);
    assert_eq!(next.contents(&path("/f")).unwrap(), [1; 1024]);
}

#[test]
fn a_full_disk_takes_what_fits_and_gives_space_back() {
    let disk = SimDisk::new(1);
    block_on(async {
        let file = one_file(&disk).await;
        disk.set_capacity(Some(8192));
        let (result, buffer) = disk
            .write_at(&file, 0, vec![3; 20_000], SyncLevel::None)
            .await;
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(buffer.len(), 20_000);
        assert!(disk.len(&file).await.unwrap() <= 8192);
        drop(file);
        disk.remove(&path("/f")).await.unwrap();
        assert_eq!(disk.free_bytes(&path("/")).await.unwrap(), 8192);
    });
}

#[test]
fn allocating_zeros_a_file_or_extends_it() {
    let disk = SimDisk::new(1);
    block_on(async {
        let file = one_file(&disk).await;
        disk.allocate(&file, 2048, false).await.unwrap();
        assert_eq!(disk.len(&file).await.unwrap(), 2048);
        assert_eq!(disk.read_at(&file, 1023, 2).await.unwrap(), [1, 0]);
        disk.allocate(&file, 4096, true).await.unwrap();
        assert_eq!(disk.read_at(&file, 0, 9999).await.unwrap(), [0; 4096]);
        disk.set_copy_on_write();
        disk.allocate(&file, 8192, true).await.unwrap();
        assert_eq!(disk.len(&file).await.unwrap(), 4096);
    });
}

#[test]
fn each_kind_of_operation_fails_when_told() {
    let disk = SimDisk::new(1);
    block_on(async {
        let file = one_file(&disk).await;
        disk.fail_at(Operation::Read, 1);
        assert!(disk.read_at(&file, 0, 1).await.is_ok());
        assert!(disk.read_at(&file, 0, 1).await.is_err());
        assert!(disk.read_at(&file, 0, 1).await.is_ok());
        disk.fail(Operation::Directory, 1000);
        assert!(disk.sync_dir(&path("/")).await.is_err());
        disk.fail(Operation::Open, 1000);
        assert!(disk.open(&path("/f"), OpenMode::Read).await.is_err());
        disk.fail(Operation::Write, 1000);
        assert!(disk.allocate(&file, 4096, true).await.is_err());
        assert_eq!(disk.counts().failures, 4);
        disk.heal();
        disk.fail(Operation::Sync, 1000);
        let (result, _) = disk
            .write_at(&file, 0, vec![5; 512], SyncLevel::Fsync)
            .await;
        assert!(result.is_err());
        // The cache shows what the platter may lack, and a second sync mends nothing.
        disk.heal();
        disk.sync(&file, SyncLevel::Fsync).await.unwrap();
        assert_eq!(disk.read_at(&file, 0, 512).await.unwrap(), [5; 512]);
    });
}

#[test]
fn a_bad_sector_cannot_be_read_until_it_is_written() {
    let disk = SimDisk::new(1);
    block_on(async {
        let file = one_file(&disk).await;
        disk.spoil_sector(&path("/f"), 600);
        assert!(disk.read_at(&file, 0, 512).await.is_ok());
        assert!(disk.read_at(&file, 0, 513).await.is_err());
        assert!(disk.read_at(&file, 1000, 999).await.is_err());
        assert!(disk.read_at(&file, 1024, 999).await.is_ok());
        assert!(disk.map(&file).await.is_err());
        write(&disk, &file, 512, &[2; 512], SyncLevel::None).await;
        assert_eq!(disk.read_at(&file, 600, 1).await.unwrap(), [2]);
    });
}

#[test]
#[should_panic(expected = "while it is mapped")]
fn writing_to_a_mapped_file_is_a_bug() {
    let disk = SimDisk::new(1);
    block_on(async {
        let file = one_file(&disk).await;
        let map = disk.map(&file).await.unwrap();
        assert_eq!(map.as_ref(), [1; 1024]);
        write(&disk, &file, 0, &[2; 512], SyncLevel::None).await;
    });
}

#[test]
fn the_same_seed_gives_the_same_run() {
    fn run(seed: u64) -> Vec<String> {
        let disk = SimDisk::new(seed);
        disk.start_trace();
        let executor = Executor::new();
        for name in ["/a", "/b", "/c"] {
            let disk = disk.clone();
            executor.spawn(async move {
                let file = disk.open(&path(name), OpenMode::CreateNew).await.unwrap();
                write(&disk, &file, 0, &[1; 4096], SyncLevel::Fdatasync).await;
            });
        }
        executor.run(&mut Random::new(seed), 10_000, || false);
        let next = disk.crash(Crash::Power);
        next.note(|| format!("{:?}", next.files()));
        next.trace()
    }
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}
