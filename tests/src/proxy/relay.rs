//! The thread that owns a proxy's sockets. One for all connections: then a fault comes into force
//! everywhere at one moment, and a socket that is to be reset has no second owner to keep it open.

use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

use super::link::Link;
use super::{Fault, Record};
use crate::eventually;
use crate::net::{Close, listen, loopback, reset};

/// How long the target may take to accept. It is on this machine, and everybody waits meanwhile.
const CONNECT_LIMIT: Duration = Duration::from_millis(500);

#[derive(Clone, Copy)]
pub(super) enum Order {
    Set(Fault),
    Target(u16),
    CloseAll(Close),
}

pub(super) struct Relay {
    port: u16,
    /// `None` while connections are refused.
    listener: Option<TcpListener>,
    target: u16,
    buffers: Option<usize>,
    fault: Fault,
    links: Vec<Link>,
    inbox: Receiver<(Order, Sender<()>)>,
    woken: UnixStream,
    record: Arc<Mutex<Record>>,
}

impl Relay {
    pub(super) fn new(
        listener: TcpListener,
        target: u16,
        buffers: Option<usize>,
        (inbox, woken): (Receiver<(Order, Sender<()>)>, UnixStream),
        record: Arc<Mutex<Record>>,
    ) -> Self {
        listener.set_nonblocking(true).expect("a fresh socket");
        woken.set_nonblocking(true).expect("a fresh socket");
        let port = listener.local_addr().expect("a bound socket").port();
        let (listener, fault, links) = (Some(listener), Fault::None, Vec::new());
        Self { port, listener, target, buffers, fault, links, inbox, woken, record }
    }

    /// Runs until the proxy is dropped.
    pub(super) fn run(mut self) {
        loop {
            self.wait();
            match self.woken.read(&mut [0; 64]) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("the wake pipe: {error}"),
            }
            while let Ok((order, done)) = self.inbox.try_recv() {
                self.obey(order);
                // One that does not wait for it has panicked, and says so itself.
                _ = done.send(());
            }
            self.accept();
            self.forward();
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&self) {
        let now = Instant::now();
        let mut fds = vec![PollFd::new(&self.woken, PollFlags::IN)];
        fds.extend(self.listener.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
        for link in &self.links {
            link.interests(self.fault, now, &mut fds);
        }
        let due = self.links.iter().filter_map(|link| link.due(self.fault, now)).min();
        // Rounded up, for to wake too early is to spin.
        let wait = due.map(|due| due.saturating_duration_since(now) + Duration::from_micros(50));
        let wait = wait.map(|wait| Timespec::try_from(wait).expect("a wait of less than an age"));
        match poll(&mut fds, wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }

    fn obey(&mut self, order: Order) {
        // Who has connected already belongs to what was before, as its client sees it.
        self.accept();
        match order {
            Order::Set(fault) => {
                self.fault = fault;
                if fault == Fault::Refuse {
                    self.listener = None;
                } else if self.listener.is_none() {
                    self.listener = Some(self.listen_again());
                }
                for link in &mut self.links {
                    link.restart_count();
                }
            }
            Order::Target(port) => self.target = port,
            Order::CloseAll(how) => {
                for link in &mut self.links {
                    link.end(how);
                }
                self.forward();
            }
        }
    }

    fn listen_again(&self) -> TcpListener {
        let listener = eventually("the proxy's port to be free", Duration::from_secs(5), || {
            listen(self.port, self.buffers).ok()
        });
        listener.set_nonblocking(true).expect("a fresh socket");
        listener
    }

    fn accept(&mut self) {
        while let Some(listener) = &self.listener {
            let client = match listener.accept() {
                Ok((client, _)) => client,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The client was gone before it was accepted.
                Err(_) => continue,
            };
            if self.fault == Fault::ResetNew {
                reset(client);
                continue;
            }
            let mut record = self.record.lock().expect("a test thread panicked");
            record.requests.push(Vec::new());
            record.replies.push(Vec::new());
            let number = record.requests.len() - 1;
            drop(record);
            match self.connect() {
                Ok(server) => self.links.push(Link::new(number, client, server)),
                Err(_) => reset(client),
            }
        }
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(size) = self.buffers {
            socket.set_recv_buffer_size(size)?;
        }
        socket.connect_timeout(&loopback(self.target).into(), CONNECT_LIMIT)?;
        Ok(socket.into())
    }

    fn forward(&mut self) {
        let mut record = self.record.lock().expect("a test thread panicked");
        for link in &mut self.links {
            link.forward(self.fault, &mut record);
        }
        self.links.retain(|link| !link.is_over());
        record.open = self.links.iter().filter(|link| link.is_open()).count();
    }
}
