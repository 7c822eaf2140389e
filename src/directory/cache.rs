//! Remembers for a while which password was right for an account [N37], so that a client that checks
//! its mail every few minutes does not cost an Argon2 each time.
//!
//! Guarantees: no entry outlives its time or a change of the stored hash; at most `accounts_max` of
//! them. One shard's own, never shared, never on disk.
//! Does not know: how a password is really checked.
//!
//! What is kept is SipHash-2-4 with 128 bits, under a random key that only this process has, over
//! password and stored hash. Without the key it tells nothing. Who can read the key out of the
//! process' memory could read the passwords as they come in, too. The stored hash is part of it, so
//! an entry is void the moment the password changes, even before [`AuthCache::invalidate`].

use std::hash::Hasher;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::mail::Address;

/// Verified passwords of one shard.
pub struct AuthCache {
    ttl: Duration,
    accounts_max: usize,
    key: [u8; 16],
    index: FxHashMap<Address, usize>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    /// Where the search for an entry to give up goes on (the clock algorithm).
    hand: usize,
}

struct Slot {
    account: Address,
    digest: u128,
    expires: Instant,
    /// Used since the hand last passed.
    used: bool,
}

impl AuthCache {
    /// An empty cache. Entries live for `ttl`; a `ttl` or `accounts_max` of 0 keeps none. The `key`
    /// comes from [`AuthCache::random_key`].
    pub fn new(ttl: Duration, accounts_max: usize, key: [u8; 16]) -> AuthCache {
        AuthCache {
            ttl,
            accounts_max: if ttl.is_zero() { 0 } else { accounts_max },
            key,
            index: FxHashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            hand: 0,
        }
    }

    /// A fresh key.
    ///
    /// # Errors
    /// When the kernel has no randomness.
    pub fn random_key() -> Result<[u8; 16], getrandom::Error> {
        let mut key = [0; 16];
        getrandom::fill(&mut key)?;
        Ok(key)
    }

    /// This password was right for this account and this stored hash not long ago. `false` says
    /// nothing: check it.
    pub fn knows(
        &mut self,
        account: &Address,
        stored_hash: &str,
        password: &[u8],
        now: Instant,
    ) -> bool {
        let digest = self.digest(stored_hash, password);
        let Some(&index) = self.index.get(account) else {
            return false;
        };
        let Some(slot) = self.slots[index].as_mut() else {
            return false;
        };
        if slot.expires <= now {
            self.invalidate(account);
            return false;
        }
        let same = slot.digest == digest;
        slot.used |= same;
        same
    }

    /// Remembers that this password is right for this account and this stored hash.
    pub fn insert(&mut self, account: &Address, stored_hash: &str, password: &[u8], now: Instant) {
        if self.accounts_max == 0 {
            return;
        }
        let slot = Slot {
            account: account.clone(),
            digest: self.digest(stored_hash, password),
            expires: now + self.ttl,
            used: false,
        };
        let index = match self.index.get(account) {
            Some(&index) => index,
            None => self.place(now),
        };
        self.index.insert(account.clone(), index);
        self.slots[index] = Some(slot);
    }

    /// Forgets an account: its password changed or it is gone.
    pub fn invalidate(&mut self, account: &Address) {
        if let Some(index) = self.index.remove(account) {
            self.slots[index] = None;
            self.free.push(index);
        }
    }

    /// Accounts remembered now, expired ones among them until they are met.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// A slot to fill: a free one, a new one, or that of an entry that is given up.
    fn place(&mut self, now: Instant) -> usize {
        if let Some(index) = self.free.pop() {
            return index;
        }
        if self.slots.len() < self.accounts_max {
            self.slots.push(None);
            return self.slots.len() - 1;
        }
        // No slot is free, so all are filled; the second round at the latest finds one unused.
        loop {
            let index = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            match &mut self.slots[index] {
                Some(slot) if slot.used && slot.expires > now => slot.used = false,
                Some(slot) => {
                    self.index.remove(&slot.account);
                    return index;
                }
                None => return index,
            }
        }
    }

