//! An operator forces the client, at every moment that there is.

use std::time::Duration;

use bytes::BytesMut;
use unfazed_core::{
    Cause, Config, Executed, FailureKind, Request,
    config::Forced,
    engine::{Health, Input, Output},
    fallback::{Fallback, Policy},
    pubsub::{StreamOptions, TopicKind},
};

use super::{World, degraded};

const FORCED: [Forced; 3] = [Forced::Redis, Forced::Memory, Forced::Isolated];

impl World {
    fn force(&mut self, forced: impl Into<Option<Forced>>) {
        self.engine.force(forced.into(), self.now);
        self.drain();
    }

    fn cached(policy: Policy) -> Self {
        World::live(World::plain().fallback(Fallback::memory("cache:*", policy)))
    }

    /// A SET that the server carries out.
    fn set(&mut self, key: &str, value: &str) {
        let set = self.run(&Request::new("SET").arg(key).arg(value));
        self.write();
        self.say("+OK\r\n");
        self.value::<()>(set);
    }

    fn get(&mut self, key: &str) -> Option<String> {
        self.run_now(&Request::new("GET").arg(key))
    }

    /// How a request failed that ends at once.
    fn failure(&mut self, request: &Request<'_>) -> unfazed_core::Failure {
        let ticket = self.run(request);
        self.engine.take(ticket).expect("ended").expect_err("it must fail")
    }

    /// The server for `rounds` of 50 ms: answers each command in its turn. Gives what it was sent, a
    /// command a line.
    pub(super) fn serve(&mut self, rounds: usize) -> String {
        let mut log = String::new();
        for _ in 0..rounds {
            let sent = self.write();
            let mut words = sent.split("\r\n").filter(|word| !word.starts_with('$'));
            let mut line: Vec<&str> = Vec::new();
            while let Some(word) = words.next() {
                if !word.starts_with('*') {
                    line.push(word);
                    continue;
                }
                let count = word[1..].parse().expect("a number of words");
                line.clear();
                line.extend(words.by_ref().take(count));
                log.push_str(&line.join(" "));
                log.push('\n');
                match line[0] {
                    "HELLO" => self.say("%0\r\n"),
                    "PING" => self.say("+PONG\r\n"),
                    "ROLE" => self.say("*1\r\n+master\r\n"),
                    "INFO" => self.say("+run_id:x\r\n"),
                    "GET" => self.say("_\r\n"),
                    "SET" => self.say("+OK\r\n"),
                    "DEL" | "INCR" => self.say(":1\r\n"),
                    other => panic!("{other} is not expected"),
                }
            }
            self.wait(Duration::from_millis(50));
        }
        log
    }

    fn count_of(&self, what: &str) -> usize {
        self.events.iter().filter(|event| event.contains(what)).count()
    }

    /// Whether the engine asks for anything to do with sockets.
    fn asks_for_sockets(&mut self) -> bool {
        let mut any = false;
        loop {
            match self.engine.poll_output() {
                Output::Open { .. } | Output::Resolve { .. } => any = true,
                Output::Wait(_) => return any,
                _ => {}
            }
        }
    }
}

#[test]
fn forced_memory_answers_beside_a_server_that_is_well_until_it_is_let_go() {
    let mut world = World::cached(Policy::Invalidate);
    world.set("cache:a", "1");
    world.force(Forced::Memory);
    let status = world.engine.status();
    assert_eq!((status.health, status.forced), (Health::Degraded, Some(Forced::Memory)));
    assert_eq!(status.cause, Some(Cause::Forced(Forced::Memory)));
    assert_eq!(world.get("cache:a").as_deref(), Some("1"));
    assert_eq!(world.run_now::<i64>(&Request::new("INCR").arg("cache:a")), 2);
    let wallet = world.run(&Request::new("INCR").arg("wallet"));
    // Probes pass for minutes, and nothing comes of it.
    let sent = world.serve(200);
    assert!(sent.contains("wallet"), "what may not degrade is the server's: {sent}");
    assert!(sent.matches("ROLE").count() > 5, "{sent}");
    assert!(!sent.contains("DEL cache:a"), "{sent}");
    assert_eq!(world.engine.health(), Health::Degraded);
    assert_eq!(world.get("cache:a").as_deref(), Some("2"));
    assert_eq!(world.value::<i64>(wallet), 1);

    world.force(None);
    assert_eq!(world.engine.health(), Health::Degraded, "not without probes");
    let sent = world.serve(60);
    assert!(sent.contains("DEL cache:a"), "what is owed is paid: {sent}");
    assert_eq!(world.engine.health(), Health::Live);
    assert_eq!(
        (world.count_of("forced by an operator: memory"), world.count_of("no longer")),
        (2, 1)
    );
}

