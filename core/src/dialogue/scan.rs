//! Scans: everything there is, page by page.
//!
//! ```text
//!  page ──▶ items, and the cursor of the next page
//!             │ 0: that was all
//!             │ else: the next page is asked for, while this one's items are given
//!             ▼
//!  page from another connection? ──▶ who is it? ──the same process──▶ the page again
//!                                        └────────another, or unknown──▶ from the beginning
//! ```
//!
//! A cursor is a place in the order in which one server process keeps its keys, and each process keeps
//! them in an order of its own. Handed to another one (after a restart, after a failover) a cursor is
//! accepted all the same, and whatever lies before that place in the *other* order is passed over
//! without a word. So a scan that is carried on somewhere else begins anew: some items come twice,
//! which a scan may do anyway, and none is left out.
//!
//! In a cluster what lies in one key is scanned at the node of its slot, wherever that goes. All keys are
//! scanned node after node, and each node is such a server; `coverage` knows whose turn it is, and which
//! slots have been had in full.

mod coverage;

use std::{collections::VecDeque, fmt, time::Duration};

use super::{Answer, Converse, Dialogue, Heard, Step, decode, is_from_memory};
use crate::{
    Failure, Now,
    args::ToArg,
    commands::{ScanOptions, Spec},
    config::{Backoff, Config, Deployment},
    engine::Batch,
    failure::{Cause, Executed, FailureKind, MemoryRefusal},
    reply::FromReply,
    request::Request,
    resp::{Reply, Source},
    slot::slot,
};
use coverage::{Claim, Coverage, Next};

/// How often a scan begins anew, because the server that it was at is gone, before it gives up.
///
/// Each time costs what the scan has cost so far, and a server that is replaced that often will hardly
/// stay for long enough the next time.
const RESTARTS_MAX: u32 = 8;

/// How often in a row the connection may change under a scan before it gives up. Each time took a
/// lost connection and a new one, so this is a server that can't be worked with.
const UNSURE_MAX: u32 = 32;

/// In a cluster this may also be a slot that is changing hands, which takes its time. 32 of these pauses
/// are about 12 seconds.
const UNSURE_PAUSE: Backoff =
    Backoff { base: Duration::from_millis(2), max: Duration::from_millis(500) };

