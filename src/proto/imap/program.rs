//! A search as it is carried out: keys with everything resolved that the mailbox tells.
//!
//! Guarantees: a key that needs a look into the message leaves a doubt, never a wrong answer; what
//! is decided without is not looked into. Sets stay what they were written as: however many holes the
//! mailbox has, a search is as long as its command.
//! Does not know: where messages are.

use std::sync::Arc;

use super::command::{Comparison, DateOf, Flags, Key};
use super::view::View;
use super::{Row, TextKey, sets};
use crate::limits::{IMAP_SEARCH_TEXTS_MAX, IMAP_SLICE_MESSAGES};

const DAY_MS: u64 = 86_400_000;
/// Nodes of a search of which a whole slice of messages is judged without a pause.
const NODES_MAX: usize = 32;

/// A compiled search.
#[derive(Debug)]
pub(super) struct Program {
    root: Node,
    texts: Arc<[TextKey]>,
    /// Texts for which a header is enough.
    cheap: u64,
    candidates: Vec<(u32, u32)>,
    /// How many there are.
    nodes: usize,
    asks_modseq: bool,
    asks_time: bool,
    /// It has a set of message numbers.
    asks_number: bool,
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
    /// Message numbers.
    Numbers(Box<[(u32, u32)]>),
    Uids(Arc<[(u32, u32)]>),
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

/// A message that is looked at.
struct Message<'a> {
    row: &'a Row,
    /// What the client knows it by, where that is asked.
    number: u32,
    /// Texts that were looked for, and those that are there.
    known: u64,
    found: u64,
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
        id_space: u16,
    ) -> Result<Program, String> {
        let mut compiler = Compiler {
            view,
            saved,
            keywords,
            id_space,
            shared: None,
            nodes: 0,
            texts: Vec::new(),
            asks_modseq: false,
            asks_time: false,
            asks_number: false,
        };
        let nodes = keys
            .iter()
            .map(|key| compiler.node(key))
            .collect::<Result<Vec<_>, _>>()?;
        // Sets at the top say where to look at all. They are as short as the command; only what is
        // left of them is looked up.
        let (mut numbers, mut uids) = (vec![(1, view.exists())], vec![(1, view.last_uid())]);
        for node in &nodes {
            match node {
                Node::Numbers(set) => numbers = sets::intersect(&numbers, set),
                Node::Uids(set) => uids = sets::intersect(&uids, set),
                _ => {}
            }
        }
        let candidates = sets::intersect(&view.uids_of_numbers(&numbers), &uids);
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
            nodes: compiler.nodes,
            asks_modseq: compiler.asks_modseq,
            asks_time: compiler.asks_time,
            asks_number: compiler.asks_number,
            now_ms: 0,
        })
    }

    /// The only messages that can be found: UIDs. They are given once.
    pub(super) fn take_candidates(&mut self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.candidates)
    }

    /// Messages that are judged without a pause: fewer, the longer the search is.
    pub(super) fn slice_max(&self) -> usize {
        (IMAP_SLICE_MESSAGES * NODES_MAX / self.nodes.max(1)).clamp(1, IMAP_SLICE_MESSAGES)
    }

    /// Bytes of memory held beside itself, texts left out.
    pub(super) fn held_bytes(&self) -> usize {
        self.nodes * size_of::<Node>() + self.candidates.capacity() * 8
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

    /// What the listing tells of a message of this view.
    pub(super) fn judge(&self, row: &Row, view: &View) -> Verdict {
        self.verdict(row, view, (0, 0))
    }

    /// The same, after a look for texts: those looked for, and those that are there.
    pub(super) fn judge_again(
        &self,
        row: &Row,
        view: &View,
        before: &Verdict,
        (wanted, found): (u64, u64),
    ) -> Verdict {
        let known = before.known | wanted;
        self.verdict(row, view, (known, before.found | (found & wanted)))
    }

    fn verdict(&self, row: &Row, view: &View, (known, found): (u64, u64)) -> Verdict {
        let message = Message {
            row,
            number: if self.asks_number {
                view.number(row.uid).unwrap_or(0)
            } else {
                0
            },
            known,
            found,
        };
        Verdict {
            result: self.holds(&self.root, &message),
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

    fn holds(&self, node: &Node, message: &Message<'_>) -> Option<bool> {
        let row = message.row;
        let holds = |node: &Node| self.holds(node, message);
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
            Node::Numbers(numbers) => sets::contains(numbers, message.number),
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
                if message.known >> bit & 1 == 0 {
                    return None;
                }
                message.found >> bit & 1 == 1
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
    id_space: u16,
    /// What `$` stands for here, once for all that name it.
    shared: Option<Arc<[(u32, u32)]>>,
    nodes: usize,
    texts: Vec<TextKey>,
    asks_modseq: bool,
    asks_time: bool,
    asks_number: bool,
}

impl Compiler<'_> {
    fn node(&mut self, key: &Key) -> Result<Node, String> {
        self.nodes += 1;
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
                let (view, saved) = (self.view, self.saved);
                let shared = self.shared.get_or_insert_with(|| view.known(saved).into());
                Node::Uids(Arc::clone(shared))
            }
            Key::Numbers(set) => {
                self.asks_number = true;
                let numbers = set.resolve(self.view.exists());
                Node::Numbers(numbers.into())
            }
            Key::Uids(set) => Node::Uids(set.resolve(self.view.last_uid()).into()),
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
                email_id(id, self.id_space).map_or(Node::Always(false), Node::EmailId)
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

/// The number in an EMAILID as it is told in this space; `None`: no message here has it.
fn email_id(text: &str, id_space: u16) -> Option<u64> {
    let (space, number) = text.strip_prefix('M')?.split_once('-')?;
    // Told without signs and leading zeros, and as opaque as any other object identifier.
    let exact = |text: &str, number: u64| number.to_string() == text;
    let number: u64 = number.parse().ok().filter(|it| exact(number, *it))?;
    exact(space, id_space.into()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> sets::Set {
        sets::Set::parse(text.as_bytes()).expect("a set")
    }

    #[test]
    fn sets_stay_as_short_as_they_were_written() {
        // Every second UID is there.
        let view = View::new((1..=100_000).map(|number| (2 * number, 2 * number)));
        let saved: Vec<(u32, u32)> = view.ranges().collect();
        let mut keys: Vec<Key> = (0..500).map(|_| Key::Numbers(set("1:*"))).collect();
        keys.push(Key::Numbers(set("3:5,99999")));
        keys.push(Key::Uids(set("8:*")));
        for _ in 0..400 {
            keys.push(Key::Not(Box::new(Key::Numbers(set("5")))));
            keys.push(Key::Or(Box::new((
                Key::Numbers(set("$")),
                Key::Uids(set("2")),
            ))));
        }
        let mut program = Program::compile(&keys, &view, &saved, &[], 0).expect("within bounds");
        let Node::And(nodes) = &program.root else {
            panic!("all keys must hold");
        };
        let mut shared = 0;
        for node in nodes {
            match node {
                Node::Numbers(numbers) => assert!(numbers.len() <= 2),
                Node::Or(both) => {
                    let Node::Uids(uids) = &both.0 else {
                        panic!("$ is a set of UIDs");
                    };
                    assert_eq!(uids.len(), 100_000);
                    shared = Arc::strong_count(uids);
                }
                _ => {}
            }
        }
        // One copy of what was saved, whoever names it.
        assert_eq!(shared, 400);
        assert!(program.slice_max() < 64, "{}", program.slice_max());
        let candidates = program.take_candidates();
        assert_eq!(candidates, [(8, 8), (10, 10), (199_998, 199_998)]);
        let hits = candidates.iter().filter(|(uid, _)| {
            let row = Row {
                uid: *uid,
                ..Row::default()
            };
            program.judge(&row, &view).is_hit()
        });
        // All but number 5.
        assert_eq!(
            hits.copied().collect::<Vec<_>>(),
            [(8, 8), (199_998, 199_998)]
        );
    }
}
