use proptest::prelude::*;

use super::*;

/// Body, bytes used, end seen, bare seen; the same in pieces of every small size.
fn unstuff(input: &[u8]) -> (Vec<u8>, usize, bool, bool) {
    let in_pieces = |piece_bytes: usize| {
        let mut unstuffer = DotUnstuffer::default();
        let mut body = Vec::new();
        let mut used = 0;
        for piece in input.chunks(piece_bytes) {
            let (n, ended) = unstuffer.feed(piece, Some(&mut body));
            used += n;
            if ended {
                return (body, used, true, unstuffer.saw_bare());
            }
            assert_eq!(n, piece.len());
        }
        (body, used, false, unstuffer.saw_bare())
    };
    let whole = in_pieces(input.len().max(1));
    for piece_bytes in 1..5 {
        assert_eq!(in_pieces(piece_bytes), whole, "pieces of {piece_bytes}");
    }
    whole
}

/// The grammar, spelled out byte by byte: what the fast code must agree with.
fn reference(input: &[u8]) -> (Vec<u8>, usize, bool, bool) {
    let mut body = Vec::new();
    let mut bare = false;
    let mut line_start = true;
    let mut at = 0;
    while at < input.len() {
        let rest = &input[at..];
        if line_start && rest[0] == b'.' {
            if rest.starts_with(b".\r\n") {
                return (body, at + 3, true, bare);
            }
            // A dot that is followed by the end of the input is held back, as is `.` CR.
            if rest == b"." || rest == b".\r" {
                return (body, input.len(), false, bare);
            }
            at += 1;
            line_start = false;
            continue;
        }
        line_start = false;
        if rest.starts_with(b"\r\n") {
            body.extend_from_slice(b"\r\n");
            at += 2;
            line_start = true;
        } else {
            bare |= rest[0] == b'\n' || (rest[0] == b'\r' && rest.len() > 1);
            body.push(rest[0]);
            at += 1;
        }
    }
    (body, at, false, bare)
}

#[test]
fn takes_out_the_dots_put_in() {
    assert_eq!(
        unstuff(b"a\r\n..b\r\n.c\r\n...\r\n.\r\nNOOP\r\n"),
        (b"a\r\n.b\r\nc\r\n..\r\n".to_vec(), 20, true, false)
    );
}

#[test]
fn an_empty_message_ends_at_once() {
    assert_eq!(unstuff(b".\r\nX"), (vec![], 3, true, false));
}

#[test]
fn nothing_but_crlf_dot_crlf_ends_a_message() {
    for end in [
        "\n.\n",
        "\n.\r\n",
        "\r\n.\n",
        "\r.\r",
        "\r.\r\n",
        "\r\n.\r",
        "\n.\r",
        "\r.\n",
        "\r\n.\r\r\n",
        "\r\n.\0\r\n",
        "\r\n. \r\n",
        "\0\r\n..\r\n",
        "\n\r.\r\n",
        "\r\r.\r\n",
    ] {
        let input = format!("body{end}MAIL FROM:<x@y>\r\n");
        let (_, used, ended, _) = unstuff(input.as_bytes());
        assert!(!ended && used == input.len(), "{end:?} ended the message");
    }
}

#[test]
fn bare_ends_are_remembered() {
    for input in [
        "a\nb",
        "a\rb",
        "\n",
        "\r\r\n",
        ".\n",
        ".\rx",
        "a\r\n\n",
        "\n\r\n.\r\n",
    ] {
        assert!(unstuff(input.as_bytes()).3, "{input:?}");
    }
    for input in ["a\r\nb", "", ".", ".\r", "a\r", "\r\n\r\n.\r\n"] {
        assert!(!unstuff(input.as_bytes()).3, "{input:?}");
    }
}

#[test]
fn the_true_end_counts_after_bare_ones() {
    let (_, used, ended, bare) = unstuff(b"a\n.\nb\r\r\n.\r\nQUIT\r\n");
    assert_eq!((used, ended, bare), (11, true, true));
}

#[test]
fn without_a_body_the_end_is_the_same() {
    let mut unstuffer = DotUnstuffer::default();
    assert_eq!(unstuffer.feed(b"a\r\n.b\r\n.\r\nX", None), (10, true));
}

/// Text that is looked at in whole blocks, with one byte in it changed at every place.
#[test]
fn blocks_hide_nothing() {
    for line_bytes in [1, 7, 31, 61, 62, 63, 64, 65, 126, 127, 200] {
        let mut text = Vec::new();
        while text.len() < 4 * BLOCK_BYTES {
            text.extend(std::iter::repeat_n(b'a', line_bytes));
            text.extend_from_slice(b"\r\n");
        }
        for at in 0..text.len() {
            for byte in *b"\r\n." {
                let mut input = text.clone();
                input[at] = byte;
                let expected = reference(&input);
                let mut body = Vec::new();
                let mut unstuffer = DotUnstuffer::default();
                let (used, ended) = unstuffer.feed(&input, Some(&mut body));
                let found = (body, used, ended, unstuffer.saw_bare());
                assert_eq!(found, expected, "{byte} at {at}, lines of {line_bytes}");
                // Line ends as such: dots and the end of the message do not count there.
                if !ended {
                    let mut check = LineEndCheck::default();
                    check.feed(&input);
                    let is_bare = check.saw_bare(false);
                    assert_eq!(is_bare, expected.3, "{byte} at {at}, lines of {line_bytes}");
                }
            }
        }
    }
}

fn bare(pieces: &[&[u8]]) -> bool {
    let mut check = LineEndCheck::default();
    for piece in pieces {
        check.feed(piece);
    }
    check.saw_bare(true)
}

#[test]
fn line_ends_of_chunks() {
    assert!(!bare(&[b"a\r\n", b"b\r", b"", b"\n", b"c"]));
    for pieces in [
        [b"a\n".as_slice(), b""],
        [b"a\r", b"b"],
        [b"a\r", b"\r\n"],
        [b"a\r\n", b"\n"],
        [b"a", b"\r"],
        [b"\rb\r\n", b""],
    ] {
        assert!(bare(&pieces), "{pieces:?}");
    }
}

fn noisy() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a')];
    let crlf = prop_oneof![
        byte.prop_map(|byte| vec![byte]),
        Just(b"\r\n".to_vec()),
        Just(b"\r\n.".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..300),
    ];
    proptest::collection::vec(crlf, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn agrees_with_the_grammar(input in noisy()) {
        prop_assert_eq!(unstuff(&input), reference(&input));
    }

    #[test]
    fn what_was_stuffed_comes_back(
        lines in proptest::collection::vec("[.a]{0,5}|[ -~]{0,100}", 0..50)
    ) {
        let mut body = String::new();
        let mut wire = String::new();
        for line in &lines {
            body.push_str(line);
            body.push_str("\r\n");
            if line.starts_with('.') {
                wire.push('.');
            }
            wire.push_str(line);
            wire.push_str("\r\n");
        }
        wire.push_str(".\r\n");
        prop_assert_eq!(unstuff(wire.as_bytes()), (body.into_bytes(), wire.len(), true, false));
    }

    #[test]
    fn both_find_the_same_bare_ends(input in noisy()) {
        let dotless: Vec<u8> = input.into_iter().filter(|byte| *byte != b'.').collect();
        let mut check = LineEndCheck::default();
        for piece in dotless.chunks(3) {
            check.feed(piece);
        }
        prop_assert_eq!(check.saw_bare(false), unstuff(&dotless).3);
    }
}
