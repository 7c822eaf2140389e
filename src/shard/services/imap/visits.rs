//! Mailboxes of other accounts (RFC 4314, RFC 2342): an ask about one goes to the shard that owns it,
//! and is answered there as an ask of the owner would be, as far as the owner has granted it.
//!
//! Guarantees: what a visitor has open there, and what it has begun to put there, ends with its
//! connection. A connection visits a few accounts at a time.
//! Does not know: who may do what; what a session makes of an answer.

use std::cell::RefCell;
use std::rc::Rc;

use super::super::super::Shard;
use super::super::super::conn::ConnKey;
use super::super::super::wait::Slot;
use super::super::Asked;
use super::guests::{Visitor, run, serve};
use super::{Desk, acl, answer_at, append, at_once, later, shared, transfer, watching};
use crate::limits::IMAP_VISITS_MAX;
use crate::mail::Address;
use crate::proto::imap::{Answer, Ask, Located, Manage, QuotaOf, Refusal, Rights, locate};

/// What a connection has at others.
#[derive(Default)]
pub(super) struct Visits {
    /// The mailbox it has open, if it is another account's: whose, and its name there.
    pub(super) open: Option<(Address, String)>,
    /// Where messages of APPEND are coming in.
    streaming: Option<Address>,
    /// Whose message is the source of CATENATE, if it is another account's.
    source: Option<Address>,
    /// Desks at others, the one that was used last at the end.
    pub(super) stays: Vec<Stay>,
    /// What it wants to be told of.
    pub(super) watching: Option<Box<watching::Watching>>,
}

/// A desk at another account.
pub(super) struct Stay {
    /// Whose mailboxes.
    pub(super) account: Address,
    /// Which shard, and which key there.
    owner: usize,
    guest: ConnKey,
    /// The account is watched from there: it stays as long as that.
    pub(super) watched: bool,
    /// Something has happened since it was asked what.
    pub(super) has_news: bool,
}

/// An answer that somebody beside the session waits for.
pub(super) type Expected = RefCell<Option<Rc<Slot<Answer>>>>;

/// Where an ask belongs; with the name of the mailbox as it is called there.
enum Target {
    Here(Ask),
    At(Address, Ask),
    /// From here, or from there, to the other.
    Between(transfer::Transfer),
    Replace(transfer::Replacement),
    Refused(Ask, Refusal),
}

/// Takes an ask of a session: answers it here, or has it answered where it belongs.
pub(super) fn dispatch(shard: &Rc<Shard>, key: ConnKey, desk: Rc<Desk>, ask: Ask) -> Asked {
    match ask {
        Ask::Shared => return shared::list(shard, key, desk),
        Ask::WatchOthers { names, subscribed } => {
            return watching::begin(shard, key, desk, names, subscribed);
        }
        Ask::WatchAccount { on: false } if desk.is_watching() => {
            return watching::end(shard, key, desk);
        }
        Ask::Happened { with_subscribed } if desk.is_watching() => {
            return watching::happened(shard, key, desk, with_subscribed);
        }
        Ask::Manage(Manage::Subscribe { .. }) if desk.is_watching() => {
            return watching::subscribe(shard, key, desk, ask);
        }
        Ask::Close | Ask::Abort if desk.visits.borrow().is_none() => {}
        Ask::Close => {
            desk.open.replace(None);
            let open = desk.with_visits(|visits| visits.open.take());
            if let Some((account, _)) = open {
                return send(shard, key, desk, account, Ask::Close);
            }
        }
        Ask::Abort => {
            // Nothing of an APPEND that is given up stays anywhere.
            append::abort(shard, &desk);
            let streaming = desk.with_visits(|visits| visits.streaming.take());
            if let Some(account) = streaming {
                return send(shard, key, desk, account, Ask::Abort);
            }
        }
        _ => {}
    }
    match target(&desk, ask) {
        Target::Here(ask) => {
            match ask {
                Ask::Open { .. } => {
                    if let Some(left) = leave(shard, &desk) {
                        return close_then(shard, key, desk, left, (None, ask));
                    }
                }
                Ask::Source { .. } if desk.visits.borrow().is_some() => {
                    desk.with_visits(|visits| visits.source = None);
                }
                _ => {}
            }
            answer_at(shard, key, desk, ask)
        }
        Target::At(account, ask) => {
            match &ask {
                Ask::Open { .. } => {
                    desk.open.replace(None);
                    let elsewhere = |(open, _): &mut (Address, String)| *open != account;
                    let is_other = desk.with_visits(|v| v.open.as_mut().is_some_and(elsewhere));
                    let left = if is_other { leave(shard, &desk) } else { None };
                    if let Some(left) = left {
                        return close_then(shard, key, desk, left, (Some(account), ask));
                    }
                }
                Ask::Chunk { .. } => {
                    desk.with_visits(|visits| visits.streaming = Some(account.clone()));
                }
                Ask::Source { .. } => {
                    desk.with_visits(|visits| visits.source = Some(account.clone()));
                }
                _ => {}
            }
            send(shard, key, desk, account, ask)
        }
        Target::Between(transfer) => {
            let home = Rc::clone(shard);
            later(shard, key, async move {
                transfer::carry_out(&home, key, &desk, transfer).await
            })
        }
        Target::Replace(replacement) => {
            let home = Rc::clone(shard);
            later(shard, key, async move {
                transfer::replace(&home, key, &desk, replacement).await
            })
        }
        Target::Refused(ask, refusal) => at_once(refused(&ask, refusal)),
    }
}

