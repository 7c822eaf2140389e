//! Reads a sealed index: see [`super::format`] for its bytes.
//!
//! Guarantees: [`Sealed::open`] has seen every byte; what it lets pass can be read without a
//! further error. Even if the bytes changed afterwards, reading gives wrong answers, but does not
//! panic.
//! Does not know: layers above it, files.
//! On failure: says what is wrong; the index is rebuilt from the log then.

use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;

use super::bodies::Body;
use super::format::{
    self, ACCOUNTS, AccountRow, BODIES, BoxRow, CACHES, CHUNK_LISTS, CHUNKS, Footer, Header,
    KEY_TEXT, KEYS, KeyRow, MAILBOXES, MARK_ORDER, MARKS, MESSAGES, NAMES, NO_ROW, PARTS,
    ROW_BYTES, SECTIONS, SEGMENTS, TEXT, VANISHED, number,
};
use super::layer::{CacheEntry, Fields, KeyEntry};
use super::mailbox::BoxFields;
use super::marks::Mark;
use super::message::Message;
use super::usage::Segments;
use super::{IndexError, Usage};
use crate::mail::Address;
use crate::store::{MailboxId, Sequence, Uid};

/// A sealed index whose bytes were checked.
pub(super) struct Sealed {
    bytes: Rc<dyn AsRef<[u8]>>,
    header: Header,
    messages: u64,
    sections: [Range<usize>; SECTIONS],
    /// Numbers of the segments in memory, by their rows in the file.
    numbers: Vec<u32>,
    /// Number of every [`STRIDE`]th body: a search goes to one stretch of the file.
    body_seqs: Vec<Sequence>,
}

/// How a file comes to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// At the start of the program: every byte, and the usage of segments is taken over.
    AtStart,
    /// Just written: every byte.
    Whole,
    /// Just written, and [`super::SealWriter::compare`] has seen every byte.
    Compared,
}

/// Bodies of a stretch of the file, 5 KiB.
const STRIDE: usize = 256;

fn wrong(section: &str, row: usize, what: &str) -> IndexError {
    IndexError(format!("{section}, row {row}: {what}"))
}

impl Sealed {
    /// Takes over the bytes of a file after checking them. `segments` gets a number for each
    /// segment named, and at the start their usage.
    pub(super) fn open(
        bytes: Rc<dyn AsRef<[u8]>>,
        check: Check,
        segments: &mut Segments,
    ) -> Result<Sealed, IndexError> {
        let file = bytes.as_ref().as_ref();
        let header = Header::decode(file)?;
        let footer = Footer::decode(file)?;
        let mut sections = [const { 0..0 }; SECTIONS];
        for (index, section) in footer.sections.iter().enumerate() {
            let start = section.offset as usize;
            sections[index] = start..start + section.length as usize;
            if check != Check::Compared
                && crc32c::crc32c(&file[sections[index].clone()]) != section.crc
            {
                return Err(IndexError(format!(
                    "the checksum of section {index} is wrong"
                )));
            }
        }
        let mut sealed = Sealed {
            bytes: Rc::clone(&bytes),
            header,
            messages: footer.messages,
            sections,
            numbers: Vec::new(),
            body_seqs: Vec::new(),
        };
        if check != Check::Compared {
            sealed.check()?;
        }
        let strides = sealed.all(BODIES).step_by(STRIDE);
        sealed.body_seqs = strides.map(|row| number(row, 0, 6)).collect();
        sealed.numbers = (0..sealed.rows(SEGMENTS))
            .map(|index| {
                let row = sealed.row(SEGMENTS, index);
                let usage = Usage {
                    live_bytes: number(row, 8, 8),
                    youngest_expunge_ms: number(row, 16, 8),
                };
                if check == Check::AtStart {
                    segments.restore(number(row, 0, 8), usage)
                } else {
                    segments.number(number(row, 0, 8))
                }
            })
            .collect();
        Ok(sealed)
    }

