//! Exports whose items another account books: what fails in a way that passes comes back, and no item is counted twice.

#[path = "support/world.rs"]
mod world;

use otlp_embed::export::{Fact, Managed};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::testing::Command;
use otlp_embed::{Code, DropReason, Error, ItemCounts, Stats};
use std::time::Duration;
use world::*;

const DEADLINE: Duration = Duration::from_secs(11);
const PLAIN: Managed = Managed {
    unanswered: false,
    is_single: false,
};

/// The items, and whether they may have arrived.
fn left(error: &Error) -> Option<(u64, bool)> {
    let remainder = error.remainder()?;
    Some((remainder.items(), remainder.unanswered))
}

/// Nothing of the items is in the engine's own account.
fn assert_books_nothing(stats: &Stats) {
    let items = (stats.accepted, stats.in_flight, stats.settled().total());
    assert_eq!(items, (0, 0, 0), "{stats:?}");
    assert_eq!((stats.exports_in_flight, stats.bytes_in_flight), (0, 0));
}

#[test]
fn a_success_is_told_and_not_booked() {
    let mut world = World::new(config());
    let id = world.submit_managed(request(5), PLAIN);
    assert_eq!(world.stats().in_flight, 0);
    assert_eq!(world.stats().exports_in_flight, 1);
    assert!(world.stats().bytes_in_flight > 0);
    world.say(0, Command::ok(0));
    assert_eq!(world.outcome(id).expect("accepted").delivered(), 5);
    assert_books_nothing(&world.stats());
}

#[test]
fn what_is_settled_for_good_does_not_come_back() {
    for command in [
        Command::status(0, Code::INVALID_ARGUMENT),
        Command::status(0, Code::RESOURCE_EXHAUSTED),
        Command::Refuse {
            call: 0,
            is_retryable: false,
        },
    ] {
        let mut world = World::new(config());
        let id = world.submit_managed(request(5), PLAIN);
        world.say(0, command);
        let error = world.error(id);
        assert_eq!(left(&error), None, "spec 14: {error}");
        assert_eq!(error.counts().total(), 5, "{error}");
        assert_books_nothing(&world.stats());
    }
    let mut world = World::with_settings(config(), |settings| settings.request_bytes_max = 100);
    let id = world.submit_managed(spans(1, 500), PLAIN);
    let error = world.error(id);
    assert_eq!(
        (left(&error), error.drop_reason()),
        (None, Some(DropReason::TooLarge))
    );
    assert_eq!(error.counts().dropped, 1);
}

#[test]
fn what_a_later_export_may_deliver_comes_back_whole() {
    // Nobody answers; nobody connects; every attempt is turned away.
    let mut world = World::new(config());
    let id = world.submit_managed(request(5), PLAIN);
    world.advance(DEADLINE);
    let error = world.error(id);
    assert_eq!(left(&error), Some((5, true)), "it was sent whole: {error}");
    assert_eq!(
        (error.counts(), error.drop_reason()),
        (ItemCounts::default(), None)
    );
    assert!(error.is_timeout() && error.is_retryable());
    assert_books_nothing(&world.stats());

    let mut world = World::new(config());
    world.dial = Dial::Refuse;
    let id = world.submit_managed(request(5), PLAIN);
    world.advance(DEADLINE);
    assert_eq!(left(&world.error(id)), Some((5, false)));
    assert_books_nothing(&world.stats());

    let mut world = World::new(config().with_retry_policy(RetryPolicy::never()));
    let id = world.submit_managed(request(5), PLAIN);
    world.say(0, Command::status(0, Code::UNAVAILABLE));
    assert_eq!(left(&world.error(id)), Some((5, false)), "spec 15");
    assert_books_nothing(&world.stats());
}

#[test]
fn what_is_ended_from_this_side_comes_back() {
    for end in [|id| Fact::Cancel(id), |_| Fact::Shutdown] as [fn(_) -> Fact<'static>; 2] {
        let mut world = World::new(config());
        let sent = world.submit_managed(request(5), PLAIN);
        world.fact(end(sent));
        assert_eq!(left(&world.error(sent)), Some((5, true)), "it was sent whole");
        assert_books_nothing(&world.stats());

        let mut world = World::new(config());
        world.dial = Dial::Manual;
        let waiting = world.submit_managed(request(5), PLAIN);
        world.fact(end(waiting));
        assert_eq!(left(&world.error(waiting)), Some((5, false)));
        assert_books_nothing(&world.stats());
    }
    let mut world = World::new(config());
    world.fact(Fact::Drain);
    let late = world.submit_managed(request(5), PLAIN);
    let error = world.error(late);
    assert_eq!(left(&error), Some((5, false)));
    assert!(error.is_shutdown());
}

