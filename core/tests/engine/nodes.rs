//! A cluster of scripted nodes: the engine under test, all connections that it has to them, and what they
//! answer by themselves. What else a node says is for each test to say.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use bytes::BytesMut;
use unfazed_core::{
    Cause, Config, Engine, Failure, Now, Request,
    config::Endpoint,
    engine::{ConnId, Health, Input, Output, Target, Ticket},
    reply::FromReply,
    slot::slot,
};

pub(super) const A: u16 = 7001;
pub(super) const B: u16 = 7002;
pub(super) const C: u16 = 7003;

/// One slot each of A, B and C; and a second one of A.
pub(super) const OF_A: &str = "hello";
pub(super) const OF_B: &str = "name";
pub(super) const OF_C: &str = "foo";
pub(super) const ALSO_OF_A: &str = "bar";

/// More steps than any test takes without waiting.
const STEPS_MAX: usize = 100_000;

pub(super) type Words = Vec<String>;

/// The engine, its clock, and the nodes that it talks to.
pub(super) struct World {
    pub(super) engine: Engine<u32>,
    pub(super) now: Now,
    pub(super) events: Vec<String>,
    /// Whatever was dialled, in order.
    pub(super) hosts: Vec<SocketAddr>,
    /// How often nodes were asked to delete what nobody has.
    pub(super) own_probes: usize,
    /// What is to be closed is so when the test says it is.
    pub(super) closes_slowly: bool,
    timer: Option<Instant>,
    nodes: BTreeMap<u16, Node>,
    /// In the order in which they were opened.
    links: Vec<Link>,
    /// What each node says of the cluster, if nothing else was said of it.
    map: String,
}

/// What a node is like.
#[derive(Default)]
pub(super) struct Node {
    pub(super) dials: usize,
    pub(super) refuses: bool,
    /// Which process it says it is, if not the one that it was.
    pub(super) names: Option<String>,
    /// It serves nothing, and says so.
    pub(super) is_down: bool,
    /// Its slots are open for a move: what is not there any more is asked of B.
    pub(super) gives_away: bool,
    /// What it says of the cluster; nothing is no answer at all.
    pub(super) map: String,
}

/// One connection to a node: what was written on it, and what it was asked and has not answered.
pub(super) struct Link {
    pub(super) conn: ConnId,
    pub(super) asked: VecDeque<Words>,
    /// All bytes behind the handshake and the client's own questions.
    pub(super) wrote: String,
    pub(super) port: u16,
    sent: Vec<u8>,
}

impl World {
    pub(super) fn plain() -> Config {
        Config::cluster([Endpoint::tcp("127.0.0.1", A)]).client_info(false)
    }

    pub(super) fn new(config: Config) -> Self {
        let now = Now::new(Instant::now(), SystemTime::now());
        let engine = Engine::new(config, 7, now).expect("a sound configuration");
        World {
            engine,
            now,
            events: Vec::new(),
            hosts: Vec::new(),
            own_probes: 0,
            closes_slowly: false,
            timer: None,
            nodes: BTreeMap::new(),
            links: Vec::new(),
            map: thirds(A, B, C),
        }
    }

    pub(super) fn live(config: Config) -> Self {
        let mut world = World::new(config);
        let ticket = world.engine.connect(None, world.now);
        world.drain();
        assert!(world.engine.take_wait(ticket).expect("connected").is_ok());
        assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
        world
    }

    /// All nodes say this of the cluster from now on.
    pub(super) fn map_all(&mut self, map: &str) {
        map.clone_into(&mut self.map);
        self.nodes.values_mut().for_each(|node| map.clone_into(&mut node.map));
    }

    pub(super) fn peer(&mut self, port: u16) -> &mut Node {
        let new = || Node { map: self.map.clone(), ..Node::default() };
        self.nodes.entry(port).or_insert_with(new)
    }

    /// The connections to a node, in the order in which they were opened: the one that all share comes first.
    pub(super) fn links(&self, port: u16) -> Vec<&Link> {
        self.links.iter().filter(|link| link.port == port).collect()
    }

    /// All connections to all nodes.
    pub(super) fn all_links(&self) -> &[Link] {
        &self.links
    }

    /// What a node was asked on the connection that all share and has not answered, but for the client's own
    /// questions.
    pub(super) fn asked(&self, port: u16) -> Vec<String> {
        self.links(port).first().map(|link| link.asked()).unwrap_or_default()
    }

    /// A node answers the next command that it was asked on the connection that all share.
    #[track_caller]
    pub(super) fn say(&mut self, port: u16, answer: &str) {
        let conn = self.links(port).first().expect("it is connected").conn;
        self.say_on(conn, answer);
    }

    #[track_caller]
    pub(super) fn say_on(&mut self, conn: ConnId, answer: &str) {
        let link = self.link(conn).expect("it is open");
        link.asked.pop_front().expect("it was asked something");
        self.receive(conn, &format!("{answer}\r\n"));
        self.drain();
    }

