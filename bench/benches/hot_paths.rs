//! Times the hot paths and prints their throughput: `cargo bench -p bench --bench hot_paths`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hot_paths::{HOT_PATHS, Work};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn hot_paths(criterion: &mut Criterion) {
    for path in HOT_PATHS {
        let mut group = criterion.benchmark_group(path.name);
        group.throughput(match path.work {
            Work::Bytes(bytes) => Throughput::Bytes(bytes),
            Work::Items(items) => Throughput::Elements(items),
        });
        let mut run = (path.prepare)();
        group.bench_function("run", |bencher| bencher.iter(&mut run));
        group.finish();
    }
}

criterion_group!(benches, hot_paths);
criterion_main!(benches);
