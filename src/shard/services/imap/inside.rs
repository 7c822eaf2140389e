//! What is inside messages: their summaries, kept beside them once made, and searches.
//!
//! A message is taken apart when somebody first looks into it, and never again: the summary stays in
//! the log beside the body. Searches look at summaries first, then at headers, then at bodies.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use super::super::super::conn::ConnKey;
use super::super::super::wait::breathe;
use super::super::super::{LocalPartition, Shard};
use super::super::Asked;
use super::{Desk, at_once, later, of_message, refusal};
use crate::limits::{IMAP_HEADER_BYTES_MAX, IMAP_READ_BYTES, SUMMARY_BYTES_MAX};
use crate::mail::mime::{EnvelopeField, Needle, Parts, Scanner, Summary, TextSearch};
use crate::proto::imap::{Answer, Refusal, Source, TextKey, compare};
use crate::store::{MailboxId, MessageInfo, StoreError};

/// Where to look.
struct Place {
    shard: Rc<Shard>,
    partition: Rc<LocalPartition>,
    desk: Rc<Desk>,
    mailbox: MailboxId,
}

impl Place {
    fn new(shard: &Rc<Shard>, desk: Rc<Desk>) -> Result<Place, Refusal> {
        Ok(Place {
            shard: Rc::clone(shard),
            partition: desk.partition(shard)?,
            mailbox: desk.open_id()?,
            desk,
        })
    }

    fn refusal(&self, error: StoreError) -> Refusal {
        of_message(error, &self.partition, &self.desk.address, self.mailbox)
    }

    /// Bytes of a message; fewer only at its end.
    async fn read(&self, uid: u32, offset: u64, length: u64) -> Result<Vec<u8>, StoreError> {
        let address = &self.desk.address;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let read = self
            .partition
            .read_from(address, self.mailbox, uid, offset, length);
        read.await.inspect_err(|error| {
            if !matches!(error, StoreError::Missing) {
                self.shard.probe.read_errors.add(1);
            }
        })
    }

    /// The summary of a message: as kept, or made now, and then to be kept.
    async fn summary(
        &self,
        uid: u32,
        body_seq: u64,
        made: &mut Vec<(u64, Vec<u8>)>,
    ) -> Result<Rc<[u8]>, StoreError> {
        if let Some(kept) = self.partition.cache(body_seq).await
            && Summary::decode(&kept).is_ok()
        {
            return Ok(kept);
        }
        let mut scanner = Scanner::default();
        let mut offset = 0;
        loop {
            let piece = self.read(uid, offset, u64::from(IMAP_READ_BYTES)).await?;
            scanner.feed(&piece);
            offset += piece.len() as u64;
            if piece.len() < IMAP_READ_BYTES as usize {
                break;
            }
        }
        let bytes = Summary::encode(&scanner.finish());
        if bytes.len() <= SUMMARY_BYTES_MAX {
            made.push((body_seq, bytes.clone()));
        }
        Ok(bytes.into())
    }

    /// Keeps what was made. That it cannot be kept is no failure: it is made again then.
    async fn keep(&self, made: Vec<(u64, Vec<u8>)>) {
        if !made.is_empty() {
            let _ = self.partition.put_caches(made).await;
        }
    }
}

/// The message that a URL of CATENATE names. From now on it is the source of this connection.
pub(super) fn source(
    shard: &Rc<Shard>,
    key: ConnKey,
    desk: Rc<Desk>,
    name: Option<&str>,
    validity: Option<u32>,
    uid: u32,
    inside: bool,
) -> Asked {
    let (place, info) = match find_source(shard, &desk, name, validity, uid) {
        Ok(found) => found,
        Err(refusal) => return at_once(Answer::Source(Err(refusal))),
    };
    desk.source.set(Some((place.mailbox, uid)));
    let mut source = Source {
        bytes: info.bytes,
        summary: None,
    };
    if !inside {
        return at_once(Answer::Source(Ok(source)));
    }
    later(shard, key, async move {
        let mut made = Vec::new();
        let summary = place.summary(uid, info.body_seq, &mut made).await;
        place.keep(made).await;
        Answer::Source(match summary {
            Ok(summary) => {
                source.summary = Some(summary.to_vec());
                Ok(source)
            }
            // It was there a moment ago.
            Err(StoreError::Missing) => Err(Refusal::Gone),
            Err(error) => Err(refusal(error, &place.desk.address)),
        })
    })
}

