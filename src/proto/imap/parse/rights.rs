//! Commands on access lists (RFC 4314 §7) and on quotas (RFC 9208 §7).

use super::super::command::{AccessCommand, Command};
use super::token::{Parsed, Tokens};

/// Parses the arguments of one of these; `None`: it is none of them.
pub(super) fn parse(name: &str, tokens: &mut Tokens<'_>) -> Parsed<Option<Command>> {
    Ok(Some(match name {
        // getquota = "GETQUOTA" SP quota-root-name;  quota-root-name = astring
        "GETQUOTA" => Command::GetQuota(tokens.astring()?.into_owned()),
        // getquotaroot = "GETQUOTAROOT" SP mailbox
        "GETQUOTAROOT" => Command::GetQuotaRoot(tokens.astring()?.into_owned()),
        "SETQUOTA" => parse_setquota(tokens)?,
        "SETACL" => parse_access("SETACL", tokens)?,
        "DELETEACL" => parse_access("DELETEACL", tokens)?,
        "GETACL" => parse_access("GETACL", tokens)?,
        "LISTRIGHTS" => parse_access("LISTRIGHTS", tokens)?,
        "MYRIGHTS" => parse_access("MYRIGHTS", tokens)?,
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

/// ```text
/// setacl     = "SETACL" SP mailbox SP identifier SP mod-rights
/// deleteacl  = "DELETEACL" SP mailbox SP identifier
/// getacl     = "GETACL" SP mailbox
/// listrights = "LISTRIGHTS" SP mailbox SP identifier
/// myrights   = "MYRIGHTS" SP mailbox
/// identifier = astring
/// mod-rights = astring
/// ```
fn parse_access(verb: &'static str, tokens: &mut Tokens<'_>) -> Parsed<Command> {
    let name = tokens.astring()?.into_owned();
    let mut whom = None;
    if !matches!(verb, "GETACL" | "MYRIGHTS") {
        tokens.space()?;
        whom = Some(tokens.astring()?.into_owned());
    }
    let mut rights = Vec::new();
    if verb == "SETACL" {
        tokens.space()?;
        rights = tokens.astring()?.into_owned();
    }
    Ok(Command::Access(AccessCommand {
        verb,
        name,
        whom,
        rights,
    }))
}
