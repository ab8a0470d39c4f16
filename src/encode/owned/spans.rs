//! Owned spans.

use super::{Group, Item, ScopeGroup, Writer, request};
use crate::encode::field::{fixed32_field, fixed64_field};
use crate::encode::request::{Request, Signal};
use crate::encode::span as keys;
use crate::pb::collector::ExportTraceServiceRequest;
use crate::pb::common::InstrumentationScope;
use crate::pb::resource::Resource;
use crate::pb::trace::span::{Event, Link};
use crate::pb::trace::{ResourceSpans, ScopeSpans, Span, Status, TracesData};
use alloc::vec::Vec;

impl Request {
    /// Encodes owned spans; the bytes are those that `prost` writes for the same messages.
    ///
    /// The spans are kept in place as long as the request lives: texts and byte values of 1 KiB and more are referenced
    /// instead of copied. Nothing is checked or grouped, and nothing is left out but what lies in more than 30 lists within
    /// lists, where empty values stand instead: collectors refuse a request that nests deeper. Without spans the request
    /// is [empty](Self::is_empty) whatever resources and scopes there are, and is not sent.
    pub fn from_spans(spans: impl Into<Vec<ResourceSpans>>) -> Self {
        request(Signal::Traces, spans.into())
    }
}

impl From<ExportTraceServiceRequest> for Request {
    fn from(request: ExportTraceServiceRequest) -> Self {
        Self::from_spans(request.resource_spans)
    }
}

impl From<TracesData> for Request {
    fn from(data: TracesData) -> Self {
        Self::from_spans(data.resource_spans)
    }
}

impl Group for ResourceSpans {
    type Scope = ScopeSpans;

    fn parts(&self) -> (Option<&Resource>, &[ScopeSpans], &str) {
        (self.resource.as_ref(), &self.scope_spans, &self.schema_url)
    }
}

impl ScopeGroup for ScopeSpans {
    type Item = Span;

    fn parts(&self) -> (Option<&InstrumentationScope>, &[Span], &str) {
        (self.scope.as_ref(), &self.spans, &self.schema_url)
    }
}

impl Item for Span {
    const BYTES: usize = 400;

    fn write<'s, S: Send + Sync + 'static>(&'s self, to: &mut Writer<'s, S>) {
        to.span(self);
    }
}

impl<'s, S: Send + Sync + 'static> Writer<'s, S> {
    fn span(&mut self, span: &'s Span) {
        self.bytes(keys::SPAN_TRACE_ID, &span.trace_id);
        self.bytes(keys::SPAN_SPAN_ID, &span.span_id);
        self.text(keys::SPAN_TRACE_STATE, &span.trace_state);
        self.bytes(keys::SPAN_PARENT, &span.parent_span_id);
        self.text(keys::SPAN_NAME, &span.name);
        self.enumeration(keys::SPAN_KIND, span.kind);
        fixed64_field(&mut self.sink, keys::SPAN_START, span.start_time_unix_nano, false);
        fixed64_field(&mut self.sink, keys::SPAN_END, span.end_time_unix_nano, false);
        self.attributes(keys::SPAN_ATTRIBUTES, &span.attributes);
        self.varint(keys::SPAN_DROPPED_ATTRIBUTES, span.dropped_attributes_count);
        span.events.iter().for_each(|event| self.event(event));
        self.varint(keys::SPAN_DROPPED_EVENTS, span.dropped_events_count);
        span.links.iter().for_each(|link| self.link(link));
        self.varint(keys::SPAN_DROPPED_LINKS, span.dropped_links_count);
        if let Some(status) = &span.status {
            self.status(status);
        }
        if span.flags != 0 {
            self.sink.put(keys::SPAN_FLAGS);
            self.sink.put(span.flags.to_le_bytes());
        }
    }

    fn event(&mut self, event: &'s Event) {
        let frame = self.sink.open(keys::SPAN_EVENTS, keys::EVENT_WIDTH);
        fixed64_field(&mut self.sink, keys::EVENT_TIME, event.time_unix_nano, false);
        self.text(keys::EVENT_NAME, &event.name);
        self.attributes(keys::EVENT_ATTRIBUTES, &event.attributes);
        self.varint(keys::EVENT_DROPPED_ATTRIBUTES, event.dropped_attributes_count);
        self.sink.close(frame);
    }

    fn link(&mut self, link: &'s Link) {
        let frame = self.sink.open(keys::SPAN_LINKS, keys::EVENT_WIDTH);
        self.bytes(keys::LINK_TRACE_ID, &link.trace_id);
        self.bytes(keys::LINK_SPAN_ID, &link.span_id);
        self.text(keys::LINK_TRACE_STATE, &link.trace_state);
        self.attributes(keys::LINK_ATTRIBUTES, &link.attributes);
        self.varint(keys::LINK_DROPPED_ATTRIBUTES, link.dropped_attributes_count);
        fixed32_field(&mut self.sink, keys::LINK_FLAGS, link.flags, false);
        self.sink.close(frame);
    }

    fn status(&mut self, status: &'s Status) {
        let frame = self.sink.open(keys::SPAN_STATUS, 1);
        self.text(keys::STATUS_MESSAGE, &status.message);
        self.enumeration(keys::STATUS_CODE, status.code);
        self.sink.close(frame);
    }
}
