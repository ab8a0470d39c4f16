//! Owned spans of one resource and scope.

use crate::encode::Request;
use crate::pb::common::InstrumentationScope;
use crate::pb::resource::Resource;
use crate::pb::trace::{ResourceSpans, ScopeSpans, Span};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// Owned spans with the resource and the scope that they belong to, to be exported together.
///
/// ```
/// use otlp_embed::Request;
/// use otlp_embed::pb::trace::Span;
/// use otlp_embed::pipeline::SpanBatch;
///
/// let span = Span { name: "work".into(), trace_id: vec![1; 16], span_id: vec![2; 8], ..Span::default() };
/// let batch = SpanBatch { spans: vec![span], ..SpanBatch::default() };
/// assert_eq!(Request::from(batch).items(), 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpanBatch {
    /// What produced the spans; none means unknown.
    pub resource: Option<Resource>,
    /// What recorded them; none means unknown.
    pub scope: Option<InstrumentationScope>,
    /// The spans.
    pub spans: Vec<Span>,
}

impl SpanBatch {
    /// A batch of these spans.
    pub fn new(resource: Resource, scope: InstrumentationScope, spans: Vec<Span>) -> Self {
        Self {
            resource: Some(resource),
            scope: Some(scope),
            spans,
        }
    }
}

/// Encodes the batch; see [`Request::from_spans`].
impl From<SpanBatch> for Request {
    fn from(batch: SpanBatch) -> Self {
        Self::from_spans(vec![ResourceSpans {
            resource: batch.resource,
            scope_spans: vec![ScopeSpans {
                scope: batch.scope,
                spans: batch.spans,
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }])
    }
}
