//! A pipeline or a transaction as it is submitted: the commands' bytes in one piece, and what each of
//! them is.

use std::fmt;

use crate::{
    commands::Spec,
    config::MaybeRetry,
    request::{Effect, Options, Request},
    script::Script,
};

/// Commands that are submitted together, in order, under one ticket: a pipeline, or a
/// [transaction](Batch::into_transaction).
#[derive(Clone, Default)]
pub struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) items: Vec<Item>,
    pub(crate) names: Vec<(u32, Box<str>)>,
    pub(crate) options: Options,
    /// The scripts that are called by their digests, with who calls them.
    pub(crate) scripts: Vec<(u32, Script)>,
    /// They run as one, or none of them does.
    pub(crate) is_transaction: bool,
    /// A dialogue wants it sent on a connection of its own.
    pub(crate) is_leased: bool,
    /// In a cluster those of its commands that have no key go to the node that serves this slot.
    pub(crate) beside: Option<u16>,
    /// Whoever sends it has a reason to doubt that the map of the cluster is right.
    pub(crate) doubts_map: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    pub(crate) spec: &'static Spec,
    pub(crate) effect: Effect,
    /// What was asked for this command alone.
    pub(crate) maybe_retry: Option<MaybeRetry>,
    /// Where its bytes end.
    pub(crate) end: usize,
}

impl Batch {
    /// An empty pipeline.
    #[must_use]
    pub fn new() -> Self {
        Batch::default()
    }

    /// The same commands as a transaction: all of them run, one right after the other, or none does.
    ///
    /// It is sent between MULTI and EXEC, and repeated only as a whole: where each of its commands may
    /// be, and none reads what a later one writes.
    #[must_use]
    pub fn into_transaction(self) -> Self {
        Batch { is_transaction: true, ..self }
    }

    /// The same, to be sent by a [dialogue](crate::dialogue::Step::Send) on a connection of its own. For
    /// those who submit it themselves it changes nothing:
    /// [`submit_batch_on`](super::Engine::submit_batch_on) is what they want.
    #[must_use]
    pub fn leased(self) -> Self {
        Batch { is_leased: true, ..self }
    }

    /// The same; in a cluster its commands without keys all go to the node that serves this slot, which is
    /// below [`SLOTS`](crate::slot::SLOTS), and wait for it where it is down. INFO, SCAN and the like are then
    /// about that node alone.
    #[must_use]
    pub fn beside(self, slot: u16) -> Self {
        Batch { beside: Some(slot), ..self }
    }

    /// The same, and the nodes of the cluster are to be asked which of them serves what.
    #[must_use]
    pub(crate) fn doubting_the_map(self) -> Self {
        Batch { doubts_map: true, ..self }
    }

    /// The same, with the commands of another one behind its own.
    #[must_use]
    pub(crate) fn followed_by(mut self, other: &Batch) -> Self {
        let (items, start) = (self.items.len(), self.bytes.len());
        let shifted = other.items.iter().map(|item| Item { end: start + item.end, ..*item });
        self.items.extend(shifted);
        self.bytes.extend_from_slice(&other.bytes);
        let at = |of: u32| of + items as u32;
        self.names.extend(other.names.iter().map(|(of, name)| (at(*of), name.clone())));
        self.scripts.extend(other.scripts.iter().map(|(of, script)| (at(*of), script.clone())));
        self.options = self.options.or(other.options);
        self
    }

    /// Adds a command and gives its position.
    ///
    /// What the request asks about its retries holds for it alone. The rest of its [`Options`] is the
    /// pipeline's as a whole: it has the shortest deadline that any of them asks for, and is refused
    /// when the queue is full if one of them is to be.
    pub fn push(&mut self, request: &Request<'_>) -> usize {
        let at = self.items.len();
        let asked = request.asked();
        if let Some(deadline) = asked.deadline {
            let whole = self.options.deadline.unwrap_or(deadline);
            self.options.deadline = Some(whole.min(deadline));
        }
        self.options.refuse_when_full |= asked.refuse_when_full;
        if let Some(name) = request.unknown_name() {
            self.names.push((at as u32, name.into()));
        }
        if let Some(script) = request.called() {
            self.scripts.push((at as u32, script.clone()));
        }
        request.encode(&mut self.bytes);
        self.items.push(Item {
            spec: request.spec(),
            effect: request.declared_effect(),
            maybe_retry: asked.maybe_retry,
            end: self.bytes.len(),
        });
        at
    }

    #[inline]
    pub(crate) fn bytes_of(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.items[at - 1].end };
        &self.bytes[start..self.items[at].end]
    }

    /// What is asked for one of its commands.
    pub(crate) fn options_of(&self, item: &Item) -> Options {
        let maybe_retry = item.maybe_retry.or(self.options.maybe_retry);
        Options { maybe_retry, ..self.options }
    }

    pub(crate) fn name_of(&self, at: usize) -> &str {
        let found = self.names.binary_search_by_key(&at, |(of, _)| *of as usize);
        found.map_or(self.items[at].spec.name(), |found| &self.names[found].1)
    }

    /// Whether one of its commands waits at the server.
    pub(crate) fn waits(&self) -> bool {
        self.items.iter().any(|item| item.spec.is_blocking())
    }

    /// What it is as a whole, where a command's name would stand.
    pub(crate) fn what(&self) -> &'static str {
        if self.is_transaction { Spec::transaction().name() } else { "pipeline" }
    }

    /// How many commands it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Sets what is asked for the whole pipeline.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }
}

/// The arguments are left out: one of them may be a password.
impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = (0..self.len()).map(|at| self.name_of(at));
        f.debug_list().entries(names).finish()
    }
}
