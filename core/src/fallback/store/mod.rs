//! An embedded Redis: strings, hashes, lists, sets, sorted sets and expiry in memory, without a
//! server.
//!
//! It is `memory://`, the overlay of what was written while a server is down, and the shadow of
//! what a server said last. Replies, errors and expiry are those of Redis 7.0, held to it by
//! `core/tests/store`; for fields of hashes that expire, those of Redis 8.0, held to a recording of
//! it by `core/tests/field_expiry.rs`. It evicts nothing: a write that would go beyond its bounds is
//! refused as Redis refuses it at `maxmemory` under `noeviction`, and a command that fails changes
//! nothing.
//!
//! Calls go downwards: [`Store`] finds a command in the table of `dispatch`, the commands work on
//! the `keyspace`, which owns the entries (`entry`), their order, their expiry and the account of
//! what they take.
//!
//! | commands | about |
//! |---|---|
//! | `strings`, `counters` | strings, and those that are numbers |
//! | `bits`, `bitfield` | the bits of strings |
//! | `hashes`, `field_expiry` | hashes, and how long their fields live |
//! | `lists` | lists |
//! | `sets`, `algebra` | one set, and several |
//! | `zsets`, `zranges`, `zalgebra` | the members of a sorted set, ranges of them, and several sorted sets |
//! | `sort` | the members of a list, a set or a sorted set, in another order |
//! | `keys`, `expiry`, `object`, `scan` | keys, whatever stands at them; a little at a time |
//! | `server` | the store as a whole |
//!
//! `types` says what the keyspace needs of a value with members; `hash`, `list`, `set` and
//! `sorted_set` are those, the last with an `order` that knows ranks. `argument` reads numbers and
//! words as Redis does and `double` scores; `extended` is the arithmetic of INCRBYFLOAT; `picks`
//! chooses members at random; `refusal` holds the errors.
//!
//! ```
//! use std::time::{Instant, SystemTime};
//! use unfazed_core::Now;
//! use unfazed_core::fallback::store::{Answer, Bounds, Store};
//! use unfazed_core::resp::Value;
//!
//! let mut store = Store::new(7, Bounds { entries_max: 10_000, bytes_max: 100 << 20 });
//! let now = Now::new(Instant::now(), SystemTime::now());
//! let answer = store.execute(&[&b"INCR"[..], b"visits"], now);
//! assert_eq!(answer, Answer::Reply(Value::Integer(1)));
//! ```
//!
//! Time is what [`Now`] says. A wall clock that jumps backwards lengthens what is left of an
//! entry's life, as it does on a server, and does nothing worse.

mod algebra;
mod argument;
mod bitfield;
mod bits;
mod counters;
mod dispatch;
mod double;
mod entry;
mod expiry;
mod extended;
mod field_expiry;
mod hash;
mod hashes;
mod keys;
mod keyspace;
mod list;
mod lists;
mod object;
mod order;
mod picks;
mod refusal;
mod scan;
mod server;
mod set;
mod sets;
mod sort;
mod sorted_set;
mod strings;
mod transaction;
mod types;
mod zalgebra;
mod zranges;
mod zsets;

use std::fmt;

use bytes::Bytes;

use crate::{Now, failure::Bound, resp};
use entry::{Data, Entry, Text};
use keyspace::Keyspace;
use refusal::Refusal;

pub(super) use extended::Extended;
pub use hash::HASH_FIELD_BYTES;
pub use keyspace::ENTRY_BYTES;
pub use list::LIST_ITEM_BYTES;
pub use set::SET_MEMBER_BYTES;
pub use sorted_set::SORTED_SET_MEMBER_BYTES;
pub(crate) use transaction::Savepoint;
pub use types::COLLECTION_BYTES;

/// The longest string, in bytes: Redis' default for `proto-max-bulk-len`.
pub const STRING_BYTES_MAX: usize = 512 * 1024 * 1024;

/// How much a [`Store`] may hold. Beyond either bound it refuses writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The number of entries.
    pub entries_max: usize,
    /// The sum over all entries of the key's bytes, the value's bytes and [`ENTRY_BYTES`].
    ///
    /// The value's bytes are those of a string; of any other type they are [`COLLECTION_BYTES`],
    /// and for each member its bytes and a constant: [`HASH_FIELD_BYTES`], [`LIST_ITEM_BYTES`],
    /// [`SET_MEMBER_BYTES`] or [`SORTED_SET_MEMBER_BYTES`].
    ///
    /// What is counted is what is held. A string that grows by APPEND takes up to twice its
    /// length from the allocator, so that appending stays cheap.
    pub bytes_max: usize,
}

