//! Transactions: commands recorded in a closure, of which all run, one right after the other, or none.

use super::{
    pipeline::{All, Each, Pipeline, RunBatch},
    slots::Slots,
};

/// Transactions, on everything that can run a pipeline.
///
/// The commands go out in one piece between MULTI and EXEC. The server runs all of them, with nothing of
/// anyone else between them, or none of them.
///
/// ```
/// # mod unfazed_tokio { pub use unfazed_core::{*, handle::Handle as Client}; }
/// use unfazed_tokio::{Client, prelude::*};
///
/// async fn pay(client: &Client, cents: i64) -> Result<(), Failure> {
///     let (from, to): (i64, i64) = client
///         .transaction(|t| (t.decrby("{bank}:ada", cents), t.incrby("{bank}:bob", cents)))
///         .await?;
///     println!("ada has {from} left, bob has {to} now");
///     Ok(())
/// }
/// ```
///
/// The closure returns the slots of those commands whose replies are wanted, as for a
/// [pipeline](super::Pipelines). No command of a transaction sees the reply of another.
///
/// # What can come of it
///
/// - All of them ran. A command may still have answered with an error of its own, such as WRONGTYPE:
///   that is *its* failure, executed *yes*, and undoes nothing of what the others did.
/// - It was discarded because the server refused one of them while they were queued (an unknown command,
///   a wrong number of arguments, no permission):
///   [`Aborted`](crate::FailureKind::Aborted), executed *no*. It names the command and has the error.
/// - The connection was lost before the last byte of EXEC had left, or the server refused it for now:
///   it was not executed, and goes again as a whole, within its deadline.
/// - The connection was lost later: executed *maybe*, for all of them alike. It goes again only as a
///   whole, where each of its commands may go again and none reads what a later one writes; else it is
///   told.
///
/// Commands that change the state of their connection, or wait at the server, can't be part of a
/// transaction and are refused before anything is sent.
///
/// # While the server is down
///
/// A transaction takes the strictest mode of all its keys. In memory too it is carried out as a whole: if
/// one of its commands can't be, nothing is done, and `Aborted` names that one. On
/// `memory://` it runs as on a server.
pub trait Transactions: RunBatch {
    /// Runs the commands that `fill` records as one. Gives all the values, or a failure: that of the
    /// transaction, or where it was carried out, that of the first command which has failed.
    ///
    /// In a cluster all keys have to be in one slot. A transaction of no commands ends well and sends
    /// nothing. Takes what its commands take. Since 1.2.
    fn transaction<S: Slots>(
        &self,
        fill: impl FnOnce(&Pipeline) -> S,
    ) -> Self::PendingBatch<All<S>> {
        let (batch, slots) = Pipeline::record(fill);
        self.run_batch(batch.into_transaction(), slots)
    }

    /// The same, giving each command a result of its own; where the transaction came to nothing, each
    /// has its failure.
    ///
    /// ```
    /// # mod unfazed_tokio { pub use unfazed_core::{*, handle::Handle as Client}; }
    /// # use unfazed_tokio::{Client, prelude::*};
    /// # async fn example(client: &Client) {
    /// let (name, visits) =
    ///     client.transaction_each(|t| (t.set("name", "Ada"), t.incr("visits"))).await;
    /// if let (Ok(()), Err(failure)) = (name, visits) {
    ///     println!("the name is set all the same: {failure}");
    /// }
    /// # }
    /// ```
    fn transaction_each<S: Slots>(
        &self,
        fill: impl FnOnce(&Pipeline) -> S,
    ) -> Self::PendingBatch<Each<S>> {
        let (batch, slots) = Pipeline::record(fill);
        self.run_batch(batch.into_transaction(), slots.each())
    }
}

impl<R: RunBatch + ?Sized> Transactions for R {}
