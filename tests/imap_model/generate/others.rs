//! What only a wide run has: others' mailboxes, access lists, annotations, thousands of messages.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::super::command::{Command, New, Set};
use super::super::site::{OTHER_USERS, Site};
use super::super::world::{Mailbox, Marks};
use super::Chooser;

/// Annotations that are set.
const ENTRIES: &[&str] = &[
    "/shared/comment",
    "/shared/a/b",
    "/private/comment",
    "/private/a",
    "/private/a/b",
];
/// What is granted: to look, and to do everything with messages; and what takes it back.
const GRANTS: &[&str] = &["lr", "lrswite", "lrswite", "lrswite", ""];
impl Chooser<'_> {
    /// Small messages, so many.
    pub fn many_messages(&mut self, count: usize) -> Vec<New> {
        let message = |chooser: &mut Self| {
            let text = format!("Subject: {:x}\r\n\r\nx\r\n", chooser.random.bits());
            New {
                marks: match chooser.random.one_in(8) {
                    true => chooser.marks(),
                    false => Marks::default(),
                },
                date: None,
                body: text.into_bytes().into(),
            }
        };
        (0..count).map(|_| message(self)).collect()
    }

    /// Another account's mailbox; some of them may not be looked into, or are not there.
    pub(super) fn others_name(&mut self) -> String {
        let own = self.client.own;
        let visible = self.site.visible(own).into_keys();
        let visible: Vec<String> = visible
            .filter(|name| name.starts_with(OTHER_USERS))
            .collect();
        if visible.is_empty() || self.random.one_in(8) {
            let other = (own + 1) % self.site.accounts.len();
            let name = self.name();
            return self.site.name_for(own, other, &name);
        }
        visible[self.random.index(visible.len())].clone()
    }

    /// Where messages go to, or come from: mostly there, and in a wide run often another account's.
    pub(super) fn place(&mut self) -> String {
        if self.wide && self.random.one_in(3) {
            return self.others_name();
        }
        self.target()
    }

    /// A few messages, wherever they are.
    pub(super) fn few(&mut self, by_uid: bool) -> Set {
        let view = self.client.selected.as_ref().map(|s| s.view.as_slice());
        let view = view.unwrap_or_default();
        let first = self.random.index(view.len());
        let last = (first + self.random.index(12)).min(view.len().saturating_sub(1));
        let number = |index: usize| match by_uid {
            true => view.get(index).map_or(1, |uid| *uid),
            false => index as u32 + 1,
        };
        Set::Ranges(vec![(number(first), number(last))])
    }

    /// A COPY or MOVE from one account to another, if that can be.
    pub fn crossing(&mut self) -> Option<Command> {
        let own = self.client.own;
        let open = self.open().filter(|_| !self.is_old())?;
        let selected = self.client.selected.as_ref()?;
        let is_elsewhere = |mailbox: &Mailbox| {
            let rights = self.site.rights(own, mailbox);
            Site::owner(mailbox.id) != Site::owner(open.id) && rights.contains('i')
        };
        let visible = self.site.visible(own).into_iter();
        let targets = visible.filter(|(_, mailbox)| is_elsewhere(mailbox));
        let targets: Vec<String> = targets.map(|(name, _)| name).collect();
        if targets.is_empty() || selected.view.is_empty() {
            return None;
        }
        let moves = !selected.read_only && !self.random.one_in(4);
        let first = self.random.index(selected.view.len());
        // More than go together.
        let end = selected.view.len().min(first + 150);
        let set = Set::Ranges(vec![(selected.view[first], selected.view[end - 1])]);
        Some(Command::Copy {
            by_uid: true,
            set,
            name: targets[self.random.index(targets.len())].clone(),
            moves,
        })
    }

    /// Access lists and annotations, and what others have.
    pub(super) fn about_others(&mut self) -> Command {
        match self.random.below(16) {
            0..3 => self.grant(),
            3 => Command::Access(self.place()),
            4 => Command::MyRights(self.place()),
            5..8 => {
                let name = self.annotated();
                let count = 1 + self.random.index(3);
                let entries = (0..count)
                    .map(|_| self.pick(ENTRIES))
                    .collect::<BTreeSet<_>>();
                let values = entries.into_iter().map(|entry| (entry, self.value()));
                Command::Annotate(name, values.collect())
            }
            8..11 => {
                let all_below = self.random.one_in(2);
                let tops = ["/shared", "/private", "/private/a"];
                let entry = if all_below {
                    self.pick(&tops)
                } else {
                    self.pick(ENTRIES)
                };
                let name = self.annotated();
                if name.is_empty() && entry == "/shared" {
                    // What the operator says is there.
                    return Command::Noop;
                }
                Command::Annotations {
                    name,
                    entries: vec![entry],
                    all_below,
                }
            }
            11..15 => {
                let name = self.others_name();
                self.select(name)
            }
            _ => self.append(),
        }
    }

    fn annotated(&mut self) -> String {
        match self.random.below(8) {
            0 => String::new(),
            1 => self.others_name(),
            _ => self.target(),
        }
    }

    fn value(&mut self) -> Option<Rc<[u8]>> {
        let text: &[u8] = match self.random.below(6) {
            0 => return None,
            1 => b"",
            2 => b"two\r\nlines {3}\r\n\"",
            3 => b"\0nul",
            4 => &[b'x'; 3000],
            _ => b"a \"word\" or \\ two",
        };
        Some(text.into())
    }

    /// What is granted in a mailbox that is changed in steps: who has it open learns of it, and no
    /// command meets other rights than those that it was opened with.
    fn grant(&mut self) -> Command {
        let name = self.name();
        let own = self.client.own;
        let count = self.site.accounts.len();
        let whom = (own + 1 + self.random.index(count - 1)) % count;
        let rights = self.pick(GRANTS);
        let has = self.account.mailboxes.get(&name);
        let has = has.and_then(|mailbox| mailbox.rights.get(&whom));
        match has {
            Some(has) if *has != rights => Command::Grant(name, whom, ""),
            _ => Command::Grant(name, whom, rights),
        }
    }
}
