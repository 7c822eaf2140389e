//! Passwords on their way in: from a flag, the terminal (without echo) or the input.

use std::io::{self, BufRead, IsTerminal};

use super::Failure;
use crate::directory::password::{self, PASSWORD_BYTES_MAX, Scheme};

/// The hash of the password given, or asked for.
pub(super) fn hash(given: Option<&str>, scheme: Scheme) -> Result<String, Failure> {
    let password = match given {
        Some(password) => password.to_owned(),
        None if io::stdin().is_terminal() => ask()?,
        None => first_line(io::stdin().lock())?,
    };
    Ok(password::hash(scheme, password.as_bytes())?)
}

fn ask() -> Result<String, Failure> {
    let first = rpassword::prompt_password("Password: ")?;
    password::check_password(first.as_bytes())?;
    if rpassword::prompt_password("The same again: ")? != first {
        return Err(Failure::Failed(
            "the two passwords differ; nothing was changed".to_owned(),
        ));
    }
    Ok(first)
}

/// Without its line end, which may be CRLF.
fn first_line(input: impl BufRead) -> Result<String, Failure> {
    let mut line = String::new();
    // One byte too many shows that it is too long.
    let max = PASSWORD_BYTES_MAX as u64 + 3;
    input.take(max).read_line(&mut line)?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(Failure::Failed(
            "no password: give --password, or the password as the first line of the input"
                .to_owned(),
        ));
    }
    Ok(line.to_owned())
}

/// Hashes many passwords, on all processors.
pub(super) fn hash_all(scheme: Scheme, passwords: &[&str]) -> Result<Vec<String>, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = passwords.len().div_ceil(threads).max(1);
    let parts: Vec<Result<Vec<String>, _>> = std::thread::scope(|scope| {
        let workers: Vec<_> = passwords
            .chunks(part)
            .map(|part| {
                scope.spawn(move || {
                    part.iter()
                        .map(|p| password::hash(scheme, p.as_bytes()))
                        .collect()
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| match worker.join() {
                Ok(hashes) => hashes,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    let mut all = Vec::with_capacity(passwords.len());
    for part in parts {
        all.extend(part?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_password() {
        let line = |bytes: &[u8]| first_line(bytes).ok();
        assert_eq!(line(b"pw\nrest\n").as_deref(), Some("pw"));
        assert_eq!(line(b"pw\r\n").as_deref(), Some("pw"));
        assert_eq!(line(b" p w ").as_deref(), Some(" p w "));
        assert_eq!(line(b""), None);
        assert_eq!(line(b"\n"), None);
        let long = vec![b'x'; 5000];
        let read = first_line(&long[..]).expect("read");
        assert!(password::check_password(read.as_bytes()).is_err());
    }

    #[test]
    fn many_are_hashed_in_order() {
        let hashes = hash_all(Scheme::Light, &["a", "b", "c", "d", "e"]).expect("hashed");
        for (hash, password) in hashes.iter().zip(["a", "b", "c", "d", "e"]) {
            assert_eq!(password::verify(hash, password.as_bytes()), Ok(true));
        }
        assert_eq!(hashes.len(), 5);
        assert!(hash_all(Scheme::Light, &[]).expect("nothing").is_empty());
        assert!(hash_all(Scheme::Light, &["a", ""]).is_err());
    }
}
