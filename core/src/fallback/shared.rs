//! The embedded store as programs hold it: shared, and with a clock that tests can move.

use std::{
    fmt,
    marker::PhantomData,
    sync::{Arc, PoisonError},
    time::{Duration, SystemTime},
};

use super::{
    Part, ScriptStore, Stopped,
    hub::{Hub, Mail, Nudge, is_about_channels, misuse_of_channels},
    script::Declared,
    store::{Answer, Bounds, Savepoint, Store as Database},
};
use crate::{
    Now,
    commands::Spec,
    config::Config,
    config::{MemoryLimits, SubscriptionLimits},
    failure::Bound,
    pubsub::{Action, Topic},
    request::Effect,
    resp::{Reply, Source, Value},
    sync::{Mutex, MutexGuard},
};

/// The embedded store, to be shared: by several clients, and by a test with the code under test.
///
/// A client of `memory://` has a store of its own, which ends with it. One that is made here is
/// shared by all clients that are connected to it (`Client::connect(&store)`) and by whoever holds it:
/// a clone is another handle to the same store, which lives as long as any of them.
///
/// It is as true to Redis 7.0 as `memory://` is: the same replies, errors and expiry for the commands
/// that it supports. It evicts nothing; beyond its [`Bounds`] it answers OOM as Redis does.
///
/// Its clients hear each other's PUBLISH, as those of one server do.
///
/// # Time
///
/// It goes by the clock until a test takes it in hand: [`advance`](Store::advance) moves it forward,
/// [`freeze`](Store::freeze) and [`set_time`](Store::set_time) have it stand still but for that. All
/// that depends on the wall clock goes by it, for all clients alike: what expires, and what TIME says.
/// So a test of expiry waits for nothing:
///
/// ```
/// # use unfazed_core::{Now, fallback::Ambient};
/// # enum Clock {}
/// # impl Ambient for Clock {
/// #     fn now() -> Now { Now::new(std::time::Instant::now(), std::time::SystemTime::now()) }
/// #     fn seed() -> u64 { 7 }
/// # }
/// # type Store = unfazed_core::Store<Clock>; // this is what each adapter says
/// use std::time::Duration;
/// use unfazed_core::resp::Value;
///
/// let store = Store::new();
/// store.freeze();
/// assert_eq!(store.execute(&["SET", "session:7", "Ada", "EX", "60"]), Value::OK);
///
/// store.advance(Duration::from_secs(59));
/// assert_eq!(store.execute(&["TTL", "session:7"]), Value::Integer(1));
/// assert_eq!(store.execute(&["GET", "session:7"]), Value::Bulk("Ada".into()));
/// store.advance(Duration::from_secs(2));
/// assert_eq!(store.execute(&["GET", "session:7"]), Value::Null);
/// assert!(store.is_empty());
/// ```
///
/// As in Redis a key is still there in the millisecond in which its time is up: 60 s in a frozen store do
/// not end a session of 60 s, 61 s do.
///
/// Deadlines, retries and whatever else is a client's own go by the real clock.
///
/// # Locks
///
/// A lock inside is held for one command, or one transaction, at a time, and never while code of
/// others runs.
///
/// # The parameter
///
/// `A` is where [`new`](Store::new) takes the time and randomness from. Each adapter has its own, and
/// a `Store` under its own name that needs no parameter. Code that is handed a store and makes none
/// can take any: `fn fill<A>(store: &Store<A>)`.
pub struct Store<A = ()> {
    inner: Arc<Mutex<Inner>>,
    ambient: PhantomData<fn() -> A>,
}

/// What surrounds a [`Store`]: a clock and randomness, neither of which the core has. An adapter
/// brings it.
pub trait Ambient: 'static {
    /// Reads both clocks.
    fn now() -> Now;

    /// A number that nobody could have known.
    fn seed() -> u64;
}

struct Inner {
    database: Database,
    clock: Clock,
    hub: Hub,
}

/// A client's place among those of one store that hear each other. Dropped, it is given up.
pub(crate) struct Membership {
    store: Store,
    id: u64,
}