#[test]
fn what_does_not_fit_into_memory_comes_back() {
    let len = request(1).encoded_len();
    let mut world = World::new(config().with_memory_limit(len + 1));
    let first = world.submit_managed(request(1), PLAIN);
    let second = world.submit_managed(request(1), PLAIN);
    assert_eq!(left(&world.error(second)), Some((1, false)));
    world.say(0, Command::ok(0));
    assert!(world.outcome(first).is_ok());
    assert_books_nothing(&world.stats());
}

#[test]
fn of_a_request_in_parts_only_what_is_left_comes_back() {
    let mut world = World::with_settings(config(), |settings| {
        settings.request_bytes_max = 2_000;
        settings.retry = RetryPolicy::never();
    });
    let whole = spans(10, 500);
    let id = world.submit_managed(whole.clone(), PLAIN);
    let sizes = world.sizes(0);
    assert!(sizes.len() >= 4, "{sizes:?}");
    world.say(0, Command::ok(0));
    world.say(0, Command::status(1, Code::UNAVAILABLE));
    world.say(0, Command::status(2, Code::INVALID_ARGUMENT));
    for call in 3..sizes.len() as u16 {
        world.say(0, Command::status(call, Code::UNAVAILABLE));
    }
    let error = world.error(id);
    let counts = error.counts();
    assert_eq!((counts.delivered, counts.rejected), (sizes[0].1, sizes[2].1));
    assert_eq!((counts.dropped, counts.unknown), (0, 0));
    let remainder = error.remainder().expect("most of it");
    assert_eq!(remainder.items(), 10 - sizes[0].1 - sizes[2].1);
    assert_eq!(remainder.requests.len(), 1, "it is one request again");
    // Exactly the spans of the parts that were turned away, and exported again they are taken.
    let again = world.submit_managed(remainder.requests[0].clone(), PLAIN);
    let later = world.sizes(0).len() as u16;
    for call in sizes.len() as u16..later {
        world.say(0, Command::ok(call));
    }
    assert_eq!(
        world.outcome(again).expect("accepted").delivered(),
        remainder.items()
    );
    assert_books_nothing(&world.stats());
}

#[test]
fn an_export_of_items_that_may_have_arrived_counts_them_as_possible_duplicates() {
    let mut world = World::new(config());
    let managed = Managed {
        unanswered: true,
        ..PLAIN
    };
    let id = world.submit_managed(request(5), managed);
    world.say(0, Command::ok(0));
    assert!(world.outcome(id).is_ok());
    assert_eq!(world.stats().possible_duplicates, 5, "spec 25");
    let id = world.submit_managed(request(3), managed);
    world.fact(Fact::Cancel(id));
    assert_eq!(left(&world.error(id)), Some((3, true)));
}

#[test]
fn a_single_attempt_ends_the_export_where_another_endpoint_takes_it() {
    let single = Managed {
        is_single: true,
        ..PLAIN
    };
    let mut world = World::new(config());
    let id = world.submit_managed(request(5), single);
    world.say(0, Command::status(0, Code::UNAVAILABLE));
    assert_eq!(left(&world.error(id)), Some((5, false)), "at once");

    let mut world = World::new(config());
    world.dial = Dial::Refuse;
    let first = world.submit_managed(request(5), single);
    assert_eq!(left(&world.error(first)), Some((5, false)), "at once");
    // The endpoint waits before it is dialed again; nothing waits for that.
    let second = world.submit_managed(request(5), single);
    assert_eq!(left(&world.error(second)), Some((5, false)), "at once");
    // An export that has nowhere else to go does.
    let patient = world.submit(request(1));
    world.dial = Dial::Accept;
    world.advance(Duration::from_secs(1));
    world.say(world.wires.len() - 1, Command::ok(0));
    assert!(world.outcome(patient).is_ok());
}

