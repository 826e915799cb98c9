//! What was written in memory and is owed to the server: how it is paid, and what is not paid twice.

use super::*;

#[test]
fn the_last_state_in_memory_is_written_with_what_is_left_of_its_life() {
    let mut world = world(memory(Policy::ReplayLastWins), &["SET counted 41"]);
    world.run_now::<()>(&Request::new("SET plain 1"));
    world.run_now::<()>(&Request::new("SET mortal 1 PX 60000"));
    world.run_now::<()>(&Request::new("SET short 1 PX 100"));
    world.run_now::<()>(&Request::new("MSET gone 1 plain 2"));
    assert_eq!(world.done("DEL gone"), 1);
    assert_eq!(world.done("INCR counted"), 42);
    assert_eq!(world.refused("INCR unseen"), MemoryRefusal::Unseen);
    let mut peer = Peer::new("one");
    world.return_to(&mut peer);
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    let mortal = peer.heard.remove(1);
    let left: u64 = mortal.strip_prefix("SET mortal 1 PX ").expect(&mortal).parse().expect("ms");
    assert!((50_000..60_000).contains(&left), "{left}");
    assert_eq!(peer.heard, ["SET plain 2", "DEL short", "DEL gone", "SET counted 42"]);
    assert_eq!(world.told("with the same data"), 1, "{:?}", world.events);
}

#[test]
fn a_life_that_nobody_here_knows_is_left_as_it_is() {
    let mut world = world(memory(Policy::ReplayLastWins), &[]);
    // A GET says nothing of it.
    let mut peer = Peer::new("one");
    world.return_to(&mut peer);
    let get = world.run(&Request::new("GET a"));
    world.write();
    world.say("$1\r\n5\r\n");
    world.value::<i64>(get);
    world.fall();
    assert_eq!(world.done("INCR a"), 6);
    assert_eq!(world.refused("TTL a"), MemoryRefusal::Unseen);
    assert_eq!(world.refused("EXPIRE a 10 NX"), MemoryRefusal::Unseen);
    world.wait(Duration::from_secs(400));
    assert_eq!(world.read("GET a").0.as_deref(), Some("6"), "what was written does not grow old");
    let mut peer = Peer::new("one").saying("PTTL", ":7000\r\n");
    world.return_to(&mut peer);
    assert_eq!(peer.heard, ["PTTL a", "SET a 6 PX 7000"]);
}

#[test]
fn net_effects_are_added_and_whole_values_replace() {
    let mut world = world(memory(Policy::MergeDelta), &["SET seen 10"]);
    assert_eq!(world.done("INCRBY seen 5"), 15);
    assert_eq!(world.done("INCR unseen"), 1);
    assert_eq!(world.done("DECRBY unseen 3"), -2);
    assert_eq!(world.done("APPEND log ab"), 2);
    assert_eq!(world.done("APPEND log c"), 3);
    assert_eq!(world.done("EXPIRE unseen 100"), 1);
    world.run_now::<()>(&Request::new("SET base 7"));
    assert_eq!(world.done("INCR base"), 8);
    assert_eq!(world.done("SETRANGE base 1 x"), 2, "the whole value is the client's own");
    for (refused, why) in [
        ("SETRANGE unseen 0 x", MemoryRefusal::Unmergeable),
        ("GETSET other 1", MemoryRefusal::Unseen),
        ("RENAME unseen other", MemoryRefusal::Unmergeable),
        ("COPY seen other REPLACE", MemoryRefusal::Unmergeable),
        ("APPEND unseen x", MemoryRefusal::Unmergeable),
        ("EXPIRE other 1", MemoryRefusal::Unseen),
    ] {
        assert_eq!(world.refused(refused), why, "{refused}");
    }
    assert_eq!(world.done("DEL seen"), 1);
    assert_eq!(world.done("INCR seen"), 1);
    let mut peer = Peer::new("one");
    world.return_to(&mut peer);
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    let pexpire = peer.heard.remove(3);
    assert!(pexpire.starts_with("PEXPIRE unseen 9"), "{pexpire}");
    let expected =
        ["SET seen 1", "MULTI", "INCRBY unseen -2", "EXEC", "APPEND log abc", "SET base 8x"];
    assert_eq!(peer.heard, expected);
}

