//! What is asked for while something else waits, step by step or too large for its batch.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use super::*;
use crate::limits::BATCH_BYTES_MAX;
use crate::store::AccountChange;
use crate::store::commit::Pending;
use crate::store::sim::{Operation, yield_now};

/// Asks for both at once, for `a` first.
async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    poll_fn(move |context| {
        if of_a.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(context)
        {
            of_a = Some(value);
        }
        if of_b.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(context)
        {
            of_b = Some(value);
        }
        if of_a.is_none() || of_b.is_none() {
            return Poll::Pending;
        }
        Poll::Ready(of_a.take().zip(of_b.take()).unwrap())
    })
    .await
}

/// Lets it run until it waits; it must.
async fn begin<F: Future>(mut future: Pin<&mut F>) {
    let is_ready = poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await;
    assert!(!is_ready, "there is nothing that it waits for");
}

/// Waits until a batch is in flight, and nothing behind it.
async fn in_flight(partition: &Partition<SimDisk>) {
    while partition.in_flight.borrow().is_none() || partition.pending.borrow().records > 0 {
        yield_now().await;
    }
}

/// As many keywords as a mailbox has, as long as they can be.
fn longest_keywords() -> Vec<String> {
    let word = |n| format!("{n:0width$}", width = KEYWORD_BYTES_MAX);
    (0..KEYWORDS_MAX).map(word).collect()
}

#[test]
fn copies_fit_into_batches_whatever_keywords_are_on_their_way() {
    let disk = new_disk();
    live(&disk, |partition| async move {
        let messages = (0..300).map(|n| message(&format!("{n}"))).collect();
        let appended = partition.append(&ann(), append(INBOX, messages)).await;
        let uids = appended.unwrap().uids;
        let archive = partition.mailbox(&ann(), "Archive").unwrap().id;
        let marked = FlagChange {
            keywords: longest_keywords(),
            ..seen(FlagMode::Add)
        };
        let address = ann();
        let (stored, copied) = both(
            partition.store_flags(&address, INBOX, &uids, &marked),
            partition.copy(&address, (INBOX, archive), &uids, 3),
        )
        .await;
        assert_eq!(stored.unwrap().changed.len(), 300);
        assert_eq!(copied.unwrap().pairs.len(), 300);
    });
    let disk = disk.crash(Crash::Power);
    live(&disk, |partition| async move {
        let archive = partition.mailbox(&ann(), "Archive").unwrap();
        assert_eq!((archive.exists, archive.unseen), (300, 0));
        let last = partition.message(&ann(), archive.id, 300).unwrap();
        assert_eq!(last.keywords, u64::MAX);
    });
}

#[test]
fn what_no_start_would_read_is_not_acknowledged() {
    let disk = new_disk();
    live(&disk, |partition| async move {
        partition.put(b"one".to_vec(), Some(vec![1])).await.unwrap();
        let mut batch = Pending::new();
        let (key, value) = (b"two".to_vec(), Some(vec![2; BATCH_BYTES_MAX]));
        let (seq, offset) = (partition.next_seq(), batch.bytes.len());
        encode::key(&mut batch.bytes, seq, &key, value.as_deref());
        batch.push(seq, offset, Pended::Key { key, value });
        let refused = partition.commit(&mut batch).await;
        assert!(
            matches!(refused, Err(StoreError::ReadOnly(_))),
            "{refused:?}"
        );
        let after = partition.put(b"one".to_vec(), None).await;
        assert!(matches!(after, Err(StoreError::ReadOnly(_))), "{after:?}");
    });
    let disk = disk.crash(Crash::Power);
    live(&disk, |partition| async move {
        assert_eq!(partition.get(b"one"), Some(vec![1]));
        assert_eq!(partition.get(b"two"), None);
    });
}

