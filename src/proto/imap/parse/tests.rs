//! What the grammar takes, and what it refuses.

use proptest::prelude::*;

use super::super::command::*;
use super::super::sets::Set;
use super::*;
use crate::limits::SEARCH_STRING_BYTES_MAX;

fn parse(text: &str) -> Command {
    match parse_command(format!("a1 {text}").as_bytes()) {
        Ok(tagged) => {
            assert_eq!(&*tagged.tag, b"a1");
            tagged.command
        }
        Err(bad) => panic!("{text}: refused, {}", bad.error.0),
    }
}

fn refuse(text: &str) -> String {
    match parse_command(format!("a1 {text}").as_bytes()) {
        Ok(tagged) => panic!("{text}: taken as {:?}", tagged.command),
        Err(bad) => {
            assert_eq!(&*bad.tag, b"a1");
            bad.error.0.into_owned()
        }
    }
}

fn fetch(text: &str) -> Fetch {
    match parse(text) {
        Command::Fetch(fetch) => fetch,
        other => panic!("{text}: not a FETCH but {other:?}"),
    }
}

fn search(text: &str) -> Vec<Key> {
    match parse(&format!("SEARCH {text}")) {
        Command::Search(search) => search.keys,
        other => panic!("{text}: not a SEARCH but {other:?}"),
    }
}

fn set(text: &str) -> Set {
    Set::parse(text.as_bytes()).expect("a set")
}

#[test]
fn commands_in_any_case() {
    for (text, name) in [
        ("noop", "NOOP"),
        ("Capability ", "CAPABILITY"),
        ("LOGIN a b", "LOGIN"),
        ("authenticate plain =", "AUTHENTICATE"),
        ("ID NIL", "ID"),
        ("ID ()", "ID"),
        ("id (\"name\" \"x\" \"version\" NIL)", "ID"),
        ("ENABLE CONDSTORE UTF8=ACCEPT", "ENABLE"),
        ("SELECT inbox (CONDSTORE)", "SELECT"),
        ("EXAMINE \"a b\"", "EXAMINE"),
        ("CREATE x (USE (\\Sent \\Junk))", "CREATE"),
        ("RENAME a {3}\r\nb c", "RENAME"),
        ("LSUB \"\" *", "LSUB"),
        ("STATUS x (MESSAGES UIDNEXT size)", "STATUS"),
        ("UID EXPUNGE 1:*", "EXPUNGE"),
        ("UID MOVE 1,2 Trash", "MOVE"),
        ("COPY $ Trash", "COPY"),
        ("STORE 1 FLAGS ()", "STORE"),
        ("UID SEARCH ALL", "SEARCH"),
    ] {
        assert_eq!(parse(text).name(), name, "{text}");
    }
}

#[test]
fn nothing_follows_and_nothing_is_missing() {
    for text in [
        "",
        "FOO",
        "NOOP x",
        "LOGIN a",
        "LOGIN a b c",
        "LOGIN (a) b",
        "UID NOOP",
        "UID EXPUNGE",
        "EXPUNGE 1",
        "SELECT",
        "SELECT a (FOO)",
        "SELECT a (QRESYNC (0 1))",
        "CREATE a (USE (Sent))",
        "RENAME a",
        "LIST a",
        "LIST (FOO) \"\" *",
        "LIST (RECURSIVEMATCH) \"\" *",
        "LIST \"\" * RETURN (FOO)",
        "STATUS x ()",
        "STATUS x (FOO)",
        "STORE 1 FLAGS",
        "STORE 1 FLAGS (\\Foo)",
        "STORE 1 FLAGS (\\Seen",
        "STORE 1 (FOO 1) FLAGS ()",
        "STORE 0 FLAGS ()",
        "FETCH 1",
        "FETCH 1 ()",
        "FETCH 1 FOO",
        "FETCH 1 BODY[",
        "FETCH 1 BODY[FOO]",
        "FETCH 1 BODY[MIME]",
        "FETCH 1 BODY[0]",
        "FETCH 1 BODY[1.]",
        "FETCH 1 BODY[HEADER.FIELDS ()]",
        "FETCH 1 BODY[HEADER.FIELDS (a:b)]",
        "FETCH 1 BODY[]<0>",
        "FETCH 1 BODY[]<0.0>",
        "FETCH 1 BINARY[HEADER]",
        "FETCH 1 (FLAGS) (VANISHED)",
        "FETCH 1 (FLAGS) (CHANGEDSINCE 1 VANISHED)",
        "FETCH 1 (ALL)",
        "SEARCH",
        "SEARCH (",
        "SEARCH ()",
        "SEARCH NOT",
        "SEARCH OR ALL",
        "SEARCH ALL)",
        "SEARCH (ALL",
        "SEARCH FOO",
        "SEARCH BEFORE 31-Feb-2020",
        "SEARCH YOUNGER 0",
        "SEARCH RETURN (FOO) ALL",
        "SEARCH RETURN (ALL PARTIAL 1:2) ALL",
        "ENABLE",
        "COPY 1",
        "LOGIN \"a\\b\" c",
        "LOGIN \"a\" {9}\r\nc",
    ] {
        let said = refuse(text);
        assert!(said.len() > 8, "{text}: {said}");
    }
    for text in ["", " NOOP", "+ NOOP", "(x) NOOP", "a\rb NOOP"] {
        let bad = parse_command(text.as_bytes()).expect_err(text);
        assert!(bad.tag.is_empty(), "{text}");
    }
}

