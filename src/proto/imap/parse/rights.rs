//! Commands on quotas (RFC 9208 §7).

use super::super::command::Command;
use super::token::{Parsed, Tokens};

/// Parses the arguments of one of these; `None`: it is none of them.
pub(super) fn parse(name: &str, tokens: &mut Tokens<'_>) -> Parsed<Option<Command>> {
    Ok(Some(match name {
        // getquota = "GETQUOTA" SP quota-root-name;  quota-root-name = astring
        "GETQUOTA" => Command::GetQuota(tokens.astring()?.into_owned()),
        // getquotaroot = "GETQUOTAROOT" SP mailbox
        "GETQUOTAROOT" => Command::GetQuotaRoot(tokens.astring()?.into_owned()),
        "SETQUOTA" => parse_setquota(tokens)?,
        _ => return Ok(None),
    }))
}

/// ```text
/// setquota          = "SETQUOTA" SP quota-root-name SP setquota-list
/// setquota-list     = "(" [setquota-resource *(SP setquota-resource)] ")"
/// setquota-resource = resource-name SP resource-limit
/// ```
fn parse_setquota(tokens: &mut Tokens<'_>) -> Parsed<Command> {
    let root = tokens.astring()?.into_owned();
    tokens.space()?;
    let mut empty = tokens.clone();
    if empty.take(b'(') && empty.take(b')') {
        *tokens = empty;
        return Ok(Command::SetQuota {
            root,
            limits: Vec::new(),
        });
    }
    let limits = tokens.list(|tokens| {
        let name = tokens.word()?;
        tokens.space()?;
        Ok((name, tokens.number64()?))
    })?;
    Ok(Command::SetQuota { root, limits })
}
