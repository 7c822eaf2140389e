//! What a guest may do in mailboxes of others beyond reading them, on its own shard and on another one:
//! annotations, NOTIFY, CATENATE, REPLACE.

use super::support::imap::Imap;
use super::{others, server};

/// A new mailbox `name` of the owner, and what the guest calls it.
fn shared(owner: &mut Imap, ann: &str, name: &str) -> String {
    owner.ok(&format!("CREATE {name}"));
    others(ann, name)
}

#[test]
fn annotations_of_others_by_rights() {
    let (server, [ann, far, near, _]) = server(&[]);
    for bob in [&far, &near] {
        let mut owner = Imap::login(&server, &ann);
        let mut guest = Imap::login(&server, bob);
        let name = format!("noted-{bob}");
        let shared = shared(&mut owner, &ann, &name);
        let grant = |rights: &str| format!("SETACL {name} {bob}@bench.test {rights}");
        owner.ok(&format!(
            "SETMETADATA {name} (/shared/comment \"ours\" /private/comment \"mine\")"
        ));
        let both = "(/shared/comment /private/comment)";
        let get = format!("GETMETADATA {shared} {both}");
        // What is not there comes last.
        let said = |place: &str, ours: &str, own: &str| {
            let (shared, private) = (
                format!("/shared/comment {ours}"),
                format!("/private/comment {own}"),
            );
            [match own {
                "NIL" => format!("* METADATA {place} ({shared} {private})"),
                _ => format!("* METADATA {place} ({private} {shared})"),
            }]
        };
        guest.no(&get, "NONEXISTENT");
        guest.no(
            &format!("SETMETADATA {shared} (/private/x \"1\")"),
            "NONEXISTENT",
        );
        owner.ok(&grant("l"));
        guest.no(&get, "NOPERM");
        owner.ok(&grant("lr"));
        assert_eq!(guest.ok(&get), said(&shared, "\"ours\"", "NIL"));
        let private = |value: &str| format!("SETMETADATA {shared} (/private/comment {value})");
        guest.ok(&private("\"his\""));
        guest.no(
            &format!("SETMETADATA {shared} (/shared/comment \"x\" /private/comment NIL)"),
            "NOPERM",
        );
        assert_eq!(guest.ok(&get), said(&shared, "\"ours\"", "\"his\""));
        owner.ok(&grant("lrw"));
        guest.ok(&format!("SETMETADATA {shared} (/shared/comment \"both\")"));
        let own = format!("GETMETADATA {name} {both}");
        let quoted = format!("\"{name}\"");
        assert_eq!(owner.ok(&own), said(&quoted, "\"both\"", "\"mine\""));
        let listed = guest.ok(&format!(
            "LIST \"\" {shared} RETURN (METADATA (/private/comment))"
        ));
        let line = format!("* METADATA {shared} (/private/comment \"his\")");
        assert_eq!(listed.last(), Some(&line), "{listed:?}");

        // A guest cannot fill the mailbox: half of what fits is its owner's.
        let many = |start: usize, count: usize| {
            let entries = (start..start + count).map(|n| format!("/private/a{n} \"x\""));
            entries.collect::<Vec<_>>().join(" ")
        };
        guest.no(
            &format!("SETMETADATA {shared} ({})", many(0, 48)),
            "METADATA TOOMANY",
        );
        guest.ok(&format!("SETMETADATA {shared} ({})", many(0, 47)));
        owner.ok(&format!("SETMETADATA {name} ({})", many(0, 50)));
        owner.no(
            &format!("SETMETADATA {name} ({})", many(50, 1)),
            "METADATA TOOMANY",
        );

        // Somebody else with this address does not see what was private.
        let address = format!("{bob}@bench.test");
        server.run(&["account", "remove", &address]);
        server.run(&["account", "add", &address, "--password", "pw"]);
        owner.ok(&grant("lrw"));
        let mut guest = Imap::login(&server, bob);
        assert_eq!(guest.ok(&get), said(&shared, "\"both\"", "NIL"));
    }
}

