//! The engine against bytes: what it says and does, step by step.
#![expect(clippy::disallowed_methods, reason = "a test has to begin somewhere in time")]

mod cluster;
mod cluster_leases;
mod cluster_scripts;
mod cluster_status;
mod cluster_subscriptions;
mod degraded;
mod doubts;
mod events;
mod force;
mod given_back;
mod leases;
mod publish;
mod redirects;
mod scripts;
mod status;
mod transactions;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::BytesMut;
use unfazed_core::{
    Cause, Config, Engine, Executed, FailureKind, Now, Options, Request,
    config::MaybeRetry,
    engine::{Batch, ConnId, Flush, Health, Input, Lease, Output, Rejected, Ticket},
    failure::MemoryRefusal,
    fallback::{Fallback, NativeRun, Policy},
    reply::FromReply,
};

/// One engine, its clock, and the server's side of its one connection.
struct World {
    engine: Engine<u32>,
    now: Now,
    inbox: BytesMut,
    conn: Option<ConnId>,
    closing: Vec<ConnId>,
    /// What the client wrote and the test has not looked at.
    sent: Vec<u8>,
    events: Vec<String>,
    /// Native scripts that are to be run.
    runs: Vec<NativeRun>,
    /// They are run when the test says so.
    holds_runs: bool,
    timer: Option<Instant>,
}

impl World {
    fn new(config: Config) -> Self {
        let now = Now::new(Instant::now(), SystemTime::now());
        let engine = Engine::new(config, 7, now).expect("a sound configuration");
        World {
            engine,
            now,
            inbox: BytesMut::new(),
            conn: None,
            closing: Vec::new(),
            sent: Vec::new(),
            events: Vec::new(),
            runs: Vec::new(),
            holds_runs: false,
            timer: None,
        }
    }

    fn plain() -> Config {
        Config::standalone("127.0.0.1", 6379).client_info(false)
    }

    fn drain(&mut self) {
        loop {
            match self.engine.poll_output() {
                Output::Open { conn, .. } => self.conn = Some(conn),
                Output::Close { conn, .. } => self.closing.push(conn),
                Output::Event(event) => self.events.push(event.to_string()),
                Output::Run(run) => self.runs.push(run),
                Output::Wait(at) => {
                    self.timer = at;
                    break;
                }
                _ => {}
            }
        }
        for conn in std::mem::take(&mut self.closing) {
            self.engine.handle_input(Input::Closed { conn, cause: Cause::Local }, self.now);
            self.drain();
        }
        if !self.holds_runs {
            self.run_scripts();
        }
    }

    fn run_scripts(&mut self) {
        while let Some(run) = self.runs.pop() {
            self.engine.handle_input(Input::Ran(run.run()), self.now);
            self.drain();
        }
    }

    fn open(&mut self) {
        self.drain();
        let conn = self.conn.expect("a connection is asked for");
        self.engine.handle_input(Input::Opened { conn }, self.now);
        self.drain();
    }

    /// Writes what there is to write, all of it.
    fn write(&mut self) -> String {
        let conn = self.conn.expect("a connection");
        while let Some(chunk) = self.engine.take_output(conn) {
            let bytes = chunk.unwritten().to_vec();
            self.sent.extend_from_slice(&bytes);
            self.engine.written(conn, chunk, bytes.len(), self.now);
        }
        String::from_utf8(std::mem::take(&mut self.sent)).expect("text")
    }

    fn say(&mut self, bytes: &str) {
        let conn = self.conn.expect("a connection");
        self.inbox.extend_from_slice(bytes.as_bytes());
        self.engine.received(conn, &mut self.inbox, self.now);
        self.drain();
    }

    fn lose(&mut self, cause: Cause) {
        let conn = self.conn.take().expect("a connection");
        self.inbox.clear();
        self.engine.handle_input(Input::Closed { conn, cause }, self.now);
        self.drain();
    }

    fn live(config: Config) -> Self {
        let mut world = World::new(config);
        let ticket = world.engine.connect(None, world.now);
        world.open();
        world.write();
        world.say("%1\r\n+server\r\n+redis\r\n");
        assert!(world.engine.take_wait(ticket).expect("connected").is_ok());
        world.answer_lineage("one");
        world
    }

    fn answer_lineage(&mut self, run: &str) {
        if self.write().contains("INFO") {
            self.say(&format!("+run_id:{run}\r\n"));
            self.say(&format!("+master_replid:{run}\r\n"));
        }
    }

    fn run(&mut self, request: &Request<'_>) -> Ticket {
        let (ticket, _) = self.engine.submit(request, None, self.now).expect("room");
        self.drain();
        ticket
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now.instant + span;
        while let Some(at) = self.timer.filter(|at| *at <= end) {
            self.now = self.now + at.saturating_duration_since(self.now.instant);
            self.engine.handle_input(Input::Timeout, self.now);
            self.drain();
        }
        self.now = self.now + (end - self.now.instant);
    }

    fn value<T: FromReply>(&mut self, ticket: Ticket) -> T {
        let reply = self.engine.take(ticket).expect("ended").expect("no failure");
        T::from_reply(&reply).expect("the type asked for")
    }
}

#[test]
fn a_request_is_answered_by_the_reply_that_comes_for_it() {
    let mut world = World::live(World::plain());
    let get = Request::new("GET").arg("a");
    let incr = Request::new("INCR").arg("b");
    let (first, flush) = world.engine.submit(&get, Some(1), world.now).expect("room");
    assert!(matches!(flush, Flush::AfterOthers(_)));
    let (second, flush) = world.engine.submit(&incr, Some(2), world.now).expect("room");
    assert_eq!(flush, Flush::Nothing);
    assert_eq!(world.write(), "*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$4\r\nINCR\r\n$1\r\nb\r\n");
    world.say("$1\r\nx\r\n:5\r\n");
    let mut woken = Vec::new();
    world.engine.take_ready(&mut woken);
    assert_eq!(woken, [1, 2]);
    assert_eq!(world.value::<String>(first), "x");
    assert_eq!(world.value::<i64>(second), 5);
    assert_eq!(world.engine.status().queued_requests, 0);
    assert_eq!(world.engine.status().queued_bytes, 0);
    assert_eq!(world.engine.status().tickets, 0);
}

