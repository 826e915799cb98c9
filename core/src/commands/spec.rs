//! What the table of commands says of one command.

use super::table::TABLE;
use crate::request::Effect;

/// What one command is, whoever runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    name: &'static str,
    effect: Effect,
    keys: Keys,
    flags: u8,
}

/// Which arguments of a command are keys. Positions count from 1, the first argument after the
/// command's name (and subcommand).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// None, or nobody knows.
    None,
    /// The first argument.
    First,
    /// The first two arguments.
    FirstTwo,
    /// Every argument.
    All,
    /// The first of each pair of arguments.
    EveryOther,
    /// As many as the argument at this position says, right after it.
    Counted(u8),
}

const SLOW: u8 = 1;
const SCRIPT: u8 = 2;
const SESSION: u8 = 4;
const BLOCKING: u8 = 8;
const ALL_KEYS: u8 = 16;

impl Spec {
    pub(super) const fn new(name: &'static str, effect: Effect, keys: Keys) -> Self {
        Spec { name, effect, keys, flags: 0 }
    }

    /// It may take long; the response time limit is extended while its reply is owed.
    pub(super) const fn slow(self) -> Self {
        Spec { flags: self.flags | SLOW, ..self }
    }

    /// It runs a script, which can answer with any text, an error of any kind among them.
    pub(super) const fn script(self) -> Self {
        Spec { flags: self.flags | SCRIPT | SLOW, ..self }
    }

    /// It changes the connection's state, so it can't run on a connection that is shared.
    pub(super) const fn session(self) -> Self {
        Spec { flags: self.flags | SESSION, ..self }
    }

    /// It waits at the server, so it can't run on a connection that is shared.
    pub(super) const fn blocking(self) -> Self {
        Spec { flags: self.flags | BLOCKING, ..self }
    }

    /// It concerns every key there is: KEYS, SCAN, DBSIZE, FLUSHDB.
    pub(super) const fn all_keys(self) -> Self {
        Spec { flags: self.flags | ALL_KEYS, ..self }
    }

    /// The table's entry called `name`; fails to compile where there is none.
    pub(crate) const fn of(name: &str) -> &'static Spec {
        let mut at = 0;
        while at < TABLE.len() {
            if same(TABLE[at].name.as_bytes(), name.as_bytes()) {
                return &TABLE[at];
            }
            at += 1;
        }
        panic!("no such command in the table")
    }

    /// The table's entry called `name`, in any case.
    pub(crate) fn find(name: &str) -> Option<&'static Spec> {
        let at = TABLE.binary_search_by(|spec| {
            spec.name.bytes().cmp(name.bytes().map(|byte| byte.to_ascii_uppercase()))
        });
        at.ok().map(|at| &TABLE[at])
    }

    /// What is assumed of a command that the table does not know.
    pub(crate) fn unknown() -> &'static Spec {
        static UNKNOWN: Spec = Spec::new("", Effect::Write, Keys::None);
        &UNKNOWN
    }

    /// The name in capitals, with its subcommand after a space where it has one.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What running it twice does, if no argument changes that.
    #[must_use]
    pub const fn effect(&self) -> Effect {
        self.effect
    }

    /// Which arguments are keys.
    #[must_use]
    pub const fn keys(&self) -> Keys {
        self.keys
    }

    pub(crate) const fn is_unknown(&self) -> bool {
        self.name.is_empty()
    }

    pub(crate) const fn is_slow(&self) -> bool {
        self.flags & SLOW != 0
    }

    pub(crate) const fn is_script(&self) -> bool {
        self.flags & SCRIPT != 0
    }

    pub(crate) const fn is_session(&self) -> bool {
        self.flags & SESSION != 0
    }

    pub(crate) const fn is_blocking(&self) -> bool {
        self.flags & BLOCKING != 0
    }

    pub(crate) const fn concerns_all_keys(&self) -> bool {
        self.flags & ALL_KEYS != 0
    }

    /// How many words the name has.
    pub(crate) fn words(&self) -> usize {
        1 + usize::from(self.name.bytes().any(|byte| byte == b' '))
    }
}

impl Keys {
    /// The keys among `args`, the arguments after the name.
    pub(crate) fn of<'k, A: AsRef<[u8]>>(self, args: &'k [A]) -> impl Iterator<Item = &'k [u8]> {
        let (from, to, step) = match self {
            Keys::None => (0, 0, 1),
            Keys::First => (0, 1, 1),
            Keys::FirstTwo => (0, 2, 1),
            Keys::All => (0, args.len(), 1),
            Keys::EveryOther => (0, args.len(), 2),
            Keys::Counted(at) => {
                let at = usize::from(at);
                let count = args
                    .get(at - 1)
                    .and_then(|count| std::str::from_utf8(count.as_ref()).ok()?.parse().ok())
                    .unwrap_or(0usize);
                (at, at.saturating_add(count), 1)
            }
        };
        let to = to.min(args.len());
        args[from.min(to)..to].iter().step_by(step).map(AsRef::as_ref)
    }
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_it_can_be_searched() {
        assert!(TABLE.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn a_name_is_found_in_any_case_and_unknown_ones_are_not() {
        assert_eq!(Spec::find("get").map(Spec::name), Some("GET"));
        assert_eq!(Spec::find("Client SetInfo").map(Spec::name), Some("CLIENT SETINFO"));
        assert_eq!(Spec::find("GETT"), None);
        assert_eq!(Spec::find(""), None);
    }

    #[test]
    fn keys_are_found_among_the_arguments() {
        let keys = |keys: Keys, args: &[&str]| -> Vec<String> {
            keys.of(args).map(|key| String::from_utf8_lossy(key).into_owned()).collect()
        };
        assert_eq!(keys(Keys::First, &["a", "b"]), ["a"]);
        assert_eq!(keys(Keys::FirstTwo, &["a"]), ["a"]);
        assert_eq!(keys(Keys::EveryOther, &["a", "1", "b", "2"]), ["a", "b"]);
        assert_eq!(keys(Keys::Counted(2), &["script", "2", "a", "b", "c"]), ["a", "b"]);
        assert_eq!(keys(Keys::Counted(2), &["script", "9", "a"]), ["a"]);
        assert!(keys(Keys::Counted(2), &["script"]).is_empty());
    }
}
