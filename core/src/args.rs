//! Rust values as arguments of commands.
//!
//! - [`ToArg`]: one value, one argument. Keys, values, numbers.
//! - [`ToArgs`]: one argument or several, as in `DEL key [key …]`.
//! - [`ToPairs`]: pairs of arguments, as in `HSET key field value [field value …]`.
//!
//! Nothing is allocated on the way: bytes are borrowed, numbers are written into the [`Arg`].

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::resp::number::Digits;

/// A value that becomes one argument of a command.
///
/// Text and bytes go as they are, numbers in decimal: integers as digits, floats in the shortest
/// form that reads back as the same number, infinities as `inf` and `-inf`.
///
/// There is none for `u8`, so that a `Vec<u8>` can only be bytes and never a list of small
/// numbers; write `u32::from(byte)` for the number. There is none for `bool`, which servers have no
/// way to write, for `Duration`, whose unit depends on the command, nor for 128-bit integers,
/// which no server computes with.
///
/// A type of your own needs no derive:
///
/// ```
/// # mod unfazed_tokio { pub use unfazed_core as core; }
/// use unfazed_tokio::core::args::{Arg, ToArg};
///
/// struct UserId(u64);
///
/// impl ToArg for UserId {
///     fn to_arg(&self) -> Arg<'_> {
///         Arg::from(format!("user:{}", self.0).into_bytes())
///     }
/// }
///
/// assert_eq!(UserId(7).to_arg().as_bytes(), b"user:7");
/// ```
///
/// A type that is only a wrapper passes on what is inside, which costs nothing:
///
/// ```
/// # use unfazed_core::args::{Arg, ToArg};
/// struct Email(String);
///
/// impl ToArg for Email {
///     fn to_arg(&self) -> Arg<'_> {
///         self.0.to_arg()
///     }
/// }
/// # assert_eq!(Email("a@b".into()).to_arg().as_bytes(), b"a@b");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a command",
    label = "not an argument",
    note = "text, bytes, integers and floats can; `u8` cannot, so that `Vec<u8>` is always bytes: write `u32::from(byte)`",
    note = "`bool` cannot, since servers have no way to write it: say which text or number stands for it",
    note = "for a type of your own, implement `ToArg`, most often by passing on to a field's `to_arg`"
)]
pub trait ToArg {
    /// The value as the server is to see it.
    fn to_arg(&self) -> Arg<'_>;
}

/// One argument: borrowed bytes, a short text held inline, or an owned buffer.
#[derive(Clone)]
pub struct Arg<'a>(Repr<'a>);

#[derive(Clone)]
enum Repr<'a> {
    Borrowed(&'a [u8]),
    Inline(Digits),
    Owned(Box<[u8]>),
}

impl<'a> Arg<'a> {
    /// The bytes to send.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Borrowed(bytes) => bytes,
            Repr::Inline(digits) => digits.as_bytes(),
            Repr::Owned(bytes) => bytes,
        }
    }

    /// An integer, written into the argument itself.
    #[must_use]
    pub fn integer(number: i64) -> Self {
        Arg(Repr::Inline(Digits::signed(number)))
    }

    #[inline]
    const fn borrowed(bytes: &'a [u8]) -> Self {
        Arg(Repr::Borrowed(bytes))
    }
}

impl<'a> From<&'a [u8]> for Arg<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Arg::borrowed(bytes)
    }
}

impl<'a> From<&'a str> for Arg<'a> {
    fn from(text: &'a str) -> Self {
        Arg::borrowed(text.as_bytes())
    }
}

impl From<Vec<u8>> for Arg<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Arg(Repr::Owned(bytes.into_boxed_slice()))
    }
}

impl From<String> for Arg<'_> {
    fn from(text: String) -> Self {
        Arg::from(text.into_bytes())
    }
}

impl fmt::Debug for Arg<'_> {
    /// Only the length: an argument may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arg({} bytes)", self.as_bytes().len())
    }
}

const _: () = assert!(size_of::<Arg<'_>>() == 32);

impl<T: ToArg + ?Sized> ToArg for &T {
    #[inline]
    fn to_arg(&self) -> Arg<'_> {
        (**self).to_arg()
    }
}

