//! While the server is down: who answers, how old that may be, and what becomes of commands that are
//! about several patterns, or on their way.

use std::{
    thread,
    time::{Duration, Instant},
};

use unfazed_core::{
    Config, Failure,
    commands::prelude::*,
    engine::{Event, Health},
    failure::{Executed, FailureKind, MemoryRefusal},
    fallback::{Fallback, Policy},
    handle::{Pipelines, Views},
    reply::Sourced,
    resp::Source,
};
use unfazed_tests::{Fault, Proxy, Raw, Server as TestServer, Way, eventually};

use crate::{
    adapters::{Adapter, scenarios, spawn},
    support::{
        Changes, LIMIT, check_get, contents, cut, every_policy, failure, get, mend, quick,
        raw_value, refusal, until_health,
    },
};

scenarios! {
    each_answer_says_who_gave_it,
    stale_reads_make_nothing_up,
    what_is_too_old_is_not_served,
    a_value_is_as_old_as_the_answer_that_told_it,
    a_pipeline_across_the_trip_has_an_outcome_for_each_of_its_commands,
    a_pipeline_in_memory_is_answered_command_by_command,
    a_command_of_several_patterns_is_as_careful_as_the_strictest,
    what_was_sent_and_not_answered_is_neither_merged_nor_replayed,
}

/// Every policy, and every mode.
fn every_mode(config: Config) -> Config {
    every_policy(config)
        .fallback(Fallback::stale_reads("stale:*", LIMIT * 10))
        .fallback(Fallback::miss("miss:*"))
        .fallback(Fallback::fail("strict:*"))
}

fn each_answer_says_who_gave_it<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    witness.ok(&["MSET", "cache:never", "there", "wallet:k", "w"]);
    let proxy = Proxy::start(server.port());
    let client = A::connect(every_mode(quick(proxy.port()))).expect("there is a server");
    let set = |key: &str, value: &str| A::wait(client.sourced().set(key, value)).map(|s| s.source);
    for key in ["cache:a", "cache:b", "stale:k", "miss:k"] {
        assert_eq!(set(key, "5").expect("a plain SET"), Source::Server, "{key}");
        check_get::<A>(&client, key, Some("5"), Source::Server);
    }
    cut::<A>(&proxy, &client);
    let many = |keys: [&str; 2]| {
        let read: Sourced<Vec<Option<String>>> =
            A::wait(client.sourced().mget(keys)).expect("answered");
        read.source
    };
    check_get::<A>(&client, "cache:a", Some("5"), Source::Shadow);
    check_get::<A>(&client, "stale:k", Some("5"), Source::Shadow);
    check_get::<A>(&client, "cache:never", None, Source::Unknown);
    check_get::<A>(&client, "miss:k", None, Source::Unknown);
    assert_eq!(many(["cache:a", "cache:b"]), Source::Shadow);
    assert_eq!(many(["cache:a", "cache:never"]), Source::Unknown);
    assert_eq!(set("cache:a", "6").expect("in memory"), Source::Overlay);
    check_get::<A>(&client, "cache:a", Some("6"), Source::Overlay);
    assert_eq!(many(["cache:a", "cache:b"]), Source::Shadow);
    assert_eq!(many(["cache:a", "cache:never"]), Source::Unknown);
    // What an answer was worked out from is said of it too.
    let counted = A::wait(client.sourced().incr("cache:b")).expect("in memory");
    assert_eq!((counted.value, counted.source), (6, Source::Shadow));
    let counted = A::wait(client.sourced().incr("cache:b")).expect("in memory");
    assert_eq!((counted.value, counted.source), (7, Source::Overlay));
    let counted = A::wait(client.sourced().incr("cache:never")).expect("in memory");
    assert_eq!((counted.value, counted.source), (1, Source::Unknown));
    assert_eq!(A::wait(client.del("cache:a")).expect("in memory"), 1);
    check_get::<A>(&client, "cache:a", None, Source::Overlay);
    let status = A::status(&client);
    let answers = (status.answers_shadow, status.answers_overlay, status.answers_unknown);
    assert_eq!(answers, (5, 5, 5));

    mend::<A>(&proxy, &client);
    for key in ["cache:a", "cache:b", "cache:never", "miss:never"] {
        check_get::<A>(&client, key, None, Source::Server);
    }
    for key in ["stale:k", "miss:k"] {
        check_get::<A>(&client, key, Some("5"), Source::Server);
    }
    check_get::<A>(&client, "wallet:k", Some("w"), Source::Server);
}

