//! IMAP: login at the owner of the account, mailboxes and messages from its partition.
//!
//! ```text
//! mailboxes  LIST, STATUS, CREATE and its like, opening, what is new
//! messages   rows, flags, copies, bytes
//! changes    what has changed, slice by slice
//! inside     summaries, searches in messages
//! append     messages that come in
//! quota      what an account may hold
//! acl        who may do what
//! visits     mailboxes of other accounts, from home
//! shared     which of them a user may see
//! guests     the same, where they are
//! transfer   COPY and MOVE between accounts
//! annotations  GETMETADATA, SETMETADATA
//! happened   what happened in the account, for those who watch it
//! watching   the same at other accounts
//! ```
//!
//! The connection moves to the shard that owns the account before the password is looked at, as with
//! POP3; and once more, with a pass, when an administrator acts for somebody else [N34]. What the index tells is answered at once; what needs the disk, or goes on for long, runs as
//! a task. A session that has a mailbox open has a watch in its partition: one task a partition
//! fetches the notices and wakes the sessions concerned, nobody polls.

mod acl;
mod annotations;
mod append;
mod changes;
mod guests;
mod happened;
mod inside;
mod mailboxes;
mod messages;
mod quota;
mod shared;
mod transfer;
mod visits;
mod watching;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use rustc_hash::FxHashMap;

use super::super::conn::ConnKey;
use super::super::session::{AnyAnswer, AnyAsk};
use super::super::{LocalPartition, Shard};
use super::Asked;
use super::login::{self, Denial};
use crate::mail::Address;
use crate::proto::imap::{Answer, Ask, Credentials, LoginError, Mailboxes, Pass, Refusal, View};
use crate::ring::Token;
use crate::store::{
    self, Happening, MailboxId, MessagesChanged, StoreError, Uid, UidValidity, Watch,
};

/// What the IMAP connections of this shard have here.
#[derive(Default)]
pub(crate) struct Desks {
    by_conn: RefCell<FxHashMap<ConnKey, Rc<Desk>>>,
    views: RefCell<Views>,
    guests: guests::GuestKeys,
    grants: guests::Grants,
    openings: acl::Openings,
}

/// What one logged-in connection has.
struct Desk {
    address: Address,
    /// Of the account: another one of this address is none of this desk's business.
    validity: UidValidity,
    partition: u16,
    open: RefCell<Option<Open>>,
    /// The message that an APPEND reads (CATENATE).
    source: Cell<Option<(MailboxId, u32)>>,
    /// The session is told what happens in its account.
    account: RefCell<Option<Watch>>,
    /// Streams of the APPEND that is coming in, by message.
    streams: RefCell<Vec<append::Coming>>,
    /// Whose desk it is, where the account is somebody else's.
    guest: Option<Box<guests::Guest>>,
    /// What the connection has at other accounts.
    visits: RefCell<Option<Box<visits::Visits>>>,
    /// Who waits for the next answer, where it is not a session.
    expected: visits::Expected,
    /// Answers in a row that were given at once.
    at_once: Cell<u32>,
}

/// An open mailbox.
struct Open {
    id: MailboxId,
    /// Ends when this is dropped.
    _watch: Watch,
    /// What has changed since, while a session asks for it slice by slice.
    changes: Option<changes::Changes>,
}

/// Views that sessions have, so that those who see the same share one.
#[derive(Default)]
struct Views {
    by_mailbox: FxHashMap<(Address, MailboxId), Weak<View>>,
    swept_len: usize,
}

/// Answers that one connection gets in a row before others have their turn: a client may send a thousand
/// commands at once.
const AT_ONCE_MAX: u32 = 32;

/// Views beyond twice as many as were alive at the last look are looked through again.
const VIEWS_MIN: usize = 64;

impl Desks {
    fn of(&self, key: ConnKey) -> Option<Rc<Desk>> {
        self.by_conn.borrow().get(&key).cloned()
    }

    /// The account that a connection has logged in as.
    pub(crate) fn user_of(&self, key: ConnKey) -> Option<Address> {
        self.of(key).map(|desk| desk.address.clone())
    }

