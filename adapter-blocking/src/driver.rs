//! Who leads, who follows, and who is called when nobody leads.
//!
//! To lead is to hold the [`Poller`]. It lies in the [`Baton`], under a lock, or somebody has it.
//! What keeps it from being forgotten there:
//!
//! 1. Whoever waits either finds it and takes it, or enlists, under the same lock. So nobody enlists
//!    while it lies there unseen.
//! 2. Whoever puts it back, and whoever leaves the list while it lies there, calls one of those
//!    enlisted. The one who is called takes it, or has its own reply already and leaves the list,
//!    which calls the next (2).
//! 3. With nobody enlisted, the keeper is called, if there is something that can't wait for the next
//!    caller: the engine has outputs, a peer is expected to act, or a timer is due before the keeper
//!    would look by itself.
//! 4. News for the leader (outputs, a writer that was blocked) set the stir first. Then, if the
//!    leader sleeps in poll, the bell wakes it; if it is up, it looks at the stir before it lies down
//!    or after it has put the baton back; if nobody leads, 3 applies.
//! 5. A caller's own reply sets its seat's flag first and then rings in the same way, because a
//!    caller that leads sleeps in poll and not in park.
//! 6. If a leader panics, the poller is dropped, and with it core's `Driving`: every request ends,
//!    which wakes all, and the next one starts anew.
//!
//! A reply is decoded by its caller, who holds no baton then.

use std::{
    cell::RefCell,
    future::Future,
    io::{Read, Write},
    os::unix::net::UnixStream,
    pin::pin,
    sync::{Arc, OnceLock, PoisonError, Weak, atomic::Ordering::SeqCst},
    task::{Context, Poll, Wake, Waker},
    time::Instant,
};

use unfazed_core::handle::Driving;

use crate::{
    poller::{Poller, Turn},
    sync::{
        AtomicBool, Mutex, MutexGuard,
        thread::{self, Thread},
        thread_local,
    },
};

/// All that the threads of one client share, beside core's part.
pub(crate) struct Driver {
    bell: Bell,
    baton: Mutex<Baton>,
}

struct Baton {
    /// Here while nobody leads; nowhere before the first request and after the last.
    poller: Option<Box<Poller>>,
    /// Those who wait and do not lead.
    enlisted: Vec<Arc<Seat>>,
    /// Counts those who began to wait.
    arrivals: u64,
    /// What the last leader left: when a timer is due.
    armed: Option<Instant>,
    /// What the last leader left: whether a peer is expected to act.
    watch: bool,
    keeper: Option<Thread>,
    /// Counts the starts: an earlier keeper has nothing more to do.
    starts: u64,
    /// When the keeper looks by itself.
    alarm: Option<Instant>,
    /// The client is closed.
    over: bool,
}

/// Gets a leader out of poll, and remembers that it has something to carry out.
pub(crate) struct Bell {
    stirred: AtomicBool,
    asleep: AtomicBool,
    /// To be rung, and to be heard.
    pair: OnceLock<(UnixStream, UnixStream)>,
}

/// One waiting thread.
struct Seat {
    thread: Thread,
    woken: AtomicBool,
    driver: Weak<Driver>,
}

