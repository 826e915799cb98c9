#![expect(clippy::disallowed_methods, reason = "a test has to begin somewhere in time")]

use std::{cell::Cell, panic::catch_unwind, thread, time::Instant};

use super::*;
use crate::{Engine, Request, engine::Ticket};

/// A clock of the test's own, and always the same randomness.
enum Clock {}

thread_local! {
    static UNIX: Cell<Duration> = const { Cell::new(Duration::from_secs(1_700_000_000)) };
}

impl Ambient for Clock {
    fn now() -> Now {
        Now { instant: Instant::now(), unix: UNIX.get() }
    }

    fn seed() -> u64 {
        7
    }
}

type Store = super::Store<Clock>;

const SECOND: Duration = Duration::from_secs(1);

/// Real time passes.
fn pass(span: Duration) {
    UNIX.set(UNIX.get() + span);
}

fn bulk(text: &'static str) -> Value {
    Value::Bulk(text.into())
}

/// A client, as far as there is one without an adapter.
struct Client(Engine<()>);

impl Client {
    fn of(store: &Store) -> Self {
        Client(Engine::new(store.into(), 1, Clock::now()).expect("a good configuration"))
    }

    fn run(&mut self, words: &[&str]) -> Result<Value, crate::Failure> {
        let request = words[1..].iter().fold(Request::new(words[0]), Request::arg);
        let (ticket, _): (Ticket, _) =
            self.0.submit(&request, None, Clock::now()).map_err(|rejected| match rejected {
                crate::engine::Rejected::Failed(failure) => failure,
                full => panic!("{full:?}"),
            })?;
        self.0.take(ticket).expect("it ends at once").map(|reply| reply.view().to_value())
    }
}

#[test]
fn all_clients_of_a_store_see_the_same_entries_and_the_same_time() {
    let store = Store::new();
    let (mut one, mut other) = (Client::of(&store), Client::of(&store.clone()));
    assert_eq!(one.run(&["SET", "k", "v", "EX", "10"]).expect("a plain SET"), Value::OK);
    assert_eq!(other.run(&["GET", "k"]).expect("a plain GET"), bulk("v"));
    assert_eq!(store.execute(&["get", "k"]), bulk("v"));
    store.advance(9 * SECOND);
    assert_eq!(other.run(&["TTL", "k"]).expect("a plain TTL"), Value::Integer(1));
    pass(2 * SECOND);
    assert_eq!(one.run(&["GET", "k"]).expect("a plain GET"), Value::Null);
    assert!(store.is_empty());
    let private = Engine::<()>::new(Config::memory(), 1, Clock::now()).expect("a good config");
    store.execute(&["SET", "k", "v"]);
    assert_eq!((private.status().overlay_entries, store.len()), (0, 1));
    assert_eq!(one.0.status().overlay_entries, 1);
}

#[test]
fn a_store_outlives_its_clients() {
    let store = Store::new();
    Client::of(&store).run(&["SET", "k", "v"]).expect("a plain SET");
    let mut last = Client::of(&store);
    last.0.shutdown(Duration::ZERO, Clock::now());
    assert_eq!(store.execute(&["GET", "k"]), bulk("v"));
    store.clear();
    assert_eq!(store.len(), 0);
}

#[test]
fn time_that_is_frozen_passes_only_when_it_is_told_to() {
    let store = Store::new();
    store.freeze();
    let begin = store.time();
    store.execute(&["SET", "k", "v", "PX", "1000"]);
    pass(3_600 * SECOND);
    assert_eq!(store.time(), begin);
    assert_eq!(store.execute(&["PTTL", "k"]), Value::Integer(1_000));
    assert_eq!(Client::of(&store).run(&["PTTL", "k"]).expect("a TTL"), Value::Integer(1_000));
    store.advance(SECOND);
    assert_eq!(store.execute(&["EXISTS", "k"]), Value::Integer(1), "its last millisecond");
    store.advance(Duration::from_millis(1));
    assert_eq!(store.execute(&["EXISTS", "k"]), Value::Integer(0));
    assert_eq!(store.time(), begin + SECOND + Duration::from_millis(1));
}

#[test]
fn the_time_that_is_set_is_the_time_that_is_told() {
    let store = Store::new();
    store.advance(SECOND);
    store.set_time(SystemTime::UNIX_EPOCH + 1_000 * SECOND);
    let time = |text: &'static str| Value::Array(vec![bulk(text), bulk("0")]);
    assert_eq!(Client::of(&store).run(&["TIME"]).expect("a plain TIME"), time("1000"));
    store.execute(&["SET", "k", "v", "EXAT", "1001"]);
    store.set_time(SystemTime::UNIX_EPOCH + 999 * SECOND);
    assert_eq!(store.execute(&["TTL", "k"]), Value::Integer(2));
    store.set_time(SystemTime::UNIX_EPOCH - SECOND);
    assert_eq!(store.execute(&["TIME"]), time("0"));
}

