//! Consumers of streams: whatever happens, each entry comes at least once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use unfazed_core::{
    FailureKind, Fallback, Policy,
    commands::prelude::*,
    dialogue::{Acks, Consumer, Consumers, Delivery, Origin},
    engine::Health,
    handle::Pipelines,
};
use unfazed_tests::{Fault, Proxy, Raw, RawReply, Server as TestServer, Way, eventually};

use crate::{
    adapters::{Adapter, Talk, in_cluster, scenarios},
    site::Site,
    support::{LIMIT, PROTOCOLS, SILENCE, at, failure, quick, timed, until_health},
};

scenarios! {
    a_consumer_gets_each_entry_once_where_nothing_happens,
    consumers_share_what_a_stream_delivers,
    what_was_not_acknowledged_comes_again_and_first,
    what_stalled_with_another_is_claimed,
    a_consumer_waits_for_what_is_added_later,
    several_streams_are_read_side_by_side,
    entries_whose_answer_was_lost_come_all_the_same,
    no_entry_is_lost_when_the_server_is_killed_again_and_again,
    a_lost_group_ends_a_consumer_or_is_made_anew,
    a_consumer_gives_up_when_told_to,
    a_consumer_waits_for_the_server_though_its_keys_may_degrade,
    a_closed_client_ends_its_consumers,
}

in_cluster! {
    a_consumer_gets_each_entry_once_where_nothing_happens,
    consumers_share_what_a_stream_delivers,
    what_was_not_acknowledged_comes_again_and_first,
    what_stalled_with_another_is_claimed,
    several_streams_are_read_side_by_side,
    a_closed_client_ends_its_consumers,
}

type Fields = BTreeMap<String, u64>;
type Consuming<A> = Talk<A, Consumer<Fields>>;

fn add(raw: &mut Raw, stream: &str, number: u64) {
    let reply = raw.cmd(&["XADD", stream, "*", "number", &number.to_string()]);
    assert!(matches!(reply, RawReply::Bulk(_)), "{reply:?}");
}

/// The next so many deliveries.
#[track_caller]
fn take<A: Adapter>(consumer: &mut Consuming<A>, count: usize) -> Vec<Delivery<Fields>> {
    (0..count).map(|_| A::next_item(consumer).expect("it goes on").expect("no failure")).collect()
}

fn numbers(deliveries: &[Delivery<Fields>]) -> Vec<u64> {
    deliveries.iter().map(|delivery| delivery.fields["number"]).collect()
}

fn pending(raw: &mut Raw, stream: &str) -> i64 {
    let RawReply::Array(parts) = raw.cmd(&["XPENDING", stream, "g"]) else { panic!("no summary") };
    let RawReply::Int(count) = parts[0] else { panic!("no number") };
    count
}

fn a_consumer_gets_each_entry_once_where_nothing_happens<A: Adapter>() {
    let server = Site::start();
    let mut raw = server.raw();
    for protocol in PROTOCOLS {
        raw.ok(&["FLUSHALL"]);
        (0..500).for_each(|number| add(&mut raw, "s", number));
        let client = A::connect(server.config().protocol(protocol)).expect("there is a server");
        let consumer = client.consumer("g", "me").stream("s").create(GroupStart::Beginning);
        let mut consumer: Consuming<A> = consumer.run();
        let first = take::<A>(&mut consumer, 250);
        assert!(first.iter().all(|delivery| delivery.origin == Origin::New));
        A::wait(client.ack(&first[0])).expect("a plain XACK");
        A::wait_all(client.pipeline(|p| first.iter().map(|one| p.ack(one)).collect::<Vec<_>>()))
            .expect("plain XACKs");
        let rest = take::<A>(&mut consumer, 250);
        let all: Vec<_> = numbers(&first).into_iter().chain(numbers(&rest)).collect();
        assert_eq!(all, (0..500).collect::<Vec<_>>());
        assert_eq!(pending(&mut raw, "s"), 250);
        rest.iter().for_each(|one| A::wait(client.ack(one)).expect("a plain XACK"));
        assert_eq!(pending(&mut raw, "s"), 0);
    }
}

