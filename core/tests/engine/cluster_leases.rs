//! Connections of their own in a cluster: which node gets which bytes, and where what waits goes on.

use std::time::{Duration, Instant, SystemTime};

use unfazed_core::{
    Cause, Engine, Executed, Failure, FailureKind, Now, Request,
    engine::{Batch, Lease, Rejected, Ticket},
    failure::{Bound, Stage},
    reply::FromReply,
    slot::slot,
};

use super::nodes::{
    A, ALSO_OF_A, B, C, Link, OF_A, OF_B, OF_C, World, ask, bulk, moved, shards, thirds,
};

impl World {
    /// The only connection of its own to a node.
    #[track_caller]
    pub(super) fn own(&self, port: u16) -> &Link {
        let links = self.links(port);
        assert_eq!(links.len(), 2, "one is shared, one is not");
        links[1]
    }

    /// What a node was asked on the only connection of its own and has not answered.
    #[track_caller]
    pub(super) fn asked_own(&self, port: u16) -> Vec<String> {
        self.own(port).asked.iter().map(|words| words.join(" ")).collect()
    }

    /// Answers on the connection of its own.
    #[track_caller]
    pub(super) fn say_own(&mut self, port: u16, answer: &str) {
        let conn = self.own(port).conn;
        self.say_on(conn, answer);
    }

    #[track_caller]
    pub(super) fn run_on(&mut self, lease: Lease, command: &str) -> Ticket {
        let submitted = self.engine.submit_on(lease, &Request::new(command), None, self.now);
        let (ticket, _) = submitted.unwrap_or_else(|rejected| panic!("{rejected:?}"));
        self.drain();
        ticket
    }

    pub(super) fn lease(&mut self) -> Lease {
        self.engine.lease(self.now).expect("the client is open")
    }

    pub(super) fn batch(&mut self, commands: &[&str]) -> Result<Ticket, Failure> {
        let submitted = self.engine.submit_batch(&batch(commands), None, self.now);
        self.drain();
        submitted.map(|(ticket, _)| ticket).map_err(refused)
    }

    /// Why a command can't be sent that needs a connection of its own, be that of a lease.
    #[track_caller]
    pub(super) fn refusal(&mut self, lease: Option<Lease>, command: &str) -> Failure {
        let request = Request::new(command);
        let submitted = match lease {
            Some(lease) => self.engine.submit_on(lease, &request, None, self.now),
            None => self.engine.submit(&request, None, self.now),
        };
        let failure = refused(submitted.expect_err("it is refused"));
        assert!(matches!(failure.kind(), FailureKind::Misuse(_)), "{failure}");
        assert_eq!(failure.executed(), Executed::No);
        failure
    }

    #[track_caller]
    pub(super) fn values<T: FromReply>(&mut self, ticket: Ticket) -> Vec<T> {
        let outcomes = self.engine.take_batch(ticket).expect("ended").spread().expect("each ended");
        let value = |outcome: Result<_, Failure>| {
            T::from_reply(&outcome.expect("no failure")).expect("the type asked for")
        };
        outcomes.into_iter().map(value).collect()
    }
}

pub(super) fn batch(commands: &[&str]) -> Batch {
    let mut batch = Batch::new();
    commands.iter().for_each(|command| _ = batch.push(&Request::new(command)));
    batch
}

