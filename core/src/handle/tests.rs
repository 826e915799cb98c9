//! The handle on a runtime that does nothing by itself: tasks run, sockets read and write, and
//! time passes when a test says so.

mod conversation;

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::{Future, pending, ready},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::{Handle, Runtime, Stream, WRITE_BYTES_MAX, Wire};
use crate::{
    Config, Failure, FailureKind, Now,
    config::{Forced, ProtocolChoice},
    engine::{Batch, Linger, SocketOptions, Target},
    prelude::*,
    request::Request,
    resp::Value,
};

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

/// Each test has its own thread, and so its own world.
#[derive(Default)]
struct World {
    tasks: Vec<Option<Task>>,
    sockets: Vec<Arc<Socket>>,
    refuses_tasks: bool,
    /// What the next sockets take before they are full.
    room: Option<usize>,
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    woken: Arc<Flag>,
}

struct Flag(AtomicBool);

#[derive(Default)]
struct Socket(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    incoming: VecDeque<u8>,
    ended: bool,
    panics: bool,
    outgoing: Vec<u8>,
    room: Option<usize>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    closed: Option<Linger>,
    writes_by_callers: usize,
}

enum Fake {}

struct FakeStream(Arc<Socket>);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[expect(clippy::disallowed_methods, reason = "every test world begins at some instant")]
fn start() -> Instant {
    thread_local!(static START: Instant = Instant::now());
    START.with(|start| *start)
}

impl Runtime for Fake {
    type Stream = FakeStream;

    fn now() -> Now {
        Now { instant: start(), unix: Duration::from_secs(1_000_000_000) }
    }

    fn instant() -> Instant {
        start()
    }

    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Result<(), &'static str> {
        WORLD.with_borrow_mut(|world| {
            if world.refuses_tasks {
                return Err("not here");
            }
            let woken = Arc::new(Flag(AtomicBool::new(true)));
            world.tasks.push(Some(Task { future: Box::pin(task), woken }));
            Ok(())
        })
    }

    fn resolve(_: Arc<str>, _: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send {
        ready(Ok(vec![SocketAddr::from(([127, 0, 0, 1], 6379))]))
    }

    fn connect(_: Target, _: SocketOptions) -> impl Future<Output = io::Result<FakeStream>> + Send {
        let socket = Arc::new(Socket::default());
        WORLD.with_borrow_mut(|world| {
            socket.lock().room = world.room;
            world.sockets.push(socket.clone());
        });
        ready(Ok(FakeStream(socket)))
    }

    fn sleep_until(_: Instant) -> impl Future<Output = ()> + Send {
        pending()
    }
}

impl Stream for FakeStream {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.lock();
        assert!(!inner.panics, "the test wants the driver to panic");
        let room = buffer.capacity() - buffer.len();
        let bytes: Vec<u8> = {
            let count = room.min(inner.incoming.len());
            inner.incoming.drain(..count).collect()
        };
        if bytes.is_empty() && !inner.ended {
            inner.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        buffer.extend_from_slice(&bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.0.lock();
        match inner.write(bytes) {
            0 => {
                inner.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            count => Poll::Ready(Ok(count)),
        }
    }

    fn wire(&self) -> Arc<dyn Wire> {
        self.0.clone()
    }

    fn close(self, linger: Linger) {
        self.0.lock().closed = Some(linger);
    }
}

impl Wire for Socket {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut inner = self.lock();
        inner.writes_by_callers += 1;
        match inner.write(bytes) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Socket {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().expect("no test panics with it")
    }

    fn say(&self, bytes: &str) {
        let mut inner = self.lock();
        inner.incoming.extend(bytes.as_bytes());
        inner.reader.take().into_iter().for_each(Waker::wake);
    }

    fn end(&self) {
        let mut inner = self.lock();
        inner.ended = true;
        inner.reader.take().into_iter().for_each(Waker::wake);
    }

    fn make_room(&self) {
        let mut inner = self.lock();
        inner.room = None;
        inner.writer.take().into_iter().for_each(Waker::wake);
    }
}

impl Inner {
    fn write(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room.unwrap_or(usize::MAX));
        self.room = self.room.map(|room| room - count);
        self.outgoing.extend_from_slice(&bytes[..count]);
        count
    }
}

/// Runs tasks until none is woken.
fn settle() {
    while turn() {}
}

/// Runs each task that is woken, once. Gives whether there was one.
fn turn() -> bool {
    let mut ran = false;
    let count = WORLD.with_borrow(|world| world.tasks.len());
    for at in 0..count {
        let Some(mut task) = WORLD.with_borrow_mut(|world| world.tasks[at].take()) else {
            continue;
        };
        if task.woken.0.swap(false, Ordering::Relaxed) {
            ran = true;
            let waker = Waker::from(task.woken.clone());
            let mut cx = Context::from_waker(&waker);
            let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                task.future.as_mut().poll(&mut cx)
            }));
            if !matches!(polled, Ok(Poll::Pending)) {
                continue;
            }
        }
        WORLD.with_borrow_mut(|world| world.tasks[at] = Some(task));
    }
    ran
}

