//! The site, what recipients mean in it, and passwords with vectors of other implementations.

use proptest::prelude::*;

use super::password::{Imported, NOBODY, PasswordError, Scheme, check_hash, hash, import, verify};
use super::*;
use crate::limits;
use crate::mail::{Address, ForwardPath};

fn address(text: &str) -> Address {
    Address::parse(text).expect(text)
}

/// Applies what the site itself says a change is.
fn change(site: &mut Site, change: Result<Change, SiteError>) {
    let change = change.expect("allowed");
    site.apply(&change.key, change.value.as_deref())
        .expect("understood");
}

fn alias(site: &mut Site, name: &str, targets: &[&str]) {
    let targets: Vec<Address> = targets.iter().map(|t| address(t)).collect();
    let made = site.set_alias(&address(name), &targets);
    change(site, made);
}

/// x.test and y.test, postmaster@x.test.
fn two_domains() -> Site {
    let mut site = Site::default();
    for domain in ["x.test", "y.test"] {
        let added = site.add_domain(domain);
        change(&mut site, added);
    }
    let named = site.set_postmaster(&address("postmaster@x.test"));
    change(&mut site, named);
    site
}

/// The tries as text: `a b | c` is a and b together, then c.
fn resolved(site: &Site, path: &str) -> String {
    let path = match path {
        "Postmaster" => ForwardPath::Postmaster,
        text => ForwardPath::Address(address(text)),
    };
    match site.resolve(&path) {
        Resolution::NotServed => "not served".to_owned(),
        Resolution::TooWide => "too wide".to_owned(),
        Resolution::Tries(tries) => {
            let tries: Vec<String> = tries
                .iter()
                .map(|t| {
                    let names: Vec<&str> = t.accounts.iter().map(Address::as_str).collect();
                    names.join(" ")
                })
                .collect();
            tries.join(" | ")
        }
    }
}

#[test]
fn an_address_is_itself_and_other_domains_are_not_served() {
    let site = two_domains();
    assert_eq!(resolved(&site, "A@x.test"), "a@x.test");
    assert_eq!(resolved(&site, "a@z.test"), "not served");
    assert_eq!(resolved(&site, "a@sub.x.test"), "not served");
    assert_eq!(resolved(&Site::default(), "a@x.test"), "not served");
}

#[test]
fn detail_is_tried_without_after_with() {
    let site = two_domains();
    assert_eq!(
        resolved(&site, "a+lists+b@x.test"),
        "a+lists+b@x.test | a@x.test"
    );
    assert_eq!(resolved(&site, "+a@x.test"), "+a@x.test");
}

#[test]
fn an_alias_stands_for_its_targets() {
    let mut site = two_domains();
    alias(
        &mut site,
        "info@x.test",
        &["a@x.test", "b@y.test", "A@x.test"],
    );
    assert_eq!(resolved(&site, "INFO@x.test"), "a@x.test b@y.test");
    assert_eq!(
        resolved(&site, "info+x@x.test"),
        "info+x@x.test | a@x.test b@y.test"
    );
    alias(
        &mut site,
        "all@y.test",
        &["info@x.test", "c@x.test", "b@y.test"],
    );
    assert_eq!(resolved(&site, "all@y.test"), "c@x.test b@y.test a@x.test");
}

#[test]
fn an_alias_among_its_own_targets_keeps_its_account() {
    let mut site = two_domains();
    alias(&mut site, "a@x.test", &["a@x.test", "b@x.test"]);
    assert_eq!(resolved(&site, "a@x.test"), "a@x.test b@x.test");
    alias(&mut site, "all@x.test", &["a@x.test"]);
    assert_eq!(resolved(&site, "all@x.test"), "a@x.test b@x.test");
}

#[test]
fn loops_end_and_lead_nowhere() {
    let mut site = two_domains();
    alias(&mut site, "a@x.test", &["b@x.test"]);
    alias(&mut site, "b@x.test", &["a@x.test"]);
    assert_eq!(resolved(&site, "a@x.test"), "");
    alias(&mut site, "b@x.test", &["a@x.test", "c@x.test"]);
    assert_eq!(resolved(&site, "a@x.test"), "c@x.test");
    let set = site.set_catch_all("x.test", &address("d@x.test"));
    change(&mut site, set);
    alias(&mut site, "b@x.test", &["a@x.test"]);
    assert_eq!(resolved(&site, "a@x.test"), "d@x.test");
}

