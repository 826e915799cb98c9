//! Strings, counters and bits.

use std::time::{Duration, SystemTime};

use super::{Expiry, Run, Spec};
use crate::{
    args::{ToArg, ToArgs, ToPairs},
    reply::FromReply,
    request::Request,
};

/// Commands on strings, and on what a string can hold: counters and bits.
///
/// All of them answer with WRONGTYPE where the key holds something else, but for those that
/// overwrite it (SET, MSET).
pub trait Strings: Run {
    /// Reads the value at `key`, or `None` where there is none. O(1). Since 1.0.
    fn get<T: FromReply + Send + 'static>(&self, key: impl ToArg) -> Self::Pending<Option<T>> {
        self.run(Request::of(const { Spec::of("GET") }).key(&key))
    }

    /// Writes `value` at `key`, whatever was there; a time to live that the key had is gone. O(1).
    /// Since 1.0.
    fn set(&self, key: impl ToArg, value: impl ToArg) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("SET") }).key(&key).arg(&value))
    }

    /// Writes `value` at `key`, to expire after `ttl`: SET with PX. O(1). Since 2.6.12.
    fn set_ex(&self, key: impl ToArg, value: impl ToArg, ttl: Duration) -> Self::Pending<()> {
        let set = Request::of(const { Spec::of("SET") });
        self.run(set.key(&key).arg(&value).arg("PX").millis(ttl))
    }

    /// Writes `value` at `key` as `options` say: `Some(())` when it was written, `None` where the
    /// condition is not met. O(1). Since 2.6.12; some options need later versions.
    ///
    /// With a condition it is not sent again by itself once it may have run, since the second reply
    /// would be about the first one's value.
    fn set_with(
        &self,
        key: impl ToArg,
        value: impl ToArg,
        options: SetOptions,
    ) -> Self::Pending<Option<()>> {
        let set = Request::of(const { Spec::of("SET") });
        self.run(options.onto(set.key(&key).arg(&value)))
    }

    /// Writes `value` at `key` as `options` say and gives the value that was there: SET with GET.
    /// O(1). Since 6.2; together with `nx` since 7.0.
    ///
    /// What comes back does not tell whether a condition was met, but for `nx`: `None` then means
    /// that `value` was written.
    fn set_get<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        value: impl ToArg,
        options: SetOptions,
    ) -> Self::Pending<Option<T>> {
        let set = Request::of(const { Spec::of("SET") });
        self.run(options.onto(set.key(&key).arg(&value)).arg("GET"))
    }

    /// Writes `value` at `key` where there is no such key, and says whether it did. O(1). Since 1.0.
    fn setnx(&self, key: impl ToArg, value: impl ToArg) -> Self::Pending<bool> {
        self.run(Request::of(const { Spec::of("SETNX") }).key(&key).arg(&value))
    }

    /// Writes `value` at `key` and gives the value that was there; a time to live that the key had is
    /// gone. O(1). Since 1.0.
    fn getset<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        value: impl ToArg,
    ) -> Self::Pending<Option<T>> {
        self.run(Request::of(const { Spec::of("GETSET") }).key(&key).arg(&value))
    }

    /// Reads the value at `key` and deletes the key. O(1). Since 6.2.
    fn getdel<T: FromReply + Send + 'static>(&self, key: impl ToArg) -> Self::Pending<Option<T>> {
        self.run(Request::of(const { Spec::of("GETDEL") }).key(&key))
    }

    /// Reads the value at `key` and says when it shall expire. O(1). Since 6.2.
    fn getex<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        expiry: Expiry,
    ) -> Self::Pending<Option<T>> {
        let getex = Request::of(const { Spec::of("GETEX") }).key(&key);
        self.run(match expiry {
            Expiry::In(ttl) => getex.arg("PX").millis(ttl),
            Expiry::At(moment) => getex.arg("PXAT").unix_millis(moment),
            Expiry::Never => getex.arg("PERSIST"),
        })
    }

    /// Reads the values at all `keys`, in their order, each `None` where there is no string: `T` is
    /// `Vec<Option<String>>`, say, or a tuple of options. O(keys). Since 1.0.
    fn mget<T: FromReply + Send + 'static>(&self, keys: impl ToArgs) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("MGET") }).args(&keys))
    }

    /// Writes all pairs of key and value, whatever was there, at once. O(pairs). Since 1.0.1.
    fn mset(&self, pairs: impl ToPairs) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("MSET") }).pairs(&pairs))
    }

    /// Writes all pairs of key and value, or none where one of the keys exists, and says whether it
    /// did. O(pairs). Since 1.0.1.
    fn msetnx(&self, pairs: impl ToPairs) -> Self::Pending<bool> {
        self.run(Request::of(const { Spec::of("MSETNX") }).pairs(&pairs))
    }

    /// Appends `value` to what is at `key` and gives the length that it has now, in bytes. O(1).
    /// Since 2.0.
    fn append(&self, key: impl ToArg, value: impl ToArg) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("APPEND") }).key(&key).arg(&value))
    }

    /// The length in bytes of the value at `key`, 0 where there is none. O(1). Since 2.2.
    fn strlen(&self, key: impl ToArg) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("STRLEN") }).key(&key))
    }

    /// The bytes from `start` to `end`, both counted in, of the value at `key`; negative positions
    /// count from the end, -1 being the last byte. Empty where there are none. O(bytes returned).
    /// Since 2.4.
    fn getrange<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        start: i64,
        end: i64,
    ) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("GETRANGE") }).key(&key).int(start).int(end))
    }

    /// Overwrites the value at `key` from `offset` on, after zero bytes where it was shorter, and
    /// gives its length. O(1) for short values. Since 2.2.
    fn setrange(&self, key: impl ToArg, offset: u32, value: impl ToArg) -> Self::Pending<u64> {
        let setrange = Request::of(const { Spec::of("SETRANGE") });
        self.run(setrange.key(&key).int(offset.into()).arg(&value))
    }

    /// Adds 1 to the number at `key`, 0 where there is none, and gives the sum. O(1). Since 1.0.
    fn incr(&self, key: impl ToArg) -> Self::Pending<i64> {
        self.run(Request::of(const { Spec::of("INCR") }).key(&key))
    }

    /// Adds `by` to the number at `key`, 0 where there is none, and gives the sum. O(1). Since 1.0.
    fn incrby(&self, key: impl ToArg, by: i64) -> Self::Pending<i64> {
        self.run(Request::of(const { Spec::of("INCRBY") }).key(&key).int(by))
    }

    /// Adds `by` to the floating point number at `key`, 0 where there is none, and gives the sum.
    /// O(1). Since 2.6.
    fn incrbyfloat(&self, key: impl ToArg, by: f64) -> Self::Pending<f64> {
        self.run(Request::of(const { Spec::of("INCRBYFLOAT") }).key(&key).arg(&by))
    }

    /// Takes 1 from the number at `key`, 0 where there is none, and gives the rest. O(1). Since 1.0.
    fn decr(&self, key: impl ToArg) -> Self::Pending<i64> {
        self.run(Request::of(const { Spec::of("DECR") }).key(&key))
    }

    /// Takes `by` from the number at `key`, 0 where there is none, and gives the rest. O(1).
    /// Since 1.0.
    fn decrby(&self, key: impl ToArg, by: i64) -> Self::Pending<i64> {
        self.run(Request::of(const { Spec::of("DECRBY") }).key(&key).int(by))
    }

    /// The bit at `offset`, counted from the highest bit of the first byte; unset beyond the value's
    /// end. O(1). Since 2.2.
    fn getbit(&self, key: impl ToArg, offset: u32) -> Self::Pending<bool> {
        self.run(Request::of(const { Spec::of("GETBIT") }).key(&key).int(offset.into()))
    }

    /// Sets or clears the bit at `offset` and gives what it was before; the value grows with zero
    /// bytes as far as needed. O(1). Since 2.2.
    fn setbit(&self, key: impl ToArg, offset: u32, bit: bool) -> Self::Pending<bool> {
        let setbit = Request::of(const { Spec::of("SETBIT") });
        self.run(setbit.key(&key).int(offset.into()).int(bit.into()))
    }

    /// How many bits of the value at `key` are set. O(bytes). Since 2.6.
    fn bitcount(&self, key: impl ToArg) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("BITCOUNT") }).key(&key))
    }

    /// How many bits are set in the bytes from `start` to `end`, both counted in; negative positions
    /// count from the end. O(bytes). Since 2.6.
    fn bitcount_range(&self, key: impl ToArg, start: i64, end: i64) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("BITCOUNT") }).key(&key).int(start).int(end))
    }
}

