use super::*;
use crate::{
    dialogue::testing::{Said, Talk, list, refusal, text},
    failure::Stage,
    resp::Value,
};

type Keys = Talk<Scan<String>>;

fn keys() -> Keys {
    keys_with(ScanOptions::new())
}

fn keys_with(options: ScanOptions<'_>) -> Keys {
    Talk::with(Scan::new(Spec::of("SCAN"), None, options))
}

fn page(cursor: u64, keys: &[&str]) -> Value {
    list([text(cursor.to_string()), list(keys.iter().map(|key| text(*key)))])
}

fn name(run_id: &str) -> Value {
    text(format!("# Server\r\nredis_version:7.0.15\r\nrun_id:{run_id}\r\ntcp_port:1\r\n"))
}

fn from(values: impl IntoIterator<Item = Value>) -> Vec<Result<Reply, Failure>> {
    values.into_iter().map(|value| Ok(Reply::from(value))).collect()
}

/// A scan of which the first page has come, and the second is under way.
fn begun() -> Keys {
    let mut keys = keys();
    assert_eq!(keys.sent(), "SCAN 0");
    keys.answer([page(7, &["a", "b"])]);
    let (items, sent, last) = keys.items();
    assert_eq!((items, sent), (vec!["a".into(), "b".into()], vec!["INFO server; SCAN 7".into()]));
    assert!(matches!(last, Said::Waits));
    keys
}

/// A scan of which the second page has come, so that it knows its server, and the third is under way.
fn at_home() -> Keys {
    let mut keys = begun();
    keys.answer([name("one"), page(9, &["c"])]);
    let (items, sent, _) = keys.items();
    assert_eq!((items, sent), (vec!["c".into()], vec!["SCAN 9".into()]));
    keys
}

#[test]
fn a_scan_of_one_page_asks_once_and_nothing_else() {
    let mut keys = keys();
    assert_eq!(keys.sent(), "SCAN 0");
    assert!(matches!(keys.go_on(), Said::Waits));
    keys.answer([page(0, &["a", "b"])]);
    let (items, sent, last) = keys.items();
    assert_eq!(items, ["a", "b"]);
    assert!(sent.is_empty());
    assert!(matches!(last, Said::Over));
}

#[test]
fn the_next_page_is_under_way_while_items_are_given_and_no_other() {
    let mut keys = keys();
    keys.sent();
    keys.answer([page(7, &["a", "b"])]);
    assert_eq!(keys.sent(), "INFO server; SCAN 7");
    assert!(matches!(keys.go_on(), Said::Item(key) if key == "a"));
    assert!(matches!(keys.go_on(), Said::Item(key) if key == "b"));
    assert!(matches!(keys.go_on(), Said::Waits));
}

#[test]
fn pages_without_items_are_passed_over() {
    let mut keys = at_home();
    for cursor in [1, 2, 3] {
        keys.answer([page(cursor, &[])]);
        assert_eq!(keys.sent(), format!("SCAN {cursor}"));
        assert!(matches!(keys.go_on(), Said::Waits));
    }
    keys.answer([page(0, &["last"])]);
    let (items, _, last) = keys.items();
    assert_eq!(items, ["last"]);
    assert!(matches!(last, Said::Over));
}

#[test]
fn options_go_with_every_page() {
    let mut keys = keys_with(ScanOptions::new().pattern("k*").count(50).kind("hash"));
    assert_eq!(keys.sent(), "SCAN 0 MATCH k* COUNT 50 TYPE hash");
    keys.answer([page(u64::MAX, &[])]);
    let second = format!("INFO server; SCAN {} MATCH k* COUNT 50 TYPE hash", u64::MAX);
    assert_eq!(keys.sent(), second);
}

