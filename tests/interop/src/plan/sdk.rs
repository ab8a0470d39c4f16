//! The same spans, made with the SDK.

use super::span::{EVENT, FAILED, Span};
use super::value::Value;
use super::{Batch, Items, SCOPE, SERVICE};
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind as Kind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Array, Context, InstrumentationScope, KeyValue, StringValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator, SdkTracerProvider, SpanProcessor};
use otlp_embed::Signal;
use otlp_embed::pb::trace::span::SpanKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// So many spans, without the attributes that the SDK does not know.
pub fn batch(number: usize, count: usize) -> Batch {
    let mut batch = Batch::new(Signal::Traces, number, count, 0);
    if let Items::Spans(spans) = &mut batch.items {
        for span in spans {
            span.attributes.retain(|(_, value)| to_sdk(value).is_some());
            let names = ["a", "b"].map(|name| Value::Text(name.into()));
            span.attributes.push(("names", Value::List(names.into())));
        }
    }
    batch
}

/// A provider that gives spans the ids of the plan.
pub struct Spans {
    provider: SdkTracerProvider,
    ids: Ids,
}

impl Spans {
    /// One with this processor.
    pub fn new(processor: impl SpanProcessor + 'static) -> Self {
        let ids = Ids::default();
        let service = KeyValue::new("service.name", SERVICE);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_id_generator(ids.clone())
            .with_resource(Resource::builder_empty().with_attribute(service).build())
            .build();
        Self { provider, ids }
    }

    /// The provider.
    pub fn provider(&self) -> &SdkTracerProvider {
        &self.provider
    }

    /// Begins and ends the spans of a batch.
    pub fn end(&self, batch: &Batch) {
        let scope = InstrumentationScope::builder(SCOPE[0])
            .with_version(SCOPE[1])
            .build();
        let tracer = self.provider.tracer_with_scope(scope);
        if let Items::Spans(spans) = &batch.items {
            for span in spans {
                self.ids.set(span);
                end(span, &tracer);
            }
        }
    }
}

fn end(plan: &Span, tracer: &impl Tracer) {
    let parent = match plan.parent {
        None => Context::new(),
        Some(parent) => Context::new().with_remote_span_context(SpanContext::new(
            TraceId::from_bytes(plan.trace_id),
            SpanId::from_bytes(parent),
            TraceFlags::SAMPLED,
            true,
            TraceState::NONE,
        )),
    };
    let builder = tracer
        .span_builder(plan.name.clone())
        .with_kind(kind(plan.kind))
        .with_start_time(at(plan.start));
    let mut span = tracer.build_with_context(builder, &parent);
    for (key, value) in &plan.attributes {
        if let Some(value) = to_sdk(value) {
            span.set_attribute(KeyValue::new(*key, value));
        }
    }
    if let Some((time, n)) = plan.failure {
        span.add_event_with_timestamp(EVENT, at(time), vec![KeyValue::new("n", n)]);
        span.set_status(Status::error(FAILED));
    }
    span.end_with_timestamp(at(plan.end));
}

/// The SDK's value, where it has one of this kind.
fn to_sdk(value: &Value) -> Option<opentelemetry::Value> {
    Some(match value {
        Value::Text(text) => text.clone().into(),
        Value::Shared(text) => Arc::clone(text).into(),
        Value::Int(int) => (*int).into(),
        Value::Double(double) => (*double).into(),
        Value::Bool(bool) => (*bool).into(),
        Value::List(values) => {
            let texts: Option<Vec<StringValue>> = values
                .iter()
                .map(|value| match value {
                    Value::Text(text) => Some(text.clone().into()),
                    _ => None,
                })
                .collect();
            opentelemetry::Value::Array(Array::String(texts?))
        }
        Value::Bytes(_) | Value::Map(_) => return None,
    })
}

fn kind(kind: SpanKind) -> Kind {
    match kind {
        SpanKind::Server => Kind::Server,
        SpanKind::Client => Kind::Client,
        SpanKind::Producer => Kind::Producer,
        SpanKind::Consumer => Kind::Consumer,
        _ => Kind::Internal,
    }
}

fn at(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}

/// The ids of the span that begins next.
#[derive(Clone, Debug, Default)]
struct Ids(Arc<Mutex<([u8; 16], [u8; 8])>>);

impl Ids {
    fn set(&self, span: &Span) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (span.trace_id, span.span_id);
    }
}

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        TraceId::from_bytes(self.0.lock().unwrap_or_else(PoisonError::into_inner).0)
    }

    fn new_span_id(&self) -> SpanId {
        SpanId::from_bytes(self.0.lock().unwrap_or_else(PoisonError::into_inner).1)
    }
}
