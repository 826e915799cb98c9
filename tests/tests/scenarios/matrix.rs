//! Every mode and policy, every class of command, at every moment of an outage: a table that is read
//! by people, and held to a real server by this.
//!
//! The table is `tests/data/degraded.txt`, and says what its columns mean. The simulation's half of
//! the test (`fuzz/tests/matrix.rs`) holds the core alone to the same table.

use std::{fmt, thread, time::Duration};

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
use unfazed_tests::{Raw, RawReply, Server};

use crate::{
    adapters::{Adapter, OnTokio, join_all, run},
    support::{LIMIT, quick, until_health},
};

const TABLE: &str = include_str!("../../data/degraded.txt");

/// Long enough for the outage to be judged while a request is under way.
const AT_THE_TRIP: Duration = Duration::from_secs(3);

/// So short that what waits for the server is soon done with.
const WHILE_DOWN: Duration = Duration::from_millis(150);

#[derive(Clone, Debug)]
struct Class {
    name: String,
    /// What makes the keys' values on the server, before anything else.
    prepare: Vec<String>,
    /// What the client does while the server is well, to see them.
    see: Vec<String>,
    command: String,
}

/// What becomes of a class of command.
#[derive(PartialEq, Eq)]
struct Row {
    class: String,
    at: String,
    during: String,
    left: String,
}

#[test]
fn every_class_of_command_does_in_each_mode_what_the_table_says() {
    run::<OnTokio>(hold_to_the_table::<OnTokio>);
}

fn hold_to_the_table<A: Adapter>() {
    let classes = classes();
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
        if found != rows(mode) {
            differences += &format!("\n[{mode}]\n");
            found.iter().for_each(|row| differences += &row.to_string());
        }
    }
    assert!(differences.is_empty(), "these sections of the table should read:\n{differences}");
}

fn modes() -> [(&'static str, Fallback); 5] {
    let memory = |policy| Fallback::memory("m:*", policy);
    [
        ("wait", Fallback::wait("m:*")),
        ("fail", Fallback::fail("m:*")),
        ("miss", Fallback::miss("m:*")),
        ("memory, discard", memory(Policy::Discard)),
        ("memory, invalidate", memory(Policy::Invalidate)),
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
            format!("server {}", class.show_raw(&reply, "twin"))
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
        let mut state = |moment| class.state(&mut witness, moment);
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
            class.show(&asked.await, moment)
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
    class.show(&A::wait(request::<A>(client, class, moment, limit)), moment)
}

impl Class {
    /// A command's words, with the keys that it has at this moment.
    fn words(&self, command: &str, moment: &str) -> Vec<String> {
        let word = |word: &str| match word {
            "k" | "j" | "k*" => self.prefix(moment) + word,
            "w" => format!("w:{}", self.prefix(moment)),
            _ => word.to_owned(),
        };
        command.split(' ').map(word).collect()
    }

    /// Whether it has more than the usual time before its server counts as silent.
    fn is_slow(&self) -> bool {
        self.name.starts_with("slow: ")
    }

    fn prefix(&self, moment: &str) -> String {
        format!("m:{}:{moment}:", self.name.replace([' ', ':'], ""))
    }

    fn show(&self, outcome: &Result<Sourced<Value>, Failure>, moment: &str) -> String {
        let failure = match outcome {
            Ok(Sourced { value, source }) => {
                let source = format!("{source:?}").to_lowercase();
                let value = show(value).replace(&self.prefix(moment), "");
                return format!("{source} {value}");
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

    fn show_raw(&self, reply: &RawReply, moment: &str) -> String {
        show_raw(reply).replace(&self.prefix(moment), "")
    }

    /// What the server holds at the keys that the class has at this moment.
    fn state(&self, witness: &mut Raw, moment: &str) -> String {
        let named = |key: &&str| {
            let mut commands = self.prepare.iter().chain([&self.command]);
            commands.any(|command| command.split(' ').any(|word| word == *key))
        };
        let keys = ["k", "j", "w"].into_iter().filter(named);
        let states = keys.map(|key| {
            let key = &self.words(key, moment)[0];
            let command = match show_raw(&witness.cmd(&["TYPE", key])).as_str() {
                "hash" => vec!["HGETALL", key],
                "list" => vec!["LRANGE", key, "0", "-1"],
                "set" => vec!["SORT", key, "ALPHA"],
                "zset" => vec!["ZRANGE", key, "0", "-1", "WITHSCORES"],
                "stream" => vec!["XLEN", key],
                _ => vec!["GET", key],
            };
            let mut state = show_raw(&witness.cmd(&command));
            if witness.int(&["TTL", key]) > 0 {
                state += " ttl";
            }
            state
        });
        states.collect::<Vec<_>>().join(", ")
    }
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

// ---- the table ---------------------------------------------------------------------------------

fn classes() -> Vec<Class> {
    let commands = |cell: &str| {
        let commands = cell.split(';').map(str::trim).filter(|command| !command.is_empty());
        commands.map(str::to_owned).collect()
    };
    let class = |[name, prepare, see, command]: [String; 4]| Class {
        name,
        prepare: commands(&prepare),
        see: commands(&see),
        command,
    };
    section("classes").map(class).collect()
}

fn rows(mode: &str) -> Vec<Row> {
    section(mode).map(|[class, at, during, left]| Row { class, at, during, left }).collect()
}

fn section(name: &str) -> impl Iterator<Item = [String; 4]> {
    let head = format!("[{name}]");
    let lines = TABLE.lines().skip_while(move |line| *line != head).skip(1);
    lines.take_while(|line| !line.is_empty()).map(|line| {
        let cells: Vec<_> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
        cells.try_into().unwrap_or_else(|_| panic!("not four cells: {line}"))
    })
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { class, at, during, left } = self;
        writeln!(f, "{class:<17} | {at:<16} | {during:<16} | {left}")
    }
}
