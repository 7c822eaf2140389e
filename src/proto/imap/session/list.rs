//! LIST and LSUB (RFC 9051 §6.3.9; RFC 5258, RFC 5819, RFC 6154), and lines of STATUS.
//!
//! A mailbox that is only there as a level above others is shown as `\NonExistent`, or to clients of
//! the old syntax as `\Noselect`.

use std::collections::BTreeMap;

use super::super::command::{self, StatusItem, StatusItems};
use super::super::metadata::Values;
use super::super::names::{self, SEPARATOR};
use super::super::rights::may_match_others;
use super::super::{Answer, Ask, Mailbox, Mailboxes, Rights, Settings, write};
use super::finish::{Finish, SyncMode};
use super::{Context, Turn};
use crate::limits::{IMAP_LIST_PATTERN_BYTES_MAX, OUTPUT_BYTES_MAX};

/// Steps of about a nanosecond each after which others have their turn.
const STEPS_MAX: usize = 1_000_000;
/// What a level of a name costs of them: it is looked up and noted.
const LEVEL_STEPS: usize = 400;

/// A LIST that runs.
pub(super) struct List {
    command: command::List,
    /// Decoded, the reference in front.
    patterns: Vec<String>,
    /// Bytes of them all.
    patterns_bytes: usize,
    stage: Stage,
}

enum Stage {
    Ask,
    Asking,
    /// One's own, and those of others to be asked for.
    AskShared(Box<Mailboxes>),
    AskingShared(Box<Mailboxes>),
    /// What is shown is being found out.
    Choose(Box<Choice>),
    /// Others have their turn.
    Breathing(Box<Choice>),
    /// Lines from this one on, and the mailboxes for STATUS.
    Lines(std::vec::IntoIter<Line>),
    /// DELETED-STORAGE of the mailbox in this line, which is the next, is asked for.
    Measuring(Box<Line>, std::vec::IntoIter<Line>),
    /// Annotations of this mailbox are asked for; then go these lines (RFC 9590 §3).
    AskingAnnotations(String, std::vec::IntoIter<Line>),
    Annotations(Values, std::vec::IntoIter<Line>),
    Done(Finish),
}

/// Mailboxes that are gone through.
struct Choice {
    /// Names of which the levels above are not noted yet.
    names: std::vec::IntoIter<String>,
    /// All names, and those of which it is not decided whether they are shown.
    nodes: BTreeMap<String, Node>,
    lines: Vec<Line>,
}

/// One response.
struct Line {
    name: String,
    attributes: Vec<&'static str>,
    /// Something below it is selected.
    child_info: bool,
    status: Option<Box<Mailbox>>,
    exists: bool,
}

/// What is known of a name.
#[derive(Default)]
struct Node {
    mailbox: Option<Mailbox>,
    subscribed: bool,
    has_children: bool,
    /// Something below it is selected.
    selected_below: bool,
}

impl Node {
    fn special_use(&self) -> Option<&'static str> {
        self.mailbox.as_ref().and_then(|own| own.special_use)
    }

    /// It meets all that the command selects by.
    fn is_selected(&self, command: &command::List) -> bool {
        (!command.select_subscribed || self.subscribed)
            && (!command.select_special_use || self.special_use().is_some())
    }
}

impl List {
    pub(super) fn new(command: command::List, utf8: bool) -> Result<List, Finish> {
        let decode = |raw: &[u8]| {
            names::decode(raw, utf8).map_err(|error| Finish::no("CANNOT", error.to_string()))
        };
        let patterns = command
            .patterns
            .iter()
            .map(|pattern| decode(&[&command.reference[..], pattern].concat()))
            .map(|pattern| pattern.map(|pattern| names::collapse(&pattern)))
            .collect::<Result<Vec<_>, _>>()?;
        let patterns_bytes = patterns.iter().map(String::len).sum();
        if patterns_bytes > IMAP_LIST_PATTERN_BYTES_MAX {
            let text = format!(
                "at most {IMAP_LIST_PATTERN_BYTES_MAX} bytes in all patterns, each with its reference"
            );
            return Err(Finish::no("LIMIT", text));
        }
        // RFC 9051 §6.3.9: an empty pattern asks for the separator.
        let is_empty = !command.extended && command.patterns.iter().all(Vec::is_empty);
        let stage = if is_empty && !command.lsub {
            Stage::Lines(
                vec![Line {
                    name: String::new(),
                    attributes: vec!["\\Noselect"],
                    child_info: false,
                    status: None,
                    exists: false,
                }]
                .into_iter(),
            )
        } else {
            Stage::Ask
        };
        Ok(List {
            command,
            patterns,
            patterns_bytes,
            stage,
        })
    }

