//! One command with its arguments, what it does, and what its caller asked for.

use std::time::{Duration, SystemTime};

use crate::{
    args::{Arg, ToArg, ToArgs, ToPairs},
    commands::Spec,
    config::MaybeRetry,
    resp::encode,
    script::Script,
};

/// What running a command twice does; the ground for every retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// It changes nothing: GET, EXISTS.
    Read,
    /// The state *and* the reply are the same the second time: plain SET, SETEX, MSET.
    Repeatable,
    /// The state is the same the second time, the reply may differ: DEL, SADD, EXPIRE.
    IdempotentWrite,
    /// Twice is not once: INCR, LPUSH, SET NX. Unknown commands are taken for this.
    Write,
}

/// What a caller asks for one request, beyond the client's own settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The time limit for all of it: queueing, connecting, retries; the client's `deadline` if `None`.
    pub deadline: Option<Duration>,
    /// What may be sent again when it may already have run; the client's setting if `None`.
    pub maybe_retry: Option<MaybeRetry>,
    /// Fail at once when the queue is full instead of waiting for room.
    pub refuse_when_full: bool,
}

impl Options {
    /// These, with `outer` wherever they ask for nothing: what is nearest to the call has its way.
    #[must_use]
    pub fn or(self, outer: Options) -> Options {
        Options {
            deadline: self.deadline.or(outer.deadline),
            maybe_retry: self.maybe_retry.or(outer.maybe_retry),
            refuse_when_full: self.refuse_when_full || outer.refuse_when_full,
        }
    }
}

/// Arguments that fit beside the request itself; more of them go to the heap. SET with its options
/// has six.
const INLINE: usize = 6;

/// One command, borrowing its arguments, ready to be submitted.
///
/// Made by the command traits; `Request::new` is for commands of your own:
///
/// ```
/// use unfazed_core::{Effect, Request};
///
/// let request = Request::new("OBJECT FREQ").arg(&"key").effect(Effect::Read);
/// assert_eq!(request.command(), "OBJECT FREQ");
/// ```
#[derive(Clone, Debug)]
pub struct Request<'a> {
    spec: &'static Spec,
    /// The name as given, where the table does not know it.
    name: Option<&'a str>,
    inline: [Arg<'a>; INLINE],
    count: usize,
    /// All arguments, as soon as there are more than `INLINE`.
    spilled: Vec<Arg<'a>>,
    /// What the caller says it does; what the table says if `None`.
    effect: Option<Effect>,
    options: Options,
    /// What is called by its digest, where that is its first argument.
    script: Option<&'a Script>,
}

impl<'a> Request<'a> {
    /// A request for the command called `name`, in any case. More words, after spaces, are its first
    /// arguments: a subcommand (`"CONFIG GET"`) or any other.
    ///
    /// What the command does is looked up in the table of commands. One that the table does not know
    /// counts as [`Effect::Write`].
    #[must_use]
    pub fn new(name: &'a str) -> Self {
        let mut words = name.split_ascii_whitespace();
        // A name of no words goes out as an empty one, which the server refuses. Sent without any,
        // it would go unanswered, and the next request would get its reply.
        let first = words.next().unwrap_or_default();
        let mut request = match Spec::find(first) {
            Some(spec) => Request::of(spec),
            None => Request { name: Some(first), ..Request::of(Spec::unknown()) },
        };
        for word in words {
            request.push(word.to_arg());
        }
        request
    }

    /// A request for a command of the table.
    #[must_use]
    #[inline]
    pub(crate) fn of(spec: &'static Spec) -> Self {
        Request {
            spec,
            name: None,
            inline: std::array::from_fn(|_| Arg::from(&[][..])),
            count: 0,
            spilled: Vec::new(),
            effect: None,
            options: Options::default(),
            script: None,
        }
    }

    /// A call of a script by its digest, which is sent again with its source where the server does not
    /// know it. The keys, after their number, and the arguments are to be added.
    #[must_use]
    pub fn script(script: &'a Script) -> Self {
        let call = Request::of(script.by_digest()).arg(script.digest());
        Request { script: Some(script), ..call }
    }

