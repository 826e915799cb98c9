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

use std::{collections::VecDeque, fmt};

use super::{Answer, Converse, Dialogue, Heard, Step, decode, is_from_memory};
use crate::{
    Failure, Now,
    args::ToArg,
    commands::{ScanOptions, Spec},
    engine::Batch,
    failure::{Cause, Executed, FailureKind, MemoryRefusal},
    reply::FromReply,
    request::Request,
    resp::{Reply, Source},
};

/// How often a scan begins anew, because the server that it was at is gone, before it gives up.
///
/// Each time costs what the scan has cost so far, and a server that is replaced that often will hardly
/// stay for long enough the next time.
const RESTARTS_MAX: u32 = 8;

/// How often in a row the connection may change under a scan before it gives up. Each time took a
/// lost connection and a new one, so this is a server that can't be worked with.
const UNSURE_MAX: u32 = 32;

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
/// use unfazed_core::{Failure, dialogue::Scans, handle::Handle};
///
/// async fn print_users(client: &Handle) -> Result<(), Failure> {
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
/// While the server is down, a scan gets what memory has where every key may be answered from there, which
/// takes a rule for `*` whatever the pattern of the scan, and [`Scan::source`] says so; one that was begun
/// on the server is not carried on there, but fails.
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
}

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Page,
    /// The page, and before it who the server is.
    NameAndPage,
    Name,
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

    /// How often the scan had to begin anew, because the server was restarted or replaced.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    fn ask(&mut self, question: Question) -> Batch {
        self.asked = Some(question);
        let mut batch = Batch::new();
        if question != Question::Page {
            batch.push(&Request::of(const { Spec::of("INFO") }).arg("server"));
        }
        if question != Question::Name {
            batch.push(&self.page_request());
        }
        batch
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

    fn step(&mut self, heard: Heard, _: Now) -> Step<T> {
        if let Heard::Answer(answer) = heard
            && let Err(failure) = self.take_in(answer)
        {
            return Step::Done(Err(failure));
        }
        if self.asked.is_none() && !self.complete {
            let question = self.next_question();
            return Step::Send(self.ask(question));
        }
        match self.items.pop_front() {
            Some(item) => Step::Yield(item),
            None if self.asked.is_some() => Step::Wait,
            None => Step::Done(Ok(())),
        }
    }
}

impl<T: FromReply> Scan<T> {
    fn next_question(&self) -> Question {
        match &self.home {
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
        let page = if question == Some(Question::Name) { None } else { outcomes.pop() };
        let name = outcomes.pop();
        let Some(page) = page else {
            return self.on_name(name, connection);
        };
        let page = page?;
        let (cursor, items): (u64, Vec<T>) = decode(&page, self.spec.name())?;
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
        self.complete = cursor == 0;
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
        self.home.connection = None;
        self.count_unsure()?;
        if !matches!(self.home.process, Process::Known(_)) {
            self.begin_anew()?;
        }
        Ok(false)
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
        self.cursor = 0;
        self.home = Home::default();
        if self.restarts > RESTARTS_MAX { Err(self.given_up()) } else { Ok(()) }
    }

    fn count_unsure(&mut self) -> Result<(), Failure> {
        self.unsure += 1;
        if self.unsure > UNSURE_MAX { Err(self.given_up()) } else { Ok(()) }
    }

    fn given_up(&self) -> Failure {
        let cause = Cause::Io("the server was lost too often in the middle of a scan".into());
        Failure::new(FailureKind::ConnectionLost(cause), Executed::No, self.spec.name())
    }
}

impl Process {
    /// What the server says of itself in answer to INFO.
    fn told(name: Result<Reply, Failure>) -> Self {
        let Ok(reply) = name else { return Process::Untold };
        let view = reply.view();
        let mut lines = view.payload().split(|byte| *byte == b'\n');
        match lines.find_map(|line| line.strip_prefix(b"run_id:")) {
            Some(id) if !id.trim_ascii().is_empty() => Process::Known(id.trim_ascii().to_vec()),
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
