//! SEARCH (RFC 9051 §6.4.4).

use super::super::command::{
    Charset, Comparison, DateOf, Flags, Key, Modifier, Order, Results, Search, SortBy, ThreadBy,
};
use super::token::{Parsed, SyntaxError, Tokens};
use crate::limits::{IMAP_SEARCH_DEPTH_MAX, IMAP_SEARCH_KEYS_MAX, SEARCH_STRING_BYTES_MAX};

/// ```text
/// search         = "SEARCH" [search-return-opts] SP search-program
/// search-program = ["CHARSET" SP charset SP] search-key *(SP search-key)
/// search-return-opts = SP "RETURN" SP "(" [search-return-opt *(SP search-return-opt)] ")"
/// ```
pub(super) fn parse(by_uid: bool, tokens: &mut Tokens<'_>) -> Parsed<Search> {
    tokens.space()?;
    let mut search = empty(by_uid);
    if tokens.take_word("RETURN") {
        tokens.space()?;
        search.extended = true;
        search.results = parse_results(tokens)?;
        tokens.space()?;
    }
    if tokens.take_word("CHARSET") {
        tokens.space()?;
        search.charset = parse_charset(tokens)?;
        tokens.space()?;
    }
    parse_program(search, tokens)
}

fn empty(by_uid: bool) -> Search {
    Search {
        by_uid,
        extended: false,
        results: Results::default(),
        charset: Charset::None,
        keys: Vec::new(),
        order: None,
    }
}

/// `charset = atom / quoted`
fn parse_charset(tokens: &mut Tokens<'_>) -> Parsed<Charset> {
    let charset = Tokens::utf8(tokens.astring()?)?;
    Ok(match charset.to_ascii_uppercase().as_str() {
        "UTF-8" => Charset::Utf8,
        "US-ASCII" | "ASCII" => Charset::Ascii,
        _ => Charset::Unknown,
    })
}

fn parse_program(mut search: Search, tokens: &mut Tokens<'_>) -> Parsed<Search> {
    if search.charset == Charset::Unknown {
        // What follows is in a charset that cannot be read: RFC 9051 §6.4.4 wants NO, not BAD.
        tokens.skip_all();
        return Ok(search);
    }
    let mut keys_left = IMAP_SEARCH_KEYS_MAX;
    search.keys = parse_keys(tokens, &mut keys_left)?;
    Ok(search)
}

/// RFC 5256 §5, RFC 5267 §3.
///
/// ```text
/// sort          = ["UID" SP] "SORT" [search-return-opts] SP sort-criteria SP search-criteria
/// sort-criteria = "(" sort-criterion *(SP sort-criterion) ")"
/// sort-criterion = ["REVERSE" SP] sort-key
/// search-criteria = charset 1*(SP search-key)
/// ```
pub(super) fn parse_sort(by_uid: bool, tokens: &mut Tokens<'_>) -> Parsed<Search> {
    /// More than there are keys makes no difference.
    const CRITERIA_MAX: usize = 20;
    tokens.space()?;
    let mut search = empty(by_uid);
    if tokens.take_word("RETURN") {
        tokens.space()?;
        search.extended = true;
        search.results = parse_results(tokens)?;
        tokens.space()?;
    }
    let criteria = tokens.list(|tokens| {
        let reverse = tokens.take_word("REVERSE");
        if reverse {
            tokens.space()?;
        }
        let start = tokens.clone();
        let by = match tokens.word()?.as_str() {
            "ARRIVAL" => SortBy::Arrival,
            "CC" => SortBy::Cc,
            "DATE" => SortBy::Date,
            "FROM" => SortBy::From,
            "SIZE" => SortBy::Size,
            "SUBJECT" => SortBy::Subject,
            "TO" => SortBy::To,
            "DISPLAYFROM" => SortBy::DisplayFrom,
            "DISPLAYTO" => SortBy::DisplayTo,
            _ => return start.expected("a criterion of SORT"),
        };
        Ok((by, reverse))
    })?;
    if criteria.len() > CRITERIA_MAX {
        return Err("too many criteria of SORT".into());
    }
    search.order = Some(Order::Sort(criteria));
    tokens.space()?;
    search.charset = parse_charset(tokens)?;
    tokens.space()?;
    parse_program(search, tokens)
}

