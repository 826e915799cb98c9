//! Everything at once on one client, while its server is killed: nobody gets what is another's, and
//! nothing that was acknowledged is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use unfazed_core::{
    Failure, Script,
    commands::prelude::*,
    dialogue::{Acks, Consumers, Scans},
    engine::Health,
    failure::Executed,
    handle::{Pipelines, Subscribe, Transactions},
    pubsub::Incoming,
};
use unfazed_tests::{Raw, Server as TestServer, eventually};

use crate::{
    adapters::{Adapter, Task, scenarios, spawn},
    support::{LIMIT, PROTOCOLS, at, quick, until_health},
};

scenarios! {
    nothing_is_mixed_up_where_nothing_happens,
    nothing_is_mixed_up_or_lost_while_the_server_is_killed,
}

/// How many tasks there are of each kind: 64 in all.
const WRITERS: usize = 10;
const TRANSACTIONS: usize = 10;
const SCRIPTS: usize = 10;
const PIPELINES: usize = 8;
const SCANS: usize = 6;
const STREAMS: usize = 8;
const LISTENERS: usize = 4;

/// How many keys no task writes.
const STAYING: usize = 3_000;

/// Writes a value, counts, and says which key it was.
static COUNT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('SET', KEYS[1], ARGV[1]); \
         return {KEYS[1], ARGV[1], redis.call('INCR', KEYS[2])}",
    )
});

/// Says what it was told.
static ECHO: LazyLock<Script> = LazyLock::new(|| Script::new("return ARGV[1]").read_only());

/// What one task knows of a key of its own, whose values are `key=number`, each higher than the one before;
/// and of a counter beside it.
#[derive(Debug)]
struct Own {
    key: String,
    counter: String,
    acknowledged: u64,
    tried: u64,
    counted: i64,
    uncertain: i64,
}

impl Own {
    fn new(kind: &str, number: usize) -> Self {
        let key = format!("{kind}:{number}");
        let counter = format!("{key}:count");
        Own { key, counter, acknowledged: 0, tried: 0, counted: 0, uncertain: 0 }
    }

    fn next(&mut self) -> String {
        self.tried += 1;
        format!("{}={}", self.key, self.tried)
    }

    /// The last value was written, and the counter is there now.
    #[track_caller]
    fn written(&mut self, count: i64) {
        self.acknowledged = self.tried;
        self.counted += 1;
        let most = self.counted + self.uncertain;
        assert!((self.counted..=most).contains(&count), "{count} is not of {self:?}");
    }

    /// Only a lost connection is a reason not to have been answered.
    #[track_caller]
    fn failed(&mut self, why: &Failure) {
        assert_eq!(why.executed(), Executed::Maybe, "{}: {why}", self.key);
        self.uncertain += 1;
    }

    /// Whether the key may hold this: its own, and no older than what was acknowledged.
    #[track_caller]
    fn check(&self, value: Option<&str>) {
        let Some(value) = value else {
            assert_eq!(self.acknowledged, 0, "{self:?} is gone");
            return;
        };
        let number = value.strip_prefix(&self.key).and_then(|rest| rest.strip_prefix('='));
        let number: u64 = number.and_then(|number| number.parse().ok()).expect("its own value");
        assert!((self.acknowledged..=self.tried).contains(&number), "{value} of {self:?}");
    }

    /// What the server holds when all is over.
    #[track_caller]
    fn check_on(&self, witness: &mut Raw) {
        self.check(witness.get(&self.key).as_deref());
        let count = witness.get(&self.counter).map_or(0, |text| text.parse().expect("a number"));
        let most = self.counted + self.uncertain;
        assert!((self.counted..=most).contains(&count), "{count} is not of {self:?}");
        assert!(self.counted > 0, "{self:?}");
    }
}

/// What all tasks share.
struct World<A: Adapter> {
    client: A::Client,
    stop: Arc<AtomicBool>,
    /// Rounds of all tasks together.
    rounds: Arc<AtomicUsize>,
}