#[test]
fn a_node_of_a_cluster_behind_the_url_of_a_single_server_is_named_as_the_cause() {
    let mut world = World::live(World::plain());
    let mut transaction = Batch::new();
    transaction.push(&Request::new("GET a"));
    let transaction = transaction.into_transaction();
    for refusal in ["-MOVED 15495 127.0.0.1:7002", "-CROSSSLOT Keys in request don't hash"] {
        let ticket = world.run(&Request::new("INCR").arg("a"));
        let (whole, _) = world.engine.submit_batch(&transaction, None, world.now).expect("room");
        world.write();
        world.say(&format!("{refusal}\r\n+OK\r\n{refusal}\r\n-EXECABORT discarded\r\n"));
        let single = world.engine.take(ticket).expect("ended").expect_err("not here");
        let whole = world.engine.take_batch(whole).expect("ended").spread().expect_err("not here");
        for failure in [single, whole] {
            assert_eq!(failure.executed(), Executed::No);
            assert_eq!(failure.cause(), Some(&Cause::NodeOfCluster));
            assert!(failure.server_error().is_some());
            assert!(failure.to_string().contains("redis+cluster://"), "{failure}");
        }
    }
}

#[test]
fn what_a_server_refuses_before_it_runs_it_was_not_executed() {
    let mut world = World::live(World::plain());
    for refusal in [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Redis is configured to save RDB snapshots",
        "NOPERM User default has no permissions to run the 'incr' command",
        "DENIED Redis is running in protected mode",
        "ERR unknown command 'INCR', with args beginning with: 'a'",
        "ERR wrong number of arguments for 'incr' command",
        "ERR Protocol error: invalid bulk length",
        "ERR Can't execute 'incr': only (P|S)SUBSCRIBE / PING / QUIT are allowed in this context",
    ] {
        let ticket = world.run(&Request::new("INCR").arg("a"));
        world.write();
        world.say(&format!("-{refusal}\r\n"));
        let failure = world.engine.take(ticket).expect("ended").expect_err("refused");
        assert_eq!(failure.executed(), Executed::No, "{failure}");
    }
}

#[test]
fn whoever_waits_for_a_server_that_hangs_is_told_what_it_hangs_at() {
    let limit = Duration::from_secs(2);
    let plain = || World::plain().connect_timeout(limit).deadline(limit / 2);
    for (config, accepts) in [(plain(), false), (plain(), true)] {
        let mut world = World::new(config);
        let connected = world.engine.connect(None, world.now);
        let get = world.run(&Request::new("GET").arg("a"));
        if accepts {
            world.open();
        }
        world.wait(limit / 2);
        let failure = world.engine.take(get).expect("ended").expect_err("no answer");
        assert_eq!(failure.cause(), Some(&Cause::ConnectTimeout), "{failure}");
        world.wait(limit / 2);
        let failure = world.engine.take_wait(connected).expect("ended").expect_err("it hangs");
        assert_eq!(failure.cause(), Some(&Cause::ConnectTimeout), "{failure}");
    }
    let mut world = World::new(Config::standalone("slow.example", 6379).connect_timeout(limit));
    let connected = world.engine.connect(None, world.now);
    world.drain();
    world.wait(limit);
    let failure = world.engine.take_wait(connected).expect("ended").expect_err("no address");
    assert!(failure.to_string().contains("the look-up took too long"), "{failure}");
}

#[test]
fn what_there_is_not_without_a_server_is_refused_with_what_to_use_instead() {
    let mut world = World::new(Config::memory());
    let lease = world.engine.lease(world.now).expect("room");
    let mut ends = |lease: Option<Lease>, command: &str| {
        let request = Request::new(command);
        let submitted = match lease {
            Some(lease) => world.engine.submit_on(lease, &request, None, world.now),
            None => world.engine.submit(&request, None, world.now),
        };
        world.drain();
        match submitted {
            Ok((ticket, _)) => world.engine.take(ticket).expect("ended").expect_err("refused"),
            Err(Rejected::Failed(failure)) => failure,
            Err(other) => panic!("{other:?}"),
        }
    };
    for (lease, command, advice) in [
        (None, "XADD s * f v", "a list (RPUSH, BLMOVE)"),
        (None, "XREAD BLOCK 5 STREAMS s $", "a list (RPUSH, BLMOVE)"),
        (None, "EVAL x 0", "Config::native_script"),
        (None, "GEOADD p 1 1 x", "use a server"),
        (None, "PFADD h x", "a set (SADD, SCARD)"),
        (None, "CONFIG GET x", "use a server"),
        (None, "SELECT 1", "a prefix of its keys"),
        (None, "CLIENT SETNAME x", "leave it out"),
        (Some(lease), "MULTI", "`transaction`"),
    ] {
        let failure = ends(lease, command);
        let shown = failure.to_string();
        assert!(shown.contains("memory://") && shown.contains(advice), "{command}: {failure}");
        let refused = matches!(
            failure.kind(),
            FailureKind::Memory(MemoryRefusal::Embedded(_)) | FailureKind::Misuse(_)
        );
        assert!(refused && !failure.is_unavailable(), "{command}: {failure}");
        assert_eq!(failure.executed(), Executed::No);
    }
    let mut transaction = Batch::new();
    transaction.push(&Request::new("SET a 1"));
    transaction.push(&Request::new("XADD s * f v"));
    let transaction = transaction.into_transaction();
    let (ticket, _) = world.engine.submit_batch(&transaction, None, world.now).expect("room");
    let failure = world.engine.take_batch(ticket).expect("ended").spread().expect_err("refused");
    assert!(failure.to_string().contains("a list (RPUSH, BLMOVE)"), "{failure}");
}

#[test]
fn a_written_incr_that_gets_no_answer_ends_as_maybe_and_is_not_sent_again() {
    let mut world = World::live(World::plain());
    let ticket = world.run(&Request::new("INCR").arg("a"));
    world.write();
    world.lose(Cause::Reset);
    let failure = world.engine.take(ticket).expect("ended").expect_err("no answer");
    assert_eq!(failure.executed(), Executed::Maybe);
    assert!(matches!(failure.kind(), FailureKind::ConnectionLost(Cause::Reset)));
}

#[test]
fn a_written_read_that_is_not_to_be_repeated_ends_with_its_connection() {
    let mut world = World::live(World::plain().maybe_retry(MaybeRetry::Never));
    let ticket = world.run(&Request::new("GET").arg("a"));
    world.write();
    world.lose(Cause::Reset);
    let failure = world.engine.take(ticket).expect("nothing to wait for").expect_err("no answer");
    assert_eq!(failure.executed(), Executed::Maybe);
}

