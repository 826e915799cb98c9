//! Subscriptions of RESP3, on the connection that all requests share.

use super::*;

#[test]
fn a_subscription_goes_on_the_connection_of_requests_and_takes_nobodys_reply() {
    let (mut world, conn) = World::live(World::plain());
    let get = Request::new("GET").arg("k");
    let (before, _) = world.engine.submit(&get, None, world.now).expect("room");
    let stream = world.stream();
    let ticket = world.subscribe(stream, TopicKind::Channel, &["a", "b"]);
    let patterns = world.subscribe(stream, TopicKind::Pattern, &["*"]);
    let (after, _) = world.engine.submit(&get, None, world.now).expect("room");
    assert_eq!(world.write(conn), "GET k SUBSCRIBE a b PSUBSCRIBE * GET k");
    world.say(conn, &format!("+1\r\n{}", confirm("subscribe", "a")));
    assert!(world.engine.take(before).expect("answered").is_ok());
    assert!(world.engine.take_wait(ticket).is_none(), "half of it is confirmed");
    world.say(conn, &message("a", "early"));
    world.say(conn, &(confirm("subscribe", "b") + &confirm("psubscribe", "*") + "+2\r\n"));
    assert!(world.has_ended_well(ticket) && world.has_ended_well(patterns));
    assert!(world.engine.take(after).expect("answered").is_ok());
    let by_pattern = [bulk("pmessage"), bulk("*"), bulk("x"), bulk("2")].concat();
    world.say(conn, &(message("b", "1") + ">4\r\n" + &by_pattern));
    assert_eq!(world.read(stream), ["a: early", "b: 1", "x by *: 2"]);
    assert_eq!(world.counts(), (1, 3, 3));
}

#[test]
fn a_refused_subscription_is_one_error_and_takes_nobodys_reply_either() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.stream();
    let ticket = world.subscribe(stream, TopicKind::Channel, &["secret"]);
    let (get, _) =
        world.engine.submit(&Request::new("GET").arg("k"), None, world.now).expect("room");
    world.write(conn);
    world.say(conn, "-NOPERM not for you\r\n+v\r\n");
    let failure = world.engine.take_wait(ticket).expect("it has ended").expect_err("refused");
    assert_eq!(
        failure.server_error().map(|error| error.code().to_owned()).as_deref(),
        Some("NOPERM")
    );
    assert_eq!((failure.executed(), failure.command()), (Executed::No, "SUBSCRIBE"));
    assert!(world.engine.take(get).expect("answered").is_ok());
    assert_eq!(world.counts(), (1, 0, 0), "nothing is wanted any longer");
    world.wait(Duration::from_secs(20));
    assert_eq!(world.write(conn), "");
}

#[test]
fn one_refused_channel_does_not_keep_the_others_from_coming_back() {
    let (mut world, conn) = World::live(World::plain());
    let (first, second) = (world.subscribed(conn, "a"), world.subscribed(conn, "b"));
    world.lose(conn, Cause::Reset);
    world.wait(Duration::from_millis(100));
    let conn = world.open_side(HELLO);
    assert_eq!(world.write(conn), "SUBSCRIBE a b");
    world.say(conn, "-NOPERM not for you\r\n");
    assert_eq!(world.write(conn), "SUBSCRIBE a SUBSCRIBE b");
    world.say(conn, &(confirm("subscribe", "a") + "-NOPERM not for you\r\n"));
    assert_eq!(world.read(first), [lost(&Cause::Reset), "restored".into()]);
    let refused = "lost: subscription refused: NOPERM not for you".to_owned();
    assert_eq!(world.read(second), [lost(&Cause::Reset), refused]);
    world.wait(Duration::from_millis(200));
    assert_eq!(world.write(conn), "SUBSCRIBE b", "it is tried again, not at once and not in vain");
    world.say(conn, &confirm("subscribe", "b"));
    assert_eq!(world.read(second), ["restored"]);
}

