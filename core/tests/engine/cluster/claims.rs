//! Who is believed about a slot, whoever is asked.

use super::*;

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
