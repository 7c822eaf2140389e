//! Populations from files, and verdicts.

use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::steps::Ran;

fn flags() -> Mix {
    Mix {
        file: PathBuf::from("x.toml"),
        load: vec![100],
        smtp: None,
        pop3: None,
        imap: None,
        relay: None,
        users: None,
        time: None,
        password: None,
        processors: "all".to_owned(),
        dry_run: false,
        json: None,
    }
}

/// Half of the day in one hour, the rest spread.
fn hourly() -> String {
    let mut hours = vec!["2.1739".to_owned(); 24];
    hours[9] = "50.0".to_owned();
    format!("hourly = [{}]\n", hours.join(", "))
}

fn file(more: &str) -> String {
    format!(
        "title = \"t\"\nusers = 3600\nsmtp = \"127.0.0.1:25\"\npop3 = \"127.0.0.1:110\"\n{}{more}",
        hourly()
    )
}

const CLASSES: &str = "
[[class]]
name = \"in\"
kind = \"inbound\"
per_day = 2
[[class]]
name = \"check\"
kind = \"pop3\"
share = 0.5
every = \"10m\"
[[class]]
name = \"phones\"
kind = \"idle\"
share = 0.1
";

#[test]
fn the_busiest_hour_has_its_share_of_the_day() {
    let population = Population::parse(&file(CLASSES), &flags()).expect("a population");
    let [inbound, check, phones] = population.classes.as_slice() else {
        panic!("three classes");
    };
    // 3600 users, 2 a day, half of them in one hour: one a second.
    assert_eq!(population.curve(inbound, 1.0), [(Duration::ZERO, 1.0)]);
    assert_eq!(population.curve(inbound, 0.8), [(Duration::ZERO, 0.8)]);
    // 1800 users, every 600 s.
    assert_eq!(population.curve(check, 1.0), [(Duration::ZERO, 3.0)]);
    assert_eq!(wanted(&population, phones, 1.2), 432.0);
    let line = words(&population, inbound, 1.0)
        .expect("a command")
        .join(" ");
    assert!(
        line.starts_with("smtp --target 127.0.0.1:25 --users 3600"),
        "{line}"
    );
    assert!(line.contains("--end-to-end pop3:127.0.0.1:110"), "{line}");
    assert!(
        line.ends_with("--duration 60000ms --rate 1.000000"),
        "{line}"
    );
    assert!(line.contains("--watch-messages 1 "), "{line}");
    // The sessions of a part of the users are theirs.
    let line = words(&population, check, 1.0).expect("a command").join(" ");
    assert!(line.contains("--users 1800 "), "{line}");
    let why = words(&population, phones, 1.0).expect_err("no IMAP");
    assert!(why.contains("--imap"), "{why}");
}

#[test]
fn what_will_be_too_little_is_said_before() {
    let plan = |time: u64, users: u32| {
        let mut flags = flags();
        flags.time = Some(Duration::from_secs(time));
        flags.users = Some(users);
        let population = Population::parse(&file(CLASSES), &flags).expect("a population");
        let text = plan::text(&population, &[80, 100], |class| {
            words(&population, class, 1.0).err()
        });
        (population, text)
    };
    let (population, text) = plan(60, 3600);
    let [inbound, check, phones] = population.classes.as_slice() else {
        panic!("three classes");
    };
    let of = |class, load| Expected::of(&population, class, load);
    // One a second, and one a second followed; 200 operations come in 245 s nearly always.
    let expected = Expected {
        operations: 60.0,
        // As long again until the next one comes.
        deliveries: Some(30.0),
        longer: Some(Duration::from_secs(248)),
    };
    assert_eq!(of(inbound, 1.0), expected);
    assert!((of(check, 0.8).operations - 144.0).abs() < 1e-9);
    assert_eq!(of(check, 0.8).longer, Some(Duration::from_secs(103)));
    assert_eq!(
        (of(phones, 0.5).operations, of(phones, 0.5).longer),
        (180.0, None)
    );
    assert!(
        text.contains("TOO FEW") && text.contains("--time 309s"),
        "{text}"
    );
    assert!(
        text.contains("phones") && text.contains("no imap"),
        "{text}"
    );
    // Enough time, and enough users, are as good.
    for (time, users) in [(309, 3600), (80, 20_000)] {
        let (_, text) = plan(time, users);
        assert!(!text.contains("TOO FEW"), "{text}");
    }
    // However many users: the sample for deliveries is what it is.
    let (population, _) = plan(60, 3_600_000);
    let expected = Expected::of(&population, &population.classes[0], 1.0);
    let deliveries = expected.deliveries.expect("POP3 shows them");
    assert!((59.9..=60.0).contains(&deliveries), "{deliveries}");
}

