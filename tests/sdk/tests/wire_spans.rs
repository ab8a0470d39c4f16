//! Spans of the SDK on the wire, compared with what the upstream makes of them.

mod wire;

use opentelemetry::trace::{
    Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter, SpanLinks, SpanProcessor};
use otlp_embed::pipeline::PipelineConfig;
use otlp_embed::sdk;
use std::collections::BTreeMap;
use std::time::Duration;
use wire::{Chance, messages, resource, scope_key, sort_resource, world};

const TIME: Duration = Duration::from_secs(20);

fn context(chance: &mut Chance) -> SpanContext {
    let state = match chance.below(3) {
        0 => TraceState::NONE,
        1 => TraceState::from_key_value([("vendor", "x")]).expect("a state"),
        _ => TraceState::from_key_value([("a", "1"), ("b", "2")]).expect("a state"),
    };
    SpanContext::new(
        TraceId::from(u128::from(chance.next()) + 1),
        SpanId::from(chance.next() | 1),
        TraceFlags::SAMPLED,
        chance.flag(),
        state,
    )
}

fn span(chance: &mut Chance) -> SpanData {
    let mut events = SpanEvents::default();
    events.dropped_count = chance.below(2) as u32;
    for _ in 0..chance.below(3) {
        let dropped = chance.below(3) as u32;
        events.events.push(Event::new(
            chance.text(),
            chance.time(),
            chance.attributes(),
            dropped,
        ));
    }
    let mut links = SpanLinks::default();
    links.dropped_count = chance.below(300) as u32;
    for _ in 0..chance.below(3) {
        let dropped = chance.below(3) as u32;
        links
            .links
            .push(Link::new(context(chance), chance.attributes(), dropped));
    }
    SpanData {
        span_context: context(chance),
        parent_span_id: match chance.flag() {
            true => SpanId::INVALID,
            false => SpanId::from(chance.next() | 1),
        },
        parent_span_is_remote: chance.flag(),
        span_kind: match chance.below(5) {
            0 => SpanKind::Client,
            1 => SpanKind::Server,
            2 => SpanKind::Producer,
            3 => SpanKind::Consumer,
            _ => SpanKind::Internal,
        },
        name: match chance.flag() {
            true => chance.text().into(),
            false => "a name that is there for ever".into(),
        },
        start_time: chance.time(),
        end_time: chance.time(),
        attributes: chance.attributes(),
        dropped_attributes_count: chance.below(3) as u32,
        events,
        links,
        status: match chance.below(3) {
            0 => Status::Unset,
            1 => Status::Ok,
            _ => Status::error(chance.text()),
        },
        instrumentation_scope: chance.scope(),
    }
}

/// What the upstream makes of the spans.
fn expected(spans: Vec<SpanData>) -> Vec<ResourceSpans> {
    group_spans_by_resource_and_scope(spans, &ResourceAttributesWithSchema::from(&resource()))
}

/// One group of each scope, in an order that does not depend on who made it. A status without anything is none.
fn normal(groups: Vec<ResourceSpans>) -> (String, BTreeMap<String, ScopeSpans>) {
    let (mut head, mut scopes) = (String::new(), BTreeMap::<String, ScopeSpans>::new());
    for mut group in groups {
        sort_resource(&mut group.resource);
        head = format!("{:?} {}", group.resource, group.schema_url);
        for mut of_scope in group.scope_spans {
            for span in &mut of_scope.spans {
                span.status.get_or_insert_default();
            }
            let key = scope_key(&of_scope.scope, &of_scope.schema_url);
            match scopes.get_mut(&key) {
                Some(known) => known.spans.append(&mut of_scope.spans),
                None => {
                    scopes.insert(key, of_scope);
                }
            }
        }
    }
    (head, scopes)
}

fn assert_same(seed: u64, ours: Vec<ResourceSpans>, theirs: Vec<ResourceSpans>) {
    let ((head, ours), (their_head, theirs)) = (normal(ours), normal(theirs));
    assert_eq!(head, their_head, "seed {seed}");
    assert!(ours.keys().eq(theirs.keys()), "seed {seed}: other scopes");
    for (key, ours) in ours {
        for (span, expected) in ours.spans.iter().zip(&theirs[&key].spans) {
            assert_eq!(span, expected, "seed {seed}, scope {key}");
        }
        assert_eq!(ours, theirs[&key], "seed {seed}");
    }
}

#[test]
fn batches_are_what_the_upstream_makes_of_them() {
    for seed in 0..60 {
        let (collector, exporter) = world();
        let mut chance = Chance(seed);
        let spans: Vec<_> = (0..1 + chance.below(40)).map(|_| span(&mut chance)).collect();
        let mut ours = sdk::SpanExporter::new(&exporter);
        ours.set_resource(&resource());
        futures_executor::block_on(ours.export(spans.clone())).expect("delivered");
        let messages: Vec<ExportTraceServiceRequest> = messages(&collector);
        assert_eq!(messages.len(), 1);
        let groups = messages.into_iter().flat_map(|message| message.resource_spans);
        assert_same(seed, groups.collect(), expected(spans));
    }
}

#[test]
fn spans_one_by_one_are_what_the_upstream_makes_of_them() {
    for seed in 100..140 {
        let (collector, exporter) = world();
        let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
        let thread = future.run_on_thread().expect("a thread");
        let mut chance = Chance(seed);
        let spans: Vec<_> = (0..1 + chance.below(40)).map(|_| span(&mut chance)).collect();
        let mut ours = sdk::SpanProcessor::new(&pipeline);
        ours.set_resource(&resource());
        for span in spans.clone() {
            ours.on_end(span);
        }
        ours.shutdown_with_timeout(TIME).expect("delivered");
        pipeline.shutdown_blocking(TIME);
        thread.join().expect("it ends");
        let groups = messages::<ExportTraceServiceRequest>(&collector).into_iter();
        let groups = groups.flat_map(|message| message.resource_spans).collect();
        assert_same(seed, groups, expected(spans));
    }
}

#[test]
fn spans_that_are_not_sampled_are_left_out() {
    let (collector, exporter) = world();
    let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
    let thread = future.run_on_thread().expect("a thread");
    let ours = sdk::SpanProcessor::new(&pipeline);
    let mut span = span(&mut Chance(1));
    ours.on_end(span.clone());
    let context = &span.span_context;
    span.span_context = SpanContext::new(
        context.trace_id(),
        context.span_id(),
        TraceFlags::default(),
        false,
        TraceState::NONE,
    );
    ours.on_end(span);
    assert_eq!(pipeline.shutdown_blocking(TIME).stats.accepted, 1);
    thread.join().expect("it ends");
    assert_eq!(collector.spans().len(), 1);
}
