//! The server itself: alive, how big, configured how, used by whom.

use std::time::{Duration, SystemTime};

use super::{Run, Spec};
use crate::{
    args::{ToArg, ToArgs, ToPairs},
    reply::{DecodeError, FromReply},
    request::Request,
    resp::View,
};

/// Commands about the server, its connections and its configuration.
///
/// In a cluster those that are about all data or all settings are asked of several nodes, as servers advise:
/// `ping`, `dbsize`, `flushdb`, `flushall`, `info`, `lastsave` and `client_list` of all masters, `config_set` of
/// all nodes, replicas among them. They succeed where all of these do; the failure of one is the failure of the
/// whole, and names that node. All others are asked of one node, whichever.
pub trait Server: Run {
    /// Asks for a sign of life. O(1). Since 1.0.
    ///
    /// In a cluster it asks all masters and fails where one does not answer, so it says whether all keys can be
    /// served. How each shard stands, `status()` says without asking anybody.
    fn ping(&self) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("PING") }))
    }

    /// Sends `message` there and back. O(1). Since 1.0.
    fn echo<T: FromReply + Send + 'static>(&self, message: impl ToArg) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("ECHO") }).arg(&message))
    }

    /// What the server's clock says, to the microsecond. O(1). Since 2.6.
    fn time(&self) -> Self::Pending<SystemTime> {
        self.run(Request::of(const { Spec::of("TIME") }))
    }

    /// How many keys there are. O(1). Since 1.0.
    fn dbsize(&self) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("DBSIZE") }))
    }

    /// Deletes all keys of this database. O(keys). Since 1.0.
    ///
    /// Never sent again by itself once it may have run, although it could be: what others wrote in
    /// between would go as well.
    fn flushdb(&self) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("FLUSHDB") }))
    }

    /// Deletes all keys of this database and frees their memory in the background. Since 4.0.
    fn flushdb_async(&self) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("FLUSHDB") }).arg("ASYNC"))
    }

    /// Deletes all keys of all databases. O(keys). Since 1.0.
    ///
    /// Sent again as little as `flushdb`.
    fn flushall(&self) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("FLUSHALL") }))
    }

    /// Deletes all keys of all databases and frees their memory in the background. Since 4.0.
    fn flushall_async(&self) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("FLUSHALL") }).arg("ASYNC"))
    }

    /// What the server says of itself: lines of `field:value` under headings that begin with `#`.
    /// O(1). Since 1.0. In a cluster the texts of all masters, each under a line `# Node host:port`.
    fn info(&self) -> Self::Pending<String> {
        self.run(Request::of(const { Spec::of("INFO") }))
    }

    /// These sections of `info` (`"memory"`, `"replication"`). O(1). Several at once since 7.0.
    fn info_of(&self, sections: impl ToArgs) -> Self::Pending<String> {
        self.run(Request::of(const { Spec::of("INFO") }).args(&sections))
    }

    /// When the data was last saved; in a cluster, by the master that has saved them longest ago. O(1).
    /// Since 1.0.
    fn lastsave(&self) -> Self::Pending<SystemTime> {
        self.run(Request::of(const { Spec::of("LASTSAVE") }))
    }

    /// The number of the connection that this runs on. O(1). Since 5.0.
    fn client_id(&self) -> Self::Pending<i64> {
        self.run(Request::of(const { Spec::of("CLIENT ID") }))
    }

    /// The name of the connection that this runs on, if it has one. O(1). Since 2.6.9.
    fn client_getname(&self) -> Self::Pending<Option<String>> {
        self.run(Request::of(const { Spec::of("CLIENT GETNAME") }))
    }

    /// All connections to the server, a line each. O(connections). Since 2.4.
    fn client_list(&self) -> Self::Pending<String> {
        self.run(Request::of(const { Spec::of("CLIENT LIST") }))
    }

    /// Ends the connection with this number and gives how many that were, 0 or 1. O(connections).
    /// Since 2.8.12.
    fn client_kill(&self, id: i64) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("CLIENT KILL") }).arg("ID").int(id))
    }

    /// All settings whose names match one of these glob-style patterns, into a map or a `Vec` of
    /// pairs. O(settings). Since 2.0; several patterns since 7.0.
    fn config_get<T: FromReply + Send + 'static>(&self, patterns: impl ToArgs) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("CONFIG GET") }).args(&patterns))
    }

    /// Changes settings, pairs of name and value, all or none. O(settings). Since 2.0; several at once
    /// since 7.0.
    fn config_set(&self, settings: impl ToPairs) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("CONFIG SET") }).pairs(&settings))
    }

    /// How many commands the server knows. O(1). Since 2.8.13.
    fn command_count(&self) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("COMMAND COUNT") }))
    }
}

impl<R: Run + ?Sized> Server for R {}

/// The reply to TIME, seconds and microseconds since 1970, or to LASTSAVE, seconds alone.
impl FromReply for SystemTime {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let (secs, micros) = if view.kind().is_aggregate() {
            FromReply::from_view(view)?
        } else {
            (u64::from_view(view)?, 0)
        };
        let since = Duration::from_secs(secs).checked_add(Duration::from_micros(micros));
        since
            .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since))
            .ok_or_else(|| DecodeError::unexpected("a time since 1970", view))
    }
}