#[test]
fn a_partial_success_is_settled_for_good() {
    let mut world = World::new(config());
    let id = world.submit_managed(request(5), PLAIN);
    world.say(
        0,
        Command::Answer {
            call: 0,
            code: 0,
            rejected: 2,
            retry_after_ms: 0,
        },
    );
    let outcome = world.outcome(id).expect("spec 12: never retried");
    assert_eq!((outcome.delivered(), outcome.rejected()), (3, 2));
    assert_books_nothing(&world.stats());
}

#[test]
fn what_was_not_sent_whole_comes_back_as_certain() {
    // The socket takes nothing.
    let mut world = World::new(config());
    world.takes = false;
    let id = world.submit_managed(request(5), PLAIN);
    world.advance(DEADLINE);
    let error = world.error(id);
    assert!(error.is_timeout(), "{error}");
    assert_eq!(left(&error), Some((5, false)));
    assert_books_nothing(&world.stats());
    // The peer takes no request bytes.
    let mut world = World::new(config());
    let first = world.submit(request(1));
    world.say(0, Command::ok(0));
    assert!(world.outcome(first).is_ok());
    world.say(0, Command::Hold);
    let id = world.submit_managed(request(5), PLAIN);
    world.fact(Fact::Cancel(id));
    assert_eq!(left(&world.error(id)), Some((5, false)));
    // There was no time at all.
    let id = world.submit_managed(request(5).with_timeout(Duration::ZERO), PLAIN);
    assert_eq!(left(&world.error(id)), Some((5, false)));
}

#[test]
fn a_reset_after_it_was_sent_leaves_it_in_doubt() {
    let mut world = World::new(config().with_retry_policy(RetryPolicy::never()));
    let id = world.submit_managed(request(5), PLAIN);
    world.say(
        0,
        Command::Reset {
            call: 0,
            is_retryable: true,
        },
    );
    assert_eq!(left(&world.error(id)), Some((5, true)), "spec 22");
    // For good: nothing is left, and the items may have arrived.
    let id = world.submit_managed(request(5), PLAIN);
    world.say(
        0,
        Command::Reset {
            call: 1,
            is_retryable: false,
        },
    );
    let error = world.error(id);
    assert_eq!((left(&error), error.counts().unknown), (None, 5));
    // The connection went, its call with it.
    let id = world.submit_managed(request(5), PLAIN);
    world.say(0, Command::Die);
    assert_eq!(left(&world.error(id)), Some((5, true)));
    assert_books_nothing(&world.stats());
}

#[test]
fn a_hint_beyond_the_deadline_ends_the_export_and_not_the_items() {
    let mut world = World::new(config());
    let id = world.submit_managed(request(5), PLAIN);
    world.say(
        0,
        Command::Answer {
            call: 0,
            code: 14,
            rejected: 0,
            retry_after_ms: 60_000,
        },
    );
    let error = world.error(id);
    assert_eq!(left(&error), Some((5, false)), "spec 21");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)), "spec 18");
    assert!(error.is_retryable() && !error.is_timeout(), "{error}");
}

#[test]
fn what_can_never_be_sent_does_not_come_back() {
    let mut world = World::new(config());
    let unfit = request(5).with_header("scripted-unfit", "1").expect("a header");
    let id = world.submit_managed(unfit, PLAIN);
    let error = world.error(id);
    assert_eq!(left(&error), None, "{error}");
    assert_eq!(
        (error.counts().dropped, error.drop_reason()),
        (5, Some(DropReason::NotRetryable))
    );
    assert_books_nothing(&world.stats());
}

#[test]
fn what_says_nothing_about_the_request_comes_back_for_another_endpoint() {
    use otlp_embed::protocol::Failure;
    let single = Managed {
        is_single: true,
        ..PLAIN
    };
    let mut world = World::new(config().with_credentials(|| String::from("a token")));
    world.asks = false;
    let id = world.submit_managed(request(5), single);
    let (part, _) = world.asked.pop().expect("it is asked");
    world.fact(Fact::AuthorizeFailed(part, &Failure::fatal("never")));
    let error = world.error(id);
    assert!(error.is_credentials() && !error.is_retryable(), "{error}");
    assert_eq!((left(&error), error.counts().total()), (Some((5, false)), 0));
    assert_books_nothing(&world.stats());

    // The request itself would fail there as well.
    let mut world = World::new(config());
    let unfit = request(5).with_header("scripted-unfit", "1").expect("a header");
    let id = world.submit_managed(unfit, single);
    let error = world.error(id);
    assert_eq!((left(&error), error.counts().dropped), (None, 5), "{error}");
    assert_books_nothing(&world.stats());
}

