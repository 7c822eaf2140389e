//! Threads of the RFC's rules, of hostile messages, and against the RFC's own steps done plainly.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// One message: id, references, subject, date. A subject that begins with `Re: ` is a reply.
type Message<'a> = (&'a str, &'a str, &'a str, i64);

fn keys<'a>(messages: &[Message<'a>]) -> Vec<ThreadKeys<'a>> {
    let id = |text: &str| MessageIdHash::new(text.as_bytes());
    let keys: Vec<ThreadKeys<'a>> = messages
        .iter()
        .map(|(own, references, subject, date_seconds)| ThreadKeys {
            message_id: (!own.is_empty()).then(|| id(own)),
            references: references.split_whitespace().map(id).collect(),
            subject: subject.trim_start_matches("Re: ").as_bytes(),
            is_reply: subject.starts_with("Re: "),
            date_seconds: *date_seconds,
        })
        .collect();
    // Packing them changes nothing.
    let mut list = ThreadList::default();
    keys.iter().for_each(|key| list.push(key));
    assert_eq!(list.keys(), keys);
    keys
}

fn written(threads: &Threads) -> String {
    let mut out = Vec::new();
    threads.write(|index| index as u32 + 1, &mut out);
    String::from_utf8(out).unwrap()
}

fn by_references(messages: &[Message<'_>]) -> String {
    written(&thread_by_references(&keys(messages)))
}

#[test]
fn by_subject() {
    let messages = [
        ("", "", "b", 30),
        ("", "", "Re: a", 20),
        ("", "", "a", 10),
        ("", "", "Re: b", 40),
        ("", "", "Re: a", 5),
        ("", "", "c", 50),
    ];
    assert_eq!(
        written(&thread_by_subject(&keys(&messages))),
        "(5 (3)(2))(1 4)(6)"
    );
    assert_eq!(written(&thread_by_subject(&[])), "");
}

#[test]
fn replies_below_what_they_answer() {
    assert_eq!(
        by_references(&[
            ("a", "", "s", 1),
            ("b", "a", "Re: s", 2),
            ("c", "a b", "Re: s", 3),
            ("d", "a", "Re: s", 4),
            ("e", "", "other", 0),
        ]),
        "(5)(1 (2 3)(4))"
    );
}

#[test]
fn ancestors_that_are_not_there() {
    // One child of an absent root stands for it; several are held together.
    assert_eq!(by_references(&[("b", "x", "", 1)]), "(1)");
    assert_eq!(
        by_references(&[("b", "x", "", 2), ("c", "x", "", 1)]),
        "((2)(1))"
    );
    // Absent ones in between give way.
    assert_eq!(
        by_references(&[
            ("a", "", "", 1),
            ("d", "a x y", "", 2),
            ("e", "a x z", "", 3)
        ]),
        "(1 (2)(3))"
    );
    // A later message tells that a is below x.
    assert_eq!(
        by_references(&[("a", "", "", 1), ("b", "x a", "", 2), ("c", "x", "", 3)]),
        "((1 2)(3))"
    );
    // An earlier one does not: a itself says that it has no parent.
    assert_eq!(
        by_references(&[("b", "x a", "", 2), ("a", "", "", 1), ("c", "x", "", 3)]),
        "(2 1)(3)"
    );
}

#[test]
fn loops_and_doubles() {
    assert_eq!(by_references(&[("a", "a", "", 1)]), "(1)");
    assert_eq!(
        by_references(&[("a", "b", "", 1), ("b", "a", "", 2)]),
        "(2 1)"
    );
    assert_eq!(
        by_references(&[
            ("a", "b c", "", 1),
            ("b", "c a", "", 2),
            ("c", "a b", "", 3)
        ]),
        "(3 1 2)"
    );
    // Of two messages with one id the first has it.
    assert_eq!(
        by_references(&[("a", "", "", 1), ("a", "", "", 2), ("b", "a", "", 3)]),
        "(1 3)(2)"
    );
}

#[test]
fn subjects_gather_what_references_do_not() {
    // RFC 5256 §3, REFERENCES, step 5.C: reply below original, equals below a new place.
    assert_eq!(
        by_references(&[("a", "", "Re: s", 1), ("b", "", "s", 2)]),
        "(2 1)"
    );
    assert_eq!(
        by_references(&[("a", "", "s", 2), ("b", "", "s", 1), ("c", "", "s", 3)]),
        "((2)(1)(3))"
    );
    assert_eq!(
        by_references(&[("a", "", "Re: s", 1), ("b", "", "Re: s", 2)]),
        "((1)(2))"
    );
    // Two places without a message become one; a place takes what has its subject.
    assert_eq!(
        by_references(&[
            ("a", "x", "s", 1),
            ("b", "x", "s", 2),
            ("c", "y", "s", 3),
            ("d", "y", "s", 4),
            ("e", "", "s", 5),
        ]),
        "((1)(2)(3)(4)(5))"
    );
    // Without a subject nothing is gathered.
    assert_eq!(
        by_references(&[("a", "", "", 2), ("b", "", "", 1)]),
        "(2)(1)"
    );
}

#[test]
fn deep_and_wide_threads_take_no_time() {
    let count = 200_000_u64;
    let id = |number: u64| MessageIdHash(u128::from(number) + 1);
    // Each names the one before; the last one first, so that chains grow at their tops.
    let keys: Vec<ThreadKeys<'_>> = (0..count)
        .rev()
        .map(|number| ThreadKeys {
            message_id: Some(id(number)),
            references: vec![id(number.saturating_sub(1))].into(),
            ..ThreadKeys::default()
        })
        .collect();
    let threads = thread_by_references(&keys);
    assert_eq!(threads.message_count(), count as usize);
    assert!(written(&threads).starts_with("(200000 199999 199998 "));
    // A long row of ancestors that nobody has, named by every message.
    let ancestors: Vec<MessageIdHash> = (count..count + 100).map(id).collect();
    let keys: Vec<ThreadKeys<'_>> = (0..20_000)
        .map(|number| ThreadKeys {
            message_id: Some(id(number)),
            references: ancestors.clone().into(),
            ..ThreadKeys::default()
        })
        .collect();
    assert!(written(&thread_by_references(&keys)).starts_with("((1)(2)(3)"));
}

/// Step 1 to 3 as the RFC tells them, with walks up every thread.
fn parents_of_the_rfc(keys: &[ThreadKeys<'_>]) -> Vec<Option<usize>> {
    #[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
    enum Place {
        Message(usize),
        Absent(MessageIdHash),
    }
    let place = |id: MessageIdHash| {
        let index = keys.iter().position(|key| key.message_id == Some(id));
        index.map_or(Place::Absent(id), Place::Message)
    };
    let mut parents: BTreeMap<Place, Place> = BTreeMap::new();
    let is_above = |parents: &BTreeMap<Place, Place>, above: Place, mut below: Place| {
        loop {
            if above == below {
                return true;
            }
            match parents.get(&below) {
                None => return false,
                Some(parent) => below = *parent,
            }
        }
    };
    for (index, key) in keys.iter().enumerate() {
        for pair in key.references.windows(2) {
            let (parent, child) = (place(pair[0]), place(pair[1]));
            if !parents.contains_key(&child) && !is_above(&parents, child, parent) {
                parents.insert(child, parent);
            }
        }
        parents.remove(&Place::Message(index));
        if let Some(last) = key.references.last() {
            let (parent, child) = (place(*last), Place::Message(index));
            if !is_above(&parents, child, parent) {
                parents.insert(child, parent);
            }
        }
    }
    let message_above = |mut at: Place| loop {
        match parents.get(&at)? {
            Place::Message(index) => return Some(*index),
            absent => at = *absent,
        }
    };
    (0..keys.len())
        .map(|index| message_above(Place::Message(index)))
        .collect()
}

/// The nearest message above each, from the nodes.
fn parents_of(threads: &Threads, count: usize) -> Vec<Option<usize>> {
    let mut parents = vec![None; count];
    for node in &threads.nodes {
        for child in &node.children {
            if let Some(child) = threads.nodes[*child as usize].message {
                parents[child as usize] = node.message.map(|message| message as usize);
            }
        }
    }
    parents
}

proptest! {
    /// Where nobody lies: references are ancestors in a real tree, some cut short, some not there.
    #[test]
    fn true_references_thread_as_the_rfc_does(
        tree in proptest::collection::vec((0..100_usize, 0..4_usize, any::<bool>()), 1..40),
    ) {
        let id = |index: usize| MessageIdHash(index as u128 + 1);
        let mut all: Vec<ThreadKeys<'_>> = Vec::new();
        for (index, (parent, kept, is_root)) in tree.iter().enumerate() {
            let mut references: Vec<MessageIdHash> = Vec::new();
            if index > 0 && !is_root {
                let parent = parent % index;
                references = all[parent].references.to_vec();
                references.push(id(parent));
                references.drain(..references.len().saturating_sub(kept + 1));
            }
            all.push(ThreadKeys {
                message_id: Some(id(index)),
                references: references.into(),
                date_seconds: index as i64,
                ..ThreadKeys::default()
            });
        }
        let present: Vec<ThreadKeys<'_>> =
            all.iter().enumerate().filter(|(index, _)| index % 3 != 1).map(|(_, key)| key.clone()).collect();
        let threads = thread_by_references(&present);
        prop_assert_eq!(parents_of(&threads, present.len()), parents_of_the_rfc(&present));
    }

    #[test]
    fn every_message_is_there_once(
        messages in proptest::collection::vec(
            ("[a-e]?", proptest::collection::vec("[a-h]", 0..4), "(Re: )?[xy]?", 0..5_i64),
            0..30,
        ),
    ) {
        let joined: Vec<(String, String, String, i64)> = messages
            .into_iter()
            .map(|(own, references, subject, date)| (own, references.join(" "), subject, date))
            .collect();
        let messages: Vec<Message<'_>> = joined
            .iter()
            .map(|(own, references, subject, date)| (own.as_str(), references.as_str(), subject.as_str(), *date))
            .collect();
        for text in [by_references(&messages), written(&thread_by_subject(&keys(&messages)))] {
            let mut numbers: Vec<usize> = text
                .split(|character: char| !character.is_ascii_digit())
                .filter_map(|number| number.parse().ok())
                .collect();
            numbers.sort_unstable();
            prop_assert_eq!(numbers, (1..=messages.len()).collect::<Vec<_>>(), "{}", text);
            prop_assert_eq!(text.matches('(').count(), text.matches(')').count());
        }
    }
}