pub(super) fn refused(rejected: Rejected) -> Failure {
    match rejected {
        Rejected::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

pub(super) fn popped(key: &str, element: &str) -> String {
    format!("*2\r\n{}{}", bulk(key), bulk(element).trim_end())
}

#[test]
fn what_has_no_connection_yet_goes_where_its_slot_went_as_others_are_told() {
    let mut world = World::live(World::plain());
    let other = world.run("GET foo");
    world.peer(C).refuses = true;
    let ticket = world.run("BLPOP foo 0");
    assert_eq!((world.links(B).len(), world.links(C).len()), (1, 1), "nobody is there for it");
    world.map_all("");
    world.say(C, &moved(OF_C, B));
    assert_eq!(world.asked_own(B), ["BLPOP foo 2"]);
    world.say(B, "$1\r\nx");
    assert_eq!(world.value::<String>(other), "x");
    world.say_own(B, &popped("foo", "y"));
    assert_eq!(world.value::<[String; 2]>(ticket), ["foo", "y"]);
}

#[test]
fn a_command_that_waits_does_so_at_the_node_of_its_slot() {
    let mut world = World::live(World::plain());
    let ticket = world.run("BLPOP foo 1.5");
    assert_eq!(world.own(C).wrote, "*3\r\n$5\r\nBLPOP\r\n$3\r\nfoo\r\n$5\r\n1.500\r\n");
    assert!((world.links(A).len(), world.links(B).len()) == (1, 1));
    assert!(world.asked(C).is_empty());
    world.say_own(C, &popped("foo", "x"));
    assert_eq!(world.value::<(String, String)>(ticket), ("foo".into(), "x".into()));
    // The next one of the same node has the same connection, one of another node another.
    world.run("BLPOP {foo}2 0");
    assert_eq!(world.asked_own(C), ["BLPOP {foo}2 2"]);
    world.run("XREAD BLOCK 500 STREAMS hello 0");
    assert_eq!(world.asked_own(A), ["XREAD BLOCK 500 STREAMS hello 0"]);
}

#[test]
fn keys_of_several_slots_are_refused_before_anything_is_sent() {
    let mut world = World::live(World::plain());
    for command in [
        "BLPOP foo hello 0",
        "BLMOVE foo bar LEFT RIGHT 0",
        "XREAD BLOCK 0 STREAMS foo name 0 0",
        // Of one node, today.
        "BRPOP hello bar 0",
    ] {
        let failure = world.refusal(None, command);
        assert!(failure.to_string().contains("hash tag"), "{failure}");
    }
    let across = world.batch(&["SET foo 1", "BLPOP hello 0"]).expect_err("refused");
    assert!(matches!(across.kind(), FailureKind::Misuse(_)), "{across}");
    let all = world.batch(&["FLUSHALL", "WAIT 1 0"]).expect_err("refused");
    assert!(matches!(all.kind(), FailureKind::Misuse(_)), "{all}");
    world.drain();
    assert_eq!(world.all_links().len(), 3, "nobody was dialled for it");
    assert_eq!(world.engine.status().queued_requests, 0);
}

#[test]
fn a_slot_that_moves_takes_who_waits_along() {
    let mut world = World::live(World::plain());
    let ticket = world.run("BLPOP foo 10");
    world.wait(Duration::from_secs(1));
    // The server ends the wait of those whose slot it has given away.
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 16_383), (C, 1, 0)]));
    world.say_own(C, &moved(OF_C, B));
    assert_eq!(world.asked_own(B), ["BLPOP foo 2"], "it goes on in slices");
    world.wait(Duration::from_secs(2));
    world.say_own(B, "*-1");
    assert_eq!(world.asked_own(B), ["BLPOP foo 2"]);
    world.say_own(B, &popped("foo", "x"));
    assert_eq!(world.value::<(String, String)>(ticket), ("foo".into(), "x".into()));
    world.wait(Duration::from_secs(1));
    assert!(world.links(C).len() <= 1, "what led to the node without slots is closed");
}

#[test]
fn its_time_is_over_when_it_would_have_been_without_any_move() {
    let mut world = World::live(World::plain());
    let ticket = world.run("BLPOP foo 3");
    world.wait(Duration::from_secs(1));
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 16_383)]));
    world.say_own(C, &moved(OF_C, B));
    assert_eq!(world.asked_own(B), ["BLPOP foo 2"]);
    world.wait(Duration::from_secs(2));
    world.say_own(B, "*-1");
    assert_eq!(world.value::<Option<(String, String)>>(ticket), None);
}

