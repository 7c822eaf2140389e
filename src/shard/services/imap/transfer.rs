//! COPY and MOVE from one account's mailbox to another account's.
//!
//! Guarantees: a message is durable at its target before it goes from where it was; a crash in
//! between leaves it at both, and so does whatever goes wrong when they are to go. A copy that fails
//! before takes back what it has made. At most a few hundred KiB of messages are held at a time.
//! Does not know: rights; each end checks what it is asked.
//! On failure: nothing has gone from where it was.

use std::rc::Rc;

use super::super::super::Shard;
use super::super::super::conn::ConnKey;
use super::Desk;
use super::guests::run;
use super::visits::{call, keywords, rights_in_open};
use crate::limits::{BODY_CHUNK_BYTES, IMAP_APPEND_BYTES_MAX, IMAP_READ_BYTES};
use crate::mail::Address;
use crate::proto::imap::{Answer, Ask, Copied, FlagList, Incoming, Mailbox, Refusal, Rights, Row};

/// Messages that are appended together.
const TOGETHER_MAX: usize = 64;

/// What goes where.
pub(super) struct Transfer {
    /// The account of the open mailbox; `None`: one's own.
    pub(super) from: Option<Address>,
    /// The account of the target; `None`: one's own.
    pub(super) to: Option<Address>,
    /// Ascending ranges.
    pub(super) uids: Vec<(u32, u32)>,
    /// The target as its account calls it.
    pub(super) name: String,
    /// MOVE.
    pub(super) moves: bool,
}

/// REPLACE (RFC 8508) of a message by one of another account's mailbox.
pub(super) struct Replacement {
    /// The account of the open mailbox; `None`: one's own.
    pub(super) from: Option<Address>,
    /// The account of the other mailbox; `None`: one's own.
    pub(super) to: Option<Address>,
    /// That mailbox as its account calls it.
    pub(super) name: String,
    /// What comes there.
    pub(super) messages: Vec<Incoming>,
    /// What goes from here.
    pub(super) replaced: u32,
}

/// One of the two, as the connection reaches it.
struct End<'a> {
    home: &'a Rc<Shard>,
    key: ConnKey,
    desk: &'a Rc<Desk>,
    account: Option<&'a Address>,
}

impl End<'_> {
    async fn ask(&self, ask: Ask) -> Answer {
        match self.account {
            Some(account) => call(self.home, self.key, self.desk, account, ask).await,
            None => run(self.home, self.key, self.desk, ask).await,
        }
    }

    async fn mailbox(&self, name: &str) -> Result<Mailbox, Refusal> {
        let name = name.to_owned();
        match self.ask(Ask::Mailbox { name }).await {
            Answer::Mailbox(result) => result.map(|mailbox| *mailbox),
            _ => Err(confused()),
        }
    }
}

fn confused() -> Refusal {
    Refusal::Unavailable("internal error, see the server's log".to_owned())
}

/// Carries it out.
pub(super) async fn carry_out(
    home: &Rc<Shard>,
    key: ConnKey,
    desk: &Rc<Desk>,
    transfer: Transfer,
) -> Answer {
    let end = |account| End {
        home,
        key,
        desk,
        account,
    };
    let from = end(transfer.from.as_ref());
    let to = end(transfer.to.as_ref());
    let target = match to.mailbox(&transfer.name).await {
        Ok(target) => target,
        Err(refusal) => return Answer::Copied(Err(refusal)),
    };
    let flags = Rights::SEEN
        .with(Rights::WRITE)
        .with(Rights::DELETE_MESSAGES);
    let (uids, name, moves) = (transfer.uids, transfer.name, transfer.moves);
    if transfer.from == transfer.to && target.rights.has(flags) {
        // Within an account it is one batch. Flags that may not be set there take the long way.
        return from.ask(Ask::Copy { uids, name, moves }).await;
    }
    if let Err(refusal) = super::acl::need(target.rights, Rights::INSERT) {
        return Answer::Copied(Err(refusal));
    }
    if moves && let Err(refusal) = may_remove(&from).await {
        return Answer::Copied(Err(refusal));
    }
    let id_space = home.partition_of(to.account.unwrap_or(&desk.address));
    let mut work = Work {
        from,
        to,
        name,
        copied: Copied {
            id_space,
            validity: target.validity,
            pairs: Vec::new(),
        },
        strays: (0, Vec::new()),
        batch: Vec::new(),
        uids: Vec::new(),
        held: 0,
        streams: false,
    };
    if let Err(refusal) = work.copy(uids).await {
        work.take_back().await;
        return Answer::Copied(Err(refusal));
    }
    if moves && !work.copied.pairs.is_empty() {
        let uids = work.copied.pairs.iter().map(|(here, _)| *here).collect();
        let only_deleted = false;
        match work.from.ask(Ask::Expunge { uids, only_deleted }).await {
            Answer::Done(Ok(())) => {}
            Answer::Done(Err(refusal)) => {
                // The owner's check says this, before anything is done. All else may have come
                // when some had gone, or may go with the next start: then the copies stay.
                if matches!(refusal, Refusal::Denied(_)) {
                    work.take_back().await;
                }
                return Answer::Copied(Err(refusal));
            }
            _ => return Answer::Copied(Err(confused())),
        }
    }
    Answer::Copied(Ok(work.copied))
}

