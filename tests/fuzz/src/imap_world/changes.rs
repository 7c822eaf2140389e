//! What asks change: mailboxes, messages, access, annotations.

use std::collections::BTreeMap;

use ringpost::proto::imap::{
    Access, AccessChange, Answer, Copied, Entry, Incoming, Manage, Refusal, Rights, Row, sets,
};

use super::folder::Message;
use super::{Desk, ID_SPACE, NOW_MS, World};

/// Annotations of a mailbox here.
const ANNOTATIONS_MAX: usize = 10;

impl World {
    pub(super) fn annotations(
        &mut self,
        mailbox: Option<&str>,
    ) -> Result<&mut BTreeMap<Entry, Vec<u8>>, Refusal> {
        match mailbox {
            None => Ok(&mut self.annotations),
            Some(name) => match self.folders.get_mut(name) {
                Some(folder) => Ok(&mut folder.annotations),
                None => Err(Refusal::Missing),
            },
        }
    }

    pub(super) fn annotate(
        &mut self,
        mailbox: Option<&str>,
        values: Vec<(Entry, Option<Vec<u8>>)>,
    ) -> Result<(), Refusal> {
        let own = self.annotations(mailbox)?;
        let mut changed = own.clone();
        for (entry, value) in values {
            assert!(entry.can_be_set());
            assert!(mailbox.is_some() || entry.is_private());
            match value {
                Some(value) => changed.insert(entry, value),
                None => changed.remove(&entry),
            };
        }
        if changed.len() > ANNOTATIONS_MAX {
            return Err(Refusal::TooManyAnnotations);
        }
        *own = changed;
        Ok(())
    }

    pub(super) fn append(
        &mut self,
        name: &str,
        messages: Vec<Incoming>,
        desk: &mut Desk,
    ) -> Result<(u16, u32, Vec<u32>), Refusal> {
        let folder = self.folders.get_mut(name).ok_or(Refusal::Missing)?;
        let mut uids = Vec::new();
        for (index, message) in (0u32..).zip(messages) {
            let mut body = desk.chunks.remove(&index).unwrap_or_default();
            assert_eq!(
                body.len() as u64,
                message.streamed_bytes,
                "chunks of message {index}"
            );
            body.extend_from_slice(&message.body);
            self.modseq += 1;
            folder.modseq = self.modseq;
            let uid = folder.uid_next;
            folder.uid_next += 1;
            uids.push(uid);
            let mut added = Message {
                row: Row {
                    uid,
                    flags: message.flags.system,
                    keywords: 0,
                    modseq: self.modseq,
                    bytes: body.len() as u64,
                    date_ms: message.date_ms.unwrap_or(NOW_MS),
                    saved_ms: NOW_MS,
                    email_id: self.modseq,
                },
                keywords: message.flags.keywords,
                body: body.into(),
            };
            folder.note_keywords(&mut added);
            folder.messages.push(added);
        }
        desk.chunks.clear();
        Ok((ID_SPACE, folder.validity, uids))
    }

    pub(super) fn access(&mut self, access: Access, user: &str) -> Answer {
        let folder = self.folders.get_mut(access.name());
        let Some(folder) = folder else {
            return match access {
                Access::Set { .. } | Access::Delete { .. } => Answer::Done(Err(Refusal::Missing)),
                _ => Answer::Access(Err(Refusal::Missing)),
            };
        };
        Answer::Access(Ok(match access {
            Access::Set { whom, how, .. } => {
                let known = folder.access.entry(whom).or_default();
                *known = match how {
                    AccessChange::Replace(rights) => rights,
                    AccessChange::Add(rights) => known.with(rights),
                    AccessChange::Remove(rights) => known.without(rights),
                };
                return Answer::Done(Ok(()));
            }
            Access::Delete { whom, .. } => {
                folder.access.remove(&whom);
                return Answer::Done(Ok(()));
            }
            Access::Get { .. } => {
                let others = folder
                    .access
                    .iter()
                    .map(|(whom, rights)| (whom.clone(), *rights));
                std::iter::once((user.to_owned(), Rights::ALL))
                    .chain(others)
                    .collect()
            }
            Access::List { whom, .. } if whom == user => vec![(whom, Rights::ALL)],
            Access::List { whom, .. } => vec![(whom, Rights::NONE)],
            Access::Mine { .. } => vec![(String::new(), folder.rights)],
        }))
    }

    pub(super) fn manage(&mut self, change: Manage) -> Answer {
        match change {
            Manage::Create { name, .. } => {
                if self.folders.contains_key(&name) {
                    return Answer::Mailbox(Err(Refusal::Exists));
                }
                if name.is_empty() || name.chars().any(char::is_control) {
                    let text = "a mailbox cannot be named so".to_owned();
                    return Answer::Mailbox(Err(Refusal::Cannot(text)));
                }
                self.make(&name, None);
                Answer::Mailbox(self.info(&name).map(Box::new))
            }
            Manage::Delete { name } => {
                let removed = self.folders.remove(&name);
                Answer::Done(removed.map(drop).ok_or(Refusal::Missing))
            }
            Manage::Rename { from, to } => {
                if self.folders.contains_key(&to) {
                    return Answer::Done(Err(Refusal::Exists));
                }
                match self.folders.remove(&from) {
                    None => Answer::Done(Err(Refusal::Missing)),
                    Some(folder) => {
                        self.folders.insert(to, folder);
                        Answer::Done(Ok(()))
                    }
                }
            }
            Manage::Subscribe { name, on } => {
                self.subscribed.retain(|known| *known != name);
                if on {
                    self.subscribed.push(name);
                }
                Answer::Done(Ok(()))
            }
        }
    }

    pub(super) fn copy(
        &mut self,
        uids: &[(u32, u32)],
        name: &str,
        moves: bool,
        desk: &Desk,
    ) -> Answer {
        if !self.folders.contains_key(name) {
            return Answer::Copied(Err(Refusal::Missing));
        }
        let source = match self.by_id(desk) {
            Ok(folder) => folder,
            Err(refusal) => return Answer::Copied(Err(refusal)),
        };
        let wanted = |uid: u32| sets::contains(uids, uid);
        let chosen: Vec<Message> = source
            .messages
            .iter()
            .filter(|message| wanted(message.row.uid))
            .cloned()
            .collect();
        let gone: Vec<u32> = chosen.iter().map(|message| message.row.uid).collect();
        let mut copied = Copied {
            id_space: ID_SPACE,
            ..Copied::default()
        };
        for mut message in chosen {
            self.modseq += 1;
            let Some(target) = self.folders.get_mut(name) else {
                continue;
            };
            target.modseq = self.modseq;
            copied.validity = target.validity;
            copied.pairs.push((message.row.uid, target.uid_next));
            message.row.uid = target.uid_next;
            message.row.modseq = self.modseq;
            target.uid_next += 1;
            target.note_keywords(&mut message);
            target.messages.push(message);
        }
        if moves && !gone.is_empty() {
            self.modseq += 1;
            let modseq = self.modseq;
            if let Ok(source) = self.by_id(desk) {
                source.expunge(&gone, modseq);
            }
        }
        Answer::Copied(Ok(copied))
    }
}
