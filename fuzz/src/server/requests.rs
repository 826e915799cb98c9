//! What becomes of a request: alone, or between MULTI and EXEC.

use bytes::Bytes;
use unfazed_core::resp::Value;

use super::{
    Block, First, Multi, Server, Session, Tampering, Tried, When, bulk, is_blocking, is_write,
};
use crate::{
    setup::SCRIPT,
    workload::{line_of, script},
};

impl Server {
    pub(super) fn answer(
        &mut self,
        link: u64,
        session: &mut Session,
        words: &[String],
        when: When,
    ) -> Tried {
        let name = words[0].to_ascii_uppercase();
        if name == "HELLO" && self.hangs_up_at_hello {
            self.hello_refused += 1;
            return Tried::HangUp;
        }
        let Some(run) = canonical(words) else { return Tried::Answered(Value::error(NO_SCRIPT)) };
        let line = line_of(&run);
        self.attribute(link, session, &run);
        let unknown = name == "EVALSHA" && !self.knows_script && session.multi.is_none();
        let words = &run[..];
        let name = words[0].to_ascii_uppercase();
        let own = self.session_command(session, &name, words, when);
        if let Some(value) = own.as_ref().filter(|_| name == "EXEC") {
            // What was queued is refused with it.
            let queued = session.multi.iter().flat_map(|multi| &multi.lines);
            queued.for_each(|line| self.note_refused(line.clone(), value, session));
        }
        let value = match own.or_else(|| self.member_command(session, &name, words)) {
            Some(value) => value,
            None if ["MULTI", "EXEC", "DISCARD"].contains(&name.as_str())
                || session.multi.is_some() =>
            {
                return Tried::Answered(self.transact(session, &name, words, when));
            }
            None => {
                let asking = std::mem::take(&mut session.asking);
                match self.redirection(&[words], asking, when) {
                    Some(text) => Value::error(text),
                    None if unknown && self.refusal(&name).is_none() => {
                        self.scripts_unknown += 1;
                        Value::error(NO_SCRIPT)
                    }
                    None => match self.would_wait(&name, words, when) {
                        Some(until) => {
                            self.wait(link, words, until);
                            return Tried::Waits;
                        }
                        None => self.run(&name, words, when),
                    },
                }
            }
        };
        self.note(line, value.clone(), session, when);
        Tried::Answered(value)
    }

    /// Notes what a command line was answered, and how it was carried out if it was.
    fn note(&mut self, line: String, value: Value, session: &Session, when: When) {
        let node = self.here();
        self.note_refused(line.clone(), &value, session);
        let entry = self.ledger.entry(line).or_default();
        if entry.executed > 0 && entry.first.is_none() {
            let (link, given_up) = (session.link, session.given_up);
            entry.first = Some(First { seq: when.seq, node, link, given_up });
        }
        entry.answers.push((when.seq, value));
    }

    /// Notes that a command line was refused or sent elsewhere, if it was.
    fn note_refused(&mut self, line: String, value: &Value, session: &Session) {
        let node = self.here();
        let entry = self.ledger.entry(line).or_default();
        entry.refused |= is_refusal(value);
        let Value::Error(text) = value else { return };
        if text.starts_with(b"ASK ") {
            entry.asked_by = Some(node);
        } else if text.starts_with(b"MOVED ") {
            entry.moved_on.insert(session.link);
        }
    }

    pub(super) fn here(&self) -> usize {
        self.member.as_ref().map_or(0, |member| member.me)
    }