impl ToArg for Arg<'_> {
    fn to_arg(&self) -> Arg<'_> {
        Arg::borrowed(self.as_bytes())
    }
}

impl<const N: usize> ToArg for [u8; N] {
    #[inline]
    fn to_arg(&self) -> Arg<'_> {
        Arg::borrowed(self)
    }
}

/// `ToArg` for what has bytes to borrow.
macro_rules! borrowed {
    ($($type:ty),* $(,)?) => {$(
        impl ToArg for $type {
            #[inline]
            fn to_arg(&self) -> Arg<'_> {
                Arg::borrowed(AsRef::<[u8]>::as_ref(self))
            }
        }
    )*};
}

borrowed!(str, String, [u8], Vec<u8>, Bytes, BytesMut, Box<[u8]>, Arc<[u8]>, Cow<'_, [u8]>);

/// `ToArg` for what has text to borrow.
macro_rules! text {
    ($($type:ty),* $(,)?) => {$(
        impl ToArg for $type {
            #[inline]
            fn to_arg(&self) -> Arg<'_> {
                Arg::borrowed(self.as_bytes())
            }
        }
    )*};
}

text!(Box<str>, Arc<str>, Cow<'_, str>);

/// `ToArg` for numbers, each widened to one of the few that there are formats for.
macro_rules! number {
    ($($write:path, $wide:ty: $($type:ty),*;)*) => {$($(
        impl ToArg for $type {
            #[inline]
            fn to_arg(&self) -> Arg<'_> {
                Arg(Repr::Inline($write(*self as $wide)))
            }
        }
    )*)*};
}

number! {
    Digits::signed, i64: i8, i16, i32, i64, isize;
    Digits::unsigned, u64: u16, u32, u64, usize;
    Digits::single, f32: f32;
    Digits::double, f64: f64;
}

/// One argument or several: whatever is [`ToArg`], and slices, arrays, vectors and sets of it.
///
/// ```
/// # mod unfazed_tokio { pub use unfazed_core as core; }
/// use unfazed_tokio::core::args::ToArgs;
///
/// assert_eq!("a".arg_count(), 1);
/// assert_eq!(b"bytes are one argument".arg_count(), 1);
/// assert_eq!(["a", "b"].arg_count(), 2);
/// assert_eq!(vec![1, 2, 3].arg_count(), 3);
/// ```
///
/// For a collection of your own, go through its elements:
///
/// ```
/// # mod unfazed_tokio { pub use unfazed_core as core; }
/// use unfazed_tokio::core::args::{Arg, ToArg, ToArgs};
///
/// struct Range(u32, u32);
///
/// impl ToArgs for Range {
///     fn arg_count(&self) -> usize {
///         2
///     }
///     fn for_each_arg<'a>(&'a self, f: &mut dyn FnMut(Arg<'a>)) {
///         f(self.0.to_arg());
///         f(self.1.to_arg());
///     }
/// }
/// # assert_eq!(Range(1, 2).arg_count(), 2);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be arguments of a command",
    label = "neither an argument nor a collection of arguments",
    note = "anything that is `ToArg` can, and slices, arrays, vectors and sets of it, owned or borrowed"
)]
pub trait ToArgs {
    /// How many arguments [`for_each_arg`](Self::for_each_arg) gives: exactly so many.
    fn arg_count(&self) -> usize;

    /// Gives each argument in turn.
    fn for_each_arg<'a>(&'a self, f: &mut dyn FnMut(Arg<'a>));
}

/// One value is one argument.
impl<T: ToArg + ?Sized> ToArgs for T {
    #[inline]
    fn arg_count(&self) -> usize {
        1
    }

