use std::{
    cell::{Cell, RefCell},
    future::{Ready, ready},
    pin::pin,
    task::Waker,
    time::Duration,
};

use super::*;
use crate::{
    commands::prelude::*,
    failure::{Executed, FailureKind},
    handle::{Transactions, Views},
    reply::{ServerError, Sourced},
    resp::{Source, Value},
};

type Outcomes = Result<Vec<Result<Reply, Failure>>, Failure>;

/// Answers the next pipeline with what it was given. Gives what its replies become, as a blocking
/// client does.
struct Client {
    answers: Cell<Option<Outcomes>>,
    sent: RefCell<Vec<Batch>>,
}

/// The same, as an async client.
struct AsyncClient(Client);

impl Client {
    fn answering(answers: impl IntoIterator<Item = Value>) -> Self {
        Client::with(Ok(answers.into_iter().map(|value| Ok(Reply::from(value))).collect()))
    }

    fn with(answers: Outcomes) -> Self {
        Client { answers: Cell::new(Some(answers)), sent: RefCell::default() }
    }

    fn exchange(&self, batch: Batch) -> Outcomes {
        let answers = self.answers.take().expect("one pipeline only");
        if let Ok(answers) = &answers {
            assert_eq!(answers.len(), batch.len(), "the test's answers");
        }
        self.sent.borrow_mut().push(batch);
        answers
    }

    fn sent(&self) -> String {
        let bytes = self.sent.borrow().iter().flat_map(|batch| batch.bytes.clone()).collect();
        String::from_utf8(bytes).expect("text")
    }
}

impl Run for Client {
    type Pending<T: Send + 'static> = Result<T, Failure>;

    fn run<T: FromReply + Send + 'static>(&self, _: Request<'_>) -> Result<T, Failure> {
        unreachable!("only pipelines are run")
    }
}

impl RunBatch for Client {
    type PendingBatch<G: Gather> = G::Output;

    fn run_batch<G: Gather>(&self, batch: Batch, gather: G) -> G::Output {
        gather.gather(Replies::of(batch, |batch| self.exchange(batch)).at("node:1".into()))
    }
}

impl Run for AsyncClient {
    type Pending<T: Send + 'static> = Ready<Result<T, Failure>>;

    fn run<T: FromReply + Send + 'static>(&self, _: Request<'_>) -> Self::Pending<T> {
        unreachable!("only pipelines are run")
    }
}

impl RunBatch for AsyncClient {
    type PendingBatch<G: Gather> = PendingPipeline<Ready<Outcomes>, G>;

    fn run_batch<G: Gather>(&self, batch: Batch, gather: G) -> Self::PendingBatch<G> {
        PendingPipeline::new(batch, gather, |batch| ready(self.0.exchange(batch)))
            .at("node:1".into())
    }
}

fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it is not ready"),
    }
}

fn text(text: &'static str) -> Value {
    Value::Bulk(text.into())
}

fn wrong_type(command: &'static str) -> Failure {
    let error = ServerError::new(b"WRONGTYPE Operation against a key of another type");
    Failure::new(FailureKind::Server(error), Executed::Yes, command)
}

#[test]
fn a_pipeline_gives_its_values_in_the_shape_of_its_slots() -> Result<(), Failure> {
    let client = Client::answering([text("Ada"), Value::Integer(3)]);
    let (name, visits): (Option<String>, i64) =
        client.pipeline(|p| (p.get("name"), p.incr("visits")))?;
    assert_eq!((name.as_deref(), visits), (Some("Ada"), 3));
    assert_eq!(
        client.sent(),
        "*2\r\n$3\r\nGET\r\n$4\r\nname\r\n*2\r\n$4\r\nINCR\r\n$6\r\nvisits\r\n"
    );
    Ok(())
}

