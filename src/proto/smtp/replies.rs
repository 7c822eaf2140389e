//! The replies that are always the same, as they go over the wire (RFC 5321 §4.2.3, RFC 3463).

use crate::mail::{EnhancedStatus, Reply};

pub(super) const OK: &[u8] = b"250 2.0.0 OK\r\n";
pub(super) const SENDER_OK: &[u8] = b"250 2.1.0 Sender OK\r\n";
pub(super) const RECIPIENT_OK: &[u8] = b"250 2.1.5 Recipient OK\r\n";
pub(super) const GO_AHEAD: &[u8] = b"354 End data with <CR><LF>.<CR><LF>\r\n";
pub(super) const BYE: &[u8] = b"221 2.0.0 Bye\r\n";
pub(super) const CANNOT_VERIFY: &[u8] =
    b"252 2.5.0 Cannot verify, but will take mail and try to deliver it\r\n";

pub(super) const LINE_TOO_LONG: &[u8] = b"500 5.5.2 Line too long\r\n";
pub(super) const LINE_ENDLESS: &[u8] = b"500 5.5.2 Line too long, and no end of it; closing\r\n";
pub(super) const BARE_CR: &[u8] =
    b"500 5.5.2 CR without LF in a command; lines end with CRLF (RFC 5321 2.3.8)\r\n";
pub(super) const BARE_LF: &[u8] =
    b"500 5.5.2 LF without CR; lines end with CRLF (RFC 5321 2.3.8); closing\r\n";
pub(super) const UNKNOWN: &[u8] = b"500 5.5.1 Command unknown; HELP lists those known\r\n";
pub(super) const NOT_HTTP: &[u8] = b"554 5.5.1 This is not HTTP\r\n";
pub(super) const WRONG_DIALECT_SMTP: &[u8] = b"500 5.5.1 This is SMTP: say EHLO\r\n";
pub(super) const WRONG_DIALECT_LMTP: &[u8] = b"500 5.5.1 This is LMTP: say LHLO\r\n";
pub(super) const NO_ARGUMENTS: &[u8] = b"501 5.5.4 Syntax: this command has no arguments\r\n";
pub(super) const NAME_NEEDED: &[u8] = b"501 5.5.4 Syntax: VRFY name\r\n";
pub(super) const NOT_IMPLEMENTED: &[u8] = b"502 5.5.1 Lists are not expanded here\r\n";
pub(super) const HELLO_FIRST: &[u8] = b"503 5.5.1 Say EHLO, HELO or LHLO first\r\n";
pub(super) const MAIL_NESTED: &[u8] = b"503 5.5.1 MAIL was given already; RSET gives it up\r\n";
pub(super) const MAIL_FIRST: &[u8] = b"503 5.5.1 MAIL first\r\n";
pub(super) const RCPT_FIRST: &[u8] = b"503 5.5.1 RCPT first\r\n";
pub(super) const NO_RECIPIENTS: &[u8] = b"554 5.5.1 No valid recipients\r\n";
pub(super) const BDAT_BEGUN: &[u8] = b"503 5.5.1 BDAT has begun: go on with it, or RSET\r\n";
pub(super) const BINARY_NEEDS_BDAT: &[u8] =
    b"503 5.5.1 BODY=BINARYMIME needs BDAT (RFC 3030 3)\r\n";
pub(super) const TOO_LARGE: &[u8] = b"552 5.3.4 Message over the size that SIZE announces\r\n";
pub(super) const UTF8_NEEDED: &[u8] =
    b"553 5.6.7 An address that is not ASCII needs SMTPUTF8 in MAIL (RFC 6531)\r\n";
pub(super) const RECIPIENTS_FULL: &[u8] =
    b"452 4.5.3 Too many recipients: send these, then the rest\r\n";

pub(super) const MESSAGES_FULL: &[u8] =
    b"421 4.7.0 Enough messages for one connection: connect again for more\r\n";
pub(super) const ERRORS_FULL: &[u8] = b"421 4.7.0 Too many bad commands in a row; closing\r\n";
pub(super) const REFUSALS_FULL: &[u8] = b"421 4.7.0 Too many recipients refused; closing\r\n";
pub(super) const SHUTDOWN: &[u8] = b"421 4.3.2 Server is going down; try again later\r\n";
pub(super) const TIMEOUT: &[u8] = b"421 4.4.2 Nothing came for too long; closing\r\n";
pub(super) const CONFUSED: &[u8] = b"421 4.3.0 Internal error; try again later\r\n";

/// The body had a CR or LF by itself.
pub(super) fn bare_line_end() -> Reply {
    Reply::new(
        550,
        EnhancedStatus(5, 6, 0),
        "CR or LF by itself in the message; lines end with CRLF (RFC 5321 2.3.8)",
    )
}

/// The body turned out larger than announced.
pub(super) fn message_too_large() -> Reply {
    Reply::new(
        552,
        EnhancedStatus(5, 3, 4),
        "Message over the size that SIZE announces",
    )
}

/// The shard's memory is at its bound.
pub(super) fn memory_short() -> Reply {
    Reply::new(452, EnhancedStatus(4, 3, 1), "Too busy, try again later")
}

/// The header shows a loop (RFC 5321 §6.3).
pub(super) fn too_many_hops() -> Reply {
    Reply::new(
        554,
        EnhancedStatus(5, 4, 6),
        "Too many Received fields: the message loops",
    )
}

/// The shard answered for fewer recipients than there were.
pub(super) fn unanswered() -> Reply {
    Reply::new(
        451,
        EnhancedStatus(4, 3, 0),
        "Internal error; try again later",
    )
}
