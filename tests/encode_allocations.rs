//! Spans, log records and data points allocate nothing once the pool is warm, and a request little.

use otlp_embed::encode::{Buckets, ExponentialBuckets, array, kvlist};
use otlp_embed::pb::collector::{ExportLogsServiceRequest, ExportMetricsServiceRequest};
use otlp_embed::pb::logs::SeverityNumber;
use otlp_embed::pb::trace::status::StatusCode;
use otlp_embed::{LogBatch, MetricBatch, Request, Resource, Temporality, TraceBatch};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static LIVE_BYTES: Cell<isize> = const { Cell::new(0) };
}

/// Counts the allocations of each thread by itself, so that the test harness does not disturb.
struct Counting;

#[allow(unsafe_code, reason = "a global allocator cannot be written without")]
// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        LIVE_BYTES.set(LIVE_BYTES.get() + layout.size() as isize);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE_BYTES.set(LIVE_BYTES.get() - layout.size() as isize);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        LIVE_BYTES.set(LIVE_BYTES.get() + len as isize - layout.size() as isize);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`.
        unsafe { System.realloc(memory, layout, len) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATIONS.get();
    let result = work();
    (ALLOCATIONS.get() - before, result)
}

fn write(batch: &mut TraceBatch, spans: usize) {
    for number in 1..=spans as u64 {
        let scope = if number % 100 < 50 { "first" } else { "second" };
        if number % 50 == 1 {
            batch.scope_with(scope, "1.0", |scope| {
                _ = scope.attr("a", 1).schema_url("https://example.com")
            });
        }
        let mut span = batch.span([3; 16], number.to_be_bytes(), "a name of common length");
        span.parent([1; 8])
            .times(number..number + 1)
            .attr("text", "a value")
            .attr("count", number);
        span.attr("list", array(|list| _ = list.push("a").push(1.5)));
        span.attr(
            "map",
            kvlist(|map| _ = map.attr("inner", [1, 2, 3]).attr("other", "text ".len())),
        );
        span.attr("bytes", &b"0123456789"[..]);
        span.event("happened", number, |event| {
            _ = event.attr("where", "in a place with quite a long name")
        });
        span.link([4; 16], [5; 8], |link| _ = link.attr("why", "because"));
        span.status(StatusCode::Error, "it failed").end();
    }
}

fn resource() -> Resource {
    Resource::builder().attr("service.name", "test").build()
}

#[test]
fn spans_allocate_nothing_in_steady_state() {
    let mut batch = TraceBatch::new(&resource());
    for _ in 0..3 {
        write(&mut batch, 2_000);
        drop(batch.finish());
    }
    let (of_spans, ()) = allocations(|| write(&mut batch, 2_000));
    assert_eq!(of_spans, 0, "allocations of 2,000 spans");
    let (of_request, request) = allocations(|| batch.finish());
    assert!(of_request <= 8, "{of_request} allocations of a request");
    assert_eq!(request.items(), 2_000);
}

#[test]
fn batches_made_anew_share_the_pool_of_their_resource() {
    let resource = resource();
    let request = |spans| {
        let mut batch = TraceBatch::new(&resource);
        write(&mut batch, spans);
        batch.finish()
    };
    for _ in 0..3 {
        drop(request(512));
    }
    let (count, request) = allocations(|| request(512));
    assert!(count <= 8, "{count} allocations of a batch with 512 spans");
    assert_eq!(request.items(), 512);
}

#[test]
fn sharing_a_request_allocates_nothing() {
    let mut batch = TraceBatch::new(&resource());
    write(&mut batch, 10);
    let request = batch.finish();
    let (count, bytes) = allocations(|| {
        let clone = request.clone();
        clone.segments().map(|segment| segment.len()).sum::<usize>()
    });
    assert_eq!(count, 0);
    assert_eq!(bytes, request.encoded_len());
}

#[test]
fn referenced_values_cost_at_most_one_allocation() {
    let mut batch = TraceBatch::new(&resource());
    let text: Arc<str> = "x".repeat(100_000).into();
    let write = |batch: &mut TraceBatch, text| {
        batch
            .span([1; 16], [1; 8], "prompt")
            .attr_shared("gen_ai.prompt", text)
            .end();
    };
    for _ in 0..3 {
        write(&mut batch, text.clone());
        drop(batch.finish());
    }
    let (count, ()) = allocations(|| write(&mut batch, text.clone()));
    assert!(count <= 1, "{count} allocations");
    assert_eq!(batch.finish().items(), 1);
}

#[test]
fn owned_spans_cost_a_fixed_number_of_allocations() {
    let mut batch = TraceBatch::new(&resource());
    write(&mut batch, 64);
    let message = batch.finish().segments().collect::<Vec<_>>().concat();
    let decode = || {
        let request: otlp_embed::pb::collector::ExportTraceServiceRequest =
            prost::Message::decode(&*message).expect("it was encoded here");
        request
    };
    let owned = decode();
    let (count, request) = allocations(|| Request::from(owned));
    assert!(count <= 12, "{count} allocations of 64 owned spans");
    assert_eq!(request.items(), 64);
}

