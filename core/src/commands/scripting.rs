//! Scripts and functions that run on the server.

use super::{Run, Spec};
use crate::{
    args::{Arg, ToArg, ToArgs},
    reply::FromReply,
    request::Request,
};

/// Commands that run code on the server.
///
/// Nobody knows what a script does, so one that may have run is not sent again by itself, and one that
/// answers with an error counts as maybe executed; the `_ro` kinds may only read and are free of that.
/// Name all keys as keys: they decide where the script runs in a cluster.
pub trait Scripting: Run {
    /// Runs a Lua script with these `keys` (its KEYS) and `args` (its ARGV). Since 2.6.
    fn eval<T: FromReply + Send + 'static>(
        &self,
        script: impl ToArg,
        keys: impl ToArgs,
        args: impl ToArgs,
    ) -> Self::Pending<T> {
        self.run(call(const { Spec::of("EVAL") }, &script, &keys, &args))
    }

    /// Runs a Lua script that may only read. Since 7.0.
    fn eval_ro<T: FromReply + Send + 'static>(
        &self,
        script: impl ToArg,
        keys: impl ToArgs,
        args: impl ToArgs,
    ) -> Self::Pending<T> {
        self.run(call(const { Spec::of("EVAL_RO") }, &script, &keys, &args))
    }

    /// Runs the script with this SHA-1, in hex, that the server has seen before; NOSCRIPT where it
    /// forgot it. Since 2.6.
    fn evalsha<T: FromReply + Send + 'static>(
        &self,
        sha1: impl ToArg,
        keys: impl ToArgs,
        args: impl ToArgs,
    ) -> Self::Pending<T> {
        self.run(call(const { Spec::of("EVALSHA") }, &sha1, &keys, &args))
    }

    /// As `evalsha`, for a script that may only read. Since 7.0.
    fn evalsha_ro<T: FromReply + Send + 'static>(
        &self,
        sha1: impl ToArg,
        keys: impl ToArgs,
        args: impl ToArgs,
    ) -> Self::Pending<T> {
        self.run(call(const { Spec::of("EVALSHA_RO") }, &sha1, &keys, &args))
    }

    /// Runs a function of a loaded library. Since 7.0.
    fn fcall<T: FromReply + Send + 'static>(
        &self,
        function: impl ToArg,
        keys: impl ToArgs,
        args: impl ToArgs,
    ) -> Self::Pending<T> {
        self.run(call(const { Spec::of("FCALL") }, &function, &keys, &args))
    }

    /// Runs a function that is declared to only read. Since 7.0.
    fn fcall_ro<T: FromReply + Send + 'static>(
        &self,
        function: impl ToArg,
        keys: impl ToArgs,
        args: impl ToArgs,
    ) -> Self::Pending<T> {
        self.run(call(const { Spec::of("FCALL_RO") }, &function, &keys, &args))
    }

    /// Gives the server a script without running it, and gives its SHA-1 in hex, for `evalsha`.
    /// O(length). Since 2.6.
    fn script_load(&self, script: impl ToArg) -> Self::Pending<String> {
        self.run(Request::of(const { Spec::of("SCRIPT LOAD") }).arg(&script))
    }

    /// Which of the scripts with these SHA-1s the server knows, in their order. O(scripts).
    /// Since 2.6.
    fn script_exists(&self, sha1s: impl ToArgs) -> Self::Pending<Vec<bool>> {
        self.run(Request::of(const { Spec::of("SCRIPT EXISTS") }).args(&sha1s))
    }

    /// Lets the server forget all scripts. O(scripts). Since 2.6.
    fn script_flush(&self) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("SCRIPT FLUSH") }))
    }
}

impl<R: Run + ?Sized> Scripting for R {}

fn call<'a>(
    spec: &'static Spec,
    code: &'a impl ToArg,
    keys: &'a impl ToArgs,
    args: &'a impl ToArgs,
) -> Request<'a> {
    Request::of(spec).arg(code).count(keys).args(keys).args(args)
}

/// No arguments: `client.eval("return 1", (), ())`.
impl ToArgs for () {
    fn arg_count(&self) -> usize {
        0
    }

    fn for_each_arg<'a>(&'a self, _: &mut dyn FnMut(Arg<'a>)) {}
}
