//! Locks: those of std, or, with `--cfg interleavings`, those of a checker that runs threads in many
//! orders, one after the other, and so finds those in which somebody is never woken.

#[cfg(interleavings)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard};
#[cfg(not(interleavings))]
pub(crate) use std::sync::{Mutex, MutexGuard};
