//! Optimistic transactions: keys, what is read, and a function that decides what is written.

use super::{
    pipeline::{All, Gather, Pipeline},
    slots::{Replies, Slots},
};
use crate::{
    Failure,
    args::ToArgs,
    dialogue::{ATTEMPTS_MAX_DEFAULT, Converse, Optimistic, Plan},
    engine::Batch,
    resp::Reply,
};

/// Optimistic transactions, on every client.
///
/// What is written depends on what was read, and nothing that was read has changed when it is written:
/// the server is asked to watch the keys, the reads are made, `decide` says what to write, and EXEC writes
/// it only if none of the keys was changed by anybody meanwhile. If one was, all of it begins anew, with
/// what is there now.
///
/// ```
/// # mod unfazed_tokio { pub use unfazed_core::{*, handle::Handle as Client}; }
/// use unfazed_tokio::{Client, prelude::*};
///
/// /// Takes up to `count` from the stock; gives what is left, or `None` if there was too little.
/// async fn take(client: &Client, count: i64) -> Result<Option<()>, Failure> {
///     client
///         .optimistic(
///             "stock",
///             |read| read.get::<i64>("stock"),
///             move |stock, write| {
///                 let left = stock.unwrap_or(0) - count;
///                 (left >= 0).then(|| write.set("stock", left))
///             },
///         )
///         .await
/// }
/// ```
///
/// `read` and `decide` may be called any number of times; they are to do nothing but record commands.
/// `decide` gets all the values that were read and records what is to be written, giving the slots of what
/// is wanted of it; where it gives `None` nothing is written, whatever it has recorded.
///
/// # What can come of it
///
/// - `Some` of the replies: all of it was written, on the state that was read.
/// - `None`: `decide` did not want to write.
/// - [`Conflict`](crate::FailureKind::Conflict), executed *no*: in all the attempts that it may take
///   somebody else was faster.
/// - Any other failure: as of a [transaction](super::Transactions), or of what it read. Executed *maybe*
///   only where the connection was lost after EXEC had left.
///
/// In a cluster all its keys, those that are read and written among them, have to be in one slot: it fails
/// before anything is sent if they are not. Where the slot moves, a master steps down or the connection is
/// lost before EXEC has left, it begins anew at the right node, as one of its attempts; 64 of them last for
/// more than ten seconds then.
///
/// It runs on a connection of its own, of which there are `leases_max`. Each of its requests has the
/// client's deadline. Keys that may degrade are not written in memory this way: while the server is down
/// it fails. On `memory://` it works as with a server.
pub trait OptimisticTransactions: Converse {
    /// Watches `keys`, reads, decides, and writes; tried up to 64 times.
    fn optimistic<R, W>(
        &self,
        keys: impl ToArgs,
        read: impl FnMut(&Pipeline) -> R + Send + 'static,
        decide: impl FnMut(R::Values, &Pipeline) -> Option<W> + Send + 'static,
    ) -> Self::Settled<Deciding<R, W>>
    where
        R: Slots,
        W: Slots,
    {
        self.optimistic_up_to(ATTEMPTS_MAX_DEFAULT, keys, read, decide)
    }

    /// The same, tried up to so many times, at least once.
    fn optimistic_up_to<R, W>(
        &self,
        attempts: u32,
        keys: impl ToArgs,
        mut read: impl FnMut(&Pipeline) -> R + Send + 'static,
        mut decide: impl FnMut(R::Values, &Pipeline) -> Option<W> + Send + 'static,
    ) -> Self::Settled<Deciding<R, W>>
    where
        R: Slots,
        W: Slots,
    {
        let closures = Closures {
            read: Box::new(move || Pipeline::record(&mut read)),
            decide: Box::new(move |values| {
                let (batch, slots) = Pipeline::record_maybe(|write| decide(values, write));
                slots.map(|slots| (batch, slots))
            }),
            reads: None,
            writes: None,
        };
        self.settle(Optimistic::new(&keys, closures, attempts))
    }
}

impl<C: Converse + ?Sized> OptimisticTransactions for C {}

/// The dialogue of an optimistic transaction that reads `R` and writes `W`.
pub type Deciding<R, W> = Optimistic<Closures<R, W>>;

type Read<R> = Box<dyn FnMut() -> (Batch, All<R>) + Send>;
type Decide<R, W> = Box<dyn FnMut(<R as Slots>::Values) -> Option<(Batch, All<W>)> + Send>;

/// What an optimistic transaction was told to do.
pub struct Closures<R: Slots, W: Slots> {
    read: Read<R>,
    decide: Decide<R, W>,
    reads: Option<All<R>>,
    writes: Option<All<W>>,
}

impl<R: Slots, W: Slots> Plan for Closures<R, W> {
    type Output = Option<W::Values>;

    fn read(&mut self) -> Batch {
        let (batch, slots) = (self.read)();
        self.reads = Some(slots);
        batch
    }

    fn decide(&mut self, read: Vec<Result<Reply, Failure>>) -> Result<Option<Batch>, Failure> {
        let reads = self.reads.take().expect("it reads before it decides");
        let values = reads.gather(Replies::new(Ok(read)))?;
        Ok((self.decide)(values).map(|(batch, slots)| {
            self.writes = Some(slots);
            batch
        }))
    }

    fn finish(
        &mut self,
        written: Option<Vec<Result<Reply, Failure>>>,
    ) -> Result<Self::Output, Failure> {
        let writes = self.writes.take();
        let all = written.zip(writes);
        all.map(|(written, writes)| writes.gather(Replies::new(Ok(written)))).transpose()
    }
}
