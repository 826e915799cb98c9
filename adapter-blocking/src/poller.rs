//! What a leader does: it watches all sockets, reads what comes, writes what others could not.
//!
//! There is one [`Poller`] for a client, and whoever holds it leads.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rustix::event::{PollFd, PollFlags, Timespec};
use unfazed_core::{
    Cause, Chunk, Now,
    engine::{ConnId, Input, Linger, Lookup, SocketOptions, Target},
    handle::{Drained, Driving, Handback, Job, Shared, Step, WRITE_BYTES_MAX, Wakes, Wire},
};

use crate::{
    driver::Bell,
    socket::Socket,
    sync::{poll, thread},
};

/// How much a read is given at first.
const READ_BYTES: usize = 64 * 1024;

/// Up to where that doubles, each time that a read fills it.
const READ_BYTES_MAX: usize = 256 * 1024;

/// How many reads a connection makes before others have their turn.
const READS_MAX: usize = 16;

pub(crate) struct Poller {
    driving: Driving,
    /// Wakes whoever leads, and sees to it that somebody does.
    waker: Waker,
    connections: Vec<Connection>,
    /// What is read stands here first. It is shared by all connections: they keep only the part of
    /// a frame that has come, and an idle one keeps nothing.
    scratch: Vec<u8>,
    jobs: Vec<Job>,
    /// What poll said of the bell and each connection; empty but for its place in memory.
    happened: Vec<PollFlags>,
    wakes: Wakes,
    /// When the engine wants to be asked again.
    pub(crate) armed: Option<Instant>,
    /// Some peer is expected to act: the sockets are not to be left alone.
    pub(crate) watch: bool,
    /// When the sockets are to be looked at again, though no peer owes anything.
    look_again_after: Option<Duration>,
}

struct Connection {
    conn: ConnId,
    socket: Arc<Socket>,
    connecting: bool,
    /// The kernel took less than it was given.
    blocked: bool,
    buffer: BytesMut,
    /// How much of a large reply is known to be missing.
    missing: usize,
    /// Nothing is to be read for now.
    stopped: bool,
}

/// Whether the client is closed, and there is nothing left to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Open,
    Closed,
}

impl Poller {
    pub(crate) fn new(driving: Driving, waker: Waker) -> Self {
        Poller {
            driving,
            waker,
            connections: Vec::new(),
            scratch: vec![0; READ_BYTES],
            jobs: Vec::new(),
            happened: Vec::new(),
            wakes: Wakes::default(),
            armed: None,
            watch: true,
            look_again_after: None,
        }
    }

    /// When there will be something to do or to look for at the latest.
    pub(crate) fn due(&self) -> Option<Instant> {
        let look = self.look_again_after.map(|after| Instant::now() + after);
        self.armed.into_iter().chain(look).min()
    }

    /// Does all there is to do, then waits until there is more, but not if `hurry` says so and not
    /// beyond `limit`.
    pub(crate) fn turn(
        &mut self,
        bell: &Bell,
        limit: Option<Instant>,
        hurry: &dyn Fn() -> bool,
    ) -> Turn {
        loop {
            while bell.take_stir() {
                if self.carry_out() == Turn::Closed {
                    return Turn::Closed;
                }
            }
            let now = Instant::now();
            if self.armed.is_some_and(|armed| armed <= now) {
                self.armed = None;
                self.driving.shared().input(Input::Timeout);
                bell.stir();
                continue;
            }
            let until = self.armed.into_iter().chain(limit).min();
            self.wait(bell, until.map(|until| until.saturating_duration_since(now)), hurry);
            return Turn::Open;
        }
    }

    /// Carries out what the engine asks for.
    fn carry_out(&mut self) -> Turn {
        let now = now();
        let Poller { driving, waker, jobs, wakes, .. } = self;
        let (drained, watch, look_again_after) =
            driving.shared().with_wakes(wakes, |state, wakes| {
                let drained = state.drain(waker, now, jobs, wakes);
                (drained, state.awaits_peer(), state.look_again_after())
            });
        (self.watch, self.look_again_after) = (watch, look_again_after);
        let Drained::Wait(armed) = drained else { return Turn::Closed };
        self.armed = armed;
        for job in std::mem::take(&mut self.jobs) {
            match job {
                Job::Resolve { lookup, host, port } => self.look_up(lookup, host, port),
                Job::Open { conn, target, socket } => self.open(conn, &target, socket),
            }
        }
        for at in (0..self.connections.len()).rev() {
            self.read_on(at);
            self.step(at);
        }
        Turn::Open
    }

