//! What sessions do, each thing once, on the simulated disk.

mod sharing;
mod waiting;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::*;
use crate::config::SyncLevels;
use crate::store::disk::Disk as _;
use crate::store::record::Reserved;
use crate::store::sim::{Crash, Executor, Outcome, Random, SimDisk, block_on};
use crate::store::{
    Account, Delivery, Happening, Identity, MessagesChanged, Settings, UidRun, ValuesMax,
};

const IDENTITY: Identity = Identity {
    store_id: 5,
    partition: 1,
};
const INBOX: MailboxId = MailboxId::INBOX;

fn ann() -> Address {
    Address::parse("ann@example.org").unwrap()
}

fn settings() -> Settings {
    Settings {
        sync: SyncLevels::default(),
        segment_bytes: 8 * 1024 * 1024,
        reserve_bytes: 0,
        cleanup_age_ms: 1000,
    }
}

fn new_disk() -> SimDisk {
    let disk = SimDisk::new(3);
    block_on(async {
        let dir = PathBuf::from("/p001");
        Partition::create(disk.clone(), &dir, IDENTITY)
            .await
            .unwrap();
        disk.sync_dir(Path::new("/")).await.unwrap();
    });
    disk
}

/// Opens the partition, makes the account if it is not there, and runs `life`.
fn live<F: Future<Output = ()> + 'static>(
    disk: &SimDisk,
    life: impl FnOnce(Rc<Partition<SimDisk>>) -> F + 'static,
) {
    let executor = Executor::new();
    let (spawner, own) = (executor.clone(), disk.clone());
    let done = Rc::new(std::cell::Cell::new(false));
    let is_done = done.clone();
    executor.spawn(async move {
        let dir = PathBuf::from("/p001");
        let opened = Partition::open(own, &dir, IDENTITY, settings(), 0, |_| ()).await;
        let (partition, _) = opened.unwrap();
        spawner.spawn(partition.clone().run());
        if !partition.has_account(&ann()) {
            let account = Account {
                address: ann(),
                password_hash: "hash".to_owned(),
                quota_bytes: 0,
            };
            partition.create_account(account).await.unwrap();
        }
        life(partition).await;
        is_done.set(true);
    });
    let outcome = executor.run(&mut Random::new(9), 2_000_000, || done.get());
    assert_eq!(outcome, Outcome::Done, "it hangs");
}

fn message(text: &str) -> NewMessage {
    NewMessage {
        date_ms: 4,
        body: text.as_bytes().to_vec(),
        ..NewMessage::default()
    }
}

fn append(mailbox: MailboxId, messages: Vec<NewMessage>) -> Append {
    Append {
        mailbox,
        messages,
        replaces: None,
        now_ms: 9,
    }
}

fn seen(mode: FlagMode) -> FlagChange {
    FlagChange {
        mode,
        flags: Flags::SEEN,
        keywords: Vec::new(),
        unchanged_since: None,
    }
}

#[test]
fn many_messages_come_in_one_batch_and_stay() {
    let disk = new_disk();
    live(&disk, |partition| async move {
        let body = "x".repeat(400);
        let messages = (0..3000).map(|n| message(&format!("{n} {body}"))).collect();
        let appended = partition
            .append(&ann(), append(INBOX, messages))
            .await
            .unwrap();
        assert_eq!(appended.uids, (1..=3000).collect::<Vec<Uid>>());
    });
    let disk = disk.crash(Crash::Power);
    live(&disk, |partition| async move {
        let view = partition.view(&ann(), INBOX).unwrap();
        assert_eq!(view.info.exists, 3000);
        assert_eq!(
            view.runs,
            [UidRun {
                first: 1,
                last: 3000
            }]
        );
        let bytes = partition.read_from(&ann(), INBOX, 2345, 0, 7).await;
        assert_eq!(bytes.unwrap(), b"2344 xx");
    });
}

