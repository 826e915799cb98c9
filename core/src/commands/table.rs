//! Every command the client knows, in alphabetical order.
//!
//! `read`, `repeatable`, `idempotent` and `write` are the effects of [`Effect`]; where an argument
//! changes the effect (SET with NX), the command's method says so.

use super::spec::{
    Keys::{All, Counted, EveryOther, First, FirstTwo, None},
    Keys, Spec,
};
use crate::request::Effect;

const fn read(name: &'static str, keys: Keys) -> Spec {
    Spec::new(name, Effect::Read, keys)
}

const fn repeatable(name: &'static str, keys: Keys) -> Spec {
    Spec::new(name, Effect::Repeatable, keys)
}

const fn idempotent(name: &'static str, keys: Keys) -> Spec {
    Spec::new(name, Effect::IdempotentWrite, keys)
}

const fn write(name: &'static str, keys: Keys) -> Spec {
    Spec::new(name, Effect::Write, keys)
}

pub(super) static TABLE: [Spec; 3] = [
    write("CLIENT SETINFO", None).session(),
    read("GET", First),
    repeatable("SET", First),
];