    /// Waits for the sockets, then reads and writes where it can.
    fn wait(&mut self, bell: &Bell, span: Option<Duration>, hurry: &dyn Fn() -> bool) {
        let Some(ear) = bell.ear() else { return };
        let mut fds = Vec::with_capacity(self.connections.len() + 1);
        fds.push(PollFd::new(ear, PollFlags::IN));
        fds.extend(self.connections.iter().map(|connection| {
            let mut events = PollFlags::empty();
            events.set(PollFlags::IN, !connection.connecting && !connection.stopped);
            events.set(PollFlags::OUT, connection.connecting || connection.blocked);
            // One of which nothing is wanted is left out, or its end would be reported on and on.
            if events.is_empty() {
                PollFd::new(ear, events)
            } else {
                PollFd::new(&*connection.socket, events)
            }
        }));
        let timeout = span.map(|span| Timespec::try_from(span).unwrap_or(FAR));
        // Whoever rings from here on is heard; who did before is seen by `hurry` or the stir.
        bell.lie_down();
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let awake = bell.is_stirred() || hurry();
        let polled = poll(&mut fds, if awake { Some(&at_once) } else { timeout.as_ref() });
        bell.get_up();
        if !matches!(polled, Ok(1..)) {
            return;
        }
        let mut happened = std::mem::take(&mut self.happened);
        happened.extend(fds.iter().map(PollFd::revents));
        drop(fds);
        if !happened[0].is_empty() {
            bell.hear();
        }
        // From the back: a connection that is closed makes room for the last, which was seen to.
        for (at, revents) in happened.drain(1..).enumerate().rev() {
            let Some(connection) = self.connections.get_mut(at).filter(|_| !revents.is_empty())
            else {
                continue;
            };
            if connection.connecting {
                self.finish_opening(at);
                continue;
            }
            if revents.contains(PollFlags::OUT) {
                connection.blocked = false;
                bell.stir();
            }
            if revents.intersects(!PollFlags::OUT) && !connection.stopped {
                self.read(at);
            }
        }
        happened.clear();
        self.happened = happened;
    }

    fn look_up(&self, lookup: Lookup, host: Arc<str>, port: u16) {
        let shared = self.driving.shared().clone();
        let answering = shared.clone();
        let looking = thread::Builder::new().name("unfazed-lookup".into()).spawn(move || {
            let found = (&*host, port).to_socket_addrs().map(Iterator::collect);
            answer(&answering, lookup, &found);
        });
        if let Err(error) = looking {
            answer(&shared, lookup, &Err(error));
        }
    }

    fn open(&mut self, conn: ConnId, target: &Target, options: SocketOptions) {
        match Socket::open(target, options) {
            Ok((socket, connected)) => {
                self.connections.push(Connection {
                    conn,
                    socket: Arc::new(socket),
                    connecting: true,
                    blocked: false,
                    buffer: BytesMut::new(),
                    missing: 0,
                    stopped: false,
                });
                if connected {
                    self.finish_opening(self.connections.len() - 1);
                }
            }
            Err(error) => self.tell_closed(conn, Cause::from(&error)),
        }
    }

    fn finish_opening(&mut self, at: usize) {
        let Poller { connections, driving, wakes, .. } = self;
        let connection = &mut connections[at];
        connection.connecting = false;
        match connection.socket.connected() {
            Ok(()) => {
                let wire = connection.socket.clone();
                let conn = connection.conn;
                let now = now();
                driving.shared().with_wakes(wakes, |state, _| state.opened(conn, wire, now));
            }
            Err(error) => self.close(at, Linger::Deliver, Cause::from(&error)),
        }
    }

