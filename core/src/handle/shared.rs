//! The one lock, and everything under it.
//!
//! Nothing here depends on async: a blocking client stands on the same pieces, with parkers for
//! wakers. The rules that hold for all of it:
//!
//! - no foreign code runs under the lock: wakers are gathered in [`Wakes`] and woken after
//!   unlocking, replies are decoded and chunks written outside;
//! - whoever calls the engine [settles](State::settle) before unlocking, so that those who are ready
//!   and those who have something to do are woken;
//! - a chunk is out with one writer at a time; whoever hands it back sees to what was appended
//!   meanwhile, and tells the engine that the connection closed if it did so meanwhile.

use std::{
    cell::Cell,
    io,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::{
    events::Subscriber,
    runtime::Wire,
    state::{Driver, Handback, Mode, State, Wakes, Write},
};
use crate::{
    Failure, Now,
    config::{Config, Forced},
    engine::{Batch, Engine, Flush, Input, Lease, Place, Rejected, Status, Ticket},
    failure::{Cause, Executed, FailureKind},
    fallback::Nudge,
    request::Request,
    resp::Reply,
    sync::{Mutex, MutexGuard},
};

/// What all parts of one client share.
pub struct Shared {
    state: Mutex<State>,
    config: Config,
    /// The node's name, for failures that the engine does not make.
    node: Arc<str>,
    clocks: Clocks,
    start: Start,
    writer: Writer,
    /// Requests are answered from memory only, where the wall clock is what keys expire by.
    embedded: bool,
}

/// How the clocks are read.
#[derive(Clone, Copy)]
pub struct Clocks {
    /// Both.
    pub now: fn() -> Now,
    /// The monotonic one alone.
    pub instant: fn() -> Instant,
}

/// Starts what drives the client, in the caller's context; or says what the caller should do.
pub type Start = Box<dyn Fn(Driving) -> Result<(), &'static str> + Send + Sync>;

/// Who writes what was submitted to a connection on which nothing else waits to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The connection's driver, once others have had their turn to add to it; a caller only where
    /// much has gathered. Many commands go out with one system call.
    Driver,
    /// The caller, at once. Nobody has to be woken for a lone request.
    Caller,
}

/// How often a caller writes what others have added while it wrote, before it goes on with its own
/// business.
const WRITE_ROUNDS_MAX: usize = 16;

/// How much of a chunk is written before it is handed back, though the kernel may take more: the
/// engine has to see that the peer takes what it is sent, or it takes it for silent. A chunk is as
/// long as its longest command.
pub const WRITE_BYTES_MAX: usize = 1024 * 1024;

thread_local! {
    /// A native script runs on this thread.
    static IN_SCRIPT: Cell<bool> = const { Cell::new(false) };
}

const IMPURE: &str = "a native script is to work by the store that it is handed; a request of its own \
    would wait for the script, and the script for it";

/// Keeps a client driven: for as long as it lives, somebody carries out what the engine asks for.
/// When it is dropped, every request ends; the next one starts a new driver.
pub struct Driving {
    shared: Arc<Shared>,
    epoch: u64,
}

impl Shared {
    /// Makes a client whose driver is begun by `start` when there is something to drive.
    pub fn new(
        config: Config,
        seed: u64,
        clocks: Clocks,
        start: Start,
        writer: Writer,
    ) -> Result<Arc<Self>, Failure> {
        let clock = (clocks.now)();
        let engine = Engine::new(config.clone(), seed, clock)?;
        let node = engine.status().node;
        let embedded = config.deployment.is_embedded();
        let mode = if embedded { Mode::Inline } else { Mode::Idle };
        let state = Mutex::new(State {
            engine,
            clock,
            mode,
            embedded,
            epoch: 0,
            drivers: Vec::new(),
            subscribers: Vec::new(),
            closers: Vec::new(),
        });
        let shared = Arc::new(Shared { state, config, node, clocks, start, writer, embedded });
        if embedded {
            let weak = Arc::downgrade(&shared);
            shared.lock().engine.set_nudge(Nudge::new(move || {
                if let Some(shared) = weak.upgrade() {
                    shared.nudged();
                }
            }));
        }
        Ok(shared)
    }

