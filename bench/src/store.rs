//! The store: a message's records and the batch around them, and what they put into the index.

use std::hint::black_box;

use ringpost::config::SyncLevel;
use ringpost::mail::Address;
use ringpost::store::batch::{self, Head};
use ringpost::store::index::{Change, Index, Location};
use ringpost::store::record::encode;
use ringpost::store::segment::{self, Position};
use ringpost::store::{Account, Flags, Identity, MailboxId};

/// Messages of one run of [`insert`].
pub(crate) const INSERTS: u32 = 256;
/// Accounts that they go to.
const ACCOUNTS: u32 = 64;
/// Bytes from one body record to the next.
const RECORD_BYTES: u32 = 4608;

const IDENTITY: Identity = Identity {
    store_id: 0x5eed,
    partition: 7,
};

fn address(number: u32) -> Address {
    Address::parse(&format!("u{number}@bench.test")).expect("a good address")
}

/// Body and append of one message as a batch, with all its checksums: what a lone client's message
/// costs before it is written.
pub(crate) fn encode_batch(message: Vec<u8>) -> Box<dyn FnMut()> {
    let realm = segment::realm(IDENTITY, 42, 3);
    let trace = vec![b't'; 180];
    let mut bytes = Vec::new();
    Box::new(move || {
        batch::begin(&mut bytes);
        encode::body(&mut bytes, 1000, &trace, &[], black_box(&message));
        let message_bytes = (trace.len() + message.len()) as u64;
        let date_ms = 1_795_351_035_000;
        let append = encode::Append {
            address: "u123@bench.test",
            mailbox: MailboxId::INBOX,
            uid: 17,
            body_seq: 1000,
            bytes: message_bytes,
            date_ms,
            saved_ms: date_ms,
            flags: Flags::NONE,
            keywords: &[],
        };
        encode::append(&mut bytes, 1001, &append);
        let head = Head {
            len: bytes.len() as u32,
            records: 2,
            epoch: 3,
            first_seq: 1000,
            durable: Position {
                segment: 42,
                offset: 4096,
            },
            level: SyncLevel::Fdatasync,
        };
        batch::seal(&mut bytes, &head, realm);
        black_box(&bytes);
    })
}

/// Bodies and appends of [`INSERTS`] messages, into an index that is made and dropped with them.
pub(crate) fn insert() -> Box<dyn FnMut()> {
    let accounts: Vec<Account> = (0..ACCOUNTS)
        .map(|number| Account {
            address: address(number),
            password_hash: "$1$x$y".to_owned(),
            quota_bytes: 0,
        })
        .collect();
    let at = |number: u32, bytes| Location {
        segment: 1,
        offset: 4096 + number * RECORD_BYTES,
        bytes,
    };
    Box::new(move || {
        let mut index = Index::new();
        let mut seq = 0;
        let mut next = || {
            seq += 1;
            seq
        };
        for account in &accounts {
            let validity = 1;
            let change = Change::PutAccount { account, validity };
            index.apply(next(), at(0, 96), change);
        }
        for number in 0..INSERTS {
            let body_seq = next();
            let location = at(number, RECORD_BYTES - 128);
            let body = Change::Body {
                body_seq,
                location,
                chunks: &[],
            };
            index.apply(body_seq, location, body);
            let account = &accounts[(number % ACCOUNTS) as usize];
            let append = Change::Append {
                address: &account.address,
                mailbox: MailboxId::INBOX,
                uid: 1 + number / ACCOUNTS,
                body_seq,
                bytes: 4300,
                date_ms: 1_795_351_035_000,
                saved_ms: 1_795_351_035_000,
                flags: Flags::NONE,
                keywords: &[],
            };
            index.apply(next(), at(number, 128), black_box(append));
        }
        assert_eq!(index.messages(), u64::from(INSERTS));
    })
}
