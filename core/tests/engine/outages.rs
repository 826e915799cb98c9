//! Keys that are answered from memory while the server is down: from the judgement to the end of recovery.

use super::*;

#[test]
fn a_key_that_may_degrade_is_read_and_written_through_an_outage() {
    let config = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let mut world = World::live(config);
    let set = world.run(&Request::new("SET").arg("cache:a").arg("1"));
    world.write();
    world.say("+OK\r\n");
    world.value::<()>(set);
    let pending = world.run(&Request::new("GET").arg("cache:a"));
    world.write();
    world.wait(Duration::from_secs(1));
    world.lose(Cause::Reset);
    assert_eq!(world.engine.health(), Health::Suspect);
    assert!(world.engine.take(pending).is_none(), "one lost connection degrades nothing");
    world.lose(Cause::Refused);
    assert_eq!(world.engine.health(), Health::Degraded);
    assert_eq!(world.value::<String>(pending), "1");
    let incr = world.run(&Request::new("INCR").arg("cache:a"));
    assert_eq!(world.value::<i64>(incr), 2);
    let wallet = world.run(&Request::new("INCR").arg("wallet:a"));
    assert!(world.engine.take(wallet).is_none(), "what may not degrade waits");

    world.wait(Duration::from_millis(100));
    world.open();
    world.write();
    world.say("%0\r\n");
    // The wallet goes at once; the cache after probes, barrier and drain.
    let sent = world.write();
    assert!(sent.contains("INFO") && sent.contains("wallet:a"), "{sent}");
    world.say("+run_id:two\r\n+master_replid:two\r\n:1\r\n");
    assert_eq!(world.value::<i64>(wallet), 1);
    world.say("+PONG\r\n*1\r\n+master\r\n:0\r\n");
    let mut drained = String::new();
    for _ in 0..40 {
        world.wait(Duration::from_millis(50));
        let sent = world.write();
        let answers = [
            ("INFO", "$31\r\nrun_id:two\r\nmaster_replid:two\r\n\r\n"),
            ("PING", "+PONG\r\n"),
            ("ROLE", "*1\r\n+master\r\n"),
            ("DEL", ":0\r\n"),
        ];
        for (word, answer) in answers {
            for _ in 0..sent.matches(&format!("\r\n{word}\r\n")).count() {
                world.say(answer);
            }
        }
        drained.push_str(&sent);
    }
    assert!(drained.contains("$3\r\nDEL\r\n$7\r\ncache:a\r\n"), "{drained}");
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    let status = world.engine.status();
    assert_eq!((status.journal_entries, status.overlay_entries, status.shadow_entries), (0, 0, 0));
    let changes = world.events.iter().filter(|event| event.contains("->")).count();
    assert_eq!(changes, 5, "{:?}", world.events);
}

#[test]
fn what_memory_held_before_recovery_never_comes_back_in_the_next_outage() {
    for policy in [Policy::Discard, Policy::Invalidate] {
        let mut world = degraded(policy);
        world.run_now::<()>(&Request::new("SET").arg("cache:a").arg("old"));
        world.wait(Duration::from_millis(100));
        world.open();
        recover(&mut world, 60);
        assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
        let set = world.run(&Request::new("SET").arg("cache:a").arg("new"));
        world.write();
        world.say("+OK\r\n");
        world.value::<()>(set);
        world.lose(Cause::Reset);
        world.lose(Cause::Refused);
        let get = Request::new("GET").arg("cache:a");
        assert_eq!(world.run_now::<Option<String>>(&get).as_deref(), Some("new"));
    }
}

