//! Whether a request was executed, when its connection is lost in the middle of it.

use std::time::Duration;

use unfazed_core::{
    Config, Failure, Options, Request,
    commands::{Run, prelude::*},
    config::MaybeRetry,
    failure::{Executed, FailureKind},
    handle::{Pipelines, Views},
    reply::FromReply,
};
use unfazed_tests::{
    Close, Fault, Manners, Peer, Proxy, Raw, Server as TestServer, Way, eventually,
};

use crate::{
    adapters::{Adapter, Task, scenarios, spawn},
    support::{LIMIT, assert_lost_maybe, at, failure},
};

scenarios! {
    an_incr_whose_reply_was_cut_counts_once_and_is_maybe,
    an_incr_goes_again_where_its_caller_says_so,
    a_get_whose_reply_was_cut_goes_again,
    a_plain_set_whose_reply_was_cut_goes_again,
    a_get_goes_once_where_its_caller_says_so,
    a_del_goes_again_only_where_its_caller_says_so,
    items_of_a_cut_pipeline_end_one_by_one,
    an_incr_that_the_kernel_never_took_in_full_goes_again,
    a_reply_cut_at_any_byte_is_never_half_a_value,
    a_request_cut_at_any_byte_counts_at_most_once,
    a_request_is_not_sent_for_ever,
}

/// A server, a proxy to it that cuts all replies from now on, and a client through the proxy.
struct World<A: Adapter> {
    /// It lives as long as this does.
    _server: TestServer,
    proxy: Proxy,
    client: A::Client,
    witness: Raw,
}

const CUT: Fault = Fault::Cut { way: Way::Replies, after: 0, how: Close::Reset };

fn world<A: Adapter>(config: impl FnOnce(Config) -> Config) -> World<A> {
    let server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let client = A::connect(config(at(proxy.port()))).expect("there is a server");
    let witness = Raw::connect(server.port());
    World { _server: server, proxy, client, witness }
}

impl<A: Adapter> World<A> {
    /// Sends a request whose first reply is cut, and lets all later ones pass. `seen` is text in it.
    fn cut_once<T: FromReply + Send + 'static>(
        &self,
        seen: &str,
        request: Request<'static>,
    ) -> Result<T, Failure> {
        self.proxy.set(CUT);
        let client = self.client.clone();
        let task: Task<Result<T, Failure>> =
            spawn::<A, _>(async move { A::done(client.run(request)).await });
        // Its connection is gone when the server's reply was cut; later ones are to live.
        eventually("the request to arrive", LIMIT, || {
            (self.proxy.requests_seen(seen.as_bytes()) > 0).then_some(())
        });
        eventually("the cut", LIMIT, || (self.proxy.open_connections() == 0).then_some(()));
        self.proxy.set(Fault::None);
        task.join()
    }
}

fn an_incr_whose_reply_was_cut_counts_once_and_is_maybe<A: Adapter>() {
    let mut world = world::<A>(|config| config);
    let outcome = world.cut_once::<i64>("INCR", Request::new("INCR").key("n"));
    let lost = outcome.as_ref().expect_err("no answer came");
    assert_eq!((lost.command(), lost.attempts()), ("INCR", 1), "{lost}");
    assert_eq!(lost.node(), Some(&*format!("127.0.0.1:{}", world.proxy.port())));
    assert_lost_maybe(outcome);
    assert_eq!(world.witness.get("n").as_deref(), Some("1"));
    assert_eq!(A::wait(world.client.incr("n")).expect("the next connection"), 2);
    assert_eq!(world.proxy.requests_seen(b"INCR"), 2);
}

fn an_incr_goes_again_where_its_caller_says_so<A: Adapter>() {
    let options = Options { maybe_retry: Some(MaybeRetry::Always), ..Options::default() };
    let one = Request::new("INCR").key("n").options(options);
    let mut by_request = world::<A>(|config| config);
    assert_eq!(by_request.cut_once::<i64>("INCR", one).expect("it went again"), 2);
    assert_eq!(by_request.witness.get("n").as_deref(), Some("2"));

    let mut by_client = world::<A>(|config| config.maybe_retry(MaybeRetry::Always));
    let all = Request::new("INCR").key("n");
    assert_eq!(by_client.cut_once::<i64>("INCR", all).expect("it went again"), 2);
    assert_eq!(by_client.witness.get("n").as_deref(), Some("2"));
}

