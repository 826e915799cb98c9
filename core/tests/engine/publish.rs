//! Messages while the server is down.

use std::time::Duration;

use unfazed_core::{
    Cause, Config, Executed, FailureKind, Request,
    config::{Forced, Publish},
    engine::{Batch, Health},
    fallback::{Fallback, Policy},
    reply::Source,
};

use super::{World, recover};

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

/// Down for the second time within a minute and connected again: the next probe is seconds away.
fn recovering(config: Config) -> World {
    let mut world = down(config);
    world.wait(Duration::from_millis(200));
    world.open();
    recover(&mut world, 40);
    assert_eq!(world.engine.health(), Health::Live);
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    world.wait(Duration::from_millis(200));
    world.open();
    world.write();
    world.say("%0\r\n");
    world.answer_lineage("x");
    assert_eq!(world.engine.health(), Health::Degraded);
    assert_eq!(world.write(), "", "no probe yet");
    world
}

#[test]
fn a_message_goes_to_the_server_as_soon_as_there_is_a_connection() {
    for choice in [Publish::Fail, Publish::Wait, Publish::Local] {
        let mut world = recovering(cached().publish_while_down(choice));
        for message in messages() {
            let ticket = world.run(&message);
            assert!(world.write().contains("PUBLISH"), "{choice:?}: it is sent at once");
            world.say(":3\r\n");
            let reply = world.engine.take(ticket).expect("ended").expect("no failure");
            assert_eq!(reply.view().integer(), Some(3));
            assert_eq!(reply.source(), Source::Server);
        }
        assert_eq!(world.engine.health(), Health::Degraded, "nothing else has changed");
        recover(&mut world, 80);
        assert_eq!(world.engine.health(), Health::Live);
    }
}

#[test]
fn a_message_that_a_recovering_server_refuses_for_now_goes_the_way_of_one_without_a_server() {
    for choice in [Publish::Fail, Publish::Local] {
        let mut world = recovering(cached().publish_while_down(choice));
        for refusal in ["LOADING Redis is loading the dataset", "BUSY Redis is busy"] {
            let ticket = world.run(&messages()[1]);
            assert!(world.write().contains("SPUBLISH"));
            world.say(&format!("-{refusal}\r\n"));
            world.wait(Duration::ZERO);
            let outcome = world.engine.take(ticket).expect("it waits for no retry");
            if choice == Publish::Local {
                let reply = outcome.expect("no failure");
                assert_eq!(reply.source(), Source::Overlay, "{refusal}");
                continue;
            }
            let failure = outcome.expect_err("nobody got it");
            let said = failure.to_string();
            assert!(said.contains("server down: not ready") && said.contains(refusal), "{said}");
            assert_eq!(failure.executed(), Executed::No);
            assert!(failure.is_unavailable());
        }
    }
}

#[test]
fn a_message_to_a_recovering_server_is_delivered_once_or_not_at_all() {
    for (written, choice) in
        [(true, Publish::Fail), (true, Publish::Local), (false, Publish::Local)]
    {
        let mut world = recovering(cached().publish_while_down(choice));
        let ticket = world.run(&messages()[0]);
        if written {
            world.write();
        }
        world.lose(Cause::Reset);
        let outcome = world.engine.take(ticket).expect("ended");
        match outcome {
            // The server can't have it, so it is delivered here.
            Ok(reply) => assert!(!written && reply.source() == Source::Overlay),
            Err(failure) => {
                assert!(written, "{failure}");
                assert_eq!(failure.executed(), Executed::Maybe);
            }
        }
        // And those that come now, without a connection, say why there is none.
        if choice == Publish::Fail {
            let ticket = world.run(&messages()[0]);
            let failure = world.engine.take(ticket).expect("at once").expect_err("nobody is there");
            assert_eq!(failure.cause(), Some(&Cause::Reset), "{failure}");
        }
    }
}

#[test]
fn a_transaction_with_a_message_waits_for_recovery_only_for_the_sake_of_its_keys() {
    let config = || cached().fallback(Fallback::fail("strict:*"));
    for (key, goes) in [("wallet:n", true), ("cache:n", false), ("strict:n", false)] {
        let mut world = recovering(config());
        let mut batch = Batch::new();
        batch.push(&Request::new("INCR").key(key));
        batch.push(&messages()[0]);
        let (ticket, _) =
            world.engine.submit_batch(&batch.into_transaction(), None, world.now).expect("room");
        world.drain();
        assert_eq!(world.write().contains("MULTI"), goes, "{key}");
        if goes {
            world.say("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:0\r\n");
        }
        let outcome = world.engine.take_batch(ticket).expect("ended").spread();
        match outcome {
            Ok(_) => assert!(goes),
            Err(failure) => assert_eq!(failure.cause(), Some(&Cause::Recovering), "{failure}"),
        }
    }
}

#[test]
fn what_fails_while_the_server_recovers_says_that_it_does() {
    let mut world = recovering(cached().fallback(Fallback::fail("strict:*")));
    assert_eq!(world.engine.status().cause, Some(Cause::Recovering));
    let ticket = world.run(&Request::new("GET").key("strict:a"));
    let failure = world.engine.take(ticket).expect("at once").expect_err("not trusted yet");
    assert!(matches!(failure.kind(), FailureKind::Down(Cause::Recovering)), "{failure}");
    assert!(failure.to_string().contains("recovering"), "{failure}");
}

#[test]
fn a_message_stays_away_from_a_server_that_an_operator_keeps_it_from() {
    for (choice, forces_first) in
        [(Publish::Fail, false), (Publish::Fail, true), (Publish::Local, false)]
    {
        let config = cached().publish_while_down(choice);
        let mut world = if forces_first { World::live(config) } else { recovering(config) };
        world.engine.force(Some(Forced::Memory), world.now);
        world.drain();
        let ticket = world.run(&messages()[0]);
        assert!(!world.write().contains("PUBLISH"));
        match world.engine.take(ticket).expect("at once") {
            Ok(reply) => assert!(choice == Publish::Local && reply.source() == Source::Overlay),
            Err(failure) => {
                assert_eq!(failure.cause(), Some(&Cause::Forced(Forced::Memory)), "{failure}");
            }
        }
    }
}
