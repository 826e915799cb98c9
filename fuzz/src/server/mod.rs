//! The modelled server: it parses what it gets, answers, and keeps a ledger of all it did.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use unfazed_core::{
    fallback::glob,
    pubsub::TopicKind,
    resp::{Protocol, Value},
    slot::slot,
};

/// What the server remembers of one command line (its words with spaces between them).
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// How often it was carried out.
    pub executed: u32,
    /// When it was carried out last.
    pub last: u64,
    /// How often of that inside of a transaction.
    pub in_blocks: u32,
    /// Every answer to it, and when it was given.
    pub answers: Vec<(u64, Value)>,
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
}

/// A value at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// A string.
    Text(Vec<u8>),
    /// A set.
    Set(BTreeSet<String>),
    /// A list.
    List(Vec<String>),
}

/// What is queued until EXEC.
#[derive(Debug, Default)]
struct Multi {
    commands: Vec<Vec<String>>,
    lines: Vec<String>,
    /// One of them was refused.
    dirty: bool,
}

/// What is to happen on a connection after bytes were processed.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// The replies, each whole.
    pub frames: Vec<Vec<u8>>,
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
    /// Refuses the password.
    pub locked: bool,
    /// Knows neither HELLO nor RESP3.
    pub resp2: bool,
    /// Ends the stream at HELLO, as some proxies do.
    pub hangs_up_at_hello: bool,
    /// What it wants to be told.
    pub password: Option<String>,
    /// Lets nobody subscribe to this channel.
    pub denied: Option<String>,
    /// The slot of this shard channel is another node's.
    pub moved: Option<String>,
    /// Refuses to unsubscribe whoever is subscribed to nothing, as Valkey 8.0 does.
    pub refuses_unsubscribe: bool,
    /// How many messages were published on each channel.
    pub published: BTreeMap<(TopicKind, String), u64>,
    /// How often it was subscribed to anything, and how often that was refused.
    pub subscribed: (u64, u64),
    /// Which process this is, and which data set.
    pub run: u64,
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
    /// By command line.
    pub ledger: BTreeMap<String, Ledger>,
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
    /// Begins a connection.
    pub fn accept(&mut self, link: u64) {
        self.sessions.insert(link, Session::default());
    }

    /// Forgets a connection.
    pub fn forget(&mut self, link: u64) {
        self.sessions.remove(&link);
    }

    /// Dies: all connections are gone.
    pub fn die(&mut self) {
        self.up = false;
        self.paused = false;
        self.sessions.clear();
    }

    /// Comes back: with its data, without, or with other data.
    pub fn start(&mut self, keeps: bool, other: bool, when: When) {
        self.up = true;
        self.run += 1;
        if !keeps || other {
            self.wiped_at = Some(when.seq);
        }
        if !keeps {
            self.data.clear();
        }
        if other {
            for key in ["cache:0", "cache:1", "miss:0", "wallet:0"] {
                let value = format!("{key}=x{};", when.seq);
                self.data.insert(key.into(), (Data::Text(value.into_bytes()), None));
            }
        }
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
        let mut values = Vec::new();
        loop {
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
                    let Some(value) = self.answer(&mut session, &words, *when) else {
                        out.hang_up = true;
                        break;
                    };
                    let resp3 = was_resp3 || session.resp3;
                    let user = !matches!(words[0].as_str(), "HELLO" | "AUTH" | "CLIENT" | "SELECT");
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

    // ---- subscriptions -------------------------------------------------------------------------

    /// Subscribes, unsubscribes, and answers what may be asked in between: one value for each topic.
    /// Nothing where it is another command; a fault where no client should send it.
    fn topics_command(
        &mut self,
        session: &mut Session,
        words: &[String],
    ) -> Result<Option<Vec<Value>>, String> {
        let name = words[0].to_ascii_uppercase();
        let (kind, adds) = match name.as_str() {
            "SUBSCRIBE" => (TopicKind::Channel, true),
            "PSUBSCRIBE" => (TopicKind::Pattern, true),
            "SSUBSCRIBE" => (TopicKind::Shard, true),
            "UNSUBSCRIBE" => (TopicKind::Channel, false),
            "PUNSUBSCRIBE" => (TopicKind::Pattern, false),
            "SUNSUBSCRIBE" => (TopicKind::Shard, false),
            "PING" if !session.resp3 && !session.topics.is_empty() => {
                return Ok(Some(vec![Value::Array(vec![bulk("pong"), bulk("")])]));
            }
            _ if !session.resp3 && !session.topics.is_empty() => {
                return Err(format!("{name} where only subscriptions may be"));
            }
            _ => return Ok(None),
        };
        let names = &words[1..];
        if names.is_empty() {
            return Err(format!("a bare {name}"));
        }
        let slots: BTreeSet<u16> = names.iter().map(|name| slot(name.as_bytes())).collect();
        if kind == TopicKind::Shard && slots.len() > 1 {
            return Err(format!("{name} of several slots"));
        }
        if self.password.is_some() && !session.authenticated {
            return Ok(Some(vec![Value::error("NOAUTH Authentication required.")]));
        }
        let refusal = if kind == TopicKind::Shard && names.iter().any(|it| self.has_moved(it)) {
            Some("MOVED 1 10.0.0.9:6379")
        } else if adds && names.iter().any(|name| self.denied.as_ref() == Some(name)) {
            Some("NOPERM no permissions to access one of the channels")
        } else if !adds && self.refuses_unsubscribe && session.topics.is_empty() {
            Some("NOSUB not subscribed")
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.subscribed.1 += 1;
            return Ok(Some(vec![Value::error(refusal)]));
        }
        let confirmed = names.iter().map(|name| {
            let topic = (kind, name.clone());
            if adds {
                session.topics.insert(topic);
            } else {
                session.topics.remove(&topic);
            }
            changed(kind, adds, name, session.topics.len())
        });
        let confirmed = confirmed.collect();
        self.subscribed.0 += u64::from(adds);
        Ok(Some(confirmed))
    }

    fn has_moved(&self, name: &str) -> bool {
        let moved = self.moved.as_ref();
        moved.is_some_and(|moved| slot(moved.as_bytes()) == slot(name.as_bytes()))
    }

    /// Publishes the next message on a channel: its number. Gives what goes to whom.
    pub fn publish(&mut self, kind: TopicKind, channel: &str) -> Vec<(u64, Vec<u8>)> {
        let count = self.published.entry((kind, channel.to_owned())).or_default();
        let payload = format!("{channel}={count}");
        *count += 1;
        let mut sent = Vec::new();
        for (link, session) in &self.sessions {
            for (of, name) in &session.topics {
                let words: Vec<&str> = match (of, kind) {
                    (TopicKind::Channel, TopicKind::Channel) if name == channel => {
                        vec!["message", channel, &payload]
                    }
                    (TopicKind::Shard, TopicKind::Shard) if name == channel => {
                        vec!["smessage", channel, &payload]
                    }
                    (TopicKind::Pattern, TopicKind::Channel)
                        if glob::matches(name.as_bytes(), channel.as_bytes()) =>
                    {
                        vec!["pmessage", name, channel, &payload]
                    }
                    _ => continue,
                };
                let value = Value::Push(words.into_iter().map(bulk).collect());
                sent.push((*link, session.frame(&value)));
            }
        }
        sent
    }

    /// Takes topics from whoever has them, without having been asked to. Gives what goes to whom.
    pub fn take_away(&mut self, which: impl Fn(TopicKind, &str) -> bool) -> Vec<(u64, Vec<u8>)> {
        let mut sent = Vec::new();
        for (link, session) in &mut self.sessions {
            let all = std::mem::take(&mut session.topics);
            let (gone, kept) = all.into_iter().partition(|(kind, name)| which(*kind, name));
            session.topics = kept;
            let gone: BTreeSet<(TopicKind, String)> = gone;
            for (kind, name) in gone {
                let value = changed(kind, false, &name, session.topics.len());
                sent.push((*link, session.frame(&value)));
            }
        }
        sent
    }

    /// Forgets a subscription and says nothing: a deliberate fault.
    pub fn forget_topic(&mut self) {
        for session in self.sessions.values_mut() {
            session.topics.pop_first();
        }
    }

    /// All that anybody is subscribed to on a connection that is `alive`, once for each connection.
    #[must_use]
    pub fn topics(&self, alive: impl Fn(u64) -> bool) -> Vec<(TopicKind, String)> {
        let sessions = self.sessions.iter().filter(|(link, _)| alive(**link));
        let mut all: Vec<_> = sessions.flat_map(|(_, session)| session.topics.clone()).collect();
        all.sort();
        all
    }

    /// Whether a connection is subscribed to anything.
    #[must_use]
    pub fn is_subscribed(&self, link: u64) -> bool {
        self.sessions.get(&link).is_some_and(|session| !session.topics.is_empty())
    }

    // ---- requests ------------------------------------------------------------------------------

    fn answer(&mut self, session: &mut Session, words: &[String], when: When) -> Option<Value> {
        let line = words.join(" ");
        let name = words[0].to_ascii_uppercase();
        if name == "HELLO" && self.hangs_up_at_hello {
            self.hello_refused += 1;
            return None;
        }
        let value = match self.session_command(session, &name, words) {
            Some(value) => value,
            None if name == "MULTI" || name == "EXEC" || session.multi.is_some() => {
                return Some(self.transact(session, &name, words, when));
            }
            None => self.run(&name, words, when),
        };
        let entry = self.ledger.entry(line).or_default();
        entry.answers.push((when.seq, value.clone()));
        Some(value)
    }

    /// MULTI, EXEC and what comes in between.
    fn transact(
        &mut self,
        session: &mut Session,
        name: &str,
        words: &[String],
        when: When,
    ) -> Value {
        match (name, session.multi.take()) {
            ("MULTI", None) => {
                session.multi = Some(Multi::default());
                Value::OK
            }
            ("EXEC", Some(multi)) => self.exec(multi, when),
            ("EXEC", None) => Value::error("ERR EXEC without MULTI"),
            (_, None) => unreachable!("only asked in a transaction"),
            (_, Some(mut multi)) => {
                multi.lines.push(words.join(" "));
                let refusal = if name == "MULTI" {
                    Some("ERR MULTI calls can not be nested")
                } else {
                    self.refusal(name)
                };
                let value = match refusal {
                    Some(text) => {
                        self.refused += u64::from(!text.starts_with("ERR"));
                        multi.dirty = true;
                        Value::error(text)
                    }
                    None => {
                        multi.commands.push(words.to_vec());
                        Value::Simple("QUEUED".into())
                    }
                };
                session.multi = Some(multi);
                value
            }
        }
    }

    fn exec(&mut self, multi: Multi, when: When) -> Value {
        let Multi { commands, lines, dirty } = multi;
        let name = |words: &Vec<String>| words[0].to_ascii_uppercase();
        let refusal = commands.iter().find_map(|words| self.refusal(&name(words)));
        let mut executed = 0;
        let value = match refusal {
            _ if dirty => {
                Value::error("EXECABORT Transaction discarded because of previous errors.")
            }
            Some(text) => {
                self.refused += 1;
                Value::error(format!("EXECABORT Transaction discarded because of: {text}"))
            }
            None => {
                let half = self.tampering.half_exec && commands.len() > 1;
                executed = if half { commands.len() / 2 } else { commands.len() };
                let mut values = Vec::new();
                for (at, words) in commands.iter().enumerate() {
                    let value = match at < executed {
                        true => self.run(&name(words), words, when),
                        false => Value::OK,
                    };
                    let entry = self.ledger.entry(words.join(" ")).or_default();
                    entry.in_blocks += u32::from(at < executed);
                    entry.answers.push((when.seq, value.clone()));
                    values.push(value);
                }
                Value::Array(values)
            }
        };
        self.blocks.push(Block { lines, executed });
        value
    }

    /// Carries a command out, unless it is refused.
    fn run(&mut self, name: &str, words: &[String], when: When) -> Value {
        let line = words.join(" ");
        if let Some(text) = self.refusal(name) {
            self.refused += u64::from(!text.starts_with("ERR"));
            return Value::error(text);
        }
        let key = words.get(1).map_or("", String::as_str);
        let Tampering { lose_replays, lose_merges, merge_twice, .. } = self.tampering;
        let lost = lose_replays && is_write(name) && key.starts_with("last:");
        let lost = lost || (lose_merges && is_write(name) && key.starts_with("sum:n"));
        let entry = self.ledger.entry(line.clone()).or_default();
        self.repeated += u64::from(entry.executed > 0 && line.contains('='));
        entry.executed += u32::from(!(lost && lose_merges));
        entry.last = when.seq;
        let value = if lost { self.pretend(name) } else { self.execute(name, words, when) };
        let again = self.tampering.execute_twice && is_write(name);
        let again = again || (merge_twice && is_write(name) && key.starts_with("sum:n"));
        let entry = self.ledger.entry(line).or_default();
        if again && !matches!(value, Value::Error(_)) {
            entry.executed += 1;
            self.execute(name, words, when);
        } else if self.tampering.lie && is_write(name) {
            entry.executed = 0;
        }
        value
    }

    /// What a command that was not carried out is answered all the same.
    fn pretend(&self, name: &str) -> Value {
        if matches!(name, "SET" | "MSET") { Value::OK } else { Value::Integer(1) }
    }

    /// What is at a key; nothing where it has expired.
    #[must_use]
    pub fn peek(&self, key: &str, unix: u64) -> Option<&Data> {
        let (data, expiry) = self.data.get(key.as_bytes())?;
        expiry.is_none_or(|at| at > unix).then_some(data)
    }

    /// What is answered whatever the state of the data.
    fn session_command(
        &mut self,
        session: &mut Session,
        name: &str,
        words: &[String],
    ) -> Option<Value> {
        let password = |at: usize| {
            let given = words.get(at).map(String::as_str);
            given == self.password.as_deref() && !self.locked
        };
        match name {
            "HELLO" if self.resp2 => {
                self.hello_refused += 1;
                return Some(Value::error(
                    "ERR unknown command 'HELLO', with args beginning with:",
                ));
            }
            "HELLO" => {
                if words.get(2).is_some_and(|word| word == "AUTH") {
                    if !password(4) {
                        return Some(Value::error("WRONGPASS invalid username-password pair"));
                    }
                    session.authenticated = true;
                }
                if self.password.is_some() && !session.authenticated {
                    return Some(Value::error("NOAUTH HELLO must be called with authentication"));
                }
                session.resp3 = true;
                let pair = |key: &'static str, value: Value| {
                    (Value::Bulk(Bytes::from_static(key.as_bytes())), value)
                };
                let version = Value::Bulk(Bytes::from_static(b"7.2.0"));
                return Some(Value::Map(vec![
                    pair("version", version),
                    pair("proto", Value::Integer(3)),
                ]));
            }
            "AUTH" => {
                if !password(words.len() - 1) {
                    return Some(Value::error("WRONGPASS invalid username-password pair"));
                }
                session.authenticated = true;
                return Some(Value::OK);
            }
            _ => {}
        }
        if self.password.is_some() && !session.authenticated {
            return Some(Value::error("NOAUTH Authentication required."));
        }
        match name {
            "CLIENT" | "SELECT" => Some(Value::OK),
            "ROLE" => {
                let role = if self.readonly { "slave" } else { "master" };
                Some(Value::Array(vec![bulk(role), Value::Integer(0)]))
            }
            "INFO" => {
                let text = format!("run_id:{0}\r\nmaster_replid:r{0}\r\n", self.run);
                Some(bulk(&text))
            }
            _ => None,
        }
    }

    fn refusal(&self, name: &str) -> Option<&'static str> {
        if self.loading {
            return Some("LOADING Redis is loading the dataset in memory");
        }
        match name {
            "PING" | "ECHO" | "GET" | "MGET" | "PTTL" | "EXISTS" | "SMEMBERS" | "LRANGE" => {
                (self.busy && name != "PING").then_some("TRYAGAIN passing condition")
            }
            name if is_write(name) => match () {
                () if self.readonly => {
                    Some("READONLY You can't write against a read only replica.")
                }
                () if self.busy => Some("NOREPLICAS Not enough good replicas to write."),
                () => None,
            },
            _ => Some("ERR unknown command 'NOSUCH', with args beginning with: "),
        }
    }

    fn execute(&mut self, name: &str, words: &[String], when: When) -> Value {
        let key = || words[1].clone().into_bytes();
        self.data.retain(|_, (_, expiry)| expiry.is_none_or(|at| at > when.unix));
        let wrong = Value::error(WRONG_TYPE);
        if words.get(1).is_some_and(|key| key.ends_with(":list")) {
            return wrong;
        }
        let lies = self.tampering.lie && is_write(name);
        match name {
            "PING" => words.get(1).map_or(Value::Simple("PONG".into()), |text| bulk(text)),
            "GET" => self.get(&words[1]),
            "MGET" => Value::Array(words[1..].iter().map(|key| self.get(key)).collect()),
            "EXISTS" => Value::Integer(self.data.contains_key(words[1].as_bytes()).into()),
            "SMEMBERS" => match self.data.get(words[1].as_bytes()) {
                None => Value::Set(Vec::new()),
                Some((Data::Set(members), _)) => {
                    Value::Set(members.iter().map(|member| bulk(member)).collect())
                }
                Some(_) => wrong,
            },
            "LRANGE" => match self.data.get(words[1].as_bytes()) {
                None => Value::Array(Vec::new()),
                Some((Data::List(items), _)) => {
                    Value::Array(items.iter().map(|item| bulk(item)).collect())
                }
                Some(_) => wrong,
            },
            _ if lies => Value::OK,
            "SET" => {
                let expiry = match words.get(3).map(String::as_str) {
                    Some("PX") => words[4].parse().ok().map(|span: u64| when.unix + span),
                    _ => None,
                };
                self.data.insert(key(), (Data::Text(words[2].clone().into_bytes()), expiry));
                Value::OK
            }
            "MSET" => {
                for pair in words[1..].chunks(2) {
                    let (key, value) = (pair[0].clone(), pair[1].clone());
                    self.data.insert(key.into_bytes(), (Data::Text(value.into_bytes()), None));
                }
                Value::OK
            }
            "DEL" => {
                let present =
                    words[1..].iter().filter(|key| self.data.contains_key(key.as_bytes()));
                let count = present.count();
                if !(self.tampering.keep_deleted && words.len() == 2) {
                    words[1..].iter().for_each(|key| drop(self.data.remove(key.as_bytes())));
                }
                Value::Integer(count as i64)
            }
            "INCR" | "INCRBY" => {
                let by = words.get(2).and_then(|word| word.parse().ok()).unwrap_or(1);
                let empty = || (Data::Text(b"0".to_vec()), None);
                let (Data::Text(text), _) = self.data.entry(key()).or_insert_with(empty) else {
                    return wrong;
                };
                let before: i64 =
                    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
                *text = (before + by).to_string().into_bytes();
                Value::Integer(before + by)
            }
            // The one script of this world does what APPEND does.
            "APPEND" | "EVAL" => {
                let [.., key, more] = words else { return wrong };
                let empty = || (Data::Text(Vec::new()), None);
                let entry = self.data.entry(key.clone().into_bytes()).or_insert_with(empty);
                let (Data::Text(text), _) = entry else { return wrong };
                text.extend_from_slice(more.as_bytes());
                Value::Integer(text.len() as i64)
            }
            "SADD" => {
                let empty = || (Data::Set(BTreeSet::new()), None);
                let (Data::Set(members), _) = self.data.entry(key()).or_insert_with(empty) else {
                    return wrong;
                };
                let before = members.len();
                members.extend(words[2..].iter().cloned());
                Value::Integer((members.len() - before) as i64)
            }
            "RPUSH" => {
                let empty = || (Data::List(Vec::new()), None);
                let (Data::List(items), _) = self.data.entry(key()).or_insert_with(empty) else {
                    return wrong;
                };
                items.extend(words[2..].iter().cloned());
                Value::Integer(items.len() as i64)
            }
            "PEXPIRE" => match self.data.get_mut(words[1].as_bytes()) {
                Some(entry) => {
                    entry.1 = words[2].parse().ok().map(|span: u64| when.unix + span);
                    Value::Integer(1)
                }
                None => Value::Integer(0),
            },
            "PERSIST" => match self.data.get_mut(words[1].as_bytes()) {
                Some(entry) => Value::Integer(entry.1.take().is_some().into()),
                None => Value::Integer(0),
            },
            "PTTL" => match self.data.get(words[1].as_bytes()) {
                Some((_, Some(at))) => Value::Integer((at - when.unix) as i64),
                Some((_, None)) => Value::Integer(-1),
                None => Value::Integer(-2),
            },
            _ => unreachable!("refused before"),
        }
    }

    fn get(&self, key: &str) -> Value {
        match self.data.get(key.as_bytes()) {
            None => Value::Null,
            Some((Data::Text(text), _)) => Value::Bulk(text.clone().into()),
            Some(_) => Value::error(WRONG_TYPE),
        }
    }
}

