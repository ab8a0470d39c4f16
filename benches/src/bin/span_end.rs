//! What the end of a span costs the thread that ends it, and the process, under the OpenTelemetry SDK:
//!
//! ```text
//! cargo run --release -p otlp-embed-benches --features incumbent --bin span_end
//! ```
//!
//! Ways side by side, each in a process of its own, which makes the same spans with a provider of the SDK: this crate's processor;
//! the SDK's batch processor with this crate's exporter; the SDK's batch processor with `opentelemetry-otlp` over gRPC and over
//! HTTP. The queue of the SDK's processor is made as large as the run, for it drops spans otherwise. A collector in another
//! process counts; a run fails where it has not every span.
//!
//! Instructions are those of one thread within the end of a span, counted by callgrind in a second, shorter run. Times are
//! taken by two readings of the clock around the end; what these take alone is in the first line. `--spans` and
//! `--counted` change the runs, `--smoke` makes them short and leaves the counting out.

use opentelemetry::trace::{Span, SpanKind, Status, Tracer, TracerProvider};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol as OtlpProtocol, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanExporter, TracerProviderBuilder,
};
use otlp_embed::pipeline::{Overflow, PipelineConfig, QueueConfig};
use otlp_embed::{Config, Exporter, Protocol, rt, sdk};
use otlp_embed_benches::modes::histogram::Histogram;
use otlp_embed_benches::modes::host::{Peer, run_worker};
use otlp_embed_benches::modes::measure::Figures;
use otlp_embed_benches::modes::ways::Result;
use otlp_embed_benches::modes::{peer, process};
use otlp_embed_benches::timing::now;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The ways, by their names on the command line, and in words.
const WAYS: [(&str, &str); 5] = [
    ("none", "no processor: the span alone"),
    ("processor", "`sdk::SpanProcessor`"),
    ("batch-ours", "the SDK's batch processor, `sdk::SpanExporter`"),
    (
        "batch-grpc",
        "the SDK's batch processor, `opentelemetry-otlp` over gRPC (tonic)",
    ),
    (
        "batch-http",
        "the SDK's batch processor, `opentelemetry-otlp` over HTTP (reqwest)",
    ),
];
/// Spans made before the measure begins.
const WARM_UP: u64 = 2_000;
/// Time for the last span to arrive.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    match arguments.peek().map(String::as_str) {
        Some("peer") => Ok(peer::serve(None)?),
        Some("worker") => work(arguments.skip(1)),
        _ => compare(arguments),
    }
}

fn compare(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let (mut spans, mut counted) = (200_000_u64, 4_000_u64);
    while let Some(name) = arguments.next() {
        if name == "--smoke" {
            (spans, counted) = (4_000, 0);
            continue;
        }
        let value = arguments.next().unwrap_or_default();
        let number = value.parse().map_err(|_| format!("{name} needs a number"))?;
        match name.as_str() {
            "--spans" => spans = number,
            "--counted" => counted = number,
            _ => return Err(format!("{name} is not known").into()),
        }
    }
    println!(
        "{spans} spans of ten attributes and an event, one thread, gRPC without TLS but where it says HTTP; a collector in \
         another process.\n"
    );
    println!(
        "| way | instructions within the end | ns: mean | p50 | p99 | CPU of the process a span, ns | peak MB | arrived |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for (name, words) in WAYS {
        let (figures, arrived) = run(name, spans, None)?;
        let instructions = match counted {
            0 => String::from("-"),
            counted => count(name, counted)?.to_string(),
        };
        let of = |name| figures.of(name);
        println!(
            "| {words} | {instructions} | {} | {} | {} | {} | {:.1} | {arrived} |",
            of("mean_ns"),
            of("p50_ns"),
            of("p99_ns"),
            of("cpu_ns"),
            of("peak_kib") as f64 / 1024.0
        );
    }
    Ok(())
}

