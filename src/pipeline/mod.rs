//! Delivery: from a running program's telemetry to a settled account.
//!
//! Owns the queue, the batches, the order in which they are exported and exported again, the choice between several
//! endpoints, and the handles that programs write to: [`policy`](crate::policy) decides, [`export`](crate::export) exports.
//! Never knows a protocol, and never reads a clock: its futures carry the time of the exporter's runtime to
//! its machines.

mod config;
#[doc(hidden)]
pub mod delivery;
mod park;
mod queue;
mod stats;

pub use config::{Overflow, QueueConfig, SignalQueue};
pub use queue::{ExportQueue, Pop, Push, PushError, QueueStats};
pub use stats::{Account, EndpointStats, LegStats, PipelineStats};
