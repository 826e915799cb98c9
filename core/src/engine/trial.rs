//! What the simulation needs of the engine: the branches that are rarely taken, by name, and faults for
//! its oracle to find. Without the feature `simulation` both are nothing.
//!
//! Counts and faults are an engine's own, so worlds side by side don't see each other's.

use super::Engine;

macro_rules! rare_branches {
    ($($branch:ident: $name:literal,)*) => {
        /// A branch that few requests ever take.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Rare {
            $($branch,)*
        }

        #[cfg(feature = "simulation")]
        impl Rare {
            /// All of them, in the order in which they are declared.
            const NAMES: &[&str] = &[$($name,)*];
        }
    };
}

rare_branches! {
    NoticeOfSilence: "a silent connection is given up",
    MoreTime: "a process that stood still looks before it judges",
    Fault: "bytes that are no reply cost the connection",
    Unasked: "a reply too many costs the connection",
    RefusedAtOnce: "a server refuses a connection before it was asked anything",
    RefusedWhileWriting: "a refusal comes while its command is with the writer",
    Early: "a transaction is answered while it is being written",
    OlderConnection: "an older connection tells what a newer one has overtaken",
    Overtaken: "an answer is heard after that to a newer write on another connection",
    Retired: "a connection finishes what it owes while another takes over",
    HandshakeAnew: "a server wants the password again",
    SourceSent: "a script goes again with its source",
    SentAgain: "what was lost with its connection goes again",
    EndsMaybe: "what may have run and must not be repeated ends",
    TakenBack: "what expired before it was written is taken back",
    ExpiredUnanswered: "what was written expires and keeps its place",
    ExpiredInLine: "what stood in line for room expires",
    ExpiredHeld: "what waits behind a key expires",
    ExpiredDelayed: "what waits for its retry expires",
    Swept: "the queues are cleared of what was cancelled",
    DiscardedByMulti: "a server refuses MULTI itself",
    NextAddress: "the next address of a name is tried",
    NoAddress: "a name has no address",
    LateLookup: "a look-up takes too long",
    LateDial: "an attempt to connect takes too long",
    GuessedResp2: "a server that hangs up at HELLO is taken for one of RESP2",
    GuessTakenBack: "that guess is taken back",
    Rejected: "a server rejects this client for good",
    YoungConnectionLost: "a connection that had hardly begun is lost: the next one waits",
    WindowTrips: "too many faults among the last outcomes",
    NotReadyTrips: "a server that is not ready is judged down",
    DownAgainSoon: "a server is down again soon after it was back",
    FoundDown: "a server that was taken for down by order is found to be",
    Distrusted: "memory takes over while a write is on its way",
    Held: "a command waits behind a key that is owed something",
    HeldMixed: "a command waits for the server because of some of its keys",
    OlderThanDebt: "what was sent before memory wrote to its keys ends",
    ProbeFailed: "a probe fails",
    LedAstray: "a probe finds that the connection leads to the wrong place",
    HeldDown: "probes pass, and an order keeps the client from returning",
    NotNow: "a server that is paid refuses for now",
    MaybePaid: "nobody knows whether a debt was paid",
    NeverPaid: "a debt is refused for ever",
    MergeSkipped: "a key that is gone is not merged into",
    DebtUnanswered: "a connection is lost with a debt on its way",
    DebtPutBack: "a debt that was not sent in full is owed again",
    AnswerTooLate: "what was asked of a key is answered when it is of no use",
    OtherData: "a server comes back with other data",
    StaleScript: "a native script has run on what is no longer so",
    SideFailed: "a subscriber's own connection is not made",
    SideNextAddress: "the next address is tried for a subscriber's own connection",
    LateError: "a refusal comes after what it refuses was confirmed",
    TakenAway: "a subscription is taken away",
    ShardsMoved: "shard channels go to the node that serves their slot now",
    ShardsRedirected: "a node sends on who wants its shard channels",
    ShardsPostponed: "shard channels wait for a node that can't serve them yet",
    ChannelsElsewhere: "channels and patterns go to another node",
    NeverOpened: "isolation withdraws a connection that nobody had opened",
    ClosedInTime: "a client closes with answers outstanding",
    NextSlice: "a command that waits is sent again when a slice of its wait is over",
    Unblocked: "somebody ends the wait of a command",
    NoTimeToWait: "a time limit leaves no time to wait again",
    ToldOfGivingUp: "a command that may have popped something is given up",
    LineForSeats: "somebody stands in line for a connection of his own",
    SeatAgain: "a connection of one's own goes to the next one",
    SeatFailed: "a connection of one's own is not made",
    SeatSoiled: "a connection is closed because of what its holder has said on it",
    HeldLost: "a connection that somebody holds is lost",
    PinnedEnds: "what goes to one connection and no other ends with it",
    SeatIdle: "a connection that nobody uses is closed",
    Moved: "a command goes to where its slot is now",
    MovedAgain: "a command is redirected again, and waits",
    MovedTooOften: "a command is redirected too often",
    MovedToItself: "a node redirects to itself",
    MovedAstray: "a redirect leads to a node that the map does not name",
    MovedWhileWriting: "a redirect comes while its command is with the writer",
    AskedFirst: "a command goes out behind ASKING",
    AskedInVain: "a node that is to be asked with ASKING can't be reached",
    BehindDetour: "a newer command of a slot waits behind those that were redirected",
    LostInDetour: "what was owed where others of its slot were redirected is lost",
    OwedByFormer: "a slot has another owner while one before owes something of it",
    ScriptMoved: "a script's redirect is what the map says too",
    ScriptMadeItUp: "a script's redirect is its own words",
    Disagree: "nodes disagree about the map",
    AnswerMissed: "a map holds before all have answered who were asked",
    AskedAgain: "there is reason to ask for the map while it is asked for",
    TopologyLost: "the last of those who were asked for the map is lost",
    OldCluster: "a cluster does not know CLUSTER SHARDS",
    SeedsAnew: "nobody is connected who could be asked for the map",
    OthersAsked: "others are asked for the map, since nobody has answered",
    Unheard: "a slot that others leave out stays with its node, which was not asked",
    DebtAsked: "what is owed is paid to the node that a slot goes to, after ASKING",
    DebtRedirected: "what is owed was redirected, and waits",
    Inherited: "who takes over goes on with the outage",
    DebtMoved: "a slot that is owed something comes to a node that is well",
    Uncovered: "a command ends because nobody serves its slot",
    NodeLeaves: "a node that is not needed any more finishes what it owes",
    PartFails: "a part of a command fails after another was carried out",
    PartsDropped: "a command is given up with its parts under way",
}

