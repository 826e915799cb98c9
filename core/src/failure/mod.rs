//! How a request can fail, and whether it was executed all the same.

mod cause;
mod kind;

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

use crate::{
    config::ConfigError,
    reply::{DecodeError, ServerError},
    resp::{Kind, Reply, Source},
};

pub use cause::Cause;
pub use kind::{Abort, Bound, FailureKind, MemoryRefusal, Never, Stage};
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
    /// be it to the request or, as its [`cause`](Self::cause) says, to the handshake before it; where the request
    /// or the configuration is wrong, and where the client was closed. Whether a write was executed all the same,
    /// [`executed`](Self::executed) says.
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
            // Of a handshake that the server refuses some are told its error, and others what that kept them from.
            FailureKind::DeadlinePassed(_)
            | FailureKind::ConnectionLost(_)
            | FailureKind::Down(_) => {
                let refusal = self.cause().and_then(Cause::refusal);
                refusal.is_none_or(|(error, _)| is_for_now(error))
            }
            FailureKind::Isolated | FailureKind::Uncovered(_) | FailureKind::QueueFull => true,
            FailureKind::Server(error) => is_for_now(error),
            FailureKind::Memory(MemoryRefusal::Undeclared | MemoryRefusal::Panicked) => false,
            // Memory stands in while the server is down; where there is no server, it has the last word.
            FailureKind::Memory(_) => self.node() != Some(MEMORY),
            _ => false,
        }
    }
}

/// Whether an error says nothing of the request or of who sent it: later it may go well.
fn is_for_now(error: &ServerError) -> bool {
    passes(error) || matches!(error.code(), "OOM" | "MISCONF" | "IOERR")
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