fn stale_reads_make_nothing_up<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    witness.ok(&["MSET", "stale:a", "1", "stale:b", "2", "stale:never", "3", "stale:counter", "5"]);
    witness.int(&["HSET", "stale:hash", "f", "v", "g", "w"]);
    let proxy = Proxy::start(server.port());
    let client = A::connect(every_mode(quick(proxy.port()))).expect("there is a server");
    let both: Vec<String> = A::wait(client.mget(["stale:a", "stale:b"])).expect("a plain MGET");
    assert_eq!(both, ["1", "2"]);
    // A part of a value is not the value.
    let part: Option<String> = A::wait(client.hget("stale:hash", "f")).expect("a plain HGET");
    assert_eq!(part.as_deref(), Some("v"));
    let absent: Option<String> = A::wait(client.get("stale:absent")).expect("a plain GET");
    assert_eq!(absent, None);
    cut::<A>(&proxy, &client);
    check_get::<A>(&client, "stale:a", Some("1"), Source::Shadow);
    assert_eq!(A::wait(client.strlen("stale:b")).expect("of what is known"), 1);
    for unknown in ["stale:never", "stale:absent", "stale:hash"] {
        let read = A::wait(client.exists(unknown));
        assert_eq!(refusal(read), MemoryRefusal::NotRemembered, "{unknown}");
    }
    let both = A::wait(client.mget::<Vec<Option<String>>>(["stale:a", "stale:never"]));
    assert_eq!(refusal(both), MemoryRefusal::NotRemembered);
    assert_eq!(refusal(A::wait(client.set("stale:a", 1))), MemoryRefusal::ReadOnly);
    assert_eq!(refusal(A::wait(client.incr("stale:counter"))), MemoryRefusal::ReadOnly);
    assert_eq!(refusal(A::wait(client.del("stale:a"))), MemoryRefusal::ReadOnly);
    // One that may not be written makes the whole command one that may not.
    let pairs = [("stale:a", "9"), ("cache:a", "9")];
    assert_eq!(refusal(A::wait(client.mset(pairs))), MemoryRefusal::ReadOnly);
    check_get::<A>(&client, "stale:a", Some("1"), Source::Shadow);
    check_get::<A>(&client, "cache:a", None, Source::Unknown);
    assert_eq!(A::status(&client).journal_entries, 0);
    witness.ok(&["SET", "stale:a", "theirs"]);
    mend::<A>(&proxy, &client);
    check_get::<A>(&client, "stale:a", Some("theirs"), Source::Server);
    check_get::<A>(&client, "stale:never", Some("3"), Source::Server);
}

/// The age of the rules below: short, and long enough for a look at what is not too old yet.
const AGE: Duration = Duration::from_millis(1_500);

fn short_lived(config: Config) -> Config {
    config
        .fallback(Fallback::memory("cache:*", Policy::Invalidate).max_age(AGE))
        .fallback(Fallback::memory("session:*", Policy::ReplayLastWins).max_age(AGE))
        .fallback(Fallback::memory("count:*", Policy::MergeDelta).max_age(AGE))
        .fallback(Fallback::stale_reads("stale:*", AGE))
}

