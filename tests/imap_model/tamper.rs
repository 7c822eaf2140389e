//! Faults planted in what a server says: the model must notice each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use super::response::{Response, Value};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    ExistsOneMore,
    ExpungeOfAnother,
    ExpungeLost,
    VanishedLost,
    EarlierLost,
    FetchOfAnother,
    FlagsChanged,
    FlagsLost,
    ModseqGoesBack,
    ModseqTooHigh,
    BodyChanged,
    SizeChanged,
    UidChanged,
    UidValidityChanged,
    UidNextChanged,
    HighestModseqGoesBack,
    CopyUidChanged,
    AppendUidChanged,
    ModifiedLost,
    SearchLost,
    ListLost,
    StatusChanged,
    OkForNo,
    DateChanged,
    /// From here on those that only sessions of a wide run meet.
    PackedBodyChanged,
    UidFetchOfAnother,
    MetadataChanged,
    MetadataLost,
    RightsChanged,
    AccessLost,
    OthersUnlisted,
    FarFlagsLost,
    ManyUidsFewer,
    OkForUidRequired,
}

impl Fault {
    /// In what any session is told.
    pub const PLAIN: [Fault; 24] = [
        Fault::ExistsOneMore,
        Fault::ExpungeOfAnother,
        Fault::ExpungeLost,
        Fault::VanishedLost,
        Fault::EarlierLost,
        Fault::FetchOfAnother,
        Fault::FlagsChanged,
        Fault::FlagsLost,
        Fault::ModseqGoesBack,
        Fault::ModseqTooHigh,
        Fault::BodyChanged,
        Fault::SizeChanged,
        Fault::UidChanged,
        Fault::UidValidityChanged,
        Fault::UidNextChanged,
        Fault::HighestModseqGoesBack,
        Fault::CopyUidChanged,
        Fault::AppendUidChanged,
        Fault::ModifiedLost,
        Fault::SearchLost,
        Fault::ListLost,
        Fault::StatusChanged,
        Fault::OkForNo,
        Fault::DateChanged,
    ];

    /// In what only those are told who visit others, annotate, compress, have no message numbers or
    /// thousands of messages.
    pub const WIDE: [Fault; 10] = [
        Fault::PackedBodyChanged,
        Fault::UidFetchOfAnother,
        Fault::MetadataChanged,
        Fault::MetadataLost,
        Fault::RightsChanged,
        Fault::AccessLost,
        Fault::OthersUnlisted,
        Fault::FarFlagsLost,
        Fault::ManyUidsFewer,
        Fault::OkForUidRequired,
    ];
}

/// Numbers behind what one slice of a mailbox has.
const FAR: u32 = ringpost::limits::IMAP_SLICE_MESSAGES as u32;

/// Changes one response of a run: the first that fits after so many that do.
#[derive(Debug, Clone)]
pub struct Tamper {
    fault: Fault,
    skip: Arc<AtomicU32>,
    fired: Arc<AtomicBool>,
}

impl Tamper {
    pub fn new(fault: Fault, skip: u32) -> Tamper {
        Tamper {
            fault,
            skip: Arc::new(AtomicU32::new(skip)),
            fired: Arc::default(),
        }
    }

    /// A response was changed.
    pub fn has_fired(&self) -> bool {
        self.fired.load(Relaxed)
    }

    /// The response as the client gets it; `None`: it gets none.
    pub fn change(&mut self, response: Response, is_packed: bool) -> Option<Response> {
        let fits = is_packed || self.fault != Fault::PackedBodyChanged;
        if self.fired.load(Relaxed) || !fits {
            return Some(response);
        }
        let changed = match change(self.fault, response.clone()) {
            Changed::Not => return Some(response),
            Changed::To(changed) => Some(changed),
            Changed::Lost => None,
        };
        if self.skip.load(Relaxed) > 0 {
            self.skip.fetch_sub(1, Relaxed);
            return Some(response);
        }
        self.fired.store(true, Relaxed);
        changed
    }
}

enum Changed {
    Not,
    To(Response),
    Lost,
}

/// Another number for the first one of a text.
fn next_number(text: &str) -> Option<String> {
    let number: u64 = text.parse().ok()?;
    Some((number + 1).to_string())
}

fn change_item(
    (number, mut items): (u32, Vec<(String, Value)>),
    name: &str,
    change: impl FnOnce(&mut Value),
) -> Changed {
    match items.iter_mut().find(|(own, _)| own == name) {
        Some((_, value)) => {
            change(value);
            Changed::To(Response::Fetch(number, items))
        }
        None => Changed::Not,
    }
}

fn change_modseq(value: &mut Value, modseq: &str) {
    *value = Value::List(vec![Value::Atom(modseq.to_owned())]);
}

/// A response code, changed: `change` is given its argument.
fn change_code(
    response: Response,
    wanted: &str,
    change: impl FnOnce(&str) -> Option<String>,
) -> Changed {
    match response {
        Response::Note(Some((name, argument))) if name == wanted => match change(&argument) {
            Some(argument) => Changed::To(Response::Note(Some((name, argument)))),
            None => Changed::Not,
        },
        Response::Tagged(tag, status, Some((name, argument))) if name == wanted => {
            match change(&argument) {
                Some(argument) => {
                    Changed::To(Response::Tagged(tag, status, Some((name, argument))))
                }
                None => Changed::Not,
            }
        }
        _ => Changed::Not,
    }
}

