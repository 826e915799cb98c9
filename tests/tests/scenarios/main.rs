//! What a client promises, shown on real servers and against hostile peers, on every adapter.
//!
//! Each scenario is written once, over the small trait [`Adapter`](adapters::Adapter), and
//! [`scenarios!`](adapters::scenarios) makes a test of it for each adapter: `on_tokio`, `on_smol`,
//! `on_blocking`. All are in one binary because linking costs more than most of them run.

mod adapters;
mod bounds;
mod cancelled;
mod cluster_conversations;
mod cluster_leases;
mod clusters;
mod collections;
mod commands;
mod dedicated;
mod degraded;
mod dialogues;
mod hostile;
mod leases;
mod lifecycle;
mod matrix;
mod mixed;
mod operators;
mod other_data;
mod outages;
mod outcomes;
mod pubsub;
mod recovery;
mod scans;
mod scripts;
mod secrets;
mod streams;
mod support;
mod traces;
mod transactions;
mod two_clients;
mod under_fire;
mod values;
