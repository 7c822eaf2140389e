//! NOTIFY (RFC 5465 §8).

use super::super::command::{Event, EventGroup, Events, Filter, Notify, RawName};
use super::fetch;
use super::token::{Parsed, Tokens};

/// ```text
/// notify       = "NOTIFY" SP ("SET" [SP "STATUS"] SP event-groups / "NONE")
/// event-groups = event-group *(SP event-group)
/// ```
pub(super) fn parse(tokens: &mut Tokens<'_>) -> Parsed<Notify> {
    let start = tokens.clone();
    match tokens.word()?.as_str() {
        "NONE" => return Ok(Notify::None),
        "SET" => {}
        _ => return start.expected("SET or NONE"),
    }
    tokens.space()?;
    let status = tokens.take_word("STATUS");
    if status {
        tokens.space()?;
    }
    let mut groups = vec![parse_group(tokens)?];
    while tokens.take(b' ') && !tokens.is_end() {
        groups.push(parse_group(tokens)?);
    }
    let of_open = groups.iter().filter(|group| group.filter.is_selected());
    if of_open.count() > 1 {
        // RFC 5465 §6.1.
        return Err("one of SELECTED and SELECTED-DELAYED, and once".into());
    }
    Ok(Notify::Set { status, groups })
}

/// ```text
/// event-group = "(" filter-mailboxes SP events ")"
/// filter-mailboxes = "selected" / "selected-delayed" / "inboxes" / "personal" / "subscribed" /
///                    "subtree" SP one-or-more-mailbox / "mailboxes" SP one-or-more-mailbox
/// events      = "(" event *(SP event) ")" / "NONE"
/// ```
fn parse_group(tokens: &mut Tokens<'_>) -> Parsed<EventGroup> {
    tokens.expect(b'(')?;
    let start = tokens.clone();
    let filter = match tokens.word()?.as_str() {
        "SELECTED" => Filter::Selected { delayed: false },
        "SELECTED-DELAYED" => Filter::Selected { delayed: true },
        "INBOXES" => Filter::Inboxes,
        "PERSONAL" => Filter::Personal,
        "SUBSCRIBED" => Filter::Subscribed,
        "SUBTREE" => Filter::Subtree(parse_names(tokens)?),
        "MAILBOXES" => Filter::Mailboxes(parse_names(tokens)?),
        _ => {
            return start.expected(
                "selected, selected-delayed, inboxes, personal, subscribed, subtree or mailboxes",
            );
        }
    };
    tokens.space()?;
    let mut events = Events::default();
    if !tokens.take_word("NONE") {
        tokens.list(|tokens| parse_event(&mut events, tokens))?;
        check(&filter, &events)?;
    }
    tokens.expect(b')')?;
    Ok(EventGroup { filter, events })
}

/// ```text
/// one-or-more-mailbox = mailbox / "(" mailbox *(SP mailbox) ")"
/// ```
fn parse_names(tokens: &mut Tokens<'_>) -> Parsed<Vec<RawName>> {
    tokens.space()?;
    if tokens.peek() == Some(b'(') {
        return tokens.list(|tokens| Ok(tokens.astring()?.into_owned()));
    }
    Ok(vec![tokens.astring()?.into_owned()])
}

/// ```text
/// event = "MessageNew" [SP "(" fetch-att *(SP fetch-att) ")"] / "MessageExpunge" / "FlagChange" /
///         "AnnotationChange" / "MailboxName" / "SubscriptionChange" / "MailboxMetadataChange" /
///         "ServerMetadataChange" / atom
/// ```
fn parse_event(events: &mut Events, tokens: &mut Tokens<'_>) -> Parsed<()> {
    let name = tokens.word()?;
    let known = Event::ALL
        .iter()
        .find(|(_, known)| known.eq_ignore_ascii_case(&name));
    let Some((event, _)) = known else {
        // Not BAD, but NO [BADEVENT] (RFC 5465 §3.1).
        events.has_unknown = true;
        return Ok(());
    };
    events.set = events.set.with(*event);
    let mut items = tokens.clone();
    if *event == Event::MessageNew && items.take(b' ') && items.peek() == Some(b'(') {
        events.items = Some(fetch::parse_items(&mut items)?);
        *tokens = items;
    }
    Ok(())
}

/// RFC 5465 §5, §6.1: which events go together, and with which mailboxes.
fn check(filter: &Filter, events: &Events) -> Parsed<()> {
    if events.has_unknown {
        return Ok(());
    }
    let set = events.set;
    let new = set.has(Event::MessageNew);
    if new != set.has(Event::MessageExpunge) {
        return Err("MessageNew and MessageExpunge go together".into());
    }
    if set.has(Event::FlagChange) && !new {
        return Err("FlagChange needs MessageNew and MessageExpunge".into());
    }
    if filter.is_selected() && set.has_other_than_messages() {
        return Err("SELECTED is for events of messages only".into());
    }
    if !filter.is_selected() && events.items.is_some() {
        return Err("items of FETCH go with SELECTED and SELECTED-DELAYED only".into());
    }
    Ok(())
}
