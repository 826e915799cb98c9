//! What a transaction is made of, and what its replies come to.

use std::collections::BTreeSet;

use super::{
    Batch,
    batch::Item,
    classify::{Class, classify},
    submit::permits,
};
use crate::{
    commands::Spec,
    config::Config,
    connection::Op,
    failure::Executed,
    fallback::Part,
    reply::ServerError,
    request::{Effect, split_command},
    resp::{Kind, Reply},
};

/// What a transaction is made of.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) items: Box<[Item]>,
    /// How many replies have come since it was sent: to MULTI, to each item, to EXEC.
    replies: usize,
    /// The first refusal, and of what.
    pub(super) refused: Option<(Refused, ServerError)>,
    /// MULTI was refused, and what followed it was carried out all the same, at least in part.
    pub(super) strayed: bool,
}

/// The blocks of all transactions that have not ended. Each belongs to one [`Op`], whose `item` says
/// where it is: so no command has to carry a place for what few have.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    places: Vec<Option<Block>>,
    free: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Multi,
    Item(usize),
}

/// What follows from one of a transaction's replies.
pub(super) enum Progress {
    /// Others are owed.
    Going,
    /// No server answers like this.
    Broken,
    /// This is what EXEC came to.
    Done,
}

pub(super) const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
pub(super) const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

impl Blocks {
    pub(super) fn insert(&mut self, block: Block) -> u32 {
        if let Some(at) = self.free.pop() {
            self.places[at as usize] = Some(block);
            return at;
        }
        self.places.push(Some(block));
        u32::try_from(self.places.len() - 1).expect("every bound is far below 2^32")
    }

    /// The block of a transaction; `None` for any other command.
    pub(super) fn of(&self, op: &Op) -> Option<&Block> {
        if op.spec.is_transaction() { self.places[op.item as usize].as_ref() } else { None }
    }

    /// The commands that one consists of, itself where it is no transaction.
    pub(super) fn commands<'b>(&self, op: &Op, bytes: &'b [u8]) -> Vec<Part<'b>> {
        match self.of(op) {
            Some(block) => block.parts(bytes),
            None => {
                vec![Part { spec: op.spec, effect: op.effect, words: split_command(bytes) }]
            }
        }
    }

    pub(super) fn of_mut(&mut self, op: &Op) -> Option<&mut Block> {
        if op.spec.is_transaction() { self.places[op.item as usize].as_mut() } else { None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.len() == self.free.len()
    }

    /// A command has ended; if it was a transaction, nobody asks any longer what it was made of.
    pub(super) fn drop_of(&mut self, op: &Op) {
        if op.spec.is_transaction() && self.places[op.item as usize].take().is_some() {
            self.free.push(op.item);
        }
    }
}

impl Block {
    pub(super) fn new(batch: &Batch, config: &Config) -> Self {
        let resolved = |item: &Item| {
            let asked = batch.options_of(item).maybe_retry;
            Item { maybe_retry: Some(asked.unwrap_or(config.retry.maybe)), ..*item }
        };
        let items = batch.items.iter().map(resolved).collect();
        Block { items, replies: 0, refused: None, strayed: false }
    }

    /// It goes out, perhaps once more.
    pub(super) fn begin(&mut self) {
        (self.replies, self.refused, self.strayed) = (0, None, false);
    }

    /// Where in its bytes the command ends whose reply comes next.
    pub(super) fn due(&self) -> u64 {
        let items = |count: usize| if count == 0 { 0 } else { self.items[count - 1].end };
        let end = match self.replies.checked_sub(self.items.len()) {
            None => items(self.replies),
            Some(0) => items(self.items.len()),
            Some(_) => items(self.items.len()) + EXEC.len(),
        };
        (MULTI.len() + end) as u64
    }

    pub(super) fn on_reply(&mut self, reply: &Reply) -> Progress {
        let at = self.replies;
        self.replies += 1;
        if at > self.items.len() {
            return self.on_last_reply(reply);
        }
        let refused = match at.checked_sub(1) {
            None => Refused::Multi,
            Some(item) => Refused::Item(item),
        };
        let multi_was_refused = matches!(self.refused, Some((Refused::Multi, _)));
        match (reply.error(), refused) {
            (Some(error), Refused::Item(item)) if multi_was_refused => {
                self.strayed |= executed_in(self.items[item].spec, &error) != Executed::No;
            }
            (Some(error), _) => {
                self.refused.get_or_insert((refused, error));
            }
            (None, _) if multi_was_refused => self.strayed = true,
            (None, Refused::Multi) if is_simple(reply, b"OK") => {}
            (None, Refused::Item(_)) if is_simple(reply, b"QUEUED") => {}
            (None, _) => return Progress::Broken,
        }
        Progress::Going
    }

