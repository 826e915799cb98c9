//! The server is back, and not well: what was written in memory gets there once, whole, in the end.

use std::{thread, time::Duration};

use unfazed_core::{
    Cause, Config,
    commands::prelude::*,
    engine::{Event, Health, Status},
    reply::Sourced,
    resp::Source,
};
use unfazed_tests::{Close, Fault, Proxy, Raw, Server as TestServer, Way, eventually};

use crate::{
    adapters::{Adapter, scenarios},
    support::{
        Changes, LIMIT, check_get, contents, cut, every_policy, get, mend, quick, raw_value,
        until_health,
    },
};

scenarios! {
    a_drain_that_is_cut_anywhere_ends_with_nothing_lost_and_nothing_twice,
    a_server_that_dies_in_the_middle_of_a_drain_gets_the_rest_later,
    a_loading_server_is_paid_when_it_has_loaded,
    a_server_that_refuses_writes_is_paid_when_it_takes_them,
    a_server_that_lets_nobody_in_is_paid_when_it_does,
    a_server_that_refuses_writes_in_the_middle_of_a_drain_gets_the_rest_later,
    a_full_server_gets_deletions_at_once_and_the_rest_when_there_is_room,
    no_deletion_waits_behind_what_a_full_server_refuses,
    a_merge_that_was_refused_for_now_is_owed_still_also_without_transactions,
    a_command_that_is_not_permitted_ends_with_an_event,
    what_is_asked_about_and_not_permitted_holds_nothing_up,
    a_merge_that_does_not_fit_any_more_ends_with_an_event,
    what_is_still_owed_when_the_client_is_closed_ends_with_an_event,
}

/// How many keys of each policy there are.
const KEYS: i64 = 1_500;

/// What the first client adds to a counter in memory.
fn amount(at: i64) -> i64 {
    1 + at % 7
}

/// What the other one adds to each meanwhile.
const OTHERS: i64 = 1_000;

/// Fills the server with old values.
fn fill(witness: &mut Raw) {
    let script = "for at = 0, tonumber(ARGV[1]) - 1 do \
        redis.call('SET', 'cache:' .. at, 'old'); redis.call('SET', 'session:' .. at, 'old'); \
        redis.call('SET', 'count:' .. at, at) end return redis.status_reply('OK')";
    witness.ok(&["EVAL", script, "0", &KEYS.to_string()]);
}

/// Writes to every key while the client is cut off; the other client counts too.
fn write_in_memory<A: Adapter>(client: &A::Client, witness: &mut Raw) {
    for at in 0..KEYS {
        A::wait(client.set(format!("cache:{at}"), "ours")).expect("in memory");
        A::wait(client.incrby(format!("count:{at}"), amount(at))).expect("in memory");
        let session = format!("session:{at}");
        match at % 10 {
            0 => drop(A::wait(client.del(&session)).expect("in memory")),
            1 => {
                A::wait(client.del(&session)).expect("in memory");
                let push = client.command("RPUSH").args([session.as_str(), "a", "b"]);
                A::wait(push.run::<()>()).expect("in memory");
            }
            _ => A::wait(client.set(&session, "ours")).expect("in memory"),
        }
    }
    let script = "for at = 0, tonumber(ARGV[1]) - 1 do \
        redis.call('INCRBY', 'count:' .. at, ARGV[2]) end return redis.status_reply('OK')";
    witness.ok(&["EVAL", script, "0", &KEYS.to_string(), &OTHERS.to_string()]);
}

fn sessions(at: i64) -> &'static str {
    match at % 10 {
        0 => "-",
        1 => "[a b]",
        _ => "ours",
    }
}

