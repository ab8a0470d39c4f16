//! From exporters to a pipeline: one of them, or several.

use super::config::{GRPC_BATCH_BYTES_MAX, PipelineConfig};
use super::delivery::{Choice, Delivery, DeliveryConfig, LegConfig};
use super::future::{Bounds, Endpoint, PipelineFuture};
use super::pipeline::Pipeline;
use super::shared::{Shared, add_breaker, add_leg};
use crate::encode::Signal;
use crate::error::Error;
use crate::export::{Companion, Exporter};
use crate::observe::Meter;
use crate::rt::Runtime;
use crate::stats::{Report, Stats};
use crate::time::Instant;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use futures_channel::oneshot;

/// Exporters that one pipeline may have.
const ENDPOINTS_MAX: usize = 64;

/// Several exporters that one pipeline delivers to.
///
/// There are 64 of them at most. They share a runtime: give clones of one to each [`Config::build`](crate::Config::build).
///
/// ```no_run
/// use otlp_embed::pipeline::{Endpoints, PipelineConfig};
/// use otlp_embed::{Config, Error, rt};
///
/// # fn main() -> Result<(), Error> {
/// let runtime = rt::Blocking::new()?;
/// let here = Config::new().with_endpoint("http://collector.local:4318").build(runtime.clone())?;
/// let there = Config::new().with_endpoint("http://collector.remote:4318").build(runtime)?;
/// let (pipeline, future) = Endpoints::failover([here, there]).pipeline(PipelineConfig::new())?;
/// let thread = future.run_on_thread().expect("a thread");
/// # Ok(())
/// # }
/// ```
pub struct Endpoints<R: Runtime> {
    legs: Vec<Vec<Exporter<R>>>,
    choice: Choice,
}

impl<R: Runtime> Endpoints<R> {
    /// The first, in order, whose circuit breaker lets through takes every batch; the others stand by. A batch that failed at one
    /// may go to the next at once, also where no attempt there can mend it: a certificate that expired, credentials that cannot
    /// be had. One that a collector has answered for good, as by `UNAUTHENTICATED`, is not sent to another.
    pub fn failover(exporters: impl IntoIterator<Item = Exporter<R>>) -> Self {
        Self {
            legs: Vec::from([exporters.into_iter().collect()]),
            choice: Choice::Failover,
        }
    }

    /// Those whose circuit breakers let through take batches in turn. A batch that failed at one may go to the next at
    /// once; as [`failover`](Self::failover).
    pub fn round_robin(exporters: impl IntoIterator<Item = Exporter<R>>) -> Self {
        Self {
            legs: Vec::from([exporters.into_iter().collect()]),
            choice: Choice::RoundRobin,
        }
    }

    /// Each gets everything. Each has a queue, an account and retries of its own over the same shared bytes, and settles on
    /// its own (OTLP specification, "Multi-Destination Exporting"). An item counts once for each of them.
    pub fn fan_out(exporters: impl IntoIterator<Item = Exporter<R>>) -> Self {
        Self {
            legs: exporters
                .into_iter()
                .map(|exporter| Vec::from([exporter]))
                .collect(),
            choice: Choice::Failover,
        }
    }

    /// A pipeline to them; as [`Exporter::pipeline`].
    ///
    /// # Errors
    ///
    /// A misuse error: a setting that cannot work, no exporter or more than 64, exporters of different runtimes, or one that a
    /// parent process built.
    pub fn pipeline(self, config: PipelineConfig) -> Result<(Pipeline, PipelineFuture<R>), Error> {
        config.check()?;
        let runtime = self.check()?;
        let delivery = Delivery::new(self.delivery(&config), runtime.seed());
        let temporality = self.legs[0][0].config_report().temporality_preference();
        let shared = Arc::new(Shared::new(delivery, config.resource, temporality));
        let mut endpoints = Vec::new();
        for (leg, exporters) in self.legs.iter().enumerate() {
            for (position, exporter) in exporters.iter().enumerate() {
                exporter.companions().add(Arc::new(Member {
                    shared: shared.clone(),
                    leg,
                    position,
                    has_breaker: config.breaker.is_some(),
                }));
                endpoints.push(Endpoint::new(leg, position, exporter, exporters.len()));
            }
        }
        let bounds = Bounds {
            items_max: config.queue.items_max,
            bytes_max: config.queue.bytes_max as u64,
            max_elapsed: config.max_elapsed,
        };
        let future = PipelineFuture::new(
            shared.clone(),
            runtime,
            endpoints,
            config.batch_bytes_max,
            bounds,
            config.self_metrics,
        );
        Ok((Pipeline::new(shared), future))
    }

