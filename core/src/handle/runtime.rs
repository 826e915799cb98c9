//! What an async adapter brings.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::BytesMut;

use crate::{
    Now,
    engine::{Linger, SocketOptions, Target},
};

/// A runtime: tasks, sockets, look-ups, timers and clocks. It decides nothing.
pub trait Runtime: Send + Sync + 'static {
    /// A connected socket.
    type Stream: Stream;

    /// Reads both clocks.
    fn now() -> Now;

    /// Reads the monotonic clock alone.
    fn instant() -> Instant;

    /// Runs a task on the runtime of the caller's context.
    ///
    /// # Errors
    ///
    /// Where there is none: what the caller should do about it. The task is dropped then.
    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Result<(), &'static str>;

    /// Looks a host name up.
    fn resolve(
        host: Arc<str>,
        port: u16,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    /// Connects. It may take for ever; the future is dropped when it took too long.
    fn connect(
        target: Target,
        socket: SocketOptions,
    ) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Ends at `at` or later. If it ends earlier nothing breaks: it only wakes.
    fn sleep_until(at: Instant) -> impl Future<Output = ()> + Send;
}

/// A connected socket, as its one driver sees it.
pub trait Stream: Send + 'static {
    /// Reads what there is into the free space of `buffer`, which is never empty; 0 is the end of
    /// the stream. Where there is nothing, the task is woken once there is.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut)
    -> Poll<io::Result<usize>>;

    /// Writes a part of `bytes`, which is never empty. Where the kernel takes nothing, the task is
    /// woken once it does.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// The same socket, for callers that write for themselves.
    fn wire(&self) -> Arc<dyn Wire>;

    /// Closes the socket.
    fn close(self, linger: Linger);
}

/// A socket, as callers see it that have gathered much to write.
pub trait Wire: Send + Sync {
    /// Writes a part of `bytes`, without waiting.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) where the kernel takes nothing; the driver waits
    /// for room then. Else what the socket says; the driver closes it then.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}
