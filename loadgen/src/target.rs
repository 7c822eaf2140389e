//! Where a server listens, and the socket that goes there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::str::FromStr;

use rustix::net::addr::SocketAddrArg as _;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType};

/// `ADDR:PORT`, or the path of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// TCP.
    Tcp(SocketAddr),
    /// TCP, to the first address of a host name: the name is what a certificate has to be for.
    Host(String, SocketAddr),
    /// A Unix stream socket.
    Unix(PathBuf),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        if text.contains('/') {
            return match SocketAddrUnix::new(text) {
                Ok(_) => Ok(Target::Unix(text.into())),
                Err(e) => Err(format!("not a path of a Unix socket: {e}")),
            };
        }
        if let Ok(address) = text.parse() {
            return Ok(Target::Tcp(address));
        }
        let host = text.rsplit_once(':').map_or("", |(host, _)| host);
        text.to_socket_addrs()
            .map_err(|e| e.to_string())
            .and_then(|mut found| found.next().ok_or_else(|| "no address found".to_owned()))
            .map(|address| Target::Host(host.to_owned(), address))
            .map_err(|why| {
                format!(
                    "{why}; wanted is ADDR:PORT as in 127.0.0.1:2525 or [::1]:2525, HOST:PORT, or \
                     the path of a Unix socket, with a slash in it"
                )
            })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Tcp(address) => write!(f, "{address}"),
            Target::Host(name, address) => write!(f, "{name}:{}", address.port()),
            Target::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Connections from one source address to one target before the next source is taken: Linux gives
/// out 28 232 local ports by default, and some are in use or waiting.
const CONNECTIONS_PER_SOURCE: u32 = 20_000;
/// Source addresses that are passed over at most: there are more, but who needs them has another
/// problem.
const SOURCES_MAX: u32 = 1000;

impl Target {
    /// The TCP address, if it is one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Target::Tcp(address) | Target::Host(_, address) => Some(*address),
            Target::Unix(_) => None,
        }
    }

    /// Whom a certificate has to be for: the host's name, or its address.
    pub fn server_name(&self) -> Option<String> {
        match self {
            Target::Tcp(address) => Some(address.ip().to_string()),
            Target::Host(name, _) => Some(name.clone()),
            Target::Unix(_) => None,
        }
    }

    /// As the kernel wants it.
    ///
    /// # Errors
    /// When the path is too long.
    pub fn address(&self) -> io::Result<SocketAddrAny> {
        Ok(match self {
            Target::Tcp(address) | Target::Host(_, address) => address.as_any(),
            Target::Unix(path) => SocketAddrUnix::new(path)?.as_any(),
        })
    }

    /// There is a source address after so many: in 127.0.0.0/8, for targets on the loopback
    /// interface.
    pub fn has_source(&self, skipped: u32) -> bool {
        let address = self.tcp();
        skipped < SOURCES_MAX
            && address.is_some_and(|address| address.is_ipv4() && address.ip().is_loopback())
    }

    /// A socket for connection number `slot`, not yet connected. Loopback targets are reached
    /// from 127.0.0.1, .2, .3 and so on, 20 000 connections each; the first `skipped` of them have
    /// no free port any more.
    ///
    /// # Errors
    /// `EMFILE` and the like.
    pub fn socket(&self, slot: u32, skipped: u32) -> io::Result<OwnedFd> {
        let family = match self.tcp() {
            Some(SocketAddr::V4(_)) => AddressFamily::INET,
            Some(SocketAddr::V6(_)) => AddressFamily::INET6,
            None => AddressFamily::UNIX,
        };
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        if let Some(address) = self.tcp() {
            rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
            if address.ip().is_loopback() {
                // Nothing is congested there, and what the machine has for its network may keep
                // sends back by timers (BBR). A kernel that refuses keeps its own.
                let _ = rustix::net::sockopt::set_tcp_congestion(&socket, "reno");
            }
            let source = slot / CONNECTIONS_PER_SOURCE + skipped;
            if let IpAddr::V4(ip) = address.ip()
                && ip.is_loopback()
                && source > 0
            {
                let ip = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + source);
                rustix::net::bind(&socket, &SocketAddr::from((ip, 0)))?;
            }
        }
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_as_written() {
        assert_eq!(
            "127.0.0.1:25".parse(),
            Ok(Target::Tcp(([127, 0, 0, 1], 25).into()))
        );
        let host: Target = "localhost:25".parse().expect("a name");
        assert_eq!(host.server_name().as_deref(), Some("localhost"));
        assert_eq!(
            (host.to_string().as_str(), host.tcp().map(|tcp| tcp.port())),
            ("localhost:25", Some(25))
        );
        assert_eq!("/run/lmtp".parse(), Ok(Target::Unix("/run/lmtp".into())));
        assert!(matches!(
            "[::1]:25".parse(),
            Ok(Target::Tcp(SocketAddr::V6(_)))
        ));
        for wrong in ["127.0.0.1", "127.0.0.1:x", "", ":", "1.2.3.4:70000"] {
            let error = wrong.parse::<Target>().expect_err(wrong);
            assert!(error.contains("ADDR:PORT"), "{error}");
        }
        let long = format!("/{}", "x".repeat(200));
        assert!(long.parse::<Target>().is_err());
    }

    #[test]
    fn many_connections_have_many_sources() {
        let target: Target = "127.0.0.1:9".parse().expect("an address");
        for (slot, skipped, ip) in [
            (0, 0, [0, 0, 0, 0]),
            (20_000, 0, [127, 0, 0, 2]),
            (45_000, 0, [127, 0, 0, 3]),
            (5, 1, [127, 0, 0, 2]),
            (45_000, 300, [127, 0, 1, 47]),
        ] {
            let socket = target.socket(slot, skipped).expect("a socket");
            let name = rustix::net::getsockname(&socket).expect("a name");
            let name = SocketAddr::try_from(name).expect("an internet address");
            assert_eq!(name.ip(), IpAddr::from(ip));
        }
        assert!(target.has_source(1) && !target.has_source(1_000_000));
        let elsewhere: Target = "192.0.2.1:25".parse().expect("an address");
        assert!(!elsewhere.has_source(1));
    }
}
