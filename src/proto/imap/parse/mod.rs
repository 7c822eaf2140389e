//! Commands from their text (RFC 9051 §9; RFC 3501 §9 where the older one has more).
//!
//! Guarantees: time and memory are in proportion to the text, which [`super::frame`] bounds, and
//! depth and number of SEARCH keys and FETCH items have bounds of their own.
//! Does not know: states, mailboxes, capabilities.
//! On failure: says what was expected where; the tag where there is one.

mod append;
mod fetch;
mod mailbox;
mod metadata;
mod notify;
mod search;
mod token;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use zeroize::Zeroizing;

use super::command::{Command, Modifier, Section, StoreHow, Tagged};
pub use append::{
    AppendPrefix, Piece, Replaced, Segment, SegmentEnd, parse_append_prefix, parse_append_whole,
    parse_segment,
};
use token::{Parsed, Tokens};
pub use token::{SyntaxError, is_atom, month_name};

/// A command that cannot be parsed.
#[derive(Debug, PartialEq, Eq)]
pub struct BadCommand {
    /// For the response; empty: none could be read.
    pub tag: Box<[u8]>,
    /// What is wrong.
    pub error: SyntaxError,
}

/// The tag at the start of a command; `None`: there is none.
pub fn parse_tag(text: &[u8]) -> Option<&[u8]> {
    let mut tokens = Tokens::new(text);
    let tag = tokens.tag().ok()?;
    (tokens.peek() == Some(b' ') || tokens.is_end()).then_some(tag)
}

/// A command that has begun so is SETMETADATA: for a value that is too long there is a response of its
/// own (RFC 5464 §4.3).
pub fn is_setmetadata(text: &[u8]) -> bool {
    let mut tokens = Tokens::new(text);
    tokens.tag().is_ok() && tokens.take(b' ') && tokens.take_word("SETMETADATA")
}

/// Parses a whole command, literals in place, without its line end.
///
/// ```text
/// command = tag SP (command-any / command-auth / command-nonauth / command-select) CRLF
/// ```
///
/// # Errors
/// See [`BadCommand`].
pub fn parse_command(text: &[u8]) -> Result<Tagged, BadCommand> {
    let mut tokens = Tokens::new(text);
    let bad = |tag: &[u8], error| BadCommand {
        tag: tag.into(),
        error,
    };
    let tag = tokens.tag().map_err(|error| bad(b"", error))?;
    if !tokens.is_end() && tokens.peek() != Some(b' ') {
        return Err(bad(b"", "a tag is followed by a space".into()));
    }
    let command = parse_body(&mut tokens).map_err(|error| bad(tag, error))?;
    Ok(Tagged {
        tag: tag.into(),
        command,
    })
}

/// `section-spec` (RFC 9051 §9), by itself; `None`: it is none.
pub fn parse_section_spec(text: &[u8]) -> Option<Section> {
    let mut tokens = Tokens::new(text);
    let section = fetch::section_spec(&mut tokens).ok()?;
    tokens.is_end().then_some(section)
}

fn parse_body(tokens: &mut Tokens<'_>) -> Parsed<Command> {
    tokens.space()?;
    let name = tokens.word()?;
    let command = match name.as_str() {
        "UID" => {
            tokens.space()?;
            let name = tokens.word()?;
            parse_selected(&name, true, tokens)?.ok_or(SyntaxError(Cow::Owned(format!(
                "unknown command UID {name}"
            ))))?
        }
        _ => match parse_plain(&name, tokens)? {
            Some(command) => command,
            None => match parse_selected(&name, false, tokens)? {
                Some(command) => command,
                None => parse_named(&name, tokens)?
                    .ok_or_else(|| SyntaxError(Cow::Owned(format!("unknown command {name}"))))?,
            },
        },
    };
    tokens.end()?;
    Ok(command)
}

/// Commands without arguments.
fn parse_plain(name: &str, tokens: &Tokens<'_>) -> Parsed<Option<Command>> {
    let command = match name {
        "CAPABILITY" => Command::Capability,
        "NOOP" => Command::Noop,
        "LOGOUT" => Command::Logout,
        "STARTTLS" => Command::StartTls,
        "NAMESPACE" => Command::Namespace,
        "IDLE" => Command::Idle,
        "CHECK" => Command::Check,
        "CLOSE" => Command::Close,
        "UNSELECT" => Command::Unselect,
        "EXPUNGE" => Command::Expunge(None),
        "UNAUTHENTICATE" => Command::Unauthenticate,
        _ => return Ok(None),
    };
    if tokens.clone().end().is_err() {
        return Err(SyntaxError(Cow::Owned(format!("{name} takes no argument"))));
    }
    Ok(Some(command))
}

/// Commands that exist with and without UID.
fn parse_selected(name: &str, by_uid: bool, tokens: &mut Tokens<'_>) -> Parsed<Option<Command>> {
    Ok(Some(match name {
        "EXPUNGE" if by_uid => {
            tokens.space()?;
            Command::Expunge(Some(tokens.set()?))
        }
        "FETCH" => Command::Fetch(fetch::parse(by_uid, tokens)?),
        "STORE" => Command::Store(parse_store(by_uid, tokens)?),
        "SEARCH" => Command::Search(search::parse(by_uid, tokens)?),
        "SORT" => Command::Search(search::parse_sort(by_uid, tokens)?),
        "THREAD" => Command::Search(search::parse_thread(by_uid, tokens)?),
        // copy = "COPY" SP sequence-set SP mailbox
        "COPY" | "MOVE" => {
            tokens.space()?;
            let set = tokens.set()?;
            tokens.space()?;
            Command::Copy {
                set,
                by_uid,
                name: tokens.astring()?.into_owned(),
                moves: name == "MOVE",
            }
        }
        _ => return Ok(None),
    }))
}

