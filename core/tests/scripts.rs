//! Scripts by their digests: who gets the source, and when.
#![expect(clippy::disallowed_methods, reason = "a test has to begin somewhere in time")]

use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use unfazed_core::{
    Config, Engine, Executed, Failure, Now, Request, Script,
    engine::{Batch, ConnId, Input, Output, Ticket},
    reply::FromReply,
    resp::Reply,
};

/// One engine on one connection that is up.
struct World {
    engine: Engine<u32>,
    now: Now,
    conn: ConnId,
}

const NOSCRIPT: &str = "-NOSCRIPT No matching script. Please use EVAL.\r\n";

impl World {
    fn new() -> Self {
        let now = Now::new(Instant::now(), SystemTime::now());
        let config = Config::standalone("127.0.0.1", 6379).client_info(false);
        let mut engine = Engine::new(config, 7, now).expect("a sound configuration");
        let ticket = engine.connect(None, now);
        let conn = loop {
            if let Output::Open { conn, .. } = engine.poll_output() {
                break conn;
            }
        };
        let mut world = World { engine, now, conn };
        world.greet();
        assert!(world.engine.take_wait(ticket).expect("connected").is_ok());
        world
    }

    fn greet(&mut self) {
        self.engine.handle_input(Input::Opened { conn: self.conn }, self.now);
        assert!(self.sent()[0].starts_with("HELLO 3"));
        self.say("%1\r\n+server\r\n+redis\r\n");
    }

    /// The connection is lost, and there is another one.
    fn reconnect(&mut self) {
        self.now = self.now + Duration::from_secs(1);
        let cause = unfazed_core::Cause::Reset;
        self.engine.handle_input(Input::Closed { conn: self.conn, cause }, self.now);
        loop {
            match self.engine.poll_output() {
                Output::Open { conn, .. } => break self.conn = conn,
                Output::Wait(_) => self.engine.handle_input(Input::Timeout, self.now),
                _ => {}
            }
        }
        self.greet();
    }

