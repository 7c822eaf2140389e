//! Accounts of others through the whole program: administrators who act for them, quotas.

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use support::{Client, Server, send_message};

/// Two shards, and the names of four accounts with the password `pw`: the first two and the last two
/// live on different shards each, the first and the third on the same one.
fn server(flags: &[&str]) -> (Server, [String; 4]) {
    let flags = [&["--processors", "0-1", "--partitions", "8"], flags].concat();
    let server = Server::start(&flags);
    server.generate(24);
    let mut by_shard: [Vec<String>; 2] = Default::default();
    for number in 0..24 {
        let user = format!("u{number}");
        let said = server.run(&["hashdir", &format!("{user}@bench.test")]);
        let shard = said.split("shard ").nth(1).expect("its shard");
        by_shard[usize::from(shard.starts_with('1'))].push(user);
    }
    let [mut here, mut there] = by_shard;
    let mut next = |users: &mut Vec<String>| users.pop().expect("24 accounts on two shards");
    let users = [
        next(&mut here),
        next(&mut there),
        next(&mut here),
        next(&mut there),
    ];
    (server, users)
}

/// An IMAP connection.
struct Imap(Client);

impl Imap {
    fn connect(server: &Server) -> Imap {
        let mut client = Client::silent(server.imap);
        let greeting = client.line();
        assert!(greeting.starts_with("* OK [CAPABILITY "), "{greeting}");
        Imap(client)
    }

    fn login(server: &Server, user: &str) -> Imap {
        let mut imap = Imap::connect(server);
        imap.ok(&format!("LOGIN {user}@bench.test pw"));
        imap
    }

    /// Sends a command; the lines of its answer, the tagged one last.
    fn say(&mut self, command: &str) -> Vec<String> {
        self.0.send(format!("t {command}\r\n").as_bytes());
        let mut lines = Vec::new();
        loop {
            let line = self.0.line();
            let ends = line.starts_with("t ") || line.is_empty();
            lines.push(line);
            if ends {
                return lines;
            }
        }
    }

    /// The same; it must be OK. Returns the untagged lines.
    fn ok(&mut self, command: &str) -> Vec<String> {
        let mut lines = self.say(command);
        let tagged = lines.pop().unwrap_or_default();
        assert!(tagged.starts_with("t OK "), "{command}: {lines:?} {tagged}");
        lines
    }

    /// The same; it must be NO with this code.
    fn no(&mut self, command: &str, code: &str) {
        let lines = self.say(command);
        let start = format!("t NO [{code}]");
        assert!(lines[0].starts_with(&start), "{command}: {lines:?}");
    }
}

fn deliver(server: &Server, user: &str, subject: &str) -> String {
    let mut smtp = Client::new(server.smtp);
    smtp.expect("EHLO client.example", "250");
    let body = format!("Subject: {subject}\r\n\r\nbody\r\n");
    let to = format!("{user}@bench.test");
    send_message(&mut smtp, &[&to], &body, false).remove(0)
}

/// A response of SASL PLAIN.
fn plain(act_as: &str, user: &str) -> String {
    STANDARD.encode(format!("{act_as}@bench.test\0{user}@bench.test\0pw"))
}

