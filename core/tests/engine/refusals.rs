//! What is refused, by the server or by the client itself: what it is told to be, and what to do instead.

use std::time::Duration;

use unfazed_core::{
    Cause, Config, Executed, Failure, FailureKind, Options, Request,
    engine::{Batch, Lease, Rejected},
    failure::MemoryRefusal,
    fallback::{Fallback, Policy},
};

use super::World;

#[test]
fn a_node_of_a_cluster_behind_the_url_of_a_single_server_is_named_as_the_cause() {
    let mut world = World::live(World::plain());
    let mut transaction = Batch::new();
    transaction.push(&Request::new("GET a"));
    let transaction = transaction.into_transaction();
    for refusal in ["-MOVED 15495 127.0.0.1:7002", "-CROSSSLOT Keys in request don't hash"] {
        let ticket = world.run(&Request::new("INCR").arg("a"));
        let (whole, _) = world.engine.submit_batch(&transaction, None, world.now).expect("room");
        world.write();
        world.say(&format!("{refusal}\r\n+OK\r\n{refusal}\r\n-EXECABORT discarded\r\n"));
        let single = world.engine.take(ticket).expect("ended").expect_err("not here");
        let whole = world.engine.take_batch(whole).expect("ended").spread().expect_err("not here");
        for failure in [single, whole] {
            assert_eq!(failure.executed(), Executed::No);
            assert_eq!(failure.cause(), Some(&Cause::NodeOfCluster));
            assert!(failure.server_error().is_some());
            assert!(failure.to_string().contains("redis+cluster://"), "{failure}");
        }
    }
}

#[test]
fn what_a_server_refuses_before_it_runs_it_was_not_executed() {
    let mut world = World::live(World::plain());
    for refusal in [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Redis is configured to save RDB snapshots",
        "NOPERM User default has no permissions to run the 'incr' command",
        "DENIED Redis is running in protected mode",
        "ERR unknown command 'INCR', with args beginning with: 'a'",
        "ERR wrong number of arguments for 'incr' command",
        "ERR Protocol error: invalid bulk length",
        "ERR Can't execute 'incr': only (P|S)SUBSCRIBE / PING / QUIT are allowed in this context",
    ] {
        let ticket = world.run(&Request::new("INCR").arg("a"));
        world.write();
        world.say(&format!("-{refusal}\r\n"));
        let failure = world.engine.take(ticket).expect("ended").expect_err("refused");
        assert_eq!(failure.executed(), Executed::No, "{failure}");
    }
}

#[test]
fn whoever_waits_for_a_server_that_hangs_is_told_what_it_hangs_at() {
    let limit = Duration::from_secs(2);
    let plain = || World::plain().connect_timeout(limit).deadline(limit / 2);
    for (config, accepts) in [(plain(), false), (plain(), true)] {
        let mut world = World::new(config);
        let connected = world.engine.connect(None, world.now);
        let get = world.run(&Request::new("GET").arg("a"));
        if accepts {
            world.open();
        }
        world.wait(limit / 2);
        let failure = world.engine.take(get).expect("ended").expect_err("no answer");
        assert_eq!(failure.cause(), Some(&Cause::ConnectTimeout), "{failure}");
        world.wait(limit / 2);
        let failure = world.engine.take_wait(connected).expect("ended").expect_err("it hangs");
        assert_eq!(failure.cause(), Some(&Cause::ConnectTimeout), "{failure}");
    }
    let mut world = World::new(Config::standalone("slow.example", 6379).connect_timeout(limit));
    let connected = world.engine.connect(None, world.now);
    world.drain();
    world.wait(limit);
    let failure = world.engine.take_wait(connected).expect("ended").expect_err("no address");
    assert!(failure.to_string().contains("the look-up took too long"), "{failure}");
}

#[test]
fn what_there_is_not_without_a_server_is_refused_with_what_to_use_instead() {
    let mut world = World::new(Config::memory());
    let lease = world.engine.lease(world.now).expect("room");
    let mut ends = |lease: Option<Lease>, command: &str| {
        let request = Request::new(command);
        let submitted = match lease {
            Some(lease) => world.engine.submit_on(lease, &request, None, world.now),
            None => world.engine.submit(&request, None, world.now),
        };
        world.drain();
        match submitted {
            Ok((ticket, _)) => world.engine.take(ticket).expect("ended").expect_err("refused"),
            Err(Rejected::Failed(failure)) => failure,
            Err(other) => panic!("{other:?}"),
        }
    };
    for (lease, command, advice) in [
        (None, "XADD s * f v", "a list (RPUSH, BLMOVE)"),
        (None, "XREAD BLOCK 5 STREAMS s $", "a list (RPUSH, BLMOVE)"),
        (None, "EVAL x 0", "Config::native_script"),
        (None, "GEOADD p 1 1 x", "use a server"),
        (None, "PFADD h x", "a set (SADD, SCARD)"),
        (None, "CONFIG GET x", "use a server"),
        (None, "SELECT 1", "a prefix of its keys"),
        (None, "CLIENT SETNAME x", "leave it out"),
        (Some(lease), "MULTI", "`transaction`"),
    ] {
        let failure = ends(lease, command);
        let shown = failure.to_string();
        assert!(shown.contains("memory://") && shown.contains(advice), "{command}: {failure}");
        let refused = matches!(
            failure.kind(),
            FailureKind::Memory(MemoryRefusal::Embedded(_)) | FailureKind::Misuse(_)
        );
        assert!(refused && !failure.is_unavailable(), "{command}: {failure}");
        assert_eq!(failure.executed(), Executed::No);
    }
    let mut transaction = Batch::new();
    transaction.push(&Request::new("SET a 1"));
    transaction.push(&Request::new("XADD s * f v"));
    let transaction = transaction.into_transaction();
    let (ticket, _) = world.engine.submit_batch(&transaction, None, world.now).expect("room");
    let failure = world.engine.take_batch(ticket).expect("ended").spread().expect_err("refused");
    assert!(failure.to_string().contains("a list (RPUSH, BLMOVE)"), "{failure}");
}

const WRONGPASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";

/// The server ends the connection, and says this to the handshake of the next one.
fn refused_anew(world: &mut World, lost: &[Cause], refusal: &str) {
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    for cause in lost {
        world.lose(cause.clone());
        world.wait(Duration::from_millis(200));
    }
    world.open();
    world.write();
    world.say(&format!("-{refusal}\r\n"));
    world.conn = None;
}

#[test]
fn whoever_meets_a_refused_handshake_is_told_the_same_of_it() {
    // Where it was down before for another reason, that reason is past.
    for lost in [&[Cause::EndOfStream][..], &[Cause::EndOfStream, Cause::Refused]] {
        let config = World::plain()
            .password("old")
            .fallback(Fallback::memory("cache:*", Policy::Invalidate))
            .fallback(Fallback::fail("strict:*"));
        let mut world = World::live(config);
        refused_anew(&mut world, lost, WRONGPASS);
        let limited = Options { deadline: Some(Duration::from_millis(1)), ..Options::default() };
        let late = world.run(&Request::new("GET wallet:a").options(limited));
        let now = ["PUBLISH news hello", "GET strict:a", "SET strict:a 1"];
        let now = now.map(|command| world.run(&Request::new(command)));
        let waits = world.run(&Request::new("INCR wallet:a"));
        let mut failures: Vec<_> = now
            .into_iter()
            .map(|ticket| world.engine.take(ticket).expect("at once").expect_err("refused"))
            .collect();
        for failure in &failures {
            assert!(matches!(failure.kind(), FailureKind::Down(_)), "{failure}");
        }
        world.wait(Duration::from_millis(2));
        failures.push(world.engine.take(late).expect("ended").expect_err("too late"));
        assert!(failures.last().is_some_and(Failure::is_timeout));
        while world.conn.is_none() {
            world.wait(Duration::from_millis(100));
        }
        world.open();
        world.write();
        world.say(&format!("-{WRONGPASS}\r\n"));
        let told = world.engine.take(waits).expect("ended").expect_err("refused");
        assert!(told.server_error().is_some(), "{told}");
        failures.push(told);
        for failure in failures {
            assert!(failure.to_string().contains("WRONGPASS"), "{failure}");
            assert!(!failure.is_unavailable(), "{failure}");
            assert_eq!(failure.executed(), Executed::No);
        }
    }
}

#[test]
fn a_handshake_that_is_refused_for_now_makes_nobody_wrong() {
    for refusal in ["LOADING Redis is loading the dataset", "ERR max number of clients reached"] {
        let config = World::plain().fallback(Fallback::fail("strict:*"));
        let mut world = World::live(config);
        refused_anew(&mut world, &[Cause::EndOfStream, Cause::Refused], refusal);
        let ticket = world.run(&Request::new("GET strict:a"));
        let failure = world.engine.take(ticket).expect("at once").expect_err("it is down");
        assert!(matches!(failure.kind(), FailureKind::Down(_)), "{failure}");
        assert!(failure.is_unavailable(), "{failure}");
    }
}

#[test]
fn whoever_was_signed_out_is_told_what_keeps_the_client_from_signing_in_again() {
    let mut world = World::live(World::plain());
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    let limited = Options { deadline: Some(Duration::from_millis(500)), ..Options::default() };
    world.run(&Request::new("GET a"));
    world.write();
    world.say("-NOAUTH Authentication required.\r\n");
    let ticket = world.run(&Request::new("GET b").options(limited));
    world.lose(Cause::ConnectTimeout);
    world.wait(Duration::from_millis(500));
    let failure = world.engine.take(ticket).expect("ended").expect_err("nobody answers");
    assert_eq!(failure.cause(), Some(&Cause::ConnectTimeout), "{failure}");
    assert!(failure.is_timeout() && failure.is_unavailable(), "{failure}");
}
