//! A batch: records that become durable together, in one write.
//!
//! ```text
//!  0    4     8    12      16     24        32               40              44    45..48
//! +-----+-----+----+-------+------+---------+----------------+---------------+-----+------+
//! | crc |magic|len |records|epoch |first seq|durable segment |durable offset |level| zero |
//! +-----+-----+----+-------+------+---------+----------------+---------------+-----+------+
//! | records, `len` - 48 bytes                          | zeros to the next block          |
//! +----------------------------------------------------+----------------------------------+
//! ```
//!
//! Little endian. It starts on a block, so that no write touches a block that holds acknowledged
//! bytes. `crc` is the CRC32C of bytes 4 to 48, begun with the segment's realm; every record has
//! its own. "Durable" is the position in the log before which everything was durable when this
//! batch was written: what is damaged below it is corruption, not an unfinished write.
//!
//! Does not know: where it is written, what its records mean.

use super::Identity;
use super::record::{self, Realm, Record, RecordError, encode};
use super::segment::Position;
use crate::config::SyncLevel;
use crate::limits::{BATCH_BYTES_MAX, BLOCK_BYTES};

/// Bytes of the header.
pub const HEADER_BYTES: usize = 48;
const MAGIC: u32 = u32::from_le_bytes(*b"RPbt");

/// What a batch's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes of header and records.
    pub len: u32,
    /// Number of records.
    pub records: u32,
    /// The epoch it was written in.
    pub epoch: u64,
    /// Number of its first record.
    pub first_seq: u64,
    /// Everything before this was durable.
    pub durable: Position,
    /// It was brought to this level before anyone heard of it.
    pub level: SyncLevel,
}

impl Head {
    /// Bytes on disk, padding included.
    pub fn disk_bytes(&self) -> usize {
        (self.len as usize).next_multiple_of(BLOCK_BYTES)
    }
}

/// Empties `bytes` and leaves room for the header: records are encoded behind it.
pub fn begin(bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.resize(HEADER_BYTES, 0);
}

