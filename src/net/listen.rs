//! Binds listeners: one socket a shard on each TCP address (`SO_REUSEPORT`), one socket for all
//! shards on a Unix path.
//!
//! The sockets block on purpose: a ring's accept on a non-blocking one fails with EAGAIN where it
//! should wait. `TCP_NODELAY` and keep-alive are set on the listener, and Linux passes them on to
//! what is accepted.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::config::ListenAddress;

/// Connections that wait to be accepted, on each socket; the kernel's `net.core.somaxconn` (4096
/// unless set otherwise) bounds it, too [S3].
pub const BACKLOG: i32 = 4096;

/// An address that is listened on.
#[derive(Debug)]
pub struct Listener {
    /// Where, with the port that the kernel chose where 0 was asked for.
    pub address: ListenAddress,
    /// One for each shard, listening, blocking, close-on-exec.
    pub sockets: Vec<OwnedFd>,
    /// Of a Unix socket: removes its file when dropped.
    pub file: Option<SocketFile>,
}

/// The file of a Unix socket, removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // One that stays behind is found stale at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// After so long a silence the kernel asks whether a TCP peer is still there, and then as often
    /// again in a tenth of that [C5]. Zero: as the kernel is set. Nothing for a Unix socket.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn set_keepalive(&self, service: &str, after: Duration) -> Result<(), ListenError> {
        let ListenAddress::Tcp(address) = &self.address else {
            return Ok(());
        };
        if after.is_zero() {
            return Ok(());
        }
        // Whole seconds, at least one.
        let again = (after / 10).max(Duration::from_secs(1));
        for socket in &self.sockets {
            sockopt::set_tcp_keepidle(socket, after)
                .and_then(|()| sockopt::set_tcp_keepintvl(socket, again))
                .map_err(|error| ListenError {
                    address: address.to_string(),
                    flag: format!("--{service}"),
                    reason: format!("--tcp-keepalive: {error}"),
                })?;
        }
        Ok(())
    }
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({flag}): {reason}")]
pub struct ListenError {
    /// This one.
    pub address: String,
    /// The flag that asked for it, such as `--smtp`; for the control socket `control socket`.
    pub flag: String,
    /// Why not.
    pub reason: String,
}

/// Listens on `address` for `shards` shards (at least one). `service` is the flag's name without
/// dashes. A Unix socket is open to every user of the machine, as a port on the loopback address is.
///
/// # Errors
/// [`ListenError`]; nothing is bound then.
pub fn listen(
    service: &str,
    address: &ListenAddress,
    shards: usize,
) -> Result<Listener, ListenError> {
    let shards = shards.max(1);
    match address {
        ListenAddress::Tcp(tcp) => listen_tcp(*tcp, shards).map_err(|error| ListenError {
            address: tcp.to_string(),
            flag: format!("--{service}"),
            reason: explain(error),
        }),
        ListenAddress::Unix(path) => listen_unix(&format!("--{service}"), path, 0o666, shards),
    }
}

/// How long an address may stay in use: the kernel takes the rings of a process that was killed
/// apart in its own time, and they hold its sockets until then.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Tries again for a while when the address is in use.
fn patiently<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    in_use: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(error) if in_use(&error) && Instant::now() < end => thread::sleep(RETRY_PAUSE),
            outcome => return outcome,
        }
    }
}

fn listen_tcp(wanted: SocketAddr, shards: usize) -> Result<Listener, Errno> {
    // With SO_REUSEPORT alone we would join another server of the same user on its port, and take
    // half of its connections. A socket without it finds out.
    if wanted.port() != 0 {
        let probe = patiently(
            || bind_tcp(wanted, false),
            |error| *error == Errno::ADDRINUSE,
        );
        drop(probe?);
    }
    let first = bind_tcp(wanted, true)?;
    let address = SocketAddr::try_from(rustix::net::getsockname(&first)?)?;
    let mut sockets = vec![first];
    for _ in 1..shards {
        sockets.push(bind_tcp(address, true)?);
    }
    // Nothing is accepted before all are there.
    for socket in &sockets {
        rustix::net::listen(socket, BACKLOG)?;
    }
    Ok(Listener {
        address: ListenAddress::Tcp(address),
        sockets,
        file: None,
    })
}