#[test]
fn a_sum_beyond_64_bits_is_refused_as_by_a_server() {
    let mut world = world(memory(Policy::MergeDelta), &["SET a -5"]);
    assert_eq!(world.done("INCRBY a 9223372036854775807"), i64::MAX - 5);
    // The value has room for five more, the sum that is owed has none.
    let ticket = world.run(&Request::new("INCR a"));
    let failure = world.engine.take(ticket).expect("at once").expect_err("no such sum");
    assert!(failure.to_string().contains("would overflow"), "{failure}");
    assert_eq!(world.read("GET a").0, Some((i64::MAX - 5).to_string()));
    let mut peer = Peer::new("one");
    world.return_to(&mut peer);
    assert_eq!(peer.heard, ["INCRBY a 9223372036854775807"]);
}

#[test]
fn what_was_added_to_a_value_that_nobody_has_seen_is_not_said_to_be_all_there_is() {
    let mut world = world(memory(Policy::MergeDelta), &["SET seen 10"]);
    assert_eq!(
        (world.done("INCR seen"), world.done("INCR new"), world.done("INCR new")),
        (11, 1, 2)
    );
    assert_eq!(world.read("GET seen"), (Some("11".into()), Source::Overlay));
    assert_eq!(world.read("GET new"), (Some("2".into()), Source::Unknown));
    // What replaces it is all there is.
    world.run_now::<()>(&Request::new("SET new 7"));
    assert_eq!(world.done("INCR new"), 8);
    assert_eq!(world.read("GET new"), (Some("8".into()), Source::Overlay));
    assert_eq!(world.done("INCR gone"), 1);
    assert_eq!(world.done("DEL gone"), 1);
    assert_eq!(world.read("GET gone"), (None, Source::Overlay));
    let mut world = self::world(memory(Policy::Invalidate), &[]);
    assert_eq!(world.done("INCR new"), 1, "taken for absent, and deleted in the end");
    assert_eq!(world.read("GET new"), (Some("1".into()), Source::Overlay));
}

#[test]
fn a_merge_that_got_no_answer_is_never_sent_again() {
    let mut world = world(memory(Policy::MergeDelta), &[]);
    assert_eq!(world.done("INCR a"), 1);
    assert_eq!(world.done("INCR b"), 1);
    world.run_now::<()>(&Request::new("SET c 1"));
    world.dial();
    let mut peer =
        Peer::new("one").saying("INCRBY a", "").saying("INCRBY b", "").saying("SET c", "");
    while peer.heard.is_empty() {
        world.wait(Duration::from_millis(10));
        peer.serve(&mut world);
    }
    assert_eq!(peer.heard, ["INCRBY a 1", "INCRBY b 1", "SET c 1"]);
    world.lose(Cause::Reset);
    assert_eq!(world.told("2 keys may have been added"), 1, "{:?}", world.events);
    assert_eq!(world.engine.status().journal_entries, 1);
    assert_eq!(world.done("INCR a"), 2, "memory goes on with what it has");
    let mut peer = Peer::new("one");
    world.return_to(&mut peer);
    assert_eq!(peer.heard, ["SET c 1", "INCRBY a 1"]);
    assert_eq!(world.engine.health(), Health::Live);
}

#[test]
fn a_merge_of_which_a_byte_is_missing_goes_again() {
    let mut world = world(memory(Policy::MergeDelta), &[]);
    assert_eq!(world.done("INCR a"), 1);
    assert_eq!(world.done("EXPIRE a 100"), 1);
    world.dial();
    let mut peer = Peer::new("one");
    loop {
        world.wait(Duration::from_millis(10));
        let conn = world.conn.expect("connected");
        let Some(chunk) = world.engine.take_output(conn) else { continue };
        let bytes = chunk.unwritten().to_vec();
        let last = String::from_utf8_lossy(&bytes).contains("EXEC");
        let count = bytes.len() - usize::from(last);
        world.engine.written(conn, chunk, count, world.now);
        if last {
            break;
        }
        world.sent = bytes;
        peer.serve(&mut world);
    }
    world.lose(Cause::Reset);
    assert_eq!(world.told("may have been added"), 0);
    assert_eq!(world.engine.status().journal_entries, 1);
    let mut peer = Peer::new("one");
    world.return_to(&mut peer);
    assert_eq!(peer.heard[..2], ["MULTI", "INCRBY a 1"]);
}

