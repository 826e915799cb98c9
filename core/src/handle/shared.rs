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
    io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::{
    events::{self, Subscriber},
    runtime::Wire,
};
use crate::{
    Failure, Now,
    config::{Config, Deployment},
    connection::Chunk,
    engine::{
        Batch, ConnId, Engine, Event, Flush, Input, Linger, Lookup, Output, Rejected,
        SocketOptions, Status, Target, Ticket,
    },
    failure::{Cause, Executed, FailureKind},
    request::Request,
};

/// What all parts of one client share.
pub struct Shared {
    state: Mutex<State>,
    config: Config,
    /// The node's name, for failures that the engine does not make.
    node: Arc<str>,
    clocks: Clocks,
    start: Start,
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
pub type Start = fn(Driving) -> Result<(), &'static str>;

/// What stands under the lock.
pub struct State {
    pub(super) engine: Engine<Waker>,
    /// What the clocks said when the control plane or a connection last had them read.
    clock: Now,
    mode: Mode,
    /// Counts the starts, so that the end of an earlier driver does not end its successor.
    epoch: u64,
    drivers: Vec<Option<Driver>>,
    subscribers: Vec<Weak<Subscriber>>,
    /// Wait for the client to be closed.
    closers: Vec<Waker>,
}

/// Who carries out what the engine asks for.
enum Mode {
    /// Nobody; the next request starts somebody.
    Idle,
    /// The control task.
    Driven(Option<Waker>),
    /// The control task is gone, and a caller is still writing for it.
    Leaving,
    /// Whoever called the engine, at once: there is no server, or the client is closed.
    Inline,
}

/// One connection, as far as others than its driver are concerned with it.
struct Driver {
    conn: ConnId,
    waker: Option<Waker>,
    /// The socket, once it is connected.
    wire: Option<Arc<dyn Wire>>,
    /// The engine wants it closed.
    close: Option<Linger>,
    /// There is something to write.
    flush: bool,
    /// A chunk is out.
    writing: bool,
    /// The kernel took less than it was given; the driver waits for it to take more.
    blocked: bool,
    /// Closed while a chunk was out, or found broken by a caller that wrote.
    broken: Option<Cause>,
    /// The driver is gone; the engine is to be told once no chunk is out.
    gone: bool,
}

/// Keeps a client driven: for as long as it lives, somebody carries out what the engine asks for.
/// When it is dropped, every request ends; the next one starts a new driver.
pub struct Driving {
    shared: Arc<Shared>,
    epoch: u64,
}

/// A chunk that a caller is to write, see [`Shared::write`].
#[must_use = "the chunk is written by nobody else"]
pub struct Write {
    conn: ConnId,
    wire: Arc<dyn Wire>,
    chunk: Chunk,
}

/// What came of writing a chunk.
pub struct Handback {
    /// The chunk.
    pub chunk: Chunk,
    /// How many of its bytes the kernel took.
    pub count: usize,
    /// The kernel takes no more for now.
    pub blocked: bool,
}

/// What a connection's driver is to do next.
pub enum Step {
    /// Wait to be woken.
    Idle,
    /// Let others add to what is to be written, then ask again.
    AfterOthers,
    /// Write this and hand it back.
    Write(Chunk),
    /// Close the socket; why, where it was not the engine that wanted it.
    Close(Linger, Option<Cause>),
}

/// What needs a task of its own.
pub enum Job {
    /// See [`Output::Resolve`].
    Resolve {
        /// To be named in the answer.
        lookup: Lookup,
        /// The name.
        host: Arc<str>,
        /// The port.
        port: u16,
    },
    /// See [`Output::Open`].
    Open {
        /// To be named in the answer.
        conn: ConnId,
        /// Where to.
        target: Target,
        /// How to set the socket up.
        socket: SocketOptions,
    },
}

/// Where the control plane stands after it was drained.
pub enum Drained {
    /// Nothing to do until this instant, or until something happens.
    Wait(Option<Instant>),
    /// Nothing more to do, ever.
    Closed,
}

/// Whom to wake and what to log once the lock is released.
#[derive(Default)]
pub struct Wakes {
    /// Mostly there is one, and one needs no allocation.
    one: Option<Waker>,
    more: Vec<Waker>,
    events: Vec<Event>,
}

impl Shared {
    /// Makes a client whose driver is begun by `start` when there is something to drive.
    pub fn new(
        config: Config,
        seed: u64,
        clocks: Clocks,
        start: Start,
    ) -> Result<Arc<Self>, Failure> {
        let clock = (clocks.now)();
        let engine = Engine::new(config.clone(), seed, clock)?;
        let node = engine.status().node;
        let embedded = matches!(config.deployment, Deployment::Memory);
        let mode = if embedded { Mode::Inline } else { Mode::Idle };
        let state = Mutex::new(State {
            engine,
            clock,
            mode,
            epoch: 0,
            drivers: Vec::new(),
            subscribers: Vec::new(),
            closers: Vec::new(),
        });
        Ok(Arc::new(Shared { state, config, node, clocks, start, embedded }))
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The node's name.
    pub(super) fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// How the client is doing.
    pub fn status(&self) -> Status {
        self.lock().engine.status()
    }

    /// Reads the clocks.
    pub fn now(&self) -> Now {
        (self.clocks.now)()
    }

    // ---- callers -------------------------------------------------------------------------------

    /// Submits a request; writes it where the engine says that it is the caller's turn to.
    pub fn submit(self: &Arc<Self>, request: &Request<'_>) -> Result<Ticket, Rejected> {
        self.submit_with(request.command(), |engine, now| engine.submit(request, None, now))
    }

    /// Submits a pipeline.
    pub fn submit_batch(self: &Arc<Self>, batch: &Batch) -> Result<Ticket, Rejected> {
        self.submit_with("pipeline", |engine, now| engine.submit_batch(batch, None, now))
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
            Flush::AfterOthers(conn) => state.driver(conn).and_then(Driver::ask_flush),
            Flush::Now(conn) => {
                if let Some(write) = state.lend(conn) {
                    self.settle_and_wake(state);
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
        wakes.wake();
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
        wakes.wake();
        Ok(ticket)
    }

    /// The lock, with somebody there who drives the client.
    pub(super) fn lock_driven(
        self: &Arc<Self>,
        command: &str,
    ) -> Result<MutexGuard<'_, State>, Rejected> {
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
    /// take, the driver writes.
    pub fn write(&self, write: Write) {
        let Write { conn, wire, chunk } = write;
        let bytes = chunk.unwritten();
        let mut count = 0;
        let mut blocked = false;
        let mut broken = None;
        while count < bytes.len() && !blocked && broken.is_none() {
            match wire.try_write(&bytes[count..]) {
                Ok(0) => broken = Some(Cause::Reset),
                Ok(some) => count += some,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => blocked = true,
                Err(error) => broken = Some(Cause::from(&error)),
            }
        }
        // The socket may be closed by whoever lets go of it last, and that is no work for a lock.
        drop(wire);
        let now = self.now();
        self.with(|state, wakes| {
            state.hand_back(conn, Handback { chunk, count, blocked }, now);
            let more = state.engine.unwritten(conn) > 0;
            if let Some(driver) = state.driver(conn) {
                let broke = broken.is_some();
                driver.broken = broken.or(driver.broken.take());
                if more || broke {
                    wakes.add(driver.ask_flush());
                }
            }
        });
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

    /// Refuses new requests; what was sent may finish within `grace`. Everything else ends.
    pub fn shutdown(&self, grace: Duration) {
        let now = self.now();
        self.with(|state, _| state.engine.shutdown(grace, now));
    }

    /// Whether the client is closed, its connections are, and nothing drives it any longer.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if state.is_done() {
            return Poll::Ready(());
        }
        state.closers.push(waker);
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
        wakes.wake();
        result
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is our bug, and a poisoned lock would spread it to every caller;
        // to the drop of a pending request as well, where it would abort the process.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// To be called after the engine was, before unlocking: gathers whom to wake.
    pub fn settle(&mut self, wakes: &mut Wakes) {
        self.engine.take_ready(&mut wakes.more);
        if self.engine.has_output() {
            self.stir(wakes);
        }
        if !self.closers.is_empty() && self.is_done() {
            wakes.more.append(&mut self.closers);
        }
    }

    /// Whether settling would find nothing to do.
    fn is_settled(&self) -> bool {
        !self.engine.has_ready() && !self.engine.has_output() && self.closers.is_empty()
    }

    /// The time at `instant`. A second system call for the wall clock would be a twentieth of a
    /// request; it runs on from what it said when it was last read, which is as long ago as anything
    /// was received or any timer ran.
    fn now_at(&self, instant: Instant) -> Now {
        let unix = self.clock.unix + instant.saturating_duration_since(self.clock.instant);
        Now { instant, unix }
    }

    #[cold]
    fn stir(&mut self, wakes: &mut Wakes) {
        match &mut self.mode {
            Mode::Driven(waker) => wakes.add(waker.take()),
            Mode::Inline | Mode::Idle | Mode::Leaving => {
                let mut jobs = Vec::new();
                let _ = self.drain_engine(&mut jobs, wakes);
                self.engine.take_ready(&mut wakes.more);
                debug_assert!(jobs.is_empty(), "where nobody drives, nothing is to be driven");
            }
        }
    }

    /// Carries out what the engine asks for, as far as that is done here; the rest is added to
    /// `jobs`. For the control task, which is woken when there is more.
    pub fn drain(
        &mut self,
        waker: &Waker,
        now: Now,
        jobs: &mut Vec<Job>,
        wakes: &mut Wakes,
    ) -> Drained {
        if let Mode::Driven(place) = &mut self.mode {
            match place {
                Some(old) if old.will_wake(waker) => {}
                // Dropped, a waker may run foreign code; so it is woken instead.
                _ => wakes.add(place.replace(waker.clone())),
            }
        }
        self.clock = now;
        self.settle_gone(now);
        let drained = self.drain_engine(jobs, wakes);
        if matches!(drained, Drained::Closed) {
            self.mode = Mode::Inline;
        }
        drained
    }

    fn drain_engine(&mut self, jobs: &mut Vec<Job>, wakes: &mut Wakes) -> Drained {
        loop {
            match self.engine.poll_output() {
                Output::Resolve { lookup, host, port } => {
                    jobs.push(Job::Resolve { lookup, host, port });
                }
                Output::Open { conn, target, socket } => {
                    self.add_driver(conn);
                    jobs.push(Job::Open { conn, target, socket });
                }
                Output::Close { conn, linger } => {
                    if let Some(driver) = self.driver(conn) {
                        driver.close = Some(linger);
                        wakes.add(driver.waker.take());
                    }
                }
                Output::Flush { conn } => {
                    if let Some(driver) = self.driver(conn) {
                        wakes.add(driver.ask_flush());
                    }
                }
                // Subscriptions are not made yet, so nobody asked for one.
                Output::Push(_) => {}
                Output::Event(event) => self.tell(event, wakes),
                Output::Wait(at) => {
                    let closed =
                        self.engine.is_closed() && self.drivers.iter().all(Option::is_none);
                    return if closed { Drained::Closed } else { Drained::Wait(at) };
                }
            }
        }
    }

    fn tell(&mut self, event: Event, wakes: &mut Wakes) {
        self.subscribers.retain(|subscriber| {
            let Some(subscriber) = subscriber.upgrade() else { return false };
            wakes.add(subscriber.push(&event));
            true
        });
        wakes.events.push(event);
    }

    fn is_done(&self) -> bool {
        self.engine.is_closed()
            && !matches!(self.mode, Mode::Driven(_) | Mode::Leaving)
            && self.drivers.iter().all(Option::is_none)
    }

    // ---- connections ---------------------------------------------------------------------------

    fn add_driver(&mut self, conn: ConnId) {
        let at = conn.index();
        if self.drivers.len() <= at {
            self.drivers.resize_with(at + 1, || None);
        }
        self.drivers[at] = Some(Driver {
            conn,
            waker: None,
            wire: None,
            close: None,
            flush: false,
            writing: false,
            blocked: false,
            broken: None,
            gone: false,
        });
    }

    fn driver(&mut self, conn: ConnId) -> Option<&mut Driver> {
        self.drivers.get_mut(conn.index())?.as_mut().filter(|driver| driver.conn == conn)
    }

    /// Whether the engine wants a connection closed, while it is still being made. A connection that
    /// is no longer known is to be closed as well.
    pub fn poll_unwanted(&mut self, conn: ConnId, waker: &Waker, wakes: &mut Wakes) -> bool {
        match self.driver(conn) {
            Some(driver) if driver.close.is_none() => {
                wakes.add(driver.register(waker));
                false
            }
            _ => true,
        }
    }

    /// Bytes came in: whole frames are taken off the front of `buffer`. Gives how much is known to
    /// be missing of a large reply.
    pub fn received(&mut self, conn: ConnId, buffer: &mut BytesMut, now: Now) -> usize {
        self.clock = now;
        self.engine.received(conn, buffer, now);
        self.engine.missing(conn)
    }

    /// A socket is connected. `wire` is how callers write on it.
    pub fn opened(&mut self, conn: ConnId, wire: Arc<dyn Wire>, now: Now) {
        if let Some(driver) = self.driver(conn) {
            driver.wire = Some(wire);
            self.engine.handle_input(Input::Opened { conn }, now);
        }
    }

    /// What a connection's driver is to do. Called again after each [`Step::Write`]; `waited` says
    /// that others have had their turn since the last [`Step::AfterOthers`].
    pub fn step(&mut self, conn: ConnId, waker: &Waker, waited: bool, wakes: &mut Wakes) -> Step {
        let Some(driver) = self.driver(conn) else { return Step::Close(Linger::Reset, None) };
        if let Some(linger) = driver.close {
            return Step::Close(linger, None);
        }
        if let Some(cause) = driver.broken.take() {
            return Step::Close(Linger::Reset, Some(cause));
        }
        wakes.add(driver.register(waker));
        if driver.writing {
            return Step::Idle;
        }
        if driver.flush && !waited {
            return Step::AfterOthers;
        }
        driver.flush = false;
        match self.engine.take_output(conn) {
            Some(chunk) => {
                self.driver(conn).expect("it was found above").writing = true;
                Step::Write(chunk)
            }
            None => Step::Idle,
        }
    }

    /// Takes back a chunk that was out, from whoever wrote it.
    pub fn hand_back(&mut self, conn: ConnId, handback: Handback, now: Now) {
        let Handback { chunk, count, blocked } = handback;
        self.engine.written(conn, chunk, count, now);
        if let Some(driver) = self.driver(conn) {
            driver.writing = false;
            driver.blocked = blocked;
            if driver.gone || matches!(self.mode, Mode::Leaving) {
                self.settle_gone(now);
            }
        }
    }

    /// A socket is closed, or was never made. The engine is told once no chunk is out.
    pub fn closed(&mut self, conn: ConnId, cause: Cause, now: Now) {
        if let Some(driver) = self.driver(conn) {
            driver.gone = true;
            driver.wire = None;
            driver.broken = Some(cause);
            self.settle_gone(now);
        }
    }

    /// The driver of a connection is gone without a word, at the hands of its runtime. If that is
    /// because the runtime is, the control task goes as well; else the control task sees to it.
    pub fn orphaned(&mut self, conn: ConnId, wakes: &mut Wakes) {
        if let Some(driver) = self.driver(conn) {
            driver.gone = true;
            driver.wire = None;
            if let Mode::Driven(waker) = &mut self.mode {
                wakes.add(waker.take());
            }
        }
    }

    fn settle_gone(&mut self, now: Now) {
        if matches!(self.mode, Mode::Leaving) {
            return self.leave(now);
        }
        for at in 0..self.drivers.len() {
            if let Some(driver) = self.drivers[at].take_if(|driver| driver.gone && !driver.writing)
            {
                let cause = driver.broken.unwrap_or(Cause::Local);
                self.engine.handle_input(Input::Closed { conn: driver.conn, cause }, now);
            }
        }
    }

    /// The control task is gone. Ends every request, as soon as no caller has a chunk out.
    fn leave(&mut self, now: Now) {
        if self.drivers.iter().flatten().any(|driver| driver.writing) {
            self.mode = Mode::Leaving;
            return;
        }
        self.engine.abandon(now);
        self.drivers.clear();
        self.mode = if self.engine.is_closed() { Mode::Inline } else { Mode::Idle };
    }

    /// Hands a chunk to a caller that is to write it, unless somebody writes already or the kernel
    /// takes nothing.
    fn lend(&mut self, conn: ConnId) -> Option<Write> {
        let driver = self.driver(conn)?;
        if driver.writing || driver.blocked || driver.close.is_some() || driver.broken.is_some() {
            return None;
        }
        let wire = driver.wire.clone()?;
        let chunk = self.engine.take_output(conn)?;
        self.driver(conn)?.writing = true;
        Some(Write { conn, wire, chunk })
    }
}

impl Driver {
    /// Has the driver write once others had their turn; gives whom to wake for it.
    fn ask_flush(&mut self) -> Option<Waker> {
        self.flush = true;
        self.waker.take()
    }

    /// Has the driver woken; gives the waker that this one replaces, where it is another task's.
    fn register(&mut self, waker: &Waker) -> Option<Waker> {
        match &self.waker {
            Some(old) if old.will_wake(waker) => None,
            _ => self.waker.replace(waker.clone()),
        }
    }
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

impl Wakes {
    /// Adds one to be woken.
    pub fn add(&mut self, waker: Option<Waker>) {
        if self.one.is_none() {
            self.one = waker;
        } else {
            self.more.extend(waker);
        }
    }

    /// Wakes all and logs what there is to log. Not under the lock.
    pub fn wake(&mut self) {
        if let Some(waker) = self.one.take() {
            waker.wake();
        }
        for waker in self.more.drain(..) {
            waker.wake();
        }
        if !self.events.is_empty() {
            for event in mem::take(&mut self.events) {
                events::log(&event);
            }
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        for subscriber in self.subscribers.drain(..).filter_map(|weak| weak.upgrade()) {
            if let Some(waker) = subscriber.end() {
                waker.wake();
            }
        }
    }
}
