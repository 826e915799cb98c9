//! Slots stand for replies that are still to come; here each finds its own.

use std::{
    borrow::Cow,
    fmt,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use super::shared::Shared;
use crate::{
    Failure,
    engine::Batch,
    failure::{Executed, FailureKind},
    reply::FromReply,
    request::Request,
    resp::Reply,
};

const FOREIGN: &str = "this slot belongs to another pipeline; return a slot from the closure in which \
    its command was recorded";

/// The place of one command's reply, a `T`, among the replies of its pipeline.
///
/// Return it from the pipeline's closure, alone or with others; what comes back then has the reply in
/// its place. A slot that is let go loses nothing but the value: its command is sent all the same.
pub struct Slot<T> {
    pipeline: Token,
    at: u32,
    command: Cow<'static, str>,
    decoded: PhantomData<fn() -> T>,
}

/// One or more [`Slot`]s in the shape in which their replies are wanted: a slot, a tuple, a `Vec`,
/// an array or an `Option` of slots, and these in one another.
///
/// | slots | all the values | one result each |
/// |---|---|---|
/// | `Slot<T>` | `T` | `Result<T, Failure>` |
/// | `(A, B, …)`, up to 12 | `(A::Values, B::Values, …)` | `(A::Results, B::Results, …)` |
/// | `Vec<S>`, `[S; N]`, `Option<S>` | `Vec<S::Values>`, … | `Vec<S::Results>`, … |
/// | `()` | `()` | `()` |
///
/// A type of your own that holds slots passes the replies on to them:
///
/// ```
/// use unfazed_core::{
///     Failure,
///     handle::{Replies, Slot, Slots},
/// };
///
/// struct User<N, V> {
///     name: N,
///     visits: V,
/// }
///
/// impl Slots for User<Slot<String>, Slot<i64>> {
///     type Values = User<String, i64>;
///     type Results = User<Result<String, Failure>, Result<i64, Failure>>;
///
///     fn values(self, replies: &Replies) -> Result<Self::Values, Failure> {
///         Ok(User { name: self.name.values(replies)?, visits: self.visits.values(replies)? })
///     }
///
///     fn results(self, replies: &Replies) -> Self::Results {
///         User { name: self.name.results(replies), visits: self.visits.results(replies) }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not made of a pipeline's slots",
    label = "not slots",
    note = "a pipeline's closure returns what its commands gave it: a slot, or a tuple (of 12 at most), \
            `Vec`, array or `Option` of slots"
)]
pub trait Slots: Send + 'static {
    /// What they become where every command has succeeded.
    type Values: Send + 'static;
    /// What they become where each command has a result of its own.
    type Results: Send + 'static;

    /// Takes all the values.
    ///
    /// # Errors
    ///
    /// The first failure among these slots.
    fn values(self, replies: &Replies) -> Result<Self::Values, Failure>;

    /// Takes each command's result.
    fn results(self, replies: &Replies) -> Self::Results;
}

/// Who gave the replies of a pipeline.
#[derive(Clone)]
pub(super) enum Giver {
    /// This node.
    One(Arc<str>),
    /// Any of a client's: it knows which.
    Of(Arc<Shared>),
}

impl Giver {
    #[cold]
    fn of(&self, reply: &Reply) -> Arc<str> {
        match self {
            Giver::One(node) => node.clone(),
            Giver::Of(shared) => shared.giver_of(reply),
        }
    }
}

impl fmt::Debug for Giver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Giver::One(node) => node,
            Giver::Of(shared) => shared.node(),
        })
    }
}

/// What came of a pipeline: the outcome of each command, or the reason why none was accepted.
#[derive(Debug)]
pub struct Replies {
    outcomes: Result<Vec<Result<Reply, Failure>>, Failure>,
    giver: Option<Giver>,
    pipeline: Token,
}

/// Tells the slots of one pipeline from those of another: with nothing but positions, a slot that was
/// carried out of its closure would read somebody else's reply. It repeats after 2³² pipelines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Token(u32);

