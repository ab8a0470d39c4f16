//! The self-metrics: each item counts once an export, under the names of the semantic conventions, as `prost` reads them.

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "not every batch is needed here")]
mod batches;
#[path = "support/simulation.rs"]
#[allow(dead_code, reason = "time passes by itself here")]
mod simulation;
#[path = "support/world.rs"]
mod world;

use batches::batch;
use otlp_embed::export::Fact;
use otlp_embed::observe::SelfMetrics;
use otlp_embed::pb::collector::ExportMetricsServiceRequest;
use otlp_embed::pb::common::{KeyValue, any_value};
use otlp_embed::pb::metrics::metric::Data;
use otlp_embed::pb::metrics::{AggregationTemporality, HistogramDataPoint, Metric, number_data_point};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::testing::{Answer, Collector, Command};
use otlp_embed::{Code, Config, MetricBatch, Protocol, Resource, Signal, rt};
use prost::Message;
use simulation::Simulation;
use std::collections::BTreeMap;
use std::time::Duration;
use world::{Dial, World, config, ms, request, request_of, spans};

const START: u64 = 1_700_000_000_000_000_000;
const NOW: u64 = START + 60_000_000_000;

fn failed(metrics: &SelfMetrics, signal: Signal) -> Vec<(String, u64)> {
    let failed = metrics.failed(signal);
    failed.map(|(why, items)| (why.to_string(), items)).collect()
}

/// Exports by the cause of their failure.
fn exports(metrics: &SelfMetrics, signal: Signal) -> Vec<(String, u64, Duration)> {
    let exports = metrics.exports(signal);
    exports
        .map(|(why, count, took)| {
            let why = why.map_or("success".to_owned(), |why| why.to_string());
            (why, count, took)
        })
        .collect()
}

/// The self-metrics of a world, after what always holds: they say what the account says.
fn metrics(world: &World) -> SelfMetrics {
    let (metrics, stats) = (world.engine.self_metrics(), world.stats());
    let sum = |of: fn(&SelfMetrics, Signal) -> u64| -> u64 {
        Signal::ALL.into_iter().map(|signal| of(&metrics, signal)).sum()
    };
    assert_eq!(sum(SelfMetrics::in_flight), stats.in_flight, "spec 55");
    assert_eq!(sum(SelfMetrics::exported), stats.delivered, "spec 55");
    let lost = sum(|metrics, signal| metrics.failed(signal).map(|(_, items)| items).sum());
    assert_eq!(
        lost,
        stats.rejected + stats.dropped_total() + stats.unknown,
        "spec 55"
    );
    metrics
}

#[test]
fn an_export_that_is_retried_counts_once_and_stays_in_flight_through_backoff() {
    let mut world = World::new(config());
    world.dial = Dial::Refuse;
    let id = world.submit(request(3));
    let begun = world.now;
    for _ in 0..4 {
        assert_eq!(metrics(&world).in_flight(Signal::Traces), 3, "spec 55");
        assert_eq!(metrics(&world).exported(Signal::Traces), 0);
        assert!(failed(&metrics(&world), Signal::Traces).is_empty(), "spec 55");
        assert!(exports(&metrics(&world), Signal::Traces).is_empty());
        world.advance_to_timer();
    }
    world.dial = Dial::Accept;
    world.advance_to_timer();
    let wire = world.wires.len() - 1;
    world.say(wire, Command::status(0, Code::UNAVAILABLE));
    assert_eq!(metrics(&world).in_flight(Signal::Traces), 3, "spec 55");
    world.advance_to_timer();
    world.say(wire, Command::ok(1));
    assert!(world.outcome(id).expect("delivered").attempts() > 5);
    let metrics = metrics(&world);
    assert_eq!(
        (
            metrics.in_flight(Signal::Traces),
            metrics.exported(Signal::Traces)
        ),
        (0, 3),
        "spec 55"
    );
    assert_eq!(
        exports(&metrics, Signal::Traces),
        [("success".to_owned(), 1, world.now - begun)],
        "spec 55: one duration, backoff included"
    );
    assert_eq!(failed(&metrics, Signal::Traces), []);
    assert_eq!(metrics.exported(Signal::Logs), 0);
}

