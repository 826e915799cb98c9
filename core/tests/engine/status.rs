//! What operators see.

use std::time::Duration;

use unfazed_core::{
    Cause, Config, Request,
    config::Forced,
    engine::{AnsweredBy, Health, PatternStatus},
    fallback::{Fallback, Mode, Policy},
};

use super::World;

const EVERY_MODE: [(&str, &str); 5] = [
    ("keep:*", "discard"),
    ("cache:*", "invalidate"),
    ("page:*", "miss"),
    ("strict:*", "fail"),
    ("wallet:*", "wait"),
];

fn every_mode() -> Config {
    World::plain()
        .fallback(Fallback::memory("keep:*", Policy::Discard))
        .fallback(Fallback::memory("cache:*", Policy::Invalidate))
        .fallback(Fallback::miss("page:*"))
        .fallback(Fallback::fail("strict:*"))
        .fallback(Fallback::wait("wallet:*"))
}

impl World {
    fn pattern(&self, name: &str) -> PatternStatus {
        let mut patterns = self.engine.status().patterns.into_iter();
        patterns.find(|pattern| pattern.pattern.as_deref() == Some(name)).expect("a rule for it")
    }

    /// Who answers, for each rule in order and for the rest: server, memory or nobody.
    fn answered_by(&self) -> String {
        let patterns = self.engine.status().patterns;
        let by = patterns.iter().map(|pattern| match pattern.answered_by {
            Some(AnsweredBy::Server) => 's',
            Some(AnsweredBy::Memory) => 'm',
            _ => '-',
        });
        by.collect()
    }

    /// Runs a command that the server answers with this.
    fn served(&mut self, command: &str, answer: &str) {
        let ticket = self.run(&Request::new(command));
        self.write();
        self.say(answer);
        drop(self.engine.take(ticket).expect("answered"));
    }

    /// Runs a command that ends at once.
    fn ends(&mut self, command: &str) -> bool {
        let ticket = self.run(&Request::new(command));
        self.engine.take(ticket).expect("ended").is_ok()
    }
}

#[test]
fn each_rule_is_shown_in_order_and_then_what_holds_for_the_rest() {
    let world = World::new(every_mode());
    let patterns = world.engine.status().patterns;
    let shown: Vec<_> = patterns
        .iter()
        .map(|pattern| (pattern.pattern.as_deref().unwrap_or("rest"), pattern.mode.name()))
        .collect();
    assert_eq!(shown[..5], EVERY_MODE);
    assert_eq!(shown[5], ("rest", "wait"));
    let fast = World::new(World::plain().fail_fast(true)).engine.status().patterns;
    assert_eq!(fast.iter().map(|pattern| pattern.mode).collect::<Vec<_>>(), [Mode::Fail]);
    assert!(World::new(Config::memory()).engine.status().patterns.is_empty());
}

#[test]
fn it_is_shown_who_would_answer_now() {
    let world = World::new(every_mode());
    assert_eq!(world.answered_by(), "------", "nobody is connected yet");
    let mut world = World::live(every_mode());
    assert_eq!(world.answered_by(), "ssssss");
    world.wait(Duration::from_millis(600));
    world.lose(Cause::Reset);
    assert_eq!(world.answered_by(), "------", "suspect: all wait");
    world.lose(Cause::Refused);
    assert_eq!(world.answered_by(), "mmm---");
    assert!(world.pattern("page:*").is_available() && !world.pattern("strict:*").is_available());
    world.engine.force(Some(Forced::Redis), world.now);
    assert_eq!(world.answered_by(), "------");
    world.engine.force(Some(Forced::Memory), world.now);
    assert_eq!(world.answered_by(), "mmm---");
    world.engine.force(None, world.now);
    world.wait(Duration::from_millis(100));
    world.open();
    world.write();
    world.say("%0\r\n");
    assert_eq!(world.answered_by(), "mmm-ss", "what may not degrade is back with the connection");
    world.engine.force(Some(Forced::Redis), world.now);
    assert_eq!(world.answered_by(), "sss-ss");
    world.engine.force(Some(Forced::Isolated), world.now);
    assert_eq!(world.answered_by(), "mmm---");
    world.engine.shutdown(Duration::ZERO, world.now);
    assert_eq!(world.answered_by(), "------");
}