    /// Adds an argument.
    #[must_use]
    #[inline]
    pub fn arg<A: ToArg + ?Sized>(mut self, arg: &'a A) -> Self {
        self.push(arg.to_arg());
        self
    }

    /// Adds a key. On the wire a key is an argument like any other; which arguments are keys is
    /// said by the table.
    #[must_use]
    #[inline]
    pub fn key<A: ToArg + ?Sized>(self, key: &'a A) -> Self {
        self.arg(key)
    }

    /// Adds any number of arguments.
    #[must_use]
    pub fn args<A: ToArgs + ?Sized>(mut self, args: &'a A) -> Self {
        self.reserve(args.arg_count());
        args.for_each_arg(&mut |arg| self.push(arg));
        self
    }

    /// Adds the number of `args`, which are to follow: the `numkeys` of EVAL.
    #[must_use]
    pub fn count<A: ToArgs + ?Sized>(mut self, args: &A) -> Self {
        self.push(Arg::integer(i64::try_from(args.arg_count()).unwrap_or(i64::MAX)));
        self
    }

    /// Adds pairs, each as two arguments.
    #[must_use]
    pub fn pairs<P: ToPairs + ?Sized>(mut self, pairs: &'a P) -> Self {
        self.reserve(2 * pairs.pair_count());
        pairs.for_each_pair(&mut |first, second| {
            self.push(first);
            self.push(second);
        });
        self
    }

    /// Adds pairs, the second of each before the first: the score before the member.
    pub(crate) fn swapped_pairs<P: ToPairs + ?Sized>(mut self, pairs: &'a P) -> Self {
        self.reserve(2 * pairs.pair_count());
        pairs.for_each_pair(&mut |first, second| {
            self.push(second);
            self.push(first);
        });
        self
    }

    /// Adds the first of each pair, then the second of each: keys and ids of XREAD.
    pub(crate) fn split_pairs<P: ToPairs + ?Sized>(mut self, pairs: &'a P) -> Self {
        self.reserve(2 * pairs.pair_count());
        pairs.for_each_pair(&mut |first, _| self.push(first));
        pairs.for_each_pair(&mut |_, second| self.push(second));
        self
    }

    /// Adds a whole number.
    #[must_use]
    pub fn int(mut self, number: i64) -> Self {
        self.push(Arg::integer(number));
        self
    }

    /// Adds a time span in whole milliseconds, rounded up so that no span becomes shorter or zero.
    #[must_use]
    pub fn millis(self, span: Duration) -> Self {
        let millis = span.as_nanos().div_ceil(1_000_000);
        self.int(i64::try_from(millis).unwrap_or(i64::MAX))
    }

    /// Adds how long a command is to wait at the server, in seconds; 0, which is for ever, for `None`. A
    /// span is rounded up to milliseconds, so that none becomes zero. Fractions need a server since 6.0.
    #[must_use]
    pub(crate) fn wait_seconds(mut self, span: Option<Duration>) -> Self {
        self.push(Arg::from(seconds(span)));
        self
    }

    /// The same in milliseconds.
    #[must_use]
    pub(crate) fn wait_millis(self, span: Option<Duration>) -> Self {
        self.millis(span.map_or(Duration::ZERO, |span| span.max(WAIT_MIN)))
    }

