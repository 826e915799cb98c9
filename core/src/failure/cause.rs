//! What keeps a server from being reached, or from serving.

use std::{fmt, io, sync::Arc};

use crate::{config::Forced, reply::ServerError, resp::ProtocolError};

/// Why a connection could not be made or was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Nobody listens there.
    Refused,
    /// The peer reset the connection.
    Reset,
    /// The peer ended the connection.
    EndOfStream,
    /// The connection or the handshake took longer than `connect_timeout`, or than the request had time.
    ConnectTimeout,
    /// Replies were owed and no byte came within the response time limit.
    Silent,
    /// No route to the host or network.
    Unreachable,
    /// There is no such Unix socket.
    NotFound,
    /// The operating system does not permit it.
    Denied,
    /// The host name has no address, or could not be looked up; the text is the resolver's.
    NameNotFound(Arc<str>),
    /// The peer broke the protocol.
    Protocol(ProtocolError),
    /// The peer sent a reply that nothing had asked for.
    UnexpectedReply,
    /// The server refused the handshake.
    Handshake(ServerError),
    /// The server does not let this user in: the password is wrong, or there is no such user.
    SignIn {
        /// The user's name; `default` where none was given.
        user: Arc<str>,
        /// How the server said so.
        error: ServerError,
    },
    /// The server has no database of this number.
    NoDatabase {
        /// The number.
        number: u32,
        /// How the server said so.
        error: ServerError,
    },
    /// The server is there and can't serve: it is loading, or lacks its master or its replicas.
    NotReady(ServerError),
    /// The server is a replica and takes no writes.
    NotMaster,
    /// No node of the cluster serves some slots.
    Uncovered,
    /// The server is a node of a cluster, and the client was told that it stands alone.
    NodeOfCluster,
    /// The server stands alone, and the client was told that it is a node of a cluster. This is how it
    /// said so.
    NoCluster(ServerError),
    /// What a node said of its cluster makes no sense; the text says in what.
    Malformed(&'static str),
    /// The slot has moved to another node: that of a shard channel, or of the keys that a connection of
    /// somebody's own was for.
    SlotMoved,
    /// The node serves no slots of the cluster any more, so it is not spoken to.
    NodeRemoved,
    /// The node has taken over slots from one that was down: what memory did with their keys meanwhile is
    /// settled first.
    TookOver,
    /// The server can be reached again, and is not trusted yet: it has to pass probes, and what memory did
    /// meanwhile is settled first.
    Recovering,
    /// The server ended a subscription without having been asked to.
    Unsubscribed,
    /// The server does not take a subscription, for now.
    SubscriptionRefused(ServerError),
    /// Closed by this client.
    Local,
    /// An operator decided so.
    Forced(Forced),
    /// Some other fault of the operating system, in its own words.
    Io(Arc<str>),
}

impl Cause {
    /// The server's own words, where it does not want this client, and what has to be added to them.
    pub(crate) fn refusal(&self) -> Option<(&ServerError, Option<Cause>)> {
        match self {
            Cause::Handshake(error) => Some((error, None)),
            Cause::NoCluster(error)
            | Cause::SignIn { error, .. }
            | Cause::NoDatabase { error, .. } => Some((error, Some(self.clone()))),
            _ => None,
        }
    }
}

impl From<&io::Error> for Cause {
    fn from(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionRefused => Cause::Refused,
            Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => Cause::Reset,
            Kind::UnexpectedEof => Cause::EndOfStream,
            Kind::TimedOut => Cause::ConnectTimeout,
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => {
                Cause::Unreachable
            }
            Kind::NotFound => Cause::NotFound,
            Kind::PermissionDenied => Cause::Denied,
            _ => Cause::Io(error.to_string().into()),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Refused => f.write_str("connection refused"),
            Cause::Reset => f.write_str("connection reset by the server"),
            Cause::EndOfStream => f.write_str("connection ended by the server"),
            Cause::ConnectTimeout => f.write_str("connecting took too long"),
            Cause::Silent => f.write_str("the server owes replies and is silent"),
            Cause::Unreachable => f.write_str("no route to the server"),
            Cause::NotFound => f.write_str("no such socket"),
            Cause::Denied => f.write_str("permission denied"),
            Cause::NameNotFound(why) => write!(f, "name look-up failed: {why}"),
            Cause::Protocol(fault) => write!(f, "protocol fault: {fault}"),
            Cause::UnexpectedReply => f.write_str("the server sent a reply nobody asked for"),
            Cause::Handshake(error) => write!(f, "handshake refused: {error}"),
            Cause::SignIn { user, error } => {
                write!(f, "user {user:?} can't sign in: {}", error.code())
            }
            Cause::NoDatabase { number, .. } => write!(f, "the server has no database {number}"),
            Cause::NotReady(error) => write!(f, "not ready: {error}"),
            Cause::NotMaster => f.write_str("the server is a replica"),
            Cause::Uncovered => f.write_str("no node of the cluster serves some slots"),
            Cause::NodeOfCluster => f.write_str(
                "the server is a node of a cluster: its URL begins with redis+cluster://, or see \
                 Config::cluster",
            ),
            Cause::NoCluster(_) => f.write_str(
                "the server is no node of a cluster: its URL begins with redis://, or see \
                 Config::standalone",
            ),
            Cause::Malformed(what) => write!(f, "the cluster's map makes no sense: {what}"),
            Cause::SlotMoved => f.write_str("the slot has moved to another node"),
            Cause::NodeRemoved => f.write_str("the node serves no slots of the cluster any more"),
            Cause::TookOver => f.write_str("it has taken over slots from a node that was down"),
            Cause::Recovering => {
                f.write_str("recovering: it can be reached, and is not trusted yet")
            }
            Cause::Unsubscribed => f.write_str("unsubscribed by the server"),
            Cause::SubscriptionRefused(error) => write!(f, "subscription refused: {error}"),
            Cause::Local => f.write_str("closed by this client"),
            Cause::Forced(forced) => write!(f, "forced by an operator: {forced}"),
            Cause::Io(why) => f.write_str(why),
        }
    }
}
