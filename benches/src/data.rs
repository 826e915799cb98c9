//! Keys and values on the server, and frames as a server would send them.

use unfazed_core::resp::encode;
use unfazed_tests::Raw;

/// The size of a usual value.
pub const VALUE_BYTES: usize = 64;

/// How many keys there are that hold such a value.
pub const KEYS: usize = 1_024;

/// The lists and hashes: their sizes; `list:1000`, `hash:1000` and so on are their keys.
pub const LIST: [usize; 2] = [1_000, 100_000];

/// The key at `index`.
#[must_use]
pub fn key(index: usize) -> String {
    format!("key:{:06}", index % KEYS)
}

/// A value of so many bytes.
#[must_use]
pub fn value(bytes: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(bytes).collect()
}

/// A command as it goes out.
#[must_use]
pub fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::array_header(&mut out, words.len());
    for word in words {
        encode::bulk(&mut out, word);
    }
    out
}

/// Puts everything that the workloads read onto the server.
///
/// # Panics
///
/// When the server at `port` does not take it.
pub fn fill(port: u16) {
    let mut raw = Raw::connect(port);
    raw.ok(&["FLUSHALL"]);
    for index in 0..KEYS {
        raw.ok(&[b"SET", key(index).as_bytes(), &value(VALUE_BYTES)]);
    }
    raw.ok(&[&b"SET"[..], b"16k", &value(16 << 10)]);
    raw.ok(&[&b"SET"[..], b"1m", &value(1 << 20)]);
    for size in LIST {
        let (list, hash) = (format!("list:{size}"), format!("hash:{size}"));
        for from in (0..size).step_by(1_000) {
            let mut push = vec![b"RPUSH".to_vec(), list.clone().into_bytes()];
            let mut hset = vec![b"HSET".to_vec(), hash.clone().into_bytes()];
            for index in from..from + 1_000 {
                push.push(value(VALUE_BYTES));
                hset.extend([format!("field:{index:06}").into_bytes(), value(VALUE_BYTES)]);
            }
            raw.int(&push);
            raw.int(&hset);
        }
    }
}

/// So many replies to GET, each with a usual value.
#[must_use]
pub fn get_replies(count: usize) -> Vec<u8> {
    bulks(count)
}

/// An array of so many bulk strings, each with a usual value.
#[must_use]
pub fn aggregate_of_bulks(count: usize) -> Vec<u8> {
    let mut out = format!("*{count}\r\n").into_bytes();
    out.extend(bulks(count));
    out
}

fn bulks(count: usize) -> Vec<u8> {
    let mut one = Vec::new();
    encode::bulk(&mut one, &value(VALUE_BYTES));
    one.repeat(count)
}

/// A RESP3 map of `width` entries, each a map that nests `depth` levels deep, with every type of
/// scalar on each level. Gives how many elements it has, all levels counted.
#[must_use]
pub fn deep_map(width: usize, depth: usize) -> (Vec<u8>, usize) {
    fn level(out: &mut Vec<u8>, depth: usize) -> usize {
        if depth == 0 {
            out.extend_from_slice(b":7\r\n");
            return 1;
        }
        out.extend_from_slice(
            b"%4\r\n+id\r\n:12345\r\n+rate\r\n,1.5\r\n+on\r\n#t\r\n$5\r\ninner\r\n",
        );
        8 + level(out, depth - 1)
    }
    let mut out = format!("%{width}\r\n").into_bytes();
    let mut elements = 1;
    for index in 0..width {
        out.extend_from_slice(format!("$8\r\nkey:{index:04}\r\n").as_bytes());
        elements += 1 + level(&mut out, depth);
    }
    (out, elements)
}
