//! Addresses and their grammar (RFC 5321 §4.1.2, RFC 6531 §3.3).
//!
//! Guarantees: what parses is within the bounds of `limits`, holds no control character, and has
//! one canonical spelling, so that comparing texts compares addresses; an internationalized domain
//! is its A-labels, however it was written. Whether non-ASCII is allowed is the caller's question.
//! Does not know: which domains are ours, what an account is.
//! On failure: an [`AddressError`] that says which part is wrong and what is allowed.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use unicode_normalization::UnicodeNormalization;

use crate::limits::{DOMAIN_BYTES_MAX, LOCAL_PART_BYTES_MAX};

/// Bytes of one label of a domain (RFC 1035 §2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// `local-part@domain` in canonical form: the domain in lower case and ASCII (U-labels as their
/// A-labels, RFC 5890 §2.3.2.1), the local part with needless quoting removed. Local parts of our own
/// accounts are compared without regard to ASCII case and normalized: [`Address::account_key`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    text: Box<str>,
    at_index: u16,
}

impl Address {
    /// Parses `local-part@domain`, quoted local parts and address literals included.
    ///
    /// # Errors
    /// Says which part is wrong and what is allowed.
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        let (address, rest) = Address::parse_prefix(text)?;
        match rest.chars().next() {
            None => Ok(address),
            Some(found) => Err(AddressError::DomainCharacter(found)),
        }
    }

    /// Parses the address that `text` starts with; the second value is what follows it.
    ///
    /// ```text
    /// Mailbox = Local-part "@" ( Domain / address-literal )
    /// ```
    pub(super) fn parse_prefix(text: &str) -> Result<(Address, &str), AddressError> {
        let (local_part, rest) = if text.starts_with('"') {
            parse_quoted_string(text)?
        } else {
            let (atoms, rest) = parse_dot_string(text)?;
            (Cow::Borrowed(atoms), rest)
        };
        if local_part.len() > LOCAL_PART_BYTES_MAX {
            return Err(AddressError::LocalPartTooLong);
        }
        let Some(rest) = rest.strip_prefix('@') else {
            return Err(match rest.chars().next() {
                None | Some('>') => AddressError::NoDomain,
                Some(found) => AddressError::LocalPartCharacter(found),
            });
        };
        let (domain, rest) = if rest.starts_with('[') {
            let (literal, rest) = parse_literal(rest)?;
            (Cow::Owned(literal), rest)
        } else {
            parse_domain(rest)?
        };
        let mut joined = String::with_capacity(local_part.len() + 1 + domain.len());
        joined.push_str(&local_part);
        joined.push('@');
        joined.push_str(&domain);
        if !domain.starts_with('[') {
            joined[local_part.len()..].make_ascii_lowercase();
        }
        let at_index = local_part.len() as u16;
        Ok((
            Address {
                text: joined.into_boxed_str(),
                at_index,
            },
            rest,
        ))
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the `@`, quoting as in canonical form.
    pub fn local_part(&self) -> &str {
        &self.text[..usize::from(self.at_index)]
    }

    /// What stands behind the `@`.
    pub fn domain(&self) -> &str {
        &self.text[usize::from(self.at_index) + 1..]
    }

    /// The form under which accounts are kept: all ASCII letters in lower case, and what a keyboard
    /// may spell in two ways (`é` as one character, or as `e` and an accent) in one: normalization
    /// form C, as RFC 6532 §3.1 wants it. What goes out to others stays as it was spelled.
    pub fn account_key(&self) -> Address {
        if !self.text.is_ascii()
            && let Some(normal) = self.normalized()
        {
            return normal;
        }
        Address {
            text: self.text.to_ascii_lowercase().into(),
            at_index: self.at_index,
        }
    }

    /// Normalized and in lower case; `None` where that would be no address: a few characters become
    /// ones that cannot stand in it (U+037E is a `;`), or are longer than they were.
    fn normalized(&self) -> Option<Address> {
        let mut local_part: String = self.local_part().nfc().collect();
        local_part.make_ascii_lowercase();
        // A small `j` and its caron are one character, a capital one and its caron are two.
        let local_part: String = local_part.nfc().collect();
        Address::parse(&format!("{local_part}@{}", self.domain())).ok()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text)
    }
}

impl std::str::FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Address, AddressError> {
        Address::parse(text)
    }
}

