//! One client degrades while another goes on writing to the server by another way: what is left of
//! the writes of both, key by key.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use unfazed_core::{
    Failure,
    commands::prelude::*,
    config::ProtocolChoice,
    engine::{Event, Health, Lineage},
    failure::{Executed, FailureKind},
    fallback::Fallback,
    handle::Views,
    reply::Sourced,
    resp::{Source, Value},
};
use unfazed_tests::{Fault, Proxy, Raw, Server as TestServer, Way, eventually};

use crate::{
    adapters::{Adapter, scenarios},
    support::{
        Changes, LIMIT, POLICIES, PROTOCOLS, contents, cut, every_policy, mend, quick, raw_value,
        until_health,
    },
};

scenarios! {
    each_policy_leaves_what_it_promises,
    two_clients_that_both_degrade_add_up,
    a_replayed_value_is_never_seen_in_part,
    a_command_that_waits_for_recovery_comes_after_what_was_written_before,
}

/// A key, what both clients do with it, and what is there when the first is back.
///
/// Commands are divided by semicolons; the first word is who sends it, `#` is the key.
struct Case {
    name: &'static str,
    before: &'static str,
    /// While the first client is cut off and the other is not.
    during: &'static str,
    /// What the first reads at the end of that time.
    in_memory: &'static str,
    /// What is on the server afterwards, for each policy in the order of `POLICIES`. With a `!`
    /// before it where memory refuses what the first wants to do.
    leaves: [&'static str; 4],
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case {
        name: "only-the-first-writes",
        before: "other SET # old; first GET #",
        during: "first SET # ours",
        in_memory: "ours",
        leaves: ["old", "-", "ours", "ours"],
    },
    Case {
        name: "only-the-first-knows",
        before: "",
        during: "first SET # ours",
        in_memory: "ours",
        leaves: ["-", "-", "ours", "ours"],
    },
    Case {
        name: "only-the-other-writes",
        before: "other SET # old; first GET #",
        during: "other SET # theirs",
        in_memory: "old",
        leaves: ["theirs"; 4],
    },
    Case {
        name: "the-first-writes-last",
        before: "other SET # old; first GET #",
        during: "other SET # theirs; first SET # ours",
        in_memory: "ours",
        leaves: ["theirs", "-", "ours", "ours"],
    },
    Case {
        name: "the-other-writes-last",
        before: "other SET # old; first GET #",
        during: "first SET # ours; other SET # theirs",
        in_memory: "ours",
        leaves: ["theirs", "-", "ours", "ours"],
    },
    Case {
        name: "deleted-and-not-touched-by-the-other",
        before: "other SET # old; first GET #",
        during: "first DEL #",
        in_memory: "-",
        leaves: ["old", "-", "-", "-"],
    },
    Case {
        name: "deleted-unseen",
        before: "other SET # old",
        during: "first DEL #",
        in_memory: "-",
        leaves: ["old", "-", "-", "-"],
    },
    Case {
        name: "deleted-and-then-written-by-the-other",
        before: "other SET # old; first GET #",
        during: "first DEL #; other SET # theirs",
        in_memory: "-",
        leaves: ["theirs", "-", "-", "-"],
    },
    Case {
        name: "written-and-then-deleted-by-the-other",
        before: "other SET # old; first GET #",
        during: "first SET # ours; other DEL #",
        in_memory: "ours",
        leaves: ["-", "-", "ours", "ours"],
    },
    Case {
        name: "gone-meanwhile",
        before: "other SET # old; first GET #",
        during: "other DEL #",
        in_memory: "old",
        leaves: ["-"; 4],
    },
    Case {
        name: "counted-and-gone-meanwhile",
        before: "other SET # 5; first GET #",
        during: "other DEL #; first INCR #",
        in_memory: "6",
        leaves: ["-", "-", "6", "1"],
    },
    Case {
        name: "counted-by-both",
        before: "other SET # 5; first GET #",
        during: "first INCRBY # 3; other INCRBY # 10; first DECR #; other DECRBY # 4",
        in_memory: "7",
        leaves: ["11", "-", "7", "13"],
    },
    Case {
        name: "counted-unseen",
        before: "other SET # 5",
        during: "first INCR #; other INCR #",
        in_memory: "1",
        leaves: ["6", "-", "!6", "7"],
    },
    Case {
        name: "counted-anew",
        before: "",
        during: "first INCRBY # 2; other INCRBY # 3",
        in_memory: "2",
        leaves: ["3", "-", "!3", "5"],
    },
    Case {
        name: "counted-in-fractions",
        before: "other SET # 0.5; first GET #",
        during: "first INCRBYFLOAT # 0.1; other INCRBYFLOAT # 0.25; first INCRBYFLOAT # 0.2",
        in_memory: "0.8",
        leaves: ["0.75", "-", "0.8", "1.05"],
    },
    Case {
        name: "replaced-and-counted",
        before: "other SET # 5; first GET #",
        during: "first SET # 100; first INCR #; other INCR #",
        in_memory: "101",
        leaves: ["6", "-", "101", "101"],
    },
    Case {
        name: "appended-by-both",
        before: "other SET # a; first GET #",
        during: "first APPEND # b; other APPEND # x; first APPEND # c; other APPEND # y",
        in_memory: "abc",
        leaves: ["axy", "-", "abc", "axybc"],
    },
    Case {
        name: "members-of-both",
        before: "other SADD # a b c; first SMEMBERS #",
        during: "first SADD # d; first SREM # a; other SADD # e d; other SREM # b; first SADD # f; \
            first SREM # f",
        in_memory: "{b c d}",
        leaves: ["{a c d e}", "-", "{b c d}", "{c d e}"],
    },
    Case {
        name: "the-last-member",
        before: "other SADD # a; first SMEMBERS #",
        during: "first SREM # a; other SADD # b",
        in_memory: "-",
        leaves: ["{a b}", "-", "-", "{b}"],
    },
    Case {
        name: "a-member-removed-here-and-added-there",
        before: "other SADD # a b; first SMEMBERS #",
        during: "first SREM # a; other SADD # a; first SADD # c; other SREM # c",
        in_memory: "{b c}",
        leaves: ["{a b}", "-", "{b c}", "{b c}"],
    },
    Case {
        name: "fields-of-both",
        before: "other HSET # both 1 theirs 1 gone 1; first HGETALL #",
        during: "first HSET # both 2 ours 2; other HSET # both 3 theirs 3; first HDEL # gone; \
            other HSET # new 3",
        in_memory: "{both=2 ours=2 theirs=1}",
        leaves: [
            "{both=3 gone=1 new=3 theirs=3}", "-",
            "{both=2 ours=2 theirs=1}", "{both=2 new=3 ours=2 theirs=3}",
        ],
    },
    Case {
        name: "fields-counted-by-both",
        before: "other HSET # n 5; first HGETALL #",
        during: "first HINCRBY # n 2; other HINCRBY # n 10; first HINCRBY # m 1; \
            other HINCRBY # m 1; first HINCRBY # n 1",
        in_memory: "{m=1 n=8}",
        leaves: ["{m=1 n=15}", "-", "{m=1 n=8}", "{m=2 n=18}"],
    },
    Case {
        name: "fields-unseen",
        before: "other HSET # a 1",
        during: "first HSET # b 2",
        in_memory: "{b=2}",
        leaves: ["{a=1}", "-", "!{a=1}", "{a=1 b=2}"],
    },
    Case {
        name: "pushed-by-both",
        before: "other RPUSH # m; first LRANGE # 0 -1",
        during: "first RPUSH # r1; other RPUSH # x; first LPUSH # l1 l2; other LPUSH # y; \
            first RPUSH # r2",
        in_memory: "[l2 l1 m r1 r2]",
        leaves: ["[y m x]", "-", "[l2 l1 m r1 r2]", "[l2 l1 y m x r1 r2]"],
    },
    Case {
        name: "popped",
        before: "other RPUSH # a b; first LRANGE # 0 -1",
        during: "first LPOP #; other RPUSH # c",
        in_memory: "[b]",
        leaves: ["[a b c]", "-", "[b]", "![a b c]"],
    },
    Case {
        name: "deleted-and-pushed",
        before: "other RPUSH # m; first LRANGE # 0 -1",
        during: "first DEL #; first RPUSH # z; other RPUSH # x",
        in_memory: "[z]",
        leaves: ["[m x]", "-", "[z]", "[z]"],
    },
    Case {
        name: "scores-of-both",
        before: "other ZADD # 1 a 2 b 3 c; first ZRANGE # 0 -1 WITHSCORES",
        during: "first ZADD # 5 a; other ZINCRBY # 1 b; first ZINCRBY # 2.5 b; first ZREM # c; \
            other ZADD # 9 a 4 d",
        in_memory: "(b:4.5 a:5)",
        leaves: ["(b:3 c:3 d:4 a:9)", "-", "(b:4.5 a:5)", "(d:4 a:5 b:5.5)"],
    },
    Case {
        name: "another-type",
        before: "other SADD # a; first SMEMBERS #",
        during: "first SET # text; other SADD # b",
        in_memory: "text",
        leaves: ["{a b}", "-", "text", "text"],
    },
    Case {
        name: "expired-since",
        before: "other SET # old; first GET #",
        during: "first SET # ours PX 1",
        in_memory: "-",
        leaves: ["old", "-", "-", "-"],
    },
    Case {
        name: "expired-since-and-written-by-the-other",
        before: "other SET # old; first GET #",
        during: "first PEXPIRE # 1; other SET # theirs",
        in_memory: "-",
        leaves: ["theirs", "-", "-", "-"],
    },
    Case {
        name: "to-expire",
        before: "other SET # old; first GET #",
        during: "first SET # ours EX 100; other SET # theirs",
        in_memory: "ours ttl",
        leaves: ["theirs", "-", "ours ttl", "ours ttl"],
    },
    Case {
        name: "its-value-left-to-expire",
        before: "other SET # old; first GET #",
        during: "first EXPIRE # 100; other SET # theirs",
        in_memory: "old ttl",
        leaves: ["theirs", "-", "old ttl", "theirs ttl"],
    },
    Case {
        name: "its-members-left-to-expire",
        before: "other SADD # a; first SMEMBERS #",
        during: "first SADD # b; first EXPIRE # 100; other SADD # c",
        in_memory: "{a b} ttl",
        leaves: ["{a c}", "-", "{a b} ttl", "{a b c} ttl"],
    },
    Case {
        name: "a-time-to-live-that-the-first-never-heard-of",
        before: "other SET # 5 EX 100; first GET #",
        during: "first INCR #",
        in_memory: "6",
        leaves: ["5 ttl", "-", "6 ttl", "6 ttl"],
    },
    Case {
        name: "a-list-with-a-time-to-live-that-the-first-never-heard-of",
        before: "other RPUSH # a; other EXPIRE # 100; first LRANGE # 0 -1",
        during: "first RPUSH # b",
        in_memory: "[a b]",
        leaves: ["[a] ttl", "-", "[a b] ttl", "[a b] ttl"],
    },
    Case {
        name: "a-time-to-live-of-its-own",
        before: "first SET # 5 EX 100",
        during: "first INCR #; other INCR #",
        in_memory: "6 ttl",
        leaves: ["6 ttl", "-", "6 ttl", "7 ttl"],
    },
    Case {
        name: "made-lasting",
        before: "first SET # 5 EX 100",
        during: "first PERSIST #; other INCR #",
        in_memory: "5",
        leaves: ["6 ttl", "-", "5", "6"],
    },
    Case {
        name: "a-lock",
        before: "",
        during: "first SET # mine NX; other SET # theirs NX",
        in_memory: "-",
        leaves: ["!theirs"; 4],
    },
    Case {
        name: "what-needs-to-be-there",
        before: "other SET # old",
        during: "first EXPIRE # 1; first SET # ours XX; first LPUSHX # a",
        in_memory: "-",
        leaves: ["!old"; 4],
    },
];

/// Who sends it, and its words for this key.
fn commands<'a>(list: &'a str, key: &'a str) -> impl Iterator<Item = (bool, Vec<&'a str>)> {
    list.split(';').filter(|command| !command.trim().is_empty()).map(move |command| {
        let mut words = command.split_whitespace();
        let first = match words.next() {
            Some("first") => true,
            Some("other") => false,
            who => panic!("who is {who:?}?"),
        };
        (first, words.map(|word| if word == "#" { key } else { word }).collect())
    })
}

