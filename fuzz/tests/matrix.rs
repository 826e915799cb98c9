//! Every mode and policy, every class of command, at every moment of an outage: the core alone, in
//! virtual time, held to the same table as the adapters are on a real server.
//!
//! The server is played by the embedded store, which `core/tests/store` holds to a real one. It
//! stops as by SIGSTOP: the kernel still accepts connections and bytes, and when it goes on it
//! carries out what came meanwhile, on connections long given up among them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use bytes::{Bytes, BytesMut};
use unfazed_core::{
    Cause, Config, Engine, Executed, FailureKind, Fallback, Now, Options, Policy, Request,
    engine::{ConnId, Health, Input, Output, Ticket},
    fallback::store::{Answer, Bounds, Store},
    resp::{Protocol, Value},
};
use unfazed_fuzz::server::parse;
use unfazed_tests::table::{Class, Row, command_to_see, in_order};

/// Long enough for the outage to be judged while a request is under way.
const AT_THE_TRIP: Duration = Duration::from_secs(5);

/// So short that what waits for the server is soon done with.
const WHILE_DOWN: Duration = Duration::from_millis(150);

/// How long the client may take to find out, and to come back.
const LIMIT: Duration = Duration::from_secs(60);

/// One engine and its server.
struct World {
    engine: Engine<()>,
    now: Now,
    timer: Option<Instant>,
    server: Store,
    /// It reads nothing.
    stopped: bool,
    /// By connection, while the server has it.
    links: BTreeMap<u64, Link>,
    dialled: u64,
}

#[derive(Default)]
struct Link {
    /// The client's end, while it has one.
    conn: Option<ConnId>,
    up: Vec<u8>,
    down: BytesMut,
    /// What came since MULTI.
    block: Option<Vec<Vec<String>>>,
}

