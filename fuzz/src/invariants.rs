//! The invariants by their numbers, as `ARCHITECTURE.md` has them: a violation names the one it breaks.

/// What must always hold, in order; the number of each is its place, beginning with 1.
pub const INVARIANTS: [&str; 22] = [
    "each accepted request ends exactly once, a refused one leaves no trace",
    "a reply belongs to its request",
    "an anomaly costs the connection",
    "a push takes no reply's place",
    "a command is encoded in full",
    "Ok means applied, no means never, and no repetition unasked",
    "what was acknowledged is not followed by anything older",
    "commands on one slot keep their order",
    "transactions are whole and alone",
    "a leased connection has one user",
    "subscriptions are what is wanted, and gaps are announced",
    "one deadline a request",
    "no hang and no busy loop",
    "bounds hold, and are zero in the end",
    "reads go on while writes are blocked",
    "an old generation is inert",
    "one dial at a time, and not too many",
    "an answer from memory can be told from the server's",
    "no input makes the engine panic",
    "the same bytes in any pieces, the same seed: the same outputs",
    "no secret is formatted",
    "what an operator forces holds",
];

/// What the invariant of this number says.
#[must_use]
pub fn name(number: u8) -> &'static str {
    INVARIANTS.get(usize::from(number).wrapping_sub(1)).copied().unwrap_or("no invariant")
}
