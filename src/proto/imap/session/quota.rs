//! GETQUOTA, GETQUOTAROOT, SETQUOTA (RFC 9208).
//!
//! An account with a limit is a quota root, by its address, which all its mailboxes belong to; one
//! without a limit is none. STORAGE is the only resource.

use super::super::{Answer, Ask, Quota as Found, QuotaOf, Refusal, names, write};
use super::finish::{Finish, SyncMode};
use super::{Context, Turn, login};

/// Octets of a unit of STORAGE (RFC 9208 §5.1).
const UNIT_BYTES: u64 = 1024;

/// One of these that runs.
pub(super) struct Quota {
    what: What,
    next: Next,
}

enum What {
    Get,
    /// Of this mailbox.
    GetRoot(String),
    Set,
}

enum Next {
    Ask(Ask),
    Asked,
    Done(Finish),
}

impl Quota {
    pub(super) fn get(root: &[u8], context: &Context<'_>) -> Result<Quota, Finish> {
        let of = account(root, context)?;
        Ok(Quota::new(What::Get, Ask::Quota(of)))
    }

    pub(super) fn get_root(mailbox: &[u8], context: &Context<'_>) -> Result<Quota, Finish> {
        let name = names::decode(mailbox, context.enabled.utf8)
            .map_err(|error| Finish::no("CANNOT", error.to_string()))?;
        let of = QuotaOf::Mailbox(name.clone());
        Ok(Quota::new(What::GetRoot(name), Ask::Quota(of)))
    }

    /// Resources that are not named have no limit any more (RFC 9208 §4.1.3).
    pub(super) fn set(
        root: &[u8],
        limits: &[(String, u64)],
        context: &Context<'_>,
    ) -> Result<Quota, Finish> {
        let of = account(root, context)?;
        let mut limit_bytes = 0;
        for (name, limit) in limits {
            if name != "STORAGE" {
                return Err(Finish::no("CANNOT", "only STORAGE has a limit here"));
            }
            // The store takes 0 for no limit; a single octet is as good as nothing.
            limit_bytes = match limit.checked_mul(UNIT_BYTES) {
                Some(bytes) => bytes.max(1),
                None => return Err(Finish::no("LIMIT", "no store is that large")),
            };
        }
        Ok(Quota::new(What::Set, Ask::SetQuota { of, limit_bytes }))
    }

    fn new(what: What, ask: Ask) -> Quota {
        Quota {
            what,
            next: Next::Ask(ask),
        }
    }

    pub(super) fn go(&mut self) -> Turn {
        match std::mem::replace(&mut self.next, Next::Asked) {
            Next::Ask(ask) => Turn::Ask(ask),
            Next::Asked => Turn::Finish(Finish::confused()),
            Next::Done(finish) => Turn::Finish(finish),
        }
    }

    pub(super) fn answer(&mut self, answer: Answer, context: &Context<'_>, out: &mut Vec<u8>) {
        let finish = match answer {
            Answer::Quota(Ok(found)) => self.write(&found, context, out),
            Answer::Quota(Err(Refusal::Missing)) if matches!(self.what, What::GetRoot(_)) => {
                Finish::refused(Refusal::Missing, false)
            }
            Answer::Quota(Err(Refusal::Missing)) => no_such_root(),
            Answer::Quota(Err(refusal)) => Finish::refused(refusal, false),
            _ => Finish::confused(),
        };
        self.next = Next::Done(finish.with_sync(SyncMode::Whole));
    }

    fn write(&self, found: &Found, context: &Context<'_>, out: &mut Vec<u8>) -> Finish {
        let utf8 = context.enabled.utf8;
        let has_limit = found.limit_bytes != 0;
        if let What::GetRoot(name) = &self.what {
            out.extend_from_slice(b"* QUOTAROOT ");
            names::write(name, utf8, out);
            if has_limit {
                out.push(b' ');
                write::quoted(&found.account, out);
            }
            out.extend_from_slice(b"\r\n");
        }
        if has_limit {
            out.extend_from_slice(b"* QUOTA ");
            write::quoted(&found.account, out);
            let used = found.used_bytes.div_ceil(UNIT_BYTES);
            let limit = found.limit_bytes / UNIT_BYTES;
            out.extend_from_slice(format!(" (STORAGE {used} {limit})\r\n").as_bytes());
        } else if matches!(self.what, What::Get) {
            return no_such_root();
        }
        Finish::ok()
    }
}

fn no_such_root() -> Finish {
    Finish::no(
        "NONEXISTENT",
        "no such quota root: an account with a limit is one",
    )
}

/// The account that a quota root is; an empty name, which other servers use, is one's own.
fn account(root: &[u8], context: &Context<'_>) -> Result<QuotaOf, Finish> {
    if root.is_empty() {
        return Ok(QuotaOf::Own);
    }
    let name = std::str::from_utf8(root).ok();
    match name.and_then(|name| login::canonical(name, context.settings)) {
        Some(address) => Ok(QuotaOf::Account(address)),
        None => Err(no_such_root()),
    }
}
