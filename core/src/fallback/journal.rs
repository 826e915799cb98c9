//! What recovery owes the server: one entry a key, the oldest first, but what was refused last.

use bytes::Bytes;

use super::{
    aged::Aged,
    delta::{Command, Delta},
};
use crate::{failure::Bound, resp::ServerError};

#[derive(Debug)]
pub(super) struct Journal {
    owed: Aged<Owed>,
    bytes: usize,
    sending: usize,
    entries_max: usize,
    bytes_max: usize,
}

/// What is owed to one key.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// A deletion.
    Delete,
    /// What stands at the key in memory, or a deletion where nothing does.
    Replay,
    /// The net effect of what was done in memory.
    Merge(Delta),
}

#[derive(Debug)]
struct Owed {
    entry: Entry,
    sending: Option<Sending>,
}

/// An entry on its way: a question about the key, or the commands that pay what is owed.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// The commands, by name.
    pub(super) names: Vec<&'static str>,
    /// How many of them were answered.
    pub(super) answered: usize,
    /// The first error among the answers, and which command it was the answer to.
    pub(super) refused: Option<(usize, ServerError)>,
    /// MULTI was refused, so that each command runs by itself.
    pub(super) bare: bool,
    /// At least one of them has.
    pub(super) ran: bool,
}

impl Sending {
    pub(super) fn of(commands: &[Command]) -> Self {
        Sending {
            names: commands.iter().map(|command| command.name).collect(),
            ..Sending::default()
        }
    }
}

impl Entry {
    /// Whether it leaves the same behind when it is sent twice.
    pub(super) fn is_repeatable(&self) -> bool {
        !matches!(self, Entry::Merge(_))
    }

    fn bytes(&self) -> usize {
        match self {
            Entry::Delete | Entry::Replay => 0,
            Entry::Merge(delta) => delta.bytes(),
        }
    }
}

impl Journal {
    pub(super) fn new(seed: u64, entries_max: usize, bytes_max: usize) -> Self {
        Journal { owed: Aged::new(seed), bytes: 0, sending: 0, entries_max, bytes_max }
    }

