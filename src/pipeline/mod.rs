//! Delivery: from a running program's telemetry to a settled account.
//!
//! Owns the queue, the batches, the order in which they are exported and exported again, the choice between several
//! endpoints, and the handles that programs write to: [`policy`](crate::policy) decides, [`export`](crate::export) exports.
//! Never knows a protocol, and never reads a clock: its futures carry the time of the exporter's runtime to
//! its machines. Fed by whoever writes to a handle, and by the verdicts of exports.
//!
//! ```text
//!  threads, tasks          one leg for each independent destination
//!  ┌──────────┐ items  ┌──────────────┐  ┌───────────────┐  batches  ┌────────────────────┐  ┌───────────────────┐
//!  │ Pipeline │ ─────> │ open batches │─>│ queue (FIFO), │ ────────> │ at most N exports  │─>│ an endpoint:      │
//!  │ (clones) │        └──────────────┘  │ bounded in    │ adaptive  │ in flight, N       │  │ breaker, limiter, │
//!  │          │ ───── whole requests ───>│ items, bytes  │ in size   │ adaptive           │  │ an Exporter       │
//!  └──────────┘                          └───────────────┘           └────────────────────┘  └───────────────────┘
//!       ▲                                        ▲                                                     │ verdict
//!       └── room, flushes, reports               └─── what may yet be delivered, until max_elapsed ────┴──> settled
//! ```
//!
//! - [`Pipeline`] is the handle, [`PipelineFuture`] moves everything. Between them stands one state machine without I/O,
//!   behind one lock that is held for a step of it: items are written, requests dropped and tasks woken outside.
//! - One exporter, failover and round robin are one leg, with one endpoint or several; a fan-out is a leg for each exporter, with
//!   a queue and an account of its own over the same shared bytes. See [`Endpoints`].
//! - The exporter's timeout bounds one export; [`max_elapsed`](PipelineConfig::with_max_elapsed) bounds how long a batch
//!   is exported again. An open breaker makes batches wait and drops none.
//! - [`PipelineStats`] is exact at every moment:
//!   `accepted = delivered + rejected + dropped + unknown + queued + in_flight`, an item counted once however often it is
//!   exported.
//! - In a child of `fork` a pipeline delivers nothing: it belongs to the process that built it.
//!
//! The other shapes: [`AdaptiveBatcher`] takes requests and blocks while full; [`StreamingOtlpExporter`] pulls from a
//! stream; [`ExporterActor`] answers each message of its mailbox with its verdict; [`SmartScheduler`] runs jobs;
//! [`ExportQueue`] is a bounded queue and nothing else. A batch is what the pipeline makes, a request what it is given
//! and what goes out; an endpoint is where an exporter sends to, a leg what settles on its own.

mod actor;
mod batcher;
mod config;
#[doc(hidden)]
pub mod delivery;
mod endpoints;
mod exports;
mod flush;
mod future;
mod inside;
mod latency;
#[cfg(feature = "tokio")]
pub mod multi_runtime;
pub(crate) mod park;
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