#[test]
fn items_rejected_in_a_partial_success_fail_and_a_warning_does_not() {
    let mut world = World::new(config());
    for (call, rejected) in [(0, 4), (1, 0)] {
        let id = world.submit(request_of(Signal::Logs, 10));
        world.advance(ms(7));
        world.say(
            0,
            Command::Answer {
                call,
                code: 0,
                rejected,
                retry_after_ms: 0,
            },
        );
        world.outcome(id).expect("at least in part");
    }
    let metrics = metrics(&world);
    assert_eq!(metrics.exported(Signal::Logs), 16, "spec 55");
    assert_eq!(
        failed(&metrics, Signal::Logs),
        [("rejected".to_owned(), 4)],
        "spec 55"
    );
    assert_eq!(
        exports(&metrics, Signal::Logs),
        [
            ("rejected".to_owned(), 1, ms(7)),
            ("success".to_owned(), 1, ms(7))
        ],
        "only a full success is one"
    );
}

#[test]
fn each_end_of_an_export_has_its_cause() {
    type End = fn(&mut World);
    let ends: [(&str, End); 7] = [
        ("INVALID_ARGUMENT", |world| {
            world.submit(request(2));
            world.say(0, Command::status(0, Code::INVALID_ARGUMENT));
        }),
        ("timeout", |world| {
            world.submit(request(2));
            world.advance(Duration::from_secs(10));
        }),
        ("cancelled", |world| {
            let id = world.submit(request(2));
            world.fact(Fact::Cancel(id));
        }),
        ("connect", |world| {
            world.dial = Dial::Refuse;
            world.submit(request(2));
        }),
        ("transport", |world| {
            world.submit(request(2));
            let id = world.ids[0];
            world.fact(Fact::Failed(id, "reset"));
        }),
        ("shutdown", |world| {
            world.submit(request(2));
            world.fact(Fact::Shutdown);
        }),
        ("misuse", |world| {
            // Larger than the memory limit by itself.
            world.submit(spans(2, 70 << 10));
        }),
    ];
    for (why, end) in ends {
        let config = config().with_retry_policy(RetryPolicy::never());
        let mut world = World::new(config.with_memory_limit(100 << 10));
        end(&mut world);
        let metrics = metrics(&world);
        assert_eq!(failed(&metrics, Signal::Traces), [(why.to_owned(), 2)], "spec 55");
        let exports = exports(&metrics, Signal::Traces);
        assert_eq!(
            (exports.len(), &*exports[0].0, exports[0].1),
            (1, why, 1),
            "spec 55"
        );
        assert_eq!(metrics.in_flight(Signal::Traces), 0);
    }
}

#[test]
fn what_finds_no_room_counts_as_failed_at_once() {
    let mut world = World::new(config().with_memory_limit(12));
    world.submit(request(5));
    let id = world.submit(request(7));
    world.error(id);
    let metrics = metrics(&world);
    assert_eq!(metrics.in_flight(Signal::Traces), 5);
    assert_eq!(
        failed(&metrics, Signal::Traces),
        [("memory_limit".to_owned(), 7)],
        "spec 55"
    );
    assert_eq!(
        exports(&metrics, Signal::Traces),
        [("memory_limit".to_owned(), 1, Duration::ZERO)]
    );
}

