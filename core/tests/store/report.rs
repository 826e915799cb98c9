//! What went wrong, in as few commands as show it.

use std::fmt;
use std::time::{Duration, Instant};

use crate::generate::Step;
use crate::pair::{Difference, Pair};
use crate::random::Args;

/// How long a failing sequence may be run again and again to shorten it.
const SHORTENING_MAX: Duration = Duration::from_secs(8);

/// A difference and the commands that lead to it.
pub(crate) struct Report {
    pub(crate) seed: u64,
    /// Which sequence of that seed.
    pub(crate) number: u64,
    pub(crate) steps: Vec<Step>,
    pub(crate) difference: Difference,
    /// Whether it came again when the sequence was run again.
    pub(crate) came_again: bool,
}

impl Report {
    /// Leaves out what is not needed for a difference: steps, and then arguments of long commands.
    pub(crate) fn shortened(
        pair: &mut Pair,
        seed: u64,
        number: u64,
        steps: Vec<Step>,
        difference: Difference,
    ) -> Report {
        let name = difference.command[0].clone();
        let report = Report { seed, number, steps, difference, came_again: false };
        let mut search = Search { pair, name, report, began: Instant::now() };
        search.attempt(search.report.steps.clone());
        let mut size = search.report.steps.len() / 2;
        while size > 0 {
            let mut to = search.report.steps.len();
            while to >= size {
                let steps = &search.report.steps;
                search.attempt([&steps[..to - size], &steps[to..]].concat());
                to = (to - size).min(search.report.steps.len());
            }
            size /= 2;
        }
        for step in 0..search.report.steps.len() {
            search.shorten_command(step);
        }
        search.report
    }
}

/// The way to a shorter report.
struct Search<'a> {
    pair: &'a mut Pair,
    /// The command that the report is about. Another may differ too, but that is another story.
    name: Vec<u8>,
    report: Report,
    began: Instant,
}

impl Search<'_> {
    /// Keeps these steps if they still lead to a difference. Returns whether they do.
    fn attempt(&mut self, mut steps: Vec<Step>) -> bool {
        if self.began.elapsed() > SHORTENING_MAX {
            return false;
        }
        match self.pair.run_in_time(&steps) {
            Err(difference) if difference.command[0].eq_ignore_ascii_case(&self.name) => {
                // Behind the difference nothing is needed.
                steps.truncate(difference.step + 1);
                self.report = Report { steps, difference, came_again: true, ..self.report };
                true
            }
            _ => false,
        }
    }

    /// Leaves out arguments behind the key, two by two, since many come in pairs.
    fn shorten_command(&mut self, step: usize) {
        const FIRST: usize = 2;
        let length = |search: &Self| match search.report.steps.get(step) {
            Some(Step::Run(_, command)) => command.len(),
            _ => 0,
        };
        let mut size = length(self).saturating_sub(FIRST) / 4 * 2;
        while size > 0 {
            let mut from = FIRST;
            while from + size <= length(self) {
                let mut steps = self.report.steps.clone();
                if let Step::Run(_, command) = &mut steps[step] {
                    command.drain(from..from + size);
                }
                if !self.attempt(steps) {
                    from += size;
                }
            }
            size = size / 4 * 2;
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { seed, number, steps, difference, came_again } = self;
        writeln!(f, "seed {seed}, sequence {number}, shortened:")?;
        if !came_again {
            writeln!(f, "(it did not come again when the sequence was run again)")?;
        }
        for step in steps {
            match step {
                Step::Run(_, command) => writeln!(f, "  {}", Shown(command))?,
                Step::Scan(_, command, writes) => {
                    writeln!(f, "  {} to its end, and meanwhile", Shown(command))?;
                    writes.iter().try_for_each(|write| writeln!(f, "    {}", Shown(write)))?;
                }
                Step::Compare => writeln!(f, "  (all keys are compared)")?,
                Step::Expire => writeln!(f, "  (wait until what is over soon is over)")?,
            }
        }
        write!(f, "{difference}")
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { command, ours, theirs, .. } = self;
        write!(f, "{}\n    store:  {ours}\n    server: {theirs}", Shown(command))
    }
}

/// A command as redis-cli takes it.
pub(crate) struct Shown<'a>(pub(crate) &'a Args);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ARGS_MAX: usize = 60;
        for (place, arg) in self.0.iter().take(ARGS_MAX).enumerate() {
            let plain = !arg.is_empty()
                && arg.iter().all(|b| b.is_ascii_graphic() && *b != b'"' && *b != b'\\');
            let space = if place == 0 { "" } else { " " };
            if plain {
                write!(f, "{space}{}", arg.escape_ascii())?;
            } else {
                write!(f, "{space}\"{}\"", arg.escape_ascii())?;
            }
        }
        if self.0.len() > ARGS_MAX {
            write!(f, " ... ({} arguments)", self.0.len())?;
        }
        Ok(())
    }
}
