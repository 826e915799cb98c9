//! How a request can fail, and whether it was executed all the same.

use std::{borrow::Cow, error::Error, fmt, io, sync::Arc, time::Duration};

use crate::{
    config::{ConfigError, Forced},
    reply::{DecodeError, ServerError},
    resp::{Kind, ProtocolError, Reply, Source},
};

/// Whether the server executed a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Executed {
    /// Not executed: it never left in full, or the server refused it before running it.
    No,
    /// Unknown: it left in full and no answer came, it is queued for an EXEC by hand, or it is a script
    /// that answered with an error.
    Maybe,
    /// Executed: the server ran it, and its answer is an error or not of the type that was asked for.
    Yes,
}

impl fmt::Display for Executed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Executed::No => "not executed",
            Executed::Maybe => "may have been executed",
            Executed::Yes => "was executed",
        })
    }
}

/// What stands in a node's place where memory answered.
pub(crate) const MEMORY: &str = "memory";

/// Why a request failed: which command, on which node, whether it was executed, and what happened.
#[derive(Clone)]
pub struct Failure(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: FailureKind,
    executed: Executed,
    command: Cow<'static, str>,
    node: Option<Arc<str>>,
    /// The number of the node, until it has a name.
    number: u32,
    attempts: u32,
    /// What kept it from being served, where the kind does not say so itself.
    cause: Option<Cause>,
}

