//! Rights on mailboxes of others (RFC 4314), and the names that those mailboxes have.
//!
//! Guarantees: a name of [`locate`] means the same to everybody but the account itself, whose own
//! mailboxes it may call so as well.
//! Does not know: who has which rights.
//! On failure: says which letter is no right.

use std::fmt;

use super::names::SEPARATOR;
use crate::mail::Address;

/// Mailboxes of others are below this name, then below the address of their account (RFC 2342 §5).
pub const OTHER_USERS: &str = "Other Users";
/// Everybody who has logged in (RFC 4314 §2).
pub const ANYONE: &str = "anyone";

/// A set of rights, a bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rights(pub u16);

impl Rights {
    /// It is listed, and may be subscribed to.
    pub const LOOKUP: Rights = Rights(1);
    /// SELECT, FETCH, SEARCH, COPY from it, STATUS.
    pub const READ: Rights = Rights(1 << 1);
    /// `\Seen` is kept.
    pub const SEEN: Rights = Rights(1 << 2);
    /// Flags but `\Seen` and `\Deleted`.
    pub const WRITE: Rights = Rights(1 << 3);
    /// APPEND, COPY to it.
    pub const INSERT: Rights = Rights(1 << 4);
    /// To send mail to its own address; means nothing here.
    pub const POST: Rights = Rights(1 << 5);
    /// CREATE below it, RENAME to below it.
    pub const CREATE: Rights = Rights(1 << 6);
    /// DELETE, RENAME.
    pub const DELETE: Rights = Rights(1 << 7);
    /// `\Deleted`
    pub const DELETE_MESSAGES: Rights = Rights(1 << 8);
    /// EXPUNGE
    pub const EXPUNGE: Rights = Rights(1 << 9);
    /// SETACL and its like.
    pub const ADMINISTER: Rights = Rights(1 << 10);
    /// None.
    pub const NONE: Rights = Rights(0);
    /// All: what an owner has.
    pub const ALL: Rights = Rights((1 << 11) - 1);
    /// Those that RFC 2086 did not know, for the capability `RIGHTS=` (RFC 4314 §2.2).
    pub const NEW: &str = "kxte";
    /// Letters, by bit.
    const LETTERS: &[u8; 11] = b"lrswipkxtea";
    /// RFC 4314 §2.1.1: what the letters of RFC 2086 stand for.
    const OBSOLETE: [(char, Rights); 2] = [
        ('c', Rights(Rights::CREATE.0 | Rights::DELETE.0)),
        ('d', Rights(Rights::DELETE_MESSAGES.0 | Rights::EXPUNGE.0)),
    ];

    /// All of `others` are among them.
    pub fn has(self, others: Rights) -> bool {
        self.0 & others.0 == others.0
    }

    /// Some of `others` are among them.
    pub fn has_any(self, others: Rights) -> bool {
        self.0 & others.0 != 0
    }

    /// These and `others`.
    #[must_use]
    pub fn with(self, others: Rights) -> Rights {
        Rights(self.0 | others.0)
    }

    /// These but `others`.
    #[must_use]
    pub fn without(self, others: Rights) -> Rights {
        Rights(self.0 & !others.0)
    }

    /// Reads letters, the obsolete ones too.
    ///
    /// # Errors
    /// The first letter that is no right.
    pub fn parse(letters: &str) -> Result<Rights, char> {
        let mut rights = Rights::NONE;
        for letter in letters.chars() {
            let bit = Rights::LETTERS
                .iter()
                .position(|own| char::from(*own) == letter);
            let obsolete = Rights::OBSOLETE.iter().find(|(own, _)| *own == letter);
            rights = rights.with(match (bit, obsolete) {
                (Some(bit), _) => Rights(1 << bit),
                (None, Some((_, rights))) => *rights,
                (None, None) => return Err(letter),
            });
        }
        Ok(rights)
    }

    /// Its letters, and those of RFC 2086 of which some part is granted (RFC 4314 §2.1.1).
    pub fn with_obsolete(self) -> String {
        let mut text = self.to_string();
        let obsolete = Rights::OBSOLETE.iter();
        text.extend(
            obsolete
                .filter(|(_, rights)| self.has_any(*rights))
                .map(|(letter, _)| *letter),
        );
        text
    }

    /// Each of them by itself.
    pub fn each(self) -> impl Iterator<Item = Rights> {
        let bits = (0..Rights::LETTERS.len()).map(|bit| Rights(1 << bit));
        bits.filter(move |right| self.has(*right))
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in Rights::LETTERS.iter().enumerate() {
            if self.has(Rights(1 << bit)) {
                write!(f, "{}", char::from(*letter))?;
            }
        }
        Ok(())
    }
}

/// What is asked of an access list, or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// SETACL
    Set {
        /// Decoded.
        name: String,
        /// Canonical address or [`ANYONE`], behind a `-` where rights are taken from them.
        whom: String,
        /// What.
        how: AccessChange,
    },
    /// DELETEACL
    Delete {
        /// Decoded.
        name: String,
        /// As in `Set`.
        whom: String,
    },
    /// GETACL: all entries, the owner's first.
    Get {
        /// Decoded.
        name: String,
    },
    /// LISTRIGHTS: one entry, of what they have whatever the list says.
    List {
        /// Decoded.
        name: String,
        /// As in `Set`.
        whom: String,
    },
    /// MYRIGHTS: one entry, about nobody in particular.
    Mine {
        /// Decoded.
        name: String,
    },
}