#[test]
fn a_pipeline_that_is_awaited_gives_the_same() {
    let client = AsyncClient(Client::answering([text("Ada"), Value::Integer(3)]));
    let visit = async {
        let (name, visits): (Option<String>, i64) =
            client.pipeline(|p| (p.get("name"), p.incr("visits"))).await?;
        Ok::<_, Failure>((name, visits))
    };
    assert_eq!(now(visit).unwrap(), (Some("Ada".to_owned()), 3));
}

#[test]
fn slots_can_come_from_an_iterator_and_stand_in_one_another() -> Result<(), Failure> {
    let client = Client::answering((0..8).map(Value::Integer));
    let keys = ["a", "b", "c"];
    let (list, [x, y], (one, none), last) = client.pipeline(|p| {
        (
            keys.iter().map(|key| p.get::<i64>(key)).collect::<Vec<_>>(),
            [p.incr("x"), p.incr("y")],
            (Some(p.incr("d")), None::<Slot<String>>),
            (p.decr("e"), ((), p.decr("f"))),
        )
    })?;
    assert_eq!(list, [Some(0), Some(1), Some(2)]);
    assert_eq!((x, y, one, none), (3, 4, Some(5), None));
    assert_eq!(last, (6, ((), 7)));
    Ok(())
}

#[test]
fn the_order_of_slots_is_free() -> Result<(), Failure> {
    let client = Client::answering([Value::Integer(1), Value::Integer(2)]);
    let swapped: (i64, i64) = client.pipeline(|p| {
        let first = p.incr("a");
        (p.incr("b"), first)
    })?;
    assert_eq!(swapped, (2, 1));
    Ok(())
}

#[test]
fn twelve_slots_make_a_tuple() -> Result<(), Failure> {
    let client = Client::answering((1..=12).map(Value::Integer));
    let all = client.pipeline(|p| {
        let n = || p.incr("n");
        (n(), n(), n(), n(), n(), n(), n(), n(), n(), n(), n(), n())
    })?;
    assert_eq!(all, (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12));
    Ok(())
}

#[test]
fn a_sourced_slot_tells_where_its_answer_came_from() -> Result<(), Failure> {
    let stale = Reply::from(text("Ada")).with_source(Source::Store);
    let client = Client::with(Ok(vec![Ok(stale), Ok(Reply::from(Value::Integer(1)))]));
    let (name, visits) =
        client.pipeline(|p| (p.sourced().get::<String>("name"), p.incr("visits")))?;
    assert_eq!(name, Sourced { value: Some("Ada".to_owned()), source: Source::Store });
    assert_eq!(visits, 1);
    Ok(())
}

#[test]
fn all_the_values_or_the_first_failure() {
    let client = Client::with(Ok(vec![
        Ok(Reply::from(Value::Integer(1))),
        Err(wrong_type("GET")),
        Err(wrong_type("INCR")),
    ]));
    let failure =
        client.pipeline(|p| (p.incr("c"), p.incr("b"), p.get::<String>("a"))).unwrap_err();
    assert_eq!(failure.command(), "GET");
}

#[test]
fn no_failure_is_lost_with_its_slot() {
    let client =
        Client::with(Ok(vec![Err(wrong_type("APPEND")), Ok(Reply::from(Value::Integer(1)))]));
    let failure = client
        .pipeline(|p| {
            p.append("log", "line");
            p.incr("visits")
        })
        .unwrap_err();
    assert_eq!(failure.command(), "APPEND");
}

#[test]
fn a_command_whose_slot_is_let_go_is_sent_all_the_same() {
    let client = Client::answering([Value::Integer(1)]);
    client
        .pipeline(|p| {
            p.incr("visits");
        })
        .unwrap();
    assert_eq!(client.sent(), "*2\r\n$4\r\nINCR\r\n$6\r\nvisits\r\n");
}

