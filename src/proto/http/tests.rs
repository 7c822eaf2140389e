//! Whole conversations, each in pieces of several sizes.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::limits::{HTTP_HEAD_BYTES_MAX, OUTPUT_BYTES_MAX};
use crate::proto::driver::{Driver, play};
use crate::proto::{Event, Session as _, Step};

fn page(ask: Ask) -> Answer {
    let (status, body) = match ask.path.as_str() {
        "/health" => (200, b"good\r\n".to_vec()),
        "/large" => (200, b"0123456789abcde\n".repeat(50_000)),
        _ => (404, b"no such page\r\n".to_vec()),
    };
    Answer {
        status,
        content_type: "text/plain",
        body,
    }
}

fn driver() -> Driver<Session, fn(Ask) -> Answer> {
    Driver::new(Session::new(), page as fn(Ask) -> Answer)
}

/// One request in any pieces: the response, and whether the connection ended.
fn exchange(input: &[u8]) -> (String, bool) {
    let mut outcomes = [usize::MAX, 1, 3, 1000].map(|piece_bytes| {
        let mut driver = driver();
        driver.receive(input, piece_bytes);
        (driver.output, driver.closed)
    });
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]));
    let (output, closed) = std::mem::take(&mut outcomes[0]);
    (String::from_utf8(output).unwrap(), closed)
}

#[test]
fn serves_pages_one_after_the_other() {
    play(
        "
        C: GET /health HTTP/1.1
        C: Host: localhost:2080
        C: 
        C: HEAD /health?x=y HTTP/1.1
        C: host: localhost
        C: Accept: */*
        C: 
        S: HTTP/1.1 200 OK
        S: Content-Type: text/plain
        S: Content-Length: 6
        S: Cache-Control: no-store
        S: 
        S: good
        S: HTTP/1.1 200 OK
        S: Content-Type: text/plain
        S: Content-Length: 6
        S: Cache-Control: no-store
        S: 
        # RFC 9112 §2.2: empty lines before a request
        C: 
        C: 
        C: GET /nothing HTTP/1.1
        C: Host: localhost
        C: Connection: close
        C: 
        C: GET /health HTTP/1.1
        S: HTTP/1.1 404 Not Found
        S: Content-Type: text/plain
        S: Content-Length: 14
        S: Cache-Control: no-store
        S: Connection: close
        S: 
        S: no such page
        S: <close>
        ",
        || (Session::new(), page),
    );
}

#[test]
fn refusals_end_the_connection() {
    for (request, status) in [
        ("POST /health HTTP/1.1\r\nHost: a\r\n\r\n", "405 "),
        ("GET /health HTTP/1.1\r\n\r\n", "400 "),
        ("GET /health HTTP/3.0\r\nHost: a\r\n\r\n", "505 "),
        ("EHLO example.org\r\n\r\n", "400 "),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            "413 ",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "411 ",
        ),
    ] {
        let (response, closed) = exchange(request.as_bytes());
        assert!(closed, "{request:?}");
        assert_eq!(&response[9..13], status, "{request:?}");
        assert!(response.contains("\r\nConnection: close\r\n"), "{response}");
        assert_eq!(response.contains("Allow: GET, HEAD"), status == "405 ");
        assert_eq!(
            response.matches("HTTP/1.1").count(),
            1 + usize::from(status == "505 ")
        );
    }
}

#[test]
fn the_bound_of_a_head() {
    let head = |bytes: usize| {
        let start = "GET /health HTTP/1.1\r\nHost: a\r\nX: ";
        let filler = "x".repeat(bytes - start.len() - 4);
        format!("{start}{filler}\r\n\r\n")
    };
    let fits = head(HTTP_HEAD_BYTES_MAX);
    let (response, closed) = exchange(fits.repeat(2).as_bytes());
    assert_eq!(response.matches("200 OK").count(), 2);
    assert!(!closed);
    let (response, closed) = exchange(head(HTTP_HEAD_BYTES_MAX + 1).as_bytes());
    assert_eq!(&response[9..13], "431 ");
    assert!(closed);
    let (response, _) = exchange("x".repeat(100_000).as_bytes());
    assert_eq!(&response[9..13], "431 ");
}

#[test]
fn a_large_page_passes_in_bounded_pieces() {
    let mut driver = driver();
    let request = b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n";
    driver.receive(&request.repeat(2), 5);
    assert!(driver.drains >= 2 * 800_000 / OUTPUT_BYTES_MAX);
    assert!(!driver.closed);
    let page = b"0123456789abcde\n".repeat(50_000);
    let output = driver.take_output();
    let head_bytes = (output.len() - 2 * page.len()) / 2;
    assert!(output.ends_with(&page));
    assert!(output[head_bytes..].starts_with(&page));
    assert!(output.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

#[test]
fn bytes_do_not_stretch_the_deadline() {
    let mut driver = driver();
    driver.receive(b"GET /", 1);
    driver.pass(Duration::from_secs(29));
    driver.receive(b"health", 1);
    driver.pass(Duration::from_secs(2));
    assert!(driver.closed);
    let output = driver.take_output();
    assert!(output.starts_with(b"HTTP/1.1 408 "));
}

#[test]
fn idle_connections_end_without_a_word() {
    let mut idle = driver();
    idle.receive(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", 9);
    idle.take_output();
    idle.pass(Duration::from_secs(29));
    assert!(!idle.closed);
    idle.pass(Duration::from_secs(2));
    assert!(idle.closed && idle.output.is_empty());
    let mut stopped = driver();
    stopped.notify(Event::Shutdown);
    assert!(stopped.closed && stopped.output.is_empty());
}

#[test]
fn shutdown_finishes_the_page_that_was_asked_for() {
    let mut session = Session::new();
    let now = Instant::now();
    let mut out = Vec::new();
    session.greet(now, &mut out);
    let (_, step) = session.feed(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n", now, &mut out);
    let Step::Ask(ask) = step else {
        panic!("{step:?}");
    };
    assert!(matches!(
        session.notify(Event::Shutdown, now, &mut out),
        Step::NeedInput
    ));
    let mut step = session.answer(page(ask), now, &mut out);
    assert!(String::from_utf8_lossy(&out).contains("Connection: close\r\n"));
    let mut body_bytes = 0;
    while matches!(step, Step::Drain) {
        body_bytes += out.len();
        out.clear();
        step = session.feed(b"", now, &mut out).1;
    }
    assert!(matches!(step, Step::Close));
    assert!(body_bytes + out.len() > 800_000);
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    let words: &[&[u8]] = &[
        b"GET /health HTTP/1.1\r\n",
        b"GET /large HTTP/1.0\r\n",
        b"HEAD / HTTP/1.1\r\n",
        b"Host: a\r\n",
        b"Content-Length: 0\r\n",
        b"Connection: close\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b":",
    ];
    let word = prop_oneof![
        12 => prop::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..9),
    ];
    prop::collection::vec(word, 0..30).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn pieces_of_input_do_not_matter(input in noise(), piece_bytes in 1usize..50) {
        let outcome = |piece_bytes| {
            let mut driver = driver();
            driver.receive(&input, piece_bytes);
            (driver.output, driver.closed)
        };
        prop_assert_eq!(outcome(usize::MAX), outcome(piece_bytes));
    }
}
