//! The two ends of the control socket, and what crosses it.

use super::*;

#[test]
fn a_session_takes_one_request_at_a_time() {
    let start = Instant::now();
    let mut session = Session::new();
    let mut out = Vec::new();
    assert!(matches!(session.greet(start, &mut out), Step::NeedInput));
    assert!(session.deadline().expect("idle") > start);
    let mut two = Request::Expire.encode().expect("short");
    let first_bytes = two.len();
    two.extend(Request::Status.encode().expect("short"));
    let (consumed, step) = session.feed(&two, start, &mut out);
    assert_eq!(consumed, first_bytes);
    assert!(matches!(step, Step::Ask(Request::Expire)));
    assert_eq!(session.deadline(), None, "the store may take its time");
    let reply = Reply::Reclaimed {
        freed_bytes: 1,
        returned_bytes: 2,
    };
    let step = session.answer(reply.clone(), start, &mut out);
    assert!(matches!(step, Step::NeedInput));
    assert_eq!(
        Reply::decode(&out[..out.len() - 1]).expect("a reply"),
        reply
    );
    let (consumed, step) = session.feed(&two[first_bytes..], start, &mut out);
    assert_eq!(consumed, two.len() - first_bytes);
    assert!(matches!(step, Step::Ask(Request::Status)));
    // Told to end while an ask is out: the answer still goes out.
    assert!(matches!(
        session.notify(Event::Shutdown, start, &mut out),
        Step::NeedInput
    ));
    out.clear();
    assert!(matches!(
        session.answer(Reply::done(), start, &mut out),
        Step::Close
    ));
    assert!(!out.is_empty());
}

#[test]
fn a_session_survives_nonsense_and_ends_at_its_bound() {
    let now = Instant::now();
    let mut session = Session::new();
    let mut out = Vec::new();
    let (_, step) = session.feed(b"nonsense\n", now, &mut out);
    assert!(matches!(step, Step::NeedInput));
    let reply = Reply::decode(&out[..out.len() - 1]).expect("a reply");
    refused(reply, "not understood");
    out.clear();
    let piece = vec![b'x'; 64 * 1024];
    let mut fed = 0;
    let step = loop {
        let (consumed, step) = session.feed(&piece, now, &mut out);
        assert_eq!(consumed, piece.len());
        fed += consumed;
        if !matches!(step, Step::NeedInput) {
            break step;
        }
        assert!(fed < limits::ADMIN_REQUEST_BYTES_MAX, "beyond its bound");
    };
    assert!(matches!(step, Step::Close));
    refused(
        Reply::decode(&out[..out.len() - 1]).expect("a reply"),
        "at most",
    );
}

#[test]
fn a_long_reply_drains_in_pieces() {
    let now = Instant::now();
    let mut session = Session::new();
    let mut out = Vec::new();
    let line = Request::PostmasterShow.encode().expect("short");
    assert!(matches!(session.feed(&line, now, &mut out).1, Step::Ask(_)));
    let reply = Reply::Done {
        notes: vec!["x".repeat(200_000)],
    };
    let mut all = Vec::new();
    let mut step = session.answer(reply.clone(), now, &mut out);
    let mut pieces = 0;
    while matches!(step, Step::Drain) {
        assert!(out.len() <= limits::OUTPUT_BYTES_MAX);
        pieces += 1;
        all.append(&mut out);
        step = session.feed(b"", now, &mut out).1;
    }
    assert!(matches!(step, Step::NeedInput));
    all.append(&mut out);
    assert_eq!(
        Reply::decode(&all[..all.len() - 1]).expect("a reply"),
        reply
    );
    assert!(pieces >= 3);
}

#[test]
fn client_and_session_talk_over_a_socket() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(
        Client::connect(dir.path())
            .expect("nobody is there")
            .is_none()
    );
    let (stop, accounts) = serve_control(dir.path());
    let mut client = Client::connect(dir.path())
        .expect("connected")
        .expect("there");
    let domain = "x.test".to_owned();
    assert!(matches!(
        client.ask(&Request::DomainAdd { domain }),
        Ok(Reply::Done { .. })
    ));
    let new = (0..300).map(|n| account(&format!("u{n}@x.test"))).collect();
    let reply = client
        .ask(&Request::AccountAdd { accounts: new })
        .expect("asked");
    assert!(matches!(reply, Reply::Added { failed, .. } if failed.is_empty()));
    let reply = client
        .ask(&Request::AccountList {
            domain: None,
            after: None,
        })
        .expect("asked");
    assert!(matches!(reply, Reply::Accounts { accounts, more: false } if accounts.len() == 300));
    drop(client);
    drop(stop);
    assert_eq!(accounts.recv().expect("ended").len(), 300);
    // The file is still there, nobody listens: as after kill -9.
    assert!(Client::connect(dir.path()).expect("refused").is_none());
}

