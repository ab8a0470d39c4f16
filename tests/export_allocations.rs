//! What an export allocates, from the first item of its batch to its verdict, once the connection stands.
//!
//! Each thread counts for itself, so that the collector, which lives in the same process, is left out. The figures are
//! printed with `--nocapture`.

use otlp_embed::export::{Flight, Managed};
use otlp_embed::pb::logs::SeverityNumber;
use otlp_embed::pb::trace::span::SpanKind;
use otlp_embed::testing::Collector;
use otlp_embed::{
    Config, Exporter, LogBatch, MetricBatch, Protocol, Request, Resource, Signal, Temporality, TraceBatch, rt,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};

/// Items of an export: spans, log records, or data points.
const ITEMS: u64 = 512;
/// Exports that fill pools, tables and windows.
const WARM_UP: usize = 30;
const EXPORTS: usize = 70;
/// Allocations that an export may cost on average.
const PER_EXPORT_MAX: f64 = 20.0;
/// Allocations that an item may cost on average, its share of the export included.
const PER_ITEM_MAX: f64 = 0.03;

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

/// Writes a batch and freezes it, again and again in the same memory.
type Write = Box<dyn FnMut() -> Request>;

/// Spans of about 500 bytes with ten attributes and an event.
fn spans() -> Write {
    let mut batch = TraceBatch::new(&resource());
    Box::new(move || {
        batch.scope("checkout", "1.4.0");
        for number in 1..=ITEMS {
            let start = START + number;
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
    })
}

/// Log records of about 200 bytes.
fn logs() -> Write {
    let mut batch = LogBatch::new(&resource());
    Box::new(move || {
        batch.scope("checkout", "1.4.0");
        for number in 1..=ITEMS {
            batch
                .log()
                .time(START + number)
                .severity(SeverityNumber::Warn, "WARN")
                .body("the bank of a payment answered later than it usually does")
                .attr("payment.provider", "example-bank")
                .attr("payment.amount", 129.95)
                .attr("order.items", number as i64)
                .trace([7; 16], number.to_be_bytes())
                .end();
        }
        batch.finish()
    })
}

/// Data points of sums and histograms, half and half, of about 150 bytes.
fn points() -> Write {
    let mut batch = MetricBatch::new(&resource());
    Box::new(move || {
        batch.scope("checkout", "1.4.0");
        let times = START..START + 60_000_000_000;
        let mut orders = batch
            .metric("shop.orders")
            .unit("{order}")
            .monotonic_sum(Temporality::Cumulative);
        for number in 1..=ITEMS / 2 {
            orders
                .point(times.clone(), number as i64)
                .attr("payment.provider", "example-bank")
                .attr("shop.country", "an-example-of-a-country")
                .attr("shop.branch", number as i64)
                .end();
        }
        orders.end();
        let mut durations = batch
            .metric("http.server.request.duration")
            .unit("s")
            .histogram(Temporality::Delta);
        for number in 1..=ITEMS / 2 {
            durations
                .point(times.clone(), &[0.01, 0.1, 1.0, 10.0], &[number, 40, 5, 1, 0])
                .sum(3.5)
                .attr("http.route", "/api/v1/orders/{id}/payments")
                .attr("http.response.status_code", number as i64)
                .end();
        }
        durations.end();
        batch.finish()
    })
}

const START: u64 = 1_700_000_000_000_000_000;

fn resource() -> Resource {
    Resource::builder().attr("service.name", "checkout").build()
}

/// Exports again and again on this thread and checks what that allocates, for each signal over each protocol.
fn account<R: rt::Runtime, E: FnMut(Request) -> u64>(
    runtime: R,
    name: &str,
    export_over: impl Fn(Exporter<R>) -> E,
) {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let signals: [(Signal, usize, Write); 3] = [
            (Signal::Traces, 450, spans()),
            (Signal::Logs, 150, logs()),
            (Signal::Metrics, 100, points()),
        ];
        for (signal, item_bytes_min, write) in signals {
            let collector = collector();
            let exporter = exporter(&collector, protocol, runtime.clone());
            let case = format!("{signal:?} over {protocol}, {name}");
            let export = export_over(exporter.clone());
            account_of(&case, &exporter, item_bytes_min, write, export);
            let counters = collector.counters().of(signal);
            assert_eq!(
                counters.items_accepted,
                (WARM_UP + EXPORTS) as u64 * ITEMS,
                "{case}"
            );
        }
    }
}