    /// Reads what there is.
    fn read(&mut self, at: usize) {
        for _ in 0..READS_MAX {
            let Poller { connections, driving, scratch, wakes, watch, .. } = self;
            let Connection { conn, socket, buffer, missing, stopped, .. } = &mut connections[at];
            let (rest, room) = (*missing, scratch.len());
            let large = rest > room;
            let read =
                if large { socket.read_rest(buffer, rest) } else { socket.read(buffer, scratch) };
            match read {
                // Unanswered writes are better not executed later, hence the reset.
                Ok(0) => return self.close(at, Linger::Reset, Cause::EndOfStream),
                Ok(count) => {
                    let now = now();
                    let (reading, awaits) = driving.shared().with_wakes(wakes, |state, _| {
                        (state.received(*conn, buffer, now), state.awaits_peer())
                    });
                    (*missing, *stopped, *watch) = (reading.missing, reading.stop, awaits);
                    if large || count < room || reading.stop || reading.give_way {
                        return;
                    }
                    scratch.resize((2 * room).min(READ_BYTES_MAX), 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => return self.close(at, Linger::Reset, Cause::from(&error)),
            }
        }
    }

    /// Takes up a connection again on which nothing was to be read: what was read before comes first.
    fn read_on(&mut self, at: usize) {
        let Poller { connections, driving, wakes, .. } = self;
        let Connection { conn, buffer, missing, stopped, .. } = &mut connections[at];
        if !*stopped {
            return;
        }
        let now = now();
        let reading = driving.shared().with_wakes(wakes, |state, _| {
            state.may_read(*conn).then(|| state.received(*conn, buffer, now))
        });
        if let Some(reading) = reading {
            (*missing, *stopped) = (reading.missing, reading.stop);
        }
    }

    /// Writes what there is, and does what the engine wants done with the connection.
    fn step(&mut self, at: usize) {
        loop {
            let Poller { connections, driving, waker, wakes, .. } = self;
            let conn = connections[at].conn;
            let step = driving
                .shared()
                .with_wakes(wakes, |state, wakes| state.step(conn, waker, true, wakes));
            match step {
                Step::Idle | Step::AfterOthers => return,
                Step::Close(linger, cause) => {
                    return self.close(at, linger, cause.unwrap_or(Cause::Local));
                }
                Step::Write(chunk) => match self.write(at, chunk) {
                    Ok(blocked) => {
                        self.connections[at].blocked = blocked;
                        if blocked {
                            return;
                        }
                    }
                    Err(error) => return self.close(at, Linger::Reset, Cause::from(&error)),
                },
            }
        }
    }

    /// Writes a chunk as far as the kernel takes it, up to `WRITE_BYTES_MAX`; gives whether the kernel
    /// takes no more.
    fn write(&mut self, at: usize, chunk: Chunk) -> io::Result<bool> {
        let Poller { connections, driving, wakes, .. } = self;
        let Connection { conn, socket, .. } = &connections[at];
        let bytes = chunk.unwritten();
        let bytes = &bytes[..bytes.len().min(WRITE_BYTES_MAX)];
        let mut count = 0;
        let written = loop {
            match socket.try_write(&bytes[count..]) {
                Ok(0) => break Err(ErrorKind::ConnectionReset.into()),
                Ok(some) => count += some,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(true),
                Err(error) => break Err(error),
            }
            if count == bytes.len() {
                break Ok(false);
            }
        };
        let handback = Handback { chunk, count, blocked: matches!(written, Ok(true)) };
        let now = now();
        driving.shared().with_wakes(wakes, |state, _| state.hand_back(*conn, handback, now));
        written
    }

    fn close(&mut self, at: usize, linger: Linger, cause: Cause) {
        let connection = self.connections.swap_remove(at);
        connection.socket.linger(linger);
        drop(connection.socket);
        self.tell_closed(connection.conn, cause);
    }

    fn tell_closed(&mut self, conn: ConnId, cause: Cause) {
        let now = now();
        let Poller { driving, wakes, .. } = self;
        driving.shared().with_wakes(wakes, |state, _| state.closed(conn, cause, now));
    }
}

/// So long that nobody sees its end.
const FAR: Timespec = Timespec { tv_sec: i32::MAX as _, tv_nsec: 0 };

fn answer(shared: &Shared, lookup: Lookup, found: &io::Result<Vec<SocketAddr>>) {
    let addresses = match found {
        Ok(addresses) => Ok(&**addresses),
        Err(error) => Err(Cause::NameNotFound(error.to_string().into())),
    };
    shared.input(Input::Resolved { lookup, addresses });
}

pub(crate) fn now() -> Now {
    Now::new(Instant::now(), std::time::SystemTime::now())
}