/// What time it is in the store.
struct Clock {
    /// How the time is read where no client says what it is. A store that belongs to one client needs
    /// none.
    read: Option<fn() -> Now>,
    /// How far it is ahead of that.
    ahead: Duration,
    /// Where it stands still, since the Unix epoch.
    standing: Option<Duration>,
}

/// What time can't go beyond: the end of the year 9999, since the Unix epoch. Every clock, and every
/// number that commands calculate with, can hold it.
const TIME_MAX: Duration = Duration::from_secs(253_402_300_799);

const NOT_SUPPORTED: &str = "ERR the embedded store does not support this command";

impl<A: Ambient> Store<A> {
    /// An empty store that may hold as much as that of `memory://` by default: 10,000 entries and
    /// 100 MiB.
    #[must_use]
    pub fn new() -> Self {
        Self::with_bounds(Bounds::default())
    }

    /// An empty store that may hold so much.
    ///
    /// ```
    /// # use unfazed_core::{Now, fallback::Ambient};
    /// # enum Clock {}
    /// # impl Ambient for Clock {
    /// #     fn now() -> Now { Now::new(std::time::Instant::now(), std::time::SystemTime::now()) }
    /// #     fn seed() -> u64 { 7 }
    /// # }
    /// # type Store = unfazed_core::Store<Clock>;
    /// use unfazed_core::{fallback::Bounds, resp::Value};
    ///
    /// let store = Store::with_bounds(Bounds { entries_max: 1, ..Bounds::default() });
    /// assert_eq!(store.execute(&["SET", "a", "1"]), Value::OK);
    /// let refused = store.execute(&["SET", "b", "1"]);
    /// assert!(matches!(refused, Value::Error(text) if text.starts_with(b"OOM ")));
    /// ```
    #[must_use]
    pub fn with_bounds(bounds: Bounds) -> Self {
        Self::with_seed(A::seed(), bounds)
    }

    /// The same, with randomness of one's own. Where the seed, the times and the calls are the same, so
    /// is all that comes back: what RANDOMKEY picks, for one.
    ///
    /// Whoever chooses keys and knows the seed can make the store slow.
    #[must_use]
    pub fn with_seed(seed: u64, bounds: Bounds) -> Self {
        Self::over(Database::new(seed, bounds), Some(A::now))
    }
}

impl<A> Store<A> {
    /// Runs one command without any client: its name, in any case, and its arguments. For setting a
    /// test up, and for seeing what came of it.
    ///
    /// Gives the reply in the shape that RESP3 gives it. Errors are replies too: OOM where there is no
    /// room, and one of the store's own for a command that it does not support. Clients hear what is
    /// published.
    pub fn execute<W: AsRef<[u8]>>(&self, words: &[W]) -> Value {
        let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
        if let Some(value) = self.execute_on_channels(&words) {
            return value;
        }
        let now = self.now();
        match self.lock().execute(&words, now) {
            Answer::Reply(value) | Answer::Full(value) => value,
            Answer::Unsupported => Value::error(NOT_SUPPORTED),
        }
    }

    /// Runs a command about channels; `None` for all others.
    fn execute_on_channels(&self, words: &[&[u8]]) -> Option<Value> {
        let (name, rest) = words.split_first()?;
        let command = Spec::find(std::str::from_utf8(name).ok()?)?;
        let spec = rest.first().and_then(|word| command.subcommand(word)).unwrap_or(command);
        if !is_about_channels(spec) {
            return None;
        }
        if let Some(error) = misuse_of_channels(spec, words) {
            return Some(Value::error(error));
        }
        let (value, nudges) =
            Store::from(self).answer_about_channels(spec.name(), &words[spec.words()..], None);
        nudges.iter().for_each(Nudge::give);
        value
    }

    /// How many entries there are, without those that have expired.
    #[must_use]
    pub fn len(&self) -> usize {
        let now = self.now();
        let Inner { database, clock, .. } = &mut *self.lock();
        database.expire(clock.shifted(now));
        database.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes away all entries. The clock stays as it is.
    pub fn clear(&self) {
        self.lock().database.clear();
    }

    /// What it may hold.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.lock().database.bounds()
    }

