//! A server that is there and serves nothing yet.

use super::*;

const LOADING: &str = "-LOADING Redis is loading the dataset in memory\r\n";
const QUESTION: &str = "DEL unfazed:probe:absent";

impl World {
    /// Answers all that was asked; gives it.
    fn answer_all(&mut self, answer: impl Fn(&str) -> &'static str) -> Vec<String> {
        let asked = degraded::commands(&self.write());
        for command in &asked {
            self.say(answer(command));
        }
        asked
    }
}

#[test]
fn what_a_loading_server_refused_goes_as_soon_as_it_serves() {
    let config = World::plain().deadline(Duration::from_secs(60)).attempts_max(100);
    let mut world = World::live(config);
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let tickets = keys.map(|key| world.run(&Request::new("SET").arg(key).arg("1")));
    let mut questions = 0;
    // By then the next attempt of each may be seconds away.
    for _ in 0..600 {
        let asked = world.answer_all(|_| LOADING);
        questions += asked.iter().filter(|command| *command == QUESTION).count();
        world.wait(Duration::from_millis(10));
    }
    assert!((15..=30).contains(&questions), "{questions} questions in six seconds");
    let begin = world.now.instant;
    let serve = |command: &str| if command == QUESTION { ":0\r\n" } else { "+OK\r\n" };
    while world.engine.status().queued_requests > 0 {
        assert!(world.now.instant - begin < Duration::from_millis(350), "they wait still");
        world.answer_all(serve);
        world.wait(Duration::from_millis(10));
    }
    tickets.into_iter().for_each(|ticket| world.value::<()>(ticket));
    let later = (0..200).map(|_| {
        world.wait(Duration::from_millis(10));
        world.answer_all(serve)
    });
    let later: Vec<String> = later.flatten().collect();
    assert!(!later.contains(&QUESTION.to_owned()), "nobody waits any more: {later:?}");
}
