//! Every setting by flag and by key, every error text.

use std::io::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::field::Field;
use super::table::SETTINGS;
use super::*;

/// Name; a value that is not the default, as a flag's text and as it stands in a file (and in
/// `config show`); a value that is refused, in the same two forms.
type Sample = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

const SAMPLES: &[Sample] = &[
    ("data", "/var/mail", "\"/var/mail\"", "", "7"),
    ("log", "debug", "\"debug\"", "a=b=c", "true"),
    ("drain-seconds", "5", "5", "3601", "\"5s\""),
    ("smtp", "[::1]:25", "[\"[::1]:25\"]", "localhost", "25"),
    ("lmtp", "/run/lmtp", "[\"/run/lmtp\"]", "127.0.0.1", "[24]"),
    ("pop3", "none", "\"none\"", "127.0.0.1:99999", "[[]]"),
    ("imap", "none", "\"none\"", "127.0.0.1:99999", "[[]]"),
    ("http", "127.0.0.1:0", "[\"127.0.0.1:0\"]", ":80", "{}"),
    ("domain", "Example.org", "[\"example.org\"]", "a b", "[1]"),
    (
        "default-domain",
        "example.org",
        "\"example.org\"",
        "-x",
        "false",
    ),
    (
        "hostname",
        "mx.example.org",
        "\"mx.example.org\"",
        "a..b",
        "1.5",
    ),
    ("processors", "0-1,3", "\"0,1,3\"", "3-1", "[0, 1]"),
    ("poll-us", "50", "50", "10001", "\"50\""),
    ("delivery-processors", "10", "10", "-1", "1979-05-27"),
    ("partitions", "16", "16", "4097", "-1"),
    ("sync-level", "2", "2", "3", "\"1\""),
    ("sync-level-store", "0", "0", "x", "3"),
    ("sync-level-envelope", "0", "0", "01", "true"),
    ("sync-level-message", "2", "2", "-1", "[1]"),
    ("sync-level-database", "2", "2", "1.0", "1.0"),
    ("expire-start", "3", "3", "24", "24"),
    ("cleanup-age", "2d", "\"2d\"", "2", "3600"),
    ("buffered-writes", "true", "true", "", "\"true\""),
    ("reserve", "1G", "\"1G\"", "1Q", "-5"),
    ("message-bytes-max", "100M", "\"100M\"", "63K", "\"3G\""),
    ("recipients-max", "100", "100", "99", "100001"),
    ("messages-max", "1", "1", "0", "0x10"),
    ("refused-recipients-max", "0", "0", "-1", "1000001"),
    ("smtp-sessions-max", "5", "5", "0", "0"),
    ("lmtp-sessions-max", "6", "6", "1048577", "true"),
    ("pop3-sessions-max", "600", "600", "6e2", "6e2"),
    ("imap-sessions-max", "600", "600", "6e2", "6e2"),
    ("memory-max", "16M", "\"16M\"", "1M", "1"),
    ("auth-cache-ttl", "7d", "\"7d\"", "31d", "\"1w\""),
    ("auth-cache-size", "10000", "10000", "10000001", "\"x\""),
    ("smtp-timeout", "20m", "\"20m\"", "25h", "1200"),
    ("smtp-data-timeout", "20m", "\"20m\"", "0", "\"0s\""),
    ("pop3-timeout", "1h", "\"1h\"", "10", "600"),
    ("imap-timeout", "1h", "\"1h\"", "10", "600"),
    ("tcp-keepalive", "5m", "\"5m\"", "-1s", "\"x\""),
    ("allow-short-timeouts", "true", "true", "", "\"true\""),
];

fn setting_of(name: &str) -> &'static table::Setting {
    SETTINGS.iter().find(|s| s.name == name).expect(name)
}

fn by_flag(name: &str, value: &str) -> Result<Effective, ConfigError> {
    if matches!(setting_of(name).field, Field::Switch(_)) {
        return from_args([format!("--{name}")]);
    }
    from_args([format!("--{name}={value}")])
}

fn by_file(text: &str, more: &[&str]) -> Result<Effective, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    let path = file.path().to_str().expect("a plain path").to_owned();
    let mut args = vec!["--config".to_owned(), path];
    args.extend(more.iter().map(|a| (*a).to_owned()));
    from_args(args)
}

/// The error's text without the name of the temporary file.
fn file_error(text: &str) -> String {
    let error = by_file(text, &[]).expect_err(text).to_string();
    error[error.find(':').expect("a path first") + 1..].to_owned()
}

fn shown(effective: &Effective, name: &str) -> Option<String> {
    setting_of(name).field.show(&effective.config)
}

