//! Commands as parsed (RFC 9051 §6, §9): owned data without a word of syntax.

mod notify;

use zeroize::Zeroizing;

pub use notify::{Event, EventGroup, EventSet, Events, Filter, Notify};

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

/// FETCH (RFC 9051 §6.4.5).
#[derive(Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Which messages.
    pub set: Set,
    /// The set is of UIDs.
    pub by_uid: bool,
    /// What of them.
    pub items: Vec<Item>,
    /// Only those with a higher MODSEQ (RFC 7162 §3.1.4.1).
    pub changed_since: Option<u64>,
    /// And which have gone since (RFC 7162 §3.2.6).
    pub vanished: bool,
    /// Only so many of them (RFC 9394 §3.3): places as in [`Results::partial`].
    pub partial: Option<(i64, i64)>,
}

/// What of a message (RFC 9051 §6.4.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// FLAGS
    Flags,
    /// UID
    Uid,
    /// INTERNALDATE
    InternalDate,
    /// RFC822.SIZE
    Size,
    /// ENVELOPE
    Envelope,
    /// BODY, BODYSTRUCTURE
    Structure {
        /// With extension data.
        extended: bool,
    },
    /// MODSEQ (RFC 7162 §3.1.4.2)
    ModSeq,
    /// EMAILID (RFC 8474 §5.1)
    EmailId,
    /// THREADID (RFC 8474 §5.2)
    ThreadId,
    /// SAVEDATE (RFC 8514 §4.2)
    SaveDate,
    /// PREVIEW (RFC 8970); `true`: LAZY
    Preview(bool),
    /// BODY[...], BODY.PEEK[...], RFC822 and its like.
    Body {
        /// `\Seen` is not set.
        peek: bool,
        /// What is between the brackets.
        section: Section,
        /// From here, so many octets.
        partial: Option<(u64, u64)>,
        /// How the item is written in the response.
        shape: Shape,
    },
    /// BINARY[...], BINARY.PEEK[...] (RFC 3516 §4.2)
    Binary {
        /// `\Seen` is not set.
        peek: bool,
        /// The part's numbers.
        part: Vec<u32>,
        /// From here, so many octets.
        partial: Option<(u64, u64)>,
    },
    /// BINARY.SIZE[...] (RFC 3516 §4.3)
    BinarySize(Vec<u32>),
}

impl Item {
    /// Who asks for it has seen the message.
    pub fn sets_seen(&self) -> bool {
        matches!(
            self,
            Item::Body { peek: false, .. } | Item::Binary { peek: false, .. }
        )
    }

    /// FLAGS come with it, or may.
    fn tells_flags(&self) -> bool {
        *self == Item::Flags || self.sets_seen()
    }
}

/// The name of a body item in the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `BODY[...]`
    Body,
    /// `RFC822` (RFC 3501)
    Rfc822,
    /// `RFC822.HEADER`
    Rfc822Header,
    /// `RFC822.TEXT`
    Rfc822Text,
}

/// What is between the brackets of `BODY[...]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// Numbers of the part; none: the message.
    pub part: Vec<u32>,
    /// What of it.
    pub text: SectionText,
}

/// What of a part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SectionText {
    /// Everything: of a message header and body, of a part its body.
    #[default]
    All,
    /// HEADER
    Header,
    /// HEADER.FIELDS, HEADER.FIELDS.NOT
    Fields {
        /// Names as given, for the response.
        names: Vec<Vec<u8>>,
        /// All but these.
        not: bool,
    },
    /// TEXT
    Text,
    /// MIME
    Mime,
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

/// SEARCH (RFC 9051 §6.4.4).
#[derive(Debug, PartialEq, Eq)]
pub struct Search {
    /// Results are UIDs.
    pub by_uid: bool,
    /// `RETURN (...)` was given: the answer is ESEARCH.
    pub extended: bool,
    /// Which results.
    pub results: Results,
    /// What its texts are said to be in.
    pub charset: Charset,
    /// All must hold.
    pub keys: Vec<Key>,
    /// SORT, THREAD: in this order.
    pub order: Option<Order>,
}

