//! Mailboxes: which there are, what is in them, how they are made, and what is new in the open one.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use super::super::super::Shard;
use super::super::super::conn::ConnKey;
use super::super::Asked;
use super::{Desk, Open, acl, at_once, changes, later, refusal, soon};
use crate::limits::{IMAP_SLICE_MESSAGES, IMAP_UNSEEN_LOOKS_MAX};
use crate::proto::imap::{Answer, Mailbox, Mailboxes, Manage, News, Opened, Refusal, Rights, View};
use crate::store::{
    Flags, Happening, INBOX_NAME, MailboxInfo, SpecialUse, View as StoreView, canonical_name,
};

pub(super) fn attribute(special_use: SpecialUse) -> &'static str {
    match special_use {
        SpecialUse::Drafts => "\\Drafts",
        SpecialUse::Sent => "\\Sent",
        SpecialUse::Trash => "\\Trash",
        SpecialUse::Junk => "\\Junk",
        SpecialUse::Archive => "\\Archive",
    }
}

/// A mailbox as sessions list it. Numbers are given by partition, and a session may see mailboxes of
/// several.
pub(super) fn mailbox(partition: u16, info: MailboxInfo) -> Mailbox {
    Mailbox {
        special_use: info.special_use.map(attribute),
        validity: info.validity,
        uid_next: info.uid_next,
        exists: info.exists,
        unseen: info.unseen,
        deleted: info.deleted,
        bytes: info.bytes,
        deleted_bytes: 0,
        modseq: info.highest_modseq,
        object_id: format!("F{partition}-{}", info.object_id),
        rights: Rights::ALL,
        name: info.name,
    }
}

/// All of an account.
pub(super) fn list(shard: &Shard, desk: &Desk) -> Result<Mailboxes, Refusal> {
    let partition = desk.partition(shard)?;
    let list = partition.mailboxes(&desk.address);
    let list = list.map_err(|error| refusal(error, &desk.address))?;
    Ok(Mailboxes {
        list: list
            .into_iter()
            .map(|info| mailbox(desk.partition, info))
            .collect(),
        subscribed: partition.subscriptions(&desk.address),
    })
}

/// One of them.
pub(super) fn find(shard: &Shard, desk: &Desk, name: &str) -> Result<Mailbox, Refusal> {
    let found = desk.partition(shard)?.mailbox(&desk.address, name);
    found
        .map(|info| mailbox(desk.partition, info))
        .map_err(|error| refusal(error, &desk.address))
}

/// Makes, removes, renames, subscribes to a mailbox.
pub(super) fn manage(shard: &Rc<Shard>, key: ConnKey, desk: Rc<Desk>, change: Manage) -> Asked {
    let partition = match desk.partition(shard) {
        Ok(partition) => partition,
        Err(refusal) => return at_once(Answer::Done(Err(refusal))),
    };
    let home = Rc::clone(shard);
    later(shard, key, async move {
        let address = &desk.address;
        let failed = |error| refusal(error, address);
        let result = match change {
            Manage::Create { name, special_use } => {
                let wanted = match special_use.as_deref().map(special_use_named) {
                    None => None,
                    Some(Some(special_use)) => Some(special_use),
                    Some(None) => {
                        let text =
                            "special uses here: Drafts, Sent, Trash, Junk, Archive".to_owned();
                        return Answer::Mailbox(Err(Refusal::SpecialUse(text)));
                    }
                };
                let made = partition.create_mailbox(address, &name, wanted).await;
                if let Ok(info) = &made {
                    let name = info.name.clone();
                    if let Err(refusal) = acl::inherit(&home, &desk, &name).await {
                        // Then it is the owner's alone.
                        tracing::warn!(account = %address, name, ?refusal, "no access list inherited");
                    }
                    desk.did(&Happening::Made { name });
                }
                let made = made
                    .map(|info| Box::new(mailbox(desk.partition, info)))
                    .map_err(failed);
                return Answer::Mailbox(made);
            }
            Manage::Delete { name } => match partition.mailbox(address, &name) {
                Ok(info) if info.id.is_inbox() => {
                    return Answer::Done(Err(Refusal::Cannot("INBOX stays".to_owned())));
                }
                Ok(info) => {
                    let deleted = partition.delete_mailbox(address, info.id).await;
                    if deleted.is_ok() {
                        desk.did(&Happening::Removed { name: info.name });
                    }
                    // A note that nothing is behind does no harm.
                    let _ = acl::close_to_anyone(&home, address).await;
                    deleted
                }
                Err(error) => Err(error),
            },
            Manage::Rename { from, to } => {
                let names = (canonical_name(&from), canonical_name(&to));
                let is_inbox = names.0.as_ref().is_ok_and(|name| name == INBOX_NAME);
                let renamed = if is_inbox {
                    rename_inbox(&partition, address, &to).await
                } else {
                    partition.rename_mailbox(address, &from, &to).await
                };
                if let (Ok(()), (Ok(from), Ok(to))) = (&renamed, names) {
                    desk.did(&if is_inbox {
                        Happening::Made { name: to }
                    } else {
                        Happening::Renamed { from, to }
                    });
                }
                renamed
            }
            Manage::Subscribe { name, on } => {
                let set = partition.set_subscribed(address, &name, on).await;
                if let (Ok(()), Ok(name)) = (&set, canonical_name(&name)) {
                    desk.did(&Happening::Subscribed { name });
                }
                set
            }
        };
        Answer::Done(result.map_err(failed))
    })
}