fn consumers_share_what_a_stream_delivers<A: Adapter>() {
    let server = Site::start();
    let mut raw = server.raw();
    (0..100).for_each(|number| add(&mut raw, "s", number));
    let client = A::connect(server.config()).expect("there is a server");
    let consumer = |name: &str| -> Consuming<A> {
        let consumer = client.consumer("g", name).stream("s").create(GroupStart::Beginning);
        consumer.count(10).run()
    };
    let (mut one, mut two) = (consumer("one"), consumer("two"));
    let mut all = BTreeSet::new();
    for _ in 0..5 {
        all.extend(numbers(&take::<A>(&mut one, 10)));
        all.extend(numbers(&take::<A>(&mut two, 10)));
    }
    assert_eq!(all, (0..100).collect());
}

fn what_was_not_acknowledged_comes_again_and_first<A: Adapter>() {
    let server = Site::start();
    let mut raw = server.raw();
    (0..20).for_each(|number| add(&mut raw, "s", number));
    let client = A::connect(server.config()).expect("there is a server");
    let consumer = || -> Consuming<A> {
        let consumer = client.consumer("g", "me").stream("s").create(GroupStart::Beginning);
        consumer.count(8).run()
    };
    let taken = take::<A>(&mut consumer(), 4);
    A::wait(client.ack(&taken[1])).expect("a plain XACK");
    // Four more were read for it, and never given.
    let again = take::<A>(&mut consumer(), 19);
    assert_eq!(numbers(&again[..7]), [0, 2, 3, 4, 5, 6, 7]);
    assert!(again[..7].iter().all(|delivery| delivery.origin == Origin::Pending));
    assert_eq!(numbers(&again[7..]), (8..20).collect::<Vec<_>>());
    assert!(again[7..].iter().all(|delivery| delivery.origin == Origin::New));
}

fn what_stalled_with_another_is_claimed<A: Adapter>() {
    let server = Site::start();
    let mut raw = server.raw();
    (0..10).for_each(|number| add(&mut raw, "s", number));
    raw.ok(&["XGROUP", "CREATE", "s", "g", "0"]);
    raw.cmd(&["XREADGROUP", "GROUP", "g", "dead", "STREAMS", "s", ">"]);
    let client = A::connect(server.config()).expect("there is a server");
    let stalled = Duration::from_millis(300);
    let consumer = client.consumer("g", "me").stream("s").count(4).pause(stalled / 10);
    let mut consumer: Consuming<A> = consumer.reclaim_after(stalled).run();
    add(&mut raw, "s", 99);
    let (mut claimed, mut new) = (BTreeSet::new(), 0);
    while claimed.len() < 10 || new < 1 {
        for delivery in take::<A>(&mut consumer, 1) {
            match delivery.origin {
                Origin::Claimed => _ = claimed.insert(delivery.fields["number"]),
                Origin::New => new += 1,
                Origin::Pending => panic!("nothing was pending for this one"),
            }
            A::wait(client.ack(&delivery)).expect("a plain XACK");
        }
    }
    assert_eq!(claimed, (0..10).collect());
    assert_eq!(pending(&mut raw, "s"), 0);
}

fn a_consumer_waits_for_what_is_added_later<A: Adapter>() {
    let server = TestServer::start();
    let client = A::connect(at(server.port())).expect("there is a server");
    let consumer = client.consumer("g", "me").stream("s").create(GroupStart::End);
    let mut consumer: Consuming<A> = consumer.pause(Duration::from_millis(20)).run();
    let port = server.port();
    let adding = thread::spawn(move || {
        let mut raw = Raw::connect(port);
        for number in 0..5 {
            // The group has to be there first, or the entry would be before its beginning.
            eventually("the group to be there", LIMIT, || (groups(&mut raw) > 0).then_some(()));
            thread::sleep(Duration::from_millis(50));
            add(&mut raw, "s", number);
        }
    });
    assert_eq!(numbers(&take::<A>(&mut consumer, 5)), [0, 1, 2, 3, 4]);
    adding.join().expect("it does not panic");
}

fn groups(raw: &mut Raw) -> usize {
    match raw.cmd(&["XINFO", "GROUPS", "s"]) {
        RawReply::Array(groups) => groups.len(),
        _ => 0,
    }
}