fn what_is_too_old_is_not_served<A: Adapter>() {
    const KEYS: [&str; 4] = ["cache:k", "session:k", "count:k", "stale:k"];
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    witness.ok(&["MSET", "cache:k", "5", "session:k", "5", "count:k", "5", "stale:k", "5"]);
    witness.ok(&["SET", "session:mine", "5"]);
    let proxy = Proxy::start(server.port());
    let client = A::connect(short_lived(quick(proxy.port()))).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    // A machine that is busy elsewhere may take longer than that to look.
    eventually("a look in time", LIMIT, || {
        let read = Instant::now();
        for key in KEYS.into_iter().chain(["session:mine"]) {
            check_get::<A>(&client, key, Some("5"), Source::Server);
        }
        cut::<A>(&proxy, &client);
        let looks = KEYS.map(|key| get::<A>(&client, key));
        if read.elapsed() >= AGE {
            mend::<A>(&proxy, &client);
            return None;
        }
        for (key, look) in KEYS.iter().zip(looks) {
            let look = look.expect("not too old");
            assert_eq!((look.value.as_deref(), look.source), (Some("5"), Source::Shadow), "{key}");
        }
        Some(())
    });
    A::wait(client.set("session:mine", "6")).expect("in memory");
    thread::sleep(AGE);
    for key in ["cache:k", "session:k", "count:k"] {
        check_get::<A>(&client, key, None, Source::Unknown);
    }
    assert_eq!(refusal(get::<A>(&client, "stale:k")), MemoryRefusal::TooOld);
    assert_eq!(refusal(A::wait(client.incr("session:k"))), MemoryRefusal::TooOld);
    // A sum is added to whatever is there, known or not.
    assert_eq!(A::wait(client.incr("count:k")).expect("in memory"), 1);
    // What is the client's own does not grow old.
    check_get::<A>(&client, "session:mine", Some("6"), Source::Overlay);
    changes.expect_some(1, |event| matches!(event, Event::TooOld { .. }));
    mend::<A>(&proxy, &client);
    assert_eq!(witness.get("count:k").as_deref(), Some("6"));
    assert_eq!(witness.get("session:mine").as_deref(), Some("6"));
    check_get::<A>(&client, "stale:k", Some("5"), Source::Server);
}

fn a_value_is_as_old_as_the_answer_that_told_it<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    witness.ok(&["MSET", "stale:once", "5", "stale:again", "5"]);
    let proxy = Proxy::start(server.port());
    let client = A::connect(short_lived(quick(proxy.port()))).expect("there is a server");
    check_get::<A>(&client, "stale:once", Some("5"), Source::Server);
    thread::sleep(AGE);
    eventually("a look in time", LIMIT, || {
        let read = Instant::now();
        check_get::<A>(&client, "stale:again", Some("5"), Source::Server);
        cut::<A>(&proxy, &client);
        // The outage is young, and what is remembered of this one is not.
        assert_eq!(refusal(get::<A>(&client, "stale:once")), MemoryRefusal::TooOld);
        let look = get::<A>(&client, "stale:again");
        if read.elapsed() >= AGE {
            mend::<A>(&proxy, &client);
            return None;
        }
        assert_eq!(look.expect("not too old").source, Source::Shadow);
        Some(())
    });
}

fn a_pipeline_across_the_trip_has_an_outcome_for_each_of_its_commands<A: Adapter>() {
    let server = TestServer::start();
    let config = every_mode(quick(server.port())).deadline(LIMIT);
    let client = A::connect(config).expect("there is a server");
    for key in ["cache:k", "session:k", "count:k", "discard:k", "stale:k", "wallet:k", "strict:k"] {
        A::wait(client.set(key, 5)).expect("a plain SET");
    }
    server.stop();
    let sent = client.clone();
    let sent = spawn::<A, _>(async move {
        A::gathered(sent.pipeline_each(|p| {
            let reads = (
                p.sourced().get::<i64>("cache:k"),
                p.sourced().get::<i64>("stale:k"),
                p.sourced().get::<i64>("miss:k"),
                p.get::<i64>("strict:k"),
                p.sourced().get::<i64>("wallet:k"),
            );
            let writes = (
                p.sourced().incr("cache:k"),
                p.sourced().get::<i64>("cache:k"),
                p.incr("session:k"),
                p.incr("count:k"),
                p.incr("discard:k"),
                p.incr("stale:n"),
                p.incr("strict:k"),
                p.incr("wallet:k"),
            );
            (reads, writes)
        }))
        .await
    });
    until_health::<A>(&client, Health::Degraded);
    server.cont();
    let (reads, writes) = sent.join();

    let read = |outcome: Result<Sourced<Option<i64>>, Failure>| {
        let read = outcome.expect("answered");
        (read.value, read.source)
    };
    assert_eq!(read(reads.0), (Some(5), Source::Shadow));
    assert_eq!(read(reads.1), (Some(5), Source::Shadow));
    assert_eq!(read(reads.2), (None, Source::Unknown));
    assert!(matches!(failure(reads.3).kind(), FailureKind::Down(_)));
    let (value, source) = read(reads.4);
    assert_eq!(source, Source::Server);
    assert!(matches!(value, Some(5 | 6)), "{value:?}");

    let counted = writes.0.expect("it is taken over");
    assert_eq!((counted.value, counted.source), (6, Source::Shadow));
    assert_eq!(read(writes.1), (Some(6), Source::Overlay));
    let maybe = [writes.2, writes.3, writes.4, writes.5, writes.6, writes.7];
    for outcome in maybe {
        let lost = failure(outcome);
        assert_eq!(lost.executed(), Executed::Maybe, "{lost}");
    }
    until_health::<A>(&client, Health::Live);
    let mut witness = Raw::connect(server.port());
    assert_eq!(witness.get("cache:k"), None);
    for key in ["session:k", "count:k", "discard:k", "strict:k", "wallet:k"] {
        let value = witness.get(key);
        assert!(matches!(value.as_deref(), Some("5" | "6")), "{key}: {value:?}");
    }
}