impl<A: Adapter> Clone for World<A> {
    fn clone(&self) -> Self {
        let World { client, stop, rounds } = self;
        World { client: client.clone(), stop: stop.clone(), rounds: rounds.clone() }
    }
}

impl<A: Adapter> World<A> {
    fn goes_on(&self) -> bool {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        !self.stop.load(Ordering::Relaxed)
    }

    async fn check(&self, own: &Own) {
        let value: Option<String> =
            A::done(self.client.get(&own.key)).await.expect("a GET goes again");
        own.check(value.as_deref());
    }

    async fn write(self, number: usize) -> Own {
        let mut own = Own::new("plain", number);
        while self.goes_on() {
            let value = own.next();
            A::done(self.client.set(&own.key, &value)).await.expect("a SET goes again");
            own.acknowledged = own.tried;
            self.check(&own).await;
            match A::done(self.client.incr(&own.counter)).await {
                Ok(count) => own.written(count),
                Err(lost) => own.failed(&lost),
            }
        }
        own
    }

    async fn transact(self, number: usize) -> Own {
        let mut own = Own::new("transaction", number);
        let twin = format!("{}:twin", own.key);
        while self.goes_on() {
            let value = own.next();
            let done = A::gathered(self.client.transaction(|t| {
                t.set(&own.key, &value);
                let key = t.get::<String>(&own.key);
                (key, t.set(&twin, &value), t.incr(&own.counter))
            }));
            match done.await {
                Ok((read, (), count)) => {
                    assert_eq!(read.as_ref(), Some(&value));
                    own.written(count);
                }
                Err(lost) => own.failed(&lost),
            }
            let both = self.client.mget::<Vec<Option<String>>>([&own.key, &twin]);
            let both = A::done(both).await.expect("an MGET goes again");
            assert_eq!(both[0], both[1], "both or neither");
            own.check(both[0].as_deref());
        }
        own
    }

    async fn run_scripts(self, number: usize) -> Own {
        let mut own = Own::new("script", number);
        while self.goes_on() {
            let value = own.next();
            let call = self.client.script(&COUNT).key(&own.key).key(&own.counter).arg(&value);
            match A::done(call.run::<(String, String, i64)>()).await {
                Ok((key, argument, count)) => {
                    assert_eq!((&key, &argument), (&own.key, &value));
                    own.written(count);
                }
                Err(lost) => own.failed(&lost),
            }
            self.check(&own).await;
        }
        own
    }

    async fn pipe(self, number: usize) -> Own {
        let mut own = Own::new("pipeline", number);
        while self.goes_on() {
            let value = own.next();
            let (set, echo, count, script) = A::gathered(self.client.pipeline_each(|p| {
                let script = p.script(&ECHO).arg(&value).run::<String>();
                (p.set(&own.key, &value), p.echo::<String>(&value), p.incr(&own.counter), script)
            }))
            .await;
            set.expect("a SET goes again");
            own.acknowledged = own.tried;
            assert_eq!(echo.expect("an ECHO goes again"), value);
            assert_eq!(script.expect("a script that reads goes again"), value);
            match count {
                Ok(count) => own.written(count),
                Err(lost) => own.failed(&lost),
            }
            self.check(&own).await;
        }
        own
    }

    /// Gives how many scans came to their end.
    async fn scan(self, number: usize) -> usize {
        let mut scans = 0;
        while self.goes_on() {
            if number.is_multiple_of(2) {
                let options = ScanOptions::new().pattern("stay:*").count(200);
                let mut scan = self.client.scan_with::<String>(options);
                let mut found = BTreeSet::new();
                while let Some(key) = A::item(&mut scan).await {
                    found.insert(key.expect("it waits for its server"));
                }
                let all = (0..STAYING).map(|key| format!("stay:{key}"));
                assert!(found.into_iter().eq(all.collect::<BTreeSet<_>>()), "all that stayed");
            } else {
                let mut scan = self.client.hscan::<String, String>("stay");
                let mut found = BTreeMap::new();
                while let Some(field) = A::item(&mut scan).await {
                    found.extend([field.expect("it waits for its server")]);
                }
                assert!(found.iter().all(|(field, value)| field == value), "its own values");
                assert_eq!(found.len(), STAYING);
            }
            scans += 1;
        }
        scans
    }

