//! Clients of one store hear each other: what the engine says and does, step by step.
#![expect(clippy::disallowed_methods, reason = "a test has to begin somewhere in time")]

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Instant, SystemTime},
};

use unfazed_core::{
    Cause, Config, Engine, Now, Request, Store,
    engine::{Input, Output, StreamId},
    fallback::{Ambient, Nudge},
    pubsub::{Incoming, StreamOptions, TopicKind},
    reply::FromReply,
    resp::Value,
};

enum Clock {}

impl Ambient for Clock {
    fn now() -> Now {
        Now::new(Instant::now(), SystemTime::now())
    }

    fn seed() -> u64 {
        7
    }
}

/// A client of a store, and how often it was nudged.
struct Member {
    engine: Engine<u32>,
    now: Now,
    nudged: Arc<AtomicUsize>,
    heard: usize,
}

impl Member {
    fn of(store: &Store<Clock>) -> Self {
        Member::with(Config::in_store(store))
    }

    fn with(config: Config) -> Self {
        let now = Clock::now();
        let mut engine = Engine::new(config, 7, now).expect("a sound configuration");
        let nudged = Arc::new(AtomicUsize::new(0));
        let count = nudged.clone();
        engine.set_nudge(Nudge::new(move || _ = count.fetch_add(1, Ordering::Relaxed)));
        Member { engine, now, nudged, heard: 0 }
    }

    /// Carries out what it asks for: it gives its nudges.
    fn drain(&mut self) {
        loop {
            match self.engine.poll_output() {
                Output::Nudge(nudge) => nudge.give(),
                Output::Wait(_) => return,
                other => drop(other),
            }
        }
    }

    fn subscribe(&mut self, kind: TopicKind, names: &[&str]) -> StreamId {
        let stream = self.engine.open_stream(StreamOptions::default()).expect("room");
        let joined = self.engine.subscribe(stream, kind, names, None, None, self.now);
        let joined = self.engine.take_wait(joined.expect("room"));
        assert!(joined.expect("it is at once there").is_ok());
        stream
    }

    fn ask<T: FromReply>(&mut self, words: &[&str]) -> T {
        let request = words[1..].iter().fold(Request::new(words[0]), |to, word| to.arg(*word));
        let (ticket, _) = self.engine.submit(&request, None, self.now).expect("room");
        let reply = self.engine.take(ticket).expect("at once").expect("no failure");
        self.drain();
        T::from_reply(&reply).expect("what was asked for")
    }

    fn publish(&mut self, channel: &str, payload: &str) -> i64 {
        self.ask(&["PUBLISH", channel, payload])
    }

    /// Whether it was nudged since this was last asked; then it looks.
    fn hears(&mut self) -> bool {
        let nudged = self.nudged.load(Ordering::Relaxed);
        let news = std::mem::replace(&mut self.heard, nudged) != nudged;
        if news {
            self.engine.handle_input(Input::Nudged, self.now);
            self.drain();
        }
        news
    }

    /// What comes next on a stream: payloads, and signs for what is told.
    fn read(&mut self, stream: StreamId) -> Vec<String> {
        let shown = |item: Incoming| match item {
            Incoming::Message(message) => message.payload.to_str().expect("text").to_owned(),
            Incoming::Lost { cause: Cause::Local } => "lost".to_owned(),
            Incoming::Restored => "restored".to_owned(),
            other => panic!("{other:?}"),
        };
        let mut all = Vec::new();
        loop {
            let mut items = VecDeque::new();
            self.engine.take_incoming(stream, &mut items, self.now);
            if items.is_empty() {
                return all;
            }
            all.extend(items.into_iter().map(shown));
        }
    }
}

#[test]
fn clients_of_one_store_hear_each_other_and_no_other() {
    let store = Store::<Clock>::new();
    let (mut one, mut two) = (Member::of(&store), Member::of(&store));
    let mut other = Member::of(&Store::new());
    let channel = one.subscribe(TopicKind::Channel, &["news"]);
    let pattern = two.subscribe(TopicKind::Pattern, &["n*", "*s"]);
    let elsewhere = other.subscribe(TopicKind::Channel, &["news"]);

    assert_eq!(two.publish("news", "a"), 3);
    assert!(one.hears() && !two.hears(), "who publishes hears at once");
    assert_eq!(one.publish("news", "b"), 3);
    assert_eq!(store.execute(&["PUBLISH", "news", "c"]), Value::Integer(3));
    assert_eq!(one.read(channel), ["a", "b", "c"]);
    assert_eq!(two.read(pattern), ["a", "a", "b", "b", "c", "c"]);
    assert_eq!(one.publish("weather", "no"), 0);
    assert!(other.read(elsewhere).is_empty() && !other.hears());
    let shard = two.subscribe(TopicKind::Shard, &["news"]);
    assert_eq!(one.ask::<i64>(&["SPUBLISH", "news", "d"]), 1);
    assert!(two.hears());
    assert_eq!(two.read(shard), ["d"]);
    assert!(one.read(channel).is_empty(), "a shard channel is another one");
}

