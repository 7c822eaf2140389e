//! LIST and LSUB of the world.

use std::collections::{BTreeMap, BTreeSet};

use super::site::Site;
use super::world::{Account, levels};

/// `*` takes all, `%` all but the separator.
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some(first) = pattern.chars().next() else {
        return name.is_empty();
    };
    let rest = &pattern[first.len_utf8()..];
    match first {
        '*' | '%' => {
            let ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            let mut ends = ends.take_while(|end| first == '*' || !name[..*end].contains('/'));
            ends.any(|end| matches(rest, &name[end..]))
        }
        _ => name
            .strip_prefix(first)
            .is_some_and(|name| matches(rest, name)),
    }
}

/// Attributes by name. `extended`: the command is one of RFC 5258.
pub fn list(
    (own, site): (usize, &Site),
    pattern: &str,
    subscribed: bool,
    returns: bool,
) -> BTreeMap<String, BTreeSet<String>> {
    let account = &site.accounts[own];
    let visible = site.visible(own);
    let names = if subscribed {
        account.subscribed.clone()
    } else {
        levels(visible.keys())
    };
    let mut listed = BTreeMap::new();
    for name in names.into_iter().filter(|name| matches(pattern, name)) {
        let mut attributes = BTreeSet::new();
        let mailbox = visible.get(&name).copied();
        if mailbox.is_none() {
            let extended = subscribed || returns;
            attributes.insert(if extended {
                "\\NonExistent"
            } else {
                "\\Noselect"
            });
        }
        if (subscribed || returns) && account.subscribed.contains(&name) {
            attributes.insert("\\Subscribed");
        }
        let start = format!("{name}/");
        let has_children = visible.keys().any(|own| own.starts_with(&start));
        attributes.insert(if has_children {
            "\\HasChildren"
        } else {
            "\\HasNoChildren"
        });
        // What an owner uses a mailbox for says nothing to others.
        let own = mailbox.filter(|mailbox| Site::owner(mailbox.id) == own);
        attributes.extend(own.and_then(|mailbox| mailbox.special_use));
        listed.insert(name, attributes.into_iter().map(str::to_owned).collect());
    }
    listed
}

/// RFC 3501 §6.3.9: with `%` at the end a level above what is subscribed shows as `\Noselect`.
pub fn lsub(account: &Account, pattern: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut listed = BTreeMap::new();
    for name in &account.subscribed {
        if pattern.ends_with('%') {
            for (end, _) in name.match_indices('/') {
                let above = &name[..end];
                if matches(pattern, above) {
                    let noselect = || BTreeSet::from(["\\Noselect".to_owned()]);
                    listed.entry(above.to_owned()).or_insert_with(noselect);
                }
            }
        }
        if matches(pattern, name) {
            listed.insert(name.clone(), BTreeSet::new());
        }
    }
    listed
}