    /// Bytes of memory held beside itself, about.
    pub(super) fn held_bytes(&self) -> usize {
        let shown = match &self.stage {
            Stage::Choose(choice) | Stage::Breathing(choice) => {
                choice.nodes.len() * size_of::<(String, Node)>()
                    + choice.lines.len() * size_of::<Line>()
            }
            Stage::Lines(lines) => size_of_val(lines.as_slice()),
            _ => 0,
        };
        shown + self.patterns_bytes
    }

    pub(super) fn go(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> Turn {
        match std::mem::replace(&mut self.stage, Stage::Asking) {
            Stage::Ask => Turn::Ask(Ask::Mailboxes),
            Stage::AskShared(own) => {
                self.stage = Stage::AskingShared(own);
                Turn::Ask(Ask::Shared)
            }
            Stage::Choose(mut choice) => {
                if !self.choose(&mut choice) {
                    self.stage = Stage::Breathing(choice);
                    return Turn::Ask(Ask::Pause);
                }
                self.stage = Stage::Lines(choice.lines.into_iter());
                self.go(context, out)
            }
            Stage::Lines(mut lines) => {
                while out.len() < OUTPUT_BYTES_MAX {
                    let Some(line) = lines.next() else {
                        return Turn::Finish(Finish::ok().with_sync(SyncMode::Whole));
                    };
                    if self.needs_measure(&line) {
                        let name = line.name.clone();
                        self.stage = Stage::Measuring(Box::new(line), lines);
                        return Turn::Ask(Ask::DeletedBytes { name });
                    }
                    self.write(&line, context, out);
                    if let Some(wanted) = self.command.metadata.clone().filter(|_| line.exists) {
                        let mailbox = Some(line.name.clone());
                        self.stage = Stage::AskingAnnotations(line.name, lines);
                        return Turn::Ask(Ask::Annotations { mailbox, wanted });
                    }
                }
                self.stage = Stage::Lines(lines);
                Turn::Drain
            }
            Stage::Annotations(mut values, lines) => {
                if values.write(context.enabled.utf8, out) {
                    self.stage = Stage::Lines(lines);
                    return self.go(context, out);
                }
                self.stage = Stage::Annotations(values, lines);
                Turn::Drain
            }
            Stage::Done(finish) => Turn::Finish(finish),
            Stage::Asking
            | Stage::AskingShared(_)
            | Stage::Measuring(..)
            | Stage::AskingAnnotations(..)
            | Stage::Breathing(_) => Turn::Finish(Finish::confused()),
        }
    }

    fn may_match_others(&self) -> bool {
        // LSUB tells of names alone.
        !self.command.lsub && self.patterns.iter().any(|p| may_match_others(p))
    }

    /// Its STATUS says DELETED-STORAGE, which takes a look of its own.
    fn needs_measure(&self, line: &Line) -> bool {
        let wanted = self
            .command
            .status
            .is_some_and(|items| items.has(StatusItem::DeletedStorage));
        wanted
            && line
                .status
                .as_ref()
                .is_some_and(|mailbox| mailbox.deleted > 0)
    }

    pub(super) fn answer(&mut self, answer: Answer, context: &Context<'_>, out: &mut Vec<u8>) {
        let mut stage = std::mem::replace(&mut self.stage, Stage::Asking);
        if let Stage::AskingShared(own) = &mut stage {
            // Others' mailboxes that cannot be reached now are left out.
            if let Answer::Mailboxes(Ok(shared)) = answer {
                own.list.extend(shared.list);
            }
            self.stage = Stage::Choose(Box::new(Choice::new(std::mem::take(own))));
            return;
        }
        if let Stage::Measuring(mut line, lines) = stage {
            match (answer, &mut line.status) {
                (Answer::DeletedBytes(Ok(bytes)), Some(mailbox)) => mailbox.deleted_bytes = bytes,
                // It is gone since: its line stays, and says nothing of what is in it.
                _ => line.status = None,
            }
            self.write(&line, context, out);
            self.stage = Stage::Lines(lines);
            return;
        }
        self.stage = match (stage, answer) {
            (Stage::AskingAnnotations(name, lines), Answer::Annotations(found)) => {
                match (found, &self.command.metadata) {
                    (Ok(found), Some(wanted)) => {
                        Stage::Annotations(Values::new(Some(name), wanted, found, None), lines)
                    }
                    // RFC 9590 §3: it is left out where it cannot be told.
                    _ => Stage::Lines(lines),
                }
            }
            (Stage::Asking, Answer::Mailboxes(Ok(mailboxes))) if self.may_match_others() => {
                Stage::AskShared(Box::new(mailboxes))
            }
            (Stage::Asking, Answer::Mailboxes(Ok(mailboxes))) => {
                Stage::Choose(Box::new(Choice::new(mailboxes)))
            }
            (Stage::Breathing(choice), Answer::Done(Ok(()))) => Stage::Choose(choice),
            (_, Answer::Mailboxes(Err(refusal)) | Answer::Done(Err(refusal))) => {
                Stage::Done(Finish::refused(refusal, false))
            }
            _ => Stage::Done(Finish::confused()),
        };
    }

    fn write(&self, line: &Line, context: &Context<'_>, out: &mut Vec<u8>) {
        let utf8 = context.enabled.utf8;
        let name: &[u8] = if self.command.lsub { b"LSUB" } else { b"LIST" };
        write_mailbox(name, &line.attributes, &line.name, utf8, out);
        if line.child_info {
            // RFC 5258 §4: by what something below it was selected.
            let (subscribed, special) = (
                self.command.select_subscribed,
                self.command.select_special_use,
            );
            out.truncate(out.len() - 2);
            out.extend_from_slice(match (subscribed, special) {
                (true, true) => b" (\"CHILDINFO\" (\"SUBSCRIBED\" \"SPECIAL-USE\"))\r\n",
                (true, false) => b" (\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n",
                _ => &b" (\"CHILDINFO\" (\"SPECIAL-USE\"))\r\n"[..],
            });
        }
        if let (Some(items), Some(mailbox)) = (self.command.status, &line.status) {
            write_status(mailbox, items, utf8, context.settings, out);
        }
    }

    /// Finds the lines that the command asks for; `false`: it has worked for long and is not done.
    fn choose(&self, choice: &mut Choice) -> bool {
        let mut steps = 0;
        while steps < STEPS_MAX {
            if let Some(name) = choice.names.next() {
                steps += LEVEL_STEPS * choice.note_above(&name, &self.command);
            } else if let Some((name, node)) = choice.nodes.pop_first() {
                steps += LEVEL_STEPS + self.patterns_bytes * name.len();
                choice.lines.extend(self.line(name, node));
            } else {
                // RFC 9051 §5.1: INBOX first, as people expect it.
                choice.lines.sort_by_key(|line| line.name != names::INBOX);
                return true;
            }
        }
        false
    }

    fn line(&self, name: String, node: Node) -> Option<Line> {
        let command = &self.command;
        if !self
            .patterns
            .iter()
            .any(|pattern| names::matches(pattern, &name))
        {
            return None;
        }
        let by_itself = node.is_selected(command);
        // RFC 3501 §6.3.9: LSUB with `%` shows a level above what is subscribed to as `\Noselect`.
        let recursive = command.recursive || (command.lsub && self.ends_in_percent());
        let exists = node.mailbox.is_some();
        let is_shown = if command.select_subscribed || command.select_special_use {
            by_itself || (recursive && node.selected_below)
        } else {
            exists || node.has_children
        };
        if !is_shown {
            return None;
        }
        let mut attributes = Vec::new();
        // LSUB says nothing of whether a mailbox is there (RFC 3501 §6.3.9).
        if (!exists && !command.lsub) || (command.lsub && !by_itself) {
            attributes.push(if command.extended {
                "\\NonExistent"
            } else {
                "\\Noselect"
            });
        }
        if command.subscribed && node.subscribed {
            attributes.push("\\Subscribed");
        }
        if !command.lsub {
            // RFC 3348: always said, for it costs nothing here.
            attributes.push(if node.has_children {
                "\\HasChildren"
            } else {
                "\\HasNoChildren"
            });
            attributes.extend(node.special_use());
        }
        Some(Line {
            name,
            attributes,
            child_info: command.recursive && node.selected_below,
            exists,
            status: node
                .mailbox
                // RFC 5819 §2: no STATUS of what one may not read.
                .filter(|mailbox| command.status.is_some() && mailbox.rights.has(Rights::READ))
                .map(Box::new),
        })
    }

    fn ends_in_percent(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.ends_with('%'))
    }
}

