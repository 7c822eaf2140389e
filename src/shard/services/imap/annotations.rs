//! Annotations (RFC 5464): small values of mailboxes, and of the account for the server's.
//!
//! ```text
//! key of a shared one    annotation NUL NUL name
//! key of a private one   annotation NUL who sees it NUL name
//! who sees it            address                  ; the owner of the mailbox
//!                      / address US validity      ; a visitor, see [`Desk::reader`]
//! ```
//!
//! Visitors have what is shared, and private ones of their own beside the mailbox (RFC 5464 §3.3). They
//! count as the mailbox's and may not fill it: half of what fits is left to its owner.
//!
//! What an operator says of the server is read-only: `/shared/admin` is the postmaster.

use std::rc::Rc;

use super::super::super::conn::ConnKey;
use super::super::super::wait::breathe;
use super::super::super::{LocalPartition, Shard};
use super::super::Asked;
use super::{Desk, acl, at_once, later, refusal};
use crate::limits::{
    ACCOUNT_ANNOTATIONS_BYTES_MAX, ACCOUNT_ANNOTATIONS_MAX, ANNOTATIONS_BYTES_MAX, ANNOTATIONS_MAX,
};
use crate::mail::Address;
use crate::proto::imap::{Annotation, Answer, Entry, Refusal, Rights, Wanted};
use crate::store::{Happening, MailboxId, StoreError, ValuesMax};

/// Keys of annotations begin with this.
const PREFIX: &[u8] = b"annotation\0";

const MAX: ValuesMax = ValuesMax {
    count: ANNOTATIONS_MAX,
    bytes: ANNOTATIONS_BYTES_MAX,
    account_count: ACCOUNT_ANNOTATIONS_MAX,
    account_bytes: ACCOUNT_ANNOTATIONS_BYTES_MAX,
};

/// With those, a visitor may put something there.
const MAX_OF_VISITORS: ValuesMax = ValuesMax {
    count: MAX.count / 2,
    bytes: MAX.bytes / 2,
    account_count: MAX.account_count / 2,
    account_bytes: MAX.account_bytes / 2,
};

impl Desk {
    /// Who sees private annotations: no other account, not even one that gets the address of a visitor
    /// after it. `US` is in no address.
    pub(super) fn reader(&self) -> String {
        match &self.guest {
            Some(guest) => format!("{}\x1f{}", guest.user, guest.validity),
            None => self.address.to_string(),
        }
    }
}

/// The rights of a visitor, if they let it read annotations of a mailbox, or with `shared` change those
/// that others see as well. Reading asks for what RFC 5464 §3.3 asks for; who changes what all see must
/// be one who may change the mailbox.
pub(super) fn need(rights: Rights, shared: bool) -> Result<Rights, Refusal> {
    let needed = match shared {
        true => Rights::LOOKUP.with(Rights::WRITE),
        false => Rights::LOOKUP,
    };
    acl::need(rights, needed)?;
    let any = Rights::READ
        .with(Rights::SEEN)
        .with(Rights::WRITE)
        .with(Rights::INSERT)
        .with(Rights::POST);
    match rights.has_any(any) {
        true => Ok(rights),
        false => Err(Refusal::Denied("needs one of the rights rswip".to_owned())),
    }
}

/// Where the annotations of a mailbox are kept.
struct Place {
    partition: Rc<LocalPartition>,
    /// Whose mailbox it is.
    owner: Address,
    /// `None`: the server's, as this account sees them.
    mailbox: Option<MailboxId>,
}

/// Finds the mailbox of an annotation command; `None`: the server.
fn place(shard: &Shard, desk: &Desk, mailbox: Option<&str>) -> Result<Place, Refusal> {
    let partition = desk.partition(shard)?;
    let owner = desk.address.clone();
    let mailbox = match mailbox {
        None => None,
        Some(name) => {
            let found = partition.mailbox(&owner, name);
            Some(found.map_err(|error| refusal(error, &owner))?.id)
        }
    };
    Ok(Place {
        partition,
        owner,
        mailbox,
    })
}

/// The key of an annotation, as `reader` sees it.
fn key_of(entry: &Entry, reader: &str) -> Vec<u8> {
    let mut key = PREFIX.to_vec();
    if entry.is_private() {
        key.extend_from_slice(reader.as_bytes());
    }
    key.push(0);
    key.extend_from_slice(entry.as_str().as_bytes());
    key
}

/// The annotation that a key is of; `None`: it is another value, or somebody else's private one.
pub(super) fn entry_of(key: &[u8], reader: &str) -> Option<Entry> {
    let rest = key.strip_prefix(PREFIX)?;
    let end = memchr::memchr(0, rest)?;
    let entry = Entry::parse(&rest[end + 1..]).ok()?;
    let whose: &[u8] = if entry.is_private() {
        reader.as_bytes()
    } else {
        b""
    };
    (rest[..end] == *whose).then_some(entry)
}

