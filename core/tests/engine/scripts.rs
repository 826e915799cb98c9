//! Functions that stand in for scripts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use unfazed_core::{
    Cause, Config, Executed, Failure, FailureKind, Request,
    config::Forced,
    engine::{Health, Input},
    failure::{Bound, MemoryRefusal, Never, Stage},
    fallback::{Fallback, Policy, ScriptStore},
    reply::Source,
    resp::{Reply, Value},
};

use super::{World, recover};

/// What it stands in for is of no interest here, but that it has a source.
const SCRIPT: &str = "return redis.call(unpack(ARGV))";
const SHA1: &str = "3c44b7a40779a5c68a6e3920550ff76660a813aa";

/// Runs each argument as a command, and gives the answer to the last. Three of them are its own.
fn commands(store: &mut ScriptStore, _: &[&[u8]], args: &[&[u8]]) -> Value {
    let mut answer = Value::Null;
    for command in args {
        answer = match *command {
            b"panic" => panic!("a script that panics"),
            b"fail" => return Value::error("ERR the script's own error"),
            b"crlf" => return Value::Simple(bytes::Bytes::from_static(b"a\r\nb")),
            command => store.execute(&command.split(|byte| *byte == b' ').collect::<Vec<_>>()),
        };
    }
    answer
}

fn scripted(config: Config) -> Config {
    config.native_script(SCRIPT, commands)
}

fn cached(policy: Policy) -> Config {
    scripted(World::plain().fallback(Fallback::memory("cache:*", policy)))
}

fn down(config: Config) -> World {
    let mut world = World::live(config);
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    assert_eq!(world.engine.health(), Health::Degraded);
    world
}

fn eval<'a>(name: &'a str, keys: &'a [&'a str], commands: &'a [&'a str]) -> Request<'a> {
    let script = if name.starts_with("EVALSHA") { SHA1 } else { SCRIPT };
    let count = i64::try_from(keys.len()).expect("few");
    Request::new(name).arg(script).int(count).args(keys).args(commands)
}

impl World {
    fn eval(&mut self, keys: &[&str], commands: &[&str]) -> Result<Reply, Failure> {
        let ticket = self.run(&eval("EVAL", keys, commands));
        self.engine.take(ticket).expect("ended")
    }

    fn refusal(&mut self, keys: &[&str], commands: &[&str]) -> MemoryRefusal {
        let failure = self.eval(keys, commands).expect_err("refused");
        assert_eq!(failure.executed(), Executed::No, "{failure}");
        match failure.kind() {
            FailureKind::Memory(refusal) => refusal.clone(),
            _ => panic!("{failure}"),
        }
    }

    fn ask(&mut self, command: &str) -> Option<String> {
        self.run_now(&Request::new(command))
    }
}

#[test]
fn a_native_script_runs_while_the_server_is_down_and_the_script_before_and_after() {
    let mut world = World::live(cached(Policy::Invalidate));
    let incr = eval("EVAL", &["cache:n"], &["INCR cache:n"]);
    let ticket = world.run(&incr);
    assert!(world.write().contains(SCRIPT), "the server runs its own");
    world.say(":7\r\n");
    assert_eq!(world.value::<i64>(ticket), 7);
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    let reply = world.eval(&["cache:n"], &["INCR cache:n"]).expect("native");
    assert_eq!((reply.view().integer(), reply.source()), (Some(1), Source::Unknown));
    let reply = world.eval(&["cache:n"], &["INCR cache:n"]).expect("native");
    assert_eq!((reply.view().integer(), reply.source()), (Some(2), Source::Overlay));
    assert_eq!(world.ask("GET cache:n").as_deref(), Some("2"));
    assert_eq!(world.engine.status().journal_entries, 1, "owed as a single write would be");
    for name in ["EVALSHA", "EVAL_RO", "EVALSHA_RO"] {
        let read: i64 = world.run_now(&eval(name, &["cache:n"], &["GET cache:n"]));
        assert_eq!(read, 2, "{name}");
    }
}

#[test]
fn a_script_that_nothing_stands_in_for_is_refused_as_before() {
    let mut world = down(cached(Policy::Invalidate));
    let ticket = world.run(&Request::new("EVAL").arg("return 1").arg("1").arg("cache:a"));
    let failure = world.engine.take(ticket).expect("ended").expect_err("nobody can run it");
    let refused = FailureKind::Memory(MemoryRefusal::Never(Never::Script)).to_string();
    assert_eq!(failure.kind().to_string(), refused);
    let ticket = world.run(&eval("EVAL", &["wallet"], &["GET wallet"]));
    assert!(world.engine.is_pending(ticket), "what may not degrade waits for the server's own");
}

