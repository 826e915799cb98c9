//! The handle's lock, its wakers and its writers, with threads in many orders: one order after the
//! other, drawn from a seed, switched wherever a thread takes a lock or waits. An order in which
//! somebody is never woken ends as a deadlock, and the checker prints how to repeat it.
//!
//! `RUSTFLAGS='--cfg interleavings' cargo test -p unfazed-core --test interleavings`
#![cfg(interleavings)]

mod common;

use std::{
    cell::{Cell, RefCell},
    future::{Future, pending, poll_fn, ready},
    io, mem,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use common::{answer, join, next_command};
use shuttle::{
    future::{block_on, yield_now},
    sync::{Condvar, Mutex},
    thread,
};
use unfazed_core::{
    Config, Now, Store,
    config::ProtocolChoice,
    engine::{Linger, SocketOptions, Target},
    fallback::Ambient,
    handle::{Handle, Runtime, Stream, Wire},
    prelude::*,
};

/// How many orders of each scenario are tried, of each kind.
const ORDERS: usize = 1_000;

fn in_many_orders(scenario: fn()) {
    common::in_many_orders(ORDERS, scenario);
}

/// A runtime of the checker's tasks, where a timer that is due soon runs at once. Its sockets take `ROOM` bytes before their peer
/// has to read some; the peer answers `ANSWERS` commands, then it hangs up.
enum Modelled<const ROOM: usize, const ANSWERS: usize> {}

/// As many as you like.
const ANY: usize = usize::MAX;

/// One connection: what goes to the peer, and what comes from it.
#[derive(Default)]
struct Socket {
    state: Mutex<Wires>,
    /// There are commands for the peer, or there will be none any more.
    stirred: Condvar,
}

#[derive(Default)]
struct Wires {
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    /// How much the kernel takes until the peer has read it.
    room: usize,
    ended: bool,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct End(Arc<Socket>);

/// Timers that are due later never run: they are for peers that hang, and these do not.
const SOON: Duration = Duration::from_secs(1);

#[expect(clippy::disallowed_methods, reason = "every scenario begins at some instant")]
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

thread_local! {
    /// The time of a scenario, whose threads are all one to std.
    static CLOCK: Cell<Instant> = Cell::new(*START);

    static RUNTIME: RefCell<Arc<Gone>> = RefCell::default();
}

/// Whether the runtime is gone, and with it all its tasks; and whom to wake when it goes.
#[derive(Default)]
struct Gone(Mutex<(bool, Vec<Waker>)>);

impl Gone {
    fn is_gone(&self, cx: &Context<'_>) -> bool {
        let mut state = self.0.lock().unwrap();
        state.1.push(cx.waker().clone());
        state.0
    }

    fn go(&self) {
        let mut state = self.0.lock().unwrap();
        state.0 = true;
        let tasks = mem::take(&mut state.1);
        drop(state);
        tasks.into_iter().for_each(Waker::wake);
    }
}

impl<const ROOM: usize, const ANSWERS: usize> Runtime for Modelled<ROOM, ANSWERS> {
    type Stream = End;

    fn now() -> Now {
        Now { instant: CLOCK.get(), unix: Duration::from_secs(1_000_000_000) }
    }

    fn instant() -> Instant {
        CLOCK.get()
    }

    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Result<(), &'static str> {
        let runtime = RUNTIME.with_borrow(Arc::clone);
        // As threads, so that a task which never ends is found as well.
        thread::spawn(move || {
            let mut task = Box::pin(task);
            block_on(poll_fn(|cx| match runtime.is_gone(cx) {
                true => Poll::Ready(()),
                false => task.as_mut().poll(cx),
            }));
        });
        Ok(())
    }

    fn resolve(_: Arc<str>, _: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send {
        ready(Ok(vec![SocketAddr::from(([127, 0, 0, 1], 6379))]))
    }

    fn connect(_: Target, _: SocketOptions) -> impl Future<Output = io::Result<End>> + Send {
        let socket = Arc::new(Socket::default());
        socket.state.lock().unwrap().room = ROOM;
        let peer = socket.clone();
        thread::spawn(move || peer.serve(ANSWERS));
        ready(Ok(End(socket)))
    }

    async fn sleep_until(at: Instant) {
        if at.saturating_duration_since(CLOCK.get()) > SOON {
            pending::<()>().await;
        }
        yield_now().await;
        CLOCK.set(CLOCK.get().max(at));
    }
}

impl Ambient for Modelled<ANY, ANY> {
    fn now() -> Now {
        <Self as Runtime>::now()
    }

    fn seed() -> u64 {
        1
    }
}

impl Stream for End {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let mut wires = self.0.state.lock().unwrap();
        let count = wires.incoming.len().min(buffer.capacity() - buffer.len());
        if count == 0 && !wires.ended {
            wires.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        buffer.extend(wires.incoming.drain(..count));
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.0.take(bytes, Some(cx.waker())) {
            0 => Poll::Pending,
            count => Poll::Ready(Ok(count)),
        }
    }

    fn wire(&self) -> Arc<dyn Wire> {
        self.0.clone()
    }

    fn close(self, _: Linger) {}
}

impl Drop for End {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().closed = true;
        self.0.stirred.notify_one();
    }
}

impl Wire for Socket {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.take(bytes, None) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Socket {
    /// Takes as much as there is room for; where there is none, `waker` is to be woken once there is.
    fn take(&self, bytes: &[u8], waker: Option<&Waker>) -> usize {
        let mut wires = self.state.lock().unwrap();
        let count = bytes.len().min(wires.room);
        wires.room -= count;
        if count == 0 {
            wires.writer = waker.cloned().or_else(|| wires.writer.take());
        }
        wires.outgoing.extend_from_slice(&bytes[..count]);
        drop(wires);
        self.stirred.notify_one();
        count
    }

    /// The life of the peer: takes in what was written, answers each whole command.
    fn serve(&self, mut answers: usize) {
        let mut commands = Vec::new();
        let mut wires = self.state.lock().unwrap();
        loop {
            while wires.outgoing.is_empty() && !wires.closed {
                wires = self.stirred.wait(wires).unwrap();
            }
            if wires.closed {
                return;
            }
            let taken = mem::take(&mut wires.outgoing);
            wires.room += taken.len();
            let writer = wires.writer.take();
            drop(wires);
            writer.into_iter().for_each(Waker::wake);
            commands.extend(taken);
            let mut replies = Vec::new();
            while let Some(command) = next_command(&mut commands) {
                if answers == 0 {
                    break;
                }
                if answers < ANY && command[0] != b"PING" {
                    answers -= 1;
                }
                replies.extend(answer(&command));
            }
            wires = self.state.lock().unwrap();
            wires.incoming.extend(replies);
            wires.ended = answers == 0;
            let reader = wires.reader.take();
            drop(wires);
            reader.into_iter().for_each(Waker::wake);
            if answers == 0 {
                return;
            }
            wires = self.state.lock().unwrap();
        }
    }
}

fn config() -> Config {
    Config::standalone("127.0.0.1", 6379).protocol(ProtocolChoice::Resp2).client_info(false)
}

fn client<const ROOM: usize, const ANSWERS: usize>() -> Handle {
    Handle::new::<Modelled<ROOM, ANSWERS>>(config(), 1).expect("a good configuration")
}

fn get(client: &Handle, key: &str) -> Result<String, Failure> {
    block_on(client.get::<String>(key)).map(|value| value.expect("the peer has every key"))
}

/// Closes the client; then nothing may be left behind.
fn close(client: &Handle) {
    block_on(client.close());
    let status = client.status();
    assert_eq!((status.tickets, status.queued_requests, status.connections), (0, 0, 0));
}

#[test]
fn everyone_gets_their_own_reply() {
    in_many_orders(|| {
        let client = client::<ANY, ANY>();
        let callers = ["a", "b", "c"].map(|key| {
            let client = client.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    assert_eq!(get(&client, key).expect("it is answered"), key);
                }
            })
        });
        join(callers);
        close(&client);
    });
}

