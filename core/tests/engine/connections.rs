//! One connection: its handshake, its end, and what is said of it.

use super::*;

#[test]
fn a_password_that_is_wanted_and_missing_is_noticed_in_the_handshake() {
    use unfazed_core::config::ProtocolChoice;
    let config = World::plain().protocol(ProtocolChoice::Resp2).client_info(true);
    let mut world = World::new(config);
    let ticket = world.engine.connect(None, world.now);
    world.open();
    assert!(world.write().ends_with("PING\r\n"), "something that every server knows");
    // Before 7.2 CLIENT SETINFO is unknown, and that comes first.
    world.say("-ERR unknown subcommand\r\n-ERR unknown subcommand\r\n");
    world.say("-NOAUTH Authentication required.\r\n");
    let refused = world.engine.take_wait(ticket).expect("judged").expect_err("no way in");
    assert!(refused.to_string().contains("NOAUTH"), "{refused}");
}

#[test]
fn a_refused_handshake_says_who_wanted_in_and_which_database() {
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    let range = "-ERR DB index is out of range\r\n";
    let secret = || World::plain().password("hunter2");
    for (config, answer, told) in [
        (secret().username("app"), wrong, "user \"app\" can't sign in: WRONGPASS"),
        (secret(), wrong, "user \"default\" can't sign in: WRONGPASS"),
        (World::plain().database(99), range, "the server has no database 99"),
    ] {
        let mut world = World::new(config);
        let ticket = world.engine.connect(None, world.now);
        world.open();
        if world.write().contains("SELECT") {
            world.say("%0\r\n");
        }
        world.say(answer);
        let refused = world.engine.take_wait(ticket).expect("judged").expect_err("no way in");
        let theirs = refused.server_error().expect("the server's own words").to_string();
        assert_eq!(theirs, answer[1..].trim_end());
        let text = refused.to_string();
        assert!(text.contains(&format!("{theirs}: {told}")), "{text}");
        let events = world.events.join("\n");
        assert!(events.contains(told), "{events}");
        assert!(!text.contains("hunter2") && !events.contains("hunter2"), "{text}\n{events}");
    }
}

#[test]
fn a_password_that_the_server_quotes_is_not_told() {
    for quoted in ["`AUTH`, with args beginning with: `hunter2`", "`AUTH` of hunter2"] {
        let mut world = World::new(World::plain().password("hunter2"));
        let ticket = world.engine.connect(None, world.now);
        world.open();
        world.write();
        world.say("-ERR unknown command `HELLO`, with args beginning with: `3` `AUTH` `hun\r\n");
        world.write();
        world.say(&format!("-ERR unknown command {quoted}\r\n"));
        let refused = world.engine.take_wait(ticket).expect("judged").expect_err("no way in");
        assert!(refused.to_string().contains("ERR"), "{refused}");
        let told = format!("{refused} {refused:?} {:?} {:?}", world.engine.status(), world.events);
        assert!(!told.contains("hun"), "{told}");
    }
}

#[test]
fn nothing_that_goes_out_is_formatted() {
    let mut world = World::new(World::plain().password("hunter2"));
    let set = Request::new("SET").arg("a").arg("hunter2");
    let _ticket = world.run(&set);
    world.open();
    let chunk = world.engine.take_output(world.conn.expect("a connection")).expect("a handshake");
    assert!(String::from_utf8_lossy(chunk.unwritten()).contains("hunter2"));
    let mut batch = Batch::new();
    batch.push(&set);
    let told = format!("{chunk:?} {batch:?} {:?}", world.engine);
    assert!(!told.contains("hunter2"), "{told}");
    assert!(!told.contains("104, 117, 110"), "nor as numbers: {told}");
}

#[test]
fn a_server_that_dies_at_hello_is_not_taken_for_one_that_speaks_only_resp2() {
    let mut world = World::new(World::plain());
    let _ticket = world.engine.connect(None, world.now);
    world.open();
    assert!(world.write().contains("HELLO"));
    world.lose(Cause::EndOfStream);
    // Some proxies end the stream at a command they do not know.
    world.open();
    assert!(!world.write().contains("HELLO"));
    world.lose(Cause::Reset);
    world.wait(Duration::from_millis(100));
    world.open();
    assert!(world.write().contains("HELLO"), "nothing was learnt of it");
    world.lose(Cause::EndOfStream);
    world.open();
    assert!(!world.write().contains("HELLO"));
    world.say("+PONG\r\n");
    assert_eq!(world.engine.health(), Health::Live);
    world.wait(Duration::from_millis(600));
    world.lose(Cause::EndOfStream);
    world.open();
    assert!(!world.write().contains("HELLO"), "it has proved itself");
}