/// Every second change finds what it wants on its way, and must not say so before it is durable.
#[test]
fn what_changes_nothing_is_answered_when_it_is_durable() {
    live(&new_disk(), |partition| async move {
        let (partition, address) = (&partition, &ann());
        let messages = (1..=6).map(|n| message(&format!("{n}"))).collect();
        let all = append(INBOX, messages);
        partition.append(address, all).await.unwrap();
        let archive = partition.mailbox(address, "Archive").unwrap().id;
        let find = |uid| partition.message(address, INBOX, uid);

        let stored = seen(FlagMode::Add);
        let again = async {
            let again = partition.store_flags(address, INBOX, &[1], &stored).await;
            assert!(find(1).unwrap().flags.has(Flags::SEEN), "{again:?}");
            assert_eq!(again.unwrap(), Stored::default());
        };
        let one = partition.store_flags(address, INBOX, &[1], &stored);
        both(one, again).await.0.unwrap();

        let since = find(2).unwrap().modseq;
        let condition = FlagChange {
            unchanged_since: Some(since),
            ..seen(FlagMode::Replace)
        };
        let again = async {
            let again = partition.store_flags(address, INBOX, &[2], &condition);
            assert_eq!(again.await.unwrap().modified, [2]);
            assert!(find(2).unwrap().modseq > since);
        };
        let one = partition.store_flags(address, INBOX, &[2], &condition);
        both(one, again).await.0.unwrap();

        let again = async {
            let again = partition.copy(address, (INBOX, archive), &[3], 5).await;
            assert!(find(3).is_err(), "{again:?}");
            assert!(again.unwrap().pairs.is_empty());
        };
        both(partition.expunge(address, &[3], 5), again)
            .await
            .0
            .unwrap();

        let again = async {
            let again = partition.move_to(address, (INBOX, archive), &[4], 5).await;
            assert!(find(4).is_err(), "{again:?}");
            assert!(again.unwrap().pairs.is_empty());
        };
        let one = partition.move_to(address, (INBOX, archive), &[4], 5);
        both(one, again).await.0.unwrap();

        let mut replacing = append(INBOX, vec![message("new")]);
        replacing.replaces = Some((INBOX, 5));
        let again = async {
            let again = partition.append(address, replacing).await;
            assert!(find(5).is_err(), "{again:?}");
            assert!(matches!(again, Err(StoreError::Missing)), "{again:?}");
        };
        both(partition.expunge(address, &[5], 5), again)
            .await
            .0
            .unwrap();

        let bob = Account {
            address: Address::parse("bob@example.org").unwrap(),
            ..partition.account(address).unwrap()
        };
        let again = async {
            let again = partition.create_account(bob.clone()).await;
            assert!(partition.has_account(&bob.address), "{again:?}");
            assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
        };
        both(partition.create_account(bob.clone()), again)
            .await
            .0
            .unwrap();

        let again = async {
            let again = partition.set_subscribed(address, "x", true).await;
            assert_eq!(partition.subscriptions(address), ["x"], "{again:?}");
        };
        both(partition.set_subscribed(address, "x", true), again)
            .await
            .0
            .unwrap();
    });
}