#[test]
fn fields_and_scores_come_in_pairs() {
    let hash = Scan::<(String, u32)>::new(Spec::of("HSCAN"), Some(&"h"), ScanOptions::new());
    let mut hash = Talk::with(hash);
    assert_eq!(hash.sent(), "HSCAN h 0");
    hash.answer([list([text("0"), list([text("f"), text("1"), text("g"), text("2")])])]);
    assert_eq!(hash.items().0, [("f".to_owned(), 1), ("g".to_owned(), 2)]);

    let scores = Scan::<(String, f64)>::new(Spec::of("ZSCAN"), Some(&"z"), ScanOptions::new());
    let mut scores = Talk::with(scores);
    assert_eq!(scores.sent(), "ZSCAN z 0");
    scores.answer([list([text("0"), list([text("m"), Value::Double(1.5)])])]);
    assert_eq!(scores.items().0, [("m".to_owned(), 1.5)]);

    let fields = Scan::<String>::new(Spec::of("HSCAN"), Some(&"h"), ScanOptions::new().count(5));
    assert_eq!(Talk::with(fields.without_values()).sent(), "HSCAN h 0 COUNT 5 NOVALUES");
}

#[test]
fn an_error_ends_it_after_what_came_before() {
    let mut keys = begun();
    keys.fail(refusal("NOPERM no"));
    let (items, _, last) = keys.items();
    assert!(items.is_empty());
    assert_eq!(last.failure().command(), "SCAN");

    let mut keys = begun();
    keys.answer_from(Some(1), [Ok(Reply::from(name("one"))), Err(refusal("ERR no").named("SCAN"))]);
    assert!(matches!(keys.go_on(), Said::Failed(_)));
}

#[test]
fn a_key_that_is_not_what_was_asked_for_is_an_error() {
    let mut keys = keys();
    keys.sent();
    keys.answer([list([
        text("0"),
        list([text("a"), Value::Bulk(bytes::Bytes::from_static(b"\xff"))]),
    ])]);
    let failure = keys.go_on();
    let failure = failure.failure();
    assert!(matches!(failure.kind(), FailureKind::Decode(_)), "{failure}");
    assert_eq!((failure.command(), failure.executed()), ("SCAN", Executed::Yes));
}

#[test]
fn a_lost_connection_to_the_same_server_costs_a_question_and_no_key() {
    let mut keys = at_home();
    // Sent again by the engine, and answered from another connection.
    keys.answer_from(Some(2), from([page(0, &["not trusted"])]));
    assert_eq!(keys.sent(), "INFO server");
    assert!(matches!(keys.go_on(), Said::Waits));
    keys.answer_from(Some(2), from([name("one")]));
    assert_eq!(keys.sent(), "SCAN 9", "it goes on where it was");
    keys.answer_from(Some(2), from([page(0, &["d"])]));
    let (items, _, last) = keys.items();
    assert_eq!(items, ["d"]);
    assert!(matches!(last, Said::Over));
    assert_eq!(keys.dialogue.restarts(), 0);
}

#[test]
fn where_the_server_is_another_one_the_scan_begins_anew() {
    let mut keys = at_home();
    keys.answer_from(None, from([page(0, &["not trusted"])]));
    assert_eq!(keys.sent(), "INFO server");
    keys.answer_from(Some(2), from([name("two")]));
    assert_eq!(keys.sent(), "SCAN 0");
    assert_eq!(keys.dialogue.restarts(), 1);
    keys.answer_from(Some(2), from([page(4, &["a"])]));
    assert_eq!(keys.sent(), "INFO server; SCAN 4", "it does not know this one");
    assert_eq!(keys.items().0, ["a"]);
    keys.answer_from(Some(2), from([name("two"), page(0, &["z"])]));
    assert_eq!(keys.items().0, ["z"]);
}

