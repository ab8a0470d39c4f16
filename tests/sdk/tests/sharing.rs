//! All faces share one exporter and one pipeline; the application's handles tell the account while providers have the faces and
//! after they are gone; a child of `fork(2)` sends nothing.

mod running;

#[cfg(unix)]
#[path = "../../support/forked.rs"]
mod forked;

use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use otlp_embed::observe::Transition;
use otlp_embed::pipeline::{Pipeline, PipelineConfig, PipelineThread};
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Code, Exporter, Protocol, Signal, rt, sdk};
use running::{LONG, add_metrics, assert_all_delivered, assert_logs_once, assert_settled, assert_spans_once};
use running::{batching, config, emit_logs, end_spans, within};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

const SPANS: usize = 300;
const LOGS: usize = 200;
const SERIES: usize = 100;
const ITEMS: u64 = (SPANS + LOGS + SERIES) as u64;

struct Providers {
    traces: SdkTracerProvider,
    logs: SdkLoggerProvider,
    metrics: SdkMeterProvider,
}

impl Providers {
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

    fn of_exporter(exporter: &Exporter<rt::Blocking>) -> Self {
        Self {
            traces: batching(sdk::SpanExporter::new(exporter), 2048),
            logs: SdkLoggerProvider::builder()
                .with_batch_exporter(sdk::LogExporter::new(exporter))
                .build(),
            metrics: SdkMeterProvider::builder()
                .with_periodic_exporter(sdk::MetricExporter::new(exporter))
                .build(),
        }
    }

    fn work(&self, from: usize) {
        end_spans(&self.traces, from, from + SPANS);
        emit_logs(&self.logs, 0, LOGS);
        add_metrics(&self.metrics, SERIES);
    }

    fn shutdown(&self) {
        self.traces.shutdown().expect("traces");
        self.logs.shutdown().expect("logs");
        self.metrics.shutdown().expect("metrics");
    }
}

fn started(collector: &Collector) -> (Exporter<rt::Blocking>, Pipeline, PipelineThread) {
    let exporter = config(collector, Protocol::Grpc)
        .build(rt::Blocking::new().expect("a runtime"))
        .expect("an exporter");
    let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
    let thread = future.run_on_thread().expect("a thread");
    (exporter, pipeline, thread)
}

/// Three signals, by pipeline and by exporter, at a time: one account, one connection.
#[test]
fn all_faces_share_one_exporter() {
    let collector = Collector::start().expect("a collector");
    let (exporter, pipeline, thread) = started(&collector);
    let queued = Providers::of_pipeline(&pipeline);
    let direct = Providers::of_exporter(&exporter);
    let works = [(queued, 0), (direct, SPANS)].map(|(providers, from)| {
        std::thread::spawn(move || {
            providers.work(from);
            providers.shutdown();
        })
    });
    within(LONG, "the providers", || {
        for work in works {
            work.join().expect("no panic");
        }
    });
    // The handles outlive the providers, which are gone.
    assert_all_delivered(&exporter.stats(), 2 * ITEMS);
    assert_eq!(pipeline.stats().total.delivered, ITEMS);
    assert_all_delivered(&pipeline.shutdown_blocking(LONG).stats, ITEMS);
    let report = exporter.shutdown(LONG).wait();
    assert_eq!(report.lost(), 0);
    assert_all_delivered(&report.stats, 2 * ITEMS);
    thread.join().expect("no panic");
    assert_spans_once(&collector, 2 * SPANS);
    let counters = collector.counters();
    for (signal, items) in [(Signal::Logs, 2 * LOGS), (Signal::Metrics, 2 * SERIES)] {
        assert_eq!(counters.of(signal).items_accepted, items as u64, "{signal:?}");
    }
    assert_eq!(collector.connections().len(), 1, "they share it");
}

