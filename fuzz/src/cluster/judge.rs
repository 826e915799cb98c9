//! What must hold in clusters only.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use unfazed_core::{
    Failure, FailureKind,
    resp::{Reply, Source, Value},
    slot::slot,
};

use super::{member::STRANGER, member::keys_of};
use crate::{
    network::Stage,
    oracle::Oracle,
    server::{First, Server, is_blocking},
    workload::{Asked, Command, Shape},
    world::World,
};

/// A command line that must keep its place among those of its slot.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// Its request's place among all, and its own in it.
    order: (u64, usize),
    line: String,
    /// The lines of the whole request: of a pipeline what was refused holds up the others.
    with: Rc<Vec<String>>,
    /// They are a transaction, which is sent elsewhere as one.
    whole: bool,
}

/// The most questions for the map within a second: three nodes at once, no sooner than 80 ms after the one
/// before, and some that had to wait for their connection.
const REFRESHES_MAX: usize = 3 * 13 + 9;

/// The most dials of one endpoint within a second: the waits between them are 50 ms and more, each with
/// a fifth off; and one may follow at once where a connection ends that was well.
const DIALS_MAX: usize = 20;

/// Within which a shard answers with which nothing is wrong, whatever is wrong with others.
const SPARED_MAX: Duration = Duration::from_millis(500);

impl Oracle {
    /// A request was accepted: what of it must keep its place.
    pub(crate) fn on_placed(&mut self, asked: &Asked) {
        if asked.command_that_waits().is_some() {
            // It has a connection of its own, and overtakes others as it is overtaken.
            return;
        }
        let with: Vec<_> = asked.commands.iter().flat_map(Command::lines_in_cluster).collect();
        let with = Rc::new(with);
        for (at, command) in asked.commands.iter().enumerate() {
            let Some(id) = command.id else { continue };
            // What may be answered from memory goes other ways as well.
            let waits = |key: &String| key.starts_with("wallet") || self.policy.is_none();
            let whole = asked.shape == Shape::Whole;
            let mut commands =
                if whole { &asked.commands[..] } else { std::slice::from_ref(command) }.iter();
            let all_wait = commands.all(|command| command.keys.iter().all(waits));
            if command.keys.is_empty() || !all_wait {
                continue;
            }
            let own = id.to_string();
            let tells =
                |line: &String| line.split(|it: char| !it.is_ascii_digit()).any(|it| it == own);
            let lines = command.own_lines_in_cluster().into_iter().filter(tells);
            let order = (asked.submitted, at);
            let placed = |line| Placed { order, line, with: Rc::clone(&with), whole };
            self.placed.extend(lines.map(placed));
        }
    }

