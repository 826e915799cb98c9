//! Scans, and commands that pick at random: what must hold of them, and how the store follows.

use std::collections::BTreeSet;

use unfazed_core::fallback::store::Answer;
use unfazed_core::resp::Value;

use crate::compare::{self, Element, Page, cursor_place, element, found};
use crate::pair::{Item, Pair, Stop, bulk, differ, now, show};
use crate::random::{Args, args};

/// The key under which the store alone keeps what it had before a SPOP.
const KEPT: &str = "(kept)";
/// The most calls that one scan may take on either side.
const CALLS_MAX: usize = 10_000;

impl Pair {
    /// All elements that the key of a command holds in the store, or all keys, in the shape in
    /// which the command gives elements.
    pub(crate) fn content(&mut self, command: &Args) -> BTreeSet<Element> {
        let key = command.get(1).map_or(&b""[..], Vec::as_slice);
        let name = String::from_utf8_lossy(&command[0]).to_uppercase();
        let reply = match name.as_str() {
            "SCAN" | "RANDOMKEY" => self.say(&args(&["KEYS", "*"]), &[]),
            "HRANDFIELD" | "HSCAN" => self.say(&args(&["HGETALL"]), &[key]),
            "ZRANDMEMBER" | "ZSCAN" => {
                self.say(&args(&["ZRANGE"]), &[key, b"0", b"-1", b"WITHSCORES"])
            }
            _ => self.say(&args(&["SMEMBERS"]), &[key]),
        };
        let pairs = compare::gives_pairs(command);
        let shaped = |first: Value, second: Value| {
            element(&if pairs { Value::Array(vec![first, second]) } else { first })
        };
        match reply {
            Value::Map(items) => items.into_iter().map(|(a, b)| shaped(a, b)).collect(),
            Value::Array(items) | Value::Set(items) => {
                let items = items.into_iter().map(|item| match item {
                    Value::Array(pair) => shaped(pair[0].clone(), pair[1].clone()),
                    single => element(&single),
                });
                items.collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// Keeps a copy of what stands at a key of the store, before it is popped from.
    pub(crate) fn keep(&mut self, key: &[u8]) {
        self.say(&args(&["COPY"]), &[key, KEPT.as_bytes()]);
    }

    /// Brings the store in step again with what the server popped. `encoding` is how the server
    /// keeps the rest.
    pub(crate) fn follow_pop(
        &mut self,
        key: &[u8],
        ours: &Value,
        theirs: &Value,
        encoding: Option<Value>,
    ) -> Result<(), &'static str> {
        let popped = |reply: &Value| match reply {
            Value::Bulk(_) => vec![reply.clone()],
            Value::Array(items) | Value::Set(items) => items.clone(),
            _ => Vec::new(),
        };
        let (ours, theirs) = (popped(ours), popped(theirs));
        let (before, after) = (self.members(KEPT.as_bytes()), self.members(key));
        let gone = before.into_iter().filter(|member| !after.contains(member));
        if !compare::same_set(&gone.collect::<Vec<_>>(), &ours) {
            return Err("but something else is gone");
        }
        if compare::same_set(&ours, &theirs) {
            self.say(&args(&["DEL", KEPT]), &[]);
        } else {
            self.say(&args(&["RENAME", KEPT]), &[key]);
            let theirs: Vec<_> = theirs.iter().map(bulk).collect();
            self.say(&args(&["SREM"]), &[&[key], &theirs[..]].concat());
        }
        // Where nearly all members go, a server makes a new set of the rest, which may then be
        // kept in another way: as what was added to an empty one.
        let Some(theirs @ Value::Bulk(_)) = encoding else { return Ok(()) };
        let ask = args(&["OBJECT", "ENCODING"]);
        if !self.server.is_7_0() || self.say(&ask, &[key]) == theirs {
            return Ok(());
        }
        let rest = self.members(key);
        let expiry = self.say(&args(&["PEXPIRETIME"]), &[key]);
        self.say(&args(&["DEL"]), &[key]);
        let rest: Vec<_> = rest.iter().map(bulk).collect();
        self.say(&args(&["SADD"]), &[&[key], &rest[..]].concat());
        if let Value::Integer(when @ 0..) = expiry {
            self.say(&args(&["PEXPIREAT"]), &[key, when.to_string().as_bytes()]);
        }
        if self.say(&ask, &[key]) == theirs {
            Ok(())
        } else {
            Err("but the rest is encoded otherwise")
        }
    }

    fn members(&mut self, key: &[u8]) -> Vec<Value> {
        match self.say(&args(&["SMEMBERS"]), &[key]) {
            Value::Set(members) => members,
            _ => Vec::new(),
        }
    }

    /// A scan from its beginning to its end on both, with writes between the calls.
    ///
    /// The calls are as many as either side needs. What was there all the time both must find,
    /// or neither, where a pattern leaves it out; what was never there, neither may.
    pub(crate) fn whole_scan(
        &mut self,
        step: usize,
        name: &'static str,
        command: &Args,
        writes: &[Args],
    ) -> Result<(), Stop> {
        let mut command = command.clone();
        let (mut ours, mut theirs) = (Side::new(), Side::new());
        let mut writes = writes.iter();
        self.now = now();
        let mut always = self.content(&command);
        let mut ever = always.clone();
        for call in 0.. {
            if call == CALLS_MAX {
                return Err(differ(step, &command, ours.progress(), theirs.progress()));
            }
            if theirs.goes_on(&mut command) {
                let reply = self.server.ask(&command);
                if call == 0 {
                    self.count(name, &reply);
                }
                if !theirs.take(&command, &reply) {
                    // One that is refused goes no further on either side.
                    return self.one(step, &command, &reply, None);
                }
            }
            if ours.goes_on(&mut command) {
                let answer = self.execute(&command);
                if !matches!(&answer, Answer::Reply(reply) if ours.take(&command, reply)) {
                    return Err(differ(step, &command, format!("{answer:?}"), theirs.progress()));
                }
            }
            if ours.cursor.is_none() && theirs.cursor.is_none() {
                break;
            }
            if let Some(write) = writes.next() {
                self.batch(&mut vec![Item { step, name: None, command: write.clone() }])?;
                let content = self.content(&command);
                always.retain(|element| content.contains(element));
                ever.extend(content);
            }
        }
        // Newer servers write scores in another way, so only what they are is the same.
        let as_it_is = self.server.is_7_0();
        let lasting = |side: &Side| -> BTreeSet<_> {
            let lasting = side.found.iter().filter(|item| always.contains(&found(&command, item)));
            lasting
                .map(|item| if as_it_is { element(item) } else { found(&command, item) })
                .collect()
        };
        let known =
            |side: &Side| side.found.iter().all(|item| ever.contains(&found(&command, item)));
        if known(&ours) && known(&theirs) && lasting(&ours) == lasting(&theirs) {
            return Ok(());
        }
        let show = |items: Vec<Value>| show(&compare::sorted(&Value::Array(items)));
        Err(differ(step, &command, show(ours.found), show(theirs.found)))
    }
}

/// How far a scan is on one side.
struct Side {
    /// Where to go on; `None` when it is through.
    cursor: Option<Vec<u8>>,
    found: Vec<Value>,
}

impl Side {
    fn new() -> Self {
        Side { cursor: Some(b"0".to_vec()), found: Vec::new() }
    }

    /// Whether there is more to ask for; the command is made the next call then.
    fn goes_on(&self, command: &mut Args) -> bool {
        if let Some(cursor) = &self.cursor {
            let place = cursor_place(command);
            command[place].clone_from(cursor);
        }
        self.cursor.is_some()
    }

    /// Takes a reply in; returns whether it is one of a scan.
    fn take(&mut self, command: &Args, reply: &Value) -> bool {
        let Some(page) = Page::read(command, reply) else { return false };
        self.cursor = Some(page.cursor.to_vec()).filter(|cursor| cursor != b"0");
        self.found.extend(page.items);
        true
    }

    fn progress(&self) -> String {
        let cursor = self.cursor.as_deref().unwrap_or(b"0").escape_ascii();
        format!("{} found, at cursor {cursor}", self.found.len())
    }
}