    /// Adds entries to a stream, until all others are done. Gives which may be there, and which are.
    async fn produce(self, number: usize) -> (u64, BTreeSet<u64>) {
        let stream = format!("stream:{number}");
        let (mut tried, mut acknowledged) = (0, BTreeSet::new());
        while self.goes_on() {
            tried += 1;
            let value = format!("{stream}={tried}");
            match A::done(self.client.xadd(&stream, [("value", value)])).await {
                Ok(_) => _ = acknowledged.insert(tried),
                Err(lost) => assert_eq!(lost.executed(), Executed::Maybe, "{lost}"),
            }
        }
        let last = A::done(self.client.xadd(&stream, [("value", "last")])).await;
        last.expect("nothing is wrong any more");
        (tried, acknowledged)
    }

    /// Reads a stream up to its last entry. Gives what it was given.
    async fn consume(self, number: usize) -> BTreeSet<u64> {
        let stream = format!("stream:{number}");
        let consumer = self.client.consumer("group", "me").stream(&stream);
        let consumer = consumer.create(GroupStart::Beginning).pause(Duration::from_millis(5));
        let mut consumer = consumer.run::<BTreeMap<String, String>>();
        let mut found = BTreeSet::new();
        loop {
            let entry = A::item(&mut consumer).await.expect("it goes on").expect("no failure");
            assert_eq!(entry.stream, stream.as_bytes());
            let value = &entry.fields["value"];
            if value == "last" {
                return found;
            }
            let value = value.strip_prefix(&stream).and_then(|rest| rest.strip_prefix('='));
            found.insert(value.and_then(|value| value.parse().ok()).expect("its own value"));
            A::done(self.client.ack(&entry)).await.expect("an XACK goes again");
        }
    }

    /// Publishes on a channel of its own and hears all of it, but for what is told to be lost.
    async fn listen(self, number: usize) -> usize {
        let channel = format!("channel:{number}");
        let stream = A::subscribed(self.client.subscribe(&channel)).await;
        let mut stream = stream.expect("there is a server");
        let (mut heard, mut sent, mut last) = (0, 0, 0);
        while self.goes_on() {
            sent += 1;
            let reached = A::done(self.client.publish(&channel, format!("{channel}={sent}"))).await;
            if let Err(lost) = &reached {
                assert_eq!(lost.executed(), Executed::Maybe, "{lost}");
            }
            let mut whole = reached.is_ok_and(|reached| reached == 1);
            // Up to the message that was just sent, or the word that it may be missing.
            while whole && last < sent {
                match A::next(&mut stream, LIMIT).await {
                    Ok(Some(Incoming::Message(message))) => {
                        let text = message.payload.to_str().expect("text");
                        let value = text.strip_prefix(&channel).expect("its own message");
                        let value = value.strip_prefix('=').expect("its own message");
                        let value: usize = value.parse().expect("a number");
                        assert!(last < value && value <= sent, "{value} after {last}, of {sent}");
                        (last, heard) = (value, heard + 1);
                    }
                    Ok(Some(Incoming::Lost { .. })) => whole = false,
                    Ok(Some(Incoming::Restored)) => {}
                    other => panic!("a message is missing: {other:?}"),
                }
            }
        }
        heard
    }
}

/// All tasks, at work on one client.
struct Crowd<A: Adapter> {
    world: World<A>,
    owners: Vec<Task<Own>>,
    scans: Vec<Task<usize>>,
    producers: Vec<Task<(u64, BTreeSet<u64>)>>,
    consumers: Vec<Task<BTreeSet<u64>>>,
    listeners: Vec<Task<usize>>,
}

