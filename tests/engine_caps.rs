//! Collectors that take less than the settings allow: the engine learns it, splits and sends again.

#[path = "support/world.rs"]
mod world;

use otlp_embed::encode::Signal;
use otlp_embed::export::{ExportState, Fact};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::testing::Command;
use otlp_embed::{Code, DropReason};
use std::collections::BTreeSet;
use world::*;

/// Answers every call as a collector that takes `max` bytes; it names that if `is_named`. Gives the count of refusals.
fn serve(world: &mut World, max: usize, is_named: bool, answered: &mut BTreeSet<u16>) -> usize {
    let mut refused = 0;
    loop {
        let sizes = world.sizes(0);
        let open: Vec<u16> = (0..sizes.len() as u16)
            .filter(|call| !answered.contains(call))
            .collect();
        let Some(&call) = open.first() else {
            return refused;
        };
        answered.insert(call);
        if sizes[usize::from(call)].0 > max {
            refused += 1;
            let max = if is_named { max as u32 } else { 0 };
            world.say(0, Command::TooLarge { call, max });
        } else {
            world.say(0, Command::ok(call));
        }
    }
}

#[test]
fn a_size_that_is_named_is_learned_at_once() {
    let mut world = World::new(config());
    let mut answered = BTreeSet::new();
    let id = world.submit(spans(20, 1_000));
    assert_eq!(serve(&mut world, 4_500, true, &mut answered), 1);
    let outcome = world.outcome(id).expect("delivered in parts");
    assert_eq!(outcome.delivered(), 20);
    assert_eq!(world.engine.request_bytes_max(Signal::Traces), 4_500);
    assert_eq!(
        world.engine.request_bytes_max(Signal::Logs),
        64 << 20,
        "a cap is a signal's own"
    );
    let stats = world.stats();
    assert_eq!(
        (stats.splits, stats.retries, stats.possible_duplicates),
        (1, 0, 0)
    );

    // The next one is sent in parts at once.
    let id = world.submit(spans(20, 1_000));
    assert_eq!(serve(&mut world, 4_500, true, &mut answered), 0);
    assert_eq!(world.outcome(id).expect("delivered").delivered(), 20);
    assert_eq!(world.stats().splits, 1);
}

#[test]
fn a_size_that_is_not_named_is_found_by_halving() {
    let mut world = World::new(config());
    let mut answered = BTreeSet::new();
    let id = world.submit(spans(32, 1_000));
    let refused = serve(&mut world, 4_500, false, &mut answered);
    assert!((3..=7).contains(&refused), "{refused} refusals");
    assert_eq!(world.outcome(id).expect("delivered").delivered(), 32);
    let learned = world.engine.request_bytes_max(Signal::Traces);
    assert!((2_000..=4_500).contains(&learned), "{learned}");
    let id = world.submit(spans(32, 1_000));
    assert_eq!(serve(&mut world, 4_500, false, &mut answered), 0);
    assert!(world.outcome(id).is_ok());
}

#[test]
fn a_single_record_that_is_refused_is_rejected() {
    for is_named in [true, false] {
        let mut world = World::new(config());
        let mut answered = BTreeSet::new();
        let mut batch = otlp_embed::TraceBatch::new(&otlp_embed::Resource::builder().build());
        batch.scope("lib", "1.0");
        for len in [1_000, 9_000, 1_000] {
            batch
                .span([1; 16], [2; 8], "work")
                .attr("payload", &*"x".repeat(len))
                .end();
        }
        let id = world.submit(batch.finish());
        serve(&mut world, 3_000, is_named, &mut answered);
        let error = world.error(id);
        assert_eq!(
            (error.counts().delivered, error.counts().rejected),
            (2, 1),
            "spec 2: {error}"
        );
        assert_eq!(error.grpc_status(), Some(Code::RESOURCE_EXHAUSTED));
        assert!(!error.is_retryable(), "spec 16");
        assert_eq!(world.stats().rejected, 1);
        assert_eq!(
            world.stats().dropped_for(DropReason::TooLarge),
            0,
            "the collector refused it"
        );
    }
}

#[test]
fn a_collector_that_refuses_everything_is_not_asked_for_ever() {
    let mut world = World::new(config());
    let mut answered = BTreeSet::new();
    let id = world.submit(spans(1_000, 100));
    let refused = serve(&mut world, 0, false, &mut answered);
    assert!(refused < 256, "{refused} requests");
    assert_eq!(world.error(id).counts().rejected, 1_000);
    assert!(
        world.engine.request_bytes_max(Signal::Traces) >= 1_024,
        "bounded below"
    );
    assert!(world.engine.is_idle());
}

