//! Connections of one's own, and what stands on them: optimistic transactions.

use std::{thread, time::Duration};

use unfazed_core::{
    Config,
    commands::prelude::*,
    engine::Health,
    failure::{Executed, FailureKind},
    fallback::{Fallback, Policy},
    handle::{OptimisticTransactions, Pipelines, Transactions},
};
use unfazed_tests::{Fault, Proxy, Raw, RawReply, Server as TestServer, eventually};

use crate::{
    adapters::{Adapter, in_cluster, join_all, scenarios, spawn},
    site::Site,
    support::{LIMIT, PROTOCOLS, at, cut, failure, others_on, quick, until_health},
};

scenarios! {
    a_connection_of_ones_own_does_what_no_shared_one_may,
    what_was_said_on_a_connection_of_ones_own_is_gone_for_the_next,
    a_lost_connection_of_ones_own_is_an_error_and_is_not_replaced,
    what_no_connection_may_be_used_for_is_refused,
    a_connection_of_ones_own_ends_with_its_client,
    many_who_increment_at_once_lose_nothing,
    an_optimistic_transaction_may_decide_to_write_nothing,
    who_always_comes_second_is_told_of_the_conflict,
    an_optimistic_transaction_goes_on_after_lost_connections_and_writes_once,
    what_fails_in_an_optimistic_transaction_is_told,
    an_optimistic_transaction_never_degrades,
}

in_cluster! {
    what_no_connection_may_be_used_for_is_refused,
    many_who_increment_at_once_lose_nothing,
    an_optimistic_transaction_may_decide_to_write_nothing,
    what_fails_in_an_optimistic_transaction_is_told,
}

fn a_connection_of_ones_own_does_what_no_shared_one_may<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    for protocol in PROTOCOLS {
        let client = A::connect(at(server.port()).protocol(protocol)).expect("there is a server");
        A::wait(client.flushall()).expect("a plain FLUSHALL");
        let own = A::dedicated(&client);
        A::wait_there(own.select(3)).expect("there are 16");
        A::wait_there(own.set("k", "in 3")).expect("a plain SET");
        assert_eq!(A::wait(client.get::<String>("k")).expect("a plain GET"), None);
        A::wait_there(own.select(0)).expect("there are 16");
        assert_eq!(A::wait_there(own.get::<String>("k")).expect("a plain GET"), None);

        // WATCH, with and without somebody else in between.
        for (meddles, written) in [(false, true), (true, false)] {
            A::wait_there(own.watch("n")).expect("a plain WATCH");
            let n = A::wait_there(own.get::<i64>("n")).expect("a plain GET").unwrap_or(0);
            if meddles {
                A::wait(client.incr("n")).expect("a plain INCR");
            }
            let done = A::wait_all_there(own.transaction(|t| t.set("n", n + 10)));
            match done {
                Ok(()) => assert!(written),
                Err(told) => {
                    assert!(matches!(told.kind(), FailureKind::Conflict), "{told}");
                    assert!(!written && told.executed() == Executed::No, "{told}");
                }
            }
        }
        assert_eq!(A::wait(client.get::<i64>("n")).expect("a plain GET"), Some(11));

        // Command by command.
        A::wait_there(own.multi()).expect("a plain MULTI");
        let queued: String = A::wait_there(own.command("INCR").arg("n").run()).expect("queued");
        assert_eq!(queued, "QUEUED");
        let all: Option<(i64,)> = A::wait_there(own.exec()).expect("a plain EXEC");
        assert_eq!(all, Some((12,)));
        A::wait_there(own.watch("n")).expect("a plain WATCH");
        A::wait(client.incr("n")).expect("a plain INCR");
        A::wait_there(own.multi()).expect("a plain MULTI");
        let told = A::wait_there(own.incr("n")).expect_err("its number comes with EXEC");
        assert!(matches!(told.kind(), FailureKind::Queued), "{told}");
        assert_eq!(told.executed(), Executed::Maybe, "{told}");
        assert_eq!(A::wait_there(own.exec::<Vec<i64>>()).expect("a plain EXEC"), None);

        // Pipelines, and what waits, as anywhere.
        let (a, b): (i64, i64) =
            A::wait_all_there(own.pipeline(|p| (p.incr("n"), p.incr("n")))).expect("plain INCRs");
        assert_eq!((a, b), (14, 15));
        witness.int(&["RPUSH", "q", "1"]);
        let popped: Option<(String, i64)> = A::wait_there(own.blpop("q", LIMIT)).expect("one");
        assert_eq!(popped, Some(("q".into(), 1)));
        assert_eq!(A::wait_there(own.wait(0, LIMIT)).expect("a plain WAIT"), 0);
        assert!(A::lost(&own).is_none());
    }
}

