//! Several commands as one: all of them are carried out in memory, or none.

use crate::{commands::Spec, failure::MemoryRefusal, reply::ServerError, request::Effect};

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
}

impl<'a> Part<'a> {
    /// The arguments after the name.
    pub(crate) fn args(&self) -> &[&'a [u8]] {
        &self.words[self.spec.words()..]
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.spec.keys().of(self.args())
    }
}
