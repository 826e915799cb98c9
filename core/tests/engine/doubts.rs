//! What memory cannot be sure of, it does not say, and what may go wrong for long, it does not hurry.

use super::degraded::{Peer, commands, memory, world, world_with};
use super::*;
use unfazed_core::{
    Executed,
    engine::{ConnId, Lease},
    resp::Source,
};

const STALE: Duration = Duration::from_secs(60);

#[test]
fn what_is_sorted_by_keys_that_nobody_can_name_is_no_guess() {
    let sorts = ["SORT ids BY weight:*", "SORT ids GET name:*", "SORT_RO ids by weight:* get #"];
    for policy in [Policy::Discard, Policy::Invalidate, Policy::ReplayLastWins, Policy::MergeDelta]
    {
        let mut world = world(memory(policy), &["SET weight:1 3"]);
        world.done("DEL new");
        world.done("RPUSH new 1 2");
        for sort in sorts {
            assert_eq!(world.refused(sort), MemoryRefusal::Unseen, "{sort}");
        }
        assert_eq!(world.refused("SORT new BY weight:* STORE sorted"), MemoryRefusal::Unseen);
    }
    // Without a star there is no such key.
    let mut known = world(memory(Policy::Discard), &[]);
    known.done("RPUSH ids 2 1");
    for sort in ["SORT ids", "SORT ids BY nosort", "SORT ids GET # LIMIT 0 5"] {
        assert_eq!(known.run_now::<Vec<i64>>(&Request::new(sort)).len(), 2, "{sort}");
    }
    let mut stale = world([Fallback::stale_reads("*", STALE)], &[]);
    assert_eq!(stale.refused(sorts[0]), MemoryRefusal::NotRemembered);
    let mut world = world([Fallback::miss("*")], &[]);
    assert_eq!(world.run_now::<Vec<i64>>(&Request::new(sorts[0])), [0; 0]);
}

#[test]
fn what_is_sorted_by_keys_that_wait_waits() {
    let mut world = world([Fallback::memory("ids", Policy::Discard)], &[]);
    let ticket = world.run(&Request::new("SORT ids BY wallet:*"));
    assert!(world.engine.take(ticket).is_none(), "a wallet may not degrade");
}

#[test]
fn what_is_sorted_while_others_are_paid_waits_for_all_of_them() {
    let mut world = world(memory(Policy::ReplayLastWins), &[]);
    world.run_now::<()>(&Request::new("SET weight:1 7"));
    world.dial();
    let mut peer = Peer::new("one").saying("SET weight:1", "");
    while peer.heard.is_empty() {
        world.wait(Duration::from_millis(10));
        peer.serve(&mut world);
    }
    let ticket = world.run(&Request::new("SORT ids BY weight:*"));
    assert_eq!(world.write(), "", "the server has not taken the weight yet");
    world.say("+OK\r\n");
    assert!(world.write().contains("SORT"));
    world.say("*0\r\n");
    assert_eq!(world.value::<Vec<i64>>(ticket), [0; 0]);
}

#[test]
fn a_miss_drops_every_write_and_the_key_is_deleted() {
    let mut world = world([Fallback::miss("*")], &["SET a 1"]);
    for (write, answer) in [
        ("EXPIRE a 100", 0),
        ("PERSIST b", 0),
        ("LPUSHX c 1", 0),
        ("COPY d e", 0),
        ("EXPIREAT f 1 GT", 0),
    ] {
        assert_eq!(world.done(write), answer, "{write}");
    }
    assert_eq!(world.run_now::<Option<String>>(&Request::new("SET g 1 XX")), None);
    // To what is not there a server does nothing and says so; nothing was dropped.
    for write in ["RENAME x y", "LSET x 0 1"] {
        let ticket = world.run(&Request::new(write));
        let failure = world.engine.take(ticket).expect("at once").expect_err(write);
        assert!(failure.to_string().contains("no such key"), "{failure}");
    }
    let mut peer = Peer::new("one");
    world.return_to(&mut peer);
    assert_eq!(peer.heard, ["DEL a", "DEL b", "DEL c", "DEL e", "DEL f", "DEL g"]);
}