#[test]
fn a_server_that_refuses_before_it_is_asked_is_quoted() {
    let mut world = World::new(World::plain());
    let ticket = world.engine.connect(None, world.now);
    world.open();
    // It accepts and refuses in one go, and nothing was written yet.
    world.say("-ERR max number of clients reached\r\n");
    let refused = world.engine.take_wait(ticket).expect("judged").expect_err("no room");
    assert!(refused.to_string().contains("max number of clients"), "{refused}");
    world.wait(Duration::from_millis(100));
    world.open();
    assert!(world.write().contains("HELLO"), "it is asked again, and as before");
}

#[test]
fn a_connection_reset_in_its_handshake_does_not_condemn_a_healthy_server() {
    let config = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let mut world = World::live(config);
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.open();
    world.lose(Cause::Reset);
    assert_eq!(world.engine.health(), Health::Suspect);
    world.wait(Duration::from_millis(100));
    world.open();
    world.write();
    world.say("%0\r\n");
    assert_eq!(world.engine.health(), Health::Live);
}

#[test]
fn a_dial_that_is_given_up_leaves_no_timer_behind() {
    let mut world = World::new(World::plain());
    world.engine.connect(None, world.now);
    let conn = loop {
        match world.engine.poll_output() {
            Output::Open { conn, .. } => break conn,
            Output::Wait(_) => panic!("a connection is asked for"),
            _ => {}
        }
    };
    world.now = world.now + Duration::from_secs(3);
    world.engine.handle_input(Input::Timeout, world.now);
    let timer = loop {
        match world.engine.poll_output() {
            Output::Wait(at) => break at,
            Output::Close { conn: closed, .. } => assert_eq!(closed, conn),
            _ => {}
        }
    };
    assert!(timer.is_none_or(|at| at > world.now.instant), "waiting for a close is no timer");
}

#[test]
fn nothing_is_dialled_while_older_requests_are_still_on_a_closing_connection() {
    let mut world = World::live(World::plain());
    let old = world.conn.take().expect("connected");
    let first = world.run(&Request::new("SET").arg("a").arg("1"));
    world.engine.received(old, &mut BytesMut::from("garbage"), world.now);
    // Its driver is still about to close it when somebody asks for something newer.
    let second = world.engine.submit(&Request::new("SET").arg("a").arg("2"), None, world.now);
    let (second, _) = second.expect("room");
    loop {
        match world.engine.poll_output() {
            Output::Open { .. } => panic!("the newer request would overtake the older one"),
            Output::Wait(_) => break,
            _ => {}
        }
    }
    world.engine.handle_input(Input::Closed { conn: old, cause: Cause::Local }, world.now);
    world.drain();
    world.wait(Duration::from_millis(100));
    world.open();
    world.write();
    world.say("%0\r\n");
    let sent = world.write();
    assert!(sent.find("\r\n1\r\n") < sent.find("\r\n2\r\n"), "{sent}");
    world.say("+OK\r\n+OK\r\n");
    world.value::<()>(first);
    world.value::<()>(second);
}

#[test]
fn every_connection_has_a_number_of_its_own() {
    let mut world = World::live(World::plain());
    assert_eq!(world.engine.connections_made(), 1);
    world.wait(Duration::from_secs(1));
    world.lose(Cause::Reset);
    assert_eq!(world.engine.connections_made(), 1);
    world.open();
    world.write();
    world.say("%1\r\n+server\r\n+redis\r\n");
    assert_eq!(world.engine.connections_made(), 2);
}

#[test]
fn a_connection_that_is_no_longer_authenticated_is_replaced_however_young() {
    let mut world = World::live(World::plain());
    let ticket = world.run(&Request::new("GET").arg("a"));
    world.write();
    let young = world.conn;
    world.say("-NOAUTH Authentication required.\r\n");
    world.wait(Duration::from_millis(200));
    assert_ne!(world.conn, young, "another connection is made");
    world.open();
    world.write();
    world.say("%0\r\n");
    world.wait(Duration::from_millis(200));
    assert!(world.write().contains("GET"));
    world.say("$1\r\nx\r\n");
    assert_eq!(world.value::<String>(ticket), "x");
}

