//! Requests and their rules, and the first start.

mod socket;

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;

use super::memory::{Memory, ask, now, serve_control};
use super::*;
use crate::config::ListenAddress;
use crate::directory::{Site, password};
use crate::limits;
use crate::mail::Address;
use crate::proto::{Event, Session as _, Step};
use crate::store::Account;

fn hash() -> String {
    password::hash(password::Scheme::Light, b"pw").expect("hashed")
}

fn account(address: &str) -> NewAccount {
    NewAccount {
        address: address.to_owned(),
        hash: hash(),
        quota_bytes: 0,
    }
}

fn served(domain: &str) -> Memory {
    let memory = Memory::default();
    let reply = ask(
        &memory,
        Request::DomainAdd {
            domain: domain.to_owned(),
        },
    );
    assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    memory
}

fn add(memory: &Memory, addresses: &[&str]) -> Vec<(usize, String)> {
    let accounts = addresses.iter().map(|a| account(a)).collect();
    match ask(memory, Request::AccountAdd { accounts }) {
        Reply::Added { failed, .. } => failed,
        other => panic!("{other:?}"),
    }
}

fn alias(memory: &Memory, address: &str, targets: &[&str]) -> Reply {
    let targets = targets.iter().map(|t| (*t).to_owned()).collect();
    ask(
        memory,
        Request::AliasAdd {
            address: address.to_owned(),
            targets,
        },
    )
}

fn remove(memory: &Memory, address: &str) -> Reply {
    ask(
        memory,
        Request::AccountRemove {
            address: address.to_owned(),
        },
    )
}

