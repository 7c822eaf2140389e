use super::*;

fn shape(framing: Framing) -> Shape {
    Shape {
        framing,
        sender: "loadgen@bench.test".to_owned(),
        domain: "bench.test".to_owned(),
    }
}

fn id(sequence: u64) -> MessageId {
    MessageId {
        run: 0xabcd_0123,
        sequence,
    }
}

fn builder(sizes: &str, framing: Framing, seed: u64) -> Builder {
    let sizes = sizes.parse().expect("sizes");
    Builder::new(&shape(framing), &Content::Made(sizes), seed).expect("large enough")
}

fn next(builder: &mut Builder, id: MessageId) -> Vec<u8> {
    let mut out = Vec::new();
    let draft = builder.draw();
    builder.build(draft, id, &mut out);
    out
}

fn build(bytes: usize, framing: Framing, seed: u64) -> Vec<u8> {
    next(&mut builder(&bytes.to_string(), framing, seed), id(seed))
}

/// Undoes dot-stuffing the slow way, by lines.
fn unstuff(wire: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(wire).expect("ASCII");
    let lines = text.strip_suffix(".\r\n").expect("ends with a dot");
    lines
        .split_inclusive("\r\n")
        .map(|line| line.strip_prefix('.').unwrap_or(line))
        .collect::<String>()
        .into_bytes()
}

fn verdict(message: &[u8], piece: usize) -> Verdict {
    let mut checker = Checker::default();
    message.chunks(piece).for_each(|bytes| checker.feed(bytes));
    checker.finish()
}

#[test]
fn id_is_read_back_from_its_text() {
    let id = id(u64::MAX - 5);
    assert_eq!(MessageId::parse(&id.text()), Some(id));
    assert_eq!(id.to_string().as_bytes(), id.text());
    assert_eq!(MessageId::parse(b"ABCD0123-000000000000000f"), None);
    assert_eq!(MessageId::parse(b"abcd0123-000000000000000"), None);
}

#[test]
fn size_is_exact_and_both_framings_are_whole() {
    for seed in 0..60 {
        let bytes = 420 + seed as usize * 97;
        let chunk = build(bytes, Framing::Chunk, seed);
        assert_eq!(chunk.len(), bytes);
        let dots = unstuff(&build(bytes, Framing::Dots, seed));
        assert_eq!(dots.len(), bytes);
        for message in [&chunk, &dots] {
            assert_eq!(verdict(message, message.len()), Verdict::Whole(id(seed)));
        }
    }
}

#[test]
fn lines_are_short_and_end_in_crlf() {
    let wire = build(50 * 1024, Framing::Dots, 7);
    let mut stuffed = 0;
    for line in wire.split_inclusive(|&byte| byte == b'\n') {
        assert!(line.ends_with(b"\r\n") && line.len() <= 79 + 1, "{line:?}");
        assert!(!line[..line.len() - 2].contains(&b'\r'));
        stuffed += usize::from(line.starts_with(b"..") && line.len() < wire.len());
    }
    assert!(stuffed > 10, "dot-stuffing is not exercised: {stuffed}");
    assert!(
        wire.windows(6).any(|line| line == b"\r\n..\r\n"),
        "a line that is one dot is missing"
    );
}

#[test]
fn checker_takes_any_pieces() {
    let message = build(3000, Framing::Chunk, 3);
    for piece in [1, 2, 3, 17, 1000] {
        assert_eq!(verdict(&message, piece), Verdict::Whole(id(3)));
    }
}

#[test]
fn any_flipped_bit_of_id_sum_or_body_is_found() {
    let message = build(1500, Framing::Chunk, 11);
    let header_end = message
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .expect("a header")
        + 4;
    let covered = message
        .windows(14)
        .position(|w| w == b"X-Loadgen-Id: ")
        .expect("an id");
    for at in covered..message.len() {
        for bit in 0..8 {
            let mut damaged = message.clone();
            damaged[at] ^= 1 << bit;
            let found = verdict(&damaged, damaged.len());
            // In the header, case and blanks of a field's name may change without harm.
            let harmless = at < header_end
                && (damaged[at].eq_ignore_ascii_case(&message[at])
                    || message[at].is_ascii_whitespace());
            assert!(
                harmless || found != Verdict::Whole(id(11)),
                "flip of bit {bit} at {at} unseen"
            );
        }
    }
}

