//! Guests: users of other accounts, at the shard that owns the mailboxes which they visit.
//!
//! Guarantees: every ask is checked where the access list is, by what it says at that moment; a
//! session whose right to read has gone learns no more.
//! Does not know: how an ask comes here, what a session makes of the answer.
//!
//! A guest has a *desk* as connections of this shard have, under a key that is no connection's.
//! Notices of the mailbox it has open wake the connection at home.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::super::super::Shard;
use super::super::super::conn::ConnKey;
use super::super::super::session::AnyAnswer;
use super::super::super::wait::{Permit, Permits};
use super::super::Asked;
use super::visits::{self, refused};
use super::{Desk, acl, annotations, answer_at, append, happened};
use crate::limits::SHARING_WAITING_MAX;
use crate::mail::Address;
use crate::proto::imap::{
    Access, Answer, Ask, FlagList, Flags, Manage, QuotaOf, Refusal, Rights, StoreFlags, StoreHow,
    Stored,
};
use crate::store::{INBOX_NAME, UidValidity, canonical_name};

/// What the visitor of a desk is.
pub(super) struct Guest {
    /// Who acts: canonical.
    pub(super) user: Address,
    /// Of that account.
    pub(super) validity: UidValidity,
    /// The shard of the connection, and its key there.
    home: usize,
    conn: ConnKey,
    /// The word that it has something to look at is on its way.
    waking: Cell<bool>,
    /// Mailboxes that it may look up, while it watches the account.
    pub(super) seen: RefCell<happened::Seen>,
}

/// An ask on its way to the owner.
pub(super) struct Visitor {
    pub(super) home: usize,
    pub(super) conn: ConnKey,
    pub(super) user: Address,
    pub(super) validity: UidValidity,
    pub(super) account: Address,
    /// The desk that it has already.
    pub(super) known: Option<ConnKey>,
}

/// Keys of guests, none of them given twice.
#[derive(Default)]
pub(super) struct GuestKeys(Cell<u64>);

impl GuestKeys {
    pub(super) fn next(&self) -> ConnKey {
        let number = self.0.get();
        self.0.set(number + 1);
        ConnKey::of_guest(number)
    }
}

/// The turn of visitors who let others in. Such a change calls another shard while the visitor's shard
/// waits in a call to this one: calls that wait for others to end must stay few.
pub(super) struct Grants(Permits);

impl Default for Grants {
    fn default() -> Grants {
        Grants(Permits::new(1))
    }
}

impl Grants {
    /// The turn for this ask; `None`: it needs none.
    ///
    /// # Errors
    /// `Unavailable`: [`SHARING_WAITING_MAX`] wait already.
    async fn turn(&self, ask: &Ask) -> Result<Option<Permit<'_>>, Refusal> {
        if !matches!(ask, Ask::Access(Access::Set { .. })) {
            return Ok(None);
        }
        if self.0.waiting() >= SHARING_WAITING_MAX {
            let text = "too much is being changed at once, try again later";
            return Err(Refusal::Unavailable(text.to_owned()));
        }
        Ok(Some(self.0.acquire().await))
    }
}

/// Something has happened in what a guest has open, or in the account that it watches. However often that
/// is, and however long its home does not listen: the word is on its way once.
pub(super) fn wake(shard: &Rc<Shard>, key: ConnKey) {
    let Some(desk) = shard.desks.of(key) else {
        return;
    };
    let Some(guest) = &desk.guest else {
        return;
    };
    let (home, conn) = (guest.home, guest.conn);
    if home == shard.id {
        return visits::note_news(shard, conn, key);
    }
    if guest.waking.replace(true) {
        return;
    }
    let shard = Rc::clone(shard);
    super::super::super::spawn(async move {
        let job = Box::new(move |home: &Rc<Shard>| visits::note_news(home, conn, key));
        shard.mesh.send(home, job).await;
        if let Some(guest) = &desk.guest {
            guest.waking.set(false);
        }
    });
}

