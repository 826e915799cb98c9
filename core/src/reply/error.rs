//! Why a reply did not become the type that was asked for.

use std::borrow::Cow;
use std::fmt;

use crate::resp::{Kind, ServerError, View};

/// A reply is not what the caller asked for.
///
/// It says what was expected, what came instead, and where in the reply: `[3]` is the fourth
/// element, `.1` the second half of a pair or the second field of a tuple.
///
/// ```
/// use unfazed_core::reply::FromReply;
/// use unfazed_core::resp::{Reply, Value};
///
/// let reply = Reply::from(Value::Array(vec![Value::Integer(1), Value::Null]));
/// let error = Vec::<i64>::from_reply(&reply).unwrap_err();
/// assert_eq!(error.to_string(), "expected an integer at [1], got null");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct DecodeError(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    /// From the inside out, in the order in which it becomes known.
    path: Vec<Step>,
    reason: Reason,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Index(usize),
    Field(usize),
}

#[derive(Clone, PartialEq, Eq)]
enum Reason {
    Server(ServerError),
    Unexpected { expected: Cow<'static, str>, found: Found },
}

/// What came, shortened.
#[derive(Clone, PartialEq, Eq)]
struct Found {
    kind: Kind,
    /// The length of a text, or the number of elements.
    len: usize,
    /// The text's beginning.
    excerpt: Box<[u8]>,
}

/// How many bytes of a text an error shows.
const EXCERPT_MAX: usize = 32;

impl DecodeError {
    /// `view` is not what was `expected`, which is named with its article: `"an integer"`. If the
    /// view is a server's error, that is what the error says.
    #[cold]
    #[must_use]
    pub fn unexpected(expected: impl Into<Cow<'static, str>>, view: View<'_>) -> Self {
        let reason = match view.error() {
            Some(error) => Reason::Server(error),
            None => Reason::Unexpected { expected: expected.into(), found: Found::new(view) },
        };
        DecodeError(Box::new(Inner { path: Vec::new(), reason }))
    }

    /// The same error, found in the element at `index` of an aggregate.
    #[must_use]
    pub fn at_index(mut self, index: usize) -> Self {
        self.0.path.push(Step::Index(index));
        self
    }

    /// The same error, found in the field at `index` of a tuple or pair.
    #[must_use]
    pub fn at_field(mut self, index: usize) -> Self {
        self.0.path.push(Step::Field(index));
        self
    }

    /// The server's error that stood where a value was expected, if that is what it was.
    #[must_use]
    pub fn server_error(&self) -> Option<&ServerError> {
        match &self.0.reason {
            Reason::Server(error) => Some(error),
            Reason::Unexpected { .. } => None,
        }
    }

    /// Where in the reply: `[3].1`; empty for the reply itself.
    #[must_use]
    pub fn path(&self) -> String {
        Path(&self.0.path).to_string()
    }
}

impl Found {
    fn new(view: View<'_>) -> Self {
        let text = view.payload();
        let len = if view.kind().is_aggregate() { view.len() } else { text.len() };
        Found { kind: view.kind(), len, excerpt: text[..text.len().min(EXCERPT_MAX)].into() }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.0.path.is_empty() { "" } else { " at " };
        let path = Path(&self.0.path);
        match &self.0.reason {
            Reason::Server(error) => write!(f, "the server answered an error{at}{path}: {error}"),
            Reason::Unexpected { expected, found } => {
                write!(f, "expected {expected}{at}{path}, got {found}")
            }
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if self.kind.is_aggregate() {
            let unit = if self.kind.is_paired() { "pair" } else { "element" };
            let plural = if self.len == 1 { "" } else { "s" };
            return write!(f, " of {} {unit}{plural}", self.len);
        }
        if self.kind == Kind::Null {
            return Ok(());
        }
        write!(f, " \"{}\"", self.excerpt.escape_ascii())?;
        if self.excerpt.len() < self.len {
            write!(f, " and {} bytes more", self.len - self.excerpt.len())?;
        }
        Ok(())
    }
}

struct Path<'a>(&'a [Step]);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in self.0.iter().rev() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Field(index) => write!(f, ".{index}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecodeError({self})")
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.server_error().map(|error| error as _)
    }
}
