//! Proving who one is (RFC 4422), from the client's side, without base64 and without a protocol:
//! PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195), SCRAM-SHA-256 (RFC 5802, RFC 7677); and APOP
//! (RFC 1939 §7).
//!
//! Guarantees: with SCRAM, success counts only when the server has proved that it knows the
//! password too. Names and passwords go out as they are, without SASLprep.
//! On failure: says what the server said that cannot be.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use ring::{digest, pbkdf2};
use rustc_hash::FxHashMap;

/// How a user logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mechanism {
    /// User and password in one piece
    Plain,
    /// User and password one after the other
    Login,
    /// A digest of a challenge and the password
    CramMd5,
    /// Both sides prove that they know the password
    #[value(name = "scram-sha-256")]
    ScramSha256,
}

impl Mechanism {
    /// All, in no order.
    pub const ALL: [Mechanism; 4] = [
        Mechanism::Plain,
        Mechanism::Login,
        Mechanism::CramMd5,
        Mechanism::ScramSha256,
    ];

    /// As in AUTH.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
            Mechanism::CramMd5 => "CRAM-MD5",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
        }
    }
}

/// Passwords that were salted already: it takes thousands of digests, and a user's salt stays.
/// All users of a run have the same password.
#[derive(Debug, Default)]
pub struct Salted {
    keys: FxHashMap<(Vec<u8>, u32), [u8; 32]>,
}

/// Salts that are kept; then all are forgotten.
const SALTS_MAX: usize = 100_000;
/// More rounds than any server asks for in earnest; each costs about 0.2 µs.
const ITERATIONS_MAX: u32 = 1_000_000;

impl Salted {
    fn key(&mut self, password: &str, salt: Vec<u8>, iterations: NonZeroU32) -> [u8; 32] {
        if self.keys.len() >= SALTS_MAX {
            self.keys.clear();
        }
        *self
            .keys
            .entry((salt, iterations.get()))
            .or_insert_with_key(|(salt, _)| {
                let mut key = [0; 32];
                let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
                pbkdf2::derive(algorithm, iterations, salt, password.as_bytes(), &mut key);
                key
            })
    }
}

/// One login.
#[derive(Debug)]
pub struct Sasl {
    mechanism: Mechanism,
    user: String,
    password: String,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// Nothing was sent yet; the client's nonce.
    Begin(String),
    /// LOGIN: the user name was sent.
    UserSent,
    /// SCRAM: the client's nonce and first message, without its header.
    FirstSent { nonce: String, bare: String },
    /// SCRAM: what the server has to prove.
    ProofSent([u8; 32]),
    /// Nothing more is expected but success.
    Done,
}

impl Sasl {
    /// `random` makes the nonce, where one is needed.
    pub fn new(
        mechanism: Mechanism,
        user: &str,
        password: &str,
        random: &mut fastrand::Rng,
    ) -> Sasl {
        let nonce = std::iter::repeat_with(|| random.alphanumeric()).take(24);
        Sasl::with_nonce(mechanism, user, password, nonce.collect())
    }

    fn with_nonce(mechanism: Mechanism, user: &str, password: &str, nonce: String) -> Sasl {
        Sasl {
            mechanism,
            user: user.to_owned(),
            password: password.to_owned(),
            step: Step::Begin(nonce),
        }
    }

    /// What is sent along with AUTH, where the mechanism lets the client speak first.
    pub fn initial(&mut self) -> Option<Vec<u8>> {
        let Step::Begin(nonce) = &self.step else {
            return None;
        };
        match self.mechanism {
            Mechanism::Plain => {
                self.step = Step::Done;
                Some(format!("\0{}\0{}", self.user, self.password).into_bytes())
            }
            Mechanism::ScramSha256 => {
                let user = self.user.replace('=', "=3D").replace(',', "=2C");
                let bare = format!("n={user},r={nonce}");
                let first = format!("n,,{bare}").into_bytes();
                let nonce = nonce.clone();
                self.step = Step::FirstSent { nonce, bare };
                Some(first)
            }
            Mechanism::Login | Mechanism::CramMd5 => None,
        }
    }

    /// As [`Sasl::initial`], if it is not longer than `bytes_max`; a longer one is left for the
    /// first challenge, which is empty then.
    pub fn initial_within(&mut self, bytes_max: usize) -> Option<Vec<u8>> {
        let bytes = match self.mechanism {
            Mechanism::Plain => 2 + self.user.len() + self.password.len(),
            // Name, nonce, what stands between; a name may be quoted.
            Mechanism::ScramSha256 => 3 * self.user.len() + 24 + 8,
            Mechanism::Login | Mechanism::CramMd5 => 0,
        };
        (bytes <= bytes_max).then(|| self.initial()).flatten()
    }

