//! Subscriptions with a connection of their own: of RESP2, of shard channels, and of streams that stop reading.

use super::*;

#[test]
fn in_resp2_subscriptions_have_a_connection_of_their_own_for_as_long_as_there_are_any() {
    let (mut world, main) = World::live(World::resp2());
    let stream = world.stream();
    let ticket = world.subscribe(stream, TopicKind::Channel, &["a"]);
    let patterns = world.subscribe(stream, TopicKind::Pattern, &["*"]);
    assert_eq!(world.write(main), "");
    let side = world.open_side("+PONG\r\n");
    assert_eq!(world.write(side), "SUBSCRIBE a PSUBSCRIBE *");
    world.say(side, &array(&(confirm("subscribe", "a") + &confirm("psubscribe", "*"))));
    assert!(world.has_ended_well(ticket) && world.has_ended_well(patterns));
    world.say(side, &array(&message("a", "1")));
    let by_pattern = [bulk("pmessage"), bulk("*"), bulk("a"), bulk("1")].concat();
    world.say(side, &format!("*4\r\n{by_pattern}"));
    assert_eq!(world.read(stream), ["a: 1", "a by *: 1"]);
    let gone = world.unsubscribe(stream, TopicKind::Channel, &["a"]);
    world.engine.close_stream(stream, world.now);
    assert_eq!(world.write(side), "UNSUBSCRIBE a PUNSUBSCRIBE *");
    assert!(world.closed.is_empty());
    world.say(side, &array(&(confirm("unsubscribe", "a") + &confirm("punsubscribe", "*"))));
    assert!(world.has_ended_well(gone));
    assert_eq!(world.closed, [side]);
    world.lose(side, Cause::Local);
    assert_eq!(world.engine.status().connections, 1);
    world.wait(Duration::from_secs(20));
    assert!(world.opened.is_empty());
}

