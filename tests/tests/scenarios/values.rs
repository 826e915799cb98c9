//! Values go out and come back, however large and however many callers share a client; and each
//! connection is set up as its configuration says.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use unfazed_core::{
    Config,
    commands::prelude::*,
    config::ProtocolChoice,
    engine::Health,
    failure::{Executed, FailureKind},
    fallback::{Fallback, Policy},
    handle::Pipelines,
    resp::Value,
};
use unfazed_smol::Store;
use unfazed_tests::{Raw, Server as TestServer, eventually};

use crate::{
    adapters::{Adapter, in_cluster, join_all, scenarios},
    site::Site,
    support::{LIMIT, PROTOCOLS, at, failure},
};

scenarios! {
    values_of_every_kind_come_back_as_they_went_out,
    small_and_huge_values_come_back_whole,
    a_pipeline_gives_all_values_or_the_first_failure,
    a_pipeline_gives_each_command_its_own_result,
    a_pipeline_of_many_keeps_its_order,
    many_callers_share_a_client_and_each_gets_its_own_reply,
    one_static_client_serves_one_world_after_another,
    a_password_or_a_user_opens_the_door,
    a_wrong_password_is_an_error_with_and_without_fallback,
    a_database_is_selected_on_every_connection,
    a_name_is_shown_on_every_connection,
    a_unix_socket_is_as_good,
    no_server_is_needed_for_memory,
    a_store_is_shared_by_its_clients_and_its_clock_by_all_of_them,
}

in_cluster! {
    values_of_every_kind_come_back_as_they_went_out,
    a_pipeline_gives_all_values_or_the_first_failure,
    a_pipeline_gives_each_command_its_own_result,
    a_pipeline_of_many_keeps_its_order,
    many_callers_share_a_client_and_each_gets_its_own_reply,
    one_static_client_serves_one_world_after_another,
}

/// Held by scenarios that need much memory, so that it is not all needed at once.
pub(crate) static MUCH_MEMORY: Mutex<()> = Mutex::new(());

fn connect<A: Adapter>(server: &Site, protocol: ProtocolChoice) -> A::Client {
    A::connect(server.config().protocol(protocol)).expect("there is a server")
}

fn values_of_every_kind_come_back_as_they_went_out<A: Adapter>() {
    let server = Site::start();
    for protocol in PROTOCOLS {
        let client = connect::<A>(&server, protocol);
        let set = |key: &[u8], value: &[u8]| A::wait(client.set(key, value)).expect("a plain SET");
        let every_byte: Vec<u8> = (0..=255).collect();
        for value in [&b""[..], b"\r\n", b"$-1\r\n", "grüße \u{1f980}".as_bytes(), &every_byte] {
            set(b"k", value);
            assert_eq!(A::wait(client.get("k")).expect("a plain GET"), Some(value.to_vec()));
        }
        set(&every_byte, b"odd key");
        let odd: Option<String> = A::wait(client.get(&every_byte)).expect("a plain GET");
        assert_eq!(odd.as_deref(), Some("odd key"));
        for number in [0, 1, -1, i64::MAX, i64::MIN] {
            A::wait(client.set("n", number)).expect("a plain SET");
            assert_eq!(A::wait(client.get("n")).expect("a plain GET"), Some(number));
        }
        for number in [0.1, -1.5e300, f64::MIN_POSITIVE, f64::INFINITY] {
            A::wait(client.set("f", number)).expect("a plain SET");
            assert_eq!(A::wait(client.get("f")).expect("a plain GET"), Some(number));
        }
        A::wait(client.set("n", u64::MAX)).expect("a plain SET");
        let wrong = failure(A::wait(client.get::<i64>("n")));
        assert!(matches!(wrong.kind(), FailureKind::Decode(_)), "{wrong}");
        assert_eq!(wrong.executed(), Executed::Yes);
        // Nested replies, and what RESP3 tells apart and RESP2 does not.
        let code = "return {1, {'a', {2}}, false}";
        let nested: (i64, (String, Vec<i64>), Option<i64>) =
            A::wait(client.eval(code, (), ())).expect("a plain EVAL");
        assert_eq!(nested, (1, ("a".into(), vec![2]), None));
    }
}

