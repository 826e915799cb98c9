//! What the simulated callers ask for. Each command carries its key and, where it can, a number that
//! no other command has, so that what comes back and what was carried out can be told apart.

use std::{sync::LazyLock, time::Duration};

use unfazed_core::{
    Effect, Options, Request, Script, config::MaybeRetry, engine::Batch, engine::Ticket,
};

use crate::{entropy::Entropy, server::is_blocking, setup::SCRIPT};

/// The key patterns of a world, and with it what its keys do while the server is down.
pub const CLASSES: [&str; 7] = ["cache", "wallet", "miss", "fail", "last", "sum", "old"];

/// The lists that are waited for. They are in the slot of those who hold connections.
pub const QUEUES: [&str; 2] = ["wallet:{a}:queue", "wallet:{a}:queue2"];

/// The one script of this world, which callers know by its digest.
#[must_use]
pub fn script() -> &'static Script {
    static KNOWN: LazyLock<Script> = LazyLock::new(|| Script::new(SCRIPT));
    &KNOWN
}

/// One command.
#[derive(Clone, Debug)]
pub struct Command {
    /// Its name and arguments.
    pub words: Vec<String>,
    /// It is a script that is called by its digest, whatever the words say.
    pub by_digest: bool,
    /// Its own number; `None` where another command of the same words may exist.
    pub id: Option<u64>,
    /// Its keys, without those that only carry its number.
    pub keys: Vec<String>,
}

impl Command {
    /// Its words with spaces between them.
    #[must_use]
    pub fn line(&self) -> String {
        line_of(&self.words)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.words[0]
    }