fn drop_tasks() {
    let tasks = WORLD.with_borrow_mut(|world| std::mem::take(&mut world.tasks));
    drop(tasks);
}

fn socket(at: usize) -> Arc<Socket> {
    WORLD.with_borrow(|world| world.sockets[at].clone())
}

fn config() -> Config {
    Config::standalone("127.0.0.1", 6379).protocol(ProtocolChoice::Resp2).client_info(false)
}

/// A client whose first connection is ready.
fn connected(config: Config) -> Handle {
    let handle = Handle::new::<Fake>(config, 1).expect("a good configuration");
    let mut connected = handle.connected();
    greet(0);
    assert!(matches!(poll(&mut connected), Poll::Ready(Ok(()))));
    handle
}

/// Answers the handshake.
fn greet(at: usize) {
    settle();
    let asked = std::mem::take(&mut socket(at).lock().outgoing);
    let questions = asked.iter().filter(|byte| **byte == b'*').count();
    socket(at).say(&"+PONG\r\n".repeat(questions));
    settle();
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn ended<T>(polled: Poll<Result<T, Failure>>) -> Result<T, Failure> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it has not ended"),
    }
}

fn failed<T>(polled: Poll<Result<T, Failure>>) -> Failure {
    ended(polled).err().expect("it does not end well")
}

#[test]
fn commands_of_one_turn_go_out_in_one_write_and_in_order() {
    let client = connected(config());
    let mut all: Vec<_> = (0..3).map(|at| client.get::<String>(at)).collect();
    assert!(socket(0).lock().outgoing.is_empty(), "others may add to it");
    settle();
    let sent = String::from_utf8(socket(0).lock().outgoing.clone()).expect("text");
    let first = sent.find("\r\n0\r\n").expect("the first");
    assert!(first < sent.find("\r\n1\r\n").expect("the second"), "{sent}");
    socket(0).say("$1\r\na\r\n$1\r\nb\r\n$-1\r\n");
    settle();
    let values: Vec<_> = all.iter_mut().map(|one| ended(poll(one)).expect("a value")).collect();
    assert_eq!(values, [Some("a".to_owned()), Some("b".to_owned()), None]);
}

#[test]
fn what_a_caller_can_not_write_the_driver_does() {
    WORLD.with_borrow_mut(|world| world.room = Some(10_100));
    let client = connected(config());
    let value = "x".repeat(100_000);
    let mut set = client.set("key", &value);
    assert!(socket(0).lock().writes_by_callers > 0, "it was large enough to write at once");
    let taken = socket(0).lock().outgoing.len();
    assert!(taken > 9_000, "as much as there was room for");
    let mut second = client.set("key", &value);
    settle();
    assert_eq!(socket(0).lock().outgoing.len(), taken, "the socket is full");
    socket(0).make_room();
    settle();
    assert!(socket(0).lock().outgoing.len() > 200_000);
    socket(0).say("+OK\r\n+OK\r\n");
    settle();
    ended(poll(&mut set)).expect("a plain SET");
    ended(poll(&mut second)).expect("a plain SET");
}