/// Checks every key on the server. `uncertain` is for how many counters the client said that it
/// can't tell whether they were added to.
#[track_caller]
fn check_all(witness: &mut Raw, uncertain: u64) {
    let mut there = |key: String| contents(|words| Ok(raw_value(witness.cmd(words))), &key);
    let mut missing = 0;
    for at in 0..KEYS {
        assert_eq!(there(format!("cache:{at}")), "-", "cache:{at}");
        assert_eq!(there(format!("session:{at}")), sessions(at), "session:{at}");
        let sum: i64 = there(format!("count:{at}")).parse().expect("a number");
        let without = at + OTHERS;
        match sum - without {
            0 => missing += 1,
            added => assert_eq!(added, amount(at), "count:{at}"),
        }
    }
    println!("{missing} not added, {uncertain} uncertain");
    assert!(missing <= uncertain, "{missing} not added, {uncertain} uncertain");
}

/// For how many counters the client said that it can't tell whether they were added to.
fn uncertain(changes: &mut Changes) -> u64 {
    let events = changes.events().iter();
    events
        .map(|event| if let Event::MergesUnanswered { entries, .. } = event { *entries } else { 0 })
        .sum()
}

/// How often recovery failed after it had begun.
fn setbacks(changes: &mut Changes) -> usize {
    let back = (Health::Recovering, Health::Degraded);
    changes.health().iter().filter(|change| **change == back).count()
}

/// What memory says of each session must be what was written there last, or nothing at all: that
/// it knows nothing any more, since it is on the server. Nobody may be told the value before.
fn check_memory<A: Adapter>(client: &A::Client) {
    for at in (0..KEYS).filter(|at| at % 10 > 1).step_by(7) {
        let key = format!("session:{at}");
        let Sourced { value, source, .. } = get::<A>(client, &key).expect("answered");
        match source {
            Source::Unknown => assert_eq!(value, None, "{key}"),
            _ => assert_eq!(value.as_deref(), Some("ours"), "{key}, {source:?}"),
        }
    }
}

fn a_drain_that_is_cut_anywhere_ends_with_nothing_lost_and_nothing_twice<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    fill(&mut witness);
    let proxy = Proxy::start(server.port());
    let client = A::connect(every_policy(quick(proxy.port()))).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    cut::<A>(&proxy, &client);
    write_in_memory::<A>(&client, &mut witness);
    let mut owed = A::status(&client).journal_entries;
    assert_eq!(owed, 3 * KEYS as usize);
    // About 500 bytes of requests and 2,000 of replies pass before anything is paid.
    for (way, after, how) in [
        (Way::Requests, 1_000, Close::Fin),
        (Way::Replies, 2_900, Close::Reset),
        (Way::Requests, 4_321, Close::Reset),
        (Way::Replies, 3_456, Close::Fin),
        (Way::Requests, 15_007, Close::Reset),
    ] {
        let before = setbacks(&mut changes);
        proxy.set(Fault::Cut { way, after, how });
        eventually("a drain to fail", LIMIT, || (setbacks(&mut changes) > before).then_some(()));
        let left = A::status(&client).journal_entries;
        println!("{left} owed after {after} bytes of {way:?}");
        assert!(0 < left && left <= owed, "{left} of {owed}");
        owed = left;
        check_memory::<A>(&client);
    }
    mend::<A>(&proxy, &client);
    changes.expect(1, 1);
    let uncertain = uncertain(&mut changes);
    assert!(uncertain < KEYS as u64, "{uncertain}");
    check_all(&mut witness, uncertain);
    check_settled::<A>(&client);
    changes.expect_some(0, |event| matches!(event, Event::ReplayRefused { .. }));
}

#[track_caller]
fn check_settled<A: Adapter>(client: &A::Client) {
    let Status { journal_entries, overlay_entries, overlay_bytes, .. } = A::status(client);
    assert_eq!((journal_entries, overlay_entries, overlay_bytes), (0, 0, 0));
}