#[test]
fn a_request_is_sent_as_often_as_it_may_be_and_no_more() {
    let mut config = World::plain().attempts_max(300).retry_schedule(|_| Duration::from_millis(1));
    config.response_timeout = Duration::from_secs(60);
    let mut world = World::live(config);
    let ticket = world.run(&Request::new("GET").arg("a"));
    while world.engine.is_pending(ticket) && world.write().contains("GET") {
        world.say("-TRYAGAIN later\r\n");
        if let Some(outcome) = world.engine.take(ticket) {
            assert_eq!(outcome.expect_err("refused each time").attempts(), 300);
            return;
        }
        world.wait(Duration::from_millis(1));
    }
    panic!("it was not sent again, and did not end");
}

#[test]
fn an_incr_whose_last_byte_was_not_accepted_goes_again() {
    let mut world = World::live(World::plain());
    let ticket = world.run(&Request::new("INCR").arg("a"));
    let conn = world.conn.expect("connected");
    let chunk = world.engine.take_output(conn).expect("bytes");
    let all_but_one = chunk.unwritten().len() - 1;
    world.engine.written(conn, chunk, all_but_one, world.now);
    world.lose(Cause::Reset);
    assert!(world.engine.take(ticket).is_none());
    world.wait(Duration::from_millis(100));
    world.open();
    world.write();
    world.say("%0\r\n");
    assert_eq!(world.write(), "*2\r\n$4\r\nINCR\r\n$1\r\na\r\n");
    world.say(":1\r\n");
    assert_eq!(world.value::<i64>(ticket), 1);
}

#[test]
fn a_key_that_may_degrade_is_read_and_written_through_an_outage() {
    let config = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let mut world = World::live(config);
    let set = world.run(&Request::new("SET").arg("cache:a").arg("1"));
    world.write();
    world.say("+OK\r\n");
    world.value::<()>(set);
    let pending = world.run(&Request::new("GET").arg("cache:a"));
    world.write();
    world.wait(Duration::from_secs(1));
    world.lose(Cause::Reset);
    assert_eq!(world.engine.health(), Health::Suspect);
    assert!(world.engine.take(pending).is_none(), "one lost connection degrades nothing");
    world.lose(Cause::Refused);
    assert_eq!(world.engine.health(), Health::Degraded);
    assert_eq!(world.value::<String>(pending), "1");
    let incr = world.run(&Request::new("INCR").arg("cache:a"));
    assert_eq!(world.value::<i64>(incr), 2);
    let wallet = world.run(&Request::new("INCR").arg("wallet:a"));
    assert!(world.engine.take(wallet).is_none(), "what may not degrade waits");

    world.wait(Duration::from_millis(100));
    world.open();
    world.write();
    world.say("%0\r\n");
    // The wallet goes at once; the cache after probes, barrier and drain.
    let sent = world.write();
    assert!(sent.contains("INFO") && sent.contains("wallet:a"), "{sent}");
    world.say("+run_id:two\r\n+master_replid:two\r\n:1\r\n");
    assert_eq!(world.value::<i64>(wallet), 1);
    world.say("+PONG\r\n*1\r\n+master\r\n:0\r\n");
    let mut drained = String::new();
    for _ in 0..40 {
        world.wait(Duration::from_millis(50));
        let sent = world.write();
        let answers = [
            ("INFO", "$31\r\nrun_id:two\r\nmaster_replid:two\r\n\r\n"),
            ("PING", "+PONG\r\n"),
            ("ROLE", "*1\r\n+master\r\n"),
            ("DEL", ":0\r\n"),
        ];
        for (word, answer) in answers {
            for _ in 0..sent.matches(&format!("\r\n{word}\r\n")).count() {
                world.say(answer);
            }
        }
        drained.push_str(&sent);
    }
    assert!(drained.contains("$3\r\nDEL\r\n$7\r\ncache:a\r\n"), "{drained}");
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    let status = world.engine.status();
    assert_eq!((status.journal_entries, status.overlay_entries, status.shadow_entries), (0, 0, 0));
    let changes = world.events.iter().filter(|event| event.contains("->")).count();
    assert_eq!(changes, 5, "{:?}", world.events);
}

#[test]
fn a_silent_server_is_found_within_its_time_limit_and_the_deadline_holds() {
    let mut world = World::live(World::plain());
    let ticket = world.run(&Request::new("GET").arg("a"));
    world.write();
    world.wait(Duration::from_millis(1_999));
    assert!(world.closing.is_empty() && world.engine.health() == Health::Live);
    world.wait(Duration::from_millis(2));
    assert_eq!(world.engine.health(), Health::Suspect);
    assert!(world.engine.take(ticket).is_none(), "a read goes again");
    world.wait(Duration::from_secs(3));
    let failure = world.engine.take(ticket).expect("ended").expect_err("too late");
    assert!(failure.is_timeout());
    assert_eq!(failure.executed(), Executed::Maybe);
}

#[test]
fn a_password_that_is_wanted_and_missing_is_noticed_in_the_handshake() {
    use unfazed_core::config::ProtocolChoice;
    let config = World::plain().protocol(ProtocolChoice::Resp2).client_info(true);
    let mut world = World::new(config);
    let ticket = world.engine.connect(None, world.now);
    world.open();
    assert!(world.write().ends_with("PING\r\n"), "something that every server knows");
    // Before 7.2 CLIENT SETINFO is unknown, and that comes first.
    world.say("-ERR unknown subcommand\r\n-ERR unknown subcommand\r\n");
    world.say("-NOAUTH Authentication required.\r\n");
    let refused = world.engine.take_wait(ticket).expect("judged").expect_err("no way in");
    assert!(refused.to_string().contains("NOAUTH"), "{refused}");
}

/// Answers whatever the client asks on its own while it recovers, for `rounds` of 50 ms.
fn recover(world: &mut World, rounds: usize) -> String {
    let mut all = String::new();
    for _ in 0..rounds {
        let sent = world.write();
        for word in sent.split("\r\n").filter(|word| !word.starts_with(['*', '$'])) {
            match word {
                "PING" => world.say("+PONG\r\n"),
                "ROLE" => world.say("*1\r\n+master\r\n"),
                "INFO" => world.say("+run_id:x\r\n"),
                "DEL" => world.say(":1\r\n"),
                "HELLO" => world.say("%0\r\n"),
                _ => {}
            }
        }
        all.push_str(&sent);
        world.wait(Duration::from_millis(50));
    }
    all
}