#[test]
fn a_long_command_is_handed_back_piece_by_piece_though_the_kernel_takes_it_all() {
    let client = connected(config());
    let value = "x".repeat(40 << 20);
    let mut set = client.set("key", &value);
    let taken = || socket(0).lock().outgoing.len();
    assert_eq!(taken(), WRITE_BYTES_MAX, "its caller writes only so much");
    let mut turns = 0;
    while taken() < value.len() {
        assert!(turn(), "there is more to write");
        turns += 1;
    }
    assert!(turns > 2, "others have their turn in between");
    socket(0).say("+OK\r\n");
    settle();
    ended(poll(&mut set)).expect("a plain SET");
}

#[test]
fn the_end_of_its_tasks_is_the_end_of_every_request_and_not_of_the_client() {
    let client = connected(config());
    let mut sent = client.incr("visits");
    settle();
    let mut unsent = client.incr("visits");
    drop_tasks();
    let failure = failed(poll(&mut sent));
    assert!(matches!(failure.kind(), FailureKind::RuntimeDropped), "{failure}");
    assert_eq!(failure.executed(), Executed::Maybe);
    let failure = failed(poll(&mut unsent));
    assert!(matches!(failure.kind(), FailureKind::RuntimeDropped), "{failure}");
    assert_eq!(failure.executed(), Executed::No);

    let mut again = client.incr("visits");
    greet(1);
    socket(1).say(":1\r\n");
    settle();
    assert_eq!(ended(poll(&mut again)).expect("a plain INCR"), 1);
}

#[test]
fn a_driver_that_panics_costs_its_connection_only() {
    let client = connected(config());
    let mut sent = client.incr("visits");
    settle();
    socket(0).lock().panics = true;
    socket(0).lock().reader.take().expect("it is being read").wake();
    settle();
    assert_eq!(failed(poll(&mut sent)).executed(), Executed::Maybe);
    assert_eq!(client.status().connections, WORLD.with_borrow(|world| world.sockets.len()) - 1);
}

#[test]
fn without_a_runtime_a_request_fails_and_says_what_is_missing() {
    WORLD.with_borrow_mut(|world| world.refuses_tasks = true);
    let client = Handle::new::<Fake>(config(), 1).expect("a good configuration");
    let failure = failed(poll(&mut client.incr("visits")));
    assert!(matches!(failure.kind(), FailureKind::NoRuntime("not here")), "{failure}");
    assert_eq!(failure.command(), "INCR");
    WORLD.with_borrow_mut(|world| world.refuses_tasks = false);
    let mut fine = client.incr("visits");
    settle();
    assert!(poll(&mut fine).is_pending(), "it waits for its reply");
}

#[test]
fn who_waits_for_room_is_served_in_turn_and_who_leaves_makes_room() {
    let client = connected(config().queue_requests_max(1));
    let mut first = client.incr("a");
    let mut second = client.incr("b");
    let third = client.incr("c");
    let mut fourth = client.incr("d");
    assert!(poll(&mut second).is_pending());
    assert!(poll(&mut fourth).is_pending());
    drop(third);
    settle();
    socket(0).say(":1\r\n");
    settle();
    assert_eq!(ended(poll(&mut first)).expect("an INCR"), 1);
    assert!(poll(&mut fourth).is_pending());
    assert!(poll(&mut second).is_pending(), "now it is sent");
    settle();
    socket(0).say(":2\r\n");
    settle();
    assert_eq!(ended(poll(&mut second)).expect("an INCR"), 2);
    assert!(poll(&mut fourth).is_pending(), "now it is sent");
    settle();
    socket(0).say(":4\r\n");
    settle();
    assert_eq!(ended(poll(&mut fourth)).expect("an INCR"), 4);
}