#[test]
fn ask_is_followed_slice_by_slice_and_changes_no_map() {
    let mut world = World::live(World::plain());
    let ticket = world.run("BLPOP foo 10");
    world.say_own(C, &ask(OF_C, B));
    let slice = "*1\r\n$6\r\nASKING\r\n*3\r\n$5\r\nBLPOP\r\n$3\r\nfoo\r\n$1\r\n2\r\n";
    assert_eq!(world.own(B).wrote, slice);
    world.wait(Duration::from_secs(2));
    world.say_own(B, "*-1");
    assert_eq!(world.own(B).wrote, slice.repeat(2), "each of them needs ASKING");
    // Others go to the owner still.
    world.run("BLPOP {foo}2 1");
    assert_eq!(world.asked_own(C), ["BLPOP {foo}2 1"]);
    world.say_own(B, &popped("foo", "x"));
    assert_eq!(world.value::<(String, String)>(ticket), ("foo".into(), "x".into()));
}

#[test]
fn a_cluster_that_is_not_ready_is_asked_again() {
    let mut world = World::live(World::plain());
    let ticket = world.run("BLPOP foo 10");
    for refusal in ["-TRYAGAIN Multiple keys request during rehashing of slot", "-CLUSTERDOWN no"] {
        world.say_own(C, refusal);
        world.wait(Duration::from_millis(500));
        assert_eq!(world.asked_own(C), ["BLPOP foo 2"], "after {refusal}");
    }
    world.say_own(C, &popped("foo", "x"));
    world.value::<(String, String)>(ticket);
}

#[test]
fn who_waits_at_a_master_that_steps_down_goes_on_at_the_next_one() {
    let unblocked = "-UNBLOCKED force unblock from blocking operation, instance state changed \
        (master -> replica?)";
    for answer in [unblocked, "-READONLY You can't write against a read only replica."] {
        let mut world = World::live(World::plain());
        let ticket = world.run("BLPOP foo 10");
        world.wait(Duration::from_secs(1));
        world.map_all(&thirds(A, B, 7004));
        world.say_own(C, answer);
        world.wait(Duration::from_secs(1));
        assert_eq!(world.asked_own(7004), ["BLPOP foo 2"], "after {answer}");
        world.say_own(7004, &popped("foo", "x"));
        world.value::<(String, String)>(ticket);
    }
}

#[test]
fn who_is_unblocked_by_somebody_is_told() {
    let mut world = World::live(World::plain());
    let ticket = world.run("BLPOP foo 10");
    world.say_own(C, "-UNBLOCKED client unblocked via CLIENT UNBLOCK");
    let failure = world.failure(ticket);
    assert_eq!(failure.server_error().expect("it says so").code(), "UNBLOCKED");
    assert_eq!(failure.executed(), Executed::No);
}

#[test]
fn a_dead_master_ends_what_may_have_popped_and_what_only_reads_goes_on() {
    let mut world = World::live(World::plain());
    let pop = world.run("BLPOP foo 30");
    let read = world.run("XREAD BLOCK 30000 STREAMS foo 7-0");
    world.wait(Duration::from_millis(100));
    world.kill(C, &thirds(A, B, 7004));
    world.wait(Duration::from_secs(2));
    let failure = world.failure(pop);
    assert!(matches!(failure.kind(), FailureKind::ConnectionLost(_)), "{failure}");
    assert_eq!(failure.executed(), Executed::Maybe);
    assert_eq!(world.asked_own(7004), ["XREAD BLOCK 2000 STREAMS foo 7-0"]);
    world.say_own(7004, "*-1");
    world.wait(Duration::from_secs(1));
    assert!(world.engine.take(read).is_none(), "its time is not over");
}

#[test]
fn the_end_of_a_stream_is_asked_for_at_the_node_that_has_it() {
    let mut world = World::live(World::plain());
    let ticket = world.run("XREAD BLOCK 5000 STREAMS foo {foo}2 $ $");
    // Others come and go meanwhile.
    let other = world.run("BLPOP hello 0");
    world.say_own(A, &popped("hello", "x"));
    world.value::<(String, String)>(other);
    assert_eq!(world.asked_own(C), ["XINFO STREAM foo", "XINFO STREAM {foo}2"]);
    world.say_own(C, &moved(OF_C, B));
    world.say_own(C, &moved(OF_C, B));
    assert_eq!(world.asked_own(B), ["XINFO STREAM foo", "XINFO STREAM {foo}2"]);
    world.say_own(B, &format!("%1\r\n{}{}", bulk("last-generated-id"), bulk("7-0").trim_end()));
    world.say_own(B, "-ERR no such key");
    assert_eq!(world.asked_own(B), ["XREAD BLOCK 2000 STREAMS foo {foo}2 7-0 0-0"]);
    world.wait(Duration::from_secs(2));
    world.say_own(B, "*-1");
    assert!(world.engine.take(ticket).is_none());
}