/// What happened to a request that failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FailureKind {
    /// The server answered with an error.
    Server(ServerError),
    /// The deadline passed.
    DeadlinePassed(Stage),
    /// The connection was lost after the request may have reached the server, or more often than
    /// retries are allowed.
    ConnectionLost(Cause),
    /// The server is judged down, and the request asked not to wait for it.
    Down(Cause),
    /// An operator has isolated the client (see [`Forced::Isolated`]), and the request is one that
    /// only the server can answer.
    Isolated,
    /// No node of the cluster serves the slot of its keys, as the cluster itself says. The request does not wait
    /// for its deadline then: what comes next is as likely to be somebody who assigns the slot.
    Uncovered(u16),
    /// The queue is full, and the request asked not to wait for room.
    QueueFull,
    /// The embedded store was to answer and can't.
    Memory(MemoryRefusal),
    /// A transaction was discarded before any of it ran: one of its commands was refused, by the server
    /// while it was queued, or by memory.
    Aborted(Abort),
    /// A transaction was discarded before any of it ran: a key that it watched was changed.
    Conflict,
    /// On a connection of one's own, between MULTI and EXEC: the server has queued the command, and the
    /// caller's type can't hold that. Its answer will be among those of EXEC; until then it is executed
    /// *maybe*. (`transaction` needs no such thing.)
    Queued,
    /// The command can't run on a connection that is shared; the text says what to use.
    Misuse(&'static str),
    /// The client has as many streams or subscriptions as it may have, or as many connections of their
    /// own for them; the text says which.
    SubscriptionsFull(&'static str),
    /// The stream of messages that it was for has ended or was dropped.
    StreamEnded,
    /// The client was closed.
    ClientClosed,
    /// The runtime that drove the client's connections was dropped, or it has no drivers for I/O and time,
    /// so that the task which drove them panicked.
    RuntimeDropped,
    /// The client was used outside a runtime that could drive its connections; the text says which
    /// is needed.
    NoRuntime(&'static str),
    /// The server's answer is not what the caller's type can hold.
    Decode(DecodeError),
    /// The configuration is wrong.
    Config(ConfigError),
}

/// Why a transaction was discarded.
#[derive(Clone, Debug)]
pub struct Abort {
    item: Option<(usize, Cow<'static, str>)>,
    reason: Box<FailureKind>,
}

impl Abort {
    pub(crate) fn new(item: Option<(usize, Cow<'static, str>)>, reason: FailureKind) -> Self {
        Abort { item, reason: Box::new(reason) }
    }

    /// Which of its commands was refused, counted from 0 in the order in which they were recorded;
    /// `None` where the server refused all of it.
    #[must_use]
    pub fn item(&self) -> Option<usize> {
        self.item.as_ref().map(|(at, _)| *at)
    }

    /// The name of the command that was refused, such as `INCR`.
    #[must_use]
    pub fn command(&self) -> Option<&str> {
        self.item.as_ref().map(|(_, name)| &**name)
    }

    /// What it was refused with: [`FailureKind::Server`] or [`FailureKind::Memory`].
    #[must_use]
    pub fn reason(&self) -> &FailureKind {
        &self.reason
    }
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.item {
            // People count from 1.
            Some((at, name)) => write!(f, "discarded for its command {}, {name}: ", at + 1)?,
            None => f.write_str("discarded: ")?,
        }
        self.reason.fmt(f)
    }
}

/// What a request was waiting for when its deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// For room in the queue.
    Room,
    /// For a connection to the server.
    Connection,
    /// For its turn to be sent again after the server had refused it for now.
    Retry,
    /// For the server's answer.
    Reply,
    /// For a native script, its own or one before it, to end.
    Script,
    /// For a connection of its own: as many as this bound allows are in use.
    Lease(Bound),
}

/// Why memory could not answer in the server's stead. Each says what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryRefusal {
    /// The embedded store does not know this command.
    Unsupported,
    /// The same on `memory://`, where there is no server that could answer it some time; the text says what
    /// is missing, and what to use instead.
    Embedded(&'static str),
    /// The command is never answered from memory, whatever the rules of its keys.
    Never(Never),
    /// The answer depends on a value or time to live that only the server knows: memory has never
    /// seen the key.
    Unseen,
    /// The key may only be read as it is remembered, and nothing is.
    NotRemembered,
    /// The key may only be read as it is remembered, and that is too long ago.
    TooOld,
    /// The key may only be read while the server is down.
    ReadOnly,
    /// Refused because two clients would both succeed while the server is down (SET NX).
    Unsafe,
    /// Under [`MergeDelta`](crate::fallback::Policy::MergeDelta): the command has no net effect that
    /// could be added to the server's value later, and the value was not written in memory.
    Unmergeable,
    /// The command's keys are under policies that can't both be kept.
    Mixed,
    /// A bound is reached: of what may be written in memory, or of what recovery may owe.
    Full(Bound),
    /// A native script touched a key that its caller had not declared as one of the script's keys.
    Undeclared,
    /// A native script panicked. Nothing of it was kept.
    Panicked,
}

/// A bound of the client's that was reached. `Display` and [`name`](Bound::name) give the setting that
/// sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bound {
    /// How many requests may be under way or waiting.
    QueueRequests,
    /// How many bytes of requests may be kept.
    QueueBytes,
    /// How many entries memory may hold.
    MemoryEntries,
    /// How many bytes memory may hold.
    MemoryBytes,
    /// How many keys recovery may owe something to.
    JournalEntries,
    /// How many bytes that may take.
    JournalBytes,
    /// How many messages may wait for the reader of one stream.
    SubscriptionMessages,
    /// How many bytes these may have.
    SubscriptionBytes,
    /// How many connections requests may have for themselves.
    Leases,
}

impl Bound {
    /// The name of the setting: the builder method of [`Config`](crate::Config), and the parameter in a
    /// URL. Stable, so that metrics can go by it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Bound::QueueRequests => "queue_requests_max",
            Bound::QueueBytes => "queue_bytes_max",
            Bound::MemoryEntries => "memory_entries_max",
            Bound::MemoryBytes => "memory_bytes_max",
            Bound::JournalEntries => "journal_entries_max",
            Bound::JournalBytes => "journal_bytes_max",
            Bound::SubscriptionMessages => "subscription_messages_max",
            Bound::SubscriptionBytes => "subscription_bytes_max",
            Bound::Leases => "leases_max",
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a command is never answered from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Never {
    /// A script: only a server can run it.
    Script,
    /// A stream: what consumer groups have been given only the server knows.
    Stream,
    /// It waits for what other clients do.
    Blocking,
    /// It is about the connection to the server.
    Session,
    /// It reaches other clients through the server.
    Publish,
    /// It changes every key there is, those that memory knows nothing of among them.
    EveryKey,
    /// It is about the server itself.
    Administration,
}

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
            Cause::NoCluster(error) => Some((error, Some(self.clone()))),
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
            Cause::Unsubscribed => f.write_str("unsubscribed by the server"),
            Cause::SubscriptionRefused(error) => write!(f, "subscription refused: {error}"),
            Cause::Local => f.write_str("closed by this client"),
            Cause::Forced(forced) => write!(f, "forced by an operator: {forced}"),
            Cause::Io(why) => f.write_str(why),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Room => "room in the queue",
            Stage::Connection => "a connection",
            Stage::Retry => "its turn to be sent again",
            Stage::Reply => "the reply",
            Stage::Script => "a native script to end",
            Stage::Lease(bound) => {
                return write!(f, "a connection of its own ({bound} of them are in use)");
            }
        })
    }
}