/// Those who expunge have looked at flags before, and somebody may have been faster since.
#[test]
fn what_is_undeleted_meanwhile_stays() {
    let disk = new_disk();
    live(&disk, |partition| async move {
        let (partition, address) = (&partition, &ann());
        let messages = (1..=4).map(|n| message(&format!("{n}"))).collect();
        let all = append(INBOX, messages);
        partition.append(address, all).await.unwrap();
        let deleted = |mode| FlagChange {
            flags: Flags::DELETED,
            ..seen(mode)
        };
        let (add, remove) = (deleted(FlagMode::Add), deleted(FlagMode::Remove));
        let stored = partition.store_flags(address, INBOX, &[1, 2, 3], &add);
        assert_eq!(stored.await.unwrap().changed, [1, 2, 3]);

        let undeleted = partition.store_flags(address, INBOX, &[2], &remove);
        let expunged = partition.expunge_deleted(address, INBOX, &[1, 2, 4], 5);
        let (undeleted, expunged) = both(undeleted, expunged).await;
        assert_eq!(undeleted.unwrap().changed, [2]);
        assert!(expunged.unwrap().is_some());
        let find = |uid| partition.message(address, INBOX, uid);
        assert!(matches!(find(1), Err(StoreError::Missing)));
        assert!(!find(2).unwrap().flags.has(Flags::DELETED));
        assert!(find(3).unwrap().flags.has(Flags::DELETED));
        assert!(find(4).is_ok());

        // That nothing goes is said when what keeps it is durable.
        let undeleted = partition.store_flags(address, INBOX, &[3], &remove);
        let expunged = async {
            let expunged = partition.expunge_deleted(address, INBOX, &[3], 5).await;
            assert!(!find(3).unwrap().flags.has(Flags::DELETED));
            expunged
        };
        let (undeleted, expunged) = both(undeleted, expunged).await;
        assert_eq!(undeleted.unwrap().changed, [3]);
        assert_eq!(expunged.unwrap(), None);

        // And what is deleted meanwhile goes.
        let marked = partition.store_flags(address, INBOX, &[4], &add);
        let expunged = partition.expunge_deleted(address, INBOX, &[4], 5);
        let (marked, expunged) = both(marked, expunged).await;
        assert!(marked.unwrap().modseq < expunged.unwrap());
        assert!(find(4).is_err());
    });
    let disk = disk.crash(Crash::Power);
    live(&disk, |partition| async move {
        assert_eq!(partition.mailbox_info(&ann(), INBOX).unwrap().exists, 2);
    });
}

#[test]
fn what_rests_on_a_batch_fails_with_it() {
    let disk = new_disk();
    let own = disk.clone();
    live(&disk, |partition| async move {
        let messages = (1..=3).map(|n| message(&format!("{n}"))).collect();
        let all = append(INBOX, messages);
        partition.append(&ann(), all).await.unwrap();
        let archive = partition.mailbox(&ann(), "Archive").unwrap().id;
        let (address, stored) = (ann(), seen(FlagMode::Add));
        // What is made on the word of a batch in flight says so, and nothing else does.
        let mut expunge = pin!(partition.expunge(&address, &[1], 5));
        begin(expunge.as_mut()).await;
        in_flight(&partition).await;
        let mut nothing = pin!(partition.copy(&address, (INBOX, archive), &[1], 5));
        begin(nothing.as_mut()).await;
        assert!(!partition.pending.borrow().builds_on_flight);
        let mut other = pin!(partition.store_flags(&address, INBOX, &[2], &stored));
        begin(other.as_mut()).await;
        assert!(!partition.pending.borrow().builds_on_flight);
        let mut copy = pin!(partition.copy(&address, (INBOX, archive), &[1, 3], 5));
        begin(copy.as_mut()).await;
        assert!(partition.pending.borrow().builds_on_flight);
        expunge.await.unwrap();
        assert!(nothing.await.unwrap().pairs.is_empty());
        assert_eq!(other.await.unwrap().changed, [2]);
        assert_eq!(copy.await.unwrap().pairs, [(3, 1)]);
        // And so does the answer that nothing is to be done.
        own.fail_at(Operation::Write, 0);
        let (one, again) = both(
            partition.store_flags(&address, INBOX, &[3], &stored),
            partition.store_flags(&address, INBOX, &[3], &stored),
        )
        .await;
        assert!(matches!(one, Err(StoreError::ReadOnly(_))), "{one:?}");
        assert!(matches!(again, Err(StoreError::ReadOnly(_))), "{again:?}");
    });
}