#[test]
fn what_happens_at_others_is_told() {
    let (mut server, [ann, far, near, _]) = server(&[]);
    for bob in [&far, &near] {
        let mut owner = Imap::login(&server, &ann);
        let mut guest = Imap::login(&server, bob);
        let name = format!("told-{bob}");
        let shared = shared(&mut owner, &ann, &name);
        let grant = |rights: &str| format!("SETACL {name} {bob}@bench.test {rights}");
        owner.ok(&grant("lrik"));
        // The name in another case, as clients may write it.
        let asked = shared.replace("bench.test", "BENCH.test");
        let status = guest.ok(&format!(
            "NOTIFY SET STATUS (mailboxes {asked} (MessageNew MessageExpunge FlagChange \
             MailboxName MailboxMetadataChange)) (personal (MailboxName))"
        ));
        let state = |messages: u32| format!("* STATUS {shared} (MESSAGES {messages} UIDNEXT ");
        assert!(status[0].starts_with(&state(0)), "{status:?}");
        owner.append(&name, "", &["Subject: one\r\n\r\nfirst\r\n"]);
        let line = guest.0.line();
        assert!(line.starts_with(&state(1)), "{line}");
        // What it may not see says nothing, and what comes then is told.
        owner.ok(&format!("SETMETADATA {name} (/private/x \"1\")"));
        owner.ok(&format!("CREATE hidden-{bob}"));
        owner.ok(&format!("SETMETADATA {name} (/shared/x \"1\")"));
        assert_eq!(guest.0.line(), format!("* METADATA {shared} /shared/x"));
        owner.ok(&format!("SELECT {name}"));
        owner.ok("STORE 1 +FLAGS (\\Seen)");
        let line = guest.0.line();
        assert!(
            line.starts_with(&format!("* STATUS {shared} (")) && line.contains("UNSEEN 0"),
            "{line}"
        );
        // What it does itself is not told, here or there.
        guest.append(&shared, "", &["Subject: no\r\n\r\nno\r\n"]);
    }
    server.stop();
}

#[test]
fn sight_comes_and_goes() {
    let (mut server, [ann, far, near, _]) = server(&[]);
    for bob in [&far, &near] {
        let mut owner = Imap::login(&server, &ann);
        let mut guest = Imap::login(&server, bob);
        let name = format!("seen-{bob}");
        let shared = shared(&mut owner, &ann, &name);
        let grant = |rights: &str| format!("SETACL {name} {bob}@bench.test {rights}");
        owner.ok(&grant("lrk"));
        let events = "(MessageNew MessageExpunge MailboxName)";
        guest.ok(&format!("NOTIFY SET (subtree \"Other Users\" {events})"));
        let listed = |attributes: &str, name: &str| format!("* LIST ({attributes}) \"/\" {name}");
        owner.ok(&format!("DELETEACL {name} {bob}@bench.test"));
        assert_eq!(
            guest.0.line(),
            listed("\\NoAccess \\HasNoChildren", &shared)
        );
        owner.append(&name, "", &["Subject: one\r\n\r\nfirst\r\n"]);
        owner.ok(&grant("lrk"));
        assert_eq!(guest.0.line(), listed("\\HasNoChildren", &shared));
        owner.append(&name, "", &["Subject: two\r\n\r\nsecond\r\n"]);
        let line = guest.0.line();
        assert!(
            line.starts_with(&format!("* STATUS {shared} (MESSAGES 2 ")),
            "{line}"
        );
        // A new one below, with the rights of the one above; names that change; one that goes.
        let below = others(&ann, &format!("{name}/sub"));
        owner.ok(&format!("CREATE {name}/sub"));
        assert_eq!(guest.0.line(), listed("\\HasNoChildren", &below));
        assert_eq!(guest.0.line(), listed("\\HasChildren", &shared));
        let moved = others(&ann, &format!("{name}/moved"));
        owner.ok(&format!("RENAME {name}/sub {name}/moved"));
        assert_eq!(
            guest.0.line(),
            listed(
                "\\HasNoChildren",
                &format!("{moved} (\"OLDNAME\" ({below}))")
            )
        );
        // One that is open stays watched when another one is opened.
        guest.ok(&format!("EXAMINE {moved}"));
        guest.ok("EXAMINE INBOX");
        owner.ok(&format!("DELETE {name}/moved"));
        assert_eq!(
            guest.0.line(),
            listed("\\NonExistent \\HasNoChildren", &moved)
        );
        assert_eq!(guest.0.line(), listed("\\HasNoChildren", &shared));
        // Nothing more of others: what comes first then is one's own.
        guest.ok("NOTIFY SET (personal (MailboxName))");
        owner.append(&name, "", &["Subject: three\r\n\r\nthird\r\n"]);
        let mut second = Imap::login(&server, bob);
        second.ok("CREATE mine");
        assert_eq!(guest.0.line(), listed("\\HasNoChildren", "\"mine\""));
        // What is subscribed to, from the moment on at which it is.
        guest.ok("NOTIFY SET (subscribed (MessageNew MessageExpunge))");
        guest.ok(&format!("SUBSCRIBE {shared}"));
        owner.append(&name, "", &["Subject: four\r\n\r\nfourth\r\n"]);
        let line = guest.0.line();
        assert!(
            line.starts_with(&format!("* STATUS {shared} (MESSAGES 4 ")),
            "{line}"
        );
        guest.ok("NOTIFY NONE");
        owner.append(&name, "", &["Subject: five\r\n\r\nfifth\r\n"]);
        assert!(guest.ok("NOOP").is_empty());
    }
    server.stop();
}

