//! Masters die, pause and hand over, slots and nodes come and go, and 64 tasks notice no more of it than
//! they must.

use std::{
    thread,
    time::{Duration, Instant},
};

use unfazed_core::Config;
use unfazed_tests::{Cluster, Failover, eventually};

use super::{
    config,
    load::{BACK_WITHIN, Load, Report, until_in_time},
};
use crate::{
    adapters::{Adapter, scenarios},
    support::LIMIT,
};

scenarios! {
    a_killed_master_costs_its_own_keys_an_outage,
    a_paused_master_costs_its_own_keys_an_outage,
    a_planned_failover_costs_nothing,
    forced_failovers_cost_no_more_than_the_servers_forget,
    slots_and_nodes_that_come_and_go_cost_nothing,
    all_nodes_restart_at_once_and_all_keys_are_back,
}

/// How long tasks work before anything happens, and after all is well again.
const QUIET: Duration = Duration::from_millis(400);

/// After this nobody answers any more who was killed or paused before.
const SURELY_GONE: Duration = Duration::from_millis(100);

fn start<A: Adapter>(cluster: &Cluster, config: Config) -> (A::Client, Load) {
    let client = A::connect(config).expect("there is a cluster");
    let load = Load::start::<A>(cluster, &client);
    thread::sleep(QUIET);
    (client, load)
}

fn until_writable(load: &Load, shards: &[usize], moment: Instant) {
    for shard in shards {
        eventually("the shard to be written to", LIMIT, || {
            load.writable_after(*shard, moment + SURELY_GONE)
        });
    }
    // Long enough for who is back too late to be found out.
    thread::sleep(BACK_WITHIN + QUIET);
}

fn a_killed_master_costs_its_own_keys_an_outage<A: Adapter>() {
    until_in_time(|| {
        let mut cluster = Cluster::start();
        let (_client, load) = start::<A>(&cluster, config(&cluster));
        load.may_forget(0);
        cluster.kill(0);
        until_writable(&load, &[0], Instant::now());
        cluster.restart(0);
        cluster.until_agreed();
        thread::sleep(QUIET);
        let report = load.end("kill -9 of a master", &cluster);
        report.check_only_hit(&[0]);
        report
    });
}

fn a_paused_master_costs_its_own_keys_an_outage<A: Adapter>() {
    until_in_time(|| {
        let mut cluster = Cluster::start();
        let (_client, load) = start::<A>(&cluster, config(&cluster));
        load.may_forget(1);
        cluster.stop(1);
        until_writable(&load, &[1], Instant::now());
        cluster.cont(1);
        cluster.until_agreed();
        thread::sleep(QUIET);
        let report = load.end("SIGSTOP of a master, and SIGCONT", &cluster);
        report.check_only_hit(&[1]);
        report
    });
}

fn a_planned_failover_costs_nothing<A: Adapter>() {
    until_in_time(|| {
        let mut cluster = Cluster::start();
        let (_client, load) = start::<A>(&cluster, config(&cluster));
        // Right before, some slots go away and come back, as they may where somebody reshapes a cluster.
        let slots = cluster.slots(0);
        cluster.move_slots(&slots[..200], 1);
        cluster.move_slots(&slots[..200], 0);
        for replica in [3, 4, 5] {
            cluster.failover(replica, Failover::Planned);
            thread::sleep(QUIET);
        }
        let report = load.end("planned failovers of all masters", &cluster);
        report.check_only_hit(&[]);
        report
    });
}

fn forced_failovers_cost_no_more_than_the_servers_forget<A: Adapter>() {
    until_in_time(|| {
        let mut cluster = Cluster::start();
        let (_client, load) = start::<A>(&cluster, config(&cluster));
        for (shard, how) in [(1, Failover::Force), (2, Failover::Takeover)] {
            load.may_forget(shard);
            cluster.failover(shard + 3, how);
            thread::sleep(QUIET);
        }
        let report = load.end("FAILOVER FORCE and TAKEOVER", &cluster);
        report.check_only_hit(&[1, 2]);
        report
    });
}

fn slots_and_nodes_that_come_and_go_cost_nothing<A: Adapter>() {
    until_in_time(|| {
        let mut cluster = Cluster::start();
        let (_client, load) = start::<A>(&cluster, config(&cluster));
        let slots = cluster.slots(0);
        cluster.move_slots(&slots, 1);
        cluster.move_slots(&slots, 0);
        let added = cluster.add_node();
        cluster.move_all_slots(2, added);
        cluster.forget(5);
        cluster.forget(2);
        thread::sleep(QUIET);
        let report =
            load.end("all slots of two masters moved, a node added, two forgotten", &cluster);
        report.check_only_hit(&[]);
        report
    });
}

fn all_nodes_restart_at_once_and_all_keys_are_back<A: Adapter>() {
    until_in_time(|| -> Report {
        let mut cluster = Cluster::start();
        let (_client, load) = start::<A>(&cluster, config(&cluster));
        (0..3).for_each(|shard| load.may_forget(shard));
        cluster.restart_all();
        until_writable(&load, &[0, 1, 2], Instant::now());
        cluster.until_agreed();
        thread::sleep(QUIET);
        let report = load.end("all nodes killed and started again", &cluster);
        report.check_only_hit(&[0, 1, 2]);
        report
    });
}