#[test]
fn a_value_that_the_server_says_is_another_is_forgotten() {
    let mut world = World::live(World::plain().fallback(Fallback::stale_reads("*", STALE)));
    for key in ["a", "b"] {
        let set = world.run(&Request::new("SET").arg(key).arg("1"));
        world.write();
        world.say("+OK\r\n");
        world.value::<()>(set);
    }
    let get = world.run(&Request::new("GET a"));
    world.write();
    world.say("-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
    let failure = world.engine.take(get).expect("answered").expect_err("a list by now");
    assert_eq!(failure.executed(), Executed::Yes);
    // Of this the server says nothing.
    let get = world.run(&Request::new("GET b"));
    world.write();
    world.say("-NOPERM no\r\n");
    assert!(world.engine.take(get).expect("answered").is_err());
    world.fall();
    assert_eq!(world.refused("GET a"), MemoryRefusal::NotRemembered);
    assert_eq!(world.read("GET b"), (Some("1".into()), Source::Shadow));
}

#[test]
fn a_server_that_does_not_know_what_it_did_is_not_asked_again_at_once() {
    let mut world = world(memory(Policy::Invalidate), &[]);
    world.run_now::<()>(&Request::new("SET a 1"));
    world.dial();
    let mut peer = Peer::new("one");
    for _ in 0..200 {
        peer.says = vec![("DEL a", "-IOERR lost in between\r\n")];
        world.wait(Duration::from_millis(10));
        peer.serve(&mut world);
    }
    assert!((1..=4).contains(&peer.heard.len()), "{:?} in two seconds", peer.heard);
    peer.says.clear();
    peer.recover(&mut world);
    assert_eq!(world.engine.health(), Health::Live);
    assert_eq!(world.engine.status().journal_entries, 0);
}

#[test]
fn the_longest_life_is_one_that_a_server_takes() {
    let mut world =
        world_with(World::plain().fallback(Fallback::memory("*", Policy::ReplayLastWins)), &[]);
    let longest = format!("SET a 1 PXAT {}", i64::MAX);
    world.run_now::<()>(&Request::new(&longest));
    let mut peer = Peer::new("one");
    world.return_to(&mut peer);
    let left = peer.heard[0].strip_prefix("SET a 1 PX ").expect("with what is left");
    let left: i64 = left.parse().expect("milliseconds");
    let server_says = world.now.unix_millis() + 60_000;
    assert!(left.checked_add_unsigned(server_says).is_some(), "its clock may be ahead");
}

#[test]
fn what_goes_to_another_database_is_the_servers() {
    let mut world = world(memory(Policy::Invalidate), &["SET a 1"]);
    for index in ["0", "1"] {
        assert_eq!(world.refused(&format!("COPY a b DB {index}")), MemoryRefusal::Unsupported);
    }
    assert_eq!(world.read("GET b").0, None);
}

#[test]
fn when_a_field_expires_is_known_only_of_what_was_written_whole() {
    let mut world =
        World::live(memory(Policy::Discard).into_iter().fold(World::plain(), Config::fallback));
    for (command, answer) in
        [("HGETALL h", "%1\r\n$1\r\nf\r\n$1\r\n1\r\n"), ("EXPIRE h 1000", ":1\r\n")]
    {
        let ticket = world.run(&Request::new(command));
        world.write();
        world.say(answer);
        assert!(world.engine.take(ticket).expect("answered").is_ok());
    }
    world.fall();
    assert!(world.done("TTL h") > 900, "EXPIRE has told it");
    for of_fields in ["HTTL h FIELDS 1 f", "HPERSIST h FIELDS 1 f", "HEXPIRE h 9 NX FIELDS 1 f"] {
        assert_eq!(world.refused(of_fields), MemoryRefusal::Unseen, "{of_fields}");
    }
    assert_eq!(world.done("HSET h g 2"), 1);
    assert_eq!(world.refused("HTTL h FIELDS 1 f"), MemoryRefusal::Unseen, "f is the server's");
    world.run_now::<()>(&Request::new("RENAME h moved"));
    assert_eq!(world.refused("HTTL moved FIELDS 1 f"), MemoryRefusal::Unseen);
    assert_eq!(world.done("DEL moved"), 1);
    for hash in ["moved", "new"] {
        assert_eq!(world.done(&format!("HSET {hash} f 1")), 1);
        let ttl: Vec<i64> = world.run_now(&Request::new(&format!("HTTL {hash} FIELDS 1 f")));
        assert_eq!(ttl, [-1], "{hash}");
    }
}

#[test]
fn what_was_refused_goes_to_memory_before_what_was_sent_after_it() {
    let config = World::plain().fallback(Fallback::memory("*", Policy::Invalidate));
    let mut world = World::live(config);
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    let mut batch = Batch::new();
    for value in ["1", "2", "3"] {
        batch.push(&Request::new("SET a").arg(value));
    }
    assert!(world.engine.submit_batch(&batch, None, world.now).is_ok());
    world.write();
    world.say("-BUSY a script runs\r\n-BUSY a script runs\r\n");
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    assert_eq!(world.engine.health(), Health::Degraded);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.read("GET a"), (Some("3".into()), Source::Overlay));
}