fn several_streams_are_read_side_by_side<A: Adapter>() {
    let server = Site::start();
    let mut raw = server.raw();
    for number in 0..30 {
        add(&mut raw, ["a", "b", "c"][number as usize % 3], number);
    }
    let client = A::connect(server.config()).expect("there is a server");
    let consumer = client.consumer("g", "me").stream("a").streams(["b", "c"]);
    let mut consumer: Consuming<A> = consumer.create(GroupStart::Beginning).count(3).run();
    let all = take::<A>(&mut consumer, 30);
    assert_eq!(numbers(&all).into_iter().collect::<BTreeSet<_>>(), (0..30).collect());
    for (at, stream) in ["a", "b", "c"].into_iter().enumerate() {
        let of_it: Vec<_> = all.iter().filter(|one| one.stream == stream.as_bytes()).collect();
        let found: Vec<_> = of_it.iter().map(|one| one.fields["number"]).collect();
        assert_eq!(found, (0..10).map(|nth| 3 * nth + at as u64).collect::<Vec<_>>());
    }
}

fn entries_whose_answer_was_lost_come_all_the_same<A: Adapter>() {
    let server = TestServer::start();
    let mut raw = Raw::connect(server.port());
    let proxy = Proxy::start(server.port());
    let client = A::connect(quick(proxy.port())).expect("there is a server");
    let consumer = client.consumer("g", "me").stream("s").create(GroupStart::Beginning);
    let mut consumer: Consuming<A> = consumer.never_reclaim().count(10).run();
    for round in 0..3 {
        // It has read all that was pending, and asks for what is new.
        add(&mut raw, "s", 100 * round);
        assert_eq!(take::<A>(&mut consumer, 1)[0].origin, Origin::New);
        let before = pending(&mut raw, "s");
        (1..=10).for_each(|nth| add(&mut raw, "s", 100 * round + nth));
        // What is asked arrives, and the answer does not.
        proxy.set(Fault::Swallow(Way::Replies));
        let lost = thread::scope(|scope| {
            let (port, proxy) = (server.port(), &proxy);
            scope.spawn(move || {
                let mut raw = Raw::connect(port);
                eventually("the entries to be delivered", LIMIT, || {
                    (pending(&mut raw, "s") > before).then_some(())
                });
                // In this order: a reply that the proxy has not read yet must not get through.
                proxy.reset_all();
                proxy.set(Fault::None);
            });
            take::<A>(&mut consumer, 10)
        });
        assert_eq!(numbers(&lost), (100 * round + 1..=100 * round + 10).collect::<Vec<_>>());
        assert!(lost.iter().all(|delivery| delivery.origin == Origin::Pending));
    }
}

/// Adds entries, one acknowledged by the server after the other, until told to stop; gives the last.
fn keep_adding(port: u16, stop: &AtomicBool) -> u64 {
    let mut number = 0;
    let mut raw = None;
    loop {
        let Some(connected) = &mut raw else {
            raw = Raw::try_connect(port, Duration::from_secs(1)).ok();
            continue;
        };
        match connected.try_cmd(&["XADD", "s", "*", "number", &number.to_string()]) {
            // While it loads its data it answers with an error.
            Ok(RawReply::Bulk(_)) => number += 1,
            Ok(_) => {}
            Err(_) => raw = None,
        }
        if stop.load(Ordering::Relaxed) && number > 0 {
            return number - 1;
        }
        thread::sleep(Duration::from_micros(200));
    }
}

fn no_entry_is_lost_when_the_server_is_killed_again_and_again<A: Adapter>() {
    let mut server = TestServer::start();
    let client = A::connect(quick(server.port())).expect("there is a server");
    let consumer = client.consumer("g", "me").stream("s").create(GroupStart::Beginning);
    let mut consumer: Consuming<A> = consumer.pause(Duration::from_millis(5)).run();
    let stop = Arc::new(AtomicBool::new(false));
    let adding = {
        let (port, stop) = (server.port(), stop.clone());
        thread::spawn(move || keep_adding(port, &stop))
    };
    let mut found = BTreeSet::new();
    for round in 1..=4 {
        while found.len() < 300 * round {
            for delivery in take::<A>(&mut consumer, 1) {
                found.insert(delivery.fields["number"]);
                // Where it fails, the entry may come twice.
                let _ = A::wait(client.ack(&delivery));
            }
        }
        server.restart();
    }
    stop.store(true, Ordering::Relaxed);
    let last = adding.join().expect("it does not panic");
    while found.len() <= last as usize {
        for delivery in take::<A>(&mut consumer, 1) {
            found.insert(delivery.fields["number"]);
        }
    }
    assert_eq!(found, (0..=last).collect());
}

