//! SORT and THREAD (RFC 5256; ESORT RFC 5267, SORT=DISPLAY RFC 5957): what was found, in its order.
//!
//! Guarantees: keys come of listings and summaries alone, no body is read; messages that are equal
//! stay in the order of their numbers. Of a message only its keys are kept, up to
//! [`IMAP_ORDER_BYTES_MAX`] in all; putting many of them in order goes by steps, or is the shard's.
//! Does not know: how messages are found and written.
//! On failure: a message whose summary cannot be read ends the command, and so do too many of them.

use super::super::command::{Order, SortBy, ThreadBy};
use super::super::sorter::{Sorter, TooMuch};
use super::super::{Row, Threading, sets};
use crate::limits::{
    IMAP_MERGE_MESSAGES, IMAP_ORDER_BYTES_MAX, IMAP_SLICE_MESSAGES, IMAP_THREAD_MESSAGES_MAX,
};
use crate::mail::mime::{Summary, ThreadKeys, ThreadList};

/// Messages whose summaries are asked for at once.
const SLICE: usize = IMAP_SLICE_MESSAGES / 8;

/// Messages that are being put in order.
pub(super) struct Ordering {
    /// Found, and without keys yet, in the order of UIDs: what one slice of the listing had.
    found: std::collections::VecDeque<Found>,
    kind: Kind,
}

enum Kind {
    Sort {
        /// `true`: REVERSE.
        by: Vec<(SortBy, bool)>,
        sorter: Sorter,
        /// What has been put in order so far: only what goes up is a range.
        numbers: Vec<(u32, u32)>,
    },
    Thread {
        by: ThreadBy,
        keys: ThreadList,
        uids: Vec<u32>,
    },
}

/// What the listing tells of a message.
struct Found {
    uid: u32,
    email_id: u64,
    date_ms: u64,
    bytes: u64,
}

/// Why it cannot go on.
pub(super) enum Trouble {
    /// Those are no summaries.
    Confused,
    /// More than can be put in order at once.
    TooMuch(String),
}

impl From<TooMuch> for Trouble {
    fn from(_: TooMuch) -> Trouble {
        Trouble::TooMuch(format!(
            "too many messages to be sorted: their keys have more than {IMAP_ORDER_BYTES_MAX} bytes"
        ))
    }
}

impl Ordering {
    pub(super) fn new(order: Order) -> Ordering {
        Ordering {
            found: std::collections::VecDeque::new(),
            kind: match order {
                Order::Sort(keys) => {
                    let mut by: Vec<(SortBy, bool)> = Vec::new();
                    for (key, reverse) in keys {
                        // Where it stands for the second time there is nothing left to decide.
                        if !by.iter().any(|(known, _)| *known == key) {
                            by.push((key, reverse));
                        }
                    }
                    Kind::Sort {
                        by,
                        sorter: Sorter::default(),
                        numbers: Vec::new(),
                    }
                }
                Order::Thread(by) => Kind::Thread {
                    by,
                    keys: ThreadList::default(),
                    uids: Vec::new(),
                },
            },
        }
    }

