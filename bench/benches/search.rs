//! SEARCH TEXT over 100 000 messages of 4 KiB, three of ten in base64 or quoted-printable, in UTF-8
//! and ISO-8859-1, from memory on one core: `cargo bench -p bench --bench search`.
//!
//! The answers are known, since one message in a thousand was given the string, and are checked.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hot_paths::mime::{Kind, STRING, is_in, message};
use ringpost::mail::mime::{Needle, Structure, Summary, TextSearch};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MESSAGES: usize = 100_000;
const HOLD_EVERY: usize = 1000;

fn search(criterion: &mut Criterion) {
    let mut bytes = Vec::new();
    let mut messages = Vec::new();
    for number in 0..MESSAGES {
        // Spread over the kinds.
        let holds = number % HOLD_EVERY == number / HOLD_EVERY;
        let message = message(number, Kind::of(number), holds);
        let start = bytes.len();
        bytes.extend_from_slice(&message);
        let summary = Summary::encode(&Structure::parse(&message));
        messages.push((start..bytes.len(), summary));
    }
    let mut group = criterion.benchmark_group("search_text_100k");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.sample_size(10);
    group.measurement_time(Duration::from_secs(10));
    for (name, string, expected) in [
        ("utf8", STRING, MESSAGES / HOLD_EVERY),
        ("ascii", "quarterly", MESSAGES / HOLD_EVERY),
        ("everywhere", "Received", MESSAGES),
    ] {
        let needle = Needle::new(string);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let started = Instant::now();
                for _ in 0..times {
                    let mut search = TextSearch::default();
                    let found = messages.iter().filter(|(range, summary)| {
                        is_in(&mut search, &needle, &bytes[range.clone()], summary)
                    });
                    assert_eq!(found.count(), expected);
                }
                started.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, search);
criterion_main!(benches);
