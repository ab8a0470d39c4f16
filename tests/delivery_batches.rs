//! When batches close, what is joined into one export, and what never is.

#[path = "support/delivery.rs"]
mod support;

use otlp_embed::Signal;
use otlp_embed::pipeline::delivery::{Admission, DeliveryConfig, LegConfig};
use otlp_embed::policy::AdaptiveBatchConfig;
use otlp_embed::policy::ConcurrencyConfig;
use std::time::Duration;
use support::{World, blob, key, request, tenant};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn sized(size: usize) -> DeliveryConfig {
    let mut batch = AdaptiveBatchConfig::new();
    batch.items_initial = size;
    batch.items_min = 1;
    batch.adaptive_enabled = false;
    DeliveryConfig {
        batch,
        ..DeliveryConfig::default()
    }
}

#[test]
fn an_open_batch_closes_when_it_has_the_items_of_a_batch() {
    let mut world = World::new(sized(10));
    world.write(9);
    assert!(world.exports.is_empty());
    world.write(1);
    assert_eq!(world.asked(), [10], "at once: no time passed");
}

#[test]
fn an_open_batch_closes_by_its_age_and_not_before() {
    let mut world = World::new(sized(10));
    world.write(3);
    world.pass(MS(99));
    world.write(1);
    assert!(world.exports.is_empty());
    let stats = world.delivery.stats_at(world.now);
    assert_eq!(stats.total.oldest_queued_age, Some(MS(99)));
    world.pass(MS(1));
    assert_eq!(world.asked(), [4]);
}

#[test]
fn an_open_batch_closes_by_its_bytes() {
    let mut config = sized(1_000);
    config.legs[0].batch_bytes_max = [300; 4];
    let mut world = World::new(config);
    while world.exports.is_empty() {
        assert_eq!(world.write(1), Admission::Admitted);
    }
    let bytes = world.exports[0].request.encoded_len();
    assert!((300..500).contains(&bytes), "{bytes}");
}

#[test]
fn a_batch_that_is_out_when_its_time_is_over_closes_when_it_comes_back() {
    let mut world = World::new(sized(10));
    world.write(3);
    let ticket = world.delivery.begin(&key(Signal::Traces), 1, 0).expect("room");
    world.pass(MS(500));
    assert!(world.exports.is_empty());
    assert_eq!(
        world.delivery.poll_timeout(),
        None,
        "nothing to do until the producer is done"
    );
    world.delivery.put_back(ticket);
    assert!(world.delivery.take_wake());
    world.tick();
    assert_eq!(world.asked(), [3]);
}

#[test]
fn two_producers_at_a_time_write_into_two_batches() {
    let mut world = World::new(sized(10));
    let one = world.delivery.begin(&key(Signal::Traces), 1, 0).expect("room");
    assert!(one.batch.is_none());
    world.write(2);
    let mut two = world.delivery.begin(&key(Signal::Traces), 1, 0).expect("room");
    let batch = two.batch.as_mut().expect("the one that was written into");
    support::write_spans(batch, 1);
    // The first one wrote nothing.
    world.delivery.put_back(one);
    world.delivery.put_back(two);
    world.tick();
    world.pass(MS(100));
    assert_eq!(world.asked(), [3]);
}

#[test]
fn a_producer_that_loses_its_batch_is_accounted_for() {
    let mut world = World::new(sized(10));
    world.write(3);
    let mut ticket = world.delivery.begin(&key(Signal::Traces), 1, 0).expect("room");
    ticket.batch = None;
    world.delivery.put_back(ticket);
    world.tick();
    let account = world.account();
    assert_eq!(
        (account.accepted, account.dropped_total(), account.queued),
        (3, 3, 0)
    );
}

#[test]
fn small_requests_wait_for_company_and_go_together_up_to_a_batch() {
    let mut world = World::new(sized(10));
    for items in [3, 3, 3] {
        world.push(&request(items));
    }
    assert!(world.exports.is_empty());
    world.push(&request(4));
    assert_eq!(world.asked(), [9], "the fourth would pass the size of a batch");
    world.pass(MS(100));
    assert_eq!(world.asked(), [9, 4]);
    let joined = &world.exports[0].request;
    let bytes: Vec<u8> = joined.segments().flatten().collect();
    let decoded = otlp_embed::Request::from_encoded(Signal::Traces, bytes).expect("one message");
    assert_eq!(decoded.items(), 9);
}

#[test]
fn a_large_request_goes_alone_and_is_split_by_nobody() {
    let mut world = World::new(sized(10));
    world.push(&request(25));
    world.push(&request(2));
    assert_eq!(world.asked(), [25]);
    world.pass(MS(100));
    assert_eq!(world.asked(), [25, 2]);
}