fn degraded(policy: Policy) -> World {
    let config = World::plain().fallback(Fallback::memory("cache:*", policy));
    let mut world = World::live(config);
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    assert_eq!(world.engine.health(), Health::Degraded);
    world
}

impl World {
    fn answer_pings(&mut self) {
        let pings = self.write().matches("PING").count();
        (0..pings).for_each(|_| self.say("+PONG\r\n"));
    }

    fn run_now<T: FromReply>(&mut self, request: &Request<'_>) -> T {
        let ticket = self.run(request);
        self.value(ticket)
    }
}

#[test]
fn what_memory_held_before_recovery_never_comes_back_in_the_next_outage() {
    for policy in [Policy::Discard, Policy::Invalidate] {
        let mut world = degraded(policy);
        world.run_now::<()>(&Request::new("SET").arg("cache:a").arg("old"));
        world.wait(Duration::from_millis(100));
        world.open();
        recover(&mut world, 60);
        assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
        let set = world.run(&Request::new("SET").arg("cache:a").arg("new"));
        world.write();
        world.say("+OK\r\n");
        world.value::<()>(set);
        world.lose(Cause::Reset);
        world.lose(Cause::Refused);
        let get = Request::new("GET").arg("cache:a");
        assert_eq!(world.run_now::<Option<String>>(&get).as_deref(), Some("new"));
    }
}

#[test]
fn what_only_one_client_may_win_is_never_won_in_memory() {
    let mut world = degraded(Policy::Invalidate);
    world.run_now::<()>(&Request::new("SET").arg("cache:mine").arg("1"));
    for command in [
        "SET cache:lock me NX",
        "SETNX cache:lock me",
        "MSETNX cache:lock me",
        "RENAMENX cache:mine cache:lock",
    ] {
        let ticket = world.run(&Request::new(command));
        let failure = world.engine.take(ticket).expect("ended").expect_err("others could win too");
        let unsafe_here = FailureKind::Memory(MemoryRefusal::Unsafe).to_string();
        assert_eq!(failure.kind().to_string(), unsafe_here, "{command}");
    }
}

#[test]
fn what_is_remembered_makes_room_for_writes_and_what_was_written_does_not() {
    let config =
        World::plain().fallback(Fallback::memory("cache:*", Policy::Discard)).memory_entries_max(2);
    let mut world = World::live(config);
    let set = world.run(&Request::new("SET").arg("cache:a").arg("1"));
    world.write();
    world.say("+OK\r\n");
    world.value::<()>(set);
    world.wait(Duration::from_millis(600));
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    world.run_now::<()>(&Request::new("SET").arg("cache:b").arg("2"));
    let both = Request::new("MGET").arg("cache:a").arg("cache:b");
    assert_eq!(world.run_now::<Vec<i64>>(&both), [1, 2]);
    assert_eq!(world.run_now::<i64>(&Request::new("INCR").arg("cache:a")), 2);
    let set = world.run(&Request::new("SET").arg("cache:c").arg("3"));
    let failure = world.engine.take(set).expect("ended").expect_err("two values were written");
    assert!(matches!(failure.kind(), FailureKind::Memory(MemoryRefusal::Full(_))));
    assert_eq!(world.engine.status().overlay_entries, 2);
    assert_eq!(world.run_now::<Vec<i64>>(&both), [2, 2]);
}

#[test]
fn what_may_have_been_overwritten_is_not_remembered_when_memory_refuses_the_write() {
    let config = World::plain()
        .fallback(Fallback::memory("cache:*", Policy::Invalidate))
        .journal_entries_max(1);
    let mut world = World::live(config);
    let set = world.run(&Request::new("SET").arg("cache:a").arg("1"));
    world.write();
    world.say("+OK\r\n");
    world.value::<()>(set);
    world.wait(Duration::from_millis(600));
    let other = world.run(&Request::new("SET").arg("cache:b").arg("1"));
    let again = world.run(&Request::new("SET").arg("cache:a").arg("2"));
    world.write();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    world.value::<()>(other);
    let failure = world.engine.take(again).expect("ended").expect_err("the journal is full");
    assert_eq!(failure.executed(), Executed::Maybe);
    assert_eq!(world.run_now::<Option<String>>(&Request::new("GET").arg("cache:a")), None);
}

#[test]
fn what_is_remembered_is_served_until_a_new_data_set_is_trusted() {
    let config = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let mut world = World::live(config);
    let set = world.run(&Request::new("SET").arg("cache:a").arg("1"));
    world.write();
    world.say("+OK\r\n");
    world.value::<()>(set);
    world.wait(Duration::from_millis(600));
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    let get = Request::new("GET").arg("cache:a");
    // It comes back with other data, and falls again before it has passed all probes.
    world.wait(Duration::from_millis(100));
    world.open();
    recover(&mut world, 2);
    world.lose(Cause::Reset);
    assert_eq!(world.run_now::<Option<String>>(&get).as_deref(), Some("1"));
    world.wait(Duration::from_secs(1));
    world.open();
    recover(&mut world, 60);
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    assert_eq!(world.engine.status().shadow_entries, 0, "it is another data set's");
    let told = world.events.iter().filter(|event| event.contains("another data set")).count();
    assert_eq!(told, 1, "{:?}", world.events);
}

#[test]
fn a_dial_that_is_given_up_leaves_no_timer_behind() {
    let mut world = World::new(World::plain());
    world.engine.connect(None, world.now);
    let conn = loop {
        match world.engine.poll_output() {
            Output::Open { conn, .. } => break conn,
            Output::Wait(_) => panic!("a connection is asked for"),
            _ => {}
        }
    };
    world.now = world.now + Duration::from_secs(3);
    world.engine.handle_input(Input::Timeout, world.now);
    let timer = loop {
        match world.engine.poll_output() {
            Output::Wait(at) => break at,
            Output::Close { conn: closed, .. } => assert_eq!(closed, conn),
            _ => {}
        }
    };
    assert!(timer.is_none_or(|at| at > world.now.instant), "waiting for a close is no timer");
}

