//! Scripts by their digests, and functions: whoever forgets a script, its calls run, once each.

use std::sync::LazyLock;

use unfazed_core::{
    Script,
    commands::prelude::*,
    config::MaybeRetry,
    failure::{Executed, FailureKind},
    handle::{Pipelines, Views},
};
use unfazed_tests::{Proxy, Server as TestServer};

use crate::{
    adapters::{Adapter, Async, in_cluster, join_all, scenarios},
    site::Site,
    support::{PROTOCOLS, at, failure, quick},
};

scenarios! {
    a_script_runs_whether_the_server_knows_it_or_not,
    a_script_that_is_flushed_between_two_calls_runs_once_each,
    a_pipeline_of_scripts_runs_in_its_order,
    items_of_a_pipeline_whose_scripts_were_flushed_run_each_once,
    many_callers_of_an_unknown_script_run_it_once_each,
    a_restarted_server_is_given_its_scripts_again,
    a_read_only_script_is_refused_its_writes_and_repeated,
    what_a_script_answers_with_is_told,
    libraries_are_loaded_listed_and_restored;
    async
    a_call_that_nobody_waits_for_runs_all_the_same,
}

in_cluster! {
    a_script_runs_whether_the_server_knows_it_or_not,
    a_script_that_is_flushed_between_two_calls_runs_once_each,
    items_of_a_pipeline_whose_scripts_were_flushed_run_each_once,
    many_callers_of_an_unknown_script_run_it_once_each,
    what_a_script_answers_with_is_told,
    libraries_are_loaded_listed_and_restored,
}

static ADD: LazyLock<Script> = LazyLock::new(|| {
    Script::new("return {redis.call('INCRBY', KEYS[1], ARGV[1]), KEYS[2], ARGV[2]}")
});

static PUSH: LazyLock<Script> =
    LazyLock::new(|| Script::new("return redis.call('RPUSH', KEYS[1], unpack(ARGV))"));

static READ: LazyLock<Script> =
    LazyLock::new(|| Script::new("return redis.call('GET', KEYS[1])").read_only());

/// Waits for a request that must succeed.
macro_rules! ok {
    ($pending:expr) => {
        A::wait($pending).expect("it succeeds")
    };
}

fn a_script_runs_whether_the_server_knows_it_or_not<A: Adapter>() {
    let server = Site::start();
    for (round, protocol) in PROTOCOLS.into_iter().enumerate() {
        let client = A::connect(server.config().protocol(protocol)).expect("there is a server");
        ok!(client.script_flush());
        for call in 1..=3 {
            let sum = 15 * round as i64 + 5 * call;
            let add = client.script(&ADD).key("sum").keys(["{sum}other"]).arg(5).args(["x"]);
            let answer: (i64, String, String) = ok!(add.run());
            assert_eq!(answer, (sum, "{sum}other".to_owned(), "x".to_owned()));
        }
        // Of a cluster only the node knows it that has run it.
        assert_eq!(ok!(client.script_exists(ADD.sha1())), [server.nodes() == 1]);
        assert_eq!(ok!(client.script(&READ).key("none").run::<Option<String>>()), None);
    }
}

fn a_script_that_is_flushed_between_two_calls_runs_once_each<A: Adapter>() {
    let server = Site::start();
    let client = A::connect(server.config()).expect("there is a server");
    let mut raw = server.raw();
    for round in 1..=5 {
        assert_eq!(ok!(client.script(&PUSH).key("list").arg(round).run::<i64>()), round);
        raw.ok(&["SCRIPT", "FLUSH"]);
    }
}

fn a_pipeline_of_scripts_runs_in_its_order<A: Adapter>() {
    let server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let client = A::connect(at(proxy.port())).expect("there is a server");
    for round in 0..3 {
        ok!(client.del("list"));
        let (first, between, second, all) = A::wait_all(client.pipeline(|p| {
            (
                p.script(&PUSH).key("list").arg("a").run::<i64>(),
                p.command("RPUSH").arg("list").arg("b").run::<i64>(),
                p.script(&PUSH).key("list").args(["c", "d"]).run::<i64>(),
                p.command("LRANGE").args(["list", "0", "-1"]).run::<Vec<String>>(),
            )
        }))
        .expect("it succeeds");
        assert_eq!((first, between, second), (1, 2, 4), "round {round}");
        assert_eq!(all, ["a", "b", "c", "d"]);
    }
    assert_eq!(proxy.requests_seen(PUSH.source()), 1, "the source goes out once");
}