    /// Commands of one slot were carried out in the order in which they were asked for, but for those
    ///
    /// - that a node had refused before, or one of their pipeline;
    /// - that came from the dead;
    /// - that went out on an older connection to the same node while another was in use;
    /// - whose key had left its node before the others of the slot, so that what was sent there together with
    ///   it was carried out there;
    /// - that a node sent elsewhere just before the slot became its own, and what came behind them on the same
    ///   connection was carried out there.
    pub(crate) fn check_order(&mut self, server: &Server) {
        let mut by_slot: BTreeMap<u16, Vec<(First, bool, &Placed)>> = BTreeMap::new();
        for placed in &self.placed {
            let Some(known) = server.ledger.get(&placed.line) else { continue };
            let Some(first) = known.first else { continue };
            let words: Vec<String> = placed.line.split(' ').map(str::to_owned).collect();
            let Some(key) = keys_of(&words).into_iter().next() else { continue };
            let refused =
                |line: &String| server.ledger.get(line).is_some_and(|known| known.refused);
            let free = placed.with.iter().any(refused) || first.given_up;
            by_slot.entry(slot(key.as_bytes())).or_default().push((first, free, placed));
        }
        // What was sent behind it before the client could know of it stays where it was sent to.
        let stayed_behind = |placed: &Placed, behind: First| {
            let lines =
                if placed.whole { &placed.with[..] } else { std::slice::from_ref(&placed.line) };
            let mut known = lines.iter().filter_map(|line| server.ledger.get(line));
            known.any(|known| {
                known.asked_by == Some(behind.node) || known.moved_on.contains(&behind.link)
            })
        };
        let mut broken = None;
        for all in by_slot.values_mut() {
            all.sort_by_key(|(.., placed)| placed.order);
            // The first to be carried out of all that were asked for later.
            let mut later: Option<(First, &Placed)> = None;
            for (first, free, placed) in all.iter().rev() {
                if let Some((before, of)) = later
                    && !free
                    && before.seq < first.seq
                    && !stayed_behind(placed, before)
                    && !(before.node == first.node && before.link != first.link)
                {
                    broken = Some(format!(
                        "{} (asked {:?}, carried out {first:?}) came after {} (asked {:?}, carried out \
                         {before:?})",
                        placed.line, placed.order, of.line, of.order
                    ));
                }
                if later.is_none_or(|(before, _)| first.seq < before.seq) {
                    later = Some((*first, placed));
                }
            }
        }
        self.ordered = by_slot.values().map(|all| all.len() as u64).sum();
        if let Some(what) = broken {
            self.fail(8, what);
        }
    }

    /// What was answered to a command of several parts: each part, in its place, as a node answered it.
    pub(crate) fn check_joined(
        &mut self,
        asked: &Asked,
        command: &Command,
        reply: &Reply,
        seq: u64,
        server: &Server,
    ) {
        if reply.source() != Source::Server {
            if !command.degrades_in_part() || self.policy.is_none() {
                self.fail(18, format!("{} must not be answered from memory", command.line()));
            }
            return;
        }
        let value = reply.view().to_value();
        let in_time = |(at, _): &&(u64, Value)| *at >= asked.submitted && *at <= seq;
        let lines =
            if command.fans_out() { vec![command.line()] } else { command.lines_in_cluster() };
        let (mut least, mut most) = (0, 0);
        for line in lines {
            let known = server.ledger.get(&line);
            let given: Vec<&Value> = known
                .into_iter()
                .flat_map(|known| known.answers.iter().filter(in_time).map(|(_, value)| value))
                .filter(|value| !matches!(value, Value::Error(_)))
                .collect();
            if given.is_empty() {
                return self.fail(2, format!("{line}: {value:?} is not the server's answer"));
            }
            let numbers = given.iter().filter_map(|value| match value {
                Value::Integer(number) => Some(*number),
                _ => None,
            });
            least += numbers.clone().min().unwrap_or_default();
            most += numbers.max().unwrap_or_default();
            if let Value::Array(items) = &value {
                let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
                let places = keys_of(&words);
                let mine = command.words[1..].iter().zip(items);
                let part: Vec<&Value> =
                    mine.filter(|(key, _)| places.contains(key)).map(|(_, item)| item).collect();
                let same = |given: &&Value| match given {
                    Value::Array(given) => given.iter().eq(part.iter().copied()),
                    _ => false,
                };
                if !given.iter().any(same) {
                    return self.fail(2, format!("{line}: no node ever answered {part:?}"));
                }
            }
        }
        if let Value::Integer(number) = value {
            let fits = number >= least && (number <= most || command.fans_out());
            if !fits {
                let what = format!("{}: {number} is not from {least} to {most}", command.line());
                self.fail(2, what);
            }
        }
    }
}

impl Command {
    /// Whether any of its keys may be answered from memory.
    pub(crate) fn degrades_in_part(&self) -> bool {
        self.keys.iter().any(|key| {
            let one = Command { keys: vec![key.clone()], ..self.clone() };
            one.degrades().0
        })
    }
}

