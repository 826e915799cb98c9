//! The table of commands, and how one is found, checked and run.

use super::keyspace::Keyspace;
use super::refusal::Refusal;
use super::{Answer, Outcome, STRING_BYTES_MAX, counters, expiry, keys, server, strings};
use crate::Now;

/// Runs one command: its name and its arguments.
pub(super) fn execute(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Answer {
    let command = match prepare(args) {
        Ok(command) => command,
        Err(refused) => return refused,
    };
    match (command.run)(keyspace, args, now) {
        Ok(reply) => Answer::Reply(reply),
        Err(refusal) if refusal == Refusal::FULL => Answer::Full(refusal.into()),
        Err(refusal) => Answer::Reply(refusal.into()),
    }
}

/// The command, if it is one that a server would begin to run, or queue in a transaction.
pub(super) fn prepare(args: &[&[u8]]) -> Result<&'static Command, Answer> {
    let name = args.first().copied().unwrap_or_default();
    let Some(command) = find(name) else {
        return Err(if known_elsewhere(name) {
            Answer::Unsupported
        } else {
            Answer::Reply(Refusal::unknown_command(args).into())
        });
    };
    if !command.takes(args.len()) {
        return Err(Answer::Reply(Refusal::arity(command.name).into()));
    }
    if args.iter().any(|arg| arg.len() > STRING_BYTES_MAX) {
        // A server never sees such a command: its parser closes the connection.
        return Err(Answer::Reply(Refusal::TOO_LONG.into()));
    }
    Ok(command)
}

/// The command of this name, in any case.
pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    let place = COMMANDS.binary_search_by(|command| compare(command.name, name)).ok()?;
    Some(&COMMANDS[place])
}

/// One command that the store supports.
pub(super) struct Command {
    /// In lower case, as error messages have it.
    name: &'static str,
    /// As COMMAND INFO has it: how many arguments, the name included; negative for at least.
    arity: i8,
    run: Run,
}

type Run = fn(&mut Keyspace, &[&[u8]], Now) -> Outcome;

impl Command {
    fn takes(&self, count: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { count >= arity } else { count == arity }
    }
}

const fn command(name: &'static str, arity: i8, run: Run) -> Command {
    Command { name, arity, run }
}

/// Sorted by name.
const COMMANDS: &[Command] = &[
    command("append", 3, strings::append),
    command("copy", -3, keys::copy),
    command("dbsize", 1, server::dbsize),
    command("decr", 2, counters::decr),
    command("decrby", 3, counters::decrby),
    command("del", -2, keys::del),
    command("echo", 2, server::echo),
    command("exists", -2, keys::exists),
    command("expire", -3, expiry::expire),
    command("expireat", -3, expiry::expireat),
    command("expiretime", 2, expiry::expiretime),
    command("flushall", -1, server::flush),
    command("flushdb", -1, server::flush),
    command("get", 2, strings::get),
    command("getdel", 2, strings::getdel),
    command("getex", -2, strings::getex),
    command("getrange", 4, strings::getrange),
    command("getset", 3, strings::getset),
    command("incr", 2, counters::incr),
    command("incrby", 3, counters::incrby),
    command("incrbyfloat", 3, counters::incrbyfloat),
    command("keys", 2, keys::keys),
    command("mget", -2, strings::mget),
    command("mset", -3, strings::mset),
    command("msetnx", -3, strings::msetnx),
    command("persist", 2, expiry::persist),
    command("pexpire", -3, expiry::pexpire),
    command("pexpireat", -3, expiry::pexpireat),
    command("pexpiretime", 2, expiry::pexpiretime),
    command("ping", -1, server::ping),
    command("psetex", 4, strings::psetex),
    command("pttl", 2, expiry::pttl),
    command("randomkey", 1, keys::randomkey),
    command("rename", 3, keys::rename),
    command("renamenx", 3, keys::renamenx),
    command("select", 2, server::select),
    command("set", -3, strings::set),
    command("setex", 4, strings::setex),
    command("setnx", 3, strings::setnx),
    command("setrange", 4, strings::setrange),
    command("strlen", 2, strings::strlen),
    command("substr", 4, strings::getrange),
    command("time", 1, server::time),
    command("touch", -2, keys::exists),
    command("ttl", 2, expiry::ttl),
    command("type", 2, keys::type_of),
    command("unlink", -2, keys::del),
];

