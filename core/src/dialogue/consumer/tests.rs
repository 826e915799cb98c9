use super::*;
use crate::{
    Cause, Failure, FailureKind,
    commands::Streams,
    dialogue::{
        Dialogue,
        testing::{Said, Talk, list, refusal, text},
    },
    failure::{Bound, Executed, Stage},
    resp::{Reply, Value},
};

type Fields = Vec<(String, String)>;

/// Begins dialogues by handing them out.
struct Recorder;

impl Converse for Recorder {
    type Conversation<D: Dialogue> = Talk<D>;
    type Settled<D: Dialogue> = Talk<D>;

    fn converse<D: Dialogue>(&self, dialogue: D) -> Talk<D> {
        Talk::with(dialogue)
    }

    fn settle<D: Dialogue>(&self, dialogue: D) -> Talk<D> {
        Talk::with(dialogue)
    }
}

fn me() -> ConsumerBuilder<'static, Recorder> {
    Recorder.consumer("g", "me").stream("s").never_reclaim().count(2)
}

const PENDING: &str = "XREADGROUP GROUP g me COUNT 2 STREAMS s 0-0";
const NEW: &str = "XREADGROUP GROUP g me COUNT 2 STREAMS s >";
const BLOCK: &str = "XREADGROUP GROUP g me COUNT 2 BLOCK 10000 STREAMS s >";

fn entry(id: &str) -> Value {
    list([text(id), list([text("at"), text(id)])])
}

fn vanished(id: &str) -> Value {
    list([text(id), Value::Null])
}

fn read(entries: impl IntoIterator<Item = Value>) -> Value {
    Value::Map(vec![(text("s"), list(entries))])
}

fn nothing() -> Value {
    Value::Null
}

fn ok(value: Value) -> Result<Reply, Failure> {
    Ok(Reply::from(value))
}

fn server(line: &str) -> Result<Reply, Failure> {
    Err(refusal(line))
}

fn lost(executed: Executed) -> Result<Reply, Failure> {
    let kind = FailureKind::ConnectionLost(Cause::Reset);
    Err(Failure::new(kind, executed, "XREADGROUP"))
}

/// What is given until it waits, as ids with how they were come by, and what is sent meanwhile.
#[track_caller]
fn given(talk: &mut Talk<Consumer<Fields>>) -> (Vec<(String, Origin)>, Vec<String>) {
    let (items, sent, last) = talk.items();
    assert!(matches!(last, Said::Waits), "{}", last.kind());
    let given = items.into_iter().map(|delivery| {
        assert_eq!((&delivery.stream[..], &delivery.group[..]), (&b"s"[..], &b"g"[..]));
        assert_eq!(delivery.fields, [("at".to_owned(), delivery.id.to_string())]);
        (delivery.id.to_string(), delivery.origin)
    });
    (given.collect(), sent)
}

fn ids(given: &[(String, Origin)], origin: Origin) -> Vec<&str> {
    assert!(given.iter().all(|(_, how)| *how == origin), "{given:?}");
    given.iter().map(|(id, _)| &**id).collect()
}

#[track_caller]
fn sleeps(talk: &mut Talk<Consumer<Fields>>) -> Duration {
    match talk.go_on() {
        Said::Sleeps(span) => span,
        other => panic!("{}", other.kind()),
    }
}

/// A consumer that has read all that was pending and waits for new entries.
fn caught_up(builder: ConsumerBuilder<'_, Recorder>) -> Talk<Consumer<Fields>> {
    let mut talk = builder.run();
    talk.sent();
    talk.go_on();
    talk.answer([read([])]);
    talk.sent();
    talk.go_on();
    talk
}

#[test]
fn what_is_pending_comes_first_then_what_is_new() {
    let mut talk = me().run::<Fields>();
    assert_eq!(talk.sent(), PENDING);
    talk.go_on();
    talk.answer([read([entry("1-0"), entry("2-0")])]);
    let (first, sent) = given(&mut talk);
    assert_eq!(ids(&first, Origin::Pending), ["1-0", "2-0"]);
    assert_eq!(sent, ["XREADGROUP GROUP g me COUNT 2 STREAMS s 2-0"], "after all were given");
    talk.answer([read([])]);
    assert_eq!(given(&mut talk), (vec![], vec![NEW.to_owned()]));
    talk.answer([read([entry("3-0")])]);
    let (new, sent) = given(&mut talk);
    assert_eq!(ids(&new, Origin::New), ["3-0"]);
    assert_eq!(sent, [NEW], "there may be more");
    talk.answer([nothing()]);
    assert_eq!(given(&mut talk), (vec![], vec![BLOCK.to_owned()]), "it waits at the server");
    talk.answer([nothing()]);
    assert_eq!(given(&mut talk), (vec![], vec![BLOCK.to_owned()]));
    talk.answer([read([entry("4-0")])]);
    let (new, sent) = given(&mut talk);
    assert_eq!(ids(&new, Origin::New), ["4-0"]);
    assert_eq!(sent, [NEW], "there may be more");
}

