//! Password hashes: made, imported, checked.
//!
//! A hash is kept as one string that names its own scheme:
//!
//! | Form | Scheme | |
//! |---|---|---|
//! | `$argon2id$...`, `$argon2i$...` | Argon2 (RFC 9106), PHC string | made here |
//! | `$6$`, `$5$` | SHA-512 crypt, SHA-256 crypt | imported |
//! | `$2a$`, `$2b$`, `$2y$` | bcrypt | imported |
//! | `$1$` | MD5 crypt | imported |
//!
//! Guarantees: no function prints a password or a hash; an imported hash that would take very long
//! to check is refused, so that nobody can stop the pool with one.
//! Does not know: accounts, threads. Everything here computes for milliseconds: keep it off the shards.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

/// Bytes of a password; RFC 4616 §2 gives no bound, the lines it comes in do.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Bytes of a hash string.
pub const HASH_BYTES_MAX: usize = 512;

/// A hash of no account's password: checked when an account does not exist, so that the time taken
/// does not tell so. Costs as much as [`Scheme::Argon2id`] and fits no password.
pub const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGlzIGhlcmU$\
     AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// How a new hash is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Argon2id with 19 MiB and two passes (the least that OWASP recommends): about 20 ms. For people.
    #[default]
    Argon2id,
    /// Argon2id with the least cost it can have (8 KiB, one pass): some microseconds, and about as
    /// quick to guess as a plain salted hash. For generated test accounts only.
    Light,
}

impl Scheme {
    /// The names that `--scheme` takes.
    pub const NAMES: [&'static str; 2] = ["argon2id", "light"];

    /// The scheme of that name.
    pub fn named(name: &str) -> Option<Scheme> {
        match name {
            "argon2id" => Some(Scheme::Argon2id),
            "light" => Some(Scheme::Light),
            _ => None,
        }
    }

    fn hasher(self) -> Result<Argon2<'static>, PasswordError> {
        let params = match self {
            Scheme::Argon2id => Params::new(19_456, 2, 1, None),
            Scheme::Light => Params::new(8, 1, 1, None),
        };
        let params = params.map_err(|e| PasswordError::Internal(e.to_string()))?;
        Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
    }
}

/// Why a password or hash cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Empty, or too long.
    #[error("a password has 1 to {PASSWORD_BYTES_MAX} bytes")]
    Length,
    /// No NUL, CR or LF: no protocol could send it.
    #[error("a password cannot hold NUL, CR or LF")]
    Control,
    /// Not a form of the table above.
    #[error(
        "unknown password scheme: known are $argon2id$, $argon2i$, $6$, $5$, $2a$, $2b$, $2y$, $1$, \
         with or without a prefix such as {{SHA512-CRYPT}} or {{CRYPT}}, and {{PLAIN}}"
    )]
    UnknownScheme,
    /// The form is known, its content is not well-formed.
    #[error("malformed {0} hash")]
    Malformed(&'static str),
    /// A check would take too long.
    #[error("the {scheme} hash asks for a cost of {cost}; at most {max} is taken")]
    TooCostly {
        /// Its scheme.
        scheme: &'static str,
        /// Rounds, log2 of rounds, or KiB.
        cost: u64,
        /// In the same unit.
        max: u64,
    },
    /// The library or the kernel failed.
    #[error("cannot hash: {0}")]
    Internal(String),
}

/// Hashes a password with a random salt.
///
/// # Errors
/// A password that no client could send; no randomness.
pub fn hash(scheme: Scheme, password: &[u8]) -> Result<String, PasswordError> {
    check_password(password)?;
    let hash: PasswordHash = scheme
        .hasher()?
        .hash_password(password)
        .map_err(|e| PasswordError::Internal(e.to_string()))?;
    Ok(hash.to_string())
}

/// A password that a client can send.
///
/// # Errors
/// [`PasswordError::Length`], [`PasswordError::Control`].
pub fn check_password(password: &[u8]) -> Result<(), PasswordError> {
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
        return Err(PasswordError::Length);
    }
    if password.iter().any(|b| matches!(b, 0 | b'\r' | b'\n')) {
        return Err(PasswordError::Control);
    }
    Ok(())
}

/// Does `password` fit `hash`? Takes as long as the scheme was made to take.
///
/// # Errors
/// When the hash is not one that [`import`] or [`hash()`] gave.
pub fn verify(hash: &str, password: &[u8]) -> Result<bool, PasswordError> {
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
        return Ok(false);
    }
    match Form::of(hash)? {
        Form::Argon2 => {
            let parsed = PasswordHash::new(hash).map_err(|_| PasswordError::Malformed("argon2"))?;
            match Argon2::default().verify_password(password, &parsed) {
                Ok(()) => Ok(true),
                Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
                Err(_) => Err(PasswordError::Malformed("argon2")),
            }
        }
        // A NUL ends a C string: these schemes cannot tell what follows it.
        Form::ShaCrypt | Form::Bcrypt | Form::Md5Crypt if password.contains(&0) => Ok(false),
        Form::ShaCrypt | Form::Bcrypt | Form::Md5Crypt => Ok(pwhash::unix::verify(password, hash)),
    }
}

/// What a line of a password file gives.
#[derive(Clone, PartialEq, Eq)]
pub enum Imported {
    /// A hash, ready to be stored.
    Hash(String),
    /// A password in the clear (`{PLAIN}`): hash it, store nothing of it.
    Plain(String),
}