#[test]
fn ten_thousand_messages_come_although_they_do_not_fit_with_their_bodies() {
    let disk = new_disk();
    live(&disk, |partition| async move {
        let messages = (0..10_000).map(|number| NewMessage {
            keywords: vec!["k".repeat(20)],
            ..message(&format!("{number:025}"))
        });
        let messages: Vec<NewMessage> = messages.collect();
        assert!(messages.len() * 25 <= BODY_INLINE_BYTES_MAX);
        let appended = partition
            .append(&ann(), append(INBOX, messages))
            .await
            .unwrap();
        assert_eq!(appended.uids.len(), 10_000);
        let bytes = partition.read_from(&ann(), INBOX, 9999, 20, 7).await;
        assert_eq!(bytes.unwrap(), b"09998");
    });
}

#[test]
fn an_entry_is_no_larger_than_sessions_count() {
    let entry = record::body_disk_bytes(0, 1) + SMALL_BYTES + 48;
    assert!(entry <= crate::limits::IMAP_APPEND_ENTRY_BYTES, "{entry}");
    const {
        assert!(crate::limits::IMAP_APPEND_ENTRIES_BYTES_MAX + 4 * SMALL_BYTES <= RECORDS_BYTES_MAX)
    };
}

#[test]
fn a_replaced_message_goes_as_the_other_comes() {
    live(&new_disk(), |partition| async move {
        let first = append(INBOX, vec![message("old")]);
        partition.append(&ann(), first).await.unwrap();
        let mut second = append(INBOX, vec![message("new")]);
        second.replaces = Some((INBOX, 1));
        assert_eq!(
            partition.append(&ann(), second.clone()).await.unwrap().uids,
            [2]
        );
        let info = partition.mailbox_info(&ann(), INBOX).unwrap();
        assert_eq!((info.exists, info.uid_next), (1, 3));
        let gone = partition.append(&ann(), second).await;
        assert!(matches!(gone, Err(StoreError::Missing)), "{gone:?}");
    });
}

#[test]
fn what_has_changed_since_is_left_alone_and_named() {
    live(&new_disk(), |partition| async move {
        let both = append(INBOX, vec![message("a"), message("b")]);
        partition.append(&ann(), both).await.unwrap();
        let since = partition
            .mailbox_info(&ann(), INBOX)
            .unwrap()
            .highest_modseq;
        let one = partition
            .store_flags(&ann(), INBOX, &[1], &seen(FlagMode::Add))
            .await;
        let one = one.unwrap();
        assert!(one.before > 0 && one.before <= since);
        let modseq = one.modseq.unwrap();
        let undone = partition
            .store_flags(&ann(), INBOX, &[1], &seen(FlagMode::Remove))
            .await
            .unwrap();
        assert_eq!(undone.before, modseq);
        let redone = partition
            .store_flags(&ann(), INBOX, &[1], &seen(FlagMode::Add))
            .await
            .unwrap();
        assert_eq!(Some(redone.before), undone.modseq);
        let modseq = redone.modseq.unwrap();
        let change = FlagChange {
            unchanged_since: Some(since),
            ..seen(FlagMode::Replace)
        };
        let stored = partition
            .store_flags(&ann(), INBOX, &[1, 2, 7], &change)
            .await;
        let stored = stored.unwrap();
        assert_eq!((stored.changed, stored.modified), (vec![2], vec![1]));
        let changed = partition.changed_since(&ann(), INBOX, modseq, 1).unwrap();
        let changed = changed.expect("one, by another message than this");
        let all = partition.changed_since(&ann(), INBOX, 0, 1).unwrap();
        assert!(all.is_none(), "both are more than one");
        assert_eq!(changed.iter().map(|m| m.uid).collect::<Vec<_>>(), [2]);
        let info = partition.mailbox_info(&ann(), INBOX).unwrap();
        assert_eq!((info.unseen, Some(info.highest_modseq)), (0, stored.modseq));
        // Nothing to change is no change.
        let again = partition
            .store_flags(&ann(), INBOX, &[2], &seen(FlagMode::Add))
            .await;
        assert_eq!(again.unwrap(), Stored::default());
    });
}