/// Runs a way and checks that the collector has what was made.
fn run(way: &str, spans: u64, callgrind_out: Option<&str>) -> Result<(Figures, u64)> {
    let mut peer = Peer::start(None)?;
    let arguments = [way.to_owned(), peer.endpoint.clone(), spans.to_string()];
    let figures = match callgrind_out {
        None => run_worker(&arguments)?,
        Some(out) => {
            let status = Command::new("valgrind")
                .args(["--tool=callgrind", "--collect-atstart=no"])
                .arg("--toggle-collect=span_end::end_span")
                .arg(format!("--callgrind-out-file={out}"))
                .arg(std::env::current_exe()?)
                .arg("worker")
                .args(&arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .map_err(|error| format!("valgrind does not start ({error}): install it"))?;
            if !status.success() {
                return Err(format!("the worker {way} ended with {status} under callgrind").into());
            }
            Figures::default()
        }
    };
    let arrived = peer.ask("counters")?.of("spans");
    let made = if way == "none" { 0 } else { spans + WARM_UP };
    if arrived != made {
        return Err(format!("{way}: {made} spans were made, {arrived} arrived").into());
    }
    Ok((figures, arrived))
}

/// Instructions of the thread within the end of a span.
fn count(way: &str, spans: u64) -> Result<u64> {
    let out = std::env::temp_dir().join(format!("span-end-{}-{way}.callgrind", std::process::id()));
    let path = out.to_string_lossy().into_owned();
    let ran = run(way, spans, Some(&path));
    let text = std::fs::read_to_string(&out).unwrap_or_default();
    let _ = std::fs::remove_file(&out);
    ran?;
    let total = text.lines().find_map(|line| {
        line.strip_prefix("totals:")
            .or_else(|| line.strip_prefix("summary:"))
    });
    let total: u64 = total
        .and_then(|total| total.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| format!("{way}: callgrind told no total"))?;
    if total == 0 {
        return Err(format!("{way}: callgrind did not see the end of a span").into());
    }
    Ok(total / (spans + WARM_UP))
}

/// Makes spans in one way.
fn work(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let mut next = || {
        arguments
            .next()
            .ok_or("a worker needs a way, an endpoint and a number")
    };
    let (way, endpoint, spans) = (next()?, next()?, next()?.parse::<u64>()?);
    let builder = SdkTracerProvider::builder().with_resource(
        Resource::builder_empty()
            .with_attribute(KeyValue::new("service.name", "shop"))
            .with_attribute(KeyValue::new("service.version", "1.4.2"))
            .build(),
    );
    match way.as_str() {
        "none" => measure(&builder.with_span_processor(Nothing).build(), spans),
        "processor" => {
            let exporter = exporter(&endpoint)?;
            let queue = QueueConfig::new().with_overflow(Overflow::Block);
            let (pipeline, future) = exporter.pipeline(PipelineConfig::new().with_queue(queue))?;
            let thread = future.run_on_thread()?;
            let processor = sdk::SpanProcessor::new(&pipeline).with_wait_max(PATIENCE);
            measure(&builder.with_span_processor(processor).build(), spans)?;
            let report = pipeline.shutdown_blocking(PATIENCE);
            thread.join()?;
            if report.lost() > 0 {
                return Err(report.to_string().into());
            }
            Ok(())
        }
        "batch-ours" => measure(
            &batch(builder, sdk::SpanExporter::new(&exporter(&endpoint)?), spans),
            spans,
        ),
        "batch-grpc" => {
            // Its channel is served by a runtime, which the SDK's thread does not have.
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()?;
            let _entered = runtime.enter();
            let exporter = opentelemetry_otlp::SpanExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .build()?;
            measure(&batch(builder, exporter, spans), spans)
        }
        "batch-http" => {
            let exporter = opentelemetry_otlp::SpanExporter::builder()
                .with_http()
                .with_protocol(OtlpProtocol::HttpBinary)
                .with_endpoint(format!("{endpoint}/v1/traces"))
                .build()?;
            measure(&batch(builder, exporter, spans), spans)
        }
        _ => Err(format!("no way is called {way}").into()),
    }
}

/// A processor that lets every span go.
#[derive(Debug)]
struct Nothing;

impl opentelemetry_sdk::trace::SpanProcessor for Nothing {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &opentelemetry::Context) {}

    fn on_end(&self, _: opentelemetry_sdk::trace::SpanData) {}

    fn force_flush(&self) -> opentelemetry_sdk::error::OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> opentelemetry_sdk::error::OTelSdkResult {
        Ok(())
    }
}

