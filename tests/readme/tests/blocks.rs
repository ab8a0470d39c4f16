//! Every block of the README runs, against a collector behind the endpoint that it names, and what arrives is looked at.

use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _};
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::{Tracer as _, TracerProvider as _};
use otlp_embed::pipeline::PipelineConfig;
use otlp_embed::testing::Collector;
use otlp_embed::testing::collector::Accepting;
use otlp_embed::{Compression, LogBatch, MetricBatch, Protocol, Request, Resource, Signal, TraceBatch, rt};
use otlp_embed_readme::{blocks, set_endpoint};
use std::process::{Command, Output};
use std::sync::{Arc, RwLock};
use std::time::Duration;

/// The endpoint that the README names most.
const LOCALHOST: &str = "http://localhost:4318";
const ENOUGH: Duration = Duration::from_secs(10);

/// Makes a test of each block, and the list of those that have one.
macro_rules! blocks {
    ($($name:ident => $run:expr,)*) => {
        const RUN: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { $run() })*
    };
}

blocks! {
    opentelemetry_sdk => sdk_program,
    opentelemetry_sdk_2 => sdk_signals,
    opentelemetry_sdk_3 => sdk_exporters,
    tokio => || program("tokio"),
    smol => || program("smol"),
    async_std => || program("async_std"),
    a_plain_thread => || {
        let (collector, text) = run("a_plain_thread");
        sold(&collector);
        let spans = collector.spans();
        assert!(format!("{:?}", spans[0].resource).contains("shop"), "{:?}", spans[0].resource);
        assert!(text.starts_with("1 delivered, 0 rejected"), "the flush tells: {text}");
    },
    a_loop_of_your_own => || {
        let (collector, text) = run("a_loop_of_your_own");
        sold(&collector);
        assert!(text.contains("1 delivered"), "{text}");
    },
    an_outage_for_operators => ready_for_an_outage,
    scaling_out => failover,
    batches => || {
        let prompt: Arc<str> = "why? ".repeat(1_000).into();
        let collector = delivered(blocks::batches::spans(prompt.clone()));
        let spans = collector.spans();
        assert_eq!((spans.len(), &*spans[0].name), (1, "chat"));
        assert!(format!("{:?}", spans[0]).contains(&*prompt), "the prompt arrived whole");
    },
    batches_2 => || {
        let collector = delivered(blocks::batches_2::metrics(&resource()));
        assert_eq!(names(&collector), ["http.server.request.duration", "http.server.requests"]);
    },
    batches_3 => || {
        let collector = delivered(blocks::batches_3::logs(&resource()));
        let logs = collector.logs();
        assert_eq!(logs.len(), 1);
        assert!(format!("{:?}", logs[0].record.body).contains("the bank did not answer"));
    },
    exporters_without_a_pipeline => || {
        let collector = collector();
        let report = blocks::exporters_without_a_pipeline::export(span()).expect("exported");
        assert_eq!((report.stats.delivered, report.lost()), (1, 0));
        sold(&collector);
    },
    the_pipeline => || through(blocks::the_pipeline::policies()),
    the_pipeline_2 => self_metrics,
    settings => each_signal_its_own,
    environment_variables => environment,
    tls => || {
        let error = blocks::tls::secured().build(rt::Blocking::new().expect("a runtime"));
        let error = error.expect_err("there are no such files here").to_string();
        assert!(error.contains("ca.pem"), "what is missing is named: {error}");
    },
    credentials => || {
        let collector = collector();
        let token = Arc::new(RwLock::new(String::from("first")));
        let config = blocks::credentials::with_token(token.clone());
        let exporter = config.build(rt::Blocking::new().expect("a runtime")).expect("built");
        exporter.export(span()).wait().expect("exported");
        *token.write().expect("a token") = String::from("second");
        exporter.export(span()).wait().expect("exported");
        for (request, token) in collector.requests().iter().zip(["Bearer first", "Bearer second"]) {
            assert!(request.headers.contains(&("authorization".into(), token.into())), "{request:?}");
        }
        assert_eq!(collector.requests().len(), 2);
    },
    testing_your_own_program => || {
        blocks::testing_your_own_program::arrives(span()).expect("it arrives");
    },
    testing_your_own_program_2 => || {
        blocks::testing_your_own_program_2::survives_an_outage().expect("it survives");
    },
}

#[test]
fn no_block_is_left_out() {
    assert_eq!(
        blocks::ALL,
        RUN,
        "each block of the pages has a line here, in their order"
    );
}

