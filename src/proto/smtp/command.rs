//! Command lines: the verb, and the grammar of the arguments (RFC 5321 §4.1).
//!
//! Guarantees: no allocation but for the address of a path; never a panic.
//! Does not know: which command is allowed when.
//! On failure: a [`SyntaxError`] that holds the reply.

use crate::mail::{AddressError, BodyType, EnhancedStatus, ForwardPath, Reply, ReversePath};

/// The verb of a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// RFC 5321 §4.1.1.1.
    Ehlo,
    /// RFC 5321 §4.1.1.1.
    Helo,
    /// RFC 2033 §4.1.
    Lhlo,
    /// RFC 5321 §4.1.1.2.
    Mail,
    /// RFC 5321 §4.1.1.3.
    Rcpt,
    /// RFC 5321 §4.1.1.4.
    Data,
    /// RFC 3030 §2.
    Bdat,
    /// RFC 5321 §4.1.1.5.
    Rset,
    /// RFC 5321 §4.1.1.6.
    Vrfy,
    /// RFC 5321 §4.1.1.7.
    Expn,
    /// RFC 5321 §4.1.1.8.
    Help,
    /// RFC 5321 §4.1.1.9.
    Noop,
    /// RFC 5321 §4.1.1.10.
    Quit,
    /// A method of HTTP: the peer is a browser that was sent here to attack us.
    Http,
    /// Anything else.
    Unknown,
}

/// Splits a line (without CRLF) into its verb and what follows the space behind it.
///
/// All our verbs have four letters: they are compared as one word, letters folded to lower case
/// (bit 5; no other character than its upper-case letter becomes a lower-case one by it).
pub fn parse_verb(line: &[u8]) -> (Verb, &[u8]) {
    let Some((word, rest)) = line.split_first_chunk::<4>() else {
        return (Verb::Unknown, &[]);
    };
    let verb = match &(u32::from_ne_bytes(*word) | 0x2020_2020).to_ne_bytes() {
        b"rcpt" => Verb::Rcpt,
        b"mail" => Verb::Mail,
        b"data" => Verb::Data,
        b"ehlo" => Verb::Ehlo,
        b"quit" => Verb::Quit,
        b"lhlo" => Verb::Lhlo,
        b"bdat" => Verb::Bdat,
        b"rset" => Verb::Rset,
        b"helo" => Verb::Helo,
        b"noop" => Verb::Noop,
        b"vrfy" => Verb::Vrfy,
        b"expn" => Verb::Expn,
        b"help" => Verb::Help,
        _ if is_http(line) => return (Verb::Http, &[]),
        _ => return (Verb::Unknown, &[]),
    };
    match rest {
        [] => (verb, &[]),
        // RFC 5321 §4.1.1: trailing white space is to be tolerated.
        [b' ', arguments @ ..] => (verb, arguments.trim_ascii_end()),
        _ => (Verb::Unknown, &[]),
    }
}

fn is_http(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] = [
        b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"DELETE", b"PATCH", b"TRACE",
    ];
    let word = line.split(|byte| *byte == b' ').next().unwrap_or(line);
    METHODS
        .iter()
        .any(|method| word.eq_ignore_ascii_case(method))
}

/// The parameters of MAIL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// RFC 1870 §3, bytes.
    pub declared_bytes: Option<u64>,
    /// RFC 6152, RFC 3030 §3.
    pub body_type: Option<BodyType>,
    /// RFC 6531 §3.4.
    pub smtputf8: bool,
}