/// Scans: everything there is, page by page, while others write.
///
/// What is there from the beginning of a scan to its end comes up at least once, and may come up more
/// often; what comes or goes meanwhile may come up or not. A scan ends with an error where there is one,
/// and never early. It holds two pages at most: while the items of one are given, the next is under
/// way. A page is a read and is asked for again when a connection is lost; when the server has been
/// restarted or replaced, its cursors are worth nothing and the scan begins anew.
///
/// On the async clients:
///
/// ```
/// # mod unfazed_tokio { pub use unfazed_core::{*, handle::Handle as Client}; }
/// use unfazed_tokio::{Client, prelude::*};
///
/// async fn print_users(client: &Client) -> Result<(), Failure> {
///     let mut keys = client.scan_match::<String>("user:*");
///     while let Some(key) = keys.next().await {
///         println!("{}", key?);
///     }
///     Ok(())
/// }
/// ```
///
/// On the blocking one a scan is an iterator: `for key in client.scan_match::<String>("user:*")`.
///
/// A key or value that is no `T` ends the scan with an error. Where keys may be anything, ask for
/// `Bytes`.
///
/// In a cluster a scan of all keys visits all nodes that serve slots, one after the other, and keeps its
/// promise while slots move and nodes fail over: it visits a node again for slots that have come to it
/// meanwhile, and gives up, with an error, only where they go on moving for some ten seconds. It asks the
/// nodes for CLUSTER NODES, which its user has to be allowed. A pattern with a hash tag in its plain
/// beginning, such as `{user:7}:*`, is looked for where that slot is and nowhere else. The command
/// SCAN itself, with a cursor of one's own, is refused there: a cursor belongs to one node.
///
/// While the server is down, a scan gets what memory has where every key may be answered from there, which
/// takes a rule for `*` whatever the pattern of the scan, and [`Scan::source`] says so; one that was begun
/// on the server is not carried on there, but fails. In a cluster a scan of all keys that
/// comes to a node that is down fails: at once, or after one deadline where keys may wait for it. What memory
/// knows of that shard's keys is not given then, since a scan is to miss nothing, and memory knows of those
/// alone that this client has dealt with; `keys` gives them, and says that it does.
pub trait Scans: Converse {
    /// All keys. O(keys) in all, O(1) a page. Since 2.8.
    fn scan<T: FromReply + Send + 'static>(&self) -> Self::Conversation<Scan<T>> {
        self.scan_with(ScanOptions::new())
    }

    /// All keys that match a glob-style pattern. The server looks at all keys all the same. Since 2.8.
    fn scan_match<T: FromReply + Send + 'static>(
        &self,
        pattern: impl AsRef<[u8]>,
    ) -> Self::Conversation<Scan<T>> {
        self.scan_with(ScanOptions::new().pattern(&pattern))
    }

    /// All keys of a pattern, a type, or both, with pages of a size of one's own. Since 2.8; by type
    /// since 6.0.
    fn scan_with<T: FromReply + Send + 'static>(
        &self,
        options: ScanOptions<'_>,
    ) -> Self::Conversation<Scan<T>> {
        self.converse(Scan::new(const { Spec::of("SCAN") }, None, options))
    }

    /// All fields of a hash with their values. O(fields) in all, O(1) a page. Since 2.8.
    fn hscan<F, V>(&self, key: impl ToArg) -> Self::Conversation<Scan<(F, V)>>
    where
        F: FromReply + Send + 'static,
        V: FromReply + Send + 'static,
    {
        self.hscan_with(key, ScanOptions::new())
    }

    /// All fields that match a pattern, with their values, with pages of a size of one's own. Since 2.8.
    fn hscan_with<F, V>(
        &self,
        key: impl ToArg,
        options: ScanOptions<'_>,
    ) -> Self::Conversation<Scan<(F, V)>>
    where
        F: FromReply + Send + 'static,
        V: FromReply + Send + 'static,
    {
        self.converse(Scan::new(const { Spec::of("HSCAN") }, Some(&key), options))
    }

    /// All fields of a hash that match, without their values. Since 7.4.
    fn hscan_fields<F: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        options: ScanOptions<'_>,
    ) -> Self::Conversation<Scan<F>> {
        let scan = Scan::new(const { Spec::of("HSCAN") }, Some(&key), options);
        self.converse(scan.without_values())
    }

    /// All members of a set. O(members) in all, O(1) a page. Since 2.8.
    fn sscan<T: FromReply + Send + 'static>(&self, key: impl ToArg) -> Self::Conversation<Scan<T>> {
        self.sscan_with(key, ScanOptions::new())
    }

    /// All members that match a pattern, with pages of a size of one's own. Since 2.8.
    fn sscan_with<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        options: ScanOptions<'_>,
    ) -> Self::Conversation<Scan<T>> {
        self.converse(Scan::new(const { Spec::of("SSCAN") }, Some(&key), options))
    }

    /// All members of a sorted set with their scores, in no order. O(members) in all, O(1) a page.
    /// Since 2.8.
    fn zscan<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
    ) -> Self::Conversation<Scan<(T, f64)>> {
        self.zscan_with(key, ScanOptions::new())
    }

    /// All members that match a pattern, with their scores, with pages of a size of one's own.
    /// Since 2.8.
    fn zscan_with<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        options: ScanOptions<'_>,
    ) -> Self::Conversation<Scan<(T, f64)>> {
        self.converse(Scan::new(const { Spec::of("ZSCAN") }, Some(&key), options))
    }
}

impl<C: Converse + ?Sized> Scans for C {}

