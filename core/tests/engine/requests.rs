//! One request: when it is sent, sent again or given up, and how it ends.

use super::*;

#[test]
fn a_request_is_answered_by_the_reply_that_comes_for_it() {
    let mut world = World::live(World::plain());
    let get = Request::new("GET").arg("a");
    let incr = Request::new("INCR").arg("b");
    let (first, flush) = world.engine.submit(&get, Some(1), world.now).expect("room");
    assert!(matches!(flush, Flush::AfterOthers(_)));
    let (second, flush) = world.engine.submit(&incr, Some(2), world.now).expect("room");
    assert_eq!(flush, Flush::Nothing);
    assert_eq!(world.write(), "*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$4\r\nINCR\r\n$1\r\nb\r\n");
    world.say("$1\r\nx\r\n:5\r\n");
    let mut woken = Vec::new();
    world.engine.take_ready(&mut woken);
    assert_eq!(woken, [1, 2]);
    assert_eq!(world.value::<String>(first), "x");
    assert_eq!(world.value::<i64>(second), 5);
    assert_eq!(world.engine.status().queued_requests, 0);
    assert_eq!(world.engine.status().queued_bytes, 0);
    assert_eq!(world.engine.status().tickets, 0);
}

#[test]
fn a_written_incr_that_gets_no_answer_ends_as_maybe_and_is_not_sent_again() {
    let mut world = World::live(World::plain());
    let ticket = world.run(&Request::new("INCR").arg("a"));
    world.write();
    world.lose(Cause::Reset);
    let failure = world.engine.take(ticket).expect("ended").expect_err("no answer");
    assert_eq!(failure.executed(), Executed::Maybe);
    assert!(matches!(failure.kind(), FailureKind::ConnectionLost(Cause::Reset)));
}

#[test]
fn a_written_read_that_is_not_to_be_repeated_ends_with_its_connection() {
    let mut world = World::live(World::plain().maybe_retry(MaybeRetry::Never));
    let ticket = world.run(&Request::new("GET").arg("a"));
    world.write();
    world.lose(Cause::Reset);
    let failure = world.engine.take(ticket).expect("nothing to wait for").expect_err("no answer");
    assert_eq!(failure.executed(), Executed::Maybe);
}

#[test]
fn a_request_is_sent_as_often_as_it_may_be_and_no_more() {
    let mut config = World::plain().attempts_max(300).retry_schedule(|_| Duration::from_millis(1));
    config.response_timeout = Duration::from_secs(60);
    let mut world = World::live(config);
    let ticket = world.run(&Request::new("GET").arg("a"));
    while world.engine.is_pending(ticket) && world.write().contains("GET") {
        world.say("-TRYAGAIN later\r\n");
        if let Some(outcome) = world.engine.take(ticket) {
            assert_eq!(outcome.expect_err("refused each time").attempts(), 300);
            return;
        }
        world.wait(Duration::from_millis(1));
    }
    panic!("it was not sent again, and did not end");
}

#[test]
fn an_incr_whose_last_byte_was_not_accepted_goes_again() {
    let mut world = World::live(World::plain());
    let ticket = world.run(&Request::new("INCR").arg("a"));
    let conn = world.conn.expect("connected");
    let chunk = world.engine.take_output(conn).expect("bytes");
    let all_but_one = chunk.unwritten().len() - 1;
    world.engine.written(conn, chunk, all_but_one, world.now);
    world.lose(Cause::Reset);
    assert!(world.engine.take(ticket).is_none());
    world.wait(Duration::from_millis(100));
    world.open();
    world.write();
    world.say("%0\r\n");
    assert_eq!(world.write(), "*2\r\n$4\r\nINCR\r\n$1\r\na\r\n");
    world.say(":1\r\n");
    assert_eq!(world.value::<i64>(ticket), 1);
}

#[test]
fn a_silent_server_is_found_within_its_time_limit_and_the_deadline_holds() {
    let mut world = World::live(World::plain());
    let ticket = world.run(&Request::new("GET").arg("a"));
    world.write();
    world.wait(Duration::from_millis(1_999));
    assert!(world.closing.is_empty() && world.engine.health() == Health::Live);
    world.wait(Duration::from_millis(2));
    assert_eq!(world.engine.health(), Health::Suspect);
    assert!(world.engine.take(ticket).is_none(), "a read goes again");
    world.wait(Duration::from_secs(3));
    let failure = world.engine.take(ticket).expect("ended").expect_err("too late");
    assert!(failure.is_timeout());
    assert_eq!(failure.executed(), Executed::Maybe);
}