/// Commands with arguments that UID does not change.
const NAMED: [&str; 20] = [
    "ID",
    "LOGIN",
    "AUTHENTICATE",
    "ENABLE",
    "COMPRESS",
    "SELECT",
    "EXAMINE",
    "CREATE",
    "DELETE",
    "RENAME",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "LIST",
    "LSUB",
    "STATUS",
    "APPEND",
    "REPLACE",
    "GETMETADATA",
    "SETMETADATA",
    "NOTIFY",
];

fn parse_named(name: &str, tokens: &mut Tokens<'_>) -> Parsed<Option<Command>> {
    if !NAMED.contains(&name) {
        return Ok(None);
    }
    tokens.space()?;
    Ok(Some(match name {
        // id = "ID" SP id-params-list (RFC 2971 §4)
        "ID" => Command::Id(parse_id(tokens)?),
        // login = "LOGIN" SP userid SP password
        "LOGIN" => {
            let user = tokens.astring()?.into_owned();
            tokens.space()?;
            let password = Zeroizing::new(tokens.astring()?.into_owned());
            Command::Login { user, password }
        }
        // authenticate = "AUTHENTICATE" SP auth-type [SP initial-resp]
        "AUTHENTICATE" => {
            let mechanism = tokens.word()?;
            let initial = if tokens.take(b' ') {
                Some(Zeroizing::new(tokens.rest().trim_ascii().to_vec()))
            } else {
                None
            };
            tokens.skip_all();
            Command::Authenticate { mechanism, initial }
        }
        // enable = "ENABLE" 1*(SP capability)
        "ENABLE" => {
            let mut names = vec![tokens.word()?];
            while tokens.take(b' ') {
                if tokens.is_end() {
                    break;
                }
                names.push(tokens.word()?);
            }
            Command::Enable(names)
        }
        // compress = "COMPRESS" SP algorithm (RFC 4978 §5)
        "COMPRESS" => Command::Compress(tokens.word()?),
        // Its message is a literal, see `append`: without one it is incomplete.
        "REPLACE" => {
            return Err(
                "REPLACE needs a message, a mailbox, and a literal with the new one".into(),
            );
        }
        "APPEND" => return Err("APPEND needs a mailbox, and a literal with the message".into()),
        "GETMETADATA" => metadata::parse_get(tokens)?,
        "SETMETADATA" => metadata::parse_set(tokens)?,
        "NOTIFY" => Command::Notify(notify::parse(tokens)?),
        _ => return mailbox::parse(name, tokens),
    }))
}

/// ```text
/// id-params-list = "(" [string SP nstring *(SP string SP nstring)] ")" / nil
/// ```
fn parse_id(tokens: &mut Tokens<'_>) -> Parsed<Vec<(String, Option<String>)>> {
    /// RFC 2971 §3.3.
    const PAIRS_MAX: usize = 30;
    if tokens.take_word("NIL") {
        return Ok(Vec::new());
    }
    let mut empty = tokens.clone();
    if empty.take(b'(') && empty.take(b')') {
        *tokens = empty;
        return Ok(Vec::new());
    }
    let pairs = tokens.list(|tokens| {
        let field = Tokens::utf8(tokens.string()?)?;
        tokens.space()?;
        let value = tokens.nstring()?.map(Tokens::utf8).transpose()?;
        Ok((field, value))
    })?;
    if pairs.len() > PAIRS_MAX {
        return Err("at most 30 fields in ID (RFC 2971 3.3)".into());
    }
    Ok(pairs)
}

/// ```text
/// store = "STORE" SP sequence-set [SP store-modifiers] SP store-att-flags
/// store-att-flags = (["+" / "-"] "FLAGS" [".SILENT"]) SP (flag-list / (flag *(SP flag)))
/// store-modifiers = "(" "UNCHANGEDSINCE" SP mod-sequence-valzer ")"    RFC 7162 §7
/// ```
fn parse_store(by_uid: bool, tokens: &mut Tokens<'_>) -> Parsed<super::command::Store> {
    tokens.space()?;
    let set = tokens.set()?;
    tokens.space()?;
    let mut unchanged_since = None;
    if tokens.peek() == Some(b'(') {
        tokens.modifiers(|name, tokens| {
            if name != "UNCHANGEDSINCE" {
                return Ok(Modifier::Unknown);
            }
            tokens.space()?;
            unchanged_since = Some(tokens.number64()?);
            Ok(Modifier::Known)
        })?;
        tokens.space()?;
    }
    let how = if tokens.take(b'+') {
        StoreHow::Add
    } else if tokens.take(b'-') {
        StoreHow::Remove
    } else {
        StoreHow::Replace
    };
    let silent = match tokens.word()?.as_str() {
        "FLAGS" => false,
        "FLAGS.SILENT" => true,
        _ => return tokens.expected("FLAGS or FLAGS.SILENT"),
    };
    tokens.space()?;
    Ok(super::command::Store {
        set,
        by_uid,
        unchanged_since,
        how,
        silent,
        flags: tokens.flags(true)?,
    })
}