fn known_elsewhere(name: &[u8]) -> bool {
    KNOWN_ELSEWHERE.binary_search_by(|known| compare(known, name)).is_ok()
}

/// The other commands of Redis 7.0, sorted: they exist, though not here. The differential test
/// holds both tables to the server's own COMMAND LIST.
#[rustfmt::skip]
const KNOWN_ELSEWHERE: &[&str] = &[
    "acl", "asking", "auth", "bgrewriteaof", "bgsave", "bitcount", "bitfield", "bitfield_ro",
    "bitop", "bitpos", "blmove", "blmpop", "blpop", "brpop", "brpoplpush", "bzmpop", "bzpopmax",
    "bzpopmin", "client", "cluster", "command", "config", "debug", "discard", "dump", "eval",
    "eval_ro", "evalsha", "evalsha_ro", "exec", "failover", "fcall", "fcall_ro", "function",
    "geoadd", "geodist", "geohash", "geopos", "georadius", "georadius_ro", "georadiusbymember",
    "georadiusbymember_ro", "geosearch", "geosearchstore", "getbit", "hdel", "hello", "hexists",
    "hget", "hgetall", "hincrby", "hincrbyfloat", "hkeys", "hlen", "hmget", "hmset",
    "hrandfield", "hscan", "hset", "hsetnx", "hstrlen", "hvals", "info", "lastsave", "latency",
    "lcs", "lindex", "linsert", "llen", "lmove", "lmpop", "lolwut", "lpop", "lpos", "lpush",
    "lpushx", "lrange", "lrem", "lset", "ltrim", "memory", "migrate", "module", "monitor",
    "move", "multi", "object", "pfadd", "pfcount", "pfdebug", "pfmerge", "pfselftest",
    "psubscribe", "psync", "publish", "pubsub", "punsubscribe", "quit", "readonly", "readwrite",
    "replconf", "replicaof", "reset", "restore", "restore-asking", "role", "rpop", "rpoplpush",
    "rpush", "rpushx", "sadd", "save", "scan", "scard", "script", "sdiff", "sdiffstore",
    "setbit", "shutdown", "sinter", "sintercard", "sinterstore", "sismember", "slaveof",
    "slowlog", "smembers", "smismember", "smove", "sort", "sort_ro", "spop", "spublish",
    "srandmember", "srem", "sscan", "ssubscribe", "subscribe", "sunion", "sunionstore",
    "sunsubscribe", "swapdb", "sync", "unsubscribe", "unwatch", "wait", "watch", "xack", "xadd",
    "xautoclaim", "xclaim", "xdel", "xgroup", "xinfo", "xlen", "xpending", "xrange", "xread",
    "xreadgroup", "xrevrange", "xsetid", "xtrim", "zadd", "zcard", "zcount", "zdiff",
    "zdiffstore", "zincrby", "zinter", "zintercard", "zinterstore", "zlexcount", "zmpop",
    "zmscore", "zpopmax", "zpopmin", "zrandmember", "zrange", "zrangebylex", "zrangebyscore",
    "zrangestore", "zrank", "zrem", "zremrangebylex", "zremrangebyrank", "zremrangebyscore",
    "zrevrange", "zrevrangebylex", "zrevrangebyscore", "zrevrank", "zscan", "zscore", "zunion",
    "zunionstore",
];

/// Orders a name of the table, in lower case, and one in any case.
fn compare(known: &str, name: &[u8]) -> std::cmp::Ordering {
    known.bytes().cmp(name.iter().map(u8::to_ascii_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_sorted_and_share_no_name() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        assert!(KNOWN_ELSEWHERE.is_sorted_by(|a, b| a < b));
        assert!(COMMANDS.iter().all(|command| !known_elsewhere(command.name.as_bytes())));
    }
}