    /// The answer to a challenge.
    ///
    /// # Errors
    /// When the challenge is none of this mechanism.
    pub fn answer(&mut self, challenge: &[u8], salted: &mut Salted) -> Result<Vec<u8>, String> {
        match (self.mechanism, &self.step) {
            (Mechanism::Plain | Mechanism::ScramSha256, Step::Begin(_)) => {
                // AUTH was sent without an initial response, and the server asks for it.
                self.initial()
                    .ok_or_else(|| "nothing to begin with".to_owned())
            }
            (Mechanism::Login, Step::Begin(_)) => {
                self.step = Step::UserSent;
                Ok(self.user.clone().into_bytes())
            }
            (Mechanism::Login, Step::UserSent) => {
                self.step = Step::Done;
                Ok(self.password.clone().into_bytes())
            }
            (Mechanism::CramMd5, Step::Begin(_)) => {
                self.step = Step::Done;
                let digest = hmac_md5(self.password.as_bytes(), challenge);
                Ok(format!("{} {}", self.user, hex(&digest)).into_bytes())
            }
            (_, Step::FirstSent { nonce, bare }) => {
                let (answer, proof) = scram_final(&self.password, nonce, bare, challenge, salted)?;
                self.step = Step::ProofSent(proof);
                Ok(answer.into_bytes())
            }
            (_, Step::ProofSent(wanted)) => {
                let text = String::from_utf8_lossy(challenge).into_owned();
                let proof = text
                    .strip_prefix("v=")
                    .and_then(|v| BASE64_STANDARD.decode(v).ok());
                if proof.as_deref() != Some(wanted) {
                    return Err(format!(
                        "the server does not prove that it knows the password: '{text}'"
                    ));
                }
                self.step = Step::Done;
                Ok(Vec::new())
            }
            _ => Err(format!(
                "a challenge that {} does not have",
                self.mechanism.name()
            )),
        }
    }

    /// The server says that the login succeeded.
    ///
    /// # Errors
    /// When it has not done its part.
    pub fn finish(&self) -> Result<(), String> {
        match self.step {
            Step::Done => Ok(()),
            _ => Err(format!(
                "success before {} was at its end",
                self.mechanism.name()
            )),
        }
    }
}

/// The client's final message, and what the server has to prove (RFC 5802 §3).
fn scram_final(
    password: &str,
    nonce: &str,
    bare: &str,
    challenge: &[u8],
    salted: &mut Salted,
) -> Result<(String, [u8; 32]), String> {
    let server_first = String::from_utf8_lossy(challenge).into_owned();
    let wrong = || format!("not a first message of SCRAM: '{server_first}'");
    let mut parts = server_first.split(',');
    let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name));
    let (both, salt, rounds) = (part("r="), part("s="), part("i="));
    let both = both
        .filter(|both| both.len() > nonce.len() && both.starts_with(nonce))
        .ok_or_else(wrong)?;
    let salt = salt
        .and_then(|salt| BASE64_STANDARD.decode(salt).ok())
        .ok_or_else(wrong)?;
    let rounds = rounds
        .and_then(|rounds| rounds.parse::<u32>().ok())
        .filter(|rounds| *rounds <= ITERATIONS_MAX)
        .and_then(NonZeroU32::new)
        .ok_or_else(wrong)?;
    let key = salted.key(password, salt, rounds);
    let without_proof = format!("c=biws,r={both}");
    let authenticated = format!("{bare},{server_first},{without_proof}");
    let client_key = hmac_sha256(&key, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, &client_key);
    let signature = hmac_sha256(stored_key.as_ref(), authenticated.as_bytes());
    let mut proof = client_key;
    proof
        .iter_mut()
        .zip(signature)
        .for_each(|(byte, other)| *byte ^= other);
    let server_key = hmac_sha256(&key, b"Server Key");
    let expected = hmac_sha256(&server_key, authenticated.as_bytes());
    let proof = BASE64_STANDARD.encode(proof);
    Ok((format!("{without_proof},p={proof}"), expected))
}

fn hmac_sha256(key: &[u8], data: &[u8]) -> [u8; 32] {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
    let mut out = [0; 32];
    out.copy_from_slice(ring::hmac::sign(&key, data).as_ref());
    out
}

fn hmac_md5(key: &[u8], data: &[u8]) -> [u8; 16] {
    let mac = hmac::Hmac::<Md5>::new_from_slice(key).expect("a key of any length is taken");
    mac.chain_update(data).finalize().into_bytes().into()
}

