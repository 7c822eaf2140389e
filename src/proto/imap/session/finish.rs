//! How a command ends: its tagged response (RFC 9051 §7.1).

use std::borrow::Cow;

use super::super::{Refusal, sets, write};

/// Whether the client learns what is new before the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum SyncMode {
    /// No.
    #[default]
    None,
    /// All but which messages have gone: the command has message numbers.
    NoExpunge,
    /// All.
    Whole,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Status {
    #[default]
    Ok,
    No,
    Bad,
}

/// A tagged response that is due.
#[derive(Debug, Clone, Default)]
pub(super) struct Finish {
    status: Status,
    /// Response code without brackets; may be empty.
    code: Vec<u8>,
    /// Sets at the end of the code, with a space between them: they may be long.
    sets: Vec<sets::Writer>,
    /// The line is written up to the sets.
    begun: bool,
    /// Empty: the command's name and "completed".
    text: Cow<'static, str>,
    pub(super) sync: SyncMode,
    /// The client is told HIGHESTMODSEQ if it keeps account of it (RFC 7162 §3.2.7).
    modseq: bool,
    /// The command was a login: whether credentials were wrong.
    pub(super) login: Option<bool>,
}

impl Finish {
    pub(super) fn ok() -> Finish {
        Finish::default()
    }

    pub(super) fn ok_with(code: impl Into<Vec<u8>>) -> Finish {
        Finish {
            code: code.into(),
            ..Finish::default()
        }
    }

    /// OK, with a code that ends in these sets of sorted ranges.
    pub(super) fn ok_with_sets(
        code: impl Into<Vec<u8>>,
        sets: impl IntoIterator<Item = Vec<(u32, u32)>>,
    ) -> Finish {
        Finish {
            sets: sets.into_iter().map(sets::Writer::new).collect(),
            ..Finish::ok_with(code)
        }
    }

    pub(super) fn with_text(mut self, text: &'static str) -> Finish {
        self.text = text.into();
        self
    }

    pub(super) fn no(code: impl Into<Vec<u8>>, text: impl Into<Cow<'static, str>>) -> Finish {
        Finish {
            status: Status::No,
            code: code.into(),
            text: text.into(),
            ..Finish::default()
        }
    }

    /// NO after all; a code that is there stays.
    pub(super) fn fail(&mut self, code: &str, text: &'static str) {
        self.status = Status::No;
        self.text = text.into();
        if self.code.is_empty() {
            self.code = code.into();
        }
    }

    pub(super) fn bad(text: impl Into<Cow<'static, str>>) -> Finish {
        Finish {
            status: Status::Bad,
            text: text.into(),
            ..Finish::default()
        }
    }

    /// NO for what the shard refuses; `may_create`: the client could make the mailbox (RFC 9051
    /// §6.3.12, §6.4.7).
    pub(super) fn refused(refusal: Refusal, may_create: bool) -> Finish {
        let (code, text): (&str, Cow<'static, str>) = match refusal {
            Refusal::Missing if may_create => ("TRYCREATE", "no such mailbox".into()),
            Refusal::Missing => ("NONEXISTENT", "no such mailbox".into()),
            Refusal::Exists => ("ALREADYEXISTS", "there is a mailbox of this name".into()),
            Refusal::Gone => ("EXPUNGEISSUED", "the message is gone".into()),
            Refusal::SpecialUse(text) => ("USEATTR", text.into()),
            Refusal::OverQuota => ("OVERQUOTA", "over quota".into()),
            Refusal::Cannot(text) => ("CANNOT", text.into()),
            Refusal::Limit(text) => ("LIMIT", text.into()),
            // RFC 5464 §4.3.
            Refusal::TooManyAnnotations => ("METADATA TOOMANY", "too many annotations".into()),
            Refusal::Unavailable(text) => ("UNAVAILABLE", text.into()),
        };
        Finish::no(code, text)
    }

    /// The shard answered something else than was asked.
    pub(super) fn confused() -> Finish {
        Finish::no("SERVERBUG", "internal error, see the server's log")
    }

    pub(super) fn with_sync(mut self, sync: SyncMode) -> Finish {
        self.sync = sync;
        self
    }

    pub(super) fn without_sync(self) -> Finish {
        self.with_sync(SyncMode::None)
    }

    pub(super) fn with_login(mut self, failed: bool) -> Finish {
        self.login = Some(failed);
        self
    }

    pub(super) fn with_modseq(mut self) -> Finish {
        self.modseq = true;
        self
    }

    /// With QRESYNC: the MODSEQ up to which the client knows everything.
    pub(super) fn set_modseq(&mut self, modseq: u64) {
        if self.modseq && self.code.is_empty() {
            self.code = format!("HIGHESTMODSEQ {modseq}").into_bytes();
        }
    }

    /// The command may have expunged messages: the client learns which, whatever NOTIFY says.
    pub(super) fn expunges(&self) -> bool {
        self.modseq
    }

    pub(super) fn is_bad(&self) -> bool {
        self.status == Status::Bad
    }

    pub(super) fn is_failure(&self) -> bool {
        self.status != Status::Ok
    }

    /// Bytes of memory held beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        self.code.capacity()
            + self
                .sets
                .iter()
                .map(sets::Writer::held_bytes)
                .sum::<usize>()
    }

    /// Writes the response, as far as `out` takes it; `true`: that was all. The tag may be `*`.
    pub(super) fn write(&mut self, tag: &[u8], name: &str, out: &mut Vec<u8>) -> bool {
        if !std::mem::replace(&mut self.begun, true) {
            out.extend_from_slice(tag);
            out.extend_from_slice(match self.status {
                Status::Ok => b" OK ",
                Status::No => b" NO ",
                Status::Bad => b" BAD ",
            });
            if !self.code.is_empty() {
                out.push(b'[');
                out.extend_from_slice(&self.code);
            }
        }
        while let Some(set) = self.sets.first_mut() {
            if !set.write(out) {
                return false;
            }
            self.sets.remove(0);
            if !self.sets.is_empty() {
                out.push(b' ');
            }
        }
        if !self.code.is_empty() {
            out.extend_from_slice(b"] ");
        }
        if self.text.is_empty() {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b" completed");
        } else {
            write::text(&self.text, out);
        }
        out.extend_from_slice(b"\r\n");
        true
    }
}