#[test]
fn an_export_that_is_sent_in_parts_is_timed_once_and_its_items_counted_once() {
    let mut world = World::new(config());
    let id = world.submit(spans(8, 1_000));
    world.say(0, Command::TooLarge { call: 0, max: 4_300 });
    assert_eq!(metrics(&world).in_flight(Signal::Traces), 8, "spec 55");
    assert_eq!(world.stats().splits, 1);
    let calls = world.frames(0).len() as u16;
    assert!(calls >= 3, "parts");
    world.advance(ms(20));
    world.say(0, Command::ok(1));
    assert!(exports(&metrics(&world), Signal::Traces).is_empty(), "spec 55");
    world.say(0, Command::status(2, Code::PERMISSION_DENIED));
    for call in 3..calls {
        world.say(0, Command::ok(call));
    }
    let error = world.error(id);
    let metrics = metrics(&world);
    assert_eq!(metrics.exported(Signal::Traces), error.counts().delivered);
    assert_eq!(
        failed(&metrics, Signal::Traces),
        [("PERMISSION_DENIED".to_owned(), error.counts().rejected)]
    );
    assert_eq!(
        exports(&metrics, Signal::Traces),
        [("PERMISSION_DENIED".to_owned(), 1, ms(20))],
        "spec 55: one duration an export"
    );
}

/// Every metric of a batch, by its name.
fn decoded(batch: &mut MetricBatch) -> BTreeMap<String, Metric> {
    let request = batch.finish();
    let message: Vec<u8> = request.segments().flatten().collect();
    let decoded = ExportMetricsServiceRequest::decode(&*message).expect("valid protobuf");
    assert_eq!(decoded.resource_metrics.len(), 1);
    let [scope] = &*decoded.resource_metrics[0].scope_metrics else {
        panic!("one scope")
    };
    let about = scope.scope.as_ref().expect("it has a name");
    assert_eq!(
        (&*about.name, &*about.version),
        ("otlp-embed", env!("CARGO_PKG_VERSION"))
    );
    let metrics = scope.metrics.iter().cloned();
    metrics.map(|metric| (metric.name.clone(), metric)).collect()
}

fn attributes(list: &[KeyValue]) -> BTreeMap<&str, String> {
    let pairs = list.iter().map(|pair| {
        let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
        let shown = match value {
            Some(any_value::Value::StringValue(text)) => text.clone(),
            Some(any_value::Value::IntValue(number)) => format!("int {number}"),
            other => panic!("{other:?}"),
        };
        (&*pair.key, shown)
    });
    let map: BTreeMap<&str, String> = pairs.collect();
    assert_eq!(map.len(), list.len(), "keys are unique");
    map
}

/// The points of a sum: attributes that differ, and values.
fn sum(metric: &Metric, unit: &str, is_monotonic: bool, common: &[(&str, &str)]) -> Vec<(String, i64)> {
    let Some(Data::Sum(sum)) = &metric.data else {
        panic!("{metric:?}")
    };
    assert_eq!(metric.unit, unit);
    assert_eq!(sum.is_monotonic, is_monotonic);
    assert_eq!(
        sum.aggregation_temporality,
        AggregationTemporality::Cumulative as i32
    );
    let points = sum.data_points.iter().map(|point| {
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (START, NOW));
        let mut attributes = attributes(&point.attributes);
        for (name, value) in common {
            assert_eq!(attributes.remove(name).as_deref(), Some(*value), "{name}");
        }
        let Some(number_data_point::Value::AsInt(value)) = point.value else {
            panic!("{point:?}")
        };
        (format!("{attributes:?}"), value)
    });
    points.collect()
}

fn histogram(metric: &Metric) -> Vec<(BTreeMap<&str, String>, &HistogramDataPoint)> {
    let Some(Data::Histogram(histogram)) = &metric.data else {
        panic!("{metric:?}")
    };
    assert_eq!(metric.unit, "s");
    assert_eq!(
        histogram.aggregation_temporality,
        AggregationTemporality::Cumulative as i32
    );
    let points = histogram.data_points.iter().map(|point| {
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (START, NOW));
        assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
        assert_eq!(
            point.explicit_bounds,
            [
                0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0
            ]
        );
        (attributes(&point.attributes), point)
    });
    points.collect()
}