#[test]
fn a_mailbox_has_so_many_keywords() {
    live(&new_disk(), |partition| async move {
        partition
            .append(&ann(), append(INBOX, vec![message("a")]))
            .await
            .unwrap();
        let with = |keywords: Vec<String>| FlagChange {
            keywords,
            ..seen(FlagMode::Replace)
        };
        let all: Vec<String> = (0..KEYWORDS_MAX).map(|n| format!("word{n}")).collect();
        let stored = partition.store_flags(&ann(), INBOX, &[1], &with(all)).await;
        assert_eq!(stored.unwrap().changed, [1]);
        let more = with(vec!["one-more".to_owned()]);
        let refused = partition.store_flags(&ann(), INBOX, &[1], &more).await;
        assert!(
            matches!(refused, Err(StoreError::TooMany(_))),
            "{refused:?}"
        );
        // Case does not make another one.
        let same = with(vec!["WORD3".to_owned()]);
        partition
            .store_flags(&ann(), INBOX, &[1], &same)
            .await
            .unwrap();
        let message = partition.message(&ann(), INBOX, 1).unwrap();
        assert_eq!(message.keywords, 1 << 3);
        assert_eq!(partition.view(&ann(), INBOX).unwrap().keywords[3], "word3");
    });
}

#[test]
fn a_watch_tells_once_until_it_is_asked() {
    live(&new_disk(), |partition| async move {
        let sent = partition.mailbox(&ann(), "sent").err();
        assert!(matches!(sent, Some(StoreError::Missing)));
        let sent = partition.mailbox(&ann(), "Sent").unwrap().id;
        let inbox = partition.watch(&ann(), Some(INBOX), 7).unwrap();
        let _all = partition.watch(&ann(), None, 8).unwrap();
        let other = partition.watch(&ann(), Some(sent), 9).unwrap();
        for _ in 0..2 {
            partition.deliver(delivery()).await.unwrap();
        }
        assert_eq!(partition.notices().await, [7, 8]);
        partition
            .append(&ann(), append(sent, vec![message("b")]))
            .await
            .unwrap();
        drop(other);
        assert_eq!(partition.notices().await, [8]);
        drop(inbox);
        partition.expunge(&ann(), &[1], 3).await.unwrap();
        assert_eq!(partition.notices().await, [8]);
        partition.close().await.unwrap();
        assert!(partition.notices().await.is_empty());
    });
}

#[test]
fn what_is_kept_beside_a_body_is_there_as_long_as_that() {
    let disk = new_disk();
    live(&disk, |partition| async move {
        partition
            .append(&ann(), append(INBOX, vec![message("a")]))
            .await
            .unwrap();
        let sent = partition.mailbox(&ann(), "Sent").unwrap().id;
        partition
            .copy(&ann(), (INBOX, sent), &[1], 5)
            .await
            .unwrap();
        let body = partition.message(&ann(), INBOX, 1).unwrap().body_seq;
        assert_eq!(partition.message(&ann(), sent, 1).unwrap().body_seq, body);
        assert!(partition.cache(body).await.is_none());
        let kept = vec![
            (body, b"envelope".to_vec()),
            (body + 1, b"nothing's".to_vec()),
        ];
        partition.put_caches(kept).await.unwrap();
        assert_eq!(&*partition.cache(body).await.unwrap(), b"envelope");
        partition.expunge(&ann(), &[1], 6).await.unwrap();
        partition.close().await.unwrap();
    });
    let disk = disk.crash(Crash::Process);
    live(&disk, |partition| async move {
        let sent = partition.mailbox(&ann(), "Sent").unwrap().id;
        let body = partition.message(&ann(), sent, 1).unwrap().body_seq;
        assert!(partition.recent_cache(body).is_none());
        assert_eq!(&*partition.cache(body).await.unwrap(), b"envelope");
        assert!(partition.cache(body + 1).await.is_none());
        assert!(partition.recent_cache(body).is_some());
    });
}

