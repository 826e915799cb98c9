//! Tasks, look-ups, timers and clocks, as tokio has them.

use std::{
    future::Future,
    hash::{BuildHasher, RandomState},
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use tokio::{net, runtime, time};
use unfazed_core::{
    Now,
    engine::{SocketOptions, Target},
    fallback::Ambient,
    handle::Runtime,
};

use crate::stream::Socket;

/// The runtime of the caller's context.
pub(crate) enum Tokio {}

/// The clocks and the randomness of this process.
pub enum Process {}

impl Runtime for Tokio {
    type Stream = Socket;

    fn now() -> Now {
        // The real clock, even where tokio's own is paused: servers go by it.
        Now::new(Instant::now(), SystemTime::now())
    }

    fn instant() -> Instant {
        Instant::now()
    }

    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Result<(), &'static str> {
        let Ok(handle) = runtime::Handle::try_current() else {
            return Err("no tokio runtime here: call this inside `block_on`, a task, or `enter`");
        };
        handle.spawn(task);
        Ok(())
    }

    async fn resolve(host: Arc<str>, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(net::lookup_host((&*host, port)).await?.collect())
    }

    async fn connect(target: Target, socket: SocketOptions) -> io::Result<Socket> {
        Socket::connect(target, socket).await
    }

    fn sleep_until(at: Instant) -> impl Future<Output = ()> + Send {
        time::sleep_until(at.into())
    }
}

impl Ambient for Process {
    fn now() -> Now {
        Tokio::now()
    }

    fn seed() -> u64 {
        RandomState::new().hash_one(())
    }
}