#[test]
fn requests_that_wait_for_room_keep_their_order() {
    let mut world = World::live(World::plain().queue_requests_max(1));
    let first = world.run(&Request::new("INCR").arg("a"));
    let second = world.run(&Request::new("SET").arg("b").arg("1"));
    let third = world.run(&Request::new("GET").arg("b"));
    assert_eq!(world.engine.status().waiting_requests, 2);
    world.write();
    world.say(":1\r\n");
    let fourth = world.run(&Request::new("GET").arg("c"));
    assert!(world.write().contains("SET"), "the one that came first goes first");
    world.say("+OK\r\n");
    assert!(world.write().contains("$1\r\nb\r\n"));
    world.say("$1\r\n1\r\n");
    world.write();
    world.say("_\r\n");
    assert_eq!(world.value::<i64>(first), 1);
    world.value::<()>(second);
    assert_eq!(world.value::<String>(third), "1");
    assert_eq!(world.value::<Option<String>>(fourth), None);
}

#[test]
fn a_time_limit_longer_than_any_clock_can_hold_is_none() {
    let mut world = World::live(World::plain().retry_schedule(|_| Duration::MAX));
    let endless = Options { deadline: Some(Duration::MAX), ..Options::default() };
    let get = world.run(&Request::new("GET").arg("a").options(endless));
    let refused = world.run(&Request::new("GET").arg("b"));
    world.write();
    world.say("$1\r\nx\r\n-TRYAGAIN later\r\n");
    assert_eq!(world.value::<String>(get), "x");
    assert!(world.engine.take(refused).is_none());
    world.engine.shutdown(Duration::MAX, world.now);
    assert!(!world.engine.is_closed());
    world.engine.shutdown(Duration::ZERO, world.now);
    assert!(world.engine.is_closed(), "who asked for less time has his way");
}

#[test]
fn spans_that_never_end_are_no_trouble() {
    let mut world = World::live(World::plain().retry_schedule(|_| Duration::MAX));
    let options = Options { deadline: Some(Duration::MAX), ..Options::default() };
    let patient = world.run(&Request::new("GET").arg("a").options(options));
    let mut batch = Batch::new().options(options);
    batch.push(&Request::new("GET").arg("b"));
    let (pipeline, _) = world.engine.submit_batch(&batch, None, world.now).expect("room");
    let refused = world.run(&Request::new("GET").arg("c"));
    world.write();
    world.say("$1\r\na\r\n$1\r\nb\r\n-LOADING\r\n");
    assert_eq!(world.value::<String>(patient), "a");
    let outcomes = world.engine.take_batch(pipeline).expect("ended").spread();
    assert!(outcomes.expect("each has its own")[0].is_ok());
    world.wait(Duration::from_secs(6));
    let failure = world.engine.take(refused).expect("ended").expect_err("still loading");
    assert!(failure.is_timeout(), "{failure}");
    world.engine.shutdown(Duration::MAX, world.now);
    world.drain();
    assert_eq!(world.engine.health(), Health::Closed);
}

#[test]
fn what_expires_before_it_was_written_is_never_sent() {
    let mut world = World::live(World::plain());
    let brief = Options { deadline: Some(Duration::from_millis(10)), ..Options::default() };
    let incr = world.run(&Request::new("INCR").arg("a").options(brief));
    let get = world.run(&Request::new("GET").arg("b"));
    world.wait(Duration::from_millis(11));
    let failure = world.engine.take(incr).expect("ended").expect_err("too late");
    assert_eq!(failure.executed(), Executed::No);
    assert_eq!(world.write(), "*2\r\n$3\r\nGET\r\n$1\r\nb\r\n");
    world.say("$1\r\nx\r\n");
    assert_eq!(world.value::<String>(get), "x");
    assert_eq!(world.engine.status().queued_bytes, 0);
}

#[test]
fn what_expires_when_its_first_bytes_are_written_may_be_executed() {
    let mut world = World::live(World::plain());
    let brief = Options { deadline: Some(Duration::from_millis(10)), ..Options::default() };
    let incr = world.run(&Request::new("INCR").arg("a").options(brief));
    let conn = world.conn.expect("connected");
    let chunk = world.engine.take_output(conn).expect("bytes");
    world.engine.written(conn, chunk, 1, world.now);
    world.wait(Duration::from_millis(11));
    let failure = world.engine.take(incr).expect("ended").expect_err("too late");
    assert_eq!(failure.executed(), Executed::Maybe, "the rest of it goes out all the same");
    assert!(world.write().ends_with("INCR\r\n$1\r\na\r\n"));
}

#[test]
fn what_is_with_the_writer_when_its_runtime_is_dropped_may_be_executed() {
    let mut world = World::live(World::plain());
    let incr = world.run(&Request::new("INCR").arg("a"));
    let conn = world.conn.expect("connected");
    let chunk = world.engine.take_output(conn).expect("bytes");
    world.engine.abandon(world.now);
    drop(chunk);
    let failure = world.engine.take(incr).expect("ended").expect_err("no answer");
    assert_eq!(failure.executed(), Executed::Maybe);
}

