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
use super::guests::{Visitor, serve};
use super::{Desk, acl, answer_at, append, at_once, later, transfer};
use crate::limits::IMAP_VISITS_MAX;
use crate::mail::Address;
use crate::proto::imap::{
    Answer, Ask, Located, Mailbox, Mailboxes, Manage, QuotaOf, Refusal, Rights, locate,
    name_of_other,
};

/// What a connection has at others.
#[derive(Default)]
pub(super) struct Visits {
    /// The mailbox it has open, if it is another account's: whose, and its name there.
    pub(super) open: Option<(Address, String)>,
    /// Where messages of APPEND are coming in.
    streaming: Option<Address>,
    /// Whose message is the source of CATENATE, if it is another account's.
    source: Option<Address>,
    /// Desks at others: whose mailboxes, which shard, which key there.
    desks: Vec<(Address, usize, ConnKey)>,
}

/// An answer that somebody beside the session waits for.
pub(super) type Expected = RefCell<Option<Rc<Slot<Answer>>>>;

/// Where an ask belongs; with the name of the mailbox as it is called there.
enum Target {
    Here(Ask),
    At(Address, Ask),
    /// From here, or from there, to the other.
    Between(transfer::Transfer),
    Refused(Ask, Refusal),
}

/// Takes an ask of a session: answers it here, or has it answered where it belongs.
pub(super) fn dispatch(shard: &Rc<Shard>, key: ConnKey, desk: Rc<Desk>, ask: Ask) -> Asked {
    match ask {
        Ask::Shared => return shared(shard, key, desk),
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
                Ask::Open { .. } => leave(shard, &desk),
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
                    if is_other {
                        leave(shard, &desk);
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
        Target::Refused(ask, refusal) => at_once(refused(&ask, refusal)),
    }
}

/// Closes what is open at another account, while nobody waits for it.
fn leave(shard: &Rc<Shard>, desk: &Desk) {
    let desks = match desk.visits.borrow_mut().as_mut() {
        Some(visits) => match visits.open.take() {
            Some((account, _)) => visits.forget(&account),
            None => None,
        },
        None => None,
    };
    if let Some((owner, guest)) = desks {
        release_at(shard, owner, guest);
    }
}

impl Visits {
    fn forget(&mut self, account: &Address) -> Option<(usize, ConnKey)> {
        let at = self.desks.iter().position(|(of, ..)| of == account)?;
        let (_, owner, guest) = self.desks.swap_remove(at);
        Some((owner, guest))
    }
}

impl Desk {
    fn with_visits<T>(&self, work: impl FnOnce(&mut Visits) -> T) -> T {
        let mut visits = self.visits.borrow_mut();
        work(visits.get_or_insert_default())
    }

    /// The next answer goes to whoever waits for this.
    pub(super) fn expect_answer(&self) -> Rc<Slot<Answer>> {
        let slot = Slot::new();
        self.expected.replace(Some(Rc::clone(&slot)));
        slot
    }

    fn locate(&self, name: &str) -> Located {
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
    let elsewhere = |what: &str| Refusal::Cannot(format!("{what} stays within an account"));
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
            replaces: Some(_), ..
        } if open_at(desk) != account => return Target::Refused(ask, elsewhere("REPLACE")),
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
                return Target::Refused(ask, elsewhere("RENAME"));
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
        let known = visits.desks.iter().find(|(of, ..)| of == account);
        known.map(|(.., guest)| *guest)
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
    if let Some((owner, guest)) = surplus {
        release_at(home, owner, guest);
    }
    give_back_name(&mut answer, account);
    answer
}

impl Visits {
    /// Notes a desk; one that is in use no longer, where there are too many.
    fn note(
        &mut self,
        account: &Address,
        owner: usize,
        guest: Option<ConnKey>,
    ) -> Option<(usize, ConnKey)> {
        let known = self.forget(account);
        let Some(guest) = guest else {
            return known;
        };
        self.desks.push((account.clone(), owner, guest));
        if self.desks.len() <= IMAP_VISITS_MAX {
            return None;
        }
        let open = self.open.as_ref().map(|(account, _)| account);
        let busy = [open, self.streaming.as_ref(), self.source.as_ref()];
        let in_use = |of: &Address| of == account || busy.contains(&Some(of));
        let idle = self.desks.iter().find(|(of, ..)| !in_use(of));
        let idle = idle.map(|(of, ..)| of.clone());
        idle.and_then(|account| self.forget(&account))
    }
}

/// The session knows the mailbox by another name than its owner.
fn give_back_name(answer: &mut Answer, account: &Address) {
    let mailbox = match answer {
        Answer::Mailbox(Ok(mailbox)) => &mut **mailbox,
        Answer::Opened(Ok(opened)) => &mut opened.mailbox,
        _ => return,
    };
    *mailbox = as_other(std::mem::take(mailbox), account);
}

/// What an owner uses a mailbox for says nothing about who visits it.
fn as_other(mailbox: Mailbox, account: &Address) -> Mailbox {
    Mailbox {
        name: name_of_other(account, &mailbox.name),
        special_use: None,
        ..mailbox
    }
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
        let found = visits.desks.iter().find(|(of, ..)| of == account);
        found.map(|(_, owner, guest)| (*owner, *guest))
    })?;
    let work = async move |there: Rc<Shard>| {
        let desk = there.desks.of(guest);
        desk.map(|desk| look(&there, &desk))
    };
    home.mesh.call(home, owner, work).await
}

/// Ends a desk at another shard.
fn release_at(home: &Rc<Shard>, owner: usize, guest: ConnKey) {
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
    for (_, owner, guest) in visits.map(|visits| visits.desks).unwrap_or_default() {
        release_at(shard, owner, guest);
    }
}

/// Mailboxes of others that the user may see.
fn shared(shard: &Rc<Shard>, key: ConnKey, desk: Rc<Desk>) -> Asked {
    let partition = match desk.partition(shard) {
        Ok(partition) => partition,
        Err(refusal) => return at_once(Answer::Mailboxes(Err(refusal))),
    };
    let site = shard.site();
    let mut owners = partition.let_in_by(&desk.address);
    owners.extend(site.sharing().cloned());
    owners.sort_unstable();
    owners.dedup();
    owners.retain(|owner| *owner != desk.address);
    if owners.is_empty() {
        return at_once(Answer::Mailboxes(Ok(Mailboxes::default())));
    }
    let home = Rc::clone(shard);
    later(shard, key, async move {
        let mut list = Vec::new();
        for owner in owners {
            let there = home.owner_of(home.partition_of(&owner));
            let look = || {
                let (account, user) = (owner.clone(), desk.address.clone());
                let validity = desk.validity;
                let work =
                    async move |there: Rc<Shard>| acl::visible(&there, &account, (&user, validity));
                home.mesh.call(&home, there, work)
            };
            let mut visible = look().await;
            if visible.is_empty() && partition.let_in_by(&desk.address).contains(&owner) {
                // It was let in once. That it is looked for again does no harm if this fails.
                let _ = partition.set_let_in_by(&desk.address, &owner, false).await;
                // Whoever has let it in meanwhile may have found the note, and taken it for theirs.
                visible = look().await;
                if !visible.is_empty() {
                    let _ = partition.set_let_in_by(&desk.address, &owner, true).await;
                }
            }
            list.extend(visible.into_iter().map(|mailbox| as_other(mailbox, &owner)));
        }
        Answer::Mailboxes(Ok(Mailboxes {
            list,
            subscribed: Vec::new(),
        }))
    })
}
