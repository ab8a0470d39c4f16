//! Batches that come back: where they go, when they are exported again, and when they are given up.

#[path = "support/delivery.rs"]
mod support;

use otlp_embed::pipeline::delivery::{
    DeliveryConfig, DeliveryEvent, DeliveryFact, ExportVerdict, LegConfig, VerdictClass,
};
use otlp_embed::policy::BreakerState;
use otlp_embed::policy::ConcurrencyConfig;
use otlp_embed::time::Instant;
use otlp_embed::{DropReason, ItemCounts};
use std::time::Duration;
use support::{World, request, tenant};

const MS: fn(u64) -> Duration = Duration::from_millis;
const SECS: fn(u64) -> Duration = Duration::from_secs;

fn sized(size: usize) -> DeliveryConfig {
    let mut config = DeliveryConfig::default();
    config.batch.items_initial = size;
    config.batch.items_min = 1;
    config.batch.adaptive_enabled = false;
    config
}

#[test]
fn a_batch_that_failed_goes_before_what_came_later_and_waits_for_its_backoff() {
    let mut config = sized(4);
    config.concurrency = ConcurrencyConfig::fixed(1);
    let mut world = World::new(config);
    world.push(&request(4));
    world.push(&request(5));
    let first = world.fail();
    assert!(world.exports.is_empty(), "the lane waits with it");
    let at = world.delivery.poll_timeout().expect("a backoff");
    let wait = at.since(world.now);
    assert!(wait >= MS(100) && wait <= MS(200), "spec 17: {wait:?}");
    world.pass(wait);
    assert_eq!(world.asked(), [4]);
    assert!(world.exports[0].batch != first.batch);
    world.deliver_all();
    let account = world.account();
    assert_eq!(
        (account.delivered, account.batches, account.returned),
        (9, 3, 1),
        "items count once"
    );
}

#[test]
fn backoffs_grow_and_a_success_ends_them() {
    let mut world = World::new(sized(4));
    world.push(&request(4));
    let mut waits = Vec::new();
    for _ in 0..7 {
        world.fail();
        let wait = world.delivery.poll_timeout().expect("a backoff").since(world.now);
        waits.push(wait);
        world.pass(wait);
    }
    assert!(waits[6] >= MS(2_500) && waits[6] <= SECS(5), "spec 17: {waits:?}");
    world.deliver();
    world.push(&request(4));
    world.fail();
    let wait = world.delivery.poll_timeout().expect("a backoff").since(world.now);
    assert!(wait <= MS(200), "{wait:?}");
}

#[test]
fn exports_that_fail_together_are_one_failure() {
    let mut world = World::new(sized(4));
    for _ in 0..4 {
        world.push(&request(4));
    }
    assert_eq!(world.exports.len(), 4);
    for _ in 0..4 {
        world.fail();
    }
    let wait = world.delivery.poll_timeout().expect("a backoff").since(world.now);
    assert!(wait <= MS(200), "{wait:?}");
}

#[test]
fn the_order_holds_whatever_order_failures_come_in() {
    let mut config = sized(2);
    config.concurrency = ConcurrencyConfig::fixed(3);
    let mut world = World::new(config);
    for items in [2, 3, 4] {
        world.push(&request(items));
    }
    // The last fails first.
    while let Some(export) = world.exports.pop_back() {
        let verdict = ExportVerdict::failed(export.request.clone(), false, "no route");
        world.fact(DeliveryFact::Ended(export.batch, verdict));
    }
    world.pass(MS(400));
    assert_eq!(world.asked(), [2, 3, 4]);
}

#[test]
fn a_hint_is_obeyed() {
    let mut world = World::new(sized(4));
    world.push(&request(4));
    world.end(|export| {
        ExportVerdict::failed(export.request.clone(), false, "slow down")
            .with_class(VerdictClass::Throttled)
            .with_retry_after(SECS(20))
    });
    world.pass(MS(19_999));
    assert!(world.exports.is_empty(), "spec 18");
    world.pass(SECS(3));
    assert_eq!(world.asked(), [4]);
}

#[test]
fn a_success_that_was_under_way_ends_no_wait_that_was_asked_for() {
    let mut world = World::new(sized(4));
    for _ in 0..3 {
        world.push(&request(4));
    }
    world.end(|export| {
        ExportVerdict::failed(export.request.clone(), false, "slow down")
            .with_class(VerdictClass::Throttled)
            .with_retry_after(SECS(20))
    });
    world.deliver_all();
    world.push(&request(4));
    world.pass(MS(19_999));
    assert!(world.exports.is_empty(), "spec 18");
    world.pass(SECS(3));
    assert_eq!(world.asked(), [4, 4]);
    // The one that was begun after the wait ends it.
    world.deliver_all();
    world.push(&request(4));
    assert_eq!(world.asked(), [4]);
}