/// Why something is not an address or a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@domain`.
    #[error("no domain: an address is local-part@domain")]
    NoDomain,
    /// Nothing stands before the `@`.
    #[error("nothing before the @: an address is local-part@domain")]
    NoLocalPart,
    /// A dot at the start or end, or two in a row.
    #[error("a dot must stand between two characters of the local part, or the part be quoted")]
    LocalPartDots,
    /// This cannot stand in a local part.
    #[error("{} is not allowed in a local part unless quoted", shown(*.0))]
    LocalPartCharacter(char),
    /// A quoted local part has no closing quote.
    #[error("the quoted local part has no closing quote")]
    QuoteOpen,
    /// This cannot stand in a quoted local part.
    #[error("{} is not allowed in a quoted local part", shown(*.0))]
    QuotedCharacter(char),
    /// Over `limits::LOCAL_PART_BYTES_MAX`.
    #[error("local part too long: at most {LOCAL_PART_BYTES_MAX} bytes")]
    LocalPartTooLong,
    /// This cannot stand in a domain.
    #[error("{} is not allowed in a domain", shown(*.0))]
    DomainCharacter(char),
    /// Beyond ASCII, and nothing that a domain can be.
    #[error("not an internationalized domain name (RFC 5890)")]
    DomainInternational,
    /// A label is empty, too long, or has a hyphen at an end.
    #[error("each label of a domain has 1 to {LABEL_BYTES_MAX} bytes and no hyphen at its ends")]
    DomainLabel,
    /// Over `limits::DOMAIN_BYTES_MAX`.
    #[error("domain too long: at most {DOMAIN_BYTES_MAX} bytes")]
    DomainTooLong,
    /// Between brackets stands no IP address.
    #[error("not an address literal: [192.0.2.1] or [IPv6:2001:db8::1]")]
    Literal,
    /// A path is not between `<` and `>`.
    #[error("a path stands between < and >")]
    Brackets,
    /// A source route is not `@domain,@domain:`.
    #[error("not a source route: <@domain,@domain:local-part@domain>")]
    Route,
    /// `<>` where a recipient is needed.
    #[error("the null path cannot receive mail")]
    NullRecipient,
}

/// A character as it may stand in a reply: printable ASCII or escaped.
fn shown(found: char) -> String {
    match found {
        ' ' => "a space".to_owned(),
        _ => found.escape_default().to_string(),
    }
}

/// Kinds of ASCII characters, by bit; bytes from 128 on are checked as characters.
const ATEXT: u8 = 1;
const LETTER_DIGIT: u8 = 2;
static CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let b = byte as u8;
        if b.is_ascii_alphanumeric() {
            class[byte] = ATEXT | LETTER_DIGIT;
        }
        byte += 1;
    }
    // RFC 5322 §3.2.3.
    let specials = b"!#$%&'*+-/=?^_`{|}~";
    let mut i = 0;
    while i < specials.len() {
        class[specials[i] as usize] |= ATEXT;
        i += 1;
    }
    class
};

fn is(byte: u8, class: u8) -> bool {
    CLASS[usize::from(byte)] & class != 0
}

/// A non-ASCII character that may stand in an address: no control or space in disguise.
fn is_utf8_text(found: char) -> bool {
    !found.is_ascii() && !found.is_control() && !found.is_whitespace()
}

/// The character at `index`, which is the start of one within `text`.
fn char_at(text: &str, index: usize) -> Option<char> {
    text[index..].chars().next()
}

/// ```text
/// Dot-string = Atom *("." Atom)
/// Atom       = 1*atext          ; RFC 6531 adds UTF8-non-ascii
/// ```
fn parse_dot_string(text: &str) -> Result<(&str, &str), AddressError> {
    let bytes = text.as_bytes();
    let mut index = 0;
    let mut after_dot = true;
    while let Some(&byte) = bytes.get(index) {
        if is(byte, ATEXT) {
            after_dot = false;
            index += 1;
        } else if byte == b'.' {
            if after_dot {
                return Err(AddressError::LocalPartDots);
            }
            after_dot = true;
            index += 1;
        } else if byte < 128 {
            break;
        } else {
            match char_at(text, index) {
                Some(found) if is_utf8_text(found) => index += found.len_utf8(),
                Some(found) => return Err(AddressError::LocalPartCharacter(found)),
                None => break,
            }
            after_dot = false;
        }
        if index > LOCAL_PART_BYTES_MAX {
            return Err(AddressError::LocalPartTooLong);
        }
    }
    if index == 0 {
        return Err(match char_at(text, 0) {
            Some(found) if found != '@' && found != '>' => AddressError::LocalPartCharacter(found),
            _ => AddressError::NoLocalPart,
        });
    }
    if after_dot {
        return Err(AddressError::LocalPartDots);
    }
    Ok((&text[..index], &text[index..]))
}

