//! A gateway to language models: requests of many tenants, each a tree of spans with a prompt and a completion of 100 KB.
//!
//! ```sh
//! cargo run --release --example genai_gateway [URL]
//! ```
//!
//! The texts are referenced where they lie, from the request that came in to the socket that takes them. What is open, queued or
//! being exported is bounded in bytes; while the collector is slow, the gateway waits. Each tenant's spans travel under a header
//! of its own.

mod support;

use otlp_embed::pb::collector::ExportTraceServiceRequest;
use otlp_embed::pb::trace::span::SpanKind;
use otlp_embed::pipeline::{Overflow, Pipeline, PipelineConfig, QueueConfig, Refusal};
use otlp_embed::testing::Collector;
use otlp_embed::testing::collector::{Answer, ReceivedRequest, Value};
use otlp_embed::{Config, Protocol, Resource, TraceBatch, rt};
use prost::Message;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use support::{Comparison, Destination, Result, close, exit_code, say};

const TENANTS: [&str; 8] = [
    "acme", "globex", "hooli", "initech", "soylent", "stark", "umbrella", "wayne",
];
const REQUESTS: u64 = 512;
const SPANS_PER_REQUEST: u64 = 3;
const WORKERS: u64 = 4;
const TEXT_BYTES: usize = 100_000;
/// What the pipeline may hold, however slow the collector is, beside what each worker is about to write.
const HELD_BYTES_MAX: usize = 16 << 20;
/// How long the collector in this process thinks about each export.
const SLOWNESS: Duration = Duration::from_millis(25);
/// For how long a collector may be away before what waits is given up.
const OUTAGE_MAX: Duration = Duration::from_secs(10);
const TENANT_HEADER: &str = "x-scope-orgid";

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<()> {
    let ledger = Arc::new(Ledger::default());
    let slow = Collector::builder().keep_requests(false).answer_with({
        let ledger = ledger.clone();
        move |request| {
            ledger.enter(request);
            Answer::Ok.after(SLOWNESS)
        }
    });
    let destination = Destination::from_args_or(slow)?;
    let exporter = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(&destination.endpoint)
        .with_observer(support::warn)
        .build(rt::Blocking::new()?)?;
    let queue = QueueConfig::new()
        .with_bytes_max(HELD_BYTES_MAX)
        .with_overflow(Overflow::Block);
    let resource = Resource::builder().attr("service.name", "genai-gateway").build();
    let config = PipelineConfig::new()
        .with_resource(&resource)
        .with_queue(queue)
        .with_max_elapsed(OUTAGE_MAX);
    let (pipeline, future) = exporter.pipeline(config)?;
    let thread = future.run_on_thread()?;
    show_references(&resource)?;

    let gateway = Gateway::new(&pipeline)?;
    let started = now();
    thread::scope(|scope| -> Result<()> {
        let gateway = &gateway;
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| scope.spawn(move || gateway.work(worker)))
            .collect();
        for worker in workers {
            worker.join().map_err(|_| "a worker panicked")??;
        }
        Ok(())
    })?;
    pipeline.shutdown_blocking(Duration::from_secs(30));
    let report = thread.join()?;
    gateway.tell(now() - started)?;

    match destination.collector {
        Some(_) => gateway.compare(&ledger)?,
        None => gateway.tell_tenants(),
    }
    close(&report, &exporter.stats())
}

/// Encodes one request by itself, and shows what its message is made of.
fn show_references(resource: &Resource) -> Result<()> {
    let exchange = Exchange::new(0, TENANTS[0]);
    let mut batch = TraceBatch::new(resource);
    exchange.write(&mut batch);
    let request = batch.finish();
    let segments: Vec<_> = request.segments().collect();
    let in_place = segments.iter().filter(|segment| {
        let mut texts = exchange.texts().into_iter();
        texts.any(|text| (text.as_ptr(), text.len()) == (segment.as_ptr(), segment.len()))
    });
    let (in_place, bytes) = in_place.fold((0, 0), |(count, bytes), segment| {
        (count + 1, bytes + segment.len())
    });
    say(format_args!(
        "A request of {} bytes goes out as {} segments; {in_place} of them, {bytes} bytes, are the texts where they lie",
        request.encoded_len(),
        segments.len(),
    ));
    match in_place {
        2 => Ok(()),
        _ => Err("a text was copied".into()),
    }
}

