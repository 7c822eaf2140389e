//! SASL mechanisms, server side (RFC 4422; PLAIN: RFC 4616).
//!
//! Guarantees: what is decoded is wiped from memory when dropped; no input makes it panic.
//! Does not know: accounts, lines, or which protocol carries the exchange.
//! On failure: says what is wrong with the response; nothing of it is kept.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

use crate::mail::Address;

/// Names and a password. `Debug` shows no secret.
#[derive(Clone)]
pub struct Credentials {
    /// Whose password it is: canonical `user@domain` (`Address::account_key`), the default domain filled
    /// in.
    pub user: String,
    /// Whose mailboxes are wanted, where it is somebody else: canonical as well (RFC 4616 §2,
    /// authorization identity) [N34].
    pub act_as: Option<String>,
    /// As the client gave it. Wiped when dropped, wherever it was moved to.
    pub password: Zeroizing<Vec<u8>>,
    /// Where the client is, for the log.
    pub peer: SocketAddr,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({}, secret)", self.user)
    }
}

/// A decoded PLAIN response. It has no `Debug`: it is a secret.
pub struct Plain {
    /// As whom to act, where that is somebody else; not empty, no NUL.
    pub authorization_id: Option<String>,
    /// Who logs in, as given: not empty, no NUL.
    pub authentication_id: String,
    /// The password: not empty, no NUL. Wiped when dropped.
    pub password: Zeroizing<Vec<u8>>,
}

/// An administrator's way into the mailboxes of somebody else [N34]. The shard gives it to a session
/// once the password is checked, and takes it back at the owner of those mailboxes: a session cannot
/// make one that was not given to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    administrator: Address,
    user: Address,
}

impl Pass {
    /// Of this administrator for that account, both canonical. Who makes one has checked that it
    /// may be.
    pub fn new(administrator: Address, user: Address) -> Pass {
        Pass {
            administrator,
            user,
        }
    }

    /// Who acts.
    pub fn administrator(&self) -> &Address {
        &self.administrator
    }

    /// For whom.
    pub fn user(&self) -> &Address {
        &self.user
    }
}

/// What is wrong with a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    /// Not base64 with its padding (RFC 4648 §4).
    #[error("not base64")]
    Base64,
    /// Not `[authzid] NUL authcid NUL passwd`.
    #[error("not a PLAIN response")]
    Syntax,
}

/// Decodes a PLAIN response as it stands on the line, in base64. `=`, which some protocols write
/// for an empty response, is an error here: PLAIN has no empty response.
///
/// # Errors
/// See [`SaslError`].
pub fn decode_plain(response: &[u8]) -> Result<Plain, SaslError> {
    // Room for all of it at once: a vector that grows leaves copies of secrets behind.
    let mut message = Zeroizing::new(Vec::with_capacity(response.len()));
    STANDARD
        .decode_vec(response, &mut message)
        .map_err(|_| SaslError::Base64)?;
    let mut parts = message.split(|&byte| byte == 0);
    let (Some(authorization_id), Some(authentication_id), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(SaslError::Syntax);
    };
    if authentication_id.is_empty() || password.is_empty() {
        return Err(SaslError::Syntax);
    }
    let text = |id: &[u8]| match std::str::from_utf8(id) {
        Ok(id) => Ok(id.to_owned()),
        Err(_) => Err(SaslError::Syntax),
    };
    let is_other = !authorization_id.is_empty() && authorization_id != authentication_id;
    Ok(Plain {
        authorization_id: is_other.then(|| text(authorization_id)).transpose()?,
        authentication_id: text(authentication_id)?,
        password: Zeroizing::new(password.to_vec()),
    })
}

/// Bytes first reserved for a command that comes in pieces.
const HELD_BYTES_MIN: usize = 64;

/// Appends to what may hold a password, without leaving copies behind in memory given back.
pub(super) fn push_secret(held: &mut Vec<u8>, bytes: &[u8]) {
    let needed = held.len() + bytes.len();
    if needed > held.capacity() {
        let room = (held.len() * 2).max(needed).max(HELD_BYTES_MIN);
        let mut larger = Vec::with_capacity(room);
        larger.extend_from_slice(held);
        held.zeroize();
        *held = larger;
    }
    held.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(message: &[u8]) -> Result<(String, Vec<u8>), SaslError> {
        decode_plain(STANDARD.encode(message).as_bytes())
            .map(|plain| (plain.authentication_id, plain.password.to_vec()))
    }

    #[test]
    fn takes_the_examples_of_the_rfc() {
        let tim = Ok(("tim".to_owned(), b"tanstaaftanstaaf".to_vec()));
        assert_eq!(decode(b"\0tim\0tanstaaftanstaaf"), tim);
        assert_eq!(decode(b"tim\0tim\0tanstaaftanstaaf"), tim);
        // RFC 4616 §4, the second one: for another.
        let plain = decode_plain(STANDARD.encode(b"Ursel\0Kurt\0xipj3plmq").as_bytes());
        let plain = plain.map(|plain| (plain.authorization_id, plain.authentication_id));
        assert_eq!(plain, Ok((Some("Ursel".to_owned()), "Kurt".to_owned())));
    }

    #[test]
    fn refuses_what_is_not_plain() {
        for message in [
            &b""[..],
            b"\0",
            b"\0\0",
            b"tim",
            b"\0tim",
            b"\0tim\0",
            b"\0\0secret",
            b"\0tim\0se\0cret",
            b"\0\xff\xfe\0secret",
        ] {
            assert_eq!(decode(message), Err(SaslError::Syntax), "{message:?}");
        }
        // Not the alphabet, no padding, wrong padding, spaces, bits behind the end.
        for response in [
            "AHRpb\0QBwdw==",
            "AHRpbQBwdw",
            "AHRpbQBwdw=",
            " AHRpbQBwdw==",
            "AHRpbQBwdx==",
        ] {
            let error = decode_plain(response.as_bytes()).err();
            assert_eq!(error, Some(SaslError::Base64), "{response:?}");
        }
        assert!(decode_plain(b"AHRpbQBwdw==").is_ok());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = decode_plain(&bytes);
            let _ = decode(&bytes);
        }

        #[test]
        fn round_trip(name in "[^\0]{1,40}", password: Vec<u8>) {
            proptest::prop_assume!(!password.is_empty() && !password.contains(&0));
            let mut message = vec![0];
            message.extend_from_slice(name.as_bytes());
            message.push(0);
            message.extend_from_slice(&password);
            proptest::prop_assert_eq!(decode(&message), Ok((name, password)));
        }
    }
}