#[test]
fn where_it_can_not_wait_at_the_server_it_looks_now_and_then() {
    let full = FailureKind::DeadlinePassed(Stage::Lease(Bound::Leases));
    let full = Failure::new(full, Executed::No, "XREADGROUP");
    // In a cluster it is refused before it is sent.
    let across = FailureKind::Misuse("all keys need a common hash tag");
    let across = Failure::new(across, Executed::No, "XREADGROUP");
    for refusal in [Err(full), Err(across), server("CROSSSLOT keys")] {
        let mut talk = caught_up(me());
        talk.answer([nothing()]);
        given(&mut talk);
        talk.answer_from(Some(1), [refusal]);
        assert_eq!(given(&mut talk), (vec![], vec![NEW.to_owned()]));
        talk.answer([nothing()]);
        assert_eq!(sleeps(&mut talk), POLL_PAUSE_MAX);
        talk.wake_after(POLL_PAUSE_MAX);
        assert_eq!(talk.sent(), NEW);
    }
}

#[test]
fn what_was_lost_while_it_waited_is_read_from_what_is_pending() {
    let mut talk = caught_up(me());
    talk.answer([nothing()]);
    given(&mut talk);
    talk.answer_from(None, [lost(Executed::Maybe)]);
    let span = sleeps(&mut talk);
    talk.wake_after(span);
    assert_eq!(talk.sent(), PENDING);
}

#[test]
fn a_group_is_made_where_there_is_none_and_taken_where_there_is_one() {
    for answer in [ok(Value::Simple("OK".into())), server("BUSYGROUP it exists")] {
        let mut talk = me().create(GroupStart::End).run::<Fields>();
        assert_eq!(talk.sent(), "XGROUP CREATE s g $ MKSTREAM");
        talk.go_on();
        talk.answer_from(Some(1), [answer]);
        assert_eq!(talk.sent(), PENDING);
    }
    let mut talk = me().create(GroupStart::End).run::<Fields>();
    talk.sent();
    talk.answer_from(Some(1), [server("WRONGTYPE no stream")]);
    assert_eq!(
        talk.go_on().failure().server_error().map(|error| error.code().to_owned()).as_deref(),
        Some("WRONGTYPE")
    );
}

#[test]
fn what_a_lost_answer_delivered_is_read_from_what_is_pending() {
    let mut talk = caught_up(me());
    talk.answer([read([entry("5-0")])]);
    given(&mut talk);
    talk.answer_from(None, [lost(Executed::Maybe)]);
    assert_eq!(sleeps(&mut talk), Duration::from_millis(50));
    talk.wake_after(Duration::from_millis(50));
    assert_eq!(talk.sent(), "XREADGROUP GROUP g me COUNT 2 STREAMS s 5-0");
    talk.go_on();
    talk.answer([read([entry("6-0")])]);
    let (found, _) = given(&mut talk);
    assert_eq!(ids(&found, Origin::Pending), ["6-0"]);
    talk.answer([read([])]);
    assert_eq!(given(&mut talk).1, [NEW]);
}

#[test]
fn what_was_not_executed_is_just_asked_again_and_ever_more_slowly() {
    let mut talk = caught_up(me());
    for millis in [50, 100, 200, 400, 800, 1_600, 2_000, 2_000] {
        talk.answer_from(None, [lost(Executed::No)]);
        let span = sleeps(&mut talk);
        assert_eq!(span, Duration::from_millis(millis));
        talk.wake_after(span);
        assert_eq!(talk.sent(), NEW);
        talk.go_on();
    }
    talk.answer([nothing()]);
    assert_eq!(talk.sent(), BLOCK);
    talk.answer_from(None, [lost(Executed::No)]);
    assert_eq!(sleeps(&mut talk), Duration::from_millis(50), "it went well in between");
}

