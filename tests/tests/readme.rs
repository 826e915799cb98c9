//! The examples of the README: each of its blocks stands here as it stands there, so that it compiles.

// What the examples take for granted, and what is let go in them.
#![allow(dead_code, unused_variables)]

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use unfazed_tokio::{Value, prelude::*};

/// A job as the examples have it.
struct Job;

impl FromReply for Job {
    fn from_view(
        _: unfazed_tokio::core::resp::View<'_>,
    ) -> Result<Self, unfazed_tokio::DecodeError> {
        Ok(Job)
    }
}

fn bill(_: &BTreeMap<String, String>) {}
fn again_later() {}
fn look_it_up() {}

macro_rules! warn {
    ($($told:tt)*) => { eprintln!($($told)*) };
}

#[rustfmt::skip]
mod quickstart {
use unfazed_tokio::{Client, prelude::*};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let config = Config::from_url("redis://localhost")?
        .fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let client = Client::connect(config).await?;
    client.set("cache:greeting", "hello").await?;
    let greeting: Option<String> = client.get("cache:greeting").await?; // answered, server or not
    println!("{greeting:?}");
    Ok(())
}
}

use unfazed_tokio::Client;

#[rustfmt::skip]
async fn commands(client: &Client) -> Result<(), Failure> {
let visits: i64 = client.incr("visits").await?;
let (name, visits): (Option<String>, i64) =
    client.pipeline(|p| (p.get("name"), p.incr("visits"))).await?;   // all, or the first failure, of that command alone
let (name, visits) =
    client.pipeline_each(|p| (p.get::<String>("name"), p.incr("visits"))).await;   // each its own
let quick: Option<String> = client.within(Duration::from_millis(5)).get("k").await?;
let told = client.sourced().get::<String>("cache:k").await?;         // told.source: the server, or memory?
    Ok(())
}

#[rustfmt::skip]
async fn transactions(client: &Client, cents: i64) -> Result<(), Failure> {
let (from, to): (i64, i64) = client
    .transaction(|t| (t.decrby("{bank}:ada", cents), t.incrby("{bank}:bob", cents)))
    .await?;
    _ = (from, to);
    Ok(())
}

#[rustfmt::skip]
async fn waits(client: &Client) -> Result<(), Failure> {
let next: Option<(String, Job)> = client.blpop("jobs", Duration::from_secs(30)).await?;   // `None` waits for ever

let left: Option<()> = client.optimistic("stock",                    // watched; `None`: nothing was to be written
    |read| read.get::<i64>("stock"),
    |stock, write| {                                                 // pure: called again where somebody was faster
        let left = stock.unwrap_or(0) - 1;
        (left >= 0).then(|| write.set("stock", left))
    }).await?;

let own = client.dedicated();                                        // for WATCH, SELECT, AUTH, MULTI by hand
own.select(3).await?;                                                // not in a cluster, which has one database
    _ = (next, left);
    Ok(())
}

#[rustfmt::skip]
async fn scans_scripts_streams(client: &Client) -> Result<(), Failure> {
let mut keys = client.scan_match::<String>("user:*");                // blocking: `for key in client.scan_match(..)`
while let Some(key) = keys.next().await {
    println!("{}", key?);                                            // an error ends it, and is never left out
}

static ADD_UP_TO: LazyLock<Script> = LazyLock::new(|| Script::new(
    "return math.min(redis.call('INCRBY', KEYS[1], ARGV[1]), tonumber(ARGV[2]))",
));
let sum: i64 = client.script(&ADD_UP_TO).key("visits").arg(1).arg(100).run().await?;   // in pipelines as well

let mut orders = client.consumer("billing", "worker-1").stream("orders")
    .create(GroupStart::Beginning).run::<BTreeMap<String, String>>();
while let Some(order) = orders.next().await {
    let order = order?;
    bill(&order.fields);                                             // at least once: it is to bear repetition
    if let Err(failure) = client.ack(&order).await {                 // the consumer outlives an outage; `?` here would not
        warn!("{failure}; {} may come again", order.id);
    }
}
    _ = sum;
    Ok(())
}

#[rustfmt::skip]
async fn messages(client: &Client) -> Result<(), Failure> {
let readers = client.publish("rates", 1.08).await?;

let mut rates = client.subscribe("rates").await?.typed::<f64>();     // psubscribe for patterns
while let Some(incoming) = rates.next().await {                      // blocking: `for incoming in rates`
    match incoming {
        Incoming::Message(rate) => println!("{}: {}", rate.channel_name(), rate.payload),
        Incoming::Lost { cause } => println!("rates may be missed: {cause}"),
        Incoming::Restored => println!("subscribed again"),
        other => println!("{other:?}"),                              // too slow a reader, no number
    }
}
    _ = readers;
    Ok(())
}

#[rustfmt::skip]
async fn tests() -> Result<(), Failure> {
let store = Store::new();
let client = Client::connect(&store).await?;
client.set_ex("session:7", "Ada", Duration::from_secs(60)).await?;

store.advance(Duration::from_secs(61));                              // no sleeping
assert_eq!(client.get::<String>("session:7").await?, None);
assert_eq!(store.execute(&["DBSIZE"]), Value::Integer(0));           // a look past the client
    Ok(())
}

#[rustfmt::skip]
async fn failures(client: &Client) -> Result<(), Failure> {
match client.incr("wallet:7").await {
    Ok(balance) => println!("{balance}"),
    Err(failure) => match failure.executed() {
        Executed::No => again_later(),      // safe to try again
        Executed::Maybe => look_it_up(),    // it left in full and no answer came
        Executed::Yes => warn!("{failure}"), // it ran; the answer is an error, or not of the type asked for
    },
}
    Ok(())
}

#[rustfmt::skip]
async fn clusters() -> Result<(), Failure> {
let client = Client::connect("redis+cluster://node1:6379,node2:6379").await?;
    drop(client);
    Ok(())
}

/// A block that is changed in one place and not in the other does not show what compiles.
#[test]
fn the_examples_of_the_readme_are_those_that_compile() {
    let readme = include_str!("../../README.md");
    let here = include_str!("readme.rs");
    let blocks: Vec<&str> = readme.split("```rust\n").skip(1).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let block = block.split("```").next().expect("it ends");
        assert!(here.contains(block), "tests/tests/readme.rs has no such lines:\n{block}");
    }
}