/// Answers an ask of a visitor; with the key of its desk, unless it has none.
pub(super) async fn serve(
    shard: &Rc<Shard>,
    visitor: Visitor,
    ask: Ask,
) -> (Option<ConnKey>, Answer) {
    let known = visitor
        .known
        .and_then(|key| Some((key, shard.desks.of(key)?)));
    let known = known.filter(|(key, desk)| {
        let is_orphan = desk.is_orphan(shard);
        if is_orphan {
            shard.desks.release(shard, *key);
        }
        !is_orphan
    });
    let (key, desk) = match known {
        Some(known) => known,
        None => {
            let guest = Guest {
                user: visitor.user,
                validity: visitor.validity,
                home: visitor.home,
                conn: visitor.conn,
                waking: Cell::new(false),
                seen: RefCell::default(),
            };
            let Some(desk) = Desk::new(shard, &visitor.account, Some(guest)) else {
                // An account that is not there has nothing to hide.
                return (None, refused(&ask, Refusal::Missing));
            };
            let key = shard.desks.guests.next();
            let desk = Rc::new(desk);
            shard.desks.put(shard, key, Rc::clone(&desk));
            (key, desk)
        }
    };
    let answer = match shard.desks.grants.turn(&ask).await {
        Ok(_turn) => admit(shard, key, &desk, ask).await,
        Err(refusal) => refused(&ask, refusal),
    };
    (Some(key), answer)
}

/// Answers an ask of a desk to whoever calls instead of to a session.
pub(super) async fn run(shard: &Rc<Shard>, key: ConnKey, desk: &Rc<Desk>, ask: Ask) -> Answer {
    let kind = refused(&ask, Refusal::Unavailable("not answered".to_owned()));
    let slot = desk.expect_answer();
    match answer_at(shard, key, Rc::clone(desk), ask) {
        Asked::Answer(AnyAnswer::Imap(answer)) => {
            desk.expected.replace(None);
            answer
        }
        Asked::Later => slot.take().await,
        // Only logins move a connection.
        Asked::Answer(_) | Asked::Elsewhere(..) => {
            desk.expected.replace(None);
            kind
        }
    }
}

/// Answers what the visitor may ask.
async fn admit(shard: &Rc<Shard>, key: ConnKey, desk: &Rc<Desk>, mut ask: Ask) -> Answer {
    match check(shard, desk, &mut ask) {
        Err(refusal) => {
            match ask {
                Ask::Chunk { .. } | Ask::Append { .. } => append::abort(shard, desk),
                // RFC 9051 §6.3.2: what was open is not any more.
                Ask::Open { .. } => drop(desk.open.take()),
                _ => {}
            }
            refused(&ask, refusal)
        }
        Ok(rights) => match ask {
            Ask::Store(change) => store(shard, key, desk, change, rights).await,
            ask => {
                let mut answer = run(shard, key, desk, ask).await;
                match &mut answer {
                    Answer::Mailbox(Ok(mailbox)) => mailbox.rights = rights,
                    Answer::Opened(Ok(opened)) => opened.mailbox.rights = rights,
                    _ => {}
                }
                answer
            }
        },
    }
}