#[test]
fn a_pipeline_that_waits_for_its_writes_goes_on_as_a_whole_or_is_told() {
    let mut world = World::live(World::plain());
    let ticket = world.batch(&["SET foo 1", "INCR {foo}2", "WAIT 1 100"]).expect("one slot");
    assert_eq!(world.asked_own(C), ["SET foo 1", "INCR {foo}2", "WAIT 1 100"]);
    // What WAIT says at the node that has written nothing is about nothing.
    for answer in [&*moved(OF_C, B), &moved(OF_C, B), ":1"] {
        world.say_own(C, answer);
    }
    assert_eq!(world.asked_own(B), ["SET foo 1", "INCR {foo}2", "WAIT 1 100"]);
    for answer in ["+OK", ":1", ":0"] {
        world.say_own(B, answer);
    }
    assert_eq!(world.values::<String>(ticket), ["OK", "1", "0"]);
    // Where something was written already, that can't be left behind.
    let ticket = world.batch(&["SET foo 1", "INCR {foo}2", "WAIT 1 100"]).expect("one slot");
    for answer in ["+OK", &*moved(OF_C, C), ":1"] {
        world.say_own(B, answer);
    }
    let outcomes = world.engine.take_batch(ticket).expect("ended").spread().expect("a pipeline");
    let failure = outcomes[1].as_ref().expect_err("it was not carried out");
    assert_eq!(failure.executed(), Executed::No);
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
}

#[test]
fn a_pipeline_that_pops_keeps_its_order_where_its_slot_moves() {
    let mut world = World::live(World::plain());
    let ticket = world.batch(&["LPUSH foo a", "BLPOP foo 1", "SET {foo}2 1"]).expect("one slot");
    for _ in 0..3 {
        world.say_own(C, &moved(OF_C, B));
    }
    assert_eq!(world.asked_own(B), ["LPUSH foo a", "BLPOP foo 1", "SET {foo}2 1"]);
    world.say_own(B, ":1");
    world.say_own(B, &popped("foo", "a"));
    world.say_own(B, "+OK");
    let outcomes = world.engine.take_batch(ticket).expect("ended").spread().expect("a pipeline");
    assert!(outcomes.iter().all(Result::is_ok));
}

#[test]
fn a_connection_of_ones_own_leads_to_the_node_of_its_first_key() {
    let mut world = World::live(World::plain());
    let lease = world.lease();
    world.run_on(lease, "WATCH name");
    assert_eq!(world.asked_own(B), ["WATCH name"]);
    world.run_on(lease, "MULTI");
    world.run_on(lease, "INCR {name}2");
    assert_eq!(world.own(B).wrote.matches("\r\nMULTI\r\n").count(), 1);
    for key in [OF_A, OF_C, "{x}name"] {
        let failure = world.refusal(Some(lease), &format!("GET {key}"));
        assert!(failure.to_string().contains("hash tag"), "{failure}");
    }
    let asked = ["WATCH name", "MULTI", "INCR {name}2"];
    assert_eq!(world.asked_own(B), asked, "nothing of them was sent");
    // Another slot of the same node may be another node's tomorrow.
    let lease = world.lease();
    world.run_on(lease, &format!("GET {OF_A}"));
    world.refusal(Some(lease), &format!("GET {ALSO_OF_A}"));
    world.refusal(Some(lease), &format!("MGET {OF_A} {ALSO_OF_A}"));
}

