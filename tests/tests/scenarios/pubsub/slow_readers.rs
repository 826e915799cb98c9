//! Readers that are slower than what is published: bounds are kept, and what is dropped is told.

use std::thread;

use unfazed_core::{
    Cause, commands::prelude::*, engine::Health, handle::Subscribe, pubsub::Incoming,
};
use unfazed_tests::{Raw, RawReply, Server as TestServer, eventually};

use super::{message, nothing_comes, publish, subscribe, until_connections, until_restored};
use crate::{
    adapters::{Adapter, in_cluster, scenarios},
    site::Site,
    support::{LIMIT, PROTOCOLS, quick},
};

scenarios! {
    a_slow_reader_that_drops_keeps_its_bound_and_counts,
    a_slow_reader_that_stops_reading_meets_the_servers_limit,
    a_burst_beyond_the_servers_limit_is_told_and_the_bound_is_kept,
}

in_cluster! {
    a_slow_reader_that_drops_keeps_its_bound_and_counts,
}

fn a_slow_reader_that_drops_keeps_its_bound_and_counts<A: Adapter>() {
    const BOUND: usize = 100;
    const SENT: usize = 20_000;
    let server = Site::start();
    let mut witness = server.raw();
    for protocol in PROTOCOLS {
        let config = server.config().protocol(protocol).subscription_messages_max(BOUND);
        let client = A::connect(config).expect("there is a server");
        let mut stream = subscribe::<A>(&client, &["n"]);
        // A server that runs a script answers nobody, and a node of a cluster tells all others of each
        // message: few at a time, or the client takes it for silent.
        let code = "for n = ARGV[1], ARGV[1] + 99 do redis.call('PUBLISH', 'n', n) end";
        for first in (1..SENT).step_by(100) {
            witness.cmd(&["EVAL", code, "0", &first.to_string()]);
        }
        eventually("all to have come", LIMIT, || {
            let status = A::status(&client);
            assert!(status.messages_waiting <= BOUND, "{status:?}");
            (status.messages_dropped as usize == SENT - BOUND).then_some(())
        });
        match A::read(&mut stream, LIMIT) {
            Ok(Some(Incoming::Dropped { count })) => assert_eq!(count as usize, SENT - BOUND),
            other => panic!("nothing was dropped: {other:?}"),
        }
        for number in SENT - BOUND + 1..=SENT {
            assert_eq!(message::<A>(&mut stream).1, number.to_string());
        }
        nothing_comes::<A>(&mut stream);
        server.until_passed_on();
    }
}

fn a_slow_reader_that_stops_reading_meets_the_servers_limit<A: Adapter>() {
    const BOUND: usize = 1_000;
    const SENT: usize = 40_000;
    let limit = "client-output-buffer-limit";
    let server = TestServer::with_args(&[&format!("--{limit}"), "pubsub 2mb 0 0"]);
    let mut witness = Raw::connect(server.port());
    for protocol in PROTOCOLS {
        // The client of the round before may be leaving still.
        until_connections(&mut witness, 0);
        let client = A::connect(quick(server.port()).protocol(protocol)).expect("a server");
        let slow = client.subscriber().messages_max(BOUND).stop_reading().subscribe("n");
        let mut slow = A::listen(slow).expect("there is a server");
        let its_own = the_one_that_listens(&mut witness);
        let mut quick = A::listen(client.subscriber().messages_max(BOUND).subscribe("n"))
            .expect("there is a server");
        let code = "for n = ARGV[1], ARGV[1] + 99 do \
            redis.call('PUBLISH', 'n', n .. string.rep('.', 1000)) end";
        for first in (1..SENT).step_by(100) {
            // How much the system holds for a reader before the server has to, differs.
            if first % 1_000 == 1 && !is_connected(&mut witness, &its_own) {
                break;
            }
            witness.cmd(&["EVAL", code, "0", &first.to_string()]);
            // No faster than the other one can read, or that would be cut off as well.
            eventually("the other one to have read them", LIMIT, || {
                let status = A::status(&client);
                let noted = 2 * BOUND + 1;
                assert!(status.messages_waiting <= noted, "{status:?}");
                (status.messages_dropped as usize + BOUND >= first + 99).then_some(())
            });
        }
        eventually("the server to give it up", LIMIT, || {
            (!is_connected(&mut witness, &its_own)).then_some(())
        });
        // Silence on a connection that nobody reads is no fault of the server's.
        thread::sleep(2 * crate::support::SILENCE);
        let mut next = 1;
        let cause = loop {
            match A::read(&mut slow, LIMIT) {
                Ok(Some(Incoming::Message(message))) => {
                    let text = message.payload.to_str().expect("text");
                    let number: usize = text.trim_end_matches('.').parse().expect("a number");
                    assert_eq!(number, next, "nothing is left out before the end");
                    next += 1;
                }
                Ok(Some(Incoming::Lost { cause })) => break cause,
                other => panic!(
                    "{other:?} in place of {next} or the end, on {protocol:?}: {:?}\n{}",
                    A::status(&client),
                    clients(&mut witness, &[]),
                ),
            }
        };
        assert!(next > BOUND && next < SENT, "{next}");
        assert!(matches!(cause, Cause::EndOfStream | Cause::Reset), "{cause}");
        until_restored::<A>(&mut slow);
        publish(&mut witness, "n", "again");
        assert_eq!(message::<A>(&mut slow).1, "again");
        // The other one has lost the oldest, and was never cut off.
        let mut dropped = 0;
        loop {
            match A::read(&mut quick, LIMIT) {
                Ok(Some(Incoming::Dropped { count })) => dropped += count,
                Ok(Some(Incoming::Message(message))) if *message.payload == *b"again" => break,
                Ok(Some(Incoming::Message(_))) => {}
                other => panic!("unexpected: {other:?}"),
            }
        }
        assert!(dropped > 0);
        assert_eq!(A::status(&client).health, Health::Live);
    }
}