#[test]
fn where_nobody_can_tell_which_server_it_is_the_scan_begins_anew() {
    let mut keys = begun();
    keys.answer_from(None, from([name("one"), page(0, &["not trusted"])]));
    assert_eq!(keys.sent(), "SCAN 0", "the name may be of either");
    keys.answer_from(Some(2), from([page(3, &["a"])]));
    keys.items();
    let refused = [Err(refusal("NOPERM no")), Ok(Reply::from(page(5, &["b"])))];
    keys.answer_from(Some(2), refused);
    assert_eq!(keys.items().0, ["b"], "it does without a name");
    keys.answer_from(Some(3), from([page(0, &["not trusted"])]));
    assert_eq!(keys.sent(), "SCAN 0");
    assert_eq!(keys.dialogue.restarts(), 2);
}

#[test]
fn a_first_page_that_nobody_can_place_is_asked_for_again() {
    let mut keys = keys();
    keys.sent();
    keys.answer_from(None, from([page(7, &["a"])]));
    assert_eq!(keys.sent(), "SCAN 0");
    keys.answer_from(None, from([page(0, &["a", "b"])]));
    let (items, _, last) = keys.items();
    assert_eq!(items, ["a", "b"], "all in one piece needs no place");
    assert!(matches!(last, Said::Over));
}

#[test]
fn a_scan_gives_up_where_servers_come_and_go() {
    let mut keys = at_home();
    for round in 0..=RESTARTS_MAX {
        keys.answer_from(Some(10), from([page(1, &["x"])]));
        if round < RESTARTS_MAX {
            assert_eq!(keys.sent(), "INFO server");
            keys.answer_from(Some(10), from([name(&format!("{round}"))]));
            assert_eq!(keys.sent(), "SCAN 0");
            keys.answer_from(Some(1), from([page(7, &["a"])]));
            keys.items();
            keys.answer_from(Some(1), from([name("one"), page(9, &["c"])]));
            keys.items();
        }
    }
    keys.sent();
    keys.answer_from(Some(10), from([name("other")]));
    let failure = keys.go_on().failure();
    assert!(matches!(failure.kind(), FailureKind::ConnectionLost(_)), "{failure}");

    let mut keys = self::keys();
    for _ in 0..UNSURE_MAX {
        assert_eq!(keys.sent(), "SCAN 0");
        keys.answer_from(None, from([page(7, &["a"])]));
    }
    keys.sent();
    keys.answer_from(None, from([page(7, &["a"])]));
    keys.go_on().failure();
}

#[test]
fn what_was_begun_on_the_server_is_not_ended_in_memory() {
    let remembered =
        |cursor, keys: &[&str]| [Ok(Reply::from(page(cursor, keys)).with_source(Source::Overlay))];
    let mut keys = at_home();
    keys.answer_from(Some(1), remembered(0, &["x"]));
    let failure = keys.go_on().failure();
    assert!(matches!(failure.kind(), FailureKind::Memory(MemoryRefusal::Unseen)), "{failure}");
    assert_eq!(failure.executed(), Executed::No);

    let mut keys = self::keys();
    keys.sent();
    keys.answer_from(Some(1), remembered(2, &["x"]));
    assert_eq!(keys.sent(), "SCAN 2");
    assert_eq!(keys.items().0, ["x"]);
    assert_eq!(keys.dialogue.source(), Source::Overlay);
    keys.answer_from(Some(1), from([page(0, &["y"])]));
    assert_eq!(keys.sent(), "SCAN 0", "the server is back, and has more to tell");
    keys.answer_from(Some(1), from([page(0, &["x", "y"])]));
    assert_eq!(keys.items().0, ["x", "y"]);
    assert_eq!(keys.dialogue.source(), Source::Server);
}

#[test]
fn memory_alone_needs_no_connection() {
    let mut keys = keys();
    keys.sent();
    for cursor in [3, 2, 0] {
        let page = Reply::from(page(cursor, &["x"])).with_source(Source::Store);
        keys.answer_from(Some(0), [Ok(page)]);
        let (items, sent, _) = keys.items();
        assert_eq!(items, ["x"]);
        assert!(sent.iter().all(|sent| *sent == format!("SCAN {cursor}")), "{sent:?}");
    }
}

