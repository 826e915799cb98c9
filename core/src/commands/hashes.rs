//! Hashes: fields with values, under one key.

use super::{Run, ScanOptions, Spec};
use crate::{
    args::{ToArg, ToArgs, ToPairs},
    reply::FromReply,
    request::Request,
};

/// Commands on hashes.
///
/// A hash without fields does not exist; all of them answer with WRONGTYPE where the key holds
/// something else.
pub trait Hashes: Run {
    /// Reads the value of a field, or `None` where there is no such field or key. O(1). Since 2.0.
    fn hget<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        field: impl ToArg,
    ) -> Self::Pending<Option<T>> {
        self.run(Request::of(const { Spec::of("HGET") }).key(&key).arg(&field))
    }

    /// Writes pairs of field and value, one or many, whatever was there, and gives how many of the
    /// fields are new: `client.hset("user:7", ("name", "Ada"))`, or a map, array or `Vec` of pairs.
    /// O(pairs). Since 2.0; many at once since 4.0.
    fn hset(&self, key: impl ToArg, pairs: impl ToPairs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("HSET") }).key(&key).pairs(&pairs))
    }

    /// Writes a field where there is no such field, and says whether it did. O(1). Since 2.0.
    fn hsetnx(&self, key: impl ToArg, field: impl ToArg, value: impl ToArg) -> Self::Pending<bool> {
        self.run(Request::of(const { Spec::of("HSETNX") }).key(&key).arg(&field).arg(&value))
    }

    /// Reads the values of `fields`, in their order, each `None` where there is no such field: `T` is
    /// `Vec<Option<String>>`, say, or a tuple of options. O(fields). Since 2.0.
    fn hmget<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        fields: impl ToArgs,
    ) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("HMGET") }).key(&key).args(&fields))
    }

    /// Reads all fields with their values, into a map or a `Vec` of pairs; empty where there is no
    /// such key. O(size of the hash). Since 2.0.
    fn hgetall<T: FromReply + Send + 'static>(&self, key: impl ToArg) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("HGETALL") }).key(&key))
    }

    /// Deletes fields, one or many, and gives how many there were. O(fields). Since 2.0; many at once
    /// since 2.4.
    fn hdel(&self, key: impl ToArg, fields: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("HDEL") }).key(&key).args(&fields))
    }

    /// Whether there is such a field. O(1). Since 2.0.
    fn hexists(&self, key: impl ToArg, field: impl ToArg) -> Self::Pending<bool> {
        self.run(Request::of(const { Spec::of("HEXISTS") }).key(&key).arg(&field))
    }

    /// How many fields there are. O(1). Since 2.0.
    fn hlen(&self, key: impl ToArg) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("HLEN") }).key(&key))
    }

    /// All field names, into a `Vec` or a set. O(size of the hash). Since 2.0.
    fn hkeys<T: FromReply + Send + 'static>(&self, key: impl ToArg) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("HKEYS") }).key(&key))
    }

    /// All values. O(size of the hash). Since 2.0.
    fn hvals<T: FromReply + Send + 'static>(&self, key: impl ToArg) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("HVALS") }).key(&key))
    }

    /// Adds `by` to the number in a field, 0 where there is none, and gives the sum. O(1). Since 2.0.
    fn hincrby(&self, key: impl ToArg, field: impl ToArg, by: i64) -> Self::Pending<i64> {
        self.run(Request::of(const { Spec::of("HINCRBY") }).key(&key).arg(&field).int(by))
    }

    /// Adds `by` to the floating point number in a field, 0 where there is none, and gives the sum.
    /// O(1). Since 2.6.
    fn hincrbyfloat(&self, key: impl ToArg, field: impl ToArg, by: f64) -> Self::Pending<f64> {
        self.run(Request::of(const { Spec::of("HINCRBYFLOAT") }).key(&key).arg(&field).arg(&by))
    }

    /// The length in bytes of a field's value, 0 where there is none. O(1). Since 3.2.
    fn hstrlen(&self, key: impl ToArg, field: impl ToArg) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("HSTRLEN") }).key(&key).arg(&field))
    }

    /// A random field's name, or `None` where there is no such key. O(1). Since 6.2.
    fn hrandfield<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
    ) -> Self::Pending<Option<T>> {
        self.run(Request::of(const { Spec::of("HRANDFIELD") }).key(&key))
    }

    /// The names of up to `count` different random fields; of exactly `-count`, the same ones among
    /// them perhaps, where it is negative. O(count). Since 6.2.
    fn hrandfield_count<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        count: i64,
    ) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("HRANDFIELD") }).key(&key).int(count))
    }

    /// As `hrandfield_count`, with the values: pairs, into a map or a `Vec`. O(count). Since 6.2.
    fn hrandfield_with_values<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        count: i64,
    ) -> Self::Pending<T> {
        let hrandfield = Request::of(const { Spec::of("HRANDFIELD") });
        self.run(hrandfield.key(&key).int(count).arg("WITHVALUES"))
    }

    /// One step through a hash too big to be read at once: the cursor for the next step (0: that was
    /// all) and pairs of field and value. Begin with cursor 0. O(1) a step. Since 2.8.
    ///
    /// A field that is there all the while comes up at least once, and may come up twice; of `options`
    /// a hash heeds the pattern and the count.
    fn hscan_page<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        cursor: u64,
        options: ScanOptions<'_>,
    ) -> Self::Pending<(u64, T)> {
        let hscan = Request::of(const { Spec::of("HSCAN") });
        self.run(options.onto(hscan.key(&key).arg(&cursor)))
    }
}

impl<R: Run + ?Sized> Hashes for R {}
