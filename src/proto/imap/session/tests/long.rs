//! What takes long, or comes too often: bounds, turns, and what is said meanwhile.

use super::*;

#[test]
fn a_login_must_come_soon() {
    let world = world();
    let mut one = Client(Driver::new(session(), answers(&world)));
    one.0.pass(Duration::from_secs(100));
    one.say("a NOOP");
    one.0.pass(Duration::from_secs(100));
    assert_eq!(one.heard(), "* BYE No login for too long\n");
    assert!(one.0.closed);
    // Who has logged in has half an hour, and no more when it has gone back.
    let mut one = client(&world);
    one.0.pass(Duration::from_secs(1000));
    one.say("b UNAUTHENTICATE");
    one.0.pass(Duration::from_secs(170));
    one.say("c NOOP");
    assert!(!one.0.closed);
    one.0.pass(Duration::from_secs(20));
    assert_eq!(one.heard(), "* BYE No login for too long\n");
}

#[test]
fn wrong_passwords_are_not_forgotten() {
    let mut one = client(&world());
    one.say("b UNAUTHENTICATE\r\nc LOGIN alice x\r\nd LOGIN alice x\r\ne LOGIN alice secret");
    let said = one.say("f UNAUTHENTICATE\r\ng LOGIN alice x");
    assert!(said.ends_with("* BYE Too many failed logins\n"), "{said}");
    assert!(one.0.closed);
}

#[test]
fn long_lists_give_others_their_turn() {
    let world = world();
    let mut inner = answers(&world);
    let breaths = Rc::new(RefCell::new(0));
    let count = Rc::clone(&breaths);
    let mut one = Client::tampered(move |ask| {
        if matches!(ask, Ask::Pause) {
            *count.borrow_mut() += 1;
        }
        inner(ask)
    });
    let name = "a".repeat(400);
    for number in 0..20 {
        one.say(&format!("c CREATE {number}{name}"));
    }
    let said = one.say(&format!("d LIST \"\" {}b", "*a".repeat(900)));
    assert_eq!(said, "d OK LIST completed\n");
    assert!(*breaths.borrow() > 5, "{} breaths", breaths.borrow());
    let said = one.say("e LIST \"\" *a%*%a");
    assert_eq!(said.lines().count(), 21);
    let patterns = vec![format!("%{}", "b".repeat(100)); 30].join(" ");
    let said = one.say(&format!("f LIST \"\" ({patterns})"));
    assert_eq!(
        said,
        "f NO [LIMIT] at most 2048 bytes in all patterns, each with its reference\n"
    );
}

#[test]
fn as_many_messages_at_once_as_there_may_be() {
    let world = world();
    let mut one = client(&world);
    one.heard();
    let mut append = |count: usize, flags: &str| {
        one.0.receive(b"b APPEND INBOX", usize::MAX);
        for _ in 0..count {
            one.0
                .receive(format!("{flags} {{1+}}\r\nx").as_bytes(), usize::MAX);
        }
        one.0.receive(b"\r\n", usize::MAX);
        one.heard()
    };
    assert_eq!(
        append(10_000, ""),
        "b OK [APPENDUID 101 4:10003] APPEND completed\n"
    );
    assert_eq!(
        append(10_001, ""),
        "b NO [LIMIT] at most 10000 messages at once\n"
    );
    let words: Vec<String> = (0..64).map(|number| format!("{number:060}")).collect();
    assert_eq!(
        append(1000, &format!(" ({})", words.join(" "))),
        "b NO [LIMIT] too many keywords of too many messages at once: append fewer\n"
    );
}

#[test]
fn long_commands_say_how_far_they_are() {
    let world = world();
    let mut one = client(&world);
    one.say("b SELECT INBOX");
    // The first time that a command is seen at work does not count.
    one.0.answers_take = Duration::from_secs(9);
    assert_eq!(
        one.say("c SEARCH BODY 2"),
        "* SEARCH 2\nc OK SEARCH completed\n"
    );
    one.0.answers_take = Duration::from_secs(11);
    assert_eq!(
        one.say("d SEARCH BODY 2"),
        "* OK [INPROGRESS (\"d\" 0 3)] SEARCH goes on\n* SEARCH 2\nd OK SEARCH completed\n"
    );
    // All but the last step of it: a goal is never reached before the end.
    assert_eq!(
        one.say("e] SORT (SUBJECT) UTF-8 ALL"),
        "* OK [INPROGRESS (NIL 2 3)] SORT goes on\n\
         * SORT 1 2 3\ne] OK SORT completed\n"
    );
    one.0.answers_take = Duration::from_secs(6);
    assert_eq!(
        one.say("f THREAD REFERENCES UTF-8 ALL"),
        "* OK [INPROGRESS (\"f\" 2 3)] THREAD goes on\n\
         * THREAD (1)(2)(3)\nf OK THREAD completed\n"
    );
    // Between two messages, not within one.
    one.0.answers_take = Duration::from_secs(11);
    assert_eq!(
        one.say("g FETCH 1:2 (UID BODY.PEEK[TEXT])"),
        "* OK [INPROGRESS (\"g\" 0 2)] FETCH goes on\n\
         * 1 FETCH (UID 1 BODY[TEXT] {8}\nbody 1\n)\n\
         * OK [INPROGRESS (\"g\" 1 2)] FETCH goes on\n\
         * 2 FETCH (UID 2 BODY[TEXT] {8}\nbody 2\n)\n\
         * OK [INPROGRESS (\"g\" 1 2)] FETCH goes on\n\
         g OK FETCH completed\n"
    );
    // How many have changed nobody knows before the end.
    assert_eq!(
        one.say("h FETCH 1 (UID RFC822.SIZE ENVELOPE) (CHANGEDSINCE 1)")
            .lines()
            .filter(|line| line.contains("INPROGRESS"))
            .collect::<Vec<_>>(),
        ["* OK [INPROGRESS (\"h\" NIL NIL)] FETCH goes on"]
    );
}

#[test]
fn keywords_that_others_make_are_known() {
    let world = world();
    let asked = Rc::new(RefCell::new(0));
    let mut one = client(&world);
    one.say("b SELECT INBOX");
    let (count, mut answer) = (Rc::clone(&asked), answers(&world));
    let mut two = Client::tampered(move |ask| {
        *count.borrow_mut() += i32::from(matches!(ask, Ask::Keywords { .. }));
        answer(ask)
    });
    one.say("c STORE 2 +FLAGS ($New)");
    two.0.notify(Event::Changed);
    // Not where nobody is interested.
    two.say("c FETCH 1 (UID BODY.PEEK[])\r\nd SEARCH BODY x");
    assert_eq!(*asked.borrow(), 0);
    one.say("d STORE 3 +FLAGS ($Newer)");
    two.0.notify(Event::Changed);
    let said = two.say("e SEARCH OR SEEN KEYWORD $newer");
    assert!(
        said.contains("$New $Newer \\*)] Flags that stay\n* SEARCH 3\n"),
        "{said}"
    );
    assert_eq!(*asked.borrow(), 1);
    // And not again before something happens.
    two.say("f FETCH 1:3 FLAGS");
    assert_eq!(*asked.borrow(), 1);
}