    /// Whether EXEC's reply goes with those before it.
    fn on_last_reply(&self, reply: &Reply) -> Progress {
        let goes = match (&self.refused, reply.kind()) {
            // It may be anything, and so may what it says.
            (Some((Refused::Multi, _)), _)
            | (_, Kind::Error | Kind::BulkError)
            | (None, Kind::Null) => true,
            (None, Kind::Array) => reply.view().len() == self.items.len(),
            _ => false,
        };
        if goes { Progress::Done } else { Progress::Broken }
    }

    /// What EXEC's error comes down to, and what follows from it.
    pub(super) fn refusal(&self, spec: &Spec, error: ServerError) -> (ServerError, Class) {
        if error.code() == "EXECABORT" {
            let noted = self.refused.as_ref().map(|(_, error)| error.clone());
            let inner = noted.or_else(|| because(&error)).unwrap_or(error);
            let class = not_run(classify(spec, &inner));
            return (inner, class);
        }
        match classify(spec, &error) {
            // What nobody knows says nothing of what was queued.
            Class::Told(Executed::Yes) => (error, Class::Told(Executed::Maybe)),
            class => (error, class),
        }
    }

    pub(super) fn parts<'b>(&self, bytes: &'b [u8]) -> Vec<Part<'b>> {
        parts(&self.items, &bytes[MULTI.len()..])
    }

    /// Whether all of it may be carried out again though it may have been already.
    ///
    /// Each item has to allow that. And where an item goes by what stands at a key that a later one
    /// writes, it would find something else the second time: at best only its reply is another one then.
    pub(super) fn may_repeat(&self, bytes: &[u8]) -> bool {
        let (mut written, mut all_written) = (BTreeSet::new(), false);
        for (item, part) in self.items.iter().zip(self.parts(bytes)).rev() {
            let everything = part.spec.concerns_all_keys() || part.spec.is_unknown();
            let overtaken = all_written
                || (everything && !written.is_empty())
                || part.keys().any(|key| written.contains(key));
            let effect = match item.effect {
                effect if !overtaken || part.spec.is_blind_write() => effect,
                Effect::Read | Effect::Repeatable => Effect::IdempotentWrite,
                Effect::IdempotentWrite | Effect::Write => Effect::Write,
            };
            let choice = item.maybe_retry.expect("it was resolved when the block was made");
            if !permits(choice, effect) {
                return false;
            }
            if item.effect != Effect::Read {
                all_written |= everything;
                written.extend(part.keys().map(<[u8]>::to_vec));
            }
        }
        true
    }
}

/// The commands, whose bytes stand one behind the other.
pub(super) fn parts<'b>(items: &[Item], bytes: &'b [u8]) -> Vec<Part<'b>> {
    let mut start = 0;
    let part = |item: &Item| {
        let words = split_command(&bytes[start..item.end]);
        start = item.end;
        Part { spec: item.spec, effect: item.effect, words }
    };
    items.iter().map(part).collect()
}

/// The class of an error that kept all of a transaction from being run.
pub(super) fn not_run(class: Class) -> Class {
    match class {
        Class::Told(_) => Class::Told(Executed::No),
        again => again,
    }
}

/// What is known of the execution of a command that has answered with an error inside EXEC. It
/// can't be refused for now and go again there.
pub(super) fn executed_in(spec: &Spec, error: &ServerError) -> Executed {
    match classify(spec, error) {
        Class::Told(executed) => executed,
        Class::Later | Class::NotReady | Class::WrongNode | Class::Unauthenticated => Executed::No,
    }
}

/// The error that a server gives as the reason why EXEC itself was refused.
fn because(error: &ServerError) -> Option<ServerError> {
    let reason = error.message().strip_prefix("Transaction discarded because of: ")?;
    Some(ServerError::new(reason.as_bytes()))
}

fn is_simple(reply: &Reply, text: &[u8]) -> bool {
    reply.kind() == Kind::Simple && reply.view().payload() == text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Request, resp::Value};

    fn batch(commands: &[&str]) -> Batch {
        let mut batch = Batch::new();
        for command in commands {
            batch.push(&Request::new(command));
        }
        batch
    }

    #[test]
    fn each_reply_is_due_when_its_command_is_written_to_its_end() {
        let mut block = Block::new(&batch(&["PING", "GET a"]), &Config::default());
        let ends = [0, 14, 34].map(|end| MULTI.len() as u64 + end);
        for reply in ["OK", "QUEUED", "QUEUED"] {
            assert_eq!(block.due(), ends[block.replies]);
            let reply = Reply::from(Value::Simple(reply.into()));
            assert!(matches!(block.on_reply(&reply), Progress::Going));
        }
        assert_eq!(block.due(), ends[2] + EXEC.len() as u64);
    }

    #[test]
    fn a_place_that_is_free_is_used_again() {
        let mut blocks = Blocks::default();
        let block = || Block::new(&batch(&["PING"]), &Config::default());
        assert_eq!((blocks.insert(block()), blocks.insert(block())), (0, 1));
        blocks.places[0] = None;
        blocks.free.push(0);
        assert_eq!((blocks.insert(block()), blocks.insert(block())), (0, 2));
    }
}
