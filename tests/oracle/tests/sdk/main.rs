//! The SDK's batch processor exports through `rt::Blocking` on its own thread: no asynchronous runtime is in the process.

#![allow(
    clippy::disallowed_methods,
    reason = "the test measures how long a shutdown takes"
)]

mod exporter;

use exporter::BlockingSpanExporter;
use opentelemetry::trace::{
    Link, Span, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanExporter};
use otlp_embed::testing::collector::{ReceivedSpan, Value as Received};
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Config, DropReason, Exporter, rt};
use std::collections::HashMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const THREADS: u64 = 4;
const SPANS_PER_THREAD: u64 = 1_250;
const BATCH: usize = 512;
/// Long enough for any machine; nothing waits for it unless it has gone wrong.
const PATIENCE: Duration = Duration::from_secs(60);

fn exporter(collector: &Collector, timeout: Duration) -> Exporter<rt::Blocking> {
    let config = Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_endpoint(collector.endpoint())
        .with_timeout(timeout);
    let runtime = rt::Blocking::new().expect("a reactor");
    config.build(runtime).expect("the configuration works")
}

/// A provider that exports when a batch is full or when it is told to, never by the clock, and drops nothing.
fn provider(exporter: impl SpanExporter + 'static) -> SdkTracerProvider {
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(8_192)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(Duration::from_secs(3_600))
        .build();
    let processor = BatchSpanProcessor::builder(exporter)
        .with_batch_config(config)
        .build();
    let resource = opentelemetry_sdk::Resource::builder_empty()
        .with_service_name("shop")
        .with_schema_url([KeyValue::new("process.pid", 7)], "https://example.com/resource")
        .build();
    SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_resource(resource)
        .with_max_events_per_span(1)
        .build()
}

/// What the program knows of a span that it has ended.
struct Ended {
    number: u64,
    context: SpanContext,
    parent: SpanId,
}

fn time(number: u64) -> SystemTime {
    UNIX_EPOCH + Duration::new(1_700_000_000, 0) + Duration::from_micros(number)
}

fn has_remote_parents(thread: u64) -> bool {
    thread % 2 == 1
}

fn linked(number: u64) -> SpanContext {
    let state = TraceState::from_key_value([("vendor", "linked")]).expect("a valid state");
    SpanContext::new(
        TraceId::from(u128::from(number) + 1),
        SpanId::from(number + 1),
        TraceFlags::SAMPLED,
        true,
        state,
    )
}

fn status(number: u64) -> Status {
    match number % 3 {
        0 => Status::error("the card was refused"),
        1 => Status::Ok,
        _ => Status::Unset,
    }
}

fn kind(number: u64) -> SpanKind {
    match number % 5 {
        0 => SpanKind::Internal,
        1 => SpanKind::Server,
        2 => SpanKind::Client,
        3 => SpanKind::Producer,
        _ => SpanKind::Consumer,
    }
}

fn attributes(number: u64) -> Vec<KeyValue> {
    let texts: Vec<StringValue> = vec!["a".into(), String::new().into(), "ü".into()];
    vec![
        KeyValue::new("number", number as i64),
        KeyValue::new("text", format!("value {number}")),
        KeyValue::new("long", "x".repeat(2_000)),
        KeyValue::new("fraction", number as f64 / 4.0),
        KeyValue::new("is_even", number % 2 == 0),
        KeyValue::new("texts", Value::Array(texts.into())),
        KeyValue::new("integers", Value::Array(vec![-1, number as i64].into())),
        KeyValue::new("fractions", Value::Array(vec![0.5].into())),
        KeyValue::new("truths", Value::Array(vec![true, false].into())),
    ]
}

fn received_attributes(number: u64) -> Vec<(String, Received)> {
    let text = |text: &str| Received::Str(text.into());
    let pairs = [
        ("number", Received::Int(number as i64)),
        ("text", Received::Str(format!("value {number}"))),
        ("long", Received::Str("x".repeat(2_000))),
        ("fraction", Received::Double(number as f64 / 4.0)),
        ("is_even", Received::Bool(number % 2 == 0)),
        ("texts", Received::Array(vec![text("a"), text(""), text("ü")])),
        (
            "integers",
            Received::Array(vec![Received::Int(-1), Received::Int(number as i64)]),
        ),
        ("fractions", Received::Array(vec![Received::Double(0.5)])),
        (
            "truths",
            Received::Array(vec![Received::Bool(true), Received::Bool(false)]),
        ),
    ];
    pairs.map(|(name, value)| (name.into(), value)).into()
}