impl World {
    /// The client has handed a question for the map to a writer.
    pub(crate) fn note_refresh(&mut self, count: usize) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else { return };
        cluster.refreshes.retain(|at| *at + Duration::from_secs(1) >= now);
        cluster.refreshes.extend(std::iter::repeat_n(now, count));
        let asked = cluster.refreshes.len();
        if asked > REFRESHES_MAX {
            self.oracle.fail(17, format!("the map was asked for {asked} times within a second"));
        }
    }

    /// An endpoint is dialled: nobody else dials it, it was not dialled too often, and a node has named it.
    pub(crate) fn check_dial_in_cluster(&mut self, port: u16) {
        if port == STRANGER {
            self.oracle.fail(17, "a dial to where no node has said that anybody is");
        }
        let links = self.links.values();
        let others =
            links.filter(|link| link.stage == Stage::Dialling && link.port == port).count();
        // Connections that are lent out are made beside the one that is shared.
        let setup = &self.setup;
        let lends = setup.holders || setup.optimists || setup.poppers + setup.eaters > 0;
        // Subscribers' own, too: those that all share, for channels, for shard channels of the node and for
        // those that nobody serves yet; and for each that stops reading one, with what is the node's.
        let sides = if setup.listeners > 0 { 3 + 2 * self.stream_bounds().1 } else { 0 };
        if others > 1 + sides + self.engine.status().leases {
            self.oracle
                .fail(17, format!("{others} connections to one node are being made at once"));
        }
        let now = self.now;
        let Some(cluster) = &mut self.cluster else { return };
        let dials = cluster.dials.entry(port).or_default();
        dials.retain(|at| *at + Duration::from_secs(1) >= now);
        dials.push(now);
        let dials = dials.len();
        if dials > DIALS_MAX * (1 + sides) && !lends {
            self.oracle.fail(17, format!("{dials} dials of one node within a second"));
        }
    }

    /// How many parts there can be of commands that are split or for all nodes. Of those that are detached it
    /// is not known what they are.
    pub(crate) fn parts_max(&self) -> usize {
        if self.cluster.is_none() {
            return 0;
        }
        let parts = |command: &Command| {
            if command.fans_out() { self.servers() + 1 } else { command.slots() }
        };
        let of_asked = self.asked.values().flat_map(|asked| asked.commands.iter().map(parts));
        of_asked.filter(|parts| *parts > 1).sum::<usize>() + self.detached.len() * 6 * 6
    }

    /// A shard with which nothing is wrong has answered in time, whatever was wrong with others.
    pub(crate) fn check_spared(
        &mut self,
        asked: &Asked,
        command: &Command,
        failure: Option<&Failure>,
    ) {
        let Some(cluster) = self.cluster.as_ref().filter(|_| asked.shape == Shape::One) else {
            return;
        };
        let Some(since) = cluster.spared_since else { return };
        let begun = asked.deadline - asked.options.deadline.unwrap_or(self.setup.config.deadline);
        // The client has to come to know that the node is there.
        let apart = command.keys.is_empty() || command.is_in_parts();
        // Who waits for an element waits.
        if begun < since + SPARED_MAX || apart || is_blocking(command.name()) {
            return;
        }
        let slots = command.keys.iter().map(|key| slot(key.as_bytes()));
        let theirs =
            |slot: u16| cluster.truth.owner(slot).is_some_and(|owner| self.is_spared(owner));
        if !slots.clone().all(theirs) {
            return;
        }
        let took = self.now - begun;
        let hurt = failure.is_some_and(|failure| {
            let short = asked.deadline - begun < SPARED_MAX;
            matches!(failure.kind(), FailureKind::ConnectionLost(_) | FailureKind::Down(_))
                || (failure.is_timeout() && !short)
        });
        self.count("answered by a shard with which nothing is wrong");
        if took > SPARED_MAX || hurt {
            let what = format!(
                "{} took {took:?} at a shard with which nothing is wrong: {failure:?}",
                command.line()
            );
            self.oracle.fail(17, what);
        }
    }
}
