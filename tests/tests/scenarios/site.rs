//! Where a scenario's data are. Most promises hold on one server and on a cluster alike, and a scenario that is
//! run [`in_cluster`](crate::adapters::in_cluster) too is the same code: only the URL differs.

use std::{
    cell::Cell,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use unfazed_core::Config;
use unfazed_tests::{Cluster, Layout, Raw, Server};

use crate::support::at;

thread_local! {
    /// Whether the scenario on this thread is to be run on a cluster.
    static IN_CLUSTER: Cell<bool> = const { Cell::new(false) };
}

/// Clusters that nobody uses for now: to form one takes longer than most scenarios. They end with the process,
/// however that ends.
static POOL: Mutex<Vec<Cluster>> = Mutex::new(Vec::new());

/// What a scenario has for itself: a server, or a cluster of three masters. It is empty.
#[derive(Debug)]
pub(crate) enum Site {
    Server(Server),
    /// There until it is dropped.
    Cluster(Option<Cluster>),
}

/// Has scenarios on this thread run on a cluster.
pub(crate) fn enter_cluster() {
    IN_CLUSTER.set(true);
}

impl Site {
    pub(crate) fn start() -> Self {
        if !IN_CLUSTER.get() {
            return Site::Server(Server::start());
        }
        let idle = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // Nobody is to take over here. And a node that has heard nothing of another for half this long closes
        // its connection, and with it goes what was published and is still on its way.
        let node_timeout = Duration::from_secs(60);
        let form = || Cluster::with(Layout { replicas: 0, node_timeout, ..Layout::default() });
        Site::Cluster(Some(idle.unwrap_or_else(form)))
    }

    pub(crate) fn config(&self) -> Config {
        match self {
            Site::Server(server) => at(server.port()),
            Site::Cluster(cluster) => Config::from_url(&used(cluster).url()).expect("its URL"),
        }
    }

    /// A connection of a client that has nothing to do with the one under test. In a cluster it goes where the
    /// key of a command is.
    pub(crate) fn raw(&self) -> Raw {
        match self {
            Site::Server(server) => Raw::connect(server.port()),
            Site::Cluster(cluster) => Raw::connect(used(cluster).port(0)).following(),
        }
    }

    /// Waits until what was published so far has come to every server, and nobody who subscribes from now on
    /// hears it.
    #[track_caller]
    pub(crate) fn until_passed_on(&self) {
        match self {
            Site::Server(_) => {}
            Site::Cluster(cluster) => used(cluster).until_passed_on(),
        }
    }

    /// How many servers there are, and so how many connections a client has that is used for everything.
    pub(crate) fn nodes(&self) -> usize {
        match self {
            Site::Server(_) => 1,
            Site::Cluster(cluster) => used(cluster).len(),
        }
    }
}

fn used(cluster: &Option<Cluster>) -> &Cluster {
    cluster.as_ref().expect("there until it is dropped")
}

impl Drop for Site {
    fn drop(&mut self) {
        let Site::Cluster(cluster) = self else { return };
        // What a failed scenario has left behind is nobody else's matter, and its log is to be seen.
        if let Some(cluster) = cluster.take().filter(|_| !thread::panicking()) {
            for mut raw in (0..cluster.len()).map(|node| cluster.raw(node)) {
                raw.ok(&["FLUSHALL"]);
                raw.ok(&["SCRIPT", "FLUSH"]);
                raw.ok(&["FUNCTION", "FLUSH"]);
            }
            cluster.until_passed_on();
            POOL.lock().unwrap_or_else(PoisonError::into_inner).push(cluster);
        }
    }
}