    /// MULTI, EXEC and what comes in between.
    fn transact(
        &mut self,
        session: &mut Session,
        name: &str,
        words: &[String],
        when: When,
    ) -> Value {
        match (name, session.multi.take()) {
            ("MULTI", None) => {
                session.multi = Some(Multi::default());
                Value::OK
            }
            ("EXEC", Some(multi)) => {
                let conduct = &session.conduct;
                self.expire(when);
                let dirty = self.is_dirty(conduct) && !self.tampering.ignore_watch;
                self.check_watch(conduct, multi.by);
                session.conduct.watched.clear();
                if dirty && !multi.dirty {
                    self.conflicts += 1;
                    self.blocks.push(Block { lines: multi.lines, executed: 0 });
                    return Value::Null;
                }
                let asking = std::mem::take(&mut session.asking);
                let commands: Vec<&[String]> = multi.commands.iter().map(Vec::as_slice).collect();
                let elsewhere = self.redirection(&commands, asking, when);
                match elsewhere.filter(|_| !multi.dirty) {
                    Some(text) => {
                        let value = Value::error(text);
                        for line in &multi.lines {
                            self.note_refused(line.clone(), &value, session);
                        }
                        self.blocks.push(Block { lines: multi.lines, executed: 0 });
                        value
                    }
                    None => self.exec(multi, session, when),
                }
            }
            ("DISCARD", Some(_)) => {
                session.conduct.watched.clear();
                Value::OK
            }
            ("EXEC" | "DISCARD", None) => Value::error(format!("ERR {name} without MULTI")),
            (_, None) => unreachable!("only asked in a transaction"),
            (_, Some(mut multi)) => {
                multi.lines.push(line_of(words));
                let refusal = if name == "MULTI" {
                    Some("ERR MULTI calls can not be nested".to_owned())
                } else {
                    let elsewhere = self.redirection(&[words], session.asking, when);
                    elsewhere.or_else(|| self.refusal(name).map(str::to_owned))
                };
                let value = match refusal {
                    Some(text) => {
                        self.refused += u64::from(!text.starts_with("ERR"));
                        multi.dirty = true;
                        let value = Value::error(text);
                        self.note_refused(line_of(words), &value, session);
                        value
                    }
                    None => {
                        multi.commands.push(words.to_vec());
                        self.ledger.entry(line_of(words)).or_default().queued += 1;
                        Value::Simple("QUEUED".into())
                    }
                };
                session.multi = Some(multi);
                value
            }
        }
    }

    fn exec(&mut self, multi: Multi, session: &Session, when: When) -> Value {
        let Multi { commands, lines, dirty, .. } = multi;
        let name = |words: &Vec<String>| words[0].to_ascii_uppercase();
        let refusal = commands.iter().find_map(|words| self.refusal(&name(words)));
        let mut executed = 0;
        let value = match refusal {
            _ if dirty => {
                Value::error("EXECABORT Transaction discarded because of previous errors.")
            }
            Some(text) => {
                self.refused += 1;
                for line in &lines {
                    self.ledger.entry(line.clone()).or_default().refused = true;
                }
                Value::error(format!("EXECABORT Transaction discarded because of: {text}"))
            }
            None => {
                let half = self.tampering.half_exec && commands.len() > 1;
                executed = if half { commands.len() / 2 } else { commands.len() };
                let mut values = Vec::new();
                for (at, words) in commands.iter().enumerate() {
                    let value = match at < executed {
                        true => self.run(&name(words), words, when),
                        false => Value::OK,
                    };
                    let line = line_of(words);
                    let entry = self.ledger.entry(line.clone()).or_default();
                    entry.in_blocks += u32::from(at < executed);
                    self.note(line, value.clone(), session, when);
                    values.push(value);
                }
                Value::Array(values)
            }
        };
        self.blocks.push(Block { lines, executed });
        value
    }

    /// Carries a command out, unless it is refused.
    fn run(&mut self, name: &str, words: &[String], when: When) -> Value {
        if let Some(text) = self.refusal(name) {
            self.refused += u64::from(!text.starts_with("ERR"));
            return Value::error(text);
        }
        self.carry_out(name, words, when)
    }

    /// Carries a command out.
    pub(super) fn carry_out(&mut self, name: &str, words: &[String], when: When) -> Value {
        let line = line_of(words);
        if is_write(name) {
            self.touch(name, words);
        }
        self.knows_script |= name == "EVAL";
        let key = words.get(1).map_or("", String::as_str);
        let Tampering { lose_replays, lose_merges, merge_twice, .. } = self.tampering;
        let lost = lose_replays && is_write(name) && key.starts_with("last:");
        let lost = lost || (lose_merges && is_write(name) && key.starts_with("sum:n"));
        let entry = self.ledger.entry(line.clone()).or_default();
        self.repeated += u64::from(entry.executed > 0 && line.contains('='));
        entry.executed += u32::from(!(lost && lose_merges));
        entry.last = when.seq;
        let value = if lost { self.pretend(name) } else { self.execute(name, words, when) };
        let again = self.tampering.execute_twice && is_write(name);
        let again = again || (merge_twice && is_write(name) && key.starts_with("sum:n"));
        let entry = self.ledger.entry(line.clone()).or_default();
        entry.empty += u32::from(is_blocking(name) && value == Value::Null);
        let value = self.note_popped(name, &line, value);
        let entry = self.ledger.entry(line).or_default();
        if again && !matches!(value, Value::Error(_)) {
            entry.executed += 1;
            self.execute(name, words, when);
        } else if self.tampering.lie && is_write(name) {
            entry.executed = 0;
        }
        self.log_write(words, when);
        self.forged(name, words).unwrap_or(value)
    }