    pub(super) fn receive(&mut self, conn: ConnId, bytes: &str) {
        let mut inbox = BytesMut::from(bytes.as_bytes());
        self.engine.received(conn, &mut inbox, self.now);
    }

    /// The connection to a node that all share ends.
    #[track_caller]
    pub(super) fn lose(&mut self, port: u16, cause: Cause) {
        let conn = self.links(port).first().expect("it is connected").conn;
        self.close(conn, cause);
    }

    pub(super) fn close(&mut self, conn: ConnId, cause: Cause) {
        self.closed(conn, cause);
        self.drain();
    }

    /// A node is gone with all connections to it, and the map is another one.
    pub(super) fn kill(&mut self, port: u16, map: &str) {
        self.peer(port).refuses = true;
        self.map_all(map);
        for conn in self.links(port).iter().map(|link| link.conn).collect::<Vec<_>>() {
            self.close(conn, Cause::Reset);
        }
    }

    /// Takes a connection into the test's own hands: nothing is written on it or answered by itself.
    #[track_caller]
    pub(super) fn unplug(&mut self, port: u16) -> Link {
        let at = self.links.iter().position(|link| link.port == port).expect("it is connected");
        self.links.remove(at)
    }

    /// Gives it back.
    pub(super) fn plug(&mut self, link: Link) {
        self.links.push(link);
    }

    /// Forgets all connections, as if there had been none.
    pub(super) fn forget_links(&mut self) {
        self.links.clear();
    }

    #[track_caller]
    pub(super) fn run(&mut self, command: &str) -> Ticket {
        let submitted = self.engine.submit(&Request::new(command), None, self.now);
        let (ticket, _) = submitted.unwrap_or_else(|rejected| panic!("{rejected:?}"));
        self.drain();
        ticket
    }

    pub(super) fn wait(&mut self, span: Duration) {
        let end = self.now.instant + span;
        while let Some(at) = self.timer.filter(|at| *at <= end) {
            self.now = self.now + at.saturating_duration_since(self.now.instant);
            self.engine.handle_input(Input::Timeout, self.now);
            self.drain();
        }
        self.now = self.now + (end - self.now.instant);
    }

    #[track_caller]
    pub(super) fn value<T: FromReply>(&mut self, ticket: Ticket) -> T {
        let reply = self.engine.take(ticket).expect("ended").expect("no failure");
        T::from_reply(&reply).expect("the type asked for")
    }

    #[track_caller]
    pub(super) fn failure(&mut self, ticket: Ticket) -> Failure {
        self.engine.take(ticket).expect("ended").expect_err("a failure")
    }

    /// Does what the engine asks for, until it waits for time to pass or for what a test has to say.
    #[track_caller]
    pub(super) fn drain(&mut self) {
        let mut idle = 0;
        for _ in 0..STEPS_MAX {
            match self.engine.poll_output() {
                Output::Open { conn, target: Target::Tcp(address), .. } => self.open(conn, address),
                Output::Close { .. } if self.closes_slowly => {}
                Output::Close { conn, .. } => self.closed(conn, Cause::Local),
                Output::Event(event) => self.events.push(event.to_string()),
                Output::Wait(at) => {
                    self.timer = at;
                    if self.exchange() {
                        continue;
                    }
                    if at.is_none_or(|at| at > self.now.instant) {
                        return;
                    }
                    idle += 1;
                    assert!(idle < 100, "a timer that is due and changes nothing");
                    self.engine.handle_input(Input::Timeout, self.now);
                }
                _ => {}
            }
        }
        panic!("it never comes to rest");
    }

    fn open(&mut self, conn: ConnId, address: SocketAddr) {
        let port = address.port();
        self.hosts.push(address);
        let node = self.peer(port);
        node.dials += 1;
        let input = match node.refuses {
            true => Input::Closed { conn, cause: Cause::Refused },
            false => Input::Opened { conn },
        };
        if !node.refuses {
            let (asked, wrote, sent) = (VecDeque::new(), String::new(), Vec::new());
            self.links.push(Link { conn, asked, wrote, port, sent });
        }
        self.engine.handle_input(input, self.now);
    }

    fn closed(&mut self, conn: ConnId, cause: Cause) {
        self.links.retain(|link| link.conn != conn);
        self.engine.handle_input(Input::Closed { conn, cause }, self.now);
    }

    fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.conn == conn)
    }

    /// Writes what there is, and has the nodes answer what is the client's own; gives whether anything was.
    fn exchange(&mut self) -> bool {
        let mut any = false;
        for conn in self.links.iter().map(|link| link.conn).collect::<Vec<_>>() {
            while let Some(chunk) = self.engine.take_output(conn) {
                let bytes = chunk.unwritten().to_vec();
                self.engine.written(conn, chunk, bytes.len(), self.now);
                self.link(conn)
                    .expect("only the engine closes it, and it is told here")
                    .hear(&bytes);
            }
            while let Some(answer) = self.own_answer(conn) {
                let words = self.link(conn).and_then(|link| link.asked.pop_front());
                let words = words.expect("it is answered");
                self.own_probes += usize::from(words[0] == "DEL");
                self.receive(conn, &answer);
                any = true;
            }
        }
        any
    }

    /// What the node says by itself to what it was asked first on this connection.
    fn own_answer(&mut self, conn: ConnId) -> Option<String> {
        let link = self.links.iter().find(|link| link.conn == conn)?;
        let (port, first) = (link.port, link.asked.front()?);
        let node = &self.nodes[&port];
        let words: Vec<_> = first.iter().map(String::as_str).collect();
        Some(match words[..] {
            ["HELLO", ..] => "%0\r\n".to_owned(),
            ["CLUSTER", _] => node.map.clone(),
            ["ASKING"] => "+OK\r\n".to_owned(),
            ["INFO", _] => match &node.names {
                Some(name) => format!("+run_id:{name}\r\n"),
                None => format!("+run_id:{port}\r\n"),
            },
            ["ROLE"] => "*1\r\n+master\r\n".to_owned(),
            ["DEL", key] if key.starts_with("unfazed:probe:absent") => {
                if node.is_down {
                    return Some("-CLUSTERDOWN The cluster is down\r\n".to_owned());
                }
                if node.gives_away {
                    return Some(ask(key, B) + "\r\n");
                }
                let of_c = slot(key.as_bytes()) >= 10_923;
                let serves = of_c == matches!(port, C | 7004);
                if serves { ":0\r\n".to_owned() } else { moved(key, C) + "\r\n" }
            }
            ["PING"] => "+PONG\r\n".to_owned(),
            _ => return None,
        })
    }
}

impl Link {
    /// What it was asked and has not answered, but for the client's own questions.
    pub(super) fn asked(&self) -> Vec<String> {
        let asked = self.asked.iter().filter(|words| !is_own(words));
        asked.map(|words| words.join(" ")).collect()
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.sent.extend_from_slice(bytes);
        loop {
            let before = self.sent.clone();
            let Some(words) = take_command(&mut self.sent) else { return };
            if !is_own(&words) {
                let bytes = &before[..before.len() - self.sent.len()];
                self.wrote.push_str(std::str::from_utf8(bytes).expect("text"));
            }
            self.asked.push_back(words);
        }
    }
}

/// What the client asks on its own account.
fn is_own(words: &Words) -> bool {
    matches!(words[0].as_str(), "HELLO" | "CLUSTER" | "PING" | "INFO")
}

pub(super) fn take_command(bytes: &mut Vec<u8>) -> Option<Words> {
    let text = String::from_utf8(bytes.clone()).expect("text");
    let mut lines = text.split_inclusive("\r\n");
    let count: usize = lines.next()?.trim_end().strip_prefix('*')?.parse().ok()?;
    let mut taken = text.len() - lines.clone().map(str::len).sum::<usize>();
    let mut words = Vec::new();
    for _ in 0..count {
        let header = lines.next()?;
        let word = lines.next()?;
        taken += header.len() + word.len();
        words.push(word.trim_end().to_owned());
    }
    bytes.drain(..taken);
    Some(words)
}

pub(super) fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// What CLUSTER SHARDS says of three masters that share the slots evenly.
pub(super) fn thirds(a: u16, b: u16, c: u16) -> String {
    shards(&[(a, 0, 5460), (b, 5461, 10_922), (c, 10_923, 16_383)])
}

/// What CLUSTER SHARDS says of masters, each with its first and last slot.
pub(super) fn shards(masters: &[(u16, u16, u16)]) -> String {
    let shard = |(port, first, last): &(u16, u16, u16)| {
        let slots =
            if first > last { "*0\r\n".into() } else { format!("*2\r\n:{first}\r\n:{last}\r\n") };
        format!(
            "*4\r\n{}{slots}{}*1\r\n*8\r\n{}:{port}\r\n{}{}{}{}{}{}",
            bulk("slots"),
            bulk("nodes"),
            bulk("port"),
            bulk("endpoint"),
            bulk("127.0.0.1"),
            bulk("role"),
            bulk("master"),
            bulk("health"),
            bulk("online"),
        )
    };
    format!("*{}\r\n{}", masters.len(), masters.iter().map(shard).collect::<String>())
}

pub(super) fn moved(key: &str, port: u16) -> String {
    format!("-MOVED {} 127.0.0.1:{port}", slot(key.as_bytes()))
}

pub(super) fn ask(key: &str, port: u16) -> String {
    format!("-ASK {} 127.0.0.1:{port}", slot(key.as_bytes()))
}

#[test]
fn the_keys_of_these_tests_are_where_they_are_said_to_be() {
    let of = |key: &str| slot(key.as_bytes());
    assert!(of(OF_A) <= 5460 && of(ALSO_OF_A) <= 5460);
    assert!((5461..=10_922).contains(&of(OF_B)) && of(OF_C) >= 10_923);
}