    /// Another client of the same store has messages for this one.
    fn nudged(&self) {
        let now = self.now();
        let mut state = self.lock();
        state.engine.handle_input(Input::Nudged, now);
        self.settle_and_wake(state);
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the node is called that gave a reply.
    #[cold]
    pub(super) fn giver_of(&self, reply: &Reply) -> Arc<str> {
        self.node_numbered(reply.giver())
    }

    /// The node of this number, or the client's, which may stand for a whole cluster.
    pub(super) fn node_numbered(&self, number: u32) -> Arc<str> {
        let known = (number > 0).then(|| self.lock().engine.node_numbered(number));
        known.flatten().unwrap_or_else(|| self.node.clone())
    }

    /// The node's name.
    pub(super) fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// How the client is doing.
    pub fn status(&self) -> Status {
        let status = self.lock().engine.status();
        // The engine only knows when something last happened.
        let lasting = self.now().instant.saturating_duration_since(status.since);
        Status { lasting, ..status }
    }

    /// Reads the clocks.
    pub fn now(&self) -> Now {
        (self.clocks.now)()
    }

    // ---- callers -------------------------------------------------------------------------------

    /// Submits a request; writes it where the engine says that it is the caller's turn to.
    pub fn submit(self: &Arc<Self>, request: &Request<'_>) -> Result<Ticket, Rejected> {
        self.drive_time(request.spec().is_blocking(), request.command())?;
        self.submit_with(request.command(), |engine, now| engine.submit(request, None, now))
    }

    /// Submits a pipeline.
    pub fn submit_batch(self: &Arc<Self>, batch: &Batch) -> Result<Ticket, Rejected> {
        self.drive_time(batch.waits(), batch.what())?;
        self.submit_with(batch.what(), |engine, now| engine.submit_batch(batch, None, now))
    }

    /// Submits a request on a lease.
    pub(super) fn submit_on(
        self: &Arc<Self>,
        lease: Lease,
        request: &Request<'_>,
    ) -> Result<Ticket, Rejected> {
        self.drive_time(request.spec().is_blocking(), request.command())?;
        let submit = |engine: &mut Engine<Waker>, now| engine.submit_on(lease, request, None, now);
        self.submit_with(request.command(), submit)
    }

    /// Submits a pipeline on a lease.
    pub(super) fn submit_batch_on(
        self: &Arc<Self>,
        lease: Lease,
        batch: &Batch,
    ) -> Result<Ticket, Rejected> {
        self.drive_time(batch.waits(), batch.what())?;
        let submit =
            |engine: &mut Engine<Waker>, now| engine.submit_batch_on(lease, batch, None, now);
        self.submit_with(batch.what(), submit)
    }

    /// Has somebody drive time where something waits though there is no server.
    #[inline]
    fn drive_time(self: &Arc<Self>, waits: bool, command: &str) -> Result<(), Rejected> {
        if self.embedded && waits {
            drop(self.lock_timed(command)?);
        }
        Ok(())
    }

    /// Takes a connection of one's own.
    pub(super) fn lease(self: &Arc<Self>, key: Option<&[u8]>) -> Result<Lease, Failure> {
        let now = self.now();
        let mut state = match self.lock_driven("lease") {
            Ok(state) => state,
            Err(Rejected::Failed(failure)) => return Err(failure),
            Err(Rejected::Full) => unreachable!("nothing was submitted"),
        };
        let lease = match key {
            Some(key) => state.engine.lease_for(key, now),
            None => state.engine.lease(now),
        };
        self.settle_and_wake(state);
        lease
    }

    /// Gives it back.
    pub(super) fn give_back(&self, lease: Lease) {
        let now = self.now();
        self.with(|state, _| state.engine.give_back(lease, now));
    }

    /// Why it was lost, if it was.
    pub(super) fn lost_lease(&self, lease: Lease) -> Option<Cause> {
        self.lock().engine.lost_lease(lease)
    }

    /// Submits something; writes it where the engine says that it is the caller's turn to.
    fn submit_with(
        self: &Arc<Self>,
        command: &str,
        submit: impl FnOnce(&mut Engine<Waker>, Now) -> Result<(Ticket, Flush), Rejected>,
    ) -> Result<Ticket, Rejected> {
        let instant = if self.embedded { None } else { Some((self.clocks.instant)()) };
        let mut state = self.lock_driven(command)?;
        let now = instant.map_or_else(|| self.now(), |instant| state.now_at(instant));
        let (ticket, flush) = match submit(&mut state.engine, now) {
            Ok(submitted) => submitted,
            Err(rejected) => {
                self.settle_and_wake(state);
                return Err(rejected);
            }
        };
        let driver = match flush {
            Flush::Nothing => None,
            Flush::AfterOthers(conn) if self.writer == Writer::Driver => {
                state.driver(conn).and_then(Driver::ask_flush)
            }
            // Where it can't be lent, somebody has it already, or waits for the kernel to take more.
            Flush::AfterOthers(conn) | Flush::Now(conn) => {
                if let Some(write) = state.lend(conn) {
                    if state.is_settled() {
                        drop(state);
                    } else {
                        self.settle_and_wake(state);
                    }
                    self.write(write);
                    return Ok(ticket);
                }
                None
            }
        };
        if state.is_settled() {
            drop(state);
        } else {
            self.settle_and_wake(state);
        }
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(ticket)
    }

    #[cold]
    fn settle_and_wake(&self, mut state: MutexGuard<'_, State>) {
        let mut wakes = Wakes::default();
        state.settle(&mut wakes);
        drop(state);
        self.carry_out(&mut wakes);
    }

    /// To be called once the lock is released: wakes, logs, and runs what is foreign.
    fn carry_out(&self, wakes: &mut Wakes) {
        wakes.wake();
        while let Some(run) = wakes.runs.pop() {
            IN_SCRIPT.set(true);
            let done = run.run();
            IN_SCRIPT.set(false);
            let now = self.now();
            let mut state = self.lock();
            state.engine.handle_input(Input::Ran(done), now);
            state.settle(wakes);
            drop(state);
            wakes.wake();
        }
    }

    /// Asks the engine something about subscriptions, with somebody there who drives the client.
    pub(super) fn subscribing<T>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut Engine<Waker>, Now) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let now = self.now();
        let mut state = match self.lock_driven("SUBSCRIBE") {
            Ok(state) => state,
            Err(Rejected::Failed(failure)) => return Err(failure),
            Err(Rejected::Full) => unreachable!("nothing was submitted"),
        };
        let result = act(&mut state.engine, now);
        self.settle_and_wake(state);
        result
    }

    /// What came of a wait for a connection or for topics.
    pub(super) fn poll_wait(
        &self,
        ticket: Ticket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        let mut state = self.lock();
        if let Some(result) = state.engine.take_wait(ticket) {
            return Poll::Ready(result);
        }
        let old = state.engine.set_waiter(ticket, cx.waker().clone());
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// Waits for the first connection.
    pub fn connect(self: &Arc<Self>) -> Result<Ticket, Failure> {
        let now = self.now();
        let mut wakes = Wakes::default();
        let mut state = match self.lock_driven("connect") {
            Ok(state) => state,
            Err(Rejected::Failed(failure)) => return Err(failure),
            Err(Rejected::Full) => unreachable!("nothing was submitted"),
        };
        let ticket = state.engine.connect(None, now);
        state.settle(&mut wakes);
        drop(state);
        self.carry_out(&mut wakes);
        Ok(ticket)
    }

    /// Waits for `span`.
    pub(super) fn sleep(self: &Arc<Self>, span: Duration) -> Result<Ticket, Failure> {
        let now = self.now();
        let mut wakes = Wakes::default();
        let state =
            if self.embedded { self.lock_timed("sleep") } else { self.lock_driven("sleep") };
        let mut state = match state {
            Ok(state) => state,
            Err(Rejected::Failed(failure)) => return Err(failure),
            Err(Rejected::Full) => unreachable!("nothing was submitted"),
        };
        let ticket = state.engine.sleep(span, None, now);
        state.settle(&mut wakes);
        drop(state);
        wakes.wake();
        Ok(ticket)
    }

    /// Where a pipeline is answered, and by which connection if that is now.
    pub(super) fn place_of(&self, batch: &Batch) -> (Place, Option<u64>) {
        let state = self.lock();
        let place = state.engine.place_of(batch);
        (place, state.engine.connection_at(place))
    }

    /// Which connection answers there now.
    pub(super) fn connection_at(&self, place: Place) -> Option<u64> {
        self.lock().engine.connection_at(place)
    }

    /// The lock, with somebody there who drives the client, though there is no server: requests can do
    /// without, and time can't.
    fn lock_timed(self: &Arc<Self>, command: &str) -> Result<MutexGuard<'_, State>, Rejected> {
        let mut state = self.lock();
        if matches!(state.mode, Mode::Inline) && !state.engine.is_closed() {
            state.mode = Mode::Idle;
        }
        drop(state);
        self.lock_driven(command)
    }

    /// The lock, with somebody there who drives the client.
    pub(super) fn lock_driven(
        self: &Arc<Self>,
        command: &str,
    ) -> Result<MutexGuard<'_, State>, Rejected> {
        if !self.config.native_scripts.is_empty() && IN_SCRIPT.get() {
            return Err(Rejected::Failed(self.failure(FailureKind::Misuse(IMPURE), command)));
        }
        let state = self.lock();
        match state.mode {
            Mode::Driven(_) | Mode::Inline => Ok(state),
            Mode::Idle | Mode::Leaving => {
                drop(state);
                self.begin(command)
            }
        }
    }

    #[cold]
    fn begin(self: &Arc<Self>, command: &str) -> Result<MutexGuard<'_, State>, Rejected> {
        let refuse = |kind| Rejected::Failed(self.failure(kind, command));
        let mut state = self.lock();
        if matches!(state.mode, Mode::Idle) {
            state.epoch += 1;
            state.mode = Mode::Driven(None);
            let driving = Driving { shared: self.clone(), epoch: state.epoch };
            drop(state);
            (self.start)(driving).map_err(|advice| refuse(FailureKind::NoRuntime(advice)))?;
            state = self.lock();
        }
        match state.mode {
            Mode::Driven(_) | Mode::Inline => Ok(state),
            // A runtime that shuts down takes tasks and drops them.
            Mode::Idle | Mode::Leaving => Err(refuse(FailureKind::RuntimeDropped)),
        }
    }

    /// A failure of something that was not executed.
    pub(super) fn failure(&self, kind: FailureKind, command: &str) -> Failure {
        Failure::new(kind, Executed::No, command.to_owned()).at(Some(self.node.clone()))
    }

    /// Writes a chunk on behalf of a connection's driver, without waiting. What the kernel does not
    /// take, the driver writes; what others add meanwhile as well, but for a few rounds where callers
    /// are to write.
    pub fn write(&self, write: Write) {
        let mut rounds = match self.writer {
            Writer::Driver => 0,
            Writer::Caller => WRITE_ROUNDS_MAX,
        };
        let mut next = Some(write);
        while let Some(Write { conn, wire, chunk }) = next {
            let (count, blocked, broken) = try_write_all(&*wire, chunk.unwritten());
            // The socket may be closed by whoever lets go of it last, and that is no work for a lock.
            drop(wire);
            let instant = (self.clocks.instant)();
            next = self.with(|state, wakes| {
                let now = state.now_at(instant);
                state.hand_back(conn, Handback { chunk, count, blocked }, now);
                let more = state.engine.unwritten(conn) > 0;
                let driver = state.driver(conn)?;
                let broke = broken.is_some();
                driver.broken = broken.or(driver.broken.take());
                if !more && !broke {
                    return None;
                }
                if rounds > 0
                    && let Some(write) = state.lend(conn)
                {
                    rounds -= 1;
                    return Some(write);
                }
                wakes.add(state.driver(conn)?.ask_flush());
                None
            });
        }
    }

    /// Gives a ticket up: what was not sent is withdrawn, a reply that still comes is thrown away.
    pub fn cancel(&self, ticket: Ticket) {
        let now = self.now();
        let waiter = self.with(|state, _| {
            let waiter = state.engine.take_waiter(ticket);
            state.engine.cancel(ticket, now);
            waiter
        });
        drop(waiter);
    }

    /// Gives a ticket up, but not what was asked.
    pub fn detach(&self, ticket: Ticket) {
        let waiter = self.with(|state, _| {
            let waiter = state.engine.take_waiter(ticket);
            state.engine.detach(ticket);
            waiter
        });
        drop(waiter);
    }

    /// Has the client serve its requests in this way, whatever its server does.
    pub fn force(&self, forced: Option<Forced>) {
        let now = self.now();
        self.with(|state, _| state.engine.force(forced, now));
    }

    /// Refuses new requests; what was sent may finish within `grace`. Everything else ends.
    pub fn shutdown(&self, grace: Duration) {
        let now = self.now();
        self.with(|state, _| state.engine.shutdown(grace, now));
    }

    /// Whether the client is closed, its connections are, and nothing drives it any longer.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        // A native script that closes its own client can't wait for its own end.
        if state.is_done() || IN_SCRIPT.get() {
            return Poll::Ready(());
        }
        // A future that is polled now and then, as in a loop of `select!`, is still one that waits.
        if !state.closers.iter().any(|closer| closer.will_wake(&waker)) {
            state.closers.push(waker);
        }
        Poll::Pending
    }

    pub(super) fn subscribe(&self, subscriber: &Arc<Subscriber>) {
        let mut state = self.lock();
        if state.engine.is_closed() {
            drop(state);
            subscriber.end();
            return;
        }
        state.subscribers.retain(|subscriber| subscriber.strong_count() > 0);
        state.subscribers.push(Arc::downgrade(subscriber));
    }

    // ---- drivers -------------------------------------------------------------------------------

    /// Tells the engine something.
    pub fn input(&self, input: Input<'_>) {
        let now = self.now();
        self.with(|state, _| {
            state.clock = now;
            state.engine.handle_input(input, now);
        });
    }

    /// Acts on the state, settles, unlocks and wakes.
    pub fn with<T>(&self, act: impl FnOnce(&mut State, &mut Wakes) -> T) -> T {
        self.with_wakes(&mut Wakes::default(), act)
    }

    /// [`with`](Shared::with), for those who have a place to gather wakers.
    pub fn with_wakes<T>(
        &self,
        wakes: &mut Wakes,
        act: impl FnOnce(&mut State, &mut Wakes) -> T,
    ) -> T {
        let mut state = self.lock();
        let result = act(&mut state, wakes);
        state.settle(wakes);
        drop(state);
        self.carry_out(wakes);
        result
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is our bug, and a poisoned lock would spread it to every caller;
        // to the drop of a pending request as well, where it would abort the process.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives how many bytes were taken, whether the kernel takes no more for now, and what broke.
fn try_write_all(wire: &dyn Wire, bytes: &[u8]) -> (usize, bool, Option<Cause>) {
    let bytes = &bytes[..bytes.len().min(WRITE_BYTES_MAX)];
    let mut count = 0;
    while count < bytes.len() {
        match wire.try_write(&bytes[count..]) {
            Ok(0) => return (count, false, Some(Cause::Reset)),
            Ok(some) => count += some,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (count, true, None),
            Err(error) => return (count, false, Some(Cause::from(&error))),
        }
    }
    (count, false, None)
}

impl Driving {
    /// The client.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        let now = self.shared.now();
        self.shared.with(|state, wakes| {
            if state.epoch == self.epoch
                && let Mode::Driven(waker) = &mut state.mode
            {
                wakes.add(waker.take());
                // The connections' tasks are gone or soon will be: nothing waits for them.
                for driver in state.drivers.iter_mut().flatten() {
                    wakes.add(driver.waker.take());
                }
                state.leave(now);
            }
        });
    }
}
