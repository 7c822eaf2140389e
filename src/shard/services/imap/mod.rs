//! IMAP: login at the owner of the account, mailboxes and messages from its partition.
//!
//! ```text
//! mailboxes  LIST, STATUS, CREATE and its like, opening, what is new
//! messages   rows, flags, copies, bytes
//! inside     summaries, searches in messages
//! append     messages that come in
//! annotations  GETMETADATA, SETMETADATA
//! happened   what happened in the account, for those who watch it
//! ```
//!
//! The connection moves to the shard that owns the account before the password is looked at, as with
//! POP3. What the index tells is answered at once; what needs the disk, or goes on for long, runs as
//! a task. A session that has a mailbox open has a watch in its partition: one task a partition
//! fetches the notices and wakes the sessions concerned, nobody polls.

mod annotations;
mod append;
mod happened;
mod inside;
mod mailboxes;
mod messages;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use rustc_hash::FxHashMap;

use super::super::conn::ConnKey;
use super::super::session::{AnyAnswer, AnyAsk};
use super::super::wait::breathe;
use super::super::{LocalPartition, Shard};
use super::Asked;
use super::login::{self, Claim, Denial};
use crate::mail::Address;
use crate::proto::imap::{Answer, Ask, Credentials, LoginError, Refusal, View};
use crate::ring::Token;
use crate::store::{
    Happening, MailboxId, MessagesChanged, Sequence, StoreError, StreamId, Uid, Watch,
};

/// What the IMAP connections of this shard have here.
#[derive(Default)]
pub(crate) struct Desks {
    by_conn: RefCell<FxHashMap<ConnKey, Rc<Desk>>>,
    views: RefCell<Views>,
}

/// What one logged-in connection has.
struct Desk {
    address: Address,
    partition: u16,
    open: RefCell<Option<Open>>,
    /// The message that an APPEND reads (CATENATE).
    source: Cell<Option<(MailboxId, u32)>>,
    /// The session is told what happens in its account.
    account: RefCell<Option<Watch>>,
    /// Streams of the APPEND that is coming in, by message.
    streams: RefCell<Vec<(u32, StreamId)>>,
    /// Answers in a row that were given at once.
    at_once: Cell<u32>,
}

/// Messages as the store lists them.
type Messages = Rc<[crate::store::MessageInfo]>;

/// An open mailbox.
struct Open {
    id: MailboxId,
    /// Ends when this is dropped.
    _watch: Watch,
    /// What has changed since the first of these, up to the second, while a session asks for it slice
    /// by slice.
    changed: Option<((Sequence, Sequence), Messages)>,
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

    /// The connection has ended, moves away, or logs in anew.
    pub(crate) fn release(&self, shard: &Rc<Shard>, key: ConnKey) {
        let desk = self.by_conn.borrow_mut().remove(&key);
        if let Some(desk) = desk {
            append::abort(shard, &desk);
        }
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

/// Lets a task answer.
fn later(shard: &Rc<Shard>, key: ConnKey, work: impl Future<Output = Answer> + 'static) -> Asked {
    let shard = Rc::clone(shard);
    super::super::spawn(async move {
        let answer = work.await;
        shard.answer(key, wrap(answer));
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
        breathe().await;
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
    if let Ask::Login(credentials) = ask {
        return log_in(shard, key, credentials);
    }
    if let Ask::Pause = ask {
        return rest(shard, key, Answer::Done(Ok(())));
    }
    let Some(desk) = shard.desks.of(key) else {
        // A session that has not logged in asks for nothing else.
        return at_once(Answer::Done(Err(Refusal::Unavailable(
            "log in first".to_owned(),
        ))));
    };
    match ask {
        Ask::Login(credentials) => log_in(shard, key, credentials),
        Ask::Pause => rest(shard, key, Answer::Done(Ok(()))),
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
        Ask::Look { since } => {
            let news = mailboxes::look(shard, &desk, since);
            soon(shard, key, &desk, Answer::News(news))
        }
        Ask::Rows {
            uids,
            changed_since,
            count_max,
        } => messages::rows(shard, key, &desk, &uids, changed_since, count_max),
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
        Ask::Annotations { mailbox, wanted } => annotations::get(shard, key, desk, mailbox, wanted),
        Ask::Annotate { mailbox, values } => annotations::set(shard, key, desk, mailbox, values),
        Ask::WatchAccount { on } => at_once(Answer::Done(happened::watch(shard, key, &desk, on))),
        Ask::Happened { with_subscribed } => happened::happened(shard, key, desk, with_subscribed),
        Ask::Time => at_once(Answer::Time(super::super::now_ms())),
        Ask::Store(change) => messages::store(shard, key, desk, change),
        Ask::Expunge { uids } => messages::expunge(shard, key, desk, uids),
        Ask::Copy { uids, name, moves } => messages::copy(shard, key, desk, uids, name, moves),
        Ask::Chunk { message, bytes } => append::chunk(shard, key, desk, message, bytes),
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
    let acts = credentials.act_as.is_some();
    let claim = Claim {
        address,
        password: credentials.password,
        peer: credentials.peer,
    };
    let address = claim.address.clone();
    let result = login::check(shard, claim, move |shard, address, result| {
        shard.answer(key, wrap(enter(shard, key, address, acts, result)));
    });
    match result {
        Some(result) => at_once(enter(shard, key, &address, acts, result)),
        None => Asked::Later,
    }
}

/// What a checked password comes to.
fn enter(
    shard: &Rc<Shard>,
    key: ConnKey,
    address: &Address,
    acts: bool,
    result: Result<(), Denial>,
) -> Answer {
    let error = match result {
        // There are no administrators yet who may act for others [N34].
        Ok(()) if acts => LoginError::Authorization,
        Ok(()) => {
            shard.probe.logins.add(1);
            let desk = Desk {
                address: address.clone(),
                partition: shard.partition_of(address),
                open: RefCell::new(None),
                source: Cell::new(None),
                account: RefCell::new(None),
                streams: RefCell::default(),
                at_once: Cell::new(0),
            };
            shard.desks.by_conn.borrow_mut().insert(key, Rc::new(desk));
            return Answer::Login(Ok(()));
        }
        Err(Denial::Credentials) => LoginError::Credentials,
        Err(Denial::Temporary(text)) => LoginError::Temporary(text),
        Err(Denial::Permanent(text)) => LoginError::Permanent(text),
    };
    Answer::Login(Err(error))
}

/// Wakes the sessions for which a partition has notices, until it closes.
pub(crate) async fn watch(shard: Rc<Shard>, partition: Rc<LocalPartition>) {
    loop {
        let tokens = partition.notices().await;
        if tokens.is_empty() {
            return;
        }
        for token in tokens {
            shard.wake_session(ConnKey::from_token(Token(token)));
        }
    }
}
