use super::*;
use TopicKind::{Channel, Pattern, Shard};

type Fed = Feed<u32, u32>;

fn want(feed: &mut Fed, kind: TopicKind, name: &str, stream: u32) -> TopicId {
    feed.want(kind, name.as_bytes(), stream).0
}

/// The next command, and its topics.
fn step(feed: &mut Fed) -> Option<(String, Vec<TopicId>)> {
    let step = feed.next_step()?;
    let names = step.topics.iter().map(|(_, topic)| String::from_utf8_lossy(&topic.name));
    let names: Vec<_> = names.collect();
    let text = format!("{} {}", step.kind.command(step.action), names.join(" "));
    Some((text, step.topics.iter().map(|(id, _)| *id).collect()))
}

fn text(feed: &mut Fed) -> Option<String> {
    step(feed).map(|(text, _)| text)
}

/// Confirms all there is to be confirmed.
fn settle(feed: &mut Fed) -> Vec<String> {
    let mut all = Vec::new();
    while let Some((text, ids)) = step(feed) {
        for id in ids {
            if text.contains("UNSUB") {
                feed.dropped(id);
            } else {
                feed.added(id, |_| ());
            }
        }
        all.push(text);
    }
    all
}

#[test]
fn streams_on_one_channel_share_one_subscription() {
    let mut feed = Fed::new(1);
    let a = want(&mut feed, Channel, "a", 1);
    assert_eq!(want(&mut feed, Channel, "a", 2), a);
    assert_eq!(settle(&mut feed), ["SUBSCRIBE a"]);
    assert_eq!(feed.want(Channel, b"a", 3), (a, true));
    assert_eq!(feed.want(Channel, b"a", 3), (a, false));
    assert!(feed.listener(a, 3).expect("it was added").hears, "nothing is to be waited for");
    for (stream, text) in [(1, None), (3, None), (2, Some("UNSUBSCRIBE a"))] {
        feed.unwant(a, stream);
        assert_eq!(settle(&mut feed).first().map(String::as_str), text);
    }
    assert!(feed.is_empty());
    assert_eq!(feed.find(Channel, b"a"), None);
}

#[test]
fn kinds_do_not_mix_and_neither_do_slots() {
    let mut feed = Fed::new(1);
    for (kind, name) in [(Channel, "a"), (Pattern, "a"), (Shard, "a"), (Shard, "b")] {
        want(&mut feed, kind, name, 1);
    }
    want(&mut feed, Channel, "b", 1);
    want(&mut feed, Shard, "{b}2", 1);
    let all = settle(&mut feed);
    let expected = ["SUBSCRIBE a b", "PSUBSCRIBE a", "SSUBSCRIBE a", "SSUBSCRIBE b {b}2"];
    assert_eq!(all, expected);
}

#[test]
fn what_is_wanted_and_given_up_while_a_step_is_under_way_waits_for_its_end() {
    let mut feed = Fed::new(1);
    let a = want(&mut feed, Channel, "a", 1);
    assert_eq!(text(&mut feed).as_deref(), Some("SUBSCRIBE a"));
    assert_eq!(feed.unwant(a, 1).map(|(_, unwanted)| unwanted), Some(Unwanted::Leaving));
    assert_eq!(text(&mut feed), None);
    want(&mut feed, Channel, "a", 2);
    feed.unwant(a, 2);
    feed.added(a, |_| panic!("nobody waits for it"));
    assert_eq!(text(&mut feed).as_deref(), Some("UNSUBSCRIBE a"));
    want(&mut feed, Channel, "a", 3);
    assert_eq!(text(&mut feed), None);
    let hears = feed.listeners(a)[0].hears;
    assert!(!hears, "what is still on its way is not for the newcomer");
    feed.dropped(a);
    assert_eq!(settle(&mut feed), ["SUBSCRIBE a"]);
}