    fn digest(&self, stored_hash: &str, password: &[u8]) -> u128 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        // With the length in front, no other pair of password and hash has the same bytes.
        hasher.write_usize(password.len());
        hasher.write(password);
        hasher.write(stored_hash.as_bytes());
        hasher.finish128().as_u128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).expect(text)
    }

    fn cache(accounts_max: usize) -> (AuthCache, Instant) {
        let cache = AuthCache::new(Duration::from_secs(900), accounts_max, [7; 16]);
        (cache, Instant::now())
    }

    #[test]
    fn knows_what_was_right_until_its_time() {
        let (mut cache, now) = cache(10);
        let a = address("a@example.org");
        assert!(!cache.knows(&a, "hash", b"pw", now));
        cache.insert(&a, "hash", b"pw", now);
        assert!(cache.knows(&a, "hash", b"pw", now));
        assert!(!cache.knows(&a, "hash", b"other", now));
        assert!(!cache.knows(&address("b@example.org"), "hash", b"pw", now));
        assert!(cache.knows(&a, "hash", b"pw", now + Duration::from_secs(899)));
        assert!(!cache.knows(&a, "hash", b"pw", now + Duration::from_secs(900)));
        assert!(cache.is_empty());
    }

    #[test]
    fn a_password_change_ends_an_entry() {
        let (mut cache, now) = cache(10);
        let a = address("a@example.org");
        cache.insert(&a, "old hash", b"pw", now);
        assert!(
            !cache.knows(&a, "new hash", b"pw", now),
            "even if nobody said so"
        );
        assert!(cache.knows(&a, "old hash", b"pw", now));
        cache.invalidate(&a);
        assert!(!cache.knows(&a, "old hash", b"pw", now));
    }

    #[test]
    fn password_and_hash_do_not_run_together() {
        let (mut cache, now) = cache(10);
        let a = address("a@example.org");
        cache.insert(&a, "bc", b"a", now);
        assert!(!cache.knows(&a, "c", b"ab", now));
    }

    #[test]
    fn keeps_to_its_bound_and_gives_up_what_is_unused() {
        let (mut cache, now) = cache(3);
        let names: Vec<Address> = (0..5).map(|n| address(&format!("u{n}@x.test"))).collect();
        for name in &names[..3] {
            cache.insert(name, "h", b"pw", now);
        }
        assert!(cache.knows(&names[0], "h", b"pw", now));
        cache.insert(&names[3], "h", b"pw", now);
        cache.insert(&names[4], "h", b"pw", now);
        assert_eq!(cache.len(), 3);
        assert!(cache.knows(&names[0], "h", b"pw", now), "used ones stay");
        assert!(!cache.knows(&names[1], "h", b"pw", now));
        assert!(!cache.knows(&names[2], "h", b"pw", now));
    }

    #[test]
    fn can_be_switched_off() {
        for (ttl, size) in [(0, 10), (900, 0)] {
            let mut cache = AuthCache::new(Duration::from_secs(ttl), size, [0; 16]);
            let now = Instant::now();
            cache.insert(&address("a@x.test"), "h", b"pw", now);
            assert!(!cache.knows(&address("a@x.test"), "h", b"pw", now));
        }
    }

    proptest::proptest! {
        /// Whatever happens, it is never larger than its bound, and never right about what a plain
        /// model calls wrong.
        #[test]
        fn agrees_with_a_model(steps in proptest::collection::vec((0_u8..4, 0_u8..6, 0_u8..3), 0..200)) {
            let (mut cache, start) = cache(4);
            let mut model = std::collections::HashMap::new();
            let mut now = start;
            for (step, name, password) in steps {
                let account = address(&format!("u{name}@x.test"));
                match step {
                    0 => {
                        cache.insert(&account, "h", &[password], now);
                        model.insert(name, (password, now + Duration::from_secs(900)));
                    }
                    1 => {
                        let known = cache.knows(&account, "h", &[password], now);
                        let right = model.get(&name).is_some_and(|(p, e)| *p == password && *e > now);
                        proptest::prop_assert!(right || !known);
                    }
                    2 => {
                        cache.invalidate(&account);
                        model.remove(&name);
                    }
                    _ => now += Duration::from_secs(u64::from(password) * 200),
                }
                proptest::prop_assert!(cache.len() <= 4);
            }
        }
    }
}
