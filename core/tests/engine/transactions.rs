//! Transactions: sent in one piece, answered one by one, ended as one.

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

// ---- without a server ------------------------------------------------------------------------------

#[test]
fn on_memory_it_runs_as_on_a_server() {
    let mut world = World::new(Config::memory());
    let ticket = world.transact(&["SET a 1", "INCR a", "GET a", "INCR word", "PING"]);
    let word = |text: &'static str| Value::Bulk(text.into());
    assert_eq!(
        world.values(ticket),
        [Value::OK, integer(2), word("2"), integer(1), Value::Simple("PONG".into())]
    );
    let ticket = world.transact(&["SET word w", "INCR word", "SET a 7"]);
    let outcomes = world.outcomes(ticket).expect("carried out");
    let error = outcomes[1].as_ref().expect_err("no number");
    assert_eq!((error.command(), error.executed()), ("INCR", Executed::Yes));
    assert!(outcomes.iter().flatten().all(|reply| reply.source() == Source::Store));
    let get = world.run(&Request::new("GET a"));
    assert_eq!(world.value::<i64>(get), 7, "what came after the error was done");
}

#[test]
fn on_memory_too_all_of_it_runs_or_nothing() {
    let mut world = World::new(Config::memory().memory_entries_max(3));
    let first = world.transact(&["SET a 1", "SET b 1"]);
    assert_eq!(world.values(first).len(), 2);
    let cases: [(&[&str], usize, &str); 4] = [
        (&["INCR a", "GET", "INCR b"], 1, "wrong number of arguments"),
        (&["INCR a", "INCR b", "NOSUCH a"], 2, "unknown command"),
        (&["DEL a", "EVAL code 0"], 1, "runs no scripts"),
        // There is room for the first of the two, and none for the second.
        (&["INCR a", "SET c 1", "SET d 1", "DEL b"], 2, "OOM"),
    ];
    for (commands, item, reason) in cases {
        let ticket = world.transact(commands);
        let failure = world.failed(ticket);
        let (at, name, told) = aborted(&failure);
        assert_eq!(at, Some(item), "{failure}");
        assert!(commands[item].starts_with(&name.expect("named")), "{failure}");
        assert!(told.contains(reason), "{failure}");
        assert_eq!(failure.executed(), Executed::No);
        let all = world.run(&Request::new("MGET a b c d"));
        assert_eq!(world.value::<Vec<Option<i64>>>(all), [Some(1), Some(1), None, None]);
        assert_eq!(world.engine.status().overlay_entries, 2);
    }
    let flushed = world.transact(&["FLUSHALL", "SET x 1", "SET y 1", "SET z 1", "SET full 1"]);
    assert_eq!(aborted(&world.failed(flushed)).0, Some(4));
    let all = world.run(&Request::new("MGET a b x"));
    assert_eq!(world.value::<Vec<Option<i64>>>(all), [Some(1), Some(1), None]);
}

#[test]
fn on_memory_messages_are_part_of_it_or_stay_unsent_with_it() {
    let mut world = World::new(Config::memory());
    let stream = world.engine.open_stream(StreamOptions::default()).expect("room");
    let topics = world.engine.subscribe(stream, TopicKind::Channel, "news", None, None, world.now);
    world.drain();
    assert!(matches!(world.engine.take_wait(topics.expect("room")), Some(Ok(()))));
    let refused: [(&[&str], usize, &str); 5] = [
        (&["PUBLISH news lost", "INCR a", "INCR a b"], 2, "wrong number of arguments for 'incr'"),
        (&["INCR a", "PUBLISH news", "INCR a b"], 1, "wrong number of arguments for 'publish'"),
        (&["INCR a b", "PUBLISH news"], 0, "wrong number of arguments for 'incr'"),
        (&["PUBLISH news lost", "INCR a", "PUBSUB NUMPAT x"], 2, "for 'pubsub|numpat'"),
        (&["PUBLISH news lost", "EVAL code 0"], 1, "runs no scripts"),
    ];
    for (commands, item, reason) in refused {
        let ticket = world.transact(commands);
        let (at, _, told) = aborted(&world.failed(ticket));
        assert_eq!(at, Some(item), "{told}");
        assert!(told.contains(reason), "{told}");
    }
    let ticket = world.transact(&["INCR a", "PUBLISH news hello", "INCR a", "PUBSUB NUMSUB news"]);
    let counts = Value::Array(vec![Value::Bulk("news".into()), integer(1)]);
    assert_eq!(world.values(ticket), [integer(1), integer(1), integer(2), counts]);
    let mut incoming = VecDeque::new();
    world.engine.take_incoming(stream, &mut incoming, world.now);
    let [Incoming::Message(message)] = incoming.make_contiguous() else { panic!("{incoming:?}") };
    assert_eq!(message.payload.to_str().expect("text"), "hello");
}

