//! Degraded mode step by step: what memory does, and what the server is told when it is back.

mod debts;

use super::*;
use unfazed_core::{
    failure::{Bound, Never},
    resp::Source,
};

/// A server that answers what a client asks on its own, and remembers what it was told.
pub(super) struct Peer {
    run: &'static str,
    /// What it answers to a command that begins with these words, once for each; what it is not told
    /// about it takes for right.
    pub(super) says: Vec<(&'static str, &'static str)>,
    pub(super) heard: Vec<String>,
}

impl Peer {
    pub(super) fn new(run: &'static str) -> Self {
        Peer { run, says: Vec::new(), heard: Vec::new() }
    }

    pub(super) fn saying(mut self, command: &'static str, answer: &'static str) -> Self {
        self.says.push((command, answer));
        self
    }

    /// Reads all that the client writes and answers it.
    pub(super) fn serve(&mut self, world: &mut World) {
        let mut in_transaction = 0;
        for line in commands(&world.write()) {
            let known = self.says.iter().position(|(of, _)| line.starts_with(of));
            let word = line.split(' ').next().unwrap_or_default();
            let own = ["HELLO", "INFO", "PING", "ROLE", "DEL unfazed:probe:absent"];
            if !own.iter().any(|own| line.starts_with(own)) {
                self.heard.push(line.clone());
            }
            let answer = match known {
                Some(at) => self.says.remove(at).1.to_owned(),
                None if in_transaction > 0 && word != "EXEC" => "+QUEUED\r\n".to_owned(),
                None => match word {
                    "HELLO" => "%0\r\n".to_owned(),
                    "INFO" => {
                        let info = format!("run_id:{0}\r\nmaster_replid:{0}\r\n", self.run);
                        format!("${}\r\n{info}\r\n", info.len())
                    }
                    "PING" => "+PONG\r\n".to_owned(),
                    "ROLE" => "*1\r\n+master\r\n".to_owned(),
                    "MULTI" | "SET" => "+OK\r\n".to_owned(),
                    "EXEC" => format!(
                        "*{}\r\n{}",
                        in_transaction - 1,
                        ":1\r\n".repeat(in_transaction - 1)
                    ),
                    "GET" => "_\r\n".to_owned(),
                    _ => ":1\r\n".to_owned(),
                },
            };
            match word {
                "MULTI" => in_transaction = 1,
                "EXEC" => in_transaction = 0,
                _ if in_transaction > 0 => in_transaction += 1,
                _ => {}
            }
            world.say(&answer);
        }
    }

    /// Serves a client that is degraded until it is live, or for a few seconds.
    pub(super) fn recover(&mut self, world: &mut World) {
        for _ in 0..80 {
            world.wait(Duration::from_millis(50));
            if world.conn.is_none() {
                world.drain();
            }
            if world.conn.is_some() {
                self.serve(world);
            }
        }
    }
}

/// The commands in what was written, each as one line.
pub(super) fn commands(sent: &str) -> Vec<String> {
    let mut words = sent.split("\r\n").filter(|word| !word.starts_with('$'));
    let mut lines = Vec::new();
    while let Some(count) = words.next().and_then(|word| word.strip_prefix('*')) {
        let count = count.parse().expect("a count");
        lines.push(words.by_ref().take(count).collect::<Vec<_>>().join(" "));
    }
    lines
}

/// Live, with some keys known, then degraded.
pub(super) fn world(rules: impl IntoIterator<Item = Fallback>, known: &[&str]) -> World {
    world_with(rules.into_iter().fold(World::plain(), Config::fallback), known)
}

pub(super) fn world_with(config: Config, known: &[&str]) -> World {
    let mut world = World::live(config);
    for command in known {
        let ticket = world.run(&Request::new(command));
        world.write();
        world.say("+OK\r\n");
        world.value::<()>(ticket);
    }
    world.fall();
    world
}

impl World {
    pub(super) fn fall(&mut self) {
        self.wait(Duration::from_millis(600));
        self.answer_pings();
        self.lose(Cause::Reset);
        self.lose(Cause::Refused);
        assert_eq!(self.engine.health(), Health::Degraded);
    }

    /// Waits for the next dial, and accepts it.
    pub(super) fn dial(&mut self) {
        let before = self.conn;
        while self.conn == before {
            self.wait(Duration::from_millis(50));
        }
        self.open();
    }

    /// Dials, is accepted, and recovers.
    pub(super) fn return_to(&mut self, peer: &mut Peer) {
        self.dial();
        peer.recover(self);
    }

    pub(super) fn done(&mut self, command: &str) -> i64 {
        self.run_now(&Request::new(command))
    }