fn a_server_that_dies_in_the_middle_of_a_drain_gets_the_rest_later<A: Adapter>() {
    let mut server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    fill(&mut witness);
    let proxy = Proxy::start(server.port());
    let client = A::connect(every_policy(quick(proxy.port()))).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    cut::<A>(&proxy, &client);
    write_in_memory::<A>(&client, &mut witness);
    for after in [9_001, 25_003] {
        let before = setbacks(&mut changes);
        proxy.set(Fault::Cut { way: Way::Replies, after, how: Close::Reset });
        eventually("a drain to fail", LIMIT, || (setbacks(&mut changes) > before).then_some(()));
        server.kill();
        check_memory::<A>(&client);
        server.restart();
    }
    let left = A::status(&client).journal_entries;
    println!("{left} owed after the second death");
    mend::<A>(&proxy, &client);
    changes.expect(1, 1);
    let uncertain = uncertain(&mut changes);
    check_all(&mut Raw::connect(server.port()), uncertain);
    check_settled::<A>(&client);
    // All of them were there before, and are.
    changes.expect_some(0, |event| matches!(event, Event::MergesSkipped { .. }));
}

/// One key of each policy: known, and written in memory.
fn write_one_of_each<A: Adapter>(client: &A::Client) {
    A::wait(client.set("cache:k", "ours")).expect("in memory");
    A::wait(client.set("session:k", "ours")).expect("in memory");
    A::wait(client.incr("count:k")).expect("in memory");
}

const ONE_OF_EACH: [&str; 6] = ["cache:k", "old", "session:k", "old", "count:k", "5"];

/// While the server can't be used, memory goes on with what it has, and owes it still.
#[track_caller]
fn check_one_of_each_in_memory<A: Adapter>(client: &A::Client) {
    for (key, there) in [("cache:k", "ours"), ("session:k", "ours"), ("count:k", "6")] {
        check_get::<A>(client, key, Some(there), Source::Overlay);
    }
}

#[track_caller]
fn check_one_of_each<A: Adapter>(client: &A::Client, witness: &mut Raw) {
    for (key, there) in [("cache:k", None), ("session:k", Some("ours")), ("count:k", Some("6"))] {
        assert_eq!(witness.get(key).as_deref(), there, "{key}");
        check_get::<A>(client, key, there, Source::Server);
    }
    check_settled::<A>(client);
}

fn a_loading_server_is_paid_when_it_has_loaded<A: Adapter>() {
    // With this pause after each key it loads for 2 seconds at least.
    const LOADED: &str = "8000";
    let mut server = TestServer::with_args(&["--key-load-delay", "200"]);
    let port = server.port();
    let mut witness = Raw::connect(port);
    let script = "for at = 1, tonumber(ARGV[1]) do redis.call('SET', 'load:' .. at, at) end \
        return redis.status_reply('OK')";
    witness.ok(&["EVAL", script, "0", LOADED]);
    witness.ok(&[&["MSET"][..], &ONE_OF_EACH].concat());
    let client = A::connect(every_policy(quick(port))).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    for key in ["cache:k", "session:k", "count:k"] {
        get::<A>(&client, key).expect("a plain GET");
    }
    server.kill();
    until_health::<A>(&client, Health::Degraded);
    write_one_of_each::<A>(&client);

    let restarting = thread::spawn(move || {
        server.restart();
        server
    });
    let is_loading = || {
        let asked = Raw::try_connect(port, LIMIT).and_then(|mut raw| raw.try_cmd(&["PING"]));
        asked.map(|reply| format!("{reply:?}").contains("LOADING"))
    };
    eventually("it to load", LIMIT, || is_loading().is_ok_and(|loads| loads).then_some(()));
    let mut looks = 0;
    while is_loading().expect("it is there") {
        check_one_of_each_in_memory::<A>(&client);
        assert_eq!(A::status(&client).journal_entries, 3);
        looks += 1;
        thread::sleep(Duration::from_millis(50));
    }
    println!("{looks} looks while it was loading");
    assert!(looks >= 3, "it has loaded already after {looks} looks");
    let server = restarting.join().expect("it starts");
    until_health::<A>(&client, Health::Live);
    check_one_of_each::<A>(&client, &mut Raw::connect(server.port()));
    changes.expect(1, 1);
}