#[test]
fn strings_in_every_form() {
    for text in [
        "LOGIN al\"ice",
        "LOGIN \"al\\\"ice\" \"p\\\\w\"",
        "LOGIN {6}\r\nal\"ice {3+}\r\np\\w",
        "LOGIN {6}\nal\"ice \"p\\\\w\"",
    ] {
        match parse_command(format!("x {text}").as_bytes()) {
            Ok(tagged) => match tagged.command {
                Command::Login { user, password } => {
                    assert_eq!((&user[..], &password[..]), (&b"al\"ice"[..], &b"p\\w"[..]));
                }
                other => panic!("not a LOGIN but {other:?}"),
            },
            Err(_) => assert_eq!(text, "LOGIN al\"ice"),
        }
    }
}

#[test]
fn fetch_items() {
    let body = |peek, part: &[u32], text, partial| Item::Body {
        peek,
        section: Section {
            part: part.to_vec(),
            text,
        },
        partial,
        shape: Shape::Body,
    };
    let fields = |names: &[&str], not| SectionText::Fields {
        names: names.iter().map(|name| name.as_bytes().to_vec()).collect(),
        not,
    };
    for (text, items) in [
        ("FETCH 1 FLAGS", vec![Item::Flags]),
        ("FETCH 1 (FLAGS flags UID)", vec![Item::Flags, Item::Uid]),
        ("UID FETCH 1 FLAGS", vec![Item::Flags]),
        ("FETCH 1 BODY", vec![Item::Structure { extended: false }]),
        (
            "FETCH 1 BODY[]",
            vec![body(false, &[], SectionText::All, None)],
        ),
        (
            "FETCH 1 body.peek[1.2.MIME]<5.10>",
            vec![body(true, &[1, 2], SectionText::Mime, Some((5, 10)))],
        ),
        (
            "FETCH 1 (BODY[HEADER.FIELDS (To \"Cc\")] BODY[3.HEADER.FIELDS.NOT (x)])",
            vec![
                body(false, &[], fields(&["To", "Cc"], false), None),
                body(false, &[3], fields(&["x"], true), None),
            ],
        ),
        (
            "FETCH 1 (BINARY.PEEK[1]<0.9> BINARY.SIZE[1.2] PREVIEW (LAZY) PREVIEW)",
            vec![
                Item::Binary {
                    peek: true,
                    part: vec![1],
                    partial: Some((0, 9)),
                },
                Item::BinarySize(vec![1, 2]),
                Item::Preview(true),
                Item::Preview(false),
            ],
        ),
        (
            "FETCH 1 FAST",
            vec![Item::Flags, Item::InternalDate, Item::Size],
        ),
    ] {
        assert_eq!(fetch(text).items, items, "{text}");
    }
    let since = fetch("UID FETCH 1:* (FLAGS) (CHANGEDSINCE 12345 VANISHED)");
    assert_eq!((since.changed_since, since.vanished), (Some(12345), true));
    assert_eq!(since.set, set("1:*"));
}