/// The dialogue of SCAN, HSCAN, SSCAN and ZSCAN; see [`Scans`].
pub struct Scan<T> {
    spec: &'static Spec,
    key: Option<Box<[u8]>>,
    pattern: Option<Box<[u8]>>,
    count: Option<u32>,
    kind: Option<Box<str>>,
    without_values: bool,
    /// Items that came and were not given yet.
    items: VecDeque<T>,
    /// Where the next page begins; 0 is the beginning.
    cursor: u64,
    /// There is no other page.
    complete: bool,
    asked: Option<Question>,
    home: Home,
    /// Where what was given last came from.
    source: Source,
    restarts: u32,
    /// How often in a row nobody could tell who had answered.
    unsure: u32,
    /// It is held on a cluster.
    in_cluster: bool,
    /// All keys of a cluster: what it has still to do.
    coverage: Option<Box<Coverage>>,
    /// The present node has no other page.
    part_over: bool,
    /// How long to wait before anything else is asked.
    pause: Option<Duration>,
}

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Page,
    /// The page, and before it who the server is.
    NameAndPage,
    Name,
    /// The first page of another node, and before and after it what the node says of itself.
    Part,
    /// What the node says of itself after its last page.
    Claim,
}

/// Where the cursors come from.
#[derive(Debug, Default)]
struct Home {
    /// The connection on which the last page came.
    connection: Option<u64>,
    /// The server process. It is asked for as late as with the second page, since most scans have one.
    process: Process,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Process {
    #[default]
    NotAsked,
    Known(Vec<u8>),
    /// It does not tell, or this user may not ask.
    Untold,
}

impl<T> Scan<T> {
    fn new(spec: &'static Spec, key: Option<&dyn ToArg>, options: ScanOptions<'_>) -> Self {
        let (pattern, count, kind) = options.parts();
        Scan {
            spec,
            key: key.map(|key| key.to_arg().as_bytes().into()),
            pattern: pattern.map(Box::from),
            count,
            kind: kind.map(Box::from),
            without_values: false,
            items: VecDeque::new(),
            cursor: 0,
            complete: false,
            asked: None,
            home: Home::default(),
            source: Source::Server,
            restarts: 0,
            unsure: 0,
            in_cluster: false,
            coverage: None,
            part_over: false,
            pause: None,
        }
    }

    fn without_values(self) -> Self {
        Scan { without_values: true, ..self }
    }

    /// Who gave the items that came last: the server, or memory while the server was down.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// How often the scan had to begin anew, because the server was restarted or replaced; of a cluster,
    /// how often it had to with one of its nodes.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    fn ask(&mut self, question: Question) -> Batch {
        self.asked = Some(question);
        let name = || Request::of(const { Spec::of("INFO") }).arg("server");
        let claim = || Request::of(const { Spec::of("CLUSTER NODES") });
        let mut batch = Batch::new();
        match question {
            Question::Name | Question::NameAndPage => _ = batch.push(&name()),
            Question::Part | Question::Claim => _ = batch.push(&claim()),
            Question::Page => {}
        }
        if matches!(question, Question::Page | Question::NameAndPage | Question::Part) {
            batch.push(&self.page_request());
        }
        if question == Question::Part {
            batch.push(&claim());
        }
        match (&self.coverage, &self.key) {
            // Where slots have moved, the map is to know by the next round.
            (Some(coverage), _) if question == Question::Part => {
                batch.beside(coverage.via()).doubting_the_map()
            }
            (Some(coverage), _) => batch.beside(coverage.via()),
            (None, Some(key)) => batch.beside(slot(key)),
            (None, None) => batch,
        }
    }

    fn page_request(&self) -> Request<'_> {
        let mut request = Request::of(self.spec);
        if let Some(key) = &self.key {
            request = request.key(&**key);
        }
        let mut options = ScanOptions::new();
        if let Some(pattern) = &self.pattern {
            options = options.pattern(pattern);
        }
        if let Some(count) = self.count {
            options = options.count(count);
        }
        if let Some(kind) = &self.kind {
            options = options.kind(kind);
        }
        let request = options.onto(request.arg(&self.cursor));
        if self.without_values { request.arg("NOVALUES") } else { request }
    }
}