impl Driver {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Driver {
            bell: Bell {
                stirred: AtomicBool::new(false),
                asleep: AtomicBool::new(false),
                pair: OnceLock::new(),
            },
            baton: Mutex::new(Baton {
                poller: None,
                enlisted: Vec::new(),
                arrivals: 0,
                armed: None,
                watch: true,
                keeper: None,
                starts: 0,
                alarm: None,
                over: false,
            }),
        })
    }

    /// Begins: from here on there is something to lead.
    pub(crate) fn start(self: &Arc<Self>, driving: Driving) -> Result<(), &'static str> {
        self.bell.hang().ok_or("no file descriptors are left for waking a waiting thread")?;
        let poller = Box::new(Poller::new(driving, Waker::from(self.clone())));
        self.bell.stir();
        let mut baton = self.lock();
        let (driver, start) = (self.clone(), baton.starts + 1);
        let keeper = thread::Builder::new().name("unfazed".into());
        let Ok(keeper) = keeper.spawn(move || driver.keep(start)) else {
            // The poller's end wakes others, and that is no work for a lock.
            drop(baton);
            drop(poller);
            return Err("no thread could be started for the times when nobody waits");
        };
        baton.starts = start;
        baton.over = false;
        baton.call_keeper();
        baton.keeper = Some(keeper.thread().clone());
        baton.poller = Some(poller);
        baton.call(&self.bell);
        Ok(())
    }

    /// Waits until `future` has ended, or until `limit`; leads if nobody else does.
    pub(crate) fn block_on<F: Future>(
        self: &Arc<Self>,
        future: F,
        limit: Option<Instant>,
    ) -> Option<F::Output> {
        self.wait_for(future, limit, |driver, seat| driver.lead_or_follow(seat, limit))
    }

    /// Waits likewise, but leaves it to others to lead.
    pub(crate) fn sit_by<F: Future>(
        self: &Arc<Self>,
        future: F,
        limit: Option<Instant>,
    ) -> Option<F::Output> {
        self.wait_for(future, limit, |_, seat| {
            while !seat.is_woken() && !is_past(limit) {
                park(limit);
            }
        })
    }

    fn wait_for<F: Future>(
        self: &Arc<Self>,
        future: F,
        limit: Option<Instant>,
        wait: impl Fn(&Self, &Arc<Seat>),
    ) -> Option<F::Output> {
        let mut future = pin!(future);
        let seat = Seat::of_this_thread(self);
        let waker = Waker::from(seat.clone());
        let mut cx = Context::from_waker(&waker);
        loop {
            seat.woken.store(false, SeqCst);
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return Some(output);
            }
            if is_past(limit) {
                return None;
            }
            wait(self, &seat);
        }
    }

    /// Returns when the seat was woken or the limit is past.
    fn lead_or_follow(&self, seat: &Arc<Seat>, limit: Option<Instant>) {
        let is_done = || seat.is_woken() || is_past(limit);
        let mut enlisted = false;
        let mut baton = self.lock();
        baton.arrivals += 1;
        loop {
            let done = is_done();
            let poller = if done { None } else { baton.poller.take() };
            if enlisted && (done || poller.is_some()) {
                baton.enlisted.retain(|other| !Arc::ptr_eq(other, seat));
            }
            if done {
                return baton.call(&self.bell);
            }
            if let Some(poller) = poller {
                drop(baton);
                let mut lead = Lead { driver: self, poller: Some(poller), closed: false };
                while !is_done() && lead.turn(limit, &|| seat.is_woken()) == Turn::Open {}
                return;
            }
            if !enlisted {
                enlisted = true;
                baton.enlisted.push(seat.clone());
            }
            drop(baton);
            park(limit);
            baton = self.lock();
        }
    }

    /// Carries out what there is, if nobody leads; waits for nothing.
    pub(crate) fn attend(&self) {
        let Some(poller) = self.lock().poller.take() else { return };
        self.bell.stir();
        let mut lead = Lead { driver: self, poller: Some(poller), closed: false };
        let _ = lead.turn(None, &|| true);
    }

    /// The life of the keeper: the thread that leads when nobody else does.
    fn keep(self: Arc<Self>, start: u64) {
        let mut seen = None;
        let mut baton = self.lock();
        while !baton.over && baton.starts == start {
            let idle = seen == Some(baton.arrivals);
            seen = Some(baton.arrivals);
            if baton.enlisted.is_empty()
                && let Some(poller) = baton.poller.take()
            {
                drop(baton);
                let mut lead = Lead { driver: &self, poller: Some(poller), closed: false };
                let mut open = lead.turn(None, &|| true);
                // Looks on for as long as nobody comes who would rather do so.
                while open == Turn::Open && self.is_left_alone(&lead, seen.filter(|_| idle)) {
                    open = lead.turn(None, &|| false);
                }
                drop(lead);
                baton = self.lock();
                if baton.over {
                    break;
                }
            }
            // While somebody leads, the baton's return is what to wait for.
            baton.alarm = baton.poller.as_ref().and(baton.armed);
            let alarm = baton.alarm;
            drop(baton);
            park(alarm);
            baton = self.lock();
        }
    }

    fn is_left_alone(&self, lead: &Lead<'_>, idle_since: Option<u64>) -> bool {
        let baton = self.lock();
        let watch = lead.poller.as_ref().is_some_and(|poller| poller.watch);
        baton.enlisted.is_empty() && (watch || idle_since == Some(baton.arrivals))
    }

    fn lock(&self) -> MutexGuard<'_, Baton> {
        self.baton.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Baton {
    /// Calls somebody, if nobody leads and somebody should.
    fn call(&mut self, bell: &Bell) {
        if self.poller.is_none() {
            return;
        }
        if let Some(seat) = self.enlisted.last() {
            // The last one to come has the longest to wait, as a rule.
            return seat.thread.unpark();
        }
        let sooner = self.armed.is_some_and(|armed| self.alarm.is_none_or(|alarm| armed < alarm));
        if bell.is_stirred() || self.watch || sooner {
            self.call_keeper();
        }
    }

    fn call_keeper(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.unpark();
        }
    }
}

