//! The same program without an async runtime, on tokio and on smol: 100,000 spans through the SDK's batch processor and
//! through ours arrive exactly once, and the shutdown ends, called from the runtime's own thread.

mod running;

use opentelemetry_sdk::logs::{BatchConfigBuilder as LogConfigBuilder, BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use otlp_embed::pipeline::{Pipeline, PipelineConfig};
use otlp_embed::rt::{self, Runtime};
use otlp_embed::testing::Collector;
use otlp_embed::{Exporter, OtlpExportFuture, Protocol, Report, sdk};
use running::{LONG, add_metrics, assert_all_delivered, assert_logs_once, assert_spans_once};
use running::{batching, config, emit_logs, end_spans, within};
use std::future::Future;
use std::time::Duration;

const SPANS: usize = 100_000;
const LOGS: usize = 2_000;
/// Below the 2,000 series that the SDK keeps of an instrument.
const SERIES: usize = 500;
const ITEMS: u64 = (SPANS + LOGS + SERIES) as u64;

/// Time for what is queued; the machine may be slow.
const SHUTDOWN: Duration = Duration::from_secs(100);

struct Providers {
    traces: SdkTracerProvider,
    logs: SdkLoggerProvider,
    metrics: SdkMeterProvider,
}

impl Providers {
    /// Those that keep the SDK's processors. Its queues are wide enough that it drops nothing by itself.
    fn of_exporters<R>(exporter: &Exporter<R>) -> Self
    where
        R: Runtime + 'static,
        Exporter<R>: Send + Sync,
        OtlpExportFuture<R>: Send,
    {
        let logs = BatchLogProcessor::builder(sdk::LogExporter::new(exporter))
            .with_batch_config(LogConfigBuilder::default().with_max_queue_size(LOGS).build())
            .build();
        Self {
            traces: batching(sdk::SpanExporter::new(exporter), SPANS),
            logs: SdkLoggerProvider::builder().with_log_processor(logs).build(),
            metrics: SdkMeterProvider::builder()
                .with_periodic_exporter(sdk::MetricExporter::new(exporter))
                .build(),
        }
    }

    /// Those that write into a pipeline.
    fn of_pipeline(pipeline: &Pipeline) -> Self {
        Self {
            traces: SdkTracerProvider::builder()
                .with_span_processor(sdk::SpanProcessor::new(pipeline))
                .build(),
            logs: SdkLoggerProvider::builder()
                .with_log_processor(sdk::LogProcessor::new(pipeline))
                .build(),
            metrics: SdkMeterProvider::builder()
                .with_periodic_exporter(sdk::MetricExporter::queued(pipeline))
                .build(),
        }
    }

    fn work(&self) {
        end_spans(&self.traces, 0, SPANS);
        emit_logs(&self.logs, 0, LOGS);
        add_metrics(&self.metrics, SERIES);
    }

    fn shutdown(self) {
        self.traces.shutdown_with_timeout(SHUTDOWN).expect("traces");
        self.logs.shutdown_with_timeout(SHUTDOWN).expect("logs");
        self.metrics.shutdown_with_timeout(SHUTDOWN).expect("metrics");
    }
}

fn exporter<R: Runtime>(collector: &Collector, runtime: R) -> Exporter<R> {
    config(collector, Protocol::Grpc)
        .build(runtime)
        .expect("an exporter")
}

fn check<R: Runtime>(collector: &Collector, exporter: &Exporter<R>) {
    assert_spans_once(collector, SPANS);
    assert_logs_once(collector, LOGS);
    let counters = collector.counters();
    assert_eq!(
        counters.of(otlp_embed::Signal::Metrics).items_accepted,
        SERIES as u64
    );
    assert_all_delivered(&exporter.stats(), ITEMS);
}

/// The program with the SDK's processors, as it stands in the body of `main`, or of an async `main`.
fn exports<R>(runtime: R)
where
    R: Runtime + 'static,
    Exporter<R>: Send + Sync,
    OtlpExportFuture<R>: Send,
{
    let collector = Collector::start().expect("a collector");
    let exporter = exporter(&collector, runtime);
    let providers = Providers::of_exporters(&exporter);
    providers.work();
    providers.shutdown();
    check(&collector, &exporter);
}

fn check_report(report: &Report) {
    assert_eq!(report.lost(), 0, "{report}");
    assert_all_delivered(&report.stats, ITEMS);
}

/// The program with our processors, whose pipeline is on a thread of its own.
fn pipes(runtime: rt::Blocking) {
    let collector = Collector::start().expect("a collector");
    let exporter = exporter(&collector, runtime);
    let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
    let thread = future.run_on_thread().expect("a thread");
    let providers = Providers::of_pipeline(&pipeline);
    providers.work();
    providers.shutdown();
    check_report(&pipeline.shutdown_blocking(SHUTDOWN));
    check_report(&thread.join().expect("no panic"));
    check(&collector, &exporter);
}

/// The program with our processors, whose pipeline is a task of the runtime and needs the caller's thread: it gives the thread
/// back before it waits, and shuts down with `await`.
async fn pipes_as_task<R: Runtime>(runtime: R, spawn: impl FnOnce(otlp_embed::pipeline::PipelineFuture<R>)) {
    let collector = Collector::start().expect("a collector");
    let exporter = exporter(&collector, runtime);
    let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
    spawn(future);
    let providers = Providers::of_pipeline(&pipeline);
    providers.work();
    // The collection goes into the queue; nothing else is left to flush by then.
    pipeline.flush(SHUTDOWN).await.expect("flushed");
    let waiting = std::thread::spawn(move || providers.shutdown());
    yield_until(|| waiting.is_finished()).await;
    waiting.join().expect("no panic");
    check_report(&pipeline.shutdown(SHUTDOWN).await);
    check(&collector, &exporter);
}

/// Gives the thread to other tasks until this is so.
async fn yield_until(mut is_so: impl FnMut() -> bool) {
    std::future::poll_fn(|cx| match is_so() {
        true => std::task::Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        }
    })
    .await;
}

