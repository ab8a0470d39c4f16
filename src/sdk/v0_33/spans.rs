//! Spans: the processor, the exporter, and their data on the wire.

use super::values::{TakenValue, take_long};
use super::{name_scope, resource, sdk_result, unix_nanos};
use crate::encode::{EventWriter, LinkWriter, Request, Resource, SpanWriter, TraceBatch};
use crate::pb::trace::span::SpanKind as Kind;
use crate::pb::trace::status::StatusCode;
use crate::sdk::{SpanExporter, SpanProcessor};
use alloc::vec::Vec;
use core::time::Duration;
use otel_api_0_33::trace::{Event, Link, SpanKind, Status};
use otel_api_0_33::{Context, KeyValue};
use otel_sdk_0_33::error::OTelSdkResult;
use otel_sdk_0_33::trace::{Span, SpanData};

/// Flags beyond those of W3C: whether the context of a parent or of a linked span is remote is known, and whether it is.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

impl otel_sdk_0_33::trace::SpanProcessor for SpanProcessor {
    fn on_start(&self, _span: &mut Span, _cx: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            let mut span = span;
            self.face.span(|batch| write_span(batch, &mut span));
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        sdk_result(self.face.flush())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        sdk_result(self.face.shutdown(timeout))
    }

    fn set_resource(&mut self, of: &otel_sdk_0_33::Resource) {
        self.face.set_resource(resource(of));
    }
}

impl otel_sdk_0_33::trace::SpanExporter for SpanExporter {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        let sending = self.outlet.send_with(|| request(self.resource.as_ref(), batch));
        async move { sdk_result(sending.await) }
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        sdk_result(self.outlet.shutdown(Duration::ZERO))
    }

    fn force_flush(&self) -> OTelSdkResult {
        sdk_result(self.outlet.flush())
    }

    fn set_resource(&mut self, of: &otel_sdk_0_33::Resource) {
        self.resource = Some(resource(of));
    }
}

fn request(resource: Option<&Resource>, spans: Vec<SpanData>) -> Request {
    let mut batch = match resource {
        Some(resource) => TraceBatch::new(resource),
        None => TraceBatch::new(&Resource::new()),
    };
    for mut span in spans {
        write_span(&mut batch, &mut span);
    }
    batch.finish()
}

/// Writes a span, and takes its long texts out of it.
fn write_span(batch: &mut TraceBatch, span: &mut SpanData) {
    let scope = &span.instrumentation_scope;
    name_scope!(batch, scope.name(), scope);
    let context = &span.span_context;
    let (trace_id, span_id) = (context.trace_id().to_bytes(), context.span_id().to_bytes());
    let (trace_state, parent) = (context.trace_state().header(), span.parent_span_id.to_bytes());
    let long_name = take_long(&mut span.name);
    let mut to = batch.span(trace_id, span_id, &span.name);
    to.trace_state(&trace_state).parent(parent);
    if let Some(name) = long_name {
        to.shared_name(name);
    }
    to.kind(kind(&span.span_kind))
        .times(unix_nanos(span.start_time)..unix_nanos(span.end_time));
    for KeyValue { key, value, .. } in &mut span.attributes {
        to.attr(key.as_str(), TakenValue(value));
    }
    to.dropped_attributes_count(span.dropped_attributes_count);
    for event in &mut span.events.events {
        write_event(&mut to, event);
    }
    to.dropped_events_count(span.events.dropped_count);
    for link in &mut span.links.links {
        write_link(&mut to, link);
    }
    to.dropped_links_count(span.links.dropped_count);
    write_status(&mut to, &mut span.status);
    let flags = flags(context.trace_flags().to_u8(), span.parent_span_is_remote);
    to.flags(flags).end();
}

fn write_event(to: &mut SpanWriter<'_>, event: &mut Event) {
    let at = unix_nanos(event.timestamp);
    let long_name = take_long(&mut event.name);
    let (attributes, dropped) = (&mut event.attributes, event.dropped_attributes_count);
    let write = |to: &mut EventWriter<'_>| {
        for KeyValue { key, value, .. } in attributes {
            to.attr(key.as_str(), TakenValue(value));
        }
        to.dropped_attributes_count(dropped);
    };
    match long_name {
        None => to.event(&event.name, at, write),
        Some(name) => to.shared_event(name, at, write),
    };
}

fn write_link(to: &mut SpanWriter<'_>, link: &mut Link) {
    let context = &link.span_context;
    let (trace_id, span_id) = (context.trace_id().to_bytes(), context.span_id().to_bytes());
    to.link(trace_id, span_id, |to: &mut LinkWriter<'_>| {
        to.trace_state(&context.trace_state().header());
        for KeyValue { key, value, .. } in &mut link.attributes {
            to.attr(key.as_str(), TakenValue(value));
        }
        to.dropped_attributes_count(link.dropped_attributes_count)
            .flags(flags(context.trace_flags().to_u8(), context.is_remote()));
    });
}

fn write_status(to: &mut SpanWriter<'_>, status: &mut Status) {
    match status {
        Status::Unset => to,
        Status::Ok => to.status(StatusCode::Ok, ""),
        Status::Error { description } => match take_long(description) {
            None => to.status(StatusCode::Error, description),
            Some(message) => to.shared_status(StatusCode::Error, message),
        },
    };
}

fn flags(w3c: u8, is_remote: bool) -> u32 {
    u32::from(w3c) | HAS_IS_REMOTE | if is_remote { IS_REMOTE } else { 0 }
}

fn kind(kind: &SpanKind) -> Kind {
    match kind {
        SpanKind::Client => Kind::Client,
        SpanKind::Server => Kind::Server,
        SpanKind::Producer => Kind::Producer,
        SpanKind::Consumer => Kind::Consumer,
        SpanKind::Internal => Kind::Internal,
    }
}