#[test]
fn who_waits_for_a_topic_to_be_dropped_waits_no_longer_than_that_can_happen() {
    let mut feed = Fed::new(1);
    let mut a = want(&mut feed, Channel, "a", 1);
    // Dropped.
    settle(&mut feed);
    feed.unwant(a, 1);
    feed.wait_until_dropped(a, 1);
    assert!(feed.take_left().is_empty());
    settle(&mut feed);
    assert_eq!(feed.take_left(), [1]);
    // Wanted again before it was.
    a = want(&mut feed, Channel, "a", 1);
    settle(&mut feed);
    feed.unwant(a, 1);
    feed.wait_until_dropped(a, 2);
    want(&mut feed, Channel, "a", 2);
    assert_eq!(feed.take_left(), [2]);
    // Taken away before it was asked for.
    feed.unwant(a, 2);
    feed.wait_until_dropped(a, 3);
    feed.taken_away(Channel, b"a", |_| ());
    assert_eq!(feed.take_left(), [3]);
    // Never added.
    a = want(&mut feed, Channel, "a", 1);
    step(&mut feed);
    feed.unwant(a, 1);
    feed.wait_until_dropped(a, 4);
    feed.refused(a);
    assert_eq!(feed.take_left(), [4]);
    // Lost.
    a = want(&mut feed, Channel, "a", 1);
    settle(&mut feed);
    feed.unwant(a, 1);
    feed.wait_until_dropped(a, 5);
    feed.lost(|_| ());
    assert_eq!(feed.take_left(), [5]);
    assert!(feed.is_empty());
}

#[test]
fn many_topics_go_in_slices_one_after_the_other() {
    let mut feed = Fed::new(1);
    for number in 0..10_000 {
        want(&mut feed, Channel, &format!("channel:{number}"), 1);
    }
    let mut left = 10_000;
    while let Some((_, ids)) = step(&mut feed) {
        assert!(ids.len() <= SLICE_TOPICS);
        assert_eq!(text(&mut feed), None, "one slice at a time");
        left -= ids.len();
        ids.into_iter().for_each(|id| feed.added(id, |_| ()));
    }
    assert_eq!((left, feed.heard()), (0, 10_000));
    let long = "x".repeat(SLICE_BYTES);
    want(&mut feed, Pattern, "p", 1);
    want(&mut feed, Pattern, &long, 1);
    want(&mut feed, Pattern, "q", 1);
    assert_eq!(settle(&mut feed).len(), 3);
}

#[test]
fn all_that_a_connection_has_or_was_asked_for_is_dropped_where_it_goes_on_without() {
    let mut feed = Fed::new(1);
    for number in 0..SLICE_TOPICS {
        want(&mut feed, Channel, &number.to_string(), 1);
    }
    settle(&mut feed);
    let given_up = feed.find(Channel, b"0").expect("it is wanted");
    feed.unwant(given_up, 1);
    assert_eq!(text(&mut feed).as_deref(), Some("UNSUBSCRIBE 0"), "that is under way already");
    let long = "x".repeat(SLICE_BYTES);
    for (kind, name) in [(Channel, long.as_str()), (Channel, "asked"), (Pattern, "p")] {
        want(&mut feed, kind, name, 1);
        text(&mut feed);
    }
    for name in ["a", "b", "{a}2", "c"] {
        want(&mut feed, Shard, name, 1);
    }
    while step(&mut feed).is_some() {}
    let partings = feed.partings();
    let counts: Vec<_> = partings.iter().map(|step| (step.kind, step.topics.len())).collect();
    let most = (Channel, SLICE_TOPICS - 1);
    assert_eq!(counts[..4], [most, (Channel, 1), (Channel, 1), (Pattern, 1)]);
    assert!(partings.iter().all(|step| step.action == Action::Unsubscribe));
    let slots = partings[4..].iter().map(|step| {
        let mut slots: Vec<_> = step.topics.iter().map(|(_, topic)| slot(&topic.name)).collect();
        slots.dedup();
        slots.len()
    });
    assert!(slots.clone().count() > 1 && slots.max() == Some(1), "{partings:?}");
    feed.lost(|_| ());
    assert!(feed.partings().is_empty());
}

