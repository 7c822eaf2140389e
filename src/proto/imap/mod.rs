//! IMAP4rev1 and IMAP4rev2 (RFC 3501, RFC 9051), server side.

pub mod command;
pub mod frame;
pub mod names;
pub mod parse;
pub mod sets;