#[test]
fn credentials_decide_by_their_failure() {
    use otlp_embed::protocol::Failure;
    let with_credentials = |failure: Option<Failure>| {
        let config = config()
            .with_credentials(|| String::from("a token"))
            .with_retry_policy(RetryPolicy::never());
        let mut world = World::new(config);
        world.asks = false;
        let id = world.submit_managed(request(5), PLAIN);
        let (part, authorization) = world.asked.pop().expect("it is asked");
        match failure {
            Some(failure) => world.fact(Fact::AuthorizeFailed(part, &failure)),
            None => {
                let headers = authorization.ask().expect("a token");
                world.fact(Fact::Authorized(part, &headers));
            }
        }
        (world, id)
    };
    let (mut world, id) = with_credentials(Some(Failure::retryable("not now")));
    let error = world.error(id);
    assert!(error.is_credentials() && error.is_retryable(), "{error}");
    assert_eq!(left(&error), Some((5, false)));
    assert_books_nothing(&world.stats());

    let (mut world, id) = with_credentials(Some(Failure::fatal("never")));
    let error = world.error(id);
    assert_eq!((left(&error), error.counts().dropped), (None, 5), "{error}");
    assert_books_nothing(&world.stats());

    // Refused, and there are no others.
    let (mut world, id) = with_credentials(None);
    world.say(0, Command::status(0, Code::UNAUTHENTICATED));
    let (part, authorization) = world.asked.pop().expect("it is asked again");
    let headers = authorization.ask().expect("the same token");
    world.fact(Fact::Authorized(part, &headers));
    let error = world.error(id);
    assert_eq!((left(&error), error.counts().rejected), (None, 5), "{error}");
    assert_books_nothing(&world.stats());

    // Nobody answers until the time is over.
    let mut world = World::new(config().with_credentials(|| String::from("a token")));
    world.asks = false;
    let id = world.submit_managed(request(5), PLAIN);
    world.advance(DEADLINE);
    assert_eq!(left(&world.error(id)), Some((5, false)));
}

#[test]
fn of_what_the_collector_found_too_large_only_the_rest_comes_back() {
    let mut world = World::new(config().with_retry_policy(RetryPolicy::never()));
    let whole = spans(10, 2_000);
    let id = world.submit_managed(whole.clone(), PLAIN);
    world.say(0, Command::TooLarge { call: 0, max: 9_000 });
    let parts = world.sizes(0);
    assert!(parts.len() > 2, "{parts:?}");
    assert_eq!(world.stats().splits, 1);
    let bytes: usize = parts[1..].iter().map(|(len, _)| len).sum();
    assert_eq!(
        world.stats().bytes_in_flight as usize,
        bytes,
        "of the parts alone"
    );
    world.say(0, Command::ok(1));
    for call in 2..parts.len() as u16 {
        world.say(0, Command::status(call, Code::UNAVAILABLE));
    }
    let error = world.error(id);
    assert_eq!(error.counts().delivered, parts[1].1);
    assert_eq!(left(&error), Some((10 - parts[1].1, false)));
    assert_books_nothing(&world.stats());
}

#[test]
fn the_failure_that_is_told_is_of_what_comes_back() {
    let mut world = World::with_settings(config(), |settings| {
        settings.request_bytes_max = 2_000;
        settings.retry = RetryPolicy::never();
    });
    let mut batch = otlp_embed::TraceBatch::new(&otlp_embed::Resource::builder().build());
    batch.scope("lib", "1.0");
    for len in [5_000, 100] {
        let payload = "x".repeat(len);
        batch
            .span([1; 16], [2; 8], "work")
            .attr("payload", &*payload)
            .end();
    }
    let id = world.submit_managed(batch.finish(), PLAIN);
    world.say(
        0,
        Command::Answer {
            call: 0,
            code: 8,
            rejected: 0,
            retry_after_ms: 700,
        },
    );
    let error = world.error(id);
    assert_eq!(left(&error), Some((1, false)), "spec 16: {error}");
    assert_eq!(error.retry_after(), Some(Duration::from_millis(700)), "spec 18");
    assert!(error.is_retryable() && !error.is_too_large(), "{error}");
    // And what was dropped is told as such.
    assert_eq!(
        (error.counts().dropped, error.drop_reason()),
        (1, Some(DropReason::TooLarge))
    );
    assert!(error.to_string().contains("2 of the 2 parts"), "{error}");
}