#[test]
fn values_end_with_their_account_and_mailbox() {
    live(&new_disk(), |partition| async move {
        let made = partition.create_mailbox(&ann(), "a/b", None).await.unwrap();
        let id = Some(made.id);
        let value = Some(b"lr".to_vec());
        partition
            .put_value(&ann(), id, b"acl/bob", value.clone())
            .await
            .unwrap();
        partition
            .put_value(&ann(), None, b"x", value.clone())
            .await
            .unwrap();
        partition.set_subscribed(&ann(), "a/b", true).await.unwrap();
        assert_eq!(partition.value(&ann(), id, b"acl/bob"), value);
        assert_eq!(partition.subscriptions(&ann()), ["a/b"]);
        assert_eq!(partition.values(&ann(), id, b"acl/").len(), 1);
        partition.delete_mailbox(&ann(), made.id).await.unwrap();
        assert_eq!(partition.subscriptions(&ann()), ["a/b"]);
        let again = partition.create_mailbox(&ann(), "a/b", None).await.unwrap();
        assert_ne!(again.id, made.id);
        assert!(partition.values(&ann(), Some(again.id), b"").is_empty());
        let account = partition.account(&ann()).unwrap();
        partition.remove_account(&ann()).await.unwrap();
        partition.create_account(account).await.unwrap();
        assert!(partition.value(&ann(), None, b"x").is_none());
        assert!(partition.subscriptions(&ann()).is_empty());
        assert!(partition.mailbox(&ann(), "a/b").is_err());
        assert_eq!(partition.mailboxes(&ann()).unwrap().len(), 6);
    });
}

#[test]
fn several_values_are_set_within_bounds_or_none() {
    const MAX: ValuesMax = ValuesMax {
        count: 3,
        bytes: 100,
        account_count: 4,
        account_bytes: 1000,
    };
    let entry = |key: &str, value: Option<&str>| {
        let value = value.map(|value| value.as_bytes().to_vec());
        (key.as_bytes().to_vec(), value)
    };
    let disk = new_disk();
    live(&disk, move |partition| async move {
        let id = Some(INBOX);
        let put = |mailbox, entries| {
            let partition = partition.clone();
            async move {
                let ann = ann();
                let set = partition.put_values(&ann, mailbox, b"m/", entries, MAX);
                set.await
            }
        };
        let (one, two) = (entry("m/a", Some("1")), entry("m/b", Some("2")));
        put(id, vec![one.clone(), two.clone()]).await.unwrap();
        // All or none: the last would be the fourth.
        let (three, four) = (entry("m/c", Some("3")), entry("m/d", Some("4")));
        let first = entry("m/a", Some("x"));
        let refused = put(id, vec![first, three.clone(), four]).await;
        assert!(matches!(refused, Err(StoreError::TooMany(_))));
        let again = entry("m/a", Some("9"));
        put(id, vec![again, three.clone()]).await.unwrap();
        let long = entry("m/a", Some(&"x".repeat(100)));
        assert!(put(id, vec![long]).await.is_err());
        put(id, vec![entry("m/c", None), entry("m/none", None)])
            .await
            .unwrap();
        // The account as a whole has its bound; other values do not count.
        partition
            .put_value(&ann(), None, b"acl", Some(b"x".to_vec()))
            .await
            .unwrap();
        put(None, vec![one, two]).await.unwrap();
        assert!(put(None, vec![three]).await.is_err());
    });
    let disk = disk.crash(Crash::Power);
    live(&disk, |partition| async move {
        let inbox = partition.values(&ann(), Some(INBOX), b"m/");
        let wanted = [("m/a", "9"), ("m/b", "2")];
        assert_eq!(inbox, wanted.map(|(key, value)| (key.into(), value.into())));
        assert_eq!(partition.values(&ann(), None, b"m/").len(), 2);
    });
}

