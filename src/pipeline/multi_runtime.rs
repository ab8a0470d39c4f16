//! A service on three tokio runtimes: one encodes, one sends, one looks after things (feature `tokio`).
//!
//! For programs whose own runtime must feel nothing of the export. It is thin: a [`Pipeline`] whose future lives on a
//! runtime of its own. Most programs are better served by spawning that future where they are.

use super::flush::Flush;
use super::park;
use super::stats::PipelineStats;
use super::{Pipeline, PipelineConfig, SpanBatch};
use crate::config::Config;
use crate::encode::Request;
use crate::error::{Error, Kind};
use crate::export::{Exporter, lock};
use crate::rt::{Runtime as _, Timer, Tokio};
use crate::stats::Report;
use core::fmt;
use core::future::poll_fn;
use core::num::NonZeroUsize;
use core::pin::pin;
use core::time::Duration;
use std::sync::Mutex;
use tokio::runtime::{Builder, Runtime};

/// How often the queue is flushed, unless told otherwise.
const FLUSH_PERIOD: Duration = Duration::from_secs(60);

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

fn named(name: &str, workers: usize) -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.enable_all().thread_name(name).worker_threads(workers);
    builder
}

/// Builds a runtime for a bit of everything: one worker a core, threads named `otlp-fast`, I/O and time on.
///
/// What it is called, and how large it is, may be changed before it is built.
///
/// ```
/// let runtime = otlp_embed::pipeline::multi_runtime::high_performance_runtime().build()?;
/// assert_eq!(runtime.block_on(async { 1 + 1 }), 2);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn high_performance_runtime() -> Builder {
    named("otlp-fast", cores())
}

/// Builds a runtime for sockets: half as many workers as there are cores, rounded up, which look for events twice as often as others; threads
/// named `otlp-io`, I/O and time on.
pub fn io_intensive_runtime() -> Builder {
    let mut builder = named("otlp-io", cores().div_ceil(2));
    builder.event_interval(31);
    builder
}

/// Builds a runtime for computing: one worker a core, which look for events half as often as others, and no more threads for what
/// blocks; threads named `otlp-cpu`, I/O and time on.
pub fn cpu_intensive_runtime() -> Builder {
    let cores = cores();
    let mut builder = named("otlp-cpu", cores);
    builder.event_interval(128).max_blocking_threads(cores);
    builder
}

/// Exports on runtimes of its own: spans are encoded on one, sent on another, and the upkeep has a third.
///
/// What is exported goes through a [pipeline](Self::pipeline), with its queue, batches and retries: see [`PipelineConfig`]. It may be
/// used from any executor, and from plain threads.
///
/// ```no_run
/// use otlp_embed::Config;
/// use otlp_embed::pipeline::multi_runtime::MultiRuntimeOtlpService;
/// use otlp_embed::pipeline::{PipelineConfig, SpanBatch};
/// use std::time::Duration;
///
/// # async fn run(batch: SpanBatch) -> Result<(), otlp_embed::Error> {
/// let service = MultiRuntimeOtlpService::new(Config::from_env()?, PipelineConfig::new())?;
/// service.start_background_tasks()?;
/// service.export_spans(batch).await?;
/// println!("{}", service.shutdown(Duration::from_secs(5)).await);
/// # Ok(())
/// # }
/// ```
///
/// # Drop
///
/// Dropping it, in an async context too, ends the runtimes without waiting for them: what is queued is lost. Shut it down before.
pub struct MultiRuntimeOtlpService {
    exporter: Exporter<Tokio>,
    pipeline: Pipeline,
    runtimes: Mutex<Option<Runtimes>>,
}

/// Its runtimes. They are ended in the background, since tokio panics where one is dropped in an async context.
struct Runtimes {
    encode: Option<Runtime>,
    send: Option<Runtime>,
    upkeep: Option<Runtime>,
    is_started: bool,
}

impl Drop for Runtimes {
    fn drop(&mut self) {
        // The one that sends goes last: the others may wait for it.
        for runtime in [&mut self.encode, &mut self.upkeep, &mut self.send] {
            if let Some(runtime) = runtime.take() {
                runtime.shutdown_background();
            }
        }
    }
}

impl MultiRuntimeOtlpService {
    /// Builds the runtimes, the exporter and the pipeline, which runs from here on.
    ///
    /// # Errors
    ///
    /// A misuse error that names the setting that cannot work; or the system can start no further thread.
    pub fn new(config: Config, pipeline: PipelineConfig) -> Result<Self, Error> {
        let build = |mut builder: Builder, what: &str| {
            builder.build().map_err(|error| {
                let text =
                    alloc::format!("MultiRuntimeOtlpService::new: the runtime that {what} cannot be built");
                Error::new(Kind::Runtime, text).with_source(error)
            })
        };
        // Whatever fails from here on drops what there is in the background.
        let mut runtimes = Runtimes {
            encode: None,
            send: None,
            upkeep: None,
            is_started: false,
        };
        let send = runtimes.send.insert(build(io_intensive_runtime(), "sends")?);
        let exporter = config.build(Tokio::with_handle(send.handle().clone())?)?;
        let (pipeline, future) = exporter.pipeline(pipeline)?;
        send.spawn(future);
        runtimes.encode = Some(build(cpu_intensive_runtime(), "encodes")?);
        runtimes.upkeep = Some(build(named("otlp-upkeep", 1), "looks after things")?);
        Ok(Self {
            exporter,
            pipeline,
            runtimes: Mutex::new(Some(runtimes)),
        })
    }