fn items_of_a_pipeline_whose_scripts_were_flushed_run_each_once<A: Adapter>() {
    let server = Site::start();
    let client = A::connect(server.config()).expect("there is a server");
    let run = || {
        A::wait_all(client.pipeline_each(|p| {
            let pushes: Vec<_> =
                (0..50).map(|at| p.script(&PUSH).key("list").arg(at).run::<i64>()).collect();
            (pushes, p.incr("rounds"), p.script(&ADD).key("sum").arg(1).run::<String>())
        }))
    };
    let (_, rounds, sum) = run();
    assert!(sum.is_err(), "an array is no string");
    assert_eq!(rounds.expect("a plain INCR"), 1);
    server.raw().ok(&["SCRIPT", "FLUSH"]);
    let (pushes, rounds, sum) = run();
    let lengths: Vec<_> = pushes.into_iter().map(|length| length.expect("it runs")).collect();
    assert_eq!(lengths, (51..=100).collect::<Vec<_>>(), "among themselves they keep their order");
    assert_eq!(rounds.expect("a plain INCR"), 2);
    assert!(sum.is_err(), "an array is no string, and it has run all the same");
    assert_eq!(ok!(client.get::<i64>("sum")), Some(2));
}

fn many_callers_of_an_unknown_script_run_it_once_each<A: Adapter>() {
    let server = Site::start();
    let client = A::connect(server.config()).expect("there is a server");
    let calls = (0..A::MANY.min(100)).map(|_| {
        let client = client.clone();
        async move { A::done(client.script(&PUSH).key("list").arg("x").run::<i64>()).await }
    });
    let mut lengths: Vec<_> = join_all::<A, _, _>(calls.collect::<Vec<_>>())
        .into_iter()
        .map(|length| length.expect("it runs"))
        .collect();
    lengths.sort_unstable();
    assert_eq!(lengths, (1..=lengths.len() as i64).collect::<Vec<_>>());
}

fn a_restarted_server_is_given_its_scripts_again<A: Adapter>() {
    let mut server = TestServer::start();
    let client = A::connect(quick(server.port())).expect("there is a server");
    let push = || {
        A::wait_all(client.pipeline(|p| {
            let pushes: Vec<_> =
                (0..3).map(|_| p.script(&PUSH).key("list").arg("x").run::<i64>()).collect();
            (pushes, p.command("LLEN").arg("list").run::<i64>())
        }))
        .expect("it succeeds")
    };
    assert_eq!(push(), (vec![1, 2, 3], 3));
    server.restart();
    // A blocking client sees only now that its connection is gone, and a read goes again.
    ok!(client.ping());
    assert_eq!(push(), (vec![4, 5, 6], 6), "still in its order");
    server.restart();
    ok!(client.ping());
    assert_eq!(ok!(client.script(&PUSH).key("list").arg("x").run::<i64>()), 7);
}

fn a_read_only_script_is_refused_its_writes_and_repeated<A: Adapter>() {
    let server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let client = A::connect(quick(proxy.port())).expect("there is a server");
    ok!(client.set("k", "v"));
    assert_eq!(ok!(client.script(&READ).key("k").run::<String>()), "v");
    // What was sent and not answered is a read, which goes again.
    proxy.reset_all();
    assert_eq!(ok!(client.script(&READ).key("k").run::<String>()), "v");
    let writes = PUSH.clone().read_only();
    let refused = failure(A::wait(client.script(&writes).key("list").arg(1).run::<i64>()));
    assert!(matches!(refused.kind(), FailureKind::Server(_)), "{refused}");
    assert!(!ok!(client.exists("list")));
}

