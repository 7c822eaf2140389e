//! What is new in the open mailbox: EXPUNGE or VANISHED, EXISTS, FETCH (RFC 9051 §5.2, §7.5.1); and
//! IDLE, which says it as it happens (RFC 2177, RFC 9051 §6.3.13).
//!
//! Guarantees: a message number means the same to the client and to us at every moment; what must
//! wait because messages may not go yet is said at the next chance.
//! On failure: when the mailbox is gone the session ends.

use std::sync::Arc;

use super::super::view::View;
use super::super::{Answer, Ask, News, Refusal, Rights, Row, sets, write};
use super::finish::Finish;
use super::report::Report;
use super::{Context, Enabled, Selected, Turn};
use crate::limits::{IMAP_SLICE_MESSAGES, OUTPUT_BYTES_MAX};

/// Ranges in one VANISHED response.
const VANISHED_RANGES_MAX: usize = 1000;

/// One look at what is new.
pub(super) struct Sync {
    /// Messages may go.
    expunge: bool,
    stage: Stage,
}

enum Stage {
    /// Nothing was asked yet.
    Begin,
    /// [`Ask::Look`] is out; changes after this are asked for.
    Looking(u64),
    /// Messages that have gone are being told.
    Telling(Box<Telling>),
    /// [`Ask::Rows`] is out.
    AskingRows(Box<Telling>),
    /// The shard could not say.
    Failed(Refusal),
}

/// News on their way to the client.
struct Telling {
    /// What is not said yet: ranges of message numbers, from the end.
    gone: Vec<(u32, u32)>,
    /// The same with QRESYNC or UIDONLY: ranges of UIDs.
    vanished: Vanished,
    /// Then this is the number of messages, if there are new ones.
    exists: Option<u32>,
    /// Flags, of messages up to this UID: the client asks for those of newer ones.
    flags_uid_max: u32,
    since: u64,
    rows: std::vec::IntoIter<Row>,
    /// There may be more rows behind this UID.
    more_behind: Option<u32>,
}

impl Sync {
    pub(super) fn new(expunge: bool) -> Sync {
        Sync {
            expunge,
            stage: Stage::Begin,
        }
    }