/// What is wrong with the arguments of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyntaxError {
    /// Not what the command wants: its form.
    Usage(&'static str),
    /// The line is not UTF-8.
    NotUtf8,
    /// The reverse path of MAIL is wrong.
    Sender(AddressError),
    /// The forward path of RCPT is wrong.
    Recipient(AddressError),
    /// A parameter that no announced extension defines.
    ParameterUnknown,
    /// A parameter stands twice.
    ParameterTwice,
    /// A parameter's value is not as its extension wants it.
    ParameterValue(&'static str),
}

impl SyntaxError {
    /// The reply that says so.
    pub fn reply(&self) -> Reply {
        match *self {
            SyntaxError::Usage(usage) => {
                Reply::new(501, EnhancedStatus(5, 5, 4), format!("Syntax: {usage}"))
            }
            SyntaxError::NotUtf8 => {
                Reply::new(501, EnhancedStatus(5, 5, 2), "Not UTF-8 (RFC 6531)")
            }
            SyntaxError::Sender(error) => Reply::new(
                501,
                EnhancedStatus(5, 1, 7),
                format!("Bad sender address: {error}"),
            ),
            SyntaxError::Recipient(error) => Reply::new(
                501,
                EnhancedStatus(5, 1, 3),
                format!("Bad recipient address: {error}"),
            ),
            SyntaxError::ParameterUnknown => Reply::new(
                555,
                EnhancedStatus(5, 5, 4),
                "Parameter not known; EHLO lists what is",
            ),
            SyntaxError::ParameterTwice => {
                Reply::new(501, EnhancedStatus(5, 5, 4), "Parameter given twice")
            }
            SyntaxError::ParameterValue(allowed) => Reply::new(
                501,
                EnhancedStatus(5, 5, 4),
                format!("Bad parameter value: {allowed}"),
            ),
        }
    }
}

/// Parses the arguments of MAIL.
///
/// ```text
/// mail = "MAIL FROM:" Reverse-path [SP Mail-parameters] CRLF
/// ```
///
/// Spaces behind the colon are against the grammar, common, and harmless: they are read over.
///
/// # Errors
/// What is wrong, as a reply.
pub fn parse_mail(arguments: &[u8]) -> Result<(ReversePath, MailParameters), SyntaxError> {
    const USAGE: &str = "MAIL FROM:<address> [SIZE=n] [BODY=7BIT|8BITMIME|BINARYMIME] [SMTPUTF8]";
    let text = after_keyword(arguments, b"FROM:", USAGE)?;
    let (path, rest) = ReversePath::parse_prefix(text).map_err(SyntaxError::Sender)?;
    let parameters = if rest.is_empty() {
        MailParameters::default()
    } else {
        parse_mail_parameters(separated(rest, USAGE)?)?
    };
    Ok((path, parameters))
}

/// Parses the arguments of RCPT.
///
/// ```text
/// rcpt = "RCPT TO:" ( "<Postmaster@" Domain ">" / "<Postmaster>" / Forward-path )
///        [SP Rcpt-parameters] CRLF
/// ```
///
/// No extension that we announce has a parameter here.
///
/// # Errors
/// What is wrong, as a reply.
pub fn parse_rcpt(arguments: &[u8]) -> Result<ForwardPath, SyntaxError> {
    const USAGE: &str = "RCPT TO:<address>";
    let text = after_keyword(arguments, b"TO:", USAGE)?;
    let (path, rest) = ForwardPath::parse_prefix(text).map_err(SyntaxError::Recipient)?;
    if rest.is_empty() {
        return Ok(path);
    }
    separated(rest, USAGE)?;
    Err(SyntaxError::ParameterUnknown)
}

/// What stands behind `keyword`, as text.
fn after_keyword<'a>(
    arguments: &'a [u8],
    keyword: &[u8],
    usage: &'static str,
) -> Result<&'a str, SyntaxError> {
    match arguments.split_at_checked(keyword.len()) {
        Some((head, rest)) if head.eq_ignore_ascii_case(keyword) => std::str::from_utf8(rest)
            .map(|text| text.trim_start_matches(' '))
            .map_err(|_| SyntaxError::NotUtf8),
        _ => Err(SyntaxError::Usage(usage)),
    }
}

/// What stands behind a space.
fn separated<'a>(rest: &'a str, usage: &'static str) -> Result<&'a str, SyntaxError> {
    rest.strip_prefix(' ').ok_or(SyntaxError::Usage(usage))
}

