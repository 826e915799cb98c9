//! What stands at a key.

use bytes::{Bytes, BytesMut};

use super::refusal::Refusal;

/// A value and how long it lives.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) data: Data,
    /// In milliseconds since the Unix epoch; `None` is for ever.
    pub(super) expires_at: Option<u64>,
}

/// A value of one of Redis' types.
#[derive(Clone, Debug)]
pub(super) enum Data {
    String(Text),
    /// Stands for the types to come, so that tests can meet WRONGTYPE.
    #[cfg(test)]
    Other,
}

impl Data {
    /// The name that TYPE gives.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Data::String(_) => "string",
            #[cfg(test)]
            Data::Other => "other",
        }
    }

    /// The bytes that the value is charged with.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Data::String(text) => text.len(),
            #[cfg(test)]
            Data::Other => 0,
        }
    }

    /// The string, or WRONGTYPE.
    pub(super) fn text(&self) -> Result<&Text, Refusal> {
        match self {
            Data::String(text) => Ok(text),
            #[cfg(test)]
            Data::Other => Err(Refusal::WRONG_TYPE),
        }
    }

    /// The string for changing it in place, or WRONGTYPE.
    pub(super) fn text_mut(&mut self) -> Result<&mut Text, Refusal> {
        match self {
            Data::String(text) => Ok(text),
            #[cfg(test)]
            Data::Other => Err(Refusal::WRONG_TYPE),
        }
    }
}

/// A string.
///
/// What was written as bytes stays bytes, so that reading it shares them; what a counter left
/// stays an integer, so that counting neither parses nor allocates.
#[derive(Clone, Debug)]
pub(super) enum Text {
    Integer(i64),
    Bytes(Bytes),
}

impl Text {
    /// A copy of `bytes`.
    pub(super) fn copied(bytes: &[u8]) -> Self {
        Text::Bytes(Bytes::copy_from_slice(bytes))
    }

    /// The length as text, in bytes.
    pub(super) fn len(&self) -> usize {
        match self {
            Text::Integer(number) => {
                let digits = number.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
                digits + usize::from(*number < 0)
            }
            Text::Bytes(bytes) => bytes.len(),
        }
    }

    /// The text; bytes are shared, not copied.
    pub(super) fn to_bytes(&self) -> Bytes {
        match self {
            Text::Integer(number) => Bytes::from(number.to_string()),
            Text::Bytes(bytes) => bytes.clone(),
        }
    }

    /// Takes the text out for changing it; `put_back` ends the loan. Copies only where others
    /// share the bytes, so that repeated appending takes amortised constant time.
    pub(super) fn take(&mut self, capacity: usize) -> BytesMut {
        let bytes = match self {
            Text::Integer(_) => self.to_bytes(),
            Text::Bytes(bytes) => std::mem::take(bytes),
        };
        bytes.try_into_mut().unwrap_or_else(|shared| {
            let mut copy = BytesMut::with_capacity(capacity.max(shared.len()));
            copy.extend_from_slice(&shared);
            copy
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_is_charged_as_its_text() {
        for number in [0, 1, 9, 10, -1, -10, i64::MAX, i64::MIN] {
            assert_eq!(Text::Integer(number).len(), number.to_string().len(), "{number}");
        }
    }
}