#[test]
fn exchanged_pieces_and_truncation_are_found() {
    let mut builder = builder("8K", Framing::Chunk, 5);
    let messages: Vec<Vec<u8>> = (0..=TEMPLATES as u64)
        .map(|sequence| next(&mut builder, id(sequence)))
        .collect();
    // The same template, hence the same text but for the ids.
    let (first, last) = (&messages[0], &messages[TEMPLATES]);
    for at in [1024usize, 3000, 6000] {
        let mut mixed = first.clone();
        mixed[at..at + 1200].copy_from_slice(&last[at..at + 1200]);
        assert_eq!(verdict(&mixed, 8192), Verdict::Corrupt(Some(id(0))));
    }
    assert_eq!(verdict(&first[..8190], 8190), Verdict::Corrupt(Some(id(0))));
    // Cut off before its id, a message is still ours by its Message-ID.
    assert_eq!(verdict(&first[..220], 220), Verdict::Corrupt(None));
}

#[test]
fn mail_of_others_is_foreign() {
    assert_eq!(
        verdict(b"Subject: hi\r\n\r\nhello\r\n", 5),
        Verdict::Foreign
    );
    assert_eq!(verdict(b"", 1), Verdict::Foreign);
}

#[test]
fn trace_fields_do_no_harm() {
    let mut message = b"Return-Path: <a@b>\r\nReceived: from x\r\n\tby y\r\n".to_vec();
    message.extend_from_slice(&build(900, Framing::Chunk, 2));
    assert_eq!(verdict(&message, 64), Verdict::Whole(id(2)));
}

#[test]
fn sizes_of_a_list_or_a_distribution_are_exact() {
    for framing in [Framing::Dots, Framing::Chunk] {
        let mut builder = builder("lognormal:3000,1.0,9000", framing, 8);
        let mut sizes = Vec::new();
        for sequence in 0..3000 {
            let draft = builder.draw();
            let mut wire = b"before".to_vec();
            builder.build(draft, id(sequence), &mut wire);
            let message = match framing {
                Framing::Dots => unstuff(&wire[6..]),
                Framing::Chunk => wire[6..].to_vec(),
            };
            assert_eq!(message.len(), builder.chunk_bytes(draft));
            assert!(message.ends_with(b"\r\n"));
            let lines = message.split_inclusive(|&byte| byte == b'\n');
            assert!(
                lines
                    .clone()
                    .all(|line| line.ends_with(b"\r\n") && line.len() <= 81)
            );
            assert_eq!(verdict(&message, 4096), Verdict::Whole(id(sequence)));
            sizes.push(message.len());
        }
        sizes.sort_unstable();
        sizes.dedup();
        assert!(
            sizes.len() > 1000 && sizes.last() == Some(&9000),
            "{}",
            sizes.len()
        );
        // The smallest that can be made: the header and one line.
        assert!((300..420).contains(&sizes[0]), "{}", sizes[0]);
    }
    let mut builder = builder("1K:1,5000:3", Framing::Chunk, 8);
    let sizes: Vec<usize> = (0..400)
        .map(|at| next(&mut builder, id(at)).len())
        .collect();
    let small = sizes.iter().filter(|&&bytes| bytes == 1024).count();
    let large = sizes.iter().filter(|&&bytes| bytes == 5000).count();
    assert!(
        small + large == 400 && (60..140).contains(&small),
        "{small} and {large}"
    );
}

#[test]
fn every_size_can_be_cut() {
    let builder = builder("1000:1,3000:1", Framing::Dots, 3);
    for bytes in 400..3000 {
        let mut wire = Vec::new();
        let draft = Draft { index: 0, bytes };
        builder.build(draft, id(1), &mut wire);
        let message = unstuff(&wire);
        assert_eq!(message.len(), bytes as usize);
        assert_eq!(verdict(&message, 50), Verdict::Whole(id(1)));
    }
}

#[test]
fn impossible_sizes_are_refused() {
    for sizes in ["100", "4K,100", "lognormal:100,1"] {
        let content = Content::Made(sizes.parse().expect("sizes"));
        let error = Builder::new(&shape(Framing::Dots), &content, 1).expect_err("too small");
        assert!(error.contains("allowed are"), "{error}");
    }
}