#[test]
fn a_merge_on_a_connection_that_is_given_up_is_settled_by_its_answer() {
    let mut world = world([Fallback::memory("n:*", Policy::MergeDelta)], &[]);
    assert_eq!(world.done("INCR n:a"), 1);
    world.dial();
    let mut peer = Peer::new("one").saying("GET wallet", "").saying("INCRBY n:a", "");
    while world.engine.health() != Health::Recovering {
        world.wait(Duration::from_millis(10));
        peer.serve(&mut world);
    }
    // What is asked before the merge goes out is answered while that is on its way.
    let wallet = world.run(&Request::new("GET wallet"));
    while peer.heard.len() < 2 {
        world.wait(Duration::from_millis(10));
        peer.serve(&mut world);
    }
    let old = world.conn.expect("connected");
    world.say("-NOAUTH Authentication required.\r\n");
    assert_eq!(world.engine.health(), Health::Degraded);
    assert_eq!(world.engine.status().journal_entries, 1);
    let behind = world.run(&Request::new("INCR n:a"));
    assert!(world.engine.take(behind).is_none(), "what is on its way is not added to");
    assert_eq!(world.read("GET n:a").0.as_deref(), Some("1"));
    world.engine.received(old, &mut BytesMut::from(":6\r\n"), world.now);
    world.drain();
    assert_eq!(world.value::<i64>(behind), 1, "the server's value is not known");
    assert!(world.engine.is_pending(wallet));
    peer.heard.clear();
    world.dial();
    peer.recover(&mut world);
    assert_eq!(peer.heard, ["GET wallet", "INCRBY n:a 1"]);
}

#[test]
fn members_are_merged_one_by_one() {
    let mut world = world(memory(Policy::MergeDelta), &[]);
    assert_eq!(world.done("HSET h f 1 g 2"), 2);
    assert_eq!(world.done("HINCRBY h n 5"), 5);
    assert_eq!(world.done("HINCRBY h g 1"), 3);
    assert_eq!(world.done("HDEL h f x"), 1);
    assert_eq!(world.done("SADD s a b"), 2);
    assert_eq!(world.done("SREM s a"), 1);
    assert_eq!(world.done("ZADD z 1 a"), 1);
    let _: f64 = world.run_now(&Request::new("ZINCRBY z 2.5 b"));
    assert_eq!(world.done("RPUSH l a b"), 2);
    assert_eq!(world.done("LPUSH l c"), 3);
    assert_eq!(world.refused("LPOP l"), MemoryRefusal::Unmergeable);
    assert_eq!(world.refused("HSETNX other f 1"), MemoryRefusal::Unsafe);
    assert_eq!(world.done("DEL l"), 1);
    assert_eq!(world.done("RPUSH l x y"), 2);
    assert_eq!(world.read("LPOP l").0.as_deref(), Some("x"), "the whole list is the client's own");
    let mut peer = Peer::new("one");
    world.return_to(&mut peer);
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    let mut expected = vec!["MULTI", "HINCRBY h n 5", "HSET h g 3", "HDEL h f x", "EXEC"];
    expected.extend(["MULTI", "SADD s b", "SREM s a", "EXEC"]);
    expected.extend(["MULTI", "ZINCRBY z 2.5 b", "ZADD z 1 a", "EXEC"]);
    expected.extend(["MULTI", "DEL l", "RPUSH l y", "EXEC"]);
    assert_eq!(peer.heard, expected);
}

