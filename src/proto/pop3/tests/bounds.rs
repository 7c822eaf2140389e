//! Bounds on memory and output, and properties over any input.

use super::*;

#[test]
fn large_messages_and_lists_pass_in_bounded_pieces() {
    let line = b".0123456789 a line that is long enough to make some bytes\r\n";
    let large = line.repeat(20_000);
    let many: Vec<&[u8]> = vec![b"x\r\n"; 20_000];
    let world = world(&[&[&large[..]], &many[..]].concat());
    let mut driver = logged_in(&world);
    driver.receive(b"RETR 1\r\n", usize::MAX);
    let mut expected = format!("+OK {} octets\r\n", large.len()).into_bytes();
    expected.extend(
        b".".iter()
            .chain(line)
            .copied()
            .collect::<Vec<u8>>()
            .repeat(20_000),
    );
    expected.extend_from_slice(b".\r\n");
    assert!(driver.take_output() == expected);
    assert!(driver.drains > large.len() / OUTPUT_BYTES_MAX / 2);
    driver.drains = 0;
    driver.receive(b"UIDL\r\nLIST\r\nNOOP\r\n", 3);
    let output = driver.take_output();
    assert!(driver.drains > output.len() / OUTPUT_BYTES_MAX / 2);
    let lines = output.split_inclusive(|&byte| byte == b'\n').count();
    assert_eq!(lines, 2 * (20_001 + 2) + 1);
    assert!(output.ends_with(b"20001 3\r\n.\r\n+OK\r\n"));
}

#[test]
fn many_small_commands_do_not_fill_memory() {
    let mut driver = driver(&world(&[]));
    driver.receive(&b"CAPA\r\n".repeat(5_000), usize::MAX);
    assert!(driver.drains > 1);
    assert!(!driver.closed);
}

#[test]
fn top_reads_no_more_than_it_needs() {
    let mut message = b"Subject: x\r\n\r\n".to_vec();
    message.extend(b"line\r\n".repeat(100_000));
    let world = world(&[&message]);
    let mut driver = logged_in(&world);
    driver.receive(b"TOP 1 5\r\n", usize::MAX);
    assert_eq!(world.borrow().reads.len(), 1);
    world.borrow_mut().reads.clear();
    driver.receive(b"TOP 1 5000\r\n", usize::MAX);
    assert_eq!(world.borrow().reads.len(), 2);
}

#[test]
fn a_session_is_small_and_can_move() {
    fn assert_send<T: Send + 'static>() {}
    assert_send::<Session>();
    let bytes = size_of::<Session>();
    assert!(bytes <= 256, "{bytes} bytes");
}

#[test]
fn an_answer_that_was_not_asked_for_ends_the_session() {
    let mut session = session();
    let now = Instant::now();
    let mut out = Vec::new();
    session.greet(now, &mut out);
    let answer = Answer::Expunged(Ok(()));
    assert!(matches!(session.answer(answer, now, &mut out), Step::Close));
}

/// Pieces of conversations, so that noise gets somewhere.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let words: &[&[u8]] = &[
        b"USER alice\r\n",
        b"PASS se cret\r\n",
        b"AUTH PLAIN\r\n",
        b"*\r\n",
        b"RETR 1\r\n",
        b"RETR 2\r\n",
        b"TOP 1 1\r\n",
        b"DELE 1\r\n",
        b"LIST\r\n",
        b"UIDL 2\r\n",
        b"QUIT\r\n",
        b"RSET\r\n",
        b"CAPA\r\n",
        b"\n",
        b"\r",
        b" ",
        b"USER",
        b"\0",
        b"\xff",
        b"STAT\n",
        b"AUTH PLAIN AGFsaWNlAHNlIGNyZXQ=\r\n",
    ];
    let word = prop_oneof![
        8 => prop::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..20),
        1 => Just(vec![b'x'; POP3_LINE_BYTES_MAX]),
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

/// Everything that can be seen of a conversation.
fn outcome(input: &[u8], piece_bytes: usize) -> (Vec<u8>, bool, Option<Vec<u32>>) {
    let world = world(&[TWO_LINES, SHORT]);
    let mut driver = driver(&world);
    driver.receive(input, piece_bytes);
    let expunged = world.borrow().expunged.clone();
    (driver.output, driver.closed, expunged)
}

proptest! {
    #[test]
    fn pieces_of_input_do_not_matter(input in noise(), piece_bytes in 1usize..50) {
        prop_assert_eq!(outcome(&input, usize::MAX), outcome(&input, piece_bytes));
    }

    #[test]
    fn noise_never_panics(input: Vec<u8>, piece_bytes in 1usize..9) {
        outcome(&input, piece_bytes);
    }

    #[test]
    fn nothing_is_expunged_without_quit(input in noise()) {
        let (_, _, expunged) = outcome(&input, usize::MAX);
        let quits = input.to_ascii_uppercase().windows(4).any(|window| window == b"QUIT");
        prop_assert!(quits || expunged.is_none());
    }
}