#[test]
fn what_waited_for_room_goes_out_without_being_polled() {
    let client = connected(config().queue_requests_max(1));
    client.incr("a").detach();
    client.incr("b").detach();
    let mut third = client.incr("c");
    settle();
    for number in 1..=3 {
        socket(0).say(&format!(":{number}\r\n"));
        settle();
    }
    assert_eq!(ended(poll(&mut third)).expect("an INCR"), 3);
}

#[test]
fn a_pipeline_gives_each_command_its_own_outcome() {
    let client = connected(config());
    let mut batch = Batch::new();
    batch.push(&Request::new("GET").key("name"));
    batch.push(&Request::new("INCR").key("name"));
    let mut replies = client.submit_batch(&batch);
    settle();
    socket(0).say("$3\r\nAda\r\n-ERR value is not an integer or out of range\r\n");
    settle();
    let replies = ended(poll(&mut replies)).expect("it was accepted");
    assert!(replies[0].is_ok());
    assert_eq!(replies[1].as_ref().expect_err("no number").command(), "INCR");
}

#[test]
fn closing_ends_all_tasks_and_events() {
    let client = connected(config());
    let mut events = client.events();
    let mut close = Box::pin(client.close());
    assert!(poll(&mut close).is_pending());
    settle();
    assert!(poll(&mut close).is_ready());
    assert!(socket(0).lock().closed.is_some());
    assert!(WORLD.with_borrow(|world| world.tasks.iter().all(Option::is_none)));
    while events.try_next().is_some() {}
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(events.poll_next(&mut cx), Poll::Ready(None)));
    let failure = failed(poll(&mut client.incr("visits")));
    assert!(matches!(failure.kind(), FailureKind::ClientClosed), "{failure}");
}

#[test]
fn waiting_for_the_end_takes_no_more_room_the_longer_it_takes() {
    let client = connected(config());
    let _sent = client.incr("visits");
    settle();
    let mut closing = pin!(client.close_within(Duration::from_secs(1)));
    for _ in 0..100 {
        assert!(poll(&mut closing).is_pending(), "a reply is owed");
    }
    assert_eq!(client.owner.shared.lock().closers.len(), 1);
}

#[test]
fn the_last_handle_takes_everything_with_it() {
    let client = connected(config());
    let clone = client.clone();
    let mut sent = client.incr("visits");
    settle();
    drop(client);
    settle();
    assert!(poll(&mut sent).is_pending(), "there is a handle left");
    drop(clone);
    let failure = failed(poll(&mut sent));
    assert!(matches!(failure.kind(), FailureKind::ClientClosed), "{failure}");
    settle();
    assert!(WORLD.with_borrow(|world| world.tasks.iter().all(Option::is_none)));
}

#[test]
fn unread_events_are_bounded_and_counted() {
    let client = connected(config().events_max(2));
    let mut events = client.events();
    socket(0).end();
    settle();
    drop(client);
    settle();
    let mut unread = 0;
    while events.try_next().is_some() {
        unread += 1;
    }
    assert_eq!(unread, 2);
    assert!(events.missed() > 0);
    assert_eq!(events.missed(), 0, "they are told once");
}

/// Polls what never ends: without a pause in it, that would not return.
fn lets_others_run(endless: impl Future) -> bool {
    let woken = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(woken.clone());
    let paused = pin!(endless).poll(&mut Context::from_waker(&waker)).is_pending();
    paused && woken.0.load(Ordering::Relaxed)
}

#[test]
fn a_task_that_asks_memory_in_a_loop_lets_others_run() {
    let client = Handle::new::<Fake>(Config::from_url("memory://").expect("a good URL"), 1);
    let client = client.expect("a good configuration");
    assert!(lets_others_run(async {
        loop {
            client.get::<String>("nobody").await.expect("memory answers");
        }
    }));
}

