//! Commands that wait at the server until there is something for them.

use std::time::Duration;

use super::{ReadOptions, Run, ScoreEnd, Scored, Side, Spec, StreamRead};
use crate::{
    args::{ToArg, ToArgs, ToPairs},
    reply::FromReply,
    request::Request,
};

/// Commands that wait at the server until there is something for them, or until their time is over.
///
/// Each of them runs on a connection of its own, which it gets without any doing of its caller's: nobody
/// else waits behind it. There are up to `leases_max` such connections (64 unless configured otherwise; in a
/// cluster to each node); where all are in use, a further command waits for one within the client's
/// `deadline`, and then fails with [`Stage::Lease`](crate::failure::Stage::Lease).
///
/// # How long they wait
///
/// `wait` is how long the server is to wait, in whole milliseconds, rounded up; `None` is for ever. The
/// request as a whole ends after `wait` and the client's `deadline` at the latest, which is there for
/// getting a connection and for the answer. A limit that was set with
/// [`within`](crate::handle::Views::within) is for all of it: where it is shorter than `wait`, the command
/// ends with [`DeadlinePassed`](crate::FailureKind::DeadlinePassed), executed *no* as a rule.
///
/// A long wait is made of shorter ones at the server, of the client's `response_timeout` each, so that a
/// server that is dead is noticed within twice that time. Between two of them another client that waits
/// may be served first.
///
/// # What may be lost
///
/// Where the connection is lost, or the future of the command is dropped, while it waits, something may
/// have been taken from its key that never arrived. The failure says so: executed *maybe*. A future that
/// was dropped can be told nothing; then [`Event::GivenUp`](crate::Event::GivenUp) says it. What must not
/// be lost is to be moved ([`blmove`](Self::blmove)) or read from a stream as a member of a group.
///
/// # In a cluster
///
/// All keys of one have to be in one slot, those of the pipeline that it is part of among them; more are
/// refused before anything is sent. Where the slot moves to another node meanwhile, or its master steps
/// down, the wait goes on there. Where a connection is lost, what only reads does.
///
/// # While the server is down
///
/// They fail where their keys may degrade, and wait for it elsewhere.
///
/// # In pipelines and transactions
///
/// All commands of such a pipeline run on the connection of its own, in their order; there, waits are not
/// cut to pieces. In a transaction nothing waits.
///
/// On `memory://` they wait as well, and see within 10 ms what other clients of a shared store add.
pub trait Blocking: Run {
    /// Takes the first element of the first of these lists that has any: its key and the element, `None`
    /// where none came in time. O(keys). Since 2.0.
    fn blpop<K, T>(
        &self,
        keys: impl ToArgs,
        wait: impl Into<Option<Duration>>,
    ) -> Self::Pending<Option<(K, T)>>
    where
        K: FromReply + Send + 'static,
        T: FromReply + Send + 'static,
    {
        self.run(Request::of(const { Spec::of("BLPOP") }).args(&keys).wait_seconds(wait.into()))
    }

    /// As `blpop`, but takes the last element. O(keys). Since 2.0.
    fn brpop<K, T>(
        &self,
        keys: impl ToArgs,
        wait: impl Into<Option<Duration>>,
    ) -> Self::Pending<Option<(K, T)>>
    where
        K: FromReply + Send + 'static,
        T: FromReply + Send + 'static,
    {
        self.run(Request::of(const { Spec::of("BRPOP") }).args(&keys).wait_seconds(wait.into()))
    }

