//! What the executor costs: the same echo server on the bare ring and on [`ringpost::ring::Ring`]
//! inside a glommio executor, driven by one client thread, in turns.
//!
//! CPU per echo is the figure to trust on a machine that has other things to do.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use ringpost::ring::raw::{Setup, Uring, entry, pack, unpack};
use ringpost::ring::{Completion, Options, Ring, Token};
use rustc_hash::FxHashMap;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Echo servers on the bare ring and inside the executor, side by side.
#[derive(Debug, Parser, Clone)]
#[command(name = "echo")]
struct Flags {
    /// Connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = 64)]
    bytes: usize,
    /// Seconds of each run.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Runs of each kind, in turns.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// CPU of the server.
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// CPU of the client.
    #[arg(long, default_value_t = 1)]
    client_cpu: usize,
    /// Microseconds that the executor's server polls before it sleeps.
    #[arg(long, default_value_t = 0)]
    poll_us: u64,
}

const RECV: u8 = 0;
const SEND: u8 = 1;
const ACCEPT: u8 = 2;

fn setup(cpu: usize) -> Setup {
    Setup {
        entries: 1024,
        buffers: 1024,
        buffer_bytes: 8192,
        cpu: Some(cpu),
        workers_max: 16,
    }
}

/// What a server thread reports when its run is over.
struct Served {
    echoes: u64,
    cpu: Duration,
    enters: u64,
}

fn main() -> io::Result<()> {
    let flags = Flags::parse();
    println!("kind      echoes/s   CPU us/echo   enters/echo");
    for _ in 0..flags.rounds {
        for (name, serve) in [
            (
                "bare",
                bare as fn(&Flags, TcpListener, &AtomicBool) -> io::Result<Served>,
            ),
            ("executor", executor),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            let stop = Arc::new(AtomicBool::new(false));
            let server = thread::spawn({
                let (flags, stop) = (flags.clone(), Arc::clone(&stop));
                move || {
                    pin(flags.cpu);
                    serve(&flags, listener, &stop)
                }
            });
            let rate = client(&flags, address)?;
            stop.store(true, Ordering::Relaxed);
            // A last connection makes it look.
            drop(TcpStream::connect(address));
            let served = server
                .join()
                .map_err(|_| io::Error::other("the server died"))??;
            let each = served.cpu.as_secs_f64() * 1e6 / served.echoes as f64;
            let enters = served.enters as f64 / served.echoes as f64;
            println!("{name:<9} {rate:8.0}   {each:11.3}   {enters:11.3}");
        }
    }
    Ok(())
}

fn pin(cpu: usize) {
    if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        eprintln!("echo: not pinned to CPU {cpu}");
    }
}

fn thread_cpu() -> Duration {
    // SAFETY: the clock fills the timespec, for which zero is a value.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time);
        time
    };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The server on the bare ring.
fn bare(flags: &Flags, listener: TcpListener, stop: &AtomicBool) -> io::Result<Served> {
    let start = thread_cpu();
    let mut uring = Uring::new(&setup(flags.cpu))?;
    let accept = entry::accept_multishot(listener.as_raw_fd());
    // SAFETY: the entry has no pointers.
    unsafe { uring.push(accept.user_data(pack(ACCEPT, 0, 0))) };
    let mut replies: FxHashMap<RawFd, Vec<u8>> = FxHashMap::default();
    let mut events = Vec::new();
    let mut echoes = 0;
    while !stop.load(Ordering::Relaxed) {
        uring.wait(1, None)?;
        uring.reap(&mut events, usize::MAX);
        for event in events.drain(..) {
            let (kind, _, slot) = unpack(event.data);
            let fd = slot as RawFd;
            match kind {
                ACCEPT => {
                    let fd = event.outcome()? as RawFd;
                    replies.insert(fd, Vec::new());
                    let recv = entry::recv_multishot(fd);
                    // SAFETY: bytes go to the ring's own buffers.
                    unsafe { uring.push(recv.user_data(pack(RECV, 0, fd as u32))) };
                }
                RECV => {
                    let (Some(lease), Some(reply)) = (uring.lease(&event), replies.get_mut(&fd))
                    else {
                        continue;
                    };
                    reply.clear();
                    reply.extend_from_slice(&lease);
                    let send = entry::send(fd, reply);
                    // SAFETY: a client waits for its echo before it sends again, so the reply
                    // stays until it is sent.
                    unsafe { uring.push(send.user_data(pack(SEND, 0, slot))) };
                }
                _ => echoes += 1,
            }
        }
    }
    let enters = uring.enters();
    drop(uring);
    close_all(replies.into_keys());
    Ok(Served {
        echoes,
        cpu: thread_cpu() - start,
        enters,
    })
}

