//! Every mode and policy, every class of command, at every moment of an outage: a table that is read
//! by people, and held to a real server by this.
//!
//! The table is `tests/data/degraded.txt`, and says what its columns mean. The simulation's half of
//! the test (`fuzz/tests/matrix.rs`) holds the core alone to the same table.

use std::{thread, time::Duration};

use unfazed_core::{
    Failure,
    commands::{Run, prelude::*},
    engine::Health,
    failure::{Executed, FailureKind},
    fallback::{Fallback, Policy},
    handle::Views,
    reply::Sourced,
    resp::Value,
};
use unfazed_tests::{
    Raw, RawReply, Server,
    table::{Class, Row, command_to_see, in_order},
};

use crate::{
    adapters::{Adapter, OnTokio, join_all, run},
    support::{LIMIT, quick, until_health},
};

/// Long enough for the outage to be judged while a request is under way.
const AT_THE_TRIP: Duration = Duration::from_secs(3);

/// So short that what waits for the server is soon done with.
const WHILE_DOWN: Duration = Duration::from_millis(150);

#[test]
fn every_class_of_command_does_in_each_mode_what_the_table_says() {
    run::<OnTokio>(hold_to_the_table::<OnTokio>);
}

fn hold_to_the_table<A: Adapter>() {
    let classes = Class::all();
    let observed = thread::scope(|scope| {
        let observe = |(mode, rule)| {
            let classes = &classes;
            (mode, scope.spawn(move || A::enter(|| observe::<A>(mode, rule, classes))))
        };
        let threads = modes().map(observe);
        threads.map(|(mode, thread)| (mode, thread.join().expect("its panic was shown")))
    });
    let mut differences = String::new();
    for (mode, found) in observed {
        if found != Row::all_of(mode) {
            differences += &format!("\n[{mode}]\n");
            found.iter().for_each(|row| differences += &row.to_string());
        }
    }
    assert!(differences.is_empty(), "these sections of the table should read:\n{differences}");
}