fn what_a_script_answers_with_is_told<A: Adapter>() {
    let server = Site::start();
    let client = A::connect(server.config()).expect("there is a server");
    let fails = Script::new("return redis.error_reply('MOVED 1 127.0.0.1:1')");
    for call in ["EVAL", "EVALSHA"] {
        let told = failure(A::wait(client.script(&fails).run::<()>()));
        assert_eq!(told.server_error().expect("the script's").code(), "MOVED");
        assert_eq!((told.executed(), told.command()), (Executed::Maybe, call));
    }
    let wrong = failure(A::wait(client.script(&Script::new("not lua")).run::<()>()));
    assert!(matches!(wrong.kind(), FailureKind::Server(_)), "{wrong}");
    let view = (&client).retrying(MaybeRetry::Never);
    assert_eq!(ok!(view.script(&Script::new("return 7")).run::<i64>()), 7, "it was not executed");
}

fn a_call_that_nobody_waits_for_runs_all_the_same<A: Async>() {
    let server = TestServer::start();
    let client = A::connect(at(server.port())).expect("there is a server");
    A::detach(client.script(&PUSH).key("list").arg("x").run::<i64>());
    unfazed_tests::eventually("the script to run", crate::support::LIMIT, || {
        ok!(client.exists("list")).then_some(())
    });
    assert_eq!(ok!(client.script(&PUSH).key("list").arg("y").run::<i64>()), 2);
}

fn libraries_are_loaded_listed_and_restored<A: Adapter>() {
    let server = Site::start();
    let code = "#!lua name=lib\n\
        redis.register_function('first', function(keys, args) return args[1] end)\n\
        redis.register_function{function_name='count', description='how many', \
        callback=function(keys, args) return #keys end, flags={'no-writes', 'allow-stale'}}";
    for protocol in PROTOCOLS {
        let client = A::connect(server.config().protocol(protocol)).expect("there is a server");
        assert_eq!(ok!(client.function_load(code)), "lib");
        let exists = failure(A::wait(client.function_load(code)));
        assert!(matches!(exists.kind(), FailureKind::Server(_)), "{exists}");
        assert_eq!(ok!(client.function_load_replace(code)), "lib");
        let libraries = ok!(client.function_list());
        let [library] = &libraries[..] else { panic!("{libraries:?}") };
        assert_eq!((&*library.name, &*library.engine, &library.code), ("lib", "LUA", &None));
        let mut functions = library.functions.clone();
        functions.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!((&*functions[0].name, &*functions[1].name), ("count", "first"));
        assert_eq!(functions[0].description.as_deref(), Some("how many"));
        functions[0].flags.sort();
        assert_eq!(functions[0].flags, ["allow-stale", "no-writes"]);
        assert_eq!((&functions[1].description, functions[1].flags.len()), (&None, 0));
        assert_eq!(ok!(client.function_list_code("l*"))[0].code.as_deref(), Some(code));
        assert!(ok!(client.function_list_code("x*")).is_empty());
        assert_eq!(ok!(client.fcall::<String>("first", (), "a")), "a");
        assert_eq!(ok!(client.fcall_ro::<i64>("count", ["x", "{x}y"], ())), 2);

        let stats = ok!(client.function_stats());
        assert!(stats.running.is_none());
        let [engine] = &stats.engines[..] else { panic!("{stats:?}") };
        assert_eq!((&*engine.name, engine.libraries, engine.functions), ("LUA", 1, 2));

        let dump: Vec<u8> = ok!(client.function_dump());
        failure(A::wait(client.function_restore(&dump, ExistingLibraries::Kept)));
        ok!(client.function_restore(&dump, ExistingLibraries::Replaced));
        ok!(client.function_restore(&dump, ExistingLibraries::Deleted));
        ok!(client.function_delete("lib"));
        failure(A::wait(client.function_delete("lib")));
        assert!(ok!(client.function_list()).is_empty());
        ok!(client.function_restore(&dump, ExistingLibraries::Kept));
        assert_eq!(ok!(client.function_list()).len(), 1);
        ok!(client.function_flush());
        assert!(ok!(client.function_list()).is_empty());
        for nothing_runs in [A::wait(client.script_kill()), A::wait(client.function_kill())] {
            let error = failure(nothing_runs);
            assert_eq!(error.server_error().expect("the server's").code(), "NOTBUSY");
        }
    }
}
