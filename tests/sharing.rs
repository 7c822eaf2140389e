//! Accounts of others through the whole program: administrators who act for them, quotas, mailboxes
//! that are shared between accounts of one shard and of two.

#[path = "sharing/guests.rs"]
mod guests;
mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use support::imap::Imap;
use support::{Client, Server, deliver};

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
    let next = |users: &mut Vec<String>| users.pop().expect("24 accounts on two shards");
    let users = [
        next(&mut here),
        next(&mut there),
        next(&mut here),
        next(&mut there),
    ];
    (server, users)
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
    let mut one = Imap::connect(&server);
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
            lines[0].split('"').nth(1).map(str::to_owned)
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

/// The visitor's name for a mailbox.
fn others(user: &str, mailbox: &str) -> String {
    format!("\"Other Users/{user}@bench.test/{mailbox}\"")
}

#[test]
fn a_mailbox_is_shared_and_no_longer() {
    let (mut server, [ann, far, near, _]) = server(&[]);
    // The same wherever the visitor lives: on the owner's shard or on the other one.
    for bob in [&far, &near] {
        let mut owner = Imap::login(&server, &ann);
        let mut guest = Imap::login(&server, bob);
        let name = format!("with-{bob}");
        let shared = others(&ann, &name);
        owner.ok(&format!("CREATE {name}"));
        owner.append(&name, "\\Flagged $One", &["Subject: one\r\n\r\nfirst\r\n"]);
        // What is not granted is not there.
        for command in ["SELECT", "MYRIGHTS", "GETACL", "DELETE", "GETQUOTAROOT"] {
            guest.no(&format!("{command} {shared}"), "NONEXISTENT");
        }
        assert!(guest.ok("LIST \"Other Users/\" *").is_empty());
        let set = |rights: &str| format!("SETACL {name} {bob}@bench.test {rights}");
        owner.no(&format!("SETACL {name} nobody@bench.test lr"), "CANNOT");
        owner.no(&format!("SETACL {name} {ann}@bench.test lr"), "CANNOT");
        owner.ok(&set("lr"));
        let listed = guest.ok("LIST \"Other Users/\" * RETURN (STATUS (MESSAGES))");
        let wanted = [
            format!("* LIST (\\HasNoChildren) \"/\" {shared}"),
            format!("* STATUS {shared} (MESSAGES 1)"),
        ];
        for line in &wanted {
            assert!(listed.contains(line), "{line}: {listed:?}");
        }
        assert_eq!(
            guest.ok(&format!("MYRIGHTS {shared}")),
            [format!("* MYRIGHTS {shared} lr")]
        );
        guest.no(&format!("GETACL {shared}"), "NOPERM");
        let opened = guest.say(&format!("SELECT {shared}"));
        assert!(opened.contains(&"* OK [PERMANENTFLAGS ()] Flags that stay".to_owned()));
        assert_eq!(
            opened.last().map(String::as_str),
            Some("t OK [READ-ONLY] SELECT completed")
        );
        let fetched = guest.ok("FETCH 1 (FLAGS BODY[TEXT])");
        assert_eq!(
            fetched[..2],
            ["* 1 FETCH (FLAGS (\\Flagged $One) BODY[TEXT] {7}", "first"]
        );
        assert_eq!(guest.ok("SEARCH TEXT first"), ["* SEARCH 1"]);
        let said = guest.say("STORE 1 +FLAGS (\\Seen)");
        assert!(said[0].starts_with("t NO"), "{said:?}");

        // More rights: what they allow, and nothing else.
        owner.ok(&set("+stwi"));
        guest.ok(&format!("SELECT {shared}"));
        guest.ok("STORE 1 +FLAGS (\\Seen $Two)");
        guest.no("EXPUNGE", "NOPERM");
        guest.no(
            &format!("CREATE {}", others(&ann, &format!("{name}/sub"))),
            "NOPERM",
        );
        guest.no(&format!("DELETE {shared}"), "NOPERM");
        owner.ok(&format!("SELECT {name}"));
        let flags = "* 1 FETCH (FLAGS (\\Flagged \\Seen $One $Two))";
        assert_eq!(owner.ok("FETCH 1 FLAGS"), [flags]);

        // Idling, the guest sees what the owner does, and the other way round.
        guest.idle();
        owner.append(&name, "", &["Subject: two\r\n\r\nsecond\r\n"]);
        assert_eq!(guest.line(), "* 2 EXISTS");
        guest.done();
        owner.idle();
        guest.append(&shared, "\\Answered", &["Subject: three\r\n\r\nthird\r\n"]);
        assert_eq!(owner.line(), "* 3 EXISTS");
        owner.done();

        // Its quota is the owner's.
        let root = format!("* QUOTAROOT {shared}");
        assert_eq!(guest.ok(&format!("GETQUOTAROOT {shared}")), [root]);

        // The right to delete, and children with the list of what is above them.
        owner.ok(&set("+ek"));
        guest.ok("NOOP");
        guest.ok("STORE 3 +FLAGS (\\Deleted)");
        assert_eq!(guest.ok("EXPUNGE"), ["* 3 EXPUNGE"]);
        let below = others(&ann, &format!("{name}/sub"));
        guest.ok(&format!("CREATE {below}"));
        assert_eq!(
            guest.ok(&format!("MYRIGHTS {below}")),
            [format!("* MYRIGHTS {below} lrswiktecd")]
        );
        guest.no(&format!("RENAME {below} mine"), "CANNOT");
        guest.no(&format!("RENAME {below} {}", others(&ann, "top")), "NOPERM");
        owner.ok(&set("+x"));
        guest.no(&format!("DELETE {below}"), "NOPERM");
        owner.ok(&format!("DELETE {name}/sub"));

        // Rights outlive a crash; those that are taken are gone at once.
        server.kill();
        server.restart();
        let mut owner = Imap::login(&server, &ann);
        let mut guest = Imap::login(&server, bob);
        guest.ok(&format!("SELECT {shared}"));
        guest.ok("FETCH 1:2 FLAGS");
        owner.ok(&format!("SETACL {name} -{bob}@bench.test w"));
        guest.no("STORE 2 +FLAGS ($Three)", "NOPERM");
        let mut idle = Imap::login(&server, bob);
        idle.ok(&format!("SELECT {shared}"));
        idle.idle();
        owner.ok(&format!("DELETEACL {name} {bob}@bench.test"));
        assert_eq!(idle.line(), "* BYE The mailbox was deleted");
        assert_eq!(guest.say("NOOP")[0], "* BYE The mailbox was deleted");
        let mut guest = Imap::login(&server, bob);
        guest.no(&format!("SELECT {shared}"), "NONEXISTENT");
        assert!(guest.ok("LIST \"Other Users/\" *").is_empty());

        // Everybody.
        owner.ok(&format!("SETACL {name} anyone lr"));
        let line = format!("* LIST (\\HasNoChildren) \"/\" {shared}");
        assert!(guest.ok("LIST \"\" *").contains(&line));
        owner.ok(&format!("DELETE {name}"));
        assert!(!guest.ok("LIST \"\" *").contains(&line));
    }
    server.stop();
}

