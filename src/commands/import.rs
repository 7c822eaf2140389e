//! Reads a password file: `ADDRESS:HASH` a line, as in Dovecot's passwd-file.
//!
//! Guarantees: all lines are good, or none is used; every error names its line, and none a password.

use std::collections::HashMap;
use std::path::Path;

use crate::directory::password::{Imported, import};
use crate::mail::Address;

/// Errors that are worth reading at once.
const ERRORS_MAX: usize = 20;

/// One account of the file.
#[derive(PartialEq, Eq)]
pub(super) struct Entry {
    /// From 1.
    pub(super) line: usize,
    /// Canonical.
    pub(super) address: Address,
    /// Its hash, or its password.
    pub(super) password: Imported,
}

/// Reads the text of `file`, which only errors need. A bare name belongs to `default_domain`.
///
/// # Errors
/// The lines that are wrong, and how; the first ones where they are many.
pub(super) fn read(
    file: &Path,
    text: &str,
    default_domain: Option<&str>,
) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let mut errors = Vec::new();
    let mut first_line: HashMap<Address, usize> = HashMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_end_matches('\r');
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        match read_line(line, default_domain) {
            Ok((address, password)) => match first_line.insert(address.clone(), number) {
                Some(before) => errors.push(format!(
                    "{}:{number}: {address} is in line {before} already",
                    file.display()
                )),
                None => entries.push(Entry {
                    line: number,
                    address,
                    password,
                }),
            },
            Err(problem) => errors.push(format!("{}:{number}: {problem}", file.display())),
        }
    }
    if errors.is_empty() {
        return Ok(entries);
    }
    let more = errors.len().saturating_sub(ERRORS_MAX);
    errors.truncate(ERRORS_MAX);
    if more > 0 {
        errors.push(format!("and {more} more lines are wrong"));
    }
    errors.push("nothing was imported".to_owned());
    Err(errors.join("\n"))
}

fn read_line(line: &str, default_domain: Option<&str>) -> Result<(Address, Imported), String> {
    let (name, rest) = line
        .split_once(':')
        .ok_or("there is no colon: a line is ADDRESS:HASH")?;
    let field = rest.split(':').next().unwrap_or_default();
    let name = name.trim();
    let parsed = match (name.contains('@'), default_domain) {
        (true, _) => Address::parse(name),
        (false, Some(domain)) => Address::parse(&format!("{name}@{domain}")),
        (false, None) => {
            return Err(format!(
                "{name:?} has no domain; --default-domain gives one"
            ));
        }
    };
    let address = parsed
        .map_err(|error| format!("{name:?} is not an address: {error}"))?
        .account_key();
    let password = import(field).map_err(|error| format!("{address}: {error}"))?;
    Ok((address, password))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$1$abcdefgh$V9jWFjAs98XI0iNTXNtQZ1";

    fn read_text(text: &str) -> Result<Vec<Entry>, String> {
        read(Path::new("users"), text, None)
    }

    #[test]
    fn lines_are_accounts() {
        let text = format!(
            "# a comment\n\nA@Example.org:{HASH}\r\nb@example.org:{{PLAIN}}secret:1000:1000::/home/b::x=y\n"
        );
        let entries = read_text(&text).expect("read");
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].line, 3);
        assert_eq!(entries[0].address.as_str(), "a@example.org");
        assert!(entries[0].password == Imported::Hash(HASH.to_owned()));
        assert!(entries[1].password == Imported::Plain("secret".to_owned()));
    }

    #[test]
    fn every_wrong_line_is_named_and_nothing_is_imported() {
        let text = format!(
            "a@x.test:{HASH}\nb@x.test\nc:{HASH}\nd@x.test:{{SSHA}}secret\na@x.test:{HASH}\n@:{HASH}\ne@x.test:$6$short\n"
        );
        let error = read_text(&text).err().expect("wrong lines");
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(
            lines[0],
            "users:2: there is no colon: a line is ADDRESS:HASH"
        );
        assert_eq!(
            lines[1],
            "users:3: \"c\" has no domain; --default-domain gives one"
        );
        assert!(lines[2].starts_with("users:4: d@x.test: unknown password scheme"));
        assert_eq!(lines[3], "users:5: a@x.test is in line 1 already");
        assert!(lines[4].starts_with("users:6: \"@\" is not an address"));
        assert_eq!(lines[5], "users:7: e@x.test: malformed SHA crypt hash");
        assert_eq!(lines[6], "nothing was imported");
        assert!(!error.contains("secret"), "no error shows a password");
    }

    #[test]
    fn a_bare_name_belongs_to_the_default_domain() {
        let entries = read(Path::new("u"), &format!("joe:{HASH}"), Some("x.test")).expect("read");
        assert_eq!(entries[0].address.as_str(), "joe@x.test");
    }

    #[test]
    fn many_errors_are_counted() {
        let error = read_text(&"x\n".repeat(100)).err().expect("wrong");
        assert!(error.contains("and 80 more lines are wrong"));
        assert_eq!(error.lines().count(), 22);
    }
}
