//! Sockets, as tokio has them.

use std::{
    future::Future,
    io,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
#[cfg(unix)]
use tokio::net::{UnixStream, unix};
use tokio::{
    io::AsyncReadExt,
    net::{TcpStream, tcp},
};
use unfazed_core::{
    engine::{Linger, SocketOptions, Target},
    handle::{Stream, Wire},
};

/// A connected socket.
pub(crate) struct Socket {
    reader: Reader,
    writer: Arc<Writer>,
}

/// Halves, because tokio's reader remembers that it has read all there is and spares the system
/// call that would find out; and it needs to be owned for that, while callers share the writer.
enum Reader {
    Tcp(tcp::OwnedReadHalf),
    #[cfg(unix)]
    Unix(unix::OwnedReadHalf),
}

enum Writer {
    Tcp(tcp::OwnedWriteHalf),
    #[cfg(unix)]
    Unix(unix::OwnedWriteHalf),
}

impl Socket {
    pub(crate) async fn connect(target: Target, options: SocketOptions) -> io::Result<Self> {
        let (reader, writer) = match target {
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(options.nodelay)?;
                if let Some(idle) = options.keepalive {
                    let keepalive = TcpKeepalive::new().with_time(idle);
                    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                }
                let (reader, writer) = stream.into_split();
                (Reader::Tcp(reader), Writer::Tcp(writer))
            }
            #[cfg(unix)]
            Target::Unix(path) => {
                let (reader, writer) = UnixStream::connect(path).await?.into_split();
                (Reader::Unix(reader), Writer::Unix(writer))
            }
            other => {
                let text = format!("{other} can't be connected to on this system");
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
        };
        Ok(Socket { reader, writer: Arc::new(writer) })
    }
}

impl Stream for Socket {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        // The future keeps nothing from one poll to the next.
        match &mut self.reader {
            Reader::Tcp(reader) => pin!(reader.read_buf(buffer)).poll(cx),
            #[cfg(unix)]
            Reader::Unix(reader) => pin!(reader.read_buf(buffer)).poll(cx),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(match &*self.writer {
                Writer::Tcp(writer) => writer.as_ref().poll_write_ready(cx),
                #[cfg(unix)]
                Writer::Unix(writer) => writer.as_ref().poll_write_ready(cx),
            })?;
            match self.writer.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn wire(&self) -> Arc<dyn Wire> {
        self.writer.clone()
    }

    fn close(self, linger: Linger) {
        if let (Linger::Reset, Writer::Tcp(writer)) = (linger, &*self.writer) {
            // Where that fails the connection is gone already.
            let _ = SockRef::from(writer.as_ref()).set_linger(Some(Duration::ZERO));
        }
    }
}

impl Wire for Writer {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Writer::Tcp(writer) => writer.try_write(bytes),
            #[cfg(unix)]
            Writer::Unix(writer) => writer.try_write(bytes),
        }
    }
}