fn a_server_that_refuses_writes_is_paid_when_it_takes_them<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    witness.ok(&[&["MSET"][..], &ONE_OF_EACH].concat());
    let proxy = Proxy::start(server.port());
    let client = A::connect(every_policy(quick(proxy.port()))).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    for key in ["cache:k", "session:k", "count:k"] {
        get::<A>(&client, key).expect("a plain GET");
    }
    cut::<A>(&proxy, &client);
    write_one_of_each::<A>(&client);
    // It wants to be sure of a replica that it does not have.
    witness.ok(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    proxy.set(Fault::None);
    let probes = proxy.requests_seen(b"ROLE");
    eventually("three probes to fail", LIMIT, || {
        check_one_of_each_in_memory::<A>(&client);
        (proxy.requests_seen(b"ROLE") >= probes + 3).then_some(())
    });
    let status = A::status(&client);
    assert_eq!((status.health, status.journal_entries), (Health::Degraded, 3));
    assert!(matches!(status.cause, Some(Cause::NotReady(_))), "{:?}", status.cause);
    assert_eq!(witness.get("cache:k").as_deref(), Some("old"));
    witness.ok(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    until_health::<A>(&client, Health::Live);
    check_one_of_each::<A>(&client, &mut witness);
    changes.expect(1, 1);
}

fn a_server_that_lets_nobody_in_is_paid_when_it_does<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    witness.ok(&[&["MSET"][..], &ONE_OF_EACH].concat());
    let proxy = Proxy::start(server.port());
    let client = A::connect(every_policy(quick(proxy.port()))).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    for key in ["cache:k", "session:k", "count:k"] {
        get::<A>(&client, key).expect("a plain GET");
    }
    cut::<A>(&proxy, &client);
    write_one_of_each::<A>(&client);
    // A password that nobody told us, then no room for anybody beside the witness.
    for (setting, closed, open) in [("requirepass", "secret", ""), ("maxclients", "1", "1000")] {
        witness.ok(&["CONFIG", "SET", setting, closed]);
        proxy.set(Fault::None);
        let dials = proxy.connections();
        eventually("three dials to fail", LIMIT, || {
            check_one_of_each_in_memory::<A>(&client);
            (proxy.connections() >= dials + 3).then_some(())
        });
        let status = A::status(&client);
        assert_eq!((status.health, status.journal_entries), (Health::Degraded, 3), "{setting}");
        proxy.set(Fault::Refuse);
        witness.ok(&["CONFIG", "SET", setting, open]);
    }
    mend::<A>(&proxy, &client);
    check_one_of_each::<A>(&client, &mut witness);
    changes.expect(1, 1);
}