fn small_and_huge_values_come_back_whole<A: Adapter>() {
    let _alone = MUCH_MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    let server = TestServer::with_args(&["--appendonly", "no"]);
    let mut huge = Vec::with_capacity(64 << 20);
    while huge.len() < 64 << 20 {
        huge.extend_from_slice(&huge.len().to_le_bytes());
    }
    for protocol in PROTOCOLS {
        let client = A::connect(at(server.port()).protocol(protocol)).expect("a server");
        for value in [&huge[..512], &huge] {
            A::wait(client.set("k", value)).expect("a plain SET");
            assert_eq!(A::wait(client.strlen("k")).expect("a plain STRLEN"), value.len() as u64);
            let got: Option<Bytes> = A::wait(client.get("k")).expect("a plain GET");
            assert!(got.as_deref() == Some(value), "what comes back is what went out");
        }
    }
}

fn a_pipeline_gives_all_values_or_the_first_failure<A: Adapter>() {
    let server = Site::start();
    for protocol in PROTOCOLS {
        let client = connect::<A>(&server, protocol);
        A::wait(client.flushall()).expect("a plain FLUSHALL");
        let (name, visits, all): (Option<String>, i64, Vec<Option<i64>>) =
            A::wait_all(client.pipeline(|p| {
                p.set("n", 4);
                (p.get("name"), p.incr("n"), p.mget(["n", "none"]))
            }))
            .expect("nothing is wrong with it");
        assert_eq!((name, visits, all), (None, 5, vec![Some(5), None]));
        let mixed: Result<(i64, i64, Option<i64>), _> = A::wait_all(client.pipeline(|p| {
            p.set("word", "w");
            (p.incr("n"), p.incr("word"), p.get("n"))
        }));
        let first = failure(mixed);
        assert_eq!((first.command(), first.executed()), ("INCR", Executed::Yes), "{first}");
        let after: Option<i64> = A::wait(client.get("n")).expect("a plain GET");
        assert_eq!(after, Some(6), "what came before the failure was done");
    }
}

fn a_pipeline_gives_each_command_its_own_result<A: Adapter>() {
    let server = Site::start();
    for protocol in PROTOCOLS {
        let client = connect::<A>(&server, protocol);
        A::wait(client.flushall()).expect("a plain FLUSHALL");
        let (set, on_word, on_number, unknown, none) = A::wait_all(client.pipeline_each(|p| {
            (
                p.set("word", "w"),
                p.incr("word"),
                p.incr("n"),
                p.command("NOSUCHTHING").run::<()>(),
                p.get::<String>("none"),
            )
        }));
        set.expect("a plain SET");
        let ran = failure(on_word);
        assert_eq!((ran.command(), ran.executed()), ("INCR", Executed::Yes));
        assert_eq!(on_number.expect("a plain INCR"), 1);
        let unknown = failure(unknown);
        assert_eq!((unknown.command(), unknown.executed()), ("NOSUCHTHING", Executed::No));
        assert_eq!(none.expect("a plain GET"), None);
    }
}

fn a_pipeline_of_many_keeps_its_order<A: Adapter>() {
    const MANY: i64 = 20_000;
    let server = Site::start();
    let client = connect::<A>(&server, ProtocolChoice::Auto);
    let counts: Vec<i64> =
        A::wait_all(client.pipeline(|p| (0..MANY).map(|_| p.incr("n")).collect::<Vec<_>>()))
            .expect("plain INCRs");
    assert!(counts.into_iter().eq(1..=MANY));
    let nothing: Vec<i64> =
        A::wait_all(client.pipeline(|p| Vec::from_iter((0..0).map(|_| p.incr("n")))))
            .expect("nothing to go wrong");
    assert!(nothing.is_empty());
}

