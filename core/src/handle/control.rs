//! The task that carries out what the engine asks for: look-ups, connections, timers.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Instant,
};

use super::{
    connection,
    runtime::Runtime,
    shared::{Driving, Shared},
    state::{Drained, Job, Wakes},
};
use crate::{
    engine::{Input, Lookup},
    failure::Cause,
};

/// Spawns the control task in the caller's context.
pub(super) fn start<R: Runtime>(driving: Driving) -> Result<(), &'static str> {
    R::spawn(control::<R>(driving))
}

/// Ends when the client is closed. If it is dropped before, so is `driving`, and every request ends.
async fn control<R: Runtime>(driving: Driving) {
    let shared = driving.shared();
    let mut wakes = Wakes::default();
    let mut jobs = Vec::new();
    let mut armed: Option<Instant> = None;
    let mut sleep = pin!(None);
    poll_fn(|cx| {
        loop {
            let now = R::now();
            let drained = shared.with_wakes(&mut wakes, |state, wakes| {
                state.drain(cx.waker(), now, &mut jobs, wakes)
            });
            for job in jobs.drain(..) {
                run_job::<R>(shared, job);
            }
            let Drained::Wait(until) = drained else { return Poll::Ready(()) };
            if until != armed {
                armed = until;
                sleep.set(until.map(R::sleep_until));
            }
            match sleep.as_mut().as_pin_mut().map(|sleep| sleep.poll(cx)) {
                None | Some(Poll::Pending) => return Poll::Pending,
                Some(Poll::Ready(())) => {
                    // It only wakes: the engine compares for itself whether the time has come.
                    armed = None;
                    sleep.set(None);
                    shared.input(Input::Timeout);
                }
            }
        }
    })
    .await;
}

fn run_job<R: Runtime>(shared: &Arc<Shared>, job: Job) {
    // A task that can't be spawned is dropped, as are the others when their runtime is: the guards
    // inside see to what that means.
    let _ = match job {
        Job::Resolve { lookup, host, port } => {
            R::spawn(look_up::<R>(shared.clone(), lookup, host, port))
        }
        Job::Open { conn, target, socket } => {
            R::spawn(connection::run::<R>(connection::Guard::new(shared, conn), target, socket))
        }
    };
}

async fn look_up<R: Runtime>(shared: Arc<Shared>, lookup: Lookup, host: Arc<str>, port: u16) {
    let found = R::resolve(host, port).await;
    let addresses = match &found {
        Ok(addresses) => Ok(&**addresses),
        Err(error) => Err(Cause::NameNotFound(error.to_string().into())),
    };
    shared.input(Input::Resolved { lookup, addresses });
}
