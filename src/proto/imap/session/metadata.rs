//! GETMETADATA and SETMETADATA (RFC 5464).

use super::super::command::Command;
use super::super::metadata::{Entry, Values, Wanted};
use super::super::{Answer, Ask, names};
use super::finish::{Finish, SyncMode};
use super::{Context, Turn};
use crate::limits::ANNOTATION_BYTES_MAX;

/// One of these that runs.
pub(super) enum Metadata {
    /// GETMETADATA, to be asked.
    Get(Box<Get>),
    /// The ask is out.
    Getting(Box<Get>),
    /// The answer is on its way to the client.
    Telling(Values),
    /// SETMETADATA, to be asked.
    Set(Ask),
    /// The ask is out.
    Setting,
    /// To be answered.
    Done(Finish),
}

/// What a GETMETADATA wants.
pub(super) struct Get {
    mailbox: Option<String>,
    wanted: Wanted,
    size_max: Option<u64>,
}

/// Starts one of these commands.
pub(super) fn begin(command: Command, context: &Context<'_>) -> Result<Metadata, Finish> {
    let utf8 = context.enabled.utf8;
    // An empty name stands for the server.
    let decode = |raw: &[u8]| match raw {
        b"" => Ok(None),
        raw => match names::decode(raw, utf8) {
            Ok(name) => Ok(Some(name)),
            Err(error) => Err(Finish::no("CANNOT", error.to_string())),
        },
    };
    match command {
        Command::GetMetadata(get) => Ok(Metadata::Get(Box::new(Get {
            mailbox: decode(&get.mailbox)?,
            wanted: get.wanted,
            size_max: get.size_max,
        }))),
        Command::SetMetadata { mailbox, values } => {
            let mailbox = decode(&mailbox)?;
            let is_long = |value: &Option<Vec<u8>>| {
                let bytes = value.as_ref().map_or(0, Vec::len);
                bytes > ANNOTATION_BYTES_MAX
            };
            if values.iter().any(|(_, value)| is_long(value)) {
                return Err(too_long());
            }
            // RFC 5464 §3.3: the server's own are for all to read.
            let is_shared = |entry: &Entry| !entry.is_private();
            if mailbox.is_none() && values.iter().any(|(entry, _)| is_shared(entry)) {
                let text = "shared annotations of the server are read-only";
                return Err(Finish::no("NOPERM", text));
            }
            Ok(Metadata::Set(Ask::Annotate { mailbox, values }))
        }
        _ => Err(Finish::confused()),
    }
}

/// RFC 5464 §4.3: a value that is too long.
pub(super) fn too_long() -> Finish {
    let code = format!("METADATA MAXSIZE {ANNOTATION_BYTES_MAX}");
    Finish::no(code, "a value is too long")
}

impl Metadata {
    pub(super) fn go(&mut self, context: &Context<'_>, out: &mut Vec<u8>) -> Turn {
        match std::mem::replace(self, Metadata::Setting) {
            Metadata::Get(get) => {
                let ask = Ask::Annotations {
                    mailbox: get.mailbox.clone(),
                    wanted: get.wanted.clone(),
                };
                *self = Metadata::Getting(get);
                Turn::Ask(ask)
            }
            Metadata::Telling(mut values) => {
                if !values.write(context.enabled.utf8, out) {
                    *self = Metadata::Telling(values);
                    return Turn::Drain;
                }
                let finish = match values.longest {
                    Some(bytes) => Finish::ok_with(format!("METADATA LONGENTRIES {bytes}")),
                    None => Finish::ok(),
                };
                Turn::Finish(finish.with_sync(SyncMode::Whole))
            }
            Metadata::Set(ask) => Turn::Ask(ask),
            Metadata::Done(finish) => Turn::Finish(finish),
            Metadata::Getting(_) | Metadata::Setting => Turn::Finish(Finish::confused()),
        }
    }

    pub(super) fn answer(&mut self, answer: Answer) {
        *self = match (std::mem::replace(self, Metadata::Setting), answer) {
            (Metadata::Getting(get), Answer::Annotations(Ok(found))) => {
                let Get {
                    mailbox,
                    wanted,
                    size_max,
                } = *get;
                Metadata::Telling(Values::new(mailbox, &wanted, found, size_max))
            }
            (Metadata::Setting, Answer::Done(Ok(()))) => {
                Metadata::Done(Finish::ok().with_sync(SyncMode::Whole))
            }
            (_, Answer::Annotations(Err(refusal)) | Answer::Done(Err(refusal))) => {
                let finish = Finish::refused(refusal, false);
                Metadata::Done(finish.with_sync(SyncMode::Whole))
            }
            _ => Metadata::Done(Finish::confused()),
        };
    }
}