#[test]
fn nothing_of_the_callers_is_printed() {
    let scan = Scan::<String>::new(
        Spec::of("HSCAN"),
        Some(&"secret"),
        ScanOptions::new().pattern("secret"),
    );
    assert!(!format!("{scan:?}").contains("secret"));
}

/// A scan of a cluster.
fn cluster_keys(options: ScanOptions<'_>) -> Keys {
    let mut keys = keys_with(options);
    let nodes = [crate::config::Endpoint::tcp("127.0.0.1", 7001)];
    keys.dialogue.begin(&Config::cluster(nodes));
    keys
}

/// What a node says of itself.
fn claim(id: &str, slots: &str) -> Value {
    text(format!("{id} 127.0.0.1:1@2 myself,master - 0 0 1 connected {slots}\n"))
}

/// "foo" lies in slot 12182, "hello" in 866, "name" in 5798.
const ALL_SLOTS: &str = "0-16383";

#[test]
fn small_nodes_of_a_cluster_take_one_question_each() {
    let mut keys = cluster_keys(ScanOptions::new().count(100));
    let question = "CLUSTER NODES; SCAN 0 COUNT 100; CLUSTER NODES";
    assert_eq!(keys.sent(), question);
    let half = || claim("a", "0-8191");
    keys.answer([half(), page(0, &["hello", "name", "foo"]), half()]);
    let (items, sent, _) = keys.items();
    assert_eq!(
        (items, sent),
        (vec!["hello".into(), "name".into(), "foo".into()], vec![question.into()])
    );
    let rest = || claim("b", "8192-16383");
    keys.answer_from(Some(2), from([rest(), page(0, &["foo", "hello"]), rest()]));
    let (items, sent, last) = keys.items();
    assert_eq!(items, ["foo"], "the slot of the other is done with");
    assert!(sent.is_empty() && matches!(last, Said::Over));
}

#[test]
fn a_node_with_many_pages_is_asked_at_the_end_what_it_still_has() {
    let mut keys = cluster_keys(ScanOptions::new());
    keys.sent();
    keys.answer([claim("a", ALL_SLOTS), page(7, &["foo"]), claim("a", ALL_SLOTS)]);
    assert_eq!(keys.sent(), "INFO server; SCAN 7");
    assert_eq!(keys.items().0, ["foo"]);
    keys.answer([name("one"), page(0, &["hello"])]);
    assert_eq!(keys.sent(), "CLUSTER NODES");
    keys.answer([claim("a", "0-5797 5799-16383")]);
    let (items, _, last) = keys.items();
    assert_eq!(items, ["hello"]);
    assert!(matches!(last, Said::Sleeps(_)), "one slot is elsewhere by now");
    keys.wake_after(Duration::from_millis(150));
    assert_eq!(keys.sent(), "CLUSTER NODES; SCAN 0; CLUSTER NODES");
    let heir = || claim("b", "5798");
    keys.answer_from(Some(2), from([heir(), page(0, &["name", "foo"]), heir()]));
    let (items, _, last) = keys.items();
    assert_eq!(items, ["name"]);
    assert!(matches!(last, Said::Over));
}

#[test]
fn a_node_that_is_another_process_costs_its_own_part_only() {
    let mut keys = cluster_keys(ScanOptions::new());
    keys.sent();
    keys.answer([claim("a", "0-8191"), page(0, &["hello"]), claim("a", "0-8191")]);
    keys.items();
    let rest = || claim("b", "8192-16383");
    keys.answer_from(Some(2), from([rest(), page(4, &["foo"]), rest()]));
    keys.items();
    keys.answer_from(Some(2), from([name("two"), page(6, &[])]));
    assert_eq!(keys.sent(), "SCAN 6");
    keys.go_on();
    keys.answer_from(Some(3), from([page(0, &["not trusted"])]));
    assert_eq!(keys.sent(), "INFO server");
    keys.go_on();
    keys.answer_from(Some(3), from([name("three")]));
    assert!(matches!(keys.go_on(), Said::Sleeps(_)));
    keys.wake_after(Duration::from_millis(150));
    assert_eq!(keys.sent(), "CLUSTER NODES; SCAN 0; CLUSTER NODES");
    let heir = || claim("c", "8192-16383");
    keys.answer_from(Some(3), from([heir(), page(0, &["foo", "hello"]), heir()]));
    let (items, _, last) = keys.items();
    assert_eq!(items, ["foo"]);
    assert!(matches!(last, Said::Over));
    assert_eq!(keys.dialogue.restarts(), 1);
}