#[test]
fn expansion_is_bounded_in_depth_and_width() {
    let mut site = two_domains();
    for n in 1..=limits::ALIAS_DEPTH_MAX {
        alias(
            &mut site,
            &format!("a{n}@x.test"),
            &[&format!("a{}@x.test", n - 1)],
        );
    }
    assert_eq!(
        resolved(&site, &format!("a{}@x.test", limits::ALIAS_DEPTH_MAX)),
        "a0@x.test"
    );
    let deeper = site.set_alias(
        &address("deep@x.test"),
        &[address(&format!("a{}@x.test", limits::ALIAS_DEPTH_MAX))],
    );
    assert!(matches!(deeper, Err(SiteError::TooWide(_))), "{deeper:?}");
    // The far end grows: those who lead there would get too deep.
    let longer = site.set_alias(&address("a0@x.test"), &[address("end@x.test")]);
    assert!(matches!(longer, Err(SiteError::TooWide(_))), "{longer:?}");

    let many = |prefix: &str| -> Vec<Address> {
        (0..600)
            .map(|n| address(&format!("{prefix}{n}@x.test")))
            .collect()
    };
    for name in ["b", "c"] {
        let made = site.set_alias(&address(&format!("{name}@x.test")), &many(name));
        change(&mut site, made);
    }
    let both = [address("b@x.test"), address("c@x.test")];
    let wide = site.set_alias(&address("wide@x.test"), &both);
    assert!(matches!(wide, Err(SiteError::TooWide(_))), "{wide:?}");
    // Should such a one be in the log all the same, it is an answer, not a flood.
    site.apply(b"site/alias/wide@x.test", Some(b"b@x.test\nc@x.test"))
        .expect("understood");
    assert_eq!(resolved(&site, "wide@x.test"), "too wide");
}

#[test]
fn the_postmaster_is_reached_in_every_domain_served() {
    let mut site = two_domains();
    assert_eq!(resolved(&site, "Postmaster"), "postmaster@x.test");
    assert_eq!(resolved(&site, "PostMaster@x.test"), "postmaster@x.test");
    assert_eq!(
        resolved(&site, "POSTMASTER@y.test"),
        "postmaster@y.test | postmaster@x.test"
    );
    assert_eq!(resolved(&site, "postmaster@z.test"), "not served");
    assert_eq!(
        resolved(&site, "postmaster+x@y.test"),
        "postmaster+x@y.test | postmaster@y.test | postmaster@x.test"
    );
    let named = site.set_postmaster(&address("joe@x.test"));
    change(&mut site, named);
    assert_eq!(resolved(&site, "Postmaster"), "joe@x.test");
    alias(&mut site, "joe@x.test", &["ann@y.test"]);
    assert_eq!(resolved(&site, "Postmaster"), "ann@y.test");
    let nobody = Site::default();
    assert_eq!(resolved(&nobody, "Postmaster"), "not served");
}

#[test]
fn the_catch_all_comes_last_and_may_be_an_alias() {
    let mut site = two_domains();
    let set = site.set_catch_all("Y.test", &address("Joe@x.test"));
    change(&mut site, set);
    assert_eq!(resolved(&site, "a@y.test"), "a@y.test | joe@x.test");
    assert_eq!(resolved(&site, "a@x.test"), "a@x.test");
    assert_eq!(
        resolved(&site, "postmaster@y.test"),
        "postmaster@y.test | postmaster@x.test | joe@x.test"
    );
    alias(&mut site, "joe@x.test", &["a@x.test", "b@x.test"]);
    assert_eq!(
        resolved(&site, "q+w@y.test"),
        "q+w@y.test | q@y.test | a@x.test b@x.test"
    );
    let clear = site.clear_catch_all("y.test");
    change(&mut site, clear);
    assert_eq!(resolved(&site, "a@y.test"), "a@y.test");
}

#[test]
fn configured_domains_are_served_and_not_kept() {
    let site = two_domains().with_configured(&["z.test".to_owned(), "x.test".to_owned()]);
    assert_eq!(resolved(&site, "a@z.test"), "a@z.test");
    assert_eq!(
        site.domains(),
        [("x.test", false), ("y.test", false), ("z.test", true)]
    );
    let error = site.remove_domain("z.test").expect_err("configured");
    assert_eq!(error, SiteError::DomainConfigured("z.test".to_owned()));
    assert!(
        site.entries()
            .iter()
            .all(|(key, _)| key != b"site/domain/z.test")
    );
    site.add_domain("z.test").expect("may be kept, too");
}