fn a_server_that_refuses_writes_in_the_middle_of_a_drain_gets_the_rest_later<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    fill(&mut witness);
    let proxy = Proxy::start(server.port());
    let client = A::connect(every_policy(quick(proxy.port()))).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    cut::<A>(&proxy, &client);
    write_in_memory::<A>(&client, &mut witness);
    let owed = A::status(&client).journal_entries;
    proxy.set(Fault::Delay(Duration::from_millis(20)));
    eventually("the first of it to be paid", LIMIT, || {
        (A::status(&client).journal_entries < owed).then_some(())
    });
    witness.ok(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    eventually("the drain to fail", LIMIT, || (setbacks(&mut changes) == 1).then_some(()));
    let left = A::status(&client).journal_entries;
    println!("{left} of {owed} owed");
    assert!(0 < left && left < owed, "{left} of {owed}");
    check_memory::<A>(&client);
    witness.ok(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    mend::<A>(&proxy, &client);
    // Each refusal was told, so nothing is uncertain.
    check_all(&mut witness, 0);
    check_settled::<A>(&client);
    changes.expect_some(0, |event| matches!(event, Event::MergesUnanswered { .. }));
    changes.expect_some(0, |event| matches!(event, Event::ReplayRefused { .. }));
}

fn a_full_server_gets_deletions_at_once_and_the_rest_when_there_is_room<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    witness.ok(&[&["MSET"][..], &ONE_OF_EACH, &["session:list", "old"]].concat());
    let proxy = Proxy::start(server.port());
    let client = A::connect(every_policy(quick(proxy.port()))).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    for key in ["cache:k", "session:k", "count:k"] {
        get::<A>(&client, key).expect("a plain GET");
    }
    cut::<A>(&proxy, &client);
    write_one_of_each::<A>(&client);
    A::wait(client.del("session:list")).expect("in memory");
    let push = client.command("RPUSH").args(["session:list", "a", "b"]);
    A::wait(push.run::<()>()).expect("in memory");
    witness.ok(&["CONFIG", "SET", "maxmemory", "1"]);
    proxy.set(Fault::None);
    eventually("the drain to fail", LIMIT, || (setbacks(&mut changes) >= 2).then_some(()));
    // A deletion needs no room; what replaces a value leaves the old one until it has.
    assert_eq!(witness.get("cache:k"), None);
    assert_eq!(witness.get("session:k").as_deref(), Some("old"));
    assert_eq!(witness.get("session:list").as_deref(), Some("old"));
    assert_eq!(witness.get("count:k").as_deref(), Some("5"));
    assert_ne!(A::status(&client).health, Health::Live);
    assert_eq!(A::status(&client).journal_entries, 3);
    for (key, there) in [("session:k", "ours"), ("count:k", "6")] {
        check_get::<A>(&client, key, Some(there), Source::Overlay);
    }
    witness.ok(&["CONFIG", "SET", "maxmemory", "0"]);
    until_health::<A>(&client, Health::Live);
    check_one_of_each::<A>(&client, &mut witness);
    let list = contents(|words| Ok(raw_value(witness.cmd(words))), "session:list");
    assert_eq!(list, "[a b]");
    changes.expect_some(0, |event| matches!(event, Event::ReplayRefused { .. }));
}

fn no_deletion_waits_behind_what_a_full_server_refuses<A: Adapter>() {
    // More than go out in one piece.
    const MANY: usize = 600;
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    witness.ok(&[&["MSET"][..], &ONE_OF_EACH].concat());
    let proxy = Proxy::start(server.port());
    let client = A::connect(every_policy(quick(proxy.port()))).expect("there is a server");
    cut::<A>(&proxy, &client);
    for at in 0..MANY {
        A::wait(client.set(format!("session:{at}"), "ours")).expect("in memory");
    }
    A::wait(client.set("cache:k", "ours")).expect("in memory");
    witness.ok(&["CONFIG", "SET", "maxmemory", "1"]);
    proxy.set(Fault::None);
    eventually("the deletion", LIMIT, || witness.get("cache:k").is_none().then_some(()));
    eventually("it to be answered", LIMIT, || {
        (A::status(&client).journal_entries == MANY).then_some(())
    });
    check_get::<A>(&client, "session:0", Some("ours"), Source::Overlay);
    witness.ok(&["CONFIG", "SET", "maxmemory", "0"]);
    until_health::<A>(&client, Health::Live);
    for at in 0..MANY {
        assert_eq!(witness.get(&format!("session:{at}")).as_deref(), Some("ours"), "session:{at}");
    }
}

