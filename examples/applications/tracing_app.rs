//! An application on tokio that is instrumented with `tracing`, whose spans and events are exported as traces and logs.
//!
//! ```sh
//! cargo run --example tracing_app [URL]
//! ```
//!
//! Its subscriber listens to everything: `TRACE`, no filter, with the exporter on the application's own runtime. Even so it hears
//! nothing of its exports, whose own spans (`h2` has many) would be exported too, and so on for ever.

mod support;

use opentelemetry::trace::TracerProvider;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use otlp_embed::pipeline::{Pipeline, PipelineConfig};
use otlp_embed::testing::Collector;
use otlp_embed::{Config, Protocol, rt, sdk};
use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::time::Duration;
use support::{Comparison, Destination, Result, close, exit_code, say};
use tokio::runtime;
use tracing::{Instrument, Span, error, field, info, info_span, trace};
use tracing_subscriber::layer::SubscriberExt;

const TASKS: u64 = 4;
const JOBS_PER_TASK: u64 = 25;
const JOBS: u64 = TASKS * JOBS_PER_TASK;
/// Every so many jobs the disk is full.
const FAILED_EVERY: u64 = 10;
const TIME: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<()> {
    let destination = Destination::from_args()?;
    let tokio = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;

    // The pipeline is a task like the others.
    let exporter = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(&destination.endpoint)
        .with_observer(support::warn)
        .build(rt::Tokio::with_handle(tokio.handle().clone())?)?;
    let (pipeline, future) = exporter.pipeline(PipelineConfig::new())?;
    let delivery = tokio.spawn(future);

    let resource = Resource::builder().with_service_name("press").build();
    let traces = SdkTracerProvider::builder()
        .with_span_processor(sdk::SpanProcessor::new(&pipeline))
        .with_resource(resource.clone())
        .build();
    let logs = SdkLoggerProvider::builder()
        .with_log_processor(sdk::LogProcessor::new(&pipeline))
        .with_resource(resource)
        .build();
    let subscriber = tracing_subscriber::registry()
        .with(tracing_opentelemetry::layer().with_tracer(traces.tracer("press")))
        .with(OpenTelemetryTracingBridge::new(&logs));
    tracing::subscriber::set_global_default(subscriber)?;

    tokio.block_on(print_edition().instrument(info_span!("edition", jobs = JOBS)));
    listen(&pipeline)?;

    // They block, and so belong outside of tokio.
    for failure in [traces.shutdown(), logs.shutdown()]
        .into_iter()
        .filter_map(std::result::Result::err)
    {
        say(format_args!("A provider's shutdown: {failure}"));
    }
    pipeline.shutdown_blocking(TIME);
    let report = tokio.block_on(delivery)?;
    if let Some(collector) = &destination.collector {
        compare(collector)?;
    }
    close(&report, &exporter.stats())
}

/// Several tasks print what the edition has. Each belongs to the span that spawned it.
async fn print_edition() {
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| tokio::spawn(print_jobs(task).in_current_span()))
        .collect();
    for task in tasks {
        if let Err(error) = task.await {
            error!(%error, "a task ended early");
        }
    }
}

async fn print_jobs(task: u64) {
    for job in task * JOBS_PER_TASK..(task + 1) * JOBS_PER_TASK {
        let span = info_span!(
            "job",
            job,
            "otel.kind" = "consumer",
            pages = field::Empty,
            "otel.status_code" = field::Empty
        );
        print_job(job).instrument(span).await;
    }
}

async fn print_job(job: u64) {
    let pages = typeset(job).instrument(info_span!("typeset")).await;
    Span::current().record("pages", pages);
    if let Err(reason) = store(job).instrument(info_span!("store", pages)).await {
        Span::current().record("otel.status_code", "ERROR");
        error!(job, reason, "the job failed");
    }
}

async fn typeset(job: u64) -> u64 {
    trace!(job, "hyphenating");
    tokio::task::yield_now().await;
    info!(job, "typeset");
    job % 16 + 1
}

async fn store(job: u64) -> Result<(), &'static str> {
    tokio::task::yield_now().await;
    match (job + 1) % FAILED_EVERY {
        0 => Err("the disk is full"),
        _ => Ok(()),
    }
}

/// Flushes while the application is quiet. Were an export heard, there would be something to flush after it, every time.
fn listen(pipeline: &Pipeline) -> Result<()> {
    let mut accepted = 0;
    for round in 1..=4 {
        pipeline.flush_blocking(TIME)?;
        let stats = pipeline.stats().total;
        let more = stats.accepted - accepted;
        say(format_args!(
            "Flush {round}: {more} more items, {} delivered by {} exports in all",
            stats.delivered, stats.batches
        ));
        if round > 1 && more > 0 {
            return Err(format!("an export was heard: {more} items are of its own making").into());
        }
        accepted = stats.accepted;
    }
    Ok(())
}

/// Compares what the collector has received with what was made.
fn compare(collector: &Collector) -> Result<()> {
    let (spans, logs) = (collector.spans(), collector.logs());
    let by_id: HashMap<_, _> = spans.iter().map(|span| (&span.span_id, span)).collect();
    let mut nested: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for span in &spans {
        let parent = by_id.get(&span.parent_span_id).map_or("", |parent| &parent.name);
        *nested.entry((parent, &span.name)).or_default() += 1;
    }
    let mut correlated: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for log in &logs {
        let span = by_id.get(&log.record.span_id).map_or("", |span| &span.name);
        *correlated.entry((span, &log.record.severity_text)).or_default() += 1;
    }
    let failed = JOBS / FAILED_EVERY;
    let nested = |parent, name| nested.get(&(parent, name)).copied().unwrap_or_default();
    let correlated = |span, level| correlated.get(&(span, level)).copied().unwrap_or_default();
    let mut table = Comparison::default();
    table
        .row("spans", 1 + 3 * JOBS, spans.len())
        .row("  edition", 1, nested("", "edition"))
        .row("    job", JOBS, nested("edition", "job"))
        .row("      typeset", JOBS, nested("job", "typeset"))
        .row("      store", JOBS, nested("job", "store"))
        .row(
            "  errors",
            failed,
            spans.iter().filter(|span| span.is_error()).count(),
        )
        .row(
            "  events",
            2 * JOBS + failed,
            spans.iter().map(|span| span.events.len()).sum::<usize>(),
        )
        .row("log records", 2 * JOBS + failed, logs.len())
        .row("  TRACE within typeset", JOBS, correlated("typeset", "TRACE"))
        .row("  INFO within typeset", JOBS, correlated("typeset", "INFO"))
        .row("  ERROR within job", failed, correlated("job", "ERROR"));
    table.check()
}
