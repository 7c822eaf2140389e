//! SORT and THREAD (RFC 5256; ESORT RFC 5267, SORT=DISPLAY RFC 5957): what was found, in its order.
//!
//! Guarantees: keys come of listings and summaries alone, no body is read; messages that are equal
//! stay in the order of their numbers.
//! Does not know: how messages are found and written.
//! On failure: a message whose summary cannot be read ends the command.

use std::cmp::Reverse;

use super::super::Row;
use super::super::command::{Order, SortBy, ThreadBy};
use crate::limits::{IMAP_SLICE_MESSAGES, IMAP_THREAD_MESSAGES_MAX};
use crate::mail::mime::{
    MessageIdHash, Summary, ThreadKeys, thread_by_references, thread_by_subject,
};

/// Messages whose summaries are asked for at once.
const SLICE: usize = IMAP_SLICE_MESSAGES / 8;

/// Messages that are being put in order.
pub(super) struct Ordering {
    order: Order,
    /// Found, in the order of UIDs.
    rows: Vec<Found>,
    /// Of the first so many, keys are there.
    sort_keys: Vec<(Vec<Key>, u32)>,
    thread_keys: Vec<OwnKeys>,
}

/// What the listing tells of a message.
struct Found {
    uid: u32,
    email_id: u64,
    date_ms: u64,
    bytes: u64,
}

/// One key; those at the same place of two messages are of the same kind.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Number(i64),
    Text(Box<[u8]>),
    NumberDown(Reverse<i64>),
    TextDown(Reverse<Box<[u8]>>),
}

/// As [`ThreadKeys`], with a subject of its own.
struct OwnKeys {
    message_id: Option<MessageIdHash>,
    references: Vec<MessageIdHash>,
    subject: Box<[u8]>,
    is_reply: bool,
    date_seconds: i64,
}

impl Ordering {
    pub(super) fn new(order: Order) -> Ordering {
        Ordering {
            order,
            rows: Vec::new(),
            sort_keys: Vec::new(),
            thread_keys: Vec::new(),
        }
    }

