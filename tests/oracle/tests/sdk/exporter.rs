//! The SDK's `SpanExporter` over an exporter for plain threads.

use opentelemetry::trace::{Event, Link, SpanKind, Status};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use otlp_embed::encode::{IntoValue, ValueWriter, Written};
use otlp_embed::pb::trace::SpanFlags;
use otlp_embed::pb::trace::span::SpanKind as WireKind;
use otlp_embed::pb::trace::status::StatusCode;
use otlp_embed::{Error, Exporter, Request, Resource, SpanWriter, TraceBatch, rt};
use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Exports the SDK's spans on whichever thread the SDK exports from.
#[derive(Clone, Debug)]
pub struct BlockingSpanExporter {
    exporter: Exporter<rt::Blocking>,
    resource: Resource,
}

impl BlockingSpanExporter {
    pub fn new(exporter: &Exporter<rt::Blocking>) -> Self {
        Self {
            exporter: exporter.clone(),
            resource: Resource::new(),
        }
    }
}

impl SpanExporter for BlockingSpanExporter {
    fn export(&self, spans: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        let export = self.exporter.export(encode(&self.resource, &spans));
        async move { export.await.map(drop).map_err(into_sdk_error) }
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        let before = self.exporter.stats();
        let report = self.exporter.shutdown(timeout).wait();
        if report.stats.delivered == before.delivered + before.in_flight {
            Ok(())
        } else {
            Err(OTelSdkError::InternalFailure(report.to_string()))
        }
    }

    fn set_resource(&mut self, resource: &opentelemetry_sdk::Resource) {
        let mut builder = Resource::builder().schema_url(resource.schema_url().unwrap_or_default());
        for (key, value) in resource {
            builder = builder.attr(key.as_str(), SdkValue(value));
        }
        self.resource = builder.build();
    }
}

fn into_sdk_error(error: Error) -> OTelSdkError {
    if error.is_shutdown() {
        OTelSdkError::AlreadyShutdown
    } else {
        OTelSdkError::InternalFailure(error.to_string())
    }
}

fn encode(resource: &Resource, spans: &[SpanData]) -> Request {
    let mut batch = TraceBatch::new(resource);
    let mut scope = None;
    for span in spans {
        if scope != Some(&span.instrumentation_scope) {
            enter(&mut batch, &span.instrumentation_scope);
            scope = Some(&span.instrumentation_scope);
        }
        let context = &span.span_context;
        let mut writer = batch.span(
            context.trace_id().to_bytes(),
            context.span_id().to_bytes(),
            &span.name,
        );
        write(&mut writer, span);
    }
    batch.finish()
}

fn enter(batch: &mut TraceBatch, scope: &InstrumentationScope) {
    batch.scope_with(scope.name(), scope.version().unwrap_or_default(), |writer| {
        writer.schema_url(scope.schema_url().unwrap_or_default());
        for attribute in scope.attributes() {
            writer.attr(attribute.key.as_str(), SdkValue(&attribute.value));
        }
    });
}

fn write(to: &mut SpanWriter<'_>, span: &SpanData) {
    to.trace_state(&span.span_context.trace_state().header())
        .parent(span.parent_span_id.to_bytes())
        .kind(kind(&span.span_kind))
        .times(nanos(span.start_time)..nanos(span.end_time));
    for KeyValue { key, value, .. } in &span.attributes {
        to.attr(key.as_str(), SdkValue(value));
    }
    to.dropped_attributes_count(span.dropped_attributes_count);
    for event in span.events.iter() {
        write_event(to, event);
    }
    to.dropped_events_count(span.events.dropped_count);
    for link in span.links.iter() {
        write_link(to, link);
    }
    to.dropped_links_count(span.links.dropped_count);
    match &span.status {
        Status::Unset => {}
        Status::Ok => _ = to.status(StatusCode::Ok, ""),
        Status::Error { description } => _ = to.status(StatusCode::Error, description),
    }
    let remote = if span.parent_span_is_remote {
        SpanFlags::ContextIsRemoteMask as u32
    } else {
        0
    };
    let known = SpanFlags::ContextHasIsRemoteMask as u32;
    to.flags(u32::from(span.span_context.trace_flags().to_u8()) | known | remote);
    to.end();
}

fn write_event(to: &mut SpanWriter<'_>, event: &Event) {
    to.event(&event.name, nanos(event.timestamp), |writer| {
        for KeyValue { key, value, .. } in &event.attributes {
            writer.attr(key.as_str(), SdkValue(value));
        }
        writer.dropped_attributes_count(event.dropped_attributes_count);
    });
}

fn write_link(to: &mut SpanWriter<'_>, link: &Link) {
    let context = &link.span_context;
    to.link(
        context.trace_id().to_bytes(),
        context.span_id().to_bytes(),
        |writer| {
            writer.trace_state(&context.trace_state().header());
            for KeyValue { key, value, .. } in &link.attributes {
                writer.attr(key.as_str(), SdkValue(value));
            }
            writer
                .dropped_attributes_count(link.dropped_attributes_count)
                .flags(context.trace_flags().to_u8().into());
        },
    );
}

fn kind(kind: &SpanKind) -> WireKind {
    match kind {
        SpanKind::Internal => WireKind::Internal,
        SpanKind::Server => WireKind::Server,
        SpanKind::Client => WireKind::Client,
        SpanKind::Producer => WireKind::Producer,
        SpanKind::Consumer => WireKind::Consumer,
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

struct SdkValue<'a>(&'a Value);

impl IntoValue for SdkValue<'_> {
    fn write_value(self, to: ValueWriter<'_>) -> Written {
        match self.0 {
            Value::Bool(value) => to.bool(*value),
            Value::I64(value) => to.int(*value),
            Value::F64(value) => to.double(*value),
            Value::String(value) => to.string(value.as_str()),
            Value::Array(Array::Bool(values)) => list(to, values.iter().copied()),
            Value::Array(Array::I64(values)) => list(to, values.iter().copied()),
            Value::Array(Array::F64(values)) => list(to, values.iter().copied()),
            Value::Array(Array::String(values)) => list(to, values.iter().map(StringValue::as_str)),
            // A kind of value that the SDK has learnt since.
            other => to.string(&other.as_str()),
        }
    }
}

fn list<T: IntoValue>(to: ValueWriter<'_>, values: impl Iterator<Item = T>) -> Written {
    to.array(|list| {
        for value in values {
            list.push(value);
        }
    })
}
