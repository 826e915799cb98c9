//! The modelled server: it parses what it gets, answers, and keeps a ledger of all it did.

//!
//! It is one process at a time: a restart gives another one, which knows no script and no session, has an
//! order of its own for scans, and may have the data of the one before it or not.

mod conduct;
mod data;
mod refusals;
mod requests;
mod streams;
mod topics;
mod waiting;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use unfazed_core::{
    pubsub::TopicKind,
    resp::{Protocol, Value},
};

use crate::cluster::Member;

pub use conduct::{database_of, holder_in, key_of, roams};
pub use data::{Data, FIELDS_KEY, KEYS, MEMBERS_KEY, PASSING_MEMBER, is_write, members};
pub use refusals::Condition;
pub use requests::canonical;
pub use streams::{GROUP, STREAM, Stream, written};
pub use topics::{Published, told_apart};
pub use waiting::is_blocking;

use conduct::{Conduct, User};
use waiting::{Tried, Waiting};

/// What the server remembers of one command line (its words with spaces between them).
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// How often it was carried out.
    pub executed: u32,
    /// How often of that it was a pop that found nothing, which is as if it had not been.
    pub empty: u32,
    /// When it was carried out last.
    pub last: u64,
    /// How often it was only queued.
    pub queued: u32,
    /// How often of that inside of a transaction.
    pub in_blocks: u32,
    /// Every answer to it, and when it was given.
    pub answers: Vec<(u64, Value)>,
    /// How it was carried out for the first time.
    pub first: Option<First>,
    /// It was answered with an error that does not send it elsewhere, so that it may have gone again later.
    pub refused: bool,
    /// The node of a cluster that sent it elsewhere with ASK, since its key was gone from there.
    pub asked_by: Option<usize>,
    /// The connections on which it was sent elsewhere with MOVED.
    pub moved_on: BTreeSet<u64>,
}

/// How a command line was carried out for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// When.
    pub seq: u64,
    /// By which node of a cluster.
    pub node: usize,
    /// On which connection.
    pub link: u64,
    /// The client had given that connection up.
    pub given_up: bool,
}

/// What came to the server between MULTI and EXEC, on one connection.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// The command lines, in order.
    pub lines: Vec<String>,
    /// How many of them were carried out.
    pub executed: usize,
}

/// What the server thinks of one connection.
#[derive(Debug, Default)]
pub struct Session {
    resp3: bool,
    authenticated: bool,
    pending: Vec<u8>,
    /// What it is subscribed to.
    topics: BTreeSet<(TopicKind, String)>,
    /// What came since MULTI.
    multi: Option<Multi>,
    /// What comes next is let through though its slot is another node's.
    pub(crate) asking: bool,
    link: u64,
    given_up: bool,
    conduct: Conduct,
}

impl Session {
    /// Between MULTI and EXEC.
    pub(crate) fn is_in_multi(&self) -> bool {
        self.multi.is_some()
    }
}

/// Where a server that is started has its data from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From its own disk, all of it.
    Disk,
    /// It was a replica, and has all of it.
    Replica,
    /// Nowhere.
    Empty,
    /// What it had, and others' keys beside.
    Other,
}

/// What is queued until EXEC.
#[derive(Debug, Default)]
struct Multi {
    commands: Vec<Vec<String>>,
    lines: Vec<String>,
    /// One of them was refused.
    dirty: bool,
    /// Whose the first of them was.
    by: Option<User>,
}

/// What is to happen on a connection after bytes were processed.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// The replies, each whole.
    pub frames: Vec<Vec<u8>>,
    /// What was asked and answered, where somebody listens.
    pub told: Vec<String>,
    /// The server ends the connection.
    pub hang_up: bool,
    /// It got something that is no command.
    pub fault: Option<String>,
}