type Soil<A> = fn(&<A as Adapter>::Dedicated);

fn what_was_said_on_a_connection_of_ones_own_is_gone_for_the_next<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    let client = A::connect(at(server.port()).leases_max(1)).expect("there is a server");
    let id = |own: &A::Dedicated| -> i64 {
        A::wait_there(own.command("CLIENT ID").run()).expect("a plain CLIENT ID")
    };
    let own = A::dedicated(&client);
    let first = id(&own);
    A::wait_there(own.watch("k")).expect("a plain WATCH");
    A::wait_all_there(own.transaction(|t| t.set("k", 1))).expect("nobody meddles");
    drop(own);
    // Nothing is left of it, so it is used again.
    let own = A::dedicated(&client);
    assert_eq!(id(&own), first);

    let soils: [Soil<A>; 4] = [
        |own| A::wait_there(own.select(5)).expect("there are 16"),
        |own| A::wait_there(own.watch("k")).expect("a plain WATCH"),
        |own| A::wait_there(own.multi()).expect("a plain MULTI"),
        |own| A::wait_there(own.client_setname("me")).expect("a plain CLIENT SETNAME"),
    ];
    let mut own = own;
    let mut last = first;
    for soil in soils {
        soil(&own);
        drop(own);
        own = A::dedicated(&client);
        let next = id(&own);
        assert_ne!(next, last);
        last = next;
        assert_eq!(A::wait_there(own.get::<i64>("k")).expect("a plain GET"), Some(1));
        witness.int(&["INCRBY", "k", "0"]);
        let set = A::wait_all_there(own.transaction(|t| t.set("k", 1)));
        set.expect("nothing is watched from before");
    }
    // One that is dropped while something waits on it does not come back either.
    let waiting = client.clone();
    drop(own);
    let task = spawn::<A, _>(async move {
        let own = A::dedicated(&waiting);
        A::done_there(own.blpop::<String, i64>("q", Duration::from_millis(300))).await
    });
    assert_eq!(task.join().expect("no failure"), None);
    eventually("one seat", LIMIT, || (others_on(&mut witness) <= 2).then_some(()));
    assert_eq!(A::status(&client).tickets, 0);
}

fn a_lost_connection_of_ones_own_is_an_error_and_is_not_replaced<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    let client = A::connect(at(server.port())).expect("there is a server");
    let own = A::dedicated(&client);
    A::wait_there(own.watch("k")).expect("a plain WATCH");
    let id: i64 = A::wait_there(own.command("CLIENT ID").run()).expect("a plain CLIENT ID");
    assert_eq!(witness.int(&["CLIENT", "KILL", "ID", &id.to_string()]), 1);
    // It may still be on its way to be noticed when the first one is sent.
    let lost = failure(A::wait_all_there(own.transaction(|t| t.set("k", 1))));
    assert!(matches!(lost.kind(), FailureKind::ConnectionLost(_)), "{lost}");
    assert!(A::lost(&own).is_some());
    for _ in 0..3 {
        let again = failure(A::wait_there(own.get::<i64>("k")));
        assert!(matches!(again.kind(), FailureKind::ConnectionLost(_)), "{again}");
        assert_eq!(again.executed(), Executed::No, "{again}");
    }
    assert_eq!(witness.get("k"), None);
    drop(own);
    let own = A::dedicated(&client);
    A::wait_there(own.set("k", 1)).expect("another one");
}