fn a_get_whose_reply_was_cut_goes_again<A: Adapter>() {
    let mut world = world::<A>(|config| config);
    world.witness.ok(&["SET", "k", "v"]);
    let value: Option<String> =
        world.cut_once("GET", Request::new("GET").key("k")).expect("it went again");
    assert_eq!(value.as_deref(), Some("v"));
    assert_eq!(world.proxy.requests_seen(b"GET"), 2);
}

fn a_plain_set_whose_reply_was_cut_goes_again<A: Adapter>() {
    let mut world = world::<A>(|config| config);
    world.cut_once::<()>("SET\r", Request::new("SET").key("k").arg("v")).expect("it went again");
    assert_eq!(world.witness.get("k").as_deref(), Some("v"));
    assert_eq!(world.proxy.requests_seen(b"SET\r\n"), 2);
    // With NX a second run would answer otherwise than the first one did.
    let nx = Request::new("SET").key("lock").arg("mine").arg("NX");
    assert_lost_maybe(world.cut_once::<Option<()>>("lock", nx));
    assert_eq!(world.witness.get("lock").as_deref(), Some("mine"));
    assert_eq!(world.proxy.requests_seen(b"lock"), 1);
}

fn a_get_goes_once_where_its_caller_says_so<A: Adapter>() {
    let world = world::<A>(|config| config.maybe_retry(MaybeRetry::Never));
    assert_lost_maybe(world.cut_once::<Option<String>>("GET", Request::new("GET").key("k")));
    assert_eq!(world.proxy.requests_seen(b"GET"), 1);
}

fn a_del_goes_again_only_where_its_caller_says_so<A: Adapter>() {
    let mut by_default = world::<A>(|config| config);
    by_default.witness.ok(&["SET", "k", "v"]);
    assert_lost_maybe(by_default.cut_once::<u64>("DEL", Request::new("DEL").key("k")));
    assert_eq!(by_default.witness.get("k"), None);

    let mut widened = world::<A>(|config| config.maybe_retry(MaybeRetry::Idempotent));
    widened.witness.ok(&["SET", "k", "v"]);
    let deleted: u64 = widened.cut_once("DEL", Request::new("DEL").key("k")).expect("again");
    assert_eq!(deleted, 0, "the second run found nothing, which is the price");
    assert_lost_maybe(widened.cut_once::<i64>("INCR", Request::new("INCR").key("n")));
}

fn items_of_a_cut_pipeline_end_one_by_one<A: Adapter>() {
    let mut world = world::<A>(|config| config);
    world.proxy.set(Fault::Cut { way: Way::Replies, after: 4, how: Close::Reset });
    let client = world.client.clone();
    let task = spawn::<A, _>(async move {
        let pending = client.pipeline_each(|p| (p.incr("n"), p.get("n"), p.incr("n"), p.get("n")));
        A::gathered(pending).await
    });
    eventually("the cut", LIMIT, || {
        (world.proxy.requests_seen(b"GET") == 2 && world.proxy.open_connections() == 0)
            .then_some(())
    });
    world.proxy.set(Fault::None);
    let (first, read, second, last): (_, Result<Option<i64>, _>, Result<i64, _>, _) = task.join();
    assert_eq!(first.expect("its answer came before the cut"), 1);
    assert_eq!(read.expect("it goes again"), Some(2), "read anew, after all");
    let last: Option<i64> = last.expect("it goes again");
    assert_eq!(last, Some(2));
    assert_lost_maybe(second);
    assert_eq!(world.witness.get("n").as_deref(), Some("2"));
}