    /// The connections of an account.
    pub(crate) fn keys_of(&self, address: &Address) -> Vec<ConnKey> {
        let desks = self.by_conn.borrow();
        let own = desks.iter().filter(|(_, desk)| desk.address == *address);
        own.map(|(key, _)| *key).collect()
    }

    /// Those of them whose account is not there any more.
    pub(crate) fn keys_of_removed(&self, shard: &Shard, address: &Address) -> Vec<ConnKey> {
        let desks = self.by_conn.borrow();
        let own = desks
            .iter()
            .filter(|(_, desk)| desk.address == *address && desk.is_orphan(shard));
        own.map(|(key, _)| *key).collect()
    }

    /// The connection has ended, moves away, or logs in anew.
    pub(crate) fn release(&self, shard: &Rc<Shard>, key: ConnKey) {
        let desk = self.by_conn.borrow_mut().remove(&key);
        if let Some(desk) = desk {
            shard.memory_in_flight(-desk.held_bytes());
            append::abort(shard, &desk);
            visits::end(shard, &desk);
        }
    }

    /// A connection, or a guest, has this desk from now on. It had none.
    fn put(&self, shard: &Shard, key: ConnKey, desk: Rc<Desk>) {
        shard.memory_in_flight(desk.held_bytes());
        self.by_conn.borrow_mut().insert(key, desk);
    }

    /// The view of these runs: the one that others have, if it is the same.
    fn share(&self, address: &Address, id: MailboxId, view: View) -> Arc<View> {
        let mut views = self.views.borrow_mut();
        if views.by_mailbox.len() > VIEWS_MIN.max(2 * views.swept_len) {
            views.by_mailbox.retain(|_, view| view.strong_count() > 0);
            views.swept_len = views.by_mailbox.len();
        }
        let key = (address.clone(), id);
        let known = views.by_mailbox.get(&key).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| **known == view) {
            return known;
        }
        let view = Arc::new(view);
        views.by_mailbox.insert(key, Arc::downgrade(&view));
        view
    }
}

impl Desk {
    /// A desk at an account; `None`: there is none.
    fn new(shard: &Shard, address: &Address, guest: Option<guests::Guest>) -> Option<Desk> {
        let number = shard.partition_of(address);
        let validity = shard.partition(number)?.account_validity(address)?;
        Some(Desk {
            address: address.clone(),
            validity,
            partition: number,
            open: RefCell::new(None),
            source: Cell::new(None),
            account: RefCell::new(None),
            streams: RefCell::default(),
            guest: guest.map(Box::new),
            visits: RefCell::default(),
            expected: RefCell::default(),
            at_once: Cell::new(0),
        })
    }

    /// Bytes of memory that count for it: with its place in the table, which may be half full, its address
    /// here and with its watch, and the watch that it has when a mailbox is open.
    fn held_bytes(&self) -> i64 {
        let place = 2 * size_of::<(ConnKey, Rc<Desk>)>();
        let counts = 2 * size_of::<usize>();
        let addresses = 2 * self.address.as_str().len();
        (size_of::<Desk>() + place + counts + addresses + store::Watch::HELD_BYTES) as i64
    }

    /// The account was removed since, whether or not there is another one of its address.
    fn is_orphan(&self, shard: &Shard) -> bool {
        let partition = shard.partition(self.partition);
        partition.is_some_and(|own| own.account_validity(&self.address) != Some(self.validity))
    }

    fn open_id(&self) -> Result<MailboxId, Refusal> {
        let open = self.open.borrow();
        open.as_ref().map(|open| open.id).ok_or(Refusal::Missing)
    }

    /// This session did it: it need not be told (RFC 5465 §5).
    fn did(&self, own: &Happening) {
        if let Some(watch) = &*self.account.borrow() {
            watch.forget(own);
        }
    }

    /// This session put messages into a mailbox; their UIDs ascend.
    fn did_add(&self, mailbox: MailboxId, uids: impl DoubleEndedIterator<Item = Uid>) {
        let mut uids = uids;
        let Some(first) = uids.next() else {
            return;
        };
        self.did(&Happening::Messages(MessagesChanged {
            mailbox,
            new: Some((first, uids.next_back().unwrap_or(first))),
            gone: false,
            flags: false,
        }));
    }

