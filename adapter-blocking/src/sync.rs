//! What threads meet at: locks, parking, and poll. Those of std and the kernel, or, with
//! `--cfg interleavings`, those of a checker that runs threads in many orders, one after the other,
//! and so finds those in which somebody is never woken.

#[cfg(not(interleavings))]
mod means {
    pub(crate) use rustix::event::poll;
    pub(crate) use std::{
        sync::{Mutex, MutexGuard, atomic::AtomicBool},
        thread, thread_local,
    };
}

#[cfg(interleavings)]
mod means {
    use rustix::{
        event::{PollFd, Timespec},
        io,
    };
    pub(crate) use shuttle::{
        sync::{Mutex, MutexGuard, atomic::AtomicBool},
        thread, thread_local,
    };

    /// The kernel's poll would keep all threads waiting, since they are one to it. No time passes here:
    /// who waits with a limit waits like one without.
    pub(crate) fn poll(fds: &mut [PollFd<'_>], limit: Option<&Timespec>) -> io::Result<usize> {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            let count = rustix::event::poll(fds, Some(&at_once))?;
            if count > 0 || limit == Some(&at_once) {
                return Ok(count);
            }
            thread::yield_now();
        }
    }
}

pub(crate) use means::{AtomicBool, Mutex, MutexGuard, poll, thread, thread_local};