#[test]
fn a_native_script_sees_what_is_remembered_and_what_was_written() {
    let mut world = World::live(cached(Policy::Discard));
    let read = world.run(&Request::new("MGET cache:a cache:b"));
    world.write();
    world.say("*2\r\n$1\r\n1\r\n$1\r\n2\r\n");
    world.value::<Vec<i64>>(read);
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    let reply = world.eval(&["cache:a"], &["GET cache:a"]).expect("native");
    assert_eq!((reply.view().payload(), reply.source()), (&b"1"[..], Source::Shadow));
    world.run_now::<()>(&Request::new("SET cache:b 3"));
    let keys = ["cache:a", "cache:b"];
    let reply = world.eval(&keys, &["MGET cache:a cache:b"]).expect("native");
    assert_eq!(reply.view().to_value(), Value::Array(vec![bulk("1"), bulk("3")]));
    assert_eq!(reply.source(), Source::Shadow);
    // When a remembered value expires only the server knows.
    assert_eq!(world.refusal(&["cache:a"], &["PTTL cache:a"]), MemoryRefusal::Unseen);
    let reply = world.eval(&["cache:a"], &["SET cache:a 5 EX 100", "TTL cache:a"]).expect("native");
    assert_eq!(reply.view().integer(), Some(100));
    assert_eq!(world.engine.status().journal_entries, 0, "discarded in the end");
    assert_eq!(world.ask("GET cache:a").as_deref(), Some("5"));
}

fn bulk(text: &'static str) -> Value {
    Value::Bulk(bytes::Bytes::from_static(text.as_bytes()))
}

#[test]
fn it_touches_declared_keys_only_and_does_nothing_otherwise() {
    let mut world = down(cached(Policy::Invalidate));
    let touch = "SET cache:a 1";
    for (commands, refusal) in [
        (&[touch, "GET cache:b"], MemoryRefusal::Undeclared),
        (&[touch, "MSET cache:a 1 cache:b 1"], MemoryRefusal::Undeclared),
        (&[touch, "KEYS *"], MemoryRefusal::Undeclared),
        (&[touch, "FLUSHALL"], MemoryRefusal::Undeclared),
        (&[touch, "SORT cache:a BY w_*"], MemoryRefusal::Undeclared),
        (&[touch, "EVAL x 0"], MemoryRefusal::Unsupported),
        (&[touch, "MULTI"], MemoryRefusal::Unsupported),
        (&[touch, "BLPOP cache:a 0"], MemoryRefusal::Unsupported),
        (&[touch, "CONFIG GET *"], MemoryRefusal::Unsupported),
    ] {
        assert_eq!(world.refusal(&["cache:a"], commands), refusal, "{commands:?}");
        // What it was refused can't be taken for an answer.
        let then = [commands[0], commands[1], "GET cache:a"];
        assert_eq!(world.refusal(&["cache:a"], &then), refusal, "{then:?}");
    }
    let failure = world.eval(&["cache:a"], &[touch, "NOSUCH x"]).expect_err("no such command");
    assert!(failure.to_string().contains("unknown command"), "{failure}");
    assert_eq!(world.ask("GET cache:a"), None);
    assert_eq!(world.engine.status().journal_entries, 0);
}

#[test]
fn a_script_that_fails_leaves_nothing_behind() {
    let mut world = down(cached(Policy::Invalidate));
    world.run_now::<()>(&Request::new("SET cache:b old"));
    let keys = ["cache:a", "cache:b"];
    let failure = world
        .eval(&keys, &["SET cache:a 1", "DEL cache:b", "fail"])
        .expect_err("it says that it failed");
    assert_eq!(failure.executed(), Executed::No);
    assert!(matches!(failure.kind(), FailureKind::Server(_)), "{failure}");
    std::panic::set_hook(Box::new(|_| {}));
    let refusal = world.refusal(&keys, &["SET cache:a 1", "DEL cache:b", "panic"]);
    drop(std::panic::take_hook());
    assert_eq!(refusal, MemoryRefusal::Panicked);
    assert_eq!(world.ask("GET cache:a"), None);
    assert_eq!(world.ask("GET cache:b").as_deref(), Some("old"));
    assert_eq!(world.engine.status().journal_entries, 1, "that of the SET before");
}

