//! What is shown while it happens: a line a second, and one for each change of health.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use unfazed_tokio::{
    Client,
    core::{
        engine::{Event, Health},
        handle::Events,
    },
};

use crate::meter::{Meter, Reading};

/// Between two lines of figures.
const TICK: Duration = Duration::from_secs(1);

/// The live part of the output.
pub(crate) struct Screen {
    client: Client,
    meter: Arc<Meter>,
    start: Instant,
    next: Instant,
    last: Reading,
    last_at: Instant,
}

impl Screen {
    pub(crate) fn new(client: Client, meter: Arc<Meter>, start: Instant) -> Self {
        println!();
        println!(
            "{:>6}  {:<10} {:>9} {:>9}  {:>9} {:>9} {:>9} {:>8}  {:>8}",
            "", "", "", "p99 of", "cache:*", "answered", "from", "", "wallet:*"
        );
        println!(
            "{:>6}  {:<10} {:>9} {:>9}  {:>9} {:>9} {:>9} {:>8}  {:>8}  errors",
            "time",
            "health",
            "ops/s",
            "cache:*",
            "server",
            "overlay",
            "shadow",
            "nobody",
            "counted"
        );
        let last = Reading::default();
        Screen { client, meter, start, next: start + TICK, last, last_at: start }
    }

    /// Shows a line a second, so many times.
    pub(crate) fn show(&mut self, seconds: u64) {
        for _ in 0..seconds {
            thread::sleep(self.next.saturating_duration_since(Instant::now()));
            self.line();
            self.next += TICK;
        }
    }

    /// Says what is done to the server.
    pub(crate) fn say(&self, what: &str) {
        println!("{}  ---- {what} {}", clock(self.start), "-".repeat(88 - what.len()));
    }

    fn line(&mut self) {
        let (now, reading) = (Instant::now(), self.meter.read());
        let span = (now - self.last_at).as_secs_f64();
        let rate = |now: u64, before: u64| grouped(((now - before) as f64 / span) as u64);
        let last = &self.last;
        println!(
            "{}  {:<10} {:>9} {:>9}  {:>9} {:>9} {:>9} {:>8}  {:>8}  {}",
            clock(self.start),
            self.client.status().health.to_string(),
            rate(reading.operations(), last.operations()),
            span_in_words(self.meter.p99()),
            rate(reading.server, last.server),
            rate(reading.overlay, last.overlay),
            rate(reading.shadow, last.shadow),
            rate(reading.unknown, last.unknown),
            rate(reading.increments, last.increments),
            errors_since(&last.failures, &reading.failures),
        );
        self.last = reading;
        self.last_at = now;
    }
}

/// Shows each change of health; gives when the client last became live.
pub(crate) async fn watch(mut events: Events, start: Instant) -> Option<Instant> {
    let mut live_at = None;
    while let Some(event) = events.next().await {
        match event {
            Event::HealthChanged { to, .. } => {
                if to == Health::Live {
                    live_at = Some(Instant::now());
                }
                println!("{}  {event}", clock(start));
            }
            Event::DataSet { .. }
            | Event::ReplayRefused { .. }
            | Event::MergesSkipped { .. }
            | Event::MergesUnanswered { .. }
            | Event::WritesLost { .. }
            | Event::TooOld { .. }
            | Event::Full { .. }
            | Event::StillDown { .. } => {
                println!("{}  {event}", clock(start));
            }
            _ => {}
        }
    }
    live_at
}

fn errors_since(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> String {
    let new = now.iter().filter_map(|(kind, count)| {
        let count = count - before.get(kind).unwrap_or(&0);
        (count > 0).then(|| format!("{} x {kind}", grouped(count)))
    });
    let new: Vec<_> = new.collect();
    if new.is_empty() { "-".to_owned() } else { new.join("; ") }
}

fn clock(start: Instant) -> String {
    format!("{:>5.2}s", start.elapsed().as_secs_f64())
}

/// `1234567` as `1 234 567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A span to three digits or so: `12 µs`, `3.07 ms`, `840 ms`.
pub(crate) fn span_in_words(span: Duration) -> String {
    let millis = span.as_secs_f64() * 1e3;
    match millis {
        ..1.0 => format!("{:.0} µs", millis * 1e3),
        1.0..10.0 => format!("{millis:.2} ms"),
        10.0..100.0 => format!("{millis:.1} ms"),
        _ => format!("{millis:.0} ms"),
    }
}