/// Closes what is open at another account, while nobody waits for it; where the desk there is still
/// wanted, it is to be closed from here, which is the account that is returned.
fn leave(shard: &Rc<Shard>, desk: &Desk) -> Option<Address> {
    let mut visits = desk.visits.borrow_mut();
    let visits = visits.as_mut()?;
    let (account, _) = visits.open.take()?;
    if visits
        .stays
        .iter()
        .any(|stay| stay.account == account && stay.watched)
    {
        return Some(account);
    }
    let stay = visits.forget(&account)?;
    release_at(shard, &stay);
    None
}

/// Closes what is open at an account, then has an ask answered here, or at the other account.
fn close_then(
    shard: &Rc<Shard>,
    key: ConnKey,
    desk: Rc<Desk>,
    open: Address,
    (account, ask): (Option<Address>, Ask),
) -> Asked {
    let home = Rc::clone(shard);
    later(shard, key, async move {
        call(&home, key, &desk, &open, Ask::Close).await;
        match account {
            Some(account) => call(&home, key, &desk, &account, ask).await,
            None => run(&home, key, &desk, ask).await,
        }
    })
}

impl Visits {
    fn forget(&mut self, account: &Address) -> Option<Stay> {
        let at = self
            .stays
            .iter()
            .position(|stay| stay.account == *account)?;
        Some(self.stays.remove(at))
    }
}

/// Something has happened where a connection of this shard is a guest.
pub(super) fn note_news(home: &Rc<Shard>, conn: ConnKey, guest: ConnKey) {
    if let Some(desk) = home.desks.of(conn)
        && let Some(visits) = desk.visits.borrow_mut().as_mut()
    {
        let stays = visits.stays.iter_mut();
        stays
            .filter(|stay| stay.guest == guest)
            .for_each(|stay| stay.has_news = true);
    }
    home.wake_session(conn);
}

impl Desk {
    pub(super) fn with_visits<T>(&self, work: impl FnOnce(&mut Visits) -> T) -> T {
        let mut visits = self.visits.borrow_mut();
        work(visits.get_or_insert_default())
    }

    /// The next answer goes to whoever waits for this.
    pub(super) fn expect_answer(&self) -> Rc<Slot<Answer>> {
        let slot = Slot::new();
        self.expected.replace(Some(Rc::clone(&slot)));
        slot
    }