#[test]
fn in_resp2_a_ping_between_messages_is_answered_by_an_array() {
    let config = World::resp2().ping_interval(Duration::from_secs(1));
    let (mut world, main) = World::live(config);
    let stream = world.stream();
    world.subscribe(stream, TopicKind::Channel, &["a"]);
    let side = world.open_side("+PONG\r\n");
    world.write(side);
    world.say(side, &array(&confirm("subscribe", "a")));
    for _ in 0..3 {
        world.wait(Duration::from_secs(1));
        world.write(main);
        world.say(main, "+PONG\r\n");
        assert_eq!(world.write(side), "PING");
        world.say(side, "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    }
    assert!(world.closed.is_empty() && world.read(stream).is_empty());
    world.wait(Duration::from_secs(1));
    world.write(main);
    world.say(main, "+PONG\r\n");
    world.write(side);
    world.wait(Duration::from_millis(2_100));
    assert!(world.closed.contains(&side), "its silence is noticed");
}

#[test]
fn a_connection_of_its_own_is_made_again_and_says_nothing_of_the_server() {
    let (mut world, main) = World::live(World::resp2());
    let stream = world.stream();
    world.subscribe(stream, TopicKind::Channel, &["a"]);
    let mut side = world.open_side("+PONG\r\n");
    world.write(side);
    world.say(side, &array(&confirm("subscribe", "a")));
    for _ in 0..50 {
        world.wait(Duration::from_secs(1));
        world.lose(side, Cause::EndOfStream);
        assert_eq!(world.read(stream), [lost(&Cause::EndOfStream)]);
        // It lived for long, so the next one comes at once.
        side = world.open_side("+PONG\r\n");
        assert_eq!(world.write(side), "SUBSCRIBE a");
        world.say(side, &array(&confirm("subscribe", "a")));
        assert_eq!(world.read(stream), ["restored"]);
    }
    world.lose(side, Cause::Reset);
    assert!(world.opened.is_empty(), "one that had hardly begun is waited for");
    for _ in 0..50 {
        world.wait(Duration::from_secs(1));
        let side = world.opened.pop().expect("it never gives up");
        world.lose(side, Cause::Refused);
    }
    let status = world.engine.status();
    assert_eq!(status.health, unfazed_core::Health::Live);
    let (get, _) =
        world.engine.submit(&Request::new("GET").arg("k"), None, world.now).expect("room");
    world.write(main);
    world.say(main, "+v\r\n");
    assert!(world.engine.take(get).expect("answered").is_ok());
}

#[test]
fn a_connection_of_its_own_waits_while_the_server_is_away() {
    let (mut world, main) = World::live(World::resp2());
    let stream = world.stream();
    world.subscribe(stream, TopicKind::Channel, &["a"]);
    let side = world.open_side("+PONG\r\n");
    world.write(side);
    world.say(side, &array(&confirm("subscribe", "a")));
    world.lose(main, Cause::Reset);
    world.lose(side, Cause::Reset);
    for _ in 0..20 {
        world.wait(Duration::from_secs(1));
        assert_eq!(world.opened.len(), 1, "one dial at a time, that for requests");
        let dialled = world.opened.pop().expect("just counted");
        world.lose(dialled, Cause::Refused);
    }
    world.wait(Duration::from_secs(1));
    world.open_side("+PONG\r\n");
    let side = world.open_side("+PONG\r\n");
    assert_eq!(world.write(side), "SUBSCRIBE a");
    world.say(side, &array(&confirm("subscribe", "a")));
    assert_eq!(world.read(stream), [lost(&Cause::Reset), "restored".into()]);
}

#[test]
fn shard_channels_have_a_connection_of_their_own_and_one_slot_a_command() {
    let (mut world, main) = World::live(World::plain());
    let stream = world.stream();
    let ticket = world.subscribe(stream, TopicKind::Shard, &["{x}1", "{y}1", "{x}2"]);
    assert_eq!(world.write(main), "");
    let side = world.open_side(HELLO);
    assert_eq!(world.write(side), "SSUBSCRIBE {x}1 SSUBSCRIBE {y}1 SSUBSCRIBE {x}2");
    let names = ["{x}1", "{y}1", "{x}2"];
    world.say(side, &names.map(|name| confirm("ssubscribe", name)).concat());
    assert!(world.has_ended_well(ticket));
    let sent = format!(">3\r\n{}{}{}", bulk("smessage"), bulk("{y}1"), bulk("hello"));
    world.say(side, &sent);
    assert_eq!(world.read(stream), ["{y}1: hello"]);
    world.wait(Duration::from_secs(1));
    world.lose(side, Cause::Reset);
    let side = world.open_side(HELLO);
    let sent = world.write(side);
    assert!(sent.contains("SSUBSCRIBE {x}1 {x}2"), "those of one slot go together: {sent}");
}

#[test]
fn a_slot_that_moves_is_told_and_its_channel_asked_for_again() {
    let (mut world, _) = World::live(World::plain());
    let stream = world.stream();
    world.subscribe(stream, TopicKind::Shard, &["a", "b"]);
    let side = world.open_side(HELLO);
    world.write(side);
    world.say(side, &["a", "b"].map(|name| confirm("ssubscribe", name)).concat());
    world.say(side, &confirm("sunsubscribe", "a"));
    assert_eq!(world.read(stream), [lost(&Cause::SlotMoved)]);
    let mut delays = Vec::new();
    for _ in 0..4 {
        let before = world.now.instant;
        while world.write(side).is_empty() {
            world.wait(Duration::from_millis(10));
        }
        delays.push(world.now.instant - before);
        world.say(side, "-MOVED 15495 127.0.0.1:7001\r\n");
    }
    assert!(delays.windows(2).all(|pair| pair[1] > pair[0]), "{delays:?}");
    while world.write(side).is_empty() {
        world.wait(Duration::from_millis(10));
    }
    let refused = "lost: subscription refused: MOVED 15495 127.0.0.1:7001";
    assert_eq!(world.read(stream), [refused], "told once");
    world.say(side, &confirm("ssubscribe", "a"));
    assert_eq!(world.read(stream), ["restored"]);
}

#[test]
fn a_slot_that_moves_while_its_channel_is_dropped_upsets_nothing() {
    for answer in [confirm("sunsubscribe", "a"), "-MOVED 15495 127.0.0.1:7001\r\n".to_owned()] {
        let (mut world, _) = World::live(World::plain());
        let stream = world.stream();
        world.subscribe(stream, TopicKind::Shard, &["a", "b"]);
        let side = world.open_side(HELLO);
        world.write(side);
        world.say(side, &["a", "b"].map(|name| confirm("ssubscribe", name)).concat());
        let ticket = world.unsubscribe(stream, TopicKind::Shard, &["a"]);
        assert_eq!(world.write(side), "SUNSUBSCRIBE a PING");
        world.say(side, &confirm("sunsubscribe", "a"));
        let again = world.subscribe(stream, TopicKind::Shard, &["c"]);
        world.say(side, &(answer + "+PONG\r\n"));
        assert!(world.has_ended_well(ticket));
        assert_eq!(world.write(side), "SSUBSCRIBE c");
        world.say(side, &confirm("ssubscribe", "c"));
        assert!(world.has_ended_well(again));
        assert!(world.closed.is_empty() && world.read(stream).is_empty());
    }
}

#[test]
fn one_that_stops_reading_has_its_own_connection_and_keeps_within_its_bound() {
    let (mut world, main) = World::live(World::plain());
    let mut options = StreamOptions::default();
    options.overflow = Overflow::StopReading;
    options.messages_max = Some(4);
    let stream = world.engine.open_stream(options).expect("there is room");
    let ticket = world.subscribe(stream, TopicKind::Channel, &["a"]);
    let other = world.subscribed(main, "a");
    let side = world.open_side(HELLO);
    assert_eq!(world.write(side), "SUBSCRIBE a");
    world.say(side, &confirm("subscribe", "a"));
    assert!(world.has_ended_well(ticket));
    let many: String = (0..10).map(|number| message("a", &number.to_string())).collect();
    world.say(side, &many);
    world.say(main, &many);
    assert!(!world.engine.may_read(side) && world.engine.may_read(main));
    assert_eq!(world.engine.status().messages_waiting, 4 + 10);
    world.wait(Duration::from_secs(60));
    assert!(world.closed.is_empty(), "it is not silent, nobody listens");
    let mut all = Vec::new();
    while all.len() < 10 {
        all.extend(world.read(stream));
        if world.resumed.pop() == Some(side) {
            world.say(side, "");
        }
        assert!(world.engine.status().messages_waiting <= 4 + 10);
    }
    assert_eq!(all, (0..10).map(|number| format!("a: {number}")).collect::<Vec<_>>());
    assert_eq!(world.read(other).len(), 10);
    world.say(side, &many);
    world.engine.close_stream(stream, world.now);
    world.drain();
    assert_eq!(world.closed, [side], "nobody is there to read what it would still say");
    world.lose(side, Cause::Local);
    assert_eq!(world.engine.status().connections, 1);
}

#[test]
fn one_that_is_full_when_its_connection_goes_is_dialled_again_once_it_was_read() {
    let (mut world, _) = World::live(World::plain());
    let mut options = StreamOptions::default();
    options.overflow = Overflow::StopReading;
    options.messages_max = Some(2);
    let stream = world.engine.open_stream(options).expect("there is room");
    world.subscribe(stream, TopicKind::Channel, &["a"]);
    let side = world.open_side(HELLO);
    world.write(side);
    world.say(side, &(confirm("subscribe", "a") + &message("a", "1") + &message("a", "2")));
    world.wait(Duration::from_secs(1));
    world.lose(side, Cause::EndOfStream);
    assert!(world.opened.is_empty());
    assert_eq!(world.read(stream), ["a: 1".into(), "a: 2".into(), lost(&Cause::EndOfStream)]);
    let side = world.open_side(HELLO);
    assert_eq!(world.write(side), "SUBSCRIBE a");
    world.say(side, &confirm("subscribe", "a"));
    assert_eq!(world.read(stream), ["restored"]);
}

#[test]
fn a_server_that_comes_back_with_another_protocol_takes_the_subscriptions_along() {
    let (mut world, conn) = World::live(World::resp2().protocol(ProtocolChoice::Auto));
    let stream = world.subscribed(conn, "a");
    world.lose(conn, Cause::Reset);
    world.wait(Duration::from_millis(100));
    let conn = world.open();
    world.say(conn, "-ERR unknown command 'HELLO'\r\n");
    world.write(conn);
    world.say(conn, "+PONG\r\n");
    assert_eq!(world.write(conn), "");
    let side = world.open_side("+PONG\r\n");
    assert_eq!(world.write(side), "SUBSCRIBE a");
    world.say(side, &array(&confirm("subscribe", "a")));
    assert_eq!(world.read(stream), [lost(&Cause::Reset), "restored".into()]);
}