fn modes() -> [(&'static str, Fallback); 8] {
    let memory = |policy| Fallback::memory("m:*", policy);
    [
        ("wait", Fallback::wait("m:*")),
        ("fail", Fallback::fail("m:*")),
        ("miss", Fallback::miss("m:*")),
        ("stale reads", Fallback::stale_reads("m:*", Duration::from_secs(60))),
        ("memory, discard", memory(Policy::Discard)),
        ("memory, invalidate", memory(Policy::Invalidate)),
        ("memory, replay", memory(Policy::ReplayLastWins)),
        ("memory, merge", memory(Policy::MergeDelta)),
    ]
}

/// Goes through one outage with all classes, each on keys of its own for each moment.
fn observe<A: Adapter>(mode: &str, rule: Fallback, classes: &[Class]) -> Vec<Row> {
    let server = Server::start();
    let client = A::connect(quick(server.port()).fallback(rule)).expect("there is a server");
    let mut witness = Raw::connect(server.port());
    for class in classes {
        for moment in ["twin", "before", "at", "during", "after"] {
            class.prepare.iter().for_each(|command| {
                let reply = witness.cmd(&class.words(command, moment));
                assert!(!matches!(reply, RawReply::Error(_)), "{command}: {reply:?}");
            });
        }
        for moment in ["at", "during"] {
            for command in &class.see {
                let words = class.words(command, moment);
                let seen = client.command(&words[0]).args(&words[1..]).run::<Value>();
                A::wait(seen).expect("the server is well");
            }
        }
    }
    let twins: Vec<_> = classes
        .iter()
        .map(|class| {
            let reply = witness.cmd(&class.words(&class.command, "twin"));
            format!("server {}", show_raw(&reply).replace(&class.prefix("twin"), ""))
        })
        .collect();
    for (class, twin) in classes.iter().zip(&twins) {
        assert_eq!(&ask::<A>(&client, class, "before", LIMIT), twin, "{mode}, {class:?}");
    }

    server.stop();
    let at = ask_all::<A>(&client, classes, "at", AT_THE_TRIP);
    until_health::<A>(&client, Health::Degraded);
    let during = ask_all::<A>(&client, classes, "during", WHILE_DOWN);
    server.cont();
    until_health::<A>(&client, Health::Live);

    let mut rows = Vec::new();
    for (((class, twin), at), during) in classes.iter().zip(&twins).zip(at).zip(during) {
        let mut state = |moment| state(&mut witness, class, moment);
        let (untouched, done) = (state("after"), state("twin"));
        let (left_at, left) = (state("at"), state("during"));
        let fits = match at.as_str() {
            "maybe" | "deadline" | "down" => left_at == untouched || left_at == done,
            "-" => left_at == untouched,
            _ => left_at == left,
        };
        assert!(fits, "{mode}, {class:?}: {at:?} left {left_at}");
        assert_eq!(&ask::<A>(&client, class, "after", LIMIT), twin, "{mode}, {class:?}");
        rows.push(Row { class: class.name.clone(), at, during, left });
    }
    rows
}

/// Has all classes ask at once, and gives what came of each.
fn ask_all<A: Adapter>(
    client: &A::Client,
    classes: &[Class],
    moment: &'static str,
    limit: Duration,
) -> Vec<String> {
    join_all::<A, _, _>(classes.iter().map(|class| {
        let (client, class) = (client.clone(), class.clone());
        async move {
            if moment == "at" && class.is_slow() {
                return "-".to_owned();
            }
            let asked = A::done(request::<A>(&client, &class, moment, limit));
            show_outcome(&asked.await).replace(&class.prefix(moment), "")
        }
    }))
}

/// Sends the class's command on its keys for this moment.
fn request<A: Adapter>(
    client: &A::Client,
    class: &Class,
    moment: &str,
    limit: Duration,
) -> <A::Client as Run>::Pending<Sourced<Value>> {
    let words = class.words(&class.command, moment);
    client.within(limit).sourced().command(&words[0]).args(&words[1..]).run::<Value>()
}

/// The same, and what came of it.
fn ask<A: Adapter>(client: &A::Client, class: &Class, moment: &str, limit: Duration) -> String {
    show_outcome(&A::wait(request::<A>(client, class, moment, limit)))
        .replace(&class.prefix(moment), "")
}

/// What came of a command, in the words of the table.
fn show_outcome(outcome: &Result<Sourced<Value>, Failure>) -> String {
    let failure = match outcome {
        Ok(Sourced { value, source }) => {
            return format!("{} {}", format!("{source:?}").to_lowercase(), show(value));
        }
        Err(failure) => failure,
    };
    match failure.kind() {
        _ if failure.executed() == Executed::Maybe => "maybe".to_owned(),
        FailureKind::DeadlinePassed(_) => "deadline".to_owned(),
        FailureKind::Down(_) => "down".to_owned(),
        FailureKind::Memory(refusal) => format!("{refusal:?}").to_lowercase(),
        _ => failure.to_string(),
    }
}

/// What the server holds at the keys that the class has at this moment.
fn state(witness: &mut Raw, class: &Class, moment: &str) -> String {
    let states = class.keys(moment).into_iter().map(|key| {
        let kind = show_raw(&witness.cmd(&["TYPE", &key]));
        let seen = show_raw(&witness.cmd(&command_to_see(&kind, &key)));
        let mut state = in_order(&kind, &seen);
        if witness.int(&["TTL", &key]) > 0 {
            state += " ttl";
        }
        state
    });
    states.collect::<Vec<_>>().join(", ")
}

fn show(value: &Value) -> String {
    let all = |values: &[Value]| values.iter().map(show).collect::<Vec<_>>().join(" ");
    match value {
        Value::Null => "nil".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Simple(bytes) | Value::Bulk(bytes) | Value::Error(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        Value::Array(values) | Value::Set(values) => format!("[{}]", all(values)),
        other => format!("{other:?}"),
    }
}

fn show_raw(reply: &RawReply) -> String {
    match reply {
        RawReply::Null => "nil".to_owned(),
        RawReply::Int(number) => number.to_string(),
        RawReply::Simple(text) | RawReply::Error(text) => text.clone(),
        RawReply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        RawReply::Array(replies) => {
            format!("[{}]", replies.iter().map(show_raw).collect::<Vec<_>>().join(" "))
        }
    }
}