    pub(super) fn refused(&mut self, command: &str) -> MemoryRefusal {
        let ticket = self.run(&Request::new(command));
        let failure = self.engine.take(ticket).expect("at once").expect_err(command);
        assert_eq!(failure.executed(), Executed::No, "{failure}");
        match failure.kind() {
            FailureKind::Memory(refusal) => refusal.clone(),
            other => panic!("{command}: {other}"),
        }
    }

    pub(super) fn read(&mut self, command: &str) -> (Option<String>, Source) {
        let ticket = self.run(&Request::new(command));
        let reply = self.engine.take(ticket).expect("at once").expect("no failure");
        (Option::from_reply(&reply).expect("text or nothing"), reply.source())
    }

    pub(super) fn told(&self, text: &str) -> usize {
        self.events.iter().filter(|event| event.contains(text)).count()
    }
}

pub(super) fn memory(policy: Policy) -> [Fallback; 1] {
    [Fallback::memory("*", policy)]
}

#[test]
fn stale_reads_give_what_is_remembered_and_make_nothing_up() {
    let rule = Fallback::stale_reads("*", Duration::from_secs(60));
    let mut world = world([rule], &["SET a 1", "SET b 2 PX 5000"]);
    assert_eq!(world.read("GET a"), (Some("1".into()), Source::Shadow));
    assert_eq!(world.read("GETEX a"), (Some("1".into()), Source::Shadow));
    assert_eq!(world.done("EXISTS a b"), 2);
    assert_eq!(world.done("TTL a"), -1, "SET said so");
    for unknown in ["GET c", "EXISTS c", "MGET a c", "TTL c"] {
        assert_eq!(world.refused(unknown), MemoryRefusal::NotRemembered, "{unknown}");
    }
    for write in ["SET a 2", "DEL a", "INCR c", "MSET a 1 c 2", "GETEX a PERSIST"] {
        assert_eq!(world.refused(write), MemoryRefusal::ReadOnly, "{write}");
    }
    assert_eq!(world.refused("DBSIZE"), MemoryRefusal::NotRemembered);
    world.wait(Duration::from_secs(6));
    assert_eq!(world.refused("GET b"), MemoryRefusal::NotRemembered, "its time to live is over");
    world.wait(Duration::from_secs(60));
    assert_eq!(world.refused("GET a"), MemoryRefusal::TooOld);
    assert_eq!(world.refused("MGET a c"), MemoryRefusal::TooOld);
    assert_eq!(world.told("longer than remembered values"), 1, "{:?}", world.events);
    let status = world.engine.status();
    assert_eq!((status.journal_entries, status.overlay_entries), (0, 0));
}

#[test]
fn data_that_are_replaced_while_probes_fail_are_other_data() {
    let mut world = world(memory(Policy::MergeDelta), &["SET a 1", "SET old 1"]);
    world.run_now::<i64>(&Request::new("INCR").arg("a"));
    world.dial();
    let mut peer = Peer::new("one").saying("DEL unfazed:probe:absent", "-NOREPLICAS none\r\n");
    while !peer.says.is_empty() {
        world.wait(Duration::from_millis(10));
        peer.serve(&mut world);
    }
    let status = world.engine.status();
    assert!(matches!(status.cause, Some(Cause::NotReady(_))), "{:?}", status.cause);
    let mut peer = Peer::new("two").saying("EXISTS a", ":0\r\n");
    peer.recover(&mut world);
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    assert_eq!(peer.heard, ["EXISTS a"]);
    assert_eq!(world.told("remembered values are dropped"), 1, "{:?}", world.events);
    world.fall();
    assert_eq!(world.read("GET old"), (None, Source::Unknown));
}

#[test]
fn what_one_policy_would_do_to_anothers_key_is_refused() {
    let rules = [
        Fallback::memory("cache:*", Policy::Invalidate),
        Fallback::memory("log:*", Policy::Discard),
        Fallback::memory("state:*", Policy::ReplayLastWins),
        Fallback::miss("miss:*"),
        Fallback::stale_reads("old:*", Duration::from_secs(60)),
        Fallback::fail("*"),
    ];
    let mut world = world(rules, &[]);
    world.run_now::<()>(&Request::new("MSET cache:a 1 log:a 2 state:a 3"));
    assert_eq!(world.done("DEL cache:b log:b state:b"), 0);
    assert_eq!(world.engine.status().journal_entries, 4);
    assert_eq!(world.refused("RENAME cache:a state:a"), MemoryRefusal::Mixed);
    assert_eq!(world.refused("MSET miss:a 1 state:a 2"), MemoryRefusal::Mixed);
    assert_eq!(world.refused("MSET old:a 1 cache:a 2"), MemoryRefusal::ReadOnly);
    world.run_now::<()>(&Request::new("MSET miss:a 1 cache:a 2 log:a 3"));
    assert_eq!(world.read("GET log:a").0.as_deref(), Some("2"), "it was dropped");
    let ticket = world.run(&Request::new("MSET old:a 1 other 2"));
    let failure = world.engine.take(ticket).expect("at once").expect_err("others fail");
    assert!(matches!(failure.kind(), FailureKind::Down(_)), "{failure}");
    let mut peer = Peer::new("one");
    world.return_to(&mut peer);
    let expected = ["DEL cache:a", "SET state:a 3", "DEL cache:b", "DEL state:b", "DEL miss:a"];
    assert_eq!(peer.heard, expected);
}

