//! Dialogues on a handle.

use super::*;
use crate::{
    dialogue::{Answer, Converse, Dialogue, Heard, Step},
    handle::Conversation,
};

/// Does what a test tells it to, step by step, and notes what it hears.
struct Scripted {
    steps: VecDeque<Step<&'static str>>,
    heard: Vec<String>,
}

impl Dialogue for Scripted {
    type Item = &'static str;

    fn name(&self) -> &'static str {
        "SCRIPTED"
    }

    fn step(&mut self, heard: Heard, _: Now) -> Step<&'static str> {
        self.heard.push(match heard {
            Heard::Answer(answer) => told(answer),
            other => format!("{other:?}"),
        });
        self.steps.pop_front().expect("the test says more")
    }
}

fn told(answer: Answer) -> String {
    let connection = answer.connection;
    match answer.decode::<i64>("INCR") {
        Ok(number) => format!("{number} from {connection:?}"),
        Err(failure) => failure.to_string(),
    }
}

fn incr() -> Step<&'static str> {
    let mut batch = Batch::new();
    batch.push(&Request::new("INCR").arg("visits"));
    Step::Send(batch)
}

fn talk<const N: usize>(client: &Handle, steps: [Step<&'static str>; N]) -> Conversation<Scripted> {
    client.converse(Scripted { steps: steps.into(), heard: Vec::new() })
}

type Next = Poll<Option<Result<&'static str, Failure>>>;

fn next(talk: &mut Conversation<Scripted>) -> Next {
    talk.poll_next(&mut Context::from_waker(Waker::noop()))
}

fn item(next: Next) -> &'static str {
    match next {
        Poll::Ready(Some(Ok(item))) => item,
        other => panic!("{other:?}"),
    }
}

fn end(next: Next) -> Failure {
    match next {
        Poll::Ready(Some(Err(failure))) => failure,
        other => panic!("{other:?}"),
    }
}

fn sent() -> String {
    settle();
    String::from_utf8(std::mem::take(&mut socket(0).lock().outgoing)).expect("text")
}

#[test]
fn items_come_while_the_next_answer_is_under_way() {
    let client = connected(config());
    let steps = [incr(), Step::Yield("a"), Step::Wait, Step::Yield("b"), Step::Done(Ok(()))];
    let mut talk = talk(&client, steps);
    settle();
    assert_eq!(sent(), "", "nothing is sent before an item is asked for");
    assert_eq!(item(next(&mut talk)), "a");
    assert!(sent().contains("INCR"));
    assert!(next(&mut talk).is_pending());
    socket(0).say(":7\r\n");
    settle();
    assert_eq!(item(next(&mut talk)), "b");
    assert!(!talk.is_over());
    assert!(matches!(next(&mut talk), Poll::Ready(None)));
    assert!(talk.is_over());
    assert!(matches!(next(&mut talk), Poll::Ready(None)), "and stays over");
    assert_eq!(talk.dialogue().heard, ["Nothing", "Sent", "Nothing", "7 from Some(1)", "Nothing"]);
}

#[test]
fn a_dialogue_is_over_with_its_first_failure() {
    let client = connected(config());
    let failure = Failure::new(FailureKind::QueueFull, Executed::No, "SCRIPTED");
    let mut talk = talk(&client, [Step::Done(Err(failure))]);
    let failure = end(next(&mut talk));
    assert_eq!(failure.node(), Some("127.0.0.1:6379"), "it says where");
    assert!(matches!(next(&mut talk), Poll::Ready(None)));
}

#[test]
fn an_answer_cuts_a_sleep_short_and_a_close_ends_it() {
    let client = connected(config());
    let minute = Step::Sleep(Duration::from_secs(60));
    let hour = Step::Sleep(Duration::from_secs(3600));
    let mut talk = talk(&client, [incr(), minute, hour]);
    assert!(next(&mut talk).is_pending());
    settle();
    socket(0).say(":7\r\n");
    settle();
    assert!(next(&mut talk).is_pending());
    assert_eq!(talk.dialogue().heard, ["Nothing", "Sent", "7 from Some(1)"]);
    assert_eq!(client.status().tickets, 1, "the first sleep is given up");
    let mut close = Box::pin(client.close());
    assert!(poll(&mut close).is_pending());
    settle();
    let failure = end(next(&mut talk));
    assert!(matches!(failure.kind(), FailureKind::ClientClosed), "{failure}");
    assert_eq!(failure.command(), "SCRIPTED");
    assert_eq!(client.status().tickets, 0);
}

