//! What a partition does with changes while it lives: those made at once, those made twice, those
//! that come in pieces.

use std::future::poll_fn;
use std::task::Poll;

use super::*;
use crate::store::AccountChange;

#[test]
fn changes_of_one_account_made_at_once_are_all_kept() {
    let disk = new_disk(7);
    live(&disk, 7, settings(), |partition, _| async move {
        partition.create_account(account("ann")).await.unwrap();
        let ann = address("ann");
        for round in 1..=20 {
            let change = |password: Option<u64>, quota| {
                let password_hash = password.map(|number| format!("hash{number}"));
                let (partition, ann) = (partition.clone(), ann.clone());
                Box::pin(async move {
                    let change = AccountChange {
                        password_hash,
                        quota_bytes: quota,
                    };
                    partition.update_account(&ann, change).await
                })
            };
            // Asked for, and then nobody waits for it.
            let mut forgotten = change(None, Some(round));
            poll_fn(|context| {
                let _ = forgotten.as_mut().poll(context);
                Poll::Ready(())
            })
            .await;
            drop(forgotten);
            // Both are asked for before any is durable.
            let mut waiting = [change(Some(round), None), change(None, None)];
            let mut done = [false; 2];
            poll_fn(|context| {
                for (future, done) in waiting.iter_mut().zip(&mut done) {
                    if !*done && let Poll::Ready(changed) = future.as_mut().poll(context) {
                        changed.unwrap();
                        *done = true;
                    }
                }
                match done {
                    [true, true] => Poll::Ready(()),
                    _ => Poll::Pending,
                }
            })
            .await;
            let found = partition.account(&ann).unwrap();
            let wanted = (format!("hash{round}"), round);
            assert_eq!((found.password_hash, found.quota_bytes), wanted);
        }
        let bob = address("bob");
        let nobody = partition.update_account(&bob, AccountChange::default());
        assert!(matches!(nobody.await, Err(StoreError::Missing)));
    });
}

#[test]
fn a_change_does_not_reach_an_account_that_was_made_again_meanwhile() {
    for seed in 0..100 {
        let disk = new_disk(seed);
        live(&disk, seed, settings(), |partition, _| async move {
            for name in ["ann", "bob"] {
                partition.create_account(account(name)).await.unwrap();
            }
            let ann = address("ann");
            let (validity, _) = partition.inbox(&ann).unwrap();
            // In flight, so that the change waits; the end of the account and the new one come next.
            let mut delivery = Box::pin(partition.deliver(delivery(&["bob"], b"text")));
            let mut change = Box::pin(partition.update_account(
                &ann,
                AccountChange {
                    password_hash: None,
                    quota_bytes: Some(77),
                },
            ));
            let mut removal = Box::pin(partition.remove_account(&ann));
            let new = Account {
                password_hash: "new".to_owned(),
                ..account("ann")
            };
            let mut creation = Box::pin(partition.create_account(new));
            let mut turn = 0;
            let mut changed = None;
            let mut done = [false; 3];
            poll_fn(|context| {
                turn += 1;
                if !done[0] {
                    done[0] = delivery.as_mut().poll(context).is_ready();
                }
                // The change waits for that delivery first; the others come in between.
                if turn > 1 && !done[1] {
                    done[1] = removal.as_mut().poll(context).is_ready();
                }
                if turn > 1 && !done[2] {
                    done[2] = creation.as_mut().poll(context).is_ready();
                }
                if changed.is_none()
                    && let Poll::Ready(result) = change.as_mut().poll(context)
                {
                    changed = Some(result);
                }
                if turn == 1 {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if done == [true; 3] && changed.is_some() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            // It reached the first account, or none, or the second one as it is by then.
            let (again, _) = partition.inbox(&ann).unwrap();
            assert!(again > validity, "{again} after {validity}");
            assert_eq!(partition.account(&ann).unwrap().password_hash, "new");
        });
    }
}

#[test]
fn many_deliver_at_once_and_share_batches() {
    let disk = new_disk(5);
    let executor = Executor::new();
    let spawner = executor.clone();
    let own = disk.clone();
    let finished: Rc<RefCell<Vec<Uid>>> = Rc::default();
    let told = finished.clone();
    executor.spawn(async move {
        let opened = Partition::open(own, &dir(), IDENTITY, settings(), 0, |_| ()).await;
        let (partition, _) = opened.unwrap();
        spawner.spawn(partition.clone().run());
        spawner.spawn(partition.clone().background(|| 0));
        partition.create_account(account("ann")).await.unwrap();
        for _ in 0..200 {
            let (partition, told) = (partition.clone(), told.clone());
            spawner.spawn(async move {
                let results = partition.deliver(delivery(&["ann"], &[b'x'; 2000])).await;
                told.borrow_mut().push(results.unwrap().remove(0).unwrap());
                if told.borrow().len() == 200 {
                    let batches = partition.probe().batches.get();
                    assert!((3..100).contains(&batches), "{batches} batches");
                    assert_eq!(partition.probe().queued.get(), 0);
                }
            });
        }
    });
    executor.run(&mut Random::new(7), 1_000_000, || false);
    let mut uids = finished.take();
    uids.sort_unstable();
    assert_eq!(uids, (1..=200).collect::<Vec<Uid>>());
}

#[test]
fn a_repeated_delivery_changes_nothing() {
    let disk = new_disk(6);
    live(&disk, 6, settings(), |partition, _| async move {
        partition.create_account(account("ann")).await.unwrap();
        let once = || Delivery {
            once: Some(b"mark".to_vec()),
            ..delivery(&["ann"], b"text")
        };
        let first = partition.deliver(once()).await.unwrap();
        assert!(matches!(first[..], [Ok(1)]));
        let second = partition.deliver(once()).await.unwrap();
        assert!(matches!(second[..], [Ok(0)]));
        assert_eq!(all(&partition, "ann").await.len(), 1);
    });
}

#[test]
fn a_streamed_body_is_one_message() {
    let disk = new_disk(7);
    let piece = |byte: u8, bytes: usize| vec![byte; bytes];
    let mut expected = stored(b"");
    for byte in 0..5u8 {
        expected.extend_from_slice(&piece(b'a' + byte, 100_000));
    }
    expected.extend_from_slice(b"the end");
    let wanted = expected.clone();
    live(&disk, 7, settings(), move |partition, _| async move {
        partition.create_account(account("ann")).await.unwrap();
        let aborted = partition.open_stream().unwrap();
        partition
            .append_stream(aborted, piece(b'z', 100_000))
            .await
            .unwrap();
        partition.abort_stream(aborted);
        let stream = partition.open_stream().unwrap();
        for byte in 0..5u8 {
            let bytes = piece(b'a' + byte, 100_000);
            partition.append_stream(stream, bytes).await.unwrap();
        }
        let delivery = Delivery {
            stream: Some(stream),
            ..delivery(&["ann"], b"the end")
        };
        let results = partition.deliver(delivery).await.unwrap();
        assert!(matches!(results[..], [Ok(1)]));
        assert!(all(&partition, "ann").await == [(1, wanted)]);
    });
    let disk = disk.crash(Crash::Power);
    live(&disk, 8, settings(), move |partition, report| async move {
        let found = all(&partition, "ann").await;
        assert!(found == [(1, expected.clone())], "{report:?}");
        for (offset, length) in [(0, 30), (10, 100_000), (99_999, 250_000), (500_010, 100)] {
            let read = partition
                .read(&address("ann"), 1, offset, length)
                .await
                .unwrap();
            let from = offset as usize;
            let to = (from + length).min(expected.len());
            assert!(read == expected[from..to], "{offset} {length}");
        }
    });
}
