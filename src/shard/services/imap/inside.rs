//! What is inside messages: their summaries, kept beside them once made, and searches.
//!
//! A message is taken apart when somebody first looks into it, and never again: the summary stays in
//! the log beside the body. Searches look at summaries first, then at headers, then at bodies; small
//! messages are read many at once, large ones piece by piece.
//!
//! Guarantees: a body is looked at only for the UID whose message it is; no turn takes longer than a look at some hundred KiB; what is read is counted, and
//! nothing is begun while memory is short.
//! Does not know: what a search is for.
//! On failure: a message that was expunged meanwhile holds nothing; one that cannot be read ends the
//! search.

mod large;

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use super::super::super::conn::ConnKey;
use super::super::super::wait::breathe;
use super::super::super::{LocalPartition, Shard};
use super::super::Asked;
use super::{Desk, at_once, later, of_message, refusal};
use crate::limits::{IMAP_READ_BYTES, SUMMARY_BYTES_MAX};
use crate::mail::mime::{
    EnvelopeField, FieldSearch, HeaderPiece, Needle, Scanner, Summary, TextSearch,
};
use crate::proto::imap::{Answer, Refusal, Source, TextKey, Threading, compare};
use crate::store::{Gathered, MailboxId, MessageInfo, StoreError};

/// Bytes that are looked at between two pauses, as if for one text.
const STEP_BYTES: usize = 256 * 1024;
/// So many texts to look for in what is decoded and folded already cost as much as that did.
const TEXTS_PER_STEP: usize = 8;

/// Work since others had their turn.
#[derive(Default)]
struct Effort(usize);