#[test]
fn slots_that_never_come_to_rest_end_a_scan_with_an_error() {
    let mut keys = cluster_keys(ScanOptions::new());
    let failure = loop {
        match keys.go_on() {
            Said::Sent(_) => {}
            Said::Waits => _ = keys.answer([claim("a", ""), page(0, &[]), claim("a", "")]),
            Said::Sleeps(pause) => _ = keys.wake_after(pause),
            other => break other.failure(),
        }
    };
    assert!(failure.to_string().contains("16384 slots"), "{failure}");
    assert_eq!((failure.command(), failure.executed()), ("SCAN", Executed::No));
}

#[test]
fn a_node_that_is_not_there_costs_a_scan_one_deadline() {
    let mut keys = cluster_keys(ScanOptions::new());
    keys.sent();
    let late =
        || Err(Failure::new(FailureKind::DeadlinePassed(Stage::Connection), Executed::No, "SCAN"));
    keys.answer_from(None, vec![late(), late(), late()]);
    let failure = keys.go_on().failure();
    assert!(matches!(failure.kind(), FailureKind::DeadlinePassed(_)), "{failure}");

    // What comes and goes with slots and nodes is no reason to end.
    let mut keys = cluster_keys(ScanOptions::new());
    keys.sent();
    let gap = || Err(Failure::new(FailureKind::Uncovered(7), Executed::No, "SCAN"));
    keys.answer_from(None, vec![gap(), gap(), gap()]);
    assert!(matches!(keys.go_on(), Said::Sent(_) | Said::Sleeps(_)));
}

#[test]
fn a_pattern_of_one_slot_needs_that_slots_node_alone() {
    let mut keys = cluster_keys(ScanOptions::new().pattern("{foo}:*"));
    keys.sent();
    let own = || claim("c", "10923-16383");
    keys.answer([own(), page(0, &["{foo}:1"]), own()]);
    let (items, _, last) = keys.items();
    assert_eq!(items, ["{foo}:1"]);
    assert!(matches!(last, Said::Over));
    let of = |pattern: &str| slot_of_pattern(pattern.as_bytes());
    assert_eq!(of("{user:7}:*"), Some(slot(b"user:7")));
    assert_eq!(of("a{b}c[de]"), Some(slot(b"b")));
    assert_eq!(of("plain"), Some(slot(b"plain")));
    for pattern in ["*", "a*{b}", "{a*}", "{}*", "{a", "{a?}", "a\\b", "{}{a}*"] {
        assert_eq!(of(pattern), (pattern == "{a").then(|| slot(b"{a")), "{pattern}");
    }
}

#[test]
fn who_is_redirected_page_after_page_waits_longer_and_longer() {
    let scan = Scan::<String>::new(Spec::of("SSCAN"), Some(&"set"), ScanOptions::new());
    let mut members = Talk::with(scan);
    members.dialogue.begin(&Config::cluster([crate::config::Endpoint::tcp("127.0.0.1", 7001)]));
    let mut waited = Duration::ZERO;
    let failure = loop {
        match members.go_on() {
            Said::Sent(_) => {}
            Said::Waits => _ = members.answer_from(None, from([page(7, &["a"])])),
            Said::Sleeps(pause) => {
                waited += pause;
                members.wake_after(pause);
            }
            other => break other.failure(),
        }
    };
    assert!(matches!(failure.kind(), FailureKind::ConnectionLost(_)), "{failure}");
    assert!(waited > Duration::from_secs(10), "{waited:?}");
}
