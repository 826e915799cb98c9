//! Ten thousand callers change their minds, each about something else and at any moment.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use unfazed_core::{
    Failure, Script,
    commands::prelude::*,
    dialogue::Scans,
    failure::FailureKind,
    handle::{OptimisticTransactions, Pipelines, Subscribe, Transactions, Views},
};
use unfazed_tests::{Raw, RawReply, Server as TestServer, eventually};

use crate::{
    adapters::{Adapter, Async, scenarios},
    support::{LIMIT, PROTOCOLS, at, others_on},
};

scenarios! {
    ten_thousand_whose_time_is_over_leave_nothing_behind_and_nobody_a_wrong_reply,
    ; async
    ten_thousand_who_give_up_leave_nothing_behind_and_nobody_a_wrong_reply,
}

const TASKS: u64 = 10_000;
const THREADS: u64 = 16;

/// Numbers that look like chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    /// Polls a few times with pauses, or to the end; gives what it ended with, if it did.
    fn follow<T>(&mut self, mut poll: impl FnMut() -> Option<T>) -> Option<T> {
        let most = match self.below(4) {
            0 => 0,
            1 => 1,
            2 => self.below(8),
            _ => 20_000,
        };
        for _ in 0..most {
            if let Some(result) = poll() {
                return Some(result);
            }
            thread::sleep(Duration::from_micros(self.below(200)));
        }
        None
    }
}

fn ten_thousand_who_give_up_leave_nothing_behind_and_nobody_a_wrong_reply<A: Async>() {
    many_at_once::<A>(one_given_up::<A>);
}

fn ten_thousand_whose_time_is_over_leave_nothing_behind_and_nobody_a_wrong_reply<A: Adapter>() {
    many_at_once::<A>(one_in_a_hurry::<A>);
}

