//! Scripts that run on the server.

use std::fmt;

use super::{Run, Spec, generic::Args};
use crate::{
    args::{Arg, ToArg, ToArgs},
    reply::FromReply,
    request::Request,
    script::Script,
};

/// Commands that run scripts on the server; [`Functions`](super::Functions) are loaded there.
///
/// Nobody knows what a script does, so one that may have run is not sent again by itself, and one that
/// answers with an error counts as maybe executed; the `_ro` kinds may only read and are free of that.
/// Name all keys as keys: they decide where the script runs in a cluster.
pub trait Scripting: Run {
    /// Begins a call of a [`Script`], which goes by its digest, and with its source where the server does
    /// not know it: `client.script(&SCRIPT).key("visits").arg(1).run::<i64>()`. Since 2.6.
    fn script(&self, script: &Script) -> Call<'_, Self> {
        Call { on: self, script: script.clone(), keys: Args::default(), args: Args::default() }
    }

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

    /// As `script_flush`, where the memory is freed in the background. O(1). Since 6.2.
    fn script_flush_async(&self) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("SCRIPT FLUSH") }).arg("ASYNC"))
    }

    /// Ends the script that runs at this moment, if it has not written yet. O(1). Since 2.6.
    fn script_kill(&self) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("SCRIPT KILL") }))
    }

    /// The source of the script with this SHA-1, an error where the server does not know it. O(1).
    /// Valkey, since 8.0.
    fn script_show<T: FromReply + Send + 'static>(&self, sha1: impl ToArg) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("SCRIPT SHOW") }).arg(&sha1))
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

/// A call of a script in the making; it owns its keys and arguments. Nothing is sent before
/// [`run`](Call::run).
#[must_use = "nothing is sent before `run`"]
pub struct Call<'r, R: ?Sized> {
    on: &'r R,
    script: Script,
    keys: Args,
    args: Args,
}

impl<R: Run + ?Sized> Call<'_, R> {
    /// Adds a key to the script's KEYS.
    pub fn key(mut self, key: impl ToArg) -> Self {
        self.keys.push(&key.to_arg());
        self
    }

    /// Adds any number of keys.
    #[expect(clippy::needless_pass_by_value, reason = "taken as every method takes arguments")]
    pub fn keys(mut self, keys: impl ToArgs) -> Self {
        keys.for_each_arg(&mut |key| self.keys.push(&key));
        self
    }

    /// Adds an argument to the script's ARGV.
    pub fn arg(mut self, arg: impl ToArg) -> Self {
        self.args.push(&arg.to_arg());
        self
    }

    /// Adds any number of arguments.
    #[expect(clippy::needless_pass_by_value, reason = "taken as every method takes arguments")]
    pub fn args(mut self, args: impl ToArgs) -> Self {
        args.for_each_arg(&mut |arg| self.args.push(&arg));
        self
    }

    /// Runs the script; its reply will be turned into a `T`.
    #[must_use = "whether it worked is in what comes back"]
    pub fn run<T: FromReply + Send + 'static>(self) -> R::Pending<T> {
        let call = Request::script(&self.script);
        self.on.run(call.count(&self.keys).args(&self.keys).args(&self.args))
    }
}

/// Keys and arguments are left out: one of them may be a password.
impl<R: ?Sized> fmt::Debug for Call<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("script", &self.script).finish_non_exhaustive()
    }
}

/// No arguments: `client.eval("return 1", (), ())`.
impl ToArgs for () {
    fn arg_count(&self) -> usize {
        0
    }

    fn for_each_arg<'a>(&'a self, _: &mut dyn FnMut(Arg<'a>)) {}
}