/// The rights of the visitor in what the ask is about, if they are enough for it (RFC 4314 §4).
/// Flags that it may not set are taken out.
fn check(shard: &Shard, desk: &Desk, ask: &mut Ask) -> Result<Rights, Refusal> {
    let needs = |rights: Rights, needed: Rights| acl::need(rights, needed);
    let of = |name: &str| acl::rights_in(shard, desk, name);
    match ask {
        // Whoever asks looks at the rights that come with the answer.
        Ask::Mailbox { name } => {
            let rights = of(name)?;
            if rights == Rights::NONE {
                return Err(Refusal::Missing);
            }
            Ok(rights)
        }
        Ask::Open { name }
        | Ask::DeletedBytes { name }
        | Ask::Quota(QuotaOf::Mailbox(name))
        | Ask::Source {
            name: Some(name), ..
        } => needs(of(name)?, Rights::READ),
        Ask::ReadSource { .. } => needs(acl::rights_in_source(shard, desk)?, Rights::READ),
        Ask::Chunk { name, .. } => needs(of(name)?, Rights::INSERT),
        Ask::Append {
            name,
            messages,
            replaces,
        } => {
            let rights = needs(of(name)?, Rights::INSERT)?;
            for message in messages {
                message.flags = allowed(&message.flags, rights);
            }
            if replaces.is_some() {
                let open = acl::rights_in_open(shard, desk)?;
                needs(open, Rights::DELETE_MESSAGES.with(Rights::EXPUNGE))?;
            }
            Ok(rights)
        }
        Ask::Copy { name, moves, .. } => {
            let rights = needs(of(name)?, Rights::INSERT)?;
            let open = needs(acl::rights_in_open(shard, desk)?, Rights::READ)?;
            if *moves {
                needs(open, Rights::DELETE_MESSAGES.with(Rights::EXPUNGE))?;
            }
            Ok(rights)
        }
        Ask::Look { .. } => {
            // Who may not read any more has nothing open any more.
            let rights = acl::rights_in_open(shard, desk)?;
            needs(rights, Rights::READ).map_err(|_| Refusal::Missing)
        }
        Ask::Keywords { .. }
        | Ask::Rows { .. }
        | Ask::Vanished { .. }
        | Ask::Summaries { .. }
        | Ask::Read { .. }
        | Ask::Source { .. }
        | Ask::Match { .. } => needs(acl::rights_in_open(shard, desk)?, Rights::READ),
        Ask::Store(_) => {
            let rights = acl::rights_in_open(shard, desk)?;
            let flags = Rights::SEEN
                .with(Rights::WRITE)
                .with(Rights::DELETE_MESSAGES);
            match rights.has_any(flags) {
                true => Ok(rights),
                false => needs(rights, Rights::WRITE),
            }
        }
        Ask::Expunge { .. } => needs(acl::rights_in_open(shard, desk)?, Rights::EXPUNGE),
        Ask::Manage(Manage::Create { name, special_use }) => {
            let above = acl::rights_above(shard, desk, name)?;
            needs(above, Rights::CREATE)?;
            if special_use.is_some() {
                let text = "what a mailbox is for is its owner's to say".to_owned();
                return Err(Refusal::SpecialUse(text));
            }
            Ok(above)
        }
        Ask::Manage(Manage::Delete { name }) => needs(of(name)?, Rights::DELETE),
        Ask::Manage(Manage::Rename { from, to }) => {
            let rights = needs(of(from)?, Rights::DELETE)?;
            if canonical_name(from).is_ok_and(|name| name == INBOX_NAME) {
                // It stays, and its messages would go: no right of a visitor means that.
                let text = "INBOX is its owner's to rename".to_owned();
                return Err(Refusal::Denied(text));
            }
            needs(acl::rights_above(shard, desk, to)?, Rights::CREATE)?;
            Ok(rights)
        }
        Ask::Access(access) => acl::check(shard, desk, access),
        Ask::Annotations {
            mailbox: Some(name),
            ..
        } => annotations::need(of(name)?, false),
        Ask::Annotate {
            mailbox: Some(name),
            values,
        } => {
            let shared = values.iter().any(|(entry, _)| !entry.is_private());
            annotations::need(of(name)?, shared)
        }
        // What happens is told as far as rights go, each time.
        Ask::WatchAccount { .. } | Ask::Happened { .. } => Ok(Rights::NONE),
        Ask::Close | Ask::Abort => Ok(Rights::NONE),
        _ => Err(Refusal::Denied("only for the owner".to_owned())),
    }
}

/// System flags that these rights let one set.
fn settable(rights: Rights) -> Flags {
    let mut flags = 0;
    for (flag, _) in Flags::ALL {
        let right = match flag {
            Flags::SEEN => Rights::SEEN,
            Flags::DELETED => Rights::DELETE_MESSAGES,
            _ => Rights::WRITE,
        };
        if rights.has(right) {
            flags |= flag.0;
        }
    }
    Flags(flags)
}

/// What of flags and keywords these rights let one set.
fn allowed(list: &FlagList, rights: Rights) -> FlagList {
    FlagList {
        system: Flags(list.system.0 & settable(rights).0),
        keywords: match rights.has(Rights::WRITE) {
            true => list.keywords.clone(),
            false => Vec::new(),
        },
    }
}