#[test]
fn every_setting_has_a_sample() {
    let names: Vec<&str> = SETTINGS.iter().map(|s| s.name).collect();
    let mut samples: Vec<&str> = SAMPLES.iter().map(|s| s.0).collect();
    assert_eq!(samples.len(), names.len());
    samples.retain(|name| !names.contains(name));
    assert_eq!(samples, [""; 0]);
}

#[test]
fn every_setting_can_be_set_by_flag_and_by_file() {
    let default = format!("{:?}", Config::default());
    for (name, flag, toml, _, _) in SAMPLES {
        let by_flag = by_flag(name, flag).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(
            shown(&by_flag, name).as_deref(),
            Some(*toml),
            "{name} by flag"
        );
        assert_eq!(by_flag.origin(name), Some(&Origin::Flag));
        assert_ne!(
            format!("{:?}", by_flag.config),
            default,
            "{name} reaches the configuration"
        );
        let by_file =
            by_file(&format!("\n{name} = {toml}\n"), &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(
            shown(&by_file, name).as_deref(),
            Some(*toml),
            "{name} by file"
        );
        let origin = by_file.origin(name).expect(name).to_string();
        assert!(origin.ends_with(":2"), "{name}: {origin}");
        assert_eq!(
            format!("{:?}", by_flag.config),
            format!("{:?}", by_file.config)
        );
    }
}

#[test]
fn what_is_refused_is_named_with_what_is_allowed() {
    for (name, _, _, flag, toml) in SAMPLES {
        let setting = setting_of(name);
        let allowed = setting.field.allowed();
        if !matches!(setting.field, Field::Switch(_)) {
            let error = by_flag(name, flag).expect_err(name);
            assert!(error.is_usage(), "{name}");
            let text = error.to_string();
            assert!(text.contains(&format!("--{name}")), "{name}: {text}");
            // clap has its own words for an empty value.
            if !flag.is_empty() {
                assert!(
                    text.starts_with(&format!("--{name}: {flag:?} is not allowed")),
                    "{text}"
                );
                assert!(text.ends_with(&allowed), "{name}: {text}");
            }
        }
        let error = by_file(&format!("# comment\n\n{name} = {toml}"), &[]).expect_err(name);
        assert!(!error.is_usage(), "{name}");
        let text = error.to_string();
        assert!(text.contains(&format!(":3: {name}: ")), "{name}: {text}");
        assert!(text.ends_with(&allowed), "{name}: {text}");
    }
}

#[test]
fn numbers_fit_where_they_are_kept() {
    for setting in SETTINGS {
        if let Field::Number { range, .. } = &setting.field {
            for bound in [range.start(), range.end()] {
                let set = by_flag(setting.name, &bound.to_string()).expect(setting.name);
                assert_eq!(
                    shown(&set, setting.name),
                    Some(bound.to_string()),
                    "{}",
                    setting.name
                );
            }
            let over = (range.end() + 1).to_string();
            by_flag(setting.name, &over).expect_err(setting.name);
        }
    }
}

#[test]
fn defaults_pass_their_own_checks_and_are_what_the_documents_say() {
    let effective = from_args([""; 0]).expect("defaults are good");
    for setting in SETTINGS {
        let origin = effective.origin(setting.name).expect(setting.name);
        assert!(
            matches!(origin, Origin::Default | Origin::As("sync-level")),
            "{}",
            setting.name
        );
    }
    let config = effective.config;
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
    assert_eq!(config.smtp_timeout, Duration::from_secs(600), "N17");
    assert_eq!(config.pop3_timeout, Duration::from_secs(600), "N17");
    assert_eq!(config.imap_timeout, Duration::from_secs(1800), "I5");
    assert_eq!(config.auth_cache_ttl, Duration::from_secs(900), "N37");
    assert_eq!(config.expire_start, 23, "N23");
    assert_eq!(config.cleanup_age, Duration::from_secs(3600), "N23");
    assert_eq!(config.messages_max, 1000, "N15");
    assert_eq!(config.sync.message, SyncLevel::Fdatasync, "N21");
    assert!(!config.hostname.is_empty());
}

#[test]
fn the_finer_sync_levels_follow_the_general_one() {
    let levels = |args: &[&str]| from_args(args.iter().copied()).expect("good").config.sync;
    assert_eq!(
        levels(&["--sync-level", "2", "--sync-level-envelope", "0"]),
        SyncLevels {
            store: SyncLevel::Fsync,
            envelope: SyncLevel::None,
            message: SyncLevel::Fsync,
            database: SyncLevel::Fsync,
        }
    );
    let mixed = by_file(
        "sync-level = 0\nsync-level-database = 2",
        &["--sync-level", "1"],
    );
    let mixed = mixed.expect("good");
    assert_eq!(
        mixed.config.sync.store,
        SyncLevel::Fdatasync,
        "the flag is the general one"
    );
    assert_eq!(mixed.config.sync.database, SyncLevel::Fsync);
    assert_eq!(
        mixed.origin("sync-level-store").expect("set").to_string(),
        "as sync-level"
    );
}

#[test]
fn a_flag_beats_the_file_and_the_file_beats_the_default() {
    let text = "expire-start = 4\nsmtp = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n";
    let both = by_file(text, &["--smtp", "127.0.0.1:3", "--smtp", "127.0.0.1:4"]).expect("good");
    assert_eq!(both.config.expire_start, 4);
    let shown = shown(&both, "smtp").expect("set");
    assert_eq!(shown, "[\"127.0.0.1:3\", \"127.0.0.1:4\"]");
    // What a flag overrules is checked all the same.
    by_file("expire-start = 99", &["--expire-start", "1"]).expect_err("a wrong file");
}

#[test]
fn what_show_prints_is_a_file_that_sets_the_same() {
    let file: String = SAMPLES
        .iter()
        .map(|(name, _, toml, _, _)| format!("{name} = {toml}\n"))
        .collect();
    for text in ["", file.as_str()] {
        let first = by_file(text, &[]).expect("good");
        let shown = first.show();
        let again = by_file(&shown, &[]).expect("what is shown is good");
        assert_eq!(format!("{:?}", first.config), format!("{:?}", again.config));
        for setting in SETTINGS {
            assert!(shown.contains(setting.name), "{}", setting.name);
        }
    }
    let shown = by_file("expire-start = 4", &["--poll-us", "7"])
        .expect("good")
        .show();
    let line = |name: &str| {
        shown
            .lines()
            .find(|l| l.starts_with(name))
            .expect(name)
            .to_owned()
    };
    assert!(line("poll-us = 7 ").ends_with("# flag"));
    assert!(line("expire-start = 4 ").ends_with(":1"));
    assert!(line("pop3 = [\"127.0.0.1:2110\"]").ends_with("# default"));
    assert!(shown.contains("# default-domain is not set: the postmaster's domain"));
}

#[test]
fn the_file_is_read_strictly() {
    assert!(
        file_error("\nsmpt-timeout = \"10m\"")
            .contains("2: smpt-timeout: there is no such setting; did you mean smtp-timeout?")
    );
    assert!(file_error("colour = 1").contains("1: colour: there is no such setting; 'ringpost"));
    assert!(file_error("[smtp]\ntimeout = 3").contains("1: smtp: a table is not allowed"));
    assert!(file_error("a = 1\nb = = 2").starts_with("2: "));
    let twice = file_error("poll-us = 1\nexpire-start = 2\npoll-us = 2\n");
    assert!(
        twice.starts_with("3: ") && twice.contains("duplicate"),
        "{twice}"
    );
    let element = file_error("smtp = [\n  \"127.0.0.1:1\",\n  \"here\",\n]\n");
    assert!(
        element.starts_with("3: smtp: \"here\" is not allowed"),
        "{element}"
    );
    let empty = by_file("smtp = []\ndomain = []", &[]).expect("nothing is good");
    assert!(empty.config.smtp.is_empty());
    let error = from_args(["--config", "/nowhere/ringpost.toml"])
        .expect_err("absent")
        .to_string();
    assert!(error.starts_with("/nowhere/ringpost.toml: cannot read the configuration file"));
}

#[test]
fn a_setting_given_twice_is_refused() {
    let error = |args: &[&str]| {
        from_args(args.iter().copied())
            .expect_err("twice")
            .to_string()
    };
    assert!(error(&["--poll-us", "1", "--poll-us", "2"]).contains("cannot be used multiple times"));
    assert!(error(&["--domain", "x.test", "--domain", "X.test"]).contains("given twice"));
    assert!(error(&["--smtp", "127.0.0.1:1", "--smtp", "127.0.0.1:1"]).contains("given twice"));
    assert!(error(&["--smtp", "none", "--smtp", "127.0.0.1:1"]).contains("none stands alone"));
    assert_eq!(
        error(&["--lmtp", "127.0.0.1:2525"]),
        "--lmtp: 127.0.0.1:2525 is taken by smtp already"
    );
    from_args(["--smtp=127.0.0.1:0", "--lmtp=127.0.0.1:0"]).expect("any port is not one port");
}

#[test]
fn time_outs_are_not_lowered_by_accident() {
    for (name, floor) in [
        ("smtp-timeout", "10m"),
        ("smtp-data-timeout", "10m"),
        ("pop3-timeout", "10m"),
        ("imap-timeout", "30m"),
    ] {
        let error = by_flag(name, "5s").expect_err(name).to_string();
        assert_eq!(
            error,
            format!(
                "--{name}: 5s is shorter than the {floor} that the protocol asks for; \
                 --allow-short-timeouts permits it"
            )
        );
        let error = file_error(&format!("\n{name} = \"599s\""));
        assert!(
            error.starts_with(&format!("2: {name}: 599s is shorter")),
            "{error}"
        );
        from_args([format!("--{name}=5s"), "--allow-short-timeouts".to_owned()]).expect(name);
        by_file(&format!("{name} = \"5s\""), &["--allow-short-timeouts"]).expect(name);
        by_flag(name, floor).expect(name);
    }
}

#[test]
fn the_help_shows_default_unit_and_origin() {
    let help = clap::Command::new("x")
        .args(flags())
        .term_width(10_000)
        .render_help()
        .to_string();
    let line = |name: &str| {
        let flag = format!("--{name} ");
        help.lines()
            .find(|l| l.contains(&flag))
            .unwrap_or_else(|| panic!("{name}\n{help}"))
            .to_owned()
    };
    for setting in SETTINGS {
        let line = line(setting.name);
        assert!(line.contains(setting.doc), "{line}");
        assert!(line.ends_with(&format!("[{}]", setting.source)) || setting.source.is_empty());
        assert!(
            line.contains(&format!("documents' default: {}", setting.was))
                || setting.was.is_empty()
        );
    }
    assert!(line("drain-seconds").contains("(default: 30 seconds)"));
    assert!(line("sync-level-store").contains("default: as --sync-level"));
    assert!(line("pop3-timeout").contains("default: 10m; at least 10m"));
    assert!(line("smtp").contains("may be repeated"));
    assert!(help.contains("\nTime-outs:\n"));
}

#[test]
fn a_command_without_some_flags_still_loads() {
    let matches = clap::Command::new("x")
        .no_binary_name(true)
        .args(flags_named(&["data"]))
        .try_get_matches_from(["--data", "/d"])
        .expect("parsed");
    let effective = load(&matches).expect("loaded");
    assert_eq!(effective.config.data, Path::new("/d"));
    assert_eq!(effective.config.expire_start, 23);
}

#[test]
fn domains_are_made_canonical() {
    for (text, want) in [
        ("Example.ORG", "example.org"),
        ("example.org.", "example.org"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u{308}cher.example.", "xn--bcher-kva.example"),
        ("_dmarc.x", "_dmarc.x"),
        ("localhost", "localhost"),
    ] {
        assert_eq!(parse_domain(text).as_deref(), Ok(want));
    }
    let long_label = format!("{}.test", "a".repeat(64));
    let long_name = ["abcdefg"; 40].join(".");
    for (text, why) in [
        ("", "empty"),
        (".", "empty"),
        ("a..b", "empty"),
        ("-a.test", "hyphen"),
        ("a-.test", "hyphen"),
        ("a b.test", "' ' cannot"),
        ("a@b", "'@' cannot"),
        ("[127.0.0.1]", "'[' cannot"),
        ("a\u{2028}b", "not an internationalized"),
        ("bü_cher.test", "not an internationalized"),
        (long_label.as_str(), "more than 63"),
        (long_name.as_str(), "at most 255"),
    ] {
        let error = parse_domain(text).expect_err(text);
        assert!(error.contains(why), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn times_and_sizes_read_back(number in 0..u64::MAX / 86_400_000) {
        let time = Duration::from_millis(number);
        prop_assert_eq!(parse_duration(&show_duration(time)), Some(time));
        prop_assert_eq!(parse_bytes(&show_bytes(number)), Some(number));
        prop_assert_eq!(parse_bytes(&show_bytes(number << 10)), Some(number << 10));
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in any::<String>()) {
        let _ = parse_duration(&text);
        let _ = parse_bytes(&text);
        let _ = parse_list(&text);
        if let Ok(domain) = parse_domain(&text) {
            prop_assert_eq!(parse_domain(&domain), Ok(domain.clone()), "canonical is canonical");
        }
    }

    #[test]
    fn no_file_makes_the_loader_panic(text in "[a-z0-9\\-\"=\\[\\]{}. \n#]{0,80}") {
        let _ = by_file(&text, &[]);
    }
}
