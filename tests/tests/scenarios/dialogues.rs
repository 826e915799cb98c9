//! A dialogue of one's own, on every adapter: what it sends, gives and waits for.

use std::time::Duration;

use unfazed_core::{
    Config, Failure, FailureKind, Now, Request,
    dialogue::{Converse, Dialogue, Heard, Step},
    engine::Batch,
};

use crate::{
    adapters::{Adapter, in_cluster, scenarios},
    site::Site,
    support::{failure, timed},
};

scenarios! {
    a_dialogue_sends_gives_and_sleeps,
    a_dialogue_ends_with_the_failure_of_what_it_sent,
}

in_cluster! {
    a_dialogue_sends_gives_and_sleeps,
    a_dialogue_ends_with_the_failure_of_what_it_sent,
}

const PAUSE: Duration = Duration::from_millis(30);

/// Counts up to a number with INCR, with a pause after each.
struct Count {
    to: i64,
    command: &'static str,
    rests: bool,
}

impl Dialogue for Count {
    type Item = i64;

    fn name(&self) -> &'static str {
        "INCR"
    }

    fn step(&mut self, heard: Heard, _: Now) -> Step<i64> {
        match heard {
            Heard::Sent => Step::Wait,
            Heard::Answer(answer) => match answer.decode::<i64>(self.command) {
                Ok(number) if number > self.to => Step::Done(Ok(())),
                Ok(number) => {
                    self.rests = true;
                    Step::Yield(number)
                }
                Err(failure) => Step::Done(Err(failure)),
            },
            Heard::Nothing if std::mem::take(&mut self.rests) => Step::Sleep(PAUSE),
            Heard::Nothing | Heard::Awake => {
                let mut batch = Batch::new();
                batch.push(&Request::new(self.command).arg("count"));
                Step::Send(batch)
            }
        }
    }
}

fn count<A: Adapter>(config: Config, command: &'static str) -> Result<Vec<i64>, Failure> {
    let client = A::connect(config).expect("it can be used");
    A::all(client.converse(Count { to: 3, command, rests: false }))
}

fn a_dialogue_sends_gives_and_sleeps<A: Adapter>() {
    let server = Site::start();
    for config in [server.config(), Config::memory()] {
        let (numbers, took) = timed(|| count::<A>(config, "INCR"));
        assert_eq!(numbers.expect("no failure"), [1, 2, 3]);
        assert!(took >= 3 * PAUSE, "{took:?}");
    }
}

fn a_dialogue_ends_with_the_failure_of_what_it_sent<A: Adapter>() {
    let server = Site::start();
    for config in [server.config(), Config::memory()] {
        let failure = failure(count::<A>(config, "LPOP"));
        assert!(matches!(failure.kind(), FailureKind::Decode(_)), "null is no number: {failure}");
        assert_eq!(failure.command(), "LPOP");
    }
}
