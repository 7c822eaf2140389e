use proptest::prelude::*;

use super::*;
use crate::mail::Address;
use crate::store::Account;

fn realm() -> Realm {
    Realm::new(
        Identity {
            store_id: 7,
            partition: 3,
        },
        42,
        5,
    )
}

const ANN: &str = "ann@example.org";
const RESERVED: Reserved = Reserved {
    uid_next: 100,
    validity: 9,
    modseq: 77,
    changed_floor: 3,
};
const MARKS: [NewMark; 2] = [
    NewMark {
        uid: 3,
        flags: Flags::SEEN,
        keywords: 0,
    },
    NewMark {
        uid: 9,
        flags: Flags::ALL,
        keywords: 2,
    },
];

fn message(mailbox: MailboxId, saved_ms: u64, keywords: &[Box<str>]) -> encode::Append<'_> {
    encode::Append {
        address: ANN,
        mailbox,
        uid: 8,
        body_seq: 2,
        bytes: 900,
        date_ms: 1234,
        saved_ms,
        flags: if keywords.is_empty() {
            Flags::NONE
        } else {
            Flags::FLAGGED
        },
        keywords,
    }
}

/// One record of every kind, and where each starts.
fn all_kinds(body: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let mut out = Vec::new();
    let mut starts = Vec::new();
    let account = Account {
        address: Address::parse("ann@example.org").unwrap(),
        password_hash: "$6$x$y".to_owned(),
        quota_bytes: 77,
    };
    starts.push(out.len());
    encode::put_account(&mut out, 1, 9, &account);
    starts.push(out.len());
    encode::remove_account(&mut out, 2, "ann@example.org");
    starts.push(out.len());
    encode::append(&mut out, 3, &message(MailboxId::INBOX, 1234, &[]));
    starts.push(out.len());
    encode::expunge(&mut out, 4, ANN, MailboxId::INBOX, &[1, 2, 9], 55);
    starts.push(out.len());
    encode::reserve(&mut out, 5, ANN, MailboxId(8), &RESERVED);
    starts.push(out.len());
    encode::key(&mut out, 6, b"key", Some(b"value"));
    starts.push(out.len());
    encode::key(&mut out, 7, b"key", None);
    starts.push(out.len());
    encode::chunk(&mut out, 8, body);
    starts.push(out.len());
    encode::body(&mut out, 9, b"Trace: x\r\n", &[(8, 5000)], body);
    starts.push(out.len());
    encode::end(&mut out, 10);
    starts.push(out.len());
    let words: [Box<str>; 2] = ["$Forwarded".into(), "later".into()];
    encode::append(&mut out, 11, &message(MailboxId(8), 99, &words));
    starts.push(out.len());
    encode::flags(&mut out, 12, ANN, MailboxId(8), &words, &MARKS);
    starts.push(out.len());
    encode::expunge(&mut out, 13, ANN, MailboxId(8), &[7], 55);
    starts.push(out.len());
    encode::put_mailbox(&mut out, 14, ANN, MailboxId(8), (9, 3, "Trash/2026"));
    starts.push(out.len());
    encode::remove_mailbox(&mut out, 15, ANN, MailboxId(8));
    starts.push(out.len());
    encode::cache(&mut out, 16, 2, b"envelope");
    encode::seal(&mut out, realm());
    (out, starts)
}

#[test]
fn a_floor_of_changes_is_kept_whichever_record_says_it() {
    for changed_floor in [0, 4, 5, Sequence::MAX >> 16] {
        let reserved = Reserved {
            changed_floor,
            ..RESERVED
        };
        let mut out = Vec::new();
        encode::reserve(&mut out, 5, ANN, MailboxId(8), &reserved);
        encode::seal(&mut out, realm());
        let record = decode(&out, realm()).unwrap();
        let Payload::Reserve { reserved: read, .. } = record.payload else {
            panic!("{record:?}");
        };
        assert_eq!(read, reserved);
    }
}

