//! Streaming runs over sockets, on each kind of runtime.

#[path = "support/batches.rs"]
#[allow(dead_code)]
mod batches;
#[path = "support/sources.rs"]
#[allow(dead_code)]
mod sources;

use batches::batch;
use otlp_embed::pipeline::{ExportStats, StreamHandle, StreamingConfig, StreamingOtlpExporter};
use otlp_embed::rt::{Blocking, Runtime, Smol, Tokio};
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Config, Exporter, Protocol, Request};
use sources::Source;
use std::thread;

const IN_FLIGHT: usize = 4;

fn exporter<R: Runtime>(collector: &Collector, runtime: R) -> Exporter<R> {
    Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(collector.endpoint())
        .build(runtime)
        .expect("it works")
}

fn streaming<R: Runtime>(exporter: &Exporter<R>) -> (StreamingOtlpExporter<R>, StreamHandle) {
    let config = StreamingConfig::new().with_concurrency_max(IN_FLIGHT);
    let streaming = StreamingOtlpExporter::new(exporter, config).expect("it works");
    let handle = streaming.handle();
    (streaming, handle)
}

/// Feeds a source from another thread: as much as may be in flight while the collector is silent, the rest when it speaks.
fn feed(collector: &Collector, source: &Source<Request>, handle: StreamHandle) {
    collector.pause();
    for number in 0..10 {
        source.push(batch(number * 10, 10));
    }
    // They overlap, on whatever runtime.
    while handle.stats().batches_in_flight < IN_FLIGHT as u64 {
        assert!(!handle.is_finished());
        thread::yield_now();
    }
    assert!(source.taken() <= IN_FLIGHT);
    collector.resume();
    while handle.stats().total_exported < 100 {
        thread::yield_now();
    }
    // The run waits for its source alone, which is woken from here.
    source.push(batch(100, 7));
    source.close();
}

fn check(stats: &ExportStats, collector: &Collector) {
    assert_eq!(
        (stats.total_taken, stats.total_exported, stats.failed_batches),
        (107, 107, 0)
    );
    assert_eq!(collector.counters().spans_accepted, 107);
    assert_eq!(collector.connections().len(), 1);
}

#[test]
fn on_a_plain_thread() {
    let collector = Collector::start().expect("a socket");
    let exporter = exporter(&collector, Blocking::new().expect("it works"));
    let (streaming, handle) = streaming(&exporter);
    let source = Source::of([]);
    let run = streaming.run(source.stream());
    let run = thread::spawn(|| futures_executor::block_on(run));
    feed(&collector, &source, handle);
    check(&run.join().expect("no panic"), &collector);
}

#[test]
fn on_tokio() {
    let collector = Collector::start().expect("a socket");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("it works");
    let exporter = exporter(
        &collector,
        Tokio::with_handle(runtime.handle().clone()).expect("it works"),
    );
    let (streaming, handle) = streaming(&exporter);
    let source = Source::of([]);
    let run = runtime.spawn(streaming.run(source.stream()));
    feed(&collector, &source, handle);
    check(&runtime.block_on(run).expect("no panic"), &collector);
}

#[test]
fn on_smol() {
    let collector = Collector::start().expect("a socket");
    let exporter = exporter(&collector, Smol::new());
    let (streaming, handle) = streaming(&exporter);
    let source = Source::of([]);
    let run = smol::spawn(streaming.run(source.stream()));
    feed(&collector, &source, handle);
    check(&smol::block_on(run), &collector);
}

/// The runtime under a run goes away: the run ends, and says why.
#[test]
fn a_runtime_that_is_gone_ends_the_run() {
    let collector = Collector::start().expect("a socket");
    collector.answer(Answer::Never);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("it works");
    let exporter = exporter(
        &collector,
        Tokio::with_handle(runtime.handle().clone()).expect("it works"),
    );
    let (streaming, handle) = streaming(&exporter);
    let endless = futures_util::stream::repeat_with(|| batch(0, 5));
    let run = streaming.run(endless);
    // Polled by another executor than the one whose sockets it has.
    let run = thread::spawn(|| futures_executor::block_on(run));
    while collector.counters().requests < IN_FLIGHT as u64 {
        thread::yield_now();
    }
    runtime.shutdown_background();
    let stats = run.join().expect("no panic");
    assert_eq!((stats.total_exported, stats.pending), (0, 0));
    assert_eq!(stats.total_taken, stats.total_failed);
    assert!(handle.last_error().expect("it failed").is_runtime_gone());
    assert!(exporter.stats().is_conserved());
}