fn an_incr_that_the_kernel_never_took_in_full_goes_again<A: Adapter>() {
    /// More than all buffers between the client and the proxy hold, however they grow.
    const COUNT: usize = 48;
    const LENGTH: usize = 512 << 10;
    let server = TestServer::with_args(&["--appendonly", "no"]);
    let proxy = Proxy::with_buffers(server.port(), 4096);
    let client = A::connect(at(proxy.port()).deadline(LIMIT)).expect("there is a server");
    proxy.set(Fault::Stall(Way::Requests));
    let value = "x".repeat(LENGTH);
    let sets: Vec<_> = (0..COUNT)
        .map(|at| {
            let (client, value) = (client.clone(), value.clone());
            spawn::<A, _>(async move { A::done(client.set(at, &value)).await })
        })
        .collect();
    eventually("all to be on their way", LIMIT, || {
        (A::status(&client).queued_requests == COUNT).then_some(())
    });
    let behind = client.clone();
    let incr = spawn::<A, _>(async move { A::done(behind.incr("n")).await });
    eventually("the INCR behind them", LIMIT, || {
        (A::status(&client).queued_requests == COUNT + 1).then_some(())
    });
    proxy.reset_all();
    proxy.set(Fault::None);
    assert_eq!(incr.join().expect("it was not executed, so it went again"), 1);
    for set in sets {
        set.join().expect("a plain SET goes again in any case");
    }
    assert_eq!(Raw::connect(server.port()).get("n").as_deref(), Some("1"));
}

/// A client that dials again quickly, for those who lose many connections.
fn hasty(config: Config) -> Config {
    config.dial_backoff_base(Duration::from_millis(1)).dial_backoff_max(Duration::from_millis(5))
}

fn a_reply_cut_at_any_byte_is_never_half_a_value<A: Adapter>() {
    let mut world = world::<A>(hasty);
    world.witness.ok(&["SET", "k", "hello"]);
    for how in [Close::Fin, Close::Reset] {
        for after in 0..=b"$5\r\nhello\r\n".len() as u64 {
            A::wait(world.client.ping()).expect("a connection");
            let (seen, open) = (world.proxy.requests_seen(b"GET"), world.proxy.connections());
            world.proxy.set(Fault::Cut { way: Way::Replies, after, how });
            let client = world.client.clone();
            let task = spawn::<A, _>(async move { A::done(client.get::<String>("k")).await });
            eventually("the cut", LIMIT, || {
                (world.proxy.requests_seen(b"GET") > seen
                    && (world.proxy.open_connections() == 0 || world.proxy.connections() > open))
                    .then_some(())
            });
            world.proxy.set(Fault::None);
            let value = task.join().expect("it goes again");
            assert_eq!(value.as_deref(), Some("hello"), "cut after {after} ({how:?})");
        }
    }
}

fn a_request_cut_at_any_byte_counts_at_most_once<A: Adapter>() {
    const INCR: &[u8] = b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n";
    let mut world = world::<A>(hasty);
    let mut count = 0;
    for after in 0..INCR.len() as u64 {
        A::wait(world.client.ping()).expect("a connection");
        world.proxy.set(Fault::Cut { way: Way::Requests, after, how: Close::Reset });
        let outcome = A::wait(world.client.incr("n"));
        world.proxy.set(Fault::None);
        let now: i64 = world.witness.get("n").map_or(0, |n| n.parse().expect("a number"));
        match outcome {
            Ok(value) => assert_eq!((value, value), (count + 1, now), "cut after {after}"),
            Err(lost) => {
                // The kernel took it all, so the client can't know.
                assert_eq!(lost.executed(), Executed::Maybe, "cut after {after}: {lost}");
                assert!(now - count <= 1, "cut after {after}: {count} -> {now}");
            }
        }
        count = now;
    }
}

fn a_request_is_not_sent_for_ever<A: Adapter>() {
    let peer = Peer::start(|client| {
        client.handshake(Manners::Resp3);
        client.reset();
    });
    let config = hasty(at(peer.port())).attempts_max(3);
    let client = A::lazy(config).expect("a good config");
    let lost = failure(A::wait(client.get::<String>("k")));
    assert!(matches!(lost.kind(), FailureKind::ConnectionLost(_)), "{lost}");
    assert_eq!((lost.attempts(), lost.executed()), (3, Executed::Maybe), "{lost}");
    let limit = Duration::from_millis(500);
    let lost = failure(A::wait(client.within(limit).get::<String>("k")));
    assert_eq!(lost.executed(), Executed::Maybe, "{lost}");
}