/// One server, up or down.
#[derive(Debug, Default)]
pub struct Server {
    /// Whether anybody listens.
    pub up: bool,
    /// Stopped, as by SIGSTOP: the kernel still accepts connections and bytes.
    pub paused: bool,
    /// Answers everything with LOADING.
    pub loading: bool,
    /// Answers writes with READONLY.
    pub readonly: bool,
    /// Answers a passing condition to everything: TRYAGAIN and the like.
    pub busy: bool,
    /// Refuses some of what it is asked.
    pub condition: Option<Condition>,
    /// Lets no further client in.
    pub crowded: bool,
    /// Refuses the password.
    pub locked: bool,
    /// Knows neither HELLO nor RESP3.
    pub resp2: bool,
    /// Ends the stream at HELLO, as some proxies do.
    pub hangs_up_at_hello: bool,
    /// What it wants to be told.
    pub password: Option<String>,
    /// Somebody listens to what it is asked and answers.
    pub tells: bool,
    /// Lets nobody subscribe to this channel.
    pub denied: Option<String>,
    /// The slot of this shard channel is another node's.
    pub moved: Option<String>,
    /// Refuses to unsubscribe whoever is subscribed to nothing, as Valkey 8.0 does.
    pub refuses_unsubscribe: bool,
    /// How many messages each node has had for those who listen on a channel there.
    pub published: Published,
    /// How often it was subscribed to anything, and how often that was refused.
    pub subscribed: (u64, u64),
    /// Which process this is.
    pub run: u64,
    /// Whose history it goes on with: that of the process of this number.
    pub history: u64,
    /// It was up for long before it took over.
    pub promoted: bool,
    /// It knows the one script of this world.
    pub knows_script: bool,
    /// How often it did not.
    pub scripts_unknown: u64,
    /// How many replies it gave.
    pub answered: u64,
    /// How often it refused a command for now.
    pub refused: u64,
    /// How often it knew no HELLO.
    pub hello_refused: u64,
    /// How many commands were carried out that had been carried out before.
    pub repeated: u64,
    data: BTreeMap<Vec<u8>, (Data, Option<u64>)>,
    /// When data were lost, or others came in their place.
    pub wiped_at: Option<u64>,
    /// Keys that were written over connections that the client had long given up.
    pub haunted: BTreeSet<String>,
    sessions: BTreeMap<u64, Session>,
    /// What it knows of its cluster, if it belongs to one.
    pub member: Option<Member>,
    /// By command line.
    pub ledger: BTreeMap<String, Ledger>,
    /// What was popped, by the line of the command that did it.
    pub popped: BTreeMap<String, Vec<String>>,
    /// The database that all use who have not selected one of their own.
    pub database: u64,
    /// What somebody met on a connection that another has left behind: the number of what is broken, and
    /// the words.
    pub trespasses: Vec<(u8, String)>,
    /// How often a connection went from one who held it to another.
    pub reused: u64,
    /// On which connection each holder is.
    held_on: BTreeMap<u64, u64>,
    /// How often each key was written or has expired.
    versions: BTreeMap<String, u64>,
    /// How many transactions came to nothing because of a watched key.
    pub conflicts: u64,
    /// All entries that were ever added to a stream.
    pub added: BTreeMap<String, String>,
    /// All that were ever acknowledged.
    pub acknowledged: BTreeSet<String>,
    waiting: Vec<Waiting>,
    /// When it looks at the clock next, because of those who wait.
    pub looks_at: Option<Duration>,
    /// Whose wait is over, and what they are answered.
    woken: Vec<(u64, Value)>,
    /// The transactions that came to their EXEC and were not looked at.
    pub blocks: Vec<Block>,
    /// How many commands were carried out twice on purpose, and the like.
    pub tampering: Tampering,
}

/// Which deliberate faults this server has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tampering {
    /// Carries writes out twice.
    pub execute_twice: bool,
    /// Answers writes without carrying them out.
    pub lie: bool,
    /// Does not delete what recovery asks it to.
    pub keep_deleted: bool,
    /// Swaps two replies.
    pub swap: bool,
    /// Says that it wrote what it did not, to keys whose last state is to be kept.
    pub lose_replays: bool,
    /// Does not add what is to be added, to keys to which things are added.
    pub lose_merges: bool,
    /// Adds it twice.
    pub merge_twice: bool,
    /// Carries out only a part of a transaction.
    pub half_exec: bool,
    /// Says of what was popped that there was nothing.
    pub lose_pops: bool,
    /// Carries transactions out whatever was written to what they watch.
    pub ignore_watch: bool,
    /// Tells nobody of some entries of streams.
    pub lose_entries: bool,
}

