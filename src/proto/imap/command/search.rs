//! SEARCH, SORT and THREAD as parsed (RFC 9051 §6.4.4, RFC 5256): keys, results, order.

use super::super::sets::Set;
use super::Flags;

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
    pub(super) fn has_numbers(&self) -> bool {
        match self {
            Key::Numbers(set) => !set.is_saved(),
            Key::And(keys) => keys.iter().any(Key::has_numbers),
            Key::Or(both) => both.0.has_numbers() || both.1.has_numbers(),
            Key::Not(key) => key.has_numbers(),
            _ => false,
        }
    }

    /// It asks for a keyword.
    pub(super) fn has_keyword(&self) -> bool {
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