impl Token {
    pub(super) fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Token(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl<T> Slot<T> {
    /// Adds `request` to `batch`, which is that of the pipeline `token`.
    #[inline]
    pub(super) fn record(pipeline: Token, batch: &mut Batch, request: &Request<'_>) -> Self {
        let at = batch.push(request);
        let command = match request.unknown_name() {
            None => Cow::Borrowed(batch.items[at].spec.name()),
            Some(name) => Cow::Owned(name.to_owned()),
        };
        Slot { pipeline, at: at as u32, command, decoded: PhantomData }
    }
}

impl<T: FromReply> Slot<T> {
    #[inline]
    fn read(self, replies: &Replies) -> Result<T, Failure> {
        if self.pipeline != replies.pipeline {
            let kind = FailureKind::Misuse(FOREIGN);
            return Err(Failure::new(kind, Executed::Maybe, self.command));
        }
        let outcomes = match &replies.outcomes {
            Ok(outcomes) => outcomes,
            Err(all) => return Err(share(all, self.command)),
        };
        match &outcomes[self.at as usize] {
            Ok(reply) => T::from_reply(reply).map_err(|error| {
                let node = replies.giver.as_ref().map(|giver| giver.of(reply));
                Failure::undecodable(error, self.command, reply, node)
            }),
            Err(failure) => Err(failure.clone()),
        }
    }
}

/// What the failure of a whole pipeline is for one of its commands. A misuse keeps the name of the
/// command that is to blame.
#[cold]
fn share(all: &Failure, command: Cow<'static, str>) -> Failure {
    match all.kind() {
        FailureKind::Misuse(_) => all.clone(),
        _ => all.clone().named(command),
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("at", &self.at).field("command", &self.command).finish()
    }
}

impl Replies {
    /// What came of a pipeline that was submitted as a whole, one outcome for each command, in order.
    #[must_use]
    pub fn new(outcomes: Result<Vec<Result<Reply, Failure>>, Failure>) -> Self {
        Replies { outcomes, giver: None, pipeline: Token::default() }
    }

    /// Has `run` submit `batch` and wait for the outcome of each command. A pipeline of no commands
    /// ends well without it.
    pub fn of(
        batch: Batch,
        run: impl FnOnce(Batch) -> Result<Vec<Result<Reply, Failure>>, Failure>,
    ) -> Self {
        Replies::new(if batch.is_empty() { Ok(Vec::new()) } else { run(batch) })
    }

    /// Names the node that answered, for failures that only show when a reply is read.
    #[must_use]
    pub fn at(self, node: Arc<str>) -> Self {
        self.given_by(Giver::One(node))
    }

    /// Says who gave the replies.
    pub(super) fn given_by(mut self, giver: Giver) -> Self {
        self.giver = Some(giver);
        self
    }

    /// The same, to be read by the slots of that pipeline.
    pub(super) fn for_slots_of(mut self, pipeline: Token) -> Self {
        self.pipeline = pipeline;
        self
    }

    /// The same, where every command has succeeded; else the first failure, whether its slot was kept
    /// or not.
    pub(super) fn all_well(self) -> Result<Self, Failure> {
        match self.outcomes {
            Ok(outcomes) if outcomes.iter().all(Result::is_ok) => {
                Ok(Replies { outcomes: Ok(outcomes), ..self })
            }
            Ok(outcomes) => {
                let mut failures = outcomes.into_iter().filter_map(Result::err);
                Err(failures.next().expect("one is not ok"))
            }
            Err(all) => Err(all),
        }
    }
}

impl<T: FromReply + Send + 'static> Slots for Slot<T> {
    type Values = T;
    type Results = Result<T, Failure>;

    #[inline]
    fn values(self, replies: &Replies) -> Result<T, Failure> {
        self.read(replies)
    }

    #[inline]
    fn results(self, replies: &Replies) -> Result<T, Failure> {
        self.read(replies)
    }
}

impl<S: Slots> Slots for Vec<S> {
    type Values = Vec<S::Values>;
    type Results = Vec<S::Results>;

    fn values(self, replies: &Replies) -> Result<Self::Values, Failure> {
        // Not `collect`: into a `Result` it knows no size and grows step by step.
        let mut values = Vec::with_capacity(self.len());
        for slots in self {
            values.push(slots.values(replies)?);
        }
        Ok(values)
    }

    fn results(self, replies: &Replies) -> Self::Results {
        self.into_iter().map(|slots| slots.results(replies)).collect()
    }
}

impl<S: Slots, const N: usize> Slots for [S; N] {
    type Values = [S::Values; N];
    type Results = [S::Results; N];

    fn values(self, replies: &Replies) -> Result<Self::Values, Failure> {
        let mut first = None;
        let values = self.map(|slots| match slots.values(replies) {
            Ok(values) => Some(values),
            Err(failure) => {
                first.get_or_insert(failure);
                None
            }
        });
        match first {
            None => Ok(values.map(|values| values.expect("none has failed"))),
            Some(failure) => Err(failure),
        }
    }

    fn results(self, replies: &Replies) -> Self::Results {
        self.map(|slots| slots.results(replies))
    }
}

impl<S: Slots> Slots for Option<S> {
    type Values = Option<S::Values>;
    type Results = Option<S::Results>;

    fn values(self, replies: &Replies) -> Result<Self::Values, Failure> {
        self.map(|slots| slots.values(replies)).transpose()
    }

    fn results(self, replies: &Replies) -> Self::Results {
        self.map(|slots| slots.results(replies))
    }
}

impl Slots for () {
    type Values = ();
    type Results = ();

    fn values(self, _: &Replies) -> Result<(), Failure> {
        Ok(())
    }

    fn results(self, _: &Replies) {}
}

macro_rules! tuple {
    ($($slots:ident $at:tt),+) => {
        impl<$($slots: Slots),+> Slots for ($($slots,)+) {
            type Values = ($($slots::Values,)+);
            type Results = ($($slots::Results,)+);

            #[inline]
            fn values(self, replies: &Replies) -> Result<Self::Values, Failure> {
                Ok(($(self.$at.values(replies)?,)+))
            }

            #[inline]
            fn results(self, replies: &Replies) -> Self::Results {
                ($(self.$at.results(replies),)+)
            }
        }
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