    /// It wants to be told what happens at other accounts.
    fn is_watching(&self) -> bool {
        let visits = self.visits.borrow();
        visits
            .as_ref()
            .is_some_and(|visits| visits.watching.is_some())
    }

    pub(super) fn locate(&self, name: &str) -> Located {
        locate(name, &self.address)
    }
}

/// The open mailbox is there, or here.
fn open_at(desk: &Desk) -> Option<Address> {
    let visits = desk.visits.borrow();
    let open = visits.as_ref()?.open.as_ref()?;
    Some(open.0.clone())
}

fn target(desk: &Desk, mut ask: Ask) -> Target {
    let nowhere = || Refusal::Cannot("below this name are other accounts only".to_owned());
    let name = match &mut ask {
        Ask::Mailbox { name }
        | Ask::Open { name }
        | Ask::DeletedBytes { name }
        | Ask::Chunk { name, .. }
        | Ask::Append { name, .. }
        | Ask::Copy { name, .. }
        | Ask::Source {
            name: Some(name), ..
        }
        | Ask::Quota(QuotaOf::Mailbox(name))
        | Ask::Annotations {
            mailbox: Some(name),
            ..
        }
        | Ask::Annotate {
            mailbox: Some(name),
            ..
        }
        | Ask::Manage(
            Manage::Create { name, .. }
            | Manage::Delete { name }
            | Manage::Rename { from: name, .. },
        ) => name,
        Ask::Access(access) => access.name_mut(),
        Ask::Look { .. }
        | Ask::Keywords { .. }
        | Ask::Rows { .. }
        | Ask::Vanished { .. }
        | Ask::Summaries { .. }
        | Ask::Read { .. }
        | Ask::Match { .. }
        | Ask::Store(_)
        | Ask::Source { .. }
        | Ask::Expunge { .. } => {
            return match open_at(desk) {
                Some(account) => Target::At(account, ask),
                None => Target::Here(ask),
            };
        }
        Ask::ReadSource { .. } => {
            let visits = desk.visits.borrow();
            let source = visits.as_ref().and_then(|visits| visits.source.clone());
            return match source {
                Some(account) => Target::At(account, ask),
                None => Target::Here(ask),
            };
        }
        _ => return Target::Here(ask),
    };
    let account = match desk.locate(name) {
        Located::Own(own) => {
            *name = own;
            None
        }
        Located::Of(account, there) => {
            *name = there;
            Some(account)
        }
        Located::Nowhere => {
            let refusal = match ask {
                Ask::Manage(_) => nowhere(),
                _ => Refusal::Missing,
            };
            return Target::Refused(ask, refusal);
        }
    };
    match ask {
        Ask::Copy { uids, name, moves } => {
            let open = open_at(desk);
            if open.is_none() && account.is_none() {
                return Target::Here(Ask::Copy { uids, name, moves });
            }
            return Target::Between(transfer::Transfer {
                from: open,
                to: account,
                uids,
                name,
                moves,
            });
        }
        Ask::Append {
            name,
            messages,
            replaces: Some(replaced),
        } if open_at(desk) != account => {
            return Target::Replace(transfer::Replacement {
                from: open_at(desk),
                to: account,
                name,
                messages,
                replaced,
            });
        }
        Ask::Manage(Manage::Rename { ref mut to, .. }) => {
            let to_account = match desk.locate(to) {
                Located::Own(own) => {
                    *to = own;
                    None
                }
                Located::Of(account, there) => {
                    *to = there;
                    Some(account)
                }
                Located::Nowhere => return Target::Refused(ask, nowhere()),
            };
            if to_account != account {
                let text = "RENAME stays within an account: make a new mailbox and MOVE to it";
                return Target::Refused(ask, Refusal::Cannot(text.to_owned()));
            }
        }
        _ => {}
    }
    match account {
        Some(account) => Target::At(account, ask),
        None => Target::Here(ask),
    }
}