#[test]
fn rights_and_identifiers_are_one_account_s() {
    let (server, [ann, far, near, _]) = server(&[]);
    for bob in [&far, &near] {
        let mut owner = Imap::login(&server, &ann);
        let name = format!("with-{bob}");
        let shared = others(&ann, &name);
        owner.ok(&format!("CREATE {name}"));
        owner.append(&name, "", &["Subject: one\r\n\r\nfirst\r\n"]);
        let set = |rights: &str| format!("SETACL {name} {bob}@bench.test {rights}");
        owner.ok(&set("lr"));
        let mut guest = Imap::login(&server, bob);
        guest.append("INBOX", "", &["Subject: own\r\n\r\nown\r\n"]);

        // One client sees both, and tells by these what is the same.
        let email_id = |imap: &mut Imap| {
            let said = imap.ok("FETCH 1 EMAILID");
            let id = said[0]
                .split("(M")
                .nth(1)
                .and_then(|id| id.split(')').next());
            format!("M{}", id.expect("an EMAILID"))
        };
        let mailbox_id = |said: &[String]| {
            let id = said
                .iter()
                .find_map(|line| line.split("MAILBOXID (F").nth(1));
            let id = id.and_then(|id| id.split(')').next());
            id.expect("a MAILBOXID").to_owned()
        };
        let space = |id: &str| {
            id.trim_start_matches('M')
                .split('-')
                .next()
                .map(str::to_owned)
        };
        let opened = guest.ok("SELECT INBOX");
        let (own_box, own) = (mailbox_id(&opened), email_id(&mut guest));
        let opened = guest.ok(&format!("SELECT {shared}"));
        let (box_id, id) = (mailbox_id(&opened), email_id(&mut guest));
        let status = owner.ok(&format!("STATUS {name} (MAILBOXID)"));
        assert_eq!(mailbox_id(&status), box_id);
        assert_ne!(own, id);
        assert_eq!(space(&own_box), space(&own));
        assert_eq!(space(&box_id), space(&id));
        assert_eq!(guest.ok(&format!("SEARCH EMAILID {id}")), ["* SEARCH 1"]);
        assert_eq!(guest.ok(&format!("SEARCH EMAILID {own}")), ["* SEARCH"]);

        // Who is called so afterwards is somebody else.
        let address = format!("{bob}@bench.test");
        let entries = format!("GETACL {name}");
        assert!(owner.ok(&entries)[0].contains(&address));
        server.run(&["account", "remove", &address]);
        let listed = owner.ok(&entries);
        assert!(!listed[0].contains(&address), "{listed:?}");
        server.run(&["account", "add", &address, "--password", "pw"]);
        let listed = owner.ok(&entries);
        assert!(!listed[0].contains(&address), "{listed:?}");
        assert_eq!(guest.line(), "* BYE The account was removed");
        assert_eq!(guest.line(), "");
        let mut guest = Imap::login(&server, bob);
        guest.no(&format!("SELECT {shared}"), "NONEXISTENT");
        assert!(guest.ok("LIST \"Other Users/\" *").is_empty());
        // What is added is added to nothing.
        owner.ok(&set("+l"));
        assert_eq!(
            guest.ok(&format!("MYRIGHTS {shared}")),
            [format!("* MYRIGHTS {shared} l")]
        );
        guest.no(&format!("SELECT {shared}"), "NOPERM");

        // And the owner's name is no more lasting than that.
        owner.ok(&set("lr"));
        guest.ok(&format!("SELECT {shared}"));
        if *bob == near {
            let address = format!("{ann}@bench.test");
            server.run(&["account", "remove", &address]);
            server.run(&["account", "add", &address, "--password", "pw"]);
            let said = guest.say("NOOP");
            assert_eq!(said, ["* BYE The mailbox was deleted", ""]);
        }
    }
}

