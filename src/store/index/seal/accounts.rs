//! Accounts, mailboxes and messages of the cut: the sections that are walked account by account.
//!
//! Does not know: sections of other things, pieces.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;

use super::{SealWriter, vanished};
use crate::store::index::format::{
    ACCOUNTS, AccountRow, BoxRow, MARK_ORDER, MARKS, MESSAGES, PARTS, Part,
};
use crate::store::index::layer::{Entry, Fields};
use crate::store::index::lookup::Stack;
use crate::store::index::mailbox::{BoxFields, Mailbox};
use crate::store::index::tombstones::Tombstones;
use crate::store::{MailboxId, Sequence, Uid};

/// An account of the cut: what the frozen layer and the base have of it.
pub(super) struct Owner {
    entry: Option<usize>,
    base: Option<usize>,
    fields: Fields,
    boxes: Boxes,
}

/// Mailboxes of one account, in the order of their rows.
pub(super) type Boxes = VecDeque<BoxOf>;

/// A mailbox of the cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct BoxOf {
    id: MailboxId,
    entry: Option<usize>,
    /// Its row in the base, unless that is hidden.
    base: Option<usize>,
    fields: BoxFields,
}

/// Where the walk over the rows of one mailbox is.
#[derive(Debug)]
pub(super) struct BoxWalk {
    of: BoxOf,
    /// Messages of the frozen layer that are done.
    own: usize,
    /// The last of its marks by number that is done.
    order: (Sequence, Uid),
    /// The UID after which its marks are to come.
    after: Uid,
    base: Range<usize>,
    rows: u64,
    /// Its vanished UIDs, while these are gone through.
    vanished: Option<Box<vanished::Walk>>,
}

/// Rows of a mailbox, and what was forgotten of its vanished ones.
#[derive(Debug, Default)]
pub(super) struct BoxParts {
    parts: [Part; PARTS.len()],
    vanished_floor: Sequence,
}

impl SealWriter {
    fn entry(&self, entry: Option<usize>) -> Option<&Entry> {
        entry.map(|entry| &self.frozen.entries[entry])
    }

    fn own(&self, of: &BoxOf) -> Option<&Mailbox> {
        self.entry(of.entry)?.mailbox(of.id)
    }

