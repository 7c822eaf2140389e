//! IMAP through the whole program: sessions that see each other and deliveries, restarts, bounds.

#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod many;
mod news;
mod sessions;
mod telemetry;

use support::{Server, deliver};

/// A server with u0 to u3 of bench.test, all with the password `pw`.
fn server(flags: &[&str]) -> Server {
    let server = Server::start(flags);
    server.generate(4);
    server
}

/// A short message to u0, by SMTP.
fn arrives(server: &Server, subject: &str) {
    let reply = deliver(server, "u0", subject);
    assert!(reply.starts_with("250"), "{reply}");
}
