//! The fuzz targets of `tests/fuzz`, driven by seeds instead of coverage, so that a plain
//! `cargo test` runs them. A failure names its seed; `SEED=n` runs that one alone.

#[path = "fuzz/src/address.rs"]
mod address;
#[path = "fuzz/src/http_session.rs"]
mod http_session;
#[path = "fuzz/src/imap_session.rs"]
mod imap_session;
#[path = "fuzz/src/imap_world.rs"]
mod imap_world;
#[path = "fuzz/src/mime.rs"]
mod mime;
#[path = "fuzz/src/pop3_session.rs"]
mod pop3_session;
#[path = "fuzz/src/shard.rs"]
mod shard;
#[path = "fuzz/src/smtp_session.rs"]
mod smtp_session;

/// SplitMix64: small, and good enough to make noise with.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Words in a row, now and then broken by noise.
fn input(random: &mut Random, words: &[&[u8]]) -> Vec<u8> {
    let mut data = random.next().to_le_bytes()[..4].to_vec();
    for _ in 0..random.below(30) {
        match random.below(12) {
            0 => data.extend_from_slice(&random.next().to_le_bytes()),
            1 => data.extend(vec![b'a'; random.below(9000)]),
            _ => data.extend_from_slice(words[random.below(words.len())]),
        }
    }
    data
}

fn drive(target: fn(&[u8]), words: &[&[u8]], seeds: u64) {
    let one = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    for seed in one.map_or(0..seeds, |seed: u64| seed..seed + 1) {
        let data = input(&mut Random(seed), words);
        let result = std::panic::catch_unwind(|| target(&data));
        assert!(result.is_ok(), "SEED={seed} fails: {}", data.escape_ascii());
    }
}

#[test]
fn pop3() {
    drive(pop3_session::pop3_session, pop3_session::WORDS, 3_000);
}

#[test]
fn imap() {
    drive(imap_session::imap_session, imap_session::WORDS, 4_000);
}

#[test]
fn http() {
    drive(http_session::http_session, http_session::WORDS, 3_000);
}

#[test]
fn smtp() {
    drive(smtp_session::smtp_session, smtp_session::WORDS, 6_000);
}

#[test]
fn address() {
    drive(address::address, address::WORDS, 20_000);
}

#[test]
fn messages() {
    drive(mime::mime, mime::WORDS, 10_000);
}