fn change(fault: Fault, response: Response) -> Changed {
    let last_number = |argument: &str| {
        let (start, last) = argument.rsplit_once(' ')?;
        Some(format!("{start} {}", next_number(last)?))
    };
    match (fault, response) {
        (Fault::ExistsOneMore, Response::Exists(count)) => Changed::To(Response::Exists(count + 1)),
        (Fault::ExpungeOfAnother, Response::Expunge(number)) => {
            let other = if number > 1 { number - 1 } else { number + 1 };
            Changed::To(Response::Expunge(other))
        }
        (Fault::ExpungeLost, Response::Expunge(_)) => Changed::Lost,
        (Fault::VanishedLost, Response::Vanished { earlier: false, .. })
        | (Fault::EarlierLost, Response::Vanished { earlier: true, .. })
        | (Fault::ListLost, Response::List { .. }) => Changed::Lost,
        (Fault::FetchOfAnother, Response::Fetch(number, items)) => {
            Changed::To(Response::Fetch(number + 1, items))
        }
        (Fault::FlagsLost, Response::Fetch(_, items)) => {
            if items.iter().any(|(name, _)| name == "FLAGS") {
                Changed::Lost
            } else {
                Changed::Not
            }
        }
        (Fault::FlagsChanged, Response::Fetch(number, items)) => {
            change_item((number, items), "FLAGS", |value| {
                let Value::List(flags) = value else {
                    return;
                };
                let flagged = Value::Atom("\\Flagged".to_owned());
                match flags.iter().position(|flag| *flag == flagged) {
                    Some(place) => drop(flags.remove(place)),
                    None => flags.push(flagged),
                }
            })
        }
        (Fault::ModseqGoesBack, Response::Fetch(number, items)) => {
            change_item((number, items), "MODSEQ", |value| change_modseq(value, "1"))
        }
        (Fault::ModseqTooHigh, Response::Fetch(number, items)) => {
            change_item((number, items), "MODSEQ", |value| {
                change_modseq(value, "9000000000");
            })
        }
        (Fault::BodyChanged | Fault::PackedBodyChanged, Response::Fetch(number, items)) => {
            change_item((number, items), "BODY[]", |value| {
                if let Value::Text(text) = value
                    && let Some(byte) = text.last_mut()
                {
                    *byte ^= 1;
                }
            })
        }
        (Fault::SizeChanged, Response::Fetch(number, items)) => {
            change_item((number, items), "RFC822.SIZE", |value| {
                *value = Value::Atom("7".to_owned());
            })
        }
        (Fault::DateChanged, Response::Fetch(number, items)) => {
            change_item((number, items), "INTERNALDATE", |value| {
                *value = Value::Text(b"17-Jul-1996 02:44:25 +0000".to_vec());
            })
        }
        (Fault::UidChanged, Response::Fetch(number, items)) => {
            change_item((number, items), "UID", |value| {
                *value = Value::Atom("99999".to_owned());
            })
        }
        (Fault::UidValidityChanged, response) => change_code(response, "UIDVALIDITY", next_number),
        (Fault::UidNextChanged, response) => change_code(response, "UIDNEXT", next_number),
        (Fault::HighestModseqGoesBack, response) => {
            change_code(response, "HIGHESTMODSEQ", |_| Some("1".to_owned()))
        }
        (Fault::CopyUidChanged, response) => change_code(response, "COPYUID", last_number),
        (Fault::AppendUidChanged, response) => change_code(response, "APPENDUID", last_number),
        (Fault::ModifiedLost, Response::Tagged(tag, status, Some((name, _))))
            if name == "MODIFIED" =>
        {
            Changed::To(Response::Tagged(tag, status, None))
        }
        (Fault::SearchLost, Response::Search { numbers, modseq }) if !numbers.is_empty() => {
            let numbers = numbers[1..].to_vec();
            Changed::To(Response::Search { numbers, modseq })
        }
        (Fault::StatusChanged, Response::Status(name, mut items)) => {
            items.insert("MESSAGES".to_owned(), Value::Atom("4711".to_owned()));
            Changed::To(Response::Status(name, items))
        }
        (Fault::OkForNo, Response::Tagged(tag, super::response::Status::No, _)) => {
            Changed::To(Response::Tagged(tag, super::response::Status::Ok, None))
        }
        (Fault::UidFetchOfAnother, Response::UidFetch(uid, items)) => {
            Changed::To(Response::UidFetch(uid + 1, items))
        }
        (Fault::MetadataChanged, Response::Metadata(name, mut values)) => {
            match values.iter_mut().find_map(|(_, value)| value.as_mut()) {
                Some(value) => value.push(b'x'),
                None => return Changed::Not,
            }
            Changed::To(Response::Metadata(name, values))
        }
        (Fault::MetadataLost, Response::Metadata(..))
        | (Fault::AccessLost, Response::Access(..)) => Changed::Lost,
        (Fault::RightsChanged, Response::Access(name, mut rights)) => {
            match rights.values_mut().next() {
                Some(letters) => letters.insert(0, 'p'),
                None => return Changed::Not,
            }
            Changed::To(Response::Access(name, rights))
        }
        (Fault::OthersUnlisted, Response::List { name, .. }) if name.contains("@bench.test/") => {
            Changed::Lost
        }
        (Fault::FarFlagsLost, Response::Fetch(number, items)) if number > FAR => {
            if items.iter().any(|(name, _)| name == "FLAGS") {
                Changed::Lost
            } else {
                Changed::Not
            }
        }
        (Fault::ManyUidsFewer, response) => change_code(response, "APPENDUID", |argument| {
            let (start, last) = argument.rsplit_once(':')?;
            let last: u32 = last.parse().ok()?;
            (last > FAR).then(|| format!("{start}:{}", last - 1))
        }),
        (Fault::OkForUidRequired, Response::Tagged(tag, super::response::Status::Bad, _)) => {
            Changed::To(Response::Tagged(tag, super::response::Status::Ok, None))
        }
        _ => Changed::Not,
    }
}
