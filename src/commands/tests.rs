//! Whole command lines, against a control socket with a memory behind it.

use std::path::Path;

use super::*;
use crate::admin::memory::serve_control;

/// Runs a command line; words are split at spaces, `DATA` stands for the folder.
fn run_line(data: &Path, line: &str) -> Result<(), Failure> {
    let data = data.to_str().expect("a plain path");
    let words = line.split(' ').map(|word| word.replace("DATA", data));
    let words: Vec<String> = std::iter::once("ringpost".to_owned())
        .chain(words)
        .collect();
    let matches = cli::command()
        .try_get_matches_from(words)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    carry_out(Command::from_arg_matches(&matches).expect("what was parsed"))
}

#[track_caller]
fn fails(result: Result<(), Failure>, want: &str) {
    match result {
        Err(Failure::Failed(message)) => assert!(message.contains(want), "{message}"),
        other => panic!("not failed: {other:?}"),
    }
}

#[track_caller]
fn misused(result: Result<(), Failure>, want: &str) {
    match result {
        Err(Failure::Usage(message)) => assert!(message.contains(want), "{message}"),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn the_grammar_is_sound() {
    cli::command().debug_assert();
}

#[test]
fn a_day_in_an_operators_life() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path();
    std::fs::create_dir(data.join("store")).expect("made");
    let (stop, accounts) = serve_control(data);
    let run = |line: &str| run_line(data, line);
    run("domain add x.test --data DATA").expect("added");
    fails(run("domain add x.test --data DATA"), "served already");
    run("account add postmaster@x.test --password pw --scheme light --data DATA").expect("made");
    // A bare name belongs to the postmaster's domain.
    run("account add joe --password pw --scheme light --data DATA").expect("made");
    fails(
        run("account add joe --password pw --scheme light --data DATA"),
        "joe@x.test exists already",
    );
    run("account add ann --password pw --scheme light --quota 2G --data DATA").expect("made");
    run("account quota ann --data DATA").expect("shown");
    run("account quota joe 500M --data DATA").expect("changed");
    misused(run("account quota joe much --data DATA"), "a size is");
    fails(
        run("account quota eve 1M --data DATA"),
        "there is no account eve@x.test",
    );
    run("account admin joe on --data DATA").expect("changed");
    run("account admin joe --data DATA").expect("shown");
    misused(run("account admin joe yes --data DATA"), "on, off");
    fails(
        run("account admin eve off --data DATA"),
        "there is no account eve@x.test",
    );
    run("account telemetry ann on --data DATA").expect("switched");
    run("account telemetry ann --data DATA").expect("shown");
    run("account telemetry ann off --data DATA").expect("switched");
    fails(
        run("account telemetry eve on --data DATA"),
        "there is no account eve@x.test",
    );
    run("account remove ann --data DATA").expect("removed");
    run("account passwd joe --password new --scheme light --data DATA").expect("changed");
    fails(
        run("account passwd ann --password x --data DATA"),
        "there is no account ann@x.test",
    );
    run("alias add info@x.test joe@x.test --data DATA").expect("made");
    fails(
        run("account remove joe --data DATA"),
        "still named by the alias info@x.test",
    );
    for line in [
        "catchall set x.test joe@x.test --data DATA",
        "domain list --data DATA",
        "alias list --domain x.test --data DATA",
        "account list --data DATA",
        "postmaster --data DATA",
        "postmaster joe@x.test --data DATA",
        "hashdir joe@x.test --data DATA",
        "expire --now --data DATA",
        "catchall clear x.test --data DATA",
        "alias remove info@x.test --data DATA",
        "account remove postmaster@x.test --data DATA",
    ] {
        run(line).unwrap_or_else(|error| panic!("{line}: {error:?}"));
    }
    fails(run("status --data DATA"), "no server runs");
    drop(stop);
    let left = accounts.recv().expect("ended");
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].address.as_str(), "joe@x.test");
    assert_eq!(left[0].quota_bytes, 500 << 20);
    assert_eq!(password::verify(&left[0].password_hash, b"new"), Ok(true));
}