/// Reads the password field of a Dovecot passwd-file: a hash with or without its `{SCHEME}`, or
/// `{PLAIN}password`.
///
/// # Errors
/// An unknown scheme, a malformed hash, one that costs too much.
pub fn import(field: &str) -> Result<Imported, PasswordError> {
    let (scheme, rest) = match field.strip_prefix('{').and_then(|f| f.split_once('}')) {
        Some((scheme, rest)) => (Some(scheme.to_ascii_uppercase()), rest),
        None => (None, field),
    };
    if let Some("PLAIN" | "CLEARTEXT" | "CLEAR") = scheme.as_deref() {
        check_password(rest.as_bytes())?;
        return Ok(Imported::Plain(rest.to_owned()));
    }
    let form = Form::of(rest)?;
    let fits = match scheme.as_deref() {
        None | Some("CRYPT") => true,
        Some("ARGON2ID") => rest.starts_with("$argon2id$"),
        Some("ARGON2I") => rest.starts_with("$argon2i$"),
        Some("SHA512-CRYPT") => rest.starts_with("$6$"),
        Some("SHA256-CRYPT") => rest.starts_with("$5$"),
        Some("BLF-CRYPT") => form == Form::Bcrypt,
        Some("MD5-CRYPT" | "MD5") => form == Form::Md5Crypt,
        Some(_) => return Err(PasswordError::UnknownScheme),
    };
    if !fits {
        return Err(PasswordError::UnknownScheme);
    }
    check_hash(rest)?;
    Ok(Imported::Hash(rest.to_owned()))
}

/// A hash that [`verify`] can check within a reasonable time.
///
/// # Errors
/// As [`import`].
pub fn check_hash(hash: &str) -> Result<(), PasswordError> {
    let too_costly = |scheme, cost: u64, max: u64| {
        if cost > max {
            Err(PasswordError::TooCostly { scheme, cost, max })
        } else {
            Ok(())
        }
    };
    let form = Form::of(hash)?;
    if hash.len() > HASH_BYTES_MAX || !hash.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(PasswordError::Malformed(form.name()));
    }
    let malformed = || PasswordError::Malformed(form.name());
    match form {
        Form::Argon2 => {
            let parsed = PasswordHash::new(hash).map_err(|_| malformed())?;
            if parsed.hash.is_none() || parsed.salt.is_none() {
                return Err(malformed());
            }
            let params = Params::try_from(&parsed).map_err(|_| malformed())?;
            // Memory times passes: what a check costs.
            let cost_kib = u64::from(params.m_cost()) * u64::from(params.t_cost());
            too_costly("argon2", cost_kib, 1 << 20)
        }
        Form::ShaCrypt => {
            let mut parts = hash[3..].split('$');
            let mut salt = parts.next().ok_or_else(malformed)?;
            if let Some(rounds) = salt.strip_prefix("rounds=") {
                let rounds: u64 = rounds.parse().map_err(|_| malformed())?;
                too_costly("SHA crypt", rounds, 1_000_000)?;
                salt = parts.next().ok_or_else(malformed)?;
            }
            let digest = parts.next().ok_or_else(malformed)?;
            let digest_bytes = if hash.starts_with("$6$") { 86 } else { 43 };
            let well_formed = salt.len() <= 16
                && digest.len() == digest_bytes
                && digest.bytes().all(is_crypt64)
                && parts.next().is_none();
            well_formed.then_some(()).ok_or_else(malformed)
        }
        Form::Bcrypt => {
            let (cost, rest) = hash[4..].split_once('$').ok_or_else(malformed)?;
            if cost.len() != 2 || rest.len() != 53 || !rest.bytes().all(is_crypt64) {
                return Err(malformed());
            }
            let cost: u64 = cost.parse().map_err(|_| malformed())?;
            if cost < 4 {
                return Err(malformed());
            }
            too_costly("bcrypt", cost, 15)
        }
        Form::Md5Crypt => {
            let (salt, digest) = hash[3..].split_once('$').ok_or_else(malformed)?;
            let well_formed =
                salt.len() <= 8 && digest.len() == 22 && digest.bytes().all(is_crypt64);
            well_formed.then_some(()).ok_or_else(malformed)
        }
    }
}

/// The alphabet of crypt's and bcrypt's base 64.
fn is_crypt64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/')
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Argon2,
    ShaCrypt,
    Bcrypt,
    Md5Crypt,
}

impl Form {
    fn of(hash: &str) -> Result<Form, PasswordError> {
        let is = |prefixes: &[&str]| prefixes.iter().any(|p| hash.starts_with(p));
        if is(&["$argon2id$", "$argon2i$"]) {
            Ok(Form::Argon2)
        } else if is(&["$6$", "$5$"]) {
            Ok(Form::ShaCrypt)
        } else if is(&["$2a$", "$2b$", "$2y$"]) {
            Ok(Form::Bcrypt)
        } else if is(&["$1$"]) {
            Ok(Form::Md5Crypt)
        } else {
            Err(PasswordError::UnknownScheme)
        }
    }

    fn name(self) -> &'static str {
        match self {
            Form::Argon2 => "argon2",
            Form::ShaCrypt => "SHA crypt",
            Form::Bcrypt => "bcrypt",
            Form::Md5Crypt => "MD5 crypt",
        }
    }
}
