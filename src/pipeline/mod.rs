//! Delivery: from a running program's telemetry to a settled account.
//!
//! Owns the queue, the batches, the order in which they are exported and exported again, the choice between several
//! endpoints, and the handles that programs write to: [`policy`](crate::policy) decides, [`export`](crate::export) exports.
//! Never knows a protocol, and never reads a clock: its futures carry the time of the exporter's runtime to
//! its machines.

mod actor;
mod batcher;
mod config;
#[doc(hidden)]
pub mod delivery;
mod endpoints;
mod exports;
mod flush;
mod future;
mod latency;
#[cfg(feature = "tokio")]
pub mod multi_runtime;
mod park;
#[expect(
    clippy::module_inception,
    reason = "the handle that the module is named after"
)]
mod pipeline;
mod queue;
mod refusal;
mod scheduler;
mod shared;
mod span_batch;
mod stats;
mod streaming;
mod thread;

pub use actor::{
    ActorAnswer, ActorConfig, ActorFlush, ActorShutdown, ActorStats, ExporterActor, ExporterHandle,
    TryExportError,
};
pub use batcher::{AdaptiveBatcher, BatcherDriver};
pub use config::{Overflow, PipelineConfig, QueueConfig, SignalQueue};
pub use endpoints::Endpoints;
pub use flush::{Flush, PipelineShutdown};
pub use future::PipelineFuture;
pub use latency::{LatencyHistogram, LatencyStats};
pub use pipeline::Pipeline;
pub use queue::{ExportQueue, Pop, Push, PushError, QueueStats};
pub use refusal::Refusal;
pub use scheduler::{
    JobEnd, JobError, JobHandle, JobItems, JobReport, SchedulerConfig, SchedulerDriver, SchedulerStats,
    SmartScheduler, WaitAll,
};
pub use span_batch::SpanBatch;
pub use stats::{Account, EndpointStats, FlushReport, LegStats, PipelineStats};
pub use streaming::{
    ExportStats, StreamHandle, StreamItem, StreamingConfig, StreamingOtlpExporter, StreamingRun,
};
pub use thread::PipelineThread;