#[test]
fn a_reader_hears_at_once_that_isolation_costs_it_messages() {
    let mut world = World::live(World::plain());
    let stream = world.engine.open_stream(StreamOptions::default()).expect("there is room");
    let names = &["news"];
    let topics = world.engine.subscribe(stream, TopicKind::Channel, names, None, None, world.now);
    world.write();
    world.say(">3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    world.engine.take_wait(topics.expect("accepted")).expect("confirmed").expect("well");
    world.engine.set_stream_waiter(stream, 5);
    world.engine.force(Some(Forced::Isolated), world.now);
    let mut woken = Vec::new();
    world.engine.take_ready(&mut woken);
    assert_eq!(woken, [5]);
}

#[test]
fn what_the_server_does_after_memory_took_over_is_not_undone_by_what_was_before() {
    for policy in [Policy::Invalidate, Policy::ReplayLastWins] {
        let mut world = World::cached(policy);
        world.set("cache:a", "1");
        let newer = world.run(&Request::new("SET").arg("cache:a").arg("2"));
        world.write();
        world.force(Forced::Memory);
        // Done to the value from before, it would be served, or replayed, over the one on its way.
        let failure = world.failure(&Request::new("PEXPIRE").arg("cache:a").arg("1000"));
        assert!(matches!(failure.kind(), FailureKind::Memory(_)), "{failure}");
        world.say("+OK\r\n");
        world.value::<()>(newer);
        assert_eq!(world.get("cache:a").as_deref(), Some("2"));
    }
}

#[test]
fn forced_redis_waits_for_the_server_as_if_there_were_no_memory() {
    let mut world = degraded(Policy::Invalidate);
    world.run_now::<()>(&Request::new("SET").arg("cache:owed").arg("new"));
    world.force(Forced::Redis);
    let read = world.run(&Request::new("GET").arg("cache:owed"));
    let write = world.run(&Request::new("SET").arg("cache:owed").arg("newer"));
    let other = world.run(&Request::new("GET").arg("cache:other"));
    assert_eq!(world.engine.status().queued_requests, 3, "they wait");
    let waits = world.engine.connect(None, world.now);
    let refused = world.engine.take_wait(waits).expect("judged").expect_err("nobody answers");
    assert!(matches!(refused.kind(), FailureKind::Down(_)), "{refused}");

    world.wait(Duration::from_millis(100));
    world.open();
    world.write();
    world.say("%0\r\n");
    let sent = world.write();
    assert!(sent.contains("cache:other"), "at once, as if live: {sent}");
    assert!(!sent.contains("cache:owed"), "what is owed comes first: {sent}");
    world.say("+run_id:x\r\n+master_replid:x\r\n_\r\n+PONG\r\n*1\r\n+master\r\n:0\r\n");
    assert_eq!(world.value::<Option<String>>(other), None);
    let sent = world.serve(60);
    let order = ["DEL cache:owed", "GET cache:owed", "SET cache:owed"].map(|line| sent.find(line));
    assert!(order.is_sorted() && order.iter().all(Option::is_some), "{sent}");
    assert_eq!(world.value::<Option<String>>(read), None, "deleted, and not from memory");
    world.value::<()>(write);
    assert_eq!(world.engine.health(), Health::Live);
    assert_eq!(world.engine.status().forced, Some(Forced::Redis));
}

#[test]
fn forced_redis_lets_nothing_degrade_when_the_server_goes_down() {
    let mut world = World::cached(Policy::Invalidate);
    world.set("cache:a", "1");
    world.force(Forced::Redis);
    world.wait(Duration::from_millis(600));
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    assert_eq!(world.engine.health(), Health::Degraded, "health is judged all the same");
    let (first, second) = (Request::new("INCR").arg("cache:a"), Request::new("GET").arg("cache:a"));
    let (incr, get) = (world.run(&first), world.run(&second));
    assert!(world.engine.is_pending(incr) && world.engine.is_pending(get));
    world.force(None);
    assert_eq!(world.value::<i64>(incr), 2, "let go of, it goes to memory, in order");
    assert_eq!(world.value::<String>(get), "2");
}

#[test]
fn a_refusal_is_tried_again_after_its_delay_where_memory_may_not_answer() {
    let mut world = World::cached(Policy::Invalidate);
    world.force(Forced::Redis);
    let get = world.run(&Request::new("GET").arg("cache:a"));
    let mut sent = 0;
    for _ in 0..200 {
        let asked = world.write().matches("GET").count();
        sent += asked;
        (0..asked).for_each(|_| world.say("-LOADING Redis is loading the dataset in memory\r\n"));
    }
    assert_eq!(sent, 1, "time has not passed");
    assert!(world.engine.is_pending(get));
}

#[test]
fn an_isolated_client_closes_what_it_has_and_tries_nothing() {
    let mut world = World::cached(Policy::Invalidate);
    world.set("cache:a", "1");
    let read = world.run(&Request::new("GET").arg("cache:a"));
    let write = world.run(&Request::new("APPEND").arg("cache:a").arg("2"));
    let wallet = world.run(&Request::new("INCR").arg("wallet"));
    world.write();
    let unsent = world.run(&Request::new("INCR").arg("wallet"));
    world.force(Forced::Isolated);
    assert_eq!(world.engine.status().connections, 0);
    assert_eq!(world.value::<String>(read), "1");
    assert_eq!(world.value::<i64>(write), 2, "taken over by memory");
    let failure = world.engine.take(wallet).expect("ended").expect_err("lost");
    assert_eq!(failure.executed(), Executed::Maybe);
    assert!(matches!(failure.cause(), Some(Cause::Forced(Forced::Isolated))), "{failure}");
    let failure = world.engine.take(unsent).expect("ended").expect_err("nobody to ask");
    assert_eq!(failure.executed(), Executed::No);
    assert!(matches!(failure.kind(), FailureKind::Isolated), "{failure}");
    let failure = world.failure(&Request::new("GET").arg("wallet"));
    assert!(matches!(failure.kind(), FailureKind::Isolated), "{failure}");
    assert_eq!(failure.to_string().matches("isolated by an operator").count(), 1, "{failure}");
    world.conn = None;
    for _ in 0..100 {
        world.wait(Duration::from_secs(1));
        assert_eq!(world.get("cache:a").as_deref(), Some("12"));
        assert!(world.conn.is_none() && world.engine.status().connections == 0);
    }
    assert!(world.events.iter().all(|event| !event.contains("reconnecting")), "{:?}", world.events);

    world.force(None);
    assert!(world.conn.is_some(), "dialled at once");
    world.open();
    let sent = world.serve(60);
    assert!(sent.contains("DEL cache:a"), "{sent}");
    assert_eq!(world.engine.health(), Health::Live);
}

#[test]
fn what_was_in_flight_goes_before_what_came_after_the_isolation() {
    let mut world = World::cached(Policy::Invalidate);
    let first = world.run(&Request::new("SET").arg("cache:a").arg("1"));
    world.write();
    world.engine.force(Some(Forced::Isolated), world.now);
    // The connection is still open: nobody has closed it yet.
    let set = Request::new("SET").arg("cache:a").arg("2");
    let (second, _) = world.engine.submit(&set, None, world.now).expect("room");
    assert!(world.engine.is_pending(first) && world.engine.is_pending(second));
    world.engine.force(None, world.now);
    let get = Request::new("GET").arg("cache:a");
    let (read, _) = world.engine.submit(&get, None, world.now).expect("room");
    world.drain();
    world.value::<()>(first);
    world.value::<()>(second);
    assert_eq!(world.value::<String>(read), "2");
}

#[test]
fn what_memory_has_overtaken_does_not_come_after_it() {
    for written in [true, false] {
        let mut world = World::cached(Policy::Invalidate);
        let first = world.run(&Request::new("SET").arg("cache:a").arg("1"));
        if written {
            world.write();
        }
        world.force(Forced::Memory);
        world.run_now::<()>(&Request::new("SET").arg("cache:a").arg("2"));
        world.lose(Cause::Reset);
        let failure = world.engine.take(first).expect("ended").expect_err("overtaken");
        let executed = if written { Executed::Maybe } else { Executed::No };
        assert_eq!(failure.executed(), executed, "{failure}");
        assert_eq!(world.get("cache:a").as_deref(), Some("2"));
    }
}

#[test]
fn a_client_that_is_isolated_before_its_first_request_dials_nothing() {
    for started_so in [true, false] {
        let config = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
        let config = if started_so { config.forced(Forced::Isolated) } else { config };
        let mut world = World::new(config);
        if !started_so {
            world.force(Forced::Isolated);
        }
        world.drain();
        assert_eq!(world.count_of("forced by an operator: isolated"), 2, "{:?}", world.events);
        assert_eq!(world.engine.health(), Health::Degraded);
        // Nobody has asked for anything, so nobody is there to dial.
        world.force(None);
        world.force(Forced::Isolated);
        assert!(!world.asks_for_sockets());
        let ticket = world.engine.connect(None, world.now);
        assert!(world.engine.take_wait(ticket).expect("at once").is_ok(), "memory answers");
        assert_eq!(world.get("cache:a"), None);
        assert!(!world.asks_for_sockets());
        world.force(None);
        world.open();
        world.serve(60);
        assert_eq!(world.engine.health(), Health::Live);
    }
}

#[test]
fn connecting_fails_at_once_where_nothing_may_degrade_and_the_client_is_isolated() {
    let mut world = World::new(World::plain());
    let waiting = world.engine.connect(None, world.now);
    world.force(Forced::Isolated);
    let later = world.engine.connect(None, world.now);
    for ticket in [waiting, later] {
        let failure = world.engine.take_wait(ticket).expect("judged").expect_err("nobody answers");
        assert!(matches!(failure.kind(), FailureKind::Isolated), "{failure}");
        assert_eq!(failure.executed(), Executed::No);
    }
}

#[test]
fn forced_memory_says_nothing_of_a_server_to_those_who_connect() {
    let mut world = World::new(World::plain().forced(Forced::Memory));
    let ticket = world.engine.connect(None, world.now);
    assert!(world.engine.take_wait(ticket).is_none(), "nothing degrades, so the server is needed");
    world.open();
    world.write();
    world.say("%0\r\n");
    assert!(world.engine.take_wait(ticket).expect("connected").is_ok());
    assert_eq!(world.engine.health(), Health::Degraded, "forced is forced");
    let incr = world.run(&Request::new("INCR").arg("a"));
    world.serve(1);
    assert_eq!(world.value::<i64>(incr), 1);
    world.force(None);
    assert_eq!(world.engine.health(), Health::Live);

    let mut world = World::new(World::plain().forced(Forced::Memory));
    let ticket = world.engine.connect(None, world.now);
    world.drain();
    world.lose(Cause::Refused);
    let failure = world.engine.take_wait(ticket).expect("judged").expect_err("refused");
    assert!(matches!(failure.kind(), FailureKind::Down(Cause::Refused)), "{failure}");
    assert_eq!(world.engine.status().cause, Some(Cause::Refused), "known better than forced");
}

#[test]
fn a_dial_that_nobody_has_begun_is_taken_back() {
    let mut world = World::new(World::plain());
    world.engine.connect(None, world.now);
    world.engine.force(Some(Forced::Isolated), world.now);
    assert!(!world.asks_for_sockets(), "it was asked for before, and not begun");
    assert_eq!(world.engine.status().connections, 0);

    let named = Config::standalone("cache.example", 6379);
    let mut world = World::new(named);
    world.engine.connect(None, world.now);
    let lookup = loop {
        match world.engine.poll_output() {
            Output::Resolve { lookup, .. } => break lookup,
            Output::Wait(_) => panic!("a look-up is asked for"),
            _ => {}
        }
    };
    world.force(Forced::Isolated);
    let addresses = ["127.0.0.1:6379".parse().expect("an address")];
    world.engine.handle_input(Input::Resolved { lookup, addresses: Ok(&addresses) }, world.now);
    assert!(!world.asks_for_sockets(), "what a look-up still says is inert");
}

#[test]
fn a_connection_in_the_making_is_given_up_and_dialled_again_when_let_go() {
    for opened in [false, true] {
        let mut world = World::new(World::plain());
        let ticket = world.engine.connect(None, world.now);
        world.drain();
        if opened {
            world.open();
        }
        world.force(Forced::Isolated);
        assert_eq!(world.engine.status().connections, 0);
        assert!(world.engine.take_wait(ticket).expect("judged").is_err());
        world.conn = None;
        world.force(None);
        world.open();
        world.write();
        world.say("%0\r\n");
        assert_eq!(world.engine.health(), Health::Live);
        let errors = world.events.iter().filter(|event| event.starts_with("127.0.0.1"));
        assert_eq!(errors.filter(|event| !event.contains("ready")).count(), 0, "no fault of its");
    }
}

/// A client in the middle of paying what it owes, with one batch on its way.
fn draining() -> World {
    let mut world = degraded(Policy::Invalidate);
    for at in 0..300 {
        let key = format!("cache:{at}");
        world.run_now::<()>(&Request::new("SET").arg(&key).arg("new"));
    }
    world.wait(Duration::from_millis(100));
    world.open();
    for _ in 0..200 {
        let sent = world.write();
        if sent.contains("cache:255") {
            return world;
        }
        for word in sent.split("\r\n") {
            match word {
                "HELLO" => world.say("%0\r\n"),
                "PING" => world.say("+PONG\r\n"),
                "ROLE" => world.say("*1\r\n+master\r\n"),
                "INFO" => world.say("+run_id:x\r\n"),
                "unfazed:probe:absent" => world.say(":0\r\n"),
                _ => {}
            }
        }
        world.wait(Duration::from_millis(20));
    }
    panic!("it never came to pay what it owes");
}

#[test]
fn memory_that_is_forced_in_the_middle_of_a_drain_stops_it_after_what_is_on_its_way() {
    let mut world = draining();
    world.force(Forced::Memory);
    assert_eq!(world.get("cache:299").as_deref(), Some("new"));
    let write = world.run(&Request::new("SET").arg("cache:0").arg("newer"));
    assert!(world.engine.is_pending(write), "its deletion is on its way, and must not follow it");
    world.say(&":1\r\n".repeat(256));
    world.value::<()>(write);
    assert_eq!(world.get("cache:0").as_deref(), Some("newer"));
    let sent = world.serve(100);
    assert!(!sent.contains("cache:"), "{sent}");
    assert_eq!(world.engine.status().journal_entries, 300 - 256 + 1);
    world.force(None);
    let sent = world.serve(100);
    assert!(sent.contains("DEL cache:299\n") && sent.contains("DEL cache:0\n"), "{sent}");
    assert_eq!(world.engine.health(), Health::Live);
}

#[test]
fn isolation_in_the_middle_of_a_drain_loses_nothing_that_is_owed() {
    let mut world = draining();
    let write = world.run(&Request::new("SET").arg("cache:0").arg("newer"));
    world.force(Forced::Isolated);
    world.value::<()>(write);
    assert_eq!(world.get("cache:0").as_deref(), Some("newer"));
    assert_eq!(world.engine.status().journal_entries, 300);
    world.conn = None;
    world.force(None);
    world.open();
    let sent = world.serve(100);
    assert!(sent.contains("DEL cache:299\n") && sent.contains("DEL cache:0\n"), "{sent}");
    assert_eq!(world.engine.health(), Health::Live);
    assert_eq!(world.engine.status().journal_entries, 0);
}

#[test]
fn redis_that_is_forced_in_the_middle_of_a_drain_lets_it_go_on() {
    let mut world = draining();
    world.force(Forced::Redis);
    let read = world.run(&Request::new("GET").arg("cache:299"));
    assert!(world.engine.is_pending(read), "memory knows, and may not say");
    world.say(&":1\r\n".repeat(256));
    let sent = world.serve(60);
    assert!(sent.find("DEL cache:299") < sent.find("GET cache:299"), "{sent}");
    assert_eq!(world.value::<Option<String>>(read), None);
    assert_eq!(world.engine.health(), Health::Live);
}

#[test]
fn each_change_is_told_once_and_a_repetition_not_at_all() {
    for forced in FORCED {
        let mut world = World::cached(Policy::Discard);
        world.force(forced);
        let since = world.engine.status().forced_since;
        assert_eq!(since, Some(world.now.instant));
        world.now = world.now + Duration::from_millis(10);
        let told = world.events.len();
        world.force(forced);
        assert_eq!(world.events.len(), told);
        assert_eq!(world.engine.status().forced_since, since);
        let changes = world.events.iter().filter(|event| event.starts_with("forced")).count();
        assert_eq!(changes, 1, "{:?}", world.events);
        world.force(None);
        assert_eq!(world.count_of("no longer forced"), 1);
        assert_eq!(world.engine.status().forced_since, None);
    }
}

#[test]
fn every_change_from_every_other_ends_well() {
    let all = [None, Some(Forced::Redis), Some(Forced::Memory), Some(Forced::Isolated)];
    for (first, second) in all.iter().flat_map(|first| all.map(|second| (*first, second))) {
        for policy in [Policy::Discard, Policy::Invalidate] {
            let mut world = World::cached(policy);
            world.set("cache:a", "1");
            world.force(first);
            world.wait(Duration::from_millis(300));
            world.force(second);
            world.wait(Duration::from_millis(300));
            world.force(None);
            if first == Some(Forced::Isolated) || second == Some(Forced::Isolated) {
                world.open();
            }
            world.serve(60);
            assert_eq!(world.engine.health(), Health::Live, "{first:?}, {second:?}");
            let status = world.engine.status();
            assert_eq!((status.queued_requests, status.journal_entries), (0, 0));
        }
    }
}

#[test]
fn a_client_that_is_closing_or_closed_can_be_forced() {
    for forced in FORCED {
        let mut world = World::cached(Policy::Invalidate);
        let incr = world.run(&Request::new("INCR").arg("wallet"));
        world.write();
        world.engine.shutdown(Duration::from_secs(1), world.now);
        world.force(forced);
        world.wait(Duration::from_secs(2));
        assert!(world.engine.is_closed());
        assert!(world.engine.take(incr).expect("ended").is_err());
        let told = world.events.len();
        world.force(None);
        assert_eq!(world.events.len(), told, "nothing is left to force");
        assert_eq!(world.engine.health(), Health::Closed);
    }
}

#[test]
fn there_is_nothing_to_force_where_there_is_no_server() {
    for forced in FORCED {
        let mut world = World::new(Config::memory().forced(forced));
        world.force(forced);
        world.run_now::<()>(&Request::new("SET").arg("a").arg("1"));
        assert_eq!(world.get("a").as_deref(), Some("1"));
        assert_eq!((world.engine.status().forced, world.events.len()), (None, 0));
    }
}

#[test]
fn what_stands_in_line_for_room_is_let_in_by_an_isolation() {
    let mut world = World::live(World::plain().queue_requests_max(1));
    let first = world.run(&Request::new("INCR").arg("a"));
    let second = world.run(&Request::new("INCR").arg("b"));
    assert_eq!(world.engine.status().waiting_requests, 1);
    world.force(Forced::Isolated);
    for ticket in [first, second] {
        assert!(world.engine.take(ticket).expect("ended").is_err());
    }
    assert_eq!(world.engine.status().queued_requests, 0);
}

#[test]
fn bytes_of_an_isolated_connection_are_neither_written_nor_heard() {
    let mut world = World::live(World::plain());
    let incr = world.run(&Request::new("INCR").arg("a"));
    let conn = world.conn.expect("connected");
    world.engine.force(Some(Forced::Isolated), world.now);
    assert!(world.engine.take_output(conn).is_none());
    let mut late = BytesMut::from(&b":7\r\n"[..]);
    world.engine.received(conn, &mut late, world.now);
    assert!(world.engine.is_pending(incr));
    world.drain();
    let failure = world.engine.take(incr).expect("ended").expect_err("isolated");
    assert_eq!(failure.executed(), Executed::No);
}