    fn partition(&self, shard: &Shard) -> Result<Rc<LocalPartition>, Refusal> {
        if self.is_orphan(shard) {
            return Err(Refusal::Missing);
        }
        let partition = shard.partition(self.partition);
        partition.ok_or_else(|| Refusal::Unavailable("shutting down".to_owned()))
    }
}

fn wrap(answer: Answer) -> AnyAnswer {
    AnyAnswer::Imap(answer)
}

fn at_once(answer: Answer) -> Asked {
    Asked::Answer(wrap(answer))
}

/// Gives an answer to whoever waits for it: the session, or a caller.
fn deliver(shard: &Shard, key: ConnKey, answer: Answer) {
    let desk = shard.desks.of(key);
    match desk.as_ref().and_then(|desk| desk.expected.take()) {
        Some(expected) => expected.fill(answer),
        None if key.is_guest() => {}
        // What was found meanwhile may be another account's.
        None if desk.is_some_and(|desk| desk.is_orphan(shard)) => {
            shard.answer(key, wrap(Answer::AccountGone));
        }
        None => shard.answer(key, wrap(answer)),
    }
}

/// Lets a task answer.
fn later(shard: &Rc<Shard>, key: ConnKey, work: impl Future<Output = Answer> + 'static) -> Asked {
    let shard = Rc::clone(shard);
    super::super::spawn(async move {
        let answer = work.await;
        deliver(&shard, key, answer);
    });
    Asked::Later
}

/// The same, where the client may ask for it again and again.
fn soon(shard: &Rc<Shard>, key: ConnKey, desk: &Desk, answer: Answer) -> Asked {
    let count = desk.at_once.get() + 1;
    if count < AT_ONCE_MAX {
        desk.at_once.set(count);
        return at_once(answer);
    }
    desk.at_once.set(0);
    rest(shard, key, answer)
}

/// Answers when others have had their turn.
fn rest(shard: &Rc<Shard>, key: ConnKey, answer: Answer) -> Asked {
    later(shard, key, async move {
        super::super::wait::breathe().await;
        answer
    })
}

/// Why the store cannot do it, for the client; what is the server's trouble goes to the log.
fn refusal(error: StoreError, address: &Address) -> Refusal {
    match error {
        StoreError::Missing => Refusal::Missing,
        StoreError::Exists => Refusal::Exists,
        StoreError::OverQuota => Refusal::OverQuota,
        StoreError::Name(error) => Refusal::Cannot(error.to_string()),
        StoreError::TooMany(_) | StoreError::TooLarge | StoreError::NoUid => {
            Refusal::Limit(error.to_string())
        }
        StoreError::Closing => Refusal::Unavailable("shutting down".to_owned()),
        StoreError::Full => Refusal::Unavailable(error.to_string()),
        StoreError::ReadOnly(_) | StoreError::Damaged(_) | StoreError::Read(_) => {
            tracing::error!(account = %address, "IMAP command failed: {error}");
            Refusal::Unavailable(error.to_string())
        }
    }
}

/// The same for one about a message that the session knows: it may have been expunged meanwhile.
fn of_message(
    error: StoreError,
    partition: &LocalPartition,
    address: &Address,
    mailbox: MailboxId,
) -> Refusal {
    match error {
        StoreError::Missing if partition.mailbox_info(address, mailbox).is_ok() => Refusal::Gone,
        error => refusal(error, address),
    }
}

/// Answers an ask.
pub(super) fn ask(shard: &Rc<Shard>, key: ConnKey, ask: Ask) -> Asked {
    let ask = match ask {
        Ask::Login(credentials) => return log_in(shard, key, credentials),
        Ask::Enter(pass) => return come_in(shard, key, pass),
        Ask::Leave => {
            shard.desks.release(shard, key);
            return at_once(Answer::Done(Ok(())));
        }
        ask => ask,
    };
    if let Ask::Pause = ask {
        return inside::pause(shard, key);
    }
    let Some(desk) = shard.desks.of(key) else {
        // A session that has not logged in asks for nothing else.
        return at_once(Answer::Done(Err(Refusal::Unavailable(
            "log in first".to_owned(),
        ))));
    };
    if desk.is_orphan(shard) {
        return at_once(Answer::AccountGone);
    }
    visits::dispatch(shard, key, desk, ask)
}

