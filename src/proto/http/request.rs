//! A request head as far as the admin address needs it (RFC 9112 §2 to §6).

use httparse::{EMPTY_HEADER, Error, Status};

use crate::limits::HTTP_FIELDS_MAX;

/// A request that can be asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Of the target, without query.
    pub(super) path: String,
    /// HEAD: the page is not sent.
    pub(super) head_only: bool,
    /// The connection stays open after the response.
    pub(super) keep_alive: bool,
}

/// A response that ends the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// HTTP status.
    pub(super) status: u16,
    /// For people.
    pub(super) text: &'static str,
}

fn refuse<T>(status: u16, text: &'static str) -> Result<T, Refusal> {
    Err(Refusal { status, text })
}

/// Parses a complete head, empty line included.
pub(super) fn parse_head(head: &[u8]) -> Result<Request, Refusal> {
    let mut fields = [EMPTY_HEADER; HTTP_FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    let status = match parsed.parse(head) {
        Ok(status) => status,
        Err(Error::TooManyHeaders) => return refuse(431, "a request has at most 64 fields here"),
        Err(Error::Version) => return refuse(505, "only HTTP/1.0 and HTTP/1.1 are spoken here"),
        Err(_) => return refuse(400, "not an HTTP request"),
    };
    let (Status::Complete(_), Some(method), Some(target), Some(version)) =
        (status, parsed.method, parsed.path, parsed.version)
    else {
        return refuse(400, "not an HTTP request");
    };
    let head_only = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return refuse(405, "only GET and HEAD are possible here"),
    };
    let mut hosts = 0;
    let mut keep_alive = version == 1;
    for field in parsed.headers.iter() {
        if field.name.eq_ignore_ascii_case("host") {
            hosts += 1;
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            return refuse(411, "requests have no body here");
        } else if field.name.eq_ignore_ascii_case("content-length") {
            match field.value {
                b"0" => {}
                digits if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
                    return refuse(413, "requests have no body here");
                }
                _ => return refuse(400, "Content-Length is not a number"),
            }
        } else if field.name.eq_ignore_ascii_case("connection") {
            let closes = |option: &[u8]| option.trim_ascii().eq_ignore_ascii_case(b"close");
            keep_alive &= !field.value.split(|&byte| byte == b',').any(closes);
        }
    }
    // RFC 9112 §3.2.
    if hosts > 1 || (version == 1 && hosts == 0) {
        return refuse(400, "a request names one Host");
    }
    match parse_path(target) {
        Some(path) => Ok(Request {
            path: path.to_owned(),
            head_only,
            keep_alive,
        }),
        None => refuse(400, "the request target is not a path"),
    }
}

/// Origin form, or absolute form as a proxy would send it (RFC 9112 §3.2).
fn parse_path(target: &str) -> Option<&str> {
    let path = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => match rest.find(['/', '?']) {
            Some(index) => &rest[index..],
            None => "/",
        },
        _ => target,
    };
    let path = path.split(['?', '#']).next()?;
    match path {
        "" if target.contains("://") => Some("/"),
        _ if path.starts_with('/') => Some(path),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(head: &str) -> u16 {
        match parse_head(head.as_bytes()) {
            Ok(_) => 200,
            Err(refusal) => refusal.status,
        }
    }

    fn path(target: &str) -> Option<String> {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        parse_head(head.as_bytes()).ok().map(|request| request.path)
    }

    #[test]
    fn takes_paths_in_both_forms() {
        for (target, expected) in [
            ("/metrics", Some("/metrics")),
            ("/metrics?x=1", Some("/metrics")),
            ("/?u=http://x/y", Some("/")),
            ("http://host:2080/health", Some("/health")),
            ("http://host", Some("/")),
            ("http://host?q", Some("/")),
            ("*", None),
            ("metrics", None),
        ] {
            assert_eq!(path(target).as_deref(), expected, "{target}");
        }
    }

    #[test]
    fn refuses_with_the_right_status() {
        let host = "Host: a\r\n";
        for (head, expected) in [
            (format!("GET / HTTP/1.1\r\n{host}\r\n"), 200),
            ("GET / HTTP/1.0\r\n\r\n".into(), 200),
            (
                format!("HEAD / HTTP/1.1\r\n{host}Content-Length: 0\r\n\r\n"),
                200,
            ),
            ("GET / HTTP/1.1\r\n\r\n".into(), 400),
            (format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), 400),
            (format!("GET / HTTP/2.0\r\n{host}\r\n"), 505),
            (format!("POST / HTTP/1.1\r\n{host}\r\n"), 405),
            (
                format!("GET / HTTP/1.1\r\n{host}Content-Length: 5\r\n\r\n"),
                413,
            ),
            (
                format!("GET / HTTP/1.1\r\n{host}Content-Length: -5\r\n\r\n"),
                400,
            ),
            (
                format!("GET / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n"),
                411,
            ),
            (
                format!("GET / HTTP/1.1\r\n{host}{}\r\n", "A: b\r\n".repeat(64)),
                431,
            ),
            ("\u{1}\u{2}\r\n\r\n".into(), 400),
            ("GET /\r\n\r\n".into(), 400),
        ] {
            assert_eq!(status(&head), expected, "{head:?}");
        }
    }

    #[test]
    fn keeps_alive_by_version_and_field() {
        let keeps = |head: &str| parse_head(head.as_bytes()).unwrap().keep_alive;
        assert!(keeps("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(!keeps(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n"
        ));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(head: Vec<u8>) {
            let _ = parse_head(&head);
        }
    }
}
