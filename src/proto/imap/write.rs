//! The small parts of responses (RFC 9051 §7, §9): numbers, flags, dates, strings.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::command::Flags;
use super::parse::month_name;

/// Bytes of a text from elsewhere in a response line.
const TEXT_BYTES_MAX: usize = 400;

/// A number. Faster than the formatter: a listing of flags is hardly anything else.
pub fn number(number: impl Into<u64>, out: &mut Vec<u8>) {
    let mut number: u64 = number.into();
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// `FLAGS (...)` of a message: system flags, then keywords by bit.
pub fn flags(flags: Flags, keywords: u64, names: &[String], out: &mut Vec<u8>) {
    out.extend_from_slice(b"FLAGS ");
    flag_list(
        flags,
        names
            .iter()
            .enumerate()
            .filter(|(bit, _)| keywords >> bit & 1 == 1)
            .map(|(_, name)| name.as_str()),
        out,
    );
}

/// A list of flags in parentheses.
pub fn flag_list<'a>(flags: Flags, keywords: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    out.push(b'(');
    let start = out.len();
    let system = Flags::ALL
        .iter()
        .filter(|(flag, _)| flags.has(*flag))
        .map(|(_, name)| *name);
    for name in system.chain(keywords) {
        if out.len() > start {
            out.push(b' ');
        }
        out.extend_from_slice(name.as_bytes());
    }
    out.push(b')');
}

/// `date-time` in UTC: a store keeps moments, not zones.
pub fn date_time(time_ms: u64, out: &mut Vec<u8>) {
    use std::io::Write as _;
    let seconds = i64::try_from(time_ms / 1000).unwrap_or(i64::MAX);
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    let time = time.to_zoned(TimeZone::UTC);
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        "\"{:2}-{}-{:04} {:02}:{:02}:{:02} +0000\"",
        time.day(),
        month_name(time.month()),
        time.year(),
        time.hour(),
        time.minute(),
        time.second()
    );
}

/// A text at the end of a response: what could end the line or is not ASCII becomes a space.
pub fn text(text: &str, out: &mut Vec<u8>) {
    let bytes = text.bytes().take(TEXT_BYTES_MAX);
    out.extend(bytes.map(|byte| if byte.is_ascii_graphic() { byte } else { b' ' }));
}

/// A quoted string, of text that needs no literal.
pub fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes().filter(|byte| !byte.is_ascii_control()) {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn parts_of_responses() {
        for wanted in [0, 7, 10, 4_294_967_295, u64::MAX] {
            assert_eq!(written(|out| number(wanted, out)), wanted.to_string());
        }
        let names = ["$a".to_owned(), "b".to_owned()];
        let seen = Flags::SEEN.with(Flags::DELETED);
        assert_eq!(
            written(|out| flags(seen, 2, &names, out)),
            "FLAGS (\\Deleted \\Seen b)"
        );
        assert_eq!(written(|out| flags(Flags(0), 0, &names, out)), "FLAGS ()");
        assert_eq!(
            written(|out| date_time(837_596_665_999, out)),
            "\"17-Jul-1996 09:44:25 +0000\""
        );
        assert_eq!(
            written(|out| date_time(0, out)),
            "\" 1-Jan-1970 00:00:00 +0000\""
        );
        date_time(u64::MAX, &mut Vec::new());
        assert_eq!(written(|out| text("a\r\n* OK é", out)), "a  * OK   ");
    }
}