#[test]
fn a_day_is_a_curve() {
    let text = format!("day = \"24m\"\n{}", file(CLASSES));
    let population = Population::parse(&text, &flags()).expect("a population");
    let curve = population.curve(&population.classes[0], 1.0);
    assert_eq!(curve.len(), 26);
    // The middle of the tenth hour, of a minute each.
    assert_eq!(curve[10], (Duration::from_secs(570), 1.0));
    assert!(curve.windows(2).all(|pair| pair[0].0 < pair[1].0));
    let line = words(&population, &population.classes[0], 1.0).expect("a command");
    let points = line.last().expect("points");
    assert!(points.contains(",570000ms:1.000000,"), "{points}");
    // 7200 messages in a day of 1440 s.
    assert!((population.mean_rate(&population.classes[0]) - 7200.0 / 86_400.0).abs() < 1e-9);
}

#[test]
fn wrong_files_name_what_is_wrong() {
    for (text, wanted) in [
        ("x = 1".to_owned(), "x"),
        (file("users = 1"), "users"),
        (file("[[class]]\nname = \"a\"\nkind = \"fax\""), "fax"),
        (file("[[class]]\nname = \"a\"\nkind = \"pop3\""), "per_day"),
        (
            file("[[class]]\nname = \"a\"\nkind = \"pop3\"\nper_day = 1\nevery = \"1m\""),
            "per_day",
        ),
        (
            file("[[class]]\nname = \"a\"\nkind = \"idle\"\nshare = 2.0"),
            "share",
        ),
        (
            file(&format!("{CLASSES}[qos]\nerrors_percent_max = 101.0")),
            "errors_percent_max",
        ),
        (
            file("[[class]]\nname = \"a\"\nkind = \"inbound\"\nwatch_messages = 0.0"),
            "watch_messages",
        ),
        (
            format!("time = \"1s\"\nday = \"1m\"\n{}", file(CLASSES)),
            "time and day",
        ),
        (format!("day = \"soon\"\n{}", file(CLASSES)), "day: "),
        (
            format!("title = \"t\"\nusers = 1\nhourly = [1.0, 2.0]\n{CLASSES}"),
            "24 percentages",
        ),
    ] {
        let error = Population::parse(&text, &flags()).expect_err(&text);
        assert!(error.contains(wanted), "{error}");
    }
}

/// A run of a thousand messages of which so many percent were in time.
fn ran(within_5s: f64, within_60s: f64, unseen: u64, errors: u64) -> Ran {
    Ran {
        json: json!({
            "done": 1000,
            "failed": errors,
            "elapsed_s": 100.0,
            "errors": [{"count": errors, "kind": "refused", "verb": "RCPT", "sample": "550"}],
            "verbs": {
                "RCPT": {"count": 1000, "within_5s_percent": 100.0, "p99_ns": 1e6},
                "EHLO": {"count": 3, "within_5s_percent": 66.0, "p99_ns": 1e6},
                "body->250": {"count": 1000, "within_5s_percent": within_5s, "p99_ns": 2e6},
                "session": {"count": 1000, "within_5s_percent": 0.0, "p99_ns": 3e6},
                "250->visible": {"count": 100, "within_60s_percent": within_60s},
            },
            "end_to_end": {"not_seen": unseen},
        }),
        good: true,
        command: String::new(),
    }
}