fn a_merge_that_was_refused_for_now_is_owed_still_also_without_transactions<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    let user = ["on", ">secret", "~*", "&*", "+@all", "-multi"];
    witness.ok(&[&["ACL", "SETUSER", "app"][..], &user].concat());
    witness.int(&["RPUSH", "count:list", "m"]);
    let proxy = Proxy::start(server.port());
    let client = A::connect(restricted(proxy.port())).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    cut::<A>(&proxy, &client);
    for push in ["LPUSH", "RPUSH"] {
        let push = client.command(push).args(["count:list", "ours"]);
        A::wait(push.run::<()>()).expect("in memory");
    }
    witness.ok(&["CONFIG", "SET", "maxmemory", "1"]);
    proxy.set(Fault::None);
    eventually("the drain to fail", LIMIT, || (setbacks(&mut changes) >= 2).then_some(()));
    assert_eq!(A::status(&client).journal_entries, 1);
    witness.ok(&["CONFIG", "SET", "maxmemory", "0"]);
    until_health::<A>(&client, Health::Live);
    let list = contents(|words| Ok(raw_value(witness.cmd(words))), "count:list");
    assert_eq!(list, "[ours m ours]");
    assert_eq!(refusals(&mut changes), []);
}

/// A client that is known to its server by name and may not do everything.
fn restricted(port: u16) -> Config {
    every_policy(quick(port)).username("app").password("secret")
}

/// What the client was told of refusals: the commands, and for how many keys.
fn refusals(changes: &mut Changes) -> Vec<(&'static str, u64)> {
    let of = |event: &Event| match event {
        Event::ReplayRefused { command, entries, .. } => Some((*command, *entries)),
        _ => None,
    };
    changes.events().iter().filter_map(of).collect()
}

fn a_command_that_is_not_permitted_ends_with_an_event<A: Adapter>() {
    const COUNT: usize = 20;
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    for (rule, refused, prefix, left) in [
        ("-del", "DEL", "cache:", Some("1")),
        ("-set", "SET", "session:", Some("1")),
        ("-incrby", "INCRBY", "count:", Some("1")),
    ] {
        witness.ok(&["ACL", "SETUSER", "app", "reset", "on", ">secret", "~*", "&*", "+@all", rule]);
        for prefix in ["cache:", "session:", "count:"] {
            for at in 0..COUNT {
                witness.ok(&["SET", &format!("{prefix}{at}"), "1"]);
            }
        }
        let proxy = Proxy::start(server.port());
        let client = A::connect(restricted(proxy.port())).expect("there is a server");
        let mut changes = Changes::of::<A>(&client);
        cut::<A>(&proxy, &client);
        for at in 0..COUNT {
            A::wait(client.set(format!("cache:{at}"), 2)).expect("in memory");
            A::wait(client.set(format!("session:{at}"), 2)).expect("in memory");
            A::wait(client.incr(format!("count:{at}"))).expect("in memory");
        }
        mend::<A>(&proxy, &client);
        changes.expect(1, 1);
        for at in 0..COUNT {
            for (of, paid) in [("cache:", None), ("session:", Some("2")), ("count:", Some("2"))] {
                let key = format!("{of}{at}");
                let there = if of == prefix { left } else { paid };
                assert_eq!(witness.get(&key).as_deref(), there, "{key} with {rule}");
                check_get::<A>(&client, &key, there, Source::Server);
            }
        }
        assert_eq!(refusals(&mut changes), [(refused, COUNT as u64)], "{rule}");
        assert_eq!(setbacks(&mut changes), 0, "{rule}");
        check_settled::<A>(&client);
    }
}