#[test]
fn what_goes_again_with_another_connection_does_not_overtake_what_was_refused_before_it() {
    let mut world = World::live(World::plain());
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    let mut batch = Batch::new();
    for value in ["1", "2", "3"] {
        batch.push(&Request::new("SET a").arg(value));
    }
    assert!(world.engine.submit_batch(&batch, None, world.now).is_ok());
    world.write();
    world.say("-BUSY a script runs\r\n-BUSY a script runs\r\n");
    world.lose(Cause::Reset);
    let mut peer = Peer::new("one");
    world.return_to(&mut peer);
    assert_eq!(peer.heard, ["SET a 1", "SET a 2", "SET a 3"]);
}

#[test]
fn a_merge_that_is_lost_with_an_older_connection_does_not_keep_recovery_from_its_end() {
    let mut world = world([Fallback::memory("n:*", Policy::MergeDelta)], &[]);
    assert_eq!(world.done("INCR n:a"), 1);
    world.dial();
    let mut peer = Peer::new("one").saying("GET wallet", "").saying("INCRBY n:a", "");
    while world.engine.health() != Health::Recovering {
        world.wait(Duration::from_millis(10));
        peer.serve(&mut world);
    }
    world.run(&Request::new("GET wallet"));
    while peer.heard.len() < 2 {
        world.wait(Duration::from_millis(10));
        peer.serve(&mut world);
    }
    let mut opened = world.conn;
    world.say("-NOAUTH Authentication required.\r\n");
    assert_eq!(world.engine.health(), Health::Degraded);
    while world.engine.health() != Health::Recovering || peer.heard.len() < 3 {
        if world.meets_anybody(&mut opened) {
            peer.serve(&mut world);
        }
    }
    // The older connection is silent, and is given up while the newer one is recovered on.
    for _ in 0..80 {
        world.meets_anybody(&mut opened);
        peer.serve(&mut world);
    }
    assert_eq!(world.told("may have been added"), 1, "{:?}", world.events);
    let status = world.engine.status();
    assert_eq!((status.health, status.overlay_entries), (Health::Live, 0), "{status}");
    let get = world.run(&Request::new("GET n:a"));
    assert!(world.engine.take(get).is_none(), "the server is asked");
}

#[test]
fn what_memory_held_of_a_merge_that_may_have_been_done_is_dropped_with_it() {
    let mut world = world(memory(Policy::MergeDelta), &[]);
    assert_eq!(world.done("INCR a"), 1);
    let mut peer = Peer::new("one").saying("INCRBY a", "-IOERR lost in between\r\n");
    world.return_to(&mut peer);
    assert_eq!(world.told("may have been added"), 1, "{:?}", world.events);
    assert_eq!(world.engine.health(), Health::Live);
    world.fall();
    assert_eq!(world.read("GET a"), (None, Source::Unknown));
}

/// What nobody in his right mind answers to what a client asks on its own, and what some do.
const NONSENSE: &[&str] = &[
    "+OK\r\n",
    "+QUEUED\r\n",
    ":0\r\n",
    ":-2\r\n",
    ":9223372036854775807\r\n",
    "_\r\n",
    "*0\r\n",
    "*-1\r\n",
    "*2\r\n-ERR in EXEC\r\n-WRONGTYPE in EXEC\r\n",
    "*1\r\n+slave\r\n",
    "%1\r\n+role\r\n*1\r\n_\r\n",
    "$0\r\n\r\n",
    "$13\r\nrun_id:other\n\r\r\n",
    "=15\r\ntxt:run_id:two\r\n\r\n",
    "-LOADING soon\r\n",
    "-READONLY no\r\n",
    "-NOPERM no\r\n",
    "-NOAUTH no\r\n",
    "-OOM no\r\n",
    "-IOERR perhaps\r\n",
    "-EXECABORT because of: OOM no\r\n",
    "-MOVED 1 127.0.0.1:1\r\n",
    "-\r\n",
    ">2\r\n+invalidate\r\n_\r\n+OK\r\n",
    "?\r\n",
];