impl Session {
    fn frame(&self, value: &Value) -> Vec<u8> {
        let mut frame = Vec::new();
        value.encode(&mut frame, if self.resp3 { Protocol::Resp3 } else { Protocol::Resp2 });
        frame
    }
}

/// That a topic was added or dropped.
fn changed(kind: TopicKind, added: bool, name: &str, count: usize) -> Value {
    let word = match (kind, added) {
        (TopicKind::Channel, true) => "subscribe",
        (TopicKind::Pattern, true) => "psubscribe",
        (TopicKind::Shard, true) => "ssubscribe",
        (TopicKind::Channel, false) => "unsubscribe",
        (TopicKind::Pattern, false) => "punsubscribe",
        (TopicKind::Shard, false) => "sunsubscribe",
    };
    Value::Push(vec![bulk(word), bulk(name), Value::Integer(count as i64)])
}
const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

/// Whether a command changes data.
#[must_use]
pub fn is_write(name: &str) -> bool {
    matches!(
        name,
        "SET"
            | "MSET"
            | "DEL"
            | "INCR"
            | "INCRBY"
            | "APPEND"
            | "EVAL"
            | "PEXPIRE"
            | "PERSIST"
            | "SADD"
            | "RPUSH"
    )
}

fn bulk(text: &str) -> Value {
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