#[test]
fn an_absurd_hint_keeps_nothing_away_for_ever() {
    let mut world = World::new(sized(4));
    world.push(&request(4));
    world.end(|export| {
        ExportVerdict::failed(export.request.clone(), false, "slow down")
            .with_class(VerdictClass::Throttled)
            .with_retry_after(Duration::MAX)
    });
    // There is always something in the lane, so that it is never forgotten.
    for _ in 0..4 {
        world.pass(SECS(100));
        world.push(&request(4));
    }
    assert!(!world.exports.is_empty(), "spec 18: {:?}", world.account());
}

#[test]
fn one_tenant_that_is_throttled_holds_up_no_other() {
    let mut world = World::new(sized(2));
    world.write_with(&tenant("acme"), 2);
    world.end(|export| {
        ExportVerdict::failed(export.request.clone(), false, "quota")
            .with_class(VerdictClass::Neutral)
            .with_retry_after(SECS(20))
    });
    world.write_with(&tenant("zeta"), 3);
    assert_eq!(world.asked(), [3]);
}

#[test]
fn only_the_remainder_comes_back() {
    let mut world = World::new(sized(4));
    world.push(&request(10));
    world.end(|_| {
        let counts = ItemCounts {
            delivered: 5,
            rejected: 1,
            dropped: 1,
            unknown: 0,
        };
        ExportVerdict::failed(request(3), false, "a part failed")
            .with_counts(counts, Some(DropReason::TooLarge))
    });
    let account = world.account();
    assert_eq!((account.delivered, account.rejected, account.queued), (5, 1, 3));
    assert_eq!(account.dropped_for(DropReason::TooLarge), 1);
    world.pass(SECS(1));
    assert_eq!(world.asked(), [3]);
    world.deliver();
    assert_eq!(world.account().delivered, 8);
}

#[test]
fn what_can_never_be_delivered_is_dropped_and_nothing_waits_for_it() {
    let mut world = World::new(sized(4));
    world.push(&request(4));
    world.end(|_| {
        let counts = ItemCounts {
            rejected: 4,
            ..ItemCounts::default()
        };
        ExportVerdict::settled(counts).with_class(VerdictClass::Refused)
    });
    world.push(&request(4));
    assert_eq!(world.asked(), [4], "spec 14");
    assert_eq!(world.account().rejected, 4);
}

#[test]
fn a_batch_in_the_queue_expires_to_the_nanosecond() {
    let mut config = sized(4);
    config.breaker = None;
    let mut world = World::new(config);
    world.push(&request(4));
    let admitted = world.now;
    loop {
        world.fail();
        let wait = world.delivery.poll_timeout().expect("a backoff").since(world.now);
        if world.now + wait == admitted + SECS(300) {
            break;
        }
        world.pass(wait);
        assert!(world.now < admitted + SECS(300));
    }
    world.pass((admitted + SECS(300)).since(world.now) - Duration::from_nanos(1));
    assert_eq!(world.account().queued, 4);
    world.pass(Duration::from_nanos(1));
    let account = world.account();
    assert_eq!((account.queued, account.dropped_for(DropReason::Expired)), (0, 4));
    assert!(world.events.iter().any(|event| matches!(
        event,
        DeliveryEvent::Lost {
            reason: DropReason::Expired,
            dropped: 4,
            unknown: 0,
            ..
        }
    )));
    assert_eq!(world.delivery.poll_timeout(), None);
}

#[test]
fn an_export_that_outlives_its_time_is_not_cancelled_and_not_repeated() {
    for (unanswered, dropped, unknown) in [(false, 4, 0), (true, 0, 4)] {
        let mut world = World::new(sized(4));
        world.push(&request(4));
        world.pass(SECS(400));
        assert!(world.cancelled.is_empty());
        assert_eq!(world.account().in_flight, 4);
        match unanswered {
            false => world.fail(),
            true => world.fail_unanswered(),
        };
        let account = world.account();
        assert_eq!(
            (account.dropped_for(DropReason::Expired), account.unknown),
            (dropped, unknown)
        );
    }
}

#[test]
fn an_export_that_outlives_its_time_and_succeeds_is_delivered() {
    let mut world = World::new(sized(4));
    world.push(&request(4));
    world.pass(SECS(400));
    world.deliver();
    assert_eq!(world.account().delivered, 4);
}

#[test]
fn what_was_sent_whole_and_not_answered_is_told_on_and_ends_as_unknown() {
    let mut world = World::new(sized(4));
    world.push(&request(4));
    world.fail_unanswered();
    world.pass(SECS(1));
    assert!(world.exports[0].unanswered);
    assert_eq!(world.account().possible_duplicates, 4, "spec 25");
    // The second attempt was not sent, and the doubt remains.
    world.fail();
    world.pass(SECS(1));
    assert!(world.exports[0].unanswered);
    world.fail();
    world.drain(Duration::ZERO);
    let account = world.account();
    assert_eq!((account.unknown, account.dropped_total()), (4, 0));
}

