//! What a client is asked to do, once for all async clients.

use std::{collections::HashMap, hint::black_box};

use bytes::Bytes;
use unfazed_blocking::Client as Blocking;
use unfazed_core::{
    Failure, Request,
    commands::{Hashes, Run, Strings},
    config::{Config, Deployment, Endpoint},
    engine::Batch,
    handle::{Handle, Subscribe},
    pubsub::Incoming,
    resp::Reply,
};

use crate::{
    Pipeline,
    data::{VALUE_BYTES, command, key, value},
    flood::{CHANNEL, Flood},
};

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names, in `name`, say it")]
pub enum Work {
    GetSet,
    Pipeline,
    MgetViews,
    MgetBytes,
    Get16K,
    Get1M,
    LrangeViews(usize),
    LrangeBytes(usize),
    LrangeStrings(usize),
    HgetallPairs(usize),
    HgetallMap(usize),
    Messages,
}

/// How many commands are in a pipeline, and keys in an MGET.
const MANY: usize = 100;

impl Work {
    /// All of them.
    pub const ALL: [Work; 17] = [
        Work::GetSet,
        Work::Pipeline,
        Work::MgetViews,
        Work::MgetBytes,
        Work::Get16K,
        Work::Get1M,
        Work::LrangeViews(1_000),
        Work::LrangeBytes(1_000),
        Work::LrangeStrings(1_000),
        Work::HgetallPairs(1_000),
        Work::HgetallMap(1_000),
        Work::LrangeViews(100_000),
        Work::LrangeBytes(100_000),
        Work::LrangeStrings(100_000),
        Work::HgetallPairs(100_000),
        Work::HgetallMap(100_000),
        Work::Messages,
    ];

    /// What it is called on the command line and in tables.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Work::GetSet => "get-set".into(),
            Work::Pipeline => "pipeline".into(),
            Work::MgetViews => "mget-views".into(),
            Work::MgetBytes => "mget-bytes".into(),
            Work::Get16K => "get-16k".into(),
            Work::Get1M => "get-1m".into(),
            Work::LrangeViews(size) => format!("lrange-views-{size}"),
            Work::LrangeBytes(size) => format!("lrange-bytes-{size}"),
            Work::LrangeStrings(size) => format!("lrange-strings-{size}"),
            Work::HgetallPairs(size) => format!("hgetall-pairs-{size}"),
            Work::HgetallMap(size) => format!("hgetall-map-{size}"),
            Work::Messages => "messages".into(),
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<Work> {
        Work::ALL.into_iter().find(|work| work.name() == name)
    }

    /// What one request counts for: the commands of a pipeline, the elements of an array.
    #[must_use]
    pub fn units(self) -> usize {
        match self {
            Work::GetSet | Work::Get16K | Work::Get1M | Work::Messages => 1,
            Work::Pipeline | Work::MgetViews | Work::MgetBytes => MANY,
            Work::LrangeViews(size)
            | Work::LrangeBytes(size)
            | Work::LrangeStrings(size)
            | Work::HgetallPairs(size)
            | Work::HgetallMap(size) => size,
        }
    }

    /// How many tasks it is run with, where that is not varied.
    #[must_use]
    pub fn tasks(self) -> &'static [usize] {
        match self {
            Work::GetSet => &[1, 16, 64, 256, 1024],
            Work::Pipeline => &[1, 16],
            Work::MgetViews | Work::MgetBytes | Work::Get16K => &[16],
            Work::Get1M => &[4],
            _ => &[1],
        }
    }

    /// The same for the bare loop: requests, each with the length of its reply. Messages are not asked
    /// for; the bare loop listens for them.
    #[must_use]
    pub fn raw(self) -> Vec<(Vec<u8>, usize)> {
        let bulk = |len: usize| format!("${len}\r\n").len() + len + 2;
        let header = |count: usize| format!("*{count}\r\n").len();
        let get = |key: &str| command(&[b"GET", key.as_bytes()]);
        let value = value(VALUE_BYTES);
        let pair = |index| {
            let set = command(&[b"SET", key(index).as_bytes(), &value]);
            [(set, b"+OK\r\n".len()), (get(&key(index)), bulk(VALUE_BYTES))]
        };
        match self {
            Work::GetSet => (0..16).flat_map(pair).collect(),
            Work::Pipeline => {
                let all: Vec<_> = (0..MANY / 2).flat_map(pair).collect();
                let bytes = all.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
                vec![(bytes, all.iter().map(|(_, len)| len).sum())]
            }
            Work::MgetViews | Work::MgetBytes => {
                let mut words = vec![b"MGET".to_vec()];
                words.extend((0..MANY).map(|index| key(index).into_bytes()));
                let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                vec![(command(&words), header(MANY) + MANY * bulk(VALUE_BYTES))]
            }
            Work::Get16K => vec![(get("16k"), bulk(16 << 10))],
            Work::Get1M => vec![(get("1m"), bulk(1 << 20))],
            Work::LrangeViews(size) | Work::LrangeBytes(size) | Work::LrangeStrings(size) => {
                let key = format!("list:{size}");
                let bytes = command(&[b"LRANGE", key.as_bytes(), b"0", b"-1"]);
                vec![(bytes, header(size) + size * bulk(VALUE_BYTES))]
            }
            Work::HgetallPairs(size) | Work::HgetallMap(size) => {
                let bytes = command(&[b"HGETALL", format!("hash:{size}").as_bytes()]);
                let pair = bulk("field:000000".len()) + bulk(VALUE_BYTES);
                vec![(bytes, header(2 * size) + size * pair)]
            }
            Work::Messages => Vec::new(),
        }
    }

    /// Sends `count` requests, one after the other. What comes back is looked at.
    ///
    /// # Errors
    ///
    /// What the client says.
    pub async fn run(self, client: Handle, task: usize, count: usize) -> Result<(), Failure> {
        match self {
            Work::GetSet => get_set(client, task, count).await,
            Work::Pipeline => pipeline(client, count).await,
            Work::MgetViews => {
                let keys: Vec<String> = (0..MANY).map(key).collect();
                for _ in 0..count {
                    look_at(&client.mget::<Reply>(&keys).await?);
                }
                Ok(())
            }
            Work::MgetBytes => {
                let keys: Vec<String> = (0..MANY).map(key).collect();
                for _ in 0..count {
                    black_box(client.mget::<Vec<Option<Bytes>>>(&keys).await?);
                }
                Ok(())
            }
            Work::Get16K => get(client, "16k", 16 << 10, count).await,
            Work::Get1M => get(client, "1m", 1 << 20, count).await,
            Work::LrangeViews(size) => {
                let key = format!("list:{size}");
                for _ in 0..count {
                    look_at(&client.run::<Reply>(lrange(&key)).await?);
                }
                Ok(())
            }
            Work::LrangeBytes(size) => {
                let key = format!("list:{size}");
                for _ in 0..count {
                    black_box(client.run::<Vec<Bytes>>(lrange(&key)).await?);
                }
                Ok(())
            }
            Work::LrangeStrings(size) => {
                let key = format!("list:{size}");
                for _ in 0..count {
                    black_box(client.run::<Vec<String>>(lrange(&key)).await?);
                }
                Ok(())
            }
            Work::HgetallPairs(size) => {
                let key = format!("hash:{size}");
                for _ in 0..count {
                    black_box(client.hgetall::<Vec<(Bytes, Bytes)>>(&key).await?);
                }
                Ok(())
            }
            Work::HgetallMap(size) => {
                let key = format!("hash:{size}");
                for _ in 0..count {
                    black_box(client.hgetall::<HashMap<String, Bytes>>(&key).await?);
                }
                Ok(())
            }
            Work::Messages => messages(client, count).await,
        }
    }
}

