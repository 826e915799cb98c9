//! Messages while the server is down.

use std::time::Duration;

use unfazed_core::{
    Cause, Config, Executed, FailureKind, Request,
    config::{Forced, Publish},
    engine::Health,
    fallback::{Fallback, Policy},
    reply::Source,
};

use super::World;

fn down(config: Config) -> World {
    let mut world = World::live(config);
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    assert_eq!(world.engine.health(), Health::Degraded);
    world
}

fn cached() -> Config {
    World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate))
}

fn messages() -> [Request<'static>; 2] {
    [
        Request::new("PUBLISH").arg("channel").arg("message"),
        // The rule of keys that are called like the channel says nothing of messages.
        Request::new("SPUBLISH").arg("cache:channel").arg("message"),
    ]
}

#[test]
fn a_message_fails_at_once_while_the_server_is_down() {
    let mut world = down(cached());
    for message in messages() {
        let ticket = world.run(&message);
        let failure = world.engine.take(ticket).expect("at once").expect_err("nobody gets it");
        assert!(matches!(failure.kind(), FailureKind::Down(_)), "{failure}");
        assert_eq!(failure.executed(), Executed::No);
    }
}

#[test]
fn a_message_waits_where_it_is_to_or_where_nothing_degrades() {
    for config in [cached().publish_while_down(Publish::Wait), World::plain()] {
        let mut world = down(config);
        for message in messages() {
            let ticket = world.run(&message);
            assert!(world.engine.is_pending(ticket));
        }
        assert_eq!(world.engine.status().queued_requests, 2);
    }
}

#[test]
fn a_message_that_stays_local_says_that_it_did() {
    // No key pattern is needed for it.
    for config in [cached(), World::plain()] {
        let mut world = down(config.publish_while_down(Publish::Local));
        for message in messages() {
            let ticket = world.run(&message);
            let reply = world.engine.take(ticket).expect("at once").expect("no failure");
            assert_eq!(reply.view().integer(), Some(0), "nobody has subscribed");
            assert_eq!(reply.source(), Source::Overlay);
        }
        let ticket = world.run(&Request::new("PUBLISH").arg("channel"));
        let failure = world.engine.take(ticket).expect("at once").expect_err("no message");
        assert!(failure.to_string().contains("wrong number of arguments"), "{failure}");
    }
}

#[test]
fn a_message_that_may_have_been_published_is_not_published_again() {
    for choice in [Publish::Fail, Publish::Wait, Publish::Local] {
        let mut world = World::live(cached().publish_while_down(choice));
        let ticket = world.run(&messages()[0]);
        world.write();
        world.lose(Cause::Reset);
        let failure = world.engine.take(ticket).expect("ended").expect_err("no answer");
        assert_eq!(failure.executed(), Executed::Maybe, "{choice:?}: {failure}");
    }
}

#[test]
fn a_message_is_the_servers_wherever_there_is_one() {
    let mut world = World::live(cached().publish_while_down(Publish::Local));
    let ticket = world.run(&messages()[0]);
    world.write();
    world.say(":3\r\n");
    assert_eq!(world.value::<i64>(ticket), 3);
    world.engine.force(Some(Forced::Isolated), world.now);
    world.drain();
    assert_eq!(world.run_now::<i64>(&messages()[0]), 0);
}