    /// What goes out, each command with its words joined by spaces.
    fn sent(&mut self) -> Vec<String> {
        // What is to go again at once does so with the next drain.
        while self.drain().is_some_and(|at| at <= self.now.instant) {
            self.engine.handle_input(Input::Timeout, self.now);
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = self.engine.take_output(self.conn) {
            let count = chunk.unwritten().len();
            bytes.extend_from_slice(chunk.unwritten());
            self.engine.written(self.conn, chunk, count, self.now);
        }
        let text = String::from_utf8(bytes).expect("text");
        let commands = text.split('*').filter(|command| !command.is_empty());
        let words = |command: &str| {
            let words = command.split("\r\n").skip(1).filter(|line| !line.is_empty());
            words.filter(|line| !line.starts_with('$')).collect::<Vec<_>>().join(" ")
        };
        commands.map(words).collect()
    }

    fn drain(&mut self) -> Option<Instant> {
        loop {
            if let Output::Wait(at) = self.engine.poll_output() {
                return at;
            }
        }
    }

    fn say(&mut self, bytes: &str) {
        let mut bytes = BytesMut::from(bytes);
        self.engine.received(self.conn, &mut bytes, self.now);
        assert!(bytes.is_empty());
    }

    fn call(&mut self, script: &Script) -> Ticket {
        let call = Request::script(script).int(1).key("k").arg("a");
        self.engine.submit(&call, None, self.now).expect("room").0
    }

    /// A pipeline of calls of these scripts, each followed by a PING.
    fn pipeline(&mut self, scripts: &[&Script]) -> Ticket {
        let mut batch = Batch::new();
        for script in scripts {
            batch.push(&Request::script(script).int(0));
            batch.push(&Request::new("PING"));
        }
        self.engine.submit_batch(&batch, None, self.now).expect("room").0
    }

    fn many(&mut self, ticket: Ticket) -> Vec<Result<Reply, Failure>> {
        let outcomes = self.engine.take_batch(ticket).expect("all have ended");
        outcomes.spread().expect("it was accepted")
    }

    fn one(&mut self, ticket: Ticket) -> Result<Reply, Failure> {
        self.engine.take(ticket).expect("it has ended")
    }
}

fn number(outcome: &Result<Reply, Failure>) -> i64 {
    i64::from_reply(outcome.as_ref().expect("no failure")).expect("a number")
}

#[test]
fn a_script_that_the_server_knows_goes_by_its_digest_alone() {
    let mut world = World::new();
    let script = Script::new("return 1");
    let ticket = world.call(&script);
    assert_eq!(world.sent(), [format!("EVALSHA {} 1 k a", script.sha1())]);
    world.say(":1\r\n");
    assert_eq!(number(&world.one(ticket)), 1);
    assert!(world.sent().is_empty());
}

#[test]
fn one_that_it_does_not_know_goes_again_with_its_source_under_the_same_ticket() {
    let mut world = World::new();
    for script in [Script::new("return 1"), Script::new("return 1").read_only()] {
        let ticket = world.call(&script);
        world.sent();
        world.say(NOSCRIPT);
        assert!(world.engine.is_pending(ticket));
        let call = if script.is_read_only() { "EVAL_RO" } else { "EVAL" };
        assert_eq!(world.sent(), [format!("{call} return 1 1 k a")]);
        world.say(":1\r\n");
        assert_eq!(number(&world.one(ticket)), 1);
        let status = world.engine.status();
        assert_eq!((status.queued_requests, status.queued_bytes, status.tickets), (0, 0, 0));
    }
}

#[test]
fn what_a_script_says_with_its_source_is_the_last_word() {
    let mut world = World::new();
    let ticket = world.call(&Script::new("return 1"));
    world.sent();
    world.say(NOSCRIPT);
    world.sent();
    world.say(NOSCRIPT);
    let failure = world.one(ticket).unwrap_err();
    assert_eq!((failure.command(), failure.attempts()), ("EVAL", 2));
    assert!(world.sent().is_empty());

    let ticket = world.call(&Script::new("return 2"));
    world.sent();
    world.say("-ERR it failed\r\n");
    let failure = world.one(ticket).unwrap_err();
    assert_eq!((failure.command(), failure.executed()), ("EVALSHA", Executed::Maybe));
}

#[test]
fn a_script_that_reads_goes_again_where_it_can_not_run_now_whoever_says_so() {
    let mut world = World::new();
    let refusals = ["LOADING Redis is loading", "BUSY Redis is busy", "READONLY a replica"];
    for refusal in refusals {
        let reads = world.call(&Script::new("return 1").read_only());
        let writes = world.call(&Script::new("return 1"));
        world.sent();
        world.say(&format!("-{refusal}\r\n-{refusal}\r\n"));
        let failure = world.one(writes).unwrap_err();
        assert_eq!((failure.attempts(), failure.executed()), (1, Executed::Maybe), "{refusal}");
        assert!(world.engine.is_pending(reads), "{refusal}");
        world.now = world.now + Duration::from_millis(200);
        let sent = world.sent();
        assert!(sent[0].starts_with("EVAL"), "{refusal}: {sent:?}");
        world.say(":1\r\n");
        assert_eq!(number(&world.one(reads)), 1);
    }
    // It is the last word all the same, and nobody knows whose.
    let reads = world.call(&Script::new("return 1").read_only());
    for _ in 0..100 {
        for command in world.sent() {
            world.say(if command == "PING" { "+PONG\r\n" } else { "-LOADING for ever\r\n" });
        }
        world.now = world.now + Duration::from_millis(100);
    }
    let failure = world.one(reads).unwrap_err();
    assert_eq!(failure.executed(), Executed::Maybe, "{failure}");
    let moved = world.call(&Script::new("return 1").read_only());
    world.sent();
    world.say("-MOVED 1 127.0.0.1:1\r\n");
    assert_eq!(world.one(moved).unwrap_err().executed(), Executed::Maybe);
}

#[test]
fn a_digest_that_came_without_a_source_is_told_to_be_unknown() {
    let mut world = World::new();
    let request = Request::new("EVALSHA").arg("0f").int(0);
    let (ticket, _) = world.engine.submit(&request, None, world.now).expect("room");
    world.sent();
    world.say(NOSCRIPT);
    let failure = world.one(ticket).unwrap_err();
    assert_eq!((failure.command(), failure.executed()), ("EVALSHA", Executed::No));
}

#[test]
fn a_call_that_was_let_go_runs_all_the_same_and_one_that_was_given_up_does_not() {
    let mut world = World::new();
    let script = Script::new("return 1");
    let let_go = world.call(&script);
    let given_up = world.call(&script);
    world.sent();
    world.engine.detach(let_go);
    world.engine.cancel(given_up, world.now);
    world.say(&NOSCRIPT.repeat(2));
    assert_eq!(world.sent(), ["EVAL return 1 1 k a"]);
    world.say(":1\r\n");
    assert_eq!(world.engine.status().tickets, 0);
    assert_eq!(world.engine.status().queued_bytes, 0);
}

#[test]
fn one_deadline_holds_for_both_attempts() {
    let mut world = World::new();
    let ticket = world.call(&Script::new("return 1"));
    world.sent();
    world.now = world.now + Duration::from_secs(4);
    world.say(NOSCRIPT);
    assert_eq!(world.sent(), ["EVAL return 1 1 k a"]);
    world.now = world.now + Duration::from_secs(1);
    world.engine.handle_input(Input::Timeout, world.now);
    let failure = world.one(ticket).unwrap_err();
    assert!(failure.is_timeout(), "{failure}");
    assert_eq!(failure.executed(), Executed::Maybe);
}

#[test]
fn in_a_pipeline_the_first_call_of_a_script_brings_its_source() {
    let mut world = World::new();
    let (one, two) = (Script::new("return 1"), Script::new("return 2"));
    let (by_one, by_two) =
        (format!("EVALSHA {} 0", one.sha1()), format!("EVALSHA {} 0", two.sha1()));
    let ticket = world.pipeline(&[&one, &two, &one]);
    let first = ["EVAL return 1 0", "PING", "EVAL return 2 0", "PING", &by_one, "PING"];
    assert_eq!(world.sent(), first);
    world.say(":1\r\n+PONG\r\n:2\r\n+PONG\r\n:1\r\n+PONG\r\n");
    let outcomes = world.many(ticket);
    assert_eq!(outcomes.iter().step_by(2).map(number).collect::<Vec<_>>(), [1, 2, 1]);

    world.pipeline(&[&two, &one]);
    assert_eq!(world.sent(), [&by_two, "PING", &by_one, "PING"], "the server has them now");
    world.say(":2\r\n+PONG\r\n:1\r\n+PONG\r\n");

    world.reconnect();
    world.pipeline(&[&two, &two]);
    assert_eq!(
        world.sent(),
        ["EVAL return 2 0", "PING", &by_two, "PING"],
        "and may have lost them"
    );
    world.say(":2\r\n+PONG\r\n:2\r\n+PONG\r\n");

    // Put onto one connection, and sent on another.
    world.pipeline(&[&two, &two, &one]);
    world.reconnect();
    let first = ["EVAL return 2 0", "PING", &by_two, "PING", "EVAL return 1 0", "PING"];
    assert_eq!(world.sent(), first);
    assert!(world.engine.status().queued_bytes > 0);
    world.say(":2\r\n+PONG\r\n:2\r\n+PONG\r\n:1\r\n+PONG\r\n");
    assert_eq!(world.engine.status().queued_bytes, 0);
}

#[test]
fn items_that_the_server_forgot_run_behind_the_rest_in_their_order() {
    let mut world = World::new();
    let (one, two) = (Script::new("return 1"), Script::new("return 2"));
    world.pipeline(&[&one, &two]);
    world.sent();
    world.say(":1\r\n+PONG\r\n:2\r\n+PONG\r\n");
    let ticket = world.pipeline(&[&one, &two, &one]);
    world.sent();
    world.say(&format!("{NOSCRIPT}+PONG\r\n{NOSCRIPT}+PONG\r\n{NOSCRIPT}+PONG\r\n"));
    assert_eq!(world.sent(), ["EVAL return 1 0", "EVAL return 2 0", "EVAL return 1 0"]);
    world.say(":1\r\n-ERR no\r\n:1\r\n");
    let outcomes = world.many(ticket);
    assert_eq!(number(&outcomes[0]), 1);
    assert_eq!(outcomes[2].as_ref().unwrap_err().command(), "EVAL");
    assert_eq!(number(&outcomes[4]), 1);
    assert!(outcomes.iter().skip(1).step_by(2).all(Result::is_ok));
}

#[test]
fn a_source_is_sent_though_the_reply_comes_while_the_bytes_are_with_the_writer() {
    let mut world = World::new();
    let script = Script::new("return 1");
    let ticket = world.call(&script);
    world.drain();
    let chunk = world.engine.take_output(world.conn).expect("bytes");
    world.say(NOSCRIPT);
    let count = chunk.unwritten().len();
    world.engine.written(world.conn, chunk, count, world.now);
    assert_eq!(world.sent(), ["EVAL return 1 1 k a"]);
    world.say(":1\r\n");
    assert_eq!(number(&world.one(ticket)), 1);
}

#[test]
fn a_transaction_brings_each_script_along_once_whatever_the_server_knows() {
    let mut world = World::new();
    let (one, two) = (Script::new("return 1"), Script::new("return 2").read_only());
    for _ in 0..2 {
        let mut batch = Batch::new();
        for script in [&one, &two, &one] {
            batch.push(&Request::script(script).int(0));
        }
        batch.push(&Request::new("Some.Module"));
        let batch = batch.into_transaction();
        let (ticket, _) = world.engine.submit_batch(&batch, None, world.now).expect("room");
        let again = format!("EVALSHA {} 0", one.sha1());
        let block =
            ["MULTI", "EVAL return 1 0", "EVAL_RO return 2 0", &again, "Some.Module", "EXEC"];
        assert_eq!(world.sent(), block);
        world
            .say(&format!("+OK\r\n{}*4\r\n:1\r\n:2\r\n:1\r\n-ERR no\r\n", "+QUEUED\r\n".repeat(4)));
        let outcomes = world.many(ticket);
        assert_eq!(outcomes.iter().take(3).map(number).collect::<Vec<_>>(), [1, 2, 1]);
        assert_eq!(outcomes[3].as_ref().unwrap_err().command(), "Some.Module");
    }
}