#[test]
fn hits_and_misses_are_counted_by_pattern_and_source() {
    let mut world = World::live(every_mode());
    world.served("SET cache:a 1", "+OK\r\n");
    world.served("GET cache:a", "$1\r\n1\r\n");
    world.served("GET cache:none", "_\r\n");
    world.served("MGET cache:a keep:none", "*2\r\n$1\r\n1\r\n_\r\n");
    world.served("LRANGE keep:list 0 -1", "*0\r\n");
    world.served("GET cache:list", "-WRONGTYPE no string\r\n");
    world.served("GET strict:a", "$1\r\n1\r\n");
    world.served("GET wallet:a", "$1\r\n1\r\n");
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    assert!(world.ends("GET cache:a"), "remembered");
    assert!(world.ends("GET cache:other"), "unknown");
    assert!(world.ends("SET cache:b 1") && world.ends("GET cache:b"), "written");
    assert!(world.ends("DEL cache:b") && world.ends("GET cache:b"), "known to be gone");
    assert!(world.ends("SET page:1 x") && world.ends("GET page:1"), "dropped");
    assert!(!world.ends("SETNX cache:lock 1") && !world.ends("TTL cache:a"), "refused");
    assert!(!world.ends("GET strict:a"), "fails by its rule, and was not refused by memory");

    let counts = |counts: unfazed_core::engine::Counts| (counts.hits, counts.misses, counts.writes);
    let cache = world.pattern("cache:*");
    assert_eq!(counts(cache.server), (2, 1, 1));
    assert_eq!(counts(cache.shadow), (1, 0, 0));
    assert_eq!(counts(cache.unknown), (0, 1, 0));
    assert_eq!(counts(cache.overlay), (1, 1, 2));
    assert_eq!((cache.refused_reads, cache.refused_writes), (1, 1));
    assert_eq!(counts(world.pattern("keep:*").server), (0, 1, 0), "an empty list is nothing");
    let page = world.pattern("page:*");
    assert_eq!((counts(page.unknown), counts(page.overlay)), ((0, 1, 1), (0, 0, 0)));
    let strict = world.pattern("strict:*");
    assert_eq!((counts(strict.server), strict.refused_reads), ((1, 0, 0), 0));
    assert_eq!(counts(world.pattern("wallet:*").server), (0, 0, 0), "it can't degrade");
}

#[test]
fn the_items_of_a_pipeline_are_counted_as_commands() {
    let mut world = World::live(every_mode());
    let mut batch = unfazed_core::engine::Batch::new();
    for command in ["GET cache:a", "GET page:a", "GET wallet:a", "SET cache:b 1"] {
        batch.push(&Request::new(command));
    }
    let (ticket, _) = world.engine.submit_batch(&batch, None, world.now).expect("room");
    world.write();
    world.say("_\r\n_\r\n_\r\n+OK\r\n");
    assert!(world.engine.take_batch(ticket).is_some());
    let cache = world.pattern("cache:*").server;
    assert_eq!((cache.misses, cache.writes), (1, 1));
    assert_eq!(world.pattern("page:*").server.misses, 1);
}

#[test]
fn the_items_of_a_transaction_are_counted_as_commands() {
    let mut world = World::live(every_mode());
    let transact = |world: &mut World, commands: &[&str]| {
        let mut batch = unfazed_core::engine::Batch::new();
        for command in commands {
            batch.push(&Request::new(command));
        }
        let batch = batch.into_transaction();
        let (ticket, _) = world.engine.submit_batch(&batch, None, world.now).expect("room");
        world.drain();
        ticket
    };
    let commands = ["GET cache:a", "GET wallet:a", "INCR page:a", "GET page:a", "SET cache:b 1"];
    let ticket = transact(&mut world, &commands);
    world.write();
    world.say("+OK\r\n");
    commands.iter().for_each(|_| world.say("+QUEUED\r\n"));
    world.say("*5\r\n$1\r\n1\r\n_\r\n-ERR no\r\n_\r\n+OK\r\n");
    assert!(world.engine.take_batch(ticket).is_some());
    let cache = world.pattern("cache:*").server;
    assert_eq!((cache.hits, cache.misses, cache.writes), (1, 0, 1));
    let page = world.pattern("page:*").server;
    assert_eq!((page.misses, page.writes), (1, 0), "an error is not counted");
    assert_eq!(world.pattern("wallet:*").server.misses, 0, "it can't degrade");
    assert_eq!(world.pattern("keep:*").server.writes, 0);

    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    let ticket = transact(&mut world, &["SET keep:a 1", "GET cache:c", "GET keep:a"]);
    assert!(world.engine.take_batch(ticket).is_some_and(|outcomes| outcomes.spread().is_ok()));
    let keep = world.pattern("keep:*").overlay;
    assert_eq!((keep.hits, keep.writes), (1, 1));
    assert_eq!(world.pattern("cache:*").unknown.misses, 1);
    let ticket = transact(&mut world, &["SET keep:a 2", "SETNX cache:lock me", "GET keep:a"]);
    assert!(world.engine.take_batch(ticket).is_some_and(|outcomes| outcomes.spread().is_err()));
    assert_eq!(world.pattern("cache:*").refused_writes, 1);
    let keep = world.pattern("keep:*");
    assert_eq!((keep.overlay.writes, keep.refused_writes), (1, 0), "nothing of it counts");
}

