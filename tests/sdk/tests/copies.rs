//! What the ends of spans and records allocate on their thread: long texts of spans are referenced, everything is copied once at
//! most, and nothing is allocated for each item. The figures are printed with `--nocapture`.

mod wire;

use opentelemetry::KeyValue;
use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider};
use opentelemetry::trace::{Span, Tracer, TracerProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanProcessor};
use otlp_embed::pipeline::{Pipeline, PipelineConfig};
use otlp_embed::sdk;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;
use wire::world;

const TIME: Duration = Duration::from_secs(60);
const LONG: usize = 1 << 20;
/// What the first chunk of a batch takes, which an item may be the first of.
const CHUNK: usize = 128 << 10;
const SPANS: usize = 20_000;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

/// Counts the allocations of each thread by itself.
struct Counting;

fn count(bytes: usize) {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    BYTES.set(BYTES.get() + bytes);
}

#[allow(unsafe_code, reason = "a global allocator cannot be written without")]
// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        count(len);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`.
        unsafe { System.realloc(memory, layout, len) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations of this thread and their bytes while something is done.
fn counted(work: impl FnOnce()) -> (usize, usize) {
    let before = (ALLOCATIONS.get(), BYTES.get());
    work();
    (ALLOCATIONS.get() - before.0, BYTES.get() - before.1)
}

/// Runs a test on a pipeline to a collector.
fn piped(test: impl FnOnce(&Pipeline)) {
    let (_collector, exporter) = world();
    let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
    let thread = future.run_on_thread().expect("a thread");
    test(&pipeline);
    assert_eq!(pipeline.shutdown_blocking(TIME).lost(), 0);
    thread.join().expect("it ends");
}

fn span(attributes: Vec<KeyValue>) -> SpanData {
    let provider = SdkTracerProvider::builder().build();
    let mut span = provider.tracer("copies").start("work");
    span.set_attributes(attributes);
    span.exported_data().expect("it records")
}

#[test]
fn long_texts_of_spans_are_not_copied() {
    piped(|pipeline| {
        let processor = sdk::SpanProcessor::new(pipeline);
        let data = span(vec![KeyValue::new("prompt", "p".repeat(LONG))]);
        let (allocations, bytes) = counted(|| processor.on_end(data));
        println!("a span with a text of {LONG} bytes: {allocations} allocations, {bytes} bytes");
        assert!(bytes < CHUNK, "{bytes} bytes were allocated for a reference");
    });
}

#[test]
fn log_records_are_copied_once() {
    piped(|pipeline| {
        let provider = SdkLoggerProvider::builder()
            .with_log_processor(sdk::LogProcessor::new(pipeline))
            .build();
        let logger = provider.logger("copies");
        let mut record = logger.create_log_record();
        record.set_body(AnyValue::from("p".repeat(LONG)));
        let (allocations, bytes) = counted(|| logger.emit(record));
        println!("a record with a text of {LONG} bytes: {allocations} allocations, {bytes} bytes");
        assert!(bytes >= LONG, "the record was lent: {bytes} bytes");
        // The chunks of a batch double in size, so that they are twice the text at most; a second copy would be as much again.
        assert!(
            bytes < 2 * LONG + CHUNK,
            "it was copied more than once: {bytes} bytes"
        );
    });
}

/// A request holds its resource once; what ends in it takes no more.
#[test]
fn spans_do_not_bring_their_resource_along() {
    piped(|pipeline| {
        let mut processor = sdk::SpanProcessor::new(pipeline);
        let large = KeyValue::new("process.command_args", "a".repeat(LONG));
        processor.set_resource(&Resource::builder_empty().with_attribute(large).build());
        let data = span(Vec::new());
        let (_, one) = counted(|| processor.on_end(data.clone()));
        let (_, more) = counted(|| (0..100).for_each(|_| processor.on_end(data.clone())));
        println!("a span of a resource of {LONG} bytes: {one} bytes, 100 more of them: {more}");
        assert!(more < 3 * LONG, "{more} bytes were allocated for 100 spans");
    });
}

#[test]
fn the_end_of_a_span_allocates_nothing_of_its_own() {
    piped(|pipeline| {
        let processor = sdk::SpanProcessor::new(pipeline);
        let attributes = vec![KeyValue::new("http.route", "/cart"), KeyValue::new("retries", 2)];
        let data = span(attributes);
        let mut spans: Vec<_> = vec![data; SPANS];
        // Fills pools and tables.
        spans.drain(..SPANS / 2).for_each(|span| processor.on_end(span));
        let (allocations, bytes) = counted(|| spans.into_iter().for_each(|span| processor.on_end(span)));
        let each = allocations as f64 / (SPANS / 2) as f64;
        println!("a span: {each:.4} allocations, {} bytes", bytes / (SPANS / 2));
        assert!(each < 0.1, "{each} allocations a span");
    });
}