impl<A: Adapter> Crowd<A> {
    fn start(client: A::Client, witness: &mut Raw) -> Self {
        let keys: Vec<_> = (0..STAYING).map(|key| format!("stay:{key}")).collect();
        let pairs = |first| [first].into_iter().chain(keys.iter().flat_map(|key| [&**key; 2]));
        witness.ok(&pairs("MSET").collect::<Vec<_>>());
        let fields: Vec<_> = ["HSET"].into_iter().chain(pairs("stay")).collect();
        witness.int(&fields);

        let world = World { client, stop: Arc::default(), rounds: Arc::default() };
        let all = &world;
        let mut owners = Vec::new();
        owners.extend((0..WRITERS).map(|number| spawn::<A, _>(all.clone().write(number))));
        owners.extend((0..TRANSACTIONS).map(|number| spawn::<A, _>(all.clone().transact(number))));
        owners.extend((0..SCRIPTS).map(|number| spawn::<A, _>(all.clone().run_scripts(number))));
        owners.extend((0..PIPELINES).map(|number| spawn::<A, _>(all.clone().pipe(number))));
        Crowd {
            owners,
            scans: (0..SCANS).map(|number| spawn::<A, _>(all.clone().scan(number))).collect(),
            producers: (0..STREAMS).map(|n| spawn::<A, _>(all.clone().produce(n))).collect(),
            consumers: (0..STREAMS).map(|n| spawn::<A, _>(all.clone().consume(n))).collect(),
            listeners: (0..LISTENERS).map(|n| spawn::<A, _>(all.clone().listen(n))).collect(),
            world,
        }
    }

    /// Lets them work for a while.
    #[track_caller]
    fn rounds(&self, count: usize) {
        let end = self.world.rounds.load(Ordering::Relaxed) + count;
        eventually("the tasks to go on", LIMIT, || {
            (self.world.rounds.load(Ordering::Relaxed) >= end).then_some(())
        });
    }

    #[track_caller]
    fn end(self, witness: &mut Raw) {
        self.world.stop.store(true, Ordering::Relaxed);
        let owners: Vec<Own> = self.owners.into_iter().map(Task::join).collect();
        owners.iter().for_each(|own| own.check_on(witness));
        let scans: usize = self.scans.into_iter().map(Task::join).sum();
        let heard: usize = self.listeners.into_iter().map(Task::join).sum();
        let mut entries = 0;
        for (producer, consumer) in self.producers.into_iter().zip(self.consumers) {
            let ((tried, acknowledged), found) = (producer.join(), consumer.join());
            let missing: Vec<_> = acknowledged.difference(&found).collect();
            assert!(missing.is_empty(), "lost: {missing:?}");
            assert!(found.iter().all(|number| (1..=tried).contains(number)));
            entries += found.len();
        }
        let uncertain: i64 = owners.iter().map(|own| own.uncertain).sum();
        println!("{scans} scans, {heard} messages, {entries} entries, {uncertain} told as maybe");
        assert!(scans > 0 && heard > 0 && entries > 0);
        until_health::<A>(&self.world.client, Health::Live);
        eventually("nothing to be left", LIMIT, || {
            let status = A::status(&self.world.client);
            let left = status.tickets + status.queued_requests + status.streams;
            (left + status.subscriptions == 0).then_some(())
        });
    }
}

fn nothing_is_mixed_up_where_nothing_happens<A: Adapter>() {
    for protocol in PROTOCOLS {
        let server = TestServer::start();
        let mut witness = Raw::connect(server.port());
        let client = A::connect(at(server.port()).protocol(protocol)).expect("there is a server");
        let crowd = Crowd::<A>::start(client, &mut witness);
        crowd.rounds(6_000);
        crowd.end(&mut witness);
    }
}

fn nothing_is_mixed_up_or_lost_while_the_server_is_killed<A: Adapter>() {
    const KILLS: usize = 4;
    for protocol in PROTOCOLS {
        let mut server = TestServer::start();
        let config = quick(server.port()).protocol(protocol).deadline(LIMIT);
        let client = A::connect(config).expect("there is a server");
        let crowd = Crowd::<A>::start(client, &mut Raw::connect(server.port()));
        for _ in 0..KILLS {
            crowd.rounds(2_000);
            server.restart();
        }
        crowd.rounds(2_000);
        crowd.end(&mut Raw::connect(server.port()));
    }
}