/// RFC 5256 §5.
///
/// ```text
/// thread     = ["UID" SP] "THREAD" SP thread-alg SP search-criteria
/// thread-alg = "ORDEREDSUBJECT" / "REFERENCES" / thread-alg-ext
/// ```
pub(super) fn parse_thread(by_uid: bool, tokens: &mut Tokens<'_>) -> Parsed<Search> {
    tokens.space()?;
    let mut search = empty(by_uid);
    let start = tokens.clone();
    search.order = Some(Order::Thread(match tokens.word()?.as_str() {
        "ORDEREDSUBJECT" => ThreadBy::OrderedSubject,
        "REFERENCES" => ThreadBy::References,
        _ => return start.expected("ORDEREDSUBJECT or REFERENCES"),
    }));
    tokens.space()?;
    search.charset = parse_charset(tokens)?;
    tokens.space()?;
    parse_program(search, tokens)
}

/// ```text
/// search-return-opt = "MIN" / "MAX" / "ALL" / "COUNT" / "SAVE"
///                   / "PARTIAL" SP partial-range                    RFC 9394
/// ```
fn parse_results(tokens: &mut Tokens<'_>) -> Parsed<Results> {
    let mut results = Results::default();
    let mut empty = tokens.clone();
    if empty.take(b'(') && empty.take(b')') {
        *tokens = empty;
        results.all = true;
        return Ok(results);
    }
    tokens.modifiers(|name, tokens| {
        match name {
            "MIN" => results.min = true,
            "MAX" => results.max = true,
            "ALL" => results.all = true,
            "COUNT" => results.count = true,
            "SAVE" => results.save = true,
            "PARTIAL" => {
                tokens.space()?;
                results.partial = Some(tokens.partial_range()?);
            }
            _ => return Ok(Modifier::Unknown),
        }
        Ok(Modifier::Known)
    })?;
    if results.all && results.partial.is_some() {
        // RFC 9394 §3.1.
        return Err("ALL and PARTIAL do not go together".into());
    }
    Ok(results)
}

/// Keys up to the end of the command, or to a closing parenthesis. Lists and NOT and OR nest on a
/// stack of our own: its depth is bounded, the program's is not touched.
fn parse_keys(tokens: &mut Tokens<'_>, keys_left: &mut usize) -> Parsed<Vec<Key>> {
    /// A key that waits for its parts.
    enum Open {
        List(Vec<Key>),
        Not,
        OrFirst,
        OrSecond(Key),
    }
    let mut stack = vec![Open::List(Vec::new())];
    loop {
        if stack.len() > IMAP_SEARCH_DEPTH_MAX {
            return Err("search keys nest too deeply".into());
        }
        if *keys_left == 0 {
            return Err("too many search keys".into());
        }
        *keys_left -= 1;
        let mut done = if tokens.take(b'(') {
            stack.push(Open::List(Vec::new()));
            continue;
        } else if tokens.take_word("NOT") {
            tokens.space()?;
            stack.push(Open::Not);
            continue;
        } else if tokens.take_word("OR") {
            tokens.space()?;
            stack.push(Open::OrFirst);
            continue;
        } else {
            parse_key(tokens)?
        };
        // The key may complete others.
        loop {
            match stack.pop() {
                Some(Open::Not) => done = Key::Not(Box::new(done)),
                Some(Open::OrFirst) => {
                    stack.push(Open::OrSecond(done));
                    tokens.space()?;
                    break;
                }
                Some(Open::OrSecond(first)) => done = Key::Or(Box::new((first, done))),
                Some(Open::List(mut keys)) => {
                    keys.push(done);
                    let is_outermost = stack.is_empty();
                    while tokens.peek() == Some(b' ') {
                        tokens.take(b' ');
                    }
                    if !is_outermost && tokens.take(b')') {
                        done = Key::And(keys);
                        continue;
                    }
                    if is_outermost && tokens.is_end() {
                        return Ok(keys);
                    }
                    stack.push(Open::List(keys));
                    break;
                }
                None => return Err("search keys do not end".into()),
            }
        }
    }
}