#[test]
fn the_endpoint_of_a_block_is_never_one_of_this_machine() {
    let other = std::thread::spawn(blocks::an_outage_for_operators::ready_for_an_outage);
    assert!(other.join().is_err(), "no endpoint was set on that thread");
}

/// A collector, behind what the blocks called by this thread name.
fn collector() -> Collector {
    let collector = Collector::start().expect("a collector");
    set_endpoint(LOCALHOST, collector.endpoint());
    collector
}

/// Runs a whole program as a process of its own, which ends well, and gives what it wrote.
fn run(name: &str) -> (Collector, String) {
    let collector = Collector::start().expect("a collector");
    let output = process(&[name], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint())]);
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    let (text, errors) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{name}: {status}: {text}{errors}");
    (collector, text.into_owned())
}

fn process(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_otlp-embed-readme"));
    command
        .args(arguments)
        .env("OTEL_SERVICE_NAME", "shop")
        .envs(variables.iter().copied());
    command.output().expect("the program runs")
}

/// A program that writes one span to a pipeline and prints the report.
fn program(name: &str) {
    let (collector, text) = run(name);
    sold(&collector);
    assert_eq!(
        text.trim_end(),
        "1 accepted: 1 delivered, 0 rejected, 0 dropped, 0 unknown"
    );
}

/// The span of the examples arrived, once.
fn sold(collector: &Collector) {
    let spans = collector.spans();
    assert_eq!(spans.len(), 1);
    assert_eq!((&*spans[0].name, &*spans[0].trace_id), ("checkout", &[1; 16][..]));
}

fn span() -> Request {
    let mut batch = TraceBatch::new(&resource());
    batch.span([1; 16], [2; 8], "checkout").attr("items", 3).end();
    batch.finish()
}

fn resource() -> Resource {
    Resource::builder().attr("service.name", "shop").build()
}

fn delivered(request: Request) -> Collector {
    let collector = collector();
    let report = blocks::exporters_without_a_pipeline::export(request).expect("exported");
    assert_eq!(report.lost(), 0);
    collector
}

fn names(collector: &Collector) -> Vec<String> {
    let metrics = collector.metrics().into_iter().map(|metric| metric.metric.name);
    let mut names: Vec<_> = metrics.collect();
    names.sort();
    names
}

fn exporter(collector: &Collector) -> otlp_embed::Exporter<rt::Blocking> {
    let config = otlp_embed::Config::new().with_endpoint(collector.endpoint());
    config
        .build(rt::Blocking::new().expect("a runtime"))
        .expect("built")
}

/// A span goes through a pipeline of this configuration.
fn through(config: PipelineConfig) {
    let collector = collector();
    let (pipeline, future) = exporter(&collector).pipeline(config).expect("a pipeline");
    let thread = future.run_on_thread().expect("a thread");
    let write = |batch: &mut TraceBatch| batch.span([1; 16], [2; 8], "checkout").end();
    pipeline.spans(write).expect("admitted");
    assert_eq!(pipeline.shutdown_blocking(ENOUGH).lost(), 0);
    thread.join().expect("no panic");
    sold(&collector);
}

fn sdk_program() {
    let (collector, text) = run("opentelemetry_sdk");
    sold_by_the_shop(&collector);
    assert!(text.contains("1 accepted: 1 delivered"), "{text}");
}

fn sdk_signals() {
    let (collector, text) = run("opentelemetry_sdk_2");
    sold_by_the_shop(&collector);
    assert_eq!(names(&collector), ["orders"]);
    assert!(format!("{:?}", collector.logs()[0].record.body).contains("one less"));
    assert!(text.contains("3 accepted: 3 delivered"), "{text}");
}

fn sold_by_the_shop(collector: &Collector) {
    let spans = collector.spans();
    assert_eq!(
        (spans.len(), &*spans[0].name, &*spans[0].scope.name),
        (1, "checkout", "shop")
    );
}

fn sdk_exporters() {
    let collector = collector();
    let exporter = exporter(&collector);
    let (traces, logs, metrics) = blocks::opentelemetry_sdk_3::providers(&exporter);
    traces.tracer("shop").in_span("checkout", |_| ());
    let logger = logs.logger("shop");
    let mut record = logger.create_log_record();
    record.set_body(AnyValue::from("sold out"));
    logger.emit(record);
    metrics.meter("shop").u64_counter("orders").build().add(1, &[]);
    traces.shutdown().expect("shut down");
    logs.shutdown().expect("shut down");
    metrics.shutdown().expect("shut down");
    assert_eq!((collector.spans().len(), collector.logs().len()), (1, 1));
    assert_eq!(names(&collector), ["orders"]);
    assert_eq!(exporter.stats().delivered, 3, "the handle still tells");
}

