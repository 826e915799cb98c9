//! Replies as Rust values.
//!
//! [`FromReply`] turns a [`View`] into what the caller asked for; [`DecodeError`] says what stood
//! in the way and where. RESP2 and RESP3 give the same Rust values: what one of them sends as a
//! map, a set, a boolean or a double, the other sends as an array, an integer or a bulk string, and
//! either is taken.

mod collections;
mod error;
mod scalars;

pub use error::DecodeError;

use crate::resp::{Kind, Reply, Value, View};
pub use crate::resp::{ServerError, Source};

/// A type that a reply can be turned into.
///
/// | type | made from |
/// |---|---|
/// | `()` | anything but an error |
/// | `bool` | a boolean; 1 or 0, as integer or text; `OK` is true |
/// | integers but `u8` | an integer, a boolean (1 or 0), or text that is one; checked for range |
/// | `f32`, `f64` | a double, an integer, or text that is a number |
/// | `String`, `Box<str>`, `Arc<str>` | any text or number, if it is UTF-8 |
/// | `Bytes`, `Vec<u8>`, `Box<[u8]>` | any text or number; `Bytes` shares the reply's memory |
/// | `Option<T>` | null is `None`; for a pair, an empty array as well |
/// | `Vec<T>`, `VecDeque<T>`, `Box<[T]>`, sets, `[T; N]`, tuples | the elements of an array, set, push or map |
/// | maps, `Vec<(K, V)>` | a map, a flat array, or an array of pairs |
/// | `Result<T, ServerError>` | an error is `Err`, and fails nothing around it |
/// | [`Value`], [`Reply`] | anything, errors included |
/// | [`Sourced<T>`] | as `T`, with where the answer came from |
///
/// An array whose first element is itself an array of pairs is read as an array of pairs; any other
/// one as keys and values in turn.
///
/// A type of your own needs no derive:
///
/// ```
/// # mod unfazed_tokio { pub use unfazed_core as core; }
/// use unfazed_tokio::core::reply::{DecodeError, FromReply};
/// use unfazed_tokio::core::resp::{Reply, Value, View};
///
/// #[derive(Debug, PartialEq)]
/// struct Point { x: f64, y: f64 }
///
/// impl FromReply for Point {
///     fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
///         let (x, y) = FromReply::from_view(view)?;
///         Ok(Point { x, y })
///     }
/// }
///
/// let reply = Reply::from(Value::Array(vec![Value::Double(1.5), Value::Integer(2)]));
/// assert_eq!(Point::from_reply(&reply)?, Point { x: 1.5, y: 2.0 });
/// # Ok::<(), DecodeError>(())
/// ```
///
/// One that is kept as text, such as JSON, is read from that, and says what stood in the way:
///
/// ```
/// # use unfazed_core::reply::{DecodeError, FromReply};
/// # use unfazed_core::resp::{Reply, Value, View};
/// # #[derive(Debug, PartialEq)]
/// struct Address(std::net::IpAddr);
///
/// impl FromReply for Address {
///     fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
///         let parsed = String::from_view(view)?.parse();
///         let wrong = |error| DecodeError::unexpected(format!("an IP address ({error})"), view);
///         parsed.map(Address).map_err(wrong)
///     }
/// }
///
/// let reply = Reply::from(Value::Bulk("::1".into()));
/// assert_eq!(Address::from_reply(&reply)?, Address("::1".parse().expect("an address")));
/// # Ok::<(), DecodeError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "a reply cannot be turned into `{Self}`",
    label = "not made from replies",
    note = "`u8` is not, so that `Vec<u8>` is always bytes; neither are borrowed types: use `String` for `&str`",
    note = "for a type of your own, implement `FromReply`, most often by way of a tuple, a map or a `String`"
)]
pub trait FromReply: Sized {
    /// Makes the value out of a reply or a part of one.
    ///
    /// # Errors
    /// The reply is of another type or does not fit, or it is an error of the server's.
    fn from_view(view: View<'_>) -> Result<Self, DecodeError>;

    /// Makes the value out of a whole reply, of which more is known than of a part: its
    /// [`Source`].
    ///
    /// # Errors
    /// As [`from_view`](Self::from_view).
    #[inline]
    fn from_reply(reply: &Reply) -> Result<Self, DecodeError> {
        Self::from_view(reply.view())
    }

    /// Makes the value out of a reply that nobody else needs.
    #[doc(hidden)]
    #[inline]
    fn from_owned_reply(reply: Reply) -> Result<Self, (DecodeError, Reply)> {
        match Self::from_reply(&reply) {
            Ok(value) => Ok(value),
            Err(error) => Err((error, reply)),
        }
    }

    /// Whether this, which is no null, stands for nothing all the same. It does for pairs: where there is
    /// no member to be taken from a sorted set, a server answers with an empty array.
    #[doc(hidden)]
    #[inline]
    fn is_nothing(_: View<'_>) -> bool {
        false
    }

    /// Makes several out of an aggregate. Only pairs differ: they come in more than one shape.
    #[doc(hidden)]
    #[inline]
    fn many_from_view(view: View<'_>) -> Result<Vec<Self>, DecodeError> {
        collections::each(view)
    }
}

/// A value, and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Who gave it.
    pub source: Source,
}

impl<T: FromReply> FromReply for Sourced<T> {
    /// A part of a reply knows no source and says [`Source::Server`]; ask for the whole reply,
    /// `Sourced<Vec<T>>` and not `Vec<Sourced<T>>`.
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        Ok(Sourced { value: T::from_view(view)?, source: Source::default() })
    }

    fn from_reply(reply: &Reply) -> Result<Self, DecodeError> {
        Ok(Sourced { value: T::from_reply(reply)?, source: reply.source() })
    }
}

impl<T: FromReply> FromReply for Option<T> {
    #[inline]
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        if view.is_null() || T::is_nothing(view) { Ok(None) } else { T::from_view(view).map(Some) }
    }

    #[inline]
    fn from_reply(reply: &Reply) -> Result<Self, DecodeError> {
        if reply.kind() == Kind::Null || T::is_nothing(reply.view()) {
            return Ok(None);
        }
        T::from_reply(reply).map(Some)
    }
}

impl<T: FromReply> FromReply for Result<T, ServerError> {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        match view.error() {
            Some(error) => Ok(Err(error)),
            None => T::from_view(view).map(Ok),
        }
    }

    fn from_reply(reply: &Reply) -> Result<Self, DecodeError> {
        match reply.error() {
            Some(error) => Ok(Err(error)),
            None => T::from_reply(reply).map(Ok),
        }
    }
}

impl FromReply for Value {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        Ok(view.to_value())
    }
}

/// The reply as it came, to be read through its [`view`](Reply::view).
impl FromReply for Reply {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        Ok(view.to_reply())
    }

    fn from_reply(reply: &Reply) -> Result<Self, DecodeError> {
        Ok(reply.clone())
    }
}
