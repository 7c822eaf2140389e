//! A search as it is carried out: keys with everything resolved that the mailbox tells.
//!
//! Guarantees: a key that needs a look into the message leaves a doubt, never a wrong answer; what
//! is decided without is not looked into.
//! Does not know: where messages are.

use std::sync::Arc;

use super::command::{Comparison, DateOf, Flags, Key};
use super::view::View;
use super::{Row, TextKey, sets};
use crate::limits::IMAP_SEARCH_TEXTS_MAX;

const DAY_MS: u64 = 86_400_000;

/// A compiled search.
#[derive(Debug)]
pub(super) struct Program {
    root: Node,
    texts: Arc<[TextKey]>,
    /// Texts for which a header is enough.
    cheap: u64,
    candidates: Vec<(u32, u32)>,
    asks_modseq: bool,
    asks_time: bool,
    now_ms: u64,
}

#[derive(Debug)]
enum Node {
    Always(bool),
    And(Vec<Node>),
    Or(Box<(Node, Node)>),
    Not(Box<Node>),
    Flag(Flags),
    Keyword(u64),
    Uids(Vec<(u32, u32)>),
    Larger(u64),
    Smaller(u64),
    Date(DateOf, Comparison, i32),
    Within {
        younger: bool,
        seconds: u32,
    },
    ModSeq(u64),
    EmailId(u64),
    /// The text of this bit.
    Text(u32),
}

/// What is known of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    result: Option<bool>,
    /// Texts that were looked for, and those that were there.
    known: u64,
    found: u64,
}

impl Verdict {
    pub(super) fn is_hit(&self) -> bool {
        self.result == Some(true)
    }
}

impl Program {
    /// Resolves keys against what the client sees.
    pub(super) fn compile(
        keys: &[Key],
        view: &View,
        saved: &[(u32, u32)],
        keywords: &[String],
    ) -> Result<Program, String> {
        let mut compiler = Compiler {
            view,
            saved,
            keywords,
            texts: Vec::new(),
            asks_modseq: false,
            asks_time: false,
        };
        let nodes = keys
            .iter()
            .map(|key| compiler.node(key))
            .collect::<Result<Vec<_>, _>>()?;
        // Sets at the top say where to look at all.
        let mut candidates: Vec<(u32, u32)> = view.ranges().collect();
        for node in &nodes {
            if let Node::Uids(uids) = node {
                candidates = View::new(candidates).known(uids);
            }
        }
        let cheap = compiler
            .texts
            .iter()
            .enumerate()
            .filter(|(_, text)| matches!(text, TextKey::Header(..) | TextKey::Sent(..)));
        Ok(Program {
            cheap: cheap.map(|(bit, _)| 1 << bit).sum(),
            root: Node::And(nodes),
            texts: compiler.texts.into(),
            candidates,
            asks_modseq: compiler.asks_modseq,
            asks_time: compiler.asks_time,
            now_ms: 0,
        })
    }

    /// The only messages that can be found.
    pub(super) fn candidates(&self) -> &[(u32, u32)] {
        &self.candidates
    }

    /// What is looked for in messages.
    pub(super) fn texts(&self) -> &Arc<[TextKey]> {
        &self.texts
    }

    /// It has a key MODSEQ.
    pub(super) fn asks_modseq(&self) -> bool {
        self.asks_modseq
    }

    /// It needs the time of day.
    pub(super) fn asks_time(&self) -> bool {
        self.asks_time
    }

    /// Milliseconds since 1970.
    pub(super) fn set_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// What the listing tells.
    pub(super) fn judge(&self, row: &Row) -> Verdict {
        self.verdict(row, 0, 0)
    }

    /// The same, after a look for `wanted`, of which `found` are there.
    pub(super) fn judge_again(
        &self,
        row: &Row,
        before: &Verdict,
        wanted: u64,
        found: u64,
    ) -> Verdict {
        self.verdict(row, before.known | wanted, before.found | (found & wanted))
    }

    fn verdict(&self, row: &Row, known: u64, found: u64) -> Verdict {
        Verdict {
            result: self.holds(&self.root, row, known, found),
            known,
            found,
        }
    }

    /// Texts to look for next; `None`: there is no doubt.
    pub(super) fn next_texts(&self, verdict: &Verdict) -> Option<u64> {
        if verdict.result.is_some() {
            return None;
        }
        let all = self
            .texts
            .iter()
            .enumerate()
            .fold(0, |bits, (bit, _)| bits | 1 << bit);
        let left: u64 = all & !verdict.known;
        let cheap = left & self.cheap;
        // When nothing is left there is no doubt either.
        (left != 0).then_some(if cheap != 0 { cheap } else { left })
    }

