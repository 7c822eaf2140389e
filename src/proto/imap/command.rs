//! Commands as parsed (RFC 9051 §6, §9): owned data without a word of syntax.

mod fetch;
mod notify;
mod search;

use zeroize::Zeroizing;

pub use fetch::{Fetch, Item, Section, SectionText, Shape};
pub use notify::{Event, EventGroup, EventSet, Events, Filter, Notify};
pub use search::{Charset, Comparison, DateOf, Key, Order, Results, Search, SortBy, ThreadBy};

use super::metadata::{Entry, Wanted};
use super::sets::Set;
pub use super::status::{StatusItem, StatusItems};

/// A command and its tag.
#[derive(Debug, PartialEq, Eq)]
pub struct Tagged {
    /// As given.
    pub tag: Box<[u8]>,
    /// What is wanted.
    pub command: Command,
}

/// A mailbox name as it stands in a command, see [`super::names::decode`].
pub type RawName = Vec<u8>;

/// A command.
#[derive(PartialEq, Eq)]
pub enum Command {
    /// RFC 9051 §6.1.1
    Capability,
    /// §6.1.2
    Noop,
    /// §6.1.3
    Logout,
    /// RFC 2971: what the client says of itself.
    Id(Vec<(String, Option<String>)>),
    /// §6.2.1
    StartTls,
    /// §6.2.2
    Authenticate {
        /// In upper case.
        mechanism: String,
        /// RFC 4959; `=` stands for an empty one.
        initial: Option<Zeroizing<Vec<u8>>>,
    },
    /// §6.2.3
    Login {
        /// As given.
        user: Vec<u8>,
        /// As given.
        password: Zeroizing<Vec<u8>>,
    },
    /// §6.3.1
    Enable(Vec<String>),
    /// §6.3.2, §6.3.3
    Select(Select),
    /// §6.3.4, RFC 6154 §3
    Create {
        /// Its name.
        name: RawName,
        /// `\Sent` and its like, without the backslash, in upper case.
        special_use: Vec<String>,
    },
    /// §6.3.5
    Delete(RawName),
    /// §6.3.6
    Rename(RawName, RawName),
    /// §6.3.7
    Subscribe(RawName),
    /// §6.3.8
    Unsubscribe(RawName),
    /// §6.3.9, RFC 3501 §6.3.9
    List(List),
    /// §6.3.10
    Namespace,
    /// §6.3.11
    Status(RawName, StatusItems),
    /// §6.3.13
    Idle,
    /// RFC 3501 §6.4.1
    Check,
    /// §6.4.1
    Close,
    /// §6.4.2
    Unselect,
    /// §6.4.3; with a set: UID EXPUNGE (RFC 4315 §2.1)
    Expunge(Option<Set>),
    /// §6.4.4
    Search(Search),
    /// §6.4.5
    Fetch(Fetch),
    /// §6.4.6
    Store(Store),
    /// §6.4.7, §6.4.8
    Copy {
        /// Which messages.
        set: Set,
        /// The set is of UIDs.
        by_uid: bool,
        /// To where.
        name: RawName,
        /// MOVE.
        moves: bool,
    },
    /// RFC 4314 §3
    Access(AccessCommand),
    /// RFC 9208 §4.1.1: of this quota root.
    GetQuota(Vec<u8>),
    /// RFC 9208 §4.1.2
    GetQuotaRoot(RawName),
    /// RFC 9208 §4.1.3
    SetQuota {
        /// Of this quota root.
        root: Vec<u8>,
        /// Names of resources, in upper case, and what there may be of each.
        limits: Vec<(String, u64)>,
    },
    /// RFC 8437
    Unauthenticate,
    /// Netscape's: from now on as this user.
    ProxyAuth(Vec<u8>),
    /// RFC 4978: the mechanism, in upper case.
    Compress(String),
    /// RFC 5464 §4.2
    GetMetadata(GetMetadata),
    /// RFC 5464 §4.3
    SetMetadata {
        /// Empty: the server.
        mailbox: RawName,
        /// `None` removes one; each entry once.
        values: Vec<(Entry, Option<Vec<u8>>)>,
    },
    /// RFC 5465 §3.1
    Notify(Notify),
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Names only: arguments may be secrets.
        f.write_str(self.name())
    }
}

