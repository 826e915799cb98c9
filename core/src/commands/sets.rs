//! Sets: members without an order, each once.

use super::{Run, ScanOptions, Spec};
use crate::{
    args::{ToArg, ToArgs},
    reply::FromReply,
    request::Request,
};

/// Commands on sets.
///
/// A set without members does not exist; all of them answer with WRONGTYPE where the key holds something
/// else. What gives members gives them in no order, into a `Vec` or a set.
pub trait Sets: Run {
    /// Adds members, one or many, and gives how many are new. O(members given). Since 1.0; many at once
    /// since 2.4.
    fn sadd(&self, key: impl ToArg, members: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("SADD") }).key(&key).args(&members))
    }

    /// Removes members, one or many, and gives how many there were. O(members given). Since 1.0; many at
    /// once since 2.4.
    fn srem(&self, key: impl ToArg, members: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("SREM") }).key(&key).args(&members))
    }

    /// Moves a member from one set to another; `false` where it is not in the first. O(1). Since 1.0.
    fn smove(&self, from: impl ToArg, to: impl ToArg, member: impl ToArg) -> Self::Pending<bool> {
        self.run(Request::of(const { Spec::of("SMOVE") }).key(&from).key(&to).arg(&member))
    }

    /// How many members there are. O(1). Since 1.0.
    fn scard(&self, key: impl ToArg) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("SCARD") }).key(&key))
    }

    /// Whether this is a member. O(1). Since 1.0.
    fn sismember(&self, key: impl ToArg, member: impl ToArg) -> Self::Pending<bool> {
        self.run(Request::of(const { Spec::of("SISMEMBER") }).key(&key).arg(&member))
    }

    /// Which of these are members, in their order. O(members given). Since 6.2.
    fn smismember(&self, key: impl ToArg, members: impl ToArgs) -> Self::Pending<Vec<bool>> {
        self.run(Request::of(const { Spec::of("SMISMEMBER") }).key(&key).args(&members))
    }

    /// All members. O(members), while which the server does nothing else:
    /// [`sscan`](crate::dialogue::Scans::sscan) where there are many. Since 1.0.
    fn smembers<T: FromReply + Send + 'static>(&self, key: impl ToArg) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("SMEMBERS") }).key(&key))
    }

    /// Takes a random member, or `None` where there is none. O(1). Since 1.0.
    fn spop<T: FromReply + Send + 'static>(&self, key: impl ToArg) -> Self::Pending<Option<T>> {
        self.run(Request::of(const { Spec::of("SPOP") }).key(&key))
    }

    /// Takes up to `count` random members. O(count). Since 3.2.
    fn spop_count<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        count: u64,
    ) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("SPOP") }).key(&key).arg(&count))
    }

    /// A random member, or `None` where there is none. O(1). Since 1.0.
    fn srandmember<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
    ) -> Self::Pending<Option<T>> {
        self.run(Request::of(const { Spec::of("SRANDMEMBER") }).key(&key))
    }

    /// Up to `count` different random members; exactly `-count`, the same ones among them perhaps, where
    /// it is negative. O(count). Since 2.6.
    fn srandmember_count<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        count: i64,
    ) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("SRANDMEMBER") }).key(&key).int(count))
    }

    /// What is in all of these sets. O(smallest set × sets). Since 1.0.
    fn sinter<T: FromReply + Send + 'static>(&self, keys: impl ToArgs) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("SINTER") }).args(&keys))
    }

    /// How many members are in all of these sets. O(smallest set × sets). Since 7.0.
    fn sintercard(&self, keys: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("SINTERCARD") }).count(&keys).args(&keys))
    }

    /// The same, counted up to `limit`, where the server stops; 0 is no limit. Since 7.0.
    fn sintercard_limit(&self, keys: impl ToArgs, limit: u64) -> Self::Pending<u64> {
        let sintercard = Request::of(const { Spec::of("SINTERCARD") }).count(&keys).args(&keys);
        self.run(sintercard.arg("LIMIT").arg(&limit))
    }

    /// What is in any of these sets. O(members in all). Since 1.0.
    fn sunion<T: FromReply + Send + 'static>(&self, keys: impl ToArgs) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("SUNION") }).args(&keys))
    }

    /// What is in the first of these sets and in none of the others. O(members in all). Since 1.0.
    fn sdiff<T: FromReply + Send + 'static>(&self, keys: impl ToArgs) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("SDIFF") }).args(&keys))
    }

    /// Writes what `sinter` gives over whatever is at `to`, and gives how many members it has.
    /// O(smallest set × sets). Since 1.0.
    fn sinterstore(&self, to: impl ToArg, keys: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("SINTERSTORE") }).key(&to).args(&keys))
    }

    /// Writes what `sunion` gives over whatever is at `to`, and gives how many members it has. O(members
    /// in all). Since 1.0.
    fn sunionstore(&self, to: impl ToArg, keys: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("SUNIONSTORE") }).key(&to).args(&keys))
    }

    /// Writes what `sdiff` gives over whatever is at `to`, and gives how many members it has. O(members in
    /// all). Since 1.0.
    fn sdiffstore(&self, to: impl ToArg, keys: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("SDIFFSTORE") }).key(&to).args(&keys))
    }

    /// One step through a set too big to be read at once: the cursor for the next step (0: that was all)
    /// and members. Begin with cursor 0. [`Scans`](crate::dialogue::Scans) go all the way. O(1) a step.
    /// Since 2.8.
    ///
    /// A member that is there all the while comes up at least once, and may come up twice; of `options` a
    /// set heeds the pattern and the count.
    fn sscan_page<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        cursor: u64,
        options: ScanOptions<'_>,
    ) -> Self::Pending<(u64, T)> {
        let sscan = Request::of(const { Spec::of("SSCAN") });
        self.run(options.onto(sscan.key(&key).arg(&cursor)))
    }
}

impl<R: Run + ?Sized> Sets for R {}
