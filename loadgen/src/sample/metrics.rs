//! A server's `/metrics`, in the text format of Prometheus 0.0.4.
//!
//! Guarantees: a server that hangs or never ends its answer costs a bounded time and a bounded
//! number of bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// An answer may take so long; then the second's sample is missing.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Names of counters that are kept.
const NAMES_MAX: usize = 1000;

/// `http://ADDR:PORT/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    address: SocketAddr,
    path: String,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        let wanted = |why: &str| format!("{why}; wanted is http://ADDR:PORT/metrics");
        let rest = text
            .strip_prefix("http://")
            .ok_or_else(|| wanted("it does not begin with http://"))?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if path.contains(|c: char| !c.is_ascii_graphic()) {
            return Err(wanted("the path has characters that no path has"));
        }
        let address = if host.contains(':') && !host.ends_with(']') {
            host.to_socket_addrs()
        } else {
            format!("{host}:80").to_socket_addrs()
        };
        let address = address
            .map_err(|e| wanted(&format!("'{host}': {e}")))?
            .next()
            .ok_or_else(|| wanted(&format!("'{host}' has no address")))?;
        Ok(Endpoint {
            host: host.to_owned(),
            address,
            path: if path.is_empty() { "/metrics" } else { path }.to_owned(),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.host, self.path)
    }
}

impl Endpoint {
    /// The page.
    ///
    /// # Errors
    /// When there is no answer in time, or none that can be used.
    pub fn fetch(&self) -> Result<String, String> {
        self.exchange().map_err(|why| format!("{self}: {why}"))
    }

    fn exchange(&self) -> Result<String, String> {
        let explain = |e: std::io::Error| e.to_string();
        let end = Instant::now() + ANSWER_TIME_MAX;
        let mut stream =
            TcpStream::connect_timeout(&self.address, ANSWER_TIME_MAX).map_err(explain)?;
        stream
            .set_write_timeout(Some(ANSWER_TIME_MAX))
            .map_err(explain)?;
        // In HTTP/1.0 the answer ends with the connection and is never chunked (RFC 9112 §7.1).
        let request = format!(
            "GET {} HTTP/1.0\r\nHost: {}\r\nUser-Agent: loadgen\r\n\r\n",
            self.path, self.host
        );
        // In one piece: a server that answers the first line and closes would reset the rest.
        stream.write_all(request.as_bytes()).map_err(explain)?;
        let mut answer = Vec::new();
        let mut buffer = [0; 16 << 10];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("no whole answer within {ANSWER_TIME_MAX:?}"));
            }
            stream.set_read_timeout(Some(left)).map_err(explain)?;
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => answer.extend_from_slice(&buffer[..count]),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(explain(e)),
            }
            if answer.len() > ANSWER_BYTES_MAX {
                return Err(format!("an answer of more than {ANSWER_BYTES_MAX} bytes"));
            }
        }
        let answer = String::from_utf8_lossy(&answer);
        let (head, page) = answer
            .split_once("\r\n\r\n")
            .ok_or_else(|| "the answer is not HTTP".to_owned())?;
        let status = head.lines().next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("200") {
            return Err(format!("the answer is '{status}'"));
        }
        Ok(page.to_owned())
    }
}

/// One sample of a page: name, labels as they stand, value.
fn samples(page: &str) -> impl Iterator<Item = (&str, &str, f64)> {
    page.lines().filter_map(|line| {
        if line.starts_with('#') {
            return None;
        }
        let (series, value) = line.trim_end().rsplit_once(' ')?;
        let value: f64 = value.parse().ok()?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.trim_end_matches('}')),
            None => (series, ""),
        };
        value.is_finite().then_some((name, labels, value))
    })
}

/// Every name with the sum of its series: shards, kinds and services added up. Buckets and quantiles
/// cannot be added and are left out.
pub fn sums(page: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for (name, labels, value) in samples(page) {
        let is_part = name.ends_with("_bucket") || labels.contains("quantile=");
        if !is_part && (sums.len() < NAMES_MAX || sums.contains_key(name)) {
            *sums.entry(name.to_owned()).or_insert(0.0) += value;
        }
    }
    sums
}

/// The labels of what servers say about themselves: series whose name ends in `_info`, as
/// `x_build_info{version="1.2"} 1`.
pub fn info(page: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (_, labels, _) in samples(page).filter(|(name, ..)| name.ends_with("_info")) {
        let mut rest = labels;
        while let Some((name, value)) = rest.split_once("=\"") {
            let Some(end) = closing_quote(value) else {
                break;
            };
            let text = value[..end].replace("\\\"", "\"").replace("\\\\", "\\");
            if found.len() < NAMES_MAX {
                found.insert(name.trim_start_matches(',').trim().to_owned(), text);
            }
            rest = &value[end + 1..];
        }
    }
    found
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let found = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        found.then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const PAGE: &str = "# TYPE x_total counter\nx_total{shard=\"0\"} 3\nx_total{shard=\"1\"} 4\n\
                        x_seconds{quantile=\"0.5\"} 0.1\nx_seconds_sum 2.5\nx_bucket{le=\"1\"} 9\n\
                        x_build_info{version=\"1.2\",sync_level=\"a \\\"b\\\"\"} 1\nbroken\ny NaN\n";

    #[test]
    fn series_are_added_up() {
        let sums = sums(PAGE);
        assert_eq!(sums["x_total"], 7.0);
        assert_eq!(sums["x_seconds_sum"], 2.5);
        assert_eq!(sums.len(), 3, "{sums:?}");
        let info = info(PAGE);
        assert_eq!(info["version"], "1.2");
        assert_eq!(info["sync_level"], "a \"b\"");
    }

    #[test]
    fn addresses() {
        let parse = |text: &str| text.parse::<Endpoint>().map(|found| found.to_string());
        assert_eq!(
            parse("http://127.0.0.1:80"),
            Ok("http://127.0.0.1:80/metrics".to_owned())
        );
        assert_eq!(
            parse("http://[::1]:8080/a/b"),
            Ok("http://[::1]:8080/a/b".to_owned())
        );
        for wrong in [
            "127.0.0.1:80",
            "https://127.0.0.1",
            "http://",
            "http://127.0.0.1:99999/",
        ] {
            let why = parse(wrong).expect_err(wrong);
            assert!(why.contains("http://ADDR:PORT/metrics"), "{why}");
        }
    }

    /// A server that answers one request with `answer`.
    fn server(answer: &'static str) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = Vec::new();
            let mut buffer = [0; 1000];
            // What is not read would reset the connection when it is closed.
            while !request.ends_with(b"\r\n\r\n")
                && let Ok(count @ 1..) = stream.read(&mut buffer)
            {
                request.extend_from_slice(&buffer[..count]);
            }
            let _ = stream.write_all(answer.as_bytes());
        });
        format!("http://{address}").parse().expect("an endpoint")
    }

    #[test]
    fn pages_are_fetched_and_errors_told() {
        let good = server("HTTP/1.1 200 OK\r\nA: b\r\n\r\nx 1\n");
        assert_eq!(good.fetch().as_deref(), Ok("x 1\n"));
        let why = server("HTTP/1.1 404 Not Found\r\n\r\n")
            .fetch()
            .expect_err("no page");
        assert!(why.contains("404 Not Found"), "{why}");
        let why = server("220 mail ESMTP\r\n").fetch().expect_err("no HTTP");
        assert!(why.contains("not HTTP"), "{why}");
    }
}
