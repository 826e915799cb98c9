//! Who is believed about a slot, whoever is asked; and what recovery does where a slot is on its way.

use std::time::Duration;

use unfazed_core::{
    Cause, Config, FailureKind,
    config::Endpoint,
    engine::{ConnId, Health},
    fallback::{Fallback, Policy},
};

use super::nodes::{A, B, C, World, ask, moved, shards, take_command};

const D: u16 = 7004;

const WHOLE: [(u16, u16, u16); 3] = [(A, 0, 5460), (B, 5461, 10_922), (C, 10_923, 16_383)];

/// Longer than a map is believed without asking.
const UNTIL_ASKED: Duration = Duration::from_secs(80);

#[test]
fn a_node_that_claims_its_slots_counts_more_than_others_that_leave_them_out() {
    let mut world = World::live(World::plain());
    world.map_all(&shards(&WHOLE[..2]));
    world.peer(C).map = shards(&WHOLE);
    world.wait(UNTIL_ASKED);
    let get = world.run("GET foo");
    assert_eq!(world.asked(C), ["GET foo"], "{:?}", world.events);
    world.say(C, "$1\r\nx");
    assert_eq!(world.value::<String>(get), "x");
    assert_eq!(world.engine.health(), Health::Live);
    // A slot of which its own node says nothing any more is nobody's.
    world.map_all(&shards(&WHOLE[..2]));
    world.wait(UNTIL_ASKED);
    let get = world.run("GET foo");
    world.wait(Duration::from_secs(1));
    let failure = world.failure(get);
    assert!(matches!(failure.kind(), FailureKind::Uncovered(12_182)), "{failure}");
}

#[test]
fn slots_that_others_leave_out_stay_with_their_node_until_that_was_asked() {
    let all = [(A, 0, 5460), (B, 5461, 8191), (C, 8192, 10_922), (D, 10_923, 16_383)];
    let mut world = World::new(World::plain());
    world.map_all(&shards(&all));
    world.engine.connect(None, world.now);
    world.drain();
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    world.map_all(&shards(&all[..3]));
    world.peer(D).map = shards(&all);
    // Three of the four are asked each time, so that it is D's turn to be left out before long.
    for _ in 0..20 {
        world.wait(UNTIL_ASKED);
        let get = world.run("GET foo");
        assert_eq!(world.asked(D), ["GET foo"], "{:?}", world.events);
        world.say(D, "_");
        assert_eq!(world.value::<Option<String>>(get), None);
    }
}

#[test]
fn a_node_that_is_busy_does_not_keep_the_map_from_coming() {
    let seeds = [A, B].map(|port| Endpoint::tcp("127.0.0.1", port));
    let mut world = World::new(Config::cluster(seeds).client_info(false));
    // It is connected first, so that it alone is asked, and never answers.
    world.peer(A).map = String::new();
    let ticket = world.engine.connect(None, world.now);
    world.drain();
    let get = world.run("GET foo");
    assert!(world.asked(C).is_empty());
    world.wait(Duration::from_millis(250));
    assert_eq!(world.asked(C), ["GET foo"], "{:?}", world.events);
    assert!(world.engine.take_wait(ticket).expect("connected").is_ok());
    world.say(C, "_");
    assert_eq!(world.value::<Option<String>>(get), None);
}

/// A world in which C was down, and `commands` were carried out in memory meanwhile.
fn in_debt(policy: Policy, commands: &[&str]) -> World {
    let mut world = World::live(World::plain().fallback(Fallback::memory("*", policy)));
    world.wait(Duration::from_secs(1));
    world.peer(C).refuses = true;
    world.lose(C, Cause::Reset);
    for command in commands {
        let ticket = world.run(command);
        world.engine.take(ticket).expect("at once").expect("in memory");
    }
    world.peer(C).refuses = false;
    world
}

impl World {
    #[track_caller]
    fn wait_until(&mut self, what: &str, done: impl Fn(&mut World) -> bool) {
        for _ in 0..500 {
            if done(self) {
                return;
            }
            self.wait(Duration::from_millis(10));
        }
        panic!("{what}: {:?}", self.events);
    }

    /// What a node is sent because of something, all of it, which it does not answer.
    fn sent_to(&mut self, port: u16, then: impl FnOnce(&mut World)) -> String {
        let link = self.unplug(port);
        then(self);
        let mut sent = Vec::new();
        while let Some(chunk) = self.engine.take_output(link.conn) {
            sent.extend_from_slice(chunk.unwritten());
            let count = chunk.unwritten().len();
            self.engine.written(link.conn, chunk, count, self.now);
        }
        self.plug(link);
        let commands = std::iter::from_fn(|| take_command(&mut sent));
        commands.map(|words| words.join(" ")).collect::<Vec<_>>().join(", ")
    }

    fn answer(&mut self, port: u16, bytes: &str) {
        let conn = self.links(port)[0].conn;
        self.receive(conn, bytes);
        self.drain();
    }

    fn is_well(&mut self) -> bool {
        self.engine.health() == Health::Live && self.engine.status().journal_entries == 0
    }
}

#[test]
fn what_a_key_is_owed_follows_it_to_the_node_that_it_goes_to() {
    let mut world = in_debt(Policy::Invalidate, &["SET foo 1"]);
    world.wait_until("it is paid", |world| world.asked(C) == ["DEL foo"]);
    let sent = world.sent_to(B, |world| world.say(C, &ask("foo", B)));
    assert_eq!(sent, "ASKING, DEL foo", "in one piece");
    // Memory answers for it until then.
    let get = world.run("GET foo");
    assert_eq!(world.value::<String>(get), "1");
    world.answer(B, "+OK\r\n:1\r\n");
    let get = world.run("GET foo");
    assert_eq!(world.asked(C), ["GET foo"], "the slot is C's still");
    world.say(C, "_");
    assert_eq!(world.value::<Option<String>>(get), None);
    world.wait_until("it is well again", World::is_well);
}