#[test]
fn each_command_has_a_result_of_its_own() {
    let answers = || Ok(vec![Err(wrong_type("GET")), Ok(Reply::from(Value::Integer(3)))]);
    let blocking = Client::with(answers());
    let (name, visits) = blocking.pipeline_each(|p| (p.get::<String>("name"), p.incr("visits")));
    assert_eq!(name.unwrap_err().command(), "GET");
    assert_eq!(visits.unwrap(), 3);

    let client = AsyncClient(Client::with(answers()));
    let pending = client.pipeline_each(|p| (p.get::<String>("name"), p.incr("visits")));
    let (name, visits) = now(pending);
    assert_eq!((name.is_err(), visits.unwrap()), (true, 3));

    let client = AsyncClient(Client::with(answers()));
    let pending = client.pipeline(|p| (p.get::<String>("name"), p.incr("visits")));
    let (name, visits) = now(pending.each());
    assert_eq!((name.is_err(), visits.unwrap()), (true, 3));
}

#[test]
fn results_keep_the_shape_of_their_slots() {
    let answers = [Err(wrong_type("GET")), Ok(Reply::from(Value::Integer(1)))].into_iter();
    let client = Client::with(Ok(answers
        .chain((2..=4).map(|n| Ok(Reply::from(Value::Integer(n)))))
        .collect()));
    let (list, [x, y], last, ()) = client.pipeline_each(|p| {
        (vec![p.get::<i64>("a"), p.get("b")], [p.incr("x"), p.incr("y")], Some(p.incr("z")), ())
    });
    let list: Vec<Option<i64>> = list.into_iter().filter_map(Result::ok).collect();
    assert_eq!((list, x.unwrap(), y.unwrap()), (vec![Some(1)], 2, 3));
    assert_eq!(last.expect("there was a slot").unwrap(), 4);
}

#[test]
fn the_first_of_an_arrays_failures_is_told() {
    let client = Client::answering([text("one"), text("two"), Value::Integer(3)]);
    let failure = client
        .pipeline(|p| [p.command("A").run::<i64>(), p.command("B").run(), p.incr("c")])
        .unwrap_err();
    assert_eq!(failure.command(), "A");
}

#[test]
fn a_reply_of_another_type_was_executed_and_says_which_command_and_node() {
    let client = Client::answering([text("Ada"), text("many")]);
    let (name, size) = client.pipeline_each(|p| {
        (p.get::<String>("name"), p.command("MODULE.SIZE").arg("key").run::<i64>())
    });
    assert_eq!(name.unwrap().as_deref(), Some("Ada"));
    let failure = size.unwrap_err();
    assert!(matches!(failure.kind(), FailureKind::Decode(_)));
    assert_eq!(failure.executed(), Executed::Yes);
    assert_eq!((failure.command(), failure.node()), ("MODULE.SIZE", Some("node:1")));
}

#[test]
fn a_pipeline_that_was_not_accepted_fails_each_of_its_commands_by_name() {
    let full = || Failure::new(FailureKind::QueueFull, Executed::No, "pipeline");
    let client = Client::with(Err(full()));
    let (name, sizes) =
        client.pipeline_each(|p| (p.get::<String>("name"), vec![p.strlen("a"), p.strlen("b")]));
    let name = name.unwrap_err();
    assert!(matches!(name.kind(), FailureKind::QueueFull));
    assert_eq!((name.command(), name.executed()), ("GET", Executed::No));
    let sizes: Vec<Failure> = sizes.into_iter().filter_map(Result::err).collect();
    assert_eq!(sizes.iter().map(Failure::command).collect::<Vec<_>>(), ["STRLEN", "STRLEN"]);

    let client = Client::with(Err(full()));
    let failure = client.pipeline(|p| p.get::<String>("name")).unwrap_err();
    assert_eq!(failure.command(), "pipeline");
}

#[test]
fn a_misused_command_is_named_to_all_that_are_refused_with_it() {
    let misuse = Failure::new(FailureKind::Misuse("not here"), Executed::No, "SUBSCRIBE");
    let client = Client::with(Err(misuse));
    let (name, _) = client
        .pipeline_each(|p| (p.get::<String>("name"), p.command("SUBSCRIBE").arg("c").run::<()>()));
    assert_eq!(name.unwrap_err().command(), "SUBSCRIBE");
}

