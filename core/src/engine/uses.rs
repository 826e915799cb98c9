//! What a command may be used for on a connection that callers share.

use super::{Closing, Engine, Rejected, in_memory::lacks, trial::Sabotage};
use crate::{
    Failure,
    commands::Spec,
    failure::{Executed, FailureKind},
};

const SHARED_CONNECTION: &str = "this command changes the state of its connection, which callers \
    share: use it on one of your own (`dedicated`); database, name and credentials for all of them belong \
    in the client's configuration";
const SUBSCRIBES: &str = "messages would come on a connection that callers share, and to nobody in \
    particular: `subscribe`, `psubscribe` and `ssubscribe` give a stream of them";
const NOT_HERE: &str = "this command gives its connection another purpose, of which this client knows \
    nothing: send it on a socket of your own";
const DROP_IT: &str =
    "the connection is the client's: `close` ends it, and it is made anew by itself";
const ROUTES: &str = "where a request goes, and what has to be said to that node before, the client \
    decides by itself; on a connection of your own (`dedicated`) you may say it";
const TRANSACTS: &str = "between MULTI and EXEC on the shared connection, commands of other callers \
    would get into the transaction: use `transaction`, which sends all of it in one piece";
const WATCHES: &str = "a watched key would hold for all who share the connection: use `optimistic`, which \
    watches, reads, decides and writes on one of its own, or `dedicated`";
const WAITS: &str = "this command waits for what its own connection wrote, so alone on a shared one its \
    answer would be about nothing: use it in a pipeline, after the writes it is to wait for, or on a \
    connection of your own (`dedicated`)";
const SCANS: &str = "a cursor of SCAN belongs to one node of the cluster: `scan` goes through all of them, also while \
    slots move from one to another";

impl<W> Engine<W> {
    pub(super) fn check_open(&self, command: &str) -> Result<(), Rejected> {
        match self.closing {
            Closing::Open => Ok(()),
            Closing::Draining(_) | Closing::Closed(_) => Err(Rejected::Failed(Failure::new(
                FailureKind::ClientClosed,
                Executed::No,
                command.to_owned(),
            ))),
        }
    }

    /// Whether a command may be used by those who share a connection, and if so, whether it needs one of
    /// its own. It is the `at`-th of its pipeline.
    #[inline]
    pub(super) fn check_use(
        &self,
        spec: &Spec,
        command: &str,
        at: usize,
    ) -> Result<bool, Rejected> {
        let plain = !spec.is_session() && !spec.is_blocking();
        if self.closing == Closing::Open && plain && self.cluster.is_none() {
            return Ok(false);
        }
        self.check_use_of(spec, command, at)
    }

    #[cold]
    fn check_use_of(&self, spec: &Spec, command: &str, at: usize) -> Result<bool, Rejected> {
        self.check_open(command)?;
        if self.trial.is(Sabotage::LetAnythingThrough) {
            return Ok(false);
        }
        let advice = match spec.name() {
            "SCAN" if self.cluster.is_some() => SCANS,
            "MULTI" | "EXEC" | "DISCARD" => TRANSACTS,
            "WATCH" | "UNWATCH" => WATCHES,
            "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" | "UNSUBSCRIBE" | "PUNSUBSCRIBE"
            | "SUNSUBSCRIBE" => SUBSCRIBES,
            "MONITOR" | "SYNC" | "PSYNC" | "REPLCONF" | "CLIENT REPLY" | "SCRIPT DEBUG"
            | "CLUSTER SYNCSLOTS" => NOT_HERE,
            "QUIT" | "RESET" => DROP_IT,
            "ASKING" | "READONLY" | "READWRITE" => ROUTES,
            _ if spec.is_about_own_writes() => match at {
                0 => WAITS,
                _ => return Ok(true),
            },
            _ if spec.is_session() && self.store.is_some() => lacks(spec),
            _ if spec.is_session() => SHARED_CONNECTION,
            _ => return Ok(spec.is_blocking()),
        };
        let kind = FailureKind::Misuse(advice);
        Err(Rejected::Failed(Failure::new(kind, Executed::No, command.to_owned())))
    }
}