/// RFC 9051 §6.3.6: INBOX stays, and all its messages go to a new mailbox.
async fn rename_inbox(
    partition: &super::super::super::LocalPartition,
    address: &crate::mail::Address,
    to: &str,
) -> Result<(), crate::store::StoreError> {
    let inbox = crate::store::MailboxId::INBOX;
    let target = partition.create_mailbox(address, to, None).await?;
    let fill = async {
        super::annotations::copy(partition, address, inbox, target.id).await?;
        let runs = partition.view(address, inbox)?.runs;
        let uids: Vec<u32> = runs.iter().flat_map(|run| run.first..=run.last).collect();
        let now_ms = super::super::super::now_ms();
        partition
            .move_to(address, (inbox, target.id), &uids, now_ms)
            .await
    };
    let moved = fill.await;
    if moved.is_err()
        && partition
            .mailbox_info(address, target.id)
            .is_ok_and(|info| info.exists == 0)
    {
        // The name is as free as before. What cannot be undone either stays, empty.
        let _ = partition.delete_mailbox(address, target.id).await;
    }
    moved.map(drop)
}

fn special_use_named(name: &str) -> Option<SpecialUse> {
    let named = |special_use: &SpecialUse| attribute(*special_use)[1..].eq_ignore_ascii_case(name);
    SpecialUse::ALL.into_iter().find(named)
}

/// The view of a session, shared with others that see the same.
fn view_of(shard: &Shard, desk: &Desk, view: &StoreView) -> Arc<View> {
    let runs = view.runs.iter().map(|run| (run.first, run.last));
    shard
        .desks
        .share(&desk.address, view.info.id, View::new(runs))
}

/// Opens a mailbox; from now on the session is woken when something happens in it.
pub(super) fn open(
    shard: &Rc<Shard>,
    key: ConnKey,
    desk: &Desk,
    name: &str,
) -> Result<Opened, Refusal> {
    desk.open.replace(None);
    let partition = desk.partition(shard)?;
    let address = &desk.address;
    let failed = |error| refusal(error, address);
    let id = partition.mailbox(address, name).map_err(failed)?.id;
    // The watch comes first: what happens after it is told, what happened before is in the view.
    let watch = partition
        .watch(address, Some(id), key.token().0)
        .map_err(failed)?;
    let view = partition.view(address, id).map_err(failed)?;
    let mut first_unseen = None;
    if view.info.unseen > 0 {
        let mut number = 0;
        let look = |info: &crate::store::MessageInfo| {
            number += 1;
            if !info.flags.has(Flags::SEEN) {
                first_unseen = Some(number);
            }
            if first_unseen.is_some() || number as usize >= IMAP_UNSEEN_LOOKS_MAX {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        partition
            .for_each_message(address, id, (1, u32::MAX), look)
            .map_err(failed)?;
    }
    let opened = Opened {
        view: view_of(shard, desk, &view),
        keywords: view.keywords.into(),
        first_unseen,
        mailbox: mailbox(desk.partition, view.info),
        id_space: desk.partition,
    };
    desk.open.replace(Some(Open {
        id,
        _watch: watch,
        changes: None,
    }));
    Ok(opened)
}

/// What has changed in the open mailbox.
pub(super) fn look(shard: &Rc<Shard>, key: ConnKey, desk: Rc<Desk>, since: u64) -> Asked {
    let mut news = match news(shard, &desk, since) {
        Ok(Some(news)) => news,
        Ok(None) => return soon(shard, key, &desk, Answer::News(Ok(None))),
        Err(refusal) => return soon(shard, key, &desk, Answer::News(Err(refusal))),
    };
    let all = [(1, u32::MAX)];
    match changes::at_hand(shard, &desk, &all, since, IMAP_SLICE_MESSAGES) {
        Ok(Some(rows)) => {
            news.changed = rows;
            soon(shard, key, &desk, Answer::News(Ok(Some(news))))
        }
        Ok(None) => {
            let home = Rc::clone(shard);
            later(shard, key, async move {
                let rows = changes::scan(&home, &desk, &all, since, IMAP_SLICE_MESSAGES).await;
                Answer::News(rows.map(|rows| {
                    news.changed = rows;
                    Some(news)
                }))
            })
        }
        Err(refusal) => soon(shard, key, &desk, Answer::News(Err(refusal))),
    }
}

/// Names of keywords in the open mailbox, if there are more than so many.
pub(super) fn keywords(
    shard: &Shard,
    desk: &Desk,
    known: usize,
) -> Result<Option<Arc<[String]>>, Refusal> {
    let id = desk.open_id()?;
    let keywords = desk
        .partition(shard)?
        .keywords_above(&desk.address, id, known);
    Ok(keywords.map(Arc::from))
}

/// All but the messages that have changed.
fn news(shard: &Shard, desk: &Desk, since: u64) -> Result<Option<Box<News>>, Refusal> {
    let partition = desk.partition(shard)?;
    let id = desk.open_id()?;
    let address = &desk.address;
    let failed = |error| refusal(error, address);
    let info = partition.mailbox_info(address, id).map_err(failed)?;
    if info.highest_modseq <= since {
        return Ok(None);
    }
    let view = partition.view(address, id).map_err(failed)?;
    Ok(Some(Box::new(News {
        modseq: view.info.highest_modseq,
        view: view_of(shard, desk, &view),
        changed: Vec::new(),
        keywords: view.keywords.into(),
    })))
}