/// The wall clock of the server, and the order of all that happens.
#[derive(Clone, Copy, Debug)]
pub struct When {
    /// Milliseconds since the epoch.
    pub unix: u64,
    /// Counts everything.
    pub seq: u64,
}

impl Server {
    /// A process that was just started for the first time.
    #[must_use]
    pub fn new() -> Self {
        let mut server = Server::default();
        server.keep_members();
        server
    }

    /// Another one like it, with nothing to remember.
    pub(crate) fn twin(&self) -> Server {
        let mut twin = Server::new();
        (twin.up, twin.resp2, twin.hangs_up_at_hello) =
            (self.up, self.resp2, self.hangs_up_at_hello);
        (twin.password, twin.tampering) = (self.password.clone(), self.tampering);
        (twin.refuses_unsubscribe, twin.tells) = (self.refuses_unsubscribe, self.tells);
        twin
    }

    /// Begins a connection.
    pub fn accept(&mut self, link: u64) {
        let mut session = Session { link, ..Session::default() };
        session.conduct.database = self.database;
        self.sessions.insert(link, session);
    }

    /// Forgets a connection.
    pub fn forget(&mut self, link: u64) {
        self.sessions.remove(&link);
        self.waiting.retain(|waiting| waiting.link() != link);
    }

    /// Dies: all connections are gone.
    pub fn die(&mut self) {
        self.up = false;
        self.paused = false;
        self.sessions.clear();
        self.waiting.clear();
    }

    /// Another one comes in its place: with its data, without, with other data, or one that has followed it
    /// all the time and has what it had.
    pub fn start(&mut self, origin: Origin, when: When) {
        self.up = true;
        self.run += 1;
        self.knows_script = false;
        let other = origin == Origin::Other;
        self.promoted = origin == Origin::Replica;
        if !self.promoted {
            self.history = self.run;
        }
        if matches!(origin, Origin::Empty | Origin::Other) {
            self.wiped_at = Some(when.seq);
            self.versions.values_mut().for_each(|version| *version += 1);
        }
        if origin == Origin::Empty {
            self.lose_all();
        }
        if other {
            for key in ["cache:0", "cache:1", "miss:0", "wallet:0"] {
                let value = format!("{key}=x{};", when.seq);
                self.data.insert(key.into(), (Data::Text(value.into_bytes()), None));
            }
        }
    }

    /// Another process of the same deployment keeps the books from now on: what clients were told and what
    /// was carried out is one story, whoever did it.
    pub(crate) fn hand_books_to(&mut self, next: &mut Server) {
        std::mem::swap(&mut self.ledger, &mut next.ledger);
        std::mem::swap(&mut self.blocks, &mut next.blocks);
        std::mem::swap(&mut self.haunted, &mut next.haunted);
        std::mem::swap(&mut self.held_on, &mut next.held_on);
        std::mem::swap(&mut self.popped, &mut next.popped);
        std::mem::swap(&mut self.conflicts, &mut next.conflicts);
        std::mem::swap(&mut self.reused, &mut next.reused);
        std::mem::swap(&mut self.published, &mut next.published);
        std::mem::swap(&mut self.subscribed, &mut next.subscribed);
        std::mem::swap(&mut self.wiped_at, &mut next.wiped_at);
        std::mem::swap(&mut self.scripts_unknown, &mut next.scripts_unknown);
        std::mem::swap(&mut self.answered, &mut next.answered);
        std::mem::swap(&mut self.refused, &mut next.refused);
        std::mem::swap(&mut self.hello_refused, &mut next.hello_refused);
        std::mem::swap(&mut self.repeated, &mut next.repeated);
    }

    /// What this connection's user is known for is forgotten, as by ACL SETUSER.
    pub fn sign_out(&mut self) {
        self.sessions.values_mut().for_each(|session| session.authenticated = false);
    }

    /// Whether a connection speaks RESP3, so that pushes may come on it.
    #[must_use]
    pub fn speaks_resp3(&self, link: u64) -> bool {
        self.sessions.get(&link).is_some_and(|session| session.resp3)
    }

