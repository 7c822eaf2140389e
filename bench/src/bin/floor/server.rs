//! One thread, one ring, one loop.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use ringpost::limits::{RECV_BUFFER_BYTES, RECV_BUFFERS};
use ringpost::ring::raw::{Event, Setup, Uring, entry, pack, unpack};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::dialogue::{Dialogue, Protocol, Step};
use crate::log::Log;

const ACCEPT: u8 = 0;
const RECV: u8 = 1;
const SEND: u8 = 2;
const WRITE: u8 = 3;
const SYNC: u8 = 4;
const STOP: u8 = 5;

/// The server's ring has as many entries and io workers as the real one's.
const ENTRIES: u32 = 1024;
const WORKERS_MAX: u32 = 16;

/// A descriptor that becomes readable at SIGTERM or SIGINT. Must be called before any thread is
/// started, so that all of them have the signals blocked.
pub fn stop_signals() -> io::Result<OwnedFd> {
    // SAFETY: `sigset_t` is plain bits, for which zero is a value; the calls get a valid set, and
    // the descriptor is checked before it is owned.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        let code = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code));
        }
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// What was done.
#[derive(Debug, Default)]
pub struct Report {
    protocol: &'static str,
    connections: u64,
    messages: u64,
    message_bytes: u64,
    batches: u64,
    retrieved: u64,
    enters: u64,
}

impl Report {
    /// A line per figure, `name value`, for people and scripts.
    pub fn text(&self, cpu: Duration) -> String {
        let pop3 = self.protocol == "POP3";
        let cpu_us = cpu.as_secs_f64() * 1e6;
        let per = |of: f64, count: u64| if count == 0 { 0.0 } else { of / count as f64 };
        let mut lines = vec![format!("connections {}", self.connections)];
        let units = if pop3 {
            let each = per(cpu_us, self.connections);
            lines.push(format!("retrieved {}", self.retrieved));
            lines.push(format!("cpu_us_per_connection {each:.2}"));
            self.retrieved
        } else {
            let each = per(self.messages as f64, self.batches);
            lines.push(format!("messages {}", self.messages));
            lines.push(format!("message_bytes {}", self.message_bytes));
            lines.push(format!("batches {}", self.batches));
            lines.push(format!("messages_per_batch {each:.2}"));
            self.messages
        };
        lines.push(format!("enters {}", self.enters));
        lines.push(format!("cpu_seconds {:.3}", cpu.as_secs_f64()));
        lines.push(format!("cpu_us_per_message {:.2}", per(cpu_us, units)));
        lines.join("\n") + "\n"
    }
}

struct Connection {
    socket: OwnedFd,
    dialogue: Dialogue,
    log: usize,
    /// Replies to send after what is being sent.
    out: Vec<u8>,
    /// What is being sent, and how much of it is.
    sending: Vec<u8>,
    sent: usize,
    /// Input that came while a message waits for its batch.
    held: Vec<u8>,
    waits: bool,
    receiving: bool,
    closing: bool,
}

