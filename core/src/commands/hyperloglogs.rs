//! HyperLogLogs: how many different things there were, in 12 KiB, give or take 0.81 %.

use super::{Run, Spec};
use crate::{
    args::{ToArg, ToArgs},
    request::Request,
};

/// Commands on HyperLogLogs, which are strings of a form of their own.
pub trait HyperLogLogs: Run {
    /// Counts elements, one or many, and says whether that changed the estimate. O(elements). Since 2.8.9.
    fn pfadd(&self, key: impl ToArg, elements: impl ToArgs) -> Self::Pending<bool> {
        self.run(Request::of(const { Spec::of("PFADD") }).key(&key).args(&elements))
    }

    /// About how many different elements were counted under any of these keys, one or many. O(keys).
    /// Since 2.8.9.
    fn pfcount(&self, keys: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("PFCOUNT") }).args(&keys))
    }

    /// Adds to `to` what was counted under these keys. O(keys). Since 2.8.9.
    fn pfmerge(&self, to: impl ToArg, keys: impl ToArgs) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("PFMERGE") }).key(&to).args(&keys))
    }
}

impl<R: Run + ?Sized> HyperLogLogs for R {}
