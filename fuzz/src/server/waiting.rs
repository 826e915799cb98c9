//! Commands that wait at the server, and what ends their waiting: an element, their time, an operator, a node of
//! a cluster that has no longer what they wait for, or the end of their connection.

use unfazed_core::resp::Value;

use super::{Data, Server, When, streams};
use crate::workload::line_of;

/// A command that waits.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    link: u64,
    words: Vec<String>,
    /// When its wait is over, in milliseconds since the epoch; `None` for never.
    until: Option<u64>,
}

impl Waiting {
    pub(super) fn link(&self) -> u64 {
        self.link
    }
}

/// What came of an attempt to carry a command out that may wait.
pub(super) enum Tried {
    /// It does not wait: this is what it is answered.
    Answered(Value),
    /// It waits from now on.
    Waits,
    /// The server ends the connection.
    HangUp,
}

impl Server {
    /// Whether a command would have to wait: until when.
    pub(super) fn would_wait(
        &self,
        name: &str,
        words: &[String],
        when: When,
    ) -> Option<Option<u64>> {
        let block = words.iter().position(|word| word == "BLOCK").filter(|_| name == "XREADGROUP");
        let blocks = is_blocking(name) || block.is_some();
        if !blocks || self.refusal(name).is_some() || self.finds(name, words) {
            return None;
        }
        let millis = match block {
            Some(at) => words[at + 1].parse().unwrap_or(0),
            None => {
                let seconds: f64 = words.last().and_then(|word| word.parse().ok()).unwrap_or(0.0);
                (seconds * 1_000.0).ceil() as u64
            }
        };
        Some((millis > 0).then(|| when.unix + millis))
    }

    /// Whether there is something for it.
    fn finds(&self, name: &str, words: &[String]) -> bool {
        let keys = match name {
            "XREADGROUP" => return self.is_new(words),
            "BLPOP" => &words[1..words.len() - 1],
            _ => &words[1..2],
        };
        keys.iter().any(|key| match self.data.get(key.as_bytes()) {
            Some((Data::List(items), _)) => !items.is_empty(),
            Some(_) => true,
            None => key.ends_with(":list"),
        })
    }

    pub(super) fn wait(&mut self, link: u64, words: &[String], until: Option<u64>) {
        self.waiting.push(Waiting { link, words: words.to_vec(), until });
    }

    /// Whether a connection says nothing before its command's wait is over.
    #[must_use]
    pub fn waits(&self, link: u64) -> bool {
        self.waiting.iter().any(|waiting| waiting.link == link)
    }

    /// How many commands wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// When the next wait is over.
    #[must_use]
    pub fn next_wait_over(&self) -> Option<u64> {
        self.waiting.iter().filter_map(|waiting| waiting.until).min()
    }

    /// Gives those who wait what is there for them, in the order in which they came.
    pub(crate) fn serve_waiting(&mut self, when: When) {
        let mut at = 0;
        while at < self.waiting.len() {
            let Waiting { words, .. } = &self.waiting[at];
            let name = words[0].to_ascii_uppercase();
            if !self.finds(&name, words) {
                at += 1;
                continue;
            }
            let Waiting { link, words, .. } = self.waiting.remove(at);
            let value = self.carry_out(&name, &words, when);
            self.ledger.entry(line_of(&words)).or_default().answers.push((when.seq, value.clone()));
            let resp3 = self.sessions.get(&link).is_some_and(|session| session.resp3);
            let value = if resp3 { value } else { streams::in_resp2(&name, value) };
            self.woken.push((link, value));
            // What it has moved may be what another waits for.
            at = 0;
        }
    }

    /// Ends the waits whose time is over.
    pub fn end_waits(&mut self, when: When) {
        let over = |waiting: &Waiting| waiting.until.is_some_and(|until| until <= when.unix);
        self.let_go(|_, waiting| over(waiting).then_some(Value::Null), when);
    }

    /// Ends the wait of one of them, as by CLIENT UNBLOCK.
    pub fn unblock(&mut self, at: usize, when: When) {
        let Some(link) = self.waiting.get(at).map(|waiting| waiting.link) else { return };
        self.let_go(|_, waiting| (waiting.link == link).then_some(Value::Null), when);
    }

    /// Sends those elsewhere who wait for what is another node's by now. Gives how many.
    pub(crate) fn send_away(&mut self, when: When) -> usize {
        let text = |server: &mut Self, waiting: &Waiting| server.waits_elsewhere(&waiting.words);
        self.let_go(|server, waiting| text(server, waiting).map(Value::error), when).len()
    }

    /// It is a replica now: those who wait are told so, and their connections end. Gives which.
    pub fn demote(&mut self, when: When) -> Vec<u64> {
        let text = "UNBLOCKED force unblock from blocking operation, instance state changed \
                    (master -> replica?)";
        self.let_go(|_, _| Some(Value::error(text)), when)
    }

    /// Those who wait get nothing but what `with` says, if it says something. Gives whose wait is over.
    fn let_go(
        &mut self,
        with: impl Fn(&mut Self, &Waiting) -> Option<Value>,
        when: When,
    ) -> Vec<u64> {
        let mut gone = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            let Some(value) = with(self, &waiting) else {
                self.waiting.push(waiting);
                continue;
            };
            let entry = self.ledger.entry(line_of(&waiting.words)).or_default();
            if value == Value::Null {
                entry.executed += 1;
                entry.empty += 1;
                entry.last = when.seq;
            }
            entry.answers.push((when.seq, value.clone()));
            self.woken.push((waiting.link, value));
            gone.push(waiting.link);
        }
        gone
    }

    /// Keeps in mind what a command has popped. Gives what it is answered.
    pub(super) fn note_popped(&mut self, name: &str, line: &str, value: Value) -> Value {
        if !is_blocking(name) {
            return value;
        }
        let element = match &value {
            Value::Array(parts) => parts.last(),
            other => Some(other),
        };
        let Some(Value::Bulk(element)) = element else { return value };
        let element = String::from_utf8_lossy(element).into_owned();
        self.popped.entry(line.to_owned()).or_default().push(element);
        if self.tampering.lose_pops { Value::Null } else { value }
    }

    /// What is answered to those whose wait is over, each whole.
    pub fn take_woken(&mut self) -> Vec<(u64, Vec<u8>)> {
        let woken = std::mem::take(&mut self.woken);
        let sessions = &self.sessions;
        let framed = woken
            .into_iter()
            .filter_map(|(link, value)| Some((link, sessions.get(&link)?.frame(&value))));
        let framed: Vec<_> = framed.collect();
        self.answered += framed.len() as u64;
        framed
    }
}

/// Whether a command waits where there is nothing for it.
#[must_use]
pub fn is_blocking(name: &str) -> bool {
    matches!(name, "BLPOP" | "BLMOVE")
}