#[test]
fn a_script_that_has_no_room_leaves_nothing_behind() {
    let config = cached(Policy::Invalidate).memory_entries_max(2);
    let mut world = down(config);
    world.run_now::<()>(&Request::new("SET cache:a old"));
    let keys = ["cache:a", "cache:b", "cache:c"];
    // There is room while it runs, and none for what comes of it.
    let refusal =
        world.refusal(&keys, &["DEL cache:a", "SET cache:b 1", "SET cache:c 1", "SET cache:a 2"]);
    assert!(matches!(refusal, MemoryRefusal::Full(_)), "{refusal}");
    assert_eq!(world.ask("GET cache:a").as_deref(), Some("old"));
    let mut world = down(cached(Policy::Invalidate).memory_entries_max(3));
    world.run_now::<()>(&Request::new("MSET cache:x 1 cache:y 1"));
    let refusal = world.refusal(&keys, &["SET cache:a 1", "SET cache:b 1"]);
    assert!(matches!(refusal, MemoryRefusal::Full(_)), "{refusal}");
    assert_eq!(world.ask("GET cache:a"), None);
    assert_eq!(world.engine.status().overlay_entries, 2);
    let journal = cached(Policy::Invalidate).journal_entries_max(1);
    let refusal = down(journal).refusal(&keys, &["SET cache:a 1", "SET cache:b 1"]);
    assert!(matches!(refusal, MemoryRefusal::Full(Bound::JournalEntries)), "{refusal}");
}

#[test]
fn a_script_that_may_only_read_writes_nothing() {
    let mut world = down(cached(Policy::Invalidate));
    let ticket = world.run(&eval("EVAL_RO", &["cache:a"], &["SET cache:a 1"]));
    let failure = world.engine.take(ticket).expect("ended").expect_err("it wrote");
    assert!(failure.to_string().contains("not allowed from read-only"), "{failure}");
    assert_eq!(world.ask("GET cache:a"), None);
}

#[test]
fn a_miss_runs_it_on_nothing_and_owes_what_it_wrote() {
    let mut world = down(scripted(World::plain().fallback(Fallback::miss("page:*"))));
    for _ in 0..2 {
        let reply = world.eval(&["page:1"], &["INCR page:1"]).expect("native");
        assert_eq!((reply.view().integer(), reply.source()), (Some(1), Source::Unknown));
    }
    assert_eq!(world.engine.status().journal_entries, 1);
}

#[test]
fn nothing_comes_between_the_commands_of_a_script_and_the_order_stays() {
    let mut world = down(cached(Policy::Invalidate));
    world.holds_runs = true;
    world.run_now::<()>(&Request::new("SET cache:n 1"));
    let script = world.run(&eval("EVAL", &["cache:n"], &["INCR cache:n", "INCR cache:n"]));
    let after = world.run(&Request::new("GET cache:n"));
    let other = world.run(&Request::new("GET cache:other"));
    let second = world.run(&eval("EVAL", &["cache:n"], &["INCR cache:n"]));
    let last = world.run(&Request::new("GET cache:n"));
    assert_eq!(world.runs.len(), 1, "one at a time");
    for ticket in [script, after, other, second, last] {
        assert!(world.engine.is_pending(ticket) && world.engine.take(ticket).is_none());
    }
    world.run_scripts();
    assert_eq!(world.value::<i64>(script), 3);
    assert_eq!(world.value::<String>(after), "3");
    assert_eq!(world.value::<Option<String>>(other), None);
    assert_eq!(world.value::<i64>(second), 4);
    assert_eq!(world.value::<String>(last), "4");
}

#[test]
fn a_server_that_is_back_before_a_script_has_run_answers_for_it() {
    let mut world = World::live(cached(Policy::Invalidate));
    world.holds_runs = true;
    world.engine.force(Some(Forced::Memory), world.now);
    world.drain();
    let script = world.run(&eval("EVAL", &["cache:n"], &["INCR cache:n"]));
    let behind = world.run(&Request::new("GET cache:other"));
    world.engine.force(Some(Forced::Redis), world.now);
    world.run_scripts();
    assert!(world.engine.is_pending(script) && world.engine.is_pending(behind));
    let sent = world.write();
    assert!(sent.contains("EVAL") && sent.contains("cache:other"), "{sent}");
    assert_eq!(world.engine.status().overlay_entries, 0, "what was run does not count");
}