#[test]
fn messages_are_made_of_parts_of_others() {
    let (mut server, [ann, far, near, _]) = server(&[]);
    for bob in [&far, &near] {
        let mut owner = Imap::login(&server, &ann);
        let mut guest = Imap::login(&server, bob);
        let name = format!("parts-{bob}");
        let shared = shared(&mut owner, &ann, &name);
        owner.append(&name, "", &["Subject: one\r\n\r\nfirst\r\n"]);
        let url = format!("/Other%20Users/{ann}@bench.test/{name}/;UID=1/;SECTION=TEXT");
        let make = format!("APPEND INBOX CATENATE (TEXT {{6+}}\r\nA: b\r\n URL \"{url}\")");
        let grant = |rights: &str| format!("SETACL {name} {bob}@bench.test {rights}");
        let refused = guest.say(&make);
        let bad = "t NO [BADURL /Other%20Users/";
        assert!(refused[0].starts_with(bad), "{refused:?}");
        owner.ok(&grant("l"));
        guest.no(&make, "NOPERM");
        owner.ok(&grant("lri"));
        guest.ok(&make);
        guest.ok("SELECT INBOX");
        let said = guest.ok("FETCH 1 BODY[]");
        assert_eq!(said[1..3], ["A: b", "first"], "{said:?}");
        // The other way round; and one that is open there.
        guest.ok(&format!("APPEND {shared} CATENATE (URL /INBOX/;UID=1)"));
        guest.ok(&format!("SELECT {shared}"));
        guest.ok(&format!("APPEND {shared} CATENATE (URL ;UID=2)"));
        let said = guest.ok("FETCH 3 BODY.PEEK[]");
        assert_eq!(said[1..3], ["A: b", "first"], "{said:?}");
    }
    server.stop();
}

#[test]
fn a_message_is_replaced_by_one_of_another_account() {
    let (mut server, [ann, far, near, _]) = server(&[]);
    for bob in [&far, &near] {
        let mut owner = Imap::login(&server, &ann);
        let mut guest = Imap::login(&server, bob);
        let name = format!("drafts-{bob}");
        let shared = shared(&mut owner, &ann, &name);
        let grant = |rights: &str| format!("SETACL {name} {bob}@bench.test {rights}");
        let replace = |mailbox: &str, body: &str| {
            format!("REPLACE 1 {mailbox} {{{}+}}\r\n{body}", body.len())
        };
        let count = |imap: &mut Imap, mailbox: &str| {
            let said = imap.ok(&format!("STATUS {mailbox} (MESSAGES)"));
            let count = said[0].split("MESSAGES ").nth(1).expect("a count");
            count.trim_end_matches(')').to_owned()
        };
        guest.append("INBOX", "", &["Subject: one\r\n\r\nfirst\r\n"]);
        guest.ok("SELECT INBOX");
        owner.ok(&grant("lr"));
        guest.no(&replace(&shared, "A: b\r\n\r\nx\r\n"), "NOPERM");
        owner.ok(&grant("lriw"));
        // Large enough to come in pieces.
        let large = format!("A: b\r\n\r\n{}\r\n", "x".repeat(600_000));
        let said = guest.ok(&replace(&shared, &large));
        assert!(said[0].starts_with("* OK [APPENDUID "), "{said:?}");
        assert_eq!(said[1], "* 1 EXPUNGE");
        assert_eq!(count(&mut owner, &name), "1");
        // Back: what may not go there stays, and nothing comes here.
        guest.ok(&format!("SELECT {shared}"));
        let back = replace("INBOX", "A: c\r\n\r\ny\r\n");
        guest.no(&back, "NOPERM");
        guest.no(&replace("INBOX", &large), "NOPERM");
        assert_eq!(count(&mut guest, "INBOX"), "0");
        owner.ok(&grant("lriwte"));
        guest.ok(&format!("SELECT {shared}"));
        let said = guest.ok(&back);
        assert_eq!(said[1], "* 1 EXPUNGE");
        assert_eq!(count(&mut owner, &name), "0");
        assert_eq!(count(&mut guest, "INBOX"), "1");
        // One that somebody else has removed meanwhile.
        owner.append(&name, "\\Deleted", &["Subject: two\r\n\r\nsecond\r\n"]);
        guest.ok("NOOP");
        owner.ok(&format!("SELECT {name}"));
        owner.ok("EXPUNGE");
        let said = guest.say(&back);
        let gone = "t NO [EXPUNGEISSUED] ";
        assert!(
            said[0] == "* 1 EXPUNGE" && said[1].starts_with(gone),
            "{said:?}"
        );
        assert_eq!(count(&mut guest, "INBOX"), "1");
        guest.no(&format!("RENAME {shared} mine"), "CANNOT");
        guest.ok("UNSELECT");
        guest.ok("SELECT INBOX");
        guest.ok("STORE 1 +FLAGS (\\Deleted)");
        guest.ok("EXPUNGE");
    }
    server.stop();
}