#[test]
fn no_span_is_too_long_for_the_clock() {
    let store = Store::new();
    store.advance(Duration::MAX);
    store.advance(Duration::MAX);
    assert_eq!(store.time(), SystemTime::UNIX_EPOCH + TIME_MAX);
    store.freeze();
    store.advance(Duration::MAX);
    assert_eq!(store.execute(&["SET", "k", "v", "EX", "60"]), Value::OK);
    assert_eq!(store.execute(&["TTL", "k"]), Value::Integer(60));
    store.set_time(SystemTime::UNIX_EPOCH + 2 * TIME_MAX);
    assert_eq!(store.time(), SystemTime::UNIX_EPOCH + TIME_MAX);
}

#[test]
fn beyond_its_bounds_it_is_out_of_memory_as_a_server_is() {
    let store = Store::with_bounds(Bounds { entries_max: 2, ..Bounds::default() });
    let mut client = Client::of(&store);
    for key in ["a", "b"] {
        client.run(&["SET", key, "1"]).expect("there is room");
    }
    let full = client.run(&["SET", "c", "1"]).expect_err("no room");
    assert_eq!(full.server_error().expect("as a server says it").code(), "OOM");
    assert_eq!(full.executed(), crate::Executed::No);
    assert!(
        matches!(store.execute(&["SET", "c", "1"]), Value::Error(text) if text.starts_with(b"OOM"))
    );
    assert_eq!(client.run(&["INCR", "a"]).expect("it takes no room"), Value::Integer(2));
    assert_eq!((store.len(), store.bounds().entries_max), (2, 2));
}

#[test]
fn a_clients_configuration_can_not_contradict_the_bounds() {
    let store = Store::with_bounds(Bounds { entries_max: 5, bytes_max: 1_000 });
    let config = Config::in_store(&store);
    assert_eq!((config.memory.entries_max, config.memory.bytes_max), (5, 1_000));
    config.clone().deadline(SECOND).validate().expect("nothing is wrong");
    let wrong = config.memory_entries_max(6).validate().expect_err("it says otherwise");
    assert!(wrong.to_string().contains("bounds of its own"), "{wrong}");
    Config::in_store(&Store::with_bounds(Bounds::NONE))
        .validate()
        .expect("no bound is one as well");
}

#[test]
fn what_it_does_not_support_says_so_and_does_nothing() {
    let store = Store::new();
    let told = |words: &[&str]| match store.execute(words) {
        Value::Error(text) => String::from_utf8(text.to_vec()).expect("text"),
        other => panic!("{words:?}: {other:?}"),
    };
    assert!(told(&["EVAL", "return 1", "0"]).contains("does not support"));
    assert!(told(&["NOSUCHTHING"]).contains("unknown command"));
    assert!(told(&[]).contains("unknown command"));
    let mut client = Client::of(&store);
    let refused = client.run(&["EVAL", "return 1", "0"]).expect_err("no scripts");
    assert_eq!(refused.executed(), crate::Executed::No);
    for session in [&["MULTI"][..], &["SELECT", "0"], &["WATCH", "k"], &["SUBSCRIBE", "c"]] {
        let refused = client.run(session).expect_err("callers share the connection");
        assert!(matches!(refused.kind(), crate::FailureKind::Misuse(_)), "{refused}");
        assert_eq!(refused.executed(), crate::Executed::No);
    }
}

#[test]
fn the_same_seed_and_the_same_calls_give_the_same_answers() {
    let picks = |seed| {
        let store = Store::with_seed(seed, Bounds::default());
        for key in ["a", "b", "c"] {
            store.execute(&["SET", key, "1"]);
        }
        (0..30).map(|_| store.execute(&["RANDOMKEY"])).collect::<Vec<_>>()
    };
    assert_eq!(picks(1), picks(1));
    assert_ne!(picks(1), picks(2));
}

#[test]
fn a_panic_of_one_holder_is_not_the_end_for_the_others() {
    let store = Store::new();
    store.execute(&["SET", "k", "v"]);
    let poisoned = store.clone();
    let panicked = thread::spawn(move || {
        let _held = poisoned.lock();
        panic!("while it holds the lock");
    });
    assert!(panicked.join().is_err());
    assert_eq!(store.execute(&["GET", "k"]), bulk("v"));
    assert!(catch_unwind(|| store.len()).is_ok());
}

#[test]
fn a_handle_equals_those_to_the_same_store_and_shows_no_value() {
    let store = Store::new();
    assert_eq!(store, store.clone());
    assert_ne!(store, Store::new());
    assert_eq!(Config::in_store(&store), Config::in_store(&store));
    store.execute(&["SET", "token", "hunter2"]);
    let shown = format!("{store:?} {:?}", Config::in_store(&store));
    assert!(!shown.contains("hunter2") && !shown.contains("token"), "{shown}");
    let url = Config::in_store(&store).to_url();
    assert_eq!(url, "memory://");
}