#[test]
fn a_debt_of_several_commands_is_asked_for_once() {
    let mut world = in_debt(Policy::ReplayLastWins, &["DEL foo", "RPUSH foo 1 2"]);
    const ALL: [&str; 4] = ["MULTI", "DEL foo", "RPUSH foo 1 2", "EXEC"];
    world.wait_until("it is paid", |world| world.asked(C) == ALL);
    world.say(C, "+OK");
    world.say(C, &ask("foo", B));
    world.say(C, &ask("foo", B));
    let sent = world.sent_to(B, |world| world.say(C, "-EXECABORT discarded"));
    assert_eq!(sent, format!("ASKING, {}", ALL.join(", ")));
    // Some of what it needs is on its way still: later, and from the beginning.
    world.answer(B, "+OK\r\n+OK\r\n-TRYAGAIN not all\r\n-TRYAGAIN\r\n-EXECABORT discarded\r\n");
    world.wait_until("it is paid after all", |world| world.asked(C) == ALL);
    for answer in ["+OK", "+QUEUED", "+QUEUED", "*2\r\n:0\r\n:2"] {
        world.say(C, answer);
    }
    world.wait_until("it is well again", World::is_well);
}

#[test]
fn what_is_owed_is_not_lost_with_the_node_that_was_asked() {
    let mut world = in_debt(Policy::Invalidate, &["SET foo 1"]);
    world.wait_until("it is paid", |world| world.asked(C) == ["DEL foo"]);
    world.say(C, &ask("foo", B));
    assert_eq!(world.asked(B), ["DEL foo"]);
    world.lose(B, Cause::Reset);
    world.wait_until("it is paid after all", |world| world.asked(C) == ["DEL foo"]);
    world.say(C, ":1");
    world.wait_until("it is well again", World::is_well);
}

impl World {
    /// All that C had goes to another node, which can't be reached, and C is not needed any more. Gives the
    /// connection to it.
    fn give_all_of_c_away(&mut self) -> ConnId {
        let former = self.links(C)[0].conn;
        self.peer(7004).refuses = true;
        self.map_all(&shards(&[(A, 0, 5460), (B, 5461, 10_922), (7004, 10_923, 16_383)]));
        self.run("GET hello");
        self.say(A, "-CLUSTERDOWN The cluster is down");
        self.wait_until("the new map", |world| world.is_told("7003 is not needed"));
        former
    }

    fn is_told(&self, what: &str) -> bool {
        self.events.iter().any(|event| event.contains(what))
    }
}

#[test]
fn a_merge_that_is_lost_with_a_former_owner_is_told_at_once() {
    let mut world = in_debt(Policy::MergeDelta, &["INCRBY foo 5"]);
    world.wait_until("it is paid", |world| world.asked(C) == ["INCRBY foo 5"]);
    let former = world.give_all_of_c_away();
    assert!(!world.is_told("may have been added"), "C may answer yet");
    world.close(former, Cause::Reset);
    assert_eq!(world.engine.status().journal_entries, 0, "it is not sent twice");
    // Whoever has the slot by now may never be back, and may go as C did.
    assert!(world.is_told("may have been added"), "{:?}", world.events);
}

#[test]
fn what_a_node_was_owed_in_vain_is_told_although_it_leaves_before_all_is_paid() {
    let mut world = in_debt(Policy::MergeDelta, &["INCRBY foo 5", "INCRBY {foo}2 5"]);
    world.wait_until("they are paid", |world| world.asked(C).len() == 2);
    world.say(C, "-WRONGTYPE no number");
    assert_eq!(world.engine.status().journal_entries, 1);
    world.give_all_of_c_away();
    assert!(world.is_told("WRONGTYPE"), "{:?}", world.events);
}

#[test]
fn a_debt_that_is_sent_to_and_fro_holds_up_nobody_and_is_not_hurried() {
    let mut world = in_debt(Policy::Invalidate, &["SET foo 1", "SET {foo}2 1"]);
    let moved_on = |world: &mut World| {
        let mut times = 0;
        while let Some(command) = world.asked(C).first().cloned() {
            times += usize::from(command == "DEL foo");
            let answer = if command == "DEL foo" { moved("foo", B) } else { ":1".to_owned() };
            world.say(C, &answer);
        }
        times
    };
    let mut times = 0;
    let begin = world.now.instant;
    while world.now.instant - begin < Duration::from_secs(5) {
        world.wait(Duration::from_millis(10));
        times += moved_on(&mut world);
    }
    assert!((5..40).contains(&times), "{times} times in five seconds");
    assert_eq!(world.engine.health(), Health::Recovering, "{:?}", world.events);
    assert_eq!(world.engine.status().journal_entries, 1, "the other was paid");
    let get = world.run("GET {foo}2");
    assert_eq!(world.asked(C), ["GET {foo}2"], "C answers for it");
    world.say(C, "_");
    assert_eq!(world.value::<Option<String>>(get), None);
    // The map tells who has it.
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 12_182), (C, 12_183, 16_383)]));
    world.wait_until("B is paid", |world| {
        moved_on(world);
        world.asked(B) == ["DEL foo"]
    });
    world.say(B, ":1");
    world.wait_until("it is well again", World::is_well);
}

#[test]
fn a_slot_that_is_open_for_a_move_does_not_keep_its_node_down() {
    let mut world = in_debt(Policy::Invalidate, &["SET foo 1"]);
    world.peer(C).gives_away = true;
    world.wait_until("it is paid", |world| world.asked(C) == ["DEL foo"]);
    world.say(C, ":1");
    world.wait_until("it is well again", World::is_well);
}
