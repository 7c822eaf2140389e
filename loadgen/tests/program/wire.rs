//! TLS, logins, sizes, real messages and recipients, each read back and verified.

use std::path::Path;

use super::fake::{self, Doors, Manner, Speaks, Store};
use super::{loadgen, numbers, send, verify};

fn tls(implicit: bool) -> (Doors, String) {
    let (config, pem) = fake::certificate();
    let doors = Doors {
        tls: Some((config, implicit)),
        ..Doors::default()
    };
    (doors, pem)
}

/// Writes the certificate; the flag that trusts it.
fn trusting(dir: &Path, pem: &str) -> String {
    let path = dir.join("ca.pem");
    std::fs::write(&path, pem).expect("written");
    format!("--tls-ca {}", path.display())
}

#[test]
fn mail_under_tls_arrives_whole() {
    for (implicit, how) in [(true, "--tls"), (false, "--starttls")] {
        for command in ["smtp", "lmtp"] {
            let dir = tempfile::tempdir().expect("a folder");
            let store = Store::default();
            let (doors, pem) = tls(implicit);
            let ca = trusting(dir.path(), &pem);
            let inbound = fake::guarded_smtp(&store, &[], &doors);
            let more =
                format!("--count 60 --size 1K:1,40K:1 --messages-per-connection 5 {how} {ca}");
            let sent = send(dir.path(), command, inbound, &more);
            assert_eq!(sent.status, 0, "{command} {how}: {}", sent.text);
            let verbs = &sent.json["verbs"];
            let handshakes = |name: &str| verbs[name]["count"].as_u64().unwrap_or(0);
            let (full, resumed) = (handshakes("TLS"), handshakes("TLS resumed"));
            // Four at once have nothing to resume; the others have.
            assert!(full >= 1 && resumed >= 1, "{}", sent.text);
            assert_eq!(
                full + resumed,
                sent.json["connections"].as_u64().expect("a number")
            );
            let verified = verify(dir.path(), fake::pop3(&store), "--password pw");
            assert_eq!(
                numbers(&verified),
                [60, 60, 0, 0, 0, 0],
                "{}",
                verified.text
            );
            let more = format!("{more} --tls-resume off");
            let sent = send(dir.path(), command, inbound, &more);
            assert!(sent.json["verbs"]["TLS resumed"].is_null(), "{}", sent.text);
        }
    }
}

#[test]
fn certificates_are_checked_unless_told_not_to() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::default();
    let (doors, pem) = tls(true);
    let inbound = fake::guarded_smtp(&store, &[], &doors);
    let ca = trusting(dir.path(), &pem);
    let other = tempfile::tempdir().expect("a folder");
    let other_ca = trusting(other.path(), &fake::certificate().1);
    for (flags, status, said) in [
        (ca.clone(), 0, "TLS"),
        ("--tls-insecure".to_owned(), 0, "certificate not checked"),
        (other_ca, 1, "invalid peer certificate"),
        (format!("{ca} --tls-name example.org"), 1, "not valid for"),
    ] {
        let more = format!("--tls {flags} --count 8 --give-up 1s");
        let sent = send(dir.path(), "smtp", inbound, &more);
        assert_eq!(sent.status, status, "{flags}: {}", sent.text);
        assert!(sent.text.contains(said), "{flags}: {}", sent.text);
    }
}

#[test]
fn pages_are_asked_for_over_tls() {
    let dir = tempfile::tempdir().expect("a folder");
    let (doors, pem) = tls(true);
    let target = fake::guarded_http(&doors);
    let ca = trusting(dir.path(), &pem);
    let asked = |flags: &str| {
        let flags =
            format!("http --target {target} --connections 2 --count 20 --give-up 1s {flags}");
        loadgen(dir.path(), &flags)
    };
    let page = asked(&format!("--tls {ca} --body-bytes 6 --rate 500"));
    assert_eq!(
        (page.status, &page.json["done"]),
        (0, &20.into()),
        "{}",
        page.text
    );
    let page = asked(&format!("--tls {ca} --body-bytes 6 --keep-alive off"));
    assert_eq!(
        (page.status, &page.json["connections"]),
        (0, &20.into()),
        "{}",
        page.text
    );
    assert!(
        page.json["verbs"]["TLS resumed"]["count"].as_u64() > Some(0),
        "{}",
        page.text
    );
    let page = asked("--tls");
    assert_eq!(page.status, 1, "{}", page.text);
    assert!(
        page.text.contains("invalid peer certificate"),
        "{}",
        page.text
    );
    let page = asked(&ca);
    assert_eq!(page.status, 2, "{}", page.text);
    assert!(page.text.contains("need --tls"), "{}", page.text);
}

#[test]
fn users_hand_in_mail_by_every_mechanism() {
    for mechanism in ["plain", "login", "cram-md5", "scram-sha-256"] {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::default();
        let doors = Doors {
            auth: true,
            own_sender: true,
            ..tls(false).0
        };
        let inbound = fake::guarded_smtp(&store, &[], &doors);
        let flags = format!(
            "--auth {mechanism} --count 30 --messages-per-connection 4 --starttls --tls-insecure \
             --give-up 1s"
        );
        let good = format!("{flags} --password pw");
        let sent = send(dir.path(), "submission", inbound, &good);
        assert_eq!(sent.status, 0, "{mechanism}: {}", sent.text);
        assert!(
            sent.json["verbs"]["AUTH"]["count"].as_u64() >= Some(8),
            "{}",
            sent.text
        );
        let verified = verify(dir.path(), fake::pop3(&store), "--password pw");
        assert_eq!(
            numbers(&verified),
            [30, 30, 0, 0, 0, 0],
            "{}",
            verified.text
        );
        let bad = format!("{flags} --password wrong");
        let sent = send(dir.path(), "submission", inbound, &bad);
        assert_eq!(
            (sent.status, &sent.json["done"]),
            (1, &0.into()),
            "{}",
            sent.text
        );
        assert!(
            sent.text
                .contains("refused 535 at AUTH: 535 5.7.8 wrong password"),
            "{mechanism}: {}",
            sent.text
        );
    }
}

