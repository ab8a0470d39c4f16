//! The account of the example `microservice` closes for what arrived, and for nothing else.

#[path = "../microservice/account.rs"]
mod account;
#[path = "../microservice/made.rs"]
#[allow(dead_code, reason = "the program uses the rest of it")]
mod made;

use made::{Made, attributes, point_id};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use otlp_embed::pb::logs::SeverityNumber;
use otlp_embed::pb::trace::span::SpanKind;
use otlp_embed::pipeline::{Pipeline, PipelineConfig};
use otlp_embed::testing::collector::Inbox;
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Code, Config, Protocol, Report, Resource, Stats, Temporality, rt};
use std::time::Duration;

/// Where the account is said; the test's output is kept back unless it fails.
fn say(line: impl std::fmt::Display) {
    println!("{line}");
}

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const TRACE: u128 = 7;

/// A run that ended: what the collector received, and what the pipeline says.
struct Ended {
    inbox: Inbox,
    report: Report,
    stats: Stats,
}

/// Writes to a pipeline, and ends it.
fn run(script: impl FnOnce(&Collector), write: impl FnOnce(&Pipeline)) -> Ended {
    let builder = Collector::builder();
    let inbox = builder.inbox().clone();
    let collector = builder.start().expect("a collector");
    script(&collector);
    let exporter = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(collector.endpoint())
        .build(rt::Blocking::new().expect("a runtime"))
        .expect("an exporter");
    let resource = Resource::builder().attr("service.name", "shop").build();
    let config = PipelineConfig::new().with_resource(&resource);
    let (pipeline, future) = exporter.pipeline(config).expect("a pipeline");
    let thread = future.run_on_thread().expect("a thread");
    write(&pipeline);
    pipeline.shutdown_blocking(Duration::from_secs(20));
    Ended {
        inbox,
        report: thread.join().expect("no panic"),
        stats: exporter.stats(),
    }
}

impl Ended {
    fn close(&self, made: &Made) -> std::result::Result<(), String> {
        account::close(made, Some(&self.inbox), &self.report, &self.stats).map_err(|error| error.to_string())
    }

    fn fails_with(&self, made: &Made, what: &str) {
        let error = self.close(made).expect_err(what);
        assert!(
            error.starts_with("the account does not close: ") && error.contains(what),
            "{error}"
        );
    }
}

fn put_span(pipeline: &Pipeline, trace: u128, id: u64) {
    let write = |batch: &mut otlp_embed::TraceBatch| {
        batch.span(trace.to_be_bytes(), id.to_be_bytes(), "work").end();
    };
    pipeline.spans(write).expect("there is room");
}

fn note_span(made: &Made, id: u64) {
    made.span(&SpanContext::new(
        TraceId::from(TRACE),
        SpanId::from(id),
        TraceFlags::SAMPLED,
        false,
        TraceState::NONE,
    ));
}

fn spans(ids: impl IntoIterator<Item = u64>) -> Made {
    let made = Made::new(true);
    ids.into_iter().for_each(|id| note_span(&made, id));
    made
}

fn put_log(pipeline: &Pipeline, uid: &str, span: u64) {
    let write = |batch: &mut otlp_embed::LogBatch| {
        let mut log = batch.log();
        log.severity(SeverityNumber::Info, "INFO");
        log.trace(TRACE.to_be_bytes(), span.to_be_bytes());
        log.attr("log.record.uid", uid);
        log.end();
    };
    pipeline.logs(write).expect("there is room");
}

fn put_sum(pipeline: &Pipeline, value: u64) {
    let write = |batch: &mut otlp_embed::MetricBatch| {
        let mut sum = batch.metric("shop.orders").monotonic_sum(Temporality::Delta);
        let mut point = sum.point(1..2, value);
        point.attr("order.outcome", "placed");
        point.end();
    };
    pipeline.metrics(write).expect("there is room");
}

fn note_sum(made: &Made, noted: u64) {
    let fields = attributes([("order.outcome", "placed")]);
    made.point(|| point_id("shop", "shop.orders", &fields, 1, 2));
    made.add("shop", "shop.orders", fields, noted);
}

