//! Streams: entries that are appended, and groups of consumers that share them.
//!
//! The commands are here; [`id`] is what entries are called, [`entries`] and [`info`] are what comes back,
//! [`options`] what goes in.

mod entries;
mod id;
mod info;
mod options;

use std::{ops::RangeBounds, time::Duration};

pub use entries::{
    Claimed, ClaimedIds, EntryDeletion, PendingEntry, PendingSummary, StreamEntry, StreamRead,
};
use id::id_bounds;
pub use id::{ParseStreamIdError, StreamId};
pub use info::{
    ConsumerDetails, ConsumerInfo, GroupDetails, GroupInfo, PendingDelivery, StreamDetails,
    StreamInfo,
};
pub use options::{
    ClaimOptions, GroupOptions, GroupRead, GroupStart, PendingFilter, ReadFrom, ReadOptions,
    References, Trim, XAddOptions,
};

use super::{Run, Spec};
use crate::{
    args::{ToArg, ToArgs, ToPairs},
    reply::FromReply,
    request::Request,
};

/// Commands on streams.
///
/// `T` is what the fields of an entry become: a map, a `Vec` of pairs, or a type of your own. Ranges of ids
/// are Rust's own: `xrange("log", ..)` is all, `xrange("log", id..)` is from this entry on. All of them
/// answer with WRONGTYPE where the key holds something else.
///
/// [`Consumers`](crate::dialogue::Consumers) put these commands together to consume streams as a member of
/// a group.
pub trait Streams: Run {
    /// Adds an entry under the next id and gives that. O(1). Since 5.0.
    fn xadd(&self, key: impl ToArg, fields: impl ToPairs) -> Self::Pending<StreamId> {
        let xadd = Request::of(const { Spec::of("XADD") }).key(&key).arg("*");
        self.run(xadd.pairs(&fields))
    }

    /// Adds an entry as `options` say and gives its id, or `None` where there is no stream and none was to
    /// be made. O(1), and O(entries trimmed). Since 5.0; some options need later versions.
    fn xadd_with(
        &self,
        key: impl ToArg,
        fields: impl ToPairs,
        options: XAddOptions,
    ) -> Self::Pending<Option<StreamId>> {
        let xadd = Request::of(const { Spec::of("XADD") }).key(&key);
        self.run(options.onto(xadd).pairs(&fields))
    }

