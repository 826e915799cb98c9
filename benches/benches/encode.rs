//! Commands to bytes, made as a client makes them: through the command traits.

use std::{cell::RefCell, hint::black_box};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use unfazed_benches::{Encoder, VALUE_BYTES, key, value};
use unfazed_core::commands::Strings;

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    let encoder = Encoder(RefCell::new(Vec::with_capacity(1 << 20)));

    let (one, value) = (key(0), value(VALUE_BYTES));
    group.bench_function("SET, 64 B", |b| {
        b.iter(|| {
            encoder.0.borrow_mut().clear();
            encoder.set(black_box(&one), black_box(&value));
        });
    });

    let pairs: Vec<_> = (0..100).map(|index| (key(index), value.clone())).collect();
    group.throughput(Throughput::Elements(100));
    group.bench_function("MSET, 100 pairs of 64 B", |b| {
        b.iter(|| {
            encoder.0.borrow_mut().clear();
            encoder.mset(black_box(&pairs));
        });
    });
}

criterion_group!(benches, encode);
criterion_main!(benches);