#[test]
fn joined_requests_stay_within_the_bytes_of_a_batch() {
    let mut config = sized(100);
    config.legs[0].batch_bytes_max = [1_000; 4];
    let mut world = World::new(config);
    for _ in 0..5 {
        world.push(&blob(Signal::Logs, 1, 400));
    }
    world.push(&blob(Signal::Logs, 1, 5_000));
    world.pass(MS(100));
    let bytes: Vec<usize> = world
        .exports
        .iter()
        .map(|export| export.request.encoded_len())
        .collect();
    assert_eq!(bytes, [800, 800, 400, 5_000]);
}

#[test]
fn requests_whose_headers_times_or_signals_differ_are_never_merged() {
    let mut world = World::new(sized(10));
    let acme = || request(2).with_header("x-tenant", "acme").expect("a header");
    world.push(&request(2));
    world.push(&acme());
    world.push(&request(2).with_timeout(MS(500)));
    world.push(&blob(Signal::Logs, 2, 10));
    world.push(&acme());
    world.write_with(&tenant("zeta"), 2);
    world.pass(MS(100));
    assert_eq!(world.exports.len(), 4, "four may be in flight");
    world.deliver_all();
    let account = world.account();
    assert_eq!((account.batches, account.delivered), (5, 12));
}

#[test]
fn an_open_batch_of_a_tenant_keeps_its_headers_and_joins_its_requests() {
    let mut world = World::new(sized(10));
    world.write_with(&tenant("acme"), 2);
    world.push(&request(3).with_header("x-tenant", "acme").expect("a header"));
    world.pass(MS(100));
    assert_eq!(world.asked(), [5]);
    let headers = world.exports[0].request.headers().to_vec();
    assert_eq!(headers, [("x-tenant".to_owned(), "acme".to_owned())]);
}

#[test]
fn profiles_are_never_joined() {
    let mut world = World::new(sized(10));
    for _ in 0..3 {
        world.push(&blob(Signal::Profiles, 1, 10));
    }
    world.pass(MS(100));
    assert_eq!(world.asked(), [1, 1, 1]);
}

#[test]
fn what_is_written_first_is_exported_first() {
    let mut config = sized(4);
    config.legs = vec![LegConfig::default()];
    let mut world = World::new(config);
    world.write(1);
    world.push(&request(2));
    world.write(1);
    world.push(&request(2));
    world.pass(MS(100));
    assert_eq!(
        world.asked(),
        [4, 2],
        "the open batch goes before the request that follows it"
    );
}

#[test]
fn a_request_without_items_is_admitted_and_forgotten() {
    let mut world = World::new(sized(4));
    assert_eq!(world.push(&request(0)), Admission::Admitted);
    assert_eq!(world.delivery.poll_timeout(), None, "spec 5: no empty envelopes");
    assert_eq!(world.account().accepted, 0);
}

#[test]
fn the_size_follows_the_latency_of_exports_and_not_the_time_in_the_queue() {
    let mut config = DeliveryConfig::default();
    config.batch.items_initial = 100;
    config.batch.items_min = 1;
    let mut world = World::new(config);
    for _ in 0..10 {
        world.write(5);
        // A long time in the queue, a short export.
        world.pass(MS(100));
        world.pass(MS(10));
        world.deliver_all();
    }
    let fast = world.delivery.stats().legs[0].batcher;
    assert!(fast.size > 100, "{fast:?}");
    assert!(
        fast.average_latency > MS(9) && fast.average_latency < MS(11),
        "{fast:?}"
    );
    for _ in 0..20 {
        world.write(5);
        world.pass(MS(100));
        world.pass(MS(200));
        world.deliver_all();
    }
    let slow = world.delivery.stats().legs[0].batcher;
    assert!(slow.size < fast.size, "{slow:?}");
}

#[test]
fn a_collector_that_takes_long_for_any_batch_does_not_make_a_backlog_grow() {
    let mut config = DeliveryConfig::default();
    config.batch.items_initial = 100;
    config.concurrency = ConcurrencyConfig::fixed(4);
    let mut world = World::new(config);
    for _ in 0..20 {
        // More than is in flight and than the next batch takes.
        (0..20).for_each(|_| assert!(matches!(world.push(&request(100)), Admission::Admitted)));
        world.pass(MS(200));
        // Those that this lets begin take their time as well.
        (0..world.exports.len()).for_each(|_| drop(world.deliver()));
        let batcher = world.delivery.stats().legs[0].batcher;
        assert_eq!((batcher.size, batcher.adjustments), (100, 0), "{batcher:?}");
    }
    assert!(world.account().queued > 100);
}