#[test]
fn what_passes_is_waited_out_and_all_else_ends_it() {
    let mut refused = caught_up(me());
    let full = Failure::new(FailureKind::QueueFull, Executed::No, "pipeline");
    refused.fail(full);
    assert!(matches!(refused.go_on(), Said::Sleeps(_)));
    for passing in [
        "LOADING",
        "READONLY",
        "CLUSTERDOWN",
        "ERR max number of clients reached",
        "MISCONF no",
        "OOM no",
        "UNBLOCKED client unblocked via CLIENT UNBLOCK",
    ] {
        let mut talk = caught_up(me());
        talk.answer_from(Some(1), [server(passing)]);
        assert!(matches!(talk.go_on(), Said::Sleeps(_)), "{passing}");
    }
    for lasting in ["NOGROUP no", "NOPERM no", "WRONGTYPE no", "ERR unknown command"] {
        let mut talk = caught_up(me());
        talk.answer_from(Some(1), [server(lasting)]);
        assert!(matches!(talk.go_on(), Said::Failed(_)), "{lasting}");
    }
    for kind in [FailureKind::Isolated, FailureKind::Uncovered(7)] {
        let mut talk = caught_up(me());
        talk.answer_from(None, [Err(Failure::new(kind, Executed::No, "XREADGROUP"))]);
        assert!(matches!(talk.go_on(), Said::Sleeps(_)), "nothing lasts for ever");
    }
    let memory = || {
        let kind = FailureKind::Memory(crate::failure::MemoryRefusal::Unsupported);
        Failure::new(kind, Executed::No, "XREADGROUP")
    };
    let mut talk = caught_up(me());
    talk.answer_from(Some(1), [Err(memory().at(Some("host:1".into())))]);
    assert!(matches!(talk.go_on(), Said::Sleeps(_)), "the server will be back");
    let mut talk = caught_up(me());
    talk.answer_from(Some(1), [Err(memory().at(Some("memory".into())))]);
    assert!(matches!(talk.go_on(), Said::Failed(_)), "there is no server");
}

#[test]
fn patience_ends_where_it_was_told_to() {
    let mut talk = caught_up(me().give_up_after(Duration::from_secs(10)));
    let mut slept = Duration::ZERO;
    let failure = loop {
        talk.answer_from(None, [lost(Executed::No)]);
        match talk.go_on() {
            Said::Sleeps(span) => {
                slept += span;
                talk.wake_after(span);
                talk.sent();
                talk.go_on();
            }
            other => break other.failure(),
        }
    };
    assert!(matches!(failure.kind(), FailureKind::ConnectionLost(_)));
    assert!(slept >= Duration::from_secs(10) && slept < Duration::from_secs(13), "{slept:?}");
}

#[test]
fn a_lost_group_is_made_again_only_where_that_was_asked_for() {
    let mut talk = caught_up(me().recreate());
    talk.answer([read([entry("5-0")])]);
    given(&mut talk);
    talk.answer_from(Some(1), [server("NOGROUP no such key")]);
    assert_eq!(talk.sent(), "XGROUP CREATE s g 0 MKSTREAM", "from the first entry on");
    talk.go_on();
    talk.answer([Value::Simple("OK".into())]);
    assert_eq!(talk.sent(), PENDING, "and nothing is known any more");
}

#[test]
fn what_stalled_is_claimed_now_and_then_and_to_the_end() {
    let stalled = Duration::from_secs(60);
    let mut talk = caught_up(me().reclaim_every(stalled, Duration::from_secs(1)));
    talk.answer([list([text("4-0"), list([entry("1-0"), entry("2-0")]), list([])]), nothing()]);
    let (claimed, sent) = given(&mut talk);
    assert_eq!(ids(&claimed, Origin::Claimed), ["1-0", "2-0"]);
    let claim = |from| format!("XAUTOCLAIM s g me 60000 {from} COUNT 2; {NEW}");
    assert_eq!(sent, [claim("4-0")], "it is not through");
    // As servers before 7 answer, which tell nothing of deleted entries.
    talk.answer([list([text("0-0"), list([entry("4-0")])]), read([entry("9-0")])]);
    let (both, sent) = given(&mut talk);
    assert_eq!(both[0], ("4-0".into(), Origin::Claimed));
    assert_eq!(both[1], ("9-0".into(), Origin::New));
    assert_eq!(sent, [NEW], "that was all of it, for now");
    let block = |millis| format!("XREADGROUP GROUP g me COUNT 2 BLOCK {millis} STREAMS s >");
    talk.answer([nothing()]);
    assert_eq!(talk.sent(), block(1_000));
    talk.go_on();
    talk.now = talk.now + Duration::from_millis(900);
    talk.answer([nothing()]);
    assert_eq!(talk.sent(), block(100), "then it is time again");
    talk.go_on();
    talk.now = talk.now + Duration::from_millis(100);
    talk.answer([nothing()]);
    assert_eq!(talk.sent(), claim("0-0"));
}

