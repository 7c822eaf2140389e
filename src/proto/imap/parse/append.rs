//! APPEND and REPLACE (RFC 9051 §6.3.12, RFC 3502, RFC 4469, RFC 6855 §4, RFC 8508): the text between
//! their literals. Messages themselves pass by.

use super::super::command::{Append, RawName};
use super::token::{Parsed, SyntaxError, Tokens};

/// What stands in front of an announced literal, or is a whole command.
#[derive(Debug, PartialEq, Eq)]
pub enum AppendPrefix {
    /// It is no APPEND, or the literal is its mailbox name or a URL: a part of the text.
    Other,
    /// The literal is a message, or a part of one.
    Message {
        /// Of the command.
        tag: Box<[u8]>,
        /// Into which mailbox.
        name: RawName,
        /// What comes with the message.
        segment: Segment,
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

/// Text of APPEND up to a literal, or to the end of the command.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// In order.
    pub pieces: Vec<Piece>,
    /// What comes behind them.
    pub end: SegmentEnd,
}

/// A piece of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A message begins.
    Message(Append),
    /// CATENATE: the message goes on with what this URL names.
    Url(Vec<u8>),
    /// CATENATE: the message is complete.
    Close,
}

/// What comes behind a [`Segment`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SegmentEnd {
    /// The command is over.
    #[default]
    Command,
    /// The announced literal is the message.
    Message,
    /// The announced literal is a part of the message: CATENATE goes on behind it.
    Text,
    /// The same, and a parenthesis follows the literal.
    Utf8Text,
    /// The announced literal is a URL: a part of the text, which is not complete.
    Url,
}

impl SegmentEnd {
    /// CATENATE goes on behind the literal.
    pub fn is_in_catenate(self) -> bool {
        matches!(self, SegmentEnd::Text | SegmentEnd::Utf8Text)
    }
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
///                / "CATENATE" SP "(" cat-part *(SP cat-part) ")"                             RFC 4469 §5
/// cat-part       = "TEXT" SP literal / "URL" SP astring
///                / "UTF8" SP "(" literal8 ")"                                               RFC 6855 §4
/// replace        = ["UID" SP] "REPLACE" SP seq-number SP mailbox append-message      RFC 8508 §3.5
/// ```
pub fn parse_append_prefix(text: &[u8]) -> AppendPrefix {
    parse_start(text, true)
}

/// The same of a whole command: CATENATE needs no literal. [`AppendPrefix::Other`]: it is none.
pub fn parse_append_whole(text: &[u8]) -> AppendPrefix {
    match parse_start(text, false) {
        // Others say better what they miss.
        AppendPrefix::Bad { .. }
            if memchr::memmem::find(&text.to_ascii_uppercase(), b" CATENATE ").is_none() =>
        {
            AppendPrefix::Other
        }
        start => start,
    }
}

fn parse_start(text: &[u8], announces: bool) -> AppendPrefix {
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
    if announces && is_announcement(&tokens) {
        return AppendPrefix::Other;
    }
    let parsed = tokens
        .astring()
        .map(|name| name.into_owned())
        .and_then(|name| Ok((name, segment(&mut tokens, false, announces)?)));
    match parsed {
        Ok((_, segment)) if segment.end == SegmentEnd::Url => AppendPrefix::Other,
        Ok((_, segment)) if segment.pieces.is_empty() => {
            bad("APPEND needs a mailbox, and a literal with the message".into())
        }
        Ok((name, segment)) => AppendPrefix::Message {
            tag: tag.into(),
            name,
            segment,
            replaces,
        },
        Err(error) => bad(error),
    }
}

/// What stands behind a literal of APPEND, up to the next or to the end of the command.
/// `in_catenate`: the literal was a part of its message.
///
/// # Errors
/// Says what is wrong.
pub fn parse_segment(
    text: &[u8],
    in_catenate: bool,
    announces: bool,
) -> Result<Segment, SyntaxError> {
    segment(&mut Tokens::new(text), in_catenate, announces)
}

fn segment(tokens: &mut Tokens<'_>, in_catenate: bool, announces: bool) -> Parsed<Segment> {
    let mut segment = Segment::default();
    let mut inside = in_catenate;
    loop {
        if inside && tokens.take(b')') {
            segment.pieces.push(Piece::Close);
            inside = false;
            continue;
        }
        if !inside && tokens.is_end() {
            // With an announcement at its end there would be something left.
            return Ok(segment);
        }
        tokens.space()?;
        if !inside {
            let append = parse_arguments(tokens)?;
            let whole = !append.catenate;
            segment.pieces.push(Piece::Message(append));
            if whole {
                if !(announces && is_announcement(tokens)) {
                    return tokens.expected("a literal with the message");
                }
                segment.end = SegmentEnd::Message;
                return Ok(segment);
            }
            // Its first part stands right behind the parenthesis.
            inside = true;
        }
        if tokens.take_word("TEXT") {
            tokens.space()?;
            if !(announces && is_announcement(tokens)) {
                return tokens.expected("a literal behind TEXT");
            }
            segment.end = SegmentEnd::Text;
            return Ok(segment);
        }
        if tokens.take_word("UTF8") {
            tokens.space()?;
            tokens.expect(b'(')?;
            if !(announces && is_announcement(tokens)) {
                return tokens.expected("a literal in UTF8 (...)");
            }
            segment.end = SegmentEnd::Utf8Text;
            return Ok(segment);
        }
        if !tokens.take_word("URL") {
            return tokens.expected("TEXT, UTF8 or URL");
        }
        tokens.space()?;
        if announces && is_announcement(tokens) {
            segment.end = SegmentEnd::Url;
            return Ok(segment);
        }
        segment
            .pieces
            .push(Piece::Url(tokens.astring()?.into_owned()));
    }
}

/// Flags and date; of UTF8 and CATENATE the beginning, too.
fn parse_arguments(tokens: &mut Tokens<'_>) -> Parsed<Append> {
    let mut append = Append::default();
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
    } else if tokens.take_word("CATENATE") {
        tokens.space()?;
        tokens.expect(b'(')?;
        append.catenate = true;
    }
    Ok(append)
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
