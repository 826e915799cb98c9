//! All differences that are tolerated, each with its reason.
//!
//! Replies are held against each other for equality first; only where they are not equal is a
//! rule of this list asked. One that is never needed by a command that it names fails the test.
//!
//! Never asked at all: lexicographical ranges of sorted sets whose members have different scores,
//! because Redis leaves the reply open; OBJECT IDLETIME, which the store says it does not support;
//! and SORT of sorted sets with scores below 1e-307, which a server may refuse or not.

/// How replies are held against each other where they are not equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The elements may differ in order.
    Order,
    /// As many elements, and the same ones where there is no LIMIT: in any order if they were not to
    /// be sorted, or sorted ALPHA and BY, and with ALPHA alone those that are the same up to a NUL.
    Ties,
    /// As many elements, all of them there before, and each once unless the count is negative.
    Sample,
    /// One call of a scan: elements that are there, and all of them where both are through.
    Page,
    /// Times may differ by as long as the batch took, those that commands named as absolute not
    /// at all.
    Clock,
    /// The time itself: two bulk strings, as close as the batch took.
    Time,
    /// Of a string the store says that it is an integer where the server says that it is a short or
    /// long text, or a short one where the server says a long one; or that it is shared.
    Encoding,
    /// What they say of themselves may differ: names, help.
    Words,
    /// A zero may have another sign, and scores of a scan may be written in another way.
    Scores,
    /// One of the two refuses what the other takes, or with another text. Where only one does, the
    /// two may be apart afterwards, so the sequence ends.
    Refusal,
    /// The store gives a page of a scan where the server refuses an option.
    NoValues,
    /// The index does not fit into 32 bits; as for [`Rule::Refusal`], the sequence ends.
    LongIndex,
    /// LIMIT passes over less than nothing; as for [`Rule::Refusal`], the sequence ends.
    NegativeLimit,
    /// Ours is how many keys KEYS finds on the server.
    Living,
}

/// One difference, of some commands.
pub(crate) struct Tolerated {
    pub(crate) rule: Rule,
    /// In upper case.
    pub(crate) commands: &'static [&'static str],
    /// On which servers.
    pub(crate) servers: Servers,
    /// Why.
    pub(crate) _reason: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Servers {
    All,
    /// Those of version 7.0, which lack what the store has from newer ones.
    Old,
    /// Those that are not 7.0, the version that the store imitates: here 8.0.
    Newer,
}