    fn holds(&self, node: &Node, row: &Row, known: u64, found: u64) -> Option<bool> {
        let holds = |node: &Node| self.holds(node, row, known, found);
        Some(match node {
            Node::Always(always) => *always,
            Node::And(nodes) => {
                let mut doubt = false;
                for node in nodes {
                    match holds(node) {
                        Some(false) => return Some(false),
                        Some(true) => {}
                        None => doubt = true,
                    }
                }
                if doubt {
                    return None;
                }
                true
            }
            Node::Or(both) => match (holds(&both.0), holds(&both.1)) {
                (Some(true), _) | (_, Some(true)) => true,
                (Some(false), Some(false)) => false,
                _ => return None,
            },
            Node::Not(node) => !holds(node)?,
            Node::Flag(flag) => row.flags.has(*flag),
            Node::Keyword(bits) => row.keywords & bits != 0,
            Node::Uids(uids) => sets::contains(uids, row.uid),
            Node::Larger(bytes) => row.bytes > *bytes,
            Node::Smaller(bytes) => row.bytes < *bytes,
            Node::Date(of, comparison, day) => {
                let time_ms = if *of == DateOf::Saved {
                    row.saved_ms
                } else {
                    row.date_ms
                };
                let is = i64::try_from(time_ms / DAY_MS).unwrap_or(i64::MAX);
                compare(is, *comparison, *day)
            }
            Node::Within { younger, seconds } => {
                let oldest_ms = self.now_ms.saturating_sub(u64::from(*seconds) * 1000);
                (row.date_ms >= oldest_ms) == *younger
            }
            Node::ModSeq(modseq) => row.modseq >= *modseq,
            Node::EmailId(id) => row.email_id == *id,
            Node::Text(bit) => {
                if known >> bit & 1 == 0 {
                    return None;
                }
                found >> bit & 1 == 1
            }
        })
    }
}

/// Compares days since 1970.
pub fn compare(day: i64, comparison: Comparison, wanted: i32) -> bool {
    let wanted = i64::from(wanted);
    match comparison {
        Comparison::Before => day < wanted,
        Comparison::On => day == wanted,
        Comparison::Since => day >= wanted,
    }
}

struct Compiler<'a> {
    view: &'a View,
    saved: &'a [(u32, u32)],
    keywords: &'a [String],
    texts: Vec<TextKey>,
    asks_modseq: bool,
    asks_time: bool,
}

impl Compiler<'_> {
    fn node(&mut self, key: &Key) -> Result<Node, String> {
        Ok(match key {
            Key::All | Key::SaveDateSupported => Node::Always(true),
            Key::And(keys) => {
                let nodes = keys.iter().map(|key| self.node(key));
                Node::And(nodes.collect::<Result<_, _>>()?)
            }
            Key::Or(both) => Node::Or(Box::new((self.node(&both.0)?, self.node(&both.1)?))),
            Key::Not(key) => Node::Not(Box::new(self.node(key)?)),
            Key::Flag(flag) => Node::Flag(*flag),
            Key::Keyword(name) => {
                let bit = self
                    .keywords
                    .iter()
                    .position(|known| known.eq_ignore_ascii_case(name));
                bit.map_or(Node::Always(false), |bit| Node::Keyword(1 << bit))
            }
            Key::Numbers(set) | Key::Uids(set) if set.is_saved() => {
                Node::Uids(self.view.known(self.saved))
            }
            Key::Numbers(set) => {
                let numbers = set.resolve(self.view.exists());
                Node::Uids(self.view.uids_of_numbers(&numbers))
            }
            Key::Uids(set) => Node::Uids(set.resolve(self.view.last_uid())),
            Key::Larger(bytes) => Node::Larger(*bytes),
            Key::Smaller(bytes) => Node::Smaller(*bytes),
            Key::Date(DateOf::Sent, comparison, day) => {
                self.text(TextKey::Sent(*comparison, *day))?
            }
            Key::Date(of, comparison, day) => Node::Date(*of, *comparison, *day),
            Key::Within { younger, seconds } => {
                self.asks_time = true;
                Node::Within {
                    younger: *younger,
                    seconds: *seconds,
                }
            }
            Key::ModSeq(modseq) => {
                self.asks_modseq = true;
                Node::ModSeq(*modseq)
            }
            Key::Header(name, text) => self.text(TextKey::Header(name.clone(), text.clone()))?,
            Key::Body(text) => self.text(TextKey::Body(text.clone()))?,
            Key::Text(text) => self.text(TextKey::Text(text.clone()))?,
            Key::EmailId(id) => {
                let number = id.strip_prefix('M').and_then(|id| id.parse().ok());
                number.map_or(Node::Always(false), Node::EmailId)
            }
        })
    }

    fn text(&mut self, text: TextKey) -> Result<Node, String> {
        let known = self.texts.iter().position(|known| *known == text);
        let bit = match known {
            Some(bit) => bit,
            None if self.texts.len() >= IMAP_SEARCH_TEXTS_MAX => {
                return Err(format!(
                    "at most {IMAP_SEARCH_TEXTS_MAX} texts in one search"
                ));
            }
            None => {
                self.texts.push(text);
                self.texts.len() - 1
            }
        };
        Ok(Node::Text(bit as u32))
    }
}
