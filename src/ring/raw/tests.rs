use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::*;
use crate::config::SyncLevel;

fn uring(entries: u32, buffers: u16) -> Uring {
    Uring::new(&Setup {
        entries,
        buffers,
        buffer_bytes: 64,
        cpu: None,
        workers_max: 4,
    })
    .unwrap()
}

fn next(uring: &mut Uring) -> Event {
    let mut events = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while uring.reap(&mut events, 1) == 0 {
        assert!(Instant::now() < deadline, "no completion in 10 s");
        uring.wait(1, Some(Duration::from_millis(100))).unwrap();
    }
    events[0]
}

#[test]
fn user_data_survives_packing() {
    for (kind, generation, slot) in [(0, 0, 0), (255, 0xff_ffff, u32::MAX), (3, 77, 12)] {
        assert_eq!(
            unpack(pack(kind, generation, slot)),
            (kind, generation, slot)
        );
    }
    assert_eq!(
        unpack(pack(1, 0x100_0001, 2)),
        (1, 1, 2),
        "generations wrap"
    );
}

#[test]
fn accepts_receives_and_sends() {
    let mut uring = uring(8, 4);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // SAFETY: the entry has no pointers.
    unsafe { uring.push(entry::accept_multishot(listener.as_raw_fd()).user_data(1)) };
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let event = next(&mut uring);
    assert_eq!((event.data, event.more()), (1, true));
    // SAFETY: the kernel has just given us this descriptor.
    let server = unsafe { OwnedFd::from_raw_fd(event.outcome().unwrap() as i32) };

    // SAFETY: receives use the ring's own buffers.
    unsafe { uring.push(entry::recv_multishot(server.as_raw_fd()).user_data(2)) };
    client.write_all(b"hello").unwrap();
    let event = next(&mut uring);
    assert_eq!((event.data, event.more()), (2, true));
    let lease = uring.lease(&event).unwrap();
    assert_eq!(&*lease, b"hello");
    assert_eq!(uring.buffers().unwrap().leased(), 1);
    drop(lease);
    assert_eq!(uring.buffers().unwrap().leased(), 0);

    let reply = b"good-bye".to_vec();
    // SAFETY: `reply` lives until the completion has been reaped below.
    unsafe { uring.push(entry::send(server.as_raw_fd(), &reply).user_data(3)) };
    let event = next(&mut uring);
    assert_eq!((event.data, event.result, event.more()), (3, 8, false));
    let mut got = [0; 8];
    client.read_exact(&mut got).unwrap();
    assert_eq!(got, reply[..]);

    // SAFETY: the entry has no pointers.
    unsafe { uring.push(entry::cancel(2).user_data(4)) };
    let event = next(&mut uring);
    assert_eq!(
        (event.data, event.result, event.more()),
        (2, -libc::ECANCELED, false)
    );
    assert!(uring.lease(&event).is_none());
}

#[test]
fn receives_end_when_buffers_run_out_and_go_on_when_they_are_back() {
    let mut uring = uring(8, 2);
    let (mut client, server) = UnixStream::pair().unwrap();
    let arm = |uring: &mut Uring| {
        // SAFETY: receives use the ring's own buffers.
        unsafe { uring.push(entry::recv_multishot(server.as_raw_fd()).user_data(1)) };
    };
    arm(&mut uring);
    client.write_all(&[7; 64 * 3]).unwrap();
    let first = next(&mut uring);
    let second = next(&mut uring);
    let leases = [uring.lease(&first).unwrap(), uring.lease(&second).unwrap()];
    assert_eq!(leases.iter().map(|lease| lease.len()).sum::<usize>(), 128);
    let third = next(&mut uring);
    assert_eq!((third.result, third.more()), (-libc::ENOBUFS, false));
    drop(leases);
    arm(&mut uring);
    let fourth = next(&mut uring);
    assert_eq!(uring.lease(&fourth).unwrap().len(), 64);
}