/// Carries out a REPLACE. It is no single batch, as it is within an account: between the two the message
/// and its replacement are both there.
pub(super) async fn replace(
    home: &Rc<Shard>,
    key: ConnKey,
    desk: &Rc<Desk>,
    replacement: Replacement,
) -> Answer {
    let end = |account| End {
        home,
        key,
        desk,
        account,
    };
    let from = end(replacement.from.as_ref());
    let to = end(replacement.to.as_ref());
    let uid = replacement.replaced;
    if let Err(refusal) = may_replace(&from, uid).await {
        to.ask(Ask::Abort).await;
        return Answer::Appended(Err(refusal));
    }
    let append = Ask::Append {
        name: replacement.name,
        messages: replacement.messages,
        replaces: None,
    };
    let (id_space, validity, there) = match to.ask(append).await {
        Answer::Appended(Ok(appended)) => appended,
        answer => return answer,
    };
    let expunge = Ask::Expunge {
        uids: vec![uid],
        only_deleted: false,
    };
    match from.ask(expunge).await {
        Answer::Done(Ok(())) => Answer::Appended(Ok((id_space, validity, there))),
        Answer::Done(Err(refusal)) => {
            // As after a MOVE: all else may have come when it had gone.
            if matches!(refusal, Refusal::Denied(_)) {
                take_back(&to, vec![(validity, there)]).await;
            }
            Answer::Appended(Err(refusal))
        }
        _ => Answer::Appended(Err(confused())),
    }
}

/// The message is there, and may go.
async fn may_replace(from: &End<'_>, uid: u32) -> Result<(), Refusal> {
    may_remove(from).await?;
    let ask = Ask::Rows {
        uids: vec![(uid, uid)],
        changed_since: None,
        count_max: 1,
    };
    match from.ask(ask).await {
        Answer::Rows(Ok(rows)) if rows.is_empty() => Err(Refusal::Gone),
        Answer::Rows(rows) => rows.map(drop),
        _ => Err(confused()),
    }
}

/// MOVE needs what STORE of `\Deleted` and EXPUNGE need (RFC 6851 §4.4), in the mailbox that is open,
/// whatever it is called by now.
async fn may_remove(from: &End<'_>) -> Result<(), Refusal> {
    let rights = rights_in_open(from.home, from.desk, from.account).await?;
    let needed = Rights::DELETE_MESSAGES.with(Rights::EXPUNGE);
    super::acl::need(rights, needed).map(drop)
}

struct Work<'a> {
    from: End<'a>,
    to: End<'a>,
    name: String,
    copied: Copied,
    /// Appended to a mailbox that had got the name meanwhile: its UIDVALIDITY, and their UIDs.
    strays: (u32, Vec<u32>),
    /// Read, and not yet appended: with their UIDs at the source.
    batch: Vec<Incoming>,
    uids: Vec<u32>,
    /// Bytes of them.
    held: usize,
    /// Some of it is with the target already.
    streams: bool,
}

