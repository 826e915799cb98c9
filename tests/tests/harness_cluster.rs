//! The harness forms, hurts and removes real clusters.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{panic, thread};

use unfazed_tests::{
    Announce, Cluster, Failover, Layout, Raw, RawReply, SLOTS, eventually, key_slot, slot_tag,
};

const LIMIT: Duration = Duration::from_secs(60);

/// Linux only, as long as the tests are.
fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Without replicas, which most of what is tested here does not need.
fn masters() -> Layout {
    Layout { replicas: 0, ..Layout::default() }
}

/// What a node says when it is asked for a key.
fn answer(cluster: &Cluster, node: usize, key: &str) -> RawReply {
    cluster.raw(node).cmd(&["GET", key])
}

fn is_error(reply: &RawReply, start: &str) -> bool {
    matches!(reply, RawReply::Error(text) if text.starts_with(start))
}

#[test]
fn a_cluster_forms_and_every_slot_has_one_owner() {
    let start = Instant::now();
    let cluster = Cluster::start();
    println!("formed in {:?}", start.elapsed());
    let mut owned: Vec<u16> = (0..3).flat_map(|node| cluster.slots(node)).collect();
    owned.sort_unstable();
    assert!(owned.into_iter().eq(0..SLOTS));
    for node in 0..3 {
        assert!(cluster.is_master(node) && !cluster.is_master(node + 3));
        assert_eq!(cluster.replicas(node), [node + 3]);
        let slot = cluster.slots(node)[0];
        assert_eq!(cluster.owner(slot), node);
        cluster.raw(node).ok(&["SET", &slot_tag(slot), "v"]);
        let others = (0..6).filter(|&other| other != node);
        for other in others {
            let moved = answer(&cluster, other, &slot_tag(slot));
            let expected = format!("MOVED {slot} 127.0.0.1:{}", cluster.port(node));
            assert_eq!(moved, RawReply::Error(expected));
        }
    }
    assert_eq!(cluster.url().matches("127.0.0.1:").count(), 6);
}

#[test]
fn keys_are_in_the_slots_that_servers_say() {
    let cluster = Cluster::with(Layout { masters: 1, ..masters() });
    let mut raw = cluster.raw(0);
    for key in ["", "123456789", "a{b}c", "a{}b", "{", "{{x}}", "ключ", "{a}{b}", "}{a}"] {
        assert_eq!(
            i64::from(key_slot(key.as_bytes())),
            raw.int(&["CLUSTER", "KEYSLOT", key]),
            "{key}"
        );
    }
    for slot in [0, 1, 9_999, SLOTS - 1] {
        assert_eq!(raw.int(&["CLUSTER", "KEYSLOT", &slot_tag(slot)]), i64::from(slot));
    }
}

#[test]
fn two_clusters_know_nothing_of_each_other() {
    let [one, two] = [(); 2].map(|()| thread::spawn(|| Cluster::with(masters())));
    let (one, two) = (one.join().unwrap(), two.join().unwrap());
    one.until_agreed();
    two.until_agreed();
    let ids = |cluster: &Cluster| (0..3).map(|node| cluster.id(node).to_owned()).collect();
    let (ids_of_one, ids_of_two): (HashSet<String>, HashSet<String>) = (ids(&one), ids(&two));
    assert!(ids_of_one.is_disjoint(&ids_of_two));
}

#[test]
fn a_killed_master_is_followed_by_its_replica() {
    let mut cluster = Cluster::start();
    let slot = cluster.slots(1)[0];
    let prober = cluster.prober(&slot_tag(slot));
    eventually("a first write", LIMIT, || prober.last());
    let killed = Instant::now();
    cluster.kill(1);
    let back = eventually("the replica to take over", LIMIT, || {
        prober.first_after(killed + Duration::from_millis(100))
    });
    assert_eq!(cluster.owner(slot), 4);
    let gaps = prober.gaps(Duration::from_millis(500));
    assert!(
        matches!(&gaps[..], [gap] if gap.to == back && gap.from < killed + Duration::from_millis(100)),
        "{gaps:?}"
    );
    println!("a gap of {:?}", gaps[0].length());

    cluster.restart(1);
    cluster.until_agreed();
    assert_eq!(cluster.replicas(4), [1]);
    assert!(!cluster.is_master(1));
}

