//! Batches whose spans are told apart.

use otlp_embed::{Request, Resource, TraceBatch};

/// A request of `count` spans whose ids start at `first`.
pub fn batch(first: u64, count: u64) -> Request {
    batch_with(first, count, "")
}

/// As [`batch`], each span with an attribute of its own.
pub fn batch_with(first: u64, count: u64, payload: &'static str) -> Request {
    let mut batch = TraceBatch::new(&Resource::builder().attr("service.name", "conformance").build());
    batch.scope("suite", "1");
    for id in first..first + count {
        let mut trace_id = [7; 16];
        trace_id[..8].copy_from_slice(&(id + 1).to_be_bytes());
        let mut span = batch.span(trace_id, (id + 1).to_be_bytes(), "work");
        span.times(1_000..2_000).attr("id", id as i64);
        if !payload.is_empty() {
            span.attr_shared("payload", payload);
        }
        span.end();
    }
    batch.finish()
}
