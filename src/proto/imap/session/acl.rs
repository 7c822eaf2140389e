//! SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS (RFC 4314 §3).

use super::super::command::AccessCommand;
use super::super::rights::ANYONE;
use super::super::{Access, AccessChange, Answer, Ask, Refusal, Rights, names, write};
use super::finish::{Finish, SyncMode};
use super::{Context, Turn, login};

/// One of these that runs.
pub(super) struct Acl {
    response: Response,
    next: Next,
}

/// What is said of the answer, about which mailbox.
enum Response {
    Nothing,
    List(String),
    Rights(String),
    Mine(String),
}

enum Next {
    Ask(Ask),
    Asked,
    Done(Finish),
}

impl Acl {
    pub(super) fn new(command: AccessCommand, context: &Context<'_>) -> Result<Acl, Finish> {
        let decode = |raw: &[u8]| {
            names::decode(raw, context.enabled.utf8)
                .map_err(|error| Finish::no("CANNOT", error.to_string()))
        };
        let name = decode(&command.name)?;
        let whom = match &command.whom {
            Some(whom) => identifier(whom, context)?,
            None => String::new(),
        };
        let (response, access) = match command.verb {
            "SETACL" => {
                let how = parse_change(&command.rights)?;
                (Response::Nothing, Access::Set { name, whom, how })
            }
            "DELETEACL" => (Response::Nothing, Access::Delete { name, whom }),
            "GETACL" => (Response::List(name.clone()), Access::Get { name }),
            "LISTRIGHTS" => (Response::Rights(name.clone()), Access::List { name, whom }),
            _ => (Response::Mine(name.clone()), Access::Mine { name }),
        };
        Ok(Acl {
            response,
            next: Next::Ask(Ask::Access(access)),
        })
    }

    pub(super) fn go(&mut self) -> Turn {
        match std::mem::replace(&mut self.next, Next::Asked) {
            Next::Ask(ask) => Turn::Ask(ask),
            Next::Asked => Turn::Finish(Finish::confused()),
            Next::Done(finish) => Turn::Finish(finish),
        }
    }

    pub(super) fn answer(&mut self, answer: Answer, context: &Context<'_>, out: &mut Vec<u8>) {
        let finish = match answer {
            Answer::Access(Ok(list)) => {
                self.write(&list, context.enabled.utf8, out);
                Finish::ok()
            }
            Answer::Done(Ok(())) => Finish::ok(),
            Answer::Access(Err(refusal)) | Answer::Done(Err(refusal)) => {
                Finish::refused(refusal, false)
            }
            _ => Finish::confused(),
        };
        self.next = Next::Done(finish.with_sync(SyncMode::Whole));
    }

    /// ```text
    /// acl-data        = "ACL" SP mailbox *(SP identifier SP rights)
    /// listrights-data = "LISTRIGHTS" SP mailbox SP identifier SP rights *(SP rights)
    /// myrights-data   = "MYRIGHTS" SP mailbox SP rights
    /// ```
    fn write(&self, list: &[(String, Rights)], utf8: bool, out: &mut Vec<u8>) {
        let (response, name): (&[u8], &str) = match &self.response {
            Response::Nothing => return,
            Response::List(name) => (b"* ACL ", name),
            Response::Rights(name) => (b"* LISTRIGHTS ", name),
            Response::Mine(name) => (b"* MYRIGHTS ", name),
        };
        out.extend_from_slice(response);
        names::write(name, utf8, out);
        for (whom, rights) in list {
            out.push(b' ');
            match &self.response {
                Response::Mine(_) => out.extend_from_slice(rights.with_obsolete().as_bytes()),
                Response::Rights(_) => {
                    write::quoted(whom, out);
                    out.push(b' ');
                    // What they have always, and then each that may be granted by itself.
                    write::quoted(&rights.to_string(), out);
                    for right in Rights::ALL.without(*rights).each() {
                        out.extend_from_slice(format!(" {right}").as_bytes());
                    }
                }
                _ => {
                    write::quoted(whom, out);
                    out.push(b' ');
                    out.extend_from_slice(rights.with_obsolete().as_bytes());
                }
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// `anyone` or the canonical address of an account; with `-` in front, what is taken from them
/// (RFC 4314 §2).
fn identifier(raw: &[u8], context: &Context<'_>) -> Result<String, Finish> {
    let no_such = || Finish::refused(Refusal::Cannot("there is no such user".to_owned()), false);
    let text = std::str::from_utf8(raw).map_err(|_| no_such())?;
    let (minus, name) = match text.strip_prefix('-') {
        Some(name) => ("-", name),
        None => ("", text),
    };
    if name == ANYONE {
        return Ok(text.to_owned());
    }
    let name = login::canonical(name, context.settings).ok_or_else(no_such)?;
    Ok(format!("{minus}{name}"))
}

/// `mod-rights = ["+" / "-"] rights`
fn parse_change(raw: &[u8]) -> Result<AccessChange, Finish> {
    let text = std::str::from_utf8(raw).unwrap_or("?");
    let (letters, change): (&str, fn(Rights) -> AccessChange) =
        match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(letters), _) => (letters, AccessChange::Add),
            (None, Some(letters)) => (letters, AccessChange::Remove),
            (None, None) => (text, AccessChange::Replace),
        };
    match Rights::parse(letters) {
        Ok(rights) => Ok(change(rights)),
        Err(_) => Err(Finish::bad(format!(
            "rights here are {}, and c and d for some of them",
            Rights::ALL
        ))),
    }
}