impl Bounds {
    /// No bound: for tests, and for stores whose owner counts for itself.
    pub const NONE: Bounds = Bounds { entries_max: usize::MAX, bytes_max: usize::MAX };
}

/// An embedded Redis: one database of keys with values of all types but streams.
///
/// Every call that can see an expired entry takes the time; an entry that has expired counts as
/// absent in all of them, whether or not it still takes up room, and so does a field of a hash. Its
/// room comes back when a command meets it, and a few at a time with each
/// [`execute`](Store::execute).
pub struct Store {
    keyspace: Keyspace,
}

/// What [`Store::execute`] makes of a command.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a command that the store does not support has no reply"]
pub enum Answer {
    /// The reply of Redis, in the shape that RESP3 gives it; errors are replies too.
    Reply(resp::Value),
    /// The reply to a write that the store had no room for: nothing was changed.
    Full(resp::Value),
    /// A command that Redis knows and this store does not. Nothing was changed.
    Unsupported,
}

impl Store {
    /// An empty store.
    ///
    /// The seed keys the hash of keys and members, and is the randomness of RANDOMKEY, SPOP and
    /// their like: the same seed and the same calls give the same answers.
    #[must_use]
    pub fn new(seed: u64, bounds: Bounds) -> Self {
        Store { keyspace: Keyspace::new(seed, bounds) }
    }

    /// Runs one command: its name, in any case, and its arguments. All are copied where kept.
    ///
    /// Takes what the command takes on a server, and a constant more for the expiry of a few
    /// entries and fields that are due. A command that meets a hash takes all its fields away that
    /// are due: each is paid for once.
    pub fn execute(&mut self, args: &[&[u8]], now: Now) -> Answer {
        self.keyspace.expire_some(now.unix_millis());
        dispatch::execute(&mut self.keyspace, args, now)
    }

    /// Whether [`execute`](Store::execute) knows the command of this name, in any case.
    #[must_use]
    pub fn supports(name: &[u8]) -> bool {
        dispatch::find(name).is_some()
    }

