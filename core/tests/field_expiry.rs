//! Holds the store's fields that expire to what a real server said once.
//!
//! The servers that the other tests start do not know these commands yet. So their replies were
//! recorded: `data/field-expiry.txt` has each command with the reply of the server that its head
//! names. To record anew, with a server whose data may be deleted:
//!
//! ```text
//! UNFAZED_RECORD_FROM=127.0.0.1:6379 cargo test -p unfazed-core --test field_expiry -- --ignored
//! ```
#![expect(clippy::disallowed_methods, reason = "recording needs a real server and its clock")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use unfazed_core::Now;
use unfazed_core::fallback::store::{Answer, Bounds, Store};
use unfazed_core::resp::Value;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/field-expiry.txt");

/// Fewer would mean that part of the file got lost.
const COMMANDS_MIN: usize = 300;

#[test]
fn fields_expire_as_on_the_server_that_was_recorded() {
    let mut store = Store::new(1, Bounds::NONE);
    let mut now = Now::new(Instant::now(), SystemTime::now());
    let (mut commands, mut wrong) = (0, String::new());
    for (number, step) in steps() {
        match step {
            Step::Comment => {}
            // Nobody waits here: the clock is ours.
            Step::Wait(span) => now = now + span,
            Step::Command { words, reply } => {
                commands += 1;
                let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                let ours = match store.execute(&words, now) {
                    Answer::Reply(value) => text(&value),
                    other => format!("{other:?}"),
                };
                if ours != reply {
                    let shown = words.iter().map(|word| word.escape_ascii().to_string());
                    let shown = shown.collect::<Vec<_>>().join(" ");
                    let _ = writeln!(wrong, "line {number}: {shown}\n  {ours}\nnot\n  {reply}");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(commands >= COMMANDS_MIN, "{commands} commands only");
}

#[test]
#[ignore = "writes the file anew from the server that UNFAZED_RECORD_FROM names"]
fn record() {
    let address = std::env::var("UNFAZED_RECORD_FROM").expect("the address of a server");
    let stream = TcpStream::connect(address).expect("the server accepts connections");
    let mut server = BufReader::new(stream);
    ask(&mut server, &words("HELLO 3"));
    ask(&mut server, &words("FLUSHALL"));
    let mut recorded = String::new();
    for line in std::fs::read_to_string(PATH).expect("the file").lines() {
        match line.split_once(' ') {
            Some((">", command)) => {
                let reply = text(&ask(&mut server, &words(command)));
                let _ = write!(recorded, "{line}\n< {reply}\n");
            }
            Some(("<", _)) => {}
            Some(("wait", millis)) => {
                let millis = millis.parse().expect("a number of milliseconds");
                std::thread::sleep(Duration::from_millis(millis));
                let _ = writeln!(recorded, "{line}");
            }
            _ => {
                let _ = writeln!(recorded, "{line}");
            }
        }
    }
    std::fs::write(PATH, recorded).expect("the file can be written");
}

enum Step {
    Comment,
    Wait(Duration),
    Command { words: Vec<Vec<u8>>, reply: String },
}

/// The lines of the file by number: `# comment`, `wait MILLIS`, `> command`, and under each command
/// `< reply`.
fn steps() -> Vec<(usize, Step)> {
    let file = std::fs::read_to_string(PATH).expect("the file");
    let mut lines = file.lines().enumerate().peekable();
    let mut steps = Vec::new();
    while let Some((number, line)) = lines.next() {
        let step = match line.split_once(' ') {
            Some((">", command)) => {
                let reply = lines.next().and_then(|(_, line)| line.strip_prefix("< "));
                let reply = reply.unwrap_or_else(|| panic!("no reply to line {}", number + 1));
                Step::Command { words: words(command), reply: reply.to_owned() }
            }
            Some(("wait", millis)) => {
                let millis = millis.parse().expect("a number of milliseconds");
                Step::Wait(Duration::from_millis(millis))
            }
            _ if line.is_empty() || line.starts_with('#') => Step::Comment,
            _ => panic!("line {}: {line}", number + 1),
        };
        steps.push((number + 1, step));
    }
    steps
}

/// The words of a command; `""` is an empty one.
fn words(command: &str) -> Vec<Vec<u8>> {
    let word = |word: &str| if word == "\"\"" { Vec::new() } else { word.as_bytes().to_vec() };
    command.split(' ').map(word).collect()
}

/// A reply on one line.
fn text(value: &Value) -> String {
    let list = |values: &[Value]| values.iter().map(text).collect::<Vec<_>>().join(", ");
    match value {
        Value::Simple(text) => format!("+{}", text.escape_ascii()),
        Value::Error(text) => format!("-{}", text.escape_ascii()),
        Value::Integer(number) => number.to_string(),
        Value::Bulk(text) => format!("\"{}\"", text.escape_ascii()),
        Value::Null => "null".to_owned(),
        Value::Array(items) => format!("[{}]", list(items)),
        Value::Set(items) => format!("{{{}}}", list(items)),
        Value::Map(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| format!("{}: {}", text(key), text(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        other => panic!("{other:?} is nothing that these commands answer"),
    }
}

/// Sends one command and waits for its reply.
fn ask(server: &mut BufReader<TcpStream>, words: &[Vec<u8>]) -> Value {
    let words = words.iter().map(|word| Value::Bulk(Bytes::copy_from_slice(word)));
    let mut request = Vec::new();
    Value::Array(words.collect()).encode(&mut request, unfazed_core::resp::Protocol::Resp3);
    server.get_mut().write_all(&request).expect("the server reads");
    reply(server)
}

fn reply(server: &mut BufReader<TcpStream>) -> Value {
    let mut line = String::new();
    server.read_line(&mut line).expect("the server answers");
    let (kind, rest) = line.trim_end().split_at(1);
    let number = || rest.parse::<usize>().expect("a length");
    match kind {
        "+" => Value::Simple(Bytes::from(rest.to_owned())),
        "-" => Value::error(rest),
        ":" => Value::Integer(rest.parse().expect("a number")),
        "_" => Value::Null,
        "$" => {
            let mut bytes = vec![0; number() + 2];
            server.read_exact(&mut bytes).expect("the server answers in full");
            bytes.truncate(number());
            Value::Bulk(bytes.into())
        }
        "*" => Value::Array((0..number()).map(|_| reply(server)).collect()),
        "~" => Value::Set((0..number()).map(|_| reply(server)).collect()),
        "%" => Value::Map((0..number()).map(|_| (reply(server), reply(server))).collect()),
        _ => panic!("no reply that these commands give: {line}"),
    }
}