/// What was written to it during an outage arrives afterwards.
fn ready_for_an_outage() {
    let collector = collector();
    collector.set_accepting(Accepting::Refuse).expect("refuses");
    let (pipeline, future) = blocks::an_outage_for_operators::ready_for_an_outage().expect("a pipeline");
    let thread = future.run_on_thread().expect("a thread");
    let write = |batch: &mut TraceBatch| batch.span([1; 16], [2; 8], "checkout").end();
    pipeline.spans(write).expect("admitted");
    let report = pipeline
        .flush_blocking(Duration::from_millis(500))
        .expect("a report");
    assert!(report.pending > 0, "it waits: {report:?}");
    collector.set_accepting(Accepting::Serve).expect("serves");
    let report = pipeline.shutdown_blocking(Duration::from_secs(30));
    assert_eq!(report.lost(), 0, "{report}");
    thread.join().expect("no panic");
    sold(&collector);
}

/// The first collector is not there; the second gets what was meant for it.
fn failover() {
    let (gone, there) = (collector(), collector());
    gone.set_accepting(Accepting::Refuse).expect("refuses");
    set_endpoint("http://collector-1:4318", gone.endpoint());
    set_endpoint("http://collector-2:4318", there.endpoint());
    let (pipeline, future) = blocks::scaling_out::two_collectors().expect("a pipeline");
    let thread = future.run_on_thread().expect("a thread");
    let write = |batch: &mut TraceBatch| batch.span([1; 16], [2; 8], "checkout").end();
    pipeline.spans(write).expect("admitted");
    assert_eq!(pipeline.stats().legs[0].endpoints.len(), 2);
    let report = pipeline.shutdown_blocking(Duration::from_secs(30));
    assert_eq!(report.lost(), 0, "{report}");
    thread.join().expect("no panic");
    sold(&there);
    assert_eq!(gone.spans().len(), 0);
}

fn self_metrics() {
    let collector = collector();
    let exporter = exporter(&collector);
    exporter.export(span()).wait().expect("exported");
    let request = blocks::the_pipeline_2::self_metrics(&exporter, 1, 2);
    exporter.export(request).wait().expect("exported");
    let names = names(&collector);
    assert!(
        names.contains(&"otel.sdk.exporter.span.exported".into()),
        "{names:?}"
    );
}

/// Spans and metrics go over gRPC, compressed and with the header; logs over HTTP to an endpoint of their own.
fn each_signal_its_own() {
    let (all, logs) = (collector(), collector());
    set_endpoint("http://collector:4317", all.endpoint());
    set_endpoint("http://logs:4318/v1/logs", format!("{}/v1/logs", logs.endpoint()));
    let config = blocks::settings::settings();
    assert!(config.report().to_string().contains("grpc"));
    let exporter = config
        .build(rt::Blocking::new().expect("a runtime"))
        .expect("built");
    exporter.export(span()).wait().expect("exported");
    let mut metrics = MetricBatch::new(&resource());
    metrics.metric("orders").gauge().point(1_000..2_000, 1).end();
    exporter.export(metrics.finish()).wait().expect("exported");
    let mut records = LogBatch::new(&resource());
    records.log().body("sold").end();
    exporter.export(records.finish()).wait().expect("exported");
    sold(&all);
    for request in all.requests() {
        assert_eq!(
            (request.protocol, request.compression),
            (Protocol::Grpc, Compression::Gzip)
        );
        assert!(request.headers.contains(&("x-scope-orgid".into(), "acme".into())));
    }
    let requests = logs.requests();
    assert_eq!((all.requests().len(), requests.len()), (2, 1));
    assert_eq!(
        (requests[0].protocol, requests[0].signal),
        (Protocol::HttpProtobuf, Signal::Logs)
    );
}

/// In a process that has a variable set, the exporter goes where it says.
fn environment() {
    let collector = collector();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.endpoint()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-scope-orgid=acme"),
    ];
    let output = process(&["environment"], &variables);
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}");
    assert!(
        report.contains(&collector.endpoint()) && !report.contains("acme"),
        "{report}"
    );
    sold(&collector);
    assert!(
        collector.requests()[0]
            .headers
            .contains(&("x-scope-orgid".into(), "acme".into()))
    );
}