#[test]
fn entries_that_are_no_more_are_acknowledged_without_a_word() {
    let mut talk = me().run::<Fields>();
    talk.sent();
    talk.go_on();
    talk.answer([read([vanished("1-0"), entry("2-0")])]);
    let (found, sent) = given(&mut talk);
    assert_eq!(ids(&found, Origin::Pending), ["2-0"]);
    assert_eq!(sent, ["XACK s g 1-0; XREADGROUP GROUP g me COUNT 2 STREAMS s 2-0"]);
    talk.answer_from(None, [lost(Executed::Maybe), lost(Executed::No)]);
    let span = sleeps(&mut talk);
    talk.wake_after(span);
    let again = "XACK s g 1-0; XREADGROUP GROUP g me COUNT 2 STREAMS s 2-0";
    assert_eq!(talk.sent(), again, "it is not forgotten");
    talk.go_on();
    talk.answer([Value::Integer(1), read([vanished("3-0")])]);
    assert_eq!(talk.sent(), "XACK s g 3-0; XREADGROUP GROUP g me COUNT 2 STREAMS s 3-0");
}

#[test]
fn fields_of_another_shape_end_it_after_what_came_before_and_say_which() {
    let mut talk =
        Recorder.consumer("g", "me").stream("s").never_reclaim().run::<[(String, u32); 1]>();
    talk.sent();
    talk.go_on();
    let good = list([text("1-0"), list([text("at"), text("7")])]);
    talk.answer([read([good, entry("2-0"), entry("3-0")])]);
    let (items, _, last) = talk.items();
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].fields, [("at".to_owned(), 7)]);
    let failure = last.failure();
    assert!(matches!(failure.kind(), FailureKind::Decode(_)), "{failure}");
    assert_eq!(talk.dialogue.undecodable(), Some((&b"s"[..], StreamId::new(2, 0))));
}

#[test]
fn each_stream_goes_its_own_way_and_one_failure_is_after_all_entries() {
    let two = Recorder.consumer("g", "me").streams(["s", "t"]).never_reclaim().count(2);
    let mut talk = two.run::<Fields>();
    let of_t = |from: &str| format!("XREADGROUP GROUP g me COUNT 2 STREAMS t {from}");
    assert_eq!(talk.sent(), format!("{PENDING}; {}", of_t("0-0")));
    talk.go_on();
    let of = |stream: &str, entries: Vec<Value>| Value::Map(vec![(text(stream), list(entries))]);
    talk.answer([of("s", vec![]), of("t", vec![entry("8-0")])]);
    let (items, sent, _) = talk.items();
    assert_eq!((&items[0].stream[..], items.len()), (&b"t"[..], 1));
    assert_eq!(sent, [format!("{NEW}; {}", of_t("8-0"))]);
    talk.answer_from(Some(1), [server("WRONGTYPE no stream"), ok(of("t", vec![entry("9-0")]))]);
    let (items, _, last) = talk.items();
    assert_eq!(items.len(), 1);
    assert!(last.failure().server_error().is_some());
}

#[test]
fn without_streams_there_is_nothing_to_consume() {
    let mut talk = Recorder.consumer("g", "me").run::<Fields>();
    assert!(matches!(talk.go_on().failure().kind(), FailureKind::Misuse(_)));
}

#[test]
fn spans_of_nothing_are_no_busy_loop() {
    let mut talk =
        caught_up(me().pause(Duration::ZERO).reclaim_every(Duration::from_secs(1), Duration::ZERO));
    talk.answer([list([text("0-0"), list([])]), nothing()]);
    assert_eq!(talk.sent(), "XREADGROUP GROUP g me COUNT 2 BLOCK 1 STREAMS s >");
}

#[test]
fn nothing_of_the_callers_is_printed() {
    let builder = Recorder.consumer("secret", "secret").stream("secret");
    assert!(!format!("{builder:?}").contains("secret"));
    let talk = builder.run::<Fields>();
    assert!(!format!("{:?}", talk.dialogue).contains("secret"));
}

#[test]
fn an_acknowledgement_may_be_repeated() {
    struct Sent;
    impl Run for Sent {
        type Pending<T: Send + 'static> = (String, Effect);
        fn run<T: FromReply + Send + 'static>(&self, request: Request<'_>) -> (String, Effect) {
            let mut bytes = Vec::new();
            request.encode(&mut bytes);
            let words = crate::request::split_command(&bytes);
            let line = words.into_iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
            (line, request.declared_effect())
        }
    }
    let delivery = Delivery {
        stream: "s".into(),
        group: "g".into(),
        id: StreamId::new(5, 1),
        fields: (),
        origin: Origin::New,
    };
    assert_eq!(Sent.ack(&delivery), ("XACK s g 5-1".to_owned(), Effect::Repeatable));
    assert_eq!(Sent.xack("s", "g", "5-1").1, Effect::IdempotentWrite);
}
