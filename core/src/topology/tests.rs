use super::*;
use crate::{
    config::AddressMap,
    reply::ServerError,
    resp::{Reply, Value},
};
use bytes::Bytes;
use proptest::prelude::*;

fn text(text: &str) -> Value {
    Value::Bulk(Bytes::copy_from_slice(text.as_bytes()))
}

fn map(pairs: Vec<(&str, Value)>) -> Value {
    // As RESP2 has it; `Value::Map` is the same to a view's pairs.
    Value::Array(pairs.into_iter().flat_map(|(name, value)| [text(name), value]).collect())
}

fn node(host: Value, port: i64, role: &str, health: &str) -> Value {
    map(vec![
        ("id", text("0")),
        ("port", Value::Integer(port)),
        ("tls-port", Value::Integer(port + 10_000)),
        ("ip", text("10.9.9.9")),
        ("endpoint", host),
        ("hostname", text("")),
        ("role", text(role)),
        ("replication-offset", Value::Integer(1)),
        ("health", text(health)),
        ("a-field-of-tomorrow", Value::Array(vec![Value::Null])),
    ])
}

fn shard(slots: &[i64], nodes: Vec<Value>) -> Value {
    let slots = slots.iter().map(|slot| Value::Integer(*slot)).collect();
    map(vec![("slots", Value::Array(slots)), ("nodes", Value::Array(nodes))])
}

fn shards(reply: Value, tls: bool) -> Result<Layout, Malformed> {
    let reply = Reply::from(reply);
    let (at, map) = (Endpoint::tcp("asked", 1), AddressMap::new());
    parse_shards(reply.view(), &Asked { at: &at, map: &map, tls })
}

fn slots(reply: Value, map: &AddressMap) -> Result<Layout, Malformed> {
    let reply = Reply::from(reply);
    let at = Endpoint::tcp("asked", 1);
    parse_slots(reply.view(), &Asked { at: &at, map, tls: false })
}

fn range(first: i64, last: i64, nodes: Vec<(Value, i64)>) -> Value {
    let nodes = nodes.into_iter().map(|(host, port)| {
        let meta = Value::Array(vec![text("hostname"), text("h")]);
        Value::Array(vec![host, Value::Integer(port), text("id"), meta, Value::Null])
    });
    Value::Array([Value::Integer(first), Value::Integer(last)].into_iter().chain(nodes).collect())
}

#[test]
fn shards_are_read_with_their_masters_and_replicas() {
    let reply = Value::Array(vec![
        shard(&[8192, 16383], vec![node(text("b"), 2, "master", "online")]),
        shard(
            &[0, 10, 20, 8191],
            vec![node(text("r"), 3, "replica", "loading"), node(text("A"), 1, "master", "online")],
        ),
        shard(&[], vec![node(text("new"), 9, "master", "online")]),
    ]);
    let layout = shards(reply.clone(), false).expect("well-formed");
    assert_eq!(layout.shards[0].master, Some(Endpoint::tcp("a", 1)), "in one way to write it");
    assert_eq!(layout.shards[0].ranges, [(0, 10), (20, 8191)]);
    assert_eq!(layout.shards[0].replicas, [Endpoint::tcp("r", 3)]);
    assert_eq!(layout.gaps().len(), 9);
    assert!(layout.endpoints().contains(&Endpoint::tcp("new", 9)), "it is about to get slots");
    let layout = shards(reply, true).expect("well-formed");
    assert_eq!(layout.shards[1].master, Some(Endpoint::tcp("b", 10_002)));
}

#[test]
fn a_failed_master_keeps_its_slots_until_there_is_another() {
    for word in ["fail", "failed"] {
        let failed = || node(text("old"), 1, "master", word);
        let reply = |nodes| shards(Value::Array(vec![shard(&[0, 9], nodes)]), false);
        let layout = reply(vec![failed(), node(text("r"), 2, "replica", "online")]);
        assert_eq!(layout.expect("fine").shards[0].master, Some(Endpoint::tcp("old", 1)));
        let layout = reply(vec![failed(), node(text("new"), 2, "master", "online")]);
        assert_eq!(layout.expect("fine").shards[0].master, Some(Endpoint::tcp("new", 2)));
    }
}

#[test]
fn no_host_is_the_host_that_was_asked_and_a_question_mark_is_nobody() {
    let asked = Endpoint::tcp("asked", 7);
    for host in [Value::Null, text("")] {
        let layout =
            slots(Value::Array(vec![range(0, 9, vec![(host.clone(), 7)])]), &AddressMap::new());
        assert_eq!(layout.expect("fine").shards[0].master, Some(asked.clone()));
        let reply = Value::Array(vec![shard(&[0, 9], vec![node(host, 7, "master", "online")])]);
        assert_eq!(shards(reply, false).expect("fine").shards[0].master, Some(asked.clone()));
    }
    let unknown = vec![range(0, 9, vec![(text("?"), 7)]), range(10, 19, vec![(text("::1"), 7)])];
    let layout = slots(Value::Array(unknown), &AddressMap::new()).expect("fine");
    assert_eq!(layout.gaps().len(), 16_384 - 10);
    assert_eq!(layout.endpoints().into_iter().collect::<Vec<_>>(), [&Endpoint::tcp("::1", 7)]);
}