    /// Bytes of memory held beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        let kept = match &self.kind {
            Kind::Sort {
                sorter, numbers, ..
            } => sorter.held_bytes() + numbers.capacity() * 8,
            Kind::Thread { keys, uids, .. } => keys.held_bytes() + uids.capacity() * 4,
        };
        self.found.capacity() * size_of::<Found>() + kept
    }

    /// A message was found.
    pub(super) fn add(&mut self, row: &Row) {
        self.found.push_back(Found {
            uid: row.uid,
            email_id: row.email_id,
            date_ms: row.date_ms,
            bytes: row.bytes,
        });
    }

    /// The next messages whose summaries are needed, as UID and `email_id`; `None`: none are.
    pub(super) fn next(&mut self) -> Result<Option<Vec<(u32, u64)>>, Trouble> {
        if let Kind::Sort { by, sorter, .. } = &mut self.kind
            && by
                .iter()
                .all(|(by, _)| matches!(by, SortBy::Arrival | SortBy::Size))
        {
            for found in self.found.drain(..) {
                push_keys(sorter, by, &found, None);
                sorter.end_key(found.uid)?;
            }
        }
        let messages = self.found.iter().take(SLICE);
        let messages: Vec<(u32, u64)> = messages.map(|it| (it.uid, it.email_id)).collect();
        Ok(Some(messages).filter(|messages| !messages.is_empty()))
    }

    /// Takes the summary of the next message; `None`: the message is gone, and not put anywhere.
    pub(super) fn take(&mut self, summary: Option<&[u8]>) -> Result<(), Trouble> {
        let found = self.found.pop_front().ok_or(Trouble::Confused)?;
        let Some(summary) = summary else {
            return Ok(());
        };
        let summary = Summary::decode(summary).map_err(|_| Trouble::Confused)?;
        match &mut self.kind {
            Kind::Sort { by, sorter, .. } => {
                push_keys(sorter, by, &found, Some(&summary));
                sorter.end_key(found.uid)?;
            }
            Kind::Thread { keys, uids, .. } => {
                keys.push(&ThreadKeys {
                    message_id: summary.message_id(),
                    references: summary.references().collect(),
                    subject: summary.subject_key(),
                    is_reply: summary.is_reply(),
                    date_seconds: sent_seconds(&found, Some(&summary)),
                });
                uids.push(found.uid);
                if uids.len() > IMAP_THREAD_MESSAGES_MAX
                    || keys.held_bytes() > 2 * IMAP_ORDER_BYTES_MAX
                {
                    return Err(Trouble::TooMuch(format!(
                        "too many messages to be threaded: at most {IMAP_THREAD_MESSAGES_MAX}"
                    )));
                }
            }
        }
        Ok(())
    }

    /// All messages are there. What is to be threaded, for the shard; `None`: it sorts.
    pub(super) fn finish(&mut self, number: impl Fn(u32) -> u32) -> Option<Box<Threading>> {
        match &mut self.kind {
            Kind::Sort { sorter, .. } => {
                sorter.finish();
                None
            }
            Kind::Thread { by, keys, uids } => Some(Box::new(Threading {
                by: *by,
                keys: std::mem::take(keys),
                numbers: std::mem::take(uids).into_iter().map(number).collect(),
            })),
        }
    }

    /// Sorts on by some messages; the numbers of all in their order when it is done.
    pub(super) fn merge(&mut self, number: impl Fn(u32) -> u32) -> Option<Vec<(u32, u32)>> {
        let Kind::Sort {
            sorter, numbers, ..
        } = &mut self.kind
        else {
            return None;
        };
        for _ in 0..IMAP_MERGE_MESSAGES {
            match sorter.next() {
                Some(uid) => sets::push(numbers, number(uid)),
                None => return Some(std::mem::take(numbers)),
            }
        }
        None
    }
}

fn push_keys(
    sorter: &mut Sorter,
    by: &[(SortBy, bool)],
    found: &Found,
    summary: Option<&Summary<'_>>,
) {
    for (by, reverse) in by {
        let mut number = |number: i64| sorter.push_number(number, *reverse);
        let key = match by {
            // Messages of one moment came in the order of their UIDs.
            SortBy::Arrival => {
                number(i64::try_from(found.date_ms).unwrap_or(i64::MAX));
                continue;
            }
            SortBy::Size => {
                number(i64::try_from(found.bytes).unwrap_or(i64::MAX));
                continue;
            }
            SortBy::Date => {
                number(sent_seconds(found, summary));
                continue;
            }
            SortBy::Subject => summary.map(Summary::subject_key),
            SortBy::From => summary.map(Summary::from_key),
            SortBy::To => summary.map(Summary::to_key),
            SortBy::Cc => summary.map(Summary::cc_key),
            SortBy::DisplayFrom => summary.map(Summary::display_from_key),
            SortBy::DisplayTo => summary.map(Summary::display_to_key),
        };
        sorter.push_text(key.unwrap_or_default(), *reverse);
    }
}

/// When a message was sent, or else when it came (RFC 5256 §2.2).
fn sent_seconds(found: &Found, summary: Option<&Summary<'_>>) -> i64 {
    match summary.and_then(Summary::sent) {
        Some(sent) => sent.unix_seconds,
        None => i64::try_from(found.date_ms / 1000).unwrap_or(i64::MAX),
    }
}