impl fmt::Display for MemoryRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MemoryRefusal::Unsupported => {
                "the embedded store can't answer this command, only a server can"
            }
            MemoryRefusal::Embedded(advice) => advice,
            MemoryRefusal::Never(why) => return why.fmt(f),
            MemoryRefusal::Unseen => {
                "only the server knows this key's value or time to live; try again when it is \
                 back, or replace the value as a whole (SET; DEL, then HSET and the like)"
            }
            MemoryRefusal::NotRemembered => {
                "no value of this key is remembered, and none is made up; try again when the \
                 server is back"
            }
            MemoryRefusal::TooOld => {
                "what is remembered of this key is older than its rule's max_age; try again when \
                 the server is back, or raise max_age"
            }
            MemoryRefusal::ReadOnly => {
                "this key can only be read while the server is down; try again when it is back"
            }
            MemoryRefusal::Unsafe => {
                "not safe in memory: another client could succeed as well; try again when the \
                 server is back, or see Fallback::allow_if_absent"
            }
            MemoryRefusal::Unmergeable => {
                "this command's effect can't be added to the server's value later; replace the \
                 value as a whole, or try again when the server is back"
            }
            MemoryRefusal::Mixed => {
                "the fallback policies of the keys can't both be kept; send a command for each key"
            }
            MemoryRefusal::Full(what) => {
                return write!(
                    f,
                    "{what} is reached; try again when the server is back, or raise it"
                );
            }
            MemoryRefusal::Undeclared => {
                "a native script may touch only the keys that its caller declared; declare all of them"
            }
            MemoryRefusal::Panicked => "the native script panicked; nothing of it was kept",
        })
    }
}

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self {
            Never::Script => {
                "scripts run on the server only, but for those that Config::native_script gives a \
                 function"
            }
            Never::Stream => "streams and their consumer groups live on the server only",
            Never::Blocking => "what waits for other clients needs the server",
            Never::Session => "what concerns a connection needs the server",
            Never::Publish => "messages reach other clients through the server only",
            Never::EveryKey => "what changes every key needs the server",
            Never::Administration => "what concerns the server itself needs it",
        };
        write!(f, "{why}; try again when it is back")
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The server's own words are about HELLO, which nobody has called.
            FailureKind::Server(error) if error.code() == "NOAUTH" => {
                write!(f, "{error}; it wants a password, as in redis://:password@host")
            }
            FailureKind::Server(error) => write!(f, "{error}"),
            FailureKind::DeadlinePassed(stage) => {
                write!(f, "deadline passed while waiting for {stage}")
            }
            FailureKind::ConnectionLost(cause) => write!(f, "connection lost: {cause}"),
            FailureKind::Down(cause) => write!(f, "server down: {cause}"),
            FailureKind::Isolated => f.write_str("the client was isolated by an operator"),
            FailureKind::QueueFull => f.write_str("queue full"),
            FailureKind::Memory(refusal) => write!(f, "{refusal}"),
            FailureKind::SubscriptionsFull(what) => write!(f, "no more {what} are allowed"),
            FailureKind::Uncovered(slot) => write!(f, "no node of the cluster serves slot {slot}"),
            FailureKind::StreamEnded => f.write_str("its stream of messages has ended"),
            FailureKind::Aborted(abort) => write!(f, "{abort}"),
            FailureKind::Conflict => f.write_str("a watched key was changed"),
            FailureKind::Queued => {
                f.write_str("queued: it runs with EXEC, and its answer is among those of EXEC")
            }
            FailureKind::ClientClosed => f.write_str("client closed"),
            FailureKind::RuntimeDropped => f.write_str(
                "the runtime that drove it was dropped, or lacks its drivers for I/O and time",
            ),
            FailureKind::Misuse(advice) | FailureKind::NoRuntime(advice) => f.write_str(advice),
            FailureKind::Decode(error) => write!(f, "{error}"),
            FailureKind::Config(error) => write!(f, "{error}"),
        }
    }
}

