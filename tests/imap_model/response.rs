//! What a server says, taken apart: one response at a time, literals and all.
//!
//! Does not know: what it means. What is not known here is a difference.

use std::collections::BTreeMap;

/// A piece of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A word as it stands, `BODY[]` and `NIL` among them.
    Atom(String),
    /// A quoted string or a literal.
    Text(Vec<u8>),
    /// In parentheses.
    List(Vec<Value>),
}

impl Value {
    /// A word or a text, in UTF-8.
    pub fn text(&self) -> Result<String, String> {
        match self {
            Value::Atom(word) => Ok(word.clone()),
            Value::Text(bytes) => {
                String::from_utf8(bytes.clone()).map_err(|_| "a text is not UTF-8".to_owned())
            }
            Value::List(_) => Err("a list where a text belongs".to_owned()),
        }
    }

    /// A number.
    pub fn number(&self) -> Result<u64, String> {
        match self {
            Value::Atom(word) => word.parse().map_err(|_| format!("{word:?} is no number")),
            other => Err(format!("{other:?} is no number")),
        }
    }

    /// The pieces of a list.
    pub fn list(&self) -> Result<&[Value], String> {
        match self {
            Value::List(values) => Ok(values),
            other => Err(format!("{other:?} is no list")),
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ok,
    No,
    Bad,
}

/// `[NAME argument]`
pub type Code = Option<(String, String)>;

/// One response.
#[derive(Debug, Clone)]
pub enum Response {
    Tagged(String, Status, Code),
    /// `* OK [NAME argument]`
    Note(Code),
    Bye,
    Continue,
    Exists(u32),
    Expunge(u32),
    Recent(u32),
    Vanished {
        earlier: bool,
        uids: Vec<u32>,
    },
    Fetch(u32, Vec<(String, Value)>),
    /// By UID (RFC 9586).
    UidFetch(u32, Vec<(String, Value)>),
    Flags(Vec<String>),
    Search {
        numbers: Vec<u32>,
        modseq: Option<u64>,
    },
    Esearch {
        tag: String,
        by_uid: bool,
        items: BTreeMap<String, Value>,
    },
    List {
        lsub: bool,
        attributes: Vec<String>,
        name: String,
    },
    Status(String, BTreeMap<String, Value>),
    /// With values.
    Metadata(String, Vec<(String, Option<Vec<u8>>)>),
    /// ACL: rights by address; MYRIGHTS: by an empty one.
    Access(String, BTreeMap<String, String>),
    /// CAPABILITY, ENABLED, NAMESPACE, ID.
    Other,
}

/// Most UIDs that a set in a response may stand for: what the model holds is far below.
const SET_MAX: u32 = 100_000;

/// The numbers of a set without `*`.
pub fn numbers_of(set: &str) -> Result<Vec<u32>, String> {
    let wrong = || format!("{set:?} is no set of numbers");
    let mut numbers = Vec::new();
    for part in set.split(',') {
        let (low, high) = part.split_once(':').unwrap_or((part, part));
        let low: u32 = low.parse().map_err(|_| wrong())?;
        let high: u32 = high.parse().map_err(|_| wrong())?;
        if low == 0 || low > high || high - low > SET_MAX {
            return Err(wrong());
        }
        numbers.extend(low..=high);
    }
    Ok(numbers)
}

/// Takes a whole response apart: a line without its end, literals within it.
pub fn parse(bytes: &[u8]) -> Result<Response, String> {
    let wrong = |what: &str| format!("{what}: {:?}", String::from_utf8_lossy(bytes));
    let mut tokens = Tokens { rest: bytes };
    let first = tokens.word();
    if first == "+" {
        return Ok(Response::Continue);
    }
    tokens.space().map_err(|error| wrong(&error))?;
    if first != "*" {
        let status = status_of(&tokens.word()).ok_or_else(|| wrong("neither OK, NO nor BAD"))?;
        return Ok(Response::Tagged(first, status, tokens.code()));
    }
    parse_untagged(&mut tokens).map_err(|error| wrong(&error))
}

fn status_of(word: &str) -> Option<Status> {
    match word {
        "OK" => Some(Status::Ok),
        "NO" => Some(Status::No),
        "BAD" => Some(Status::Bad),
        _ => None,
    }
}

fn parse_untagged(tokens: &mut Tokens<'_>) -> Result<Response, String> {
    let word = tokens.word();
    if let Ok(number) = word.parse::<u32>() {
        tokens.space()?;
        return match tokens.word().as_str() {
            "EXISTS" => Ok(Response::Exists(number)),
            "EXPUNGE" => Ok(Response::Expunge(number)),
            "RECENT" => Ok(Response::Recent(number)),
            word @ ("FETCH" | "UIDFETCH") => {
                tokens.space()?;
                let items = tokens.value()?;
                tokens.end()?;
                let items = pairs(items.list()?)?;
                Ok(if word == "FETCH" {
                    Response::Fetch(number, items)
                } else {
                    Response::UidFetch(number, items)
                })
            }
            other => Err(format!("{other:?} is not known")),
        };
    }
    match word.as_str() {
        "OK" => Ok(Response::Note(tokens.code())),
        "BYE" => Ok(Response::Bye),
        "CAPABILITY" | "ENABLED" | "NAMESPACE" | "ID" => Ok(Response::Other),
        "FLAGS" => {
            tokens.space()?;
            let flags = tokens.value()?;
            tokens.end()?;
            let flags: Result<Vec<String>, String> =
                flags.list()?.iter().map(Value::text).collect();
            Ok(Response::Flags(flags?))
        }
        "VANISHED" => {
            let values = tokens.values()?;
            let (earlier, set) = match values.as_slice() {
                [Value::List(list), set] if *list == [Value::Atom("EARLIER".into())] => (true, set),
                [set] => (false, set),
                _ => return Err("neither a set nor (EARLIER) and a set".to_owned()),
            };
            let uids = numbers_of(&set.text()?)?;
            Ok(Response::Vanished { earlier, uids })
        }
        "SEARCH" => {
            let mut values = tokens.values()?;
            let modseq = match values.last() {
                Some(Value::List(list)) => match list.as_slice() {
                    [Value::Atom(name), value] if name == "MODSEQ" => Some(value.number()?),
                    _ => return Err("a list that is no MODSEQ".to_owned()),
                },
                _ => None,
            };
            values.truncate(values.len() - usize::from(modseq.is_some()));
            let numbers: Result<Vec<u32>, String> = values
                .iter()
                .map(|value| Ok(value.number()? as u32))
                .collect();
            Ok(Response::Search {
                numbers: numbers?,
                modseq,
            })
        }
        "ESEARCH" => {
            let values = tokens.values()?;
            let tag = match values.first() {
                Some(Value::List(list)) => match list.as_slice() {
                    [Value::Atom(name), tag] if name == "TAG" => tag.text()?,
                    _ => return Err("no TAG".to_owned()),
                },
                _ => return Err("no TAG".to_owned()),
            };
            let by_uid = values.get(1) == Some(&Value::Atom("UID".into()));
            let items = pairs(&values[1 + usize::from(by_uid)..])?;
            Ok(Response::Esearch {
                tag,
                by_uid,
                items: items.into_iter().collect(),
            })
        }
        "LIST" | "LSUB" => match tokens.values()?.as_slice() {
            [attributes, Value::Text(separator), name, ..] if separator == b"/" => {
                let attributes: Result<Vec<String>, String> =
                    attributes.list()?.iter().map(Value::text).collect();
                Ok(Response::List {
                    lsub: word == "LSUB",
                    attributes: attributes?,
                    name: name.text()?,
                })
            }
            _ => Err("not as LIST is".to_owned()),
        },
        "STATUS" => match tokens.values()?.as_slice() {
            [name, items] => {
                let items = pairs(items.list()?)?;
                Ok(Response::Status(name.text()?, items.into_iter().collect()))
            }
            _ => Err("not as STATUS is".to_owned()),
        },
        "METADATA" => match tokens.values()?.as_slice() {
            [name, values] => {
                let values = pairs(values.list()?)?.into_iter();
                let values = values.map(|(entry, value)| match value {
                    Value::Text(value) => Ok((entry, Some(value))),
                    Value::Atom(nil) if nil == "NIL" => Ok((entry, None)),
                    _ => Err("a value that is none".to_owned()),
                });
                let values: Result<Vec<_>, String> = values.collect();
                Ok(Response::Metadata(name.text()?, values?))
            }
            _ => Err("not as METADATA is".to_owned()),
        },
        "ACL" => {
            let values = tokens.values()?;
            let (name, entries) = values.split_first().ok_or("ACL of nothing")?;
            let entries = pairs(entries)?.into_iter();
            let entries: Result<BTreeMap<String, String>, String> = entries
                .map(|(whom, rights)| Ok((whom, rights.text()?)))
                .collect();
            Ok(Response::Access(name.text()?, entries?))
        }
        "MYRIGHTS" => match tokens.values()?.as_slice() {
            [name, rights] => Ok(Response::Access(
                name.text()?,
                BTreeMap::from([(String::new(), rights.text()?)]),
            )),
            _ => Err("not as MYRIGHTS is".to_owned()),
        },
        other => Err(format!("{other:?} is not known")),
    }
}

/// Names and values by turns; no name twice.
fn pairs(values: &[Value]) -> Result<Vec<(String, Value)>, String> {
    let (pairs, rest) = values.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("a name without a value".to_owned());
    }
    let mut named: Vec<(String, Value)> = Vec::new();
    for [name, value] in pairs {
        let name = name.text()?;
        if named.iter().any(|(own, _)| *own == name) {
            return Err(format!("{name} twice"));
        }
        named.push((name, value.clone()));
    }
    Ok(named)
}

struct Tokens<'a> {
    rest: &'a [u8],
}

