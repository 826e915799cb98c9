//! Subscriptions on real servers: what is published comes, once and in order, or its loss is told.

mod delivery;
mod endings;
mod gaps;
mod in_memory;
mod slow_readers;

use std::time::Duration;

use unfazed_core::{
    Cause,
    handle::Subscribe,
    pubsub::{Incoming, TopicKind},
};
use unfazed_tests::{Raw, RawReply, eventually};

use crate::{
    adapters::Adapter,
    support::{LIMIT, others_on},
};

const KINDS: [TopicKind; 3] = [TopicKind::Channel, TopicKind::Pattern, TopicKind::Shard];

/// As long as nothing has to come.
const QUIET: Duration = Duration::from_millis(300);

fn subscribe<A: Adapter>(client: &A::Client, names: &[&str]) -> A::Stream {
    A::listen(client.subscribe(names)).expect("there is a server")
}

/// The next message, as channel and payload.
#[track_caller]
fn message<A: Adapter>(stream: &mut A::Stream) -> (String, String) {
    match A::read(stream, LIMIT) {
        Ok(Some(Incoming::Message(message))) => {
            let payload = message.payload.to_str().expect("text").to_owned();
            (message.channel_name().into_owned(), payload)
        }
        other => panic!("not a message: {other:?}"),
    }
}

#[track_caller]
fn nothing_comes<A: Adapter>(stream: &mut A::Stream) {
    let next = A::read(stream, QUIET);
    assert!(matches!(next, Ok(None)), "{next:?}");
}

#[track_caller]
fn lost<A: Adapter>(stream: &mut A::Stream) -> Cause {
    match A::read(stream, LIMIT) {
        Ok(Some(Incoming::Lost { cause })) => cause,
        other => panic!("no loss: {other:?}"),
    }
}

/// Reads up to the news that all is well again. Gives how many messages came before it.
#[track_caller]
fn until_restored<A: Adapter>(stream: &mut A::Stream) {
    loop {
        match A::read(stream, LIMIT) {
            Ok(Some(Incoming::Restored)) => return,
            Ok(Some(Incoming::Lost { .. })) => {}
            other => panic!("not restored: {other:?}"),
        }
    }
}

fn publish(witness: &mut Raw, channel: &str, payload: &str) -> i64 {
    witness.int(&["PUBLISH", channel, payload])
}

/// How many subscriptions the server has: to channels, patterns, shard channels.
fn subscriptions(witness: &mut Raw) -> (usize, i64, usize) {
    let count = |reply| match reply {
        RawReply::Array(items) => items.len(),
        other => panic!("no list: {other:?}"),
    };
    let channels = count(witness.cmd(&["PUBSUB", "CHANNELS"]));
    let patterns = witness.int(&["PUBSUB", "NUMPAT"]);
    (channels, patterns, count(witness.cmd(&["PUBSUB", "SHARDCHANNELS"])))
}

#[track_caller]
fn until_none_are_left(witness: &mut Raw) {
    eventually("no subscription to be left", LIMIT, || {
        (subscriptions(witness) == (0, 0, 0)).then_some(())
    });
}

#[track_caller]
fn until_connections(witness: &mut Raw, count: usize) {
    eventually(&format!("{count} connections"), LIMIT, || {
        (others_on(witness) == count).then_some(())
    });
}
