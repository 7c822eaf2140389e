//! Commands, and how they are written.

use std::rc::Rc;

use super::search::{Key, Returns};
use super::world::{Marks, Mode, Since};

/// `*` in a set.
pub const LAST: u32 = u32::MAX;

/// A set of message numbers or UIDs, as written.
#[derive(Debug, Clone)]
pub enum Set {
    /// Ranges, in any order.
    Ranges(Vec<(u32, u32)>),
    /// `$`
    Saved,
}

/// A message that is put in.
#[derive(Debug, Clone)]
pub struct New {
    pub marks: Marks,
    pub date: Option<String>,
    pub body: Rc<[u8]>,
}

/// What a client that comes back knows (RFC 7162 §3.2.5).
#[derive(Debug, Clone)]
pub struct Qresync {
    pub validity: u32,
    pub since: Since,
    pub known: Option<Set>,
}

/// One command.
#[derive(Debug, Clone)]
pub enum Command {
    Noop,
    Check,
    Enable(&'static str),
    Select {
        name: String,
        read_only: bool,
        condstore: bool,
        qresync: Option<Qresync>,
    },
    Close,
    Unselect,
    Create(String, Option<&'static str>),
    Delete(String),
    Rename(String, String),
    Subscribe(String, bool),
    List {
        pattern: String,
        subscribed: bool,
        status: bool,
    },
    Lsub(String),
    Status(String),
    Append(String, Vec<New>),
    Replace {
        by_uid: bool,
        number: u32,
        name: String,
        new: New,
    },
    Store {
        by_uid: bool,
        set: Set,
        mode: Mode,
        silent: bool,
        marks: Marks,
        since: Option<Since>,
    },
    Fetch {
        by_uid: bool,
        set: Set,
        items: Vec<&'static str>,
        since: Option<Since>,
        vanished: bool,
    },
    Search {
        by_uid: bool,
        keys: Vec<Key>,
        returns: Option<Returns>,
    },
    Copy {
        by_uid: bool,
        set: Set,
        name: String,
        moves: bool,
    },
    Expunge(Option<Set>),
    /// SETMETADATA; an empty name is the server.
    Annotate(String, Vec<(&'static str, Option<Rc<[u8]>>)>),
    /// GETMETADATA
    Annotations {
        name: String,
        entries: Vec<&'static str>,
        /// DEPTH infinity
        all_below: bool,
    },
    /// SETACL: to which account, which rights; with none of them DELETEACL.
    Grant(String, usize, &'static str),
    /// GETACL
    Access(String),
    MyRights(String),
}

/// Items of STATUS, all that there are.
pub const STATUS_ITEMS: &str =
    "MESSAGES UIDNEXT UIDVALIDITY UNSEEN DELETED SIZE HIGHESTMODSEQ MAILBOXID RECENT APPENDLIMIT";
/// Those that say nothing of MODSEQs.
pub const PLAIN_STATUS_ITEMS: &str = "MESSAGES UIDNEXT UIDVALIDITY UNSEEN DELETED SIZE MAILBOXID";

impl Set {
    pub fn text(&self) -> String {
        let Set::Ranges(ranges) = self else {
            return "$".to_owned();
        };
        let number = |number: u32| match number {
            LAST => "*".to_owned(),
            number => number.to_string(),
        };
        let parts = ranges.iter().map(|(low, high)| {
            if low == high {
                number(*low)
            } else {
                format!("{}:{}", number(*low), number(*high))
            }
        });
        parts.collect::<Vec<String>>().join(",")
    }
}

/// A mailbox's name in a command, as the session has agreed to write it.
pub fn quoted(name: &str, utf8: bool) -> String {
    if utf8 {
        return format!("\"{name}\"");
    }
    // RFC 3501 §5.1.3, for the only letter of that kind that is used here.
    format!("\"{}\"", name.replace('ü', "&APw-"))
}

/// The name that a response has.
pub fn name_of(wire: &str, utf8: bool) -> String {
    if utf8 {
        wire.to_owned()
    } else {
        wire.replace("&APw-", "ü")
    }
}

fn uid(by_uid: bool) -> &'static str {
    if by_uid { "UID " } else { "" }
}

fn write_new(new: &New, out: &mut Vec<u8>) {
    if new.marks != Marks::default() {
        out.extend_from_slice(format!(" ({})", new.marks.words()).as_bytes());
    }
    if let Some(date) = &new.date {
        out.extend_from_slice(format!(" \"{date}\"").as_bytes());
    }
    out.extend_from_slice(format!(" {{{}+}}\r\n", new.body.len()).as_bytes());
    out.extend_from_slice(&new.body);
}

impl Command {
    /// Writes it with this tag, for a session of such a login. `address`: of an account by its number.
    pub fn write(
        &self,
        tag: &str,
        utf8: bool,
        address: impl Fn(usize) -> String,
        out: &mut Vec<u8>,
    ) {
        let name = |name: &str| quoted(name, utf8);
        let text = match self {
            Command::Noop => "NOOP".to_owned(),
            Command::Check => "CHECK".to_owned(),
            Command::Enable(what) => format!("ENABLE {what}"),
            Command::Select {
                name: own,
                read_only,
                condstore,
                qresync,
            } => {
                let verb = if *read_only { "EXAMINE" } else { "SELECT" };
                let end = match qresync {
                    Some(known) => {
                        let set = known.known.as_ref().map(|set| format!(" {}", set.text()));
                        let set = set.unwrap_or_default();
                        let (validity, modseq) = (known.validity, known.since.modseq);
                        format!(" (QRESYNC ({validity} {modseq}{set}))")
                    }
                    None if *condstore => " (CONDSTORE)".to_owned(),
                    None => String::new(),
                };
                format!("{verb} {}{end}", name(own))
            }
            Command::Close => "CLOSE".to_owned(),
            Command::Unselect => "UNSELECT".to_owned(),
            Command::Create(own, None) => format!("CREATE {}", name(own)),
            Command::Create(own, Some(special_use)) => {
                format!("CREATE {} (USE ({special_use}))", name(own))
            }
            Command::Delete(own) => format!("DELETE {}", name(own)),
            Command::Rename(from, to) => format!("RENAME {} {}", name(from), name(to)),
            Command::Subscribe(own, true) => format!("SUBSCRIBE {}", name(own)),
            Command::Subscribe(own, false) => format!("UNSUBSCRIBE {}", name(own)),
            Command::List {
                pattern,
                subscribed,
                status,
            } => {
                let selection = if *subscribed { "(SUBSCRIBED) " } else { "" };
                let end = if *status {
                    format!(" RETURN (SUBSCRIBED STATUS ({PLAIN_STATUS_ITEMS}))")
                } else {
                    String::new()
                };
                format!("LIST {selection}\"\" {}{end}", name(pattern))
            }
            Command::Lsub(pattern) => format!("LSUB \"\" {}", name(pattern)),
            Command::Status(own) => format!("STATUS {} ({STATUS_ITEMS})", name(own)),
            Command::Append(own, messages) => {
                out.extend_from_slice(format!("{tag} APPEND {}", name(own)).as_bytes());
                messages.iter().for_each(|new| write_new(new, out));
                out.extend_from_slice(b"\r\n");
                return;
            }
            Command::Replace {
                by_uid,
                number,
                name: own,
                new,
            } => {
                let verb = format!("{tag} {}REPLACE {number} {}", uid(*by_uid), name(own));
                out.extend_from_slice(verb.as_bytes());
                write_new(new, out);
                out.extend_from_slice(b"\r\n");
                return;
            }
            Command::Store {
                by_uid,
                set,
                mode,
                silent,
                marks,
                since,
            } => {
                let since = since.map(|since| format!(" (UNCHANGEDSINCE {})", since.modseq));
                let sign = match mode {
                    Mode::Replace => "",
                    Mode::Add => "+",
                    Mode::Remove => "-",
                };
                let silent = if *silent { ".SILENT" } else { "" };
                format!(
                    "{}STORE {}{} {sign}FLAGS{silent} ({})",
                    uid(*by_uid),
                    set.text(),
                    since.unwrap_or_default(),
                    marks.words()
                )
            }
            Command::Fetch {
                by_uid,
                set,
                items,
                since,
                vanished,
            } => {
                let vanished = if *vanished { " VANISHED" } else { "" };
                let end = since.map(|since| format!(" (CHANGEDSINCE {}{vanished})", since.modseq));
                format!(
                    "{}FETCH {} ({}){}",
                    uid(*by_uid),
                    set.text(),
                    items.join(" "),
                    end.unwrap_or_default()
                )
            }
            Command::Search {
                by_uid,
                keys,
                returns,
            } => {
                let returns = returns.as_ref().map(|returns| returns.text());
                let keys: Vec<String> = keys.iter().map(Key::text).collect();
                format!(
                    "{}SEARCH {}{}",
                    uid(*by_uid),
                    returns.unwrap_or_default(),
                    keys.join(" ")
                )
            }
            Command::Copy {
                by_uid,
                set,
                name: own,
                moves,
            } => {
                let verb = if *moves { "MOVE" } else { "COPY" };
                format!("{}{verb} {} {}", uid(*by_uid), set.text(), name(own))
            }
            Command::Expunge(None) => "EXPUNGE".to_owned(),
            Command::Expunge(Some(set)) => format!("UID EXPUNGE {}", set.text()),
            Command::Annotate(own, values) => {
                out.extend_from_slice(format!("{tag} SETMETADATA {} ", name(own)).as_bytes());
                for (index, (entry, value)) in values.iter().enumerate() {
                    out.push(if index == 0 { b'(' } else { b' ' });
                    out.extend_from_slice(entry.as_bytes());
                    match value {
                        Some(value) => {
                            let head = format!(" ~{{{}+}}\r\n", value.len());
                            out.extend_from_slice(head.as_bytes());
                            out.extend_from_slice(value);
                        }
                        None => out.extend_from_slice(b" NIL"),
                    }
                }
                out.extend_from_slice(b")\r\n");
                return;
            }
            Command::Annotations {
                name: own,
                entries,
                all_below,
            } => {
                let depth = if *all_below { " (DEPTH infinity)" } else { "" };
                format!("GETMETADATA {}{depth} ({})", name(own), entries.join(" "))
            }
            Command::Grant(own, whom, "") => {
                format!("DELETEACL {} {}", name(own), address(*whom))
            }
            Command::Grant(own, whom, rights) => {
                format!("SETACL {} {} {rights}", name(own), address(*whom))
            }
            Command::Access(own) => format!("GETACL {}", name(own)),
            Command::MyRights(own) => format!("MYRIGHTS {}", name(own)),
        };
        out.extend_from_slice(format!("{tag} {text}\r\n").as_bytes());
    }
}