#[test]
fn the_core_alone_does_what_the_table_says() {
    let classes = Class::all();
    let mut differences = String::new();
    for (mode, rule) in modes() {
        let found = observe(mode, rule, &classes);
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

fn observe(mode: &str, rule: Fallback, classes: &[Class]) -> Vec<Row> {
    let config = Config::standalone("127.0.0.1", 6379).client_info(false).fallback(rule);
    let mut world = World::new(config);
    for class in classes {
        for moment in ["twin", "before", "at", "during", "after"] {
            for command in &class.prepare {
                let reply = world.execute(&class.words(command, moment));
                assert!(!matches!(reply, Value::Error(_)), "{command}: {reply:?}");
            }
        }
        for command in &class.see {
            for moment in ["at", "during"] {
                let seen = world.submit(&class.words(command, moment), LIMIT);
                world.outcome(seen);
            }
        }
    }
    let twins: Vec<_> = classes
        .iter()
        .map(|class| {
            let reply = world.execute(&class.words(&class.command, "twin"));
            format!("server {}", show(&reply).replace(&class.prefix("twin"), ""))
        })
        .collect();
    let before = world.ask_all(classes, "before", LIMIT);
    assert_eq!(before, twins, "{mode}, before");

    world.stopped = true;
    let at = world.ask_all(classes, "at", AT_THE_TRIP);
    world.until(Health::Degraded);
    let during = world.ask_all(classes, "during", WHILE_DOWN);
    world.stopped = false;
    world.until(Health::Live);

    let rows = classes.iter().zip(at).zip(during).map(|((class, at), during)| {
        let (done, untouched) = (world.state(class, "twin"), world.state(class, "after"));
        let (left_at, left) = (world.state(class, "at"), world.state(class, "during"));
        let fits = match at.as_str() {
            "maybe" | "deadline" | "down" => left_at == untouched || left_at == done,
            "-" => left_at == untouched,
            _ => left_at == left,
        };
        assert!(fits, "{mode}, {class:?}: {at:?} left {left_at}");
        Row { class: class.name.clone(), at, during, left }
    });
    let rows = rows.collect();
    let after = world.ask_all(classes, "after", LIMIT);
    assert_eq!(after, twins, "{mode}, after");
    rows
}

impl World {
    /// A client that is connected.
    fn new(config: Config) -> Self {
        let now = Now::new(Instant::now(), SystemTime::now());
        let mut world = World {
            engine: Engine::new(config, 7, now).expect("a sound configuration"),
            now,
            timer: None,
            server: Store::new(7, Bounds::NONE),
            stopped: false,
            links: BTreeMap::new(),
            dialled: 0,
        };
        world.engine.connect(None, now);
        world.until(Health::Live);
        world
    }

    /// Has all classes ask at once, and gives what came of each.
    fn ask_all(&mut self, classes: &[Class], moment: &str, limit: Duration) -> Vec<String> {
        let asks = |class: &&Class| !(moment == "at" && class.is_slow());
        let ask = |class: &Class| self.submit(&class.words(&class.command, moment), limit);
        let mut tickets = classes.iter().filter(asks).map(ask).collect::<Vec<_>>().into_iter();
        let outcome = |class: &Class| {
            if !asks(&class) {
                return "-".to_owned();
            }
            let ticket = tickets.next().expect("one for each that asks");
            self.outcome(ticket).replace(&class.prefix(moment), "")
        };
        classes.iter().map(outcome).collect()
    }

    fn submit(&mut self, words: &[String], limit: Duration) -> Ticket {
        let options = Options { deadline: Some(limit), ..Options::default() };
        let request = Request::new(&words[0]).args(&words[1..]).options(options);
        let (ticket, _) = self.engine.submit(&request, None, self.now).expect("room");
        ticket
    }

    /// What comes of a request, in the words of the table.
    fn outcome(&mut self, ticket: Ticket) -> String {
        let failure = match self.wait_for("an outcome", |world| world.engine.take(ticket)) {
            Ok(reply) => {
                let source = format!("{:?}", reply.source()).to_lowercase();
                return format!("{source} {}", show(&reply.view().to_value()));
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

    fn until(&mut self, health: Health) {
        let is_so = |world: &mut World| (world.engine.health() == health).then_some(());
        self.wait_for(&health.to_string(), is_so);
    }

    /// Lets time pass, from timer to timer, until there is something.
    fn wait_for<T>(&mut self, what: &str, probe: impl Fn(&mut World) -> Option<T>) -> T {
        let limit = self.now.instant + LIMIT;
        loop {
            self.pump();
            if let Some(found) = probe(self) {
                return found;
            }
            let next = self.timer.unwrap_or_else(|| panic!("nothing will ever bring {what}"));
            assert!(next < limit, "{what} is long in coming");
            self.now = self.now + next.saturating_duration_since(self.now.instant);
            self.engine.handle_input(Input::Timeout, self.now);
        }
    }

    /// Carries out what is asked for, and moves bytes, until nothing moves.
    fn pump(&mut self) {
        loop {
            let mut moved = false;
            loop {
                match self.engine.poll_output() {
                    Output::Open { conn, .. } => {
                        self.dialled += 1;
                        let link = Link { conn: Some(conn), ..Link::default() };
                        self.links.insert(self.dialled, link);
                        self.engine.handle_input(Input::Opened { conn }, self.now);
                    }
                    Output::Close { conn, .. } => {
                        let mut links = self.links.values_mut();
                        let link = links.find(|link| link.conn == Some(conn));
                        link.expect("only what was opened is closed").conn = None;
                        let closed = Input::Closed { conn, cause: Cause::Local };
                        self.engine.handle_input(closed, self.now);
                    }
                    Output::Wait(at) => {
                        self.timer = at;
                        break;
                    }
                    _ => {}
                }
                moved = true;
            }
            for link in self.links.keys().copied().collect::<Vec<_>>() {
                moved |= self.exchange(link);
            }
            if !moved {
                return;
            }
        }
    }

    /// Moves what there is to move on one connection.
    fn exchange(&mut self, link: u64) -> bool {
        let mut moved = false;
        let mut link = self.links.remove(&link).map(|found| (link, found)).expect("it is there");
        if let Some(conn) = link.1.conn {
            while let Some(chunk) = self.engine.take_output(conn) {
                let bytes = chunk.unwritten();
                let count = bytes.len();
                link.1.up.extend_from_slice(bytes);
                self.engine.written(conn, chunk, count, self.now);
                moved |= count > 0;
            }
        }
        while !self.stopped
            && let Some((words, used)) = parse(&link.1.up).expect("whole commands")
        {
            link.1.up.drain(..used);
            let mut bytes = Vec::new();
            self.answer(&mut link.1, words).encode(&mut bytes, Protocol::Resp3);
            link.1.down.extend_from_slice(&bytes);
            moved = true;
        }
        if let Some(conn) = link.1.conn
            && !link.1.down.is_empty()
        {
            self.engine.received(conn, &mut link.1.down, self.now);
        }
        self.links.insert(link.0, link.1);
        moved
    }

    /// What the server answers on a connection.
    fn answer(&mut self, link: &mut Link, words: Vec<String>) -> Value {
        match (words[0].as_str(), &mut link.block) {
            ("MULTI", block) => {
                *block = Some(Vec::new());
                Value::OK
            }
            ("EXEC", block) => {
                let block = block.take().expect("a MULTI before it");
                Value::Array(block.iter().map(|words| self.execute(words)).collect())
            }
            (_, Some(block)) => {
                block.push(words);
                Value::Simple(Bytes::from_static(b"QUEUED"))
            }
            (_, None) => self.execute(&words),
        }
    }

    /// What the server answers to a command that is carried out.
    fn execute(&mut self, words: &[String]) -> Value {
        let bulk = |text: &str| Value::Bulk(Bytes::copy_from_slice(text.as_bytes()));
        let stored: Vec<String> = match words[0].as_str() {
            "HELLO" => return Value::Map(vec![(bulk("proto"), Value::Integer(3))]),
            "INFO" => return bulk("run_id:1\r\nmaster_replid:1\r\n"),
            "ROLE" => return Value::Array(vec![bulk("master"), Value::Integer(0)]),
            // The one script there is, and a stream by another name.
            "EVAL" => vec!["SET".into(), words[3].clone(), "n".into()],
            "XADD" => {
                let added = ["SET", &words[1], "1"].map(str::to_owned);
                assert_eq!(self.execute(&added), Value::OK);
                return bulk(&words[2]);
            }
            _ => words.to_vec(),
        };
        let words: Vec<_> = stored.iter().map(String::as_bytes).collect();
        match self.server.execute(&words, self.now) {
            Answer::Reply(value) => value,
            other => panic!("{stored:?}: {other:?}"),
        }
    }

    /// What the server holds at the keys that the class has at this moment.
    fn state(&mut self, class: &Class, moment: &str) -> String {
        let mut run = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            show(&self.execute(&words))
        };
        let states = class.keys(moment).into_iter().map(|key| {
            let kind = run(&["TYPE", &key]);
            let mut state = in_order(&kind, &run(&command_to_see(&kind, &key)));
            if run(&["TTL", &key]).parse().is_ok_and(|left: i64| left > 0) {
                state += " ttl";
            }
            state
        });
        states.collect::<Vec<_>>().join(", ")
    }
}

/// A value as RESP2 has it, whatever its shape.
fn show(value: &Value) -> String {
    let all = |values: &[Value]| values.iter().map(show).collect::<Vec<_>>().join(" ");
    match value {
        Value::Null => "nil".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Simple(bytes) | Value::Bulk(bytes) | Value::Error(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        Value::Array(values) if values.iter().all(|value| matches!(value, Value::Array(_))) => {
            format!("[{}]", all(values).replace(['[', ']'], ""))
        }
        Value::Array(values) | Value::Set(values) => format!("[{}]", all(values)),
        Value::Map(pairs) => {
            let flat = pairs.iter().flat_map(|(key, value)| [show(key), show(value)]);
            format!("[{}]", flat.collect::<Vec<_>>().join(" "))
        }
        other => format!("{other:?}"),
    }
}
