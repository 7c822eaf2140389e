//! FETCH (RFC 9051 §6.4.5).

use super::super::command::{Fetch, Item, Modifier, Section, SectionText, Shape};
use super::token::{Parsed, Tokens};
use crate::limits::{IMAP_FETCH_ITEMS_MAX, MIME_DEPTH_MAX};

/// ```text
/// fetch     = "FETCH" SP sequence-set SP ("ALL" / "FULL" / "FAST" / fetch-att /
///             "(" fetch-att *(SP fetch-att) ")") [SP fetch-modifiers]
/// fetch-modifier = "CHANGEDSINCE" SP mod-sequence-value / "VANISHED"     RFC 7162 §7
///                / "PARTIAL" SP partial-range                             RFC 9394 §3.3
/// ```
pub(super) fn parse(by_uid: bool, tokens: &mut Tokens<'_>) -> Parsed<Fetch> {
    tokens.space()?;
    let set = tokens.set()?;
    tokens.space()?;
    let mut items = Vec::new();
    if tokens.peek() == Some(b'(') {
        items = parse_items(tokens)?;
    } else if tokens.take_word("ALL") {
        items = vec![Item::Flags, Item::InternalDate, Item::Size, Item::Envelope];
    } else if tokens.take_word("FAST") {
        items = vec![Item::Flags, Item::InternalDate, Item::Size];
    } else if tokens.take_word("FULL") {
        items = vec![
            Item::Flags,
            Item::InternalDate,
            Item::Size,
            Item::Envelope,
            Item::Structure { extended: false },
        ];
    } else {
        items.push(parse_item(tokens)?);
    }
    let (mut changed_since, mut vanished, mut partial) = (None, false, None);
    if tokens.take(b' ') && !tokens.is_end() {
        tokens.modifiers(|name, tokens| {
            match name {
                "CHANGEDSINCE" => {
                    tokens.space()?;
                    changed_since = Some(tokens.number64()?);
                }
                "VANISHED" => vanished = true,
                "PARTIAL" if by_uid => {
                    tokens.space()?;
                    partial = Some(tokens.partial_range()?);
                }
                _ => return Ok(Modifier::Unknown),
            }
            Ok(Modifier::Known)
        })?;
    }
    if vanished && (!by_uid || changed_since.is_none()) {
        // RFC 7162 §3.2.6.
        return Err("VANISHED goes with UID FETCH and CHANGEDSINCE only".into());
    }
    Ok(Fetch {
        set,
        by_uid,
        items,
        changed_since,
        vanished,
        partial,
    })
}

/// ```text
/// "(" fetch-att *(SP fetch-att) ")"
/// ```
pub(super) fn parse_items(tokens: &mut Tokens<'_>) -> Parsed<Vec<Item>> {
    let mut items = Vec::new();
    let mut count = 0;
    tokens.list(|tokens| {
        count += 1;
        if count > IMAP_FETCH_ITEMS_MAX {
            return Err("too many items in FETCH".into());
        }
        let item = parse_item(tokens)?;
        add(&mut items, item);
        Ok(())
    })?;
    Ok(items)
}

fn add(items: &mut Vec<Item>, item: Item) {
    if !items.contains(&item) {
        items.push(item);
    }
}

/// ```text
/// fetch-att = "ENVELOPE" / "FLAGS" / "INTERNALDATE" / "RFC822.SIZE" / "BODY" ["STRUCTURE"] / "UID" /
///             "BODY" section ["<" number64 "." nz-number64 ">"] / "BODY.PEEK" section [...] /
///             "BINARY" [".PEEK"] section-binary [partial] / "BINARY.SIZE" section-binary
///             / "RFC822" [".HEADER" / ".TEXT"]                                        RFC 3501
///             / "MODSEQ"                                                              RFC 7162
///             / "EMAILID" / "THREADID"                                                RFC 8474
///             / "SAVEDATE"                                                            RFC 8514
///             / "PREVIEW" [SP "(" "LAZY" ")"]                                         RFC 8970
/// ```
fn parse_item(tokens: &mut Tokens<'_>) -> Parsed<Item> {
    let mut ahead = tokens.clone();
    let name = name(&mut ahead)?;
    let whole = |shape, text| Item::Body {
        peek: matches!(shape, Shape::Rfc822Header),
        section: Section {
            part: Vec::new(),
            text,
        },
        partial: None,
        shape,
    };
    let item = match name.as_str() {
        "FLAGS" => Item::Flags,
        "UID" => Item::Uid,
        "INTERNALDATE" => Item::InternalDate,
        "RFC822.SIZE" => Item::Size,
        "ENVELOPE" => Item::Envelope,
        "BODYSTRUCTURE" => Item::Structure { extended: true },
        "MODSEQ" => Item::ModSeq,
        "EMAILID" => Item::EmailId,
        "THREADID" => Item::ThreadId,
        "SAVEDATE" => Item::SaveDate,
        "RFC822" => whole(Shape::Rfc822, SectionText::All),
        "RFC822.HEADER" => whole(Shape::Rfc822Header, SectionText::Header),
        "RFC822.TEXT" => whole(Shape::Rfc822Text, SectionText::Text),
        "PREVIEW" => {
            let mut lazy = false;
            let mut modifiers = ahead.clone();
            if modifiers.take(b' ') && modifiers.take(b'(') {
                modifiers.take_word("LAZY");
                modifiers.expect(b')')?;
                lazy = true;
                ahead = modifiers;
            }
            Item::Preview(lazy)
        }
        "BODY" if ahead.peek() != Some(b'[') => Item::Structure { extended: false },
        "BODY" | "BODY.PEEK" => {
            let section = parse_section(&mut ahead)?;
            Item::Body {
                peek: name == "BODY.PEEK",
                section,
                partial: parse_partial(&mut ahead)?,
                shape: Shape::Body,
            }
        }
        "BINARY" | "BINARY.PEEK" => {
            let part = parse_binary_section(&mut ahead)?;
            Item::Binary {
                peek: name == "BINARY.PEEK",
                part,
                partial: parse_partial(&mut ahead)?,
            }
        }
        "BINARY.SIZE" => Item::BinarySize(parse_binary_section(&mut ahead)?),
        _ => return tokens.expected("an item of FETCH"),
    };
    *tokens = ahead;
    Ok(item)
}