/// An answer of the kind that belongs to this ask.
pub(super) fn refused(ask: &Ask, refusal: Refusal) -> Answer {
    match ask {
        Ask::Mailboxes | Ask::Shared => Answer::Mailboxes(Err(refusal)),
        Ask::Mailbox { .. } | Ask::Manage(Manage::Create { .. }) => Answer::Mailbox(Err(refusal)),
        Ask::Open { .. } => Answer::Opened(Err(refusal)),
        Ask::Look { .. } => Answer::News(Err(refusal)),
        Ask::Keywords { .. } => Answer::Keywords(Err(refusal)),
        Ask::Rows { .. } => Answer::Rows(Err(refusal)),
        Ask::Vanished { .. } => Answer::Vanished(Err(refusal)),
        Ask::Summaries { messages } => {
            Answer::Summaries(messages.iter().map(|_| Err(refusal.clone())).collect())
        }
        Ask::Read { .. } | Ask::ReadSource { .. } => Answer::Data(Err(refusal)),
        Ask::Source { .. } => Answer::Source(Err(refusal)),
        Ask::Match { .. } => Answer::Matched(Err(refusal)),
        Ask::Store(_) => Answer::Stored(Err(refusal)),
        Ask::Copy { .. } => Answer::Copied(Err(refusal)),
        Ask::Append { .. } => Answer::Appended(Err(refusal)),
        Ask::Quota(_) | Ask::SetQuota { .. } => Answer::Quota(Err(refusal)),
        Ask::DeletedBytes { .. } => Answer::DeletedBytes(Err(refusal)),
        Ask::Access(access) => acl::refused(access, refusal),
        Ask::Annotations { .. } => Answer::Annotations(Err(refusal)),
        Ask::Happened { .. } => Answer::Happened(Err(refusal)),
        Ask::WatchOthers { .. } => Answer::Watched(Err(refusal)),
        _ => Answer::Done(Err(refusal)),
    }
}

/// Has an ask answered at another account, and tells the session.
fn send(shard: &Rc<Shard>, key: ConnKey, desk: Rc<Desk>, account: Address, ask: Ask) -> Asked {
    let home = Rc::clone(shard);
    later(shard, key, async move {
        call(&home, key, &desk, &account, ask).await
    })
}

/// Has an ask answered at another account.
pub(super) async fn call(
    home: &Rc<Shard>,
    conn: ConnKey,
    desk: &Desk,
    account: &Address,
    ask: Ask,
) -> Answer {
    let known = desk.with_visits(|visits| {
        let known = visits.stays.iter().find(|stay| stay.account == *account);
        known.map(|stay| stay.guest)
    });
    let opens = match &ask {
        Ask::Open { name } => Some(name.clone()),
        _ => None,
    };
    let ends_stream = matches!(ask, Ask::Append { .. } | Ask::Abort);
    let is_chunk = matches!(ask, Ask::Chunk { .. });
    let visitor = Visitor {
        home: home.id,
        conn,
        user: desk.address.clone(),
        validity: desk.validity,
        account: account.clone(),
        known,
    };
    let owner = home.owner_of(home.partition_of(account));
    let work = async move |there: Rc<Shard>| serve(&there, visitor, ask).await;
    let (guest, mut answer) = home.mesh.call(home, owner, work).await;
    let surplus = desk.with_visits(|visits| {
        // A piece that is refused ends it, too: nobody aborts it then.
        if ends_stream || is_chunk && !matches!(answer, Answer::Done(Ok(()))) {
            visits.streaming = None;
        }
        if let Some(name) = opens {
            let is_open = matches!(answer, Answer::Opened(Ok(_)));
            visits.open = is_open.then(|| (account.clone(), name));
        }
        visits.note(account, owner, guest)
    });
    for stay in &surplus {
        release_at(home, stay);
    }
    give_back_name(&mut answer, account);
    answer
}