#[test]
fn a_size_named_too_small_splits_to_records_once() {
    let mut world = World::new(config());
    let mut answered = BTreeSet::new();
    let id = world.submit(spans(50, 100));
    let sizes = |world: &World| world.sizes(0).len();
    world.say(0, Command::TooLarge { call: 0, max: 1 });
    answered.insert(0);
    assert_eq!(sizes(&world), 51);
    serve(&mut world, 100_000, true, &mut answered);
    assert_eq!(world.outcome(id).expect("delivered").delivered(), 50);
    assert_eq!(world.engine.request_bytes_max(Signal::Traces), 4_096);
}

#[test]
fn a_tiny_size_makes_no_message_of_every_record_at_once() {
    let mut world = World::new(config());
    let id = world.submit(spans(20_000, 10));
    world.say(0, Command::TooLarge { call: 0, max: 1 });
    let sizes = world.sizes(0);
    let (whole, parts) = sizes.split_first().expect("the whole was sent");
    assert!(parts.iter().all(|part| part.0 > whole.0 / 2_000), "{parts:?}");
    world.fact(Fact::Cancel(id));
    assert_eq!(world.error(id).counts().total(), 20_000);
}

#[test]
fn other_refusals_split_nothing() {
    for code in [Code::RESOURCE_EXHAUSTED, Code::INVALID_ARGUMENT, Code::INTERNAL] {
        let mut world = World::new(config());
        let id = world.submit(spans(20, 1_000));
        world.say(0, Command::status(0, code));
        assert_eq!(world.error(id).counts().rejected, 20, "spec 16: {code}");
        assert_eq!((world.stats().splits, world.sizes(0).len()), (0, 1));
    }
    let mut world = World::new(config());
    world.submit(spans(20, 1_000));
    world.say(0, Command::status(0, Code::UNAVAILABLE));
    world.advance_to_timer();
    assert_eq!(world.sizes(0).len(), 2, "spec 15");
}

#[test]
fn splitting_costs_no_attempt_and_no_time() {
    let mut world = World::new(config().with_retry_policy(RetryPolicy::never()));
    let before = world.now;
    let id = world.submit(spans(4, 1_000));
    world.say(0, Command::TooLarge { call: 0, max: 2_500 });
    assert_eq!(
        world.engine.deadline(id),
        Some(before + ms(10_000)),
        "within the same deadline"
    );
    assert_eq!(world.state(id), Some(ExportState::WaitingResponse));
    world.say(0, Command::ok(1));
    // A failure is still given up on at once.
    world.say(0, Command::status(2, Code::UNAVAILABLE));
    let error = world.error(id);
    assert_eq!(world.now, before);
    assert_eq!(error.drop_reason(), Some(DropReason::Attempts));
    assert_eq!((error.counts().delivered, error.counts().dropped), (2, 2));
}

#[test]
fn parts_know_what_was_sent_before_them() {
    let mut world = World::new(config());
    let id = world.submit(spans(4, 1_000));
    world.say(
        0,
        Command::Reset {
            call: 0,
            is_retryable: true,
        },
    );
    world.advance_to_timer();
    world.say(0, Command::TooLarge { call: 1, max: 2_500 });
    assert_eq!(
        world.stats().possible_duplicates,
        0,
        "a refused request is no duplicate"
    );
    world.say(0, Command::ok(2));
    assert_eq!(world.stats().possible_duplicates, 2, "spec 25");
    world.advance(ms(10_000));
    let error = world.error(id);
    assert_eq!((error.counts().delivered, error.counts().unknown), (2, 2));
}

#[test]
fn a_part_of_a_family_can_be_split_again() {
    let mut world = World::with_settings(config(), |settings| settings.request_bytes_max = 9_000);
    let mut answered = BTreeSet::new();
    let id = world.submit(spans(20, 1_000));
    assert_eq!(world.sizes(0).len(), 3);
    assert_eq!(
        serve(&mut world, 2_500, true, &mut answered),
        3,
        "all were under way"
    );
    assert_eq!(world.outcome(id).expect("delivered").delivered(), 20);
    assert!(world.engine.is_idle());
    assert_eq!(world.stats().exports_in_flight, 0);
}

#[test]
fn a_request_that_cannot_be_taken_apart_is_rejected() {
    let mut world = World::new(config());
    // Not what it says to be.
    let garbage = bytes::Bytes::from(vec![0xff; 5_000]);
    let id = world.submit(otlp_embed::Request::from_segments(
        Signal::Traces,
        7,
        vec![garbage],
    ));
    world.say(0, Command::TooLarge { call: 0, max: 1_000 });
    assert_eq!(world.error(id).counts().rejected, 7);
    assert_eq!(world.stats().splits, 0);
}