    pub(super) fn go(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> Turn {
        let enabled = *context.enabled;
        let Some(selected) = context.selected() else {
            return Turn::Finish(Finish::ok());
        };
        match std::mem::replace(&mut self.stage, Stage::Begin) {
            Stage::Begin => {
                let since = selected.modseq;
                self.stage = Stage::Looking(since);
                Turn::Ask(Ask::Look { since })
            }
            Stage::Failed(Refusal::Missing) => Turn::Bye("The mailbox was deleted".to_owned()),
            Stage::Failed(_) | Stage::Looking(_) | Stage::AskingRows(_) => {
                // The mailbox is there, but cannot be looked at now: the command was done.
                Turn::Finish(Finish::ok())
            }
            Stage::Telling(mut telling) => {
                if telling.tell(selected, enabled, out) {
                    return match telling.more_behind.take() {
                        None => Turn::Finish(Finish::ok()),
                        Some(uid) => {
                            let ask = Ask::Rows {
                                uids: vec![(uid.saturating_add(1), u32::MAX)],
                                changed_since: Some(telling.since),
                                count_max: IMAP_SLICE_MESSAGES,
                            };
                            self.stage = Stage::AskingRows(telling);
                            Turn::Ask(ask)
                        }
                    };
                }
                self.stage = Stage::Telling(telling);
                Turn::Drain
            }
        }
    }

    pub(super) fn answer(&mut self, answer: Answer, context: &mut Context<'_>, out: &mut Vec<u8>) {
        let enabled = *context.enabled;
        let Some(selected) = context.selected() else {
            return;
        };
        let stage = std::mem::replace(&mut self.stage, Stage::Begin);
        self.stage = match (stage, answer) {
            (Stage::Looking(since), Answer::News(Ok(Some(news)))) => {
                self.take_news(*news, since, selected, enabled, out)
            }
            (Stage::Looking(since), Answer::News(Ok(None))) => {
                let telling = match selected.newest.take() {
                    Some(newest) if self.expunge => {
                        adopt(selected, newest, enabled.expunges_by_uid(), since)
                    }
                    newest => {
                        selected.newest = newest;
                        write_floor(selected, enabled, out);
                        Telling::nothing()
                    }
                };
                Stage::Telling(Box::new(telling))
            }
            (Stage::AskingRows(mut telling), Answer::Rows(Ok(rows))) => {
                telling.take_rows(rows);
                Stage::Telling(telling)
            }
            (_, Answer::News(Err(refusal)) | Answer::Rows(Err(refusal))) => Stage::Failed(refusal),
            _ => Stage::Failed(Refusal::Unavailable(String::new())),
        };
    }

    fn take_news(
        &mut self,
        news: News,
        since: u64,
        selected: &mut Selected,
        enabled: Enabled,
        out: &mut Vec<u8>,
    ) -> Stage {
        if *news.keywords != *selected.keywords {
            selected.keywords = news.keywords;
            write_flags(selected, out);
        }
        selected.modseq = selected.modseq.max(news.modseq);
        let gone = !selected.view.without(&news.view).is_empty();
        let mut telling = if self.expunge || !gone {
            adopt(selected, news.view, enabled.expunges_by_uid(), since)
        } else {
            selected.gone_since.get_or_insert(since);
            write_floor(selected, enabled, out);
            let known = selected.view.exists();
            let flags_uid_max = selected.view.last_uid();
            let extended = selected.view.extended_by(&news.view);
            selected.view = Arc::new(extended);
            selected.newest = Some(news.view);
            let exists = selected.view.exists();
            Telling {
                exists: (exists > known).then_some(exists),
                flags_uid_max,
                since,
                ..Telling::nothing()
            }
        };
        telling.take_rows(news.changed);
        Stage::Telling(Box::new(telling))
    }
}

/// The client is about to see what the mailbox holds now.
fn adopt(selected: &mut Selected, newest: Arc<View>, by_uid: bool, since: u64) -> Telling {
    let before = std::mem::replace(&mut selected.view, newest);
    (selected.newest, selected.gone_since) = (None, None);
    let uids = before.without(&selected.view);
    let is_shrunk = !uids.is_empty();
    let (gone, vanished) = if by_uid {
        (Vec::new(), uids)
    } else {
        let numbers = uids
            .iter()
            .filter_map(|(first, last)| Some((before.number(*first)?, before.number(*last)?)));
        (numbers.collect(), Vec::new())
    };
    let exists = selected.view.exists();
    let is_new = selected.view.last_uid() > before.last_uid();
    if is_shrunk {
        selected.saved = selected.view.known(&selected.saved);
    }
    Telling {
        gone,
        vanished: Vanished::new(vanished, false),
        exists: is_new.then_some(exists),
        flags_uid_max: before.last_uid(),
        since,
        rows: Vec::new().into_iter(),
        more_behind: None,
    }
}

impl Telling {
    fn nothing() -> Telling {
        Telling {
            gone: Vec::new(),
            vanished: Vanished::new(Vec::new(), false),
            exists: None,
            flags_uid_max: 0,
            since: 0,
            rows: Vec::new().into_iter(),
            more_behind: None,
        }
    }

    fn take_rows(&mut self, rows: Vec<Row>) {
        let is_full = rows.len() >= IMAP_SLICE_MESSAGES;
        self.more_behind = rows.last().map(|row| row.uid).filter(|_| is_full);
        self.rows = rows.into_iter();
    }

