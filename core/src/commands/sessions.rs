//! What is said of a connection: for one of your own.

use super::{Run, Spec};
use crate::{
    args::{ToArg, ToArgs},
    reply::FromReply,
    request::Request,
};

/// Commands that concern the connection they are sent on.
///
/// They are for a [`Dedicated`](crate::handle::Dedicated) connection. On one that is shared they are
/// refused, executed *no*, with an error that says what to use instead; so are they in a transaction.
///
/// A connection on which one of them was used is closed when it is given back, but for a transaction that
/// has ended and keys that are watched no more.
pub trait Sessions: Run {
    /// Has the next EXEC on this connection be carried out only if none of these keys was changed by then.
    /// O(keys). Since 2.2.
    fn watch(&self, keys: impl ToArgs) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("WATCH") }).args(&keys))
    }

    /// Watches no key any more. O(1). Since 2.2.
    fn unwatch(&self) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("UNWATCH") }))
    }

    /// Begins a transaction: what follows is queued at the server, and each command answers `QUEUED`, until
    /// [`exec`](Self::exec) has all of it carried out. O(1). Since 1.2.
    ///
    /// [`transaction`](crate::handle::Transactions::transaction) sends one in one piece, and each of its
    /// commands has its own reply.
    fn multi(&self) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("MULTI") }))
    }

    /// Carries out what was queued: all the replies in order, or `None` where a watched key was changed and
    /// nothing was carried out. Since 1.2.
    fn exec<T: FromReply + Send + 'static>(&self) -> Self::Pending<Option<T>> {
        self.run(Request::of(const { Spec::of("EXEC") }))
    }

    /// Drops what was queued, and watches no key any more. O(commands). Since 2.0.
    fn discard(&self) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("DISCARD") }))
    }

    /// Goes over to another database, by its number. O(1). Since 1.0.
    fn select(&self, database: u32) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("SELECT") }).arg(&database))
    }

    /// Becomes another user. O(1). Since 6.0.
    fn auth(&self, user: impl ToArg, password: impl ToArg) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("AUTH") }).arg(&user).arg(&password))
    }

    /// Gives this connection a name, as CLIENT LIST shows it. O(1). Since 2.6.9.
    fn client_setname(&self, name: impl ToArg) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("CLIENT SETNAME") }).arg(&name))
    }

    /// Has a replica of a cluster answer reads on this connection. O(1). Since 3.0.
    fn readonly(&self) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("READONLY") }))
    }

    /// Takes that back. O(1). Since 3.0.
    fn readwrite(&self) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("READWRITE") }))
    }
}

impl<R: Run + ?Sized> Sessions for R {}
