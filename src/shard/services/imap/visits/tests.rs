//! Which desks at others are given up.

use super::*;

fn account(number: usize) -> Address {
    Address::parse(&format!("u{number}@x.test")).expect("an address")
}

/// Accounts that were watched are let go when they are not any more; what is open, or on its way,
/// stays.
#[test]
fn what_is_in_use_stays() {
    let count = 3 * IMAP_VISITS_MAX;
    let mut visits = Visits::default();
    for number in 0..count {
        let guest = ConnKey::of_guest(number as u64);
        assert!(visits.note(&account(number), 0, Some(guest)).is_empty());
        for stay in &mut visits.stays {
            stay.watched = true;
        }
    }
    visits.open = Some((account(0), "INBOX".to_owned()));
    visits.streaming = Some(account(1));
    visits.source = Some(account(2));
    for stay in &mut visits.stays {
        stay.watched = false;
    }
    let gone = visits.surplus(&account(3));
    assert_eq!(gone.len(), count - IMAP_VISITS_MAX);
    assert_eq!(gone[0].account, account(4));
    let stays: Vec<&Address> = visits.stays.iter().map(|stay| &stay.account).collect();
    assert_eq!(stays.len(), IMAP_VISITS_MAX);
    for number in (0..4).chain([count - 1]) {
        assert!(stays.contains(&&account(number)), "{number}");
    }
    // Another desk at the same account is another stay.
    let last = count - 1;
    visits.note(&account(last), 0, Some(ConnKey::of_guest(99)));
    let stay = visits.forget(&account(last)).expect("it is there");
    assert_eq!(stay.guest, ConnKey::of_guest(99));
    assert!(visits.note(&account(0), 0, None).is_empty());
    assert_eq!(visits.stays.len(), IMAP_VISITS_MAX - 2);
}
