//! A real cluster as child processes.
//!
//! [`Cluster`] is what a test holds; `view` is what one node knows of all; `slots` moves slots;
//! `prober` sees when somebody can write.

mod prober;
mod slots;
mod view;

use std::thread;
use std::time::{Duration, Instant};

use crate::{Raw, RawReply, Server};
pub use prober::{Gap, Prober};
pub use slots::{SLOTS, key_slot, slot_tag};
use view::View;

/// How long the nodes may take to agree about anything. Long, for machines that do much else.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a node that is up may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// How long to sleep between two looks at all nodes.
const INTERVAL: Duration = Duration::from_millis(20);
/// When a failover that was asked for and did not come is asked for again: the server gives it up
/// after 5 s.
const FAILOVER_LIMIT: Duration = Duration::from_secs(6);

/// A cluster of its own for a test, on free ports of 127.0.0.1: masters first, then their replicas.
/// Nodes are known by their number, from 0 on, which stays the same whatever becomes of them: at
/// first node `masters + n` replicates master `n % masters`. Dropping it kills all nodes and removes
/// their folders; so does the end of the test process.
///
/// ```
/// use unfazed_tests::{Cluster, Layout, Raw, key_slot};
///
/// let mut cluster = Cluster::with(Layout { replicas: 0, ..Layout::default() });
/// let owner = cluster.owner(key_slot(b"k"));
/// Raw::connect(cluster.port(owner)).ok(&["SET", "k", "v"]);
///
/// let other = (owner + 1) % 3;
/// cluster.move_slot(key_slot(b"k"), other);
/// assert_eq!(Raw::connect(cluster.port(other)).get("k").as_deref(), Some("v"));
/// ```
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    layout: Layout,
}

/// What a [`Cluster`] is like.
#[derive(Clone, Debug)]
pub struct Layout {
    /// How many masters; the slots are shared evenly among them, in order.
    pub masters: usize,
    /// How many replicas each of them has.
    pub replicas: usize,
    /// How long a node may be silent before others think that it has failed.
    pub node_timeout: Duration,
    /// Whether all slots have to be served for any to be served.
    pub full_coverage: bool,
    /// How nodes call each other where clients read it.
    pub announce: Announce,
    /// Further arguments for each node, which come last and so win.
    pub args: Vec<String>,
}

/// What clients are told about where nodes are. The nodes themselves always find each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announce {
    /// 127.0.0.1 and the port.
    Loopback,
    /// Addresses `127.77.0.n`, another for each node, n from 1 on. They work on Linux, since the nodes
    /// have to reach each other there; a client that used them is seen in `laddr` of CLIENT LIST.
    Addresses,
    /// Names `node-n.cluster.invalid`, n from 0 on, which nobody can look up.
    Hostnames,
    /// Nothing but the port: a client is to go on with the address that it has used.
    Unknown,
}

/// How a replica is made master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failover {
    /// In concert with the old master, without any loss.
    Planned,
    /// Without the old master, with the votes of the others.
    Force,
    /// Without asking anybody.
    Takeover,
}

#[derive(Debug)]
struct Node {
    server: Server,
    id: String,
    /// Whether it was paused, and answers nothing.
    is_stopped: bool,
    is_forgotten: bool,
    /// When it was last voted for, as far as tests asked for that.
    elected: Option<Instant>,
}

impl Default for Layout {
    /// Three masters with a replica each, that fail over within seconds.
    fn default() -> Self {
        Layout {
            masters: 3,
            replicas: 1,
            // Short, but no hiccup of a busy machine.
            node_timeout: Duration::from_millis(1_500),
            full_coverage: true,
            announce: Announce::Loopback,
            args: Vec::new(),
        }
    }
}