    /// What the oracle says that it does, whatever the engine says.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self.name() {
            "GET" | "MGET" | "PTTL" | "PING" | "SMEMBERS" | "LRANGE" | "HGETALL" => Effect::Read,
            "SET" | "MSET" => Effect::Repeatable,
            "DEL" | "PEXPIRE" | "SADD" | "SREM" | "HSET" | "HDEL" => Effect::IdempotentWrite,
            _ => Effect::Write,
        }
    }

    /// The request to be submitted.
    #[must_use]
    pub fn request(&self) -> Request<'_> {
        if self.by_digest {
            return self.words[2..].iter().fold(Request::script(script()), Request::arg);
        }
        let request = Request::new(&self.words[0]);
        self.words[1..].iter().fold(request, Request::arg)
    }

    /// Whether all of its keys may be answered from memory, and whether any of them as a miss. A miss
    /// and a key whose writes are to be kept don't go together, nor does any with one that is only
    /// read.
    #[must_use]
    pub fn degrades(&self) -> (bool, bool) {
        let reads = self.effect() == Effect::Read;
        let may = |key: &String| {
            let written = ["cache", "miss", "last", "sum"].iter().any(|of| key.starts_with(of));
            written || (reads && key.starts_with("old"))
        };
        (
            !self.keys.is_empty() && self.keys.iter().all(may),
            self.keys.iter().any(|key| key.starts_with("miss")),
        )
    }

    /// Draws one; `id` is a number that no other has.
    pub fn draw(entropy: &mut Entropy, id: u64) -> Self {
        let classes = [0, 0, 0, 0, 1, 1, 2, 3, 4, 4, 4, 5, 5, 5, 6, 6];
        let class = CLASSES[classes[entropy.below(16) as usize]];
        let key = |entropy: &mut Entropy, class: &str| format!("{class}:{}", entropy.below(3));
        let first = key(entropy, class);
        let value = |key: &str| format!("{key}={id};");
        let tagged = |words: &[&str], keys: &[&str]| Command::new(words, keys, Some(id));
        let number = id.to_string();
        let counter = format!("{class}:n:{}", entropy.below(2));
        match entropy.below(100) {
            0..30 => Command::new(&["GET", &first], &[&first], None),
            30..48 => tagged(&["SET", &first, &value(&first)], &[&first]),
            48..54 => {
                let span = entropy.between(20, 2_000).to_string();
                tagged(&["SET", &first, &value(&first), "PX", &span], &[&first])
            }
            54..64 => tagged(&["INCRBY", &counter, &number], &[&counter]),
            64..67 => Command::new(&["INCR", &counter], &[&counter], None),
            67..79 => {
                let other = if entropy.chance(25) { entropy.pick(&CLASSES) } else { class };
                let second = key(entropy, other);
                if entropy.chance(50) || first == second {
                    return Command::new(&["MGET", &first, &second], &[&first, &second], None);
                }
                let words = ["MSET", &first, &value(&first), &second, &value(&second)];
                tagged(&words, &[&first, &second])
            }
            79..82 => tagged(&["APPEND", &first, &value(&first)], &[&first]),
            82..85 => {
                let call = tagged(&["EVAL", SCRIPT, "1", &first, &value(&first)], &[&first]);
                Command { by_digest: entropy.chance(60), ..call }
            }
            85..88 => {
                let hash = format!("{class}:hash");
                let field = format!("f{}", entropy.below(3));
                match entropy.below(4) {
                    0 => Command::new(&["HGETALL", &hash], &[&hash], None),
                    // What is added up may look like one of its parts.
                    1 if class != "sum" => tagged(&["HINCRBY", &hash, &field, &number], &[&hash]),
                    _ => tagged(&["HSET", &hash, &field, &number], &[&hash]),
                }
            }
            88..91 => {
                let tag = format!("{class}:t:{id}");
                tagged(&["DEL", &first, &tag], &[&first])
            }
            91 => Command::new(&["PTTL", &first], &[&first], None),
            92..94 => {
                let span = entropy.between(20, 2_000).to_string();
                Command::new(&["PEXPIRE", &first, &span], &[&first], None)
            }
            94 if class != "sum" && class != "last" => {
                Command::new(&["PTTL", &first], &[&first], None)
            }
            94 => {
                let set = format!("{class}:set");
                match entropy.below(3) {
                    0 => Command::new(&["SMEMBERS", &set], &[&set], None),
                    _ => tagged(&["SADD", &set, &number], &[&set]),
                }
            }
            95 if class == "sum" => {
                let queue = format!("{class}:queue");
                match entropy.below(3) {
                    0 => Command::new(&["LRANGE", &queue, "0", "-1"], &[&queue], None),
                    _ => tagged(&["RPUSH", &queue, &number], &[&queue]),
                }
            }
            95 => tagged(&["NOSUCH", &number], &[]),
            96 => {
                let list = format!("{class}:list");
                Command::new(&["GET", &list], &[&list], None)
            }
            _ => tagged(&["PING", &number], &[]),
        }
    }

    /// Draws one that waits at the server for so long at most; `id` is a number that no other has.
    fn draw_blocking(entropy: &mut Entropy, id: u64, wait: &str) -> Self {
        let queue = entropy.pick(&QUEUES);
        let tag = format!("wallet:{{a}}:b:{id}");
        let words = match entropy.below(4) {
            // Nothing is ever put into the list that carries the number, but by this command.
            0 => vec!["BLMOVE", queue, &tag, "LEFT", "RIGHT", wait],
            1 => vec!["BLPOP", &tag, QUEUES[0], QUEUES[1], wait],
            _ => vec!["BLPOP", queue, &tag, wait],
        };
        Command::new(&words, &[queue], Some(id))
    }

    /// Pushes the element of this number.
    #[must_use]
    pub fn push(queue: &str, id: u64) -> Self {
        Command::new(&["RPUSH", queue, &id.to_string()], &[queue], Some(id))
    }

    /// One of these words.
    #[must_use]
    pub fn of(words: &[&str], keys: &[&str], id: Option<u64>) -> Self {
        Command::new(words, keys, id)
    }

    fn new(words: &[&str], keys: &[&str], id: Option<u64>) -> Self {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Command { words: own(words), by_digest: false, id, keys: own(keys) }
    }
}

/// What a command is known by: its words with spaces between them. How long it waits is left out; the
/// client says that in pieces.
#[must_use]
pub fn line_of(words: &[String]) -> String {
    let waits = is_blocking(&words[0].to_ascii_uppercase());
    words[..words.len() - usize::from(waits)].join(" ")
}

/// What a ticket stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A single request.
    One,
    /// A pipeline.
    Many,
    /// A transaction.
    Whole,
    /// A wait for the connection.
    Connect,
    /// A wait for topics to be confirmed or dropped.
    Topics,
    /// A wait for time alone.
    Sleep,
    /// A pipeline of a dialogue.
    Dialogue,
}

