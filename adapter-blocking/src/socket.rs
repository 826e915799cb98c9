//! One socket, TCP or Unix: neither reading nor writing ever waits.

use std::{
    io, mem,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use rustix::{
    buffer::spare_capacity,
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};
use socket2::{Domain, SockAddr, TcpKeepalive, Type};
use unfazed_core::{
    engine::{Linger, SocketOptions, Target},
    handle::Wire,
};

/// A write to a closed connection is to be an error, not a signal, whatever process this is in.
#[cfg(not(target_vendor = "apple"))]
const SEND: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const SEND: SendFlags = SendFlags::empty();

#[derive(Debug)]
pub(crate) struct Socket(socket2::Socket);

impl Socket {
    /// Begins to connect; gives whether that is done already.
    pub(crate) fn open(target: &Target, options: SocketOptions) -> io::Result<(Self, bool)> {
        let (address, tcp) = match target {
            Target::Tcp(address) => (SockAddr::from(*address), true),
            Target::Unix(path) => (SockAddr::unix(path)?, false),
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let domain = Domain::from(i32::from(address.family()));
        let socket = socket2::Socket::new(domain, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        #[cfg(target_vendor = "apple")]
        socket.set_nosigpipe(true)?;
        if tcp {
            socket.set_tcp_nodelay(options.nodelay)?;
            if let Some(idle) = options.keepalive {
                socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle))?;
            }
        }
        match socket.connect(&address) {
            Ok(()) => Ok((Socket(socket), true)),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => {
                Ok((Socket(socket), false))
            }
            Err(error) => Err(error),
        }
    }

    /// What came of connecting, once the socket is writable.
    pub(crate) fn connected(&self) -> io::Result<()> {
        self.0.take_error()?.map_or(Ok(()), Err)
    }

    /// Appends what there is to `buffer`, through `scratch`; 0 is the end of the stream.
    pub(crate) fn read(&self, buffer: &mut BytesMut, scratch: &mut [u8]) -> io::Result<usize> {
        let (count, _) = recv(&self.0, &mut *scratch, RecvFlags::empty())?;
        buffer.extend_from_slice(&scratch[..count]);
        Ok(count)
    }

    /// Likewise, but straight into the place for a large reply of which so much is `missing`. Its
    /// bytes are not copied for that, only passed from one owner to the other and back.
    pub(crate) fn read_rest(&self, buffer: &mut BytesMut, missing: usize) -> io::Result<usize> {
        let mut bytes = Vec::from(mem::take(buffer));
        bytes.reserve_exact(missing);
        let count = recv(&self.0, spare_capacity(&mut bytes), RecvFlags::empty());
        *buffer = Bytes::from(bytes).into();
        Ok(count?.1)
    }

    /// Says what becomes of bytes on their way when the last reference is dropped.
    pub(crate) fn linger(&self, linger: Linger) {
        if linger == Linger::Reset {
            // If it is gone already, there is nothing left to be reset.
            let _ = self.0.set_linger(Some(Duration::ZERO));
        }
    }
}

impl Wire for Socket {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(&self.0, bytes, SEND)?)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