#[test]
fn of_keys_that_wait_and_of_messages_nothing_is_counted() {
    let mut world = World::live(every_mode());
    world.served("PUBLISH news x", ":0\r\n");
    world.served("SPUBLISH cache:news x", ":0\r\n");
    world.served("INCR other", ":1\r\n");
    world.served("DEL wallet:a cache:b", ":2\r\n");
    world.served("DEL other cache:b", ":2\r\n");
    for pattern in world.engine.status().patterns {
        assert_eq!(pattern.server, Default::default(), "{pattern}");
    }
    // Where what no rule matches fails at once, it is counted in full.
    let mut world = World::live(every_mode().fail_fast(true));
    world.served("INCR other", ":1\r\n");
    world.served("PUBLISH news x", ":0\r\n");
    let patterns = world.engine.status().patterns;
    assert_eq!(patterns.last().expect("the rest").server.writes, 1);
}

#[test]
fn a_closed_client_says_so_and_since_when() {
    let mut world = World::live(every_mode());
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    world.wait(Duration::from_millis(300));
    world.engine.shutdown(Duration::ZERO, world.now);
    let closed = world.now.instant;
    let status = world.engine.status();
    assert_eq!((status.health, status.since), (Health::Closed, closed));
    assert_eq!((status.lasting, status.cause.clone()), (Duration::ZERO, None));
    let shown = status.to_string();
    assert!(shown.starts_with("127.0.0.1:6379: closed for 0 ms\n"), "{shown}");
    world.wait(Duration::from_secs(2));
    world.engine.abandon(world.now);
    let status = world.engine.status();
    assert_eq!((status.since, status.lasting), (closed, Duration::from_secs(2)));
}

#[test]
fn a_client_whose_runtime_is_gone_while_it_closes_is_closed_from_then_on() {
    let mut world = World::live(every_mode());
    world.run(&Request::new("GET cache:a"));
    world.write();
    world.engine.shutdown(Duration::from_secs(1), world.now);
    world.now.instant += Duration::from_millis(100);
    world.engine.abandon(world.now);
    let status = world.engine.status();
    assert_eq!((status.health, status.since), (Health::Closed, world.now.instant));
}

#[test]
fn what_concerns_all_keys_counts_for_the_rule_that_all_fall_under() {
    let config = World::plain()
        .fallback(Fallback::miss("page:*"))
        .fallback(Fallback::memory("*", Policy::Discard));
    let mut world = World::live(config);
    world.served("DBSIZE", ":3\r\n");
    assert_eq!(world.pattern("*").server.hits, 1);
    assert_eq!(world.pattern("page:*").server.hits, 0);
}

#[test]
fn a_status_is_read_in_a_log() {
    let mut world = World::live(every_mode());
    world.served("SET cache:a 1", "+OK\r\n");
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    assert!(world.ends("SET cache:a 2") && world.ends("GET cache:a"));
    world.engine.force(Some(Forced::Memory), world.now);
    world.wait(Duration::from_millis(4_200));
    world.engine.handle_input(unfazed_core::engine::Input::Timeout, world.now);
    let status = world.engine.status();
    assert_eq!(status.health, Health::Degraded);
    assert_eq!(status.lasting, Duration::from_millis(4_200));
    let shown = status.to_string();
    let expected = "\
127.0.0.1:6379: degraded for 4.2 s (connecting took too long), forced by an operator: memory
  requests  0 under way, 0 of them wait for room; 0 sockets
  memory    1 written (175 B), 0 remembered (0 B), 1 owed to the server (7 B)
  answers   1 server, 2 written, 0 remembered, 0 unknown
  data      run one, history one
  keep:*    discard      now: memory
  cache:*   invalidate   now: memory; server 0 hits, 0 misses, 1 writes; written 1 hits, 0 misses, 1 writes
  page:*    miss         now: memory
  strict:*  fail         now: nobody
  wallet:*  wait         now: nobody
  (others)  wait         now: nobody";
    assert_eq!(shown, expected, "\n{shown}");
    assert_eq!(
        world.pattern("page:*").to_string(),
        "page:*  miss         now: memory",
        "one alone is one line"
    );
}

#[test]
fn a_client_without_rules_shows_its_one_mode_and_counts_nothing_by_pattern() {
    let mut world = World::live(World::plain());
    world.served("GET a", "_\r\n");
    let status = world.engine.status();
    assert_eq!((status.patterns.len(), status.answers_server), (1, 1));
    assert_eq!(status.patterns[0].server.misses, 0);
    assert_eq!(status.data_set, None, "it was not asked");
}

#[test]
fn of_very_many_patterns_the_first_ones_are_counted() {
    let mut config = World::plain();
    for at in 0..300 {
        config = config.fallback(Fallback::miss(format!("{at}:*")));
    }
    let mut world = World::live(config);
    for at in [0, 254, 255, 256, 299] {
        world.served(&format!("GET {at}:a"), "_\r\n");
    }
    let patterns = world.engine.status().patterns;
    assert_eq!(patterns.len(), 301);
    let counted: Vec<_> = (0..301).filter(|at| patterns[*at].server.misses > 0).collect();
    assert_eq!(counted, [0, 254]);
}