#[test]
fn a_stopped_master_is_followed_by_its_replica_and_obeys() {
    let mut cluster = Cluster::start();
    let slot = cluster.slots(0)[0];
    cluster.stop(0);
    eventually("the replica to take over", LIMIT, || cluster.is_master(3).then_some(()));
    cluster.cont(0);
    cluster.until_agreed();
    assert_eq!((cluster.owner(slot), cluster.replicas(3)), (3, vec![0]));
}

#[test]
fn a_failover_of_each_kind_changes_the_roles() {
    let mut cluster = Cluster::start();
    let slot = cluster.slots(2)[0];
    cluster.failover(5, Failover::Planned);
    assert_eq!((cluster.owner(slot), cluster.replicas(5)), (5, vec![2]));
    cluster.failover(2, Failover::Takeover);
    assert_eq!(cluster.owner(slot), 2);
    cluster.stop(2);
    cluster.failover(5, Failover::Force);
    assert_eq!(cluster.owner(slot), 5);
    cluster.cont(2);
    cluster.until_agreed();
    assert_eq!(cluster.replicas(5), [2]);
}

#[test]
fn slots_move_with_their_keys_and_back() {
    let cluster = Cluster::with(masters());
    let slots = cluster.slots(0);
    let keys: Vec<_> = slots
        .iter()
        .step_by(500)
        .flat_map(|&slot| {
            let tag = slot_tag(slot);
            (0..150).map(move |number| format!("{tag}{number}"))
        })
        .collect();
    let mut raw = cluster.raw(0);
    for key in &keys {
        raw.ok(&["SET", key, key]);
    }
    for (from, to) in [(0, 1), (1, 0)] {
        let start = Instant::now();
        cluster.move_slots(&slots, to);
        println!("{} slots moved in {:?}", slots.len(), start.elapsed());
        cluster.until_agreed();
        assert!(slots.iter().all(|slot| !cluster.slots(from).contains(slot)));
        let (mut new, mut old) = (cluster.raw(to), cluster.raw(from));
        for key in &keys {
            assert_eq!(new.get(key).as_ref(), Some(key));
            assert!(is_error(&old.cmd(&["GET", key]), "MOVED "));
        }
    }
    assert_eq!(cluster.slots(0), slots);
}

#[test]
fn a_slot_on_its_way_is_asked_for() {
    let cluster = Cluster::with(masters());
    let slot = cluster.slots(0)[7];
    let tag = slot_tag(slot);
    let [one, two] = ["one", "two"].map(|name| format!("{tag}{name}"));
    for key in [&one, &two] {
        cluster.raw(0).ok(&["SET", key, "v"]);
    }
    cluster.begin_move(slot, 2);
    assert_eq!(cluster.move_keys(slot, 2, 1), 1);
    let answers = [&one, &two].map(|key| answer(&cluster, 0, key));
    let asked = answers.iter().filter(|answer| is_error(answer, &format!("ASK {slot} ")));
    assert_eq!(asked.count(), 1, "{answers:?}");
    assert!(is_error(&cluster.raw(0).cmd(&["MGET", &one, &two]), "TRYAGAIN"));
    assert_eq!(cluster.owner(slot), 0);
    while cluster.move_keys(slot, 2, 1) > 0 {}
    cluster.end_move(slot, 2);
    assert_eq!(cluster.owner(slot), 2);
    assert_eq!(answer(&cluster, 2, &one), RawReply::Bulk(b"v".to_vec()));
    cluster.until_agreed();
}

#[test]
fn what_was_published_has_come_everywhere_once_it_is_passed_on() {
    let cluster = Cluster::with(Layout { node_timeout: Duration::from_secs(60), ..masters() });
    // More than a node takes in one go: while that comes it answers others.
    let payload = vec![b'x'; 1 << 20];
    cluster.server(1).stop();
    for _ in 0..30 {
        cluster.raw(0).cmd(&[&b"PUBLISH"[..], b"channel", &payload]);
    }
    cluster.server(1).cont();
    cluster.until_passed_on();
    let mut listener = cluster.raw(1);
    listener.cmd(&["SUBSCRIBE", "channel"]);
    cluster.raw(0).cmd(&["PUBLISH", "channel", "new"]);
    let RawReply::Array(heard) = listener.try_read().unwrap() else { panic!() };
    let heard = heard.last().unwrap();
    assert!(*heard == RawReply::Bulk(b"new".to_vec()), "it hears what was published before");
}

