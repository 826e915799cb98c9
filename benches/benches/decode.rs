//! Bytes to replies, and replies to Rust values.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use unfazed_benches::{aggregate_of_bulks, deep_map, get_replies};
use unfazed_core::{
    reply::FromReply,
    resp::{Decoder, Limits, Reply},
};

/// Times taking all replies off `frames` and looking at each; that the buffer is filled anew for
/// each round is not timed.
fn bench(c: &mut Criterion, name: &str, items: usize, frames: &[u8], mut look: impl FnMut(&Reply)) {
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(items as u64));
    group.bench_function(name, |b| {
        let mut decoder = Decoder::new(Limits::default());
        b.iter_batched_ref(
            || BytesMut::from(frames),
            |buffer| decoder.decode_each(buffer, |reply| look(&reply)).expect("well-formed"),
            BatchSize::LargeInput,
        );
    });
}

fn view(reply: &Reply) {
    black_box(reply.view().payload());
}

fn views(reply: &Reply) {
    black_box(reply.view().items().map(|item| item.payload().len()).sum::<usize>());
}

fn owned<T: FromReply>(reply: &Reply) {
    black_box(T::from_reply(reply).expect("what was asked for"));
}

fn decode(c: &mut Criterion) {
    let gets = get_replies(1_000);
    bench(c, "1,000 GET replies as views", 1_000, &gets, view);
    bench(c, "1,000 GET replies as Bytes", 1_000, &gets, owned::<Bytes>);
    let list = aggregate_of_bulks(1_000);
    bench(c, "LRANGE 1,000 as views", 1_000, &list, views);
    bench(c, "LRANGE 1,000 as Vec<Bytes>", 1_000, &list, owned::<Vec<Bytes>>);
    bench(c, "LRANGE 1,000 as Vec<String>", 1_000, &list, owned::<Vec<String>>);
    let long = aggregate_of_bulks(100_000);
    bench(c, "array of 100,000 as views", 100_000, &long, views);
    let (map, elements) = deep_map(1_000, 8);
    bench(c, "deep RESP3 map", elements, &map, |reply| {
        black_box(reply.view().len());
    });
}

criterion_group!(benches, decode);
criterion_main!(benches);
