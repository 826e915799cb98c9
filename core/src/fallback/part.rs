//! Several commands as one: all of them are carried out in memory, or none.

use super::store::{Answer, Store};
use crate::{
    commands::Spec, failure::MemoryRefusal, reply::ServerError, request::Effect, resp::Value,
};

/// One command of a transaction.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) spec: &'static Spec,
    pub(crate) effect: Effect,
    /// Its name and its arguments.
    pub(crate) words: Vec<&'a [u8]>,
}

/// A transaction came to nothing because of one of its commands. Nothing was changed.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// Which command.
    pub(crate) at: usize,
    pub(crate) why: Why,
}

/// Why a command stopped its transaction.
#[derive(Debug)]
pub(crate) enum Why {
    /// Memory can't answer it.
    Refused(MemoryRefusal),
    /// A server would have refused to queue it.
    Error(ServerError),
    /// The same, because there is no room for what it would write.
    Full(ServerError),
}

impl<'a> Part<'a> {
    /// The arguments after the name.
    pub(crate) fn args(&self) -> &[&'a [u8]] {
        &self.words[self.spec.words()..]
    }

    /// What a server answers to a command that it does not even begin to run, as far as the embedded store
    /// knows it.
    pub(crate) fn misuse(&self) -> Option<ServerError> {
        match Store::refusal(&self.words)? {
            Answer::Reply(Value::Error(text)) => Some(ServerError::new(&text)),
            _ => None,
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.spec.keys().of(self.args())
    }
}
