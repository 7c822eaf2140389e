use std::cell::RefCell;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use glommio::LocalExecutor;

use super::*;
use crate::config::SyncLevel;

const LISTENER: Token = Token(1);
const CLIENT: Token = Token(2);

fn options() -> Options {
    Options {
        entries: 64,
        buffers: 8,
        buffer_bytes: 64,
        cpu: None,
        poll: Duration::ZERO,
    }
}

/// Runs `test` in an executor of its own; a test that hangs fails by name instead.
fn run<F: Future<Output = ()> + 'static>(options: Options, test: impl FnOnce(Ring) -> F + 'static) {
    LocalExecutor::default().run(async move {
        let ring = Ring::new(&options).unwrap();
        let limit = Duration::from_secs(60);
        let done = glommio::timer::timeout(limit, async move {
            test(ring).await;
            Ok(())
        });
        done.await.expect("the test takes longer than 60 s");
    });
}

/// Turns and parks until `done`.
async fn pump(
    ring: &Ring,
    completions: &mut Vec<Completion>,
    done: impl Fn(&[Completion]) -> bool,
) {
    while !done(completions) {
        if ring.turn(completions, 16).unwrap() == 0 {
            ring.park().await;
        }
    }
}

async fn next(ring: &Ring) -> Completion {
    let mut completions = Vec::new();
    while completions.is_empty() {
        if ring.turn(&mut completions, 1).unwrap() == 0 {
            ring.park().await;
        }
    }
    completions.remove(0)
}

/// Drives the ring in a task of its own until the returned flag is cleared.
fn background_pump(ring: &Ring) -> (Rc<Cell<bool>>, glommio::Task<()>) {
    let running = Rc::new(Cell::new(true));
    let task = glommio::spawn_local({
        let (ring, running) = (ring.clone(), Rc::clone(&running));
        async move {
            let mut completions = Vec::new();
            while running.get() {
                if ring.turn(&mut completions, 16).unwrap() == 0 {
                    ring.park().await;
                } else {
                    glommio::yield_if_needed().await;
                }
            }
        }
    });
    (running, task)
}

/// Runs `test` with a pump beside it.
fn run_files<F: Future<Output = ()> + 'static>(test: impl FnOnce(Ring) -> F + 'static) {
    run(options(), |ring| async move {
        let (running, task) = background_pump(&ring);
        test(ring.clone()).await;
        running.set(false);
        ring.waker().wake();
        task.await;
    });
}

#[test]
fn echoes_over_tcp() {
    run(options(), |ring| async move {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        ring.accept(LISTENER, listener.as_raw_fd());
        let client = thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            // Longer than a receive buffer, and longer than all of them together.
            let sent: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
            let mut writer = stream.try_clone().unwrap();
            let copy = sent.clone();
            let writing = thread::spawn(move || {
                writer.write_all(&copy).unwrap();
                writer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            writing.join().unwrap();
            assert!(got == sent, "echo differs");
        });
        let mut socket: Option<OwnedFd> = None;
        let mut waiting: Vec<u8> = Vec::new();
        let mut sending = false;
        let mut ended = false;
        while !(ended && waiting.is_empty() && !sending) {
            match next(&ring).await {
                Completion::Accepted {
                    token,
                    result,
                    more,
                } => {
                    assert_eq!((token, more), (LISTENER, true));
                    let accepted = result.unwrap();
                    ring.recv(CLIENT, accepted.as_raw_fd());
                    socket = Some(accepted);
                }
                Completion::Received {
                    token,
                    result,
                    more,
                } => {
                    assert_eq!(token, CLIENT);
                    match result {
                        Ok(bytes) if bytes.is_empty() => {
                            assert!(!more);
                            ended = true;
                        }
                        Ok(bytes) => waiting.extend_from_slice(&bytes),
                        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS)),
                    }
                    if !more && !ended {
                        ring.recv(CLIENT, socket.as_ref().unwrap().as_raw_fd());
                    }
                }
                Completion::Sent { result, buffer, .. } => {
                    assert_eq!(result.unwrap(), buffer.len());
                    sending = false;
                }
            }
            if !sending && !waiting.is_empty() {
                sending = true;
                let bytes = std::mem::take(&mut waiting);
                ring.send(CLIENT, socket.as_ref().unwrap().as_raw_fd(), bytes);
            }
        }
        drop(socket);
        client.join().unwrap();
        assert_eq!(ring.probe().received_bytes.get(), 100_000);
        assert_eq!(ring.probe().sent_bytes.get(), 100_000);
    });
}