fn what_is_asked_about_and_not_permitted_holds_nothing_up<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    let user = ["reset", "on", ">secret", "~*", "&*", "+@all"];
    let rules = ["-pttl", "-exists", "-multi", "-info", "-role"];
    witness.ok(&[&["ACL", "SETUSER", "app"][..], &user, &rules].concat());
    witness.ok(&["MSET", "session:text", "old", "count:k", "5", "cache:k", "old"]);
    witness.int(&["RPUSH", "session:list", "a"]);
    let proxy = Proxy::start(server.port());
    let client = A::connect(restricted(proxy.port())).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    // Of one it is not known when it expires.
    let read: Option<String> = A::wait(client.get("session:text")).expect("a plain GET");
    assert_eq!(read.as_deref(), Some("old"));
    cut::<A>(&proxy, &client);
    A::wait(client.append("session:text", "+")).expect("in memory");
    A::wait(client.del("session:list")).expect("in memory");
    let push = client.command("RPUSH").args(["session:list", "b", "c"]);
    A::wait(push.run::<()>()).expect("in memory");
    A::wait(client.incr("count:k")).expect("in memory");
    A::wait(client.set("cache:k", "ours")).expect("in memory");
    mend::<A>(&proxy, &client);
    changes.expect(1, 1);
    check_settled::<A>(&client);
    let there = contents(|words| Ok(raw_value(witness.cmd(words))), "session:list");
    assert_eq!(there, "[b c]", "one after the other, where it may not be one piece");
    assert_eq!(witness.get("cache:k"), None);
    // It may not ask who the server is, so it takes it for another; and whether the counter is there
    // it may not ask either.
    assert_eq!(refusals(&mut changes), [("PTTL", 1), ("EXISTS", 1)]);
    assert_eq!(witness.get("session:text").as_deref(), Some("old"));
    assert_eq!(witness.get("count:k").as_deref(), Some("5"));
}

fn a_merge_that_does_not_fit_any_more_ends_with_an_event<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    witness.ok(&[
        "MSET",
        "count:list",
        "5",
        "count:text",
        "5",
        "count:huge",
        "5",
        "count:good",
        "5",
    ]);
    witness.int(&["HSET", "count:hash", "n", "1", "m", "1"]);
    let proxy = Proxy::start(server.port());
    let client = A::connect(every_policy(quick(proxy.port()))).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    for key in ["count:list", "count:text", "count:huge", "count:good"] {
        get::<A>(&client, key).expect("a plain GET");
    }
    cut::<A>(&proxy, &client);
    for key in ["count:list", "count:text", "count:huge", "count:good"] {
        assert_eq!(A::wait(client.incr(key)).expect("in memory"), 6);
    }
    A::wait(client.hincrby("count:hash", "n", 2)).expect("in memory");
    A::wait(client.hset("count:hash", [("new", "2")])).expect("in memory");
    // Somebody has put something else there.
    witness.int(&["DEL", "count:list"]);
    witness.int(&["RPUSH", "count:list", "theirs"]);
    witness.ok(&["SET", "count:text", "theirs"]);
    witness.ok(&["SET", "count:huge", &i64::MAX.to_string()]);
    witness.int(&["HSET", "count:hash", "n", "theirs"]);
    mend::<A>(&proxy, &client);
    changes.expect(1, 1);
    let mut there = |key: &str| contents(|words| Ok(raw_value(witness.cmd(words))), key);
    assert_eq!(there("count:list"), "[theirs]");
    assert_eq!(there("count:text"), "theirs");
    assert_eq!(there("count:huge"), i64::MAX.to_string());
    // The rest of what went out with it was done.
    assert_eq!(there("count:hash"), "{m=1 n=theirs new=2}");
    assert_eq!(there("count:good"), "6");
    let mut told = refusals(&mut changes);
    told.sort_unstable();
    // The first is of another type, the others are no numbers that can be added to.
    assert_eq!(told, [("HINCRBY", 1), ("INCRBY", 1), ("INCRBY", 2)]);
    check_settled::<A>(&client);
    assert_eq!(get::<A>(&client, "count:text").expect("answered").source, Source::Server);
}

fn what_is_still_owed_when_the_client_is_closed_ends_with_an_event<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    let proxy = Proxy::start(server.port());
    let client = A::connect(every_policy(quick(proxy.port()))).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    cut::<A>(&proxy, &client);
    for key in ["cache:k", "session:k"] {
        A::wait(client.set(key, "ours")).expect("in memory");
    }
    A::close(&client);
    changes.expect_some(1, |event| matches!(event, Event::WritesLost { entries: 2 }));
    assert_eq!((witness.get("session:k"), A::status(&client).journal_entries), (None, 0));
}