fn a_pipeline_in_memory_is_answered_command_by_command<A: Adapter>() {
    let server = TestServer::start();
    Raw::connect(server.port()).ok(&["SET", "wallet:k", "5"]);
    let proxy = Proxy::start(server.port());
    let config = every_mode(quick(proxy.port())).deadline(LIMIT);
    let client = A::connect(config).expect("there is a server");
    cut::<A>(&proxy, &client);
    let (set, read, strict, lock, stale, missed, count, again, flush) =
        A::wait_all(client.pipeline_each(|p| {
            (
                p.set("session:k", 1),
                p.sourced().get::<i64>("session:k"),
                p.get::<i64>("strict:k"),
                p.setnx("session:lock", 1),
                p.get::<i64>("stale:k"),
                p.set("miss:k", 1),
                p.incr("count:k"),
                p.incr("count:k"),
                p.flushall(),
            )
        }));
    set.expect("in memory");
    let read = read.expect("in memory");
    assert_eq!((read.value, read.source), (Some(1), Source::Overlay));
    assert!(matches!(failure(strict).kind(), FailureKind::Down(_)));
    assert_eq!(refusal(lock), MemoryRefusal::Unsafe);
    assert_eq!(refusal(stale), MemoryRefusal::NotRemembered);
    missed.expect("dropped");
    assert_eq!((count.expect("in memory"), again.expect("in memory")), (1, 2));
    let flush = failure(flush);
    assert_eq!(flush.executed(), Executed::No, "{flush}");
    assert_eq!(A::status(&client).journal_entries, 3);

    // One that waits keeps nobody from an answer but those who asked in the same pipeline.
    let waiting = client.clone();
    let waiting = spawn::<A, _>(async move {
        A::gathered(waiting.pipeline(|p| (p.incr("count:k"), p.get::<i64>("wallet:k")))).await
    });
    eventually("it to be counted in memory", LIMIT, || {
        let count: Option<i64> = A::wait(client.get("count:k")).expect("in memory");
        (count == Some(3)).then_some(())
    });
    mend::<A>(&proxy, &client);
    assert_eq!(waiting.join().expect("the server is back"), (3, Some(5)));
    let mut witness = Raw::connect(server.port());
    assert_eq!(witness.get("count:k").as_deref(), Some("3"));
    assert_eq!(witness.get("session:k").as_deref(), Some("1"));
}