#[test]
fn what_only_one_client_may_win_is_never_won_in_memory() {
    let mut world = degraded(Policy::Invalidate);
    world.run_now::<()>(&Request::new("SET").arg("cache:mine").arg("1"));
    for command in [
        "SET cache:lock me NX",
        "SETNX cache:lock me",
        "MSETNX cache:lock me",
        "RENAMENX cache:mine cache:lock",
    ] {
        let ticket = world.run(&Request::new(command));
        let failure = world.engine.take(ticket).expect("ended").expect_err("others could win too");
        let unsafe_here = FailureKind::Memory(MemoryRefusal::Unsafe).to_string();
        assert_eq!(failure.kind().to_string(), unsafe_here, "{command}");
    }
}

#[test]
fn what_is_remembered_makes_room_for_writes_and_what_was_written_does_not() {
    let config =
        World::plain().fallback(Fallback::memory("cache:*", Policy::Discard)).memory_entries_max(2);
    let mut world = World::live(config);
    let set = world.run(&Request::new("SET").arg("cache:a").arg("1"));
    world.write();
    world.say("+OK\r\n");
    world.value::<()>(set);
    world.wait(Duration::from_millis(600));
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    world.run_now::<()>(&Request::new("SET").arg("cache:b").arg("2"));
    let both = Request::new("MGET").arg("cache:a").arg("cache:b");
    assert_eq!(world.run_now::<Vec<i64>>(&both), [1, 2]);
    assert_eq!(world.run_now::<i64>(&Request::new("INCR").arg("cache:a")), 2);
    let set = world.run(&Request::new("SET").arg("cache:c").arg("3"));
    let failure = world.engine.take(set).expect("ended").expect_err("two values were written");
    assert!(matches!(failure.kind(), FailureKind::Memory(MemoryRefusal::Full(_))));
    assert_eq!(world.engine.status().overlay_entries, 2);
    assert_eq!(world.run_now::<Vec<i64>>(&both), [2, 2]);
}

#[test]
fn what_may_have_been_overwritten_is_not_remembered_when_memory_refuses_the_write() {
    let config = World::plain()
        .fallback(Fallback::memory("cache:*", Policy::Invalidate))
        .journal_entries_max(1);
    let mut world = World::live(config);
    let set = world.run(&Request::new("SET").arg("cache:a").arg("1"));
    world.write();
    world.say("+OK\r\n");
    world.value::<()>(set);
    world.wait(Duration::from_millis(600));
    let other = world.run(&Request::new("SET").arg("cache:b").arg("1"));
    let again = world.run(&Request::new("SET").arg("cache:a").arg("2"));
    world.write();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    world.value::<()>(other);
    let failure = world.engine.take(again).expect("ended").expect_err("the journal is full");
    assert_eq!(failure.executed(), Executed::Maybe);
    assert_eq!(world.run_now::<Option<String>>(&Request::new("GET").arg("cache:a")), None);
}

#[test]
fn what_is_remembered_is_served_until_a_new_data_set_is_trusted() {
    let config = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let mut world = World::live(config);
    let set = world.run(&Request::new("SET").arg("cache:a").arg("1"));
    world.write();
    world.say("+OK\r\n");
    world.value::<()>(set);
    world.wait(Duration::from_millis(600));
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    let get = Request::new("GET").arg("cache:a");
    // It comes back with other data, and falls again before it has passed all probes.
    world.wait(Duration::from_millis(100));
    world.open();
    recover(&mut world, 2);
    world.lose(Cause::Reset);
    assert_eq!(world.run_now::<Option<String>>(&get).as_deref(), Some("1"));
    world.wait(Duration::from_secs(1));
    world.open();
    recover(&mut world, 60);
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    assert_eq!(world.engine.status().shadow_entries, 0, "it is another data set's");
    let told = world.events.iter().filter(|event| event.contains("another data set")).count();
    assert_eq!(told, 1, "{:?}", world.events);
}