#[test]
fn a_reply_where_a_confirmation_is_owed_is_out_of_step() {
    for bytes in ["+OK\r\n".to_owned(), confirm("subscribe", "x"), confirm("ssubscribe", "a")] {
        let (mut world, conn) = World::live(World::plain());
        let stream = world.stream();
        world.subscribe(stream, TopicKind::Channel, &["a"]);
        world.write(conn);
        world.say(conn, &bytes);
        assert_eq!(world.closed, [conn], "{bytes:?}");
    }
    // Half confirmed and then refused: nobody does that.
    let (mut world, conn) = World::live(World::plain());
    let stream = world.stream();
    world.subscribe(stream, TopicKind::Channel, &["a", "b"]);
    world.write(conn);
    world.say(conn, &(confirm("subscribe", "a") + "-ERR no\r\n"));
    assert_eq!(world.closed, [conn]);
}

#[test]
fn a_confirmation_of_what_was_not_even_sent_costs_the_connection() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.stream();
    world.subscribe(stream, TopicKind::Channel, &["a"]);
    world.say(conn, &confirm("subscribe", "a"));
    assert_eq!(world.closed, [conn]);
}

#[test]
fn an_unsubscription_that_nobody_asked_for_is_legal_and_takes_no_reply() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.subscribed(conn, "a");
    let get = Request::new("GET").arg("k");
    let (ticket, _) = world.engine.submit(&get, None, world.now).expect("room");
    world.write(conn);
    world.say(conn, &confirm("unsubscribe", "a"));
    world.say(conn, &confirm("sunsubscribe", "never heard of"));
    world.say(conn, &confirm("punsubscribe", "a"));
    world.say(conn, ">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n");
    assert!(world.engine.take(ticket).is_none(), "no reply has come");
    world.say(conn, "+v\r\n");
    assert!(world.engine.take(ticket).expect("answered").is_ok());
    assert_eq!(world.read(stream), [lost(&Cause::Unsubscribed)]);
    world.say(conn, &message("a", "for nobody"));
    world.wait(Duration::from_millis(200));
    assert_eq!(world.write(conn), "SUBSCRIBE a");
    world.say(conn, &(confirm("subscribe", "a") + &message("a", "back")));
    assert_eq!(world.read(stream), ["restored", "a: back"]);
    assert!(world.closed.is_empty());
}

#[test]
fn an_unasked_unsubscription_that_crosses_our_own_is_no_anomaly() {
    // Twice, or once and refused: the second is nobody's reply.
    for second in [confirm("unsubscribe", "a"), "-NOSUB not subscribed\r\n".to_owned()] {
        let (mut world, conn) = World::live(World::plain());
        let stream = world.subscribed(conn, "a");
        let ticket = world.unsubscribe(stream, TopicKind::Channel, &["a"]);
        let get = Request::new("GET").arg("k");
        let (answer, _) = world.engine.submit(&get, None, world.now).expect("room");
        assert_eq!(world.write(conn), "UNSUBSCRIBE a GET k");
        world.say(conn, &confirm("unsubscribe", "a"));
        assert!(world.has_ended_well(ticket));
        world.say(conn, &second);
        assert!(world.engine.take(answer).is_none(), "{second:?}");
        world.say(conn, "+v\r\n");
        assert!(world.engine.take(answer).expect("answered").is_ok());
        assert!(world.closed.is_empty());
    }
}

#[test]
fn a_script_that_speaks_of_no_subscription_is_not_taken_for_the_server() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.subscribed(conn, "a");
    let eval = Request::new("EVAL").arg("code").arg("0");
    let (first, _) = world.engine.submit(&eval, None, world.now).expect("room");
    world.write(conn);
    world.say(conn, "-NOSUB says the script\r\n");
    let failure = world.engine.take(first).expect("answered").expect_err("an error");
    assert!(matches!(failure.kind(), FailureKind::Server(_)));
    // Right after an unsubscription nobody can tell; then the connection goes, and no reply is wrong.
    world.unsubscribe(stream, TopicKind::Channel, &["a"]);
    let (second, _) = world.engine.submit(&eval, None, world.now).expect("room");
    world.write(conn);
    world.say(conn, &(confirm("unsubscribe", "a") + "-NOSUB says who\r\n"));
    assert_eq!(world.closed, [conn]);
    assert!(world.engine.take(second).is_none());
}

#[test]
fn an_unsubscription_that_is_refused_is_done() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.subscribed(conn, "a");
    let ticket = world.unsubscribe(stream, TopicKind::Channel, &["a"]);
    world.write(conn);
    world.say(conn, "-NOSUB not subscribed\r\n");
    assert!(world.has_ended_well(ticket));
    assert_eq!(world.counts(), (1, 0, 0));
}

