//! Those who subscribe: they want and give up topics at any moment, read promptly or slowly, and hold
//! what they get against what was published.
//!
//! Messages on a channel are numbered by the node that hands them out. A reader that was told of no gap gets each number once, and none
//! is left out (invariant 11).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use unfazed_core::{
    Failure,
    config::PingInterval,
    engine::StreamId,
    fallback::glob,
    pubsub::{Incoming, Overflow, StreamOptions, TopicKind},
};

use crate::{
    mutants::Mutant,
    network::Stage,
    server::{Published, told_apart},
    workload::{Asked, Shape},
    world::{Action, World},
};

pub(crate) type Topic = (TopicKind, String);

/// What can be published on and subscribed to.
const CHANNELS: [&str; 3] = ["c0", "c1", "c2"];
const PATTERNS: [&str; 3] = ["c*", "c1*", "?2"];
/// Two of one slot; in a cluster their slots are those that go over key by key as well.
const SHARD_CHANNELS: [&str; 3] = ["{a}0", "{a}1", "b"];

/// One stream and its reader.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) stream: StreamId,
    /// What the engine wakes.
    waker: u64,
    /// What it wants, and what it has heard of it.
    wanted: BTreeMap<Topic, Heard>,
    /// It was told that it misses messages.
    lost: bool,
    /// It has a connection of its own, and what is not read stays there.
    stops: bool,
    /// It reads now and then.
    slow: bool,
    messages_max: usize,
}

/// What was heard of a topic, by channel.
#[derive(Debug, Default)]
struct Heard {
    confirmed: bool,
    /// By channel, and by the node that has handed them out.
    channels: BTreeMap<(String, usize), Count>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    last: Option<u64>,
    /// The next number is at most this, or something is missing.
    next_at_most: Option<u64>,
}

/// Topics that are being added or given up.
#[derive(Debug)]
pub(crate) struct Change {
    listener: u64,
    adds: bool,
    topics: Vec<Topic>,
}

impl World {
    /// A subscriber's turn.
    pub(crate) fn listener(&mut self, at: u64) {
        if self.over || self.closing_since.is_some() {
            return;
        }
        match (self.listeners.contains_key(&at), self.entropy.below(100)) {
            (false, _) => self.open_stream(at),
            (true, 0..45) => self.want(at),
            (true, 45..75) => self.give_topics_up(at),
            (true, 75..82) => self.close_stream(at),
            (true, _) => {}
        }
        let delay = self.entropy.micros(500, 3 * self.setup.think_micros);
        self.at(delay, Action::Listener(at));
    }

    fn open_stream(&mut self, at: u64) {
        let mut options = StreamOptions::default();
        if self.entropy.chance(20) {
            options.overflow = Overflow::StopReading;
        }
        if self.entropy.chance(30) {
            options.messages_max = Some(self.entropy.between(1, 20) as usize);
        }
        let stream = match self.engine.open_stream(options) {
            Ok(stream) => stream,
            Err(failure) => return self.oracle.fail(14, format!("no stream: {failure}")),
        };
        let waker = self.waker();
        let stops = options.overflow == Overflow::StopReading;
        self.stops_reading |= stops;
        self.count(if stops { "streams that stop reading" } else { "streams" });
        let listener = Listener {
            stream,
            waker,
            wanted: BTreeMap::new(),
            lost: false,
            stops,
            slow: self.entropy.chance(30),
            messages_max: options.messages_max.unwrap_or(usize::MAX),
        };
        let slow = listener.slow;
        self.engine.set_stream_waiter(stream, waker);
        self.listeners.insert(at, listener);
        self.trace(format_args!("listener {at} opens {stream:?}"));
        if slow {
            self.at(std::time::Duration::ZERO, Action::Hear(at));
        }
        self.want(at);
    }

