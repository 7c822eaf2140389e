//! APPEND and REPLACE up to their literal (RFC 9051 §6.3.12, RFC 3502, RFC 6855 §4, RFC 8508): the
//! message itself passes by.

use super::super::command::{Append, RawName};
use super::token::{Parsed, SyntaxError, Tokens};

/// What stands in front of an announced literal.
#[derive(Debug, PartialEq, Eq)]
pub enum AppendPrefix {
    /// It is no APPEND, or the literal is its mailbox name.
    Other,
    /// The literal is a message.
    Message {
        /// Of the command.
        tag: Box<[u8]>,
        /// Into which mailbox.
        name: RawName,
        /// What comes with the message.
        append: Append,
        /// REPLACE: the message that goes.
        replaces: Option<Replaced>,
    },
    /// It is one of the two, and wrong.
    Bad {
        /// Of the command.
        tag: Box<[u8]>,
        /// What is wrong.
        error: SyntaxError,
    },
}

/// The message that REPLACE names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced {
    /// By UID; else by message number.
    pub by_uid: bool,
    /// `None`: `*`, the last one.
    pub number: Option<u32>,
}

/// Looks at a command up to an announced literal, the announcement included.
///
/// ```text
/// append         = "APPEND" SP mailbox 1*append-message
/// append-message = [SP flag-list] [SP date-time] SP append-data
/// append-data    = literal / literal8 / "UTF8" SP "(" literal8 ")"
/// replace        = ["UID" SP] "REPLACE" SP seq-number SP mailbox append-message      RFC 8508 §3.5
/// ```
pub fn parse_append_prefix(text: &[u8]) -> AppendPrefix {
    let mut tokens = Tokens::new(text);
    let Ok(tag) = tokens.tag() else {
        return AppendPrefix::Other;
    };
    if tokens.space().is_err() {
        return AppendPrefix::Other;
    }
    let by_uid = tokens.take_word("UID") && tokens.space().is_ok();
    let is_replace = tokens.take_word("REPLACE");
    if !is_replace && (by_uid || !tokens.take_word("APPEND")) {
        return AppendPrefix::Other;
    }
    let bad = |error| AppendPrefix::Bad {
        tag: tag.into(),
        error,
    };
    if let Err(error) = tokens.space() {
        return bad(error);
    }
    let mut replaces = None;
    if is_replace {
        let number = if tokens.take(b'*') {
            Ok(None)
        } else {
            tokens.nz_number().map(Some)
        };
        match number.and_then(|number| tokens.space().map(|()| number)) {
            Ok(number) => replaces = Some(Replaced { by_uid, number }),
            Err(error) => return bad(error),
        }
    }
    if is_announcement(&tokens) {
        return AppendPrefix::Other;
    }
    let parsed = tokens
        .astring()
        .map(|name| name.into_owned())
        .and_then(|name| Ok((name, parse_arguments(&mut tokens)?)));
    match parsed {
        Ok((name, append)) => AppendPrefix::Message {
            tag: tag.into(),
            name,
            append,
            replaces,
        },
        Err(error) => bad(error),
    }
}

/// What stands between two messages of one APPEND (MULTIAPPEND, RFC 3502).
///
/// # Errors
/// Says what is wrong.
pub fn parse_append_again(text: &[u8]) -> Result<Append, SyntaxError> {
    parse_arguments(&mut Tokens::new(text))
}

fn parse_arguments(tokens: &mut Tokens<'_>) -> Parsed<Append> {
    let mut append = Append::default();
    tokens.space()?;
    if tokens.peek() == Some(b'(') {
        append.flags = tokens.flags(false)?;
        tokens.space()?;
    }
    if tokens.peek() == Some(b'"') {
        append.date_ms = Some(tokens.date_time()?);
        tokens.space()?;
    }
    if tokens.take_word("UTF8") {
        tokens.space()?;
        tokens.expect(b'(')?;
        append.utf8 = true;
    }
    if is_announcement(tokens) {
        Ok(append)
    } else {
        tokens.expected("a literal with the message")
    }
}

/// Nothing is left but the announcement of a literal, which is known to stand at the end.
fn is_announcement(tokens: &Tokens<'_>) -> bool {
    let rest = tokens.rest();
    let inner = rest.strip_prefix(b"~").unwrap_or(rest).strip_prefix(b"{");
    inner.is_some_and(|inner| {
        let digits = inner
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let end = &inner[digits..];
        let end = end.strip_prefix(b"+").unwrap_or(end);
        matches!(end, b"}\r\n" | b"}\n" | b"}")
    })
}