fn bind_tcp(address: SocketAddr, share: bool) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if share {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    if address.is_ipv6() {
        // [::] beside 0.0.0.0 would clash otherwise.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// Listens on a Unix socket whose file has this mode from the moment it is there. A stale file, to
/// which nobody listens any more, is replaced.
///
/// # Errors
/// [`ListenError`] with `flag` as given.
pub fn listen_unix(
    flag: &str,
    path: &Path,
    mode: u32,
    shards: usize,
) -> Result<Listener, ListenError> {
    let error = |reason: String| ListenError {
        address: path.display().to_string(),
        flag: flag.to_owned(),
        reason,
    };
    let failed = |errno: Errno| error(explain(errno));
    let address = SocketAddrUnix::new(path).map_err(|_| {
        error(format!(
            "the path has {} bytes, that of a Unix socket at most 107",
            path.as_os_str().len()
        ))
    })?;
    patiently(|| clear_stale(path), |reason| reason == IN_USE).map_err(error)?;
    let first = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(failed)?;
    // The file is made with the mode of the socket, less the umask: never more open than asked for.
    rustix::fs::fchmod(&first, Mode::from_raw_mode(mode)).map_err(failed)?;
    rustix::net::bind(&first, &address).map_err(failed)?;
    let file = SocketFile(path.to_owned());
    // The umask may have taken too much away.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|e| error(e.to_string()))?;
    rustix::net::listen(&first, BACKLOG).map_err(failed)?;
    let mut sockets = vec![first];
    for _ in 1..shards.max(1) {
        let clone = sockets[0].try_clone().map_err(|e| error(e.to_string()))?;
        sockets.push(clone);
    }
    Ok(Listener {
        address: ListenAddress::Unix(path.to_owned()),
        sockets,
        file: Some(file),
    })
}

const IN_USE: &str = "another process listens on it";

/// Removes the file of a socket that nobody listens on.
fn clear_stale(path: &Path) -> Result<(), String> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if !kind.is_socket() {
        return Err("there is a file of this name that is not a socket".to_owned());
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(IN_USE.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|e| format!("cannot remove the stale socket: {e}"))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// In an operator's words.
fn explain(error: Errno) -> String {
    match error {
        Errno::ADDRINUSE => "address in use".to_owned(),
        Errno::ADDRNOTAVAIL => "no interface of this machine has this address".to_owned(),
        Errno::ACCESS => {
            "permission denied (ports below 1024 need root or CAP_NET_BIND_SERVICE)".to_owned()
        }
        other => io::Error::from(other).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn local(port: u16) -> ListenAddress {
        ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    fn tcp(address: &ListenAddress) -> SocketAddr {
        match address {
            ListenAddress::Tcp(address) => *address,
            ListenAddress::Unix(path) => panic!("{} is not TCP", path.display()),
        }
    }

    #[test]
    fn every_shard_has_a_socket_on_the_one_port() {
        let listener = listen("smtp", &local(0), 3).expect("bound");
        assert_eq!(listener.sockets.len(), 3);
        let address = tcp(&listener.address);
        assert_ne!(address.port(), 0);
        for socket in &listener.sockets {
            let found = SocketAddr::try_from(rustix::net::getsockname(socket).expect("bound"));
            assert_eq!(found, Ok(address));
            assert!(sockopt::tcp_nodelay(socket).expect("read"));
        }
    }

    #[test]
    fn what_is_accepted_has_no_delay() {
        let listener = listen("pop3", &local(0), 1).expect("bound");
        let silence = Duration::from_secs(300);
        listener.set_keepalive("pop3", silence).expect("set");
        let _client = TcpStream::connect(tcp(&listener.address)).expect("connected");
        let accepted = rustix::net::accept(&listener.sockets[0]).expect("accepted");
        assert_eq!(sockopt::tcp_keepidle(&accepted), Ok(silence));
        assert!(sockopt::tcp_nodelay(&accepted).expect("read"));
        assert!(sockopt::socket_keepalive(&accepted).expect("read"));
    }

    #[test]
    fn a_taken_port_is_an_error_even_when_it_is_shared() {
        let ours = listen("smtp", &local(0), 2).expect("bound");
        let port = tcp(&ours.address).port();
        let error = listen("lmtp", &local(port), 2).expect_err("taken");
        assert_eq!(
            error.to_string(),
            format!("cannot listen on 127.0.0.1:{port} (--lmtp): address in use")
        );
        drop(ours);
        let plain = TcpListener::bind(("127.0.0.1", 0)).expect("bound");
        let port = plain.local_addr().expect("bound").port();
        listen("smtp", &local(port), 1).expect_err("taken");
    }

    #[test]
    fn an_address_of_another_machine_is_explained() {
        let address = ListenAddress::Tcp(SocketAddr::from(([192, 0, 2, 1], 2525)));
        let error = listen("smtp", &address, 1)
            .expect_err("not ours")
            .to_string();
        assert!(error.contains("no interface of this machine"), "{error}");
    }

    #[test]
    fn a_port_is_free_again_right_after_a_stop() {
        let listener = listen("smtp", &local(0), 1).expect("bound");
        let address = listener.address.clone();
        let mut client = TcpStream::connect(tcp(&address)).expect("connected");
        // Closed by the server first: its end is in TIME_WAIT.
        drop(rustix::net::accept(&listener.sockets[0]).expect("accepted"));
        assert_eq!(client.read(&mut [0; 1]).expect("end"), 0);
        drop(listener);
        drop(client);
        listen("smtp", &address, 1).expect("bound again");
    }

    #[test]
    fn a_unix_socket_has_its_mode_and_goes_with_its_listener() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lmtp");
        let listener = listen_unix("--lmtp", &path, 0o600, 2).expect("bound");
        assert_eq!(listener.sockets.len(), 2);
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut client = UnixStream::connect(&path).expect("connected");
        let accepted = rustix::net::accept(&listener.sockets[1]).expect("accepted");
        client.write_all(b"x").expect("sent");
        let mut byte = [0; 1];
        rustix::io::read(&accepted, &mut byte).expect("received");
        assert_eq!(&byte, b"x");
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("control");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(path.exists(), "left behind as after kill -9");
        let live = listen_unix("control socket", &path, 0o600, 1).expect("replaced");
        let error = listen_unix("control socket", &path, 0o600, 1).expect_err("live");
        assert!(
            error
                .to_string()
                .ends_with("(control socket): another process listens on it")
        );
        assert!(path.exists());
        drop(live);
        std::fs::write(&path, "mine").expect("written");
        let error = listen_unix("control socket", &path, 0o600, 1).expect_err("a file");
        assert!(error.to_string().contains("not a socket"));
        assert_eq!(std::fs::read(&path).expect("kept"), b"mine");
    }

    #[test]
    fn a_path_that_is_too_long_is_said() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(200)));
        let error = listen("lmtp", &ListenAddress::Unix(path), 1).expect_err("too long");
        assert!(error.to_string().contains("at most 107"));
    }
}
