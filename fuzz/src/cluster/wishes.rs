//! Commands over several slots, and for all nodes.

use std::collections::{BTreeMap, BTreeSet};

use unfazed_core::slot::slot;

use crate::{
    entropy::Entropy,
    server::is_blocking,
    workload::{CLASSES, Command, QUEUES, Shape, Wish, line_of},
    world::World,
};

/// The hash tags of a cluster's keys: a handful of slots, in all quarters.
pub(crate) const TAGS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Those of queues: few enough that who pushes and who waits meet.
const QUEUE_TAGS: [&str; 2] = ["a", "b"];

impl World {
    /// Puts what was drawn for one server into the slots of a cluster, where it is one.
    pub(crate) fn spread(&mut self, wish: Wish) -> Wish {
        if self.cluster.is_none() {
            return wish;
        }
        let waits = self.setup.poppers_wait();
        wish.spread(&mut self.entropy, waits)
    }
}

impl Wish {
    fn spread(mut self, entropy: &mut Entropy, waits: bool) -> Self {
        if self.shape == Shape::One && entropy.chance(4) {
            self.commands[0] = for_all_nodes(entropy);
            return self;
        }
        for command in self.commands.iter_mut().filter(|it| !waits && is_blocking(it.name())) {
            let key = command.keys[0].clone();
            *command = Command::of(&["GET", &key], &[&key], None);
        }
        let waits = self.commands.iter().any(|command| is_blocking(command.name()));
        if waits {
            // All of it goes to the node of one slot.
            self.commands.retain(|command| !command.keys.is_empty());
        }
        let queue = entropy.pick(&QUEUE_TAGS);
        let common = if waits { queue } else { entropy.pick(&TAGS) };
        let together = waits || self.shape == Shape::Whole || entropy.chance(40);
        for command in &mut self.commands {
            let queues = command.keys.first().is_some_and(|key| QUEUES.contains(&key.as_str()));
            let own = match together {
                true => common,
                false if queues => queue,
                false => entropy.pick(&TAGS),
            };
            command.tag(entropy, own, !together);
        }
        self
    }
}

/// A command that concerns every node.
fn for_all_nodes(entropy: &mut Entropy) -> Command {
    let name = if entropy.chance(10) { "FLUSHALL" } else { "DBSIZE" };
    Command { words: vec![name.into()], by_digest: false, id: None, keys: Vec::new() }
}

impl Command {
    /// Gives its keys a hash tag: all the same one, or some another.
    fn tag(&mut self, entropy: &mut Entropy, tag: &'static str, apart: bool) {
        let splits = self.splits();
        let mut tags: BTreeMap<String, &'static str> = BTreeMap::new();
        let mut put = |word: &mut String| {
            let Some((class, rest)) = word.split_once(':') else { return };
            if !CLASSES.contains(&class) {
                return;
            }
            // A value begins with its key.
            let key = word.split('=').next().unwrap_or_default().to_owned();
            let of = tags.entry(key).or_insert_with(|| {
                if splits && apart && entropy.chance(50) { entropy.pick(&TAGS) } else { tag }
            });
            let rest = rest.strip_prefix("{a}:").unwrap_or(rest);
            *word = format!("{class}:{{{of}}}:{rest}");
        };
        self.words.iter_mut().skip(1).for_each(&mut put);
        self.keys.iter_mut().for_each(&mut put);
    }

    fn splits(&self) -> bool {
        matches!(self.name(), "MGET" | "MSET" | "DEL" | "EXISTS")
    }

    /// Whether it is for all nodes of a cluster.
    pub(crate) fn fans_out(&self) -> bool {
        matches!(self.name(), "DBSIZE" | "FLUSHALL" | "PING")
    }

    /// Whether it is carried out by several parts in a cluster.
    pub(crate) fn is_in_parts(&self) -> bool {
        self.fans_out() || self.slots() > 1
    }

    /// Among how many slots it is split in a cluster; 1 where it stays whole.
    pub(crate) fn slots(&self) -> usize {
        if !self.splits() {
            return 1;
        }
        let slots: BTreeSet<u16> = self.by_key().map(|words| slot(words[0].as_bytes())).collect();
        slots.len()
    }

    /// What it says of each key, where it can be split.
    fn by_key(&self) -> impl Iterator<Item = &[String]> {
        self.words[1..].chunks(if self.name() == "MSET" { 2 } else { 1 })
    }

    /// The lines as which it is carried out in a cluster: one for each slot where it is split.
    pub(crate) fn lines_in_cluster(&self) -> Vec<String> {
        if !self.splits() {
            return vec![self.line()];
        }
        let mut parts: BTreeMap<u16, Vec<String>> = BTreeMap::new();
        for words in self.by_key() {
            let part = parts.entry(slot(words[0].as_bytes()));
            part.or_insert_with(|| vec![self.words[0].clone()]).extend(words.iter().cloned());
        }
        parts.values().map(|words| line_of(words)).collect()
    }

    /// Those among them that no other command has: that carry its number in a value, or in the key that is
    /// made for it. The number of any other key may be the same by chance.
    pub(crate) fn own_lines_in_cluster(&self) -> Vec<String> {
        let mut lines = self.lines_in_cluster();
        if let Some(id) = self.id.filter(|_| lines.len() > 1) {
            let (value, key) = (format!("={id};"), format!(":t:{id}"));
            let has = |word: &str| word.ends_with(&value) || word.ends_with(&key);
            lines.retain(|line| line.split(' ').any(has));
        }
        lines
    }
}
