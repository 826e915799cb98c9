//! What tests of threads in many orders have in common, those of the core and of the blocking adapter: the
//! runner, and a server's side of the talk.

use shuttle::{
    Runner,
    scheduler::{PctScheduler, RandomScheduler},
    thread,
};

/// How many switches there are in those orders that have few.
const SWITCHES: usize = 3;

/// Longer than any scenario takes; who takes more goes round in circles.
const STEPS_MAX: usize = 100_000;

/// The engine on a thread of the checker, whose own default is 32 KiB.
const STACK_BYTES: usize = 1 << 20;

/// Runs a scenario in `orders` orders of each of two kinds: any thread goes on at each step, or mostly the
/// same one does and there are few switches, at random places.
pub(crate) fn in_many_orders(orders: usize, scenario: fn()) {
    let config = || {
        let mut config = shuttle::Config::new();
        config.stack_size = STACK_BYTES;
        config.max_steps = shuttle::MaxSteps::FailAfter(STEPS_MAX);
        config
    };
    Runner::new(RandomScheduler::new(orders), config()).run(scenario);
    Runner::new(PctScheduler::new(SWITCHES, orders), config()).run(scenario);
}

pub(crate) fn join<const N: usize>(threads: [thread::JoinHandle<()>; N]) {
    threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
}

/// Takes a whole command off the front.
pub(crate) fn next_command(bytes: &mut Vec<u8>) -> Option<Vec<Vec<u8>>> {
    let (count, mut at) = header(bytes, 0)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let (length, start) = header(bytes, at)?;
        words.push(bytes.get(start..start + length)?.to_vec());
        at = start + length + 2;
    }
    bytes.get(..at)?;
    bytes.drain(..at);
    Some(words)
}

/// The number in the header at `at`, and where what follows it begins.
fn header(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let length = bytes.get(at..)?.windows(2).position(|pair| pair == b"\r\n")?;
    let number = std::str::from_utf8(&bytes[at + 1..at + length]).ok()?.parse().ok()?;
    Some((number, at + length + 2))
}

/// What a server says to a command. GET gives the name of its key, so that each caller can tell its own
/// reply.
pub(crate) fn answer(command: &[Vec<u8>]) -> Vec<u8> {
    match &*command[0] {
        b"PING" => b"+PONG\r\n".to_vec(),
        b"GET" => {
            let key = &command[1];
            [format!("${}\r\n", key.len()).as_bytes(), key, b"\r\n"].concat()
        }
        _ => b"+OK\r\n".to_vec(),
    }
}
