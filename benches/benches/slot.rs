//! Hash slots.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use unfazed_core::slot::slot;

fn slots(c: &mut Criterion) {
    let mut group = c.benchmark_group("slot");
    for (name, key) in [
        ("key of 10 B", "key:000042"),
        ("key of 40 B", "session:0123456789abcdef0123456789abcdef"),
        ("key with a tag", "cart:{user:000042}:items"),
    ] {
        group.bench_function(name, |b| b.iter(|| slot(black_box(key.as_bytes()))));
    }
}

criterion_group!(benches, slots);
criterion_main!(benches);