    /// How many entries there are. O(1). Since 5.0.
    fn xlen(&self, key: impl ToArg) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("XLEN") }).key(&key))
    }

    /// The entries in a range of ids, oldest first. O(entries). Since 5.0; bounds that are not counted in
    /// since 6.2.
    fn xrange<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        ids: impl RangeBounds<StreamId>,
    ) -> Self::Pending<Vec<StreamEntry<T>>> {
        let (start, end) = id_bounds(&ids);
        self.run(Request::of(const { Spec::of("XRANGE") }).key(&key).arg(&start).arg(&end))
    }

    /// The first `count` entries in a range of ids, oldest first. O(count). Since 5.0; bounds that are not
    /// counted in since 6.2.
    fn xrange_count<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        ids: impl RangeBounds<StreamId>,
        count: u64,
    ) -> Self::Pending<Vec<StreamEntry<T>>> {
        let (start, end) = id_bounds(&ids);
        let xrange = Request::of(const { Spec::of("XRANGE") }).key(&key).arg(&start).arg(&end);
        self.run(xrange.arg("COUNT").arg(&count))
    }

    /// The entries in a range of ids, newest first. O(entries). Since 5.0; bounds that are not counted in
    /// since 6.2.
    fn xrevrange<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        ids: impl RangeBounds<StreamId>,
    ) -> Self::Pending<Vec<StreamEntry<T>>> {
        let (start, end) = id_bounds(&ids);
        self.run(Request::of(const { Spec::of("XREVRANGE") }).key(&key).arg(&end).arg(&start))
    }

    /// The last `count` entries in a range of ids, newest first. O(count). Since 5.0; bounds that are not
    /// counted in since 6.2.
    fn xrevrange_count<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        ids: impl RangeBounds<StreamId>,
        count: u64,
    ) -> Self::Pending<Vec<StreamEntry<T>>> {
        let (start, end) = id_bounds(&ids);
        let xrevrange = Request::of(const { Spec::of("XREVRANGE") }).key(&key).arg(&end);
        self.run(xrevrange.arg(&start).arg("COUNT").arg(&count))
    }

    /// Reads streams, each from a place of its own: `xread([("a", ReadFrom::After(id)), …])`. Streams
    /// that have nothing are left out. O(entries). Since 5.0.
    fn xread<T: FromReply + Send + 'static>(
        &self,
        streams: impl ToPairs,
        options: ReadOptions,
    ) -> Self::Pending<Vec<StreamRead<T>>> {
        let xread = options.onto(Request::of(const { Spec::of("XREAD") }));
        self.run(xread.arg("STREAMS").split_pairs(&streams))
    }

    /// Reads streams as a consumer of a group: `xreadgroup("group", "me", ("a", GroupRead::New), …)`.
    /// Streams that have nothing are left out, but for those of which what is pending was asked for.
    /// O(entries). Since 5.0.
    ///
    /// An entry that is pending and was deleted from the stream has no fields: where those are read, ask
    /// for an `Option<T>`.
    fn xreadgroup<T: FromReply + Send + 'static>(
        &self,
        group: impl ToArg,
        consumer: impl ToArg,
        streams: impl ToPairs,
        options: ReadOptions,
    ) -> Self::Pending<Vec<StreamRead<T>>> {
        let xreadgroup = Request::of(const { Spec::of("XREADGROUP") });
        let xreadgroup = options.onto(xreadgroup.arg("GROUP").arg(&group).arg(&consumer));
        self.run(xreadgroup.arg("STREAMS").split_pairs(&streams))
    }

    /// Acknowledges entries, one or many, for a group: they are pending no more. Gives how many were.
    /// O(ids). Since 5.0.
    fn xack(&self, key: impl ToArg, group: impl ToArg, ids: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("XACK") }).key(&key).arg(&group).args(&ids))
    }

    /// Deletes entries, one or many, and gives how many there were. O(ids). Since 5.0.
    fn xdel(&self, key: impl ToArg, ids: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("XDEL") }).key(&key).args(&ids))
    }

    /// Deletes entries, one or many, with what becomes of the references that groups have to them. O(ids).
    /// Redis, since 8.2.
    fn xdelex(
        &self,
        key: impl ToArg,
        references: References,
        ids: impl ToArgs,
    ) -> Self::Pending<Vec<EntryDeletion>> {
        let xdelex = Request::of(const { Spec::of("XDELEX") }).key(&key).arg(references.word());
        self.run(xdelex.arg("IDS").count(&ids).args(&ids))
    }

    /// Acknowledges entries, one or many, and deletes them at the same time. O(ids). Redis, since 8.2.
    fn xackdel(
        &self,
        key: impl ToArg,
        group: impl ToArg,
        references: References,
        ids: impl ToArgs,
    ) -> Self::Pending<Vec<EntryDeletion>> {
        let xackdel = Request::of(const { Spec::of("XACKDEL") }).key(&key).arg(&group);
        self.run(xackdel.arg(references.word()).arg("IDS").count(&ids).args(&ids))
    }

    /// Deletes entries from the beginning, and gives how many. O(entries deleted). Since 5.0.
    fn xtrim(&self, key: impl ToArg, trim: Trim) -> Self::Pending<u64> {
        self.run(trim.onto(Request::of(const { Spec::of("XTRIM") }).key(&key)))
    }

    /// Says which id was the last that was added. For those who rebuild a stream. O(1). Since 5.0.
    fn xsetid(&self, key: impl ToArg, last: StreamId) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("XSETID") }).key(&key).arg(&last))
    }

    /// The same, with how many were ever added and which deleted one had the highest id. O(1). Since 7.0.
    fn xsetid_with(
        &self,
        key: impl ToArg,
        last: StreamId,
        entries_added: u64,
        max_deleted: StreamId,
    ) -> Self::Pending<()> {
        let xsetid = Request::of(const { Spec::of("XSETID") }).key(&key).arg(&last);
        let xsetid = xsetid.arg("ENTRIESADDED").arg(&entries_added);
        self.run(xsetid.arg("MAXDELETEDID").arg(&max_deleted))
    }

    /// Makes a group; an error where there is one of that name (BUSYGROUP). O(1). Since 5.0.
    fn xgroup_create(
        &self,
        key: impl ToArg,
        group: impl ToArg,
        start: GroupStart,
        options: GroupOptions,
    ) -> Self::Pending<()> {
        let create = Request::of(const { Spec::of("XGROUP CREATE") }).key(&key).arg(&group);
        self.run(options.onto(create.arg(&start)))
    }

    /// Has a group begin anew somewhere else. O(1). Since 5.0.
    fn xgroup_setid(
        &self,
        key: impl ToArg,
        group: impl ToArg,
        start: GroupStart,
    ) -> Self::Pending<()> {
        let setid = Request::of(const { Spec::of("XGROUP SETID") });
        self.run(setid.key(&key).arg(&group).arg(&start))
    }

    /// Deletes a group with all that is pending in it, and says whether there was one. O(pending). Since 5.0.
    fn xgroup_destroy(&self, key: impl ToArg, group: impl ToArg) -> Self::Pending<bool> {
        self.run(Request::of(const { Spec::of("XGROUP DESTROY") }).key(&key).arg(&group))
    }

    /// Makes a consumer, which reading as one does as well, and says whether there was none. O(1).
    /// Since 6.2.
    fn xgroup_createconsumer(
        &self,
        key: impl ToArg,
        group: impl ToArg,
        consumer: impl ToArg,
    ) -> Self::Pending<bool> {
        let create = Request::of(const { Spec::of("XGROUP CREATECONSUMER") });
        self.run(create.key(&key).arg(&group).arg(&consumer))
    }

    /// Deletes a consumer and gives how many entries were pending for it, which nobody can claim any more.
    /// O(pending). Since 5.0.
    fn xgroup_delconsumer(
        &self,
        key: impl ToArg,
        group: impl ToArg,
        consumer: impl ToArg,
    ) -> Self::Pending<u64> {
        let delete = Request::of(const { Spec::of("XGROUP DELCONSUMER") });
        self.run(delete.key(&key).arg(&group).arg(&consumer))
    }

    /// What a group has delivered and nobody acknowledged, in sum. O(consumers). Since 5.0.
    fn xpending(&self, key: impl ToArg, group: impl ToArg) -> Self::Pending<PendingSummary> {
        self.run(Request::of(const { Spec::of("XPENDING") }).key(&key).arg(&group))
    }

    /// The first `count` entries in a range of ids that are delivered and not acknowledged, those that
    /// `filter` lets through. O(entries looked at). Since 5.0.
    fn xpending_range(
        &self,
        key: impl ToArg,
        group: impl ToArg,
        ids: impl RangeBounds<StreamId>,
        count: u64,
        filter: PendingFilter<'_>,
    ) -> Self::Pending<Vec<PendingEntry>> {
        let (start, end) = id_bounds(&ids);
        let xpending = Request::of(const { Spec::of("XPENDING") }).key(&key).arg(&group);
        let xpending = match filter.min_idle {
            Some(span) => xpending.arg("IDLE").millis(span),
            None => xpending,
        };
        let xpending = xpending.arg(&start).arg(&end).arg(&count);
        self.run(xpending.maybe(filter.consumer.as_ref()))
    }

    /// Claims entries for a consumer that others have and that were delivered `min_idle` ago or longer.
    /// Those that are not pending or not idle for long enough are left out. O(ids). Since 5.0.
    fn xclaim<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        group: impl ToArg,
        consumer: impl ToArg,
        min_idle: Duration,
        ids: impl ToArgs,
    ) -> Self::Pending<Vec<StreamEntry<T>>> {
        let xclaim = Request::of(const { Spec::of("XCLAIM") }).key(&key).arg(&group);
        self.run(xclaim.arg(&consumer).millis(min_idle).args(&ids))
    }

    /// The same, with what is to be noted of their delivery. O(ids). Since 5.0.
    fn xclaim_with<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        group: impl ToArg,
        consumer: impl ToArg,
        min_idle: Duration,
        ids: impl ToArgs,
        options: ClaimOptions,
    ) -> Self::Pending<Vec<StreamEntry<T>>> {
        let xclaim = Request::of(const { Spec::of("XCLAIM") }).key(&key).arg(&group);
        self.run(options.onto(xclaim.arg(&consumer).millis(min_idle).args(&ids)))
    }

    /// As `xclaim`, but gives only the ids, and does not count it as a delivery. O(ids). Since 5.0.
    fn xclaim_ids(
        &self,
        key: impl ToArg,
        group: impl ToArg,
        consumer: impl ToArg,
        min_idle: Duration,
        ids: impl ToArgs,
    ) -> Self::Pending<Vec<StreamId>> {
        let xclaim = Request::of(const { Spec::of("XCLAIM") }).key(&key).arg(&group);
        self.run(xclaim.arg(&consumer).millis(min_idle).args(&ids).arg("JUSTID"))
    }

    /// Claims up to `count` entries for a consumer that others have and that were delivered `min_idle` ago
    /// or longer, from `start` on. O(count). Since 6.2.
    fn xautoclaim<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        group: impl ToArg,
        consumer: impl ToArg,
        min_idle: Duration,
        start: StreamId,
        count: u64,
    ) -> Self::Pending<Claimed<T>> {
        let claim = Request::of(const { Spec::of("XAUTOCLAIM") }).key(&key).arg(&group);
        let claim = claim.arg(&consumer).millis(min_idle).arg(&start);
        self.run(claim.arg("COUNT").arg(&count))
    }

    /// The same, but gives only the ids, and does not count it as a delivery. O(count). Since 6.2.
    fn xautoclaim_ids(
        &self,
        key: impl ToArg,
        group: impl ToArg,
        consumer: impl ToArg,
        min_idle: Duration,
        start: StreamId,
        count: u64,
    ) -> Self::Pending<ClaimedIds> {
        let claim = Request::of(const { Spec::of("XAUTOCLAIM") }).key(&key).arg(&group);
        let claim = claim.arg(&consumer).millis(min_idle).arg(&start);
        self.run(claim.arg("COUNT").arg(&count).arg("JUSTID"))
    }

    /// What the server knows of a stream; an error where there is none. O(1). Since 5.0.
    fn xinfo_stream<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
    ) -> Self::Pending<StreamInfo<T>> {
        self.run(Request::of(const { Spec::of("XINFO STREAM") }).key(&key))
    }

    /// A stream with its first `count` entries, and its groups and consumers each with as many pending
    /// ones; all of them where it is 0. O(entries). Since 6.0.
    fn xinfo_stream_full<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        count: u64,
    ) -> Self::Pending<StreamDetails<T>> {
        let full = Request::of(const { Spec::of("XINFO STREAM") }).key(&key).arg("FULL");
        self.run(full.arg("COUNT").arg(&count))
    }

    /// The groups of a stream; an error where there is no stream. O(groups). Since 5.0.
    fn xinfo_groups(&self, key: impl ToArg) -> Self::Pending<Vec<GroupInfo>> {
        self.run(Request::of(const { Spec::of("XINFO GROUPS") }).key(&key))
    }

    /// The consumers of a group; an error where there is no such group. O(consumers). Since 5.0.
    fn xinfo_consumers(
        &self,
        key: impl ToArg,
        group: impl ToArg,
    ) -> Self::Pending<Vec<ConsumerInfo>> {
        self.run(Request::of(const { Spec::of("XINFO CONSUMERS") }).key(&key).arg(&group))
    }
}

impl<R: Run + ?Sized> Streams for R {}
