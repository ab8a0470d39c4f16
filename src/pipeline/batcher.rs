//! Requests in, batches of adaptive size out.

use super::FlushReport;
use super::config::{Overflow, PipelineConfig, QueueConfig};
use super::flush::Flush;
use super::future::PipelineFuture;
use super::pipeline::Pipeline;
use super::refusal::Refusal;
use super::stats::PipelineStats;
use super::thread::PipelineThread;
use crate::encode::{LogBatch, MetricBatch, Request, Resource, TraceBatch};
use crate::error::Error;
use crate::export::Exporter;
use crate::policy::{AdaptiveBatchConfig, BatcherStats};
use crate::rt::Runtime;
use crate::stats::Report;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;

/// Gathers what it is given into batches whose size follows the latency of their exports; see
/// [`AdaptiveBatchConfig`].
///
/// It is a [`Pipeline`] with one setting: nothing is lost, whoever adds waits while the queue is full
/// ([`Overflow::Block`]). Handle and [driver](BatcherDriver) are separate, so that adding stays possible while batches are
/// exported. The latency that counts is that of an export, from its start to its verdict, and not the time in the
/// queue. Requests whose headers differ are never merged, and no batch has more bytes than the collector takes: 3.5 MiB on
/// gRPC.
///
/// ```no_run
/// use otlp_embed::pipeline::AdaptiveBatcher;
/// use otlp_embed::policy::AdaptiveBatchConfig;
/// use otlp_embed::{Config, Request, Resource, rt};
/// use std::time::Duration;
///
/// # async fn run(requests: Vec<Request>) -> Result<(), Box<dyn std::error::Error>> {
/// let exporter = Config::new().build(rt::Tokio::current()?)?;
/// let (batcher, driver) = AdaptiveBatcher::new(&exporter, AdaptiveBatchConfig::new(), &Resource::from_env())?;
/// tokio::spawn(driver);
/// for request in requests {
///     batcher.add(request).await?;
/// }
/// batcher.flush(Duration::from_secs(5)).await?;
/// println!("{:?}", batcher.batch_size());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct AdaptiveBatcher {
    pipeline: Pipeline,
}

impl AdaptiveBatcher {
    /// A batcher on an exporter, and what drives it. The resource is that of the items which are written rather than added in
    /// whole requests.
    ///
    /// # Errors
    ///
    /// A misuse error that names the setting that cannot work.
    pub fn new<R: Runtime>(
        exporter: &Exporter<R>,
        config: AdaptiveBatchConfig,
        resource: &Resource,
    ) -> Result<(Self, BatcherDriver<R>), Error> {
        let config = PipelineConfig::new()
            .with_resource(resource)
            .with_queue(QueueConfig::new().with_overflow(Overflow::Block))
            .with_batch(config);
        let (pipeline, future) = exporter.pipeline(config)?;
        Ok((Self { pipeline }, BatcherDriver { future }))
    }

    /// Adds a whole request, waiting while the queue is full; see [`Pipeline::send`].
    pub fn add(&self, request: Request) -> impl Future<Output = Result<(), Refusal>> + use<> {
        self.pipeline.send(request)
    }

    /// Adds a whole request without ever waiting; see [`Pipeline::try_send`].
    ///
    /// # Errors
    ///
    /// The [`Refusal`] says why it was not taken.
    pub fn try_add(&self, request: Request) -> Result<(), Refusal> {
        self.pipeline.try_send(request)
    }

    /// Adds a whole request, blocking the thread for `timeout` at most; see [`Pipeline::send_blocking`].
    ///
    /// # Errors
    ///
    /// The [`Refusal`] says why it was not taken.
    pub fn add_blocking(&self, request: Request, timeout: Duration) -> Result<(), Refusal> {
        self.pipeline.send_blocking(request, timeout)
    }

    /// Writes spans into the open batch; see [`Pipeline::spans_async`].
    pub fn add_spans<F: FnOnce(&mut TraceBatch)>(
        &self,
        write: F,
    ) -> impl Future<Output = Result<(), Refusal>> + use<F> {
        self.pipeline.spans_async(write)
    }

    /// Writes log records into the open batch; see [`Pipeline::logs_async`].
    pub fn add_logs<F: FnOnce(&mut LogBatch)>(
        &self,
        write: F,
    ) -> impl Future<Output = Result<(), Refusal>> + use<F> {
        self.pipeline.logs_async(write)
    }

    /// Writes data points into the open batch; see [`Pipeline::metrics_async`].
    pub fn add_metrics<F: FnOnce(&mut MetricBatch)>(
        &self,
        write: F,
    ) -> impl Future<Output = Result<(), Refusal>> + use<F> {
        self.pipeline.metrics_async(write)
    }

    /// Exports everything added so far without waiting for full batches; see [`Pipeline::flush`].
    pub fn flush(&self, timeout: Duration) -> Flush {
        self.pipeline.flush(timeout)
    }

    /// As [`flush`](Self::flush), blocking the thread; see [`Pipeline::flush_blocking`].
    ///
    /// # Errors
    ///
    /// A shutdown error, when the driver has ended.
    pub fn flush_blocking(&self, timeout: Duration) -> Result<FlushReport, Error> {
        self.pipeline.flush_blocking(timeout)
    }

    /// What the size of batches has adapted to; [`stats`](Self::stats) has it too.
    pub fn batch_size(&self) -> BatcherStats {
        let stats = self.pipeline.stats();
        stats.legs.first().map(|leg| leg.batcher).unwrap_or_default()
    }

    /// What became of everything that was added.
    pub fn stats(&self) -> PipelineStats {
        self.pipeline.stats()
    }

    /// The pipeline that it stands on, for what it has no method for: headers, a shutdown.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }
}

/// What drives an [`AdaptiveBatcher`]: a [`PipelineFuture`], with its end and its cancel safety.
#[derive(Debug)]
#[must_use = "nothing is exported unless the driver is run"]
pub struct BatcherDriver<R: Runtime> {
    future: PipelineFuture<R>,
}

impl<R: Runtime> BatcherDriver<R>
where
    PipelineFuture<R>: Send + 'static,
{
    /// Runs it on a thread of its own; see [`PipelineFuture::run_on_thread`].
    ///
    /// # Errors
    ///
    /// The system can start no further thread.
    pub fn run_on_thread(self) -> io::Result<PipelineThread> {
        self.future.run_on_thread()
    }
}

impl<R: Runtime> Future for BatcherDriver<R> {
    type Output = Report;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Report> {
        Pin::new(&mut self.future).poll(cx)
    }
}