/// What the server calls the one connection on which somebody listens.
#[track_caller]
fn the_one_that_listens(witness: &mut Raw) -> String {
    let list = clients(witness, &["TYPE", "pubsub"]);
    let ids: Vec<&str> = list
        .lines()
        .filter_map(|line| line.split(' ').find_map(|field| field.strip_prefix("id=")))
        .collect();
    let [id] = ids[..] else { panic!("not one, but:\n{list}") };
    id.to_owned()
}

fn is_connected(witness: &mut Raw, id: &str) -> bool {
    !clients(witness, &["ID", id]).is_empty()
}

/// A part of the server's list of connections.
#[track_caller]
fn clients(witness: &mut Raw, which: &[&str]) -> String {
    match witness.cmd(&[&["CLIENT", "LIST"], which].concat()) {
        RawReply::Bulk(list) => String::from_utf8(list).expect("text"),
        other => panic!("no list: {other:?}"),
    }
}

fn a_burst_beyond_the_servers_limit_is_told_and_the_bound_is_kept<A: Adapter>() {
    const BOUND: usize = 1_000;
    const BURST: usize = 5_000;
    let limit = "--client-output-buffer-limit";
    let server = TestServer::with_args(&[limit, "pubsub 2mb 0 0"]);
    let mut witness = Raw::connect(server.port());
    // More at once than the server is willing to hold for anybody, however fast he reads.
    let code =
        format!("for n = 1, {BURST} do redis.call('PUBLISH', 'n', string.rep('.', 1000)) end");
    for protocol in PROTOCOLS {
        for stops in [false, true] {
            // While the script runs the server answers nobody; it is not to be taken for silent.
            let config = quick(server.port()).protocol(protocol).response_timeout(LIMIT);
            let client = A::connect(config).expect("a server");
            let wish = client.subscriber().messages_max(BOUND);
            let wish = if stops { wish.stop_reading() } else { wish };
            let mut stream = A::listen(wish.subscribe("n")).expect("there is a server");
            for _ in 0..3 {
                witness.cmd(&["EVAL", &code, "0"]);
                // Nobody reads, and requests go on, though they may have lost their connection.
                for _ in 0..50 {
                    A::wait(client.get::<String>("none")).expect("a GET goes again");
                    let waiting = A::status(&client).messages_waiting;
                    assert!(waiting <= 2 * BOUND, "{waiting} messages wait");
                }
                let cause = loop {
                    match A::read(&mut stream, LIMIT) {
                        Ok(Some(Incoming::Lost { cause })) => break cause,
                        Ok(Some(Incoming::Message(_) | Incoming::Dropped { .. })) => {}
                        other => panic!("no word of the loss: {other:?}"),
                    }
                };
                assert!(matches!(cause, Cause::EndOfStream | Cause::Reset), "{cause}");
                until_restored::<A>(&mut stream);
                assert_eq!(publish(&mut witness, "n", "after"), 1);
                assert_eq!(message::<A>(&mut stream).1, "after");
            }
            assert_eq!(A::status(&client).health, Health::Live);
        }
    }
}
