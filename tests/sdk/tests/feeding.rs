//! An application that listens to everything and exports what it hears does not feed itself: its exports make no telemetry that
//! would have to be exported in turn.
//!
//! The subscriber is the process's own, at `TRACE` and without a filter, and takes what comes from `log` too. Each case therefore
//! has a process to itself: the test starts its own binary again.

#[path = "../../support/certificates.rs"]
mod certificates;

use certificates::{Authority, NAME, ServerTls};
use opentelemetry::logs::{LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use otlp_embed::pipeline::{Pipeline, PipelineConfig, PipelineFuture};
use otlp_embed::testing::Collector;
use otlp_embed::testing::collector::{ReceivedSpan, Value};
use otlp_embed::{Config, Exporter, Protocol, Tls, rt, sdk};
use std::collections::BTreeMap;
use std::process::Command;
use std::thread;
use std::time::Duration;
use tracing::{info_span, trace};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;

const TIME: Duration = Duration::from_secs(20);
/// Spans and records that the application makes, of each.
const MADE: usize = 600;
/// Flushes that find nothing before the application counts as quiet, and flushes in all.
const QUIET: usize = 5;
const FLUSHES_MAX: usize = 30;

/// What the child of a test is told by.
const ALONE: &str = "OTLP_EMBED_FEEDING_ALONE";

/// Runs a case in a process of its own: the test of this name, alone.
fn alone(name: &str, case: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return case();
    }
    let child = Command::new(std::env::current_exe().expect("the test's own path"))
        .args([name, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("the test starts again");
    let [out, err] = [&child.stdout, &child.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(child.status.success(), "{out}\n{err}");
    assert!(out.contains("1 passed"), "the case ran: {out}");
}

/// The providers of what is heard, which end with this.
struct Heard {
    _traces: SdkTracerProvider,
    _logs: SdkLoggerProvider,
}

impl Heard {
    /// Everything of this process, from here on.
    fn by(pipeline: &Pipeline) -> Self {
        Self::of(pipeline, |_| true)
    }

    /// What a filter lets through by its target.
    fn of(pipeline: &Pipeline, is_wanted: fn(&str) -> bool) -> Self {
        let traces = SdkTracerProvider::builder()
            .with_span_processor(sdk::SpanProcessor::new(pipeline))
            .build();
        let logs = SdkLoggerProvider::builder()
            .with_log_processor(sdk::LogProcessor::new(pipeline))
            .build();
        let filter = filter_fn(move |metadata| is_wanted(metadata.target()));
        let subscriber = tracing_subscriber::registry()
            .with(filter)
            .with(tracing_opentelemetry::layer().with_tracer(traces.tracer("feeding")))
            .with(OpenTelemetryTracingBridge::new(&logs));
        tracing::subscriber::set_global_default(subscriber).expect("the first of this process");
        let bridge = Bridge(logs.logger("log"));
        log::set_boxed_logger(Box::new(bridge)).expect("the first of this process");
        log::set_max_level(log::LevelFilter::Trace);
        Self {
            _traces: traces,
            _logs: logs,
        }
    }
}

/// From `log` to the logs of the SDK, as its appender does it.
struct Bridge(SdkLogger);

impl log::Log for Bridge {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut heard = self.0.create_log_record();
        heard.set_severity_number(Severity::Trace);
        heard.set_body(record.args().to_string().into());
        heard.set_target(record.target().to_owned());
        self.0.emit(heard);
    }

    fn flush(&self) {}
}

/// Three threads at work, with a flush in between so that they work while exports go on. A third of the records comes by `log`.
fn work(pipeline: &Pipeline) {
    thread::scope(|scope| {
        for thread in 0..3 {
            scope.spawn(move || {
                for item in 0..MADE / 3 {
                    let _span = info_span!("work", thread, item).entered();
                    match item % 3 {
                        0 => log::trace!("by log"),
                        _ => trace!(item, "by tracing"),
                    }
                    if item % 50 == 0 {
                        pipeline.flush_blocking(TIME).expect("a flush");
                    }
                }
            });
        }
    });
}

/// Flushes until so many flushes in a row have found nothing. An export that was heard leaves something to flush: the account
/// never stands still then, and this gives up.
fn settle(pipeline: &Pipeline) -> bool {
    let mut quiet = 0;
    let mut before = pipeline.stats().total;
    for _ in 0..FLUSHES_MAX {
        let report = pipeline.flush_blocking(TIME).expect("a flush");
        assert_eq!(report.pending, 0, "{report:?}");
        let after = pipeline.stats().total;
        let is_still = (after.accepted, after.batches) == (before.accepted, before.batches);
        quiet = if is_still { quiet + 1 } else { 0 };
        if quiet == QUIET {
            return true;
        }
        before = after;
    }
    false
}

/// Where the spans and records came from that the collector has, and how many of each.
fn origins(collector: &Collector) -> BTreeMap<(&'static str, String), usize> {
    let mut origins = BTreeMap::new();
    for span in collector.spans() {
        *origins
            .entry(("span", format!("{} of {}", span.name, target(&span))))
            .or_default() += 1;
    }
    for log in collector.logs() {
        *origins.entry(("record", log.scope.name.clone())).or_default() += 1;
    }
    origins
}

/// Where in the code a span is.
fn target(span: &ReceivedSpan) -> String {
    match span.attribute("target") {
        Some(Value::Str(target)) => target.clone(),
        other => panic!("{} has no target: {other:?}", span.name),
    }
}

fn config(collector: &Collector) -> Config {
    Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(collector.endpoint())
}

/// What the application made has arrived, and nothing else has, nor will, but for what the exporter reports by `log` itself: that
/// it has connected.
fn check(collector: &Collector, pipeline: &Pipeline) {
    let is_settled = settle(pipeline);
    let origins = origins(collector);
    assert!(is_settled, "it feeds itself: {origins:?}");
    let connections = collector.counters().connections as usize;
    let expected = BTreeMap::from([
        (("span", "work of feeding".to_owned()), MADE),
        (("record", "feeding".to_owned()), MADE),
        (("record", "otlp_embed".to_owned()), connections),
    ]);
    assert_eq!(origins, expected);
    let account = pipeline.stats().total;
    let made = (2 * MADE + connections) as u64;
    assert_eq!((account.accepted, account.delivered), (made, made));
    assert_eq!(collector.requests().len() as u64, account.batches);
}

/// Runs the pipeline on a thread of its own.
fn on_thread<R>(exporter: &Exporter<R>) -> Pipeline
where
    R: rt::Runtime,
    PipelineFuture<R>: Send + 'static,
{
    let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
    future.run_on_thread().expect("a thread");
    pipeline
}

#[test]
fn blocking_is_not_heard() {
    alone("blocking_is_not_heard", || {
        let collector = Collector::start().expect("a collector");
        let runtime = rt::Blocking::new().expect("a runtime");
        let exporter = config(&collector).build(runtime).expect("an exporter");
        let pipeline = on_thread(&exporter);
        let _heard = Heard::by(&pipeline);
        work(&pipeline);
        check(&collector, &pipeline);
    });
}

/// The pipeline is a task of the runtime whose drivers write to `log`.
#[test]
fn tokio_is_not_heard() {
    alone("tokio_is_not_heard", || {
        let collector = Collector::start().expect("a collector");
        on_tokio(&collector, config(&collector));
    });
}

/// A handshake has much to say, from both ends in this process.
#[test]
fn tls_is_not_heard() {
    alone("tls_is_not_heard", || {
        let authority = Authority::new("a root");
        let server = ServerTls::new(authority.server(NAME, |_| {}));
        let collector = Collector::builder()
            .with_tls(server.config())
            .start()
            .expect("a collector");
        let tls = Tls::new().with_ca_pem(&authority.pem).with_server_name(NAME);
        on_tokio(&collector, config(&collector).with_tls(tls));
    });
}

fn on_tokio(collector: &Collector, config: Config) {
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let _entered = tokio.enter();
    let runtime = rt::Tokio::current().expect("in a runtime");
    let exporter = config.build(runtime).expect("an exporter");
    let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
    tokio.spawn(future);
    let _heard = Heard::by(&pipeline);
    work(&pipeline);
    check(collector, &pipeline);
}

/// The reactor of smol has a thread of its own, where nothing of ours runs and no guard of ours holds. Whoever turns on the
/// `tracing` of `async-io` or `polling` leaves them out by their targets, as `rt::Smol` says.
#[test]
fn smol_is_not_heard_but_for_its_reactor() {
    alone("smol_is_not_heard_but_for_its_reactor", || {
        let collector = Collector::start().expect("a collector");
        let exporter = config(&collector).build(rt::Smol::new()).expect("an exporter");
        let pipeline = on_thread(&exporter);
        let _heard = Heard::of(&pipeline, |target| !is_reactor(target));
        work(&pipeline);
        check(&collector, &pipeline);
    });
}

/// What is heard without that filter: the reactor's thread, and nothing of `h2` or of this crate. It tells of every wait for a
/// socket, and so of every export.
#[test]
fn the_reactor_of_smol_is_heard_alone() {
    alone("the_reactor_of_smol_is_heard_alone", || {
        let collector = Collector::start().expect("a collector");
        let exporter = config(&collector).build(rt::Smol::new()).expect("an exporter");
        let pipeline = on_thread(&exporter);
        let _heard = Heard::by(&pipeline);
        work(&pipeline);
        settle(&pipeline);
        let (spans, logs) = (collector.spans(), collector.logs());
        let targets = spans.iter().map(target);
        let targets = targets.chain(logs.iter().map(|log| log.scope.name.clone()));
        let (reactor, other): (Vec<_>, Vec<_>) = targets.partition(|target| is_reactor(target));
        assert!(
            !reactor.is_empty(),
            "the documentation of `rt::Smol` says it is heard"
        );
        let own = other.iter().filter(|target| *target == "feeding").count();
        let reports = other.iter().filter(|target| *target == "otlp_embed").count();
        assert_eq!(
            (own, reports),
            (2 * MADE, collector.counters().connections as usize)
        );
        assert_eq!(own + reports, other.len(), "{other:?}");
    });
}

fn is_reactor(target: &str) -> bool {
    ["async_io", "polling"]
        .iter()
        .any(|library| target.starts_with(library))
}

/// What the tests above would see: without isolation the very same application never comes to rest.
#[test]
fn without_isolation_exports_feed_exports() {
    alone("without_isolation_exports_feed_exports", || {
        let collector = Collector::start().expect("a collector");
        let config = config(&collector).with_tracing_isolated(false);
        let exporter = config
            .build(rt::Blocking::new().expect("a runtime"))
            .expect("an exporter");
        let pipeline = on_thread(&exporter);
        let _heard = Heard::by(&pipeline);
        work(&pipeline);
        assert!(!settle(&pipeline));
        assert!(collector.spans().len() > MADE);
    });
}