    /// Moves an element from one end of a list to one end of another, or of the same, and gives it; `None`
    /// where none came in time. O(1). Since 6.2.
    fn blmove<T: FromReply + Send + 'static>(
        &self,
        from: impl ToArg,
        to: impl ToArg,
        taken: Side,
        put: Side,
        wait: impl Into<Option<Duration>>,
    ) -> Self::Pending<Option<T>> {
        let blmove = Request::of(const { Spec::of("BLMOVE") }).key(&from).key(&to);
        self.run(blmove.arg(taken.word()).arg(put.word()).wait_seconds(wait.into()))
    }

    /// Moves the last element of a list before the first of another, or of the same, and gives it; `None`
    /// where none came in time. O(1). Since 2.2.
    fn brpoplpush<T: FromReply + Send + 'static>(
        &self,
        from: impl ToArg,
        to: impl ToArg,
        wait: impl Into<Option<Duration>>,
    ) -> Self::Pending<Option<T>> {
        let brpoplpush = Request::of(const { Spec::of("BRPOPLPUSH") }).key(&from).key(&to);
        self.run(brpoplpush.wait_seconds(wait.into()))
    }

    /// Takes up to `count` elements from the first of these lists that has any: its key and the elements,
    /// `None` where none came in time. O(keys + count). Since 7.0.
    fn blmpop<K, T>(
        &self,
        keys: impl ToArgs,
        side: Side,
        count: u64,
        wait: impl Into<Option<Duration>>,
    ) -> Self::Pending<Option<(K, Vec<T>)>>
    where
        K: FromReply + Send + 'static,
        T: FromReply + Send + 'static,
    {
        let blmpop = Request::of(const { Spec::of("BLMPOP") }).wait_seconds(wait.into());
        let blmpop = blmpop.count(&keys).args(&keys).arg(side.word());
        self.run(blmpop.arg("COUNT").arg(&count))
    }

    /// Takes the member with the lowest score from the first of these sorted sets that has any: its key,
    /// the member and its score; `None` where none came in time. O(log members). Since 5.0.
    fn bzpopmin<K, T>(
        &self,
        keys: impl ToArgs,
        wait: impl Into<Option<Duration>>,
    ) -> Self::Pending<Option<(K, T, f64)>>
    where
        K: FromReply + Send + 'static,
        T: FromReply + Send + 'static,
    {
        self.run(Request::of(const { Spec::of("BZPOPMIN") }).args(&keys).wait_seconds(wait.into()))
    }

    /// As `bzpopmin`, but takes the member with the highest score. O(log members). Since 5.0.
    fn bzpopmax<K, T>(
        &self,
        keys: impl ToArgs,
        wait: impl Into<Option<Duration>>,
    ) -> Self::Pending<Option<(K, T, f64)>>
    where
        K: FromReply + Send + 'static,
        T: FromReply + Send + 'static,
    {
        self.run(Request::of(const { Spec::of("BZPOPMAX") }).args(&keys).wait_seconds(wait.into()))
    }

    /// Takes up to `count` members from one end of the first of these sorted sets that has any: its key and
    /// the members, `None` where none came in time. O(keys + count × log members). Since 7.0.
    fn bzmpop<K, T>(
        &self,
        keys: impl ToArgs,
        end: ScoreEnd,
        count: u64,
        wait: impl Into<Option<Duration>>,
    ) -> Self::Pending<Option<(K, Scored<T>)>>
    where
        K: FromReply + Send + 'static,
        T: FromReply + Send + 'static,
    {
        let bzmpop = Request::of(const { Spec::of("BZMPOP") }).wait_seconds(wait.into());
        let bzmpop = bzmpop.count(&keys).args(&keys).arg(end.word());
        self.run(bzmpop.arg("COUNT").arg(&count))
    }

    /// As [`xread`](super::Streams::xread), but waits where no stream has anything; empty where nothing came
    /// in time. O(entries). Since 5.0.
    ///
    /// [`ReadFrom::New`](super::ReadFrom::New) is what is added from the moment on that the server takes
    /// the command, however long that is and through whatever connections: the client asks for the last id
    /// of such a stream once (XINFO STREAM) and reads from there. Where it may not ask that, the server
    /// waits in one piece.
    fn xread_blocking<T: FromReply + Send + 'static>(
        &self,
        streams: impl ToPairs,
        options: ReadOptions,
        wait: impl Into<Option<Duration>>,
    ) -> Self::Pending<Vec<StreamRead<T>>> {
        let xread = options.onto(Request::of(const { Spec::of("XREAD") }));
        let xread = xread.arg("BLOCK").wait_millis(wait.into());
        self.run(xread.arg("STREAMS").split_pairs(&streams))
    }

    /// As [`xreadgroup`](super::Streams::xreadgroup), but waits where no stream has anything new; empty
    /// where nothing came in time. O(entries). Since 5.0.
    ///
    /// What was on its way when the connection was lost is pending for the consumer.
    fn xreadgroup_blocking<T: FromReply + Send + 'static>(
        &self,
        group: impl ToArg,
        consumer: impl ToArg,
        streams: impl ToPairs,
        options: ReadOptions,
        wait: impl Into<Option<Duration>>,
    ) -> Self::Pending<Vec<StreamRead<T>>> {
        let read = Request::of(const { Spec::of("XREADGROUP") });
        let read = options.onto(read.arg("GROUP").arg(&group).arg(&consumer));
        let read = read.arg("BLOCK").wait_millis(wait.into());
        self.run(read.arg("STREAMS").split_pairs(&streams))
    }

    /// Waits until so many replicas have all that was written before on the same connection, and gives how
    /// many have, be it fewer because the time is over. O(1). Since 3.0.
    ///
    /// Only what its own connection wrote counts. So it is for a pipeline, after the writes that it is to
    /// wait for, and for a [`Dedicated`](crate::handle::Dedicated) connection; alone on a client it is
    /// refused, for the answer would be about nothing.
    fn wait(&self, replicas: u64, wait: impl Into<Option<Duration>>) -> Self::Pending<u64> {
        let request = Request::of(const { Spec::of("WAIT") }).arg(&replicas);
        self.run(request.wait_millis(wait.into()))
    }

    /// As `wait`, but until all of it was synced to disk: here if `here`, and on so many replicas. Gives how
    /// many servers that holds for: this one (0 or 1), and replicas. O(1). Since 7.2.
    fn waitaof(
        &self,
        here: bool,
        replicas: u64,
        wait: impl Into<Option<Duration>>,
    ) -> Self::Pending<(u64, u64)> {
        let request = Request::of(const { Spec::of("WAITAOF") }).int(here.into()).arg(&replicas);
        self.run(request.wait_millis(wait.into()))
    }
}

impl<R: Run + ?Sized> Blocking for R {}