pub(crate) const TOLERATED: &[Tolerated] = &[
    Tolerated {
        rule: Rule::Order,
        commands: &["KEYS", "SMEMBERS", "SINTER", "SUNION", "SDIFF", "HGETALL", "HKEYS", "HVALS"],
        servers: Servers::All,
        _reason: "a server promises no order",
    },
    Tolerated {
        rule: Rule::Ties,
        commands: &["SORT", "SORT_RO"],
        servers: Servers::All,
        _reason: "members that are the same to sort BY, or to ALPHA up to a NUL, come in any order, \
                  and so do those of a set that is not sorted at all",
    },
    Tolerated {
        rule: Rule::Sample,
        commands: &["RANDOMKEY", "SPOP", "SRANDMEMBER", "HRANDFIELD", "ZRANDMEMBER"],
        servers: Servers::All,
        _reason: "they are random",
    },
    Tolerated {
        rule: Rule::Page,
        commands: &["SCAN", "SSCAN", "HSCAN", "ZSCAN"],
        servers: Servers::All,
        _reason: "cursors are a server's own, and how much one call finds is not promised",
    },
    Tolerated {
        rule: Rule::Clock,
        commands: &["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"],
        servers: Servers::All,
        _reason: "the clock is read twice, by the server at each command of a batch",
    },
    Tolerated {
        rule: Rule::Clock,
        commands: &["HTTL", "HPTTL", "HEXPIRETIME", "HPEXPIRETIME"],
        servers: Servers::All,
        _reason: "the clock is read twice, by the server at each command of a batch",
    },
    Tolerated {
        rule: Rule::Time,
        commands: &["TIME"],
        servers: Servers::All,
        _reason: "the clock is read twice",
    },
    Tolerated {
        rule: Rule::Encoding,
        commands: &["OBJECT"],
        servers: Servers::All,
        _reason: "the store says of a string what SET would have made of it; a server keeps one \
                  that was changed in place, or by INCRBYFLOAT, in another way until it is set",
    },
    Tolerated {
        rule: Rule::Living,
        commands: &["DBSIZE"],
        servers: Servers::All,
        _reason: "a server counts entries that have expired until it meets them",
    },
    Tolerated {
        rule: Rule::NoValues,
        commands: &["HSCAN"],
        servers: Servers::Old,
        _reason: "NOVALUES came with Redis 7.4, as the commands on fields that expire did",
    },
    // What newer servers changed.
    Tolerated {
        rule: Rule::Words,
        commands: &["OBJECT"],
        servers: Servers::Newer,
        _reason: "Redis 7.2 keeps short lists and sets as listpacks, and says \"Print this help\"",
    },
    Tolerated {
        rule: Rule::Refusal,
        commands: &["SCAN", "SSCAN", "HSCAN", "ZSCAN"],
        servers: Servers::Newer,
        _reason: "Redis 8 reads a cursor as any number, no longer by strtoul",
    },
    Tolerated {
        rule: Rule::Refusal,
        commands: &[
            "ZCOUNT",
            "ZRANGE",
            "ZRANGEBYSCORE",
            "ZRANGESTORE",
            "ZREMRANGEBYSCORE",
            "ZREVRANGEBYSCORE",
        ],
        servers: Servers::Newer,
        _reason: "Redis 8 reads the ends of ranges of scores no longer by strtod: no number may be \
                  hexadecimal, or stand behind a space",
    },
    Tolerated {
        rule: Rule::Refusal,
        commands: &["ZRANK", "ZREVRANK"],
        servers: Servers::Newer,
        _reason: "since 7.2 they take WITHSCORE, so another argument is no longer one too many",
    },
    Tolerated {
        rule: Rule::Refusal,
        commands: &["LPOS"],
        servers: Servers::Newer,
        _reason: "since 7.2 the least number is no rank",
    },
    Tolerated {
        rule: Rule::Scores,
        commands: &[
            "ZADD",
            "ZDIFF",
            "ZINCRBY",
            "ZINTER",
            "ZMPOP",
            "ZMSCORE",
            "ZPOPMAX",
            "ZPOPMIN",
            "ZRANGE",
            "ZRANGEBYSCORE",
            "ZREVRANGE",
            "ZREVRANGEBYSCORE",
            "ZSCAN",
            "ZSCORE",
            "ZUNION",
        ],
        servers: Servers::Newer,
        _reason: "since 7.2 scores are written in as few digits as tell them apart, and ZADD knows \
                  beforehand that members are too many for a listpack, which drops the sign of zero",
    },
    Tolerated {
        rule: Rule::Refusal,
        commands: &["BITCOUNT", "BITPOS"],
        servers: Servers::Newer,
        _reason: "Redis 8 reads the arguments before it looks at the key",
    },
    Tolerated {
        rule: Rule::NegativeLimit,
        commands: &[
            "ZRANGE",
            "ZRANGEBYLEX",
            "ZRANGEBYSCORE",
            "ZRANGESTORE",
            "ZREVRANGEBYLEX",
            "ZREVRANGEBYSCORE",
        ],
        servers: Servers::Newer,
        _reason: "Redis 8 passes over nothing in a skiplist where LIMIT is negative, which used to give \
                  nothing and still does in a listpack",
    },
    Tolerated {
        rule: Rule::LongIndex,
        commands: &["LINDEX", "LSET"],
        servers: Servers::Newer,
        _reason: "since 7.2 the index in a short list is cut to 32 bits",
    },
];