impl<T: FromReply + Send + 'static> Dialogue for Scan<T> {
    type Item = T;

    fn name(&self) -> &'static str {
        self.spec.name()
    }

    fn begin(&mut self, config: &Config) {
        self.in_cluster = matches!(config.deployment, Deployment::Cluster(_));
        if self.in_cluster && self.key.is_none() {
            let only = self.pattern.as_deref().and_then(slot_of_pattern);
            self.coverage = Some(Box::new(Coverage::new(only)));
        }
    }

    fn step(&mut self, heard: Heard, _: Now) -> Step<T> {
        if let Heard::Answer(answer) = heard
            && let Err(failure) = self.take_in(answer)
        {
            return Step::Done(Err(failure));
        }
        if self.asked.is_none() && !self.complete && self.pause.is_none() {
            let question = self.next_question();
            return Step::Send(self.ask(question));
        }
        if let Some(item) = self.items.pop_front() {
            return Step::Yield(item);
        }
        match self.pause.take() {
            Some(pause) => Step::Sleep(pause),
            None if self.asked.is_some() => Step::Wait,
            None => Step::Done(Ok(())),
        }
    }
}

impl<T: FromReply> Scan<T> {
    fn next_question(&self) -> Question {
        let inside = self.cursor != 0 || self.part_over;
        match &self.home {
            _ if self.coverage.is_some() && !inside => Question::Part,
            Home { connection: Some(_), .. } if self.part_over => Question::Claim,
            Home { connection: None, .. } if self.part_over => Question::Name,
            // Whoever answers the first page is where the scan is at home from then on.
            _ if self.cursor == 0 || self.source != Source::Server => Question::Page,
            // Nobody could tell who had answered.
            Home { connection: None, .. } => Question::Name,
            Home { process: Process::NotAsked, .. } => Question::NameAndPage,
            _ => Question::Page,
        }
    }

    fn take_in(&mut self, answer: Answer) -> Result<(), Failure> {
        let question = self.asked.take();
        let connection = answer.connection;
        let mut outcomes = answer.outcomes.map_err(|failure| failure.named(self.spec.name()))?;
        match question {
            Some(Question::Part) => return self.take_in_part(outcomes, connection),
            Some(Question::Claim) => return self.take_in_claim(outcomes, connection),
            _ => {}
        }
        let page = if question == Some(Question::Name) { None } else { outcomes.pop() };
        let name = outcomes.pop();
        let Some(page) = page else {
            return self.on_name(name, connection);
        };
        let page = page?;
        let (cursor, items) = self.decode_page(&page)?;
        if !self.is_at_home(&page, connection, cursor)? {
            return Ok(());
        }
        if let Some(name) = name {
            self.home.process = Process::told(name);
        }
        self.unsure = 0;
        self.source = page.source();
        self.items.extend(items);
        self.cursor = cursor;
        self.part_over = cursor == 0 && self.coverage.is_some();
        self.complete = cursor == 0 && self.coverage.is_none();
        Ok(())
    }

    /// The cursor and the items of a page. Of a cluster only those whose slot is not done with: the others
    /// have been given.
    fn decode_page(&self, page: &Reply) -> Result<(u64, Vec<T>), Failure> {
        let Some(coverage) = &self.coverage else { return decode(page, self.spec.name()) };
        let wrong = |error| Failure::undecodable(error, self.spec.name(), page, None);
        let mut parts = page.view().items();
        let (Some(cursor), Some(keys)) = (parts.next(), parts.next()) else {
            return decode(page, self.spec.name());
        };
        let keys = keys.items().filter(|key| coverage.wants(slot(key.payload())));
        let keys = keys.map(T::from_view).collect::<Result<_, _>>().map_err(wrong)?;
        Ok((u64::from_view(cursor).map_err(wrong)?, keys))
    }

