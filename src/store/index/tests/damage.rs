//! A sealed file that is not as it was written is refused, and never brings the program down.

use super::*;
use crate::store::index::format::{Footer, HEADER_BYTES, SECTIONS};
use crate::store::sim::Random;

/// A small file with rows in every section.
fn sample() -> Vec<u8> {
    let mut index = Index::new();
    put(&mut index, 1, 1);
    put(&mut index, 2, 2);
    body(&mut index, 3, at(1, 500), &[]);
    body(&mut index, 4, at(2, 600), &[]);
    body(&mut index, 5, at(2, 800), &[3, 4]);
    append(&mut index, 6, 2, 1, 1, 5);
    append(&mut index, 7, 2, 2, 1, 5);
    body(&mut index, 8, at(3, 10), &[]);
    append(&mut index, 9, 3, 2, 2, 8);
    body(&mut index, 10, at(3, 10), &[]);
    for (seq, key) in [(11, "a"), (12, "b")] {
        let value = Some(&b"value"[..]);
        let key = key.as_bytes();
        index.apply(seq, at(3, 0), Change::Key { key, value });
    }
    let own = &address(2);
    let mailbox = MailboxId(13);
    let put_mailbox = Change::PutMailbox {
        address: own,
        mailbox,
        validity: 13,
        special_use: 2,
        name: "Sent/2026",
    };
    index.apply(13, at(3, 0), put_mailbox);
    for (seq, uid) in [(14, 1), (15, 2)] {
        let append = Change::Append {
            address: own,
            mailbox,
            uid,
            body_seq: 8,
            bytes: 1000,
            date_ms: 5,
            saved_ms: 6,
            flags: Flags::SEEN,
            keywords: &["$Forwarded"],
        };
        index.apply(seq, at(3, 0), append);
    }
    let flags = Change::Flags {
        address: own,
        mailbox,
        keywords: &["later"],
        marks: &[NewMark {
            uid: 1,
            flags: Flags::FLAGGED,
            keywords: 1,
        }],
    };
    index.apply(16, at(3, 0), flags);
    let expunge = Change::Expunge {
        address: own,
        mailbox,
        uids: &[2],
        now_ms: 9,
    };
    index.apply(17, at(3, 0), expunge);
    index.apply(18, at(3, 7), Change::Cache { body_seq: 8 });
    seal(&mut index, 18)
}

fn open(bytes: &[u8]) -> Result<Index, IndexError> {
    Index::open(Rc::new(bytes.to_vec()), IDENTITY).map(|(index, ..)| index)
}

/// Asks everything; the answers may be anything.
fn ask(index: &mut Index) {
    index.for_each_account(&mut |_| ());
    index.for_each_key(b"", &mut |_, _| ());
    index.usage();
    for number in 0..4 {
        let address = address(number);
        index.account(&address);
        index.names(&address);
        for id in index.mailbox_ids(&address) {
            index.runs(&address, id);
            index.keywords(&address, id);
            index.changed_since(&address, id, 3);
            index.vanished_since(&address, id, 3);
            index.messages_in(&address, id);
        }
        index.messages_in(&address, INBOX);
        inbox_state(index, &address);
        for uid in 0..4 {
            index.find(&address, INBOX, uid);
        }
    }
    for seq in 0..20 {
        index.body(seq);
    }
    index.key(b"a");
}

#[test]
fn a_sound_file_is_taken() {
    let (index, covers, position) = Index::open(Rc::new(sample()), IDENTITY).unwrap();
    assert_eq!((covers, position), (18, (4, 4096)));
    assert_eq!(index.messages(), 4);
    assert_eq!(
        index.find(&address(2), INBOX, 2).unwrap().location,
        at(3, 10)
    );
    assert_eq!(index.account(&address(2)), Some(account(2)));
}

#[test]
fn any_flipped_bit_is_found() {
    let sound = sample();
    for bit in 0..sound.len() * 8 {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&bytes).is_err(), "byte {} bit {}", bit / 8, bit % 8);
    }
}

#[test]
fn a_file_cut_short_or_grown_is_refused() {
    let sound = sample();
    for length in 0..sound.len() {
        assert!(open(&sound[..length]).is_err(), "{length} bytes");
        assert!(open(&sound[length + 1..]).is_err(), "from {}", length + 1);
    }
    assert!(open(&[&sound[..], &[0]].concat()).is_err());
    assert!(open(&[&sound[..], &sound[..]].concat()).is_err());
}

#[test]
fn noise_is_refused() {
    let random = &mut Random::new(1);
    for length in (0..2000).step_by(7) {
        let bytes: Vec<u8> = (0..length).map(|_| random.bits() as u8).collect();
        assert!(open(&bytes).is_err(), "{length}");
    }
}

/// Wrong rows under right checksums, as no accident makes them: refused, or answered somehow.
#[test]
fn wrong_rows_do_no_harm() {
    let sound = sample();
    let footer = Footer::decode(&sound).unwrap();
    let random = &mut Random::new(2);
    let mut taken = 0;
    for _ in 0..20_000 {
        let mut bytes = sound.clone();
        let end = bytes.len() - super::super::format::FOOTER_BYTES;
        for _ in 0..1 + random.index(3) {
            let at = HEADER_BYTES + random.index(end - HEADER_BYTES);
            bytes[at] = match random.index(4) {
                0 => 0,
                1 => 0xff,
                _ => random.bits() as u8,
            };
        }
        let mut footer = footer;
        for section in &mut footer.sections {
            let start = section.offset as usize;
            section.crc = crc32c::crc32c(&bytes[start..start + section.length as usize]);
        }
        if random.one_in(10) {
            // Sections that end elsewhere.
            let (a, b) = (random.index(SECTIONS), random.index(SECTIONS));
            footer.sections[a].length = random.below(400);
            footer.sections[b].offset = random.bits();
        }
        bytes.truncate(end);
        bytes.extend(footer.encode());
        if let Ok(mut index) = open(&bytes) {
            taken += 1;
            ask(&mut index);
            let again = address(1);
            append(&mut index, 20, 5, 1, 9, 8);
            index.apply(21, at(5, 0), Change::RemoveAccount { address: &again });
            expunge(&mut index, 22, 2, &[1, 2]);
            let mut writer = index.begin_seal(IDENTITY, 22, (9, 9));
            while writer.next_piece().is_some() {}
            index.abandon_seal();
            ask(&mut index);
        }
    }
    assert!(taken > 100, "the test reached the readers: {taken}");
}

