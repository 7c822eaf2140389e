mod damage;
mod model;

use super::*;
use crate::limits::KEYWORDS_MAX;

const IDENTITY: Identity = Identity {
    store_id: 7,
    partition: 3,
};

const INBOX: MailboxId = MailboxId::INBOX;

fn reserved(uid_next: Uid, validity: UidValidity) -> Reserved {
    Reserved {
        uid_next,
        validity,
        modseq: 1,
        changed_floor: 0,
    }
}

/// UIDVALIDITY, next UID and bytes in use of an account's INBOX.
fn inbox_state(index: &Index, address: &Address) -> Option<(UidValidity, Uid, u64)> {
    let (uid_next, validity, used, _) = index.room(address, INBOX)?;
    Some((validity, uid_next, used))
}

fn address(number: u64) -> Address {
    Address::parse(&format!("u{number}@example.org")).unwrap()
}

fn at(segment: u64, offset: u32) -> Location {
    Location {
        segment,
        offset,
        bytes: 100,
    }
}

fn account(number: u64) -> Account {
    Account {
        address: address(number),
        password_hash: format!("hash{number}"),
        quota_bytes: number * 1000,
    }
}

fn put(index: &mut Index, seq: u64, number: u64) {
    index.apply(
        seq,
        at(1, 0),
        Change::PutAccount {
            account: &account(number),
            validity: 9,
        },
    );
}

fn body(index: &mut Index, seq: u64, location: Location, chunks: &[u64]) {
    index.apply(
        seq,
        location,
        Change::Body {
            body_seq: seq,
            location,
            chunks,
        },
    );
}

fn append(index: &mut Index, seq: u64, segment: u64, number: u64, uid: u32, body_seq: u64) {
    index.apply(
        seq,
        at(segment, 0),
        Change::Append {
            address: &address(number),
            mailbox: INBOX,
            uid,
            body_seq,
            bytes: 1000,
            date_ms: 5,
            saved_ms: 5,
            flags: Flags::NONE,
            keywords: &[],
        },
    );
}

fn expunge(index: &mut Index, seq: u64, number: u64, uids: &[u32]) {
    index.apply(
        seq,
        at(1, 0),
        Change::Expunge {
            address: &address(number),
            mailbox: INBOX,
            uids,
            now_ms: 77,
        },
    );
}

/// Everything applied, as a sealed file, which becomes the base.
fn seal(index: &mut Index, covers: Sequence) -> Vec<u8> {
    let mut writer = index.begin_seal(IDENTITY, covers, (4, 4096));
    let mut bytes = Vec::new();
    while let Some(piece) = writer.next_piece() {
        bytes.extend(piece);
    }
    index.finish_seal(Rc::new(bytes.clone())).unwrap();
    bytes
}

#[test]
fn a_reserve_of_an_earlier_account_does_not_name_a_later_one() {
    let mut index = Index::new();
    put(&mut index, 10, 1);
    let at_1 = at(1, 0);
    let address = &address(1);
    index.apply(20, at_1, Change::RemoveAccount { address });
    let reserve = Change::Reserve {
        address,
        mailbox: INBOX,
        reserved: reserved(7, 9),
    };
    index.apply(21, at_1, reserve);
    let account = &account(1);
    let validity = 30;
    index.apply(30, at_1, Change::PutAccount { account, validity });
    assert_eq!(inbox_state(&index, address), Some((30, 7, 0)));
    let change = Change::Reserve {
        address,
        mailbox: INBOX,
        reserved: reserved(9, 31),
    };
    index.apply(40, at_1, change);
    assert_eq!(inbox_state(&index, address), Some((31, 9, 0)));
}