fn exporter(endpoint: &str) -> Result<Exporter<rt::Blocking>> {
    let config = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(endpoint);
    Ok(config.build(rt::Blocking::new()?)?)
}

/// A provider with the SDK's batch processor, which drops nothing of this run.
fn batch<E: SpanExporter + 'static>(
    builder: TracerProviderBuilder,
    exporter: E,
    spans: u64,
) -> SdkTracerProvider {
    let config = BatchConfigBuilder::default()
        .with_max_queue_size((spans + WARM_UP) as usize)
        .with_max_export_batch_size(512)
        .build();
    let processor = BatchSpanProcessor::builder(exporter)
        .with_batch_config(config)
        .build();
    builder.with_span_processor(processor).build()
}

/// Makes the spans, times their ends, flushes, and prints the figures.
fn measure(provider: &SdkTracerProvider, spans: u64) -> Result<()> {
    let scope = InstrumentationScope::builder("shop.http")
        .with_version("0.3.1")
        .build();
    let tracer = provider.tracer_with_scope(scope);
    for number in 0..WARM_UP {
        end_span(begin_span(&tracer, number));
    }
    let (mut times, mut total) = (Histogram::default(), Duration::ZERO);
    let cpu = process::cpu();
    for number in 0..spans {
        let span = begin_span(&tracer, number);
        let begin = now();
        end_span(span);
        let time = now() - begin;
        times.record(time);
        total += time;
    }
    provider.shutdown_with_timeout(PATIENCE)?;
    let cpu = process::cpu() - cpu;
    let figures = Figures::default()
        .with("mean_ns", total.as_nanos() as u64 / spans)
        .with("p50_ns", times.quantile(0.5).as_nanos() as u64)
        .with("p99_ns", times.quantile(0.99).as_nanos() as u64)
        .with("cpu_ns", cpu.as_nanos() as u64 / spans)
        .with("peak_kib", process::peak_kib());
    println!("{figures}");
    Ok(())
}

type SdkSpan = opentelemetry_sdk::trace::Span;

/// A span as an instrumented server makes it.
fn begin_span(tracer: &opentelemetry_sdk::trace::SdkTracer, number: u64) -> SdkSpan {
    let mut span = tracer
        .span_builder("GET /api/v1/shops/{shop}/carts")
        .with_kind(SpanKind::Server)
        .with_attributes([
            KeyValue::new("http.request.method", "GET"),
            KeyValue::new("http.route", "/api/v1/shops/{shop}/carts"),
            KeyValue::new(
                "url.full",
                format!("https://shop.example.com/api/v1/shops/17/carts/{number}"),
            ),
            KeyValue::new(
                "network.peer.address",
                format!("10.1.{}.{}", number % 7, number % 250),
            ),
            KeyValue::new("user.id", format!("user-{:08}", number * 7919 % 100_000_000)),
            KeyValue::new("http.response.status_code", 200),
            KeyValue::new("http.response.body.size", (number * 317 % 70_000) as i64),
            KeyValue::new("cache.ratio", number as f64 / 512.0),
            KeyValue::new("cache.hit", number % 3 == 0),
            KeyValue::new("server.port", 8443),
        ])
        .start(tracer);
    span.add_event("cache looked up", vec![KeyValue::new("entries", 12)]);
    span.set_status(Status::Ok);
    span
}

/// What is measured.
#[inline(never)]
fn end_span(mut span: SdkSpan) {
    span.end();
    drop(span);
}
