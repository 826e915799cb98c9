//! How much a server may ask of us.

/// The highest value of any limit: a tape token holds offsets, lengths and counts in 30 bits.
pub(super) const FIELD_MAX: usize = (1 << 30) - 1;

/// What a [`Decoder`](super::Decoder) accepts; whatever goes beyond is a
/// [`ProtocolError`](super::ProtocolError), found as soon as it is announced.
///
/// No limit reserves memory. A buffer grows with the bytes that have come, never with a length
/// that was only declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest bulk string, bulk error or verbatim string, in bytes. 512 MiB, the server's own
    /// `proto-max-bulk-len`.
    pub bulk_max: usize,
    /// How deep aggregates may nest; attributes count as a level. 128.
    pub depth_max: usize,
    /// The most elements in one aggregate; a pair of a map counts as two. 2²⁴.
    pub elements_max: usize,
    /// The longest line: a simple string, a simple error or a number, in bytes. 64 KiB.
    pub line_max: usize,
    /// The longest whole reply, in bytes. The default is 2³⁰ − 1, which is also the most there can
    /// be: a token of the tape holds offsets of 30 bits. Higher values count as that.
    pub reply_max: usize,
}

impl Limits {
    /// What may come before a server has shown who it is: replies of 64 KiB, eight levels deep.
    pub const HANDSHAKE: Limits = Limits {
        bulk_max: 64 << 10,
        depth_max: 8,
        elements_max: 1 << 12,
        line_max: 64 << 10,
        reply_max: 64 << 10,
    };

    /// The same limits, none of them beyond what a token can hold.
    pub(super) fn clamped(self) -> Limits {
        Limits {
            bulk_max: self.bulk_max.min(FIELD_MAX),
            depth_max: self.depth_max.min(FIELD_MAX),
            elements_max: self.elements_max.min(FIELD_MAX),
            line_max: self.line_max.min(FIELD_MAX),
            reply_max: self.reply_max.min(FIELD_MAX),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            bulk_max: 512 << 20,
            depth_max: 128,
            elements_max: 1 << 24,
            line_max: 64 << 10,
            reply_max: FIELD_MAX,
        }
    }
}

impl From<&crate::config::ReplyLimits> for Limits {
    fn from(limits: &crate::config::ReplyLimits) -> Self {
        Limits {
            bulk_max: limits.bulk_max,
            depth_max: limits.depth_max,
            elements_max: limits.elements_max,
            line_max: limits.line_max,
            reply_max: limits.reply_max,
        }
    }
}
