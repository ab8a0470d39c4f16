//! Batches of spans that become one request.

use super::{Batch, ScopeWriter, common_methods};
use crate::encode::request::{Request, Signal};
use crate::encode::resource::Resource;
use crate::encode::span::SpanWriter;
use crate::error::Error;
use alloc::format;

/// Encodes spans as they are told, straight into the memory of a request.
///
/// Spans belong to the resource and the scope named last. However often these change, the request holds each resource
/// once and each scope once under it. Memory comes from a pool that belongs to the resource; in steady state no span
/// allocates. [`finish`](Self::finish) leaves the batch empty and ready for the next request.
///
/// ```
/// use otlp_embed::{Resource, TraceBatch};
///
/// let resource = Resource::builder().attr("service.name", "checkout").build();
/// let mut batch = TraceBatch::new(&resource);
/// batch.scope("shop", "1.0");
/// batch.span([0x11; 16], [0x22; 8], "GET /cart").attr("retries", 2).times(1_000..2_000).end();
/// let request = batch.finish();
/// assert_eq!(request.items(), 1);
/// ```
pub struct TraceBatch {
    batch: Batch,
}

common_methods!(TraceBatch, Signal::Traces, "spans");

impl TraceBatch {
    /// Starts a span.
    ///
    /// Ids of zeros are no ids: such a span is not written. It counts in [`refused`](Self::refused), and
    /// [`SpanWriter::try_end`] and [`try_finish`](Self::try_finish) report it.
    #[inline]
    pub fn span<'a>(&'a mut self, trace_id: [u8; 16], span_id: [u8; 8], name: &'a str) -> SpanWriter<'a> {
        SpanWriter::new(self.batch.prepare(), trace_id, span_id, name)
    }

    /// Spans refused since the batch was empty: their ids were zeros, or they could not be finished.
    pub fn refused(&self) -> u64 {
        self.batch.state.refused
    }

    /// Like [`finish`](Self::finish), unless a span or a link was refused.
    ///
    /// # Errors
    ///
    /// A misuse error that says how many were refused and why. The batch is left as it is: `finish` still makes the
    /// other spans a request.
    pub fn try_finish(&mut self) -> Result<Request, Error> {
        let state = &mut self.batch.state;
        state.settle();
        let (spans, links) = (state.refused, state.refused_parts);
        if spans + links == 0 {
            return Ok(self.finish());
        }
        Err(Error::misuse(format!(
            "{spans} spans and {links} links were refused: a trace id or a span id consists of zeros, or a span was \
             abandoned in the middle; generate ids at random, or call `finish` to go on without them"
        )))
    }
}