#[cfg(feature = "simulation")]
macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident,)*) => {
        /// A deliberate fault of the engine, which an oracle must find.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Sabotage {
            $($(#[$doc])* $fault,)*
        }
    };
}

#[cfg(not(feature = "simulation"))]
macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident,)*) => {
        #[derive(Clone, Copy)]
        pub(super) enum Sabotage {
            $($(#[$doc])* $fault,)*
        }
    };
}

faults! {
    /// Whatever may have been executed is sent again.
    RepeatWrites,
    /// Nothing ends at its deadline.
    ForgetDeadlines,
    /// No timer is ever asked for.
    ForgetTimers,
    /// What is owed to the server counts as paid.
    ForgetDebts,
    /// A connection is dialled although another is being made.
    DialTwice,
    /// Bytes that are no reply are passed over.
    PassOverFaults,
    /// A request that is refused keeps its ticket.
    KeepRefused,
    /// A cancelled request gives up its place in the queue.
    LosePlace,
    /// What an older connection says counts.
    TrustTheDead,
    /// What may wait is answered from memory.
    AnswerAnything,
    /// Commands that change their connection are let through on the one that is shared.
    LetAnythingThrough,
    /// Nobody hears of what was given up and may have been carried out.
    GiveUpSilently,
    /// A connection that somebody held goes to the next one in whatever state it is.
    LeaveTraces,
    /// Whoever holds a connection that is lost goes on with another one.
    GoOnElsewhere,
    /// Newer commands of a slot don't wait behind those that were redirected.
    OvertakeRedirected,
    /// Something comes between ASKING and what it is for.
    AskApart,
    /// What a script says of redirects is believed.
    BelieveScripts,
    /// Redirects are followed to wherever they lead.
    FollowAnywhere,
    /// The map is asked for at once, as often as there is a reason.
    RefreshAtOnce,
    /// Nobody takes over what memory owes to a node that is replaced.
    ForgetHeirs,
    /// Shard channels stay where they are when their slot goes.
    LeaveChannels,
    /// No request goes out while any node is down.
    WaitForAll,
}

/// How often each rare branch was taken, and which fault there is.
#[derive(Debug, Default)]
pub(super) struct Trial {
    #[cfg(feature = "simulation")]
    counts: Vec<u64>,
    #[cfg(feature = "simulation")]
    sabotage: Option<Sabotage>,
}

impl Trial {
    /// Notes that a branch was taken.
    #[inline]
    pub(super) fn reached(&mut self, rare: Rare) {
        #[cfg(feature = "simulation")]
        {
            self.counts.resize(Rare::NAMES.len(), 0);
            self.counts[rare as usize] += 1;
        }
        #[cfg(not(feature = "simulation"))]
        let _ = rare;
    }

    /// Whether the engine is to do this wrong.
    #[inline]
    pub(super) fn is(&self, sabotage: Sabotage) -> bool {
        #[cfg(feature = "simulation")]
        return self.sabotage == Some(sabotage);
        #[cfg(not(feature = "simulation"))]
        {
            let _ = sabotage;
            false
        }
    }
}

#[cfg(feature = "simulation")]
impl<W> Engine<W> {
    /// How often each of the branches that are rarely taken was taken so far.
    pub fn rare_branches(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = &self.trial.counts;
        let count = |at: usize| counts.get(at).copied().unwrap_or(0);
        Rare::NAMES.iter().enumerate().map(move |(at, name)| (*name, count(at)))
    }

    /// Has the engine do something wrong from now on.
    pub fn sabotage(&mut self, sabotage: Sabotage) {
        self.trial.sabotage = Some(sabotage);
    }
}

impl<W> Engine<W> {
    #[inline]
    pub(super) fn reached(&mut self, rare: Rare) {
        self.trial.reached(rare);
    }
}
