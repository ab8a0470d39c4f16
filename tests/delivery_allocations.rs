//! What is written into open batches allocates nothing for an item, and what waits holds little more than its bytes.

use otlp_embed::pipeline::PipelineConfig;
use otlp_embed::pipeline::delivery::{
    Delivery, DeliveryAction, DeliveryConfig, DeliveryFact, ExportVerdict, OpenBatch, OpenKey, Own,
};
use otlp_embed::testing::Network;
use otlp_embed::time::Instant;
use otlp_embed::{Config, Resource, Signal, TraceBatch};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    /// Bytes that the thread allocated and did not free.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

/// Counts the allocations of each thread by itself, so that the test harness does not disturb.
struct Counting;

#[allow(unsafe_code, reason = "a global allocator cannot be written without")]
// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        LIVE.set(LIVE.get() + layout.size() as isize);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - layout.size() as isize);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Writes a span at a time; what is full is exported and delivered at once.
fn write(delivery: &mut Delivery, resource: &Resource, spans: u64) {
    let key = OpenKey {
        signal: Signal::Traces,
        own: Own::default(),
    };
    let now = Instant::from_millis(1);
    for _ in 0..spans {
        let mut ticket = delivery.begin(&key, 1, 0).expect("room");
        let batch = ticket
            .batch
            .get_or_insert_with(|| OpenBatch::Traces(TraceBatch::new(resource)));
        let OpenBatch::Traces(batch) = batch else {
            panic!("a batch of spans");
        };
        batch.span([1; 16], [2; 8], "work").end();
        ticket.seal();
        delivery.put_back(ticket);
        if delivery.take_wake() {
            delivery.handle(now, DeliveryFact::Tick);
        }
        while let Some(action) = delivery.poll_action() {
            if let DeliveryAction::Export { batch, request, .. } = action {
                let verdict = ExportVerdict::delivered(request.items());
                delivery.handle(now, DeliveryFact::Ended(batch, verdict));
            }
        }
        drop(delivery.take_garbage());
    }
}

#[test]
fn an_item_allocates_nothing_and_a_batch_little() {
    let resource = Resource::builder().attr("service.name", "shop").build();
    let mut config = DeliveryConfig::default();
    config.batch.items_initial = 500;
    config.batch.adaptive_enabled = false;
    let mut delivery = Delivery::new(config, 1);
    write(&mut delivery, &resource, 5_000);
    let before = ALLOCATIONS.get();
    write(&mut delivery, &resource, 50_000);
    let count = ALLOCATIONS.get() - before;
    println!("{count} allocations for 100 batches of 500");
    assert_eq!(delivery.stats().total.delivered, 55_000);
    assert!(count <= 100 * 10, "{count} allocations for 100 batches of 500");
}

#[test]
fn small_requests_that_wait_hold_no_large_chunks() {
    let resource = Resource::builder().attr("service.name", "shop").build();
    let mut delivery = Delivery::new(DeliveryConfig::default(), 1);
    let before = LIVE.get();
    for _ in 0..10_000 {
        let mut batch = TraceBatch::new(&resource);
        batch.span([1; 16], [2; 8], "work").end();
        delivery.push(&batch.finish());
    }
    let held = (LIVE.get() - before) / 10_000;
    println!(
        "{held} bytes for a request of {}",
        delivery.stats().total.queued_bytes / 10_000
    );
    assert!(held < 1_024, "{held} bytes a request");
}

#[test]
fn many_tenants_with_an_item_each_take_bounded_memory() {
    let exporter = Config::new().build(Network::new(7)).expect("it can work");
    let resource = Resource::builder().attr("service.name", "shop").build();
    let config = PipelineConfig::new().with_resource(&resource);
    let (pipeline, _future) = exporter.pipeline(config).expect("it can work");
    // What a large batch needed is no measure for a tenant's.
    let large = "x".repeat(1_800);
    let write = |batch: &mut TraceBatch| {
        for _ in 0..500 {
            batch
                .span([1; 16], [2; 8], "work")
                .attr("text", large.as_str())
                .end();
        }
    };
    pipeline.spans(write).expect("room");
    let before = LIVE.get();
    for tenant in 0..3_000 {
        let tenant = pipeline.with_header("x-tenant", &tenant.to_string());
        let tenant = tenant.expect("a header");
        tenant
            .spans(|batch| batch.span([1; 16], [2; 8], "work").end())
            .expect("room");
    }
    let held = LIVE.get() - before;
    println!("{held} bytes for 3,000 tenants");
    assert_eq!(pipeline.stats().total.queued, 3_500);
    assert!(held < 12 << 20, "{held} bytes for 3,000 tenants");
}