/// What the collector refuses, drops and takes is in the handles' account, and in the report after all is gone.
#[test]
fn handles_tell_losses_after_the_providers_are_gone() {
    let collector = Collector::start().expect("a collector");
    // So late that a flush has something to wait for, however the spans were batched.
    let late = Duration::from_millis(300);
    collector.answer_with(move |request| match request.signal {
        Signal::Traces => {
            let message = String::from("seven are too old");
            Answer::PartialSuccess { rejected: 7, message }.after(late)
        }
        Signal::Logs => Answer::status(Code::INVALID_ARGUMENT, "no logs here").after(late),
        _ => Answer::Ok,
    });
    let (exporter, pipeline, thread) = started(&collector);
    let providers = Providers::of_pipeline(&pipeline);
    end_spans(&providers.traces, 0, SPANS);
    let told = providers.traces.force_flush().expect_err("seven were refused");
    assert!(told.to_string().contains(" rejected"), "{told}");
    // What was told once is not told again.
    providers.traces.force_flush().expect("nothing since");
    emit_logs(&providers.logs, 0, LOGS);
    assert!(providers.logs.force_flush().is_err());
    add_metrics(&providers.metrics, SERIES);
    providers.metrics.shutdown().expect("taken");
    drop(providers);
    let account = pipeline.stats().total;
    assert!(account.is_conserved());
    let old = 7 * collector.counters().of(Signal::Traces).requests;
    assert_eq!(account.delivered, (SPANS + SERIES) as u64 - old, "{account:?}");
    let lost = old + LOGS as u64;
    assert_eq!(account.rejected + account.dropped_total(), lost, "{account:?}");
    let report = pipeline.shutdown_blocking(LONG);
    assert_settled(&report.stats);
    assert_eq!(report.lost(), lost, "{report}");
    assert_eq!(thread.join().expect("no panic").lost(), lost);
    assert_eq!(exporter.stats().accepted, ITEMS);
    assert_settled(&exporter.stats());
}

/// What is lost between two flushes is told without one: by the account, and to the observer.
#[test]
fn losses_that_no_flush_waited_for_are_told() {
    let collector = Collector::start().expect("a collector");
    collector.answer(Answer::status(Code::INVALID_ARGUMENT, "no spans here"));
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let config = config(&collector, Protocol::Grpc).with_observer(move |event| {
        if let Transition::Rejected { items, message, .. } = event.transition {
            let _ = tell.lock().expect("no panic").send((items, message.into_owned()));
        }
    });
    let exporter = config
        .build(rt::Blocking::new().expect("a runtime"))
        .expect("an exporter");
    let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
    let thread = future.run_on_thread().expect("a thread");
    let providers = Providers::of_pipeline(&pipeline);
    end_spans(&providers.traces, 0, SPANS);
    let account = within(LONG, "the verdict", move || {
        loop {
            let account = pipeline.stats().total;
            if account.settled().total() == SPANS as u64 {
                break account;
            }
            std::thread::yield_now();
        }
    });
    assert_eq!(account.rejected, SPANS as u64, "{account:?}");
    assert_eq!(exporter.stats().rejected, SPANS as u64);
    let (items, message) = told.recv_timeout(LONG).expect("the observer is told");
    assert!(
        items > 0 && message.contains("no spans here"),
        "{items}: {message}"
    );
    drop(providers);
    assert_eq!(thread.join().expect("no panic").lost(), SPANS as u64);
}

/// To shut one provider down flushes it, and ends nothing of the others'.
#[test]
fn a_providers_shutdown_leaves_the_others_alone() {
    let collector = Collector::start().expect("a collector");
    let (exporter, pipeline, thread) = started(&collector);
    let first = Providers::of_pipeline(&pipeline);
    let second = Providers::of_pipeline(&pipeline);
    first.shutdown();
    drop(first);
    second.work(0);
    second.shutdown();
    drop(second);
    let third = Providers::of_exporter(&exporter);
    third.traces.shutdown().expect("nothing yet");
    emit_logs(&third.logs, LOGS, 2 * LOGS);
    third.logs.shutdown().expect("delivered");
    assert_spans_once(&collector, SPANS);
    assert_logs_once(&collector, 2 * LOGS);
    assert_all_delivered(&pipeline.shutdown_blocking(LONG).stats, ITEMS);
    assert_all_delivered(&exporter.stats(), ITEMS + LOGS as u64);
    thread.join().expect("no panic");
}

