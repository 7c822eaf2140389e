//! The paths of an envelope: `MAIL FROM:<...>`, `RCPT TO:<...>` (RFC 5321 §4.1.2, §4.1.1.3).
//!
//! Guarantees: a parsed path holds an address that stands on its own; source routes are read over
//! and dropped (RFC 5321 appendix C).
//! On failure: an [`AddressError`] with what is allowed.

use std::fmt;

use super::address::{Address, AddressError, parse_domain};

/// `MAIL FROM`: who is told of failures. `Null` is `<>`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ReversePath {
    /// `<>`: nobody is told (RFC 5321 §4.5.5).
    #[default]
    Null,
    /// An address.
    Address(Address),
}

/// `RCPT TO`: whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardPath {
    /// `<Postmaster>` without a domain (RFC 5321 §4.1.1.3), in any case of letters.
    Postmaster,
    /// An address.
    Address(Address),
}

impl ForwardPath {
    /// Bytes of memory that it takes, where it is kept in a list.
    pub fn memory_bytes(&self) -> usize {
        let text = match self {
            ForwardPath::Postmaster => 0,
            ForwardPath::Address(address) => address.as_str().len(),
        };
        size_of::<ForwardPath>() + text
    }
}

impl ReversePath {
    /// Parses the path that `text` starts with; the second value is what follows it.
    ///
    /// ```text
    /// Reverse-path = Path / "<>"
    /// ```
    ///
    /// # Errors
    /// Says which part is wrong and what is allowed.
    pub fn parse_prefix(text: &str) -> Result<(ReversePath, &str), AddressError> {
        if let Some(rest) = text.strip_prefix("<>") {
            return Ok((ReversePath::Null, rest));
        }
        let (address, rest) = parse_path(text)?;
        Ok((ReversePath::Address(address), rest))
    }

    /// The address, if there is one.
    pub fn address(&self) -> Option<&Address> {
        match self {
            ReversePath::Null => None,
            ReversePath::Address(address) => Some(address),
        }
    }

    /// What stands between `<` and `>`.
    pub fn as_str(&self) -> &str {
        self.address().map_or("", Address::as_str)
    }
}

impl ForwardPath {
    /// Parses the path that `text` starts with; the second value is what follows it.
    ///
    /// ```text
    /// Forward-path = Path / "<Postmaster>"      ; in any case of letters
    /// ```
    ///
    /// # Errors
    /// Says which part is wrong and what is allowed.
    pub fn parse_prefix(text: &str) -> Result<(ForwardPath, &str), AddressError> {
        const POSTMASTER: &str = "<Postmaster>";
        if let Some((head, rest)) = text.split_at_checked(POSTMASTER.len())
            && head.eq_ignore_ascii_case(POSTMASTER)
        {
            return Ok((ForwardPath::Postmaster, rest));
        }
        if text.starts_with("<>") {
            return Err(AddressError::NullRecipient);
        }
        let (address, rest) = parse_path(text)?;
        Ok((ForwardPath::Address(address), rest))
    }

    /// What stands between `<` and `>`.
    pub fn as_str(&self) -> &str {
        match self {
            ForwardPath::Postmaster => "Postmaster",
            ForwardPath::Address(address) => address.as_str(),
        }
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.as_str())
    }
}

impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.as_str())
    }
}

/// ```text
/// Path         = "<" [ A-d-l ":" ] Mailbox ">"
/// A-d-l        = At-domain *( "," At-domain )
/// At-domain    = "@" Domain
/// ```
fn parse_path(text: &str) -> Result<(Address, &str), AddressError> {
    let mut inner = text.strip_prefix('<').ok_or(AddressError::Brackets)?;
    if inner.starts_with('@') {
        inner = skip_route(inner)?;
    }
    let (address, rest) = Address::parse_prefix(inner)?;
    match rest.strip_prefix('>') {
        Some(rest) => Ok((address, rest)),
        None => Err(rest
            .chars()
            .next()
            .map_or(AddressError::Brackets, AddressError::DomainCharacter)),
    }
}

/// Reads over `@a,@b:`. The command line's own bound is the bound of a route.
fn skip_route(mut text: &str) -> Result<&str, AddressError> {
    loop {
        let hop = text.strip_prefix('@').ok_or(AddressError::Route)?;
        let (_, rest) = parse_domain(hop).map_err(|_| AddressError::Route)?;
        if let Some(rest) = rest.strip_prefix(':') {
            return Ok(rest);
        }
        text = rest.strip_prefix(',').ok_or(AddressError::Route)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_for_senders_only() {
        assert_eq!(
            ReversePath::parse_prefix("<> SIZE=1"),
            Ok((ReversePath::Null, " SIZE=1"))
        );
        assert_eq!(
            ForwardPath::parse_prefix("<>"),
            Err(AddressError::NullRecipient)
        );
    }

    #[test]
    fn postmaster_needs_no_domain() {
        for text in ["<Postmaster>", "<POSTMASTER>", "<postmaster>"] {
            let (path, rest) = ForwardPath::parse_prefix(text).unwrap();
            assert_eq!((path, rest), (ForwardPath::Postmaster, ""));
        }
        assert!(ReversePath::parse_prefix("<postmaster>").is_err());
        let (path, _) = ForwardPath::parse_prefix("<postmaster@example.org>").unwrap();
        assert_eq!(path.as_str(), "postmaster@example.org");
    }

    #[test]
    fn source_routes_are_dropped() {
        let (path, rest) =
            ForwardPath::parse_prefix("<@a.example,@b.example:u@c.example> X").unwrap();
        assert_eq!((path.as_str(), rest), ("u@c.example", " X"));
        for text in [
            "<@a.example u@c>",
            "<@a,:u@c>",
            "<@:u@c>",
            "<@a,b:u@c>",
            "<@a:>",
            "<@a",
        ] {
            assert!(ForwardPath::parse_prefix(text).is_err(), "{text}");
        }
    }

    #[test]
    fn brackets_are_needed_and_not_nested() {
        for text in [
            "u@c", "<u@c", "<<u@c>>", "< u@c>", "<u@c >", "<u@c.>", "", "<",
        ] {
            assert!(ForwardPath::parse_prefix(text).is_err(), "{text}");
            assert!(ReversePath::parse_prefix(text).is_err(), "{text}");
        }
    }

    #[test]
    fn displays_as_on_the_wire() {
        let (path, _) = ReversePath::parse_prefix("<U@EXAMPLE.org>").unwrap();
        assert_eq!(path.to_string(), "<U@example.org>");
        assert_eq!(ReversePath::Null.to_string(), "<>");
        assert_eq!(ForwardPath::Postmaster.to_string(), "<Postmaster>");
    }
}
