//! Commands that one ask or a few carry out: CREATE, DELETE, RENAME, SUBSCRIBE, STATUS, CLOSE,
//! EXPUNGE, COPY, MOVE.

use super::super::command::{Command, Flags, StatusItem, StatusItems};
use super::super::names::{self, SEPARATOR};
use super::super::{Answer, Ask, Copied, Mailbox, Manage as Change, Refusal, Rights, sets};
use super::finish::{Finish, SyncMode, lacks};
use super::list::write_status;
use super::{Context, Phase, Selected, Turn};
use crate::limits::IMAP_SLICE_MESSAGES;

/// One of these that runs.
pub(super) struct Manage {
    what: What,
    next: Next,
}

enum Next {
    Ask(Ask),
    Asked,
    /// An untagged response, then the end.
    Say(Finish, Finish),
    Done(Finish),
}

enum What {
    /// CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE
    Change,
    /// STATUS
    Status(StatusItems),
    /// STATUS with DELETED-STORAGE, which takes a look of its own.
    Measure(StatusItems, Box<Mailbox>),
    /// UNSELECT, or CLOSE when its messages are gone
    Close,
    /// EXPUNGE, and CLOSE before: `\Deleted` messages are looked for, slice by slice.
    Find {
        /// Not looked at yet.
        left: sets::Cursor,
        /// Found so far.
        found: Vec<u32>,
        close: bool,
    },
    /// The messages that were found are going.
    Expunge { close: bool },
    /// COPY
    Copy,
    /// MOVE
    Move,
}

/// Starts one of these commands.
pub(super) fn begin(command: Command, context: &mut Context<'_>) -> Result<Manage, Finish> {
    let utf8 = context.enabled.utf8;
    let decode = |raw: &[u8]| {
        names::decode(raw, utf8).map_err(|error| Finish::no("CANNOT", error.to_string()))
    };
    // RFC 9051 §6.3.4: a separator at the end says that others will be made below it.
    let without_end = |mut name: String| {
        if name.ends_with(SEPARATOR) {
            name.pop();
        }
        name
    };
    let change = |change| Ok(Manage::new(What::Change, Ask::Manage(change)));
    match command {
        Command::Create { name, special_use } => {
            if special_use.len() > 1 {
                return Err(Finish::no(
                    "USEATTR",
                    "a mailbox has one special use at most",
                ));
            }
            change(Change::Create {
                name: without_end(decode(&name)?),
                special_use: special_use.into_iter().next(),
            })
        }
        Command::Delete(name) => change(Change::Delete {
            name: decode(&name)?,
        }),
        Command::Rename(from, to) => change(Change::Rename {
            from: decode(&from)?,
            to: without_end(decode(&to)?),
        }),
        Command::Subscribe(name) => change(Change::Subscribe {
            name: decode(&name)?,
            on: true,
        }),
        Command::Unsubscribe(name) => change(Change::Subscribe {
            name: decode(&name)?,
            on: false,
        }),
        Command::Status(name, items) => {
            // RFC 7162 §3.1: a client that asks for it knows of it.
            context.enabled.condstore |= items.has(StatusItem::HighestModSeq);
            let name = decode(&name)?;
            Ok(Manage::new(What::Status(items), Ask::Mailbox { name }))
        }
        Command::Unselect => Ok(Manage::close_mailbox()),
        Command::Close => match context.selected() {
            // RFC 9051 §6.4.1: of a mailbox opened by EXAMINE nothing is removed.
            // Nor where one may not (RFC 4314 §4).
            Some(selected) if !selected.read_only && selected.rights.has(Rights::EXPUNGE) => {
                Ok(Manage::expunge(all_of(selected), true))
            }
            _ => Ok(Manage::close_mailbox()),
        },
        Command::Expunge(set) => {
            let selected = writable(context)?;
            let uids = match set {
                None => all_of(selected),
                Some(set) => resolve(&set, true, selected)?,
            };
            Ok(Manage::expunge(uids, false))
        }
        Command::Copy {
            set,
            by_uid,
            name,
            moves,
        } => {
            let name = decode(&name)?;
            let selected = if moves {
                writable(context)?
            } else {
                context.selected().ok_or_else(Finish::confused)?
            };
            let uids = resolve(&set, by_uid, selected)?;
            if uids.is_empty() {
                // RFC 9051 §6.4.9: UIDs that are not there are no error.
                return Err(Finish::ok().with_sync(SyncMode::Whole));
            }
            let what = if moves { What::Move } else { What::Copy };
            Ok(Manage::new(what, Ask::Copy { uids, name, moves }))
        }
        // The session carries the others out itself.
        _ => Err(Finish::confused()),
    }
}

