//! What is said of mailboxes: annotations (RFC 5464) and access lists (RFC 4314).

use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::expected::{Expected, ToldValues};
use super::super::site::{ALL_RIGHTS, Site};
use super::super::world::Annotations;
use super::{lacks, no, ok};

/// The annotations of a mailbox, or with an empty name of the server. Others' have none for a visitor.
fn annotations<'s>(name: &str, (own, site): (usize, &'s mut Site)) -> Option<&'s mut Annotations> {
    let account = &mut site.accounts[own];
    if name.is_empty() {
        return Some(&mut account.annotations);
    }
    let mailbox = account.mailboxes.get_mut(name)?;
    Some(&mut mailbox.annotations)
}

pub(super) fn annotate(
    name: &str,
    values: &[(&'static str, Option<Rc<[u8]>>)],
    place: (usize, &mut Site),
) -> Expected {
    if name.is_empty() && values.iter().any(|(entry, _)| entry.starts_with("/shared")) {
        return no("NOPERM");
    }
    let Some(annotations) = annotations(name, place) else {
        return no("NONEXISTENT");
    };
    for (entry, value) in values {
        match value {
            Some(value) => drop(annotations.insert((*entry).to_owned(), value.clone())),
            None => drop(annotations.remove(*entry)),
        }
    }
    ok()
}

pub(super) fn look_up(
    name: &str,
    (entries, all_below): (&[&'static str], bool),
    place: (usize, &mut Site),
) -> Expected {
    let Some(annotations) = annotations(name, place) else {
        return no("NONEXISTENT");
    };
    let is_wanted = |entry: &String| {
        entries.iter().any(|top| {
            let rest = entry.strip_prefix(top);
            rest.is_some_and(|rest| rest.is_empty() || all_below && rest.starts_with('/'))
        })
    };
    let found = annotations.iter().filter(|(entry, _)| is_wanted(entry));
    let mut told: ToldValues = found
        .map(|(entry, value)| (entry.clone(), Some(value.clone())))
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