impl Command {
    /// Its name, for responses and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Capability => "CAPABILITY",
            Command::Noop => "NOOP",
            Command::Logout => "LOGOUT",
            Command::Id(_) => "ID",
            Command::StartTls => "STARTTLS",
            Command::Authenticate { .. } => "AUTHENTICATE",
            Command::Login { .. } => "LOGIN",
            Command::Enable(_) => "ENABLE",
            Command::Select(select) if select.read_only => "EXAMINE",
            Command::Select(_) => "SELECT",
            Command::Create { .. } => "CREATE",
            Command::Delete(_) => "DELETE",
            Command::Rename(..) => "RENAME",
            Command::Subscribe(_) => "SUBSCRIBE",
            Command::Unsubscribe(_) => "UNSUBSCRIBE",
            Command::List(list) if list.lsub => "LSUB",
            Command::List(_) => "LIST",
            Command::Namespace => "NAMESPACE",
            Command::Status(..) => "STATUS",
            Command::Idle => "IDLE",
            Command::Check => "CHECK",
            Command::Close => "CLOSE",
            Command::Unselect => "UNSELECT",
            Command::Expunge(_) => "EXPUNGE",
            Command::Search(search) => match search.order {
                None => "SEARCH",
                Some(Order::Sort(_)) => "SORT",
                Some(Order::Thread(_)) => "THREAD",
            },
            Command::Fetch(_) => "FETCH",
            Command::Store(_) => "STORE",
            Command::Copy { moves: false, .. } => "COPY",
            Command::Copy { moves: true, .. } => "MOVE",
            Command::Access(access) => access.verb,
            Command::GetQuota(_) => "GETQUOTA",
            Command::GetQuotaRoot(_) => "GETQUOTAROOT",
            Command::SetQuota { .. } => "SETQUOTA",
            Command::Unauthenticate => "UNAUTHENTICATE",
            Command::ProxyAuth(_) => "PROXYAUTH",
            Command::Compress(_) => "COMPRESS",
            Command::GetMetadata(_) => "GETMETADATA",
            Command::SetMetadata { .. } => "SETMETADATA",
            Command::Notify(_) => "NOTIFY",
        }
    }
}

impl Command {
    /// It names messages by their numbers, or would be answered with some: not after ENABLE UIDONLY
    /// (RFC 9586 §3).
    pub fn needs_numbers(&self) -> bool {
        match self {
            Command::Fetch(fetch) => !fetch.by_uid,
            Command::Store(store) => !store.by_uid,
            Command::Copy { by_uid, .. } => !by_uid,
            Command::Search(search) => !search.by_uid || search.keys.iter().any(Key::has_numbers),
            Command::Select(select) => {
                let known = select.qresync.as_ref();
                known.is_some_and(|known| known.has_numbers)
            }
            _ => false,
        }
    }
}

impl Command {
    /// It tells which keywords messages have, or asks for one.
    pub fn names_keywords(&self) -> bool {
        match self {
            Command::Fetch(fetch) => fetch.items.iter().any(Item::tells_flags),
            Command::Search(search) => search.keys.iter().any(Key::has_keyword),
            Command::Store(_) => true,
            _ => false,
        }
    }
}

/// SETACL, DELETEACL, GETACL, LISTRIGHTS or MYRIGHTS.
#[derive(Debug, PartialEq, Eq)]
pub struct AccessCommand {
    /// Which of them.
    pub verb: &'static str,
    /// Of this mailbox.
    pub name: RawName,
    /// Whom it is about, where it is about somebody: as given.
    pub whom: Option<Vec<u8>>,
    /// SETACL: which rights, with a sign in front or not.
    pub rights: Vec<u8>,
}

/// GETMETADATA.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GetMetadata {
    /// Empty: the server.
    pub mailbox: RawName,
    /// Which annotations.
    pub wanted: Wanted,
    /// MAXSIZE: only values of at most so many octets.
    pub size_max: Option<u64>,
}