#[test]
fn whoever_gives_up_takes_nobody_else_s_reply() {
    in_many_orders(|| {
        let client = client::<ANY, ANY>();
        let impatient = client.clone();
        let impatient = thread::spawn(move || {
            let mut given_up = impatient.get::<String>("given up");
            let once = block_on(poll_fn(|cx| Poll::Ready(Pin::new(&mut given_up).poll(cx))));
            if let Poll::Ready(value) = once {
                assert_eq!(value.expect("it is answered").as_deref(), Some("given up"));
            }
            drop(given_up);
            assert_eq!(get(&impatient, "next").expect("it is answered"), "next");
        });
        assert_eq!(get(&client, "own").expect("it is answered"), "own");
        impatient.join().unwrap();
        close(&client);
    });
}

#[test]
fn callers_and_the_driver_write_in_turn_where_the_kernel_takes_little() {
    in_many_orders(|| {
        // Longer than what a caller leaves to the driver, and than what the socket takes at once.
        let client = client::<5_000, ANY>();
        let callers = ["a", "b"].map(|key| {
            let client = client.clone();
            thread::spawn(move || {
                let long = "x".repeat(9_000);
                block_on(client.set(key, &long)).expect("it is answered");
                assert_eq!(get(&client, key).expect("it is answered"), key);
            })
        });
        join(callers);
        close(&client);
    });
}

