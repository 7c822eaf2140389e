//! Addresses and paths: any text parses or errs, and what parses has one spelling.

use ringpost::limits::ADDRESS_BYTES_MAX;
use ringpost::mail::{Address, ForwardPath, ReversePath};

/// Words that lead somewhere, for inputs made by chance.
pub const WORDS: &[&[u8]] = &[
    b"<",
    b">",
    b"@",
    b"\"",
    b"\\",
    b".",
    b",",
    b":",
    b"user",
    b"example.org",
    b"EXAMPLE",
    b"[192.0.2.1]",
    b"[IPv6:2001:db8::1]",
    b"@a.example,@b.example:",
    "ü".as_bytes(),
    "İ".as_bytes(),
    b"Postmaster",
    b" ",
    b"-",
];

/// The bytes behind the first four (which other targets use) are the text.
pub fn address(data: &[u8]) {
    let Some(text) = data
        .get(4..)
        .and_then(|text| std::str::from_utf8(text).ok())
    else {
        return;
    };
    if let Ok(address) = Address::parse(text) {
        check(&address);
    }
    if let Ok((path, rest)) = ReversePath::parse_prefix(text) {
        assert!(text.ends_with(rest));
        assert_eq!(ReversePath::parse_prefix(&path.to_string()), Ok((path, "")));
    }
    if let Ok((path, rest)) = ForwardPath::parse_prefix(text) {
        assert!(text.ends_with(rest));
        if let ForwardPath::Address(address) = &path {
            check(address);
        }
        assert_eq!(ForwardPath::parse_prefix(&path.to_string()), Ok((path, "")));
    }
}

fn check(address: &Address) {
    let text = address.as_str();
    assert!(text.len() <= ADDRESS_BYTES_MAX);
    assert!(!text.contains(char::is_control));
    assert_eq!(Address::parse(text).as_ref(), Ok(address));
    assert_eq!(
        format!("{}@{}", address.local_part(), address.domain()),
        text
    );
    assert_eq!(address.account_key().account_key(), address.account_key());
}