#[test]
fn a_script_that_is_given_up_or_too_late_does_nothing() {
    let mut world = down(cached(Policy::Invalidate));
    world.holds_runs = true;
    let script = world.run(&eval("EVAL", &["cache:a"], &["SET cache:a 1"]));
    let behind = world.run(&Request::new("GET cache:a"));
    world.engine.cancel(script, world.now);
    world.run_scripts();
    assert_eq!(world.value::<Option<String>>(behind), None);

    let script = world.run(&eval("EVAL", &["cache:a"], &["SET cache:a 1"]));
    let behind = world.run(&Request::new("GET cache:a"));
    world.wait(Duration::from_secs(6));
    for ticket in [script, behind] {
        let failure =
            world.engine.take(ticket).expect("its deadline has passed").expect_err("late");
        assert!(matches!(failure.kind(), FailureKind::DeadlinePassed(Stage::Script)), "{failure}");
        assert_eq!(failure.executed(), Executed::No);
    }
    let next = world.run(&Request::new("GET cache:a"));
    assert!(world.engine.is_pending(next), "it still runs, for all that is known");
    world.run_scripts();
    assert_eq!(world.value::<Option<String>>(next), None);
    assert_eq!(world.engine.status().queued_requests, 0);
}

#[test]
fn what_a_script_has_done_is_inert_once_its_client_is_given_up_or_closed() {
    let mut world = down(cached(Policy::Invalidate));
    world.holds_runs = true;
    let script = world.run(&eval("EVAL", &["cache:a"], &["SET cache:a 1"]));
    world.engine.abandon(world.now);
    assert!(world.engine.take(script).expect("ended").is_err());
    let late = world.runs.pop().expect("it was out").run();
    let second = world.run(&eval("EVAL", &["cache:a"], &["SET cache:a 2"]));
    world.engine.handle_input(Input::Ran(late), world.now);
    assert!(world.engine.is_pending(second), "the stale one does not end it");
    world.run_scripts();
    world.value::<()>(second);

    let script = world.run(&eval("EVAL", &["cache:a"], &["SET cache:a 3"]));
    world.engine.shutdown(Duration::ZERO, world.now);
    world.drain();
    assert!(world.engine.take(script).expect("ended").is_err() && world.engine.is_closed());
    world.run_scripts();
    assert_eq!(world.engine.status().overlay_entries, 0);
}

#[test]
fn a_close_waits_for_a_script_within_its_grace() {
    let mut world = down(cached(Policy::Invalidate));
    world.holds_runs = true;
    world.engine.force(Some(Forced::Isolated), world.now);
    let script = world.run(&eval("EVAL", &["cache:a"], &["SET cache:a 1"]));
    world.engine.shutdown(Duration::from_secs(1), world.now);
    world.drain();
    assert!(!world.engine.is_closed());
    world.run_scripts();
    world.value::<()>(script);
    assert!(world.engine.is_closed());
}

#[test]
fn a_script_that_may_have_run_on_the_server_is_taken_over_where_its_keys_are_deleted_in_the_end() {
    for policy in [Policy::Invalidate, Policy::Discard] {
        let mut world = World::live(cached(policy));
        world.wait(Duration::from_millis(600));
        world.answer_pings();
        let script = world.run(&eval("EVAL", &["cache:n"], &["INCR cache:n"]));
        world.write();
        world.lose(Cause::Reset);
        world.lose(Cause::Refused);
        let outcome = world.engine.take(script).expect("ended");
        match policy {
            Policy::Invalidate => assert_eq!(outcome.expect("native").view().integer(), Some(1)),
            _ => assert_eq!(outcome.expect_err("lost").executed(), Executed::Maybe),
        }
    }
}

#[test]
fn it_runs_on_the_store_of_a_client_without_a_server() {
    let mut world = World::new(scripted(Config::memory()).memory_entries_max(2));
    world.run_now::<()>(&Request::new("SET a 1"));
    let reply = world.eval(&["a"], &["INCR a", "INCR a"]).expect("native");
    assert_eq!((reply.view().integer(), reply.source()), (Some(3), Source::Store));
    assert_eq!(world.ask("GET a").as_deref(), Some("3"));
    assert_eq!(world.refusal(&["a"], &["SET a 9", "GET b"]), MemoryRefusal::Undeclared);
    let full = world.refusal(&["a", "b", "c"], &["SET b 1", "SET c 1"]);
    assert!(matches!(full, MemoryRefusal::Full(_)), "{full}");
    assert_eq!(world.ask("GET a").as_deref(), Some("3"));
    assert_eq!(world.engine.status().overlay_entries, 1);
    world.holds_runs = true;
    let script = world.run(&eval("EVALSHA", &["a"], &["INCR a"]));
    let behind = world.run(&Request::new("GET a"));
    assert!(world.engine.is_pending(behind));
    world.run_scripts();
    assert_eq!(world.value::<i64>(script), 4);
    assert_eq!(world.value::<String>(behind), "4");
}

