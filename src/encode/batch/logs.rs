//! Batches of log records that become one request.

use super::{Batch, ScopeWriter, common_methods};
use crate::encode::log::LogWriter;
use crate::encode::request::{Request, Signal};
use crate::encode::resource::Resource;
use crate::error::Error;
use alloc::format;

/// Encodes log records as they are told, straight into the memory of a request.
///
/// Records belong to the resource and the scope named last. However often these change, the request holds each resource
/// once and each scope once under it. Memory comes from a pool that belongs to the resource; in steady state no record
/// allocates. [`finish`](Self::finish) leaves the batch empty and ready for the next request.
///
/// ```
/// use otlp_embed::pb::logs::SeverityNumber;
/// use otlp_embed::{LogBatch, Resource};
///
/// let resource = Resource::builder().attr("service.name", "checkout").build();
/// let mut batch = LogBatch::new(&resource);
/// batch.scope("shop", "1.0");
/// batch
///     .log()
///     .time(1_700_000_000_000_000_000)
///     .severity(SeverityNumber::Warn, "WARN")
///     .body("cart is almost full")
///     .attr("cart.items", 97)
///     .trace([0x11; 16], [0x22; 8])
///     .end();
/// let request = batch.finish();
/// assert_eq!(request.items(), 1);
/// ```
pub struct LogBatch {
    batch: Batch,
}

common_methods!(LogBatch, Signal::Logs, "log records");

impl LogBatch {
    /// Starts a log record.
    #[inline]
    pub fn log(&mut self) -> LogWriter<'_> {
        LogWriter::new(self.batch.prepare())
    }

    /// Log records refused since the batch was empty: they could not be finished.
    pub fn refused(&self) -> u64 {
        self.batch.state.refused
    }

    /// Like [`finish`](Self::finish), unless a log record was refused.
    ///
    /// # Errors
    ///
    /// A misuse error that says how many were refused and why. The batch is left as it is: `finish` still makes the
    /// other records a request.
    pub fn try_finish(&mut self) -> Result<Request, Error> {
        let state = &mut self.batch.state;
        state.settle();
        let refused = state.refused;
        if refused == 0 {
            return Ok(self.finish());
        }
        Err(Error::misuse(format!(
            "{refused} log records were refused: each was abandoned in the middle; let writers end or drop, or call \
             `finish` to go on without these records"
        )))
    }
}
