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
//! | [`network`] | one connection: bytes on their way in both directions |
//! | [`workload`] | what callers ask for |
//! | `listeners` | who subscribes, and what must come |
//! | [`world`] | the clock and the queue of what happens next; drives the engine as an adapter does |
//! | [`oracle`] | what must hold |
//! | [`mutants`] | deliberate faults outside the engine, by which the oracle is tested |
//!
//! ```
//! let story = unfazed_fuzz::world::run(1, None, false).expect("no promise is broken");
//! assert_eq!(story.trace, unfazed_fuzz::world::run(1, None, false).unwrap().trace);
//! ```

mod callers;
mod chaos;
mod driver;
pub mod entropy;
mod listeners;
pub mod mutants;
pub mod network;
pub mod oracle;
pub mod server;
pub mod setup;
pub mod workload;
pub mod world;
