//! Commands on mailboxes (RFC 9051 §6.3).

use super::super::command::{
    Command, List, Modifier, Qresync, RawName, Select, StatusItem, StatusItems,
};
use super::metadata;
use super::token::{Parsed, Tokens};
use crate::limits::IMAP_LIST_PATTERNS_MAX;

/// Parses the arguments of one of these; `None`: it is none of them.
pub(super) fn parse(name: &str, tokens: &mut Tokens<'_>) -> Parsed<Option<Command>> {
    Ok(Some(match name {
        "SELECT" => Command::Select(parse_select(false, tokens)?),
        "EXAMINE" => Command::Select(parse_select(true, tokens)?),
        "CREATE" => parse_create(tokens)?,
        // delete = "DELETE" SP mailbox
        "DELETE" => Command::Delete(mailbox(tokens)?),
        // rename = "RENAME" SP mailbox SP mailbox
        "RENAME" => {
            let from = mailbox(tokens)?;
            tokens.space()?;
            Command::Rename(from, mailbox(tokens)?)
        }
        "SUBSCRIBE" => Command::Subscribe(mailbox(tokens)?),
        "UNSUBSCRIBE" => Command::Unsubscribe(mailbox(tokens)?),
        "LIST" => Command::List(parse_list(tokens)?),
        // lsub = "LSUB" SP mailbox SP list-mailbox          RFC 3501 §9
        "LSUB" => {
            let reference = mailbox(tokens)?;
            tokens.space()?;
            Command::List(List {
                lsub: true,
                reference,
                patterns: vec![tokens.list_mailbox()?.into_owned()],
                select_subscribed: true,
                ..List::default()
            })
        }
        "STATUS" => {
            let name = mailbox(tokens)?;
            tokens.space()?;
            Command::Status(name, parse_status_items(tokens)?)
        }
        _ => return Ok(None),
    }))
}

/// `mailbox = "INBOX" / astring`
fn mailbox(tokens: &mut Tokens<'_>) -> Parsed<RawName> {
    Ok(tokens.astring()?.into_owned())
}

/// ```text
/// select       = "SELECT" SP mailbox [select-params]
/// select-param = "CONDSTORE" / "QRESYNC" SP "(" uidvalidity SP mod-sequence-value [SP known-uids]
///                [SP seq-match-data] ")"                                    RFC 7162 §7
/// seq-match-data = "(" known-sequence-set SP known-uid-set ")"
/// ```
fn parse_select(read_only: bool, tokens: &mut Tokens<'_>) -> Parsed<Select> {
    let mut select = Select {
        name: mailbox(tokens)?,
        read_only,
        ..Select::default()
    };
    if !tokens.take(b' ') || tokens.is_end() {
        return Ok(select);
    }
    tokens.modifiers(|name, tokens| {
        match name {
            "CONDSTORE" => select.condstore = true,
            "QRESYNC" => {
                tokens.space()?;
                select.qresync = Some(parse_qresync(tokens)?);
            }
            _ => return Ok(Modifier::Unknown),
        }
        Ok(Modifier::Known)
    })?;
    Ok(select)
}

fn parse_qresync(tokens: &mut Tokens<'_>) -> Parsed<Qresync> {
    tokens.expect(b'(')?;
    let validity = tokens.nz_number()?;
    tokens.space()?;
    let modseq = tokens.number64()?;
    let (mut known, mut has_numbers) = (None, false);
    if tokens.take(b' ') {
        if tokens.peek() != Some(b'(') {
            known = Some(tokens.set()?);
            tokens.take(b' ');
        }
        if tokens.take(b'(') {
            // Which numbers the client has for which UIDs: it spares a server that forgets which
            // messages went (RFC 7162 §3.2.5.2). This one remembers.
            has_numbers = true;
            tokens.set()?;
            tokens.space()?;
            tokens.set()?;
            tokens.expect(b')')?;
        }
    }
    tokens.expect(b')')?;
    Ok(Qresync {
        validity,
        modseq,
        known,
        has_numbers,
    })
}

