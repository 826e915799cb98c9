//! The table of commands: how each is made, and how each is spoiled.
//!
//! A [`Row`] makes well-formed commands on keys that mostly, not always, hold the right type. Its
//! edits make a command that a server refuses, whatever it holds: about one command in four is
//! spoiled so. The rows stand by type in the modules; [`sequence`] puts commands together.

mod bits;
mod fields;
mod hashes;
mod keys;
mod lists;
mod sequence;
mod sets;
mod strings;
mod zsets;

use crate::random::{Args, KINDS, Kind, Random};

pub(crate) use fields::ROWS as FIELDS;
pub(crate) use sequence::{Step, Tables, UNKNOWN, fixed_keys, sequence};

/// How one command is made.
pub(crate) struct Row {
    /// In upper case.
    pub(crate) name: &'static str,
    /// What its first key usually holds; `None` for commands on keys of any type or on none.
    pub(crate) kind: Option<Kind>,
    /// Appends the arguments to the name. May look at the name: some rows share this.
    make: Make,
    /// Each a way to spoil a command for sure.
    spoils: &'static [&'static [Edit]],
}

type Make = fn(&mut Random, &mut Args);

const fn row(name: &'static str, make: Make, spoils: &'static [&'static [Edit]]) -> Row {
    Row { name, kind: None, make, spoils }
}

impl Row {
    const fn on(mut self, kind: Kind) -> Row {
        self.kind = Some(kind);
        self
    }

    /// A command that a server takes, unless what it finds at the keys is in the way.
    pub(crate) fn well_formed(&self, random: &mut Random) -> Args {
        let mut command = vec![self.name.as_bytes().to_vec()];
        (self.make)(random, &mut command);
        command
    }

    /// A command that a server refuses.
    pub(crate) fn spoiled(&self, random: &mut Random) -> Args {
        let mut command = self.well_formed(random);
        for edit in random.pick(self.spoils) {
            edit.apply(random, &mut command, self.kind);
        }
        command
    }
}

/// A change to a command. Places count from the name, which is 0, or from the end, where -1 is
/// the last argument; a place that a command does not have is passed over.
#[derive(Clone, Copy)]
enum Edit {
    /// Leaves some of what a command needs, of which there is so much, the name included.
    Few(usize),
    /// Leaves so many arguments, the name included.
    Keep(usize),
    /// Takes the last argument away.
    Cut,
    /// One argument more.
    More,
    /// Names a key that holds the type that the command is for, whatever else happens.
    Right(isize),
    /// Names a key that holds another type, whatever else happens.
    Wrong(isize),
    /// Puts what is no integer.
    NoInteger(isize),
    /// Puts what is no number.
    NoFloat(isize),
    /// Puts one of these.
    Put(isize, &'static [&'static str]),
    /// Puts the words of one of these before this place.
    Insert(isize, &'static [&'static str]),
    /// Appends the words of one of these.
    Tail(&'static [&'static str]),
}

impl Edit {
    fn apply(self, random: &mut Random, command: &mut Args, kind: Option<Kind>) {
        match self {
            Edit::Few(needed) => command.truncate(1 + random.below(needed - 1)),
            Edit::Keep(count) => command.truncate(count),
            Edit::Cut => drop(command.pop()),
            Edit::More => command.push(b"more".to_vec()),
            Edit::Right(at) => {
                let key = kind.expect("the row says what its key holds").fixed();
                put(command, at, key.into());
            }
            Edit::Wrong(at) => {
                let right = kind.map(Kind::fixed);
                // A set is as good as a sorted set to some commands.
                let also = (right == Some(Kind::Zset.fixed())).then_some(Kind::Set.fixed());
                let wrong = |key: &&str| Some(*key) != right && Some(*key) != also;
                let wrong: Vec<_> = KINDS.iter().map(|kind| kind.fixed()).filter(wrong).collect();
                put(command, at, random.word(&wrong));
            }
            Edit::NoInteger(at) => put(command, at, random.no_integer()),
            Edit::NoFloat(at) => put(command, at, random.no_float()),
            Edit::Put(at, words) => put(command, at, random.word(words)),
            Edit::Insert(at, words) => {
                let words = random.pick(words).split(' ').map(Into::into);
                if let Some(at) = place(command, at) {
                    command.splice(at..at, words);
                }
            }
            Edit::Tail(words) => {
                command.extend(random.pick(words).split(' ').map(|word| word.as_bytes().to_vec()));
            }
        }
    }
}

fn put(command: &mut Args, at: isize, arg: Vec<u8>) {
    if let Some(at) = place(command, at) {
        command[at] = arg;
    }
}

fn place(command: &Args, at: isize) -> Option<usize> {
    let from_end = command.len().checked_add_signed(at).filter(|_| at < 0);
    let place = usize::try_from(at).ok().or(from_end)?;
    (place < command.len()).then_some(place)
}

/// All commands that can be made, by type.
pub(crate) const TABLES: &[&[Row]] = &[
    strings::ROWS,
    bits::ROWS,
    hashes::ROWS,
    FIELDS,
    lists::ROWS,
    sets::ROWS,
    zsets::ROWS,
    zsets::COMBINING,
    keys::ROWS,
    keys::SERVER,
];
