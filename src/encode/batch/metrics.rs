//! Batches of metrics that become one request.

use super::{Batch, ScopeWriter, common_methods};
use crate::encode::metric::MetricWriter;
use crate::encode::request::{Request, Signal};
use crate::encode::resource::Resource;
use crate::error::Error;
use alloc::format;

/// Encodes metrics as they are told, straight into the memory of a request.
///
/// Metrics belong to the resource and the scope named last. However often these change, the request holds each resource
/// once and each scope once under it; metrics are written as they come, each name as often as it is told. Memory comes from
/// a pool that belongs to the resource; in steady state no data point allocates. The items of the request are data points.
/// [`finish`](Self::finish) leaves the batch empty and ready for the next request.
///
/// ```
/// use otlp_embed::{MetricBatch, Resource, Temporality};
///
/// let resource = Resource::builder().attr("service.name", "checkout").build();
/// let mut batch = MetricBatch::new(&resource);
/// batch.scope("shop", "1.0");
/// batch.metric("cart.items").unit("{item}").gauge().point(0..2_000, 97).attr("cart", "main").end();
/// batch
///     .metric("http.server.request.duration")
///     .unit("s")
///     .histogram(Temporality::Delta)
///     .point(1_000..2_000, &[0.1, 1.0], &[8, 3, 1])
///     .sum(3.7)
///     .attr("http.route", "/cart")
///     .end();
/// let request = batch.finish();
/// assert_eq!(request.items(), 2);
/// ```
pub struct MetricBatch {
    batch: Batch,
}

common_methods!(MetricBatch, Signal::Metrics, "data points");

impl MetricBatch {
    /// Starts a metric.
    ///
    /// A metric has to have a name: the data points of one without are refused.
    #[inline]
    pub fn metric<'a>(&'a mut self, name: &'a str) -> MetricWriter<'a> {
        let state = &mut self.batch.state;
        if state.metric.is_some() || state.unfinished_aside.is_some() {
            state.settle();
        }
        MetricWriter::new(self.batch.prepare(), name)
    }

    /// Data points refused since the batch was empty: they made no sense, or could not be finished.
    pub fn refused(&self) -> u64 {
        self.batch.state.refused
    }

    /// Like [`finish`](Self::finish), unless a data point was refused.
    ///
    /// # Errors
    ///
    /// A misuse error that says how many were refused, and why the first of them was. The batch is left as it is: `finish`
    /// still makes the other points a request.
    pub fn try_finish(&mut self) -> Result<Request, Error> {
        let state = &mut self.batch.state;
        state.settle();
        let (refused, why) = (
            state.refused,
            state.refusal.unwrap_or("it was abandoned in the middle"),
        );
        if refused == 0 {
            return Ok(self.finish());
        }
        Err(Error::misuse(format!(
            "{refused} data points were refused, the first for this: {why}; or call `finish` to go on without them"
        )))
    }
}
