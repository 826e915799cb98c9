//! Scalars: text, bytes, numbers and truth values.

use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

use super::{DecodeError, FromReply};
use crate::resp::{Kind, View, number};

/// Anything will do that is not an error.
impl FromReply for () {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        if view.is_error() { Err(DecodeError::unexpected("a reply", view)) } else { Ok(()) }
    }
}

/// A boolean, or 1 and 0 as RESP2 has it; `OK` is true. A null is neither: `Option<bool>`.
impl FromReply for bool {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        match (view.kind(), text(view)) {
            (_, Some(b"1")) | (Kind::Simple, Some(b"OK")) => Ok(true),
            (_, Some(b"0")) => Ok(false),
            _ => Err(DecodeError::unexpected("a boolean", view)),
        }
    }
}

impl FromReply for String {
    #[inline]
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let text = text(view).ok_or_else(|| DecodeError::unexpected("a string", view))?;
        // Copied first and checked there: memory of its own is aligned, and checked twice as fast.
        String::from_utf8(text.to_vec())
            .map_err(|_| DecodeError::unexpected("a string of UTF-8", view))
    }
}

impl FromReply for Box<str> {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        utf8(view).map(Box::from)
    }
}

impl FromReply for Arc<str> {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        utf8(view).map(Arc::from)
    }
}

/// Shares the memory of the reply, which lives on as long as this does; only what was short enough
/// to be held inline is copied.
impl FromReply for Bytes {
    #[inline]
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        if view.kind() == Kind::Bulk { Ok(view.to_bytes()) } else { bytes_of_other(view) }
    }

    /// Lists of bulk strings are what large replies are made of, and need no check of each.
    fn many_from_view(view: View<'_>) -> Result<Vec<Self>, DecodeError> {
        match view.items().shared_bulks() {
            Some(values) if view.kind().is_aggregate() => Ok(values),
            _ => super::collections::each(view),
        }
    }
}

/// The bytes of what is not a bulk string. Apart from the usual case, so that this one is inlined.
#[inline(never)]
fn bytes_of_other(view: View<'_>) -> Result<Bytes, DecodeError> {
    match text(view) {
        // The digit stands for `t` or `f`, so there is nothing to share.
        Some(digit) if view.kind() == Kind::Boolean => Ok(Bytes::copy_from_slice(digit)),
        Some(_) => Ok(view.to_bytes()),
        None => Err(DecodeError::unexpected("bytes", view)),
    }
}

impl FromReply for Vec<u8> {
    #[inline]
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        text(view).map(Vec::from).ok_or_else(|| DecodeError::unexpected("bytes", view))
    }
}

impl FromReply for Box<[u8]> {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        text(view).map(Box::from).ok_or_else(|| DecodeError::unexpected("bytes", view))
    }
}

macro_rules! integers {
    ($($type:ident: $name:literal),* $(,)?) => {$(
        impl FromReply for $type {
            #[inline]
            fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
                integer(view, $name)
            }
        }
    )*};
}

integers! {
    i8: "an integer from -128 to 127",
    i16: "an integer of 16 bits",
    i32: "an integer of 32 bits",
    i64: "an integer",
    i128: "an integer",
    isize: "an integer",
    u16: "an unsigned integer of 16 bits",
    u32: "an unsigned integer of 32 bits",
    u64: "an unsigned integer",
    u128: "an unsigned integer",
    usize: "an unsigned integer",
}

impl FromReply for f64 {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let number = text(view).and_then(number::parse_double);
        number.ok_or_else(|| DecodeError::unexpected("a number", view))
    }
}

/// Rounded to the precision of the type, as `as f32` does.
impl FromReply for f32 {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        f64::from_view(view).map(|number| number as f32)
    }
}

/// The text of a scalar as RESP2 would have it: a boolean is 1 or 0. `None` for null, errors and
/// aggregates.
#[inline]
fn text(view: View<'_>) -> Option<&[u8]> {
    match view.kind() {
        Kind::Boolean if view.payload() == b"t" => Some(b"1"),
        Kind::Boolean => Some(b"0"),
        Kind::Null | Kind::Error | Kind::BulkError => None,
        kind if kind.is_aggregate() => None,
        _ => Some(view.payload()),
    }
}

#[inline]
fn utf8(view: View<'_>) -> Result<&str, DecodeError> {
    let Some(text) = text(view) else {
        return Err(DecodeError::unexpected("a string", view));
    };
    std::str::from_utf8(text).map_err(|_| DecodeError::unexpected("a string of UTF-8", view))
}

#[inline]
fn integer<T>(view: View<'_>, expected: &'static str) -> Result<T, DecodeError>
where
    T: TryFrom<i64> + FromStr,
{
    let unexpected = || DecodeError::unexpected(expected, view);
    let text = text(view).ok_or_else(unexpected)?;
    match number::parse_integer(text) {
        Some(number) => T::try_from(number).map_err(|_| unexpected()),
        // Beyond an `i64` there are still the upper half of `u64`, and big numbers.
        None => std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).ok_or_else(unexpected),
    }
}
