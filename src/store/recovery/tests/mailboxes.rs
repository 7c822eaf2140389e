//! What a start makes of mailboxes: MODSEQs and UIDs that clients have seen stay what they were.

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::task::Poll;

use super::*;
use crate::store::disk::Disk as _;
use crate::store::record::Reserved;
use crate::store::recovery::rewrite::moved_on;
use crate::store::{
    Append, FlagChange, FlagMode, Flags, MailboxId, NewMessage, validity_at, with_own_validity,
};

const INBOX: MailboxId = MailboxId::INBOX;

fn message(text: &str) -> NewMessage {
    NewMessage {
        body: text.as_bytes().to_vec(),
        ..NewMessage::default()
    }
}

fn append(messages: Vec<NewMessage>) -> Append {
    Append {
        mailbox: INBOX,
        messages,
        replaces: None,
        now_ms: 9,
    }
}

fn mark(flags: Flags) -> FlagChange {
    FlagChange {
        mode: FlagMode::Add,
        flags,
        keywords: Vec::new(),
        unchanged_since: None,
    }
}

/// Mailbox changes are not synced.
fn unsynced() -> Settings {
    let mut settings = settings();
    settings.sync.store = SyncLevel::None;
    settings
}

#[test]
fn flags_that_were_shown_and_lost_are_told_of_as_a_change() {
    let mut lost = 0;
    for seed in 0..20 {
        let disk = new_disk(seed);
        let seen = live(&disk, seed, unsynced(), |partition, _| async move {
            let ann = address("ann");
            partition.create_account(account("ann")).await.unwrap();
            let messages = vec![message("a"), message("b")];
            partition.append(&ann, append(messages)).await.unwrap();
            let change = mark(Flags::SEEN);
            let stored = partition.store_flags(&ann, INBOX, &[1], &change);
            let modseq = stored.await.unwrap().modseq.unwrap();
            let info = partition.mailbox_info(&ann, INBOX).unwrap();
            assert_eq!(info.highest_modseq, modseq);
            (modseq, info.validity)
        });
        let (modseq, validity) = seen.unwrap();
        let disk = disk.crash(Crash::Power);
        let was_lost = live(
            &disk,
            seed,
            unsynced(),
            move |partition, report| async move {
                assert!(!report.clean);
                let ann = address("ann");
                let info = partition.mailbox_info(&ann, INBOX).unwrap();
                assert!(info.highest_modseq >= modseq, "it went back");
                // The UIDs were synced with their messages: they stay, and are not told anew.
                assert_eq!((info.validity, info.uid_next), (validity, 3));
                let is_seen = partition
                    .message(&ann, INBOX, 1)
                    .unwrap()
                    .flags
                    .has(Flags::SEEN);
                let changed = partition
                    .changed_since(&ann, INBOX, modseq, usize::MAX)
                    .unwrap();
                let changed = changed.expect("there is no bound");
                let is_told = changed.iter().any(|message| message.uid == 1);
                assert!(is_seen || is_told, "nobody learns that the flag is gone");
                !is_seen
            },
        );
        lost += u32::from(was_lost.unwrap());
    }
    assert!(lost > 0, "no loss of power took the flags away");
}

#[test]
fn a_start_skips_no_uid_that_is_not_there() {
    let known = |uid_next| Reserved {
        uid_next,
        validity: 7,
        modseq: 3,
        changed_floor: 0,
    };
    let of = |(seq, reserved): (u64, Reserved)| {
        assert_eq!((reserved.modseq, reserved.changed_floor), (seq, seq));
        (reserved.uid_next, reserved.validity)
    };
    // A number that something begins with, so that no other has its UIDVALIDITY.
    let now = with_own_validity(5_000_000);
    let validity = validity_at(now);
    assert_eq!(of(moved_on(known(5), Some(100), now)), (105, 7));
    assert_eq!(of(moved_on(known(5), None, now)), (5, validity));
    // The numbers behind that one may be of others that have begun with it.
    assert_eq!(of(moved_on(known(5), None, now + 1)), (5, validity + 1));
    let last = Uid::MAX - 50;
    // What is lost may have had any number up to there.
    assert_eq!(of(moved_on(known(last), Some(100), now)), (last, validity));
    assert_eq!(of(moved_on(known(Uid::MAX), Some(0), now)), (Uid::MAX, 7));
}