#[test]
fn a_connection_that_is_replaced_while_it_owes_nothing_is_closed_at_once() {
    let (mut world, own, lease) = doubts::world_with_a_lease(|_| {});
    world.wait(Duration::from_millis(1_100));
    assert_eq!(world.engine.status().connections, 2);
    let request = Request::new("SET a 1");
    let (ticket, _) = world.engine.submit_on(lease, &request, None, world.now).expect("room");
    world.conn = Some(own);
    assert!(world.write().contains("SET"));
    // The node is no master any more, so that the shared connection may lead to the wrong one as well.
    world.say("-READONLY You can't write against a read only replica.\r\n");
    assert!(world.engine.take(ticket).expect("refused").is_err());
    world.wait(Duration::from_millis(200));
    // What it carries, be it subscriptions, would be there twice.
    assert_eq!(world.engine.status().connections, 1, "but for the one that is being made");
}

#[test]
fn a_connection_that_is_replaced_is_closed_once_nobody_wants_what_is_unsent_on_it() {
    let mut world = World::live(World::plain().ping_interval(None));
    let first = world.run(&Request::new("GET a"));
    world.write();
    let brief = Options { deadline: Some(Duration::from_secs(1)), ..Options::default() };
    let unsent = Request::new("GET b").options(brief);
    let (unsent, _) = world.engine.submit(&unsent, None, world.now).expect("room");
    world.drain();
    world.say("-NOAUTH Authentication required.\r\n");
    world.wait(Duration::from_millis(200));
    world.open();
    world.write();
    world.say("%0\r\n");
    assert_eq!(world.engine.status().connections, 2, "the older one owes something");
    world.wait(Duration::from_secs(1));
    assert!(world.engine.take(unsent).expect("too late").is_err());
    assert_eq!(world.engine.status().connections, 1);
    assert!(world.write().contains("GET"));
    world.say("$1\r\nx\r\n");
    assert_eq!(world.value::<String>(first), "x");
}

#[test]
fn an_idle_connection_is_pinged_in_time_however_late_a_reply_was_due() {
    let second = Duration::from_secs(1);
    let mut world = World::live(World::plain().ping_interval(second / 10).response_timeout(second));
    let ticket = world.run(&Request::new("GET").arg("a"));
    world.write();
    // The timer is set for the reply now, and not for the PING that is due after it.
    world.wait(second / 4);
    let mut reply = BytesMut::from(&b"_\r\n"[..]);
    world.engine.received(world.conn.expect("connected"), &mut reply, world.now);
    assert_eq!(world.value::<Option<String>>(ticket), None);
    assert!(world.engine.has_output(), "or the driver would sleep on");
    world.drain();
    assert!(world.timer.is_some_and(|at| at <= world.now.instant + second / 10));
}

#[test]
fn a_process_that_stood_still_does_not_blame_the_server() {
    let mut world = World::live(World::plain());
    let ticket = world.run(&Request::new("INCR").arg("a"));
    world.write();
    // Nothing runs for longer than the server may be silent; then the timer comes first.
    world.now = world.now + Duration::from_millis(3_500);
    world.engine.handle_input(Input::Timeout, world.now);
    world.drain();
    assert_eq!(world.engine.health(), Health::Live);
    world.say(":1\r\n");
    assert_eq!(world.value::<i64>(ticket), 1);
}

#[test]
fn closing_waits_for_nothing_that_could_not_be_sent() {
    let mut world = World::live(World::plain());
    world.lose(Cause::Reset);
    let ticket = world.run(&Request::new("GET").arg("a"));
    world.engine.shutdown(Duration::from_secs(10), world.now);
    world.drain();
    assert_eq!(world.engine.health(), Health::Closed);
    assert!(world.engine.take(ticket).expect("ended").is_err());
}

#[test]
fn a_client_that_is_being_closed_waits_for_nothing_that_was_given_up() {
    let mut world = World::new(World::plain());
    let get = world.run(&Request::new("GET").arg("a"));
    world.engine.shutdown(Duration::from_secs(60), world.now);
    world.drain();
    assert_eq!(world.engine.status().queued_requests, 1);
    world.engine.cancel(get, world.now);
    assert!(world.engine.has_output());
    world.drain();
    world.wait(Duration::from_millis(1));
    assert_eq!(world.engine.health(), Health::Closed);
}

#[test]
fn the_last_event_is_told_however_few_may_wait() {
    let mut world = World::live(World::plain().events_max(1));
    world.engine.shutdown(Duration::ZERO, world.now);
    world.drain();
    assert_eq!(world.events.last().map(String::as_str), Some("closed"));
}