#[test]
fn a_nudge_wakes_who_waits() {
    let store = Store::<Clock>::new();
    let (mut one, mut two) = (Member::of(&store), Member::of(&store));
    let stream = two.subscribe(TopicKind::Channel, &["c"]);
    two.engine.set_stream_waiter(stream, 42);
    assert_eq!(one.publish("c", "x"), 1);
    assert_eq!(one.publish("c", "y"), 1);
    assert_eq!(two.nudged.load(Ordering::Relaxed), 1, "once for all that it has not heard");
    assert!(two.hears());
    let mut woken = Vec::new();
    two.engine.take_ready(&mut woken);
    assert_eq!(woken, [42]);
    assert_eq!(two.engine.status().messages_waiting, 2);
    assert_eq!(two.read(stream), ["x", "y"]);
}

#[test]
fn what_was_published_before_a_subscription_is_not_for_it() {
    let store = Store::<Clock>::new();
    let (mut one, mut two) = (Member::of(&store), Member::of(&store));
    let early = two.subscribe(TopicKind::Pattern, &["*"]);
    assert_eq!(one.publish("c", "before"), 1);
    let late = two.subscribe(TopicKind::Channel, &["c"]);
    assert_eq!(one.publish("c", "after"), 2);
    assert_eq!(two.read(early), ["before", "after"]);
    assert_eq!(two.read(late), ["after"]);
    let gone = two.engine.unsubscribe(late, TopicKind::Channel, &["c"], None, two.now);
    assert!(two.engine.take_wait(gone.expect("open")).expect("at once").is_ok());
    assert_eq!(one.publish("c", "more"), 1);
}

#[test]
fn what_a_server_says_of_its_subscribers_a_store_says_of_its_clients() {
    let store = Store::<Clock>::new();
    let (mut one, mut two) = (Member::of(&store), Member::of(&store));
    one.subscribe(TopicKind::Channel, &["a", "b"]);
    let stream = two.subscribe(TopicKind::Channel, &["b", "c"]);
    one.subscribe(TopicKind::Pattern, &["x*", "y*"]);
    two.subscribe(TopicKind::Pattern, &["y*"]);
    assert_eq!(one.ask::<Vec<String>>(&["PUBSUB", "CHANNELS"]), ["a", "b", "c"]);
    assert_eq!(two.ask::<Vec<String>>(&["PUBSUB", "CHANNELS", "[ab]"]), ["a", "b"]);
    let counts: Vec<(String, i64)> = one.ask(&["PUBSUB", "NUMSUB", "b", "c", "d"]);
    assert_eq!(counts, [("b".to_owned(), 2), ("c".to_owned(), 1), ("d".to_owned(), 0)]);
    assert_eq!(two.ask::<i64>(&["PUBSUB", "NUMPAT"]), 2, "each pattern once");
    two.engine.close_stream(stream, two.now);
    let count = [Value::Bulk("b".into()), Value::Integer(1)];
    assert_eq!(store.execute(&["PUBSUB", "NUMSUB", "b"]), Value::Array(count.into()));
    drop(two);
    assert_eq!(one.ask::<i64>(&["PUBSUB", "NUMPAT"]), 2);
    one.engine.shutdown(std::time::Duration::ZERO, one.now);
    one.drain();
    assert_eq!(store.execute(&["PUBSUB", "NUMPAT"]), Value::Integer(0));
    assert_eq!(store.execute(&["PUBSUB", "CHANNELS"]), Value::Array(Vec::new()));
    let misuse = store.execute(&["PUBLISH", "a"]);
    assert!(matches!(misuse, Value::Error(text) if text.starts_with(b"ERR wrong number")));
}

#[test]
fn what_nobody_looks_for_is_lost_within_a_bound_and_that_is_told() {
    let store = Store::<Clock>::new();
    let mut one = Member::of(&store);
    let mut two = Member::with(Config::in_store(&store).subscription_messages_max(10));
    let stream = two.subscribe(TopicKind::Channel, &["c"]);
    for number in 0..14 {
        assert_eq!(one.publish("c", &number.to_string()), 1);
    }
    assert_eq!(two.read(stream), ["lost", "restored", "11", "12", "13"]);
    assert_eq!(one.publish("c", "on"), 1);
    assert_eq!(two.read(stream), ["on"]);
}

#[test]
fn a_transaction_publishes_to_all() {
    let store = Store::<Clock>::new();
    let (mut one, mut two) = (Member::of(&store), Member::of(&store));
    let stream = two.subscribe(TopicKind::Channel, &["c"]);
    let mut batch = unfazed_core::engine::Batch::new();
    batch.push(&Request::new("SET").key("k").arg("v"));
    batch.push(&Request::new("PUBLISH").arg("c").arg("set"));
    let (ticket, _) =
        one.engine.submit_batch(&batch.into_transaction(), None, one.now).expect("room");
    let outcomes = one.engine.take_batch(ticket).expect("at once").spread().expect("carried out");
    assert_eq!(i64::from_reply(outcomes[1].as_ref().expect("it ran")).expect("a number"), 1);
    one.drain();
    assert!(two.hears());
    assert_eq!(two.read(stream), ["set"]);
}