#[test]
fn a_full_memory_is_told_once_until_there_is_room_again() {
    let config =
        World::plain().fallback(Fallback::memory("*", Policy::Discard)).memory_entries_max(2);
    let mut world = World::live(config);
    world.lose(Cause::Reset);
    world.wait(Duration::from_millis(100));
    world.lose(Cause::Refused);
    assert_eq!(world.engine.health(), Health::Degraded);
    let full = |world: &mut World, key: &str| {
        let ticket = world.run(&Request::new("SET").key(key).arg("v"));
        let refused = world.engine.take(ticket).expect("ended").is_err();
        (refused, world.events.iter().filter(|event| event.ends_with("is reached")).count())
    };
    assert_eq!(full(&mut world, "a"), (false, 0));
    assert_eq!(full(&mut world, "b"), (false, 0));
    assert_eq!(full(&mut world, "c"), (true, 1));
    assert_eq!(full(&mut world, "a"), (false, 1), "it has its room");
    assert_eq!(full(&mut world, "c"), (true, 1));
    let del = world.run(&Request::new("DEL").key("a"));
    assert_eq!(world.value::<i64>(del), 1);
    assert_eq!(full(&mut world, "c"), (false, 1));
    assert_eq!(full(&mut world, "d"), (true, 2));
}

#[test]
fn a_value_that_expires_in_memory_does_not_bring_the_older_one_back() {
    let config = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let mut world = World::live(config);
    let set = world.run(&Request::new("SET").arg("cache:a").arg("old"));
    world.write();
    world.say("+OK\r\n");
    world.value::<()>(set);
    world.wait(Duration::from_secs(1));
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    let set = world.run(&Request::new("SET").arg("cache:a").arg("new").arg("PX").arg("20"));
    world.value::<()>(set);
    world.wait(Duration::from_millis(30));
    let get = world.run(&Request::new("GET").arg("cache:a"));
    assert_eq!(world.value::<Option<String>>(get), None);
}

#[test]
fn during_recovery_nothing_overtakes_a_write_that_waits_and_no_answer_is_half_a_guess() {
    let mut world = degraded(Policy::Invalidate);
    world.run_now::<()>(&Request::new("SET").arg("cache:a").arg("memory"));
    world.wait(Duration::from_millis(100));
    world.open();
    // Until the deletion that is owed to it is out.
    let mut seen = String::new();
    while !seen.contains("cache:a") {
        seen = world.write();
        for word in seen.split("\r\n") {
            match word {
                "HELLO" => world.say("%0\r\n"),
                "INFO" => world.say("+run_id:x\r\n"),
                "PING" => world.say("+PONG\r\n"),
                "ROLE" => world.say("*1\r\n+master\r\n"),
                "unfazed:probe:absent" => world.say(":0\r\n"),
                _ => {}
            }
        }
        world.wait(Duration::from_millis(10));
    }
    let early: Option<String> = world.run_now(&Request::new("GET").arg("cache:a"));
    assert_eq!(early.as_deref(), Some("memory"));
    let both = world.run(&Request::new("MGET").arg("cache:a").arg("cache:b"));
    let set = world.run(&Request::new("SET").arg("cache:a").arg("new"));
    let get = world.run(&Request::new("GET").arg("cache:a"));
    assert_eq!(world.write(), "", "all of them wait");
    world.say(":1\r\n");
    let sent = world.write();
    assert!(sent.find("MGET") < sent.find("SET") && sent.find("SET") < sent.rfind("GET"), "{sent}");
    world.say("*2\r\n$-1\r\n$5\r\nother\r\n+OK\r\n$3\r\nnew\r\n");
    let both: (Option<String>, Option<String>) = world.value(both);
    assert_eq!(both, (None, Some("other".into())));
    world.value::<()>(set);
    assert_eq!(world.value::<String>(get), "new");
}