#[test]
fn whatever_a_server_answers_to_what_it_is_owed_a_sound_one_is_paid_the_rest() {
    let mut choice = 7_u64;
    let mut next = |below: usize| {
        // Knuth's MMIX generator; its upper bits will do.
        choice =
            choice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (choice >> 33) as usize % below
    };
    let mut payments = 0;
    for round in 0..300 {
        let config = [
            Fallback::memory("replay:*", Policy::ReplayLastWins),
            Fallback::memory("merge:*", Policy::MergeDelta),
            Fallback::memory("*", Policy::Invalidate),
        ];
        let mut world = world(config, &["SET replay:seen 1", "SET merge:seen 5"]);
        for write in [
            "INCR replay:seen",
            "INCR merge:seen",
            "EXPIRE merge:seen 100",
            "SADD merge:set a",
            "SET cache 1",
            "HSET merge:hash f 1",
            "DEL replay:gone",
        ] {
            world.done_or_ok(write);
        }
        let mut opened = None;
        for _ in 0..60 {
            if !world.meets_anybody(&mut opened) {
                continue;
            }
            for command in commands(&world.write()) {
                // Few probes would pass if all answers were wrong.
                let probes = ["HELLO", "INFO", "PING", "ROLE", "DEL unfazed:probe:absent"];
                let is_probe = probes.iter().any(|probe| command.starts_with(probe));
                payments += usize::from(!is_probe);
                let sound = next(20) > if is_probe { 0 } else { 15 };
                let answer = if command.starts_with("HELLO") { "%0\r\n" } else { ":1\r\n" };
                world.say(if sound { answer } else { NONSENSE[next(NONSENSE.len())] });
            }
            let status = world.engine.status();
            assert!(status.journal_entries <= 7 && status.connections <= 2, "{status}");
        }
        let mut peer = Peer::new("one");
        for _ in 0..4_000 {
            if world.meets_anybody(&mut opened) {
                peer.serve(&mut world);
            }
            if world.engine.health() == Health::Live {
                break;
            }
        }
        let status = world.engine.status();
        assert_eq!((status.health, status.journal_entries), (Health::Live, 0), "{round}: {status}");
        assert_eq!((status.overlay_entries, status.queued_requests), (0, 0), "{round}: {status}");
    }
    assert!(payments > 300, "only {payments} got so far");
}

impl World {
    /// Lets a moment pass, and whoever is dialled accept. Gives whether anybody was.
    fn meets_anybody(&mut self, opened: &mut Option<ConnId>) -> bool {
        self.wait(Duration::from_millis(50));
        if self.conn.is_some() && self.conn != *opened {
            self.open();
            *opened = self.conn;
        }
        self.conn.is_some()
    }

    fn done_or_ok(&mut self, command: &str) {
        let ticket = self.run(&Request::new(command));
        assert!(self.engine.take(ticket).expect("at once").is_ok(), "{command}");
    }
}

/// A client that remembers what it reads, with a connection of its own beside the one that is shared: that one
/// is the world's again.
pub(super) fn world_with_a_lease(change: impl FnOnce(&mut Config)) -> (World, ConnId, Lease) {
    let mut config = World::plain().fallback(Fallback::stale_reads("*", STALE));
    change(&mut config);
    let mut world = World::live(config);
    let shared = world.conn;
    let lease = world.engine.lease(world.now).expect("room");
    let (ticket, _) = world
        .engine
        .submit_on(lease, &Request::new("PING"), None, world.now)
        .expect("it is accepted");
    world.open();
    let own = world.conn.expect("a connection of its own");
    world.write();
    world.say("%1\r\n+server\r\n+redis\r\n");
    world.write();
    world.say("+PONG\r\n");
    assert!(world.engine.take(ticket).expect("answered").is_ok());
    world.conn = shared;
    (world, own, lease)
}

impl World {
    /// Runs a command on a connection of its own, with this answer.
    pub(super) fn run_on(&mut self, lease: Lease, own: ConnId, command: &str, answer: &str) {
        let request = Request::new(command);
        let (ticket, _) =
            self.engine.submit_on(lease, &request, None, self.now).expect("it is accepted");
        let shared = self.conn.replace(own);
        self.drain();
        self.write();
        self.say(answer);
        assert!(self.engine.take(ticket).expect("answered").is_ok(), "{command}");
        self.conn = shared;
    }
}

#[test]
fn what_is_heard_after_a_newer_write_on_another_connection_is_not_remembered() {
    let (mut world, own, lease) = world_with_a_lease(|_| {});
    let get = world.run(&Request::new("GET a"));
    world.write();
    // The server has answered GET before it came to SET, and its answer takes longer.
    world.run_on(lease, own, "SET a new", "+OK\r\n");
    world.say("$3\r\nold\r\n");
    assert_eq!(world.value::<String>(get), "old");
    world.fall();
    assert_eq!(world.refused("GET a"), MemoryRefusal::NotRemembered);
}

#[test]
fn what_a_transaction_by_hand_has_written_is_not_remembered_as_it_was_before() {
    let (mut world, own, lease) = world_with_a_lease(|_| {});
    world.run_on(lease, own, "MULTI", "+OK\r\n");
    world.run_on(lease, own, "SET a new", "+QUEUED\r\n");
    let get = world.run(&Request::new("GET a"));
    world.write();
    world.say("$3\r\nold\r\n");
    assert_eq!(world.value::<String>(get), "old");
    world.run_on(lease, own, "EXEC", "*1\r\n+OK\r\n");
    world.fall();
    assert_eq!(world.refused("GET a"), MemoryRefusal::NotRemembered);
}