#[test]
fn every_kind_comes_back_as_it_was_written() {
    let body: Vec<u8> = (0..9000u32).map(|i| (i % 251) as u8).collect();
    let (out, starts) = all_kinds(&body);
    let mut seen = Vec::new();
    let mut at = 0;
    while at < out.len() {
        assert_eq!(at, starts[seen.len()]);
        let record = decode(&out[at..], realm()).unwrap();
        assert_eq!(record.seq, seen.len() as u64 + 1);
        at += record.disk_bytes;
        seen.push(record.payload);
    }
    assert_eq!(seen.len(), starts.len());
    let address = "ann@example.org";
    assert_eq!(
        seen[0],
        Payload::PutAccount {
            validity: 9,
            quota_bytes: 77,
            address,
            password_hash: "$6$x$y"
        }
    );
    assert_eq!(seen[1], Payload::RemoveAccount { address });
    assert_eq!(
        seen[2],
        Payload::Append {
            mailbox: MailboxId::INBOX,
            uid: 8,
            body_seq: 2,
            bytes: 900,
            date_ms: 1234,
            saved_ms: 1234,
            flags: Flags::NONE,
            keywords: TextList::NONE,
            address
        }
    );
    let Payload::Expunge { now_ms, uids, .. } = seen[3] else {
        panic!("{:?}", seen[3]);
    };
    assert_eq!((now_ms, uids.iter().collect()), (55, vec![1, 2, 9]));
    assert_eq!(
        seen[4],
        Payload::Reserve {
            mailbox: MailboxId(8),
            reserved: RESERVED,
            address
        }
    );
    let key = b"key".as_slice();
    assert_eq!(
        seen[5],
        Payload::Key {
            key,
            value: Some(b"value")
        }
    );
    assert_eq!(seen[6], Payload::Key { key, value: None });
    let Payload::Body(chunk) = seen[7] else {
        panic!("{:?}", seen[7]);
    };
    assert!(chunk.is_chunk && chunk.is_whole() && chunk.bytes() == body);
    let Payload::Body(whole) = seen[8] else {
        panic!("{:?}", seen[8]);
    };
    assert!(!whole.is_chunk && whole.is_whole());
    assert_eq!(whole.total_bytes, 10 + 5000 + 9000);
    assert_eq!(whole.lead_bytes, 10);
    assert_eq!(whole.chunks().collect::<Vec<_>>(), [(8, 5000)]);
    assert_eq!(&whole.bytes()[10..], body);
    assert_eq!(seen[9], Payload::End);
    let mailbox = MailboxId(8);
    let words = |keywords: TextList<'_>| keywords.iter().collect::<Vec<_>>().join(" ");
    let Payload::Append {
        mailbox: own,
        saved_ms,
        flags,
        keywords,
        ..
    } = seen[10]
    else {
        panic!("{:?}", seen[10]);
    };
    assert_eq!((own, saved_ms, flags), (mailbox, 99, Flags::FLAGGED));
    assert_eq!(words(keywords), "$Forwarded later");
    let Payload::Flags {
        mailbox: own,
        keywords,
        marks,
        ..
    } = seen[11]
    else {
        panic!("{:?}", seen[11]);
    };
    assert_eq!((own, words(keywords)), (mailbox, "$Forwarded later".into()));
    assert_eq!(marks.iter().collect::<Vec<_>>(), MARKS);
    let Payload::Expunge {
        mailbox: own, uids, ..
    } = seen[12]
    else {
        panic!("{:?}", seen[12]);
    };
    assert_eq!((own, uids.iter().collect()), (mailbox, vec![7]));
    assert_eq!(
        seen[13],
        Payload::PutMailbox {
            mailbox,
            validity: 9,
            special_use: 3,
            address,
            name: "Trash/2026"
        }
    );
    assert_eq!(seen[14], Payload::RemoveMailbox { mailbox, address });
    let bytes = b"envelope".as_slice();
    assert_eq!(seen[15], Payload::Cache { body_seq: 2, bytes });
}