#[test]
fn what_a_script_gives_back_is_a_reply_whatever_it_is() {
    let odd = [
        Value::Push(vec![Value::Integer(1)]),
        Value::Attributed(vec![(Value::Null, Value::Null)], Box::new(Value::Boolean(true))),
        Value::BulkError("ERR\r\nof two lines".into()),
        Value::Map(vec![(Value::Double(f64::NAN), Value::BigNumber("no number".into()))]),
        Value::Verbatim(*b"txt", "text".into()),
        Value::Array(vec![Value::error("ERR inside")]),
    ];
    let at = Arc::new(AtomicU32::new(0));
    let config = Config::memory().native_script(SCRIPT, {
        let (odd, at) = (odd.clone(), at.clone());
        move |_, _, _| odd[at.fetch_add(1, Ordering::Relaxed) as usize].clone()
    });
    let mut world = World::new(config);
    for _ in &odd {
        let ticket = world.run(&eval("EVAL", &[], &[]));
        drop(format!("{:?}", world.engine.take(ticket).expect("ended")));
    }
    assert_eq!(at.load(Ordering::Relaxed) as usize, odd.len());
    assert!(World::new(scripted(Config::memory())).eval(&[], &["crlf"]).is_ok());
}

#[test]
fn an_eval_that_makes_no_sense_is_refused_as_a_server_refuses_it() {
    let mut world = World::new(scripted(Config::memory()));
    for (arguments, error) in [
        ("", "ERR wrong number of arguments for 'evalsha' command"),
        (" x", "ERR value is not an integer or out of range"),
        (" -1", "ERR Number of keys can't be negative"),
        (" 2 a", "ERR Number of keys can't be greater than number of args"),
        (" 99999999999999999999 a", "ERR value is not an integer or out of range"),
    ] {
        let command = format!("EVALSHA {SHA1}{arguments}");
        let ticket = world.run(&Request::new(&command));
        let failure = world.engine.take(ticket).expect("ended").expect_err("no sense");
        let shown = failure.server_error().expect("the server's words").to_string();
        assert_eq!((&*shown, failure.executed()), (error, Executed::No), "{command}");
    }
    let ticket = world.run(&Request::new("EVAL"));
    assert!(world.engine.take(ticket).expect("ended").is_err(), "it has no script at all");
    assert_eq!(world.engine.status().queued_requests, 0);
}

#[test]
fn what_was_run_in_one_outage_is_not_kept_in_the_next() {
    let mut world = World::live(cached(Policy::Discard));
    world.holds_runs = true;
    world.engine.force(Some(Forced::Memory), world.now);
    world.drain();
    world.run_now::<()>(&Request::new("SET cache:n 5"));
    let script = world.run(&eval("EVAL", &["cache:n"], &["INCR cache:n"]));
    world.engine.force(None, world.now);
    world.drain();
    recover(&mut world, 60);
    assert_eq!(world.engine.health(), Health::Live);
    world.engine.force(Some(Forced::Memory), world.now);
    world.drain();
    assert!(world.engine.is_pending(script));
    world.run_scripts();
    assert_eq!(world.value::<i64>(script), 1, "run again, on what is there now");
}

