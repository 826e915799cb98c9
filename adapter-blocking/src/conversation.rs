//! A dialogue as an iterator.

use std::{
    fmt,
    future::poll_fn,
    process,
    sync::Arc,
    time::{Duration, Instant},
};

use unfazed_core::{
    Failure,
    dialogue::{Converse, Dialogue},
    handle,
};

use crate::{client::Client, driver::Driver};

/// A dialogue under way: a scan, a consumer of a stream, or one of your own.
///
/// As an iterator it waits for each item, and ends after the last one or the first failure. Nothing is
/// sent before the first item is asked for.
///
/// It lives no longer than the client: when the last clone is dropped or the client is closed, it ends
/// with [`ClientClosed`](unfazed_core::FailureKind::ClientClosed). After a `fork` the child can't go on
/// with what its parent began: there it is over.
#[must_use = "nothing is sent before the first item is asked for"]
pub struct Conversation<D: Dialogue> {
    /// Always there, until it is dropped.
    inner: Option<handle::Conversation<D>>,
    driver: Arc<Driver>,
    /// Whose it is; nobody's in particular without connections.
    pid: Option<u32>,
}

impl<D: Dialogue> Conversation<D> {
    pub(crate) fn new(
        inner: handle::Conversation<D>,
        driver: &Arc<Driver>,
        pid: Option<u32>,
    ) -> Self {
        Conversation { inner: Some(inner), driver: driver.clone(), pid }
    }

    /// The next item, if it comes within `limit`. `None` where it does not, and also when the dialogue is
    /// over; [`is_over`](Self::is_over) tells which. Nothing is lost by asking again.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong on the way; the dialogue is over then.
    pub fn next_within(&mut self, limit: Duration) -> Option<Result<D::Item, Failure>> {
        self.next_until(Instant::now().checked_add(limit))
    }

    /// Whether nothing more is to come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_foreign() || self.inner().is_over()
    }

    /// The machine that decides what to say.
    #[must_use]
    pub fn dialogue(&self) -> &D {
        self.inner().dialogue()
    }

    fn next_until(&mut self, limit: Option<Instant>) -> Option<Result<D::Item, Failure>> {
        if self.is_foreign() {
            return None;
        }
        let inner = self.inner.as_mut().expect("it is there until it is dropped");
        let sent = inner.sent();
        let next = self.driver.block_on(poll_fn(|cx| inner.poll_next(cx)), limit);
        // What was sent for later items is to be read while the caller is at something else.
        if inner.sent() != sent && inner.awaits_answer() {
            self.driver.attend();
        }
        next.flatten()
    }

    fn inner(&self) -> &handle::Conversation<D> {
        self.inner.as_ref().expect("it is there until it is dropped")
    }

    /// Whether this is a child, and the dialogue is its parent's.
    fn is_foreign(&self) -> bool {
        self.pid.is_some_and(|pid| pid != process::id())
    }
}

impl<D: Dialogue> Iterator for Conversation<D> {
    type Item = Result<D::Item, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_until(None)
    }
}

impl<D: Dialogue> Drop for Conversation<D> {
    fn drop(&mut self) {
        let inner = self.inner.take();
        if self.is_foreign() {
            // Its locks may be held by threads that were not forked.
            std::mem::forget(inner);
        }
    }
}

impl Converse for Client {
    type Conversation<D: Dialogue> = Conversation<D>;
    type Settled<D: Dialogue> = Result<D::Item, Failure>;

    fn converse<D: Dialogue>(&self, dialogue: D) -> Conversation<D> {
        let (handle, driver, pid) = self.parts();
        Conversation::new(handle.converse(dialogue), driver, pid)
    }

    fn settle<D: Dialogue>(&self, dialogue: D) -> Result<D::Item, Failure> {
        let (handle, driver, _) = self.parts();
        let ended = driver.block_on(handle.settle(dialogue), None);
        ended.expect("without a limit, it waits until the end")
    }
}

impl<D: Dialogue> fmt::Debug for Conversation<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use unfazed_core::prelude::*;
    use unfazed_tests::{Raw, Server};

    use super::*;

    #[test]
    fn asking_for_an_item_ends_in_time_and_loses_nothing() {
        let server = Server::start();
        let client = Client::connect(&*server.url()).expect("there is a server");
        let consumer = client.consumer("g", "me").stream("s").create(GroupStart::Beginning);
        let mut consumer = consumer.run::<BTreeMap<String, u32>>();
        for number in 0..3 {
            let (start, limit) = (Instant::now(), Duration::from_millis(80));
            assert!(consumer.next_within(limit).is_none());
            assert!(start.elapsed() >= limit && !consumer.is_over());
            client.xadd("s", ("number", number)).expect("a plain XADD");
            let entry = consumer.next().expect("it goes on").expect("no failure");
            assert_eq!(entry.fields["number"], number);
        }
    }

    #[test]
    fn a_forked_child_leaves_alone_what_its_parent_began() {
        let server = Server::start();
        let client = Client::connect(&*server.url()).expect("there is a server");
        client.mset([("a", 1), ("b", 2)]).expect("a plain MSET");
        let mut raw = Raw::connect(server.port());
        let mut scan = client.scan::<String>();
        scan.next().expect("there are two").expect("no failure");
        // No `fork` is made: that is unsafe in a process with threads.
        scan.pid = scan.pid.map(|pid| pid + 1);
        let before = raw.int(&["DBSIZE"]);
        assert!(scan.is_over() && scan.next().is_none());
        assert!(scan.next_within(Duration::from_secs(1)).is_none());
        drop(scan);
        assert_eq!(raw.int(&["DBSIZE"]), before);
        assert_eq!(client.scan::<String>().count(), 2);
    }
}