/// ```text
/// Mail-parameters = esmtp-param *(SP esmtp-param)
/// esmtp-param     = esmtp-keyword ["=" esmtp-value]
/// ```
fn parse_mail_parameters(text: &str) -> Result<MailParameters, SyntaxError> {
    let mut parameters = MailParameters::default();
    for parameter in text.split(' ').filter(|parameter| !parameter.is_empty()) {
        let (keyword, value) = match parameter.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (parameter, None),
        };
        if keyword.eq_ignore_ascii_case("SIZE") {
            set_once(&mut parameters.declared_bytes, parse_size(value)?)?;
        } else if keyword.eq_ignore_ascii_case("BODY") {
            set_once(&mut parameters.body_type, parse_body_type(value)?)?;
        } else if keyword.eq_ignore_ascii_case("SMTPUTF8") {
            if value.is_some() {
                return Err(SyntaxError::ParameterValue("SMTPUTF8 has none"));
            }
            if std::mem::replace(&mut parameters.smtputf8, true) {
                return Err(SyntaxError::ParameterTwice);
            }
        } else {
            return Err(SyntaxError::ParameterUnknown);
        }
    }
    Ok(parameters)
}

fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), SyntaxError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(SyntaxError::ParameterTwice),
    }
}

/// ```text
/// size-value = 1*20DIGIT
/// ```
fn parse_size(value: Option<&str>) -> Result<u64, SyntaxError> {
    let digits = value.unwrap_or("");
    parse_number(digits.as_bytes()).ok_or(SyntaxError::ParameterValue("SIZE=bytes"))
}

/// 1 to 20 digits; what 64 bits cannot hold counts as their greatest, which is over any bound.
fn parse_number(digits: &[u8]) -> Option<u64> {
    if !(1..=20).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0u64, |number, digit| {
        number
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    }))
}

/// ```text
/// body-value = "7BIT" / "8BITMIME" / "BINARYMIME"
/// ```
fn parse_body_type(value: Option<&str>) -> Result<BodyType, SyntaxError> {
    let value = value.unwrap_or("");
    if value.eq_ignore_ascii_case("8BITMIME") {
        Ok(BodyType::EightBitMime)
    } else if value.eq_ignore_ascii_case("7BIT") {
        Ok(BodyType::SevenBit)
    } else if value.eq_ignore_ascii_case("BINARYMIME") {
        Ok(BodyType::BinaryMime)
    } else {
        Err(SyntaxError::ParameterValue(
            "BODY=7BIT, 8BITMIME or BINARYMIME",
        ))
    }
}

/// Parses the arguments of BDAT: octets, and whether these are the last.
///
/// ```text
/// bdat-cmd   = "BDAT" SP chunk-size [ SP end-marker ] CR LF
/// chunk-size = 1*DIGIT
/// end-marker = "LAST"
/// ```
///
/// # Errors
/// What is wrong, as a reply.
pub fn parse_bdat(arguments: &[u8]) -> Result<(u64, bool), SyntaxError> {
    const USAGE: SyntaxError = SyntaxError::Usage("BDAT octets [LAST]");
    let mut words = arguments.splitn(2, |byte| *byte == b' ');
    let octets = words.next().and_then(parse_number).ok_or(USAGE)?;
    match words.next() {
        None => Ok((octets, false)),
        Some(word) if word.eq_ignore_ascii_case(b"LAST") => Ok((octets, true)),
        Some(_) => Err(USAGE),
    }
}

/// Checks the name given in HELO, EHLO or LHLO: a domain, an address literal, or what machines
/// without a proper name say. It only goes into trace headers and logs, so that all that matters
/// is that it cannot be taken for something else there. Not yet knowing our extensions, the client
/// has to use A-labels (RFC 6531 §3.7.1).
///
/// ```text
/// ehlo = "EHLO" SP ( Domain / address-literal ) CRLF
/// ```
///
/// # Errors
/// What is wrong, as a reply.
pub fn parse_client_name(arguments: &[u8]) -> Result<&str, SyntaxError> {
    const USAGE: SyntaxError = SyntaxError::Usage("EHLO, HELO or LHLO, then your host name");
    let name = std::str::from_utf8(arguments).map_err(|_| SyntaxError::NotUtf8)?;
    let allowed = |found: char| {
        found.is_ascii_alphanumeric() || matches!(found, '.' | '-' | '_' | ':' | '[' | ']')
    };
    let fits = (1..=crate::limits::DOMAIN_BYTES_MAX).contains(&name.len());
    if fits && name.chars().all(allowed) {
        Ok(name)
    } else {
        Err(USAGE)
    }
}