#[test]
fn a_message_is_found_and_its_space_is_counted() {
    let mut index = Index::new();
    put(&mut index, 1, 1);
    body(&mut index, 2, at(1, 500), &[]);
    append(&mut index, 3, 1, 1, 1, 2);
    let found = index.find(&address(1), INBOX, 1).unwrap();
    assert_eq!(found.body_seq, 2);
    assert_eq!(found.location, at(1, 500));
    assert_eq!(inbox_state(&index, &address(1)), Some((9, 2, 1000)));
    assert_eq!(index.usage()[0].1.live_bytes, 100 + 128 + 256);
    expunge(&mut index, 4, 1, &[1]);
    assert_eq!(index.find(&address(1), INBOX, 1), None);
    assert_eq!(index.body(2), None);
    assert_eq!(inbox_state(&index, &address(1)), Some((9, 2, 0)));
    let usage = index.usage()[0].1;
    assert_eq!((usage.live_bytes, usage.youngest_expunge_ms), (256, 77));
}

#[test]
fn an_append_stays_dead_that_comes_after_its_expunge() {
    let mut index = Index::new();
    put(&mut index, 1, 1);
    expunge(&mut index, 4, 1, &[1]);
    body(&mut index, 2, at(2, 500), &[]);
    append(&mut index, 3, 2, 1, 1, 2);
    assert_eq!(index.messages(), 0);
    assert_eq!(index.messages_in(&address(1), INBOX), Some(vec![]));
}

#[test]
fn an_account_made_again_has_no_old_mail() {
    let mut index = Index::new();
    put(&mut index, 1, 1);
    append(&mut index, 3, 1, 1, 1, 2);
    put(&mut index, 10, 1);
    append(&mut index, 12, 1, 1, 1, 11);
    let gone = address(1);
    index.apply(9, at(1, 0), Change::RemoveAccount { address: &gone });
    append(&mut index, 3, 4, 1, 1, 2);
    append(&mut index, 4, 4, 1, 2, 2);
    let inbox = index.messages_in(&address(1), INBOX).unwrap();
    assert_eq!(inbox.len(), 1);
    assert_eq!(inbox[0].modseq, 12);
    assert_eq!(inbox_state(&index, &address(1)), Some((9, 2, 1000)));
}

#[test]
fn chunks_live_as_long_as_their_message() {
    let mut index = Index::new();
    put(&mut index, 1, 1);
    body(&mut index, 2, at(1, 500), &[]);
    body(&mut index, 3, at(1, 600), &[]);
    // The final record and its append come before a chunk that compaction moved behind them.
    append(&mut index, 6, 1, 1, 1, 5);
    body(&mut index, 5, at(1, 800), &[2, 3, 4]);
    body(&mut index, 4, at(2, 700), &[]);
    for seq in 2..=5 {
        assert!(index.body(seq).is_some(), "{seq}");
    }
    index.release_unnamed(100);
    for seq in 2..=5 {
        assert!(index.body(seq).is_some(), "{seq}");
    }
    expunge(&mut index, 7, 1, &[1]);
    for seq in 2..=5 {
        assert!(index.body(seq).is_none(), "{seq}");
    }
    assert_eq!(index.usage()[0].1.live_bytes, 256);
}

#[test]
fn a_chunk_may_be_told_of_late() {
    let mut index = Index::new();
    put(&mut index, 1, 1);
    // Chunk 2 is in the log when the file is written, but its message is still arriving.
    let bytes = seal(&mut index, 3);
    index = Index::open(Rc::new(bytes), IDENTITY).unwrap().0;
    body(&mut index, 2, at(1, 500), &[]);
    assert_eq!(index.body(2), None);
    body(&mut index, 4, at(1, 700), &[2]);
    append(&mut index, 5, 1, 1, 1, 4);
    assert_eq!(index.body(2), Some(at(1, 500)));
    seal(&mut index, 5);
    assert_eq!(index.body(2), Some(at(1, 500)));
}

#[test]
fn a_message_without_its_body_can_be_expunged() {
    let mut index = Index::new();
    put(&mut index, 1, 1);
    append(&mut index, 3, 1, 1, 1, 2);
    let found = index.find(&address(1), INBOX, 1).unwrap();
    assert_eq!((found.location.segment, found.location.bytes), (0, 0));
    assert_eq!(index.body(2), None);
    expunge(&mut index, 4, 1, &[1]);
    assert_eq!(index.find(&address(1), INBOX, 1), None);
}

