//! What operators steer: who answers, whatever health says.

use std::time::Duration;

use unfazed_core::{
    commands::prelude::*,
    config::Forced,
    engine::Health,
    failure::{Executed, FailureKind},
    fallback::{Fallback, Policy},
    handle::Views,
    resp::Source,
};
use unfazed_tests::{Raw, Server, eventually};

use crate::{
    adapters::{Adapter, scenarios},
    support::{LIMIT, failure, get, others_on, quick, until_health},
};

scenarios! {
    memory_answers_while_an_operator_wants_it_so_and_what_it_owes_is_paid_after,
    an_isolated_client_touches_no_server,
    a_client_that_is_to_ask_the_server_waits_for_it,
}

fn client_of<A: Adapter>(server: &Server) -> A::Client {
    let rule = Fallback::memory("cache:*", Policy::ReplayLastWins);
    let client = A::connect(quick(server.port()).fallback(rule)).expect("there is a server");
    A::wait(client.set("cache:k", "old")).expect("a plain SET");
    client
}

fn memory_answers_while_an_operator_wants_it_so_and_what_it_owes_is_paid_after<A: Adapter>() {
    let server = Server::start();
    let mut witness = Raw::connect(server.port());
    let client = client_of::<A>(&server);
    A::force(&client, Some(Forced::Memory));
    assert_eq!(A::status(&client).forced, Some(Forced::Memory));
    let known = get::<A>(&client, "cache:k").expect("in memory");
    assert_eq!((known.value.as_deref(), known.source), (Some("old"), Source::Shadow));
    A::wait(client.set("cache:k", "new")).expect("in memory");
    assert_eq!(witness.get("cache:k").as_deref(), Some("old"), "the server is left alone");
    A::force(&client, None);
    until_health::<A>(&client, Health::Live);
    assert_eq!(witness.get("cache:k").as_deref(), Some("new"));
    let after = get::<A>(&client, "cache:k").expect("by the server");
    assert_eq!((after.value.as_deref(), after.source), (Some("new"), Source::Server));
}

fn an_isolated_client_touches_no_server<A: Adapter>() {
    let server = Server::start();
    let mut witness = Raw::connect(server.port());
    let client = client_of::<A>(&server);
    A::force(&client, Some(Forced::Isolated));
    eventually("no connection but the witness's", LIMIT, || {
        (others_on(&mut witness) == 0).then_some(())
    });
    let known = get::<A>(&client, "cache:k").expect("in memory");
    assert_eq!(known.source, Source::Shadow);
    let refused = failure(A::wait(client.incr("wallet:n")));
    assert!(matches!(refused.kind(), FailureKind::Isolated), "{refused}");
    assert_eq!(refused.executed(), Executed::No);
    assert_eq!(others_on(&mut witness), 0, "nothing was tried");
    A::force(&client, None);
    until_health::<A>(&client, Health::Live);
    assert_eq!(A::wait(client.incr("wallet:n")).expect("by the server"), 1);
}

fn a_client_that_is_to_ask_the_server_waits_for_it<A: Adapter>() {
    let mut server = Server::start();
    let client = client_of::<A>(&server);
    A::force(&client, Some(Forced::Redis));
    server.kill();
    let waited =
        failure(A::wait(client.within(Duration::from_millis(300)).get::<String>("cache:k")));
    assert!(waited.is_timeout(), "{waited}");
    A::force(&client, None);
    until_health::<A>(&client, Health::Degraded);
    let known = get::<A>(&client, "cache:k").expect("in memory");
    assert_eq!(known.source, Source::Shadow);
    server.restart();
    until_health::<A>(&client, Health::Live);
}