#[test]
fn a_part_of_a_body_is_verified_without_the_rest() {
    let body: Vec<u8> = (0..9000u32).map(|i| (i % 251) as u8).collect();
    let mut out = Vec::new();
    encode::body(&mut out, 1, b"", &[], &body);
    encode::seal(&mut out, realm());
    assert_eq!(out.len(), body_disk_bytes(9000, 0));
    let prefix = body_prefix_bytes(&out).unwrap();
    let record = decode(&out[..prefix], realm()).unwrap();
    let Payload::Body(head) = record.payload else {
        panic!("{record:?}");
    };
    assert_eq!(head.bytes_offset(), prefix);
    assert!(head.bytes().is_empty() && !head.is_whole());
    assert!(head.blocks_match(1, &body[4096..8192]));
    assert!(head.blocks_match(2, &body[8192..]));
    assert!(!head.blocks_match(0, &body[4096..8192]));
    let mut flipped = body[8192..].to_vec();
    flipped[3] ^= 1;
    assert!(!head.blocks_match(2, &flipped));
}

#[test]
fn a_record_of_another_realm_is_not_ours() {
    let (out, _) = all_kinds(b"body");
    let identity = Identity {
        store_id: 7,
        partition: 3,
    };
    for (generation, epoch) in [(43, 5), (42, 6)] {
        let other = Realm::new(identity, generation, epoch);
        assert_eq!(decode(&out, other), Err(RecordError::Checksum));
    }
}

proptest! {
    #[test]
    fn decoding_anything_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, realm());
        let _ = body_prefix_bytes(&bytes);
    }

    /// Checksums do not shield what is behind them: the payload is arbitrary, its CRC is right.
    #[test]
    fn decoding_a_sealed_record_of_anything_never_panics(
        kind in 0u8..19,
        payload in proptest::collection::vec(any::<u8>(), 0..100),
        checked in 0usize..100,
    ) {
        let mut out = vec![0; HEADER_BYTES];
        out[4] = kind;
        out[8..12].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        let checked = checked.min(payload.len()) as u32;
        out[12..16].copy_from_slice(&checked.to_le_bytes());
        out.extend_from_slice(&payload);
        out.resize(disk_bytes(payload.len()), 0);
        encode::seal(&mut out, realm());
        if let Ok(record) = decode(&out, realm())
            && let Payload::Body(body) = record.payload
        {
            let _ = body.is_whole();
            let _ = body.chunks().count();
        } else if let Ok(Record {
            payload: Payload::Flags { keywords, marks, .. },
            ..
        }) = decode(&out, realm())
        {
            let _ = (keywords.iter().count(), marks.iter().count());
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed(bit in any::<proptest::sample::Index>(), bytes in 0usize..6000) {
        let (mut out, starts) = all_kinds(&vec![b'x'; bytes]);
        let bit = bit.index(out.len() * 8);
        out[bit / 8] ^= 1 << (bit % 8);
        let index = starts.partition_point(|start| *start <= bit / 8) - 1;
        let original = all_kinds(&vec![b'x'; bytes]).0;
        let before = decode(&original[starts[index]..], realm()).unwrap();
        let whole = match decode(&out[starts[index]..], realm()) {
            Err(_) => false,
            Ok(record) => match record.payload {
                Payload::Body(body) => body.is_whole(),
                _ => true,
            },
        };
        // Padding is the only thing that may change unnoticed, and it says nothing.
        let padding = out[starts[index]..].len() >= before.disk_bytes && {
            let len = u32_at(&original[starts[index]..], 8) as usize;
            bit / 8 >= starts[index] + HEADER_BYTES + len
        };
        prop_assert_eq!(whole, padding);
    }
}