/// The digest of APOP: of the timestamp in the greeting, angle brackets included, and the password.
pub fn apop_digest(timestamp: &str, password: &str) -> String {
    let digest: [u8; 16] = Md5::new()
        .chain_update(timestamp)
        .chain_update(password)
        .finalize()
        .into();
    hex(&digest)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As it goes over the wire in SMTP (RFC 4954 §4) and POP3 (RFC 5034 §4).
pub fn encode(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// A challenge as it came over the wire.
///
/// # Errors
/// When it is not base64.
pub fn decode(text: &[u8]) -> Result<Vec<u8>, String> {
    BASE64_STANDARD.decode(text.trim_ascii()).map_err(|_| {
        let text = String::from_utf8_lossy(text);
        format!("the challenge is not base64: '{text}'")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(mechanism: Mechanism, user: &str, password: &str) -> Sasl {
        let nonce = "rOprNGfwEbeRWgbNEkqO".to_owned();
        Sasl::with_nonce(mechanism, user, password, nonce)
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn plain_as_in_rfc_4616() {
        let mut sasl = login(Mechanism::Plain, "tim", "tanstaaftanstaaf");
        assert_eq!(sasl.initial(), Some(b"\0tim\0tanstaaftanstaaf".to_vec()));
        assert_eq!(sasl.finish(), Ok(()));
        assert!(sasl.answer(b"", &mut Salted::default()).is_err());
        // Asked for what could have been sent at once.
        let mut sasl = login(Mechanism::Plain, "u", "p");
        assert!(sasl.finish().is_err());
        assert_eq!(
            sasl.answer(b"", &mut Salted::default()),
            Ok(b"\0u\0p".to_vec())
        );
    }

    #[test]
    fn login_has_two_prompts() {
        let mut sasl = login(Mechanism::Login, "u", "p");
        let salted = &mut Salted::default();
        assert_eq!(sasl.initial(), None);
        assert_eq!(sasl.answer(b"Username:", salted), Ok(b"u".to_vec()));
        assert!(sasl.finish().is_err());
        assert_eq!(sasl.answer(b"Password:", salted), Ok(b"p".to_vec()));
        assert_eq!(sasl.finish(), Ok(()));
    }

    #[test]
    fn cram_md5_as_in_rfc_2195() {
        let mut sasl = login(Mechanism::CramMd5, "tim", "tanstaaftanstaaf");
        assert_eq!(sasl.initial(), None);
        let challenge = b"<1896.697170952@postoffice.reston.mci.net>";
        let answer = sasl.answer(challenge, &mut Salted::default());
        let answer = text(answer.expect("a challenge"));
        assert_eq!(answer, "tim b913a602c7eda7a495b4e6e7334d3890");
    }

    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    #[test]
    fn scram_sha_256_as_in_rfc_7677() {
        let salted = &mut Salted::default();
        for _ in 0..2 {
            let mut sasl = login(Mechanism::ScramSha256, "user", "pencil");
            let first = text(sasl.initial().expect("the client begins"));
            assert_eq!(first, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
            let last = sasl.answer(SERVER_FIRST.as_bytes(), salted);
            assert_eq!(
                text(last.expect("a challenge")),
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                 p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
            );
            assert!(sasl.finish().is_err(), "the server has proved nothing yet");
            let proof = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
            assert_eq!(sasl.answer(proof, salted), Ok(Vec::new()));
            assert_eq!(sasl.finish(), Ok(()));
        }
        assert_eq!(salted.keys.len(), 1);
    }

    #[test]
    fn scram_servers_that_cheat_are_found() {
        for challenge in [
            "",
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=another,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=!,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=0",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=4294967295",
        ] {
            let mut sasl = login(Mechanism::ScramSha256, "user", "pencil");
            sasl.initial();
            let answer = sasl.answer(challenge.as_bytes(), &mut Salted::default());
            assert!(answer.is_err(), "{challenge}");
        }
        for proof in [
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=",
            "e=other-error",
            "",
        ] {
            let mut sasl = login(Mechanism::ScramSha256, "user", "pencil");
            let salted = &mut Salted::default();
            sasl.initial();
            sasl.answer(SERVER_FIRST.as_bytes(), salted)
                .expect("a challenge");
            let error = sasl.answer(proof.as_bytes(), salted).expect_err(proof);
            assert!(error.contains("does not prove"), "{error}");
        }
    }

    #[test]
    fn names_are_quoted_in_scram() {
        let mut sasl = login(Mechanism::ScramSha256, "a=b,c", "p");
        let first = text(sasl.initial().expect("the client begins"));
        assert!(first.starts_with("n,,n=a=3Db=2Cc,r="), "{first}");
    }

    #[test]
    fn apop_as_in_rfc_1939() {
        assert_eq!(
            apop_digest("<1896.697170952@dbc.mtview.ca.us>", "tanstaaf"),
            "c4c9334bac560ecc979e58001b3e22fb"
        );
    }
}