/// The gateway, with a handle on the pipeline for each tenant.
struct Gateway {
    tenants: Vec<Tenant>,
    pipeline: Pipeline,
    bytes_written: AtomicU64,
    bytes_referenced: AtomicU64,
    bytes_held_peak: AtomicU64,
}

struct Tenant {
    name: &'static str,
    pipeline: Pipeline,
    requests: AtomicU64,
}

impl Gateway {
    fn new(pipeline: &Pipeline) -> Result<Self> {
        let tenants = TENANTS.map(|name| {
            let pipeline = pipeline.with_header(TENANT_HEADER, name)?;
            let requests = AtomicU64::new(0);
            Ok(Tenant {
                name,
                pipeline,
                requests,
            })
        });
        Ok(Self {
            tenants: tenants.into_iter().collect::<Result<_>>()?,
            pipeline: pipeline.clone(),
            bytes_written: AtomicU64::new(0),
            bytes_referenced: AtomicU64::new(0),
            bytes_held_peak: AtomicU64::new(0),
        })
    }

    /// Serves every request that falls to this worker.
    fn work(&self, worker: u64) -> Result<(), Refusal> {
        (worker..REQUESTS)
            .step_by(WORKERS as usize)
            .try_for_each(|number| self.serve(number))
    }

    fn serve(&self, number: u64) -> Result<(), Refusal> {
        let tenant = &self.tenants[number as usize % TENANTS.len()];
        let exchange = Exchange::new(number, tenant.name);
        let (mut encoded, mut referenced) = (0, 0);
        // Under `Overflow::Block` this waits for room.
        tenant.pipeline.spans(|batch| {
            let before = batch.encoded_len();
            exchange.write(batch);
            encoded = (batch.encoded_len() - before) as u64;
            // A text that the batch holds has a second owner now.
            let shared = exchange
                .texts()
                .into_iter()
                .filter(|text| Arc::strong_count(text) == 2);
            referenced = shared.map(|text| text.len() as u64).sum();
        })?;
        tenant.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes_referenced.fetch_add(referenced, Ordering::Relaxed);
        self.bytes_written
            .fetch_add(encoded - referenced, Ordering::Relaxed);
        let account = self.pipeline.stats().total;
        let held = account.queued_bytes + account.in_flight_bytes;
        self.bytes_held_peak.fetch_max(held, Ordering::Relaxed);
        Ok(())
    }

    /// Prints how it went, and fails where the pipeline held more than it may.
    fn tell(&self, time: Duration) -> Result<()> {
        let [written, referenced, peak] =
            [&self.bytes_written, &self.bytes_referenced, &self.bytes_held_peak]
                .map(|bytes| bytes.load(Ordering::Relaxed) as f64);
        let seconds = time.as_secs_f64();
        say(format_args!(
            "{REQUESTS} requests in {seconds:.2} s: {:.0} requests/s, {:.1} MB/s",
            REQUESTS as f64 / seconds,
            (written + referenced) / 1e6 / seconds,
        ));
        say(format_args!(
            "Bytes referenced: {:.1} MB; copied: {:.3} MB, {:.0} bytes of each request",
            referenced / 1e6,
            written / 1e6,
            written / REQUESTS as f64,
        ));
        let allowed = HELD_BYTES_MAX + WORKERS as usize * 3 * TEXT_BYTES;
        say(format_args!(
            "Held at most: {:.1} MB of {:.1} MB allowed",
            peak / 1e6,
            allowed as f64 / 1e6,
        ));
        match peak <= allowed as f64 {
            true => Ok(()),
            false => Err(format!("the pipeline held {peak} bytes").into()),
        }
    }
    /// Prints what each tenant has made, where nobody here can say what arrived.
    fn tell_tenants(&self) {
        for tenant in &self.tenants {
            let spans = tenant.requests.load(Ordering::Relaxed) * SPANS_PER_REQUEST;
            say(format_args!("  {}: {spans} spans", tenant.name));
        }
    }