/// Answers an ask about the account of a desk.
fn answer_at(shard: &Rc<Shard>, key: ConnKey, desk: Rc<Desk>, ask: Ask) -> Asked {
    match ask {
        Ask::Login(credentials) => log_in(shard, key, credentials),
        Ask::Enter(pass) => come_in(shard, key, pass),
        Ask::ActAs { user, peer } => vouch(shard, key, desk.address.clone(), user, peer),
        Ask::Access(access) => acl::answer(shard, key, desk, access),
        // Taken before an ask comes here.
        Ask::Leave => at_once(Answer::Done(Ok(()))),
        Ask::WatchOthers { names, .. } => at_once(Answer::Watched(Ok(names))),
        Ask::Shared => at_once(Answer::Mailboxes(Ok(Mailboxes::default()))),
        Ask::Mailboxes => {
            // As long as there are many.
            let all = mailboxes::list(shard, &desk);
            rest(shard, key, Answer::Mailboxes(all))
        }
        Ask::Mailbox { name } => {
            let mailbox = mailboxes::find(shard, &desk, &name);
            soon(shard, key, &desk, Answer::Mailbox(mailbox.map(Box::new)))
        }
        Ask::Manage(change) => mailboxes::manage(shard, key, desk, change),
        Ask::Open { name } => {
            let opened = mailboxes::open(shard, key, &desk, &name);
            rest(shard, key, Answer::Opened(opened.map(Box::new)))
        }
        Ask::Close => {
            desk.open.replace(None);
            soon(shard, key, &desk, Answer::Done(Ok(())))
        }
        Ask::Look { since } => mailboxes::look(shard, key, desk, since),
        Ask::Keywords { known } => {
            let keywords = mailboxes::keywords(shard, &desk, known);
            soon(shard, key, &desk, Answer::Keywords(keywords))
        }
        Ask::Rows {
            uids,
            changed_since,
            count_max,
        } => messages::rows(shard, key, desk, uids, changed_since, count_max),
        Ask::Vanished { since } => {
            let vanished = messages::vanished(shard, &desk, since);
            soon(shard, key, &desk, Answer::Vanished(vanished))
        }
        Ask::Summaries { messages } => inside::summaries(shard, key, desk, messages),
        Ask::Read {
            uid,
            offset,
            length,
        } => {
            let message = desk.open_id().map(|id| (id, uid));
            messages::read(shard, key, desk, message, offset, length)
        }
        Ask::Source {
            name,
            validity,
            uid,
            inside,
        } => inside::source(shard, key, desk, name.as_deref(), validity, uid, inside),
        Ask::ReadSource { offset, length } => {
            let message = desk.source.get().ok_or(Refusal::Gone);
            messages::read(shard, key, desk, message, offset, length)
        }
        Ask::Match {
            messages,
            texts,
            wanted,
        } => inside::search(shard, key, desk, messages, texts, wanted),
        Ask::Quota(of) => quota::get(shard, key, desk, of),
        Ask::SetQuota { of, limit_bytes } => quota::set(shard, key, desk, of, limit_bytes),
        Ask::DeletedBytes { name } => quota::deleted_bytes(shard, key, desk, &name),
        Ask::Annotations { mailbox, wanted } => annotations::get(shard, key, desk, mailbox, wanted),
        Ask::Annotate { mailbox, values } => annotations::set(shard, key, desk, mailbox, values),
        Ask::WatchAccount { on } => {
            let watched = happened::watch(shard, key, &desk, on);
            rest(shard, key, Answer::Done(watched))
        }
        Ask::Happened { with_subscribed } => happened::happened(shard, key, desk, with_subscribed),
        Ask::Pause => inside::pause(shard, key),
        Ask::Thread(work) => inside::thread(shard, key, work),
        Ask::Time => at_once(Answer::Time(super::super::now_ms())),
        Ask::Store(change) => messages::store(shard, key, desk, change),
        Ask::Expunge { uids, only_deleted } => {
            messages::expunge(shard, key, desk, uids, only_deleted)
        }
        Ask::Copy { uids, name, moves } => messages::copy(shard, key, desk, uids, name, moves),
        Ask::Chunk { message, bytes, .. } => append::chunk(shard, key, desk, message, bytes),
        Ask::Abort => {
            append::abort(shard, &desk);
            at_once(Answer::Done(Ok(())))
        }
        Ask::Append {
            name,
            messages,
            replaces,
        } => append::append(shard, key, desk, name, messages, replaces),
    }
}