fn find_source(
    shard: &Rc<Shard>,
    desk: &Rc<Desk>,
    name: Option<&str>,
    validity: Option<u32>,
    uid: u32,
) -> Result<(Place, MessageInfo), Refusal> {
    let partition = desk.partition(shard)?;
    let address = &desk.address;
    let mailbox = match name {
        None => desk.open_id()?,
        Some(name) => {
            let found = partition.mailbox(address, name);
            let found = found.map_err(|error| refusal(error, address))?;
            if validity.is_some_and(|validity| validity != found.validity) {
                return Err(Refusal::Gone);
            }
            found.id
        }
    };
    let mut found = None;
    let visit = |info: &MessageInfo| {
        found = Some(*info);
        ControlFlow::Break(())
    };
    partition
        .for_each_message(address, mailbox, (uid, uid), visit)
        .map_err(|error| refusal(error, address))?;
    let place = Place {
        shard: Rc::clone(shard),
        partition,
        desk: Rc::clone(desk),
        mailbox,
    };
    Ok((place, found.ok_or(Refusal::Gone)?))
}

/// Summaries of messages, given by UID and body.
pub(super) fn summaries(
    shard: &Rc<Shard>,
    key: ConnKey,
    desk: Rc<Desk>,
    messages: Vec<(u32, u64)>,
) -> Asked {
    let place = match Place::new(shard, desk) {
        Ok(place) => place,
        Err(refusal) => {
            let all = messages.iter().map(|_| Err(refusal.clone()));
            return at_once(Answer::Summaries(all.collect()));
        }
    };
    let recent = messages
        .iter()
        .map(|(_, body_seq)| place.partition.recent_cache(*body_seq));
    if let Some(all) = recent.collect::<Option<Vec<_>>>() {
        let all = all.into_iter().map(|bytes| Ok(bytes.to_vec()));
        return at_once(Answer::Summaries(all.collect()));
    }
    later(shard, key, async move {
        let mut made = Vec::new();
        let mut all = Vec::with_capacity(messages.len());
        for (uid, body_seq) in messages {
            let summary = place.summary(uid, body_seq, &mut made).await;
            all.push(match summary {
                Ok(bytes) => Ok(bytes.to_vec()),
                Err(error) => Err(place.refusal(error)),
            });
        }
        place.keep(made).await;
        Answer::Summaries(all)
    })
}

/// What is looked for, prepared.
enum Wanted {
    Envelope(EnvelopeField, Needle),
    Header(Vec<u8>, Needle),
    Sent(crate::proto::imap::command::Comparison, i32),
    Body(Needle),
    Text(Needle),
}

fn prepare(key: &TextKey) -> Wanted {
    match key {
        TextKey::Header(name, text) => {
            let field = match name.to_ascii_lowercase().as_str() {
                "subject" => Some(EnvelopeField::Subject),
                "from" => Some(EnvelopeField::From),
                "to" => Some(EnvelopeField::To),
                "cc" => Some(EnvelopeField::Cc),
                "bcc" => Some(EnvelopeField::Bcc),
                _ => None,
            };
            let needle = Needle::new(text);
            match field {
                // An empty text asks whether the field is there, which the envelope does not tell.
                Some(field) if !text.is_empty() => Wanted::Envelope(field, needle),
                _ => Wanted::Header(name.as_bytes().to_vec(), needle),
            }
        }
        TextKey::Body(text) => Wanted::Body(Needle::new(text)),
        TextKey::Text(text) => Wanted::Text(Needle::new(text)),
        TextKey::Sent(comparison, day) => Wanted::Sent(*comparison, *day),
    }
}

