//! What went wrong, in as few commands as show it.

use std::fmt;

use crate::generate::Step;
use crate::pair::{Difference, Pair, Stop};
use crate::random::Args;

/// How often a failing sequence is run to shorten it.
const RUNS_MAX: usize = 300;

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
    /// Leaves out what is not needed for a difference.
    pub(crate) fn shortened(
        pair: &mut Pair,
        seed: u64,
        number: u64,
        mut steps: Vec<Step>,
        mut difference: Difference,
    ) -> Report {
        let mut came_again = false;
        let mut runs = 0;
        let name = difference.command[0].clone();
        let mut try_without = |steps: &mut Vec<Step>, difference: &mut Difference, from, to| {
            runs += 1;
            let fewer = [&steps[..from], &steps[to..]].concat();
            // Another command may differ too, but that is another story.
            if let Err(Stop::Differ(other)) = pair.run(&fewer)
                && other.command[0].eq_ignore_ascii_case(&name)
            {
                // Behind the difference nothing is needed.
                came_again = true;
                *steps = fewer;
                steps.truncate(other.step + 1);
                *difference = other;
            }
            runs < RUNS_MAX
        };
        let end = steps.len();
        let mut more = try_without(&mut steps, &mut difference, end, end);
        let mut size = steps.len() / 2;
        while more && size > 0 {
            let mut to = steps.len();
            while more && to >= size {
                more = try_without(&mut steps, &mut difference, to - size, to);
                to = (to - size).min(steps.len());
            }
            size /= 2;
        }
        Report { seed, number, steps, difference, came_again }
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