#[test]
fn what_is_never_done_in_memory_says_why() {
    let mut world = world(memory(Policy::Invalidate), &[]);
    for (command, why) in [
        ("EVAL x 1 k", Never::Script),
        ("XADD k * f v", Never::Stream),
        ("FLUSHALL", Never::EveryKey),
        ("DUMP k", Never::Administration),
    ] {
        assert_eq!(world.refused(command), MemoryRefusal::Never(why), "{command}");
    }
    assert_eq!(world.engine.status().journal_entries, 0);
}

#[test]
fn who_may_be_told_that_nobody_was_before_is_told_so() {
    let rule = Fallback::memory("once:*", Policy::Invalidate).allow_if_absent();
    let mut world = world([rule], &["SET once:seen 1"]);
    assert_eq!(world.done("SETNX once:a 1"), 1);
    assert_eq!(world.done("SETNX once:a 2"), 0);
    assert_eq!(world.done("SETNX once:seen 2"), 0);
    assert_eq!(world.read("SET once:b 1 NX").0.as_deref(), Some("OK"));
    assert_eq!(world.read("SET once:b 2 NX").0, None);
    assert_eq!(world.engine.status().journal_entries, 2, "what was not done is not owed");
}

#[test]
fn a_read_in_memory_dirties_nothing() {
    let mut world = world(memory(Policy::ReplayLastWins), &["SET a 1", "SET b 2"]);
    assert_eq!(world.read("GETEX a"), (Some("1".into()), Source::Shadow));
    assert_eq!(world.done("TOUCH a b"), 2);
    assert_eq!(world.done("COPY a c REPLACE"), 1);
    assert_eq!(world.refused("COPY a unseen"), MemoryRefusal::Unsafe, "it may be there");
    assert_eq!(world.engine.status().journal_entries, 1);
    let mut peer = Peer::new("one");
    world.return_to(&mut peer);
    assert_eq!(peer.heard, ["SET c 1"]);
}

#[test]
fn commands_about_all_keys_see_both_what_is_remembered_and_what_was_written() {
    let mut world = world(memory(Policy::Discard), &["SET a 1", "SET b 1"]);
    world.run_now::<()>(&Request::new("SET c 1"));
    assert_eq!(world.done("DEL a"), 1);
    assert_eq!(world.done("DBSIZE"), 2);
    let mut keys: Vec<String> = world.run_now(&Request::new("KEYS *"));
    keys.sort();
    assert_eq!(keys, ["b", "c"]);
    let (cursor, found): (u64, Vec<String>) = world.run_now(&Request::new("SCAN 17 MATCH c*"));
    assert_eq!((cursor, found), (0, vec!["c".to_owned()]));
    let any: String = world.run_now(&Request::new("RANDOMKEY"));
    assert!(keys.contains(&any));
    assert_eq!(world.engine.status().overlay_entries, 1, "nothing was put together");
}

#[test]
fn both_bounds_of_memory_are_told_of_and_dirty_values_are_never_dropped() {
    let config = World::plain()
        .fallback(Fallback::memory("*", Policy::MergeDelta))
        .memory_entries_max(3)
        .journal_bytes_max(12);
    let mut world = world_with(config, &["SET old:1 1", "SET old:2 1", "SET old:3 1"]);
    assert_eq!(world.engine.status().shadow_entries, 3);
    assert_eq!(world.done("APPEND a 1234"), 4);
    assert_eq!(world.refused("APPEND a 12345678"), MemoryRefusal::Full(Bound::JournalBytes));
    assert_eq!(world.read("GET a").0.as_deref(), Some("1234"));
    assert_eq!(world.engine.status().shadow_entries, 2, "the clean ones make room");
    assert_eq!(world.read("GET old:1"), (None, Source::Unknown), "the least recently used");
    world.run_now::<()>(&Request::new("SET b 1"));
    world.run_now::<()>(&Request::new("SET c 1"));
    assert_eq!(world.refused("SET d 1"), MemoryRefusal::Full(Bound::MemoryEntries));
    assert_eq!(world.refused("SET d 1"), MemoryRefusal::Full(Bound::MemoryEntries));
    assert_eq!(world.told("journal_bytes_max is reached"), 1, "{:?}", world.events);
    assert_eq!(world.told("memory_entries_max is reached"), 1, "{:?}", world.events);
    let status = world.engine.status();
    assert_eq!((status.overlay_entries, status.shadow_entries), (3, 0));
}