    /// The first page of a node, between two claims of its own.
    fn take_in_part(
        &mut self,
        outcomes: Vec<Result<Reply, Failure>>,
        connection: Option<u64>,
    ) -> Result<(), Failure> {
        let outcomes = passing(self.spec, outcomes)?;
        if connection.is_none() {
            return self.count_unsure();
        }
        let replies: Vec<Reply> = outcomes.into_iter().collect::<Result<_, _>>()?;
        let [before, page, after] = &replies[..] else { return Ok(()) };
        let Some(coverage) = &mut self.coverage else { return Ok(()) };
        if !coverage.begin(Claim::of(before)) {
            let next = coverage.abandon();
            return self.go_to(next);
        }
        let (cursor, items) = self.decode_page(page)?;
        self.unsure = 0;
        self.source = page.source();
        self.items.extend(items);
        self.cursor = cursor;
        self.home = Home { connection, process: Process::NotAsked };
        match &mut self.coverage {
            Some(coverage) if cursor == 0 => {
                let next = coverage.end(&Claim::of(after));
                self.go_to(next)
            }
            _ => Ok(()),
        }
    }

    /// What a node says of itself after its last page.
    fn take_in_claim(
        &mut self,
        outcomes: Vec<Result<Reply, Failure>>,
        connection: Option<u64>,
    ) -> Result<(), Failure> {
        let outcomes = passing(self.spec, outcomes)?;
        if connection.is_none() || connection != self.home.connection {
            return self.leave_home();
        }
        let replies: Vec<Reply> = outcomes.into_iter().collect::<Result<_, _>>()?;
        let (Some(claim), Some(coverage)) = (replies.first(), &mut self.coverage) else {
            return Ok(());
        };
        let next = coverage.end(&Claim::of(claim));
        self.go_to(next)
    }

    /// A part has ended.
    fn go_to(&mut self, next: Next) -> Result<(), Failure> {
        self.cursor = 0;
        self.part_over = false;
        self.home = Home::default();
        match next {
            Next::Part => {}
            Next::Round(pause) => self.pause = Some(pause),
            Next::Done => self.complete = true,
            Next::GiveUp(count, slot) => {
                let text = format!(
                    "{count} slots changed hands for too long while they were scanned, {slot} among them"
                );
                return Err(self.given_up(&text));
            }
        }
        Ok(())
    }

    /// Whether a page comes from where its cursor came from. If not, the scan goes on otherwise.
    fn is_at_home(
        &mut self,
        page: &Reply,
        connection: Option<u64>,
        cursor: u64,
    ) -> Result<bool, Failure> {
        let began = self.cursor == 0;
        let source = page.source();
        if source == Source::Store || (began && cursor == 0) {
            // There is no other, or the whole of it came in one piece.
            return Ok(true);
        }
        if !began && is_from_memory(source) != is_from_memory(self.source) {
            if is_from_memory(source) {
                // Memory does not hold what the server has not shown yet.
                let kind = FailureKind::Memory(MemoryRefusal::Unseen);
                return Err(Failure::new(kind, Executed::No, self.spec.name()));
            }
            self.begin_anew()?;
            return Ok(false);
        }
        if is_from_memory(source) {
            return Ok(true);
        }
        if began {
            self.home = Home { connection, process: Process::NotAsked };
            if connection.is_none() {
                self.count_unsure()?;
                return Ok(false);
            }
            return Ok(true);
        }
        if connection.is_some() && connection == self.home.connection {
            return Ok(true);
        }
        self.leave_home()?;
        Ok(false)
    }

    /// An answer came from another connection: it is to be found out whose that is.
    fn leave_home(&mut self) -> Result<(), Failure> {
        self.home.connection = None;
        self.count_unsure()?;
        if !matches!(self.home.process, Process::Known(_)) {
            self.begin_anew()?;
        }
        Ok(())
    }