impl Visits {
    /// Notes a desk; returns those that are in use no longer, where there are too many.
    fn note(&mut self, account: &Address, owner: usize, guest: Option<ConnKey>) -> Vec<Stay> {
        let known = self.forget(account);
        let Some(guest) = guest else {
            // The account is there no longer, and what it had of us went with it.
            return Vec::new();
        };
        let known = known.filter(|stay| stay.guest == guest);
        self.stays.push(known.unwrap_or_else(|| Stay {
            account: account.clone(),
            owner,
            guest,
            watched: false,
            has_news: false,
        }));
        self.surplus(account)
    }

    /// Takes out desks that are in use no longer, the oldest first, until there are not too many. That
    /// of this account stays.
    pub(super) fn surplus(&mut self, account: &Address) -> Vec<Stay> {
        let open = self.open.as_ref().map(|(account, _)| account);
        let busy = [open, self.streaming.as_ref(), self.source.as_ref()];
        let unwatched = self.stays.iter().filter(|stay| !stay.watched).count();
        let mut left = unwatched.saturating_sub(IMAP_VISITS_MAX);
        let goes = |stay: &mut Stay| {
            let in_use =
                stay.watched || stay.account == *account || busy.contains(&Some(&stay.account));
            let goes = left > 0 && !in_use;
            left -= usize::from(goes);
            goes
        };
        self.stays.extract_if(.., goes).collect()
    }
}

/// The session knows the mailbox by another name than its owner.
fn give_back_name(answer: &mut Answer, account: &Address) {
    let mailbox = match answer {
        Answer::Mailbox(Ok(mailbox)) => &mut **mailbox,
        Answer::Opened(Ok(opened)) => &mut opened.mailbox,
        _ => return,
    };
    *mailbox = shared::as_other(std::mem::take(mailbox), account);
}

/// Names of the keywords of the open mailbox, wherever it is.
pub(super) async fn keywords(
    home: &Rc<Shard>,
    desk: &Desk,
    account: Option<&Address>,
) -> Vec<String> {
    let Some(account) = account else {
        return acl::keywords_in_open(home, desk);
    };
    let known = at_guest(home, desk, account, acl::keywords_in_open).await;
    known.unwrap_or_default()
}

/// The rights of the user in the open mailbox, wherever it is.
pub(super) async fn rights_in_open(
    home: &Rc<Shard>,
    desk: &Desk,
    account: Option<&Address>,
) -> Result<Rights, Refusal> {
    let Some(account) = account else {
        return acl::rights_in_open(home, desk);
    };
    let rights = at_guest(home, desk, account, acl::rights_in_open).await;
    rights.unwrap_or(Err(Refusal::Missing))
}

/// Looks at the desk that the connection has at another account; `None`: it has none.
async fn at_guest<T: Send + 'static>(
    home: &Rc<Shard>,
    desk: &Desk,
    account: &Address,
    look: fn(&Shard, &Desk) -> T,
) -> Option<T> {
    let (owner, guest) = desk.with_visits(|visits| {
        let found = visits.stays.iter().find(|stay| stay.account == *account);
        found.map(|stay| (stay.owner, stay.guest))
    })?;
    let work = async move |there: Rc<Shard>| {
        let desk = there.desks.of(guest);
        desk.map(|desk| look(&there, &desk))
    };
    home.mesh.call(home, owner, work).await
}

/// Ends a desk at another shard.
pub(super) fn release_at(home: &Rc<Shard>, stay: &Stay) {
    let (owner, guest) = (stay.owner, stay.guest);
    if owner == home.id {
        return home.desks.release(home, guest);
    }
    let home = Rc::clone(home);
    super::super::super::spawn(async move {
        let job = Box::new(move |there: &Rc<Shard>| there.desks.release(there, guest));
        home.mesh.send(owner, job).await;
    });
}

/// The connection has ended, moves away, or logs in anew.
pub(super) fn end(shard: &Rc<Shard>, desk: &Desk) {
    let visits = desk.visits.borrow_mut().take();
    for stay in visits.map(|visits| visits.stays).unwrap_or_default() {
        release_at(shard, &stay);
    }
}

#[cfg(test)]
mod tests;