    #[inline]
    fn for_each_arg<'a>(&'a self, f: &mut dyn FnMut(Arg<'a>)) {
        f(self.to_arg());
    }
}

/// `ToArgs` for collections and references to them. That `u8` is not [`ToArg`] is what keeps
/// these apart from the bytes among the single values.
macro_rules! collection {
    ($([$($generics:tt)*] $type:ty;)*) => {$(
        impl<$($generics)*> ToArgs for $type {
            #[inline]
            fn arg_count(&self) -> usize {
                self.len()
            }

            #[inline]
            fn for_each_arg<'a>(&'a self, f: &mut dyn FnMut(Arg<'a>)) {
                self.iter().for_each(|item| f(item.to_arg()));
            }
        }
    )*};
}

collection! {
    [T: ToArg] [T];
    [T: ToArg] &[T];
    [T: ToArg, const N: usize] [T; N];
    [T: ToArg, const N: usize] &[T; N];
    [T: ToArg] Vec<T>;
    [T: ToArg] &Vec<T>;
    [T: ToArg] VecDeque<T>;
    [T: ToArg] &VecDeque<T>;
    [T: ToArg] BTreeSet<T>;
    [T: ToArg] &BTreeSet<T>;
    [T: ToArg, S] hashbrown::HashSet<T, S>;
    [T: ToArg, S] &hashbrown::HashSet<T, S>;
}

/// Pairs of arguments: one pair, or slices, arrays, vectors and maps of them.
///
/// ```
/// use std::collections::BTreeMap;
/// # mod unfazed_tokio { pub use unfazed_core as core; }
/// use unfazed_tokio::core::args::ToPairs;
///
/// assert_eq!(("field", 1).pair_count(), 1);
/// assert_eq!([("a", 1), ("b", 2)].pair_count(), 2);
/// assert_eq!(BTreeMap::from([("a", "x")]).pair_count(), 1);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be pairs of arguments",
    label = "neither a pair nor a collection of pairs",
    note = "a pair `(K, V)` of arguments can, and slices, arrays, vectors and maps of pairs, owned or borrowed"
)]
pub trait ToPairs {
    /// How many pairs [`for_each_pair`](Self::for_each_pair) gives: exactly so many.
    fn pair_count(&self) -> usize;

    /// Gives each pair in turn: key and value, field and value, or what the command has.
    fn for_each_pair<'a>(&'a self, f: &mut dyn FnMut(Arg<'a>, Arg<'a>));
}

impl<P: ToPairs + ?Sized> ToPairs for &P {
    #[inline]
    fn pair_count(&self) -> usize {
        (**self).pair_count()
    }

    #[inline]
    fn for_each_pair<'a>(&'a self, f: &mut dyn FnMut(Arg<'a>, Arg<'a>)) {
        (**self).for_each_pair(f);
    }
}

impl<K: ToArg, V: ToArg> ToPairs for (K, V) {
    #[inline]
    fn pair_count(&self) -> usize {
        1
    }

    #[inline]
    fn for_each_pair<'a>(&'a self, f: &mut dyn FnMut(Arg<'a>, Arg<'a>)) {
        f(self.0.to_arg(), self.1.to_arg());
    }
}

/// `ToPairs` for collections, which `iter` gives pairs or pairs of references.
macro_rules! pairs {
    ($([$($generics:tt)*] $type:ty, $pair:pat => $key:expr, $value:expr;)*) => {$(
        impl<K: ToArg, V: ToArg, $($generics)*> ToPairs for $type {
            #[inline]
            fn pair_count(&self) -> usize {
                self.len()
            }

            #[inline]
            fn for_each_pair<'a>(&'a self, f: &mut dyn FnMut(Arg<'a>, Arg<'a>)) {
                self.iter().for_each(|$pair| f($key.to_arg(), $value.to_arg()));
            }
        }
    )*};
}

pairs! {
    [] [(K, V)], (key, value) => key, value;
    [const N: usize] [(K, V); N], (key, value) => key, value;
    [] Vec<(K, V)>, (key, value) => key, value;
    [] BTreeMap<K, V>, (key, value) => key, value;
    [S] hashbrown::HashMap<K, V, S>, (key, value) => key, value;
}

/// The standard library's hash collections, which the core itself does without.
mod hashed {
    #![expect(clippy::disallowed_types, reason = "they are the caller's, and only read from")]

    use std::collections::{HashMap, HashSet};

    use super::{Arg, ToArg, ToArgs, ToPairs};

    collection! {
        [T: ToArg, S] HashSet<T, S>;
        [T: ToArg, S] &HashSet<T, S>;
    }

