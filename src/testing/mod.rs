//! Things to test an exporter against: public, feature `testing`, never part of a default build.
//!
//! Owns the in-process [`Collector`], the simulated [`Network`] with its virtual [`Clock`], and [`Scripted`], a protocol
//! whose peer is a script. Never used by the exporter itself.

mod clock;
pub mod collector;
mod executor;
pub mod network;
mod scripted;
pub mod wire;

pub use clock::{Clock, Elapsed, Sleep, Timer};
pub use collector::{Answer, Collector};
pub use executor::JoinHandle;
pub use network::{Link, Network, SimulatedCollector};
pub use scripted::{Command, Frame, Scripted};
