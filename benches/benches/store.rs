//! The store of `memory://`, beside `moka`, a cache for many threads, and a mutexed hash map, which
//! knows nothing of expiry or bounds.

use std::{
    hash::RandomState,
    hint::black_box,
    sync::Mutex,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use hashbrown::HashMap;
use moka::sync::Cache;
use unfazed_benches::{KEYS, VALUE_BYTES, key, value};
use unfazed_core::{
    Now,
    fallback::store::{Bounds, Store},
};

fn store(c: &mut Criterion) {
    let now = Now::new(Instant::now(), SystemTime::now());
    let value = value(VALUE_BYTES);
    let keys: Vec<Vec<u8>> = (0..KEYS).map(|index| key(index).into_bytes()).collect();
    let store = Mutex::new(Store::new(7, Bounds::NONE));
    let run = |args: &[&[u8]]| store.lock().expect("no panic").execute(args, now);
    let map = Mutex::new(HashMap::<Vec<u8>, Vec<u8>, RandomState>::default());
    let moka = Cache::<Vec<u8>, Bytes>::new(2 * KEYS as u64);
    let shared = Bytes::from(value.clone());
    for key in &keys {
        let _ = black_box(run(&[b"SET", key, &value]));
        moka.insert(key.clone(), shared.clone());
        map.lock().expect("no panic").insert(key.clone(), value.clone());
    }
    let mut turn = keys.iter().cycle();
    let mut next = move || black_box(turn.next().expect("it goes round"));

    let mut group = c.benchmark_group("store");
    group.bench_function("GET", |b| b.iter(|| run(&[b"GET", next()])));
    group.bench_function("GET, plain map", |b| {
        b.iter(|| map.lock().expect("no panic").get(next()).cloned());
    });
    group.bench_function("GET, moka", |b| b.iter(|| moka.get(next())));
    group.bench_function("SET", |b| b.iter(|| run(&[b"SET", next(), &value])));
    group.bench_function("SET, plain map", |b| {
        b.iter(|| map.lock().expect("no panic").insert(next().clone(), value.clone()));
    });
    group.bench_function("SET, moka", |b| {
        b.iter(|| moka.insert(next().clone(), Bytes::copy_from_slice(&value)));
    });
    group.bench_function("INCR", |b| b.iter(|| run(&[b"INCR", b"counter"])));
}

criterion_group!(benches, store);
criterion_main!(benches);