#[test]
fn the_later_place_of_a_body_counts() {
    let mut index = Index::new();
    put(&mut index, 1, 1);
    body(&mut index, 2, at(7, 500), &[]);
    body(&mut index, 2, at(1, 900), &[]);
    append(&mut index, 3, 1, 1, 1, 2);
    assert_eq!(index.body(2), Some(at(7, 500)));
    assert_eq!(index.usage()[1].1.live_bytes, 100);
}

#[test]
fn an_abandoned_stream_is_released() {
    let mut index = Index::new();
    body(&mut index, 2, at(1, 500), &[]);
    body(&mut index, 9, at(1, 600), &[]);
    assert!(index.body(2).is_some());
    index.release_unnamed(9);
    assert!(index.body(2).is_none());
    assert!(index.body(9).is_some());
    assert_eq!(index.usage()[0].1.live_bytes, 100);
}

#[test]
fn keys_are_visited_in_order() {
    let mut index = Index::new();
    for (seq, key, value) in [
        (1, "a/1", Some("x")),
        (2, "b", Some("y")),
        (4, "a/2", None),
        (3, "a/2", Some("z")),
        (5, "a/0", Some("w")),
    ] {
        index.apply(
            seq,
            at(1, 0),
            Change::Key {
                key: key.as_bytes(),
                value: value.map(str::as_bytes),
            },
        );
    }
    let mut seen = Vec::new();
    index.for_each_key(b"a/", &mut |key, value| {
        seen.push((key.to_vec(), value.to_vec()));
    });
    assert_eq!(
        seen,
        [
            (b"a/0".to_vec(), b"w".to_vec()),
            (b"a/1".to_vec(), b"x".to_vec())
        ]
    );
    assert_eq!(index.key(b"a/2"), None);
}

#[test]
fn every_place_of_an_expunged_message_waits_for_the_cleanup_age() {
    let mut index = Index::new();
    put(&mut index, 1, 1);
    body(&mut index, 2, at(2, 0), &[]);
    body(&mut index, 3, at(3, 0), &[2]);
    append(&mut index, 4, 4, 1, 1, 3);
    expunge(&mut index, 5, 1, &[1]);
    let gone = Usage {
        live_bytes: 0,
        youngest_expunge_ms: 77,
    };
    let expected = [(2, gone), (3, gone), (4, gone)];
    assert_eq!(index.usage()[1..], expected);
    let bytes = seal(&mut index, 5);
    let (mut index, ..) = Index::open(Rc::new(bytes), IDENTITY).unwrap();
    assert_eq!(index.usage()[1..], expected);
    index.forget_segment(3);
    assert_eq!(index.usage()[1..], [(2, gone), (4, gone)]);
    // What is needed is not forgotten.
    index.forget_segment(1);
    assert_eq!(index.usage()[0].1.live_bytes, 256);
}

#[test]
fn a_keyword_that_does_not_fit_is_no_other_one() {
    let mut index = Index::new();
    put(&mut index, 1, 1);
    let words: Vec<String> = (0..KEYWORDS_MAX).map(|n| format!("word{n}")).collect();
    let all: Vec<&str> = words.iter().map(String::as_str).collect();
    for (seq, uid, keywords) in [(2, 1, &all[..]), (3, 2, &["one-more", "word1"])] {
        let change = Change::Append {
            address: &address(1),
            mailbox: INBOX,
            uid,
            body_seq: 0,
            bytes: 10,
            date_ms: 5,
            saved_ms: 5,
            flags: Flags::NONE,
            keywords,
        };
        index.apply(seq, at(1, 0), change);
    }
    let keywords = |uid| index.find(&address(1), INBOX, uid).unwrap().info.keywords;
    assert_eq!((keywords(1), keywords(2)), (u64::MAX, 1 << 1));
    assert_eq!(index.keywords(&address(1), INBOX).len(), KEYWORDS_MAX);
}