#[test]
fn there_must_be_exactly_one_postmaster() {
    let site = two_domains();
    assert_eq!(
        site.check_postmaster(|_| true),
        Ok(&address("postmaster@x.test"))
    );
    let gone = site
        .check_postmaster(|_| false)
        .expect_err("no account")
        .to_string();
    assert!(
        gone.contains("the postmaster postmaster@x.test has no account"),
        "{gone}"
    );
    let none = Site::default()
        .check_postmaster(|_| true)
        .expect_err("none")
        .to_string();
    assert!(none.contains("exactly one account must be it"), "{none}");
    // A second one takes the place of the first.
    let mut site = site;
    let named = site.set_postmaster(&address("b@y.test"));
    change(&mut site, named);
    assert_eq!(site.postmaster(), Some(&address("b@y.test")));
    assert_eq!(Site::load(site.entries()), Ok(site));
}

#[test]
fn login_names_get_the_default_domain() {
    let site = two_domains();
    let login =
        |name: &str, domain: Option<&str>| site.login_address(name, domain).map(|a| a.to_string());
    assert_eq!(login("Joe", None).as_deref(), Some("joe@x.test"));
    assert_eq!(login("joe", Some("y.test")).as_deref(), Some("joe@y.test"));
    assert_eq!(
        login("Joe@Y.test", Some("x.test")).as_deref(),
        Some("joe@y.test")
    );
    assert_eq!(login("", None), None);
    assert_eq!(login("a b", None), None);
    assert_eq!(Site::default().login_address("joe", None), None);
}

#[test]
fn the_log_makes_the_site_again_and_bad_entries_are_named() {
    let mut site = two_domains();
    alias(&mut site, "a@x.test", &["b@x.test", "c@y.test"]);
    let set = site.set_catch_all("y.test", &address("a@x.test"));
    change(&mut site, set);
    assert_eq!(Site::load(site.entries()), Ok(site.clone()));
    for (key, value, problem) in [
        (&b"site/colour/red"[..], &b""[..], "not a kind of entry"),
        (b"site/domain/a b", b"", "cannot be in a domain"),
        (b"site/alias/x", b"a@x.test", "\"x\":"),
        (b"site/alias/a@x.test", b"b@x.test\nnobody", "\"nobody\":"),
        (b"site/postmaster", b"\xff", "not UTF-8"),
        (b"site/\xff", b"", "not UTF-8"),
    ] {
        let before = site.clone();
        let error = site.apply(key, Some(value)).expect_err("bad").to_string();
        assert!(error.contains(problem), "{error}");
        assert!(error.starts_with("entry \"site/"), "{error}");
        assert_eq!(site, before, "nothing changed");
    }
}

/// Few names, so that aliases meet each other.
fn names() -> impl Strategy<Value = Address> {
    (
        0_u8..6,
        prop_oneof![Just("x.test"), Just("y.test"), Just("z.test")],
    )
        .prop_map(|(n, domain)| address(&format!("n{n}@{domain}")))
}