#[test]
fn what_changes_a_connection_is_said_to_no_node_at_random() {
    let mut world = World::live(World::plain());
    let lease = world.lease();
    for command in ["MULTI", "CLIENT SETNAME me", "WAIT 1 0"] {
        let failure = world.refusal(Some(lease), command);
        assert!(failure.to_string().contains("dedicated_for"), "{failure}");
    }
    let lease = world.engine.lease_for(OF_B.as_bytes(), world.now).expect("the client is open");
    world.run_on(lease, "MULTI");
    world.run_on(lease, "INCR name");
    assert_eq!(world.asked_own(B), ["MULTI", "INCR name"]);
    world.refusal(Some(lease), "GET foo");
}

#[test]
fn a_scan_of_all_nodes_does_not_go_to_one() {
    let mut world = World::live(World::plain());
    let lease = world.lease();
    let scan = batch(&["SCAN 0"]).beside(slot(OF_A.as_bytes()));
    let submitted = world.engine.submit_batch_on(lease, &scan, None, world.now);
    let failure = refused(submitted.expect_err("it is refused"));
    assert!(matches!(failure.kind(), FailureKind::Misuse(_)), "{failure}");
    // A step of it is its caller's matter.
    world.run_on(lease, "SCAN 0");
}

#[test]
fn what_changes_nothing_goes_anywhere_before_a_key_is_named() {
    let mut world = World::live(World::plain());
    let lease = world.lease();
    let first = world.run_on(lease, "ECHO x");
    let own = |world: &World, port| world.links(port).len() == 2;
    let at = [A, B, C].into_iter().find(|port| own(&world, *port)).expect("any node");
    let key = [OF_A, OF_B, OF_C].into_iter().find(|key| {
        let owner = [A, B, C][usize::from(slot(key.as_bytes())) * 3 / 16_384];
        owner != at
    });
    let key = key.expect("two of three are elsewhere");
    let second = world.run_on(lease, &format!("INCR {key}"));
    assert_eq!(world.asked_own(at), ["ECHO x"], "the next one waits for its answer");
    world.say_own(at, "$1\r\nx");
    assert_eq!(world.value::<String>(first), "x");
    let port = [A, B, C][usize::from(slot(key.as_bytes())) * 3 / 16_384];
    assert_eq!(world.asked_own(port), [format!("INCR {key}")]);
    world.say_own(port, ":1");
    assert_eq!(world.value::<i64>(second), 1);
}

#[test]
fn a_connection_of_ones_own_is_lost_with_its_slot() {
    for answer in [moved(OF_C, B), ask(OF_C, B)] {
        let mut world = World::live(World::plain());
        let lease = world.lease();
        let watch = world.run_on(lease, "WATCH foo");
        let read = world.run_on(lease, "GET foo");
        world.say_own(C, "+OK");
        world.value::<String>(watch);
        world.say_own(C, &answer);
        let failure = world.failure(read);
        assert!(
            matches!(failure.kind(), FailureKind::ConnectionLost(Cause::SlotMoved)),
            "{failure}"
        );
        assert_eq!(failure.executed(), Executed::No);
        assert_eq!(world.engine.lost_lease(lease), Some(Cause::SlotMoved));
        let next = world.engine.submit_on(lease, &Request::new("GET foo"), None, world.now);
        let next = refused(next.expect_err("it is of no use"));
        assert!(matches!(next.kind(), FailureKind::ConnectionLost(Cause::SlotMoved)), "{next}");
        assert_eq!(world.links(C).len(), 1, "and it is closed");
        world.engine.give_back(lease, world.now);
        world.drain();
        assert_eq!(world.engine.status().leases, 0);
    }
}

#[test]
fn the_next_connection_of_ones_own_leads_to_where_the_slot_has_moved() {
    let mut world = World::live(World::plain());
    let lease = world.lease();
    world.run_on(lease, "WATCH foo");
    world.say_own(C, &moved(OF_C, B));
    let lease = world.lease();
    world.run_on(lease, "WATCH foo");
    assert_eq!(world.asked_own(B), ["WATCH foo"]);
}

