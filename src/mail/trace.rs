//! `Return-Path` and `Received`, put in front of a message at final delivery (RFC 5321 §4.4, [N11]).
//!
//! Guarantees: well-formed, folded fields with no line over 998 bytes, for any envelope that
//! parsed; one `for` clause exactly where the envelope has one recipient.
//! Does not know: the clock (seconds are an argument), time zones (UTC always).

use std::io::Write;
use std::net::IpAddr;

use super::reply::write_decimal;
use super::{Envelope, ForwardPath, ReversePath};

/// Bytes of a date as written by [`write_date`].
const DATE_BYTES: usize = 31;
/// Bytes to reserve for the parts of a trace header that have a bound by themselves.
const FIXED_BYTES: usize = 256;

/// Where a message came from and who took it: what the envelope does not say.
#[derive(Debug, Clone, Copy)]
pub struct Hop<'a> {
    /// The name given in EHLO, HELO or LHLO; a session has checked its characters.
    pub client_name: &'a str,
    /// The other end's address; `None`: a Unix socket.
    pub peer: Option<IpAddr>,
    /// Our own name.
    pub hostname: &'a str,
    /// `SMTP`, `ESMTP`, `LMTP`, ... (RFC 3848, RFC 6531 §4.3).
    pub with_protocol: &'a str,
    /// The queue id: an atom.
    pub queue_id: &'a str,
}

/// Writes `Return-Path` and `Received` for a final delivery at `unix_seconds` (UTC, since 1970).
pub fn write_trace(envelope: &Envelope, hop: &Hop<'_>, unix_seconds: u64, out: &mut Vec<u8>) {
    out.reserve(
        FIXED_BYTES
            + envelope.reverse_path.as_str().len()
            + hop.client_name.len()
            + hop.hostname.len(),
    );
    write_return_path(&envelope.reverse_path, out);
    let only_recipient = match envelope.forward_paths.as_slice() {
        [only] => Some(only),
        _ => None,
    };
    write_received(hop, only_recipient, unix_seconds, out);
}

/// ```text
/// Return-path-line = "Return-Path:" FWS Reverse-path <CRLF>
/// ```
pub fn write_return_path(reverse_path: &ReversePath, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Return-Path: <");
    out.extend_from_slice(reverse_path.as_str().as_bytes());
    out.extend_from_slice(b">\r\n");
}

/// ```text
/// Time-stamp-line = "Received:" FWS Stamp <CRLF>
/// Stamp           = From-domain By-domain Opt-info [CFWS] ";" FWS date-time
/// Extended-Domain = Domain / ( Domain FWS "(" TCP-info ")" ) / ...
/// TCP-info        = address-literal / ( Domain FWS address-literal )
/// ```
///
/// `only_recipient` is the envelope's recipient where it has exactly one: naming one of several
/// would tell each of a blind copy to the other [N11].
pub fn write_received(
    hop: &Hop<'_>,
    only_recipient: Option<&ForwardPath>,
    unix_seconds: u64,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"Received: from ");
    out.extend_from_slice(hop.client_name.as_bytes());
    match hop.peer.map(|address| address.to_canonical()) {
        None => out.extend_from_slice(b" (local)"),
        Some(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            out.extend_from_slice(b" ([");
            write_decimal(u32::from(a), out);
            for octet in [b, c, d] {
                out.push(b'.');
                write_decimal(u32::from(octet), out);
            }
            out.extend_from_slice(b"])");
        }
        Some(IpAddr::V6(address)) => {
            write!(out, " ([IPv6:{address}])").expect("writing to a Vec does not fail");
        }
    }
    out.extend_from_slice(b"\r\n\tby ");
    out.extend_from_slice(hop.hostname.as_bytes());
    out.extend_from_slice(b" (Ringpost) with ");
    out.extend_from_slice(hop.with_protocol.as_bytes());
    out.extend_from_slice(b" id ");
    out.extend_from_slice(hop.queue_id.as_bytes());
    if let Some(recipient) = only_recipient {
        out.extend_from_slice(b"\r\n\tfor <");
        out.extend_from_slice(recipient.as_str().as_bytes());
        out.push(b'>');
    }
    out.extend_from_slice(b";\r\n\t");
    write_date(unix_seconds, out);
    out.extend_from_slice(b"\r\n");
}

