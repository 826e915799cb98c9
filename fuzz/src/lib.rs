//! A simulation of the client: the real engine and real bytes, a modelled server and network, virtual
//! time, and one source of randomness. The same seed gives the same story, to the byte.
//!
//! A world lives through two phases. In the first everything that can go wrong does: the promises
//! of [`oracle`] hold at every step. Then all is healed, and everything that is pending must finish.
//!
//! | module | what it is |
//! |---|---|
//! | [`entropy`] | all lots are drawn here: from a seed, or from a finite slice of bytes |
//! | [`setup`] | what kind of world it is: the client's configuration, which faults come |
//! | [`server`] | parses, answers, and keeps a ledger of what it carried out |
//! | [`cluster`] | several servers: who serves what, and who knows it |
//! | [`network`] | one connection: bytes on their way in both directions |
//! | `dialogues` | runs dialogues as an adapter does: |
//! | `scanners` | … who scans what changes, and what must come up |
//! | `optimists` | … who writes by what it has read, and what must not be lost |
//! | `consumers` | … who reads a stream with others, and what each entry must come to |
//! | `holders` | who holds a connection for a while, and leaves nothing behind on it |
//! | [`workload`] | what callers ask for |
//! | `listeners` | who subscribes, and what must come |
//! | `blocked` | who waits at the server for elements of a queue, and who pushes them |
//! | [`world`] | the clock and the queue of what happens next |
//! | `hands`, `driver` | drive the engine as an adapter does: what it asks for, and the bytes |
//! | `chaos` | what goes wrong, and how it is put right |
//! | `callers` | submit, wait, cancel, and take what came of it |
//! | `checks` | what is looked at after every step, and how a world ends |
//! | [`oracle`] | what must hold, by the numbers of [`invariants`] |
//! | [`hunt`] | many worlds on all cores |
//! | [`mod@shrink`] | a story that breaks a promise is made shorter |
//! | [`mutants`] | deliberate faults, by which the oracle is tested |
//! | [`targets`] | what fuzzers attack: decoders, URLs, maps of slots, the store beside a [`model`], the whole world |
//!
//! ```
//! let story = unfazed_fuzz::world::run(1, None, false).expect("no promise is broken");
//! assert_eq!(story.trace, unfazed_fuzz::world::run(1, None, false).unwrap().trace);
//! ```

mod blocked;
mod callers;
mod chaos;
mod checks;
pub mod cluster;
mod consumers;
mod dialogues;
mod driver;
pub mod entropy;
mod hands;
mod holders;
pub mod hunt;
pub mod invariants;
mod listeners;
pub mod model;
pub mod mutants;
pub mod network;
mod optimists;
pub mod oracle;
mod scanners;
pub mod server;
pub mod setup;
pub mod shrink;
pub mod targets;
pub mod workload;
pub mod world;
