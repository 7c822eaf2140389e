//! One mailbox in memory.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use ringpost::proto::imap::{
    Entry, Flags, Refusal, Rights, Row, StoreFlags, StoreHow, Stored, TextKey, View, compare, sets,
};

use super::DAY_MS;

/// One message.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) row: Row,
    pub(super) keywords: Vec<String>,
    pub(super) body: Rc<[u8]>,
}

/// One mailbox.
#[derive(Debug, Default)]
pub(super) struct Folder {
    pub(super) id: u64,
    pub(super) validity: u32,
    pub(super) uid_next: u32,
    pub(super) modseq: u64,
    pub(super) special_use: Option<&'static str>,
    pub(super) keywords: Vec<String>,
    pub(super) messages: Vec<Message>,
    pub(super) vanished: Vec<(u64, u32)>,
    /// What the user may do: less than all with somebody else's.
    pub(super) rights: Rights,
    pub(super) access: BTreeMap<String, Rights>,
    pub(super) annotations: BTreeMap<Entry, Vec<u8>>,
}

impl Folder {
    pub(super) fn view(&self) -> Arc<View> {
        let uids = self.messages.iter().map(|message| message.row.uid);
        Arc::new(View::new(uids.map(|uid| (uid, uid))))
    }

    pub(super) fn find(&self, uid: u32) -> Result<&Message, Refusal> {
        let mut messages = self.messages.iter();
        messages
            .find(|message| message.row.uid == uid)
            .ok_or(Refusal::Gone)
    }

    pub(super) fn rows(
        &self,
        uids: &[(u32, u32)],
        since: Option<u64>,
        count_max: usize,
    ) -> Vec<Row> {
        let wanted = |uid: u32| sets::contains(uids, uid);
        self.messages
            .iter()
            .map(|message| message.row)
            .filter(|row| wanted(row.uid) && since.is_none_or(|since| row.modseq > since))
            .take(count_max)
            .collect()
    }

    pub(super) fn note_keywords(&mut self, message: &mut Message) {
        message.row.keywords = 0;
        for name in &message.keywords {
            let known = self
                .keywords
                .iter()
                .position(|known| known.eq_ignore_ascii_case(name));
            let bit = known.unwrap_or_else(|| {
                self.keywords.push(name.clone());
                self.keywords.len() - 1
            });
            message.row.keywords |= 1 << (bit % 64);
        }
    }

    pub(super) fn store(&mut self, change: &StoreFlags, modseq: u64) -> Stored {
        let mut stored = Stored::default();
        let mut messages = std::mem::take(&mut self.messages);
        for message in &mut messages {
            let uid = message.row.uid;
            if !sets::contains(&change.uids, uid) {
                continue;
            }
            if change
                .unchanged_since
                .is_some_and(|since| message.row.modseq > since)
            {
                stored.modified.push(uid);
                continue;
            }
            let before = (message.row.flags, message.row.keywords);
            let (new, keywords) = (change.flags.system, &change.flags.keywords);
            let named =
                |known: &String| keywords.iter().any(|name| name.eq_ignore_ascii_case(known));
            match change.how {
                StoreHow::Replace => {
                    message.row.flags = new;
                    message.keywords = keywords.clone();
                }
                StoreHow::Add => {
                    message.row.flags = message.row.flags.with(new);
                    message.keywords.extend(keywords.iter().cloned());
                }
                StoreHow::Remove => {
                    message.row.flags = Flags(message.row.flags.0 & !new.0);
                    message.keywords.retain(|known| !named(known));
                }
            }
            self.note_keywords(message);
            if before != (message.row.flags, message.row.keywords) {
                stored.before = stored.before.max(message.row.modseq);
                message.row.modseq = modseq;
                self.modseq = modseq;
                stored.modseq = Some(modseq);
            }
        }
        self.messages = messages;
        stored.keywords = Some(self.keywords.clone().into());
        stored
    }

    pub(super) fn expunge(&mut self, uids: &[u32], modseq: u64) {
        assert!(uids.is_sorted());
        let before = self.messages.len();
        self.messages
            .retain(|message| uids.binary_search(&message.row.uid).is_err());
        if self.messages.len() < before {
            self.modseq = modseq;
            self.vanished.extend(uids.iter().map(|uid| (modseq, *uid)));
        }
    }

    pub(super) fn matches(&self, uid: u32, texts: &[TextKey], wanted: u64) -> u64 {
        let Ok(message) = self.find(uid) else {
            return 0;
        };
        let text = String::from_utf8_lossy(&message.body).to_lowercase();
        let (header, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut found = 0;
        for (bit, key) in texts.iter().enumerate() {
            let holds = match key {
                TextKey::Header(name, value) => header.lines().any(|line| {
                    let prefix = format!("{}:", name.to_lowercase());
                    line.strip_prefix(&prefix)
                        .is_some_and(|is| is.contains(&value.to_lowercase()))
                }),
                TextKey::Body(value) => body.contains(&value.to_lowercase()),
                TextKey::Text(value) => text.contains(&value.to_lowercase()),
                TextKey::Sent(comparison, day) => {
                    compare((message.row.date_ms / DAY_MS) as i64, *comparison, *day)
                }
            };
            found |= u64::from(holds) << bit;
        }
        found & wanted
    }
}
