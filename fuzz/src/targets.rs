//! What fuzzers attack, each a function of bytes that panics where a promise is broken. `cargo fuzz` calls
//! them from `fuzz_targets`, and a test replays the corpora in `corpus`.

use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use unfazed_core::{
    Config, Engine, Now,
    config::{AddressMap, ClusterMap, Endpoint},
    engine::{Input, Output},
    fallback::store::{Answer, Bounds, Store},
    resp::{Decoder, Limits, Protocol, Value},
    slot::slot,
};

use crate::{
    entropy::Entropy,
    hunt::{Found, tell},
    model::Model,
};

/// A target: what its folder of the corpus is called, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: [Target; 6] = [
    ("decode_whole", decode_whole),
    ("decode_pieces", decode_pieces),
    ("url", url),
    ("store", store),
    ("slot_map", slot_map),
    ("engine", engine),
];

/// Bytes from a peer in one piece: what is decoded says the same when it is encoded and decoded again.
pub fn decode_whole(bytes: &[u8]) {
    for value in decode(bytes, bytes.len()).0 {
        let mut again = Vec::new();
        value.encode(&mut again, Protocol::Resp3);
        let (values, fault) = decode(&again, again.len());
        assert!(fault.is_none(), "{value:?} is encoded as something that is none: {fault:?}");
        // As text, for a NaN is not equal to itself.
        let (before, after) = (format!("{:?}", [value]), format!("{values:?}"));
        assert_eq!(before, after, "encoded as {:?}", String::from_utf8_lossy(&again));
    }
}

/// Bytes from a peer in pieces: the same comes of them in one piece. The first byte is the size of a piece.
pub fn decode_pieces(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let size = usize::from(*size).max(1);
    let [whole, pieces] = [bytes.len(), size].map(|size| format!("{:?}", decode(bytes, size)));
    assert_eq!(whole, pieces, "in pieces of {size}");
}

/// A URL: no text panics, and what is accepted can be written as a URL again and means the same.
pub fn url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // The slot of whatever it is exists.
    assert!(slot(bytes) < 16_384);
    let config = match Config::from_url(text) {
        Ok(config) => config,
        Err(error) => return drop(error.to_string()),
    };
    let written = config.to_url_with_secrets();
    let again = Config::from_url(&written).expect("what was written is a URL");
    assert!(config == again, "{text:?} written as {written:?}");
}

/// The embedded store, beside a model of it that is too simple to be wrong: the same commands, the same
/// answers.
pub fn store(bytes: &[u8]) {
    let mut entropy = Entropy::from_bytes(bytes);
    let mut now = Now::new(moment(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
    let mut store = Store::new(entropy.draw(), Bounds { entries_max: 1_000, bytes_max: 1 << 20 });
    let mut model = Model::default();
    // Each command takes a few bytes, so this many are as many commands as there are.
    for _ in 0..bytes.len().min(400) {
        let words = Model::draw(&mut entropy);
        let unix = now.unix.as_millis() as u64;
        let expected = model.run(&words, unix);
        let borrowed: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        let Answer::Reply(value) = store.execute(&borrowed, now) else {
            panic!("{words:?} is not supported");
        };
        assert_eq!(value, expected, "{words:?}");
        if entropy.chance(20) {
            now = now + entropy.millis(0, 2_000);
        }
    }
}

/// What a node of a cluster answers when it is asked who serves which slots: whatever it says, a client takes
/// it or leaves it, the same in one piece and in many, and every slot is somebody's or nobody's. The first
/// byte chooses the question, the size of a piece and whether addresses are mapped.
pub fn slot_map(bytes: &[u8]) {
    let Some((choice, reply)) = bytes.split_first() else { return };
    let told = |size: usize| {
        let (shards, dialled) = ask_for_the_map(*choice, reply, size);
        let slots: usize = shards.iter().map(|(_, slots)| slots).sum();
        assert!(slots == 0 || slots == 16_384, "{slots} slots in all: {shards:?}");
        (shards, dialled)
    };
    assert_eq!(told(reply.len().max(1)), told(usize::from(choice >> 2) + 1), "in pieces");
}

/// How many slots a client takes each node to serve, and whom it dials, after this answer.
fn ask_for_the_map(choice: u8, reply: &[u8], size: usize) -> (Vec<(String, usize)>, Vec<String>) {
    let map = if choice & 1 == 0 { ClusterMap::Shards } else { ClusterMap::Slots };
    let mut config = Config::cluster([Endpoint::tcp("10.0.0.1", 7_000)]).client_info(false);
    config = config.cluster_map(map);
    if choice & 2 != 0 {
        config = config
            .address_map(AddressMap::new().function(|host, port| {
                Some((format!("{host}.example.org"), port.wrapping_add(1)))
            }));
    }
    let now = Now::new(moment(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
    let mut engine: Engine<()> = Engine::new(config, 7, now).expect("a sound configuration");
    engine.connect(None, now);
    let (mut first, mut dialled) = (None, Vec::new());
    let mut drain = |engine: &mut Engine<()>| {
        loop {
            match engine.poll_output() {
                Output::Open { conn, target, .. } => {
                    dialled.push(format!("{target:?}"));
                    first.get_or_insert(conn);
                }
                Output::Resolve { host, port, .. } => dialled.push(format!("{host} {port}")),
                Output::Wait(_) => return first,
                _ => {}
            }
        }
    };
    let conn = drain(&mut engine).expect("the seed is dialled");
    engine.handle_input(Input::Opened { conn }, now);
    // The greeting, and then the map: what stands between them is the client's business.
    for answer in [&b"%0\r\n"[..], reply] {
        while let Some(chunk) = engine.take_output(conn) {
            let count = chunk.unwritten().len();
            engine.written(conn, chunk, count, now);
        }
        let mut inbox = BytesMut::new();
        for piece in answer.chunks(size) {
            inbox.extend_from_slice(piece);
            engine.received(conn, &mut inbox, now);
        }
        engine.handle_input(Input::Timeout, now);
        drain(&mut engine);
    }
    // Whoever else was asked does not answer.
    let later = now + Duration::from_millis(200);
    engine.handle_input(Input::Timeout, later);
    drain(&mut engine);
    let shards = engine.status().shards;
    (shards.into_iter().map(|shard| (shard.node.to_string(), shard.slots)).collect(), dialled)
}

/// The whole engine in its world.
pub fn engine(bytes: &[u8]) {
    match tell(Entropy::from_bytes(bytes), None, false) {
        Ok(_) => {}
        Err(found @ (Found::Broken(_) | Found::Panic(_))) => panic!("{found}"),
    }
}

/// What is decoded of `bytes` when they come in pieces of `size`, and the fault that ends it.
fn decode(bytes: &[u8], size: usize) -> (Vec<Value>, Option<String>) {
    let mut decoder = Decoder::new(Limits::default());
    let mut buffer = BytesMut::new();
    let mut values = Vec::new();
    for piece in bytes.chunks(size.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(reply)) => values.push(reply.view().to_value()),
                Ok(None) => break,
                // What is shown of the bytes behind the fault depends on how many have come.
                Err(fault) => {
                    return (values, Some(format!("{:?} at {}", fault.fault(), fault.offset())));
                }
            }
        }
    }
    (values, None)
}

/// Any moment: only what passes since counts.
fn moment() -> Instant {
    Instant::now()
}