/// An item's name ends at `[`, which is an atom character.
fn name(tokens: &mut Tokens<'_>) -> Parsed<String> {
    let mut name = String::new();
    while let Some(byte) = tokens.peek() {
        if !(byte.is_ascii_alphanumeric() || byte == b'.') {
            break;
        }
        name.push(char::from(byte.to_ascii_uppercase()));
        tokens.take(byte);
    }
    Ok(name)
}

/// ```text
/// section         = "[" [section-spec] "]"
/// section-spec    = section-msgtext / (section-part ["." section-text])
/// section-msgtext = "HEADER" / "HEADER.FIELDS" [".NOT"] SP header-list / "TEXT"
/// section-part    = nz-number *("." nz-number)
/// section-text    = section-msgtext / "MIME"
/// ```
fn parse_section(tokens: &mut Tokens<'_>) -> Parsed<Section> {
    tokens.expect(b'[')?;
    if tokens.take(b']') {
        return Ok(Section::default());
    }
    let section = section_spec(tokens)?;
    tokens.expect(b']')?;
    Ok(section)
}

/// What stands in the brackets, if anything does.
pub(super) fn section_spec(tokens: &mut Tokens<'_>) -> Parsed<Section> {
    let mut section = Section::default();
    let has_text = parse_part(&mut section.part, tokens)?;
    if has_text {
        section.text = parse_section_text(&section.part, tokens)?;
    }
    Ok(section)
}

/// Numbers with dots between them; returns whether a word comes behind the last dot.
fn parse_part(part: &mut Vec<u32>, tokens: &mut Tokens<'_>) -> Parsed<bool> {
    loop {
        if !tokens.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Ok(true);
        }
        if part.len() >= MIME_DEPTH_MAX {
            return Err("part number has too many levels".into());
        }
        part.push(tokens.nz_number()?);
        if !tokens.take(b'.') {
            return Ok(false);
        }
    }
}

fn parse_section_text(part: &[u32], tokens: &mut Tokens<'_>) -> Parsed<SectionText> {
    let start = tokens.clone();
    let name = name(tokens)?;
    Ok(match name.as_str() {
        "HEADER" => SectionText::Header,
        "TEXT" => SectionText::Text,
        "MIME" if !part.is_empty() => SectionText::Mime,
        "HEADER.FIELDS" | "HEADER.FIELDS.NOT" => {
            tokens.space()?;
            // header-list = "(" header-fld-name *(SP header-fld-name) ")"
            let names = tokens.list(|tokens| {
                let name = tokens.astring()?.into_owned();
                // RFC 5322 §2.2: printable, without a colon. Others could not be in a message, nor
                // be written back.
                if name
                    .iter()
                    .any(|byte| !byte.is_ascii_graphic() || *byte == b':')
                {
                    return Err("not the name of a header field".into());
                }
                Ok(name)
            })?;
            SectionText::Fields {
                names,
                not: name.ends_with("NOT"),
            }
        }
        _ => return start.expected("HEADER, HEADER.FIELDS, TEXT or MIME behind a part number"),
    })
}

/// ```text
/// section-binary = "[" [section-part] "]"
/// ```
fn parse_binary_section(tokens: &mut Tokens<'_>) -> Parsed<Vec<u32>> {
    tokens.expect(b'[')?;
    let mut part = Vec::new();
    if tokens.take(b']') {
        return Ok(part);
    }
    if parse_part(&mut part, tokens)? {
        return tokens.expected("a part number");
    }
    tokens.expect(b']')?;
    Ok(part)
}

/// `partial = "<" number64 "." nz-number64 ">"`
fn parse_partial(tokens: &mut Tokens<'_>) -> Parsed<Option<(u64, u64)>> {
    if !tokens.take(b'<') {
        return Ok(None);
    }
    let offset = tokens.number64()?;
    tokens.expect(b'.')?;
    let length = tokens.number64()?;
    if length == 0 {
        return Err("a partial fetch takes at least one octet".into());
    }
    tokens.expect(b'>')?;
    Ok(Some((offset, length)))
}