/// Whether an account shares with anyone follows from all its lists, be they changed at once.
#[test]
fn what_is_opened_to_anyone_while_another_is_closed_is_found() {
    let (mut server, [ann, far, ..]) = server(&[]);
    let (mut one, mut two) = (Imap::login(&server, &ann), Imap::login(&server, &ann));
    let mut guest = Imap::login(&server, &far);
    one.ok("CREATE a");
    one.ok("CREATE b");
    one.ok("SETACL a anyone lr");
    let mut names = ["a", "b"];
    for round in 0..30 {
        let [open, closed] = names;
        let sent = format!("t DELETEACL {open} anyone\r\n");
        one.send(sent.as_bytes());
        let sent = format!("t SETACL {closed} anyone lr\r\n");
        two.send(sent.as_bytes());
        for owner in [&mut one, &mut two] {
            let line = owner.line();
            assert!(line.starts_with("t OK "), "{line}");
        }
        let listed = guest.ok("LIST \"Other Users/\" *");
        let shared = others(&ann, closed);
        let is_found = listed.iter().any(|line| line.ends_with(&shared));
        assert!(is_found, "round {round}: {listed:?}");
        names = [closed, open];
    }
    server.stop();
}

#[test]
fn messages_cross_between_accounts() {
    let (mut server, [ann, far, near, _]) = server(&[]);
    for bob in [&far, &near] {
        let mut owner = Imap::login(&server, &ann);
        let mut guest = Imap::login(&server, bob);
        let name = format!("with-{bob}");
        let shared = others(&ann, &name);
        owner.ok(&format!("CREATE {name}"));
        let large =
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n".repeat(9000);
        guest.append("INBOX", "\\Seen $Kept", &["Subject: small\r\n\r\nx\r\n"]);
        guest.append("INBOX", "", &[&format!("Subject: large\r\n\r\n{large}")]);
        guest.append("INBOX", "\\Flagged", &["Subject: last\r\n\r\ny\r\n"]);
        guest.ok("SELECT INBOX");
        let copy = format!("COPY 1:3 {shared}");
        guest.no(&copy, "TRYCREATE");
        owner.ok(&format!("SETACL {name} {bob}@bench.test lr"));
        guest.no(&copy, "NOPERM");
        // Without rights on flags they are left behind.
        owner.ok(&format!("SETACL {name} {bob}@bench.test lri"));
        let said = guest.say(&format!("COPY 1 {shared}"));
        assert!(said[0].contains(" 1 1] COPY completed"), "{said:?}");
        owner.ok(&format!("SELECT {name}"));
        assert_eq!(owner.ok("FETCH 1 FLAGS"), ["* 1 FETCH (FLAGS ())"]);
        owner.ok("STORE 1 +FLAGS (\\Deleted)");
        owner.ok("EXPUNGE");
        owner.ok(&format!("SETACL {name} {bob}@bench.test lrswite"));
        let said = guest.say(&copy);
        assert!(said[0].contains(" 1:3 2:4] COPY completed"), "{said:?}");
        owner.ok("NOOP");
        let shown = "FETCH 1:3 (FLAGS RFC822.SIZE INTERNALDATE)";
        let copies = owner.ok(shown);
        assert_eq!(copies, guest.ok(shown));
        assert!(copies[0].contains("(\\Seen $Kept)"), "{copies:?}");
        let bytes = |imap: &mut Imap| {
            let said = imap.ok("FETCH 2 BODY.PEEK[TEXT]");
            said.join("\r\n")
        };
        assert_eq!(bytes(&mut owner), bytes(&mut guest));

        // MOVE: there before it is gone here.
        let said = guest.say(&format!("MOVE 2 {shared}"));
        assert!(said[0].contains(" 2 5] Moved"), "{said:?}");
        assert_eq!(said[1], "* 2 EXPUNGE");
        assert_eq!(owner.ok("NOOP"), ["* 4 EXISTS"]);
        // And back, from what is somebody else's.
        guest.ok(&format!("SELECT {shared}"));
        let said = guest.say("MOVE 4 Archive");
        assert!(said[0].contains(" 5 1] Moved"), "{said:?}");
        assert_eq!(owner.ok("NOOP"), ["* 4 EXPUNGE"]);
        let status = guest.ok("STATUS Archive (MESSAGES SIZE)");
        let size = large.len() + "Subject: large\r\n\r\n".len();
        assert_eq!(
            status,
            [format!("* STATUS \"Archive\" (MESSAGES 1 SIZE {size})")]
        );
        // Within what is shared, by one batch.
        let said = guest.say(&format!("COPY 1 {shared}"));
        assert!(said[1].contains(" 2 6] COPY completed"), "{said:?}");
        // Who may not remove moves nothing.
        owner.ok(&format!("SETACL {name} {bob}@bench.test -e"));
        guest.no("MOVE 1 Archive", "NOPERM");
        let status = "STATUS Archive (MESSAGES)";
        assert_eq!(guest.ok(status), ["* STATUS \"Archive\" (MESSAGES 1)"]);

        // Over the owner's quota nothing stays of a copy.
        server.run(&["account", "quota", &format!("{ann}@bench.test"), "1K"]);
        guest.ok("SELECT Archive");
        guest.no(&format!("COPY 1 {shared}"), "OVERQUOTA");
        server.run(&["account", "quota", &format!("{ann}@bench.test"), "0"]);
        guest.ok(&format!("COPY 1 {shared}"));
        let status = format!("STATUS {shared} (MESSAGES)");
        assert_eq!(
            guest.ok(&status),
            [format!("* STATUS {shared} (MESSAGES 5)")]
        );
        owner.ok("CLOSE");
        owner.ok(&format!("DELETE {name}"));
    }
    server.stop();
}