impl Work {
    /// The same on the blocking client, for what is measured there.
    ///
    /// # Errors
    ///
    /// What the client says.
    pub fn run_blocking(self, client: &Blocking, task: usize, count: usize) -> Result<(), Failure> {
        let (key, value) = (key(task), value(VALUE_BYTES));
        match self {
            Work::GetSet => {
                for index in 0..count {
                    if index % 2 == 0 {
                        client.set(&key, &value)?;
                    } else {
                        black_box(client.get::<Bytes>(&key)?);
                    }
                }
            }
            Work::Pipeline => {
                let keys = pipeline_keys();
                for _ in 0..count {
                    for reply in client.submit_batch(&sets_and_gets(&keys, &value))? {
                        black_box(reply?);
                    }
                }
            }
            Work::Messages => {
                let mut stream = client.subscribe(CHANNEL)?;
                let _flood = Flood::start(port_of(client.config()), count);
                for _ in 0..count {
                    look_at_message(stream.next());
                }
            }
            other => panic!("{other:?} is not measured on the blocking client"),
        }
        Ok(())
    }
}

async fn get_set(client: Handle, task: usize, count: usize) -> Result<(), Failure> {
    let (key, value) = (key(task), value(VALUE_BYTES));
    for index in 0..count {
        if index % 2 == 0 {
            client.set(&key, &value).await?;
        } else {
            black_box(client.get::<Bytes>(&key).await?);
        }
    }
    Ok(())
}

async fn get(client: Handle, key: &str, len: usize, count: usize) -> Result<(), Failure> {
    for _ in 0..count {
        let value = client.get::<Bytes>(key).await?;
        assert_eq!(value.map(|value| value.len()), Some(len), "{key} is as it was filled");
    }
    Ok(())
}

async fn pipeline(client: Handle, count: usize) -> Result<(), Failure> {
    let (keys, value) = (pipeline_keys(), value(VALUE_BYTES));
    for _ in 0..count {
        for reply in client.submit_batch(&sets_and_gets(&keys, &value)).await? {
            black_box(reply?);
        }
    }
    Ok(())
}

fn pipeline_keys() -> Vec<String> {
    (0..MANY / 2).map(key).collect()
}

fn sets_and_gets(keys: &[String], value: &[u8]) -> Batch {
    let pipeline = Pipeline::default();
    for key in keys {
        pipeline.set(key, value);
        pipeline.get::<Bytes>(key);
    }
    pipeline.0.into_inner()
}

async fn messages(client: Handle, count: usize) -> Result<(), Failure> {
    let mut stream = client.subscribe(CHANNEL).await?;
    let _flood = Flood::start(port_of(client.config()), count);
    for _ in 0..count {
        look_at_message(stream.next().await);
    }
    Ok(())
}

fn look_at_message(incoming: Option<Incoming>) {
    match incoming {
        Some(Incoming::Message(message)) => {
            assert_eq!(black_box(&message.payload).len(), VALUE_BYTES);
        }
        other => panic!("a message was lost: {other:?}"),
    }
}

fn port_of(config: &Config) -> u16 {
    match &config.deployment {
        Deployment::Standalone(Endpoint::Tcp { port, .. }) => *port,
        other => panic!("{other:?} has no port"),
    }
}

fn lrange(key: &str) -> Request<'_> {
    Request::new("LRANGE").key(key).int(0).int(-1)
}

/// Goes over all elements in place.
fn look_at(reply: &Reply) {
    let bytes: usize = reply.view().items().map(|item| item.payload().len()).sum();
    assert!(black_box(bytes) > 0, "there is something in it");
}
