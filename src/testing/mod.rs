//! Things to test an exporter against: public, feature `testing`, never part of a default build.
//!
//! Owns the in-process [`Collector`]. Never used by the exporter itself.

pub mod collector;

pub use collector::{Answer, Collector};