/// Writes `Sun, 22 Nov 2026 12:37:15 +0000` (RFC 5322 §3.3), always 31 bytes; seconds beyond the
/// year 9999 count as its last one.
pub fn write_date(unix_seconds: u64, out: &mut Vec<u8>) {
    const SECONDS_MAX: u64 = 253_402_300_799;
    const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
    const MONTHS: [&[u8; 3]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    let seconds = unix_seconds.min(SECONDS_MAX);
    let days = seconds / 86_400;
    let of_day = (seconds % 86_400) as u32;
    let (year, month, day) = civil_from_days(days as u32);
    let mut text = *b"Xxx, 00 Xxx 0000 00:00:00 +0000";
    text[..3].copy_from_slice(DAYS[(days % 7) as usize]);
    put_two(&mut text, 5, day);
    text[8..11].copy_from_slice(MONTHS[month as usize]);
    put_two(&mut text, 12, year / 100);
    put_two(&mut text, 14, year % 100);
    put_two(&mut text, 17, of_day / 3600);
    put_two(&mut text, 20, of_day / 60 % 60);
    put_two(&mut text, 23, of_day % 60);
    out.extend_from_slice(&text);
}

fn put_two(text: &mut [u8; DATE_BYTES], at: usize, value: u32) {
    text[at] = b'0' + (value / 10 % 10) as u8;
    text[at + 1] = b'0' + (value % 10) as u8;
}

/// Year, month (0 to 11) and day (1 to 31) of a day since 1970-01-01 in the Gregorian calendar.
///
/// Years are counted from 1 March, so that the leap day is the last of its year: then the months
/// have a fixed pattern of 153 days in five.
fn civil_from_days(days_since_1970: u32) -> (u32, u32, u32) {
    const DAYS_TO_1970: u32 = 719_468; // from 0000-03-01
    const DAYS_OF_400_YEARS: u32 = 146_097;
    let days = days_since_1970 + DAYS_TO_1970;
    let era = days / DAYS_OF_400_YEARS;
    let of_era = days % DAYS_OF_400_YEARS;
    // Take the leap days out, so that every year has 365.
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + u32::from(month < 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Address;

    fn date(unix_seconds: u64) -> String {
        let mut out = Vec::new();
        write_date(unix_seconds, &mut out);
        assert_eq!(out.len(), DATE_BYTES);
        String::from_utf8(out).unwrap()
    }

    /// Checked against `date -u -R -d @N`.
    #[test]
    fn dates_as_of_the_calendar() {
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 +0000");
        assert_eq!(date(951_782_400), "Tue, 29 Feb 2000 00:00:00 +0000");
        assert_eq!(date(951_868_800), "Wed, 01 Mar 2000 00:00:00 +0000");
        assert_eq!(date(1_795_351_035), "Sun, 22 Nov 2026 12:37:15 +0000");
        assert_eq!(date(4_107_542_399), "Sun, 28 Feb 2100 23:59:59 +0000");
        assert_eq!(date(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 +0000");
        assert_eq!(date(253_402_300_799), "Fri, 31 Dec 9999 23:59:59 +0000");
        assert_eq!(date(u64::MAX), date(253_402_300_799));
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let (mut year, mut month, mut day) = civil_from_days(0);
        for days in 1..400 * 366 {
            let (next_year, next_month, next_day) = civil_from_days(days);
            if next_day != day + 1 {
                assert_eq!(next_day, 1);
                assert!((28..=31).contains(&day));
                assert_eq!(next_month, (month + 1) % 12);
                assert_eq!(next_year, year + u32::from(month == 11));
            }
            (year, month, day) = (next_year, next_month, next_day);
        }
    }

    const HOP: Hop<'static> = Hop {
        client_name: "client.example",
        peer: Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10))),
        hostname: "mx.example.org",
        with_protocol: "ESMTP",
        queue_id: "0a1b2c",
    };

    fn envelope(recipients: &[&str]) -> Envelope {
        Envelope {
            reverse_path: ReversePath::Address(Address::parse("s@example.com").unwrap()),
            forward_paths: recipients
                .iter()
                .map(|text| ForwardPath::Address(Address::parse(text).unwrap()))
                .collect(),
            ..Envelope::default()
        }
    }

    fn trace(envelope: &Envelope, hop: &Hop<'_>) -> String {
        let mut out = Vec::new();
        write_trace(envelope, hop, 1_795_351_035, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_recipient_is_named() {
        assert_eq!(
            trace(&envelope(&["u@example.org"]), &HOP),
            "Return-Path: <s@example.com>\r\n\
             Received: from client.example ([192.0.2.10])\r\n\
             \tby mx.example.org (Ringpost) with ESMTP id 0a1b2c\r\n\
             \tfor <u@example.org>;\r\n\
             \tSun, 22 Nov 2026 12:37:15 +0000\r\n"
        );
    }

    #[test]
    fn several_recipients_are_not_named() {
        let text = trace(&envelope(&["u@example.org", "v@example.org"]), &HOP);
        assert!(!text.contains("for <"), "{text}");
        assert!(text.contains("id 0a1b2c;\r\n\tSun,"), "{text}");
    }

    #[test]
    fn peers_of_every_kind() {
        let with_peer = |peer| trace(&envelope(&[]), &Hop { peer, ..HOP });
        assert!(with_peer(None).contains("client.example (local)\r\n"));
        let six = with_peer(Some("2001:db8::1".parse().unwrap()));
        assert!(six.contains("([IPv6:2001:db8::1])"), "{six}");
        let mapped = with_peer(Some("::ffff:192.0.2.10".parse().unwrap()));
        assert!(mapped.contains("([192.0.2.10])"), "{mapped}");
    }

    #[test]
    fn the_longest_lines_stay_below_998() {
        let label = "d".repeat(63);
        let domain = format!("{label}.{label}.{label}.{label}");
        let address = format!("{}@{domain}", "l".repeat(256));
        let text = trace(
            &envelope(&[&address]),
            &Hop {
                client_name: &domain,
                hostname: &domain,
                peer: Some("1111:2222:3333:4444:5555:6666:7777:8888".parse().unwrap()),
                ..HOP
            },
        );
        assert!(text.split("\r\n").all(|line| line.len() <= 998));
    }
}