#[test]
fn an_administrator_acts_for_others_wherever_they_live() {
    let (mut server, users) = server(&[]);
    let [root, one_user, two_user, _] = &users;
    let address = |user: &str| format!("{user}@bench.test");
    for user in &users {
        assert!(deliver(&server, user, &format!("for {user}")).starts_with("250"));
    }
    // Nobody acts for others before somebody says so.
    let mut one = Imap::connect(&server);
    let as_other = format!("AUTHENTICATE PLAIN {}", plain(one_user, root));
    let proxy = |user: &str| format!("PROXYAUTH {}", address(user));
    let set = format!("SETQUOTA {} (STORAGE 1)", address(one_user));
    one.no(&as_other, "AUTHORIZATIONFAILED");
    one.no(
        &format!("LOGIN {root}@bench.test wrong"),
        "AUTHENTICATIONFAILED",
    );
    one.ok(&format!("LOGIN {root}@bench.test pw"));
    one.no(&proxy(one_user), "AUTHORIZATIONFAILED");
    one.no(&set, "NOPERM");
    let said = server.run(&["account", "admin", &address(root), "on"]);
    assert!(
        said.starts_with(&address(root)) && said.contains("  administrator"),
        "{said}"
    );
    server.kill();
    server.restart();
    let listed = server.run(&["account", "list"]);
    let marked = listed
        .lines()
        .filter(|line| line.ends_with("  administrator"));
    assert_eq!(marked.count(), 1, "{listed}");
    for user in &users {
        let subject = |imap: &mut Imap| {
            imap.ok("EXAMINE INBOX");
            let lines = imap.ok("FETCH 1 ENVELOPE");
            lines[0].split('"').nth(3).map(str::to_owned)
        };
        let expected = Some(format!("for {user}"));
        let mut one = Imap::connect(&server);
        one.ok(&format!("AUTHENTICATE PLAIN {}", plain(user, root)));
        assert_eq!(subject(&mut one), expected);
        one.ok("UNSELECT");
        if user != root {
            one.no(&proxy(root), "AUTHORIZATIONFAILED");
            one.no(&set, "NOPERM");
            server.expect_logged(&format!(
                "acts for another administrator={root}@bench.test user={user}@bench.test peer=127.0.0.1"
            ));
        }
        let mut two = Imap::login(&server, root);
        two.ok(&proxy(user));
        assert_eq!(subject(&mut two), expected);
        let mut pop3 = Client::new(server.pop3);
        pop3.expect(
            &format!("AUTH PLAIN {}", plain(user, root)),
            "+OK 1 messages",
        );
        pop3.send(b"RETR 1\r\n");
        let mut seen = false;
        loop {
            let line = pop3.line();
            seen |= line == format!("Subject: for {user}");
            if line == "." {
                break;
            }
        }
        assert!(seen, "{user} by POP3");
        pop3.expect("QUIT", "+OK");
    }
    let mut one = Imap::login(&server, root);
    one.no(&proxy("nobody"), "AUTHORIZATIONFAILED");
    // Nor somebody who is not one, nor one who no longer is.
    let mut two = Imap::login(&server, two_user);
    two.no(&proxy(one_user), "AUTHORIZATIONFAILED");
    server.run(&["account", "admin", &address(root), "off"]);
    one.no(&proxy(one_user), "AUTHORIZATIONFAILED");
    let mut pop3 = Client::new(server.pop3);
    pop3.expect(
        &format!("AUTH PLAIN {}", plain(one_user, root)),
        "-ERR [AUTH]",
    );
    server.stop();
}

#[test]
fn a_quota_is_set_and_holds_at_once() {
    let (mut server, [admin, others @ ..]) = server(&[]);
    server.run(&["account", "admin", &format!("{admin}@bench.test"), "on"]);
    let mut root = Imap::login(&server, &admin);
    for user in &others {
        let mut one = Imap::login(&server, user);
        let name = format!("{user}@bench.test");
        let roots = "* QUOTAROOT \"INBOX\"";
        assert_eq!(one.ok("GETQUOTAROOT INBOX"), [roots]);
        one.no(&format!("GETQUOTA {name}"), "NONEXISTENT");
        one.no(&format!("SETQUOTA {name} (STORAGE 9)"), "NOPERM");
        one.ok("APPEND INBOX (\\Deleted) {5+}\r\nhello");
        let quota = |used: u32, limit: u32| format!("* QUOTA \"{name}\" (STORAGE {used} {limit})");
        let set = |limit: u32| format!("SETQUOTA {name} (STORAGE {limit})");
        assert_eq!(root.ok(&set(2)), [quota(1, 2)]);
        assert_eq!(one.ok(&format!("GETQUOTA {name}")), [quota(1, 2)]);
        assert_eq!(
            one.ok("GETQUOTAROOT Sent"),
            [format!("* QUOTAROOT \"Sent\" \"{name}\""), quota(1, 2)]
        );
        let large = "x".repeat(3000);
        one.no(&format!("APPEND INBOX {{3000+}}\r\n{large}"), "OVERQUOTA");
        assert_eq!(root.ok(&set(0)), [quota(1, 0)]);
        assert!(deliver(&server, user, "no").starts_with("452"));
        assert_eq!(root.ok(&set(4)), [quota(1, 4)]);
        one.ok(&format!("APPEND INBOX {{3000+}}\r\n{large}"));
        assert_eq!(root.ok(&format!("GETQUOTA {name}")), [quota(3, 4)]);
        one.no(&format!("APPEND INBOX {{3000+}}\r\n{large}"), "OVERQUOTA");
        assert_eq!(
            one.ok("STATUS INBOX (DELETED DELETED-STORAGE)"),
            ["* STATUS \"INBOX\" (DELETED 1 DELETED-STORAGE 5)"]
        );
        assert!(root.ok(&format!("SETQUOTA {name} ()")).is_empty());
        one.ok(&format!("APPEND INBOX {{3000+}}\r\n{large}"));
        let said = server.run(&["account", "quota", &name]);
        assert!(!said.contains("quota"), "{said}");
        server.expect_logged(&format!(
            "quota set administrator={admin}@bench.test account={name} limit_bytes=0"
        ));
    }
    root.no("GETQUOTA nobody@bench.test", "NONEXISTENT");
    server.stop();
}