    /// Everything that the checksums do not say: order, bounds, counts that agree.
    fn check(&self) -> Result<(), IndexError> {
        let segment_ok = |row: &[u8], at: usize| {
            let segment = number(row, at, 3);
            segment == NO_ROW || segment < self.rows(SEGMENTS) as u64
        };
        self.check_ascending(SEGMENTS, 8, "SEGMENTS")?;
        self.check_ascending(BODIES, 6, "BODIES")?;
        self.check_ascending(CHUNK_LISTS, 8, "CHUNK LISTS")?;
        for (index, row) in self.all(BODIES).enumerate() {
            if !segment_ok(row, 6) {
                return Err(wrong("BODIES", index, "no such segment"));
            }
        }
        let mut next = 0;
        for (index, row) in self.all(CHUNK_LISTS).enumerate() {
            if number(row, 8, 4) != next {
                return Err(wrong("CHUNK LISTS", index, "out of place"));
            }
            next += number(row, 12, 4);
        }
        if next != self.rows(CHUNKS) as u64 {
            return Err(IndexError("CHUNKS: not as many as listed".into()));
        }
        self.check_ascending(CACHES, 6, "CACHES")?;
        for (index, row) in self.all(CACHES).enumerate() {
            if !segment_ok(row, 12) {
                return Err(wrong("CACHES", index, "no such segment"));
            }
        }
        self.check_accounts(&segment_ok)?;
        self.check_mailboxes(&segment_ok)?;
        let mut text = 0;
        let mut before: Option<&[u8]> = None;
        for (index, row) in self.all(KEYS).enumerate() {
            let key = format::key(row, &[]);
            let name = self.text(KEY_TEXT, key.text_offset, key.key_length);
            if key.text_offset != text || !segment_ok(row, 21) {
                return Err(wrong("KEYS", index, "out of place, or no such segment"));
            }
            text += key.key_length + key.value_length;
            if before.is_some_and(|before| name <= before) || text > self.rows(KEY_TEXT) as u64 {
                return Err(wrong("KEYS", index, "not in order, or too long"));
            }
            before = Some(name);
        }
        if text != self.rows(KEY_TEXT) as u64 {
            return Err(IndexError("KEY TEXT: not as long as named".into()));
        }
        Ok(())
    }

    fn check_accounts(&self, segment_ok: &dyn Fn(&[u8], usize) -> bool) -> Result<(), IndexError> {
        let (mut first, mut text) = (0, 0);
        let mut before: &[u8] = &[];
        for (index, row) in self.all(ACCOUNTS).enumerate() {
            let account = format::account(row, &[]);
            let strings = self.text(TEXT, account.text_offset, account.address_length);
            if account.first_box != first || account.text_offset != text || account.boxes == 0 {
                return Err(wrong("ACCOUNTS", index, "out of place"));
            }
            if strings <= before {
                return Err(wrong("ACCOUNTS", index, "not in order"));
            }
            before = strings;
            if !segment_ok(row, 24) {
                return Err(wrong("ACCOUNTS", index, "no such segment"));
            }
            let address = std::str::from_utf8(strings).ok();
            if address.is_none_or(|text| Address::parse(text).is_err()) {
                return Err(wrong("ACCOUNTS", index, "not an address"));
            }
            let hash_offset = account.text_offset + account.address_length;
            let hash = self.text(TEXT, hash_offset, account.hash_length);
            if std::str::from_utf8(hash).is_err() {
                return Err(wrong("ACCOUNTS", index, "not a password hash"));
            }
            let end = first + account.boxes;
            if end > self.rows(MAILBOXES) as u64 {
                return Err(wrong("ACCOUNTS", index, "more mailboxes than there are"));
            }
            let mut ids = (first..end).map(|row| self.box_id(row as usize).0);
            if ids.next() != Some(0)
                || !(first..end)
                    .map(|row| self.box_id(row as usize))
                    .is_sorted_by(|a, b| a < b)
            {
                return Err(wrong("ACCOUNTS", index, "its mailboxes are not in order"));
            }
            first = end;
            text = hash_offset + account.hash_length;
        }
        if first != self.rows(MAILBOXES) as u64 {
            return Err(IndexError("MAILBOXES: not as many as named".into()));
        }
        if text != self.rows(TEXT) as u64 {
            return Err(IndexError("TEXT: not as long as named".into()));
        }
        Ok(())
    }

