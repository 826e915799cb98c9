//! Memory has its bounds: what is clean makes room, what is dirty is never dropped, and what does not
//! fit is refused and told of once.

use std::collections::BTreeMap;

use unfazed_core::{
    Failure,
    commands::prelude::*,
    engine::Event,
    failure::{Bound, MemoryRefusal},
    fallback::{Fallback, Policy},
    resp::Source,
};
use unfazed_tests::{Proxy, Raw, Server as TestServer};

use crate::{
    adapters::{Adapter, scenarios},
    support::{Changes, check_get, cut, every_policy, mend, quick, refusal},
};

scenarios! {
    ten_thousand_keys_are_written_in_memory_and_not_one_more,
    bytes_are_bounded_and_what_was_written_is_never_dropped,
    a_full_journal_refuses_and_says_so_once_an_outage,
    deltas_are_bounded_too,
}

/// How often the client said that something was full.
fn told(changes: &mut Changes, bound: Bound) -> usize {
    let full = |event: &&Event| matches!(event, Event::Full { bound: told } if *told == bound);
    changes.events().iter().filter(full).count()
}

/// Waits until the client has said as often that the journal is full, and no more often.
#[track_caller]
fn expect_journal_full(changes: &mut Changes, count: usize) {
    let full = |event: &Event| {
        let journal = [Bound::JournalEntries, Bound::JournalBytes];
        matches!(event, Event::Full { bound } if journal.contains(bound))
    };
    changes.expect_some(count, full);
}

#[track_caller]
fn assert_full<T>(outcome: Result<T, Failure>, bound: Bound) {
    assert_eq!(refusal(outcome), MemoryRefusal::Full(bound));
}

fn ten_thousand_keys_are_written_in_memory_and_not_one_more<A: Adapter>() {
    // The default, of the overlay and of the journal.
    const MAX: usize = 10_000;
    let server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let client = A::connect(every_policy(quick(proxy.port()))).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    for at in 0..100 {
        A::wait(client.set(format!("session:clean:{at}"), at)).expect("a plain SET");
    }
    cut::<A>(&proxy, &client);
    check_get::<A>(&client, "session:clean:7", Some("7"), Source::Shadow);
    for at in 0..MAX {
        A::wait(client.set(format!("session:{at}"), at)).expect("in memory");
    }
    let status = A::status(&client);
    assert_eq!((status.overlay_entries, status.journal_entries), (MAX, MAX));
    assert_eq!(status.shadow_entries, 0, "what was clean has made room");
    expect_journal_full(&mut changes, 0);
    for at in 0..10 {
        assert_full(A::wait(client.set(format!("session:more:{at}"), at)), Bound::JournalEntries);
    }
    // Those that are there may change.
    A::wait(client.append("session:1", "+")).expect("in memory");
    assert_eq!(A::wait(client.del(["session:2", "session:3"])).expect("in memory"), 2);
    let status = A::status(&client);
    assert_eq!((status.overlay_entries, status.journal_entries), (MAX - 2, MAX));
    expect_journal_full(&mut changes, 1);
    for at in (4..MAX).step_by(17) {
        let there = at.to_string();
        check_get::<A>(&client, &format!("session:{at}"), Some(&there), Source::Overlay);
    }

    mend::<A>(&proxy, &client);
    let mut witness = Raw::connect(server.port());
    assert_eq!(witness.int(&["DBSIZE"]), (MAX - 2 + 100) as i64);
    assert_eq!(witness.get("session:1").as_deref(), Some("1+"));
    assert_eq!(witness.get("session:2"), None);
    assert_eq!(witness.get("session:9999").as_deref(), Some("9999"));
    let status = A::status(&client);
    assert_eq!((status.overlay_entries, status.overlay_bytes, status.journal_entries), (0, 0, 0));
}