#[test]
fn a_conversation_that_is_dropped_leaves_nothing_behind() {
    let client = connected(config().queue_requests_max(1));
    let mut first = client.incr("visits");
    let mut asks = talk(&client, [incr(), Step::Wait]);
    assert!(next(&mut asks).is_pending(), "it stands in line for room");
    let mut sleeps = talk(&client, [Step::Sleep(Duration::from_secs(60))]);
    assert!(next(&mut sleeps).is_pending());
    drop((asks, sleeps));
    assert_eq!(client.status().tickets, 1);
    assert_eq!(sent().matches("INCR").count(), 1);
    socket(0).say(":1\r\n");
    settle();
    assert_eq!(ended(poll(&mut first)).expect("a plain INCR"), 1);
    assert_eq!(sent(), "", "it was withdrawn");
}

#[test]
fn an_answer_for_which_a_connection_was_made_may_be_of_another_one() {
    let client = Handle::new::<Fake>(config(), 1).expect("a good configuration");
    let mut talk = talk(&client, [incr(), Step::Wait, incr(), Step::Wait, Step::Done(Ok(()))]);
    assert!(next(&mut talk).is_pending());
    greet(0);
    for number in 1..=2 {
        settle();
        socket(0).say(&format!(":{number}\r\n"));
        settle();
        let over = next(&mut talk);
        assert_eq!(over.is_ready(), number == 2);
    }
    let heard = ["Nothing", "Sent", "1 from None", "Sent", "2 from Some(1)"];
    assert_eq!(talk.dialogue().heard, heard);
}

#[test]
fn a_dialogue_that_breaks_its_contract_ends_and_hangs_nobody() {
    let client = connected(config());
    let mut waits = talk(&client, [Step::Wait]);
    assert!(matches!(end(next(&mut waits)).kind(), FailureKind::Misuse(_)));
    let mut twice = talk(&client, [incr(), incr()]);
    assert!(matches!(end(next(&mut twice)).kind(), FailureKind::Misuse(_)));
    assert!(matches!(next(&mut twice), Poll::Ready(None)));
}

#[test]
fn what_is_collected_is_all_of_it_or_the_first_failure() {
    let client = connected(config());
    let steps = [Step::Yield("a"), Step::Yield("b"), Step::Done(Ok(()))];
    let mut all = pin!(talk(&client, steps).collect::<Vec<_>>());
    assert_eq!(ended(poll(&mut all)).expect("no failure"), ["a", "b"]);
    let failure = Failure::new(FailureKind::QueueFull, Executed::No, "SCRIPTED");
    let mut all =
        pin!(talk(&client, [Step::Yield("a"), Step::Done(Err(failure))]).collect::<Vec<_>>());
    failed(poll(&mut all));
}

#[test]
fn a_view_asks_for_each_pipeline() {
    let client = connected(config().queue_requests_max(1));
    let _first = client.incr("visits");
    let view = client.try_now();
    let mut talk = view.converse(Scripted {
        steps: [incr(), Step::Wait, Step::Done(Ok(()))].into(),
        heard: Vec::new(),
    });
    let over = talk.poll_next(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(over, Poll::Ready(None)));
    let heard = &talk.dialogue().inner().heard;
    assert!(heard[2].contains("queue full"), "{heard:?}");
}

#[test]
fn time_passes_without_a_server_as_well() {
    let client = Handle::new::<Fake>(Config::from_url("memory://").expect("a good URL"), 1);
    let client = client.expect("a good configuration");
    let mut talk = talk(&client, [Step::Sleep(Duration::from_millis(5))]);
    assert!(next(&mut talk).is_pending());
    assert_eq!(WORLD.with_borrow(|world| world.tasks.len()), 1, "somebody has to wait for it");
    settle();
    let mut ping = client.set("k", "v");
    ended(poll(&mut ping)).expect("memory answers all the while");
    drop_tasks();
    let failure = end(next(&mut talk));
    assert!(matches!(failure.kind(), FailureKind::RuntimeDropped), "{failure}");
    let mut again = client.get::<String>("k");
    let kept = ended(poll(&mut again)).expect("memory needs no runtime");
    assert_eq!(kept.as_deref(), Some("v"));
}