/// Completes a batch: all checksums, header, padding. `head.len` is what the bytes say.
pub fn seal(bytes: &mut Vec<u8>, head: &Head, realm: Realm) {
    encode::seal(&mut bytes[HEADER_BYTES..], realm);
    let len = bytes.len() as u32;
    let h = &mut bytes[..HEADER_BYTES];
    h[4..8].copy_from_slice(&MAGIC.to_le_bytes());
    h[8..12].copy_from_slice(&len.to_le_bytes());
    h[12..16].copy_from_slice(&head.records.to_le_bytes());
    h[16..24].copy_from_slice(&head.epoch.to_le_bytes());
    h[24..32].copy_from_slice(&head.first_seq.to_le_bytes());
    h[32..40].copy_from_slice(&head.durable.segment.to_le_bytes());
    h[40..44].copy_from_slice(&(head.durable.offset as u32).to_le_bytes());
    h[44..48].copy_from_slice(&[head.level as u8, 0, 0, 0]);
    let crc = realm.checksum(&h[4..]);
    h[..4].copy_from_slice(&crc.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
}

/// The header at the start of `bytes`, and the realm it is in; `None` when there is no batch of
/// this partition and segment. The records behind it are not looked at.
pub fn decode_head(bytes: &[u8], identity: Identity, generation: u64) -> Option<(Head, Realm)> {
    let h = bytes.get(..HEADER_BYTES)?;
    let u32_at = |at: usize| u32::from_le_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    if u32_at(4) != MAGIC {
        return None;
    }
    let epoch = u64_at(16);
    let realm = Realm::new(identity, generation, epoch);
    let level = match h[44] {
        0 => SyncLevel::None,
        1 => SyncLevel::Fdatasync,
        2 => SyncLevel::Fsync,
        _ => return None,
    };
    let head = Head {
        len: u32_at(8),
        records: u32_at(12),
        epoch,
        first_seq: u64_at(24),
        durable: Position {
            segment: u64_at(32),
            offset: u64::from(u32_at(40)),
        },
        level,
    };
    let fits = (HEADER_BYTES..=BATCH_BYTES_MAX).contains(&(head.len as usize));
    (fits && realm.checksum(&h[4..]) == u32_at(0)).then_some((head, realm))
}

/// The records of a batch, each with its offset from the batch's start. Ends behind the first that
/// cannot be read.
pub fn records(
    batch: &[u8],
    head: Head,
    realm: Realm,
) -> impl Iterator<Item = Result<(usize, Record<'_>), RecordError>> {
    let len = head.len as usize;
    let mut at = HEADER_BYTES;
    std::iter::from_fn(move || {
        if at >= len {
            return None;
        }
        let start = at;
        let decoded = match batch.get(start..len) {
            Some(bytes) => record::decode(bytes, realm),
            None => Err(RecordError::Short),
        };
        at = match &decoded {
            Ok(record) => start + record.disk_bytes,
            Err(_) => len,
        };
        Some(decoded.map(|record| (start, record)))
    })
}

/// Every record of the batch is there and readable; with `bodies`, all bytes of bodies too.
///
/// # Errors
/// What is wrong with the first bad record.
pub fn verify(batch: &[u8], head: Head, realm: Realm, bodies: bool) -> Result<(), RecordError> {
    let mut count = 0;
    for record in records(batch, head, realm) {
        let (_, record) = record?;
        count += 1;
        if let record::Payload::Body(body) = record.payload {
            if body.bytes().len() < body.own_bytes as usize {
                return Err(RecordError::Short);
            }
            if bodies && !body.is_whole() {
                return Err(RecordError::Checksum);
            }
        }
    }
    if count == head.records {
        Ok(())
    } else {
        Err(RecordError::Short)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDENTITY: Identity = Identity {
        store_id: 9,
        partition: 1,
    };

    fn sample(body_bytes: usize) -> (Vec<u8>, Head) {
        let mut bytes = Vec::new();
        begin(&mut bytes);
        encode::body(&mut bytes, 7, b"", &[], &vec![b'x'; body_bytes]);
        let message = encode::Append {
            address: "a@b",
            mailbox: crate::store::MailboxId::INBOX,
            uid: 1,
            body_seq: 7,
            bytes: body_bytes as u64,
            date_ms: 5,
            saved_ms: 5,
            flags: crate::store::Flags::NONE,
            keywords: &[],
        };
        encode::append(&mut bytes, 8, &message);
        let head = Head {
            len: bytes.len() as u32,
            records: 2,
            epoch: 3,
            first_seq: 7,
            durable: Position {
                segment: 4,
                offset: 8192,
            },
            level: SyncLevel::Fsync,
        };
        seal(&mut bytes, &head, Realm::new(IDENTITY, 4, 3));
        (bytes, head)
    }

    #[test]
    fn a_batch_comes_back_and_only_in_its_place() {
        let (bytes, head) = sample(5000);
        assert_eq!(bytes.len(), head.disk_bytes());
        let (decoded, realm) = decode_head(&bytes, IDENTITY, 4).unwrap();
        assert_eq!(decoded, head);
        assert_eq!(verify(&bytes, decoded, realm, true), Ok(()));
        let seqs: Vec<u64> = records(&bytes, head, realm)
            .map(|record| record.unwrap().1.seq)
            .collect();
        assert_eq!(seqs, [7, 8]);
        assert_eq!(decode_head(&bytes, IDENTITY, 5), None);
        let other = Identity {
            partition: 2,
            ..IDENTITY
        };
        assert_eq!(decode_head(&bytes, other, 4), None);
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(bit in any::<proptest::sample::Index>(), body in 0usize..9000) {
            let (mut bytes, head) = sample(body);
            let bit = bit.index(head.len as usize * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let bad = match decode_head(&bytes, IDENTITY, 4) {
                None => true,
                Some((head, realm)) => verify(&bytes, head, realm, true).is_err(),
            };
            // Padding of a record to 8 bytes says nothing.
            let original = sample(body).0;
            let (head, realm) = decode_head(&original, IDENTITY, 4).unwrap();
            let in_padding = records(&original, head, realm).any(|record| {
                let (at, record) = record.unwrap();
                let len = u32::from_le_bytes(original[at + 8..at + 12].try_into().unwrap());
                (at + record::HEADER_BYTES + len as usize..at + record.disk_bytes)
                    .contains(&(bit / 8))
            });
            prop_assert_eq!(bad, !in_padding);
        }

        #[test]
        fn anything_decodes_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 48..300)) {
            bytes[4..8].copy_from_slice(&MAGIC.to_le_bytes());
            let realm = Realm::new(IDENTITY, 1, u64::from_le_bytes(bytes[16..24].try_into().unwrap()));
            bytes[44] %= 3;
            let crc = realm.checksum(&bytes[4..48]);
            bytes[..4].copy_from_slice(&crc.to_le_bytes());
            if let Some((head, realm)) = decode_head(&bytes, IDENTITY, 1) {
                let _ = verify(&bytes, head, realm, true);
            }
        }
    }
}
