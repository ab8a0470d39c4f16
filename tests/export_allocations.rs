//! What an export allocates, from the first span of its batch to its verdict, once the connection stands.
//!
//! Each thread counts for itself, so that the collector, which lives in the same process, is left out. The figures are
//! printed with `--nocapture`.

use otlp_embed::pb::trace::span::SpanKind;
use otlp_embed::testing::Collector;
use otlp_embed::{Config, Exporter, Request, Resource, TraceBatch, rt};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

const SPANS: usize = 512;
/// Exports that fill pools, tables and windows.
const WARM_UP: usize = 50;
const EXPORTS: usize = 200;
/// Allocations that an export may cost on average.
const PER_EXPORT_MAX: f64 = 20.0;
/// Allocations that a span may cost on average, its share of the export included.
const PER_SPAN_MAX: f64 = 0.03;

thread_local! {
    static COUNTED: Cell<Account> = const { Cell::new(Account { allocations: 0, bytes: 0 }) };
}

#[derive(Clone, Copy)]
struct Account {
    allocations: usize,
    bytes: usize,
}

/// Counts the allocations of each thread by itself.
struct Counting;

impl Counting {
    fn count(bytes: usize) {
        let Account {
            allocations,
            bytes: earlier,
        } = COUNTED.get();
        COUNTED.set(Account {
            allocations: allocations + 1,
            bytes: earlier + bytes,
        });
    }
}

#[allow(unsafe_code, reason = "a global allocator cannot be written without")]
// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        Self::count(len);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`.
        unsafe { System.realloc(memory, layout, len) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Writes spans of about 500 bytes with ten attributes and an event, and freezes them.
fn request(batch: &mut TraceBatch) -> Request {
    batch.scope("checkout", "1.4.0");
    for number in 1..=SPANS as u64 {
        let start = 1_700_000_000_000_000_000 + number;
        batch
            .span([7; 16], number.to_be_bytes(), "POST /api/v1/orders/{id}/payments")
            .parent([9; 8])
            .kind(SpanKind::Server)
            .times(start..start + 3_000_000)
            .attr("http.request.method", "POST")
            .attr("http.route", "/api/v1/orders/{id}/payments")
            .attr("http.response.status_code", 201)
            .attr("url.scheme", "https")
            .attr("server.address", "checkout.internal.example")
            .attr("server.port", 8443)
            .attr(
                "user_agent.original",
                "Mozilla/5.0 (X11; Linux x86_64) Example/1.0",
            )
            .attr("payment.amount", 129.95)
            .attr("payment.retried", false)
            .attr("order.items", number as i64)
            .event("payment.authorised", start + 1_000_000, |event| {
                _ = event.attr("payment.provider", "example-bank");
            })
            .end();
    }
    batch.finish()
}

/// Exports again and again on this thread and checks what that allocates.
fn account<R: rt::Runtime>(
    runtime: &str,
    exporter: &Exporter<R>,
    collector: &Collector,
    mut export: impl FnMut(Request) -> u64,
) {
    let resource = Resource::builder().attr("service.name", "checkout").build();
    let mut batch = TraceBatch::new(&resource);
    for _ in 0..WARM_UP {
        assert_eq!(export(request(&mut batch)), SPANS as u64);
    }
    let before = COUNTED.get();
    let mut bytes = 0;
    for _ in 0..EXPORTS {
        let request = request(&mut batch);
        bytes += request.encoded_len();
        assert_eq!(export(request), SPANS as u64);
    }
    let after = COUNTED.get();
    let per_export = (after.allocations - before.allocations) as f64 / EXPORTS as f64;
    let per_span = per_export / SPANS as f64;
    println!(
        "{runtime}: {per_export:.2} allocations and {} bytes of them an export, {per_span:.4} allocations a span of {} \
         bytes, over {EXPORTS} exports of {SPANS} spans",
        (after.bytes - before.bytes) / EXPORTS,
        bytes / EXPORTS / SPANS,
    );
    let spans = ((WARM_UP + EXPORTS) * SPANS) as u64;
    assert_eq!(collector.counters().spans_accepted, spans);
    let stats = exporter.stats();
    assert_eq!((stats.delivered, stats.connections, stats.retries), (spans, 1, 0));
    assert!(
        bytes / EXPORTS / SPANS >= 450,
        "the spans are too small to tell anything"
    );
    assert!(per_export > 0.0, "nothing was counted");
    assert!(
        per_export <= PER_EXPORT_MAX,
        "{runtime}: {per_export} allocations an export"
    );
    assert!(
        per_span <= PER_SPAN_MAX,
        "{runtime}: {per_span} allocations a span"
    );
}

fn collector() -> Collector {
    let builder = Collector::builder().keep_requests(false);
    builder.start().expect("a collector")
}

fn exporter<R: rt::Runtime>(collector: &Collector, runtime: R) -> Exporter<R> {
    let config = Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_endpoint(collector.endpoint());
    config.build(runtime).expect("the configuration works")
}

#[test]
fn a_thread_exports_with_few_allocations() {
    let collector = collector();
    let exporter = exporter(&collector, rt::Blocking::new().expect("a reactor"));
    account("rt::Blocking", &exporter, &collector, |request| {
        let outcome = exporter.export(request).wait();
        outcome.expect("the collector accepts everything").delivered()
    });
}

#[test]
fn a_tokio_task_exports_with_few_allocations() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let collector = collector();
    let tokio = rt::Tokio::with_handle(runtime.handle().clone()).expect("a runtime with timers");
    let exporter = exporter(&collector, tokio);
    account("rt::Tokio", &exporter, &collector, |request| {
        let outcome = runtime.block_on(exporter.export(request));
        outcome.expect("the collector accepts everything").delivered()
    });
}

#[test]
fn a_smol_task_exports_with_few_allocations() {
    let collector = collector();
    let exporter = exporter(&collector, rt::Smol::new());
    account("rt::Smol", &exporter, &collector, |request| {
        let outcome = smol::block_on(exporter.export(request));
        outcome.expect("the collector accepts everything").delivered()
    });
}
