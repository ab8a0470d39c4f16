//! Benchmarks of otlp-embed, and the telemetry that they work on.

use otlp_embed::pb::collector::ExportTraceServiceRequest;
use otlp_embed::pb::common::any_value::Value;
use otlp_embed::pb::common::{AnyValue, InstrumentationScope, KeyValue};
use otlp_embed::pb::resource::Resource as PbResource;
use otlp_embed::pb::trace::span::{Event, SpanKind};
use otlp_embed::pb::trace::status::StatusCode;
use otlp_embed::pb::trace::{ResourceSpans, ScopeSpans, Span, Status};
use otlp_embed::{Resource, TraceBatch};

pub mod day;
pub mod logs;
pub mod metrics;
pub mod modes;
pub mod timing;

/// Spans in a batch.
pub const SPANS: usize = 512;

/// What an application knows about a request that it served: about 500 bytes as a span with ten attributes and an event.
pub struct Call {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    parent: [u8; 8],
    begin: u64,
    end: u64,
    route: String,
    url: String,
    peer: String,
    user: String,
    status: i64,
    bytes: i64,
    ratio: f64,
    cached: bool,
}

/// The calls of one batch, the same each time.
pub fn calls() -> Vec<Call> {
    (0..SPANS as u64).map(call).collect()
}

fn call(number: u64) -> Call {
    let begin = 1_700_000_000_000_000_000 + number * 1_000_000;
    Call {
        trace_id: (u128::from(number) + 1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
            .to_be_bytes(),
        span_id: (number + 1).to_be_bytes(),
        parent: (number + 2).to_be_bytes(),
        begin,
        end: begin + 1_234_567,
        route: format!("/api/v1/shops/{{shop}}/carts/{}", number % 10),
        url: format!("https://shop.example.com/api/v1/shops/17/carts/{number}?currency=EUR"),
        peer: format!("10.1.{}.{}", number % 7, number % 250),
        user: format!("user-{:08}", number * 7919),
        status: if number % 20 == 0 { 503 } else { 200 },
        bytes: (number * 317 % 70_000) as i64,
        ratio: number as f64 / 512.0,
        cached: number % 3 == 0,
    }
}

/// The resource that the calls were served by.
pub fn resource() -> Resource {
    Resource::builder()
        .attr("service.name", "shop")
        .attr("service.version", "1.4.2")
        .attr("host.name", "a1")
        .build()
}

/// Writes all calls as spans.
pub fn write(batch: &mut TraceBatch, calls: &[Call]) {
    batch.scope("shop.http", "0.3.1");
    for call in calls {
        let mut span = batch.span(call.trace_id, call.span_id, "GET cart");
        span.parent(call.parent)
            .kind(SpanKind::Server)
            .times(call.begin..call.end);
        span.attr("http.request.method", "GET")
            .attr("http.route", &call.route)
            .attr("url.full", &call.url);
        span.attr("client.address", &call.peer)
            .attr("user.id", &call.user);
        span.attr("http.response.status_code", call.status)
            .attr("http.response.body.size", call.bytes);
        span.attr("cache.hit_ratio", call.ratio)
            .attr("cache.hit", call.cached)
            .attr("server.port", 443);
        span.event("cart.loaded", call.begin + 1_000, |event| {
            event.attr("cart.items", 3).attr("cart.currency", "EUR");
        });
        span.status(StatusCode::Ok, "").end();
    }
}

/// Builds the same spans as owned messages.
pub fn owned(calls: &[Call]) -> Vec<ResourceSpans> {
    let scope = InstrumentationScope {
        name: "shop.http".into(),
        version: "0.3.1".into(),
        ..InstrumentationScope::default()
    };
    let scope_spans = ScopeSpans {
        scope: Some(scope),
        spans: calls.iter().map(owned_span).collect(),
        schema_url: String::new(),
    };
    vec![ResourceSpans {
        resource: Some(pb_resource()),
        scope_spans: vec![scope_spans],
        schema_url: String::new(),
    }]
}

/// The request that holds the same spans as owned messages.
pub fn owned_request(calls: &[Call]) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: owned(calls),
    }
}

/// The resource as an owned message.
fn pb_resource() -> PbResource {
    PbResource {
        attributes: vec![
            attribute("service.name", text("shop")),
            attribute("service.version", text("1.4.2")),
            attribute("host.name", text("a1")),
        ],
        ..PbResource::default()
    }
}

fn owned_span(call: &Call) -> Span {
    Span {
        trace_id: call.trace_id.to_vec(),
        span_id: call.span_id.to_vec(),
        parent_span_id: call.parent.to_vec(),
        name: "GET cart".into(),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: call.begin,
        end_time_unix_nano: call.end,
        attributes: vec![
            attribute("http.request.method", text("GET")),
            attribute("http.route", text(&call.route)),
            attribute("url.full", text(&call.url)),
            attribute("client.address", text(&call.peer)),
            attribute("user.id", text(&call.user)),
            attribute("http.response.status_code", Value::IntValue(call.status)),
            attribute("http.response.body.size", Value::IntValue(call.bytes)),
            attribute("cache.hit_ratio", Value::DoubleValue(call.ratio)),
            attribute("cache.hit", Value::BoolValue(call.cached)),
            attribute("server.port", Value::IntValue(443)),
        ],
        events: vec![Event {
            time_unix_nano: call.begin + 1_000,
            name: "cart.loaded".into(),
            attributes: vec![
                attribute("cart.items", Value::IntValue(3)),
                attribute("cart.currency", text("EUR")),
            ],
            dropped_attributes_count: 0,
        }],
        status: Some(Status {
            code: StatusCode::Ok.into(),
            message: String::new(),
        }),
        ..Span::default()
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        key_strindex: 0,
    }
}

fn text(text: &str) -> Value {
    Value::StringValue(text.into())
}
