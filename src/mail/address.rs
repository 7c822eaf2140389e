//! Addresses and the paths of an envelope (RFC 5321 §4.1.2, RFC 6531 §3.3).

use std::fmt;

/// `local-part@domain` in canonical form: the domain in lower case (A-labels as given), the local
/// part with needless quoting removed. Comparison of local parts for our own accounts is without
/// regard to ASCII case: [`Address::account_key`].
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
        // Replaced by the real grammar.
        let at = text.rfind('@').ok_or(AddressError::NoDomain)?;
        Ok(Address {
            text: text.into(),
            at_index: at as u16,
        })
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

    /// The form under which accounts are kept: all ASCII letters in lower case.
    pub fn account_key(&self) -> Address {
        Address {
            text: self.text.to_ascii_lowercase().into(),
            at_index: self.at_index,
        }
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

/// Why something is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@domain`.
    #[error("no domain: an address is local-part@domain")]
    NoDomain,
}

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