#[test]
fn an_empty_pipeline_ends_at_once_and_sends_nothing() {
    let client = Client::answering([]);
    client.pipeline(|_| ()).unwrap();
    client.pipeline_each(|_| ());
    let none: Vec<i64> = client.pipeline(|_| Vec::<Slot<i64>>::new()).unwrap();
    assert!(none.is_empty());
    assert!(client.sent.borrow().is_empty());

    let client = AsyncClient(client);
    now(client.pipeline(|_| ())).unwrap();
    now(client.pipeline(|_| ()).each());
    assert!(client.0.sent.borrow().is_empty());
}

#[test]
fn a_slot_of_another_pipeline_is_misuse_and_never_somebody_elses_reply() {
    let mut carried = None;
    let client = Client::answering([Value::Integer(1)]);
    client.pipeline(|p| carried = Some(p.incr("a"))).unwrap();

    let client = Client::answering([Value::Integer(2)]);
    let (own, foreign) =
        client.pipeline_each(|p| (p.incr("b"), carried.take().expect("it was carried out")));
    assert_eq!(own.unwrap(), 2);
    assert!(matches!(foreign.unwrap_err().kind(), FailureKind::Misuse(_)));
}

#[test]
fn pending_pipelines_can_be_sent_to_other_threads() {
    fn is_send<T: Send + 'static>(_: T) {}
    let client = AsyncClient(Client::answering([text("Ada"), Value::Integer(3)]));
    is_send(client.pipeline(|p| (p.get::<String>("name"), vec![p.incr("visits")])));
}

#[test]
fn what_is_shown_of_a_pipeline_holds_no_arguments() {
    let client = Client::answering([Value::Simple("OK".into())]);
    client
        .pipeline(|p| {
            p.set("key", "secret");
            assert_eq!(format!("{p:?}"), "Pipeline { len: 1, .. }");
        })
        .unwrap();
}

#[test]
fn a_transaction_is_recorded_as_a_pipeline_is_and_run_as_one() -> Result<(), Failure> {
    let client = Client::answering([Value::OK, Value::Integer(3)]);
    let limit = Duration::from_millis(5);
    let ((), visits) =
        client.within(limit).transaction(|t| (t.set("name", "Ada"), t.incr("visits")))?;
    assert_eq!(visits, 3);
    let sent = client.sent.take();
    assert!(sent[0].is_transaction);
    assert_eq!(sent[0].options.deadline, Some(limit), "a view's wish is for all of it");
    let nothing: Vec<i64> = Client::with(Err(wrong_type("nobody is asked")))
        .transaction(|t| Vec::from_iter((0..0).map(|_| t.incr("visits"))))?;
    assert!(nothing.is_empty());
    Ok(())
}

#[test]
fn what_came_to_nothing_is_told_as_the_transactions_or_for_each_command() {
    let conflict = || Err(Failure::new(FailureKind::Conflict, Executed::No, "transaction"));
    let whole = Client::with(conflict()).transaction(|t| (t.incr("a"), t.incr("b")));
    assert_eq!(whole.expect_err("nothing ran").command(), "transaction");
    let each = Client::with(conflict()).transaction_each(|t| (t.incr("a"), t.get::<i64>("b")));
    let (incr, get) = (each.0.expect_err("nothing ran"), each.1.expect_err("nothing ran"));
    assert_eq!((incr.command(), get.command()), ("INCR", "GET"));
    assert!(matches!(get.kind(), FailureKind::Conflict), "{get}");
    let mixed = Client::with(Ok(vec![Err(wrong_type("INCR")), Ok(Reply::integer(7))]));
    let (incr, get) = mixed.transaction_each(|t| (t.incr("a"), t.get::<i64>("b")));
    assert_eq!(incr.expect_err("its own").executed(), Executed::Yes);
    assert_eq!(get.expect("it ran all the same"), Some(7));
}