#[test]
fn a_connection_reset_in_its_handshake_does_not_condemn_a_healthy_server() {
    let config = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let mut world = World::live(config);
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.open();
    world.lose(Cause::Reset);
    assert_eq!(world.engine.health(), Health::Suspect);
    world.wait(Duration::from_millis(100));
    world.open();
    world.write();
    world.say("%0\r\n");
    assert_eq!(world.engine.health(), Health::Live);
}

#[test]
fn requests_that_wait_for_room_keep_their_order() {
    let mut world = World::live(World::plain().queue_requests_max(1));
    let first = world.run(&Request::new("INCR").arg("a"));
    let second = world.run(&Request::new("SET").arg("b").arg("1"));
    let third = world.run(&Request::new("GET").arg("b"));
    assert_eq!(world.engine.status().waiting_requests, 2);
    world.write();
    world.say(":1\r\n");
    let fourth = world.run(&Request::new("GET").arg("c"));
    assert!(world.write().contains("SET"), "the one that came first goes first");
    world.say("+OK\r\n");
    assert!(world.write().contains("$1\r\nb\r\n"));
    world.say("$1\r\n1\r\n");
    world.write();
    world.say("_\r\n");
    assert_eq!(world.value::<i64>(first), 1);
    world.value::<()>(second);
    assert_eq!(world.value::<String>(third), "1");
    assert_eq!(world.value::<Option<String>>(fourth), None);
}

#[test]
fn the_last_event_is_told_however_few_may_wait() {
    let mut world = World::live(World::plain().events_max(1));
    world.engine.shutdown(Duration::ZERO, world.now);
    world.drain();
    assert_eq!(world.events.last().map(String::as_str), Some("closed"));
}

#[test]
fn a_time_limit_longer_than_any_clock_can_hold_is_none() {
    let mut world = World::live(World::plain().retry_schedule(|_| Duration::MAX));
    let endless = Options { deadline: Some(Duration::MAX), ..Options::default() };
    let get = world.run(&Request::new("GET").arg("a").options(endless));
    let refused = world.run(&Request::new("GET").arg("b"));
    world.write();
    world.say("$1\r\nx\r\n-TRYAGAIN later\r\n");
    assert_eq!(world.value::<String>(get), "x");
    assert!(world.engine.take(refused).is_none());
    world.engine.shutdown(Duration::MAX, world.now);
    assert!(!world.engine.is_closed());
    world.engine.shutdown(Duration::ZERO, world.now);
    assert!(world.engine.is_closed(), "who asked for less time has his way");
}

#[test]
fn a_full_memory_is_told_once_until_there_is_room_again() {
    let config =
        World::plain().fallback(Fallback::memory("*", Policy::Discard)).memory_entries_max(2);
    let mut world = World::live(config);
    world.lose(Cause::Reset);
    world.wait(Duration::from_millis(100));
    world.lose(Cause::Refused);
    assert_eq!(world.engine.health(), Health::Degraded);
    let full = |world: &mut World, key: &str| {
        let ticket = world.run(&Request::new("SET").key(key).arg("v"));
        let refused = world.engine.take(ticket).expect("ended").is_err();
        (refused, world.events.iter().filter(|event| event.ends_with("is reached")).count())
    };
    assert_eq!(full(&mut world, "a"), (false, 0));
    assert_eq!(full(&mut world, "b"), (false, 0));
    assert_eq!(full(&mut world, "c"), (true, 1));
    assert_eq!(full(&mut world, "a"), (false, 1), "it has its room");
    assert_eq!(full(&mut world, "c"), (true, 1));
    let del = world.run(&Request::new("DEL").key("a"));
    assert_eq!(world.value::<i64>(del), 1);
    assert_eq!(full(&mut world, "c"), (false, 1));
    assert_eq!(full(&mut world, "d"), (true, 2));
}

#[test]
fn a_server_that_dies_at_hello_is_not_taken_for_one_that_speaks_only_resp2() {
    let mut world = World::new(World::plain());
    let _ticket = world.engine.connect(None, world.now);
    world.open();
    assert!(world.write().contains("HELLO"));
    world.lose(Cause::EndOfStream);
    // Some proxies end the stream at a command they do not know.
    world.open();
    assert!(!world.write().contains("HELLO"));
    world.lose(Cause::Reset);
    world.wait(Duration::from_millis(100));
    world.open();
    assert!(world.write().contains("HELLO"), "nothing was learnt of it");
    world.lose(Cause::EndOfStream);
    world.open();
    assert!(!world.write().contains("HELLO"));
    world.say("+PONG\r\n");
    assert_eq!(world.engine.health(), Health::Live);
    world.wait(Duration::from_millis(600));
    world.lose(Cause::EndOfStream);
    world.open();
    assert!(!world.write().contains("HELLO"), "it has proved itself");
}

#[test]
fn a_server_that_refuses_before_it_is_asked_is_quoted() {
    let mut world = World::new(World::plain());
    let ticket = world.engine.connect(None, world.now);
    world.open();
    // It accepts and refuses in one go, and nothing was written yet.
    world.say("-ERR max number of clients reached\r\n");
    let refused = world.engine.take_wait(ticket).expect("judged").expect_err("no room");
    assert!(refused.to_string().contains("max number of clients"), "{refused}");
    world.wait(Duration::from_millis(100));
    world.open();
    assert!(world.write().contains("HELLO"), "it is asked again, and as before");
}

#[test]
fn a_password_that_the_server_quotes_is_not_told() {
    for quoted in ["`AUTH`, with args beginning with: `hunter2`", "`AUTH` of hunter2"] {
        let mut world = World::new(World::plain().password("hunter2"));
        let ticket = world.engine.connect(None, world.now);
        world.open();
        world.write();
        world.say("-ERR unknown command `HELLO`, with args beginning with: `3` `AUTH` `hun\r\n");
        world.write();
        world.say(&format!("-ERR unknown command {quoted}\r\n"));
        let refused = world.engine.take_wait(ticket).expect("judged").expect_err("no way in");
        assert!(refused.to_string().contains("ERR"), "{refused}");
        let told = format!("{refused} {refused:?} {:?} {:?}", world.engine.status(), world.events);
        assert!(!told.contains("hun"), "{told}");
    }
}

