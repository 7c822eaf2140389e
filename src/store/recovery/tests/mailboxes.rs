//! What a start makes of mailboxes: MODSEQs and UIDs that clients have seen stay what they were.

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::task::Poll;

use super::*;
use crate::store::disk::Disk as _;
use crate::store::record::Reserved;
use crate::store::recovery::rewrite::moved_on;
use crate::store::{Append, FlagChange, FlagMode, Flags, MailboxId, NewMessage};

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
                let changed = partition.changed_since(&ann, INBOX, modseq).unwrap();
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
    let of = |reserved: Reserved| (reserved.uid_next, reserved.validity);
    assert_eq!(of(moved_on(known(5), Some(100), 50)), (105, 7));
    assert_eq!(of(moved_on(known(5), None, 50)), (5, 50));
    let last = Uid::MAX - 50;
    // What is lost may have had any number up to there.
    assert_eq!(of(moved_on(known(last), Some(100), 50)), (last, 50));
    assert_eq!(of(moved_on(known(Uid::MAX), Some(0), 50)), (Uid::MAX, 7));
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
        let changed = partition.changed_since(&ann, INBOX, modseq).unwrap();
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
        let changed = partition.changed_since(&ann, INBOX, modseq).unwrap();
        assert!(
            changed.iter().any(|message| message.uid == 1),
            "{changed:?}"
        );
        // And nothing more than before to those who have heard of it.
        let info = partition.mailbox_info(&ann, INBOX).unwrap();
        let changed = partition.changed_since(&ann, INBOX, info.highest_modseq);
        assert_eq!(changed.unwrap(), []);
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