#[test]
fn a_write_held_behind_a_key_goes_to_memory_when_recovery_fails() {
    let config = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let mut world = World::live(config);
    world.wait(Duration::from_secs(1));
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    let incr = world.run(&Request::new("INCR").arg("cache:a"));
    assert_eq!(world.value::<i64>(incr), 1);
    world.wait(Duration::from_millis(100));
    world.open();
    world.write();
    world.say("%0\r\n");
    let mut held = None;
    for _ in 0..40 {
        let sent = world.write();
        if sent.contains("cache:a") {
            held = Some(world.run(&Request::new("INCR").arg("cache:a")));
            world.say("-LOADING not yet\r\n");
            break;
        }
        for (word, answer) in [
            ("INFO", "+run_id:one\r\n"),
            ("PING", "+PONG\r\n"),
            ("ROLE", "*1\r\n+master\r\n"),
            ("DEL", ":0\r\n"),
        ] {
            for _ in 0..sent.matches(&format!("\r\n{word}\r\n")).count() {
                world.say(answer);
            }
        }
        world.wait(Duration::from_millis(50));
    }
    assert_eq!(world.engine.health(), Health::Degraded);
    assert_eq!(world.value::<i64>(held.expect("recovery got to its key")), 2);
}

#[test]
fn an_unknown_command_fails_at_once_where_every_key_is_answered_from_memory() {
    let config = World::plain().fallback(Fallback::memory("*", Policy::Invalidate));
    let mut world = World::live(config);
    world.lose(Cause::Reset);
    world.wait(Duration::from_millis(100));
    world.lose(Cause::Refused);
    let ticket = world.run(&Request::new("JSON.GET").arg("a"));
    let failure = world.engine.take(ticket).expect("at once").expect_err("memory can't");
    assert!(matches!(failure.kind(), FailureKind::Memory(_)), "{failure}");
    assert_eq!(failure.executed(), Executed::No);
}

#[test]
fn a_failure_says_what_kept_it_waiting_and_who_gave_a_wrong_answer() {
    let config = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let mut world = World::live(config);
    world.lose(Cause::Reset);
    world.wait(Duration::from_millis(100));
    world.lose(Cause::Refused);
    let waits = world.run(&Request::new("INCR").arg("wallet:a"));
    world.run_now::<()>(&Request::new("SET").arg("cache:a").arg("no number"));
    let wrong = world.run(&Request::new("INCR").arg("cache:a"));
    let wrong = world.engine.take(wrong).expect("at once").expect_err("no number");
    assert_eq!((wrong.node(), wrong.attempts()), (Some("memory"), 0), "{wrong}");
    let end = world.now.instant + Duration::from_secs(6);
    while world.now.instant < end {
        world.wait(Duration::from_millis(100));
        if world.conn.is_some() {
            world.lose(Cause::Refused);
        }
    }
    let late = world.engine.take(waits).expect("ended").expect_err("nobody came");
    assert_eq!(late.cause(), Some(&Cause::Refused));
    assert!(late.to_string().contains("connection refused (not executed)"), "{late}");
}

#[test]
fn a_closed_client_keeps_nothing_and_waits_for_nothing() {
    let config = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let mut world = World::live(config);
    let set = world.run(&Request::new("SET").arg("cache:a").arg("1"));
    world.write();
    world.say("+OK\r\n");
    world.value::<()>(set);
    assert_eq!(world.engine.status().shadow_entries, 1);
    world.wait(Duration::from_secs(1));
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    let set = world.run(&Request::new("SET").arg("cache:b").arg("1"));
    world.value::<()>(set);
    world.engine.shutdown(Duration::from_secs(1), world.now);
    world.drain();
    assert_eq!(world.engine.health(), Health::Closed);
    let status = world.engine.status();
    assert_eq!((status.shadow_entries, status.overlay_entries, status.journal_entries), (0, 0, 0));
    assert_eq!(world.timer, None);
    let lost = |event: &&String| event.contains("1 keys stay as it has them");
    assert_eq!(world.events.iter().filter(lost).count(), 1, "{:?}", world.events);
    let told = world.events.len();
    world.wait(Duration::from_secs(3_600));
    world.engine.handle_input(Input::Timeout, world.now);
    world.drain();
    assert_eq!(world.events.len(), told, "{:?}", world.events);
}
