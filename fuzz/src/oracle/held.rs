//! What is asked on a connection that somebody holds: it goes there and nowhere else, once.

use unfazed_core::{
    Executed, Failure,
    resp::{Reply, Value},
};

use super::Oracle;
use crate::{
    server::Server,
    workload::{Asked, Command, Shape},
};

impl Oracle {
    /// A request on such a connection was accepted.
    pub fn on_held(&mut self, asked: &Asked) {
        if asked.shape == Shape::Whole {
            self.wholes.insert(asked.lines());
        }
        for command in &asked.commands {
            self.on_pop(command, false);
            if command.id.is_some() {
                // Nothing of it is ever sent again.
                self.lines.entry(command.line()).or_default().most = Some(1);
            }
        }
    }

    /// One of its commands ended.
    pub fn on_held_ended(
        &mut self,
        asked: &Asked,
        command: &Command,
        outcome: &Result<Reply, Failure>,
        seq: u64,
        server: &Server,
    ) {
        let line = command.line();
        let known = server.ledger.get(&line).cloned().unwrap_or_default();
        match outcome {
            Ok(reply) => {
                let value = reply.view().to_value();
                self.on_popped(command, Ok(&value));
                let in_time = |at: u64| at >= asked.submitted && at <= seq;
                let given = known.answers.iter().any(|(at, given)| in_time(*at) && *given == value);
                let queued = value == Value::Simple("QUEUED".into()) && known.queued > 0;
                let about_all = ["MULTI", "EXEC", "DISCARD"].contains(&command.name());
                if !given && !queued && !about_all {
                    self.fail(2, format!("{line}: the server never answered {value:?}"));
                }
            }
            Err(failure) => {
                self.on_popped(command, Err(failure));
                self.formatted(&format!("{failure} {failure:?}"));
                let executed = known.executed > known.empty && command.id.is_some();
                match failure.executed() {
                    Executed::No if executed => {
                        self.fail(6, format!("{line}: {failure}, and executed"));
                    }
                    Executed::No if command.id.is_some() => {
                        self.lines.entry(line.clone()).or_default().never = true;
                    }
                    Executed::Maybe if !self.offered.contains(&line) => {
                        self.fail(6, format!("{line}: {failure}, and never handed out"));
                    }
                    _ => {}
                }
                if failure.is_timeout() && self.now < asked.deadline {
                    let what = format!("{line}: {failure}, before {:?}", asked.deadline);
                    self.fail(12, what);
                }
            }
        }
    }
}