    pairs! {
        [S] HashMap<K, V, S>, (key, value) => key, value;
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::needless_borrows_for_generic_args,
        clippy::needless_pass_by_value,
        reason = "values and references have impls of their own, which are what is tested"
    )]

    use super::*;

    fn list(args: impl ToArgs) -> Vec<Vec<u8>> {
        let mut list = Vec::new();
        args.for_each_arg(&mut |arg| list.push(arg.as_bytes().to_vec()));
        assert_eq!(list.len(), args.arg_count());
        list
    }

    fn pairs(pairs: impl ToPairs) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut list = Vec::new();
        pairs.for_each_pair(&mut |key, value| {
            list.push((key.as_bytes().to_vec(), value.as_bytes().to_vec()));
        });
        assert_eq!(list.len(), pairs.pair_count());
        list
    }

    #[test]
    fn text_bytes_and_numbers_become_what_a_server_expects() {
        fn check(arg: impl ToArg, expected: &str) {
            assert_eq!(arg.to_arg().as_bytes(), expected.as_bytes());
        }
        check("text", "text");
        check(String::from("text"), "text");
        check(*b"bytes", "bytes");
        check(b"bytes", "bytes");
        check(&b"bytes"[..], "bytes");
        check(b"bytes".to_vec(), "bytes");
        check(Bytes::from_static(b"bytes"), "bytes");
        check(BytesMut::from("bytes"), "bytes");
        check(Cow::from("cow"), "cow");
        check(Cow::from(&b"cow"[..]), "cow");
        check(Box::<str>::from("box"), "box");
        check(Box::<[u8]>::from(*b"box"), "box");
        check(Arc::<str>::from("arc"), "arc");
        check(&&"reference", "reference");
        check(i64::MIN, "-9223372036854775808");
        check(u64::MAX, "18446744073709551615");
        check(-7i8, "-7");
        check(1.5f64, "1.5");
        check(0.1f32, "0.1");
        check(3.0f64, "3");
        check(f64::INFINITY, "inf");
        check(f64::NEG_INFINITY, "-inf");
        check(1e300, "1e300");
        check("again".to_arg(), "again");
        check("", "");
    }

    #[test]
    fn bytes_are_one_argument_and_lists_are_many() {
        let one = vec![b"ab".to_vec()];
        assert_eq!(list(b"ab"), one);
        assert_eq!(list(b"ab".to_vec()), one);
        assert_eq!(list(&b"ab".to_vec()), one);
        assert_eq!(list(&b"ab"[..]), one);
        assert_eq!(list("ab"), one);

        let two = vec![b"a".to_vec(), b"b".to_vec()];
        assert_eq!(list(["a", "b"]), two);
        assert_eq!(list(&["a", "b"]), two);
        assert_eq!(list(&["a", "b"][..]), two);
        assert_eq!(list(vec!["a".to_owned(), "b".to_owned()]), two);
        assert_eq!(list(&vec![b"a".to_vec(), b"b".to_vec()]), two);
        assert_eq!(list(BTreeSet::from(["a", "b"])), two);
        assert_eq!(list([b"a", b"b"]), two);
        assert_eq!(list(VecDeque::from([1, 2])), [b"1", b"2"]);
        assert_eq!(list(Vec::<String>::new()), Vec::<Vec<u8>>::new());
    }

    #[test]
    #[expect(clippy::disallowed_types, reason = "the impls for them are what is tested")]
    fn pairs_come_from_tuples_lists_and_maps() {
        let one = vec![(b"k".to_vec(), b"1".to_vec())];
        assert_eq!(pairs(("k", 1)), one);
        assert_eq!(pairs(&("k", 1)), one);
        assert_eq!(pairs([("k", 1)]), one);
        assert_eq!(pairs(&[("k", 1)][..]), one);
        assert_eq!(pairs(vec![("k", 1)]), one);
        assert_eq!(pairs(BTreeMap::from([("k", 1)])), one);
        assert_eq!(pairs(std::collections::HashMap::from([("k", 1)])), one);
        assert_eq!(list(std::collections::HashSet::from(["k"])), [b"k"]);
    }

    #[test]
    fn an_argument_is_never_printed() {
        assert_eq!(format!("{:?}", "secret".to_arg()), "Arg(6 bytes)");
    }
}
