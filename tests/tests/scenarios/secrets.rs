//! A password is in nothing that a program may print, whatever goes wrong.

use std::{fmt, time::Duration};

use unfazed_core::{
    Config, Failure,
    commands::prelude::*,
    config::ProtocolChoice,
    fallback::{Fallback, Policy},
};
use unfazed_tests::{Manners, Peer, Server as TestServer};

use crate::{
    adapters::{Adapter, scenarios},
    support::{Changes, failure, quick},
};

scenarios! {
    a_password_is_in_nothing_that_a_refused_client_says,
    a_password_that_the_server_repeats_is_not_repeated,
    a_password_is_in_nothing_that_a_client_says_through_an_outage,
    arguments_are_in_nothing_that_a_request_says,
}

const PASSWORD: &str = "hunter2-s%cr&t";
/// Percent-encoded, as in a URL.
const ENCODED: &str = "hunter2-s%25cr%26t";
const MARK: &str = "hunter2";

/// Everything that a program may print of it.
fn silent_about(thing: &(impl fmt::Debug + ?Sized)) {
    let (brief, full) = (format!("{thing:?}"), format!("{thing:#?}"));
    assert!(!brief.contains(MARK) && !full.contains(MARK), "{brief}");
}

fn silent_failure(failure: &Failure) {
    silent_about(failure);
    silent_about(failure.kind());
    let mut told = failure.to_string();
    let mut source = std::error::Error::source(failure);
    while let Some(cause) = source {
        told += &format!(" <- {cause} ({cause:?})");
        source = cause.source();
    }
    assert!(!told.contains(MARK), "{told}");
}

fn silent_events(changes: &mut Changes) {
    for event in changes.events() {
        silent_about(event);
        assert!(!event.to_string().contains(MARK), "{event}");
    }
}

fn a_password_is_in_nothing_that_a_refused_client_says<A: Adapter>() {
    let server = TestServer::with_args(&["--requirepass", "another"]);
    for protocol in [ProtocolChoice::Auto, ProtocolChoice::Resp2] {
        let config = quick(server.port()).password(PASSWORD).protocol(protocol);
        silent_about(&config);
        assert!(!config.to_string().contains(MARK));
        silent_failure(&failure(A::connect(config.clone())));
        silent_failure(&failure(A::connect(config.clone().username("somebody"))));
        let client = A::lazy(config).expect("a good config");
        let mut changes = Changes::of::<A>(&client);
        silent_failure(&failure(A::wait(client.get::<String>("k"))));
        silent_about(&client);
        silent_about(&A::status(&client));
        silent_events(&mut changes);
    }
    for url in [
        format!("redis://user:{ENCODED}@127.0.0.1:notaport"),
        format!("redis://user:{ENCODED}@127.0.0.1/notadatabase"),
        format!("redis://user:{PASSWORD}@127.0.0.1"),
        format!("redis://user:{ENCODED}@127.0.0.1?deadline=never"),
        format!("nosuch://user:{ENCODED}@127.0.0.1"),
    ] {
        let refused = failure(Config::from_url(&url).map_err(Failure::from));
        silent_failure(&refused);
    }
}

/// Servers before 6.0 and others quote the arguments of what they do not know.
fn a_password_that_the_server_repeats_is_not_repeated<A: Adapter>() {
    let peer = Peer::start(|client| {
        while let Some(command) = client.read_command() {
            let words: Vec<_> = command.iter().map(|word| String::from_utf8_lossy(word)).collect();
            let (name, args) = (&words[0], words[1..].join("` `"));
            client.write(
                format!("-ERR unknown command `{name}`, with args beginning with: `{args}`\r\n")
                    .as_bytes(),
            );
        }
    });
    for protocol in [ProtocolChoice::Auto, ProtocolChoice::Resp2, ProtocolChoice::Resp3] {
        for user in [None, Some("somebody")] {
            let mut config = quick(peer.port()).password(PASSWORD).protocol(protocol);
            config.username = user.map(str::to_owned);
            silent_failure(&failure(A::connect(config.clone())));
            let client = A::lazy(config).expect("a good config");
            let mut changes = Changes::of::<A>(&client);
            silent_failure(&failure(A::wait(client.get::<String>("k"))));
            silent_about(&A::status(&client));
            silent_events(&mut changes);
        }
    }
}

fn a_password_is_in_nothing_that_a_client_says_through_an_outage<A: Adapter>() {
    let mut server = TestServer::with_args(&["--requirepass", PASSWORD]);
    let rule = Fallback::memory("cache:*", Policy::Invalidate);
    let config = quick(server.port()).password(PASSWORD).fallback(rule);
    let client = A::connect(config.deadline(Duration::from_millis(500))).expect("the right one");
    let mut changes = Changes::of::<A>(&client);
    A::wait(client.set("cache:k", "v")).expect("a plain SET");
    server.kill();
    silent_failure(&failure(A::wait(client.incr("wallet:n"))));
    assert_eq!(A::wait(client.get::<String>("cache:k")).expect("memory").as_deref(), Some("v"));
    silent_about(&client);
    silent_about(&A::status(&client));
    let port = server.port();
    drop(server);
    let peer = Peer::start_on(port, |client| {
        client.handshake(Manners::Resp3);
        client.write(b"garbage\r\n");
    });
    changes.expect_some(1, |event| event.to_string().contains("protocol"));
    drop(peer);
    silent_about(&A::status(&client));
    silent_events(&mut changes);
    A::close(&client);
    silent_failure(&failure(A::wait(client.incr("wallet:n"))));
    silent_events(&mut changes);
}

fn arguments_are_in_nothing_that_a_request_says<A: Adapter>() {
    let server = TestServer::start();
    let client = A::connect(quick(server.port())).expect("there is a server");
    silent_about(&client.command("SET").arg("k").arg(PASSWORD));
    silent_about(&client.command(&format!("CONFIG SET {PASSWORD}")));
    for refused in [
        failure(A::wait(client.command("AUTH").arg(PASSWORD).run::<()>())),
        failure(A::wait(client.command("SET").arg(PASSWORD).run::<()>())),
    ] {
        silent_failure(&refused);
    }
}
