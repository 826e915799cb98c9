//! Where arguments change what running a command twice does.
//!
//! Each rule gets the arguments after the command's name. What a rule does not understand (an option
//! of a newer server, a number that is none) counts as [`Effect::Write`].

use crate::{args::Arg, request::Effect};

/// SET: with a condition or GET, the second reply is another one.
pub(super) fn set(args: &[Arg<'_>]) -> Effect {
    unless_conditional(args, 2)
}

/// MSETEX: with a condition, the second reply is another one.
pub(super) fn msetex(args: &[Arg<'_>]) -> Effect {
    let pairs = args.first().and_then(|count| std::str::from_utf8(count.as_bytes()).ok());
    match pairs.and_then(|count| count.parse::<usize>().ok()) {
        Some(pairs) => unless_conditional(args, pairs.saturating_mul(2).saturating_add(1)),
        None => Effect::Write,
    }
}

/// Until when is no condition; whatever else stands from here on may be one.
fn unless_conditional(args: &[Arg<'_>], from: usize) -> Effect {
    let mut options = args.iter().skip(from);
    while let Some(option) = options.next() {
        if is_one_of(option, &["EX", "PX", "EXAT", "PXAT"]) {
            options.next();
        } else if !is_one_of(option, &["KEEPTTL"]) {
            return Effect::Write;
        }
    }
    Effect::Repeatable
}

/// GETEX: without options it only reads.
pub(super) fn getex(args: &[Arg<'_>]) -> Effect {
    if args.len() < 2 { Effect::Repeatable } else { Effect::IdempotentWrite }
}

/// LREM: a count of 0 removes every match, any other removes more the second time.
pub(super) fn lrem(args: &[Arg<'_>]) -> Effect {
    match args.get(1) {
        Some(count) if count.as_bytes() == b"0" => Effect::IdempotentWrite,
        _ => Effect::Write,
    }
}

/// FUNCTION LOAD: with REPLACE the second one does the same again, without it is refused.
pub(super) fn function_load(args: &[Arg<'_>]) -> Effect {
    match args {
        [option, _, ..] if is_one_of(option, &["REPLACE"]) => Effect::Repeatable,
        _ => Effect::Write,
    }
}

/// FUNCTION RESTORE: with FLUSH or REPLACE the second one does the same again, else it is refused.
pub(super) fn function_restore(args: &[Arg<'_>]) -> Effect {
    if has_option(args, 1, &["FLUSH", "REPLACE"]) { Effect::Repeatable } else { Effect::Write }
}

/// RESTORE: with REPLACE the second one does the same again, without it is refused.
pub(super) fn restore(args: &[Arg<'_>]) -> Effect {
    if has_option(args, 3, &["REPLACE"]) { Effect::Repeatable } else { Effect::Write }
}

/// SORT and GEORADIUS: they read, unless they store what they find, which may be where they found it.
pub(super) fn unless_stored(args: &[Arg<'_>]) -> Effect {
    if has_option(args, 1, &["STORE", "STOREDIST"]) { Effect::Write } else { Effect::Repeatable }
}

/// ZADD: with INCR it adds to the score, as ZINCRBY does.
pub(super) fn zadd(args: &[Arg<'_>]) -> Effect {
    // The options stand before the first score, and a member may be called INCR.
    let options = args.iter().skip(1);
    let incr = options
        .take_while(|arg| is_one_of(arg, &["NX", "XX", "GT", "LT", "CH", "INCR"]))
        .any(|arg| is_one_of(arg, &["INCR"]));
    if incr { Effect::Write } else { Effect::IdempotentWrite }
}

fn has_option(args: &[Arg<'_>], from: usize, names: &[&str]) -> bool {
    args.iter().skip(from).any(|arg| is_one_of(arg, names))
}

fn is_one_of(arg: &Arg<'_>, names: &[&str]) -> bool {
    names.iter().any(|name| arg.as_bytes().eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::Effect::{IdempotentWrite, Read, Repeatable, Write};
    use crate::request::{Effect, Request};

    fn effect(command: &str) -> Effect {
        Request::new(command).declared_effect()
    }

    #[test]
    fn only_a_set_that_says_ok_whatever_was_there_may_be_repeated() {
        for plain in ["SET k v", "SET k v EX 10", "set k v pxat 1 keepttl", "SET k NX"] {
            assert_eq!(effect(plain), Repeatable, "{plain}");
        }
        for other in ["SET k v NX", "SET k v EX 10 xx", "SET k v GET", "SET k v IFEQ w"] {
            assert_eq!(effect(other), Write, "{other}");
        }
        assert_eq!(effect("SET k v EX"), Repeatable, "refused by the server, twice");
        for plain in ["MSETEX 1 NX v", "MSETEX 2 a 1 b 2 EX 10", "MSETEX 1 a 1 KEEPTTL"] {
            assert_eq!(effect(plain), Repeatable, "{plain}");
        }
        for other in ["MSETEX 1 a 1 NX", "MSETEX 1 a 1 PX 5 XX", "MSETEX x a 1"] {
            assert_eq!(effect(other), Write, "{other}");
        }
    }

    #[test]
    fn a_read_that_stores_is_a_write() {
        assert_eq!(effect("SORT store"), Repeatable);
        assert_eq!(effect("SORT k BY nosort ALPHA"), Repeatable);
        assert_eq!(effect("SORT k LIMIT 1 2 STORE k"), Write);
        assert_eq!(effect("GEORADIUS k 1 2 3 km STOREDIST d"), Write);
        assert_eq!(effect("SORT_RO k"), Read);
    }

    #[test]
    fn options_are_told_from_values() {
        assert_eq!(effect("ZADD k 1 INCR"), IdempotentWrite);
        assert_eq!(effect("ZADD k CH incr 1 m"), Write);
        assert_eq!(effect("RESTORE k 0 REPLACE"), Write);
        assert_eq!(effect("RESTORE k 0 dump ABSTTL REPLACE"), Repeatable);
        assert_eq!(effect("FUNCTION LOAD REPLACE"), Write, "the code may be called so");
        assert_eq!(effect("FUNCTION LOAD replace code"), Repeatable);
        assert_eq!(effect("FUNCTION RESTORE FLUSH"), Write);
        assert_eq!(effect("FUNCTION RESTORE dump FLUSH"), Repeatable);
        assert_eq!(effect("LREM k 0 v"), IdempotentWrite);
        assert_eq!(effect("LREM k 1 0"), Write);
        assert_eq!(effect("GETEX k"), Repeatable);
        assert_eq!(effect("GETEX k PERSIST"), IdempotentWrite);
    }

    #[test]
    fn what_the_caller_says_of_the_effect_goes_first() {
        let request = Request::new("SET").effect(Read).arg("k").arg("v").arg("NX");
        assert_eq!(request.declared_effect(), Read);
    }
}
