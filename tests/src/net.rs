//! Ports and sockets on the loopback interface.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

/// Ports are taken from below the range that systems use for outgoing connections (Linux: from
/// 32768), so that no connection can take the port of a server that is down for a moment, and so
/// low that a cluster's bus port, 10,000 higher, exists too.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// How a connection ends, as the other side sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// In order: what was sent arrives, then the end of the stream.
    Fin,
    /// By force: the other side reads "connection reset". What it had received already it can
    /// still read; what was on its way is lost.
    Reset,
}

/// A TCP port on 127.0.0.1 that nobody listens on now. Each call returns another one, until the
/// range is used up; another process may still take it before the caller does.
///
/// # Panics
///
/// When no port of the range is free.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    // Test processes that run at the same time begin at different places.
    let first = std::process::id().wrapping_mul(997);
    for _ in 0..count {
        let step = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + u16::try_from(step % count).expect("the range is of u16");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port in {PORTS:?}");
}

/// The address of `port` on this machine.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Listens on `port`, also where its last listener has only just closed. Connections accepted here
/// receive into `receive_buffer` bytes (the system rounds that up to its own minimum), so that a
/// peer which is not read from notices soon.
pub(crate) fn listen(port: u16, receive_buffer: Option<usize>) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if let Some(size) = receive_buffer {
        // Before `listen`, or the window offered in the handshake is larger already.
        socket.set_recv_buffer_size(size)?;
    }
    socket.bind(&loopback(port).into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

/// Listens on a port of its own choice; see [`listen`].
pub(crate) fn listen_anywhere(receive_buffer: Option<usize>) -> (u16, TcpListener) {
    loop {
        let port = free_port();
        match listen(port, receive_buffer) {
            Ok(listener) => return (port, listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => panic!("cannot listen on port {port}: {error}"),
        }
    }
}

/// Ends a connection so that its other side sees a reset. The stream must have no clones, since
/// the system acts when the last one goes.
pub(crate) fn reset(stream: TcpStream) {
    // Fails on a connection that is gone already, and that is as well.
    _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io::Read;

    use super::*;

    #[test]
    fn free_ports_are_distinct_and_free() {
        let ports: HashSet<u16> = (0..50).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 50);
        let held: Vec<_> = ports.iter().map(|&port| listen(port, None)).collect();
        assert!(held.iter().all(Result::is_ok), "{held:?}");
    }

    #[test]
    fn a_port_that_is_taken_is_not_free() {
        let (port, _listener) = listen_anywhere(None);
        assert_eq!(listen(port, None).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert!((0..u32::from(PORTS.end - PORTS.start) / 100).all(|_| free_port() != port));
    }

    #[test]
    fn a_port_can_be_listened_on_again_at_once() {
        let (port, listener) = listen_anywhere(None);
        let client = TcpStream::connect(loopback(port)).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        // The side that closes first keeps the port in TIME_WAIT.
        drop((accepted, listener));
        drop(client);
        listen(port, None).unwrap();
    }

    #[test]
    fn a_reset_is_seen_as_a_reset() {
        let (port, listener) = listen_anywhere(None);
        let mut client = TcpStream::connect(loopback(port)).unwrap();
        reset(listener.accept().unwrap().0);
        let error = client.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}