#[test]
fn search_keys() {
    let not = |key| Key::Not(Box::new(key));
    let deleted = || Key::Flag(Flags::DELETED);
    let feb = 8797;
    for (text, keys) in [
        ("ALL", vec![Key::All]),
        (
            "1,3:5 UID *",
            vec![Key::Numbers(set("1,3:5")), Key::Uids(set("*"))],
        ),
        ("UNSEEN", vec![not(Key::Flag(Flags::SEEN))]),
        (
            "OR NOT DELETED (DELETED ALL) NEW",
            vec![
                Key::Or(Box::new((
                    not(deleted()),
                    Key::And(vec![deleted(), Key::All]),
                ))),
                not(Key::All),
            ],
        ),
        (
            "OR OR ALL ALL ALL",
            vec![Key::Or(Box::new((
                Key::Or(Box::new((Key::All, Key::All))),
                Key::All,
            )))],
        ),
        (
            "CHARSET utf-8 SINCE \"1-Feb-1994\" FROM \"Smith\" HEADER X-Y {2}\r\nab",
            vec![
                Key::Date(DateOf::Internal, Comparison::Since, feb),
                Key::Header("FROM".to_owned(), "Smith".to_owned()),
                Key::Header("X-Y".to_owned(), "ab".to_owned()),
            ],
        ),
        (
            "MODSEQ \"/flags/\\\\draft\" all 620162338 MODSEQ 1",
            vec![Key::ModSeq(620_162_338), Key::ModSeq(1)],
        ),
    ] {
        assert_eq!(search(text), keys, "{text}");
    }
    assert_eq!(
        crate::proto::imap::parse::tests::search("SENTON 1-Jan-1970"),
        [Key::Date(DateOf::Sent, Comparison::On, 0)]
    );
    match parse("UID SEARCH RETURN () CHARSET KOI8-R TEXT \"\u{fffd}\"") {
        Command::Search(search) => {
            assert!(search.charset == Charset::Unknown && search.extended && search.results.all);
        }
        other => panic!("not a SEARCH but {other:?}"),
    }
}

#[test]
fn what_could_grow_without_bound_does_not() {
    let deep = |levels| format!("SEARCH {}ALL{}", "(".repeat(levels), ")".repeat(levels));
    assert_eq!(search(&deep(40)["SEARCH ".len()..]).len(), 1);
    assert_eq!(refuse(&deep(5000)), "search keys nest too deeply");
    assert_eq!(
        refuse(&format!("SEARCH {}ALL", "NOT ".repeat(10_000))),
        "search keys nest too deeply"
    );
    assert_eq!(
        refuse(&format!("SEARCH {}ALL", "ALL ".repeat(5000))),
        "too many search keys"
    );
    let long = |bytes: usize| format!("BODY \"{}\"", "x".repeat(bytes));
    let text = "what is searched for has at most 4096 octets";
    assert_eq!(
        refuse(&format!("SEARCH {}", long(SEARCH_STRING_BYTES_MAX + 1))),
        text
    );
    assert_eq!(search(&long(SEARCH_STRING_BYTES_MAX)).len(), 1);
    assert_eq!(
        refuse(&format!("FETCH 1 ({}FLAGS)", "FLAGS ".repeat(5000))),
        "too many items in FETCH"
    );
    assert_eq!(
        refuse(&format!("FETCH 1 BODY[{}1]", "1.".repeat(5000))),
        "part number has too many levels"
    );
    let keywords: Vec<String> = (0..1000).map(|number| format!("k{number}")).collect();
    let said = refuse(&format!("STORE 1 FLAGS ({})", keywords.join(" ")));
    assert!(said.contains("keywords"), "{said}");
}