/// GETMETADATA.
pub(super) fn get(
    shard: &Rc<Shard>,
    key: ConnKey,
    desk: Rc<Desk>,
    mailbox: Option<String>,
    wanted: Wanted,
) -> Asked {
    let of_shard = Rc::clone(shard);
    later(shard, key, async move {
        // LIST asks for those of one mailbox after the other.
        breathe().await;
        let place = match place(&of_shard, &desk, mailbox.as_deref()) {
            Ok(place) => place,
            Err(refusal) => return Answer::Annotations(Err(refusal)),
        };
        let reader = desk.reader();
        let mut found = Vec::new();
        let all = place.partition.values(&place.owner, place.mailbox, PREFIX);
        for (key, value) in all {
            if let Some(entry) = entry_of(&key, &reader).filter(|entry| wanted.has(entry)) {
                found.push(Annotation { entry, value });
            }
        }
        if place.mailbox.is_none() {
            found.extend(admin(&of_shard).filter(|found| wanted.has(&found.entry)));
        }
        found.sort_by(|one, other| one.entry.cmp(&other.entry));
        Answer::Annotations(Ok(found))
    })
}

/// `/shared/admin` (RFC 5464 §6.2.2): whom to write to, if the site has a postmaster.
fn admin(shard: &Shard) -> Option<Annotation> {
    let site = shard.site();
    let postmaster = site.postmaster()?;
    Some(Annotation {
        entry: Entry::parse(b"/shared/admin").ok()?,
        value: mailto(postmaster).into_bytes(),
    })
}

/// RFC 6068 §2: what is not unreserved or one of a few is percent-encoded.
fn mailto(address: &Address) -> String {
    let mut uri = "mailto:".to_owned();
    for byte in address.as_str().bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$'*+@".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

/// SETMETADATA.
pub(super) fn set(
    shard: &Rc<Shard>,
    key: ConnKey,
    desk: Rc<Desk>,
    mailbox: Option<String>,
    values: Vec<(Entry, Option<Vec<u8>>)>,
) -> Asked {
    let place = match place(shard, &desk, mailbox.as_deref()) {
        Ok(place) => place,
        Err(refusal) => return at_once(Answer::Done(Err(refusal))),
    };
    later(shard, key, async move {
        let reader = desk.reader();
        let max = match desk.guest {
            Some(_) => MAX_OF_VISITORS,
            None => MAX,
        };
        let entries: Vec<_> = values
            .into_iter()
            .map(|(entry, value)| (key_of(&entry, &reader), value))
            .collect();
        let keys: Vec<Vec<u8>> = entries.iter().map(|(key, _)| key.clone()).collect();
        let Place {
            partition,
            owner,
            mailbox,
        } = place;
        let put = partition.put_values(&owner, mailbox, PREFIX, entries, max);
        match put.await {
            Ok(()) => {
                for key in keys {
                    desk.did(&Happening::Value { mailbox, key });
                }
                Answer::Done(Ok(()))
            }
            Err(StoreError::TooMany(_)) => Answer::Done(Err(Refusal::TooManyAnnotations)),
            Err(error) => Answer::Done(Err(refusal(error, &owner))),
        }
    })
}

/// RFC 5464 §4.1: INBOX that was renamed keeps its annotations, and the new mailbox has them as well.
pub(super) async fn copy(
    partition: &LocalPartition,
    address: &Address,
    from: MailboxId,
    to: MailboxId,
) -> Result<(), StoreError> {
    let values = partition.values(address, Some(from), PREFIX);
    if values.is_empty() {
        return Ok(());
    }
    let values = values.into_iter().map(|(key, value)| (key, Some(value)));
    partition
        .put_values(address, Some(to), PREFIX, values.collect(), MAX)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_whose_they_are() {
        let (ann, bob) = ("ann@x.test", "bob@x.test");
        let visitor = "bob@x.test\x1f7";
        let entry = |name: &str| Entry::parse(name.as_bytes()).expect("a name");
        let private = key_of(&entry("/private/x"), ann);
        assert_eq!(entry_of(&private, ann), Some(entry("/private/x")));
        assert_eq!(entry_of(&private, bob), None);
        let shared = key_of(&entry("/shared/x"), ann);
        assert_eq!(entry_of(&shared, bob), Some(entry("/shared/x")));
        assert_eq!(entry_of(b"acl\0bob", bob), None);
        // Bob visits, and another one gets the address.
        let private = key_of(&entry("/private/x"), visitor);
        assert_eq!(entry_of(&private, visitor), Some(entry("/private/x")));
        assert_eq!(entry_of(&private, bob), None);
        assert_eq!(entry_of(&private, "bob@x.test\x1f8"), None);
    }

    #[test]
    fn a_postmaster_as_uri() {
        let odd = Address::parse("post+a%b@x.test").expect("an address");
        assert_eq!(mailto(&odd), "mailto:post+a%25b@x.test");
    }
}
