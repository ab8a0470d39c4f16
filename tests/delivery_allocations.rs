//! What is written into open batches allocates nothing for an item.

use otlp_embed::pipeline::delivery::{
    Delivery, DeliveryAction, DeliveryConfig, DeliveryFact, ExportVerdict, OpenBatch, OpenKey, Own,
};
use otlp_embed::time::Instant;
use otlp_embed::{Resource, Signal, TraceBatch};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Counts the allocations of each thread by itself, so that the test harness does not disturb.
struct Counting;

#[allow(unsafe_code, reason = "a global allocator cannot be written without")]
// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
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
    config.batch.size_initial = 500;
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