#[test]
fn a_transaction_on_a_connection_of_ones_own_is_about_its_slot() {
    let mut world = World::live(World::plain());
    let lease = world.lease();
    world.run_on(lease, "WATCH foo");
    world.say_own(C, "+OK");
    let submit = |world: &mut World, commands: &[&str]| {
        let whole = batch(commands).into_transaction();
        let submitted = world.engine.submit_batch_on(lease, &whole, None, world.now);
        world.drain();
        submitted.map(|(ticket, _)| ticket).map_err(refused)
    };
    let other = submit(&mut world, &["SET name 1"]).expect_err("another slot");
    assert!(matches!(other.kind(), FailureKind::Misuse(_)), "{other}");
    let ticket = submit(&mut world, &["SET foo 1"]).expect("its own");
    assert_eq!(world.asked_own(C), ["MULTI", "SET foo 1", "EXEC"]);
    world.say_own(C, "+OK");
    world.say_own(C, &moved(OF_C, B));
    world.say_own(C, "-EXECABORT Transaction discarded because of previous errors.");
    let outcomes = world.engine.take_batch(ticket).expect("ended");
    let failure = outcomes.spread().expect_err("nothing ran");
    assert!(matches!(failure.kind(), FailureKind::ConnectionLost(Cause::SlotMoved)), "{failure}");
    assert_eq!(failure.executed(), Executed::No);
}

#[test]
fn what_is_watched_together_is_in_one_slot() {
    let mut world = World::live(World::plain());
    let lease = world.lease();
    for commands in [&["WATCH foo hello"][..], &["WATCH foo", "GET hello"]] {
        let submitted = world.engine.submit_batch_on(lease, &batch(commands), None, world.now);
        let failure = refused(submitted.expect_err("it is refused"));
        assert!(matches!(failure.kind(), FailureKind::Misuse(_)), "{failure}");
    }
    // A refusal leaves no trace: it may still be for any slot.
    world.run_on(lease, "WATCH hello");
    assert_eq!(world.asked_own(A), ["WATCH hello"]);
}

#[test]
fn a_plain_transaction_is_redirected_as_a_whole() {
    let redirects: [(&[&str], bool); 4] = [
        // While it is queued.
        (&["+OK", "MOVED", "-EXECABORT Transaction discarded because of previous errors."], false),
        (&["+OK", "ASK", "-EXECABORT Transaction discarded because of previous errors."], true),
        // At EXEC, which discards it.
        (&["+OK", "+QUEUED", "MOVED"], false),
        (&["+OK", "+QUEUED", "ASK"], true),
    ];
    for (answers, asks) in redirects {
        let mut world = World::live(World::plain());
        let whole = batch(&["INCR foo"]).into_transaction();
        let (ticket, _) = world.engine.submit_batch(&whole, None, world.now).expect("one slot");
        world.drain();
        for answer in answers {
            let answer = match *answer {
                "MOVED" => moved(OF_C, B),
                "ASK" => ask(OF_C, B),
                other => other.to_owned(),
            };
            world.say(C, &answer);
        }
        let block = "*1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$3\r\nfoo\r\n*1\r\n$4\r\nEXEC\r\n";
        let asking = if asks { "*1\r\n$6\r\nASKING\r\n" } else { "" };
        assert_eq!(world.links(B)[0].wrote, format!("{asking}{block}"), "{answers:?}");
        for answer in ["+OK", "+QUEUED", "*1\r\n:1"] {
            world.say(B, answer);
        }
        assert_eq!(world.values::<i64>(ticket), [1]);
    }
}

#[test]
fn a_transaction_in_a_slot_that_is_being_moved_is_tried_again() {
    let mut world = World::live(World::plain());
    let whole = batch(&["INCR foo"]).into_transaction();
    let (ticket, _) = world.engine.submit_batch(&whole, None, world.now).expect("one slot");
    world.drain();
    for answer in ["+OK", "-TRYAGAIN not yet", "-EXECABORT because of previous errors."] {
        world.say(C, answer);
    }
    world.wait(Duration::from_secs(1));
    for answer in ["+OK", "+QUEUED", "*1\r\n:1"] {
        world.say(C, answer);
    }
    assert_eq!(world.values::<i64>(ticket), [1]);
}