    fn draw_topics(&mut self, kind: TopicKind) -> Vec<Topic> {
        let names = match kind {
            TopicKind::Channel => CHANNELS,
            TopicKind::Pattern => PATTERNS,
            TopicKind::Shard => SHARD_CHANNELS,
        };
        let mask = self.entropy.between(1, 7);
        let chosen = names.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1);
        chosen.map(|(_, name)| (kind, (*name).to_owned())).collect()
    }

    fn want(&mut self, at: u64) {
        let kind = self.entropy.pick(&[TopicKind::Channel, TopicKind::Pattern, TopicKind::Shard]);
        let mut topics = self.draw_topics(kind);
        // What is being changed is left alone, so that it is known what becomes of it.
        topics.retain(|topic| !self.is_changing(at, topic));
        let stream = self.listeners[&at].stream;
        let names: Vec<&str> = topics.iter().map(|(_, name)| name.as_str()).collect();
        let (waker, now) = (self.waker(), self.clock());
        let result = self.engine.subscribe(stream, kind, &names, None, Some(waker), now);
        self.trace(format_args!("listener {at} wants {kind:?} {names:?}"));
        match result {
            Ok(ticket) => {
                let listener = self.listeners.get_mut(&at).expect("it has a stream");
                topics.retain(|topic| {
                    let new = !listener.wanted.contains_key(topic);
                    listener.wanted.entry(topic.clone()).or_default();
                    new
                });
                self.changing(waker, ticket, Change { listener: at, adds: true, topics });
            }
            Err(failure) => self.oracle.fail(1, format!("not subscribed: {failure}")),
        }
    }

    fn give_topics_up(&mut self, at: u64) {
        let kind = self.entropy.pick(&[TopicKind::Channel, TopicKind::Pattern, TopicKind::Shard]);
        let mut topics = self.draw_topics(kind);
        topics.retain(|topic| !self.is_changing(at, topic));
        let stream = self.listeners[&at].stream;
        let names: Vec<&str> = topics.iter().map(|(_, name)| name.as_str()).collect();
        let (waker, now) = (self.waker(), self.clock());
        let result = self.engine.unsubscribe(stream, kind, &names, Some(waker), now);
        self.trace(format_args!("listener {at} gives up {kind:?} {names:?}"));
        match result {
            Ok(ticket) => {
                let listener = self.listeners.get_mut(&at).expect("it has a stream");
                topics.iter().for_each(|topic| drop(listener.wanted.remove(topic)));
                self.changing(waker, ticket, Change { listener: at, adds: false, topics });
            }
            Err(failure) => self.oracle.fail(1, format!("not unsubscribed: {failure}")),
        }
    }

    fn is_changing(&self, at: u64, topic: &Topic) -> bool {
        self.changes.values().any(|change| change.listener == at && change.topics.contains(topic))
    }

    fn changing(&mut self, waker: u64, ticket: unfazed_core::engine::Ticket, change: Change) {
        self.changes.insert(waker, change);
        self.expect(Asked {
            waker,
            shape: Shape::Topics,
            commands: Vec::new(),
            options: unfazed_core::Options::default(),
            deadline: self.now + self.setup.config.deadline,
            ticket,
            submitted: self.seq,
        });
    }

    fn close_stream(&mut self, at: u64) {
        let Some(listener) = self.listeners.remove(&at) else { return };
        self.trace(format_args!("listener {at} closes {:?}", listener.stream));
        self.engine.close_stream(listener.stream, self.clock());
        self.wake();
        let mut items = VecDeque::new();
        if self.engine.take_incoming(listener.stream, &mut items, self.clock()) {
            self.oracle.fail(11, "a closed stream is open");
        }
        if !items.is_empty() || self.engine.set_stream_waiter(listener.stream, 0).is_none() {
            self.oracle.fail(16, "a closed stream gives something");
        }
    }

    // ---- what came of it -----------------------------------------------------------------------

    /// A request for topics has ended.
    pub(crate) fn changed(&mut self, asked: &Asked, result: Result<(), Failure>) {
        self.trace(format_args!("   topics => {result:?}"));
        let Some(change) = self.changes.remove(&asked.waker) else { return };
        let published = &self.server.published;
        let listener = self.listeners.get_mut(&change.listener);
        match (result, listener) {
            (Ok(()), Some(listener)) if change.adds => {
                for topic in &change.topics {
                    if let Some(heard) = listener.wanted.get_mut(topic) {
                        heard.confirm(topic, published);
                    }
                }
                self.count("subscribed");
            }
            (Ok(()), _) => {}
            (Err(failure), listener) => {
                self.oracle.formatted(&format!("{failure} {failure:?}"));
                if failure.is_timeout() && self.now < asked.deadline {
                    self.oracle.fail(12, format!("{failure}, before {:?}", asked.deadline));
                }
                // With the client the whole stream ends: what has come of some of them is still to be read.
                let closed = matches!(failure.kind(), unfazed_core::FailureKind::ClientClosed);
                if let Some(listener) = listener.filter(|_| change.adds && !closed) {
                    change.topics.iter().for_each(|topic| drop(listener.wanted.remove(topic)));
                }
                self.count(match failure.kind() {
                    unfazed_core::FailureKind::Server(_) => "subscription refused",
                    unfazed_core::FailureKind::DeadlinePassed(_) => "subscription too late",
                    _ => "subscription failed otherwise",
                });
            }
        }
    }

    /// A request for topics was given up: detached, what it was to add is wanted all the same.
    pub(crate) fn change_given_up(&mut self, waker: u64, detached: bool) {
        let Some(change) = self.changes.remove(&waker) else { return };
        let listener = self.listeners.get_mut(&change.listener);
        if let Some(listener) = listener.filter(|_| change.adds && !detached) {
            change.topics.iter().for_each(|topic| drop(listener.wanted.remove(topic)));
        }
    }

    /// Whether it is a reader who was woken. A slow one comes when it comes.
    pub(crate) fn reader_woken(&mut self, waker: u64) -> bool {
        let found = self.listeners.iter().find(|(_, listener)| listener.waker == waker);
        let Some((at, slow)) = found.map(|(at, listener)| (*at, listener.slow)) else {
            return false;
        };
        if !slow && self.mutant != Some(Mutant::LoseStreamWake) {
            self.hear(at);
        }
        true
    }

    /// A slow reader has a look.
    pub(crate) fn slow_reader(&mut self, at: u64) {
        if self.listeners.get(&at).is_some_and(|listener| listener.slow) {
            self.hear(at);
            // Once nobody publishes any more it gets through what has piled up.
            let most = if self.over { 10_000 } else { 200_000 };
            let delay = self.entropy.micros(5_000, most);
            self.at(delay, Action::Hear(at));
        }
    }

    /// Reads all there is.
    fn hear(&mut self, at: u64) {
        loop {
            let now = self.clock();
            let Some(listener) = self.listeners.get_mut(&at) else { return };
            let mut items = VecDeque::new();
            let open = self.engine.take_incoming(listener.stream, &mut items, now);
            if items.is_empty() {
                if open {
                    self.engine.set_stream_waiter(listener.stream, listener.waker);
                } else if self.closing_since.is_none() && !self.abandoned {
                    self.oracle.fail(11, "a stream has ended for no reason");
                }
                return;
            }
            for item in items {
                let text = format!("{item:?}");
                self.trace(format_args!("   listener {at}: {text}"));
                let listener = self.listeners.get_mut(&at).expect("just found");
                let (what, fault) = listener.take(&item, &self.server.published);
                self.count(what);
                if let Some(fault) = fault {
                    self.oracle.fail(11, format!("listener {at}: {text}: {fault}"));
                }
            }
        }
    }

    // ---- the server's side ---------------------------------------------------------------------

    /// Somebody publishes something.
    pub(crate) fn publish(&mut self) {
        if self.over {
            return;
        }
        let (kind, channel) = match self.entropy.below(9) {
            at @ 0..6 => (TopicKind::Channel, CHANNELS[at as usize % 3]),
            at => (TopicKind::Shard, SHARD_CHANNELS[at as usize % 3]),
        };
        self.publish_on(kind, channel);
        let most = if self.healed { 60_000 } else { self.setup.publish_micros };
        let delay = self.entropy.micros(most / 10, most);
        self.at(delay, Action::Publish);
    }

    fn publish_on(&mut self, kind: TopicKind, channel: &'static str) {
        // A server that stands still publishes nothing.
        let Some(node) = self.pick_publisher(kind, channel) else { return };
        self.turn_to(node);
        self.hand_out(kind, channel);
        self.spread_message(node, kind, channel);
    }

    /// The server at hand gives the next message to those who listen there.
    pub(crate) fn hand_out(&mut self, kind: TopicKind, channel: &str) {
        let sent = self.server.hand_out(kind, channel);
        for (id, frame) in sent {
            let lost = self.mutant == Some(Mutant::LoseMessage) && self.entropy.chance(5);
            let twice = self.mutant == Some(Mutant::SendTwice) && self.entropy.chance(5);
            self.send_to(id, &frame, if lost { 0 } else { 1 + usize::from(twice) });
            self.limit_output(id);
        }
        if self.mutant == Some(Mutant::ForgetTopic) && self.entropy.chance(2) {
            self.server.forget_topic();
        }
    }

    pub(crate) fn send_to(&mut self, id: u64, frame: &[u8], times: usize) {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.served) else { return };
        for _ in 0..times {
            link.send(frame, false);
        }
        self.read_down(id);
    }

    /// The server closes the connection of a subscriber that takes too little, without a word.
    fn limit_output(&mut self, id: u64) {
        let Some(link) = self.links.get(&id) else { return };
        let spared = self.is_spared(link.at);
        if self.healed || spared || link.down.len() < self.setup.output_max || !link.served {
            return;
        }
        self.count("fault: output limit");
        let link = self.links.get_mut(&id).expect("just found");
        link.served = false;
        let most = link.down.len() as u64;
        let kept = self.entropy.below(most + 1) as usize;
        let link = self.links.get_mut(&id).expect("just found");
        link.down_cut = Some(link.down_cut.map_or(kept, |cut| cut.min(kept)));
        self.server.forget(id);
        self.read_down(id);
    }

    /// The server takes subscriptions away: a slot moves, or nobody knows why.
    pub(crate) fn take_topics_away(&mut self, moves: bool) {
        let sent = if moves {
            let moved = self.server.moved.clone().unwrap_or_default();
            let slot = |name: &str| unfazed_core::slot::slot(name.as_bytes());
            self.server
                .take_away(|kind, name| kind == TopicKind::Shard && slot(name) == slot(&moved))
        } else {
            let name = self.entropy.pick(&CHANNELS);
            self.server.take_away(|_, other| other == name)
        };
        self.count("fault: topics taken away");
        for (id, frame) in sent {
            self.send_to(id, &frame, 1);
        }
    }

    pub(crate) fn draw_shard_channel(&mut self) -> String {
        self.entropy.pick(&SHARD_CHANNELS).to_owned()
    }

    pub(crate) fn draw_channel(&mut self) -> String {
        self.entropy.pick(&CHANNELS).to_owned()
    }

    // ---- what must hold ------------------------------------------------------------------------

    /// The most items that may wait in streams, and the most connections of their own.
    pub(crate) fn stream_bounds(&self) -> (usize, usize) {
        let most = self.listeners.values().map(|listener| listener.messages_max.min(1 << 20));
        let own = self.listeners.values().filter(|listener| listener.stops).count();
        (most.sum(), own)
    }

    /// Whether all is as it is wanted: nobody misses anything, and the server has what is wanted and
    /// nothing else. Says what is not.
    pub(crate) fn unsettled_topics(&self) -> Option<String> {
        if let Some((at, _)) = self.listeners.iter().find(|(_, listener)| listener.lost) {
            return Some(format!("listener {at} misses messages"));
        }
        let mut expected: Vec<Topic> = Vec::new();
        let shared = self.listeners.values().filter(|listener| !listener.stops);
        let shared: BTreeSet<&Topic> = shared.flat_map(|listener| listener.wanted.keys()).collect();
        expected.extend(shared.into_iter().cloned());
        let own = self.listeners.values().filter(|listener| listener.stops);
        expected.extend(own.flat_map(|listener| listener.wanted.keys().cloned()));
        expected.sort();
        let alive = |id: u64| {
            let link = self.links.get(&id);
            link.is_some_and(|link| link.stage == Stage::Open && link.served && !link.silent)
        };
        let all = (0..self.servers()).flat_map(|node| self.server_at(node).topics(alive));
        let mut has: Vec<Topic> = all.collect();
        has.sort();
        (has != expected).then(|| format!("the server has {has:?}, and wanted is {expected:?}"))
    }

    /// Every node begins to count, on every channel.
    pub(crate) fn nothing_published(&mut self) {
        for node in 0..self.servers() {
            let channels = CHANNELS.map(|channel| (TopicKind::Channel, channel));
            let shard_channels = SHARD_CHANNELS.map(|channel| (TopicKind::Shard, channel));
            for (kind, channel) in channels.into_iter().chain(shard_channels) {
                self.server.published.insert((kind, channel.to_owned(), node), 0);
            }
        }
    }

    /// Publishes once more on every channel, when all is settled: everybody must hear it.
    pub(crate) fn publish_last(&mut self) {
        for channel in CHANNELS {
            self.publish_on(TopicKind::Channel, channel);
        }
        for channel in SHARD_CHANNELS {
            self.publish_on(TopicKind::Shard, channel);
        }
    }

    /// Whether everybody has heard the last of everything. Says who has not.
    pub(crate) fn unheard(&self) -> Option<String> {
        for (at, listener) in &self.listeners {
            // Even these may be too many at once for one that holds few and drops.
            if !listener.stops && listener.messages_max < usize::MAX {
                continue;
            }
            for (topic, heard) in &listener.wanted {
                let all = channels_of(topic, &self.server.published);
                let mut heard_all: BTreeMap<&str, bool> = BTreeMap::new();
                for ((channel, node), count) in &all {
                    let last = heard.channels.get(&(channel.clone(), *node));
                    let last = last.and_then(|count| count.last);
                    *heard_all.entry(channel).or_default() |= last
                        .is_some_and(|last| last + 1 == *count)
                        && self.is_heard_at(*node, topic.0, channel);
                }
                if heard_all.values().any(|heard_all| !heard_all) {
                    let heard = &heard.channels;
                    return Some(format!(
                        "listener {at} has heard {heard:?} of {all:?} by {topic:?}"
                    ));
                }
            }
        }
        None
    }

    /// The client is closed, or its runtime gone: every stream ends.
    pub(crate) fn check_ended(&mut self) {
        let now = self.clock();
        for listener in self.listeners.values() {
            let mut items = VecDeque::new();
            while self.engine.take_incoming(listener.stream, &mut items, now) {
                if items.drain(..).count() == 0 {
                    return self.oracle.fail(11, "a stream goes on after the end of its client");
                }
            }
        }
    }

    /// Without PINGs a connection that only listens never learns that nobody is there any more. The
    /// kernel does, in the end.
    pub(crate) fn find_half_open(&mut self) {
        if self.setup.config.ping_interval != PingInterval::Off {
            return;
        }
        let half_open = |link: &crate::network::Link| {
            link.stage == Stage::Open && (link.silent || !link.served)
        };
        let silent = self.links.iter().filter(|(_, link)| half_open(link));
        for id in silent.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.ending(id, unfazed_core::Cause::Reset);
        }
    }
}