    /// Writes as much as `out` takes; `true`: that was all.
    fn tell(&mut self, selected: &mut Selected, enabled: Enabled, out: &mut Vec<u8>) -> bool {
        while out.len() < OUTPUT_BYTES_MAX {
            let Some((low, high)) = self.gone.pop() else {
                break;
            };
            // From the highest number down: none of them changes another.
            write::number(high, out.star());
            out.extend_from_slice(b" EXPUNGE\r\n");
            if high > low {
                self.gone.push((low, high - 1));
            }
        }
        if !self.gone.is_empty() || !self.vanished.tell(out) {
            return false;
        }
        if let Some(exists) = self.exists.take() {
            write::number(exists, out.star());
            out.extend_from_slice(b" EXISTS\r\n");
        }
        for row in self.rows.by_ref() {
            let is_own = selected.own.binary_search(&row.modseq).is_ok();
            if row.uid > self.flags_uid_max || is_own || enabled.flags_untold {
                continue;
            }
            let Some(number) = selected.view.number(row.uid) else {
                continue;
            };
            write_flags_of(number, &row, &selected.keywords, enabled, out);
            if out.len() >= OUTPUT_BYTES_MAX {
                return false;
            }
        }
        if self.more_behind.is_none() {
            selected.own = Vec::new();
        }
        true
    }
}

/// Starts an untagged response.
trait Star {
    fn star(&mut self) -> &mut Self;
}

impl Star for Vec<u8> {
    fn star(&mut self) -> &mut Self {
        self.extend_from_slice(b"* ");
        self
    }
}

impl Enabled {
    /// VANISHED in place of EXPUNGE.
    fn expunges_by_uid(self) -> bool {
        self.qresync || self.uidonly
    }
}

/// The start of an unsolicited FETCH response, or of UIDFETCH, which needs no UID in it (RFC 9586
/// §3.3).
pub(super) fn begin_fetch(number: u32, uid: u32, enabled: Enabled, out: &mut Vec<u8>) {
    if enabled.uidonly {
        write::number(uid, out.star());
        out.extend_from_slice(b" UIDFETCH (");
        return;
    }
    write::number(number, out.star());
    out.extend_from_slice(b" FETCH (");
    if enabled.qresync || enabled.rev2 || enabled.flags_with_uid {
        out.extend_from_slice(b"UID ");
        write::number(uid, out);
        out.push(b' ');
    }
}

/// An unsolicited FETCH response with the flags of a message.
pub(super) fn write_flags_of(
    number: u32,
    row: &Row,
    keywords: &[String],
    enabled: Enabled,
    out: &mut Vec<u8>,
) {
    begin_fetch(number, row.uid, enabled, out);
    if enabled.condstore {
        write_modseq(row.modseq, out);
        out.push(b' ');
    }
    write::flags(row.flags, row.keywords, keywords, out);
    out.extend_from_slice(b")\r\n");
}

/// `MODSEQ (n)`
pub(super) fn write_modseq(modseq: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"MODSEQ (");
    write::number(modseq, out);
    out.push(b')');
}

/// RFC 7162 §3.2: the client may have seen a higher MODSEQ than that of messages which have gone and of
/// which it was not told. If the connection broke now, it would never learn of them by asking for what
/// came behind the highest one; so it is told up to where it knows everything.
fn write_floor(selected: &Selected, enabled: Enabled, out: &mut Vec<u8>) {
    if selected.gone_since.is_some() && enabled.qresync {
        write_known(selected, out);
    }
}