/// A child of `fork(2)` has its parent's providers: what it ends goes nowhere and is told, and what its parent ended arrives
/// once, from the parent.
#[cfg(unix)]
#[test]
fn a_forked_child_sends_nothing_and_its_parent_goes_on() {
    use opentelemetry::trace::{Tracer, TracerProvider};
    use opentelemetry_sdk::trace::SpanExporter;
    use otlp_embed::DropReason;

    const TIME: Duration = Duration::from_secs(1);
    let collector = Collector::start().expect("a collector");
    let (exporter, pipeline, thread) = started(&collector);
    let providers = Providers::of_pipeline(&pipeline);
    let direct = sdk::SpanExporter::new(&exporter);
    end_spans(&providers.traces, 0, SPANS);
    forked::forked(|| {
        // More than the few that an inherited queue takes without looking.
        end_spans(&providers.traces, SPANS, 2 * SPANS);
        emit_logs(&providers.logs, 0, LOGS);
        assert!(
            providers.traces.force_flush().is_err(),
            "nothing can be delivered"
        );
        assert!(providers.traces.shutdown_with_timeout(TIME).is_err());
        assert!(providers.logs.shutdown_with_timeout(TIME).is_err());
        let span = SdkTracerProvider::default().tracer("child").start("child");
        let data = span.exported_data().expect("it records");
        let told = futures_executor::block_on(direct.export(vec![data])).expect_err("it is the parent's");
        assert!(told.to_string().contains("before a fork"), "{told}");
        let report = pipeline.shutdown_blocking(TIME);
        let forked = report.stats.dropped_for(DropReason::Forked);
        assert_eq!(
            (report.stats.accepted, report.lost()),
            (forked, forked),
            "{report}"
        );
        // But for the few.
        assert!(forked > (SPANS + LOGS) as u64 - 64, "{report}");
        let stats = pipeline.stats();
        assert!(stats.is_conserved());
        assert_eq!(stats.total.dropped_for(DropReason::Forked), forked, "{stats:?}");
        assert!(pipeline.is_closed());
    });
    end_spans(&providers.traces, SPANS, 2 * SPANS);
    providers.traces.shutdown().expect("delivered");
    assert_all_delivered(&pipeline.shutdown_blocking(LONG).stats, 2 * SPANS as u64);
    assert_spans_once(&collector, 2 * SPANS);
    assert_eq!(collector.counters().spans, 2 * SPANS as u64);
    assert_eq!(collector.logs().len(), 0);
    assert_eq!(collector.connections().len(), 1);
    thread.join().expect("no panic");
}

/// A child that is forked while exports are under way, with processors of every kind in use by other threads.
#[cfg(unix)]
#[test]
fn a_child_that_is_forked_under_load_hangs_nowhere() {
    let collector = Collector::start().expect("a collector");
    let (exporter, pipeline, thread) = started(&collector);
    let queued = Providers::of_pipeline(&pipeline);
    let batched = batching(sdk::SpanExporter::new(&exporter), 1 << 20);
    let flood = {
        let (queued, batched) = (queued.traces.clone(), batched.clone());
        std::thread::spawn(move || {
            for round in 0..40 {
                end_spans(&queued, 2 * round * SPANS, (2 * round + 1) * SPANS);
                end_spans(&batched, (2 * round + 1) * SPANS, (2 * round + 2) * SPANS);
            }
        })
    };
    for _ in 0..5 {
        forked::forked(|| {
            let time = Duration::from_millis(200);
            end_spans(&queued.traces, 0, 100);
            let _ = queued.traces.shutdown_with_timeout(time);
            let _ = pipeline.shutdown_blocking(time);
            let _ = exporter.stats();
        });
    }
    within(LONG, "the flood", || flood.join().expect("no panic"));
    queued.traces.shutdown_with_timeout(LONG).expect("delivered");
    batched.shutdown_with_timeout(LONG).expect("delivered");
    assert_eq!(pipeline.shutdown_blocking(LONG).lost(), 0);
    assert_all_delivered(&exporter.stats(), 80 * SPANS as u64);
    assert_spans_once(&collector, 80 * SPANS);
    thread.join().expect("no panic");
}