#[test]
fn on_memory_it_is_told_when_there_is_no_room() {
    let mut world = World::new(Config::memory().memory_entries_max(1));
    world.run_now::<()>(&Request::new("SET a 1"));
    let full = |world: &World| world.events.iter().filter(|told| told.contains("reached")).count();
    for _ in 0..2 {
        let ticket = world.transact(&["SET b 1"]);
        assert!(aborted(&world.failed(ticket)).2.contains("OOM"));
        world.drain();
        assert_eq!(full(&world), 1, "once: {:?}", world.events);
    }
}

#[test]
fn while_the_server_is_down_it_takes_the_strictest_mode_of_its_keys() {
    let config = World::plain()
        .fallback(Fallback::memory("cache:*", Policy::Invalidate))
        .fallback(Fallback::miss("miss:*"))
        .fallback(Fallback::fail("fail:*"));
    let mut world = World::live(config);
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);

    let memory = world.transact(&["SET cache:a 1", "INCR cache:a"]);
    let outcomes = world.outcomes(memory).expect("in memory");
    assert!(outcomes.iter().flatten().all(|reply| reply.source() == Source::Overlay));
    assert_eq!(outcomes.len(), 2);
    assert_eq!(world.engine.status().journal_entries, 1);

    let miss = world.transact(&["GET cache:a", "SET miss:a 1", "GET miss:a"]);
    let outcomes = world.outcomes(miss).expect("a miss");
    let values: Vec<_> = outcomes.iter().flatten().map(|reply| reply.view().to_value()).collect();
    assert_eq!(values, [Value::Null, Value::OK, Value::Null], "all of it is a miss");
    assert_eq!(world.engine.status().journal_entries, 2);

    let fail = world.transact(&["GET cache:a", "GET fail:a"]);
    let failure = world.failed(fail);
    assert!(matches!(failure.kind(), FailureKind::Down(_)), "{failure}");
    // Something is owed to one of its keys, so it waits until that is paid.
    let waits = world.transact(&["SET cache:a 2", "INCR wallet:a"]);
    let free = world.transact(&["SET cache:b 2", "INCR wallet:b"]);
    world.wait(Duration::from_millis(100));
    world.open();
    let sent = recover_with_transactions(&mut world, 60);
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    let at = |text: &str| sent.find(text).unwrap_or_else(|| panic!("{text} in {sent}"));
    let deleted = at("$3\r\nDEL\r\n$7\r\ncache:a\r\n");
    assert!(at(&wire(&["SET cache:b 2", "INCR wallet:b"])) < deleted);
    assert!(at(&wire(&["SET cache:a 2", "INCR wallet:a"])) > deleted);
    assert_eq!((world.values(free).len(), world.values(waits).len()), (2, 2));
}

#[test]
fn in_memory_all_of_it_is_done_or_nothing() {
    let config = World::plain()
        .fallback(Fallback::memory("cache:*", Policy::Invalidate))
        .memory_entries_max(3)
        .journal_entries_max(3);
    let mut world = World::live(config);
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    world.run_now::<()>(&Request::new("SET cache:a 1"));
    let cases: [(&[&str], usize, &str); 6] = [
        (&["INCR cache:a", "SETNX cache:lock me"], 1, "not safe in memory"),
        (&["INCR cache:a", "EXPIRE cache:unseen 10"], 1, "only the server knows"),
        (&["INCR cache:a", "EVAL code 1 cache:a"], 1, "on the server only"),
        (&["INCR cache:a", "INCR cache:a cache:b"], 1, "wrong number of arguments"),
        (&["INCR cache:a", "DEL cache:a", "SET cache:b 1", "LOLWUT cache:c"], 3, "can't answer"),
        (
            &["DEL cache:a", "SET cache:b 1", "SET cache:c 1", "SET cache:d 1"],
            3,
            "journal_entries_max is reached",
        ),
    ];
    for (commands, item, reason) in cases {
        let mut batch = Batch::new();
        for command in commands {
            // Those that memory can't do concern keys that may degrade, as far as anybody can tell.
            batch.push(&Request::new(command));
        }
        let ticket = world.submit(&batch.into_transaction());
        let Some(outcomes) = world.engine.take_batch(ticket) else {
            // A command without keys does not degrade, and has the others wait.
            assert!(commands[item].starts_with("LOLWUT"), "{commands:?}");
            world.engine.cancel(ticket, world.now);
            continue;
        };
        let failure = outcomes.spread().expect_err("it can't all be done");
        let (at, _, told) = aborted(&failure);
        assert_eq!(at, Some(item), "{failure}");
        assert!(told.contains(reason), "{failure}");
        assert_eq!(failure.executed(), Executed::No, "{failure}");
        assert_eq!(world.run_now::<i64>(&Request::new("GET cache:a")), 1, "{failure}");
        let status = world.engine.status();
        assert_eq!((status.overlay_entries, status.journal_entries), (1, 1), "{failure}");
        assert_eq!(world.run_now::<Option<i64>>(&Request::new("GET cache:b")), None);
    }
    let status = world.engine.status();
    assert_eq!((status.queued_requests, status.queued_bytes), (0, 0));
}