/// The charset that a search names for its texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Charset {
    /// It names none.
    #[default]
    None,
    /// UTF-8.
    Utf8,
    /// US-ASCII.
    Ascii,
    /// One that is not known here: what is searched for was not read.
    Unknown,
}

/// The order of what was found (RFC 5256).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// SORT by these, one after the other; `true`: REVERSE.
    Sort(Vec<(SortBy, bool)>),
    /// THREAD
    Thread(ThreadBy),
}

/// A criterion of SORT (RFC 5256 §3, RFC 5957).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortBy {
    /// The internal date.
    Arrival,
    /// The first address of Cc.
    Cc,
    /// The Date field.
    Date,
    /// The first address of From.
    From,
    /// Bytes.
    Size,
    /// The base subject.
    Subject,
    /// The first address of To.
    To,
    /// The first name of From.
    DisplayFrom,
    /// The first name of To.
    DisplayTo,
}

/// An algorithm of THREAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadBy {
    /// ORDEREDSUBJECT
    OrderedSubject,
    /// REFERENCES
    References,
}

/// What SEARCH returns (RFC 9051 §6.4.4, RFC 4731, RFC 5182).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Results {
    /// MIN
    pub min: bool,
    /// MAX
    pub max: bool,
    /// ALL
    pub all: bool,
    /// COUNT
    pub count: bool,
    /// SAVE
    pub save: bool,
    /// PARTIAL (RFC 9394): from, to; counted from the end where negative.
    pub partial: Option<(i64, i64)>,
}

/// A search key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// Every message.
    All,
    /// All of these hold.
    And(Vec<Key>),
    /// One of the two.
    Or(Box<(Key, Key)>),
    /// It does not hold.
    Not(Box<Key>),
    /// A system flag is set.
    Flag(Flags),
    /// A keyword is set.
    Keyword(String),
    /// Message numbers.
    Numbers(Set),
    /// UIDs.
    Uids(Set),
    /// More octets than this.
    Larger(u64),
    /// Fewer octets than this.
    Smaller(u64),
    /// A date, as days since 1970.
    Date(DateOf, Comparison, i32),
    /// Within the last so many seconds, or not (RFC 5032).
    Within {
        /// YOUNGER; else OLDER.
        younger: bool,
        /// The interval.
        seconds: u32,
    },
    /// MODSEQ at least (RFC 7162 §3.1.5).
    ModSeq(u64),
    /// A header field holds a text; empty: it is there.
    Header(String, String),
    /// The body holds a text.
    Body(String),
    /// Header or body holds a text.
    Text(String),
    /// RFC 8474 §6.
    EmailId(String),
    /// RFC 8514 §4.3: every message has one here.
    SaveDateSupported,
}

impl Key {
    /// It names messages by their numbers; `$` stands for UIDs as well. Keys nest to
    /// `limits::IMAP_SEARCH_DEPTH_MAX`.
    fn has_numbers(&self) -> bool {
        match self {
            Key::Numbers(set) => !set.is_saved(),
            Key::And(keys) => keys.iter().any(Key::has_numbers),
            Key::Or(both) => both.0.has_numbers() || both.1.has_numbers(),
            Key::Not(key) => key.has_numbers(),
            _ => false,
        }
    }

    /// It asks for a keyword.
    fn has_keyword(&self) -> bool {
        match self {
            Key::Keyword(_) => true,
            Key::And(keys) => keys.iter().any(Key::has_keyword),
            Key::Or(both) => both.0.has_keyword() || both.1.has_keyword(),
            Key::Not(key) => key.has_keyword(),
            _ => false,
        }
    }
}

/// Which date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DateOf {
    /// The internal date.
    Internal,
    /// When it came into this mailbox.
    Saved,
    /// The Date field.
    Sent,
}

/// How a date compares with the given one; times of day and zones do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Earlier.
    Before,
    /// The same day.
    On,
    /// That day or later.
    Since,
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