/// Runs the tasks beside each other, each of which says whether it came to its end, and looks at what
/// they leave behind.
fn many_at_once<A: Adapter>(task: fn(&A::Client, &mut Chance) -> bool) {
    for protocol in PROTOCOLS {
        let server = TestServer::start();
        let mut witness = Raw::connect(server.port());
        let config = at(server.port())
            .protocol(protocol)
            .leases_max(8)
            .lease_idle_after(Duration::from_secs(1))
            .deadline(LIMIT);
        let client = A::connect(config).expect("there is a server");
        for key in 0..100 {
            witness.ok(&["SET", &format!("key:{key}"), &format!("value of key:{key}")]);
            witness.int(&["SADD", "set", &key.to_string()]);
        }
        let ended = Arc::new(AtomicU64::new(0));
        let threads = (0..THREADS).map(|seed| {
            let (client, ended) = (client.clone(), ended.clone());
            thread::spawn(move || {
                A::enter(|| {
                    let mut chance = Chance(seed);
                    for _ in 0..TASKS / PROTOCOLS.len() as u64 / THREADS {
                        ended.fetch_add(task(&client, &mut chance).into(), Ordering::SeqCst);
                    }
                });
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            thread.join().expect("no reply was a wrong one");
        }
        let ended = ended.load(Ordering::SeqCst);
        assert!(ended > TASKS / 20, "only {ended} came to their end");
        // What comes now is what was asked for.
        for key in 0..100 {
            let value: Option<String> = A::wait(client.get(format!("key:{key}"))).expect("a GET");
            assert_eq!(value, Some(format!("value of key:{key}")));
        }
        nothing_is_left::<A>(&client, &mut witness);
    }
}

fn nothing_is_left<A: Adapter>(client: &A::Client, witness: &mut Raw) {
    eventually("nothing to be left", LIMIT, || {
        let now = A::status(client);
        let left = now.tickets + now.queued_requests + now.streams + now.subscriptions;
        let leased = now.leases - now.leases_idle + now.leases_waited_for;
        (left + leased + now.queued_bytes + now.messages_waiting == 0).then_some(())
    });
    eventually("the server to see nobody wait", LIMIT, || {
        let RawReply::Bulk(info) = witness.cmd(&["INFO", "clients"]) else { panic!("no INFO") };
        String::from_utf8_lossy(&info).contains("blocked_clients:0\r\n").then_some(())
    });
    eventually("the server to have no subscription", LIMIT, || {
        let none = witness.cmd(&["PUBSUB", "CHANNELS"]);
        matches!(none, RawReply::Array(list) if list.is_empty()).then_some(())
    });
    // The shared one, one for subscriptions in RESP2, and the idle ones until they are closed.
    eventually("all other connections to be closed", LIMIT, || {
        (others_on(witness) <= 2).then_some(())
    });
}

/// What came of a task: the value, if it came in time. Only a time limit may be the reason if not.
fn in_time<T>(result: Result<T, Failure>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(failure) => {
            // A connection of one's own is closed where a time limit ends what waits on it.
            let lost = matches!(failure.kind(), FailureKind::ConnectionLost(_));
            assert!(failure.is_timeout() || lost, "{failure}");
            None
        }
    }
}

/// Asks for something that is to come very soon.
fn one_in_a_hurry<A: Adapter>(client: &A::Client, chance: &mut Chance) -> bool {
    let key = format!("key:{}", chance.below(100));
    let right = format!("value of {key}");
    let micros = match chance.below(4) {
        0 => chance.below(300),
        1 => chance.below(5_000),
        _ => 2_000_000,
    };
    let view = client.within(Duration::from_micros(micros));
    match chance.below(6) {
        0 => in_time(A::wait(view.get::<String>(&key)))
            .map(|value| assert_eq!(value, Some(right)))
            .is_some(),
        1 => {
            let pipeline = view.pipeline(|p| (p.incr("n"), p.get::<String>(&key), p.incr("n")));
            let values = in_time(A::wait_all(pipeline));
            values
                .map(|(before, value, after)| assert!(before < after && value == Some(right)))
                .is_some()
        }
        2 => {
            let transaction =
                view.transaction(|t| (t.incr("m"), t.get::<String>(&key), t.incr("m")));
            let values = in_time(A::wait_all(transaction));
            values
                .map(|(before, value, after)| {
                    assert_eq!((after, value), (before + 1, Some(right)));
                })
                .is_some()
        }
        3 => {
            let script = Script::new("return redis.call('GET', KEYS[1])");
            let call = view.script(&script).key(&key).run::<Option<String>>();
            in_time(A::wait(call)).map(|value| assert_eq!(value, Some(right))).is_some()
        }
        4 => {
            let queue = format!("q:{}", chance.below(4));
            if chance.below(2) == 0 {
                A::wait(client.rpush(&queue, format!("for {queue}"))).expect("a plain RPUSH");
            }
            let wait = Duration::from_millis(20);
            let popped = in_time(A::wait(view.blpop::<String, String>(&queue, wait)));
            popped
                .map(|popped| {
                    assert!(
                        popped
                            .is_none_or(|popped| popped == (queue.clone(), format!("for {queue}")))
                    );
                })
                .is_some()
        }
        _ => {
            let read = key.clone();
            let settled = view.optimistic(
                &key,
                move |r| r.get::<String>(&read),
                move |value, write| {
                    assert_eq!(value, Some(right.clone()));
                    Some(write.incr("o"))
                },
            );
            in_time(A::block_on(A::settled(settled))).is_some()
        }
    }
}

/// Begins something, follows it for a while and lets it go.
fn one_given_up<A: Async>(client: &A::Client, chance: &mut Chance) -> bool {
    let key = format!("key:{}", chance.below(100));
    let right = format!("value of {key}");
    let ended = match chance.below(9) {
        0 => {
            let mut get = client.get::<String>(&key);
            let value = chance.follow(|| A::poll_once(&mut get));
            value.map(|value| assert_eq!(value.expect("a plain GET"), Some(right)))
        }
        1 => {
            let mut pipeline =
                client.pipeline(|p| (p.incr("n"), p.get::<String>(&key), p.incr("n")));
            chance.follow(|| A::poll_pipeline(&mut pipeline)).map(|values| {
                let (before, value, after) = values.expect("plain ones");
                assert!(before < after && value == Some(right));
            })
        }
        2 => {
            let mut transaction =
                client.transaction(|t| (t.incr("m"), t.get::<String>(&key), t.incr("m")));
            chance.follow(|| A::poll_pipeline(&mut transaction)).map(|values| {
                let (before, value, after) = values.expect("plain ones");
                assert_eq!((after, value), (before + 1, Some(right)));
            })
        }
        3 => {
            let script = Script::new("return redis.call('GET', KEYS[1])");
            let mut call = client.script(&script).key(&key).run::<Option<String>>();
            let value = chance.follow(|| A::poll_once(&mut call));
            value.map(|value| assert_eq!(value.expect("a plain script"), Some(right)))
        }
        4 => {
            let mut scan = client.sscan::<u32>("set");
            let some = chance.below(60);
            let mut members = (0..some).map_while(|_| A::next_item(&mut scan));
            members.all(|member| member.expect("a plain SSCAN") < 100).then_some(())
        }
        5 => {
            let queue = format!("q:{}", chance.below(4));
            A::detach(client.rpush(&queue, format!("for {queue}")));
            let mut pop = client.blpop::<String, String>(&queue, None);
            chance.follow(|| A::poll_once(&mut pop)).map(|popped| {
                let (from, element) = popped.expect("no failure").expect("for ever");
                assert_eq!((&from, element), (&queue, format!("for {queue}")));
            })
        }
        6 => {
            let name = format!("channel:{}", chance.below(20));
            let mut subscribing = client.subscribe(&name);
            let stream = chance.follow(|| A::poll_subscribed(&mut subscribing));
            stream.map(|stream| drop(stream.expect("a plain SUBSCRIBE")))
        }
        7 => {
            let own = A::dedicated(client);
            let queue = "never".to_owned();
            if chance.below(2) == 0 {
                A::wait_there(own.watch(&key)).expect("a plain WATCH");
            }
            if chance.below(2) == 0 {
                drop(own.blpop::<String, String>(&queue, None));
                None
            } else {
                let value: Option<String> = A::wait_there(own.get(&key)).expect("a plain GET");
                assert_eq!(value, Some(right));
                Some(())
            }
        }
        _ => {
            let read = key.clone();
            let mut settled = client.optimistic(
                &key,
                move |r| r.get::<String>(&read),
                move |value, write| {
                    assert_eq!(value, Some(right.clone()));
                    Some(write.incr("o"))
                },
            );
            let done = chance.follow(|| A::poll_settled(&mut settled));
            done.map(|done| assert!(done.expect("nobody meddles").is_some()))
        }
    };
    ended.is_some()
}
