use proptest::prelude::*;

use super::*;

fn canonical(text: &str) -> String {
    match Address::parse(text) {
        Ok(address) => address.as_str().to_owned(),
        Err(error) => panic!("{text}: {error}"),
    }
}

#[test]
fn canonical_form_lowers_the_domain_only() {
    assert_eq!(canonical("User.Name@EXAMPLE.Org"), "User.Name@example.org");
    let address = Address::parse("User.Name@EXAMPLE.Org").unwrap();
    assert_eq!(address.local_part(), "User.Name");
    assert_eq!(address.domain(), "example.org");
    assert_eq!(address.account_key().as_str(), "user.name@example.org");
}

#[test]
fn every_atext_character_is_allowed() {
    assert_eq!(canonical("!#$%&'*+-/=?^_`{|}~@a"), "!#$%&'*+-/=?^_`{|}~@a");
}

#[test]
fn quoting_stays_only_where_needed() {
    assert_eq!(canonical(r#""user"@a"#), "user@a");
    assert_eq!(canonical(r#""u\s\e\r.x"@a"#), "user.x@a");
    assert_eq!(canonical(r#""a b"@a"#), r#""a b"@a"#);
    assert_eq!(canonical(r#""a\ b"@a"#), r#""a b"@a"#);
    assert_eq!(canonical(r#""a@b"@a"#), r#""a@b"@a"#);
    assert_eq!(canonical(r#""a\"\\b"@a"#), r#""a\"\\b"@a"#);
    assert_eq!(canonical(r#"".a"@a"#), r#"".a"@a"#);
    assert_eq!(canonical(r#"""@a"#), r#"""@a"#);
}

#[test]
fn the_at_sign_in_quotes_is_not_the_one() {
    let address = Address::parse(r#""a@b"@Example.org"#).unwrap();
    assert_eq!(address.local_part(), r#""a@b""#);
    assert_eq!(address.domain(), "example.org");
}

#[test]
fn literals_have_one_spelling() {
    assert_eq!(canonical("u@[192.0.2.1]"), "u@[192.0.2.1]");
    assert_eq!(
        canonical("u@[ipv6:2001:DB8:0:0::1]"),
        "u@[IPv6:2001:db8::1]"
    );
    for text in [
        "u@[192.0.2.256]",
        "u@[192.0.2]",
        "u@[IPv6:1]",
        "u@[2001:db8::1]",
        "u@[x400:c=us]",
        "u@[192.0.2.1",
        "u@[192.0.2.1]x",
        "u@[]",
        "u@[é]",
    ] {
        assert!(Address::parse(text).is_err(), "{text}");
    }
}

#[test]
fn an_internationalized_domain_is_one_however_it_is_written() {
    for text in [
        "a@bücher.example",
        "a@BÜCHER.EXAMPLE",
        "a@bu\u{308}cher.example",
        "a@xn--bcher-kva.example",
        "a@XN--BCHER-KVA.Example",
        // An ideographic full stop, and full-width letters.
        "a@bücher\u{3002}example",
        "a@bücher.ｅｘａｍｐｌｅ",
    ] {
        let address = Address::parse(text).unwrap();
        assert_eq!(address.as_str(), "a@xn--bcher-kva.example", "{text}");
    }
    for text in [
        // A full-width commercial at, and one that is a hyphen in front.
        "a@bü\u{ff20}b.example",
        "a@-bücher.example",
        "a@bücher..example",
        "a@bü_cher.example",
        "a@\u{301}a.example",
        "a@ü\u{200b}\u{fffd}.example",
    ] {
        assert!(Address::parse(text).is_err(), "{text}");
    }
    // ASCII is taken as it is, whatever it pretends to be.
    assert!(Address::parse("a@xn--zzzzzzzz.example").is_ok());
}

#[test]
fn utf8_is_taken_and_known() {
    let address = Address::parse("用户@BÜCHER.example").unwrap();
    assert_eq!(address.as_str(), "用户@xn--bcher-kva.example");
    for text in ["a\u{85}b@c", "a\u{a0}b@c", "a@b\u{2028}c", "\"\u{7f}\"@c"] {
        assert!(Address::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn errors_say_what_is_wrong() {
    use AddressError::*;
    for (text, error) in [
        ("", NoLocalPart),
        ("@", NoLocalPart),
        ("@example.org", NoLocalPart),
        ("user", NoDomain),
        ("user@", NoDomain),
        (".a@b", LocalPartDots),
        ("a.@b", LocalPartDots),
        ("a..b@c", LocalPartDots),
        ("a b@c", LocalPartCharacter(' ')),
        ("<a@b>", LocalPartCharacter('<')),
        ("a\"b\"@c", LocalPartCharacter('"')),
        ("\"a", QuoteOpen),
        ("\"a\\", QuoteOpen),
        ("\"a\\\"", QuoteOpen),
        ("\"a\tb\"@c", QuotedCharacter('\t')),
        ("\"a\"b@c", LocalPartCharacter('b')),
        ("a@b@c", DomainCharacter('@')),
        ("a@b_c", DomainCharacter('_')),
        ("a@b c", DomainCharacter(' ')),
        ("a@-b", DomainLabel),
        ("a@b-", DomainLabel),
        ("a@b..c", DomainLabel),
        ("a@.b", DomainLabel),
        ("a@b.", DomainLabel),
    ] {
        assert_eq!(Address::parse(text), Err(error), "{text:?}");
    }
    assert_eq!(
        AddressError::LocalPartCharacter('\r').to_string(),
        "\\r is not allowed in a local part unless quoted"
    );
}

#[test]
fn bounds_hold_on_both_sides() {
    let local = "l".repeat(LOCAL_PART_BYTES_MAX);
    let label = "d".repeat(LABEL_BYTES_MAX);
    let domain = format!("{label}.{label}.{label}.{label}");
    assert_eq!(domain.len(), DOMAIN_BYTES_MAX);
    assert!(Address::parse(&format!("{local}@{domain}")).is_ok());
    assert_eq!(
        Address::parse(&format!("l{local}@a")),
        Err(AddressError::LocalPartTooLong)
    );
    assert_eq!(
        Address::parse(&format!("\"{local}x\"@a")),
        Err(AddressError::LocalPartTooLong)
    );
    assert_eq!(
        Address::parse(&format!("a@{domain}d")),
        Err(AddressError::DomainTooLong)
    );
    assert_eq!(
        Address::parse(&format!("a@d{label}")),
        Err(AddressError::DomainLabel)
    );
    let cyrillic = "длинноеимядоменапорусскинаписанное";
    assert!(Address::parse(&format!("a@{cyrillic}.example")).is_ok());
    // What is short in letters may be long as A-label.
    let far = (0..60).filter_map(|n| char::from_u32(0x4e00 + n * 97));
    let swelling: String = far.collect();
    assert_eq!(
        Address::parse(&format!("a@{swelling}")),
        Err(AddressError::DomainInternational)
    );
}

#[test]
fn one_name_spelled_in_two_ways_is_one_account() {
    let key = |text: &str| Address::parse(text).unwrap().account_key();
    for (composed, decomposed) in [
        ("josé@example.org", "jose\u{301}@example.org"),
        ("JOSÉ@example.org", "JOSE\u{301}@example.org"),
        ("\u{1f0}@example.org", "J\u{30c}@example.org"),
        ("k@example.org", "\u{212a}@example.org"),
        ("\"é b\"@example.org", "\"e\u{301} b\"@example.org"),
    ] {
        assert_eq!(key(composed), key(decomposed), "{composed}");
    }
    // Only the name of the account changes, not what others get to see.
    let address = Address::parse("jose\u{301}@example.org").unwrap();
    assert_eq!(address.as_str(), "jose\u{301}@example.org");
    // These would be no addresses.
    for text in [
        "a\u{37e}b@example.org",
        &format!("{}@a", "\u{958}".repeat(80)),
    ] {
        assert_eq!(key(text).as_str(), text);
    }
}

#[test]
fn absurd_input_ends_in_an_error() {
    for text in [
        "(".repeat(100_000),
        "\"".repeat(100_001),
        "\\".repeat(100_000),
        "a@".repeat(50_000),
        "@a,".repeat(30_000),
        "[".repeat(100_000),
        ".".repeat(100_000),
        "\u{0}".repeat(100),
    ] {
        assert!(Address::parse(&text).is_err());
    }
}

proptest! {
    #[test]
    fn anything_parses_or_errs(text in any::<String>()) {
        let _ = Address::parse(&text);
    }

    #[test]
    fn an_account_has_one_name_which_is_an_address(local_part in r"[\pL\pM\pN;=]{1,12}") {
        if let Ok(address) = Address::parse(&format!("{local_part}@example.org")) {
            let key = address.account_key();
            prop_assert_eq!(key.account_key(), key.clone());
            prop_assert_eq!(Address::parse(key.as_str()), Ok(key));
        }
    }

    #[test]
    fn canonical_form_is_a_fixed_point(
        text in r#"("[ -~]{0,12}"|[a-zA-Z0-9.+é-]{1,12})@([a-zA-Z0-9ÄSß.-]{1,20}|\[[0-9.]{7,9}\]|\[IPv6:[0-9a-f:]{2,12}\])"#
    ) {
        if let Ok(address) = Address::parse(&text) {
            prop_assert_eq!(Address::parse(address.as_str()), Ok(address.clone()));
            prop_assert_eq!(
                format!("{}@{}", address.local_part(), address.domain()),
                address.as_str()
            );
            let key = address.account_key();
            prop_assert_eq!(key.account_key(), key);
        }
    }
}