#[test]
fn a_task_that_is_refused_in_a_loop_lets_others_run() {
    WORLD.with_borrow_mut(|world| world.refuses_tasks = true);
    let client = Handle::new::<Fake>(config(), 1).expect("a good configuration");
    assert!(lets_others_run(async {
        loop {
            client.get::<String>("nobody").await.expect_err("nobody drives it");
        }
    }));
}

#[test]
fn a_client_is_forced_without_a_runtime_and_before_anything_is_driven() {
    WORLD.with_borrow_mut(|world| world.refuses_tasks = true);
    let config = config().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let client = Handle::new::<Fake>(config, 1).expect("a good configuration");
    let mut events = client.events();
    for forced in [Some(Forced::Isolated), None, Some(Forced::Memory), Some(Forced::Redis), None] {
        client.force(forced);
        assert_eq!(client.status().forced, forced);
        let told = std::iter::from_fn(|| events.try_next());
        let told = told.filter(|event| matches!(event, Event::Forced { .. })).count();
        assert_eq!(told, 1);
    }
    client.force(Some(Forced::Isolated));
    WORLD.with_borrow_mut(|world| world.refuses_tasks = false);
    let mut get = client.get::<Option<String>>("cache:a");
    assert_eq!(ended(poll(&mut get)).expect("from memory"), None);
    settle();
    assert!(WORLD.with_borrow(|world| world.sockets.is_empty()), "nothing is dialled");
    client.force(None);
    settle();
    assert_eq!(WORLD.with_borrow(|world| world.sockets.len()), 1);
}

#[test]
fn a_client_can_be_forced_while_its_runtime_goes() {
    let config = config().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let client = connected(config.forced(Forced::Memory));
    drop_tasks();
    client.force(Some(Forced::Isolated));
    client.force(None);
    let mut get = client.get::<Option<String>>("cache:a");
    assert_eq!(ended(poll(&mut get)).expect("from memory"), None);
}

/// A client of `memory://` with a native script that does this with it.
fn scripted(act: fn(&Handle) -> Result<(), Failure>) -> Result<i64, Failure> {
    static CLIENTS: Mutex<Vec<(usize, Handle)>> = Mutex::new(Vec::new());
    let id = act as usize;
    let config = Config::memory().native_script("the script", move |_, _, _| {
        let clients = CLIENTS.lock().expect("nobody panics with it");
        let client = clients.iter().find(|(of, _)| *of == id).map(|(_, client)| client.clone());
        drop(clients);
        match act(&client.expect("it is running")) {
            Ok(()) => Value::Integer(1),
            Err(failure) => Value::error(format!("ERR {failure}")),
        }
    });
    let client = Handle::new::<Fake>(config, 1).expect("a good configuration");
    CLIENTS.lock().expect("nobody panics with it").push((id, client.clone()));
    ended(poll(&mut client.eval("the script", (), ())))
}

#[test]
fn a_native_script_does_not_run_under_the_lock_of_its_client() {
    let looked = scripted(|client| {
        client.force(None);
        assert_eq!(client.status().tickets, 1, "it is on its way");
        Ok(())
    });
    assert_eq!(looked.expect("it may look"), 1);
}

#[test]
fn a_native_script_that_asks_its_own_client_is_told_instead_of_waiting_for_itself() {
    let failure = scripted(|client| match poll(&mut client.get::<Option<i64>>("a")) {
        Poll::Ready(result) => result.map(drop),
        Poll::Pending => panic!("it would wait for ever"),
    });
    let failure = failure.expect_err("impure");
    assert!(failure.to_string().contains("is to work by the store"), "{failure}");
    let closed = scripted(|client| match poll(&mut std::pin::pin!(client.close())) {
        Poll::Ready(()) => Ok(()),
        Poll::Pending => panic!("it would wait for ever"),
    });
    assert_eq!(closed.expect("it was under way before"), 1);
}
