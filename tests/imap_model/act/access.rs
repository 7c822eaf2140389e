//! What is said of mailboxes: annotations (RFC 5464) and access lists (RFC 4314).

use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::expected::{Expected, ToldValues};
use super::super::site::{ALL_RIGHTS, Lack, Site};
use super::super::world::Annotations;
use super::{lacks, no, ok};

/// The annotations of a mailbox, or with an empty name of the server.
fn annotations<'s>(
    name: &str,
    right: char,
    (own, site): (usize, &'s mut Site),
) -> Result<&'s mut Annotations, Lack> {
    if name.is_empty() {
        return Ok(&mut site.accounts[own].annotations);
    }
    let id = site.reach(own, name, right)?.id;
    let mailbox = site.by_id(id).ok_or(Lack::Missing)?;
    Ok(&mut mailbox.annotations)
}

/// Where a value is kept: a private one is seen by who made it alone.
fn key(own: usize, entry: &str) -> String {
    match entry.starts_with("/private") {
        true => format!("{own} {entry}"),
        false => entry.to_owned(),
    }
}

pub(super) fn annotate(
    name: &str,
    values: &[(&'static str, Option<Rc<[u8]>>)],
    place: (usize, &mut Site),
) -> Expected {
    if name.is_empty() && values.iter().any(|(entry, _)| entry.starts_with("/shared")) {
        return no("NOPERM");
    }
    let own = place.0;
    // What all see is changed by who may change the mailbox.
    let is_shared = values.iter().any(|(entry, _)| entry.starts_with("/shared"));
    let annotations = match annotations(name, if is_shared { 'w' } else { 'l' }, place) {
        Ok(annotations) => annotations,
        Err(lack) => return lacks(lack, "NONEXISTENT"),
    };
    for (entry, value) in values {
        match value {
            Some(value) => drop(annotations.insert(key(own, entry), value.clone())),
            None => drop(annotations.remove(&key(own, entry))),
        }
    }
    ok()
}

pub(super) fn look_up(
    name: &str,
    (entries, all_below): (&[&'static str], bool),
    place: (usize, &mut Site),
) -> Expected {
    let own = place.0;
    let annotations = match annotations(name, 'l', place) {
        Ok(annotations) => annotations,
        Err(lack) => return lacks(lack, "NONEXISTENT"),
    };
    let is_wanted = |entry: &str| {
        entries.iter().any(|top| {
            let rest = entry.strip_prefix(top);
            rest.is_some_and(|rest| rest.is_empty() || all_below && rest.starts_with('/'))
        })
    };
    let seen = annotations.iter().filter_map(|(kept, value)| {
        let entry = &kept[kept.find('/')?..];
        (*kept == key(own, entry)).then_some((entry, value))
    });
    let found = seen.filter(|(entry, _)| is_wanted(entry));
    let mut told: ToldValues = found
        .map(|(entry, value)| (entry.to_owned(), Some(value.clone())))
        .collect();
    // What was named and is not there is said to be NIL.
    if !all_below || told.is_empty() {
        for entry in entries {
            told.entry((*entry).to_owned()).or_default();
        }
    }
    let mut expected = ok();
    expected.annotations = Some((name.to_owned(), told));
    expected
}

/// Letters as in a response: those of RFC 2086 stand behind (RFC 4314 §2.1.1).
fn with_obsolete(rights: &str) -> String {
    let create = if rights.contains(['k', 'x']) { "c" } else { "" };
    let delete = if rights.contains(['t', 'e']) { "d" } else { "" };
    format!("{rights}{create}{delete}")
}

pub(super) fn grant(
    name: &str,
    (whom, rights): (usize, &'static str),
    (own, site): (usize, &mut Site),
) -> Expected {
    let mailbox = match site.reach(own, name, 'a') {
        Ok(mailbox) => mailbox.id,
        Err(lack) => return lacks(lack, "NONEXISTENT"),
    };
    if let Some(mailbox) = site.by_id(mailbox) {
        if rights.is_empty() {
            mailbox.rights.remove(&whom);
        } else {
            mailbox.rights.insert(whom, rights);
        }
    }
    ok()
}

pub(super) fn list(name: &str, (own, site): (usize, &Site)) -> Expected {
    let mailbox = match site.reach(own, name, 'a') {
        Ok(mailbox) => mailbox,
        Err(lack) => return lacks(lack, "NONEXISTENT"),
    };
    let all = (site.address(own), with_obsolete(ALL_RIGHTS));
    let others = mailbox.rights.iter();
    let others = others.map(|(whom, rights)| (site.address(*whom), with_obsolete(rights)));
    let mut expected = ok();
    expected.access = Some((name.to_owned(), others.chain([all]).collect()));
    expected
}

/// MYRIGHTS
pub(super) fn mine(name: &str, (own, site): (usize, &Site)) -> Expected {
    let mailbox = match site.reach(own, name, 'l') {
        Ok(mailbox) => mailbox,
        Err(lack) => return lacks(lack, "NONEXISTENT"),
    };
    let rights = with_obsolete(site.rights(own, mailbox));
    let mut expected = ok();
    expected.access = Some((name.to_owned(), BTreeMap::from([(String::new(), rights)])));
    expected
}