/// SELECT or EXAMINE.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Select {
    /// Which.
    pub name: RawName,
    /// EXAMINE.
    pub read_only: bool,
    /// `(CONDSTORE)` (RFC 7162 §3.1.8).
    pub condstore: bool,
    /// `(QRESYNC (...))` (RFC 7162 §3.2.5).
    pub qresync: Option<Qresync>,
}

/// What a client knows of a mailbox (RFC 7162 §3.2.5).
#[derive(Debug, PartialEq, Eq)]
pub struct Qresync {
    /// UIDVALIDITY.
    pub validity: u32,
    /// HIGHESTMODSEQ.
    pub modseq: u64,
    /// UIDs that it has; `None`: all up to its UIDNEXT.
    pub known: Option<Set>,
    /// It gave message numbers, too.
    pub has_numbers: bool,
}

/// LIST or LSUB, with the extensions of RFC 5258 and RFC 5819.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct List {
    /// LSUB.
    pub lsub: bool,
    /// In front of each pattern.
    pub reference: Vec<u8>,
    /// At least one.
    pub patterns: Vec<Vec<u8>>,
    /// The client uses the extended syntax: patterns in parentheses, selection or return options.
    pub extended: bool,
    /// Select: only those subscribed to.
    pub select_subscribed: bool,
    /// Select: only those with a special use.
    pub select_special_use: bool,
    /// Select: also those with a child that is selected.
    pub recursive: bool,
    /// Return: say which are subscribed to.
    pub subscribed: bool,
    /// Return: say which have children.
    pub children: bool,
    /// Return: their STATUS.
    pub status: Option<StatusItems>,
    /// Return: these annotations (RFC 9590).
    pub metadata: Option<Wanted>,
}

/// System flags (RFC 9051 §2.3.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// `\Seen`
    pub const SEEN: Flags = Flags(1);
    /// `\Answered`
    pub const ANSWERED: Flags = Flags(2);
    /// `\Flagged`
    pub const FLAGGED: Flags = Flags(4);
    /// `\Deleted`
    pub const DELETED: Flags = Flags(8);
    /// `\Draft`
    pub const DRAFT: Flags = Flags(16);
    /// All of them, with their names, in the order in which they are written.
    pub const ALL: [(Flags, &str); 5] = [
        (Flags::ANSWERED, "\\Answered"),
        (Flags::FLAGGED, "\\Flagged"),
        (Flags::DELETED, "\\Deleted"),
        (Flags::SEEN, "\\Seen"),
        (Flags::DRAFT, "\\Draft"),
    ];

    /// By its name in upper case, without the backslash.
    pub fn named(name: &str) -> Option<Flags> {
        let known = Flags::ALL.iter();
        let mut known = known.filter(|(_, known)| known[1..].eq_ignore_ascii_case(name));
        known.next().map(|(flag, _)| *flag)
    }

    /// These and those.
    pub fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// All of those are set.
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Flags and keywords of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlagList {
    /// System flags.
    pub system: Flags,
    /// Keywords, each once whatever its case.
    pub keywords: Vec<String>,
}

/// What a parser of parameters says of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modifier {
    /// Taken.
    Known,
    /// There is no such parameter.
    Unknown,
}

/// STORE (RFC 9051 §6.4.6).
#[derive(Debug, PartialEq, Eq)]
pub struct Store {
    /// Which messages.
    pub set: Set,
    /// The set is of UIDs.
    pub by_uid: bool,
    /// Only those not changed since (RFC 7162 §3.1.3).
    pub unchanged_since: Option<u64>,
    /// What to do with the flags.
    pub how: StoreHow,
    /// The client does not want to be told.
    pub silent: bool,
    /// Which flags.
    pub flags: FlagList,
}

/// What STORE does with flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreHow {
    /// FLAGS
    Replace,
    /// +FLAGS
    Add,
    /// -FLAGS
    Remove,
}

/// One message of APPEND, up to its literal (RFC 9051 §6.3.12).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Append {
    /// `\Seen` and so on.
    pub flags: FlagList,
    /// The internal date, milliseconds since 1970; `None`: now.
    pub date_ms: Option<u64>,
    /// `UTF8 (~{...}` (RFC 6855 §4): a parenthesis follows the literal.
    pub utf8: bool,
    /// `CATENATE (` (RFC 4469): its parts follow, one by one.
    pub catenate: bool,
}
