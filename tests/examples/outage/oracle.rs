//! What an answer may be, for one key that one task alone writes.
//!
//! Every value names its key and its version: `cache:3:17=42`. A version is written once, so an answer
//! says by itself which write it comes from.

/// What is known for certain of one key.
#[derive(Debug)]
pub(crate) struct Truth {
    key: String,
    /// How many versions were ever sent; the last of them has this number.
    sent: u64,
    /// What the last acknowledged write left: a version, or nothing.
    acknowledged: Option<u64>,
    /// What later writes have left if they were executed, which nobody knows.
    unsure: Vec<Option<u64>>,
}

/// How an answer compares with the truth.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The last acknowledged value, or that of a later write.
    Right,
    /// Nothing, because nothing is there.
    Absent,
    /// Nothing although something was there: not wrong of a cache, but counted.
    Missed,
    /// What must never be; the text says why.
    Wrong(String),
}

impl Truth {
    /// A key at which there is nothing.
    pub(crate) fn new(key: String) -> Self {
        Truth { key, sent: 0, acknowledged: None, unsure: Vec::new() }
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The number of the next version, and its value.
    pub(crate) fn next(&mut self) -> (u64, String) {
        self.sent += 1;
        (self.sent, format!("{}={}", self.key, self.sent))
    }

    /// A write was acknowledged: of this version, or of a deletion.
    pub(crate) fn acknowledge(&mut self, left: Option<u64>) {
        self.acknowledged = left;
        self.unsure.clear();
    }

    /// A write failed that may have been executed.
    pub(crate) fn doubt(&mut self, left: Option<u64>) {
        self.unsure.push(left);
    }

    /// Compares the answer to a GET with all this.
    pub(crate) fn judge(&self, answer: Option<&str>) -> Verdict {
        let expected = |left| self.acknowledged == left || self.unsure.contains(&left);
        let Some(value) = answer else {
            return if expected(None) { Verdict::Absent } else { Verdict::Missed };
        };
        let wrong = |why: &str| Verdict::Wrong(format!("{}: {value:?} {why}", self.key));
        let (key, version) = value.rsplit_once('=').unwrap_or((value, ""));
        match version.parse() {
            _ if key != self.key => wrong("is another key's"),
            Ok(version) if expected(Some(version)) => Verdict::Right,
            Ok(version @ 1..) if version <= self.sent => {
                wrong("is older than what was acknowledged")
            }
            _ => wrong("was never written"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(versions: u64) -> Truth {
        let mut truth = Truth::new("k".to_owned());
        for _ in 0..versions {
            let (version, _) = truth.next();
            truth.acknowledge(Some(version));
        }
        truth
    }

    fn is_wrong(truth: &Truth, answer: &str) -> bool {
        matches!(truth.judge(Some(answer)), Verdict::Wrong(_))
    }

    #[test]
    fn only_the_last_acknowledged_value_is_right() {
        let truth = written(2);
        assert_eq!(truth.judge(Some("k=2")), Verdict::Right);
        assert_eq!(truth.judge(None), Verdict::Missed);
        for answer in ["k=1", "k=0", "k=3", "l=2", "k=", "k", ""] {
            assert!(is_wrong(&truth, answer), "{answer}");
        }
    }

    #[test]
    fn after_an_acknowledged_deletion_only_nothing_is_right() {
        let mut truth = written(1);
        truth.acknowledge(None);
        assert_eq!(truth.judge(None), Verdict::Absent);
        assert!(is_wrong(&truth, "k=1"));
    }

    #[test]
    fn a_write_in_doubt_leaves_both_right_until_the_next_acknowledged_one() {
        let mut truth = written(1);
        let (version, value) = truth.next();
        truth.doubt(Some(version));
        assert_eq!(truth.judge(Some("k=1")), Verdict::Right);
        assert_eq!(truth.judge(Some(&value)), Verdict::Right);
        truth.doubt(None);
        assert_eq!(truth.judge(None), Verdict::Absent);
        let (version, _) = truth.next();
        truth.acknowledge(Some(version));
        assert!(is_wrong(&truth, "k=1"));
        assert!(is_wrong(&truth, &value));
        assert_eq!(truth.judge(None), Verdict::Missed);
    }
}
