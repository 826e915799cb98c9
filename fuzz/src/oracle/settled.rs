//! Once everything has come to rest: what the server was told of what memory had acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use unfazed_core::resp::Source;

use super::Oracle;
use crate::{
    server::{Data, Server},
    workload::Command,
};

/// What was to be added to one key.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum {
    acked: i64,
    open: i64,
    acked_members: BTreeSet<String>,
    open_members: BTreeSet<String>,
    /// Members that may be added more than once.
    repeated: BTreeSet<String>,
}

/// How often a command can be sent, by any setting of a world.
const AGAIN_MAX: i64 = 10;

impl Oracle {
    pub(super) fn add_open(&mut self, command: &Command, sign: i64) {
        let Some((key, part)) = part_of(command) else { return };
        let sum = self.sums.entry(key.to_owned()).or_default();
        match part {
            Part::Number(number) => sum.open += sign * number,
            Part::Member(member) if sign > 0 => drop(sum.open_members.insert(member.to_owned())),
            Part::Member(member) => drop(sum.open_members.remove(member)),
        }
    }

    /// Its caller lets it be carried out more than once.
    pub(super) fn add_again(&mut self, command: &Command) {
        let Some((key, part)) = part_of(command) else { return };
        let sum = self.sums.entry(key.to_owned()).or_default();
        match part {
            Part::Number(number) => sum.open += number * AGAIN_MAX,
            Part::Member(member) => drop(sum.repeated.insert(member.to_owned())),
        }
    }

    pub(super) fn add_acked(&mut self, command: &Command) {
        let Some((key, part)) = part_of(command) else { return };
        let sum = self.sums.entry(key.to_owned()).or_default();
        match part {
            Part::Number(number) => sum.acked += number,
            Part::Member(member) => drop(sum.acked_members.insert(member.to_owned())),
        }
    }

    /// Once everything has come to rest: what the server was told of what memory had acknowledged.
    /// `held` is what stands at each key.
    pub fn check_settled(&mut self, server: &Server, held: &BTreeMap<String, Data>) {
        if self.violation.is_some() || (self.policy.is_none() && !self.in_cluster) {
            return;
        }
        if self.in_cluster {
            let text = |key: &str| Some(held.get(key));
            self.check_additions(server, text);
        }
        self.check_last_states(server, held);
        if self.policy.is_none() {
            return;
        }
        let mut broken = None;
        for (key, sum) in &self.sums {
            let (added, pushed) = added_to(server, key);
            self.settled.1 += 1;
            if added > sum.acked + sum.open {
                broken = Some((6, format!("{added} were added to {key}: {sum:?}")));
            } else if added < sum.acked && !self.gave_up {
                broken = Some((7, format!("only {added} were added to {key}: {sum:?}")));
            }
            let ever = |member: &String| {
                sum.acked_members.contains(member) || sum.open_members.contains(member)
            };
            if let Some((member, _)) = pushed.iter().find(|(member, _)| !ever(member)) {
                broken = Some((6, format!("{member} was added to {key}, and is not to be")));
            }
            // A set holds a member once, however often it is added.
            let once = |member: &String| key.ends_with("queue") && !sum.repeated.contains(member);
            let twice = pushed.iter().find(|(member, times)| **times > 1 && once(member));
            if let Some((member, times)) = twice {
                broken = Some((6, format!("{member} was added to {key} {times} times")));
            }
            let lost = sum.acked_members.iter().find(|member| !pushed.contains_key(*member));
            if let Some(member) = lost.filter(|_| !self.gave_up) {
                broken = Some((7, format!("{member} was acknowledged, and not added to {key}")));
            }
        }
        if let Some((number, what)) = broken {
            self.fail(number, what);
        }
    }

