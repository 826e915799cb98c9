use std::cell::RefCell;

use super::*;
use crate::{
    commands::prelude::*,
    handle::{Pipelines, Replies},
    resp::{Reply, Source, Value},
};

const MS: Duration = Duration::from_millis(1);

/// Notes what was asked for, and answers "Ada" from the embedded store.
#[derive(Default)]
struct Client {
    asked: RefCell<Vec<Asked>>,
}

/// For the whole request or pipeline, then for each command of a pipeline.
#[derive(Clone, Debug, Default, PartialEq)]
struct Asked {
    deadline: Option<Duration>,
    maybe_retry: Vec<Option<MaybeRetry>>,
    refuse_when_full: bool,
}

impl Asked {
    fn of(options: Options) -> Self {
        Asked {
            deadline: options.deadline,
            maybe_retry: vec![options.maybe_retry],
            refuse_when_full: options.refuse_when_full,
        }
    }
}

impl Client {
    fn last(&self) -> Asked {
        self.asked.borrow_mut().pop().expect("something was run")
    }
}

fn answer() -> Reply {
    Reply::from(Value::Bulk("Ada".into())).with_source(Source::Store)
}

impl Run for Client {
    type Pending<T: Send + 'static> = T;

    fn run<T: FromReply + Send + 'static>(&self, request: Request<'_>) -> T {
        self.asked.borrow_mut().push(Asked::of(request.asked()));
        T::from_reply(&answer()).expect("text")
    }
}

impl RunBatch for Client {
    type PendingBatch<G: Gather> = G::Output;

    fn run_batch<G: Gather>(&self, batch: Batch, gather: G) -> G::Output {
        let items = batch.items.iter().map(|item| batch.options_of(item).maybe_retry).collect();
        self.asked.borrow_mut().push(Asked { maybe_retry: items, ..Asked::of(batch.options) });
        gather.gather(Replies::of(batch, |batch| {
            Ok((0..batch.len()).map(|_| Ok(answer())).collect())
        }))
    }
}

#[test]
fn a_view_asks_with_each_request() {
    let client = Client::default();
    let _: Option<String> = client.get("name");
    assert_eq!(client.last(), Asked::of(Options::default()));
    let _: Option<String> = client.within(5 * MS).get("name");
    assert_eq!(client.last().deadline, Some(5 * MS));
    let _: Option<String> = client.retrying(MaybeRetry::Never).get("name");
    assert_eq!(client.last().maybe_retry, [Some(MaybeRetry::Never)]);
    let _: Option<String> = client.try_now().get("name");
    assert!(client.last().refuse_when_full);
}

#[test]
fn views_compose_in_any_order() {
    let client = Client::default();
    let asked = Asked {
        deadline: Some(5 * MS),
        maybe_retry: vec![Some(MaybeRetry::Always)],
        refuse_when_full: true,
    };
    let name: Sourced<Option<String>> =
        client.within(5 * MS).sourced().try_now().retrying(MaybeRetry::Always).get("name");
    assert_eq!(name, Sourced { value: Some("Ada".to_owned()), source: Source::Store });
    assert_eq!(client.last(), asked);
    let name = client.sourced().retrying(MaybeRetry::Always).within(5 * MS).try_now();
    assert_eq!(name.get::<String>("name").source, Source::Store);
    assert_eq!(client.last(), asked);
}

#[test]
fn what_is_nearest_to_the_call_has_its_way() {
    let client = Client::default();
    let _: Option<String> = client.within(5 * MS).within(100 * MS).get("name");
    assert_eq!(client.last().deadline, Some(100 * MS));
    let _: Option<String> = client.within(100 * MS).sourced().within(5 * MS).get("name").value;
    assert_eq!(client.last().deadline, Some(5 * MS));
    let narrow = client.retrying(MaybeRetry::Always).retrying(MaybeRetry::Never);
    let _: Option<String> = narrow.get("name");
    assert_eq!(client.last().maybe_retry, [Some(MaybeRetry::Never)]);
}

#[test]
fn a_view_can_be_kept_copied_and_viewed_again() {
    let client = Client::default();
    let fast = client.within(5 * MS).retrying(MaybeRetry::Never);
    let copy = fast;
    let _: Option<String> = fast.try_now().get("name");
    assert!(client.last().refuse_when_full);
    let _: Option<String> = copy.get("name");
    let last = client.last();
    assert_eq!((last.deadline, last.refuse_when_full), (Some(5 * MS), false));
}

#[test]
fn a_view_can_own_its_client() {
    struct Cache {
        client: Sourcing<Asking<Client>>,
    }
    let options = Options { deadline: Some(5 * MS), ..Options::default() };
    let cache = Cache { client: Sourcing::new(Asking::new(Client::default(), options)) };
    // The view is not `Copy`, so viewing it again borrows it.
    let name: Sourced<Option<String>> = cache.client.try_now().get("name");
    assert_eq!(name.source, Source::Store);
    let name: Sourced<Option<String>> = cache.client.get("name");
    assert_eq!(name.source, Source::Store);
    assert_eq!(cache.client.on.on.last().deadline, Some(5 * MS));
}

#[test]
fn generic_code_can_take_views() {
    fn name<R: Run>(client: &R) -> R::Pending<Sourced<Option<String>>> {
        client.within(5 * MS).sourced().get("name")
    }
    fn of_any_size<R: Run + ?Sized>(client: &R) -> R::Pending<Option<String>> {
        client.within(5 * MS).get("name")
    }
    let client = Client::default();
    assert_eq!(name(&client).value.as_deref(), Some("Ada"));
    assert_eq!(name(&client.try_now()).value.as_deref(), Some("Ada"));
    assert_eq!(of_any_size(&client).as_deref(), Some("Ada"));
}

#[test]
fn what_is_asked_for_a_pipeline_holds_for_all_of_it() -> Result<(), crate::Failure> {
    let client = Client::default();
    let view = client.within(100 * MS).try_now().retrying(MaybeRetry::Never).within(5 * MS);
    let names: (Option<String>, Option<String>) = view.pipeline(|p| (p.get("a"), p.get("b")))?;
    assert_eq!(names.1.as_deref(), Some("Ada"));
    let last = client.last();
    assert_eq!((last.deadline, last.refuse_when_full), (Some(5 * MS), true));
    assert_eq!(last.maybe_retry, [Some(MaybeRetry::Never); 2]);
    Ok(())
}

#[test]
fn a_retry_choice_inside_a_pipeline_is_that_commands_own() -> Result<(), crate::Failure> {
    let client = Client::default();
    client.retrying(MaybeRetry::Always).pipeline(|p| {
        p.get::<String>("a");
        p.retrying(MaybeRetry::Never).get::<String>("b");
    })?;
    assert_eq!(client.last().maybe_retry, [Some(MaybeRetry::Always), Some(MaybeRetry::Never)]);
    Ok(())
}

#[test]
fn of_the_time_limits_inside_a_pipeline_the_shortest_counts() -> Result<(), crate::Failure> {
    let client = Client::default();
    client.within(5 * MS).pipeline(|p| {
        p.within(100 * MS).get::<String>("a");
        p.within(50 * MS).get::<String>("b");
        p.within(70 * MS).try_now().get::<String>("c");
        p.get::<String>("d");
    })?;
    let last = client.last();
    assert_eq!((last.deadline, last.refuse_when_full), (Some(50 * MS), true));
    Ok(())
}
