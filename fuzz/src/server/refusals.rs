//! What the server refuses, and why.

use super::{Server, is_write};

/// Why the server refuses what it would otherwise carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It has no memory left.
    Full,
    /// It can't save its data, and takes no writes.
    CannotSave,
    /// A script runs and does not end.
    ScriptRuns,
    /// It is a replica that has lost its master.
    MasterDown,
    /// The user may not write.
    NotPermitted,
    /// Its disk fails in the middle of writes, so that nobody knows what became of them.
    DiskFails,
}

impl Condition {
    /// All of them.
    pub const ALL: [Condition; 6] = [
        Condition::Full,
        Condition::CannotSave,
        Condition::ScriptRuns,
        Condition::MasterDown,
        Condition::NotPermitted,
        Condition::DiskFails,
    ];

    /// What it is called where faults are counted.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Condition::Full => "fault: OOM",
            Condition::CannotSave => "fault: MISCONF",
            Condition::ScriptRuns => "fault: BUSY",
            Condition::MasterDown => "fault: MASTERDOWN",
            Condition::NotPermitted => "fault: NOPERM",
            Condition::DiskFails => "fault: IOERR",
        }
    }

    fn refusal(self, name: &str) -> Option<&'static str> {
        let takes =
            ["DEL", "PEXPIRE", "PERSIST", "BLPOP", "XDEL", "XREADGROUP", "XACK", "XAUTOCLAIM"];
        let adds = is_write(name) && !takes.contains(&name);
        match self {
            Condition::Full => {
                adds.then_some("OOM command not allowed when used memory > 'maxmemory'.")
            }
            Condition::CannotSave => is_write(name).then_some(
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist \
                 to disk.",
            ),
            Condition::ScriptRuns => Some("BUSY Redis is busy running a script."),
            Condition::MasterDown => {
                Some("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.")
            }
            Condition::DiskFails => adds.then_some("IOERR error or timeout writing"),
            Condition::NotPermitted => is_write(name)
                .then_some("NOPERM User app has no permissions to run the command"),
        }
    }
}

impl Server {
    pub(super) fn refusal(&self, name: &str) -> Option<&'static str> {
        if self.loading {
            return Some("LOADING Redis is loading the dataset in memory");
        }
        if let Some(text) = self.condition.and_then(|condition| condition.refusal(name)) {
            return Some(text);
        }
        match name {
            "PING" | "ECHO" | "GET" | "MGET" | "PTTL" | "EXISTS" | "SMEMBERS" | "LRANGE"
            | "HGETALL" | "SSCAN" | "HSCAN" | "SCAN" | "DBSIZE" => {
                (self.busy && name != "PING").then_some("TRYAGAIN passing condition")
            }
            name if is_write(name) => match () {
                () if self.readonly => {
                    Some("READONLY You can't write against a read only replica.")
                }
                () if self.busy => Some("NOREPLICAS Not enough good replicas to write."),
                () => None,
            },
            _ => Some("ERR unknown command 'NOSUCH', with args beginning with: "),
        }
    }
}