/// LOGIN and AUTHENTICATE.
fn log_in(shard: &Rc<Shard>, key: ConnKey, credentials: Credentials) -> Asked {
    // After UNAUTHENTICATE somebody else may come.
    shard.desks.release(shard, key);
    let refuse = |error| at_once(Answer::Login(Err(error)));
    let Ok(address) = Address::parse(&credentials.user).map(|address| address.account_key()) else {
        return refuse(LoginError::Credentials);
    };
    if shard.memory_is_short(0) {
        shard.probe.memory_refusals.add(1);
        return refuse(LoginError::Temporary(
            "too busy, try again later".to_owned(),
        ));
    }
    let owner = shard.owner_of(shard.partition_of(&address));
    if owner != shard.id {
        return Asked::Elsewhere(owner, AnyAsk::Imap(Ask::Login(credentials)));
    }
    login::begin(shard, key, (address, credentials), enter)
}

/// What a checked password comes to.
fn enter(
    shard: &Rc<Shard>,
    key: ConnKey,
    address: &Address,
    (act_as, peer): (Option<String>, SocketAddr),
    result: Result<(), Denial>,
) -> Asked {
    match (result, act_as) {
        (Ok(()), None) => at_once(sit_down(shard, key, address)),
        (Ok(()), Some(user)) => vouch(shard, key, address.clone(), user, peer),
        (Err(denial), _) => at_once(denied(denial)),
    }
}

fn denied(denial: Denial) -> Answer {
    Answer::Login(Err(match denial {
        Denial::Credentials => LoginError::Credentials,
        Denial::Authorization => LoginError::Authorization,
        Denial::Temporary(text) => LoginError::Temporary(text),
        Denial::Permanent(text) => LoginError::Permanent(text),
    }))
}

/// The connection has the mailboxes of this account from now on.
fn sit_down(shard: &Rc<Shard>, key: ConnKey, address: &Address) -> Answer {
    let Some(desk) = Desk::new(shard, address, None) else {
        // Removed since it was looked at.
        return denied(Denial::Credentials);
    };
    shard.probe.logins.add(1);
    shard.desks.put(shard, key, Rc::new(desk));
    Answer::Login(Ok(()))
}

/// A pass for who has given the password of `administrator`, if it may act for the other.
fn vouch(
    shard: &Rc<Shard>,
    key: ConnKey,
    administrator: Address,
    user: String,
    peer: SocketAddr,
) -> Asked {
    let home = Rc::clone(shard);
    later(shard, key, async move {
        match login::vouch(&home, &administrator, &user, peer).await {
            Ok(pass) => Answer::Pass(pass),
            Err(denial) => denied(denial),
        }
    })
}

/// Lets an administrator in with a pass, at the owner of the mailboxes.
fn come_in(shard: &Rc<Shard>, key: ConnKey, pass: Pass) -> Asked {
    shard.desks.release(shard, key);
    let number = shard.partition_of(pass.user());
    let owner = shard.owner_of(number);
    if owner != shard.id {
        return Asked::Elsewhere(owner, AnyAsk::Imap(Ask::Enter(pass)));
    }
    let partition = shard.partition(number);
    let exists = partition.is_some_and(|partition| partition.has_account(pass.user()));
    at_once(match exists {
        true => sit_down(shard, key, pass.user()),
        // Removed since the pass was given.
        false => denied(Denial::Authorization),
    })
}

/// Wakes the sessions for which a partition has notices, until it closes.
pub(crate) async fn watch(shard: Rc<Shard>, partition: Rc<LocalPartition>) {
    loop {
        let tokens = partition.notices().await;
        if tokens.is_empty() {
            return;
        }
        for token in tokens {
            let key = ConnKey::from_token(Token(token));
            if key.is_guest() {
                guests::wake(&shard, key);
            } else {
                shard.wake_session(key);
            }
        }
    }
}