#[test]
fn streams_on_one_channel_share_one_subscription_and_each_gets_every_message() {
    let (mut world, conn) = World::live(World::plain());
    let first = world.subscribed(conn, "a");
    let second = world.stream();
    let ticket = world.subscribe(second, TopicKind::Channel, &["a"]);
    assert!(world.has_ended_well(ticket), "it is confirmed already");
    assert_eq!(world.write(conn), "");
    world.say(conn, &message("a", "1"));
    world.engine.close_stream(first, world.now);
    assert_eq!(world.write(conn), "", "somebody wants it still");
    world.say(conn, &message("a", "2"));
    assert_eq!(world.read(second), ["a: 1", "a: 2"]);
    assert_eq!(world.read(first), ["end"]);
    world.engine.close_stream(second, world.now);
    assert_eq!(world.write(conn), "UNSUBSCRIBE a");
    world.say(conn, &(message("a", "late") + &confirm("unsubscribe", "a")));
    assert_eq!(world.counts(), (0, 0, 0));
}

#[test]
fn nothing_arrives_after_an_unsubscription_not_even_what_had_been_received() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.subscribed(conn, "a");
    world.say(conn, &message("a", "unread"));
    let ticket = world.unsubscribe(stream, TopicKind::Channel, &["a", "never wanted"]);
    assert_eq!(world.write(conn), "UNSUBSCRIBE a");
    world.say(conn, &message("a", "on its way"));
    assert!(world.engine.take_wait(ticket).is_none());
    // Wanted again before the server has dropped it: what comes in between would be a gap unannounced.
    let again = world.subscribe(stream, TopicKind::Channel, &["a"]);
    world.say(conn, &message("a", "between"));
    world.say(conn, &confirm("unsubscribe", "a"));
    assert!(world.has_ended_well(ticket));
    assert_eq!(world.write(conn), "SUBSCRIBE a");
    world.say(conn, &(confirm("subscribe", "a") + &message("a", "anew")));
    assert!(world.has_ended_well(again));
    assert_eq!(world.read(stream), ["a: anew"]);
}

#[test]
fn a_stream_outlives_its_connection_and_tells_of_the_gap() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.subscribed(conn, "a");
    let other = world.subscribed(conn, "b");
    let more = world.subscribe(stream, TopicKind::Pattern, &["p*"]);
    world.write(conn);
    world.say(conn, &message("a", "before"));
    world.lose(conn, Cause::Reset);
    assert!(world.engine.take_wait(more).is_none(), "it waits for the next connection");
    world.wait(Duration::from_millis(100));
    let conn = world.open_side(HELLO);
    assert_eq!(world.write(conn), "SUBSCRIBE a b PSUBSCRIBE p*");
    let confirmed = ["a", "b"].map(|name| confirm("subscribe", name)).concat();
    world.say(conn, &(confirmed + &message("a", "after")));
    assert_eq!(
        world.read(stream),
        ["a: before".into(), lost(&Cause::Reset), "restored".into(), "a: after".into()],
        "the pattern was never there to be lost",
    );
    world.say(conn, &confirm("psubscribe", "p*"));
    assert!(world.has_ended_well(more));
    assert_eq!(world.read(other), [lost(&Cause::Reset), "restored".into()]);
}