#[test]
fn an_account_made_anew_under_steady_deliveries_is_used() {
    live(&new_disk(), |partition| async move {
        let (address, account) = (ann(), partition.account(&ann()).unwrap());
        let deliver = || {
            partition.deliver(Delivery {
                trace: Vec::new(),
                body: b"x".to_vec(),
                stream: None,
                recipients: vec![ann()],
                now_ms: 1,
                once: None,
            })
        };
        let mut earlier = pin!(deliver());
        begin(earlier.as_mut()).await;
        in_flight(&partition).await;
        let mut remove = pin!(partition.remove_account(&address));
        let mut create = pin!(partition.create_account(account.clone()));
        begin(remove.as_mut()).await;
        begin(create.as_mut()).await;
        earlier.await.unwrap();
        in_flight(&partition).await;
        let mut later = pin!(deliver());
        begin(later.as_mut()).await;
        create.await.unwrap();
        assert!(partition.in_flight.borrow().is_some());
        let expunged = partition.expunge(&address, &[1], 5).await;
        assert!(expunged.is_ok(), "{expunged:?}");
        assert!(later.await.unwrap()[0].is_ok());
        remove.await.unwrap();
        // One that is made while the end of the other is in flight comes only if that does.
        let mut remove = pin!(partition.remove_account(&address));
        begin(remove.as_mut()).await;
        in_flight(&partition).await;
        let mut create = pin!(partition.create_account(account.clone()));
        begin(create.as_mut()).await;
        assert!(partition.pending.borrow().builds_on_flight);
        remove.await.unwrap();
        create.await.unwrap();
        assert!(partition.has_account(&address));
    });
}

#[test]
fn a_copy_in_several_steps_is_whole_or_undone() {
    live(&new_disk(), |partition| async move {
        let messages = (0..5000).map(|_| message("x")).collect();
        let appended = partition.append(&ann(), append(INBOX, messages)).await;
        let uids = appended.unwrap().uids;
        let ids = ["Archive", "Sent"].map(|name| partition.mailbox(&ann(), name).unwrap().id);
        let [archive, sent] = ids;
        // What the last one needs is known before the first is copied.
        let with = |keywords: Vec<String>| FlagChange {
            keywords,
            ..seen(FlagMode::Add)
        };
        let one = NewMessage {
            keywords: longest_keywords(),
            ..message("y")
        };
        let many = append(archive, vec![one]);
        partition.append(&ann(), many).await.unwrap();
        let other = with(vec!["other".to_owned()]);
        let stored = partition.store_flags(&ann(), INBOX, &[5000], &other).await;
        stored.unwrap();
        let refused = partition.copy(&ann(), (INBOX, archive), &uids, 3).await;
        assert!(
            matches!(refused, Err(StoreError::TooMany(_))),
            "{refused:?}"
        );
        let info = partition.mailbox_info(&ann(), archive).unwrap();
        assert_eq!((info.exists, info.uid_next), (1, 2));
        let refused = partition.move_to(&ann(), (INBOX, archive), &uids, 3).await;
        assert!(
            matches!(refused, Err(StoreError::TooMany(_))),
            "{refused:?}"
        );
        assert_eq!(partition.mailbox_info(&ann(), INBOX).unwrap().exists, 5000);
        // What comes between two steps takes the room of the second.
        let quota = AccountChange {
            quota_bytes: Some(10_001),
            ..AccountChange::default()
        };
        partition.update_account(&ann(), quota).await.unwrap();
        let large = append(INBOX, vec![message(&"z".repeat(500))]);
        let address = ann();
        let (copied, appended) = both(partition.copy(&address, (INBOX, sent), &uids, 3), async {
            yield_now().await;
            partition.append(&address, large).await
        })
        .await;
        assert!(matches!(copied, Err(StoreError::OverQuota)), "{copied:?}");
        assert_eq!(appended.unwrap().uids, [5001]);
        let info = partition.mailbox_info(&ann(), sent).unwrap();
        assert_eq!((info.exists, info.bytes), (0, 0));
        assert!(info.uid_next > 4000, "{info:?}");
        assert_eq!(partition.used_bytes(&ann()), 5501);
    });
}