fn bytes_are_bounded_and_what_was_written_is_never_dropped<A: Adapter>() {
    const MAX: usize = 1 << 20;
    let server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let config = every_policy(quick(proxy.port())).memory_bytes_max(MAX);
    let client = A::connect(config).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    for outage in 1..=2 {
        cut::<A>(&proxy, &client);
        let mut accepted = BTreeMap::new();
        let mut refused = 0;
        for at in 0..150_usize {
            // Of every size, so that small ones still fit where large ones don't.
            let value = format!("{outage}-{at}-").repeat(1 + at * 7_919 % 4_000);
            let key = format!("session:{at}");
            match A::wait(client.set(&key, &value)) {
                Ok(()) => drop(accepted.insert(key, value)),
                failed => {
                    assert_full(failed, Bound::MemoryBytes);
                    refused += 1;
                }
            }
            let status = A::status(&client);
            assert!(status.overlay_bytes <= MAX, "{} bytes", status.overlay_bytes);
            assert_eq!(status.overlay_entries, accepted.len());
        }
        println!("{} accepted, {refused} refused", accepted.len());
        assert!(accepted.len() > 30 && refused > 30, "{} accepted", accepted.len());
        for (key, value) in &accepted {
            check_get::<A>(&client, key, Some(value), Source::Overlay);
        }
        mend::<A>(&proxy, &client);
        let mut witness = Raw::connect(server.port());
        for (key, value) in &accepted {
            assert_eq!(witness.get(key).as_ref(), Some(value), "{key}");
        }
        // At least once, and never once a refusal.
        let told = told(&mut changes, Bound::MemoryBytes);
        assert!((outage..=outage + refused / 4).contains(&told), "told {told} times");
    }
}

fn a_full_journal_refuses_and_says_so_once_an_outage<A: Adapter>() {
    const MAX: usize = 10;
    let server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let config = quick(proxy.port()).journal_entries_max(MAX).fallback(Fallback::miss("page:*"));
    let client = A::connect(config).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    let mut witness = Raw::connect(server.port());
    for outage in 1..=2 {
        for at in 0..2 * MAX {
            witness.ok(&["SET", &format!("page:{at}"), "old"]);
        }
        cut::<A>(&proxy, &client);
        for at in 0..2 * MAX {
            let written = A::wait(client.set(format!("page:{at}"), "new"));
            if at < MAX {
                written.expect("dropped");
            } else {
                assert_full(written, Bound::JournalEntries);
            }
        }
        // All of them or none.
        assert_full(A::wait(client.del(["page:0", "page:10"])), Bound::JournalEntries);
        assert_eq!(A::wait(client.del(["page:0", "page:1"])).expect("owed already"), 0);
        assert_eq!(A::status(&client).journal_entries, MAX);
        mend::<A>(&proxy, &client);
        for at in 0..2 * MAX {
            let there = if at < MAX { None } else { Some("old") };
            assert_eq!(witness.get(&format!("page:{at}")).as_deref(), there, "page:{at}");
        }
        expect_journal_full(&mut changes, outage);
    }
}

fn deltas_are_bounded_too<A: Adapter>() {
    const MAX: usize = 64 << 10;
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    witness.ok(&["SET", "count:log", "theirs,"]);
    let proxy = Proxy::start(server.port());
    let config = quick(proxy.port())
        .journal_bytes_max(MAX)
        .fallback(Fallback::memory("count:*", Policy::MergeDelta));
    let client = A::connect(config).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    cut::<A>(&proxy, &client);
    let piece = "x".repeat(1_000);
    let appended = (0..100).take_while(|at| {
        let appended = A::wait(client.append("count:log", format!("{at}{piece},")));
        match appended {
            Ok(_) => true,
            failed => {
                assert_full(failed, Bound::JournalBytes);
                false
            }
        }
    });
    let appended = appended.count();
    assert!((50..=65).contains(&appended), "{appended}");
    // A sum takes no more, however many there are of it.
    for _ in 0..1_000 {
        A::wait(client.incr("count:n")).expect("in memory");
    }
    let pushes = (0..1_000).take_while(|_| {
        let push = client.command("RPUSH").args(["count:list", piece.as_str()]);
        A::wait(push.run::<i64>()).is_ok()
    });
    let pushed = pushes.count();
    assert!(pushed < 20, "{pushed}");
    expect_journal_full(&mut changes, 1);
    mend::<A>(&proxy, &client);
    let log: String = (0..appended).map(|at| format!("{at}{piece},")).collect();
    assert_eq!(witness.get("count:log"), Some(format!("theirs,{log}")));
    assert_eq!(witness.get("count:n").as_deref(), Some("1000"));
    assert_eq!(witness.int(&["LLEN", "count:list"]), pushed as i64);
}