impl Access {
    /// Of which mailbox.
    pub fn name(&self) -> &str {
        match self {
            Access::Set { name, .. }
            | Access::Delete { name, .. }
            | Access::Get { name }
            | Access::List { name, .. }
            | Access::Mine { name } => name,
        }
    }

    /// The same, to be changed.
    pub fn name_mut(&mut self) -> &mut String {
        match self {
            Access::Set { name, .. }
            | Access::Delete { name, .. }
            | Access::Get { name }
            | Access::List { name, .. }
            | Access::Mine { name } => name,
        }
    }
}

/// A change of an entry of an access list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessChange {
    /// These and no others.
    Replace(Rights),
    /// `+`
    Add(Rights),
    /// `-`
    Remove(Rights),
}

/// Where a mailbox is that a client names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// Among those of who has logged in.
    Own(String),
    /// Among those of this account, under this name there.
    Of(Address, String),
    /// Below [`OTHER_USERS`], where only accounts are.
    Nowhere,
}

/// What a decoded name means to the user of this canonical address.
///
/// ```text
/// name = OTHER_USERS "/" address "/" mailbox / own-mailbox
/// ```
pub fn locate(name: &str, user: &Address) -> Located {
    let Some(rest) = name.strip_prefix(OTHER_USERS) else {
        return Located::Own(name.to_owned());
    };
    if rest.is_empty() {
        return Located::Nowhere;
    }
    let Some(rest) = rest.strip_prefix(SEPARATOR) else {
        return Located::Own(name.to_owned());
    };
    // A local part may hold the separator, too: the address is the first part that is one.
    let ends = rest.match_indices(SEPARATOR).map(|(end, _)| end);
    for end in ends {
        if let Ok(address) = Address::parse(&rest[..end]) {
            let address = address.account_key();
            let mailbox = rest[end + 1..].to_owned();
            return match mailbox.is_empty() {
                true => Located::Nowhere,
                false if address == *user => Located::Own(mailbox),
                false => Located::Of(address, mailbox),
            };
        }
    }
    Located::Nowhere
}

/// The name of another account's mailbox.
pub fn name_of_other(account: &Address, mailbox: &str) -> String {
    format!("{OTHER_USERS}{SEPARATOR}{account}{SEPARATOR}{mailbox}")
}

/// A name of [`name_of_other`], or of what is above such names.
pub fn is_of_others(name: &str) -> bool {
    let rest = name.strip_prefix(OTHER_USERS);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(SEPARATOR))
}

/// A pattern of LIST may match mailboxes of others: as far as it has no wildcard, it begins as they
/// do.
pub fn may_match_others(pattern: &str) -> bool {
    let fixed = pattern.find(['*', '%']).unwrap_or(pattern.len());
    let length = fixed.min(OTHER_USERS.len());
    pattern.as_bytes()[..length] == OTHER_USERS.as_bytes()[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).expect("an address")
    }

    #[test]
    fn letters_are_rights() {
        assert_eq!(Rights::parse("lrswipkxtea"), Ok(Rights::ALL));
        assert_eq!(Rights::ALL.to_string(), "lrswipkxtea");
        assert_eq!(Rights::ALL.with_obsolete(), "lrswipkxteacd");
        assert_eq!(Rights::parse("c"), Ok(Rights::CREATE.with(Rights::DELETE)));
        assert_eq!(
            Rights::parse("rt").map(Rights::with_obsolete).as_deref(),
            Ok("rtd")
        );
        assert_eq!(Rights::parse("lz"), Err('z'));
        assert_eq!(Rights::parse("rl").map(|r| r.each().count()), Ok(2));
    }

    #[test]
    fn names_have_a_place() {
        let ann = address("ann@x.test");
        let own = |name: &str| Located::Own(name.to_owned());
        let of = |who: &str, name: &str| Located::Of(address(who), name.to_owned());
        for (name, expected) in [
            ("INBOX", own("INBOX")),
            ("Other Users2/x", own("Other Users2/x")),
            ("Other Users", Located::Nowhere),
            ("Other Users/", Located::Nowhere),
            ("Other Users/bob", Located::Nowhere),
            ("Other Users/bob@x.test", Located::Nowhere),
            ("Other Users/bob@x.test/", Located::Nowhere),
            ("Other Users/bob@x.test/a/b", of("bob@x.test", "a/b")),
            ("Other Users/Bob@X.test/INBOX", of("bob@x.test", "INBOX")),
            ("Other Users/a/b@x.test/c", of("a/b@x.test", "c")),
            ("Other Users/ann@x.test/Sent", own("Sent")),
        ] {
            assert_eq!(locate(name, &ann), expected, "{name}");
        }
        let name = name_of_other(&address("bob@x.test"), "a/b");
        assert_eq!(locate(&name, &ann), of("bob@x.test", "a/b"));
    }

    #[test]
    fn patterns_that_reach_others() {
        for pattern in [
            "*",
            "%",
            "O%",
            "Other Users/*",
            "Other Users/bob@x.test/INBOX",
        ] {
            assert!(may_match_others(pattern), "{pattern}");
        }
        for pattern in ["INBOX", "In*", "Other", "work/%"] {
            assert_eq!(may_match_others(pattern), pattern == "Other", "{pattern}");
        }
    }
}
