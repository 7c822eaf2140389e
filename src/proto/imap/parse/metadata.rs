//! GETMETADATA and SETMETADATA (RFC 5464 §5).

use std::borrow::Cow;

use super::super::command::{Command, GetMetadata, Modifier};
use super::super::metadata::{Depth, Entry, Wanted};
use super::token::{Parsed, SyntaxError, Tokens};
use crate::limits::ANNOTATIONS_MAX;

/// ```text
/// getmetadata = "GETMETADATA" [SP getmetadata-options] SP mailbox SP entries
/// entries     = entry / "(" entry *(SP entry) ")"
/// getmetadata-option = "MAXSIZE" SP number / "DEPTH" SP ("0" / "1" / "infinity")
/// ```
///
/// The examples of the RFC have the options behind the mailbox, and several entries without
/// parentheses: both are taken.
pub(super) fn parse_get(tokens: &mut Tokens<'_>) -> Parsed<Command> {
    let mut get = GetMetadata::default();
    if tokens.peek() == Some(b'(') {
        options(&mut get, tokens)?;
        tokens.space()?;
    }
    get.mailbox = tokens.astring()?.into_owned();
    tokens.space()?;
    if has_options(tokens.clone()) {
        options(&mut get, tokens)?;
        tokens.space()?;
    }
    if tokens.peek() == Some(b'(') {
        get.wanted.entries = entries(tokens)?;
    } else {
        get.wanted.entries.push(entry(tokens)?);
        while tokens.take(b' ') && !tokens.is_end() {
            get.wanted.entries.push(entry(tokens)?);
            check_count(get.wanted.entries.len())?;
        }
    }
    Ok(Command::GetMetadata(get))
}

/// What is in these parentheses are options: entries begin with a slash.
fn has_options(mut ahead: Tokens<'_>) -> bool {
    ahead.take(b'(') && !matches!(ahead.peek(), Some(b'/' | b'"' | b'{'))
}

fn options(get: &mut GetMetadata, tokens: &mut Tokens<'_>) -> Parsed<()> {
    tokens.modifiers(|name, tokens| {
        match name {
            "MAXSIZE" => {
                tokens.space()?;
                get.size_max = Some(tokens.number64()?);
            }
            "DEPTH" => {
                tokens.space()?;
                let start = tokens.clone();
                get.wanted.depth = match tokens.word()?.as_str() {
                    "0" => Depth::Zero,
                    "1" => Depth::One,
                    "INFINITY" => Depth::Infinity,
                    _ => return start.expected("0, 1 or infinity"),
                };
            }
            _ => return Ok(Modifier::Unknown),
        }
        Ok(Modifier::Known)
    })
}

fn check_count(count: usize) -> Parsed<()> {
    if count > ANNOTATIONS_MAX {
        return Err(SyntaxError(Cow::Owned(format!(
            "at most {ANNOTATIONS_MAX} entries at once"
        ))));
    }
    Ok(())
}

/// ```text
/// entry = astring    ; slash-separated path, no "*" or "%"
/// ```
fn entry(tokens: &mut Tokens<'_>) -> Parsed<Entry> {
    let raw = tokens.astring()?;
    Entry::parse(&raw).map_err(|error| SyntaxError(Cow::Owned(error.to_string())))
}

/// ```text
/// "(" entry *(SP entry) ")"
/// ```
fn entries(tokens: &mut Tokens<'_>) -> Parsed<Vec<Entry>> {
    let mut count = 0;
    tokens.list(|tokens| {
        count += 1;
        check_count(count)?;
        entry(tokens)
    })
}

/// `METADATA` of LIST (RFC 9590 §4).
///
/// ```text
/// return-option =/ "METADATA" SP "(" entry *(SP entry) ")"
/// ```
pub(super) fn parse_list_option(tokens: &mut Tokens<'_>) -> Parsed<Wanted> {
    tokens.space()?;
    Ok(Wanted {
        entries: entries(tokens)?,
        depth: Depth::Zero,
    })
}

/// ```text
/// setmetadata  = "SETMETADATA" SP mailbox SP entry-values
/// entry-values = "(" entry SP value *(SP entry SP value) ")"
/// value        = nstring / literal8
/// ```
pub(super) fn parse_set(tokens: &mut Tokens<'_>) -> Parsed<Command> {
    let mailbox = tokens.astring()?.into_owned();
    tokens.space()?;
    let mut values: Vec<(Entry, Option<Vec<u8>>)> = Vec::new();
    tokens.list(|tokens| {
        check_count(values.len() + 1)?;
        let entry = entry(tokens)?;
        if !entry.can_be_set() {
            return Err("/private and /shared are no annotations themselves".into());
        }
        tokens.space()?;
        let value = tokens.nstring()?.map(Cow::into_owned);
        // Of several values for one entry the last counts.
        values.retain(|(known, _)| *known != entry);
        values.push((entry, value));
        Ok(())
    })?;
    Ok(Command::SetMetadata { mailbox, values })
}
