//! Command lines of POP3 (RFC 1939 §3): a keyword in any case, arguments behind single spaces.

/// A parsed command line; arguments as they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// `USER name`
    User(&'a [u8]),
    /// `PASS string`: everything behind the first space (RFC 1939 §7: it may hold spaces).
    Pass(&'a [u8]),
    /// `AUTH` (lists mechanisms), `AUTH mechanism [initial-response]` (RFC 5034).
    Auth {
        /// `None`: the list is wanted.
        mechanism: Option<&'a [u8]>,
        /// `=` stands for an empty one.
        initial: Option<&'a [u8]>,
    },
    /// `CAPA` (RFC 2449)
    Capa,
    /// `UTF8` (RFC 6856)
    Utf8,
    /// `STAT`
    Stat,
    /// `LIST [msg]`
    List(Option<u32>),
    /// `UIDL [msg]`
    Uidl(Option<u32>),
    /// `RETR msg`
    Retr(u32),
    /// `TOP msg n`
    Top(u32, u32),
    /// `DELE msg`
    Dele(u32),
    /// `NOOP`
    Noop,
    /// `RSET`
    Rset,
    /// `QUIT`
    Quit,
}

/// Parses a line without its end. Spaces at its end are passed over, except in `PASS`.
///
/// # Errors
/// A text for `-ERR` that says what is allowed.
pub fn parse_command(line: &[u8]) -> Result<Command<'_>, &'static str> {
    let (keyword, argument) = match memchr::memchr(b' ', line) {
        Some(space) => (&line[..space], &line[space + 1..]),
        None => (line, &b""[..]),
    };
    // The longest keyword has four letters.
    let mut upper = [0; 4];
    let Some(upper) = upper.get_mut(..keyword.len()) else {
        return Err("unknown command");
    };
    upper.copy_from_slice(keyword);
    upper.make_ascii_uppercase();
    let has_space = keyword.len() < line.len();
    let trimmed = argument.trim_ascii();
    let plain = |command| match trimmed {
        b"" => Ok(command),
        _ => Err("this command takes no argument"),
    };
    let number = |missing| parse_number(trimmed).ok_or(missing);
    match &*upper {
        b"USER" if trimmed.is_empty() => Err("USER needs a name"),
        b"USER" => Ok(Command::User(trimmed)),
        b"PASS" if !has_space => Err("PASS needs a password"),
        b"PASS" => Ok(Command::Pass(argument)),
        b"AUTH" => parse_auth(trimmed),
        b"CAPA" => plain(Command::Capa),
        b"UTF8" => plain(Command::Utf8),
        b"STAT" => plain(Command::Stat),
        b"LIST" if trimmed.is_empty() => Ok(Command::List(None)),
        b"LIST" => Ok(Command::List(Some(number("LIST takes a message number")?))),
        b"UIDL" if trimmed.is_empty() => Ok(Command::Uidl(None)),
        b"UIDL" => Ok(Command::Uidl(Some(number("UIDL takes a message number")?))),
        b"RETR" => Ok(Command::Retr(number("RETR needs a message number")?)),
        b"DELE" => Ok(Command::Dele(number("DELE needs a message number")?)),
        b"TOP" => parse_top(trimmed),
        b"NOOP" => plain(Command::Noop),
        b"RSET" => plain(Command::Rset),
        b"QUIT" => plain(Command::Quit),
        _ => Err("unknown command"),
    }
}

fn parse_auth(argument: &[u8]) -> Result<Command<'_>, &'static str> {
    let mut words = argument
        .split(|&byte| byte == b' ')
        .filter(|w| !w.is_empty());
    let command = Command::Auth {
        mechanism: words.next(),
        initial: words.next(),
    };
    match words.next() {
        None => Ok(command),
        Some(_) => Err("AUTH takes a mechanism and an initial response"),
    }
}

fn parse_top(argument: &[u8]) -> Result<Command<'_>, &'static str> {
    let mut words = argument
        .split(|&byte| byte == b' ')
        .filter(|w| !w.is_empty());
    let mut number = || words.next().and_then(parse_number);
    match (number(), number(), words.next()) {
        (Some(message), Some(lines), None) => Ok(Command::Top(message, lines)),
        _ => Err("TOP needs a message number and a number of lines"),
    }
}

/// Digits only; what does not fit is no number of ours.
fn parse_number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_commands_in_any_case() {
        let auth = |mechanism, initial| Command::Auth { mechanism, initial };
        for (line, command) in [
            (&b"user alice"[..], Command::User(b"alice")),
            (b"USER  alice ", Command::User(b"alice")),
            (b"PASS  two  words ", Command::Pass(b" two  words ")),
            (b"pass ", Command::Pass(b"")),
            (b"List", Command::List(None)),
            (b"LIST ", Command::List(None)),
            (b"LIST 007", Command::List(Some(7))),
            (b"TOP 1 0", Command::Top(1, 0)),
            (b"top 4294967295  10 ", Command::Top(u32::MAX, 10)),
            (b"AUTH", auth(None, None)),
            (b"AUTH PLAIN", auth(Some(b"PLAIN"), None)),
            (b"AUTH plain =", auth(Some(b"plain"), Some(b"="))),
            (b"QUIT ", Command::Quit),
        ] {
            assert_eq!(parse_command(line), Ok(command), "{line:?}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for line in [
            &b""[..],
            b" ",
            b" NOOP",
            b"NOOP x",
            b"APOP a b",
            b"RETR",
            b"RETR -1",
            b"RETR 1 2",
            b"RETR 4294967296",
            b"RETR +1",
            b"RETR 0x1",
            b"TOP 1",
            b"TOP 1 x",
            b"TOP 1 2 3",
            b"PASS",
            b"USER",
            b"USER  ",
            b"AUTH PLAIN a b",
            b"RETRIEVE 1",
            b"NO",
            b"\0\xff",
        ] {
            assert!(parse_command(line).is_err(), "{line:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(line: Vec<u8>) {
            let _ = parse_command(&line);
        }
    }
}
