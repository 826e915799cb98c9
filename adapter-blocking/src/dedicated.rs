//! A connection of one's own, for threads that wait.

use std::{fmt, future::Future, process, sync::Arc};

use unfazed_core::{
    Cause, Failure, Request,
    args::ToArg,
    commands::Run,
    dialogue::{Converse, Dialogue},
    engine::Batch,
    handle::{self, Gather, Replies, RunBatch},
    reply::FromReply,
};

use crate::{client::Client, conversation::Conversation, driver::Driver};

/// A connection of one's own: for WATCH, SELECT and all else that nobody who shares a connection may do.
///
/// It is one connection and no other: when it is lost, everything on it fails from then on, and
/// [`lost`](Self::lost) says why; whoever wants to go on takes another one. Dropping it gives it back. See
/// [`unfazed_core::handle::Dedicated`] for all that holds for it. To a forked child the one that its parent
/// took is lost.
pub struct Dedicated {
    /// Always there, until it is dropped.
    inner: Option<handle::Dedicated>,
    driver: Arc<Driver>,
    /// Whose it is; nobody's in particular without connections.
    pid: Option<u32>,
}

impl Client {
    /// A connection of one's own, for WATCH, SELECT and all else that nobody who shares a connection may
    /// do; at once: what is asked on it waits until it is made.
    #[must_use]
    pub fn dedicated(&self) -> Dedicated {
        let (handle, driver, pid) = self.parts();
        Dedicated { inner: Some(handle.dedicated()), driver: driver.clone(), pid }
    }

    /// The same, for what is to be done with this key and others that have its hash tag: in a cluster it leads
    /// to the node that serves them. Without a cluster there is no difference.
    #[must_use]
    pub fn dedicated_for(&self, key: impl ToArg) -> Dedicated {
        let (handle, driver, pid) = self.parts();
        Dedicated { inner: Some(handle.dedicated_for(key)), driver: driver.clone(), pid }
    }
}

impl Dedicated {
    /// Why the connection was lost, if it was; nothing more can be done on it then.
    #[must_use]
    pub fn lost(&self) -> Option<Cause> {
        if self.is_foreign() { Some(Cause::Local) } else { self.inner().lost() }
    }

    fn inner(&self) -> &handle::Dedicated {
        self.inner.as_ref().expect("it is there until it is dropped")
    }

    /// Whether this is a child, and the connection is its parent's.
    fn is_foreign(&self) -> bool {
        self.pid.is_some_and(|pid| pid != process::id())
    }

    fn wait<F: Future>(&self, future: F) -> F::Output {
        let ended = self.driver.block_on(future, None);
        ended.expect("without a limit, it waits until the end")
    }
}

impl Run for Dedicated {
    type Pending<T: Send + 'static> = Result<T, Failure>;

    fn run<T: FromReply + Send + 'static>(&self, request: Request<'_>) -> Result<T, Failure> {
        if self.is_foreign() {
            return Err(self.inner().of_another_process(request.command()));
        }
        self.wait(self.inner().run(request))
    }
}

impl RunBatch for Dedicated {
    type PendingBatch<G: Gather> = G::Output;

    fn run_batch<G: Gather>(&self, batch: Batch, gather: G) -> G::Output {
        if self.is_foreign() {
            let failure = self.inner().of_another_process("pipeline");
            return gather.gather(Replies::new(Err(failure)));
        }
        self.wait(self.inner().run_batch(batch, gather))
    }
}

impl Converse for Dedicated {
    type Conversation<D: Dialogue> = Conversation<D>;
    type Settled<D: Dialogue> = Result<D::Item, Failure>;

    fn converse<D: Dialogue>(&self, dialogue: D) -> Conversation<D> {
        Conversation::new(self.inner().converse(dialogue), &self.driver, self.pid)
    }

    fn settle<D: Dialogue>(&self, dialogue: D) -> Result<D::Item, Failure> {
        if self.is_foreign() {
            return Err(self.inner().of_another_process(dialogue.name()));
        }
        self.wait(self.inner().settle(dialogue))
    }
}

impl Drop for Dedicated {
    fn drop(&mut self) {
        let inner = self.inner.take();
        if self.is_foreign() {
            // Its locks may be held by threads that were not forked, and its socket is in use.
            std::mem::forget(inner);
        } else {
            drop(inner);
            // If nobody leads, somebody has to see to it that the connection is closed.
            self.driver.attend();
        }
    }
}

impl fmt::Debug for Dedicated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dedicated").field("lost", &self.lost()).finish_non_exhaustive()
    }
}
