//! What fuzzers attack, each a function of bytes that panics where a promise is broken. `cargo fuzz` calls
//! them from `fuzz_targets`, and a test replays the corpora in `corpus`.

use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use unfazed_core::{
    Config, Now,
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
pub const ALL: [Target; 5] = [
    ("decode_whole", decode_whole),
    ("decode_pieces", decode_pieces),
    ("url", url),
    ("store", store),
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