#[test]
fn what_is_written_reads_back_field_by_field() {
    let mut world = World::new(config());
    for (signal, call, items) in [
        (Signal::Traces, 0, 5),
        (Signal::Metrics, 1, 6),
        (Signal::Logs, 2, 7),
    ] {
        world.submit(request_of(signal, items));
        world.advance(ms(60));
        let rejected = u32::from(signal == Signal::Traces) * 2;
        world.say(
            0,
            Command::Answer {
                call,
                code: 0,
                rejected,
                retry_after_ms: 0,
            },
        );
    }
    world.submit(request_of(Signal::Traces, 11));
    world.say(0, Command::status(3, Code::INVALID_ARGUMENT));
    world.submit(request_of(Signal::Traces, 9));
    let mut batch = MetricBatch::new(&Resource::builder().attr("service.name", "shop").build());
    metrics(&world).write(&mut batch, START, NOW);
    assert_eq!(batch.refused(), 0);
    let metrics = decoded(&mut batch);
    let names: Vec<&str> = metrics.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "otel.sdk.exporter.log.exported",
            "otel.sdk.exporter.log.inflight",
            "otel.sdk.exporter.metric_data_point.exported",
            "otel.sdk.exporter.metric_data_point.inflight",
            "otel.sdk.exporter.operation.duration",
            "otel.sdk.exporter.span.exported",
            "otel.sdk.exporter.span.inflight",
        ],
        "spec 55"
    );
    let point = |text: &str, value| (text.to_owned(), value);
    for (item, unit, component, in_flight, exported) in [
        (
            "span",
            "{span}",
            "otlp_grpc_span_exporter",
            9,
            vec![
                point("{}", 3),
                point(r#"{"error.type": "rejected"}"#, 2),
                point(r#"{"error.type": "INVALID_ARGUMENT"}"#, 11),
            ],
        ),
        (
            "metric_data_point",
            "{data_point}",
            "otlp_grpc_metric_exporter",
            0,
            vec![point("{}", 6)],
        ),
        (
            "log",
            "{log_record}",
            "otlp_grpc_log_exporter",
            0,
            vec![point("{}", 7)],
        ),
    ] {
        let name = format!("{component}/0");
        let common = [
            ("otel.component.type", component),
            ("otel.component.name", &*name),
            ("server.address", "127.0.0.1"),
            ("server.port", "int 4317"),
        ];
        let of = |what| &metrics[&format!("otel.sdk.exporter.{item}.{what}")];
        assert_eq!(
            sum(of("inflight"), unit, false, &common),
            [point("{}", in_flight)],
            "spec 55"
        );
        assert_eq!(sum(of("exported"), unit, true, &common), exported, "spec 55");
    }
    let points = histogram(&metrics["otel.sdk.exporter.operation.duration"]);
    assert_eq!(points.len(), 4, "spec 55");
    let shown: Vec<(&str, Option<&str>, &str)> = points
        .iter()
        .map(|(attributes, _)| {
            assert_eq!(attributes["server.port"], "int 4317");
            assert!(!attributes.contains_key("http.response.status_code"));
            let error = attributes.get("error.type").map(String::as_str);
            (
                &*attributes["otel.component.type"],
                error,
                &*attributes["rpc.response.status_code"],
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("otlp_grpc_span_exporter", Some("rejected"), "OK"),
            (
                "otlp_grpc_span_exporter",
                Some("INVALID_ARGUMENT"),
                "INVALID_ARGUMENT"
            ),
            ("otlp_grpc_metric_exporter", None, "OK"),
            ("otlp_grpc_log_exporter", None, "OK"),
        ]
    );
    let (_, rejected) = &points[0];
    assert_eq!((rejected.count, rejected.sum), (1, Some(0.06)));
    assert_eq!((rejected.min, rejected.max), (Some(0.06), Some(0.06)));
    assert_eq!(rejected.bucket_counts[4], 1, "up to 75 ms");
}

#[test]
fn nothing_is_written_for_what_was_never_exported() {
    let mut world = World::new(config());
    let mut batch = MetricBatch::new(&Resource::new());
    metrics(&world).write(&mut batch, START, NOW);
    assert!(batch.is_empty());
    world.submit(request_of(Signal::Profiles, 3));
    world.say(0, Command::ok(0));
    metrics(&world).with_name("shop").write(&mut batch, START, NOW);
    let metrics = decoded(&mut batch);
    let [(name, metric)] = &*metrics.iter().collect::<Vec<_>>() else {
        panic!("{metrics:?}")
    };
    assert_eq!(
        *name, "otel.sdk.exporter.operation.duration",
        "the conventions count no profiles"
    );
    let points = histogram(metric);
    assert_eq!(points[0].0["otel.component.type"], "otlp_embed::Exporter");
    assert_eq!(points[0].0["otel.component.name"], "shop");
}

#[test]
fn over_http_the_status_is_that_of_the_last_answer() {
    for (protocol, component) in [
        (Protocol::HttpProtobuf, "otlp_http_span_exporter"),
        (Protocol::HttpJson, "otlp_http_json_span_exporter"),
    ] {
        let mut world = Simulation::new(Config::new().with_protocol(protocol), Collector::builder());
        world.builder.inbox().answer_next(Answer::HttpStatus(503));
        world.export(batch(0, 4)).expect("retried");
        world.builder.inbox().answer_next(Answer::HttpStatus(400));
        world.export(batch(4, 2)).expect_err("refused");
        world.builder.inbox().answer_next(Answer::Never);
        world.export(batch(6, 1)).expect_err("too late");
        let metrics = world.engine.self_metrics();
        assert_eq!(
            (metrics.exported(Signal::Traces), failed(&metrics, Signal::Traces)),
            (4, vec![("400".to_owned(), 2), ("timeout".to_owned(), 1)]),
            "spec 55"
        );
        let mut batch = MetricBatch::new(&Resource::new());
        metrics.write(&mut batch, START, NOW);
        let metrics = decoded(&mut batch);
        let points = histogram(&metrics["otel.sdk.exporter.operation.duration"]);
        let shown: Vec<(Option<&str>, Option<&str>)> = points
            .iter()
            .map(|(attributes, _)| {
                assert_eq!(attributes["otel.component.type"], component);
                assert!(!attributes.contains_key("rpc.response.status_code"));
                let get = |name| attributes.get(name).map(String::as_str);
                (get("error.type"), get("http.response.status_code"))
            })
            .collect();
        assert_eq!(
            shown,
            [
                (None, Some("int 200")),
                (Some("400"), Some("int 400")),
                (Some("timeout"), None),
            ]
        );
    }
}

#[test]
fn exporters_of_a_process_have_names_of_their_own() {
    let name = || {
        let collector = Collector::start().expect("a collector");
        let config = Config::new()
            .with_protocol(Protocol::Grpc)
            .with_endpoint(collector.endpoint());
        let exporter = config
            .build(rt::Blocking::new().expect("a reactor"))
            .expect("it works");
        exporter.export(batch(0, 2)).wait().expect("delivered");
        let mut batch = MetricBatch::new(&Resource::new());
        exporter.self_metrics().write(&mut batch, START, NOW);
        // The metrics go out by the exporter that they are of, and count there next.
        let request = batch.finish();
        assert_eq!(request.items(), 3);
        exporter.export(request).wait().expect("delivered");
        let metrics = exporter.self_metrics();
        assert_eq!(metrics.exported(Signal::Metrics), 3, "spec 55");
        let received = collector.metrics();
        let names: Vec<&str> = received.iter().map(|metric| &*metric.metric.name).collect();
        assert!(names.contains(&"otel.sdk.exporter.span.exported"), "{names:?}");
        metrics.write(&mut batch, START, NOW);
        let metrics = decoded(&mut batch);
        let points = histogram(&metrics["otel.sdk.exporter.operation.duration"]);
        points[0].0["otel.component.name"].clone()
    };
    let (first, second) = (name(), name());
    assert!(first.starts_with("otlp_grpc_span_exporter/"), "{first}");
    assert_ne!(first, second);
}