/// The open mailbox, if it may be changed.
pub(super) fn writable<'a>(context: &'a mut Context<'_>) -> Result<&'a mut Selected, Finish> {
    match context.selected() {
        Some(selected) if !selected.read_only => Ok(selected),
        Some(_) => Err(Finish::no(
            "",
            "the mailbox is open for reading only (EXAMINE)",
        )),
        None => Err(Finish::confused()),
    }
}

/// The UIDs that a set names, of messages that the client knows.
pub(super) fn resolve(
    set: &sets::Set,
    by_uid: bool,
    selected: &Selected,
) -> Result<Vec<(u32, u32)>, Finish> {
    if set.is_saved() {
        return Ok(selected.view.known(&selected.saved));
    }
    let view = &selected.view;
    if by_uid {
        return Ok(view.known(&set.resolve(view.last_uid())));
    }
    // `1:*` in an empty mailbox names nothing, and many clients write it; other numbers that are not
    // there are an error (RFC 9051 §2.3.1.2).
    if set.highest() > view.exists() && !(view.exists() == 0 && set.has_last()) {
        return Err(Finish::bad(format!(
            "no such message number: the mailbox has {} messages",
            view.exists()
        )));
    }
    Ok(view.uids_of_numbers(&set.resolve(view.exists())))
}

fn all_of(selected: &Selected) -> Vec<(u32, u32)> {
    selected.view.ranges().collect()
}

/// The next messages of a set.
fn look(left: &sets::Cursor) -> Ask {
    Ask::Rows {
        uids: left.slice(),
        changed_since: None,
        count_max: IMAP_SLICE_MESSAGES,
    }
}

impl Manage {
    fn new(what: What, ask: Ask) -> Manage {
        Manage {
            what,
            next: Next::Ask(ask),
        }
    }

    /// Tells the shard that no mailbox is open any more.
    pub(super) fn close_mailbox() -> Manage {
        Manage::new(What::Close, Ask::Close)
    }

    /// The user goes (RFC 8437 §3).
    pub(super) fn leave() -> Manage {
        Manage::new(What::Close, Ask::Leave)
    }

    /// The client wants to be told what happens in its account.
    pub(super) fn watch_account() -> Manage {
        Manage::new(What::Change, Ask::WatchAccount { on: true })
    }

    fn expunge(uids: Vec<(u32, u32)>, close: bool) -> Manage {
        let left = sets::Cursor::new(uids);
        let ask = look(&left);
        let what = What::Find {
            left,
            found: Vec::new(),
            close,
        };
        Manage::new(what, ask)
    }