#[test]
fn smtp_may_log_in_too_and_needs_the_mechanism() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::default();
    let doors = Doors {
        auth: true,
        ..Doors::default()
    };
    let flags = "--auth scram-sha-256 --password pw --count 5 --give-up 1s";
    let sent = send(
        dir.path(),
        "smtp",
        fake::guarded_smtp(&store, &[], &doors),
        flags,
    );
    assert_eq!(sent.status, 0, "{}", sent.text);
    let sent = send(dir.path(), "smtp", fake::smtp(&store, &[]), flags);
    assert_eq!(sent.status, 1, "{}", sent.text);
    let said = "not offered at AUTH: the server does not announce AUTH SCRAM-SHA-256";
    assert!(sent.text.contains(said), "{}", sent.text);
}

#[test]
fn mailboxes_are_read_by_every_login() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::default();
    let sent = send(dir.path(), "smtp", fake::smtp(&store, &[]), "--count 100");
    assert_eq!(sent.status, 0, "{}", sent.text);
    for (implicit, how) in [(true, "--tls"), (false, "--starttls")] {
        let outbound = fake::guarded_pop3(&store, &tls(implicit).0);
        for login in [
            "user",
            "apop",
            "plain",
            "login",
            "cram-md5",
            "scram-sha-256",
        ] {
            let flags = format!(
                "pop3 --target {outbound} --users 20 --connections 2 --count 20 --retr 100 \
                 --give-up 1s {how} --tls-insecure --auth {login}"
            );
            let read = loadgen(dir.path(), &format!("{flags} --password pw"));
            assert_eq!(read.status, 0, "{how} {login}: {}", read.text);
            assert_eq!(
                (&read.json["done"], &read.json["items"]),
                (&20.into(), &100.into())
            );
            let read = loadgen(dir.path(), &format!("{flags} --password wrong"));
            assert_eq!(read.status, 1, "{how} {login}: {}", read.text);
            assert!(
                read.text.contains("[AUTH] wrong"),
                "{how} {login}: {}",
                read.text
            );
        }
    }
}

#[test]
fn a_connection_for_every_message() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::default();
    let more = "--count 50 --messages-per-connection 1";
    let sent = send(dir.path(), "smtp", fake::smtp(&store, &[]), more);
    assert_eq!(sent.status, 0, "{}", sent.text);
    for verb in ["connect", "EHLO", "message", "QUIT", "session"] {
        assert_eq!(
            sent.json["verbs"][verb]["count"], 50,
            "{verb}: {}",
            sent.text
        );
    }
    assert_eq!(sent.json["connections"], 50);
}

#[test]
fn real_messages_come_back_as_they_were() {
    let dir = tempfile::tempdir().expect("a folder");
    let mbox = dir.path().join("mbox");
    let text = "From a@b Thu Jan  1 00:00:00 1970\nSubject: dots\n\n.\n..\n>From me\n\n\
                From c@d Thu Jan  1 00:00:00 1970\nSubject: z\u{fc}rich\n\nz\u{fc}rich\nno end";
    std::fs::write(&mbox, text).expect("written");
    let store = Store::default();
    let more = format!("--count 40 --messages {}", mbox.display());
    let command = format!(
        "smtp --target {} --users 20 --connections 4 --ledger {} {more}",
        fake::smtp(&store, &[]),
        dir.path().join("ledger").display()
    );
    let sent = loadgen(dir.path(), &command);
    assert_eq!(sent.status, 0, "{}", sent.text);
    let deaf = fake::rude(Speaks::Smtp, "EHLO", Manner::Says(b"250 no 8BITMIME\r\n"));
    let refused = loadgen(dir.path(), &format!("smtp --target {deaf} {more}"));
    assert_eq!(refused.status, 2, "{}", refused.text);
    assert!(
        refused.text.contains("announce 8BITMIME (RFC 6152)"),
        "{}",
        refused.text
    );
    let outbound = fake::pop3(&store);
    let verified = verify(dir.path(), outbound, "--password pw");
    assert_eq!(
        numbers(&verified),
        [40, 40, 0, 0, 0, 0],
        "{}",
        verified.text
    );
    let wanted = [
        "Subject: dots\r\n\r\n.\r\n..\r\nFrom me\r\n",
        "Subject: z\u{fc}rich\r\n\r\nz\u{fc}rich\r\nno end\r\n",
    ];
    let mut seen = [0; 2];
    let mut mailboxes = store.lock().expect("not poisoned");
    for message in mailboxes.values().flatten() {
        let which = wanted
            .iter()
            .position(|wanted| message.ends_with(wanted.as_bytes()));
        seen[which.expect("one of the two")] += 1;
    }
    assert!(
        seen.iter().sum::<i32>() == 40 && !seen.contains(&0),
        "{seen:?}"
    );
    // One whose last letter is another is found.
    let mailbox = mailboxes.values_mut().next().expect("a mailbox");
    let last = mailbox[0].len() - 3;
    mailbox[0][last] ^= 1;
    drop(mailboxes);
    let verified = verify(dir.path(), outbound, "--password pw");
    assert_eq!(verified.json["corrupt"], 1, "{}", verified.text);
}