#[test]
fn nothing_that_goes_out_is_formatted() {
    let mut world = World::new(World::plain().password("hunter2"));
    let set = Request::new("SET").arg("a").arg("hunter2");
    let _ticket = world.run(&set);
    world.open();
    let chunk = world.engine.take_output(world.conn.expect("a connection")).expect("a handshake");
    assert!(String::from_utf8_lossy(chunk.unwritten()).contains("hunter2"));
    let mut batch = Batch::new();
    batch.push(&set);
    let told = format!("{chunk:?} {batch:?} {:?}", world.engine);
    assert!(!told.contains("hunter2"), "{told}");
    assert!(!told.contains("104, 117, 110"), "nor as numbers: {told}");
}

#[test]
fn what_expires_before_it_was_written_is_never_sent() {
    let mut world = World::live(World::plain());
    let brief = Options { deadline: Some(Duration::from_millis(10)), ..Options::default() };
    let incr = world.run(&Request::new("INCR").arg("a").options(brief));
    let get = world.run(&Request::new("GET").arg("b"));
    world.wait(Duration::from_millis(11));
    let failure = world.engine.take(incr).expect("ended").expect_err("too late");
    assert_eq!(failure.executed(), Executed::No);
    assert_eq!(world.write(), "*2\r\n$3\r\nGET\r\n$1\r\nb\r\n");
    world.say("$1\r\nx\r\n");
    assert_eq!(world.value::<String>(get), "x");
    assert_eq!(world.engine.status().queued_bytes, 0);
}

#[test]
fn what_expires_when_its_first_bytes_are_written_may_be_executed() {
    let mut world = World::live(World::plain());
    let brief = Options { deadline: Some(Duration::from_millis(10)), ..Options::default() };
    let incr = world.run(&Request::new("INCR").arg("a").options(brief));
    let conn = world.conn.expect("connected");
    let chunk = world.engine.take_output(conn).expect("bytes");
    world.engine.written(conn, chunk, 1, world.now);
    world.wait(Duration::from_millis(11));
    let failure = world.engine.take(incr).expect("ended").expect_err("too late");
    assert_eq!(failure.executed(), Executed::Maybe, "the rest of it goes out all the same");
    assert!(world.write().ends_with("INCR\r\n$1\r\na\r\n"));
}

#[test]
fn what_is_with_the_writer_when_its_runtime_is_dropped_may_be_executed() {
    let mut world = World::live(World::plain());
    let incr = world.run(&Request::new("INCR").arg("a"));
    let conn = world.conn.expect("connected");
    let chunk = world.engine.take_output(conn).expect("bytes");
    world.engine.abandon(world.now);
    drop(chunk);
    let failure = world.engine.take(incr).expect("ended").expect_err("no answer");
    assert_eq!(failure.executed(), Executed::Maybe);
}

#[test]
fn nothing_is_dialled_while_older_requests_are_still_on_a_closing_connection() {
    let mut world = World::live(World::plain());
    let old = world.conn.take().expect("connected");
    let first = world.run(&Request::new("SET").arg("a").arg("1"));
    world.engine.received(old, &mut BytesMut::from("garbage"), world.now);
    // Its driver is still about to close it when somebody asks for something newer.
    let second = world.engine.submit(&Request::new("SET").arg("a").arg("2"), None, world.now);
    let (second, _) = second.expect("room");
    loop {
        match world.engine.poll_output() {
            Output::Open { .. } => panic!("the newer request would overtake the older one"),
            Output::Wait(_) => break,
            _ => {}
        }
    }
    world.engine.handle_input(Input::Closed { conn: old, cause: Cause::Local }, world.now);
    world.drain();
    world.wait(Duration::from_millis(100));
    world.open();
    world.write();
    world.say("%0\r\n");
    let sent = world.write();
    assert!(sent.find("\r\n1\r\n") < sent.find("\r\n2\r\n"), "{sent}");
    world.say("+OK\r\n+OK\r\n");
    world.value::<()>(first);
    world.value::<()>(second);
}

#[test]
fn a_process_that_stood_still_does_not_blame_the_server() {
    let mut world = World::live(World::plain());
    let ticket = world.run(&Request::new("INCR").arg("a"));
    world.write();
    // Nothing runs for longer than the server may be silent; then the timer comes first.
    world.now = world.now + Duration::from_millis(3_500);
    world.engine.handle_input(Input::Timeout, world.now);
    world.drain();
    assert_eq!(world.engine.health(), Health::Live);
    world.say(":1\r\n");
    assert_eq!(world.value::<i64>(ticket), 1);
}

#[test]
fn closing_waits_for_nothing_that_could_not_be_sent() {
    let mut world = World::live(World::plain());
    world.lose(Cause::Reset);
    let ticket = world.run(&Request::new("GET").arg("a"));
    world.engine.shutdown(Duration::from_secs(10), world.now);
    world.drain();
    assert_eq!(world.engine.health(), Health::Closed);
    assert!(world.engine.take(ticket).expect("ended").is_err());
}

#[test]
fn during_recovery_nothing_overtakes_a_write_that_waits_and_no_answer_is_half_a_guess() {
    let mut world = degraded(Policy::Invalidate);
    world.run_now::<()>(&Request::new("SET").arg("cache:a").arg("memory"));
    world.wait(Duration::from_millis(100));
    world.open();
    // Until the deletion that is owed to it is out.
    let mut seen = String::new();
    while !seen.contains("cache:a") {
        seen = world.write();
        for word in seen.split("\r\n") {
            match word {
                "HELLO" => world.say("%0\r\n"),
                "INFO" => world.say("+run_id:x\r\n"),
                "PING" => world.say("+PONG\r\n"),
                "ROLE" => world.say("*1\r\n+master\r\n"),
                "unfazed:probe:absent" => world.say(":0\r\n"),
                _ => {}
            }
        }
        world.wait(Duration::from_millis(10));
    }
    let early: Option<String> = world.run_now(&Request::new("GET").arg("cache:a"));
    assert_eq!(early.as_deref(), Some("memory"));
    let both = world.run(&Request::new("MGET").arg("cache:a").arg("cache:b"));
    let set = world.run(&Request::new("SET").arg("cache:a").arg("new"));
    let get = world.run(&Request::new("GET").arg("cache:a"));
    assert_eq!(world.write(), "", "all of them wait");
    world.say(":1\r\n");
    let sent = world.write();
    assert!(sent.find("MGET") < sent.find("SET") && sent.find("SET") < sent.rfind("GET"), "{sent}");
    world.say("*2\r\n$-1\r\n$5\r\nother\r\n+OK\r\n$3\r\nnew\r\n");
    let both: (Option<String>, Option<String>) = world.value(both);
    assert_eq!(both, (None, Some("other".into())));
    world.value::<()>(set);
    assert_eq!(world.value::<String>(get), "new");
}