#[test]
fn generated_accounts_are_all_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let (stop, accounts) = serve_control(dir.path());
    let line = "account generate --users 1234 --prefix u --domain Bench.test --password pw --quota 2M --data DATA";
    run_line(dir.path(), line).expect("made");
    fails(
        run_line(dir.path(), line),
        "1234 accounts could not be made",
    );
    drop(stop);
    let made = accounts.recv().expect("ended");
    assert_eq!(made.len(), 1234);
    for number in [0, 1, 1233] {
        let name = format!("u{number}@bench.test");
        let account = made
            .iter()
            .find(|a| a.address.as_str() == name)
            .expect("made");
        assert_eq!(password::verify(&account.password_hash, b"pw"), Ok(true));
        assert_eq!(account.quota_bytes, 2 << 20);
    }
    let salts: std::collections::HashSet<&str> =
        made.iter().map(|a| a.password_hash.as_str()).collect();
    assert_eq!(salts.len(), made.len(), "each has its own salt");
}

#[test]
fn an_import_is_whole_or_not_at_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let (stop, accounts) = serve_control(dir.path());
    let file = dir.path().join("users");
    let import = "account import DATA/users --scheme light --quota 1G --data DATA";
    run_line(dir.path(), "domain add x.test --data DATA").expect("added");
    std::fs::write(&file, "a@x.test:{PLAIN}one\nb@x.test:oops\n").expect("written");
    fails(
        run_line(dir.path(), import),
        "users:2: b@x.test: unknown password scheme",
    );
    std::fs::write(&file, "a@x.test:{PLAIN}one\nb@x.test:{PLAIN}two\n").expect("written");
    run_line(dir.path(), import).expect("imported");
    std::fs::write(
        &file,
        "c@x.test:{PLAIN}three\nb@x.test:{PLAIN}two\nd@y.test:{PLAIN}x\n",
    )
    .expect("written");
    let error = run_line(dir.path(), import);
    let Err(Failure::Failed(message)) = error else {
        panic!("not failed: {error:?}");
    };
    assert!(
        message.contains("2 accounts could not be made"),
        "{message}"
    );
    assert!(
        message.contains("users:2: b@x.test exists already"),
        "{message}"
    );
    assert!(
        message.contains("users:3: d@y.test is in no domain"),
        "{message}"
    );
    drop(stop);
    let made = accounts.recv().expect("ended");
    let fits: Vec<_> = [b"one".as_slice(), b"two", b"three"]
        .iter()
        .zip(&made)
        .map(|(password, account)| password::verify(&account.password_hash, password))
        .collect();
    assert_eq!(fits, [Ok(true), Ok(true), Ok(true)]);
    assert_eq!(made.len(), 3);
    assert!(made.iter().all(|account| account.quota_bytes == 1 << 30));
}

#[test]
fn wrong_usage_does_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = |line: &str| run_line(dir.path(), line);
    misused(
        run("serve --smtp nowhere --data DATA"),
        "--smtp: \"nowhere\" is not allowed",
    );
    misused(
        run("account generate --users 0 --domain x --password p"),
        "0 is not in",
    );
    misused(
        run("account generate --users 1 --domain -x --password p --data DATA"),
        "--domain",
    );
    misused(
        run("account add a@x.test --scheme md5 --data DATA"),
        "argon2id and light",
    );
    misused(run("expire --data DATA"), "--now");
    misused(run("alias add a@x.test --data DATA"), "TARGET");
    misused(run("nonsense"), "nonsense");
    misused(run("account list --smtp 127.0.0.1:25"), "--smtp");
    assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 0);
}

#[test]
fn a_store_that_is_not_there_is_not_made_by_looking() {
    let dir = tempfile::tempdir().expect("a directory");
    for line in [
        "domain list --data DATA",
        "account list --data DATA",
        "account passwd a@x.test --password p --data DATA",
        "hashdir a@x.test --data DATA",
        "expire --now --data DATA",
        "status --data DATA",
    ] {
        fails(run_line(dir.path(), line), "there is no store here");
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 0);
}