#[test]
fn a_connection_that_ends_costs_no_reader_an_answer() {
    in_many_orders(|| {
        let client = client::<ANY, 2>();
        let callers = ["a", "b"].map(|key| {
            let client = client.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    assert_eq!(get(&client, key).expect("it is asked again"), key);
                }
            })
        });
        join(callers);
        close(&client);
    });
}

#[test]
fn closing_ends_whatever_is_pending() {
    in_many_orders(|| {
        let client = client::<ANY, ANY>();
        let callers = ["a", "b"].map(|key| {
            let client = client.clone();
            thread::spawn(move || match get(&client, key) {
                Ok(value) => assert_eq!(value, key),
                Err(failure) => assert!(matches!(failure.kind(), FailureKind::ClientClosed)),
            })
        });
        block_on(client.close());
        join(callers);
        close(&client);
    });
}

#[test]
fn dropping_the_last_handle_ends_whatever_is_pending() {
    in_many_orders(|| {
        let client = client::<ANY, ANY>();
        let pending = ["a", "b"].map(|key| client.get::<String>(key));
        let mut events = client.events();
        let waiting = pending.map(|pending| {
            thread::spawn(move || {
                // Whichever way: what counts is that it does.
                let _ = block_on(pending);
            })
        });
        let listening = thread::spawn(move || while block_on(events.next()).is_some() {});
        drop(client);
        join(waiting);
        listening.join().unwrap();
    });
}

#[test]
fn a_runtime_that_goes_ends_whatever_is_pending_and_another_goes_on() {
    in_many_orders(|| {
        let runtime = RUNTIME.take();
        RUNTIME.set(runtime.clone());
        let client = client::<5_000, ANY>();
        let callers = ["a", "b"].map(|key| {
            let client = client.clone();
            thread::spawn(move || {
                let long = "x".repeat(9_000);
                if let Err(failure) = block_on(client.set(key, &long)) {
                    assert!(matches!(failure.kind(), FailureKind::RuntimeDropped), "{failure}");
                }
            })
        });
        runtime.go();
        RUNTIME.take();
        join(callers);
        // The old runtime's tasks may not all be gone yet.
        loop {
            match get(&client, "c") {
                Ok(value) => break assert_eq!(value, "c"),
                Err(failure) => assert!(matches!(failure.kind(), FailureKind::RuntimeDropped)),
            }
            thread::yield_now();
        }
        close(&client);
    });
}

#[test]
fn clients_of_one_store_hear_each_other() {
    in_many_orders(|| {
        let store = Store::<Modelled<ANY, ANY>>::new();
        let clients = [1, 2].map(|seed| {
            let config = Config::from(&store);
            Handle::new::<Modelled<ANY, ANY>>(config, seed).expect("a good configuration")
        });
        let [first, second] = &clients;
        let talks = [(first, "to second", "to first"), (second, "to first", "to second")];
        let talks = talks.map(|(own, there, here)| {
            let own = own.clone();
            thread::spawn(move || {
                let mut heard = block_on(own.subscribe(here)).expect("it is subscribed");
                while block_on(own.publish(there, "hello")).expect("it is published") == 0 {
                    thread::yield_now();
                }
                while !matches!(block_on(heard.next()), Some(Incoming::Message(_))) {}
            })
        });
        join(talks);
    });
}