#[test]
fn a_receive_without_buffers_ends_and_can_go_on() {
    run(options(), |ring| async move {
        let (mut client, server) = UnixStream::pair().unwrap();
        ring.recv(CLIENT, server.as_raw_fd());
        client.write_all(&[1; 64 * 9]).unwrap();
        let mut leases = Vec::new();
        loop {
            let Completion::Received { result, more, .. } = next(&ring).await else {
                panic!("not a receive");
            };
            match result {
                Ok(lease) => leases.push(lease),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
                    assert!(!more);
                    break;
                }
            }
        }
        assert_eq!((leases.len(), ring.buffers_leased()), (8, 8));
        assert_eq!(ring.probe().buffers_exhausted.get(), 1);
        drop(leases);
        assert_eq!(ring.buffers_leased(), 0);
        ring.recv(CLIENT, server.as_raw_fd());
        match next(&ring).await {
            Completion::Received {
                result: Ok(lease), ..
            } => assert_eq!(&*lease, [1; 64]),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_cancelled_receive_says_so_and_keeps_nothing() {
    run(options(), |ring| async move {
        let (mut client, server) = UnixStream::pair().unwrap();
        ring.recv(CLIENT, server.as_raw_fd());
        // Bytes that came before the cancel are delivered before its end.
        client.write_all(b"last words").unwrap();
        ring.turn(&mut Vec::new(), 0).unwrap();
        ring.cancel_recv(CLIENT);
        let mut got = Vec::new();
        loop {
            let Completion::Received { result, more, .. } = next(&ring).await else {
                panic!("not a receive");
            };
            match result {
                Ok(lease) => got.extend_from_slice(&lease),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
                    assert!(!more);
                    break;
                }
            }
        }
        // What the receive did not take is still in the socket, for the next owner.
        server.set_nonblocking(true).unwrap();
        let mut rest = [0; 32];
        let count = (&server).read(&mut rest).unwrap_or(0);
        got.extend_from_slice(&rest[..count]);
        assert_eq!(got, b"last words");
        // Cancelling what is over does nothing.
        ring.cancel_recv(CLIENT);
        assert_eq!(ring.turn(&mut Vec::new(), 16).unwrap(), 0);
        assert_eq!(ring.probe().in_flight.get(), 0);
    });
}

#[test]
fn a_cancelled_accept_ends() {
    run(options(), |ring| async move {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        ring.accept(LISTENER, listener.as_raw_fd());
        ring.cancel_accept(LISTENER);
        match next(&ring).await {
            Completion::Accepted {
                token,
                result: Err(error),
                more: false,
            } => {
                assert_eq!(token, LISTENER);
                assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_send_larger_than_the_socket_takes_is_finished() {
    run(options(), |ring| async move {
        let (mut client, server) = UnixStream::pair().unwrap();
        let bytes = vec![9u8; 4 << 20];
        ring.send(CLIENT, server.as_raw_fd(), bytes);
        let reader = thread::spawn(move || {
            let mut got = vec![0; 4 << 20];
            client.read_exact(&mut got).unwrap();
            got.iter().all(|byte| *byte == 9)
        });
        match next(&ring).await {
            Completion::Sent { result, buffer, .. } => {
                assert_eq!(result.unwrap(), 4 << 20);
                assert_eq!(buffer.len(), 4 << 20);
            }
            other => panic!("{other:?}"),
        }
        assert!(reader.join().unwrap());
    });
}

#[test]
fn a_send_to_a_closed_peer_fails_and_gives_the_buffer_back() {
    run(options(), |ring| async move {
        let (client, server) = UnixStream::pair().unwrap();
        drop(client);
        ring.send(CLIENT, server.as_raw_fd(), b"anyone?".to_vec());
        match next(&ring).await {
            Completion::Sent { result, buffer, .. } => {
                assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPIPE));
                assert_eq!(buffer, b"anyone?");
            }
            other => panic!("{other:?}"),
        }
    });
}

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
            // A filesystem in memory, say.
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
        // Not at a block: refused whole.
        let (result, _) = ring
            .write_direct(
                direct.as_raw_fd(),
                7,
                vec![b'x'; block],
                SyncLevel::Fdatasync,
            )
            .await;
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(ring.probe().fdatasyncs.get(), 1);
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

async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}

#[test]
fn work_of_another_task_gets_a_parked_pump_going() {
    run_files(|ring| async move {
        let file = tempfile::tempfile().unwrap();
        for index in 0..200 {
            // Long enough for the pump to be asleep, every other time.
            if index % 2 == 0 {
                glommio::timer::sleep(Duration::from_millis(1)).await;
            }
            let (result, _) = ring
                .write(file.as_raw_fd(), index, vec![1], SyncLevel::None)
                .await;
            result.unwrap();
        }
        assert!(ring.probe().parks.get() > 50, "the pump never slept");
        assert_eq!(ring.probe().writes.get(), 200);
    });
}

#[test]
fn another_thread_wakes_a_parked_shard() {
    run(options(), |ring| async move {
        let waker = ring.waker();
        let flag = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let flag = Arc::clone(&flag);
            move || {
                thread::sleep(Duration::from_millis(30));
                flag.store(true, Ordering::Relaxed);
                waker.wake();
            }
        });
        while !flag.load(Ordering::Relaxed) {
            ring.turn(&mut Vec::new(), 16).unwrap();
            ring.park().await;
        }
        thread.join().unwrap();
        // It slept instead of spinning.
        assert!(ring.probe().parks.get() < 10);
    });
}

/// Threads send numbered pings and wait for each to be seen before the next: one lost wake-up
/// and the test hangs.
fn ping(options: Options, threads: u64, rounds: u64) {
    run(options, move |ring| async move {
        let sent: Vec<_> = (0..threads).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let seen: Vec<_> = (0..threads).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let pingers: Vec<_> = sent
            .iter()
            .zip(&seen)
            .map(|(sent, seen)| {
                let (sent, seen, waker) = (Arc::clone(sent), Arc::clone(seen), ring.waker());
                thread::spawn(move || {
                    for round in 1..=rounds {
                        sent.store(round, Ordering::Relaxed);
                        waker.wake();
                        // Now and then give the shard time to fall asleep.
                        if round % 64 == 0 {
                            thread::sleep(Duration::from_micros(100));
                        }
                        while seen.load(Ordering::Relaxed) < round {
                            std::hint::spin_loop();
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut done = false;
        while !done {
            ring.turn(&mut Vec::new(), 16).unwrap();
            done = true;
            for (sent, seen) in sent.iter().zip(&seen) {
                let value = sent.load(Ordering::Relaxed);
                seen.store(value, Ordering::Relaxed);
                done &= value == rounds;
            }
            if !done {
                ring.park().await;
            }
        }
        for pinger in pingers {
            pinger.join().unwrap();
        }
    });
}

#[test]
fn no_ping_of_another_thread_is_lost() {
    ping(options(), 1, 50_000);
}

#[test]
fn no_ping_of_several_threads_is_lost_while_polling() {
    let poll = Duration::from_micros(5);
    ping(Options { poll, ..options() }, 3, 20_000);
}

#[test]
fn no_completion_is_lost_to_sleep() {
    run(options(), |ring| async move {
        // One byte to and fro: each side waits for the other, so one lost signal hangs.
        let (mut client, server) = UnixStream::pair().unwrap();
        let rounds = 20_000u64;
        ring.recv(CLIENT, server.as_raw_fd());
        let thread = thread::spawn(move || {
            let mut byte = [0];
            for round in 0..rounds {
                client.write_all(&[round as u8]).unwrap();
                client.read_exact(&mut byte).unwrap();
                assert_eq!(byte, [round as u8]);
            }
        });
        let done = RefCell::new(0);
        while *done.borrow() < rounds {
            match next(&ring).await {
                Completion::Received { result, more, .. } => {
                    assert!(more);
                    ring.send(CLIENT, server.as_raw_fd(), result.unwrap().to_vec());
                }
                Completion::Sent { result, .. } => {
                    result.unwrap();
                    *done.borrow_mut() += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        thread.join().unwrap();
        // One sleep a round: a signal left over would end the next one at once.
        let parks = ring.probe().parks.get();
        assert!(parks <= rounds * 5 / 4, "{parks} sleeps in {rounds} rounds");
    });
}

#[test]
fn dropping_the_ring_ends_what_is_in_flight() {
    LocalExecutor::default().run(async {
        let (mut client, server) = UnixStream::pair().unwrap();
        let ring = Ring::new(&options()).unwrap();
        ring.recv(CLIENT, server.as_raw_fd());
        // Blocks: the peer reads nothing.
        ring.send(CLIENT, server.as_raw_fd(), vec![1; 8 << 20]);
        ring.turn(&mut Vec::new(), 16).unwrap();
        let start = Instant::now();
        drop(ring);
        assert!(start.elapsed() < Duration::from_secs(2), "closing hangs");
        // The operations held the socket; now nobody does.
        drop(server);
        client
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert!(got.len() < 8 << 20);
    });
}

#[test]
fn a_session_moves_to_another_ring() {
    // The page on top, acted out: cancel, last completion, then the descriptor to another thread.
    run(options(), |ring| async move {
        let (mut client, server) = UnixStream::pair().unwrap();
        ring.recv(CLIENT, server.as_raw_fd());
        client.write_all(b"first").unwrap();
        let mut taken = Vec::new();
        let mut completions = Vec::new();
        pump(&ring, &mut completions, |all| !all.is_empty()).await;
        ring.cancel_recv(CLIENT);
        client.write_all(b" second").unwrap();
        let ended = |all: &[Completion]| {
            matches!(all.last(), Some(Completion::Received { more: false, .. }))
        };
        pump(&ring, &mut completions, ended).await;
        for completion in completions {
            if let Completion::Received {
                result: Ok(lease), ..
            } = completion
            {
                taken.extend_from_slice(&lease);
            }
        }
        let socket: OwnedFd = server.into();
        let whole = thread::spawn(move || {
            let result = std::sync::Mutex::new(Vec::new());
            let result = Arc::new(result);
            let copy = Arc::clone(&result);
            run(options(), move |ring| async move {
                ring.recv(CLIENT, socket.as_raw_fd());
                while taken.len() < b"first second third".len() {
                    match next(&ring).await {
                        Completion::Received {
                            result: Ok(lease), ..
                        } => taken.extend_from_slice(&lease),
                        other => panic!("{other:?}"),
                    }
                }
                *copy.lock().unwrap() = taken;
            });
            Arc::into_inner(result).unwrap().into_inner().unwrap()
        });
        client.write_all(b" third").unwrap();
        assert_eq!(whole.join().unwrap(), b"first second third");
    });
}

#[test]
fn errors_of_descriptors_reach_their_owner() {
    run(options(), |ring| async move {
        let closed: RawFd = {
            let file = tempfile::tempfile().unwrap();
            file.into_raw_fd()
        };
        ring.recv(CLIENT, closed);
        match next(&ring).await {
            Completion::Received {
                result: Err(error),
                more: false,
                ..
            } => assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK)),
            other => panic!("{other:?}"),
        }
    });
}