#[test]
fn counters_are_remembered_from_their_own_answers() {
    let rules = [Fallback::memory("n:*", Policy::MergeDelta)];
    let mut world = World::live(rules.into_iter().fold(World::plain(), Config::fallback));
    let incr = world.run(&Request::new("INCR n:a"));
    let expire = world.run(&Request::new("EXPIRE n:a 60"));
    world.write();
    world.say(":7\r\n:1\r\n");
    assert_eq!((world.value::<i64>(incr), world.value::<i64>(expire)), (7, 1));
    world.fall();
    assert_eq!(world.done("INCR n:a"), 8);
    assert_eq!(world.done("TTL n:a"), 59);
    // It expires in memory as on the server; what comes then is added to nothing.
    world.wait(Duration::from_secs(61));
    assert_eq!(world.done("INCR n:a"), 1);
    let mut peer = Peer::new("one");
    world.return_to(&mut peer);
    assert_eq!(peer.heard, ["INCRBY n:a 1"]);
}

#[test]
fn a_replica_that_answers_is_left_for_whoever_the_name_leads_to() {
    for (question, answer) in [
        ("ROLE", "*1\r\n+slave\r\n"),
        ("DEL unfazed:probe:absent", "-READONLY a replica\r\n"),
        ("PING", "-NOAUTH Authentication required.\r\n"),
    ] {
        let mut world = world(memory(Policy::Invalidate), &[]);
        world.run_now::<()>(&Request::new("SET a 1"));
        world.dial();
        let first = world.conn;
        let mut peer = Peer::new("one").saying(question, answer);
        while peer.says.len() == 1 {
            world.wait(Duration::from_millis(10));
            peer.serve(&mut world);
        }
        let mut rounds = 0;
        while world.conn == first {
            world.wait(Duration::from_millis(50));
            rounds += 1;
            assert!(rounds < 100, "{question}: another connection is made");
        }
        assert_eq!(world.engine.health(), Health::Degraded, "{question}");
        world.open();
        peer.recover(&mut world);
        assert_eq!(world.engine.health(), Health::Live, "{question}: {:?}", world.events);
        assert_eq!(peer.heard, ["DEL a"], "{question}");
    }
}

#[test]
fn values_that_have_expired_and_are_owed_nothing_make_room_for_others() {
    let config =
        World::plain().fallback(Fallback::memory("*", Policy::Discard)).memory_entries_max(2);
    let mut world = world_with(config, &[]);
    for at in 0..40 {
        world.run_now::<()>(
            &Request::new("SET").arg(&format!("k{at}")).arg("1").arg("PX").arg("500"),
        );
        world.wait(Duration::from_millis(501));
    }
    assert_eq!(world.told("is full"), 0, "{:?}", world.events);
}

#[test]
fn a_dead_connection_drops_nothing_that_was_cancelled() {
    let mut world = degraded(Policy::Invalidate);
    world.wait(Duration::from_secs(1));
    let gone = world.conn.expect("one is being made");
    world.lose(Cause::Refused);
    let waiting = ["SET wallet:a 1", "SET wallet:b 1", "SET wallet:c 1"];
    let tickets = waiting.map(|command| world.run(&Request::new(command)));
    world.engine.cancel(tickets[0], world.now);
    // Others wait behind keys from now on, and behind none of what was cancelled.
    world.run(&Request::new("MSET cache:a 1 wallet:d 1"));
    assert_eq!(world.engine.status().queued_requests, 4, "it would cost a look at each");
    world.engine.handle_input(Input::Closed { conn: gone, cause: Cause::Reset }, world.now);
    assert_eq!(world.engine.status().queued_requests, 4);
    // What may be waited for is dropped at once, and all else that was cancelled with it.
    let both = world.run(&Request::new("MSET cache:b 1 wallet:e 1"));
    world.engine.cancel(both, world.now);
    assert_eq!(world.engine.status().queued_requests, 3);
}
