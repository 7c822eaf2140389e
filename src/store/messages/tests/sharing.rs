//! Access lists and small values, where one change meets another that is on its way.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use super::*;
use crate::store::AccessEntry;

/// Lets a change get into the batch, and does not wait for it.
async fn begin<T>(change: impl Future<Output = T>) {
    let mut change = pin!(change);
    poll_fn(|context| {
        assert!(change.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
}

#[test]
fn an_entry_is_forgotten_as_long_as_it_is_about_the_same_holder() {
    live(&new_disk(), |partition| async move {
        let owner = ann();
        let list = || partition.access_list(&owner, INBOX);
        for (whom, holder) in [("bob@x.test", Some(1)), ("eve@x.test", Some(2))] {
            let change = partition.change_access(&owner, INBOX, (whom, holder), |_| 5);
            assert_eq!(change.await.unwrap(), 5);
        }
        let old = list();
        // Another account has got the first name, and rights of its own.
        let change = partition.change_access(&owner, INBOX, ("bob@x.test", Some(7)), |before| {
            assert_eq!(before, 0, "those of the account before");
            9
        });
        change.await.unwrap();
        partition.forget_access(&ann(), INBOX, old).await.unwrap();
        let left = AccessEntry {
            whom: "bob@x.test".to_owned(),
            rights: 9,
            holder: Some(7),
        };
        let own = list();
        assert_eq!(own, [left]);
        partition.forget_access(&ann(), INBOX, own).await.unwrap();
        assert_eq!(list(), []);
    });
}

#[test]
fn what_is_taken_back_at_once_does_not_come_later() {
    live(&new_disk(), |partition| async move {
        begin(partition.set_administrator(&ann(), true)).await;
        partition.set_administrator(&ann(), false).await.unwrap();
        partition.settle().await.unwrap();
        assert!(!partition.is_administrator(&ann()));
        let bob = Address::parse("bob@x.test").unwrap();
        begin(partition.set_let_in_by(&ann(), &bob, true)).await;
        partition.set_let_in_by(&ann(), &bob, false).await.unwrap();
        partition.settle().await.unwrap();
        assert_eq!(partition.let_in_by(&ann()), []);
    });
}

#[test]
fn bounds_of_values_count_those_that_nobody_waits_for() {
    live(&new_disk(), |partition| async move {
        let max = ValuesMax {
            count: 1,
            bytes: 100,
            account_count: 1,
            account_bytes: 100,
        };
        let put = |key: &[u8]| {
            let entries = vec![(key.to_vec(), Some(vec![1]))];
            let (partition, key) = (partition.clone(), ann());
            async move { partition.put_values(&key, None, b"", entries, max).await }
        };
        begin(put(b"a")).await;
        let refused = put(b"b").await;
        assert!(
            matches!(refused, Err(StoreError::TooMany(_))),
            "{refused:?}"
        );
        assert_eq!(partition.values(&ann(), None, b"").len(), 1);
    });
}
