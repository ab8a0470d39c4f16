//! Spans that come alone, gathered into batches.

use super::config::StreamingConfig;
use crate::encode::Request;
use crate::pb::common::InstrumentationScope;
use crate::pb::resource::Resource;
use crate::pb::trace::Span;
use crate::pipeline::SpanBatch;
use crate::time::Instant;
use alloc::vec::Vec;
use core::time::Duration;
use prost::Message;

/// What a source gives to a [`StreamingOtlpExporter`](super::StreamingOtlpExporter).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StreamItem {
    /// A request of any signal, exported as it is.
    Request(Request),
    /// Spans that are exported together.
    Batch(SpanBatch),
    /// One span, exported with others.
    Span(Span),
}

impl From<Request> for StreamItem {
    fn from(request: Request) -> Self {
        Self::Request(request)
    }
}

impl From<SpanBatch> for StreamItem {
    fn from(batch: SpanBatch) -> Self {
        Self::Batch(batch)
    }
}

impl From<Span> for StreamItem {
    fn from(span: Span) -> Self {
        Self::Span(span)
    }
}

/// The batch that is open.
pub(super) struct Gathered {
    resource: Option<Resource>,
    scope: Option<InstrumentationScope>,
    items_max: usize,
    bytes_max: usize,
    age_max: Duration,
    spans: Vec<Span>,
    bytes: usize,
    /// When the first of its spans came.
    since: Option<Instant>,
}

impl Gathered {
    pub(super) fn new(config: &StreamingConfig, bytes_max: usize) -> Self {
        // What each request has beside its spans.
        let resource = config.resource.as_ref().map_or(0, Message::encoded_len);
        let scope = config.scope.as_ref().map_or(0, Message::encoded_len);
        Self {
            resource: config.resource.clone(),
            scope: config.scope.clone(),
            items_max: config.batch_items_max,
            bytes_max: bytes_max.saturating_sub(resource + scope + 4 * FRAME),
            age_max: config.batch_age_max,
            spans: Vec::new(),
            bytes: 0,
            since: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Whether it takes nothing more.
    pub(super) fn is_full(&self) -> bool {
        !self.is_empty() && (self.spans.len() >= self.items_max || self.bytes >= self.bytes_max)
    }

    /// Whether a span of this size may be added; the first always may.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        self.is_empty() || self.bytes.saturating_add(bytes) <= self.bytes_max
    }

    /// Adds a span. The time is asked for the first alone: the age of a batch is that of its oldest span.
    pub(super) fn push(&mut self, span: Span, bytes: usize, now: impl FnOnce() -> Instant) {
        self.since.get_or_insert_with(now);
        self.bytes += bytes;
        self.spans.push(span);
    }

    /// When it is to be exported, whatever is in it; never while it is empty.
    pub(super) fn due(&self) -> Option<Instant> {
        Some(self.since? + self.age_max)
    }

    /// Takes what is in it as a request.
    pub(super) fn close(&mut self) -> Request {
        self.bytes = 0;
        self.since = None;
        Request::from(SpanBatch {
            resource: self.resource.clone(),
            scope: self.scope.clone(),
            spans: core::mem::take(&mut self.spans),
        })
    }
}

/// Tag and length of a message, at most.
const FRAME: usize = 6;

/// What a span takes of a request.
pub(super) fn len_of(span: &Span) -> usize {
    span.encoded_len() + FRAME
}