fn what_no_connection_may_be_used_for_is_refused<A: Adapter>() {
    let server = Site::start();
    let client = A::connect(server.config()).expect("there is a server");
    let own = A::dedicated(&client);
    for command in ["SUBSCRIBE a", "MONITOR", "CLIENT REPLY OFF", "HELLO 2", "RESET", "QUIT"] {
        let refused = failure(A::wait_there(own.command(command).run::<()>()));
        let FailureKind::Misuse(advice) = refused.kind() else { panic!("{command}: {refused}") };
        assert!(advice.len() > 20, "{command}: {advice}");
        assert_eq!(refused.executed(), Executed::No, "{refused}");
    }
    assert_eq!(A::wait_there(own.incr("n")).expect("a plain INCR"), 1);
}

fn a_connection_of_ones_own_ends_with_its_client<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    let client = A::connect(at(server.port())).expect("there is a server");
    let own = A::dedicated(&client);
    A::wait_there(own.select(1)).expect("there are 16");
    A::close(&client);
    let closed = failure(A::wait_there(own.incr("n")));
    assert!(matches!(closed.kind(), FailureKind::ClientClosed), "{closed}");
    drop((client, own));
    eventually("all to be closed", LIMIT, || (others_on(&mut witness) == 0).then_some(()));
}

fn many_who_increment_at_once_lose_nothing<A: Adapter>() {
    const TASKS: i64 = 12;
    const EACH: i64 = 20;
    let server = Site::start();
    let configs = PROTOCOLS.map(|protocol| server.config().protocol(protocol).deadline(LIMIT));
    for config in configs.into_iter().chain([Config::memory()]) {
        let client = A::connect(config).expect("a server, or none to miss");
        A::wait(client.flushall()).expect("a plain FLUSHALL");
        let tasks = (0..TASKS).map(|_| {
            let client = client.clone();
            async move {
                for _ in 0..EACH {
                    let done = A::settled(client.optimistic_up_to(
                        1_000,
                        "n",
                        |read| read.get::<i64>("n"),
                        |n, write| {
                            let n = n.unwrap_or(0) + 1;
                            Some((write.set("n", n), write.rpush("{n}log", n)))
                        },
                    ));
                    let ((), length) = done.await.expect("in time").expect("it writes");
                    assert!(length > 0);
                }
            }
        });
        join_all::<A, _, _>(tasks);
        let all: Vec<i64> = A::wait(client.lrange("{n}log", 0, -1)).expect("a plain LRANGE");
        assert!(all.into_iter().eq(1..=TASKS * EACH));
        let n = A::wait(client.get::<i64>("n")).expect("a plain GET");
        assert_eq!(n, Some(TASKS * EACH));
        let status = A::status(&client);
        assert_eq!((status.tickets, status.leases - status.leases_idle), (0, 0));
    }
}

fn an_optimistic_transaction_may_decide_to_write_nothing<A: Adapter>() {
    let server = Site::start();
    for config in [server.config(), Config::memory()] {
        let client = A::connect(config).expect("a server, or none to miss");
        A::wait(client.set("stock", 1)).expect("a plain SET");
        let take = || {
            A::block_on(A::settled(client.optimistic(
                "stock",
                |read| read.get::<i64>("stock"),
                |stock, write| {
                    let left = stock.unwrap_or(0) - 1;
                    let set = write.set("stock", left);
                    (left >= 0).then_some(set)
                },
            )))
        };
        assert_eq!(take().expect("nothing goes wrong"), Some(()));
        assert_eq!(take().expect("nothing goes wrong"), None);
        assert_eq!(A::wait(client.get::<i64>("stock")).expect("a plain GET"), Some(0));
    }
}