fn close_all(descriptors: impl Iterator<Item = RawFd>) {
    for fd in descriptors {
        // SAFETY: they came from accepts, and nobody uses them any more.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

/// The server inside the executor.
fn executor(flags: &Flags, listener: TcpListener, stop: &AtomicBool) -> io::Result<Served> {
    let start = thread_cpu();
    let options = Options {
        entries: 1024,
        buffers: 1024,
        buffer_bytes: 8192,
        cpu: Some(flags.cpu),
        poll: Duration::from_micros(flags.poll_us),
    };
    let executor = glommio::LocalExecutorBuilder::new(glommio::Placement::Fixed(flags.cpu))
        .make()
        .map_err(|error| io::Error::other(error.to_string()))?;
    executor.run(async {
        let ring = Ring::new(&options)?;
        ring.accept(Token(u64::MAX), listener.as_raw_fd());
        let mut completions = Vec::new();
        let mut free: Vec<Vec<u8>> = Vec::new();
        let sockets = Rc::new(Cell::new(Vec::new()));
        let mut echoes = 0;
        while !stop.load(Ordering::Relaxed) {
            if ring.turn(&mut completions, 256)? == 0 {
                ring.park().await;
                continue;
            }
            for completion in completions.drain(..) {
                match completion {
                    Completion::Accepted { result, .. } => {
                        let fd = result?.into_raw_fd();
                        let mut all = sockets.take();
                        all.push(fd);
                        sockets.set(all);
                        ring.recv(Token(fd as u64), fd);
                    }
                    Completion::Received { token, result, .. } => {
                        let Ok(lease) = result else { continue };
                        if lease.is_empty() {
                            continue;
                        }
                        let mut reply = free.pop().unwrap_or_default();
                        reply.clear();
                        reply.extend_from_slice(&lease);
                        ring.send(token, token.0 as RawFd, reply);
                    }
                    Completion::Sent { buffer, .. } => {
                        echoes += 1;
                        free.push(buffer);
                    }
                }
            }
            glommio::yield_if_needed().await;
        }
        let enters = ring.probe().enters.get();
        drop(ring);
        close_all(sockets.take().into_iter());
        Ok(Served {
            echoes,
            cpu: thread_cpu() - start,
            enters,
        })
    })
}

/// Keeps one message in flight on each connection; returns echoes per second.
fn client(flags: &Flags, address: SocketAddr) -> io::Result<f64> {
    let flags = flags.clone();
    let run = move || {
        pin(flags.client_cpu);
        let mut uring = Uring::new(&setup(flags.client_cpu))?;
        let message = vec![b'x'; flags.bytes];
        let mut streams = Vec::new();
        let mut got = vec![0; flags.connections];
        for slot in 0..flags.connections {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            let fd = stream.as_raw_fd();
            streams.push(stream);
            // SAFETY: bytes go to the ring's own buffers; the message outlives the ring.
            unsafe {
                uring.push(entry::recv_multishot(fd).user_data(pack(RECV, 0, slot as u32)));
                uring.push(entry::send(fd, &message).user_data(pack(SEND, 0, slot as u32)));
            }
        }
        let (start, mut echoes) = (Instant::now(), 0u64);
        let limit = Duration::from_secs_f64(flags.seconds);
        let mut events = Vec::new();
        while start.elapsed() < limit {
            uring.wait(1, None)?;
            uring.reap(&mut events, usize::MAX);
            for event in events.drain(..) {
                let (kind, _, slot) = unpack(event.data);
                if kind != RECV {
                    continue;
                }
                let slot = slot as usize;
                got[slot] += uring.lease(&event).map_or(0, |lease| lease.len());
                if got[slot] < flags.bytes {
                    continue;
                }
                got[slot] = 0;
                echoes += 1;
                let fd = streams[slot].as_raw_fd();
                // SAFETY: the message outlives the ring.
                unsafe {
                    uring.push(entry::send(fd, &message).user_data(pack(SEND, 0, slot as u32)))
                };
            }
        }
        let rate = echoes as f64 / start.elapsed().as_secs_f64();
        drop(uring);
        Ok(rate)
    };
    thread::spawn(run)
        .join()
        .map_err(|_| io::Error::other("the client died"))?
}