/// STORE with what rights there are (RFC 4314 §4): flags that the visitor may not change stay as they
/// are, and it fails only when that is all of them.
async fn store(
    shard: &Rc<Shard>,
    key: ConnKey,
    desk: &Rc<Desk>,
    change: StoreFlags,
    rights: Rights,
) -> Answer {
    let settable_flags = settable(rights);
    let all = Flags::ALL.iter().fold(0, |all, (flag, _)| all | flag.0);
    if settable_flags.0 == all {
        return run(shard, key, desk, Ask::Store(change)).await;
    }
    let flags = allowed(&change.flags, rights);
    if change.how != StoreHow::Replace {
        if flags == FlagList::default() {
            let refusal = Refusal::Denied("none of these flags may be changed".to_owned());
            return Answer::Stored(Err(refusal));
        }
        return run(shard, key, desk, Ask::Store(StoreFlags { flags, ..change })).await;
    }
    // All that may be set, and is not wanted, goes; then what is wanted is added.
    let named = |known: &String| {
        flags
            .keywords
            .iter()
            .any(|name| name.eq_ignore_ascii_case(known))
    };
    let keywords = match rights.has(Rights::WRITE) {
        true => acl::keywords_in_open(shard, desk),
        false => Vec::new(),
    };
    let surplus = FlagList {
        system: Flags(settable_flags.0 & !flags.system.0),
        keywords: keywords.into_iter().filter(|known| !named(known)).collect(),
    };
    let removal = StoreFlags {
        uids: change.uids.clone(),
        how: StoreHow::Remove,
        flags: surplus,
        unchanged_since: change.unchanged_since,
    };
    let removed = match run(shard, key, desk, Ask::Store(removal)).await {
        Answer::Stored(Ok(stored)) => stored,
        answer => return answer,
    };
    let uids = without(&change.uids, &removed.modified);
    if uids.is_empty() || flags == FlagList::default() {
        return Answer::Stored(Ok(removed));
    }
    let addition = StoreFlags {
        uids,
        how: StoreHow::Add,
        flags,
        unchanged_since: None,
    };
    match run(shard, key, desk, Ask::Store(addition)).await {
        Answer::Stored(Ok(added)) => Answer::Stored(Ok(Stored {
            modseq: added.modseq.or(removed.modseq),
            // Our own removal may be among them: then the client is told what it may know.
            before: removed.before.max(added.before),
            modified: removed.modified,
            keywords: added.keywords,
        })),
        answer => answer,
    }
}

/// Ascending ranges without some UIDs, which are ascending, too.
fn without(ranges: &[(u32, u32)], uids: &[u32]) -> Vec<(u32, u32)> {
    let mut left = Vec::new();
    for (first, last) in ranges {
        let mut from = Some(*first);
        let start = uids.partition_point(|uid| uid < first);
        for uid in uids[start..].iter().take_while(|uid| *uid <= last) {
            left.extend(from.filter(|from| from < uid).map(|from| (from, uid - 1)));
            from = uid.checked_add(1);
        }
        left.extend(from.filter(|from| from <= last).map(|from| (from, *last)));
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_choose_flags() {
        let list = FlagList {
            system: Flags::SEEN.with(Flags::DELETED).with(Flags::FLAGGED),
            keywords: vec!["$One".to_owned()],
        };
        let seen = allowed(&list, Rights::SEEN.with(Rights::READ));
        assert_eq!((seen.system, seen.keywords.len()), (Flags::SEEN, 0));
        let write = allowed(&list, Rights::WRITE);
        assert_eq!((write.system, write.keywords.len()), (Flags::FLAGGED, 1));
        assert_eq!(allowed(&list, Rights::ALL), list);
        assert_eq!(allowed(&list, Rights::READ), FlagList::default());
    }

    #[test]
    fn ranges_lose_what_was_modified() {
        let ranges = [(1, 5), (9, 9), (20, 22)];
        assert_eq!(without(&ranges, &[]), ranges);
        assert_eq!(without(&ranges, &[1, 3, 9, 22]), [(2, 2), (4, 5), (20, 21)]);
        assert_eq!(without(&[(7, u32::MAX)], &[u32::MAX]), [(7, u32::MAX - 1)]);
    }
}
