//! What operators are told, and how often.

use std::{collections::BTreeSet, time::Duration};

use unfazed_core::{
    Cause, Config, Request,
    config::Forced,
    engine::{Event, Health},
    failure::Bound,
    fallback::{Fallback, Policy},
};

use super::World;

fn cached() -> Config {
    World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate))
}

fn down(config: Config) -> World {
    let mut world = World::live(config);
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    assert_eq!(world.engine.health(), Health::Degraded);
    world
}

impl World {
    fn ran(&mut self, command: &str) -> bool {
        let ticket = self.run(&Request::new(command));
        self.engine.take(ticket).expect("ended").is_ok()
    }

    fn counts(&self, text: &str) -> usize {
        self.events.iter().filter(|event| event.contains(text)).count()
    }
}

#[test]
fn a_server_that_stays_down_is_told_of_at_each_doubling() {
    let minute = Duration::from_secs(60);
    let mut world = down(cached());
    let mut told = Vec::new();
    for passed in 1..=45 {
        world.wait(minute);
        if world.counts("still down") > told.len() {
            told.push(passed);
        }
    }
    assert_eq!(told, [5, 10, 20, 40], "{:?}", world.events.last());
    assert_eq!(world.counts("still down after 300.0 s"), 1);
    assert_eq!(world.counts("still down after 2400.0 s"), 1);
}

#[test]
fn a_client_that_is_forced_to_degrade_is_told_of_too_and_the_next_outage_counts_anew() {
    let mut world = World::live(cached().down_event_after(Duration::from_secs(3)));
    world.engine.force(Some(Forced::Memory), world.now);
    world.drain();
    for _ in 0..20 {
        world.wait(Duration::from_millis(200));
        world.serve(1);
    }
    assert_eq!(world.counts("still down after 3.0 s"), 1, "{:?}", world.events);
    world.engine.force(None, world.now);
    world.drain();
    world.serve(60);
    assert_eq!(world.engine.health(), Health::Live);
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    world.wait(Duration::from_millis(2_900));
    assert_eq!(world.counts("still down"), 1);
    world.wait(Duration::from_millis(200));
    assert_eq!(world.counts("still down after 3.0 s"), 2);
}

#[test]
fn each_bound_is_told_of_by_the_name_of_its_setting_once_until_there_is_room_again() {
    let long = "x".repeat(400);
    let set = |key: &str| format!("SET cache:{key} {long}");
    let cases = [
        (cached().memory_entries_max(2), Bound::MemoryEntries),
        (cached().memory_bytes_max(1_400), Bound::MemoryBytes),
        (cached().journal_entries_max(2), Bound::JournalEntries),
        (cached().journal_bytes_max(15), Bound::JournalBytes),
    ];
    for (config, bound) in cases {
        let mut world = down(config);
        assert!(world.ran(&set("a")) && world.ran(&set("b")), "{bound}");
        for _ in 0..3 {
            assert!(!world.ran(&set("c")), "{bound}");
        }
        let told = format!("{bound} is reached");
        assert_eq!(world.counts(&told), 1, "{bound}: {:?}", world.events);
        assert_eq!(world.counts("is reached"), 1, "{bound}: {:?}", world.events);
        let journals = matches!(bound, Bound::JournalEntries | Bound::JournalBytes);
        if !journals {
            // A key that was deleted takes up no entry, and less room.
            assert!(world.ran("DEL cache:a") && world.ran(&set("c")));
            assert!(!world.ran(&set("d")) && !world.ran(&set("d")));
            assert_eq!(world.counts(&told), 2, "{bound}: {:?}", world.events);
        }
        world.wait(Duration::from_millis(100));
        world.open();
        world.serve(80);
        assert_eq!(world.engine.health(), Health::Live);
        world.lose(Cause::Reset);
        world.lose(Cause::Refused);
        let before = world.counts(&told);
        assert!(world.ran(&set("a")) && world.ran(&set("b")) && !world.ran(&set("c")));
        assert_eq!(world.counts(&told), before + 1, "{bound}: once an outage");
    }
}

#[test]
fn the_bounds_of_the_queue_are_told_apart() {
    for (config, bound) in [
        (World::plain().queue_requests_max(2), Bound::QueueRequests),
        (World::plain().queue_bytes_max(40), Bound::QueueBytes),
    ] {
        let mut world = World::live(config);
        for _ in 0..4 {
            world.run(&Request::new("GET some-key"));
        }
        assert_eq!(world.counts(&format!("{bound} is reached")), 1, "{:?}", world.events);
    }
}

#[test]
fn the_bounds_of_an_embedded_store_are_told_of() {
    let mut world = World::new(Config::memory().memory_entries_max(1));
    assert!(world.ran("SET a 1"));
    assert!(!world.ran("SET b 1") && !world.ran("SET c 1"));
    assert_eq!(world.counts("memory_entries_max is reached"), 1, "{:?}", world.events);
    assert!(world.ran("DEL a") && world.ran("SET b 1") && !world.ran("SET c 1"));
    assert_eq!(world.counts("memory_entries_max is reached"), 2);
}

#[test]
fn what_is_too_old_to_be_served_is_told_of_once_an_outage() {
    let rule = Fallback::memory("cache:*", Policy::Discard).max_age(Duration::from_secs(10));
    let mut world = World::live(World::plain().fallback(rule));
    let set = world.run(&Request::new("SET cache:a 1"));
    world.write();
    world.say("+OK\r\n");
    world.value::<()>(set);
    world.engine.force(Some(Forced::Memory), world.now);
    world.drain();
    for _ in 0..12 {
        assert_eq!(world.counts("for longer than remembered values"), 0);
        world.serve(20);
    }
    assert!(world.ran("GET cache:a") && world.ran("GET cache:a"));
    assert_eq!(world.counts("for longer than remembered values"), 1, "{:?}", world.events);
}

#[test]
fn every_event_has_a_name_of_its_own() {
    let node: std::sync::Arc<str> = "n".into();
    let events = [
        Event::Connect { node: node.clone() },
        Event::Ready { node: node.clone() },
        Event::Error { node: node.clone(), cause: Cause::Refused },
        Event::Reconnecting { node: node.clone(), delay: Duration::ZERO },
        Event::HealthChanged { from: Health::Live, to: Health::Suspect, cause: None },
        Event::Forced { from: None, to: Some(Forced::Redis) },
        Event::TooOld { node },
        Event::StillDown { span: Duration::ZERO },
        Event::Full { bound: Bound::QueueBytes },
        Event::End,
    ];
    let names: BTreeSet<_> = events.iter().map(Event::name).collect();
    assert_eq!(names.len(), events.len());
    assert_eq!(
        ["connect", "ready", "error", "reconnecting", "end"].map(|name| names.contains(name)),
        [true; 5]
    );
}
