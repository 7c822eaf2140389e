//! Files: writes and their syncs, short and failed writes, names, futures that are dropped.

use super::*;

#[test]
fn writes_at_each_level_sync_as_asked_and_count_it() {
    run_files(|ring| async move {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let file = ring
            .open(&path, libc::O_CREAT | libc::O_RDWR, 0o600)
            .await
            .unwrap();
        for (index, level) in [SyncLevel::None, SyncLevel::Fdatasync, SyncLevel::Fsync]
            .into_iter()
            .enumerate()
        {
            let bytes = vec![b'0' + index as u8; 5000];
            let offset = index as u64 * 5000;
            let (result, back) = ring.write(file.as_raw_fd(), offset, bytes, level).await;
            result.unwrap();
            assert_eq!(back.len(), 5000);
        }
        ring.sync(file.as_raw_fd(), SyncLevel::None).await.unwrap();
        ring.sync(file.as_raw_fd(), SyncLevel::Fsync).await.unwrap();
        let probe = ring.probe();
        assert_eq!(probe.writes.get(), 3);
        assert_eq!(probe.written_bytes.get(), 15_000);
        assert_eq!((probe.fdatasyncs.get(), probe.fsyncs.get()), (1, 2));

        let got = ring.read(file.as_raw_fd(), 4999, 2).await.unwrap();
        assert_eq!(got, b"01");
        // Short only at the end of the file.
        let got = ring.read(file.as_raw_fd(), 14_000, 9999).await.unwrap();
        assert_eq!(got, vec![b'2'; 1000]);
        let got = ring.read(file.as_raw_fd(), 15_000, 10).await.unwrap();
        assert!(got.is_empty());
    });
}

#[test]
fn a_failed_write_does_not_sync() {
    run_files(|ring| async move {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read_only = ring.open(file.path(), libc::O_RDONLY, 0).await.unwrap();
        let (result, back) = ring
            .write(read_only.as_raw_fd(), 0, vec![1; 10], SyncLevel::Fdatasync)
            .await;
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(back, [1; 10]);
        assert_eq!(ring.probe().fdatasyncs.get(), 0);
    });
}

#[test]
fn a_short_write_is_finished_and_then_synced() {
    // A file size limit makes the kernel write short; only a process of its own may have one, so
    // the continuation is checked step by step here and the whole in the test below.
    let probe = Probe::default();
    let mut write = operation::Write {
        file: -1,
        offset: 0,
        bytes: vec![0; 100],
        aligned: None,
        written: 0,
        level: SyncLevel::Fdatasync,
        begun: Instant::now(),
    };
    let (main, sync) = (driver::MAIN, driver::SYNC);
    use driver::Advance;
    // Short: its sync has not run, and tells nothing.
    let step = write.advance(main, 60, &probe);
    assert!(matches!(step, Advance::Continues));
    assert_eq!((write.written, probe.fdatasyncs.get()), (60, 0));
    // The rest was written, or its sync would not have run.
    assert!(matches!(write.advance(sync, 0, &probe), Advance::Ends(0)));
    assert_eq!((probe.writes.get(), probe.fdatasyncs.get()), (2, 1));
    assert_eq!((write.written, probe.written_bytes.get()), (100, 100));

    // A sync that fails after a whole write is a failure of the write.
    write.written = 0;
    let step = write.advance(sync, -libc::EIO, &probe);
    assert!(matches!(step, Advance::Ends(error) if error == -libc::EIO));

    // An interrupted write is made again, a failed one is not.
    write.written = 0;
    let step = write.advance(main, -libc::EINTR, &probe);
    assert!(matches!(step, Advance::Continues));
    let step = write.advance(main, -libc::ENOSPC, &probe);
    assert!(matches!(step, Advance::Ends(error) if error == -libc::ENOSPC));

    // A disk that takes nothing is an error, not a loop.
    let step = write.advance(main, 0, &probe);
    assert!(matches!(step, Advance::Ends(error) if error == -libc::EIO));
}

#[test]
fn a_full_disk_is_reported_after_a_short_write() {
    run_files(|ring| async move {
        // A memory file of a fixed size writes short at its end, then fails: EPERM by its seal.
        // SAFETY: the name is a C string; the result is checked by use.
        let fd = unsafe {
            let fd = libc::memfd_create(c"short".as_ptr(), libc::MFD_ALLOW_SEALING);
            std::os::fd::FromRawFd::from_raw_fd(fd)
        };
        let file = std::fs::File::from(std::convert::identity::<OwnedFd>(fd));
        file.set_len(8192).unwrap();
        // SAFETY: no pointers.
        let sealed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_GROW) };
        assert_eq!(sealed, 0);
        let (result, _) = ring
            .write(file.as_raw_fd(), 4096, vec![1; 8192], SyncLevel::Fdatasync)
            .await;
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(ring.probe().fdatasyncs.get(), 0);
    });
}

