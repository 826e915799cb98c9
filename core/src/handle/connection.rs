//! The task that drives one socket, both directions in one poll: neither ever waits for the other,
//! so two full socket buffers can't lock each other up.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::BytesMut;

use super::{
    runtime::{Runtime, Stream},
    shared::{Shared, WRITE_BYTES_MAX},
    state::{Handback, Step, Wakes},
};
use crate::{
    connection::Chunk,
    engine::{ConnId, Linger, SocketOptions, Target},
    failure::Cause,
};

/// How much room there is for a read at first.
const READ_BYTES: usize = 64 * 1024;

/// Up to where that room doubles, each time that a read fills it.
const READ_BYTES_MAX: usize = 256 * 1024;

/// With less room than this, more is made before the next read, even if a part of a frame must be
/// copied for it.
const READ_BYTES_MIN: usize = 4 * 1024;

/// How many reads or writes one poll makes before other tasks have their turn.
const STEPS_MAX: usize = 16;

/// Tells the engine that a connection is gone, if its task ends without having done so.
pub(super) struct Guard {
    shared: Arc<Shared>,
    conn: ConnId,
    told: bool,
}

/// A connection on which bytes go both ways.
struct Driver<'a, R: Runtime> {
    shared: &'a Shared,
    conn: ConnId,
    stream: R::Stream,
    buffer: BytesMut,
    /// How much room a read is given.
    room: usize,
    /// How much of a large reply is known to be missing.
    missing: usize,
    /// Nothing is to be read for now.
    stopped: bool,
    /// Others have had their turn to add to what is to be written.
    waited: bool,
    wakes: Wakes,
}

/// A chunk that is out; it is handed back whatever happens.
struct Out<'a> {
    shared: &'a Shared,
    conn: ConnId,
    chunk: Option<Chunk>,
    count: usize,
}

/// Connects, drives the connection to its end, and says that it is closed.
pub(super) async fn run<R: Runtime>(mut guard: Guard, target: Target, socket: SocketOptions) {
    let cause = drive::<R>(&guard, target, socket).await;
    guard.told = true;
    let now = R::now();
    guard.shared.with(|state, _| state.closed(guard.conn, cause, now));
}

async fn drive<R: Runtime>(guard: &Guard, target: Target, socket: SocketOptions) -> Cause {
    let Guard { shared, conn, .. } = guard;
    let Some(stream) = connect::<R>(guard, target, socket).await else { return Cause::Local };
    let stream = match stream {
        Ok(stream) => stream,
        Err(error) => return Cause::from(&error),
    };
    let wire = stream.wire();
    let now = R::now();
    shared.with(|state, _| state.opened(*conn, wire, now));
    let mut driver = Driver::<R> {
        shared,
        conn: *conn,
        stream,
        buffer: BytesMut::new(),
        room: READ_BYTES,
        missing: 0,
        stopped: false,
        waited: false,
        wakes: Wakes::default(),
    };
    let (linger, cause) = poll_fn(|cx| driver.poll(cx)).await;
    driver.stream.close(linger);
    cause
}

/// Connects; gives nothing where the engine no longer wants it.
async fn connect<R: Runtime>(
    guard: &Guard,
    target: Target,
    socket: SocketOptions,
) -> Option<io::Result<R::Stream>> {
    let Guard { shared, conn, .. } = guard;
    let mut connecting = pin!(R::connect(target, socket));
    poll_fn(|cx| {
        if shared.with(|state, wakes| state.poll_unwanted(*conn, cx.waker(), wakes)) {
            return Poll::Ready(None);
        }
        connecting.as_mut().poll(cx).map(Some)
    })
    .await
}

impl<R: Runtime> Driver<'_, R> {
    /// Ends with how to close the socket, and why.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Linger, Cause)> {
        if let Poll::Ready(cause) = self.poll_read(cx) {
            // What the peer has not taken yet, it does not want; and unanswered writes are better
            // not executed later.
            return Poll::Ready((Linger::Reset, cause));
        }
        self.poll_write(cx)
    }

    /// Reads what there is. Ends when the connection has.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Cause> {
        for _ in 0..STEPS_MAX {
            if self.stopped {
                if !self.shared.with_wakes(&mut self.wakes, |state, _| state.may_read(self.conn)) {
                    return Poll::Pending;
                }
                // What was read before comes first.
                if self.receive() {
                    break;
                }
                continue;
            }
            self.make_room();
            let room = self.buffer.capacity() - self.buffer.len();
            match self.stream.poll_read(cx, &mut self.buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Cause::EndOfStream),
                Poll::Ready(Ok(count)) => {
                    if count == room {
                        self.room = (2 * self.room).min(READ_BYTES_MAX);
                    }
                    if self.receive() {
                        break;
                    }
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Cause::from(&error)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn make_room(&mut self) {
        let room = self.buffer.capacity() - self.buffer.len();
        if self.missing > room {
            self.buffer.reserve(self.missing);
        } else if room < READ_BYTES_MIN || (self.buffer.is_empty() && room < self.room / 2) {
            self.buffer.reserve(self.room);
        }
    }

    /// Hands in what was read. Gives whether others should have their turn now.
    fn receive(&mut self) -> bool {
        let now = R::now();
        let Driver { shared, conn, buffer, wakes, .. } = self;
        let reading = shared.with_wakes(wakes, |state, _| state.received(*conn, buffer, now));
        self.missing = reading.missing;
        self.stopped = reading.stop;
        reading.give_way
    }

    /// Writes what there is, and does what the engine wants done with the connection.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<(Linger, Cause)> {
        for _ in 0..STEPS_MAX {
            let Driver { shared, conn, waited, wakes, .. } = self;
            let step = shared
                .with_wakes(wakes, |state, wakes| state.step(*conn, cx.waker(), *waited, wakes));
            self.waited = matches!(step, Step::AfterOthers);
            match step {
                Step::Idle => return Poll::Pending,
                Step::AfterOthers => break,
                Step::Close(linger, cause) => {
                    return Poll::Ready((linger, cause.unwrap_or(Cause::Local)));
                }
                Step::Write(chunk) => match self.write(cx, chunk) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready((Linger::Reset, Cause::from(&error)));
                    }
                },
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes a chunk as far as the kernel takes it, up to `WRITE_BYTES_MAX`, and hands it back.
    fn write(&mut self, cx: &mut Context<'_>, chunk: Chunk) -> Poll<io::Result<()>> {
        let Driver { shared, conn, .. } = *self;
        let mut out = Out { shared, conn, chunk: Some(chunk), count: 0 };
        loop {
            match self.stream.poll_write(cx, out.rest()) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                Poll::Ready(Ok(count)) => out.count += count,
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    out.hand_back(true);
                    return Poll::Pending;
                }
            }
            if out.rest().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Out<'_> {
    fn rest(&self) -> &[u8] {
        let bytes = self.chunk.as_ref().map_or(&[][..], Chunk::unwritten);
        &bytes[self.count..bytes.len().min(WRITE_BYTES_MAX)]
    }

    fn hand_back(&mut self, blocked: bool) {
        let Some(chunk) = self.chunk.take() else { return };
        let now = self.shared.now();
        let handback = Handback { chunk, count: self.count, blocked };
        self.shared.with(|state, _| state.hand_back(self.conn, handback, now));
    }
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        self.hand_back(false);
    }
}

impl Guard {
    pub(super) fn new(shared: &Arc<Shared>, conn: ConnId) -> Self {
        Guard { shared: shared.clone(), conn, told: false }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.told {
            self.shared.with(|state, wakes| state.orphaned(self.conn, wakes));
        }
    }
}
