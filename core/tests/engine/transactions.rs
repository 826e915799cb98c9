//! Transactions: sent in one piece, answered one by one, ended as one.

mod in_memory;

use std::collections::VecDeque;

use unfazed_core::{
    Failure,
    config::Publish,
    engine::Rejected,
    pubsub::{Incoming, StreamOptions, TopicKind},
    reply::Source,
    resp::Reply,
    resp::Value,
};

use super::*;

const QUEUED: &str = "+QUEUED\r\n";

/// The commands, each its words with spaces between them, as a transaction.
fn batch(commands: &[&str]) -> Batch {
    batch_asking(commands, Options::default())
}

fn batch_asking(commands: &[&str], options: Options) -> Batch {
    let mut batch = Batch::new();
    for command in commands {
        batch.push(&Request::new(command));
    }
    batch.options(options).into_transaction()
}

/// The same on the wire.
fn wire(commands: &[&str]) -> String {
    let encoded = |command: &&str| {
        let mut out = Vec::new();
        Request::new(command).encode(&mut out);
        String::from_utf8(out).expect("text")
    };
    std::iter::once(&"MULTI").chain(commands).chain([&"EXEC"]).map(encoded).collect()
}

impl World {
    fn transact(&mut self, commands: &[&str]) -> Ticket {
        self.submit(&batch(commands))
    }

    fn submit(&mut self, batch: &Batch) -> Ticket {
        let (ticket, _) = self.engine.submit_batch(batch, None, self.now).expect("room");
        self.drain();
        ticket
    }

    fn refuse(&mut self, batch: &Batch) -> Failure {
        match self.engine.submit_batch(batch, None, self.now) {
            Err(Rejected::Failed(failure)) => failure,
            other => panic!("{other:?}"),
        }
    }

    fn outcomes(&mut self, ticket: Ticket) -> Result<Vec<Result<Reply, Failure>>, Failure> {
        self.engine.take_batch(ticket).expect("ended").spread()
    }

    /// All replies, none of which is a failure.
    fn values(&mut self, ticket: Ticket) -> Vec<Value> {
        let outcomes = self.outcomes(ticket).expect("carried out");
        outcomes.into_iter().map(|one| one.expect("no failure").view().to_value()).collect()
    }

    fn failed(&mut self, ticket: Ticket) -> Failure {
        self.outcomes(ticket).expect_err("nothing came of it")
    }

    fn nothing_is_left(&self) {
        let status = self.engine.status();
        assert_eq!((status.tickets, status.queued_requests, status.queued_bytes), (0, 0, 0));
    }

    /// It comes back on a new connection.
    fn reconnect(&mut self) {
        self.wait(Duration::from_millis(100));
        self.open();
        self.write();
        self.say("%0\r\n");
    }
}