#[track_caller]
fn refused(reply: Reply, why: &str) {
    match reply {
        Reply::Error { message } => assert!(message.contains(why), "{message}"),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn accounts_need_a_served_domain_and_a_good_hash() {
    let memory = served("x.test");
    let mut bad = account("c@x.test");
    bad.hash = "secret".to_owned();
    let accounts = vec![
        account("a@x.test"),
        account("b@y.test"),
        bad,
        account("A@X.test"),
    ];
    let Reply::Added { failed, notes } = ask(&memory, Request::AccountAdd { accounts }) else {
        panic!("not added");
    };
    let text: Vec<String> = failed.iter().map(|(i, m)| format!("{i}: {m}")).collect();
    assert_eq!(text.len(), 3, "{text:?}");
    assert!(text[0].starts_with("1: b@y.test is in no domain that is served here"));
    assert!(text[1].starts_with("2: c@x.test: unknown password scheme"));
    assert!(!text[1].contains("secret"));
    assert_eq!(text[2], "3: a@x.test exists already");
    assert!(notes[0].contains("no postmaster yet"));
    assert_eq!(memory.accounts().len(), 1);
}

#[test]
fn the_first_postmaster_account_is_the_postmaster_and_stays() {
    let memory = served("x.test");
    assert_eq!(
        ask(&memory, Request::PostmasterShow),
        Reply::Postmaster { address: None }
    );
    assert!(add(&memory, &["a@x.test", "Postmaster@x.test"]).is_empty());
    let is = |address: &str| Reply::Postmaster {
        address: Some(address.to_owned()),
    };
    assert_eq!(
        ask(&memory, Request::PostmasterShow),
        is("postmaster@x.test")
    );
    refused(remove(&memory, "postmaster@x.test"), "is the postmaster");
    let set = |address: &str| {
        ask(
            &memory,
            Request::PostmasterSet {
                address: address.to_owned(),
            },
        )
    };
    refused(set("nobody@x.test"), "there is no account nobody@x.test");
    refused(set("a@y.test"), "in no domain that is served");
    assert_eq!(set("a@x.test"), Reply::done());
    assert_eq!(remove(&memory, "postmaster@x.test"), Reply::done());
    refused(remove(&memory, "a@x.test"), "is the postmaster");
}

#[test]
fn aliases_lead_somewhere_and_take_no_accounts_mail() {
    let memory = served("x.test");
    assert!(add(&memory, &["a@x.test", "b@x.test"]).is_empty());
    refused(
        alias(&memory, "c@x.test", &["nobody@x.test"]),
        "neither an account nor an alias",
    );
    refused(
        alias(&memory, "c@x.test", &["a@y.test"]),
        "in no domain that is served",
    );
    refused(alias(&memory, "c@x.test", &[]), "at least one target");
    refused(
        alias(&memory, "a@x.test", &["b@x.test"]),
        "a@x.test is an account",
    );
    assert_eq!(
        alias(&memory, "a@x.test", &["a@x.test", "b@x.test"]),
        Reply::done()
    );
    assert_eq!(
        alias(&memory, "all@x.test", &["a@x.test", "b@x.test"]),
        Reply::done()
    );
    assert_eq!(
        alias(&memory, "every@x.test", &["all@x.test"]),
        Reply::done()
    );
    refused(remove(&memory, "b@x.test"), "is still named by the alias");
    let failed = add(&memory, &["all@x.test"]);
    assert!(failed[0].1.contains("is an alias"), "{failed:?}");
    let drop = |address: &str| {
        ask(
            &memory,
            Request::AliasRemove {
                address: address.to_owned(),
            },
        )
    };
    refused(drop("all@x.test"), "still named by the alias every@x.test");
    for address in ["every@x.test", "all@x.test", "a@x.test"] {
        assert_eq!(drop(address), Reply::done());
    }
    refused(drop("a@x.test"), "there is no alias a@x.test");
    assert_eq!(remove(&memory, "b@x.test"), Reply::done());
}

#[test]
fn a_domain_in_use_stays() {
    let memory = served("x.test");
    let drop = |domain: &str| {
        ask(
            &memory,
            Request::DomainRemove {
                domain: domain.to_owned(),
            },
        )
    };
    refused(drop("y.test"), "domain y.test is not served");
    assert!(add(&memory, &["a@x.test"]).is_empty());
    refused(drop("x.test"), "still has accounts (a@x.test is the first)");
    let catch = |target: &str| {
        ask(
            &memory,
            Request::CatchAllSet {
                domain: "x.test".into(),
                target: target.into(),
            },
        )
    };
    refused(catch("nobody@x.test"), "neither an account nor an alias");
    assert_eq!(catch("a@x.test"), Reply::done());
    refused(remove(&memory, "a@x.test"), "the catch-all of x.test");
    let domains = Reply::Domains {
        domains: vec![DomainEntry {
            domain: "x.test".into(),
            configured: false,
            catch_all: Some("a@x.test".into()),
        }],
        more: false,
    };
    assert_eq!(ask(&memory, Request::DomainList { after: None }), domains);
    refused(drop("x.test"), "in use by the catch-all of x.test");
    let clear = || {
        ask(
            &memory,
            Request::CatchAllClear {
                domain: "x.test".into(),
            },
        )
    };
    assert_eq!(clear(), Reply::done());
    refused(clear(), "no catch-all");
    assert_eq!(remove(&memory, "a@x.test"), Reply::done());
    assert_eq!(drop("X.Test."), Reply::done());
    refused(drop("x.test"), "is not served");
}

#[test]
fn a_disk_that_fails_is_an_error_and_changes_nothing() {
    let memory = served("x.test");
    memory.0.borrow_mut().broken = true;
    let reply = ask(
        &memory,
        Request::DomainAdd {
            domain: "y.test".into(),
        },
    );
    refused(reply, "the disk is on fire");
    assert!(!memory.site().serves("y.test"));
}

#[test]
fn a_password_change_replaces_the_hash_only() {
    let memory = served("x.test");
    let mut wanted = account("a@x.test");
    wanted.quota_bytes = 5000;
    ask(
        &memory,
        Request::AccountAdd {
            accounts: vec![wanted],
        },
    );
    let set = |address: &str, hash: &str| {
        ask(
            &memory,
            Request::AccountPassword {
                address: address.into(),
                hash: hash.into(),
            },
        )
    };
    refused(set("a@x.test", "plain"), "unknown password scheme");
    refused(set("b@x.test", &hash()), "there is no account b@x.test");
    let new = password::hash(password::Scheme::Light, b"new").expect("hashed");
    assert_eq!(set("A@x.test", &new), Reply::done());
    let found = memory.accounts().remove(0);
    assert_eq!((found.password_hash, found.quota_bytes), (new, 5000));
}

#[test]
fn lists_come_in_pages_that_miss_nothing() {
    let memory = served("x.test");
    let names: Vec<String> = (0..2500).map(|n| format!("u{n}@x.test")).collect();
    for part in names.chunks(limits::ADMIN_ACCOUNTS_MAX) {
        let accounts = part
            .iter()
            .map(|name| NewAccount {
                hash: password::NOBODY.into(),
                ..account(name)
            })
            .collect();
        let reply = ask(&memory, Request::AccountAdd { accounts });
        assert!(
            matches!(reply, Reply::Added { ref failed, .. } if failed.is_empty()),
            "{reply:?}"
        );
    }
    let mut found = Vec::new();
    let mut after = None;
    let mut pages = 0;
    loop {
        let request = Request::AccountList {
            domain: Some("x.test".into()),
            after: after.clone(),
        };
        let Reply::Accounts { accounts, more } = ask(&memory, request) else {
            panic!("no page");
        };
        pages += 1;
        found.extend(accounts.into_iter().map(|entry| entry.address));
        after = found.last().cloned();
        if !more {
            break;
        }
    }
    let mut want = names;
    want.sort();
    assert_eq!(found, want);
    assert_eq!(pages, 3);
    let too_many = vec![account("a@x.test"); limits::ADMIN_ACCOUNTS_MAX + 1];
    refused(
        ask(&memory, Request::AccountAdd { accounts: too_many }),
        "at most 1000 accounts",
    );
}

#[test]
fn long_alias_lists_come_in_pages_that_fit() {
    let mut site = Site::default();
    let long = "t".repeat(200);
    let targets: Vec<String> = (0..500).map(|n| format!("{long}{n}@x.test")).collect();
    for n in 0..20 {
        let key = format!("site/alias/a{n:02}@x.test");
        site.apply(key.as_bytes(), Some(targets.join("\n").as_bytes()))
            .expect("applied");
    }
    let memory = Memory::default();
    memory.0.borrow_mut().site = Arc::new(site);
    let mut found = 0;
    let mut after = None;
    loop {
        let reply = ask(
            &memory,
            Request::AliasList {
                domain: None,
                after,
            },
        );
        reply.encode().expect("fits a reply");
        let Reply::Aliases { aliases, more } = reply else {
            panic!("no page");
        };
        found += aliases.len();
        after = aliases.last().map(|entry| entry.address.clone());
        if !more {
            break;
        }
    }
    assert_eq!(found, 20);
}

#[test]
fn the_first_start_makes_a_site_once() {
    let memory = Memory::default();
    let first = now(FirstRun::provision(&memory, &[]))
        .expect("made")
        .expect("new");
    assert_eq!(first.domain, "demo.test");
    assert_eq!(memory.site().postmaster(), Some(&first.postmaster));
    assert_eq!(memory.accounts().len(), 3);
    for demo in &first.accounts {
        let stored = now(memory.account(&demo.address))
            .expect("asked")
            .expect("there");
        let fits = password::verify(&stored.password_hash, demo.password.as_bytes());
        assert_eq!(fits, Ok(true));
        assert!(!format!("{first:?}").contains(&demo.password));
    }
    assert_eq!(now(FirstRun::provision(&memory, &[])), Ok(None));
}

#[test]
fn a_first_start_that_was_cut_off_is_done_again() {
    let memory = Memory::default();
    memory.0.borrow_mut().broken = true;
    let error = now(FirstRun::provision(&memory, &[])).expect_err("cut off");
    assert!(error.contains("on fire"));
    assert!(memory.site().is_empty());
    memory.0.borrow_mut().broken = false;
    let domains = ["own.test".to_owned()];
    now(FirstRun::provision(&memory, &[]))
        .expect("made")
        .expect("new");
    assert_eq!(memory.accounts().len(), 3, "the same ones again");
    let other = Memory::default();
    let first = now(FirstRun::provision(&other, &domains))
        .expect("made")
        .expect("new");
    assert_eq!(first.postmaster.as_str(), "postmaster@own.test");
    assert!(other.site().serves("own.test"));
}

#[test]
fn what_is_printed_can_be_copied() {
    let address = |text: &str| Address::parse(text).expect(text);
    let demo = |name: &str| DemoAccount {
        address: address(name),
        password: "pass-word".into(),
    };
    let first = FirstRun {
        domain: "demo.test".into(),
        postmaster: address("postmaster@demo.test"),
        accounts: vec![demo("alice@demo.test"), demo("bob@demo.test")],
    };
    let tcp = |service, text: &str| Listener {
        service,
        address: ListenAddress::Tcp(text.parse().expect(text)),
    };
    let listeners = [
        tcp("smtp", "0.0.0.0:2525"),
        Listener {
            service: "lmtp",
            address: ListenAddress::Unix("/run/lmtp".into()),
        },
        tcp("pop3", "[::]:2110"),
        tcp("imap", "127.0.0.1:2143"),
        tcp("http", "127.0.0.1:2080"),
    ];
    let text = ready_text(&listeners, Path::new("mail data"), Some(&first));
    for line in [
        "  smtp  0.0.0.0:2525",
        "  lmtp  /run/lmtp",
        "  alice@demo.test pass-word",
        "  bob@demo.test pass-word",
        "  curl -sS --user 'bob@demo.test:pass-word' pop3://[::1]:2110/1",
        "  curl -sS --user 'bob@demo.test:pass-word' 'imap://127.0.0.1:2143/INBOX;MAILINDEX=1'",
        "  curl -sS http://127.0.0.1:2080/metrics",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(text.contains("curl -sS --crlf smtp://127.0.0.1:2525 --mail-from alice@demo.test"));
    let later = ready_text(&listeners, Path::new("mail data"), None);
    assert!(!later.contains("alice") && later.contains("pop3  [::]:2110"));
}

#[test]
fn telemetry_is_shown_and_switched() {
    let memory = served("x.test");
    assert!(add(&memory, &["a@x.test"]).is_empty());
    let telemetry = |address: &str, on| {
        let address = address.to_owned();
        ask(&memory, Request::AccountTelemetry { address, on })
    };
    let shown = |on| Reply::Telemetry {
        address: "a@x.test".to_owned(),
        on,
        folder: "/data/telemetry".to_owned(),
    };
    assert_eq!(telemetry("A@X.test", None), shown(false));
    assert_eq!(telemetry("a@x.test", Some(true)), shown(true));
    assert_eq!(telemetry("a@x.test", None), shown(true));
    assert_eq!(telemetry("a@x.test", Some(false)), shown(false));
    let missing = telemetry("b@x.test", Some(true));
    refused(missing, "there is no account b@x.test");
}

#[test]
fn a_quota_is_shown_and_set() {
    let memory = served("x.test");
    assert!(add(&memory, &["a@x.test"]).is_empty());
    let quota = |address: &str, quota_bytes| {
        ask(
            &memory,
            Request::AccountQuota {
                address: address.to_owned(),
                quota_bytes,
            },
        )
    };
    let shown = |quota_bytes| Reply::Accounts {
        accounts: vec![AccountEntry {
            address: "a@x.test".to_owned(),
            quota_bytes,
            used_bytes: super::memory::USED_BYTES,
            is_administrator: false,
        }],
        more: false,
    };
    let hash = memory.accounts()[0].password_hash.clone();
    assert_eq!(quota("A@X.test", None), shown(0));
    assert_eq!(quota("a@x.test", Some(5000)), shown(5000));
    assert_eq!(quota("a@x.test", None), shown(5000));
    assert_eq!(memory.accounts()[0].password_hash, hash);
    refused(quota("b@x.test", Some(1)), "there is no account b@x.test");
    let all = Request::AccountList {
        domain: None,
        after: None,
    };
    assert_eq!(ask(&memory, all), shown(5000));
}

#[test]
fn an_administrator_is_made_and_unmade() {
    let memory = served("x.test");
    assert!(add(&memory, &["a@x.test", "b@x.test"]).is_empty());
    let admin = |address: &str, on| {
        let address = address.to_owned();
        ask(&memory, Request::AccountAdmin { address, on })
    };
    let is = |reply| match reply {
        Reply::Accounts { accounts, .. } => {
            let entries = accounts.into_iter();
            let entries = entries.map(|entry| (entry.address, entry.is_administrator));
            entries.collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let a = |on| vec![("a@x.test".to_owned(), on)];
    assert_eq!(is(admin("a@x.test", None)), a(false));
    assert_eq!(is(admin("A@x.test", Some(true))), a(true));
    assert_eq!(is(admin("a@x.test", None)), a(true));
    let all = || {
        let (domain, after) = (None, None);
        is(ask(&memory, Request::AccountList { domain, after }))
    };
    assert_eq!(
        all(),
        [a(true), vec![("b@x.test".to_owned(), false)]].concat()
    );
    assert_eq!(is(admin("a@x.test", Some(false))), a(false));
    for on in [None, Some(true)] {
        refused(admin("c@x.test", on), "there is no account c@x.test");
    }
}