impl Cluster {
    /// Starts three masters with a replica each, and waits until all agree. It takes about 3 s, most of
    /// which a master waits anyway before it accepts anything.
    ///
    /// # Panics
    ///
    /// When that fails; the message says what each node thinks.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(Layout::default())
    }

    /// The same, with another layout.
    ///
    /// # Panics
    ///
    /// Like [`Cluster::start`].
    #[track_caller]
    pub fn with(layout: Layout) -> Self {
        let (masters, count) = (layout.masters, layout.masters * (1 + layout.replicas));
        let nodes: Vec<_> = thread::scope(|scope| {
            let start = |number| {
                let layout = &layout;
                scope.spawn(move || Node::start(layout, number))
            };
            let starting: Vec<_> = (0..count).map(start).collect();
            starting.into_iter().map(|node| node.join().expect("a node that starts")).collect()
        });
        let cluster = Cluster { nodes, layout };
        for number in 0..masters {
            let mut raw = cluster.raw(number);
            // Each of its own from the start, so that they need not settle that among themselves.
            raw.ok(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            let bound = |number: usize| number * usize::from(SLOTS) / masters;
            let (first, last) = (bound(number), bound(number + 1) - 1);
            raw.ok(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        }
        (1..count).for_each(|number| cluster.meet(number));
        cluster.until("all nodes to know each other", Cluster::check_acquaintance);
        (masters..count).for_each(|number| cluster.replicate(number, number % masters));
        cluster.until_agreed();
        cluster
    }

    /// How many nodes there have been, with those that were forgotten.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// `redis+cluster://127.0.0.1:port,…` with every node that was not forgotten.
    pub fn url(&self) -> String {
        let node = |number: &usize| format!("127.0.0.1:{}", self.port(*number));
        let nodes: Vec<_> = self.members().map(|number| node(&number)).collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    /// The TCP port of a node, the same for its whole life.
    pub fn port(&self, node: usize) -> u16 {
        self.nodes[node].server.port()
    }

    /// How the nodes know this one.
    pub fn id(&self, node: usize) -> &str {
        &self.nodes[node].id
    }

    /// The process of a node.
    pub fn server(&self, node: usize) -> &Server {
        &self.nodes[node].server
    }

    /// Kills a node with SIGKILL. Its place in the cluster stays.
    pub fn kill(&mut self, node: usize) {
        self.let_votes_expire(node);
        let node = &mut self.nodes[node];
        node.server.kill();
        node.is_stopped = false;
    }

    /// Pauses a node with SIGSTOP.
    ///
    /// # Panics
    ///
    /// When it is down.
    #[track_caller]
    pub fn stop(&mut self, node: usize) {
        self.let_votes_expire(node);
        let node = &mut self.nodes[node];
        node.server.stop();
        node.is_stopped = true;
    }

    /// Lets a paused node go on.
    ///
    /// # Panics
    ///
    /// When it is down.
    #[track_caller]
    pub fn cont(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.server.cont();
        node.is_stopped = false;
    }

    /// Starts a node again, with what it had and knew. If it is still up it is killed first. Whether the
    /// others have noticed is another question; see [`Cluster::until_agreed`].
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[track_caller]
    pub fn restart(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.server.restart();
        node.is_stopped = false;
    }

    /// Kills all nodes.
    pub fn kill_all(&mut self) {
        (0..self.len()).for_each(|node| self.kill(node));
    }

    /// Starts all nodes again, at once, those that are up too; and waits until each of them answers.
    ///
    /// # Panics
    ///
    /// When one does not start.
    #[track_caller]
    pub fn restart_all(&mut self) {
        self.kill_all();
        thread::scope(|scope| {
            for node in self.nodes.iter_mut().filter(|node| !node.is_forgotten) {
                scope.spawn(|| node.server.restart());
            }
        });
    }

    /// Waits until all nodes that are up think the same of who has which slots, can serve them, have
    /// nothing against each other, and replicas hear their masters.
    ///
    /// # Panics
    ///
    /// When they do not come to agree; the message says what each node thinks.
    #[track_caller]
    pub fn until_agreed(&self) {
        self.until("all nodes to agree", Cluster::check_agreement);
    }

    /// Waits until all nodes that are up have had from each other what was published so far. It reaches
    /// them in their own time: who subscribes on a slow one hears what was published before.
    ///
    /// # Panics
    ///
    /// When one does not hear another.
    #[track_caller]
    pub fn until_passed_on(&self) {
        const CHANNEL: &str = "until_passed_on";
        let mut listeners: Vec<Raw> = self.awake().map(|node| self.raw(node)).collect();
        for listener in &mut listeners {
            listener.cmd(&["SUBSCRIBE", CHANNEL]);
        }
        // What comes from one node comes in order.
        self.awake().for_each(|node| drop(self.raw(node).cmd(&["PUBLISH", CHANNEL, ""])));
        for mut listener in listeners {
            for node in self.awake() {
                let heard = listener.try_read();
                heard.unwrap_or_else(|error| panic!("nothing came from node {node}: {error}"));
            }
            listener.ok(&["QUIT"]);
        }
    }

    /// Which node serves this slot, as masters that are up say of themselves. Where two do, it is the
    /// one whose claim is newer, which the other has not heard of yet.
    ///
    /// # Panics
    ///
    /// When none does.
    #[track_caller]
    pub fn owner(&self, slot: u16) -> usize {
        let claims = self.awake().filter_map(|number| {
            let view = self.view(number);
            let own = view.own();
            own.owns(slot).then_some((own.epoch, number))
        });
        let owner = claims.max().unwrap_or_else(|| panic!("nobody serves slot {slot}"));
        owner.1
    }

    /// Whether a node is a master, as it says itself.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    #[track_caller]
    pub fn is_master(&self, node: usize) -> bool {
        self.view(node).own().master.is_none()
    }

    /// The slots that a node serves, as it says itself, in order.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    #[track_caller]
    pub fn slots(&self, node: usize) -> Vec<u16> {
        self.view(node).own().slots.iter().cloned().flatten().collect()
    }

    /// The nodes that are up and replicate this one, as they say themselves.
    ///
    /// # Panics
    ///
    /// When one does not answer.
    #[track_caller]
    pub fn replicas(&self, master: usize) -> Vec<usize> {
        let is_of =
            |number: &usize| self.view(*number).own().master.as_deref() == Some(self.id(master));
        self.awake().filter(is_of).collect()
    }

    /// Waits until no replica of this node would take votes that it was given before for those of the
    /// election that follows when this node fails; see [`Cluster::failover`].
    fn let_votes_expire(&self, master: usize) {
        let silence = self.layout.node_timeout;
        // That long an election lasts, and so do its votes. The next begins when the master has been
        // silent for long enough.
        let wait = (2 * silence).max(Duration::from_secs(2)) + INTERVAL - silence;
        let is_recent = |node: &Node| node.elected.is_some_and(|at| at.elapsed() < wait);
        if !self.nodes[master].is_awake() || !self.nodes.iter().any(is_recent) {
            return;
        }
        for replica in self.replicas(master) {
            let elected = self.nodes[replica].elected;
            thread::sleep(elected.map_or(Duration::ZERO, |at| wait.saturating_sub(at.elapsed())));
        }
    }

    /// Makes a replica the master of its shard, and waits until all agree.
    ///
    /// Before it is planned all have to agree about who has which slots: a replica that asks for votes with
    /// an older claim than others have heard of gets none, and its master answers no write for the 5 s in
    /// which it tries.
    ///
    /// A replica that won votes a few seconds ago has to wait first: servers of version 7.0 would count
    /// those again, and the winner would claim its slots with an old epoch, which nobody believes.
    ///
    /// # Panics
    ///
    /// When that does not happen.
    #[track_caller]
    pub fn failover(&mut self, replica: usize, how: Failover) {
        let command: &[&str] = match how {
            Failover::Planned => &["CLUSTER", "FAILOVER"],
            Failover::Force => &["CLUSTER", "FAILOVER", "FORCE"],
            Failover::Takeover => &["CLUSTER", "FAILOVER", "TAKEOVER"],
        };
        if how != Failover::Takeover {
            // Twice the time for an election, which is twice the node timeout but at least 2 s.
            let memory = (4 * self.layout.node_timeout).max(Duration::from_secs(4)) + INTERVAL;
            let elected = self.nodes[replica].elected;
            thread::sleep(elected.map_or(Duration::ZERO, |at| memory.saturating_sub(at.elapsed())));
        }
        if how == Failover::Planned {
            self.until_agreed();
        }
        let start = Instant::now();
        while !self.is_master(replica) {
            self.raw(replica).ok(command);
            let asked = Instant::now();
            while !self.is_master(replica) && asked.elapsed() < FAILOVER_LIMIT {
                thread::sleep(INTERVAL);
            }
            assert!(start.elapsed() < LIMIT, "node {replica} stays a replica\n{}", self.opinions());
        }
        if how != Failover::Takeover {
            self.nodes[replica].elected = Some(Instant::now());
        }
        self.until_agreed();
    }

    /// Starts another master, which has no slots yet, and waits until all know it. Gives its number.
    ///
    /// # Panics
    ///
    /// When that fails.
    #[track_caller]
    pub fn add_node(&mut self) -> usize {
        let number = self.len();
        self.nodes.push(Node::start(&self.layout, number));
        self.meet(number);
        self.until_agreed();
        number
    }

    /// Starts another replica of a master, and waits until it has its data. Gives its number.
    ///
    /// # Panics
    ///
    /// When that fails.
    #[track_caller]
    pub fn add_replica(&mut self, master: usize) -> usize {
        let number = self.add_node();
        self.replicate(number, master);
        self.until_agreed();
        number
    }

    /// Takes a node out of the cluster for good: it is killed, and nobody knows it any more. It must have
    /// no slots and no replicas by then.
    ///
    /// # Panics
    ///
    /// When it has, or does not answer.
    #[track_caller]
    pub fn forget(&mut self, node: usize) {
        assert!(
            self.slots(node).is_empty() && self.replicas(node).is_empty(),
            "node {node} is used"
        );
        self.kill(node);
        self.nodes[node].is_forgotten = true;
        self.awake().for_each(|other| self.raw(other).ok(&["CLUSTER", "FORGET", self.id(node)]));
        self.until_agreed();
    }

    /// Sees from now on when this key can be written; see [`Prober`].
    pub fn prober(&self, key: &str) -> Prober {
        Prober::start(key, self.members().map(|number| self.port(number)))
    }

    /// A connection to a node.
    ///
    /// # Panics
    ///
    /// When that fails.
    #[track_caller]
    pub fn raw(&self, node: usize) -> Raw {
        let mut raw = Raw::connect(self.port(node));
        raw.set_limit(ANSWER_LIMIT);
        raw
    }

    /// Those that were not forgotten.
    fn members(&self) -> impl Iterator<Item = usize> {
        (0..self.len()).filter(|&number| !self.nodes[number].is_forgotten)
    }

    /// Those that answer.
    fn awake(&self) -> impl Iterator<Item = usize> {
        self.members().filter(|&number| self.nodes[number].is_awake())
    }

    fn view(&self, node: usize) -> View {
        View::of(&mut self.raw(node))
    }

    /// Introduces a node to all members before it.
    fn meet(&self, number: usize) {
        let mut raw = self.raw(number);
        for other in self.awake().filter(|&other| other < number) {
            let server = self.server(other);
            let bus = server.bus_port().expect("it is a node of a cluster").to_string();
            let host = self.layout.announce.host(other);
            raw.ok(&["CLUSTER", "MEET", &host, &server.port().to_string(), &bus]);
        }
    }

    fn replicate(&self, replica: usize, master: usize) {
        self.raw(replica).ok(&["CLUSTER", "REPLICATE", self.id(master)]);
    }

    #[track_caller]
    fn until(&self, what: &str, check: fn(&Self) -> Result<(), String>) {
        let start = Instant::now();
        while let Err(why) = check(self) {
            let opinions = || self.opinions();
            assert!(start.elapsed() < LIMIT, "waited in vain for {what}: {why}\n{}", opinions());
            thread::sleep(INTERVAL);
        }
    }

    /// Whether each node that is up knows all members and no other.
    fn check_acquaintance(&self) -> Result<(), String> {
        for number in self.awake() {
            let view = self.view(number);
            let knows = |other: usize| view.nodes.iter().any(|node| node.id == self.id(other));
            if view.nodes.len() != self.members().count() || !self.members().all(knows) {
                return Err(format!("node {number} does not know just the members"));
            }
        }
        Ok(())
    }

    fn check_agreement(&self) -> Result<(), String> {
        self.check_acquaintance()?;
        let mut common = None;
        for number in self.awake() {
            let mut raw = self.raw(number);
            let view = View::of(&mut raw);
            for other in self.awake() {
                let it = view.nodes.iter().find(|node| node.id == self.id(other));
                if !it.is_some_and(|it| it.is_well) {
                    return Err(format!("node {number} does not trust node {other}"));
                }
            }
            if !text(raw.cmd(&["CLUSTER", "INFO"])).contains("cluster_state:ok") {
                return Err(format!("node {number} serves nothing"));
            }
            let mut hears_master =
                || text(raw.cmd(&["INFO", "replication"])).contains("master_link_status:up");
            let master = view.own().master.clone();
            let is_up = |master: String| self.awake().any(|other| self.id(other) == master);
            if master.is_some_and(is_up) && !hears_master() {
                return Err(format!("node {number} does not hear its master"));
            }
            let opinion = view.opinion();
            if common.get_or_insert_with(|| opinion.clone()) != &opinion {
                return Err(format!("node {number} has another opinion"));
            }
        }
        Ok(())
    }

    /// What each node that is up says of all, for messages.
    fn opinions(&self) -> String {
        let opinion = |number| {
            format!("node {number}:\n{}", text(self.raw(number).cmd(&["CLUSTER", "NODES"])))
        };
        self.awake().map(opinion).collect()
    }
}

impl Node {
    fn start(layout: &Layout, number: usize) -> Self {
        let timeout = layout.node_timeout.as_millis().to_string();
        let host = layout.announce.host(number);
        let mut args = vec![
            "--cluster-node-timeout",
            &timeout,
            "--cluster-require-full-coverage",
            if layout.full_coverage { "yes" } else { "no" },
            // A replica may take over however long it has not heard its master.
            "--cluster-replica-validity-factor",
            "0",
            // A master that gives all its slots away stays one.
            "--cluster-allow-replica-migration",
            "no",
            // By default it waits for 5 s whether other replicas want the same.
            "--repl-diskless-sync-delay",
            "0",
        ];
        let name = format!("node-{number}.cluster.invalid");
        match layout.announce {
            Announce::Loopback => {}
            Announce::Addresses => {
                args.extend(["--bind", "127.0.0.1", &host, "--cluster-announce-ip", &host]);
            }
            Announce::Hostnames => {
                args.extend(["--cluster-announce-hostname", &name]);
                args.extend(["--cluster-preferred-endpoint-type", "hostname"]);
            }
            Announce::Unknown => {
                args.extend(["--cluster-preferred-endpoint-type", "unknown-endpoint"]);
            }
        }
        args.extend(layout.args.iter().map(String::as_str));
        let server = Server::cluster_node(&args);
        let id = text(Raw::connect(server.port()).cmd(&["CLUSTER", "MYID"]));
        Node { server, id, is_stopped: false, is_forgotten: false, elected: None }
    }

    fn is_awake(&self) -> bool {
        self.server.pid().is_some() && !self.is_stopped
    }
}

impl Announce {
    /// Where the other nodes find this one.
    fn host(self, number: usize) -> String {
        match self {
            Announce::Addresses => format!("127.77.0.{}", number + 1),
            Announce::Loopback | Announce::Hostnames | Announce::Unknown => "127.0.0.1".to_owned(),
        }
    }
}

#[track_caller]
fn text(reply: RawReply) -> String {
    match reply {
        RawReply::Bulk(text) => String::from_utf8(text).expect("a text"),
        other => panic!("not a text: {other:?}"),
    }
}