#[test]
fn a_value_that_expires_in_memory_does_not_bring_the_older_one_back() {
    let config = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let mut world = World::live(config);
    let set = world.run(&Request::new("SET").arg("cache:a").arg("old"));
    world.write();
    world.say("+OK\r\n");
    world.value::<()>(set);
    world.wait(Duration::from_secs(1));
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    let set = world.run(&Request::new("SET").arg("cache:a").arg("new").arg("PX").arg("20"));
    world.value::<()>(set);
    world.wait(Duration::from_millis(30));
    let get = world.run(&Request::new("GET").arg("cache:a"));
    assert_eq!(world.value::<Option<String>>(get), None);
}

#[test]
fn a_write_held_behind_a_key_goes_to_memory_when_recovery_fails() {
    let config = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let mut world = World::live(config);
    world.wait(Duration::from_secs(1));
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    let incr = world.run(&Request::new("INCR").arg("cache:a"));
    assert_eq!(world.value::<i64>(incr), 1);
    world.wait(Duration::from_millis(100));
    world.open();
    world.write();
    world.say("%0\r\n");
    let mut held = None;
    for _ in 0..40 {
        let sent = world.write();
        if sent.contains("cache:a") {
            held = Some(world.run(&Request::new("INCR").arg("cache:a")));
            world.say("-LOADING not yet\r\n");
            break;
        }
        for (word, answer) in [
            ("INFO", "+run_id:one\r\n"),
            ("PING", "+PONG\r\n"),
            ("ROLE", "*1\r\n+master\r\n"),
            ("DEL", ":0\r\n"),
        ] {
            for _ in 0..sent.matches(&format!("\r\n{word}\r\n")).count() {
                world.say(answer);
            }
        }
        world.wait(Duration::from_millis(50));
    }
    assert_eq!(world.engine.health(), Health::Degraded);
    assert_eq!(world.value::<i64>(held.expect("recovery got to its key")), 2);
}

#[test]
fn a_closed_client_keeps_nothing_and_waits_for_nothing() {
    let config = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let mut world = World::live(config);
    let set = world.run(&Request::new("SET").arg("cache:a").arg("1"));
    world.write();
    world.say("+OK\r\n");
    world.value::<()>(set);
    assert_eq!(world.engine.status().shadow_entries, 1);
    world.wait(Duration::from_secs(1));
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    let set = world.run(&Request::new("SET").arg("cache:b").arg("1"));
    world.value::<()>(set);
    world.engine.shutdown(Duration::from_secs(1), world.now);
    world.drain();
    assert_eq!(world.engine.health(), Health::Closed);
    let status = world.engine.status();
    assert_eq!((status.shadow_entries, status.overlay_entries, status.journal_entries), (0, 0, 0));
    assert_eq!(world.timer, None);
    let told = world.events.len();
    world.wait(Duration::from_secs(3_600));
    world.engine.handle_input(Input::Timeout, world.now);
    world.drain();
    assert_eq!(world.events.len(), told, "{:?}", world.events);
}

#[test]
fn a_connection_that_is_no_longer_authenticated_is_replaced_however_young() {
    let mut world = World::live(World::plain());
    let ticket = world.run(&Request::new("GET").arg("a"));
    world.write();
    let young = world.conn;
    world.say("-NOAUTH Authentication required.\r\n");
    world.wait(Duration::from_millis(200));
    assert_ne!(world.conn, young, "another connection is made");
    world.open();
    world.write();
    world.say("%0\r\n");
    world.wait(Duration::from_millis(200));
    assert!(world.write().contains("GET"));
    world.say("$1\r\nx\r\n");
    assert_eq!(world.value::<String>(ticket), "x");
}

#[test]
fn an_unknown_command_fails_at_once_where_every_key_is_answered_from_memory() {
    let config = World::plain().fallback(Fallback::memory("*", Policy::Invalidate));
    let mut world = World::live(config);
    world.lose(Cause::Reset);
    world.wait(Duration::from_millis(100));
    world.lose(Cause::Refused);
    let ticket = world.run(&Request::new("JSON.GET").arg("a"));
    let failure = world.engine.take(ticket).expect("at once").expect_err("memory can't");
    assert!(matches!(failure.kind(), FailureKind::Memory(_)), "{failure}");
    assert_eq!(failure.executed(), Executed::No);
}

#[test]
fn a_failure_says_what_kept_it_waiting_and_who_gave_a_wrong_answer() {
    let config = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let mut world = World::live(config);
    world.lose(Cause::Reset);
    world.wait(Duration::from_millis(100));
    world.lose(Cause::Refused);
    let waits = world.run(&Request::new("INCR").arg("wallet:a"));
    world.run_now::<()>(&Request::new("SET").arg("cache:a").arg("no number"));
    let wrong = world.run(&Request::new("INCR").arg("cache:a"));
    let wrong = world.engine.take(wrong).expect("at once").expect_err("no number");
    assert_eq!((wrong.node(), wrong.attempts()), (Some("memory"), 0), "{wrong}");
    let end = world.now.instant + Duration::from_secs(6);
    while world.now.instant < end {
        world.wait(Duration::from_millis(100));
        if world.conn.is_some() {
            world.lose(Cause::Refused);
        }
    }
    let late = world.engine.take(waits).expect("ended").expect_err("nobody came");
    assert_eq!(late.cause(), Some(&Cause::Refused));
    assert!(late.to_string().contains("connection refused (not executed)"), "{late}");
}

#[test]
fn spans_that_never_end_are_no_trouble() {
    let mut world = World::live(World::plain().retry_schedule(|_| Duration::MAX));
    let options = Options { deadline: Some(Duration::MAX), ..Options::default() };
    let patient = world.run(&Request::new("GET").arg("a").options(options));
    let mut batch = Batch::new().options(options);
    batch.push(&Request::new("GET").arg("b"));
    let (pipeline, _) = world.engine.submit_batch(&batch, None, world.now).expect("room");
    let refused = world.run(&Request::new("GET").arg("c"));
    world.write();
    world.say("$1\r\na\r\n$1\r\nb\r\n-LOADING\r\n");
    assert_eq!(world.value::<String>(patient), "a");
    let outcomes = world.engine.take_batch(pipeline).expect("ended").spread();
    assert!(outcomes.expect("each has its own")[0].is_ok());
    world.wait(Duration::from_secs(6));
    let failure = world.engine.take(refused).expect("ended").expect_err("still loading");
    assert!(failure.is_timeout(), "{failure}");
    world.engine.shutdown(Duration::MAX, world.now);
    world.drain();
    assert_eq!(world.engine.health(), Health::Closed);
}