#[test]
fn the_watcher_of_an_account_learns_what_happened() {
    live(&new_disk(), |partition| async move {
        let all = partition.watch(&ann(), None, 8).unwrap();
        let make = |name: &'static str| {
            let partition = partition.clone();
            async move {
                partition
                    .create_mailbox(&ann(), name, None)
                    .await
                    .unwrap()
                    .id
            }
        };
        let a = make("a").await;
        let below = make("a/b").await;
        make("c/d").await;
        make("c/e").await;
        let named = |text: &str| text.to_owned();
        let made = |name: &str| Happening::Made { name: named(name) };
        assert_eq!(
            all.take(),
            Some(vec![made("a"), made("a/b"), made("c/d"), made("c/e")])
        );
        let renamed = |from: &str, to: &str| Happening::Renamed {
            from: named(from),
            to: named(to),
        };
        partition.rename_mailbox(&ann(), "a", "x/y").await.unwrap();
        partition.rename_mailbox(&ann(), "c", "z").await.unwrap();
        // Of a/b nothing is said; there was no mailbox c that could have been renamed.
        assert_eq!(
            all.take(),
            Some(vec![
                renamed("a", "x/y"),
                renamed("c/d", "z/d"),
                renamed("c/e", "z/e")
            ])
        );
        partition.set_subscribed(&ann(), "n", true).await.unwrap();
        partition
            .put_value(&ann(), Some(a), b"k", Some(b"v".to_vec()))
            .await
            .unwrap();
        partition.put_value(&ann(), None, b"k", None).await.unwrap();
        let value = |mailbox| Happening::Value {
            mailbox,
            key: b"k".to_vec(),
        };
        let subscribed = Happening::Subscribed { name: named("n") };
        assert_eq!(
            all.take(),
            Some(vec![subscribed, value(Some(a)), value(None)])
        );
        let appended = append(below, vec![message("1"), message("2")]);
        partition.append(&ann(), appended).await.unwrap();
        let flags = seen(FlagMode::Add);
        partition
            .store_flags(&ann(), below, &[1], &flags)
            .await
            .unwrap();
        partition
            .expunge_from(&ann(), below, &[2], 5)
            .await
            .unwrap();
        let changed = MessagesChanged {
            mailbox: below,
            new: Some((1, 2)),
            gone: true,
            flags: true,
        };
        assert_eq!(all.take(), Some(vec![Happening::Messages(changed)]));
        partition.delete_mailbox(&ann(), below).await.unwrap();
        let removed = Happening::Removed {
            name: named("x/y/b"),
        };
        assert_eq!(all.take(), Some(vec![removed]));
        assert_eq!(partition.notices().await, [8]);
    });
}

#[test]
fn what_is_gathered_is_what_is_read() {
    live(&new_disk(), |partition| async move {
        // Small ones, one that is larger than a span takes whole, and one in a row of its own.
        let sizes = [1, 100, 5000, 40_000, 100_000, 0, 60_000, 4096];
        let bodies: Vec<String> = sizes
            .iter()
            .enumerate()
            .map(|(index, size)| format!("{index}").repeat(*size))
            .collect();
        for body in &bodies {
            partition
                .append(&ann(), append(INBOX, vec![message(body)]))
                .await
                .unwrap();
        }
        // One in a chunk of its own, one in two, one with a rest behind its chunk.
        for (pieces, rest) in [(1, ""), (2, ""), (1, "rest")] {
            let stream = partition.open_stream().unwrap();
            for piece in 0..pieces {
                let bytes = format!("{piece}").repeat(9000).into_bytes();
                partition.append_stream(stream, bytes).await.unwrap();
            }
            let streamed = NewMessage {
                stream: Some(stream),
                ..message(rest)
            };
            let streamed = append(INBOX, vec![streamed]);
            partition.append(&ann(), streamed).await.unwrap();
        }
        let mut seqs = Vec::new();
        for uid in 1..=sizes.len() as Uid {
            seqs.push(partition.message(&ann(), INBOX, uid).unwrap().body_seq);
        }
        let caches = seqs
            .iter()
            .step_by(2)
            .map(|seq| (*seq, seq.to_le_bytes().to_vec()));
        partition.put_caches(caches.collect()).await.unwrap();
        partition.settle().await.unwrap();
        partition
            .expunge_from(&ann(), INBOX, &[2], 0)
            .await
            .unwrap();

        // In any order, some twice, some that are not there.
        let uids = [8, 1, 2, 3, 99, 4, 5, 6, 11, 10, 9, 7, 1];
        let gathered = partition.gather_messages(&ann(), INBOX, uids).await;
        for (place, uid) in uids.into_iter().enumerate() {
            let read = partition
                .read_from(&ann(), INBOX, uid, 0, usize::MAX)
                .await
                .ok();
            match gathered.get(place) {
                Some(bytes) => assert!(Some(bytes) == read.as_deref(), "{uid}"),
                None => assert!([2, 99, 5, 10, 11].contains(&uid), "{uid} was left out"),
            }
        }
        assert!(gathered.get(uids.len()).is_none());
        assert!(gathered.held_bytes() > 100_000 && gathered.held_bytes() < 400_000);

        let asked = seqs
            .iter()
            .map(|seq| Some(*seq))
            .chain([None, Some(u64::MAX)]);
        let gathered = partition.gather_caches(asked).await;
        for (place, seq) in seqs.iter().enumerate() {
            let kept = (place % 2 == 0).then(|| seq.to_le_bytes().to_vec());
            assert_eq!(gathered.get(place), kept.as_deref(), "{place}");
        }
    });
}

