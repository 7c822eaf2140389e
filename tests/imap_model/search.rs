//! SEARCH: its keys, and which messages they mean.

use std::collections::BTreeSet;

use super::client::Selected;
use super::command::Set;
use super::sets::{has_number, has_uid};
use super::world::{FLAGS, Mailbox, Message, Since};

/// One key.
#[derive(Debug, Clone)]
pub enum Key {
    All,
    /// Of [`FLAGS`], and whether it is to be there.
    Flag(usize, bool),
    Keyword(&'static str, bool),
    Larger(u64),
    Smaller(u64),
    Numbers(Set),
    Uids(Set),
    /// Changed after.
    Modseq(Since),
    Not(Box<Key>),
    Or(Box<Key>, Box<Key>),
    And(Vec<Key>),
}

/// RETURN options.
#[derive(Debug, Clone, Copy, Default)]
pub struct Returns {
    pub min: bool,
    pub max: bool,
    pub all: bool,
    pub count: bool,
    pub save: bool,
}

impl Returns {
    pub fn text(&self) -> String {
        let options = [
            (self.min, "MIN"),
            (self.max, "MAX"),
            (self.all, "ALL"),
            (self.count, "COUNT"),
            (self.save, "SAVE"),
        ];
        let chosen = options.iter().filter(|(is_on, _)| *is_on);
        let chosen: Vec<&str> = chosen.map(|(_, option)| *option).collect();
        format!("RETURN ({}) ", chosen.join(" "))
    }

    /// ALL is what is meant by nothing (RFC 4731 §3.1), SAVE by itself wants no answer (RFC 5182
    /// §2.1).
    pub fn wants_all(&self) -> bool {
        self.all || !(self.min || self.max || self.count || self.save)
    }

    /// Only the ends are asked for.
    pub fn wants_ends(&self) -> bool {
        (self.min || self.max) && !self.count && !self.all
    }
}

impl Key {
    pub fn text(&self) -> String {
        match self {
            Key::All => "ALL".to_owned(),
            Key::Flag(bit, is_set) => {
                let name = FLAGS[*bit][1..].to_ascii_uppercase();
                format!("{}{name}", if *is_set { "" } else { "UN" })
            }
            Key::Keyword(word, true) => format!("KEYWORD {word}"),
            Key::Keyword(word, false) => format!("UNKEYWORD {word}"),
            Key::Larger(bytes) => format!("LARGER {bytes}"),
            Key::Smaller(bytes) => format!("SMALLER {bytes}"),
            Key::Numbers(set) => set.text(),
            Key::Uids(set) => format!("UID {}", set.text()),
            // It is "at least" there, and "above" everywhere else (RFC 7162 §3.1.5).
            Key::Modseq(since) => format!("MODSEQ {}", since.modseq + 1),
            Key::Not(key) => format!("NOT {}", key.text()),
            Key::Or(one, other) => format!("OR {} {}", one.text(), other.text()),
            Key::And(keys) => {
                let keys: Vec<String> = keys.iter().map(Key::text).collect();
                format!("({})", keys.join(" "))
            }
        }
    }

    /// It compares MODSEQs.
    pub fn asks_modseq(&self) -> bool {
        match self {
            Key::Modseq(_) => true,
            Key::Not(key) => key.asks_modseq(),
            Key::Or(one, other) => one.asks_modseq() || other.asks_modseq(),
            Key::And(keys) => keys.iter().any(Key::asks_modseq),
            _ => false,
        }
    }

    /// It names messages by their numbers.
    pub fn has_numbers(&self) -> bool {
        match self {
            Key::Numbers(set) => matches!(set, Set::Ranges(_)),
            Key::Not(key) => key.has_numbers(),
            Key::Or(one, other) => one.has_numbers() || other.has_numbers(),
            Key::And(keys) => keys.iter().any(Key::has_numbers),
            _ => false,
        }
    }

    fn holds(&self, uid: u32, message: &Message, selected: &Selected) -> bool {
        let marks = &message.marks;
        let bytes = message.body.len() as u64;
        match self {
            Key::All => true,
            Key::Flag(bit, is_set) => (marks.flags >> bit & 1 == 1) == *is_set,
            Key::Keyword(word, is_set) => marks.keywords.contains(*word) == *is_set,
            Key::Larger(than) => bytes > *than,
            Key::Smaller(than) => bytes < *than,
            Key::Numbers(set) => has_number(set, selected, uid),
            Key::Uids(set) => has_uid(set, selected, uid),
            Key::Modseq(since) => message.tick > since.tick,
            Key::Not(key) => !key.holds(uid, message, selected),
            Key::Or(one, other) => {
                one.holds(uid, message, selected) || other.holds(uid, message, selected)
            }
            Key::And(keys) => keys.iter().all(|key| key.holds(uid, message, selected)),
        }
    }
}

/// UIDs of messages that the client knows, that are there, and of which all keys hold.
pub fn hits(keys: &[Key], selected: &Selected, mailbox: &Mailbox) -> BTreeSet<u32> {
    let known = selected.view.iter().copied();
    let known = known.filter_map(|uid| Some((uid, mailbox.messages.get(&uid)?)));
    let found =
        known.filter(|(uid, message)| keys.iter().all(|key| key.holds(*uid, message, selected)));
    found.map(|(uid, _)| uid).collect()
}