impl<R: Run + ?Sized> Strings for R {}

/// How SET writes: on which condition, and until when.
///
/// ```
/// use std::time::Duration;
/// # use unfazed_core as unfazed_tokio;
/// use unfazed_tokio::prelude::*;
///
/// let lock = SetOptions::new().nx().ex(Duration::from_secs(30));
/// # let _ = lock;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    condition: Option<Condition>,
    ttl: Ttl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Nx,
    Xx,
}

/// What becomes of the key's time to live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ttl {
    #[default]
    Gone,
    Kept,
    Span(Duration),
    Until(SystemTime),
}

impl SetOptions {
    /// Whatever was there, for ever: as plain SET does.
    #[must_use]
    pub fn new() -> Self {
        SetOptions::default()
    }

    /// Only where there is no such key. Replaces `xx`.
    #[must_use]
    pub fn nx(self) -> Self {
        SetOptions { condition: Some(Condition::Nx), ..self }
    }

    /// Only where there is such a key. Replaces `nx`.
    #[must_use]
    pub fn xx(self) -> Self {
        SetOptions { condition: Some(Condition::Xx), ..self }
    }

    /// To expire after `ttl`, which goes out in whole milliseconds, rounded up. The server refuses a
    /// span of zero.
    #[must_use]
    pub fn ex(self, ttl: Duration) -> Self {
        SetOptions { ttl: Ttl::Span(ttl), ..self }
    }

    /// To expire at this moment by the server's clock. Since 6.2.
    #[must_use]
    pub fn ex_at(self, moment: SystemTime) -> Self {
        SetOptions { ttl: Ttl::Until(moment), ..self }
    }

    /// To expire when the value that was there would have. Since 6.0.
    #[must_use]
    pub fn keep_ttl(self) -> Self {
        SetOptions { ttl: Ttl::Kept, ..self }
    }

    fn onto(self, request: Request<'_>) -> Request<'_> {
        let request = match self.condition {
            None => request,
            Some(Condition::Nx) => request.arg("NX"),
            Some(Condition::Xx) => request.arg("XX"),
        };
        match self.ttl {
            Ttl::Gone => request,
            Ttl::Kept => request.arg("KEEPTTL"),
            Ttl::Span(ttl) => request.arg("PX").millis(ttl),
            Ttl::Until(moment) => request.arg("PXAT").unix_millis(moment),
        }
    }
}