impl Failure {
    pub(crate) fn new(
        kind: FailureKind,
        executed: Executed,
        command: impl Into<Cow<'static, str>>,
    ) -> Self {
        let command = command.into();
        Failure(Box::new(Inner {
            kind,
            executed,
            command,
            node: None,
            number: 0,
            attempts: 0,
            cause: None,
        }))
    }

    /// The same, of another command.
    pub(crate) fn named(mut self, command: impl Into<Cow<'static, str>>) -> Self {
        self.0.command = command.into();
        self
    }

    pub(crate) fn at(mut self, node: Option<Arc<str>>) -> Self {
        self.0.node = node;
        self
    }

    /// The same, of a command that was split, of which other parts may have been executed.
    pub(crate) fn executed_at_most_in_part(mut self) -> Self {
        self.0.executed = Executed::Maybe;
        self
    }

    pub(crate) fn after(mut self, attempts: u32) -> Self {
        self.0.attempts = attempts;
        self
    }

    /// A reply that is not what the caller's type can hold. What gave it ran the command.
    pub(crate) fn undecodable(
        error: DecodeError,
        command: impl Into<Cow<'static, str>>,
        reply: &Reply,
        node: Option<Arc<str>>,
    ) -> Self {
        let queued = reply.kind() == Kind::Simple && reply.view().payload() == b"QUEUED";
        let (kind, executed) = match queued {
            true => (FailureKind::Queued, Executed::Maybe),
            false => (FailureKind::Decode(error), Executed::Yes),
        };
        let failure = Failure::new(kind, executed, command);
        let mut failure = match reply.source() {
            Source::Server => failure.at(node).after(1),
            _ => failure.at(Some(MEMORY.into())),
        };
        failure.0.number = reply.giver();
        failure
    }

    /// The number of the node of a cluster that gave the reply which it is about; 0 where there is none.
    pub(crate) fn giver(&self) -> u32 {
        self.0.number
    }

    pub(crate) fn because(mut self, cause: Option<Cause>) -> Self {
        self.0.cause = cause;
        self
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> &FailureKind {
        &self.0.kind
    }

    /// Whether the server executed the request all the same.
    #[must_use]
    pub fn executed(&self) -> Executed {
        self.0.executed
    }

    /// The command's name, such as `INCR`; `transaction` or `optimistic` where one failed as a whole, and
    /// `connect` where connecting itself failed.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.0.command
    }