    /// Takes bytes in and carries out the whole commands among them. The client may have given the
    /// connection up.
    pub fn receive(
        &mut self,
        link: u64,
        bytes: &[u8],
        when: &mut When,
        given_up: bool,
    ) -> Outgoing {
        let mut out = Outgoing::default();
        let Some(mut session) = self.sessions.remove(&link) else { return out };
        session.pending.extend_from_slice(bytes);
        session.given_up = given_up;
        let mut values = Vec::new();
        while !self.waits(link) {
            match parse(&session.pending) {
                Ok(None) => break,
                Ok(Some((words, used))) => {
                    session.pending.drain(..used);
                    when.seq += 1;
                    if given_up {
                        self.haunted.extend(words[1..].iter().cloned());
                    }
                    let was_resp3 = session.resp3;
                    match self.topics_command(&mut session, &words) {
                        Ok(None) => {}
                        Ok(Some(all)) => {
                            values.extend(all.into_iter().map(|value| (value, was_resp3, false)));
                            continue;
                        }
                        Err(fault) => {
                            out.fault = Some(fault);
                            out.hang_up = true;
                            break;
                        }
                    }
                    let tried = self.answer(link, &mut session, &words, *when);
                    self.serve_waiting(*when);
                    let resp3 = was_resp3 || session.resp3;
                    let value = match tried {
                        Tried::Answered(value) if resp3 => value,
                        Tried::Answered(value) => streams::in_resp2(&words[0], value),
                        Tried::Waits => break,
                        Tried::HangUp => {
                            out.hang_up = true;
                            break;
                        }
                    };
                    if self.tells {
                        out.told.push(format!("{} => {value:?}", words.join(" ")));
                    }
                    let own = ["HELLO", "AUTH", "CLIENT", "SELECT"];
                    let user = !own.contains(&words[0].as_str());
                    values.push((value, resp3, user));
                }
                Err(fault) => {
                    out.fault = Some(fault);
                    out.hang_up = true;
                    break;
                }
            }
        }
        let last = values.len().saturating_sub(1);
        if self.tampering.swap && last > 0 && values[last - 1].2 && values[last].2 {
            values.swap(last - 1, last);
        }
        for (value, resp3, _) in values {
            let mut frame = Vec::new();
            value.encode(&mut frame, if resp3 { Protocol::Resp3 } else { Protocol::Resp2 });
            out.frames.push(frame);
            self.answered += 1;
        }
        self.sessions.insert(link, session);
        out
    }
}

pub(crate) fn bulk(text: &str) -> Value {
    Value::Bulk(Bytes::copy_from_slice(text.as_bytes()))
}

/// The first whole command, and how many bytes it took.
///
/// # Errors
///
/// When the bytes are no array of bulk strings.
pub fn parse(bytes: &[u8]) -> Result<Option<(Vec<String>, usize)>, String> {
    let mut at = 0;
    let header = |at: &mut usize, kind: u8| -> Result<Option<usize>, String> {
        let rest = &bytes[*at..];
        let Some(&first) = rest.first() else { return Ok(None) };
        if first != kind {
            return Err(format!("expected {:?} and got {:?}", char::from(kind), shown(rest)));
        }
        let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else {
            return if rest.len() > 20 { Err(shown(rest)) } else { Ok(None) };
        };
        let number = std::str::from_utf8(&rest[1..end]).ok().and_then(|text| text.parse().ok());
        *at += end + 2;
        number.map(Some).ok_or_else(|| shown(rest))
    };
    let Some(count) = header(&mut at, b'*')? else { return Ok(None) };
    let mut words = Vec::new();
    for _ in 0..count {
        let Some(length) = header(&mut at, b'$')? else { return Ok(None) };
        let Some(word) = bytes.get(at..at + length + 2) else { return Ok(None) };
        if !word.ends_with(b"\r\n") {
            return Err(shown(word));
        }
        words.push(String::from_utf8_lossy(&word[..length]).into_owned());
        at += length + 2;
    }
    if words.is_empty() { Err("an empty command".into()) } else { Ok(Some((words, at))) }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).escape_debug().to_string()
}