fn blocking() -> rt::Blocking {
    rt::Blocking::new().expect("a runtime")
}

fn tokio_here() -> rt::Tokio {
    rt::Tokio::current().expect("within a runtime")
}

fn current_thread<T>(program: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(program)
}

/// Runs the program in a task, on a worker.
fn workers<T: Send + 'static>(count: usize, program: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(count)
        .enable_all()
        .build()
        .expect("a runtime");
    let task = runtime.spawn(program);
    runtime.block_on(task).expect("no panic")
}

#[test]
fn batch_processor_without_a_runtime() {
    within(LONG, "the program", || exports(blocking()));
}

#[test]
fn span_processor_without_a_runtime() {
    within(LONG, "the program", || pipes(blocking()));
}

#[test]
fn batch_processor_in_current_thread() {
    within(LONG, "the program", || {
        current_thread(async { exports(blocking()) });
    });
}

#[test]
fn span_processor_in_current_thread() {
    within(LONG, "the program", || {
        current_thread(async { pipes(blocking()) });
    });
}

#[test]
fn batch_processor_on_the_only_worker() {
    within(LONG, "the program", || workers(1, async { exports(blocking()) }));
}

#[test]
fn span_processor_on_the_only_worker() {
    within(LONG, "the program", || workers(1, async { pipes(blocking()) }));
}

#[test]
fn batch_processor_on_a_worker_of_several() {
    within(LONG, "the program", || workers(3, async { exports(blocking()) }));
}

#[test]
fn span_processor_on_a_worker_of_several() {
    within(LONG, "the program", || workers(3, async { pipes(blocking()) }));
}

#[test]
fn batch_processor_in_smol() {
    within(LONG, "the program", || {
        smol::block_on(async { exports(blocking()) })
    });
}

#[test]
fn span_processor_in_smol() {
    within(LONG, "the program", || {
        smol::block_on(async { pipes(blocking()) })
    });
}

/// The thread that waits for the provider is not the one that serves the sockets.
#[test]
fn batch_processor_over_tokio_while_its_thread_is_driven() {
    within(LONG, "the program", || {
        current_thread(async {
            let runtime = tokio_here();
            let waiting = tokio::task::spawn_blocking(|| exports(runtime));
            waiting.await.expect("no panic");
        });
    });
}

#[test]
fn batch_processor_over_tokio_whose_only_worker_says_that_it_blocks() {
    within(LONG, "the program", || {
        workers(1, async { tokio::task::block_in_place(|| exports(tokio_here())) });
    });
}

#[test]
fn batch_processor_over_tokio_from_outside_its_workers() {
    within(LONG, "the program", || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async { exports(tokio_here()) });
    });
}

#[test]
fn span_processor_over_tokio_as_a_task() {
    within(LONG, "the program", || {
        let spawn = |future| drop(tokio::spawn(future));
        current_thread(async { pipes_as_task(tokio_here(), spawn).await });
    });
    within(LONG, "the program", || {
        let spawn = |future| drop(tokio::spawn(future));
        workers(1, async move { pipes_as_task(tokio_here(), spawn).await });
    });
}

/// smol's sockets are served by a thread of its own: blocking an executor's thread hurts nobody.
#[test]
fn batch_processor_over_smol() {
    within(LONG, "the program", || {
        smol::block_on(async { exports(rt::Smol::new()) });
    });
}

#[test]
fn span_processor_over_smol_as_a_task() {
    within(LONG, "the program", || {
        let spawn = |future| smol::spawn(future).detach();
        smol::block_on(pipes_as_task(rt::Smol::new(), spawn));
    });
}

/// The simple processor exports at the end of each span, on the thread that ends it.
#[test]
fn simple_processor_on_the_runtimes_own_thread() {
    const FEW: usize = 200;
    let program = || {
        let collector = Collector::start().expect("a collector");
        let exporter = exporter(&collector, blocking());
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(sdk::SpanExporter::new(&exporter))
            .build();
        end_spans(&provider, 0, FEW);
        assert_all_delivered(&exporter.stats(), FEW as u64);
        provider.shutdown().expect("nothing is left");
        assert_spans_once(&collector, FEW);
    };
    within(LONG, "without a runtime", program);
    within(LONG, "current_thread", move || {
        current_thread(async { program() })
    });
    within(LONG, "the only worker", move || {
        workers(1, async move { program() })
    });
    within(LONG, "smol", move || smol::block_on(async { program() }));
}

/// An executor that refuses to be entered twice is none of our processors' business.
#[test]
fn span_processor_in_an_executor_that_cannot_be_nested() {
    within(LONG, "the program", || {
        futures_executor::block_on(async { pipes(blocking()) });
    });
}