/// Starts, fills and ends one span.
fn record(
    tracer: &impl Tracer<Span = opentelemetry_sdk::trace::Span>,
    number: u64,
    parent: &Context,
) -> Ended {
    let mut span = SpanBuilder::from_name(format!("span {number}"))
        .with_kind(kind(number))
        .with_start_time(time(number))
        .with_attributes(attributes(number))
        .with_links(vec![Link::new(
            linked(number),
            vec![KeyValue::new("why", "because")],
            0,
        )])
        .start_with_context(tracer, parent);
    span.add_event_with_timestamp(
        "happened",
        time(number + 1),
        vec![KeyValue::new("at", number as i64)],
    );
    if number % 10 == 0 {
        // One more than the SDK keeps.
        span.add_event("dropped", Vec::new());
    }
    span.set_status(status(number));
    span.end_with_timestamp(time(number + 2));
    Ended {
        number,
        context: span.span_context().clone(),
        parent: parent.span().span_context().span_id(),
    }
}

/// Traces of five spans, four of them children of the first, which in every other thread lies in another process.
fn produce(provider: &SdkTracerProvider, thread: u64) -> Vec<Ended> {
    let scope = InstrumentationScope::builder(format!("library {}", thread % 2))
        .with_version("1.4.0")
        .with_schema_url("https://example.com/scope")
        .with_attributes([KeyValue::new("is_native", true)])
        .build();
    let tracer = provider.tracer_with_scope(scope);
    let mut ended: Vec<Ended> = Vec::new();
    let mut root = Context::new();
    for number in thread * SPANS_PER_THREAD..(thread + 1) * SPANS_PER_THREAD {
        let parent = if number % 5 == 0 { &Context::new() } else { &root };
        let span = record(&tracer, number, parent);
        if number % 5 == 0 {
            let context = &span.context;
            root = Context::new().with_remote_span_context(SpanContext::new(
                context.trace_id(),
                context.span_id(),
                context.trace_flags(),
                has_remote_parents(thread),
                TraceState::NONE,
            ));
        }
        ended.push(span);
    }
    ended
}

fn assert_same(received: &ReceivedSpan, ended: &Ended) {
    let number = ended.number;
    let micros = |number: u64| 1_700_000_000_000_000_000 + number * 1_000;
    assert_eq!(received.trace_id, ended.context.trace_id().to_bytes());
    let parent = match ended.parent {
        SpanId::INVALID => vec![],
        parent => parent.to_bytes().to_vec(),
    };
    assert_eq!(received.parent_span_id, parent, "span {number}");
    assert_eq!(received.name, format!("span {number}"));
    assert_eq!(received.kind, number as i32 % 5 + 1);
    assert_eq!(received.start_unix_nanos, micros(number));
    assert_eq!(received.end_unix_nanos, micros(number + 2));
    assert_eq!(received.attributes, received_attributes(number));
    assert_eq!(received.dropped_attributes, 0);
    let (code, message) = [(2, "the card was refused"), (1, ""), (0, "")][number as usize % 3];
    assert_eq!((received.status_code, &*received.status_message), (code, message));
    // Sampled, whether the parent is remote is known, and it is or is not.
    let is_remote = number % 5 != 0 && has_remote_parents(number / SPANS_PER_THREAD);
    let remote = if is_remote { 0x200 } else { 0 };
    assert_eq!(received.flags, 0x101 | remote, "span {number}");

    let [event] = &received.events[..] else {
        panic!("span {number} has {} events", received.events.len());
    };
    assert_eq!((&*event.name, event.unix_nanos), ("happened", micros(number + 1)));
    assert_eq!(event.attributes, [("at".into(), Received::Int(number as i64))]);
    assert_eq!(received.dropped_events, u32::from(number % 10 == 0));

    let [link] = &received.links[..] else {
        panic!("span {number} has {} links", received.links.len());
    };
    assert_eq!(link.trace_id, (u128::from(number) + 1).to_be_bytes());
    assert_eq!(link.span_id, (number + 1).to_be_bytes());
    assert_eq!((&*link.trace_state, link.flags), ("vendor=linked", 1));
    assert_eq!(link.attributes, [("why".into(), "because".into())]);

    let thread = number / SPANS_PER_THREAD;
    assert_eq!(received.scope.name, format!("library {}", thread % 2));
    assert_eq!(received.scope.version, "1.4.0");
    assert_eq!(received.scope.schema_url, "https://example.com/scope");
    assert_eq!(
        received.scope.attributes,
        [("is_native".into(), Received::Bool(true))]
    );
    assert_eq!(received.service_name(), "shop");
    assert_eq!(
        received.resource.attribute("process.pid"),
        Some(&Received::Int(7))
    );
    assert_eq!(received.resource.attributes.len(), 2);
    assert_eq!(received.resource.schema_url, "https://example.com/resource");
}

