//! The end: what was promised, what was found.

use std::time::Duration;

use crate::{
    ledger::Audit,
    meter::Reading,
    screen::{grouped, span_in_words},
};

/// Of the reads of known keys that were answered without the server, at least so many in a hundred
/// must give the last acknowledged value.
const RIGHT_PERCENT_MIN: f64 = 99.0;

/// All that the run has brought to light.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) reading: Reading,
    pub(crate) audit: Audit,
    /// From the kill to the first answer to a reader that did not come from the server.
    pub(crate) to_degraded: Option<Duration>,
    /// From the first PONG that the new server gave to somebody else: to the first increment, and to
    /// the client's being live.
    pub(crate) to_increment: Option<Duration>,
    pub(crate) to_live: Option<Duration>,
}

impl Report {
    /// Prints the table; gives whether every promise was kept.
    pub(crate) fn print(&self) -> bool {
        let Report { reading, audit, .. } = self;
        let mut table = Table { kept: true };
        let known = reading.known_without_server;
        let percent = 100.0 * reading.right_without_server as f64 / known as f64;

        println!("\n{:<66} {:>9} {:>12}\n{}", "", "promised", "found", "-".repeat(95));
        table.fact("operations", reading.operations());
        table.promise("failed reads of cache:*", reading.failed_reads);
        table.promise("wrong answers: another key's, never written, or outdated", reading.wrong);
        table.row(
            "known cache:* keys read without a server: last acknowledged value",
            "99 % min",
            &format!("{percent:.3} %"),
            Some(percent >= RIGHT_PERCENT_MIN),
        );
        table.fact("    of so many reads", known);
        table.fact("    misses: a value was known, memory had none", reading.missed_in_memory);
        table.fact(
            "misses once the server was back: written meanwhile, so dropped",
            reading.missed_on_server,
        );
        table.fact("failed writes to cache:*", reading.failed_writes);
        table.fact("increments of wallet:* acknowledged", audit.acknowledged);
        table.promise("    lost: acknowledged and not on the server", audit.lost);
        table.promise("    doubled, or executed without the caller's being told", audit.untold);
        table.fact("    told: may have been executed", audit.maybe);
        table.time("kill -9 to the first answer from memory", self.to_degraded);
        table.time("server answers PING again to the first increment", self.to_increment);
        table.time("server answers PING again to all keys from the server", self.to_live);
        table.time("longest that any read of cache:* took", Some(reading.longest_read));
        for (kind, count) in &reading.failures {
            table.fact(&format!("error: {kind}"), *count);
        }
        for why in &reading.wrong_examples {
            println!("wrong: {why}");
        }
        println!(
            "\n{}",
            if table.kept { "Every promise was kept." } else { "A PROMISE WAS BROKEN." }
        );
        table.kept
    }
}

struct Table {
    kept: bool,
}

impl Table {
    fn row(&mut self, what: &str, promised: &str, found: &str, kept: Option<bool>) {
        let mark = match kept {
            None => "",
            Some(true) => "ok",
            Some(false) => "NO",
        };
        self.kept &= kept.unwrap_or(true);
        println!("{}", format!("{what:<66} {promised:>9} {found:>12}  {mark}").trim_end());
    }

    fn fact(&mut self, what: &str, found: u64) {
        self.row(what, "", &grouped(found), None);
    }

    /// What must be zero.
    fn promise(&mut self, what: &str, found: u64) {
        self.row(what, "0", &grouped(found), Some(found == 0));
    }

    /// What must have happened.
    fn time(&mut self, what: &str, span: Option<Duration>) {
        match span {
            Some(span) => self.row(what, "", &span_in_words(span), None),
            None => self.row(what, "", "never", Some(false)),
        }
    }
}