fn send<A: Adapter>(client: &A::Client, words: &[&str]) -> Result<Value, Failure> {
    A::wait(client.command(words[0]).args(&words[1..]).run())
}

fn each_policy_leaves_what_it_promises<A: Adapter>() {
    for protocol in PROTOCOLS {
        leaves_what_it_promises::<A>(protocol);
    }
}

fn leaves_what_it_promises<A: Adapter>(protocol: ProtocolChoice) {
    let server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let config = every_policy(quick(proxy.port())).protocol(protocol);
    let first = A::connect(config).expect("there is a server");
    let other = A::connect(quick(server.port())).expect("there is a server");
    let mut changes = Changes::of::<A>(&first);
    let all = || {
        let of =
            |at: usize, case: &'static Case| (at, format!("{}{}", POLICIES[at].0, case.name), case);
        CASES.iter().flat_map(move |case| (0..POLICIES.len()).map(move |at| of(at, case)))
    };
    for (_, key, case) in all() {
        for (is_first, words) in commands(case.before, &key) {
            let client = if is_first { &first } else { &other };
            send::<A>(client, &words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        }
    }

    cut::<A>(&proxy, &first);
    for (at, key, case) in all() {
        let refuses = case.leaves[at].starts_with('!');
        for (is_first, words) in commands(case.during, &key) {
            let client = if is_first { &first } else { &other };
            match send::<A>(client, &words) {
                Ok(reply) => assert!(!(is_first && refuses), "{words:?}: {reply:?}"),
                Err(error) => {
                    assert!(is_first && refuses, "{words:?}: {error}");
                    assert!(matches!(error.kind(), FailureKind::Memory(_)), "{words:?}: {error}");
                    assert_eq!(error.executed(), Executed::No, "{words:?}: {error}");
                }
            }
        }
    }
    // What was written to expire at once has to.
    thread::sleep(Duration::from_millis(5));
    let mut wrong = Vec::new();
    for (at, key, case) in all() {
        let refuses = case.leaves[at].starts_with('!');
        let seen = case.before.contains("first");
        let found = contents(|words| send::<A>(&first, words), &key);
        // Whether it expires is often not known.
        let found = found.trim_end_matches(" ?");
        // What is refused leaves what was known, which the other columns tell of.
        let there = if refuses && !seen { "-" } else { case.in_memory };
        if found != there && !(refuses && seen) {
            wrong.push(format!("{key}: {found}, not {there}"));
        }
    }
    assert!(wrong.is_empty(), "in memory:\n{}", wrong.join("\n"));

    mend::<A>(&proxy, &first);
    let mut witness = Raw::connect(server.port());
    for (at, key, case) in all() {
        let promised = case.leaves[at].trim_start_matches('!');
        let found = contents(|words| Ok(raw_value(witness.cmd(words))), &key);
        if found != promised {
            wrong.push(format!("{key}: {found}, not {promised}"));
        }
        let read = contents(|words| send_to_server::<A>(&first, words), &key);
        assert_eq!(read, found, "{key}: the first reads what is there");
    }
    assert!(wrong.is_empty(), "on the server:\n{}", wrong.join("\n"));
    changes.expect(1, 1);
    let is_back = |event: &Event| matches!(event, Event::DataSet { lineage: Lineage::Same, .. });
    changes.expect_some(1, is_back);
    let status = A::status(&first);
    assert_eq!((status.journal_entries, status.overlay_entries), (0, 0));
}

/// Like [`send`], and only the server may answer.
fn send_to_server<A: Adapter>(client: &A::Client, words: &[&str]) -> Result<Value, Failure> {
    let view = client.sourced();
    let command = view.command(words[0]).args(&words[1..]);
    let sourced: Sourced<Value> = A::wait(command.run())?;
    assert_eq!(sourced.source, Source::Server, "{words:?}");
    Ok(sourced.value)
}

fn two_clients_that_both_degrade_add_up<A: Adapter>() {
    const KEYS: i64 = 300;
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    for at in 0..KEYS {
        witness.ok(&["SET", &format!("count:{at}"), &at.to_string()]);
    }
    let clients = [1, 1_000].map(|amount| {
        let proxy = Proxy::start(server.port());
        let client = A::connect(every_policy(quick(proxy.port()))).expect("there is a server");
        (amount, proxy, client)
    });
    for (_, proxy, client) in &clients {
        cut::<A>(proxy, client);
    }
    for (amount, _, client) in &clients {
        for at in 0..KEYS {
            let key = format!("count:{at}");
            A::wait(client.incrby(&key, 2 * amount)).expect("in memory");
            A::wait(client.decrby(&key, *amount)).expect("in memory");
        }
        let member = amount.to_string();
        send::<A>(client, &["SADD", "count:who", &member]).expect("in memory");
    }
    for (_, proxy, _) in &clients {
        proxy.set(Fault::None);
    }
    for (_, _, client) in &clients {
        until_health::<A>(client, Health::Live);
    }
    for at in 0..KEYS {
        let sum: i64 = witness.get(&format!("count:{at}")).expect("set").parse().expect("a sum");
        assert_eq!(sum, at + 1_001, "count:{at}");
    }
    let members = contents(|words| Ok(raw_value(witness.cmd(words))), "count:who");
    assert_eq!(members, "{1 1000}");
}

fn a_replayed_value_is_never_seen_in_part<A: Adapter>() {
    // More than go out in one command.
    const ITEMS: usize = 700;
    const KINDS: [(&str, &str, &str); 3] = [
        ("session:list", "RPUSH", "LLEN"),
        ("session:hash", "HSET", "HLEN"),
        ("session:set", "SADD", "SCARD"),
    ];
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    let items = |make: &str, count: usize| -> Vec<String> {
        let parts = if make == "HSET" { 2 } else { 1 };
        (0..count * parts).map(|at| format!("item-{at}")).collect()
    };
    for (key, make, _) in KINDS {
        let words = [vec![make.to_owned(), key.to_owned()], items(make, 3)].concat();
        witness.cmd(&words);
    }
    let proxy = Proxy::start(server.port());
    let config = every_policy(quick(proxy.port())).response_timeout(LIMIT);
    let client = A::connect(config).expect("there is a server");
    cut::<A>(&proxy, &client);
    for (key, make, _) in KINDS {
        A::wait(client.del(key)).expect("in memory");
        let command = client.command(make).arg(key).args(items(make, ITEMS));
        A::wait(command.run::<()>()).expect("in memory");
    }

    let over = Arc::new(AtomicBool::new(false));
    let poller = {
        let (over, port) = (over.clone(), server.port());
        thread::spawn(move || {
            let mut raw = Raw::connect(port);
            let mut seen = KINDS.map(|_| Vec::new());
            let mut looks = 0;
            while !over.load(Ordering::Relaxed) {
                for ((key, _, count), seen) in KINDS.iter().zip(&mut seen) {
                    let length = raw.int(&[count, key]);
                    if seen.last() != Some(&length) {
                        seen.push(length);
                    }
                }
                looks += 1;
            }
            (seen, looks)
        })
    };
    // What is sent comes in over some time: whoever looks sees every step there is to see.
    proxy.set(Fault::Trickle { way: Way::Requests, piece: 256, every: Duration::from_millis(1) });
    until_health::<A>(&client, Health::Live);
    for (key, _, count) in KINDS {
        assert_eq!(witness.int(&[count, key]), 700, "{key}");
    }
    thread::sleep(Duration::from_millis(10));
    over.store(true, Ordering::Relaxed);
    let (seen, looks) = poller.join().expect("it does not panic");
    println!("{looks} looks");
    for ((key, ..), seen) in KINDS.iter().zip(seen) {
        assert_eq!(seen, [3, 700], "{key} was seen with so many items");
    }
}

fn a_command_that_waits_for_recovery_comes_after_what_was_written_before<A: Adapter>() {
    // It takes several round trips to pay for them.
    const KEYS: usize = 2_000;
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    let proxy = Proxy::start(server.port());
    let config = every_policy(quick(proxy.port())).response_timeout(LIMIT).deadline(LIMIT);
    let config = config.fallback(Fallback::fail("strict:*")).fallback(Fallback::miss("page:*"));
    let client = A::connect(config).expect("there is a server");
    witness.ok(&["MSET", "count:last", "5", "session:last", "old", "cache:last", "old"]);
    let untouched = ["cache:untouched", "strict:untouched", "page:untouched"];
    for key in untouched {
        witness.ok(&["SET", key, "theirs"]);
    }
    cut::<A>(&proxy, &client);
    for at in 0..KEYS {
        A::wait(client.incr(format!("count:{at}"))).expect("in memory");
    }
    A::wait(client.incrby("count:last", 10)).expect("in memory");
    A::wait(client.set("session:last", "ours")).expect("in memory");
    A::wait(client.set("cache:last", "ours")).expect("in memory");
    witness.int(&["INCRBY", "count:last", "100"]);

    proxy.set(Fault::Delay(Duration::from_millis(60)));
    let owed = A::status(&client).journal_entries;
    eventually("the first of it to be paid", LIMIT, || {
        (A::status(&client).journal_entries < owed).then_some(())
    });
    let read = |key: &str| {
        let sourced = A::wait(client.sourced().get::<String>(key)).expect("answered");
        (sourced.value, sourced.source)
    };
    let (in_memory, in_session) = (read("count:last"), read("session:last"));
    assert!(A::status(&client).journal_entries > 3, "it is all paid already");
    // The client has never seen what it adds to.
    assert_eq!(in_memory, (Some("10".to_owned()), Source::Unknown));
    assert_eq!(in_session, (Some("ours".to_owned()), Source::Overlay));
    // What is owed nothing is the server's to answer.
    for key in untouched {
        assert_eq!(read(key), (Some("theirs".to_owned()), Source::Server), "{key}");
    }
    assert_eq!(A::status(&client).health, Health::Recovering);
    let counted = A::wait(client.sourced().incr("count:last")).expect("it waits its turn");
    assert_eq!((counted.value, counted.source), (116, Source::Server));
    let appended = A::wait(client.sourced().append("session:last", "+")).expect("it waits");
    assert_eq!((appended.value, appended.source), (5, Source::Server));
    let set = A::wait(client.sourced().set("cache:last", "newer")).expect("it waits");
    assert_eq!(set.source, Source::Server);

    until_health::<A>(&client, Health::Live);
    for (key, there) in [("count:last", "116"), ("session:last", "ours+"), ("cache:last", "newer")]
    {
        assert_eq!(witness.get(key).as_deref(), Some(there), "{key}");
        assert_eq!(read(key), (Some(there.to_owned()), Source::Server), "{key}");
    }
    let counted = (0..KEYS).filter_map(|at| witness.get(&format!("count:{at}"))).count();
    assert_eq!(counted, KEYS);
}