impl Work<'_> {
    async fn copy(&mut self, mut left: Vec<(u32, u32)>) -> Result<(), Refusal> {
        let keywords = keywords(self.from.home, self.from.desk, self.from.account).await;
        while !left.is_empty() {
            let ask = Ask::Rows {
                uids: left.clone(),
                changed_since: None,
                count_max: TOGETHER_MAX,
            };
            let rows = match self.from.ask(ask).await {
                Answer::Rows(rows) => rows?,
                _ => return Err(confused()),
            };
            let last = rows.last().map(|row| row.uid);
            let is_full = rows.len() >= TOGETHER_MAX;
            for row in rows {
                self.take(&row, &keywords).await?;
            }
            match last.filter(|_| is_full) {
                Some(last) => {
                    left.retain(|range| range.1 > last);
                    if let Some(first) = left.first_mut() {
                        first.0 = first.0.max(last.saturating_add(1));
                    }
                }
                None => break,
            }
        }
        self.flush().await
    }

    /// Reads a message, and appends what has come so far when it is enough.
    async fn take(&mut self, row: &Row, keywords: &[String]) -> Result<(), Refusal> {
        let names = keywords.iter().enumerate();
        let names = names.filter(|(bit, _)| *bit < 64 && row.keywords >> bit & 1 == 1);
        let mut message = Incoming {
            flags: FlagList {
                system: row.flags,
                keywords: names.map(|(_, name)| name.clone()).collect(),
            },
            date_ms: Some(row.date_ms),
            body: Vec::new(),
            streamed_bytes: 0,
        };
        let mut offset = 0;
        while offset < row.bytes {
            let room = BODY_CHUNK_BYTES - message.body.len();
            let ask = Ask::Read {
                uid: row.uid,
                offset,
                length: IMAP_READ_BYTES.min(room as u32),
            };
            let bytes = match self.from.ask(ask).await {
                Answer::Data(Ok(bytes)) if !bytes.is_empty() => bytes,
                // Expunged by somebody else: it is not there to be copied.
                Answer::Data(Err(Refusal::Missing | Refusal::Gone)) if offset == 0 => return Ok(()),
                Answer::Data(Err(refusal)) => return Err(refusal),
                _ => return Err(confused()),
            };
            offset += bytes.len() as u64;
            message.body.extend_from_slice(&bytes);
            if message.body.len() >= BODY_CHUNK_BYTES {
                if message.streamed_bytes == 0 {
                    self.flush().await?;
                }
                self.stream(&mut message).await?;
            }
        }
        self.held += message.body.len();
        self.batch.push(message);
        self.uids.push(row.uid);
        let is_much = self.held >= IMAP_APPEND_BYTES_MAX || self.batch.len() >= TOGETHER_MAX;
        if is_much || self.streams {
            self.flush().await?;
        }
        Ok(())
    }

    /// Hands over what has come of a large message, which is alone in its batch.
    async fn stream(&mut self, message: &mut Incoming) -> Result<(), Refusal> {
        let bytes = std::mem::take(&mut message.body);
        message.streamed_bytes += bytes.len() as u64;
        self.streams = true;
        let ask = Ask::Chunk {
            name: self.name.clone(),
            message: 0,
            bytes,
        };
        match self.to.ask(ask).await {
            Answer::Done(done) => done,
            _ => Err(confused()),
        }
    }

    async fn flush(&mut self) -> Result<(), Refusal> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.held = 0;
        self.streams = false;
        let ask = Ask::Append {
            name: self.name.clone(),
            messages: std::mem::take(&mut self.batch),
            replaces: None,
        };
        let (_, validity, there) = match self.to.ask(ask).await {
            Answer::Appended(appended) => appended?,
            _ => return Err(confused()),
        };
        if validity != self.copied.validity {
            // Another mailbox has got the name.
            self.strays = (validity, there);
            return Err(Refusal::Missing);
        }
        let here = std::mem::take(&mut self.uids).into_iter();
        self.copied.pairs.extend(here.zip(there));
        Ok(())
    }

    /// Removes what was copied, whatever rights the user has there.
    async fn take_back(&mut self) {
        if self.streams {
            self.to.ask(Ask::Abort).await;
        }
        let copies = self.copied.pairs.iter().map(|(_, there)| *there).collect();
        take_back(
            &self.to,
            vec![(self.copied.validity, copies), self.strays.clone()],
        )
        .await;
    }
}

/// Removes what was put there: UIDs by UIDVALIDITY.
async fn take_back(to: &End<'_>, made: Vec<(u32, Vec<u32>)>) {
    if made.iter().all(|(_, copies)| copies.is_empty()) {
        return;
    }
    let own = &to.desk.address;
    let account = to.account.unwrap_or(own).clone();
    let of = account.clone();
    let home = to.home;
    let taken = home
        .on_partition(home.partition_of(&account), async move |partition| {
            for (validity, copies) in made {
                if copies.is_empty() {
                    continue;
                }
                // The name may be another mailbox's by now. One that is gone took them along.
                let infos = partition.mailboxes(&of)?;
                let Some(info) = infos.iter().find(|info| info.validity == validity) else {
                    continue;
                };
                let now_ms = super::super::super::now_ms();
                let gone = partition.expunge_from(&of, info.id, &copies, now_ms);
                gone.await?;
            }
            Ok(())
        })
        .await;
    if let Err(error) = taken {
        tracing::error!(%account, "copies of a command that failed stay: {error}");
    }
}