/// Somebody's turn to lead. When it is dropped, the baton goes back.
struct Lead<'a> {
    driver: &'a Driver,
    /// Gone when the client is closed, or a turn panicked.
    poller: Option<Box<Poller>>,
    closed: bool,
}

impl Lead<'_> {
    fn turn(&mut self, limit: Option<Instant>, hurry: &dyn Fn() -> bool) -> Turn {
        let Some(mut poller) = self.poller.take() else { return Turn::Closed };
        let turn = poller.turn(&self.driver.bell, limit, hurry);
        match turn {
            Turn::Open => self.poller = Some(poller),
            Turn::Closed => self.closed = true,
        }
        turn
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut baton = self.driver.lock();
        if let Some(poller) = self.poller.take() {
            baton.armed = poller.due();
            baton.watch = poller.watch;
            baton.poller = Some(poller);
            baton.call(&self.driver.bell);
        } else if self.closed {
            baton.over = true;
            baton.call_keeper();
        } else {
            self.driver.bell.get_up();
        }
    }
}

/// Woken when there is something to carry out.
impl Wake for Driver {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.bell.stir();
        if !self.bell.ring() {
            self.lock().call(&self.bell);
        }
    }
}

/// Woken when what its thread waits for has happened.
impl Wake for Seat {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, SeqCst);
        self.thread.unpark();
        if let Some(driver) = self.driver.upgrade() {
            driver.bell.ring();
        }
    }
}

impl Seat {
    /// A thread waits for one client at a time, and mostly for the same.
    fn of_this_thread(driver: &Arc<Driver>) -> Arc<Self> {
        thread_local! {
            static SEAT: RefCell<Option<Arc<Seat>>> = const { RefCell::new(None) };
        }
        let new = || {
            Arc::new(Seat {
                thread: thread::current(),
                woken: AtomicBool::new(false),
                driver: Arc::downgrade(driver),
            })
        };
        let kept = SEAT.try_with(|place| {
            let mut place = place.borrow_mut();
            match &*place {
                Some(seat) if seat.driver.as_ptr() == Arc::as_ptr(driver) => seat.clone(),
                _ => place.insert(new()).clone(),
            }
        });
        kept.unwrap_or_else(|_| new())
    }

    fn is_woken(&self) -> bool {
        self.woken.load(SeqCst)
    }
}

impl Bell {
    /// Makes the pair, where there is none yet.
    fn hang(&self) -> Option<()> {
        if self.pair.get().is_none() {
            let (rope, ear) = UnixStream::pair().ok()?;
            rope.set_nonblocking(true).ok()?;
            ear.set_nonblocking(true).ok()?;
            let _ = self.pair.set((rope, ear));
        }
        Some(())
    }

    /// Something is to be carried out.
    pub(crate) fn stir(&self) {
        self.stirred.store(true, SeqCst);
    }

    pub(crate) fn is_stirred(&self) -> bool {
        self.stirred.load(SeqCst)
    }

    pub(crate) fn take_stir(&self) -> bool {
        self.is_stirred() && self.stirred.swap(false, SeqCst)
    }

    /// The leader is about to sleep, and looks once more at what it would sleep through.
    pub(crate) fn lie_down(&self) {
        self.asleep.store(true, SeqCst);
    }

    pub(crate) fn get_up(&self) {
        self.asleep.store(false, SeqCst);
    }

    /// Wakes the leader, if it sleeps.
    fn ring(&self) -> bool {
        let asleep = self.asleep.load(SeqCst) && self.asleep.swap(false, SeqCst);
        if asleep && let Some((rope, _)) = self.pair.get() {
            // If it takes nothing, it is full of what nobody has heard yet.
            let _ = (&mut &*rope).write(&[0]);
        }
        asleep
    }

    /// What a sleeping leader listens to.
    pub(crate) fn ear(&self) -> Option<&UnixStream> {
        self.pair.get().map(|(_, ear)| ear)
    }

    pub(crate) fn hear(&self) {
        if let Some(mut ear) = self.ear() {
            let _ = ear.read(&mut [0; 64]);
        }
    }
}

fn is_past(limit: Option<Instant>) -> bool {
    limit.is_some_and(|limit| limit <= Instant::now())
}

fn park(until: Option<Instant>) {
    match until {
        None => thread::park(),
        Some(until) => thread::park_timeout(until.saturating_duration_since(Instant::now())),
    }
}