    /// The node the request was meant for or last sent to, as `host:port` or a socket's path.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        self.0.node.as_deref()
    }

    /// How often the request was sent; of an optimistic transaction, how many of its attempts were.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// What was wrong with the connection to the server, where that is known to have kept the request
    /// from being served.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        match &self.0.kind {
            FailureKind::ConnectionLost(cause) | FailureKind::Down(cause) => Some(cause),
            _ => self.0.cause.as_ref(),
        }
    }

    /// The server's error, where the server answered with one. Where a transaction was discarded for
    /// one, that is it.
    #[must_use]
    pub fn server_error(&self) -> Option<&ServerError> {
        let kind = match &self.0.kind {
            FailureKind::Aborted(abort) => abort.reason(),
            kind => kind,
        };
        match kind {
            FailureKind::Server(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the deadline passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.kind, FailureKind::DeadlinePassed(_))
    }

    /// Whether there was nobody to answer: the server is away, too slow or can't serve for now, and memory
    /// was not allowed or not able to stand in for it. Nothing is wrong with the request itself, and later it
    /// may go well; until then its caller may put something of his own in the answer's place.
    ///
    /// Not so where the server has answered what it would answer again (WRONGTYPE, NOPERM, wrong credentials),
    /// where the request or the configuration is wrong, and where the client was closed. Whether a write was
    /// executed all the same, [`executed`](Self::executed) says.
    ///
    /// ```
    /// # mod unfazed_tokio { pub use unfazed_core::{*, handle::Handle as Client}; }
    /// use unfazed_tokio::{Client, prelude::*};
    ///
    /// async fn greeting(client: &Client) -> Result<String, Failure> {
    ///     match client.get::<String>("greeting").await {
    ///         Ok(greeting) => Ok(greeting.unwrap_or_default()),
    ///         Err(failure) if failure.is_unavailable() => Ok("Hello".to_owned()),
    ///         Err(failure) => Err(failure),
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        let kind = match &self.0.kind {
            FailureKind::Aborted(abort) => abort.reason(),
            kind => kind,
        };
        match kind {
            FailureKind::DeadlinePassed(_)
            | FailureKind::ConnectionLost(_)
            | FailureKind::Down(_)
            | FailureKind::Isolated
            | FailureKind::Uncovered(_)
            | FailureKind::QueueFull => true,
            FailureKind::Server(error) => {
                passes(error) || matches!(error.code(), "OOM" | "MISCONF" | "IOERR")
            }
            FailureKind::Memory(MemoryRefusal::Undeclared | MemoryRefusal::Panicked) => false,
            // Memory stands in while the server is down; where there is no server, it has the last word.
            FailureKind::Memory(_) => self.node() != Some(MEMORY),
            _ => false,
        }
    }
}

/// Whether an error says that the server, or the slot, can't be used for a moment: it is loading, elects a
/// master, or has no place for another client.
pub(crate) fn passes(error: &ServerError) -> bool {
    match error.code() {
        "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "READONLY" | "NOREPLICAS"
        | "BUSY" => true,
        "ERR" => error.message().starts_with("max number of clients"),
        _ => false,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, executed, command, node, attempts, cause, .. } = &*self.0;
        f.write_str(command)?;
        if let Some(node) = node {
            write!(f, " on {node}")?;
        }
        write!(f, ": {kind}")?;
        if let Some(cause) = cause {
            write!(f, ": {cause}")?;
        }
        write!(f, " ({executed}")?;
        if *attempts > 1 {
            write!(f, ", sent {attempts} times")?;
        }
        f.write_str(")")
    }
}

impl fmt::Debug for Failure {
    /// The same sentence as `Display`: this is what `expect` and a `main` that returns an error show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failure({self})")
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0.kind {
            FailureKind::Decode(error) => Some(error),
            FailureKind::Config(error) => Some(error),
            _ => self.server_error().map(|error| error as _),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::new(FailureKind::Config(error), Executed::No, "connect")
    }
}

/// How long ago, in words that a log line can hold: `320 ms`, `4.2 s`.
pub(crate) struct Ago(pub(crate) Duration);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            millis @ 0..1000 => write!(f, "{millis} ms"),
            _ => write!(f, "{:.1} s", self.0.as_secs_f64()),
        }
    }
}