fn many_callers_share_a_client_and_each_gets_its_own_reply<A: Adapter>() {
    const ROUNDS: usize = 20;
    let server = Site::start();
    let client = connect::<A>(&server, ProtocolChoice::Auto);
    join_all::<A, _, _>((0..A::MANY).map(|at| {
        let client = client.clone();
        async move {
            for round in 0..ROUNDS {
                let (key, value) = (format!("key:{at}"), format!("{at}:{round}"));
                A::done(client.set(&key, &value)).await.expect("a plain SET");
                let got: Option<String> = A::done(client.get(&key)).await.expect("a plain GET");
                assert_eq!(got.as_deref(), Some(&*value));
                A::done(client.incr("sum")).await.expect("a plain INCR");
            }
        }
    }));
    let sum: Option<usize> = A::wait(client.get("sum")).expect("a plain GET");
    assert_eq!(sum, Some(A::MANY * ROUNDS));
    assert_eq!(A::status(&client).connections, server.nodes());
    assert_eq!(A::status(&client).queued_requests, 0);
}

fn one_static_client_serves_one_world_after_another<A: Adapter>() {
    let server = Site::start();
    let client: OnceLock<A::Client> = OnceLock::new();
    for round in 1..=3 {
        A::enter_anew(|| {
            let client = client.get_or_init(|| A::lazy(server.config()).expect("a good config"));
            assert_eq!(A::wait(client.incr("visits")).expect("a plain INCR"), round);
        });
    }
}

fn a_password_or_a_user_opens_the_door<A: Adapter>() {
    let server = TestServer::with_args(&["--requirepass", "open sesame%:@/"]);
    let mut admin = Raw::connect(server.port());
    admin.ok(&["AUTH", "open sesame%:@/"]);
    admin.ok(&["ACL", "SETUSER", "ali", "on", ">baba", "~cave:*", "+@all", "-flushall"]);
    for protocol in PROTOCOLS {
        let config = at(server.port()).protocol(protocol);
        let client =
            A::connect(config.clone().password("open sesame%:@/")).expect("the password is right");
        A::wait(client.set("cave:gold", 1)).expect("it may");
        let url = config.clone().username("ali").password("baba").to_url_with_secrets();
        let ali = A::connect(Config::from_url(&url).expect("our own")).expect("he is known");
        assert_eq!(A::wait(ali.get("cave:gold")).expect("he may"), Some(1));
        for refused in [A::wait(ali.set("elsewhere", 1)), A::wait(ali.flushall())] {
            let refused = failure(refused);
            assert_eq!(refused.server_error().expect("the server's").code(), "NOPERM");
            assert_eq!(refused.executed(), Executed::No);
        }
    }
}

fn a_wrong_password_is_an_error_with_and_without_fallback<A: Adapter>() {
    let server = TestServer::with_args(&["--requirepass", "right"]);
    for protocol in PROTOCOLS {
        let config = at(server.port()).protocol(protocol);
        for config in [config.clone(), config.fallback(Fallback::memory("*", Policy::Invalidate))] {
            for config in [
                config.clone().password("wrong"),
                config.clone().username("nobody").password("right"),
                config,
            ] {
                let told = match A::connect(config.clone()) {
                    Ok(_) => panic!("refused: {config:?}"),
                    Err(refused) => refused.to_string(),
                };
                assert!(told.contains("WRONGPASS") || told.contains("NOAUTH"), "{told}");
            }
        }
    }
}