    /// Bytes of memory held beside itself, texts left out.
    pub(super) fn held_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Found>()
            + self.sort_keys.capacity() * 64
            + self.thread_keys.capacity() * size_of::<OwnKeys>()
    }

    /// It threads, more messages than that are threaded at once.
    pub(super) fn is_too_long(&self) -> bool {
        matches!(self.order, Order::Thread(_)) && self.rows.len() > IMAP_THREAD_MESSAGES_MAX
    }

    /// A message was found.
    pub(super) fn add(&mut self, row: &Row) {
        self.rows.push(Found {
            uid: row.uid,
            email_id: row.email_id,
            date_ms: row.date_ms,
            bytes: row.bytes,
        });
    }

    fn done(&self) -> usize {
        self.sort_keys.len().max(self.thread_keys.len())
    }

    /// The next messages whose summaries are needed, as UID and `email_id`; `None`: none are.
    pub(super) fn next(&mut self) -> Option<Vec<(u32, u64)>> {
        let inside = match &self.order {
            Order::Thread(_) => true,
            Order::Sort(keys) => keys
                .iter()
                .any(|(by, _)| !matches!(by, SortBy::Arrival | SortBy::Size)),
        };
        if !inside && self.sort_keys.is_empty() {
            for index in 0..self.rows.len() {
                let key = self.sort_key(index, None);
                self.sort_keys.push(key);
            }
        }
        let left = &self.rows[self.done()..];
        let messages = left.iter().take(SLICE).map(|row| (row.uid, row.email_id));
        Some(messages.collect()).filter(|messages: &Vec<_>| !messages.is_empty())
    }

    /// Takes the summary of the next message; `false`: it is none.
    pub(super) fn take(&mut self, summary: &[u8]) -> bool {
        let Ok(summary) = Summary::decode(summary) else {
            return false;
        };
        let index = self.done();
        let Some(row) = self.rows.get(index) else {
            return false;
        };
        if matches!(self.order, Order::Sort(_)) {
            let key = self.sort_key(index, Some(&summary));
            self.sort_keys.push(key);
            return true;
        }
        self.thread_keys.push(OwnKeys {
            message_id: summary.message_id(),
            references: summary.references().collect(),
            subject: summary.subject_key().into(),
            is_reply: summary.is_reply(),
            date_seconds: sent_seconds(row, Some(&summary)),
        });
        true
    }

    /// The next message has been expunged: what the listing told of it must do.
    pub(super) fn take_nothing(&mut self) {
        let index = self.done();
        let Some(row) = self.rows.get(index) else {
            return;
        };
        if matches!(self.order, Order::Sort(_)) {
            let key = self.sort_key(index, None);
            self.sort_keys.push(key);
            return;
        }
        self.thread_keys.push(OwnKeys {
            message_id: None,
            references: Vec::new(),
            subject: Box::default(),
            is_reply: false,
            date_seconds: sent_seconds(row, None),
        });
    }

    fn sort_key(&self, index: usize, summary: Option<&Summary<'_>>) -> (Vec<Key>, u32) {
        let row = &self.rows[index];
        let keys: &[(SortBy, bool)] = match &self.order {
            Order::Sort(keys) => keys,
            Order::Thread(_) => &[],
        };
        let keys = keys.iter().map(|(by, reverse)| {
            let text = |of: fn(&Summary<'_>) -> Vec<u8>| {
                let text: Box<[u8]> = summary.map(of).unwrap_or_default().into();
                match reverse {
                    true => Key::TextDown(Reverse(text)),
                    false => Key::Text(text),
                }
            };
            let number = |number: i64| match reverse {
                true => Key::NumberDown(Reverse(number)),
                false => Key::Number(number),
            };
            match by {
                // Messages of one moment came in the order of their UIDs.
                SortBy::Arrival => number(i64::try_from(row.date_ms).unwrap_or(i64::MAX)),
                SortBy::Size => number(i64::try_from(row.bytes).unwrap_or(i64::MAX)),
                SortBy::Date => number(sent_seconds(row, summary)),
                SortBy::Subject => text(|summary| summary.subject_key().to_vec()),
                SortBy::From => text(|summary| summary.from_key().to_vec()),
                SortBy::To => text(|summary| summary.to_key().to_vec()),
                SortBy::Cc => text(|summary| summary.cc_key().to_vec()),
                SortBy::DisplayFrom => text(|summary| summary.display_from_key().to_vec()),
                SortBy::DisplayTo => text(|summary| summary.display_to_key().to_vec()),
            }
        });
        (keys.collect(), row.uid)
    }

    /// UIDs in the order that was asked for.
    pub(super) fn sorted(&mut self) -> Vec<u32> {
        let mut keys = std::mem::take(&mut self.sort_keys);
        keys.sort_unstable();
        keys.into_iter().map(|(_, uid)| uid).collect()
    }

    /// Threads as they are written; `number` is what the client knows a UID by.
    pub(super) fn threads(&mut self, number: impl Fn(u32) -> u32) -> Vec<u8> {
        let own = std::mem::take(&mut self.thread_keys);
        let keys: Vec<ThreadKeys<'_>> = own
            .iter()
            .map(|own| ThreadKeys {
                message_id: own.message_id,
                references: own.references.clone(),
                subject: &own.subject,
                is_reply: own.is_reply,
                date_seconds: own.date_seconds,
            })
            .collect();
        let threads = match self.order {
            Order::Thread(ThreadBy::OrderedSubject) => thread_by_subject(&keys),
            _ => thread_by_references(&keys),
        };
        let mut out = Vec::new();
        threads.write(|index| number(self.rows[index].uid), &mut out);
        out
    }
}

/// When a message was sent, or else when it came (RFC 5256 §2.2).
fn sent_seconds(row: &Found, summary: Option<&Summary<'_>>) -> i64 {
    match summary.and_then(Summary::sent) {
        Some(sent) => sent.unix_seconds,
        None => i64::try_from(row.date_ms / 1000).unwrap_or(i64::MAX),
    }
}