    fn check_mailboxes(&self, segment_ok: &dyn Fn(&[u8], usize) -> bool) -> Result<(), IndexError> {
        let mut text = 0;
        let mut ends = [0; PARTS.len()];
        for (index, row) in self.all(MAILBOXES).enumerate() {
            let own = format::mailbox(row, &[]);
            let strings = self.text(
                NAMES,
                own.text_offset,
                own.name_length + own.keywords_length,
            );
            if own.text_offset != text || std::str::from_utf8(strings).is_err() {
                return Err(wrong(
                    "MAILBOXES",
                    index,
                    "its name is out of place or none",
                ));
            }
            let name = self.text(NAMES, own.text_offset, own.name_length);
            if std::str::from_utf8(name).is_err() {
                return Err(wrong("MAILBOXES", index, "its name is none"));
            }
            text += own.name_length + own.keywords_length;
            if !segment_ok(row, 12) || !segment_ok(row, 36) {
                return Err(wrong("MAILBOXES", index, "no such segment"));
            }
            for ((part, end), section) in own.parts.iter().zip(&mut ends).zip(PARTS) {
                let last = part.first + part.rows;
                if part.first != *end || last > self.rows(section) as u64 {
                    return Err(wrong("MAILBOXES", index, "its rows are out of place"));
                }
                *end = last;
                let rows = (part.first..last).map(|row| self.row(section, row as usize));
                let is_by_seq = section == MARK_ORDER || section == VANISHED;
                let width = if is_by_seq { 6 } else { 4 };
                let mut before = None;
                for (row_index, row) in (part.first as usize..).zip(rows) {
                    let key = (
                        number(row, 0, width),
                        if is_by_seq { number(row, 6, 4) } else { 0 },
                    );
                    if before.is_some_and(|before| key <= before) {
                        return Err(wrong("a mailbox's rows", row_index, "not in order"));
                    }
                    before = Some(key);
                    if !is_by_seq && !segment_ok(row, 4) {
                        return Err(wrong("a mailbox's rows", row_index, "no such segment"));
                    }
                    if section == VANISHED && number(row, 6, 4) > number(row, 10, 4) {
                        return Err(wrong("VANISHED", row_index, "ends before it begins"));
                    }
                }
            }
        }
        for (end, section) in ends.into_iter().zip(PARTS) {
            if end != self.rows(section) as u64 {
                return Err(IndexError(format!(
                    "section {section}: not as many as counted"
                )));
            }
        }
        if ends[0] != self.messages {
            return Err(IndexError("MESSAGES: not as many as counted".into()));
        }
        if text != self.rows(NAMES) as u64 {
            return Err(IndexError("NAMES: not as long as named".into()));
        }
        Ok(())
    }

    fn check_ascending(&self, section: usize, width: usize, name: &str) -> Result<(), IndexError> {
        let mut before = None;
        for (index, row) in self.all(section).enumerate() {
            let value = Some(number(row, 0, width));
            if value <= before {
                return Err(wrong(name, index, "not in order"));
            }
            before = value;
        }
        Ok(())
    }

    fn section(&self, section: usize) -> &[u8] {
        let file = (*self.bytes).as_ref();
        file.get(self.sections[section].clone()).unwrap_or(&[])
    }

    fn all(&self, section: usize) -> impl Iterator<Item = &[u8]> {
        self.section(section).chunks_exact(ROW_BYTES[section])
    }

    /// Rows of a section.
    pub(super) fn rows(&self, section: usize) -> usize {
        self.sections[section].len() / ROW_BYTES[section]
    }

    fn row(&self, section: usize, index: usize) -> &[u8] {
        let width = ROW_BYTES[section];
        let start = index.saturating_mul(width);
        self.section(section)
            .get(start..start.saturating_add(width))
            .unwrap_or(&[])
    }

    fn text(&self, section: usize, offset: u64, length: u64) -> &[u8] {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = usize::try_from(offset.saturating_add(length)).unwrap_or(usize::MAX);
        self.section(section).get(start..end).unwrap_or(&[])
    }