    /// The names of all commands that [`execute`](Store::execute) knows, in lower case, sorted.
    pub fn commands() -> impl Iterator<Item = &'static str> {
        dispatch::names()
    }

    /// Whether there is an entry at `key`.
    #[must_use]
    pub fn contains(&self, key: &[u8], now: Now) -> bool {
        self.peek(key, now).is_some()
    }

    /// The entry at `key`, without touching it.
    #[must_use]
    pub fn peek(&self, key: &[u8], now: Now) -> Option<EntryView<'_>> {
        let entry = self.keyspace.peek(key, now.unix_millis())?;
        Some(EntryView { entry })
    }

    /// Puts a string at `key` in place of whatever is there, its expiry included.
    ///
    /// `expires_at` is in milliseconds since the Unix epoch; `None` is for ever. The value is
    /// kept as it is, not copied: pass a copy of a slice that would keep a large buffer alive.
    ///
    /// # Errors
    ///
    /// [`Full`] where the store's bounds leave no room; nothing was changed.
    pub fn insert_string(
        &mut self,
        key: &[u8],
        value: Bytes,
        expires_at: Option<u64>,
        now: Now,
    ) -> Result<(), Full> {
        let data = Data::String(Text::Bytes(value));
        self.insert(key, Entry { data, expires_at }, now)
    }

    /// Copies the entry at `key` of `other` into this store, in place of whatever is there, its
    /// expiry included. Its bytes and members are shared until either changes, so this takes
    /// constant time. Returns whether there was one.
    ///
    /// The bounds are not asked: it is lent, and is to be taken away again after one command, or
    /// kept if [`overruns`](Store::overruns) says that there is room for it.
    pub(crate) fn borrow_from(&mut self, other: &Store, key: &[u8], now: Now) -> bool {
        let entry = other.keyspace.peek(key, now.unix_millis());
        if let Some(entry) = entry {
            self.keyspace.put_reserved(key, entry.clone());
        }
        entry.is_some()
    }

    /// Makes the entries at these keys those of `other`, and takes away those that it has not: all of
    /// them or none.
    pub(crate) fn take_over(
        &mut self,
        other: &Store,
        keys: &[&Bytes],
        now: Now,
    ) -> Result<(), Bound> {
        let at = now.unix_millis();
        let (entries, bytes) = (self.len(), self.bytes());
        let before: Vec<_> = keys.iter().map(|key| self.keyspace.peek(key, at).cloned()).collect();
        for key in keys {
            self.replace(key, other.keyspace.peek(key, at).cloned(), at);
        }
        // What takes no more than before always fits.
        let grown = self.len() > entries || self.bytes() > bytes;
        let Some(bound) = self.overruns(now).filter(|_| grown) else { return Ok(()) };
        for (key, entry) in keys.iter().zip(before) {
            self.replace(key, entry, at);
        }
        Err(bound)
    }

    fn replace(&mut self, key: &[u8], entry: Option<Entry>, at: u64) {
        match entry {
            Some(entry) => self.keyspace.put_reserved(key, entry),
            None => drop(self.keyspace.remove(key, at)),
        }
    }

    /// Which bound is exceeded, because of what the store borrowed, if any is.
    pub(crate) fn overruns(&mut self, now: Now) -> Option<Bound> {
        let over = |store: &Store| {
            let Bounds { entries_max, bytes_max } = store.bounds();
            if store.len() > entries_max {
                return Some(Bound::MemoryEntries);
            }
            (store.bytes() > bytes_max).then_some(Bound::MemoryBytes)
        };
        over(self)?;
        self.expire(now);
        over(self)
    }

    /// Which bound the last write was in the way of that was refused for lack of room.
    pub(crate) fn lack(&self) -> Bound {
        self.keyspace.lack()
    }

    fn insert(&mut self, key: &[u8], entry: Entry, now: Now) -> Result<(), Full> {
        self.keyspace.put(key, entry, now.unix_millis()).map_err(|_| Full)
    }

    /// Takes the entry at `key` away. Returns whether there was one.
    pub fn remove(&mut self, key: &[u8], now: Now) -> bool {
        self.keyspace.remove(key, now.unix_millis()).is_some()
    }

    /// The keys, in an order that depends on nothing but the calls made so far: that of their
    /// insertion, but that a key which is removed leaves its place to the last one.
    pub fn keys(&self, now: Now) -> impl Iterator<Item = &Bytes> {
        self.keyspace.keys(now.unix_millis())
    }

    /// How many entries take up room. Those that have expired count until they are met;
    /// [`expire`](Store::expire) first to leave them out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keyspace.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the entries take, counted as [`Bounds::bytes_max`] says.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.keyspace.bytes()
    }

    /// The bounds that the store was made with.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.keyspace.bounds()
    }

    /// Sets other bounds. What it holds beyond them stays, and takes up room.
    pub(super) fn set_bounds(&mut self, bounds: Bounds) {
        self.keyspace.set_bounds(bounds);
    }

    /// Sets when the entry at `key` expires, in milliseconds since the Unix epoch; `None` is never.
    pub(super) fn set_expiry(&mut self, key: &[u8], expires_at: Option<u64>, now: Now) {
        self.keyspace.set_expiry(key, expires_at, now.unix_millis());
    }

    /// Takes away all entries that have expired. Takes time for these only.
    pub fn expire(&mut self, now: Now) {
        self.keyspace.expire_all(now.unix_millis());
    }

    /// Takes away all entries.
    pub fn clear(&mut self) {
        self.keyspace.clear();
    }
}

impl fmt::Debug for Store {
    /// Counts only: keys and values can be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("entries", &self.len())
            .field("bytes", &self.bytes())
            .field("bounds", &self.bounds())
            .finish()
    }
}

/// An entry of a [`Store`].
#[derive(Clone, Copy)]
pub struct EntryView<'a> {
    entry: &'a Entry,
}

impl EntryView<'_> {
    /// The name that TYPE gives.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        self.entry.data.type_name()
    }

    /// The value, where the entry is a string. Shares the store's bytes.
    #[must_use]
    pub fn string(&self) -> Option<Bytes> {
        self.entry.data.text().ok().map(Text::to_bytes)
    }

    /// When the entry expires, in milliseconds since the Unix epoch; `None` is never.
    #[must_use]
    pub fn expires_at(&self) -> Option<u64> {
        self.entry.expires_at
    }

    /// The bytes of the value, without the key and [`ENTRY_BYTES`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.entry.data.bytes()
    }
}

/// A write was refused because the store's [`Bounds`] leave no room for it. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the embedded store is full")
    }
}

impl std::error::Error for Full {}

/// What a command comes to: the reply, or an error reply that changed nothing.
type Outcome = Result<resp::Value, Refusal>;

/// Reads a whole number as every command does, if this is one.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    argument::integer(text).ok()
}

/// A number of things as a reply.
fn count(number: usize) -> resp::Value {
    resp::Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