fn a_command_of_several_patterns_is_as_careful_as_the_strictest<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    witness.ok(&["MSET", "cache:k", "old", "wallet:k", "old", "session:from", "old"]);
    let proxy = Proxy::start(server.port());
    let config = every_mode(quick(proxy.port())).deadline(LIMIT);
    let client = A::connect(config).expect("there is a server");
    let known: Option<String> = A::wait(client.get("session:from")).expect("a plain GET");
    assert_eq!(known.as_deref(), Some("old"));
    cut::<A>(&proxy, &client);
    // Each key for itself, whatever its policy.
    let pairs = [("discard:m", "1"), ("cache:m", "1"), ("session:m", "1"), ("count:m", "1")];
    A::wait(client.mset(pairs)).expect("in memory");
    // A key can't take what another one has along if it goes another way.
    let renamed = A::wait(client.rename("session:m", "cache:n"));
    assert_eq!(refusal(renamed), MemoryRefusal::Mixed);
    let down = failure(A::wait(client.mset([("session:m", "2"), ("strict:k", "2")])));
    assert!(matches!(down.kind(), FailureKind::Down(_)), "{down}");
    check_get::<A>(&client, "session:m", Some("1"), Source::Overlay);

    // One key waits, so the command does, and whatever is written to its other keys waits for it.
    let waits = client.clone();
    let mixed = spawn::<A, _>(async move {
        A::done(waits.mset([("session:late", "first"), ("wallet:k", "first")])).await
    });
    eventually("it to wait", LIMIT, || (A::status(&client).queued_requests == 1).then_some(()));
    let waits = client.clone();
    let behind = spawn::<A, _>(async move { A::done(waits.append("session:late", "+")).await });
    eventually("it to wait", LIMIT, || (A::status(&client).queued_requests == 2).then_some(()));
    assert_eq!(witness.get("wallet:k").as_deref(), Some("old"));
    mend::<A>(&proxy, &client);
    mixed.join().expect("the server is back");
    assert_eq!(behind.join().expect("the server is back"), 6);
    let mut there = |key: &str| contents(|words| Ok(raw_value(witness.cmd(words))), key);
    assert_eq!(there("session:late"), "first+");
    assert_eq!(there("wallet:k"), "first");
    for (key, left) in [("discard:m", "-"), ("cache:m", "-"), ("session:m", "1"), ("count:m", "1")]
    {
        assert_eq!(there(key), left, "{key}");
    }
    assert_eq!(there("cache:k"), "old");
}

fn what_was_sent_and_not_answered_is_neither_merged_nor_replayed<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    // What nobody received was not done; what nobody was told of was.
    for (way, left) in [(Way::Requests, "5"), (Way::Replies, "6")] {
        let keys = ["session:k", "count:k", "discard:k", "cache:k"];
        for key in keys {
            witness.ok(&["SET", key, "5"]);
        }
        let proxy = Proxy::start(server.port());
        let config = every_mode(quick(proxy.port())).deadline(LIMIT);
        let client = A::connect(config).expect("there is a server");
        for key in keys {
            check_get::<A>(&client, key, Some("5"), Source::Server);
        }
        witness.ok(&["SET", "session:text", "old"]);
        proxy.set(Fault::Swallow(way));
        // It would do no harm to send it once more, but that is not for memory to do.
        let setter = client.clone();
        let set = spawn::<A, _>(async move { A::done(setter.set("session:text", "new")).await });
        let sent = keys.map(|key| {
            let client = client.clone();
            spawn::<A, _>(async move { A::done(client.incr(key)).await })
        });
        let [session, count, discard, cache] = sent.map(|sent| sent.join());
        for lost in [session.map(drop), count.map(drop), discard.map(drop), set.join()] {
            let lost = failure(lost);
            assert_eq!(lost.executed(), Executed::Maybe, "{lost}");
        }
        assert_eq!(cache.expect("it is taken over, only to be deleted"), 6);
        // Nobody knows now what these are.
        for key in ["session:k", "session:text", "count:k", "discard:k"] {
            check_get::<A>(&client, key, None, Source::Unknown);
        }
        check_get::<A>(&client, "cache:k", Some("6"), Source::Overlay);
        assert_eq!(A::status(&client).journal_entries, 1);
        // What comes later counts by itself.
        A::wait(client.incrby("count:k", 100)).expect("in memory");
        assert_eq!(refusal(A::wait(client.incr("session:k"))), MemoryRefusal::Unseen);
        mend::<A>(&proxy, &client);
        let sum = if left == "5" { "105" } else { "106" };
        let text = if left == "5" { "old" } else { "new" };
        let there =
            [("session:k", left), ("session:text", text), ("discard:k", left), ("count:k", sum)];
        for (key, there) in there {
            assert_eq!(witness.get(key).as_deref(), Some(there), "{key}, {way:?} lost");
        }
        assert_eq!(witness.get("cache:k"), None);
    }
}
