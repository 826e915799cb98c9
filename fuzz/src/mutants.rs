//! Deliberate faults, one for each thing that is checked: a check that no fault can trip checks
//! nothing.

use unfazed_core::engine::Sabotage;

/// One fault, put into the modelled server, the network, the hands that drive the engine, or the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The server carries out only a part of a transaction.
    HalfExec,
    /// The network slips a command in between MULTI and EXEC.
    SlipIn,
    /// The driver reports the end of a request twice.
    EndTwice,
    /// The driver loses the wake-up of a request that has ended.
    LoseWake,
    /// The server swaps two replies.
    SwapReplies,
    /// The network turns a push into a reply.
    PushAsReply,
    /// The driver does not close a connection that was to be closed for what its peer said.
    IgnoreClose,
    /// The driver loses a push.
    LosePush,
    /// The network loses a message.
    LoseMessage,
    /// The network delivers a message twice.
    SendTwice,
    /// The server forgets a subscription.
    ForgetTopic,
    /// The driver loses the wake-up of a reader.
    LoseStreamWake,
    /// The network leaves out a byte on its way to the server.
    SkipByte,
    /// The server carries a command out twice.
    ExecuteTwice,
    /// The server says that it did what it did not.
    LieAboutWrite,
    /// The driver reports bytes as not accepted that were.
    DenyWritten,
    /// The driver says *not executed* of what may have been.
    ForgeNo,
    /// The server keeps what recovery has deleted.
    KeepDeleted,
    /// The driver is never back at the instant it was told.
    IgnoreTimer,
    /// The driver thinks it was told an earlier instant.
    Hurry,
    /// The driver never says that a connection is closed.
    LoseClosed,
    /// The driver keeps tickets that have ended.
    LeakTicket,
    /// The driver reads nothing while a write is blocked.
    NoReadWhileBlocked,
    /// The driver reports the end of a connection that is alive as if it were a stale one's.
    StaleIsCurrent,
    /// The driver says that an answer from memory is the server's.
    ForgeSource,
    /// The driver reports more bytes as written than there were.
    OverWritten,
    /// The bytes differ when they come in other pieces.
    OtherPieces,
    /// Something that is formatted holds the password.
    LeakSecret,
    /// The server does not keep what is written to keys whose last state is to be kept.
    LoseReplays,
    /// The server does not add what is to be added.
    LoseMerges,
    /// The server adds it twice.
    MergeTwice,
    /// The server says of what was popped that there was nothing.
    LosePops,
    /// The server carries transactions out whatever was written to what they watch.
    IgnoreWatch,
    /// The server tells nobody of some entries of a stream.
    LoseEntries,
    /// The reader of a stream acknowledges what it was not given.
    ForgetEntries,
    /// The driver says that a key is absent of which nothing is remembered.
    MakeUp,
    /// The client is not told what its operator wants.
    DisobeyOperator,
    /// The driver dials twice.
    DialTwice,
    /// The runner of a dialogue says that one and the same connection gave all its answers.
    OneConnection,
    /// Nobody writes down what a failover has lost.
    ForgetTail,
    /// The engine itself does something wrong.
    Engine(Sabotage),
}

impl Mutant {
    /// All of them, each with the number of the invariant whose check must find it; 19 is a panic, and
    /// 13 may also be found as a lack of progress.
    pub const ALL: &[(Mutant, u8)] = &[
        (Mutant::EndTwice, 1),
        (Mutant::SwapReplies, 2),
        (Mutant::PushAsReply, 2),
        (Mutant::IgnoreClose, 3),
        (Mutant::LosePush, 4),
        (Mutant::SkipByte, 5),
        (Mutant::ExecuteTwice, 6),
        (Mutant::LieAboutWrite, 6),
        (Mutant::DenyWritten, 6),
        (Mutant::ForgeNo, 6),
        (Mutant::KeepDeleted, 7),
        (Mutant::LoseMessage, 11),
        (Mutant::SendTwice, 11),
        (Mutant::ForgetTopic, 11),
        (Mutant::LoseStreamWake, 11),
        (Mutant::HalfExec, 9),
        (Mutant::SlipIn, 9),
        (Mutant::LoseWake, 12),
        (Mutant::IgnoreTimer, 12),
        (Mutant::Hurry, 13),
        (Mutant::LoseClosed, 13),
        (Mutant::LeakTicket, 14),
        (Mutant::NoReadWhileBlocked, 15),
        (Mutant::StaleIsCurrent, 16),
        (Mutant::ForgeSource, 18),
        (Mutant::OverWritten, 19),
        (Mutant::OtherPieces, 20),
        (Mutant::LeakSecret, 21),
        (Mutant::LoseReplays, 7),
        (Mutant::LoseMerges, 7),
        (Mutant::MergeTwice, 6),
        (Mutant::LosePops, 6),
        (Mutant::IgnoreWatch, 9),
        (Mutant::LoseEntries, 13),
        (Mutant::ForgetEntries, 6),
        (Mutant::MakeUp, 18),
        (Mutant::DisobeyOperator, 22),
        (Mutant::DialTwice, 17),
        (Mutant::OneConnection, 2),
        (Mutant::Engine(Sabotage::RepeatWrites), 6),
        (Mutant::Engine(Sabotage::ForgetDeadlines), 12),
        (Mutant::Engine(Sabotage::ForgetTimers), 13),
        (Mutant::Engine(Sabotage::ForgetDebts), 7),
        (Mutant::Engine(Sabotage::DialTwice), 17),
        (Mutant::Engine(Sabotage::PassOverFaults), 3),
        (Mutant::Engine(Sabotage::KeepRefused), 1),
        (Mutant::Engine(Sabotage::LosePlace), 2),
        (Mutant::Engine(Sabotage::TrustTheDead), 16),
        (Mutant::Engine(Sabotage::AnswerAnything), 18),
        (Mutant::Engine(Sabotage::LetAnythingThrough), 10),
        (Mutant::Engine(Sabotage::GiveUpSilently), 6),
        (Mutant::Engine(Sabotage::LeaveTraces), 10),
        (Mutant::Engine(Sabotage::GoOnElsewhere), 9),
    ];

    /// Those that only worlds that are clusters can find.
    pub const IN_CLUSTERS: &[(Mutant, u8)] = &[
        (Mutant::ForgetTail, 7),
        (Mutant::Engine(Sabotage::LeaveChannels), 11),
        (Mutant::Engine(Sabotage::OvertakeRedirected), 8),
        (Mutant::Engine(Sabotage::AskApart), 8),
        (Mutant::Engine(Sabotage::BelieveScripts), 6),
        (Mutant::Engine(Sabotage::FollowAnywhere), 17),
        (Mutant::Engine(Sabotage::RefreshAtOnce), 17),
        (Mutant::Engine(Sabotage::WaitForAll), 17),
        (Mutant::Engine(Sabotage::ForgetHeirs), 14),
    ];
}
