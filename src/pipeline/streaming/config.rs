//! What a user sets about a streaming run, checked when it is made.

use crate::error::Error;
use crate::pb::common::InstrumentationScope;
use crate::pb::resource::Resource;
use alloc::format;
use core::time::Duration;

/// The settings of a [`StreamingOtlpExporter`](super::StreamingOtlpExporter). Nothing is checked before that is made.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamingConfig {
    pub(super) concurrency_max: usize,
    pub(super) batch_items_max: usize,
    pub(super) batch_bytes_max: Option<usize>,
    pub(super) batch_age_max: Duration,
    pub(super) resource: Option<Resource>,
    pub(super) scope: Option<InstrumentationScope>,
}

impl Default for StreamingConfig {
    fn default() -> Self {
        Self {
            concurrency_max: 16,
            batch_items_max: 512,
            batch_bytes_max: None,
            batch_age_max: Duration::from_millis(100),
            resource: None,
            scope: None,
        }
    }
}

impl StreamingConfig {
    /// Sixteen exports in flight; batches of 512 spans, 3.5 MiB on gRPC (over OTLP/HTTP what the exporter allows), and 100 ms.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many exports run at a time, at least 1; 16 unless set.
    pub fn with_concurrency_max(mut self, exports: usize) -> Self {
        self.concurrency_max = exports;
        self
    }

    /// Sets how many spans that come alone make a batch, at least 1; 512 unless set.
    pub fn with_batch_items_max(mut self, spans: usize) -> Self {
        self.batch_items_max = spans;
        self
    }

    /// Sets how many bytes the spans of a batch have at most, encoded and before compression, at least 1; 3.5 MiB on gRPC unless
    /// set, and over OTLP/HTTP what the exporter allows. Never passed are the exporter's request limit and a quarter of its memory
    /// limit: 16 MiB where neither is set. A single larger span goes alone.
    pub fn with_batch_bytes_max(mut self, bytes: usize) -> Self {
        self.batch_bytes_max = Some(bytes);
        self
    }

    /// Sets for how long a batch waits for further spans, from when its first one came; 100 ms unless set. Zero exports what
    /// the source gives at once without waiting for more.
    pub fn with_batch_age_max(mut self, age: Duration) -> Self {
        self.batch_age_max = age;
        self
    }

    /// Sets the resource of the spans that come alone; unknown unless set.
    pub fn with_resource(mut self, resource: Resource) -> Self {
        self.resource = Some(resource);
        self
    }

    /// Sets the scope of the spans that come alone; unknown unless set.
    pub fn with_scope(mut self, scope: InstrumentationScope) -> Self {
        self.scope = Some(scope);
        self
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |text: &str| Err(Error::config(format!("StreamingConfig::{text}")));
        if self.concurrency_max == 0 {
            return refuse(
                "with_concurrency_max: with 0 exports in flight nothing is ever sent; allow 1 at least",
            );
        }
        if self.batch_items_max == 0 {
            return refuse("with_batch_items_max: a batch of 0 spans holds nothing; allow 1 at least");
        }
        if self.batch_bytes_max == Some(0) {
            return refuse("with_batch_bytes_max: a batch of 0 bytes holds nothing");
        }
        Ok(())
    }
}