#[test]
fn a_sleep_ends_when_its_time_has_come_and_not_before() {
    let mut world = World::live(World::plain());
    let long = world.engine.sleep(Duration::from_secs(60), Some(2), world.now);
    let short = world.engine.sleep(Duration::from_millis(70), Some(1), world.now);
    assert!(world.engine.has_output(), "the adapter has to come back earlier");
    world.drain();
    world.wait(Duration::from_millis(69));
    assert!(world.engine.take_wait(short).is_none());
    world.wait(Duration::from_millis(1));
    let mut woken = Vec::new();
    world.engine.take_ready(&mut woken);
    assert_eq!(woken, [1]);
    assert!(world.engine.take_wait(short).expect("its time has come").is_ok());
    assert!(world.engine.take_wait(long).is_none());
    world.engine.cancel(long, world.now);
    assert_eq!(world.engine.status().tickets, 0);
}

#[test]
fn a_sleep_needs_no_server_and_does_not_outlive_the_client() {
    for config in [World::plain(), Config::memory()] {
        let mut world = World::new(config);
        let short = world.engine.sleep(Duration::from_millis(5), None, world.now);
        let long = world.engine.sleep(Duration::from_secs(60), Some(1), world.now);
        world.drain();
        world.wait(Duration::from_millis(5));
        assert!(world.engine.take_wait(short).expect("its time has come").is_ok());
        world.engine.shutdown(Duration::from_secs(1), world.now);
        world.drain();
        world.wait(Duration::from_secs(1));
        let failure = world.engine.take_wait(long).expect("the client is closed").unwrap_err();
        assert!(matches!(failure.kind(), FailureKind::ClientClosed), "{failure}");
        let late = world.engine.sleep(Duration::from_millis(5), None, world.now);
        let failure = world.engine.take_wait(late).expect("the client is closed").unwrap_err();
        assert!(matches!(failure.kind(), FailureKind::ClientClosed), "{failure}");
        assert_eq!(world.engine.status().tickets, 0);
    }
}

#[test]
fn every_connection_has_a_number_of_its_own() {
    let mut world = World::live(World::plain());
    assert_eq!(world.engine.connections_made(), 1);
    world.wait(Duration::from_secs(1));
    world.lose(Cause::Reset);
    assert_eq!(world.engine.connections_made(), 1);
    world.open();
    world.write();
    world.say("%1\r\n+server\r\n+redis\r\n");
    assert_eq!(world.engine.connections_made(), 2);
}

#[test]
fn a_schedule_is_asked_when_a_client_is_made_and_not_in_the_middle_of_a_reply() {
    let made = Arc::new(AtomicBool::new(false));
    let seen = made.clone();
    let mut world = World::live(World::plain().retry_schedule(move |attempts| {
        assert!(!seen.load(Ordering::Relaxed), "foreign code while the engine is locked");
        Duration::from_secs(attempts.into())
    }));
    made.store(true, Ordering::Relaxed);
    let ticket = world.run(&Request::new("GET").arg("a"));
    for attempts in [1, 2] {
        assert!(world.write().contains("GET"));
        world.say("-LOADING\r\n");
        world.wait(Duration::from_millis(attempts * 1_000 - 1));
        world.answer_pings();
        assert_eq!(world.engine.status().queued_requests, 1);
        world.wait(Duration::from_millis(1));
    }
    assert!(world.write().contains("GET"));
    world.say("$1\r\na\r\n");
    assert_eq!(world.value::<String>(ticket), "a");
}

#[test]
fn a_long_pipeline_that_is_not_taken_is_taken_back_whole() {
    let mut batch = Batch::new();
    for number in 0..100_000 {
        batch.push(&Request::new("MODULE.SET").arg("key").arg(&number));
    }
    let mut world = World::live(World::plain());
    let (ticket, _) = world.engine.submit_batch(&batch, None, world.now).expect("room");
    let conn = world.conn.expect("connected");
    let chunk = world.engine.take_output(conn).expect("bytes");
    world.engine.written(conn, chunk, 100, world.now);
    for _ in 0..5 {
        // The kernel takes a little now and then, so the connection is not given up.
        world.wait(Duration::from_secs(1));
        if let Some(chunk) = world.engine.take_output(conn) {
            world.engine.written(conn, chunk, 1, world.now);
        }
    }
    let outcomes = world.engine.take_batch(ticket).expect("its deadline has passed").spread();
    let outcomes = outcomes.expect("each has its own");
    let failure = outcomes.into_iter().next_back().expect("many").expect_err("not answered");
    assert_eq!((failure.executed(), failure.command()), (Executed::No, "MODULE.SET"));
    assert!(world.engine.unwritten(conn) < 100);
}

#[test]
fn a_client_that_is_being_closed_waits_for_nothing_that_was_given_up() {
    let mut world = World::new(World::plain());
    let get = world.run(&Request::new("GET").arg("a"));
    world.engine.shutdown(Duration::from_secs(60), world.now);
    world.drain();
    assert_eq!(world.engine.status().queued_requests, 1);
    world.engine.cancel(get, world.now);
    assert!(world.engine.has_output());
    world.drain();
    world.wait(Duration::from_millis(1));
    assert_eq!(world.engine.health(), Health::Closed);
}

#[test]
fn an_idle_connection_is_pinged_in_time_however_late_a_reply_was_due() {
    let second = Duration::from_secs(1);
    let mut world = World::live(World::plain().ping_interval(second / 10).response_timeout(second));
    let ticket = world.run(&Request::new("GET").arg("a"));
    world.write();
    // The timer is set for the reply now, and not for the PING that is due after it.
    world.wait(second / 4);
    let mut reply = BytesMut::from(&b"_\r\n"[..]);
    world.engine.received(world.conn.expect("connected"), &mut reply, world.now);
    assert_eq!(world.value::<Option<String>>(ticket), None);
    assert!(world.engine.has_output(), "or the driver would sleep on");
    world.drain();
    assert!(world.timer.is_some_and(|at| at <= world.now.instant + second / 10));
}