pub struct Server {
    // Dropped first: it must be gone before what its operations point to.
    uring: Uring,
    listener: TcpListener,
    address: SocketAddr,
    stop: OwnedFd,
    signal: Box<[u8; size_of::<libc::signalfd_siginfo>()]>,
    protocol: Protocol,
    logs: Vec<Log>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    report: Report,
    stopped: bool,
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// Listens; `share`: beside others that share the address too (`SO_REUSEPORT`).
pub fn listen(address: SocketAddr, share: bool) -> Result<TcpListener, String> {
    let bound = || {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if share {
            sockopt::set_socket_reuseport(&socket, true)?;
        }
        // Accepted sockets inherit it.
        sockopt::set_tcp_nodelay(&socket, true)?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    bound().map_err(|error: io::Error| format!("--listen {address}: {error}"))
}

impl Server {
    pub fn new(
        listener: TcpListener,
        cpu: Option<usize>,
        protocol: Protocol,
        logs: Vec<Log>,
        stop: OwnedFd,
    ) -> Result<Server, String> {
        let uring = Uring::new(&Setup {
            entries: ENTRIES,
            buffers: RECV_BUFFERS,
            buffer_bytes: RECV_BUFFER_BYTES,
            cpu,
            workers_max: WORKERS_MAX,
        })
        .map_err(|error| error.to_string())?;
        for line in uring.fallbacks() {
            eprintln!("floor: {line}");
        }
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let report = Report {
            protocol: protocol.name(),
            ..Report::default()
        };
        Ok(Server {
            uring,
            listener,
            address,
            stop,
            signal: Box::new([0; _]),
            protocol,
            logs,
            connections: Vec::new(),
            free: Vec::new(),
            report,
            stopped: false,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn report(&mut self) -> &Report {
        self.report.enters = self.uring.enters();
        &self.report
    }

    /// Serves until a signal says stop.
    pub fn run(&mut self) -> io::Result<()> {
        let stop = entry::read(
            self.stop.as_raw_fd(),
            0,
            self.signal.as_mut_ptr(),
            self.signal.len(),
        );
        // SAFETY: the box outlives the ring's use of it: the operation ends before this returns.
        unsafe { self.uring.push(stop.user_data(pack(STOP, 0, 0))) };
        self.accept();
        let mut events = Vec::with_capacity(ENTRIES as usize);
        while !self.stopped {
            self.uring.wait(1, None)?;
            self.uring.reap(&mut events, usize::MAX);
            for event in events.drain(..) {
                self.handle(event).map_err(io::Error::other)?;
            }
            for (index, log) in self.logs.iter_mut().enumerate() {
                let (write, sync) = log_data(index);
                if log.start(&mut self.uring, write, sync) {
                    self.report.batches += 1;
                }
            }
        }
        self.close()
    }

    /// Lets nothing in flight outlive its memory.
    fn close(&mut self) -> io::Result<()> {
        let left: Vec<Connection> = self.connections.drain(..).flatten().collect();
        // SAFETY: the entry has no pointers.
        unsafe { self.uring.push(entry::cancel_everything()) };
        let mut events = Vec::new();
        for _ in 0..10 {
            self.uring.wait(1, Some(Duration::from_millis(10)))?;
            self.uring.reap(&mut events, usize::MAX);
        }
        // A send that is still not over after all that keeps its bytes for the rest of the
        // process, which is about to end.
        std::mem::forget(left);
        std::mem::forget(std::mem::take(&mut self.logs));
        Ok(())
    }

    fn accept(&mut self) {
        let accept = entry::accept_multishot(self.listener.as_raw_fd());
        // SAFETY: the entry has no pointers.
        unsafe { self.uring.push(accept.user_data(pack(ACCEPT, 0, 0))) };
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        let (kind, _, slot) = unpack(event.data);
        let slot = slot as usize;
        match kind {
            ACCEPT => self.accepted(event),
            RECV => self.received(slot, event),
            SEND => self.sent(slot, event),
            WRITE | SYNC => self.logged(slot, kind == WRITE, event.result)?,
            _ => self.stopped = true,
        }
        Ok(())
    }

    fn accepted(&mut self, event: Event) {
        if !event.more() {
            self.accept();
        }
        let fd = match event.outcome() {
            Ok(fd) => fd,
            Err(error) => {
                eprintln!("floor: accept: {error}");
                return;
            }
        };
        // SAFETY: the kernel has just given us this descriptor.
        let socket = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let log = self.report.connections as usize % self.logs.len().max(1);
        self.connections[slot] = Some(Connection {
            socket,
            dialogue: Dialogue::default(),
            log,
            out: self.protocol.greeting().to_vec(),
            sending: Vec::new(),
            sent: 0,
            held: Vec::new(),
            waits: false,
            receiving: false,
            closing: false,
        });
        self.report.connections += 1;
        self.arm(slot);
        self.flush(slot);
    }

    fn arm(&mut self, slot: usize) {
        let Some(connection) = &mut self.connections[slot] else {
            return;
        };
        connection.receiving = true;
        let recv = entry::recv_multishot(connection.socket.as_raw_fd());
        // SAFETY: bytes go to the ring's own buffers.
        unsafe { self.uring.push(recv.user_data(pack(RECV, 0, slot as u32))) };
    }

    fn received(&mut self, slot: usize, event: Event) {
        let lease = self.uring.lease(&event);
        let Some(connection) = &mut self.connections[slot] else {
            return;
        };
        connection.receiving = event.more();
        match event.outcome() {
            Ok(0) => connection.closing = true,
            Ok(_) => {
                if let Some(bytes) = lease {
                    if connection.waits {
                        connection.held.extend_from_slice(&bytes);
                    } else {
                        self.feed(slot, &bytes);
                    }
                }
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(_) => connection.closing = true,
        }
        let ended = self.connections[slot]
            .as_ref()
            .is_some_and(|connection| !connection.receiving && !connection.closing);
        if ended {
            self.arm(slot);
        }
        self.flush(slot);
    }

    fn feed(&mut self, slot: usize, input: &[u8]) {
        let Some(connection) = &mut self.connections[slot] else {
            return;
        };
        let mut none = Vec::new();
        let batch = self.logs.get_mut(connection.log).map(Log::open_batch);
        let (bytes, waiting) = match batch {
            Some(batch) => (&mut batch.bytes, Some(&mut batch.waiting)),
            None => (&mut none, None),
        };
        let before = bytes.len();
        let (used, step) =
            connection
                .dialogue
                .feed(&self.protocol, input, &mut connection.out, bytes);
        self.report.message_bytes += (bytes.len() - before) as u64;
        match step {
            Step::NeedInput => {}
            Step::Message { replies } => {
                connection.waits = true;
                connection.held.extend_from_slice(&input[used..]);
                if let Some(waiting) = waiting {
                    waiting.push((slot, replies));
                }
            }
            Step::Close => connection.closing = true,
        }
        self.report.retrieved += std::mem::take(&mut connection.dialogue.retrieved);
    }

    /// Sends what there is, unless something is being sent; ends the connection when all is done.
    fn flush(&mut self, slot: usize) {
        let Some(connection) = &mut self.connections[slot] else {
            return;
        };
        if !connection.sending.is_empty() {
            return;
        }
        if !connection.out.is_empty() {
            std::mem::swap(&mut connection.out, &mut connection.sending);
            connection.sent = 0;
            self.push_send(slot);
        } else if connection.closing && !connection.waits {
            if connection.receiving {
                // Ends the receive; its last completion comes back here.
                // SAFETY: no pointers, and the descriptor is open.
                unsafe { libc::shutdown(connection.socket.as_raw_fd(), libc::SHUT_RDWR) };
            } else {
                self.connections[slot] = None;
                self.free.push(slot);
            }
        }
    }

    fn push_send(&mut self, slot: usize) {
        let Some(connection) = &mut self.connections[slot] else {
            return;
        };
        let rest = &connection.sending[connection.sent..];
        let send = entry::send(connection.socket.as_raw_fd(), rest);
        // SAFETY: the bytes stay as they are until `sent` has seen the end of this, and the
        // connection stays until then.
        unsafe { self.uring.push(send.user_data(pack(SEND, 0, slot as u32))) };
    }

    fn sent(&mut self, slot: usize, event: Event) {
        let Some(connection) = &mut self.connections[slot] else {
            return;
        };
        match event.outcome() {
            Ok(count) => connection.sent += count as usize,
            Err(_) => {
                connection.closing = true;
                connection.out.clear();
                connection.sent = connection.sending.len();
            }
        }
        if connection.sent < connection.sending.len() {
            self.push_send(slot);
            return;
        }
        connection.sending.clear();
        self.flush(slot);
    }

    fn logged(&mut self, index: usize, wrote: bool, result: i32) -> Result<(), String> {
        let data = log_data(index);
        let log = &mut self.logs[index];
        let Some(batch) = log.advance(&mut self.uring, wrote, result, data)? else {
            return Ok(());
        };
        for &(slot, replies) in &batch.waiting {
            self.report.messages += 1;
            let Some(connection) = &mut self.connections[slot] else {
                continue;
            };
            connection.waits = false;
            for _ in 0..replies {
                connection.out.extend_from_slice(b"250 2.0.0 OK\r\n");
            }
            if !connection.held.is_empty() {
                let held = std::mem::take(&mut connection.held);
                self.feed(slot, &held);
            }
            self.flush(slot);
        }
        self.logs[index].recycle(batch);
        Ok(())
    }
}

/// User data of a file's write and sync.
fn log_data(index: usize) -> (u64, u64) {
    (pack(WRITE, 0, index as u32), pack(SYNC, 0, index as u32))
}
