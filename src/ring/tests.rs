//! The ring against the kernel: sockets, cancellation, and sessions that move.

mod files;
mod sleep;

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
pub(crate) fn run_files<F: Future<Output = ()> + 'static>(test: impl FnOnce(Ring) -> F + 'static) {
    run(options(), |ring| async move {
        let (running, task) = background_pump(&ring);
        test(ring.clone()).await;
        running.set(false);
        ring.waker().wake();
        task.await;
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
