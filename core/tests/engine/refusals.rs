//! What is refused, by the server or by the client itself: what it is told to be, and what to do instead.

use std::time::Duration;

use unfazed_core::{
    Cause, Config, Executed, FailureKind, Request,
    engine::{Batch, Lease, Rejected},
    failure::MemoryRefusal,
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