#[test]
fn what_may_be_lost_is_told_of_by_a_compacted_log_without_its_index() {
    let disk = new_disk(11);
    let seen = live(&disk, 11, unsynced(), |partition, _| async move {
        let ann = address("ann");
        partition.create_account(account("ann")).await.unwrap();
        let kept = append(vec![message("kept")]);
        partition.append(&ann, kept).await.unwrap();
        partition.mailbox_info(&ann, INBOX).unwrap().highest_modseq
    });
    let modseq = seen.unwrap();
    let disk = disk.crash(Crash::Power);
    live(&disk, 12, unsynced(), move |partition, report| async move {
        assert!(!report.clean);
        let ann = address("ann");
        let text = "x".repeat(40_000);
        for _ in 0..40 {
            let large = append(vec![message(&text)]);
            let uids = partition.append(&ann, large).await.unwrap().uids;
            partition.expunge(&ann, &uids, 5).await.unwrap();
        }
        let reclaimed = partition.expire_now().await.unwrap();
        assert!(reclaimed.freed_bytes > 1_000_000, "{reclaimed:?}");
        let changed = partition
            .changed_since(&ann, INBOX, modseq, usize::MAX)
            .unwrap();
        let changed = changed.expect("there is no bound");
        assert!(changed.iter().any(|message| message.uid == 1));
        partition.close().await.unwrap();
    });
    block_on(async {
        let mut removed = 0;
        for entry in disk.read_dir(&dir()).await.unwrap() {
            if entry.path.extension().is_some_and(|kind| kind == "idx") {
                disk.remove(&entry.path).await.unwrap();
                removed += 1;
            }
        }
        assert_eq!(removed, 1);
    });
    live(&disk, 13, unsynced(), move |partition, _| async move {
        let ann = address("ann");
        let changed = partition
            .changed_since(&ann, INBOX, modseq, usize::MAX)
            .unwrap();
        let changed = changed.expect("there is no bound");
        assert!(
            changed.iter().any(|message| message.uid == 1),
            "{changed:?}"
        );
        // And nothing more than before to those who have heard of it.
        let info = partition.mailbox_info(&ann, INBOX).unwrap();
        let changed = partition.changed_since(&ann, INBOX, info.highest_modseq, usize::MAX);
        assert_eq!(changed.unwrap(), Some(Vec::new()));
    });
}

fn keys_of(partition: &Log, prefix: &[u8]) -> usize {
    let mut count = 0;
    partition.for_each_key(prefix, |_, _| count += 1);
    count
}

/// What is removed is gone for who asks at once, and by and by for the disk.
async fn all_is_gone(partition: &Log) {
    for _ in 0..1000 {
        if keys_of(partition, b"\xffgone\0") == 0 {
            return;
        }
        partition.put(b"turn".to_vec(), None).await.unwrap();
    }
    panic!("it never goes");
}

#[test]
fn a_large_mailbox_goes_in_steps_whatever_comes_between() {
    for seed in 0..8 {
        let disk = new_disk(seed);
        let first = live(&disk, seed, settings(), move |partition, _| async move {
            let ann = address("ann");
            partition.create_account(account("ann")).await.unwrap();
            let big = partition.create_mailbox(&ann, "big", None).await.unwrap();
            for _ in 0..3 {
                let messages = (0..900).map(|_| message("text")).collect();
                let append = Append {
                    mailbox: big.id,
                    ..append(messages)
                };
                partition.append(&ann, append).await.unwrap();
            }
            let put = partition.put_value(&ann, Some(big.id), b"k", Some(vec![1]));
            put.await.unwrap();
            let kept = append(vec![message("kept")]);
            partition.append(&ann, kept).await.unwrap();
            partition.delete_mailbox(&ann, big.id).await.unwrap();
            assert_eq!(partition.value(&ann, Some(big.id), b"k"), Some(vec![1]));
            let late = partition.put_value(&ann, Some(big.id), b"late", Some(vec![1]));
            assert!(matches!(late.await, Err(StoreError::Missing)));
            let gone = partition.view(&ann, big.id);
            assert!(matches!(gone, Err(StoreError::Missing)));
            let again = partition.create_mailbox(&ann, "big", None).await.unwrap();
            assert_ne!(again.id, big.id);
            // Its end may come at any of the steps.
            for _ in 0..seed {
                partition.put(b"turn".to_vec(), None).await.unwrap();
            }
            big.id
        });
        let first = first.unwrap();
        let disk = disk.crash(Crash::Power);
        let check = move |partition: &Log| {
            let ann = address("ann");
            let names = partition.mailboxes(&ann).unwrap();
            assert_eq!(names.iter().filter(|own| own.name == "big").count(), 1);
            assert!(names.iter().all(|own| own.id != first));
            assert!(partition.message(&ann, first, 1).is_err());
        };
        live(&disk, seed, settings(), move |partition, _| async move {
            check(&partition);
            all_is_gone(&partition).await;
            check(&partition);
            let ann = address("ann");
            assert_eq!(partition.used_bytes(&ann), 4, "bytes of what is kept");
            assert_eq!(keys_of(&partition, b"\xff"), 0);
            partition.close().await.unwrap();
        });
        live(
            &disk,
            seed,
            settings(),
            move |partition, report| async move {
                assert_eq!(report.messages, 1);
                check(&partition);
            },
        );
    }
}