fn write_logs(batch: &mut LogBatch, records: usize) {
    for number in 1..=records as u64 {
        if number % 50 == 1 {
            batch.scope(if number % 100 < 50 { "first" } else { "second" }, "1.0");
        }
        let mut log = batch.log();
        log.time(number)
            .severity(SeverityNumber::Info, "INFO")
            .trace([1; 16], [2; 8]);
        if number % 2 == 0 {
            log.body("something of common length has happened");
        } else {
            log.body(kvlist(|map| {
                _ = map.attr("what", "happened").attr("where", ["here", "there"])
            }));
        }
        log.attr("text", "a value").attr("count", number);
        log.event_name("happened").end();
    }
}

fn write_metrics(batch: &mut MetricBatch, points: usize) {
    for number in 0..points as u64 / 100 {
        batch.scope(if number % 2 == 0 { "first" } else { "second" }, "1.0");
        let mut sum = batch
            .metric("requests")
            .description("requests served")
            .unit("1")
            .metadata("m", 1)
            .monotonic_sum(Temporality::Delta);
        for point in 0..25 {
            sum.point(1..2, point)
                .attr("route", "/cart")
                .exemplar(1, 2, |to| _ = to.trace([1; 16], [2; 8]).attr("user", "me"));
        }
        sum.end();
        let mut histogram = batch.metric("duration").histogram(Temporality::Delta);
        for point in 0..25 {
            let counts = [1, 2, 3, point];
            histogram
                .point(1..2, &[0.1, 1.0, 10.0], &counts)
                .sum(3.0)
                .attr("route", "/cart");
        }
        histogram.end();
        let mut exponential = batch
            .metric("size")
            .exponential_histogram(Temporality::Cumulative);
        for point in 0..25 {
            let counts = [1, 2, point];
            let positive = Buckets {
                offset: 3,
                counts: &counts,
            };
            let buckets = ExponentialBuckets {
                positive,
                ..ExponentialBuckets::default()
            };
            exponential.point(1..2, buckets).attr("route", "/cart");
        }
        exponential.end();
        let mut summary = batch.metric("old").summary();
        for point in 0..25 {
            summary
                .point(1..2, point, 1.0)
                .quantile(0.5, 1.0)
                .quantile(0.9, 2.0);
        }
    }
}

#[test]
fn log_records_allocate_nothing_in_steady_state() {
    let mut batch = LogBatch::new(&resource());
    for _ in 0..3 {
        write_logs(&mut batch, 2_000);
        drop(batch.finish());
    }
    let (of_records, ()) = allocations(|| write_logs(&mut batch, 2_000));
    assert_eq!(of_records, 0, "allocations of 2,000 log records");
    let (of_request, request) = allocations(|| batch.finish());
    assert!(of_request <= 8, "{of_request} allocations of a request");
    assert_eq!(request.items(), 2_000);
}

#[test]
fn data_points_allocate_nothing_in_steady_state() {
    let mut batch = MetricBatch::new(&resource());
    for _ in 0..3 {
        write_metrics(&mut batch, 2_000);
        drop(batch.finish());
    }
    let (of_points, ()) = allocations(|| write_metrics(&mut batch, 2_000));
    assert_eq!(of_points, 0, "allocations of 2,000 data points");
    let (of_request, request) = allocations(|| batch.finish());
    assert!(of_request <= 8, "{of_request} allocations of a request");
    assert_eq!((request.items(), request.refused()), (2_000, 0));
}

#[test]
fn owned_logs_and_metrics_cost_a_fixed_number_of_allocations() {
    let mut logs = LogBatch::new(&resource());
    write_logs(&mut logs, 64);
    let message = logs.finish().segments().collect::<Vec<_>>().concat();
    let owned: ExportLogsServiceRequest = prost::Message::decode(&*message).expect("it was encoded here");
    let (count, request) = allocations(|| Request::from(owned));
    assert!(count <= 12, "{count} allocations of 64 owned log records");
    assert_eq!(request.items(), 64);
    let mut metrics = MetricBatch::new(&resource());
    write_metrics(&mut metrics, 100);
    let message = metrics.finish().segments().collect::<Vec<_>>().concat();
    let owned: ExportMetricsServiceRequest = prost::Message::decode(&*message).expect("it was encoded here");
    let (count, request) = allocations(|| Request::from(owned));
    assert!(count <= 12, "{count} allocations of 100 owned data points");
    assert_eq!(request.items(), 100);
}

#[test]
fn requests_that_wait_hold_little_more_than_their_bytes() {
    let mut batch = TraceBatch::new(&resource());
    write(&mut batch, 1_000);
    drop(batch.finish());
    let before = LIVE_BYTES.get();
    let (mut requests, mut bytes) = (Vec::new(), 0);
    // Sizes go up and down, as those of batches do that are closed by time or adapt.
    for round in 0..240 {
        write(&mut batch, [10, 500, 40, 1_000, 3, 200][round % 6]);
        let request = batch.finish();
        bytes += request.encoded_len();
        requests.push(request);
    }
    let held = usize::try_from(LIVE_BYTES.get() - before).expect("they hold something");
    // A third on top of the bytes, what is around a request, and the idle chunks of a pool.
    let allowed = bytes + bytes / 3 + requests.len() * 2_048 + (4 << 20);
    assert!(held >= bytes, "{held} bytes of memory for {bytes}");
    assert!(
        held <= allowed,
        "{held} bytes of memory for {bytes}, and {allowed} are allowed"
    );
}