    /// What a command that was not carried out is answered all the same.
    fn pretend(&self, name: &str) -> Value {
        if matches!(name, "SET" | "MSET") { Value::OK } else { Value::Integer(1) }
    }

    /// What is answered whatever the state of the data.
    fn session_command(
        &mut self,
        session: &mut Session,
        name: &str,
        words: &[String],
        when: When,
    ) -> Option<Value> {
        let password = |at: usize| {
            let given = words.get(at).map(String::as_str);
            given == self.password.as_deref() && !self.locked
        };
        match name {
            "HELLO" if self.resp2 => {
                self.hello_refused += 1;
                return Some(Value::error(
                    "ERR unknown command 'HELLO', with args beginning with:",
                ));
            }
            "HELLO" => {
                if words.get(2).is_some_and(|word| word == "AUTH") {
                    if !password(4) {
                        return Some(Value::error("WRONGPASS invalid username-password pair"));
                    }
                    session.authenticated = true;
                }
                if self.password.is_some() && !session.authenticated {
                    return Some(Value::error("NOAUTH HELLO must be called with authentication"));
                }
                session.resp3 = true;
                let pair = |key: &'static str, value: Value| {
                    (Value::Bulk(Bytes::from_static(key.as_bytes())), value)
                };
                let version = Value::Bulk(Bytes::from_static(b"7.2.0"));
                return Some(Value::Map(vec![
                    pair("version", version),
                    pair("proto", Value::Integer(3)),
                ]));
            }
            "AUTH" => {
                if !password(words.len() - 1) {
                    return Some(Value::error("WRONGPASS invalid username-password pair"));
                }
                session.authenticated = true;
                return Some(Value::OK);
            }
            _ => {}
        }
        if self.password.is_some() && !session.authenticated {
            return Some(Value::error("NOAUTH Authentication required."));
        }
        match name {
            "CLIENT" => Some(Value::OK),
            "SELECT" => {
                session.conduct.database = words[1].parse().unwrap_or(0);
                Some(Value::OK)
            }
            "WATCH" if session.multi.is_none() => {
                let asking = std::mem::take(&mut session.asking);
                if let Some(text) = self.redirection(&[words], asking, when) {
                    return Some(Value::error(text));
                }
                self.watch(session, words);
                Some(Value::OK)
            }
            "UNWATCH" if session.multi.is_none() => {
                session.conduct.watched.clear();
                Some(Value::OK)
            }
            "ROLE" => {
                let role = if self.readonly { "slave" } else { "master" };
                Some(Value::Array(vec![bulk(role), Value::Integer(0)]))
            }
            "INFO" => {
                let uptime = if self.promoted { 1_000_000 } else { 0 };
                let text = format!(
                    "run_id:{}\r\nuptime_in_seconds:{uptime}\r\nmaster_replid:r{}\r\n",
                    self.run, self.history
                );
                Some(bulk(&text))
            }
            _ => None,
        }
    }
}

/// Whether an answer is a refusal that does not send its command elsewhere.
fn is_refusal(value: &Value) -> bool {
    let Value::Error(text) = value else { return false };
    !text.starts_with(b"MOVED ") && !text.starts_with(b"ASK ")
}

const NO_SCRIPT: &str = "NOSCRIPT No matching script. Please use EVAL.";

/// What is to be run, in so many words: a script that is called by its digest by its source. Nothing where
/// no script has that digest.
#[must_use]
pub fn canonical(words: &[String]) -> Option<Vec<String>> {
    if words[0] != "EVALSHA" {
        return Some(words.to_vec());
    }
    let known = words.get(1).is_some_and(|digest| digest == script().sha1());
    let mut words = words.to_vec();
    (words[0], words[1]) = ("EVAL".into(), SCRIPT.into());
    known.then_some(words)
}
