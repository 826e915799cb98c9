//! What a server's error says: whether the command was executed, and what to do next.

use crate::{commands::Spec, failure::Executed, reply::ServerError};

/// What follows from an error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// It was not executed and may go again after a delay.
    Later,
    /// It was not executed; the server is there and can't serve yet.
    NotReady,
    /// It was not executed; the connection leads to a node that takes no writes any more.
    WrongNode,
    /// It was not executed; the connection is not authenticated any more.
    Unauthenticated,
    /// It is told to the caller.
    Told(Executed),
}

/// Reads the class of an error from its first word, and from more of it where one word has several
/// meanings.
pub(crate) fn classify(spec: &Spec, error: &ServerError) -> Class {
    if spec.is_script() {
        // A script can answer with any text, that of a redirect or of a loading server among them.
        return match error.code() {
            "NOSCRIPT" => Class::Told(Executed::No),
            _ => Class::Told(Executed::Maybe),
        };
    }
    classify_own(spec, error)
}

/// The same for a command that may be sent again though it may have been executed: then it does not
/// matter whether a script or the server says that it can't be done now. What follows for others from a
/// server's word does not follow from a script's.
pub(crate) fn classify_repeatable(spec: &Spec, error: &ServerError) -> Class {
    match classify(spec, error) {
        Class::Told(Executed::Maybe) if spec.is_script() => match classify_own(spec, error) {
            Class::Later | Class::NotReady | Class::WrongNode => Class::Later,
            Class::Unauthenticated | Class::Told(_) => Class::Told(Executed::Maybe),
        },
        class => class,
    }
}

/// Reads the class of an error that is the server's own.
fn classify_own(spec: &Spec, error: &ServerError) -> Class {
    match error.code() {
        "TRYAGAIN" | "CLUSTERDOWN" | "NOREPLICAS" | "BUSY" => Class::Later,
        "LOADING" | "MASTERDOWN" => Class::NotReady,
        "NOAUTH" => Class::Unauthenticated,
        "MOVED" | "ASK" | "REDIRECT" | "OOM" | "MISCONF" | "WRONGPASS" | "NOPERM" | "CROSSSLOT"
        | "NOPROTO" | "NOSCRIPT" | "EXECABORT" | "DENIED" => Class::Told(Executed::No),
        // Somebody has said CLIENT UNBLOCK, or else the master has become a replica.
        "UNBLOCKED" if error.message().contains("CLIENT UNBLOCK") => Class::Told(Executed::No),
        "READONLY" | "UNBLOCKED" => Class::WrongNode,
        "IOERR" => Class::Told(Executed::Maybe),
        "ERR" => classify_plain(spec, error.message()),
        _ => Class::Told(ran_and_failed(spec)),
    }
}

/// WRONGTYPE, BUSYKEY, BUSYGROUP and whatever a command says of its own data. A module's command is
/// unknown to the table, and its errors prove nothing.
fn ran_and_failed(spec: &Spec) -> Executed {
    if spec.is_unknown() { Executed::Maybe } else { Executed::Yes }
}

fn classify_plain(spec: &Spec, message: &str) -> Class {
    let not_run = [
        "unknown command",
        "unknown subcommand",
        "wrong number of arguments",
        // A value that is longer than it takes.
        "Protocol error",
        // On a connection of RESP2 that has subscribed.
        "Can't execute",
    ];
    if message.starts_with("max number of clients") {
        Class::Later
    } else if not_run.iter().any(|start| {
        message.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
    }) {
        Class::Told(Executed::No)
    } else {
        Class::Told(ran_and_failed(spec))
    }
}