impl Tokens<'_> {
    /// Up to a space, a parenthesis or the end; brackets hold together what is in them.
    fn word(&mut self) -> String {
        let mut depth = 0;
        let ends = |byte: &u8| {
            match byte {
                b'[' => depth += 1,
                b']' => depth -= 1,
                _ => {}
            }
            depth <= 0 && matches!(byte, b' ' | b'(' | b')')
        };
        let end = self.rest.iter().position(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        String::from_utf8_lossy(word).into_owned()
    }

    fn space(&mut self) -> Result<(), String> {
        let rest = self.rest.strip_prefix(b" ");
        self.rest = rest.ok_or("a space is missing")?;
        Ok(())
    }

    fn end(&self) -> Result<(), String> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err("something stands behind it".to_owned())
    }

    /// ` [NAME argument] text`
    fn code(&mut self) -> Code {
        let rest = self.rest.strip_prefix(b" [")?;
        let end = rest.iter().position(|byte| *byte == b']')?;
        let code = String::from_utf8_lossy(&rest[..end]).into_owned();
        let (name, argument) = code.split_once(' ').unwrap_or((&code, ""));
        Some((name.to_owned(), argument.to_owned()))
    }

    /// All that is left.
    fn values(&mut self) -> Result<Vec<Value>, String> {
        let mut values = Vec::new();
        while !self.rest.is_empty() {
            self.space()?;
            values.push(self.value()?);
        }
        Ok(values)
    }

    fn value(&mut self) -> Result<Value, String> {
        match self.rest.first() {
            Some(b'(') => {
                self.rest = &self.rest[1..];
                let mut values = Vec::new();
                while self.rest.first() != Some(&b')') {
                    if !values.is_empty() {
                        self.space()?;
                    }
                    values.push(self.value()?);
                }
                self.rest = &self.rest[1..];
                Ok(Value::List(values))
            }
            Some(b'"') => {
                let mut text = Vec::new();
                let mut at = 1;
                loop {
                    match self.rest.get(at) {
                        Some(b'"') => break,
                        Some(b'\\') => at += 1,
                        _ => {}
                    }
                    text.push(*self.rest.get(at).ok_or("a quoted string has no end")?);
                    at += 1;
                }
                self.rest = &self.rest[at + 1..];
                Ok(Value::Text(text))
            }
            // A literal8 (RFC 3516 §4.2) is one behind a tilde.
            Some(b'~') if self.rest.get(1) == Some(&b'{') => {
                self.rest = &self.rest[1..];
                self.value()
            }
            Some(b'{') => {
                let end = self.rest.windows(3).position(|bytes| bytes == b"}\r\n");
                let end = end.ok_or("a literal has no length")?;
                let length = String::from_utf8_lossy(&self.rest[1..end]);
                let length: usize = length.parse().map_err(|_| "a literal's length")?;
                let body = &self.rest[end + 3..];
                let text = body.get(..length).ok_or("a literal is too short")?.to_vec();
                self.rest = &body[length..];
                Ok(Value::Text(text))
            }
            Some(b' ' | b')') | None => Err("a value is missing".to_owned()),
            Some(_) => Ok(Value::Atom(self.word())),
        }
    }
}
