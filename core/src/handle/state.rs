//! What stands under the lock: the engine, its connections as others see them, and who waits.

use std::{
    mem,
    sync::{Arc, Weak},
    task::Waker,
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::{
    events::{self, Subscriber},
    runtime::Wire,
};
use crate::{
    Now,
    connection::Chunk,
    engine::{ConnId, Engine, Event, Input, Linger, Lookup, Output, SocketOptions, Target},
    failure::Cause,
    fallback::{NativeRun, Nudge},
};

/// What stands under the lock.
pub struct State {
    pub(super) engine: Engine<Waker>,
    /// What the clocks said when the control plane or a connection last had them read.
    pub(super) clock: Now,
    pub(super) mode: Mode,
    /// There is no server, so that nobody is needed to drive anything but time.
    pub(super) embedded: bool,
    /// Counts the starts, so that the end of an earlier driver does not end its successor.
    pub(super) epoch: u64,
    pub(super) drivers: Vec<Option<Driver>>,
    pub(super) subscribers: Vec<Weak<Subscriber>>,
    /// Wait for the client to be closed.
    pub(super) closers: Vec<Waker>,
}

/// Who carries out what the engine asks for.
pub(super) enum Mode {
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
pub(super) struct Driver {
    conn: ConnId,
    pub(super) waker: Option<Waker>,
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
    pub(super) broken: Option<Cause>,
    /// The driver is gone; the engine is to be told once no chunk is out.
    gone: bool,
}

/// A chunk that a caller is to write, see [`Shared::write`](super::Shared::write).
#[must_use = "the chunk is written by nobody else"]
pub struct Write {
    pub(super) conn: ConnId,
    pub(super) wire: Arc<dyn Wire>,
    pub(super) chunk: Chunk,
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

/// How to go on after something was read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// How much is known to be missing of a large reply.
    pub missing: usize,
    /// Nothing more is to be read until [`State::may_read`]; the rest stays in the buffer.
    pub stop: bool,
    /// Some reader of messages should have its turn before more is read.
    pub give_way: bool,
}

/// Where nobody calls, the sockets are looked at as often as this while messages may come. A server that
/// sends as fast as it can fills a few megabytes in that time, which its buffers and the kernels' hold.
const LISTENING_PAUSE: Duration = Duration::from_millis(10);

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

/// Whom to wake, what to log and what to run once the lock is released.
#[derive(Default)]
pub struct Wakes {
    /// Mostly there is one, and one needs no allocation.
    one: Option<Waker>,
    more: Vec<Waker>,
    events: Vec<Event>,
    pub(super) runs: Vec<NativeRun>,
    nudges: Vec<Nudge>,
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
    pub(super) fn is_settled(&self) -> bool {
        !self.engine.has_ready() && !self.engine.has_output() && self.closers.is_empty()
    }

    /// The time at `instant`. A second system call for the wall clock would be a twentieth of a
    /// request; it runs on from what it said when it was last read, which is as long ago as anything
    /// was received or any timer ran.
    pub(super) fn now_at(&self, instant: Instant) -> Now {
        if !self.engine.uses_wall_clock() {
            return Now { instant, ..self.clock };
        }
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
                // Of those who leave, all that they began is about to be given up.
                let leaving = matches!(self.mode, Mode::Leaving);
                debug_assert!(
                    jobs.is_empty() || leaving,
                    "where nobody drives, nothing is to be driven"
                );
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
                Output::Read { conn } => {
                    if let Some(driver) = self.driver(conn) {
                        wakes.add(driver.waker.take());
                    }
                }
                // Nobody asked for one.
                Output::Push(_) => {}
                Output::Event(event) => self.tell(event, wakes),
                Output::Run(run) => wakes.runs.push(run),
                Output::Nudge(nudge) => wakes.nudges.push(nudge),
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

    pub(super) fn is_done(&self) -> bool {
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

    pub(super) fn driver(&mut self, conn: ConnId) -> Option<&mut Driver> {
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

    /// Bytes came in: whole frames are taken off the front of `buffer`. Says how to read on.
    pub fn received(&mut self, conn: ConnId, buffer: &mut BytesMut, now: Now) -> Reading {
        self.clock = now;
        self.engine.received(conn, buffer, now);
        Reading {
            missing: self.engine.missing(conn),
            stop: !self.engine.may_read(conn),
            give_way: self.engine.is_crowded(),
        }
    }

    /// Whether more may be read from a connection on which reading was to stop. Its driver is woken when
    /// it may; then what it has in its buffer comes first.
    pub fn may_read(&self, conn: ConnId) -> bool {
        self.engine.may_read(conn)
    }

    /// Whether some peer is expected to do something: to accept, to shake hands, to reply. Who drives
    /// only now and then should not look away from its sockets then.
    pub fn awaits_peer(&self) -> bool {
        self.engine.awaits_peer()
    }

    /// After which time somebody should look at the sockets again, though no peer owes anything:
    /// messages may come at any moment.
    pub fn look_again_after(&self) -> Option<Duration> {
        self.engine.listens().then_some(LISTENING_PAUSE)
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
    pub(super) fn leave(&mut self, now: Now) {
        if self.drivers.iter().flatten().any(|driver| driver.writing) {
            self.mode = Mode::Leaving;
            return;
        }
        self.engine.abandon(now);
        self.drivers.clear();
        self.mode =
            if self.embedded || self.engine.is_closed() { Mode::Inline } else { Mode::Idle };
    }

    /// Hands a chunk to a caller that is to write it, unless somebody writes already or the kernel
    /// takes nothing.
    pub(super) fn lend(&mut self, conn: ConnId) -> Option<Write> {
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
    pub(super) fn ask_flush(&mut self) -> Option<Waker> {
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

impl Wakes {
    /// Adds one to be woken.
    pub fn add(&mut self, waker: Option<Waker>) {
        if self.one.is_none() {
            self.one = waker;
        } else {
            self.more.extend(waker);
        }
    }

    /// Wakes all, gives the nudges and logs what there is to log. Not under the lock.
    pub fn wake(&mut self) {
        if let Some(waker) = self.one.take() {
            waker.wake();
        }
        for waker in self.more.drain(..) {
            waker.wake();
        }
        for nudge in self.nudges.drain(..) {
            nudge.give();
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
