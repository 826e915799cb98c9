//! Sorted sets: members in the order of their scores.
//!
//! The commands are here, what they can be told in [`options`].

mod options;

use std::ops::RangeBounds;

pub use options::{Aggregate, Combine, LexRange, ScoreEnd, ZAddOptions, ZRange};
use options::{lex_bounds, score_bounds};

use super::{Run, ScanOptions, Spec};
use crate::{
    args::{ToArg, ToArgs, ToPairs},
    reply::FromReply,
    request::Request,
};

/// Commands on sorted sets.
///
/// Members with equal scores stand in the order of their bytes. A sorted set without members does not
/// exist; all of them answer with WRONGTYPE where the key holds something else.
///
/// Pairs are of a member and its score, in this order, whether they go out or come back: `zadd("board",
/// [("Ada", 12.0), ("Bob", 7.5)])`. Ranges of scores and of members are Rust's own, so that both kinds of
/// bounds are at hand: `1.0..5.0` is from 1 up to but not 5, `..` is all.
pub trait SortedSets: Run {
    /// Sets the scores of members, one or many, whether they are there or not, and gives how many are new.
    /// O(log members) each. Since 1.2; many at once since 2.4.
    fn zadd(&self, key: impl ToArg, scores: impl ToPairs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("ZADD") }).key(&key).swapped_pairs(&scores))
    }

    /// Sets the scores of members as `options` say, and gives how many are new; with
    /// [`changed`](ZAddOptions::changed) how many are new or have another score. O(log members) each.
    /// Since 3.0.2.
    fn zadd_with(
        &self,
        key: impl ToArg,
        scores: impl ToPairs,
        options: ZAddOptions,
    ) -> Self::Pending<u64> {
        let zadd = Request::of(const { Spec::of("ZADD") }).key(&key);
        self.run(options.onto(zadd).swapped_pairs(&scores))
    }

    /// Adds `by` to a member's score where `options` allow it, and gives the sum, or `None` where they do
    /// not. O(log members). Since 3.0.2.
    fn zadd_incr(
        &self,
        key: impl ToArg,
        member: impl ToArg,
        by: f64,
        options: ZAddOptions,
    ) -> Self::Pending<Option<f64>> {
        let zadd = options.onto(Request::of(const { Spec::of("ZADD") }).key(&key));
        self.run(zadd.arg("INCR").arg(&by).arg(&member))
    }

    /// Adds `by` to a member's score, 0 where it is not there, and gives the sum. O(log members).
    /// Since 1.2.
    fn zincrby(&self, key: impl ToArg, member: impl ToArg, by: f64) -> Self::Pending<f64> {
        self.run(Request::of(const { Spec::of("ZINCRBY") }).key(&key).arg(&by).arg(&member))
    }

    /// Removes members, one or many, and gives how many there were. O(log members) each. Since 1.2; many
    /// at once since 2.4.
    fn zrem(&self, key: impl ToArg, members: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("ZREM") }).key(&key).args(&members))
    }

    /// How many members there are. O(1). Since 1.2.
    fn zcard(&self, key: impl ToArg) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("ZCARD") }).key(&key))
    }

    /// How many members have scores in this range. O(log members). Since 2.0.
    fn zcount(&self, key: impl ToArg, scores: impl RangeBounds<f64>) -> Self::Pending<u64> {
        let (min, max) = score_bounds(&scores);
        self.run(Request::of(const { Spec::of("ZCOUNT") }).key(&key).arg(&min).arg(&max))
    }

    /// How many members are in this range, where all have the same score. O(log members). Since 2.8.9.
    fn zlexcount(&self, key: impl ToArg, members: impl LexRange) -> Self::Pending<u64> {
        let (min, max) = lex_bounds(&members);
        self.run(Request::of(const { Spec::of("ZLEXCOUNT") }).key(&key).arg(&min).arg(&max))
    }

    /// A member's score, or `None` where it is not there. O(1). Since 1.2.
    fn zscore(&self, key: impl ToArg, member: impl ToArg) -> Self::Pending<Option<f64>> {
        self.run(Request::of(const { Spec::of("ZSCORE") }).key(&key).arg(&member))
    }

    /// The scores of members, in their order, each `None` where it is not there. O(members given).
    /// Since 6.2.
    fn zmscore(&self, key: impl ToArg, members: impl ToArgs) -> Self::Pending<Vec<Option<f64>>> {
        self.run(Request::of(const { Spec::of("ZMSCORE") }).key(&key).args(&members))
    }

    /// How many members stand before this one, or `None` where it is not there. O(log members). Since 2.0.
    fn zrank(&self, key: impl ToArg, member: impl ToArg) -> Self::Pending<Option<u64>> {
        self.run(Request::of(const { Spec::of("ZRANK") }).key(&key).arg(&member))
    }

    /// How many members stand behind this one, or `None` where it is not there. O(log members). Since 2.0.
    fn zrevrank(&self, key: impl ToArg, member: impl ToArg) -> Self::Pending<Option<u64>> {
        self.run(Request::of(const { Spec::of("ZREVRANK") }).key(&key).arg(&member))
    }

    /// As `zrank`, with the score. O(log members). Since 7.2.
    fn zrank_with_score(
        &self,
        key: impl ToArg,
        member: impl ToArg,
    ) -> Self::Pending<Option<(u64, f64)>> {
        let zrank = Request::of(const { Spec::of("ZRANK") });
        self.run(zrank.key(&key).arg(&member).arg("WITHSCORE"))
    }

    /// As `zrevrank`, with the score. O(log members). Since 7.2.
    fn zrevrank_with_score(
        &self,
        key: impl ToArg,
        member: impl ToArg,
    ) -> Self::Pending<Option<(u64, f64)>> {
        let zrevrank = Request::of(const { Spec::of("ZREVRANK") });
        self.run(zrevrank.key(&key).arg(&member).arg("WITHSCORE"))
    }

    /// The members from rank `start` to rank `stop`, both counted in, lowest score first, into a `Vec`;
    /// negative ranks count from the end. O(log members + members returned). Since 1.2.
    fn zrange<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        start: i64,
        stop: i64,
    ) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("ZRANGE") }).key(&key).int(start).int(stop))
    }

    /// As `zrange`, with the scores. O(log members + members returned). Since 1.2.
    fn zrange_with_scores<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        start: i64,
        stop: i64,
    ) -> Self::Pending<Vec<(T, f64)>> {
        let zrange = Request::of(const { Spec::of("ZRANGE") });
        self.run(zrange.key(&key).int(start).int(stop).arg("WITHSCORES"))
    }

    /// The members of any range, from either end, all or a part of them, into a `Vec`. O(log members +
    /// offset + members returned). Since 6.2.
    fn zrange_by<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        range: ZRange,
    ) -> Self::Pending<T> {
        let zrange = Request::of(const { Spec::of("ZRANGE") }).key(&key);
        self.run(range.onto(zrange))
    }

    /// As `zrange_by`, with the scores. Since 6.2.
    fn zrange_by_with_scores<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        range: ZRange,
    ) -> Self::Pending<Vec<(T, f64)>> {
        let zrange = Request::of(const { Spec::of("ZRANGE") }).key(&key);
        self.run(range.onto(zrange).arg("WITHSCORES"))
    }

    /// Writes the members of a range, with their scores, over whatever is at `to`, and gives how many
    /// there are. O(log members + offset + members written). Since 6.2.
    fn zrangestore(&self, to: impl ToArg, from: impl ToArg, range: ZRange) -> Self::Pending<u64> {
        let zrangestore = Request::of(const { Spec::of("ZRANGESTORE") }).key(&to).key(&from);
        self.run(range.onto(zrangestore))
    }

    /// The members from rank `start` to rank `stop` counted from the highest score, that one first; for
    /// servers that are older than `zrange_by`. Since 1.2.
    fn zrevrange<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        start: i64,
        stop: i64,
    ) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("ZREVRANGE") }).key(&key).int(start).int(stop))
    }

    /// The members with scores in this range, lowest first; for servers that are older than `zrange_by`.
    /// O(log members + members returned). Since 1.0.5.
    fn zrangebyscore<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        scores: impl RangeBounds<f64>,
    ) -> Self::Pending<T> {
        let (min, max) = score_bounds(&scores);
        self.run(Request::of(const { Spec::of("ZRANGEBYSCORE") }).key(&key).arg(&min).arg(&max))
    }

    /// The members with scores in this range, highest first; for servers that are older than `zrange_by`.
    /// O(log members + members returned). Since 2.2.
    fn zrevrangebyscore<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        scores: impl RangeBounds<f64>,
    ) -> Self::Pending<T> {
        let (min, max) = score_bounds(&scores);
        let by_score = Request::of(const { Spec::of("ZREVRANGEBYSCORE") });
        self.run(by_score.key(&key).arg(&max).arg(&min))
    }

    /// The members in this range, where all have the same score; for servers that are older than
    /// `zrange_by`. O(log members + members returned). Since 2.8.9.
    fn zrangebylex<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        members: impl LexRange,
    ) -> Self::Pending<T> {
        let (min, max) = lex_bounds(&members);
        self.run(Request::of(const { Spec::of("ZRANGEBYLEX") }).key(&key).arg(&min).arg(&max))
    }

    /// As `zrangebylex`, from the last one on. Since 2.8.9.
    fn zrevrangebylex<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        members: impl LexRange,
    ) -> Self::Pending<T> {
        let (min, max) = lex_bounds(&members);
        self.run(Request::of(const { Spec::of("ZREVRANGEBYLEX") }).key(&key).arg(&max).arg(&min))
    }

    /// Removes the members from rank `start` to rank `stop`, both counted in, and gives how many there
    /// were. O(log members + members removed). Since 2.0.
    fn zremrangebyrank(&self, key: impl ToArg, start: i64, stop: i64) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("ZREMRANGEBYRANK") }).key(&key).int(start).int(stop))
    }

    /// Removes the members with scores in this range, and gives how many there were. O(log members +
    /// members removed). Since 1.2.
    fn zremrangebyscore(
        &self,
        key: impl ToArg,
        scores: impl RangeBounds<f64>,
    ) -> Self::Pending<u64> {
        let (min, max) = score_bounds(&scores);
        let by_score = Request::of(const { Spec::of("ZREMRANGEBYSCORE") });
        self.run(by_score.key(&key).arg(&min).arg(&max))
    }

    /// Removes the members in this range, where all have the same score, and gives how many there were.
    /// O(log members + members removed). Since 2.8.9.
    fn zremrangebylex(&self, key: impl ToArg, members: impl LexRange) -> Self::Pending<u64> {
        let (min, max) = lex_bounds(&members);
        self.run(Request::of(const { Spec::of("ZREMRANGEBYLEX") }).key(&key).arg(&min).arg(&max))
    }

    /// Takes the member with the lowest score, or `None` where there is none. O(log members). Since 5.0.
    fn zpopmin<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
    ) -> Self::Pending<Option<(T, f64)>> {
        self.run(Request::of(const { Spec::of("ZPOPMIN") }).key(&key))
    }

    /// Takes up to `count` members with the lowest scores. O(count × log members). Since 5.0.
    fn zpopmin_count<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        count: u64,
    ) -> Self::Pending<Vec<(T, f64)>> {
        self.run(Request::of(const { Spec::of("ZPOPMIN") }).key(&key).arg(&count))
    }

    /// Takes the member with the highest score, or `None` where there is none. O(log members). Since 5.0.
    fn zpopmax<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
    ) -> Self::Pending<Option<(T, f64)>> {
        self.run(Request::of(const { Spec::of("ZPOPMAX") }).key(&key))
    }

    /// Takes up to `count` members with the highest scores, the highest first. O(count × log members).
    /// Since 5.0.
    fn zpopmax_count<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        count: u64,
    ) -> Self::Pending<Vec<(T, f64)>> {
        self.run(Request::of(const { Spec::of("ZPOPMAX") }).key(&key).arg(&count))
    }

    /// Takes up to `count` members from one end of the first of these sets that has any: its key and the
    /// members, `None` where all are empty. O(keys + count × log members). Since 7.0.
    fn zmpop<K, T>(
        &self,
        keys: impl ToArgs,
        end: ScoreEnd,
        count: u64,
    ) -> Self::Pending<Option<(K, Scored<T>)>>
    where
        K: FromReply + Send + 'static,
        T: FromReply + Send + 'static,
    {
        let zmpop = Request::of(const { Spec::of("ZMPOP") }).count(&keys).args(&keys);
        self.run(zmpop.arg(end.word()).arg("COUNT").arg(&count))
    }

    /// A random member, or `None` where there is none. O(1). Since 6.2.
    fn zrandmember<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
    ) -> Self::Pending<Option<T>> {
        self.run(Request::of(const { Spec::of("ZRANDMEMBER") }).key(&key))
    }

    /// Up to `count` different random members, into a `Vec` or a set; exactly `-count`, the same ones
    /// among them perhaps, where it is negative. O(count). Since 6.2.
    fn zrandmember_count<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        count: i64,
    ) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("ZRANDMEMBER") }).key(&key).int(count))
    }

    /// As `zrandmember_count`, with the scores. O(count). Since 6.2.
    fn zrandmember_with_scores<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        count: i64,
    ) -> Self::Pending<Vec<(T, f64)>> {
        let zrandmember = Request::of(const { Spec::of("ZRANDMEMBER") });
        self.run(zrandmember.key(&key).int(count).arg("WITHSCORES"))
    }

    /// What is in any of these sets, lowest sum of scores first. O(members in all × log members returned).
    /// Since 6.2.
    fn zunion<T: FromReply + Send + 'static>(&self, keys: impl ToArgs) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("ZUNION") }).count(&keys).args(&keys))
    }

    /// As `zunion`, with the scores, which are put together as `combine` says. Since 6.2.
    fn zunion_with_scores<T: FromReply + Send + 'static>(
        &self,
        keys: impl ToArgs,
        combine: Combine,
    ) -> Self::Pending<Vec<(T, f64)>> {
        let zunion = Request::of(const { Spec::of("ZUNION") }).count(&keys).args(&keys);
        self.run(combine.onto(zunion).arg("WITHSCORES"))
    }

    /// Writes what is in any of these sets over whatever is at `to`, and gives how many members there are.
    /// O(members in all × log members written). Since 2.0.
    fn zunionstore(
        &self,
        to: impl ToArg,
        keys: impl ToArgs,
        combine: Combine,
    ) -> Self::Pending<u64> {
        let zunionstore = Request::of(const { Spec::of("ZUNIONSTORE") }).key(&to);
        self.run(combine.onto(zunionstore.count(&keys).args(&keys)))
    }

    /// What is in all of these sets, lowest sum of scores first. O(smallest set × sets). Since 6.2.
    fn zinter<T: FromReply + Send + 'static>(&self, keys: impl ToArgs) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("ZINTER") }).count(&keys).args(&keys))
    }

    /// As `zinter`, with the scores, which are put together as `combine` says. Since 6.2.
    fn zinter_with_scores<T: FromReply + Send + 'static>(
        &self,
        keys: impl ToArgs,
        combine: Combine,
    ) -> Self::Pending<Vec<(T, f64)>> {
        let zinter = Request::of(const { Spec::of("ZINTER") }).count(&keys).args(&keys);
        self.run(combine.onto(zinter).arg("WITHSCORES"))
    }

    /// Writes what is in all of these sets over whatever is at `to`, and gives how many members there are.
    /// O(smallest set × sets). Since 2.0.
    fn zinterstore(
        &self,
        to: impl ToArg,
        keys: impl ToArgs,
        combine: Combine,
    ) -> Self::Pending<u64> {
        let zinterstore = Request::of(const { Spec::of("ZINTERSTORE") }).key(&to);
        self.run(combine.onto(zinterstore.count(&keys).args(&keys)))
    }

    /// How many members are in all of these sets. O(smallest set × sets). Since 7.0.
    fn zintercard(&self, keys: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("ZINTERCARD") }).count(&keys).args(&keys))
    }

    /// The same, counted up to `limit`, where the server stops; 0 is no limit. Since 7.0.
    fn zintercard_limit(&self, keys: impl ToArgs, limit: u64) -> Self::Pending<u64> {
        let zintercard = Request::of(const { Spec::of("ZINTERCARD") }).count(&keys).args(&keys);
        self.run(zintercard.arg("LIMIT").arg(&limit))
    }

    /// What is in the first of these sets and in none of the others. O(members in all). Since 6.2.
    fn zdiff<T: FromReply + Send + 'static>(&self, keys: impl ToArgs) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("ZDIFF") }).count(&keys).args(&keys))
    }

    /// As `zdiff`, with the scores. Since 6.2.
    fn zdiff_with_scores<T: FromReply + Send + 'static>(
        &self,
        keys: impl ToArgs,
    ) -> Self::Pending<Vec<(T, f64)>> {
        let zdiff = Request::of(const { Spec::of("ZDIFF") }).count(&keys).args(&keys);
        self.run(zdiff.arg("WITHSCORES"))
    }

    /// Writes what `zdiff` gives over whatever is at `to`, and gives how many members there are. O(members
    /// in all). Since 6.2.
    fn zdiffstore(&self, to: impl ToArg, keys: impl ToArgs) -> Self::Pending<u64> {
        let zdiffstore = Request::of(const { Spec::of("ZDIFFSTORE") }).key(&to);
        self.run(zdiffstore.count(&keys).args(&keys))
    }

    /// One step through a sorted set too big to be read at once: the cursor for the next step (0: that was
    /// all) and members with their scores. Begin with cursor 0. [`Scans`](crate::dialogue::Scans) go all
    /// the way. O(1) a step. Since 2.8.
    ///
    /// A member that is there all the while comes up at least once, and may come up twice; of `options` a
    /// sorted set heeds the pattern and the count.
    fn zscan_page<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        cursor: u64,
        options: ScanOptions<'_>,
    ) -> Self::Pending<(u64, Vec<(T, f64)>)> {
        let zscan = Request::of(const { Spec::of("ZSCAN") });
        self.run(options.onto(zscan.key(&key).arg(&cursor)))
    }
}

impl<R: Run + ?Sized> SortedSets for R {}

/// Members with their scores.
pub type Scored<T> = Vec<(T, f64)>;