#[test]
fn it_closes_where_each_item_arrived() {
    let made = spans([1, 2]);
    let uid = made.record("shop");
    note_sum(&made, 3);
    let ended = run(
        |_| (),
        |pipeline| {
            put_span(pipeline, TRACE, 1);
            put_span(pipeline, TRACE, 2);
            put_log(pipeline, &uid, 2);
            put_sum(pipeline, 3);
        },
    );
    assert_eq!(ended.close(&made), Ok(()));
}

#[test]
fn it_does_not_close_where_the_pipeline_was_not_given_an_item() {
    let ended = run(|_| (), |pipeline| put_span(pipeline, TRACE, 1));
    ended.fails_with(
        &spans([1, 2]),
        "items that the pipeline was given: 2 made, 1 found",
    );
}

#[test]
fn it_does_not_close_where_another_item_arrived() {
    let ended = run(|_| (), |pipeline| put_span(pipeline, TRACE, 3));
    ended.fails_with(&spans([1]), "items that nobody made: 0 made, 1 found");
}

#[test]
fn it_does_not_close_where_one_item_came_in_the_place_of_another() {
    let ended = run(
        |_| (),
        |pipeline| {
            put_span(pipeline, TRACE, 1);
            put_span(pipeline, TRACE, 1);
        },
    );
    ended.fails_with(&spans([1, 2]), "1 items are missing");
}

/// The pipeline says that it was refused, and so the collector kept nothing that was made: both are told.
#[test]
fn it_does_not_close_where_what_is_told_as_lost_has_arrived() {
    let refuse = |collector: &Collector| collector.answer(Answer::status(Code::INVALID_ARGUMENT, "no"));
    let ended = run(refuse, |pipeline| put_span(pipeline, TRACE, 1));
    assert_eq!(ended.report.stats.rejected, 1);
    ended.fails_with(&spans([1]), "0 items are missing, and as many are told");
}

#[test]
fn it_does_not_close_where_a_span_arrived_in_another_trace() {
    let ended = run(|_| (), |pipeline| put_span(pipeline, TRACE + 1, 1));
    ended.fails_with(&spans([1]), "spans in the trace that they were made in");
}

/// A request to the inventory, which has no span of it.
fn put_request(pipeline: &Pipeline, id: u64, is_answered: bool) {
    let write = |batch: &mut otlp_embed::TraceBatch| {
        let mut span = batch.span(TRACE.to_be_bytes(), id.to_be_bytes(), "GET");
        span.kind(SpanKind::Client);
        if is_answered {
            span.attr("http.response.status_code", 200);
        }
        span.end();
    };
    pipeline.spans(write).expect("there is room");
}

#[test]
fn it_closes_where_the_inventory_could_not_be_reached() {
    let ended = run(|_| (), |pipeline| put_request(pipeline, 1, false));
    assert_eq!(ended.close(&spans([1])), Ok(()));
}

#[test]
fn it_does_not_close_where_the_inventory_answered_and_has_no_span() {
    let ended = run(|_| (), |pipeline| put_request(pipeline, 1, true));
    ended.fails_with(
        &spans([1]),
        "of 1 requests to the inventory 1 were answered, and 0 were served",
    );
}

#[test]
fn it_does_not_close_where_a_record_arrived_outside_of_its_span() {
    let made = spans([1]);
    let uid = made.record("shop");
    let ended = run(
        |_| (),
        |pipeline| {
            put_span(pipeline, TRACE, 1);
            put_log(pipeline, &uid, 9);
        },
    );
    ended.fails_with(&made, "log records within a span that was made: 1 made, 0 found");
}

#[test]
fn it_does_not_close_where_a_metric_says_less_than_it_was_told() {
    let made = spans([]);
    note_sum(&made, 5);
    let ended = run(|_| (), |pipeline| put_sum(pipeline, 4));
    ended.fails_with(
        &made,
        "shop.orders of shop {order.outcome=placed}: 5 made, 4 found",
    );
}
