//! Tasks, look-ups, timers and clocks, as smol has them.

use std::{
    future::Future,
    hash::{BuildHasher, RandomState},
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::{Instant, SystemTime},
};

use async_io::Timer;
use unfazed_core::{
    Now,
    engine::{SocketOptions, Target},
    fallback::Ambient,
    handle::Runtime,
};

use crate::stream::Socket;

/// smol's global executor.
pub(crate) enum Smol {}

/// The clocks and the randomness of this process.
pub enum Process {}

impl Runtime for Smol {
    type Stream = Socket;

    fn now() -> Now {
        Now::new(Instant::now(), SystemTime::now())
    }

    fn instant() -> Instant {
        Instant::now()
    }

    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Result<(), &'static str> {
        smol::spawn(task).detach();
        Ok(())
    }

    async fn resolve(host: Arc<str>, port: u16) -> io::Result<Vec<SocketAddr>> {
        smol::unblock(move || Ok((&*host, port).to_socket_addrs()?.collect())).await
    }

    async fn connect(target: Target, socket: SocketOptions) -> io::Result<Socket> {
        Socket::connect(target, socket).await
    }

    async fn sleep_until(at: Instant) {
        Timer::at(at).await;
    }
}

impl Ambient for Process {
    fn now() -> Now {
        Smol::now()
    }

    fn seed() -> u64 {
        RandomState::new().hash_one(())
    }
}