/// The channels that a topic stands for, with how many messages each node had on each.
fn channels_of(topic: &Topic, published: &Published) -> Vec<((String, usize), u64)> {
    let (kind, name) = topic;
    let stands = |of: TopicKind, channel: &str| match kind {
        TopicKind::Pattern => {
            of == TopicKind::Channel && glob::matches(name.as_bytes(), channel.as_bytes())
        }
        TopicKind::Channel | TopicKind::Shard => of == *kind && channel == *name,
    };
    let all = published.iter().filter(|((of, channel, _), _)| stands(*of, channel));
    all.map(|((_, channel, node), count)| ((channel.clone(), *node), *count)).collect()
}

impl Heard {
    /// From now on nothing is missed without a word.
    fn confirm(&mut self, topic: &Topic, published: &Published) {
        self.confirmed = true;
        for (channel, count) in channels_of(topic, published) {
            let heard = self.channels.entry(channel).or_default();
            heard.next_at_most.get_or_insert(count);
        }
    }
}

impl Listener {
    /// Takes what came. Gives what it is, and what is wrong with it.
    fn take(&mut self, item: &Incoming, published: &Published) -> (&'static str, Option<String>) {
        match item {
            Incoming::Message(message) => {
                let name = message.pattern().unwrap_or(message.channel());
                let topic = (message.kind(), String::from_utf8_lossy(name).into_owned());
                let channel = message.channel_name().into_owned();
                let payload = String::from_utf8_lossy(&message.payload).into_owned();
                ("messages", self.take_message(&topic, channel, &payload))
            }
            Incoming::Lost { .. } => {
                self.lost = true;
                self.excuse();
                ("streams: lost", None)
            }
            Incoming::Restored => {
                let fault = (!self.lost).then(|| "nothing was lost".to_owned());
                self.lost = false;
                // Up to this moment anything may have been missed.
                self.excuse();
                for (topic, heard) in &mut self.wanted {
                    if heard.confirmed {
                        heard.confirm(topic, published);
                    }
                }
                ("streams: restored", fault)
            }
            Incoming::Dropped { .. } => {
                let bounded = self.messages_max < usize::MAX && !self.stops;
                self.excuse();
                let fault = (!bounded).then(|| "there was room".to_owned());
                ("streams: dropped", fault)
            }
            _ => ("streams: otherwise", Some("that is nothing".to_owned())),
        }
    }

    /// The next number may be any.
    fn excuse(&mut self) {
        for count in self.wanted.values_mut().flat_map(|heard| heard.channels.values_mut()) {
            count.next_at_most = None;
        }
    }

    fn take_message(&mut self, topic: &Topic, channel: String, payload: &str) -> Option<String> {
        let Some(heard) = self.wanted.get_mut(topic) else {
            return Some("it is not wanted".to_owned());
        };
        let Some((of, node, number)) = told_apart(payload) else {
            return Some(payload.to_owned());
        };
        if of != channel {
            return Some(format!("it is of {of}"));
        }
        let count = heard.channels.entry((channel, node)).or_default();
        if count.last.is_some_and(|last| number <= last) {
            return Some(format!("twice, or out of order, after {:?}", count.last));
        }
        if !self.lost && count.next_at_most.is_some_and(|most| number > most) {
            return Some(format!("{count:?} and no word of a gap"));
        }
        *count = Count { last: Some(number), next_at_most: Some(number + 1) };
        None
    }
}