#[test]
fn what_is_replayed_must_be_whole() {
    let mut world = World::live(cached(Policy::ReplayLastWins));
    let set = world.run(&Request::new("SET cache:known 5"));
    world.write();
    world.say("+OK\r\n");
    world.value::<()>(set);
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    let keys = ["cache:known", "cache:new"];
    let done = world.eval(&keys, &["INCR cache:known", "SET cache:new 1", "INCR cache:new"]);
    assert_eq!(done.expect("both are whole").view().integer(), Some(2));
    assert_eq!(world.refusal(&["cache:x"], &["INCR cache:x"]), MemoryRefusal::Unseen);
    assert_eq!(world.refusal(&["cache:x"], &["EXPIRE cache:x 5"]), MemoryRefusal::Unseen);
    assert_eq!(world.engine.status().journal_entries, 2);
    let mut heard = String::new();
    for _ in 0..80 {
        world.wait(Duration::from_millis(50));
        if world.engine.status().connections == 1 && world.engine.health() != Health::Live {
            if let Some(conn) = world.conn {
                world.engine.handle_input(Input::Opened { conn }, world.now);
            }
            heard.push_str(&world.serve(1));
        }
    }
    assert_eq!(world.engine.health(), Health::Live);
    assert!(
        heard.contains("SET cache:known 6\n") && heard.contains("SET cache:new 2\n"),
        "{heard}"
    );
}

#[test]
fn what_is_to_be_merged_no_script_writes() {
    let mut world = down(cached(Policy::MergeDelta));
    for write in ["INCR cache:a", "SET cache:a 1", "DEL cache:a"] {
        assert_eq!(world.refusal(&["cache:a"], &[write]), MemoryRefusal::Unmergeable);
    }
    let reply = world.eval(&["cache:a"], &["GET cache:a"]).expect("it only reads");
    assert_eq!((reply.view().is_null(), reply.source()), (true, Source::Unknown));
    // What was replaced in memory is the client's own, and is replayed as a whole.
    world.run_now::<()>(&Request::new("SET cache:a 1"));
    let reply = world.eval(&["cache:a"], &["INCR cache:a"]).expect("native");
    assert_eq!(reply.view().integer(), Some(2));
}

#[test]
fn what_may_only_be_read_no_script_writes() {
    let rule = Fallback::stale_reads("cache:*", Duration::from_secs(60));
    let mut world = World::live(scripted(World::plain().fallback(rule)));
    let get = world.run(&Request::new("GET cache:a"));
    world.write();
    world.say("$1\r\n1\r\n");
    world.value::<i64>(get);
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    let reply = world.eval(&["cache:a"], &["GET cache:a"]).expect("remembered");
    assert_eq!((reply.view().payload(), reply.source()), (&b"1"[..], Source::Shadow));
    assert_eq!(world.refusal(&["cache:a"], &["SET cache:a 2"]), MemoryRefusal::ReadOnly);
    assert_eq!(world.refusal(&["cache:b"], &["GET cache:b"]), MemoryRefusal::NotRemembered);
}

#[test]
fn a_lock_is_taken_by_a_script_no_more_than_by_a_command() {
    let rules = [
        Fallback::memory("cache:mine:*", Policy::Invalidate).allow_if_absent(),
        Fallback::memory("cache:*", Policy::Invalidate),
    ];
    let mut world = down(scripted(rules.into_iter().fold(World::plain(), Config::fallback)));
    assert_eq!(world.refusal(&["cache:lock"], &["SET cache:lock me NX"]), MemoryRefusal::Unsafe);
    assert!(world.eval(&["cache:mine:lock"], &["SET cache:mine:lock me NX"]).is_ok());
}

#[test]
fn what_can_not_be_recovered_as_one_is_not_written_as_one() {
    let rules =
        [Fallback::memory("a:*", Policy::Invalidate), Fallback::memory("b:*", Policy::Discard)];
    let mut world = down(scripted(rules.into_iter().fold(World::plain(), Config::fallback)));
    let keys = ["a:1", "b:1"];
    assert_eq!(world.refusal(&keys, &["SET a:1 x", "SET b:1 x"]), MemoryRefusal::Mixed);
    assert!(world.eval(&keys, &["GET a:1", "SET b:1 x"]).is_ok(), "it writes to one of them");
    assert_eq!(world.engine.status().journal_entries, 0);
}

#[test]
fn a_command_that_only_the_server_can_serve_does_not_overtake_a_script_on_its_keys() {
    let mut world = World::live(cached(Policy::Invalidate));
    world.holds_runs = true;
    world.engine.force(Some(Forced::Memory), world.now);
    world.drain();
    let script = world.run(&eval("EVAL", &["cache:a"], &["SET cache:a script"]));
    let mixed = world.run(&Request::new("MSET cache:a mixed wallet 1"));
    assert!(!world.write().contains("MSET"));
    world.run_scripts();
    world.value::<()>(script);
    assert!(world.engine.is_pending(mixed), "it waits for what is owed to its key");
    assert_eq!(world.ask("GET cache:a").as_deref(), Some("script"));
}