#[test]
fn a_visitor_has_no_more_than_rights_allow() {
    let (mut server, [ann, far, near, _]) = server(&[]);
    for bob in [&far, &near] {
        let mut owner = Imap::login(&server, &ann);
        let mut guest = Imap::login(&server, bob);
        let set = |name: &str, rights: &str| format!("SETACL {name} {bob}@bench.test {rights}");
        owner.append("INBOX", "", &["Subject: stays\r\n\r\nx\r\n"]);
        owner.ok(&set("INBOX", "lrkx"));
        let below = others(&ann, &format!("INBOX/of-{bob}"));
        for inbox in ["INBOX", "inbox"] {
            guest.no(&format!("RENAME {} {below}", others(&ann, inbox)), "NOPERM");
        }
        guest.no(&format!("CREATE {below} (USE (\\Junk))"), "USEATTR");
        guest.ok(&format!("CREATE {below}"));
        let status = owner.ok("STATUS INBOX (MESSAGES)");
        assert!(!status[0].contains("MESSAGES 0"), "{status:?}");
        owner.ok(&format!("DELETEACL INBOX {bob}@bench.test"));

        // MOVE needs rights in what is open, whatever has got its name.
        let name = format!("first-{bob}");
        owner.ok(&format!("CREATE {name}"));
        owner.append(&name, "", &["Subject: one\r\n\r\nx\r\n"]);
        owner.ok(&set(&name, "lre"));
        guest.ok(&format!("SELECT {}", others(&ann, &name)));
        owner.ok(&format!("RENAME {name} second-{bob}"));
        owner.ok(&format!("CREATE {name}"));
        owner.ok(&set(&name, "lrte"));
        guest.no("MOVE 1 Archive", "NOPERM");
        let status = |imap: &mut Imap, name: &str| imap.ok(&format!("STATUS {name} (MESSAGES)"));
        let archive = "* STATUS \"Archive\" (MESSAGES 0)";
        assert_eq!(status(&mut guest, "Archive"), [archive]);
        owner.ok(&set(&format!("second-{bob}"), "+t"));
        guest.ok("MOVE 1 Archive");
        let archive = "* STATUS \"Archive\" (MESSAGES 1)";
        assert_eq!(status(&mut guest, "Archive"), [archive]);
        guest.ok("UNSELECT");
    }
    server.stop();
}