#[test]
fn messages_go_by_what_is_to_become_of_messages() {
    let config = |choice| {
        let cached = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
        cached.publish_while_down(choice)
    };
    let block = ["INCR cache:a", "PUBLISH news hello", "GET cache:a"];
    for choice in [Publish::Fail, Publish::Wait, Publish::Local] {
        let mut world = World::live(config(choice));
        world.wait(Duration::from_millis(600));
        world.answer_pings();
        let written = world.transact(&block);
        world.write();
        world.lose(Cause::Reset);
        // The message may be on its way to others, and is not sent a second time.
        assert_eq!(world.failed(written).executed(), Executed::Maybe, "{choice:?}");
        world.lose(Cause::Refused);
        let ticket = world.transact(&block);
        match choice {
            Publish::Fail => {
                let failure = world.failed(ticket);
                assert!(matches!(failure.kind(), FailureKind::Down(_)), "{failure}");
            }
            Publish::Local => {
                let outcomes = world.outcomes(ticket).expect("in memory");
                let replies: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
                assert!(replies.iter().all(|reply| reply.source() != Source::Server));
                let values: Vec<_> = replies.iter().map(|reply| reply.view().to_value()).collect();
                assert_eq!(values, [integer(1), integer(0), Value::Bulk("1".into())]);
                let refused = world.transact(&["PUBLISH news lost", "SETNX cache:lock me"]);
                assert_eq!(aborted(&world.failed(refused)).0, Some(1));
                let alone = world.transact(&["PUBLISH news hello"]);
                assert_eq!(world.values(alone), [integer(0)]);
                let reads = world.transact(&["PUBLISH news hello", "GET strict:a"]);
                assert!(world.engine.take_batch(reads).is_none(), "this key is the server's");
            }
            _ => assert!(world.engine.take_batch(ticket).is_none(), "it waits"),
        }
    }
}

#[test]
fn what_is_remembered_is_lent_to_it_and_not_lost_with_it() {
    let config = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let mut world = World::live(config);
    let ticket = world.transact(&["SET cache:a 5", "GET cache:b"]);
    world.write();
    world.say("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$1\r\n7\r\n");
    assert_eq!(world.values(ticket).len(), 2);
    assert_eq!(world.engine.status().shadow_entries, 2, "the shadow learns from it");
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    let refused = world.transact(&["INCR cache:a", "SETNX cache:lock me"]);
    assert_eq!(aborted(&world.failed(refused)).0, Some(1));
    assert_eq!(world.run_now::<i64>(&Request::new("GET cache:a")), 5, "as it was");
    let status = world.engine.status();
    assert_eq!((status.overlay_entries, status.journal_entries), (0, 0));
    let ticket = world.transact(&["INCR cache:a", "GET cache:a", "DEL cache:a"]);
    let values = world.values(ticket);
    assert_eq!(values, [integer(6), Value::Bulk("6".into()), integer(1)]);
}

#[test]
fn what_waited_for_the_server_goes_to_memory_as_a_whole_when_it_is_judged() {
    let config = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let mut world = World::live(config);
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    let written = world.transact(&["INCR cache:a", "INCR cache:b"]);
    world.write();
    let unwritten = world.transact(&["INCR cache:a"]);
    world.lose(Cause::Reset);
    assert!(world.engine.take_batch(written).is_none(), "one lost connection degrades nothing");
    world.lose(Cause::Refused);
    assert_eq!(world.values(written), [integer(1), integer(1)], "invalidated on recovery");
    assert_eq!(world.values(unwritten), [integer(2)]);
    assert_eq!(world.engine.status().journal_entries, 2);
}

#[test]
fn during_recovery_it_waits_as_a_whole_behind_keys_that_are_not_settled() {
    let mut world = degraded(Policy::Invalidate);
    world.run_now::<()>(&Request::new("SET cache:a 1"));
    world.wait(Duration::from_millis(100));
    world.open();
    while world.engine.health() != Health::Recovering {
        recover(&mut world, 1);
    }
    // Until what is owed to `cache:a` is paid, nothing answers DEL.
    let sent = loop {
        let sent = world.write();
        if sent.contains("cache:a") {
            break sent;
        }
        world.wait(Duration::from_millis(10));
    };
    assert!(!sent.contains("MULTI"), "{sent}");
    let reads = world.transact(&["GET cache:a", "STRLEN cache:a"]);
    assert_eq!(world.values(reads).len(), 2, "memory has the last word on what is owed");
    let held = world.transact(&["INCR cache:b", "INCR cache:a"]);
    let behind = world.run(&Request::new("INCR cache:b"));
    let free = world.transact(&["INCR cache:c"]);
    assert_eq!(world.write(), wire(&["INCR cache:c"]), "nothing is owed to this one");
    world.say(":1\r\n+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    assert_eq!(world.values(free), [integer(1)]);
    let sent = world.write();
    let incr = "*2\r\n$4\r\nINCR\r\n$7\r\ncache:b\r\n";
    assert_eq!(sent, wire(&["INCR cache:b", "INCR cache:a"]) + incr);
    world.say("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:1\r\n:2\r\n");
    assert_eq!(world.values(held), [integer(1), integer(1)]);
    assert_eq!(world.value::<i64>(behind), 2);
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