/// ```text
/// search-key = "ALL" / "ANSWERED" / "BCC" SP astring / "BEFORE" SP date / ... / sequence-set
/// ```
fn parse_key(tokens: &mut Tokens<'_>) -> Parsed<Key> {
    if tokens
        .peek()
        .is_some_and(|byte| byte.is_ascii_digit() || matches!(byte, b'*' | b'$'))
    {
        return Ok(Key::Numbers(tokens.set()?));
    }
    let start = tokens.clone();
    let name = tokens.word()?;
    let not = |key| Key::Not(Box::new(key));
    let date = |of, comparison, tokens: &mut Tokens<'_>| -> Parsed<Key> {
        tokens.space()?;
        Ok(Key::Date(of, comparison, tokens.date()?))
    };
    use Comparison::{Before, On, Since};
    use DateOf::{Internal, Saved, Sent};
    Ok(match name.as_str() {
        "ALL" => Key::All,
        "ANSWERED" => Key::Flag(Flags::ANSWERED),
        "DELETED" => Key::Flag(Flags::DELETED),
        "DRAFT" => Key::Flag(Flags::DRAFT),
        "FLAGGED" => Key::Flag(Flags::FLAGGED),
        "SEEN" => Key::Flag(Flags::SEEN),
        "UNANSWERED" => not(Key::Flag(Flags::ANSWERED)),
        "UNDELETED" => not(Key::Flag(Flags::DELETED)),
        "UNDRAFT" => not(Key::Flag(Flags::DRAFT)),
        "UNFLAGGED" => not(Key::Flag(Flags::FLAGGED)),
        "UNSEEN" => not(Key::Flag(Flags::SEEN)),
        // RFC 3501: no message is ever recent here, so all are old and none is new.
        "RECENT" | "NEW" => not(Key::All),
        "OLD" => Key::All,
        "KEYWORD" => Key::Keyword(keyword(tokens)?),
        "UNKEYWORD" => not(Key::Keyword(keyword(tokens)?)),
        "BEFORE" => date(Internal, Before, tokens)?,
        "ON" => date(Internal, On, tokens)?,
        "SINCE" => date(Internal, Since, tokens)?,
        "SENTBEFORE" => date(Sent, Before, tokens)?,
        "SENTON" => date(Sent, On, tokens)?,
        "SENTSINCE" => date(Sent, Since, tokens)?,
        "SAVEDBEFORE" => date(Saved, Before, tokens)?,
        "SAVEDON" => date(Saved, On, tokens)?,
        "SAVEDSINCE" => date(Saved, Since, tokens)?,
        "SAVEDATESUPPORTED" => Key::SaveDateSupported,
        // RFC 5032
        "OLDER" | "YOUNGER" => {
            tokens.space()?;
            Key::Within {
                younger: name == "YOUNGER",
                seconds: tokens.nz_number()?,
            }
        }
        "LARGER" => {
            tokens.space()?;
            Key::Larger(tokens.number64()?)
        }
        "SMALLER" => {
            tokens.space()?;
            Key::Smaller(tokens.number64()?)
        }
        "UID" => {
            tokens.space()?;
            Key::Uids(tokens.set()?)
        }
        "BCC" | "CC" | "FROM" | "SUBJECT" | "TO" => Key::Header(name, text(tokens)?),
        "HEADER" => {
            tokens.space()?;
            let field = Tokens::utf8(tokens.astring()?)?;
            Key::Header(field, text(tokens)?)
        }
        "BODY" => Key::Body(text(tokens)?),
        "TEXT" => Key::Text(text(tokens)?),
        "MODSEQ" => parse_modseq(tokens)?,
        "EMAILID" => Key::EmailId(text(tokens)?),
        // RFC 8474 §5.2: no message has one here.
        "THREADID" => {
            text(tokens)?;
            not(Key::All)
        }
        _ => return start.expected("a search key"),
    })
}

fn keyword(tokens: &mut Tokens<'_>) -> Parsed<String> {
    tokens.space()?;
    Ok(String::from_utf8_lossy(tokens.atom()?).into_owned())
}

fn text(tokens: &mut Tokens<'_>) -> Parsed<String> {
    tokens.space()?;
    let text = tokens.astring()?;
    if text.len() > SEARCH_STRING_BYTES_MAX {
        let limit = format!("what is searched for has at most {SEARCH_STRING_BYTES_MAX} octets");
        return Err(SyntaxError(limit.into()));
    }
    Tokens::utf8(text).map_err(|_| SyntaxError::from("what is searched for is not UTF-8"))
}

/// ```text
/// search-modsequence = "MODSEQ" [SP entry-name SP entry-type-req] SP mod-sequence-valzer
/// ```
/// The entry would name one flag's MODSEQ; it may be that of the whole message (RFC 7162 §3.1.5).
fn parse_modseq(tokens: &mut Tokens<'_>) -> Parsed<Key> {
    tokens.space()?;
    if tokens.peek() == Some(b'"') {
        tokens.string()?;
        tokens.space()?;
        let kind = tokens.word()?;
        if !matches!(kind.as_str(), "ALL" | "PRIV" | "SHARED") {
            return tokens.expected("all, priv or shared");
        }
        tokens.space()?;
    }
    Ok(Key::ModSeq(tokens.number64()?))
}