impl Effort {
    /// So many bytes were looked at for so many texts: time for a pause?
    async fn spend(&mut self, bytes: usize, texts: usize) {
        self.0 += bytes + bytes / TEXTS_PER_STEP * texts;
        if self.0 >= STEP_BYTES {
            self.0 = 0;
            breathe().await;
        }
    }
}

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

    /// The open mailbox has a message with this UID and this body. Summaries are found by the body
    /// alone, which may be that of anybody's message.
    fn has(&self, (uid, body_seq): (u32, u64)) -> bool {
        let found = self
            .partition
            .message(&self.desk.address, self.mailbox, uid);
        found.is_ok_and(|info| info.body_seq == body_seq)
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

    /// What is kept beside these messages, as far as it is there.
    async fn kept(&self, messages: &[(u32, u64)]) -> Kept {
        let recent = messages.iter().map(|it| self.partition.recent_cache(it.1));
        let recent: Vec<Option<Rc<[u8]>>> = recent.collect();
        let others = recent.iter().zip(messages);
        let others = others.map(|(recent, it)| Some(it.1).filter(|_| recent.is_none()));
        let gathered = self.partition.gather_caches(others).await;
        Kept { recent, gathered }
    }

    /// The summary of a message of which none is kept: made now, and to be kept then. `body` is the
    /// message, if it is at hand.
    async fn make_summary(
        &self,
        (uid, body_seq): (u32, u64),
        body: Option<&[u8]>,
        made: &mut Vec<(u64, Vec<u8>)>,
    ) -> Result<Rc<[u8]>, StoreError> {
        let mut scanner = Scanner::default();
        match body {
            Some(body) => scanner.feed(body),
            None => {
                // The record may only have been out of reach: it is large, or was moved.
                if let Some(kept) = self.partition.cache(body_seq).await
                    && Summary::decode(&kept).is_ok()
                {
                    return Ok(kept);
                }
                let mut offset = 0;
                loop {
                    let piece = self.read(uid, offset, u64::from(IMAP_READ_BYTES)).await?;
                    scanner.feed(&piece);
                    offset += piece.len() as u64;
                    if piece.len() < IMAP_READ_BYTES as usize {
                        break;
                    }
                }
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
        let summary = place
            .make_summary((uid, info.body_seq), None, &mut made)
            .await;
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

/// Summaries that are kept, by the places at which they were asked for.
struct Kept {
    recent: Vec<Option<Rc<[u8]>>>,
    gathered: Gathered,
}

impl Kept {
    fn get(&self, place: usize) -> Option<&[u8]> {
        match self.recent.get(place)? {
            Some(recent) => Some(recent),
            None => self.gathered.get(place),
        }
    }
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
    let recent = messages.iter().map(|it| {
        place
            .partition
            .recent_cache(it.1)
            .filter(|_| place.has(*it))
    });
    if let Some(all) = recent.collect::<Option<Vec<_>>>() {
        let all = all.into_iter().map(|bytes| Ok(bytes.to_vec()));
        return at_once(Answer::Summaries(all.collect()));
    }
    later(shard, key, async move {
        let mut made = Vec::new();
        let mut effort = Effort::default();
        let mut all = Vec::with_capacity(messages.len());
        let kept = place.kept(&messages).await;
        for (index, message) in messages.iter().enumerate() {
            if !place.has(*message) {
                all.push(Err(place.refusal(StoreError::Missing)));
                continue;
            }
            let known = kept.get(index).filter(|it| Summary::decode(it).is_ok());
            let summary = match known {
                Some(known) => {
                    place.partition.use_cache(message.1, known);
                    Ok(known.to_vec())
                }
                None => {
                    let made = place.make_summary(*message, None, &mut made).await;
                    effort.spend(IMAP_READ_BYTES as usize, 0).await;
                    made.map(|bytes| bytes.to_vec())
                }
            };
            all.push(summary.map_err(|error| place.refusal(error)));
        }
        place.keep(made).await;
        Answer::Summaries(all)
    })
}

fn is_short(shard: &Shard) -> Result<(), Refusal> {
    if !shard.memory_is_short(0) {
        return Ok(());
    }
    shard.probe.memory_refusals.add(1);
    Err(Refusal::Unavailable("too busy, try again later".to_owned()))
}

/// A session has worked for long: may it go on, when others have had their turn?
pub(super) fn pause(shard: &Rc<Shard>, key: ConnKey) -> Asked {
    let home = Rc::clone(shard);
    later(shard, key, async move {
        breathe().await;
        Answer::Done(is_short(&home))
    })
}

/// THREAD: it cannot be done piece by piece, so it is done beside the shard.
pub(super) fn thread(shard: &Rc<Shard>, key: ConnKey, work: Box<Threading>) -> Asked {
    let home = Rc::clone(shard);
    later(shard, key, async move {
        let _held = home.hold_memory(work.work_bytes());
        if let Err(refusal) = is_short(&home) {
            return Answer::Threads(Err(refusal));
        }
        let threads = glommio::executor().spawn_blocking(move || work.run());
        Answer::Threads(Ok(threads.await))
    })
}

/// What is looked for, prepared.
struct Plan {
    /// What the summary or the header tells, by the bits of the texts.
    cheap: Vec<(usize, Cheap)>,
    /// What the whole message is searched for, and the bits of the texts.
    needles: Vec<Needle>,
    bits: Vec<usize>,
    /// Of the needles, those that count in the message's header too.
    with_header: u64,
}

enum Cheap {
    Envelope(EnvelopeField, Needle),
    Header(Vec<u8>, Needle),
    Sent(crate::proto::imap::command::Comparison, i32),
}

impl Plan {
    fn new(texts: &[TextKey], wanted: u64) -> Plan {
        let mut plan = Plan {
            cheap: Vec::new(),
            needles: Vec::new(),
            bits: Vec::new(),
            with_header: 0,
        };
        for (bit, text) in texts.iter().enumerate() {
            if wanted >> bit & 1 == 0 {
                continue;
            }
            match text {
                TextKey::Header(name, text) => plan.cheap.push((bit, header(name, text))),
                TextKey::Sent(comparison, day) => {
                    plan.cheap.push((bit, Cheap::Sent(*comparison, *day)));
                }
                TextKey::Body(text) => plan.push(bit, text),
                TextKey::Text(text) => {
                    plan.with_header |= 1 << plan.needles.len();
                    plan.push(bit, text);
                }
            }
        }
        plan
    }

    fn push(&mut self, bit: usize, text: &str) {
        self.needles.push(Needle::new(text));
        self.bits.push(bit);
    }

    fn needs_bodies(&self) -> bool {
        let header = |(_, cheap): &(usize, Cheap)| matches!(cheap, Cheap::Header(..));
        !self.needles.is_empty() || self.cheap.iter().any(header)
    }

    /// Bits of texts for bits of needles.
    fn texts_of(&self, found: u64) -> u64 {
        let bits = self.bits.iter().enumerate();
        bits.fold(0, |texts, (needle, bit)| {
            texts | (found >> needle & 1) << bit
        })
    }
}

fn header(name: &str, text: &str) -> Cheap {
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
        Some(field) if !text.is_empty() => Cheap::Envelope(field, needle),
        _ => Cheap::Header(name.as_bytes().to_vec(), needle),
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
    let place = is_short(shard).and_then(|()| Place::new(shard, desk));
    let place = match place {
        Ok(place) => place,
        Err(refusal) => return at_once(Answer::Matched(Err(refusal))),
    };
    later(shard, key, async move {
        let plan = Plan::new(&texts, wanted);
        let kept = place.kept(&messages).await;
        let bodies = match plan.needs_bodies() {
            true => {
                let uids = messages.iter().map(|(uid, _)| *uid);
                let address = &place.desk.address;
                place
                    .partition
                    .gather_messages(address, place.mailbox, uids)
                    .await
            }
            false => Gathered::default(),
        };
        let _held = place
            .shard
            .hold_memory(bodies.held_bytes() + kept.gathered.held_bytes());
        let mut looking = Looking {
            place: &place,
            plan: &plan,
            search: TextSearch::default(),
            effort: Effort::default(),
            made: Vec::new(),
        };
        let mut all = Vec::with_capacity(messages.len());
        for (index, message) in messages.iter().enumerate() {
            if !place.has(*message) {
                // As if it were found expunged below.
                all.push(0);
                continue;
            }
            let found = looking
                .look(*message, kept.get(index), bodies.get(index))
                .await;
            all.push(match found {
                Ok(found) => found,
                // It was expunged meanwhile, and holds nothing any more.
                Err(StoreError::Missing) => 0,
                Err(error) => {
                    return Answer::Matched(Err(refusal(error, &place.desk.address)));
                }
            });
        }
        let made = std::mem::take(&mut looking.made);
        place.keep(made).await;
        Answer::Matched(Ok(all))
    })
}

/// A search that runs.
struct Looking<'a> {
    place: &'a Place,
    plan: &'a Plan,
    search: TextSearch,
    effort: Effort,
    /// Summaries to be kept.
    made: Vec<(u64, Vec<u8>)>,
}

fn damaged<E>(_: E) -> StoreError {
    StoreError::Damaged("summary of a message".into())
}

impl Looking<'_> {
    /// Looks into one message; `kept` and `body` are its summary and all of it, where they are at
    /// hand.
    async fn look(
        &mut self,
        message: (u32, u64),
        kept: Option<&[u8]>,
        body: Option<&[u8]>,
    ) -> Result<u64, StoreError> {
        let (place, plan) = (self.place, self.plan);
        let made;
        let known = kept.and_then(|kept| Summary::decode(kept).ok());
        let summary = match known {
            Some(known) => known,
            None => {
                made = place.make_summary(message, body, &mut self.made).await?;
                Summary::decode(&made).map_err(damaged)?
            }
        };
        let mut found = 0;
        if !plan.cheap.is_empty() {
            found |= self.look_at_header(message.0, &summary, body).await?;
        }
        if !plan.needles.is_empty() {
            let parts = summary.parts().map_err(damaged)?;
            let bits = match body {
                Some(body) => {
                    let (needles, with_header) = (&plan.needles, plan.with_header);
                    let bits = self.search.message(needles, with_header, body, &parts);
                    self.effort.spend(body.len(), needles.len()).await;
                    bits
                }
                None => self.look_through(message.0, &parts).await?,
            };
            found |= plan.texts_of(bits);
        }
        Ok(found)
    }

    async fn look_at_header(
        &mut self,
        uid: u32,
        summary: &Summary<'_>,
        body: Option<&[u8]>,
    ) -> Result<u64, StoreError> {
        let (place, plan) = (self.place, self.plan);
        let mut found = 0;
        let mut searches = Vec::new();
        for (bit, cheap) in &plan.cheap {
            let holds = match cheap {
                Cheap::Envelope(field, needle) => {
                    let text = summary.envelope_text(*field);
                    self.effort.spend(text.len(), 1).await;
                    let holds = needle.is_in(&text);
                    if !holds && summary.may_lack_text() {
                        searches.push((*bit, FieldSearch::new(field.name(), needle)));
                    }
                    holds
                }
                Cheap::Sent(comparison, day) => match summary.sent() {
                    Some(sent) => compare(i64::from(sent.day), *comparison, *day),
                    None => {
                        // No date of its own: when it came counts (RFC 5256 §2.2 does the same).
                        let address = &place.desk.address;
                        let info = place.partition.message(address, place.mailbox, uid)?;
                        let came = i64::try_from(info.date_ms / 86_400_000).unwrap_or(i64::MAX);
                        compare(came, *comparison, *day)
                    }
                },
                Cheap::Header(name, needle) => {
                    searches.push((*bit, FieldSearch::new(name, needle)));
                    false
                }
            };
            found |= u64::from(holds) << bit;
        }
        if searches.is_empty() {
            return Ok(found);
        }
        let parts = summary.parts().map_err(damaged)?;
        let header = &parts.root().header;
        match body {
            Some(body) => {
                let header = body.get(..header.end as usize).unwrap_or(body);
                for (_, search) in &mut searches {
                    search.feed(HeaderPiece::whole(header));
                }
                self.effort.spend(header.len(), searches.len()).await;
            }
            None => self.look_through_fields(uid, header, &mut searches).await?,
        }
        for (bit, search) in &searches {
            found |= u64::from(search.is_found()) << bit;
        }
        Ok(found)
    }
}