    fn stack(&self, of: &BoxOf) -> Stack<'_> {
        Stack {
            upper: [None, self.own(of)],
            base: match (&self.base, of.base) {
                (Some(base), Some(row)) => Some((base, row)),
                _ => None,
            },
        }
    }

    /// The next account in the order of addresses that is worth a row.
    fn next_owner(&mut self) -> Option<Owner> {
        loop {
            let entry = self.order.get(self.walk.account).map(|&n| n as usize);
            let base_row = (self.walk.base < self.base_rows(ACCOUNTS)).then_some(self.walk.base);
            let order = match (entry, base_row, &self.base) {
                (None, None, _) => return None,
                (Some(entry), Some(row), Some(base)) => {
                    let address = &self.frozen.entries[entry].address;
                    address.as_str().as_bytes().cmp(base.address(row))
                }
                (Some(_), ..) => std::cmp::Ordering::Less,
                (None, ..) => std::cmp::Ordering::Greater,
            };
            let entry = entry.filter(|_| order.is_le());
            let base_row = base_row.filter(|_| order.is_ge());
            self.walk.account += usize::from(entry.is_some());
            self.walk.base += usize::from(base_row.is_some());
            let fields = match (entry, base_row, &self.base) {
                (Some(entry), ..) => self.frozen.entries[entry].fields,
                (None, Some(row), Some(base)) => base.fields(row),
                _ => Fields::ABSENT,
            };
            let boxes = self.boxes_of(entry, base_row);
            // Mail of an account whose own record was lost is kept.
            let has_mail = boxes
                .iter()
                .any(|of| of.fields.count > 0 || of.fields.has_record());
            if fields.has_record() || has_mail {
                return Some(Owner {
                    entry,
                    base: base_row,
                    fields,
                    boxes,
                });
            }
        }
    }

    fn boxes_of(&self, entry: Option<usize>, base_row: Option<usize>) -> Boxes {
        let own = self.entry(entry);
        let base = self.base.as_deref().zip(base_row);
        let below = base.filter(|_| own.is_none_or(|own| !own.hides_below));
        let mut ids = vec![MailboxId::INBOX];
        if let Some(own) = own {
            ids.extend(own.others.iter().map(|(id, _)| *id));
        }
        if let Some((base, row)) = below {
            ids.extend(base.box_rows(row).map(|row| base.box_id(row)));
        }
        ids.sort_unstable();
        ids.dedup();
        let boxes = ids.into_iter().filter_map(|id| {
            let mailbox = own.and_then(|own| own.mailbox(id));
            let row = below.and_then(|(base, row)| base.box_row(row, id));
            let mut fields = match (mailbox, row, &self.base) {
                (Some(mailbox), ..) => mailbox.fields,
                (None, Some(row), Some(base)) => base.box_fields(row),
                _ => BoxFields::ABSENT,
            };
            let row = row.filter(|_| mailbox.is_none_or(|mailbox| !mailbox.hides_below));
            if let (Some(row), Some(base)) = (row, &self.base) {
                let floor = base.box_fields(row).vanished_floor;
                fields.vanished_floor = fields.vanished_floor.max(floor);
            }
            (id.is_inbox() || fields.is_kept()).then_some(BoxOf {
                id,
                entry,
                base: row,
                fields,
            })
        });
        boxes.collect()
    }

    /// The next mailbox, those of one account after the other.
    fn next_box(&mut self) -> Option<BoxOf> {
        while self.walk.boxes.is_empty() {
            self.walk.boxes = self.next_owner()?.boxes;
        }
        self.walk.box_count += 1;
        self.walk.boxes.pop_front()
    }

    /// One step in a section that has rows for each mailbox.
    pub(super) fn step_box(&mut self, section: usize) -> bool {
        let Some(mut walk) = self.walk.mailbox.take() else {
            let Some(of) = self.next_box() else {
                return false;
            };
            if section == MESSAGES {
                self.parts.push(BoxParts::default());
            }
            let base = match (&self.base, of.base) {
                (Some(base), Some(row)) => match section {
                    MESSAGES => base.message_rows(row),
                    MARKS => base.mark_rows(row),
                    MARK_ORDER => base.order_rows(row),
                    _ => 0..0,
                },
                _ => 0..0,
            };
            self.walk.mailbox = Some(BoxWalk {
                of,
                own: 0,
                order: (0, 0),
                after: 0,
                base,
                rows: 0,
                vanished: None,
            });
            return true;
        };
        let more = match section {
            MESSAGES => self.step_message(&mut walk),
            MARKS => self.step_mark(&mut walk),
            MARK_ORDER => self.step_order(&mut walk),
            _ => self.step_vanished(&mut walk),
        };
        if more {
            self.walk.mailbox = Some(walk);
            return true;
        }
        let place = PARTS.iter().position(|own| *own == section).unwrap_or(0);
        if let Some(parts) = self.parts.get_mut(self.walk.box_count - 1) {
            parts.parts[place] = Part {
                first: self.walk.first,
                rows: walk.rows,
            };
        }
        self.walk.first += walk.rows;
        true
    }

    fn step_message(&mut self, walk: &mut BoxWalk) -> bool {
        let own = self.own(&walk.of);
        let upper = own.and_then(|own| own.messages.get(walk.own)).copied();
        let lower = match &self.base {
            Some(base) if !walk.base.is_empty() => Some(base.message_at(walk.base.start)),
            _ => None,
        };
        let message = match (upper, lower) {
            (None, None) => return false,
            (Some(upper), lower) if lower.is_none_or(|lower| upper.uid <= lower.uid) => {
                walk.own += 1;
                if lower.is_some_and(|lower| lower.uid == upper.uid) {
                    walk.base.start += 1;
                }
                upper
            }
            (_, Some(lower)) => {
                walk.base.start += 1;
                if own.is_some_and(|own| own.dead.binary_search(&lower.uid).is_ok()) {
                    return true;
                }
                lower
            }
            (Some(_), None) => return false,
        };
        self.rows.put_message(&message, &self.to_row);
        walk.rows += 1;
        true
    }

    fn step_mark(&mut self, walk: &mut BoxWalk) -> bool {
        let rare = self.own(&walk.of).and_then(|own| own.rare.as_ref());
        let upper = rare.and_then(|rare| rare.marks.from(walk.after).next());
        let upper = upper.map(|(_, mark)| *mark);
        let lower = match &self.base {
            Some(base) if !walk.base.is_empty() => Some(base.mark_at(walk.base.start)),
            _ => None,
        };
        let mark = match (upper, lower) {
            (None, None) => return false,
            (Some(upper), lower) if lower.is_none_or(|lower| upper.uid <= lower.uid) => {
                if lower.is_some_and(|lower| lower.uid == upper.uid) {
                    walk.base.start += 1;
                }
                match upper.uid.checked_add(1) {
                    Some(after) => walk.after = after,
                    // No message has the last number: the next one would have none.
                    None => return false,
                }
                upper
            }
            (_, Some(lower)) => {
                walk.base.start += 1;
                lower
            }
            (Some(_), None) => return false,
        };
        let message = self.stack(&walk.of).message(mark.uid);
        if message.is_some_and(|message| message.seq() <= mark.seq) {
            self.rows.put_mark(&mark, &self.to_row);
            walk.rows += 1;
        }
        true
    }

    /// What the base lists comes before all that the layer has, but for what was moved there.
    fn step_order(&mut self, walk: &mut BoxWalk) -> bool {
        let (seq, uid) = match (&self.base, self.own(&walk.of)) {
            (Some(base), _) if !walk.base.is_empty() => {
                walk.base.start += 1;
                base.order_at(walk.base.start - 1)
            }
            (base, Some(own)) => {
                let Some(rare) = &own.rare else { return false };
                let covers = match base {
                    Some(base) if walk.of.base.is_some() => base.covers(),
                    _ => 0,
                };
                let after = walk.order.max((covers, Uid::MAX));
                let Some(listed) = rare.marks.after(after).next() else {
                    return false;
                };
                walk.order = listed;
                listed
            }
            _ => return false,
        };
        let stack = self.stack(&walk.of);
        let mark = stack.mark(uid);
        if mark.is_some_and(|mark| mark.is_own() && mark.seq == seq)
            && stack.message(uid).is_some_and(|m| m.seq() <= seq)
        {
            self.rows.put_numbered(seq, &[uid]);
            walk.rows += 1;
        }
        true
    }

    /// One range, or at last the rows of those that stay.
    fn step_vanished(&mut self, walk: &mut BoxWalk) -> bool {
        let rare = self.own(&walk.of).and_then(|own| own.rare.as_ref());
        let own = rare.map(|rare| &rare.tombstones);
        let mut vanished = match walk.vanished.take() {
            Some(vanished) => vanished,
            None => {
                let base = match (&self.base, walk.of.base) {
                    (Some(base), Some(row)) => base.vanished_since(row, 0).collect(),
                    _ => Vec::new(),
                };
                if base.is_empty() && own.is_none_or(Tombstones::is_empty) {
                    return false;
                }
                Box::new(vanished::Walk::new(base))
            }
        };
        let upper = own.zip(vanished.next());
        if vanished.step(upper.and_then(|(own, next)| own.from(next).next())) {
            walk.vanished = Some(vanished);
            return true;
        }
        let (ranges, floor) = vanished.finish();
        for (first, last, seq) in ranges {
            self.rows.put_numbered(seq, &[first, last]);
            walk.rows += 1;
        }
        if let Some(parts) = self.parts.get_mut(self.walk.box_count - 1) {
            parts.vanished_floor = floor;
        }
        false
    }

    /// A row of ACCOUNTS, or its text.
    pub(super) fn step_account(&mut self, rows: bool) -> bool {
        let Some(owner) = self.next_owner() else {
            return false;
        };
        let entry = owner.entry.map(|entry| &self.frozen.entries[entry]);
        let own = entry.and_then(|entry| entry.password_hash.as_deref());
        let hash = match (own, &self.base, owner.base) {
            _ if !owner.fields.has_record() => Cow::Borrowed(""),
            (Some(own), ..) => Cow::Borrowed(own),
            (None, Some(base), Some(row)) => base.password_hash(row),
            (None, ..) => Cow::Borrowed(""),
        };
        let address = match (entry, owner.base, &self.base) {
            (Some(entry), ..) => entry.address.as_str().as_bytes(),
            (None, Some(row), Some(base)) => base.address(row),
            _ => b"",
        };
        if rows {
            let row = AccountRow {
                text_offset: self.walk.text,
                address_length: address.len() as u64,
                hash_length: hash.len() as u64,
                fields: owner.fields,
                first_box: self.walk.first,
                boxes: owner.boxes.len() as u64,
            };
            self.rows.put_account(&row, &self.to_row);
            self.walk.text += (address.len() + hash.len()) as u64;
            self.walk.first += owner.boxes.len() as u64;
        } else {
            self.rows.bytes.extend_from_slice(address);
            self.rows.bytes.extend_from_slice(hash.as_bytes());
        }
        true
    }

    /// A row of MAILBOXES, or its text.
    pub(super) fn step_name(&mut self, rows: bool) -> bool {
        let Some(of) = self.next_box() else {
            return false;
        };
        let stack = self.stack(&of);
        let name = stack.name();
        let own = self.own(&of).and_then(|own| own.rare.as_ref());
        let keywords = match (own.and_then(|rare| rare.keywords.as_ref()), stack.base) {
            (Some(own), _) => {
                let words = own.iter().flat_map(|word| [word, "\0"]);
                Cow::Owned(words.collect())
            }
            (None, Some((base, row))) => Cow::Borrowed(base.keyword_text(row)),
            (None, None) => Cow::Borrowed(""),
        };
        if rows {
            let default = BoxParts::default();
            let parts = self.parts.get(self.walk.box_count - 1).unwrap_or(&default);
            let mut fields = of.fields;
            fields.vanished_floor = fields.vanished_floor.max(parts.vanished_floor);
            let row = BoxRow {
                id: of.id,
                text_offset: self.walk.text,
                name_length: name.len() as u64,
                keywords_length: keywords.len() as u64,
                fields,
                parts: parts.parts,
            };
            let text = name.len() + keywords.len();
            self.rows.put_box(&row, &self.to_row);
            self.walk.text += text as u64;
        } else {
            let text = [name, &keywords].concat();
            self.rows.bytes.extend_from_slice(text.as_bytes());
        }
        true
    }
}