    /// What time it is in the store.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        let now = self.now();
        SystemTime::UNIX_EPOCH + self.lock().clock.shifted(now).unix
    }

    /// Moves the store's time forward by `span`. It does not go beyond the year 9999.
    pub fn advance(&self, span: Duration) {
        let clock = &mut self.lock().clock;
        let time = clock.standing.as_mut().unwrap_or(&mut clock.ahead);
        *time = later(*time, span);
    }

    /// Has time stand still: from now on it passes only by [`advance`](Store::advance).
    pub fn freeze(&self) {
        let now = self.now();
        let clock = &mut self.lock().clock;
        clock.standing = Some(clock.shifted(now).unix);
    }

    /// Sets the time, forward or back, and has it stand still there. A moment before 1970 counts as
    /// 1970, one after the year 9999 as its end.
    pub fn set_time(&self, moment: SystemTime) {
        let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.lock().clock.standing = Some(since.min(TIME_MAX));
    }

    fn over(database: Database, read: Option<fn() -> Now>) -> Self {
        let clock = Clock { read, ahead: Duration::ZERO, standing: None };
        let inner = Inner { database, clock, hub: Hub::default() };
        Store { inner: Arc::new(Mutex::new(inner)), ambient: PhantomData }
    }

    /// Reads the clock. Not under the lock: how it is read is foreign code.
    fn now(&self) -> Now {
        let read = self.lock().clock.read;
        read.expect("whoever can ask made the store, and with a clock")()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic inside is our bug, and a poisoned lock would spread it to every client.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// One that belongs to a single client.
    pub(crate) fn private(seed: u64, bounds: Bounds) -> Self {
        Self::over(Database::new(seed, bounds), None)
    }

    /// Runs one command of a client.
    pub(crate) fn execute_at(&self, words: &[&[u8]], now: Now) -> Answer {
        self.lock().execute(words, now)
    }

    /// Runs a transaction of a client; `None` where something at a key that it watched has changed.
    pub(crate) fn execute_all_at(
        &self,
        parts: &[Part<'_>],
        watched: &[Savepoint],
        now: Now,
    ) -> Option<Result<Vec<Reply>, Stopped>> {
        let Inner { database, clock, .. } = &mut *self.lock();
        let now = clock.shifted(now);
        if !watched.iter().all(|before| database.stands_as(before, now)) {
            return None;
        }
        let reply = |value| Reply::from(value).with_source(Source::Store);
        let values = database.execute_all(parts, now);
        Some(values.map(|values| values.into_iter().map(reply).collect()))
    }

    /// What stands at some keys, to be compared with what does later. Takes a copy of it.
    pub(crate) fn savepoint_at(&self, keys: &[&[u8]], now: Now) -> Savepoint {
        let Inner { database, clock, .. } = &*self.lock();
        database.savepoint(keys.iter().copied(), clock.shifted(now))
    }

    /// What stands at the keys that a script's caller declared, for the script to work on.
    pub(crate) fn lend_to_script(
        &self,
        spec: &Spec,
        args: &[&[u8]],
        seed: u64,
        now: Now,
    ) -> ScriptStore {
        let Inner { database, clock, .. } = &*self.lock();
        let now = clock.shifted(now);
        let mut lent = ScriptStore::new(seed, database.bounds(), now)
            .read_only(spec.effect() == Effect::Read)
            .before(database.savepoint(spec.keys().of(args), now));
        for key in spec.keys().of(args) {
            lent.store_mut().borrow_from(database, key, now);
            lent.declare(key, Declared::OWN);
        }
        lent
    }

    /// Takes over what a script has written, all of it or nothing. Gives whether it did: not where what
    /// stands at the keys is no longer what was lent.
    pub(crate) fn take_from_script(&self, from: &ScriptStore, now: Now) -> Result<bool, Bound> {
        let Inner { database, clock, .. } = &mut *self.lock();
        let now = clock.shifted(now);
        if !from.was_lent().is_some_and(|before| database.stands_as(before, now)) {
            return Ok(false);
        }
        let wrote: Vec<_> = from.wrote().map(|(key, _)| &key[..]).collect();
        database.take_over(from.store(), &wrote, now)?;
        Ok(true)
    }

    /// Takes a client in among those that hear each other.
    pub(crate) fn join(&self, limits: &SubscriptionLimits, nudge: Option<Nudge>) -> Membership {
        Membership { store: self.clone(), id: self.lock().hub.join(limits, nudge) }
    }

    /// Answers a command of a client about channels, by its name; `None` for all others. Gives who is to be
    /// told that there is mail, once no lock is held any more.
    pub(crate) fn answer_about_channels(
        &self,
        name: &str,
        args: &[&[u8]],
        asking: Option<&Membership>,
    ) -> (Option<Value>, Vec<Nudge>) {
        let mut nudges = Vec::new();
        let asking = asking.map(|membership| membership.id);
        let value = self.lock().hub.answer(name, args, asking, &mut nudges);
        (value, nudges)
    }

    /// Which bound the last write was in the way of that was refused for lack of room.
    pub(crate) fn lack(&self) -> Bound {
        self.lock().database.lack()
    }

    /// Entries and bytes, with those that have expired and were not met yet.
    pub(crate) fn size(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.database.len(), inner.database.bytes())
    }
}