    /// The last write to a key, if no other came near it and it was acknowledged, is what stands there.
    fn check_last_states(&mut self, server: &Server, held: &BTreeMap<String, Data>) {
        let mut broken = None;
        for (key, facts) in &self.writes {
            let replayed = key.starts_with("last") || key.starts_with("sum");
            let of_many = [":set", ":queue", ":hash"].iter().any(|end| key.ends_with(end));
            let kept = replayed || (self.in_cluster && key.starts_with("wallet"));
            // These are written by dialogues, and by those who hold connections, as well.
            let of_others = [":opt:", ":u:"].iter().any(|part| key.contains(part));
            if !kept || key.contains(":n:") || of_many || of_others {
                continue;
            }
            let Some(last) = facts.iter().max_by_key(|fact| fact.submitted) else { continue };
            let Some((acked, by)) = last.acked.filter(|_| !last.vague) else { continue };
            let alone = facts.iter().all(|fact| {
                std::ptr::eq(fact, last)
                    || (fact.ended.is_some_and(|ended| ended < last.submitted) && !fact.maybe)
            });
            // What the server once had it may have lost by itself.
            let live = self.live.iter().copied().find(|live| *live > acked);
            let had = match by {
                // What is one part of a command, or an item of a pipeline, is there before the whole is
                // acknowledged, whoever has answered the others; and memory may have passed it on before.
                _ if self.in_cluster => {
                    // A part with one pair is sent as SET; and so is each key of several by whoever pays
                    // what memory owes, one by one.
                    let alike = last.line.replacen("MSET", "SET", 1);
                    let pairs = last.line.split(' ').collect::<Vec<_>>();
                    let pair = pairs[1..].chunks(2).rfind(|pair| pair[0] == key);
                    let by_itself = format!("SET {}", pair.unwrap_or_default().join(" "));
                    let known =
                        [&last.line, &alike, &by_itself].map(|line| server.ledger.get(line));
                    let known = known.into_iter().flatten().find(|known| known.executed > 0);
                    known.map_or(acked, |known| known.last.min(acked))
                }
                Source::Server => acked,
                _ => live.unwrap_or(acked),
            };
            let lost = server.wiped_at.max(self.lost.get(key).copied());
            let wiped = lost.is_some_and(|at| at > had);
            let words: Vec<&str> = last.line.split(' ').collect();
            let expected = match words[0] {
                "SET" if last.plain_set => Some(words[2]),
                "MSET" => words[1..].chunks(2).rfind(|pair| pair[0] == key).map(|pair| pair[1]),
                "DEL" => None,
                _ => continue,
            };
            if !alone || wiped || self.gave_up || server.haunted.contains(key) {
                continue;
            }
            self.settled.0 += 1;
            let found = match held.get(key) {
                Some(Data::Text(text)) => Some(String::from_utf8_lossy(text).into_owned()),
                Some(other) => Some(format!("{other:?}")),
                None => None,
            };
            if found.as_deref() != expected {
                broken = Some(format!("{key} holds {found:?}, and the last was {last:?}"));
            }
        }
        if let Some(what) = broken {
            self.fail(7, what);
        }
    }
}

/// What a command adds to a key of which all that is added counts.
pub(super) enum Part<'a> {
    Number(i64),
    Member(&'a str),
}

pub(super) fn part_of(command: &Command) -> Option<(&str, Part<'_>)> {
    let key = command.keys.first().filter(|key| key.starts_with("sum"))?;
    let number = || command.words.get(2).and_then(|word| word.parse().ok());
    match command.name() {
        "INCR" => Some((key, Part::Number(1))),
        "INCRBY" => Some((key, Part::Number(number()?))),
        "SADD" | "RPUSH" => Some((key, Part::Member(command.words.get(2)?))),
        _ => None,
    }
}

/// What the server was told to add to a key, and has: the sum, and how often each member.
fn added_to(server: &Server, key: &str) -> (i64, BTreeMap<String, u32>) {
    let (mut sum, mut members) = (0, BTreeMap::new());
    for (line, known) in &server.ledger {
        let words: Vec<&str> = line.split(' ').collect();
        if words.get(1) != Some(&key) || known.executed == 0 {
            continue;
        }
        match words[0] {
            "INCR" => sum += i64::from(known.executed),
            "INCRBY" => {
                sum += i64::from(known.executed) * words[2].parse::<i64>().unwrap_or_default();
            }
            "SADD" | "RPUSH" => {
                for member in &words[2..] {
                    *members.entry((*member).to_owned()).or_default() += known.executed;
                }
            }
            _ => {}
        }
    }
    (sum, members)
}