#[test]
fn a_breaker_parks_and_drops_nothing() {
    let mut world = World::new(sized(2));
    world.push(&request(2));
    let mut exports = 0;
    while world.delivery.stats().legs[0].endpoints[0].breaker != BreakerState::Open {
        if world.exports.is_empty() {
            let wait = world.delivery.poll_timeout().expect("a backoff").since(world.now);
            world.pass(wait);
        }
        world.fail();
        exports += 1;
        assert!(exports <= 10, "half of at least ten");
    }
    for _ in 0..20 {
        world.push(&request(2));
    }
    world.pass(SECS(29));
    assert!(world.exports.is_empty(), "no export starts");
    assert_eq!(world.account().queued, 42);
    world.pass(SECS(2));
    assert!(!world.exports.is_empty(), "it looks again");
    for _ in 0..200 {
        if world.exports.is_empty() {
            world.pass(MS(500));
        } else {
            world.deliver();
        }
    }
    let account = world.account();
    assert_eq!((account.delivered, account.dropped_total()), (42, 0));
    let states: Vec<BreakerState> = world
        .events
        .iter()
        .filter_map(|event| match event {
            DeliveryEvent::Breaker { state, .. } => Some(*state),
            _ => None,
        })
        .collect();
    assert_eq!(
        states,
        [BreakerState::Open, BreakerState::HalfOpen, BreakerState::Closed]
    );
}

#[test]
fn what_is_parked_expires() {
    let mut config = sized(2);
    config.max_elapsed = SECS(20);
    let mut world = World::new(config);
    for _ in 0..10 {
        world.push(&request(2));
    }
    while world.delivery.stats().legs[0].endpoints[0].breaker != BreakerState::Open {
        match world.exports.is_empty() {
            true => world.pass(MS(100)),
            false => drop(world.fail()),
        }
        assert!(world.now < Instant::from_millis(20_000));
    }
    world.push(&request(2));
    let pushed = world.now;
    world.pass(SECS(19));
    assert_eq!(world.account().queued, 2, "the others were older");
    world.pass((pushed + SECS(20)).since(world.now));
    let account = world.account();
    assert_eq!(
        (account.queued, account.dropped_for(DropReason::Expired)),
        (0, 22)
    );
}

#[test]
fn a_dead_endpoint_is_not_hammered() {
    let mut config = sized(1);
    config.breaker = None;
    let mut world = World::new(config);
    for _ in 0..500 {
        world.push(&request(1));
    }
    let start = world.now;
    while world.now < start + SECS(60) {
        while !world.exports.is_empty() {
            world.fail();
        }
        let wait = world.delivery.poll_timeout().expect("a backoff").since(world.now);
        world.pass(wait);
    }
    // Each failure waits; as many may be under way as concurrency lets.
    let batches = world.account().batches;
    assert!(batches < 200, "{batches} exports in a minute");
    assert_eq!(world.account().queued + world.account().in_flight, 500);
}

#[test]
fn several_endpoints_have_holds_of_their_own() {
    let mut config = sized(2);
    config.legs = vec![LegConfig {
        endpoints: 2,
        ..LegConfig::default()
    }];
    let mut world = World::new(config);
    world.push(&request(2));
    assert_eq!(world.exports[0].endpoint, 0);
    world.fail();
    assert_eq!(world.exports[0].endpoint, 1, "another one may take it at once");
    world.fail();
    assert!(world.exports.is_empty(), "both failed it");
    world.pass(MS(400));
    assert_eq!(world.exports[0].items(), 2);
}

#[test]
fn throttling_opens_no_breaker_and_halves_what_is_in_flight() {
    let mut world = World::new(sized(2));
    for _ in 0..40 {
        world.push(&request(2));
    }
    let before = world.delivery.stats().legs[0].endpoints[0].concurrency_limit;
    for _ in 0..30 {
        if world.exports.is_empty() {
            let wait = world.delivery.poll_timeout().expect("a hint").since(world.now);
            world.pass(wait);
        }
        world.end(|export| {
            ExportVerdict::failed(export.request.clone(), false, "slow down")
                .with_class(VerdictClass::Throttled)
                .with_retry_after(SECS(1))
        });
    }
    let endpoint = world.delivery.stats().legs[0].endpoints[0].clone();
    assert_eq!(endpoint.breaker, BreakerState::Closed);
    assert!(endpoint.concurrency_limit <= before / 2, "{before}: {endpoint:?}");
}

#[test]
fn endless_times_are_no_timers() {
    let mut config = sized(2);
    config.max_elapsed = Duration::MAX;
    config.batch.age_max = Duration::MAX;
    let mut world = World::new(config);
    world.push(&request(1));
    assert_eq!(world.delivery.poll_timeout(), None);
    world.flush(1, Duration::MAX);
    world.deliver();
    assert_eq!(world.flushed.len(), 1);
}