#[test]
fn a_collection_is_replaced_in_one_transaction() {
    let mut world = world(memory(Policy::ReplayLastWins), &[]);
    let mut peer = Peer::new("one");
    world.return_to(&mut peer);
    for (command, answer) in [
        ("HGETALL h", "%1\r\n$1\r\nf\r\n$1\r\n1\r\n"),
        ("LRANGE l 0 -1", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ("SMEMBERS s", "~1\r\n$1\r\na\r\n"),
        ("ZRANGE z 0 -1 WITHSCORES", "*1\r\n*2\r\n$1\r\na\r\n,1.5\r\n"),
    ] {
        let ticket = world.run(&Request::new(command));
        world.write();
        world.say(answer);
        assert!(world.engine.take(ticket).expect("ended").is_ok());
    }
    assert_eq!(world.engine.status().shadow_entries, 4);
    world.fall();
    assert_eq!(world.done("HSET h g 2"), 1);
    assert_eq!(world.refused("HTTL h FIELDS 1 f"), MemoryRefusal::Unseen);
    let _: Vec<i64> = world.run_now(&Request::new("HPEXPIRE h 60000 FIELDS 1 g"));
    assert_eq!(world.read("LPOP l").0.as_deref(), Some("a"));
    assert_eq!(world.done("SREM s a"), 1);
    assert_eq!(world.done("ZADD z 2 b"), 1);
    let (cursor, members): (u64, Vec<String>) = world.run_now(&Request::new("ZSCAN z 7 COUNT 1"));
    assert_eq!((cursor, members.len()), (0, 4), "all of it, whatever the cursor");
    let mut peer = Peer::new("one")
        .saying("PTTL h", ":-1\r\n")
        .saying("PTTL l", ":5000\r\n")
        .saying("PTTL z", ":-1\r\n");
    world.return_to(&mut peer);
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    let pexpire = peer.heard.iter().position(|line| line.starts_with("HPEXPIRE h 5"));
    assert!(peer.heard.remove(pexpire.expect("what is left")).ends_with(" FIELDS 1 g"));
    let mut expected = vec!["PTTL h", "PTTL l", "DEL s", "PTTL z"];
    expected.extend(["MULTI", "DEL h", "HSET h f 1 g 2", "EXEC"]);
    expected.extend(["MULTI", "DEL l", "RPUSH l b", "PEXPIRE l 5000", "EXEC"]);
    expected.extend(["MULTI", "DEL z", "ZADD z 1.5 a 2 b", "EXEC"]);
    assert_eq!(peer.heard, expected);
}

#[test]
fn an_error_that_would_come_again_ends_one_keys_debt_and_the_rest_is_paid() {
    let mut world = world(memory(Policy::Invalidate), &[]);
    for key in ["a", "b", "c"] {
        world.run_now::<()>(&Request::new("SET").arg(key).arg("1"));
    }
    let mut peer = Peer::new("one")
        .saying("DEL a", "-NOPERM this user has no permissions\r\n")
        .saying("DEL b", "-NOPERM this user has no permissions\r\n");
    world.return_to(&mut peer);
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    assert_eq!(peer.heard, ["DEL a", "DEL b", "DEL c"]);
    assert_eq!(world.told("refused DEL for 2 keys"), 1, "{:?}", world.events);
    assert_eq!(world.told("NOPERM"), 1);
}

#[test]
fn a_server_that_cannot_serve_now_is_owed_all_that_it_did_not_take() {
    for refusal in [
        "-LOADING not yet\r\n",
        "-READONLY a replica\r\n",
        "-MISCONF can't save\r\n",
        "-OOM no memory\r\n",
        "-NOREPLICAS none\r\n",
        "-MASTERDOWN none\r\n",
    ] {
        let mut world = world(memory(Policy::ReplayLastWins), &[]);
        world.run_now::<()>(&Request::new("SET a 1"));
        world.run_now::<()>(&Request::new("SET b 1"));
        world.dial();
        let mut peer = Peer::new("one").saying("SET b", refusal);
        while peer.heard.is_empty() {
            world.wait(Duration::from_millis(10));
            peer.serve(&mut world);
        }
        assert_eq!(world.engine.health(), Health::Degraded, "{refusal}");
        assert_eq!(world.engine.status().journal_entries, 1, "{refusal}");
        assert_eq!(world.read("GET b").0.as_deref(), Some("1"));
        peer.recover(&mut world);
        assert_eq!(world.engine.health(), Health::Live, "{refusal}");
        assert_eq!(peer.heard, ["SET a 1", "SET b 1", "SET b 1"], "{refusal}");
    }
}

#[test]
fn a_server_that_refuses_somebody_while_it_is_paid_is_not_asked_again_and_again() {
    let mut world = world(memory(Policy::Invalidate), &[]);
    // More than go out in one piece.
    for at in 0..300 {
        world.run_now::<()>(&Request::new("SET").arg(&at).arg("1"));
    }
    world.dial();
    let mut peer = Peer::new("one");
    while peer.heard.is_empty() {
        world.wait(Duration::from_millis(5));
        peer.serve(&mut world);
    }
    assert_eq!(world.engine.health(), Health::Recovering);
    let set = world.run(&Request::new("SET").arg("new").arg("1"));
    let held = world.run(&Request::new("SET").arg(&299).arg("2"));
    assert_eq!(commands(&world.write()), ["SET new 1"]);
    world.say("-NOREPLICAS none\r\n");
    world.wait(Duration::ZERO);
    assert_eq!(world.engine.health(), Health::Degraded);
    assert_eq!(world.write(), "");
    world.value::<()>(set);
    world.value::<()>(held);
    assert_eq!(world.read("GET new"), (Some("1".into()), Source::Overlay));
    assert_eq!(world.read("GET 299"), (Some("2".into()), Source::Overlay));
    peer.recover(&mut world);
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    assert_eq!(world.engine.status().journal_entries, 0);
}

#[test]
fn a_key_that_fails_without_a_server_is_the_servers_while_others_are_paid() {
    let rules = [Fallback::fail("strict:*"), Fallback::memory("*", Policy::Invalidate)];
    let mut world = world(rules, &[]);
    for at in 0..300 {
        world.run_now::<()>(&Request::new("SET").arg(&at).arg("1"));
    }
    world.dial();
    let mut peer = Peer::new("one");
    while peer.heard.is_empty() {
        world.wait(Duration::from_millis(5));
        if world.engine.health() == Health::Degraded {
            let get = world.run(&Request::new("GET").arg("strict:a"));
            assert!(world.engine.take(get).expect("at once").is_err(), "it is not trusted yet");
        }
        peer.serve(&mut world);
    }
    assert_eq!(world.engine.health(), Health::Recovering);
    let by = world.engine.status().patterns[0].answered_by;
    assert_eq!(by, Some(unfazed_core::engine::AnsweredBy::Server));
    let get = world.run(&Request::new("GET").arg("strict:a"));
    // One of its keys is not paid yet.
    let both = world.run(&Request::new("MGET").arg("strict:a").arg(&299));
    assert_eq!(commands(&world.write()), ["GET strict:a"]);
    world.say("$1\r\nv\r\n");
    assert_eq!(world.value::<String>(get), "v");
    peer = peer.saying("MGET", "*2\r\n$1\r\nv\r\n_\r\n");
    peer.recover(&mut world);
    let both: (Option<String>, Option<String>) = world.value(both);
    assert_eq!(both, (Some("v".into()), None));
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
}

#[test]
fn a_transaction_that_was_discarded_is_owed_still_and_one_that_failed_inside_is_not() {
    let mut world = world(memory(Policy::MergeDelta), &[]);
    for key in ["a", "b"] {
        assert_eq!(world.run_now::<i64>(&Request::new("INCR").arg(key)), 1);
        assert_eq!(world.run_now::<i64>(&Request::new("EXPIRE").arg(key).arg("100")), 1);
    }
    let wrong = "*2\r\n-WRONGTYPE no number\r\n:1\r\n";
    let discarded = "-EXECABORT Transaction discarded because of: OOM no memory\r\n";
    let mut peer = Peer::new("one").saying("EXEC", wrong).saying("EXEC", discarded);
    world.return_to(&mut peer);
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    let starts: Vec<_> = peer.heard.iter().filter(|line| line.starts_with("INCRBY")).collect();
    assert_eq!(starts, ["INCRBY a 1", "INCRBY b 1", "INCRBY b 1"]);
    assert_eq!(world.told("refused INCRBY for 1 keys"), 1, "{:?}", world.events);
}

#[test]
fn what_may_have_been_added_and_is_given_up_is_not_remembered_either() {
    let mut world = world(memory(Policy::MergeDelta), &["SET a 1"]);
    assert_eq!(world.run_now::<i64>(&Request::new("INCR").arg("a")), 2);
    let mut peer = Peer::new("one").saying("INCRBY a", "-IOERR error or timeout writing\r\n");
    world.return_to(&mut peer);
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    assert_eq!(world.told("is not sent again"), 1, "{:?}", world.events);
    // The server answers for it from now on, and memory forgets what it had made of it.
    assert_eq!(world.engine.status().overlay_entries, 0);
    world.fall();
    assert_eq!(world.read("GET a"), (None, Source::Unknown));
}

#[test]
fn where_nobody_knows_the_data_only_what_is_there_is_added_to() {
    let mut world = world(memory(Policy::MergeDelta), &["SET a 1"]);
    for key in ["a", "b", "c"] {
        world.run_now::<i64>(&Request::new("INCR").arg(key));
    }
    world.run_now::<()>(&Request::new("SET d 1"));
    let mut peer = Peer::new("two").saying("EXISTS b", ":0\r\n").saying("EXISTS c", ":0\r\n");
    world.return_to(&mut peer);
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    let expected = ["EXISTS a", "EXISTS b", "EXISTS c", "SET d 1", "INCRBY a 1"];
    assert_eq!(peer.heard, expected);
    assert_eq!(world.told("2 keys that were added to in memory"), 1, "{:?}", world.events);
    assert_eq!(world.told("another data set"), 1, "{:?}", world.events);
}

#[test]
fn a_mixed_write_is_neither_undone_by_what_was_before_nor_undoes_what_comes_after() {
    for policy in [Policy::Invalidate, Policy::ReplayLastWins, Policy::MergeDelta] {
        let mut world = world([Fallback::memory("cache:*", policy)], &[]);
        world.run_now::<()>(&Request::new("SET cache:a before"));
        let mixed = world.run(&Request::new("MSET cache:a mixed wallet:a 1"));
        let after = world.run(&Request::new("DEL cache:a"));
        let other = world.run(&Request::new("SET cache:b 1"));
        assert!(world.engine.take(after).is_none(), "it waits for what is older");
        assert_eq!(world.read("GET cache:a").0.as_deref(), Some("before"));
        world.value::<()>(other);
        let mut peer = Peer::new("one");
        world.return_to(&mut peer);
        world.value::<()>(mixed);
        assert_eq!(world.value::<i64>(after), 1);
        let at = |start: &str| peer.heard.iter().position(|line| line.starts_with(start));
        let first = if policy == Policy::Invalidate { "DEL cache:a" } else { "SET cache:a" };
        assert!(at(first) < at("MSET"), "{policy:?}: {:?}", peer.heard);
        let last = peer.heard.iter().rposition(|line| line == "DEL cache:a");
        assert!(at("MSET") < last, "{policy:?}: {:?}", peer.heard);
        assert_eq!(world.engine.status().journal_entries, 0);
    }
}

#[test]
fn a_mixed_write_that_nobody_waits_for_any_more_lets_others_go_on() {
    let mut world = world([Fallback::memory("cache:*", Policy::Invalidate)], &[]);
    let brief = Options { deadline: Some(Duration::from_millis(100)), ..Options::default() };
    let mixed = world.run(&Request::new("MSET cache:a 1 wallet:a 1").options(brief));
    let behind = world.run(&Request::new("SET cache:a 2"));
    assert!(world.engine.take(behind).is_none());
    world.wait(Duration::from_millis(101));
    let failure = world.engine.take(mixed).expect("ended").expect_err("nobody came");
    assert_eq!(failure.executed(), Executed::No);
    world.value::<()>(behind);
    let mixed = world.run(&Request::new("MSET cache:a 1 wallet:a 1"));
    let behind = world.run(&Request::new("SET cache:a 2"));
    world.engine.cancel(mixed, world.now);
    world.drain();
    world.value::<()>(behind);
}

#[test]
fn what_may_have_been_done_is_taken_over_only_to_be_deleted() {
    let rules = [
        Fallback::memory("cache:*", Policy::Invalidate),
        Fallback::memory("n:*", Policy::MergeDelta),
        Fallback::memory("s:*", Policy::ReplayLastWins),
        Fallback::stale_reads("r:*", Duration::from_secs(60)),
    ];
    let mut world = World::live(rules.into_iter().fold(World::plain(), Config::fallback));
    for command in ["SET n:a 5", "SET s:a 5", "SET r:a 5"] {
        let ticket = world.run(&Request::new(command));
        world.write();
        world.say("+OK\r\n");
        world.value::<()>(ticket);
    }
    let cache = world.run(&Request::new("INCR cache:a"));
    let sum = world.run(&Request::new("INCR n:a"));
    let state = world.run(&Request::new("SET s:a 6"));
    let read = world.run(&Request::new("GET r:a"));
    world.write();
    world.fall();
    assert_eq!(world.value::<i64>(cache), 1);
    assert_eq!(world.value::<i64>(read), 5);
    for ticket in [sum, state] {
        let failure = world.engine.take(ticket).expect("ended").expect_err("maybe");
        assert_eq!(failure.executed(), Executed::Maybe, "{failure}");
    }
    assert_eq!(world.read("GET n:a"), (None, Source::Unknown), "nobody knows what it is now");
    let mut peer = Peer::new("one");
    world.return_to(&mut peer);
    assert_eq!(peer.heard, ["DEL cache:a"]);
}