impl Membership {
    /// The client has subscribed to a topic, or given it up.
    pub(crate) fn change(&self, action: Action, topic: &Topic) {
        let wanted = matches!(action, Action::Subscribe);
        self.store.lock().hub.set(self.id, topic.kind, &topic.name, wanted);
    }

    /// What was published and this client has not heard yet.
    pub(crate) fn take_mail(&self) -> Mail {
        self.store.lock().hub.take_mail(self.id)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let left = self.store.lock().hub.leave(self.id);
        drop(left);
    }
}

impl Inner {
    fn execute(&mut self, words: &[&[u8]], now: Now) -> Answer {
        let now = self.clock.shifted(now);
        self.database.execute(words, now)
    }
}

impl Clock {
    /// The store's time, when it is `now` elsewhere.
    fn shifted(&self, now: Now) -> Now {
        let unix = self.standing.unwrap_or_else(|| later(now.unix, self.ahead));
        Now { unix, ..now }
    }
}

fn later(time: Duration, span: Duration) -> Duration {
    time.saturating_add(span).min(TIME_MAX)
}

impl Default for Bounds {
    /// What memory may hold by default: 10,000 entries and 100 MiB.
    fn default() -> Self {
        Bounds::from(&MemoryLimits::default())
    }
}

impl<A: Ambient> Default for Store<A> {
    fn default() -> Self {
        Store::new()
    }
}

/// Another handle to the same store.
impl<A> Clone for Store<A> {
    fn clone(&self) -> Self {
        Store { inner: self.inner.clone(), ambient: PhantomData }
    }
}

/// Two handles are equal where they are handles to the same store.
impl<A> PartialEq for Store<A> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl<A> Eq for Store<A> {}

impl<A> From<&Store<A>> for Config {
    /// A client of this store; see [`Config::in_store`].
    fn from(store: &Store<A>) -> Self {
        Config::in_store(store)
    }
}

impl<A> From<Store<A>> for Config {
    /// A client of this store; see [`Config::in_store`].
    fn from(store: Store<A>) -> Self {
        Config::in_store(&store)
    }
}

impl<A> From<&Store<A>> for Store {
    /// The same store, by whoever it was made.
    fn from(store: &Store<A>) -> Self {
        Store { inner: store.inner.clone(), ambient: PhantomData }
    }
}

impl<A> fmt::Debug for Store<A> {
    /// Counts only: keys and values can be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { database, clock, .. } = &*self.lock();
        f.debug_struct("Store")
            .field("entries", &database.len())
            .field("bytes", &database.bytes())
            .field("bounds", &database.bounds())
            .field("ahead", &clock.ahead)
            .field("standing", &clock.standing)
            .finish()
    }
}

#[cfg(test)]
mod tests;
