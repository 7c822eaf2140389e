//! The addresses that mail is sent to, or mailboxes that are read.

mod spread;

pub use spread::{Recipients, Spread};

use std::path::Path;

/// Addresses by number, in one block of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    text: String,
    ends: Vec<u32>,
}

/// Addresses of one pool.
pub const ADDRESSES_MAX: usize = 10_000_000;

impl Pool {
    /// `prefix0@domain` to `prefixN-1@domain`; with several domains, one after the other in turn.
    ///
    /// # Errors
    /// When there are none, or more than [`ADDRESSES_MAX`].
    pub fn generate(prefix: &str, users: usize, domains: &[&str]) -> Result<Pool, String> {
        let turn = domains.iter().cycle();
        Pool::collect(
            (0..users)
                .zip(turn)
                .map(|(user, domain)| format!("{prefix}{user}@{domain}")),
        )
        .map_err(|why| format!("--users {users}: {why}"))
    }

    /// One address a line; empty lines and lines that begin with `#` are passed over.
    ///
    /// # Errors
    /// Names file and line.
    pub fn from_file(path: &Path) -> Result<Pool, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let lines = text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.trim()));
        let wanted: Vec<_> = lines
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .collect();
        for (number, line) in &wanted {
            let strange = |c: char| c.is_control() || c == ' ' || c == '<' || c == '>';
            if !line.contains('@') || line.contains(strange) || line.len() > 500 {
                return Err(format!(
                    "{}:{number}: '{}' is not an address: wanted is local-part@domain without \
                     blanks and angle brackets, at most 500 bytes",
                    path.display(),
                    line.chars().take(80).collect::<String>()
                ));
            }
        }
        Pool::collect(wanted.into_iter().map(|(_, line)| line.to_owned()))
            .map_err(|why| format!("{}: {why}", path.display()))
    }

    /// A pool of these.
    ///
    /// # Errors
    /// When there are none, or more than [`ADDRESSES_MAX`].
    pub fn collect(addresses: impl Iterator<Item = String>) -> Result<Pool, String> {
        let mut pool = Pool {
            text: String::new(),
            ends: Vec::new(),
        };
        for address in addresses {
            pool.text.push_str(&address);
            match u32::try_from(pool.text.len()) {
                Ok(end) if pool.ends.len() < ADDRESSES_MAX => pool.ends.push(end),
                _ => {
                    return Err(format!(
                        "at most {ADDRESSES_MAX} addresses and 4 GiB of text"
                    ));
                }
            }
        }
        if pool.ends.is_empty() {
            return Err("there has to be at least one address".to_owned());
        }
        Ok(pool)
    }

    /// Number of addresses, at least 1.
    #[allow(clippy::len_without_is_empty, reason = "a pool is never empty")]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Address number `index`, below [`Pool::len`].
    pub fn get(&self, index: u32) -> &str {
        let index = index as usize;
        let start = if index == 0 {
            0
        } else {
            self.ends[index - 1] as usize
        };
        &self.text[start..self.ends[index] as usize]
    }
}

/// The name a user logs in with: `{address}`, `{local}` and `{domain}` are replaced.
pub fn user_name(pattern: &str, address: &str) -> String {
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    pattern
        .replace("{address}", address)
        .replace("{local}", local)
        .replace("{domain}", domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_addresses() {
        let pool = Pool::generate("u", 12, &["bench.test"]).expect("a pool");
        assert_eq!(
            (pool.len(), pool.get(0), pool.get(11)),
            (12, "u0@bench.test", "u11@bench.test")
        );
        assert!(Pool::generate("u", 0, &["x"]).is_err());
        let pool = Pool::generate("u", 5, &["a", "b"]).expect("a pool");
        assert_eq!((pool.get(3), pool.get(4)), ("u3@b", "u4@a"));
    }

    #[test]
    fn file_errors_name_the_line() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("rcpt");
        std::fs::write(&path, "# pool\na@b\n\n<c@d>\n").expect("written");
        let error = Pool::from_file(&path).expect_err("angle brackets");
        assert!(error.contains("rcpt:4"), "{error}");
        std::fs::write(&path, "a@b\n c@d \n").expect("written");
        assert_eq!(Pool::from_file(&path).expect("a pool").get(1), "c@d");
        std::fs::write(&path, "#\n").expect("written");
        assert!(Pool::from_file(&path).is_err());
    }

    #[test]
    fn login_names() {
        assert_eq!(user_name("{address}", "u1@x.y"), "u1@x.y");
        assert_eq!(user_name("{local}", "u1@x.y"), "u1");
        assert_eq!(user_name("mail-{local}%{domain}", "u1@x.y"), "mail-u1%x.y");
    }
}
