//! What came of a pipeline or a transaction.

use std::{borrow::Cow, fmt, sync::Arc};

use super::{
    batch::Item,
    block::executed_in,
    tickets::{Names, Outcome},
};
use crate::{Failure, failure::FailureKind, resp::Reply};

/// What came of a pipeline or a transaction: [`spread`](Outcomes::spread) it, but not under a lock.
#[must_use]
pub struct Outcomes {
    inner: Inner,
    strayed: bool,
}

enum Inner {
    /// Of each command by itself. None is left open.
    Each(Vec<Option<Outcome>>),
    /// Of a transaction, as a whole.
    Failed(Failure),
    /// Of a transaction that a server has carried out.
    Exec(Box<Exec>),
}

struct Exec {
    /// The array that EXEC gave.
    reply: Reply,
    items: Box<[Item]>,
    /// The names of commands that the table does not know.
    names: Option<Box<Names>>,
    node: Arc<str>,
    attempts: u16,
}

impl Outcomes {
    /// What came of each command, in the order in which they were added to the batch.
    ///
    /// Takes time in proportion to their number; what the replies hold is shared and not copied.
    ///
    /// # Errors
    ///
    /// Where a transaction came to nothing as a whole, the failure that says why, and whether any of it
    /// was executed.
    pub fn spread(self) -> Result<Vec<Result<Reply, Failure>>, Failure> {
        match self.inner {
            Inner::Each(outcomes) => {
                Ok(outcomes.into_iter().map(|outcome| outcome.expect("none is left")).collect())
            }
            Inner::Failed(failure) => Err(failure),
            Inner::Exec(exec) => Ok(exec.spread()),
        }
    }

    /// Whether one of the commands of a pipeline was redirected or refused for now, and sent again: another
    /// node of the cluster may have answered it than the one that serves its slot, and others that were
    /// submitted after it may have been answered before it.
    pub fn strayed(&self) -> bool {
        self.strayed
    }

    pub(super) fn each(outcomes: Vec<Option<Outcome>>) -> Self {
        Inner::Each(outcomes).into()
    }

    pub(super) fn failed(failure: Failure) -> Self {
        Inner::Failed(failure).into()
    }

    /// The same, and whether any of it was redirected, or refused for now.
    pub(super) fn with_strayed(self, strayed: bool) -> Self {
        Outcomes { strayed, ..self }
    }

    /// `reply` is an array of as many elements as there are items.
    pub(super) fn exec(reply: Reply, items: Box<[Item]>, node: Arc<str>, attempts: u16) -> Self {
        let exec = Exec { reply, items, names: None, node, attempts };
        Inner::Exec(Box::new(exec)).into()
    }

    /// The same, with the names of commands that the table does not know.
    pub(super) fn named(mut self, names: Option<Box<Names>>) -> Self {
        if let Inner::Exec(exec) = &mut self.inner {
            exec.names = names;
        }
        self
    }
}

impl From<Inner> for Outcomes {
    fn from(inner: Inner) -> Self {
        Outcomes { inner, strayed: false }
    }
}

impl Exec {
    fn spread(&self) -> Vec<Outcome> {
        let views = self.reply.view().items();
        let outcomes = self.items.iter().enumerate().zip(views).map(|((at, item), view)| {
            let Some(error) = view.error() else {
                return Ok(view.to_reply().given_by(self.reply.giver()));
            };
            let executed = executed_in(item.spec, &error);
            let names = self.names.as_deref().map_or(&[][..], Vec::as_slice);
            let name: Cow<'static, str> =
                match names.binary_search_by_key(&(at as u32), |(of, _)| *of) {
                    Ok(found) => names[found].1.to_string().into(),
                    Err(_) => item.spec.name().into(),
                };
            let failure = Failure::new(FailureKind::Server(error), executed, name);
            Err(failure.at(Some(self.node.clone())).after(self.attempts.into()))
        });
        outcomes.collect()
    }
}

/// Without the replies, which may be long and hold secrets.
impl fmt::Debug for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner {
            Inner::Each(outcomes) => write!(f, "Outcomes(of {} commands)", outcomes.len()),
            Inner::Failed(failure) => write!(f, "Outcomes({failure})"),
            Inner::Exec(exec) => write!(f, "Outcomes(of {} commands)", exec.items.len()),
        }
    }
}