#[test]
fn a_linked_sync_follows_its_write_and_only_a_whole_one() {
    let mut uring = uring(8, 0);
    let file = tempfile::tempfile().unwrap();
    let bytes = vec![1u8; 4096];
    let sync = || entry::sync(file.as_raw_fd(), SyncLevel::Fdatasync).unwrap();
    assert!(entry::sync(file.as_raw_fd(), SyncLevel::None).is_none());
    // SAFETY: `bytes` lives until the completions have been reaped.
    unsafe {
        uring.push_linked(
            entry::write(file.as_raw_fd(), 0, &bytes).user_data(1),
            sync().user_data(2),
        );
    }
    // Of the two only the sync tells, which has not begun before the write was done.
    let synced = next(&mut uring);
    assert_eq!((synced.data, synced.result), (2, 0));
    assert_eq!(file.metadata().unwrap().len(), 4096);

    // A write that fails takes its sync with it, and tells in its place.
    // SAFETY: as above.
    unsafe {
        uring.push_linked(
            entry::write(-1, 0, &bytes).user_data(3),
            sync().user_data(4),
        );
    }
    let write = next(&mut uring);
    assert_eq!((write.data, write.result), (3, -libc::EBADF));

    // So does a short one: at the end of a memory file that may not grow.
    // SAFETY: the name is a C string; the result is checked by use.
    let short = unsafe {
        let fd = libc::memfd_create(c"short".as_ptr(), libc::MFD_ALLOW_SEALING);
        std::fs::File::from_raw_fd(fd)
    };
    short.set_len(4096).unwrap();
    let two_pages = vec![1u8; 8192];
    // SAFETY: no pointers.
    let sealed = unsafe { libc::fcntl(short.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_GROW) };
    assert_eq!(sealed, 0);
    // SAFETY: as above.
    unsafe {
        uring.push_linked(
            entry::write(short.as_raw_fd(), 0, &two_pages).user_data(5),
            sync().user_data(6),
        );
        // Behind them, so that nothing of theirs can come later unseen.
        uring.push(sync().user_data(7));
    }
    let write = next(&mut uring);
    assert_eq!((write.data, write.result), (5, 4096));
    assert_eq!(next(&mut uring).data, 7);
    uring.wait(1, Some(Duration::from_millis(20))).unwrap();
    assert!(!uring.has_events());
}

#[test]
fn more_entries_than_room_arrive_in_order() {
    let mut uring = uring(4, 0);
    let file = tempfile::tempfile().unwrap();
    let bytes = [b'x'; 1];
    let count = 300;
    for index in 0..count {
        // SAFETY: `bytes` lives until all completions have been reaped.
        unsafe {
            uring.push_linked(
                entry::write(file.as_raw_fd(), index, &bytes).user_data(index * 2),
                entry::sync(file.as_raw_fd(), SyncLevel::Fdatasync)
                    .unwrap()
                    .user_data(index * 2 + 1),
            );
        }
    }
    let mut seen: Vec<u64> = (0..count)
        .map(|_| {
            let event = next(&mut uring);
            assert!(event.result >= 0, "{event:?}");
            event.data
        })
        .collect();
    seen.sort_unstable();
    assert!(
        seen.iter()
            .copied()
            .eq((0..count).map(|index| index * 2 + 1))
    );
    assert_eq!(file.metadata().unwrap().len(), count);
}

#[test]
fn waiting_ends_with_its_time() {
    let mut uring = uring(4, 0);
    let start = Instant::now();
    uring.wait(1, Some(Duration::from_millis(20))).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert!(!uring.has_events() && !uring.needs_enter());
}

#[test]
fn an_impossible_number_of_buffers_is_refused() {
    let setup = Setup {
        entries: 4,
        buffers: 3,
        buffer_bytes: 64,
        cpu: None,
        workers_max: 0,
    };
    let error = Uring::new(&setup).err().unwrap().to_string();
    assert!(error.contains("power of two"), "{error}");
}