impl Choice {
    fn new(mailboxes: Mailboxes) -> Choice {
        let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
        for name in mailboxes.subscribed {
            nodes.entry(name).or_default().subscribed = true;
        }
        for mailbox in mailboxes.list {
            let node = nodes.entry(mailbox.name.clone()).or_default();
            node.mailbox = Some(mailbox);
        }
        let names: Vec<String> = nodes.keys().cloned().collect();
        Choice {
            names: names.into_iter(),
            nodes,
            lines: Vec::new(),
        }
    }

    /// Notes a name at the levels above it; how many levels it has.
    fn note_above(&mut self, name: &str, command: &command::List) -> usize {
        let Some(node) = self.nodes.get(name) else {
            return 1;
        };
        let (exists, selected) = (node.mailbox.is_some(), node.is_selected(command));
        let mut levels = 1;
        for (end, _) in name.match_indices(SEPARATOR) {
            let above = self.nodes.entry(name[..end].to_owned()).or_default();
            above.has_children |= exists;
            above.selected_below |= selected;
            levels += 1;
        }
        levels
    }
}

/// One LIST or LSUB response.
///
/// ```text
/// mailbox-list = "(" [mbx-list-flags] ")" SP (DQUOTE QUOTED-CHAR DQUOTE / nil) SP mailbox
/// ```
pub(super) fn write_mailbox(
    response: &[u8],
    attributes: &[&str],
    name: &str,
    utf8: bool,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"* ");
    out.extend_from_slice(response);
    out.extend_from_slice(b" (");
    out.extend_from_slice(attributes.join(" ").as_bytes());
    out.extend_from_slice(b") \"/\" ");
    names::write(name, utf8, out);
    out.extend_from_slice(b"\r\n");
}