#[test]
fn a_long_pipeline_that_is_not_taken_is_taken_back_whole() {
    let mut batch = Batch::new();
    for number in 0..100_000 {
        batch.push(&Request::new("MODULE.SET").arg("key").arg(&number));
    }
    let mut world = World::live(World::plain());
    let (ticket, _) = world.engine.submit_batch(&batch, None, world.now).expect("room");
    let conn = world.conn.expect("connected");
    let chunk = world.engine.take_output(conn).expect("bytes");
    world.engine.written(conn, chunk, 100, world.now);
    for _ in 0..5 {
        // The kernel takes a little now and then, so the connection is not given up.
        world.wait(Duration::from_secs(1));
        if let Some(chunk) = world.engine.take_output(conn) {
            world.engine.written(conn, chunk, 1, world.now);
        }
    }
    let outcomes = world.engine.take_batch(ticket).expect("its deadline has passed").spread();
    let outcomes = outcomes.expect("each has its own");
    let failure = outcomes.into_iter().next_back().expect("many").expect_err("not answered");
    assert_eq!((failure.executed(), failure.command()), (Executed::No, "MODULE.SET"));
    assert!(world.engine.unwritten(conn) < 100);
}

#[test]
fn a_schedule_is_asked_when_a_client_is_made_and_not_in_the_middle_of_a_reply() {
    let made = Arc::new(AtomicBool::new(false));
    let seen = made.clone();
    let mut world = World::live(World::plain().retry_schedule(move |attempts| {
        assert!(!seen.load(Ordering::Relaxed), "foreign code while the engine is locked");
        Duration::from_secs(attempts.into())
    }));
    made.store(true, Ordering::Relaxed);
    let ticket = world.run(&Request::new("GET").arg("a"));
    for attempts in [1, 2] {
        assert!(world.write().contains("GET"));
        world.say("-LOADING\r\n");
        world.wait(Duration::from_millis(attempts * 1_000 - 1));
        // It is asked whether it serves by now.
        assert!(world.write().contains("DEL"));
        world.say("-LOADING\r\n");
        assert_eq!(world.engine.status().queued_requests, 1);
        world.wait(Duration::from_millis(1));
    }
    assert!(world.write().contains("GET"));
    world.say("$1\r\na\r\n");
    assert_eq!(world.value::<String>(ticket), "a");
}

#[test]
fn what_was_cancelled_keeps_no_place_once_hardly_anything_else_waits() {
    let mut world = World::live(World::plain());
    world.lose(Cause::Reset);
    let mut pipeline = Batch::new();
    for _ in 0..4 {
        pipeline.push(&Request::new("GET").arg("a"));
    }
    let (cancelled, _) = world.engine.submit_batch(&pipeline, None, world.now).expect("room");
    let limited = Options { deadline: Some(Duration::from_millis(100)), ..Options::default() };
    for _ in 0..10 {
        world.run(&Request::new("GET").arg("b").options(limited));
    }
    world.engine.cancel(cancelled, world.now);
    assert_eq!(world.engine.status().queued_requests, 14, "it would cost a look at each");
    world.wait(Duration::from_millis(100));
    assert_eq!(world.engine.status().queued_requests, 0);
}

#[test]
fn a_sleep_ends_when_its_time_has_come_and_not_before() {
    let mut world = World::live(World::plain());
    let long = world.engine.sleep(Duration::from_secs(60), Some(2), world.now);
    let short = world.engine.sleep(Duration::from_millis(70), Some(1), world.now);
    assert!(world.engine.has_output(), "the adapter has to come back earlier");
    world.drain();
    world.wait(Duration::from_millis(69));
    assert!(world.engine.take_wait(short).is_none());
    world.wait(Duration::from_millis(1));
    let mut woken = Vec::new();
    world.engine.take_ready(&mut woken);
    assert_eq!(woken, [1]);
    assert!(world.engine.take_wait(short).expect("its time has come").is_ok());
    assert!(world.engine.take_wait(long).is_none());
    world.engine.cancel(long, world.now);
    assert_eq!(world.engine.status().tickets, 0);
}

#[test]
fn a_sleep_needs_no_server_and_does_not_outlive_the_client() {
    for config in [World::plain(), Config::memory()] {
        let mut world = World::new(config);
        let short = world.engine.sleep(Duration::from_millis(5), None, world.now);
        let long = world.engine.sleep(Duration::from_secs(60), Some(1), world.now);
        world.drain();
        world.wait(Duration::from_millis(5));
        assert!(world.engine.take_wait(short).expect("its time has come").is_ok());
        world.engine.shutdown(Duration::from_secs(1), world.now);
        world.drain();
        world.wait(Duration::from_secs(1));
        let failure = world.engine.take_wait(long).expect("the client is closed").unwrap_err();
        assert!(matches!(failure.kind(), FailureKind::ClientClosed), "{failure}");
        let late = world.engine.sleep(Duration::from_millis(5), None, world.now);
        let failure = world.engine.take_wait(late).expect("the client is closed").unwrap_err();
        assert!(matches!(failure.kind(), FailureKind::ClientClosed), "{failure}");
        assert_eq!(world.engine.status().tickets, 0);
    }
}
