//! The table of commands, and how one is found, checked and run.

use super::keyspace::Keyspace;
use super::refusal::Refusal;
use super::{
    Answer, Outcome, STRING_BYTES_MAX, algebra, bitfield, bits, counters, expiry, field_expiry,
    hashes, keys, lists, object, scan, server, sets, sort, strings, zalgebra, zranges, zsets,
};
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
        Err(refusal) if refusal == Refusal::UNSUPPORTED => Answer::Unsupported,
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

/// The names of all commands, sorted.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|command| command.name)
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
    command("bitcount", -2, bits::bitcount),
    command("bitfield", -2, bitfield::bitfield),
    command("bitfield_ro", -2, bitfield::bitfield_ro),
    command("bitop", -4, bits::bitop),
    command("bitpos", -3, bits::bitpos),
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
    command("getbit", 3, bits::getbit),
    command("getdel", 2, strings::getdel),
    command("getex", -2, strings::getex),
    command("getrange", 4, strings::getrange),
    command("getset", 3, strings::getset),
    command("hdel", -3, hashes::hdel),
    command("hexists", 3, hashes::hexists),
    command("hexpire", -6, field_expiry::hexpire),
    command("hexpireat", -6, field_expiry::hexpireat),
    command("hexpiretime", -5, field_expiry::hexpiretime),
    command("hget", 3, hashes::hget),
    command("hgetall", 2, hashes::hgetall),
    command("hgetdel", -5, field_expiry::hgetdel),
    command("hgetex", -5, field_expiry::hgetex),
    command("hincrby", 4, hashes::hincrby),
    command("hincrbyfloat", 4, hashes::hincrbyfloat),
    command("hkeys", 2, hashes::hkeys),
    command("hlen", 2, hashes::hlen),
    command("hmget", -3, hashes::hmget),
    command("hmset", -4, hashes::hmset),
    command("hpersist", -5, field_expiry::hpersist),
    command("hpexpire", -6, field_expiry::hpexpire),
    command("hpexpireat", -6, field_expiry::hpexpireat),
    command("hpexpiretime", -5, field_expiry::hpexpiretime),
    command("hpttl", -5, field_expiry::hpttl),
    command("hrandfield", -2, hashes::hrandfield),
    command("hscan", -3, scan::hscan),
    command("hset", -4, hashes::hset),
    command("hsetex", -6, field_expiry::hsetex),
    command("hsetnx", 4, hashes::hsetnx),
    command("hstrlen", 3, hashes::hstrlen),
    command("httl", -5, field_expiry::httl),
    command("hvals", 2, hashes::hvals),
    command("incr", 2, counters::incr),
    command("incrby", 3, counters::incrby),
    command("incrbyfloat", 3, counters::incrbyfloat),
    command("keys", 2, keys::keys),
    command("lindex", 3, lists::lindex),
    command("linsert", 5, lists::linsert),
    command("llen", 2, lists::llen),
    command("lmove", 5, lists::lmove),
    command("lmpop", -4, lists::lmpop),
    command("lpop", -2, lists::lpop),
    command("lpos", -3, lists::lpos),
    command("lpush", -3, lists::lpush),
    command("lpushx", -3, lists::lpushx),
    command("lrange", 4, lists::lrange),
    command("lrem", 4, lists::lrem),
    command("lset", 4, lists::lset),
    command("ltrim", 4, lists::ltrim),
    command("mget", -2, strings::mget),
    command("mset", -3, strings::mset),
    command("msetnx", -3, strings::msetnx),
    command("object", -2, object::object),
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
    command("rpop", -2, lists::rpop),
    command("rpoplpush", 3, lists::rpoplpush),
    command("rpush", -3, lists::rpush),
    command("rpushx", -3, lists::rpushx),
    command("sadd", -3, sets::sadd),
    command("scan", -2, scan::scan),
    command("scard", 2, sets::scard),
    command("sdiff", -2, algebra::sdiff),
    command("sdiffstore", -3, algebra::sdiffstore),
    command("select", 2, server::select),
    command("set", -3, strings::set),
    command("setbit", 4, bits::setbit),
    command("setex", 4, strings::setex),
    command("setnx", 3, strings::setnx),
    command("setrange", 4, strings::setrange),
    command("sinter", -2, algebra::sinter),
    command("sintercard", -3, algebra::sintercard),
    command("sinterstore", -3, algebra::sinterstore),
    command("sismember", 3, sets::sismember),
    command("smembers", 2, sets::smembers),
    command("smismember", -3, sets::smismember),
    command("smove", 4, sets::smove),
    command("sort", -2, sort::sort),
    command("sort_ro", -2, sort::sort_ro),
    command("spop", -2, sets::spop),
    command("srandmember", -2, sets::srandmember),
    command("srem", -3, sets::srem),
    command("sscan", -3, scan::sscan),
    command("strlen", 2, strings::strlen),
    command("substr", 4, strings::getrange),
    command("sunion", -2, algebra::sunion),
    command("sunionstore", -3, algebra::sunionstore),
    command("time", 1, server::time),
    command("touch", -2, keys::exists),
    command("ttl", 2, expiry::ttl),
    command("type", 2, keys::type_of),
    command("unlink", -2, keys::del),
    command("zadd", -4, zsets::zadd),
    command("zcard", 2, zsets::zcard),
    command("zcount", 4, zranges::zcount),
    command("zdiff", -3, zalgebra::zdiff),
    command("zdiffstore", -4, zalgebra::zdiffstore),
    command("zincrby", 4, zsets::zincrby),
    command("zinter", -3, zalgebra::zinter),
    command("zintercard", -3, zalgebra::zintercard),
    command("zinterstore", -4, zalgebra::zinterstore),
    command("zlexcount", 4, zranges::zlexcount),
    command("zmpop", -4, zsets::zmpop),
    command("zmscore", -3, zsets::zmscore),
    command("zpopmax", -2, zsets::zpopmax),
    command("zpopmin", -2, zsets::zpopmin),
    command("zrandmember", -2, zsets::zrandmember),
    command("zrange", -4, zranges::zrange),
    command("zrangebylex", -4, zranges::zrangebylex),
    command("zrangebyscore", -4, zranges::zrangebyscore),
    command("zrangestore", -5, zranges::zrangestore),
    command("zrank", 3, zsets::zrank),
    command("zrem", -3, zsets::zrem),
    command("zremrangebylex", 4, zranges::zremrangebylex),
    command("zremrangebyrank", 4, zranges::zremrangebyrank),
    command("zremrangebyscore", 4, zranges::zremrangebyscore),
    command("zrevrange", -4, zranges::zrevrange),
    command("zrevrangebylex", -4, zranges::zrevrangebylex),
    command("zrevrangebyscore", -4, zranges::zrevrangebyscore),
    command("zrevrank", 3, zsets::zrevrank),
    command("zscan", -3, scan::zscan),
    command("zscore", 3, zsets::zscore),
    command("zunion", -3, zalgebra::zunion),
    command("zunionstore", -4, zalgebra::zunionstore),
];

