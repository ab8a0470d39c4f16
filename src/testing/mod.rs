//! Things to test an exporter against: public, feature `testing`, never part of a default build.
//!
//! Owns the in-process [`Collector`] and [`Scripted`], a protocol whose peer is a script. Never used by the exporter
//! itself.

pub mod collector;
mod scripted;
pub mod wire;

pub use collector::{Answer, Collector};
pub use scripted::{Command, Frame, Scripted};