/// Every span of four threads arrives once and as it was recorded, by the time that `force_flush` returns.
#[test]
fn spans_of_many_threads_arrive_once() {
    let collector = Collector::start().expect("a collector");
    let exporter = exporter(&collector, PATIENCE);
    let provider = provider(BlockingSpanExporter::new(&exporter));
    let mut ended: HashMap<Vec<u8>, Ended> = HashMap::new();
    std::thread::scope(|scope| {
        let provider = &provider;
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || produce(provider, thread)))
            .collect();
        for thread in threads {
            let spans = thread.join().expect("no thread panics").into_iter();
            ended.extend(spans.map(|span| (span.context.span_id().to_bytes().to_vec(), span)));
        }
    });
    let spans = THREADS * SPANS_PER_THREAD;
    assert_eq!(ended.len() as u64, spans);
    provider.force_flush().expect("everything is exported");
    assert_no_foreign_threads();

    for span in collector.spans() {
        let recorded = ended.remove(&span.span_id);
        assert_same(
            &span,
            &recorded.expect("the span was recorded and has not come before"),
        );
    }
    assert_eq!(ended.len(), 0, "spans that never came");
    let stats = exporter.stats();
    assert!(stats.is_conserved(), "{stats:?}");
    assert_eq!((stats.accepted, stats.delivered), (spans, spans));
    assert_eq!((stats.connections, stats.retries), (1, 0));

    // What is recorded after a flush goes out with the shutdown.
    record(&provider.tracer("late"), 0, &Context::new());
    provider
        .shutdown_with_timeout(PATIENCE)
        .expect("the last span is exported");
    assert_eq!(collector.counters().spans_accepted, spans + 1);
    assert_eq!(exporter.stats().delivered, spans + 1);
    let refused = exporter.export(otlp_embed::TraceBatch::new(&otlp_embed::Resource::new()).finish());
    assert!(
        refused
            .wait()
            .expect_err("the SDK has shut the exporter down")
            .is_shutdown()
    );
}

/// A flush tells of a failure, and the spans after it are exported again.
#[test]
fn a_flush_reports_what_the_collector_refused() {
    let collector = Collector::start().expect("a collector");
    let exporter = exporter(&collector, PATIENCE);
    let provider = provider(BlockingSpanExporter::new(&exporter));
    let tracer = provider.tracer("shop");
    let invalid = otlp_embed::Code::INVALID_ARGUMENT;
    collector.answer_next(Answer::status(invalid, "no such tenant"));
    record(&tracer, 1, &Context::new());
    let error = provider
        .force_flush()
        .expect_err("the collector refused the span");
    assert!(error.to_string().contains("no such tenant"), "{error}");
    record(&tracer, 2, &Context::new());
    provider.force_flush().expect("the second span is accepted");
    let stats = exporter.stats();
    assert!(stats.is_conserved(), "{stats:?}");
    assert_eq!((stats.accepted, stats.rejected, stats.delivered), (2, 1, 1));
}

/// An exporter that tells when the SDK has let go of it.
#[derive(Debug)]
struct Watched {
    exporter: BlockingSpanExporter,
    _alive: mpsc::Sender<()>,
}

impl SpanExporter for Watched {
    fn export(
        &self,
        spans: Vec<opentelemetry_sdk::trace::SpanData>,
    ) -> impl Future<Output = opentelemetry_sdk::error::OTelSdkResult> + Send {
        self.exporter.export(spans)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> opentelemetry_sdk::error::OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }
}

