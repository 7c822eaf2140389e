//! The small parts of the grammar (RFC 9051 §9): atoms, strings, numbers, dates, flags.
//!
//! Guarantees: every method either takes what it is named after, or says what was expected and
//! where; time is linear in what is read.
//! Does not know: commands.

use std::borrow::Cow;

use jiff::civil::Date;

use super::super::command::{FlagList, Flags, Modifier};
use super::super::sets::{Set, parse_number, parse_number64};
use crate::limits::{IMAP_KEYWORD_BYTES_MAX, IMAP_KEYWORDS_MAX};

/// What is wrong with a command, for BAD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError(pub Cow<'static, str>);

impl From<&'static str> for SyntaxError {
    fn from(text: &'static str) -> SyntaxError {
        SyntaxError(Cow::Borrowed(text))
    }
}

/// What parsing gives.
pub type Parsed<T> = Result<T, SyntaxError>;

/// A command's text, and how far it has been read.
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
}

/// ATOM-CHAR: any CHAR but the atom-specials.
pub fn is_atom(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~')
        && !matches!(byte, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}

/// ASTRING-CHAR = ATOM-CHAR / resp-specials
fn is_astring(byte: u8) -> bool {
    is_atom(byte) || byte == b']'
}

/// list-char = ATOM-CHAR / list-wildcards / resp-specials
fn is_list(byte: u8) -> bool {
    is_astring(byte) || matches!(byte, b'%' | b'*')
}

impl<'a> Tokens<'a> {
    /// At the start of `text`.
    pub fn new(text: &'a [u8]) -> Tokens<'a> {
        Tokens { text, at: 0 }
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        &self.text[self.at..]
    }

    /// The next byte.
    pub fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Passes over all that is left.
    pub fn skip_all(&mut self) {
        self.at = self.text.len();
    }

    /// Nothing is left.
    pub fn is_end(&self) -> bool {
        self.at >= self.text.len()
    }

    /// Takes this byte if it is next.
    pub fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Something else was expected here.
    pub fn expected<T>(&self, what: &str) -> Parsed<T> {
        let found = match self.peek() {
            None => "the end of the command".to_owned(),
            Some(byte) => format!("'{}'", byte.escape_ascii()),
        };
        Err(SyntaxError(Cow::Owned(format!(
            "expected {what} at octet {}, found {found}",
            self.at + 1
        ))))
    }

    /// This byte must come.
    pub fn expect(&mut self, byte: u8) -> Parsed<()> {
        if self.take(byte) {
            return Ok(());
        }
        match byte {
            b' ' => self.expected("a space"),
            _ => self.expected(&format!("'{}'", char::from(byte))),
        }
    }

    /// `SP`. Spaces are one where clients write several, as some do.
    pub fn space(&mut self) -> Parsed<()> {
        self.expect(b' ')?;
        while self.take(b' ') {}
        Ok(())
    }

    /// Nothing but spaces may be left.
    pub fn end(&mut self) -> Parsed<()> {
        while self.take(b' ') {}
        if self.is_end() {
            return Ok(());
        }
        self.expected("the end of the command")
    }

    fn run(&mut self, wanted: fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let length = rest
            .iter()
            .position(|byte| !wanted(*byte))
            .unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// `atom = 1*ATOM-CHAR`
    pub fn atom(&mut self) -> Parsed<&'a [u8]> {
        match self.run(is_atom) {
            b"" => self.expected("an atom"),
            atom => Ok(atom),
        }
    }

    /// An atom that is a word of the protocol, without its case.
    pub fn word(&mut self) -> Parsed<String> {
        let atom = self.atom()?;
        Ok(String::from_utf8_lossy(atom).to_ascii_uppercase())
    }

    /// Takes this word if it is next, in any case and not as part of a longer one.
    pub fn take_word(&mut self, word: &str) -> bool {
        let rest = self.rest();
        let found = rest
            .get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
            && !rest
                .get(word.len())
                .is_some_and(|byte| is_atom(*byte) && *byte != b'[');
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// `tag = 1*<any ASTRING-CHAR except "+">`
    pub fn tag(&mut self) -> Parsed<&'a [u8]> {
        match self.run(|byte| is_astring(byte) && byte != b'+') {
            b"" => self.expected("a tag"),
            tag => Ok(tag),
        }
    }

    /// `number`, 32 bits.
    pub fn number(&mut self) -> Parsed<u32> {
        let start = self.at;
        match parse_number(self.run(|byte| byte.is_ascii_digit())) {
            Some(number) => Ok(number),
            None => {
                self.at = start;
                self.expected("a number of 32 bits")
            }
        }
    }

    /// `nz-number`
    pub fn nz_number(&mut self) -> Parsed<u32> {
        let start = self.at;
        match self.number()? {
            0 => {
                self.at = start;
                self.expected("a number above 0")
            }
            number => Ok(number),
        }
    }

    /// `number64`, `mod-sequence-valzer`
    pub fn number64(&mut self) -> Parsed<u64> {
        let start = self.at;
        match parse_number64(self.run(|byte| byte.is_ascii_digit())) {
            Some(number) => Ok(number),
            None => {
                self.at = start;
                self.expected("a number of 63 bits")
            }
        }
    }

    /// `sequence-set`
    pub fn set(&mut self) -> Parsed<Set> {
        let start = self.at;
        let text =
            self.run(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b':' | b'*' | b'$'));
        match Set::parse(text) {
            Some(set) => Ok(set),
            None => {
                self.at = start;
                self.expected("a sequence set, such as 1,3:5 or 2:*")
            }
        }
    }

    /// A range of places (RFC 9394 §3.1); negative from the end.
    ///
    /// ```text
    /// partial-range-first = nz-number ":" nz-number
    /// partial-range-last  = "-" nz-number ":" "-" nz-number
    /// ```
    pub fn partial_range(&mut self) -> Parsed<(i64, i64)> {
        let from_end = self.take(b'-');
        let first = i64::from(self.nz_number()?);
        self.expect(b':')?;
        if from_end {
            self.expect(b'-')?;
        }
        let second = i64::from(self.nz_number()?);
        let (low, high) = (first.min(second), first.max(second));
        Ok(if from_end { (-low, -high) } else { (low, high) })
    }

    /// `string = quoted / literal`, and `literal8`.
    pub fn string(&mut self) -> Parsed<Cow<'a, [u8]>> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal().map(Cow::Borrowed),
            Some(b'~') if self.text.get(self.at + 1) == Some(&b'{') => {
                self.at += 1;
                self.literal().map(Cow::Borrowed)
            }
            _ => self.expected("a string"),
        }
    }

    /// `quoted = DQUOTE *QUOTED-CHAR DQUOTE`; UTF-8 in it is taken (RFC 6855 §3, RFC 9051 §4.3).
    fn quoted(&mut self) -> Parsed<Cow<'a, [u8]>> {
        self.expect(b'"')?;
        let start = self.at;
        let mut owned: Option<Vec<u8>> = None;
        loop {
            let Some(byte) = self.peek() else {
                return self.expected("the end of the quoted string");
            };
            let taken = match byte {
                b'"' => {
                    let plain = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(owned.map_or(Cow::Borrowed(plain), Cow::Owned));
                }
                b'\\' => match self.text.get(self.at + 1) {
                    Some(escaped @ (b'"' | b'\\')) => {
                        owned
                            .get_or_insert_with(|| self.text[start..self.at].to_vec())
                            .push(*escaped);
                        2
                    }
                    _ => return self.expected("\\\" or \\\\ in a quoted string"),
                },
                b'\r' | b'\n' | b'\0' => {
                    return self.expected("no line end and no NUL in a quoted string");
                }
                _ => {
                    if let Some(owned) = &mut owned {
                        owned.push(byte);
                    }
                    1
                }
            };
            self.at += taken;
        }
    }

    /// `literal = "{" number64 ["+"] "}" CRLF *CHAR8`
    fn literal(&mut self) -> Parsed<&'a [u8]> {
        self.expect(b'{')?;
        let bytes = self.number64()?;
        self.take(b'+');
        self.expect(b'}')?;
        self.take(b'\r');
        self.expect(b'\n')?;
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        match self.rest().get(..bytes) {
            Some(literal) => {
                self.at += bytes;
                Ok(literal)
            }
            None => self.expected("the octets of the literal"),
        }
    }

    /// `astring = 1*ASTRING-CHAR / string`
    pub fn astring(&mut self) -> Parsed<Cow<'a, [u8]>> {
        self.string_or(is_astring)
    }

    /// `list-mailbox = 1*list-char / string`
    pub fn list_mailbox(&mut self) -> Parsed<Cow<'a, [u8]>> {
        self.string_or(is_list)
    }

    fn string_or(&mut self, wanted: fn(u8) -> bool) -> Parsed<Cow<'a, [u8]>> {
        match self.peek() {
            Some(b'"' | b'{') => self.string(),
            // Written by clients that know no better: a name in UTF-8 without quotes.
            Some(byte) if wanted(byte) || !byte.is_ascii() => {
                let rest = self.rest();
                let ends = |byte: &u8| !wanted(*byte) && byte.is_ascii();
                let length = rest.iter().position(ends).unwrap_or(rest.len());
                self.at += length;
                Ok(Cow::Borrowed(&rest[..length]))
            }
            _ => self.expected("a word or a string"),
        }
    }

    /// `nstring = string / nil`
    pub fn nstring(&mut self) -> Parsed<Option<Cow<'a, [u8]>>> {
        if self.take_word("NIL") {
            return Ok(None);
        }
        self.string().map(Some)
    }

    /// Text that must be UTF-8.
    pub fn utf8(text: Cow<'_, [u8]>) -> Parsed<String> {
        String::from_utf8(text.into_owned()).map_err(|_| "text is not UTF-8".into())
    }

    /// Items within parentheses, with spaces between them; at least one.
    pub fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        self.expect(b'(')?;
        let mut items = vec![item(self)?];
        while !self.take(b')') {
            self.space()?;
            // A space before the parenthesis: seen in the wild.
            if self.take(b')') {
                break;
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// `date = date-text / DQUOTE date-text DQUOTE`, as days since 1970.
    ///
    /// ```text
    /// date-text = date-day "-" date-month "-" date-year
    /// ```
    pub fn date(&mut self) -> Parsed<i32> {
        let quoted = self.take(b'"');
        let start = self.at;
        let text = self.run(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let Some(days) = parse_date(text) else {
            self.at = start;
            return self.expected("a date such as 1-Feb-1994");
        };
        if quoted {
            self.expect(b'"')?;
        }
        Ok(days)
    }

    /// `date-time`, as milliseconds since 1970. Before that is 1970.
    ///
    /// ```text
    /// date-time = DQUOTE date-day-fixed "-" date-month "-" date-year SP time SP zone DQUOTE
    /// ```
    pub fn date_time(&mut self) -> Parsed<u64> {
        let start = self.at;
        let text = self.quoted()?;
        match parse_date_time(&text) {
            Some(time_ms) => Ok(time_ms),
            None => {
                self.at = start;
                self.expected("a date and time such as \"17-Jul-1996 02:44:25 -0700\"")
            }
        }
    }

    /// One flag.
    ///
    /// ```text
    /// flag = "\Answered" / "\Flagged" / "\Deleted" / "\Seen" / "\Draft" / flag-keyword
    /// flag-keyword = "$MDNSent" / ... / atom
    /// ```
    fn flag(&mut self, list: &mut FlagList) -> Parsed<()> {
        if self.take(b'\\') {
            let start = self.at;
            let name = self.word()?;
            match Flags::named(&name) {
                Some(flag) => list.system = list.system.with(flag),
                // RFC 9051 §2.3.2: the server's own, which a client that copies flags sends back.
                None if name == "RECENT" => {}
                None => {
                    self.at = start;
                    return self.expected(
                        "a flag: \\Answered, \\Flagged, \\Deleted, \\Seen, \\Draft or a keyword",
                    );
                }
            }
            return Ok(());
        }
        let keyword = self.atom()?;
        if keyword.len() > IMAP_KEYWORD_BYTES_MAX {
            return Err(SyntaxError(Cow::Owned(format!(
                "a keyword has at most {IMAP_KEYWORD_BYTES_MAX} characters"
            ))));
        }
        let keyword = String::from_utf8_lossy(keyword).into_owned();
        if !list
            .keywords
            .iter()
            .any(|known| known.eq_ignore_ascii_case(&keyword))
        {
            if list.keywords.len() >= IMAP_KEYWORDS_MAX {
                return Err(SyntaxError(Cow::Owned(format!(
                    "at most {IMAP_KEYWORDS_MAX} keywords at once"
                ))));
            }
            list.keywords.push(keyword);
        }
        Ok(())
    }

    /// `flag-list = "(" [flag *(SP flag)] ")"`; without parentheses where `bare` (STORE).
    pub fn flags(&mut self, bare: bool) -> Parsed<FlagList> {
        let mut list = FlagList::default();
        if !bare || self.peek() == Some(b'(') {
            self.expect(b'(')?;
            while self.take(b' ') {}
            while !self.take(b')') {
                self.flag(&mut list)?;
                if self.peek() != Some(b')') {
                    self.space()?;
                }
            }
            return Ok(list);
        }
        self.flag(&mut list)?;
        while self.take(b' ') {
            self.flag(&mut list)?;
        }
        Ok(list)
    }

    /// A parameter of a command (RFC 4466 §2.1): its name, and that its value comes next.
    pub fn modifiers(
        &mut self,
        mut each: impl FnMut(&str, &mut Self) -> Parsed<Modifier>,
    ) -> Parsed<()> {
        self.list(|tokens| {
            let name = tokens.word()?;
            match each(&name, tokens)? {
                Modifier::Known => Ok(()),
                Modifier::Unknown => {
                    Err(SyntaxError(Cow::Owned(format!("unknown parameter {name}"))))
                }
            }
        })?;
        Ok(())
    }
}

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// The three letters of a month from 1 to 12.
pub fn month_name(month: i8) -> &'static str {
    let index = usize::try_from(month - 1).unwrap_or(0);
    std::str::from_utf8(MONTHS.get(index).map_or(b"Jan", |name| *name)).unwrap_or("Jan")
}

fn parse_date(text: &[u8]) -> Option<i32> {
    let mut parts = text.split(|&byte| byte == b'-');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || day.len() > 2 || year.len() != 4 {
        return None;
    }
    let month = MONTHS
        .iter()
        .position(|name| name.eq_ignore_ascii_case(month))?;
    let date = Date::new(
        i16::try_from(parse_number(year)?).ok()?,
        i8::try_from(month + 1).ok()?,
        i8::try_from(parse_number(day)?).ok()?,
    );
    let epoch = Date::constant(1970, 1, 1);
    Some((date.ok()? - epoch).get_days())
}

fn parse_date_time(text: &[u8]) -> Option<u64> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let mut parts = text.split(|&byte| byte == b' ');
    let (date, time, zone) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let days = i64::from(parse_date(date)?);
    let [h1, h0, b':', m1, m0, b':', s1, s0] = *time else {
        return None;
    };
    let two = |tens, ones| parse_number(&[tens, ones]).map(i64::from);
    let (hour, minute, second) = (two(h1, h0)?, two(m1, m0)?, two(s1, s0)?);
    let [sign @ (b'+' | b'-'), zh1, zh0, zm1, zm0] = *zone else {
        return None;
    };
    let (zone_hour, zone_minute) = (two(zh1, zh0)?, two(zm1, zm0)?);
    if hour > 23 || minute > 59 || second > 60 || zone_hour > 24 || zone_minute > 59 {
        return None;
    }
    let zone = (zone_hour * 60 + zone_minute) * if sign == b'-' { -60 } else { 60 };
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - zone;
    Some(u64::try_from(seconds).unwrap_or(0) * 1000)
}