#[test]
fn verdicts() {
    let population = Population::parse(&file(CLASSES), &flags()).expect("a population");
    let judge = |ran: &Ran, wanted: f64| {
        let mut judgement = Judgement::new(100);
        let row = Row::of(&population.classes[0], wanted, ran, &population.qos);
        judgement.rows.push(row);
        (judgement.good(), judgement.text(&population))
    };
    let (good, text) = judge(&ran(99.0, 100.0, 0, 0), 10.0);
    // Of three one was slow: of forty it would have been nothing.
    assert!(good && text.contains("of their own: EHLO (3)"), "{text}");
    for (ran, wanted, why) in [
        (ran(94.9, 100.0, 0, 0), 10.0, "94.90 % of body->250"),
        (ran(99.0, 94.0, 0, 0), 10.0, "94.00 % delivered"),
        (ran(99.0, 100.0, 10, 0), 10.0, "90.91 % delivered"),
        (ran(99.0, 100.0, 0, 11), 10.0, "errors"),
        (ran(99.0, 100.0, 0, 0), 20.0, "reached 10.00 of 20.00"),
    ] {
        let (good, text) = judge(&ran, wanted);
        assert!(!good && text.contains(why), "{why}: {text}");
    }
}

/// A run of so many messages, followed and done; `bad` of them failed.
fn short(done: u64, followed: u64, unseen: u64, bad: u64) -> Ran {
    let mut ran = ran(100.0, 100.0, unseen, bad);
    ran.json["done"] = (done - bad).into();
    ran.json["verbs"]["250->visible"]["count"] = (followed - unseen).into();
    ran
}

#[test]
fn too_few_are_neither_passed_nor_failed() {
    let population = Population::parse(&file(CLASSES), &flags()).expect("a population");
    let judge = |ran: &Ran| {
        let mut judgement = Judgement::new(100);
        let class = &population.classes[0];
        let wanted = ran.number(&["done"]) / 100.0;
        let row = Row::of(class, wanted, ran, &population.qos);
        judgement.rows.push(row);
        let text = judgement.text(&population) + &judge::table(&[judgement]);
        (text.lines().last().unwrap_or_default().to_owned(), text)
    };
    for (ran, verdict, why) in [
        (short(200, 40, 0, 0), "pass", ""),
        (short(200, 40, 0, 1), "pass", ""),
        (
            short(199, 40, 0, 0),
            "not judged",
            "199 operations are too few",
        ),
        (
            short(200, 39, 0, 0),
            "not judged",
            "39 deliveries are too few",
        ),
        (
            short(200, 0, 0, 0),
            "not judged",
            "0 deliveries are too few",
        ),
        (short(0, 0, 0, 0), "not judged", "0 operations are too few"),
        // As bad as this they could not become good any more.
        (short(100, 40, 0, 1), "not judged", "100 operations"),
        (short(100, 40, 0, 2), "FAIL", "2.00 % errors"),
        (short(200, 20, 2, 0), "not judged", "20 deliveries"),
        (short(200, 20, 3, 0), "FAIL", "85.00 % delivered"),
    ] {
        let (last, text) = judge(&ran);
        assert!(
            last.contains(verdict) && text.contains(why),
            "{verdict}: {text}"
        );
    }
    // What the generator could not have measured is not the server's.
    let mut busy = short(1000, 100, 0, 0);
    busy.json["generator"] = json!({"busiest_thread": 0.95, "memory_max_kib": 2048});
    let (last, text) = judge(&busy);
    assert!(
        last.contains("not judged") && text.contains("bottleneck"),
        "{text}"
    );
    assert!(text.contains("2 MiB in all"), "{text}");
}

#[test]
fn the_examples_are_right() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/populations");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("text");
        let population = Population::parse(&text, &flags());
        let population = population.unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        let parts = parts(&population, 1.0);
        assert!(parts.iter().any(|part| part.words.is_ok()));
        // As they stand, every class does enough to be judged.
        for class in &population.classes {
            for load in [0.8, 1.0, 1.2] {
                let expected = Expected::of(&population, class, load);
                assert_eq!(expected.longer, None, "{}: {}", path.display(), class.name);
            }
        }
        count += 1;
    }
    assert!(count >= 2);
}
