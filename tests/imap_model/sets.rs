//! What sets of numbers and UIDs stand for in a session's view.

use std::collections::BTreeSet;

use super::client::Selected;
use super::command::{LAST, Set};

/// The range that a pair stands for where the last number is this.
fn range((low, high): (u32, u32), last: u32) -> (u32, u32) {
    let number = |number| if number == LAST { last } else { number };
    let (low, high) = (number(low), number(high));
    (low.min(high), low.max(high))
}

fn has(set: &Set, number: u32, last: u32) -> bool {
    let Set::Ranges(ranges) = set else {
        return false;
    };
    ranges.iter().any(|pair| {
        let (low, high) = range(*pair, last);
        low <= number && number <= high
    })
}

/// The number of a message is in the set.
pub fn has_number(set: &Set, selected: &Selected, uid: u32) -> bool {
    let last = selected.view.len() as u32;
    let number = selected.number(uid);
    match set {
        Set::Saved => selected.saved.contains(&uid),
        Set::Ranges(_) => number.is_some_and(|number| has(set, number, last)),
    }
}

/// The UID of a message that the client knows is in the set.
pub fn has_uid(set: &Set, selected: &Selected, uid: u32) -> bool {
    match (set, selected.view.last()) {
        (Set::Saved, _) => selected.saved.contains(&uid),
        (_, None) => false,
        (_, Some(last)) => has(set, uid, *last),
    }
}

/// UIDs of a set of message numbers; numbers that are not there are left out.
pub fn numbered(set: &Set, selected: &Selected) -> BTreeSet<u32> {
    let Set::Ranges(ranges) = set else {
        return selected.saved.clone();
    };
    let last = selected.view.len() as u32;
    let mut uids = BTreeSet::new();
    for pair in ranges {
        let (low, high) = range(*pair, last);
        let numbers = low.max(1)..=high.min(last);
        uids.extend(numbers.filter_map(|number| selected.uid(number).ok()));
    }
    uids
}

/// Those UIDs of a set that the client knows.
pub fn known_uids(set: &Set, selected: &Selected) -> BTreeSet<u32> {
    if matches!(set, Set::Saved) {
        return selected.saved.clone();
    }
    let known = selected.view.iter().copied();
    known.filter(|uid| has_uid(set, selected, *uid)).collect()
}

/// A UID is in the set, where `*` is above all of them.
pub fn covers(set: &Set, uid: u32) -> bool {
    match set {
        Set::Saved => false,
        Set::Ranges(_) => has(set, uid, LAST),
    }
}

/// The messages that a command is about; `None`: it names a number that is not there.
pub fn resolve(set: &Set, by_uid: bool, selected: &Selected) -> Option<BTreeSet<u32>> {
    if by_uid {
        return Some(known_uids(set, selected));
    }
    if let Set::Ranges(ranges) = set {
        let exists = selected.view.len() as u32;
        let numbers = || ranges.iter().flat_map(|(low, high)| [*low, *high]);
        let has_last = numbers().any(|number| number == LAST);
        let highest = numbers().filter(|number| *number != LAST).max();
        // `1:*` in an empty mailbox is nothing, and no error.
        if highest.is_some_and(|highest| highest > exists) && !(exists == 0 && has_last) {
            return None;
        }
    }
    Some(numbered(set, selected))
}