fn watched(exporter: &Exporter<rt::Blocking>) -> (Watched, mpsc::Receiver<()>) {
    let (alive, ended) = mpsc::channel();
    let exporter = BlockingSpanExporter::new(exporter);
    (
        Watched {
            exporter,
            _alive: alive,
        },
        ended,
    )
}

/// The collector takes a batch and says nothing. The shutdown ends at its timeout, and ending the exporter frees the
/// SDK's thread long before the export's own deadline.
#[test]
fn a_shutdown_ends_in_time_when_nobody_answers() {
    let collector = Collector::builder()
        .answer(Answer::Never)
        .start()
        .expect("a collector");
    let exporter = exporter(&collector, 10 * PATIENCE);
    let (watched, ended) = watched(&exporter);
    let direct = watched.exporter.clone();
    let provider = provider(watched);
    let tracer = provider.tracer("shop");
    for number in 0..2 * BATCH as u64 {
        record(&tracer, number, &Context::new());
    }
    collector
        .wait_for_requests(1, PATIENCE)
        .expect("the first batch arrives");

    let timeout = Duration::from_millis(200);
    let start = Instant::now();
    provider
        .shutdown_with_timeout(timeout)
        .expect_err("nobody answers");
    direct.shutdown_with_timeout(timeout).expect_err("nobody answers");
    assert_eq!(ended.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    let elapsed = start.elapsed();
    assert!(2 * timeout <= elapsed && elapsed < 20 * timeout, "{elapsed:?}");

    let stats = exporter.stats();
    assert!(stats.is_conserved(), "{stats:?}");
    assert_eq!((stats.in_flight, stats.delivered, stats.rejected), (0, 0, 0));
    assert_eq!(stats.accepted, 2 * BATCH as u64);
    // The first batch is with the collector, which has not said what it did with it; the second never left.
    assert_eq!(stats.unknown, BATCH as u64);
    assert_eq!(
        stats.dropped_for(DropReason::Shutdown),
        stats.accepted - stats.unknown
    );
    assert_eq!(collector.counters().requests, 1);
}

/// The collector stands still. Each export ends at its own deadline, so the SDK's shutdown comes to its end by itself.
#[test]
fn a_shutdown_ends_by_itself_when_the_collector_stands_still() {
    let collector = Collector::start().expect("a collector");
    collector.pause();
    let timeout = Duration::from_millis(150);
    let exporter = exporter(&collector, timeout);
    let (watched, ended) = watched(&exporter);
    let provider = provider(watched);
    let tracer = provider.tracer("shop");
    for number in 0..BATCH as u64 + 1 {
        record(&tracer, number, &Context::new());
    }
    let start = Instant::now();
    provider
        .shutdown_with_timeout(PATIENCE)
        .expect("the SDK has nothing left");
    assert_eq!(ended.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    let elapsed = start.elapsed();
    assert!(elapsed < 20 * timeout, "{elapsed:?}");

    let stats = exporter.stats();
    assert!(stats.is_conserved(), "{stats:?}");
    assert_eq!(stats.accepted, BATCH as u64 + 1);
    assert_eq!((stats.in_flight, stats.delivered, stats.rejected), (0, 0, 0));
    assert_eq!(
        stats.unknown + stats.dropped_for(DropReason::Deadline),
        stats.accepted
    );
}

/// The threads of the process are the SDK's, the collector's and the test harness's.
#[cfg(target_os = "linux")]
fn assert_no_foreign_threads() {
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        let path = task.expect("a thread").path().join("comm");
        // A thread that has ended meanwhile has no name.
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let tasks = std::fs::read_dir("/proc/self/task").expect("the threads of the process");
    let names: Vec<_> = tasks.map(name).filter(|name| !name.is_empty()).collect();
    // The kernel cuts names to 15 bytes.
    let ours = [
        "otlp-collector",
        "OpenTelemetry.T",
        "sdk-",
        "a_flush_reports",
        "a_shutdown_ends",
        "spans_of_many_t",
    ];
    for name in &names {
        assert!(
            ours.iter().any(|ours| name.starts_with(ours)),
            "{name:?} among {names:?}"
        );
    }
    assert!(names.iter().any(|name| name == "OpenTelemetry.T"), "{names:?}");
}

#[cfg(not(target_os = "linux"))]
fn assert_no_foreign_threads() {}