    /// Bytes of memory held beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        let what = match &self.what {
            What::Find { left, found, .. } => left.held_bytes() + found.capacity() * 4,
            _ => 0,
        };
        what + match &self.next {
            Next::Say(said, _) => said.held_bytes(),
            Next::Done(finish) => finish.held_bytes(),
            Next::Ask(_) | Next::Asked => 0,
        }
    }

    pub(super) fn go(&mut self, out: &mut Vec<u8>) -> Turn {
        match std::mem::replace(&mut self.next, Next::Asked) {
            Next::Ask(ask) => Turn::Ask(ask),
            Next::Say(mut said, finish) => {
                if said.write(b"*", "", out) {
                    return Turn::Finish(finish);
                }
                self.next = Next::Say(said, finish);
                Turn::Drain
            }
            Next::Asked => Turn::Finish(Finish::confused()),
            Next::Done(finish) => Turn::Finish(finish),
        }
    }

    pub(super) fn answer(&mut self, answer: Answer, context: &mut Context<'_>, out: &mut Vec<u8>) {
        self.next = match refusal_of(&answer) {
            Some(refusal) => {
                let may_create = matches!(self.what, What::Copy | What::Move);
                let finish = Finish::refused(refusal, may_create);
                Next::Done(finish.with_sync(SyncMode::Whole))
            }
            None => self.take(answer, context, out),
        };
    }

    fn take(&mut self, answer: Answer, context: &mut Context<'_>, out: &mut Vec<u8>) -> Next {
        let done = || Next::Done(Finish::ok().with_sync(SyncMode::Whole));
        match (&mut self.what, answer) {
            // RFC 8474 §4.1: the client learns the id of what it has made.
            (What::Change, Answer::Mailbox(Ok(mailbox))) => {
                let code = format!("MAILBOXID ({})", mailbox.object_id);
                Next::Done(Finish::ok_with(code).with_sync(SyncMode::Whole))
            }
            (What::Change, Answer::Done(Ok(()))) => done(),
            (What::Status(_), Answer::Mailbox(Ok(mailbox)))
                if !mailbox.rights.has(Rights::READ) =>
            {
                let refusal = lacks(&mailbox, Rights::READ).unwrap_or(Refusal::Missing);
                Next::Done(Finish::refused(refusal, false).with_sync(SyncMode::Whole))
            }
            (What::Status(items), Answer::Mailbox(Ok(mailbox)))
                if items.has(StatusItem::DeletedStorage) && mailbox.deleted > 0 =>
            {
                let name = mailbox.name.clone();
                self.what = What::Measure(*items, mailbox);
                Next::Ask(Ask::DeletedBytes { name })
            }
            (What::Measure(items, mailbox), Answer::DeletedBytes(Ok(bytes))) => {
                mailbox.deleted_bytes = bytes;
                let utf8 = context.enabled.utf8;
                write_status(mailbox, *items, utf8, context.settings, out);
                done()
            }
            (What::Status(items), Answer::Mailbox(Ok(mailbox))) => {
                write_status(
                    &mailbox,
                    *items,
                    context.enabled.utf8,
                    context.settings,
                    out,
                );
                done()
            }
            (What::Close, Answer::Done(Ok(()))) => {
                if matches!(context.phase, Phase::Selected(_)) {
                    *context.phase = Phase::Authenticated;
                }
                Next::Done(Finish::ok())
            }
            (What::Find { left, found, close }, Answer::Rows(Ok(rows))) => {
                let selected = context.selected();
                let may_expunge = selected.is_none_or(|s| s.rights.has(Rights::EXPUNGE));
                let deleted = rows.iter().filter(|row| row.flags.has(Flags::DELETED));
                found.extend(deleted.map(|row| row.uid));
                let close = *close;
                let last = rows.last().filter(|_| rows.len() >= IMAP_SLICE_MESSAGES);
                left.pass(last.map(|row| row.uid));
                match () {
                    () if !left.is_done() => Next::Ask(look(left)),
                    // Where there may be no right to it, the shard says so (RFC 4314 §4).
                    () if found.is_empty() && may_expunge => self.expunged(close),
                    () => {
                        let uids = std::mem::take(found);
                        self.what = What::Expunge { close };
                        Next::Ask(Ask::Expunge {
                            uids,
                            // Somebody may have undeleted one since it was looked at.
                            only_deleted: true,
                        })
                    }
                }
            }
            (What::Expunge { close }, Answer::Done(Ok(()))) => {
                let close = *close;
                self.expunged(close)
            }
            (What::Copy, Answer::Copied(Ok(copied))) => {
                let finish = copied_to(&copied).unwrap_or_else(none_left);
                Next::Done(finish.with_sync(SyncMode::Whole))
            }
            (What::Move, Answer::Copied(Ok(copied))) => match copied_to(&copied) {
                // RFC 6851 §4.3: before the messages go.
                Some(told) => {
                    let finish = Finish::ok().with_sync(SyncMode::Whole).with_modseq();
                    Next::Say(told.with_text("Moved"), finish)
                }
                None => Next::Done(none_left().with_sync(SyncMode::Whole)),
            },
            _ => Next::Done(Finish::confused()),
        }
    }

    fn expunged(&mut self, close: bool) -> Next {
        if close {
            self.what = What::Close;
            return Next::Ask(Ask::Close);
        }
        // RFC 7162 §3.2.7.
        Next::Done(Finish::ok().with_sync(SyncMode::Whole).with_modseq())
    }
}

fn refusal_of(answer: &Answer) -> Option<Refusal> {
    match answer {
        Answer::Mailbox(Err(refusal))
        | Answer::Rows(Err(refusal))
        | Answer::Copied(Err(refusal))
        | Answer::DeletedBytes(Err(refusal))
        | Answer::Done(Err(refusal)) => Some(refusal.clone()),
        _ => None,
    }
}

/// OK with `COPYUID` (RFC 4315 §3); `None`: nothing was copied.
fn copied_to(copied: &Copied) -> Option<Finish> {
    if copied.pairs.is_empty() {
        return None;
    }
    let (mut from, mut to) = (Vec::new(), Vec::new());
    for (here, there) in &copied.pairs {
        sets::push(&mut from, *here);
        sets::push(&mut to, *there);
    }
    let code = format!("COPYUID {} ", copied.validity);
    Some(Finish::ok_with_sets(code, [from, to]))
}

/// RFC 2180 §4.4: all messages that were named have been expunged by others.
fn none_left() -> Finish {
    Finish::no("EXPUNGEISSUED", "these messages are gone")
}