    /// The server has said who it is, on a connection that is new to the scan.
    fn on_name(
        &mut self,
        name: Option<Result<Reply, Failure>>,
        connection: Option<u64>,
    ) -> Result<(), Failure> {
        if connection.is_none() {
            return self.count_unsure();
        }
        let process = name.map_or(Process::Untold, Process::told);
        if process == Process::Untold || process != self.home.process {
            return self.begin_anew();
        }
        self.home.connection = connection;
        Ok(())
    }

    fn begin_anew(&mut self) -> Result<(), Failure> {
        self.restarts += 1;
        if let Some(coverage) = &mut self.coverage {
            // Rounds are its bound.
            let next = coverage.abandon();
            return self.go_to(next);
        }
        self.cursor = 0;
        self.home = Home::default();
        if self.restarts > RESTARTS_MAX { Err(self.given_up(LOST)) } else { Ok(()) }
    }

    fn count_unsure(&mut self) -> Result<(), Failure> {
        self.unsure += 1;
        if self.in_cluster && self.unsure > 1 {
            self.pause = Some(UNSURE_PAUSE.delay(self.unsure - 2));
        }
        if self.unsure > UNSURE_MAX { Err(self.given_up(LOST)) } else { Ok(()) }
    }

    fn given_up(&self, why: &str) -> Failure {
        let cause = Cause::Io(why.into());
        Failure::new(FailureKind::ConnectionLost(cause), Executed::No, self.spec.name())
    }
}

/// Passes on what a node answered, or a failure by which slots and connections come and go; any other ends the
/// scan under its own name, since it would only wait for as long once more.
fn passing(
    spec: &Spec,
    outcomes: Vec<Result<Reply, Failure>>,
) -> Result<Vec<Result<Reply, Failure>>, Failure> {
    let comes_and_goes = |failure: &Failure| {
        use FailureKind::{ConnectionLost, Server, Uncovered};
        matches!(failure.kind(), ConnectionLost(_) | Server(_) | Uncovered(_))
    };
    let pass = |outcome| match outcome {
        Err(failure) if !comes_and_goes(&failure) => Err(failure.named(spec.name())),
        outcome => Ok(outcome),
    };
    outcomes.into_iter().map(pass).collect()
}

const LOST: &str = "the server was lost too often in the middle of a scan";

/// The slot in which all keys lie that match a pattern, where its plain beginning says so: it is plain from
/// end to end, or has a hash tag before anything that stands for something else.
fn slot_of_pattern(pattern: &[u8]) -> Option<u16> {
    let plain = pattern.iter().position(|byte| b"*?[\\".contains(byte)).unwrap_or(pattern.len());
    let beginning = &pattern[..plain];
    let open = beginning.iter().position(|byte| *byte == b'{');
    let tagged = open.is_some_and(|open| {
        let close = beginning[open..].iter().position(|byte| *byte == b'}');
        close.is_some_and(|close| close > 1)
    });
    (tagged || plain == pattern.len()).then(|| slot(beginning))
}

impl Claim {
    fn of(reply: &Reply) -> Self {
        Claim::read(reply.view().payload())
    }
}

impl Process {
    /// What the server says of itself in answer to INFO.
    fn told(name: Result<Reply, Failure>) -> Self {
        let Ok(reply) = name else { return Process::Untold };
        let view = reply.view();
        let lines = view.payload().split(|byte| *byte == b'\n');
        let mut ids = lines.filter_map(|line| line.strip_prefix(b"run_id:"));
        // A cluster gives the ids of all its nodes, of which one has given the page.
        match (ids.next(), ids.next()) {
            (Some(id), None) if !id.trim_ascii().is_empty() => {
                Process::Known(id.trim_ascii().to_vec())
            }
            _ => Process::Untold,
        }
    }
}

/// Keys and patterns are left out: they are the caller's data.
impl<T> fmt::Debug for Scan<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("command", &self.spec.name())
            .field("cursor", &self.cursor)
            .field("restarts", &self.restarts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