#[test]
fn a_direct_write_is_what_an_ordinary_read_finds() {
    run_files(|ring| async move {
        let file = tempfile::NamedTempFile::new().unwrap();
        let flags = libc::O_RDWR | libc::O_DIRECT;
        let direct = match ring.open(file.path(), flags, 0).await {
            Ok(direct) => direct,
            // A filesystem that cannot.
            Err(error) => return assert_eq!(error.raw_os_error(), Some(libc::EINVAL)),
        };
        let block = crate::limits::BLOCK_BYTES;
        let plain = file.as_file().as_raw_fd();
        let (result, _) = ring
            .write(plain, 0, vec![b'a'; 3 * block], SyncLevel::None)
            .await;
        result.unwrap();
        // In the page cache, and not yet on the disk.
        assert_eq!(ring.read(plain, 0, 3 * block).await.unwrap()[block], b'a');
        for level in [SyncLevel::None, SyncLevel::Fdatasync, SyncLevel::Fsync] {
            let bytes = vec![b'0' + level as u8; 2 * block];
            let (result, back) = ring
                .write_direct(direct.as_raw_fd(), block as u64, bytes, level)
                .await;
            result.unwrap();
            assert_eq!(back, vec![b'0' + level as u8; 2 * block]);
            let found = ring.read(plain, 0, 4 * block).await.unwrap();
            assert_eq!(found.len(), 3 * block);
            assert!(found[..block].iter().all(|byte| *byte == b'a'));
            assert_eq!(found[block..], back);
        }
        // Not at a block: refused whole, but by filesystems that do not mind (one in memory).
        let (result, _) = ring
            .write_direct(
                direct.as_raw_fd(),
                7,
                vec![b'x'; block],
                SyncLevel::Fdatasync,
            )
            .await;
        if let Err(error) = result {
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
            assert_eq!(ring.probe().fdatasyncs.get(), 1);
        }
    });
}

#[test]
fn directories_and_names() {
    run_files(|ring| async move {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("sub");
        ring.mkdir(&sub, 0o700).await.unwrap();
        let error = ring.mkdir(&sub, 0o700).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let (a, b) = (sub.join("a"), sub.join("b"));
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
        let file = ring.open(&a, flags, 0o600).await.unwrap();
        ring.allocate(file.as_raw_fd(), 0, 0, 65_536).await.unwrap();
        assert_eq!(a.metadata().unwrap().len(), 65_536);
        ring.rename(&a, &b).await.unwrap();
        assert!(!a.exists() && b.exists());
        ring.unlink(&b).await.unwrap();
        assert!(!b.exists());
        let error = ring.open(&b, libc::O_RDONLY, 0).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let directory = ring
            .open(&sub, libc::O_RDONLY | libc::O_DIRECTORY, 0)
            .await
            .unwrap();
        ring.sync(directory.as_raw_fd(), SyncLevel::Fsync)
            .await
            .unwrap();
        let error = ring
            .open(std::path::Path::new("a\0b"), 0, 0)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn reading_without_access_times_leaves_them() {
    run_files(|ring| async move {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all_at(b"x", 0).unwrap();
        // An access time far in the past: even `relatime` would renew it.
        let old = libc::timespec {
            tv_sec: 1000,
            tv_nsec: 0,
        };
        // SAFETY: two timespecs, as futimens wants.
        let set = unsafe { libc::futimens(file.as_file().as_raw_fd(), [old, old].as_ptr()) };
        assert_eq!(set, 0);
        let opened = ring
            .open(file.path(), libc::O_RDONLY | libc::O_NOATIME, 0)
            .await
            .unwrap();
        assert_eq!(ring.read(opened.as_raw_fd(), 0, 1).await.unwrap(), b"x");
        assert_eq!(file.path().metadata().unwrap().atime(), 1000);
    });
}

#[test]
fn a_dropped_future_ends_by_itself() {
    run_files(|ring| async move {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = file.reopen().unwrap();
        let path = file.path().to_owned();
        let descriptors = move || {
            let all = std::fs::read_dir("/proc/self/fd").unwrap();
            all.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
                .filter(|target| *target == path)
                .count()
        };
        let before = descriptors();
        for _ in 0..20 {
            let open = ring.open(file.path(), libc::O_RDONLY, 0);
            // Polled once, so it is in flight, then dropped.
            assert!(poll_once(open).await.is_none());
        }
        let write = ring.write(writer.as_raw_fd(), 0, vec![7; 9], SyncLevel::Fdatasync);
        assert!(poll_once(write).await.is_none());
        while ring.probe().fdatasyncs.get() == 0 || descriptors() > before {
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(std::fs::read(file.path()).unwrap(), [7; 9]);
    });
}