/// [`recover`] for a client that sends transactions of two commands meanwhile.
fn recover_with_transactions(world: &mut World, rounds: usize) -> String {
    let mut all = String::new();
    for _ in 0..rounds {
        let sent = world.write();
        let mut queues = false;
        for word in sent.split("\r\n").filter(|word| !word.starts_with(['*', '$'])) {
            match word {
                "MULTI" => {
                    queues = true;
                    world.say("+OK\r\n");
                }
                "EXEC" => {
                    queues = false;
                    world.say("*2\r\n+OK\r\n:1\r\n");
                }
                "SET" | "INCR" if queues => world.say(QUEUED),
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

fn aborted(failure: &Failure) -> (Option<usize>, Option<String>, String) {
    match failure.kind() {
        FailureKind::Aborted(abort) => {
            (abort.item(), abort.command().map(str::to_owned), abort.reason().to_string())
        }
        other => panic!("{other}"),
    }
}

fn integer(number: i64) -> Value {
    Value::Integer(number)
}

#[test]
fn it_goes_out_in_one_piece_and_each_command_gets_its_own_reply() {
    let mut world = World::live(World::plain());
    let before = world.run(&Request::new("GET a"));
    let ticket = world.transact(&["SET a 1", "INCR b", "LRANGE l 0 1"]);
    let after = world.run(&Request::new("GET b"));
    let sent = world.write();
    assert_eq!(
        sent,
        format!(
            "*2\r\n$3\r\nGET\r\n$1\r\na\r\n{}*2\r\n$3\r\nGET\r\n$1\r\nb\r\n",
            wire(&["SET a 1", "INCR b", "LRANGE l 0 1"]),
        )
    );
    world.say("$1\r\n7\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n");
    assert_eq!(world.value::<i64>(before), 7);
    assert!(world.engine.take_batch(ticket).is_none(), "EXEC has not answered");
    let long = "x".repeat(100);
    world.say(&format!("*3\r\n+OK\r\n:5\r\n*2\r\n$1\r\nx\r\n$100\r\n{long}\r\n$1\r\n5\r\n"));
    assert_eq!(world.value::<i64>(after), 5);
    let list = Value::Array(vec![Value::Bulk("x".into()), Value::Bulk(long.into())]);
    assert_eq!(world.values(ticket), [Value::OK, integer(5), list]);
    world.nothing_is_left();
}

#[test]
fn its_waiter_is_woken_once_and_only_by_exec() {
    let mut world = World::live(World::plain());
    let (ticket, flush) =
        world.engine.submit_batch(&batch(&["INCR a"]), Some(9), world.now).expect("room");
    assert!(matches!(flush, Flush::AfterOthers(_)));
    world.write();
    let mut woken = Vec::new();
    for reply in ["+OK\r\n", QUEUED] {
        world.say(reply);
        world.engine.take_ready(&mut woken);
        assert!(woken.is_empty(), "{reply}");
    }
    world.say("*1\r\n:1\r\n");
    world.engine.take_ready(&mut woken);
    assert_eq!(woken, [9]);
    assert_eq!(world.values(ticket), [integer(1)]);
}

#[test]
fn an_error_inside_exec_is_its_commands_own_and_undoes_nothing() {
    let mut world = World::live(World::plain());
    let ticket = world.transact(&["SET a 1", "LPUSH a x", "NOSUCH.MODULE a", "EVAL code 0"]);
    world.write();
    world.say(&format!("+OK\r\n{}", QUEUED.repeat(4)));
    world.say("*4\r\n+OK\r\n-WRONGTYPE not a list\r\n-ERR module\r\n-MOVED 1 evil:1\r\n");
    let mut outcomes = world.outcomes(ticket).expect("carried out").into_iter();
    assert!(outcomes.next().expect("four").is_ok());
    let expected =
        [("LPUSH", Executed::Yes), ("NOSUCH.MODULE", Executed::Maybe), ("EVAL", Executed::Maybe)];
    for (name, executed) in expected {
        let failure = outcomes.next().expect("four").expect_err("an error");
        assert_eq!((failure.command(), failure.executed()), (name, executed), "{failure}");
        assert_eq!(failure.node(), Some("127.0.0.1:6379"));
    }
    world.nothing_is_left();
}

#[test]
fn a_command_that_is_refused_while_it_is_queued_discards_all_and_is_named() {
    let mut world = World::live(World::plain());
    let ticket = world.transact(&["SET a 1", "NOSUCH a", "INCR"]);
    world.write();
    world.say(
        "+OK\r\n+QUEUED\r\n-ERR unknown command 'NOSUCH'\r\n-ERR wrong number of arguments\r\n",
    );
    world.say("-EXECABORT Transaction discarded because of previous errors.\r\n");
    let failure = world.failed(ticket);
    let expected = (Some(1), Some("NOSUCH".into()), "ERR unknown command 'NOSUCH'".into());
    assert_eq!(aborted(&failure), expected);
    assert_eq!((failure.command(), failure.executed()), ("transaction", Executed::No));
    assert_eq!(failure.server_error().expect("the server's").code(), "ERR");
    assert_eq!(
        failure.to_string(),
        "transaction on 127.0.0.1:6379: discarded for its command 2, NOSUCH: \
         ERR unknown command 'NOSUCH' (not executed)"
    );
    world.nothing_is_left();
    let next = world.run(&Request::new("GET a"));
    world.write();
    world.say("$-1\r\n");
    assert_eq!(world.value::<Option<i64>>(next), None, "the connection goes on");
}

#[test]
fn what_exec_itself_is_refused_for_is_the_reason() {
    let mut world = World::live(World::plain());
    let ticket = world.transact(&["SET a 1"]);
    world.write();
    world.say("+OK\r\n+QUEUED\r\n");
    world.say("-EXECABORT Transaction discarded because of: OOM command not allowed\r\n");
    let failure = world.failed(ticket);
    assert_eq!(aborted(&failure), (None, None, "OOM command not allowed".into()));
    assert_eq!(failure.executed(), Executed::No);
    assert!(failure.to_string().contains("discarded: OOM"), "{failure}");
}

#[test]
fn a_watched_key_that_was_changed_has_an_outcome_of_its_own() {
    for null in ["*-1\r\n", "_\r\n"] {
        let mut world = World::live(World::plain());
        let ticket = world.transact(&["SET a 1"]);
        world.write();
        world.say(&format!("+OK\r\n+QUEUED\r\n{null}"));
        let failure = world.failed(ticket);
        assert!(matches!(failure.kind(), FailureKind::Conflict), "{failure}");
        assert_eq!(failure.executed(), Executed::No);
        world.nothing_is_left();
    }
}

#[test]
fn what_is_refused_for_now_goes_again_as_a_whole() {
    let refusals = [
        ("+QUEUED\r\n-LOADING a while\r\n", "-EXECABORT Transaction discarded.\r\n"),
        ("-TRYAGAIN\r\n-TRYAGAIN\r\n", "-EXECABORT Transaction discarded.\r\n"),
        ("+QUEUED\r\n+QUEUED\r\n", "-TRYAGAIN\r\n"),
        ("+QUEUED\r\n+QUEUED\r\n", "-EXECABORT Transaction discarded because of: NOREPLICAS\r\n"),
    ];
    for (queued, exec) in refusals {
        let mut world = World::live(World::plain());
        let ticket = world.transact(&["INCR a", "INCR b"]);
        let sent = world.write();
        world.say(&format!("+OK\r\n{queued}{exec}"));
        assert!(world.engine.take_batch(ticket).is_none(), "{exec}");
        world.wait(Duration::from_secs(1));
        assert_eq!(world.write(), sent, "{exec}");
        world.say("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:2\r\n");
        assert_eq!(world.values(ticket), [integer(1), integer(2)]);
        world.nothing_is_left();
    }
}

#[test]
fn what_is_refused_too_often_says_why_and_that_nothing_ran() {
    let mut world = World::live(World::plain().attempts_max(2));
    let ticket = world.transact(&["SET a 1", "INCR b"]);
    for _ in 0..2 {
        world.write();
        world.say("+OK\r\n+QUEUED\r\n-LOADING a while\r\n-EXECABORT discarded\r\n");
        world.wait(Duration::from_secs(1));
    }
    let failure = world.failed(ticket);
    assert_eq!(aborted(&failure), (Some(1), Some("INCR".into()), "LOADING a while".into()));
    assert_eq!((failure.executed(), failure.attempts()), (Executed::No, 2));
}

#[test]
fn a_replica_that_refuses_it_is_left_and_it_goes_again_elsewhere() {
    let mut world = World::live(World::plain());
    world.wait(Duration::from_secs(2));
    world.answer_pings();
    let ticket = world.transact(&["INCR a"]);
    let sent = world.write();
    world.say("+OK\r\n-READONLY You can't write against a read only replica.\r\n-EXECABORT x\r\n");
    world.open();
    world.write();
    world.say("%0\r\n");
    world.wait(Duration::from_millis(200));
    assert_eq!(world.write(), sent);
    world.say("+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    assert_eq!(world.values(ticket), [integer(1)]);
}

#[test]
fn lost_before_the_last_byte_of_exec_left_it_goes_again_whatever_it_does() {
    let length = wire(&["INCR a", "INCR b"]).len();
    for count in [0, 1, 15, 16, length / 2, length - 1] {
        let mut world = World::live(World::plain());
        let ticket = world.transact(&["INCR a", "INCR b"]);
        let conn = world.conn.expect("connected");
        let chunk = world.engine.take_output(conn).expect("bytes");
        world.engine.written(conn, chunk, count, world.now);
        if count > 20 {
            world.say("+OK\r\n");
        }
        world.lose(Cause::Reset);
        assert!(world.engine.take_batch(ticket).is_none(), "after {count} bytes");
        world.reconnect();
        assert_eq!(world.write(), wire(&["INCR a", "INCR b"]), "after {count} bytes");
        world.say("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:1\r\n");
        assert_eq!(world.values(ticket), [integer(1), integer(1)]);
        world.nothing_is_left();
    }
}

#[test]
fn lost_later_it_is_maybe_for_all_of_them_alike() {
    for replies in [
        "",
        "+OK\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n",
    ] {
        let mut world = World::live(World::plain());
        let ticket = world.transact(&["INCR a", "GET b"]);
        world.write();
        world.say(replies);
        world.lose(Cause::Reset);
        let failure = world.failed(ticket);
        assert_eq!(failure.executed(), Executed::Maybe, "{failure}");
        assert!(matches!(failure.kind(), FailureKind::ConnectionLost(Cause::Reset)), "{failure}");
        world.nothing_is_left();
    }
}

/// Whether a transaction goes again that was written in full and not answered.
fn goes_again(commands: &[&str], choice: MaybeRetry) -> bool {
    let mut world = World::live(World::plain());
    let options = Options { maybe_retry: Some(choice), ..Options::default() };
    let ticket = world.submit(&batch_asking(commands, options));
    let sent = world.write();
    world.lose(Cause::Reset);
    if let Some(outcomes) = world.engine.take_batch(ticket) {
        let failure = outcomes.spread().expect_err("not answered");
        assert_eq!(failure.executed(), Executed::Maybe);
        return false;
    }
    world.reconnect();
    assert_eq!(world.write(), sent);
    true
}

#[test]
fn it_is_repeated_only_where_each_command_may_be_and_none_reads_what_a_later_one_writes() {
    use MaybeRetry::{Always, Idempotent, Never, Repeatable};
    let cases: [(&[&str], MaybeRetry, bool); 19] = [
        (&["GET a", "GET b"], Repeatable, true),
        (&["GET a", "GET b"], Never, false),
        (&["SET a 1", "SET b 2"], Repeatable, true),
        (&["SET a 1", "INCR b"], Repeatable, false),
        (&["SET a 1", "INCR b"], Always, true),
        (&["SET a 1", "DEL b"], Repeatable, false),
        (&["SET a 1", "DEL b"], Idempotent, true),
        // The second time it would read what the first time has written.
        (&["GET a", "SET a 1"], Repeatable, false),
        (&["GET a", "SET b 1"], Repeatable, true),
        (&["SET a 1", "GET a"], Repeatable, true),
        (&["SETRANGE a 0 x", "SET a 1"], Repeatable, false),
        (&["SET a 1", "SET a 2"], Repeatable, true),
        (&["HMSET h f 1", "HMSET h g 2"], Repeatable, true),
        (&["MGET b a", "GET c", "MSET x 1 a 2"], Repeatable, false),
        (&["DBSIZE", "SET a 1"], Repeatable, false),
        (&["GET a", "SET a 1"], Idempotent, true),
        // Copied twice, the second copy is of what was set.
        (&["COPY a b", "SET a 1"], Idempotent, false),
        (&["COPY a b", "SET c 1"], Idempotent, true),
        (&["DEL a", "NOSUCH b"], Idempotent, false),
    ];
    for (commands, choice, expected) in cases {
        assert_eq!(goes_again(commands, choice), expected, "{commands:?} {choice:?}");
    }
    let mut mixed = Batch::new();
    let always = Options { maybe_retry: Some(Always), ..Options::default() };
    mixed.push(&Request::new("INCR a").options(always));
    mixed.push(&Request::new("GET b"));
    let mut world = World::live(World::plain());
    let ticket = world.submit(&mixed.into_transaction());
    world.write();
    world.lose(Cause::Reset);
    assert!(world.engine.take_batch(ticket).is_none(), "one that asked for it and one that may");
}

#[test]
fn given_up_before_it_is_written_none_of_it_goes_out() {
    let mut world = World::new(World::plain());
    let unwanted = world.transact(&["INCR a", "INCR b"]);
    let wanted = world.transact(&["INCR c"]);
    world.engine.cancel(unwanted, world.now);
    world.open();
    world.write();
    world.say("%0\r\n");
    assert_eq!(world.write(), wire(&["INCR c"]));
    world.say("+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    assert_eq!(world.values(wanted), [integer(1)]);
    world.nothing_is_left();
}

#[test]
fn given_up_when_it_is_on_its_way_its_replies_are_nobody_elses() {
    for detached in [false, true] {
        let mut world = World::live(World::plain());
        let ticket = world.transact(&["INCR a", "INCR b"]);
        let get = world.run(&Request::new("GET c"));
        world.write();
        world.say("+OK\r\n+QUEUED\r\n");
        if detached {
            world.engine.detach(ticket);
        } else {
            world.engine.cancel(ticket, world.now);
        }
        world.say("+QUEUED\r\n*2\r\n:1\r\n:2\r\n$1\r\n3\r\n");
        assert_eq!(world.value::<i64>(get), 3);
        world.nothing_is_left();
    }
}

#[test]
fn what_expires_before_it_is_written_is_taken_back_whole() {
    let mut world = World::live(World::plain());
    let options = Options { deadline: Some(Duration::from_millis(10)), ..Options::default() };
    let ticket = world.submit(&batch_asking(&["INCR a", "INCR b"], options));
    world.wait(Duration::from_millis(11));
    let failure = world.failed(ticket);
    assert!(failure.is_timeout() && failure.executed() == Executed::No, "{failure}");
    assert_eq!(world.write(), "");
    let sent = world.submit(&batch_asking(&["INCR a"], options));
    world.write();
    world.wait(Duration::from_millis(11));
    assert_eq!(world.failed(sent).executed(), Executed::Maybe);
    world.say("+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    world.nothing_is_left();
}

#[test]
fn what_no_server_answers_costs_the_connection_and_is_maybe() {
    let broken = [
        "+NO\r\n",
        ":1\r\n",
        "+OK\r\n+OK\r\n",
        "+OK\r\n$6\r\nQUEUED\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*1\r\n:1\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n:1\r\n:1\r\n:1\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n+OK\r\n",
        "+OK\r\n+QUEUED\r\n-ERR refused\r\n*2\r\n:1\r\n:1\r\n",
        "+OK\r\n+QUEUED\r\n-ERR refused\r\n*-1\r\n",
    ];
    for replies in broken {
        let mut world = World::live(World::plain());
        let ticket = world.transact(&["INCR a", "INCR b"]);
        world.write();
        world.say(replies);
        let failure = world.failed(ticket);
        assert_eq!(failure.executed(), Executed::Maybe, "{replies:?}: {failure}");
        assert_eq!(failure.cause(), Some(&Cause::UnexpectedReply), "{replies:?}");
        assert_eq!(world.engine.health(), Health::Suspect, "{replies:?}");
    }
}

#[test]
fn where_multi_itself_is_refused_what_ran_all_the_same_is_maybe() {
    let not_run = "-NOPERM this user has no permissions to run the 'multi' command\r\n";
    let mut world = World::live(World::plain());
    let ticket = world.transact(&["INCR a", "INCR b"]);
    world.write();
    world.say(&format!("{not_run}:1\r\n-NOPERM\r\n-ERR EXEC without MULTI\r\n"));
    let failure = world.failed(ticket);
    assert_eq!(failure.server_error().expect("the server's").code(), "NOPERM");
    assert_eq!(failure.executed(), Executed::Maybe, "the first one ran: {failure}");

    let ticket = world.transact(&["INCR a"]);
    world.write();
    world.say(&format!("{not_run}-NOPERM\r\n-ERR EXEC without MULTI\r\n"));
    let failure = world.failed(ticket);
    assert_eq!(aborted(&failure).0, None);
    assert_eq!(failure.executed(), Executed::No, "{failure}");
    world.nothing_is_left();
}

#[test]
fn a_new_handshake_is_tried_where_the_server_wants_one() {
    let mut world = World::live(World::plain());
    let ticket = world.transact(&["INCR a"]);
    let sent = world.write();
    world.say(&"-NOAUTH Authentication required.\r\n".repeat(3));
    world.reconnect();
    world.wait(Duration::from_millis(200));
    assert_eq!(world.write(), sent);
    world.say("+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    assert_eq!(world.values(ticket), [integer(1)]);
}

#[test]
fn what_can_not_be_part_of_one_is_refused_before_anything_is_sent() {
    for config in [World::plain(), Config::memory()] {
        let mut world = World::new(config);
        for command in [
            "SELECT 1",
            "MULTI",
            "WATCH a",
            "BLPOP a 0",
            "SUBSCRIBE c",
            "XREAD BLOCK 0 STREAMS s $",
        ] {
            let failure = world.refuse(&batch(&["SET a 1", command]));
            assert!(matches!(failure.kind(), FailureKind::Misuse(_)), "{failure}");
            assert_eq!(failure.executed(), Executed::No);
            assert!(command.starts_with(failure.command()), "{failure}");
        }
        world.nothing_is_left();
        let raw = world.engine.submit(&Request::new("MULTI"), None, world.now);
        let Err(Rejected::Failed(failure)) = raw else { panic!("{raw:?}") };
        assert!(failure.to_string().contains("`transaction`"), "{failure}");
    }
}

#[test]
fn one_of_no_commands_is_answered_at_once() {
    let mut world = World::new(World::plain());
    let (ticket, _) = world.engine.submit_batch(&batch(&[]), Some(3), world.now).expect("nothing");
    let mut woken = Vec::new();
    world.engine.take_ready(&mut woken);
    assert_eq!(woken, [3]);
    assert!(world.values(ticket).is_empty());
    world.nothing_is_left();
    assert!(world.conn.is_none(), "nobody was asked");
}

#[test]
fn it_waits_for_room_as_one_request() {
    let mut world = World::live(World::plain().queue_requests_max(1));
    let first = world.transact(&["INCR a", "INCR b", "INCR c"]);
    let second = world.transact(&["INCR d"]);
    let status = world.engine.status();
    assert_eq!((status.queued_requests, status.waiting_requests), (2, 1));
    let options = Options { refuse_when_full: true, ..Options::default() };
    let refused = world.engine.submit_batch(&batch_asking(&["INCR e"], options), None, world.now);
    assert!(matches!(refused, Err(Rejected::Full)));
    world.write();
    world.say("+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n:1\r\n:1\r\n:1\r\n");
    world.drain();
    assert_eq!(world.write(), wire(&["INCR d"]));
    world.say("+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    assert_eq!((world.values(first).len(), world.values(second).len()), (3, 1));
    world.nothing_is_left();
}

#[test]
fn a_slow_command_in_it_extends_the_time_that_its_replies_may_take() {
    let mut world = World::live(World::plain().deadline(Duration::from_secs(60)));
    let ticket = world.transact(&["SET a 1", "EVAL code 0"]);
    world.write();
    world.say("+OK\r\n+QUEUED\r\n+QUEUED\r\n");
    world.wait(Duration::from_secs(10));
    assert!(world.engine.take_batch(ticket).is_none() && world.closing.is_empty());
    world.say("*2\r\n+OK\r\n:1\r\n");
    assert_eq!(world.values(ticket).len(), 2);
    let quick = world.transact(&["INCR a"]);
    world.write();
    world.wait(Duration::from_secs(3));
    assert_eq!(world.failed(quick).executed(), Executed::Maybe, "a slow one is owed no longer");
}

#[test]
fn nothing_is_left_of_it_when_the_client_is_closed_or_its_runtime_dropped() {
    for closes in [true, false] {
        let mut world = World::live(World::plain().queue_requests_max(2));
        let written = world.transact(&["INCR a"]);
        world.write();
        let unwritten = world.transact(&["INCR b"]);
        let in_line = world.transact(&["INCR c"]);
        if closes {
            world.engine.shutdown(Duration::ZERO, world.now);
        } else {
            world.engine.abandon(world.now);
        }
        world.drain();
        assert_eq!(world.failed(written).executed(), Executed::Maybe);
        assert_eq!(world.failed(unwritten).executed(), Executed::No);
        assert_eq!(world.failed(in_line).executed(), Executed::No);
        world.nothing_is_left();
    }
}
