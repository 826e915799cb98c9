//! The errors of commands, word for word as Redis 7.0 says them.

use bytes::Bytes;

use super::argument::until_nul;
use crate::resp;

/// Redis quotes at most so much of an unknown name, and of the arguments together.
const QUOTED_MAX: usize = 128;

/// An error reply. Whoever returns one has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal(Bytes);

impl Refusal {
    pub(super) const BIT: Refusal = fixed("ERR bit is not an integer or out of range");
    pub(super) const BIT_ARGUMENT: Refusal = fixed("ERR The bit argument must be 1 or 0.");
    pub(super) const BIT_OFFSET: Refusal =
        fixed("ERR bit offset is not an integer or out of range");
    pub(super) const BITFIELD_TYPE: Refusal = fixed(
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
    );
    pub(super) const BITOP_NOT: Refusal =
        fixed("ERR BITOP NOT must be called with a single source key.");
    pub(super) const FULL: Refusal =
        fixed("OOM command not allowed when used memory > 'maxmemory'.");
    pub(super) const CURSOR: Refusal = fixed("ERR invalid cursor");
    pub(super) const HASH_NOT_FLOAT: Refusal = fixed("ERR hash value is not a float");
    pub(super) const HASH_NOT_INTEGER: Refusal = fixed("ERR hash value is not an integer");
    pub(super) const INCREMENT_INFINITE: Refusal =
        fixed("ERR increment would produce NaN or Infinity");
    pub(super) const INCREMENT_OVERFLOW: Refusal =
        fixed("ERR increment or decrement would overflow");
    pub(super) const DECREMENT_OVERFLOW: Refusal = fixed("ERR decrement would overflow");
    pub(super) const INDEX: Refusal = fixed("ERR DB index is out of range");
    pub(super) const NAN_OR_INFINITE: Refusal = fixed("ERR value is NaN or Infinity");
    pub(super) const NOT_FLOAT: Refusal = fixed("ERR value is not a valid float");
    pub(super) const NOT_INTEGER: Refusal = fixed("ERR value is not an integer or out of range");
    pub(super) const NO_FREQUENCY: Refusal = fixed(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note \
         that when switching between policies at runtime LRU and LFU data will take some time to \
         adjust.",
    );
    pub(super) const NO_SUCH_KEY: Refusal = fixed("ERR no such key");
    pub(super) const OFFSET: Refusal = fixed("ERR offset is out of range");
    pub(super) const RANK_ZERO: Refusal = fixed(
        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
    );
    pub(super) const OUT_OF_RANGE: Refusal = fixed("ERR value is out of range");
    pub(super) const SAME_OBJECT: Refusal =
        fixed("ERR source and destination objects are the same");
    pub(super) const SYNTAX: Refusal = fixed("ERR syntax error");
    pub(super) const TOO_LONG: Refusal =
        fixed("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    /// A part of a command that Redis knows and this store does not. Nobody sees the text: the
    /// answer says so by itself.
    pub(super) const UNSUPPORTED: Refusal = fixed("ERR not supported");
    pub(super) const WRONG_TYPE: Refusal =
        fixed("WRONGTYPE Operation against a key holding the wrong kind of value");

    /// A text made for the occasion, `ERR ` included. Line ends at its end are cut off, others
    /// become spaces, as Redis has it: a reply must not end early.
    pub(super) fn new(text: impl Into<Vec<u8>>) -> Self {
        let line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let mut text = text.into();
        text.truncate(text.iter().rposition(|byte| !line_end(byte)).map_or(0, |last| last + 1));
        text.iter_mut().filter(|byte| line_end(byte)).for_each(|byte| *byte = b' ');
        Refusal(Bytes::from(text))
    }

    /// Too few or too many arguments; `name` is in lower case.
    pub(super) fn arity(name: &str) -> Self {
        Refusal::new(format!("ERR wrong number of arguments for '{name}' command"))
    }

    /// A time of expiry that is not positive or not representable; `name` is in lower case.
    pub(super) fn invalid_expiry(name: &str) -> Self {
        Refusal::new(format!("ERR invalid expire time in '{name}' command"))
    }

    /// A subcommand that Redis does not know either; `command` is in upper case.
    pub(super) fn unknown_subcommand(command: &str, name: &[u8]) -> Self {
        let mut text = b"ERR unknown subcommand '".to_vec();
        text.extend(until_nul(name).iter().take(QUOTED_MAX));
        text.extend_from_slice(format!("'. Try {command} HELP.").as_bytes());
        Refusal::new(text)
    }

    /// A command that Redis does not know either.
    pub(super) fn unknown_command(args: &[&[u8]]) -> Self {
        let (name, rest) =
            args.split_first().map_or((&b""[..], args), |(name, rest)| (*name, rest));
        let mut quoted = Vec::new();
        for arg in rest {
            if quoted.len() >= QUOTED_MAX {
                break;
            }
            let room = QUOTED_MAX - quoted.len();
            quoted.push(b'\'');
            quoted.extend(until_nul(arg).iter().take(room));
            quoted.extend_from_slice(b"' ");
        }
        let mut text = b"ERR unknown command '".to_vec();
        text.extend(until_nul(name).iter().take(QUOTED_MAX));
        text.extend_from_slice(b"', with args beginning with: ");
        text.extend_from_slice(&quoted);
        Refusal::new(text)
    }
}

impl From<Refusal> for resp::Value {
    fn from(refusal: Refusal) -> Self {
        resp::Value::Error(refusal.0)
    }
}

const fn fixed(text: &'static str) -> Refusal {
    Refusal(Bytes::from_static(text.as_bytes()))
}