    /// Compares what each tenant has made with what arrived under its header.
    fn compare(&self, ledger: &Ledger) -> Result<()> {
        let pages = ledger.lock();
        let mut table = Comparison::default();
        for tenant in &self.tenants {
            let requests = tenant.requests.load(Ordering::Relaxed);
            let page = pages.get(tenant.name).cloned().unwrap_or_default();
            let text_bytes = 2 * TEXT_BYTES as u64 * requests;
            table
                .row(
                    format_args!("{}: spans", tenant.name),
                    requests * SPANS_PER_REQUEST,
                    page.spans,
                )
                .row("  bytes of text", text_bytes, page.text_bytes);
        }
        let others: u64 = pages.values().map(|page| page.spans_of_others).sum();
        table.row("spans under a header not theirs", 0, others);
        let exports: u64 = pages.values().map(|page| page.exports).sum();
        say(format_args!(
            "The collector took {SLOWNESS:?} for each of {exports} exports"
        ));
        table.check()
    }
}

/// What passes through the gateway: a request to a model, and its answer.
struct Exchange {
    number: u64,
    tenant: &'static str,
    prompt: Arc<str>,
    completion: Arc<str>,
}

impl Exchange {
    fn new(number: u64, tenant: &'static str) -> Self {
        let text = |kind| {
            let text = format!("{kind} {number}. And what is it that you would like to know? ");
            let mut text = text.repeat(TEXT_BYTES / text.len() + 1);
            text.truncate(TEXT_BYTES);
            text.into()
        };
        Self {
            number,
            tenant,
            prompt: text("Prompt"),
            completion: text("Completion"),
        }
    }

    fn texts(&self) -> [&Arc<str>; 2] {
        [&self.prompt, &self.completion]
    }

    /// Writes its spans: the request that came in, and within it the search for context and the call of the model.
    fn write(&self, batch: &mut TraceBatch) {
        let trace_id = u128::from(self.number + 1).to_be_bytes();
        let [root, search, call] =
            [1, 2, 3].map(|span| (self.number * SPANS_PER_REQUEST + span).to_be_bytes());
        let end = unix_nanos();
        let ago = |ms: u64| end - ms * 1_000_000;
        batch.scope("genai-gateway", "2.1.0");
        batch
            .span(trace_id, search, "search context")
            .parent(root)
            .attr("tenant.id", self.tenant)
            .times(ago(900)..ago(800))
            .end();
        batch
            .span(trace_id, call, "chat")
            .parent(root)
            .kind(SpanKind::Client)
            .attr("tenant.id", self.tenant)
            .attr("gen_ai.request.model", "large-1")
            .attr_shared("gen_ai.prompt", self.prompt.clone())
            .attr_shared("gen_ai.completion", self.completion.clone())
            .times(ago(800)..ago(10))
            .end();
        batch
            .span(trace_id, root, "POST /v1/chat")
            .kind(SpanKind::Server)
            .attr("tenant.id", self.tenant)
            .attr("http.response.status_code", 200)
            .times(ago(900)..end)
            .end();
    }
}

/// What the collector received, by the tenant that the header names.
#[derive(Default)]
struct Ledger(Mutex<BTreeMap<String, Page>>);

#[derive(Clone, Default)]
struct Page {
    exports: u64,
    spans: u64,
    text_bytes: u64,
    /// Spans that say they belong to another tenant.
    spans_of_others: u64,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Page>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, request: &ReceivedRequest) {
        let tenant = request.header(TENANT_HEADER).unwrap_or_default();
        // The collector has read it before.
        let message = ExportTraceServiceRequest::decode(request.message.clone()).unwrap_or_default();
        let groups = message
            .resource_spans
            .into_iter()
            .flat_map(|group| group.scope_spans);
        let mut pages = self.lock();
        let page = pages.entry(tenant.to_owned()).or_default();
        page.exports += 1;
        for span in groups.flat_map(|group| group.spans) {
            page.spans += 1;
            for field in span.attributes {
                match (&*field.key, field.value.map(Value::from)) {
                    ("tenant.id", Some(Value::Str(owner))) if owner != tenant => page.spans_of_others += 1,
                    ("gen_ai.prompt" | "gen_ai.completion", Some(Value::Str(text))) => {
                        page.text_bytes += text.len() as u64;
                    }
                    _ => {}
                }
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a program reads its clock")]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "a program reads its clock")]
fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| time.as_nanos() as u64)
}