#[test]
fn anothers_file_is_refused() {
    let other = Identity {
        partition: 4,
        ..IDENTITY
    };
    let error = Index::open(Rc::new(sample()), other).err().unwrap();
    assert!(error.0.contains("of partition 0x3"), "{error}");
}

#[test]
fn a_newer_version_is_named() {
    let mut bytes = sample();
    bytes[8] = 4;
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    let error = open(&bytes).err().unwrap();
    assert!(error.0.contains("format 4"), "{error}");
}

#[test]
fn what_does_not_fit_the_format_stays_in_memory() {
    let mut index = Index::new();
    put(&mut index, 1, 1);
    put(&mut index, 1 << 48, 2);
    let mut writer = index.begin_seal(IDENTITY, 1 << 48, (1, 1));
    let mut bytes = Vec::new();
    while let Some(piece) = writer.next_piece() {
        bytes.extend(piece);
    }
    assert!(index.finish_seal(Rc::new(bytes)).is_err());
    assert!(index.has_account(&address(1)) && index.has_account(&address(2)));
}

#[test]
fn a_written_file_is_compared() {
    let written = |index: &mut Index| {
        let mut writer = index.begin_seal(IDENTITY, 3, (1, 1));
        let mut bytes = Vec::new();
        while let Some(piece) = writer.next_piece() {
            bytes.extend(piece);
        }
        (writer, bytes)
    };
    let mut index = Index::new();
    put(&mut index, 1, 1);
    body(&mut index, 2, at(1, 500), &[]);
    append(&mut index, 3, 1, 1, 1, 2);
    let mut writer = index.begin_seal(IDENTITY, 3, (1, 1));
    assert!(writer.compare(&[]).is_err(), "nothing was written");
    for byte in 0..written(&mut index).1.len() {
        let (mut writer, mut bytes) = written(&mut index);
        bytes[byte] ^= 4;
        let refused = loop {
            match writer.compare(&bytes) {
                Ok(false) => {}
                Ok(true) => break false,
                Err(_) => break true,
            }
        };
        assert!(refused, "byte {byte}");
    }
    let (mut writer, bytes) = written(&mut index);
    while !writer.compare(&bytes).unwrap() {}
    index.finish_seal(Rc::new(bytes)).unwrap();
    assert_eq!(
        index.find(&address(1), INBOX, 1).unwrap().location,
        at(1, 500)
    );
    assert!(index.finish_seal(Rc::new(Vec::new())).is_err());
}

/// Whoever changes the format changes its version, its picture and this.
#[test]
fn the_format_is_as_it_was() {
    let bytes = sample();
    assert_eq!((bytes.len(), crc32c::crc32c(&bytes)), (1454, 0xa275_73b4));
}

#[test]
fn a_file_of_another_seal_is_refused() {
    let mut index = Index::new();
    put(&mut index, 1, 1);
    let older = seal(&mut index, 1);
    put(&mut index, 2, 2);
    let _writer = index.begin_seal(IDENTITY, 2, (4, 8192));
    assert!(index.finish_seal(Rc::new(older)).is_err());
    assert!(index.has_account(&address(1)) && index.has_account(&address(2)));
}

#[test]
fn large_mailboxes_and_tables_go_through_many_pieces() {
    let mut index = Index::new();
    put(&mut index, 1, 1);
    let mut seq = 1;
    for uid in 1..=30_000 {
        seq += 2;
        body(&mut index, seq - 1, at(seq >> 12, seq as u32), &[]);
        append(&mut index, seq, seq >> 12, 1, uid, seq - 1);
    }
    for number in 2..3000 {
        seq += 1;
        put(&mut index, seq, number);
    }
    seal(&mut index, seq);
    let covers = seq;
    let even: Vec<u32> = (1..=15_000).map(|uid| uid * 2).collect();
    expunge(&mut index, seq + 1, 1, &even);
    // A removal of an account in the file, and a layer over it.
    let gone = address(2);
    index.apply(seq + 2, at(1, 0), Change::RemoveAccount { address: &gone });
    let mut writer = index.begin_seal(IDENTITY, covers + 2, (8, 8));
    let (mut bytes, mut pieces) = (Vec::new(), 0);
    while let Some(piece) = writer.next_piece() {
        assert!(piece.len() <= 256 * 1024);
        bytes.extend(piece);
        pieces += 1;
    }
    assert!(pieces > 5, "{pieces}");
    index.finish_seal(Rc::new(bytes)).unwrap();
    assert_eq!(index.messages(), 15_000);
    assert_eq!(index.messages_in(&address(1), INBOX).unwrap().len(), 15_000);
    assert!(index.find(&address(1), INBOX, 2).is_none());
    assert_eq!(
        index.find(&address(1), INBOX, 29_999).unwrap().info.uid,
        29_999
    );
    assert!(!index.has_account(&address(2)) && index.has_account(&address(2999)));
    let (overlay, _) = index.bytes();
    assert!(overlay < 10_000, "{overlay}");
}