fn account_of<R: rt::Runtime>(
    case: &str,
    exporter: &Exporter<R>,
    item_bytes_min: usize,
    mut write: Write,
    mut export: impl FnMut(Request) -> u64,
) {
    for _ in 0..WARM_UP {
        assert_eq!(export(write()), ITEMS, "{case}");
    }
    let before = COUNTED.get();
    let mut bytes = 0;
    for _ in 0..EXPORTS {
        let request = write();
        bytes += request.encoded_len();
        assert_eq!(export(request), ITEMS, "{case}");
    }
    let after = COUNTED.get();
    let per_export = (after.allocations - before.allocations) as f64 / EXPORTS as f64;
    let per_item = per_export / ITEMS as f64;
    let item_bytes = bytes / EXPORTS / ITEMS as usize;
    println!(
        "{case}: {per_export:.2} allocations and {} bytes of them an export, {per_item:.4} allocations an item of \
         {item_bytes} bytes, over {EXPORTS} exports of {ITEMS} items",
        (after.bytes - before.bytes) / EXPORTS,
    );
    let stats = exporter.stats();
    let items = (WARM_UP + EXPORTS) as u64 * ITEMS;
    assert_eq!(
        (stats.accepted, stats.connections, stats.retries),
        (stats.delivered, 1, 0),
        "{case}"
    );
    // A flight's owner books for himself.
    assert!(stats.accepted == items || stats.accepted == 0, "{case}");
    assert!(
        item_bytes >= item_bytes_min,
        "{case}: items of {item_bytes} bytes are too small to tell anything"
    );
    assert!(per_export > 0.0, "{case}: nothing was counted");
    assert!(
        per_export <= PER_EXPORT_MAX,
        "{case}: {per_export} allocations an export"
    );
    assert!(per_item <= PER_ITEM_MAX, "{case}: {per_item} allocations an item");
}

fn collector() -> Collector {
    let builder = Collector::builder().keep_requests(false);
    builder.start().expect("a collector")
}

fn exporter<R: rt::Runtime>(collector: &Collector, protocol: Protocol, runtime: R) -> Exporter<R> {
    let config = Config::new()
        .with_protocol(protocol)
        .with_endpoint(collector.endpoint());
    config.build(runtime).expect("the configuration works")
}

/// One export after the other over one flight.
fn over_flight<R: rt::Runtime>(
    exporter: Exporter<R>,
    mut run: impl FnMut(Pin<&mut dyn Future<Output = u64>>) -> u64,
) -> impl FnMut(Request) -> u64 {
    let mut flight = Flight::new(&exporter);
    let runtime = flight.runtime().expect("the process did not change").clone();
    move |request| {
        flight.submit(request, Some(Managed::default()));
        let settled = poll_fn(|cx| {
            runtime.drive(cx, |cx| {
                let settled = flight.poll(cx);
                // As every owner does: until there is nothing more.
                assert!(settled.is_pending() || flight.poll(cx).is_pending());
                settled
            })
        });
        run(pin!(async {
            let (_, verdict) = settled.await;
            verdict.expect("the collector accepts everything").delivered()
        }))
    }
}

#[test]
fn a_thread_exports_with_few_allocations() {
    let runtime = || rt::Blocking::new().expect("a reactor");
    account(runtime(), "rt::Blocking", |exporter| {
        move |request| {
            let outcome = exporter.export(request).wait();
            outcome.expect("the collector accepts everything").delivered()
        }
    });
    account(runtime(), "a flight over rt::Blocking", |exporter| {
        over_flight(exporter, |export| futures_executor::block_on(export))
    });
}

#[test]
fn a_tokio_task_exports_with_few_allocations() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = &runtime.expect("a runtime");
    let tokio = rt::Tokio::with_handle(runtime.handle().clone()).expect("a runtime with timers");
    account(tokio.clone(), "rt::Tokio", |exporter| {
        move |request| {
            let outcome = runtime.block_on(exporter.export(request));
            outcome.expect("the collector accepts everything").delivered()
        }
    });
    account(tokio, "a flight over rt::Tokio", |exporter| {
        over_flight(exporter, |export| runtime.block_on(export))
    });
}

#[test]
fn a_smol_task_exports_with_few_allocations() {
    account(rt::Smol::new(), "rt::Smol", |exporter| {
        move |request| {
            let outcome = smol::block_on(exporter.export(request));
            outcome.expect("the collector accepts everything").delivered()
        }
    });
    account(rt::Smol::new(), "a flight over rt::Smol", |exporter| {
        over_flight(exporter, |export| smol::block_on(export))
    });
}