#[test]
fn each_node_has_as_many_connections_of_their_own_as_it_may_have() {
    let mut world = World::live(World::plain().leases_max(1));
    let first = world.run("BLPOP foo 0");
    let second = world.run("BLPOP {foo}2 0");
    let elsewhere = world.run("BLPOP hello 0");
    assert_eq!(world.asked_own(C), ["BLPOP foo 2"]);
    assert_eq!(world.asked_own(A), ["BLPOP hello 2"], "nobody waits for another node's");
    assert_eq!(world.engine.status().leases_waited_for, 1);
    world.say_own(C, &popped("foo", "x"));
    world.value::<(String, String)>(first);
    assert_eq!(world.asked_own(C), ["BLPOP {foo}2 2"]);
    // Who finds them all in use is told the bound.
    let third = world.run("BLPOP {foo}3 0");
    world.wait(Duration::from_secs(1));
    world.engine.cancel(elsewhere, world.now);
    world.drain();
    assert_eq!(world.asked_own(C), ["BLPOP {foo}2 2"]);
    world.wait(Duration::from_millis(900));
    world.say_own(C, "*-1");
    world.wait(Duration::from_secs(2));
    world.say_own(C, "*-1");
    world.wait(Duration::from_millis(1_200));
    let failure = world.failure(third);
    assert!(
        matches!(failure.kind(), FailureKind::DeadlinePassed(Stage::Lease(Bound::Leases))),
        "{failure}"
    );
    assert!(world.engine.take(second).is_none());
}

#[test]
fn who_waits_for_a_dead_node_holds_up_nobody() {
    let mut world = World::live(World::plain().leases_max(1));
    world.peer(C).refuses = true;
    for conn in world.links(C).iter().map(|link| link.conn).collect::<Vec<_>>() {
        world.close(conn, Cause::Reset);
    }
    let dead: Vec<_> = (0..3).map(|at| world.run(&format!("BLPOP {{foo}}{at} 0"))).collect();
    let well = world.run("BLPOP hello 0");
    assert_eq!(world.asked_own(A), ["BLPOP hello 2"]);
    world.say_own(A, &popped("hello", "x"));
    world.value::<(String, String)>(well);
    world.peer(C).refuses = false;
    world.wait(Duration::from_secs(1));
    assert_eq!(world.asked_own(C), ["BLPOP {foo}0 2"]);
    assert!(dead.iter().all(|ticket| world.engine.take(*ticket).is_none()));
}

#[test]
fn what_waits_for_a_slot_that_nobody_serves_is_told() {
    let mut world = World::live(World::plain());
    world.kill(C, &shards(&[(A, 0, 5460), (B, 5461, 10_922)]));
    let ticket = world.run("BLPOP foo 0");
    world.wait(Duration::from_secs(2));
    let failure = world.failure(ticket);
    assert!(matches!(failure.kind(), FailureKind::Uncovered(_)), "{failure}");
    assert_eq!(world.engine.status().leases_waited_for, 0);
}

#[test]
fn what_waits_from_before_the_map_waits_for_it() {
    let now = Now::new(Instant::now(), SystemTime::now());
    let engine = Engine::new(World::plain(), 7, now).expect("a sound configuration");
    let mut world = World::live(World::plain());
    (world.engine, world.now) = (engine, now);
    world.forget_links();
    let ticket = world.run("BLPOP foo 0");
    assert_eq!(world.asked_own(C), ["BLPOP foo 2"]);
    world.say_own(C, &popped("foo", "x"));
    world.value::<(String, String)>(ticket);
}

#[test]
fn connections_to_a_node_that_is_forgotten_are_closed_once_free() {
    let mut world = World::live(World::plain());
    let ticket = world.run("BLPOP foo 0");
    world.run("BLPOP {foo}2 0");
    let conns: Vec<_> = world.links(C).iter().map(|link| link.conn).collect();
    assert_eq!(conns.len(), 3);
    world.say_on(conns[2], &popped("{foo}2", "x"));
    // Another command of the node has learned that its slots are B's.
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 16_383)]));
    world.run("GET foo");
    world.say(C, &moved(OF_C, B));
    world.wait(Duration::from_millis(500));
    let left: Vec<_> = world.links(C).iter().map(|link| link.conn).collect();
    assert_eq!(left, [conns[1]], "only who waits there has one");
    world.say_on(conns[1], &moved(OF_C, B));
    assert_eq!(world.asked_own(B), ["BLPOP foo 2"]);
    assert!(world.links(C).is_empty());
    world.say_own(B, &popped("foo", "x"));
    world.value::<(String, String)>(ticket);
}