proptest! {
    /// Whatever is in the log, resolution ends, gives no account twice, and stays within bounds.
    #[test]
    fn resolution_is_bounded(aliases in proptest::collection::vec((names(), proptest::collection::vec(names(), 0..5)), 0..12), path in names(), detail in any::<bool>()) {
        let mut site = two_domains();
        for (name, targets) in &aliases {
            let lines: Vec<String> = targets.iter().map(ToString::to_string).collect();
            site.apply(format!("site/alias/{name}").as_bytes(), Some(lines.join("\n").as_bytes())).expect("understood");
        }
        let path = if detail { address(&format!("{}+d@{}", path.local_part(), path.domain())) } else { path };
        let served = path.domain() != "z.test";
        match site.resolve(&ForwardPath::Address(path.clone())) {
            Resolution::NotServed => prop_assert!(!served),
            Resolution::TooWide => prop_assert!(false, "too few for that"),
            Resolution::Tries(tries) => {
                prop_assert!(served);
                for tried in tries {
                    prop_assert!(!tried.accounts.is_empty());
                    let distinct: std::collections::HashSet<_> = tried.accounts.iter().collect();
                    prop_assert_eq!(distinct.len(), tried.accounts.len());
                    for account in &tried.accounts {
                        let own = site.alias(account).is_none_or(|t| t.contains(account));
                        prop_assert!(own, "{account} is an alias for others");
                    }
                }
            }
        }
    }

    /// Changes that the site allows never leave an alias or catch-all that points outside, and the
    /// log always makes the same site again.
    #[test]
    fn settings_and_addresses_agree_on_domains(
        text in "[a-cA-CüÜßĳЖ中。ｘ0-9_-]{1,6}([.。][a-zé]{1,4}){0,2}"
    ) {
        let as_setting = crate::config::parse_domain(&text);
        let as_address = Address::parse(&format!("u@{text}"));
        if let (Ok(setting), Ok(address)) = (&as_setting, &as_address) {
            prop_assert_eq!(address.domain(), setting);
        }
        if !text.contains('_') {
            prop_assert_eq!(as_setting.is_ok(), as_address.is_ok(), "{:?}", text);
        }
    }

    #[test]
    fn allowed_changes_keep_the_site_sound(steps in proptest::collection::vec((0_u8..7, names(), proptest::collection::vec(names(), 0..4)), 0..40)) {
        let mut site = two_domains();
        for (step, name, targets) in steps {
            let wanted = match step {
                0 => site.add_domain(name.domain()),
                1 => site.remove_domain(name.domain()),
                2 | 3 => site.set_alias(&name, &targets),
                4 => site.remove_alias(&name),
                5 => site.set_catch_all(name.domain(), &name),
                _ => site.clear_catch_all(name.domain()),
            };
            if let Ok(change) = wanted {
                site.apply(&change.key, change.value.as_deref()).expect("understood");
            }
            for (alias, targets) in site.aliases() {
                prop_assert!(site.serves(alias.domain()));
                prop_assert!(targets.iter().all(|t| site.serves(t.domain())));
            }
            for (domain, target) in site.catch_alls() {
                prop_assert!(site.serves(domain) && site.serves(target.domain()));
            }
            prop_assert!(site.serves("x.test"), "the postmaster's domain stays");
            prop_assert_eq!(&Site::load(site.entries()).expect("understood"), &site);
        }
    }
}

/// Made by other implementations: the Argon2 reference test, glibc's and libxcrypt's crypt(3).
const VECTORS: &[(&str, &str)] = &[
    (
        "password",
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
    ),
    (
        "Hello world!",
        "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
    ),
    (
        "Hello world!",
        "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
    ),
    (
        "Hello world!",
        "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5",
    ),
    ("Hello world!", "$1$abcdefgh$fzmjzFdo5nMtBG8gtud5e0"),
    (
        "U*U",
        "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
    ),
    (
        "päss",
        "$2y$04$abcdefghijklmnopqrstuuF7KK/SfP9IRGj0pPJMr8GdtCS8xpmpC",
    ),
    (
        "päss",
        "$2b$04$abcdefghijklmnopqrstuuF7KK/SfP9IRGj0pPJMr8GdtCS8xpmpC",
    ),
];

#[test]
fn hashes_of_others_are_verified() {
    for (password, hash) in VECTORS {
        check_hash(hash).unwrap_or_else(|error| panic!("{hash}: {error}"));
        assert_eq!(verify(hash, password.as_bytes()), Ok(true), "{hash}");
        assert_eq!(verify(hash, b"wrong"), Ok(false), "{hash}");
        assert_eq!(verify(hash, b""), Ok(false), "{hash}");
        let with_nul = [password.as_bytes(), b"\0x"].concat();
        assert_eq!(verify(hash, &with_nul), Ok(false), "{hash}");
        let mut longer = (*hash).to_owned();
        longer.push('x');
        let damaged =
            check_hash(&longer).is_err() || verify(&longer, password.as_bytes()) != Ok(true);
        assert!(damaged, "{longer}");
    }
}

#[test]
fn our_own_hashes_fit_their_password_and_no_other() {
    for scheme in [Scheme::Light, Scheme::Argon2id] {
        let made = hash(scheme, "pässword".as_bytes()).expect("hashed");
        check_hash(&made).expect("ours");
        assert_eq!(verify(&made, "pässword".as_bytes()), Ok(true));
        assert_eq!(verify(&made, b"password"), Ok(false));
        assert_ne!(hash(scheme, "pässword".as_bytes()), Ok(made), "salted");
    }
    for name in Scheme::NAMES {
        assert!(Scheme::named(name).is_some());
    }
    assert_eq!(Scheme::named("md5"), None);
}

#[test]
fn nobody_has_the_hash_of_nobody() {
    check_hash(NOBODY).expect("well-formed");
    for password in [&b"x"[..], b"nobody", b"\0"] {
        assert_eq!(verify(NOBODY, password), Ok(false));
    }
    let params = NOBODY.split('$').nth(3);
    let real = hash(Scheme::Argon2id, b"x").expect("hashed");
    assert_eq!(
        params,
        real.split('$').nth(3),
        "costs as much as a real one"
    );
}