fn known_elsewhere(name: &[u8]) -> bool {
    KNOWN_ELSEWHERE.binary_search_by(|known| compare(known, name)).is_ok()
}

/// The other commands of Redis 7.0, sorted: they exist, though not here. The differential test
/// holds both tables to the server's own COMMAND LIST.
#[rustfmt::skip]
const KNOWN_ELSEWHERE: &[&str] = &[
    "acl", "asking", "auth", "bgrewriteaof", "bgsave", "blmove", "blmpop", "blpop", "brpop",
    "brpoplpush", "bzmpop", "bzpopmax", "bzpopmin", "client", "cluster", "command", "config",
    "debug", "discard", "dump", "eval", "eval_ro", "evalsha", "evalsha_ro", "exec", "failover",
    "fcall", "fcall_ro", "function", "geoadd", "geodist", "geohash", "geopos", "georadius",
    "georadius_ro", "georadiusbymember", "georadiusbymember_ro", "geosearch", "geosearchstore",
    "hello", "info", "lastsave", "latency", "lcs", "lolwut", "memory", "migrate", "module",
    "monitor", "move", "multi", "pfadd", "pfcount", "pfdebug", "pfmerge", "pfselftest",
    "psubscribe", "psync", "publish", "pubsub", "punsubscribe", "quit", "readonly", "readwrite",
    "replconf", "replicaof", "reset", "restore", "restore-asking", "role", "save", "script",
    "shutdown", "slaveof", "slowlog", "spublish", "ssubscribe", "subscribe", "sunsubscribe",
    "swapdb", "sync", "unsubscribe", "unwatch", "wait", "watch", "xack", "xadd", "xautoclaim",
    "xclaim", "xdel", "xgroup", "xinfo", "xlen", "xpending", "xrange", "xread", "xreadgroup",
    "xrevrange", "xsetid", "xtrim",
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
