//! OBJECT: how a server would keep what stands at a key.

use bytes::Bytes;

use super::entry::{Data, Text};
use super::keyspace::Keyspace;
use super::refusal::Refusal;
use super::types::Collection;
use super::{Outcome, argument};
use crate::Now;
use crate::resp::Value;

/// OBJECT ENCODING, REFCOUNT, FREQ and HELP. IDLETIME is not supported: nobody notes when a key was
/// last used.
pub(super) fn object(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let tell: fn(&Data) -> Outcome = match args[1].to_ascii_lowercase().as_slice() {
        b"help" => return help(args),
        b"idletime" => return Err(Refusal::UNSUPPORTED),
        b"encoding" => |data| Ok(Value::Bulk(Bytes::from_static(encoding(data).as_bytes()))),
        b"refcount" => |data| Ok(Value::Integer(references(data))),
        b"freq" => |_| Err(Refusal::NO_FREQUENCY),
        _ => return Err(Refusal::unknown_subcommand("OBJECT", args[1])),
    };
    let &[_, _, key] = args else {
        let name = String::from_utf8_lossy(args[1]).to_ascii_lowercase();
        return Err(Refusal::arity(&format!("object|{name}")));
    };
    keyspace.get(key, now.unix_millis()).map_or(Ok(Value::Null), |entry| tell(&entry.data))
}

/// What Redis 7.0 with its own defaults would use. Of a string it says what SET would have made of
/// it: on a server one that APPEND or SETRANGE changed is `raw` whatever its length.
fn encoding(data: &Data) -> &'static str {
    /// Up to this length a string stands in one piece with its header.
    const EMBEDDED_BYTES_MAX: usize = 44;
    match data {
        Data::String(text) if integer(text).is_some() => "int",
        Data::String(text) if text.len() <= EMBEDDED_BYTES_MAX => "embstr",
        Data::String(_) => "raw",
        Data::Hash(hash) if hash.is_packed() => "listpack",
        Data::Set(set) if set.is_packed() => "intset",
        Data::Hash(_) | Data::Set(_) => "hashtable",
        Data::List(_) => "quicklist",
        Data::SortedSet(sorted_set) if sorted_set.is_packed() => "listpack",
        Data::SortedSet(_) => "skiplist",
    }
}

/// A server shares the smallest integers between all keys, and then counts no references.
fn references(data: &Data) -> i64 {
    const SHARED_END: i64 = 10_000;
    match data {
        Data::String(text) if integer(text).is_some_and(|n| (0..SHARED_END).contains(&n)) => {
            i32::MAX.into()
        }
        _ => 1,
    }
}

fn integer(text: &Text) -> Option<i64> {
    match text {
        Text::Integer(number) => Some(*number),
        Text::Bytes(bytes) => argument::integer(bytes).ok(),
    }
}

fn help(args: &[&[u8]]) -> Outcome {
    const LINES: &[&str] = &[
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>",
        "    Return the kind of internal representation used in order to store the value",
        "    associated with a <key>.",
        "FREQ <key>",
        "    Return the access frequency index of the <key>. The returned integer is",
        "    proportional to the logarithm of the recent access frequency of the key.",
        "IDLETIME <key>",
        "    Return the idle time of the <key>, that is the approximated number of",
        "    seconds elapsed since the last access to the key.",
        "REFCOUNT <key>",
        "    Return the number of references of the value associated with the specified",
        "    <key>.",
        "HELP",
        "    Prints this help.",
    ];
    if args.len() > 2 {
        return Err(Refusal::arity("object|help"));
    }
    let line = |line: &&'static str| Value::Simple(Bytes::from_static(line.as_bytes()));
    Ok(Value::Array(LINES.iter().map(line).collect()))
}