#[test]
fn append_up_to_its_literal() {
    let message = |text: &str| match parse_append_prefix(text.as_bytes()) {
        AppendPrefix::Message {
            tag,
            name,
            mut segment,
            replaces,
        } => {
            assert_eq!(&*tag, b"a");
            assert_eq!(replaces.is_some(), text.contains("REPLACE"));
            assert_eq!(segment.end, SegmentEnd::Message);
            let Some(Piece::Message(append)) = segment.pieces.pop() else {
                panic!("{segment:?}");
            };
            (String::from_utf8(name).expect("ASCII"), append)
        }
        other => panic!("{text}: {other:?}"),
    };
    let (name, append) = message("a APPEND INBOX {10}\r\n");
    assert_eq!((name.as_str(), append), ("INBOX", Append::default()));
    let (name, append) = message(
        "a append {2}\r\nxy (\\Seen $Forwarded) \" 7-Feb-1994 21:52:25 -0800\" UTF8 (~{9+}\r\n",
    );
    assert_eq!(name, "xy");
    assert_eq!(append.flags.system, Flags::SEEN);
    assert_eq!(append.flags.keywords, ["$Forwarded"]);
    assert_eq!(append.date_ms, Some(760_686_745_000));
    assert!(append.utf8);
    assert_eq!(message("a REPLACE 4 Drafts (\\Draft) {1}\r\n").0, "Drafts");
    assert_eq!(
        message(
            "a uid REPLACE * Drafts {1}\r\n"
                .replace("uid", "UID")
                .as_str()
        )
        .0,
        "Drafts"
    );
    for text in [
        "a APPEND {5}\r\n",
        "a LOGIN {5}\r\n",
        "{5}\r\n",
        "a APPENDIX x {5}\r\n",
    ] {
        assert_eq!(
            parse_append_prefix(text.as_bytes()),
            AppendPrefix::Other,
            "{text}"
        );
    }
    for text in [
        "a APPEND x y {5}\r\n",
        "a APPEND x (\\Foo) {5}\r\n",
        "a APPEND x \"yesterday\" {5}\r\n",
    ] {
        assert!(
            matches!(
                parse_append_prefix(text.as_bytes()),
                AppendPrefix::Bad { .. }
            ),
            "{text}"
        );
    }
    assert!(parse_segment(b" (\\Draft) {1}\r\n", false, true).is_ok());
    assert!(parse_segment(b"{1}\r\n", false, true).is_err());
}

#[test]
fn catenate_between_its_literals() {
    let segment = |text: &str, in_catenate, announces| {
        let parsed = parse_segment(text.as_bytes(), in_catenate, announces);
        parsed.map(|segment| {
            let pieces = segment.pieces.into_iter().map(|piece| match piece {
                Piece::Message(append) => format!("message {}", append.catenate),
                Piece::Url(url) => String::from_utf8_lossy(&url).into_owned(),
                Piece::Close => ")".to_owned(),
            });
            (pieces.collect::<Vec<_>>().join(" "), segment.end)
        })
    };
    let ok = |pieces: &str, end| Ok((pieces.to_owned(), end));
    for (text, in_catenate, announces, expected) in [
        ("", false, false, ok("", SegmentEnd::Command)),
        (")", true, false, ok(")", SegmentEnd::Command)),
        (
            " CATENATE (URL /a TEXT {3}\r\n",
            false,
            true,
            ok("message true /a", SegmentEnd::Text),
        ),
        (
            " URL \"/a b\" URL {2}\r\n/c) (k) catenate (url {2+}\r\n/d)",
            true,
            false,
            ok("/a b /c ) message true /d )", SegmentEnd::Command),
        ),
        (" URL {4}\r\n", true, true, ok("", SegmentEnd::Url)),
        (
            " URL /a UTF8 (~{4}\r\n",
            true,
            true,
            ok("/a", SegmentEnd::Utf8Text),
        ),
        (
            ") (\\Seen) {5}\r\n",
            true,
            true,
            ok(") message false", SegmentEnd::Message),
        ),
    ] {
        assert_eq!(segment(text, in_catenate, announces), expected, "{text}");
    }
    for (text, in_catenate, announces) in [
        ("", true, false),
        (" CATENATE ()", false, false),
        (" CATENATE (TEXT x)", false, false),
        (" CATENATE (URL)", false, false),
        (" CATENATE (URL /a", false, false),
        (" CATENATE (URL /a) x", false, false),
        (" {3}", true, true),
        (")TEXT {3}\r\n", true, true),
    ] {
        assert!(segment(text, in_catenate, announces).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn any_bytes(bytes: Vec<u8>) {
        let _ = parse_command(&bytes);
        let _ = parse_append_prefix(&bytes);
        let _ = parse_append_whole(&bytes);
        let _ = parse_segment(&bytes, true, true);
        let _ = parse_segment(&bytes, false, false);
    }

    #[test]
    fn any_words(words in prop::collection::vec(prop::sample::select(vec![
        "a ", "UID ", "FETCH ", "SEARCH ", "STORE ", "1:*", " ", "(", ")", "BODY[", "]", "1", ".",
        "HEADER.FIELDS", "NOT ", "OR ", "ALL", "{1}\r\n", "\"", "\\", "RETURN", "<0.1>", "FLAGS",
        "LIST ", "STATUS", "APPEND ", "CATENATE (", "URL ", "TEXT ", "x", "~", "{5+}\r\n", "$", "é",
    ]), 0..25)) {
        let text = words.concat();
        let _ = parse_command(text.as_bytes());
        let _ = parse_append_prefix(text.as_bytes());
        let _ = parse_append_whole(text.as_bytes());
    }
}