/// ```text
/// create = "CREATE" SP mailbox [SP "(" "USE" SP "(" [use-attr *(SP use-attr)] ")" ")"]   RFC 6154
/// ```
fn parse_create(tokens: &mut Tokens<'_>) -> Parsed<Command> {
    let name = mailbox(tokens)?;
    let mut special_use = Vec::new();
    if tokens.take(b' ') && !tokens.is_end() {
        tokens.modifiers(|name, tokens| {
            if name != "USE" {
                return Ok(Modifier::Unknown);
            }
            tokens.space()?;
            special_use = tokens.list(|tokens| {
                tokens.expect(b'\\')?;
                tokens.word()
            })?;
            Ok(Modifier::Known)
        })?;
    }
    Ok(Command::Create { name, special_use })
}

/// ```text
/// list = "LIST" [SP list-select-opts] SP mailbox SP mbox-or-pat [SP list-return-opts]
/// list-select-opts = "(" [list-select-opt *(SP list-select-opt)] ")"
/// mbox-or-pat  = list-mailbox / "(" list-mailbox *(SP list-mailbox) ")"
/// list-return-opts = "RETURN" SP "(" [return-option *(SP return-option)] ")"
/// ```
fn parse_list(tokens: &mut Tokens<'_>) -> Parsed<List> {
    let mut list = List::default();
    if tokens.peek() == Some(b'(') {
        list.extended = true;
        options(tokens, |name, _| {
            match name {
                "SUBSCRIBED" => list.select_subscribed = true,
                "SPECIAL-USE" => list.select_special_use = true,
                "RECURSIVEMATCH" => list.recursive = true,
                // There are no remote mailboxes: asking for them as well adds nothing.
                "REMOTE" => {}
                _ => return Ok(Modifier::Unknown),
            }
            Ok(Modifier::Known)
        })?;
        if list.recursive && !list.select_subscribed && !list.select_special_use {
            // RFC 5258 §3.1: it makes no sense by itself.
            return Err("RECURSIVEMATCH needs another selection option, such as SUBSCRIBED".into());
        }
        // RFC 5258 §3.1: with it, the attribute is returned too.
        list.subscribed = list.select_subscribed;
        tokens.space()?;
    }
    list.reference = mailbox(tokens)?;
    tokens.space()?;
    if tokens.peek() == Some(b'(') {
        list.extended = true;
        let patterns = tokens.list(|tokens| Ok(tokens.list_mailbox()?.into_owned()))?;
        if patterns.len() > IMAP_LIST_PATTERNS_MAX {
            return Err("too many patterns in LIST".into());
        }
        list.patterns = patterns;
    } else {
        list.patterns = vec![tokens.list_mailbox()?.into_owned()];
    }
    if tokens.take(b' ') && !tokens.is_end() {
        if !tokens.take_word("RETURN") {
            return tokens.expected("RETURN");
        }
        list.extended = true;
        tokens.space()?;
        options(tokens, |name, tokens| {
            match name {
                "SUBSCRIBED" => list.subscribed = true,
                "CHILDREN" => list.children = true,
                // Attributes of special use are always shown (RFC 6154 §2).
                "SPECIAL-USE" => {}
                "STATUS" => {
                    tokens.space()?;
                    list.status = Some(parse_status_items(tokens)?);
                }
                "METADATA" => list.metadata = Some(metadata::parse_list_option(tokens)?),
                _ => return Ok(Modifier::Unknown),
            }
            Ok(Modifier::Known)
        })?;
    }
    Ok(list)
}

/// Options in parentheses; there may be none.
fn options(
    tokens: &mut Tokens<'_>,
    each: impl FnMut(&str, &mut Tokens<'_>) -> Parsed<Modifier>,
) -> Parsed<()> {
    let mut empty = tokens.clone();
    if empty.take(b'(') && empty.take(b')') {
        *tokens = empty;
        return Ok(());
    }
    tokens.modifiers(each)
}

/// ```text
/// "(" status-att *(SP status-att) ")"
/// ```
fn parse_status_items(tokens: &mut Tokens<'_>) -> Parsed<StatusItems> {
    let mut items = StatusItems::default();
    tokens.list(|tokens| {
        let word = tokens.clone().word()?;
        let known = StatusItem::ALL.iter().find(|(_, name)| *name == word);
        let Some((item, _)) = known else {
            return tokens.expected("an item of STATUS");
        };
        tokens.word()?;
        items = items.with(*item);
        Ok(())
    })?;
    Ok(items)
}
