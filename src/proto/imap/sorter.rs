//! Puts messages in order by keys, a few at a time.
//!
//! A key is bytes whose order is that of the message: numbers and texts are packed so that they
//! compare from the first byte to the last, and no key is the start of another one. Messages are
//! sorted in runs as they come, and the runs are merged piece by piece: no step takes long, however
//! many messages there are.
//!
//! Guarantees: messages with equal keys come in the order of their UIDs; memory is bounded by
//! [`IMAP_ORDER_BYTES_MAX`] and 12 bytes a message.
//! Does not know: what the keys mean.
//! On failure: [`Sorter::end_key`] refuses what is above the bound; nothing is lost by it.

use crate::limits::{IMAP_ORDER_BYTES_MAX, IMAP_SLICE_MESSAGES, SORT_KEY_BYTES_MAX};

/// Bytes of keys that are allocated at once: growing moves nothing.
const CHUNK_BYTES: usize = 64 * 1024;
/// Bytes of one message's key: nine texts, every byte of them escaped.
const KEY_BYTES_MAX: usize = 9 * (2 * SORT_KEY_BYTES_MAX + 1);
const _: () = assert!(KEY_BYTES_MAX <= CHUNK_BYTES && KEY_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(IMAP_ORDER_BYTES_MAX.div_ceil(CHUNK_BYTES) < u16::MAX as usize);

/// Ends a text.
const END: u8 = 0;
/// Stands in front of a byte that is not above it.
const ESCAPE: u8 = 1;

/// Messages that are being put in order.
#[derive(Debug, Default)]
pub(super) struct Sorter {
    chunks: Vec<Vec<u8>>,
    /// The key that is being made.
    key: Vec<u8>,
    key_bytes: usize,
    messages: Vec<Message>,
    /// Where the runs end that are sorted.
    runs: Vec<u32>,
    /// Runs with what is left of them, as a heap: the first message of all is at its top.
    heap: Vec<(u32, u32)>,
}

#[derive(Debug, Clone, Copy)]
struct Message {
    chunk: u16,
    offset: u16,
    length: u16,
    uid: u32,
}

/// More keys than there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMuch;

impl Sorter {
    /// Bytes of memory held beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        self.chunks.len() * CHUNK_BYTES
            + self.messages.capacity() * size_of::<Message>()
            + self.runs.capacity() * 4
            + self.heap.capacity() * 8
    }

    /// Adds a number to the key; `reverse`: higher ones come first.
    pub(super) fn push_number(&mut self, number: i64, reverse: bool) {
        // With the sign's bit turned, negative ones lie below.
        let bits = number.cast_unsigned() ^ 1 << 63;
        self.push(bits.to_be_bytes(), reverse);
    }

    /// Adds a text to the key, of which at most [`SORT_KEY_BYTES_MAX`] bytes count.
    pub(super) fn push_text(&mut self, text: &[u8], reverse: bool) {
        let text = &text[..text.len().min(SORT_KEY_BYTES_MAX)];
        for byte in text {
            if *byte <= ESCAPE {
                self.push([ESCAPE, byte + 1], reverse);
            } else {
                self.push([*byte], reverse);
            }
        }
        self.push([END], reverse);
    }

    fn push<const N: usize>(&mut self, bytes: [u8; N], reverse: bool) {
        let turn = if reverse { 0xff } else { 0 };
        self.key.extend(bytes.map(|byte| byte ^ turn));
    }

    /// The key is complete, and this message's; its UID is above all others.
    pub(super) fn end_key(&mut self, uid: u32) -> Result<(), TooMuch> {
        let key = std::mem::take(&mut self.key);
        self.key_bytes += key.len() + size_of::<Message>();
        if self.key_bytes > IMAP_ORDER_BYTES_MAX {
            return Err(TooMuch);
        }
        let has_room = |chunk: &Vec<u8>| chunk.len() + key.len() <= CHUNK_BYTES;
        if !self.chunks.last().is_some_and(has_room) {
            self.chunks.push(Vec::with_capacity(CHUNK_BYTES));
        }
        let chunk = self.chunks.len() - 1;
        let offset = self.chunks[chunk].len();
        self.chunks[chunk].extend_from_slice(&key);
        // All within the bounds that are asserted above.
        self.messages.push(Message {
            chunk: chunk as u16,
            offset: offset as u16,
            length: key.len() as u16,
            uid,
        });
        self.key = key;
        self.key.clear();
        if self.messages.len() - self.sorted() >= IMAP_SLICE_MESSAGES {
            self.end_run();
        }
        Ok(())
    }

    fn sorted(&self) -> usize {
        self.runs.last().map_or(0, |end| *end as usize)
    }

    fn end_run(&mut self) {
        let start = self.sorted();
        let mut run = std::mem::take(&mut self.messages);
        run[start..].sort_unstable_by_key(|message| self.order(message));
        self.messages = run;
        self.runs.push(self.messages.len() as u32);
    }

    fn order(&self, message: &Message) -> (&[u8], u32) {
        let chunk = &self.chunks[usize::from(message.chunk)];
        let start = usize::from(message.offset);
        (
            &chunk[start..start + usize::from(message.length)],
            message.uid,
        )
    }

    /// All messages are there: from now on only [`Sorter::next`] is called.
    pub(super) fn finish(&mut self) {
        if self.sorted() < self.messages.len() {
            self.end_run();
        }
        let mut start = 0;
        for end in &self.runs {
            self.heap.push((start, *end));
            start = *end;
        }
        for place in (0..self.heap.len() / 2).rev() {
            self.sift(place);
        }
    }

    /// The next UID in order; `None`: that was all.
    pub(super) fn next(&mut self) -> Option<u32> {
        let (first, end) = *self.heap.first()?;
        let uid = self.messages[first as usize].uid;
        if first + 1 < end {
            self.heap[0].0 = first + 1;
        } else {
            self.heap.swap_remove(0);
        }
        self.sift(0);
        Some(uid)
    }

    fn head(&self, place: usize) -> (&[u8], u32) {
        self.order(&self.messages[self.heap[place].0 as usize])
    }

    /// Brings what stands at `place` down to where it belongs.
    fn sift(&mut self, mut place: usize) {
        loop {
            let mut least = place;
            for below in [2 * place + 1, 2 * place + 2] {
                if below < self.heap.len() && self.head(below) < self.head(least) {
                    least = below;
                }
            }
            if least == place {
                return;
            }
            self.heap.swap(place, least);
            place = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(mut sorter: Sorter) -> Vec<u32> {
        sorter.finish();
        std::iter::from_fn(|| sorter.next()).collect()
    }

    proptest! {
        #[test]
        fn as_the_standard_library_sorts(
            messages in prop::collection::vec(("[\\x00\\x01\\x02ab\u{ff}]{0,3}", any::<i64>(), -2i64..2), 0..60),
            turned: (bool, bool, bool),
        ) {
            // Every text is there often enough for several runs.
            let times = 1 + 3 * IMAP_SLICE_MESSAGES / messages.len().max(1);
            let mut sorter = Sorter::default();
            let mut plain = Vec::new();
            let mut uid = 0;
            for (text, far, near) in messages.iter().cycle().take(messages.len() * times) {
                uid += 1;
                sorter.push_number(*near, turned.0);
                sorter.push_text(text.as_bytes(), turned.1);
                sorter.push_number(*far, turned.2);
                prop_assert_eq!(sorter.end_key(uid), Ok(()));
                plain.push((*near, text.as_bytes(), *far, uid));
            }
            plain.sort_by(|a, b| {
                let turn = |order: std::cmp::Ordering, is_turned| if is_turned { order.reverse() } else { order };
                turn(a.0.cmp(&b.0), turned.0)
                    .then(turn(a.1.cmp(b.1), turned.1))
                    .then(turn(a.2.cmp(&b.2), turned.2))
                    .then(a.3.cmp(&b.3))
            });
            prop_assert_eq!(all(sorter), plain.iter().map(|it| it.3).collect::<Vec<_>>());
        }
    }

    #[test]
    fn keys_have_a_bound() {
        let mut sorter = Sorter::default();
        let text = [1; SORT_KEY_BYTES_MAX + 1];
        let mut taken = Vec::new();
        let refused = loop {
            for _ in 0..9 {
                sorter.push_text(&text, taken.len() % 2 == 1);
            }
            let uid = taken.len() as u32;
            match sorter.end_key(uid) {
                Ok(()) => taken.push(uid),
                Err(TooMuch) => break uid,
            }
        };
        let each = KEY_BYTES_MAX + size_of::<Message>();
        assert_eq!(refused as usize, IMAP_ORDER_BYTES_MAX / each);
        assert!(sorter.held_bytes() <= IMAP_ORDER_BYTES_MAX * 9 / 8);
        taken.sort_by_key(|uid| uid % 2);
        assert!(all(sorter) == taken, "what was taken is still there");
    }
}