#[test]
fn an_append_that_was_given_up_leaves_no_bytes() {
    let (mut server, [ann, far, near, _]) = server(&[]);
    let large = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n".repeat(9000);
    let bytes = large.len();
    for bob in [&far, &near] {
        let mut owner = Imap::login(&server, &ann);
        let mut guest = Imap::login(&server, bob);
        let name = format!("with-{bob}");
        owner.ok(&format!("CREATE {name}"));
        owner.ok(&format!("SETACL {name} {bob}@bench.test lri"));
        // The right goes before the message comes: its first piece is refused.
        let shared = others(&ann, &name);
        guest.send(format!("t APPEND {shared} {{{bytes}}}\r\n").as_bytes());
        assert!(guest.line().starts_with('+'));
        owner.ok(&format!("SETACL {name} {bob}@bench.test -i"));
        guest.send(large.as_bytes());
        guest.send(b"\r\n");
        let said = guest.line();
        assert!(said.starts_with("t NO [NOPERM]"), "{said}");
        // One of one's own, in pieces, that ends with a message which is too large.
        let said = guest.say(&format!(
            "APPEND INBOX {{{bytes}+}}\r\n{large} {{4000000000}}"
        ));
        assert!(said[0].starts_with("t NO [TOOBIG]"), "{said:?}");
        // What comes next is what it is.
        guest.append("INBOX", "", &["small"]);
        guest.append("INBOX", "", &[&large]);
        guest.ok("SELECT INBOX");
        assert_eq!(
            guest.ok("FETCH 1:* RFC822.SIZE"),
            [
                "* 1 FETCH (RFC822.SIZE 5)".to_owned(),
                format!("* 2 FETCH (RFC822.SIZE {bytes})")
            ]
        );
    }
    server.stop();
}