/// One STATUS response (RFC 9051 §7.3.4).
pub(super) fn write_status(
    mailbox: &Mailbox,
    items: StatusItems,
    utf8: bool,
    settings: &Settings,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"* STATUS ");
    names::write(&mailbox.name, utf8, out);
    out.extend_from_slice(b" (");
    let mut is_first = true;
    for (item, name) in StatusItem::ALL {
        if !items.has(item) {
            continue;
        }
        if !is_first {
            out.push(b' ');
        }
        is_first = false;
        out.extend_from_slice(name.as_bytes());
        out.push(b' ');
        let number = match item {
            StatusItem::Messages => mailbox.exists.into(),
            StatusItem::Recent => 0,
            StatusItem::UidNext => mailbox.uid_next.into(),
            StatusItem::UidValidity => mailbox.validity.into(),
            StatusItem::Unseen => mailbox.unseen.into(),
            StatusItem::Deleted => mailbox.deleted.into(),
            StatusItem::Size => mailbox.bytes,
            StatusItem::HighestModSeq => mailbox.modseq,
            StatusItem::AppendLimit => settings.message_bytes_max,
            StatusItem::DeletedStorage => mailbox.deleted_bytes,
            StatusItem::MailboxId => {
                out.push(b'(');
                out.extend_from_slice(mailbox.object_id.as_bytes());
                out.push(b')');
                continue;
            }
        };
        write::number(number, out);
    }
    out.extend_from_slice(b")\r\n");
}