    /// Encodes spans on the runtime for that and queues them. Ready once they are queued: under
    /// [`Overflow::Block`](super::Overflow::Block) it waits for room.
    ///
    /// # Errors
    ///
    /// The queue is full and drops what comes (counted), or the service was shut down.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it may have queued the spans or not; those not queued are not counted.
    pub async fn export_spans(&self, batch: SpanBatch) -> Result<(), Error> {
        self.export_with(move || batch.into()).await
    }

    /// As [`export_spans`](Self::export_spans), for whatever the closure encodes on the runtime for that.
    ///
    /// # Errors
    ///
    /// As [`export_spans`](Self::export_spans). A runtime error, when the closure panicked.
    ///
    /// # Cancel safety
    ///
    /// As [`export_spans`](Self::export_spans).
    pub async fn export_with(&self, encode: impl FnOnce() -> Request + Send + 'static) -> Result<(), Error> {
        let encoding = {
            let runtimes = lock(&self.runtimes);
            let runtime = runtimes.as_ref().and_then(|runtimes| runtimes.encode.as_ref());
            let Some(runtime) = runtime else {
                return Err(Self::ended());
            };
            runtime.spawn(async move { encode() })
        };
        let request = encoding.await.map_err(|error| match error.is_panic() {
            true => Error::new(
                Kind::Runtime,
                "MultiRuntimeOtlpService: what encodes the telemetry panicked; nothing was queued",
            ),
            false => Self::ended(),
        })?;
        Ok(self.pipeline.send(request).await?)
    }

    /// Starts the upkeep: everything queued is exported every 60 s, however small the batches. Started again, nothing changes.
    ///
    /// # Errors
    ///
    /// The service was shut down.
    pub fn start_background_tasks(&self) -> Result<(), Error> {
        self.start_background_tasks_every(FLUSH_PERIOD)
    }

    /// As [`start_background_tasks`](Self::start_background_tasks), with another time between two flushes.
    ///
    /// # Errors
    ///
    /// As [`start_background_tasks`](Self::start_background_tasks); a misuse error for no time at all.
    pub fn start_background_tasks_every(&self, period: Duration) -> Result<(), Error> {
        if period.is_zero() {
            let text = "MultiRuntimeOtlpService::start_background_tasks_every: a period of 0 never rests; give it a second at least";
            return Err(Error::misuse(text));
        }
        let mut runtimes = lock(&self.runtimes);
        let Some(runtimes) = runtimes.as_mut() else {
            return Err(Self::ended());
        };
        let Some(upkeep) = runtimes.upkeep.as_ref().filter(|_| !runtimes.is_started) else {
            return Ok(());
        };
        let clock = Tokio::with_handle(upkeep.handle().clone())?;
        upkeep.spawn(flush_every(period, clock, self.pipeline.clone()));
        runtimes.is_started = true;
        Ok(())
    }

    /// Exports everything queued so far; see [`Pipeline::flush`].
    pub fn flush(&self, timeout: Duration) -> Flush {
        self.pipeline.flush(timeout)
    }

    /// Ends the service: everything queued has until `timeout` from now, and what became of it is in the report. The runtimes end in the
    /// background. Called again, it gives the same report.
    ///
    /// # Cancel safety
    ///
    /// It begins with its first poll. Dropped after that, the pipeline ends all the same, and the runtimes with the service.
    pub async fn shutdown(&self, timeout: Duration) -> Report {
        let report = self.exporter.shutdown(timeout).await;
        let runtimes = lock(&self.runtimes).take();
        drop(runtimes);
        report
    }

    /// As [`shutdown`](Self::shutdown), blocking the thread. It may be called in an async context, which it blocks.
    pub fn shutdown_blocking(&self, timeout: Duration) -> Report {
        let waited = park::wait(pin!(self.shutdown(timeout)), None);
        waited.unwrap_or_else(|| Report {
            stats: self.exporter.stats(),
        })
    }

    /// The pipeline, for what has no method here: logs, metrics, headers, waiting on a plain thread.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The exporter under it.
    pub fn exporter(&self) -> &Exporter<Tokio> {
        &self.exporter
    }

    /// What became of everything that was exported.
    pub fn stats(&self) -> PipelineStats {
        self.pipeline.stats()
    }

    fn ended() -> Error {
        Error::new(
            Kind::Shutdown,
            "the service was shut down: make a new one to export on",
        )
    }
}

impl fmt::Debug for MultiRuntimeOtlpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultiRuntimeOtlpService")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Flushes until the pipeline has ended, or the runtime.
async fn flush_every(period: Duration, clock: Tokio, pipeline: Pipeline) {
    let mut timer = clock.timer();
    loop {
        let at = clock.now() + period;
        if poll_fn(|cx| timer.poll_at(cx, at)).await.is_err() {
            return;
        }
        // A flush that takes longer than a period is overtaken by the next.
        if pipeline.flush(period).await.is_err() {
            return;
        }
    }
}