fn delivery() -> Delivery {
    Delivery {
        trace: Vec::new(),
        body: b"x".to_vec(),
        stream: None,
        recipients: vec![ann()],
        now_ms: 1,
        once: None,
    }
}

/// All UIDs below this one were given.
async fn reserve_uids(
    partition: &Partition<SimDisk>,
    mailbox: MailboxId,
    uid_next: Uid,
) -> Result<(), StoreError> {
    let level = crate::config::SyncLevel::Fsync;
    let reserved = partition.mutate(100, level, Space::Gives, |this, pending| {
        let known = this.index.borrow().reserved(&ann(), mailbox);
        let reserved = Reserved {
            uid_next,
            ..known.unwrap()
        };
        let change = Pended::Reserve {
            address: ann(),
            mailbox,
            reserved,
        };
        this.add(pending, change, |out, seq| {
            encode::reserve(out, seq, ann().as_str(), mailbox, &reserved);
        });
        Ok(())
    });
    reserved.await
}

#[test]
fn the_last_uid_is_given_once_and_then_none() {
    let last = UID_END - 1;
    let disk = new_disk();
    live(&disk, move |partition| async move {
        let both = append(INBOX, vec![message("a"), message("b")]);
        partition.append(&ann(), both).await.unwrap();
        let sent = partition.mailbox(&ann(), "Sent").unwrap().id;
        for mailbox in [INBOX, sent] {
            // As if so many messages had come and gone.
            let given = reserve_uids(&partition, mailbox, last - 1);
            given.await.unwrap();
        }
        let three = append(sent, vec![message("x"), message("y"), message("z")]);
        let refused = partition.append(&ann(), three).await;
        assert!(matches!(refused, Err(StoreError::NoUid)), "{refused:?}");
        // Neither of the two, and the first one fits on its own.
        let one = append(sent, vec![message("x")]);
        assert_eq!(
            partition.append(&ann(), one).await.unwrap().uids,
            [last - 1]
        );
        let refused = partition.copy(&ann(), (INBOX, sent), &[1, 2], 9).await;
        assert!(matches!(refused, Err(StoreError::NoUid)), "{refused:?}");
        let copied = partition.copy(&ann(), (INBOX, sent), &[2], 9).await;
        assert_eq!(copied.unwrap().pairs, [(2, last)]);
        let deliver = || partition.deliver(delivery());
        let given = [deliver().await, deliver().await, deliver().await];
        let given = given.map(|results| results.unwrap().remove(0));
        assert!(matches!(given[0], Ok(uid) if uid == last - 1), "{given:?}");
        assert!(matches!(given[1], Ok(uid) if uid == last), "{given:?}");
        assert!(matches!(given[2], Err(StoreError::NoUid)), "{given:?}");
    });
    let disk = disk.crash(Crash::Power);
    live(&disk, move |partition| async move {
        let info = partition.mailbox_info(&ann(), INBOX).unwrap();
        assert_eq!((info.exists, info.uid_next), (4, UID_END));
        let view = partition.view(&ann(), INBOX).unwrap();
        assert_eq!(view.runs.last().unwrap().last, last);
        let refused = partition.deliver(delivery()).await.unwrap();
        assert!(matches!(refused[0], Err(StoreError::NoUid)), "{refused:?}");
        // What is there can go elsewhere.
        let drafts = partition.mailbox(&ann(), "Drafts").unwrap().id;
        let moved = partition.move_to(&ann(), (INBOX, drafts), &[last], 9).await;
        assert_eq!(moved.unwrap().pairs, [(last, 1)]);
    });
}