/// Something that was submitted.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What the engine wakes.
    pub waker: u64,
    /// What it is.
    pub shape: Shape,
    /// What is to be run.
    pub commands: Vec<Command>,
    /// What was asked for it.
    pub options: Options,
    /// When it ends at the latest, since the start.
    pub deadline: Duration,
    /// The engine's name for it.
    pub ticket: Ticket,
    /// When it was submitted.
    pub submitted: u64,
}

impl Asked {
    /// Whether one of its commands may be answered from memory, and whether as a miss. The commands of
    /// a transaction share that.
    #[must_use]
    pub fn degrades(&self, command: &Command) -> (bool, bool) {
        if self.shape != Shape::Whole {
            return command.degrades();
        }
        let all = self.commands.iter().map(Command::degrades);
        all.fold((true, false), |all, one| (all.0 && one.0, all.1 || one.1))
    }

    /// The lines of its commands.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.commands.iter().map(Command::line).collect()
    }
}

/// What is to be submitted.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The commands.
    pub commands: Vec<Command>,
    /// How: alone, as a pipeline, or as a transaction.
    pub shape: Shape,
    /// What is asked for it.
    pub options: Options,
}

impl Wish {
    /// Draws one; `ids` counts the commands.
    pub fn draw(entropy: &mut Entropy, ids: &mut u64) -> Self {
        let shape = match entropy.below(100) {
            0..70 => Shape::One,
            70..85 => Shape::Many,
            _ => Shape::Whole,
        };
        let count = if shape == Shape::One { 1 } else { entropy.between(1, 6) };
        let commands = (0..count).map(|_| {
            *ids += 1;
            Command::draw(entropy, *ids)
        });
        let mut commands: Vec<_> = commands.collect();
        let blocks = shape == Shape::One && entropy.chance(4);
        if blocks {
            let wait = draw_wait(entropy);
            commands[0] = Command::draw_blocking(entropy, *ids, &wait);
        } else if shape == Shape::One && entropy.chance(4) {
            commands[0] = Command::push(entropy.pick(&QUEUES), *ids);
        }
        let deadline = match entropy.below(4) {
            // Of its own it may take as long as it waits, and as any other besides.
            0 if blocks => Some(entropy.millis(50, 4_000)),
            0 => None,
            1 => Some(entropy.millis(1, 50)),
            _ => Some(entropy.millis(50, 4_000)),
        };
        let maybe_retry = entropy.chance(40).then(|| {
            entropy.pick(&[
                MaybeRetry::Never,
                MaybeRetry::Repeatable,
                MaybeRetry::Idempotent,
                MaybeRetry::Always,
            ])
        });
        let refuse_when_full = entropy.chance(20);
        Wish { commands, shape, options: Options { deadline, maybe_retry, refuse_when_full } }
    }

    /// Draws one that waits at the server, alone or in a pipeline.
    pub fn draw_waiting(entropy: &mut Entropy, ids: &mut u64) -> Self {
        let mut wish = Wish::draw(entropy, ids);
        if wish.shape == Shape::Whole {
            wish.shape = Shape::One;
            wish.commands.truncate(1);
        }
        let at = entropy.below(wish.commands.len() as u64) as usize;
        let alone = wish.commands.len() == 1;
        let limited = wish.options.deadline.is_some();
        // Who waits for ever has said when he has had enough.
        let for_ever = alone && limited && wish.shape == Shape::One && entropy.chance(20);
        let wait = if for_ever { "0".to_owned() } else { draw_wait(entropy) };
        *ids += 1;
        wish.commands[at] = Command::draw_blocking(entropy, *ids, &wait);
        if wish.shape == Shape::One && entropy.chance(40) && !for_ever {
            wish.options.deadline = None;
        }
        wish
    }

    /// The pipeline or transaction to be submitted.
    #[must_use]
    pub fn batch(&self) -> Batch {
        let mut batch = Batch::new();
        for command in &self.commands {
            batch.push(&command.request());
        }
        let batch = batch.options(self.options);
        if self.shape == Shape::Whole { batch.into_transaction() } else { batch }
    }
}

/// How long to wait, in seconds.
fn draw_wait(entropy: &mut Entropy) -> String {
    format!("{}.{:03}", entropy.below(2), entropy.between(1, 999))
}