    /// The first row in `range` for which `less` does not hold.
    fn search(&self, section: usize, range: Range<usize>, less: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if less(self.row(section, middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// What the header says.
    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Live messages.
    pub(super) fn live_messages(&self) -> u64 {
        self.messages
    }

    /// The highest sequence number whose record is in here.
    pub(super) fn covers(&self) -> Sequence {
        self.header.covers
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> usize {
        (*self.bytes).as_ref().len()
    }

    fn account_row(&self, account: usize) -> AccountRow {
        format::account(self.row(ACCOUNTS, account), &self.numbers)
    }

    /// Address of a row, as bytes.
    pub(super) fn address(&self, account: usize) -> &[u8] {
        let row = self.row(ACCOUNTS, account);
        self.text(TEXT, number(row, 0, 5), number(row, 5, 2))
    }

    /// Row and fields of an account.
    pub(super) fn account(&self, address: &str) -> Option<(usize, Fields)> {
        let address = address.as_bytes();
        let count = self.rows(ACCOUNTS);
        let account = self.search(ACCOUNTS, 0..count, |row| {
            self.text(TEXT, number(row, 0, 5), number(row, 5, 2)) < address
        });
        if account == count || self.address(account) != address {
            return None;
        }
        Some((account, self.fields(account)))
    }

    /// Fields of a row.
    pub(super) fn fields(&self, account: usize) -> Fields {
        self.account_row(account).fields
    }

    /// Password hash of a row.
    pub(super) fn password_hash(&self, account: usize) -> Cow<'_, str> {
        let row = self.account_row(account);
        let offset = row.text_offset + row.address_length;
        String::from_utf8_lossy(self.text(TEXT, offset, row.hash_length))
    }

    /// Visits the addresses of all rows, in order.
    pub(super) fn for_each_address(&self, visit: &mut dyn FnMut(&Address)) {
        for account in 0..self.rows(ACCOUNTS) {
            let text = std::str::from_utf8(self.address(account)).unwrap_or_default();
            // Each was parsed when the file was checked.
            if let Ok(address) = Address::parse(text) {
                visit(&address);
            }
        }
    }

    /// Rows of MAILBOXES of an account, INBOX first.
    pub(super) fn box_rows(&self, account: usize) -> Range<usize> {
        let row = self.account_row(account);
        let first = row.first_box as usize;
        first..first + row.boxes as usize
    }

    /// Number of the mailbox of a row.
    pub(super) fn box_id(&self, row: usize) -> MailboxId {
        MailboxId(number(self.row(MAILBOXES, row), 0, 6))
    }

    /// Row of a mailbox of an account.
    pub(super) fn box_row(&self, account: usize, id: MailboxId) -> Option<usize> {
        let rows = self.box_rows(account);
        if id.is_inbox() {
            return Some(rows.start);
        }
        let row = self.search(MAILBOXES, rows.clone(), |row| number(row, 0, 6) < id.0);
        (rows.contains(&row) && self.box_id(row) == id).then_some(row)
    }

    fn mailbox(&self, row: usize) -> BoxRow {
        format::mailbox(self.row(MAILBOXES, row), &self.numbers)
    }

    /// Fields of a mailbox.
    pub(super) fn box_fields(&self, row: usize) -> BoxFields {
        self.mailbox(row).fields
    }

    /// Name of a mailbox.
    pub(super) fn box_name(&self, row: usize) -> &str {
        let own = self.mailbox(row);
        let name = self.text(NAMES, own.text_offset, own.name_length);
        std::str::from_utf8(name).unwrap_or_default()
    }

    /// Keywords of a mailbox as they are in NAMES.
    pub(super) fn keyword_text(&self, row: usize) -> &str {
        let own = self.mailbox(row);
        let offset = own.text_offset.saturating_add(own.name_length);
        let text = self.text(NAMES, offset, own.keywords_length);
        std::str::from_utf8(text).unwrap_or_default()
    }

    /// How many keywords a mailbox has.
    pub(super) fn keyword_count(&self, row: usize) -> usize {
        // Each has a zero byte behind it.
        memchr::memchr_iter(0, self.keyword_text(row).as_bytes()).count()
    }

    /// Keywords of a mailbox, by their bits.
    pub(super) fn keywords(&self, row: usize) -> Vec<Box<str>> {
        self.keyword_text(row)
            .split_terminator('\0')
            .map(Into::into)
            .collect()
    }

    fn part(&self, row: usize, place: usize) -> Range<usize> {
        let part = format::part(self.row(MAILBOXES, row), place);
        part.first as usize..(part.first + part.rows) as usize
    }

    /// Rows of the messages of a mailbox.
    pub(super) fn message_rows(&self, row: usize) -> Range<usize> {
        self.part(row, 0)
    }

    /// The same from a UID on.
    pub(super) fn message_rows_from(&self, row: usize, first: Uid) -> Range<usize> {
        let rows = self.message_rows(row);
        let start = self.search(MESSAGES, rows.clone(), |row| {
            number(row, 0, 4) < u64::from(first)
        });
        start..rows.end
    }

    /// UID of a message by its row.
    pub(super) fn uid_at(&self, index: usize) -> Uid {
        number(self.row(MESSAGES, index), 0, 4) as Uid
    }

    /// A message by its row.
    pub(super) fn message_at(&self, index: usize) -> Message {
        format::message(self.row(MESSAGES, index), &self.numbers)
    }

    /// A message of a mailbox.
    pub(super) fn message(&self, row: usize, uid: Uid) -> Option<Message> {
        let rows = self.message_rows_from(row, uid);
        if rows.is_empty() {
            return None;
        }
        let message = self.message_at(rows.start);
        (message.uid == uid).then_some(message)
    }

    /// UIDs of messages appended after this number.
    pub(super) fn uids_appended_since(
        &self,
        row: usize,
        seq: Sequence,
    ) -> impl Iterator<Item = Uid> {
        let rows = self.message_rows(row);
        let start = self.search(MESSAGES, rows.clone(), |row| number(row, 7, 6) <= seq);
        (start..rows.end).map(|index| self.uid_at(index))
    }

    /// Rows of the marks of a mailbox.
    pub(super) fn mark_rows(&self, row: usize) -> Range<usize> {
        self.part(row, 1)
    }

    /// The same from a UID on.
    pub(super) fn mark_rows_from(&self, row: usize, first: Uid) -> Range<usize> {
        let rows = self.mark_rows(row);
        let start = self.search(MARKS, rows.clone(), |row| {
            number(row, 0, 4) < u64::from(first)
        });
        start..rows.end
    }

    /// A mark by its row.
    pub(super) fn mark_at(&self, index: usize) -> Mark {
        format::mark(self.row(MARKS, index), &self.numbers)
    }

    /// The mark of a message.
    pub(super) fn mark(&self, row: usize, uid: Uid) -> Option<Mark> {
        let rows = self.mark_rows_from(row, uid);
        if rows.is_empty() {
            return None;
        }
        let mark = self.mark_at(rows.start);
        (mark.uid == uid).then_some(mark)
    }

    /// Rows of MARK ORDER of a mailbox.
    pub(super) fn order_rows(&self, row: usize) -> Range<usize> {
        self.part(row, 2)
    }

    /// Number and UID of a row of MARK ORDER.
    pub(super) fn order_at(&self, index: usize) -> (Sequence, Uid) {
        let (seq, uid, _) = format::numbered(self.row(MARK_ORDER, index));
        (seq, uid)
    }

    /// UIDs of messages whose flags were changed after this number.
    pub(super) fn uids_marked_since(&self, row: usize, seq: Sequence) -> impl Iterator<Item = Uid> {
        let rows = self.order_rows(row);
        let start = self.search(MARK_ORDER, rows.clone(), |row| number(row, 0, 6) <= seq);
        (start..rows.end).map(|index| self.order_at(index).1)
    }

    /// First UID, last UID and number of what vanished after this number.
    pub(super) fn vanished_since(
        &self,
        row: usize,
        seq: Sequence,
    ) -> impl Iterator<Item = (Uid, Uid, Sequence)> {
        let rows = self.part(row, 3);
        let start = self.search(VANISHED, rows.clone(), |row| number(row, 0, 6) <= seq);
        (start..rows.end).map(|index| {
            let (seq, first, last) = format::numbered(self.row(VANISHED, index));
            (first, last, seq)
        })
    }

    /// Body of a row of CACHES, and where what is kept beside it is.
    pub(super) fn cache_at(&self, index: usize) -> (Sequence, CacheEntry) {
        let row = self.row(CACHES, index);
        (number(row, 0, 6), format::cache(row, &self.numbers))
    }

    /// Where what is kept beside a body is.
    pub(super) fn cache(&self, body_seq: Sequence) -> Option<CacheEntry> {
        let count = self.rows(CACHES);
        let index = self.search(CACHES, 0..count, |row| number(row, 0, 6) < body_seq);
        let (own, entry) = self.cache_at(index);
        (index < count && own == body_seq).then_some(entry)
    }

    /// A body by its row.
    pub(super) fn body_at(&self, index: usize) -> Body {
        format::body(self.row(BODIES, index), &self.numbers)
    }

    /// Numbers of the bodies that nothing has named.
    pub(super) fn unnamed(&self) -> impl Iterator<Item = Sequence> {
        let bodies = self.all(BODIES).map(|row| format::body(row, &[]));
        bodies.filter(Body::is_unnamed).map(|body| body.seq())
    }

    /// A body by its number.
    pub(super) fn body(&self, seq: Sequence) -> Option<Body> {
        let stretch = self.body_seqs.partition_point(|first| *first <= seq);
        let start = stretch.checked_sub(1)? * STRIDE;
        let rows = start..self.rows(BODIES).min(start + STRIDE);
        let index = self.search(BODIES, rows.clone(), |row| number(row, 0, 6) < seq);
        let body = self.body_at(index);
        (rows.contains(&index) && body.seq() == seq).then_some(body)
    }

    /// Number of the final record of a row of chunk lists.
    pub(super) fn chunk_list_seq(&self, index: usize) -> Sequence {
        number(self.row(CHUNK_LISTS, index), 0, 8)
    }

    /// The chunks of a row of chunk lists.
    pub(super) fn chunks_at(&self, index: usize) -> Vec<Sequence> {
        let row = self.row(CHUNK_LISTS, index);
        let first = number(row, 8, 4) as usize;
        (first..first + number(row, 12, 4) as usize)
            .map(|index| number(self.row(CHUNKS, index), 0, 8))
            .collect()
    }

    /// Chunks of a streamed body.
    pub(super) fn chunks(&self, seq: Sequence) -> Option<Vec<Sequence>> {
        let count = self.rows(CHUNK_LISTS);
        let index = self.search(CHUNK_LISTS, 0..count, |row| number(row, 0, 8) < seq);
        (index < count && self.chunk_list_seq(index) == seq).then(|| self.chunks_at(index))
    }

    fn key_row(&self, index: usize) -> KeyRow {
        format::key(self.row(KEYS, index), &self.numbers)
    }

    fn key_text(&self, row: &[u8]) -> &[u8] {
        self.text(KEY_TEXT, number(row, 0, 6), number(row, 6, 4))
    }

    /// Key, value and record of a row.
    pub(super) fn key_at(&self, index: usize) -> (&[u8], &[u8], KeyRow) {
        let row = self.key_row(index);
        let key = self.text(KEY_TEXT, row.text_offset, row.key_length);
        let value = self.text(
            KEY_TEXT,
            row.text_offset.saturating_add(row.key_length),
            row.value_length,
        );
        (key, value, row)
    }

    fn key_index(&self, key: &[u8]) -> usize {
        self.search(KEYS, 0..self.rows(KEYS), |row| self.key_text(row) < key)
    }

    /// A key's value and record.
    pub(super) fn key(&self, key: &[u8]) -> Option<KeyEntry> {
        let index = self.key_index(key);
        let (own, value, row) = self.key_at(index);
        (index < self.rows(KEYS) && own == key).then(|| KeyEntry {
            seq: row.seq,
            segment: row.segment,
            value: Some(value.into()),
        })
    }

    /// Keys from `first` on, with their values.
    pub(super) fn keys_from(&self, first: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        (self.key_index(first)..self.rows(KEYS)).map(|index| {
            let (key, value, _) = self.key_at(index);
            (key, Some(value))
        })
    }
}