#[test]
fn a_wait_is_given_up_wherever_it_is() {
    let mut world = World::live(World::plain());
    // Between two nodes.
    let ticket = world.run("BLPOP foo 0");
    world.peer(7004).refuses = true;
    world.say_own(C, &moved(OF_C, 7004));
    world.engine.cancel(ticket, world.now);
    world.drain();
    world.wait(Duration::from_secs(1));
    let status = world.engine.status();
    assert_eq!((status.queued_requests, status.leases_waited_for), (0, 0));
    // At the second node: it may have popped, and that is told.
    let ticket = world.run("BLPOP foo 0");
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 16_383)]));
    world.say_own(C, &moved(OF_C, B));
    world.events.clear();
    world.engine.cancel(ticket, world.now);
    world.drain();
    assert!(world.events.iter().any(|event| event.contains("BLPOP")), "{:?}", world.events);
    assert_eq!(world.links(B).len(), 1, "it costs its connection");
    assert_eq!(world.engine.status().queued_requests, 0);
}

#[test]
fn redirects_without_end_end() {
    let mut world = World::live(World::plain());
    let ticket = world.run("BLPOP foo 0");
    for _ in 0..40 {
        let asked = world.all_links().iter().filter(|link| !link.asked().is_empty());
        let Some((conn, port)) = asked.map(|peer| (peer.conn, peer.port)).next() else { break };
        world.say_on(conn, &moved(OF_C, if port == C { B } else { C }));
        world.wait(Duration::from_millis(300));
    }
    let failure = world.failure(ticket);
    assert_eq!(failure.server_error().expect("the last one is told").code(), "MOVED");
    assert_eq!(failure.executed(), Executed::No);
}

#[test]
fn what_waits_for_the_former_owner_of_a_slot_goes_before_what_comes_after_a_redirect() {
    let mut world = World::live(World::plain());
    world.run(&format!("BLPOP {OF_A} 0"));
    let waits = world.own(A).conn;
    world.peer(A).refuses = true;
    world.lose(A, Cause::Reset);
    let older = world.run(&format!("SET {OF_A} older"));
    world.map_all(&shards(&[(B, 0, 10_922), (C, 10_923, 16_383)]));
    // It is heard of on a connection that somebody has for himself.
    world.receive(waits, &format!("{}\r\n", moved(OF_A, B)));
    let newer = world.run(&format!("SET {OF_A} newer"));
    let sets = [format!("SET {OF_A} older"), format!("SET {OF_A} newer")];
    assert_eq!(world.asked(B), sets);
    for ticket in [older, newer] {
        world.say(B, "+OK");
        world.value::<()>(ticket);
    }
}

#[test]
fn a_connection_that_is_being_closed_is_not_left_for_one_at_another_node() {
    let mut world = World::live(World::plain());
    let lease = world.lease();
    let first = world.run_on(lease, &format!("SET {OF_A} 1"));
    world.say_own(A, "+OK");
    world.value::<()>(first);
    let conn = world.own(A).conn;
    world.closes_slowly = true;
    world.receive(conn, "+nobody has asked\r\n");
    world.drain();
    let second = world.run_on(lease, &format!("SET {OF_A} 2"));
    // Its node serves nothing any more.
    world.map_all(&shards(&[(B, 0, 10_922), (C, 10_923, 16_383)]));
    world.run(&format!("GET {OF_A}"));
    world.say(A, &moved(OF_A, B));
    world.wait(Duration::from_millis(200));
    assert_eq!(world.links(B).len(), 1, "what was said before is known at the other node only");
    world.close(conn, Cause::Reset);
    let failure = world.failure(second);
    assert_eq!(failure.executed(), Executed::No, "{failure}");
}
