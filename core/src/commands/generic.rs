//! Any command at all, built word by word.

use std::fmt;

use super::Run;
use crate::{
    args::{Arg, ToArg, ToArgs},
    reply::FromReply,
    request::{Effect, Request},
};

/// Commands that have no method of their own.
pub trait Generic: Run {
    /// Begins any command: `client.command("OBJECT FREQ").arg("key").run::<i64>()`.
    ///
    /// The name is in any case. More words, after spaces, are its first arguments: a subcommand or any
    /// other.
    ///
    /// The client knows what hundreds of commands do, whoever builds them: which arguments are keys,
    /// whether they may be sent again. One that it does not know has no keys and counts as
    /// [`Effect::Write`], so it is not sent again by itself once it may have run.
    fn command(&self, name: &str) -> Command<'_, Self> {
        Command { on: self, name: name.to_owned(), args: Args::default(), effect: None }
    }
}

impl<R: Run + ?Sized> Generic for R {}

/// A command in the making; it owns its arguments. Nothing is sent before [`run`](Command::run).
#[must_use = "nothing is sent before `run`"]
pub struct Command<'r, R: ?Sized> {
    on: &'r R,
    name: String,
    args: Args,
    effect: Option<Effect>,
}

impl<R: Run + ?Sized> Command<'_, R> {
    /// Adds an argument.
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

    /// Says what the command does, where the client does not know it.
    pub fn effect(mut self, effect: Effect) -> Self {
        self.effect = Some(effect);
        self
    }

    /// Runs the command; its reply will be turned into a `T`.
    #[must_use = "whether it worked is in what comes back"]
    pub fn run<T: FromReply + Send + 'static>(self) -> R::Pending<T> {
        let request = Request::new(&self.name).args(&self.args);
        self.on.run(match self.effect {
            Some(effect) => request.effect(effect),
            None => request,
        })
    }
}

/// The arguments are left out: one of them may be a password.
impl<R: ?Sized> fmt::Debug for Command<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.split_ascii_whitespace().next().unwrap_or_default();
        f.debug_struct("Command")
            .field("name", &name)
            .field("args", &self.args.ends.len())
            .field("effect", &self.effect)
            .finish_non_exhaustive()
    }
}

/// Arguments one after another in one piece of memory.
#[derive(Clone, Default)]
pub(super) struct Args {
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

impl Args {
    pub(super) fn push(&mut self, arg: &Arg<'_>) {
        self.bytes.extend_from_slice(arg.as_bytes());
        self.ends.push(self.bytes.len());
    }
}

impl ToArgs for Args {
    fn arg_count(&self) -> usize {
        self.ends.len()
    }

    fn for_each_arg<'a>(&'a self, f: &mut dyn FnMut(Arg<'a>)) {
        let mut from = 0;
        for &end in &self.ends {
            f(Arg::from(&self.bytes[from..end]));
            from = end;
        }
    }
}