#[test]
fn parts_that_cannot_be_one_come_back_as_they_are() {
    use otlp_embed::encode::Signal;
    // A message of profiles has a dictionary, so that several are never made one.
    let mut world = World::new(config().with_retry_policy(RetryPolicy::never()));
    let id = world.submit_managed(request_of(Signal::Profiles, 3), PLAIN);
    world.say(0, Command::status(0, Code::UNAVAILABLE));
    let error = world.error(id);
    let remainder = error.remainder().expect("all of it");
    assert_eq!((remainder.requests.len(), remainder.items()), (1, 3));

    let profiles = profiles(40);
    let items = profiles.items();
    let mut world = World::with_settings(config(), |settings| {
        settings.request_bytes_max = profiles.encoded_len() / 3;
        settings.retry = RetryPolicy::never();
    });
    let id = world.submit_managed(profiles, PLAIN);
    let calls = world.frames(0).len() as u16;
    assert!(calls > 2, "{calls} parts");
    for call in 0..calls {
        world.say(0, Command::status(call, Code::UNAVAILABLE));
    }
    let error = world.error(id);
    let remainder = error.remainder().expect("all of it");
    assert_eq!(
        (remainder.requests.len(), remainder.items()),
        (usize::from(calls), items)
    );
    for request in &remainder.requests {
        let bytes = request.segments().collect::<Vec<_>>().concat();
        let read = otlp_embed::Request::from_encoded(Signal::Profiles, bytes).expect("a request of its own");
        assert_eq!(read.items(), request.items());
    }
}

/// A message of so many profiles with a dictionary, written by hand: the signal is in development.
fn profiles(count: u8) -> otlp_embed::Request {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut len = bytes.len();
        let mut field = vec![number << 3 | 2];
        while len > 0x7f {
            field.push(len as u8 & 0x7f | 0x80);
            len >>= 7;
        }
        field.push(len as u8);
        [field, bytes.to_vec()].concat()
    }
    let dictionary = field(5, b"a string of the dictionary");
    let profiles: Vec<u8> = (0..count).flat_map(|n| field(2, &field(7, &[n; 16]))).collect();
    let message = [field(1, &field(2, &profiles)), field(2, &dictionary)].concat();
    let signal = otlp_embed::encode::Signal::Profiles;
    let request = otlp_embed::Request::from_encoded(signal, message).expect("profiles");
    assert_eq!(request.items(), u64::from(count));
    request
}

#[test]
fn an_empty_request_succeeds_at_once() {
    let mut world = World::new(config());
    let id = world.submit_managed(request(0), PLAIN);
    assert_eq!(world.outcome(id).expect("spec 5").counts().total(), 0);
    assert_books_nothing(&world.stats());
}

#[test]
fn what_memory_never_holds_does_not_come_back() {
    let len = request(1).encoded_len();
    let mut world = World::new(config().with_memory_limit(len - 1));
    let id = world.submit_managed(request(1), PLAIN);
    let error = world.error(id);
    assert_eq!(left(&error), None, "{error}");
    assert_eq!(error.drop_reason(), Some(DropReason::MemoryLimit));
    assert_books_nothing(&world.stats());
}

#[test]
fn the_engine_books_its_own_exports_beside_those_of_others() {
    let mut world = World::new(config().with_retry_policy(RetryPolicy::never()));
    let own = world.submit(request(3));
    let managed = world.submit_managed(request(5), PLAIN);
    assert_eq!(world.stats().in_flight, 3);
    assert_eq!(world.stats().exports_in_flight, 2);
    world.say(0, Command::status(0, Code::UNAVAILABLE));
    world.say(0, Command::status(1, Code::UNAVAILABLE));
    let error = world.error(own);
    assert!(error.remainder().is_none());
    assert_eq!(
        (error.counts().dropped, error.drop_reason()),
        (3, Some(DropReason::Attempts))
    );
    assert_eq!(left(&world.error(managed)), Some((5, false)));
    let stats = world.stats();
    assert_eq!((stats.accepted, stats.dropped_for(DropReason::Attempts)), (3, 3));
    assert!(stats.is_conserved());
}
