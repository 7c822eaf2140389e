//! Single answers, against what there is.

use std::collections::BTreeMap;

use super::super::client::Client;
use super::super::response::{Value, numbers_of};
use super::super::site::Site;
use super::super::world::{DELETED, SEEN};
use super::{Copied, Found};

pub(super) fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

/// Values of STATUS, against the world.
pub(super) fn check_status(
    (own, site): (usize, &mut Site),
    name: &str,
    items: &BTreeMap<String, Value>,
) -> Result<(), String> {
    let mailbox = site.named(own, name).map(|mailbox| mailbox.id);
    let mailbox = mailbox.and_then(|id| site.by_id(id));
    let mailbox = mailbox.ok_or_else(|| format!("STATUS of {name}, which is not there"))?;
    let (mut validity, mut object_id) = (None, None);
    for (item, value) in items {
        let wanted = match item.as_str() {
            "MESSAGES" => mailbox.messages.len() as u64,
            "UIDNEXT" => u64::from(mailbox.uid_next),
            "UNSEEN" => mailbox.count(|marks| marks.flags & SEEN == 0),
            "DELETED" => mailbox.count(|marks| marks.flags & DELETED != 0),
            "SIZE" => mailbox.bytes(),
            "RECENT" => 0,
            "HIGHESTMODSEQ" => {
                mailbox.learn(mailbox.top, value.number()?)?;
                continue;
            }
            "UIDVALIDITY" => {
                validity = Some(value.number()? as u32);
                continue;
            }
            "MAILBOXID" => {
                object_id = Some(
                    value
                        .list()?
                        .first()
                        .ok_or("MAILBOXID of nothing")?
                        .text()?,
                );
                continue;
            }
            "APPENDLIMIT" => continue,
            other => return Err(format!("STATUS item {other}")),
        };
        if value.number()? != wanted {
            return Err(format!("{item} of {name} is {value:?}, not {wanted}"));
        }
    }
    if let Some(validity) = validity {
        site.learn_validity(own, name, validity)?;
    }
    if let Some(object_id) = object_id {
        site.learn_object_id(own, name, &object_id)?;
    }
    Ok(())
}

pub(super) fn check_modseq(
    found: &Found,
    modseq: Option<u64>,
    client: &Client,
    site: &mut Site,
) -> Result<(), String> {
    match (found.tick, modseq) {
        (None, None) => Ok(()),
        (Some(tick), Some(modseq)) => {
            let selected = client.selected.as_ref().ok_or("no mailbox is open")?;
            let mailbox = site.by_id(selected.mailbox).ok_or("mailbox is gone")?;
            mailbox.learn(tick, modseq)
        }
        (wanted, got) => Err(format!("MODSEQ {got:?} of SEARCH, wanted: {wanted:?}")),
    }
}

pub(super) fn check_extended(
    found: &Found,
    mut items: BTreeMap<String, Value>,
    client: &Client,
    site: &mut Site,
) -> Result<(), String> {
    // IMAP4rev2 answers so where nothing was asked for.
    let returns = found.returns.unwrap_or_default();
    let modseq = items.remove("MODSEQ").map(|value| value.number());
    check_modseq(found, modseq.transpose()?, client, site)?;
    let numbers = &found.numbers;
    let mut due: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    if let (Some(first), Some(last)) = (numbers.first(), numbers.last()) {
        if returns.min {
            due.insert("MIN", vec![*first]);
        }
        if returns.max {
            due.insert("MAX", vec![*last]);
        }
        if returns.wants_all() {
            due.insert("ALL", numbers.clone());
        }
    }
    if returns.count {
        let count = items.remove("COUNT").ok_or("no COUNT")?.number()?;
        if count != numbers.len() as u64 {
            return Err(format!("COUNT {count}, not {}", numbers.len()));
        }
    }
    let mut got = BTreeMap::new();
    for (name, value) in &items {
        got.insert(name.as_str(), numbers_of(&value.text()?)?);
    }
    if got != due {
        return Err(format!("ESEARCH {got:?}, not {due:?}"));
    }
    Ok(())
}

pub(super) fn check_copied(
    copied: &Copied,
    code: &str,
    argument: &str,
    (own, site): (usize, &mut Site),
) -> Result<(), String> {
    let parts: Vec<&str> = argument.split(' ').collect();
    let (validity, from, to) = match (parts.as_slice(), &copied.from) {
        ([validity, to], None) if code == "APPENDUID" => (validity, None, to),
        ([validity, from, to], Some(_)) if code == "COPYUID" => (validity, Some(from), to),
        _ => return Err(format!("{code} {argument}")),
    };
    site.learn_validity(own, &copied.name, number(validity)? as u32)?;
    let from = from.map(|set| numbers_of(set)).transpose()?;
    let to = numbers_of(to)?;
    if from != copied.from || to != copied.to {
        return Err(format!(
            "{code} {argument}, not {:?} to {:?}",
            copied.from, copied.to
        ));
    }
    Ok(())
}