#[test]
fn one_master_with_several_ranges_is_one_shard() {
    let reply = vec![
        range(0, 4, vec![(text("a"), 1), (text("r"), 3)]),
        range(5, 6, vec![(text("b"), 2)]),
        range(9, 9, vec![(text("a"), 1), (text("r"), 3)]),
    ];
    let layout = slots(Value::Array(reply), &AddressMap::new()).expect("fine");
    assert_eq!(layout.shards.len(), 2);
    assert_eq!(layout.shards[0].ranges, [(0, 4), (9, 9)]);
    assert_eq!(layout.shards[0].replicas, [Endpoint::tcp("r", 3)]);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let node = || vec![(text("a"), 1)];
    let bad = [
        vec![range(0, 5, node()), range(5, 6, vec![(text("b"), 2)])],
        vec![range(6, 5, node())],
        vec![range(0, 16_384, node())],
        vec![range(-1, 5, node())],
        vec![range(0, 5, Vec::new())],
        vec![range(0, 5, vec![(text("a"), 0)])],
        vec![range(0, 5, vec![(text("a"), 65_536)])],
        vec![Value::Integer(1)],
    ];
    for reply in bad {
        assert!(slots(Value::Array(reply.clone()), &AddressMap::new()).is_err(), "{reply:?}");
    }
    assert!(slots(Value::Integer(1), &AddressMap::new()).is_err());
    assert!(shards(Value::Array(vec![shard(&[1], vec![])]), false).is_err());
    assert!(shards(Value::Array(vec![map(vec![("slots", Value::Null)])]), false).is_err());
}

#[test]
fn every_address_goes_through_the_map() {
    let map = AddressMap::new()
        .entry("10.0.0.1", 6379, "127.0.0.1", 7001)
        .function(|host, port| (host == "b").then(|| ("B.example".to_owned(), port + 1)));
    let reply = vec![range(0, 9, vec![(text("10.0.0.1"), 6379), (text("b"), 5)])];
    let layout = slots(Value::Array(reply), &map).expect("fine");
    assert_eq!(layout.shards[0].master, Some(Endpoint::tcp("127.0.0.1", 7001)));
    assert_eq!(layout.shards[0].replicas, [Endpoint::tcp("b.example", 6)]);
    let at = Endpoint::tcp("asked", 1);
    let asked = Asked { at: &at, map: &map, tls: false };
    let moved = Redirect::read(&ServerError::new(b"MOVED 7 10.0.0.1:6379"), &asked);
    assert_eq!(moved.and_then(|found| found.to), Some(Endpoint::tcp("127.0.0.1", 7001)));
}

#[test]
fn redirects_name_a_slot_and_a_node_or_are_none() {
    let (at, map) = (Endpoint::tcp("asked", 1), AddressMap::new());
    let asked = Asked { at: &at, map: &map, tls: false };
    let read = |line: &str| Redirect::read(&ServerError::new(line.as_bytes()), &asked);
    let to = |line| read(line).expect("a redirect").to;
    assert_eq!(to("MOVED 3999 127.0.0.1:6381"), Some(Endpoint::tcp("127.0.0.1", 6381)));
    assert_eq!(to("ASK 3999 0:0:0:0:0:0:0:1:6381"), Some(Endpoint::tcp("::1", 6381)));
    assert_eq!(to("MOVED 1 :6381"), Some(Endpoint::tcp("asked", 6381)));
    assert_eq!(to("MOVED 1 ?:6381"), None);
    assert_eq!(to("MOVED 1 n@ne:6381"), None, "no host is called so");
    for line in
        ["MOVED", "MOVED 1", "MOVED 16384 a:1", "MOVED x a:1", "MOVED 1 a", "ASK 1 a:0", "ERR"]
    {
        assert_eq!(read(line), None, "{line}");
    }
}

/// What the nodes at these ports say of who serves which slots.
fn said(by: i64, ranges: &[(i64, i64, i64)]) -> Said {
    let host = |port: i64| if port == 0 { text("?") } else { text("asked") };
    let range = |(first, last, port): &(i64, i64, i64)| {
        range(*first, *last, vec![(host(*port), (*port).max(1))])
    };
    let layout = slots(Value::Array(ranges.iter().map(range).collect()), &AddressMap::new());
    Said { by: Endpoint::tcp("asked", by as u16), layout: layout.expect("fine") }
}

