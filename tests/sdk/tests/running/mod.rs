//! What the tests that run providers share: items with numbers, their count at the collector, and a watch over time.
#![allow(dead_code, reason = "each test takes what it needs")]

pub mod faces;

use opentelemetry::KeyValue;
use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{Span, Tracer, TracerProvider};
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanExporter};
use otlp_embed::testing::Collector;
use otlp_embed::testing::collector::Value;
use otlp_embed::{Config, Protocol, Stats};
use std::collections::HashSet;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Far more than anything here takes: who waits so long hangs.
pub const LONG: Duration = Duration::from_secs(120);

/// Runs `what` on a thread of its own, and fails where it has not ended within `limit`, in place of hanging with it.
pub fn within<T: Send + 'static>(
    limit: Duration,
    name: &str,
    what: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (tell, told) = channel();
    let thread = thread::spawn(move || {
        let _ = tell.send(what());
    });
    match told.recv_timeout(limit) {
        Ok(value) => value,
        Err(RecvTimeoutError::Timeout) => panic!("{name} has not ended within {limit:?}: it hangs"),
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("{name} ended and told nothing"),
        },
    }
}

/// An exporter's configuration for this collector.
pub fn config(collector: &Collector, protocol: Protocol) -> Config {
    Config::new()
        .with_protocol(protocol)
        .with_endpoint(collector.endpoint())
}

/// A provider with the SDK's batch processor, whose queue holds so many spans.
pub fn batching(exporter: impl SpanExporter + 'static, queue: usize) -> SdkTracerProvider {
    let config = BatchConfigBuilder::default().with_max_queue_size(queue).build();
    let processor = BatchSpanProcessor::builder(exporter)
        .with_batch_config(config)
        .build();
    SdkTracerProvider::builder()
        .with_span_processor(processor)
        .build()
}

/// Ends spans with the numbers `from..to`.
pub fn end_spans(provider: &SdkTracerProvider, from: usize, to: usize) {
    let tracer = provider.tracer("running");
    for number in from..to {
        let mut span = tracer.start("work");
        span.set_attribute(KeyValue::new("number", number as i64));
        span.end();
    }
}

/// Emits log records with the numbers `from..to`.
pub fn emit_logs(provider: &SdkLoggerProvider, from: usize, to: usize) {
    let logger = provider.logger("running");
    for number in from..to {
        let mut record = logger.create_log_record();
        record.set_body(AnyValue::Int(number as i64));
        logger.emit(record);
    }
}

/// Adds one to each of so many series.
pub fn add_metrics(provider: &SdkMeterProvider, series: usize) {
    let counter = provider.meter("running").u64_counter("work").build();
    for number in 0..series {
        counter.add(1, &[KeyValue::new("number", number as i64)]);
    }
}

/// How often each of the numbers `0..count` arrived.
fn tally(numbers: impl Iterator<Item = Option<i64>>, count: usize) -> Vec<u32> {
    let mut seen = vec![0; count];
    for number in numbers {
        let number = number.expect("an item without a number");
        let place = usize::try_from(number).ok().and_then(|place| seen.get_mut(place));
        *place.unwrap_or_else(|| panic!("{number} was never made")) += 1;
    }
    seen
}

fn assert_once(seen: &[u32], what: &str) {
    let missing = seen.iter().filter(|times| **times == 0).count();
    let twice = seen.iter().filter(|times| **times > 1).count();
    assert_eq!((missing, twice), (0, 0), "missing and repeated {what}");
}

/// How often each span `0..count` was accepted.
pub fn accepted_seen(collector: &Collector, count: usize) -> Vec<u32> {
    let requests = collector.requests();
    let accepted: HashSet<u64> = requests
        .iter()
        .filter(|request| request.is_accepted())
        .map(|request| request.index)
        .collect();
    let spans = collector.spans();
    let numbers = spans
        .iter()
        .filter(|span| accepted.contains(&span.request))
        .map(|span| match span.attribute("number") {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        });
    tally(numbers, count)
}

/// Every span `0..count` was accepted, each once.
pub fn assert_spans_once(collector: &Collector, count: usize) {
    assert_once(&accepted_seen(collector, count), "spans");
}

/// Every record `0..count` arrived, each once.
pub fn assert_logs_once(collector: &Collector, count: usize) {
    let logs = collector.logs();
    let numbers = logs.iter().map(|log| match log.body() {
        Value::Int(number) => Some(number),
        _ => None,
    });
    assert_once(&tally(numbers, count), "log records");
}

/// The account closes: all was delivered, nothing is under way.
pub fn assert_all_delivered(stats: &Stats, items: u64) {
    assert!(stats.is_conserved(), "{stats:?}");
    assert_eq!((stats.accepted, stats.delivered), (items, items), "{stats:?}");
}

/// The account closes, with nothing under way and nothing out of sight: so many were delivered and the rest was lost.
pub fn assert_settled(stats: &Stats) {
    assert!(stats.is_conserved(), "{stats:?}");
    assert_eq!((stats.queued, stats.in_flight), (0, 0), "{stats:?}");
    assert_eq!(stats.accepted, stats.settled().total(), "{stats:?}");
}