#[test]
fn after_a_loss_what_is_wanted_is_asked_for_and_stale_confirmations_are_inert() {
    let mut feed = Fed::new(1);
    let a = want(&mut feed, Channel, "a", 1);
    let b = want(&mut feed, Channel, "b", 1);
    settle(&mut feed);
    let c = want(&mut feed, Channel, "c", 2);
    feed.unwant(b, 1);
    assert!(text(&mut feed).is_some());
    let mut lost = Vec::new();
    feed.lost(|listener| lost.push(listener.stream));
    assert_eq!(lost, [1], "nobody else had heard anything");
    feed.added(c, |_| panic!("a stale confirmation"));
    feed.dropped(b);
    assert_eq!(text(&mut feed).as_deref(), Some("SUBSCRIBE a c"));
    let mut restored = Vec::new();
    for id in [a, c] {
        feed.added(id, |listener| restored.push((listener.stream, listener.misses)));
    }
    assert_eq!(restored, [(1, true), (2, false)]);
    assert_eq!(feed.len(), 2);
}

#[test]
fn a_refusal_of_many_is_tried_one_by_one_and_that_of_one_is_put_off() {
    let mut feed = Fed::new(1);
    for name in ["a", "b", "c"] {
        want(&mut feed, Channel, name, 1);
    }
    let (_, ids) = step(&mut feed).expect("there is something to do");
    ids.iter().for_each(|id| feed.refused_among_others(*id));
    for name in ["a", "b", "c"] {
        assert_eq!(text(&mut feed).as_deref(), Some(&*format!("SUBSCRIBE {name}")));
    }
    feed.refused(ids[0]);
    feed.added(ids[1], |_| ());
    feed.unwant(ids[2], 1);
    feed.refused(ids[2]);
    assert_eq!((text(&mut feed), feed.has_put_off(), feed.len()), (None, true, 2));
    feed.try_again();
    assert_eq!(settle(&mut feed), ["SUBSCRIBE a"]);
}

#[test]
fn what_the_server_takes_away_unasked_is_put_off_and_told() {
    let mut feed = Fed::new(1);
    let a = want(&mut feed, Shard, "a", 1);
    settle(&mut feed);
    let mut told = 0;
    feed.taken_away(Shard, b"a", |_| told += 1);
    feed.taken_away(Shard, b"a", |_| told += 1);
    feed.taken_away(Channel, b"a", |_| told += 1);
    feed.taken_away(Shard, b"nobody's", |_| told += 1);
    assert_eq!((told, text(&mut feed), feed.has_put_off()), (1, None, true));
    // Crossing with our own: the answer to that is what counts.
    feed.try_again();
    settle(&mut feed);
    feed.unwant(a, 1);
    assert_eq!(text(&mut feed).as_deref(), Some("SUNSUBSCRIBE a"));
    feed.taken_away(Shard, b"a", |_| panic!("nobody listens"));
    feed.dropped(a);
    assert!(feed.is_empty());
}

#[test]
fn a_topic_that_moves_to_another_feed_takes_its_listeners_along_and_is_dropped_here() {
    let (mut from, mut to) = (Fed::new(1), Fed::new(2));
    let a = want(&mut from, Shard, "a", 1);
    settle(&mut from);
    let b = want(&mut from, Shard, "b", 1);
    want(&mut from, Shard, "b", 2);
    for (id, count) in [(a, 1), (b, 2)] {
        let moved = from.move_out(id).expect("it is there");
        assert_eq!(moved.listeners.len(), count);
        to.move_in(moved, |_| panic!("nobody hears it here yet"));
    }
    assert_eq!(settle(&mut from), ["SUNSUBSCRIBE a"], "the other one was not asked for");
    assert!(from.is_empty());
    assert!(from.move_out(a).is_none());
    assert_eq!(settle(&mut to), ["SSUBSCRIBE a", "SSUBSCRIBE b"]);
    assert_eq!((to.heard(), to.len()), (2, 2));
    // Back before the other has dropped it.
    let again = to.find(Shard, b"a").expect("it is there");
    let moved = to.move_out(again).expect("it is there");
    let mut told = 0;
    to.move_in(moved, |_| told += 1);
    assert_eq!((told, settle(&mut to).len()), (1, 0));
}
