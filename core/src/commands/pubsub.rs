//! Publishing, and what a server says of its subscribers.

use super::{Run, Spec};
use crate::{
    args::{ToArg, ToArgs},
    reply::FromReply,
    request::Request,
};

/// Commands that publish messages and ask about channels.
///
/// To receive messages, see [`Subscribe`](crate::handle::Subscribe).
///
/// In a cluster `publish` reaches every node, and what is said of channels is what one node knows.
pub trait PubSub: Run {
    /// Publishes `message` on `channel` and gives how many subscriptions it reached on the server that
    /// was asked. O(subscriptions + patterns). Since 2.0.
    ///
    /// A message reaches those who are subscribed at this moment, at most once, and is kept for nobody.
    /// It is not published again by itself once it may have been: that would be two messages.
    ///
    /// Where some keys may degrade it does not wait for a server that is down, but fails at once, until there
    /// is a connection again: see [`Publish`](crate::config::Publish), which also says how to have it otherwise.
    fn publish(&self, channel: impl ToArg, message: impl ToArg) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("PUBLISH") }).arg(&channel).arg(&message))
    }

    /// Publishes `message` on a shard channel, which lies in a slot as a key does, and gives how many
    /// subscriptions it reached. O(subscriptions). Since 7.0.
    fn spublish(&self, channel: impl ToArg, message: impl ToArg) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("SPUBLISH") }).key(&channel).arg(&message))
    }

    /// The channels that anybody is subscribed to, those of patterns not among them, into a `Vec` or a
    /// set. O(channels). Since 2.8.
    fn pubsub_channels<T: FromReply + Send + 'static>(&self) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("PUBSUB CHANNELS") }))
    }

    /// Those of them that match the glob-style `pattern`. O(channels). Since 2.8.
    fn pubsub_channels_matching<T: FromReply + Send + 'static>(
        &self,
        pattern: impl ToArg,
    ) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("PUBSUB CHANNELS") }).arg(&pattern))
    }

    /// How many subscriptions each of these channels has, those of patterns not among them, into a map
    /// or a `Vec` of pairs. O(channels asked about). Since 2.8.
    fn pubsub_numsub<T: FromReply + Send + 'static>(
        &self,
        channels: impl ToArgs,
    ) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("PUBSUB NUMSUB") }).args(&channels))
    }

    /// How many patterns anybody is subscribed to, each counted once. O(1). Since 2.8.
    fn pubsub_numpat(&self) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("PUBSUB NUMPAT") }))
    }

    /// The shard channels that anybody is subscribed to, into a `Vec` or a set. O(channels). Since 7.0.
    fn pubsub_shardchannels<T: FromReply + Send + 'static>(&self) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("PUBSUB SHARDCHANNELS") }))
    }

    /// Those of them that match the glob-style `pattern`. O(channels). Since 7.0.
    fn pubsub_shardchannels_matching<T: FromReply + Send + 'static>(
        &self,
        pattern: impl ToArg,
    ) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("PUBSUB SHARDCHANNELS") }).arg(&pattern))
    }

    /// How many subscriptions each of these shard channels has, into a map or a `Vec` of pairs.
    /// O(channels asked about). Since 7.0.
    fn pubsub_shardnumsub<T: FromReply + Send + 'static>(
        &self,
        channels: impl ToArgs,
    ) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("PUBSUB SHARDNUMSUB") }).args(&channels))
    }
}

impl<R: Run + ?Sized> PubSub for R {}