/// The MODSEQ up to which the client knows everything.
pub(super) fn write_known(selected: &Selected, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* OK [HIGHESTMODSEQ ");
    write::number(selected.gone_since.unwrap_or(selected.modseq), out);
    out.extend_from_slice(b"] All up to here is told\r\n");
}

/// UIDs that have gone, told by `VANISHED` (RFC 7162 §3.2.10) in lines of bounded length.
pub(super) struct Vanished {
    left: std::vec::IntoIter<(u32, u32)>,
    earlier: bool,
}

impl Vanished {
    /// Of ascending ranges; `earlier`: they are not among those that the client has a number for.
    pub(super) fn new(uids: Vec<(u32, u32)>, earlier: bool) -> Vanished {
        Vanished {
            left: uids.into_iter(),
            earlier,
        }
    }

    /// Of what was expunged before the mailbox was opened, or since some MODSEQ, what is in `wanted`.
    /// What the client has a number for is told when it may be, and not as gone earlier.
    pub(super) fn earlier(
        gone: Vec<(u32, u32)>,
        wanted: Option<&[(u32, u32)]>,
        view: &View,
    ) -> Vanished {
        let gone = View::new(gone);
        let uids = match wanted {
            None => gone.without(view),
            Some(wanted) => View::new(gone.known(wanted)).without(view),
        };
        Vanished::new(uids, true)
    }

    /// Writes as much as `out` takes; `true`: that was all.
    pub(super) fn tell(&mut self, out: &mut Vec<u8>) -> bool {
        loop {
            let left = self.left.as_slice();
            let Some(last) = left.len().min(VANISHED_RANGES_MAX).checked_sub(1) else {
                return true;
            };
            if out.len() >= OUTPUT_BYTES_MAX {
                return false;
            }
            out.extend_from_slice(if self.earlier {
                b"* VANISHED (EARLIER) "
            } else {
                b"* VANISHED "
            });
            sets::write(&left[..=last], out);
            out.extend_from_slice(b"\r\n");
            self.left.nth(last);
        }
    }
}

/// `FLAGS` and `PERMANENTFLAGS` (RFC 9051 §7.3.5, §7.1).
pub(super) fn write_flags(selected: &Selected, out: &mut Vec<u8>) {
    use super::super::command::Flags;
    let all = Flags(Flags::ALL.iter().map(|(flag, _)| flag.0).sum());
    let keywords = || selected.keywords.iter().map(String::as_str);
    out.extend_from_slice(b"* FLAGS ");
    write::flag_list(all, keywords(), out);
    out.extend_from_slice(b"\r\n* OK [PERMANENTFLAGS ");
    if selected.read_only {
        out.extend_from_slice(b"()");
    } else {
        // RFC 4314 §5.1: those that the user may change. `\*`: the client may make keywords.
        let (mut flags, rights) = (Flags::default(), selected.rights);
        for (flag, _) in Flags::ALL {
            let right = match flag {
                Flags::SEEN => Rights::SEEN,
                Flags::DELETED => Rights::DELETE_MESSAGES,
                _ => Rights::WRITE,
            };
            if rights.has(right) {
                flags = flags.with(flag);
            }
        }
        let may_write = rights.has(Rights::WRITE);
        let keywords = keywords().chain(["\\*"]).filter(|_| may_write);
        write::flag_list(flags, keywords, out);
    }
    out.extend_from_slice(b"] Flags that stay\r\n");
}

/// IDLE: looks whenever the shard says that something has happened.
pub(super) struct Idle {
    report: Option<Report>,
    ended: Option<bool>,
}

impl Idle {
    /// What happened before is said first.
    pub(super) fn new(context: &Context<'_>, out: &mut Vec<u8>) -> Idle {
        out.extend_from_slice(b"+ idling\r\n");
        Idle {
            report: Some(Report::in_idle(context)),
            ended: None,
        }
    }

    /// Nothing is being said.
    pub(super) fn is_quiet(&self) -> bool {
        self.report.is_none()
    }

    /// The client's next line: `DONE` ends it.
    pub(super) fn end(&mut self, line: &[u8]) {
        self.ended = Some(line.eq_ignore_ascii_case(b"DONE"));
    }

    pub(super) fn go(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> Turn {
        loop {
            if let Some(report) = &mut self.report {
                match report.go(context, out) {
                    Turn::Finish(_) => self.report = None,
                    turn => return turn,
                }
            }
            if let Some(done) = self.ended {
                return Turn::Finish(if done {
                    Finish::ok()
                } else {
                    Finish::bad("DONE ends IDLE")
                });
            }
            if !std::mem::take(context.changed) {
                return Turn::Input;
            }
            self.report = Some(Report::in_idle(context));
        }
    }

    pub(super) fn answer(&mut self, answer: Answer, context: &mut Context<'_>, out: &mut Vec<u8>) {
        if let Some(report) = &mut self.report {
            report.answer(answer, context, out);
        }
    }
}