#[test]
fn a_node_is_added_takes_all_of_anothers_slots_and_the_other_is_forgotten() {
    let mut cluster = Cluster::with(masters());
    let slots = cluster.slots(1);
    let added = cluster.add_node();
    assert_eq!((added, cluster.slots(added).len()), (3, 0));
    cluster.move_all_slots(1, added);
    assert!(cluster.slots(added) == slots && cluster.is_master(1));
    let replica = cluster.add_replica(added);
    assert_eq!(cluster.replicas(added), [replica]);
    let gone = cluster.server(1).pid().unwrap();
    cluster.forget(1);
    assert!(!is_alive(gone));
    let RawReply::Bulk(nodes) = cluster.raw(0).cmd(&["CLUSTER", "NODES"]) else { panic!() };
    let nodes = String::from_utf8(nodes).unwrap();
    assert!(nodes.lines().count() == 4 && !nodes.contains(cluster.id(1)), "{nodes}");
    assert!(!cluster.url().contains(&cluster.port(1).to_string()));
}

#[test]
fn a_cluster_comes_back_whole_with_its_data() {
    let mut cluster = Cluster::start();
    let tags: Vec<_> = (0..3).map(|node| slot_tag(cluster.slots(node)[0])).collect();
    for (node, tag) in tags.iter().enumerate() {
        cluster.raw(node).ok(&["SET", tag, "v"]);
    }
    cluster.kill_all();
    assert!((0..6).all(|node| !Raw::answers(cluster.port(node), Duration::from_millis(200))));
    cluster.restart_all();
    cluster.until_agreed();
    for tag in &tags {
        let owner = cluster.owner(key_slot(tag.as_bytes()));
        assert_eq!(cluster.raw(owner).get(tag).as_deref(), Some("v"));
    }
}

#[test]
fn without_full_coverage_the_other_shards_go_on() {
    let mut cluster = Cluster::with(Layout { full_coverage: false, ..Layout::default() });
    let (lost, kept) = (cluster.slots(0)[0], cluster.slots(1)[0]);
    cluster.kill(3);
    cluster.kill(0);
    eventually("the shard to be given up", LIMIT, || {
        let RawReply::Bulk(info) = cluster.raw(1).cmd(&["CLUSTER", "INFO"]) else { panic!() };
        let info = String::from_utf8(info).unwrap();
        assert!(info.contains("cluster_state:ok"), "{info}");
        (!info.contains("cluster_slots_fail:0")).then_some(())
    });
    // Clients are sent on to the dead node all the same.
    assert!(is_error(&answer(&cluster, 1, &slot_tag(lost)), "MOVED "));
    cluster.raw(1).ok(&["SET", &slot_tag(kept), "v"]);
    cluster.restart(0);
    cluster.restart(3);
    cluster.until_agreed();
    cluster.raw(cluster.owner(lost)).ok(&["SET", &slot_tag(lost), "v"]);
}

#[test]
fn nodes_announce_what_they_are_told_to() {
    let cases = [
        (Announce::Addresses, "127.77.0.2"),
        (Announce::Hostnames, "node-1.cluster.invalid"),
        (Announce::Unknown, ""),
    ];
    for (announce, host) in cases {
        let cluster = Cluster::with(Layout { announce, masters: 2, ..masters() });
        let slot = cluster.slots(1)[0];
        let moved = format!("MOVED {slot} {host}:{}", cluster.port(1));
        eventually("the announcement to have arrived", LIMIT, || {
            (answer(&cluster, 0, &slot_tag(slot)) == RawReply::Error(moved.clone())).then_some(())
        });
    }
}

#[test]
fn a_dropped_cluster_leaves_nothing_also_after_a_panic() {
    let left = |act: fn(&mut Cluster)| {
        let mut cluster = Cluster::with(masters());
        let left: Vec<_> = (0..3)
            .map(|node| {
                (cluster.server(node).pid().unwrap(), cluster.server(node).folder().to_owned())
            })
            .collect();
        let ended = panic::catch_unwind(panic::AssertUnwindSafe(move || act(&mut cluster)));
        assert!(left.iter().all(|(pid, folder)| !is_alive(*pid) && !folder.exists()));
        ended
    };
    left(|cluster| cluster.stop(1)).unwrap();
    left(|_| panic!("as a test that fails")).unwrap_err();
}