#[test]
fn small_values_of_an_account_go_after_a_crash_that_kept_them() {
    let disk = new_disk(4);
    live(&disk, 4, settings(), |partition, _| async move {
        let ann = address("ann");
        partition.create_account(account("ann")).await.unwrap();
        for number in 0..5u8 {
            let key = [number];
            let put = partition.put_value(&ann, None, &key, Some(vec![number; 9]));
            put.await.unwrap();
        }
        let mut removal = Box::pin(partition.remove_account(&ann));
        poll_fn(|context| {
            let _ = removal.as_mut().poll(context);
            match partition.has_account(&address("ann")) {
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        })
        .await;
        assert_eq!(keys_of(&partition, b"\xffaccount\0"), 5);
    });
    let disk = disk.crash(Crash::Power);
    live(&disk, 5, settings(), |partition, _| async move {
        assert!(!partition.has_account(&address("ann")));
        all_is_gone(&partition).await;
        assert_eq!(keys_of(&partition, b"\xff"), 0);
    });
}

#[test]
fn one_needed_mark_does_not_keep_the_record_of_thousands() {
    let disk = new_disk(21);
    let wanted = live(&disk, 21, settings(), |partition, _| async move {
        let ann = address("ann");
        partition.create_account(account("ann")).await.unwrap();
        for _ in 0..4 {
            let messages = (0..1000).map(|_| message("x")).collect();
            partition.append(&ann, append(messages)).await.unwrap();
        }
        let uids: Vec<Uid> = (1..=4000).collect();
        // Of each record the first mark stays, and all of the last one.
        for round in 0..20 {
            let change = FlagChange {
                keywords: vec!["every".to_owned(), format!("word{round}")],
                mode: FlagMode::Replace,
                ..mark(Flags(round as u8 & Flags::ALL.0))
            };
            let stored = partition.store_flags(&ann, INBOX, &uids[round..], &change);
            stored.await.unwrap();
        }
        let before = named_marks(&partition);
        let reclaimed = partition.expire_now().await.unwrap();
        assert!(reclaimed.freed_bytes > 600_000, "{reclaimed:?}");
        assert_eq!(named_marks(&partition), before);
        partition.close().await.unwrap();
        before
    });
    let wanted = wanted.unwrap();
    assert_eq!(wanted[2].1, ["every", "word2"]);
    block_on(async {
        for entry in disk.read_dir(&dir()).await.unwrap() {
            if entry.path.extension().is_some_and(|kind| kind == "idx") {
                disk.remove(&entry.path).await.unwrap();
            }
        }
    });
    live(&disk, 22, settings(), move |partition, _| async move {
        assert_eq!(named_marks(&partition), wanted);
    });
}

/// Flags and keywords of all messages of ann's INBOX, in UID order.
fn named_marks(partition: &Log) -> Vec<(Flags, Vec<String>)> {
    let ann = address("ann");
    let names = partition.view(&ann, INBOX).unwrap().keywords;
    let mut marks = Vec::new();
    let visit = |message: &MessageInfo| {
        let own = names.iter().enumerate();
        let own = own.filter(|(place, _)| message.keywords >> place & 1 == 1);
        let mut own: Vec<String> = own.map(|(_, name)| name.clone()).collect();
        own.sort();
        marks.push((message.flags, own));
        ControlFlow::Continue(())
    };
    let visited = partition.for_each_message(&ann, INBOX, (0, Uid::MAX), visit);
    visited.unwrap();
    marks
}

/// A UIDVALIDITY has 32 bits, the numbers of records 48: no mailbox, and no account, gets one that
/// another has had, however many numbers lie between.
#[test]
fn a_validity_is_never_given_again() {
    let disk = new_disk(31);
    live(&disk, 1, settings(), |partition, _| async move {
        let ann = address("ann");
        partition.create_account(account("ann")).await.unwrap();
        let first = partition.account_validity(&ann).unwrap();
        let box_a = partition.create_mailbox(&ann, "A", None).await.unwrap();
        let box_b = partition.create_mailbox(&ann, "B", None).await.unwrap();
        assert!(first < box_a.validity && box_a.validity < box_b.validity);
        // Just before what 32 bits would take for the numbers that made them.
        for (id, name) in [(box_a.id, "A"), (box_b.id, "B")] {
            partition.delete_mailbox(&ann, id).await.unwrap();
            partition.seq_next.set(id.0 + (1 << 32));
            let again = partition.create_mailbox(&ann, name, None).await.unwrap();
            assert!(
                again.validity > box_b.validity,
                "{name}: {}",
                again.validity
            );
        }
        partition.remove_account(&ann).await.unwrap();
        // The record of the account is the first that takes a number.
        partition.seq_next.set((u64::from(first) << 16) + (1 << 40));
        partition.create_account(account("ann")).await.unwrap();
        let again = partition.mailbox_info(&ann, INBOX).unwrap().validity;
        assert!(again > first, "{first} and {again}");
    });
}

/// Numbers that nobody synced, be it for an import of accounts, are fewer than a start skips.
#[test]
fn a_loss_of_power_takes_no_validity_that_is_given_again() {
    let unsynced = || {
        let mut settings = settings();
        settings.sync.database = SyncLevel::None;
        settings
    };
    let mut lost = 0;
    for seed in 0..8 {
        let disk = new_disk(seed);
        let seen = live(&disk, seed, unsynced(), |partition, _| async move {
            let mut last = 0;
            for number in 0..70 {
                let name = format!("a{number}");
                partition.create_account(account(&name)).await.unwrap();
                let all = partition.mailboxes(&address(&name)).unwrap();
                last = all.iter().map(|info| info.validity).max().unwrap();
            }
            last
        });
        let seen = seen.unwrap();
        let disk = disk.crash(Crash::Power);
        let now = live(&disk, seed, unsynced(), |partition, _| async move {
            partition.create_account(account("new")).await.unwrap();
            let mut count = 0;
            partition.for_each_account(|_| count += 1);
            (count, partition.account_validity(&address("new")).unwrap())
        });
        let (count, validity) = now.unwrap();
        assert!(validity > seen, "{validity} was given before {seen}");
        lost += 71 - count;
    }
    assert!(lost > 0, "no loss of power took an account away");
}

#[test]
fn the_last_numbers_of_records_are_kept() {
    let disk = new_disk(32);
    live(&disk, 1, settings(), |partition, _| async move {
        partition.create_account(account("ann")).await.unwrap();
        partition.seq_next.set((1 << 48) - (1 << 40));
        let refused = partition.deliver(delivery(&["ann"], b"x")).await;
        assert!(
            matches!(refused, Err(StoreError::ReadOnly(_))),
            "{refused:?}"
        );
        assert!(matches!(partition.health(), Health::ReadOnly(_)));
    });
}

/// Fills an account beyond what goes with it at once.
async fn fill(partition: &Log, name: &str) {
    let of = address(name);
    partition.create_account(account(name)).await.unwrap();
    let big = partition.create_mailbox(&of, "big", None).await.unwrap();
    for mailbox in [INBOX, big.id] {
        let messages = (0..900).map(|_| message("text")).collect();
        let append = Append {
            mailbox,
            ..append(messages)
        };
        partition.append(&of, append).await.unwrap();
    }
    let change = mark(Flags::SEEN);
    let uids: Vec<Uid> = (1..600).collect();
    let stored = partition.store_flags(&of, big.id, &uids, &change);
    stored.await.unwrap();
    for mailbox in [None, Some(big.id)] {
        let put = partition.put_value(&of, mailbox, b"k", Some(vec![1]));
        put.await.unwrap();
    }
}

#[test]
fn a_large_account_goes_in_steps_whatever_comes_between() {
    for seed in 0..10 {
        let disk = new_disk(seed);
        live(&disk, seed, settings(), move |partition, _| async move {
            let ann = address("ann");
            fill(&partition, "ann").await;
            partition.create_account(account("bob")).await.unwrap();
            let kept = append(vec![message("kept")]);
            partition.append(&address("bob"), kept).await.unwrap();
            partition.remove_account(&ann).await.unwrap();
            assert!(!partition.has_account(&ann) && partition.account(&ann).is_none());
            assert!(partition.mailboxes(&ann).is_err() && partition.inbox(&ann).is_err());
            assert_eq!(
                (
                    partition.used_bytes(&ann),
                    partition.value(&ann, None, b"k")
                ),
                (0, None)
            );
            let mut names = Vec::new();
            partition.for_each_account(|one| names.push(one.address.clone()));
            assert_eq!(names, [address("bob")]);
            let refused = partition
                .deliver(delivery(&["ann"], b"late"))
                .await
                .unwrap();
            assert!(
                matches!(refused[..], [Err(StoreError::Missing)]),
                "{refused:?}"
            );
            let again = partition.remove_account(&ann).await;
            assert!(matches!(again, Err(StoreError::Missing)));
            let left = partition.index.borrow().count_messages(&ann);
            assert!(left > 0, "it went at once");
            // The end may come at any of the steps.
            for _ in 0..seed {
                partition.put(b"turn".to_vec(), None).await.unwrap();
            }
        });
        let disk = disk.crash(Crash::Power);
        live(&disk, seed, settings(), move |partition, _| async move {
            assert!(!partition.has_account(&address("ann")));
            if seed % 2 == 0 {
                all_is_gone(&partition).await;
                assert_eq!(partition.probe().messages.get(), 1, "of bob");
                assert_eq!(keys_of(&partition, b"\xff"), 0);
            }
            partition.close().await.unwrap();
        });
        live(&disk, seed, settings(), |partition, report| async move {
            assert!(!partition.has_account(&address("ann")));
            assert!(report.clean);
            partition.create_account(account("ann")).await.unwrap();
            assert_eq!(partition.used_bytes(&address("ann")), 0);
            assert_eq!(partition.mailboxes(&address("ann")).unwrap().len(), 6);
            assert_eq!(partition.inbox(&address("bob")).unwrap().1.len(), 1);
        });
    }
}

#[test]
fn an_account_made_anew_has_nothing_of_a_large_one_before_it() {
    let disk = new_disk(40);
    let first = live(&disk, 1, settings(), |partition, _| async move {
        let ann = address("ann");
        fill(&partition, "ann").await;
        let validity = partition.account_validity(&ann).unwrap();
        // Both are asked for at once, and once more.
        let mut removal = Box::pin(partition.remove_account(&ann));
        let mut creation = Box::pin(partition.create_account(account("ann")));
        let mut second = Box::pin(partition.create_account(account("ann")));
        let (mut removed, mut made) = (None, Vec::new());
        poll_fn(|context| {
            if removed.is_none()
                && let Poll::Ready(result) = removal.as_mut().poll(context)
            {
                removed = Some(result);
            }
            for creation in [&mut creation, &mut second] {
                if made.len() < 2
                    && let Poll::Ready(result) = creation.as_mut().poll(context)
                {
                    made.push(result);
                    *creation = Box::pin(partition.create_account(account("ann")));
                }
            }
            match made.len() {
                2 => Poll::Ready(()),
                _ => Poll::Pending,
            }
        })
        .await;
        assert!(matches!(removed, Some(Ok(()))), "{removed:?}");
        assert!(
            matches!(made[..], [Ok(()), Err(StoreError::Exists)]),
            "{made:?}"
        );
        let info = partition.mailbox_info(&ann, INBOX).unwrap();
        assert!(info.validity > validity);
        assert_eq!((info.exists, info.uid_next), (0, 1));
        assert_eq!(partition.mailboxes(&ann).unwrap().len(), 6);
        assert_eq!(partition.value(&ann, None, b"k"), None);
        partition
            .append(&ann, append(vec![message("new")]))
            .await
            .unwrap();
        all_is_gone(&partition).await;
        assert_eq!(keys_of(&partition, b"\xff"), 0);
        let usage = partition.index.borrow().usage();
        let live: u64 = usage.iter().map(|(_, usage)| usage.live_bytes).sum();
        assert!(live < 4096, "{live} bytes are live");
        info.validity
    });
    let disk = disk.crash(Crash::Power);
    live(&disk, 2, settings(), move |partition, report| async move {
        assert_eq!(report.messages, 1);
        let info = partition.mailbox_info(&address("ann"), INBOX).unwrap();
        assert_eq!((Some(info.validity), info.exists), (first, 1));
    });
}