/// ```text
/// Quoted-string   = DQUOTE *QcontentSMTP DQUOTE
/// QcontentSMTP    = qtextSMTP / quoted-pairSMTP
/// quoted-pairSMTP = %d92 %d32-126
/// qtextSMTP       = %d32-33 / %d35-91 / %d93-126    ; RFC 6531 adds UTF8-non-ascii
/// ```
///
/// The canonical form quotes only what is no dot-string, and escapes only `"` and `\`.
fn parse_quoted_string(text: &str) -> Result<(Cow<'_, str>, &str), AddressError> {
    let mut content = String::new();
    let mut characters = text.char_indices();
    characters.next();
    let rest = loop {
        let found = match characters.next() {
            None => return Err(AddressError::QuoteOpen),
            Some((index, '"')) => break &text[index + 1..],
            Some((_, '\\')) => match characters.next() {
                None => return Err(AddressError::QuoteOpen),
                Some((_, found @ ' '..='~')) => found,
                Some((_, found)) => return Err(AddressError::QuotedCharacter(found)),
            },
            Some((_, found)) => found,
        };
        if !matches!(found, ' '..='~') && !is_utf8_text(found) {
            return Err(AddressError::QuotedCharacter(found));
        }
        content.push(found);
        if content.len() > LOCAL_PART_BYTES_MAX {
            return Err(AddressError::LocalPartTooLong);
        }
    };
    if let Ok((_, "")) = parse_dot_string(&content) {
        return Ok((Cow::Owned(content), rest));
    }
    let mut quoted = String::with_capacity(content.len() + 2);
    quoted.push('"');
    for found in content.chars() {
        if matches!(found, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(found);
    }
    quoted.push('"');
    Ok((Cow::Owned(quoted), rest))
}

/// ```text
/// Domain     = sub-domain *("." sub-domain)
/// sub-domain = Let-dig [Ldh-str]            ; RFC 6531 adds U-label
/// ```
///
/// ASCII letters stay as they are (the caller lowers them in its own copy); a domain with others
/// comes as its A-labels (UTS #46, not transitional, so that `ß` and `ss` are two names).
pub(super) fn parse_domain(text: &str) -> Result<(Cow<'_, str>, &str), AddressError> {
    let bytes = text.as_bytes();
    let mut index = 0;
    let mut label_start = 0;
    let mut ascii = true;
    while let Some(&byte) = bytes.get(index) {
        if is(byte, LETTER_DIGIT) || byte == b'-' {
            index += 1;
        } else if byte == b'.' {
            check_label(&bytes[label_start..index], ascii)?;
            index += 1;
            label_start = index;
        } else if byte < 128 {
            break;
        } else {
            match char_at(text, index) {
                Some(found) if is_utf8_text(found) => index += found.len_utf8(),
                Some(found) => return Err(AddressError::DomainCharacter(found)),
                None => break,
            }
            ascii = false;
        }
        if index > DOMAIN_BYTES_MAX {
            return Err(AddressError::DomainTooLong);
        }
    }
    if index == 0 {
        return Err(match char_at(text, 0) {
            Some(found) if found != '>' => AddressError::DomainCharacter(found),
            _ => AddressError::NoDomain,
        });
    }
    check_label(&bytes[label_start..index], ascii)?;
    let (domain, rest) = text.split_at(index);
    if ascii {
        return Ok((Cow::Borrowed(domain), rest));
    }
    // Widths and compatible forms of ASCII characters are mapped to these: STD3 refuses what then
    // cannot be in a domain, an `@` above all.
    let mapped = Uts46::new().to_ascii(
        domain.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::CheckFirstLast,
        DnsLength::Verify,
    );
    match mapped {
        Ok(ascii) => Ok((Cow::Owned(ascii.into_owned()), rest)),
        Err(_) => Err(AddressError::DomainInternational),
    }
}

/// Only of ASCII is the length known here: that of an A-label comes out later.
fn check_label(label: &[u8], ascii: bool) -> Result<(), AddressError> {
    let bytes_max = if ascii {
        LABEL_BYTES_MAX
    } else {
        DOMAIN_BYTES_MAX
    };
    let ends_well = label.first() != Some(&b'-') && label.last() != Some(&b'-');
    if (1..=bytes_max).contains(&label.len()) && ends_well {
        Ok(())
    } else {
        Err(AddressError::DomainLabel)
    }
}

/// ```text
/// address-literal      = "[" ( IPv4-address-literal / IPv6-address-literal ) "]"
/// IPv6-address-literal = "IPv6:" IPv6-addr
/// ```
///
/// General-address-literal is left out: no other tag was ever registered.
fn parse_literal(text: &str) -> Result<(String, &str), AddressError> {
    // `[IPv6:` and the longest textual address, `]`.
    const LITERAL_BYTES_MAX: usize = 6 + 45 + 1;
    let end = text
        .bytes()
        .take(LITERAL_BYTES_MAX)
        .position(|byte| byte == b']')
        .ok_or(AddressError::Literal)?;
    let (inner, rest) = (&text[1..end], &text[end + 1..]);
    let literal = match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => {
            let address: Ipv6Addr = inner[5..].parse().map_err(|_| AddressError::Literal)?;
            format!("[IPv6:{address}]")
        }
        _ => {
            let address: Ipv4Addr = inner.parse().map_err(|_| AddressError::Literal)?;
            format!("[{address}]")
        }
    };
    Ok((literal, rest))
}

#[cfg(test)]
mod tests;