#[test]
fn what_most_nodes_say_holds_and_news_win_a_tie() {
    let whole = |by, owner| said(by, &[(0, 16_383, owner)]);
    let known = whole(1, 1).layout;
    assert_eq!(Layout::agreed(&[], None), None);
    let agreed = Layout::agreed(&[whole(1, 2), whole(2, 1), whole(3, 1)], Some(&known));
    assert_eq!(agreed, Some(known.clone()));
    let agreed = Layout::agreed(&[whole(1, 1), whole(2, 2)], Some(&known));
    assert_eq!(agreed, Some(whole(1, 2).layout));
    assert_eq!(Layout::agreed(&[whole(1, 1)], Some(&known)), Some(known));
}

#[test]
fn who_claims_a_slot_counts_more_than_those_who_say_nothing_of_it() {
    let masters = |answers: &[Said], known: Option<&Layout>| {
        let layout = Layout::agreed(answers, known).expect("there are answers");
        let of = |slot: usize| layout.masters()[slot].map(ToString::to_string);
        [0, 9, 16_383].map(of).map(Option::unwrap_or_default)
    };
    let silent = |by| said(by, &[(10, 16_383, 2)]);
    let claims = said(3, &[(0, 9, 3), (10, 16_383, 2)]);
    let answers = [silent(1), silent(2), claims.clone()];
    assert_eq!(masters(&answers, None), ["asked:3", "asked:3", "asked:2"]);
    let layout = Layout::agreed(&answers, None).expect("answers");
    assert_eq!(layout, claims.layout, "as if all had said so");
    // Somebody else's word will do, where there is none better.
    let hearsay = said(4, &[(0, 9, 5), (10, 16_383, 2)]);
    assert_eq!(masters(&[silent(1), silent(2), hearsay.clone()], None)[0], "asked:5");
    assert_eq!(masters(&[silent(1), silent(2), hearsay, claims], None)[0], "asked:3");
    // Who does not know how a node is reached says nothing of it either, and is news in vain.
    let known = said(1, &[(0, 9, 3), (10, 16_383, 2)]).layout;
    let nowhere = said(2, &[(0, 9, 0), (10, 16_383, 2)]);
    let knows = Said { by: Endpoint::tcp("asked", 1), layout: known.clone() };
    let answers = [nowhere.clone(), knows];
    assert_eq!(masters(&answers, Some(&known)), ["asked:3", "asked:3", "asked:2"]);
    assert_eq!(masters(&[nowhere], Some(&known))[0], "", "nobody says who has it");
    // What most say of a slot is not overruled by who claims it.
    let most = |by| said(by, &[(0, 9, 4), (10, 16_383, 2)]);
    let claims = said(3, &[(0, 9, 3), (10, 16_383, 2)]);
    assert_eq!(masters(&[most(1), most(2), claims], None)[0], "asked:4");
}

proptest! {
    #[test]
    fn any_reply_is_read_or_refused(reply in any_value()) {
        let _ = shards(reply.clone(), false);
        let _ = slots(reply, &AddressMap::new());
    }

    #[test]
    fn any_split_of_the_slots_is_read_as_it_was_said(
        mut cuts in prop::collection::btree_set(1u16..16_384, 0..40),
        masters in 1i64..6,
    ) {
        cuts.insert(16_384);
        let mut first = 0;
        let mut ranges = Vec::new();
        for (at, cut) in cuts.into_iter().enumerate() {
            let port = 1 + at as i64 % masters;
            ranges.push(range(first, i64::from(cut) - 1, vec![(text("h"), port)]));
            first = i64::from(cut);
        }
        let count = ranges.len();
        let layout = slots(Value::Array(ranges), &AddressMap::new()).expect("well-formed");
        prop_assert_eq!(layout.gaps(), Vec::<u16>::new());
        prop_assert_eq!(layout.shards.iter().map(|shard| shard.ranges.len()).sum::<usize>(), count);
    }

    #[test]
    fn any_text_is_a_redirect_or_none(line in ".{0,60}") {
        let (at, map) = (Endpoint::tcp("asked", 1), AddressMap::new());
        let asked = Asked { at: &at, map: &map, tls: false };
        for code in ["MOVED ", "ASK 5 ", ""] {
            let _ = Redirect::read(&ServerError::new(format!("{code}{line}").as_bytes()), &asked);
        }
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        (-2i64..20_000).prop_map(Value::Integer),
        prop_oneof!["slots", "nodes", "port", "role", "master", "endpoint", "[a-z?]{0,3}"]
            .prop_map(|word| text(&word)),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| prop::collection::vec(inner, 0..8).prop_map(Value::Array))
}