    fn check(&self) -> Result<R, Error> {
        let runtimes = self.legs.iter().flatten().map(Exporter::runtime);
        let Some(runtimes) = runtimes.collect::<Option<Vec<R>>>() else {
            return Err(Error::misuse(
                "the exporter was built before a fork and belongs to the parent process; build a new one in the child",
            ));
        };
        let Some((first, others)) = runtimes.split_first() else {
            return Err(Error::misuse(
                "Endpoints: a pipeline needs an exporter; none was given",
            ));
        };
        if !others.iter().all(|other| first.is_same(other)) {
            return Err(Error::misuse(
                "Endpoints: the exporters have different runtimes, of which one thread can wait for one only; build each with \
                 a clone of the same",
            ));
        }
        let count = self.legs.iter().map(Vec::len).sum::<usize>();
        if count > ENDPOINTS_MAX {
            return Err(Error::misuse(format!(
                "Endpoints: {count} exporters were given; a pipeline takes {ENDPOINTS_MAX} at most"
            )));
        }
        Ok(first.clone())
    }

    fn delivery(&self, config: &PipelineConfig) -> DeliveryConfig {
        let legs = self.legs.iter().map(|exporters| LegConfig {
            endpoints: exporters.len(),
            choice: self.choice,
            batch_bytes_max: Signal::ALL.map(|signal| {
                let bytes = exporters
                    .iter()
                    .map(|exporter| batch_bytes_max(exporter, signal, config.batch_bytes_max));
                bytes.min().unwrap_or(GRPC_BATCH_BYTES_MAX as u64)
            }),
        });
        DeliveryConfig {
            legs: legs.collect(),
            items_max: config.queue.items_max,
            bytes_max: config.queue.bytes_max as u64,
            overflow: Signal::ALL.map(|signal| config.queue.overflow(signal)),
            batch: config.batch,
            max_elapsed: config.max_elapsed,
            retry: config.backoff,
            breaker: config.breaker,
            rate_limit: config.rate_limit,
            concurrency: config.concurrency,
        }
    }
}

/// The most bytes of a batch of a signal at an exporter, which may have learned that its collector takes less.
pub(super) fn batch_bytes_max<R: Runtime>(
    exporter: &Exporter<R>,
    signal: Signal,
    wanted: Option<usize>,
) -> u64 {
    let (is_grpc, request_bytes_max) = exporter.limits(signal);
    let default = if is_grpc { GRPC_BATCH_BYTES_MAX } else { usize::MAX };
    wanted.unwrap_or(default).min(request_bytes_max) as u64
}

impl<R: Runtime> Exporter<R> {
    /// Makes a pipeline to this exporter: a handle that any number of threads and tasks write to, and the future that
    /// exports what they wrote. Nothing is exported unless the future is run.
    ///
    /// Its account is part of this exporter's, and [`shutdown`](Self::shutdown) ends it. The future keeps the exporter alive, and
    /// not the other way round.
    ///
    /// ```no_run
    /// use otlp_embed::pipeline::PipelineConfig;
    /// use otlp_embed::{Config, Error, rt};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let exporter = Config::new().build(rt::Blocking::new()?)?;
    /// let (pipeline, future) = exporter.pipeline(PipelineConfig::new())?;
    /// let thread = future.run_on_thread()?;
    ///
    /// pipeline.spans(|batch| {
    ///     batch.scope("shop", "1.0");
    ///     batch.span([1; 16], [2; 8], "checkout").attr("items", 3).times(1_000..2_000).end();
    /// })?;
    ///
    /// println!("{}", pipeline.shutdown_blocking(Duration::from_secs(5)));
    /// thread.join()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// A misuse error that names the setting that cannot work; in a child of the exporter's process, one that says so.
    pub fn pipeline(&self, config: PipelineConfig) -> Result<(Pipeline, PipelineFuture<R>), Error> {
        Endpoints::failover([self.clone()]).pipeline(config)
    }
}

impl<R: Runtime> fmt::Debug for Endpoints<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<_> = self.legs.iter().map(Vec::len).collect();
        f.debug_struct("Endpoints")
            .field("legs", &sizes)
            .field("choice", &self.choice)
            .finish()
    }
}

/// A pipeline in the eyes of one of its exporters.
struct Member {
    shared: Arc<Shared>,
    leg: usize,
    position: usize,
    has_breaker: bool,
}

impl Companion for Member {
    fn add_to(&self, stats: &mut Stats, now: Instant) {
        let pipeline = self.shared.stats_at(now);
        let Some(leg) = pipeline.legs.get(self.leg) else {
            return;
        };
        // The account of a leg is told by one of its exporters, so that their sum counts it once.
        if self.position == 0 {
            add_leg(stats, leg);
        }
        if let Some(endpoint) = leg.endpoints.get(self.position).filter(|_| self.has_breaker) {
            add_breaker(stats, endpoint);
        }
    }

    fn measure(&self, meter: &mut Meter) {
        self.shared.measure(self.leg, self.position, meter);
    }

    fn is_over(&self) -> bool {
        self.shared.report().is_some()
    }

    fn close(&self, timeout: Duration) -> oneshot::Receiver<Report> {
        self.shared.shutdown(timeout)
    }
}