#[test]
fn ten_thousand_channels_come_back_in_slices_with_commands_in_between() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.stream();
    let names: Vec<String> = (0..10_000).map(|number| format!("channel:{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.subscribe(stream, TopicKind::Channel, &names);
    let confirm_all = |world: &mut World, conn, mut left: usize| {
        let mut slices = 0;
        while left > 0 {
            let (get, _) =
                world.engine.submit(&Request::new("GET").arg("k"), None, world.now).expect("room");
            let sent = world.write(conn);
            let names: Vec<&str> =
                sent.split(' ').filter(|word| word.starts_with("channel:")).collect();
            assert!(!names.is_empty() && names.len() <= 1_000, "{}", names.len());
            left -= names.len();
            slices += 1;
            let pushes: String = names.iter().map(|name| confirm("subscribe", name)).collect();
            world.say(conn, &(pushes + "+v\r\n"));
            assert!(world.engine.take(get).expect("answered").is_ok());
        }
        slices
    };
    assert_eq!(confirm_all(&mut world, conn, 10_000), 10);
    assert_eq!(world.counts(), (1, 10_000, 10_000));
    world.lose(conn, Cause::EndOfStream);
    world.wait(Duration::from_millis(100));
    let conn = world.open_side(HELLO);
    assert_eq!(confirm_all(&mut world, conn, 10_000), 10);
    assert_eq!(world.read(stream), [lost(&Cause::EndOfStream), "restored".into()]);
}

#[test]
fn what_an_old_connection_still_says_reaches_nobody() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.subscribed(conn, "a");
    world.wait(Duration::from_secs(2));
    // A replica: the connection is retired, and has a reply to give still.
    let set = Request::new("SET").arg("k").arg("v");
    let _ = world.engine.submit(&set, None, world.now).expect("room");
    let get = Request::new("GET").arg("k");
    let _ = world.engine.submit(&get, None, world.now).expect("room");
    world.write(conn);
    world.say(conn, "-READONLY a replica\r\n");
    let next = world.open_side(HELLO);
    assert!(world.write(next).contains("SUBSCRIBE a"));
    world.say(next, &(confirm("subscribe", "a") + &message("a", "1")));
    world.say(conn, &message("a", "1"));
    assert_eq!(world.read(stream), [lost(&Cause::NotMaster), "restored".into(), "a: 1".into()]);
}

#[test]
fn a_subscription_waits_for_the_server_within_its_deadline_and_leaves_nothing_behind() {
    let mut world = World::new(World::plain().deadline(Duration::from_secs(1)));
    let stream = world.stream();
    let ticket = world.subscribe(stream, TopicKind::Channel, &["a"]);
    let conn = world.opened.pop().expect("it dials");
    world.lose(conn, Cause::Refused);
    world.wait(Duration::from_secs(1));
    let failure = world.engine.take_wait(ticket).expect("it is over").expect_err("too late");
    assert!(failure.is_timeout() && failure.executed() == Executed::No, "{failure}");
    assert_eq!(world.counts(), (1, 0, 0));
    world.engine.close_stream(stream, world.now);
    assert_eq!(world.counts(), (0, 0, 0));
    assert_eq!(world.engine.status().tickets, 0);
}

#[test]
fn given_up_it_takes_back_what_it_added_and_detached_it_goes_on() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.subscribed(conn, "a");
    let ticket = world.subscribe(stream, TopicKind::Channel, &["a", "b"]);
    world.engine.cancel(ticket, world.now);
    assert_eq!(world.write(conn), "SUBSCRIBE b", "it was on its way");
    world.say(conn, &confirm("subscribe", "b"));
    assert_eq!(world.write(conn), "UNSUBSCRIBE b");
    world.say(conn, &confirm("unsubscribe", "b"));
    let ticket = world.subscribe(stream, TopicKind::Channel, &["c"]);
    world.engine.detach(ticket);
    assert_eq!(world.engine.status().tickets, 0);
    world.write(conn);
    world.say(conn, "-NOPERM not yet\r\n");
    assert_eq!(world.read(stream), ["lost: subscription refused: NOPERM not yet"]);
    world.wait(Duration::from_millis(200));
    assert_eq!(world.write(conn), "SUBSCRIBE c");
    world.say(conn, &confirm("subscribe", "c"));
    assert_eq!(world.read(stream), ["restored"]);
    assert_eq!(world.counts(), (1, 2, 2));
}

#[test]
fn two_requests_for_one_topic_depend_on_nobody_but_the_server() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.stream();
    let first = world.subscribe(stream, TopicKind::Channel, &["a", "a"]);
    let second = world.subscribe(stream, TopicKind::Channel, &["a"]);
    world.engine.cancel(first, world.now);
    assert_eq!(world.write(conn), "SUBSCRIBE a");
    world.say(conn, &confirm("subscribe", "a"));
    assert!(world.has_ended_well(second));
    assert_eq!(world.counts(), (1, 1, 1));
    let third = world.subscribe(stream, TopicKind::Channel, &["b"]);
    let fourth = world.subscribe(stream, TopicKind::Channel, &["b"]);
    world.write(conn);
    world.say(conn, "-NOPERM no\r\n");
    for ticket in [third, fourth] {
        assert!(world.engine.take_wait(ticket).expect("it has ended").is_err());
    }
    assert_eq!(world.counts(), (1, 1, 1));
}