#[test]
fn a_server_that_goes_away_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let listener = UnixListener::bind(control_path(dir.path())).expect("bound");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepted");
        let _ = stream.read(&mut [0; 10_000]);
        stream.write_all(b"{\"reply\":\"do").expect("sent");
    });
    let mut client = Client::connect(dir.path())
        .expect("connected")
        .expect("there");
    let error = client
        .ask(&Request::Expire)
        .expect_err("half a reply")
        .to_string();
    assert!(
        error.contains("whether the request was done is not known"),
        "{error}"
    );
    server.join().expect("ended");
}

fn requests() -> impl Strategy<Value = Request> {
    let text = || any::<String>();
    prop_oneof![
        text().prop_map(|domain| Request::DomainAdd { domain }),
        text().prop_map(|domain| Request::DomainRemove { domain }),
        (text(), proptest::collection::vec(text(), 0..5))
            .prop_map(|(address, targets)| Request::AliasAdd { address, targets }),
        (proptest::option::of(text()), proptest::option::of(text()))
            .prop_map(|(domain, after)| Request::AccountList { domain, after }),
        proptest::collection::vec((text(), text(), any::<u64>()), 0..5).prop_map(|list| {
            let accounts = list
                .into_iter()
                .map(|(address, hash, quota_bytes)| NewAccount {
                    address,
                    hash,
                    quota_bytes,
                })
                .collect();
            Request::AccountAdd { accounts }
        }),
        (text(), text()).prop_map(|(domain, target)| Request::CatchAllSet { domain, target }),
        Just(Request::Expire),
    ]
}

proptest! {
    #[test]
    fn requests_cross_the_wire_byte_by_byte(list in proptest::collection::vec(requests(), 1..4)) {
        let now = Instant::now();
        let mut session = Session::new();
        let mut out = Vec::new();
        let mut found = Vec::new();
        for request in &list {
            let line = request.encode().expect("short");
            prop_assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
            for byte in &line {
                let (consumed, step) = session.feed(std::slice::from_ref(byte), now, &mut out);
                prop_assert_eq!(consumed, 1);
                if let Step::Ask(request) = step {
                    found.push(request);
                    session.answer(Reply::done(), now, &mut out);
                }
            }
        }
        prop_assert_eq!(found, list);
    }

    #[test]
    fn replies_cross_the_wire(message in any::<String>(), failed in proptest::collection::vec((any::<usize>(), any::<String>()), 0..5)) {
        for reply in [Reply::Error { message: message.clone() }, Reply::Added { failed: failed.clone(), notes: vec![message.clone()] }] {
            let line = reply.encode().expect("short");
            prop_assert_eq!(Reply::decode(&line[..line.len() - 1]).expect("ours"), reply);
        }
    }

    #[test]
    fn random_bytes_never_become_a_request_or_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let now = Instant::now();
        let mut session = Session::new();
        let mut out = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (consumed, step) = session.feed(rest, now, &mut out);
            prop_assert!(consumed > 0);
            prop_assert!(matches!(step, Step::NeedInput), "{step:?}");
            rest = &rest[consumed..];
        }
        let lines = bytes.iter().filter(|b| **b == b'\n').count();
        prop_assert_eq!(out.iter().filter(|b| **b == b'\n').count(), lines, "a reply for each line");
    }

    #[test]
    fn a_listing_finds_the_first_in_any_order(numbers in proptest::collection::vec(0_u16..200, 0..100), after in 0_u16..200, max in 0_usize..20) {
        let name = |n: u16| Address::parse(&format!("u{n:03}@x.test")).expect("an address");
        let mut listing = Listing::new(AccountQuery { domain: Some("x.test".into()), after: Some(name(after)), max });
        let set: std::collections::BTreeSet<u16> = numbers.iter().copied().collect();
        let mut offered = std::collections::BTreeSet::new();
        for number in &numbers {
            if offered.insert(*number) {
                listing.offer(&Account { address: name(*number), password_hash: String::new(), quota_bytes: 0 });
            }
        }
        let want: Vec<String> = set.into_iter().filter(|n| *n > after).take(max).map(|n| name(n).to_string()).collect();
        let found: Vec<String> = listing.finish(|_| (0, false)).into_iter().map(|entry| entry.address).collect();
        prop_assert_eq!(found, want);
    }
}