    /// Adds a moment as whole milliseconds since 1970, rounded up; one before 1970 as 0.
    #[must_use]
    pub fn unix_millis(self, moment: SystemTime) -> Self {
        self.millis(moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }

    /// Adds an argument where there is one.
    #[must_use]
    pub fn maybe<A: ToArg>(self, arg: Option<&'a A>) -> Self {
        match arg {
            Some(arg) => self.arg(arg),
            None => self,
        }
    }

    /// Says what the request does. This is for commands that the table does not know; of the others
    /// it knows what their arguments change (SET with NX is a `Write`).
    #[must_use]
    pub fn effect(mut self, effect: Effect) -> Self {
        self.effect = Some(effect);
        self
    }

    /// Replaces what the caller asks for.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Inlined, because for a command of the table all the conditions are known when it is compiled,
    /// and the request is made where it stays.
    #[inline(always)]
    fn push(&mut self, arg: Arg<'a>) {
        if self.count == 0 && self.spec.is_container() && self.is_subcommand(&arg) {
            return;
        }
        if self.count < INLINE {
            self.inline[self.count] = arg;
        } else {
            self.spill(arg);
        }
        self.count += 1;
    }

    /// Whether the first argument is a subcommand; the request is one for that from then on.
    #[cold]
    fn is_subcommand(&mut self, arg: &Arg<'a>) -> bool {
        let found = self.spec.subcommand(arg.as_bytes());
        self.spec = found.unwrap_or(self.spec);
        found.is_some()
    }

    /// Makes room for so many arguments more, all at once.
    fn reserve(&mut self, more: usize) {
        if self.count + more > INLINE {
            self.spilled.reserve(self.count + more);
        }
    }

    #[inline(never)]
    fn spill(&mut self, arg: Arg<'a>) {
        if self.spilled.is_empty() {
            self.spilled.extend_from_slice(&self.inline);
        }
        self.spilled.push(arg);
    }
}

impl Request<'_> {
    /// The command's name, with its subcommand where it has one.
    #[must_use]
    #[inline]
    pub fn command(&self) -> &str {
        self.name.unwrap_or(self.spec.name())
    }

    /// What the caller asks for.
    #[must_use]
    pub fn asked(&self) -> Options {
        self.options
    }

    /// Appends the request to `out` in the only form that ever goes out: a length-prefixed array of
    /// bulk strings.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let name = self.command();
        if self.spec.words() == 2 {
            encode::command(out, name.split(' ').map(str::as_bytes), self.arguments());
        } else {
            encode::command(out, std::iter::once(name.as_bytes()), self.arguments());
        }
    }

    #[inline]
    pub(crate) fn arguments(&self) -> &[Arg<'_>] {
        if self.spilled.is_empty() { &self.inline[..self.count] } else { &self.spilled }
    }

    /// What the command is, with its arguments considered: XREAD with BLOCK is one that blocks.
    #[inline]
    pub(crate) fn spec(&self) -> &'static Spec {
        self.spec.with_args(self.arguments())
    }

    /// The command's effect, with its arguments considered.
    pub(crate) fn declared_effect(&self) -> Effect {
        self.effect.unwrap_or_else(|| self.spec.effect_of(self.arguments()))
    }

    /// The keys among the arguments.
    #[cfg(test)]
    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.spec.keys().of(self.arguments())
    }

    /// The script that it calls by its digest.
    #[inline]
    pub(crate) fn called(&self) -> Option<&Script> {
        self.script
    }

    pub(crate) fn unknown_name(&self) -> Option<&str> {
        self.name
    }
}

/// The shortest wait that is no wait for ever.
pub(crate) const WAIT_MIN: Duration = Duration::from_millis(1);

/// A wait in seconds, as servers read it.
pub(crate) fn seconds(span: Option<Duration>) -> String {
    let millis = span.map_or(0, |span| span.max(WAIT_MIN).as_nanos().div_ceil(1_000_000));
    // More than this no server takes, and it is for ever by any measure.
    let millis = millis.min(SECONDS_MAX * 1_000);
    match millis % 1_000 {
        0 => (millis / 1_000).to_string(),
        rest => format!("{}.{rest:03}", millis / 1_000),
    }
}

const SECONDS_MAX: u128 = 1 << 31;

impl AsRef<[u8]> for Arg<'_> {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// The words of a command that this client has encoded.
pub(crate) fn split_command(mut bytes: &[u8]) -> Vec<&[u8]> {
    let count = take_header(&mut bytes);
    let take_word = |_| {
        let length = take_header(&mut bytes);
        let word = &bytes[..length];
        bytes = &bytes[length + 2..];
        word
    };
    (0..count).map(take_word).collect()
}

/// The same without the words of its name: the arguments.
pub(crate) fn split_arguments<'c>(spec: &Spec, bytes: &'c [u8]) -> Vec<&'c [u8]> {
    let mut words = split_command(bytes);
    words.drain(..spec.words());
    words
}

/// Takes `*3\r\n` or `$3\r\n` off the front and gives its number.
fn take_header(rest: &mut &[u8]) -> usize {
    let end = rest.iter().position(|byte| *byte == b'\r').expect("our own encoding");
    let number = rest[1..end].iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    *rest = &rest[end + 2..];
    number
}