fn who_always_comes_second_is_told_of_the_conflict<A: Adapter>() {
    let server = TestServer::start();
    let port = server.port();
    let client = A::connect(at(port)).expect("there is a server");
    let conflict = failure(A::block_on(A::settled(client.optimistic_up_to(
        5,
        "n",
        |read| read.get::<i64>("n"),
        move |_, write| {
            // Somebody is always faster.
            Raw::connect(port).int(&["INCR", "n"]);
            Some(write.set("n", -1))
        },
    ))));
    assert!(matches!(conflict.kind(), FailureKind::Conflict), "{conflict}");
    assert_eq!((conflict.command(), conflict.executed()), ("optimistic", Executed::No));
    assert_eq!(conflict.attempts(), 5);
    assert_eq!(Raw::connect(port).get("n").as_deref(), Some("5"));
}

fn an_optimistic_transaction_goes_on_after_lost_connections_and_writes_once<A: Adapter>() {
    let server = TestServer::start();
    let port = server.port();
    let client = A::connect(at(port).deadline(LIMIT)).expect("there is a server");
    let mut kills = 3;
    let done = A::block_on(A::settled(client.optimistic(
        "n",
        |read| (read.get::<i64>("n"), read.command("CLIENT ID").run::<i64>()),
        move |(n, id), write| {
            if kills > 0 {
                kills -= 1;
                let mut witness = Raw::connect(port);
                witness.int(&["CLIENT", "KILL", "ID", &id.to_string()]);
                // So that it is noticed before EXEC is sent; else it would be *maybe*.
                thread::sleep(Duration::from_millis(50));
            }
            Some(write.set("n", n.unwrap_or(0) + 1))
        },
    )));
    match done {
        Ok(done) => assert_eq!(done, Some(())),
        // EXEC had left when the loss was noticed.
        Err(lost) => assert_eq!(lost.executed(), Executed::Maybe, "{lost}"),
    }
    let n = Raw::connect(port).get("n");
    assert!(matches!(n.as_deref(), None | Some("1")), "{n:?}");
}

fn what_fails_in_an_optimistic_transaction_is_told<A: Adapter>() {
    let server = Site::start();
    let client = A::connect(server.config()).expect("there is a server");
    A::wait(client.rpush("list", 1)).expect("a plain RPUSH");
    let wrong = failure(A::block_on(A::settled(client.optimistic(
        "list",
        |read| read.get::<i64>("list"),
        |_, write| Some(write.set("n", 1)),
    ))));
    assert_eq!((wrong.command(), wrong.executed()), ("GET", Executed::Yes), "{wrong}");
    let aborted = failure(A::block_on(A::settled(client.optimistic(
        "n",
        |read| read.get::<i64>("n"),
        |_, write| Some((write.set("n", 1), write.command("NOSUCHTHING").run::<()>())),
    ))));
    assert!(matches!(aborted.kind(), FailureKind::Aborted(_)), "{aborted}");
    assert_eq!(aborted.command(), "optimistic");
    let RawReply::Null = server.raw().cmd(&["GET", "n"]) else { panic!("nothing was written") };
    // What was watched holds for nobody else.
    assert_eq!(A::wait_all(client.transaction(|t| t.incr("n"))).expect("a plain one"), 1);
}

fn an_optimistic_transaction_never_degrades<A: Adapter>() {
    let server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let config = quick(proxy.port())
        .deadline(Duration::from_millis(500))
        .fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let client = A::connect(config).expect("there is a server");
    let increment = || {
        A::block_on(A::settled(client.optimistic(
            "cache:n",
            |read| read.get::<i64>("cache:n"),
            |n, write| Some(write.set("cache:n", n.unwrap_or(0) + 1)),
        )))
    };
    assert_eq!(increment().expect("there is a server"), Some(()));
    cut::<A>(&proxy, &client);
    let down = failure(increment());
    assert_eq!(down.executed(), Executed::No, "{down}");
    assert_eq!((down.command(), down.attempts()), ("optimistic", 0), "{down}");
    proxy.set(Fault::None);
    until_health::<A>(&client, Health::Live);
    assert_eq!(increment().expect("it is back"), Some(()));
    assert_eq!(Raw::connect(server.port()).get("cache:n").as_deref(), Some("2"));
}