    /// Which bound is in the way of owing so much more to each of these keys, if any is. A key that is in
    /// has its own room already.
    pub(super) fn lacks<'k>(&self, more: impl Iterator<Item = (&'k [u8], usize)>) -> Option<Bound> {
        let (mut entries, mut bytes) = (self.len(), self.bytes);
        for (key, more) in more {
            if !self.contains(key) {
                entries += 1;
                bytes += key.len();
            }
            bytes += more;
        }
        // What takes no more than before always fits.
        if entries > self.entries_max && entries > self.len() {
            return Some(Bound::JournalEntries);
        }
        (bytes > self.bytes_max && bytes > self.bytes).then_some(Bound::JournalBytes)
    }

    /// Owes `entry` to `key`, in place of whatever was owed to it. It keeps the age of that.
    pub(super) fn owe(&mut self, key: &[u8], entry: Entry) {
        self.bytes += entry.bytes();
        if let Some(owed) = self.owed.get_mut(key) {
            self.bytes -= owed.entry.bytes();
            owed.entry = entry;
            return;
        }
        self.bytes += key.len();
        self.owed.insert(key, Owed { entry, sending: None });
    }

    /// Changes the delta that is owed to `key`, an empty one if nothing is. Leaves an entry alone
    /// that is none.
    pub(super) fn merge(&mut self, key: &[u8], change: impl FnOnce(&mut Delta)) {
        if !self.contains(key) {
            self.owe(key, Entry::Merge(Delta::default()));
        }
        let Some(Owed { entry: Entry::Merge(delta), .. }) = self.owed.get_mut(key) else { return };
        let before = delta.bytes();
        change(delta);
        self.bytes = self.bytes + delta.bytes() - before;
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.owed.get(key).map(|owed| &owed.entry)
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        self.put_back(key);
        if let Some(owed) = self.owed.remove(key) {
            self.bytes -= key.len() + owed.entry.bytes();
        }
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.owed.contains(key)
    }

    /// The oldest keys that nothing is on its way for.
    pub(super) fn next(&self, count: usize, whose: impl Fn(&[u8]) -> bool) -> Vec<Bytes> {
        let waits = |key: &&Bytes| !self.is_sending(key) && whose(key);
        self.owed.keys().filter(waits).take(count).cloned().collect()
    }

    /// All keys, the oldest first.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.owed.keys()
    }

    // ---- on their way --------------------------------------------------------------------------

    /// Notes that something is on its way for `key`.
    pub(super) fn send(&mut self, key: &[u8], sending: Sending) {
        let Some(owed) = self.owed.get_mut(key) else { return };
        self.sending += usize::from(owed.sending.replace(sending).is_none());
    }

    /// Notes that nothing is on its way for `key` any more.
    pub(super) fn put_back(&mut self, key: &[u8]) {
        let Some(owed) = self.owed.get_mut(key) else { return };
        self.sending -= usize::from(owed.sending.take().is_some());
    }

    /// The same, and all others come before it from now on.
    pub(super) fn put_last(&mut self, key: &[u8]) {
        self.put_back(key);
        self.owed.renew(key);
    }

    pub(super) fn sending_mut(&mut self, key: &[u8]) -> Option<&mut Sending> {
        self.owed.get_mut(key)?.sending.as_mut()
    }

    pub(super) fn is_sending(&self, key: &[u8]) -> bool {
        self.owed.get(key).is_some_and(|owed| owed.sending.is_some())
    }

    /// How many entries are on their way.
    pub(super) fn sending(&self) -> usize {
        self.sending
    }

    // ---- sizes ---------------------------------------------------------------------------------

    pub(super) fn clear(&mut self) {
        self.owed.clear();
        (self.bytes, self.sending) = (0, 0);
    }

    pub(super) fn len(&self) -> usize {
        self.owed.len()
    }

    /// The bytes of keys and deltas.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::delta::{Amount, Change};
    use super::*;
    use crate::resp::Value;

    fn room(journal: &Journal, key: &str, more: usize) -> bool {
        journal.lacks(std::iter::once((key.as_bytes(), more))).is_none()
    }

    #[test]
    fn a_key_is_owed_once_and_the_oldest_comes_first() {
        let mut journal = Journal::new(1, 10, 100);
        for key in ["b", "a", "b", "c"] {
            journal.owe(key.as_bytes(), Entry::Delete);
        }
        assert_eq!(journal.next(2, |_| true), ["b", "a"]);
        journal.remove(b"b");
        assert_eq!(journal.next(9, |_| true), ["a", "c"]);
    }

    #[test]
    fn both_bounds_hold_and_a_known_key_needs_no_room() {
        let mut journal = Journal::new(1, 2, 5);
        journal.owe(b"abc", Entry::Delete);
        assert!(room(&journal, "de", 0));
        assert!(!room(&journal, "def", 0) && !room(&journal, "d", 2));
        journal.owe(b"d", Entry::Replay);
        assert!(!room(&journal, "e", 0));
        assert!(room(&journal, "abc", 1) && !room(&journal, "abc", 2));
    }

    #[test]
    fn a_delta_counts_for_what_it_holds_until_it_is_replaced() {
        let mut journal = Journal::new(1, 10, 1_000);
        let append = Change::Append(b"0123456789");
        journal.merge(b"a", |delta| delta.take(&append, &Value::Null));
        journal.merge(b"a", |delta| delta.take(&append, &Value::Null));
        assert_eq!((journal.len(), journal.bytes()), (1, 21));
        journal.owe(b"a", Entry::Replay);
        assert_eq!(journal.bytes(), 1);
        let add = Change::Add(Amount::Whole(1));
        journal.merge(b"a", |delta| delta.take(&add, &Value::Null));
        assert!(matches!(journal.get(b"a"), Some(Entry::Replay)), "the whole value is known");
        journal.remove(b"a");
        assert_eq!((journal.len(), journal.bytes()), (0, 0));
    }

    #[test]
    fn what_is_on_its_way_is_not_sent_again_before_it_is_back() {
        let mut journal = Journal::new(1, 10, 100);
        journal.owe(b"a", Entry::Delete);
        journal.owe(b"b", Entry::Delete);
        journal.send(b"a", Sending::default());
        journal.send(b"a", Sending::default());
        assert_eq!(
            (journal.next(9, |_| true), journal.sending()),
            (vec![Bytes::from_static(b"b")], 1)
        );
        journal.put_back(b"a");
        journal.put_back(b"a");
        assert_eq!(
            (journal.next(1, |_| true), journal.sending()),
            (vec![Bytes::from_static(b"a")], 0)
        );
        journal.send(b"a", Sending::default());
        journal.remove(b"a");
        assert_eq!(journal.sending(), 0);
    }

    #[test]
    fn what_was_refused_comes_last() {
        let mut journal = Journal::new(1, 10, 100);
        for key in ["a", "b", "c"] {
            journal.owe(key.as_bytes(), Entry::Delete);
        }
        journal.send(b"a", Sending::default());
        journal.put_last(b"a");
        assert_eq!((journal.next(9, |_| true).concat(), journal.sending()), (b"bca".to_vec(), 0));
    }
}