fn a_lost_group_ends_a_consumer_or_is_made_anew<A: Adapter>() {
    let mut server = TestServer::start();
    add(&mut Raw::connect(server.port()), "s", 1);
    let client = A::connect(quick(server.port())).expect("there is a server");
    let pause = Duration::from_millis(10);
    let consumer = || {
        let consumer = client.consumer("g", "me").stream("s").create(GroupStart::Beginning);
        consumer.pause(pause)
    };
    let mut strict: Consuming<A> = consumer().run();
    let mut lenient: Consuming<A> = client.consumer("h", "me").stream("s").recreate().run();
    assert_eq!(numbers(&take::<A>(&mut strict, 1)), [1]);
    assert_eq!(numbers(&take::<A>(&mut lenient, 1)), [1]);
    server.restart_empty();
    add(&mut Raw::connect(server.port()), "s", 2);
    let failure = failure(A::next_item(&mut strict).expect("it does not just end"));
    assert_eq!(failure.server_error().expect("the server's").code(), "NOGROUP");
    assert!(A::next_item(&mut strict).is_none());
    assert_eq!(numbers(&take::<A>(&mut lenient, 1)), [2]);
}

fn a_consumer_gives_up_when_told_to<A: Adapter>() {
    let mut server = TestServer::start();
    let client = A::connect(quick(server.port()).deadline(SILENCE)).expect("there is a server");
    let consumer = client.consumer("g", "me").stream("s").create(GroupStart::Beginning);
    let mut consumer: Consuming<A> = consumer.give_up_after(2 * SILENCE).run();
    add(&mut Raw::connect(server.port()), "s", 1);
    take::<A>(&mut consumer, 1);
    server.kill();
    let (last, took) = timed(|| A::next_item(&mut consumer));
    let failure = failure(last.expect("it does not just end"));
    assert!(failure.is_timeout() || matches!(failure.kind(), FailureKind::ConnectionLost(_)));
    assert!(took >= SILENCE, "{took:?}");
}

fn a_consumer_waits_for_the_server_though_its_keys_may_degrade<A: Adapter>() {
    let mut server = TestServer::start();
    add(&mut Raw::connect(server.port()), "s", 1);
    let config = quick(server.port()).fallback(Fallback::memory("*", Policy::Invalidate));
    let client = A::connect(config).expect("there is a server");
    let consumer = client.consumer("g", "me").stream("s").create(GroupStart::Beginning);
    let mut consumer: Consuming<A> = consumer.pause(Duration::from_millis(10)).run();
    take::<A>(&mut consumer, 1);
    server.kill();
    until_health::<A>(&client, Health::Degraded);
    let port = server.port();
    let back = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        server.restart();
        add(&mut Raw::connect(port), "s", 2);
        server
    });
    assert_eq!(numbers(&take::<A>(&mut consumer, 1)), [2]);
    back.join().expect("it does not panic");
}

fn a_closed_client_ends_its_consumers<A: Adapter>() {
    let server = Site::start();
    let client = A::connect(server.config()).expect("there is a server");
    let consumer = client.consumer("g", "me").stream("s").create(GroupStart::Beginning);
    let mut consumer: Consuming<A> = consumer.pause(Duration::from_secs(60)).run();
    let mut raw = server.raw();
    let closer = thread::spawn(move || {
        eventually("the consumer to be there", LIMIT, || (groups(&mut raw) > 0).then_some(()));
        thread::sleep(Duration::from_millis(50));
        A::enter(|| A::close(&client));
    });
    let (last, took) = timed(|| A::next_item(&mut consumer));
    let failure = failure(last.expect("it does not just end"));
    assert!(matches!(failure.kind(), FailureKind::ClientClosed), "{failure}");
    assert!(took < Duration::from_secs(30), "a sleep is no reason to stay");
    closer.join().expect("it does not panic");
}
