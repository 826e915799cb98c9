//! A story that breaks a promise is made shorter, until what is left is what it takes.
//!
//! Everything in a world follows from the bytes that it draws from, and when they are used up the rest is
//! quiet. So whatever is left out of them, a world follows from what remains: to shrink is to delete.

/// The shortest bytes found that still tell `fails`, beginning with `bytes`, which do. First the end goes,
/// then whatever else can be left out, then what can be quiet instead.
///
/// `fails` is asked at most `tellings` times.
pub fn shrink(bytes: &[u8], tellings: u32, fails: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut search = Search { best: trimmed(bytes), fails, left: tellings };
    search.cut_end();
    loop {
        let before = search.best.clone();
        search.leave_out();
        search.quieten();
        if search.best == before || search.left == 0 {
            return search.best;
        }
    }
}

struct Search<F> {
    best: Vec<u8>,
    fails: F,
    left: u32,
}

impl<F: FnMut(&[u8]) -> bool> Search<F> {
    /// Takes `bytes` for the best so far if they still fail.
    fn try_out(&mut self, bytes: &[u8]) -> bool {
        let bytes = trimmed(bytes);
        if self.left == 0 || bytes == self.best {
            return false;
        }
        self.left -= 1;
        let fails = (self.fails)(&bytes);
        if fails {
            self.best = bytes;
        }
        fails
    }

    /// The end goes as if it were no more needed the shorter the rest: that is not always so, and finds
    /// quickly where to begin.
    fn cut_end(&mut self) {
        let mut enough = self.best.clone();
        let mut too_short = 0;
        while enough.len() > too_short + 1 && self.left > 0 {
            let middle = too_short + (enough.len() - too_short) / 2;
            if self.try_out(&enough[..middle]) {
                enough.truncate(middle);
            } else {
                too_short = middle;
            }
        }
    }

    fn leave_out(&mut self) {
        self.by_pieces(|bytes, from, to| drop(bytes.drain(from..to)));
    }

    fn quieten(&mut self) {
        self.by_pieces(|bytes, from, to| bytes[from..to].fill(0));
    }

    /// Tries a change on each piece, the large ones first. From the end on, where a change disturbs least.
    fn by_pieces(&mut self, change: impl Fn(&mut Vec<u8>, usize, usize)) {
        let mut size = self.best.len().div_ceil(2);
        while size > 0 && self.left > 0 {
            let mut to = self.best.len();
            while to > 0 && self.left > 0 {
                let from = to.saturating_sub(size);
                let mut other = self.best.clone();
                change(&mut other, from, to);
                self.try_out(&other);
                to = from.min(self.best.len());
            }
            size /= 2;
        }
    }
}

/// Without the zeros at the end, which are what follows anyway.
fn trimmed(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes[..end].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_what_it_takes() {
        let bytes: Vec<u8> = (0..=255).cycle().take(5_000).collect();
        let fails = |bytes: &[u8]| {
            let seven = bytes.iter().position(|byte| *byte == 7);
            seven.is_some_and(|at| bytes[at..].contains(&99))
        };
        assert_eq!(shrink(&bytes, 400, fails), [7, 99]);
    }

    #[test]
    fn what_cannot_be_shorter_stays_as_it_is() {
        let bytes = [1, 2, 3];
        assert_eq!(shrink(&bytes, 400, |other| other == bytes), bytes);
    }
}
