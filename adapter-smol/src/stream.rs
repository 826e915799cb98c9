//! Sockets, as smol has them.

#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_io::Async;
use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use unfazed_core::{
    engine::{Linger, SocketOptions, Target},
    handle::{Stream, Wire},
};

/// How much is read at once. It stays in the processor's cache, so that copying what was read costs
/// less than clearing the space that it could have been read into.
const SCRATCH_BYTES: usize = 64 * 1024;

/// A connected socket.
pub(crate) struct Socket {
    inner: Arc<Inner>,
    scratch: Box<[u8]>,
    /// The last read took all there was, so the next one waits for more before it tries.
    drained: bool,
}

enum Inner {
    Tcp(Async<TcpStream>),
    #[cfg(unix)]
    Unix(Async<UnixStream>),
}

impl Socket {
    pub(crate) async fn connect(target: Target, options: SocketOptions) -> io::Result<Self> {
        let inner = match target {
            Target::Tcp(address) => {
                let stream = Async::<TcpStream>::connect(address).await?;
                stream.get_ref().set_nodelay(options.nodelay)?;
                if let Some(idle) = options.keepalive {
                    let keepalive = TcpKeepalive::new().with_time(idle);
                    SockRef::from(stream.get_ref()).set_tcp_keepalive(&keepalive)?;
                }
                Inner::Tcp(stream)
            }
            #[cfg(unix)]
            Target::Unix(path) => Inner::Unix(Async::<UnixStream>::connect(path).await?),
            other => {
                let text = format!("{other} can't be connected to on this system");
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
        };
        Ok(Socket {
            inner: Arc::new(inner),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            drained: false,
        })
    }
}

impl Stream for Socket {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let Socket { inner, scratch, drained } = self;
        let room = (buffer.capacity() - buffer.len()).min(scratch.len());
        loop {
            if *drained {
                ready!(match &**inner {
                    Inner::Tcp(stream) => stream.poll_readable(cx),
                    #[cfg(unix)]
                    Inner::Unix(stream) => stream.poll_readable(cx),
                })?;
                *drained = false;
            }
            let read = match &**inner {
                Inner::Tcp(stream) => stream.get_ref().read(&mut scratch[..room]),
                #[cfg(unix)]
                Inner::Unix(stream) => stream.get_ref().read(&mut scratch[..room]),
            };
            match read {
                Ok(count) => {
                    *drained = count > 0 && count < room;
                    buffer.extend_from_slice(&scratch[..count]);
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => *drained = true,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.inner.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
            ready!(match &*self.inner {
                Inner::Tcp(stream) => stream.poll_writable(cx),
                #[cfg(unix)]
                Inner::Unix(stream) => stream.poll_writable(cx),
            })?;
        }
    }

    fn wire(&self) -> Arc<dyn Wire> {
        self.inner.clone()
    }

    fn close(self, linger: Linger) {
        if let (Linger::Reset, Inner::Tcp(stream)) = (linger, &*self.inner) {
            // Where that fails the connection is gone already.
            let _ = SockRef::from(stream.get_ref()).set_linger(Some(Duration::ZERO));
        }
    }
}

impl Wire for Inner {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Inner::Tcp(stream) => stream.get_ref().write(bytes),
            #[cfg(unix)]
            Inner::Unix(stream) => stream.get_ref().write(bytes),
        }
    }
}