/// Which texts hold of messages, given by UID and body.
pub(super) fn search(
    shard: &Rc<Shard>,
    key: ConnKey,
    desk: Rc<Desk>,
    messages: Vec<(u32, u64)>,
    texts: Arc<[TextKey]>,
    wanted: u64,
) -> Asked {
    let place = match Place::new(shard, desk) {
        Ok(place) => place,
        Err(refusal) => return at_once(Answer::Matched(Err(refusal))),
    };
    later(shard, key, async move {
        let bits = (0..texts.len()).filter(|bit| wanted >> bit & 1 == 1);
        let keys: Vec<(usize, Wanted)> = bits.map(|bit| (bit, prepare(&texts[bit]))).collect();
        let mut search = TextSearch::default();
        let mut made = Vec::new();
        let mut all = Vec::with_capacity(messages.len());
        for (uid, body_seq) in messages {
            let found = look(&place, uid, body_seq, &keys, &mut search, &mut made).await;
            all.push(match found {
                Ok(found) => found,
                // It was expunged meanwhile, and holds nothing any more.
                Err(StoreError::Missing) => 0,
                Err(error) => {
                    return Answer::Matched(Err(refusal(error, &place.desk.address)));
                }
            });
            breathe().await;
        }
        place.keep(made).await;
        Answer::Matched(Ok(all))
    })
}

/// Looks into one message.
async fn look(
    place: &Place,
    uid: u32,
    body_seq: u64,
    keys: &[(usize, Wanted)],
    search: &mut TextSearch,
    made: &mut Vec<(u64, Vec<u8>)>,
) -> Result<u64, StoreError> {
    let bytes = place.summary(uid, body_seq, made).await?;
    let damaged = |_| StoreError::Damaged("summary of a message".into());
    let summary = Summary::decode(&bytes).map_err(damaged)?;
    let mut found = 0;
    let mut parts: Option<Parts> = None;
    let mut header: Option<Vec<u8>> = None;
    let mut message: Option<(Vec<u8>, super::super::super::HeldMemory)> = None;
    for (bit, wanted) in keys {
        if parts.is_none() {
            parts = Some(summary.parts().map_err(damaged)?);
        }
        let Some(parts) = &parts else {
            continue;
        };
        let holds = match wanted {
            Wanted::Envelope(field, needle) => needle.is_in(&summary.envelope_text(*field)),
            Wanted::Sent(comparison, day) => match summary.sent() {
                Some(sent) => compare(i64::from(sent.day), *comparison, *day),
                None => {
                    // No date of its own: when it came counts (RFC 5256 §2.2 does the same).
                    let address = &place.desk.address;
                    let info = place.partition.message(address, place.mailbox, uid)?;
                    let came = i64::try_from(info.date_ms / 86_400_000).unwrap_or(i64::MAX);
                    compare(came, *comparison, *day)
                }
            },
            Wanted::Header(name, needle) => {
                if header.is_none() {
                    let length = u64::from(parts.root().header.end).min(IMAP_HEADER_BYTES_MAX);
                    header = Some(place.read(uid, 0, length).await?);
                }
                let header = header.as_deref().unwrap_or_default();
                search.header(needle, header, name)
            }
            Wanted::Body(needle) | Wanted::Text(needle) => {
                if message.is_none() {
                    let length = u64::from(parts.message_bytes());
                    let held = place.shard.hold_memory(length as usize);
                    message = Some((place.read(uid, 0, length).await?, held));
                }
                let bytes = message.as_ref().map_or(&[][..], |(bytes, _)| bytes);
                let with_header = matches!(wanted, Wanted::Text(_));
                search.message(needle, bytes, parts, with_header)
            }
        };
        found |= u64::from(holds) << bit;
    }
    Ok(found)
}