fn a_database_is_selected_on_every_connection<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    witness.ok(&["SELECT", "3"]);
    for protocol in PROTOCOLS {
        let client = A::connect(at(server.port()).protocol(protocol).database(3)).expect("3 of 16");
        for round in 0..2 {
            A::wait(client.set("k", round)).expect("a plain SET");
            assert_eq!(witness.get("k"), Some(round.to_string()));
            let id = A::wait(client.client_id()).expect("a plain CLIENT ID");
            assert_eq!(witness.int(&["CLIENT", "KILL", "ID", &id.to_string()]), 1);
        }
        let refused = failure(A::connect(at(server.port()).protocol(protocol).database(99)));
        assert!(refused.to_string().contains("out of range"), "{refused}");
    }
}

fn a_name_is_shown_on_every_connection<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    for protocol in PROTOCOLS {
        let config = at(server.port()).protocol(protocol).client_name("worker-7");
        let client = A::connect(config).expect("there is a server");
        let name = || A::wait(client.client_getname()).expect("a plain CLIENT GETNAME");
        assert_eq!(name().as_deref(), Some("worker-7"));
        let id = A::wait(client.client_id()).expect("a plain CLIENT ID");
        assert_eq!(witness.int(&["CLIENT", "KILL", "ID", &id.to_string()]), 1);
        assert_eq!(name().as_deref(), Some("worker-7"));
    }
}

fn a_unix_socket_is_as_good<A: Adapter>() {
    let server = TestServer::start();
    let config = Config::from_url(&server.unix_url()).expect("a good URL");
    let client = A::connect(config).expect("there is a server");
    A::wait(client.set("k", "v")).expect("a plain SET");
    assert_eq!(Raw::connect(server.port()).get("k").as_deref(), Some("v"));
    let nowhere = failure(A::connect(Config::unix(server.folder().join("no.sock"))));
    assert_eq!(nowhere.executed(), Executed::No, "{nowhere}");
}

fn no_server_is_needed_for_memory<A: Adapter>() {
    let client = A::connect(Config::memory()).expect("nothing to connect to");
    join_all::<A, _, _>((0..A::MANY).map(|_| {
        let client = client.clone();
        async move { A::done(client.incr("n")).await.expect("a plain INCR") }
    }));
    let sum: Option<usize> = A::wait(client.get("n")).expect("a plain GET");
    assert_eq!(sum, Some(A::MANY));
    assert_eq!(A::status(&client).health, Health::Live);
    A::close(&client);
    eventually("the client to be closed", LIMIT, || {
        (A::status(&client).health == Health::Closed).then_some(())
    });
    let closed = failure(A::wait(client.incr("n")));
    assert!(matches!(closed.kind(), FailureKind::ClientClosed), "{closed}");
}

fn a_store_is_shared_by_its_clients_and_its_clock_by_all_of_them<A: Adapter>() {
    let store = Store::new();
    let clients: Vec<_> = (0..4)
        .map(|_| A::connect(Config::in_store(&store)).expect("nothing to connect to"))
        .collect();
    join_all::<A, _, _>((0..A::MANY).map(|at| {
        let client = clients[at % clients.len()].clone();
        async move { A::done(client.incr("n")).await.expect("a plain INCR") }
    }));
    let all = Value::Bulk(A::MANY.to_string().into());
    assert_eq!(store.execute(&["GET", "n"]), all);
    assert_eq!(A::status(&clients[0]).health, Health::Live);
    A::wait(clients[0].set_ex("session", "Ada", Duration::from_secs(60))).expect("a plain SET");
    assert_eq!(store.len(), 2);
    store.advance(Duration::from_secs(61));
    let gone: Option<String> = A::wait(clients[1].get("session")).expect("a plain GET");
    assert_eq!((gone, store.len()), (None, 1));
    A::close(&clients[0]);
    assert_eq!(A::wait(clients[1].incr("n")).expect("it is open"), A::MANY as i64 + 1);
    let refused = failure(A::wait(clients[1].command("SELECT").arg(0).run::<()>()));
    assert!(matches!(refused.kind(), FailureKind::Misuse(_)), "as on a server: {refused}");
}