#[test]
fn passwords_that_no_client_can_send_are_refused() {
    for bad in [&b""[..], &[b'x'; 1025], b"a\0b", b"a\r", b"a\nb"] {
        assert!(hash(Scheme::Light, bad).is_err());
    }
    hash(Scheme::Light, &[b'x'; 1024]).expect("as long as allowed");
}

#[test]
fn passwd_file_fields_are_imported() {
    let sha512 = VECTORS[1].1;
    for field in [
        sha512.to_owned(),
        format!("{{CRYPT}}{sha512}"),
        format!("{{sha512-crypt}}{sha512}"),
    ] {
        assert!(
            import(&field) == Ok(Imported::Hash(sha512.to_owned())),
            "{field}"
        );
    }
    for (scheme, index) in [
        ("ARGON2ID", 0),
        ("SHA256-CRYPT", 3),
        ("MD5-CRYPT", 4),
        ("BLF-CRYPT", 5),
    ] {
        let hash = VECTORS[index].1;
        assert!(import(&format!("{{{scheme}}}{hash}")) == Ok(Imported::Hash(hash.to_owned())));
    }
    assert!(import("{PLAIN}pass}w{ord") == Ok(Imported::Plain("pass}w{ord".to_owned())));
}

#[test]
fn what_cannot_be_checked_is_not_imported() {
    let error = |field: &str| {
        import(field)
            .err()
            .unwrap_or_else(|| panic!("{field} was taken"))
    };
    for field in [
        "",
        "secret",
        "{SSHA}x",
        "{SHA256-CRYPT}$6$a$b",
        "{PLAIN",
        "$y$j9T$x$y",
        "rEK1ecacw.7.c",
    ] {
        assert_eq!(error(field), PasswordError::UnknownScheme, "{field}");
    }
    assert_eq!(error("{PLAIN}"), PasswordError::Length);
    for field in [
        "$6$salt",
        "$6$salt$short",
        "$6$rounds=x$salt$y",
        "$2y$4$abc",
        "$2y$04$abcdefghijklmnopqrstuu",
        "$1$abcdefghi$fzmjzFdo5nMtBG8gtud5e0",
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ",
        "$argon2id$nonsense",
        "$1$abc$fzmjzFdo5nMtBG8gtud5e\u{e9}",
    ] {
        assert!(
            matches!(error(field), PasswordError::Malformed(_)),
            "{field}"
        );
    }
    let rounds = VECTORS[2].1.replace("rounds=10000", "rounds=999999999");
    assert!(matches!(
        error(&rounds),
        PasswordError::TooCostly { max: 1_000_000, .. }
    ));
    let cost = VECTORS[5].1.replace("$05$", "$31$");
    assert!(matches!(
        error(&cost),
        PasswordError::TooCostly {
            cost: 31,
            max: 15,
            ..
        }
    ));
    let memory = VECTORS[0].1.replace("m=256", "m=4194304");
    assert!(matches!(error(&memory), PasswordError::TooCostly { .. }));
    // No error shows what it was about.
    assert!(!error("topsecret").to_string().contains("topsecret"));
}

proptest! {
    #[test]
    fn no_hash_makes_the_check_panic(text in "(\\$(argon2id|6|5|2y|1)\\$)?[a-zA-Z0-9./$=,]{0,90}") {
        if check_hash(&text).is_ok() {
            // What passes the check is never an error later.
            prop_assert!(verify(&text, b"x").is_ok());
        } else {
            let _ = import(&text);
        }
    }
}

#[test]
fn who_shares_with_anyone_is_known_up_to_a_bound() {
    let mut site = two_domains();
    let account = |number: usize| address(&format!("u{number}@x.test"));
    for number in 0..limits::SHARING_MAX {
        let shares = site.share(&account(number), true).map(|c| c.expect("new"));
        change(&mut site, shares);
    }
    assert_eq!(site.sharing().count(), limits::SHARING_MAX);
    assert_eq!(Site::load(site.entries()), Ok(site.clone()));
    assert_eq!(site.share(&account(0), true), Ok(None));
    let one_more = account(limits::SHARING_MAX);
    assert_eq!(site.share(&one_more, true), Err(SiteError::TooManyShare));
    assert_eq!(site.share(&one_more, false), Ok(None));
    let ends = site.share(&account(0), false).map(|c| c.expect("known"));
    change(&mut site, ends);
    assert!(matches!(site.share(&one_more, true), Ok(Some(_))));
    assert_eq!(Site::load(site.entries()), Ok(site));
}