#[test]
fn there_are_no_more_subscriptions_than_there_may_be() {
    let (mut world, _) = World::live(World::plain().subscriptions_max(3));
    let stream = world.stream();
    world.subscribe(stream, TopicKind::Channel, &["a", "b"]);
    let names = ["c", "d"];
    let refused =
        world.engine.subscribe(stream, TopicKind::Channel, &names[..], None, None, world.now);
    let failure = refused.expect_err("that would be four");
    assert!(matches!(failure.kind(), FailureKind::SubscriptionsFull(_)), "{failure}");
    assert_eq!(world.counts().1, 2, "none of them was added");
    world.stream();
    world.stream();
    let failure = world.engine.open_stream(StreamOptions::default()).expect_err("the fourth");
    assert!(matches!(failure.kind(), FailureKind::SubscriptionsFull(_)), "{failure}");
}

#[test]
fn the_oldest_messages_go_when_nobody_reads_and_the_stream_says_how_many() {
    let (mut world, conn) = World::live(World::plain().subscription_messages_max(3));
    let stream = world.subscribed(conn, "a");
    for number in 0..10 {
        world.say(conn, &message("a", &number.to_string()));
    }
    let status = world.engine.status();
    assert_eq!((status.messages_waiting, status.messages_dropped), (3, 7));
    assert_eq!(world.read(stream), ["dropped 7", "a: 7", "a: 8", "a: 9"]);
    assert_eq!(world.engine.status().messages_waiting, 0);
}

#[test]
fn a_closed_client_ends_its_streams_and_holds_nothing() {
    for protocol in [ProtocolChoice::Resp2, ProtocolChoice::Resp3] {
        let (mut world, main) = World::live(World::resp2().protocol(protocol));
        let stream = world.stream();
        let first = world.subscribe(stream, TopicKind::Channel, &["a"]);
        let second = world.subscribe(stream, TopicKind::Shard, &["s"]);
        world.drain();
        world.engine.shutdown(Duration::ZERO, world.now);
        world.drain();
        for ticket in [first, second] {
            let failure = world.engine.take_wait(ticket).expect("it has ended");
            let failure = failure.expect_err("nothing was confirmed");
            assert!(matches!(failure.kind(), FailureKind::ClientClosed), "{failure}");
        }
        assert_eq!(world.read(stream), ["end"]);
        assert_eq!(world.counts(), (0, 0, 0));
        assert_eq!(world.engine.status().connections, 0);
        assert!(world.closed.contains(&main) && world.timer.is_none());
        assert!(world.engine.open_stream(StreamOptions::default()).is_err());
        world.engine.close_stream(stream, world.now);
    }
}

#[test]
fn a_runtime_that_is_dropped_ends_its_streams() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.subscribed(conn, "a");
    world.say(conn, &message("a", "1"));
    world.engine.abandon(world.now);
    assert_eq!(world.read(stream), ["a: 1", "end"]);
    let names = ["b"];
    let refused =
        world.engine.subscribe(stream, TopicKind::Channel, &names[..], None, None, world.now);
    assert!(matches!(refused.expect_err("it has ended").kind(), FailureKind::StreamEnded));
    // The next one begins anew.
    let stream = world.stream();
    let ticket = world.subscribe(stream, TopicKind::Channel, &["a"]);
    let conn = world.open_side(HELLO);
    assert_eq!(world.write(conn), "SUBSCRIBE a");
    world.say(conn, &confirm("subscribe", "a"));
    assert!(world.has_ended_well(ticket));
}

#[test]
fn wrong_credentials_are_told_to_those_who_wait_for_topics() {
    let mut world = World::new(World::plain().password("wrong"));
    let stream = world.stream();
    let ticket = world.subscribe(stream, TopicKind::Channel, &["a"]);
    let conn = world.open();
    world.say(conn, "-WRONGPASS no\r\n");
    world.lose(conn, Cause::Local);
    let failure = world.engine.take_wait(ticket).expect("it has ended").expect_err("refused");
    assert!(matches!(failure.kind(), FailureKind::Server(_)), "{failure}");
}
